"""The room of the next segment: a file of a segment's size, reserved before it is needed.

A full disk shows so while there is still room to trade out, and a new segment begins without waiting until the file
system has found 64 MB. Recovery knows the file as a leftover: whole, it is used again; else it is removed.

Reserving may go on beside the writer (``Beside``); the writer waits for it only where it needs the file's name.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

import numpy as np

from .beside import Beside
from .disk import Disk, File
from .scan import is_zero
from .segment import SEGMENT_HEADER_BYTES, SPARE

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
READ_BYTES: Final = 1 << 20  # of a file that is only looked through: stays in the cache


class Spare:
    """One writer's spare segment of ``size`` bytes. Errors are ``OSError``, of ``begin`` at the next ``collect``."""

    def __init__(self, disk: Disk, size: int, beside: Beside | None = None) -> None:
        """Without ``beside`` the room is reserved in ``begin`` itself."""
        self._disk, self._size, self._beside = disk, size, beside
        self._wait: Callable[[], None] | None = None
        self._made = False  # these three are set by the work, ``_done`` last, and read by the writer
        self._error: OSError | None = None
        self._done = False
        self.reserved = False

    @property
    def under_way(self) -> bool:
        """Whether the room is being reserved, as far as the writer has taken notice."""
        return self._wait is not None

    def take_over(self) -> bool:
        """Whether the spare of the last life is whole: full size, nothing but perhaps a header in it."""
        buffer = np.empty(min(READ_BYTES, self._size), np.uint8)
        file = self._disk.open(SPARE)
        try:
            self.reserved = file.size() == self._size and all(
                is_zero(file.read(at, buffer.size, buffer), 0 if at else SEGMENT_HEADER_BYTES)
                for at in range(0, self._size, buffer.size)
            )
        finally:
            file.close()
        return self.reserved

    def reserve(self) -> None:
        """Reserves the room here and now; ``reserved`` stays False where the disk has none."""
        assert self._wait is None, "it is being reserved"
        self.reserved = self._reserve()

    def begin(self) -> None:
        """Has the room reserved beside the writer."""
        assert self._wait is None, "it is being reserved"
        if self._beside is None:
            self.reserve()
            return
        self._made, self._error, self._done = False, None, False
        self._wait = self._beside(self._work)

    def collect(self, *, wait: bool) -> None:
        """Takes notice of what became of ``begin``; unless ``wait``, only where that has ended."""
        if self._wait is None or not (wait or self._done):
            return
        self._wait()
        assert self._done, "who was given the work has done it"
        self._wait = None
        if self._error is not None:
            raise self._error
        self.reserved = self._made

    def take(self, capacity: int) -> File:
        """The file for a segment of ``capacity`` bytes, under the spare's name; a new one where none was reserved."""
        self.collect(wait=True)
        kept, self.reserved = self.reserved and capacity == self._size, False
        return self._disk.open(SPARE) if kept else self._disk.create(SPARE, capacity)

    def abandon(self) -> None:
        """Waits for what was begun, whatever became of it: the writer ends."""
        if self._wait is not None:
            self._wait()
            self._wait = None

    def _work(self) -> None:
        try:
            self._made = self._reserve()
        except OSError as error:
            self._error = error
        finally:
            self._done = True

    def _reserve(self) -> bool:
        try:
            file = self._disk.create(SPARE, self._size)
            try:
                file.sync()
            finally:
                file.close()
            return True
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            if SPARE in self._disk.names():
                self._disk.remove(SPARE)
            return False
