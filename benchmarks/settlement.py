"""Settlement and registry: how long a day of 100,000 deals takes, and what a full national registry answers.

``python -m benchmarks.settlement [--json] [--url URL] [--deals N] [--held K] [--stream N] [--quick]``. Without
``--url`` a SQLite file in a temporary folder is measured; with it an empty database (PostgreSQL) that the benchmark
fills. ``--held`` adds a day on which every K-th deal cannot post (its seller holds nothing). ``--stream`` adds a day
of N deals that are generated while they are settled, and measures the growth of memory.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.conditions import conditions, describe
from settlement import imports
from settlement.clearing import summarise
from settlement.deals import DEAL, Deals, deal_id
from settlement.delivery import Delivery
from settlement.errors import accepted
from settlement.kinds import BANK, CASH, CNY, REGISTRY, SYSTEM, TRADING, ActKind
from settlement.ledger import Leg
from settlement.registry import AccountForm, Registry
from settlement.verify import verify

ACCOUNTS: Final = 4_000
VINTAGES: Final = ("CEA21", "CEA22", "CEA23", "CEA24", "CEA25")
TONNES: Final = 500_000  # a vintage and account: 10 billion tonnes in all
CASH_FEN: Final = 10**14
DATE: Final = 20251203
NOW: Final = 1_764_734_400 * 10**9
BEFORE: Final = NOW - 24 * 3600 * 10**9
BLOCK: Final = 50_000
SAMPLES: Final = 60  # statements and histories that are timed


def seconds(job: Callable[[], Any]) -> tuple[float, Any]:
    """Wall time of a call, and its result."""
    start = time.perf_counter()
    result = job()
    return time.perf_counter() - start, result


def fill(registry: Registry, accounts: int) -> float:
    """Accounts, then the whole allocation as one import; seconds of the import."""
    for code in VINTAGES:
        assert registry.add_asset(code, vintage=2000 + int(code[3:])) is None
    with registry.batch(BEFORE):
        for account in range(1, accounts + 2):  # the last one holds nothing
            form = AccountForm(account, f"R{account:06d}", f"Entity {account}", f"91{account:016d}")
            accepted(registry.open_account(form, f"open-{account}", BEFORE))
    lines = ["account,asset,quantity,document"]
    lines += [f"{a},{code},{TONNES},alloc-{code}-{a}" for code in VINTAGES for a in range(1, accounts + 1)]
    took, done = seconds(lambda: imports.import_issues(registry, lines, BEFORE))
    assert done.rows == accounts * len(VINTAGES), done.bad[:3]
    # Into trading in one chain an account: the benchmark's own act, since single moves are not what is timed.
    with registry.batch(BEFORE) as posting:
        posting.load(range(1, accounts + 1))
        bank = posting.account(SYSTEM, CNY, BANK)
        for account in range(1, accounts + 1):
            legs = [Leg(bank, posting.account(account, CNY, CASH), CASH_FEN, ActKind.DEPOSIT)]
            for code in VINTAGES:
                giver, taker = posting.account(account, code, REGISTRY), posting.account(account, code, TRADING)
                legs.append(Leg(giver, taker, TONNES, ActKind.TRANSFER_IN))
            assert posting.chain(10**9 + account, legs) is None
    return took


def deals_of(date: int, count: int, accounts: int, held: int = 0) -> Iterator[Deals]:
    """Random deals of a day in blocks; the same for the same arguments. ``held``: the seller of every so many-th
    holds nothing."""
    dice = np.random.default_rng(date)
    # On average nobody sells more than half of what it held in the morning: what is bought today stays (R5.5).
    most = min(200, TONNES * accounts * len(VINTAGES) // max(count, 1))
    assert most > 1, "so many deals need more accounts"
    for at in range(0, count, BLOCK):
        size = min(BLOCK, count - at)
        block = np.zeros(size, dtype=DEAL)
        block["deal_id"] = deal_id(date, at + 1) + np.arange(size, dtype=np.uint64)
        block["seq"], block["time_ns"] = at + np.arange(size), NOW + at + np.arange(size)
        block["price_fen"], block["quantity_t"] = dice.integers(5_000, 6_500, size), dice.integers(1, most, size)
        block["amount_fen"] = block["price_fen"] * block["quantity_t"]
        block["buyer_fee_fen"] = block["seller_fee_fen"] = block["amount_fen"] // 2_000
        block["date"] = date
        block["buyer"] = dice.integers(1, accounts + 1, size)
        block["seller"] = (block["buyer"] - 1 + dice.integers(1, accounts, size)) % accounts + 1
        block["instrument"] = dice.choice([code.encode() for code in VINTAGES], size)
        if held:
            block["seller"][held - 1 :: held] = accounts + 1
        yield block


def settle(registry: Registry, date: int, count: int, accounts: int, held: int = 0) -> dict[str, Any]:
    """A whole day: receive, clear, confirm, deliver; seconds of each step."""
    delivery = Delivery(registry)
    cpu = time.process_time()
    receive, _ = seconds(lambda: accepted(delivery.receive(date, deals_of(date, count, accounts, held), NOW)))
    clear, _ = seconds(lambda: accepted(delivery.clear(date, NOW)))
    theirs = summarise(date, deals_of(date, count, accounts, held))
    confirm, refused = seconds(lambda: delivery.confirm(theirs, NOW))
    assert refused is None, refused
    deliver, day = seconds(lambda: accepted(delivery.settle(date, NOW)))
    assert len(day.held) == (count // held if held else 0), day.state
    total = receive + clear + confirm + deliver
    parts = {"receive_s": receive, "clear_s": clear, "confirm_s": confirm, "deliver_s": deliver, "total_s": total}
    cpu = round(time.process_time() - cpu, 2)
    return {"deals": count, "cpu_s": cpu, **{name: round(value, 2) for name, value in parts.items()}}


def questions(registry: Registry, accounts: int) -> dict[str, Any]:
    """Median and worst time of statements and serial histories, in ms. What was imported is frozen, as the standing
    service freezes it: a full collection of it takes 60 ms of whichever question it hits."""
    gc.collect()
    gc.freeze()
    dice = np.random.default_rng(3)

    def timed(ask: Callable[[int], Any]) -> dict[str, float]:
        took = sorted(seconds(lambda n=n: accepted(ask(n)))[0] * 1e3 for n in range(SAMPLES))  # type: ignore[misc]
        return {"median_ms": round(statistics.median(took), 1), "worst_ms": round(took[-1], 1)}

    whose = dice.integers(1, accounts + 1, SAMPLES).tolist()
    serials = dice.integers(1, accounts * TONNES, SAMPLES).tolist()
    serials[: SAMPLES // 2] = [(n - 1) * TONNES + 1 + n % 50 for n in whose[: SAMPLES // 2]]  # much traded ones
    return {
        "statement": timed(lambda n: registry.statement(whose[n], 0, NOW * 2)),
        "history": timed(lambda n: registry.history(f"CEA24-{serials[n]:012d}")),
    }


def peak_mb() -> float:
    """The process' greatest memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def stream(registry: Registry, count: int, accounts: int) -> dict[str, Any]:
    """Memory while two days, of a tenth and of all of the deals, go through: the second may not need ten times."""
    small = settle(registry, DATE + 1, count // 10, accounts)
    first = peak_mb()
    large = settle(registry, DATE + 2, count, accounts)
    return {"small": small, "peak_small_mb": round(first), "large": large, "peak_large_mb": round(peak_mb())}


def measure(url: str, deals: int, held: int, streamed: int, accounts: int) -> dict[str, Any]:
    """Everything, on one database."""
    registry = Registry.open(url)
    issue_s = fill(registry, accounts)
    result: dict[str, Any] = {
        "database": registry.engine.dialect.name,
        "accounts": accounts,
        "tonnes": accounts * len(VINTAGES) * TONNES,
        "issue_s": round(issue_s, 2),
        "issues": accounts * len(VINTAGES),
        "day": settle(registry, DATE, deals, accounts),
        "questions": questions(registry, accounts),
    }
    took, findings = seconds(lambda: verify(registry.engine))
    assert findings == [], findings[:3]
    result["verify_s"] = round(took, 2)
    if held:
        result["held_day"] = settle(registry, DATE + 3, deals, accounts, held)
    if streamed:
        result["stream"] = stream(registry, streamed, accounts)
    registry.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--url", help="an empty database; default: SQLite in a temporary folder")
    parser.add_argument("--deals", type=int, default=100_000)
    parser.add_argument("--held", type=int, default=0)
    parser.add_argument("--stream", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a twentieth of it")
    options = parser.parse_args()
    accounts, deals = (200, options.deals // 20) if options.quick else (ACCOUNTS, options.deals)
    with tempfile.TemporaryDirectory(prefix="settlement-benchmark-") as folder:
        url = options.url or f"sqlite:///{Path(folder) / 'registry.db'}"
        result = measure(url, deals, options.held, options.stream, accounts)
    result["conditions"] = conditions()
    if options.json:
        print(json.dumps(result))
        return
    day, asked = result["day"], result["questions"]
    print(describe(result["conditions"]))
    print(f"{result['database']}: {accounts:,} accounts, {result['tonnes']:,} t")
    print(f"issue of {result['issues']:,} allocations  {result['issue_s']} s")
    print(f"a day of {day['deals']:,} deals  {day['total_s']} s (delivery {day['deliver_s']} s)")
    print(f"statement  {asked['statement']}   history  {asked['history']}   verify {result['verify_s']} s")
    if "held_day" in result:
        print(f"a day with every {options.held}th deal held  {result['held_day']}")
    if "stream" in result:
        print(f"stream  {result['stream']}")


if __name__ == "__main__":
    main()
