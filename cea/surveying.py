"""`cea alerts`: a market's journal replayed under surveillance."""

from __future__ import annotations

from pathlib import Path

from cea.output import Exit, console, fail, print_json, table


def alerts_command(folder: Path, date: int, *, as_json: bool) -> None:
    """Replays the journal and lists what surveillance finds, of all days or of one."""
    import msgspec

    from cea.replaying import load_market, machine_maker
    from engine.calendar import format_time
    from engine.journal import RealDisk
    from engine.journal.rewrite import sound_groups
    from gateway.surveillance import Surveillance, Thresholds

    market = load_market(folder)
    own = folder / "surveillance.toml"
    try:
        thresholds = msgspec.toml.decode(own.read_bytes(), type=Thresholds) if own.is_file() else Thresholds()
    except msgspec.DecodeError as error:
        fail(f"{own}: {error}", Exit.CONFIG)
    groups = {m.account: m.group for m in market.config.members if m.group}
    watch = Surveillance(thresholds, rules=market.rules, groups=groups)
    exchange = machine_maker(folder)[0]()
    for group in sound_groups(RealDisk(market.journal)):
        out = exchange.apply(group.commands, group.payloads)
        watch.codes = {number: code for code, number in exchange.market.codes.items()}
        watch.feed(out.events, out.payloads)
    watch.finish()
    found = [a for a in watch.alerts if date in (0, a.date)]
    if as_json:
        print_json([{**msgspec.to_builtins(a), "replay": a.replay.replace("MARKET", str(folder))} for a in found])
        return
    rows = [(a.date, format_time(a.time_ns)[:8], a.kind, a.instrument, a.text) for a in found]
    if rows:
        console().print(table(("date", "time", "kind", "vintage", "what"), rows, left=5))
        print(f"The first one's moment: {found[0].replay.replace('MARKET', str(folder))}")
    events = int(watch.state[0]["events"])
    print(
        f"{len(found)} alerts; {events:,} order events watched, thresholds {own if own.is_file() else 'the defaults'}"
    )
