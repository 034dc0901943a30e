"""Requests: frames of COMMAND records, checked one by one, on their way into the sequence.

Token, connection, key, role, throttle and ``request_no`` of each; a repeated request gets its original outcome (D4).
The hot lane's machine code (gateway.hot) takes what is plainly right without coming here.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import msgspec
import numpy as np

from engine import messages
from engine.codes import Code
from engine.records import CANCEL, COMMAND, MASS_CANCEL, MESSAGE, RECORD_BYTES, REDUCE
from gateway import protocol as p
from gateway.roles import ROLES
from gateway.roster import REVOKED
from gateway.sending import Sending
from gateway.sequence import ALONE
from gateway.session import NS_PER_MS, Bucket, Event, Session, State
from gateway.zap import OPERATORS

PROPOSALS_MAX: Final = 100  # a desk of a few people: more than that open is a mistake
_RECORD: Final = struct.Struct("<qqqqQQIIHHBBBB")
_RISK_DOWN: Final = frozenset({CANCEL, REDUCE, MASS_CANCEL})


class Requests(Sending):
    """Commands of sessions."""

    def _find(self, plane: str, route: bytes, user: str, token: int) -> Session | None:
        """The session of a token, where connection and key are the ones that it was given to."""
        session = self.tokens.get(token)
        if session is None or session.route != route or (user and session.key != user):
            return None
        if ROLES[session.role].operator_plane != (plane == OPERATORS):
            return None
        key = self.keys.by_public.get(session.key)
        if key is None or not key.valid_at(self.clock.now()):
            self._transit(session, Event.END, Code.NOT_AUTHORISED, REVOKED)
            return None
        session.last_heard_ns = self.mono_ns
        if session.state is State.LOST:
            self._transit(session, Event.MESSAGE)
            self.dirty.add(session.number)
        return session

    def _reject(self, plane: str, route: bytes, message: p.SessionReject) -> None:
        """A reject to a connection that is no session's: lost where its socket is full."""
        self._count_reject(message)
        self.send(plane, route, p.encode(message))

    def _refuse(self, session: Session, message: p.SessionReject) -> None:
        """A reject to a session."""
        self._count_reject(message)
        self._answer(session, p.encode(message))

    def _count_reject(self, message: p.SessionReject) -> None:
        self.counters.session_rejects += 1
        self.counters.session_codes[message.code & 0xFF] += 1

    def _unreadable(self, plane: str, route: bytes, code: Code, text: str) -> None:
        """A frame that does not even say whose it is."""
        self.counters.malformed += 1
        self._reject(plane, route, p.reject(code, text=text))

    def _malformed(self, session: Session, code: Code, text: str, request_no: int = 0, **more: int) -> None:
        self.counters.malformed += 1
        self._refuse(session, p.reject(code, request_no, text=text, **more))
        session.malformed += 1
        if session.malformed >= self.config.malformed_before_logout and session.logged_in:
            self._transit(session, Event.END, code, "too many messages that cannot be read")

    def _records(self, plane: str, route: bytes, user: str, frame: bytes | memoryview, size: int) -> None:
        if size < RECORD_BYTES:
            self._unreadable(plane, route, Code.MALFORMED, f"{size} bytes are no record")
            return
        head = _RECORD.unpack_from(frame)
        session = self._find(plane, route, user, head[5])
        if session is None:
            self._reject(plane, route, p.reject(Code.NOT_LOGGED_IN, head[6]))
            return
        is_message = head[10] == MESSAGE
        if is_message:
            if head[3] != size - RECORD_BYTES:
                self._malformed(session, Code.MALFORMED, "quantity is not the payload's length")
                return
        elif size % RECORD_BYTES:
            self._malformed(session, Code.MALFORMED, "not a whole number of records")
            return
        count = 1 if is_message else size // RECORD_BYTES
        # new business behind a cancel in one frame is new business
        down = head[10] in _RISK_DOWN and (count == 1 or _RISK_DOWN.issuperset(frame[60::RECORD_BYTES]))
        bucket = session.cancels if down else session.orders
        assert bucket is not None, "a logged-in session has its buckets"
        if count > bucket.burst:  # however long it waited, it would be told to wait again
            text = f"{count} records in a frame; {bucket.burst} may come at once"
            more = {"count": count, "expected": session.next_request}
            self._malformed(session, Code.TOO_LARGE, text, head[6], **more)
            return
        if self._throttled(session, head[6], count, bucket):
            return
        if self.batch.room() < count:
            self.flush()
        if is_message:
            self._message(session, head, frame)
        elif count == 1:
            self._one(session, head, frame)
        else:
            self._many(session, frame, count)

    def _throttled(self, session: Session, request_no: int, count: int, bucket: Bucket | None) -> bool:
        """True where it was too much, and refused. Who waits as long as it was told is never logged out for it."""
        assert bucket is not None, "a logged-in session has its buckets"
        wait_ms = bucket.take(count, self.mono_ns)
        if not wait_ms:
            return False
        self.counters.throttled += 1
        session.throttled += 1
        session.hasty = session.hasty + 1 if self.mono_ns < session.retry_at_ns else 1
        session.retry_at_ns = self.mono_ns + wait_ms * NS_PER_MS
        self._refuse(
            session,
            p.reject(Code.THROTTLED, request_no, count=count, expected=session.next_request, retry_after_ms=wait_ms),
        )
        if session.hasty >= self.config.throttled_before_logout and session.logged_in:
            limit = self.config.orders_per_second
            text = f"too many messages, {session.hasty} times without waiting; the limit is {limit} a second"
            self._transit(session, Event.END, Code.THROTTLED, text)
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

    def _one(self, session: Session, head: tuple[int, ...], record: bytes | memoryview) -> bool:
        """One record of the listed market. False when it was refused by the session layer."""
        code = self._check(session, head)
        if code == Code.OK and head[10] == MESSAGE:
            code = Code.MALFORMED  # a payload cannot stand inside a frame of several records
        if code != Code.OK:
            self._refuse(session, p.reject(code, head[6], expected=session.next_request))
            return False
        if head[6] < session.next_request:
            self._repeat(session, head[6], record, b"")
            return True
        self.batch.add(record, session.account, session.number)
        session.next_request += 1
        return True

    def _many(self, session: Session, frame: bytes | memoryview, count: int) -> None:
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
                self._refuse(session, message)
                return
            if not self._one(session, head, record):
                return

    def _message(self, session: Session, head: tuple[int, ...], frame: bytes | memoryview) -> None:
        """One slow-lane command: decoded and checked against the role here, carried out by the engine."""
        code = self._check(session, head)
        if code != Code.OK:
            self._refuse(session, p.reject(code, head[6], expected=session.next_request))
            return
        try:
            message = messages.decode(bytes(frame[RECORD_BYTES:]))
        except p.DECODE_ERRORS as error:
            self._malformed(session, Code.MALFORMED, str(error)[:200])
            return
        if type(message) not in ROLES[session.role].messages:
            text = f"{session.role} may not send {message.__struct_config__.tag}"
            reject = p.reject(Code.ROLE_NOT_ALLOWED, head[6], text=text, expected=session.next_request)
            self._refuse(session, reject)
            return
        message = self._sign(session, message)
        payload = messages.encode(message)
        if head[6] < session.next_request:
            self._repeat(session, head[6], _with_quantity(frame, len(payload)), payload)
            return
        second = getattr(message, "second", "")
        if second and ROLES[session.role].operator_plane:
            self._propose(session, head[6], second, message)
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

    def _propose(self, session: Session, request_no: int, second: str, message: Any) -> None:
        """A command of two persons waits until the second one confirms it with a key of their own."""
        if not self._may_confirm(session, second):
            text = f"second: {second!r} is not the key of another operator"
            self._refuse(session, p.reject(Code.NOT_AUTHORISED, request_no, text=text, expected=session.next_request))
            return
        waiting = (second, message)
        number = next((n for n, other in self.proposals.items() if other == waiting), 0)
        if not number:  # else it was sent again, its answer having been lost
            number = max(self.proposals, default=0) + 1
            if len(self.proposals) >= PROPOSALS_MAX:
                self.proposals.pop(min(self.proposals))
            self.proposals[number] = waiting
        text = f"proposal {number} waits for {second}"
        reject = p.reject(Code.TWO_PERSONS_REQUIRED, request_no, text=text, expected=session.next_request)
        self._refuse(session, reject)

    def _may_confirm(self, session: Session, second: str) -> bool:
        """Whether that is the key of another person who may confirm commands."""
        return any(
            key.name == second and key.public != session.key and p.Confirm in ROLES[key.role].controls
            for key in self.keys.keys
        )

    def _repeat(self, session: Session, request_no: int, record: bytes | memoryview, payload: bytes) -> None:
        """A request_no that was used: the original outcome again, or a mismatch (D4)."""
        self.flush()
        seq = self.log.seq_of(session.number, request_no)
        if not seq or not self.log.same(seq, record, payload):
            text = "" if seq else "the request is of an earlier day"
            reject = p.reject(Code.REQUEST_MISMATCH, request_no, text=text, expected=session.next_request)
            self._refuse(session, reject)
            return
        first, end = self.store.of_seq(session.number, seq)
        for no in range(first, end, p.REPORTS_PER_FRAME):
            events, payloads = self.store.page(session.number, no, end - 1)
            frame = p.encode_reports(events, payloads, no, flags=p.REPEATED | p.POSSIBLE_DUPLICATE)
            self._answer(session, frame)


def _with_quantity(frame: bytes | memoryview, quantity: int) -> bytes:
    """The message's record as it was journaled: its payload was encoded anew."""
    record = bytearray(frame[:RECORD_BYTES])
    struct.pack_into("<q", record, 24, quantity)
    return bytes(record)
