"""EVENT rows: one about an order, and the reject of a command."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from engine.book import copy_head, copy_stamp, id_of
from engine.kernel.answers import C_MARKET_BREAK, C_MARKET_CLOSED, E_REJECTED
from engine.kernel.control import CONTROL
from engine.kernel.tables import EVENT_OUT, PLACE_MASK, U0, ZERO
from engine.machine_code import part, shared
from engine.market import MARKET
from engine.rows import rows_at


@part
def emit_order(t, w, c, kind, slot, price, quantity, leaves, ref, reason):
    """Writes event ``w`` about the order in ``slot``, for its account and session; ``c`` caused it. Returns w + 1."""
    o = t.orders[slot]
    e = t.events[np.uint64(w)]
    place = o.place
    copy_stamp(e, c)
    e.price = price
    e.quantity = quantity
    e.leaves = leaves
    e.order_id = id_of(t.orders, slot)
    e.account = o.account
    e.ref = ref
    e.place = place & PLACE_MASK
    side = place >> np.uint32(24) & np.uint32(1)
    e.form = np.uint32(kind) | side << np.uint32(8) | np.uint32(reason) << np.uint32(16)
    return w + 1


@part
def _opens_next(m, time_ns, code):
    """When the market opens next on this day, ns UTC, for the reject of a new order (D15); 0: open, or not today."""
    if code == C_MARKET_BREAK:
        return m.afternoon_open
    if code == C_MARKET_CLOSED and not m.day_closed and time_ns < m.morning_open:
        return m.morning_open
    return ZERO


@shared
def reject(address, w, c, code):
    """Writes REJECTED with the command's own terms. Returns w + 1."""
    k = rows_at(address, CONTROL)[U0]
    e = rows_at(k.events_at, EVENT_OUT)[np.uint64(w)]
    copy_head(e, c)
    e.leaves = _opens_next(rows_at(k.market_at, MARKET)[U0], c.time_ns, code)
    e.order_id = c.order_id
    e.account = c.account
    e.ref = c.request_no
    e.place = c.place
    e.form = np.uint32(E_REJECTED) | np.uint32(c.side) << np.uint32(8) | np.uint32(code) << np.uint32(16)
    return w + 1
