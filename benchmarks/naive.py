"""The same two jobs as the kernels, naive and readable: what tests compare with, and a peer to time.

Nothing is shared with engine/book.py: a book is a sorted map of prices to lists of orders, in the order of arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sortedcontainers import SortedDict

BUY = 0
HASH_START = 1469598103934665603
HASH_PRIME = 1099511628211
WORD = (1 << 64) - 1


@dataclass(eq=False)
class Order:
    """A resting order."""

    order_id: int
    side: int
    price: int
    leaves: int


class NaiveBook:
    """Price-time priority by the letter. `on_trade(maker, taker_id, price, qty)` is told of each trade."""

    def __init__(self, on_trade: Callable[[Order, int, int, int], None]) -> None:
        self.sides: tuple[SortedDict, SortedDict] = (SortedDict(), SortedDict())
        self.by_id: dict[int, Order] = {}
        self.on_trade = on_trade

    def best(self, side: int) -> int | None:
        """Best price of a side, None where it is empty."""
        prices = self.sides[side].keys()
        if not prices:
            return None
        return prices[-1] if side == BUY else prices[0]

    def match(self, order_id: int, side: int, price: int, qty: int) -> int:
        """Trade an incoming order as far as its limit allows; returns what is left."""
        opposite = 1 - side
        while qty > 0:
            best = self.best(opposite)
            if best is None or (best > price if side == BUY else best < price):
                break
            queue = self.sides[opposite][best]
            maker = queue[0]
            traded = min(qty, maker.leaves)
            self.on_trade(maker, order_id, best, traded)
            qty -= traded
            maker.leaves -= traded
            if maker.leaves == 0:
                self.take_out(maker)
        return qty

    def rest(self, order_id: int, side: int, price: int, qty: int) -> None:
        """Put an order last at its price; its id names it from here on."""
        order = Order(order_id, side, price, qty)
        self.sides[side].setdefault(price, []).append(order)
        self.by_id[order_id] = order

    def take_out(self, order: Order) -> None:
        """Remove a resting order."""
        queue = self.sides[order.side][order.price]
        queue.remove(order)
        if not queue:
            del self.sides[order.side][order.price]
        if self.by_id.get(order.order_id) is order:
            del self.by_id[order.order_id]


Report = tuple[int, ...]


class NaiveFlash1:
    """The public benchmark's messages (benchmarks/flash1_kernel.py) on the naive book."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.seq = 0
        self.book = NaiveBook(self._trade)

    def _trade(self, maker: Order, taker_id: int, price: int, qty: int) -> None:
        self.reports.append((1, self.seq, price, qty, maker.order_id, taker_id))

    def apply(self, kind: int, side: int, ioc: int, qty: int, order_id: int, price: int) -> None:
        """One message; its reports are appended to ``reports``."""
        book, seq, say = self.book, self.seq, self.reports.append
        order = book.by_id.get(order_id)
        if kind == 0:
            say((0, seq, side, order_id, price, qty))
            left = book.match(order_id, side, price, qty)
            if left and ioc:
                say((2, seq, side, order_id, price))
            elif left:
                book.rest(order_id, side, price, left)
        elif order is None:
            say((4 if kind == 1 else 5, seq, order_id))
        elif kind == 1:
            book.take_out(order)
            say((2, seq, order.side, order_id, order.price))
        else:
            book.take_out(order)
            left = book.match(order_id, side, price, qty)
            say((3, seq, side, order_id, price, qty))
            if left:
                book.rest(order_id, side, price, left)
        self.seq += 1


class NaiveRows:
    """The bare-book rows (benchmarks/book_kernel.py) on the naive book."""

    def __init__(self) -> None:
        self.trades = 0
        self.volume = 0
        self.hash = HASH_START
        self.book = NaiveBook(self._trade)

    def _trade(self, maker: Order, taker_id: int, price: int, qty: int) -> None:
        for x in (maker.order_id, taker_id, price, qty):
            self.hash = (self.hash ^ (x & WORD)) * HASH_PRIME & WORD
        self.trades += 1
        self.volume += qty

    def apply(self, op: int, order_id: int, side: int, price: int, qty: int) -> None:
        """One row."""
        order = self.book.by_id.get(order_id)
        if op == 0:
            if order is None and qty > 0:
                self.enter(order_id, side, price, qty)
        elif order is None:
            return
        elif op == 1 or (qty >= order.leaves and op == 2):
            self.book.take_out(order)
        elif op == 2:
            order.leaves -= max(qty, 0)
        else:
            self.book.take_out(order)
            if qty > 0:
                self.enter(order_id, order.side, price, qty)

    def enter(self, order_id: int, side: int, price: int, qty: int) -> None:
        """Match, then rest what is left."""
        left = self.book.match(order_id, side, price, qty)
        if left:
            self.book.rest(order_id, side, price, left)

    def apply_all(self, rows: Iterable[Iterable[int]]) -> None:
        """All rows in order."""
        for row in rows:
            self.apply(*row)
