"""Surveillance of one market: events in, alerts out; the tables are in the kernel, the judgements in the detectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from engine.calendar import day_start_ns, trading_date
from engine.records import ACCEPTED, EVENT
from engine.rules import Rules
from gateway.surveillance import agreed_detectors, detectors
from gateway.surveillance import kernel as k
from gateway.surveillance.agreed import AgreedDeals
from gateway.surveillance.alerts import Alert
from gateway.surveillance.thresholds import Thresholds

NS_PER_MINUTE: Final = 60 * 1_000_000_000
NS_PER_MS: Final = 1_000_000
# Evidence that is kept: a national year has some 77,000 deals, a busy simulated minute as many.
DEALS_KEPT: Final = 1 << 17
QUICKS_KEPT: Final = 1 << 16
PAIRS_FIRST: Final = 1 << 12
AGREED: Final = frozenset({
    "bulk_deal", "bulk_declaration", "auction_announced", "auction_bid_state", "auction_bid_result", "auction_sold",
})  # fmt: skip


class Positions(NamedTuple):
    """What the registry knows at a day's start, t by account: all that is held; what must still be surrendered; what
    is held of the vintages (codes) that may be surrendered for it (R13.4)."""

    holdings: Mapping[int, int]
    needs: Mapping[int, int]
    usable: Mapping[int, int]
    vintages: frozenset[str]


class Surveillance:
    """Watches a day after the other. ``codes``: instrument numbers' codes; ``groups``: linked accounts, by account.

    ``positions``: asked at each day's start for its date: what the registry knows of holdings and of allowances that
    must still be surrendered (R14.4). Without it both are as the caller sets ``holdings``, ``needs`` and ``usable``;
    an account of which nothing is known is not judged.
    """

    def __init__(
        self,
        thresholds: Thresholds | None = None,
        *,
        rules: Rules | None = None,
        codes: Mapping[int, str] | None = None,
        groups: Mapping[int, int] | None = None,
        positions: Callable[[int], Positions] | None = None,
        accounts: int = 256,
        instruments: int = 8,
        raised: Callable[[Alert], None] | None = None,
    ) -> None:
        self.thresholds = thresholds or Thresholds()
        self.rules = rules or Rules.national()
        self.codes: dict[int, str] = dict(codes or {})
        self.groups = dict(groups or {})
        self.positions = positions
        self.holdings: dict[int, int] = {}
        self.needs: dict[int, int] = {}
        self.usable: dict[int, int] = {}
        self.usable_codes: frozenset[str] | None = None
        self.agreed = AgreedDeals()
        self.edges: dict[tuple[int, int, int], int] = {}
        self.edges_version = 0
        self.taken_back: set[int] = set()  # numbers of today's deals that were cancelled (D28)
        self.raised = raised or (lambda alert: None)
        self.alerts: list[Alert] = []
        self.date = 0
        self.close_ns = 0
        self.prices: dict[int, tuple[int, int, int]] = {}
        self.last_seq = self.last_time_ns = 0
        self.orders = np.zeros(1 << 10, k.SEEN)
        self.flow = np.zeros((k.BUCKETS, accounts, instruments, 2), k.FLOW)
        self.day = np.zeros((accounts, instruments), k.DAY)
        self.pairs = np.zeros(PAIRS_FIRST, k.PAIR)
        self.vintages = np.zeros(instruments, k.VINTAGE)
        self.deals = np.zeros(DEALS_KEPT, k.DEALT)
        self.quicks = np.zeros(QUICKS_KEPT, k.QUICK)
        self.state = np.zeros(1, k.STATE)
        self._told: dict[tuple[Any, ...], tuple[int, int]] = {}
        self._looked_close = False

    # --- the day ---------------------------------------------------------------------------------------------

    def start_day(self, date: int, prices: Mapping[int, tuple[int, int, int]]) -> None:
        """A new trading day: previous close, lower and upper limit (fen) by instrument number. Counters begin anew."""
        self.date = date
        self.close_ns = int(self.rules.boundaries_ns(date)[-1])
        self.prices = dict(prices)
        for table in (self.flow, self.day, self.pairs, self.vintages):
            table[...] = 0
        t, s = self.thresholds, self.state[0]
        s["deals"] = s["quicks"] = s["pairs"] = s["bucket"] = 0
        s["late_ns"] = self.close_ns - t.late_minutes * NS_PER_MINUTE
        s["quick_ns"], s["arranged_ns"] = t.layering_life_ms * NS_PER_MS, t.prearranged_within_ms * NS_PER_MS
        s["next_look_ns"] = 0
        self._told.clear()
        self.taken_back.clear()
        self._looked_close = False
        self.agreed.start_day(date, t.ring_days)
        if self.positions is not None:
            known = self.positions(date)
            self.holdings, self.needs = dict(known.holdings), dict(known.needs)
            self.usable, self.usable_codes = dict(known.usable), known.vintages

    def usable_instruments(self) -> frozenset[int] | None:
        """Instruments that count for surrender; None where all do."""
        if self.usable_codes is None:
            return None
        return frozenset(number for number, code in self.codes.items() if code in self.usable_codes)

    def finish(self) -> None:
        """The last look at a day whose events are all in."""
        if self.date:
            self._look(self.last_time_ns, closing=True)

    # --- events ----------------------------------------------------------------------------------------------

    def feed(self, events: np.ndarray, payloads: bytes | memoryview = b"") -> list[Alert]:
        """Takes EVENT[n] with the payloads of their notices, in order; returns the alerts that they led to."""
        assert events.dtype == EVENT
        before = len(self.alerts)
        if not len(events):
            return []
        at = taken = 0
        while at < len(events):
            start = at
            at, why = k.collect(
                events, at, self.orders, self.flow, self.day, self.pairs, self.vintages, self.deals, self.quicks,
                self.state,
            )  # fmt: skip
            self.state["events"] += at - start
            if why == k.AT_NOTICE:
                event = events[at]
                size = int(event["quantity"])
                self._notice(event, bytes(payloads[taken : taken + size]))
                taken += size
                at += 1
            elif why == k.LOOK:
                if at:
                    self._note(events[at - 1])
                self._minute(int(events[at]["time_ns"]))
            elif why == k.ROOM:
                self._reserve(events[at:])
            elif at < len(events):
                larger = np.zeros(2 * len(self.pairs), k.PAIR)
                k.rehash(self.pairs, larger)
                self.pairs = larger
        self._note(events[-1])
        return self.alerts[before:]

    def _note(self, event: np.void) -> None:
        self.last_seq, self.last_time_ns = int(event["seq"]), int(event["time_ns"])

    def _reserve(self, events: np.ndarray) -> None:
        """Tables as large as the numbers in these events need them."""
        account, instrument, slot = k.highest(events)
        n, m = self.day.shape
        if account >= n or instrument >= m:
            n, m = _fits(n, account), _fits(m, instrument)
            self.flow = _grown(self.flow, (k.BUCKETS, n, m, 2))
            self.day, self.vintages = _grown(self.day, (n, m)), _grown(self.vintages, (m,))
        if slot >= len(self.orders):
            self.orders = _grown(self.orders, (_fits(len(self.orders), slot),))

    def _notice(self, event: np.void, payload: bytes) -> None:
        """The day's start, listings and news; everything else is not ours."""
        notice = msgspec.msgpack.decode(payload)
        kind = notice.get("t")
        if kind in AGREED:
            self._agreed(event, notice)
        elif kind == "deal_cancelled" and notice["number"] not in self.taken_back:
            self._take_back(notice["number"])
        if kind != "market_notice":
            return
        what, data = notice.get("what"), notice.get("data") or {}
        if what == "day" and event["side"] == 1:
            numbers = {code: number for number, code in self.codes.items()}
            self.start_day(int(data["date"]), {numbers[c]: p for c, p in _prices(data) if c in numbers})
        elif what == "notice" and self.date and event["side"] == 1:
            detectors.before_news(self, int(event["time_ns"]))

    def _agreed(self, event: np.void, notice: dict[str, Any]) -> None:
        """A word of desk or auction, with the vintage's listed price of the moment."""
        instrument = int(event["instrument"])
        last = int(self.vintages["last"][instrument]) if instrument < len(self.vintages) else 0
        self.agreed.take(event, notice, last or self.prices.get(instrument, (0,))[0], self.thresholds)

    def _take_back(self, number: int) -> None:
        """A cancelled deal leaves the tables (D28): its parties and, for a listed one, everybody are told."""
        self.taken_back.add(number)
        s = self.state[0]
        args = (int(s["deals"]), number, self.day, self.pairs, self.vintages, int(s["late_ns"]))
        if not k.take_back(self.deals, *args):
            self.agreed.cancel(number)

    # --- looks -----------------------------------------------------------------------------------------------

    def _minute(self, time_ns: int) -> None:
        """Before the first event of another minute: look at what there is, then turn the bucket."""
        s = self.state[0]
        if self.date == 0:  # a stream that begins in the middle of a day; before the rules began there is none
            date = trading_date(time_ns)
            if date >= self.rules.hours[0].from_date:
                self.start_day(date, {})
        next_look = int(s["next_look_ns"])
        if next_look:
            self._look(next_look, closing=time_ns >= self.close_ns)
            passed = (time_ns - next_look) // NS_PER_MINUTE + 1
        else:
            passed = 0
        for _ in range(min(passed, k.BUCKETS)):
            s["bucket"] = (s["bucket"] + 1) % k.BUCKETS
            self.flow[int(s["bucket"])] = 0
            self.vintages["prices"][:, int(s["bucket"])] = self.vintages["last"]
        s["next_look_ns"] = (time_ns // NS_PER_MINUTE + 1) * NS_PER_MINUTE

    def _look(self, time_ns: int, *, closing: bool) -> None:
        for detector in (*detectors.EVERY_MINUTE, *agreed_detectors.EVERY_MINUTE):
            detector(self, time_ns)
        if closing and not self._looked_close:
            self._looked_close = True
            for detector in detectors.AT_CLOSE:
                detector(self, time_ns)

    def tell(self, alert: Alert) -> None:
        """Keeps an alert, unless the same finding was told a moment ago, or nothing was added to it since."""
        key = (alert.kind, alert.instrument, alert.accounts)
        told_ns, told_seq = self._told.get(key, (0, 0))
        again_ns = told_ns + self.thresholds.repeat_minutes * NS_PER_MINUTE
        if told_ns and (alert.time_ns < again_ns or alert.last_seq <= told_seq):
            return
        self._told[key] = alert.time_ns, alert.last_seq
        self.alerts.append(alert)
        self.raised(alert)


def warm_up() -> None:
    """Has machine code and detectors loaded, by two minutes of a market that nobody watches.

    That takes a fifth of a second, in which a busy market's stream would run away from whoever follows it.
    """
    spare = Surveillance()
    events = np.zeros(2, EVENT)
    events["kind"], events["account"], events["order_id"] = ACCEPTED, 1, (1, 2)
    events["time_ns"] = day_start_ns(spare.rules.hours[0].from_date) + np.array([0, 2 * NS_PER_MINUTE])
    spare.feed(events)
    spare.finish()


def _prices(data: dict[str, Any]) -> list[tuple[str, tuple[int, int, int]]]:
    """(code, (previous close, lower, upper limit)) pairs of a day's notice."""
    return [(code, (int(p[0]), int(p[1]), int(p[2]))) for code, p in (data.get("references") or {}).items()]


def _fits(size: int, index: int) -> int:
    while size <= index:
        size *= 2
    return size


def _grown(table: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    larger = np.zeros(shape, table.dtype)
    larger[tuple(slice(n) for n in table.shape)] = table
    return larger
