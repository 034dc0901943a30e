"""External order ids to table positions: direct indexing where ids are dense, open addressing where they are not."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from engine.book import part, prefetch

DENSE_IDS_MAX: Final = 1 << 27  # a direct table of u4 slots takes at most 512 MB

FAR: Final = np.uint64(16)  # messages of look-ahead to an id's slot: about one trip to the third-level cache
NEAR: Final = np.uint64(6)  # to the order itself: second-level cache
_U1: Final = np.uint64(1)
SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: 2^64 / golden ratio


class IdTable(NamedTuple):
    """Where the slot of an external id is kept."""

    slot_of: np.ndarray  # u4: slot by position
    keys: np.ndarray  # u8: id + 1 by position, 0 empty; one entry when `dense`
    first_id: np.int64  # smallest id; position = id - first_id when `dense`
    shift: np.uint64  # 64 - log2(positions) otherwise
    dense: bool


def new_id_table(ids: np.ndarray) -> IdTable:
    """A table for the ids that a stream names. Its pages are touched here, not in the timed part."""
    first, last = (int(ids.min()), int(ids.max())) if len(ids) else (0, 0)
    span = last - first + 1
    if span <= DENSE_IDS_MAX:
        return IdTable(_touched(span, np.uint32), np.zeros(1, np.uint64), np.int64(first), np.uint64(0), True)
    bits = max(2 * len(ids), 2).bit_length()  # at most half full
    return IdTable(
        _touched(1 << bits, np.uint32), _touched(1 << bits, np.uint64), np.int64(first), np.uint64(64 - bits), False
    )


def _touched(n: int, dtype: Any) -> np.ndarray:
    array = np.empty(n, dtype)
    array.fill(0)
    return array


@part
def position(ids, order_id):
    """Position (u8) of an external id (i8); a new id of a sparse table gets one here."""
    at = np.uint64(order_id - ids.first_id)
    if not ids.dense:
        key = at + _U1
        at = (key * SPREAD) >> ids.shift
        last = np.uint64(len(ids.keys)) - _U1
        while ids.keys[at] != key and ids.keys[at] != np.uint64(0):
            at = (at + _U1) & last
        ids.keys[at] = key
    return at


@part
def look_ahead(ids, orders, far_id, near_id):
    """Ask the cache for what two later messages will touch: where the slot of ``far_id`` is kept, and the order of
    ``near_id``, whose slot was asked for earlier. Only for dense ids; a wrong guess costs nothing but the question."""
    prefetch(ids.slot_of, np.uint64(far_id - ids.first_id))
    prefetch(orders, np.uint64(ids.slot_of[np.uint64(near_id - ids.first_id)]))
