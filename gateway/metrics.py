"""Prometheus metrics, health and readiness on an HTTP port of their own, in a thread that never touches the engine.

Once a second the exchange copies its integer counters here (:meth:`Metrics.update`); a scrape only formats what was
copied. Nothing is labelled or counted per message in Python: kinds and refusals are counted in integers by the machine
code that takes a group into the day's log and the report store (gateway.hot: its records are in the processor's cache
then), latency and commit time once a group.

- ``/metrics``: Prometheus text
- ``/healthz`` (and ``/health``): 200 while the loop has turned within :data:`ALIVE_S`, else 503
- ``/readyz`` (and ``/ready``): 200 while members can work: alive, and not in cancel-only (which a full disk leads to),
  else 503

What other processes know is read from their files in the market folder when a scrape asks: how far settlement is
(run/settlement.json), what the last `cea verify journal` found (run/verified.json).
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from engine.codes import Code
from engine.records import RECORD_VERSION
from gateway.awake import Awake
from gateway.session import State
from settlement import progress

if TYPE_CHECKING:
    from engine.journal import Journal
    from gateway.core import Core

COUNTERS: Final = {
    "commands": "commands sequenced since the start",
    "groups": "journal groups since the start",
    "events": "events since the start",
    "frames": "frames received by the plain lane",
    "session_rejects": "messages refused by the session layer",
    "malformed": "messages that could not be read",
    "throttled": "messages refused by a throttle",
    "logins": "logins accepted",
    "login_rejects": "logins refused",
    "timeouts": "sessions that fell silent",
    "blocked": "sends that a slow reader did not take",
    "feed_overruns": "times that a slow subscriber's queue of market data ran full",
    "alarms": "alarms raised",
}
GAUGES: Final = {
    "cea_sequence": "last applied journal sequence",
    "cea_durable_sequence": "last sequence on disk",
    "cea_sessions": "sessions logged in",
    "cea_sessions_lost": "sessions that fell silent and may come back",
    "cea_open_orders": "open listed orders",
    "cea_unsent_sessions": "sessions with reports that wait",
    "cea_unsent_reports": "reports that wait in all sessions",
    "cea_unsent_reports_worst": "reports that wait in the slowest session",
    "cea_batch_commands": "commands that wait for their group",
    "cea_feed_waiting": "1 while market data waits to be published",
    "cea_deals_today": "deals of the open day",
    "cea_halted": "1 while the market is halted",
    "cea_cancel_only": "1 in cancel-only mode",
    "cea_day_closed": "1 after the close",
    "cea_unsettled_deals": "deals of a closed day that settlement has not reported",
    "cea_calendar_days_left": "trading days that the calendar still knows",
    "cea_phase": "0 before the open, 1 morning, 2 break, 3 afternoon, 4 closed",
    "cea_epoch": "starts of this journal",
    "cea_processors_awake": "1 while the processors are kept from halting, 0 where they may",
    "cea_last_turn_seconds": "age of the last copied numbers",
    "cea_disk_free_bytes": "free on the journal's disk",
    "cea_settlement_deals": "deals of the day that settlement works on, or did last",
    "cea_settlement_posted": "deals of that day that were tried, held ones included",
    "cea_settlement_held": "deals of that day that wait for an operator",
    "cea_settlement_differences": "differences between registry and exchange that wait for an operator",
    "cea_verified_sequence": "last sequence that a `cea verify journal` replayed and hashed; 0: none yet",
    "cea_verified_timestamp_seconds": "when that was, Unix time; 0: never",
    "cea_verify_problems": "what it found: damage, or a state hash that is not the one that was sealed",
}
KINDS: Final = ("invalid", "new", "cancel", "reduce", "replace", "mass_cancel", "take", "message")
HEALTH: Final = ("/healthz", "/health")
READY: Final = ("/readyz", "/ready")
VERIFIED: Final = Path("run") / "verified.json"
# Upper bounds of a commit's time: an fsync is 0.13 … 0.3 ms on a local disk; a second means the disk is in trouble.
COMMIT_BOUNDS_NS: Final = tuple(
    n * 1_000 for n in (50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 25_600, 102_400, 1_000_000)
)
# Upper bounds of the time from the turn that finds a command to its report's way out: commit, engine and sending.
LATENCY_BOUNDS_NS: Final = tuple(
    n * 1_000 for n in (100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 102_400, 1_000_000)
)
ALIVE_S: Final = 5.0  # the loop turns each 20 ms and copies each second


class TimedJournal:
    """A journal whose commits are timed: one clock reading before and after each group."""

    def __init__(self, journal: Any) -> None:  # JournalPort, or OverlapPort where the core overlaps
        self.journal = journal
        self.buckets = [0] * (len(COMMIT_BOUNDS_NS) + 1)
        self.total_ns = 0
        self.append = journal.append  # not even a call in between

    def commit(self) -> int:
        """As the journal's."""
        began = time.perf_counter_ns()
        result = self.journal.commit()
        took = time.perf_counter_ns() - began
        self.note(took)
        return result

    def begin(self) -> None:
        """As the journal's."""
        self.journal.begin()

    def wait(self) -> None:
        """As the journal's; the time is that of the thread that did it."""
        self.journal.wait()
        self.note(self.journal.took_ns)

    def note(self, took_ns: int) -> None:
        """A commit took so long."""
        self.buckets[bisect_left(COMMIT_BOUNDS_NS, took_ns)] += 1
        self.total_ns += took_ns


class Verified(msgspec.Struct, frozen=True):
    """What a verification of the journal found: last sequence, Unix time, problems, the state hash (hex)."""

    seq: int
    time_s: int
    problems: int
    state_hash: str = ""


def write_verified(folder: Path, found: Verified) -> None:
    """Replaces run/verified.json of a market folder as a whole."""
    target = folder / VERIFIED
    target.parent.mkdir(exist_ok=True)
    spare = target.with_suffix(f".{os.getpid()}.tmp")
    spare.write_bytes(msgspec.json.encode(found))
    os.replace(spare, target)


def read_verified(folder: Path) -> Verified:
    """The last verification; zeros where there was none."""
    try:
        return msgspec.json.decode((folder / VERIFIED).read_bytes(), type=Verified)
    except (FileNotFoundError, msgspec.DecodeError):
        return Verified(0, 0, 0)


class Metrics:
    """What was copied last, as a Prometheus collector. ``folder``: the market folder, for other processes' files."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.registry = CollectorRegistry()
        self.registry.register(self)  # type: ignore[arg-type]
        ProcessCollector(registry=self.registry)
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self.gauges: dict[str, float] = dict.fromkeys(GAUGES, 0)
        self.rejects = np.zeros(256, np.int64)
        self.session_rejects: list[int] = [0] * 256
        self.kinds = np.zeros(256, np.int64)
        self._recovered = (self.rejects, self.kinds)  # what was counted before the start
        self.latency = [0] * (len(LATENCY_BOUNDS_NS) + 1)
        self.latency_ns = 0
        self.timed: TimedJournal | None = None
        self.awake: Awake | None = None
        self._copied_at = 0.0
        self._build = {  # made once: looking up a version reads a file
            "version": _version(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "records": str(RECORD_VERSION),
        }
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    # --- the exchange's side ---------------------------------------------------------------------------------

    def attach(self, core: Core) -> None:
        """Times the commits of a core and counts from now on."""
        self._recovered = core.store.rejects.copy(), core.log.kinds.copy()
        self.timed = TimedJournal(core.journal)
        core.journal = self.timed
        core.reported = self._reported

    def _reported(self, commands: int, began_ns: int) -> None:
        """A group's reports go out: one reading of the clock a group, weighted by its commands."""
        took = time.monotonic_ns() - began_ns
        self.latency[bisect_left(LATENCY_BOUNDS_NS, took)] += commands
        self.latency_ns += took * commands

    def update(self, core: Core, journal: Journal) -> None:
        """Copies the numbers of this moment: some ten microseconds."""
        exchange = core.exchange
        head = exchange.market.market[0]
        for name in COUNTERS:
            self.counters[name] = getattr(core.counters, name)
        self.session_rejects = list(core.counters.session_codes)
        rejects, kinds = self._recovered
        self.rejects, self.kinds = core.store.rejects - rejects, core.log.kinds - kinds
        unsent, worst = core.unsent()
        phase = int(exchange.market.phase(core.clock.now())) if head["date"] else 0
        self.gauges |= {
            "cea_sequence": exchange.seq,
            "cea_durable_sequence": journal.durable_seq,
            "cea_sessions": len(core.tokens),
            "cea_sessions_lost": sum(s.state is State.LOST for s in core.sessions.values()),
            "cea_open_orders": int(exchange.market.book.pool[0]["live"]),
            "cea_unsent_sessions": len(core.dirty),
            "cea_unsent_reports": unsent,
            "cea_unsent_reports_worst": worst,
            "cea_batch_commands": core.batch.count,
            "cea_feed_waiting": int(core.publisher is not None and bool(core.publisher.waiting)),
            "cea_deals_today": int(head["deals"]),
            "cea_halted": int(head["halted"]),
            "cea_cancel_only": int(head["cancel_only"]),
            "cea_day_closed": int(head["day_closed"]),
            "cea_unsettled_deals": int(head["deals"]) if head["day_closed"] and not head["settled"] else 0,
            "cea_calendar_days_left": self._days_left(core, int(head["date"])),
            "cea_phase": phase,
            "cea_epoch": core.epoch,
            "cea_processors_awake": int(self.awake is not None and self.awake.held),
        }
        self._copied_at = time.monotonic()

    @staticmethod
    def _days_left(core: Core, date: int) -> int:
        days = core.market.calendar.days
        return sum(day > date for day in days[-60:])

    # --- the reader's side -----------------------------------------------------------------------------------

    def collect(self) -> Iterator[Metric]:
        """What a scrape gets."""
        for name, text in COUNTERS.items():
            yield CounterMetricFamily(f"cea_{name}", text, self.counters[name])
        gauges = {**self.gauges, **self._files(), "cea_last_turn_seconds": self.age()}
        for name, text in GAUGES.items():
            yield GaugeMetricFamily(name, text, gauges[name])
        requests = CounterMetricFamily("cea_requests", "commands by kind", labels=["kind"])
        for kind, word in enumerate(KINDS):
            requests.add_metric([word], self.kinds[kind])
        yield requests
        refused = CounterMetricFamily("cea_session_refusals", "refused by the session layer", labels=["code"])
        for code, count in enumerate(self.session_rejects):
            if count:
                refused.add_metric([_word(code)], count)
        yield refused
        rejects = CounterMetricFamily("cea_rejects", "commands refused by the market's rules", labels=["code"])
        for code in np.flatnonzero(self.rejects).tolist():
            rejects.add_metric([_word(code)], self.rejects[code])
        yield rejects
        text = "commands by the time from the loop's turn that found them to their reports' way out"
        yield _histogram("cea_latency_seconds", text, LATENCY_BOUNDS_NS, self.latency, self.latency_ns)
        if self.timed is not None:
            text = "time of a group's commit, fdatasync included"
            yield _histogram("cea_commit_seconds", text, COMMIT_BOUNDS_NS, self.timed.buckets, self.timed.total_ns)
        yield InfoMetricFamily("cea_build", "what runs", value=self._build)

    def _files(self) -> dict[str, float]:
        """What the market folder's files tell; read by the thread that serves, never by the exchange's loop."""
        if self.folder is None:
            return {}
        verified, settling = read_verified(self.folder), progress.read(self.folder) or progress.Progress()
        return {
            "cea_disk_free_bytes": shutil.disk_usage(self.folder).free,
            "cea_settlement_deals": settling.deals,
            "cea_settlement_posted": settling.posted,
            "cea_settlement_held": settling.held,
            "cea_settlement_differences": len(settling.differences),
            "cea_verified_sequence": verified.seq,
            "cea_verified_timestamp_seconds": verified.time_s,
            "cea_verify_problems": verified.problems,
        }

    def age(self) -> float:
        """Seconds since the exchange's loop last copied its numbers."""
        return time.monotonic() - self._copied_at if self._copied_at else 0.0

    def health(self) -> tuple[bool, str]:
        """Does the loop turn?"""
        alive = bool(self._copied_at) and self.age() <= ALIVE_S
        return alive, "the loop turns" if alive else f"the loop has not turned for {self.age():.0f} s"

    def ready(self) -> tuple[bool, str]:
        """Can members work?"""
        alive, text = self.health()
        if alive and self.gauges["cea_cancel_only"]:
            return False, "cancel-only"
        return alive, text

    def start(self, host: str, port: int) -> str:
        """Serves; port 0 takes a free one. Returns the URL of /metrics."""
        self._server = ThreadingHTTPServer((host, port), type("Handler", (_Handler,), {"metrics": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()
        return f"http://{host}:{self._server.server_port}/metrics"

    def stop(self) -> None:
        """Ends the HTTP thread."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None


class _Handler(BaseHTTPRequestHandler):
    metrics: Metrics
    timeout = 5  # a client that sends nothing holds a thread for so long at most

    def do_GET(self) -> None:
        """/metrics, health, readiness; anything else is 404."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, generate_latest(self.metrics.registry), "text/plain; version=0.0.4; charset=utf-8")
        elif path in HEALTH or path in READY:
            good, text = self.metrics.health() if path in HEALTH else self.metrics.ready()
            self._answer(200 if good else 503, json.dumps({"ok": good, "text": text}).encode(), "application/json")
        else:
            self._answer(404, b"there are /metrics, /healthz and /readyz\n", "text/plain")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are not news."""


def _word(code: int) -> str:
    return Code(code).name.lower() if code in Code._value2member_map_ else str(code)


def _histogram(name: str, text: str, bounds_ns: tuple[int, ...], counts: list[int], total_ns: int) -> Metric:
    buckets, seen = [], 0
    for bound, count in zip((*bounds_ns, None), counts, strict=True):
        seen += count
        buckets.append(("+Inf" if bound is None else f"{bound / 1e9:g}", seen))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=total_ns / 1e9)


def _version() -> str:
    try:
        return metadata.version("cea-exchange")
    except metadata.PackageNotFoundError:
        return "unknown"
