"""The price-time order book: njit primitives on plain structured arrays, without checks, accounts or events.

A book side is an array of price levels, a FIFO list of orders per level, and a bitmap of the occupied levels. The
exchange kernel (engine/kernel/) and the bare-book benchmarks build their own match loops on these primitives, so
there is one book and not two.

Levels are counted from the best possible price of their side::

    SELL  level = tick                   tick 0 is the lowest price of the band
    BUY   level = n_levels - 1 - tick    (`level_of` and `tick_of` convert, without a branch)

so on *both* sides a smaller level is a better price, the best level is the lowest set bit, and an incoming order
with limit tick ``t`` reaches the opposite side while ``best <= level_of(opposite, t)``. An empty side has best NIL,
the largest u4, so the same comparison fails for it. No primitive branches on the side.

ORDER, 32 bytes, slot 0 is never an order (SLOT_NONE)::

      0        8    12   16    20      24         28      30   31
      +--------+----+----+-----+-------+----------+-------+----+-----+
      | leaves |next|prev|level|account|generation|session|inst|flags|
      +--------+----+----+-----+-------+----------+-------+----+-----+

``leaves`` is 0 exactly when the slot is free; a free slot's ``next`` is the free list. LEVEL, 24 bytes: quantity,
head, tail, count; the ends stand where an order's links do, which makes linking free of branches (`link`). An all-zero
LEVEL is an empty level, so a wide band costs memory only where it is used.

The bitmap has TIERS tiers of 64-bit words; bit i of tier k+1 says that word i of tier k is not zero. Setting and
clearing go up only when a word becomes non-zero or zero; the search for the next level goes up only when the rest of
its word is empty. Nothing ever scans: at most TIERS words are read in either direction.
Each tier is followed by one zero word, so that a search that runs off its end reads "nothing here".

Order ids are ``generation << 32 | slot``; a slot's generation goes up by one when it is freed, so an id is never
given twice (within 2^32 uses of a slot) and a stale or forged id does not reach the list (`find`).

How these functions are compiled matters more than what they do. ``@kernel`` is njit with ``_nrt=False``: without
it numba counts references to every array at every use, 165 calls in the flash1 loop, and the loop is four times
slower (10 M messages/s instead of 40). A kernel compiled so may not create arrays. ``@part`` makes a function that LLVM
inlines into whatever calls it: a kernel that uses these functions is itself a ``@kernel`` or an ``@entry``.

Units: quantities are whole tonnes (or lots of another market), ticks and levels are indices. Nothing here raises:
wrong arguments are programmer errors, which `check` finds.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from engine.machine_code import KERNEL_OPTIONS as KERNEL_OPTIONS
from engine.machine_code import either
from engine.machine_code import kernel as kernel
from engine.machine_code import part as part
from engine.memory import aligned_zeros
from engine.rows import Rows

ORDER: Final = np.dtype(
    [
        ("leaves", "<i8"),
        ("next", "<u4"),
        ("prev", "<u4"),
        ("level", "<u4"),
        ("account", "<u4"),
        ("generation", "<u4"),
        ("session", "<u2"),
        ("instrument", "u1"),
        ("flags", "u1"),
    ]
)
"""The part of an order that matching touches: half a cache line."""

ORDER_COLD: Final = np.dtype([("filled", "<i8"), ("filled_amount", "<i8")])
"""Parallel to ORDER, exchange only: quantity (t) and amount (fen) filled so far."""

LEVEL: Final = np.dtype([("quantity", "<i8"), ("head", "<u4"), ("tail", "<u4"), ("count", "<u4"), ("spare", "<u4")])

BOOK_SIDE: Final = np.dtype(
    [
        ("levels_offset", "<u8"),  # of this side's level 0 in the table of levels
        ("best", "<u4"),  # best level, NIL when the side is empty
        ("n_levels", "<u4"),
        ("flip_mask", "<u4"),  # level = (tick ^ flip_mask) + flip_add, modulo 2^32
        ("flip_add", "<u4"),
        ("orders", "<u4"),  # resting orders
        ("tier0", "<u4"),  # offsets of the tiers' first words in the bitmap
        ("tier1", "<u4"),
        ("tier2", "<u4"),
        ("tier3", "<u4"),
        ("tier4", "<u4"),
        ("ahead_add", "<u4"),  # row of a price's level = (price ^ flip_mask) + ahead_add, where the tick is 1: a hint
        ("spare", "<u4"),
        ("spare_b", "<u8"),
    ]
)
"""One instrument's one side; index 2 * instrument + side. One cache line."""

POOL: Final = np.dtype([("free", "<u4"), ("unused", "<u4"), ("capacity", "<u4"), ("live", "<u4")])
"""Order slots: head of the LIFO free list, first slot never used, number of slots, slots in use."""

assert [t.itemsize for t in (ORDER, ORDER_COLD, LEVEL, BOOK_SIDE, POOL)] == [32, 16, 24, 64, 16]
assert ORDER.fields is not None and LEVEL.fields is not None
assert [LEVEL.fields[end] for end in ("head", "tail")] == [ORDER.fields[link] for link in ("next", "prev")]

SLOT_NONE: Final = 0
NIL: Final = 0xFFFFFFFF  # no level
FLAG_SIDE: Final = 1  # ORDER.flags bit 0: 0 buy, 1 sell (as records.BUY, records.SELL)
TIERS: Final = 5  # 64^5 = 2^30 levels, more than LEVELS_MAX
LEVELS_MAX: Final = 1 << 25  # D17: the widest band of other markets' data
ORDERS_MAX: Final = (1 << 32) - 2  # slots are u4, slot 0 is none

_U0: Final = np.uint64(0)
_U1: Final = np.uint64(1)
_U6: Final = np.uint64(6)
_U32: Final = np.uint64(32)
_U63: Final = np.uint64(63)
_LOW32: Final = np.uint64(0xFFFFFFFF)
_NIL: Final = np.uint64(NIL)


# --- machine intrinsics -------------------------------------------------------------------------------------------


_intrinsic: Any = intrinsic  # untyped: numba's annotation would demand the typing context of every caller


@_intrinsic
def count_trailing_zeros(typingctx: Any, word: Any) -> Any:
    """Index of the lowest set bit of a u8 word; undefined for 0 (llvm.cttz)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), codegen


@_intrinsic
def rarely(typingctx: Any, condition: Any) -> Any:
    """The condition itself, and word to the compiler that it seldom holds, which keeps the rare out of the way."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bit = ir.IntType(1)
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(bit, [bit, bit]), "llvm.expect.i1")
        return builder.call(function, [args[0], bit(0)])

    return types.boolean(types.boolean), codegen


@_intrinsic
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Ask the cache for ``array[index]``, for writing; never faults, not even beyond the array (llvm.prefetch)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        table = signature.args[0]
        first = args[0] if isinstance(table, Rows) else context.make_array(table)(context, builder, args[0]).data
        pointer = builder.gep(first, [args[1]])
        i8p = ir.IntType(8).as_pointer()
        i32 = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [i8p, i32, i32, i32]), "llvm.prefetch.p0i8"
        )
        builder.call(function, [builder.bitcast(pointer, i8p), i32(1), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(array, types.uint64), codegen


def _copy(context: Any, builder: Any, arguments: Any, words: int) -> Any:
    pointer = ir.VectorType(ir.IntType(64), words).as_pointer()
    head = builder.load(builder.bitcast(arguments[1], pointer), align=8)
    builder.store(head, builder.bitcast(arguments[0], pointer), align=8)
    return context.get_dummy_value()


@_intrinsic
def copy_stamp(typingctx: Any, to: Any, source: Any) -> Any:
    """Copy the first two 8-byte words of one record to another (seq and time_ns), in one load and one store."""
    return types.void(to, source), lambda context, builder, _, arguments: _copy(context, builder, arguments, 2)


@_intrinsic
def copy_head(typingctx: Any, to: Any, source: Any) -> Any:
    """Copy the first four 8-byte words of one record to another (a COMMAND's seq, time_ns, price and quantity)."""
    return types.void(to, source), lambda context, builder, _, arguments: _copy(context, builder, arguments, 4)


@_intrinsic
def link(typingctx: Any, orders: Any, slot: Any, level: Any) -> Any:
    """The order in ``slot``, or for SLOT_NONE the ends of its level, as if they were an order: a choice of addresses.

    A level's head stands where an order's ``next`` does, and its tail where ``prev`` does: it is before its first and
    after its last order.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        table = signature.args[0]
        first = args[0] if isinstance(table, Rows) else context.make_array(table)(context, builder, args[0]).data
        order = builder.gep(first, [args[1]])
        is_end = builder.icmp_unsigned("==", args[1], ir.Constant(args[1].type, SLOT_NONE))
        return builder.select(is_end, builder.bitcast(args[2], order.type), order)

    row = orders.row if isinstance(orders, Rows) else orders.dtype
    return row(orders, types.uint64, level), codegen


@_intrinsic
def pointer_at(typingctx: Any, address: Any) -> Any:
    """An int64 address as a void pointer, for ``carray(pointer_at(address), (n,), DTYPE)`` inside plain njit code."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen


@_intrinsic
def array_at(typingctx: Any, address: Any, n: Any, dtype: Any) -> Any:
    """``n`` records of a global ``dtype`` at an int64 address, as an array; `carray` does not compile in a `kernel`."""
    array_type = types.Array(dtype.dtype, 1, "C")

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(array_type)(context, builder)
        itemsize = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(array_type.dtype)))
        data = builder.inttoptr(args[0], context.get_data_type(array_type.dtype).as_pointer())
        populate_array(array, data, [args[1]], [itemsize], itemsize, None)
        return array._getvalue()

    return array_type(types.int64, types.intp, dtype), codegen


# --- levels and ticks ---------------------------------------------------------------------------------------------


@part
def level_of(sides, s, tick):
    """Level (u8) of a tick on side record ``s``."""
    return ((np.uint64(tick) ^ np.uint64(sides[s].flip_mask)) + np.uint64(sides[s].flip_add)) & _LOW32


@part
def tick_of(sides, s, level):
    """Tick (u8) of a level on side record ``s``; its own inverse of `level_of`."""
    return ((np.uint64(level) - np.uint64(sides[s].flip_add)) ^ np.uint64(sides[s].flip_mask)) & _LOW32


@part
def prefetch_level(levels, sides, s, tick):
    """Ask the cache for the level where an order of side record ``s`` would rest; any tick will do, it never faults.

    Worth it when the levels outgrow the cache: on flash-crash (38,000 ticks) 16 %, on a narrow band −1 %.
    """
    prefetch(levels, np.uint64(sides[s].levels_offset) + level_of(sides, s, tick))


# --- bitmap -------------------------------------------------------------------------------------------------------


@either
def _occupy_above(sides, bitmap, s, word):
    side = sides[s]
    for tier in (side.tier1, side.tier2, side.tier3, side.tier4):
        at = np.uint64(tier) + (word >> _U6)
        before = bitmap[at]
        bitmap[at] = before | (_U1 << (word & _U63))
        if before != _U0:
            return
        word = word >> _U6


@either
def _vacate_above(sides, bitmap, s, word):
    side = sides[s]
    for tier in (side.tier1, side.tier2, side.tier3, side.tier4):
        at = np.uint64(tier) + (word >> _U6)
        after = bitmap[at] & ~(_U1 << (word & _U63))
        bitmap[at] = after
        if after != _U0:
            return
        word = word >> _U6


@either
def _next_above(sides, bitmap, s, word):
    """First level of the first non-zero word of tier 0 at or after ``word``, NIL if none."""
    side = sides[s]
    t0 = np.uint64(side.tier0)
    t1 = np.uint64(side.tier1)
    t2 = np.uint64(side.tier2)
    t3 = np.uint64(side.tier3)
    bits = bitmap[t1 + (word >> _U6)] >> (word & _U63)
    if bits == _U0:
        word = (word >> _U6) + _U1
        bits = bitmap[t2 + (word >> _U6)] >> (word & _U63)
        if bits == _U0:
            word = (word >> _U6) + _U1
            bits = bitmap[t3 + (word >> _U6)] >> (word & _U63)
            if bits == _U0:
                word = (word >> _U6) + _U1
                bits = bitmap[np.uint64(side.tier4) + (word >> _U6)] >> (word & _U63)
                if bits == _U0:
                    return _NIL
                word = word + count_trailing_zeros(bits)
                word = (word << _U6) + count_trailing_zeros(bitmap[t3 + word])
            else:
                word = word + count_trailing_zeros(bits)
            word = (word << _U6) + count_trailing_zeros(bitmap[t2 + word])
        else:
            word = word + count_trailing_zeros(bits)
        word = (word << _U6) + count_trailing_zeros(bitmap[t1 + word])
    else:
        word = word + count_trailing_zeros(bits)
    return (word << _U6) + count_trailing_zeros(bitmap[t0 + word])


@part
def first_level(sides, bitmap, s, level):
    """The best occupied level at or worse than ``level`` (u8), NIL if none."""
    at = np.uint64(level)
    bits = bitmap[np.uint64(sides[s].tier0) + (at >> _U6)] >> (at & _U63)
    return at + count_trailing_zeros(bits) if bits != _U0 else _next_above(sides, bitmap, s, (at >> _U6) + _U1)


@part
def next_level(sides, bitmap, s, level):
    """The next worse occupied level after ``level`` (u8), NIL if none. ``level`` may be at the end of the band."""
    return first_level(sides, bitmap, s, np.uint64(level) + _U1)


# --- slots --------------------------------------------------------------------------------------------------------


@part
def allocate(orders, pool):
    """A free slot (u8), SLOT_NONE when the pool is full: last freed first, else the lowest never used."""
    head = pool[_U0]
    slot = np.uint64(head.free)
    if slot != _U0:
        head.free = orders[slot].next
        head.live += 1
    elif head.unused <= head.capacity:
        slot = np.uint64(head.unused)
        head.unused += 1
        head.live += 1
    return slot


@part
def take_free(orders, pool):
    """A free slot (u8) as `allocate` gives it, where the caller has seen to it that there is one: without a branch.

    A slot that was never used has a zero ``next``, which is what the free list is when it comes to such a slot.
    """
    head = pool[_U0]
    unused = head.unused
    is_fresh = head.free == 0
    slot = np.uint64(unused if is_fresh else head.free)
    head.unused = unused + np.uint32(is_fresh)
    head.free = orders[slot].next
    head.live += 1
    return slot


@part
def release(orders, pool, slot):
    """Give a slot back: its id is dead from here on. The order must be out of its list (`remove`, `pop_head`)."""
    head = pool[_U0]
    order = orders[slot]
    order.leaves = 0
    order.generation += 1
    order.next = head.free
    head.free = slot
    head.live -= 1


@part
def id_of(orders, slot):
    """Order id (u8) of the order in ``slot``."""
    return (np.uint64(orders[slot].generation) << _U32) | np.uint64(slot)


@part
def find(orders, pool, order_id):
    """Slot (u8) of a live order, SLOT_NONE for an id that is dead, never given or forged."""
    given = np.uint64(order_id)
    slot = given & _LOW32
    if slot > np.uint64(pool[_U0].capacity):
        slot = _U0
    order = orders[slot]
    if order.leaves <= 0 or np.uint64(order.generation) != given >> _U32:
        slot = _U0
    return slot


# --- lists --------------------------------------------------------------------------------------------------------


@part
def append(orders, levels, sides, bitmap, s, slot, level, quantity):
    """Rest the order in ``slot`` last in its level. The caller fills account, session, instrument and flags."""
    side = sides[s]
    at = np.uint64(level)
    here = levels[np.uint64(side.levels_offset) + at]
    tail = here.tail
    order = orders[slot]
    order.leaves = quantity
    order.next = SLOT_NONE
    order.prev = tail
    order.level = at
    link(orders, np.uint64(tail), here).next = slot
    here.tail = slot
    here.quantity += quantity
    here.count += 1
    side.orders += 1
    side.best = min(np.uint64(side.best), at)
    if tail == 0:
        word = np.uint64(side.tier0) + (at >> _U6)
        before = bitmap[word]
        bitmap[word] = before | (_U1 << (at & _U63))
        if before == _U0:
            _occupy_above(sides, bitmap, s, at >> _U6)


@part
def _vacate(sides, bitmap, s, at):
    """Clear the bit of a level that became empty, and move best on if it was the best."""
    side = sides[s]
    word = np.uint64(side.tier0) + (at >> _U6)
    after = bitmap[word] & ~(_U1 << (at & _U63))
    bitmap[word] = after
    if after == _U0:
        _vacate_above(sides, bitmap, s, at >> _U6)
    if np.uint64(side.best) == at:
        side.best = next_level(sides, bitmap, s, at)


@part
def remove(orders, levels, sides, bitmap, s, slot):
    """Take a resting order out of its level, wherever it stands. Its leaves stay readable until `release`."""
    side = sides[s]
    order = orders[slot]
    at = np.uint64(order.level)
    here = levels[np.uint64(side.levels_offset) + at]
    before = order.prev
    after = order.next
    link(orders, np.uint64(before), here).next = after
    link(orders, np.uint64(after), here).prev = before
    count = np.uint32(here.count - np.uint32(1))
    here.quantity -= order.leaves
    here.count = count
    side.orders -= 1
    if count == 0:
        _vacate(sides, bitmap, s, at)


@part
def pop_head(orders, levels, sides, bitmap, s, level):
    """Take the first order out of a level: `remove` for a maker that is filled. Its leaves stay readable."""
    side = sides[s]
    at = np.uint64(level)
    here = levels[np.uint64(side.levels_offset) + at]
    order = orders[here.head]
    after = order.next
    link(orders, np.uint64(after), here).prev = SLOT_NONE
    here.head = after
    here.quantity -= order.leaves
    here.count -= 1
    side.orders -= 1
    if after == 0:
        _vacate(sides, bitmap, s, at)


@part
def reduce(orders, levels, sides, s, slot, by):
    """Lower a resting order's quantity by ``by`` < leaves, in place: its priority stays."""
    order = orders[slot]
    order.leaves -= by
    levels[np.uint64(sides[s].levels_offset) + np.uint64(order.level)].quantity -= by


@part
def head_of(levels, sides, s, level):
    """Slot (u4) of the first order in a level, SLOT_NONE when it is empty."""
    return levels[np.uint64(sides[s].levels_offset) + np.uint64(level)].head


# --- construction and inspection ----------------------------------------------------------------------------------


class Book(NamedTuple):
    """The arrays of any number of book sides and their shared pool of orders."""

    orders: np.ndarray  # ORDER, (capacity + 1,)
    pool: np.ndarray  # POOL, (1,)
    sides: np.ndarray  # BOOK_SIDE, (2 * instruments,)
    levels: np.ndarray  # LEVEL
    bitmap: np.ndarray  # u8


def new_pool(capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """Empty ``orders`` (ORDER, (capacity + 1,)) and ``pool`` (POOL, (1,))."""
    assert 0 < capacity <= ORDERS_MAX, capacity
    pool = np.zeros(1, POOL)
    pool["unused"] = 1
    pool["capacity"] = capacity
    return aligned_zeros(capacity + 1, ORDER), pool


def new_sides(n_levels: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Empty ``sides``, ``levels`` and ``bitmap`` for instruments with ``n_levels[i]`` ticks each."""
    sides = aligned_zeros(2 * len(n_levels), BOOK_SIDE)
    offset = words = 0
    for i, n in enumerate(n_levels):
        assert 0 < n <= LEVELS_MAX, n
        for s in (2 * i, 2 * i + 1):
            sides[s]["levels_offset"] = offset
            sides[s]["best"] = NIL
            sides[s]["n_levels"] = n
            sides[s]["flip_mask"], sides[s]["flip_add"] = (0, 0) if s & 1 else (NIL, n)
            offset += n
            size = n
            for k in range(TIERS):
                sides[s][f"tier{k}"] = words
                size = -(-size // 64)
                words += size + 1  # the zero word that ends a tier
    return sides, aligned_zeros(offset, LEVEL), aligned_zeros(words, np.dtype("<u8"))


def new_book(capacity: int, n_levels: list[int]) -> Book:
    """An empty book: `new_pool` and `new_sides` together."""
    orders, pool = new_pool(capacity)
    sides, levels, bitmap = new_sides(n_levels)
    return Book(orders, pool, sides, levels, bitmap)


def check(book: Book) -> None:
    """Walk every list, tier and slot and assert that all views of the book agree. O(levels + orders)."""
    orders, pool, sides, levels, bitmap = book
    head = pool[0]
    seen: dict[int, str] = {}
    for s, side in enumerate(sides):
        n = int(side["n_levels"])
        offset = int(side["levels_offset"])
        mine = levels[offset : offset + n]
        occupied = np.flatnonzero(mine["count"])
        empty = mine[mine["count"] == 0]
        assert not empty["quantity"].any(), f"side {s}: an empty level has a quantity"
        assert not (empty["head"] | empty["tail"]).any(), f"side {s}: an empty level has a list"
        assert int(side["orders"]) == int(mine["count"].sum()), f"side {s}: orders is not the sum of counts"
        best = int(occupied[0]) if len(occupied) else NIL
        assert int(side["best"]) == best, f"side {s}: best is {side['best']}, should be {best}"
        _check_tiers(bitmap, side, occupied, s)
        for level in occupied:
            _check_level(orders, mine[level], int(level), s, seen)
    free = int(head["free"])
    while free:
        assert free not in seen, f"slot {free} is free and {seen[free]}"
        seen[free] = "free"
        assert orders[free]["leaves"] == 0, f"free slot {free} has leaves"
        free = int(orders[free]["next"])
    used = int(head["unused"]) - 1
    assert used <= int(head["capacity"]), "more slots used than there are"
    assert set(seen) == set(range(1, used + 1)), "a slot is neither free nor in a book"
    resting = sum(1 for where in seen.values() if where != "free")
    assert int(head["live"]) == resting, f"live is {head['live']}, {resting} orders rest"


def _check_tiers(bitmap: np.ndarray, side: np.ndarray, occupied: np.ndarray, s: int) -> None:
    size = int(side["n_levels"])
    bits = occupied
    for k in range(TIERS):
        size = -(-size // 64)
        expected = np.zeros(size + 1, np.uint64)
        np.bitwise_or.at(expected, bits >> 6, np.uint64(1) << (bits & 63).astype(np.uint64))
        offset = int(side[f"tier{k}"])
        assert np.array_equal(bitmap[offset : offset + size + 1], expected), f"side {s}: tier {k} is wrong"
        bits = np.unique(bits >> 6)


def _check_level(orders: np.ndarray, level: np.ndarray, index: int, s: int, seen: dict[int, str]) -> None:
    place = f"in side {s} level {index}"
    slot, previous, quantity, count = int(level["head"]), SLOT_NONE, 0, 0
    while slot:
        assert slot not in seen, f"slot {slot} is {place} and {seen[slot]}"
        seen[slot] = place
        order = orders[slot]
        assert order["leaves"] > 0, f"slot {slot} {place} has no leaves"
        assert order["prev"] == previous, f"slot {slot} {place}: prev is wrong"
        assert order["level"] == index, f"slot {slot} {place} says level {order['level']}"
        assert order["flags"] & FLAG_SIDE == s & 1, f"slot {slot} {place} says the other side"
        quantity += int(order["leaves"])
        count += 1
        previous, slot = slot, int(order["next"])
    assert int(level["tail"]) == previous, f"{place}: tail is wrong"
    assert int(level["quantity"]) == quantity, f"{place}: quantity is {level['quantity']}, orders sum to {quantity}"
    assert int(level["count"]) == count, f"{place}: count is wrong"
