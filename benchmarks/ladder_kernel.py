"""The bare book at its barest: orders in price-time order, nothing beside them, and nearly no branches.

`benchmarks/book_kernel.py` says what a row means and runs the rows on the exchange's own book, which also keeps the
quantity and the number of orders of each level and serves many instruments. Here is the same market with only what its
trades need. A processor that guesses a branch wrong loses the time of 60 instructions, and whether the next row is a
new order, a buy or a cancel cannot be guessed. So a new order that rests and a cancel are one and the same sequence of
instructions here, with masks that pick what is written where:

- A level is a ring of orders. Its anchor is a node like theirs, so putting in and taking out have no special case:
  ``before.next = after; after.prev = before``. A cancel ties its two neighbours to each other; a new order ties itself
  between the last one and the anchor.
- NODE, 16 bytes: leaves (the top bit is the side), next, prev, order_id. Node 0 is no order, and a ring of its own, so
  a cancel of a dead order is harmless there; nodes 1 … n are the anchors of n prices; orders follow in the order of
  their entry. A node is used once: a dead order is one without leaves, and its id needs no clearing. That makes
  16 bytes for each new order and each replace of the stream.
- Both sides share the anchors, because at one price only one side can rest. Bests and limits are kept so that more
  reaches further on both sides: a buy's limit as it is, a sell's as ``~price``.
- The bitmap says at which prices orders may rest. A taker that finds a ring empty clears its bit and moves the best
  on: once for each time that the bit was set, so a book of dead levels costs nobody more than it took to fill it.

Branches are left for rows that trade, reduce or replace, and for those that mean nothing.
"""

# mypy: disable-error-code="no-untyped-def, call-arg"

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from benchmarks.book_kernel import CANCEL, HASH_PRIME, NEW, REDUCE
from benchmarks.ids import FAR, NEAR, SPREAD
from engine.book import count_trailing_zeros, kernel, part, prefetch
from engine.memory import aligned_zeros

NODE: Final = np.dtype([("leaves", "<u4"), ("next", "<u4"), ("prev", "<u4"), ("order_id", "<i4")])
PRICES_MAX: Final = 1 << 22  # 64 MB of anchors; the exchange's book takes wider bands and touches no level in vain
TIERS: Final = 4  # 64^4 = 2^24 prices

_U0: Final = np.uint64(0)
_U1: Final = np.uint64(1)
_U6: Final = np.uint64(6)
_U31: Final = np.uint64(31)
_U32: Final = np.uint64(32)
_U63: Final = np.uint64(63)
_QUANTITY: Final = np.uint64(0x7FFFFFFF)
_FAR_OFF: Final = np.int64(1) << np.int64(62)  # the best of an empty side: no limit reaches it


class Ladder(NamedTuple):
    """The tables of one book."""

    nodes: np.ndarray  # NODE, (1 + prices + orders + 1,)
    bitmap: np.ndarray  # u8: tier after tier, each followed by a zero word
    tiers: np.ndarray  # u8, (TIERS,): where each begins
    best: np.ndarray  # i8, (2,): what a limit of a buy, of a sell, must reach: lowest ask, ~highest bid, as anchors
    fresh: np.ndarray  # i8, (1,): first node that was never used


def new_ladder(prices: int, orders: int) -> Ladder:
    """An empty book of ``prices`` ticks with room for ``orders`` new orders and replaces."""
    assert 0 < prices <= PRICES_MAX, prices
    nodes = aligned_zeros(prices + orders + 2, NODE)
    nodes["next"][: prices + 1] = nodes["prev"][: prices + 1] = np.arange(prices + 1)
    nodes["leaves"][prices + 1 :] = 0  # their pages are there when the time begins
    tiers = np.zeros(TIERS, np.uint64)
    words = 0
    size = prices + 1
    for k in range(TIERS):
        tiers[k] = words
        size = -(-size // 64)
        words += size + 1
    bitmap = aligned_zeros(words, np.dtype("<u8"))
    return Ladder(nodes, bitmap, tiers, np.full(2, _FAR_OFF), np.array([prices + 1]))


@part
def pick(mask, a, b):
    """``a`` where ``mask`` (u8) is all ones, ``b`` where it is 0."""
    return b ^ ((a ^ b) & mask)


@part
def mask_of(condition):
    """All ones (u8) for true, 0 for false."""
    return _U0 - np.uint64(condition)


@kernel
def occupy(bitmap, tiers, word):
    """Tell the upper tiers that word ``word`` of the lowest is not zero."""
    for k in range(1, TIERS):
        at = tiers[k] + (word >> _U6)
        before = bitmap[at]
        bitmap[at] = before | (_U1 << (word & _U63))
        if before != _U0:
            return
        word >>= _U6


@kernel
def vacate(bitmap, tiers, price):
    """Clear the bit of a price."""
    for k in range(TIERS):
        at = tiers[k] + (price >> _U6)
        bitmap[at] &= ~(_U1 << (price & _U63))
        if bitmap[at] != _U0:
            return
        price >>= _U6


@part
def _highest(bits):
    """Index of the highest set bit of a word that is not 0."""
    n = _U0
    for shift in (np.uint64(32), np.uint64(16), np.uint64(8), np.uint64(4), np.uint64(2), _U1):
        if bits >> (n + shift) != _U0:
            n += shift
    return n


@kernel
def next_best(bitmap, tiers, side, price):
    """The nearest price, worse for ``side`` than ``price``, that has a bit, as `Ladder.best` has it."""
    at = price
    for k in range(TIERS):
        word = bitmap[tiers[k] + (at >> _U6)]
        bits = (word >> (at & _U63)) >> _U1 if side == _U1 else word & ((_U1 << (at & _U63)) - _U1)
        if bits != _U0:
            at = at + _U1 + count_trailing_zeros(bits) if side == _U1 else (at & ~_U63) + _highest(bits)
            for below in range(k - 1, -1, -1):
                word = bitmap[tiers[below] + at]
                at = (at << _U6) + (count_trailing_zeros(word) if side == _U1 else _highest(word))
            return np.int64(at) if side == _U1 else ~np.int64(at)
        at >>= _U6
    return _FAR_OFF


@kernel
def number_ids(rows, table, places):
    """Number the ids in the order in which they appear, from 1, and write the number of each row's to ``places``
    (u4, (N,)). ``table`` (u8, a power of two, zeros, at most half gets full) is a hash table: id << 32 | number.

    Numbers are dense and young ones stand together, however sparse the ids; and `run` has no probing in its loop.
    """
    shift = np.uint64(64) - count_trailing_zeros(np.uint64(len(table)))
    wrap = np.uint64(len(table)) - _U1
    last = np.uint64(len(rows)) - _U1
    known = _U0
    for i in range(np.uint64(len(rows))):
        prefetch(table, (np.uint64(np.uint32(rows[min(i + FAR, last)].order_id)) * SPREAD) >> shift)
        order_id = np.uint64(np.uint32(rows[i].order_id))
        at = (order_id * SPREAD) >> shift
        entry = table[at]
        while entry != _U0 and entry >> _U32 != order_id:
            at = (at + _U1) & wrap
            entry = table[at]
        unknown = np.uint64(entry == _U0)
        known += unknown
        entry = pick(_U0 - unknown, (order_id << _U32) | known, entry)
        table[at] = entry
        places[i] = np.uint32(entry)


@kernel
def run(rows, count, ladder, slot_of, first_id, places, base, result):
    """Apply the first ``count`` of the rows (ROW) to ``ladder``; ``base`` (i8) is the lowest price.

    ``rows`` has FAR more, which are only looked at. RESULT, (1,), is carried on from what it says. ``slot_of`` (u4)
    has the node of an id at its place: ``id - first_id``, or as ``places`` says when it is not None.
    """
    nodes, bitmap, tiers, best, first_fresh = ladder
    before_first = base - 1
    fresh = np.uint64(first_fresh[_U0])
    trades = result[0].trades
    volume = result[0].volume
    h = result[0].hash
    for i in range(np.uint64(count)):
        if places is None:
            prefetch(slot_of, np.uint64(np.int64(rows[i + FAR].order_id) - first_id))
            near = np.uint64(np.int64(rows[i + NEAR].order_id) - first_id)
            prefetch(nodes, np.uint64(slot_of[near]))
        else:
            prefetch(slot_of, np.uint64(places[i + FAR]))
            prefetch(nodes, np.uint64(slot_of[places[i + NEAR]]))
        row = rows[i]
        op = np.uint64(np.uint32(row.op))
        order_id = np.int64(row.order_id)
        quantity = np.int64(row.qty)
        price = np.uint64(np.int64(row.price) - before_first)
        side = np.uint64(np.uint32(row.side)) & _U1
        flip = _U0 - side
        at = np.uint64(order_id - first_id) if places is None else np.uint64(places[i])
        slot = np.uint64(slot_of[at])
        held = np.uint64(nodes[slot].leaves)
        leaves = held & _QUANTITY
        enters = mask_of(op == np.uint64(NEW))
        reaches = np.int64(price ^ flip) >= best[side]
        if (op > np.uint64(CANCEL)) | ((op == np.uint64(NEW)) & ((leaves != _U0) | (quantity <= 0) | reaches)):
            if op == np.uint64(NEW):
                if leaves != _U0 or quantity <= 0:
                    continue
            elif op == np.uint64(REDUCE) and quantity < np.int64(leaves):
                if quantity > 0:
                    nodes[slot].leaves = held - np.uint64(quantity)
                continue
            else:  # a replace, or a reduce by all there is
                if leaves == _U0:
                    continue
                node = nodes[slot]
                node.leaves = 0
                before = node.prev
                after = node.next
                nodes[before].next = after
                nodes[after].prev = before
                if op == np.uint64(REDUCE) or quantity <= 0:
                    continue
                side = held >> _U31
                flip = _U0 - side
                enters = ~_U0
            while quantity > 0 and np.int64(price ^ flip) >= best[side]:
                level = np.uint64(best[side]) ^ flip
                slot = np.uint64(nodes[level].next)
                if slot == level:
                    vacate(bitmap, tiers, level)
                    best[side] = next_best(bitmap, tiers, side ^ _U1, level)
                    continue
                maker = nodes[slot]
                rests = np.int64(np.uint64(maker.leaves) & _QUANTITY)
                traded = min(quantity, rests)
                h = (h ^ np.uint64(np.int64(maker.order_id))) * HASH_PRIME
                h = (h ^ np.uint64(order_id)) * HASH_PRIME
                h = (h ^ np.uint64(before_first + np.int64(level))) * HASH_PRIME
                h = (h ^ np.uint64(traded)) * HASH_PRIME
                trades += 1
                volume += traded
                quantity -= traded
                if traded == rests:
                    maker.leaves = 0
                    after = np.uint64(maker.next)
                    nodes[level].next = after
                    nodes[after].prev = level
                    prefetch(nodes, np.uint64(nodes[after].next))
                else:
                    maker.leaves -= np.uint32(traded)
            if quantity == 0:
                continue
            slot = _U0
        # A new order that rests, or a cancel (of a dead order: node 0, a ring of its own).
        nodes[slot].leaves = 0
        here = pick(enters, price, slot & mask_of(leaves != _U0))
        before = np.uint64(nodes[here].prev)
        after = np.uint64(nodes[here].next)
        entered = nodes[fresh]
        entered.leaves = np.uint32(np.uint64(quantity) | (side << _U31))
        entered.next = here
        entered.prev = before
        entered.order_id = np.int32(order_id)
        nodes[before].next = pick(enters, fresh, after)
        nodes[pick(enters, here, after)].prev = pick(enters, fresh, before)
        slot_of[at] = fresh & enters
        fresh -= enters
        bit = price & enters
        word = bitmap[bit >> _U6]
        bitmap[bit >> _U6] = word | ((enters & _U1) << (bit & _U63))
        if (word | ~enters) == _U0:
            occupy(bitmap, tiers, bit >> _U6)
        theirs = side ^ _U1
        mine = best[theirs]
        best[theirs] = min(mine, np.int64(pick(enters, price ^ ~flip, np.uint64(mine))))
    first_fresh[_U0] = np.int64(fresh)
    result[0].trades = trades
    result[0].volume = volume
    result[0].hash = h


def check(ladder: Ladder, slot_of: np.ndarray, prices: int) -> None:
    """Walk every ring and assert that all views agree; an empty ring is its anchor alone. O(prices + orders)."""
    nodes, bitmap, tiers, best, fresh = ladder
    seen = np.zeros(len(nodes), bool)
    anchors = prices + 1
    highest_bid, lowest_ask = 0, anchors
    assert (nodes["next"][0], nodes["prev"][0], nodes["leaves"][0]) == (0, 0, 0), "node 0 is in a list"
    places = np.arange(anchors)
    for anchor in np.flatnonzero((nodes["next"][:anchors] != places) | (nodes["prev"][:anchors] != places)).tolist():
        node, before = int(nodes["next"][anchor]), anchor
        while node != anchor:
            assert anchors <= node < int(fresh[0]), f"price {anchor}: node {node} is in its ring and no order"
            assert not seen[node], f"price {anchor}: node {node} is in a ring twice"
            seen[node] = True
            assert nodes["prev"][node] == before, f"price {anchor}: prev of node {node} is wrong"
            held = int(nodes["leaves"][node])
            assert held & int(_QUANTITY), f"price {anchor}: node {node} is dead"
            if held >> 31:
                lowest_ask = min(lowest_ask, anchor)
            else:
                highest_bid = anchor
            node, before = int(nodes["next"][node]), node
        assert nodes["prev"][anchor] == before, f"price {anchor}: the anchor's prev is wrong"
        if before != anchor:
            at = anchor
            for k in range(TIERS):
                assert int(bitmap[int(tiers[k]) + (at >> 6)]) >> (at & 63) & 1, f"price {anchor}: no bit in tier {k}"
                at >>= 6
    assert highest_bid < lowest_ask, f"the book is crossed: {highest_bid} and {lowest_ask}"
    assert lowest_ask == anchors or int(best[0]) <= lowest_ask, "an ask is better than the best"
    assert highest_bid == 0 or ~int(best[1]) >= highest_bid, "a bid is better than the best"
    named = np.unique(slot_of[slot_of > 0])
    living = named[(nodes["leaves"][named] & int(_QUANTITY)) > 0]
    assert np.array_equal(np.flatnonzero(seen), living), "the rings do not hold exactly the living orders"
