"""What must hold of any stream of events, judged from the events alone: an auditor that knows neither engine.

It keeps its own queues from ACCEPTED, REPLACED, REDUCED, CANCELLED and FILL events and asserts, deal by deal, that
the maker was the first of the best price, that the price is the maker's and lies within the day's limits, that
nobody trades with itself, that quantities add up, and that no continuous book is left crossed.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine import records as r
from engine.codes import Reason


@dataclass(slots=True)
class Seen:
    """An order as its events tell it."""

    id: int
    account: int
    instrument: int
    side: int
    price: int
    leaves: int


class Tape:
    """Audits events in order. ``continuous[i]``: instrument i matches by itself; ``limits[i]``: (low, high)."""

    def __init__(self, continuous: list[bool], *, self_trade_prevention: bool = True, best_only: bool = True) -> None:
        self.continuous = continuous
        self.self_trade_prevention = self_trade_prevention
        self.best_only = best_only
        self.limits: dict[int, tuple[int, int]] = {}
        self.orders: dict[int, Seen] = {}
        self.ids: set[int] = set()
        self.levels: dict[tuple[int, int], dict[int, deque[Seen]]] = {}
        self.incoming: Seen | None = None
        self.maker: tuple[Any, ...] | None = None
        self.deal_number = 0
        self.kinds: Counter[int] = Counter()

    def read_with_limits(self, events: np.ndarray, limits: list[tuple[int, dict[int, tuple[int, int]]]]) -> None:
        """Audits a whole stream; ``limits`` lists (first seq of a day, its limits by instrument)."""
        bounds = [*np.searchsorted(events["seq"], [seq for seq, _ in limits]), len(events)]
        for (_, day), start, end in zip(limits, bounds, bounds[1:], strict=False):
            self.limits = day
            self.read(events[start:end])

    def read(self, events: np.ndarray) -> None:
        """Audits the events (EVENT, shape (n,)) of whole commands, in order."""
        seq = None
        for record in events.tolist():
            if record[0] != seq:
                self.end_command()
                assert seq is None or record[0] > seq, "events run backwards"
                seq = record[0]
            self.event(*record)
        self.end_command()

    def event(
        self,
        seq: int,
        time_ns: int,
        price: int,
        quantity: int,
        leaves: int,
        order_id: int,
        account: int,
        ref: int,
        session: int,
        instrument: int,
        kind: int,
        side: int,
        reason: int,
    ) -> None:
        """One event."""
        self.kinds[kind] += 1
        assert (self.maker is not None) == (kind == r.FILL_TAKER), "a FILL_MAKER and its FILL_TAKER stand together"
        if kind == r.ACCEPTED:
            assert order_id not in self.ids, f"order id {order_id:#x} is given twice"
            assert quantity == leaves > 0
            self.ids.add(order_id)
            self.enter(Seen(order_id, account, instrument, side, price, leaves))
        elif kind == r.FILL_MAKER:
            self.maker_fills(order_id, price, quantity, leaves)
            self.maker = (instrument, price, quantity, ref, account, side)
            assert ref == self.deal_number + 1 or ref == 1, "deal numbers have a gap"
            self.deal_number = ref
        elif kind == r.FILL_TAKER:
            self.taker_fills(order_id, quantity, leaves)
            assert self.maker is not None
            assert self.maker[:4] == (instrument, price, quantity, ref), "two sides of one deal differ"
            assert self.maker[5] == 1 - side, "both sides of a deal are on one side"
            if self.self_trade_prevention:
                assert self.maker[4] != account, "an account has traded with itself"
            self.maker = None
        elif kind == r.CANCELLED:
            order = self.orders[order_id]
            assert (quantity, leaves) == (order.leaves, 0), "a cancel takes what is left"
            assert order.account == account
            self.leave(order)
            if reason == Reason.BEYOND_BEST_FIVE:
                assert self.crossing(order), "the rest did not cross"
        elif kind == r.REDUCED:
            order = self.orders[order_id]
            assert leaves == order.leaves - quantity > 0
            order.leaves = leaves
        elif kind == r.REPLACED:
            self.replaced(self.orders[order_id], price, leaves)

    def replaced(self, order: Seen, price: int, leaves: int) -> None:
        """Same price and less: the place stays (D11); else it comes anew."""
        assert leaves > 0
        if price == order.price and leaves < order.leaves:
            order.leaves = leaves
            return
        self.leave(order)
        order.price, order.leaves = price, leaves
        self.enter(order)

    def enter(self, order: Seen) -> None:
        """The command's incoming order: it rests, if it does, when the command is over."""
        assert self.incoming is None, "two incoming orders in one command"
        self.orders[order.id] = self.incoming = order

    def leave(self, order: Seen) -> None:
        """Out of its queue and of the orders that are open."""
        del self.orders[order.id]
        if order is self.incoming:
            self.incoming = None
            return
        levels = self.levels[order.instrument, order.side]
        levels[order.price].remove(order)
        if not levels[order.price]:
            del levels[order.price]

    def best(self, instrument: int, side: int) -> int | None:
        """Best price of a side."""
        levels = self.levels.get((instrument, side))
        if not levels:
            return None
        return max(levels) if side == r.BUY else min(levels)

    def crossing(self, order: Seen) -> bool:
        """The best opposite price lies within the order's limit."""
        best = self.best(order.instrument, 1 - order.side)
        return best is not None and (order.price >= best if order.side == r.BUY else order.price <= best)

    def maker_fills(self, order_id: int, price: int, quantity: int, leaves: int) -> None:
        """A resting order trades: in its turn, at its price, within the limits."""
        order = self.orders[order_id]
        assert order is not self.incoming, "an incoming order cannot be the maker"
        assert price == order.price, f"dealt at {price}, the listing stands at {order.price} (R8.1)"
        low, high = self.limits.get(order.instrument, (1, 1 << 62))
        assert low <= price <= high, f"dealt at {price}, outside {low} … {high} (R6.1)"
        continuous = self.continuous[order.instrument]
        if continuous or self.best_only:
            assert price == self.best(order.instrument, order.side), "a better price was passed over"
        if continuous:
            first = self.levels[order.instrument, order.side][price][0]
            assert first is order, "an earlier order at the price was passed over"
        assert leaves == order.leaves - quantity >= 0
        assert quantity > 0
        order.leaves = leaves
        if leaves == 0:
            self.leave(order)

    def taker_fills(self, order_id: int, quantity: int, leaves: int) -> None:
        """The command's own order trades."""
        order = self.orders[order_id]
        assert order is self.incoming, "the taker is not the command's order"
        assert leaves == order.leaves - quantity >= 0
        order.leaves = leaves
        if leaves == 0:
            self.leave(order)

    def end_command(self) -> None:
        """What is left of the incoming order rests behind all at its price; no continuous book may be crossed."""
        assert self.maker is None, "a FILL_MAKER without its FILL_TAKER"
        order, self.incoming = self.incoming, None
        if order is None:
            return
        levels = self.levels.setdefault((order.instrument, order.side), {})
        levels.setdefault(order.price, deque()).append(order)
        if self.continuous[order.instrument]:
            assert not self.crossing(order), "the book is crossed"
