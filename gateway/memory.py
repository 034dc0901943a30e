"""Memory of what grows all day (events, commands, deals): made present ahead of its use by a thread.

The first touch of a fresh page is not free. On a virtual machine whose host has not given the page yet it takes some
ten microseconds, or milliseconds where it gives 2 MiB at once, and an order needs the 15th part of one: whoever's order
it was waited. So the arrays are reserved in full (:func:`engine.memory.reserved`), and :class:`TouchAhead` keeps the
room for the next orders (``orders_ahead``) present, so that the exchange's loop never asks for a page.

Nor may an order wait for the thread that does so: in one go of 15 ms each 65 ms it kept one order in fifty waiting for
some 5 ms (docs/performance.md). So it takes idle turns (gateway.giving_way), and its share of a processor only where it
has fallen behind. Then it must hold nothing that others wait for: not the interpreter's lock, and the kernel's lock of
the process's memory map, which malloc needs, not longer than one page takes.
"""

from __future__ import annotations

import os
import signal
import struct
import threading
from collections.abc import Callable
from typing import Final

import numpy as np

from gateway.commit import available, c_functions
from gateway.giving_way import may_come_back, take_turns
from gateway.touch_kernel import C_FUNCTIONS, DONE, FIELDS, PAGE_BYTES, STOP, serve

EVENTS_PER_ORDER: Final = 2  # of an order that is dealt with, or cancelled
BYTES_PER_ORDER: Final = 268  # two events, the command, the deal, and where each session finds them
PERIOD_S: Final = 0.05
# Of what is to be ahead. One that has much ahead is left alone for long, and a host that gives memory disturbs nobody.
ASK_BELOW: Final = (1, 2)  # more is asked for, until all is there
SHORT_BELOW: Final = (1, 4)  # who makes it present has fallen behind
STEP_BYTES: Final = 16 << 20  # of an array at once: each step ends with a look at whether anything is short
STOP_S: Final = 1.0  # so long its end is waited for; it may stand still on a busy machine, and harms nobody
RANGE: Final = struct.Struct("=qq")

Used = Callable[[], tuple[np.ndarray, int, int]]  # an array, its rows in use, how many more are wanted present


class TouchAhead:
    """Two threads: one looks how far some arrays are used, the other makes the pages behind that part present."""

    _serve = staticmethod(serve)

    def __init__(self, arrays: list[Used]) -> None:
        self._arrays = arrays
        self._present: dict[int, int] = {}  # address of an array → its bytes that are present
        self._asked: dict[int, int] = {}  # that will be, when all ranges are done
        self._wanted: dict[int, int] = {}  # that are to be, before nothing more is asked for
        self._held: list[np.ndarray] = []  # as long as somebody may touch them
        self._ranges = 0  # asked for so far
        self._stopping = threading.Event()
        self._shared = np.zeros(FIELDS, np.int64)
        self._read_fd, self._write_fd = os.pipe()
        self._thread = threading.Thread(target=self._run, name="touch-ahead", daemon=True)
        self._toucher = threading.Thread(target=self._touch, name="touch", daemon=True)
        self._may_wait, self._take = False, take_turns
        self.idle = False

    def start(self) -> None:
        """Begins, where the system has what it needs; the first pages are there within a fraction of a second."""
        if not available():
            return
        self._may_wait = may_come_back()
        self._toucher.start()
        self._thread.start()

    def stop(self) -> None:
        """Ends the threads."""
        self._stopping.set()
        self._shared[STOP] = 1
        if self._thread.ident is None:  # never begun
            os.close(self._write_fd)
            os.close(self._read_fd)
            return
        self._thread.join()
        self._toucher.join(STOP_S)

    def turn(self) -> None:
        """Asks for what is missing behind the used parts, once all that was asked for before is there."""
        looks = [(array, rows, more) for array, rows, more in (used() for used in self._arrays) if array.nbytes]
        if int(self._shared[DONE]) < self._ranges:
            self._turns(idle=not any(self._is_short(*look) for look in looks))
            return
        self._turns(idle=True)
        self._present, self._asked, before = self._asked, {}, self._wanted
        self._held, self._wanted = [array for array, _, _ in looks], {}
        for array, rows, more in looks:
            address = array.ctypes.data
            at, wanted = self._present.get(address, 0), before.get(address, 0)
            if at < _bytes_of(array, rows, more, ASK_BELOW):
                wanted = _bytes_of(array, rows, more, (1, 1))
            end = min(-(-min(at + STEP_BYTES, wanted) // PAGE_BYTES) * PAGE_BYTES, array.nbytes)
            if at < end:
                self._ranges += 1
                os.write(self._write_fd, RANGE.pack(address + at, address + end))
            self._asked[address], self._wanted[address] = max(at, end), wanted

    def _is_short(self, array: np.ndarray, rows: int, more: int) -> bool:
        """Too much of what is to be ahead has been used up."""
        return self._present.get(array.ctypes.data, 0) < _bytes_of(array, rows, more, SHORT_BELOW)

    def _turns(self, *, idle: bool) -> None:
        if self._may_wait and idle != self.idle:
            self._take(idle, self._toucher.native_id or 0)
            self.idle = idle

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.turn()
            self._stopping.wait(PERIOD_S)
        os.close(self._write_fd)

    def _touch(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are the main thread's
        self._serve(self._shared.ctypes.data, self._read_fd, *c_functions(C_FUNCTIONS).values())
        os.close(self._read_fd)


def _bytes_of(array: np.ndarray, rows: int, more: int, part: tuple[int, int]) -> int:
    """The used rows of an array and a part of those that are to be ahead, in bytes."""
    return min((rows + more * part[0] // part[1]) * (array.nbytes // len(array)), array.nbytes)
