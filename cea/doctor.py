"""`cea doctor`: is this machine and this market folder fit to run? Each check says what it saw."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import typer

from cea.options import HERE
from cea.output import Exit, console, print_json, table

PACKAGES: Final = ("numpy", "numba", "pyzmq", "msgspec", "SQLAlchemy", "typer")
FREE_BYTES_MIN: Final = 1 << 30  # 16 journal segments of 64 MB: some weeks of this market
FSYNC_TRIES: Final = 20
FSYNC_MS_MAX: Final = 5.0  # each report waits for one; local disks take 0.1 … 1 ms
TIMEX_BYTES: Final = 512  # struct timex has 208 on 64-bit Linux
TIME_ERROR: Final = 5  # adjtimex: the clock is not synchronised
HORIZON_DAYS_MIN: Final = 20  # trading days that the calendar should still know: a month to extend it


class Check(NamedTuple):
    """One check: ``state`` ok, warning or fault."""

    name: str
    state: str
    text: str


def machine_checks() -> list[Check]:
    """Python, packages, processor, fonts, database server."""
    import zmq

    from replay.chart import FONT_ADVICE, cjk_font

    version = platform.python_version()
    found = [Check("python", "ok" if sys.version_info >= (3, 11) else "fault", f"{version}, {platform.platform()}")]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    found.append(Check("packages", "ok", versions))
    curve = bool(zmq.has("curve"))
    found.append(
        Check(
            "curve",
            "ok" if curve else "fault",
            f"libzmq {zmq.zmq_version()}, CURVE {'present' if curve else 'missing'}",
        )
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found.append(Check("cores", "ok" if cores >= 2 else "warning", f"{cores} usable"))
    font = cjk_font()
    found.append(Check("font", "ok" if font else "warning", font or FONT_ADVICE))
    places = [*Path("/usr/lib/postgresql").glob("*/bin/postgres"), *filter(None, [shutil.which("postgres")])]
    text = str(places[0]) if places else "not installed: SQLite serves; PostgreSQL is the path past one machine"
    found.append(Check("postgresql", "ok", text))
    return found


def folder_checks(folder: Path) -> list[Check]:
    """Configuration, calendar, keys, disk, journal, registry, running exchange."""
    from gateway.config import ConfigError, load

    if not folder.is_dir():
        named = "warning" if folder == HERE else "fault"  # a machine may be looked at before it has a market
        return [Check("market", named, f"{folder}: no market folder here; `cea init {folder}` makes one")]
    try:
        market = load(folder)
    except ConfigError as error:
        return [Check("market", "fault", str(error))]
    config = market.config
    found = [Check("market", "ok", f"{config.name}: {len(config.instruments)} vintages, {len(config.members)} members")]
    checks: list[tuple[str, Callable[[Any], Check]]] = [
        ("calendar", _calendar),
        ("keys", _keys),
        ("disk", _disk),
        ("fsync", _fsync),
        ("clock", _clock),
        ("processors", _processors),
        ("memory", _memory),
        ("ports", _ports),
        ("journal", _journal),
        ("registry", _registry),
        ("exchange", _exchange),
    ]
    for name, check in checks:
        try:
            found.append(check(market))
        except (OSError, ValueError, ConfigError) as error:
            found.append(Check(name, "fault", str(error)))
    return found


def _calendar(market: Any) -> Check:
    horizon, left = market.calendar.horizon, market.calendar.working_days_between(_today(), market.calendar.horizon)
    text = f"known up to {horizon}, {left} trading days from today"
    return Check("calendar", "ok" if left >= HORIZON_DAYS_MIN else "warning", text)


def _today() -> int:
    import datetime as dt

    from engine.calendar import from_date

    return from_date(dt.datetime.now(dt.timezone(dt.timedelta(hours=8))).date())


def _keys(market: Any) -> Check:
    from gateway import keys

    try:
        table_of_keys = keys.load(market.folder / "keys")
        for path in sorted((market.folder / "keys").glob("*.key")):
            keys.read_secret(path)
    except keys.KeyFileError as error:
        return Check("keys", "fault", str(error))
    return Check("keys", "ok", f"{len(table_of_keys.keys)} keys, secrets readable by their owner only")


def _disk(market: Any) -> Check:
    free = shutil.disk_usage(market.folder).free
    return Check("disk", "ok" if free >= FREE_BYTES_MIN else "warning", f"{free / (1 << 30):.1f} GiB free")


def _fsync(market: Any) -> Check:
    """How long the journal's disk takes to make 4 KiB durable: the median of some tries."""
    import statistics
    import tempfile
    import time

    times = []
    with tempfile.TemporaryFile(dir=market.folder) as file:
        for n in range(FSYNC_TRIES):
            os.pwrite(file.fileno(), b"x" * 4_096, 4_096 * n)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    median_ms = statistics.median(times) * 1_000
    return Check(
        "fsync", "ok" if median_ms <= FSYNC_MS_MAX else "warning", f"{median_ms:.2f} ms, median of {len(times)}"
    )


def _clock(market: Any) -> Check:
    """Is the machine's clock kept by somebody? Times of orders are its times."""
    import ctypes

    buffer = ctypes.create_string_buffer(TIMEX_BYTES)
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "adjtimex"):
        return Check("clock", "warning", "cannot be asked on this system")
    state = libc.adjtimex(buffer)
    kept = 0 <= state < TIME_ERROR
    return Check(
        "clock", "ok" if kept else "warning", "synchronised" if kept else "not synchronised: run chrony or ntpd"
    )


def _processors(market: Any) -> Check:
    """May the exchange keep the processors from halting? Without it a virtual machine wakes up late for each order."""
    from gateway.awake import Awake

    if not market.config.gateway.stay_awake:
        return Check("processors", "ok", "may halt between orders: stay_awake = false")
    awake = Awake()
    awake.close()
    text = (
        f"halt between orders ({awake.why}): docs/operations.md, Processors" if awake.why else "stay awake for orders"
    )
    return Check("processors", "warning" if awake.why else "ok", text)


def _memory(market: Any) -> Check:
    """Is there room for what is made present ahead of its use, and for as much that is used?"""
    from gateway.memory import BYTES_PER_ORDER

    wanted = market.config.gateway.orders_ahead * BYTES_PER_ORDER
    here = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    text = f"{wanted / (1 << 30):.1f} GiB for orders_ahead, of {here / (1 << 30):.1f} GiB"
    return Check("memory", "ok" if 2 * wanted <= here else "warning", text)


def _ports(market: Any) -> Check:
    """Can the configured ports be had? Not asked while the exchange itself has them."""
    import socket

    from cea.processes import is_running

    if is_running(market.folder):
        return Check("ports", "ok", "the exchange has them")
    gateway = market.config.gateway
    wanted = {n: getattr(gateway, n) for n in ("members_port", "operators_port", "feed_port", "metrics_port")}
    taken = []
    for name, port in wanted.items():
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind((gateway.host, port))
            except OSError as error:
                taken.append(f"{name} {port}: {error.strerror}")
    fixed = [port for port in wanted.values() if port]
    text = "; ".join(taken) or (
        f"{', '.join(map(str, fixed))} are free" if fixed else "free ones are chosen at each start"
    )
    return Check("ports", "fault" if taken else "ok", text)


def _journal(market: Any) -> Check:
    from engine.journal import RealDisk
    from engine.journal.inspection import list_files

    rows = list_files(RealDisk(market.journal))
    bad = [f"{r.name} {r.state}" for r in rows if r.state not in ("ok", "leftover", "spare")]
    last = max((r.last_seq for r in rows), default=0)
    return Check("journal", "warning" if bad else "ok", "; ".join(bad) or f"{len(rows)} files, sequence {last:,}")


def _registry(market: Any) -> Check:
    from sqlalchemy.exc import SQLAlchemyError

    from cea.folder import open_registry
    from settlement.verify import verify

    try:
        registry = open_registry(market)
        try:
            problems = verify(registry.engine)
        finally:
            registry.close()
    except SQLAlchemyError as error:
        return Check("registry", "fault", str(error).splitlines()[0])
    return Check("registry", "fault" if problems else "ok", "; ".join(problems) or "balances, seals and serials agree")


def _exchange(market: Any) -> Check:
    from cea.processes import is_running
    from gateway.config import read_endpoints

    endpoints = read_endpoints(market.folder)
    if endpoints is None:
        return Check("exchange", "ok", "never started")
    running = f"pid {endpoints.pid} on {endpoints.members}" if is_running(market.folder) else "not running"
    return Check("exchange", "ok", running)


def doctor_command(folder: Path, *, as_json: bool) -> None:
    """All checks; exit code 1 when one found a fault."""
    found = machine_checks() + folder_checks(folder)
    if as_json:
        print_json([c._asdict() for c in found])
    else:
        marks = {"ok": "ok", "warning": "[yellow]warning[/yellow]", "fault": "[red]fault[/red]"}
        console().print(table(("check", "", "seen"), [(c.name, marks[c.state], c.text) for c in found], left=3))
    if any(c.state == "fault" for c in found):
        raise typer.Exit(int(Exit.NO))
