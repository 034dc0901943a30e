"""The stream of all events in shared memory (gateway.shared_stream): nothing lost, nothing torn, nobody held up."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gateway_market as gm
import numpy as np
import pytest
from gateway_market import DAY, HOUR
from session_world import World

from engine import messages
from engine.calendar import day_start_ns
from engine.records import COMMAND, EVENT, NEW
from gateway import protocol as p
from gateway import sending, shared_stream
from gateway.core import Core
from gateway.operator import OperatorClient
from gateway.server import Server
from gateway.session import Way
from gateway.shared_stream import RING_BYTES, TAKEN_BYTES, SharedReader, SharedStream

ROOT = Path(__file__).resolve().parent.parent
ELSEWHERE = "the stream is shared on x86-64 Linux only; elsewhere it goes through the socket"


@pytest.fixture
def stream() -> Iterator[SharedStream]:
    if not shared_stream.available():
        pytest.skip(ELSEWHERE)
    made = SharedStream()
    yield made
    made.close()


def put(stream: SharedStream, count: int, payloads: bytes = b"") -> bytes:
    """A frame whose events bear their own numbers."""
    events = np.zeros(count, EVENT)
    events["seq"] = np.arange(stream.next_no, stream.next_no + count)
    head = p.report_head(events, payloads, stream.next_no, magic=p.STREAM_MAGIC, sent_ns=1)
    stream.put(head, events, payloads)
    return head + events.tobytes() + payloads


def reader(stream: SharedStream) -> SharedReader:
    return SharedReader(stream.path, stream.mark, stream.place)


def test_a_reader_gets_every_frame_as_it_was_put_often_around_the_ring(stream: SharedStream) -> None:
    chance, listener = random.Random(1), reader(stream)
    assert listener.take() == []
    while stream.place < 3 * RING_BYTES:
        sent = [put(stream, chance.randint(1, 1_024), os.urandom(chance.randint(0, 500))) for _ in range(20)]
        assert listener.take() == sent
    assert listener.take() == []


def test_a_reader_copies_so_much_at_once_and_the_rest_next_time(stream: SharedStream) -> None:
    listener, sent = reader(stream), []
    while stream.place < 2.5 * TAKEN_BYTES:
        sent.append(put(stream, 1_024))
    taken = []
    for _ in range(3):
        frames = listener.take()
        assert frames is not None and sum(len(frame) for frame in frames) <= TAKEN_BYTES
        taken += [bytes(frame) for frame in frames]
    assert taken == sent and listener.take() == []


def test_frames_are_those_of_the_socket(stream: SharedStream) -> None:
    listener = reader(stream)
    events = np.zeros(3, EVENT)
    events["kind"] = 1
    stream.next_no = 41
    stream.put(p.report_head(events, b"", 41, flags=p.CAUGHT_UP, magic=p.STREAM_MAGIC, sent_ns=9), events, b"")
    assert listener.take() == [p.encode_reports(events, b"", 41, flags=p.CAUGHT_UP, magic=p.STREAM_MAGIC, sent_ns=9)]
    assert stream.next_no == 44


def test_who_is_lapped_is_told_so(stream: SharedStream) -> None:
    slow, behind = reader(stream), stream.place
    first = put(stream, 1_024)
    while stream.place + 2 * len(first) <= behind + RING_BYTES:
        put(stream, 1_024)
    taken = slow.take()
    assert taken is not None and taken[0] == first, "nothing of it was written over yet"
    slow = SharedReader(stream.path, stream.mark, behind)
    for _ in range(3):
        put(stream, 1_024)
    assert slow.take() is None


def test_a_reader_that_does_not_look_back_takes_torn_frames(stream: SharedStream, monkeypatch) -> None:
    """The planted bug: without the look at ``claimed`` a lapped reader hands on what is there now."""
    slow, first = reader(stream), put(stream, 1_024)
    while stream.place < RING_BYTES + len(first):
        put(stream, 1_024)
    monkeypatch.setattr(shared_stream, "CLAIMED", 2)  # a word that stays zero
    taken = slow.take()
    assert taken is not None and taken[0] != first


def test_only_the_ring_that_was_meant_is_read(stream: SharedStream, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="another exchange"):
        SharedReader(stream.path, "00" * 8, 0)
    other = tmp_path / "file"
    other.write_bytes(bytes(100))
    with pytest.raises(ValueError, match="not the exchange's stream"):
        SharedReader(str(other), stream.mark, 0)
    with pytest.raises(OSError, match="No such file"):
        SharedReader(str(tmp_path / "none"), stream.mark, 0)
    path, mark = stream.path, stream.mark
    stream.close()
    with pytest.raises((OSError, ValueError)):
        SharedReader(path, mark, 0)


def test_neither_side_can_cut_the_other_ones_memory(stream: SharedStream) -> None:
    fd = os.open(stream.path, os.O_RDWR)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    os.close(fd)


def test_its_memory_is_touched_ahead_only_when_it_is_used(stream: SharedStream) -> None:
    assert stream.touchable()[0].nbytes == 0
    put(stream, 1)
    array, used, more = stream.touchable()
    assert (array.nbytes, used) == (more, 0) and more > RING_BYTES


def test_a_reader_in_another_process_takes_no_torn_frame_from_a_writer_that_never_waits(stream: SharedStream) -> None:
    """It may be lapped, and then begins where the writer is; each frame that it has is whole and in its order."""
    code = """
        import sys
        import numpy as np
        from gateway import protocol as p
        from gateway.shared_stream import SharedReader
        path, mark = sys.argv[1:]
        reader, place, taken, lapped, last = SharedReader(path, mark, 0), 0, 0, 0, -1
        print("ready", flush=True)
        while last < int(sys.stdin.readline() or 0):
            frames = reader.take()
            if frames is None:
                lapped, reader = lapped + 1, SharedReader(path, mark, int(reader._words[8]))
                print("lapped", flush=True)
                continue
            for frame in frames:
                page = p.decode_reports(frame)
                assert page.first_no > last, (page.first_no, last)
                assert (page.events["seq"] == np.arange(page.first_no, page.first_no + len(page.events))).all()
                last, taken = page.first_no, taken + 1
            print(taken, last, flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), stream.path, stream.mark],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    with process:
        assert process.stdout.readline() == "ready\n"
        said = []
        for turn in range(60):
            process.stdin.write(f"{1 << 40}\n")
            for _ in range(40 if turn % 3 else 700):  # sometimes more than the ring holds, while it reads
                put(stream, 1_024)
            said.append(process.stdout.readline().split())
        process.stdin.close()
        rest = process.stdout.read()
        assert process.wait(60) == 0, rest
    assert any(word == ["lapped"] for word in said) and any(len(word) == 2 for word in said), said


# --- through a session ------------------------------------------------------------------------------------------


def market(*, shared: bool = True) -> tuple[Any, Any, Any]:
    """A world whose exchange shares its stream, the operators' client that takes it by pages, and a member's."""
    if shared and not shared_stream.available():
        pytest.skip(ELSEWHERE)
    world: Any = World(random.Random(1))
    world.core.shared = SharedStream() if shared else None
    ops, member = world.client("ops1"), world.client("member-1")
    world.taken = b""
    return world, ops, member


def trade(member: Any, frames: int) -> None:
    orders = np.zeros(300, COMMAND)  # refused or not: each has its event
    orders["kind"], orders["price"], orders["quantity"] = NEW, 5_900, 1
    for _ in range(frames):
        member.link.request(orders)
    member.sync()


def everything(world: Any, ops: Any) -> bool:
    """Has the client each event once, in order, as the exchange has it?"""
    for _ in range(20):
        world.taken += b"".join(page.tobytes() for page, _ in OperatorClient.event_pages(ops))
        world.advance(1_000_000)
    store = world.core.store
    return world.taken == store.events[: store.count].tobytes()


def test_who_has_caught_up_reads_on_in_shared_memory_and_misses_nothing() -> None:
    world, ops, member = market()
    trade(member, 4)
    OperatorClient.subscribe(ops, 1, shared=True)
    assert everything(world, ops) and ops.link._shared is not None
    sent, send = [], world.core.send
    world.core.send = lambda plane, route, frame: (sent.append(bytes(frame)), send(plane, route, frame))[1]
    for _ in range(5):
        trade(member, 3)
        assert everything(world, ops)
    assert not any(frame[0] == p.STREAM_MAGIC for frame in sent), "nothing of it went through the socket"
    session = world.core.sessions[4]
    assert session.stream_cursor == world.core.store.first_event_no + world.core.store.count


def test_one_begins_where_another_reads_already() -> None:
    world, ops, member = market()
    OperatorClient.subscribe(ops, 1, shared=True)
    trade(member, 2)
    assert everything(world, ops)
    session, core = world.core.sessions[4], world.core
    place, told = core.shared.place, []
    core._on_subscribe(
        session, p.Subscribe(token=session.token, first=1, shared=True)
    )  # it comes anew, as a second would
    core.sessions[1].stream_way = Way.SHARED
    core.streaming.add(1)  # a member's session stands for the other reader
    send, core.send = core.send, lambda plane, route, frame: (told.append(bytes(frame)), send(plane, route, frame))[1]
    trade(member, 2)
    assert core.shared.place > place, "the other one went on"
    world.taken = b""
    OperatorClient.subscribe(ops, 1, shared=True)
    assert everything(world, ops) and session.stream_way is Way.SHARED
    assert any(b"stream_shared" in frame for frame in told)


def test_a_reader_that_was_lapped_gets_the_rest_the_same_way() -> None:
    world, ops, member = market()
    OperatorClient.subscribe(ops, 1, shared=True)
    trade(member, 1)
    assert everything(world, ops)
    opened, stream = ops.link._shared, world.core.shared
    next_no = stream.next_no
    trade(member, 3)
    while stream.place < 2 * RING_BYTES:  # a market that was busier meanwhile than its reader
        put(stream, 1_024)
    stream.next_no = next_no
    sent, send = [], world.core.send
    world.core.send = lambda plane, route, frame: (sent.append(bytes(frame)), send(plane, route, frame))[1]
    assert OperatorClient.event_pages(ops) == []
    assert ops.link._shared is None, "lapped, and knows it"
    assert everything(world, ops)
    assert ops.link._shared is opened, "what is open is not opened again"
    trade(member, 1)
    assert everything(world, ops)
    assert not any(frame[0] == p.STREAM_MAGIC for frame in sent), "nothing of it went through the socket"


BEHIND = 20 * 65_536  # events, more than the ring holds


def catches_up(monkeypatch: pytest.MonkeyPatch, looks: int = 40) -> tuple[int, bool]:
    """A reader subscribes to a day of BEHIND events while others come, and looks each 10 ms: how often it asked, and
    whether it has them all."""
    world, ops, _ = market()
    core, events = world.core, np.zeros(65_536, EVENT)
    assert BEHIND * EVENT.itemsize > RING_BYTES
    events["session"] = 1

    def happens(count: int) -> None:
        events["ref"] = np.arange(core.store.count, core.store.count + len(events))
        core.store.append(events[:count], b"")

    for _ in range(BEHIND // len(events)):
        happens(len(events))
    asked, ask = [], ops.link._ask_for_stream
    monkeypatch.setattr(ops.link, "_ask_for_stream", lambda: (asked.append(ops.link.stream_next), ask()))
    monkeypatch.setattr(core, "pump", lambda frames=0: Core.pump(core, 0))  # as the server's loop, which streams apart
    OperatorClient.subscribe(ops, 1, shared=True)
    taken = 0
    for _ in range(looks):
        happens(20_000)  # two million a second
        core.stream(4)
        for page, _ in OperatorClient.event_pages(ops):
            assert page.tobytes() == core.store.events[taken : taken + len(page)].tobytes()
            taken += len(page)
        world.advance(shared_stream.LOOK_NS)
    return len(asked), taken == core.store.count


def test_who_has_a_day_to_catch_up_with_is_not_lapped_by_what_it_asked_for(monkeypatch) -> None:
    assert catches_up(monkeypatch) == (1, True)


def test_a_planted_stream_that_is_written_as_fast_as_it_can_laps_who_asked_for_it(monkeypatch) -> None:
    monkeypatch.setattr(sending, "FRAMES_PER_LOOK", 1 << 30)
    asked, has_all = catches_up(monkeypatch)
    assert asked > 1 and not has_all


@pytest.mark.parametrize("why", ["no such path", "another mark", "not shared here"])
def test_without_shared_memory_the_stream_comes_through_the_socket(why: str) -> None:
    world, ops, member = market(shared=why != "not shared here")
    if why == "no such path":
        world.core.shared.path = "/proc/0/fd/0"
    elif why == "another mark":
        world.core.shared.mark = "00" * 8
    OperatorClient.subscribe(ops, 1, shared=True)
    for _ in range(3):
        trade(member, 2)
        assert everything(world, ops)
    assert ops.link._shared is None and world.core.sessions[4].stream_way is not Way.SHARED


def test_a_frame_has_fewer_events_where_their_payloads_are_long(monkeypatch) -> None:
    world, ops, member = market()
    OperatorClient.subscribe(ops, 1, shared=True)
    assert everything(world, ops)
    monkeypatch.setattr(sending, "FRAME_BYTES_MAX", 4_096)
    sizes, put_frame = [], world.core.shared.put
    world.core.shared.put = lambda head, events, payloads: (
        sizes.append(len(head) + events.nbytes + len(payloads)),
        put_frame(head, events, payloads),
    )
    trade(member, 2)
    world.core.source(messages.PublishNotice(text="n" * 500, by="ops1"))
    world.core.flush()
    assert everything(world, ops) and len(sizes) > 5 and max(sizes) <= 4_096


@pytest.mark.parametrize("cut", [False, True])
def test_a_new_day_goes_on_where_the_old_one_ended(cut: bool) -> None:
    """Also where the connection was cut before its end: what was left of the old day is in memory."""
    world, ops, member = market()
    OperatorClient.subscribe(ops, 1, shared=True)
    trade(member, 2)
    assert everything(world, ops)
    if cut:
        ops.link.socket.up = False
        world.wires.clear()
    store = world.core.store
    world.core.step_to(DAY + 16 * HOUR)
    old, first_no = store.events[: store.count].tobytes(), store.first_event_no
    world.core.step_to(day_start_ns(20251204) + 10 * HOUR)
    assert store.first_event_no > first_no, "the day before is gone"
    for _ in range(10):
        everything(world, ops)
        world.advance(100_000_000)
    assert world.taken == old + store.events[: store.count].tobytes()
    assert ops.link.stream_next == store.first_event_no + store.count and ops.link._shared is not None
    world.taken = store.events[: store.count].tobytes()
    trade(world.client("member-2"), 1)
    assert everything(world, ops), "and goes on in shared memory"


@pytest.mark.slow
def test_a_reader_has_each_event_once_over_a_kill_of_the_exchange(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    gm.make(folder)
    keys = folder / "keys"
    with (
        gm.running(folder) as exchange,
        OperatorClient(folder, key=str(keys / "ops1.key")) as ops,
        OperatorClient(folder, key=str(keys / "monitor.key")) as watcher,
    ):
        watcher.subscribe(1, shared=True)
        gm.fund(ops)
        taken: list[int] = []

        def caught_up() -> bool:
            taken.extend(seq for page, _ in watcher.event_pages() for seq in page["seq"].tolist())
            return watcher.link.stream_next == ops.status()["next_event"]

        def reads_as_it_may() -> bool:
            """The word to read on in memory comes behind the last frame of the socket."""
            return caught_up() and (watcher.link._shared is not None) == shared_stream.available()

        for n in range(3):
            assert gm.wait_until(reads_as_it_may)
            ops.execute(messages.Deposit(account=1, amount=100, document=f"later-{n}"))
            exchange.kill()
            exchange.start()
            exchange.ready()
        assert gm.wait_until(caught_up)
        assert len(taken) == ops.status()["next_event"] - 1 and taken == sorted(taken)


def test_a_word_that_was_lost_is_said_again() -> None:
    """With a connection that libzmq makes anew, frames are lost that nobody misses: the stream is in memory then."""
    world, ops, member = market()
    lost = world.lose_first(b"stream_shared")
    trade(member, 2)
    OperatorClient.subscribe(ops, 1, shared=True)
    assert not everything(world, ops) and lost and world.core.sessions[4].stream_way is Way.SHARED
    for _ in range(40):
        everything(world, ops)
        world.advance(100_000_000)
    assert everything(world, ops) and ops.link._shared is not None


def test_what_lies_behind_a_gap_waits_until_the_gap_is_filled() -> None:
    """A frame was lost with its connection: those behind it that are on their way are not taken instead."""
    world, ops, member = market(shared=False)
    OperatorClient.event_pages(ops)
    OperatorClient.subscribe(ops, 1)
    assert everything(world, ops)
    send, lost = world.core.send, []

    def lossy(plane: str, route: bytes, frame: bytes) -> bool:
        if frame[:1] == bytes([p.STREAM_MAGIC]) and len(lost) < 1:
            lost.append(frame)
            return True
        return send(plane, route, frame)

    world.core.send = lossy
    trade(member, 20)
    for _ in range(40):
        everything(world, ops)
        world.advance(100_000_000)
        trade(member, 1)
    assert lost and everything(world, ops)


def test_a_start_that_fails_before_there_is_a_core_says_why_and_gives_the_journal_back(
    tmp_path: Path, monkeypatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("no core today")

    made = gm.make(tmp_path / "m")
    with monkeypatch.context() as planted:
        planted.setattr("gateway.server.Core", broken)
        first = Server(made, "stepped")
        with pytest.raises(OSError, match="no core today"):
            first.start()
        first.close()
    with gm.serving(made) as server:
        assert server.core.exchange.seq > 0, "the journal was free again"
