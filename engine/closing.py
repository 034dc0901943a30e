"""The close of the day: closing prices, the composite's close, the day's result (R6.4, R6.6, R7.4, R11.1)."""

from __future__ import annotations

from typing import Any

from engine import messages as msg
from engine.market import AUCTION, BULK, DEAL_CANCELLED, LISTED, Market
from engine.prices import change_bp, closing_price, composite_price


def close_market(market: Market, lapsed_orders: int) -> msg.DayClosed:
    """Sets every vintage's close and the composite's, marks the day closed, and returns its result."""
    market.market[0]["day_closed"] = 1
    composite_on_close(market)
    return day_result(market, lapsed_orders)


def composite_on_close(market: Market) -> None:
    """Closes from volume-weighted averages (R6.4), then the composite from the closes (R7.4, D19)."""
    m, rows = market.market[0], market.instruments
    listed = [i for i in market.codes.values() if rows[i]["listed"]]
    for i in listed:
        rows[i]["close"] = closing_price(int(rows[i]["amount"]), int(rows[i]["volume"]), int(rows[i]["reference"]))
    weighted = [i for i in listed if rows[i]["weight"]]
    if not weighted:
        return
    if not any(rows[i]["deals"] for i in listed):  # no deal of any vintage: the day stands at the previous close
        for name in ("composite_open", "composite_high", "composite_low", "composite_close"):
            m[name] = m["composite_previous"]
        return
    close = composite_price([int(rows[i]["close"]) for i in weighted], [int(rows[i]["weight"]) for i in weighted])
    m["composite_close"] = close
    if m["date"] >= market.rules.composite_close_in_range_from:
        m["composite_high"] = max(int(m["composite_high"]), close)
        m["composite_low"] = min(int(m["composite_low"]), close)


def day_result(market: Market, lapsed_orders: int) -> msg.DayClosed:
    """The day's figures as they stand in the tables (after the close)."""
    m, rows = market.market[0], market.instruments
    vintages = []
    for code, i in market.codes.items():
        row = rows[i]
        if not row["listed"]:
            continue
        previous, close = int(row["reference"]), int(row["close"])
        vintages.append(
            msg.VintageClose(
                code=code,
                open=int(row["open"]) or previous,  # R6.3
                high=int(row["high"]),
                low=int(row["low"]),
                close=close,
                previous=previous,
                change_bp=change_bp(close, previous),
                volume=int(row["volume"]),
                amount=int(row["amount"]),
                deals=int(row["deals"]),
                bulk_volume=int(row["bulk_volume"]),
                bulk_amount=int(row["bulk_amount"]),
                auction_volume=int(row["auction_volume"]),
                auction_amount=int(row["auction_amount"]),
                limit_low=int(row["limit_low"]),
                limit_high=int(row["limit_high"]),
            )
        )
    composite, before = int(m["composite_close"]), int(m["composite_previous"])
    return msg.DayClosed(
        date=int(m["date"]),
        composite_open=int(m["composite_open"]),
        composite_high=int(m["composite_high"]),
        composite_low=int(m["composite_low"]),
        composite_close=composite,
        composite_previous=before,
        composite_change_bp=change_bp(composite, before) if before else 0,
        vintages=tuple(vintages),
        lapsed_orders=lapsed_orders,
    )


def rebuild_statistics(market: Market) -> None:
    """Recomputes the day's statistics from the deals that still stand, after one was taken back (D28)."""
    m, rows = market.market[0], market.instruments
    for name in ("open", "high", "low", "volume", "amount", "deals"):
        rows[name] = 0
    for name in ("bulk_volume", "bulk_amount", "auction_volume", "auction_amount"):
        rows[name] = 0
    rows["last"] = rows["reference"]
    for name in ("composite_open", "composite_high", "composite_low"):
        m[name] = 0
    m["composite_last"] = m["composite_previous"]
    market.start_composite(int(m["date"]) or market.rules.limits[-1].from_date)
    for deal in market.deals[: int(m["deals"])]:
        if deal["flags"] & DEAL_CANCELLED:
            continue
        row, price, quantity = rows[deal["instrument"]], int(deal["price"]), int(deal["quantity"])
        if deal["method"] in (BULK, AUCTION):
            word = "bulk" if deal["method"] == BULK else "auction"
            row[f"{word}_volume"] += quantity
            row[f"{word}_amount"] += price * quantity
            continue
        assert deal["method"] == LISTED
        _add_listed_deal(market, row, price, quantity)


def _add_listed_deal(market: Market, row: Any, price: int, quantity: int) -> None:
    m = market.market[0]
    first = row["deals"] == 0
    m["composite_sum"] += row["weight"] * (price - row["last"])
    row["open"] = price if first else row["open"]
    row["high"] = price if first else max(int(row["high"]), price)
    row["low"] = price if first else min(int(row["low"]), price)
    row["last"] = price
    row["volume"] += quantity
    row["amount"] += price * quantity
    row["deals"] += 1
    weight, total = int(m["composite_weight"]), int(m["composite_sum"])
    if weight:
        last = (2 * total + weight) // (2 * weight)
        start = m["composite_open"] == 0
        m["composite_last"] = last
        m["composite_open"] = last if start else m["composite_open"]
        m["composite_high"] = last if start else max(int(m["composite_high"]), last)
        m["composite_low"] = last if start else min(int(m["composite_low"]), last)
