"""The batch: one command after the other, each to those who carry it out; while one works, memory fetches the next."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Final

import numpy as np
from numba import int64

from engine.book import copy_stamp, find, prefetch, rarely
from engine.kernel.answers import C_DUPLICATE_REQUEST, C_MARKET_CLOSED, C_ORDER_NOT_OPEN, R_BY_OWNER
from engine.kernel.cancel import cancel, cancel_inlined
from engine.kernel.checks import check_account_exists
from engine.kernel.control import AT_MESSAGE, CONTROL, DEALS_FULL, DONE, OUTPUT_FULL, ROOM, STAGE_MATCH, STAGE_NONE
from engine.kernel.events import reject
from engine.kernel.listing import take
from engine.kernel.mass_cancel import begin_mass_cancel, mass_cancel
from engine.kernel.matching import match_order
from engine.kernel.orders import enter
from engine.kernel.replace import reduce_order, replace
from engine.kernel.tables import COMMAND_IN, LOW32, U0, ZERO, tables_at
from engine.machine_code import entry, part, shared
from engine.market import UNLIMITED
from engine.records import CANCEL, MASS_CANCEL, MESSAGE, NEW, RECORD_BYTES, REDUCE, REPLACE, TAKE
from engine.rows import rows_at

COMMANDS_AHEAD: Final = 64 * RECORD_BYTES  # the commands themselves come from memory too
REACH: Final = 12 * RECORD_BYTES  # of the look ahead: some 0.7 µs; an access beyond the cache takes a quarter of it
LEVELS_IN_CACHE: Final = 1 << 20  # all sides together; more are a wide ladder, in whose every corner orders stand


@shared
def _change(address, w, c):
    """All commands but a new order and the cancel of an order of one's own. Returns w.

    The order that a command names is its account's own, unless it is a TAKE.
    """
    if c.kind == MASS_CANCEL or c.kind < CANCEL or c.kind > TAKE:
        return begin_mass_cancel(address, w, c)
    t = tables_at(address)
    slot = find(t.orders, t.pool, c.order_id)
    if slot == U0 or t.orders[slot].account != c.account:
        code = check_account_exists(t, t.market[U0], c.account)
        if code != 0:
            return reject(address, w, c, code)
        if slot == U0 or c.kind != TAKE:
            return reject(address, w, c, C_ORDER_NOT_OPEN)
    if c.kind == TAKE:
        return take(address, w, c, slot)
    if c.kind == REPLACE:
        return replace(address, w, c, slot)
    if c.time_ns >= t.control[U0].cancel_until:
        return reject(address, w, c, C_MARKET_CLOSED)
    if c.kind == REDUCE:
        return reduce_order(address, w, c, slot)
    return cancel(address, w, c, slot, c.request_no, R_BY_OWNER)


@part
def _is_own_order(t, k, c):
    """Does a command name its account's own open order, in hours for cancels? If not, `_change` says why."""
    given = np.uint64(c.order_id)
    slot = given & LOW32
    if slot > np.uint64(k.last_slot):
        return False
    order = t.orders[slot]  # slot 0 has no leaves, ever
    if order.leaves <= 0 or np.uint64(order.generation) != given >> np.uint64(32) or order.account != c.account:
        return False
    return c.time_ns < k.cancel_until


@part
def _is_repeated(t, k, c):
    """Has the session sent this request before? If not, it is noted."""
    session = np.uint64(c.session)
    if session != U0 and c.request_no != 0 and session < np.uint64(k.n_sessions):
        record = t.sessions[session]
        if c.request_no <= record.last_request:
            return True
        record.last_request = c.request_no
    return False


@part
def _look_ahead(t, k, here, reach):
    """Asks the cache for what later commands will touch: first the order and the account, then what hangs on them.

    Without a branch, as a mispredicted one costs as much as the cache miss that it would save: a new order's
    ``order_id`` leads to slot 0 (or, where it is an expiry time, to some slot), which is harmless. ``here`` is the
    address of this command, ``reach`` how far from it the second look goes, in bytes; the first goes twice as far.
    """
    prefetch(rows_at(here + COMMANDS_AHEAD, COMMAND_IN), U0)  # a prefetch beyond the end does nothing
    c = rows_at(here + 2 * reach, COMMAND_IN)[U0]
    prefetch(t.accounts, np.uint64(c.account))
    prefetch(t.orders, np.uint64(c.order_id) & LOW32)
    c = rows_at(here + reach, COMMAND_IN)[U0]
    order = t.orders[min(np.uint64(c.order_id) & LOW32, np.uint64(k.last_slot))]
    prefetch(t.orders, np.uint64(order.next))
    prefetch(t.orders, np.uint64(order.prev))
    is_new = c.kind == NEW
    named, resting = np.uint64(c.instrument), np.uint64(order.instrument)
    instrument = named if is_new else resting
    prefetch(t.holdings, np.uint64(c.account) * np.uint64(k.n_instruments) + instrument)
    if rarely(k.n_levels > LEVELS_IN_CACHE):
        named, resting = np.uint64(c.side), np.uint64(order.flags & 1)
        s = np.uint64(2) * instrument + (named if is_new else resting)
        side = t.sides[min(s, np.uint64(k.last_side))]
        enters = np.uint64((np.uint32(c.price) ^ side.flip_mask) + side.ahead_add)
        rests = np.uint64(side.levels_offset) + np.uint64(order.level)
        prefetch(t.levels, enters if is_new else rests)


@part
def _go_on(address, w, c):
    """Goes on with what is in flight. Returns (w, status): DONE, and nothing is in flight any more, or what is full."""
    k = rows_at(address, CONTROL)[U0]
    if k.stage == STAGE_MATCH:
        w, status = match_order(address, w, c)
    else:
        w, finished = mass_cancel(address, w, c)
        status = np.int64(DONE if finished else OUTPUT_FULL)
    if status == DONE:
        k.stage = STAGE_NONE
    return w, status


@part
def _set_bounds(m, k, time_ns):
    """From when until when commands meet an open market, as it stands at ``time_ns``: no phase to look up for each.

    The hours of the morning or the afternoon in which `check_market` finds nothing but a halted vintage; outside of
    them it is asked. Only slow-lane commands change halts and days, and they end a batch.
    """
    end = np.int64(-UNLIMITED) if m.day_closed else m.close
    before_break = time_ns < m.morning_end
    begin = max(m.morning_open, np.int64(0) if before_break else max(m.morning_end, m.afternoon_open))
    until = min(m.morning_end, end) if before_break else end
    if m.around_the_clock:
        end = np.int64(UNLIMITED)
        begin = np.int64(-UNLIMITED)
        until = end
    k.last_slot = k.n_orders - 1
    k.last_side = 2 * k.n_instruments - 1
    k.cancel_until = end
    k.open_from = begin
    k.open_until = np.int64(-UNLIMITED) if m.halted | m.cancel_only else until


@entry(int64(int64, int64, int64))
def run(address, commands_address, n):
    """Applies ``n`` COMMAND records. Returns CONTROL.status; consumed and written stand in CONTROL."""
    t = tables_at(address)
    commands = rows_at(commands_address, COMMAND_IN)
    k = t.control[U0]
    m = t.market[U0]
    w = np.int64(0)
    status = np.int64(DONE)
    here = commands_address
    end = commands_address + n * RECORD_BYTES
    last = end - RECORD_BYTES
    last_written = k.event_capacity - ROOM
    reach = np.int64(REACH)
    near = last - 2 * REACH
    _set_bounds(m, k, commands[U0].time_ns if n > 0 else ZERO)
    if k.stage != STAGE_NONE and n > 0:
        w, status = _go_on(address, w, commands[U0])
        here += RECORD_BYTES if status == DONE else 0
    while here < end and status == DONE:
        c = rows_at(here, COMMAND_IN)[U0]
        if rarely(w > last_written):
            status = np.int64(OUTPUT_FULL)
            break
        if rarely(c.kind >= TAKE):
            if c.kind == MESSAGE:
                status = np.int64(AT_MESSAGE)
                break
            if m.accounts_on and np.int64(m.deals) >= k.n_deals:
                status = np.int64(DEALS_FULL)
                break
        if rarely(here > near):  # the end: to the middle of what is left, and to the last
            reach = (last - here) // (2 * RECORD_BYTES) * RECORD_BYTES
        _look_ahead(t, k, here, reach)
        stage = np.int64(STAGE_NONE)
        if rarely(_is_repeated(t, k, c)):
            w = reject(address, w, c, C_DUPLICATE_REQUEST)
        elif c.kind == NEW:
            w, stage = enter(address, t, m, k, w, c)
        elif c.kind == CANCEL and _is_own_order(t, k, c):
            w = cancel_inlined(t, m, w, c, np.uint64(c.order_id) & LOW32, c.request_no, R_BY_OWNER)
        else:
            w = _change(address, w, c)
            stage = k.stage
        if rarely(stage != STAGE_NONE):
            w, status = _go_on(address, w, c)
            if status != DONE:
                break
        here += RECORD_BYTES
    begun = here if k.stage != STAGE_NONE else here - RECORD_BYTES
    if begun >= commands_address:
        copy_stamp(m, rows_at(begun, COMMAND_IN)[U0])
    k.consumed = (here - commands_address) // RECORD_BYTES
    k.written = w
    k.status = status
    return status
