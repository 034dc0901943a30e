"""Runs a stream through the kernel in any cutting and any output capacity and holds it against the reference."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import numpy as np
import states
from streams import Stream

from engine import market as m
from engine import records as r
from engine.exchange import Exchange
from engine.rules import Rules


class Difference(AssertionError):
    """The kernel and the reference disagree; the text says where first."""


def batches(
    commands: np.ndarray, payloads: list[bytes], cut: int, stops: list[int]
) -> Iterator[tuple[int, int, bytes]]:
    """(start, end, payloads of the batch): at most ``cut`` commands each, never across one of ``stops``."""
    messages = np.concatenate([[0], np.cumsum(commands["kind"] == r.MESSAGE)])
    offsets = [0, *accumulate(len(p) for p in payloads)]
    blob = b"".join(payloads)
    start, n = 0, len(commands)
    ends = iter([*sorted(stops), n])
    stop = next(ends)
    while start < n:
        end = min(start + cut, stop)
        yield start, end, blob[offsets[messages[start]] : offsets[messages[end]]]
        start = end
        while stop <= start < n:
            stop = next(ends)


def first_event_difference(ours: np.ndarray, expected: np.ndarray) -> str:
    """Names the first event in which two streams of events differ."""
    n = min(len(ours), len(expected))
    unequal = np.flatnonzero(ours[:n] != expected[:n])
    at = int(unequal[0]) if len(unequal) else n
    return (
        f"event {at}: kernel {_named(ours, at)}, reference {_named(expected, at)}"
        f" (kernel wrote {len(ours)}, reference {len(expected)})"
    )


def _named(events: np.ndarray, at: int) -> str:
    if at >= len(events):
        return "nothing"
    return "{" + ", ".join(f"{n}={events[at][n]}" for n in r.EVENT.names or () if events[at][n]) + "}"


def run(
    stream: Stream,
    *,
    cut: int,
    event_capacity: int = 1 << 12,
    check_every_batch: bool = False,
    restore_at_checkpoints: bool = False,
    exchange: Exchange | None = None,
) -> list[int]:
    """Runs the stream; raises Difference at the first one. Returns the state hashes at the stream's checkpoints."""
    if exchange is None:
        exchange = open_exchange(stream.profile.rules, stream.reference.capacity, event_capacity)
    hashes = []
    for start, end, payloads in batches(stream.commands, stream.payloads, cut, list(stream.checkpoints)):
        events = exchange.apply(stream.commands[start:end], payloads).events
        ours = events[events["kind"] != r.NOTICE]
        expected = stream.events[stream.ends[start - 1] if start else 0 : stream.ends[end - 1]]
        if ours.tobytes() != expected.tobytes():
            where = f"{stream.profile.name}, seed {stream.seed}, commands {start} … {end - 1}"
            raise Difference(f"{where}: {first_event_difference(ours, expected)}")
        if check_every_batch:
            exchange.check()
        if end in stream.checkpoints:
            found = states.differences(states.of_market(exchange.market), stream.checkpoints[end])
            if found:
                raise Difference(f"{stream.profile.name}, seed {stream.seed}, after {end} commands: {found[:10]}")
            exchange.check()
            hashes.append(exchange.state_hash())
            if restore_at_checkpoints:
                exchange = Exchange.restore(stream.profile.rules, exchange.snapshot(), stream.reference.capacity)
    return hashes


def open_exchange(rules: Rules, capacity: m.Capacity, event_capacity: int = 1 << 12) -> Exchange:
    """A fresh exchange with room for ``event_capacity`` events before it must be emptied."""
    return Exchange(rules, capacity, event_capacity=event_capacity)
