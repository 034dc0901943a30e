"""The sessions of an exchange: whose they are, who is logged in, where an account's reports go.

A session is a row of a table and a state (gateway.session); this layer carries out what a transition asks for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from engine import messages
from engine.codes import TEXT_EN, Code, Reason
from engine.exchange import Exchange
from gateway import protocol as p
from gateway.batch import CommandLog
from gateway.clock import Clock
from gateway.config import Market
from gateway.hot import HOT
from gateway.keys import Key, KeyTable
from gateway.market_data import Publisher
from gateway.reports import ReportStore
from gateway.roles import ROLES, kinds_mask
from gateway.sequence import JournalPort, Sequence
from gateway.session import NS_PER_MS, Action, Event, Session, step
from gateway.shared_stream import SharedStream
from gateway.zap import MEMBERS, OPERATORS

log = logging.getLogger(__name__)

REVOKED: Final = "the key is revoked or changed, or its time is over"
Send = Callable[[str, bytes, bytes], bool]  # plane, routing id, frame → False when the peer takes no more


class Roster(Sequence):
    """Keys, sessions and tokens above the sequence."""

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
        super().__init__(exchange, journal, clock, publisher, store, command_log)
        self.market, self.config = market, market.config.gateway
        self.keys, self.epoch = keys, epoch
        self.send = send
        self.hot = np.zeros(1 << 16, HOT)
        self.sessions: dict[int, Session] = {}
        self._numbers = np.zeros(1 << 16, np.uint16)  # theirs, for machine code
        self.tokens: dict[int, Session] = {}
        self.dirty: set[int] = set()  # sessions that have not yet got all their reports
        self.streaming: set[int] = set()  # sessions with a subscription to all events
        self._shared_told_ns = 0
        self._share_again_ns = 0  # who reads shared memory has enough to read until then
        self.shared: SharedStream | None = None  # where readers on this machine find it, once they have caught up
        self.proposals: dict[int, tuple[str, Any]] = {}  # commands of two persons: whose turn it is, what
        self.alarms: list[str] = []
        self._login_route = b""
        # what the report store was last told: keys, open sessions, their accounts
        self._routed: tuple[KeyTable | None, np.ndarray, np.ndarray] = None, np.zeros(0), np.zeros(0)
        self.update_routing()

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
                self._transit(session, Event.END, Code.NOT_AUTHORISED, REVOKED)

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
        plane = self._plane(session)
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
                session.answers.clear()
                self.streaming.discard(session.number)
                session.dead_man_ms = -1
            elif action is Action.ARM:
                if session.cancel_ms >= 0:
                    session.cancel_due_ns = self.mono_ns + session.cancel_ms * NS_PER_MS
            elif action is Action.DISARM:
                session.cancel_due_ns = 0
            elif action is Action.CANCEL:
                self.cancel_session(session, "cancel on disconnect")
        self._refresh(session)

    def _plane(self, session: Session) -> str:
        """Where its connection is."""
        return OPERATORS if ROLES[session.role].operator_plane else MEMBERS

    def _refresh(self, session: Session) -> None:
        """After any change of what machine code may do for a session."""
        role = ROLES[session.role]
        session.refresh(kinds_mask(role), members=not role.operator_plane)

    def cancel_session(self, session: Session, why: str) -> None:
        """Cancels a session's listed orders as a journaled command (D8)."""
        self.source(messages.CancelOrders(session=session.number, reason=int(Reason.DISCONNECT), by="gateway", why=why))

    def alarm(self, text: str) -> None:
        """Something that an operator must see."""
        log.error("%s", text)
        self.counters.alarms += 1
        self.alarms = [*self.alarms[-99:], text]
