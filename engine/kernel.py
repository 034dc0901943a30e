"""The exchange kernel: a batch of COMMAND records in, EVENT records out, in machine code.

`run` carries out docs/matching.md to the letter: checks in their order, locks, price-time matching (R8.1), best five
(R8.2), self-trade prevention (R8.5), T+1 (R5.5), fees on the running total (D16), day statistics and the composite
(R6, R7). It is deterministic: nothing but the tables and the commands goes in, and it never allocates.

All state is passed by address in one CONTROL record, because a call with a dozen arrays costs 1.5 µs and one with two
integers 0.25. `run` stops early when the events' buffer is full, when the table of deals is full, or before a command
of kind MESSAGE; CONTROL.status says why, and calling it again with the rest of the commands goes on exactly there, in
the middle of a sweep if need be (the order in flight is kept in CONTROL).

Structure: `run` decodes, checks and matches; what is rare (fill-or-kill look-ahead, take, mass cancel, replace's
checks) stands in functions of its own, so that the hot path stays small. The primitives of the book are engine.book's.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import carray, int64, njit

from engine.book import (
    BOOK_SIDE,
    LEVEL,
    NIL,
    ORDER,
    ORDER_COLD,
    POOL,
    allocate,
    append,
    find,
    head_of,
    id_of,
    level_of,
    next_level,
    pointer_at,
    pop_head,
    prefetch,
    reduce,
    release,
    remove,
    tick_of,
)
from engine.codes import Code, Reason
from engine.market import (
    ACCOUNT,
    ACCOUNT_CANCEL_ONLY,
    BEST_LEVEL,
    BREAK,
    CANCEL_INCOMING,
    CANCEL_RESTING,
    CLOSED,
    DEAL,
    DEAL_BUYER_TAKES,
    HOLDING,
    INSTRUMENT,
    LISTED,
    LISTING,
    MARKET,
    MORNING,
    NOT_OPENED,
    PRE_OPEN,
    SESSION,
    SUSPENDED,
)
from engine.market import AFTERNOON as PHASE_AFTERNOON
from engine.records import (
    ACCEPTED,
    ANY_INSTRUMENT,
    ANY_SIDE,
    BEST_FIVE,
    CANCEL,
    CANCELLED,
    COMMAND,
    EVENT,
    EXPIRES,
    FILL_MAKER,
    FILL_TAKER,
    FOK,
    LIMIT,
    MASS_CANCEL,
    MASS_CANCELLED,
    MESSAGE,
    NEW,
    POST_ONLY,
    REDUCE,
    REDUCED,
    REJECTED,
    REPLACE,
    REPLACED,
    TAKE,
)
from engine.rules import AMOUNT_MAX_FEN

# CONTROL.status
DONE: Final = 0
OUTPUT_FULL: Final = 1
AT_MESSAGE: Final = 2
DEALS_FULL: Final = 3

# CONTROL.stage: where the command in flight stands
STAGE_NONE: Final = 0
STAGE_MATCH: Final = 1
STAGE_SWEEP: Final = 2

ROOM: Final = 6  # events that one step (a command's head, one deal, its end) can write at most
LOOK_AHEAD: Final = 12  # commands; 8 … 16 measured the same (design 4)
FLAG_POST_ONLY: Final = 2  # ORDER.flags bit 1; bit 0 is the side

# codes and reasons as module ints: an IntEnum member is not a constant to numba
C_DUPLICATE_REQUEST = int(Code.DUPLICATE_REQUEST)
C_UNKNOWN_KIND = int(Code.UNKNOWN_KIND)
C_UNKNOWN_INSTRUMENT = int(Code.UNKNOWN_INSTRUMENT)
C_UNKNOWN_ACCOUNT = int(Code.UNKNOWN_ACCOUNT)
C_STALE = int(Code.STALE)
C_MARKET_CLOSED = int(Code.MARKET_CLOSED)
C_MARKET_BREAK = int(Code.MARKET_BREAK)
C_MARKET_HALTED = int(Code.MARKET_HALTED)
C_INSTRUMENT_HALTED = int(Code.INSTRUMENT_HALTED)
C_CANCEL_ONLY = int(Code.CANCEL_ONLY)
C_ACCOUNT_SUSPENDED = int(Code.ACCOUNT_SUSPENDED)
C_ACCOUNT_CANCEL_ONLY = int(Code.ACCOUNT_CANCEL_ONLY)
C_BAD_SIDE = int(Code.BAD_SIDE)
C_BAD_ORDER_TYPE = int(Code.BAD_ORDER_TYPE)
C_WRONG_POLICY = int(Code.WRONG_POLICY)
C_ORDER_NOT_OPEN = int(Code.ORDER_NOT_OPEN)
C_OUT_OF_REACH = int(Code.OUT_OF_REACH)
C_BAD_TICK = int(Code.BAD_TICK)
C_PRICE_ABOVE_LIMIT = int(Code.PRICE_ABOVE_LIMIT)
C_PRICE_BELOW_LIMIT = int(Code.PRICE_BELOW_LIMIT)
C_QUANTITY_TOO_SMALL = int(Code.QUANTITY_TOO_SMALL)
C_QUANTITY_TOO_LARGE = int(Code.QUANTITY_TOO_LARGE)
C_BAD_LOT = int(Code.BAD_LOT)
C_AMOUNT_TOO_LARGE = int(Code.AMOUNT_TOO_LARGE)
C_POST_ONLY_WOULD_TRADE = int(Code.POST_ONLY_WOULD_TRADE)
C_SELF_TRADE = int(Code.SELF_TRADE)
C_NOT_FILLABLE = int(Code.NOT_FILLABLE)
C_OPEN_ORDERS_LIMIT = int(Code.OPEN_ORDERS_LIMIT)
C_ORDER_POOL_FULL = int(Code.ORDER_POOL_FULL)
C_INSUFFICIENT_CASH = int(Code.INSUFFICIENT_CASH)
C_BOUGHT_TODAY = int(Code.BOUGHT_TODAY)
C_INSUFFICIENT_ALLOWANCES = int(Code.INSUFFICIENT_ALLOWANCES)
C_POSITION_LIMIT = int(Code.POSITION_LIMIT)
C_SELL_CAP = int(Code.SELL_CAP)
R_BY_OWNER = int(Reason.BY_OWNER)
R_IOC_REST = int(Reason.IOC_REST)
R_BEYOND_BEST_FIVE = int(Reason.BEYOND_BEST_FIVE)
R_SELF_TRADE = int(Reason.SELF_TRADE)
R_REDUCED_TO_ZERO = int(Reason.REDUCED_TO_ZERO)
R_REPLACED_TO_FILLED = int(Reason.REPLACED_TO_FILLED)
R_MASS_CANCEL = int(Reason.MASS_CANCEL)
R_TAKEN_OUT = int(Reason.TAKEN_OUT)

_NIL: Final = np.uint64(NIL)
_LOW32: Final = np.uint64(0xFFFFFFFF)
SMALL_PRICE: Final = 1 << 31
SMALL_QUANTITY: Final = 1 << 30  # a price and a quantity below these can't exceed AMOUNT_MAX_FEN

CONTROL: Final = np.dtype(
    [(f"{name}_at", "<i8") for name in ("market", "accounts", "holdings", "instruments", "sessions", "deals")]
    + [(f"{name}_at", "<i8") for name in ("orders", "cold", "pool", "sides", "levels", "bitmap", "events")]
    + [
        ("n_accounts", "<i8"),
        ("n_instruments", "<i8"),  # row length of holdings: the capacity
        ("n_sessions", "<i8"),
        ("n_orders", "<i8"),
        ("n_levels", "<i8"),
        ("n_words", "<i8"),
        ("n_deals", "<i8"),
        ("event_capacity", "<i8"),
        ("consumed", "<i8"),  # commands finished by the last call
        ("written", "<i8"),  # events written by the last call
        ("status", "<i8"),
        ("stage", "<i8"),  # of the command in flight
        ("slot", "<i8"),
        ("leaves", "<i8"),
        ("visited", "<i8"),
        ("level", "<i8"),
        ("price", "<i8"),
        ("order_type", "<i8"),
        ("cursor", "<i8"),  # mass cancel: next slot
        ("count", "<i8"),  # mass cancel: cancelled so far
    ]
)
"""Addresses and sizes of all tables, what the last call did, and the command in flight."""


class Tables(NamedTuple):
    """All tables as typed arrays, inside machine code only."""

    control: np.ndarray
    market: np.ndarray
    accounts: np.ndarray
    holdings: np.ndarray
    instruments: np.ndarray
    sessions: np.ndarray
    deals: np.ndarray
    orders: np.ndarray
    cold: np.ndarray
    pool: np.ndarray
    sides: np.ndarray
    levels: np.ndarray
    bitmap: np.ndarray
    events: np.ndarray


@njit(cache=True, inline="always")
def _tables(control_address):
    control = carray(pointer_at(control_address), (1,), CONTROL)
    k = control[np.uint64(0)]
    one = np.int64(1)
    return Tables(
        control,
        carray(pointer_at(k.market_at), (one,), MARKET),
        carray(pointer_at(k.accounts_at), (k.n_accounts,), ACCOUNT),
        carray(pointer_at(k.holdings_at), (k.n_accounts * k.n_instruments,), HOLDING),
        carray(pointer_at(k.instruments_at), (k.n_instruments,), INSTRUMENT),
        carray(pointer_at(k.sessions_at), (k.n_sessions,), SESSION),
        carray(pointer_at(k.deals_at), (k.n_deals,), DEAL),
        carray(pointer_at(k.orders_at), (k.n_orders,), ORDER),
        carray(pointer_at(k.cold_at), (k.n_orders,), ORDER_COLD),
        carray(pointer_at(k.pool_at), (one,), POOL),
        carray(pointer_at(k.sides_at), (k.n_instruments * 2,), BOOK_SIDE),
        carray(pointer_at(k.levels_at), (k.n_levels,), LEVEL),
        carray(pointer_at(k.bitmap_at), (k.n_words,), np.uint64),
        carray(pointer_at(k.events_at), (k.event_capacity,), EVENT),
    )


@njit(cache=True, forceinline=True)
def _emit(t, w, c, kind, order_id, account, session, instrument, side, price, quantity, leaves, ref, reason):
    """Writes event ``w``; ``c`` is the command that caused it. Returns w + 1."""
    e = t.events[np.uint64(w)]
    e.seq = c.seq
    e.time_ns = c.time_ns
    e.price = price
    e.quantity = quantity
    e.leaves = leaves
    e.order_id = order_id
    e.account = account
    e.ref = ref
    e.session = session
    e.instrument = instrument
    e.kind = kind
    e.side = side
    e.reason = reason
    return w + 1


@njit(cache=True, forceinline=True)
def _reject(t, w, c, code):
    return _emit(
        t,
        w,
        c,
        REJECTED,
        c.order_id,
        c.account,
        c.session,
        c.instrument,
        c.side,
        c.price,
        c.quantity,
        0,
        c.request_no,
        code,
    )


# --- money ----------------------------------------------------------------------------------------------------------


@njit(cache=True, forceinline=True)
def _share(amount, ppm):
    """amount × ppm / 10^6, half up, without overflow (D16)."""
    return amount // 1_000_000 * ppm + (2 * (amount % 1_000_000) * ppm + 1_000_000) // 2_000_000


@njit(cache=True, forceinline=True)
def _fees(m, amount):
    return _share(amount, m.trading_ppm) + _share(amount, m.settlement_ppm)


@njit(cache=True, forceinline=True)
def _lock_of(m, price, leaves, filled_amount):
    """Cash that an open buy holds: its rest at its limit, and the fee room on its running total (R5.2, R5.7)."""
    cash = price * leaves
    if m.trading_ppm + m.settlement_ppm != 0:
        cash += _fees(m, filled_amount + cash) - _fees(m, filled_amount)
    return cash


@njit(cache=True, forceinline=True)
def _price_of(t, s, level):
    """Price of a level of side record ``s``."""
    i = t.instruments[np.uint64(s) >> np.uint64(1)]
    return i.band_base + np.int64(tick_of(t.sides, s, level)) * i.tick


@njit(cache=True, forceinline=True)
def _holding(t, account, instrument):
    return t.holdings[np.uint64(account) * np.uint64(t.control[np.uint64(0)].n_instruments) + np.uint64(instrument)]


@njit(cache=True, forceinline=True)
def _release_lock(t, m, slot, account, instrument, side, price, quantity):
    """Gives back the lock of ``quantity`` tonnes that leave the order in ``slot``; its leaves are still the old ones."""
    order = t.orders[slot]
    h = _holding(t, account, instrument)
    if side == 0:
        a = t.accounts[np.uint64(account)]
        filled_amount = t.cold[slot].filled_amount
        cash = _lock_of(m, price, order.leaves, filled_amount) - _lock_of(
            m, price, order.leaves - quantity, filled_amount
        )
        a.locked -= cash
        a.available += cash
        h.buy_open -= quantity
    else:
        h.locked -= quantity
        h.sellable += quantity


@njit(cache=True, forceinline=True)
def _cancel(t, w, c, m, slot, ref, reason):
    """Takes a resting order out of the book, gives back its lock and its slot. Writes CANCELLED."""
    order = t.orders[slot]
    side = order.flags & 1
    instrument = order.instrument
    s = np.uint64(2) * np.uint64(instrument) + np.uint64(side)
    price = _price_of(t, s, order.level)
    if m.accounts_on:
        _release_lock(t, m, slot, order.account, instrument, side, price, order.leaves)
        t.accounts[np.uint64(order.account)].open_orders -= 1
    w = _emit(
        t,
        w,
        c,
        CANCELLED,
        id_of(t.orders, slot),
        order.account,
        order.session,
        instrument,
        side,
        price,
        order.leaves,
        0,
        ref,
        reason,
    )
    remove(t.orders, t.levels, t.sides, t.bitmap, s, slot)
    release(t.orders, t.pool, slot)
    return w


# --- deals ----------------------------------------------------------------------------------------------------------


@njit(cache=True, forceinline=True)
def _pay(t, m, slot, account, instrument, limit, leaves, price, quantity):
    """The buyer's side of a deal: pays out of its lock, gets allowances. Returns the fee."""
    a = t.accounts[np.uint64(account)]
    h = _holding(t, account, instrument)
    cold = t.cold[slot]
    amount = price * quantity
    fee = np.int64(0)
    if m.trading_ppm + m.settlement_ppm != 0:
        before = cold.filled_amount
        trading = _share(before + amount, m.trading_ppm) - _share(before, m.trading_ppm)
        settlement = _share(before + amount, m.settlement_ppm) - _share(before, m.settlement_ppm)
        fee = trading + settlement
        m.trading_fees += trading
        m.settlement_fees += settlement
        a.fees_today += fee
        freed = _lock_of(m, limit, leaves, before) - _lock_of(m, limit, leaves - quantity, before + amount)
    else:
        freed = limit * quantity
    a.locked -= freed
    a.available += freed - amount - fee
    h.buy_open -= quantity
    if m.t_plus_one:
        h.bought_today += quantity
    else:
        h.sellable += quantity
    cold.filled += quantity
    cold.filled_amount += amount
    return fee


@njit(cache=True, forceinline=True)
def _deliver(t, m, slot, account, instrument, price, quantity):
    """The seller's side of a deal: allowances go, proceeds come (T+0 for use, not for withdrawal). Returns the fee."""
    a = t.accounts[np.uint64(account)]
    h = _holding(t, account, instrument)
    cold = t.cold[slot]
    amount = price * quantity
    fee = np.int64(0)
    if m.trading_ppm + m.settlement_ppm != 0:
        before = cold.filled_amount
        trading = _share(before + amount, m.trading_ppm) - _share(before, m.trading_ppm)
        settlement = _share(before + amount, m.settlement_ppm) - _share(before, m.settlement_ppm)
        trading = min(trading, amount)
        settlement = min(settlement, amount - trading)
        fee = trading + settlement
        m.trading_fees += trading
        m.settlement_fees += settlement
        a.fees_today += fee
    a.available += amount - fee
    a.proceeds_today += amount - fee
    h.locked -= quantity
    h.sold_today += quantity
    cold.filled += quantity
    cold.filled_amount += amount
    return fee


@njit(cache=True, forceinline=True)
def _statistics(m, i, price, quantity):
    """Open, high, low, last, volume, amount of the instrument; the composite at this deal (R6.3, R6.6, R7.3, R7.4)."""
    if i.open == 0:
        i.open = price
        i.high = price
        i.low = price
    i.high = max(i.high, price)
    i.low = min(i.low, price)
    if price != i.last:
        m.composite_sum += i.weight * (price - i.last)
        i.last = price
    i.volume += quantity
    i.amount += price * quantity
    i.deals += 1
    weight = m.composite_weight
    if weight != 0:
        last = m.composite_sum if weight == 1 else (2 * m.composite_sum + weight) // (2 * weight)
        m.composite_last = last
        if m.composite_open == 0:
            m.composite_open = last
            m.composite_high = last
            m.composite_low = last
        m.composite_high = max(m.composite_high, last)
        m.composite_low = min(m.composite_low, last)


@njit(cache=True, forceinline=True)
def _deal(t, w, c, m, i, s, maker_slot, level, taker_slot, taker_side, limit, leaves, price, quantity):
    """One deal between a resting order and the incoming one, with all its bookkeeping and its two events."""
    instrument = np.uint64(s) >> np.uint64(1)
    maker = t.orders[maker_slot]
    taker = t.orders[taker_slot]
    maker_account = maker.account
    taker_account = taker.account
    maker_leaves = maker.leaves
    maker_id = id_of(t.orders, maker_slot)
    number = m.deals + np.uint64(1)
    if m.accounts_on:
        if taker_side == 0:
            buyer_fee = _pay(t, m, taker_slot, taker_account, instrument, limit, leaves, price, quantity)
            seller_fee = _deliver(t, m, maker_slot, maker_account, instrument, price, quantity)
            buyer = taker_account
            seller = maker_account
        else:
            buyer_fee = _pay(t, m, maker_slot, maker_account, instrument, price, maker_leaves, price, quantity)
            seller_fee = _deliver(t, m, taker_slot, taker_account, instrument, price, quantity)
            buyer = maker_account
            seller = taker_account
        d = t.deals[m.deals]
        d.time_ns = c.time_ns
        d.price = price
        d.quantity = quantity
        d.seq = c.seq
        d.buyer_fee = buyer_fee
        d.seller_fee = seller_fee
        d.buyer = buyer
        d.seller = seller
        d.number = number
        d.instrument = instrument
        d.method = LISTED
        d.flags = DEAL_BUYER_TAKES if taker_side == 0 else 0
    else:
        t.cold[maker_slot].filled += quantity
        t.cold[taker_slot].filled += quantity
    m.deals = number
    _statistics(m, i, price, quantity)
    w = _emit(
        t,
        w,
        c,
        FILL_MAKER,
        maker_id,
        maker_account,
        maker.session,
        instrument,
        taker_side ^ 1,
        price,
        quantity,
        maker_leaves - quantity,
        number,
        0,
    )
    w = _emit(
        t,
        w,
        c,
        FILL_TAKER,
        id_of(t.orders, taker_slot),
        taker_account,
        taker.session,
        instrument,
        taker_side,
        price,
        quantity,
        leaves - quantity,
        number,
        0,
    )
    if quantity == maker_leaves:
        if head_of(t.levels, t.sides, s, level) == maker_slot:
            pop_head(t.orders, t.levels, t.sides, t.bitmap, s, level)
        else:  # taking a listing from the middle of its level
            remove(t.orders, t.levels, t.sides, t.bitmap, s, maker_slot)
        if m.accounts_on:
            t.accounts[np.uint64(maker_account)].open_orders -= 1
        release(t.orders, t.pool, maker_slot)
    else:
        reduce(t.orders, t.levels, t.sides, s, maker_slot, quantity)
    return w


# --- checks ---------------------------------------------------------------------------------------------------------


@njit(cache=True, forceinline=True)
def _phase(m, time_ns):
    if m.around_the_clock:
        return MORNING
    if m.day_closed or time_ns >= m.close:
        return CLOSED
    if time_ns < m.morning_open:
        return PRE_OPEN
    if time_ns < m.morning_end:
        return MORNING
    if time_ns < m.afternoon_open:
        return BREAK
    return PHASE_AFTERNOON


@njit(cache=True, forceinline=True)
def _check_market(m, i, time_ns):
    """May orders be entered now? (lines 5 and 6 of the table)"""
    phase = _phase(m, time_ns)
    if phase != MORNING and phase != PHASE_AFTERNOON:
        return C_MARKET_BREAK if phase == BREAK else C_MARKET_CLOSED
    if m.halted | i.halted | m.cancel_only:
        if m.halted:
            return C_MARKET_HALTED
        return C_INSTRUMENT_HALTED if i.halted else C_CANCEL_ONLY
    return 0


@njit(cache=True, forceinline=True)
def _check_account(t, m, account):
    if m.accounts_on:
        status = t.accounts[np.uint64(account)].status
        if status >= ACCOUNT_CANCEL_ONLY:
            return C_ACCOUNT_SUSPENDED if status == SUSPENDED else C_ACCOUNT_CANCEL_ONLY
    return 0


@njit(cache=True, forceinline=True)
def _check_price(i, price):
    if price > 0 and i.tick != 1 and price % i.tick != 0:
        return C_BAD_TICK
    if price > i.limit_high:
        return C_PRICE_ABOVE_LIMIT
    if price < i.limit_low:
        return C_PRICE_BELOW_LIMIT
    return 0


@njit(cache=True, forceinline=True)
def _check_size(i, price, quantity):
    if quantity < i.quantity_min:
        return C_QUANTITY_TOO_SMALL
    if quantity > i.quantity_max:
        return C_QUANTITY_TOO_LARGE
    if i.lot != 1 and quantity % i.lot != 0:
        return C_BAD_LOT
    if (price >= SMALL_PRICE or quantity >= SMALL_QUANTITY) and quantity > AMOUNT_MAX_FEN // price:
        return C_AMOUNT_TOO_LARGE
    return 0


@njit(cache=True, forceinline=True)
def _check_allowances(h, extra):
    if extra > h.sellable:
        return C_BOUGHT_TODAY if extra <= h.sellable + h.bought_today else C_INSUFFICIENT_ALLOWANCES
    return 0


@njit(cache=True)
def _fillable(t, m, opposite, limit_level, best_levels, account, wanted):
    """Would a fill-or-kill be filled (D12, D13)? Others' quantity inside limit and best levels, as its mode reaches it."""
    mode = t.accounts[np.uint64(account)].self_trade if m.accounts_on else np.uint8(CANCEL_INCOMING)
    found = np.int64(0)
    visited = 0
    level = np.uint64(t.sides[opposite].best)
    while level <= limit_level and found < wanted and (best_levels == 0 or visited < best_levels):
        visited += 1
        slot = np.uint64(head_of(t.levels, t.sides, opposite, level))
        while slot != np.uint64(0) and found < wanted:
            order = t.orders[slot]
            if m.self_trade_on and order.account == account:
                if mode != CANCEL_RESTING:
                    return False
            else:
                found += order.leaves
            slot = np.uint64(order.next)
        level = next_level(t.sides, t.bitmap, opposite, level)
    return found >= wanted


# --- rare commands ----------------------------------------------------------------------------------------------------


@njit(cache=True)
def _replace(t, w, c, m, slot):
    """Checks of a REPLACE and its change of terms (D11). Returns (events written, whether the order must match anew)."""
    order = t.orders[slot]
    instrument = order.instrument
    i = t.instruments[np.uint64(instrument)]
    side = order.flags & 1
    s = np.uint64(2) * np.uint64(instrument) + np.uint64(side)
    code = _check_market(m, i, c.time_ns)
    if code == 0:
        code = _check_account(t, m, c.account)
    if code == 0:
        code = _check_price(i, c.price)
    if code != 0:
        return _reject(t, w, c, code), False
    filled = t.cold[slot].filled
    if c.quantity <= filled:
        return _cancel(t, w, c, m, slot, c.request_no, R_REPLACED_TO_FILLED), False
    code = _check_size(i, c.price, c.quantity)
    leaves = c.quantity - filled
    tick = np.uint64((c.price - i.band_base) // i.tick)
    if code == 0 and order.flags & FLAG_POST_ONLY and i.policy != LISTING:
        opposite = s ^ np.uint64(1)
        if np.uint64(t.sides[opposite].best) <= level_of(t.sides, opposite, tick):
            code = C_POST_ONLY_WOULD_TRADE
    old_price = _price_of(t, s, order.level)
    cash = np.int64(0)
    if code == 0 and m.accounts_on:
        h = _holding(t, order.account, instrument)
        if side == 0:
            amount = t.cold[slot].filled_amount
            cash = _lock_of(m, c.price, leaves, amount) - _lock_of(m, old_price, order.leaves, amount)
            position = h.sellable + h.bought_today + h.locked + h.in_transfer + h.buy_open
            if cash > t.accounts[np.uint64(order.account)].available:
                code = C_INSUFFICIENT_CASH
            elif leaves > order.leaves and position - order.leaves > h.position_max - leaves:
                code = C_POSITION_LIMIT
        else:
            code = _check_allowances(h, leaves - order.leaves)
            if code == 0 and leaves > order.leaves and h.sold_today + h.locked - order.leaves > h.sell_max - leaves:
                code = C_SELL_CAP
    if code != 0:
        return _reject(t, w, c, code), False
    if m.accounts_on:
        h = _holding(t, order.account, instrument)
        if side == 0:
            a = t.accounts[np.uint64(order.account)]
            a.available -= cash
            a.locked += cash
            h.buy_open += leaves - order.leaves
        else:
            h.sellable -= leaves - order.leaves
            h.locked += leaves - order.leaves
    if c.session != 0:
        order.session = c.session
    w = _emit(
        t,
        w,
        c,
        REPLACED,
        id_of(t.orders, slot),
        order.account,
        order.session,
        instrument,
        side,
        c.price,
        c.quantity,
        leaves,
        c.request_no,
        0,
    )
    if c.price == old_price and leaves < order.leaves:
        reduce(t.orders, t.levels, t.sides, s, slot, order.leaves - leaves)
        return w, False
    remove(t.orders, t.levels, t.sides, t.bitmap, s, slot)
    return w, True


@njit(cache=True)
def _reachable(t, i, s, level):
    """May a taker reach a listing at ``level`` of side ``s`` (R8.4, D14)?"""
    at = np.uint64(t.sides[s].best)
    if i.reach == BEST_LEVEL:
        return level == at
    visited = 1
    while at < level:
        if i.best_levels != 0 and visited == i.best_levels:
            return False
        at = next_level(t.sides, t.bitmap, s, at)
        visited += 1
    return at == level


@njit(cache=True)
def _take(t, w, c, m, maker_slot):
    """TAKE: a taker names one listing and takes a quantity of it at its price (R8.3, R8.4)."""
    maker = t.orders[maker_slot]
    instrument = maker.instrument
    i = t.instruments[np.uint64(instrument)]
    maker_side = maker.flags & 1
    side = maker_side ^ 1
    s = np.uint64(2) * np.uint64(instrument) + np.uint64(maker_side)
    level = np.uint64(maker.level)
    price = _price_of(t, s, level)
    code = _check_market(m, i, c.time_ns)
    if code == 0:
        code = _check_account(t, m, c.account)
    if code == 0:
        if i.policy != LISTING:
            code = C_WRONG_POLICY
        elif maker.account == c.account:
            code = C_SELF_TRADE
        elif not _reachable(t, i, s, level):
            code = C_OUT_OF_REACH
    if code == 0:
        code = _check_size(i, price, c.quantity)
    if code == 0:
        code = _check_means(t, m, c.account, instrument, side, price, c.quantity)
    if code != 0:
        return _reject(t, w, c, code)
    slot = allocate(t.orders, t.pool)
    taker = t.orders[slot]
    taker.account = c.account
    taker.session = c.session
    taker.instrument = instrument
    taker.flags = side
    t.cold[slot].filled = 0
    t.cold[slot].filled_amount = 0
    _lock(t, m, c.account, instrument, side, price, c.quantity)
    taker_id = id_of(t.orders, slot)
    w = _emit(
        t,
        w,
        c,
        ACCEPTED,
        taker_id,
        c.account,
        c.session,
        instrument,
        side,
        price,
        c.quantity,
        c.quantity,
        c.request_no,
        0,
    )
    quantity = min(c.quantity, maker.leaves)
    w = _deal(t, w, c, m, i, s, maker_slot, level, slot, side, price, c.quantity, price, quantity)
    rest = c.quantity - quantity
    if rest > 0:
        w = _end_unrested(t, w, c, m, slot, side, price, rest, R_TAKEN_OUT)
    release(t.orders, t.pool, slot)
    return w


@njit(cache=True, forceinline=True)
def _check_means(t, m, account, instrument, side, price, quantity):
    """Open orders, pool, cash or allowances, position and cap of a new order (lines 13 to 15)."""
    if m.accounts_on:
        a = t.accounts[np.uint64(account)]
        if a.open_orders >= a.open_orders_max:
            return C_OPEN_ORDERS_LIMIT
    if t.pool[np.uint64(0)].live >= t.pool[np.uint64(0)].capacity:
        return C_ORDER_POOL_FULL
    if m.accounts_on:
        h = _holding(t, account, instrument)
        if side == 0:
            if _lock_of(m, price, quantity, 0) > a.available:
                return C_INSUFFICIENT_CASH
            if h.sellable + h.bought_today + h.locked + h.in_transfer + h.buy_open > h.position_max - quantity:
                return C_POSITION_LIMIT
        else:
            code = _check_allowances(h, quantity)
            if code != 0:
                return code
            if h.sold_today + h.locked > h.sell_max - quantity:
                return C_SELL_CAP
    return 0


@njit(cache=True, forceinline=True)
def _lock(t, m, account, instrument, side, price, quantity):
    if m.accounts_on:
        h = _holding(t, account, instrument)
        if side == 0:
            a = t.accounts[np.uint64(account)]
            cash = _lock_of(m, price, quantity, 0)
            a.available -= cash
            a.locked += cash
            h.buy_open += quantity
        else:
            h.sellable -= quantity
            h.locked += quantity


@njit(cache=True, forceinline=True)
def _end_unrested(t, w, c, m, slot, side, price, rest, reason):
    """Cancels the rest of an incoming order that does not rest, and gives back its lock."""
    order = t.orders[slot]
    if m.accounts_on:
        order.leaves = rest
        _release_lock(t, m, slot, order.account, order.instrument, side, price, rest)
        order.leaves = 0
    return _emit(
        t,
        w,
        c,
        CANCELLED,
        id_of(t.orders, slot),
        order.account,
        order.session,
        order.instrument,
        side,
        price,
        rest,
        0,
        c.request_no,
        reason,
    )


@njit(cache=True)
def _sweep(t, w, c, m, account, session, instrument, side, reason, ref):
    """Cancels open orders in rising slot order; -1 or the ANY values match all. False when the output is full.

    Goes on from CONTROL.cursor and adds to CONTROL.count, so that it can be called again.
    """
    k = t.control[np.uint64(0)]
    end = np.int64(t.pool[np.uint64(0)].unused)
    slot = k.cursor
    while slot < end:
        order = t.orders[np.uint64(slot)]
        if order.leaves > 0:
            if (
                (account < 0 or np.int64(order.account) == account)
                and (session <= 0 or np.int64(order.session) == session)
                and (instrument == ANY_INSTRUMENT or np.int64(order.instrument) == instrument)
                and (side == ANY_SIDE or np.int64(order.flags & 1) == side)
            ):
                if w + ROOM > k.event_capacity:
                    k.cursor = slot
                    return w, False
                w = _cancel(t, w, c, m, np.uint64(slot), ref, reason)
                k.count += 1
        slot += 1
    k.cursor = 0
    return w, True


@njit(cache=True, forceinline=True)
def _look_ahead(t, commands, n, at):
    """Asks the cache for what the command ``LOOK_AHEAD`` places further on will touch first."""
    ahead = at + LOOK_AHEAD
    if ahead < n:
        c = commands[np.uint64(ahead)]
        if c.kind == NEW:
            account = np.uint64(c.account)
            prefetch(t.accounts, account)
            prefetch(t.holdings, account * np.uint64(t.control[np.uint64(0)].n_instruments) + np.uint64(c.instrument))
        else:
            prefetch(t.orders, np.uint64(c.order_id) & _LOW32)
    near = at + LOOK_AHEAD // 2
    if near < n:
        c = commands[np.uint64(near)]
        if c.kind != NEW:
            slot = np.uint64(c.order_id) & _LOW32
            if slot < np.uint64(t.control[np.uint64(0)].n_orders):
                order = t.orders[slot]
                prefetch(t.orders, np.uint64(order.next))
                prefetch(t.orders, np.uint64(order.prev))
                s = np.uint64(2) * np.uint64(order.instrument) + np.uint64(order.flags & 1)
                prefetch(t.levels, np.uint64(t.sides[s].levels_offset) + np.uint64(order.level))
                account = np.uint64(order.account)
                prefetch(t.accounts, account)
                prefetch(
                    t.holdings,
                    account * np.uint64(t.control[np.uint64(0)].n_instruments) + np.uint64(order.instrument),
                )


# --- the batch --------------------------------------------------------------------------------------------------------


@njit(int64(int64, int64, int64), cache=True)
def run(control_address, commands_address, n):
    """Applies ``n`` COMMAND records. Returns CONTROL.status; consumed and written stand in CONTROL."""
    t = _tables(control_address)
    commands = carray(pointer_at(commands_address), (n,), COMMAND)
    k = t.control[np.uint64(0)]
    m = t.market[np.uint64(0)]
    one = np.uint64(1)
    two = np.uint64(2)
    capacity = k.event_capacity
    w = np.int64(0)
    at = np.int64(0)
    status = np.int64(DONE)
    # the command in flight
    resumed = k.stage
    k.stage = STAGE_NONE
    slot = np.uint64(k.slot)
    leaves = k.leaves
    visited = k.visited
    current = np.uint64(k.level)
    limit = k.price
    order_type = k.order_type
    while at < n:
        c = commands[np.uint64(at)]
        if resumed == STAGE_NONE:
            if w + ROOM > capacity or (m.accounts_on and np.int64(m.deals) >= k.n_deals):
                status = np.int64(OUTPUT_FULL) if w + ROOM > capacity else np.int64(DEALS_FULL)
                break
            _look_ahead(t, commands, n, at)
            kind = c.kind
            if kind == MESSAGE:
                status = np.int64(AT_MESSAGE)
                break
            m.seq = c.seq
            m.time_ns = c.time_ns
            session = np.uint64(c.session)
            if session != np.uint64(0) and c.request_no != 0 and session < np.uint64(k.n_sessions):
                record = t.sessions[session]
                if c.request_no <= record.last_request:
                    w = _reject(t, w, c, C_DUPLICATE_REQUEST)
                    at += 1
                    continue
                record.last_request = c.request_no
            account = c.account
            if kind == NEW:
                instrument = np.uint64(c.instrument)
                if instrument >= np.uint64(m.n_instruments) or not t.instruments[instrument].listed:
                    w = _reject(t, w, c, C_UNKNOWN_INSTRUMENT)
                    at += 1
                    continue
                if m.accounts_on and (
                    np.int64(account) >= k.n_accounts or t.accounts[np.uint64(account)].status == NOT_OPENED
                ):
                    w = _reject(t, w, c, C_UNKNOWN_ACCOUNT)
                    at += 1
                    continue
                i = t.instruments[instrument]
                side = c.side
                order_type = np.int64(c.order_type)
                code = 0
                if c.flags & EXPIRES and c.time_ns > np.int64(c.order_id):
                    code = C_STALE
                if code == 0:
                    code = _check_market(m, i, c.time_ns)
                if code == 0:
                    code = _check_account(t, m, account)
                if code == 0:
                    if side > 1:
                        code = C_BAD_SIDE
                    elif order_type > POST_ONLY:
                        code = C_BAD_ORDER_TYPE
                    elif i.policy == LISTING and order_type != LIMIT:
                        code = C_WRONG_POLICY
                limit = c.price
                if order_type == BEST_FIVE and limit == 0:
                    limit = i.limit_high if side == 0 else i.limit_low
                if code == 0:
                    code = _check_price(i, limit)
                if code == 0:
                    code = _check_size(i, limit, c.quantity)
                if code != 0:
                    w = _reject(t, w, c, code)
                    at += 1
                    continue
                leaves = c.quantity
                own = two * instrument + np.uint64(side)
                if order_type == POST_ONLY or order_type == FOK:
                    offset = limit - i.band_base
                    limit_level = level_of(t.sides, own ^ one, np.uint64(offset if i.tick == 1 else offset // i.tick))
                    if order_type == POST_ONLY:
                        if np.uint64(t.sides[own ^ one].best) <= limit_level:
                            code = C_POST_ONLY_WOULD_TRADE
                    elif not _fillable(t, m, own ^ one, limit_level, i.best_levels, account, leaves):
                        code = C_NOT_FILLABLE
                if code == 0:
                    code = _check_means(t, m, account, instrument, side, limit, leaves)
                if code != 0:
                    w = _reject(t, w, c, code)
                    at += 1
                    continue
                slot = allocate(t.orders, t.pool)
                order = t.orders[slot]
                order.account = account
                order.session = c.session
                order.instrument = instrument
                order.flags = side | (FLAG_POST_ONLY if order_type == POST_ONLY else 0)
                cold = t.cold[slot]
                cold.filled = 0
                cold.filled_amount = 0
                _lock(t, m, account, instrument, side, limit, leaves)
                if m.accounts_on:
                    t.accounts[np.uint64(account)].open_orders += 1
                w = _emit(
                    t,
                    w,
                    c,
                    ACCEPTED,
                    id_of(t.orders, slot),
                    account,
                    c.session,
                    c.instrument,
                    side,
                    limit,
                    leaves,
                    leaves,
                    c.request_no,
                    0,
                )
                visited = 0
                current = _NIL
            elif kind <= MASS_CANCEL or kind == TAKE:
                if kind == 0:
                    w = _reject(t, w, c, C_UNKNOWN_KIND)
                    at += 1
                    continue
                if m.accounts_on and (
                    np.int64(account) >= k.n_accounts or t.accounts[np.uint64(account)].status == NOT_OPENED
                ):
                    code = C_UNKNOWN_ACCOUNT
                    if (
                        kind == MASS_CANCEL
                        and c.instrument != ANY_INSTRUMENT
                        and np.uint64(c.instrument) >= np.uint64(m.n_instruments)
                    ):
                        code = C_UNKNOWN_INSTRUMENT
                    w = _reject(t, w, c, code)
                    at += 1
                    continue
                if kind == MASS_CANCEL:
                    code = 0
                    if c.instrument != ANY_INSTRUMENT and np.uint64(c.instrument) >= np.uint64(m.n_instruments):
                        code = C_UNKNOWN_INSTRUMENT
                    elif _phase(m, c.time_ns) == CLOSED:
                        code = C_MARKET_CLOSED
                    elif c.side > ANY_SIDE:
                        code = C_BAD_SIDE
                    if code != 0:
                        w = _reject(t, w, c, code)
                        at += 1
                        continue
                    k.cursor = 1
                    k.count = 0
                    resumed = np.int64(STAGE_SWEEP)
                else:
                    slot = find(t.orders, t.pool, c.order_id)
                    if slot == np.uint64(0) or (kind != TAKE and t.orders[slot].account != account):
                        w = _reject(t, w, c, C_ORDER_NOT_OPEN)
                        at += 1
                        continue
                    if kind == CANCEL or kind == REDUCE:
                        if _phase(m, c.time_ns) == CLOSED:
                            w = _reject(t, w, c, C_MARKET_CLOSED)
                        elif kind == CANCEL:
                            w = _cancel(t, w, c, m, slot, c.request_no, R_BY_OWNER)
                        else:
                            order = t.orders[slot]
                            i = t.instruments[np.uint64(order.instrument)]
                            if c.quantity < 1:
                                w = _reject(t, w, c, C_QUANTITY_TOO_SMALL)
                            elif i.lot != 1 and c.quantity % i.lot != 0:
                                w = _reject(t, w, c, C_BAD_LOT)
                            elif c.quantity >= order.leaves:
                                w = _cancel(t, w, c, m, slot, c.request_no, R_REDUCED_TO_ZERO)
                            else:
                                side = order.flags & 1
                                own = two * np.uint64(order.instrument) + np.uint64(side)
                                price = _price_of(t, own, order.level)
                                if m.accounts_on:
                                    _release_lock(t, m, slot, order.account, order.instrument, side, price, c.quantity)
                                reduce(t.orders, t.levels, t.sides, own, slot, c.quantity)
                                w = _emit(
                                    t,
                                    w,
                                    c,
                                    REDUCED,
                                    id_of(t.orders, slot),
                                    order.account,
                                    order.session,
                                    order.instrument,
                                    side,
                                    price,
                                    c.quantity,
                                    order.leaves,
                                    c.request_no,
                                    0,
                                )
                        at += 1
                        continue
                    if kind == TAKE:
                        w = _take(t, w, c, m, slot)
                        at += 1
                        continue
                    w, again = _replace(t, w, c, m, slot)
                    if not again:
                        at += 1
                        continue
                    order = t.orders[slot]
                    limit = c.price
                    leaves = c.quantity - t.cold[slot].filled
                    order_type = np.int64(LIMIT)
                    visited = 0
                    current = _NIL
            else:
                w = _reject(t, w, c, C_UNKNOWN_KIND)
                at += 1
                continue
        if resumed == STAGE_SWEEP:
            resumed = np.int64(STAGE_NONE)
            w, finished = _sweep(
                t,
                w,
                c,
                m,
                np.int64(c.account),
                np.int64(-1),
                np.int64(c.instrument),
                np.int64(c.side),
                R_MASS_CANCEL,
                c.request_no,
            )
            if not finished or w + ROOM > capacity:
                if finished:
                    k.cursor = np.int64(t.pool[np.uint64(0)].unused)
                k.stage = STAGE_SWEEP
                status = np.int64(OUTPUT_FULL)
                break
            w = _emit(
                t, w, c, MASS_CANCELLED, 0, c.account, c.session, c.instrument, c.side, 0, k.count, 0, c.request_no, 0
            )
            at += 1
            continue
        # --- matching: the order in `slot` with `leaves` at `limit` -----------------------------------------------
        resumed = np.int64(STAGE_NONE)
        order = t.orders[slot]
        account = order.account
        side = order.flags & 1
        instrument = np.uint64(order.instrument)
        i = t.instruments[instrument]
        own = two * instrument + np.uint64(side)
        opposite = own ^ one
        offset = limit - i.band_base
        tick = np.uint64(offset if i.tick == 1 else offset // i.tick)
        limit_level = level_of(t.sides, opposite, tick)
        reason = np.int64(R_IOC_REST)
        stopped = False
        if i.policy != LISTING:
            while leaves > 0:
                best = np.uint64(t.sides[opposite].best)
                if best > limit_level:
                    break
                if best != current:
                    if i.best_levels != 0 and visited == i.best_levels:
                        stopped = order_type == LIMIT
                        reason = np.int64(R_BEYOND_BEST_FIVE) if stopped else reason
                        break
                    visited += 1
                    current = best
                if w + ROOM > capacity or (m.accounts_on and np.int64(m.deals) >= k.n_deals):
                    status = np.int64(OUTPUT_FULL) if w + ROOM > capacity else np.int64(DEALS_FULL)
                    break
                maker_slot = np.uint64(head_of(t.levels, t.sides, opposite, best))
                if m.self_trade_on and t.orders[maker_slot].account == account:
                    mode = t.accounts[np.uint64(account)].self_trade if m.accounts_on else np.uint8(CANCEL_INCOMING)
                    if mode != CANCEL_INCOMING:
                        w = _cancel(t, w, c, m, maker_slot, 0, R_SELF_TRADE)
                    if mode != CANCEL_RESTING:
                        stopped = True
                        reason = np.int64(R_SELF_TRADE)
                        break
                    continue
                price = _price_of(t, opposite, best)
                quantity = min(leaves, t.orders[maker_slot].leaves)
                w = _deal(t, w, c, m, i, opposite, maker_slot, best, slot, side, limit, leaves, price, quantity)
                leaves -= quantity
            if status != DONE:
                k.stage = STAGE_MATCH
                break
        # --- its rest ----------------------------------------------------------------------------------------------
        if leaves > 0 and not stopped and (order_type == LIMIT or order_type == POST_ONLY):
            append(t.orders, t.levels, t.sides, t.bitmap, own, slot, level_of(t.sides, own, tick), leaves)
        else:
            if leaves > 0:
                w = _end_unrested(t, w, c, m, slot, side, limit, leaves, reason)
            if m.accounts_on:
                t.accounts[np.uint64(account)].open_orders -= 1
            release(t.orders, t.pool, slot)
        at += 1
    k.consumed = at
    k.written = w
    k.status = status
    if k.stage != STAGE_NONE:
        k.slot = np.int64(slot)
        k.leaves = leaves
        k.visited = visited
        k.level = np.int64(current)
        k.price = limit
        k.order_type = order_type
    return status


@njit(int64(int64, int64, int64, int64, int64, int64), cache=True)
def sweep(control_address, command_address, account, session, instrument, reason):
    """Cancels open orders for a slow-lane command (close of the day, disconnect, operator); see `_sweep`.

    ``command_address`` is the COMMAND whose seq and time the events bear. Returns CONTROL.status; call again while
    it is OUTPUT_FULL. CONTROL.cursor must be 1 and count 0 at the first call.
    """
    t = _tables(control_address)
    c = carray(pointer_at(command_address), (1,), COMMAND)[np.uint64(0)]
    k = t.control[np.uint64(0)]
    w, finished = _sweep(
        t,
        np.int64(0),
        c,
        t.market[np.uint64(0)],
        account,
        session,
        instrument,
        np.int64(ANY_SIDE),
        reason,
        np.uint32(0),
    )
    k.written = w
    k.status = DONE if finished else OUTPUT_FULL
    return k.status
