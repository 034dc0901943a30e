"""The hot lane: the members' socket served by machine code, one entry into the interpreter per batch.

It does exactly what the plain lane does, for the messages that need no decision; all others it hands to
:meth:`gateway.core.Core.receive` with their bytes (see gateway.hot).
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import zmq

from engine.records import EVENT
from gateway import hot, libzmq
from gateway import protocol as p
from gateway.batch import BATCH_RECORDS
from gateway.commit import c_functions
from gateway.core import Core
from gateway.zap import MEMBERS

ROUTE_BYTES_MAX: Final = 256  # ZeroMQ's own limit is 255
# Groups that one drain makes before timers and the other plane get their turn.
ROUNDS_MAX: Final = 8
MESSAGES_PER_ROUND: Final = 2 * BATCH_RECORDS


class HotLane:
    """Drains one ROUTER socket into a core's batch, and sends the batch's reports."""

    def __init__(self, socket: zmq.Socket[Any]) -> None:
        """Raises LibzmqMissing where the library cannot be called."""
        f = libzmq.addresses()
        self._socket = int(socket.underlying)
        self._messages = np.zeros(2 * libzmq.MESSAGE_BYTES, np.uint8)
        self._first = self._messages.ctypes.data
        initialise = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(f["zmq_msg_init"])
        initialise(self._first)
        initialise(self._first + libzmq.MESSAGE_BYTES)
        self._property = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p, ctypes.c_char_p)(f["zmq_msg_gets"])
        self._f = tuple(f[f"zmq_msg_{name}"] for name in ("recv", "data", "size", "more", "gets"))
        self._user_id = ctypes.create_string_buffer(b"User-Id")
        self._f_send, self._f_poll = f["zmq_send"], f["zmq_poll"]
        self._f_clock = c_functions(["clock_gettime"])["clock_gettime"]
        self._clock = np.zeros(2, np.int64)
        self._watched: list[zmq.Socket[Any]] = []
        self._items = np.zeros(0, hot.POLL_ITEM)
        self._over = np.zeros(ROUTE_BYTES_MAX + p.FRAME_BYTES_MAX + 64, np.uint8)
        self._state = np.zeros(hot.STATE_FIELDS, np.int64)
        self._counts = np.zeros(1 << 16, np.int64)
        self._places = np.zeros(1 << 16, np.int64)
        self._out = np.zeros((p.HEADER_BYTES + p.REPORTS_PER_FRAME * 64) // 8, np.int64).view(np.uint8)
        self._left = np.zeros(1 << 16, np.uint16)

    def warm_up(self, core: Core) -> None:
        """Compiles (or loads) the machine code before the market opens: a drain and a delivery of nothing."""
        self.drain(core)
        self.wait(core, 0)
        self._beat(core, np.zeros(0, np.uint16), b"\x80", 0)
        store = core.store
        store.direct = True
        events = np.zeros(1, EVENT)[:0]
        core.deliver(events, store._touched[:0], b"")
        self._deliver(core, events, store._touched[:0])

    def watch(self, sockets: list[zmq.Socket[Any]]) -> None:
        """What ``wait`` looks at: the lane's own ROUTER first, then the others."""
        self._watched = sockets
        self._items = np.zeros(len(sockets), hot.POLL_ITEM)
        self._items["socket"], self._items["events"] = [int(s.underlying) for s in sockets], zmq.POLLIN

    def wait(self, core: Core, timeout_ms: int) -> list[zmq.Socket[Any]]:
        """Sleeps until something comes other than heartbeats, at most so long; drains the lane's ROUTER as it wakes.

        Returns the watched sockets that have, or had, something.
        """
        state, curve, batch = self._state, core.config.curve, core.batch
        state[hot.STATE_COUNT], state[hot.STATE_MESSAGES] = batch.count, 0
        why = hot.wait(  # type: ignore[call-arg]
            self._socket,
            *self._f,
            ctypes.addressof(self._user_id) if curve else 0,
            self._first,
            core.hot,
            batch.address,
            BATCH_RECORDS,
            MESSAGES_PER_ROUND,
            self._over,
            state,
            self._f_poll,
            self._items,
            self._f_clock,
            self._clock,
            time.monotonic_ns() + timeout_ms * hot.NS_PER_MS,
        )
        ready = int(state[hot.STATE_READY])
        core.mono_ns = int(state[hot.STATE_NOW])
        self._took(core, why)
        if why != hot.EMPTY:
            self.drain(core)
        return [socket for i, socket in enumerate(self._watched) if ready >> i & 1] if ready else []

    def drain(self, core: Core) -> None:
        """Takes what is waiting; makes a group whenever the batch is full."""
        state, curve = self._state, core.config.curve
        batch = core.batch
        user_id_at = ctypes.addressof(self._user_id) if curve else 0
        for _ in range(ROUNDS_MAX):
            core.mono_ns = now = time.monotonic_ns()
            state[hot.STATE_COUNT], state[hot.STATE_MESSAGES] = batch.count, 0
            why = hot.drain(  # type: ignore[call-arg]
                self._socket,
                *self._f,
                user_id_at,
                self._first,
                core.hot,
                batch.address,
                BATCH_RECORDS,
                MESSAGES_PER_ROUND,
                now,
                self._over,
                state,
            )
            self._took(core, why)
            if why == hot.EMPTY:
                return

    def _took(self, core: Core, why: int) -> None:
        """Goes on with what machine code came back for."""
        state = self._state
        core.batch.count = int(state[hot.STATE_COUNT])
        core.counters.frames += int(state[hot.STATE_MESSAGES]) - (why == hot.SLOW)
        if why == hot.SLOW:
            self._hand_over(core)
        elif why != hot.EMPTY:
            core.advance()

    def _hand_over(self, core: Core) -> None:
        """One message for Python, with the key that libzmq attached to it."""
        state, curve = self._state, core.config.curve
        route_size, size, parts = (int(state[i]) for i in (hot.STATE_ROUTE, hot.STATE_SIZE, hot.STATE_PARTS))
        user = ""
        if curve and parts == 1:
            user = (self._property(self._first + libzmq.MESSAGE_BYTES, b"User-Id") or b"").decode("ascii", "replace")
        route = self._over[:route_size].tobytes()
        frame = self._over[route_size : route_size + size].tobytes()
        core.receive(MEMBERS, route, user, frame, parts=parts)

    def beat_for(self, core: Core) -> Callable[[np.ndarray, bytes, int], np.ndarray]:
        """The core's ``beat``: heartbeats to the members, without Python for each."""
        return lambda due, heartbeat, time_ns: self._beat(core, due, heartbeat, time_ns)

    def _beat(self, core: Core, due: np.ndarray, heartbeat: bytes, time_ns: int) -> np.ndarray:
        frame = np.frombuffer(heartbeat, np.uint8)
        left = hot.send_heartbeats(self._socket, self._f_send, core.hot, due, frame, time_ns, core.mono_ns)
        return due[:left]

    def deliver_for(self, core: Core) -> Callable[[np.ndarray, np.ndarray, bytes], None]:
        """The core's ``deliver``: sends at once to sessions that are up to date, leaves the others to ``pump``."""
        store, slow = core.store, core.deliver

        def deliver(events: np.ndarray, touched: np.ndarray, payloads: bytes) -> None:
            if not store.direct or not len(events):
                slow(events, touched, payloads)
            else:
                self._deliver(core, events, touched)

        return deliver

    def _deliver(self, core: Core, events: np.ndarray, touched: np.ndarray) -> None:
        if len(events) > len(self._places):
            self._places = np.zeros(2 * len(events), np.int64)
        left = hot.deliver(
            self._socket,
            self._f_send,
            core.hot,
            core.store.streams,
            events,
            touched,
            self._counts,
            self._places,
            self._out,
            core.received_ns,
            core.clock.now(),
            core.mono_ns,
            p.REPORTS_PER_FRAME,
            self._left,
        )
        if left:
            core.dirty.update(self._left[:left].tolist())
