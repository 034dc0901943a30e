"""The exchange process: sockets, signals and real time around :class:`gateway.core.Core`.

Start-up is recovery: open the journal, restore the newest snapshot, apply the groups behind it, and go on. The
loop drains what is waiting (bounded), makes one group of it, and sends what it led to. A clean stop (SIGTERM,
SIGINT) tells the sessions, writes a snapshot and exits with 0; any journal error ends the process at once.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Container, Iterator
from typing import Any, Final

import zmq

from engine import messages
from engine.exchange import ENGINE_ABI, Exchange
from engine.journal import FreeSpace, Identity, Journal, RealDisk
from gateway import commit, shared_stream, zap
from gateway import config as cfg
from gateway import keys as keyfile
from gateway import protocol as p
from gateway.awake import Awake
from gateway.batch import BATCH_RECORDS, CommandLog
from gateway.clock import SteppedClock, make_clock
from gateway.core import Core
from gateway.lane import HotLane
from gateway.libzmq import LibzmqMissing
from gateway.market_data import Publisher
from gateway.memory import TouchAhead
from gateway.metrics import Metrics
from gateway.publishing import publish
from gateway.scheduler import bootstrap, check_sessions, run_until, sync_sessions
from gateway.session import NS_PER_MS
from gateway.snapshots import Restored, Snapshots
from gateway.turn import turn_for

log = logging.getLogger(__name__)

# Messages taken from one socket before the other plane and the timers get their turn.
DRAIN_MESSAGES: Final = BATCH_RECORDS
# The operators' stream of all events goes out in bursts: whoever watches may lag for a moment. Sent with each group it
# came in small frames, which cost the exchange a send each and whoever reads it three times as much for an event.
STREAM_NS: Final = 10 * NS_PER_MS
STREAM_FRAMES: Final = 4  # in one turn: 4,096 events, a fraction of a millisecond; in shared memory 32,768: one
POLL_MS: Final = 20  # how long the loop sleeps at most: the resolution of time-outs
STILL_NS: Final = 1_000_000_000  # a round takes milliseconds: after so long the process was stopped, or kept busy
PUBLISH_NS: Final = 1 * NS_PER_MS  # market data at most 1,000 times a second: an order never waits for its own picture
PUBLISH_LATE_NS: Final = 9 * NS_PER_MS  # and at least 100 times a second while the loop has no pause
TIMERS_NS: Final = 5 * NS_PER_MS  # between two looks at the timers where nothing but heartbeats comes
HOUSEKEEPING_NS: Final = 1_000 * NS_PER_MS  # key file, disk space, scheduler
REBIND_TRIES: Final = 400  # two seconds: a closed socket's port is free within milliseconds
# Report frames that wait for one slow reader: 128 x 32 KiB = 4 MiB at most; of the operators' stream 8 MiB.
SEND_FRAMES_MAX: Final = 128
FEED_FRAMES_MAX: Final = 256  # small messages for one slow reader of market data
RECEIVE_FRAMES_MAX: Final = 2_048
BACKLOG: Final = 4_096  # connections of a whole market that comes back at once
HANDSHAKE_MS: Final = 5_000  # a peer that does not finish its handshake is dropped
CURVE_BYTES: Final = 64  # what encryption adds to a frame (33 bytes) counts in libzmq's limit too
HANDSHAKE_EVENTS: Final = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)
SELF_TEST_MS: Final = 30_000  # an answer ends it at once; a machine that stands still for seconds is no finding


class StartError(Exception):
    """The exchange does not start; the text says why."""


def serve(
    folder: str | os.PathLike[str],
    *,
    clock: str = "real",
    ready_callback: Callable[[cfg.Endpoints], None] | None = None,
) -> int:
    """Runs the exchange of a market folder until SIGTERM or SIGINT. Returns the exit code, 0.

    Raises ConfigError, KeyFileError, StartError, JournalError (journal in use), RecoveryRefused and
    JournalFailed (a SystemExit with code 74).
    """
    server = Server(cfg.load(folder), clock)
    try:
        server.start()
        with server.signals():  # before anyone is told where it is: who knows that may stop it
            server.announce()
            if ready_callback is not None:
                ready_callback(server.endpoints)
            gc.collect()
            gc.freeze()  # a full look at all that was imported and recovered would take tens of milliseconds of trading
            server.run()
            server.stop()
    finally:
        gc.unfreeze()
        server.close()
    return 0


class Server:
    """One exchange process."""

    def __init__(self, market: cfg.Market, clock: str = "real") -> None:
        self.market = market
        self.config = market.config.gateway
        self._clock_text = clock
        self.context: zmq.Context[Any] = zmq.Context()
        self.sockets: dict[str, zmq.Socket[Any]] = {}
        self.stopping = False
        self.core: Core
        self.journal: Journal
        self.endpoints: cfg.Endpoints
        self.metrics = Metrics(market.folder)
        self._zap: zap.ZapThread | None = None
        self.lane: HotLane | None = None
        self.snapshots: Snapshots | None = None
        self._touching: TouchAhead | None = None
        self._awake: Awake | None = None
        self._shared: shared_stream.SharedStream | None = None
        self._log: CommandLog | None = None
        self._overlapped: commit.OverlappedJournal | None = None
        self._keys_stamp = 0
        self._disk_low = False
        self._next_housekeeping_ns = 0
        self._publish_due_ns = 0
        self._poller = zmq.Poller()
        self._due_ns = 0
        self._opened = False
        self._day: tuple[int, bool] | None = None

    # --- start -----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """`start` and `announce`."""
        self.start()
        self.announce()

    def announce(self) -> None:
        """Writes down where the exchange is; it must be able to answer at once."""
        cfg.write_endpoints(self.market, self.endpoints)

    def start(self) -> None:
        """Recovers and binds; afterwards members can log in."""
        began = time.monotonic_ns()
        rules = self.market.rules
        disk = RealDisk(self.market.journal)
        journal_id = 0 if disk.names() else int.from_bytes(os.urandom(7))  # 0: the one on the disk
        identity = Identity(engine_abi=ENGINE_ABI, rules_hash=rules.hash(), journal_id=journal_id)
        restored = Restored(self.market, disk, commit.beside)
        self.journal = Journal.open(disk, identity, restore=restored.take, beside=commit.beside)
        self._opened = True
        recovery = self.journal.recovery
        restored.finish(self.journal)
        exchange, store, command_log = restored.exchange, restored.store, restored.log
        self._log = command_log
        assert exchange is not None, "a new market or the snapshot's"
        store.warm_up()
        command_log.warm_up()
        clock = make_clock(self._clock_text, self._start_ns(exchange))
        table = keyfile.load(self.market.folder / "keys")
        self.core = Core(
            self.market,
            exchange,
            self.journal,
            clock,
            table,
            self._send,
            epoch=recovery.epoch,
            store=store,
            command_log=command_log,
        )
        for group in self.journal.batches(recovery.snapshot_seq, messages_apart=True):
            self.core.apply(group.commands, group.payloads)
        if isinstance(clock, SteppedClock):
            clock.time_ns = self._start_ns(exchange)
            self.core.clock_stepped = self._note_clock
        self.snapshots = Snapshots(
            self.core,
            self.journal,
            restored,
            commands=self.config.snapshot_commands,
            minutes=self.config.snapshot_minutes,
        )
        for alarm in recovery.alarms:
            self.core.alarm(alarm)
        if self.config.overlap_from and commit.available():
            self._overlapped = commit.OverlappedJournal(self.journal)
            self.core.journal, self.core.overlap_from = self._overlapped, self.config.overlap_from
        if self.config.metrics:
            self.metrics.attach(self.core)
        if shared_stream.available():
            self._shared = self.core.shared = shared_stream.SharedStream()
        self.core.tick(time.monotonic_ns())
        bootstrap(self.core)
        self.core.publisher = Publisher(
            exchange, self._publish, epoch=recovery.epoch, checksum_every=self.config.checksum_every
        )
        ahead = self.config.orders_ahead
        self._touching = TouchAhead(
            [
                *self.core.store.growing(ahead),
                *self.core.log.growing(ahead),
                *self.snapshots.growing(),
                *([self._shared.touchable] if self._shared is not None else []),
                lambda: (exchange.market.deals_room, int(exchange.market.market[0]["deals"]), ahead),
            ]
        )
        self._touching.start()
        self._bind()
        if self.config.lane == "hot":
            self._start_hot_lane()
        if self.config.stay_awake:
            self._awake = self.metrics.awake = Awake()
            if self._awake.why:
                log.info("the processors halt between orders: %s", self._awake.why)
        self._housekeeping(time.monotonic_ns())
        log.info(
            "open: epoch %d, sequence %d, from the snapshot of %d, recovered in %.3f s",
            recovery.epoch,
            exchange.seq,
            recovery.snapshot_seq,
            (time.monotonic_ns() - began) / 1e9,
        )

    def _start_hot_lane(self) -> None:
        """Machine code on the members' socket; without its libzmq the plain lane serves, and says so."""
        try:
            self.lane = HotLane(self.sockets[zap.MEMBERS])
        except LibzmqMissing as error:
            self.core.alarm(f"the plain lane serves: {error}")
            return
        self.core.deliver = self.lane.deliver_for(self.core)  # type: ignore[method-assign, assignment]
        self.core.beat = self.lane.beat_for(self.core)  # type: ignore[method-assign, assignment]
        self.lane.warm_up(self.core)
        turn = turn_for(self.core, self.journal, self.lane)
        if turn is not None:
            self.core.turn = turn
            if self.metrics.timed is not None:
                turn.committed = self.metrics.timed.note

    def _start_ns(self, exchange: Exchange) -> int:
        """Where a stepped or scaled clock starts: where it was, else at the first day's opening hour."""
        noted = 0
        with contextlib.suppress(FileNotFoundError, ValueError):
            noted = int((self.market.folder / "run" / "clock").read_text())
        return max(exchange.time_ns, noted) or self.market.start_ns()

    def _note_clock(self, time_ns: int) -> None:
        """Remembers a stepped clock over a crash; the commands' own times are in the journal."""
        path = self.market.folder / "run" / "clock"
        spare = path.with_suffix(".tmp")
        spare.write_text(str(time_ns))
        os.replace(spare, path)

    # --- sockets -----------------------------------------------------------------------------------------------

    def _bind(self) -> None:
        old = cfg.read_endpoints(self.market.folder)
        c = self.config
        (self.market.folder / "run").mkdir(exist_ok=True)
        secret = keyfile.read_secret(self.market.folder / "keys" / keyfile.SERVER_KEY) if c.curve else None
        if secret is not None:
            self._zap = zap.ZapThread(self.context, self._allowed)
            self._zap.start()
        self._secret = secret
        addresses = {}
        for plane, port in (
            (zap.MEMBERS, c.members_port),
            (zap.OPERATORS, c.operators_port),
            (zap.FEED, c.feed_port),
            (zap.OPERATOR_FEED, 0),
        ):
            before = getattr(old, plane.replace("-", "_")) if old else ""
            addresses[plane] = self._bind_one(plane, port, before)
        if secret is not None:
            self._self_test(addresses[zap.MEMBERS])
        metrics = self.metrics.start(c.host, c.metrics_port) if c.metrics else ""
        self.endpoints = cfg.Endpoints(
            members=addresses[zap.MEMBERS],
            operators=addresses[zap.OPERATORS],
            feed=addresses[zap.FEED],
            operator_feed=addresses[zap.OPERATOR_FEED],
            metrics=metrics,
            curve=c.curve,
            server_public=secret.public if secret else "",
            pid=os.getpid(),
        )

    def _bind_one(self, plane: str, port: int, before: str) -> str:
        """Binds a plane on its port; without one, on the port it had before, else on a free one."""
        kind = zmq.XPUB if plane in (zap.FEED, zap.OPERATOR_FEED) else zmq.ROUTER
        socket = self.context.socket(kind)
        socket.linger = 0
        socket.set(zmq.MAXMSGSIZE, p.FRAME_BYTES_MAX + CURVE_BYTES)
        socket.set(zmq.BACKLOG, BACKLOG)
        socket.set(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        socket.set(zmq.TCP_KEEPALIVE, 1)
        socket.sndhwm = SEND_FRAMES_MAX if kind == zmq.ROUTER else FEED_FRAMES_MAX
        socket.rcvhwm = RECEIVE_FRAMES_MAX
        if kind == zmq.ROUTER:
            socket.set(zmq.ROUTER_MANDATORY, 1)  # a full or missing peer is told to us, not dropped in silence
        else:
            socket.set(zmq.XPUB_NODROP, 1)  # a full queue is told to us before anything is dropped
        if self._secret is not None:
            socket.curve_server = True
            socket.curve_secretkey = self._secret.secret.encode()
            socket.curve_publickey = self._secret.public.encode()
            socket.zap_domain = plane.encode()
            socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
        host = self.config.host
        tries = [f"tcp://{host}:{port}"] if port else [before] * bool(before) + [f"tcp://{host}:*"]
        for address in tries:
            try:
                socket.bind(address)
            except zmq.ZMQError as error:
                if address is tries[-1]:
                    socket.close(0)
                    raise StartError(f"{plane}: cannot bind {address}: {error}") from None
            else:
                break
        self.sockets[plane] = socket
        return socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def _allowed(self, domain: str, public: str) -> bool:
        """Asked by the ZAP thread: may this key connect to this plane now?"""
        from gateway.roles import ROLES

        key = self.core.keys.authorised(public, self.core.clock.now())
        if key is None:
            return False
        role = ROLES[key.role]
        if domain in (zap.OPERATORS, zap.OPERATOR_FEED):
            return role.operator_plane
        return role.feed if domain == zap.FEED else domain == zap.MEMBERS and not role.operator_plane

    def _self_test(self, address: str) -> None:
        """Proves that an unknown key and no key are refused, before anybody is told the address."""
        assert self._secret is not None and self._zap is not None
        public, secret = zmq.curve_keypair()
        with zmq.Context() as context:
            for name, with_key in (("an unknown key", True), ("no key", False)):
                socket = context.socket(zmq.DEALER)
                socket.linger = 0
                monitor = socket.get_monitor_socket(HANDSHAKE_EVENTS)
                if with_key:
                    socket.curve_serverkey = self._secret.public.encode()
                    socket.curve_publickey, socket.curve_secretkey = public, secret
                socket.connect(address)
                refused = False
                if monitor.poll(SELF_TEST_MS):
                    event = int.from_bytes(monitor.recv_multipart()[0][:2], "little")
                    refused = event != zmq.EVENT_HANDSHAKE_SUCCEEDED
                socket.disable_monitor()
                monitor.close(0)
                socket.close(0)
                if not refused:
                    raise StartError(f"self-test: {name} was not refused on the members' plane")

    def _send(self, plane: str, route: bytes, frame: bytes) -> bool:
        socket = self.sockets.get(plane)
        if socket is None or not route:
            return True
        try:
            socket.send_multipart((route, frame), zmq.DONTWAIT, copy=True)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:  # its connection is gone; the session times out by itself
                return False
            raise
        return True

    def _publish(self, topic: bytes, frame: bytes, operators: bool) -> None:
        socket = self.sockets.get(zap.OPERATOR_FEED if operators else zap.FEED)
        if socket is None:
            return
        self.core.counters.feed_overruns += publish(socket, (topic, frame))

    # --- the loop ----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until ``stopping``: drain, group, send, timers."""
        self._watch()
        core, snapshots = self.core, self.snapshots
        assert snapshots is not None, "made at the start"
        timers_ns, stream_ns, more, round_ns = 0, 0, False, time.monotonic_ns()
        while not self.stopping:
            waits = core.dirty or (core.publisher is not None and core.publisher.waiting)
            ready = self._wait(0 if core.pending else 1 if waits or more else POLL_MS)
            now = core.mono_ns = time.monotonic_ns()
            if now - round_ns > STILL_NS:
                log.warning("stood still for %.1f s: not counted as the members' silence", (now - round_ns) / 1e9)
                core.stood_still(now - round_ns)
            round_ns = now
            if self.sockets[zap.OPERATORS] in ready:
                self.drain(zap.OPERATORS)
            if core.batch.count:
                core.advance()
            else:
                core.finish()
                if now < timers_ns and not waits and not core.dirty:
                    continue  # thousands of sessions' heartbeats: nothing to send, nothing due yet
            timers_ns = now + TIMERS_NS
            core.pump(0)
            core.tick(now)
            busy = core.pending is not None or self.sockets[zap.MEMBERS] in ready
            if now >= self._publish_due_ns + (PUBLISH_LATE_NS if busy else 0):
                core.finish()  # a picture shows what is durable
                self._publish_due_ns = now + PUBLISH_NS
                self._publisher_tick(now, ready)
                snapshots.turn(now)
            if now >= self._next_housekeeping_ns:
                core.finish()
                self._housekeeping(now)
            self._schedule()
            core.pump(0)
            if now >= stream_ns:
                more = core.stream(STREAM_FRAMES)
                stream_ns = now if more else now + STREAM_NS

    def _watch(self) -> None:
        """Looks at the sockets that there are now."""
        self._poller = zmq.Poller()
        for socket in self.sockets.values():
            self._poller.register(socket, zmq.POLLIN)
        if self.lane is not None:
            members = self.sockets[zap.MEMBERS]
            self.lane.watch([members, *(s for s in self.sockets.values() if s is not members)])

    def _wait(self, timeout_ms: int) -> Container[Any]:
        """The sockets that have something; what the members sent has been taken by then."""
        if self.lane is not None:
            return self.lane.wait(self.core, timeout_ms)
        ready = self._poll(self._poller, timeout_ms)
        self.core.mono_ns = time.monotonic_ns()
        if self.sockets[zap.MEMBERS] in ready:
            self.drain(zap.MEMBERS)
        return ready

    def _poll(self, poller: zmq.Poller, timeout_ms: int) -> dict[Any, int]:
        """The sockets that have something."""
        try:
            return dict(poller.poll(timeout_ms))
        except InterruptedError:
            return {}

    def drain(self, plane: str) -> None:
        """Takes what is waiting on a plane, at most DRAIN_MESSAGES."""
        if self.lane is not None and plane == zap.MEMBERS:
            self.lane.drain(self.core)
            return
        socket, core = self.sockets[plane], self.core
        receive, curve = core.receive, self.config.curve
        for _ in range(DRAIN_MESSAGES):
            try:
                route = socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                return
            if not socket.get(zmq.RCVMORE):
                continue
            if curve:
                part = socket.recv(copy=False)
                frame, user, more = part.bytes, str(part.get("User-Id")), part.more
            else:
                frame, user, more = socket.recv(), "", bool(socket.get(zmq.RCVMORE))
            parts = 1
            while more:  # nobody of ours sends several parts: count and forget them
                socket.recv()
                parts += 1
                more = bool(socket.get(zmq.RCVMORE))
            receive(plane, route, user, frame, parts=parts)

    def _publisher_tick(self, now: int, ready: Container[Any]) -> None:
        for plane in (zap.FEED, zap.OPERATOR_FEED):  # subscriptions are not ours to answer, but must be read
            with contextlib.suppress(zmq.Again):
                while self.sockets[plane] in ready:
                    self.sockets[plane].recv_multipart(zmq.DONTWAIT)
        if self.core.publisher is not None:
            self.core.publisher.tick(now, self.core.clock.now(), self.config.conflate_ms)

    def _schedule(self) -> None:
        """Real and scaled clocks: what time has made due. Stepped clocks do it as they are stepped."""
        if isinstance(self.core.clock, SteppedClock):
            return
        now = self.core.clock.now()
        if now >= self._due_ns:
            due = run_until(self.core, now)
            self._due_ns = due or now + 1_000_000_000

    def _housekeeping(self, now: int) -> None:
        self._next_housekeeping_ns = now + HOUSEKEEPING_NS
        if self._zap is not None and not self._zap.alive():
            raise StartError("the ZAP thread has died: nobody could be refused or let in")
        self._look_at_log()
        self.reload_keys()
        if any(key.valid_to for key in self.core.keys.keys):
            self.core.end_unauthorised()
        self._check_disk()
        self._due_ns = min(self._due_ns, self.core.clock.now())
        self._keep_day()
        if self.config.metrics:
            self.metrics.update(self.core, self.journal)

    def reload_keys(self) -> None:
        """Takes a changed key file; a bad one is refused with an alarm, and the old one stays."""
        folder = self.market.folder / "keys"
        try:
            stat = (folder / keyfile.KEY_FILE).stat()
            stamp = stat.st_mtime_ns ^ stat.st_size ^ stat.st_ino
        except OSError:
            stamp = -1
        if stamp == self._keys_stamp:
            return
        first, self._keys_stamp = self._keys_stamp == 0, stamp
        if first:
            return
        try:
            table = keyfile.load(folder)
            check_sessions(self.core, table)
        except keyfile.KeyFileError as error:
            self.core.alarm(f"the key file is not taken, the old one stays: {error}")
            return
        lost = {k.public for k in self.core.keys.keys} - {k.public for k in table.keys}
        self.core.set_keys(table)
        sync_sessions(self.core)
        if lost:  # a PUB socket cannot check each message: whoever was connected must connect anew (D10)
            for plane in (zap.FEED, zap.OPERATOR_FEED):
                self._rebind_feed(plane)
        log.info("key file reloaded: %d keys", len(table.keys))

    def _rebind_feed(self, plane: str) -> None:
        address = getattr(self.endpoints, plane.replace("-", "_"))
        old = self.sockets.pop(plane)
        old.close(0)
        for tries_left in reversed(range(REBIND_TRIES)):  # counted: a machine may stand still between two of them
            try:
                self._bind_one(plane, int(address.rsplit(":", 1)[1]), "")
                self._watch()
                return
            except StartError:
                if not tries_left:
                    raise
                time.sleep(0.005)  # the old socket's thread closes its port

    def _keep_day(self) -> None:
        """Seals a day that has closed; writes a snapshot when a new one has been rolled, so that a start is short."""
        exchange = self.core.exchange
        head = exchange.market.market[0]
        date, closed = int(head["date"]), bool(head["day_closed"])
        if self._day is None:  # the first look: what is so already was kept, or will be at the next change
            self._day = (date, closed)
        if self._day == (date, closed) or not exchange.seq:
            return
        if closed:
            counts: dict[str, int | str] = {"deals": int(head["deals"]), "commands": exchange.seq}
            self.journal.seal(date, exchange.seal_hash(), counts)
        elif date != self._day[0] and self.snapshots is not None:
            self.snapshots.begin(time.monotonic_ns())
        self._day = (date, closed)

    def _check_disk(self) -> None:
        """A disk that is nearly full: cancel-only, by a journaled command; the way back is an operator's."""
        low = self.journal.free_space_state() is FreeSpace.LOW
        if low and not self._disk_low and not self.core.exchange.market.market[0]["cancel_only"]:
            self.core.alarm("the journal's disk is nearly full: cancel-only")
            self.core.source(messages.CancelOnly(on=True, by="gateway", why="the journal's disk is nearly full"))
            self.core.flush()
        self._disk_low = low

    def _look_at_log(self) -> None:
        """Takes notice when the log of the commands before the start stands; it is filled beside the open market."""
        command_log = self.core.log
        if command_log.filled(wait=False) and command_log.trouble:
            self.core.alarm(f"repeats of requests before this start will be refused: {command_log.trouble}")
            command_log.trouble = ""

    # --- the end -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT stop the loop; the handlers before are put back."""
        before = {}
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError):  # not in the main thread: whoever runs us there stops us
                before[number] = signal.signal(number, self._on_signal)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: Any) -> None:
        self.stopping = True

    def stop(self) -> None:
        """A clean stop: sessions are told, the state is written."""
        self.core.shut_down()
        if self.core.exchange.seq:
            self._keep_day()
            assert self.snapshots is not None, "made at the start"
            self.snapshots.now(time.monotonic_ns())
        for plane in (zap.MEMBERS, zap.OPERATORS):  # a moment for the last words to leave
            self.sockets[plane].close(200)

    def close(self) -> None:
        """Gives everything back; also after an error."""
        for socket in self.sockets.values():
            socket.close(None if socket.closed else 0)
        if self._zap is not None:
            self._zap.stop()
        self.metrics.stop()
        if self._touching is not None:
            self._touching.stop()
        if self._awake is not None:
            self._awake.close()
        if self._overlapped is not None:
            self._overlapped.close()
        if self.snapshots is not None:
            self.snapshots.abandon()
        if self._log is not None:
            self._log.abandon()
        if self._shared is not None:
            self._shared.close()
        if self._opened:
            self.journal.close()
        self.context.term()
