"""The exchange process without its sockets: frames in, frames out, one batch, one journal, one engine.

``receive`` takes what came from a connection, ``flush`` makes a group of it (journal, disk, engine, reports),
``pump`` sends what sessions have not yet got, ``tick`` does what time makes due. Sockets, real time and
signals are the server's; tests drive this class through channels that lose, cut and delay.

Identity is the CURVE key that libzmq attaches to each message (``user``) together with the login's secret
token, never the routing id alone. Every frame is checked: token, connection, key, role (guarantee 4).

One object in layers; each is a class in a module of its own and knows those before it:

    Sequence   sequence.py   batch → journal group → disk → engine → log, report store; the overlap of disk and engine
    Roster     roster.py     keys, sessions, tokens; the session table's actions; which sessions get whose reports
    Sending    sending.py    reports and the stream of all events to sessions; the end of a day
    Requests   requests.py   frames of records: checks, throttles, request_no, repeats, two-person proposals
    Logins     login.py      who may log in, and where the session goes on
    TimeOuts   timeouts.py   heartbeats, silence, cancel-on-disconnect, dead-man switch
    Core       here          every frame's first look, and the control messages
"""

from __future__ import annotations

from engine import messages
from engine.codes import TEXT_EN, Code, Reason
from gateway import protocol as p
from gateway.clock import SteppedClock
from gateway.queries import answer_query
from gateway.roles import ROLES
from gateway.session import NS_PER_MS, Event, Session, Way
from gateway.timeouts import TimeOuts


class Core(TimeOuts):
    """Sessions, sequencing, reports and queries of one exchange."""

    def receive(self, plane: str, route: bytes, user: str, frame: bytes | memoryview, *, parts: int = 1) -> None:
        """One message of a connection. ``user``: its CURVE key, empty on a plain loopback."""
        self.counters.frames += 1
        size = len(frame)
        if parts != 1 or size == 0 or size > p.FRAME_BYTES_MAX:
            self._unreadable(plane, route, Code.TOO_LARGE if size else Code.MALFORMED, f"{parts} parts")
        elif frame[0] == 0:
            self._records(plane, route, user, frame, size)
        elif p.is_map(frame[0]) and size <= p.CONTROL_BYTES_MAX:
            self._control(plane, route, user, frame)
        else:
            self._unreadable(plane, route, Code.MALFORMED, "neither records nor a control message")

    def _control(self, plane: str, route: bytes, user: str, frame: bytes | memoryview) -> None:
        try:
            message = p.decode_from_client(frame)
        except p.DECODE_ERRORS as error:
            self._unreadable(plane, route, Code.MALFORMED, str(error)[:200])
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
            self._refuse(session, p.reject(Code.ROLE_NOT_ALLOWED))
            return
        if self._throttled(session, 0, 1, session.orders):
            return
        self.flush()
        self.pump()  # an answer is complete up to now: the reports before it go first
        name = f"_on_{message.__struct_config__.tag}"
        getattr(self, name)(session, message)

    def _on_logout(self, session: Session, message: p.Logout) -> None:
        self._transit(session, Event.LOGOUT)

    def _on_retransmit(self, session: Session, message: p.Retransmit) -> None:
        stream = self.store.stream(session.number)
        session.old_until = max(session.old_until, session.cursor)
        first = max(message.first, stream.first_no)
        last = min(message.last or stream.next_no - 1, stream.next_no - 1)
        if last + 1 >= session.cursor:
            session.cursor = min(session.cursor, first)  # what follows goes out anyway
        else:
            if session.again_no < session.again_end:  # a range that is still going out: both, in one
                first, last = min(first, session.again_no), max(last, session.again_end - 1)
            session.again_no, session.again_end = first, last + 1
        self._transit(session, Event.AGAIN)
        self.dirty.add(session.number)

    def _on_dead_man(self, session: Session, message: p.DeadMan) -> None:
        session.dead_man_ms = message.within_ms
        session.dead_man_due_ns = self.mono_ns + message.within_ms * NS_PER_MS
        self._refresh(session)

    def _on_kill(self, session: Session, message: p.Kill) -> None:
        """Own kill switch: the account is cancel-only until an operator says otherwise; all its orders go."""
        key = self.keys.by_public.get(session.key)
        by = key.name if key else ""
        self.source(messages.SetAccountStatus(account=session.account, status=2, by=by, why=message.why or "kill"))
        self.source(
            messages.CancelOrders(
                account=session.account, reason=int(Reason.KILL_SWITCH), by=by, why=message.why or "kill"
            )
        )

    def _on_query(self, session: Session, message: p.Query) -> None:
        if message.what not in ROLES[session.role].queries:
            code = Code.ROLE_NOT_ALLOWED
            answer = p.Answer(id=message.id, seq=self.exchange.seq, code=int(code), text=TEXT_EN[code])
        else:
            answer = answer_query(self, session, message)
        self._answer(session, p.encode(answer))

    def _on_subscribe(self, session: Session, message: p.Subscribe) -> None:
        (self.streaming.add if message.first else self.streaming.discard)(session.number)
        session.stream_cursor = 0 if message.first == 0 else max(message.first, self.store.first_event_no)
        session.stream_begins = True
        session.stream_way = Way.ASKED if message.shared and self.shared is not None else Way.SENT
        self._refresh(session)

    def _on_step_clock(self, session: Session, message: p.StepClock) -> None:
        now = self.clock.now()
        code, text = Code.OK, ""
        if not isinstance(self.clock, SteppedClock):
            code, text = Code.WRONG_STATE, "the clock is not stepped"
        elif message.time_ns < now:
            code, text = Code.BAD_FIELD, f"time_ns: {message.time_ns} lies before {now}"
        else:
            self.step_to(message.time_ns)
        answer = p.Answer(id=message.id, seq=self.exchange.seq, code=int(code), text=text, data=self.clock.now())
        self._answer(session, p.encode(answer))

    def _on_confirm(self, session: Session, message: p.Confirm) -> None:
        found = self.proposals.get(message.proposal)
        key = self.keys.by_public.get(session.key)
        if found is None or key is None or key.name != found[0] or found[1].by == key.name:
            self._refuse(session, p.reject(Code.NOT_AUTHORISED, text="no proposal waits for this key"))
            return
        del self.proposals[message.proposal]
        self.source(found[1])
        self.flush()

    def step_to(self, time_ns: int) -> None:
        """Stepped clock: does what falls due on the way (D3)."""
        from gateway.scheduler import run_until

        assert isinstance(self.clock, SteppedClock)
        run_until(self, time_ns, self.clock.step)
        self.clock.step(time_ns)
        self.clock_stepped(time_ns)

    def shut_down(self) -> None:
        """Tells every session that the exchange ends."""
        self.flush()
        self.pump()
        for session in self.sessions.values():
            if session.logged_in:
                self._transit(session, Event.END, Code.SHUTTING_DOWN)
                session.cancel_due_ns = 0  # our own stop is not a member's disconnect (D8)
