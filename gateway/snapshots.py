"""Snapshots of a running exchange, and the state that a start takes from one.

The market waits only for a copy of the engine's tables and of what is small. The day's events and the full blocks of
the streams' indices never change once they are written, so a thread writes them from where they lie, and only what is
new since the last snapshot: an increment of the journal (engine.journal.increment). The day's commands are in the
journal already; a start reads them there.

State of a snapshot: u64 length of a MessagePack head, the head (``store_head`` and the log's first sequence), the
engine's bytes. Content of an increment: u64 length of a MessagePack head, the head, EVENT records, the notices'
payloads, then of some blocks the numbers, the numbers before them (u32 each) and the indices (u32[256] each).
"""

from __future__ import annotations

import itertools
import logging
import struct
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np
import xxhash

from engine.exchange import Exchange
from engine.journal import Disk, File, Journal
from engine.journal.beside import Beside, at_once, in_pairs
from engine.journal.increment import Increment
from engine.market import Capacity, Market
from engine.memory import reserved
from engine.records import EVENT
from gateway import hot
from gateway.batch import CommandLog
from gateway.memory import Used
from gateway.reports import ReportStore

if TYPE_CHECKING:
    from gateway.config import Market as Folder
    from gateway.core import Core

log = logging.getLogger(__name__)

STATE_FORMAT: Final = 2  # 1 held the day's reports and commands whole; a start on one replays the journal instead
# Reserved, touched ahead of its use (gateway.memory): growing the table of the day's deals in an open market took 66 ms
# from 65,536 deals on, and twice as long each time.
DEALS_AT_START: Final = 1 << 22
# Memory that a snapshot is copied into: reserved, and made present before it is needed. On a virtual machine whose host
# had not given the pages yet, a copy of 70 MB into fresh memory took 450 ms; a state beyond a gigabyte still may.
ROOM_BYTES: Final = 1 << 30
ROOM_BLOCKS: Final = 1 << 18  # 67 million reports from one snapshot to the next
STATE_AHEAD: Final = 16 << 20  # bytes: the orders of some 0.1 s, and desk and auctions, whose size is not looked at
BLOCKS_AHEAD: Final = 1 << 13  # a last block of each of 4,000 sessions, and as many full ones
NS_PER_MINUTE: Final = 60_000_000_000
PIECE_BYTES: Final = 1 << 20  # of an increment that is read: still in the cache when it is hashed


@dataclass(slots=True)
class Mark:
    """How far the increments of the day reach: the next one begins here. ``tails``: blocks that were still filling."""

    first_event_no: int
    count: int = 0
    used: int = 1
    notices: int = 0
    tails: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint32))
    increments: tuple[Increment, ...] = ()


def mark_of(store: ReportStore, increments: tuple[Increment, ...]) -> Mark:
    """The mark behind all that a store holds."""
    tails = np.unique(store.streams["tail"])
    return Mark(
        store.first_event_no,
        store.count,
        store.used,
        len(store.payloads),
        tails[tails != 0].astype(np.uint32),
        increments,
    )


def store_head(store: ReportStore) -> dict[str, Any]:
    """What a snapshot itself keeps of the reports: counts, and each stream's numbers and last block."""
    sessions = np.flatnonzero(store.streams["next_no"]).astype(np.uint16)
    return {
        "first_event_no": store.first_event_no,
        "count": store.count,
        "used": store.used,
        "sessions": sessions.tobytes(),
        "streams": store.streams[sessions].tobytes(),
    }


def increment_of(store: ReportStore, mark: Mark, room: np.ndarray | None = None) -> list[np.ndarray]:
    """What the store holds behind ``mark``, as byte arrays: events where they lie, the rest copied.

    ``room``: uint32[n, 256], memory for the blocks where they fit.
    """
    numbers = np.concatenate([mark.tails, np.arange(mark.used, store.used, dtype=np.uint32)]).astype(np.uint32)
    notices = list(itertools.islice(store.payloads.items(), mark.notices, None))
    head = msgspec.msgpack.encode(
        {
            "first": mark.count,
            "events": store.count - mark.count,
            "notices": [(index, len(payload)) for index, payload in notices],
            "blocks": len(numbers),
        }
    )
    store.lent = True
    fits = room is not None and len(numbers) <= len(room)
    blocks = np.take(store.blocks, numbers, axis=0, out=room[: len(numbers)] if fits and room is not None else None)
    return [
        np.frombuffer(struct.pack("<Q", len(head)) + head, np.uint8),
        store.events[mark.count : store.count].view(np.uint8),
        np.frombuffer(b"".join(payload for _, payload in notices), np.uint8),
        numbers.view(np.uint8),
        store.previous[numbers].view(np.uint8),
        blocks.reshape(-1).view(np.uint8),
    ]


def _state_bytes(market: Market) -> int:
    """How large the engine's part of a snapshot is, nearly: what grows with the day, and small tables in full."""
    grown = int(market.book.pool[0]["unused"]) * (market.book.orders.itemsize + market.cold.itemsize)
    small = market.accounts.nbytes + market.holdings.nbytes + market.sessions.nbytes
    return grown + small + int(market.market[0]["deals"]) * market.deals.itemsize


class _Reader:
    """Reads an increment from its beginning, into memory that is given, and hashes each piece while it is at hand."""

    def __init__(self, file: File, length: int) -> None:
        self._file, self._left, self._at = file, length, 0
        self.hash = xxhash.xxh3_128()

    def take(self, size: int, into: np.ndarray | None = None) -> np.ndarray | None:
        """The next ``size`` bytes, None where the file does not have them."""
        if size > self._left:
            return None
        target = np.empty(size, np.uint8) if into is None else into
        for start in range(0, size, PIECE_BYTES):
            piece = target[start : start + PIECE_BYTES]
            data = self._file.read(self._at, piece.size, piece)
            if data.size != piece.size:
                return None
            if not np.shares_memory(data, piece):
                piece[:] = data
            self.hash.update(piece.data)
            self._at += piece.size
        self._left -= size
        return target

    def done(self) -> bool:
        """Whether everything was read."""
        return self._left == 0


class Part(NamedTuple):
    """An increment that verifies: its events are in the store already, behind ``first``; the rest is to be added."""

    first: int
    events: int
    notices: list[tuple[int, int]]
    payloads: bytes
    numbers: np.ndarray
    previous: np.ndarray
    indices: np.ndarray


def load_increments(
    store: ReportStore, disk: Disk, increments: tuple[Increment, ...], beside: Beside | None = None
) -> bool:
    """Adds all increments to a store that is being restored; False where one is missing or does not verify.

    The store must have the room. With ``beside`` every other one is read and verified there. The store is good for
    nothing after False.
    """
    jobs = [partial(_read_part, store, disk, increment) for increment in increments]
    with closing(in_pairs(jobs, beside)) as parts:
        return all(part is not None and _add(store, part) for part in parts)


def _read_part(store: ReportStore, disk: Disk, increment: Increment, lane: int) -> Part | None:
    """Reads and verifies one increment, its events to their place, which is its own; None where it is not sound."""
    try:
        file = disk.open(increment.name)
    except FileNotFoundError:
        return None
    try:
        if file.size() != increment.length:
            return None
        reader = _Reader(file, increment.length)
        part = _read(store, reader)
        return part if part is not None and reader.done() and reader.hash.digest() == increment.digest else None
    finally:
        file.close()


def _read(store: ReportStore, reader: _Reader) -> Part | None:
    size = reader.take(8)
    text = None if size is None else reader.take(int(size.view(np.uint64)[0]))
    if text is None:
        return None
    try:
        head = msgspec.msgpack.decode(text.data)
    except msgspec.DecodeError:
        return None
    first, events, blocks = head["first"], head["events"], head["blocks"]
    if first + events > len(store.events):
        return None
    if reader.take(events * EVENT.itemsize, store.events[first : first + events].view(np.uint8)) is None:
        return None
    payloads = reader.take(sum(length for _, length in head["notices"]))
    numbers, previous = reader.take(4 * blocks), reader.take(4 * blocks)
    indices = reader.take(4 * hot.BLOCK * blocks)
    if payloads is None or numbers is None or previous is None or indices is None:
        return None
    return Part(
        first,
        events,
        head["notices"],
        payloads.tobytes(),
        numbers.view(np.uint32),
        previous.view(np.uint32),
        indices.view(np.uint32).reshape(-1, hot.BLOCK),
    )


def _add(store: ReportStore, part: Part) -> bool:
    """Files a part behind those before it; False where it is not the next one."""
    used = int(part.numbers.max(initial=0)) + 1
    if part.first != store.count or used > len(store.blocks):
        return False
    at = 0
    for index, length in part.notices:
        store.payloads[index] = part.payloads[at : at + length]
        at += length
    store.previous[part.numbers] = part.previous
    store.blocks[part.numbers] = part.indices
    store.count += part.events
    store.used = max(store.used, used)
    return True


def split_snapshot(data: bytes | memoryview) -> tuple[dict[str, Any], memoryview]:
    """(head, engine part) of a snapshot's state."""
    view = memoryview(data).cast("B")
    (length,) = struct.unpack_from("<Q", view)
    return msgspec.msgpack.decode(view[8 : 8 + length]), view[8 + length :]


class Restored:
    """What a start begins with: empty, or the state of the newest snapshot whose increments are sound."""

    def __init__(self, market: Folder, disk: Disk, beside: Beside | None = None) -> None:
        """``beside``: as for ``Journal.open``."""
        self._market, self._disk, self._beside = market, disk, beside
        self._capacity = Capacity(**{"deals": DEALS_AT_START, **market.config.capacity})
        self.store, self.log = ReportStore(), CommandLog()
        self.exchange: Exchange | None = None
        self.mark = Mark(1)
        self._first_seq = 0

    def take(self, state: np.ndarray, increments: tuple[Increment, ...]) -> bool:
        """Offered each sound snapshot by ``Journal.open``; False where this is not one to start from."""
        head, engine = split_snapshot(state.data)
        if head.get("format") != STATE_FORMAT:
            return False
        store, reports = ReportStore(), head["reports"]
        store.first_event_no = reports["first_event_no"]
        store.make_room(reports["count"], reports["used"])
        if not load_increments(store, self._disk, increments, self._beside):
            return False
        if (store.count, store.used) != (reports["count"], reports["used"]):
            return False
        sessions = np.frombuffer(reports["sessions"], np.uint16)
        store.streams[sessions] = np.frombuffer(reports["streams"], hot.STREAM)
        self.exchange = Exchange.restore(self._market.rules, engine, self._capacity, self._market.calendar)
        self.store, self.mark, self._first_seq = store, mark_of(store, increments), head["log_first_seq"]
        return True

    def finish(self, journal: Journal) -> None:
        """Has the log filled with the day's commands up to the snapshot; makes a new market where there was none."""
        if self.exchange is None:
            self.exchange = Exchange(self._market.rules, self._capacity, self._market.calendar)
            return
        first = max(self._first_seq, journal.first_seq)
        count = journal.recovery.snapshot_seq - first + 1
        if self._first_seq and count > 0:
            self.log.fill(first, count, partial(journal.copy_commands, first), self._beside or at_once)


class Snapshots:
    """Takes snapshots of a running exchange, one at a time; a thread writes them."""

    def __init__(self, core: Core, journal: Journal, restored: Restored, *, commands: int, minutes: int) -> None:
        """``commands``, ``minutes``: a new one is due after so many, 0: never for that reason."""
        self._core, self._journal = core, journal
        self._commands, self._period_ns = commands, minutes * NS_PER_MINUTE
        self._mark = restored.mark
        self._last_seq = journal.recovery.snapshot_seq
        self._next_ns = 0
        self._thread: threading.Thread | None = None
        self._written: Mark | None = None
        self._error: BaseException | None = None
        self._writing_seq = 0
        self._room = reserved((ROOM_BYTES,), np.uint8)
        self._blocks_room = reserved((ROOM_BLOCKS, hot.BLOCK), np.uint32)
        core.exchange.keep_snapshots_in(self._room)
        self.taken = 0
        self.pause_ns = self.pause_max_ns = self.write_ns = 0

    def growing(self) -> list[Used]:
        """The memory that the next snapshot is copied into, for :class:`gateway.memory.TouchAhead`."""
        return [
            lambda: (self._room, _state_bytes(self._core.exchange.market), STATE_AHEAD),
            lambda: (self._blocks_room, self._core.store.used - self._mark.used, BLOCKS_AHEAD),
        ]

    @property
    def writing(self) -> bool:
        """Whether a thread writes one now, or has written one of which nobody has taken notice."""
        return self._thread is not None

    def turn(self, mono_ns: int) -> None:
        """Once in each turn of the loop: takes notice of one that was written, begins the next when it is due."""
        if self._thread is not None:
            self.collect()
        elif self.due(mono_ns):
            self.begin(mono_ns)

    def due(self, mono_ns: int) -> bool:
        """Whether one should be taken now."""
        if not self._next_ns:
            self._next_ns = mono_ns + self._period_ns
        new = self._core.exchange.seq - self._last_seq
        return new > 0 and (
            bool(self._commands and new >= self._commands) or bool(self._period_ns and mono_ns >= self._next_ns)
        )

    def begin(self, mono_ns: int) -> bool:
        """Copies the state, and has it written while the market goes on. False while the last one is being written."""
        core, journal = self._core, self._journal
        core.flush()
        if self._thread is not None or core.exchange.seq == self._last_seq:
            return False
        self._next_ns = mono_ns + self._period_ns
        began = time.perf_counter_ns()
        journal.commit()
        seq, store = core.exchange.seq, core.store
        mark = self._mark if self._mark.first_event_no == store.first_event_no else Mark(store.first_event_no)
        content = increment_of(store, mark, self._blocks_room) if store.count > mark.count else None
        head = msgspec.msgpack.encode(
            {
                "format": STATE_FORMAT,
                "reports": store_head(store),
                "log_first_seq": core.log.first_seq if core.log.count else 0,
            }
        )
        state = [struct.pack("<Q", len(head)), head, core.exchange.snapshot_view()]
        behind = mark_of(store, mark.increments)
        self.pause_ns = time.perf_counter_ns() - began
        self.pause_max_ns = max(self.pause_max_ns, self.pause_ns)
        self._writing_seq, self._written = seq, None
        self._thread = threading.Thread(target=self._write, args=(seq, content, state, behind), name="snapshot")
        self._thread.start()
        return True

    def _write(self, seq: int, content: list[np.ndarray] | None, state: list[Any], behind: Mark) -> None:
        began = time.perf_counter_ns()
        try:
            if content is not None:
                increment = self._journal.increment(content, seq)
                if increment is None:
                    return
                behind.increments += (increment,)
            if self._journal.snapshot(state, seq, behind.increments):
                self._written = behind
        except BaseException as error:  # a failed disk must end the process, which is the main thread's to do
            self._error = error
        finally:
            self.write_ns = time.perf_counter_ns() - began

    def collect(self, wait: bool = False) -> None:
        """Takes notice of a snapshot that was written. Raises JournalFailed where the disk failed under it."""
        if self._thread is None or (self._thread.is_alive() and not wait):
            return
        self._thread.join()
        self._thread = None
        if self._error is not None:
            raise self._error
        self._last_seq = self._writing_seq  # also where it could not be written: not again at once
        if self._written is None:
            self._core.alarm("a snapshot could not be written; the older ones stay")
            return
        self._mark = self._written
        self.taken += 1
        log.info(
            "snapshot of sequence %d: %.1f ms of pause, %.3f s to write",
            self._last_seq,
            self.pause_ns / 1e6,
            self.write_ns / 1e9,
        )

    def abandon(self) -> None:
        """Waits for the thread, whatever came of it: the process ends."""
        if self._thread is not None:
            self._thread.join()

    def now(self, mono_ns: int) -> None:
        """Takes one and waits until it stands: at a clean stop."""
        self.collect(wait=True)
        if self.begin(mono_ns):
            self.collect(wait=True)
