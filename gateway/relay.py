"""A relay of the public market-data feed: one reader of the exchange, many readers of the relay.

It is the way past one machine for market data: it holds one session and one subscription at the exchange (or at
another relay), keeps every book as any reader does, sends each frame on byte by byte, and answers snapshots from
its own books. Feed numbers and epoch are the exchange's, so that a reader cannot tell the difference and may change
from one to the other. It takes no orders: whoever sends any is refused.

A reader's five steps (:mod:`gateway.market_data`) hold here because one thread does everything in this order: frames
are taken into the books and sent on, gaps are repaired at the exchange, then snapshots are answered; one that cannot
be answered yet waits for the repair.

:class:`RelaySessions` is the sessions without sockets, :class:`Relay` the process.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import zmq

from engine.codes import TEXT_EN, Code
from engine.records import NO_ACCOUNT
from gateway import config as cfg
from gateway import keys as keyfile
from gateway import protocol as p
from gateway import zap
from gateway.client import GatewayError
from gateway.market_data import BookBuilder, BookSnapshot, BookUpdate, FeedStatus, MarketDataClient, decode
from gateway.publishing import publish
from gateway.roles import ROLES
from gateway.session import NS_PER_MS

log = logging.getLogger(__name__)

SESSIONS_MAX: Final = 4_096  # one reader each; a session costs a KiB
WAITING_MAX: Final = 10_000  # snapshots that wait for a repair: then the newest are refused
WAIT_NS: Final = 9_000 * NS_PER_MS  # a client gives up after ten seconds
# A reader asks for a snapshot of each book when it begins and after each gap; 200 a second are all vintages ten times.
QUERIES_PER_S: Final = 200
UPSTREAM_S: Final = 2.0  # how long an answer of the exchange may take; meanwhile our readers wait as well
RETRY_S: Final = 1.0
POLL_MS: Final = 50
FRAMES_AT_ONCE: Final = 2_000  # of one socket before the others get their turn
SEND_FRAMES_MAX: Final = 4_096  # for one slow reader; then it loses frames, sees the gap and asks for a snapshot
REPORT_NS: Final = 60_000 * NS_PER_MS
KEY_NAME: Final = "relay"
READER: Final = "public"


class Reader(msgspec.Struct):
    """One session of a reader."""

    key: keyfile.Key
    route: bytes
    token: int
    heartbeat_ns: int
    heard_ns: int
    said_ns: int
    second: int = 0  # the second in which it has asked ``asked`` questions
    asked: int = 0


class Waiting(msgspec.Struct, frozen=True):
    """A question that waits for a book's repair."""

    reader: Reader
    query: p.Query
    since_ns: int


Reply = tuple[bytes, bytes]  # route, frame


class RelaySessions:
    """Logins, heartbeats and questions of readers; no socket. ``snapshot(code)`` is None while a book is repaired."""

    def __init__(
        self,
        keys: Callable[[], keyfile.KeyTable],
        snapshot: Callable[[str], BookSnapshot | None],
        now: Callable[[], int],
        *,
        curve: bool = True,
    ) -> None:
        self.keys, self.snapshot, self.now, self.curve = keys, snapshot, now, curve
        self.upstream: p.LoginAccepted | None = None
        self.instruments: tuple[p.Instrument, ...] = ()
        self.codes: frozenset[str] = frozenset()
        self.time_ns = 0
        self.readers: dict[int, Reader] = {}
        self.by_key: dict[str, Reader] = {}
        self.waiting: list[Waiting] = []
        self.refused = 0

    def take(self, route: bytes, user: str, frame: bytes) -> list[Reply]:
        """One frame of a reader; what to send."""
        if not frame or not p.is_map(frame[0]):
            return self._refuse(route, Code.ROLE_NOT_ALLOWED, "a relay takes no orders")
        try:
            message = p.decode_from_client(frame)
        except p.DECODE_ERRORS as error:
            return self._refuse(route, Code.MALFORMED, str(error)[:100])
        if isinstance(message, p.Login):
            return self._login(route, user, message)
        reader = self.readers.get(message.token)
        if reader is None or reader.route != route or (self.curve and reader.key.public != user):
            return self._refuse(route, Code.NOT_LOGGED_IN, "")
        reader.heard_ns = self.now()
        if isinstance(message, p.Logout):
            self._end(reader)
            return []
        if isinstance(message, p.Retransmit):  # there are no reports: everything was sent
            return self._say(reader, p.ResyncDone(next_report=1, next_request=1, seq=0))
        if isinstance(message, p.Query):
            return self._query(reader, message)
        return [] if isinstance(message, p.Heartbeat) else self._refuse(route, Code.ROLE_NOT_ALLOWED, "")

    def _refuse(self, route: bytes, code: Code, text: str) -> list[Reply]:
        self.refused += 1
        return [(route, p.encode(p.reject(code, text=text)))]

    def _say(self, reader: Reader, message: p.Control) -> list[Reply]:
        reader.said_ns = self.now()
        return [(reader.route, p.encode(message))]

    def _login(self, route: bytes, user: str, message: p.Login) -> list[Reply]:
        key = self.keys().authorised(user if self.curve else message.claim, time.time_ns())
        code = Code.OK
        if message.version != p.PROTOCOL_VERSION:
            code = Code.WRONG_VERSION
        elif key is None:
            code = Code.NOT_AUTHORISED
        elif not ROLES[key.role].feed or ROLES[key.role].operator_plane:
            code = Code.ROLE_NOT_ALLOWED
        elif self.upstream is None:
            return []  # the client tries again by itself
        elif key.public not in self.by_key and len(self.readers) >= SESSIONS_MAX:
            code = Code.SESSIONS_FULL
        if code != Code.OK or key is None or self.upstream is None:
            self.refused += 1
            return [(route, p.encode(p.LoginRejected(code=int(code), text=TEXT_EN[code])))]
        old = self.by_key.get(key.public)
        replies = []
        if old is not None:  # D7: the same key takes its session over
            if old.route != route:
                replies = self._say(old, p.LoggedOut(code=Code.SESSION_IN_USE, text=TEXT_EN[Code.SESSION_IN_USE]))
            self._end(old)
        now = self.now()
        token = secrets.randbits(48) << 16 | key.session
        reader = Reader(key, route, token, message.heartbeat_ms * NS_PER_MS, now, now)
        self.readers[token] = self.by_key[key.public] = reader
        accepted = msgspec.structs.replace(
            self.upstream,
            session=key.session,
            account=NO_ACCOUNT,
            role=key.role,
            token=token,
            first_report=1,
            next_report=1,
            next_request=1,
            heartbeat_ms=message.heartbeat_ms,
            cancel_on_disconnect_ms=-1,
            orders_per_second=0,
            time_ns=self.time_ns or self.upstream.time_ns,
            instruments=self.instruments or self.upstream.instruments,
        )
        replies += self._say(reader, accepted)
        return replies + self._say(reader, p.ResyncDone(next_report=1, next_request=1, seq=0))

    def _end(self, reader: Reader) -> None:
        self.readers.pop(reader.token, None)
        if self.by_key.get(reader.key.public) is reader:
            del self.by_key[reader.key.public]
        self.waiting = [w for w in self.waiting if w.reader is not reader]

    # --- questions -------------------------------------------------------------------------------------------

    def _query(self, reader: Reader, query: p.Query) -> list[Reply]:
        second = self.now() // (1_000 * NS_PER_MS)
        reader.second, reader.asked = second, reader.asked + 1 if second == reader.second else 1
        if reader.asked > QUERIES_PER_S:
            return self._answer(reader, query, Code.THROTTLED)
        if query.what == "instruments":
            return self._answer(reader, query, data=[msgspec.to_builtins(i) for i in self.instruments])
        if query.what == "time":
            return self._answer(reader, query, data={"time_ns": self.time_ns})
        if query.what != "snapshot" or query.args.get("full"):
            return self._answer(reader, query, Code.ROLE_NOT_ALLOWED)
        code = query.args.get("code")
        if not isinstance(code, str) or code not in self.codes:
            return self._answer(reader, query, Code.UNKNOWN_INSTRUMENT)
        found = self.snapshot(code)
        if found is not None:
            return self._answer(reader, query, data=msgspec.to_builtins(found))
        if len(self.waiting) >= WAITING_MAX:
            return self._answer(reader, query, Code.NOT_YET)
        self.waiting.append(Waiting(reader, query, self.now()))
        return []

    def _answer(self, reader: Reader, query: p.Query, code: Code = Code.OK, data: Any = None) -> list[Reply]:
        text = TEXT_EN[code] if code else ""
        return self._say(reader, p.Answer(id=query.id, seq=0, code=int(code), text=text, data=data))

    def tick(self) -> list[Reply]:
        """Answers what waited, sends heartbeats, ends the sessions of silent readers and of revoked keys."""
        now, replies = self.now(), []
        waiting, self.waiting = self.waiting, []
        for w in waiting:
            found = self.snapshot(w.query.args["code"])
            if found is not None:
                replies += self._answer(w.reader, w.query, data=msgspec.to_builtins(found))
            elif now - w.since_ns < WAIT_NS:
                self.waiting.append(w)
        table, heartbeat = self.keys(), p.Heartbeat(time_ns=self.time_ns)
        for reader in list(self.readers.values()):
            if table.authorised(reader.key.public, time.time_ns()) != reader.key:
                replies += self._say(reader, p.LoggedOut(code=Code.NOT_AUTHORISED, text=TEXT_EN[Code.NOT_AUTHORISED]))
                self._end(reader)
            elif now - reader.heard_ns > reader.heartbeat_ns * p.HEARTBEATS_LOST:
                self._end(reader)
            elif now - reader.said_ns >= reader.heartbeat_ns:
                replies += self._say(reader, heartbeat)
        return replies


class Relay:
    """The process: one client of the exchange, readers in front. ``source``: a folder with run/endpoints.json."""

    def __init__(
        self, folder: Path, source: Path, key: str, *, host: str = "127.0.0.1", port: int = 0, curve: bool = True
    ) -> None:
        """``port``: the readers' plane; the feed's is the next one. 0: free ones."""
        if not curve and host not in cfg.LOOPBACK:
            raise cfg.ConfigError(f"{host}: without curve only a loopback address is allowed")
        self.folder, self.source, self.key = folder, source, key
        self.host, self.port, self.curve = host, port, curve
        self.context: zmq.Context[Any] = zmq.Context()
        self.client: MarketDataClient | None = None
        self.stopping = False
        self.frames = self.overruns = self.connects = 0
        self._tried = self._looked = 0.0
        self._feed_at = ""
        self._stamp = -1
        self._table = keyfile.KeyTable(())
        self._reported_ns = time.monotonic_ns()
        self.sessions = RelaySessions(lambda: self._table, self.snapshot, time.monotonic_ns, curve=curve)
        self._zap: zap.ZapThread | None = None
        self.router: zmq.Socket[Any]
        self.feed: zmq.Socket[Any]
        self.endpoints: cfg.Endpoints

    # --- start and end ---------------------------------------------------------------------------------------

    def open(self) -> None:
        """Binds; readers that come before the exchange answers wait."""
        self.reload_keys()
        secret = keyfile.read_secret(self.folder / "keys" / keyfile.SERVER_KEY) if self.curve else None
        if secret is not None:
            self._zap = zap.ZapThread(self.context, self._allowed)
            self._zap.start()
        self.router = self._bind(zmq.ROUTER, zap.MEMBERS, self.port, secret)
        self.feed = self._bind(zmq.XPUB, zap.FEED, self.port + 1 if self.port else 0, secret)
        self.endpoints = cfg.Endpoints(
            members=self.router.getsockopt_string(zmq.LAST_ENDPOINT),
            operators="",
            feed=self.feed.getsockopt_string(zmq.LAST_ENDPOINT),
            operator_feed="",
            metrics="",
            curve=self.curve,
            server_public=secret.public if secret else "",
            pid=os.getpid(),
        )
        run = self.folder / "run"
        run.mkdir(exist_ok=True)
        spare = run / f"endpoints.{os.getpid()}.tmp"
        spare.write_bytes(msgspec.json.format(msgspec.json.encode(self.endpoints)))
        os.replace(spare, run / "endpoints.json")

    def _bind(self, kind: int, plane: str, port: int, secret: keyfile.Secret | None) -> zmq.Socket[Any]:
        socket = self.context.socket(kind)
        socket.linger = 0
        socket.sndhwm, socket.rcvhwm = SEND_FRAMES_MAX, SEND_FRAMES_MAX
        socket.set(zmq.MAXMSGSIZE, p.FRAME_BYTES_MAX)
        socket.set(zmq.TCP_KEEPALIVE, 1)
        if kind == zmq.ROUTER:
            socket.set(zmq.ROUTER_MANDATORY, 1)
        else:
            socket.set(zmq.XPUB_NODROP, 1)
        if secret is not None:
            socket.curve_server = True
            socket.curve_secretkey, socket.curve_publickey = secret.secret.encode(), secret.public.encode()
            socket.zap_domain = plane.encode()
            socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
        socket.bind(f"tcp://{self.host}:{port or '*'}")
        return socket

    def _allowed(self, domain: str, public: str) -> bool:
        key = self._table.authorised(public, time.time_ns())
        return key is not None and ROLES[key.role].feed and domain in (zap.MEMBERS, zap.FEED)

    def reload_keys(self) -> None:
        """Takes a changed key file; a broken one is refused, and the old one stays."""
        path = self.folder / "keys" / keyfile.KEY_FILE
        stamp = path.stat().st_mtime_ns if path.exists() else 0
        if stamp == self._stamp:
            return
        first, self._stamp = self._stamp == -1, stamp
        try:
            self._table = keyfile.load(self.folder / "keys")
        except keyfile.KeyFileError as error:
            if first:
                raise
            log.error("the key file is not taken, the old one stays: %s", error)

    def close(self) -> None:
        """Gives everything back."""
        self._drop_client()
        for name in ("router", "feed"):
            socket = getattr(self, name, None)
            if socket is not None:
                socket.close(0)
        if self._zap is not None:
            self._zap.stop()
        self.context.term()

    # --- upstream --------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        """Logs in at the exchange and follows all its feeds; tried again each second."""
        if self.client is not None or time.monotonic() - self._tried < RETRY_S:
            return
        self._tried = time.monotonic()
        try:
            self.client = MarketDataClient(self.source, key=self.key, timeout=UPSTREAM_S)
        except (GatewayError, keyfile.KeyFileError, zmq.ZMQError, OSError) as error:
            log.warning("no exchange: %s", error)
            return
        self.connects += 1
        endpoints = cfg.read_endpoints(self.source)
        self._feed_at = endpoints.feed if endpoints is not None else ""
        self.client.socket.subscribe("")  # screens, and instruments that are listed later
        self._note_upstream()
        log.info("following %s", ", ".join(self.client.codes))

    def _note_upstream(self) -> None:
        assert self.client is not None
        login = self.client.link.login
        if login is not None and login is not self.sessions.upstream:
            self.sessions.upstream = login
            self.sessions.instruments = login.instruments
        self.sessions.codes = frozenset(self.client.books)

    def _drop_client(self) -> None:
        if self.client is not None:
            with contextlib.suppress(zmq.ZMQError):
                self.client.close()
            self.client = None

    def snapshot(self, code: str) -> BookSnapshot | None:
        """From our own book; None while it is not complete."""
        book = self.client.books.get(code) if self.client is not None else None
        if book is None or not book.live or book.statistics is None:
            return None
        bids, asks = book.levels()
        time_ns = self.sessions.time_ns
        return BookSnapshot(
            code=code,
            epoch=book.epoch,
            seq=book.seq,
            time_ns=time_ns,
            bids=bids,
            asks=asks,
            statistics=book.statistics,
            composite=self.client.composite if self.client is not None else None,
        )

    def forward(self, topic: bytes, body: bytes) -> None:
        """One frame of the exchange: into our book, and on to whoever has asked for it."""
        client = self.client
        assert client is not None
        self.frames += 1
        if not topic.startswith(b"C."):
            message = decode(body)
            self.sessions.time_ns = max(self.sessions.time_ns, message.time_ns)
            if isinstance(message, BookUpdate):
                self._known(message.code)
            elif isinstance(message, FeedStatus):
                for code in message.books:
                    self._known(code)
            client.take(message)
            client.notices.clear()  # nobody reads them here
            if isinstance(message, BookUpdate):
                client.books[message.code].trades.clear()
        self.overruns += publish(self.feed, (topic, body))

    def _known(self, code: str) -> None:
        """An instrument that was listed after we came."""
        client = self.client
        assert client is not None
        if code in client.books:
            return
        client.books[code] = BookBuilder(code)
        client.codes.append(code)
        rows = client.link.query("instruments")
        self.sessions.instruments = tuple(msgspec.convert(rows, list[p.Instrument]))
        self.sessions.codes = frozenset(client.books)

    # --- the loop --------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until ``stopping``."""
        while not self.stopping:
            self.turn()

    def turn(self, timeout_ms: int = POLL_MS) -> None:
        """Frames on, gaps repaired, questions answered."""
        self._connect()
        poller = zmq.Poller()
        poller.register(self.router, zmq.POLLIN)
        poller.register(self.feed, zmq.POLLIN)
        if self.client is not None:
            poller.register(self.client.socket, zmq.POLLIN)
        poller.poll(timeout_ms)
        try:
            self._follow()
        except (GatewayError, zmq.ZMQError, msgspec.DecodeError) as error:
            log.warning("the exchange is lost: %s", error)
            self._drop_client()
        self._serve()

    def _moved(self) -> bool:
        """True where the exchange was started again on another port: looked at once a second."""
        if time.monotonic() - self._looked < RETRY_S:
            return False
        self._looked = time.monotonic()
        endpoints = cfg.read_endpoints(self.source)
        return endpoints is not None and endpoints.feed != self._feed_at

    def _follow(self) -> None:
        if self._moved():
            self._drop_client()
        client = self.client
        if client is None:
            return
        for _ in range(FRAMES_AT_ONCE):
            try:
                topic, body = client.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                break
            self.forward(topic, body)
        client.link.pump()
        client.repair()
        self._note_upstream()

    def _serve(self) -> None:
        for _ in range(FRAMES_AT_ONCE):
            try:
                self.feed.recv_multipart(zmq.DONTWAIT)  # subscriptions are libzmq's business
            except zmq.Again:
                break
        for _ in range(FRAMES_AT_ONCE):
            try:
                parts = self.router.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                break
            if len(parts) == 2:
                user = str(parts[1].get("User-Id")) if self.curve else ""
                self._reply(self.sessions.take(parts[0].bytes, user, parts[1].bytes))
        self.reload_keys()
        self._reply(self.sessions.tick())
        if time.monotonic_ns() - self._reported_ns > REPORT_NS:
            self._reported_ns = time.monotonic_ns()
            log.info("%s", json.dumps(self.status()))

    def _reply(self, replies: list[Reply]) -> None:
        for route, frame in replies:
            with contextlib.suppress(zmq.ZMQError):  # full or gone: the reader asks again, or has left
                self.router.send_multipart((route, frame), zmq.DONTWAIT)

    def status(self) -> dict[str, int]:
        """Counts since the start, and readers now."""
        books = self.client.books.values() if self.client is not None else ()
        return {
            "readers": len(self.sessions.readers),
            "frames": self.frames,
            "overruns": self.overruns,
            "connects": self.connects,
            "gaps": sum(b.gaps for b in books),
            "refused": self.sessions.refused,
        }


def prepare(folder: Path) -> None:
    """A relay's folder: its own server key and one reader's key, where there are none yet."""
    if not (folder / "keys" / keyfile.KEY_FILE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        keyfile.create(folder / "keys", [keyfile.NewKey(READER, "market_data")])


def add_reader(folder: Path, name: str) -> Path:
    """A key for one more reader; returns the secret's file. A running relay takes it within a turn."""
    prepare(folder)
    keys = folder / "keys"
    table = keyfile.load(keys)
    server = keyfile.read_secret(keys / keyfile.SERVER_KEY)
    session = max((k.session for k in table.keys), default=0) + 1
    new = keyfile.make(keys, keyfile.NewKey(name, "market_data"), session, server.public)
    keyfile.save(keys, keyfile.KeyTable([*table.keys, new]))
    return keys / f"{name}.key"
