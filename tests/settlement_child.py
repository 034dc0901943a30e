"""Settling processes that start quickly, for the kill tests: ``python settlement_child.py URL BLOCK``.

The libraries are loaded once; each ``start`` on standard input forks a process that goes on with the day's settlement
and prints each block's last deal. What is forked has no connection and no file of the database: it opens its own.
"""

from __future__ import annotations

import os
import sys

from registry_world import DAY, NOON

from settlement.delivery import Delivery
from settlement.errors import accepted
from settlement.registry import Registry


def settle(url: str, block: int) -> None:
    delivery = Delivery(Registry.open(url))
    print("ready", flush=True)
    day = accepted(delivery.settle(DAY, NOON, block_deals=block, after_block=lambda deal: print(deal, flush=True)))
    print(day.state, flush=True)


def main() -> None:
    url, block = sys.argv[1], int(sys.argv[2])
    for line in sys.stdin:
        assert line == "start\n"
        child = os.fork()
        if child == 0:
            code = 1
            try:
                settle(url, block)
                code = 0
            finally:
                sys.stdout.flush()
                os._exit(code)
        print(f"child {child}", flush=True)
        os.waitpid(child, 0)
        print("ended", flush=True)


if __name__ == "__main__":
    main()
