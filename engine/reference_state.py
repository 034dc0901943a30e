"""What the naive reference remembers: accounts, holdings, instruments, orders and one book side.

Plain dataclasses with Python integers. Field names are those of the dtypes in ``engine.market``, so that both
states can be compared field by field; nothing else is shared with the kernel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from sortedcontainers import SortedDict

from engine import market as m
from engine.records import BUY


@dataclass(slots=True)
class Account:
    """Cash of one account (R5.6), fen; as ``market.ACCOUNT``."""

    available: int = 0
    locked: int = 0
    proceeds_today: int = 0
    fees_today: int = 0
    open_orders: int = 0
    open_orders_max: int = 0
    status: int = m.NOT_OPENED
    self_trade: int = m.CANCEL_INCOMING
    group: int = 0


@dataclass(slots=True)
class Holding:
    """Allowances of one account in one vintage (R5.6), tonnes; as ``market.HOLDING``."""

    sellable: int = 0
    bought_today: int = 0
    locked: int = 0
    in_transfer: int = 0
    buy_open: int = 0
    sold_today: int = 0
    position_max: int = m.UNLIMITED
    sell_max: int = m.UNLIMITED

    def position(self) -> int:
        """All that is held and all that open buys could add (R14.1)."""
        return self.sellable + self.bought_today + self.locked + self.in_transfer + self.buy_open


@dataclass(slots=True)
class Instrument:
    """One vintage: its limits, sizes and the day's statistics; as ``market.INSTRUMENT``."""

    reference: int = 0
    limit_low: int = 0
    limit_high: int = 0
    band_base: int = 0
    tick: int = 1
    lot: int = 1
    quantity_min: int = 1
    quantity_max: int = 0
    open: int = 0
    high: int = 0
    low: int = 0
    last: int = 0
    volume: int = 0
    amount: int = 0
    deals: int = 0
    close: int = 0
    bulk_volume: int = 0
    bulk_amount: int = 0
    auction_volume: int = 0
    auction_amount: int = 0
    weight: int = 0
    bulk_low: int = 0
    bulk_high: int = 0
    n_levels: int = 0
    best_levels: int = 0
    listed: int = 0
    halted: int = 0
    policy: int = m.CONTINUOUS
    reach: int = m.BEST_LEVEL
    listed_from: int = 0
    code: bytes = b""

    def lowest(self) -> int:
        """The lowest price that an order may have: the day's limit, or the band's edge without limits."""
        return self.limit_low

    def highest(self) -> int:
        """The highest price that an order may have."""
        return self.limit_high


@dataclass(slots=True)
class Order:
    """An accepted order. ``quantity`` is the total: ``filled + leaves``."""

    slot: int
    generation: int
    account: int
    session: int
    instrument: int
    side: int
    price: int
    leaves: int
    post_only: bool = False
    filled: int = 0
    filled_amount: int = 0

    @property
    def id(self) -> int:
        return self.generation << 32 | self.slot

    def crosses(self, opposite_price: int) -> bool:
        """True when this order may trade at ``opposite_price``."""
        return self.price >= opposite_price if self.side == BUY else self.price <= opposite_price


class Side:
    """One side of one book: price → orders in time order; the best price comes first."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.levels: Any = SortedDict((lambda price: -price) if side == BUY else (lambda price: price))

    def add(self, order: Order) -> None:
        """Behind all orders at its price (R8.1)."""
        self.levels.setdefault(order.price, deque()).append(order)

    def remove(self, order: Order) -> None:
        """Out of its level; a level without orders is gone."""
        queue = self.levels[order.price]
        queue.remove(order)
        if not queue:
            del self.levels[order.price]

    def best_price(self) -> int | None:
        """Price of the best level, None when the side is empty."""
        return self.levels.peekitem(0)[0] if self.levels else None

    def __iter__(self) -> Iterator[tuple[int, deque[Order]]]:
        """(price, orders) from the best level on."""
        return iter(list(self.levels.items()))


class Slots:
    """Order slots and generations, because order ids are visible: last freed, first used."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.free: list[int] = []
        self.used = 0
        self.generation: dict[int, int] = {}
        self.orders: dict[int, Order] = {}

    def full(self) -> bool:
        """True when every slot holds an open order."""
        return len(self.orders) == self.capacity

    def take(self) -> tuple[int, int]:
        """(slot, generation) of the next order; the first slot is 1."""
        if self.free:
            slot = self.free.pop()
        else:
            self.used += 1
            slot = self.used
        return slot, self.generation.setdefault(slot, 0)

    def give_back(self, order: Order) -> None:
        """The order is over: its id never comes back."""
        del self.orders[order.slot]
        self.free.append(order.slot)
        self.generation[order.slot] += 1

    def find(self, order_id: int) -> Order | None:
        """The open order with that id."""
        order = self.orders.get(order_id & 0xFFFFFFFF)
        return order if order is not None and order.id == order_id else None

    def in_slot_order(self) -> list[Order]:
        """All open orders by rising slot."""
        return [self.orders[slot] for slot in sorted(self.orders)]


def load(state: Any, record: np.void) -> None:
    """Copies the fields that ``state`` has from a record of its dtype."""
    for field in fields(state):
        value = record[field.name]
        setattr(state, field.name, bytes(value) if isinstance(value, bytes) else int(value))


def store(state: Any, record: np.void) -> None:
    """Copies all fields of ``state`` into a record of its dtype."""
    for field in fields(state):
        record[field.name] = getattr(state, field.name)
