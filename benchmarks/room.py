"""What the operators' room costs the members: metrics alone at full rate; metrics, monitor, surveillance at half.

    python -m benchmarks.room --json [--smoke] [--pairs 4] [--series 1] [--part metrics|room] [--curve] [--keep FILE]

One exchange process, and short windows of load in pairs: the room is there in one of the two and not in the other, in
turn the first and the second. Between two of these pairs stands a control pair, for which the same is asked and
nothing changes: it has to come out at 1. What drifts (memory, the disk, who else wants the machine) meets both windows
of a pair. Of each figure: the median of the pairs' ratios, and where 95 of 100 resamplings of the pairs have it. One
pause of disk or host decides a window's p99, so of latencies two more are told: that of the usual quarter of a second,
the median of all that were measured with against the median of all without; and of all windows taken together.

metrics   orders as fast as they are answered. With: the exchange counts and times for its metrics as it does by itself,
          and a process of its own asks for them once a window, which is more often than anybody does. Without: neither
          (its HTTP thread waits, asked by nobody). Aim: with ≥ 0.97 of without.
room      orders at half the full rate, open loop, latency from the intended time, metrics counted in all windows. With:
          `cea monitor` is connected, takes the stream of all events under surveillance from then on, and metrics are
          asked for. Without: it has logged out, its page still runs. Aim: p99 with ≤ 1.1 of without, as many orders
          answered a second. Each window begins a second after its load, which began when the monitor had come or gone:
          what a new connection costs a day has once. An exchange has memory for few such windows: ``--series`` starts
          several.

Processor time of the exchange per order is printed beside: other load changes it least. Orders are immediate-or-cancel
buys of one session on an empty book, hot lane, durable, encrypted with ``--curve``. No snapshots meanwhile: one after
each million commands shares disk and processors for a second, whoever is in the room. No browser is open: a page's
cost is its own process's. Load, exchange and monitor share the processors; see the conditions. ``--keep``: pairs are
added to a file, and all that stand in it are told: many short series instead of a long one.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import json
import os
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np
import zmq

from benchmarks import gateway as gw
from benchmarks import gateway_controls as controls
from benchmarks.conditions import conditions, describe, keep_awake
from engine.records import BUY, IOC
from gateway import config as cfg
from gateway.client import Client
from gateway.monitor import users

SETTLE_S: Final = 0.3  # after somebody came or left
COUNTING_S: Final = 0.05  # after counting was switched
WARM_S: Final = 1.0  # of load before a window, at its rate: a monitor that has just come touches its memory
SCRAPED_AT_S: Final = 0.05  # into a window; the exchange answers within milliseconds
RATE_MOST: Final = 2_500_000  # orders a second, as fast as any machine has been that we had
RATED: Final = 5  # windows whose median is the full rate
QUARTER_S: Final = 0.25
WINDOW: Final = 8_192  # orders open at once at the full rate
RESAMPLINGS: Final = 2_000
SWITCH_MS: Final = 60_000
KINDS: Final = ("pair", "control")
PERCENTS: Final = (50, 99, 99.9)
TOLD: Final = tuple(f"p{q:g}_us" for q in PERCENTS)
BIN: Final = 0.01  # latencies are kept in steps of one hundredth, from a microsecond on
FIGURES: Final = ("orders_per_second", "p50_us", "p99_us", "p99.9_us", "cpu_us_per_order")


def process_seconds(pid: int) -> float:
    """Processor time of a process so far, all its threads, by the nanosecond (Linux)."""
    return time.clock_gettime((~pid << 3) | 2)


def host_took_s() -> float:
    """What the host of this virtual machine has taken from its processors so far, as Linux tells it."""
    return int(Path("/proc/stat").read_text().split(None, 9)[8]) / os.sysconf("SC_CLK_TCK")


# --- what is switched on and off --------------------------------------------------------------------------------


def switched(folder: Path, name: str, turn: Callable[[bool], None]) -> None:
    """In the process that has the switch: a thread that turns it as it is told, and says when that is done."""
    socket: Any = zmq.Context().socket(zmq.REP)
    socket.bind(f"ipc://{folder}/{name}.switch")

    def listen() -> None:
        while True:
            turn(socket.recv() == b"on")
            socket.send(b"done")

    threading.Thread(target=listen, daemon=True).start()


class Switch:
    """The other end. ``settle_s``: what is waited after each turn."""

    def __init__(self, folder: Path, name: str, settle_s: float) -> None:
        self.settle_s = settle_s
        self._socket: Any = zmq.Context.instance().socket(zmq.REQ)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(f"ipc://{folder}/{name}.switch")

    def __call__(self, on: bool) -> None:
        """Returns when it is so, and what that took is over."""
        self._socket.send(b"on" if on else b"off")
        if not self._socket.poll(SWITCH_MS):
            raise RuntimeError("the switch was not turned")
        self._socket.recv()
        time.sleep(self.settle_s)


SERVE: Final = "import sys; from pathlib import Path; from benchmarks.room import serve; serve(Path(sys.argv[1]))"


def serve(folder: Path) -> None:
    """The exchange, whose metrics can be switched off: what it counts and times for them, and copies each second."""
    from gateway.server import Server
    from gateway.turn import Turn

    server = Server(cfg.load(folder), "stepped")
    server.start()
    core, metrics = server.core, server.metrics
    update, timed, whole = metrics.update, metrics.timed, core.turn
    assert timed is not None and isinstance(whole, Turn), "metrics are on, and the hot lane runs"

    def turn(on: bool) -> None:
        core.journal = timed if on else timed.journal
        core.reported = metrics._reported if on else lambda commands, began_ns: None
        whole.committed = timed.note if on else lambda took_ns: None
        metrics.update = update if on else lambda core, journal: None  # type: ignore[method-assign]

    switched(folder, "metrics", turn)
    server.announce()
    gc.freeze()  # as the exchange does
    server.run()


def watch(folder: Path) -> None:
    """`cea monitor`, whose connection can be switched off; its surveillance takes events from the connection on."""
    from gateway.monitor import app, feed
    from gateway.operator import OperatorClient

    class Switched(feed.Feed):
        _now: feed.Feed | None = None

        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            self._how = args, more
            switched(folder, "monitor", self.turn)

        def start(self) -> None:
            """Nobody is connected at first."""

        def turn(self, on: bool) -> None:
            if not on and self._now is not None:
                self._now.stop()
                self._now = None
            elif on and self._now is None:
                self._now = FromNow(*self._how[0], **self._how[1])
                self._now.start()
                while not self._now.picture.seen:
                    time.sleep(0.01)

    class FromNow(feed.Feed):
        def _follow(self, ops: OperatorClient) -> None:
            next_event = ops.status()["next_event"]
            ops.subscribe = lambda first=1, **how: ops.link.subscribe(next_event, **how)  # type: ignore[method-assign]
            super()._follow(ops)

    app.Feed = Switched  # type: ignore[misc]
    sys.argv = ["cea", "monitor", str(folder), "--port", "0"]  # this process becomes the command
    runpy.run_module("cea.main", run_name="__main__")


@contextlib.contextmanager
def monitor(folder: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """`cea monitor`, or what the words name instead; ready when its page answers."""
    mark = folder / "run" / "monitor.json"
    mark.unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, *(words or ("-m", "cea.main", "monitor", str(folder), "--port", "0"))],
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


SCRAPER: Final = """
import sys, time, urllib.request
from gateway.giving_way import give_way
give_way()
for line in sys.stdin:
    time.sleep(float(line))
    with urllib.request.urlopen(sys.argv[1], timeout=30) as answer:
        print(len(answer.read()), flush=True)
"""


@contextlib.contextmanager
def scraper(folder: Path) -> Iterator[Callable[[], Callable[[], int]]]:
    """Prometheus' part, a process that gives way, as one on another machine would: called it reads the metrics a moment
    later; what it returns waits for that, and tells their size."""
    endpoints = cfg.read_endpoints(folder)
    assert endpoints is not None
    words = [sys.executable, "-c", SCRAPER, endpoints.metrics]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None and process.stdout is not None
        asked, told = process.stdin, process.stdout

        def scrape() -> Callable[[], int]:
            asked.write(f"{SCRAPED_AT_S}\n")
            return lambda: int(told.readline())

        yield scrape
        asked.close()


# --- what is measured -------------------------------------------------------------------------------------------


class Market:
    """An exchange with its load."""

    def __init__(self, around: contextlib.ExitStack, warm: int, orders: int, *, curve: bool) -> None:
        """warm: orders at the full rate before anything is measured, some times; orders: then, at most: memory is there
        before they come. curve: everybody's connections are encrypted."""
        with mock.patch.object(gw, "SERVE", SERVE):
            ahead = gw.ahead_of((1 + RATED) * warm + orders)
            self.folder = around.enter_context(gw.exchange(curve, "hot", snapshot_commands=0, orders_ahead=ahead))
            gw.present(self.folder)
        endpoints = cfg.read_endpoints(self.folder)
        assert endpoints is not None
        self.pid = endpoints.pid
        self.scrape = around.enter_context(scraper(self.folder))
        self.metrics = Switch(self.folder, "metrics", COUNTING_S)
        key = str(self.folder / "keys" / "member-1.key")
        self.client = around.enter_context(Client(self.folder, key=key, heartbeat_ms=60_000))
        self.load = gw.open_load(gw.Native(), [self.client], gw.records(BUY, IOC, 1))
        around.callback(self._leave)
        self.load.run(warm, WINDOW, 1)
        self.full_rate = float(np.median([warm / self.load.run(warm, WINDOW, 1)[0] for _ in range(RATED)]))

    def _leave(self) -> None:
        """Before the client ends: its numbers are the load's now."""
        self.client.link.socket = None

    def window(self, orders: int, rate: float, *, scraped: bool, other: int = 0) -> dict[str, Any]:
        """So many orders; rate 0: as fast as they are answered. other: pid of a process whose share is told too."""
        step_ns, latencies = 0, None
        if rate:
            step_ns, latencies = int(1e9 / rate), controls.times(orders)
            warm = int(rate * WARM_S)
            self.load.run(warm, 1 << 20, 1, step_ns, controls.times(warm))
        told = self.scrape() if scraped else lambda: 0
        pids = [self.pid, *([other] if other else [])]
        before, mine, stolen_s = [process_seconds(pid) for pid in pids], time.process_time(), host_took_s()
        took, _ = self.load.run(orders, 1 << 20 if rate else WINDOW, 1, step_ns, latencies)
        used = [process_seconds(pid) - b for pid, b in zip(pids, before, strict=True)]
        mine = time.process_time() - mine
        stolen_ms = round((host_took_s() - stolen_s) * 1e3)
        return {
            "orders_per_second": round(orders / took),
            **({} if latencies is None else told_of(latencies, rate)),
            "cpu_us_per_order": used[0] / orders * 1e6,
            "exchange_cores": used[0] / took,
            "load_cores": mine / took,
            "other_cores": used[1] / took if other else 0.0,
            "stolen_ms": stolen_ms,
            "scrape_bytes": told(),
        }


def pairs_of(count: int, window: Callable[[bool], dict[str, float]], turn: Callable[[bool], None]) -> Iterator[Any]:
    """``count`` pairs and as many control pairs between them: (kind, with, without); a control's are both without."""
    for n in range(count):
        for kind in KINDS:
            found = {}
            for name in ("with", "without") if n % 2 else ("without", "with"):
                on = kind == "pair" and name == "with"
                turn(on)
                found[name] = window(on)
            yield {"kind": kind, **found}
    turn(True)


def metrics_alone(pairs: int, orders: int, *, curve: bool) -> Iterator[Any]:
    """Full rate with metrics and without."""
    with contextlib.ExitStack() as around:
        market = Market(around, orders, 4 * pairs * orders, curve=curve)
        yield from pairs_of(pairs, lambda on: market.window(orders, 0, scraped=on), market.metrics)


def room(pairs: int, seconds: float, share: float, warm: int, *, curve: bool) -> Iterator[Any]:
    """A share of the full rate, with the room and without."""
    with contextlib.ExitStack() as around:
        orders = int((4 * pairs + 1) * (seconds + WARM_S) * share * RATE_MOST)
        market = Market(around, warm, orders, curve=curve)
        users.save(market.folder / "keys", "watcher", "a password that is long", "viewer", "")
        words = ("-m", "benchmarks.room", "--watch", str(market.folder))
        pid = around.enter_context(monitor(market.folder, *words)).pid
        turn, rate = Switch(market.folder, "monitor", SETTLE_S), market.full_rate * share

        def window(on: bool) -> dict[str, float]:
            return market.window(int(rate * seconds), rate, scraped=on, other=pid)

        turn(True)
        window(True)  # everybody has done everything once
        yield from pairs_of(pairs, window, turn)


# --- what it comes to -------------------------------------------------------------------------------------------


def middle(ratios: list[float]) -> dict[str, Any]:
    """Their median, where 95 of 100 resamplings have it, and how many they are."""
    values = np.array(ratios)
    drawn = np.random.default_rng(9).integers(0, len(values), (RESAMPLINGS, len(values)))
    low, high = np.percentile(np.median(values[drawn], axis=1), (2.5, 97.5))
    return {
        "median": round(float(np.median(values)), 3),
        "from": round(float(low), 3),
        "to": round(float(high), 3),
        "pairs": len(values),
    }


def told_of(latencies_ns: np.ndarray, rate: float) -> dict[str, Any]:
    """A window's percentiles, all of its latencies in bins, and the percentiles of each quarter of a second."""
    quarters = np.array_split(latencies_ns, max(1, round(len(latencies_ns) / rate / QUARTER_S)))
    each = [gw.microseconds(quarter, *PERCENTS) for quarter in quarters]
    return {
        **gw.microseconds(latencies_ns, *PERCENTS),
        "bins": bins(latencies_ns),
        "quarters": {name: [quarter[name] for quarter in each] for name in TOLD},
    }


def bins(latencies_ns: np.ndarray) -> dict[str, int]:
    """How many of them lie in each step of a hundredth; text, for JSON."""
    steps = (np.log(np.maximum(latencies_ns, 1_000) / 1_000) / np.log1p(BIN)).astype(np.int64)
    found, counts = np.unique(steps, return_counts=True)
    return {str(step): count for step, count in zip(found.tolist(), counts.tolist(), strict=True)}


def taken_together(rows: list[Any]) -> dict[str, Any]:
    """Percentiles of all windows with over those of all without, as ``middle`` has its ratios; and both, in µs."""
    tables = {}
    for side in ("with", "without"):
        tables[side] = np.zeros(
            (len(rows), 1 + max(int(s) for r in rows for w in ("with", "without") for s in r[w]["bins"]))
        )
        for row, table in zip(rows, tables[side], strict=True):
            table[[int(step) for step in row[side]["bins"]]] = list(row[side]["bins"].values())

    def percentiles(side: str, times: np.ndarray) -> np.ndarray:
        reached = np.cumsum(times @ tables[side])
        return np.array([(1 + BIN) ** np.searchsorted(reached, reached[-1] * q / 100) for q in PERCENTS])

    once, chance = np.ones(len(rows)), np.random.default_rng(9)
    drawn = [np.bincount(chance.integers(0, len(rows), len(rows)), minlength=len(rows)) for _ in range(RESAMPLINGS)]
    ratios = np.array([percentiles("with", d) / percentiles("without", d) for d in drawn])
    sides = {side: percentiles(side, once) for side in tables}
    found: dict[str, Any] = {}
    for i, name in enumerate(TOLD):
        low, high = np.percentile(ratios[:, i], (2.5, 97.5))
        found[f"all windows, {name}"] = {
            "median": round(float(sides["with"][i] / sides["without"][i]), 3),
            "from": round(float(low), 3),
            "to": round(float(high), 3),
            "pairs": len(rows),
            "us": [round(float(sides[side][i])) for side in ("without", "with")],
        }
    return found


def usual(over: list[list[float]], under: list[list[float]]) -> dict[str, Any]:
    """The median quarter of a second with, against that without: where 95 of 100 resamplings of the windows have it,
    and both, in µs. over, under: for each window its quarters."""
    chance, found, drawn = np.random.default_rng(9), [], []
    for side in (under, over):
        table = np.full((len(side), max(map(len, side))), np.nan)
        for row, quarters in zip(table, side, strict=True):
            row[: len(quarters)] = quarters
        found.append(float(np.nanmedian(table)))
        picks = chance.integers(0, len(side), (RESAMPLINGS, len(side)))
        drawn.append(np.array([np.nanmedian(table[pick]) for pick in picks]))
    low, high = np.percentile(drawn[1] / drawn[0], (2.5, 97.5))
    return {
        "median": round(found[1] / found[0], 3),
        "from": round(float(low), 3),
        "to": round(float(high), 3),
        "pairs": len(over),
        "us": [round(us) for us in found],
    }


def summary(pairs: list[Any], aim: str) -> dict[str, Any]:
    """Ratios with to without, of the pairs and of the control pairs."""
    found: dict[str, Any] = {"aim": aim}
    for kind in KINDS:
        rows = [pair for pair in pairs if pair["kind"] == kind]
        figures = [key for key in FIGURES if key in rows[0]["with"]]
        found[kind] = {key: middle([r["with"][key] / r["without"][key] for r in rows]) for key in figures}
        if "bins" in rows[0]["with"]:
            found[kind] |= taken_together(rows)
            nobody = [r["without"] for r in pairs] + [r["with"] for r in pairs if r["kind"] == "control" != kind]
            found[kind] |= {
                f"usual quarter, {name}": usual(
                    [r["with"]["quarters"][name] for r in rows], [w["quarters"][name] for w in nobody]
                )
                for name in TOLD
            }
        if kind == "pair":
            sides = ("with", "without")
            keys = [*figures, "exchange_cores", "load_cores", "other_cores", "stolen_ms", "scrape_bytes"]
            found |= {s: {k: round(float(np.median([r[s][k] for r in rows])), 3) for k in keys} for s in sides}
    return found


def kept(file: Path | None, part: str, pairs: Iterator[Any]) -> list[Any]:
    """The pairs; with a file: noted there one by one, and all that it has of this part."""
    if file is None:
        return list(pairs)
    with file.open("a") as lines:
        for pair in pairs:
            lines.write(json.dumps({"part": part, **pair}) + "\n")
            lines.flush()
    return [row for row in map(json.loads, file.read_text().splitlines()) if row["part"] == part]


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.room", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="does it run at all")
    parser.add_argument("--pairs", type=int, default=4, help="of one series")
    parser.add_argument("--series", type=int, default=1, help="an exchange for each; all pairs are told together")
    parser.add_argument("--orders", type=int, default=300_000, help="of one window at the full rate")
    parser.add_argument("--seconds", type=float, default=2.0, help="of one window at half the rate")
    parser.add_argument("--part", choices=("metrics", "room"), default="")
    parser.add_argument("--share", type=float, default=0.5, help="of the full rate, in the room's windows")
    parser.add_argument("--curve", action="store_true", help="encrypted, as members are; else without")
    parser.add_argument("--halting", action="store_true", help="processors without work may halt")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="add the pairs to this file; tell of all in it")
    parser.add_argument("--watch", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.watch:
        watch(args.watch)
        return
    if args.smoke:
        args.pairs, args.orders, args.seconds = 1, 20_000, 0.1
    if not args.halting:
        keep_awake()
    found: dict[str, Any] = {"conditions": conditions()}
    mode = ", encrypted" if args.curve else ""
    if args.part != "room":
        series = (metrics_alone(args.pairs, args.orders, curve=args.curve) for _ in range(args.series))
        rows = kept(args.keep, f"metrics{mode}", itertools.chain.from_iterable(series))
        found["metrics"] = summary(rows, "orders_per_second >= 0.97")
    if args.part != "metrics":
        series = (room(args.pairs, args.seconds, args.share, args.orders, curve=args.curve) for _ in range(args.series))
        rows = kept(args.keep, f"room{mode}", itertools.chain.from_iterable(series))
        found["room"] = summary(rows, "p99_us <= 1.1, orders_per_second >= 0.99")
    if args.json:
        print(json.dumps(found, indent=1))
        return
    print(describe(conditions()))
    for name, text in (("metrics", "metrics alone, full rate"), ("room", "the room, half the full rate")):
        if name not in found:
            continue
        part = found[name]
        print(f"{text} (aim {part['aim']}); without: {part['without']}; with: {part['with']}")
        for kind, word in zip(KINDS, ("with of without", "the control"), strict=True):
            for key, m in part[kind].items():
                print(f"  {word}, {key}: {m['median']} ({m['from']} to {m['to']}; {m['pairs']} pairs)")


if __name__ == "__main__":
    main()
