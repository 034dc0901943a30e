"""Memory that grows all day: reserved as zeros, present ahead of its use, and never changed by being made so."""

from __future__ import annotations

import numpy as np

from engine.records import EVENT
from gateway.memory import HUGE_PAGE, TouchAhead, reserved
from gateway.reports import ReportStore


def present(array: np.ndarray) -> int:
    """Bytes of an array's mapping that are in memory (Linux: /proc/self/smaps)."""
    address, found, resident = array.ctypes.data, False, 0
    with open("/proc/self/smaps", encoding="ascii") as maps:
        for line in maps:
            first, _, rest = line.partition(" ")
            if "-" in first and ":" not in first:
                start, end = (int(x, 16) for x in first.split("-"))
                found = start <= address < end
            elif found and first == "Rss:":
                resident = int(rest.split()[0]) * 1024
    return resident


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
    assert ahead.turn()
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
