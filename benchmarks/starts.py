"""Starts of the exchange process, and its snapshots while it trades.

``python -m benchmarks.starts [--commands N] [--resting N] [--every N] [--folder FOLDER] [--json] [--smoke]``

A market of 1,000 members and six vintages trades the mix of ``benchmarks.engine`` in a market folder: sessions, report
streams and log as live, sockets bound, nobody connected. Then the process is gone without a clean stop, and started
again: from its last snapshot, and from none. Each start is a process of its own with numba's cache warm; its seconds
are those of ``Server.open``, until members can log in, with the sequence and the reports that came back compared.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import engine_stream
from benchmarks.conditions import conditions, describe
from engine import messages as m
from engine.calendar import day_start_ns, parse_clock
from engine.exchange import Exchange
from gateway import config as cfg
from gateway.server import Server

MEMBERS: Final = 1_000
VINTAGES: Final = 6
DATE: Final = engine_stream.DATE
CASH: Final = 10**13  # fen each: nobody runs out
HOLDING: Final = 10**9  # t of each vintage
GROUP: Final = 8_192
MEGABYTE: Final = 1 << 20


def make_folder(folder: Path, resting: int, every: int) -> cfg.Market:
    """A new market folder of the benchmark's size."""
    config = cfg.Config(
        first_date=DATE,
        instruments={f"V{n:02d}": engine_stream.MIDDLE for n in range(VINTAGES)},
        composite=engine_stream.MIDDLE,
        members=tuple(cfg.Member(i, f"member {i}") for i in range(1, MEMBERS + 1)),
        capacity={"accounts": MEMBERS + 1, "orders": (1 << 17) + 2 * resting, "deals": 1 << 21},
        gateway=cfg.Gateway(metrics=False, snapshot_commands=every, snapshot_minutes=0),
    )
    return cfg.create(folder, config, days=[DATE])


def fund(server: Server) -> None:
    """Cash and allowances for every member; the morning opens."""
    core = server.core
    for account in range(1, MEMBERS + 1):
        core.source(m.Deposit(account=account, amount=CASH, document=f"bank-{account}"))
        for number in range(VINTAGES):
            core.source(
                m.TransferIn(
                    account=account, instrument=f"V{number:02d}", quantity=HOLDING, transfer=f"in-{number}-{account}"
                )
            )
    core.flush()
    core.step_to(day_start_ns(DATE) + parse_clock("09:30"))


def stream(server: Server, commands: int, resting: int) -> np.ndarray:
    """COMMAND[n] that go on from where the server's exchange stands, with sessions and request numbers."""
    exchange = server.core.exchange
    twin = Exchange.restore(exchange.rules, exchange.snapshot(), exchange.market.capacity)
    twin.advance(server.core.clock.now())
    records = engine_stream.make(twin, commands, seed=1, resting=resting)
    session_of = np.zeros(MEMBERS + 1, np.uint16)
    for key in server.core.keys.keys:
        if key.role == "trader":
            session_of[key.account] = key.session
    session_of[0] = session_of[1]  # account 0 does not exist: a member hears that
    records["session"] = session_of[records["account"]]
    order = np.argsort(records["session"], kind="stable")
    sessions = records["session"][order]
    starts = np.searchsorted(sessions, sessions)
    numbers = np.empty(len(records), np.uint32)
    numbers[order] = np.arange(len(records)) - starts + 1
    records["request_no"] = numbers
    return records


def trade(server: Server, records: np.ndarray) -> dict[str, Any]:
    """The stream through journal, engine and reports, snapshots taken as they are due; groups' times in ms."""
    core, snapshots = server.core, server.snapshots
    assert snapshots is not None
    spent: list[int] = []
    beside: list[int] = []
    pauses, writes = [], []
    for at in range(0, len(records), GROUP):
        batch = records[at : at + GROUP]
        begun = time.perf_counter_ns()
        server.journal.append(batch)
        server.journal.commit()
        core.apply(batch, b"")
        middle = time.perf_counter_ns()
        (beside if snapshots.writing else spent).append(middle - begun)
        taken = snapshots.taken
        was = snapshots.writing
        snapshots.turn(middle)
        if snapshots.writing and not was:
            pauses.append(snapshots.pause_ns)
        if snapshots.taken > taken:
            writes.append(snapshots.write_ns)
    if snapshots.writing:
        snapshots.collect(wait=True)
        writes.append(snapshots.write_ns)
    row = {
        "commands": len(records),
        "reports": core.store.count,
        "resting": len(core.exchange.open_orders()),
        "group_ms_p50": _ms(spent, 0.5),
        "group_ms_p99": _ms(spent, 0.99),
        "million_commands_s": round(len(records) / (sum(spent) + sum(beside)) * 1e3, 2),
        "snapshots": len(pauses),
        "pauses_ms": [round(p / 1e6, 1) for p in pauses],
        "writes_s": [round(w / 1e9, 2) for w in writes],
        "beside_a_snapshot_group_ms_p50": _ms(beside, 0.5),
        "beside_a_snapshot_group_ms_p99": _ms(beside, 0.99),
    }
    return row


def _ms(values: list[int], share: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))] / 1e6, 2) if values else 0.0


def start(folder: Path) -> dict[str, Any]:
    """Opens the exchange of a folder in this process, and lets it go without a clean stop."""
    server = Server(cfg.load(folder), "stepped")
    begun, busy = time.perf_counter(), time.process_time()
    server.open()
    row = {
        "start_s": round(time.perf_counter() - begun, 2),
        "start_cpu_s": round(time.process_time() - busy, 2),
        "from_snapshot_of": server.journal.recovery.snapshot_seq,
        "seq": server.core.exchange.seq,
        "reports": server.core.store.count,
        "digest": server.core.store.digest(int(np.argmax(server.core.store.streams["next_no"]))),
        "state": f"{server.core.exchange.state_hash():016x}",
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    server.close()
    return row


def started(folder: Path) -> dict[str, Any]:
    """``start`` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.starts", "--start", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def benchmark(folder: Path, commands: int, resting: int, every: int) -> dict[str, Any]:
    """Trades a folder and starts it again; the states and reports must be those that were there."""
    server = Server(make_folder(folder, resting, every), "stepped")
    server.open()
    fund(server)
    live = trade(server, stream(server, commands, resting))
    core = server.core
    expected = core.exchange.seq, core.store.count, f"{core.exchange.state_hash():016x}"
    server.close()
    journal = folder / "journal"
    size = {
        kind: sum(p.stat().st_size for p in journal.glob(f"*.{kind}")) // MEGABYTE for kind in ("snapshot", "increment")
    }
    rows = {"from_snapshot": started(folder)}
    for path in [*journal.glob("*.snapshot"), *journal.glob("*.increment")]:
        path.unlink()
    rows["from_nothing"] = started(folder)
    for row in rows.values():
        assert (row["seq"], row["reports"], row["state"]) == expected, (row, expected)
    assert len({row["digest"] for row in rows.values()}) == 1, "the same reports, byte for byte"
    return {"live": live, "mib": size, **rows}


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.starts", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--commands", type=int, default=10_000_000)
    parser.add_argument("--resting", type=int, default=0, help="orders that are entered first and rest")
    parser.add_argument("--every", type=int, default=1_000_000, help="commands from one snapshot to the next, 0: none")
    parser.add_argument("--folder", help="where to measure: the disk of this folder (default: the temporary folder)")
    parser.add_argument("--start", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--smoke", action="store_true", help="small numbers that say nothing about speed")
    arguments = parser.parse_args(argv)
    if arguments.start:
        print(json.dumps(start(Path(arguments.start))))
        return 0
    found = conditions()
    print(describe(found), file=sys.stderr)
    commands, every = (60_000, 20_000) if arguments.smoke else (arguments.commands, arguments.every)
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="starts-benchmark-") as path:
        os.environ.setdefault("PYTHONPATH", str(Path(__file__).resolve().parent.parent))
        result = benchmark(Path(path) / "market", commands, arguments.resting, every)
    if arguments.json:
        print(json.dumps(result | {"conditions": found}))
        return 0
    for name, value in result.items():
        print(f"{name:16} {value}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
