"""A compliance buyer: buys a quantity in slices up to a price, without showing all of it.

    python examples/compliance_buyer.py MARKET member-2 CEA24 --quantity 5000 --limit 60.00 --slice 500

Each slice is an immediate order against the best five levels. Whatever happens to the connection, the sum of the
fills is right: an unknown outcome is settled before the next slice is sent.
"""

from __future__ import annotations

import argparse
import time

from gateway.client import Client, UnknownOutcome, price_fen


def run(where: str, key: str, code: str, quantity: int, limit: int, slice_t: int, pause: float, tries: int) -> int:
    """Buys up to ``quantity`` in slices; returns the tonnes bought."""
    with Client(where, key=key) as me:
        before = sum(f.quantity for f in me.fills())
        for _ in range(tries):
            bought = sum(f.quantity for f in me.fills()) - before
            if bought >= quantity:
                break
            try:
                order = me.buy(code, limit, min(slice_t, quantity - bought), type="ioc")
            except UnknownOutcome:
                continue  # the next call resynchronises first; what was filled is counted from the reports
            if not order.filled:
                time.sleep(pause)
        return sum(f.quantity for f in me.fills()) - before


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("market")
    parser.add_argument("key")
    parser.add_argument("code")
    parser.add_argument("--quantity", type=int, required=True)
    parser.add_argument("--limit", required=True)
    parser.add_argument("--slice", type=int, default=500)
    parser.add_argument("--pause", type=float, default=1.0)
    parser.add_argument("--tries", type=int, default=1_000)
    a = parser.parse_args()
    bought = run(a.market, a.key, a.code, a.quantity, price_fen(a.limit), a.slice, a.pause, a.tries)
    print(f"bought {bought} of {a.quantity} t")


if __name__ == "__main__":
    main()
