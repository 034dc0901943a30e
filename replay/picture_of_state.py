"""What an engine holds at a moment, as plain values: books, day statistics, accounts, desk."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.calendar import format_time
from engine.exchange import Exchange
from engine.market import NOT_OPENED

BUCKETS = ("sellable", "bought_today", "locked", "in_transfer")
STATISTICS = ("reference", "limit_low", "limit_high", "open", "high", "low", "last", "volume", "amount", "deals")


def state_view(exchange: Exchange, levels: int = 5, account: int | None = None) -> dict[str, Any]:
    """Prices in fen, quantities in tonnes. ``account``: only this one; else all that hold something."""
    market, head = exchange.market, exchange.market.market[0]
    return {
        "seq": int(head["seq"]),
        "date": int(head["date"]),
        "time": format_time(int(head["time_ns"])),
        "state_hash": f"{exchange.state_hash():016x}",
        "composite": {n: int(head[f"composite_{n}"]) for n in ("open", "high", "low", "last", "previous")},
        "books": {
            code: _book(exchange, code, levels) for code, i in market.codes.items() if market.instruments[i]["listed"]
        },
        "accounts": _accounts(exchange, account),
        "desk": _desk(exchange),
    }


def _book(exchange: Exchange, code: str, levels: int) -> dict[str, Any]:
    row, depth = exchange.market.instruments[exchange.market.codes[code]], exchange.depth(code, levels)
    return {
        **{name: int(row[name]) for name in STATISTICS},
        "bids": [tuple(level) for level in depth.bids],
        "asks": [tuple(level) for level in depth.asks],
    }


def _accounts(exchange: Exchange, only: int | None) -> list[dict[str, Any]]:
    market = exchange.market
    opened = np.flatnonzero(market.accounts["status"] != NOT_OPENED)
    found = []
    for account in opened.tolist():
        row = market.accounts[account]
        holdings = {
            code: {name: int(market.holdings[account, i][name]) for name in BUCKETS}
            for code, i in market.codes.items()
            if any(market.holdings[account, i][name] for name in BUCKETS)
        }
        if only is not None and account != only:
            continue
        if only is None and not (holdings or row["available"] or row["locked"]):
            continue
        found.append(
            {
                "account": account,
                "available": int(row["available"]),
                "locked": int(row["locked"]),
                "withdrawable": market.withdrawable(account),
                "open_orders": int(row["open_orders"]),
                "holdings": holdings,
            }
        )
    return found


def _desk(exchange: Exchange) -> dict[str, Any]:
    market = exchange.market
    declarations = [
        {
            "declaration": d.number,
            "maker": d.maker,
            "side": ("buy", "sell")[d.side],
            "instrument": market.code_of(d.instrument),
            "price": d.price,
            "open": d.quantity,
            "dialogues": len(d.threads),
        }
        for d in exchange.desk.declarations.values()
    ]
    return {"frozen": exchange.desk.frozen, "declarations": declarations, "dialogues": len(exchange.desk.threads)}
