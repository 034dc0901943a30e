"""What the detectors know of the day: flat tables that one pass over the events keeps up, in machine code.

A look at the tables happens whenever the events' own time crosses a minute, never when a batch ends: the same
events lead to the same alerts however they were cut.
"""

# mypy: ignore-errors
from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from engine.codes import Reason
from engine.machine_code import native
from engine.records import ACCEPTED, BUY, CANCELLED, FILL_MAKER, FILL_TAKER, NO_ACCOUNT, NOTICE

BUCKETS: Final = 5  # minutes of order flow that are looked at together

SEEN: Final = np.dtype(
    [
        ("order_id", "<u8"),
        ("time_ns", "<i8"),
        ("price", "<i8"),
        ("quantity", "<i8"),
        ("seq", "<u8"),
        ("account", "<u4"),
        ("instrument", "<u2"),
        ("side", "u1"),
        ("pad", "u1"),
    ]
)
"""A live order as it was accepted, by slot (the low half of its id)."""

FLOW: Final = np.dtype(
    [("ordered_t", "<i8"), ("quick_t", "<i8"), ("filled_t", "<i8"), ("orders", "<i4"), ("quick", "<i4")]
)
"""One minute of an account's orders in an instrument and side; ``quick``: cancelled by their owner soon after."""

DAY: Final = np.dtype(
    [
        ("bought_t", "<i8"),
        ("bought_fen", "<i8"),
        ("sold_t", "<i8"),
        ("sold_fen", "<i8"),
        ("late_t", "<i8"),  # as the taker, in the last minutes
        ("late_fen", "<i8"),
        ("buys", "<i4"),
        ("sales", "<i4"),
        ("first_seq", "<u8"),
        ("last_seq", "<u8"),
    ]
)

PAIR: Final = np.dtype(
    [
        ("key", "<u8"),  # 0: free
        ("low_sells_t", "<i8"),  # the account with the lower number sells to the other
        ("low_sells_fen", "<i8"),
        ("high_sells_t", "<i8"),
        ("high_sells_fen", "<i8"),
        ("arranged_t", "<i8"),
        ("first_seq", "<u8"),
        ("last_seq", "<u8"),
        ("low_sales", "<i4"),
        ("high_sales", "<i4"),
        ("switches", "<i4"),
        ("arranged", "<i4"),
        ("direction", "<i4"),  # 1 low sold last, 2 high did
        ("pad", "<i4"),
    ]
)

VINTAGE: Final = np.dtype(
    [
        ("volume", "<i8"),
        ("amount", "<i8"),
        ("late_t", "<i8"),
        ("late_fen", "<i8"),
        ("last", "<i8"),
        ("high", "<i8"),
        ("low", "<i8"),
        ("deals", "<i8"),
        ("prices", "<i8", (BUCKETS,)),  # the last price at each of the last looks
    ]
)

DEALT: Final = np.dtype(
    [
        ("seq", "<u8"),
        ("time_ns", "<i8"),
        ("price", "<i8"),
        ("quantity", "<i8"),
        ("maker_order", "<u8"),
        ("taker_order", "<u8"),
        ("maker", "<u4"),
        ("taker", "<u4"),
        ("number", "<u4"),
        ("instrument", "<u2"),
        ("taker_side", "u1"),
        ("arranged", "u1"),
    ]
)
"""A deal of the day, as evidence."""

QUICK: Final = np.dtype(
    [
        ("order_id", "<u8"),
        ("seq", "<u8"),
        ("time_ns", "<i8"),
        ("quantity", "<i8"),
        ("accepted_seq", "<u8"),
        ("account", "<u4"),
        ("instrument", "<u2"),
        ("side", "u1"),
        ("pad", "u1"),
    ]
)
"""A quickly cancelled order, as evidence; a ring of the newest."""

STATE: Final = np.dtype(
    [
        ("bucket", "<i8"),
        ("late_ns", "<i8"),
        ("quick_ns", "<i8"),
        ("arranged_ns", "<i8"),
        ("deals", "<i8"),  # ever written to the ring of deals
        ("quicks", "<i8"),
        ("pairs", "<i8"),
        ("next_look_ns", "<i8"),
        ("events", "<i8"),
        ("maker_order", "<u8"),
        ("maker_order_t", "<i8"),  # as it was entered
        ("maker", "<u4"),
        ("maker_arranges", "<u4"),
    ]
)

BY_OWNER: Final = int(Reason.BY_OWNER)
MASS_CANCEL: Final = int(Reason.MASS_CANCEL)
ACCOUNT_BITS: Final = 28  # account numbers in a pair's key; the engine's capacity ends at 2^24

# Why collect() came back.
END: Final = 0
LOOK: Final = 1  # the event at this place lies behind the next look
AT_NOTICE: Final = 2
ROOM: Final = 3  # the tables are too small for the event at this place, or one behind it


@njit(inline="always")
def _hash(key, mask):
    h = key * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((h >> np.uint64(32)) & np.uint64(mask))


@native()
def pair_row(pairs, key):
    """The row of a key, or the free row where it belongs (open addressing; the table is never full)."""
    mask = pairs.size - 1
    at = _hash(key, mask)
    while pairs[at].key != np.uint64(0) and pairs[at].key != key:
        at = (at + 1) & mask
    return at


@native()
def rehash(old, new):
    """Moves all pairs into a larger table."""
    for i in range(old.size):
        if old[i].key != np.uint64(0):
            new[pair_row(new, old[i].key)] = old[i]


@native()
def highest(events):
    """The highest account, instrument and order slot in EVENT[n], as three numbers: how large the tables must be."""
    account = instrument = slot = np.int64(0)
    for i in range(events.size):
        e = events[i]
        if e.account != NO_ACCOUNT:
            account = max(account, np.int64(e.account))
        if e.kind != NOTICE:
            instrument = max(instrument, np.int64(e.instrument))
        slot = max(slot, np.int64(e.order_id & np.uint64(0xFFFFFFFF)))
    return account, instrument, slot


@native(nogil=True)
def collect(events, start, orders, flow, day, pairs, vintages, deals, quicks, state):
    """Takes events[start:] into the tables; returns (next place, END | LOOK | AT_NOTICE | ROOM).

    orders SEEN[slots], flow FLOW[BUCKETS, accounts, instruments, 2], day DAY[accounts, instruments], pairs
    PAIR[2^n], vintages VINTAGE[instruments], deals DEALT[2^n] and quicks QUICK[2^n] rings, state STATE[1].
    Stops when the table of pairs is half full, too (the caller makes it larger): that is an END before the end.
    """
    s = state[0]
    # outside the loop: what is written in it may lie anywhere, so that all of this would be read again for each event
    bucket, next_look_ns, quick_ns = s.bucket, s.next_look_ns, s.quick_ns
    slots, accounts, instruments = orders.size, day.shape[0], day.shape[1]
    i = start
    while i < events.size:
        e = events[i]
        kind = e.kind
        if e.time_ns >= next_look_ns:  # a notice crosses the minute as well as an order
            return i, LOOK
        if kind == NOTICE:
            return i, AT_NOTICE
        slot = np.int64(e.order_id & np.uint64(0xFFFFFFFF))
        known = slot < slots and e.instrument < instruments
        if not known or (e.account >= accounts and e.account != NO_ACCOUNT):
            return i, ROOM
        if kind == ACCEPTED:
            o = orders[slot]
            o.order_id, o.time_ns, o.price, o.quantity = e.order_id, e.time_ns, e.price, e.quantity
            o.seq, o.account, o.instrument, o.side = e.seq, e.account, e.instrument, e.side
            f = flow[bucket, e.account, e.instrument, e.side]
            f.ordered_t += e.quantity
            f.orders += 1
        elif kind == CANCELLED:
            o = orders[slot]
            own = e.reason == BY_OWNER or e.reason == MASS_CANCEL
            if own and o.order_id == e.order_id and e.time_ns - o.time_ns <= quick_ns:
                f = flow[bucket, e.account, e.instrument, o.side]
                f.quick_t += e.quantity
                f.quick += 1
                q = quicks[s.quicks & (quicks.size - 1)]
                q.order_id, q.seq, q.time_ns, q.quantity = e.order_id, e.seq, e.time_ns, e.quantity
                q.accepted_seq, q.account, q.instrument, q.side = o.seq, e.account, e.instrument, o.side
                s.quicks += 1
        elif kind == FILL_MAKER:
            s.maker, s.maker_order = e.account, e.order_id
            flow[bucket, e.account, e.instrument, e.side].filled_t += e.quantity
            o = orders[slot]
            s.maker_arranges = 0
            if o.order_id == e.order_id:
                s.maker_arranges = np.uint32(e.time_ns - o.time_ns <= s.arranged_ns)
                s.maker_order_t = o.quantity
        elif kind == FILL_TAKER:
            if 2 * s.pairs >= pairs.size:
                return i, END
            _deal(e, orders, flow, day, pairs, vintages, deals, s, bucket)
        i += 1
    return i, END


@native()
def _deal(e, orders, flow, day, pairs, vintages, deals, s, bucket):
    """One deal, at its taker's event; the maker's came right before."""
    amount = e.price * e.quantity
    flow[bucket, e.account, e.instrument, e.side].filled_t += e.quantity
    taker_order = orders[np.int64(e.order_id & np.uint64(0xFFFFFFFF))]
    # equal as they were entered: a stranger's order may have caught a part of either
    arranged = s.maker_arranges != 0 and taker_order.order_id == e.order_id
    arranged = arranged and taker_order.quantity == s.maker_order_t
    if e.side == BUY:
        buyer, seller = e.account, s.maker
    else:
        buyer, seller = s.maker, e.account
    b = day[buyer, e.instrument]
    b.bought_t += e.quantity
    b.bought_fen += amount
    b.buys += 1
    if b.first_seq == np.uint64(0):
        b.first_seq = e.seq
    b.last_seq = e.seq
    c = day[seller, e.instrument]
    c.sold_t += e.quantity
    c.sold_fen += amount
    c.sales += 1
    if c.first_seq == np.uint64(0):
        c.first_seq = e.seq
    c.last_seq = e.seq
    v = vintages[e.instrument]
    v.volume += e.quantity
    v.amount += amount
    v.deals += 1
    v.last = e.price
    v.high = max(v.high, e.price)
    v.low = e.price if v.low == 0 else min(v.low, e.price)
    if e.time_ns >= s.late_ns:
        v.late_t += e.quantity
        v.late_fen += amount
        d = day[e.account, e.instrument]
        d.late_t += e.quantity
        d.late_fen += amount
    low, high = min(buyer, seller), max(buyer, seller)
    key = (np.uint64(e.instrument) << np.uint64(2 * ACCOUNT_BITS)) | (np.uint64(low) << np.uint64(ACCOUNT_BITS))
    key = (key | np.uint64(high)) + np.uint64(1)  # never the free row's 0
    p = pairs[pair_row(pairs, key)]
    if p.key == np.uint64(0):
        p.key, p.first_seq = key, e.seq
        s.pairs += 1
    p.last_seq = e.seq
    direction = 1 if seller == low else 2
    if p.direction != 0 and p.direction != direction:
        p.switches += 1
    p.direction = direction
    if direction == 1:
        p.low_sells_t += e.quantity
        p.low_sells_fen += amount
        p.low_sales += 1
    else:
        p.high_sells_t += e.quantity
        p.high_sells_fen += amount
        p.high_sales += 1
    if arranged:
        p.arranged += 1
        p.arranged_t += e.quantity
    r = deals[s.deals & (deals.size - 1)]
    r.seq, r.time_ns, r.price, r.quantity = e.seq, e.time_ns, e.price, e.quantity
    r.maker_order, r.taker_order, r.maker, r.taker = s.maker_order, e.order_id, s.maker, e.account
    r.number, r.instrument, r.taker_side, r.arranged = e.ref, e.instrument, e.side, np.uint8(arranged)
    s.deals += 1


@native()
def layering_candidates(flow, cancels, least_t, cancel_percent, opposite_t, balance_percent, out):
    """(account, instrument, side) of conspicuous order-and-cancel in the last minutes; returns how many."""
    found = 0
    for a in range(flow.shape[1]):
        for i in range(flow.shape[2]):
            for side in range(2):
                quick = quick_t = ordered = filled = opposite = other_quick_t = 0
                for b in range(flow.shape[0]):
                    f, g = flow[b, a, i, side], flow[b, a, i, 1 - side]
                    quick += f.quick
                    quick_t += f.quick_t
                    ordered += f.ordered_t
                    filled += f.filled_t
                    opposite += g.filled_t
                    other_quick_t += g.quick_t
                if (
                    quick >= cancels
                    and quick_t >= least_t
                    and 100 * quick_t >= cancel_percent * ordered
                    and opposite >= opposite_t
                    and 10 * filled <= quick_t
                    and 100 * other_quick_t <= balance_percent * quick_t
                    and found < out.shape[0]
                ):
                    out[found, 0], out[found, 1], out[found, 2], out[found, 3] = a, i, side, quick_t
                    found += 1
    return found


@native()
def pair_candidates(pairs, day, round_trip_t, switches, share_percent, arranged, each_way, transfer_fen, out):
    """Rows of pairs that trade back and forth and mostly with each other, that look arranged, or between which money
    may have gone; returns how many. The money is estimated from whole fen per t, never too low: the judgement is
    exact. day DAY[accounts, instruments]."""
    found = 0
    for i in range(pairs.size):
        p = pairs[i]
        if p.key == np.uint64(0):
            continue
        least = min(p.low_sells_t, p.high_sells_t)
        both = least >= round_trip_t and p.switches >= switches
        if both:
            key = np.int64(p.key - np.uint64(1))
            instrument = key >> (2 * ACCOUNT_BITS)
            a = day[(key >> ACCOUNT_BITS) & ((1 << ACCOUNT_BITS) - 1), instrument]
            b = day[key & ((1 << ACCOUNT_BITS) - 1), instrument]
            busier = max(a.bought_t + a.sold_t, b.bought_t + b.sold_t)
            both = 100 * (p.low_sells_t + p.high_sells_t) >= share_percent * busier
        money = least > 0 and min(p.low_sales, p.high_sales) >= each_way
        if money:
            apart = abs(p.low_sells_fen // p.low_sells_t - p.high_sells_fen // p.high_sells_t) + 1
            money = least * apart >= transfer_fen
        if (both or money or p.arranged >= arranged) and found < out.size:
            out[found] = i
            found += 1
    return found


@native()
def ring_edges(pairs, day, ring_t, share_percent, out):
    """(instrument, seller, buyer, t) of one-way flows that are much of what both their ends trade; returns how many.

    day DAY[accounts, instruments]. A flow counts where it is at least ``ring_t`` and that share of all that its seller
    sold and of all that its buyer bought: a market maker, who deals with everybody, has none.
    """
    found = 0
    for i in range(pairs.size):
        p = pairs[i]
        if p.key == np.uint64(0) or max(p.low_sells_t, p.high_sells_t) < ring_t:
            continue
        key = np.int64(p.key - np.uint64(1))
        instrument = key >> (2 * ACCOUNT_BITS)
        low, high = (key >> ACCOUNT_BITS) & ((1 << ACCOUNT_BITS) - 1), key & ((1 << ACCOUNT_BITS) - 1)
        for way in range(2):
            t = p.low_sells_t if way == 0 else p.high_sells_t
            seller, buyer = (low, high) if way == 0 else (high, low)
            if (
                t >= ring_t
                and 100 * t >= share_percent * day[seller, instrument].sold_t
                and 100 * t >= share_percent * day[buyer, instrument].bought_t
                and found < out.shape[0]
            ):
                out[found, 0], out[found, 1], out[found, 2], out[found, 3] = instrument, seller, buyer, t
                found += 1
    return found


@native()
def take_back(deals, count, number, day, pairs, vintages, late_ns):
    """A listed deal that was cancelled (D28) leaves the day's tables; returns whether it was still kept."""
    kept = min(count, deals.size)
    at = -1
    for i in range(kept):
        if deals[i].number == number and deals[i].quantity > 0:
            at = i
    if at < 0:
        return False
    r = deals[at]
    amount = r.price * r.quantity
    buyer, seller = (r.taker, r.maker) if r.taker_side == BUY else (r.maker, r.taker)
    b, c, v = day[buyer, r.instrument], day[seller, r.instrument], vintages[r.instrument]
    b.bought_t -= r.quantity
    b.bought_fen -= amount
    b.buys -= 1
    c.sold_t -= r.quantity
    c.sold_fen -= amount
    c.sales -= 1
    v.volume -= r.quantity
    v.amount -= amount
    v.deals -= 1
    if r.time_ns >= late_ns:
        v.late_t -= r.quantity
        v.late_fen -= amount
        d = day[r.taker, r.instrument]
        d.late_t -= r.quantity
        d.late_fen -= amount
    low, high = min(buyer, seller), max(buyer, seller)
    key = (np.uint64(r.instrument) << np.uint64(2 * ACCOUNT_BITS)) | (np.uint64(low) << np.uint64(ACCOUNT_BITS))
    p = pairs[pair_row(pairs, (key | np.uint64(high)) + np.uint64(1))]
    if seller == low:
        p.low_sells_t -= r.quantity
        p.low_sells_fen -= amount
        p.low_sales -= 1
    else:
        p.high_sells_t -= r.quantity
        p.high_sells_fen -= amount
        p.high_sales -= 1
    if r.arranged != 0:
        p.arranged -= 1
        p.arranged_t -= r.quantity
    instrument = r.instrument
    r.quantity = 0
    r.instrument = 0xFFFF  # no longer evidence of anything
    newest = np.int64(-1)
    v.high = v.low = 0
    for i in range(kept):
        if deals[i].instrument == instrument:
            v.high = max(v.high, deals[i].price)
            v.low = deals[i].price if v.low == 0 else min(v.low, deals[i].price)
            if newest < 0 or deals[i].number > deals[newest].number:
                newest = i
    v.last = deals[newest].price if newest >= 0 else 0
    return True
