"""A process that gives way: lower priority, and turns on the processor so short that whoever wakes up need not wait."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
from typing import Final

# Where both want the same core the exchange goes first: a page may wait some milliseconds, an order may not.
NICE: Final = 15
# How long a process that runs may go on when another one wakes up (Linux 6.12 and later; before, it is not asked). Its
# own default is some milliseconds, whatever the priorities; this is the least that can be asked for.
SLICE_NS: Final = 100_000
SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}  # the system call's number (asm/unistd.h)
SCHED_ATTR: Final = struct.Struct("<IIQiIQQQII")  # struct sched_attr (sched_setattr(2)), 56 bytes


def give_way() -> None:
    """For this process, before it has threads; they inherit it. What the system does not offer is left out."""
    with contextlib.suppress(OSError):
        os.nice(max(0, NICE - os.nice(0)))
    number = SCHED_SETATTR.get(platform.machine())
    if number is None or platform.system() != "Linux":
        return
    attributes = SCHED_ATTR.pack(SCHED_ATTR.size, os.SCHED_OTHER, 0, os.nice(0), 0, SLICE_NS, 0, 0, 0, 0)
    ctypes.CDLL(None).syscall(number, 0, attributes, 0)  # refused by an older kernel: then nothing has changed
