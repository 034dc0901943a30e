"""A journal in memory that lends its tail, for the turn in machine code (gateway.turn): a disk that looks who hurries.

Machine code writes and syncs by address; these functions have the form of the C library's. The "descriptor" is the
address of a small table, where the sync notes what had been sent before it.
"""

from __future__ import annotations

from collections.abc import Callable

import fake_libzmq
import numpy as np
from fake_libzmq import machine_code
from numba import int64
from session_world import MemoryJournal

from engine.journal.group import decode_group
from engine.journal.tail import TAIL
from gateway.commit import c_functions
from gateway.commit_kernel import C_FUNCTIONS
from gateway.hot import _words_at
from gateway.turn import Turn

SYNCS, SOCKET, SENT = range(3)  # syncs so far, the socket's table, bytes in it when the last sync came
ROOM_BYTES = 1 << 14


def _pwrite(file, data, size, offset):
    return size


def _fdatasync(file, _a, _b, _c):
    table = _words_at(file, 3)
    table[SYNCS] += np.uint64(1)
    table[SENT] = _words_at(int64(table[SOCKET]), 5)[fake_libzmq.OUT_USED]
    return 0


class TailJournal(MemoryJournal):
    """A journal of ``ROOM_BYTES``: whoever finds no room appends through Python, and the room is free again."""

    has_descriptors = True

    def __init__(self, socket: fake_libzmq.MemorySocket) -> None:
        super().__init__()
        self.lent, self.turned = False, 0
        self._tail, self._buffer = np.zeros(1, TAIL), np.zeros(ROOM_BYTES, np.uint8)
        self.file = np.array([0, socket.underlying, 0], np.int64)
        self._seen = 0

    def turn_of(self, core, lane) -> Callable[[], bool]:
        """The core's ``turn``; the groups that it makes are found among the others."""
        ours = {"pwrite": machine_code(_pwrite).address, "fdatasync": machine_code(_fdatasync).address}
        turn = Turn(core, self, lane, {**c_functions(C_FUNCTIONS), **ours})

        def watched() -> bool:
            done = turn()
            self._harvest()
            self.turned = turn.turns
            return done

        return watched

    def lend(self) -> np.ndarray:
        assert not self.lent
        self.lent, self._seen = True, 0
        tail = self._tail[0]
        tail["buffer_at"], tail["room"], tail["fd"] = self._buffer.ctypes.data, ROOM_BYTES, self.file.ctypes.data
        tail["fill"] = tail["durable"] = tail["offset"] = tail["groups"] = 0
        tail["next_seq"] = 1 + sum(len(commands) for commands, _ in self.groups)
        return self._tail

    def append(self, commands: np.ndarray, payloads: bytes) -> None:
        self.lent, self._tail[0]["room"] = False, 0
        super().append(commands, payloads)

    def _harvest(self) -> None:
        """Takes notice of the groups that are durable."""
        while self._seen < (int(self._tail[0]["durable"]) if self.lent else 0):
            group = decode_group(self._buffer, self._seen)
            self.groups.append((group.commands.copy(), b""))
            self._seen += group.header.length
