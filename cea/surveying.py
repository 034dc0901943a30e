"""`cea alerts`: a market's journal replayed under surveillance, with what the registry knows of its accounts."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from cea.output import Exit, console, fail, print_json, table

if TYPE_CHECKING:
    from gateway.config import Market
    from gateway.surveillance import Surveillance, Thresholds
    from gateway.surveillance.watch import Positions

log = logging.getLogger(__name__)


def thresholds_of(folder: Path) -> Thresholds:
    """Those of surveillance.toml, else the defaults; ends the command where the file cannot be read."""
    import msgspec

    from gateway.surveillance import Thresholds

    own = folder / "surveillance.toml"
    try:
        return msgspec.toml.decode(own.read_bytes(), type=Thresholds) if own.is_file() else Thresholds()
    except msgspec.DecodeError as error:
        fail(f"{own}: {error}", Exit.CONFIG)


def registry_positions(market: Market, date: int) -> Positions:
    """Holdings at the end of the day before ``date``, and what must still be surrendered (R13.4, R14.4).

    Obligations whose deadline has not passed count. The vintages that may be surrendered are those of the latest such
    year; where an entity owes two years, both needs stand against them. Raises SQLAlchemyError.
    """
    from cea.folder import open_registry
    from gateway.surveillance.watch import Positions
    from settlement.surveyed import surveyed

    registry = open_registry(market)
    try:
        found = surveyed(registry, date)
    finally:
        registry.close()
    return Positions(found.holdings, found.needs, found.usable, found.vintages)


def surveillance_of(market: Market, thresholds: Thresholds, *, live: bool = False) -> Surveillance:
    """A watch for a market's own rules, groups of accounts and registry.

    ``live``: a registry that does not answer is logged, and the day is watched without holdings and needs; else
    SQLAlchemyError is raised.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from gateway.surveillance import Surveillance
    from gateway.surveillance.watch import Positions

    def positions(date: int) -> Positions:
        try:
            return registry_positions(market, date)
        except SQLAlchemyError as error:
            if not live:
                raise
            log.warning("holdings and needs are not watched today: %s", error)
            return Positions({}, {}, {}, frozenset())

    groups = {m.account: m.group for m in market.config.members if m.group}
    return Surveillance(thresholds, rules=market.rules, groups=groups, positions=positions)


def alerts_command(folder: Path, date: int, *, as_json: bool) -> None:
    """Replays the journal and lists what surveillance finds, of all days or of one."""
    import msgspec
    from sqlalchemy.exc import SQLAlchemyError

    from cea.replaying import load_market, machine_maker
    from engine.calendar import format_time
    from engine.journal import RealDisk
    from engine.journal.rewrite import sound_groups

    market = load_market(folder)
    watch = surveillance_of(market, thresholds_of(folder))
    exchange = machine_maker(folder)[0]()
    try:
        for group in sound_groups(RealDisk(market.journal)):
            out = exchange.apply(group.commands, group.payloads)
            watch.codes = {number: code for code, number in exchange.market.codes.items()}
            watch.feed(out.events, out.payloads)
    except SQLAlchemyError as error:
        fail(f"{market.config.registry}: {str(error).splitlines()[0]}", Exit.CONFIG)
    watch.finish()
    found = [a for a in watch.alerts if date in (0, a.date)]
    if as_json:
        print_json(
            [
                {**msgspec.to_builtins(a), "text": a.text, "text_zh": a.text_zh,
                 "replay": a.replay.replace("MARKET", str(folder))}
                for a in found
            ]
        )  # fmt: skip
        return
    rows = [(a.date, format_time(a.time_ns)[:8], a.kind, a.instrument, a.text) for a in found]
    if rows:
        console().print(table(("date", "time", "kind", "vintage", "what"), rows, left=5))
        print(f"The first one's moment: {found[0].replay.replace('MARKET', str(folder))}")
    events, own = int(watch.state[0]["events"]), folder / "surveillance.toml"
    kinds = Counter(a.kind for a in found)
    each = f" ({', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))})" if kinds else ""
    thresholds = own if own.is_file() else "the defaults"
    print(f"{len(found)} alerts{each}; {events:,} order events watched, thresholds {thresholds}")
