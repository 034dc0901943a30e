"""What the page shows, without a page: one object that the feed keeps up and every browser reads."""

from __future__ import annotations

from collections import deque
from typing import Any, Final, NamedTuple

import numpy as np

from engine.calendar import format_time
from engine.codes import TEXT_EN, TEXT_ZH
from engine.market import UNLIMITED
from engine.prices import composite_price
from engine.records import BUY, EVENT, FILL_TAKER, NOTICE, REJECTED
from gateway.surveillance import Alert
from settlement.progress import Progress

TAPE_ROWS: Final = 200
NOTES_ROWS: Final = 200
ALERTS_ROWS: Final = 1_000
CURVE_POINTS: Final = 2_000  # of an intraday chart: more than a screen has pixels; then every other is dropped
COMPOSITE: Final = "COMCEA"
# The page looks four times a second, so that data of 2 s ago is marked: 1.4 s here and what a look takes.
STALE_S: Final = 1.4
LOOKED_S: Final = 3.0  # so long after a browser's last look somebody is still there
NEAR_PERCENT: Final = 90  # of a limit: from here on a holding is shown as near it


class Curve:
    """An instrument's prices of the day, thinned out so that it never grows beyond :data:`CURVE_POINTS`."""

    def __init__(self) -> None:
        self.points: list[tuple[int, int]] = []  # milliseconds UTC, fen
        self.last: tuple[int, int] | None = None  # thinned out or not
        self._every = self._skip = 1

    def add(self, time_ns: int, price: int) -> None:
        """One deal."""
        self.last = (time_ns // 1_000_000, price)
        self._skip -= 1
        if self._skip > 0:
            return
        self._skip = self._every
        self.points.append(self.last)
        if len(self.points) > CURVE_POINTS:
            self.points = self.points[::2]
            self._every *= 2

    def shown(self) -> list[tuple[int, int]]:
        """The points, and the last deal in any case."""
        points = list(self.points)
        return points if self.last is None or points[-1] == self.last else [*points, self.last]


class Member(NamedTuple):
    """An account as the page shows it. ``near``: its fullest limit in percent, -1 without one; ``limits``: all of them
    as (vintage, position_max or sell_max, used t, limit t)."""

    account: int
    name: str
    status: int
    available: int
    locked: int
    open_orders: int
    holdings: tuple[tuple[str, int], ...]
    near: int
    limits: tuple[tuple[str, str, int, int], ...]


def members_of(page: dict[str, Any]) -> list[Member]:
    """Accounts of one answer of the exchange (OperatorClient.members)."""
    rows, holdings, codes = page["accounts"], page["holdings"], page["codes"]
    held = holdings["sellable"] + holdings["bought_today"] + holdings["locked"] + holdings["in_transfer"]
    bounded = ((holdings["position_max"] < UNLIMITED) | (holdings["sell_max"] < UNLIMITED)).any(axis=1)
    found = []
    for at, account in enumerate(page["numbers"]):
        limits: list[tuple[str, str, int, int]] = []
        for place in range(len(codes)) if bounded[at] else ():
            h = holdings[at, place]
            if h["position_max"] < UNLIMITED:  # R14.1: open buys count
                used = int(held[at, place] + h["buy_open"])
                limits.append((codes[place], "position_max", used, int(h["position_max"])))
            if h["sell_max"] < UNLIMITED:  # R14.4
                limits.append((codes[place], "sell_max", int(h["sold_today"] + h["locked"]), int(h["sell_max"])))
        near = max((100 * used // limit if limit else 100 for _, _, used, limit in limits), default=-1)
        tonnes = tuple((codes[place], int(held[at, place])) for place in np.flatnonzero(held[at]).tolist())
        row = rows[at]
        found.append(
            Member(
                account, page["names"][at], int(row["status"]), int(row["available"]), int(row["locked"]),
                int(row["open_orders"]), tonnes, near, tuple(limits),
            )
        )  # fmt: skip
    return found


class Picture:
    """The market as last seen. Written by one thread; readers take whole values, never half-changed ones."""

    def __init__(self) -> None:
        self.seen = 0.0  # monotonic time of the last answer of the exchange
        self.looked = 0.0  # monotonic time at which a browser last looked
        self.wanted: dict[str, float] = {}  # vintage whose book a browser shows → when it last looked
        self.error = "not connected yet"
        self.status: dict[str, Any] = {}
        self.books: dict[str, dict[str, Any]] = {}
        self.sessions: list[dict[str, Any]] = []
        self.members: dict[int, Member] = {}
        self.desk: dict[str, Any] = {}
        self.auctions: dict[int, dict[str, Any]] = {}
        self.bids: dict[int, dict[int, int]] = {}  # auction → bid → t: how many, not at what price (they are sealed)
        self.health: dict[str, float] = {}
        self.codes: dict[int, str] = {}
        self.tape: deque[dict[str, Any]] = deque(maxlen=TAPE_ROWS)
        self.notes: deque[dict[str, Any]] = deque(maxlen=NOTES_ROWS)
        self.curves: dict[str, Curve] = {}
        self.rejects: dict[int, int] = {}
        self.rejects_of: dict[int, int] = {}  # by account
        self.alerts: deque[Alert] = deque(maxlen=ALERTS_ROWS)
        self.acknowledged: dict[str, str] = {}
        self.settlement: Progress | None = None
        self.day_result: dict[str, Any] = {}
        self.events = self.dealt = 0
        self.commands_s = 0.0  # commands a second, of late
        self._counted = (0, 0.0)  # sequence, monotonic time
        self.last_event_ns = 0
        self._sample: dict[str, tuple[int, int]] = {}  # vintage → weight, price now (R7.1)
        self._cancelled: set[int] = set()

    def stale(self, now: float) -> bool:
        """True where what is shown may be old."""
        return now - self.seen > STALE_S

    def watched(self, now: float) -> bool:
        """True while some browser looks."""
        return now - self.looked < LOOKED_S

    def books_wanted(self, now: float) -> list[str]:
        """Vintages whose books browsers show."""
        return [code for code, at in list(self.wanted.items()) if now - at < LOOKED_S]

    def start_day(self) -> None:
        """A new day's tape, curves and counts."""
        self.tape.clear()
        self.curves, self.rejects, self.rejects_of, self._sample = {}, {}, {}, {}
        self._cancelled = set()

    def take_status(self, status: dict[str, Any]) -> None:
        """The exchange at a glance. The sample of the composite begins at the vintages' references (R7.3)."""
        self.status = status
        for code, row in status["instruments"].items():
            if row["weight"] and code not in self._sample:
                self._sample[code] = (row["weight"], row["reference"])

    def count(self, seq: int, now: float) -> None:
        """How far the exchange has come, now and then: the rate of its commands."""
        before, then = self._counted
        self.commands_s = max(0, seq - before) / (now - then) if then else 0.0
        self._counted = seq, now

    def take(self, events: np.ndarray, notices: dict[int, dict[str, Any]]) -> None:
        """Events of the stream, EVENT[n]; notices: decoded, by place."""
        assert events.dtype == EVENT
        self.events += len(events)
        if len(events):
            self.last_event_ns = int(events[-1]["time_ns"])
        octets = events["kind"].tobytes()  # side by side: most pages of a busy market have none of these
        kinds = np.frombuffer(octets, np.uint8)
        if REJECTED in octets:
            rejected = events[kinds == REJECTED]
            _count(self.rejects, rejected["reason"])
            _count(self.rejects_of, rejected["account"])
        if FILL_TAKER not in octets and NOTICE not in octets:
            return
        for at in np.flatnonzero((kinds == FILL_TAKER) | (kinds == NOTICE)).tolist():
            if kinds[at] == FILL_TAKER:
                self._deal(events[at])
            else:
                self._notice(events[at], notices.get(at) or {})

    def _deal(self, event: np.void) -> None:
        code = self.codes.get(int(event["instrument"]), "")
        time_ns, price = int(event["time_ns"]), int(event["price"])
        self.curves.setdefault(code, Curve()).add(time_ns, price)
        if code in self._sample:
            self._sample[code] = (self._sample[code][0], price)
            weights, prices = zip(*self._sample.values(), strict=True)
            self.curves.setdefault(COMPOSITE, Curve()).add(time_ns, composite_price(list(prices), list(weights)))
        self.dealt += 1
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
            if notice.get("what") not in ("phase", "account_status"):
                self._note(when, notice.get("what", ""), notice.get("instrument", ""), notice.get("text", ""))
        elif what == "deal_cancelled" and notice.get("number") not in self._cancelled:  # the parties get copies
            self._cancelled.add(int(notice.get("number", 0)))
            kept = [deal for deal in self.tape if deal["no"] != notice.get("number")]
            self.tape = deque(kept, maxlen=TAPE_ROWS)
            self._note(when, "deal_cancelled", str(notice.get("number")), notice.get("why", ""))
        elif what == "day_closed":
            self.day_result = notice
            self._note(when, "day_closed")
        elif what == "bulk_desk":
            self._note(when, "desk_frozen" if notice.get("frozen") else "desk_open", str(notice.get("why", "")))
        elif what.startswith("auction") and "auction" in notice:
            self.take_auction(notice)

    def _note(self, when: str, what: str, *words: str) -> None:
        """A line of the day; ``what``: the key of a word, after ``note_``."""
        self.notes.appendleft({"time": when, "what": what, "text": " ".join(word for word in words if word)})

    def take_auction(self, notice: dict[str, Any]) -> None:
        """What one more notice says of an auction. Bids are counted by number: a notice has copies."""
        number = int(notice["auction"])
        if "bid" in notice:
            bids = self.bids.setdefault(number, {})
            if notice.get("state") in ("placed", "raised", "open"):
                bids[int(notice["bid"])] = int(notice["quantity"])
            elif "state" in notice:
                bids.pop(int(notice["bid"]), None)
            return
        self.auctions[number] = {**self.auctions.get(number, {}), **notice}

    def reject_rows(self, language: str) -> list[dict[str, Any]]:
        """Refusals of the day by code, most frequent first."""
        texts = TEXT_ZH if language == "zh" else TEXT_EN
        order = sorted(self.rejects.items(), key=lambda row: (-row[1], row[0]))
        return [{"number": code, "text": texts.get(code, ""), "count": count} for code, count in order]


def _count(counts: dict[int, int], values: np.ndarray) -> None:
    for value, count in zip(*np.unique(values, return_counts=True), strict=True):
        counts[int(value)] = counts.get(int(value), 0) + int(count)
