"""A market maker: keeps a bid and an offer around the last price, moves them, and is out when it stops.

    python examples/market_maker.py MARKET member-1 CEA24 --spread 0.20 --quantity 100 --rounds 20

Cancel-on-disconnect and the dead-man switch make sure that no quote outlives this program.
"""

from __future__ import annotations

import argparse

from gateway.client import Client, Order, price_fen
from gateway.market_data import MarketDataClient


def quote(me: Client, side: str, code: str, price: int, quantity: int, standing: Order | None) -> Order:
    """Moves a standing quote to a price, or makes a new one; post-only, so it never takes."""
    if standing is not None and standing.open:
        if standing.price == price and standing.leaves == quantity:
            return standing
        me.cancel(standing.order_id)
    return me.order(side, code, price, quantity, type="post_only")


def run(where: str, key: str, code: str, spread: int, quantity: int, rounds: int) -> list[Order]:
    """Quotes for some rounds of market data; returns the quotes that it made."""
    made: list[Order] = []
    with (
        Client(where, key=key, cancel_on_disconnect_ms=0) as me,
        MarketDataClient(where, key="public", codes=[code]) as feed,
    ):
        bid = offer = None
        for _ in range(rounds):
            me.dead_man(10_000)
            feed.poll(0.05)
            statistics = feed.books[code].statistics
            if statistics is None:
                continue
            low, high = statistics.limit_low, statistics.limit_high
            bid = quote(me, "buy", code, max(low, statistics.last - spread // 2), quantity, bid)
            offer = quote(me, "sell", code, min(high, statistics.last + spread // 2), quantity, offer)
            made += [o for o in (bid, offer) if o not in made]
        me.mass_cancel(code)
    return made


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("market")
    parser.add_argument("key")
    parser.add_argument("code")
    parser.add_argument("--spread", default="0.20")
    parser.add_argument("--quantity", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=20)
    a = parser.parse_args()
    for order in run(a.market, a.key, a.code, price_fen(a.spread), a.quantity, a.rounds):
        print(f"{order.side:4} {order.quantity:6} at {order.price / 100:.2f}: {order.status}, filled {order.filled}")


if __name__ == "__main__":
    main()
