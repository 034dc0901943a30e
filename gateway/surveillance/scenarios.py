"""Seeded days with known manipulators, made by the real engine: what the detectors are tried on.

The background is assumed flow (D33): some thirty members of four sorts (market makers that quote both sides and
cancel often, natural buyers, natural sellers, traders who go both ways), prices that wander, a slow lunch. On top of
it one manipulation each, by accounts of its own. Orders go through matching, so what the detectors see is what the
exchange would tell them, T+1, locks and self-trade prevention included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from engine import messages as m
from engine.calendar import day_start_ns, parse_clock
from engine.exchange import Exchange
from engine.market import Capacity
from engine.records import BUY, CANCEL, COMMAND, LIMIT, MESSAGE, NEW, NO_ACCOUNT, SELL
from engine.rules import Rules
from gateway.surveillance.thresholds import Thresholds
from gateway.surveillance.watch import Surveillance

DATE: Final = 20251203
CODE: Final = "CEA24"
REFERENCE: Final = 5_991
MEMBERS: Final = 30
FIRST_BAD: Final = 40  # manipulators' accounts begin here
ACCOUNTS: Final = 48
SECOND: Final = 1_000_000_000
DAY: Final = day_start_ns(DATE)


def clock(text: str) -> int:
    """A time of the scenario's day, ns UTC."""
    return DAY + parse_clock(text)


class Stage:
    """An exchange with funded members, whose every event goes to a recorder."""

    def __init__(self, seed: int, record: Callable[[np.ndarray, bytes], Any]) -> None:
        self.rng = np.random.default_rng(seed)
        self.record = record
        capacity = Capacity(accounts=ACCOUNTS, instruments=2, orders=1 << 13, sessions=64, deals=1 << 12)
        self.exchange = Exchange(Rules.national(), capacity)
        self.seq, self.now = 0, clock("08:30")
        self._command = np.zeros(1, COMMAND)
        self.say(m.ListInstrument(code=CODE, reference=REFERENCE))
        self.say(m.RollDay(date=DATE, references={CODE: REFERENCE}, composite=REFERENCE))
        for account in range(1, ACCOUNTS):
            self.say(m.OpenAccount(account=account, name=f"member {account}"))
            self.say(m.Deposit(account=account, amount=50_000_000_00, document=f"cash-{account}"))
            self.say(m.TransferIn(account=account, instrument=CODE, quantity=500_000, transfer=f"stock-{account}"))

    def _send(self, payload: bytes = b"") -> np.ndarray:
        self.seq += 1
        self._command["seq"], self._command["time_ns"] = self.seq, self.now
        out = self.exchange.apply(self._command, payload)
        events = out.events.copy()
        self.record(events, bytes(out.payloads))
        return events

    def say(self, message: Any) -> None:
        """A slow-lane command of the exchange itself."""
        payload = m.encode(message)
        self._command[0] = 0
        self._command["kind"], self._command["quantity"], self._command["account"] = MESSAGE, len(payload), NO_ACCOUNT
        self._send(payload)

    def at(self, time_ns: int) -> None:
        """Time goes forward only."""
        self.now = max(self.now, time_ns)

    def order(self, account: int, side: int, price: int, quantity: int) -> int:
        """A limit order; its id, 0 where it was refused."""
        row = self.exchange.market.instruments[0]
        price = min(max(price, int(row["limit_low"])), int(row["limit_high"]))
        self._command[0] = 0
        for name, value in (("kind", NEW), ("account", account), ("side", side), ("price", price),
                            ("quantity", quantity), ("order_type", LIMIT)):  # fmt: skip
            self._command[name] = value
        events = self._send()
        return int(events[0]["order_id"]) if events[0]["kind"] == 1 else 0

    def cancel(self, account: int, order_id: int) -> None:
        """A cancel; refused in silence where the order is gone."""
        self._command[0] = 0
        self._command["kind"], self._command["account"], self._command["order_id"] = CANCEL, account, order_id
        self._send()

    @property
    def last(self) -> int:
        """The last price, or the reference before the first deal."""
        row = self.exchange.market.instruments[0]
        return int(row["last"]) or int(row["reference"])

    def best(self, side: int) -> int:
        """Best price of a side; the last where it is empty."""
        depth = self.exchange.depth(CODE, 1)
        levels = depth.bids if side == BUY else depth.asks
        return int(levels[0][0]) if levels else self.last


class Act(NamedTuple):
    """Something that happens at a time."""

    time_ns: int
    do: Callable[[], Any]


class Actor(NamedTuple):
    """A manipulation: its acts, and the alert kinds of which any one counts as found, by accounts among these."""

    acts: list[Act]
    kinds: frozenset[str]
    accounts: frozenset[int]


def background(stage: Stage, orders: int) -> list[Act]:
    """The clean day's acts."""
    rng = stage.rng
    makers, traders = list(range(1, 5)), list(range(5, MEMBERS + 1))
    live: dict[int, list[int]] = {a: [] for a in makers}
    fair = [float(REFERENCE)]
    lean = {a: rng.random() for a in traders}  # 0 sells only, 1 buys only

    def quote(account: int) -> None:
        for order in live[account]:
            stage.cancel(account, order)
        fair[0] += rng.normal(0, 2.2)
        fair[0] = min(max(fair[0], REFERENCE * 0.93), REFERENCE * 1.07)
        middle, half = round(fair[0]), 3 + int(rng.integers(0, 8))
        size = int(rng.integers(200, 2_500))
        live[account] = [
            stage.order(account, BUY, middle - half, size),
            stage.order(account, SELL, middle + half, size),
        ]

    def trade(account: int) -> None:
        side = BUY if rng.random() < lean[account] else SELL
        best = stage.best(1 - side)
        near = round(fair[0]) + (1 if side == BUY else -1) * int(rng.integers(-15, 12))
        price = near if rng.random() < 0.6 else best
        order = stage.order(account, side, price, int(rng.integers(1, 1_500)))
        if order and rng.random() < 0.15:
            stage.cancel(account, order)

    acts = []
    for start, end in (("09:30", "11:30"), ("13:00", "15:00")):
        times = np.sort(rng.integers(clock(start), clock(end) - SECOND, orders // 2))
        for time_ns in times.tolist():
            if rng.random() < 0.45:
                account = int(rng.choice(makers))
                acts.append(Act(time_ns, lambda a=account: quote(a)))  # type: ignore[misc]
            else:
                account = int(rng.choice(traders))
                acts.append(Act(time_ns, lambda a=account: trade(a)))  # type: ignore[misc]
    return acts


def wash(stage: Stage) -> Actor:
    """Two accounts pass some lots to and fro inside the spread."""
    rng, a, b = stage.rng, FIRST_BAD, FIRST_BAD + 1
    start, acts = int(rng.integers(clock("09:40"), clock("10:30"))), []
    for n in range(int(rng.integers(8, 14))):
        seller, buyer = (a, b) if n % 2 else (b, a)
        size = int(rng.integers(400, 900))

        def do(seller: int = seller, buyer: int = buyer, size: int = size) -> None:
            price = (stage.best(BUY) + stage.best(SELL)) // 2
            order = stage.order(seller, SELL, price, size)
            stage.at(stage.now + int(rng.integers(50, 6_000)) * 1_000_000)
            stage.order(buyer, BUY, price, size)
            stage.cancel(seller, order)

        acts.append(Act(start + n * int(rng.integers(60, 200)) * SECOND, do))
    return Actor(acts, frozenset({"wash", "prearranged"}), frozenset({a, b}))


def prearranged(stage: Stage) -> Actor:
    """One account hands allowances to another in deals that both enter at the same moment."""
    rng, a, b = stage.rng, FIRST_BAD, FIRST_BAD + 1
    start, acts = int(rng.integers(clock("13:05"), clock("13:40"))), []
    for n in range(int(rng.integers(6, 10))):
        size = int(rng.integers(300, 4_000))

        def do(size: int = size) -> None:
            price = (stage.best(BUY) + stage.best(SELL)) // 2
            order = stage.order(a, SELL, price, size)
            stage.at(stage.now + int(rng.integers(5, 900)) * 1_000_000)
            stage.order(b, BUY, price, size)
            stage.cancel(a, order)

        acts.append(Act(start + n * 240 * SECOND, do))
    return Actor(acts, frozenset({"prearranged"}), frozenset({a, b}))


def transfer(stage: Stage) -> Actor:
    """Account B buys high from A and sells low to A: money goes from B to A."""
    rng, a, b = stage.rng, FIRST_BAD, FIRST_BAD + 1
    start, acts = int(rng.integers(clock("09:45"), clock("10:20"))), []
    for n in range(6):
        high, size = n % 2 == 0, int(rng.integers(2_500, 5_000))

        def do(high: bool = high, size: int = size) -> None:
            # just inside the spread's edge, where nobody else is reached first
            price = max(stage.best(SELL) - 1, stage.last + 150) if high else min(stage.best(BUY) + 1, stage.last - 150)
            seller, buyer = (a, b) if high else (b, a)
            if high:  # the buyer sweeps what is cheaper, then meets the partner
                stage.order(seller, SELL, price, size)
                stage.at(stage.now + 5 * SECOND)
                stage.order(buyer, BUY, price, size + _inside(stage, SELL, price))
            else:
                stage.order(buyer, BUY, price, size)
                stage.at(stage.now + 5 * SECOND)
                stage.order(seller, SELL, price, size + _inside(stage, BUY, price))

        acts.append(Act(start + n * 400 * SECOND, do))
    return Actor(acts, frozenset({"value_transfer", "buy_high_sell_low", "wash", "price_move"}), frozenset({a, b}))


def _inside(stage: Stage, side: int, price: int) -> int:
    """Tonnes of a side that stand better than a price (of four levels at most: best five, R8.2)."""
    depth = stage.exchange.depth(CODE, 4)
    levels = depth.asks if side == SELL else depth.bids
    return sum(int(q) for p, q, _ in levels if (p < price if side == SELL else p > price))


def layering(stage: Stage) -> Actor:
    """Large bids without intent drive the book; the same account sells into it and takes the bids away."""
    rng, a = stage.rng, FIRST_BAD
    start, acts = int(rng.integers(clock("13:10"), clock("14:20"))), []
    for n in range(int(rng.integers(4, 7))):

        def do() -> None:
            best = stage.best(BUY)
            layers = [
                stage.order(a, BUY, best - 2 - i, int(rng.integers(1_200, 4_000)))
                for i in range(int(rng.integers(4, 6)))
            ]
            stage.at(stage.now + int(rng.integers(1, 4)) * SECOND)
            stage.order(a, SELL, stage.best(BUY), int(rng.integers(150, 400)))
            stage.at(stage.now + int(rng.integers(1, 6)) * SECOND)
            for order in layers:
                stage.cancel(a, order)

        acts.append(Act(start + n * int(rng.integers(35, 55)) * SECOND, do))
    return Actor(acts, frozenset({"layering"}), frozenset({a}))


def marking(stage: Stage) -> Actor:
    """Buys at rising prices in the last ten minutes, enough to lift the day's average."""
    rng, a = stage.rng, FIRST_BAD
    acts, start = [], clock("14:50")
    for n in range(int(rng.integers(10, 16))):

        def do(n: int = n) -> None:
            price = max(stage.last, stage.best(SELL)) + 15 + 8 * n
            stage.order(a + 1, SELL, price, 6_000)  # a helper offers at the next price
            stage.at(stage.now + int(rng.integers(3, 8)) * SECOND)
            stage.order(a, BUY, price, 6_000 + _inside(stage, SELL, price))

        acts.append(Act(start + n * 35 * SECOND, do))
    kinds = frozenset({"marking_close", "price_move"})
    return Actor(acts, kinds, frozenset({a, a + 1}))


def news(stage: Stage) -> Actor:
    """Heavy buying by one account, then a notice of the exchange."""
    rng, a = stage.rng, FIRST_BAD
    start, acts = int(rng.integers(clock("10:00"), clock("10:40"))), []
    for n in range(20):
        acts.append(Act(start + n * 60 * SECOND, lambda: stage.order(a, BUY, stage.best(SELL) + 30, 2_500)))
    acts.append(Act(start + 21 * 60 * SECOND, lambda: stage.say(m.PublishNotice(text="new rules of allocation"))))
    return Actor(acts, frozenset({"before_news"}), frozenset({a}))


def thin(stage: Stage) -> Actor:
    """Nobody trades; one tonne far from the previous close sets the close (R6.7)."""
    rng, a, b = stage.rng, FIRST_BAD, FIRST_BAD + 1
    price = REFERENCE + int(rng.integers(300, 550))

    def do() -> None:
        stage.order(a, SELL, price, 1)
        stage.at(stage.now + 90 * SECOND)
        stage.order(b, BUY, price, 1)

    return Actor(
        [Act(int(rng.integers(clock("09:31"), clock("11:20"))), do)], frozenset({"thin_close"}), frozenset({a, b})
    )


def oversold(stage: Stage) -> Actor:
    """An emitter sells what it needs for surrender."""
    a = FIRST_BAD
    start = int(stage.rng.integers(clock("13:05"), clock("14:20")))
    acts = [Act(start + n * 90 * SECOND, lambda: stage.order(a, SELL, stage.best(BUY), 900)) for n in range(8)]
    return Actor(acts, frozenset({"overselling"}), frozenset({a}))


SCENARIOS: Final[dict[str, Callable[[Stage], Actor]]] = {
    "wash": wash,
    "prearranged": prearranged,
    "value_transfer": transfer,
    "layering": layering,
    "marking_close": marking,
    "before_news": news,
    "thin_close": thin,
    "overselling": oversold,
}
# Background orders where they are not the usual number: a value transfer needs a thin book, a thin close none.
ORDERS: Final = {"thin_close": 0, "value_transfer": 200}
REPORTS: Final = frozenset({"price_limit", "large_holder", "concentration"})  # reports of facts, never false


class Day(NamedTuple):
    """A scenario that was run. ``found``: an alert of a wanted kind names a manipulator and nobody else's alone."""

    name: str
    seed: int
    watch: Surveillance
    found: bool
    false_alarms: list[str]
    deals: int


def run_day(
    name: str, seed: int, thresholds: Thresholds | None = None, orders: int = 1_200, *, record: Any = None
) -> Day:
    """Runs a scenario (or ``clean``) and counts. A false alarm names no manipulator; reports do not count."""
    needs = {FIRST_BAD: 498_000} if name == "overselling" else {}
    watch = Surveillance(thresholds, codes={0: CODE}, needs=needs, accounts=64, instruments=2)
    watch.holdings = {FIRST_BAD: 500_000}

    def feed(events: np.ndarray, payloads: bytes) -> None:
        watch.feed(events, payloads)
        if record is not None:
            record(events, payloads)

    stage = Stage(seed, feed)
    actor = SCENARIOS[name](stage) if name != "clean" else Actor([], frozenset(), frozenset())
    acts = [*background(stage, ORDERS.get(name, orders)), *actor.acts]
    for act in sorted(acts, key=lambda a: a.time_ns):
        stage.at(act.time_ns)
        if stage.now < clock("15:00"):
            act.do()
    stage.at(clock("15:00"))
    stage.say(m.CloseDay())
    watch.finish()
    found = any(a.kind in actor.kinds and actor.accounts & set(a.accounts) for a in watch.alerts)
    wrong = [a for a in watch.alerts if a.kind not in REPORTS and not actor.accounts & set(a.accounts)]
    return Day(
        name, seed, watch, found, [f"{a.kind}: {a.text}" for a in wrong], int(stage.exchange.market.market[0]["deals"])
    )


def count(seeds: range, thresholds: Thresholds | None = None) -> dict[str, dict[str, int]]:
    """Recall and false alarms over seeds, per scenario: days, found, days with a false alarm, false alarms."""
    rows: dict[str, dict[str, int]] = {}
    for name in (*SCENARIOS, "clean"):
        days = [run_day(name, seed, thresholds) for seed in seeds]
        rows[name] = {
            "days": len(days),
            "found": sum(d.found for d in days),
            "days_with_false_alarm": sum(bool(d.false_alarms) for d in days),
            "false_alarms": sum(len(d.false_alarms) for d in days),
        }
    return rows
