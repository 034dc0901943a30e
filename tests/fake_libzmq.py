"""A socket in memory that the hot lane's machine code cannot tell from libzmq's: for fuzzing it without a network.

The lane calls libzmq by address (gateway.libzmq); these functions have the same form. The "socket" is the address of
a small table: which message part comes next, and where what is sent is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
from numba import cfunc, int64

from gateway import libzmq
from gateway.hot import _bytes_at, _words_at

OUT_BYTES = 4 << 20
NEXT, COUNT, TABLE, OUT, OUT_USED = range(5)
SNDMORE = 2

_SIGNATURE = int64(int64, int64, int64, int64)


def _recv(message, socket, flags, _unused):
    """The next part into a zmq_msg_t: its address, size, more, and User-Id."""
    table = _words_at(socket, 5)
    if table[NEXT] >= table[COUNT]:
        return -1
    part = _words_at(int64(table[TABLE]) + int64(table[NEXT]) * 32, 4)
    words = _words_at(message, 4)
    for i in range(4):
        words[i] = part[i]
    table[NEXT] += np.uint64(1)
    return int64(part[1])


def _data(message, _a, _b, _c):
    return int64(_words_at(message, 4)[0])


def _size(message, _a, _b, _c):
    return int64(_words_at(message, 4)[1])


def _more(message, _a, _b, _c):
    return int64(_words_at(message, 4)[2])


def _gets(message, _a, _b, _c):
    return int64(_words_at(message, 4)[3])


def _send(socket, data, size, flags):
    """Size, flags, bytes behind what was sent before; -1 (no room) when the memory is used up."""
    table = _words_at(socket, 5)
    used, room = int64(table[OUT_USED]), (size + 7) // 8 * 8
    if used + 16 + room > OUT_BYTES:
        return -1
    head = _words_at(int64(table[OUT]) + used, 2)
    head[0], head[1] = np.uint64(size), np.uint64(flags)
    source, target = _bytes_at(data, size), _bytes_at(int64(table[OUT]) + used + 16, size)
    for i in range(size):
        target[i] = source[i]
    table[OUT_USED] = np.uint64(used + 16 + room)
    return size


@cache
def machine_code(function: Callable[..., int]) -> Any:
    """A function of libzmq's form or the C library's, with its ``address``; made for who uses it, and kept."""
    return cfunc(_SIGNATURE, cache=True)(function)


def addresses() -> dict[str, int]:
    """As gateway.libzmq.addresses, but for what a socket does."""
    found = {name: libzmq.address(name) for name in libzmq.FUNCTIONS}
    for name, function in (("recv", _recv), ("data", _data), ("size", _size), ("more", _more), ("gets", _gets)):
        found[f"zmq_msg_{name}"] = machine_code(function).address
    return {**found, "zmq_send": machine_code(_send).address}


class MemorySocket:
    """Messages in, messages out; ``underlying`` as of a zmq.Socket."""

    def __init__(self) -> None:
        self._table, self._out = np.zeros(5, np.int64), np.zeros(OUT_BYTES, np.uint8)
        self._table[OUT] = self._out.ctypes.data
        self.underlying = self._table.ctypes.data
        self._kept: tuple[object, ...] = ()

    def put(self, parts: list[bytes], user: str) -> None:
        """One message of a connection with this key; it waits for the lane."""
        arena = np.frombuffer(b"".join(parts) + user.encode() + b"\0", np.uint8)
        rows, at = np.zeros((len(parts), 4), np.int64), arena.ctypes.data
        user_at = at + sum(map(len, parts))
        for i, part in enumerate(parts):
            rows[i] = at, len(part), i + 1 < len(parts), user_at
            at += len(part)
        self._kept = arena, rows
        self._table[NEXT], self._table[COUNT], self._table[TABLE] = 0, len(parts), rows.ctypes.data

    def sent(self) -> Iterator[tuple[bytes, bytes]]:
        """(routing id, frame) of each message sent since the last time."""
        at, end = 0, int(self._table[OUT_USED])
        self._table[OUT_USED] = 0
        route = b""
        while at < end:
            size, flags = (int(w) for w in self._out[at : at + 16].view(np.int64))
            data = self._out[at + 16 : at + 16 + size].tobytes()
            at += 16 + (size + 7) // 8 * 8
            if flags & SNDMORE:
                route = data
            else:
                yield route, data
