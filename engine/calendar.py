"""Trading days and trading hours (R3), Asia/Shanghai, in integers.

Shanghai has had no daylight saving time since 1991, so local time is UTC + 8 h exactly. A date is an
``int`` YYYYMMDD at the edge and in state (readable in a hex dump, ordered, and free of time zones).
Holiday arithmetic is not ours: the days come from ``exchange_calendars`` (XSHG, equal to all 1,235
published trading days), plus dated overrides; the list is configuration, so that a running exchange does
not import pandas and an announced change is a change of a file.
"""

from __future__ import annotations

import bisect
import datetime as dt
from collections.abc import Iterable
from typing import Final

NS_PER_SECOND: Final = 1_000_000_000
NS_PER_DAY: Final = 86_400 * NS_PER_SECOND
SHANGHAI_OFFSET_NS: Final = 8 * 3600 * NS_PER_SECOND
EPOCH_ORDINAL: Final = dt.date(1970, 1, 1).toordinal()


def to_date(yyyymmdd: int) -> dt.date:
    """20251203 → date(2025, 12, 3); ValueError when it is no date."""
    return dt.date(yyyymmdd // 10_000, yyyymmdd // 100 % 100, yyyymmdd % 100)


def from_date(date: dt.date) -> int:
    """date(2025, 12, 3) → 20251203."""
    return date.year * 10_000 + date.month * 100 + date.day


def day_start_ns(yyyymmdd: int) -> int:
    """ns UTC of 00:00 Asia/Shanghai on that date."""
    return (to_date(yyyymmdd).toordinal() - EPOCH_ORDINAL) * NS_PER_DAY - SHANGHAI_OFFSET_NS


def trading_date(time_ns: int) -> int:
    """The Asia/Shanghai date of a time (D2), YYYYMMDD."""
    days = (time_ns + SHANGHAI_OFFSET_NS) // NS_PER_DAY
    return from_date(dt.date.fromordinal(days + EPOCH_ORDINAL))


def parse_clock(text: str) -> int:
    """``09:30`` or ``09:30:00`` → ns after local midnight. ValueError names the text."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(p.isascii() and p.isdigit() and len(p) == 2 for p in parts):
        raise ValueError(f"time of day {text!r}: expected HH:MM or HH:MM:SS")
    hour, minute, second = (*map(int, parts), 0)[:3]
    if hour > 24 or minute > 59 or second > 59 or (hour == 24 and (minute or second)):
        raise ValueError(f"time of day {text!r}: out of range")
    return (hour * 3600 + minute * 60 + second) * NS_PER_SECOND


def format_time(time_ns: int) -> str:
    """ns UTC → ``HH:MM:SS.mmm`` in Shanghai."""
    ms = (time_ns + SHANGHAI_OFFSET_NS) % NS_PER_DAY // 1_000_000
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"


class TradingCalendar:
    """Sorted trading days with a horizon. Asking beyond the horizon is an error, never a guess."""

    def __init__(self, days: Iterable[int]) -> None:
        self.days = sorted(set(days))
        for day in self.days:
            to_date(day)
        if not self.days:
            raise ValueError("calendar: no trading days")

    @classmethod
    def shanghai(
        cls, first: int, last: int, open_days: Iterable[int] = (), closed_days: Iterable[int] = ()
    ) -> TradingCalendar:
        """XSHG sessions between two dates (YYYYMMDD, inclusive), with dated overrides (R3.1).

        ValueError where the first one is outside what is known.
        """
        import exchange_calendars  # pandas: about a second, so only where a calendar is made

        xshg = exchange_calendars.get_calendar("XSHG", start="2021-01-04")
        first_known, last_known = from_date(xshg.first_session.date()), from_date(xshg.last_session.date())
        if not first_known <= first <= last_known:
            raise ValueError(f"trading days are known from {first_known} to {last_known}, not from {first} on")
        span = xshg.sessions_in_range(to_date(first).isoformat(), to_date(min(last, last_known)).isoformat())
        days = {from_date(s.date()) for s in span}
        return cls((days | set(open_days)) - set(closed_days))

    @property
    def horizon(self) -> int:
        """The last day that is known."""
        return self.days[-1]

    def is_trading_day(self, date: int) -> bool:
        """True on a trading day; ValueError beyond the horizon."""
        if date > self.horizon:
            raise ValueError(f"calendar ends on {self.horizon}: {date} is beyond it")
        index = bisect.bisect_left(self.days, date)
        return index < len(self.days) and self.days[index] == date

    def next_day(self, date: int, count: int = 1) -> int:
        """The ``count``-th trading day after ``date``; ValueError beyond the horizon."""
        index = bisect.bisect_right(self.days, date) + count - 1
        if index >= len(self.days):
            raise ValueError(f"calendar ends on {self.horizon}: no {count}. trading day after {date}")
        return self.days[index]

    def previous_day(self, date: int, count: int = 1) -> int:
        """The ``count``-th trading day before ``date``; ValueError before the first."""
        index = bisect.bisect_left(self.days, date) - count
        if index < 0:
            raise ValueError(f"calendar begins on {self.days[0]}: no {count}. trading day before {date}")
        return self.days[index]

    def working_days_between(self, first: int, last: int) -> int:
        """How many trading days lie after ``first`` up to and including ``last``."""
        return bisect.bisect_right(self.days, last) - bisect.bisect_right(self.days, first)
