"""libzmq's own functions, as addresses that machine code can call.

pyzmq makes and secures the sockets; the hot lane calls the libzmq inside pyzmq's wheel on the same sockets. The
addresses are found at run time and passed as integers, so that compiled code can be cached on disk.
"""

from __future__ import annotations

import ctypes
import glob
import os
from typing import Any, Final

import zmq
from llvmlite import ir
from numba import int64
from numba.extending import intrinsic

MESSAGE_BYTES: Final = 64  # sizeof(zmq_msg_t), fixed by zmq.h

FUNCTIONS: Final = (
    "zmq_msg_init",
    "zmq_msg_recv",
    "zmq_msg_data",
    "zmq_msg_size",
    "zmq_msg_more",
    "zmq_msg_close",
    "zmq_msg_gets",
    "zmq_send",
    "zmq_poll",
)


class LibzmqMissing(Exception):
    """The library that pyzmq uses was not found or lacks a function: the plain lane is the way then."""


def _paths() -> list[str]:
    """Where pyzmq's libzmq may lie: what this process has mapped, then beside the wheel."""
    found: list[str] = []
    try:
        with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
            found += [line.split()[-1] for line in maps if "libzmq" in line and ".so" in line]
    except OSError:
        pass
    root = os.path.dirname(os.path.dirname(zmq.__file__))
    found += glob.glob(os.path.join(root, "pyzmq.libs", "libzmq*"))
    return list(dict.fromkeys(found))


def addresses() -> dict[str, int]:
    """Name → address of every function; raises LibzmqMissing."""
    return {name: address(name) for name in FUNCTIONS}


def address(name: str) -> int:
    """The address of one function of pyzmq's libzmq; raises LibzmqMissing."""
    for path in _paths():
        try:
            found = ctypes.cast(getattr(ctypes.CDLL(path), name), ctypes.c_void_p).value
        except (OSError, AttributeError):
            continue
        if found:
            return found
    raise LibzmqMissing("the libzmq of pyzmq was not found")


@intrinsic
def call4(typing_context: Any, address: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Calls a C function by address with up to four integer or pointer arguments; its 64-bit result.

    A callee with fewer arguments ignores the rest; the upper half of an ``int`` result is undefined: cast it.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        function = builder.inttoptr(args[0], ir.FunctionType(word, [word] * 4).as_pointer())
        return builder.call(function, args[1:])

    return int64(int64, int64, int64, int64, int64), generate
