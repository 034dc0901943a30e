"""The command line and the demo: what a person waits for. ``python -m benchmarks.cea [--smoke] [--json]``

- ``cea --help``: CPU time of the process, and wall time.
- ``cea serve``: from the start of the process until members can log in, of a new market and after a clean stop.
- ``cea demo``: the whole day, wall time (a smoke run leaves it out: CI runs the demo by itself).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.conditions import conditions, describe
from gateway.config import read_endpoints

RUNS = 5
LOOK_S = 0.005


def help_times() -> tuple[float, float]:
    """CPU and wall seconds of one `cea --help`."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, "-m", "cea.main", "--help"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.monotonic() - began


def serve_time(folder: Path) -> float:
    """Seconds from the start of `cea serve` until members can log in; stops it again."""
    words = [sys.executable, "-m", "cea.main", "serve", str(folder), "--clock", "stepped"]
    began = time.monotonic()
    with (folder / "serve.log").open("wb") as log:
        child = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            while child.poll() is None:
                endpoints = read_endpoints(folder)
                if endpoints is not None and endpoints.pid == child.pid:
                    return time.monotonic() - began
                time.sleep(LOOK_S)
        finally:
            child.terminate()
            child.wait()
    raise SystemExit(f"cea serve ended with {child.returncode}; see {folder / 'serve.log'}")


def serve_times(folder: Path, runs: int) -> list[float]:
    """Seconds until ready: the first of a new market, the others after a clean stop."""
    words = [sys.executable, "-m", "cea.main", "init", str(folder), "--yes", "--date", "20251203"]
    subprocess.run(words, check=True, capture_output=True)
    return [serve_time(folder) for _ in range(runs)]


def main() -> None:
    """Measures and prints medians with the conditions."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cea", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="once each, without the demo")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    args = parser.parse_args()
    runs = 1 if args.smoke else RUNS
    helps = [help_times() for _ in range(runs)]
    with tempfile.TemporaryDirectory(prefix="cea-") as scratch:
        serving = serve_times(Path(scratch) / "market", runs + 1)
        demos = []
        for _ in range(0 if args.smoke else 3):
            words = [sys.executable, "-m", "cea.main", "demo", "--json", "--out", str(Path(scratch) / "out")]
            began = time.monotonic()
            subprocess.run(words, check=True, capture_output=True)
            demos.append(time.monotonic() - began)
    found = {
        "help_cpu_s": round(median(cpu for cpu, _ in helps), 3),
        "help_wall_s": round(median(wall for _, wall in helps), 3),
        "serve_ready_new_market_s": round(serving[0], 2),
        "serve_ready_after_stop_s": round(median(serving[1:]), 2),
        "demo_s": round(median(demos), 1) if demos else None,
        "runs": runs,
        "conditions": conditions(),
    }
    if args.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name}: {describe(value) if isinstance(value, dict) else value}")


if __name__ == "__main__":
    main()
