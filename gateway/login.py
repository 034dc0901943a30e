"""Logins: who may open a session, where its reports and requests go on, and what the client is told."""

from __future__ import annotations

import secrets
from typing import Final

from engine.codes import TEXT_EN, Code
from engine.market import CLOSED
from gateway import protocol as p
from gateway.keys import Key
from gateway.requests import Requests
from gateway.roles import ROLES
from gateway.session import NS_PER_MS, Bucket, Event, Session, State
from gateway.zap import OPERATORS

PHASES: Final = ("pre_open", "morning", "break", "afternoon", "closed")


class Logins(Requests):
    """From a login to an open session."""

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
        session.behind_since_ns = session.throttled = session.malformed = session.hasty = session.retry_at_ns = 0
        session.ping_ns = session.ping_time_ns = session.round_trip_ns = 0
        c = self.config
        row, factor = session.row, c.cancels_factor
        row["per_second"], row["burst"], row["cancels_factor"] = c.orders_per_second, c.orders_burst, factor
        session.orders = Bucket(row, "order", c.orders_per_second, c.orders_burst, self.mono_ns)
        session.cancels = Bucket(row, "cancel", c.orders_per_second * factor, c.orders_burst * factor, self.mono_ns)
        session.next_request = self.last_request(key.session) + 1
        session.old_until = stream.next_no
        session.again_no = session.again_end = 0
        session.answers.clear()
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
            frame_records_max=min(p.FRAME_RECORDS_MAX, self.config.orders_burst),
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
