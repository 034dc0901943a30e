"""A whole turn in machine code: what a lone order waits for besides the disk is a few thousand instructions.

After the wait for the disk, each step that Python takes is cold: seven of them cost a lone order more than the commit
itself. So a group of plain orders that is committed in the loop's own thread goes all the way in one call
(gateway.turn_kernel), without the interpreter's lock. Python does what the rest of the process must know of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from engine import kernel
from engine.journal import Journal
from engine.machine_code import entry_address
from engine.words import word_of, words
from gateway import turn_kernel as k
from gateway.clock import RealClock, SteppedClock
from gateway.commit import available, c_functions
from gateway.commit_kernel import C_FUNCTIONS, FIELDS
from gateway.protocol import REPORTS_PER_FRAME
from gateway.turn_kernel import TURN

if TYPE_CHECKING:
    from gateway.core import Core
    from gateway.lane import HotLane

_W: Final = {name: word_of(TURN, name) for name in TURN.names or ()}
_STANDING, _STORED, _USED, _LOGGED, _DEALS = (_W[n] for n in ("standing_ns", "stored", "used", "logged", "deals"))
_RECEIVED, _TIME, _COMMIT, _ERROR = (_W[n] for n in ("received_ns", "time_ns", "commit_ns", "error"))
_WRITTEN, _LEFT, _FIRST_SEQ = (_W[n] for n in ("written", "left", "first_seq"))


class Tail(Protocol):
    """What a turn asks of the journal (engine.journal.Journal)."""

    lent: bool

    def lend(self) -> np.ndarray: ...

    def lane_failed(self, error: OSError) -> None: ...


class Turn:
    """Takes a core's plain batches all the way. For a journal on a disk with descriptors, and a hot lane."""

    def __init__(self, core: Core, journal: Tail, lane: HotLane, functions: dict[str, int]) -> None:
        """``functions``: addresses of C_FUNCTIONS by name."""
        self._core, self._journal, self._lane = core, journal, lane
        self.committed: Callable[[int], None] = lambda took_ns: None  # metrics: a commit took so long
        self._work = np.zeros(FIELDS, np.int64)
        self._record = np.zeros(1, TURN)
        self._at = self._record.ctypes.data
        self._figures = words(self._record)
        t = self._record[0]
        for name in ("pwrite", "fdatasync"):
            t[f"f_{name}"] = functions[name]
        t["f_errno"], t["f_clock"] = functions["__errno_location"], functions["clock_gettime"]
        t["work_at"], t["f_engine"] = self._work.ctypes.data, entry_address(kernel.run)
        control, events = core.exchange.hot_lane()
        t["control_at"], t["events_at"] = control.ctypes.data, events.ctypes.data
        self._places = np.zeros(len(events), np.int64)
        self._bound: tuple[object, ...] = ()
        self._bind()
        self.turns = self.handed_over = 0  # groups taken all the way; left to Python when they were durable

    def _bind(self) -> None:
        """Writes down where things are; after any of them has moved."""
        core, t = self._core, self._record[0]
        store, log, publisher = core.store, core.log, core.publisher
        assert publisher is not None, "made before the first member comes"
        lane = self._lane
        self._bound = (store.events, store.blocks, store.copied, log.records, publisher.deals)
        addresses = {
            "stored": store.events,
            "streams": store.streams,
            "blocks": store.blocks,
            "previous": store.previous,
            "marks": store._marks,
            "touched": store._touched,
            "copied": store.copied,
            "rejects": store.rejects,
            "hot": core.hot,
            "counts": lane._counts,
            "places": self._places,
            "out": lane._out,
            "left": lane._left,
            "log": log.records,
            "log_previous": log.previous,
            "log_last": log.last,
            "log_kinds": log.kinds,
            "deals": publisher.deals,
            "moved": publisher._touched,
        }
        for name, array in addresses.items():
            assert array.flags["C_CONTIGUOUS"], name
            t[f"{name}_at"] = array.ctypes.data
        t["stored_room"], t["blocks_room"], t["copied"] = len(store.events), len(store.blocks), len(store.copied)
        t["log_room"], t["deals_room"], t["places_room"] = len(log.records), len(publisher.deals), len(self._places)
        t["socket"], t["f_send"], t["out_bytes"] = lane._socket, lane._f_send, lane._out.size
        t["per_frame"] = REPORTS_PER_FRAME

    def _moved(self) -> bool:
        core, (events, blocks, copied, records, deals) = self._core, self._bound
        store, publisher = core.store, core.publisher
        return not (
            store.events is events
            and store.blocks is blocks
            and store.copied is copied
            and core.log.records is records
            and publisher is not None
            and publisher.deals is deals
        )

    def __call__(self) -> bool:
        """Takes the batch all the way. False: nothing was done, Python's way is free. Raises JournalFailed."""
        core, f, journal = self._core, self._figures, self._journal
        batch, store, log, publisher = core.batch, core.store, core.log, core.publisher
        assert core.pending is None and not batch.payloads, "plain records, and nothing before them under way"
        if publisher is None:
            return False
        if self._moved():
            self._bind()
        if not journal.lent:
            self._record[0]["tail_at"] = journal.lend().ctypes.data
        clock = core.clock
        f[_STANDING] = clock.time_ns if isinstance(clock, SteppedClock) else 0
        f[_STORED], f[_USED], f[_LOGGED], f[_DEALS] = store.count, store.used, log.count, publisher.n_deals
        count = batch.count
        how_far = k.turn(self._at, batch.address, count, core.mono_ns)
        if how_far == k.NOTHING:
            return False
        if how_far == k.FAILED:
            error = f[_ERROR]
            journal.lane_failed(OSError(error, os.strerror(error)))
        core.received_ns = f[_RECEIVED]
        self.committed(f[_COMMIT])
        batch.count = 0
        if how_far == k.REPORTED:
            events = f[_WRITTEN]
            if not log.count:
                log.first_seq = f[_FIRST_SEQ]
            store.count, store.used, log.count = f[_STORED], f[_USED], f[_LOGGED]
            if events:
                publisher.collected(f[_DEALS], f[_TIME])
            if f[_LEFT]:
                core.dirty.update(self._lane._left[: f[_LEFT]].tolist())
            core.noted(count, events)
            self.turns += 1
        else:
            self.handed_over += 1
            records = batch.records[:count]
            core._note(records, b"", self._events(how_far, records), b"")
        core.reported(count, core.mono_ns)
        return True

    def _events(self, how_far: int, records: np.ndarray) -> np.ndarray:
        """The events of a group that the engine has carried out, or is in the middle of."""
        exchange, written = self._core.exchange, self._figures[_WRITTEN]
        control, events = exchange.hot_lane()
        if how_far == k.CARRIED_OUT:
            return events[:written]
        first, consumed = events[:written].copy(), int(control[0]["consumed"])
        return np.concatenate([first, exchange.apply(records[consumed:]).events])


def turn_for(core: Core, journal: Journal, lane: HotLane) -> Turn | None:
    """A turn where it can be taken: on exchange time that machine code can tell, and files with descriptors."""
    known = isinstance(core.clock, RealClock | SteppedClock) and journal.has_descriptors
    if not known or not available():
        return None
    return Turn(core, journal, lane, c_functions(C_FUNCTIONS))
