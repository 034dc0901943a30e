"""The two fixed records: what goes into the engine (COMMAND) and what comes out (EVENT).

Both are 64 bytes, little-endian, one cache line, with no padding. A command is the same bytes in the
member's message, in the journal and in the kernel; decoding is a numpy view. The layouts are published
in docs/protocol.md (D1) and never change without a new ``RECORD_VERSION``.

COMMAND::

      byte  0         8         16        24        32         40        48
            +---------+---------+---------+---------+----------+---------+
            | seq     | time_ns | price   | quantity| order_id | token   |
            | u64     | i64     | i64     | i64     | u64      | u64     |
            +---------+---------+---------+---------+----------+---------+
      byte  48           52        56        58           60     61     62           63      64
            +------------+---------+---------+------------+------+------+------------+-------+
            | request_no | account | session | instrument | kind | side | order_type | flags |
            | u32        | u32     | u16     | u16        | u8   | u8   | u8         | u8    |
            +------------+---------+---------+------------+------+------+------------+-------+

EVENT::

    seq 0 (u64), time_ns 8 (i64), price 16 (i64), quantity 24 (i64), leaves 32 (i64), order_id 40 (u64),
    account 48 (u32), ref 52 (u32), session 56 (u16), instrument 58 (u16), kind 60 (u8), side 61 (u8),
    reason 62 (u16)

Units: price in fen per tonne (or ticks of another market), quantity in tonnes, time in ns UTC.

A client sends ``seq``, ``time_ns`` and ``account`` as zero; the exchange fills them (D1). ``token`` is the
login token of the session and is zeroed before the record is journaled. ``session`` is filled by the
exchange from the CURVE key.

A slow-lane command (MessagePack: desk, auction, operators, transfers) is a COMMAND of kind ``MESSAGE``
whose ``quantity`` is the length in bytes of its payload; payloads are kept beside the records, in order,
without separators. An EVENT of kind ``NOTICE`` carries a MessagePack payload in the same way.
"""

from __future__ import annotations

from typing import Final

import numpy as np

RECORD_VERSION: Final = 1
RECORD_BYTES: Final = 64

COMMAND: Final = np.dtype(
    [
        ("seq", "<u8"),
        ("time_ns", "<i8"),
        ("price", "<i8"),
        ("quantity", "<i8"),
        ("order_id", "<u8"),
        ("token", "<u8"),
        ("request_no", "<u4"),
        ("account", "<u4"),
        ("session", "<u2"),
        ("instrument", "<u2"),
        ("kind", "u1"),
        ("side", "u1"),
        ("order_type", "u1"),
        ("flags", "u1"),
    ]
)

EVENT: Final = np.dtype(
    [
        ("seq", "<u8"),
        ("time_ns", "<i8"),
        ("price", "<i8"),
        ("quantity", "<i8"),
        ("leaves", "<i8"),
        ("order_id", "<u8"),
        ("account", "<u4"),
        ("ref", "<u4"),
        ("session", "<u2"),
        ("instrument", "<u2"),
        ("kind", "u1"),
        ("side", "u1"),
        ("reason", "<u2"),
    ]
)

assert COMMAND.itemsize == RECORD_BYTES and EVENT.itemsize == RECORD_BYTES

# Command kinds (COMMAND.kind). Zero is never valid, so that a zeroed record is refused.
NEW: Final = 1  # price, quantity, side, order_type
CANCEL: Final = 2  # order_id
REDUCE: Final = 3  # order_id, quantity = by how much; keeps priority
REPLACE: Final = 4  # order_id, price, quantity = new total, what is filled included (D11)
MASS_CANCEL: Final = 5  # instrument (ANY_INSTRUMENT: all), side (ANY_SIDE: both), of the account
TAKE: Final = 6  # order_id of the listing, quantity; `listing` policy only (R8.4)
MESSAGE: Final = 7  # a MessagePack payload of `quantity` bytes follows beside the records

ANY_INSTRUMENT: Final = 0xFFFF
NO_ACCOUNT: Final = 0xFFFFFFFF  # an event that concerns the market, not one account

# Sides
BUY: Final = 0
SELL: Final = 1
ANY_SIDE: Final = 2  # mass cancel only

# Order types (COMMAND.order_type)
LIMIT: Final = 0  # good for the day's trading hours (R5.2)
IOC: Final = 1  # immediate or cancel
FOK: Final = 2  # fill or kill, fillable inside the best five (D12)
BEST_FIVE: Final = 3  # the best five levels, the rest is cancelled; price 0 means the day's limit
POST_ONLY: Final = 4  # refused when it would trade

# COMMAND.flags
EXPIRES: Final = 1  # NEW only: order_id holds a time (ns UTC) after which the command is stale

# Event kinds (EVENT.kind)
ACCEPTED: Final = 1  # a new order took effect; quantity = leaves = ordered; ref = request_no
REJECTED: Final = 2  # a command was refused, nothing changed; reason = reject code; ref = request_no
FILL_MAKER: Final = 3  # the resting side of a deal; ref = deal number of the day
FILL_TAKER: Final = 4  # the incoming side of the same deal, always right after its FILL_MAKER
CANCELLED: Final = 5  # quantity = what was taken away, leaves = 0; reason says who or why
REDUCED: Final = 6  # quantity = taken away, leaves = what stays; ref = request_no
REPLACED: Final = 7  # price = new, quantity = new total, leaves = new leaves; ref = request_no
MASS_CANCELLED: Final = 8  # summary after the single CANCELLED events; quantity = number of orders
NOTICE: Final = 9  # MessagePack payload of `quantity` bytes beside the events
