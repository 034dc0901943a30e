"""What the operators' room costs the members: metrics alone at full rate; metrics, monitor, surveillance at half.

    python -m benchmarks.room --json [--smoke] [--pairs 7] [--part metrics|room]

metrics   three exchanges, one with metrics and scraped each second, two without: orders as fast as they are answered,
          in turn, one run each. Aim: with ≥ 0.97 of without. The second one without is the control: two processes
          that do the same differ, by where their memory lies and by what else the machine does.
room      three exchanges with metrics, one of them with `cea monitor` (a process of its own with the operators'
          stream and surveillance) and scraped each second. In turn, many short windows; who is not measured is stopped
          (SIGSTOP). Orders at half the full rate, open loop, latency from the intended time. Aim: p99 with ≤ 1.1 of
          without, as many orders answered a second. The controls: a second exchange without anybody in the room, and a
          process beside the first that only spins, with the monitor's own low priority: what a machine without a core
          to spare does by itself. `--policy` has the monitor and that process run another way. Processor time of the
          exchange per order is printed beside: other load changes it least.

Orders are immediate-or-cancel buys of one session on an empty book, hot lane, without CURVE, durable. No snapshots
meanwhile: one after each million commands shares disk and processors for a second, whoever is in the room. No browser
is open: a page's cost is its own process's. Load, exchange and monitor share the processors; see the conditions.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import gateway as gw
from benchmarks.conditions import conditions, describe
from engine.records import BUY, IOC
from gateway import config as cfg
from gateway.client import Client
from gateway.monitor import users
from gateway.operator import OperatorClient

SCRAPE_S: Final = 1.0
SETTLE_S: Final = 0.25  # after somebody runs again
WARM_S: Final = 0.1  # of load before a window, at its rate
MONITORS_OWN: Final = "nice"  # as `cea monitor` runs (cea/monitoring.py)
POLICIES: Final = {"": [], "nice": ["nice", "-n", "15"], "batch": ["chrt", "-b", "0"], "idle": ["chrt", "-i", "0"]}


@contextlib.contextmanager
def scraped(folder: Path, every_s: float = SCRAPE_S) -> Iterator[list[int]]:
    """Prometheus' part: the metrics read again and again, their size kept."""
    endpoints = cfg.read_endpoints(folder)
    assert endpoints is not None
    ending, sizes = threading.Event(), []

    def read() -> None:
        while not ending.wait(every_s):
            with urllib.request.urlopen(endpoints.metrics, timeout=5) as answer:
                sizes.append(len(answer.read()))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield sizes
    finally:
        ending.set()
        thread.join()


def cpu_seconds(folder: Path) -> float:
    """Processor time of the exchange so far, all its threads: what other load on the machine changes least."""
    endpoints = cfg.read_endpoints(folder)
    assert endpoints is not None
    return process_seconds(endpoints.pid)


def process_seconds(pid: int) -> float:
    """Processor time of a process so far, by the nanosecond (Linux)."""
    return time.clock_gettime((~pid << 3) | 2)


@contextlib.contextmanager
def spinning(policy: str) -> Iterator[subprocess.Popen[bytes]]:
    """The control: a process that only uses a processor, with a low priority."""
    process = subprocess.Popen([*POLICIES[policy], sys.executable, "-c", "while True: pass"])
    time.sleep(SETTLE_S)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def metrics_alone(pairs: int, total: int) -> dict[str, Any]:
    """Full rate with metrics and without, in turn."""
    native, one = gw.Native(), gw.records(BUY, IOC, 1)
    names = ("without", "with", "control")
    rates: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        folders = {
            name: stack.enter_context(gw.exchange(False, "hot", metrics=name == "with", snapshot_commands=0))
            for name in names
        }
        sizes = stack.enter_context(scraped(folders["with"]))
        loads = {}
        for name, folder in folders.items():
            client = stack.enter_context(Client(folder, key=str(folder / "keys" / "member-1.key"), heartbeat_ms=60_000))
            loads[name] = gw.open_load(native, [client], one)
            loads[name].run(total // 4, 4_096, 1)
        for n in range(pairs):
            for name in [*names[n % 3 :], *names[: n % 3]][:: -1 if n % 2 else 1]:
                before = cpu_seconds(folders[name])
                rates[name].append(total / loads[name].run(total, 8_192, 1)[0])
                cpu[name].append((cpu_seconds(folders[name]) - before) / total * 1e6)

    middle = {name: statistics.median(values) for name, values in cpu.items()}

    def ratios(of: dict[str, list[float]], name: str) -> list[float]:
        return [round(b / a, 3) for a, b in zip(of["without"], of[name], strict=True)]

    return {
        "orders_per_second": {k: round(statistics.median(v)) for k, v in rates.items()},
        "with_of_without": round(statistics.median(ratios(rates, "with")), 3),
        "control_of_without": round(statistics.median(ratios(rates, "control")), 3),
        "pairs": ratios(rates, "with"),
        "control_pairs": ratios(rates, "control"),
        "aim": ">= 0.97",
        "cpu_us_per_order": {name: round(value, 3) for name, value in middle.items()},
        "cpu_with_of_without": round(statistics.median(ratios(cpu, "with")), 3),
        "cpu_control_of_without": round(statistics.median(ratios(cpu, "control")), 3),
        "cpu_with_of_both": round(2 * middle["with"] / (middle["without"] + middle["control"]), 3),
        "scrapes": len(sizes),
        "scrape_bytes": max(sizes, default=0),
    }


@contextlib.contextmanager
def monitor(folder: Path, policy: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """`cea monitor` with its stream and surveillance; ready when its session is logged in. It lowers its own priority;
    ``policy``: a way to run it that lowers it further, or "" for nothing more."""
    mark = folder / "run" / "monitor.json"
    mark.unlink(missing_ok=True)
    process = subprocess.Popen(
        [*POLICIES[policy], sys.executable, "-m", "cea.main", "monitor", str(folder), "--port", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        ends = time.monotonic() + 60
        while not mark.exists():
            if process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError("the monitor did not start")
            time.sleep(0.05)
        time.sleep(SETTLE_S)
        yield process
    finally:
        process.terminate()
        process.wait(20)


class Side:
    """An exchange with its load, and who is in its room; stopped while another one is measured."""

    def __init__(self, native: gw.Native, around: contextlib.ExitStack, policy: str | None) -> None:
        """policy: how its monitor runs; None for nobody in the room."""
        self.folder = around.enter_context(gw.exchange(False, "hot", snapshot_commands=0))
        endpoints = cfg.read_endpoints(self.folder)
        assert endpoints is not None
        self.pids = [endpoints.pid]
        if policy is not None:
            users.save(self.folder / "keys", "watcher", "a password that is long", "viewer", "")
            self.pids.append(around.enter_context(monitor(self.folder, policy)).pid)
        key = str(self.folder / "keys" / "member-1.key")
        self.client = around.enter_context(Client(self.folder, key=key, heartbeat_ms=60_000))
        self.load = gw.open_load(native, [self.client], gw.records(BUY, IOC, 1))
        around.callback(self.leave)
        self.signal(signal.SIGSTOP)

    def leave(self) -> None:
        """Before the others end: everybody runs, and the client forgets numbers that are the load's now."""
        self.signal(signal.SIGCONT)
        self.client.link.socket = None

    def signal(self, number: int) -> None:
        """To the exchange and to who is in its room."""
        for pid in self.pids:
            os.kill(pid, number)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Everybody of this side runs, and has found that out."""
        self.signal(signal.SIGCONT)
        time.sleep(SETTLE_S)
        try:
            yield
        finally:
            self.signal(signal.SIGSTOP)


def window(side: Side, rate: float, seconds: float, other: int) -> dict[str, float]:
    """Latencies at a fixed rate; processor time of exchange, load and the process ``other`` (0: none) meanwhile."""
    step_ns = int(1e9 / rate)
    side.load.run(int(rate * WARM_S), 1 << 20, 1, step_ns, np.zeros(int(rate * WARM_S), np.int64))
    latencies = np.zeros(int(rate * seconds), np.int64)
    before, mine = cpu_seconds(side.folder), time.process_time()
    theirs = process_seconds(other) if other else 0.0
    took, _ = side.load.run(len(latencies), 1 << 20, 1, step_ns, latencies)
    used, mine = cpu_seconds(side.folder) - before, time.process_time() - mine
    theirs = process_seconds(other) - theirs if other else 0.0
    return {
        **gw.microseconds(latencies, 50, 99, 99.9),
        "orders_per_second": round(len(latencies) / took),
        "cpu_us_per_order": used / len(latencies) * 1e6,
        "exchange_cores": used / took,
        "load_cores": mine / took,
        "other_cores": theirs / took,
    }


def room(pairs: int, seconds: float, full_rate: float, share: float = 0.5, policy: str = "") -> dict[str, Any]:
    """Latency at half the full rate (or another share), with the room and without, in turn."""
    native, names = gw.Native(), ("without", "with", "control", "spinning")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with contextlib.ExitStack() as around:
        sides = {name: Side(native, around, policy if name == "with" else None) for name in names[:3]}
        sides["spinning"] = sides["without"]
        total = 500_000 if seconds > 0.3 else 20_000
        rate = full_rate
        for side in sides.values():
            with side.running():
                side.load.run(total // 4, 4_096, 1)
                rate = rate or total / side.load.run(total, 8_192, 1)[0]
        for n in range(pairs):
            for name in names[:: -1 if n % 2 else 1]:
                side = sides[name]
                with contextlib.ExitStack() as meanwhile:
                    meanwhile.enter_context(side.running())
                    other = 0
                    if name == "with":
                        meanwhile.enter_context(scraped(side.folder, SCRAPE_S / 4))  # windows are short
                        other = side.pids[1]
                    elif name == "spinning":
                        other = meanwhile.enter_context(spinning(policy or MONITORS_OWN)).pid
                    found[name].append(window(side, rate * share, seconds, other))
        with sides["with"].running(), watching(sides["with"].folder) as ops:
            sequence = ops.status()["seq"]

    keys = ("p50_us", "p99_us", "p99.9_us", "orders_per_second", "cpu_us_per_order")

    def ratios(name: str, key: str) -> list[float]:
        return [b[key] / a[key] for a, b in zip(found["without"], found[name], strict=True)]

    def medians(name: str) -> dict[str, float]:
        return {key: round(statistics.median(w[key] for w in found[name]), 3) for key in keys}

    def of_without(name: str) -> dict[str, float]:
        return {key: round(statistics.median(ratios(name, key)), 3) for key in keys}

    return {
        "full_rate": round(rate),
        "rate": round(rate * share),
        "cores": {
            name: {
                of: round(statistics.median(w[f"{of}_cores"] for w in rows), 2) for of in ("exchange", "load", "other")
            }
            for name, rows in found.items()
        },
        "medians": {name: medians(name) for name in names},
        **{f"{name}_of_without": of_without(name) for name in names[1:]},
        "p99_pairs": {name: [round(r, 2) for r in ratios(name, "p99_us")] for name in names[1:]},
        "aim": "p99 <= 1.1, orders_per_second >= 0.99",
        "sequence": sequence,
        "windows": found,
    }


def watching(folder: Path) -> OperatorClient:
    """An operator of a market."""
    return OperatorClient(folder, key=str(folder / "keys" / "ops1.key"))


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.room", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="does it run at all")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--orders", type=int, default=500_000, help="orders of one run at the full rate")
    parser.add_argument("--seconds", type=float, default=0.5, help="of one window at half the rate")
    parser.add_argument("--rate", type=float, default=0, help="full rate; 0: measured first")
    parser.add_argument("--part", choices=("metrics", "room"), default="")
    parser.add_argument("--share", type=float, default=0.5, help="of the full rate, in the room's windows")
    parser.add_argument("--policy", choices=tuple(POLICIES), default="", help="how the monitor runs")
    args = parser.parse_args()
    if args.smoke:
        args.pairs, args.orders, args.seconds = 1, 20_000, 0.1
    found: dict[str, Any] = {"conditions": conditions()}
    if args.part != "room":
        found["metrics"] = metrics_alone(args.pairs, args.orders)
    if args.part != "metrics":
        found["room"] = room(args.pairs, args.seconds, args.rate, args.share, args.policy)
    if args.json:
        print(json.dumps(found, indent=1))
        return
    print(describe(conditions()))
    if "metrics" in found:
        alone = found["metrics"]
        print(f"metrics alone, full rate: {alone['with_of_without']} of without (aim 0.97)")
        print(f"processor time per order: {alone['cpu_with_of_without']} of without")
        print(f"the control: {alone['control_of_without']}, processor time {alone['cpu_control_of_without']}")
    if "room" in found:
        r = found["room"]
        print(f"room at {r['rate']:,} orders/s, with of without: {r['with_of_without']} (aim p99 1.1)")
        print(f"processors that exchange, load and the other process use: {r['cores']}")
        print(f"a second exchange without anybody: {r['control_of_without']}")
        print(f"a process that spins instead: {r['spinning_of_without']}")


if __name__ == "__main__":
    main()
