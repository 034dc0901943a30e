"""Who gets what in a one-way auction (R10.2, R10.5, E9), and booking all of it at once.

``allocate`` is the rule: bids by price, then time, filled in that order until the offer is used up; the marginal
bid may be filled in part. ``settle`` books the deals out of the locks of all bids and of the seller in a few
passes over arrays: the same result as one :meth:`Market.settle_deal` per winner (a test compares the bytes), at
a hundredth of the time, because an auction may have 100,000 bids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from engine.bulk_records import Hold
from engine.market import AUCTION, Market
from engine.prices import fee_fen

PRODUCT_MAX: Final = (1 << 63) - 1 - 1_000_000  # int64, less what rounding adds


class Bid(msgspec.Struct, array_like=True, gc=False):
    """An open bid. ``seq`` is the command's that placed or last raised it: its time priority."""

    number: int
    account: int
    price: int
    quantity: int
    seq: int
    hold: Hold = msgspec.field(default_factory=Hold)


# What a winner gets: its bid, tonnes, price. A bare tuple, because an auction makes 100,000 of them.
Award = tuple[Bid, int, int]


class Booked(NamedTuple):
    """The deals' totals: first number of the day, amount, seller's fee, and each award's (amount, buyer's fee)."""

    first: int
    amount: int
    seller_fee: int
    each: list[tuple[int, int]]


def allocate(bids: Sequence[Bid], offered: int, *, uniform: bool) -> list[Award]:
    """The winners in rank order. uniform: all pay the lowest winning bid; else each pays its own (R10.2)."""
    ranks = np.lexsort((_column([b.seq for b in bids]), _column([-b.price for b in bids])))
    wanted = _column([b.quantity for b in bids])[ranks]
    if len(bids) and len(bids) * int(wanted.max()) > PRODUCT_MAX:
        wanted = wanted.astype(object)  # sums in Python's integers
    left = offered - (np.cumsum(wanted) - wanted)  # before each rank
    filled = np.minimum(wanted, left)[left > 0].tolist()
    winners = [bids[rank] for rank in ranks[: len(filled)].tolist()]
    if uniform:
        lowest = winners[-1].price if winners else 0
        return [(bid, t, lowest) for bid, t in zip(winners, filled, strict=True)]
    return [(bid, t, bid.price) for bid, t in zip(winners, filled, strict=True)]


def fees(amounts: np.ndarray, rate_ppm: int) -> np.ndarray:
    """:func:`engine.prices.fee_fen` of each amount (int64, fen); in Python where int64 would not hold the product."""
    if rate_ppm == 0 or not len(amounts):
        return np.zeros(len(amounts), np.int64)
    if int(amounts.max()) <= PRODUCT_MAX // (2 * rate_ppm):
        return (2 * amounts * rate_ppm + 1_000_000) // 2_000_000
    return _column([fee_fen(amount, rate_ppm) for amount in amounts.tolist()])


def settle(
    market: Market, instrument: int, seller: int, bids: Sequence[Bid], awards: list[Award], seq: int, time_ns: int
) -> Booked:
    """Books the awards and empties every bid's hold; the seller's rest stays locked for the caller to release."""
    m = market.market[0]
    quantity = _column([filled for _, filled, _ in awards])
    amount = _column([price for _, _, price in awards]) * quantity  # each is below AMOUNT_MAX_FEN: its bid was locked
    trading, settlement = fees(amount, int(m["trading_ppm"])), fees(amount, int(m["settlement_ppm"]))
    fee = trading + settlement
    seller_fee = np.minimum(fee, amount)
    seller_trading = np.minimum(trading, seller_fee)
    sold, amount_total, seller_fee_total = _sum(quantity), _sum(amount), _sum(seller_fee)
    if m["accounts_on"]:
        _move_buyers(market, instrument, bids, awards, quantity, amount, fee)
        s, hs = market.accounts[seller], market.holdings[seller, instrument]
        assert hs["locked"] >= sold, "the auction is not covered by the seller's lock"
        hs["locked"] -= sold
        hs["sold_today"] += sold
        s["available"] += amount_total - seller_fee_total
        s["proceeds_today"] += amount_total - seller_fee_total
        s["fees_today"] += seller_fee_total
        m["trading_fees"] += _sum(trading) + _sum(seller_trading)
        m["settlement_fees"] += _sum(settlement) + seller_fee_total - _sum(seller_trading)
    for bid in bids:
        bid.hold.quantity = bid.hold.cash = 0
    row = market.instruments[instrument]
    row["auction_volume"] += sold
    row["auction_amount"] += amount_total
    first = _record(market, instrument, seller, awards, quantity, fee, seller_fee, (seq, time_ns))
    return Booked(first, amount_total, seller_fee_total, list(zip(amount.tolist(), fee.tolist(), strict=True)))


def _move_buyers(
    market: Market,
    instrument: int,
    bids: Sequence[Bid],
    awards: list[Award],
    quantity: np.ndarray,
    amount: np.ndarray,
    fee: np.ndarray,
) -> None:
    """All bids give back their locks; winners pay out of them and receive (T+1, D20)."""
    accounts, holdings = market.accounts, market.holdings[:, instrument]
    who = _column([b.account for b in bids])
    cash = _column([b.hold.cash for b in bids])
    np.subtract.at(accounts["locked"], who, cash)
    np.add.at(accounts["available"], who, cash)
    np.subtract.at(holdings["buy_open"], who, _column([b.hold.quantity for b in bids]))
    winners = _column([bid.account for bid, _, _ in awards])
    covered = _column([bid.hold.cash for bid, _, _ in awards]) >= amount + fee
    assert covered.all(), "a winner's lock does not cover its deal"
    np.subtract.at(accounts["available"], winners, amount + fee)
    np.add.at(accounts["fees_today"], winners, fee)
    np.add.at(holdings["bought_today" if market.market[0]["t_plus_one"] else "sellable"], winners, quantity)


def _record(
    market: Market,
    instrument: int,
    seller: int,
    awards: list[Award],
    quantity: np.ndarray,
    fee: np.ndarray,
    seller_fee: np.ndarray,
    when: tuple[int, int],
) -> int:
    """Appends the deals to the day's table. Returns the first one's number."""
    m, n = market.market[0], len(awards)
    start = int(m["deals"])
    while start + n > m["deals_capacity"]:
        market.grow_deals()
    rows = market.deals[start : start + n]
    rows["seq"], rows["time_ns"] = when
    rows["price"] = [price for _, _, price in awards]
    rows["quantity"], rows["buyer_fee"], rows["seller_fee"] = quantity, fee, seller_fee
    rows["buyer"] = [bid.account for bid, _, _ in awards]
    rows["seller"], rows["instrument"], rows["method"], rows["flags"] = seller, instrument, AUCTION, 0
    rows["number"] = np.arange(start + 1, start + n + 1)
    m["deals"] += n
    return start + 1


def _column(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def _sum(column: np.ndarray) -> int:
    """In Python integers: a total may be beyond int64 on its way."""
    return sum(column.tolist())
