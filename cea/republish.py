"""A journal on a market-data endpoint again: screens and clients see the day as they saw it.

The endpoint is the exchange's own: the same sockets, keys, logins, snapshots and feeds (docs/protocol.md), in a folder
of its own with fresh keys. What is missing is everybody who could change something: nothing is journaled, and a
command has nowhere to go. There is one key for the public feed (``public``), one that sees all levels and every event
(``monitor``), and for the accounts that are named a drop copy of their reports (``copy-<account>``).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import zmq

from engine.calendar import NS_PER_DAY, day_start_ns
from engine.journal import Disk
from engine.records import NEW
from gateway import config as cfg
from gateway import keys as keyfile
from gateway import zap
from gateway.clock import SteppedClock
from gateway.core import Core
from gateway.market_data import Publisher
from gateway.server import PUBLISH_NS, Server, StartError
from replay.journal import JournalReplay, Moment
from replay.journal_reader import EVERYTHING, Reader, cut_at, last_sequence
from replay.market_settings import Settings
from replay.source_files import SourceError

MARK: Final = "replayed"  # a file in folders that we made: only they are used again
PAUSE_MAX_S: Final = 5.0  # a lunch break or a night is not waited for any longer
POLL_MS: Final = 2
SETTLE_S: Final = 0.2  # a reader's further topics arrive within this time of its first
VIEWER: Final = "monitor"
STATUS_WANTED: Final = b"\x01S"  # what an XPUB socket receives of a reader of the feed's status
FEEDS: Final = (zap.FEED, zap.OPERATOR_FEED)
AT_ONCE: Final = 256  # commands between two looks at the sockets when there is no speed
ALIVE_NS: Final = 1_000_000_000

Progress = Callable[[int, int], None]
Ready = Callable[[cfg.Endpoints], None]


class _NoJournal:
    """What is replayed is in its journal already."""

    def append(self, commands: np.ndarray, payloads: bytes) -> None:
        raise AssertionError("nothing may be added to what is replayed")

    def commit(self) -> int:
        return 0


class ReplayCore(Core):
    """Logins, snapshots, reports and queries of readers. Its own commands (disconnects, scheduler) come to nothing."""

    def source(self, message: Any) -> None:
        """Nobody adds to what is replayed."""

    def apply(self, records: np.ndarray, payloads: bytes) -> None:
        """The engine, the reports of the day, and the feeds; nothing is logged."""
        date, closed = (int(self.exchange.market.market[0][name]) for name in ("date", "day_closed"))
        out = self.exchange.apply(records, payloads)
        head = self.exchange.market.market[0]
        if payloads and int(head["date"]) != date:
            self._leave_day()
        if payloads:
            self.update_routing()
        self.counters.commands += len(records)
        self.counters.events += len(out.events)
        self.deliver(out.events, self.store.append(out.events, out.payloads), out.payloads)
        if self.publisher is not None:
            self.publisher.collect(out.events, out.payloads)
        if self.streaming:
            self.dirty |= self.streaming
        if payloads and not closed and head["day_closed"]:
            self._end_day()


class ReplayServer(Server):
    """The exchange's sockets around an engine that a journal moves."""

    def __init__(self, market: cfg.Market, settings: Settings, disk: Disk, date: int = 0) -> None:
        """``date``: only this trading day. What lies before its first order (0: the journal's) is not published.

        Vintages must be listed before readers come, because these subscribe to what is listed when they log in.
        """
        super().__init__(market, "stepped")
        self.replay = JournalReplay(settings, disk)
        self.subscribed = 0  # readers of the feed so far: each subscribes to the status once
        start = day_start_ns(date) if date else 0
        self.until_ns = start + NS_PER_DAY if date else EVERYTHING
        first = first_order(disk, start)
        if not first:
            raise SourceError(market.folder.name, f"no order to publish from {date or 'the beginning'} on")
        self.replay.go_to(Moment(seq=first - 1))

    def open(self) -> None:
        """Binds; afterwards readers can log in."""
        exchange = self.replay.exchange
        table = readers_keys(keyfile.load(self.market.folder / "keys"), exchange.market.sessions)
        clock = SteppedClock(exchange.time_ns)
        self.core = ReplayCore(self.market, exchange, _NoJournal(), clock, table, self._send)
        self.core.tick(time.monotonic_ns())
        epoch = int(time.time())  # readers of an earlier run begin again
        self.core.publisher = Publisher(exchange, self._publish, epoch=epoch, checksum_every=self.config.checksum_every)
        self._bind()
        for plane in FEEDS:
            self.sockets[plane].set(zmq.XPUB_VERBOSE, 1)  # every reader's subscription, not each topic's first only
        for socket in self.sockets.values():
            self._poller.register(socket, zmq.POLLIN)
        cfg.write_endpoints(self.market, self.endpoints)

    def wait_for(self, readers: int) -> None:
        """Serves until so many readers have subscribed; a deal that is published before is not in their feed."""
        while not self.stopping and self.subscribed < readers:
            self.serve_once(POLL_MS)
        if readers:
            self.serve_for(SETTLE_S)

    def play(self, speed: float, progress: Progress | None = None) -> int:
        """The journal at ``speed`` times its own time (0: as fast as it goes). Returns the commands played."""
        clock, played = self.core.clock, 0
        assert isinstance(clock, SteppedClock), "the journal moves the clock"
        last_ns, due = 0, time.monotonic()
        first, last = self.replay.seq, last_sequence(self.replay.disk)
        for commands, payloads in self._pieces(speed):
            time_ns = int(commands["time_ns"][0])
            if speed and last_ns:
                due = max(due, time.monotonic() - PAUSE_MAX_S)
                due += min((time_ns - last_ns) / 1e9 / speed, PAUSE_MAX_S)
                while not self.stopping and (left := due - time.monotonic()) > 0:
                    self.serve_once(min(POLL_MS * 5, int(left * 1000)))
            if self.stopping:
                return played
            last_ns = time_ns
            clock.step(max(int(commands["time_ns"][-1]), clock.now()))
            self.core.apply(commands, payloads)
            self.replay.seq = int(commands["seq"][-1])
            played += len(commands)
            self.serve_once(0)
            if progress:
                progress(self.replay.seq - first, last - first)
        self.serve_for(SETTLE_S)  # the last pictures, and what readers ask for because of them
        return played

    def _pieces(self, speed: float) -> Iterator[tuple[np.ndarray, bytes]]:
        """The journal's commands: those of one time together, or so many at once."""
        for group in Reader(self.replay.disk, self.replay.seq):
            times = group.commands["time_ns"]
            keep = int(np.searchsorted(times, self.until_ns))
            if speed:
                bounds = (np.flatnonzero(times[1:] != times[:-1]) + 1).tolist()
            else:
                bounds = list(range(AT_ONCE, len(times), AT_ONCE))
            bounds = [b for b in bounds if b < keep] + [keep]
            if keep:
                for piece in cut_at(group, bounds):
                    if int(piece[0]["time_ns"][0]) < self.until_ns:
                        yield piece
            if keep < len(times):
                return

    def serve_for(self, seconds: float) -> None:
        """Answers readers for so long."""
        until = time.monotonic() + seconds
        while not self.stopping and time.monotonic() < until:
            self.serve_once(POLL_MS)

    def serve_once(self, wait_ms: int) -> None:
        """One round: logins, queries, feeds, heartbeats."""
        ready = self._poll(self._poller, wait_ms)
        now = time.monotonic_ns()
        self.core.mono_ns = now
        for plane in (zap.MEMBERS, zap.OPERATORS):
            if self.sockets[plane] in ready:
                self.drain(plane)
        for plane in FEEDS:
            with contextlib.suppress(zmq.Again):
                while self.sockets[plane] in ready:
                    self.subscribed += self.sockets[plane].recv(zmq.DONTWAIT) == STATUS_WANTED
        self.core.pump()
        self.core.tick(now)
        if now >= self._publish_due_ns:
            self._publish_due_ns = now + PUBLISH_NS
            self._publisher_tick(now, ready)
        if now >= self._next_housekeeping_ns:
            self._next_housekeeping_ns = now + ALIVE_NS
            if self._zap is not None and not self._zap.alive():
                raise StartError("the ZAP thread has died: nobody could be refused or let in")

    def stop(self) -> None:
        """Readers are told; nothing is written."""
        self.core.shut_down()
        for plane in (zap.MEMBERS, zap.OPERATORS):
            self.sockets[plane].close(200)


def first_order(disk: Disk, from_ns: int) -> int:
    """Sequence of the first order at or behind a time, 0 without one."""
    for group in Reader(disk):
        found = np.flatnonzero((group.commands["kind"] == NEW) & (group.commands["time_ns"] >= from_ns))
        if len(found):
            return int(group.commands["seq"][found[0]])
    return 0


def readers_keys(table: keyfile.KeyTable, sessions: np.ndarray) -> keyfile.KeyTable:
    """The keys with sessions from the top of the market's table: none is a member's, whose reports would go to it.

    SourceError when the market has no session left for them.
    """
    top = len(sessions) - 1
    keys = [msgspec.structs.replace(key, session=top - n) for n, key in enumerate(table.keys)]
    if any(key.session < 1 or sessions[key.session]["open"] for key in keys):
        raise SourceError("--members", f"the market has no {len(keys)} sessions left for readers")
    return keyfile.KeyTable(keys)


def _add_copies(keys: Path, accounts: Sequence[int]) -> None:
    """A drop copy's key for each account that has none yet."""
    table, server = keyfile.load(keys), keyfile.read_secret(keys / keyfile.SERVER_KEY)
    known = {key.name for key in table.keys}
    made = [
        keyfile.make(keys, keyfile.NewKey(f"copy-{a}", "drop_copy", accounts=(a,)), len(known) + n, server.public)
        for n, a in enumerate(accounts, 1)
        if f"copy-{a}" not in known
    ]
    keyfile.save(keys, keyfile.KeyTable([*table.keys, *made]))


def reading_folder(folder: Path, settings: Settings, accounts: Sequence[int] = ()) -> cfg.Market:
    """A folder with the keys of readers, and nobody else's. SourceError where a market lies there."""
    viewer = (cfg.Operator(VIEWER, "viewer"),)
    config = cfg.Config(name="replayed journal", members=(), operators=viewer, gateway=cfg.Gateway(metrics=False))
    try:
        if not (folder / MARK).is_file():
            cfg.create(folder, config, days=[config.first_date])
            (folder / MARK).touch()
        _add_copies(folder / "keys", sorted(set(accounts)))
        market = cfg.load(folder)
    except (cfg.ConfigError, keyfile.KeyFileError) as error:
        raise SourceError(folder, str(error)) from error
    return msgspec.structs.replace(market, rules=settings.rules)


@contextlib.contextmanager
def republishing(
    path: Path, folder: Path, rules: Path | None = None, date: int = 0, accounts: Sequence[int] = ()
) -> Iterator[ReplayServer]:
    """An open server for the journal of ``path``. SourceError and StartError say what is wrong.

    ``accounts``: those whose reports are sent again, each to its key ``copy-<account>``.
    """
    from replay.market_settings import settings_for

    settings, disk = settings_for(path, rules)
    server = ReplayServer(reading_folder(folder, settings, accounts), settings, disk, date)
    try:
        server.open()
        yield server
        server.stop()
    finally:
        server.close()
