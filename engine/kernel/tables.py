"""The kernel's view of the market: all tables as rows at their addresses, and what is looked up in several of them."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

from engine.book import BOOK_SIDE, LEVEL, ORDER, ORDER_COLD, POOL, tick_of
from engine.kernel.control import CONTROL
from engine.machine_code import part
from engine.market import ACCOUNT, CONTINUOUS, CONTROL_ROOM, DEAL, HEAD, HOLDING, INSTRUMENT, MARKET, SESSION
from engine.records import COMMAND, EVENT, LIMIT
from engine.rows import Rows

_intrinsic: Any = intrinsic  # untyped: numba's annotation would demand the typing context of every caller

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


_ROWS: Final = {
    "market": MARKET,
    "accounts": ACCOUNT,
    "holdings": HOLDING,
    "instruments": INSTRUMENT_ROW,
    "sessions": SESSION,
    "deals": DEAL,
    "orders": ORDER_ROW,
    "cold": ORDER_COLD,
    "pool": POOL,
    "sides": BOOK_SIDE,
    "levels": LEVEL,
    "bitmap": np.dtype("<u8"),
    "events": EVENT_OUT,
}
"""What stands at each of CONTROL's addresses."""

_BEFORE: Final = {"market": HEAD_BEFORE, "pool": POOL_BEFORE}


@_intrinsic
def tables_at(typingctx, control_address):
    """All tables, as rows at the addresses that stand in the control record; MARKET and POOL stand before it.

    Written in LLVM's code: sixteen functions begin with it, and numba would take it apart in each of them.
    """
    record: Any = from_dtype(CONTROL)
    control = Rows(record)
    rows = [Rows(from_dtype(dtype)) for dtype in _ROWS.values()]
    tables = types.NamedTuple([control, *rows], Tables)

    def codegen(context, builder, signature, values):
        first = builder.inttoptr(values[0], context.get_value_type(control))
        pointers = [first]
        for name, kind in zip(_ROWS, rows, strict=True):
            if name in _BEFORE:
                address = builder.sub(values[0], values[0].type(_BEFORE[name]))
            else:
                place = cgutils.get_record_member(builder, first, record.offset(f"{name}_at"), ir.IntType(64))
                address = builder.load(place, align=1)
            pointers.append(builder.inttoptr(address, context.get_value_type(kind)))
        return context.make_tuple(builder, tables, pointers)

    return tables(types.int64), codegen


assert Tables._fields == ("control", *_ROWS)


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
