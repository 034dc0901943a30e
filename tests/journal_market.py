"""The exchange as the machine behind the journal, fed by the streams of the proof by difference."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import numpy as np
from desk_stream import DeskStream
from streams import PROFILES, Stream, make_stream

from engine.exchange import Exchange
from engine.market import Capacity
from engine.records import MESSAGE
from engine.rules import Rules


class MarketMachine:
    """An ``Exchange`` with apply, state and restore; every event that it gave is kept in order."""

    def __init__(self, profile: str, capacity: Capacity, rules: Rules | None = None) -> None:
        self.rules = rules or PROFILES[profile].rules
        self.capacity = capacity
        self.exchange = Exchange(self.rules, capacity)
        self._events: list[bytes] = []
        self._notices: list[bytes] = []

    def apply(self, commands: np.ndarray, payloads: bytes) -> None:
        output = self.exchange.apply(np.ascontiguousarray(commands), payloads)
        self._events.append(output.events.tobytes())
        self._notices.append(bytes(output.payloads))

    def output(self) -> str:
        """SHA-256 over the bytes of all events so far, then over those of all notices: no trace of the batches."""
        return hashlib.sha256(b"".join(self._events + self._notices)).hexdigest()

    def state(self) -> bytes:
        return self.exchange.snapshot()

    def restore(self, state: bytes) -> None:
        self.exchange = Exchange.restore(self.rules, state, self.capacity)


def market_stream(profile: str, seed: int, length: int) -> tuple[Stream, Callable[[], MarketMachine]]:
    """A stream and the maker of machines of the size that it was made for."""
    p = PROFILES[profile]
    stream = make_stream(p, seed, length)
    capacity = Capacity(
        accounts=p.accounts + 2,
        instruments=len(p.references) + 1,
        orders=p.orders,
        sessions=2 * p.accounts + 4,
        levels=p.levels,
        deals=16,
    )
    return stream, lambda: MarketMachine(profile, capacity)


def source_of(stream: Stream | DeskStream) -> Callable[[random.Random, int, int], tuple[np.ndarray, bytes]]:
    """Commands by sequence: what a crash takes back is sent again, as members do after a resynchronisation."""
    is_message = stream.commands["kind"] == MESSAGE
    before = np.concatenate([[0], np.cumsum(is_message)])

    def commands(rng: random.Random, first_seq: int, count: int) -> tuple[np.ndarray, bytes]:
        start, stop = first_seq - 1, first_seq - 1 + count
        assert stop <= len(stream.commands), "the stream is too short for the workload"
        return stream.commands[start:stop], b"".join(stream.payloads[before[start] : before[stop]])

    return commands
