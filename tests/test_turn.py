"""A turn in machine code does what Python's turn does, byte for byte; nothing leaves before the disk has it."""

from __future__ import annotations

import errno
import functools
import os
import random
import time

import fake_libzmq
import numpy as np
import pytest
import session_world
from memory_tail import SENT, SYNCS, TailJournal
from session_world import MemoryJournal, World

from engine import messages as m
from engine.exchange import Exchange
from engine.journal import Identity, Journal, JournalFailed, RealDisk
from engine.journal.crash_disk import CrashDisk
from engine.market import Capacity
from engine.records import CANCEL, COMMAND, IOC, MASS_CANCEL, NEW
from gateway import libzmq
from gateway.clock import RealClock, ScaledClock
from gateway.lane import HotLane
from gateway.market_data import Publisher
from gateway.turn import turn_for

SEGMENT_BYTES = 1 << 14
IDENTITY = Identity(engine_abi=1, rules_hash=bytes(32), journal_id=7)


class Side:
    """An exchange with three members whose reports go out by machine code; its groups by Python or by the turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, turns: bool) -> None:
        monkeypatch.setattr(libzmq, "addresses", fake_libzmq.addresses)
        # Few events and few deals: the engine stops on the way now and then.
        small = functools.partial(Exchange, capacity=Capacity(deals=16), event_capacity=64)
        monkeypatch.setattr(session_world, "Exchange", small)
        self.world = World(random.Random(1))
        for name in ("member-1", "member-2", "member-3"):
            self.world.client(name)
        self.core, self.socket = self.world.core, fake_libzmq.MemorySocket()
        self.core.publisher = Publisher(self.core.exchange, lambda *a: None, epoch=1)
        self.core.publisher.deals = self.core.publisher.deals[:200]
        self.core.store.blocks = self.core.store.blocks[:64]
        self.core.store.previous = self.core.store.previous[:64]
        self.lane = HotLane(self.socket)  # type: ignore[arg-type]
        self.core.deliver = self.lane.deliver_for(self.core)  # type: ignore[method-assign]
        self.journal: MemoryJournal = self.core.journal  # type: ignore[assignment]
        if turns:
            tail = TailJournal(self.socket)
            tail.groups = self.journal.groups
            self.journal = self.core.journal = tail
            self.core.turn = tail.turn_of(self.core, self.lane)
        self.sessions = {s.route: s.number for s in self.core.sessions.values()}

    def put(self, records: np.ndarray, message: m.Deposit | None) -> None:
        """A batch, as the session layer leaves it, and all that it leads to."""
        self.core.mono_ns += 1_000_000
        for record in records:
            self.core.batch.add(record.tobytes(), int(record["account"]), int(record["session"]))
        if message is not None:
            self.core.source(message)
        self.core.flush()

    def found(self) -> dict[str, object]:
        """All that a group leaves behind."""
        core, log = self.core, self.core.log
        store, publisher = core.store, core.publisher
        assert publisher is not None
        used = slice(None, store.used)
        return {
            "group": (self.journal.groups[-1][0].tobytes(), self.journal.groups[-1][1]),
            "groups": len(self.journal.groups),
            "events": store.events[: store.count].tobytes(),
            "streams": store.streams.tobytes(),
            "blocks": (store.blocks[used].tobytes(), store.previous[used].tobytes()),
            "rejects": store.rejects.tobytes(),
            "log": (log.first_seq, log.records[: log.count].tobytes(), log.previous[: log.count].tobytes()),
            "log index": (log.last.tobytes(), log.kinds.tobytes()),
            "deals": (publisher.deals[: publisher.n_deals].tobytes(), publisher.waiting, publisher._time_ns),
            "touched": publisher._touched.tobytes(),
            "counters": (core.counters.groups, core.counters.commands, core.counters.events),
            "sent": [(self.sessions[route], frame) for route, frame in self.socket.sent()],
            "dirty": sorted(core.dirty),
            "cursors": core.hot["cursor"].tobytes(),
            "received": core.received_ns,
        }


def some_records(chance: random.Random, next_request: list[int]) -> np.ndarray:
    """Orders that often trade, cancels of all, and what is refused."""
    made = np.zeros(chance.choice((1, 1, 1, 2, 5, 30)), COMMAND)
    for record in made:
        member = chance.randrange(1, 4)
        next_request[member] += 1
        record["account"] = record["session"] = member
        record["request_no"] = next_request[member]
        record["kind"] = chance.choice((NEW,) * 8 + (CANCEL, MASS_CANCEL))
        record["side"], record["order_type"] = chance.randrange(2), chance.choice((0, 0, 0, IOC))
        record["price"], record["quantity"] = 5_990 + chance.randrange(4), 1 + chance.randrange(9)
        record["instrument"] = chance.randrange(2)
        record["order_id"] = chance.randrange(1, 50)
    return made


@pytest.mark.parametrize("seed", [1, 2])
def test_a_turn_leaves_what_pythons_turn_leaves(monkeypatch, seed):
    chance = random.Random(seed)
    sides = [Side(monkeypatch, turns=turns) for turns in (False, True)]
    next_request = [0] * 4
    for step in range(150):
        records = some_records(chance, next_request)
        message = m.Deposit(account=1, amount=1, document=f"s{step}") if chance.random() < 0.1 else None
        what = chance.random()
        for side in sides:
            if what < 0.05:  # a member whose connection takes nothing, until the next step
                side.core.hot[2]["sends"] = 0
            elif what < 0.1:  # from now on somebody has copies of member 3's reports, or nobody has
                copies = [] if len(side.core.store.copied) else [(5, 3)]
                side.core.store.set_sessions(np.array([1, 2, 3]), np.array([1, 2, 3]), copies)
            elif what < 0.15:
                side.core.publisher.flush()
            elif what < 0.17:
                side.core.store.start_day()
                side.core.log.start_day()
            side.put(records, message)
        plain, turned = (side.found() for side in sides)
        for name in plain:
            assert turned[name] == plain[name], f"step {step}: {name}"
        for side in sides:
            side.core.hot[2]["sends"] = 1
    assert sides[0].core.exchange.state_hash() == sides[1].core.exchange.state_hash()
    assert 50 < sides[1].journal.turned < 140, "most went all the way, some were left to Python"


@pytest.mark.parametrize("early", [False, True])
def test_nothing_is_sent_before_the_disk_has_the_group(monkeypatch, early):
    """``early``: a planted bug, a report that leaves first; the disk sees it."""
    side = Side(monkeypatch, turns=True)
    assert isinstance(side.journal, TailJournal)
    if early:
        turn = side.core.turn

        def hasty() -> bool:
            fake_libzmq._send(side.socket.underlying, side.socket.underlying, 8, 0)
            return turn()

        side.core.turn = hasty
    record = some_records(random.Random(1), [0] * 4)[:1]
    side.put(record, None)
    assert side.journal.turned == 1 and side.journal.file[SYNCS] == 1 and list(side.socket.sent())
    assert bool(side.journal.file[SENT]) == early


@pytest.fixture
def real(monkeypatch, tmp_path):
    """An exchange on a journal of the system's disk, with small segments."""
    side = Side(monkeypatch, turns=False)
    journal = Journal.open(RealDisk(tmp_path), IDENTITY, segment_bytes=SEGMENT_BYTES)
    for commands, payloads in side.journal.groups:
        journal.append(commands, payloads)
    journal.commit()
    turn = turn_for(side.core, journal, side.lane)
    assert turn is not None
    side.core.journal, side.core.turn = journal, turn
    yield side, journal, turn, tmp_path
    journal.close()


def test_what_was_reported_stands_in_the_journal_in_order_also_over_new_segments(real):
    side, journal, turn, folder = real
    chance, next_request = random.Random(3), [0] * 4
    took: list[int] = []
    turn.committed = took.append
    for step in range(200):
        message = m.Deposit(account=1, amount=1, document=f"s{step}") if chance.random() < 0.1 else None
        side.put(some_records(chance, next_request), message)
        assert journal.durable_seq == side.core.exchange.seq == journal.next_seq - 1
    assert len(took) == turn.turns + turn.handed_over > 50 and min(took) > 0
    journal.close()
    again = Journal.open(RealDisk(folder), IDENTITY, segment_bytes=SEGMENT_BYTES)
    other = Exchange(side.world.market.rules, calendar=None)
    for group in again.groups():
        other.apply(group.commands, group.payloads)
    assert other.state_hash() == side.core.exchange.state_hash() and len(again._recovered) > 3
    again.close()


def test_a_disk_that_fails_ends_the_journal_before_any_report_leaves(real):
    side, journal, _, folder = real
    read_only = os.open(folder, os.O_RDONLY)
    kept, journal._file.fd = journal._file.fd, read_only
    before = side.core.exchange.state_hash()
    with pytest.raises(JournalFailed, match=os.strerror(errno.EBADF)):
        side.put(some_records(random.Random(1), [0] * 4), None)
    assert not list(side.socket.sent()) and side.core.exchange.state_hash() == before
    os.close(read_only)
    journal._file.fd = kept


def test_a_turn_reads_the_same_clock_as_python(real):
    side = real[0]
    side.core.clock = RealClock()
    before = time.time_ns()
    side.put(some_records(random.Random(1), [0] * 4), None)
    assert before <= side.core.received_ns <= time.time_ns()
    assert side.core.exchange.time_ns == side.core.received_ns


def test_pythons_turn_serves_where_machine_code_knows_neither_clock_nor_disk(real):
    side, journal, _, _ = real
    side.core.clock = ScaledClock(side.core.exchange.time_ns, 10)
    assert turn_for(side.core, journal, side.lane) is None
    side.core.clock = RealClock()
    assert turn_for(side.core, Journal.open(CrashDisk(), IDENTITY), side.lane) is None
