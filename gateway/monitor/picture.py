"""What the page shows, without a page: one object that the feed keeps up and every browser reads."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import numpy as np

from engine.calendar import format_time
from engine.codes import TEXT_EN, TEXT_ZH
from engine.records import BUY, EVENT, FILL_TAKER, NOTICE, REJECTED
from gateway.surveillance import Alert

TAPE_ROWS: Final = 200
NOTES_ROWS: Final = 200
ALERTS_ROWS: Final = 1_000
CURVE_POINTS: Final = 2_000  # of an intraday chart: more than a screen has pixels; then every other is dropped
# The page looks twice a second, so that data of 2 s ago is marked: 1.4 s here and half a second there.
STALE_S: Final = 1.4


class Curve:
    """An instrument's prices of the day, thinned out so that it never grows beyond :data:`CURVE_POINTS`."""

    def __init__(self) -> None:
        self.points: list[tuple[int, int]] = []  # milliseconds UTC, fen
        self._every = self._skip = 1

    def add(self, time_ns: int, price: int) -> None:
        """One deal."""
        self._skip -= 1
        if self._skip > 0:
            return
        self._skip = self._every
        self.points.append((time_ns // 1_000_000, price))
        if len(self.points) > CURVE_POINTS:
            self.points = self.points[::2]
            self._every *= 2


class Picture:
    """The market as last seen. Written by one thread; readers take whole values, never half-changed ones."""

    def __init__(self) -> None:
        self.seen = 0.0  # monotonic time of the last answer of the exchange
        self.error = "not connected yet"
        self.status: dict[str, Any] = {}
        self.books: dict[str, dict[str, Any]] = {}
        self.sessions: list[dict[str, Any]] = []
        self.accounts: list[dict[str, Any]] = []
        self.desk: dict[str, Any] = {}
        self.auctions: dict[int, dict[str, Any]] = {}
        self.health: dict[str, float] = {}
        self.codes: dict[int, str] = {}
        self.tape: deque[dict[str, Any]] = deque(maxlen=TAPE_ROWS)
        self.notes: deque[dict[str, Any]] = deque(maxlen=NOTES_ROWS)
        self.curves: dict[str, Curve] = {}
        self.rejects: dict[int, int] = {}
        self.alerts: deque[Alert] = deque(maxlen=ALERTS_ROWS)
        self.acknowledged: dict[str, str] = {}
        self.settlement: dict[str, Any] = {}
        self.events = 0
        self.last_event_ns = 0

    def stale(self, now: float) -> bool:
        """True where what is shown may be old."""
        return now - self.seen > STALE_S

    def start_day(self) -> None:
        """A new day's tape, curves and counts."""
        self.tape.clear()
        self.curves = {}
        self.rejects = {}

    def take(self, events: np.ndarray, notices: dict[int, dict[str, Any]]) -> None:
        """Events of the stream, EVENT[n]; notices: decoded, by place."""
        assert events.dtype == EVENT
        self.events += len(events)
        if len(events):
            self.last_event_ns = int(events[-1]["time_ns"])
        kinds = events["kind"]
        for at in np.flatnonzero((kinds == FILL_TAKER) | (kinds == NOTICE) | (kinds == REJECTED)).tolist():
            event = events[at]
            if kinds[at] == FILL_TAKER:
                self._deal(event)
            elif kinds[at] == REJECTED:
                code = int(event["reason"])
                self.rejects[code] = self.rejects.get(code, 0) + 1
            else:
                self._notice(event, notices.get(at) or {})

    def _deal(self, event: np.void) -> None:
        code = self.codes.get(int(event["instrument"]), "")
        time_ns, price = int(event["time_ns"]), int(event["price"])
        self.curves.setdefault(code, Curve()).add(time_ns, price)
        self.tape.appendleft(
            {
                "no": int(event["ref"]),
                "time": format_time(time_ns)[:12],
                "code": code,
                "price": price,
                "quantity": int(event["quantity"]),
                "side": "buy" if event["side"] == BUY else "sell",
            }
        )

    def _notice(self, event: np.void, notice: dict[str, Any]) -> None:
        what = notice.get("t", "")
        when = format_time(int(event["time_ns"]))[:8]
        if what == "market_notice":
            if notice.get("what") == "day":
                self.start_day()
            words = (notice.get("what", ""), notice.get("instrument", ""), notice.get("text", ""))
            if notice.get("what") != "phase":
                self.notes.appendleft({"time": when, "text": " ".join(w for w in words if w)})
        elif what == "deal_cancelled":
            kept = [deal for deal in self.tape if deal["no"] != notice.get("number")]
            self.tape = deque(kept, maxlen=TAPE_ROWS)
            self.notes.appendleft(
                {"time": when, "text": f"deal {notice.get('number')} cancelled: {notice.get('why', '')}"}
            )
        elif what in ("day_closed", "bulk_desk"):
            self.notes.appendleft({"time": when, "text": what.replace("_", " ")})
        elif what.startswith("auction") and "auction" in notice:
            self.auctions[int(notice["auction"])] = {"time": when, **notice}

    def reject_rows(self, language: str) -> list[dict[str, Any]]:
        """Refusals of the day by code, most frequent first."""
        texts = TEXT_ZH if language == "zh" else TEXT_EN
        order = sorted(self.rejects.items(), key=lambda row: (-row[1], row[0]))
        return [{"code": code, "text": texts.get(code, ""), "count": count} for code, count in order]
