"""Memory that grows all day: reserved as zeros, present ahead of its use, and never changed by being made so."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from engine import market
from engine.market import Capacity, Market
from engine.memory import HUGE_PAGE, reserved
from engine.records import EVENT
from engine.rules import Rules
from gateway.batch import CommandLog
from gateway.memory import TouchAhead
from gateway.reports import ReportStore


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


def test_what_comes_next_is_present_before_it_is_used_and_what_was_written_stays():
    table = reserved((1 << 22,), EVENT)
    table["seq"][:1000] = 7
    used = [1000]
    ahead = TouchAhead([lambda: (table, used[0], 1 << 16)])
    if not ahead.turn():
        pytest.skip("this kernel cannot make pages present ahead of their use (Linux 5.14 can)")
    first = present(table)
    assert first >= (1000 + (1 << 16)) * EVENT.itemsize
    assert (table["seq"][:1000] == 7).all() and not table["seq"][1000 : 1 << 16].any()
    assert ahead.turn() and present(table) == first, "nothing new is used: nothing more is touched"
    used[0] = 1 << 17
    assert ahead.turn() and present(table) >= (3 << 16) * EVENT.itemsize


def test_a_store_names_the_arrays_that_it_has_now():
    store = ReportStore()
    assert [rows for _, rows, _ in (used() for used in store.growing())] == [0, 1, 1]
    store.events = reserved((4,), EVENT)
    assert store.growing()[0]()[0] is store.events


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
