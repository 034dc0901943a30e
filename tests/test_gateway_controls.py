"""The controls of the gateway's benchmark: what they say of the machine is exact, and the echo loses nothing."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from benchmarks import gateway as bench
from benchmarks import gateway_controls as controls
from benchmarks import gateway_load as load
from engine.records import BUY, IOC

Clock = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.POINTER(ctypes.c_int64), ctypes.c_long, ctypes.c_long)


def scripted(times_ns: list[int]) -> Clock:
    """A clock that tells these times, one after the other."""
    left = iter(times_ns)

    def clock_gettime(which: int, spare: object, _a: int, _b: int) -> int:
        spare[0], spare[1] = divmod(next(left), 1_000_000_000)  # type: ignore[index]
        return 0

    return Clock(clock_gettime)


def test_an_order_waits_for_the_first_look_at_or_after_its_moment():
    clock = scripted([90, 100, 105, 110, 147, 150])
    late = np.zeros(6, np.int64)
    load.look(ctypes.cast(clock, ctypes.c_void_p).value, np.zeros(2, np.int64), 100, 10, late)
    assert late.tolist() == [0, 0, 27, 17, 7, 0], "at 100 and 110 to the point, then nobody looked until 147"


def test_a_machine_keeps_no_order_waiting_for_less_than_nothing():
    late = controls.processor_alone_ns(bench.Native().clock, 10_000, seconds=0.02)
    assert late.shape == (200,) and late.min() >= 0 and late.max() > 0


@pytest.mark.slow
def test_an_echo_of_fifty_sessions_brings_each_message_back():
    """With a limit of 10,000 for each peer it lost some: libzmq counts what was read only thousands later."""
    native, sessions, each = bench.Native(), 50, 1_000
    with bench.echo(True, "hot", sessions) as sockets:
        frames = np.concatenate([bench.records(BUY, IOC, 1)] * sessions)
        many = bench.Load(native, sockets, frames, [0] * sessions, True)
        many.run(sessions * each, 30_000, 1)  # raises where an answer is missing
        one = bench.Load(native, sockets[:1], frames[:1], [0], True)
        one.run(sessions * each, 30_000, 1)
