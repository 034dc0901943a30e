"""What the machine itself takes of the gateway's latencies: its disk, its processors, without any exchange."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks import gateway_load as load


def times(count: int) -> np.ndarray:
    """int64[count] for what is measured, touched: fresh memory that the host must give first takes it 9 ms a 2 MiB."""
    return np.full(count, -1, np.int64)


def fdatasync_ns(folder: Path, count: int = 500, pause_ns: int = 0) -> np.ndarray:
    """Writing a group of one order into a preallocated file and fdatasync, ns each; with a pause before each.

    A disk that is asked at once again answers sooner than one that is asked at the pace of round trips.
    """
    path = folder / "fdatasync.probe"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, 1 << 20)
    out = times(count)
    for i in range(count):
        if pause_ns:
            time.sleep(pause_ns / 1e9)
        began = time.monotonic_ns()
        os.pwrite(fd, bytes(128), 128 * i)
        os.fdatasync(fd)
        out[i] = time.monotonic_ns() - began
    os.close(fd)
    path.unlink()
    return out


def disk_alone_ns(folder: Path, rate: float, seconds: float = 2.0) -> np.ndarray:
    """What orders at a fixed rate would wait for the disk alone, ns: from the intended send time to the durable end.

    As an exchange without any work of its own: whatever has arrived is one group, written and fdatasynced; those that
    come meanwhile are the next one.
    """
    path, step_ns, count = folder / "disk.probe", int(1e9 / rate), int(rate * seconds)
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, 64 * (2 * count + 1))
    out = times(count)
    began, done, place = time.monotonic_ns(), 0, 0
    while done < count:
        arrived = min(count, (time.monotonic_ns() - began) // step_ns + 1)
        if arrived == done:
            time.sleep(step_ns / 1e9)
            continue
        place += os.pwrite(fd, bytes(64 * (arrived - done + 1)), place)
        os.fdatasync(fd)
        out[done:arrived] = time.monotonic_ns() - began - np.arange(done, arrived) * step_ns
        done = arrived
    os.close(fd)
    path.unlink()
    return out


def processor_alone_ns(clock: int, rate: float, seconds: float = 2.0, threads: int = 2) -> np.ndarray:
    """What orders at a fixed rate would wait for a processor alone, ns.

    ``threads`` threads look at the clock (the C function at that address) all the time, and do nothing else. A thread
    meets an order at its first look at or after the order's due time. Each order waits for the last of the threads, as
    it waits for the load's and for the exchange's. What is more than a look (some 50 ns) is time in which the machine
    gave the processor to somebody else.
    """
    step_ns, count = int(1e9 / rate), int(rate * seconds)
    late = [times(count) for _ in range(threads)]
    load.look(clock, np.zeros(2, np.int64), time.monotonic_ns(), step_ns, np.zeros(1, np.int64))  # compiled before
    began = time.monotonic_ns() + 5_000_000  # the threads stand by then
    work = [threading.Thread(target=load.look, args=(clock, np.zeros(2, np.int64), began, step_ns, o)) for o in late]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    return np.max(late, axis=0)
