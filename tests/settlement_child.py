"""The process that the kill tests kill: goes on with the day's settlement, and prints each block's last deal."""

from __future__ import annotations

import sys

from registry_world import DAY, NOON

from settlement.delivery import Delivery
from settlement.errors import accepted
from settlement.registry import Registry


def main() -> None:
    url, block = sys.argv[1], int(sys.argv[2])
    delivery = Delivery(Registry.open(url))
    print("ready", flush=True)
    day = accepted(delivery.settle(DAY, NOON, block_deals=block, after_block=lambda deal: print(deal, flush=True)))
    print(day.state, flush=True)


if __name__ == "__main__":
    main()
