"""The kernel's view of the market: all tables as rows at their addresses, and what is looked up in several of them."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from engine.book import BOOK_SIDE, LEVEL, ORDER, ORDER_COLD, POOL, primitive, tick_of
from engine.kernel.control import CONTROL
from engine.machine_code import part
from engine.market import ACCOUNT, CONTINUOUS, CONTROL_ROOM, DEAL, HEAD, HOLDING, INSTRUMENT, MARKET, SESSION
from engine.records import COMMAND, EVENT, LIMIT
from engine.rows import Rows, rows_at

FLAG_POST_ONLY: Final = 2  # ORDER.flags bit 1; bit 0 is the side
LOW32: Final = np.uint64(0xFFFFFFFF)
ZERO: Final = np.int64(0)
U0: Final = np.uint64(0)
FLAG_FILLED: Final = 4  # ORDER.flags bit 2: ORDER_COLD is in use (else it is zero, and its cache line is left alone)


def _with_words(dtype: np.dtype, size: int = 4, **words: str) -> np.dtype:
    """The same record with words of ``size`` bytes that begin at a field and span those after it, for one access."""
    assert dtype.fields is not None
    formats = [(name, *dtype.fields[name][:2]) for name in dtype.fields]
    formats += [(word, np.dtype(f"<u{size}"), dtype.fields[first][1]) for word, first in words.items()]
    names, types, offsets = zip(*formats, strict=True)
    return np.dtype({"names": names, "formats": types, "offsets": offsets, "itemsize": dtype.itemsize})


# place: session, instrument (and of an order its flags); form: kind, side, order type, flags (of an event: reason).
# Parties: who it is about, and the request's number; tail: place and form.
COMMAND_IN: Final = _with_words(
    _with_words(COMMAND, place="session", form="kind"), 8, parties="request_no", tail="session"
)
EVENT_OUT: Final = _with_words(_with_words(EVENT, place="session", form="kind"), 8, parties="account", tail="session")
ORDER_ROW: Final = _with_words(ORDER, place="session")
INSTRUMENT_ROW: Final = _with_words(INSTRUMENT, state="listed")
PLACE_MASK: Final = np.uint32(0x00FFFFFF)  # ORDER.place without its flags is EVENT.place
PLACE_FILLED: Final = np.uint32(FLAG_FILLED << 24)
assert CONTINUOUS == 0 and LIMIT == 0 and INSTRUMENT.fields is not None and INSTRUMENT.fields["listed"][1] % 4 == 0
assert HEAD.fields is not None and CONTROL.itemsize <= CONTROL_ROOM
HEAD_BEFORE: Final = HEAD.itemsize
POOL_BEFORE: Final = HEAD.itemsize - HEAD.fields["pool"][1]  # bytes before the control record


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
def tables_at(control_address):
    """All tables, as rows at the addresses that stand in the control record; MARKET and POOL stand before it."""
    control = rows_at(control_address, CONTROL)
    k = control[np.uint64(0)]
    return Tables(
        control,
        rows_at(control_address - HEAD_BEFORE, MARKET),
        rows_at(k.accounts_at, ACCOUNT),
        rows_at(k.holdings_at, HOLDING),
        rows_at(k.instruments_at, INSTRUMENT_ROW),
        rows_at(k.sessions_at, SESSION),
        rows_at(k.deals_at, DEAL),
        rows_at(k.orders_at, ORDER_ROW),
        rows_at(k.cold_at, ORDER_COLD),
        rows_at(control_address - POOL_BEFORE, POOL),
        rows_at(k.sides_at, BOOK_SIDE),
        rows_at(k.levels_at, LEVEL),
        rows_at(k.bitmap_at, np.uint64),
        rows_at(k.events_at, EVENT_OUT),
    )


@part
def price_of(t, s, level):
    """Price of a level of side record ``s``."""
    i = t.instruments[np.uint64(s) >> np.uint64(1)]
    return i.band_base + np.int64(tick_of(t.sides, s, level)) * i.tick


@part
def holding_of(t, account, instrument):
    """The record of an account's holding of an instrument."""
    return t.holdings[np.uint64(account) * np.uint64(t.control[np.uint64(0)].n_instruments) + np.uint64(instrument)]


@part
def tick_at(i, price, step):
    """Level-independent index of a price in the band of instrument ``i``, whose tick is ``step``."""
    offset = price - i.band_base
    return np.uint64(offset if step == 1 else offset // step)
