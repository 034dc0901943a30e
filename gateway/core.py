"""The exchange process without its sockets: frames in, frames out, one batch, one journal, one engine.

``receive`` takes what came from a connection, ``flush`` makes a group of it (journal, disk, engine, reports),
``pump`` sends what sessions have not yet got, ``tick`` does what time makes due. Sockets, real time and
signals are the server's; tests drive this class through channels that lose, cut and delay.

Identity is the CURVE key that libzmq attaches to each message (``user``) together with the login's secret
token, never the routing id alone. Every frame is checked: token, connection, key, role (guarantee 4).
"""

from __future__ import annotations

import logging
import secrets
import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol, cast

import msgspec
import numpy as np

from engine import messages
from engine.codes import TEXT_EN, Code, Reason
from engine.exchange import Exchange
from engine.market import ACTIVE, CLOSED
from engine.records import CANCEL, COMMAND, MASS_CANCEL, MESSAGE, NO_ACCOUNT, RECORD_BYTES, REDUCE
from gateway import protocol as p
from gateway.batch import Batch, CommandLog
from gateway.clock import Clock, SteppedClock
from gateway.config import Market
from gateway.hot import HOT, due_sessions, unsent
from gateway.keys import Key, KeyTable
from gateway.market_data import Publisher
from gateway.queries import answer_query
from gateway.reports import ReportStore
from gateway.roles import ROLES, kinds_mask
from gateway.session import NS_PER_MS, Action, Bucket, Event, Session, State, step
from gateway.zap import MEMBERS, OPERATORS

log = logging.getLogger(__name__)

PHASES: Final = ("pre_open", "morning", "break", "afternoon", "closed")
ALL_FRAMES: Final = 1 << 30
TICK_NS: Final = 100 * NS_PER_MS  # how often time-outs are looked at: well below the shortest heartbeat
BEHIND_LOST_NS: Final = 30_000 * NS_PER_MS  # a socket that takes nothing for so long is logged out
_RECORD: Final = struct.Struct("<qqqqQQIIHHBBBB")
# Who gets which report changes with these: each is a group of its own, so that replay may cut batches as it likes.
ALONE: Final = frozenset({messages.OpenSession, messages.RevokeSession, messages.RollDay})
_RISK_DOWN: Final = frozenset({CANCEL, REDUCE, MASS_CANCEL})

Send = Callable[[str, bytes, bytes], bool]  # plane, routing id, frame → False when the peer takes no more


class JournalPort(Protocol):
    """What the core asks of the journal."""

    def append(self, commands: np.ndarray, payloads: bytes) -> None: ...

    def commit(self) -> int: ...


class OverlapPort(JournalPort, Protocol):
    """A journal that commits beside the caller (gateway.commit)."""

    took_ns: int

    def begin(self) -> None: ...

    def wait(self) -> None: ...


class Group(NamedTuple):
    """A group of the listed market that the engine has carried out, and of which nobody may know yet."""

    records: np.ndarray
    events: np.ndarray  # a view that the engine's next call overwrites
    received_ns: int
    began_ns: int  # monotonic: the turn of the loop that cut it


class Counters:
    """What happened, for metrics and status."""

    def __init__(self) -> None:
        self.commands = self.groups = self.events = self.frames = 0
        self.session_rejects = self.malformed = self.throttled = self.logins = self.login_rejects = 0
        self.timeouts = self.blocked = self.alarms = self.feed_overruns = 0
        self.session_codes = [0] * 256  # refusals of the session layer, by code


class Core:
    """Sessions, sequencing, reports and queries of one exchange."""

    def __init__(
        self,
        market: Market,
        exchange: Exchange,
        journal: JournalPort,
        clock: Clock,
        keys: KeyTable,
        send: Send,
        *,
        epoch: int = 1,
        publisher: Publisher | None = None,
        store: ReportStore | None = None,
        command_log: CommandLog | None = None,
    ) -> None:
        self.market, self.exchange, self.journal, self.clock = market, exchange, journal, clock
        self.config = market.config.gateway
        self.keys, self.epoch = keys, epoch
        self.send = send
        self.publisher = publisher
        self.store = store or ReportStore()
        self.log = command_log or CommandLog()
        self.batch = Batch()
        self.overlap_from = 0  # groups of so many commands commit beside the loop; 0: none does
        self.pending: Group | None = None  # carried out, its commit under way
        self.hot = np.zeros(1 << 16, HOT)
        self.sessions: dict[int, Session] = {}
        self._numbers = np.zeros(1 << 16, np.uint16)  # theirs, for machine code
        self.tokens: dict[int, Session] = {}
        self.dirty: set[int] = set()
        self.streaming: set[int] = set()  # sessions with a subscription to all events
        self._stream_frames = ALL_FRAMES
        self.counters = Counters()
        self.proposals: dict[int, tuple[str, Any]] = {}
        self.alarms: list[str] = []
        self.mono_ns = 0
        self._next_tick_ns = 0
        self.received_ns = 0
        self._login_route = b""
        self.stopping = False
        # what the report store was last told: keys, open sessions, their accounts
        self._routed: tuple[KeyTable | None, np.ndarray, np.ndarray] = None, np.zeros(0), np.zeros(0)
        # metrics: the reports of so many commands go out now; began ns (monotonic) of their turn of the loop
        self.reported: Callable[[int, int], None] = lambda commands, began_ns: None
        self.clock_stepped: Callable[[int], None] = lambda time_ns: None  # the server notes it for its next start
        self.update_routing()

    # --- sessions ------------------------------------------------------------------------------------------

    def session(self, key: Key) -> Session:
        """The session of a key; made when first needed."""
        found = self.sessions.get(key.session)
        if found is None:
            found = self.sessions[key.session] = Session(key.session, key.account, key.role, self.hot[key.session])
            self._numbers[len(self.sessions) - 1] = key.session
        return found

    def update_routing(self) -> None:
        """Tells the report store which sessions an account has, where that has changed; the engine's table says so."""
        table = self.exchange.market.sessions
        opened = np.flatnonzero(table["open"])
        accounts = table["account"][opened]
        keys, sessions, owners = self._routed
        if keys is self.keys and np.array_equal(sessions, opened) and np.array_equal(owners, accounts):
            return  # after nearly every message: a new list of a thousand sessions takes a millisecond
        self._routed = self.keys, opened, accounts
        copies = [(k.session, a) for k in self.keys.keys if k.role == "drop_copy" for a in k.accounts]
        self.store.set_sessions(opened, accounts, copies)

    def set_keys(self, keys: KeyTable) -> None:
        """Takes a reloaded key table; sessions whose key is gone or changed end now (revocation)."""
        self.keys = keys
        self.end_unauthorised()
        self.update_routing()

    def end_unauthorised(self) -> None:
        """Ends live sessions whose key is gone, changed or past its validity.

        The hot lane knows a session by its token; this takes the token away. Runs at every housekeeping, and costs
        nothing where no key has an end.
        """
        for session in list(self.sessions.values()):
            if session.logged_in and not self._authorised(session):
                self._transit(session, Event.END, Code.NOT_AUTHORISED)

    def _authorised(self, session: Session) -> bool:
        key = self.keys.authorised(session.key, self.clock.now())
        return (
            key is not None
            and key.session == session.number
            and key.role == session.role
            and key.account == session.account
        )

    def _transit(self, session: Session, event: Event, code: Code = Code.OK, text: str = "") -> None:
        """One transition of the table, and its actions that need no more than the session."""
        session.state, actions = step(session.state, event)
        plane = OPERATORS if ROLES[session.role].operator_plane else MEMBERS
        for action in actions:
            if action is Action.TELL_OLD and session.route == self._login_route:
                continue  # the same connection logs in again: there is nobody else to tell
            if action is Action.TELL or action is Action.TELL_OLD:
                why = code or (Code.SESSION_IN_USE if action is Action.TELL_OLD else Code.OK)
                message = "taken over by a new login of the same key" if action is Action.TELL_OLD else text
                self.send(plane, session.route, p.encode(p.LoggedOut(code=int(why), text=message or TEXT_EN[why])))
            elif action is Action.CLOSE:
                self.tokens.pop(session.token, None)
                session.token, session.stream_cursor = 0, 0
                self.streaming.discard(session.number)
                session.dead_man_ms = -1
            elif action is Action.ARM:
                if session.cancel_ms >= 0:
                    session.cancel_due_ns = self.mono_ns + session.cancel_ms * NS_PER_MS
            elif action is Action.DISARM:
                session.cancel_due_ns = 0
            elif action is Action.CANCEL:
                self.cancel_session(session, "cancel on disconnect")
            elif action is Action.RESYNC_DONE:
                done = p.ResyncDone(
                    next_report=session.cursor, next_request=session.next_request, seq=self.exchange.seq
                )
                self.send(plane, session.route, p.encode(done))
        self._refresh(session)

    def _refresh(self, session: Session) -> None:
        """After any change of what machine code may do for a session."""
        role = ROLES[session.role]
        session.refresh(kinds_mask(role), members=not role.operator_plane)

    def cancel_session(self, session: Session, why: str) -> None:
        """Cancels a session's listed orders as a journaled command (D8)."""
        self.source(messages.CancelOrders(session=session.number, reason=int(Reason.DISCONNECT), by="gateway", why=why))

    # --- receiving -----------------------------------------------------------------------------------------

    def receive(self, plane: str, route: bytes, user: str, frame: bytes | memoryview, *, parts: int = 1) -> None:
        """One message of a connection. ``user``: its CURVE key, empty on a plain loopback."""
        self.counters.frames += 1
        size = len(frame)
        if parts != 1 or size == 0 or size > p.FRAME_BYTES_MAX:
            self._malformed(plane, route, None, Code.TOO_LARGE if size else Code.MALFORMED, f"{parts} parts")
        elif frame[0] == 0:
            self._records(plane, route, user, frame, size)
        elif p.is_map(frame[0]) and size <= p.CONTROL_BYTES_MAX:
            self._control(plane, route, user, frame)
        else:
            self._malformed(plane, route, None, Code.MALFORMED, "neither records nor a control message")

    def _find(self, plane: str, route: bytes, user: str, token: int) -> Session | None:
        """The session of a token, where connection and key are the ones that it was given to."""
        session = self.tokens.get(token)
        if session is None or session.route != route or (user and session.key != user):
            return None
        if ROLES[session.role].operator_plane != (plane == OPERATORS):
            return None
        key = self.keys.by_public.get(session.key)
        if key is None or not key.valid_at(self.clock.now()):
            self._transit(session, Event.END, Code.NOT_AUTHORISED)
            return None
        session.last_heard_ns = self.mono_ns
        if session.state is State.LOST:
            self._transit(session, Event.MESSAGE)
            self.dirty.add(session.number)
        return session

    def _reject(self, plane: str, route: bytes, message: p.SessionReject) -> None:
        self.counters.session_rejects += 1
        self.counters.session_codes[message.code & 0xFF] += 1
        self.send(plane, route, p.encode(message))

    def _malformed(self, plane: str, route: bytes, session: Session | None, code: Code, text: str) -> None:
        self.counters.malformed += 1
        self._reject(plane, route, p.reject(code, text=text))
        if session is not None:
            session.malformed += 1
            if session.malformed >= self.config.malformed_before_logout and session.logged_in:
                self._transit(session, Event.END, code, "too many messages that cannot be read")

    def _records(self, plane: str, route: bytes, user: str, frame: bytes | memoryview, size: int) -> None:
        if size < RECORD_BYTES:
            self._malformed(plane, route, None, Code.MALFORMED, f"{size} bytes are no record")
            return
        head = _RECORD.unpack_from(frame)
        session = self._find(plane, route, user, head[5])
        if session is None:
            self._reject(plane, route, p.reject(Code.NOT_LOGGED_IN, head[6]))
            return
        is_message = head[10] == MESSAGE
        if is_message:
            if head[3] != size - RECORD_BYTES:
                self._malformed(plane, route, session, Code.MALFORMED, "quantity is not the payload's length")
                return
        elif size % RECORD_BYTES:
            self._malformed(plane, route, session, Code.MALFORMED, "not a whole number of records")
            return
        count = 1 if is_message else size // RECORD_BYTES
        # new business behind a cancel in one frame is new business
        down = head[10] in _RISK_DOWN and (count == 1 or _RISK_DOWN.issuperset(frame[60::RECORD_BYTES]))
        if self._throttled(plane, session, head, count, session.cancels if down else session.orders):
            return
        if self.batch.room() < count:
            self.flush()
        if is_message:
            self._message(plane, session, head, frame)
        elif count == 1:
            self._one(plane, session, head, frame)
        else:
            self._many(plane, session, frame, count)

    def _throttled(
        self, plane: str, session: Session, head: tuple[int, ...], count: int, bucket: Bucket | None
    ) -> bool:
        assert bucket is not None, "a logged-in session has its buckets"
        wait_ms = bucket.take(count, self.mono_ns)
        if not wait_ms:
            return False
        self.counters.throttled += 1
        session.throttled += 1
        self._reject(
            plane,
            session.route,
            p.reject(Code.THROTTLED, head[6], count=count, expected=session.next_request, retry_after_ms=wait_ms),
        )
        if session.throttled >= self.config.throttled_before_logout and session.logged_in:
            self._transit(session, Event.END, Code.THROTTLED)
        return True

    def _check(self, session: Session, head: tuple[int, ...]) -> Code:
        """The session layer's checks of one record (seq, time, price, quantity, order, token, request_no, …)."""
        if head[0] or head[1] or head[7] or head[8] not in (0, session.number):
            return Code.RESERVED_FIELD
        if head[5] != session.token:
            return Code.NOT_LOGGED_IN
        if head[10] not in ROLES[session.role].kinds and 1 <= head[10] <= MESSAGE:
            return Code.ROLE_NOT_ALLOWED
        if head[6] > session.next_request or head[6] == 0:
            return Code.REQUEST_GAP
        return Code.OK

    def _one(self, plane: str, session: Session, head: tuple[int, ...], record: bytes | memoryview) -> bool:
        """One record of the listed market. False when it was refused by the session layer."""
        code = self._check(session, head)
        if code == Code.OK and head[10] == MESSAGE:
            code = Code.MALFORMED  # a payload cannot stand inside a frame of several records
        if code != Code.OK:
            self._reject(plane, session.route, p.reject(code, head[6], expected=session.next_request))
            return False
        if head[6] < session.next_request:
            self._repeat(plane, session, head[6], record, b"")
            return True
        self.batch.add(record, session.account, session.number)
        session.next_request += 1
        return True

    def _many(self, plane: str, session: Session, frame: bytes | memoryview, count: int) -> None:
        records = np.frombuffer(frame, COMMAND)
        allowed = ROLES[session.role].kinds
        numbers = records["request_no"]
        sound = (
            not (records["seq"].any() or records["time_ns"].any() or records["account"].any())
            and not records["session"].any()
            and bool((records["token"] == session.token).all())
            and int(numbers[0]) == session.next_request
            and bool((np.diff(numbers.astype(np.int64)) == 1).all())
            and MESSAGE not in (kinds := set(records["kind"].tolist()))
            and kinds <= allowed
        )
        if sound:
            self.batch.add_many(records, session.account, session.number)
            session.next_request += count
            return
        view = memoryview(frame)
        for i in range(count):  # a repeat of a frame, or a mistake somewhere: one by one
            record = view[i * RECORD_BYTES : (i + 1) * RECORD_BYTES]
            head = _RECORD.unpack_from(record)
            code = self._check(session, head)
            if code != Code.OK:  # what follows would be a gap: one reject for all of it
                message = p.reject(code, head[6], count=count - i, expected=session.next_request)
                self._reject(plane, session.route, message)
                return
            if not self._one(plane, session, head, record):
                return

    def _message(self, plane: str, session: Session, head: tuple[int, ...], frame: bytes | memoryview) -> None:
        """One slow-lane command: decoded and checked against the role here, carried out by the engine."""
        code = self._check(session, head)
        if code != Code.OK:
            self._reject(plane, session.route, p.reject(code, head[6], expected=session.next_request))
            return
        try:
            message = messages.decode(bytes(frame[RECORD_BYTES:]))
        except p.DECODE_ERRORS as error:
            self._malformed(plane, session.route, session, Code.MALFORMED, str(error)[:200])
            return
        if type(message) not in ROLES[session.role].messages:
            text = f"{session.role} may not send {message.__struct_config__.tag}"
            reject = p.reject(Code.ROLE_NOT_ALLOWED, head[6], text=text, expected=session.next_request)
            self._reject(plane, session.route, reject)
            return
        message = self._sign(session, message)
        payload = messages.encode(message)
        if head[6] < session.next_request:
            self._repeat(plane, session, head[6], _with_quantity(frame, len(payload)), payload)
            return
        second = getattr(message, "second", "")
        if second and ROLES[session.role].operator_plane:
            self._propose(plane, session, head[6], second, message)
            return
        if type(message) in ALONE:
            self.flush()
        self.batch.add_message(payload, session.account, session.number, head[6])
        session.next_request += 1
        if type(message) in ALONE:
            self.flush()

    def _sign(self, session: Session, message: Any) -> Any:
        """Writes the key's name into ``by``: who it was is not the sender's to say."""
        if not hasattr(message, "by"):
            return message
        key = self.keys.by_public.get(session.key)
        return msgspec.structs.replace(message, by=key.name if key else f"session {session.number}")

    def _propose(self, plane: str, session: Session, request_no: int, second: str, message: Any) -> None:
        """A command of two persons waits until the second one confirms it with a key of their own."""
        number = max(self.proposals, default=0) + 1
        if len(self.proposals) >= 100:  # a desk of a few people: more than that open is a mistake
            self.proposals.pop(min(self.proposals))
        self.proposals[number] = (second, message)
        text = f"proposal {number} waits for {second}"
        reject = p.reject(Code.TWO_PERSONS_REQUIRED, request_no, text=text, expected=session.next_request)
        self._reject(plane, session.route, reject)

    def _repeat(
        self, plane: str, session: Session, request_no: int, record: bytes | memoryview, payload: bytes
    ) -> None:
        """A request_no that was used: the original outcome again, or a mismatch (D4)."""
        self.flush()
        seq = self.log.seq_of(session.number, request_no)
        if not seq or not self.log.same(seq, record, payload):
            text = "" if seq else "the request is of an earlier day"
            reject = p.reject(Code.REQUEST_MISMATCH, request_no, text=text, expected=session.next_request)
            self._reject(plane, session.route, reject)
            return
        first, end = self.store.of_seq(session.number, seq)
        for no in range(first, end, p.REPORTS_PER_FRAME):
            events, payloads = self.store.page(session.number, no, end - 1)
            frame = p.encode_reports(events, payloads, no, flags=p.REPEATED | p.POSSIBLE_DUPLICATE)
            self.send(plane, session.route, frame)

    # --- control messages ----------------------------------------------------------------------------------

    def _control(self, plane: str, route: bytes, user: str, frame: bytes | memoryview) -> None:
        try:
            message = p.decode_from_client(frame)
        except p.DECODE_ERRORS as error:
            self._malformed(plane, route, None, Code.MALFORMED, str(error)[:200])
            return
        if isinstance(message, p.Login):
            self.flush()  # what this connection sent before counts before its login does
            self._login(plane, route, user, message)
            return
        session = self._find(plane, route, user, message.token)
        if session is None:
            self._reject(plane, route, p.reject(Code.NOT_LOGGED_IN))
            return
        if isinstance(message, p.Heartbeat):
            if message.time_ns and message.time_ns == session.ping_time_ns:
                session.round_trip_ns, session.ping_time_ns = max(1, self.mono_ns - session.ping_ns), 0
            return
        if type(message) not in ROLES[session.role].controls:
            self._reject(plane, route, p.reject(Code.ROLE_NOT_ALLOWED))
            return
        assert session.orders is not None
        if session.orders.take(1, self.mono_ns):
            self._reject(plane, route, p.reject(Code.THROTTLED, retry_after_ms=1_000))
            return
        self.flush()
        self.pump()  # an answer is complete up to now: the reports before it go first
        name = f"_on_{message.__struct_config__.tag}"
        getattr(self, name)(plane, session, message)

    def _login(self, plane: str, route: bytes, user: str, message: p.Login) -> None:
        public = user if self.config.curve else message.claim
        key = self.keys.authorised(public, self.clock.now())
        code, text, ahead = self._judge_login(plane, route, key, message)
        if code != Code.OK or key is None:
            self.counters.login_rejects += 1
            full = TEXT_EN[code] + (f": {text}" if text else "")
            self.send(plane, route, p.encode(p.LoginRejected(code=int(code), text=full, next_report=ahead)))
            return
        session = self.session(key)
        if message.instance and session.login[0] == message.instance and message.attempt < session.login[1]:
            return  # of a connection that the same client has given up since
        session.login = (message.instance, message.attempt)
        self.counters.logins += 1
        stream = self.store.stream(key.session)
        self._login_route = route
        self._transit(session, Event.LOGIN, Code.SESSION_IN_USE)
        self.tokens.pop(session.token, None)
        # 48 random bits and the session's number: unguessable, and machine code finds the session at once.
        session.token = secrets.randbits(48) << 16 | key.session
        self.tokens[session.token] = session
        session.key, session.route = key.public, route
        session.last_heard_ns = session.last_sent_ns = self.mono_ns
        session.heartbeat_ns = message.heartbeat_ms * NS_PER_MS
        session.cancel_ms = message.cancel_on_disconnect_ms
        session.dead_man_ms, session.stream_cursor = -1, 0
        self.streaming.discard(session.number)
        session.behind_since_ns = session.throttled = session.malformed = 0
        session.ping_ns = session.ping_time_ns = session.round_trip_ns = 0
        c = self.config
        row, factor = session.row, c.cancels_factor
        row["per_second"], row["burst"], row["cancels_factor"] = c.orders_per_second, c.orders_burst, factor
        session.orders = Bucket(row, "order", c.orders_per_second, c.orders_burst, self.mono_ns)
        session.cancels = Bucket(row, "cancel", c.orders_per_second * factor, c.orders_burst * factor, self.mono_ns)
        session.next_request = self.last_request(key.session) + 1
        session.old_until = stream.next_no
        if message.resume == "quick":
            session.cursor = stream.next_no
        elif message.resume == "resume":
            session.cursor = max(message.last_report + 1, stream.first_no)
        else:
            session.cursor = stream.first_no
        self._refresh(session)
        self.send(plane, route, p.encode(self._accepted(session)))
        self.dirty.add(session.number)

    def _judge_login(self, plane: str, route: bytes, key: Key | None, message: p.Login) -> tuple[Code, str, int]:
        """Code, more text, and our next report number where the client is ahead of us (D6)."""
        if message.version != p.PROTOCOL_VERSION:
            return Code.WRONG_VERSION, f"this exchange speaks {p.PROTOCOL_VERSION}", 0
        if key is None:
            return Code.NOT_AUTHORISED, "the key is not valid now", 0
        if ROLES[key.role].operator_plane != (plane == OPERATORS):
            return Code.ROLE_NOT_ALLOWED, f"{key.role} has no session on the {plane} plane", 0
        if message.session not in (0, key.session) or message.account not in (None, key.account):
            return Code.WRONG_ACCOUNT, "", 0
        if len(route) != p.ROUTING_ID_BYTES:
            return Code.MALFORMED, f"the routing id must be {p.ROUTING_ID_BYTES} random bytes", 0
        if message.resume not in ("restart", "resume", "quick"):
            return Code.MALFORMED, "resume is restart, resume or quick", 0
        session = self.session(key)
        if session.state in (State.RESYNC, State.ACTIVE) and session.key != key.public:
            return Code.SESSION_IN_USE, "", 0
        if not session.logged_in and len(self.tokens) >= self.config.sessions_max:
            return Code.SESSIONS_FULL, "", 0
        stream = self.store.stream(key.session)
        if message.resume == "resume" and message.last_report >= stream.next_no:
            self.alarm(f"session {key.session} has seen report {message.last_report}, we have {stream.next_no - 1}")
            return Code.AHEAD_OF_EXCHANGE, "", stream.next_no
        return Code.OK, "", 0

    def last_request(self, session: int) -> int:
        """The last request_no of a session that the engine has seen."""
        table = self.exchange.market.sessions
        return int(table[session]["last_request"]) if session < len(table) else 0

    def _accepted(self, session: Session) -> p.LoginAccepted:
        stream, m = self.store.stream(session.number), self.exchange.market.market[0]
        return p.LoginAccepted(
            version=p.PROTOCOL_VERSION,
            session=session.number,
            account=session.account,
            role=session.role,
            token=session.token,
            epoch=self.epoch,
            first_report=stream.first_no,
            next_report=stream.next_no,
            next_request=session.next_request,
            heartbeat_ms=session.heartbeat_ns // NS_PER_MS,
            heartbeats_lost=p.HEARTBEATS_LOST,
            cancel_on_disconnect_ms=session.cancel_ms,
            orders_per_second=self.config.orders_per_second,
            frame_records_max=p.FRAME_RECORDS_MAX,
            payload_bytes_max=p.PAYLOAD_MAX_BYTES,
            phase=self.phase(),
            date=int(m["date"]),
            time_ns=self.clock.now(),
            instruments=self.instruments(),
        )

    def instruments(self) -> tuple[p.Instrument, ...]:
        """The listed instruments as sessions need them."""
        rows = self.exchange.market.instruments
        return tuple(
            p.Instrument(i, code, int(rows[i]["reference"]), int(rows[i]["limit_low"]), int(rows[i]["limit_high"]))
            for code, i in self.exchange.market.codes.items()
            if rows[i]["listed"]
        )

    def phase(self) -> str:
        """The market's phase now, in a word."""
        if self.exchange.market.market[0]["date"] == 0:
            return PHASES[CLOSED]
        word = PHASES[self.exchange.market.phase(self.clock.now())]
        return "halted" if self.exchange.market.market[0]["halted"] else word

    def _on_logout(self, plane: str, session: Session, message: p.Logout) -> None:
        self._transit(session, Event.LOGOUT)

    def _on_retransmit(self, plane: str, session: Session, message: p.Retransmit) -> None:
        stream = self.store.stream(session.number)
        session.old_until = max(session.old_until, session.cursor)
        first = max(message.first, stream.first_no)
        last = min(message.last or stream.next_no - 1, stream.next_no - 1)
        if last + 1 >= session.cursor:
            session.cursor = min(session.cursor, first)  # what follows goes out anyway
        else:
            for no in range(first, last + 1, p.REPORTS_PER_FRAME):
                events, payloads = self.store.page(session.number, no, last)
                self.send(plane, session.route, p.encode_reports(events, payloads, no, flags=p.POSSIBLE_DUPLICATE))
        self._transit(session, Event.AGAIN)
        self.dirty.add(session.number)

    def _on_dead_man(self, plane: str, session: Session, message: p.DeadMan) -> None:
        session.dead_man_ms = message.within_ms
        session.dead_man_due_ns = self.mono_ns + message.within_ms * NS_PER_MS
        self._refresh(session)

    def _on_kill(self, plane: str, session: Session, message: p.Kill) -> None:
        """Own kill switch: the account is cancel-only until an operator says otherwise; all its orders go."""
        key = self.keys.by_public.get(session.key)
        by = key.name if key else ""
        self.source(messages.SetAccountStatus(account=session.account, status=2, by=by, why=message.why or "kill"))
        self.source(
            messages.CancelOrders(
                account=session.account, reason=int(Reason.KILL_SWITCH), by=by, why=message.why or "kill"
            )
        )

    def _on_query(self, plane: str, session: Session, message: p.Query) -> None:
        if message.what not in ROLES[session.role].queries:
            code = Code.ROLE_NOT_ALLOWED
            answer = p.Answer(id=message.id, seq=self.exchange.seq, code=int(code), text=TEXT_EN[code])
        else:
            answer = answer_query(self, session, message)
        frame = p.encode(answer)
        self.send(plane, session.route, frame)

    def _on_subscribe(self, plane: str, session: Session, message: p.Subscribe) -> None:
        (self.streaming.add if message.first else self.streaming.discard)(session.number)
        session.stream_cursor = 0 if message.first == 0 else max(message.first, self.store.first_event_no)
        self._refresh(session)
        self.dirty.add(session.number)

    def _on_step_clock(self, plane: str, session: Session, message: p.StepClock) -> None:
        now = self.clock.now()
        code, text = Code.OK, ""
        if not isinstance(self.clock, SteppedClock):
            code, text = Code.WRONG_STATE, "the clock is not stepped"
        elif message.time_ns < now:
            code, text = Code.BAD_FIELD, f"time_ns: {message.time_ns} lies before {now}"
        else:
            self.step_to(message.time_ns)
        answer = p.Answer(id=message.id, seq=self.exchange.seq, code=int(code), text=text, data=self.clock.now())
        self.send(plane, session.route, p.encode(answer))

    def _on_confirm(self, plane: str, session: Session, message: p.Confirm) -> None:
        found = self.proposals.get(message.proposal)
        key = self.keys.by_public.get(session.key)
        if found is None or key is None or key.name != found[0] or found[1].by == key.name:
            self._reject(plane, session.route, p.reject(Code.NOT_AUTHORISED, text="no proposal waits for this key"))
            return
        del self.proposals[message.proposal]
        self.source(found[1])
        self.flush()

    # --- the sequence --------------------------------------------------------------------------------------

    def source(self, message: Any) -> None:
        """A command of the exchange itself (scheduler, disconnects, bootstrap) enters the batch."""
        if not self.batch.room() or type(message) in ALONE:
            self.flush()
        self.batch.add_message(messages.encode(message), NO_ACCOUNT, 0, 0)
        if type(message) in ALONE:
            self.flush()

    def execute(self, message: Any) -> list[Any]:
        """Sources a message, makes it durable, and returns the notices that it led to (decoded maps)."""
        self.flush()
        first = self.store.count
        self.source(message)
        self.flush()
        places = range(min(first, self.store.count), self.store.count)
        return [msgspec.msgpack.decode(self.store.payloads[i]) for i in places if i in self.store.payloads]

    def flush(self) -> None:
        """Everything up to here is durable and carried out; its reports are on their way."""
        self.finish()
        if not self.batch.count:
            return
        records, payloads = self._cut()
        self.journal.append(records, payloads)
        self.journal.commit()
        self.apply(records, payloads)

    def advance(self) -> None:
        """As :meth:`flush`, but while the disk works on a large group of plain orders the exchange goes on.

        The engine is then one group ahead of what anybody may know: ``pending``. Its reports, its market data, its
        entries in the log and in the report store come after its commit, in :meth:`finish` or in the next call.
        """
        if not self.overlap_from or self.batch.count < self.overlap_from or self.batch.payloads:
            self.flush()
            return
        journal, before = cast(OverlapPort, self.journal), self.pending
        if before is not None:
            journal.wait()
        records, payloads = self._cut()
        received_ns = self.received_ns
        journal.append(records, payloads)
        journal.begin()
        if before is not None:
            self._show(before)
        self.pending = Group(records, self.exchange.apply(records).events, received_ns, self.mono_ns)

    def finish(self) -> None:
        """Waits for the group whose commit is under way; its reports go out."""
        if self.pending is not None:
            cast(OverlapPort, self.journal).wait()
            self._show(self.pending)

    def _cut(self) -> tuple[np.ndarray, bytes]:
        """The batch as a group: numbered, timed."""
        head = self.exchange.market.market[0]
        self.received_ns = now = self.clock.now()
        return self.batch.cut(int(head["seq"]) + 1, max(now, int(head["time_ns"])))

    def _show(self, group: Group) -> None:
        """A pending group is durable: its reports go out."""
        self.pending, latest = None, self.received_ns
        self.received_ns = group.received_ns
        self._note(group.records, b"", group.events, b"")
        self.reported(len(group.records), group.began_ns)
        self.received_ns = latest

    def apply(self, records: np.ndarray, payloads: bytes) -> None:
        """Engine and reports: the same for live commands and for recovered ones."""
        if not payloads:  # only the slow lane opens or closes a day, or a session
            self._note(records, payloads, *self.exchange.apply(records))
            self.reported(len(records), self.mono_ns)
            return
        date, closed = (int(self.exchange.market.market[0][name]) for name in ("date", "day_closed"))
        out = self.exchange.apply(records, payloads)
        if int(self.exchange.market.market[0]["date"]) != date:
            self._leave_day()
        self.update_routing()
        self._note(records, payloads, out.events, out.payloads)
        self.reported(len(records), self.mono_ns)
        if not closed and self.exchange.market.market[0]["day_closed"]:
            self._end_day()

    def _note(self, records: np.ndarray, payloads: bytes, events: np.ndarray, notes: bytes) -> None:
        """Log, report store, reports, market data of a durable group. notes: payloads of its notices."""
        counters = self.counters
        counters.groups += 1
        counters.commands += len(records)
        counters.events += len(events)
        self.deliver(events, self.store.append(events, notes), notes)
        self.log.append(records, payloads)  # whoever waits for a report does not wait for this
        if self.publisher is not None:
            self.publisher.collect(events, notes)
        if self.streaming:
            self.dirty |= self.streaming

    def _leave_day(self) -> None:
        """Before the reports of the day before are forgotten: sends what waits; who can't take it logs in anew."""
        self.dirty |= {s.number for s in self.sessions.values() if s.logged_in}
        self.pump()
        end_no = self.store.first_event_no + self.store.count
        for session in self.sessions.values():
            behind = session.cursor < self.store.stream(session.number).next_no
            if session.logged_in and (behind or 0 < session.stream_cursor < end_no):
                self._transit(session, Event.END, Code.SHUTTING_DOWN, "a new day has begun: log in again")
        self.store.start_day()
        self.log.start_day()

    def deliver(self, events: np.ndarray, touched: np.ndarray, payloads: bytes) -> None:
        """What a batch's sessions get now; the hot lane sends most of it at once instead."""
        self.dirty.update(touched.tolist())

    def _end_day(self) -> None:
        """Tells every session its last report of the day and a hash over all of them."""
        self.pump()
        date = int(self.exchange.market.market[0]["date"])
        for session in self.sessions.values():
            if session.logged_in:
                last = self.store.stream(session.number).next_no - 1
                message = p.EndOfDay(date=date, last_report=last, digest=self.store.digest(session.number))
                plane = OPERATORS if ROLES[session.role].operator_plane else MEMBERS
                self.send(plane, session.route, p.encode(message))

    # --- sending -------------------------------------------------------------------------------------------

    def pump(self, stream_frames: int = ALL_FRAMES) -> None:
        """Sends every session what it has not got yet, as far as its socket takes it.

        ``stream_frames``: of the stream of all events, at most so many to each operator; the rest with the next call.
        """
        if not self.dirty:
            return
        self._stream_frames = stream_frames
        again: set[int] = set()
        for number in self.dirty:
            session = self.sessions.get(number)
            if (
                session is not None
                and session.state in (State.RESYNC, State.ACTIVE)
                and not self._send_reports(session)
            ):
                again.add(number)
        self.dirty = again

    def _send_reports(self, session: Session) -> bool:
        """False while the socket takes no more."""
        plane = OPERATORS if ROLES[session.role].operator_plane else MEMBERS
        stream = self.store.stream(session.number)
        sent_ns = self.clock.now()
        while session.cursor < stream.next_no:
            old = session.cursor < session.old_until
            last = (session.old_until if old else stream.next_no) - 1
            events, payloads = self.store.page(session.number, session.cursor, last)
            end = session.cursor + len(events)
            flags = (p.POSSIBLE_DUPLICATE if old else 0) | (p.CAUGHT_UP if end == stream.next_no else 0)
            received_ns = 0 if old else self.received_ns
            frame = p.encode_reports(
                events, payloads, session.cursor, flags=flags, received_ns=received_ns, sent_ns=sent_ns
            )
            if not self._try(plane, session, frame):
                return False
            session.cursor = end
        if session.state is State.RESYNC:
            self._transit(session, Event.SENT)
        return not session.stream_cursor or self._send_stream(plane, session, sent_ns)

    def _send_stream(self, plane: str, session: Session, sent_ns: int) -> bool:
        session.stream_cursor = max(session.stream_cursor, self.store.first_event_no)
        end_no = self.store.first_event_no + self.store.count
        for _ in range(self._stream_frames):
            if session.stream_cursor >= end_no:
                break
            events, payloads = self.store.event_page(session.stream_cursor)
            end = session.stream_cursor + len(events)
            flags = p.CAUGHT_UP if end == end_no else 0
            frame = p.encode_reports(
                events, payloads, session.stream_cursor, flags=flags, magic=p.STREAM_MAGIC, sent_ns=sent_ns
            )
            if not self._try(plane, session, frame):
                return False
            session.stream_cursor = end
        return session.stream_cursor >= end_no

    def _try(self, plane: str, session: Session, frame: bytes) -> bool:
        if self.send(plane, session.route, frame):
            session.last_sent_ns = self.mono_ns
            if session.behind_since_ns:
                session.behind_since_ns = 0
                self._refresh(session)
            return True
        self.counters.blocked += 1
        if not session.behind_since_ns:
            session.behind_since_ns = self.mono_ns or 1
            self._refresh(session)
        return False

    # --- time ----------------------------------------------------------------------------------------------

    def tick(self, mono_ns: int) -> None:
        """Heartbeats, silence, cancel-on-disconnect, dead-man switches; all on monotonic time (D3)."""
        self.mono_ns = mono_ns
        if mono_ns < self._next_tick_ns:
            return
        self._next_tick_ns = mono_ns + TICK_NS
        time_ns = self.clock.now()
        heartbeat = p.encode(p.Heartbeat(time_ns=time_ns))
        due = due_sessions(self.hot, self._numbers[: len(self.sessions)], mono_ns)
        for number in self.beat(due, heartbeat, time_ns).tolist():
            session = self.sessions[number]
            if session.cancel_due_ns and mono_ns >= session.cancel_due_ns:
                self._transit(session, Event.DUE)
            if session.state is State.OUT:
                continue
            if session.dead_man_ms >= 0 and mono_ns >= session.dead_man_due_ns:
                session.dead_man_ms = -1
                self._refresh(session)
                self.cancel_session(session, "dead-man switch")
            if session.state is State.LOST:
                continue
            if mono_ns - session.last_heard_ns > session.heartbeat_ns * p.HEARTBEATS_LOST:
                self.counters.timeouts += 1
                self._transit(session, Event.SILENCE)
            elif session.behind_since_ns and mono_ns - session.behind_since_ns > BEHIND_LOST_NS:
                self._transit(session, Event.END, Code.TOO_LARGE, "its connection takes no reports")
            elif mono_ns - min(session.last_sent_ns, session.ping_ns) >= session.heartbeat_ns:
                session.last_sent_ns = session.ping_ns = mono_ns
                session.ping_time_ns = time_ns
                plane = OPERATORS if ROLES[session.role].operator_plane else MEMBERS
                self.send(plane, session.route, heartbeat)
        self.flush()

    def stood_still(self, gap_ns: int) -> None:
        """The process did nothing for so long (stopped, or kept busy): that was no member's silence (D8).

        What members sent meanwhile still waits to be read. Each deadline moves as if it had been set that much later,
        but not after now.
        """
        now = self.mono_ns
        for session in self.sessions.values():
            session.last_heard_ns = min(session.last_heard_ns + gap_ns, now)
            if session.behind_since_ns:
                session.behind_since_ns = min(session.behind_since_ns + gap_ns, now)
            if session.dead_man_ms >= 0:
                armed_now = now + session.dead_man_ms * NS_PER_MS
                session.dead_man_due_ns = min(session.dead_man_due_ns + gap_ns, armed_now)
            if session.cancel_due_ns:
                session.cancel_due_ns = min(session.cancel_due_ns + gap_ns, now + session.cancel_ms * NS_PER_MS)

    def beat(self, due: np.ndarray, heartbeat: bytes, time_ns: int) -> np.ndarray:
        """Those of ``due`` (session numbers) that need more than a heartbeat; the hot lane sends it to the others."""
        return due

    def unsent(self) -> tuple[int, int]:
        """Reports that wait for sessions that are logged in: all together, and in the slowest session."""
        total, worst = unsent(self.hot, self.store.streams, self._numbers[: len(self.sessions)])
        return int(total), int(worst)

    def step_to(self, time_ns: int) -> None:
        """Stepped clock: does what falls due on the way (D3)."""
        from gateway.scheduler import run_until

        assert isinstance(self.clock, SteppedClock)
        run_until(self, time_ns, self.clock.step)
        self.clock.step(time_ns)
        self.clock_stepped(time_ns)

    def alarm(self, text: str) -> None:
        """Something that an operator must see."""
        log.error("%s", text)
        self.counters.alarms += 1
        self.alarms = [*self.alarms[-99:], text]

    def shut_down(self) -> None:
        """Tells every session that the exchange ends."""
        self.flush()
        self.pump()
        for session in self.sessions.values():
            if session.logged_in:
                self._transit(session, Event.END, Code.SHUTTING_DOWN)
                session.cancel_due_ns = 0  # our own stop is not a member's disconnect (D8)


def _with_quantity(frame: bytes | memoryview, quantity: int) -> bytes:
    """The message's record as it was journaled: its payload was encoded anew."""
    record = bytearray(frame[:RECORD_BYTES])
    struct.pack_into("<q", record, 24, quantity)
    return bytes(record)


def account_is_active(exchange: Exchange, account: int) -> bool:
    """True for an account that may trade."""
    accounts = exchange.market.accounts
    return 0 <= account < len(accounts) and accounts[account]["status"] == ACTIVE
