"""The day's deals as the exchange hands them to the registry: one 96-byte record a deal.

DEAL::

    deal_id 0 (u64)   trading date YYYYMMDD x 10^9 + the deal's number of the day, from 1
    seq 8 (u64)       sequence number of the command that made the deal
    time_ns 16 (i64)  ns UTC          price_fen 24 (i64)      quantity_t 32 (i64)   amount_fen 40 (i64)
    buyer_fee_fen 48 (i64)            seller_fee_fen 56 (i64)
    date 64 (u32)     YYYYMMDD        buyer 68 (u32)          seller 72 (u32)       exchange account ids
    instrument 76 (16 ASCII bytes)    method 92 (u8)          reserved 93 (3 bytes, zero)

The bytes are little-endian and without padding, so that both sides of R12.3 hash the same thing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.market import AUCTION, BULK, DEAL_CANCELLED, LISTED

Deals = npt.NDArray[Any]  # a structured array of DEAL

DEAL: Final = np.dtype(
    [
        ("deal_id", "<u8"),
        ("seq", "<u8"),
        ("time_ns", "<i8"),
        ("price_fen", "<i8"),
        ("quantity_t", "<i8"),
        ("amount_fen", "<i8"),
        ("buyer_fee_fen", "<i8"),
        ("seller_fee_fen", "<i8"),
        ("date", "<u4"),
        ("buyer", "<u4"),
        ("seller", "<u4"),
        ("instrument", "S16"),
        ("method", "u1"),
        ("reserved", "u1", (3,)),
    ]
)
assert DEAL.itemsize == 96

METHODS: Final = {LISTED: "listed", BULK: "bulk", AUCTION: "auction"}

# A day's deal numbers have nine digits: a billion deals a day, where the real market makes about 300.
DEALS_PER_DAY_MAX: Final = 10**9 - 1


def deal_id(date: int, number: int) -> int:
    """The id of the ``number``-th deal of trading date ``date`` (YYYYMMDD)."""
    assert 1 <= number <= DEALS_PER_DAY_MAX
    return date * (DEALS_PER_DAY_MAX + 1) + number


def date_of(deal: int) -> int:
    """The trading date (YYYYMMDD) inside a deal's id."""
    return deal // (DEALS_PER_DAY_MAX + 1)


def from_market(date: int, deals: npt.NDArray[Any], codes: Sequence[str]) -> Deals:
    """The engine's table of the day's deals (``engine.market.DEAL``) as records of this file. ``codes``: the
    instrument codes by index. A deal that was cancelled before clearing is left out (D28)."""
    kept = deals[(deals["flags"] & DEAL_CANCELLED) == 0]
    day = np.zeros(len(kept), dtype=DEAL)
    day["deal_id"] = kept["number"].astype(np.uint64) + np.uint64(date * (DEALS_PER_DAY_MAX + 1))
    day["amount_fen"] = kept["price"] * kept["quantity"]
    day["date"] = date
    day["instrument"] = np.array([code.encode("ascii") for code in codes], dtype="S16")[kept["instrument"]]
    same = ("seq", "time_ns", "buyer", "seller", "method")
    renamed = (("price_fen", "price"), ("quantity_t", "quantity"))
    fees = (("buyer_fee_fen", "buyer_fee"), ("seller_fee_fen", "seller_fee"))
    for mine, theirs in (*((name, name) for name in same), *renamed, *fees):
        day[mine] = kept[theirs]
    return day


def faults(deals: Deals, date: int, after: int = 0) -> list[str]:
    """What is wrong with a block of deals of one day; empty if nothing. ``after`` is the id before the block.

    A deal must be of the day, in rising order of id, between two accounts, with amount = price x quantity
    (R1.2) and no fee below zero or, for the seller, above the proceeds (D16).
    """
    found: list[str] = []

    def report(bad: npt.NDArray[np.bool_], text: str) -> None:
        where = np.flatnonzero(bad)
        if len(where):
            found.append(f"{text}: {len(where)} deals, first {int(deals['deal_id'][where[0]])}")

    ids = deals["deal_id"]
    report(np.diff(ids.astype(np.int64), prepend=after) <= 0, "deal_id does not rise")
    report(ids // (DEALS_PER_DAY_MAX + 1) != date, f"deal_id is not of {date}")
    report(deals["date"] != date, f"date is not {date}")
    report(deals["quantity_t"] <= 0, "quantity_t is not positive")
    report(deals["price_fen"] <= 0, "price_fen is not positive")
    report(deals["amount_fen"] != deals["price_fen"] * deals["quantity_t"], "amount_fen is not price x quantity")
    report(deals["buyer"] == deals["seller"], "buyer is seller")
    report((deals["buyer_fee_fen"] < 0) | (deals["seller_fee_fen"] < 0), "a fee is below zero")
    report(deals["seller_fee_fen"] > deals["amount_fen"], "seller_fee_fen exceeds the proceeds")
    report(~np.isin(deals["method"], list(METHODS)), "method is unknown")
    return found


class DealsHash:
    """BLAKE2b-256 over the records of a day's deals, block by block."""

    def __init__(self, date: int) -> None:
        self._hash = hashlib.blake2b(f"deals {date}".encode(), digest_size=32)

    def add(self, deals: Deals) -> None:
        assert deals.dtype == DEAL
        self._hash.update(np.ascontiguousarray(deals).tobytes())

    def digest(self) -> bytes:
        return self._hash.digest()
