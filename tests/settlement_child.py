"""Settling processes that start quickly, for the kill tests: ``python settlement_child.py URL BLOCK``.

The libraries are loaded once; each ``start`` on standard input forks a process that goes on with the day's settlement
and prints each block's last deal; after some blocks it waits for the kill, which may come late on a busy machine: it
does not settle what the next kills are to meet. What is forked has no connection and no file of the database: it opens
its own.
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import count

from registry_world import DAY, NOON

from settlement.delivery import Delivery
from settlement.errors import accepted
from settlement.registry import Registry

BLOCKS_A_LIFE = 5


def settle(url: str, block: int) -> None:
    delivery = Delivery(Registry.open(url))
    print("ready", flush=True)
    settled = count(1)

    def after_block(deal: int) -> None:
        print(deal, flush=True)
        if next(settled) == BLOCKS_A_LIFE:
            signal.pause()

    day = accepted(delivery.settle(DAY, NOON, block_deals=block, after_block=after_block))
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
