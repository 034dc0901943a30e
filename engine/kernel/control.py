"""CONTROL: the one record by which a batch goes in and out of machine code, and where the order in flight stands."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Final

import numpy as np

from engine.book import NIL
from engine.machine_code import part

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
    ]
)
"""Addresses and sizes of all tables, what the last call did, and the command in flight."""


@part
def set_in_flight(k, slot, limit, leaves, order_type):
    """The order in ``slot`` is to match next."""
    k.stage = STAGE_MATCH
    k.slot = np.int64(slot)
    k.price = limit
    k.leaves = leaves
    k.order_type = order_type
    k.visited = 0
    k.level = np.int64(NIL)
