"""Commits beside the loop: a thread writes and syncs a group while the exchange goes on with its work.

The thread runs machine code that never takes the interpreter's lock, so neither side waits for the other but
where :meth:`OverlappedJournal.wait` says so. The guarantee is unchanged: reports leave after ``wait`` has
returned for their group (:meth:`gateway.sequence.Sequence.advance` keeps that order), and any error ends the process.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from engine.journal.disk import RealFile
from gateway.commit_kernel import ADDRESS, C_FUNCTIONS, ERROR, FD, FIELDS, OFFSET, SIZE, STOP, TOOK_NS, serve

if TYPE_CHECKING:
    from engine.journal import Journal


def available() -> bool:
    """True where the system has what the thread needs (Linux)."""
    return hasattr(os, "eventfd")


def c_functions(names: Iterable[str]) -> dict[str, int]:
    """Name → address of functions of the C library, for machine code to call (gateway.libzmq.call4)."""
    c = ctypes.CDLL(None)
    return {name: ctypes.cast(getattr(c, name), ctypes.c_void_p).value or 0 for name in names}


def beside(work: Callable[[], None]) -> Callable[[], None]:
    """Has ``work`` done in a thread of its own, once; what it returns waits for its end. For ``Journal.open``."""

    def run() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are the main thread's
        work()

    thread = threading.Thread(target=run, name="reserve", daemon=True)
    thread.start()
    return thread.join


class OverlappedJournal:
    """A journal whose commits may go on beside the caller. One commit at a time; not for two callers."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.append = journal.append
        self.commit = journal.commit  # in the caller's own thread: the shortest way for a small group
        self.took_ns = 0  # of the last commit beside: write and fdatasync
        self._functions = list(c_functions(C_FUNCTIONS).values())
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
        if not self._thread.is_alive():
            return
        if self._busy:
            os.read(self._done, 8)
            self._busy = False
        self._shared[STOP] = 1
        os.eventfd_write(self._wanted, 1)
        self._thread.join()
        os.close(self._wanted)
        os.close(self._done)
