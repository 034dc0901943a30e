"""Prometheus metrics on an HTTP port of their own, read-only, in a thread that never touches the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Gauge, start_http_server

if TYPE_CHECKING:
    from engine.journal import Journal
    from gateway.core import Core

_COUNTERS = {
    "commands": "commands sequenced since the start",
    "groups": "journal groups since the start",
    "events": "events since the start",
    "frames": "frames received",
    "session_rejects": "messages refused by the session layer",
    "malformed": "messages that could not be read",
    "throttled": "messages refused by a throttle",
    "logins": "logins accepted",
    "login_rejects": "logins refused",
    "timeouts": "sessions that fell silent",
    "blocked": "sends that a slow reader did not take",
    "alarms": "alarms raised",
}


class Metrics:
    """The gauges; ``update`` copies numbers once a second, so reading them costs the exchange nothing."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters = {
            name: Gauge(f"cea_{name}_total", text, registry=self.registry) for name, text in _COUNTERS.items()
        }
        self._sequence = Gauge("cea_sequence", "last applied journal sequence", registry=self.registry)
        self._durable = Gauge("cea_durable_sequence", "last sequence on disk", registry=self.registry)
        self._sessions = Gauge("cea_sessions", "sessions logged in", registry=self.registry)
        self._orders = Gauge("cea_open_orders", "open listed orders", registry=self.registry)
        self._unsent = Gauge("cea_unsent_sessions", "sessions with reports that wait", registry=self.registry)
        self._server: Any = None

    def start(self, host: str, port: int) -> str:
        """Serves /metrics; port 0 takes a free one. Returns the URL."""
        server, thread = start_http_server(port, host, self.registry)
        self._server = (server, thread)
        return f"http://{host}:{server.server_port}/metrics"

    def stop(self) -> None:
        """Ends the HTTP thread."""
        if self._server is not None:
            server, thread = self._server
            server.shutdown()
            server.server_close()
            thread.join()
            self._server = None

    def update(self, core: Core, journal: Journal) -> None:
        """Copies the numbers of this moment."""
        for name, gauge in self._counters.items():
            gauge.set(getattr(core.counters, name))
        self._sequence.set(core.exchange.seq)
        self._durable.set(journal.durable_seq)
        self._sessions.set(len(core.tokens))
        self._orders.set(int(core.exchange.market.book.pool[0]["live"]))
        self._unsent.set(len(core.dirty))
