"""Our book beside other Python ones on the same rows: ``python -m benchmarks.peers [FILE] --json``.

Peers are the naive reference (benchmarks/naive.py) and two packages of the index, `order-matching` and `pyorderbook`.
They are no dependencies of this project: name a Python that has them (``--python``), or let ``--install`` put them into
a temporary environment; else they are skipped with the reason. Only new orders and cancels are sent, because the peers
know nothing else, and only a prefix of the stream, because they are slow. Trades are compared by number and volume.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.book import apply_to_ladder, new_ladder_state, price_band, read_rows
from benchmarks.book_kernel import CANCEL, RESULT
from benchmarks.book_stream import generate
from benchmarks.conditions import conditions, describe
from benchmarks.naive import NaiveRows
from benchmarks.peer_engines import ENGINES
from benchmarks.streams import StreamError
from benchmarks.timing import RUNS_MIN, positive, time_in_turn

PACKAGES: Final = ("order-matching[polars]", "pyorderbook")  # the first does not import without its extra
ROWS: Final = 5_000  # `order-matching` looks through all its orders for each, so more rows make it slower still
TIMEOUT_S: Final = 600


def prefix(rows: np.ndarray, n: int) -> np.ndarray:
    """The first ``n`` new orders and cancels."""
    return np.ascontiguousarray(rows[rows[:, 0] <= CANCEL][:n])


def ours(rows: np.ndarray, runs: int) -> dict[str, Any]:
    """This project's book, median of the runs."""
    band = price_band(rows)
    result = np.zeros(1, RESULT)
    job = (lambda: new_ladder_state(rows, band), lambda state: apply_to_ladder(state, rows, band, result))
    timed = time_in_turn({"ours": job}, runs)["ours"]
    seconds = len(rows) / (timed.rate(len(rows)) * 1e6)
    return {"seconds": seconds, "trades": int(result["trades"][0]), "volume": int(result["volume"][0])}


def naive(rows: np.ndarray) -> dict[str, Any]:
    """The naive reference, one run."""
    book = NaiveRows()
    listed = rows.tolist()
    start = time.perf_counter()
    book.apply_all(listed)
    return {"seconds": time.perf_counter() - start, "trades": book.trades, "volume": book.volume}


def peer(name: str, rows: np.ndarray, python: str) -> dict[str, Any]:
    """A package, one run in a process of its own."""
    script = Path(__file__).with_name("peer_engines.py")
    command = [python, str(script), name]
    try:
        answer = subprocess.run(
            command, input=json.dumps(rows.tolist()), capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"skipped": str(error)}
    if answer.returncode != 0:
        return {"skipped": (answer.stderr.strip().splitlines() or ["it failed without a word"])[-1]}
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def install(folder: str) -> str:
    """A temporary environment with the peers. Returns its Python; raises CalledProcessError."""
    venv.create(folder, with_pip=True)
    python = str(Path(folder) / "bin" / "python")
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return python


def compare(rows: np.ndarray, python: str, runs: int) -> list[dict[str, Any]]:
    """One line an engine: name, thousands of operations a second, and whether its trades equal the reference's."""
    reference = naive(rows)
    lines = [("cea-exchange, bare book", ours(rows, runs)), ("naive reference", reference)]
    lines += [(name, peer(name, rows, python)) for name in ENGINES]
    found: list[dict[str, Any]] = []
    for name, measured in lines:
        if "skipped" in measured:
            found.append({"engine": name, "skipped": measured["skipped"]})
            continue
        same = all(measured[key] == reference[key] for key in ("trades", "volume"))
        kops = round(len(rows) / measured["seconds"] / 1e3, 2)
        found.append({"engine": name, "version": measured.get("version"), "kops": kops, "same_trades": same})
    return found


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description="Python order books on the same rows")
    parser.add_argument("file", nargs="?", help="rows as for benchmarks.book; default: a generated stream")
    parser.add_argument("--rows", type=int, default=ROWS, help="length of the prefix")
    parser.add_argument("--runs", type=positive, default=RUNS_MIN, help="timed runs of ours; the slow peers run once")
    parser.add_argument("--python", default=sys.executable, help="a Python that has the peers installed")
    parser.add_argument("--install", action="store_true", help="install the peers into a temporary environment")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    found = conditions()
    try:
        stream = read_rows(arguments.file) if arguments.file else generate(4 * arguments.rows, seed=1)
    except StreamError as error:
        print(f"benchmarks.peers: {error}", file=sys.stderr)
        return 2
    rows = prefix(stream, arguments.rows)
    with tempfile.TemporaryDirectory(prefix="cea-peers-") as folder:
        python = arguments.python
        if arguments.install:
            try:
                python = install(folder)
            except subprocess.CalledProcessError as error:
                print(f"benchmarks.peers: could not install the peers: {error.stderr.strip()[-200:]}", file=sys.stderr)
        lines = compare(rows, python, arguments.runs)
    print(describe(found), file=sys.stderr)
    if arguments.json:
        print(json.dumps({"rows": len(rows), "peers": lines, "conditions": found}))
    else:
        for line in lines:
            said = line.get("skipped") or f"{line['kops']:12,.2f} thousand ops/s, same trades: {line['same_trades']}"
            print(f"{line['engine']:28} {said}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
