"""Each deal's fees in two parts: the exchange's (trading) and the registry institution's (settlement), R5.7.

The exchange rounds both fees on an order's running total (D16) and keeps, per deal and side, their sum; what it has
charged of each in all it says at the day's end. So the registry divides: deal after deal, buyer before seller, the
trading part of everything so far is the total's share, rounded half up. The parts of a deal add up to its fee, the
parts of all deals to the two totals, to the fen, and each part lies less than one fen from its exact share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection

from settlement import schema, store
from settlement.deals import DEALS_PER_DAY_MAX

_BLOCK: Final = 100_000  # deals that are divided at a time
_COLUMNS: Final = ("deal_id", "buyer_trading_fen", "seller_trading_fen", "batch")
# A deal's fees are collected once it has settled; what is held or reversed has none.
_OPEN: Final = (
    "FROM deal d WHERE d.deal_id > ? AND d.deal_id < ? AND d.buyer_fee_fen + d.seller_fee_fen > 0 "
    "AND NOT EXISTS (SELECT 1 FROM deal_fee f WHERE f.deal_id = d.deal_id) "
    "AND NOT EXISTS (SELECT 1 FROM held_deal h WHERE h.deal_id = d.deal_id AND h.state <> 'settled')"
)


@dataclass(frozen=True, slots=True)
class DealFees:
    """One side's fees of one deal, in fen."""

    deal_id: int
    account: int
    side: str
    trading_fen: int
    settlement_fen: int


def trading_parts(fees_fen: Iterable[int], trading_fen: int, total_fen: int, before_fen: int = 0) -> list[int]:
    """Of each fee the trading part, where ``trading_fen`` of ``total_fen`` are trading fees and ``before_fen`` were
    divided before these. Exact: whole numbers only."""
    reached = accumulate(fees_fen, initial=before_fen)
    marks = [(2 * fen * trading_fen + total_fen) // (2 * total_fen) for fen in reached]
    return [mark - last for last, mark in pairwise(marks)]


def open_deals(connection: Connection, date: int, total_fen: int) -> tuple[int, int] | None:
    """(id before the first, how many) of the settled deals up to ``date`` whose fees are not divided yet and add up to
    ``total_fen``. None where no such stretch does: the registry is older than this division."""
    end = (date + 1) * (DEALS_PER_DAY_MAX + 1)
    late = (
        "SELECT min(h.deal_id) FROM held_deal h WHERE h.state = 'settled' "
        "AND NOT EXISTS (SELECT 1 FROM deal_fee f WHERE f.deal_id = h.deal_id)"
    )
    last = store.fetch_rows(connection, "SELECT max(deal_id) FROM deal_fee", ())[0][0] or 0
    held = store.fetch_rows(connection, late, ())[0][0]
    for after in (last if held is None else min(last, held - 1), date * (DEALS_PER_DAY_MAX + 1)):
        count, fen = store.fetch_rows(
            connection, f"SELECT count(*), sum(d.buyer_fee_fen + d.seller_fee_fen) {_OPEN}", (after, end)
        )[0]
        if count and int(fen) == total_fen:
            return after, int(count)
    return None


def divide(connection: Connection, after: int, date: int, trading_fen: int, total_fen: int, batch: int) -> None:
    """Write the parts of every deal that ``open_deals`` has found, block by block."""
    query = f"SELECT d.deal_id, d.buyer_fee_fen, d.seller_fee_fen {_OPEN} ORDER BY d.deal_id LIMIT {_BLOCK}"
    end, before = (date + 1) * (DEALS_PER_DAY_MAX + 1), 0
    while rows := store.fetch_rows(connection, query, (after, end)):
        after = rows[-1][0]
        fees = [fee for row in rows for fee in row[1:]]
        parts = np.array(trading_parts(fees, trading_fen, total_fen, before), dtype=np.int64)
        before += sum(fees)
        columns = (np.array([row[0] for row in rows], dtype=np.int64), parts[0::2], parts[1::2], batch)
        store.insert_columns(connection, schema.deal_fee, dict(zip(_COLUMNS, columns, strict=True)))
    assert before == total_fen, "the fees of the open deals have changed in between"


def fault(rows: Iterable[tuple[int, int, int, int, int]], trading_fen: int, settlement_fen: int) -> str:
    """What is wrong with the division of one batch: rows of (deal, buyer's fee, seller's fee, their trading parts) in
    order of deals. Empty if nothing. Keeps no rows."""
    total, before, deals = trading_fen + settlement_fen, 0, 0
    for deal, *terms in rows:
        wanted = trading_parts(terms[:2], trading_fen, total, before)
        if terms[2:] != wanted:
            return f"deal {deal}: {terms[2]} and {terms[3]} fen are trading fees, not {wanted[0]} and {wanted[1]}"
        before += terms[0] + terms[1]
        deals += 1
    return "" if before == total else f"{deals} deals have {before} fen of fees, {total} were split"


def of_day(connection: Connection, date: int) -> Iterator[DealFees]:
    """Every divided fee of a day's deals, in order."""
    query = (
        "SELECT d.deal_id, d.buyer, d.seller, d.buyer_fee_fen, d.seller_fee_fen, f.buyer_trading_fen, "
        "f.seller_trading_fen FROM deal d JOIN deal_fee f ON f.deal_id = d.deal_id "
        "WHERE d.deal_id > ? AND d.deal_id < ? ORDER BY d.deal_id"
    )
    first = date * (DEALS_PER_DAY_MAX + 1)
    rows: list[Any] = store.fetch_rows(connection, query, (first, first + DEALS_PER_DAY_MAX + 1))
    for deal, buyer, seller, buyer_fee, seller_fee, buyer_part, seller_part in rows:
        if buyer_fee:
            yield DealFees(deal, buyer, "buyer", buyer_part, buyer_fee - buyer_part)
        if seller_fee:
            yield DealFees(deal, seller, "seller", seller_part, seller_fee - seller_part)
