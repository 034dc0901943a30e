"""Slow readers: what was asked for again, ResyncDone, EndOfDay and answers arrive, however little a socket takes."""

from __future__ import annotations

import random

import numpy as np
import pytest
from gateway_market import DAY, HOUR
from session_world import World

from engine import messages as m
from engine.codes import Code
from engine.records import BUY, COMMAND, IOC, NEW
from gateway import protocol as p
from gateway.core import Core
from gateway.sending import ANSWERS_BYTES_MAX, ANSWERS_MAX
from gateway.session import Event, State

ORDERS = 1_500  # two reports each: six frames
TURN_NS = 10**7


class Reader:
    """A member behind a socket that holds two frames unread; ``turn`` reads them."""

    def __init__(self, core_class: type[Core] = Core) -> None:
        self.world = World(random.Random(1), core_class=core_class)
        self.client = self.world.client("member-1")
        self.wire = self.client.link.socket
        frame = unfilled(ORDERS)
        frame["token"] = self.client.link.token
        frame["request_no"] += self.client.link.next_request
        for part in range(0, ORDERS, 500):
            self.world.core.receive("members", self.wire.route, self.wire.key, frame[part : part + 500].tobytes())
        self.world.advance(TURN_NS)
        self.last = self.world.core.store.stream(1).next_no - 1
        assert self.last >= 2 * ORDERS
        self.wire.inbox.clear()
        self.wire.room = 2

    def ask(self, first: int, last: int) -> None:
        message = p.encode(p.Retransmit(token=self.client.link.token, first=first, last=last))
        self.world.core.receive("members", self.wire.route, self.wire.key, message)

    def read(self, turns: int = 30) -> list[object]:
        """Report numbers and control messages in the order in which they arrive; repeated outcomes are negative."""
        found: list[object] = []
        for _ in range(turns):
            self.world.advance(TURN_NS)
            for _, frame in self.wire.inbox:
                if p.is_map(frame[0]):
                    found.append(p.decode_from_exchange(frame))
                else:
                    header = p.decode_reports(frame)
                    numbers = range(header.first_no, header.first_no + len(header.events))
                    found += [-no for no in numbers] if frame[1] & p.REPEATED else numbers
            self.wire.inbox.clear()
        return [one for one in found if not isinstance(one, p.Heartbeat)]

    def send(self, message: p.Control | np.ndarray) -> None:
        """A control message or records of this session, past the channel."""
        data = p.encode(message) if isinstance(message, p.Control) else message.tobytes()
        self.world.core.receive("members", self.wire.route, self.wire.key, data)

    def again(self, count: int, first: int = 0) -> np.ndarray:
        """Orders that were sent before, to be sent again: their request numbers, and all else, are the same."""
        frame = unfilled(first + count)[first:]
        frame["token"] = self.client.link.token
        frame["request_no"] += self.client.link.next_request
        return frame


def unfilled(count: int) -> np.ndarray:
    """Orders that nobody takes: of one tonne, immediate or cancel."""
    made = np.zeros(count, COMMAND)
    made["kind"], made["side"], made["order_type"], made["price"], made["quantity"] = NEW, BUY, IOC, 5_950, 1
    made["request_no"] = np.arange(count)
    return made


def asked_range(core_class: type[Core] = Core) -> None:
    reader = Reader(core_class)
    reader.ask(2, reader.last - 100)
    found = reader.read()
    assert found[:-1] == list(range(2, reader.last - 99)), "each report, once, in order"
    assert isinstance(found[-1], p.ResyncDone) and found[-1].next_report == reader.last + 1
    assert reader.world.core.sessions[1].state is State.ACTIVE


def test_a_range_that_was_asked_for_again_arrives_whole_at_a_slow_reader():
    asked_range()


class Careless(Core):
    """Planted bug: frames that the socket does not take are forgotten."""

    def _try(self, plane, session, frame):
        super()._try(plane, session, frame)
        return True


def test_a_planted_core_that_forgets_what_is_not_taken_is_found():
    with pytest.raises(AssertionError, match="each report, once"):
        asked_range(Careless)


def test_two_ranges_that_are_asked_for_together_arrive_as_one():
    reader = Reader()
    reader.ask(1_000, 2_900)
    reader.ask(700, 1_600)  # two frames of the first range lie in the socket by now
    found = reader.read()
    assert found[:-1] == [*range(1_000, 1_000 + 2 * p.REPORTS_PER_FRAME), *range(700, 2_901)]
    assert isinstance(found[-1], p.ResyncDone)


def test_resync_done_waits_for_room_in_the_socket():
    """A socket that is full when the last old report has gone would have lost it: the member waited in vain."""
    reader = Reader()
    reader.ask(reader.last - 1_023, reader.last - 1)  # two frames fill the socket
    session, world = reader.world.core.sessions[1], reader.world
    world.advance(TURN_NS)
    assert len(reader.wire.inbox) == 2 and session.state is State.RESYNC
    found = reader.read()
    assert isinstance(found[-1], p.ResyncDone) and session.state is State.ACTIVE


def test_end_of_day_comes_behind_the_last_report_and_once_also_to_slow_and_late_sessions():
    reader = Reader()
    world = reader.world
    late = world.client("member-2")
    late.close()
    reader.ask(2, reader.last)
    world.core.step_to(DAY + 16 * HOUR)
    found = reader.read()
    (end,) = [one for one in found if isinstance(one, p.EndOfDay)]
    assert found[-1] is end and end.last_report == world.core.store.stream(1).next_no - 1
    assert [one for one in found if isinstance(one, int)][-1] == end.last_report
    assert end.digest == world.core.store.digest(1)
    again = world.client("member-2")
    again.sync()
    (end,) = [one for one in again.link.notices if isinstance(one, p.EndOfDay)]
    assert end.digest == world.core.store.digest(2)
    session = world.core.sessions[2]
    world.core._transit(session, Event.AGAIN)
    world.core.dirty.add(2)
    again.sync()
    assert len([one for one in again.link.notices if isinstance(one, p.EndOfDay)]) == 1


def test_a_range_that_is_still_going_out_ends_with_its_day():
    reader = Reader()
    world = reader.world
    world.core.step_to(DAY + 16 * HOUR)
    reader.read()
    reader.ask(2, reader.last - 100)
    world.core.source(m.SettleDay(date=20251203))
    world.core.step_to(DAY + 34 * HOUR)
    assert world.core.sessions[1].state is State.OUT, "told to log in anew"
    again = world.client("member-1")
    again.sync()
    assert again.link.login.phase == "morning"


# --- answers: a repeated outcome, an answer to a question, a reject of the session layer ----------------------------


def answered(core_class: type[Core] = Core) -> None:
    """A full socket holds back three kinds of answers; each comes, in the order of the requests."""
    reader = Reader(core_class)
    session, token = reader.world.core.sessions[1], reader.client.link.token
    reader.send(reader.again(40))  # each a repeat, two reports: two frames fill the socket
    reader.send(p.Query(token=token, id=7, what="balances"))
    gap = reader.again(1)
    gap["request_no"] += 10_000
    reader.send(gap)
    assert len(reader.wire.inbox) == 2 and len(session.answers) == 40 and not session.row["sends"]
    found = reader.read(60)
    first = reader.last - 2 * ORDERS + 1
    assert found[:80] == [-no for no in range(first, first + 80)], "each repeated outcome, in order"
    answer, reject = found[80:]
    assert isinstance(answer, p.Answer) and answer.id == 7
    assert isinstance(reject, p.SessionReject) and reject.code == Code.REQUEST_GAP
    assert not session.answers and not session.behind_since_ns and session.row["sends"]


def test_answers_wait_for_room_in_the_socket():
    answered()


class Hasty(Core):
    """Planted bug: an answer that the socket does not take is forgotten."""

    def _answer(self, session, frame):
        self.send(self._plane(session), session.route, frame)


def test_a_planted_core_that_forgets_answers_is_found():
    with pytest.raises(AssertionError):
        answered(Hasty)


def in_order(core_class: type[Core] = Core) -> None:
    """The reports before an answer come before it, those behind it after it (it says up to where it is complete)."""
    reader = Reader(core_class)
    token, mine = reader.client.link.token, reader.again(1_000, ORDERS)
    for part in (0, 500):
        reader.send(mine[part : part + 500])
        reader.world.core.flush()
        reader.world.core.pump()  # two frames of 1,000 reports each: the first part fills the socket
        reader.send(p.Query(token=token, id=part, what="balances"))
    found = reader.read(60)
    places = [i for i, one in enumerate(found) if isinstance(one, p.Answer)]
    numbers = [one for one in found if isinstance(one, int)]
    assert numbers == list(range(reader.last + 1, reader.last + 2_001))
    assert places == [1_000, 2_001], "behind the reports of its own time, before those of a later one"


def test_an_answer_that_waited_stands_where_it_belongs_among_the_reports():
    in_order()


class Jumbled(Core):
    """Planted bug: all reports go before any answer that waits."""

    def _answer(self, session, frame):
        super()._answer(session, frame)
        if session.answers:
            session.answers[-1] = 1 << 60, frame

    def pump(self, stream_frames=1 << 30):
        super().pump(stream_frames)
        for session in self.sessions.values():
            if session.answers and session.cursor == self.store.stream(session.number).next_no:
                session.answers = type(session.answers)((0, frame) for _, frame in session.answers)


def test_a_planted_core_that_sends_all_reports_first_is_found():
    with pytest.raises(AssertionError, match="behind the reports of its own time"):
        in_order(Jumbled)


def test_who_reads_none_of_very_many_answers_is_logged_out_and_logs_in_anew():
    reader = Reader()
    session, world = reader.world.core.sessions[1], reader.world
    gap = reader.again(1)
    gap["request_no"] += 10_000
    for _ in range(ANSWERS_MAX + 2):
        reader.send(gap)
    assert len(session.answers) == ANSWERS_MAX and session.state is State.ACTIVE, "two lie in the socket"
    reader.send(gap)
    assert session.state is State.OUT and not session.answers
    again = world.client("member-1")
    again.sync()
    assert again.link.caught_up and not session.answers


def test_answers_may_not_wait_in_more_bytes_than_the_bound():
    reader = Reader()
    session, core = reader.world.core.sessions[1], reader.world.core
    reader.wire.room = 0
    big = bytes(1 << 20)
    for _ in range(ANSWERS_BYTES_MAX >> 20):
        core._answer(session, big)
    assert session.state is State.ACTIVE
    core._answer(session, big)
    assert session.state is State.OUT


def test_answers_that_wait_end_with_their_connection():
    reader = Reader()
    reader.send(reader.again(40))
    assert reader.world.core.sessions[1].answers
    again = reader.world.client("member-1")
    again.sync()
    assert not reader.world.core.sessions[1].answers and not again.link.answers
