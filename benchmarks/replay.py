"""Replay: a journal verified, gone through to a moment, exported; a day of other markets; the market's own history.

    python -m benchmarks.replay [--only NAME …] [--commands N] [--folder FOLDER] [--smoke] [--json]

verify    the whole journal: every group's checksum, a state hash per minute, a hash over all events
moment    to a sequence and to a time inside the day, from states that a replay wrote every half million commands
export    all events to Parquet (zstd), replay included; the peak of a process of its own
l3        AMZN's day order by order (needs CEA_DATA)
days      all historical days of 2021-2025 (needs CEA_DATA)

The journal is one day of the national market: 4,000 accounts, 6 vintages, the mix of benchmarks/engine_stream.py with
as many cancels as keep about 100,000 orders open. ``--folder`` keeps it (and finds it again); else it is made in a
temporary folder. ``--marketable`` is the share of new orders that cross.
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
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import engine_stream
from benchmarks.conditions import conditions, describe
from engine import Exchange, Rules
from engine import messages as msg
from engine.calendar import day_start_ns, parse_clock
from engine.exchange import ENGINE_ABI
from engine.journal import Identity, Journal, RealDisk
from engine.market import Capacity
from engine.records import ACCEPTED, COMMAND, MESSAGE, NO_ACCOUNT
from replay.journal import JournalReplay, Moment
from replay.market_settings import settings_for

ACCOUNTS, VINTAGES, OPEN_ORDERS = 4_000, 6, 100_000
COMMANDS: Final = 10_000_000
BATCH: Final = 4_096  # as the exchange process groups them under load
MARKETABLE: Final = 1 / 6
HOURS: Final = (("09:30", 7_200), ("13:00", 7_200))  # seconds
CASH_FEN: Final = 1 << 45
STOCK_T: Final = 1 << 30
MOMENTS: Final = 7

# in a process of its own, whose peak is nobody else's
EXPORT: Final = """
import json, sys, time
from pathlib import Path
from replay.export import Export
from replay.journal import JournalReplay
from replay.market_settings import settings_for

for run in range(2):
    replay = JournalReplay(*settings_for(Path(sys.argv[1])))
    start = time.perf_counter()
    table = Export(Path(sys.argv[2]), "events")
    with table.writer:
        replay.run(watch=lambda output: table.watch(output, replay.exchange))
        rows = table.end(replay.exchange)
    seconds = time.perf_counter() - start
    if sys.argv[3] == "once":
        break
peak = next((int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")), 0)
print(json.dumps({"rows": rows, "seconds": seconds, "peak_mib": peak // 1024}))
"""


class _Recorder:
    """An exchange whose commands go to a journal as well."""

    def __init__(self, folder: Path) -> None:
        rules = Rules.national()
        self.journal = Journal.open(RealDisk(folder), Identity(ENGINE_ABI, rules.hash(), journal_id=1))
        self.exchange = Exchange(rules, Capacity(accounts=4_096, deals=engine_stream.DEALS))
        self.seq = 0

    def message(self, message: Any, time_ns: int) -> None:
        payload = msg.encode(message)
        record = np.zeros(1, COMMAND)
        record["kind"], record["account"], record["quantity"] = MESSAGE, NO_ACCOUNT, len(payload)
        self.apply(record, np.array([time_ns]), payload)

    def apply(self, commands: np.ndarray, times: np.ndarray, payloads: bytes = b"") -> np.ndarray:
        commands["seq"] = np.arange(self.seq + 1, self.seq + 1 + len(commands), dtype=np.uint64)
        commands["time_ns"] = times
        self.seq += len(commands)
        self.journal.append(commands, payloads)
        return self.exchange.apply(commands, payloads).events


def build(folder: Path, commands: int, marketable: float, seed: int = 1) -> dict[str, int]:
    """Writes the day's journal; returns commands, events and orders open at the end."""
    recorder = _Recorder(folder)
    date, codes = engine_stream.DATE, [f"V{n:02d}" for n in range(VINTAGES)]
    start = day_start_ns(date) + parse_clock("08:30")
    for code in codes:
        recorder.message(msg.ListInstrument(code=code, reference=engine_stream.MIDDLE), start)
    recorder.message(msg.RollDay(date=date, composite=engine_stream.MIDDLE), start)
    for account in range(ACCOUNTS):
        recorder.message(msg.OpenAccount(account=account, name=f"Member {account}", open_orders_max=1 << 20), start)
        recorder.message(msg.Deposit(account=account, amount=CASH_FEN, document=f"c{account}"), start)
        for code in codes:
            recorder.message(
                msg.TransferIn(account=account, instrument=code, quantity=STOCK_T, transfer=f"{code}-{account}"), start
            )
    recorder.journal.commit()
    rng = np.random.default_rng(seed)
    live, orders = np.zeros(0, np.uint64), recorder.exchange.market.book.orders
    done = events = 0
    while done < commands:
        size = min(BATCH, commands - done)
        batch = engine_stream.new_orders(rng, size, ACCOUNTS, VINTAGES, 40.0, marketable)
        kinds = rng.random(size)
        new_share = 0.6 if len(live) < OPEN_ORDERS else 0.45
        change = np.flatnonzero(kinds >= new_share)[: len(live)]
        picks = rng.choice(len(live), len(change), replace=False) if len(change) else np.zeros(0, np.int64)
        engine_stream._change(batch, change, kinds, live[picks], orders, rng)
        out = recorder.apply(batch, _times(np.arange(done, done + size), commands))
        recorder.journal.commit()
        events += len(out)
        live = np.concatenate([live, out["order_id"][out["kind"] == ACCEPTED]])
        slots = (live & np.uint64(0xFFFFFFFF)).astype(np.int64)
        live = live[(orders["leaves"][slots] > 0) & (orders["generation"][slots] == live >> np.uint64(32))]
        done += size
    recorder.journal.close()
    return {"commands": recorder.seq, "events": events, "open_orders": len(live)}


def _times(numbers: np.ndarray, count: int) -> np.ndarray:
    """Evenly over both sessions of the day."""
    seconds = sum(length for _, length in HOURS)
    since = numbers * (seconds * 10**9 // (count + 1))
    first = HOURS[0][1] * 10**9
    starts = [day_start_ns(engine_stream.DATE) + parse_clock(text) for text, _ in HOURS]
    return np.where(since < first, starts[0] + since, starts[1] + since - first)


def verify(folder: Path, index: Path, runs: int) -> dict[str, Any]:
    """The whole journal, as `cea replay journal` does it."""
    rates = []
    JournalReplay(*settings_for(folder)).run(Moment(seq=50_000))  # loads the kernel
    for _ in range(runs):
        replay = JournalReplay(*settings_for(folder))
        start, cpu = time.perf_counter(), time.process_time()
        report = replay.run()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        rates.append((report.commands / seconds / 1e6, report.commands / cpu / 1e6))
    return {
        "commands": report.commands,
        "events": report.events,
        "minutes": len(report.minutes),
        "mcommands_per_s": round(statistics.median(r for r, _ in rates), 2),
        "mcommands_per_cpu_s": round(statistics.median(c for _, c in rates), 2),
        "runs": runs,
    }


def moment(folder: Path, index: Path, runs: int) -> dict[str, Any]:
    """From nothing to a moment: half of the moments are sequences, half are times."""
    replay = JournalReplay(*settings_for(folder))
    if not index.exists():
        replay.run(index=index)
        index.mkdir(exist_ok=True)
    states = [int(p.stem) for p in index.glob("*.state")]
    if not states:
        return {"skipped": "a journal of less than half a million commands has no state inside"}
    last = max(states)
    rng = np.random.default_rng(7)
    seconds = []
    JournalReplay(*settings_for(folder)).go_to(Moment(seq=min(states) + 1), index)  # loads what restores a state
    for n in range(max(runs, 2)):
        seq = int(rng.integers(last // 10, last + 900_000))
        when = int(_times(np.array([seq]), max(last, 1))[0])
        replay = JournalReplay(*settings_for(folder))
        start = time.perf_counter()
        replay.go_to(Moment(seq=seq) if n % 2 == 0 else Moment(time_ns=when), index)
        seconds.append(time.perf_counter() - start)
    return {
        "last_state": last,
        "state_mb": round(max(p.stat().st_size for p in index.glob("*.state")) / 1e6, 1),
        "median_s": round(statistics.median(seconds), 3),
        "slowest_s": round(max(seconds), 3),
        "moments": len(seconds),
    }


def export(folder: Path, index: Path, runs: int) -> dict[str, Any]:
    """All events to Parquet in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "events.parquet"
        words = [sys.executable, "-c", EXPORT, str(folder), str(out), "once" if runs > 2 else "twice"]
        answer = subprocess.run(words, capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(answer.stdout)
        found["mb"] = round(out.stat().st_size / 1e6, 1)
    found["mevents_per_s"] = round(found["rows"] / found["seconds"] / 1e6, 2)
    found["seconds"] = round(found["seconds"], 2)
    return found


def _data() -> Path | None:
    named = os.environ.get("CEA_DATA")
    return Path(named) if named else None


def l3(folder: Path, index: Path, runs: int) -> dict[str, Any]:
    """AMZN, 235,213 commands, from the compressed files."""
    from replay.l3 import replay_l3

    data = _data()
    if data is None:
        return {"skipped": "CEA_DATA is not set"}
    seconds = []
    for _ in range(runs + 1):  # the first loads the kernel
        start = time.perf_counter()
        report = replay_l3(data / "l3" / "AMZN_5.cmd.csv.xz")
        seconds.append(time.perf_counter() - start)
        assert report.ok
    return {"commands": report.commands, "books": report.books, "median_s": round(statistics.median(seconds[1:]), 3)}


def days(folder: Path, index: Path, runs: int) -> dict[str, Any]:
    """All days that the exchange's table has."""
    from replay.days import replay_days

    data = _data()
    if data is None:
        return {"skipped": "CEA_DATA is not set"}
    start = time.perf_counter()
    report = replay_days(data / "cea" / "cea_daily_2021-2025.csv", 0, 99_999_999)
    return {
        "days": report.days,
        "deals": report.listed_deals,
        "ok": report.ok,
        "s": round(time.perf_counter() - start, 1),
    }


BENCHMARKS: Final[dict[str, Callable[[Path, Path, int], dict[str, Any]]]] = {
    "verify": verify,
    "moment": moment,
    "export": export,
    "l3": l3,
    "days": days,
}


def main(arguments: list[str] | None = None) -> int:
    """Command line: see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=tuple(BENCHMARKS), default=tuple(BENCHMARKS))
    parser.add_argument("--commands", type=int, default=COMMANDS)
    parser.add_argument("--marketable", type=float, default=MARKETABLE)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="small numbers: does it run at all?")
    parser.add_argument("--build", action="store_true", help="only write the journal")
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args(arguments)
    count, runs = (20_000, 1) if a.smoke else (a.commands, a.runs)
    wanted = [name for name in a.only if not (a.smoke and name == "days")]
    with tempfile.TemporaryDirectory() as scratch:
        folder = a.folder or Path(scratch)
        journal, index = folder / "journal", folder / "index"
        result: dict[str, Any] = {"conditions": conditions()}
        if not journal.exists():
            journal.mkdir(parents=True)
            result["built"] = build(journal, count, a.marketable)
        for name in [] if a.build else wanted:
            result[name] = BENCHMARKS[name](journal, index, runs)
    if a.json:
        print(json.dumps(result, indent=2))
    else:
        print(describe(result["conditions"]))
        for name, figures in result.items():
            if name != "conditions":
                print(f"{name}: " + ", ".join(f"{k} {v}" for k, v in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
