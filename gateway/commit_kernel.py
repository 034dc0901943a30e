"""Machine code of the commit thread: waits for work, writes and syncs it, tells (gateway.commit)."""

# mypy: ignore-errors
from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import carray, int32, types
from numba.extending import intrinsic

from engine.machine_code import native
from gateway.libzmq import call4

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


@native()
def _now_ns(shared, f_clock):  # type: ignore[no-untyped-def]
    call4(f_clock, CLOCK_MONOTONIC, shared.ctypes.data + 8 * CLOCK, 0, 0)
    return shared[CLOCK] * 1_000_000_000 + shared[CLOCK + 1]


@native()
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


@native(nogil=True)
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
