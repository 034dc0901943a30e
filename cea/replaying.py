"""A market's journal through a new engine: for `cea verify journal` and for the bulletin of a past day."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cea.output import Exit, fail

if TYPE_CHECKING:
    from engine.exchange import Exchange


def load_market(folder: Path) -> Any:
    """The market folder's configuration; ends the command with the reason where it cannot be read."""
    from gateway.config import ConfigError, load

    try:
        return load(folder)
    except ConfigError as error:
        fail(str(error), Exit.CONFIG)


def machine_maker(folder: Path) -> tuple[Callable[[], Exchange], Callable[[bytes], Exchange]]:
    """Two makers of the market's engine: a new one, and one from a snapshot of the exchange process."""
    from engine.exchange import Exchange
    from engine.market import Capacity
    from gateway.snapshots import split_snapshot

    market = load_market(folder)

    def make() -> Exchange:
        return Exchange(market.rules, Capacity(**market.config.capacity), market.calendar)

    def restore(data: bytes) -> Exchange:
        engine = split_snapshot(data)[1]
        return Exchange.restore(market.rules, engine, Capacity(**market.config.capacity), market.calendar)

    return make, restore


def notices_of(folder: Path) -> Iterator[Any]:
    """Every public notice that a replay of the journal leads to, in order, decoded to plain values."""
    import msgspec

    from engine.journal import RealDisk
    from engine.journal.rewrite import sound_groups
    from engine.records import NOTICE

    exchange = machine_maker(folder)[0]()
    for group in sound_groups(RealDisk(load_market(folder).journal)):
        out = exchange.apply(group.commands, group.payloads)
        at = 0
        for event in out.events[out.events["kind"] == NOTICE]:
            size = int(event["quantity"])
            if event["side"]:
                yield msgspec.msgpack.decode(out.payloads[at : at + size])
            at += size
