"""Memory of what grows all day (events, commands, deals): made present ahead of its use by a thread.

The first touch of a fresh page is not free. On a virtual machine whose host has not given the page yet, a huge
page took 8 to 10 ms when this was measured, and a day's arrays met one every few thousand orders: whoever's
order it was waited. So the arrays are reserved in full (:func:`engine.memory.reserved`), and :class:`TouchAhead` keeps
the room for the next :data:`AHEAD_RECORDS` present, so that the exchange's loop never asks for a page.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Final

import numpy as np

# What is kept present behind the used part: half a second of a million events a second, 32 MiB of records.
AHEAD_RECORDS: Final = 1 << 19
# One call of the kernel: while it lasts, no other thread can change the process's memory map, as malloc does.
STEP_BYTES: Final = 256 << 10
PERIOD_S: Final = 0.05  # 3 MiB at a million events a second: far less than what is kept ahead
MADV_POPULATE_WRITE: Final = 23  # Linux 5.14; makes pages present without changing what is in them

Used = Callable[[], tuple[np.ndarray, int, int]]  # an array, its rows in use, how many more are wanted present


class TouchAhead:
    """A thread that makes the pages behind the used part of some arrays present, before anybody writes there."""

    def __init__(self, arrays: list[Used]) -> None:
        self._arrays = arrays
        self._present: dict[int, int] = {}  # address of an array → its bytes that are present
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="touch-ahead", daemon=True)
        self._madvise = ctypes.CDLL(None, use_errno=True).madvise  # lets the interpreter go on meanwhile
        self._madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

    def start(self) -> None:
        """Begins; the first pages are there within a fraction of a second."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def turn(self) -> bool:
        """Makes present what is missing behind the used parts. False where the kernel cannot do it."""
        live: dict[int, int] = {}
        for used in self._arrays:
            array, rows, more = used()
            if not array.nbytes:
                continue
            address, row_bytes = array.ctypes.data, array.nbytes // len(array)
            at = self._present.get(address, rows * row_bytes // STEP_BYTES * STEP_BYTES)
            wanted = min((rows + more) * row_bytes, array.nbytes)
            while at < wanted and not self._stopping.is_set():
                step = min(STEP_BYTES, array.nbytes - at)
                if self._madvise(address + at, step, MADV_POPULATE_WRITE):
                    return False
                at += step
            live[address] = at
        self._present = live
        return True

    def _run(self) -> None:
        while self.turn() and not self._stopping.wait(PERIOD_S):
            pass
