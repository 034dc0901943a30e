"""When transfers between registry and trading account are possible (R13.2, R3.3: hours are configuration)."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# Asia/Shanghai has been UTC+8 without summer time since 1991.
_SHANGHAI_NS: Final = 8 * 3600 * 10**9
_DAY_NS: Final = 24 * 3600 * 10**9
_MINUTE_NS: Final = 60 * 10**9
_EPOCH_ORDINAL: Final = datetime.date(1970, 1, 1).toordinal()
_EPOCH_WEEKDAY: Final = 3  # 1970-01-01 was a Thursday


def minute_of_day(time_ns: int) -> int:
    """Minutes since midnight in Asia/Shanghai."""
    return (time_ns + _SHANGHAI_NS) % _DAY_NS // _MINUTE_NS


def date_at(time_ns: int) -> int:
    """The date in Asia/Shanghai as YYYYMMDD."""
    days = (time_ns + _SHANGHAI_NS) // _DAY_NS
    date = datetime.date.fromordinal(_EPOCH_ORDINAL + days)
    return date.year * 10_000 + date.month * 100 + date.day


def day_bounds_ns(date: int) -> tuple[int, int]:
    """Midnight to midnight of a date (YYYYMMDD) in Asia/Shanghai, ns UTC."""
    day = datetime.date(date // 10_000, date // 100 % 100, date % 100)
    start = (day.toordinal() - _EPOCH_ORDINAL) * _DAY_NS - _SHANGHAI_NS
    return start, start + _DAY_NS


def is_date(date: int) -> bool:
    """Whether YYYYMMDD is a day of the calendar, in the years that ns of int64 can tell."""
    if not 1970_01_01 < date < 2200_01_01:
        return False
    try:
        datetime.date(date // 10_000, date // 100 % 100, date % 100)
    except ValueError:
        return False
    return True


def local_text(time_ns: int) -> str:
    """Asia/Shanghai date and time to the second, for people: ``2025-12-03 15:30:00``."""
    seconds = (time_ns + _SHANGHAI_NS) // 10**9
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    return moment.isoformat(sep=" ")


def is_weekday(time_ns: int) -> bool:
    """Monday to Friday in Asia/Shanghai; statutory holidays are the calendar's business."""
    return ((time_ns + _SHANGHAI_NS) // _DAY_NS + _EPOCH_WEEKDAY) % 7 < 5


@dataclass(frozen=True, slots=True)
class TransferHours:
    """From minute ``start`` (included) to minute ``end`` (excluded) of a trading day."""

    start: int = 9 * 60
    end: int = 15 * 60 + 30
    is_trading_day: Callable[[int], bool] = is_weekday

    def open_at(self, time_ns: int) -> bool:
        return self.is_trading_day(time_ns) and self.start <= minute_of_day(time_ns) < self.end

    def text(self) -> str:
        hours = [f"{minute // 60:02d}:{minute % 60:02d}" for minute in (self.start, self.end)]
        return f"on trading days from {hours[0]} to {hours[1]} (Asia/Shanghai)"
