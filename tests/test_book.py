"""The book's primitives against a model of lists, and `check` against planted faults."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from numba import njit

from engine import book as b
from engine.book import NIL, SLOT_NONE, Book, check, new_book


@b.kernel
def enter(book, s, level, quantity):  # type: ignore[no-untyped-def]
    orders, pool, sides, levels, bitmap = book
    slot = b.allocate(orders, pool)
    if slot != np.uint64(SLOT_NONE):
        orders[slot].flags = np.uint64(s) & np.uint64(1)
        b.append(orders, levels, sides, bitmap, np.uint64(s), slot, np.uint64(level), quantity)
    return slot


@b.kernel
def leave(book, s, slot):  # type: ignore[no-untyped-def]
    orders, pool, sides, levels, bitmap = book
    b.remove(orders, levels, sides, bitmap, np.uint64(s), np.uint64(slot))
    b.release(orders, pool, np.uint64(slot))


@b.kernel
def take_head(book, s, level):  # type: ignore[no-untyped-def]
    orders, pool, sides, levels, bitmap = book
    slot = np.uint64(b.head_of(levels, sides, np.uint64(s), np.uint64(level)))
    b.pop_head(orders, levels, sides, bitmap, np.uint64(s), np.uint64(level))
    b.release(orders, pool, slot)
    return slot


@b.kernel
def lower(book, s, slot, by):  # type: ignore[no-untyped-def]
    orders, _, sides, levels, _ = book
    b.reduce(orders, levels, sides, np.uint64(s), np.uint64(slot), by)


@b.kernel
def occupied_after(book, s, level):  # type: ignore[no-untyped-def]
    return b.next_level(book.sides, book.bitmap, np.uint64(s), np.uint64(level))


@b.kernel
def occupied_from(book, s, level):  # type: ignore[no-untyped-def]
    return b.first_level(book.sides, book.bitmap, np.uint64(s), np.uint64(level))


@b.kernel
def find(book, order_id):  # type: ignore[no-untyped-def]
    return b.find(book.orders, book.pool, np.uint64(order_id))


@b.kernel
def order_id_of(book, slot):  # type: ignore[no-untyped-def]
    return b.id_of(book.orders, np.uint64(slot))


@b.kernel
def to_level(book, s, tick):  # type: ignore[no-untyped-def]
    return b.level_of(book.sides, np.uint64(s), np.uint64(tick))


@b.kernel
def to_tick(book, s, level):  # type: ignore[no-untyped-def]
    return b.tick_of(book.sides, np.uint64(s), np.uint64(level))


@b.kernel
def leaves_by_address(address, n, slot):  # type: ignore[no-untyped-def]
    orders = b.array_at(address, n, b.ORDER)
    b.prefetch(orders, np.uint64(slot) + np.uint64(1_000_000))  # far beyond: must not fault
    return orders[np.uint64(slot)].leaves


class Model:
    """The same book as lists of slots per level."""

    def __init__(self, book: Book, widths: list[int]) -> None:
        self.book = book
        self.widths = widths
        self.queues: list[dict[int, list[int]]] = [{} for _ in range(2 * len(widths))]
        self.leaves: dict[int, int] = {}

    def compare(self) -> None:
        for s, queues in enumerate(self.queues):
            occupied = sorted(level for level, queue in queues.items() if queue)
            found, level = [], int(self.book.sides[s]["best"])
            while level != NIL:
                found.append(level)
                level = occupied_after(self.book, s, level)
            assert found == occupied
            for level in occupied:
                self.compare_level(s, level)

    def compare_level(self, s: int, level: int) -> None:
        record = self.book.levels[int(self.book.sides[s]["levels_offset"]) + level]
        slots, slot = [], int(record["head"])
        while slot:
            slots.append(slot)
            assert int(self.book.orders[slot]["leaves"]) == self.leaves[slot]
            slot = int(self.book.orders[slot]["next"])
        assert slots == self.queues[s][level]
        assert int(record["quantity"]) == sum(self.leaves[slot] for slot in slots)
        assert int(record["count"]) == len(slots)

    def step(self, rng: random.Random) -> None:
        s = rng.randrange(len(self.queues))
        queues = self.queues[s]
        open_levels = [level for level, queue in queues.items() if queue]
        action = rng.choice(("enter", "enter", "leave", "take", "lower"))
        if action == "enter" or not open_levels:
            n = self.widths[s // 2]
            near = rng.choice(open_levels) if open_levels and rng.random() < 0.5 else rng.randrange(n)
            level = min(n - 1, near + rng.choice((0, 0, 1, 63, 64)))
            quantity = rng.randint(1, 1 << rng.choice((4, 40)))
            slot = enter(self.book, s, level, quantity)
            assert slot != SLOT_NONE
            queues.setdefault(level, []).append(slot)
            self.leaves[slot] = quantity
            return
        level = rng.choice(open_levels)
        queue = queues[level]
        slot = rng.choice(queue)
        if action == "leave":
            leave(self.book, s, slot)
            queue.remove(slot)
            del self.leaves[slot]
        elif action == "take":
            assert take_head(self.book, s, level) == queue[0]
            del self.leaves[queue.pop(0)]
        elif self.leaves[slot] > 1:
            by = rng.randint(1, self.leaves[slot] - 1)
            lower(self.book, s, slot, by)
            self.leaves[slot] -= by


@pytest.mark.parametrize("widths", [[1], [63, 64], [65, 1], [4096], [4097, 200], [300_000]])
def test_random_entries_removals_fills_and_reductions_leave_the_same_book_as_lists(widths: list[int]) -> None:
    rng = random.Random(len(widths) * 1_000_003 + widths[0])
    model = Model(new_book(2_000, widths), widths)
    for i in range(600):
        model.step(rng)
        if i % 20 == 0 or i > 580:
            model.compare()
            check(model.book)


def test_a_book_that_is_emptied_again_is_all_zero_but_its_pool() -> None:
    book = new_book(50, [5_000])
    slots = [enter(book, i & 1, 97 * i, 10 + i) for i in range(50)]
    for i in sorted(range(50), key=lambda i: i * 7 % 50):
        leave(book, i & 1, slots[i])
    check(book)
    assert not book.levels.view(np.uint8).any()
    assert not book.bitmap.any()
    assert (book.sides["best"] == NIL).all()


def test_the_two_ends_of_the_widest_band_are_found_from_each_other() -> None:
    n = b.LEVELS_MAX
    book = new_book(4, [n])
    enter(book, 1, 0, 5)
    enter(book, 1, n - 1, 7)
    assert int(book.sides[1]["best"]) == 0
    assert occupied_after(book, 1, 0) == n - 1
    assert occupied_after(book, 1, n - 1) == NIL
    assert occupied_from(book, 1, n - 1) == n - 1
    take_head(book, 1, 0)
    assert int(book.sides[1]["best"]) == n - 1
    assert int(book.sides[0]["best"]) == NIL


def test_next_level_finds_what_a_scan_finds_across_word_and_tier_boundaries() -> None:
    n = 70_000
    book = new_book(500, [n])
    rng = random.Random(5)
    occupied = sorted(
        {0, 63, 64, 4095, 4096, n - 1} | {rng.randrange(n) for _ in range(30)} | {8192 + i for i in range(60)}
    )
    for level in occupied:
        enter(book, 0, level, 1)
    for level in sorted({x + d for x in occupied for d in (-1, 0, 1)} | {rng.randrange(n) for _ in range(200)}):
        if 0 <= level < n:
            assert occupied_after(book, 0, level) == next((x for x in occupied if x > level), NIL)
            assert occupied_from(book, 0, level) == next((x for x in occupied if x >= level), NIL)


def test_levels_count_from_the_best_price_of_each_side() -> None:
    book = new_book(1, [2_001])
    assert [to_level(book, 1, tick) for tick in (0, 1, 2_000)] == [0, 1, 2_000]
    assert [to_level(book, 0, tick) for tick in (0, 1, 2_000)] == [2_000, 1_999, 0]
    assert all(to_tick(book, s, to_level(book, s, tick)) == tick for s in (0, 1) for tick in range(0, 2_001, 29))


def test_slots_are_given_last_freed_first_and_none_when_the_pool_is_full() -> None:
    book = new_book(3, [10])
    assert [enter(book, 0, 1, 1) for _ in range(4)] == [1, 2, 3, SLOT_NONE]
    leave(book, 0, 1)
    leave(book, 0, 3)
    assert [enter(book, 0, 2, 1) for _ in range(3)] == [3, 1, SLOT_NONE]
    check(book)


def test_an_id_is_found_only_while_its_order_lives() -> None:
    book = new_book(5, [10])
    slot = enter(book, 0, 3, 7)
    order_id = order_id_of(book, slot)
    assert find(book, order_id) == slot
    leave(book, 0, slot)
    assert find(book, order_id) == SLOT_NONE
    again = enter(book, 0, 3, 7)
    assert again == slot
    assert order_id_of(book, again) != order_id
    assert find(book, order_id) == SLOT_NONE
    assert find(book, order_id_of(book, again)) == again


@pytest.mark.parametrize("forged", [0, 1 << 32, 2, 5, 6, 0xFFFFFFFF, (1 << 64) - 1, (7 << 32) | 1, 1 << 63])
def test_a_forged_id_never_reaches_the_list(forged: int) -> None:
    book = new_book(5, [10])
    enter(book, 0, 3, 7)
    assert find(book, np.uint64(forged)) == SLOT_NONE


def test_state_can_be_passed_by_address() -> None:
    book = new_book(5, [10])
    slot = enter(book, 1, 3, 42)
    assert leaves_by_address(book.orders.ctypes.data, len(book.orders), slot) == 42
    assert book.orders.ctypes.data % 64 == 0


def test_records_keep_their_sizes() -> None:
    sizes = {"ORDER": 32, "ORDER_COLD": 16, "LEVEL": 24, "BOOK_SIDE": 64, "POOL": 16}
    assert {name: getattr(b, name).itemsize for name in sizes} == sizes


def test_kernels_are_compiled_without_reference_counting() -> None:
    """The factor of four that this module's docstring tells of; the planted one is plain njit."""

    def body(book, n):  # type: ignore[no-untyped-def]
        orders, _, _, _, _ = book
        for i in range(np.uint64(n)):
            orders[i].leaves += orders[i].next
            b.prefetch(orders, i)

    book = new_book(5, [10])
    plain, ours = njit(body), njit(**b.KERNEL_OPTIONS)(body)  # uncached: cached code cannot be inspected
    counted = []
    for function in (plain, ours):
        function(book, 3)
        counted.append("NRT_" in next(iter(function.inspect_llvm().values())))
    assert counted == [True, False]
    assert all(enter.targetoptions[name] == value for name, value in b.KERNEL_OPTIONS.items())


@b.kernel
def leave_by_swap_and_pop(book, s, slot):  # type: ignore[no-untyped-def]
    """Planted: the level's last order takes the place of the one that leaves."""
    orders, pool, sides, levels, bitmap = book
    level = np.uint64(orders[slot].level)
    tail = np.uint64(levels[np.uint64(sides[s].levels_offset) + level].tail)
    orders[slot].leaves, orders[tail].leaves = orders[tail].leaves, orders[slot].leaves
    b.remove(orders, levels, sides, bitmap, np.uint64(s), tail)
    b.release(orders, pool, tail)


@b.kernel
def leave_a_dead_best(book, s, slot):  # type: ignore[no-untyped-def]
    """Planted: best stays where it was."""
    orders, pool, sides, levels, bitmap = book
    best = sides[s].best
    b.remove(orders, levels, sides, bitmap, np.uint64(s), np.uint64(slot))
    b.release(orders, pool, np.uint64(slot))
    sides[s].best = best


@pytest.mark.parametrize("fault", [leave_by_swap_and_pop, leave_a_dead_best])
def test_the_comparison_with_lists_finds_a_planted(fault: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "leave", fault)
    with pytest.raises((AssertionError, KeyError)):
        test_random_entries_removals_fills_and_reductions_leave_the_same_book_as_lists([20])


def filled_book() -> Book:
    book = new_book(40, [200, 5_000])
    for i in range(30):
        enter(book, i % 4, (i * 37) % (200 if i % 4 < 2 else 5_000), 5 + i)
        if i < 8:
            enter(book, i % 4, 77, 5 + i)
    for slot in (3, 9, 4):
        leave(book, int(book.orders[slot]["flags"]) + 2 * _instrument(book, slot), slot)
    check(book)
    return book


def _instrument(book: Book, slot: int) -> int:
    """Instrument on which a slot rests, found by walking the lists (orders here do not say)."""
    for s, side in enumerate(book.sides):
        offset = int(side["levels_offset"])
        for level in book.levels[offset : offset + int(side["n_levels"])]:
            at = int(level["head"])
            while at:
                if at == slot:
                    return s // 2
                at = int(book.orders[at]["next"])
    raise AssertionError(slot)


def _set(array: np.ndarray, name: str, change: Callable[[int], int]) -> None:
    array[name] = [change(int(x)) for x in array[name]]


def _dirty_empty(book: Book) -> None:
    book.levels[int(np.flatnonzero(book.levels["count"] == 0)[0])]["head"] = 1


PLANTED: dict[str, Callable[[Book], None]] = {
    "a level's quantity": lambda k: _set(_first(k), "quantity", lambda x: x + 1),
    "a level's count": lambda k: _set(_first(k), "count", lambda x: x + 1),
    "a level's tail": lambda k: _set(_first(k), "tail", lambda x: x + 1),
    "an empty level's list": _dirty_empty,
    "a dead best": lambda k: _set(k.sides[:1], "best", lambda x: x - 1 if x else x + 1),
    "orders of a side": lambda k: _set(k.sides[:1], "orders", lambda x: x + 1),
    "a bit of tier 0": lambda k: _flip(k, "tier0"),
    "a bit of tier 1": lambda k: _flip(k, "tier1"),
    "a bit of the top tier": lambda k: _flip(k, "tier4"),
    "a backward link": lambda k: _order(k, "prev", lambda x: x + 1),
    "a forward link": lambda k: _order(k, "next", lambda _: 0),
    "an order's level": lambda k: _order(k, "level", lambda x: x + 1),
    "an order's side": lambda k: _order(k, "flags", lambda x: x ^ 1),
    "an order without leaves": lambda k: _order(k, "leaves", lambda _: 0),
    "an order in two places": lambda k: _order(k, "next", lambda _: int(_first(k)[0]["head"])),
    "a free order with leaves": lambda k: k.orders.__setitem__(int(k.pool["free"][0]), (1, *[0] * 8)),
    "a lost slot": lambda k: _set(k.pool, "free", lambda _: 0),
    "the number of live orders": lambda k: _set(k.pool, "live", lambda x: x + 1),
}


def _first(book: Book) -> np.ndarray:
    at = int(np.flatnonzero(book.levels["count"] >= 2)[0])
    return book.levels[at : at + 1]


def _flip(book: Book, tier: str) -> None:
    book.bitmap[int(book.sides[0][tier])] ^= np.uint64(2)


def _order(book: Book, name: str, change: Callable[[int], int]) -> None:
    slot = int(_first(book)[0]["head"])
    book.orders[slot][name] = change(int(book.orders[slot][name]))


@pytest.mark.parametrize("fault", PLANTED)
def test_check_finds_a_fault_planted_in(fault: str) -> None:
    book = filled_book()
    PLANTED[fault](book)
    with pytest.raises(AssertionError):
        check(book)
