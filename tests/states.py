"""One plain picture of a market's state, from the kernel's tables or from the naive reference, and its invariants.

Two pictures of equal markets are equal field by field; `differences` names what is not. `check` asserts what must
hold of any picture: conservation, no negative balance, every lock owned by an open order, no crossed book.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from engine import market as m
from engine import records as r
from engine.prices import fee_fen
from engine.reference import ReferenceMarket
from engine.reference_state import Order, store

MARKET_FIELDS = (
    "seq",
    "time_ns",
    "date",
    "morning_open",
    "morning_end",
    "afternoon_open",
    "close",
    "trading_ppm",
    "settlement_ppm",
    "trading_fees",
    "settlement_fees",
    "composite_open",
    "composite_high",
    "composite_low",
    "composite_last",
    "composite_close",
    "composite_previous",
    "halted",
    "cancel_only",
    "day_closed",
    "settled",
)


@dataclass
class State:
    """A market's state in plain values."""

    market: dict[str, int]
    accounts: np.ndarray  # ACCOUNT
    holdings: np.ndarray  # HOLDING, (accounts, instruments)
    instruments: np.ndarray  # INSTRUMENT
    sessions: dict[int, int]  # session → last request_no, where there was one
    deals: np.ndarray  # DEAL, of the day
    books: list[tuple[Any, ...]]  # per instrument and side: ((price, (order, …)), …) from the best level on
    slots: tuple[Any, ...]  # free list (next first), slots used, generations of slots ever used


def of_reference(reference: ReferenceMarket) -> State:
    """The picture of a reference market."""
    capacity = reference.capacity
    accounts = np.zeros(capacity.accounts, m.ACCOUNT)
    for row, account in zip(accounts, reference.accounts, strict=True):
        store(account, row)
    holdings = np.zeros((capacity.accounts, capacity.instruments), m.HOLDING)
    holdings["position_max"] = holdings["sell_max"] = m.UNLIMITED
    for (owner, vintage), holding in reference.holdings.items():
        if owner < capacity.accounts:
            store(holding, holdings[owner, vintage])
    instruments = np.zeros(capacity.instruments, m.INSTRUMENT)
    for row, instrument in zip(instruments, reference.instruments, strict=False):
        store(instrument, row)
    books = []
    for pair in reference.books:
        for side in pair:
            books.append(tuple((price, tuple(_order(order) for order in queue)) for price, queue in side))
    slots = reference.slots
    generations = tuple(slots.generation.get(slot, 0) for slot in range(1, slots.used + 1))
    return State(
        market={name: int(getattr(reference, name)) for name in MARKET_FIELDS} | {"deals": reference.deal_number},
        accounts=accounts,
        holdings=holdings,
        instruments=instruments,
        sessions={s: n for s, n in reference.last_request.items() if n},
        deals=np.array(reference.deals, m.DEAL),
        books=books,
        slots=(tuple(reversed(slots.free)), slots.used, generations),
    )


def _order(order: Order) -> tuple[int, ...]:
    return (
        order.id,
        order.account,
        order.session,
        order.leaves,
        order.filled,
        order.filled_amount,
        int(order.post_only),
    )


def of_market(market: m.Market) -> State:
    """The picture of the kernel's tables, found by walking its lists."""
    from engine.kernel import FLAG_POST_ONLY

    head, book = market.market[0], market.book
    n_instruments = int(head["n_instruments"])
    orders, cold = book.orders, market.cold
    books = []
    for s in range(2 * n_instruments):
        side, row = book.sides[s], market.instruments[s // 2]
        offset, n_levels = int(side["levels_offset"]), int(side["n_levels"])
        levels = book.levels[offset : offset + n_levels]
        found = []
        for level in np.flatnonzero(levels["count"]):
            tick = int(level) if s & 1 else n_levels - 1 - int(level)
            slot, queue = int(levels[level]["head"]), []
            while slot:
                order = orders[slot]
                queue.append(
                    (
                        int(order["generation"]) << 32 | slot,
                        int(order["account"]),
                        int(order["session"]),
                        int(order["leaves"]),
                        int(cold[slot]["filled"]),
                        int(cold[slot]["filled_amount"]),
                        int(order["flags"] & FLAG_POST_ONLY != 0),
                    )
                )
                assert order["instrument"] == s // 2, f"slot {slot} stands in another instrument's book"
                assert order["flags"] & 1 == s & 1, f"slot {slot} stands on the other side"
                slot = int(order["next"])
            found.append((int(row["band_base"]) + tick * int(row["tick"]), tuple(queue)))
        books.append(tuple(found))
    free, slot = [], int(book.pool[0]["free"])
    while slot:
        free.append(slot)
        slot = int(orders[slot]["next"])
    used = int(book.pool[0]["unused"]) - 1
    requests = market.sessions["last_request"]
    return State(
        market={name: int(head[name]) for name in (*MARKET_FIELDS, "deals")},
        accounts=market.accounts.copy(),
        holdings=market.holdings.copy(),
        instruments=market.instruments.copy(),
        sessions={int(s): int(requests[s]) for s in np.flatnonzero(requests)},
        deals=market.deals[: int(head["deals"]) if market.rules.accounts else 0].copy(),
        books=books,
        slots=(tuple(free), used, tuple(int(g) for g in orders["generation"][1 : used + 1])),
    )


def differences(one: State, other: State) -> list[str]:
    """Every field in which two pictures differ, named; empty when they are equal."""
    found: list[str] = []
    for field in fields(State):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            found += _array_differences(field.name, a, b)
        elif isinstance(a, dict):
            found += [f"{field.name}.{k}: {a.get(k)} | {b.get(k)}" for k in sorted({*a, *b}) if a.get(k) != b.get(k)]
        elif a != b:
            found.append(f"{field.name}: {a} | {b}")
    return found


def _array_differences(name: str, a: np.ndarray, b: np.ndarray) -> list[str]:
    if a.shape != b.shape:
        return [f"{name}: {a.shape} rows | {b.shape}"]
    if a.tobytes() == b.tobytes():
        return []
    found = []
    for column in a.dtype.names or ():
        if column.startswith(("reserved", "pad")):
            continue
        for at in np.argwhere((a[column] != b[column]).reshape(a.shape)):
            where = tuple(int(x) for x in at)
            found.append(f"{name}{list(where)}.{column}: {a[column][where]} | {b[column][where]}")
    return found


# --- invariants ---------------------------------------------------------------------------------------------------


def check(state: State, *, accounts_on: bool, listing: bool = False) -> None:
    """Asserts what must hold at any moment (guarantee 3, R8.1, R6.1)."""
    if not listing:
        check_not_crossed(state)
    check_prices(state)
    if accounts_on:
        check_not_negative(state)
        check_locks(state)


def check_not_crossed(state: State) -> None:
    """No continuous book has a best bid at or above its best offer."""
    for i, row in enumerate(state.instruments[: len(state.books) // 2]):
        bids, offers = state.books[2 * i], state.books[2 * i + 1]
        if row["policy"] == m.CONTINUOUS and bids and offers:
            assert bids[0][0] < offers[0][0], f"instrument {i}: bid {bids[0][0]} and offer {offers[0][0]} cross"


def check_prices(state: State) -> None:
    """Every resting order and the day's range lie within the limits (R6.1)."""
    for i, row in enumerate(state.instruments[: len(state.books) // 2]):
        for price, _ in (*state.books[2 * i], *state.books[2 * i + 1]):
            assert row["limit_low"] <= price <= row["limit_high"], f"instrument {i}: an order at {price}"
        if row["deals"]:
            assert row["limit_low"] <= row["low"] <= row["open"] <= row["high"] <= row["limit_high"]
            assert row["low"] <= row["last"] <= row["high"]
            assert row["low"] * row["volume"] <= row["amount"] <= row["high"] * row["volume"]


def check_not_negative(state: State) -> None:
    """Nobody's balance is below zero."""
    for name in ("available", "locked", "proceeds_today", "fees_today"):
        assert (state.accounts[name] >= 0).all(), f"an account's {name} is below zero"
    for name in ("sellable", "bought_today", "locked", "in_transfer", "buy_open", "sold_today"):
        assert (state.holdings[name] >= 0).all(), f"a holding's {name} is below zero"


def check_locks(state: State) -> None:
    """Every locked fen and tonne belongs to one open order, to the fen and tonne (R5.2)."""
    cash: dict[int, int] = {}
    counts: dict[int, int] = {}
    tonnes: dict[tuple[int, int, int], int] = {}
    rates = (state.market["trading_ppm"], state.market["settlement_ppm"])

    def fees(amount: int) -> int:
        return sum(fee_fen(amount, rate) for rate in rates)

    for s, levels in enumerate(state.books):
        for price, queue in levels:
            for _, account, _, leaves, _, filled_amount, _ in queue:
                counts[account] = counts.get(account, 0) + 1
                tonnes[account, s // 2, s & 1] = tonnes.get((account, s // 2, s & 1), 0) + leaves
                if s & 1 == r.BUY:
                    room = fees(filled_amount + price * leaves) - fees(filled_amount)
                    cash[account] = cash.get(account, 0) + price * leaves + room
    for a, row in enumerate(state.accounts):
        assert row["locked"] == cash.get(a, 0), f"account {a} locks {row['locked']} fen, orders hold {cash.get(a, 0)}"
        assert row["open_orders"] == counts.get(a, 0), f"account {a}: open_orders is {row['open_orders']}"
    for (a, i), holding in np.ndenumerate(state.holdings):
        assert holding["locked"] == tonnes.get((a, i, r.SELL), 0), f"account {a} instrument {i}: locked tonnes"
        assert holding["buy_open"] == tonnes.get((a, i, r.BUY), 0), f"account {a} instrument {i}: buy_open"


def total_cash(state: State) -> int:
    """Members' cash and the fees collected, fen."""
    members = sum(int(x) for x in state.accounts["available"]) + sum(int(x) for x in state.accounts["locked"])
    return members + state.market["trading_fees"] + state.market["settlement_fees"]


def total_allowances(state: State) -> list[int]:
    """Allowances in trading accounts, t, per instrument."""
    names = ("sellable", "bought_today", "locked", "in_transfer")
    return [sum(int(column[name].sum()) for name in names) for column in state.holdings.T]
