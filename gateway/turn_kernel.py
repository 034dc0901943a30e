"""Machine code of a whole turn of the exchange: a plain group from the batch to its reports' way out (gateway.turn).

Each step is the one that Python takes for other groups (gateway.sequence), in the same order, by the same functions:
number and time, append to the journal, write and sync, engine, report store, sending, log, market data. What a step
cannot do here (no room, a deal table that is full, a report for several sessions) is left to Python, from there on.
"""

# mypy: ignore-errors
from __future__ import annotations

from typing import Final

import numpy as np
from numba import carray, int64, njit

from engine.book import array_at
from engine.journal.tail import TAIL, append_group, mark_durable
from engine.kernel import CONTROL, DONE
from engine.machine_code import entry
from engine.market import MARKET
from engine.records import COMMAND, EVENT, RECORD_BYTES
from gateway import commit_kernel as commit
from gateway import hot
from gateway.commit_kernel import _pointer
from gateway.feed_kernel import pick
from gateway.libzmq import call4

# How far a turn got.
NOTHING: Final = 0  # no room in the journal's buffer or segment
FAILED: Final = 1  # the disk reported ``error``: nothing may go on
DURABLE: Final = 2  # the engine stopped on the way: CONTROL says where, ``written`` events stand in its buffer
CARRIED_OUT: Final = 3  # the engine has done all; report store, log or market data need Python
REPORTED: Final = 4  # all of it

SESSIONS: Final = 1 << 16
CLOCK_REALTIME: Final = 0

TURN: Final = np.dtype(
    [
        (name, "<i8")
        for name in (
            # addresses of the journal's tail (TAIL) and the commit's record; the C library's functions
            "tail_at",
            "work_at",
            "f_pwrite",
            "f_fdatasync",
            "f_errno",
            "f_clock",
            # the engine: its kernel as a C function, CONTROL, its events
            "f_engine",
            "control_at",
            "events_at",
            # exchange time: that of the clock where it stands still, 0: the system's
            "standing_ns",
            # the report store (gateway.reports)
            "stored_at",
            "stored",
            "stored_room",
            "streams_at",
            "blocks_at",
            "previous_at",
            "used",
            "blocks_room",
            "marks_at",
            "touched_at",
            "copied_at",
            "copied",
            "rejects_at",
            # sending (gateway.lane)
            "socket",
            "f_send",
            "hot_at",
            "counts_at",
            "places_at",
            "places_room",
            "out_at",
            "out_bytes",
            "per_frame",
            "left_at",
            # the log of commands (gateway.batch)
            "log_at",
            "log_previous_at",
            "log_last_at",
            "log_kinds_at",
            "logged",
            "log_room",
            # market data (gateway.market_data)
            "deals_at",
            "deals",
            "deals_room",
            "moved_at",
            # what the turn found
            "received_ns",
            "time_ns",
            "commit_ns",
            "error",
            "written",
            "left",
            "first_seq",
        )
    ]
)
"""What a turn works on: addresses, rows in use, room; and what it found. Python writes it, and reads it afterwards."""


@njit(inline="always")
def _words(address, count):
    return carray(_pointer(address), (count,), np.uint64)


@njit
def _copy(source, target, records):
    """Copies 64-byte records."""
    words, out = _words(source, 8 * records), _words(target, 8 * records)
    for i in range(8 * records):
        out[i] = words[i]


@njit
def _exchange_ns(t):
    """Exchange time."""
    if t.standing_ns != 0:
        return t.standing_ns
    clock_at = t.work_at + 8 * commit.CLOCK
    call4(t.f_clock, CLOCK_REALTIME, clock_at, 0, 0)
    clock = carray(_pointer(clock_at), (2,), np.int64)
    return clock[0] * 1_000_000_000 + clock[1]


@njit
def _number(t, records_at, count):
    """Numbers and times the batch's records, as ``Batch.cut``."""
    head = array_at(array_at(t.control_at, 1, CONTROL)[0].market_at, 1, MARKET)[0]
    t.received_ns = _exchange_ns(t)
    t.time_ns = max(t.received_ns, np.int64(head.time_ns))
    seq = np.uint64(head.seq) + np.uint64(1)
    t.first_seq = np.int64(seq)
    hot.stamp(array_at(records_at, count, COMMAND), seq, t.time_ns)


@njit
def _commit(t):
    """Writes and syncs what the tail holds; errno, or 0 where it is durable."""
    tail = array_at(t.tail_at, 1, TAIL)[0]
    work = carray(_pointer(t.work_at), (commit.FIELDS,), np.int64)
    work[commit.FD], work[commit.OFFSET] = tail.fd, tail.offset + tail.durable
    work[commit.ADDRESS], work[commit.SIZE] = tail.buffer_at + tail.durable, tail.fill - tail.durable
    began_ns = commit._now_ns(work, t.f_clock)
    error = commit._write_and_sync(work, t.f_pwrite, t.f_fdatasync, t.f_errno)
    t.commit_ns = commit._now_ns(work, t.f_clock) - began_ns
    if error == 0:
        mark_durable(t.tail_at)
    return error


@njit
def _plain(events, copied):
    """True where each event is one session's, and no drop copy's: as ``hot.plain``, and nothing is counted."""
    for i in range(events.size):
        e = events[i]
        if e.session == 0 or e.kind == hot.NOTICE or (e.account < copied.size and copied[e.account] != 0):
            return False
    return True


@entry(int64(int64, int64, int64, int64), _nrt=True, error_model="python")
def turn(turn_at, records_at, count, mono_ns):
    """Takes a group of ``count`` >= 1 plain records at an address all the way; returns how far it got.

    mono_ns: monotonic time of this turn of the loop. No report leaves before the group is durable.
    """
    t = array_at(turn_at, 1, TURN)[0]
    _number(t, records_at, count)
    if not append_group(t.tail_at, records_at, count, t.time_ns):
        return NOTHING
    t.error = _commit(t)
    if t.error != 0:
        return FAILED
    status = call4(t.f_engine, t.control_at, records_at, count, 0)
    t.written = array_at(t.control_at, 1, CONTROL)[0].written
    if status != DONE:
        return DURABLE
    n = t.written
    events = array_at(t.events_at, n, EVENT)
    copied = carray(_pointer(t.copied_at), (t.copied,), np.uint8)
    if (
        t.stored + n > t.stored_room
        or t.used + n >= t.blocks_room
        or n > t.places_room
        or t.logged + count > t.log_room
        or t.deals + n > t.deals_room
        or not _plain(events, copied)
    ):
        return CARRIED_OUT
    _copy(t.events_at, t.stored_at + t.stored * RECORD_BYTES, n)
    hot.plain(events, copied, carray(_pointer(t.rejects_at), (256,), np.int64))
    streams = array_at(t.streams_at, SESSIONS, hot.STREAM)
    touched = carray(_pointer(t.touched_at), (SESSIONS,), np.uint16)
    used, n_touched = hot.index_events(
        events,
        t.stored,
        streams,
        carray(_pointer(t.blocks_at), (t.blocks_room, hot.BLOCK), np.uint32),
        carray(_pointer(t.previous_at), (t.blocks_room,), np.uint32),
        t.used,
        carray(_pointer(t.marks_at), (SESSIONS,), np.uint8),
        touched,
    )
    t.used = used
    t.stored += n
    t.left = 0
    if n > 0:
        t.left = hot.deliver(
            t.socket,
            t.f_send,
            array_at(t.hot_at, SESSIONS, hot.HOT),
            streams,
            events,
            touched[:n_touched],
            carray(_pointer(t.counts_at), (SESSIONS,), np.int64),
            carray(_pointer(t.places_at), (t.places_room,), np.int64),
            carray(_pointer(t.out_at), (t.out_bytes,), np.uint8),
            t.received_ns,
            _exchange_ns(t),
            mono_ns,
            t.per_frame,
            carray(_pointer(t.left_at), (SESSIONS,), np.uint16),
        )
    log_at = t.log_at + t.logged * RECORD_BYTES
    _copy(records_at, log_at, count)
    hot.link_commands(
        array_at(log_at, count, COMMAND),
        t.logged,
        carray(_pointer(t.log_previous_at), (t.log_room,), np.uint32),
        carray(_pointer(t.log_last_at), (SESSIONS,), np.uint32),
        carray(_pointer(t.log_kinds_at), (256,), np.int64),
    )
    t.logged += count
    t.deals, _ = pick(
        events, array_at(t.deals_at, t.deals_room, EVENT), t.deals, carray(_pointer(t.moved_at), (SESSIONS,), np.uint8)
    )
    return REPORTED


assert EVENT.itemsize == COMMAND.itemsize == RECORD_BYTES
