"""MASS_CANCEL, and all that ends orders at once for the slow lane: the close of the day, a disconnect, an operator."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import int64

from engine.book import copy_stamp
from engine.kernel.answers import (
    C_BAD_SIDE,
    C_MARKET_CLOSED,
    C_UNKNOWN_INSTRUMENT,
    C_UNKNOWN_KIND,
    E_MASS_CANCELLED,
    R_MASS_CANCEL,
)
from engine.kernel.cancel import cancel
from engine.kernel.checks import check_account_exists
from engine.kernel.control import DONE, OUTPUT_FULL, ROOM, STAGE_SWEEP
from engine.kernel.events import reject
from engine.kernel.tables import COMMAND_IN, EVENT_OUT, U0, ZERO, tables_at
from engine.machine_code import entry, shared
from engine.records import ANY_INSTRUMENT, ANY_SIDE, MASS_CANCEL
from engine.rows import rows_at


@shared
def sweep_orders(address, w, c, account, session, instrument, side, reason, ref):
    """Cancels open orders in rising slot order; -1 or the ANY values match all. Returns (w, False when output is full).

    Goes on from CONTROL.cursor and adds to CONTROL.count, so that it can be called again.
    """
    t = tables_at(address)
    k = t.control[np.uint64(0)]
    end = np.int64(t.pool[np.uint64(0)].unused)
    slot = k.cursor
    while slot < end:
        order = t.orders[np.uint64(slot)]
        if (
            order.leaves > 0
            and (account < 0 or np.int64(order.account) == account)
            and (session <= 0 or np.int64(order.session) == session)
            and (instrument == ANY_INSTRUMENT or np.int64(order.instrument) == instrument)
            and (side == ANY_SIDE or np.int64(order.flags & 1) == side)
        ):
            if w + ROOM > k.event_capacity:
                break
            w = cancel(address, w, c, np.uint64(slot), ref, reason)
            k.count += 1
        slot += 1
    k.cursor = slot
    return w, slot >= end


@shared
def mass_cancel(address, w, c):
    """MASS_CANCEL: one step of it, as far as the output reaches. Returns (w, finished)."""
    t = tables_at(address)
    k = t.control[np.uint64(0)]
    account, instrument, side = np.int64(c.account), np.int64(c.instrument), np.int64(c.side)
    w, finished = sweep_orders(address, w, c, account, np.int64(-1), instrument, side, R_MASS_CANCEL, c.request_no)
    if not finished or w + ROOM > k.event_capacity:
        return w, False
    e = rows_at(k.events_at, EVENT_OUT)[np.uint64(w)]
    copy_stamp(e, c)
    e.price = 0
    e.quantity = k.count
    e.leaves = 0
    e.order_id = 0
    e.account = c.account
    e.ref = c.request_no
    e.place = c.place
    e.form = np.uint32(E_MASS_CANCELLED) | np.uint32(c.side) << np.uint32(8)
    return w + 1, True


@shared
def begin_mass_cancel(address, w, c):
    """MASS_CANCEL up to its sweep (CONTROL.stage says so), and what is no command at all. Returns w."""
    t = tables_at(address)
    m = t.market[U0]
    k = t.control[U0]
    code = C_UNKNOWN_KIND
    if c.kind == MASS_CANCEL:
        code = ZERO
        one = np.uint64(c.instrument)
        known = one < np.uint64(m.n_instruments) and t.instruments[one].listed != 0
        if c.instrument != ANY_INSTRUMENT and not known:
            code = C_UNKNOWN_INSTRUMENT
        if code == 0:
            code = check_account_exists(t, m, c.account)
        if code == 0 and c.time_ns >= k.cancel_until:
            code = C_MARKET_CLOSED
        if code == 0 and c.side > ANY_SIDE:
            code = C_BAD_SIDE
    if code != 0:
        return reject(address, w, c, code)
    k.stage = STAGE_SWEEP
    k.cursor = 1
    k.count = 0
    return w


@entry(int64(int64, int64, int64, int64, int64, int64))
def sweep(address, command_address, account, session, instrument, reason):
    """Cancels open orders for a slow-lane command (close of the day, disconnect, operator); see `sweep_orders`.

    ``command_address`` is the COMMAND whose seq and time the events bear. Returns CONTROL.status; call again while
    it is OUTPUT_FULL. CONTROL.cursor must be 1 and count 0 at the first call.
    """
    k = tables_at(address).control[np.uint64(0)]
    c = rows_at(command_address, COMMAND_IN)[np.uint64(0)]
    w, finished = sweep_orders(
        address, np.int64(0), c, account, session, instrument, np.int64(ANY_SIDE), reason, np.uint32(0)
    )
    k.written = w
    k.status = DONE if finished else OUTPUT_FULL
    return k.status
