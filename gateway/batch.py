"""The sequencer's batch: commands waiting for their journal group, and the log of the day's commands.

A batch is one buffer of records, filled by the session layer and numbered when it is cut. The log keeps what
was sequenced today, so that a repeated ``request_no`` is compared with what it was first used for (D4).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from engine.journal import JournalError
from engine.journal.beside import Beside, Errand, at_once
from engine.memory import reserved
from engine.records import COMMAND, MESSAGE, RECORD_BYTES
from gateway import hot
from gateway.memory import Used

# A group closes when the input is drained or at this many commands. These and what they lead to (256 and some 512 KiB)
# stay in the second-level cache over all that is done with them: measured 1.6 times as fast as four times as many. A
# slow disk (3 ms a commit) still allows a million a second.
BATCH_RECORDS: Final = 4_096
BATCH_PAYLOAD_BYTES: Final = 4 << 20
# Reserved: touched only where it is used, and so large that no day waits for a copy (gateway.reports).
COMMANDS_AT_START: Final = 1 << 25
COMMANDS_MOST: Final = 1 << 29

MANY: Final = 64  # records from which on a copy as bytes saves more than its two views cost

FEW: Final = 8  # records up to which stamping each costs less than two columns of an array

_STAMP: Final = struct.Struct("<Qq")  # seq, time_ns at offset 0
_TOKEN: Final = struct.Struct("<Q")  # at offset 40
_OWNER: Final = struct.Struct("<IH")  # account, session at offset 52
_MESSAGE: Final = struct.Struct("<qqqqQQIIHHBBBB")


class _Room(NamedTuple):
    """Memory of one batch: the same bytes as bytes, as COMMAND records, and their address."""

    buffer: bytearray
    records: np.ndarray
    address: int


def _room() -> _Room:
    buffer = bytearray(BATCH_RECORDS * RECORD_BYTES)
    records = np.frombuffer(buffer, COMMAND)
    return _Room(buffer, records, records.ctypes.data)


class Batch:
    """Records and payloads of one group to be."""

    def __init__(self) -> None:
        self._rooms = [_room(), _room()]  # one is filled while the other one is being carried out
        self._turn = 0
        self.buffer, self.records, self.address = self._rooms[0]
        self.count = 0
        self.payloads: list[bytes] = []
        self.payload_bytes = 0

    def room(self) -> int:
        """How many more records fit."""
        return 0 if self.payload_bytes >= BATCH_PAYLOAD_BYTES else BATCH_RECORDS - self.count

    def add(self, record: bytes | memoryview, account: int, session: int) -> None:
        """One record as it came, with its owner filled in and its token wiped (D1)."""
        at = self.count * RECORD_BYTES
        self.buffer[at : at + RECORD_BYTES] = record
        _TOKEN.pack_into(self.buffer, at + 40, 0)
        _OWNER.pack_into(self.buffer, at + 52, account, session)
        self.count += 1

    def add_many(self, records: np.ndarray, account: int, session: int) -> None:
        """Several records of one session."""
        part = self.records[self.count : self.count + len(records)]
        part[:] = records
        part["token"], part["account"], part["session"] = 0, account, session
        self.count += len(records)

    def add_message(self, payload: bytes, account: int, session: int, request_no: int) -> None:
        """One slow-lane command."""
        at = self.count * RECORD_BYTES
        _MESSAGE.pack_into(
            self.buffer, at, 0, 0, 0, len(payload), 0, 0, request_no, account, session, 0, MESSAGE, 0, 0, 0
        )
        self.payloads.append(payload)
        self.payload_bytes += len(payload)
        self.count += 1

    def cut(self, first_seq: int, time_ns: int) -> tuple[np.ndarray, bytes]:
        """Numbers and times the batch: COMMAND view (valid until the next cut) and payloads; it is empty then."""
        records = self.records[: self.count]
        if self.count < FEW:
            for i in range(self.count):
                _STAMP.pack_into(self.buffer, i * RECORD_BYTES, first_seq + i, time_ns)
        else:
            hot.stamp(records, np.uint64(first_seq), time_ns)
        payloads = b"".join(self.payloads)
        self.payloads, self.payload_bytes, self.count = [], 0, 0
        self._turn = 1 - self._turn
        self.buffer, self.records, self.address = self._rooms[self._turn]
        return records, payloads


class CommandLog:
    """The day's sequenced commands, chained per session: the latest one, and for each the one before."""

    def __init__(self) -> None:
        self.records = reserved((COMMANDS_AT_START,), COMMAND, most=COMMANDS_MOST)
        self.previous = reserved((len(self.records),), np.uint32)
        self.last = np.zeros(1 << 16, np.uint32)
        self.before = np.zeros(1 << 16, np.uint32)  # as ``last``, of what stood in the journal at the start
        self._filling: Errand[dict[int, bytes]] | None = None
        self.trouble = ""  # why the commands before the start are not known
        self.count = 0
        self.first_seq = 1
        self.payloads: dict[int, bytes] = {}
        self.kinds = np.zeros(256, np.int64)  # commands taken so far by kind, over all days: for the metrics

    def warm_up(self) -> None:
        """Compiles (or loads) the machine code, before the market opens."""
        other = CommandLog()
        other.fill(1, 0, lambda records: {}, at_once)
        other.append(np.zeros(1, COMMAND), b"")
        other.seq_of(1, 1)

    def growing(self, orders: int) -> list[Used]:
        """What grows, for :class:`gateway.memory.TouchAhead`; so many orders are to be ahead."""
        return [lambda: (self.records, self.count, orders), lambda: (self.previous, self.count, orders)]

    def make_room(self, n: int) -> None:
        """Room for so many more commands."""
        if self.count + n > len(self.records):
            self.abandon()  # it writes into the memory that is given up
            size = max(2 * len(self.records), self.count + n)
            records, previous = reserved((size,), COMMAND), reserved((size,), np.uint32)
            records[: self.count], previous[: self.count] = self.records[: self.count], self.previous[: self.count]
            self.records, self.previous = records, previous

    def append(self, commands: np.ndarray, payloads: bytes) -> None:
        """Takes a group. commands: COMMAND[n], sequenced; payloads of its MESSAGE commands, in order."""
        n, base = len(commands), self.count
        if base == 0:
            self.first_seq = int(commands[0]["seq"])
        self.make_room(n)
        if n < MANY:
            self.records[base : base + n] = commands
        else:  # numpy copies records field by field, bytes at memory speed
            self.records[base : base + n].view(np.uint8)[:] = commands.view(np.uint8)
        self.count = base + n
        hot.link_commands(commands, base, self.previous, self.last, self.kinds)
        at = 0
        for i in np.flatnonzero(commands["kind"] == MESSAGE).tolist() if payloads else ():
            size = int(commands[i]["quantity"])
            self.payloads[self.first_seq + base + i] = payloads[at : at + size]
            at += size

    def fill(self, first_seq: int, count: int, read: Callable[[np.ndarray], dict[int, bytes]], beside: Beside) -> None:
        """At a start: has ``read`` put the day's first ``count`` commands into COMMAND[count], beside what follows.

        ``read`` returns their payloads by sequence. Others may be appended meanwhile; who asks for a request that is
        not among them waits. What ``read`` raises is raised by ``filled``, but for a ``JournalError``: ``trouble``.
        """
        assert not self.count, "at a start"
        self.make_room(count)
        self.first_seq, self.count = first_seq, count

        def work() -> dict[int, bytes]:
            records = self.records[:count]
            payloads = read(records)
            hot.link_filled(records, self.previous, self.before)
            return payloads

        self._filling = Errand(beside, work)

    def filled(self, *, wait: bool) -> bool:
        """Whether what was begun with ``fill`` has ended."""
        if self._filling is None:
            return True
        if not (wait or self._filling.ended):
            return False
        filling, self._filling = self._filling, None
        try:
            self.payloads |= filling.result()
        except JournalError as error:  # nothing was linked: those commands are not known
            self.trouble = str(error)
        return True

    def abandon(self) -> None:
        """Waits for what was begun with ``fill``, whatever came of it: the process ends."""
        if self._filling is not None:
            self._filling.wait()

    def seq_of(self, session: int, request_no: int) -> int:
        """The sequence of a session's request of today, 0 where there is none."""
        found = hot.find_command(self.records, self.previous, self.last, session, request_no)
        if found < 0 and self.filled(wait=True):
            found = hot.find_command(self.records, self.previous, self.before, session, request_no)
        return self.first_seq + int(found) if found >= 0 else 0

    def same(self, seq: int, record: bytes | memoryview, payload: bytes) -> bool:
        """True when a record that a client sent is the one that was sequenced as ``seq``."""
        kept = self.records[seq - self.first_seq].tobytes()
        return (
            kept[16:40] == bytes(record[16:40])
            and kept[48:52] == bytes(record[48:52])
            and kept[58:] == bytes(record[58:])
            and self.payloads.get(seq, b"") == payload
        )

    def start_day(self) -> None:
        """Forgets the commands of the day before."""
        self.abandon()  # it writes where the new day's will stand
        self._filling = None
        self.count = 0
        self.last[:] = self.before[:] = 0
        self.payloads.clear()
