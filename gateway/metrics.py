"""Prometheus metrics, health and readiness on an HTTP port of their own, in a thread that never touches the engine.

Once a second the exchange copies its integer counters here (:meth:`Metrics.update`); a scrape only formats what was
copied. Nothing is counted per message: refusals by code come from the day's events, a second's worth at once, and the
time of a commit is put into its histogram once per group.

- ``/metrics``: Prometheus text
- ``/health``: 200 while the loop has turned within :data:`ALIVE_S`, else 503
- ``/ready``: 200 while members can trade or at least log in: alive, and neither cancel-only nor out of disk; else 503
"""

from __future__ import annotations

import json
import platform
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from engine.codes import Code
from engine.records import RECORD_VERSION, REJECTED
from gateway.session import State

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
    "cea_deals_today": "deals of the open day",
    "cea_halted": "1 while the market is halted",
    "cea_cancel_only": "1 in cancel-only mode",
    "cea_day_closed": "1 after the close",
    "cea_unsettled_deals": "deals of a closed day that settlement has not reported",
    "cea_calendar_days_left": "trading days that the calendar still knows",
    "cea_phase": "0 before the open, 1 morning, 2 break, 3 afternoon, 4 closed",
    "cea_epoch": "starts of this journal",
    "cea_last_turn_seconds": "age of the last copied numbers",
}
# Upper bounds of a commit's time: an fsync is 0.13 … 0.3 ms on a local disk; a second means the disk is in trouble.
COMMIT_BOUNDS_NS: Final = tuple(
    n * 1_000 for n in (50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 25_600, 102_400, 1_000_000)
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
        self._note(took)
        return result

    def begin(self) -> None:
        """As the journal's."""
        self.journal.begin()

    def wait(self) -> None:
        """As the journal's; the time is that of the thread that did it."""
        self.journal.wait()
        self._note(self.journal.took_ns)

    def _note(self, took_ns: int) -> None:
        self.buckets[bisect_left(COMMIT_BOUNDS_NS, took_ns)] += 1
        self.total_ns += took_ns


class Metrics:
    """What was copied last, as a Prometheus collector."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)  # type: ignore[arg-type]
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self.gauges: dict[str, float] = dict.fromkeys(GAUGES, 0)
        self.rejects = np.zeros(256, np.int64)
        self.timed: TimedJournal | None = None
        self._copied_at = 0.0
        self._seen_events = 0
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    # --- the exchange's side ---------------------------------------------------------------------------------

    def attach(self, core: Core) -> None:
        """Times the commits of a core from now on."""
        self.timed = TimedJournal(core.journal)
        core.journal = self.timed

    def update(self, core: Core, journal: Journal) -> None:
        """Copies the numbers of this moment: some ten microseconds, and a pass over the last second's events."""
        exchange = core.exchange
        head = exchange.market.market[0]
        for name in COUNTERS:
            self.counters[name] = getattr(core.counters, name)
        self._count_rejects(core)
        waiting = [core.store.stream(s.number).next_no - s.cursor for s in core.sessions.values() if s.logged_in]
        phase = int(exchange.market.phase(core.clock.now())) if head["date"] else 0
        self.gauges |= {
            "cea_sequence": exchange.seq,
            "cea_durable_sequence": journal.durable_seq,
            "cea_sessions": len(core.tokens),
            "cea_sessions_lost": sum(s.state is State.LOST for s in core.sessions.values()),
            "cea_open_orders": int(exchange.market.book.pool[0]["live"]),
            "cea_unsent_sessions": len(core.dirty),
            "cea_unsent_reports": sum(waiting),
            "cea_unsent_reports_worst": max(waiting, default=0),
            "cea_batch_commands": core.batch.count,
            "cea_deals_today": int(head["deals"]),
            "cea_halted": int(head["halted"]),
            "cea_cancel_only": int(head["cancel_only"]),
            "cea_day_closed": int(head["day_closed"]),
            "cea_unsettled_deals": int(head["deals"]) if head["day_closed"] and not head["settled"] else 0,
            "cea_calendar_days_left": self._days_left(core, int(head["date"])),
            "cea_phase": phase,
            "cea_epoch": core.epoch,
        }
        self._copied_at = time.monotonic()

    def _count_rejects(self, core: Core) -> None:
        """Refusals by the market's rules, by code, from the events since the last look."""
        count = core.store.count
        first = self._seen_events if self._seen_events <= count else 0  # fewer: a new day has begun
        # kind, side and reason are an event's last word: one pass over it, where fields apart would take three
        ends = core.store.events[first:count].view("<u4").reshape(-1, 16)[:, 15].copy()
        codes = ends[(ends & 0xFF) == REJECTED] >> 16
        if len(codes):
            self.rejects += np.bincount(codes, minlength=256)[:256]
        self._seen_events = count

    @staticmethod
    def _days_left(core: Core, date: int) -> int:
        days = core.market.calendar.days
        return sum(day > date for day in days[-60:])

    # --- the reader's side -----------------------------------------------------------------------------------

    def collect(self) -> Iterator[Metric]:
        """What a scrape gets."""
        for name, text in COUNTERS.items():
            yield CounterMetricFamily(f"cea_{name}", text, self.counters[name])
        for name, text in GAUGES.items():
            yield GaugeMetricFamily(name, text, self.age() if name == "cea_last_turn_seconds" else self.gauges[name])
        rejects = CounterMetricFamily("cea_rejects", "commands refused by the market's rules", labels=["code"])
        for code in np.flatnonzero(self.rejects).tolist():
            rejects.add_metric(
                [Code(code).name.lower() if code in Code._value2member_map_ else str(code)], self.rejects[code]
            )
        yield rejects
        if self.timed is not None:
            buckets, seen = [], 0
            for bound, count in zip((*COMMIT_BOUNDS_NS, None), self.timed.buckets, strict=True):
                seen += count
                buckets.append(("+Inf" if bound is None else f"{bound / 1e9:g}", seen))
            text = "time of a group's commit, fdatasync included"
            yield HistogramMetricFamily(
                "cea_commit_seconds", text, buckets=buckets, sum_value=self.timed.total_ns / 1e9
            )
        build = {
            "version": _version(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "records": str(RECORD_VERSION),
        }
        yield InfoMetricFamily("cea_build", "what runs", value=build)

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
        """/metrics, /health, /ready; anything else is 404."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, generate_latest(self.metrics.registry), "text/plain; version=0.0.4; charset=utf-8")
        elif path in ("/health", "/ready"):
            good, text = self.metrics.health() if path == "/health" else self.metrics.ready()
            self._answer(200 if good else 503, json.dumps({"ok": good, "text": text}).encode(), "application/json")
        else:
            self._answer(404, b"there are /metrics, /health and /ready\n", "text/plain")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are not news."""


def _version() -> str:
    try:
        return metadata.version("cea-exchange")
    except metadata.PackageNotFoundError:
        return "unknown"
