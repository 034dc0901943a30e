"""The monitor's one connection: a thread that asks the operator plane and keeps the picture.

It uses a viewer's key, which can change nothing, and a session of its own: a monitor that hangs costs the exchange
one slow reader, which it drops.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import zmq

from engine.records import EVENT, NOTICE
from gateway.client import GatewayError, Report
from gateway.keys import KeyFileError
from gateway.monitor.picture import Picture
from gateway.operator import OperatorClient
from gateway.surveillance import Surveillance, Thresholds

log = logging.getLogger(__name__)

STATUS_S: Final = 0.15  # with the page's own quarter of a second below the 500 ms within which it must follow
SLOW_S: Final = 2.0  # members, desk, sessions: lists that grow with the market
RETRY_S: Final = 0.5
TIMEOUT_S: Final = 3.0
BOOK_LEVELS: Final = 40  # of the depth chart


class Feed(threading.Thread):
    """Runs until :meth:`stop`. ``picture`` is what it knows."""

    def __init__(
        self,
        folder: Path,
        key: str,
        *,
        thresholds: Thresholds | None = None,
        make_watch: Callable[[], Surveillance] | None = None,
        metrics: Callable[[], dict[str, float]] | None = None,
    ) -> None:
        super().__init__(name="monitor-feed", daemon=True)
        self.folder, self.key = folder, key
        self.picture = Picture()
        self.watch: Surveillance | None = None
        self._make_watch = make_watch or (lambda: Surveillance(thresholds))
        self._metrics = metrics or (dict)
        self._ending = threading.Event()
        self._noting = threading.Lock()
        self._acknowledged = folder / "run" / "acknowledged.json"
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            self.picture.acknowledged = msgspec.json.decode(self._acknowledged.read_bytes(), type=dict[str, str])

    def acknowledge(self, alert: str, person: str) -> None:
        """Notes who has seen an alert, over restarts of the monitor; names are equal in each replay of a day."""
        with self._noting:
            self.picture.acknowledged = {**self.picture.acknowledged, alert: person}
            spare = self._acknowledged.with_suffix(".tmp")
            spare.write_bytes(msgspec.json.encode(self.picture.acknowledged))
            os.replace(spare, self._acknowledged)

    def stop(self) -> None:
        """Ends the thread."""
        self._ending.set()
        self.join(TIMEOUT_S + 2)

    def run(self) -> None:
        """Connects, follows, connects again."""
        while not self._ending.is_set():
            try:
                with OperatorClient(self.folder, key=self.key, timeout=TIMEOUT_S) as ops:
                    self._follow(ops)
            except (GatewayError, KeyFileError, OSError, zmq.ZMQError) as error:
                self.picture.error = str(error)
                log.warning("no exchange: %s", error)
                self._ending.wait(RETRY_S)
            except (ValueError, LookupError) as error:  # an answer of another version: say so and go on asking
                self.picture.error = f"{type(error).__name__}: {error}"
                log.exception("the exchange's answer was not understood")
                self._ending.wait(RETRY_S)

    def _follow(self, ops: OperatorClient) -> None:
        picture = self.picture
        picture.codes = {int(row[0]): str(row[1]) for row in ops.link.query("instruments")}
        picture.start_day()
        picture.auctions, picture.alerts = {}, type(picture.alerts)(maxlen=picture.alerts.maxlen)
        self.watch = self._make_watch()
        self.watch.codes, self.watch.raised = dict(picture.codes), picture.alerts.append
        ops.subscribe(1)
        next_slow = 0.0
        while not self._ending.is_set():
            now = time.monotonic()
            status = ops.status()
            if set(status["instruments"]) != set(picture.codes.values()):
                picture.codes = {int(row[0]): str(row[1]) for row in ops.link.query("instruments")}
                self.watch.codes = dict(picture.codes)
            picture.books = {
                code: ops.link.query("book", code=code, levels=BOOK_LEVELS)
                for code, row in status["instruments"].items()
                if row["listed"]
            }
            if now >= next_slow:
                next_slow = now + SLOW_S
                picture.sessions, picture.accounts = ops.sessions(), ops.balances()
                picture.desk = ops.link.query("desk")
                picture.health = self._metrics()
            self._take(ops.events())
            picture.status, picture.seen, picture.error = status, time.monotonic(), ""
            self._ending.wait(max(0.0, STATUS_S - (time.monotonic() - now)))

    def _take(self, reports: list[Report]) -> None:
        if not reports:
            return
        events = np.array([r.event for r in reports], EVENT)
        notices: dict[int, dict[str, Any]] = {}
        parts = []
        for at in np.flatnonzero(events["kind"] == NOTICE).tolist():
            notices[at] = reports[at].notice or {}
            payload = msgspec.msgpack.encode(notices[at])
            events["quantity"][at] = len(payload)
            parts.append(payload)
        self.picture.take(events, notices)
        assert self.watch is not None
        self.watch.feed(events, b"".join(parts))
