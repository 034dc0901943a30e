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
from typing import Final

import msgspec
import numpy as np
import zmq

from engine.records import NOTICE
from gateway.client import GatewayError
from gateway.giving_way import IdleTurns
from gateway.keys import KeyFileError
from gateway.monitor.picture import Picture, members_of
from gateway.operator import OperatorClient
from gateway.surveillance import Surveillance, Thresholds, warm_up
from settlement import progress

log = logging.getLogger(__name__)

STATUS_S: Final = 0.15  # how often the exchange is asked how it stands
# How often what has come of the stream is taken: as often as the exchange hands it on, so that at a million events a
# second each turn is half a millisecond.
EVENTS_S: Final = 0.01
UNWATCHED_S: Final = 1.0  # while no browser looks; below STALE_S, so that the first look is at something fresh
SLOW_S: Final = 2.0  # desk and sessions: lists that grow with the market; metrics
PAGE_S: Final = 0.5  # the next page of accounts (4,000 in four seconds), and how far the settlement is
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
        self._turns = IdleTurns()
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
        warm_up()
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
        self._turns.begin()  # behind the first connection: the threads that libzmq has begun for it keep theirs
        picture = self.picture
        picture.codes = {int(row[0]): str(row[1]) for row in ops.link.query("instruments")}
        picture.start_day()
        picture.auctions, picture.bids, picture.members, picture.day_result = {}, {}, {}, {}
        picture.alerts = type(picture.alerts)(maxlen=picture.alerts.maxlen)
        self.watch = self._make_watch()
        self.watch.codes, self.watch.raised = dict(picture.codes), picture.alerts.append
        ops.event_pages()
        ops.subscribe(1, shared=True)
        self._known_auctions(ops)
        next_slow = next_page = 0.0
        next_member = 0
        while not self._ending.is_set():
            now = time.monotonic()
            status = ops.status()
            picture.take_status(status)
            self._turns.step()
            if set(status["instruments"]) != set(picture.codes.values()):
                picture.codes = {int(row[0]): str(row[1]) for row in ops.link.query("instruments")}
                self.watch.codes = dict(picture.codes)
            picture.books = {
                code: ops.link.query("book", code=code, levels=BOOK_LEVELS)
                for code in picture.books_wanted(now)
                if status["instruments"].get(code, {}).get("listed")
            }
            if now >= next_slow:
                next_slow = now + SLOW_S
                picture.sessions, picture.desk = ops.sessions(), ops.link.query("desk")
                picture.health = self._metrics()
                picture.count(status["seq"], now)
            if now >= next_page:
                next_page = now + PAGE_S
                next_member = self._members(ops, next_member)
                picture.settlement = progress.read(self.folder)
            self._turns.step()
            picture.seen, picture.error = time.monotonic(), ""
            self._listen(ops, now + (STATUS_S if picture.watched(now) else UNWATCHED_S))

    def _listen(self, ops: OperatorClient, until: float) -> None:
        """Takes events as they come, until a moment on the monotonic clock."""
        while True:
            self._take(ops.event_pages())
            self._turns.step()
            wait = min(until - time.monotonic(), EVENTS_S)
            if wait <= 0 or self._ending.wait(wait):
                return
            self._turns.step(wait)

    def _known_auctions(self, ops: OperatorClient) -> None:
        """Auctions of earlier days: the stream begins with this one's morning."""
        known = ops.link.query("auctions")
        for notice in (*known["auctions"], *known["announced"]):
            self.picture.take_auction(notice)

    def _members(self, ops: OperatorClient, first: int) -> int:
        """One page of accounts; where the next one begins."""
        page = ops.members(first)
        self.picture.members = {**self.picture.members, **{m.account: m for m in members_of(page)}}
        return int(page["next"])

    def _take(self, pages: list[tuple[np.ndarray, bytes | memoryview]]) -> None:
        assert self.watch is not None
        for events, payloads in pages:
            notices, at = {}, 0
            for place in np.flatnonzero(events["kind"] == NOTICE).tolist() if payloads else ():
                end = at + int(events["quantity"][place])
                notices[place] = msgspec.msgpack.decode(payloads[at:end])
                at = end
            self.picture.take(events, notices)
            self.watch.feed(events, payloads)
