"""Memory that grows all day: reserved as zeros, present ahead of its use, and never changed by being made so."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
import pytest

from engine.records import EVENT
from gateway.memory import HUGE_PAGE, TouchAhead, reserved
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
