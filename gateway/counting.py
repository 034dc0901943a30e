"""Counts of a group for the metrics, in machine code, while its records are still in the processor's cache.

A pass over a second's records once a second would touch some tens of megabytes at the full rate, and every member
would wait for it; group by group it costs about a nanosecond a record.
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np
from numba import int64, njit, types, void

from engine.records import RECORD_BYTES, REJECTED

KIND_AT = 60  # byte of `kind` in a COMMAND and in an EVENT
REASON_AT = 62  # low byte of an EVENT's `reason`: no code is above 255

_octets = types.Array(types.uint8, 1, "C", readonly=True)  # takes what may be written as well
_table = types.Array(int64, 1, "C")


@njit(void(_octets, _octets, _table, _table), cache=True)
def _count(commands, events, kinds, rejects):
    last, run = 0, 0  # runs of one kind are the rule: a table's cell that is written again at once would be waited for
    for at in range(KIND_AT, commands.size, RECORD_BYTES):
        kind = int64(commands[at])
        if kind != last:
            kinds[last] += run
            last, run = kind, 0
        run += 1
    kinds[last] += run
    for at in range(KIND_AT, events.size, RECORD_BYTES):
        if events[at] == REJECTED:
            rejects[events[at + REASON_AT - KIND_AT]] += 1


def count(commands: np.ndarray, events: np.ndarray, kinds: np.ndarray, rejects: np.ndarray) -> None:
    """Adds a group. commands COMMAND[n], events EVENT[m], contiguous; kinds and rejects int64[256], by number."""
    _count(commands.view(np.uint8), events.view(np.uint8), kinds, rejects)
