"""The command stream of `benchmarks.engine`: the whole exchange path under a stated mix.

60 % new orders (one in six marketable), 35 % cancels, 5 % reduce or replace (half each), over all vintages and
accounts; resting prices lie around the middle of the band with a geometric distance, sizes are 1 … 100 t. Cancels and
changes name orders that were open when their batch was made. The stream is made by running the engine itself, in
batches, so that every order id is the one that a run of the same commands gives out; a seed makes it repeatable.
"""

from __future__ import annotations

import numpy as np

from engine import Capacity, Exchange, Rules
from engine import messages as msg
from engine.calendar import day_start_ns, parse_clock
from engine.market import ACTIVE
from engine.records import ACCEPTED, BUY, CANCEL, COMMAND, NEW, REDUCE, REPLACE

DATE = 20251203
MIDDLE = 10_000  # fen
CASH = 1 << 50
HOLDING = 1 << 40
GENERATOR_BATCH = 2_048
DEALS = 1 << 18  # of the day: more than a million commands of the mix lead to, so the table never has to grow


def build(accounts: int, instruments: int, orders: int, levels: int = 1 << 13, rules: Rules | None = None) -> Exchange:
    """A market in its morning: every account funded, every vintage listed at the same reference."""
    rules = rules or Rules.national()
    capacity = Capacity(accounts=accounts, instruments=instruments, orders=orders, levels=levels, deals=DEALS)
    exchange = Exchange(rules, capacity)
    for number in range(instruments):
        exchange.execute(msg.ListInstrument(code=f"V{number:02d}", reference=MIDDLE))
    exchange.execute(msg.RollDay(date=DATE, composite=MIDDLE))
    market = exchange.market
    market.accounts["status"] = ACTIVE
    market.accounts["open_orders_max"] = 1 << 31
    market.accounts["available"] = CASH
    market.holdings["sellable"] = HOLDING
    exchange.advance(day_start_ns(DATE) + parse_clock("09:30"))
    return exchange


def new_orders(
    rng: np.random.Generator, n: int, accounts: int, instruments: int, spread: float, marketable: float
) -> np.ndarray:
    """``n`` NEW commands; a share of them crosses the middle."""
    commands = np.zeros(n, COMMAND)
    commands["kind"] = NEW
    commands["account"] = rng.integers(0, accounts, n)
    commands["instrument"] = rng.integers(0, instruments, n)
    side = rng.integers(0, 2, n)
    commands["side"] = side
    away = np.minimum(rng.geometric(1 / spread, n), int(spread * 12))
    away = np.where(rng.random(n) < marketable, -3, away)
    commands["price"] = MIDDLE + np.where(side == BUY, -away, away)
    commands["quantity"] = rng.integers(1, 101, n)
    return commands


def make(exchange: Exchange, n: int, seed: int, spread: float = 40.0, resting: int = 0) -> np.ndarray:
    """``n`` commands for the market as it stands; the exchange is left in the state after them.

    ``resting`` orders are entered first (and are part of the stream).
    """
    rng = np.random.default_rng(seed)
    accounts, instruments = len(exchange.market.accounts), len(exchange.market.codes)
    pieces = []
    live = np.zeros(0, np.uint64)
    orders = exchange.market.book.orders

    def run(commands: np.ndarray) -> None:
        nonlocal live
        events = exchange.submit(commands)
        pieces.append(commands)
        fresh = events["order_id"][events["kind"] == ACCEPTED]
        live = np.concatenate([live, fresh])
        slots = (live & np.uint64(0xFFFFFFFF)).astype(np.int64)
        alive = (orders["leaves"][slots] > 0) & (orders["generation"][slots] == live >> np.uint64(32))
        live = live[alive]

    for start in range(0, resting, 65_536):
        run(new_orders(rng, min(65_536, resting - start), accounts, instruments, spread, 0.0))
    done = 0
    while done < n:
        size = min(GENERATOR_BATCH, n - done)
        commands = new_orders(rng, size, accounts, instruments, spread, 1 / 6)
        kinds = rng.random(size)
        change = np.flatnonzero(kinds >= 0.6)[: len(live)]
        picks = rng.choice(len(live), len(change), replace=False) if len(change) else np.zeros(0, np.int64)
        _change(commands, change, kinds, live[picks], orders, rng)
        run(commands)
        done += size
    return np.concatenate(pieces)


def _change(
    commands: np.ndarray,
    at: np.ndarray,
    kinds: np.ndarray,
    ids: np.ndarray,
    orders: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Turns the commands at ``at`` into cancels, reduces and replaces of the orders ``ids``."""
    slots = (ids & np.uint64(0xFFFFFFFF)).astype(np.int64)
    commands["order_id"][at] = ids
    commands["account"][at] = orders["account"][slots]
    kind = np.where(kinds[at] < 0.95, CANCEL, np.where(kinds[at] < 0.975, REDUCE, REPLACE))
    commands["kind"][at] = kind
    commands["quantity"][at] = np.where(kind == REDUCE, 1, rng.integers(1, 101, len(at)))
