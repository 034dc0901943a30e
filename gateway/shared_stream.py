"""The stream of all events through memory that exchange and reader share, for readers on the same machine.

Sent through a socket each event is copied six times and wakes up four threads; at half a million orders a second the
operators' room cost the members a third of their latency by that. Here the exchange copies a frame once, and the reader
once; nobody is woken up, and no reader can hold anybody up: who is slow is lapped, sees that it was, and asks for the
rest, which comes the same way where nobody else reads, else through its socket. The frames are those of the socket
(gateway.protocol).

A ring of RING_BYTES behind a head, in a file that has no name (memfd) and ends with who has it open::

     0 mark     8 octets, random: is this the ring that the exchange spoke of?
    64 written  int64, octets that ever were written: up to here a reader may read
   128 claimed  int64, octets that ever were begun: what lies more than RING_BYTES before is, or will be, another frame
   192 the ring: at octet n of all that were written, 192 + n % RING_BYTES

     length u64, frame, zeros up to a multiple of 64; length NO_ROOM: the frame lies at the start of the ring

Whoever may open it may trace the exchange's process, so it has the exchange's own user (ptrace(2), access mode READ).
One writer, any number of readers, no locks: a frame is written between ``claimed`` and ``written``, and a reader copies
between ``written`` and ``claimed``. That needs stores that are seen in their order, which x86-64 guarantees.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import platform
import struct
import sys
from typing import Final

import numpy as np

# A second of a million events a second. A reader looks each 10 ms, but in idle turns, on a processor that others take
# for tenths of a second now and then; who is lapped has to be given the rest once more.
RING_BYTES: Final = 64 << 20
HEAD_BYTES: Final = 192
WRITTEN, CLAIMED = 64 // 8, 128 // 8
# A frame has more events than a socket's, since neither side holds anything up by it; what a page costs whatever is in
# it then hardly counts. Of a frame with payloads there are several in the ring in any case.
EVENTS_PER_FRAME: Final = 8_192
FRAME_BYTES_MAX: Final = RING_BYTES // 16
TAKEN_BYTES: Final = 8 << 20  # copied by one look of a reader: a tenth of a second of a million events a second
# Put there between two looks of a reader that has much to catch up with: half of what it takes in one, so that what it
# asked for does not lap it. 6.5 million events a second.
FRAMES_PER_LOOK: Final = 8
LOOK_NS: Final = 10_000_000
ALIGNMENT: Final = 64  # the frame's events begin on a multiple of 8
LENGTH: Final = struct.Struct("<Q")
NO_ROOM: Final = 0xFFFF_FFFF
# Neither side can be cut down under the other's feet (memfd_create(2)).
SEALS: Final = 0x2 | 0x4 | 0x1  # F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL


def available() -> bool:
    """True where frames can be shared: Linux, stores that are seen in order."""
    return sys.platform == "linux" and platform.machine() == "x86_64" and hasattr(os, "memfd_create")


class SharedStream:
    """The exchange's side. ``next_no``: number of the next event. Its memory is used from the first frame on."""

    def __init__(self) -> None:
        self._fd = os.memfd_create("cea-stream", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self._fd, HEAD_BYTES + RING_BYTES)
        fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, SEALS)
        self._octets = np.frombuffer(mmap.mmap(self._fd, HEAD_BYTES + RING_BYTES), np.uint8)
        self._words, self._ring = self._octets[:HEAD_BYTES].view(np.int64), self._octets[HEAD_BYTES:]
        self._mark = os.urandom(8)
        self._octets[:8] = np.frombuffer(self._mark, np.uint8)
        self.path = f"/proc/{os.getpid()}/fd/{self._fd}"
        self.mark = self._mark.hex()
        self.place = 0  # octets that were ever written
        self.next_no = 0

    def put(self, head: bytes, events: np.ndarray, payloads: bytes) -> None:
        """A frame: its header, EVENT[n], its notices' payloads. Readers have it when this returns."""
        length = len(head) + events.nbytes + len(payloads)
        assert length <= FRAME_BYTES_MAX, "smaller pages are asked for"
        size = _room(length)
        start = self.place % RING_BYTES
        skipped = 0 if start + size <= RING_BYTES else RING_BYTES - start
        end = self.place + skipped + size
        self._words[CLAIMED] = end
        ring, at = self._ring, start
        if skipped:
            ring[at : at + LENGTH.size] = _octets(LENGTH.pack(NO_ROOM))
            at = 0
        ring[at : at + LENGTH.size] = _octets(LENGTH.pack(length))
        at += LENGTH.size
        for part in (_octets(head), events.view(np.uint8), _octets(payloads)):
            ring[at : at + part.size] = part
            at += part.size
        self._words[WRITTEN] = self.place = end
        self.next_no += len(events)

    def touchable(self) -> tuple[np.ndarray, int, int]:
        """For gateway.memory.TouchAhead: the whole ring, once it is used."""
        return self._octets if self.place else self._octets[:0], 0, len(self._octets)

    def close(self) -> None:
        """Readers keep what they have open."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class SharedReader:
    """A reader's side, from a place on. ``mark``: of the ring that it has open."""

    def __init__(self, path: str, mark: str, place: int) -> None:
        """Raises OSError where it cannot be opened, ValueError where it is another than the one that was meant."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size != HEAD_BYTES + RING_BYTES:
                raise ValueError(f"{path}: not the exchange's stream")
            # present at once: a fault for each 4 KiB in the first time around cost as much as reading what is in them
            flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
            octets = np.frombuffer(mmap.mmap(fd, HEAD_BYTES + RING_BYTES, flags, mmap.PROT_READ), np.uint8)
        finally:
            os.close(fd)
        if octets[:8].tobytes().hex() != mark:
            raise ValueError(f"{path}: another exchange's stream")
        self._words, self._ring = octets[:HEAD_BYTES].view(np.int64), octets[HEAD_BYTES:]
        self.mark, self._place = mark, place
        self._taken = np.full(TAKEN_BYTES, 1, np.uint8)  # once, touched: fresh memory costs more than the copy

    def go_to(self, place: int) -> None:
        """Reads on from there: opening it anew would touch fresh memory."""
        self._place = place

    def take(self) -> list[memoryview] | None:
        """The next frames, TAKEN_BYTES at most, to be read before the next call; None where the writer has lapped us:
        ask for the rest."""
        found: list[memoryview] = []
        written, room = int(self._words[WRITTEN]), 0
        while self._place < written:
            at = self._place % RING_BYTES
            length = LENGTH.unpack(self._ring[at : at + LENGTH.size].tobytes())[0]
            if self._lapped():
                return None
            frame, end = None, self._place + RING_BYTES - at
            if length != NO_ROOM:
                if room + length > TAKEN_BYTES:
                    break
                end = self._place + _room(length)
                frame = self._taken[room : room + length]
                frame[:] = self._ring[at + LENGTH.size : at + LENGTH.size + length]
                if self._lapped():
                    return None
            self._place = end
            if frame is not None:
                found.append(frame.data)
                room += _room(length)
        return found

    def _lapped(self) -> bool:
        """What was read since may have been written over meanwhile."""
        return int(self._words[CLAIMED]) - self._place > RING_BYTES


def _room(length: int) -> int:
    """Octets of the ring that a frame of so many takes."""
    return -(-(LENGTH.size + length) // ALIGNMENT) * ALIGNMENT


def _octets(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)
