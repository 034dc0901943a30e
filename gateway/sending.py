"""What sessions have not yet got, sent as far as their sockets take it: reports, answers, the stream of all events.

The hot lane (gateway.lane) sends most reports at once instead, by putting its own ``deliver`` in the place of this one.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from engine.codes import Code
from gateway import protocol as p
from gateway.hot import unsent
from gateway.roster import Roster
from gateway.session import NS_PER_MS, Event, Session, State, Way
from gateway.shared_stream import EVENTS_PER_FRAME, FRAME_BYTES_MAX, FRAMES_PER_LOOK, LOOK_NS, SharedStream
from gateway.zap import OPERATORS

ALL_FRAMES: Final = 1 << 30
TELL_NS: Final = 1_000 * NS_PER_MS  # how often those who read shared memory are told where it is
# Answers that wait for one slow reader: those to one frame, of which each record may be a request that is repeated. As
# many bytes as its socket holds of report frames (gateway.server).
ANSWERS_MAX: Final = p.FRAME_RECORDS_MAX
ANSWERS_BYTES_MAX: Final = 4 << 20


class Sending(Roster):
    """Reports to sessions."""

    def deliver(self, events: np.ndarray, touched: np.ndarray, payloads: bytes) -> None:
        """What a batch's sessions get now; the hot lane sends most of it at once instead."""
        self.dirty.update(touched.tolist())

    def pump(self, stream_frames: int = ALL_FRAMES) -> None:
        """Sends every session what it has not got yet, as far as its socket takes it.

        ``stream_frames``: of the stream of all events, at most so many to each operator; the rest with a later call.
        """
        if self.dirty:
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
        if stream_frames and self.streaming:
            self.stream(stream_frames)

    def stream(self, frames: int) -> bool:
        """The stream of all events, at most so many frames to each operator who wants it, behind its own reports.

        True where more of it could go through a socket at once.
        """
        self._share_stream(at_once=frames == ALL_FRAMES)
        more = False
        for number in self.streaming - self.dirty:
            session = self.sessions[number]
            if session.state not in (State.RESYNC, State.ACTIVE):
                continue
            if session.stream_way is Way.ASKED and not self._sharing():
                self._rewind(session)
            if session.stream_way is not Way.SHARED:
                more |= self._send_stream(session, frames)
                if session.stream_way is Way.ASKED:
                    self._let_share(session)
        return more

    def _answer(self, session: Session, frame: bytes) -> None:
        """An outcome that is repeated, an answer or a reject; where the socket is full it waits, behind its reports.

        Each arrives, or the session ends: who leaves so many unread is logged out, and logs in anew.
        """
        waiting = session.answers
        if not waiting and not session.behind_since_ns and self.send(self._plane(session), session.route, frame):
            return
        if not session.logged_in:
            return
        if len(waiting) == ANSWERS_MAX or sum(len(f) for _, f in waiting) + len(frame) > ANSWERS_BYTES_MAX:
            self._transit(session, Event.END, Code.TOO_LARGE, "its connection takes no answers")
            return
        waiting.append((self.store.stream(session.number).next_no, frame))
        self.dirty.add(session.number)
        self._behind(session)

    def _send_reports(self, session: Session) -> bool:
        """False while the socket takes no more."""
        plane = self._plane(session)
        stream = self.store.stream(session.number)
        sent_ns = self.clock.now()
        while session.again_no < session.again_end:
            no = session.again_no
            events, payloads = self.store.page(session.number, no, session.again_end - 1)
            frame = p.encode_reports(events, payloads, no, flags=p.POSSIBLE_DUPLICATE, sent_ns=sent_ns)
            if not self._try(plane, session, frame):
                return False
            session.again_no = no + len(events)
        answers = session.answers
        while answers or session.cursor < stream.next_no:
            if answers and answers[0][0] <= session.cursor:
                if not self._try(plane, session, answers[0][1]):
                    return False
                answers.popleft()
                continue
            old = session.cursor < session.old_until
            stop = min(session.old_until if old else stream.next_no, answers[0][0] if answers else stream.next_no)
            events, payloads = self.store.page(session.number, session.cursor, stop - 1)
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
            done = p.ResyncDone(next_report=session.cursor, next_request=session.next_request, seq=self.exchange.seq)
            if not self._try(plane, session, p.encode(done)):
                return False
            self._transit(session, Event.SENT)
        ended = self._ended_date()
        if ended and session.ended_date != ended:
            told = p.EndOfDay(date=ended, last_report=session.cursor - 1, digest=self.store.digest(session.number))
            if not self._try(plane, session, p.encode(told)):
                return False
            session.ended_date = ended
        return True

    def _send_stream(self, session: Session, frames: int) -> bool:
        """True where events are left and the socket takes more."""
        session.stream_cursor = max(session.stream_cursor, self.store.first_event_no)
        end_no, sent_ns = self.store.first_event_no + self.store.count, self.clock.now()
        for _ in range(frames):
            if session.stream_cursor >= end_no:
                return False
            events, payloads = self.store.event_page(session.stream_cursor)
            end = session.stream_cursor + len(events)
            flags = (p.CAUGHT_UP if end == end_no else 0) | (p.BEGINS if session.stream_begins else 0)
            frame = p.encode_reports(
                events, payloads, session.stream_cursor, flags=flags, magic=p.STREAM_MAGIC, sent_ns=sent_ns
            )
            if not self._try(OPERATORS, session, frame):
                return False
            session.stream_cursor, session.stream_begins = end, False
        return session.stream_cursor < end_no

    def _sharing(self) -> list[Session]:
        """Sessions that read the stream in shared memory."""
        return [s for number in self.streaming if (s := self.sessions[number]).stream_way is Way.SHARED]

    def _share_stream(self, *, at_once: bool) -> None:
        """As ``_send_stream``, for all who read shared memory: as much as they take in one look, or all."""
        shared, sharing = self.shared, self._sharing()
        if shared is None or not sharing or (self.mono_ns < self._share_again_ns and not at_once):
            return
        end_no, sent_ns = self.store.first_event_no + self.store.count, self.clock.now()
        shared.next_no = max(shared.next_no, self.store.first_event_no)
        for _ in range(ALL_FRAMES if at_once else FRAMES_PER_LOOK):
            if shared.next_no >= end_no:
                break
            most = EVENTS_PER_FRAME
            events, payloads = self.store.event_page(shared.next_no, most)
            while p.HEADER_BYTES + events.nbytes + len(payloads) > FRAME_BYTES_MAX:
                most //= 2
                events, payloads = self.store.event_page(shared.next_no, most)
            flags = p.CAUGHT_UP if shared.next_no + len(events) == end_no else 0
            head = p.report_head(events, payloads, shared.next_no, flags=flags, magic=p.STREAM_MAGIC, sent_ns=sent_ns)
            shared.put(head, events, payloads)
        again = self.mono_ns - self._shared_told_ns >= TELL_NS
        for session in sharing:
            session.stream_cursor = shared.next_no
            if again:
                self._tell_shared(session, shared)
        self._share_again_ns = self.mono_ns + LOOK_NS if shared.next_no < end_no else 0

    def _rewind(self, session: Session) -> None:
        """Nobody reads shared memory: the stream goes on there from where this reader is, however long ago that was.

        Through a socket who was lapped in a busy market would never have caught up with it, and every member would have
        waited for what it was sent.
        """
        assert self.shared is not None, "nobody may ask for it otherwise"
        self.shared.next_no = session.stream_cursor = max(session.stream_cursor, self.store.first_event_no)
        if self._tell_shared(session, self.shared):
            session.stream_way, session.stream_begins, self._share_again_ns = Way.SHARED, False, 0

    def _let_share(self, session: Session) -> None:
        """Who has been sent all that there is reads on in shared memory, where others read already."""
        shared = self.shared
        assert shared is not None, "nobody may ask for it otherwise"
        if session.stream_cursor < self.store.first_event_no + self.store.count:
            return
        if session.stream_cursor == shared.next_no and self._tell_shared(session, shared):
            session.stream_way, session.stream_begins = Way.SHARED, False

    def _tell_shared(self, session: Session, shared: SharedStream) -> bool:
        """Where the stream goes on. Said again now and then: with a connection that was made anew it may be lost."""
        self._shared_told_ns = self.mono_ns
        told = p.StreamShared(
            path=shared.path, mark=shared.mark, place=shared.place, next=shared.next_no, begins=session.stream_begins
        )
        return self._try(self._plane(session), session, p.encode(told))

    def _try(self, plane: str, session: Session, frame: bytes) -> bool:
        if self.send(plane, session.route, frame):
            session.last_sent_ns = self.mono_ns
            if session.behind_since_ns:
                session.behind_since_ns = 0
                self._refresh(session)
            return True
        self._behind(session)
        return False

    def _behind(self, session: Session) -> None:
        """Its socket takes no more: machine code leaves it to ``pump``, and its patience begins."""
        self.counters.blocked += 1
        if not session.behind_since_ns:
            session.behind_since_ns = self.mono_ns or 1
            self._refresh(session)

    def _leave_day(self) -> None:
        """Before the reports of the day before are forgotten: sends what waits; who can't take it logs in anew."""
        self.dirty |= {s.number for s in self.sessions.values() if s.logged_in}
        self.pump()
        end_no = self.store.first_event_no + self.store.count
        for session in self.sessions.values():
            behind = session.cursor < self.store.stream(session.number).next_no or session.again_no < session.again_end
            if session.logged_in and (behind or session.answers or 0 < session.stream_cursor < end_no):
                self._transit(session, Event.END, Code.SHUTTING_DOWN, "a new day has begun: log in again")
        super()._leave_day()

    def _end_day(self) -> None:
        """Every session is told, behind its reports, the last one of the day and a hash over all of them."""
        self.dirty |= {s.number for s in self.sessions.values() if s.logged_in}
        self.pump()

    def _ended_date(self) -> int:
        """The day (yyyymmdd) that has been closed and not yet left, 0 while there is none."""
        head = self.exchange.market.market[0]
        return int(head["date"]) if head["day_closed"] else 0

    def unsent(self) -> tuple[int, int]:
        """Reports that wait for sessions that are logged in: all together, and in the slowest session."""
        total, worst = unsent(self.hot, self.store.streams, self._numbers[: len(self.sessions)])
        return int(total), int(worst)
