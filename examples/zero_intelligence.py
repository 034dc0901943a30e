"""A market of zero-intelligence traders in one process: the exchange as a researcher's simulator.

    python examples/zero_intelligence.py [--orders 20000] [--seed 1] [--chart out/zero_intelligence.png]

Forty traders send orders at random prices around the last deal and cancel at random; the national rules hold (price
limits, best five, T+1, locks). Prints the day's result and draws price against limits. Rates and sizes are assumed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from engine import Exchange, Rules
from engine import messages as msg
from engine.calendar import day_start_ns, format_time, parse_clock
from engine.prices import format_price
from engine.records import CANCEL, COMMAND, FILL_TAKER, LIMIT, NEW

DATE = 20251203
TRADERS = 40
BATCH = 200  # commands that arrive between two looks at the market


def build() -> Exchange:
    """A market with one vintage and forty traders, at 09:30."""
    exchange = Exchange(Rules.national())
    exchange.execute(msg.ListInstrument(code="CEA24", reference=5_996))
    exchange.execute(msg.RollDay(date=DATE, composite=5_975))
    for account in range(TRADERS):
        exchange.execute(msg.OpenAccount(account=account, name=f"trader {account}"))
        exchange.execute(msg.Deposit(account=account, amount=10_000_000_00, document=f"cash {account}"))
        exchange.execute(
            msg.TransferIn(account=account, instrument="CEA24", quantity=500_000, transfer=f"stock {account}")
        )
    exchange.advance(day_start_ns(DATE) + parse_clock("09:30"))
    return exchange


def batch(rng: np.random.Generator, last: int, open_orders: np.ndarray) -> np.ndarray:
    """New orders around the last price, and cancels of one open order in ten."""
    commands = np.zeros(BATCH, COMMAND)
    commands["kind"], commands["order_type"] = NEW, LIMIT
    commands["account"] = rng.integers(0, TRADERS, BATCH)
    commands["side"] = rng.integers(0, 2, BATCH)
    commands["price"] = last + np.rint(rng.normal(0, 12, BATCH)).astype(np.int64)
    commands["quantity"] = rng.integers(1, 500, BATCH)
    gone = open_orders[rng.random(len(open_orders)) < 0.1][: BATCH // 2]
    commands["kind"][: len(gone)] = CANCEL
    commands["order_id"][: len(gone)] = gone["order_id"]
    commands["account"][: len(gone)] = gone["account"]
    return commands


def simulate(orders: int, seed: int) -> tuple[Exchange, np.ndarray, msg.DayClosed]:
    """Runs a day's orders over the trading hours. Returns the exchange, the takers' fills and the result."""
    rng = np.random.default_rng(seed)
    exchange = build()
    head = exchange.market.market[0]
    hours = [(int(head["morning_open"]), int(head["morning_end"])), (int(head["afternoon_open"]), int(head["close"]))]
    deals = []
    steps = max(2, orders // BATCH)
    for step in range(steps):
        start, end = hours[2 * step // steps]
        half = steps // 2 + steps % 2
        exchange.advance(start + (end - start) * (step % half) // half)
        last = int(exchange.market.instruments[0]["last"])
        events = exchange.submit(batch(rng, last, exchange.open_orders()))
        deals.append(events[events["kind"] == FILL_TAKER].copy())
    exchange.advance(hours[1][1])
    out = exchange.execute(msg.CloseDay())
    exchange.check()
    result = next(notice for _, notice in out.notices() if isinstance(notice, msg.DayClosed))
    return exchange, np.concatenate(deals), result


def draw(deals: np.ndarray, result: msg.DayClosed, path: Path) -> None:
    """Price over the day with its limits and the closing price."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    vintage = result.vintages[0]
    hours = (deals["time_ns"] - day_start_ns(result.date)) / 3.6e12
    figure, axes = plt.subplots(figsize=(10, 4.5))
    axes.plot(hours, deals["price"] / 100, ".", ms=2, color="#0072B2", label="deals")
    for price, label in ((vintage.limit_low, "lower limit"), (vintage.limit_high, "upper limit")):
        axes.axhline(price / 100, color="#D55E00", ls="--", lw=1, label=f"{label} {format_price(price)}")
    axes.axhline(vintage.close / 100, color="black", lw=1, label=f"close (VWAP) {format_price(vintage.close)}")
    axes.set(xlabel="hour, Asia/Shanghai", ylabel="CNY per tonne", title=f"Zero intelligence, {vintage.code}")
    axes.legend(loc="center right", bbox_to_anchor=(1, 0.75), fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--orders", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--chart", type=Path, default=Path("out/zero_intelligence.png"))
    options = parser.parse_args()
    exchange, deals, result = simulate(options.orders, options.seed)
    vintage = result.vintages[0]
    print(f"{len(deals)} deals, {vintage.volume:,} t; open {format_price(vintage.open)}", end=", ")
    print(f"high {format_price(vintage.high)}, low {format_price(vintage.low)}, close {format_price(vintage.close)}")
    print(f"last deal at {format_time(int(deals[-1]['time_ns']))}, {result.lapsed_orders} orders lapsed at the close")
    print(f"seed {options.seed}, state hash {exchange.state_hash():016x}")
    draw(deals, result, options.chart)
    print(f"chart: {options.chart}")


if __name__ == "__main__":
    main()
