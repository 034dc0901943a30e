"""Snapshots of a running exchange: what a start from one gives, in memory and without a process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import gateway_market as gm
import numpy as np
import pytest

from engine import messages as m
from engine.exchange import ENGINE_ABI
from engine.journal import Identity, Journal, JournalFailed
from engine.journal.beside import Beside
from engine.journal.crash_disk import CrashDisk
from engine.records import BUY, COMMAND, NEW, SELL
from gateway import config as cfg
from gateway import keys
from gateway.batch import CommandLog
from gateway.clock import SteppedClock
from gateway.core import Core
from gateway.scheduler import bootstrap
from gateway.snapshots import Restored, Snapshots

SECOND = 1_000_000_000
MINUTE = 60 * SECOND


class Life:
    """One life of an exchange on a disk in memory: what ``Server.open`` does, without sockets."""

    def __init__(
        self, market: cfg.Market, disk: CrashDisk, commands: int = 0, minutes: int = 0, beside: Beside | None = None
    ) -> None:
        self.disk = disk
        restored = Restored(market, disk, beside)
        identity = Identity(engine_abi=ENGINE_ABI, rules_hash=market.rules.hash(), journal_id=7)
        self.journal = Journal.open(disk, identity, segment_bytes=1 << 20, restore=restored.take)
        restored.finish(self.journal)
        assert restored.exchange is not None
        clock = SteppedClock(max(restored.exchange.time_ns, gm.MORNING))
        table = keys.load(market.folder / "keys")
        self.core = Core(
            market,
            restored.exchange,
            self.journal,
            clock,
            table,
            lambda plane, route, frame: True,
            store=restored.store,
            command_log=restored.log,
        )
        for group in self.journal.batches(self.journal.recovery.snapshot_seq, messages_apart=True):
            self.core.apply(group.commands, group.payloads)
        self.snapshots = Snapshots(self.core, self.journal, restored, commands=commands, minutes=minutes)
        bootstrap(self.core)

    def trade(self, orders: int) -> None:
        """So many orders of members 1 and 2, some of which meet."""
        done = self.core.exchange.seq
        records = np.zeros(orders, COMMAND)
        records["kind"], records["price"], records["quantity"] = NEW, 5_950, 1 + np.arange(orders) % 7
        records["side"] = np.where(np.arange(orders) % 3 == 0, SELL, BUY)
        records["account"] = records["session"] = 1 + np.arange(orders) % 2
        records["request_no"] = done + np.arange(orders) + 1
        self.core.batch.count = orders
        self.core.batch.records[:orders] = records
        self.core.flush()

    def picture(self) -> tuple[object, ...]:
        """Everything that must come back: state, reports, streams, the log."""
        core = self.core
        assert core.log.filled(wait=True)
        digests = [core.store.digest(s) for s in np.flatnonzero(core.store.streams["next_no"]).tolist()]
        log = core.log.records[: core.log.count].tobytes(), sorted(core.log.payloads.items()), core.log.first_seq
        return core.exchange.seal_hash(), core.store.count, core.store.first_event_no, digests, log


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> cfg.Market:
    return gm.make(tmp_path_factory.mktemp("snapshots") / "m")


def begun(market: cfg.Market, commands: int = 0, minutes: int = 0) -> Life:
    """A market whose members have money and allowances."""
    life = Life(market, CrashDisk(), commands, minutes)
    for account in (1, 2):
        life.core.source(m.Deposit(account=account, amount=10**9, document=f"bank-{account}"))
        life.core.source(m.TransferIn(account=account, instrument="CEA23", quantity=50_000, transfer=f"in-{account}"))
    life.core.flush()
    return life


def take(life: Life) -> None:
    assert life.snapshots.begin(0)
    life.snapshots.collect(wait=True)


def increments(life: Life) -> list[str]:
    return [name for name in life.disk.names() if name.endswith(".increment")]


def test_a_start_from_a_snapshot_taken_while_trading_gives_state_reports_and_log(market: cfg.Market) -> None:
    life = begun(market)
    for orders in (40, 1_000, 3):
        life.trade(orders)
        take(life)
        life.trade(20)  # behind the snapshot: replayed
    assert len(increments(life)) == 3
    expected = life.picture()
    again = Life(market, life.disk.copy())
    assert again.journal.recovery.snapshot_seq > 1_000 and again.picture() == expected and not again.core.log.trouble
    take(again)
    again.trade(300)
    expected = again.picture()
    assert len(increments(again)) == 4, "it goes on from the increments that it found"
    third = Life(market, again.disk.copy())
    assert third.picture() == expected
    for name in increments(third):  # without one of them: the whole journal, and the same
        third.disk.remove(name)
    fourth = Life(market, third.disk.copy())
    assert fourth.journal.recovery.snapshot_seq == 0 and fourth.picture() == expected
    assert len(fourth.journal.recovery.alarms) == 3


class Held:
    """A ``Beside`` whose work is done only when somebody waits for it."""

    def __init__(self) -> None:
        self.todo: list[Callable[[], None]] = []

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        self.todo.append(work)

        def wait() -> None:
            if work in self.todo:
                self.todo.remove(work)
                work()

        return wait


def requests(life: Life) -> dict[tuple[int, int], int]:
    """Sequence of each request that the log knows, by session and number."""
    pairs = [(session, number) for session in (1, 2) for number in range(1, life.core.exchange.seq + 100)]
    return {pair: seq for pair in pairs if (seq := life.core.log.seq_of(*pair))}


def test_the_log_is_filled_beside_the_open_market_and_only_a_repeat_of_what_it_lacks_waits(market: cfg.Market) -> None:
    life = begun(market)
    for orders in (40, 1_000):
        life.trade(orders)
    take(life)
    life.trade(20)  # behind the snapshot: replayed
    expected, everything = life.picture(), requests(life)
    assert len(everything) == 1_060
    held = Held()
    again = Life(market, life.disk.copy(), beside=held)
    assert held.todo, "the market is open and the log is not there"
    behind = {pair: seq for pair, seq in everything.items() if seq > again.journal.recovery.snapshot_seq}
    assert len(behind) == 20 and {pair: again.core.log.seq_of(*pair) for pair in behind} == behind
    assert held.todo, "nobody had to wait for what came after the snapshot"
    assert requests(again) == everything and not held.todo
    assert again.picture() == expected
    late = Life(market, life.disk.copy(), beside=Held())
    for one in (life, late):
        one.trade(300)  # appended behind commands that are still on their way
    assert late.core.log.count == life.core.log.count and requests(late) == requests(life)


def test_commands_that_do_not_verify_are_not_known_and_all_others_are(market: cfg.Market) -> None:
    first = begun(market)
    first.trade(40)
    take(first)
    second = Life(market, first.disk.copy())
    second.trade(30)
    take(second)
    second.trade(10)
    disk = second.disk.copy()
    segment = min(name for name in disk.names() if name.endswith(".segment"))
    disk.content(segment)[3_000] ^= 1
    third = Life(market, disk)
    found = requests(third)
    assert third.core.log.trouble.startswith("DAMAGED")
    assert len(found) == 10 and found.items() <= requests(second).items()


def sequenced(first: int, count: int) -> np.ndarray:
    """COMMAND[count] of session 1."""
    commands = np.zeros(count, COMMAND)
    commands["seq"] = commands["request_no"] = np.arange(first, first + count)
    commands["session"] = 1
    return commands


def reading(commands: np.ndarray) -> Callable[[np.ndarray], dict[int, bytes]]:
    """What puts them into a log."""

    def read(into: np.ndarray) -> dict[int, bytes]:
        into[:] = commands
        return {int(commands[0]["seq"]): b"payload"}

    return read


def test_a_new_day_and_a_log_that_grows_wait_for_what_is_being_filled() -> None:
    held, log = Held(), CommandLog()
    log.fill(101, 5, reading(sequenced(101, 5)), held)
    log.append(sequenced(106, 3), b"")
    assert log.seq_of(1, 107) == 107 and held.todo
    log.start_day()
    assert not held.todo
    log.append(sequenced(109, 2), b"")
    assert [log.seq_of(1, number) for number in (103, 107, 110)] == [0, 0, 110]
    log = CommandLog()
    log.records, log.previous = log.records[:8], log.previous[:8]
    log.fill(101, 5, reading(sequenced(101, 5)), held)
    log.append(sequenced(106, 9), b"")
    assert [log.seq_of(1, number) for number in (101, 105, 106, 114)] == [101, 105, 106, 114]
    assert log.records[:14]["seq"].tolist() == list(range(101, 115)) and log.payloads == {101: b"payload"}


def test_a_disk_that_fails_under_the_log_ends_the_process() -> None:
    def read(into: np.ndarray) -> dict[int, bytes]:
        raise JournalFailed("journal: reading a segment failed")

    log = CommandLog()
    log.fill(1, 5, read, Held())
    assert not log.filled(wait=False)
    with pytest.raises(JournalFailed):
        log.filled(wait=True)


def test_a_snapshot_is_due_after_so_many_commands_or_minutes_and_never_without_a_command(market: cfg.Market) -> None:
    life = begun(market, commands=1_000, minutes=2)
    take(life)
    s = life.snapshots
    assert not s.due(10 * MINUTE), "nothing has happened since"
    life.trade(999)
    assert not s.due(SECOND)
    life.trade(1)
    assert s.due(SECOND)
    s.turn(SECOND)
    assert s.writing
    s.collect(wait=True)
    assert not s.writing and s.taken == 2
    life.trade(1)
    assert not s.due(2 * MINUTE) and s.due(SECOND + 2 * MINUTE)
    never = begun(market)
    never.trade(2_000)
    assert not never.snapshots.due(1_000 * MINUTE)


def test_a_day_that_ends_while_its_reports_are_written_does_not_change_what_is_written(market: cfg.Market) -> None:
    life = begun(market)
    life.trade(2_000)
    before = life.core.store.events[: life.core.store.count].tobytes()
    gate, written = threading.Event(), []
    increment = life.journal.increment
    life.journal.increment = lambda content, seq: (gate.wait(), written.append(content), increment(content, seq))[2]  # type: ignore[method-assign, func-returns-value, assignment]
    assert life.snapshots.begin(0)
    life.core.store.start_day()
    life.core.store.append(np.ones(500, life.core.store.events.dtype), b"")
    gate.set()
    life.snapshots.collect(wait=True)
    assert written[0][1].tobytes() == before
    life.core.store.lent = False  # planted: the memory is used again though a snapshot may read it
    kept = life.core.store.events[:500]
    held = kept.tobytes()
    life.core.store.start_day()
    life.core.store.append(np.zeros(500, life.core.store.events.dtype), b"")
    assert kept.tobytes() != held


def test_a_disk_that_fails_under_a_snapshot_ends_the_exchange(market: cfg.Market) -> None:
    life = begun(market)
    life.trade(10)
    life.disk.fail = ("sync", 1)
    assert life.snapshots.begin(0)
    life.snapshots.abandon()  # its thread has ended
    life.trade(10)  # the market does not trip over it before the loop asks
    with pytest.raises(JournalFailed) as ended:
        life.snapshots.collect(wait=True)
    assert ended.value.code == 74


def test_a_snapshot_without_room_is_an_alarm_and_the_next_one_holds_what_it_would_have_held(market: cfg.Market) -> None:
    life = begun(market)
    life.trade(50)
    room, life.disk.room_bytes = life.disk.room_bytes, 100
    take(life)
    assert "could not be written" in life.core.alarms[-1] and not increments(life)
    life.disk.room_bytes = room
    life.trade(50)
    take(life)
    expected = life.picture()
    assert Life(market, life.disk.copy()).picture() == expected


def test_a_snapshot_of_the_former_form_is_passed_over(market: cfg.Market, tmp_path: Path) -> None:
    import struct

    import msgspec

    life = begun(market)
    life.trade(20)
    head = msgspec.msgpack.encode({"engine": 1, "reports": {}, "log": {}})
    state = [struct.pack("<Q", len(head)), head, life.core.exchange.snapshot()]
    assert life.journal.snapshot(state, life.core.exchange.seq)
    expected = life.picture()
    again = Life(market, life.disk.copy())
    assert again.journal.recovery.snapshot_seq == 0 and len(again.journal.recovery.alarms) == 1
    assert again.picture() == expected
