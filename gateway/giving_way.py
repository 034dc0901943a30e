"""What gives way to the exchange: a process by priority and short turns, a thread by idle turns.

A low priority alone is a small share of a processor that others want, and a turn that was begun goes on for a while. In
idle turns (SCHED_IDLE) whoever wakes up runs at once, and the processor counts as free for it. That is for work that
can wait, as long as it need not wait for long: on a machine that is busy with something else for seconds it would
stand still, and so would those who wait for what it holds (the interpreter's lock).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
import threading
import time
from collections.abc import Callable
from typing import Final

# Where both want the same core the exchange goes first: a page may wait some milliseconds, an order may not.
NICE: Final = 15
# How long a process that runs may go on when another one wakes up (Linux 6.12 and later; before, it is not asked). Its
# own default is some milliseconds, whatever the priorities; this is the least that can be asked for.
SLICE_NS: Final = 100_000
SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}  # the system call's number (asm/unistd.h)
SCHED_ATTR: Final = struct.Struct("<IIQiIQQQII")  # struct sched_attr (sched_setattr(2)), 56 bytes
LATE_S: Final = 0.1  # a thread in idle turns that comes so late takes its share again: a page is to be of this moment
SHARE_S: Final = 60.0  # and for so long: each try on a machine that is still busy costs who looks some seconds


def give_way() -> None:
    """For this process, before it has threads; they inherit it. What the system does not offer is left out."""
    with contextlib.suppress(OSError):
        os.nice(max(0, NICE - os.nice(0)))
    number = SCHED_SETATTR.get(platform.machine())
    if number is None or platform.system() != "Linux":
        return
    attributes = SCHED_ATTR.pack(SCHED_ATTR.size, os.SCHED_OTHER, 0, os.nice(0), 0, SLICE_NS, 0, 0, 0, 0)
    ctypes.CDLL(None).syscall(number, 0, attributes, 0)  # refused by an older kernel: then nothing has changed


def take_turns(idle: bool, thread: int = 0) -> None:
    """Idle turns, or a share by priority. thread: a thread's number as the system has it, 0: the caller."""
    os.sched_setscheduler(thread, os.SCHED_IDLE if idle else os.SCHED_OTHER, os.sched_param(0))


def may_come_back(take: Callable[[bool], None] = take_turns) -> bool:
    """May this thread take its share again after idle turns? Tried by another one, which ends with what it became."""
    came_back = []

    def there_and_back() -> None:
        with contextlib.suppress(OSError, AttributeError):  # refused; another system
            for idle in (True, False):
                take(idle)
            came_back.append(True)

    thread = threading.Thread(target=there_and_back)
    thread.start()
    thread.join()
    return bool(came_back)


class IdleTurns:
    """A thread runs while nobody else wants the processor, unless that makes it late: then it has its share again.

    Only where a thread may come back from idle turns, which without rights depends on RLIMIT_NICE (setrlimit(2)).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, take: Callable[[bool], None] = take_turns) -> None:
        self._clock, self._take = clock, take
        self._begun = self._allowed = False
        self._last = 0.0
        self._share_until = 0.0
        self.idle = False

    def begin(self) -> None:
        """In the thread itself."""
        if not self._begun:
            self._begun, self._allowed = True, may_come_back(self._take)
        self._last = self._clock()

    def step(self, wanted_s: float = 0.0) -> None:
        """The thread is done with a step of its work, or a wait, that it wanted to take so long."""
        now = self._clock()
        late_s, self._last = now - self._last - wanted_s, now
        if late_s > LATE_S:
            self._share_until = now + SHARE_S
        if self.idle != (now >= self._share_until):
            self._turn(idle=not self.idle)

    def _turn(self, *, idle: bool) -> None:
        if self._allowed:
            self._take(idle)
            self.idle = idle
