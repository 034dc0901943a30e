"""Memory that grows all day: reserved as zeros, present ahead of its use, and never changed by being made so."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import PATIENCE_S

from engine import market
from engine.market import Capacity, Market
from engine.memory import HUGE_PAGE, reserved
from engine.records import EVENT
from engine.rules import Rules
from gateway.batch import CommandLog
from gateway.commit import available
from gateway.memory import RANGE, TouchAhead
from gateway.reports import ReportStore
from gateway.touch_kernel import DONE


def present(array: np.ndarray) -> int:
    """Bytes of an array that are in memory, by pages. (The kernel's list of mappings would do only while nothing else
    of this process lies beside the array: neighbours of the same kind become one mapping.)"""
    states = np.zeros(-(-array.nbytes // mmap.PAGESIZE), np.uint8)
    mincore = ctypes.CDLL(None, use_errno=True).mincore
    mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    assert not mincore(array.ctypes.data, array.nbytes, states.ctypes.data), ctypes.get_errno()
    return int((states & 1).sum()) * mmap.PAGESIZE


def test_reserved_memory_is_zero_aligned_and_costs_nothing_until_it_is_used():
    table = reserved((1 << 22,), EVENT)
    assert table.ctypes.data % HUGE_PAGE == 0 and table.flags["C_CONTIGUOUS"]
    assert present(table) == 0
    assert not table[-1]["seq"]


@contextlib.contextmanager
def touched_ahead(table: np.ndarray, used: list[int], more: int, kind: type[TouchAhead] = TouchAhead):
    """One that keeps so many rows behind the used ones present."""
    ahead = kind([lambda: (table, used[0], more)])
    ahead.start()
    yield ahead
    ahead.stop()
    assert not ahead._toucher.is_alive()


def until(condition: Callable[[], bool]) -> bool:
    """True as soon as it holds; False after a long time."""
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends and not condition():
        time.sleep(0.01)
    return condition()


linux = pytest.mark.skipif(not available(), reason="memory is made present ahead of its use on Linux only")


@linux
def test_what_comes_next_is_present_before_it_is_used_and_what_was_written_stays():
    table = reserved((1 << 22,), EVENT)
    table["seq"][:1024] = 7
    used = [1024]
    with touched_ahead(table, used, 1 << 16) as ahead:
        first = (1024 + (1 << 16)) * EVENT.itemsize
        assert until(lambda: present(table) >= first)
        assert (table["seq"][:1024] == 7).all() and not table["seq"][1024 : 1 << 16].any()
        used[0] += 1 << 15
        for _ in range(3):
            ahead.turn()
        assert present(table) == first, "half is ahead still: nothing more is touched"
        used[0] += 64
        assert until(lambda: present(table) >= first + ((1 << 15) + 64) * EVENT.itemsize)
        used[0] = 1 << 17  # faster than anybody can touch it
        assert until(lambda: present(table) >= (3 << 16) * EVENT.itemsize)


class Plain(TouchAhead):
    """Planted bug: what is touched is read, and written back some time later."""

    def _serve(self, shared_at: int, ranges_fd: int, *functions: int) -> None:
        pages = range(*RANGE.unpack(os.read(ranges_fd, RANGE.size)), mmap.PAGESIZE)
        octets = [ctypes.c_uint8.from_address(at) for at in pages]
        seen = [octet.value for octet in octets]
        self.begun.set()
        until(lambda: all(octet.value for octet in octets))
        for octet, value in zip(octets, seen, strict=True):
            octet.value = value

    begun = threading.Event()


def lost_while_touched(kind: type[TouchAhead]) -> int:
    """Pages that were written to while somebody touched them, and have lost what was written."""
    table = reserved((1 << 18,), EVENT)
    pages = table.view(np.uint8)[:: mmap.PAGESIZE]
    with touched_ahead(table, [0], 1 << 18, kind):
        if kind is Plain:
            assert Plain.begun.wait(PATIENCE_S)
        for at in range(len(pages)):  # side by side with the machine code
            pages[at] = 1
    return int((pages == 0).sum())


@linux
def test_what_is_written_meanwhile_is_never_lost():
    assert [lost_while_touched(TouchAhead) for _ in range(20)] == [0] * 20
    assert lost_while_touched(Plain) == (1 << 18) * EVENT.itemsize // mmap.PAGESIZE


@linux
def test_much_is_made_present_step_by_step_so_that_its_share_ends_early(monkeypatch):
    monkeypatch.setattr("gateway.memory.STEP_BYTES", 1 << 20)
    table = reserved((1 << 18,), EVENT)  # 16 MiB
    ahead = TouchAhead([lambda: (table, 0, 1 << 18)])
    turns: list[bool] = []
    ahead._may_wait, ahead._take = True, lambda idle, thread: turns.append(idle)
    steps = []
    while not steps or steps[-1] != ahead._ranges:
        steps.append(ahead._ranges)
        ahead.turn()  # asks
        ahead.turn()  # waits
        ahead._shared[DONE] = ahead._ranges
    assert steps == list(range(17)), "all of it, not only half"
    assert turns == [*[True, False] * 4, True], "its share until a quarter is there, idle turns from then on"
    ahead.stop()


@linux
@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="idle turns are Linux's")
def test_who_makes_it_present_takes_its_share_only_where_it_has_fallen_behind():
    table, used = reserved((1 << 16,), EVENT), [0]
    ahead = TouchAhead([lambda: (table, used[0], 1 << 12)])
    turns: list[bool] = []
    ahead._may_wait, ahead._take = True, lambda idle, thread: turns.append(idle)
    ahead.turn()  # asks: nobody touches yet
    ahead.turn()
    assert turns == [True, False], "nothing is there: its share"
    ahead._shared[DONE] = ahead._ranges
    ahead.turn()
    assert turns == [True, False, True]
    used[0] = 3 << 10
    ahead.turn()  # more is asked for
    ahead.turn()
    assert turns == [True, False, True], "a quarter is ahead still"
    used[0] += 64
    ahead.turn()
    assert turns == [True, False, True, False]
    ahead.stop()


def test_a_store_names_the_arrays_that_it_has_now():
    store = ReportStore()
    assert [rows for _, rows, _ in (used() for used in store.growing(10))] == [0, 1, 1]
    store.events = reserved((4,), EVENT)
    array, _, more = store.growing(10)[0]()
    assert array is store.events and more == 20


def test_deals_grow_where_they_lie(monkeypatch):
    """Nobody waits for a copy; only beyond what is reserved there is one."""
    monkeypatch.setattr(market, "DEALS_MOST", 64)
    made = Market(Rules.national(), Capacity(deals=16))
    made.deals["number"] = np.arange(16)
    at = made.deals.ctypes.data
    made.grow_deals()
    made.grow_deals(50)
    assert len(made.deals) == made.market[0]["deals_capacity"] == 64 and made.deals.ctypes.data == at
    made.grow_deals()
    assert len(made.deals) == made.market[0]["deals_capacity"] == 128
    assert made.deals["number"][:17].tolist() == [*range(16), 0]


@pytest.mark.skipif(
    Path("/proc/sys/vm/overcommit_memory").exists()
    and Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "2",
    reason="this system counts what is reserved",
)
def test_memory_is_full_before_what_grows_all_day_is_copied():
    """A day of 33.5 million orders stood still for 37 s when their tables were copied to grow."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    store, log = ReportStore(), CommandLog()
    assert store.events.nbytes > memory or len(store.events) == 1 << 30
    assert len(store.previous) * store.blocks.shape[1] >= len(store.events)
    assert 2 * len(log.records) >= len(store.events), "a command has two events and more in all that was seen to grow"


def test_where_the_system_counts_what_is_reserved_there_is_less(monkeypatch):
    """Strict overcommit: first what is needed at the start, then half of that."""
    real, asked = mmap.mmap, []

    def strict(number, size, **more):
        asked.append(size - HUGE_PAGE)
        if size - HUGE_PAGE > 3 << 20:
            raise OSError(12, "Cannot allocate memory")
        return real(number, size, **more)

    monkeypatch.setattr(mmap, "mmap", strict)
    assert len(reserved((1 << 16,), EVENT, most=1 << 30)) == 1 << 15
    assert asked == [64 << 30, 4 << 20, 2 << 20]
