"""The scheduler's day: marks, close, deadlines, roll; sessions and reports over the night and over a crash."""

from __future__ import annotations

import random

from gateway_market import DAY, HOUR
from session_world import World

from engine import messages as m
from engine.calendar import day_start_ns
from engine.journal.crash_disk import CrashDisk
from engine.journal.increment import write_increment
from gateway import protocol as p
from gateway.reports import ReportStore
from gateway.scheduler import run_until
from gateway.snapshots import Mark, increment_of, load_increments, mark_of


def notices(world: World) -> list[str]:
    """What was told to everybody, in order."""
    import msgspec

    found = [msgspec.msgpack.decode(world.core.store.payloads[i]) for i in sorted(world.core.store.payloads)]
    return [n.get("what", n["t"]) for n in found if n["t"] in ("market_notice", "day_closed")]


def test_one_step_over_a_whole_day_marks_closes_and_waits_for_settlement():
    world = World(random.Random(1))
    a, b = world.client("member-1"), world.client("member-2")
    a.sell("CEA24", 5_950, 10)
    b.buy("CEA24", 5_950, 4)
    resting = b.buy("CEA24", 5_900, 1)
    world.core.step_to(DAY + 16 * HOUR)
    head = world.core.exchange.market.market[0]
    assert notices(world)[-4:] == ["phase", "phase", "phase", "day_closed"] and head["day_closed"] == 1
    assert int(head["date"]) == 20251203, "the next open waits for settlement (D26)"
    b.sync()
    assert resting.status == "system_cancelled"
    (end,) = [n for n in b.link.notices if isinstance(n, p.EndOfDay)]
    assert end.last_report == world.core.store.stream(2).next_no - 1 and end.digest == world.core.store.digest(2)
    world.core.source(m.SettleDay(date=20251203))
    world.core.flush()
    world.core.step_to(day_start_ns(20251204) + 10 * HOUR)
    assert int(head["date"]) == 20251204 and world.core.alarms == []
    numbers = b.link.next_request
    assert b.sell("CEA24", 5_950, 4).request_no == numbers, "request numbers go on over the night"
    assert world.core.store.stream(2).first_no > 1 and a.buy("CEA24", 5_950, 4).filled == 4


def test_a_session_that_was_cut_over_the_night_logs_in_anew_and_goes_on():
    world = World(random.Random(1))
    cut, operator = world.client("member-3"), world.client("ops1")
    cut.buy("CEA24", 5_900, 1)
    operator.link.subscribe(1)
    world.advance(10**8)
    cut.link.socket.up = operator.link.socket.up = False
    world.wires.clear()
    world.core.step_to(DAY + 16 * HOUR)
    world.core.step_to(day_start_ns(20251204) + 10 * HOUR)
    world.advance(10**8)
    assert cut.buy("CEA24", 5_900, 2).accepted and cut.link.next_report == world.core.store.stream(3).next_no
    operator.sync()
    for _ in range(4):
        world.advance(10**8)
        operator.link.pump()
    assert operator.link.stream_next == world.core.store.first_event_no + world.core.store.count


def test_a_day_without_deals_rolls_without_settlement_and_a_crash_changes_nothing():
    world = World(random.Random(1))
    world.core.step_to(day_start_ns(20251205) + 10 * HOUR)
    assert int(world.core.exchange.market.market[0]["date"]) == 20251205
    before = world.core.exchange.state_hash()
    world.crash()
    world.start()
    assert world.core.exchange.state_hash() == before
    world.core.step_to(day_start_ns(20251208) + 40 * HOUR)
    assert any("calendar ends" in text for text in world.core.alarms), "beyond the horizon an operator is called"
    assert run_until(world.core, world.core.clock.now()) == 0


def test_reports_and_commands_come_back_from_a_snapshot_byte_for_byte():
    world = World(random.Random(1))
    a = world.client("member-1")
    a.send_batch([("buy", "CEA24", 5_900, 1 + i) for i in range(700)])
    store, disk, again = world.core.store, CrashDisk(), ReportStore()
    first = write_increment(disk, increment_of(store, Mark(1)), 1)
    mark = mark_of(store, (first,))
    a.send_batch([("sell", "CEA24", 5_950, 1 + i) for i in range(300)])
    second = write_increment(disk, increment_of(store, mark), 2)
    assert second.length < first.length, "what stands in the first is not written again"
    a.send_batch([("buy", "CEA24", 5_901, 1)])  # behind the snapshot
    assert not load_increments(ReportStore(), disk, (second, first)), "the second goes on from the first"
    assert load_increments(again, disk, (first, second))
    again.streams[:] = store.streams
    again.streams["next_no"][1] -= 1
    again.streams["fill"][1] -= 1
    disk.content(first.name)[5_000] ^= 1
    assert not load_increments(ReportStore(), disk, (first,)), "a bit is wrong"
    last = world.core.store.stream(1).next_no - 1
    last -= 1
    assert again.stream(1).next_no == last + 1 and last > 1_000
    for no in range(1, last, 256):
        old, new = world.core.store.page(1, no, last), again.page(1, no, last)
        assert old[0].tobytes() == new[0].tobytes() and old[1] == new[1]
    again.events["price"][again._places(1, 5, 1)] += 1  # a planted error
    assert any(
        store.page(1, no, last)[0].tobytes() != again.page(1, no, last)[0].tobytes() for no in range(1, last, 256)
    )
