"""The member session: its states and everything about its transitions. No I/O, no clock.

The two sides are two tables, ``(state, event) → (state, actions)``, in one file, because each is only right
together with the other. Reliability is asymmetric, as in SoupBinTCP and OUCH: reports are numbered and can be
sent again, requests bear a strictly rising ``request_no`` and are idempotent. The contract: *after
ResyncDone, a request without a report was not executed*.

An event that has no entry in a table is not possible in that state; :func:`step` asserts so.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import Final

import numpy as np

from engine.codes import Code
from gateway.hot import FILL_UNIT, KEY_WORDS, REFILL_NS_MAX

NS_PER_MS: Final = 1_000_000


class State(Enum):
    """The exchange's view of a session."""

    OUT = auto()  # nobody is logged in
    RESYNC = auto()  # logged in; old reports are being sent
    ACTIVE = auto()  # logged in; reports go out as they arise
    LOST = auto()  # logged in, but silent for too long: nothing is sent until it speaks


class Event(Enum):
    """What can happen to it."""

    LOGIN = auto()  # a valid login of the session's key
    MESSAGE = auto()  # any valid message with the session's token
    SENT = auto()  # the last old report has been sent, and that it was the last
    AGAIN = auto()  # the client asked for old reports again
    SILENCE = auto()  # nothing heard for heartbeat × heartbeats_lost
    LOGOUT = auto()  # the client's own logout
    END = auto()  # the exchange ends it: throttle, malformed, revoked key, shutdown
    DUE = auto()  # the time of cancel-on-disconnect is over


class Action(Enum):
    """What the exchange does about it, in this order."""

    TELL_OLD = auto()  # LoggedOut to the connection that is replaced
    ACCEPT = auto()  # LoginAccepted, a new token
    RESEND = auto()  # cursor back to where the client wants it
    RESYNC_DONE = auto()  # taken by the socket before the transition: a full one holds back both
    ARM = auto()  # start the time of cancel-on-disconnect, where it was chosen
    DISARM = auto()
    TELL = auto()  # LoggedOut with the reason
    CLOSE = auto()  # the token is void
    CANCEL = auto()  # CancelOrders of the session enters the sequence


S, E, A = State, Event, Action

EXCHANGE: Final[dict[tuple[State, Event], tuple[State, tuple[Action, ...]]]] = {
    (S.OUT, E.LOGIN): (S.RESYNC, (A.DISARM, A.ACCEPT, A.RESEND)),
    (S.OUT, E.DUE): (S.OUT, (A.DISARM, A.CANCEL)),
    (S.RESYNC, E.LOGIN): (S.RESYNC, (A.TELL_OLD, A.DISARM, A.ACCEPT, A.RESEND)),
    (S.RESYNC, E.MESSAGE): (S.RESYNC, ()),
    (S.RESYNC, E.SENT): (S.ACTIVE, (A.RESYNC_DONE,)),
    (S.RESYNC, E.AGAIN): (S.RESYNC, (A.RESEND,)),
    (S.RESYNC, E.SILENCE): (S.LOST, (A.ARM,)),
    (S.RESYNC, E.LOGOUT): (S.OUT, (A.ARM, A.TELL, A.CLOSE)),
    (S.RESYNC, E.END): (S.OUT, (A.ARM, A.TELL, A.CLOSE)),
    (S.ACTIVE, E.LOGIN): (S.RESYNC, (A.TELL_OLD, A.DISARM, A.ACCEPT, A.RESEND)),
    (S.ACTIVE, E.MESSAGE): (S.ACTIVE, ()),
    (S.ACTIVE, E.AGAIN): (S.RESYNC, (A.RESEND,)),
    (S.ACTIVE, E.SILENCE): (S.LOST, (A.ARM,)),
    (S.ACTIVE, E.LOGOUT): (S.OUT, (A.ARM, A.TELL, A.CLOSE)),
    (S.ACTIVE, E.END): (S.OUT, (A.ARM, A.TELL, A.CLOSE)),
    (S.LOST, E.LOGIN): (S.RESYNC, (A.TELL_OLD, A.DISARM, A.ACCEPT, A.RESEND)),
    (S.LOST, E.MESSAGE): (S.RESYNC, (A.DISARM,)),
    (S.LOST, E.AGAIN): (S.RESYNC, (A.DISARM, A.RESEND)),
    (S.LOST, E.LOGOUT): (S.OUT, (A.TELL, A.CLOSE)),
    (S.LOST, E.END): (S.OUT, (A.TELL, A.CLOSE)),
    (S.LOST, E.DUE): (S.LOST, (A.DISARM, A.CANCEL)),
}


class ClientState(Enum):
    """The client's view of its session."""

    DOWN = auto()  # no connection
    LOGGING_IN = auto()
    RESYNC = auto()  # logged in; old reports are arriving
    ACTIVE = auto()
    HELD = auto()  # the exchange has fewer reports than we have: only the operator can help (D6)
    REFUSED = auto()  # the login was refused for good


class ClientEvent(Enum):
    """What can happen to it."""

    CONNECT = auto()  # a new socket stands
    ACCEPTED = auto()
    REJECTED = auto()
    AHEAD = auto()  # LoginRejected AHEAD_OF_EXCHANGE
    REPORT = auto()
    DONE = auto()  # ResyncDone
    GAP = auto()  # a report number is missing: ask again
    SILENCE = auto()  # nothing heard for too long
    NOT_LOGGED_IN = auto()  # the exchange does not know our token: it has restarted, or took us out
    LOGGED_OUT = auto()  # the exchange ended the session and said why


class ClientAction(Enum):
    """What the client does about it."""

    LOGIN = auto()
    TAKE = auto()  # keep token and numbers
    APPLY = auto()  # the report's content
    SETTLE = auto()  # pending requests without a report were not executed: send them again
    ASK = auto()  # Retransmit from the first missing number
    RECONNECT = auto()  # drop the socket, make a new one
    RAISE = auto()


C, V, B = ClientState, ClientEvent, ClientAction

CLIENT: Final[dict[tuple[ClientState, ClientEvent], tuple[ClientState, tuple[ClientAction, ...]]]] = {
    (C.DOWN, V.CONNECT): (C.LOGGING_IN, (B.LOGIN,)),
    (C.LOGGING_IN, V.ACCEPTED): (C.RESYNC, (B.TAKE,)),
    (C.LOGGING_IN, V.REJECTED): (C.REFUSED, (B.RAISE,)),
    (C.LOGGING_IN, V.AHEAD): (C.HELD, (B.RAISE,)),
    (C.LOGGING_IN, V.SILENCE): (C.DOWN, (B.RECONNECT,)),
    (C.LOGGING_IN, V.NOT_LOGGED_IN): (C.LOGGING_IN, ()),
    (C.LOGGING_IN, V.LOGGED_OUT): (C.LOGGING_IN, ()),
    (C.LOGGING_IN, V.REPORT): (C.LOGGING_IN, ()),
    (C.LOGGING_IN, V.GAP): (C.LOGGING_IN, ()),
    (C.LOGGING_IN, V.DONE): (C.LOGGING_IN, ()),
    (C.RESYNC, V.ACCEPTED): (C.RESYNC, (B.TAKE,)),
    (C.RESYNC, V.REPORT): (C.RESYNC, (B.APPLY,)),
    (C.RESYNC, V.GAP): (C.RESYNC, (B.ASK,)),
    (C.RESYNC, V.DONE): (C.ACTIVE, (B.SETTLE,)),
    (C.RESYNC, V.SILENCE): (C.DOWN, (B.RECONNECT,)),
    (C.RESYNC, V.NOT_LOGGED_IN): (C.LOGGING_IN, (B.LOGIN,)),
    (C.RESYNC, V.LOGGED_OUT): (C.REFUSED, (B.RAISE,)),
    (C.ACTIVE, V.REPORT): (C.ACTIVE, (B.APPLY,)),
    (C.ACTIVE, V.GAP): (C.RESYNC, (B.ASK,)),
    (C.ACTIVE, V.DONE): (C.ACTIVE, (B.SETTLE,)),
    (C.ACTIVE, V.ACCEPTED): (C.RESYNC, (B.TAKE,)),
    (C.ACTIVE, V.SILENCE): (C.DOWN, (B.RECONNECT,)),
    (C.ACTIVE, V.NOT_LOGGED_IN): (C.LOGGING_IN, (B.LOGIN,)),
    (C.ACTIVE, V.LOGGED_OUT): (C.REFUSED, (B.RAISE,)),
}


def step(state: State, event: Event) -> tuple[State, tuple[Action, ...]]:
    """The exchange's next state and actions; asserts that the event is possible."""
    found = EXCHANGE.get((state, event))
    assert found is not None, f"{event} cannot happen in {state}"
    return found


def client_step(state: ClientState, event: ClientEvent) -> tuple[ClientState, tuple[ClientAction, ...]]:
    """The client's next state and actions; asserts that the event is possible."""
    found = CLIENT.get((state, event))
    assert found is not None, f"{event} cannot happen in {state}"
    return found


class Bucket:
    """A token bucket in whole units, on monotonic time (D3). Its two numbers stand in the session's HOT row.

    ``burst``: what it holds at most, so what can be taken at once."""

    __slots__ = ("_fill", "_per_second", "_row", "_time", "burst")

    def __init__(self, row: np.void, name: str, per_second: int, burst: int, now_ns: int) -> None:
        self._row, self._fill, self._time = row, f"{name}_fill", f"{name}_time_ns"
        self._per_second, self.burst = per_second, burst
        row[self._fill], row[self._time] = burst * FILL_UNIT, now_ns

    def take(self, count: int, now_ns: int) -> int:
        """0 when ``count`` was taken, else milliseconds until it can be."""
        passed_ns = min(max(0, now_ns - int(self._row[self._time])), REFILL_NS_MAX)
        fill = min(int(self._row[self._fill]) + passed_ns * self._per_second, self.burst * FILL_UNIT)
        missing = count * FILL_UNIT - fill
        if missing <= 0:
            fill -= count * FILL_UNIT
        self._row[self._fill], self._row[self._time] = fill, now_ns
        return 0 if missing <= 0 else max(1, -(-missing // (self._per_second * NS_PER_MS)))


class Way(Enum):
    """How a session gets the stream of all events."""

    SENT = auto()
    ASKED = auto()  # sent; it would read shared memory once it has caught up
    SHARED = auto()


class Session:
    """One session on the exchange's side: everything that is not in the journal.

    What machine code needs of it stands in ``row``, its row of the HOT table (gateway.hot).
    """

    __slots__ = (
        "account",
        "again_end",
        "again_no",
        "answers",
        "behind_since_ns",
        "cancel_due_ns",
        "cancel_ms",
        "cancels",
        "dead_man_due_ns",
        "dead_man_ms",
        "ended_date",
        "hasty",
        "heartbeat_ns",
        "key",
        "login",
        "malformed",
        "number",
        "old_until",
        "orders",
        "retry_at_ns",
        "role",
        "route",
        "row",
        "state",
        "stream_begins",
        "stream_cursor",
        "stream_way",
        "throttled",
        "token",
    )

    def __init__(self, number: int, account: int, role: str, row: np.void) -> None:
        self.number, self.account, self.role, self.row = number, account, role, row
        self.state = State.OUT
        self.key = ""  # public key of who is logged in, or was last
        self.route = b""
        self.token = 0
        self.old_until = 0  # reports below this number may have been sent before
        self.again_no = self.again_end = 0  # reports again_no … again_end - 1 were asked for again
        # what its socket did not take: the number of the report that comes behind it, the frame
        self.answers: deque[tuple[int, bytes]] = deque()
        self.ended_date = 0  # the day (yyyymmdd) whose EndOfDay it was told
        self.login = (0, 0)  # instance and attempt of the client that is logged in
        self.stream_way, self.stream_begins = Way.SENT, False  # nothing sent since the subscription
        self.stream_cursor = 0  # operators: next event number to send, 0 without a subscription
        self.heartbeat_ns = 0
        self.cancel_ms = -1
        self.cancel_due_ns = 0
        self.dead_man_ms = -1
        self.dead_man_due_ns = 0
        self.behind_since_ns = 0  # since when its socket has taken nothing
        self.throttled = self.malformed = 0
        # throttled messages one after another that did not wait for the time that the one before was told
        self.hasty = self.retry_at_ns = 0
        self.orders: Bucket | None = None
        self.cancels: Bucket | None = None
        self.next_request = self.cursor = 1

    @property
    def logged_in(self) -> bool:
        """True while the token is good."""
        return self.state is not State.OUT

    @property
    def next_request(self) -> int:
        """What the sequencer expects: the engine's last_request + 1, plus what is in the batch."""
        return int(self.row["next_request"])

    @next_request.setter
    def next_request(self, value: int) -> None:
        self.row["next_request"] = value

    @property
    def cursor(self) -> int:
        """Number of the next report to send."""
        return int(self.row["cursor"])

    @cursor.setter
    def cursor(self, value: int) -> None:
        self.row["cursor"] = value

    @property
    def last_heard_ns(self) -> int:
        """Monotonic time of its last valid message."""
        return int(self.row["last_heard_ns"])

    @last_heard_ns.setter
    def last_heard_ns(self, value: int) -> None:
        self.row["last_heard_ns"] = value

    @property
    def last_sent_ns(self) -> int:
        """Monotonic time of what was last sent to it."""
        return int(self.row["last_sent_ns"])

    @last_sent_ns.setter
    def last_sent_ns(self, value: int) -> None:
        self.row["last_sent_ns"] = value

    @property
    def ping_ns(self) -> int:
        """Monotonic time of the last heartbeat to it."""
        return int(self.row["ping_ns"])

    @ping_ns.setter
    def ping_ns(self, value: int) -> None:
        self.row["ping_ns"] = value

    @property
    def ping_time_ns(self) -> int:
        """The exchange time that the last heartbeat to it bears; 0 once it came back."""
        return int(self.row["ping_time_ns"])

    @ping_time_ns.setter
    def ping_time_ns(self, value: int) -> None:
        self.row["ping_time_ns"] = value

    @property
    def round_trip_ns(self) -> int:
        """Until the client gave the heartbeat back; 0: not known."""
        return int(self.row["round_trip_ns"])

    @round_trip_ns.setter
    def round_trip_ns(self, value: int) -> None:
        self.row["round_trip_ns"] = value

    def refresh(self, kinds: int, *, members: bool) -> None:
        """Writes into the row what machine code may do for this session in its present state."""
        row = self.row
        row["token"], row["account"], row["kinds"], row["members"] = self.token, self.account, kinds, members
        route = self.route.ljust(16, b"\0")[:16]
        key = self.key.encode("ascii", "replace").ljust(40, b"\0")
        for i, name in enumerate(KEY_WORDS):
            row[name] = int.from_bytes(key[8 * i : 8 * i + 8], "little")
        row["route_low"], row["route_high"] = int.from_bytes(route[:8], "little"), int.from_bytes(route[8:], "little")
        live = self.state in (State.RESYNC, State.ACTIVE)
        row["heartbeat_ns"] = self.heartbeat_ns if live else 0
        row["timed"] = bool(self.cancel_due_ns or self.dead_man_ms >= 0 or self.behind_since_ns)
        row["takes"] = self.token != 0 and live
        row["sends"] = self.state is State.ACTIVE and not self.stream_cursor and not self.behind_since_ns


# Codes with which a client does not try again by itself.
FINAL_LOGIN_CODES: Final = frozenset(
    {
        Code.WRONG_VERSION,
        Code.WRONG_ACCOUNT,
        Code.SESSION_IN_USE,
        Code.ROLE_NOT_ALLOWED,
        Code.NOT_AUTHORISED,
        Code.SESSIONS_FULL,
        Code.MALFORMED,
    }
)
