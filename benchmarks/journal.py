"""The journal: what a commit costs, how many commands a second become durable, alone and with the engine, and starts.

``python -m benchmarks.journal [--json] [--folder FOLDER] [--quick]``. The folder decides which disk is measured; a
temporary one below it is made and removed. Figures are medians; the conditions go with them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import engine_stream
from benchmarks.conditions import conditions, describe
from engine.exchange import Exchange
from engine.journal import Identity, Journal, RealDisk
from engine.journal.recovery import survey
from engine.journal.snapshot import read_snapshot, snapshot_names
from engine.records import COMMAND, NEW

IDENTITY: Final = Identity(engine_abi=0, rules_hash=b"benchmark", journal_id=0xBE7C4)
GROUP_SIZES: Final = (1, 8, 64, 1_024, 4_096, 16_384)
COMMITS: Final = 400  # of each group size, for the percentiles
RUNS: Final = 5
ACCOUNTS, VINTAGES, ORDERS = 4_096, 6, 1 << 17  # the national market's size


def commands_of(count: int) -> np.ndarray:
    """COMMAND[count] that look like orders; sequences are filled by ``numbered``."""
    commands = np.zeros(count, COMMAND)
    commands["kind"] = NEW
    commands["price"] = 9_000 + np.arange(count) % 1_000
    commands["quantity"] = 1 + np.arange(count) * 7 % 99_999
    commands["time_ns"] = np.arange(count) * 331
    return commands


def numbered(commands: np.ndarray, first_seq: int) -> np.ndarray:
    """The same records, in place, with the sequences from ``first_seq`` on."""
    commands["seq"] = np.arange(first_seq, first_seq + len(commands), dtype=np.uint64)
    return commands


def in_new_folder(folder: str | None, job: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Run ``job`` on an empty folder of the disk that is to be measured."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="journal-benchmark-") as path:
        return job(Path(path))


def commits(path: Path, group: int, count: int) -> dict[str, Any]:
    """Append and commit ``count`` groups: latency of a commit, and its share that is the disk's."""
    disk = RealDisk(path)
    journal = Journal.open(disk, IDENTITY)
    commands = commands_of(group)
    append_ns, commit_ns = [], []
    for _ in range(count):
        numbered(commands, journal.next_seq)
        start = time.perf_counter_ns()
        journal.append(commands)
        middle = time.perf_counter_ns()
        journal.commit()
        commit_ns.append(time.perf_counter_ns() - middle)
        append_ns.append(middle - start)
    journal.close()
    disk.close()
    total = sum(append_ns) + sum(commit_ns)
    return {
        "group": group,
        "commit_us_p50": round(statistics.median(commit_ns) / 1e3, 1),
        "commit_us_p99": round(sorted(commit_ns)[int(count * 0.99)] / 1e3, 1),
        "append_us_p50": round(statistics.median(append_ns) / 1e3, 1),
        "commit_share": round(sum(commit_ns) / total, 3),
        "bytes_per_command": round((64 + 64 * group) / group, 1),
        "million_commands_s": round(group * count / total * 1e3, 3),
    }


def durable_rate(path: Path, total: int, group: int) -> float:
    """Million commands a second through append and commit, segment changes included."""
    disk = RealDisk(path)
    journal = Journal.open(disk, IDENTITY)
    commands = commands_of(group)
    spent = 0
    for _ in range(total // group):
        numbered(commands, journal.next_seq)
        start = time.perf_counter_ns()
        journal.append(commands)
        journal.commit()
        spent += time.perf_counter_ns() - start
    journal.close()
    disk.close()
    return total // group * group / spent * 1e3


def recovery(path: Path, total: int, group: int) -> dict[str, Any]:
    """Write ``total`` commands, then time a start: verify everything, read every command once."""
    disk = RealDisk(path)
    journal = Journal.open(disk, IDENTITY)
    commands = commands_of(group)
    for number in range(total // group):
        numbered(commands, journal.next_seq)
        journal.append(commands)
        if number % 64 == 63:
            journal.commit()
    journal.close()
    verify_s, open_s, read_s = [], [], []
    for _ in range(3):
        start = time.perf_counter()
        assert survey(disk, IDENTITY).next_seq == total // group * group + 1
        verify_s.append(time.perf_counter() - start)
        start = time.perf_counter()
        again = Journal.open(disk, IDENTITY)
        open_s.append(time.perf_counter() - start)
        start = time.perf_counter()
        count = sum(len(batch.commands) for batch in again.batches())
        read_s.append(time.perf_counter() - start)
        assert count == total // group * group
        again.close()
    disk.close()
    whole = statistics.median(open_s) + statistics.median(read_s)
    return {
        "commands": total // group * group,
        "group": group,
        "verify_s": round(statistics.median(verify_s), 3),
        "open_s": round(statistics.median(open_s), 3),
        "read_s": round(statistics.median(read_s), 3),
        "open_and_read_s": round(whole, 3),
        "ns_per_command": round(whole / total * 1e9, 1),
    }


def with_engine(path: Path, total: int, group: int) -> dict[str, Any]:
    """The engine's stream through journal and engine, then starts that replay it: from a snapshot, and from nothing.

    The market is laid outside the journal, so the commands are numbered anew, from 1. The snapshot is taken after
    nine tenths; the time for it is not in the rate, and is given apart.
    """
    commands = engine_stream.make(_market(), total, seed=1)
    commands["seq"] = np.arange(1, total + 1, dtype=np.uint64)
    exchange, disk = _market(), RealDisk(path)
    journal = Journal.open(disk, IDENTITY)
    start, copying, writing, state = time.perf_counter(), 0.0, 0.0, b""
    busy = time.process_time()
    for at in range(0, total, group):
        batch = commands[at : at + group]
        journal.append(batch)
        journal.commit()
        exchange.apply(batch)
        if not state and at >= total * 9 // 10:
            begun = time.perf_counter()
            state = exchange.snapshot()
            copying = time.perf_counter() - begun
            assert journal.snapshot(state, journal.durable_seq)
            writing = time.perf_counter() - begun - copying
    live = time.perf_counter() - start - copying - writing
    live_cpu = time.process_time() - busy
    journal.close()
    expected = exchange.state_hash()
    from_snapshot = _start(disk, expected)
    for name in snapshot_names(disk):
        disk.remove(name)
    from_nothing = _start(disk, expected)
    disk.close()
    return {
        "commands": total,
        "group": group,
        "durable_and_applied_million_s": round(total / live / 1e6, 2),
        "live_cpu_s": round(live_cpu, 3),
        "start_s": round(from_nothing[0], 3),
        "start_cpu_s": round(from_nothing[1], 3),
        "start_from_snapshot_s": round(from_snapshot[0], 3),
        "start_from_snapshot_cpu_s": round(from_snapshot[1], 3),
        "snapshot_bytes": len(state),
        "snapshot_copy_ms": round(copying * 1e3, 1),
        "snapshot_write_ms": round(writing * 1e3, 1),
    }


def _market() -> Exchange:
    return engine_stream.build(ACCOUNTS, VINTAGES, ORDERS)


def _start(disk: RealDisk, expected: int) -> tuple[float, float]:
    """Seconds of a start and of its CPU: open, restore or not, replay; numba warm, the empty market made before."""
    exchange = _market()
    capacity = exchange.market.capacity
    start, busy = time.perf_counter(), time.process_time()
    journal = Journal.open(disk, IDENTITY)
    if journal.recovery.snapshot is not None:
        exchange = Exchange.restore(exchange.rules, journal.recovery.snapshot, capacity)
    for batch in journal.batches(journal.recovery.snapshot_seq):
        exchange.apply(batch.commands, batch.payloads)
    spent = time.perf_counter() - start, time.process_time() - busy
    journal.close()
    assert exchange.state_hash() == expected, "the replay must come to the same state"
    return spent


def resting(path: Path, orders: int) -> dict[str, Any]:
    """Snapshots of a market with so many resting orders: what it waits for, and the whole, written beside it."""
    exchange = engine_stream.build(ACCOUNTS, VINTAGES, orders + (1 << 12))
    commands = engine_stream.make(exchange, 1_024, seed=1, resting=orders)
    commands["seq"] = np.arange(1, len(commands) + 1, dtype=np.uint64)
    disk = RealDisk(path)
    journal = Journal.open(disk, IDENTITY)
    for at in range(0, len(commands), 8_192):
        journal.append(commands[at : at + 8_192])
    journal.commit()
    pauses, writes = [], []
    for _ in range(RUNS):
        start = time.perf_counter()
        view = exchange.snapshot_view()
        pauses.append(time.perf_counter() - start)
        assert journal.snapshot(view, journal.durable_seq)
        writes.append(time.perf_counter() - start)
    start = time.perf_counter()
    again = Exchange.restore(exchange.rules, view.data, exchange.market.capacity)
    restored = time.perf_counter() - start
    assert again.state_hash() == exchange.state_hash()
    journal.close()
    disk.close()
    return {
        "resting_orders": len(exchange.open_orders()),
        "bytes": len(view),
        "pause_first_ms": round(pauses[0] * 1e3, 1),  # its memory is touched for the first time
        "pause_ms": round(statistics.median(pauses[1:]) * 1e3, 1),
        "pause_max_ms": round(max(pauses) * 1e3, 1),
        "snapshot_s": round(statistics.median(writes), 3),
        "snapshot_max_s": round(max(writes), 3),
        "restore_s": round(restored, 3),
    }


def snapshot(path: Path, size: int) -> dict[str, Any]:
    """Write and verify snapshots of ``size`` bytes; read one back."""
    disk = RealDisk(path)
    journal = Journal.open(disk, IDENTITY)
    state = np.random.default_rng(1).integers(0, 256, size, np.uint8)
    written = []
    for _ in range(RUNS):
        journal.append(numbered(commands_of(1), journal.next_seq))
        journal.commit()
        start = time.perf_counter()
        assert journal.snapshot(state, journal.durable_seq)
        written.append(time.perf_counter() - start)
    start = time.perf_counter()
    assert read_snapshot(disk, snapshot_names(disk)[0]) is not None
    read = time.perf_counter() - start
    journal.close()
    disk.close()
    return {"bytes": size, "write_s": round(statistics.median(written), 3), "read_s": round(read, 3)}


def benchmark(folder: str | None, quick: bool) -> dict[str, Any]:
    """All figures; ``quick`` takes a tenth of the work, for a smoke test."""
    part = 10 if quick else 1
    total = 10_000_000 // part
    rates = [
        in_new_folder(folder, lambda p: {"rate": durable_rate(p, 3_000_000 // part, 8_192)})["rate"]
        for _ in range(RUNS if not quick else 1)
    ]
    return {
        "durable_million_commands_s": round(statistics.median(rates), 2),
        "durable_runs": [round(r, 2) for r in rates],
        "commits": [in_new_folder(folder, partial(commits, group=g, count=COMMITS // part)) for g in GROUP_SIZES],
        "recovery": [in_new_folder(folder, partial(recovery, total=total, group=g)) for g in (8, 1_024)],
        "engine": in_new_folder(folder, lambda p: with_engine(p, total, 8_192)),
        "resting": in_new_folder(folder, lambda p: resting(p, 1_000_000 // part)),
        "snapshot": in_new_folder(folder, lambda p: snapshot(p, 100_000_000 // part)),
    }


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.journal", description="The journal alone")
    parser.add_argument("--folder", help="where to measure: the disk of this folder (default: the temporary folder)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    arguments = parser.parse_args(argv)
    found = conditions()
    print(describe(found), file=sys.stderr)
    result = benchmark(arguments.folder, arguments.quick)
    if arguments.json:
        print(json.dumps(result | {"conditions": found}))
        return 0
    for name, value in result.items():
        for row in value if isinstance(value, list) and isinstance(value[0], dict) else [value]:
            print(f"{name:28} {row}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
