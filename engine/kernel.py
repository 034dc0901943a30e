"""The exchange kernel: a batch of COMMAND records in, EVENT records out, in machine code.

`run` carries out docs/matching.md to the letter: checks in their order, locks, price-time matching (R8.1), best five
(R8.2), self-trade prevention (R8.5), T+1 (R5.5), fees on the running total (D16), day statistics and the composite
(R6, R7). It is deterministic: nothing but the tables and the commands goes in, and it never allocates.

All state is passed by address in one CONTROL record, because a call with a dozen arrays costs 1.5 µs and one with two
integers 0.25. `run` stops early when the events' buffer is full, when the table of deals is full, or before a command
of kind MESSAGE; CONTROL.status says why, and calling it again with the rest of the commands goes on exactly there, in
the middle of a sweep if need be: the order in flight stands in CONTROL, always.

How to read it, from the end: `run` (one command after the other) → `_enter` (a new order: checks, lock, place) or
`_cancel`, and where an order meets the other side `_match` → `_deal`. What is rare stands in `_refusal`, `_replace`,
`_take`, `_mass_cancel`. Functions that are called take the control record's address and make their own view of the
tables, which costs some thirty instructions; the parts of new orders and cancels become part of `run`. numba compiles
a function anew in each that it becomes part of, so these do not stand three deep. The book's primitives are
engine.book's.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from functools import partial
from typing import Final, NamedTuple

import numpy as np
from numba import int64, njit

from engine.book import (
    BOOK_SIDE,
    LEVEL,
    NIL,
    ORDER,
    ORDER_COLD,
    POOL,
    append,
    copy_head,
    copy_stamp,
    find,
    head_of,
    id_of,
    level_of,
    next_level,
    prefetch,
    primitive,
    rarely,
    reduce,
    release,
    remove,
    take_free,
    tick_of,
)
from engine.codes import Code, Reason
from engine.market import (
    ACCOUNT,
    ACCOUNT_CANCEL_ONLY,
    ACTIVE,
    BEST_LEVEL,
    BREAK,
    CANCEL_INCOMING,
    CANCEL_RESTING,
    CLOSED,
    CONTINUOUS,
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
    UNLIMITED,
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
    RECORD_BYTES,
    REDUCE,
    REDUCED,
    REJECTED,
    REPLACE,
    REPLACED,
    TAKE,
)
from engine.rows import Rows, rows_at
from engine.rules import AMOUNT_MAX_FEN, TURNOVER_MAX_FEN

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
COMMANDS_AHEAD: Final = 64 * RECORD_BYTES  # the commands themselves come from memory too
LOOK_AHEAD: Final = 24 * RECORD_BYTES  # commands, some 1.5 µs: an access beyond the cache takes a tenth of it
FLAG_POST_ONLY: Final = 2  # ORDER.flags bit 1; bit 0 is the side

# Codes, reasons and event kinds as int64 constants: numba cannot read an IntEnum, and compiles a function anew for
# each literal int that it is called with.
E_ACCEPTED = np.int64(ACCEPTED)
E_CANCELLED = np.int64(CANCELLED)
E_FILL_MAKER = np.int64(FILL_MAKER)
E_FILL_TAKER = np.int64(FILL_TAKER)
E_MASS_CANCELLED = np.int64(MASS_CANCELLED)
E_REDUCED = np.int64(REDUCED)
E_REJECTED = np.int64(REJECTED)
E_REPLACED = np.int64(REPLACED)
C_DUPLICATE_REQUEST = np.int64(Code.DUPLICATE_REQUEST)
C_UNKNOWN_KIND = np.int64(Code.UNKNOWN_KIND)
C_UNKNOWN_INSTRUMENT = np.int64(Code.UNKNOWN_INSTRUMENT)
C_UNKNOWN_ACCOUNT = np.int64(Code.UNKNOWN_ACCOUNT)
C_STALE = np.int64(Code.STALE)
C_MARKET_CLOSED = np.int64(Code.MARKET_CLOSED)
C_MARKET_BREAK = np.int64(Code.MARKET_BREAK)
C_MARKET_HALTED = np.int64(Code.MARKET_HALTED)
C_INSTRUMENT_HALTED = np.int64(Code.INSTRUMENT_HALTED)
C_CANCEL_ONLY = np.int64(Code.CANCEL_ONLY)
C_ACCOUNT_SUSPENDED = np.int64(Code.ACCOUNT_SUSPENDED)
C_ACCOUNT_CANCEL_ONLY = np.int64(Code.ACCOUNT_CANCEL_ONLY)
C_BAD_SIDE = np.int64(Code.BAD_SIDE)
C_BAD_ORDER_TYPE = np.int64(Code.BAD_ORDER_TYPE)
C_WRONG_POLICY = np.int64(Code.WRONG_POLICY)
C_ORDER_NOT_OPEN = np.int64(Code.ORDER_NOT_OPEN)
C_OUT_OF_REACH = np.int64(Code.OUT_OF_REACH)
C_BAD_TICK = np.int64(Code.BAD_TICK)
C_PRICE_ABOVE_LIMIT = np.int64(Code.PRICE_ABOVE_LIMIT)
C_PRICE_BELOW_LIMIT = np.int64(Code.PRICE_BELOW_LIMIT)
C_QUANTITY_TOO_SMALL = np.int64(Code.QUANTITY_TOO_SMALL)
C_QUANTITY_TOO_LARGE = np.int64(Code.QUANTITY_TOO_LARGE)
C_BAD_LOT = np.int64(Code.BAD_LOT)
C_AMOUNT_TOO_LARGE = np.int64(Code.AMOUNT_TOO_LARGE)
C_POST_ONLY_WOULD_TRADE = np.int64(Code.POST_ONLY_WOULD_TRADE)
C_SELF_TRADE = np.int64(Code.SELF_TRADE)
C_NOT_FILLABLE = np.int64(Code.NOT_FILLABLE)
C_OPEN_ORDERS_LIMIT = np.int64(Code.OPEN_ORDERS_LIMIT)
C_ORDER_POOL_FULL = np.int64(Code.ORDER_POOL_FULL)
C_INSUFFICIENT_CASH = np.int64(Code.INSUFFICIENT_CASH)
C_BOUGHT_TODAY = np.int64(Code.BOUGHT_TODAY)
C_INSUFFICIENT_ALLOWANCES = np.int64(Code.INSUFFICIENT_ALLOWANCES)
C_POSITION_LIMIT = np.int64(Code.POSITION_LIMIT)
C_SELL_CAP = np.int64(Code.SELL_CAP)
R_BY_OWNER = np.int64(Reason.BY_OWNER)
R_IOC_REST = np.int64(Reason.IOC_REST)
R_BEYOND_BEST_FIVE = np.int64(Reason.BEYOND_BEST_FIVE)
R_SELF_TRADE = np.int64(Reason.SELF_TRADE)
R_REDUCED_TO_ZERO = np.int64(Reason.REDUCED_TO_ZERO)
R_REPLACED_TO_FILLED = np.int64(Reason.REPLACED_TO_FILLED)
R_MASS_CANCEL = np.int64(Reason.MASS_CANCEL)
R_TAKEN_OUT = np.int64(Reason.TAKEN_OUT)
R_TURNOVER_LIMIT = np.int64(Reason.TURNOVER_LIMIT)

_NIL: Final = np.uint64(NIL)
_LOW32: Final = np.uint64(0xFFFFFFFF)
_ZERO: Final = np.int64(0)
_U0: Final = np.uint64(0)
SMALL_PRICE: Final = 1 << 31
SMALL_QUANTITY: Final = 1 << 30  # a price and a quantity below these can't exceed AMOUNT_MAX_FEN
SMALL: Final = 1 << 30  # both below it: their bits too

FLAG_FILLED: Final = 4  # ORDER.flags bit 2: ORDER_COLD is in use (else it is zero, and its cache line is left alone)

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
        ("open_from", "<i8"),  # from when until when new orders pass the checks of phase and halts: see `_set_bounds`
        ("open_until", "<i8"),
        ("cancel_until", "<i8"),  # until when orders can be cancelled
        ("last_slot", "<i8"),  # of a batch: bounds of what is looked at ahead
        ("last_side", "<i8"),
        ("cold_side", "<i8"),  # whose best level is new: see `_warm_up`
        ("cold_slot", "<i8"),
    ]
)
"""Addresses and sizes of all tables, what the last call did, and the command in flight."""


def _with_words(dtype: np.dtype, **words: str) -> np.dtype:
    """The same record with u4 words that begin at a field and span the small ones after it, for one access to all."""
    assert dtype.fields is not None
    formats = [(name, *dtype.fields[name][:2]) for name in dtype.fields]
    formats += [(word, np.dtype("<u4"), dtype.fields[first][1]) for word, first in words.items()]
    names, types, offsets = zip(*formats, strict=True)
    return np.dtype({"names": names, "formats": types, "offsets": offsets, "itemsize": dtype.itemsize})


# place: session, instrument (and of an order its flags); form: kind, side, order type, flags (of an event: reason).
COMMAND_IN: Final = _with_words(COMMAND, place="session", form="kind")
EVENT_OUT: Final = _with_words(EVENT, place="session", form="kind")
ORDER_ROW: Final = _with_words(ORDER, place="session")
INSTRUMENT_ROW: Final = _with_words(INSTRUMENT, state="listed")

PLACE_MASK: Final = np.uint32(0x00FFFFFF)  # ORDER.place without its flags is EVENT.place
FORM_PLAIN: Final = np.uint32(NEW)  # a limit order without flags, but for its side
FORM_SIDE: Final = np.uint32(1 << 8)
STATE_MASK: Final = np.uint32(0x00FFFFFF)  # listed, halted, policy
STATE_PLAIN: Final = np.uint32(1)  # listed, not halted, CONTINUOUS
assert CONTINUOUS == 0 and LIMIT == 0 and INSTRUMENT.fields is not None and INSTRUMENT.fields["listed"][1] % 4 == 0


_entry: Final = partial(njit, _nrt=False, cache=True, nogil=True, error_model="numpy")
"""njit with a signature: compiled, or read from the cache, at import: nothing compiles while a market is open."""

_inner: Final = partial(_entry, cache=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""njit for what only machine code calls: no wrappers for Python, and no cache, as it stands inside what is cached."""

_part: Final = _inner(forceinline=True)
"""njit for a part of the hot path: inlined by LLVM, which compiles faster than numba's own inlining."""

_shared: Final = _inner(forceinline=False)
"""njit for a part that is called from several places, with the control record's address: stays a function of its own.

Without the flag numba hands `_part`'s forced inlining down to what a part calls, and the rare swells the hot path."""


class Tables(NamedTuple):
    """All tables as rows at their addresses, inside machine code only."""

    control: Rows
    market: Rows
    accounts: Rows
    holdings: Rows
    instruments: Rows
    sessions: Rows
    deals: Rows
    orders: Rows
    cold: Rows
    pool: Rows
    sides: Rows
    levels: Rows
    bitmap: Rows
    events: Rows


@primitive
def _tables(control_address):
    control = rows_at(control_address, CONTROL)
    k = control[np.uint64(0)]
    return Tables(
        control,
        rows_at(k.market_at, MARKET),
        rows_at(k.accounts_at, ACCOUNT),
        rows_at(k.holdings_at, HOLDING),
        rows_at(k.instruments_at, INSTRUMENT_ROW),
        rows_at(k.sessions_at, SESSION),
        rows_at(k.deals_at, DEAL),
        rows_at(k.orders_at, ORDER_ROW),
        rows_at(k.cold_at, ORDER_COLD),
        rows_at(k.pool_at, POOL),
        rows_at(k.sides_at, BOOK_SIDE),
        rows_at(k.levels_at, LEVEL),
        rows_at(k.bitmap_at, np.uint64),
        rows_at(k.events_at, EVENT_OUT),
    )


@_part
def _emit_order(t, w, c, kind, slot, price, quantity, leaves, ref, reason):
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


@_shared
def _reject(address, w, c, code):
    """Writes REJECTED with the command's own terms. Returns w + 1."""
    e = rows_at(rows_at(address, CONTROL)[_U0].events_at, EVENT_OUT)[np.uint64(w)]
    copy_head(e, c)
    e.leaves = 0
    e.order_id = c.order_id
    e.account = c.account
    e.ref = c.request_no
    e.place = c.place
    e.form = np.uint32(E_REJECTED) | np.uint32(c.side) << np.uint32(8) | np.uint32(code) << np.uint32(16)
    return w + 1


# --- money ------------------------------------------------------------------------------------------------------


@_part
def _share(amount, ppm):
    """amount × ppm / 10^6, half up, without overflow (D16)."""
    return amount // 1_000_000 * ppm + (2 * (amount % 1_000_000) * ppm + 1_000_000) // 2_000_000


@_shared
def _fee_room(m, before, cash):
    """What the fees of ``before`` fen grow by when ``cash`` is spent too."""
    grown = _share(before + cash, m.trading_ppm) + _share(before + cash, m.settlement_ppm)
    return grown - _share(before, m.trading_ppm) - _share(before, m.settlement_ppm)


@_part
def _lock_of(m, price, leaves, filled_amount):
    """Cash that an open buy holds: its rest at its limit, and the fee room on its running total (R5.2, R5.7)."""
    cash = price * leaves
    if rarely(m.trading_ppm | m.settlement_ppm != 0):
        cash += _fee_room(m, filled_amount, cash)
    return cash


@_part
def _price_of(t, s, level):
    """Price of a level of side record ``s``."""
    i = t.instruments[np.uint64(s) >> np.uint64(1)]
    return i.band_base + np.int64(tick_of(t.sides, s, level)) * i.tick


@_part
def _holding(t, account, instrument):
    return t.holdings[np.uint64(account) * np.uint64(t.control[np.uint64(0)].n_instruments) + np.uint64(instrument)]


@_part
def _release_lock(t, m, slot, account, instrument, side, price, quantity):
    """Gives back the lock of ``quantity`` tonnes leaving the order in ``slot``; its leaves are still the old ones.

    Without a branch on the side, which no processor can predict: what does not concern a side changes by zero.
    """
    order = t.orders[slot]
    h = _holding(t, account, instrument)
    a = t.accounts[np.uint64(account)]
    sold = quantity * np.int64(side)
    buys = np.int64(1) - np.int64(side)
    filled_amount = _ZERO
    if rarely(order.flags & FLAG_FILLED != 0):
        filled_amount = t.cold[slot].filled_amount
    cash = _lock_of(m, price, order.leaves * buys, filled_amount)
    cash -= _lock_of(m, price, (order.leaves - quantity) * buys, filled_amount)
    a.locked -= cash
    a.available += cash
    h.buy_open -= quantity - sold
    h.locked -= sold
    h.sellable += sold


@_part
def _free(t, slot):
    """Gives back a slot whose order is out of the book; its part of ORDER_COLD is zero again."""
    if rarely(t.orders[slot].flags & FLAG_FILLED != 0):
        t.cold[slot].filled = 0
        t.cold[slot].filled_amount = 0
    release(t.orders, t.pool, slot)


@_part
def _cancel_inlined(t, m, w, c, slot, ref, reason):
    """Takes a resting order out of the book, gives back its lock and its slot. Writes CANCELLED; returns w + 1."""
    order = t.orders[slot]
    side = order.flags & 1
    instrument = np.uint64(order.instrument)
    s = np.uint64(2) * instrument + np.uint64(side)
    price = _price_of(t, s, np.uint64(order.level))
    if m.accounts_on:
        account = order.account
        _release_lock(t, m, slot, account, instrument, side, price, order.leaves)
        t.accounts[np.uint64(account)].open_orders -= 1
    w = _emit_order(t, w, c, E_CANCELLED, slot, price, order.leaves, _ZERO, ref, reason)
    remove(t.orders, t.levels, t.sides, t.bitmap, s, slot)
    _free(t, slot)
    return w


@_shared
def _cancel(address, w, c, slot, ref, reason):
    """`_cancel_inlined` for all but the plain cancel, which has a copy of its own: it is every third command."""
    t = _tables(address)
    return _cancel_inlined(t, t.market[_U0], w, c, slot, ref, reason)


# --- deals ------------------------------------------------------------------------------------------------------


@_part
def _remember_fill(t, slot, leaves_after, quantity, amount):
    """Adds to an order's running totals, which only matter while it lives on (D11, D16)."""
    if leaves_after > 0:
        t.cold[slot].filled += quantity
        t.cold[slot].filled_amount += amount
        t.orders[slot].flags |= FLAG_FILLED


@_part
def _charge(t, m, account, slot, amount, most):
    """One side's fees of a deal, on the order's running total (D16), ``most`` fen at most. Returns the fee."""
    before = t.cold[slot].filled_amount
    trading = min(_share(before + amount, m.trading_ppm) - _share(before, m.trading_ppm), most)
    settlement = _share(before + amount, m.settlement_ppm) - _share(before, m.settlement_ppm)
    settlement = min(settlement, most - trading)
    m.trading_fees += trading
    m.settlement_fees += settlement
    t.accounts[np.uint64(account)].fees_today += trading + settlement
    return trading + settlement


@_part
def _pay(t, m, slot, account, instrument, limit, leaves, price, quantity):
    """The buyer's side of a deal: pays out of its lock, gets allowances. Returns the fee."""
    a = t.accounts[np.uint64(account)]
    h = _holding(t, account, instrument)
    amount = price * quantity
    fee = np.int64(0)
    freed = limit * quantity
    if rarely(m.trading_ppm | m.settlement_ppm != 0):
        before = t.cold[slot].filled_amount
        fee = _charge(t, m, account, slot, amount, np.int64(AMOUNT_MAX_FEN))
        freed = _lock_of(m, limit, leaves, before) - _lock_of(m, limit, leaves - quantity, before + amount)
    a.locked -= freed
    a.available += freed - amount - fee
    h.buy_open -= quantity
    if m.t_plus_one:
        h.bought_today += quantity
    else:
        h.sellable += quantity
    return fee


@_part
def _deliver(t, m, slot, account, instrument, price, quantity):
    """The seller's side of a deal: allowances go, proceeds come (T+0 for use, not for withdrawal). Returns the fee."""
    a = t.accounts[np.uint64(account)]
    h = _holding(t, account, instrument)
    amount = price * quantity
    fee = np.int64(0)
    if rarely(m.trading_ppm | m.settlement_ppm != 0):
        fee = _charge(t, m, account, slot, amount, amount)
    a.available += amount - fee
    a.proceeds_today += amount - fee
    h.locked -= quantity
    h.sold_today += quantity
    return fee


@_part
def _statistics(m, i, price, quantity):
    """Open, high, low, last, volume, amount of the instrument; the composite at this deal (R6.3, R6.6, R7.3, R7.4)."""
    if i.open == 0:
        i.open = price
        i.high = price
        i.low = price
    i.high = max(i.high, price)
    i.low = min(i.low, price)
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


@_part
def _look_behind(t, maker, instrument):
    """Asks the cache for what the next deals at this price will touch: those who stand behind the maker.

    Nobody's command names them, so `_look_ahead` cannot: the second behind is asked for, of the first (asked for one
    deal ago) its account and holding. At the end of the list that is slot 0, which is harmless.
    """
    behind = t.orders[np.uint64(maker.next)]
    row = np.uint64(t.control[_U0].n_instruments)
    prefetch(t.orders, np.uint64(behind.next))
    prefetch(t.cold, np.uint64(maker.next))
    prefetch(t.accounts, np.uint64(behind.account))
    prefetch(t.holdings, np.uint64(behind.account) * row + instrument)


@_part
def _warm_up(t, k):
    """Asks the cache for the first order of the level that has become the best of its side, a step at each matching.

    Its level was asked for when the one before was emptied; now its first order is, and at the next matching the
    account and the holding of that. Nothing in flight needs them, and slot 0 is harmless.
    """
    order = t.orders[np.uint64(k.cold_slot)]
    prefetch(t.accounts, np.uint64(order.account))
    prefetch(t.holdings, np.uint64(order.account) * np.uint64(k.n_instruments) + np.uint64(order.instrument))
    prefetch(t.cold, np.uint64(k.cold_slot))
    side = t.sides[np.uint64(k.cold_side)]
    level = min(np.uint64(side.best), np.uint64(side.n_levels) - np.uint64(1))  # NIL is none
    k.cold_slot = np.int64(t.levels[np.uint64(side.levels_offset) + level].head)
    prefetch(t.orders, np.uint64(k.cold_slot))


@_shared
def _deal(address, w, c, maker_slot, taker_slot, limit, leaves):
    """One deal of an incoming order (its ``limit`` and ``leaves``) with a resting one, at the resting price (R8.1).

    All its bookkeeping and its two events. Returns (w, quantity).
    """
    t = _tables(address)
    m = t.market[_U0]
    maker = t.orders[maker_slot]
    taker = t.orders[taker_slot]
    taker_side = taker.flags & 1
    instrument = np.uint64(maker.instrument)
    s = np.uint64(2) * instrument + np.uint64(taker_side ^ 1)
    level = np.uint64(maker.level)
    price = _price_of(t, s, level)
    maker_leaves = maker.leaves
    quantity = min(leaves, maker_leaves)
    amount = price * quantity
    number = m.deals + np.uint64(1)
    prefetch(t.cold, maker_slot)
    prefetch(t.deals, number + np.uint64(4))
    _look_behind(t, maker, instrument)
    if m.accounts_on:
        buys = taker_side == 0  # the two sides change places without a branch (`_release_lock`)
        buyer_slot = taker_slot if buys else maker_slot
        seller_slot = maker_slot if buys else taker_slot
        buyer = t.orders[buyer_slot].account
        seller = t.orders[seller_slot].account
        buyer_limit = limit if buys else price
        buyer_leaves = leaves if buys else maker_leaves
        buyer_fee = _pay(t, m, buyer_slot, buyer, instrument, buyer_limit, buyer_leaves, price, quantity)
        seller_fee = _deliver(t, m, seller_slot, seller, instrument, price, quantity)
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
    m.deals = number
    _statistics(m, t.instruments[instrument], price, quantity)
    _remember_fill(t, maker_slot, maker_leaves - quantity, quantity, amount)
    _remember_fill(t, taker_slot, leaves - quantity, quantity, amount)
    w = _emit_order(
        t, w, c, E_FILL_MAKER, maker_slot, price, quantity, maker_leaves - quantity, np.uint32(number), _ZERO
    )
    w = _emit_order(t, w, c, E_FILL_TAKER, taker_slot, price, quantity, leaves - quantity, np.uint32(number), _ZERO)
    if quantity == maker_leaves:
        if m.accounts_on:
            t.accounts[np.uint64(maker.account)].open_orders -= 1
        remove(t.orders, t.levels, t.sides, t.bitmap, s, maker_slot)  # from the middle of its level, when taken
        _free(t, maker_slot)
        if np.uint64(t.sides[s].best) != level:  # `_warm_up` goes on
            t.control[_U0].cold_side = np.int64(s)
            prefetch(t.levels, np.uint64(t.sides[s].levels_offset) + np.uint64(t.sides[s].best))
    else:
        reduce(t.orders, t.levels, t.sides, s, maker_slot, quantity)
    return w, quantity


# --- checks -----------------------------------------------------------------------------------------------------


@_part
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


@_part
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


@_part
def _check_account(t, m, account):
    if m.accounts_on:
        status = t.accounts[np.uint64(account)].status
        if status >= ACCOUNT_CANCEL_ONLY:
            return C_ACCOUNT_SUSPENDED if status == SUSPENDED else C_ACCOUNT_CANCEL_ONLY
    return 0


@_part
def _check_price(i, price):
    if price > 0 and i.tick != 1 and price % i.tick != 0:
        return C_BAD_TICK
    if price > i.limit_high:
        return C_PRICE_ABOVE_LIMIT
    if price < i.limit_low:
        return C_PRICE_BELOW_LIMIT
    return 0


@_part
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


@_part
def _check_allowances(h, extra):
    if extra > h.sellable:
        return C_BOUGHT_TODAY if extra <= h.sellable + h.bought_today else C_INSUFFICIENT_ALLOWANCES
    return 0


@_shared
def _fillable(address, opposite, limit_level, best_levels, account, wanted):
    """Would a fill-or-kill be filled (D12, D13)? Others' quantity inside limit and best levels, as its mode reaches."""
    t = _tables(address)
    m = t.market[np.uint64(0)]
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


@_part
def _check_account_exists(t, m, account):
    if m.accounts_on and (
        np.uint64(account) >= np.uint64(t.control[np.uint64(0)].n_accounts)
        or t.accounts[np.uint64(account)].status == NOT_OPENED
    ):
        return C_UNKNOWN_ACCOUNT
    return 0


@_part
def _check_means(t, a, h, side, quantity, sold, cash):
    """Open orders, pool, cash or allowances, position and cap of a new order (lines 13 to 15), accounts being on.

    Both sides' checks without a branch on the side (`_release_lock`): a sell needs no cash, a buy no allowances.
    """
    if a.open_orders >= a.open_orders_max:
        return C_OPEN_ORDERS_LIMIT
    if t.pool[_U0].live >= t.pool[_U0].capacity:
        return C_ORDER_POOL_FULL
    sellable = h.sellable
    locked = h.locked
    position = sellable + h.bought_today + locked + h.in_transfer + h.buy_open
    spent = h.sold_today + locked
    position_max = h.position_max
    sell_max = h.sell_max
    used = spent if side else position
    most = sell_max if side else position_max
    if cash > a.available:
        return C_INSUFFICIENT_CASH
    code = _check_allowances(h, sold)
    if code != 0:
        return code
    if used > most - quantity:
        return C_SELL_CAP if side else C_POSITION_LIMIT
    return 0


@_part
def _place(t, m, c, instrument, side, flags, price, quantity):
    """Checks and locks the means of a new order and gives it a slot. Returns (code, slot): 0 and a slot, or why not.

    The lock is taken without a branch on the side (`_release_lock`).
    """
    a = t.accounts[np.uint64(c.account)]
    h = _holding(t, c.account, instrument)
    if m.accounts_on:
        sold = quantity * np.int64(side)
        cash = _lock_of(m, price, quantity - sold, _ZERO)
        code = _check_means(t, a, h, side, quantity, sold, cash)
        if code != 0:
            return code, _U0
        a.available -= cash
        a.locked += cash
        a.open_orders += 1
        h.buy_open += quantity - sold
        h.sellable -= sold
        h.locked += sold
    elif t.pool[_U0].live >= t.pool[_U0].capacity:
        return C_ORDER_POOL_FULL, _U0
    slot = take_free(t.orders, t.pool)
    order = t.orders[slot]
    order.account = c.account
    marks = np.uint32(side | flags)
    order.place = np.uint32(c.session) | np.uint32(instrument) << np.uint32(16) | marks << np.uint32(24)
    return _ZERO, slot


@_part
def _tick(i, price, step):
    """Level-independent index of a price in the band of instrument ``i``, whose tick is ``step``."""
    offset = price - i.band_base
    return np.uint64(offset if step == 1 else offset // step)


# --- rare commands ------------------------------------------------------------------------------------------------


@_part
def _set_in_flight(k, slot, limit, leaves, order_type):
    """The order in ``slot`` is to match next."""
    k.stage = STAGE_MATCH
    k.slot = np.int64(slot)
    k.price = limit
    k.leaves = leaves
    k.order_type = order_type
    k.visited = 0
    k.level = np.int64(NIL)


@_part
def _check_replace(address, t, m, c, slot, filled):
    """Lines 10 to 15 of the table for new terms that leave something open; the old lock counts as free (D11)."""
    order = t.orders[slot]
    i = t.instruments[np.uint64(order.instrument)]
    side = order.flags & 1
    s = np.uint64(2) * np.uint64(order.instrument) + np.uint64(side)
    code = _check_size(i, c.price, c.quantity)
    if code != 0:
        return code
    leaves = c.quantity - filled
    if order.flags & FLAG_POST_ONLY and i.policy != LISTING:
        opposite = s ^ np.uint64(1)
        if np.uint64(t.sides[opposite].best) <= level_of(t.sides, opposite, _tick(i, c.price, i.tick)):
            return C_POST_ONLY_WOULD_TRADE
    if m.accounts_on:
        h = _holding(t, order.account, np.uint64(order.instrument))
        if side == 0:
            if _replace_cash(t, m, slot, c.price, leaves) > t.accounts[np.uint64(order.account)].available:
                return C_INSUFFICIENT_CASH
            position = h.sellable + h.bought_today + h.locked + h.in_transfer + h.buy_open
            if leaves > order.leaves and position - order.leaves > h.position_max - leaves:
                return C_POSITION_LIMIT
        else:
            code = _check_allowances(h, leaves - order.leaves)
            if code != 0:
                return code
            if leaves > order.leaves and h.sold_today + h.locked - order.leaves > h.sell_max - leaves:
                return C_SELL_CAP
    return 0


@_part
def _replace_cash(t, m, slot, price, leaves):
    """How much more cash the new terms of a buy lock; negative where they free some."""
    order = t.orders[slot]
    amount = t.cold[slot].filled_amount
    old = _price_of(t, np.uint64(2) * np.uint64(order.instrument), np.uint64(order.level))
    return _lock_of(m, price, leaves, amount) - _lock_of(m, old, order.leaves, amount)


@_shared
def _replace(address, w, c, slot):
    """REPLACE (D11): checks, new lock, and either in place or out of its place to match anew. Returns w."""
    t = _tables(address)
    m = t.market[np.uint64(0)]
    order = t.orders[slot]
    i = t.instruments[np.uint64(order.instrument)]
    side = order.flags & 1
    s = np.uint64(2) * np.uint64(order.instrument) + np.uint64(side)
    code = _check_market(m, i, c.time_ns)
    if code == 0:
        code = _check_account(t, m, c.account)
    if code == 0:
        code = _check_price(i, c.price)
    filled = t.cold[slot].filled
    if code == 0 and c.quantity <= filled:
        return _cancel(address, w, c, slot, c.request_no, R_REPLACED_TO_FILLED)
    if code == 0:
        code = _check_replace(address, t, m, c, slot, filled)
    if code != 0:
        return _reject(address, w, c, code)
    leaves = c.quantity - filled
    if m.accounts_on:
        h = _holding(t, order.account, np.uint64(order.instrument))
        if side == 0:
            a = t.accounts[np.uint64(order.account)]
            cash = _replace_cash(t, m, slot, c.price, leaves)
            a.available -= cash
            a.locked += cash
            h.buy_open += leaves - order.leaves
        else:
            h.sellable -= leaves - order.leaves
            h.locked += leaves - order.leaves
    if c.session != 0:
        order.session = c.session
    w = _emit_order(t, w, c, E_REPLACED, slot, c.price, c.quantity, leaves, c.request_no, _ZERO)
    if c.price == _price_of(t, s, np.uint64(order.level)) and leaves < order.leaves:
        reduce(t.orders, t.levels, t.sides, s, slot, order.leaves - leaves)
    else:
        remove(t.orders, t.levels, t.sides, t.bitmap, s, slot)
        order.leaves = 0
        _set_in_flight(t.control[np.uint64(0)], slot, c.price, leaves, np.int64(LIMIT))
    return w


@_shared
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


@_shared
def _take(address, w, c, maker_slot):
    """TAKE: a taker names one listing and takes a quantity of it at its price (R8.3, R8.4). Returns w."""
    t = _tables(address)
    m = t.market[np.uint64(0)]
    maker = t.orders[maker_slot]
    instrument = np.uint64(maker.instrument)
    i = t.instruments[instrument]
    side = (maker.flags & 1) ^ 1
    s = np.uint64(2) * instrument + np.uint64(side ^ 1)
    price = _price_of(t, s, np.uint64(maker.level))
    code = _check_market(m, i, c.time_ns)
    if code == 0:
        code = _check_account(t, m, c.account)
    if code == 0:
        if i.policy != LISTING:
            code = C_WRONG_POLICY
        elif maker.account == c.account:
            code = C_SELF_TRADE
        elif not _reachable(t, i, s, np.uint64(maker.level)):
            code = C_OUT_OF_REACH
    if code == 0:
        code = _check_size(i, price, c.quantity)
    slot = _U0
    if code == 0:
        code, slot = _place(t, m, c, instrument, np.uint64(side), _U0, price, c.quantity)
    if code != 0:
        return _reject(address, w, c, code)
    w = _emit_order(t, w, c, E_ACCEPTED, slot, price, c.quantity, c.quantity, c.request_no, _ZERO)
    if _is_counted_out(t, m, i, maker, t.orders[slot]):
        return _end(address, w, c, slot, price, c.quantity, R_TURNOVER_LIMIT)
    w, quantity = _deal(address, w, c, maker_slot, slot, price, c.quantity)
    return _end(address, w, c, slot, price, c.quantity - quantity, R_TAKEN_OUT)


@_shared
def _sweep(address, w, c, account, session, instrument, side, reason, ref):
    """Cancels open orders in rising slot order; -1 or the ANY values match all. Returns (w, False when output is full).

    Goes on from CONTROL.cursor and adds to CONTROL.count, so that it can be called again.
    """
    t = _tables(address)
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
            w = _cancel(address, w, c, np.uint64(slot), ref, reason)
            k.count += 1
        slot += 1
    k.cursor = slot
    return w, slot >= end


@_shared
def _mass_cancel(address, w, c):
    """MASS_CANCEL: one step of it, as far as the output reaches. Returns (w, finished)."""
    t = _tables(address)
    k = t.control[np.uint64(0)]
    account, instrument, side = np.int64(c.account), np.int64(c.instrument), np.int64(c.side)
    w, finished = _sweep(address, w, c, account, np.int64(-1), instrument, side, R_MASS_CANCEL, c.request_no)
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


@_shared
def _reduce(address, w, c, slot):
    """REDUCE of the order in ``slot``. Returns w."""
    t = _tables(address)
    m = t.market[_U0]
    order = t.orders[slot]
    i = t.instruments[np.uint64(order.instrument)]
    if c.quantity < 1:
        return _reject(address, w, c, C_QUANTITY_TOO_SMALL)
    if i.lot != 1 and c.quantity % i.lot != 0:
        return _reject(address, w, c, C_BAD_LOT)
    if c.quantity >= order.leaves:
        return _cancel(address, w, c, slot, c.request_no, R_REDUCED_TO_ZERO)
    side = order.flags & 1
    s = np.uint64(2) * np.uint64(order.instrument) + np.uint64(side)
    price = _price_of(t, s, np.uint64(order.level))
    if m.accounts_on:
        _release_lock(t, m, slot, order.account, np.uint64(order.instrument), side, price, c.quantity)
    reduce(t.orders, t.levels, t.sides, s, slot, c.quantity)
    return _emit_order(t, w, c, E_REDUCED, slot, price, c.quantity, order.leaves, c.request_no, _ZERO)


@_shared
def _begin_mass_cancel(address, w, c):
    """MASS_CANCEL up to its sweep (CONTROL.stage says so), and what is no command at all. Returns w."""
    t = _tables(address)
    m = t.market[_U0]
    k = t.control[_U0]
    code = C_UNKNOWN_KIND
    if c.kind == MASS_CANCEL:
        code = _ZERO
        one = np.uint64(c.instrument)
        known = one < np.uint64(m.n_instruments) and t.instruments[one].listed != 0
        if c.instrument != ANY_INSTRUMENT and not known:
            code = C_UNKNOWN_INSTRUMENT
        if code == 0:
            code = _check_account_exists(t, m, c.account)
        if code == 0 and c.time_ns >= k.cancel_until:
            code = C_MARKET_CLOSED
        if code == 0 and c.side > ANY_SIDE:
            code = C_BAD_SIDE
    if code != 0:
        return _reject(address, w, c, code)
    k.stage = STAGE_SWEEP
    k.cursor = 1
    k.count = 0
    return w


# --- one command ----------------------------------------------------------------------------------------------------


@_part
def _check_crossing(address, t, i, c, own, limit):
    """Post-only must not trade, fill-or-kill must fill (line 12)."""
    opposite = own ^ np.uint64(1)
    limit_level = level_of(t.sides, opposite, _tick(i, limit, i.tick))
    if c.order_type == POST_ONLY:
        return C_POST_ONLY_WOULD_TRADE if np.uint64(t.sides[opposite].best) <= limit_level else 0
    fillable = _fillable(address, opposite, limit_level, i.best_levels, c.account, c.quantity)
    return 0 if fillable else C_NOT_FILLABLE


@_shared
def _refusal(address, c):
    """The checks of a new order in their order, but for its means. Returns (code, limit): 0, or why not."""
    t = _tables(address)
    m = t.market[_U0]
    instrument = np.uint64(c.instrument)
    if instrument >= np.uint64(m.n_instruments) or not t.instruments[instrument].listed:
        return C_UNKNOWN_INSTRUMENT, _ZERO
    i = t.instruments[instrument]
    side = c.side
    limit = c.price
    if c.order_type == BEST_FIVE and limit == 0:
        limit = i.limit_high if side == 0 else i.limit_low
    code = _check_account_exists(t, m, c.account)
    if code == 0 and c.flags & EXPIRES and np.uint64(c.time_ns) > c.order_id:
        code = C_STALE
    if code == 0:
        code = _check_market(m, i, c.time_ns)
    if code == 0:
        code = _check_account(t, m, c.account)
    if code == 0:
        if side > 1:
            code = C_BAD_SIDE
        elif c.order_type > POST_ONLY:
            code = C_BAD_ORDER_TYPE
        elif i.policy == LISTING and c.order_type != LIMIT:
            code = C_WRONG_POLICY
    if code == 0:
        code = _check_price(i, limit)
    if code == 0:
        code = _check_size(i, limit, c.quantity)
    if code == 0 and (c.order_type == POST_ONLY or c.order_type == FOK):
        code = _check_crossing(address, t, i, c, np.uint64(2) * instrument + np.uint64(side), limit)
    return code, limit


@_part
def _is_plain(t, m, k, i, c, instrument):
    """Does the new order pass `_refusal` at a glance: a limit order of the usual kind, in a vintage of the usual kind?

    Whatever is not plain is checked line by line; a test holds the two against each other.
    """
    if c.form & ~FORM_SIDE != FORM_PLAIN or instrument >= np.uint64(m.n_instruments):
        return False
    if i.state & STATE_MASK != STATE_PLAIN or c.time_ns < k.open_from or c.time_ns >= k.open_until:
        return False
    if m.accounts_on:
        account = np.uint64(c.account)
        if account >= np.uint64(k.n_accounts) or t.accounts[account].status != ACTIVE:
            return False
    price = c.price
    quantity = c.quantity
    if price < i.limit_low or price > i.limit_high or quantity < i.quantity_min or quantity > i.quantity_max:
        return False
    return price | quantity < SMALL and i.tick | i.lot == 1


@_part
def _accept(t, m, k, w, c, instrument, side, order_type, limit, step):
    """A new order that has passed its checks but for its means: lock, slot and ACCEPTED; it rests, or it is in flight.

    ``step`` is the vintage's tick. Returns (code, w): 0, or why its means do not suffice.
    """
    quantity = c.quantity
    flags = np.uint64(FLAG_POST_ONLY if order_type == POST_ONLY else 0)
    code, slot = _place(t, m, c, instrument, side, flags, limit, quantity)
    if code != 0:
        return code, w
    e = t.events[np.uint64(w)]
    copy_head(e, c)
    e.price = limit
    e.leaves = quantity
    e.order_id = id_of(t.orders, slot)
    e.account = c.account
    e.ref = c.request_no
    e.place = c.place
    e.form = np.uint32(E_ACCEPTED) | np.uint32(side) << np.uint32(8)
    i = t.instruments[instrument]
    own = np.uint64(2) * instrument + side
    opposite = own ^ np.uint64(1)
    tick = _tick(i, limit, step)  # what meets nothing rests at once: most orders never are in flight
    meets = np.uint64(t.sides[opposite].best) <= level_of(t.sides, opposite, tick) and i.policy != LISTING
    if rarely(meets or (order_type != LIMIT and order_type != POST_ONLY)):
        _set_in_flight(k, slot, limit, quantity, order_type)
    else:
        append(t.orders, t.levels, t.sides, t.bitmap, own, slot, level_of(t.sides, own, tick), quantity)
    return _ZERO, w + 1


@_shared
def _enter_unusual(address, w, c):
    """NEW that is not plain: all checks in their order. Returns w."""
    code, limit = _refusal(address, c)
    if code == 0:
        t = _tables(address)
        instrument = np.uint64(c.instrument)
        step = t.instruments[instrument].tick
        order_type = np.int64(c.order_type)
        code, w = _accept(
            t, t.market[_U0], t.control[_U0], w, c, instrument, np.uint64(c.side), order_type, limit, step
        )
    return w if code == 0 else _reject(address, w, c, code)


@_part
def _enter(address, t, m, k, w, c):
    """NEW: its checks, at a glance where it is plain, and `_accept`. Returns w."""
    instrument = np.uint64(c.instrument)
    if rarely(not _is_plain(t, m, k, t.instruments[instrument], c, instrument)):
        return _enter_unusual(address, w, c)
    code, after = _accept(t, m, k, w, c, instrument, np.uint64(c.side), np.int64(LIMIT), c.price, np.int64(1))
    if rarely(code != 0):  # which code it is need not be known here
        return _enter_unusual(address, w, c)
    return after


@_shared
def _change(address, w, c):
    """All commands but a new order and a cancel that `_own_order` finds. Returns w.

    The order that a command names is its account's own, unless it is a TAKE.
    """
    if c.kind == MASS_CANCEL or c.kind < CANCEL or c.kind > TAKE:
        return _begin_mass_cancel(address, w, c)
    t = _tables(address)
    slot = find(t.orders, t.pool, c.order_id)
    if slot == _U0 or t.orders[slot].account != c.account:
        code = _check_account_exists(t, t.market[_U0], c.account)
        if code != 0:
            return _reject(address, w, c, code)
        if slot == _U0 or c.kind != TAKE:
            return _reject(address, w, c, C_ORDER_NOT_OPEN)
    if c.kind == TAKE:
        return _take(address, w, c, slot)
    if c.kind == REPLACE:
        return _replace(address, w, c, slot)
    if c.time_ns >= t.control[_U0].cancel_until:
        return _reject(address, w, c, C_MARKET_CLOSED)
    if c.kind == REDUCE:
        return _reduce(address, w, c, slot)
    return _cancel(address, w, c, slot, c.request_no, R_BY_OWNER)


@_part
def _own_order(t, k, c):
    """Slot (u8) of the account's own open order that a command names, in hours for cancels; 0: `_change` says why."""
    given = np.uint64(c.order_id)
    slot = given & _LOW32
    slot = slot if slot <= np.uint64(k.last_slot) else _U0
    order = t.orders[slot]  # slot 0 has no leaves, ever
    if order.leaves <= 0 or np.uint64(order.generation) != given >> np.uint64(32) or order.account != c.account:
        return _U0
    return slot if c.time_ns < k.cancel_until else _U0


@_part
def _is_repeated(t, k, c):
    """Has the session sent this request before? If not, it is noted."""
    session = np.uint64(c.session)
    if session != _U0 and c.request_no != 0 and session < np.uint64(k.n_sessions):
        record = t.sessions[session]
        if c.request_no <= record.last_request:
            return True
        record.last_request = c.request_no
    return False


# --- matching -------------------------------------------------------------------------------------------------------


@_part
def _is_counted_out(t, m, i, maker, taker):
    """Has the vintage's turnover, or what the seller got for its sales, reached what a day can count (int64)?"""
    if m.accounts_on:
        seller = maker.account if maker.flags & 1 else taker.account
        if t.accounts[np.uint64(seller)].proceeds_today > TURNOVER_MAX_FEN:
            return True
    return i.amount > TURNOVER_MAX_FEN


@_shared
def _end(address, w, c, slot, price, rest, reason):
    """An incoming order ends without resting: its rest, if any, is cancelled and its lock given back. Returns w."""
    t = _tables(address)
    m = t.market[np.uint64(0)]
    order = t.orders[slot]
    if rest > 0:
        if m.accounts_on:
            order.leaves = rest
            _release_lock(t, m, slot, order.account, np.uint64(order.instrument), order.flags & 1, price, rest)
            order.leaves = 0
        w = _emit_order(t, w, c, E_CANCELLED, slot, price, rest, _ZERO, c.request_no, reason)
    if m.accounts_on:
        t.accounts[np.uint64(order.account)].open_orders -= 1
    _free(t, slot)
    return w


@_shared
def _match(address, w, c):
    """The order in flight against the opposite side: best level first, FIFO inside; then it rests, or it ends.

    Returns (w, status): DONE, or what is full.
    """
    t = _tables(address)
    m = t.market[_U0]
    k = t.control[_U0]
    slot = np.uint64(k.slot)
    order = t.orders[slot]
    instrument = np.uint64(order.instrument)
    i = t.instruments[instrument]
    own = np.uint64(2) * instrument + np.uint64(order.flags & 1)
    opposite = own ^ np.uint64(1)
    tick = _tick(i, k.price, i.tick)
    limit_level = level_of(t.sides, opposite, tick)
    rests = k.order_type == LIMIT or k.order_type == POST_ONLY
    reason = np.int64(-1) if rests else np.int64(R_IOC_REST)  # why its rest must not rest, -1: it may
    _warm_up(t, k)
    while k.leaves > 0 and i.policy != LISTING:
        best = np.uint64(t.sides[opposite].best)
        if best > limit_level:
            break
        if best != np.uint64(k.level):
            if i.best_levels != 0 and k.visited == i.best_levels:
                reason = np.int64(R_BEYOND_BEST_FIVE) if rests else reason
                break
            k.visited += 1
            k.level = np.int64(best)
        if w + ROOM > k.event_capacity:
            return w, np.int64(OUTPUT_FULL)
        if m.accounts_on and np.int64(m.deals) >= k.n_deals:
            return w, np.int64(DEALS_FULL)
        maker_slot = np.uint64(head_of(t.levels, t.sides, opposite, best))
        if m.self_trade_on and t.orders[maker_slot].account == order.account:
            mode = t.accounts[np.uint64(order.account)].self_trade if m.accounts_on else np.uint8(CANCEL_INCOMING)
            if mode != CANCEL_INCOMING:
                w = _cancel(address, w, c, maker_slot, np.uint32(0), R_SELF_TRADE)
            if mode != CANCEL_RESTING:
                reason = np.int64(R_SELF_TRADE)
                break
        elif _is_counted_out(t, m, i, t.orders[maker_slot], order):
            reason = np.int64(R_TURNOVER_LIMIT)
            break
        else:
            w, quantity = _deal(address, w, c, maker_slot, slot, k.price, k.leaves)
            k.leaves -= quantity
    if k.leaves > 0 and reason < 0:
        append(t.orders, t.levels, t.sides, t.bitmap, own, slot, level_of(t.sides, own, tick), k.leaves)
        return w, np.int64(DONE)
    return _end(address, w, c, slot, k.price, k.leaves, reason), np.int64(DONE)


@_part
def _look_ahead(t, k, here, last):
    """Asks the cache for what later commands will touch: first the order and the account, then what hangs on them.

    Without a branch, as a mispredicted one costs as much as the cache miss that it would save: a new order's
    ``order_id`` leads to slot 0 (or, where it is an expiry time, to some slot), which is harmless. ``here`` and
    ``last`` are the addresses of this command and of the batch's last one, which is looked at again at the end.
    """
    prefetch(rows_at(here + COMMANDS_AHEAD, COMMAND_IN), _U0)  # a prefetch beyond the end does nothing
    c = rows_at(min(here + LOOK_AHEAD, last), COMMAND_IN)[_U0]
    prefetch(t.accounts, np.uint64(c.account))
    prefetch(t.orders, np.uint64(c.order_id) & _LOW32)
    c = rows_at(min(here + LOOK_AHEAD // 2, last), COMMAND_IN)[_U0]
    order = t.orders[min(np.uint64(c.order_id) & _LOW32, np.uint64(k.last_slot))]
    prefetch(t.orders, np.uint64(order.next))
    prefetch(t.orders, np.uint64(order.prev))
    is_new = c.kind == NEW
    named, resting = np.uint64(c.instrument), np.uint64(order.instrument)
    instrument = named if is_new else resting
    prefetch(t.holdings, np.uint64(c.account) * np.uint64(k.n_instruments) + instrument)
    named, resting = np.uint64(c.side), np.uint64(order.flags & 1)
    s = np.uint64(2) * instrument + (named if is_new else resting)
    side = t.sides[min(s, np.uint64(k.last_side))]
    enters = np.uint64((np.uint32(c.price) ^ side.flip_mask) + side.ahead_add) & _LOW32
    rests = np.uint64(side.levels_offset) + np.uint64(order.level)
    prefetch(t.levels, enters if is_new else rests)


# --- the batch ----------------------------------------------------------------------------------------------------


@_part
def _go_on(address, w, c):
    """Goes on with what is in flight. Returns (w, status): DONE, and nothing is in flight any more, or what is full."""
    k = rows_at(address, CONTROL)[_U0]
    if k.stage == STAGE_MATCH:
        w, status = _match(address, w, c)
    else:
        w, finished = _mass_cancel(address, w, c)
        status = np.int64(DONE if finished else OUTPUT_FULL)
    if status == DONE:
        k.stage = STAGE_NONE
    return w, status


@_part
def _set_bounds(m, k, time_ns):
    """From when until when commands meet an open market, as it stands at ``time_ns``: no phase to look up for each.

    The hours of the morning or the afternoon in which `_check_market` finds nothing but a halted vintage; outside of
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


@_entry(int64(int64, int64, int64))
def run(address, commands_address, n):
    """Applies ``n`` COMMAND records. Returns CONTROL.status; consumed and written stand in CONTROL."""
    t = _tables(address)
    commands = rows_at(commands_address, COMMAND_IN)
    k = t.control[_U0]
    m = t.market[_U0]
    w = np.int64(0)
    status = np.int64(DONE)
    here = commands_address
    end = commands_address + n * RECORD_BYTES
    last = end - RECORD_BYTES
    last_written = k.event_capacity - ROOM
    _set_bounds(m, k, commands[_U0].time_ns if n > 0 else _ZERO)
    if k.stage != STAGE_NONE and n > 0:
        w, status = _go_on(address, w, commands[_U0])
        here += RECORD_BYTES if status == DONE else 0
    while here < end and status == DONE:
        c = rows_at(here, COMMAND_IN)[_U0]
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
        _look_ahead(t, k, here, last)
        if rarely(_is_repeated(t, k, c)):
            w = _reject(address, w, c, C_DUPLICATE_REQUEST)
        elif c.kind == NEW:
            w = _enter(address, t, m, k, w, c)
        else:
            slot = _own_order(t, k, c)
            if slot != _U0 and c.kind == CANCEL:
                w = _cancel_inlined(t, m, w, c, slot, c.request_no, R_BY_OWNER)
            else:
                w = _change(address, w, c)
        if rarely(k.stage != STAGE_NONE):
            w, status = _go_on(address, w, c)
            if status != DONE:
                break
        here += RECORD_BYTES
    begun = here if k.stage != STAGE_NONE else here - RECORD_BYTES
    if begun >= commands_address:
        copy_stamp(m, rows_at(begun, COMMAND_IN)[_U0])
    k.consumed = (here - commands_address) // RECORD_BYTES
    k.written = w
    k.status = status
    return status


@_entry(int64(int64, int64, int64, int64, int64, int64))
def sweep(address, command_address, account, session, instrument, reason):
    """Cancels open orders for a slow-lane command (close of the day, disconnect, operator); see `_sweep`.

    ``command_address`` is the COMMAND whose seq and time the events bear. Returns CONTROL.status; call again while
    it is OUTPUT_FULL. CONTROL.cursor must be 1 and count 0 at the first call.
    """
    k = _tables(address).control[np.uint64(0)]
    c = rows_at(command_address, COMMAND_IN)[np.uint64(0)]
    w, finished = _sweep(
        address, np.int64(0), c, account, session, instrument, np.int64(ANY_SIDE), reason, np.uint32(0)
    )
    k.written = w
    k.status = DONE if finished else OUTPUT_FULL
    return k.status
