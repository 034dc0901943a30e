"""The whole exchange path: checks, locks, T+1, matching, statistics, composite, full event records.

    python -m benchmarks.engine [--only NAME …] [--smoke] [--json]

throughput   4,000 accounts, 6 vintages, the mix of benchmarks/engine_stream.py, batches of 4,096
single       one command through the Python call, latency of each, beside calls as long that touch no memory
resting, accounts, levels, both   throughput at other sizes (the rows "at depth")
memory       bytes of a resting order; resident size of a process with an empty exchange
compile      a cold import of the kernel (compiling) and a warm one (from numba's cache), in fresh processes

One core, one process, no journal. Medians of ``--runs`` runs (at least 7, except with --smoke).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numba import int64

from benchmarks import engine_stream
from benchmarks.conditions import conditions, describe
from benchmarks.timing import RUNS_MIN, time_in_turn
from engine import Exchange, Rules
from engine.book import ORDER, ORDER_COLD
from engine.exchange import SingleCommand
from engine.machine_code import entry, entry_address
from engine.records import COMMAND
from engine.single_call import CALL, single_call
from engine.words import octets

BATCH: Final = 4_096
ACCOUNTS, VINTAGES = 4_000, 6
SEED: Final = 20251203
IN_TURN: Final = 5_000  # single commands, then calls of their control


def _apply_all(exchange: Exchange, commands: np.ndarray, start: int = 0) -> None:
    for at in range(start, len(commands), BATCH):
        exchange.apply(commands[at : at + BATCH])


def _throughput(n: int, runs: int, *, accounts: int, vintages: int, resting: int, levels: int) -> dict[str, Any]:
    """Median rate of ``n`` mixed commands after ``resting`` orders stand, from equal states."""
    rules = None
    spread = 40.0
    if levels > 1 << 13:  # a wide ladder needs a market without price limits; accounts, locks and T+1 stay on
        rules = Rules.generic(accounts=True)
        spread = levels / 24
    slots = max(1 << 18, resting + n // 2)  # at most every second command leaves an order behind
    template = engine_stream.build(accounts, vintages, slots, max(levels, 1 << 13), rules)
    commands = engine_stream.make(template, n, SEED, spread, resting)
    end_state = template.state_hash()
    live = int(template.market.book.pool[0]["live"])
    states: list[Exchange] = []

    def prepare() -> Exchange:
        exchange = engine_stream.build(accounts, vintages, slots, max(levels, 1 << 13), rules)
        _apply_all(exchange, commands[:resting])
        states[:] = [exchange]
        return exchange

    timed = time_in_turn({"engine": (prepare, lambda exchange: _apply_all(exchange, commands, resting))}, runs)
    assert states[0].state_hash() == end_state, "a run ended in another state than the stream was made in"
    return {
        "commands": n,
        "resting_at_start": resting,
        "resting_at_end": live,
        "accounts": accounts,
        "levels": levels,
        "mcommands_per_s": round(timed["engine"].rate(n), 2),
        "mcommands_per_s_best": round(timed["engine"].best_rate(n), 2),
        "mcommands_per_cpu_s": round(timed["engine"].cpu_rate(n), 2),  # differs where others use the machine
        "runs": runs,
    }


def throughput(smoke: bool, runs: int) -> dict[str, Any]:
    """The headline figure."""
    n = 50_000 if smoke else 1_000_000
    return _throughput(n, runs, accounts=ACCOUNTS, vintages=VINTAGES, resting=0, levels=2_001)


@entry(int64(int64, int64, int64))
def _spin(steps, one, two):  # type: ignore[no-untyped-def]
    """Machine code that touches no memory, in the kernel's place: the control of a single command's latency."""
    x = one
    for _ in range(steps):
        x = x * 6364136223846793005 + two
    return np.int64(x == 12_345)  # so that the loop is not left out; 0 for the arguments that are used


class _Spin:
    """As long as a command, through the same way from Python: what is slower than usual here is the machine's part."""

    def __init__(self, steps: int = 0) -> None:
        self.buffer = memoryview(bytearray(COMMAND.itemsize))
        self._written = np.zeros(1, np.int64)
        self._call = np.zeros(1, CALL)
        self._call[0] = (entry_address(_spin), steps, 1, self._written.ctypes.data, 0)
        self.apply = single_call(self._call, lambda: 0)

    def last(self, ns: float) -> None:
        """Spins so long that a call takes ``ns`` at the median: two points of a line, then one nearer to the aim."""
        tried = [(steps, self._median(steps)) for steps in (0, 200)]
        for _ in range(2):
            (before, early), (steps, late) = tried[0], tried[-1]
            wanted = max(0, round(before + (ns - early) * (steps - before) / max(late - early, 1.0)))
            tried.append((wanted, self._median(wanted)))

    def _median(self, steps: int) -> float:
        self._call[0]["control"] = steps
        return float(np.median(_latencies(self, np.zeros(1_000, COMMAND))))


def _latencies(lane: SingleCommand | _Spin, commands: np.ndarray) -> np.ndarray:
    """Nanoseconds of each command, the clock's own included."""
    rows = octets(commands)
    found = np.zeros(len(commands), np.int64)
    apply, buffer, now = lane.apply, lane.buffer, time.perf_counter_ns
    for i in range(len(commands)):
        buffer[:] = rows[64 * i : 64 * i + 64]
        start = now()
        apply()
        found[i] = now() - start
    return found


def single(smoke: bool, runs: int) -> dict[str, Any]:
    """Latency of one command through SingleCommand.apply, all commands of a run; the clock's own cost is subtracted.

    The control is as many calls of machine code that touches no memory and lasts as long at the median, in turn.
    """
    n = 20_000 if smoke else 200_000
    template = engine_stream.build(ACCOUNTS, VINTAGES, 1 << 18)
    commands = engine_stream.make(template, n, SEED)
    clock = _clock_cost()
    rows = []
    for _ in range(runs):
        exchange = engine_stream.build(ACCOUNTS, VINTAGES, 1 << 18)
        lane, control = SingleCommand(exchange), _Spin()
        ours, theirs = [], []
        for at in range(0, n, IN_TURN):
            ours.append(_latencies(lane, commands[at : at + IN_TURN]))
            control.last(float(np.median(ours[-1])))
            theirs.append(_latencies(control, commands[at : at + IN_TURN]))
        assert exchange.state_hash() == template.state_hash()
        both = [np.percentile(np.concatenate(part), [50, 99.9]) - clock for part in (ours, theirs)]
        rows.append(np.concatenate(both))
    p50, p999, control_p50, control_p999 = np.median(rows, axis=0).round().astype(int).tolist()
    return {
        "commands": n,
        "p50_ns": p50,
        "p999_ns": p999,
        "control_p50_ns": control_p50,
        "control_p999_ns": control_p999,
        "p999_ns_of_each_run": [round(float(row[1])) for row in rows],
        "control_p999_ns_of_each_run": [round(float(row[3])) for row in rows],
        "clock_ns_subtracted": round(clock),
        "runs": runs,
    }


def _clock_cost() -> float:
    now = time.perf_counter_ns
    costs = np.zeros(20_000, np.int64)
    for i in range(len(costs)):
        start = now()
        costs[i] = now() - start
    return float(np.median(costs))


def _scaled(smoke: bool, runs: int, sizes: list[dict[str, int]]) -> dict[str, Any]:
    n = 20_000 if smoke else 300_000
    rows = []
    for size in sizes[:: len(sizes) - 1] if smoke and len(sizes) > 1 else sizes:
        full = {"accounts": ACCOUNTS, "vintages": VINTAGES, "resting": 0, "levels": 2_001, **size}
        if smoke:
            full["resting"] = min(full["resting"], 50_000)
        rows.append(_throughput(n, runs, **full))
    rates = [row["mcommands_per_s"] for row in rows]
    cpu_rates = [row["mcommands_per_cpu_s"] for row in rows]
    return {
        "rows": rows,
        "largest_to_smallest": round(rates[-1] / rates[0], 3),
        "largest_to_smallest_cpu": round(cpu_rates[-1] / cpu_rates[0], 3),
    }


def resting(smoke: bool, runs: int) -> dict[str, Any]:
    """10^3 … 10^6 resting orders."""
    return _scaled(smoke, runs, [{"resting": n} for n in (1_000, 10_000, 100_000, 1_000_000)])


def accounts(smoke: bool, runs: int) -> dict[str, Any]:
    """10 … 10^5 accounts."""
    return _scaled(smoke, runs, [{"accounts": n} for n in (10, 1_000, 10_000, 100_000)])


def levels(smoke: bool, runs: int) -> dict[str, Any]:
    """2,000 … 2^18 levels."""
    return _scaled(smoke, runs, [{"levels": n} for n in (2_001, 1 << 15, 1 << 18)])


def both(smoke: bool, runs: int) -> dict[str, Any]:
    """10^6 resting orders and 10^5 accounts together."""
    return _scaled(smoke, runs, [{"resting": 1_000_000, "accounts": 100_000}])


def memory(smoke: bool, runs: int) -> dict[str, Any]:
    """Bytes of a resting order (its share of levels and bitmap apart), resident size of an empty exchange."""
    code = "from engine import Exchange, Rules; Exchange(Rules.national()); print(open('/proc/self/statm').read())"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return {
        "resting_order_bytes": ORDER.itemsize + ORDER_COLD.itemsize,
        "resting_order_bytes_hot": ORDER.itemsize,
        "empty_exchange_mb": round(int(answer.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6, 1),
    }


def compile_time(smoke: bool, runs: int) -> dict[str, Any]:
    """Seconds to import the kernel: compiling everything, and from the cache; numba's own import is subtracted."""
    code = (
        "import time, numba, numpy, llvmlite.binding; s = time.perf_counter(); import engine.kernel;"
        "print(time.perf_counter() - s)"
    )
    cold, warm = [], []
    for _ in range(1 if smoke else 3):
        with tempfile.TemporaryDirectory() as cache:
            environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
            for figures in (cold, warm):
                answer = subprocess.run(
                    [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
                )
                figures.append(float(answer.stdout))
    return {"cold_s": round(statistics.median(cold), 2), "from_cache_s": round(statistics.median(warm), 3)}


BENCHMARKS: Final[dict[str, Callable[[bool, int], dict[str, Any]]]] = {
    "throughput": throughput,
    "single": single,
    "resting": resting,
    "accounts": accounts,
    "levels": levels,
    "both": both,
    "memory": memory,
    "compile": compile_time,
}


def main(arguments: list[str] | None = None) -> int:
    """Command line: see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), default=list(BENCHMARKS))
    parser.add_argument("--runs", type=int, default=RUNS_MIN, help=f"runs of each, at least {RUNS_MIN}")
    parser.add_argument("--smoke", action="store_true", help="small sizes and two runs: does it work at all")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args(arguments)
    runs = 2 if options.smoke else max(RUNS_MIN, options.runs)
    found = conditions()
    print(describe(found), file=sys.stderr)
    results: dict[str, Any] = {}
    for name in options.only:
        results[name] = BENCHMARKS[name](options.smoke, runs)
        print(f"{name}: {json.dumps(results[name])}", file=sys.stderr if options.json else sys.stdout)
    if options.json:
        print(json.dumps({**results, "conditions": found}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
