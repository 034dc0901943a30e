"""Two Python engines from the package index behind one small port; run as a script by benchmarks/peers.py.

It imports nothing of this project, so that it runs in an environment that holds only the peer. Input (stdin): JSON
rows [op, order_id, side, price, qty] of new orders (0) and cancels (1). Output: one JSON object.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

NEW = 0
BUY = 0
Fill = Callable[[int], None]


def order_matching(on_fill: Fill) -> Callable[[int, int, int, int, int], None]:
    """The `order-matching` package: one `place` and `match` per order, as its documentation does."""
    import loguru
    from order_matching.enums import Side
    from order_matching.matching_engine import MatchingEngine
    from order_matching.order import LimitOrder
    from order_matching.orders import Orders

    loguru.logger.remove()
    engine = MatchingEngine(seed=1)
    now = datetime(2026, 1, 5, 9, 30)
    step = timedelta(microseconds=1)

    def apply(op: int, order_id: int, side: int, price: int, qty: int) -> None:
        nonlocal now
        now += step
        if op == NEW:
            order = LimitOrder(
                side=Side.BUY if side == BUY else Side.SELL,
                price=float(price),
                size=float(qty),
                timestamp=now,
                order_id=str(order_id),
                trader_id="t",
            )
            engine.place(Orders([order]))
            for trade in engine.match(timestamp=now).trades:
                on_fill(int(trade.size))
        elif engine.unprocessed_orders.find_order_by_id(str(order_id)) is not None:
            engine.cancel_order(str(order_id))

    return apply


def pyorderbook(on_fill: Fill) -> Callable[[int, int, int, int, int], None]:
    """The `pyorderbook` package; it names orders itself, so ids are mapped to its objects."""
    from pyorderbook import Book, ask, bid

    logging.disable(logging.CRITICAL)
    book = Book()
    orders: dict[int, Any] = {}

    def apply(op: int, order_id: int, side: int, price: int, qty: int) -> None:
        if op == NEW:
            order = (bid if side == BUY else ask)("X", price, qty)
            orders[order_id] = order
            for trade in book.match(order).trades:
                on_fill(trade.fill_quantity)
        elif order_id in orders and orders[order_id].id in book.order_map:
            book.cancel(orders[order_id])

    return apply


ENGINES = {"order-matching": order_matching, "pyorderbook": pyorderbook}


def main(name: str) -> dict[str, Any]:
    """Apply the rows on stdin; what was measured, or why not."""
    rows = json.load(sys.stdin)
    fills: list[int] = []
    try:
        apply = ENGINES[name](fills.append)
    except ImportError as error:
        return {"skipped": f"not installed in {sys.executable}: {error}"}
    start = time.perf_counter()
    for row in rows:
        apply(*row)
    seconds = time.perf_counter() - start
    version = importlib.metadata.version(name)
    return {"version": version, "seconds": seconds, "trades": len(fills), "volume": sum(fills)}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
