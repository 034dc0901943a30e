"""Cancel: a resting order leaves its book; its lock and its slot are free again."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from engine.book import remove
from engine.kernel.answers import E_CANCELLED
from engine.kernel.events import emit_order
from engine.kernel.locks import free, release_all
from engine.kernel.tables import U0, ZERO, price_of, tables_at
from engine.machine_code import part, shared


@part
def cancel_inlined(t, m, w, c, slot, ref, reason):
    """Takes a resting order out of the book, gives back its lock and its slot. Writes CANCELLED; returns w + 1."""
    order = t.orders[slot]
    side = order.flags & 1
    instrument = np.uint64(order.instrument)
    s = np.uint64(2) * instrument + np.uint64(side)
    price = price_of(t, s, np.uint64(order.level))
    leaves = order.leaves
    if m.accounts_on:
        release_all(t, m, slot, instrument, side, price, leaves)
    w = emit_order(t, w, c, E_CANCELLED, slot, price, leaves, ZERO, ref, reason)
    remove(t.orders, t.levels, t.sides, t.bitmap, s, slot)
    free(t, slot)
    return w


@shared
def cancel(address, w, c, slot, ref, reason):
    """`cancel_inlined` for all but the plain cancel, which has a copy of its own: it is every third command."""
    t = tables_at(address)
    return cancel_inlined(t, t.market[U0], w, c, slot, ref, reason)
