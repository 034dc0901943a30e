"""The gateway's fuzzer: nasty frames into the exchange's core, a judge beside it that says what must come of each.

Per frame the judge, which shares no code with the core's session layer, names the rejects that must come back and the
commands that must enter the sequence; every journal group is compared with them byte for byte. From time to time the
state's hash is taken before and after a refused frame, and at a world's end an exchange that was given nothing but the
journal must have the same state. Frames that ran new blocks of code, or got an answer of a new kind, become the stock
from which further frames are made (``tests/block_marks.py``): that is what "coverage-guided" means here.

    python tests/gateway_fuzzer.py --seed 1000 --worlds 5 --frames 20000

prints one JSON line per seed; everything about a run follows from its seed.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import random
import resource
import sys
import time
import types
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]

import block_marks
import fake_libzmq
import fuzz_frames as ff
import msgspec
import numpy as np
from gateway_market import CONFIG, DAY, HOUR
from memory_tail import TailJournal
from session_world import CALENDAR, MemoryJournal

import engine.administration
import engine.auction
import engine.bulk
import engine.exchange
import gateway.batch
import gateway.core
import gateway.lane
import gateway.login
import gateway.queries
import gateway.reports
import gateway.requests
import gateway.roster
import gateway.sending
import gateway.sequence
import gateway.session
import gateway.timeouts
from engine import messages as m
from engine.codes import Code
from engine.exchange import Exchange
from engine.market import ACTIVE
from engine.records import MESSAGE, NO_ACCOUNT, RECORD_BYTES
from gateway import config as cfg
from gateway import keys, libzmq, shared_stream
from gateway import protocol as p
from gateway.clock import SteppedClock
from gateway.core import Core
from gateway.market_data import Publisher
from gateway.roles import ROLES
from gateway.scheduler import bootstrap
from gateway.shared_stream import SharedReader, SharedStream
from gateway.zap import MEMBERS, OPERATORS

CORE = [
    gateway.core,
    gateway.timeouts,
    gateway.login,
    gateway.requests,
    gateway.sending,
    gateway.roster,
    gateway.sequence,
]
MARKED = [
    *CORE,
    gateway.session,
    gateway.batch,
    gateway.queries,
    gateway.reports,
    engine.exchange,
    engine.administration,
    engine.bulk,
    engine.auction,
]
FLUSH_EVERY = 32
PARTS_MAX = 40  # of a message of many parts: all are read and forgotten
HASH_EVERY = 100  # refused frames: the state's hash before and after
CHECK_EVERY = 5_000  # frames: the engine's own invariants, 40 ms
# Of rejects also those that go to a connection and not to a session, and are lost where its socket is full.
MAY_BE_LOST = frozenset({Code.MALFORMED, Code.TOO_LARGE, Code.NOT_LOGGED_IN})
FRAME_NS = 100_000  # monotonic time from frame to frame: 10,000 frames a second
HOURS = (9.75, 13.5, 13.5, 14.9, 12.0, 9.0)  # where a world's day stands
FRAMES_PER_BLOCK = 8
BURST = 300  # frames made from the first frame that ran a block
RANK_EVERY = 250  # frames: which blocks are rare is looked at anew
RESIDENT_MB_MAX = 2_500  # the peak: the tables of a few worlds; it must not depend on how many frames came
RISK_DOWN = (2, 3, 5)
TOKEN_AT, OWNER_AT = slice(40, 48), slice(52, 58)

# name, role, account, session: each role, and two keys of one session (rotation); the first ones speak most
WHO = (
    ("member-1", "trader", 1, 1),
    ("member-2", "trader", 2, 2),
    ("member-3", "trader", 3, 3),
    ("risk-1", "risk", 1, 4),
    ("drop", "drop_copy", NO_ACCOUNT, 5),
    ("public", "market_data", NO_ACCOUNT, 6),
    ("ops1", "operator", NO_ACCOUNT, 7),
    ("ops2", "operator", NO_ACCOUNT, 8),
    ("settlement", "settlement", NO_ACCOUNT, 9),
    ("monitor", "viewer", NO_ACCOUNT, 10),
    ("member-3b", "trader", 3, 3),
)


class Failure(AssertionError):
    """The core did what the judge does not allow, or raised."""


class Bucket:
    """A token bucket, written down anew."""

    def __init__(self, rate: int, burst: int, now_ns: int) -> None:
        self.rate, self.burst, self.now_ns = rate, burst * 10**9, now_ns
        self.fill = self.burst

    def take(self, count: int, now_ns: int) -> bool:
        passed = min(now_ns - self.now_ns, 10**10)
        self.fill, self.now_ns = min(self.burst, self.fill + passed * self.rate), now_ns
        enough = self.fill >= count * 10**9
        self.fill -= count * 10**9 if enough else 0
        return enough


class Peer:
    """One connection: a key, a routing id, and what it knows from the exchange's answers."""

    def __init__(self, key: keys.Key, number: int) -> None:
        self.key, self.role = key, ROLES[key.role]
        self.plane = OPERATORS if self.role.operator_plane else MEMBERS
        self.route = b"\x01" + bytes(7) + number.to_bytes(8, "little")
        self.token = 0


class Book:
    """What the judge remembers of one session."""

    def __init__(self) -> None:
        self.next_request = 1
        self.history: dict[int, tuple[bytes, bytes]] = {}
        self.orders = self.cancels = Bucket(1, 1, 0)
        self.holder: Peer | None = None


class Verdict(NamedTuple):
    """What must come back and what must be sequenced. ``login``: what a login may be answered with."""

    rejects: list[int]
    commands: list[tuple[bytes, bytes]]
    login: frozenset[int] | None = None
    own: bool = False  # the exchange itself may source commands because of this frame


def normal(record: bytes) -> bytes:
    """A record without what the exchange fills in and wipes."""
    return record[16:40] + record[48:52] + record[58:]


class Judge:
    """The session layer's rules, in order, for one frame at a time."""

    def __init__(self, config: cfg.Gateway, peers: list[Peer]) -> None:
        self.config, self.peers = config, peers
        self.books: dict[int, Book] = {key.session: Book() for key in (peer.key for peer in peers)}
        self.confirmers = {peer.key.name for peer in peers if p.Confirm in peer.role.controls}

    def logged_in(self, peer: Peer, token: int, now_ns: int) -> None:
        """The exchange has accepted a login."""
        book, c = self.books[peer.key.session], self.config
        if book.holder is not None:
            book.holder.token = 0
        book.holder, peer.token = peer, token
        book.orders = Bucket(c.orders_per_second, c.orders_burst, now_ns)
        book.cancels = Bucket(c.orders_per_second * c.cancels_factor, c.orders_burst * c.cancels_factor, now_ns)

    def judge(self, peer: Peer, frame: bytes, parts: int, now_ns: int) -> Verdict:
        """What this frame must lead to."""
        if not frame:
            return Verdict([Code.MALFORMED], [])
        if parts != 1 or len(frame) > p.FRAME_BYTES_MAX:
            return Verdict([Code.TOO_LARGE], [])
        if frame[0] == 0:
            return self._records(peer, frame, now_ns)
        if 0x80 <= frame[0] <= 0x8F or frame[0] in (0xDE, 0xDF):
            return self._control(peer, frame, now_ns)
        return Verdict([Code.MALFORMED], [])

    def _records(self, peer: Peer, frame: bytes, now_ns: int) -> Verdict:
        if len(frame) < RECORD_BYTES:
            return Verdict([Code.MALFORMED], [])
        head = ff.RECORD.unpack_from(frame)
        if not peer.token or head[ff.TOKEN] != peer.token:
            return Verdict([Code.NOT_LOGGED_IN], [])
        book = self.books[peer.key.session]
        if head[ff.KIND] == MESSAGE:
            if head[ff.QUANTITY] != len(frame) - RECORD_BYTES:
                return Verdict([Code.MALFORMED], [])
            rows = [frame[:RECORD_BYTES]]
        elif len(frame) % RECORD_BYTES:
            return Verdict([Code.MALFORMED], [])
        else:
            rows = [frame[i : i + RECORD_BYTES] for i in range(0, len(frame), RECORD_BYTES)]
        bucket = book.cancels if all(r[60] in RISK_DOWN for r in rows) else book.orders
        if len(rows) * 10**9 > bucket.burst:
            return Verdict([Code.TOO_LARGE], [])
        if not bucket.take(len(rows), now_ns):
            return Verdict([Code.THROTTLED], [])
        if head[ff.KIND] == MESSAGE:
            return self._message(peer, book, rows[0], frame[RECORD_BYTES:])
        rejects: list[int] = []
        commands = []
        for record in rows:
            r = ff.RECORD.unpack(record)
            code = self._row(peer, book, r)
            if code == Code.OK and r[ff.KIND] == MESSAGE:
                code = Code.MALFORMED
            if code != Code.OK:
                rejects.append(code)
                break
            if r[ff.REQUEST] < book.next_request:
                if book.history.get(r[ff.REQUEST]) != (normal(record), b""):
                    rejects.append(Code.REQUEST_MISMATCH)
                continue
            commands.append(self._accept(peer, book, record, b"", len(frame)))
        return Verdict(rejects, commands)

    def _row(self, peer: Peer, book: Book, r: tuple[int, ...]) -> Code:
        if r[ff.SEQ] or r[ff.TIME] or r[ff.ACCOUNT] or r[ff.SESSION] not in (0, peer.key.session):
            return Code.RESERVED_FIELD
        if r[ff.TOKEN] != peer.token:
            return Code.NOT_LOGGED_IN
        if 1 <= r[ff.KIND] <= 7 and r[ff.KIND] not in peer.role.kinds:
            return Code.ROLE_NOT_ALLOWED
        return Code.REQUEST_GAP if r[ff.REQUEST] == 0 or r[ff.REQUEST] > book.next_request else Code.OK

    def _accept(self, peer: Peer, book: Book, record: bytes, payload: bytes, size: int) -> tuple[bytes, bytes]:
        made = bytearray(record)
        made[:16], made[TOKEN_AT] = bytes(16), bytes(8)
        made[OWNER_AT] = peer.key.account.to_bytes(4, "little") + peer.key.session.to_bytes(2, "little")
        book.history[book.next_request] = (normal(record), payload)
        book.next_request += 1
        return bytes(made), payload

    def _message(self, peer: Peer, book: Book, record: bytes, payload: bytes) -> Verdict:
        r = ff.RECORD.unpack(record)
        code = self._row(peer, book, r)
        if code != Code.OK:
            return Verdict([code], [])
        try:
            message = m.decode(payload)
        except p.DECODE_ERRORS:
            return Verdict([Code.MALFORMED], [])
        if type(message) not in peer.role.messages:
            return Verdict([Code.ROLE_NOT_ALLOWED], [])
        if "by" in message.__struct_fields__:
            message = msgspec.structs.replace(message, by=peer.key.name)
        payload = m.encode(message)
        plain = ff.RECORD.pack(0, 0, 0, len(payload), 0, 0, r[ff.REQUEST], 0, 0, 0, MESSAGE, 0, 0, 0)
        if r[ff.REQUEST] < book.next_request:
            sent = ff.RECORD.pack(0, 0, r[ff.PRICE], len(payload), *r[ff.ORDER :])
            same = book.history.get(r[ff.REQUEST]) == (normal(sent), payload)
            return Verdict([] if same else [Code.REQUEST_MISMATCH], [])
        if peer.role.operator_plane and (second := getattr(message, "second", "")):
            found = second != peer.key.name and second in self.confirmers
            return Verdict([Code.TWO_PERSONS_REQUIRED if found else Code.NOT_AUTHORISED], [])
        return Verdict([], [self._accept(peer, book, plain, payload, 0)])

    def _control(self, peer: Peer, frame: bytes, now_ns: int) -> Verdict:
        if len(frame) > p.CONTROL_BYTES_MAX:
            return Verdict([Code.MALFORMED], [])
        try:
            message = p.decode_from_client(frame)
        except p.DECODE_ERRORS:
            return Verdict([Code.MALFORMED], [])
        if isinstance(message, p.Login):
            return Verdict([], [], self._login(peer, message))
        if not peer.token or message.token != peer.token:
            return Verdict([Code.NOT_LOGGED_IN], [])
        if isinstance(message, p.Heartbeat):
            return Verdict([], [])
        if type(message) not in peer.role.controls:
            return Verdict([Code.ROLE_NOT_ALLOWED], [])
        if not self.books[peer.key.session].orders.take(1, now_ns):
            return Verdict([Code.THROTTLED], [])
        if isinstance(message, p.Confirm):
            return Verdict([-Code.NOT_AUTHORISED], [], own=True)  # refused so, or carried out
        return Verdict([], [], own=isinstance(message, (p.Kill, p.StepClock)))

    def _login(self, peer: Peer, message: p.Login) -> frozenset[int]:
        key = peer.key
        if message.version != p.PROTOCOL_VERSION:
            return frozenset({Code.WRONG_VERSION})
        if message.session not in (0, key.session) or message.account not in (None, key.account):
            return frozenset({Code.WRONG_ACCOUNT})
        if message.resume not in ("restart", "resume", "quick"):
            return frozenset({Code.MALFORMED})
        may = {int(Code.OK)}
        if any(other.key.session == key.session for other in self.peers if other.key is not key):
            may.add(Code.SESSION_IN_USE)
        if message.resume == "resume" and message.last_report:
            may.add(Code.AHEAD_OF_EXCHANGE)
        if message.instance:
            may.add(-1)  # an older login of the same client: no answer
        return frozenset(may)


@functools.cache
def _memory() -> tuple[SharedStream, SharedReader]:
    """One for all worlds, one after the other: mapping it anew for each would be most of what they do."""
    stream = SharedStream()
    return stream, SharedReader(stream.path, stream.mark, 0)


class World:
    """One exchange core, its peers, and the judge."""

    def __init__(
        self, chance: random.Random, core_class: type[Core], *, operators: bool, tight: bool, hot: bool = False
    ) -> None:
        self.chance = chance
        gate = cfg.Gateway(curve=True, malformed_before_logout=200)
        if tight:
            gate = cfg.Gateway(orders_per_second=5_000, orders_burst=300, throttled_before_logout=40)
        config = msgspec.structs.replace(CONFIG, gateway=gate)
        table = keys.KeyTable(
            keys.Key(name, f"{name:*<40}", session, role, account, (1, 2) if role == "drop_copy" else ())
            for name, role, account, session in WHO
        )
        market = cfg.Market(__file__, config, config.make_rules(), CALENDAR)  # type: ignore[arg-type]
        self.mono_ns = 10**9
        self.journal: MemoryJournal = MemoryJournal()
        self.market = market
        exchange = Exchange(market.rules, calendar=None)
        self.core = core_class(market, exchange, self.journal, SteppedClock(market.start_ns()), table, self._send)
        self.core.tick(self.mono_ns)
        bootstrap(self.core)
        for account in range(1, 4):
            self.core.source(m.Deposit(account=account, amount=10**11, document=f"bank-{account}"))
            for code in ("CEA23", "CEA24"):
                self.core.source(
                    m.TransferIn(account=account, instrument=code, quantity=10**6, transfer=f"in-{account}-{code}")
                )
        self.core.flush()
        self.core.publisher = Publisher(exchange, lambda *a: None, epoch=1)
        self.core.shared = _memory()[0] if operators and shared_stream.available() else None
        self.shared_next = 0  # of the events in shared memory, the one that comes next
        self.core.step_to(DAY + int(chance.choice(HOURS) * HOUR))
        self.peers = [Peer(k, i) for i, k in enumerate(k for k in table.keys if operators or k.role in MEMBERS_ROLES)]
        self.by_route = {peer.route: peer for peer in self.peers}
        self.judge = Judge(gate, [Peer(k, 0) for k in table.keys])
        self.judge.peers = self.peers
        self.owed: list[int] = []  # codes of rejects that the clogged peer has yet to get; negative: if at all
        self.clogged: Peer | None = chance.choice(self.peers) if chance.random() < 0.3 else None
        self.seen: list[tuple[Peer, Any]] = []
        self.expected: list[tuple[bytes, bytes]] = []
        self.groups = len(self.journal.groups)
        self.own = 0  # commands that the exchange sourced by itself
        self.socket, self.lane = fake_libzmq.MemorySocket(), None
        if hot:
            self.lane = gateway.lane.HotLane(self.socket)  # type: ignore[arg-type]
            self.core.deliver = self.lane.deliver_for(self.core)  # type: ignore[method-assign]
            tail = TailJournal(self.socket)
            tail.groups = self.journal.groups
            self.journal = self.core.journal = tail
            self.core.turn = tail.turn_of(self.core, self.lane)

    # --- the wire ----------------------------------------------------------------------------------------------

    def _send(self, plane: str, route: bytes, frame: bytes) -> bool:
        peer = self.by_route.get(route)
        if peer is None:
            return False
        full = peer is self.clogged and self.chance.random() < 0.3
        if peer.plane != plane:
            raise Failure(f"an answer for {peer.plane} went to {plane}")
        if 0x80 <= frame[0] <= 0x8F or frame[0] in (0xDE, 0xDF):
            message = p.decode_from_exchange(frame)
            if full and isinstance(message, p.SessionReject):
                return False
            self.seen.append((peer, message))
            if isinstance(message, p.LoggedOut):
                self._forget(peer)
            if isinstance(message, p.StreamShared):
                self._shares(peer, message)
            if peer is self.clogged:
                self._arrived(message)
        elif frame[1] & p.REPEATED:
            self.seen.append((peer, None))
        elif self.chance.random() < 0.02:
            self._look(peer, frame)
        return not full

    def _arrived(self, message: p.Control) -> None:
        """A control message has come through to the clogged peer: its rejects, in order, are those that it is owed."""
        if isinstance(message, (p.LoggedOut, p.LoginAccepted)):
            self.owed.clear()  # what waited has ended with the session
        if not isinstance(message, p.SessionReject):
            return
        lost_before = message.code in MAY_BE_LOST  # one to a connection waits for nothing, so it may overtake
        for i, code in enumerate(self.owed):
            if abs(code) == message.code:
                self.owed = self.owed[:i] * lost_before + self.owed[i + 1 :]
                return
            if code > 0 and code not in MAY_BE_LOST and not lost_before:
                break
        raise Failure(f"{Code(message.code).name}, but the clogged peer is owed {self.owed}")

    def _owes_nothing(self, peer: Peer) -> None:
        """Nothing waits for the clogged peer: it has had each reject that cannot be lost."""
        session = self.core.sessions.get(peer.key.session)
        if session is None or not session.answers:
            left = [code for code in self.owed if code > 0 and code not in MAY_BE_LOST]
            if left and session is not None and session.logged_in:
                raise Failure(f"{peer.key.name}: rejects {left} were lost")
            self.owed.clear()

    def _receive(self, peer: Peer, data: bytes, parts: int = 1) -> None:
        """A frame reaches the core as the server's lanes bring it: called with it, or through machine code."""
        if self.lane is None or peer.plane == OPERATORS:
            self.core.receive(peer.plane, peer.route, peer.key.public, data, parts=parts)
            return
        self.socket.put([peer.route, *[data] * min(parts, PARTS_MAX)], peer.key.public)
        self.lane.drain(self.core)

    def _delivered(self) -> None:
        """What machine code has sent goes where all answers go."""
        for route, frame in self.socket.sent():
            if not self._send(MEMBERS, route, frame) and self.by_route[route] is not self.clogged:
                raise Failure("machine code sent reports to nobody")

    def _forget(self, peer: Peer) -> None:
        peer.token = 0
        book = self.judge.books[peer.key.session]
        if book.holder is peer:
            book.holder = None

    def _look(self, peer: Peer, frame: bytes) -> None:
        """Nobody sees what is another account's (guarantee 4)."""
        page = p.decode_reports(frame)
        if peer.key.role not in MEMBERS_ROLES:
            return
        mine = {NO_ACCOUNT, peer.key.account, *peer.key.accounts}
        strangers = set(page.events["account"].tolist()) - mine
        if strangers:
            raise Failure(f"{peer.key.name} was sent events of accounts {strangers}")

    def _shares(self, peer: Peer, message: p.StreamShared) -> None:
        """A peer is told to read on in shared memory."""
        if peer.plane != OPERATORS:
            raise Failure(f"{peer.key.name} was let into the memory that holds everybody's events")
        stream, reader = _memory()
        self._read_on()
        if (message.path, message.place) != (stream.path, stream.place):
            raise Failure(f"{peer.key.name} was told a place that is not where the stream goes on")
        reader._place, self.shared_next = message.place, message.next

    def _read_on(self) -> None:
        """What is in shared memory is what the store has, each event once."""
        if not self.shared_next:
            return
        frames = _memory()[1].take()
        if frames is None:
            raise Failure("lapped in shared memory between two flushes")
        store = self.core.store
        for page in map(p.decode_reports, frames):
            at = page.first_no - store.first_event_no
            if page.first_no != self.shared_next:
                raise Failure(f"event {page.first_no} in shared memory, {self.shared_next} comes next")
            if at >= 0 and store.events[at : at + len(page.events)].tobytes() != page.events.tobytes():
                raise Failure(f"events from {page.first_no} on are others in shared memory")
            self.shared_next += len(page.events)

    def log_in(self, peer: Peer) -> None:
        """A plain login; rotation's other key may be refused. On the operators' plane then as a rule the stream."""
        login = p.Login(version=1, resume="quick", heartbeat_ms=60_000)
        self.frame(peer, p.encode(login), 1)
        if peer.token and p.Subscribe in peer.role.controls and self.chance.random() < 0.8:
            store, whole = self.core.store, self.chance.random() < 0.2
            first = store.first_event_no + (0 if whole else store.count)
            ask = p.Subscribe(token=peer.token, first=first, shared=self.chance.random() < 0.8)
            self.frame(peer, p.encode(ask), 1)

    # --- one frame ---------------------------------------------------------------------------------------------

    def frame(self, peer: Peer, data: bytes, parts: int) -> tuple[Any, ...]:
        """Sends one frame and compares what happens with the verdict; returns the answers' kinds."""
        core = self.core
        self.mono_ns += FRAME_NS
        core.mono_ns = self.mono_ns
        verdict = self.judge.judge(peer, data, parts, self.mono_ns)
        self.seen.clear()
        if peer is self.clogged:
            self.owed += verdict.rejects
        self._receive(peer, data, parts)
        self.expected += verdict.commands
        if verdict.own or (verdict.commands and verdict.commands[0][1]):
            self.flush(own=verdict.own)
        return self._answers(peer, verdict)

    def _answers(self, peer: Peer, verdict: Verdict) -> tuple[Any, ...]:
        rejects: list[int] = []
        kinds: list[Any] = []
        for who, message in self.seen:
            kinds.append(type(message).__name__)
            if who is not peer:
                continue
            if isinstance(message, p.SessionReject):
                rejects.append(message.code)
                kinds.append(message.code)
            elif isinstance(message, p.LoginAccepted):
                self._login_answer(verdict, 0)
                self.judge.logged_in(peer, message.token, self.mono_ns)
            elif isinstance(message, p.LoginRejected):
                self._login_answer(verdict, message.code)
                kinds.append(message.code)
            elif isinstance(message, p.Answer):
                kinds.append(message.code)
        wanted = verdict.rejects
        if wanted and wanted[0] < 0:
            wanted = [-wanted[0]] if rejects else []
        if peer is self.clogged:
            self._owes_nothing(peer)
        elif rejects != wanted:
            raise Failure(f"{peer.key.name}: rejects {rejects}, the rules say {wanted}")
        if verdict.login is not None and "LoginAccepted" not in kinds and "LoginRejected" not in kinds:
            self._login_answer(verdict, -1)
        return tuple(kinds)

    def _login_answer(self, verdict: Verdict, code: int) -> None:
        if verdict.login is None or code not in verdict.login:
            raise Failure(f"login answered with {code}, allowed {verdict.login}")

    def flush(self, *, own: bool = False) -> None:
        """Makes a group of what waits; all of it must be what the judge let in, or the exchange's own."""
        self.core.flush()
        self._delivered()
        self.core.pump()
        self._read_on()
        made: list[tuple[bytes, bytes]] = []
        for records, payloads in self.journal.groups[self.groups :]:
            at = 0
            for record in records:
                size = int(record["quantity"]) if record["kind"] == MESSAGE else 0
                payload, at = payloads[at : at + size], at + size
                if not record["session"]:
                    self.own += 1
                    if not own:
                        raise Failure(f"the exchange sourced {m.decode(payload)}")
                    continue
                made.append((bytes(16) + record.tobytes()[16:], payload))
        self.groups = len(self.journal.groups)
        if made != self.expected:
            raise Failure(f"sequenced {made[:3]} …, the rules say {self.expected[:3]} …")
        self.expected = []

    def tick(self) -> None:
        """Time goes on; the exchange may cancel a lost session's orders."""
        self.flush()
        if self.chance.random() < 0.01:
            self.mono_ns += 40 * 10**9
        for peer in self.peers:
            book = self.judge.books[peer.key.session]
            if book.holder is peer and self.chance.random() < 0.9:
                self._receive(peer, p.encode(p.Heartbeat(token=peer.token)))
        self.core.mono_ns = self.mono_ns
        self.core.tick(self.mono_ns)
        if self.chance.random() < 0.5:
            self._heal()
        self.flush(own=True)

    def _heal(self) -> None:
        """What switched the market off (kill switches, halts) is undone, so that the frames that follow reach far."""
        market = self.core.exchange.market
        if market.market[0]["halted"]:
            self.core.source(m.Resume(by="fuzzer"))
        if market.market[0]["cancel_only"]:
            self.core.source(m.CancelOnly(on=False, by="fuzzer"))
        for account in (1, 2, 3):
            if market.accounts[account]["status"] != ACTIVE:
                self.core.source(m.SetAccountStatus(account=account, status=1, by="fuzzer", second="nobody"))

    def check(self) -> None:
        """What holds at all times."""
        core = self.core
        self.flush()
        core.exchange.check()
        if len(core.sessions) > len(WHO) or len(core.tokens) > len(WHO) or len(core.proposals) > 100:
            raise Failure("something of the session layer grows")
        if len(core.alarms) > 100 or len(core.dirty) > len(WHO) or core.batch.count or core.batch.payload_bytes:
            raise Failure("something of the core grows")

    def replayed(self) -> None:
        """An exchange that is given the journal and nothing else has the same state."""
        self.check()
        other = Exchange(self.market.rules, calendar=None)
        for records, payloads in self.journal.groups:
            other.apply(records, payloads)
        if other.state_hash() != self.core.exchange.state_hash():
            raise Failure("the state is not what the journal makes")


MEMBERS_ROLES = ("trader", "risk", "drop_copy", "market_data")


class Fuzzer:
    """Worlds of one seed, one stock of interesting frames for all of them."""

    def __init__(
        self,
        seed: int,
        *,
        guided: bool = True,
        core_class: type[Core] = Core,
        modules: list[types.ModuleType] = MARKED,
        hot: bool = False,
    ) -> None:
        self.hot = hot
        self.seed, self.guided, self.core_class, self.modules = seed, guided, core_class, modules
        self.chance = random.Random(seed)
        self.stock: dict[int, list[ff.Frame]] = {}  # by block: the last frames that ran it in a new way
        self.rarest: list[int] = []  # blocks, the least often run first
        self.bursts: list[tuple[int, int]] = []  # blocks that are new, and how many frames they have yet to lead to
        self.hits = np.zeros(block_marks.BLOCKS_MAX, np.int64)
        self.ways: set[int] = set()
        self.blocks = 0
        self.frames = self.commands = self.hashes = 0
        self.answers: dict[str, int] = {}

    def run(self, worlds: int, frames: int) -> None:
        """``worlds`` days of ``frames`` frames each. Raises Failure with seed, world, frame."""
        extra = [sys.modules[self.core_class.__module__]] if self.core_class is not Core else []
        level = logging.root.manager.disable
        logging.disable(logging.CRITICAL)  # alarms are what a fuzzer makes
        real, gateway.login.secrets = gateway.login.secrets, types.SimpleNamespace(randbits=self.chance.getrandbits)  # type: ignore[assignment]
        addresses, clock = libzmq.addresses, gateway.lane.time
        try:
            with block_marks.Marked([*self.modules, *extra]) as marked:
                for n in range(worlds):
                    self._world(n, frames, marked)
        finally:
            gateway.login.secrets = real
            libzmq.addresses, gateway.lane.time = addresses, clock  # type: ignore[assignment]
            logging.disable(level)

    def _world(self, n: int, frames: int, marked: block_marks.Marked) -> None:
        chance = self.chance
        operators = chance.random() < 0.3
        tight = chance.random() < 0.2
        if self.hot:
            libzmq.addresses = fake_libzmq.addresses  # type: ignore[assignment]
        world = World(chance, self.core_class, operators=operators, tight=tight, hot=self.hot)
        gateway.lane.time = types.SimpleNamespace(monotonic_ns=lambda: world.mono_ns)  # type: ignore[assignment]
        tags = tuple(ff.COMMANDS) if operators else (*ff.MEMBERS_OWN, *ff.MEMBERS_OWN, *ff.COMMANDS)
        zero, size = bytes(marked.count), marked.count
        data = b""
        i = 0
        try:
            for i in range(frames):
                peer = world.peers[int(chance.random() ** 2 * len(world.peers))]
                if not peer.token and chance.random() < (0.02 if peer.key.name == "member-3b" else 0.5):
                    world.log_in(peer)
                frame = self._next(tags)
                data = frame.render(peer.token, world.judge.books[peer.key.session].next_request)
                marked.marks[:size] = zero
                if i % HASH_EVERY == 0:
                    kinds = self._unmoved(world, peer, data, frame.parts)
                else:
                    kinds = world.frame(peer, data, frame.parts)
                self._learn(frame, bytes(marked.marks[:size]), kinds)
                if i % RANK_EVERY == 0:
                    self.rarest = sorted(self.stock, key=self.hits.tolist().__getitem__)
                if i % FLUSH_EVERY == 0:
                    world.tick() if i % (8 * FLUSH_EVERY) == 0 else world.flush()
                if i % CHECK_EVERY == CHECK_EVERY - 1:
                    world.check()
            world.replayed()
        except Exception as error:
            text = f"seed {self.seed}, world {n}, frame {i}: {type(error).__name__}: {error}; {data[:200].hex()}"
            raise Failure(text) from error
        self.frames += frames
        self.commands += world.core.counters.commands

    def _unmoved(self, world: World, peer: Peer, data: bytes, parts: int) -> tuple[Any, ...]:
        """A frame with the state's hash around it: equal where nothing was sequenced."""
        world.flush()
        exchange = world.core.exchange
        before, seq = exchange.state_hash(), exchange.seq
        kinds = world.frame(peer, data, parts)
        waits = world.core.batch.count
        if not waits and exchange.seq == seq:
            self.hashes += 1
            if exchange.state_hash() != before:
                raise Failure("a frame that sequenced nothing has changed the state")
        return kinds

    def _next(self, tags: tuple[str, ...]) -> ff.Frame:
        chance, rarest = self.chance, self.rarest
        way = chance.random()
        if self.guided and rarest and way < 0.5:
            if self.bursts:  # what was found last is followed first
                block, left = self.bursts.pop()
                if left > 1:
                    self.bursts.append((block, left - 1))
            else:
                block = rarest[int(chance.random() ** 2 * len(rarest))]
            other = chance.choice(self.stock[chance.choice(rarest)])
            return ff.mutated(chance, chance.choice(self.stock[block]), other)
        frame = ff.fresh(chance, tags)
        if way < 0.8:
            return frame
        return ff.mutated(chance, frame, ff.fresh(chance, tags))

    def _learn(self, frame: ff.Frame, marks: bytes, kinds: tuple[Any, ...]) -> None:
        for kind in kinds:
            if type(kind) is not str:
                name = Code(kind).name
                self.answers[name] = self.answers.get(name, 0) + 1
        ran = np.frombuffer(marks, np.uint8)
        self.hits[: len(ran)] += ran
        way = hash((marks, kinds[:2]))
        if way in self.ways:
            return
        self.ways.add(way)
        self.blocks |= int.from_bytes(marks, "little")
        for block in np.flatnonzero(ran).tolist():
            frames = self.stock.setdefault(block, [])
            if not frames:
                self.bursts.append((block, BURST))
            frames.append(frame)
            del frames[:-FRAMES_PER_BLOCK]

    def result(self) -> dict[str, Any]:
        """Figures of the run."""
        return {
            "seed": self.seed,
            "frames": self.frames,
            "commands": self.commands,
            "ways": len(self.ways),
            "blocks": self.blocks.bit_count(),
            "hashes": self.hashes,
            "answers": dict(sorted(self.answers.items())),
            "resident_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--worlds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--unguided", action="store_true")
    parser.add_argument("--hot", action="store_true", help="members' frames through the hot lane's machine code")
    a = parser.parse_args()
    for seed in range(a.seed, a.seed + a.seeds):
        fuzzer = Fuzzer(seed, guided=not a.unguided, hot=a.hot)
        began = time.process_time()
        fuzzer.run(a.worlds, a.frames)
        print(json.dumps({**fuzzer.result(), "cpu_s": round(time.process_time() - began, 1)}), flush=True)


if __name__ == "__main__":
    main()
