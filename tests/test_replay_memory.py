"""A replay with export streams: ten times the journal does not take ten times the memory (50 M events in 1 GB)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from engine import messages as msg
from engine.exchange import ENGINE_ABI, Exchange
from engine.journal import Identity, Journal, RealDisk
from engine.records import BUY, COMMAND, IOC, NEW, SELL
from engine.rules import Rules

BATCH = 1 << 16
SEGMENT_BYTES = 4 << 20  # small ones, so that the shorter journal has several too

# Runs in a process of its own, whose peak is nobody else's. VmHWM: the kernel's count of the peak (KiB).
MEASURE = """
import json, sys
from pathlib import Path
from replay.export import Export
from replay.journal import JournalReplay
from replay.market_settings import settings_for

replay = JournalReplay(*settings_for(Path(sys.argv[1])))
table = Export(Path(sys.argv[2]), "events")
kept = []
watch = lambda out: (table.watch(out, replay.exchange), kept.append(out.events.copy()) if sys.argv[3] == "keep" else 0)
with table.writer:
    report = replay.run(watch=watch)
    rows = table.end(replay.exchange)
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"events": report.events, "rows": rows, "mib": int(peak) // 1024}))
"""


def make(folder: Path, batches: int) -> None:
    """Sells that rest and buys that take them, ``batches`` × 65,536 of both together; no engine is needed for it."""
    folder.mkdir()
    rules = Rules.generic()
    identity = Identity(ENGINE_ABI, rules.hash(), journal_id=9)
    journal = Journal.open(RealDisk(folder), identity, segment_bytes=SEGMENT_BYTES)
    real = Exchange.apply

    def recording(self, commands, payloads=b""):
        journal.append(commands, bytes(payloads))
        return real(self, commands, payloads)

    with patch.object(Exchange, "apply", recording):
        exchange = Exchange(rules)
        exchange.execute(msg.ListInstrument(code="X", reference=10_000))
    commands = np.zeros(BATCH, COMMAND)
    commands["kind"], commands["price"], commands["quantity"] = NEW, 10_000, 5
    commands["side"][0::2], commands["side"][1::2] = SELL, BUY
    commands["order_type"][1::2] = IOC
    for batch in range(batches):
        first = exchange.seq + 1 + batch * BATCH
        commands["seq"] = np.arange(first, first + BATCH, dtype=np.uint64)
        commands["time_ns"] = exchange.time_ns + np.arange(batch * BATCH, (batch + 1) * BATCH) * 10_000
        for part in range(0, BATCH, BATCH // 16):  # groups as the exchange process writes them, some thousand commands
            journal.append(commands[part : part + BATCH // 16])
        journal.commit()
    journal.close()


def measure(folder: Path, out: Path, how: str = "stream") -> dict[str, int]:
    command = [sys.executable, "-c", MEASURE, str(folder), str(out), how]
    root = Path(__file__).resolve().parent.parent
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, timeout=300)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
def test_memory_does_not_grow_with_the_journal(tmp_path) -> None:
    make(tmp_path / "short", 4)
    make(tmp_path / "long", 40)
    short = measure(tmp_path / "short", tmp_path / "short.parquet")
    long = measure(tmp_path / "long", tmp_path / "long.parquet")
    print(short, long)
    assert long["events"] == long["rows"] > 9 * short["events"] > 9 * 500_000
    per_million = (long["mib"] - short["mib"]) / ((long["events"] - short["events"]) / 1e6)
    assert short["mib"] + per_million * 50 < 1_024, (short, long)
    kept = measure(tmp_path / "long", tmp_path / "kept.parquet", "keep")  # planted: everything is held
    assert kept["mib"] - long["mib"] > 200, (long, kept)
