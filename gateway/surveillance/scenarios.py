"""Seeded days with known manipulators, made by the real engine: what the detectors are tried on.

The background is assumed flow (D33): some thirty members of four sorts (market makers that quote both sides and
cancel often, natural buyers, natural sellers, traders who go both ways), prices that wander, a slow lunch. On top of
it one manipulation each, by accounts of its own. Orders go through matching, so what the detectors see is what the
exchange would tell them, T+1, locks and self-trade prevention included.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np

from engine import auction_messages as am
from engine import bulk_messages as bm
from engine import messages as m
from engine.calendar import TradingCalendar, day_start_ns, parse_clock
from engine.exchange import Exchange
from engine.market import Capacity
from engine.records import BUY, CANCEL, COMMAND, EVENT, FILL_MAKER, FILL_TAKER, LIMIT, MESSAGE, NEW, NO_ACCOUNT, SELL
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
CALENDAR: Final = (20251201, 20251202, DATE, 20251204)
BULK_MIN: Final = 100_000
SWEEPS: Final = 8  # of one step of a pushed price: each takes five levels at most
GROUPS: Final = {FIRST_BAD + 4: 9, FIRST_BAD + 5: 9, 5: 3, 6: 3}  # two linked pairs: one bad, one honest


def clock(text: str) -> int:
    """A time of the scenario's day, ns UTC."""
    return DAY + parse_clock(text)


class Stage:
    """An exchange with funded members, whose every event goes to a recorder."""

    def __init__(self, seed: int, record: Callable[[np.ndarray, bytes], Any]) -> None:
        self.rng = np.random.default_rng(seed)
        self.record = record
        capacity = Capacity(accounts=ACCOUNTS, instruments=2, orders=1 << 13, sessions=64, deals=1 << 12)
        self.exchange = Exchange(Rules.national(), capacity, TradingCalendar(CALENDAR))
        self.seq, self.now = 0, clock("08:30")
        self._command = np.zeros(1, COMMAND)
        self.events: np.ndarray = np.zeros(0, EVENT)  # of the last command
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
        events, payloads = out.events.copy(), bytes(out.payloads)
        self.notices = [notice for _, notice in out.notices()] if payload else []
        self.record(events, payloads)
        self.events = events
        return events

    def say(self, message: Any, account: int = NO_ACCOUNT) -> dict[str, Any]:
        """A slow-lane command, of the exchange itself or of a member; what it answered, {} where it refused."""
        payload = m.encode(message)
        self._command[0] = 0
        self._command["kind"], self._command["quantity"], self._command["account"] = MESSAGE, len(payload), account
        self._send(payload)
        for notice in self.notices:
            if isinstance(notice, m.Done):
                return notice.data
        return {}

    # --- desk and auction -----------------------------------------------------------------------------------

    def declare(self, account: int, side: int, price: int, quantity: int = BULK_MIN) -> int:
        """A declaration to everybody; its number, 0 where it was refused."""
        row = self.exchange.market.instruments[0]
        price = min(max(price, int(row["bulk_low"])), int(row["bulk_high"]))
        message = bm.BulkDeclare(side=side, instrument=CODE, price=price, quantity=quantity)
        return int(self.say(message, account).get("declaration", 0))

    def bulk(self, seller: int, buyer: int, price: int, quantity: int = BULK_MIN) -> None:
        """A whole bulk deal: declared by the seller, taken by the buyer, confirmed."""
        row = self.exchange.market.instruments[0]
        price = min(max(price, int(row["bulk_low"])), int(row["bulk_high"]))
        declaration = self.declare(seller, SELL, price, quantity)
        if not declaration:
            return
        self.at(self.now + int(self.rng.integers(20, 200)) * SECOND // 10)
        taken = self.say(bm.BulkTake(declaration=declaration, price=price, quantity=quantity), buyer)
        if taken:
            self.at(self.now + SECOND)
            self.say(bm.BulkConfirm(thread=taken["thread"], price=price, quantity=quantity), seller)

    def auction(self, seller: int, quantity: int, opens: str, closes: str) -> int:
        """An announced auction of a seller, as an authority's: the notice periods are waived."""
        apply = am.AuctionApply(
            instrument=CODE, quantity=quantity, date=DATE, mode="pay_as_bid", reserve="minus_10", seller=seller,
            waive=True, why="scenario",
        )  # fmt: skip
        number = int(self.say(apply).get("auction", 0))
        if number:
            self.say(am.AuctionAnswer(auction=number, approve=True))
            self.say(am.AuctionFreeze(auction=number), seller)
            announced = am.AuctionAnnounce(
                auction=number, opens=clock(opens), closes=clock(closes), cancel_allowed=True
            )
            self.say(announced)
        return number

    def bid(self, account: int, auction: int, price: int, quantity: int) -> int:
        """A bid; its number, 0 where it was refused."""
        return int(self.say(am.AuctionBid(auction=auction, price=price, quantity=quantity), account).get("bid", 0))

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


def _always() -> bool:
    return True


class Actor(NamedTuple):
    """A manipulation: its acts, and the alert kinds of which any one counts as found, by accounts among these.

    ``happened``: asked at the end of the day, whether the manipulator could do what it wanted; known from its own
    deals, never from the detectors.
    """

    acts: list[Act]
    kinds: frozenset[str]
    accounts: frozenset[int]
    happened: Callable[[], bool] = _always


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


def agreements(stage: Stage) -> list[Act]:
    """A clean day's desk and auction: some bulk deals 0 to 12 % below the market (the published median is 1.8 %, the
    mean 3.7 %), some declarations that nobody takes, an auction with eight bidders."""
    rng, acts = stage.rng, []
    traders = list(range(5, MEMBERS + 1))

    def deal() -> None:
        seller, buyer = (int(a) for a in rng.choice(traders, 2, replace=False))
        discount = min(0.12, abs(rng.normal(0, 0.05)))
        stage.bulk(seller, buyer, round(stage.last * (1 - discount)), BULK_MIN + 1_000 * int(rng.integers(0, 50)))

    def wish() -> None:
        account = int(rng.choice(traders))
        number = stage.declare(account, BUY, round(stage.last * 0.9))
        if number and rng.random() < 0.5:
            stage.at(stage.now + int(rng.integers(5, 300)) * SECOND)
            stage.say(bm.BulkWithdraw(declaration=number), account)

    for _ in range(int(rng.integers(2, 7))):
        acts.append(Act(int(rng.integers(clock("13:01"), clock("14:55"))), deal))
    for _ in range(int(rng.integers(1, 5))):
        acts.append(Act(int(rng.integers(clock("13:01"), clock("14:50"))), wish))
    seller = int(rng.choice(traders))
    held: list[int] = []
    acts.append(Act(clock("09:05"), lambda: held.append(stage.auction(seller, 100_000, "10:00", "10:30"))))
    for account in rng.choice(traders, 8, replace=False).tolist():
        price, size = REFERENCE - int(rng.integers(0, 400)), int(rng.integers(5_000, 40_000))
        at = int(rng.integers(clock("10:01"), clock("10:29")))

        def offer(account: int = account, price: int = price, size: int = size) -> None:
            if held and held[0]:
                number = stage.bid(account, held[0], price, size)
                if number and rng.random() < 0.1:
                    stage.say(am.AuctionCancelBid(auction=held[0], bid=number), account)

        acts.append(Act(at, offer))
    acts.append(Act(clock("10:30"), lambda: stage.say(am.AuctionTick())))
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
    """Account B buys high from A and sells low to A: money goes from B to A.

    It has happened when both ways dealt between the two: strangers can catch all of one.
    """
    rng, a, b = stage.rng, FIRST_BAD, FIRST_BAD + 1
    ways: set[bool] = set()
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
            makers = stage.events["account"][stage.events["kind"] == FILL_MAKER]
            ways.update([high] * ((seller if high else buyer) in makers))

        acts.append(Act(start + n * 400 * SECOND, do))
    kinds = frozenset({"value_transfer", "buy_high_sell_low", "wash", "price_move"})
    return Actor(acts, kinds, frozenset({a, b}), lambda: len(ways) == 2)


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


def ring(stage: Stage) -> Actor:
    """Three or four accounts pass lots round inside the spread, until they are back where they began."""
    rng, n = stage.rng, int(stage.rng.integers(3, 5))
    members = [FIRST_BAD + i for i in range(n)]
    start, acts = int(rng.integers(clock("09:40"), clock("10:40"))), []
    for step in range(n * int(rng.integers(2, 5))):
        seller, buyer, size = members[step % n], members[(step + 1) % n], int(rng.integers(600, 2_000))

        def do(seller: int = seller, buyer: int = buyer, size: int = size) -> None:
            price = (stage.best(BUY) + stage.best(SELL)) // 2
            order = stage.order(seller, SELL, price, size)
            stage.at(stage.now + int(rng.integers(100, 9_000)) * 1_000_000)
            stage.order(buyer, BUY, price, size)
            stage.cancel(seller, order)

        acts.append(Act(start + step * int(rng.integers(60, 240)) * SECOND, do))
    return Actor(acts, frozenset({"ring"}), frozenset(members))


def bulk_ring(stage: Stage) -> Actor:
    """Bulk deals round two to four accounts."""
    rng, n = stage.rng, int(stage.rng.integers(2, 5))
    members = [FIRST_BAD + i for i in range(n)]
    start, acts = int(rng.integers(clock("13:05"), clock("13:30"))), []
    for step in range(n):
        seller, buyer = members[step], members[(step + 1) % n]
        size = BULK_MIN + 100 * int(rng.integers(0, 100))
        price = round(REFERENCE * (1 - float(rng.random()) * 0.05))
        acts.append(Act(start + step * 600 * SECOND, partial(stage.bulk, seller, buyer, price, size)))
    return Actor(acts, frozenset({"ring", "wash"}), frozenset(members))


def bulk_transfer(stage: Stage) -> Actor:
    """One sells cheap at the desk and buys back dear an hour later: money goes from it to the other."""
    rng, a, b = stage.rng, FIRST_BAD, FIRST_BAD + 1
    low, high = REFERENCE - int(rng.integers(400, 900)), REFERENCE + int(rng.integers(100, 500))
    first = int(rng.integers(clock("13:05"), clock("13:40")))
    acts = [Act(first, lambda: stage.bulk(b, a, low)), Act(first + 3_600 * SECOND, lambda: stage.bulk(a, b, high))]
    return Actor(acts, frozenset({"agreed_transfer"}), frozenset({a, b}))


def flicker(stage: Stage) -> Actor:
    """Large declarations that are taken back before anybody could answer, to show interest that is not there."""
    rng, a = stage.rng, FIRST_BAD
    start, acts = int(rng.integers(clock("13:05"), clock("14:00"))), []
    for n in range(int(rng.integers(7, 12))):

        def do() -> None:
            number = stage.declare(a, BUY, round(stage.last * 1.02), 2 * BULK_MIN)
            stage.at(stage.now + int(rng.integers(3, 40)) * SECOND)
            stage.say(bm.BulkWithdraw(declaration=number), a)

        acts.append(Act(start + n * 120 * SECOND, do))
    return Actor(acts, frozenset({"desk_withdrawals"}), frozenset({a}))


def insider_auction(stage: Stage) -> Actor:
    """A seller's own linked account wins its auction."""
    seller, friend = FIRST_BAD + 4, FIRST_BAD + 5
    held: list[int] = []
    price = REFERENCE - int(stage.rng.integers(0, 200))
    acts = [
        Act(clock("09:06"), lambda: held.append(stage.auction(seller, 100_000, "10:40", "11:10"))),
        Act(clock("10:50"), lambda: stage.bid(friend, held[0], price, 70_000)),
        Act(clock("11:10"), lambda: stage.say(am.AuctionTick())),
    ]
    return Actor(acts, frozenset({"auction_linked"}), frozenset({seller, friend}))


def false_bids(stage: Stage) -> Actor:
    """Large bids that are taken away shortly before the end."""
    rng, a, seller = stage.rng, FIRST_BAD, FIRST_BAD + 4
    held: list[int] = []
    bids: list[int] = []
    acts = [Act(clock("09:06"), lambda: held.append(stage.auction(seller, 100_000, "10:40", "11:10")))]
    for n in range(3):
        price, size = REFERENCE + int(rng.integers(0, 300)), int(rng.integers(20_000, 40_000))
        do = lambda p=price, s=size: bids.append(stage.bid(a, held[0], p, s))  # type: ignore[misc]  # noqa: E731
        acts.append(Act(clock("10:45") + n * 60 * SECOND, do))

    def take_away() -> None:
        for number in bids:
            stage.say(am.AuctionCancelBid(auction=held[0], bid=number), a)

    acts += [Act(clock("11:09"), take_away), Act(clock("11:10"), lambda: stage.say(am.AuctionTick()))]
    return Actor(acts, frozenset({"auction_cancelled"}), frozenset({a}))


def limit_push(stage: Stage) -> Actor:
    """One account buys up to the day's limit within minutes: step by step, and again where five levels (R8.2) were
    not enough. It has happened when the account's own order dealt at the limit."""
    rng, a = stage.rng, FIRST_BAD
    limit = int(stage.exchange.market.instruments[0]["limit_high"])
    start = int(rng.integers(clock("13:20"), clock("14:30")))
    reached: list[int] = []

    def do(n: int) -> None:
        price = limit if n == 3 else stage.last + (limit - stage.last) * (n + 1) // 4
        stage.order(a + 1, SELL, price, 3_000)
        for _ in range(SWEEPS):
            stage.at(stage.now + 2 * SECOND)
            stage.order(a, BUY, price, 3_000 + _inside(stage, SELL, price))
            fills = stage.events[stage.events["kind"] == FILL_TAKER]
            if not len(fills):  # all its money is gone, or there is nothing to buy
                return
            if int(fills["price"].max()) == price:
                reached.extend([price] * (price == limit))
                return

    acts = [Act(start + n * 40 * SECOND, lambda n=n: do(n)) for n in range(4)]  # type: ignore[misc]
    return Actor(acts, frozenset({"limit_push"}), frozenset({a, a + 1}), lambda: bool(reached))


def oversold_bulk(stage: Stage) -> Actor:
    """An emitter sells at the desk what it needs for surrender."""
    a, buyer = FIRST_BAD, FIRST_BAD + 2
    when = int(stage.rng.integers(clock("13:05"), clock("14:20")))
    return Actor(
        [Act(when, lambda: stage.bulk(a, buyer, stage.last))], frozenset({"overselling"}), frozenset({a, buyer})
    )


SCENARIOS: Final[dict[str, Callable[[Stage], Actor]]] = {
    "wash": wash,
    "prearranged": prearranged,
    "value_transfer": transfer,
    "layering": layering,
    "marking_close": marking,
    "before_news": news,
    "thin_close": thin,
    "overselling": oversold,
    "ring": ring,
    "bulk_ring": bulk_ring,
    "bulk_transfer": bulk_transfer,
    "desk_withdrawals": flicker,
    "auction_linked": insider_auction,
    "auction_cancelled": false_bids,
    "limit_push": limit_push,
    "overselling_bulk": oversold_bulk,
}
NEEDS: Final = frozenset({"overselling", "overselling_bulk"})
# Background orders where they are not the usual number: a value transfer needs a thin book, a thin close none.
ORDERS: Final = {"thin_close": 0, "value_transfer": 200}
# Reports of facts, never false.
REPORTS: Final = frozenset({"price_limit", "large_holder", "concentration", "off_market", "auction_winner"})


class Day(NamedTuple):
    """A scenario that was run. ``found``: an alert of a wanted kind names a manipulator and nobody else's alone.

    ``happened``: the manipulator could do it; where it could not, there is nothing to find (``clean``: False).
    """

    name: str
    seed: int
    watch: Surveillance
    found: bool
    happened: bool
    false_alarms: list[str]
    deals: int


def run_day(
    name: str, seed: int, thresholds: Thresholds | None = None, orders: int = 1_200, *, record: Any = None
) -> Day:
    """Runs a scenario (or ``clean``) and counts. A false alarm names no manipulator; reports do not count."""
    watch = Surveillance(thresholds, codes={0: CODE}, groups=GROUPS, accounts=64, instruments=2)
    watch.needs = dict.fromkeys([FIRST_BAD] if name in NEEDS else [], 498_000)
    watch.usable = {FIRST_BAD: 500_000}

    events, payloads = bytearray(), bytearray()

    def keep(some: np.ndarray, theirs: bytes) -> None:
        events.extend(some.tobytes())
        payloads.extend(theirs)
        if record is not None:
            record(some, theirs)

    stage = Stage(seed, keep)
    actor = SCENARIOS[name](stage) if name != "clean" else Actor([], frozenset(), frozenset(), lambda: False)
    acts = [*background(stage, ORDERS.get(name, orders)), *agreements(stage), *actor.acts]
    for act in sorted(acts, key=lambda a: a.time_ns):
        stage.at(act.time_ns)
        if stage.now < clock("15:00"):
            act.do()
    stage.at(clock("15:00"))
    stage.say(m.CloseDay())
    watch.feed(np.frombuffer(events, EVENT), bytes(payloads))  # in one piece: the pieces make no difference, but time
    watch.finish()
    found = any(a.kind in actor.kinds and actor.accounts & set(a.accounts) for a in watch.alerts)
    wrong = [a for a in watch.alerts if a.kind not in REPORTS and not actor.accounts & set(a.accounts)]
    texts = [f"{a.kind}: {a.text}" for a in wrong]
    return Day(name, seed, watch, found, actor.happened(), texts, int(stage.exchange.market.market[0]["deals"]))


def count(seeds: range, thresholds: Thresholds | None = None) -> dict[str, dict[str, int]]:
    """Recall and false alarms over seeds, per scenario: days, days on which the manipulation happened, days among these
    on which it was found, days with a false alarm, false alarms."""
    rows: dict[str, dict[str, int]] = {}
    for name in (*SCENARIOS, "clean"):
        days = [run_day(name, seed, thresholds) for seed in seeds]
        rows[name] = {
            "days": len(days),
            "happened": sum(d.happened for d in days),
            "found": sum(d.found and d.happened for d in days),
            "days_with_false_alarm": sum(bool(d.false_alarms) for d in days),
            "false_alarms": sum(len(d.false_alarms) for d in days),
        }
    return rows
