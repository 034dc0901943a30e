"""Machine code of the thread that makes memory present (gateway.memory): it never takes the interpreter's lock."""

# mypy: ignore-errors
from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import int64, void
from numba.extending import intrinsic

from engine.book import array_at
from engine.machine_code import entry
from gateway.commit_kernel import EINTR
from gateway.libzmq import call4

# Fields of the record that both threads share: int64 each.
FROM: Final = 0  # addresses, as they were read from the pipe
TO: Final = 1
DONE: Final = 2  # ranges that are present
STOP: Final = 3
FIELDS: Final = 4

RANGE_BYTES: Final = 16  # what the pipe carries of each range
PAGE_BYTES: Final = 4_096  # where pages are larger, some are touched several times
WORD, ERRNO = np.dtype(np.int64), np.dtype(np.int32)
C_FUNCTIONS: Final = ("read", "__errno_location")


@intrinsic
def _touch(typing_context: Any, address: Any) -> Any:
    """Replaces an octet that is 0 by 0, in one step that no other thread's write can come between: no 0, no need."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        octet = ir.IntType(8)
        at = builder.inttoptr(args[0], octet.as_pointer())
        # adding 0 would be made into a load, which does not make a page present
        builder.cmpxchg(at, ir.Constant(octet, 0), ir.Constant(octet, 0), "monotonic")
        return context.get_dummy_value()

    return void(int64), generate


@entry(void(int64, int64, int64, int64))
def serve(shared_at, ranges_fd, f_read, f_errno):
    """The thread: touches each range that comes through the pipe, until it is closed. At shared_at: int64[FIELDS]."""
    shared = array_at(shared_at, FIELDS, WORD)
    while True:
        n = call4(f_read, ranges_fd, shared_at + 8 * FROM, RANGE_BYTES, 0)
        if n != RANGE_BYTES:
            if n < 0 and array_at(call4(f_errno, 0, 0, 0, 0), 1, ERRNO)[0] == EINTR:
                continue
            return
        at, end = shared[FROM], shared[TO]
        while at < end and shared[STOP] == 0:
            _touch(at)
            at += PAGE_BYTES
        shared[DONE] += 1
