"""What goes over the wire besides the fixed records: control messages and the header of a report frame.

Every message is one ZeroMQ frame of at most :data:`FRAME_BYTES_MAX` bytes. Its first byte says what it is:

- ``0x00``, client to exchange: COMMAND records (a record's ``seq`` is zero, so its first byte is). Either
  1 … 1,024 records of the listed market, or one record of kind MESSAGE with its MessagePack payload behind it.
- ``0x01`` / ``0x02``, exchange to client: a report frame, of a session or of the operators' event stream.
- a MessagePack map: one of the control messages below, with its type in key ``t``.

REPORT frame::

      0      1      2       4               8               16              24            32
      +------+------+-------+---------------+---------------+---------------+-------------+
      |magic |flags | count | payload_bytes |  first_no u64 | received_ns   |  sent_ns    |
      +------+------+-------+---------------+---------------+---------------+-------------+
      | count x EVENT (64 bytes each)                                                     |
      +-----------------------------------------------------------------------------------+
      | payloads of the NOTICE events, in order, without separators                       |
      +-----------------------------------------------------------------------------------+

Reports are numbered by position: the first EVENT bears ``first_no``, the next one ``first_no + 1``. All times
are int64 ns UTC: received and sent are the gateway's (0 when a frame repeats old reports), sequenced is the
event's own. Times outside the events are outside all hashes (D2).
"""

from __future__ import annotations

import struct
from typing import Annotated, Any, Final, Union

import msgspec
import numpy as np

from engine.codes import TEXT_EN, Code
from engine.message_types import PAYLOAD_MAX_BYTES
from engine.records import EVENT, MESSAGE, NOTICE, RECORD_BYTES

PROTOCOL_VERSION: Final = 1

# 1,024 records: a frame is at most 64 KiB, which is what one peer can make us hold per frame (MAXMSGSIZE).
FRAME_RECORDS_MAX: Final = 1_024
FRAME_BYTES_MAX: Final = FRAME_RECORDS_MAX * RECORD_BYTES
assert RECORD_BYTES + PAYLOAD_MAX_BYTES <= FRAME_BYTES_MAX

CONTROL_BYTES_MAX: Final = 4_096  # the longest control message is a login with its software text

ROUTING_ID_BYTES: Final = 16  # random, so that nobody can guess and take over another's return path

# Report frames hold at most this many events, 32 KiB: libzmq makes two system calls for each large message, whatever
# its size; and one slow reader holds little in socket buffers.
REPORTS_PER_FRAME: Final = 512
# Frames of the operators' stream of all events are larger: there are few who read it, and all of the day's events.
STREAM_PER_FRAME: Final = 1_024

REPORTS_MAGIC: Final = 1
STREAM_MAGIC: Final = 2

POSSIBLE_DUPLICATE: Final = 1  # these reports may have been sent before
CAUGHT_UP: Final = 2  # nothing is left to send after this frame: every command in it is complete
REPEATED: Final = 4  # the original outcome of a repeated request_no, outside the numbering's advance

BEGINS: Final = 8  # the first stream frame after a subscription: what was asked for before it is gone (an earlier day)

HEADER: Final = struct.Struct("<BBHIQqq")
HEADER_BYTES: Final = HEADER.size
assert HEADER_BYTES == 32

HEARTBEAT_MS: Final = 5_000  # D9
HEARTBEATS_LOST: Final = 3

Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 62))]
Millis = Annotated[int, msgspec.Meta(ge=-1, le=86_400_000)]
Token = int  # an unsigned 64-bit number; msgspec has no bounds beyond int64
Words = Annotated[str, msgspec.Meta(max_length=200)]


class Control(msgspec.Struct, frozen=True, tag_field="t", forbid_unknown_fields=True, kw_only=True):
    """Base of all control messages."""


# --- client to exchange ----------------------------------------------------------------------------------


class Login(Control, tag="login"):
    """Opens the session that belongs to the key.

    ``last_report``: the last one the client has. ``resume``: ``restart`` sends all of the day again,
    ``resume`` what follows ``last_report``, ``quick`` nothing old. ``cancel_on_disconnect_ms``: -1 off (D8).
    ``account`` and ``session``, where given, must be the key's. ``claim``: the public key, where the
    connection is not CURVE (loopback only). ``instance`` and ``attempt``: a random number of the client and its
    count of logins, so that a login of a connection that it has given up, arriving late, cannot take over.
    """

    version: int
    session: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    account: Number | None = None
    software: Words = ""
    last_report: Number = 0
    resume: str = "restart"
    heartbeat_ms: Annotated[int, msgspec.Meta(ge=100, le=60_000)] = HEARTBEAT_MS
    cancel_on_disconnect_ms: Millis = -1
    claim: Annotated[str, msgspec.Meta(max_length=40)] = ""
    instance: Number = 0
    attempt: Number = 0


class Logout(Control, tag="logout"):
    """Ends the session; open orders stay unless cancel-on-disconnect was chosen."""

    token: Token


class Heartbeat(Control, tag="heartbeat"):
    """Either way, at least once per interval (D9). ``last_report``: what the sender has, or has made.

    ``time_ns``: exchange time where the exchange sends it; a client that gives it back lets operators see how long the
    way to it is.
    """

    token: Token = 0
    last_report: Number = 0
    time_ns: int = 0


class Retransmit(Control, tag="retransmit"):
    """Asks for reports ``first`` … ``last`` again; they come flagged as possible duplicates, then ResyncDone."""

    token: Token
    first: Annotated[int, msgspec.Meta(ge=1)]
    last: Number


class DeadMan(Control, tag="dead_man"):
    """Arms (or with -1 disarms) the switch: not re-armed within ``within_ms``, the session's orders are cancelled."""

    token: Token
    within_ms: Millis


class Kill(Control, tag="kill"):
    """The member's own kill switch: cancels all of the account's orders and leaves it cancel-only."""

    token: Token
    why: Words = ""


class Query(Control, tag="query"):
    """Asks for what is not an event: open orders, balances, status, book … ``id`` comes back in the answer."""

    token: Token
    id: Number
    what: Annotated[str, msgspec.Meta(max_length=40)]
    args: dict[str, Any] = {}


class Subscribe(Control, tag="subscribe"):
    """Operators: the stream of all events from number ``first`` on (1: all of the day); 0 ends it.

    ``shared``: who has caught up may be told to read on in shared memory (stream_shared), on the exchange's machine.
    """

    token: Token
    first: Number
    shared: bool = False


class StepClock(Control, tag="step_clock"):
    """Operators, stepped clock only (D3): moves exchange time forward; what falls due on the way is done first."""

    token: Token
    id: Number
    time_ns: Number


class Confirm(Control, tag="confirm"):
    """The second person's confirmation of a proposed operator command."""

    token: Token
    proposal: Number


# --- exchange to client ----------------------------------------------------------------------------------


class Instrument(msgspec.Struct, frozen=True, array_like=True):
    """An instrument's number in records, its code, and today's limits (fen)."""

    index: int
    code: str
    reference: int
    limit_low: int
    limit_high: int


class LoginAccepted(Control, tag="login_accepted"):
    """``next_report`` and ``next_request`` are what comes next; ``first_report`` the oldest that can be sent again."""

    version: int
    session: int
    account: int
    role: str
    token: int
    epoch: int
    first_report: int
    next_report: int
    next_request: int
    heartbeat_ms: int
    heartbeats_lost: int
    cancel_on_disconnect_ms: int
    orders_per_second: int
    frame_records_max: int
    payload_bytes_max: int
    phase: str
    date: int
    time_ns: int
    instruments: tuple[Instrument, ...]


class LoginRejected(Control, tag="login_rejected"):
    """``next_report`` helps where the client is ahead of the exchange (D6)."""

    code: int
    text: str
    version: int = PROTOCOL_VERSION
    next_report: int = 0


class LoggedOut(Control, tag="logged_out"):
    """The exchange ended the session: taken over, throttled, revoked, shutting down."""

    code: int
    text: str


class SessionReject(Control, tag="session_reject"):
    """Refused by the session layer (D4): not journaled, no number consumed.

    ``request_no`` … and the ``count`` - 1 records behind it in the frame were not applied. ``expected``: the
    request_no that comes next. ``retry_after_ms``: with THROTTLED.
    """

    request_no: int
    code: int
    text: str
    count: int = 1
    expected: int = 0
    retry_after_ms: int = 0


class ResyncDone(Control, tag="resync_done"):
    """Everything up to report ``next_report`` - 1 was sent; a request without a report was not executed."""

    next_report: int
    next_request: int
    seq: int


class Answer(Control, tag="answer"):
    """To a Query or StepClock; complete up to journal sequence ``seq``. ``code`` other than 0 refuses it."""

    id: int
    seq: int
    code: int = 0
    text: str = ""
    data: Any = None


class StreamShared(Control, tag="stream_shared"):
    """To a ``shared`` subscription: from event ``next`` on the stream is in the file ``path``, from ``place`` on.

    Its frames are no longer sent; this is, once a second. Who cannot open it, finds another ``mark`` there, or is
    lapped, subscribes anew. ``begins``: nothing was sent since the subscription, what was asked for before it is gone.
    """

    path: str
    mark: str
    place: int
    next: int
    begins: bool


class EndOfDay(Control, tag="end_of_day"):
    """Once, behind the reports of a closed day: the session's last one and XXH3-128 over all of them."""

    date: int
    last_report: int
    digest: str


CLIENT_MESSAGES = (Login, Logout, Heartbeat, Retransmit, DeadMan, Kill, Query, Subscribe, StepClock, Confirm)
EXCHANGE_MESSAGES = (
    LoginAccepted,
    LoginRejected,
    LoggedOut,
    SessionReject,
    ResyncDone,
    Heartbeat,
    Answer,
    StreamShared,
    EndOfDay,
)

_encoder = msgspec.msgpack.Encoder()
_from_client: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Union[CLIENT_MESSAGES])  # type: ignore[valid-type]
_exchange_union: Any = Union[EXCHANGE_MESSAGES]
_from_exchange: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(_exchange_union)

# msgspec lets bad UTF-8 out as UnicodeDecodeError, a huge extension number as OverflowError, and deep nesting
# as RecursionError; each is the sender's fault and nothing else.
DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError)


def encode(message: Control) -> bytes:
    """MessagePack bytes of a control message."""
    return _encoder.encode(message)


def checked(message: Control) -> Control:
    """A client's message as it is. Raises ValueError where the exchange would refuse a field, with its name and why."""
    try:
        _from_client.decode(_encoder.encode(message))
    except (*DECODE_ERRORS, TypeError) as error:
        raise ValueError(f"{message.__struct_config__.tag}: {error}") from None
    return message


def decode_from_client(frame: bytes | memoryview) -> Any:
    """A control message of a client; one of :data:`DECODE_ERRORS` where it is none."""
    return _from_client.decode(frame)


def decode_from_exchange(frame: bytes | memoryview) -> Any:
    """A control message of the exchange."""
    return _from_exchange.decode(frame)


def is_map(first_byte: int) -> bool:
    """True where a frame starts as a MessagePack map does."""
    return 0x80 <= first_byte <= 0x8F or first_byte in (0xDE, 0xDF)


class Reports(msgspec.Struct, frozen=True):
    """A decoded report frame: events EVENT[n]; payloads of its notices in order."""

    magic: int
    flags: int
    first_no: int
    received_ns: int
    sent_ns: int
    events: np.ndarray
    payloads: bytes | memoryview


def encode_reports(events: np.ndarray, payloads: bytes, first_no: int, **head: int) -> bytes:
    """One report frame. events: EVENT[1 … REPORTS_PER_FRAME], contiguous; head: as :func:`report_head`."""
    return b"".join((report_head(events, payloads, first_no, **head), events.tobytes(), payloads))


def report_head(
    events: np.ndarray,
    payloads: bytes,
    first_no: int,
    *,
    flags: int = 0,
    magic: int = REPORTS_MAGIC,
    received_ns: int = 0,
    sent_ns: int = 0,
) -> bytes:
    """The header alone of a report frame; events and payloads follow it."""
    return HEADER.pack(magic, flags, len(events), len(payloads), first_no, received_ns, sent_ns)


def decode_reports(frame: bytes | memoryview) -> Reports:
    """A report frame; ValueError where it is none."""
    if len(frame) < HEADER_BYTES:
        raise ValueError(f"report frame of {len(frame)} bytes")
    magic, flags, count, payload_bytes, first_no, received_ns, sent_ns = HEADER.unpack_from(frame)
    end = HEADER_BYTES + count * RECORD_BYTES
    if magic not in (REPORTS_MAGIC, STREAM_MAGIC) or end + payload_bytes != len(frame):
        raise ValueError(f"report frame of {len(frame)} bytes: magic {magic}, {count} events, {payload_bytes} payload")
    events = np.frombuffer(frame, EVENT, count, HEADER_BYTES)
    # nearly every page of a busy market has no notice: a look for an octet costs a sixth of summing up
    some = payload_bytes or NOTICE in events["kind"].tobytes()
    if some and int(events["quantity"][events["kind"] == NOTICE].sum()) != payload_bytes:
        raise ValueError("report frame: payload lengths do not add up")
    return Reports(magic, flags, first_no, received_ns, sent_ns, events, frame[end:])


def reject(code: Code, request_no: int = 0, *, text: str = "", **more: int) -> SessionReject:
    """A SessionReject with the code's own text, and more where it helps."""
    full = TEXT_EN[code] + (f": {text}" if text else "")
    return SessionReject(request_no=request_no, code=int(code), text=full, **more)


assert MESSAGE > 0  # a record's first byte (seq) is zero, a map's is not, whatever the kind
