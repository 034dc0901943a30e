"""Heartbeats in machine code: what is taken there and what is Python's, whom it refreshes, who gets one, and the sleep.

The lane's calls of libzmq meet a socket in memory (``fake_libzmq.py``), or real sockets of this process where the
sleep is concerned. What must come of each heartbeat is said by :func:`strangers`, which cores with planted bugs fail.
"""

from __future__ import annotations

import random

import fake_libzmq
import msgspec
import numpy as np
import pytest
import zmq
from session_world import World

from engine.records import CANCEL, COMMAND
from gateway import hot, libzmq
from gateway import protocol as p
from gateway.core import Core
from gateway.lane import HotLane
from gateway.session import State

NUMBERS = (
    0,
    1,
    127,
    128,
    255,
    256,
    65_535,
    65_536,
    2**32 - 1,
    2**32,
    2**62,
    2**62 + 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
    -1,
)


def read(frame: bytes) -> tuple[int, int, int]:
    octets = np.frombuffer(frame + b"\0", np.uint8)
    taken, token, time_ns = hot.read_heartbeat(octets.ctypes.data, len(frame))
    return int(taken), int(token), int(time_ns)


def test_machine_code_reads_as_heartbeats_only_what_the_decoder_reads_so():
    chance, taken = random.Random(3), 0
    for _ in range(4_000):
        fields = {"t": "heartbeat", **{name: chance.choice(NUMBERS) for name in ("token", "last_report", "time_ns")}}
        names = [name for name in fields if chance.random() < 0.95]
        chance.shuffle(names)
        frame = bytearray(msgspec.msgpack.encode({name: fields[name] for name in names}))
        if chance.random() < 0.3:
            frame[chance.randrange(len(frame))] ^= 1 << chance.randrange(8)
        elif chance.random() < 0.2:
            frame = frame[: chance.randrange(len(frame))] if chance.random() < 0.5 else frame + b"\0"
        ok, token, time_ns = read(bytes(frame))
        if ok:
            taken += 1
            message = p.decode_from_client(bytes(frame))
            assert isinstance(message, p.Heartbeat) and (message.token, message.time_ns) == (token, time_ns), frame
    assert taken > 500


@pytest.mark.parametrize("number", [n for n in NUMBERS if 0 <= n <= 2**62])
def test_machine_code_reads_every_heartbeat_that_our_client_writes(number):
    assert read(p.encode(p.Heartbeat(token=2**64 - 1, last_report=number, time_ns=number))) == (1, 2**64 - 1, number)
    assert read(p.encode(p.Heartbeat(token=number))) == (1, number, 0)


def test_a_pair_that_stands_twice_or_one_too_many_is_left_to_python():
    t, token = b"\xa1t\xa9heartbeat", b"\xa5token\x05"
    assert read(b"\x82" + t + token)[0] == 1
    for frame in (
        b"\x83" + t + token + token,
        b"\x83" + t + token + b"\xa1x\x00",
        b"\x82" + t + t,
        b"\x81" + t,
        b"\x82" + b"\xa1t\xa9heartbeaT" + token,
        b"\x82" + t + b"\xa5token\xc0",
        b"\x82" + t + token + b"\x00",
        b"\xde\x00\x02" + t + token,
        b"",
    ):
        assert read(frame)[0] == 0, frame


class Market:
    """Two members logged in and an operator, their frames through machine code; what reaches Python is counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, core_class: type[Core] = Core) -> None:
        monkeypatch.setattr(libzmq, "addresses", fake_libzmq.addresses)
        self.world = World(random.Random(1), core_class=core_class)
        self.clients = [self.world.client(name) for name in ("member-1", "member-2", "ops1")]
        self.core, self.socket = self.world.core, fake_libzmq.MemorySocket()
        self.lane = HotLane(self.socket)  # type: ignore[arg-type]
        self.core.beat = self.lane.beat_for(self.core)  # type: ignore[method-assign, assignment]
        self.to_python = 0
        receive = self.core.receive

        def counted(*arguments, **more):
            self.to_python += 1
            receive(*arguments, **more)

        self.core.receive = counted  # type: ignore[method-assign]

    def put(self, frame: bytes, route: bytes, key: str, parts: int = 1) -> int:
        """A message through the lane; how many messages of it were Python's."""
        before = self.to_python
        self.socket.put([route, *[frame] * parts], key)
        self.lane.drain(self.core)
        return self.to_python - before

    def heard(self) -> list[int]:
        return [self.core.sessions[n].last_heard_ns for n in (1, 2, 4)]


@pytest.fixture
def market(monkeypatch):
    """A market for a test that ends sessions, or has them time out."""
    return Market(monkeypatch)


@pytest.fixture(scope="module")
def shared():
    """A market for tests that leave all sessions logged in."""
    with pytest.MonkeyPatch.context() as patch:
        return Market(patch)


def test_a_heartbeat_refreshes_its_own_session_without_python_and_no_other(shared):
    market = shared
    one = market.clients[0].link
    before = market.heard()
    assert market.put(p.encode(p.Heartbeat(token=one.token, last_report=7)), one.socket.route, one.socket.key) == 0
    after = market.heard()
    assert after[0] == market.core.mono_ns != before[0] and after[1:] == before[1:]
    assert not list(market.socket.sent()) and not market.core.batch.count


def strangers(market: Market) -> None:
    """Heartbeats that must not refresh anybody: each goes to Python, which refuses it."""
    one, two, ops = (c.link for c in market.clients)
    route, key = one.socket.route, one.socket.key
    cases = [
        (one.token, two.socket.route, two.socket.key),  # another connection
        (one.token, route, two.socket.key),  # another key
        (one.token ^ 1 << 40, route, key),  # a token that was guessed
        (one.token ^ 3, route, key),  # another session's number in it
        (0, route, key),
        (ops.token, ops.socket.route, ops.socket.key),  # an operator's, on the members' plane
    ]
    before, rejects = market.heard(), market.core.counters.session_rejects
    for token, from_route, from_key in cases:
        assert market.put(p.encode(p.Heartbeat(token=token)), from_route, from_key) == 1, "it is Python's"
    assert market.heard() == before and market.core.counters.session_rejects == rejects + len(cases)
    old = one.token
    market.clients[0].close()
    market.world.advance(10**7)
    assert market.core.sessions[1].state is State.OUT
    before = market.heard()
    assert market.put(p.encode(p.Heartbeat(token=old)), route, key) == 1, "after the logout it is nobody's"
    assert market.heard() == before


def test_heartbeats_of_strangers_refresh_nobody_and_are_refused(market):
    strangers(market)


class Everywhere(Core):
    """Planted bug: machine code is told that operators are on the members' plane."""

    def _refresh(self, session):
        super()._refresh(session)
        session.row["members"] = 1


class Remembering(Core):
    """Planted bug: a session that has logged out keeps its token in the row."""

    def _refresh(self, session):
        before = session.row.copy()
        super()._refresh(session)
        if not session.token:
            session.row["token"], session.row["takes"] = before["token"], 1


@pytest.mark.parametrize("broken", [Everywhere, Remembering])
def test_planted_bugs_in_who_is_refreshed_are_found(monkeypatch, broken):
    with pytest.raises(AssertionError, match="it is"):
        strangers(Market(monkeypatch, broken))


def test_a_heartbeat_that_cannot_be_read_is_refused_and_counted_and_refreshes_nobody(shared):
    market = shared
    one = market.clients[0].link
    before, malformed = market.heard(), market.core.counters.malformed
    good = p.encode(p.Heartbeat(token=one.token))
    for frame, parts in ((good + b"\0", 1), (good[:-1], 1), (good, 2)):
        assert market.put(frame, one.socket.route, one.socket.key, parts) == 1
    assert market.heard() == before and market.core.counters.malformed == malformed + 3


def test_a_lost_session_that_beats_again_is_pythons_and_is_resynchronised(market):
    one, session = market.clients[0].link, market.core.sessions[1]
    market.core.tick(market.core.mono_ns + 16 * 10**9)
    assert session.state is State.LOST
    assert market.put(p.encode(p.Heartbeat(token=one.token)), one.socket.route, one.socket.key) == 1
    assert session.state is State.RESYNC


def test_a_heartbeat_that_comes_back_tells_how_long_the_way_is_and_another_time_tells_nothing(shared):
    market = shared
    one, session = market.clients[0].link, market.core.sessions[1]
    session.ping_ns, session.ping_time_ns = 5, 77
    for time_ns in (78, 0):
        market.put(p.encode(p.Heartbeat(token=one.token, time_ns=time_ns)), one.socket.route, one.socket.key)
        assert session.ping_time_ns == 77 and session.round_trip_ns == 0
    assert market.put(p.encode(p.Heartbeat(token=one.token, time_ns=77)), one.socket.route, one.socket.key) == 0
    assert session.ping_time_ns == 0 and session.round_trip_ns == session.last_heard_ns - 5


def test_sessions_that_are_due_get_one_heartbeat_each_and_the_silent_one_is_lost(market):
    core = market.core
    one, two = (core.sessions[n] for n in (1, 2))
    now = core.mono_ns + 5 * 10**9
    one.last_sent_ns = two.last_sent_ns = one.ping_ns = two.ping_ns = now - 5 * 10**9
    one.last_heard_ns, two.last_heard_ns = now, now - 16 * 10**9
    core._next_tick_ns = 0
    core.tick(now)
    sent = list(market.socket.sent())
    assert [route for route, _ in sent] == [one.route], "one frame, to the session that is due and heard"
    message = p.decode_from_exchange(sent[0][1])
    assert isinstance(message, p.Heartbeat) and message.time_ns == one.ping_time_ns == core.clock.now()
    assert one.last_sent_ns == one.ping_ns == now and one.state is State.ACTIVE and two.state is State.LOST
    core._next_tick_ns = 0
    core.tick(now + 10**9)
    assert not list(market.socket.sent()), "the next one is due after an interval"


def test_a_session_with_a_deadline_is_pythons_to_look_at(market):
    core, one = market.core, market.core.sessions[1]
    now = core.mono_ns + 6 * 10**9
    one.last_heard_ns, one.dead_man_ms, one.dead_man_due_ns = now, 20, now - 1
    core._refresh(one)
    due = hot.due_sessions(core.hot, core._numbers[: len(core.sessions)], now)
    core.mono_ns = now
    assert one.number in core.beat(due, p.encode(p.Heartbeat(time_ns=1)), 1).tolist()
    core._next_tick_ns = 0
    core.tick(now)
    assert one.dead_man_ms == -1, "the switch has fallen"


class Sleeper:
    """The lane on a real ROUTER and another socket beside it, with a member logged in over the ROUTER."""

    def __init__(self) -> None:
        self.world = World(random.Random(1))
        self.client = self.world.client("member-1")
        core = self.core = self.world.core
        core.config = msgspec.structs.replace(core.config, curve=False)
        self.context: zmq.Context = zmq.Context()
        self.router, self.other, self.asking = (self.context.socket(k) for k in (zmq.ROUTER, zmq.PULL, zmq.PUSH))
        self.member = self.context.socket(zmq.DEALER)
        self.member.set(zmq.ROUTING_ID, self.client.link.socket.route)
        for server, peer, name in ((self.router, self.member, "members"), (self.other, self.asking, "other")):
            server.bind(f"inproc://{name}")
            peer.connect(f"inproc://{name}")
        self.lane = HotLane(self.router)
        self.lane.watch([self.router, self.other])

    def close(self) -> None:
        self.context.destroy(linger=0)


@pytest.fixture(scope="module")
def sleeper():
    made = Sleeper()
    yield made
    made.close()


def test_heartbeats_do_not_end_the_sleep_and_an_order_or_another_socket_does(sleeper):
    core, session, token = sleeper.core, sleeper.core.sessions[1], sleeper.client.link.token
    core.receive = None  # whatever comes to Python fails
    sleeper.member.send(p.encode(p.Heartbeat(token=token)))
    before = session.last_heard_ns
    assert sleeper.lane.wait(core, 20) == [] and session.last_heard_ns > before and not core.batch.count
    order = np.zeros(1, COMMAND)
    order["kind"], order["token"], order["request_no"] = CANCEL, token, session.next_request
    sleeper.member.send(p.encode(p.Heartbeat(token=token)))
    sleeper.member.send(order.tobytes())
    assert sleeper.lane.wait(core, 60_000) == [sleeper.router] and core.batch.count == 1
    sleeper.asking.send(b"x")
    assert sleeper.lane.wait(core, 60_000) == [sleeper.other]


def test_what_is_pythons_is_handed_over_at_the_time_when_it_was_taken(sleeper):
    core, taken = sleeper.core, []
    core.receive = lambda plane, route, user, frame, parts=1: taken.append((frame, core.mono_ns))
    began = core.mono_ns
    sleeper.member.send(b"\xc1")
    sleeper.member.send(b"\xc2")
    sleeper.lane.wait(core, 60_000)
    while len(taken) < 2:
        sleeper.lane.wait(core, 60_000)
    assert [frame for frame, _ in taken] == [b"\xc1", b"\xc2"] and began < taken[0][1] <= taken[1][1]
