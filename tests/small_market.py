"""A small market for tests by hand: orders in words, events as plain tuples. Without accounts unless asked for."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from engine import market as m
from engine import messages as msg
from engine import records as r
from engine.exchange import Exchange
from engine.rules import Rules

KINDS = {
    r.ACCEPTED: "accepted",
    r.REJECTED: "rejected",
    r.FILL_MAKER: "maker",
    r.FILL_TAKER: "taker",
    r.CANCELLED: "cancelled",
    r.REDUCED: "reduced",
    r.REPLACED: "replaced",
    r.MASS_CANCELLED: "mass_cancelled",
}


class Seen(NamedTuple):
    """An event in words."""

    kind: str
    order_id: int
    price: int
    quantity: int
    leaves: int
    reason: int


class SmallMarket:
    """One instrument, ``X``; prices around 1,000; everybody may trade at once."""

    def __init__(
        self,
        rules: Rules | None = None,
        *,
        accounts: int = 4,
        cash: int = 10**12,
        allowances: int = 10**9,
        reference: int = 1_000,
        orders: int = 1_000,
        levels: int = 2_000,
        event_capacity: int = 1 << 12,
        deals: int = 64,
    ) -> None:
        capacity = m.Capacity(
            accounts=accounts, instruments=2, orders=orders, sessions=accounts + 1, levels=levels, deals=deals
        )
        self.exchange = Exchange(rules or Rules.generic(), capacity, event_capacity=event_capacity)
        self.exchange.execute(msg.RollDay(date=20251203))
        self.exchange.execute(msg.ListInstrument(code="X", reference=reference))
        if self.exchange.rules.accounts:
            for account in range(accounts):
                self.exchange.execute(msg.OpenAccount(account=account, name="x"))
                self.exchange.execute(msg.Deposit(account=account, amount=cash, document=f"C{account}"))
                self.exchange.execute(
                    msg.TransferIn(account=account, instrument="X", quantity=allowances, transfer=f"T{account}")
                )

    def send(self, kind: int, *, account: int = 0, **fields: int) -> list[Seen]:
        """One command; its events."""
        return self.send_all([{"kind": kind, "account": account, **fields}])

    def send_all(self, commands: list[dict[str, int]]) -> list[Seen]:
        """Commands as one batch; their events."""
        batch = np.zeros(len(commands), r.COMMAND)
        for record, fields in zip(batch, commands, strict=True):
            for name, value in fields.items():
                record[name] = value
        events = self.exchange.submit(batch)
        names = ("kind", "order_id", "price", "quantity", "leaves", "reason")
        seen = [Seen(KINDS[k], *rest) for k, *rest in zip(*(events[n].tolist() for n in names), strict=True)]
        self.exchange.check()
        return seen

    def order(self, side: int, price: int, quantity: int, account: int = 0, order_type: int = r.LIMIT) -> list[Seen]:
        return self.send(r.NEW, account=account, side=side, price=price, quantity=quantity, order_type=order_type)

    def buy(self, price: int, quantity: int, account: int = 0, order_type: int = r.LIMIT) -> list[Seen]:
        """A buy order; its events, the first of which tells its id."""
        return self.order(r.BUY, price, quantity, account, order_type)

    def sell(self, price: int, quantity: int, account: int = 1, order_type: int = r.LIMIT) -> list[Seen]:
        """A sell order; its events."""
        return self.order(r.SELL, price, quantity, account, order_type)

    def cancel(self, order_id: int, account: int = 0) -> list[Seen]:
        return self.send(r.CANCEL, account=account, order_id=order_id)

    def bids(self) -> list[tuple[int, int, int]]:
        """(price, quantity, orders) from the best bid on."""
        return [tuple(level) for level in self.exchange.depth("X", 100).bids]

    def asks(self) -> list[tuple[int, int, int]]:
        """(price, quantity, orders) from the best offer on."""
        return [tuple(level) for level in self.exchange.depth("X", 100).asks]


def with_accounts(**changes: object) -> Rules:
    """Generic rules with cash, holdings and self-trade prevention."""
    return msgspec.structs.replace(Rules.generic(accounts=True), self_trade_prevention=True, **changes)


def of_kind(events: list[Seen], kind: str) -> list[Seen]:
    """The events of one kind."""
    return [event for event in events if event.kind == kind]
