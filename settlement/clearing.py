"""Clearing: trade by trade, gross, per trader (逐笔全额清算, R12.2), and the comparison of both sides (R12.3).

The exchange and the registry each compute a ``Summary`` from their own records; ``differences`` names every
field that is not equal. Nothing is netted: the sums are for statements and comparison, delivery is per deal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from settlement.deals import Deals, DealsHash


@dataclass(frozen=True, slots=True)
class Summary:
    """What both institutions compare: counts, sums and the hash of the day's deals (``digest``: hex)."""

    date: int
    deals: int
    quantity_t: int
    amount_fen: int
    fees_fen: int
    digest: str


@dataclass(slots=True)
class TraderSums:
    """One trader's gross sums in one instrument."""

    deals: int = 0
    bought_t: int = 0
    bought_fen: int = 0
    sold_t: int = 0
    sold_fen: int = 0
    fees_fen: int = 0

    def add(self, other: TraderSums) -> None:
        self.deals += other.deals
        self.bought_t += other.bought_t
        self.bought_fen += other.bought_fen
        self.sold_t += other.sold_t
        self.sold_fen += other.sold_fen
        self.fees_fen += other.fees_fen


class Clearing:
    """Adds up a day's deals, block by block; memory grows with traders, not with deals."""

    def __init__(self, date: int) -> None:
        self.date = date
        self.traders: dict[tuple[int, str], TraderSums] = {}
        self._hash = DealsHash(date)
        self._deals = self._quantity = self._amount = self._fees = 0

    def add(self, deals: Deals) -> None:
        """Add a block of deals, in order of their ids."""
        self._hash.add(deals)
        self._deals += len(deals)
        self._quantity += int(deals["quantity_t"].sum())
        self._amount += int(deals["amount_fen"].sum())
        self._fees += int(deals["buyer_fee_fen"].sum()) + int(deals["seller_fee_fen"].sum())
        for side, fee in (("buyer", "buyer_fee_fen"), ("seller", "seller_fee_fen")):
            for account, code, sums in _grouped(deals, side, fee):
                self.traders.setdefault((account, code), TraderSums()).add(sums)

    def summary(self) -> Summary:
        return Summary(self.date, self._deals, self._quantity, self._amount, self._fees, self._hash.digest().hex())


def _grouped(deals: Deals, side: str, fee: str) -> Iterable[tuple[int, str, TraderSums]]:
    """(account, instrument, sums) of one side of a block."""
    codes, code_index = np.unique(deals["instrument"], return_inverse=True)
    keys = deals[side].astype(np.int64) * len(codes) + code_index
    groups, group_index = np.unique(keys, return_inverse=True)
    counts = np.bincount(group_index, minlength=len(groups))

    def sums(column: str) -> np.ndarray:
        total = np.zeros(len(groups), dtype=np.int64)  # not bincount's weights: those are floats
        np.add.at(total, group_index, deals[column])
        return total

    quantity, amount, fees = sums("quantity_t"), sums("amount_fen"), sums(fee)
    bought = side == "buyer"
    for i, key in enumerate(groups.tolist()):
        q, a = int(quantity[i]), int(amount[i])
        terms = (q, a, 0, 0) if bought else (0, 0, q, a)
        account, code = divmod(key, len(codes))
        yield account, codes[code].decode("ascii"), TraderSums(int(counts[i]), *terms, int(fees[i]))


def summarise(date: int, blocks: Iterable[Deals]) -> Summary:
    """The summary of a day's deals: what the exchange computes on its side."""
    clearing = Clearing(date)
    for block in blocks:
        clearing.add(block)
    return clearing.summary()


def differences(ours: Summary, theirs: Summary) -> list[str]:
    """Every field in which the two sides differ, named with both values; empty means: confirmed."""
    mine: dict[str, Any] = asdict(ours)
    other: dict[str, Any] = asdict(theirs)
    return [
        f"{field}: registry {mine[field]}, exchange {other[field]}" for field in mine if mine[field] != other[field]
    ]
