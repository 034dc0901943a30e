"""A bulk negotiation (R9): one declares, the other makes a counter-offer, one accepts, the other confirms.

    python examples/bulk_negotiation.py MARKET member-1 member-2 CEA24 --price 58.00 --counter 57.50 --quantity 120000

Both sides run in one program here, so that it can be read from top to bottom.
"""

from __future__ import annotations

import argparse
from typing import Any

from engine.bulk_messages import BulkAccept, BulkConfirm, BulkDeclare, BulkOffer
from gateway.client import Client, price_fen


def run(where: str, seller: str, buyer: str, code: str, price: int, counter: int, quantity: int) -> dict[str, Any]:
    """Negotiates and returns the deal's notice as the buyer got it."""
    with Client(where, key=seller) as sell, Client(where, key=buyer) as buy:
        for side in (sell, buy):
            side.sync()
            side.poll()
        declared = sell.execute(
            BulkDeclare(
                side=1, instrument=code, price=price, quantity=quantity, to=(buy.account,), note="spot delivery"
            )
        )
        declaration = declared.data["declaration"]
        offered = buy.execute(BulkOffer(declaration=declaration, price=counter, quantity=quantity))
        thread = offered.data["thread"]
        sell.execute(BulkAccept(thread=thread, price=counter, quantity=quantity))
        buy.execute(BulkConfirm(thread=thread, price=counter, quantity=quantity))
        deal = buy.wait_for("bulk_deal", 5.0)
        assert deal is not None and deal.notice is not None, "both confirmed, so there is a deal"
        return deal.notice


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("market")
    parser.add_argument("seller")
    parser.add_argument("buyer")
    parser.add_argument("code")
    parser.add_argument("--price", required=True)
    parser.add_argument("--counter", required=True)
    parser.add_argument("--quantity", type=int, default=100_000)
    a = parser.parse_args()
    print(run(a.market, a.seller, a.buyer, a.code, price_fen(a.price), price_fen(a.counter), a.quantity))


if __name__ == "__main__":
    main()
