"""The client's side of a session over a real socket: login, heartbeats, reconnects, resynchronisation.

What a caller of :class:`Connection` may rely on: a request that was handed to ``request`` ends in exactly one of
its reports, a session reject, or :class:`UnknownOutcome`, which keeps the request open until the exchange has
answered. Requests that the exchange turns out not to have seen are sent again under the same number.
"""

from __future__ import annotations

import itertools
import os
import socket as sockets
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import zmq

from engine.codes import Code
from engine.records import COMMAND, EVENT, FILL_MAKER, FILL_TAKER, NOTICE, RECORD_BYTES
from gateway import config as cfg
from gateway import keys as keyfile
from gateway import protocol as p
from gateway.session import FINAL_LOGIN_CODES, NS_PER_MS, ClientAction, ClientEvent, ClientState, client_step
from gateway.shared_stream import SharedReader

SOFTWARE: Final = "cea-exchange client 1"
PROBE_NS: Final = 500 * NS_PER_MS  # while waiting, ask "are you there" this often
SILENT_NS: Final = 3_000 * NS_PER_MS  # nothing heard for so long while waiting: a new connection
CONNECT_POLL_MS: Final = 2  # how often a login is tried while the connection is being made
NUDGE_NS: Final = 1_000 * NS_PER_MS  # a request without an answer for so long: ask what became of it
RECONNECT_NS: Final = 250 * NS_PER_MS
# Reports applied in one go before the caller gets its turn.
FRAMES_AT_ONCE: Final = 4_096
SEND_WAIT_MS: Final = 1_000
LISTENS_S: Final = 1.0  # whether somebody listens is known in a round trip


class GatewayError(Exception):
    """Something that the caller must know; ``code`` is an engine.codes.Code where the exchange said one."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class LoginRefused(GatewayError):
    """The exchange refused the login for a reason that trying again won't change."""


class LoggedOut(GatewayError):
    """The exchange ended the session and said why."""


class NoAnswer(GatewayError):
    """Nobody answers: the exchange is down, or it does not know the key (then it refuses without a word, D7).

    ``listens``: True where somebody was found at the address.
    """

    def __init__(self, text: str, *, listens: bool = False) -> None:
        super().__init__(text)
        self.listens = listens


class UnknownOutcome(GatewayError):
    """The time is over and a request has no answer. It is still open: whoever calls next resolves it first."""

    def __init__(self, request_no: int) -> None:
        super().__init__(f"request {request_no}: no answer in time; it may or may not have been executed")
        self.request_no = request_no


class SessionRejected(GatewayError):
    """The session layer refused a request: it was not executed and consumed no number."""

    def __init__(self, reject: p.SessionReject) -> None:
        after = f" (after {reject.retry_after_ms} ms)" if reject.retry_after_ms else ""
        super().__init__(reject.text + after, reject.code)
        self.reject = reject


class Report(msgspec.Struct, frozen=True):
    """One report: its number in the session's stream, the event as a record, and a notice's message as a map."""

    no: int
    event: np.void
    notice: dict[str, Any] | None
    possible_duplicate: bool
    received_ns: int
    sent_ns: int


class Pending(msgspec.Struct):
    """A request that was sent and has no report yet."""

    request_no: int
    frame: bytes
    reject: p.SessionReject | None = None
    done: bool = False


class Target(msgspec.Struct, frozen=True):
    """Where to connect and as whom."""

    address: str
    feed: str
    curve: bool
    server_public: str


class Connection:
    """One session: its socket, its numbers, its open requests. Not for several threads."""

    def __init__(
        self,
        where: str | os.PathLike[str],
        key: str | keyfile.Secret,
        *,
        plane: str = "members",
        timeout: float = 10.0,
        resume: str = "restart",
        heartbeat_ms: int = p.HEARTBEAT_MS,
        cancel_on_disconnect_ms: int = -1,
        software: str = SOFTWARE,
        server_public: str = "",
        on_report: Callable[[Report], None] | None = None,
        on_stream: Callable[[Report], None] | None = None,
        socket_for: Callable[[Target], Any] | None = None,
        now: Callable[[], int] = time.monotonic_ns,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """``socket_for``, ``now``, ``pause``: the socket of a connection and real time, for tests without either.

        Raises ValueError for what no login may bear.
        """
        self._socket_for, self._now, self._pause = socket_for or self._dealer, now, pause
        self._folder = Path(where) if not str(where).startswith("tcp://") else None
        self.where, self._plane = str(where), plane
        self._server_public = server_public
        self.secret = self._secret(key)
        self.timeout_ns = int(timeout * 1e9)
        self._resume, self._heartbeat_ms = resume, heartbeat_ms
        self._cancel_ms, self._software = cancel_on_disconnect_ms, software
        self._on_report, self._on_stream = on_report, on_stream
        # Set by who reads the stream by pages instead: (events EVENT[n], payloads), without an object per event.
        self.stream_pages: deque[tuple[np.ndarray, bytes | memoryview]] | None = None
        self.context: zmq.Context[Any] = zmq.Context.instance()
        self.socket: zmq.Socket[Any] | None = None
        self.state = ClientState.DOWN
        self.login: p.LoginAccepted | None = None
        self.token = 0
        self.next_report = 1
        self.next_request = 1
        self.stream_next = 0
        self._stream_asked_ns = 0
        self._wants_shared = False
        self._shared: SharedReader | None = None  # while the stream comes that way
        self._opened: SharedReader | None = None  # the exchange's ring, once it was opened
        self.pending: dict[int, Pending] = {}
        self.pages: deque[p.Reports] = deque()
        self.caught_up = True
        self.answers: dict[int, p.Answer] = {}
        self.notices: deque[Any] = deque(maxlen=1_000)
        self.reconnects = -1
        self._query_ids = itertools.count(1)
        self._heard_ns = self._said_ns = self._tried_ns = 0
        self._resync_ns = 0  # when resynchronisation last went on
        self._knows = False  # True once logged in: then the reports we have seen count
        self._failure: GatewayError | None = None
        self._instance = int.from_bytes(os.urandom(7))
        self._login_frame = b""
        self._login_sent = False
        self._control_reject: p.SessionReject | None = None  # of a control message: it bears no number
        self._taken_over: LoggedOut | None = None
        p.checked(self._login_message())

    def _secret(self, key: str | keyfile.Secret) -> keyfile.Secret:
        if isinstance(key, keyfile.Secret):
            return key
        path = Path(key)
        if self._folder is not None:
            named = self._folder / "keys" / f"{key}.key"
            if named.is_file() or not path.is_file():  # a market's own name for a key wins; a folder is no key
                path = named
        return keyfile.read_secret(path)

    # --- connecting ------------------------------------------------------------------------------------------

    def _target(self) -> Target | None:
        if self._folder is None:
            server = self._server_public or self.secret.server_public
            return Target(self.where, "", bool(server), server)
        e = cfg.read_endpoints(self._folder)
        if e is None:
            return None
        address = e.operators if self._plane == "operators" else e.members
        return Target(address, e.feed, e.curve, e.server_public)

    def _connect(self) -> bool:
        self._drop()
        self._tried_ns = self._now()
        target = self._target()
        if target is None:
            return False
        self.socket = self._socket_for(target)
        self.reconnects += 1
        self._heard_ns = self._tried_ns
        self._go(ClientEvent.CONNECT)
        return True

    def _dealer(self, target: Target, *, immediate: bool = True) -> zmq.Socket[Any]:
        """A DEALER that connects to the exchange; ``immediate``: it takes a frame only where a connection stands.

        To change that option later is a trap: libzmq then aborts the process when the connection breaks.
        """
        socket = self.context.socket(zmq.DEALER)
        socket.linger = 0
        socket.sndhwm, socket.rcvhwm = 10_000, 0  # we read as fast as we can; what waits is bounded by the exchange
        socket.set(zmq.ROUTING_ID, b"\x01" + os.urandom(p.ROUTING_ID_BYTES - 1))  # a secret: see gateway.protocol
        socket.set(zmq.IMMEDIATE, int(immediate))
        socket.set(zmq.RECONNECT_IVL, 50)
        if target.curve:
            socket.curve_serverkey = (target.server_public or self.secret.server_public).encode()
            socket.curve_publickey = self.secret.public.encode()
            socket.curve_secretkey = self.secret.secret.encode()
        socket.connect(target.address)
        return socket

    def _drop(self) -> None:
        self._shared = None
        if self.socket is not None:
            self.socket.close(0)
            self.socket = None
        self.state = ClientState.DOWN

    def _go(self, event: ClientEvent, failure: GatewayError | None = None) -> None:
        """One transition, and its actions."""
        self.state, actions = client_step(self.state, event)
        for action in actions:
            if action is ClientAction.LOGIN:
                self._send_login()
            elif action is ClientAction.SETTLE:
                self._settle()
            elif action is ClientAction.ASK:
                self._send(p.encode(p.Retransmit(token=self.token, first=self.next_report, last=0)))
            elif action is ClientAction.RECONNECT:
                self._drop()
            elif action is ClientAction.RAISE:
                self._failure = failure

    def _login_message(self) -> p.Login:
        return p.Login(
            version=p.PROTOCOL_VERSION,
            software=self._software,
            last_report=self.next_report - 1 if self._knows else 0,
            resume="resume" if self._knows else self._resume,
            heartbeat_ms=self._heartbeat_ms,
            cancel_on_disconnect_ms=self._cancel_ms,
            claim=self.secret.public,
            instance=self._instance,
            attempt=self.reconnects + 1,
        )

    def _send_login(self) -> None:
        self._login_frame = p.encode(self._login_message())
        self._login_sent = self._send(self._login_frame)  # False until there is a connection (IMMEDIATE)

    def _settle(self) -> None:
        """After ResyncDone: what has no report was not executed, so it is sent again under its number."""
        for number in sorted(self.pending):
            request = self.pending[number]
            if not request.done and request.reject is None:
                self._send(self._fresh(request.frame))

    def _nudge(self) -> None:
        """Asks for what follows our last report; the ResyncDone behind it settles the open requests."""
        if self.state is ClientState.ACTIVE:
            self._send(p.encode(p.Retransmit(token=self.token, first=self.next_report, last=0)))

    def _fresh(self, frame: bytes) -> bytes:
        """A records frame with the present token."""
        data = bytearray(frame)
        count = 1 if data[60] == 7 else len(data) // RECORD_BYTES
        np.frombuffer(data, COMMAND, count)["token"] = self.token
        return bytes(data)

    def _send(self, frame: bytes) -> bool:
        if self.socket is None:
            return False
        try:
            self.socket.send(frame, zmq.DONTWAIT)
        except zmq.Again:
            return False
        self._said_ns = self._now()
        return True

    # --- receiving -------------------------------------------------------------------------------------------

    def pump(self, wait_ms: int = 0) -> bool:
        """Takes what has arrived, keeps the session alive. True when something arrived."""
        now = self._now()
        if self._taken_over is not None:
            raise LoggedOut(str(self._taken_over), self._taken_over.code)
        if self.socket is None and (now - self._tried_ns >= RECONNECT_NS or not self._tried_ns) and not self._connect():
            self._pause(min(wait_ms, 50) / 1000)
            return False
        if self.socket is None:
            self._pause(min(wait_ms, 20) / 1000)
            return False
        some = False
        if self.state is ClientState.LOGGING_IN and not self._login_sent:
            wait_ms = min(wait_ms, CONNECT_POLL_MS)
        if self.socket.poll(wait_ms):
            for _ in range(FRAMES_AT_ONCE):
                try:
                    frame = self.socket.recv(zmq.DONTWAIT)
                except zmq.Again:
                    break
                some = True
                self._heard_ns = self._now()
                self._take(frame)
                if self.socket is None or self._failure is not None:
                    break
        self._keep_alive(self._now())
        if self._failure is not None:
            failure, self._failure = self._failure, None
            self._drop()
            raise failure
        return some

    def take_shared(self) -> None:
        """Puts what has come through shared memory behind ``stream_pages``: to be read before the next call."""
        if self._shared is None:
            return
        frames = self._shared.take()
        for frame in frames or ():
            self._take_stream(p.decode_reports(frame))
        if frames is None:
            self._ask_for_stream()

    def _keep_alive(self, now: int) -> None:
        if self.socket is None:
            return
        if self.state is ClientState.LOGGING_IN:
            if not self._login_sent or (now - self._said_ns > PROBE_NS and now - self._heard_ns > PROBE_NS):
                self._login_sent = self._send(self._login_frame)
            if now - self._heard_ns > SILENT_NS:
                self._go(ClientEvent.SILENCE)
        elif now - self._said_ns > self._heartbeat_ms * NS_PER_MS // 2:
            self._send(p.encode(p.Heartbeat(token=self.token, last_report=self.next_report - 1)))
        if (
            self.state in (ClientState.RESYNC, ClientState.ACTIVE)
            and now - self._heard_ns > self._heartbeat_ms * NS_PER_MS * p.HEARTBEATS_LOST
        ) or self._stands(now):
            self._go(ClientEvent.SILENCE)

    def _stands(self, now: int) -> bool:
        """Resynchronisation goes on no more though the exchange is there: its end was lost with a connection."""
        return self.state is ClientState.RESYNC and now - self._resync_ns > self._patience_ns

    @property
    def _patience_ns(self) -> int:
        """With an exchange that is waited for and says nothing."""
        return max(SILENT_NS, 2 * self._heartbeat_ms * NS_PER_MS)

    def _take(self, frame: bytes) -> None:
        if frame and frame[0] in (p.REPORTS_MAGIC, p.STREAM_MAGIC):
            self._take_reports(p.decode_reports(frame))
            return
        message = p.decode_from_exchange(frame)
        getattr(self, f"_on_{type(message).__struct_config__.tag}")(message)

    def _take_reports(self, page: p.Reports) -> None:
        if page.magic == p.STREAM_MAGIC:
            self._take_stream(page)
            return
        if page.flags & p.REPEATED:
            self._take_repeated(page)
            return
        if self.state not in (ClientState.RESYNC, ClientState.ACTIVE):
            return
        end = page.first_no + len(page.events)
        if page.first_no > self.next_report:
            if self.state is ClientState.ACTIVE:
                self._go(ClientEvent.GAP)
            return
        if end <= self.next_report:
            return  # seen before
        skip, self._resync_ns = self.next_report - page.first_no, self._now()
        self._go(ClientEvent.REPORT)
        self._dispatch(page, skip)
        self.next_report = end
        self.caught_up = bool(page.flags & p.CAUGHT_UP)
        if self.caught_up:
            self._complete()

    def _take_repeated(self, page: p.Reports) -> None:
        """The outcome of a request that we sent again. Its content is in the stream; here it only says: it is there."""
        if page.first_no + len(page.events) > self.next_report:
            self._nudge()
            return
        for number, kind in zip(page.events["ref"].tolist(), page.events["kind"].tolist(), strict=True):
            if number in self.pending and kind not in (FILL_MAKER, FILL_TAKER):  # a fill's ref is a deal number
                self.pending[number].done = True
        self._complete()

    def _dispatch(self, page: p.Reports, skip: int) -> None:
        """Hands reports to the caller and closes the requests that they answer."""
        at = 0
        numbers = page.events["ref"].tolist()
        kinds = page.events["kind"].tolist()
        for i in range(len(kinds)):
            notice = None
            if kinds[i] == NOTICE:
                size = int(page.events[i]["quantity"])
                if i >= skip and self._on_report is not None:
                    notice = msgspec.msgpack.decode(page.payloads[at : at + size])
                at += size
            if i < skip:
                continue
            request = self.pending.get(numbers[i])
            if (
                request is not None
                and kinds[i] not in (FILL_MAKER, FILL_TAKER)
                and int(page.events[i]["session"]) == self.session
            ):
                request.done = True
            if self._on_report is not None:
                duplicate = bool(page.flags & p.POSSIBLE_DUPLICATE)
                report = Report(page.first_no + i, page.events[i], notice, duplicate, page.received_ns, page.sent_ns)
                self._on_report(report)

    def _complete(self) -> None:
        """Forgets answered requests: a caught-up frame has everything of every command in it."""
        for number in [n for n, r in self.pending.items() if r.done]:
            del self.pending[number]

    def _take_stream(self, page: p.Reports) -> None:
        if page.first_no > self.stream_next and not page.flags & p.BEGINS:
            self._miss_stream()
            return
        if self.stream_pages is not None:
            self._take_stream_page(page)
            return
        at = 0
        for i in range(len(page.events)):
            notice = None
            if int(page.events[i]["kind"]) == NOTICE:
                size = int(page.events[i]["quantity"])
                notice = msgspec.msgpack.decode(page.payloads[at : at + size])
                at += size
            if page.first_no + i < self.stream_next:
                continue
            if self._on_stream is not None:
                self._on_stream(Report(page.first_no + i, page.events[i], notice, False, 0, page.sent_ns))
        self.stream_next = max(self.stream_next, page.first_no + len(page.events))

    def _take_stream_page(self, page: p.Reports) -> None:
        """As it came; what was seen before is cut off."""
        assert self.stream_pages is not None
        skip = max(0, self.stream_next - page.first_no)
        if skip < len(page.events):
            seen = page.events[:skip]
            at = int(seen["quantity"][seen["kind"] == NOTICE].sum())
            self.stream_pages.append((page.events[skip:], page.payloads[at:]))
        self.stream_next = max(self.stream_next, page.first_no + len(page.events))

    def _on_login_accepted(self, message: p.LoginAccepted) -> None:
        if self.state not in (ClientState.LOGGING_IN, ClientState.RESYNC, ClientState.ACTIVE):
            return
        self.login, self.token = message, message.token
        if not self._knows:
            self.next_report = message.next_report if self._resume == "quick" else message.first_report
            self._knows = True
        else:
            self.next_report = max(self.next_report, message.first_report)  # days that nobody can send again
        self.next_request = max(self.next_request, message.next_request)
        self._resync_ns = self._now()
        self._go(ClientEvent.ACCEPTED)
        if self.stream_next:
            self._ask_for_stream()

    def _on_login_rejected(self, message: p.LoginRejected) -> None:
        if self.state is not ClientState.LOGGING_IN:
            return
        if message.code == Code.AHEAD_OF_EXCHANGE:
            self._go(ClientEvent.AHEAD, LoginRefused(message.text, message.code))
        elif message.code in FINAL_LOGIN_CODES:
            self._go(ClientEvent.REJECTED, LoginRefused(message.text, message.code))

    def _on_logged_out(self, message: p.LoggedOut) -> None:
        if message.code == Code.SHUTTING_DOWN or self.state is ClientState.DOWN:
            self._drop()  # a clean stop: it may be back soon
            self._tried_ns = self._now()
            return
        told = LoggedOut(message.text, message.code)
        if message.code == Code.SESSION_IN_USE:
            self._taken_over = told  # for good: two programs with one key would take it from each other for ever
        self._go(ClientEvent.LOGGED_OUT, told)

    def _on_session_reject(self, message: p.SessionReject) -> None:
        if message.code == Code.NOT_LOGGED_IN:
            if self.state in (ClientState.RESYNC, ClientState.ACTIVE):
                self._go(ClientEvent.NOT_LOGGED_IN)
            return
        if message.code == Code.MALFORMED and self.state is ClientState.LOGGING_IN:
            self._go(ClientEvent.REJECTED, LoginRefused(message.text, message.code))  # it cannot read our login
            return
        if message.request_no == 0 and message.code in (Code.THROTTLED, Code.ROLE_NOT_ALLOWED):
            self._control_reject = message
        if message.code == Code.REQUEST_GAP and (
            self.state is not ClientState.ACTIVE or message.expected in self.pending
        ):
            missing = self.pending.get(message.expected)
            if missing is None or missing.reject is None:
                self._nudge()  # an earlier request was lost on the way: ask, then send them again in order
                return
        for number in range(message.request_no, message.request_no + message.count):
            request = self.pending.get(number)
            if request is not None:
                request.reject = message
        self.notices.append(message)

    def _on_resync_done(self, message: p.ResyncDone) -> None:
        if self.state not in (ClientState.RESYNC, ClientState.ACTIVE):
            return
        if message.next_report > self.next_report:  # a frame was lost on the way
            self._send(p.encode(p.Retransmit(token=self.token, first=self.next_report, last=0)))
            return
        self._complete()
        self.caught_up = True
        self._go(ClientEvent.DONE)

    def _on_heartbeat(self, message: p.Heartbeat) -> None:
        """Gives it back, which is our own heartbeat as well: the exchange learns how long the way is."""
        if message.time_ns and self.state in (ClientState.RESYNC, ClientState.ACTIVE):
            self._send(
                p.encode(p.Heartbeat(token=self.token, last_report=self.next_report - 1, time_ns=message.time_ns))
            )

    def _on_answer(self, message: p.Answer) -> None:
        self.answers[message.id] = message

    def _on_end_of_day(self, message: p.EndOfDay) -> None:
        self.notices.append(message)

    # --- for callers -----------------------------------------------------------------------------------------

    @property
    def session(self) -> int:
        """The session's number, 0 before the first login."""
        return self.login.session if self.login is not None else 0

    @property
    def active(self) -> bool:
        """True while logged in and resynchronised."""
        return self.state is ClientState.ACTIVE

    def wait(self, until: Callable[[], bool], timeout_ns: int | None = None) -> bool:
        """Pumps until ``until()`` holds; False when the time is over. Probes a silent exchange and reconnects."""
        began = self._now()
        deadline = began + (self.timeout_ns if timeout_ns is None else timeout_ns)
        while not until():
            now = self._now()
            if now >= deadline:
                return False
            self.pump(min(50, max(1, (deadline - now) // NS_PER_MS)))
            if self.state in (ClientState.ACTIVE, ClientState.RESYNC):
                now = self._now()
                if now - max(self._said_ns, self._heard_ns) > PROBE_NS:
                    self._send(p.encode(p.Heartbeat(token=self.token, last_report=self.next_report - 1)))
                if now - self._heard_ns > self._patience_ns:
                    self._go(ClientEvent.SILENCE)
                elif self.pending and now - began > NUDGE_NS:
                    began = now
                    self._nudge()
        return True

    def open(self) -> None:
        """Logs in and resynchronises. Raises LoginRefused, NoAnswer."""
        if not self.wait(lambda: self.active):
            self._drop()
            why, listens = self._why_nobody()
            raise NoAnswer(f"no answer from {self.where}: {why}", listens=listens)

    def _why_nobody(self) -> tuple[str, bool]:
        """What a refused handshake (D7) looks like from here, told apart from an exchange that is not there."""
        others = "members'" if self._plane == "operators" else "operators'"
        unknown = f"it does not know the key {self.secret.name} ({others} keys have an endpoint of their own)"
        unknown += ", or the key's time is over"
        target = self._target()
        if target is None:
            return "no exchange runs there", False
        if self._socket_for != self._dealer:  # a test's channel
            return f"the exchange is down, or {unknown}", False
        host, _, port = target.address.removeprefix("tcp://").rpartition(":")
        try:
            sockets.create_connection((host, int(port)), LISTENS_S).close()
        except (OSError, ValueError) as error:
            return (
                f"nobody listens at {target.address} ({error}): the exchange is down, or the address is another",
                False,
            )
        return (
            f"{target.address} listens, but {unknown}, or the exchange's public key in the key file is another's",
            True,
        )

    def request(self, records: np.ndarray, payload: bytes = b"") -> list[int]:
        """Sends records (COMMAND[n], one frame) and returns their request numbers. The session must be active."""
        if not self.active:
            self.open()
        n = len(records)
        assert 1 <= n <= p.FRAME_RECORDS_MAX, "a frame holds 1 … 1,024 records"
        numbers = list(range(self.next_request, self.next_request + n))
        records["token"], records["request_no"] = self.token, numbers
        frame = records.tobytes() + payload
        for i, number in enumerate(numbers):
            one = frame if payload else frame[i * RECORD_BYTES : (i + 1) * RECORD_BYTES]
            self.pending[number] = Pending(number, one)
        self.next_request += n
        if not self._send(frame):
            self.wait(
                lambda: self.socket is not None and bool(self.socket.poll(0, zmq.POLLOUT)), SEND_WAIT_MS * NS_PER_MS
            )
            if self.active and all(number in self.pending for number in numbers):
                self._send(self._fresh(frame))
        return numbers

    def result(self, numbers: list[int]) -> None:
        """Waits until all of these requests are answered. Raises SessionRejected, UnknownOutcome."""

        def answered() -> bool:
            return all(n not in self.pending or self.pending[n].reject is not None for n in numbers)

        if not self.wait(answered):
            raise UnknownOutcome(next(n for n in numbers if n in self.pending and self.pending[n].reject is None))
        rejects = [r for n in numbers if (r := self.pending.pop(n, None)) is not None]
        if rejects:
            reject = rejects[0].reject
            assert reject is not None
            self.next_request = reject.expected or min(r.request_no for r in rejects)
            raise SessionRejected(reject)

    def query(self, what: str, **args: Any) -> Any:
        """Asks and waits for the answer's data. Raises GatewayError with the code, NoAnswer."""
        return self.ask(lambda number: p.Query(token=self.token, id=number, what=what, args=args)).data

    def query_pages(self, what: str, field: str, *, first: int = 0, **args: Any) -> Iterator[Any]:
        """Asks page by page, from number ``first`` on; one field of each answer. Raises as :meth:`query`."""
        while True:
            data = self.query(what, first=first, **args)
            yield data[field]
            first = data["next"]
            if not first:
                return

    def ask(self, make: Callable[[int], p.Control]) -> p.Answer:
        """Sends a control message with an id and waits for its Answer; asks again after a reconnect, or when throttled.

        Raises GatewayError with the answer's code, SessionRejected, NoAnswer, ValueError (a field's bounds).
        """
        number = next(self._query_ids)
        deadline = self._now() + self.timeout_ns
        while True:
            if not self.active:
                self.open()
            self._control_reject = None
            self._send(p.encode(p.checked(make(number))))
            self._wait_answer(number, self.token, deadline - self._now())
            answer, reject = self.answers.pop(number, None), self._control_reject
            if answer is None and reject is not None:
                again = self._now() + reject.retry_after_ms * NS_PER_MS
                if reject.code != Code.THROTTLED or again >= deadline:
                    raise SessionRejected(reject)
                self.wait(lambda: False, again - self._now())
            if answer is not None:
                if answer.code:
                    raise GatewayError(answer.text, answer.code)
                return answer
            if self._now() >= deadline:
                raise NoAnswer(f"no answer to {type(make(0)).__name__}")

    def _wait_answer(self, number: int, token: int, timeout_ns: int) -> None:
        """Until the answer is there, or the login that asked is no more."""
        self.wait(
            lambda: (
                number in self.answers or self._control_reject is not None or self.token != token or not self.active
            ),
            timeout_ns,
        )

    def tell(self, make: Callable[[], p.Control]) -> None:
        """Sends a control message that has no answer; logs in before it where need be.

        Raises ValueError (a field's bounds), LoginRefused, NoAnswer where no connection takes it.
        """
        frame = p.checked(make())
        if not self.wait(lambda: self.active and self._send(p.encode(make()))):
            raise NoAnswer(f"{frame.__struct_config__.tag} could not be sent to {self.where}")

    def subscribe(self, first: int, *, shared: bool = False) -> None:
        """Operators: the stream of all events from ``first`` on.

        shared: by pages, through memory that the exchange shares (``take_shared``), once we have caught up and where we
        are on its machine. Nothing wakes us up for what comes that way.
        """
        if shared and self.stream_pages is None:
            self.stream_pages = deque()
        self.stream_next, self._wants_shared = first, shared
        self._ask_for_stream()

    def _miss_stream(self) -> None:
        """A gap: all from where we are once more. What comes until then lies behind the gap too."""
        if self._now() - self._stream_asked_ns >= NUDGE_NS:
            self._ask_for_stream()

    def _ask_for_stream(self) -> None:
        """From where we are."""
        self._shared, self._stream_asked_ns = None, self._now()
        message = p.Subscribe(token=self.token, first=self.stream_next, shared=self._wants_shared)
        self._send(p.encode(message))

    def _on_stream_shared(self, message: p.StreamShared) -> None:
        if self._shared is not None or not self._wants_shared:
            return
        if message.next > self.stream_next and not message.begins:
            self._miss_stream()
            return
        if message.begins:  # what is of an earlier day is gone
            self.stream_next = max(self.stream_next, message.next)
        if self._opened is None or self._opened.mark != message.mark:
            try:
                self._opened = SharedReader(message.path, message.mark, message.place)
            except (OSError, ValueError):  # another machine, or another user
                self._wants_shared = False
                self._ask_for_stream()
                return
        self._opened.go_to(message.place)
        self._shared = self._opened

    def close(self) -> None:
        """Logs out and gives the socket back."""
        if self.socket is not None:
            if self.token:
                self._send(p.encode(p.Logout(token=self.token)))
            self.socket.close(200)
            self.socket = None
        self.state = ClientState.DOWN


assert EVENT.itemsize == RECORD_BYTES
