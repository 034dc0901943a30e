"""Speed of the gateway against an echo over the same libzmq, in the same run (issue table "Speed").

    python -m benchmarks.gateway --json

The exchange runs as its own process on a folder of the working directory (its journal is on that disk), with
CURVE and without; the load is machine code in this process. Orders are immediate-or-cancel buys on an empty book
from one session: each is checked, locked, journaled, fdatasynced and answered by two reports. ``trading`` are
alternating buys and sells of two sessions at one price. The echo is a ROUTER in machine code that sends back each
message; it has no limit of its own, the load's window is one. Rates are medians of ``--runs`` runs; latencies are open
loop, from the intended send time.

Beside a fifth of the rate stand two controls without any exchange (benchmarks.gateway_controls): ``disk_alone`` is what
orders at that rate wait for write and fdatasync alone, ``processor_alone`` what they wait until a thread that does
nothing but look at the clock looks again, two such threads at once. Nobody can be faster than that on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from benchmarks import gateway_controls as controls
from benchmarks import gateway_load as load
from benchmarks.conditions import awake, keep_awake
from engine import messages as m
from engine.calendar import day_start_ns
from engine.records import BUY, COMMAND, IOC, LIMIT, NEW, SELL
from gateway import config as cfg
from gateway import keys, libzmq
from gateway import protocol as p
from gateway.client import Client
from gateway.commit import c_functions
from gateway.memory import ASK_BELOW, BYTES_PER_ORDER
from gateway.operator import OperatorClient

DATE = 20251203
OPEN_NS = day_start_ns(DATE) + 10 * 3_600_000_000_000
NAMES = {
    "plain": "plain_loopback",
    "curve": "curve",
    "python": "python_lane",
    "resync": "resynchronise",
    "sessions": "many_sessions",
}
PRESENT_S = 0.3  # so long without new memory: all is there
# Orders open at once, of one session and of many: the first is the other parts'; with it each of 200 sessions has 41
# open, which fills nobody's pipe. With the second each has 164.
WINDOWS = (8_192, 32_768)
PACE_NS = 300_000  # between two writes of the paced disk probe: about what lies between two orders sent one at a time
SERVE = "import sys; from gateway.server import serve; sys.exit(serve(sys.argv[1], clock='stepped'))"


class Native:
    """Function addresses and scratch memory for the machine-code load."""

    def __init__(self) -> None:
        f = libzmq.addresses()
        self.f = {name.removeprefix("zmq_msg_"): address for name, address in f.items()}
        self.poll = libzmq.address("zmq_poll")
        self.clock, self.sleep = c_functions(["clock_gettime", "usleep"]).values()
        self.messages = np.zeros(128, np.uint8)
        init = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(f["zmq_msg_init"])
        init(self.messages.ctypes.data)
        init(self.messages.ctypes.data + 64)
        self.spare = np.zeros(2, np.int64)

    def poll_items(self, sockets: list[Any]) -> np.ndarray:
        """zmq_pollitem_t[n]: socket, fd, events (POLLIN), revents."""
        items = np.zeros(len(sockets), np.dtype([("socket", "<u8"), ("fd", "<i4"), ("events", "<i2"), ("re", "<i2")]))
        items["socket"], items["events"] = [int(s.underlying) for s in sockets], zmq.POLLIN
        return items


def echo_server(folder: str, curve: bool, lane: str) -> None:
    """The control: sends every message back. Writes its endpoint into the folder; ends with its parent."""
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    # No limit: a ROUTER drops what is beyond it, and libzmq counts a message as waiting until thousands later have been
    # read. The load's window bounds what waits.
    socket.sndhwm = socket.rcvhwm = 0
    socket.set(zmq.ROUTER_MANDATORY, 1)  # what cannot be sent is an error
    if curve:
        public, secret = zmq.curve_keypair()
        socket.curve_server, socket.curve_secretkey, socket.curve_publickey = True, secret, public
        Path(folder, "echo.key").write_bytes(public)
    socket.bind("tcp://127.0.0.1:*")
    Path(folder, "echo.tmp").write_text(socket.getsockopt_string(zmq.LAST_ENDPOINT))
    os.rename(Path(folder, "echo.tmp"), Path(folder, "echo"))
    native = Native()
    f, parent = native.f, os.getppid()
    while os.getppid() == parent:
        if not socket.poll(100):
            continue
        if lane == "hot":
            at = native.messages.ctypes.data
            if load.echo(int(socket.underlying), f["recv"], f["data"], f["size"], f["zmq_send"], at, 1 << 14) < 0:
                sys.exit("the echo could not send")
        else:
            with contextlib.suppress(zmq.Again):
                while True:
                    socket.send_multipart(socket.recv_multipart(zmq.DONTWAIT))


@contextlib.contextmanager
def child(code: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, *code])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def echo(curve: bool, lane: str, count: int = 1) -> Iterator[list[Any]]:
    """DEALERs that are connected to an echo process."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["-m", "benchmarks.gateway", "--echo", folder, lane] + ["--curve"] * curve
        with child(arguments):
            while not Path(folder, "echo").exists():
                time.sleep(0.02)
            sockets = []
            for _ in range(count):
                socket: Any = zmq.Context.instance().socket(zmq.DEALER)
                socket.linger, socket.sndhwm, socket.rcvhwm = 0, 0, 0
                socket.set(zmq.ROUTING_ID, b"\x01" + os.urandom(15))
                if curve:
                    public, secret = zmq.curve_keypair()
                    socket.curve_serverkey = Path(folder, "echo.key").read_bytes()
                    socket.curve_publickey, socket.curve_secretkey = public, secret
                socket.connect(Path(folder, "echo").read_text())
                sockets.append(socket)
            yield sockets
            for socket in sockets:
                socket.close(0)


@contextlib.contextmanager
def exchange(curve: bool, lane: str, members: int = 2, funded: int = 2, **more: Any) -> Iterator[Path]:
    """An exchange process in the morning session, some members funded. more: of its gateway's configuration."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-", dir="."))
    try:
        gateway = cfg.Gateway(
            curve=curve,
            lane=lane,  # type: ignore[arg-type]
            orders_per_second=10_000_000,
            orders_burst=10_000_000,
            stay_awake=awake(),
            **more,
        )
        config = cfg.Config(
            first_date=DATE,
            instruments={"CEA24": 5991},
            composite=5991,
            members=tuple(cfg.Member(i, f"member {i}") for i in range(1, members + 1)),
            gateway=gateway,
        )
        cfg.create(folder / "m", config, days=[DATE, 20251204])
        with child(["-c", SERVE, str(folder / "m")]):
            with OperatorClient(folder / "m", timeout=120) as ops:
                for account in range(1, funded + 1):
                    ops.execute(m.Deposit(account=account, amount=10**15, document=f"d{account}"))
                    ops.execute(
                        m.TransferIn(account=account, instrument="CEA24", quantity=10**12, transfer=f"t{account}")
                    )
                ops.step_clock(OPEN_NS)
            yield folder / "m"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def present(folder: Path) -> None:
    """Returns when the exchange no longer makes memory present (``orders_ahead``)."""
    endpoints = cfg.read_endpoints(folder)
    assert endpoints is not None
    before, now = 0, process_figures(endpoints.pid)[0]
    while now > before:
        time.sleep(PRESENT_S)
        before, now = now, process_figures(endpoints.pid)[0]


def records(side: int, kind: int, per_frame: int) -> np.ndarray:
    """A frame's orders: one tonne at 59.91."""
    made = np.zeros(per_frame, COMMAND)
    made["kind"], made["side"], made["order_type"], made["price"], made["quantity"] = NEW, side, kind, 5991, 1
    return made


class Load:
    """One measured stream of messages on one or several sockets."""

    def __init__(
        self, native: Native, sockets: list[Any], frames: np.ndarray, tokens: list[int], is_echo: bool
    ) -> None:
        self.native, self.is_echo = native, is_echo
        self.sockets = np.array([int(s.underlying) for s in sockets], np.int64)
        self.items = native.poll_items(sockets)
        self.frames = frames
        self.tokens = np.array(tokens, np.uint64).view(np.int64)
        self.next_requests = np.ones(len(sockets), np.int64)

    def run(
        self, total: int, window: int, per_frame: int, rate_ns: int = 0, latencies: np.ndarray | None = None
    ) -> tuple[float, int]:
        """Seconds for ``total`` orders, and the reports that came."""
        n, f = self.native, self.native.f
        progress = np.zeros(6, np.int64)
        out = latencies if latencies is not None else np.zeros(0, np.int64)
        progress[5] = began = time.monotonic_ns() + (1_000_000 if rate_ns else 0)
        while not load.run(
            self.sockets, f["recv"], f["data"], f["size"], f["zmq_send"], n.poll, self.items.ctypes.data,
            n.messages.ctypes.data, self.frames.ctypes.data, per_frame, total, window, self.tokens, self.next_requests,
            self.is_echo, n.clock, n.sleep, n.spare, rate_ns, out, time.monotonic_ns() + 1_000_000_000, progress,
        ):  # fmt: skip
            if time.monotonic_ns() - began > 120_000_000_000:
                raise RuntimeError(f"stuck: {progress.tolist()}")
        return (time.monotonic_ns() - began) / 1e9, int(progress[4])

    def ping(self, count: int) -> np.ndarray:
        """Round trips of one order at a time, ns."""
        n, f = self.native, self.native.f
        out = controls.times(count)
        done = load.ping(
            int(self.sockets[0]), f["recv"], f["data"], f["size"], f["zmq_send"], n.poll, self.items.ctypes.data,
            n.messages.ctypes.data, self.frames.ctypes.data, int(self.tokens[0]), int(self.next_requests[0]),
            self.is_echo, n.clock, n.spare, out,
        )  # fmt: skip
        if done != count:
            raise RuntimeError(f"only {done} of {count} answers")
        self.next_requests[0] += count
        return out


def open_load(native: Native, clients: list[Client], frames: np.ndarray) -> Load:
    made = Load(native, [c.link.socket for c in clients], frames, [c.link.token for c in clients], False)
    made.next_requests[:] = [c.link.next_request for c in clients]
    return made


def microseconds(values: np.ndarray, *percents: float) -> dict[str, float]:
    return {f"p{q:g}_us": round(float(np.percentile(values, q)) / 1000, 1) for q in percents}


def orders_in_memory() -> int:
    """For so many orders two thirds of this machine's memory suffice."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // BYTES_PER_ORDER * 2 // 3


def ahead_of(orders: int) -> int:
    """So that memory for so many is there before the first of them (gateway.memory), as far as it goes."""
    numerator, denominator = ASK_BELOW
    return min(orders_in_memory(), max(orders * denominator // (denominator - numerator), cfg.Gateway().orders_ahead))


def orders_ahead(runs: int, total: int) -> int:
    """For all orders of a measurement."""
    return ahead_of((4 * runs + 2) * total)


def measure(curve: bool, lane: str, runs: int, total: int) -> dict[str, Any]:
    """Everything that is measured for one security mode and one lane."""
    native = Native()
    found: dict[str, Any] = {}
    one, hundred = records(BUY, IOC, 1), records(BUY, IOC, 100)
    ahead = orders_ahead(runs, total)
    with echo(curve, lane) as sockets, exchange(curve, lane, snapshot_commands=0, orders_ahead=ahead) as folder:
        present(folder)
        control = Load(native, sockets, one, [0], True)
        with (
            Client(folder, key="member-1", heartbeat_ms=60_000) as a,
            Client(folder, key="member-2", heartbeat_ms=60_000) as b,
        ):
            single, batch = open_load(native, [a], one), open_load(native, [a], hundred)
            rates: dict[str, list[float]] = {"echo": [], "single": [], "frames_of_100": []}
            control.run(total // 4, 4_096, 1)
            single.run(total // 4, 4_096, 1)
            for _ in range(runs):
                rates["echo"].append(total / control.run(total, 4_096, 1)[0])
                rates["single"].append(total / single.run(total, 8_192, 1)[0])
                batch.next_requests[:] = single.next_requests
                rates["frames_of_100"].append(2 * total / batch.run(2 * total, 32_000, 100)[0])
                single.next_requests[:] = batch.next_requests
            found["orders_per_second"] = {k: round(float(np.median(v))) for k, v in rates.items()}
            found["single_of_echo"] = round(
                found["orders_per_second"]["single"] / found["orders_per_second"]["echo"], 3
            )
            pings = 2_000
            control.ping(200)
            single.ping(200)
            found["echo_one_at_a_time"] = microseconds(control.ping(pings), 50, 99)
            found["one_at_a_time"] = microseconds(single.ping(pings), 50, 99)
            found["fdatasync"] = microseconds(controls.fdatasync_ns(folder), 50, 99)
            found["fdatasync_paced"] = microseconds(controls.fdatasync_ns(folder, pause_ns=PACE_NS), 50, 99, 99.9)
            for disk, name in (("fdatasync", "allowed"), ("fdatasync_paced", "allowed_paced")):
                fair = found["echo_one_at_a_time"]["p50_us"] + 1.5 * found[disk]["p50_us"] + 30
                found[f"one_at_a_time_{name}_p50_us"] = round(fair, 1)
            rate = found["orders_per_second"]["single"] * 0.2
            found["at_20_percent"] = {"rate": round(rate)} | {
                name: open_loop(stream, rate, total, runs) for name, stream in (("echo", control), ("exchange", single))
            }
            for name, alone in (
                ("disk_alone", lambda: controls.disk_alone_ns(folder, rate)),
                ("processor_alone", lambda: controls.processor_alone_ns(native.clock, rate)),
            ):
                found["at_20_percent"][name] = middle([alone() for _ in range(runs)])
            a.link.next_request = int(single.next_requests[0])
            both = np.concatenate([records(BUY, LIMIT, 1), records(SELL, LIMIT, 1)])
            trading = open_load(native, [a, b], both)
            trading.run(total // 4, 4_096, 1)
            seconds, events = trading.run(total, 8_192, 1)
            found["trading"] = {"orders_per_second": round(total / seconds), "reports": events}
            a.link.socket = b.link.socket = None  # their numbers are the load's now
    return found


def open_loop(stream: Load, rate: float, total: int, runs: int) -> dict[str, float]:
    """Latencies at a fixed rate from the intended send time."""
    found = []
    for _ in range(runs):
        latencies = controls.times(min(total, int(2 * rate)))
        stream.run(len(latencies), 1 << 20, 1, int(1e9 / rate), latencies)
        found.append(latencies)
    return middle(found)


def middle(runs: list[np.ndarray]) -> dict[str, float]:
    """Medians over the runs of each run's percentiles."""
    each = [microseconds(run, 50, 99, 99.9) for run in runs]
    return {name: round(float(np.median([one[name] for one in each])), 1) for name in each[0]}


class Logins:
    """Many logged-in sessions in this process: plain sockets, without a client's memory around each."""

    def __init__(self, folder: Path, count: int) -> None:
        endpoints = cfg.read_endpoints(folder)
        assert endpoints is not None
        self.pid = endpoints.pid
        self.context: zmq.Context[Any] = zmq.Context()
        self.context.set(zmq.MAX_SOCKETS, count + 64)
        self.sockets: list[Any] = []
        self.tokens: list[int] = []
        self.next_requests: list[int] = []
        for start in range(1, count + 1, 100):
            group = range(start, min(start + 100, count + 1))
            for number in group:
                self.sockets.append(
                    self._connect(endpoints.members, keys.read_secret(folder / f"keys/member-{number}.key"))
                )
            for number in group:
                self._take(self.sockets[number - 1])

    def _connect(self, address: str, secret: keys.Secret) -> Any:
        socket = self.context.socket(zmq.DEALER)
        socket.linger = 0
        socket.set(zmq.ROUTING_ID, b"\x01" + os.urandom(15))
        socket.curve_serverkey = secret.server_public.encode()
        socket.curve_publickey, socket.curve_secretkey = secret.public.encode(), secret.secret.encode()
        socket.connect(address)
        socket.send(p.encode(p.Login(version=p.PROTOCOL_VERSION, heartbeat_ms=p.HEARTBEAT_MS, resume="quick")))
        return socket

    def _take(self, socket: Any) -> None:
        while socket.poll(60_000):
            frame = socket.recv()
            message = p.decode_from_exchange(frame) if p.is_map(frame[0]) else None
            if isinstance(message, p.LoginAccepted):
                self.tokens.append(message.token)
                self.next_requests.append(message.next_request)
                return
        raise RuntimeError("a login was not answered")

    def beat(self, seconds: float) -> None:
        """Each session sends its heartbeat every p.HEARTBEAT_MS, one after the other, and reads what has come."""
        frames = [p.encode(p.Heartbeat(token=token)) for token in self.tokens]
        began, n = time.monotonic(), len(frames)
        step = p.HEARTBEAT_MS / 1000 / n
        for turn in range(int(seconds / step)):
            wait = began + turn * step - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            self._beat(turn % n, frames[turn % n])

    def beat_once(self) -> None:
        """A heartbeat of every session at once: between two runs, so that none of them is lost."""
        for i, token in enumerate(self.tokens):
            self._beat(i, p.encode(p.Heartbeat(token=token)))

    def _beat(self, i: int, frame: bytes) -> None:
        with contextlib.suppress(zmq.Again):
            while True:
                self.sockets[i].recv(zmq.DONTWAIT)
        self.sockets[i].send(frame, zmq.DONTWAIT)

    def load(self, native: Native, count: int) -> Load:
        """Orders from the first ``count`` sessions in turn."""
        frames = np.concatenate([records(BUY, IOC, 1)] * count)
        made = Load(native, self.sockets[:count], frames, self.tokens[:count], False)
        made.next_requests[:] = self.next_requests[:count]
        return made

    def close(self) -> None:
        for socket in self.sockets:
            socket.close(0)
        self.context.term()


def process_figures(pid: int) -> tuple[int, float]:
    """Resident bytes and CPU seconds of a process (Linux)."""
    text = Path(f"/proc/{pid}/status").read_text()
    resident = int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return resident, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def one_and_many(
    one: Load, many: Load, runs: int, total: int, before: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Rates of one connection and of many, in turn, for each of WINDOWS, and how many times faster one is.

    ``one_of_many`` holds the best rate of one against the best of many; ``by_window`` holds both at the same window.
    The first round warms up. before: called before each run.
    """
    rates: dict[tuple[str, int], list[float]] = {(name, w): [] for name in ("one", "many") for w in WINDOWS}
    for run in range(runs + 1):
        for window in WINDOWS:
            for name, stream, other in (("many", many, one), ("one", one, many)):
                before()
                stream.next_requests[0] = other.next_requests[0]  # the one is also the first of the many
                seconds = stream.run(total, window, 1)[0]
                if run:
                    rates[name, window].append(total / seconds)
    median = {key: float(np.median(values)) for key, values in rates.items()}
    best = {name: max(median[name, w] for w in WINDOWS) for name in ("one", "many")}
    return {
        "orders_per_second": {name: {w: round(median[name, w]) for w in WINDOWS} for name in best},
        "by_window": {w: round(median["one", w] / median["many", w], 3) for w in WINDOWS},
        "one_of_many": round(best["one"] / best["many"], 3),
    }


def echo_of_many(native: Native, active: int, runs: int, total: int) -> dict[str, Any]:
    """The control of many sessions: one connection against ``active`` ones, an echo over CURVE."""
    one = records(BUY, IOC, 1)
    with echo(True, "hot", active) as sockets:
        single = Load(native, sockets[:1], one, [0], True)
        many = Load(native, sockets, np.concatenate([one] * active), [0] * active, True)
        return one_and_many(single, many, runs, total)


def many_sessions(count: int, active: int, runs: int, total: int, seconds: float) -> dict[str, Any]:
    """``count`` sessions logged in over CURVE with heartbeats; then ``active`` of them trade, against one of them."""
    native = Native()
    with exchange(True, "hot", members=count, funded=active, snapshot_commands=0) as folder:
        before = process_figures(Logins(folder, 1).pid)[0]
        logins = Logins(folder, count)
        logins.beat(p.HEARTBEAT_MS / 1000)
        cpu = process_figures(logins.pid)[1]
        logins.beat(seconds)
        resident, after = process_figures(logins.pid)
        trading = one_and_many(logins.load(native, 1), logins.load(native, active), runs, total, logins.beat_once)
        logins.close()
    return {
        "sessions": count,
        "heartbeat_s": p.HEARTBEAT_MS / 1000,
        "resident_mb": round(resident / 1e6),
        "resident_before_mb": round(before / 1e6),
        "cpu_of_a_core": round((after - cpu) / seconds, 3),
        "active": active,
        "windows": WINDOWS,
        "exchange": trading,
        "echo": echo_of_many(native, active, runs, total),
    }


def resynchronise(reports: int) -> dict[str, Any]:
    """A client that has missed ``reports`` reports logs in and has them all."""
    with exchange(True, "hot") as folder:
        native = Native()
        with Client(folder, key="member-1", heartbeat_ms=60_000) as a:
            open_load(native, [a], records(BUY, IOC, 100)).run(reports // 2, 32_000, 100)
            a.link.socket = None
        seen = [0]
        began = time.monotonic_ns()
        client = Client(folder, key="member-1", connect=False)
        client.link._on_report = lambda report: seen.__setitem__(0, seen[0] + 1)
        client.link.open()
        seconds = (time.monotonic_ns() - began) / 1e9
        client.close()
        return {"reports": seen[0], "seconds": round(seconds, 3)}


def main() -> None:
    """Runs what is asked for and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="only JSON on stdout")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--orders", type=int, default=1_000_000, help="orders of one throughput run")
    parser.add_argument("--smoke", action="store_true", help="small numbers: does it run at all")
    parser.add_argument("--only", choices=("plain", "curve", "python", "resync", "sessions"), help="one part")
    parser.add_argument("--halting", action="store_true", help="processors without work may halt")
    parser.add_argument("--echo", nargs=2, metavar=("FOLDER", "LANE"), help=argparse.SUPPRESS)
    parser.add_argument("--curve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.echo:
        echo_server(arguments.echo[0], arguments.curve, arguments.echo[1])
        return
    if not arguments.halting:
        keep_awake()
    runs, total = (1, 50_000) if arguments.smoke else (arguments.runs, arguments.orders)
    small = arguments.smoke
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "plain": lambda: measure(False, "hot", runs, total),
        "curve": lambda: measure(True, "hot", runs, total),
        "python": lambda: measure(False, "plain", runs, max(total // 20, 20_000)),
        "resync": lambda: resynchronise(10_000 if small else 100_000),
        "sessions": lambda: many_sessions(
            50 if small else 4_000, 5 if small else 200, runs, total // 2, 2 if small else 10
        ),
    }
    result: dict[str, Any] = {NAMES[name]: part() for name, part in parts.items() if arguments.only in (None, name)} | {
        "conditions": {
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "processors": "stay awake" if awake() else "halt without work",
            "load_average": os.getloadavg()[0],
            "python": platform.python_version(),
            "libzmq": zmq.zmq_version(),
            "transport": "TCP loopback; exchange, load and echo in processes of their own",
            "orders": f"{total} IOC buys of one session per run, median of {runs}; journaled, fdatasync per group",
            "memory": f"of many sessions as configured; else present for {orders_ahead(runs, total)} orders",
            "snapshots": "none while it trades: one after each million commands shares the disk with the commits",
        }
    }
    print(json.dumps(result, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
