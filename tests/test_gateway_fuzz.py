"""Valid-but-nasty frames: no crash, no state change but by valid commands, bounded memory, a correct reject.

Frames are made by a grammar: a good order or control message, then a few fields or bytes spoiled. They go into the
exchange's core as a connection's frames do, on plain Python; the hot lane's machine code sees the same records in
its own test below and must take exactly those that the plain checks take.
"""

from __future__ import annotations

import os
import random
import time

import numpy as np
import pytest
from session_world import World

from engine.records import COMMAND, MESSAGE
from gateway import hot
from gateway import protocol as p

FIELDS = COMMAND.names or ()
EDGES = [0, 1, 2, 5, 7, 255, 256, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]


def good_record(chance: random.Random, session) -> np.ndarray:
    """An order that the market may take, or refuse."""
    record = np.zeros(1, COMMAND)
    record["kind"], record["instrument"] = chance.choice([1, 1, 1, 1, 2, 3, 4, 5, 6]), chance.randrange(2)
    record["price"], record["quantity"] = 5_300 + chance.randrange(1_400), chance.randrange(1, 50)
    record["side"], record["order_type"] = chance.randrange(2), chance.randrange(5)
    record["order_id"] = chance.choice([0, chance.randrange(1, 400)])
    record["token"], record["request_no"] = session.token, session.next_request
    return record


def spoil(chance: random.Random, record: np.ndarray) -> None:
    """One to three fields take an edge value."""
    for name in chance.choices(FIELDS, k=chance.randrange(1, 4)):
        edge = chance.choice(EDGES)
        info = np.iinfo(COMMAND[name])
        record[name] = (edge - info.min) % (info.max - info.min + 1) + info.min


def nasty_frame(chance: random.Random, session) -> bytes:
    """One frame by the grammar."""
    kind = chance.random()
    record = good_record(chance, session)
    if kind < 0.35:
        return record.tobytes()
    if kind < 0.65:
        spoil(chance, record)
        return record.tobytes()
    if kind < 0.75:
        many = np.concatenate([record] * chance.randrange(2, 8))
        many["request_no"] += np.arange(len(many), dtype=np.uint32)
        if chance.random() < 0.5:
            spoil(chance, many[chance.randrange(len(many)) :][:1])
        return many.tobytes()[: chance.choice([None, None, -1, 63])]
    if kind < 0.85:
        payload = os.urandom(chance.randrange(20)) if chance.random() < 0.3 else b"\x81\xa1t\xa8withdraw"
        record["kind"], record["quantity"] = MESSAGE, len(payload) + chance.choice([0, 0, 1])
        return record.tobytes() + payload
    control = p.encode(
        chance.choice(
            [
                p.Heartbeat(token=session.token),
                p.Query(token=session.token, id=1, what=chance.choice(["balances", "status", "", "open_orders"])),
                p.Retransmit(token=session.token, first=chance.choice([1, 2**40]), last=chance.choice([0, 3, 2**40])),
                p.DeadMan(token=session.token, within_ms=-1),
                p.Subscribe(token=session.token, first=1),
                p.StepClock(token=session.token, id=1, time_ns=2**60),
            ]
        )
    )
    spoiled = bytearray(control)
    if chance.random() < 0.6:
        for _ in range(chance.randrange(1, 4)):
            spoiled[chance.randrange(len(spoiled))] = chance.randrange(256)
    return bytes(spoiled)


def fuzz(seed: int, frames: int) -> dict[str, int]:
    """Sends frames; asserts what must hold; returns counts."""
    chance = random.Random(seed)
    world = World(chance)
    client = world.client("member-1")
    core, wire = world.core, client.link.socket
    assert wire is not None
    session = core.sessions[1]
    sent: list[int] = [0]
    core.send = lambda plane, route, frame: sent.__setitem__(0, sent[0] + 1) or True  # type: ignore[assignment, func-returns-value]
    core.exchange.check()
    for i in range(frames):
        before = core.exchange.seq + core.batch.count
        wanted = session.next_request
        core.mono_ns += 100_000
        core.receive("members", wire.route, wire.key, nasty_frame(chance, session), parts=1 + (chance.random() < 0.01))
        added = core.exchange.seq + core.batch.count - before
        assert added == session.next_request - wanted or not session.logged_in, "a command without a number, or none"
        if i % 16 == 0:
            core.flush()
            core.pump()
            core.tick(core.mono_ns)
        if not session.logged_in:  # thrown out for what it sent: log in again, as a stubborn peer would
            core.receive("members", wire.route, wire.key, p.encode(p.Login(version=1, claim=wire.key)))
        if i % 2_000 == 0:
            core.exchange.check()
            if core.store.count > 200_000:
                core.store.start_day()
                core.log.start_day()
                world.journal.groups.clear()
    core.flush()
    core.exchange.check()
    assert len(core.sessions) <= 4 and len(core.tokens) <= 2 and len(core.proposals) == 0 and len(core.alarms) <= 100
    assert core.exchange.market.market[0]["halted"] == 0
    return {"frames": frames, "commands": core.counters.commands, "rejects": core.counters.session_rejects}


def test_nasty_frames_change_nothing_but_by_valid_commands():
    found = fuzz(1, 6_000)
    assert found["commands"] > 1_000 and found["rejects"] > 1_000, "the grammar makes both"


def test_machine_code_takes_exactly_what_the_plain_checks_take():
    chance = random.Random(5)
    world = World(chance)
    client = world.client("member-1")
    session = world.core.sessions[1]
    row, batch = world.core.hot[1:2], np.zeros(64, COMMAND)
    taken = 0
    for _ in range(4_000):
        record = good_record(chance, session)
        if chance.random() < 0.7:
            spoil(chance, record)
        frame = record.tobytes()
        head = tuple(int(record[0][name]) for name in ("seq", "time_ns", "price", "quantity", "order_id", "token"))
        head += tuple(int(record[0][name]) for name in FIELDS[6:])
        world.core.mono_ns += 10**6
        kind_allowed = 1 <= head[10] <= 6  # kind 0 and kinds beyond 7 are Python's to refuse or to pass on
        plain = world.core._check(session, head).value == 0 and head[6] == session.next_request and kind_allowed
        hot_row = row.copy()
        got = hot._take(hot_row[0], record.ctypes.data, 1, batch.ctypes.data, 0, 1, world.core.mono_ns)
        assert bool(got) == plain, record
        if got:
            taken += 1
            assert int(hot_row[0]["next_request"]) == session.next_request + 1
            kept = batch[0].copy()
            assert kept["token"] == 0 and kept["account"] == 1 and kept["session"] == 1
            for name in ("price", "quantity", "order_id", "request_no", "instrument", "kind", "side", "flags"):
                assert kept[name] == record[0][name]
        assert len(frame) == 64
    assert taken > 500 and client.link.active


@pytest.mark.slow
def test_a_hundred_thousand_nasty_frames():
    for seed in range(5):
        fuzz(100 + seed, 20_000)


@pytest.mark.soak
def test_ten_million_nasty_frames():
    began, total = time.monotonic(), {"frames": 0, "commands": 0, "rejects": 0}
    for seed in range(100):
        for name, value in fuzz(1_000 + seed, 100_000).items():
            total[name] += value
    print(f"{total} in {time.monotonic() - began:.0f} s, seeds 1000 … 1099")
