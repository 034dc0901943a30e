"""Commits beside the loop: a thread writes and syncs a group while the exchange goes on with its work.

The thread runs machine code that never takes the interpreter's lock, so neither side waits for the other but
where :meth:`OverlappedJournal.wait` says so. The guarantee is unchanged: reports leave after ``wait`` has
returned for their group (:meth:`gateway.core.Core.advance` keeps that order), and any error ends the process.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba import carray, int32, njit, types
from numba.extending import intrinsic

from engine.journal.disk import RealFile
from gateway.libzmq import call4

if TYPE_CHECKING:
    from engine.journal import Journal

# Fields of the record that both threads share: int64 each.
FD: Final = 0
ADDRESS: Final = 1
SIZE: Final = 2
OFFSET: Final = 3
ERROR: Final = 4  # errno of the last commit, 0 where it is on the disk
STOP: Final = 5
TOOK_NS: Final = 6
WORD: Final = 7  # what the two event descriptors read and write
CLOCK: Final = 8  # seconds and nanoseconds
FIELDS: Final = 10

C_FUNCTIONS: Final = ("read", "write", "pwrite", "fdatasync", "__errno_location", "clock_gettime")
CLOCK_MONOTONIC: Final = 1
EINTR: Final = 4
EIO: Final = 5


@intrinsic
def _pointer(typing_context: Any, address: Any) -> Any:
    """An integer address as a void pointer, for carray."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate


@njit(cache=True)
def _now_ns(shared, f_clock):  # type: ignore[no-untyped-def]
    call4(f_clock, CLOCK_MONOTONIC, shared.ctypes.data + 8 * CLOCK, 0, 0)
    return shared[CLOCK] * 1_000_000_000 + shared[CLOCK + 1]


@njit(cache=True)
def _write_and_sync(shared, f_pwrite, f_fdatasync, f_errno):  # type: ignore[no-untyped-def]
    """errno of the first call that failed, else 0."""
    done = 0
    while done < shared[SIZE]:
        n = call4(f_pwrite, shared[FD], shared[ADDRESS] + done, shared[SIZE] - done, shared[OFFSET] + done)
        if n > 0:
            done += n
            continue
        error = carray(_pointer(call4(f_errno, 0, 0, 0, 0)), (1,), np.int32)[0]
        if n == 0:
            return EIO
        if error != EINTR:
            return error
    if int32(call4(f_fdatasync, shared[FD], 0, 0, 0)) != 0:
        return carray(_pointer(call4(f_errno, 0, 0, 0, 0)), (1,), np.int32)[0]
    return 0


@njit(nogil=True, cache=True)
def serve(  # type: ignore[no-untyped-def]
    shared, wanted_fd, done_fd, f_read, f_write, f_pwrite, f_fdatasync, f_errno, f_clock
):
    """The thread: waits for work, does it, tells; until STOP. shared: int64[FIELDS]."""
    word = shared.ctypes.data + 8 * WORD
    while True:
        while call4(f_read, wanted_fd, word, 8, 0) != 8:
            pass  # interrupted
        if shared[STOP] != 0:
            return
        began = _now_ns(shared, f_clock)
        shared[ERROR] = _write_and_sync(shared, f_pwrite, f_fdatasync, f_errno)
        shared[TOOK_NS] = _now_ns(shared, f_clock) - began
        shared[WORD] = 1
        while call4(f_write, done_fd, word, 8, 0) != 8:
            pass


def available() -> bool:
    """True where the system has what the thread needs (Linux)."""
    return hasattr(os, "eventfd")


class OverlappedJournal:
    """A journal whose commits may go on beside the caller. One commit at a time; not for two callers."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.append = journal.append
        self.commit = journal.commit  # in the caller's own thread: the shortest way for a small group
        self.took_ns = 0  # of the last commit beside: write and fdatasync
        c = ctypes.CDLL(None)
        self._functions = [ctypes.cast(getattr(c, name), ctypes.c_void_p).value or 0 for name in C_FUNCTIONS]
        self._shared = np.zeros(FIELDS, np.int64)
        self._wanted, self._done = os.eventfd(0), os.eventfd(0)
        self._busy = False
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are the main thread's
        read, write, *others = self._functions
        serve(self._shared, self._wanted, self._done, read, write, *others)

    def begin(self) -> None:
        """Starts the commit of what was appended."""
        assert not self._busy, "one commit at a time"
        work = self.journal.begin_commit()
        if work is None:
            return
        assert isinstance(work.file, RealFile), "machine code knows real files only"
        s = self._shared
        s[FD], s[OFFSET], s[SIZE] = work.file.fd, work.offset, len(work.data)
        s[ADDRESS] = np.frombuffer(work.data, np.uint8).ctypes.data
        self._busy = True
        os.eventfd_write(self._wanted, 1)

    def wait(self) -> None:
        """Returns when the commit that was begun is durable. Raises JournalFailed."""
        if not self._busy:
            return
        os.read(self._done, 8)
        self._busy = False
        self.took_ns = int(self._shared[TOOK_NS])
        error = int(self._shared[ERROR])
        self.journal.end_commit(OSError(error, os.strerror(error)) if error else None)

    def close(self) -> None:
        """Waits for what was begun, whatever became of it, and ends the thread. The journal stays open."""
        if self._busy:
            os.read(self._done, 8)
            self._busy = False
        self._shared[STOP] = 1
        os.eventfd_write(self._wanted, 1)
        self._thread.join()
        os.close(self._wanted)
        os.close(self._done)
