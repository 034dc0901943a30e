"""`cea status`, `clock`: looking into a running exchange."""

from __future__ import annotations

from pathlib import Path

from cea.connecting import operator
from cea.output import Exit, console, fail, print_json, table


def status_command(folder: Path, *, listens_s: float, as_json: bool) -> None:
    """The operator's first look."""
    from engine.calendar import format_time, trading_date
    from engine.prices import format_amount, format_price

    with operator(folder, listens_s=listens_s) as client:
        found = client.status()
    if as_json:
        print_json(found)
        return
    when = f"{trading_date(found['time_ns'])} {format_time(found['time_ns'])}"
    flags = [name for name in ("halted", "cancel_only", "day_closed", "settled") if found[name]]
    print(f"{found['name']}: {when}, {found['phase']}{''.join(', ' + f.replace('_', ' ') for f in flags)}")
    print(
        f"pid {found['pid']}, epoch {found['epoch']}, sequence {found['seq']:,}, {found['logged_in']} sessions, "
        f"{found['open_orders']:,} open orders, {found['deals']:,} deals today"
    )

    def price(fen: int) -> str:
        return format_price(fen) if fen else "-"

    names = ("open", "high", "low", "last", "reference", "limit_low", "limit_high")
    cells = [
        (code, *(price(i[n]) for n in names), f"{i['volume']:,}", format_amount(i["amount"]), f"{i['bulk_volume']:,}")
        for code, i in found["instruments"].items()
    ]
    c = found["composite"]
    cells.append(("COMCEA", *(price(c[n]) for n in ("open", "high", "low", "last", "previous")), "", "", "", "", ""))
    columns = ("vintage", "open", "high", "low", "last", "previous", "limit low", "limit high", "t", "CNY", "bulk t")
    console().print(table(columns, cells))
    for alarm in found["alarms"]:
        print(f"ALARM {alarm}")


def clock_command(folder: Path, to: str) -> None:
    """Steps the clock of an exchange that runs with a stepped one."""
    from engine.calendar import NS_PER_DAY, day_start_ns, format_time, parse_clock, trading_date

    try:
        of_day = parse_clock(to)
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    with operator(folder) as client:
        now = int(client.time()["time_ns"])
        target = day_start_ns(trading_date(now)) + of_day
        if target < now:
            target += NS_PER_DAY
        reached = client.step_clock(target)
    print(f"{trading_date(reached)} {format_time(reached)}")
