"""`cea status`, `book`, `watch`, `clock`: looking into a running exchange."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cea.connecting import chosen_key, explained, operator
from cea.output import Exit, console, fail, print_json, table

if TYPE_CHECKING:
    from rich.console import Group

LOOK_S: Final = 0.5  # how often a live picture is drawn anew
SIDES: Final = ("buy", "sell")
BAR: Final = 24  # columns of the longest quantity bar


def status_command(folder: Path, *, as_json: bool) -> None:
    """The operator's first look."""
    from engine.calendar import format_time, trading_date
    from engine.prices import format_amount, format_price

    with operator(folder) as client:
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


def book_command(folder: Path, who: str, code: str, *, once: bool, as_json: bool) -> None:
    """Five levels a side (R8.6): live on a terminal, once elsewhere."""
    from gateway.market_data import MarketDataClient

    code, key = code.upper(), chosen_key(folder, who or "public")
    with explained(folder), MarketDataClient(folder, key=key, codes=()) as feed:
        listed = [i.code for i in feed.link.login.instruments] if feed.link.login else []
        if code not in listed:
            fail(f"{code}: not listed; there are {', '.join(listed)}", Exit.NO)

        def look() -> Any:
            return feed.link.query("snapshot", code=code)

        if as_json:
            print_json(look())
        elif once or not sys.stdout.isatty():
            console().print(depth_picture(look()))
        else:
            _live(look)


def _live(look: Any) -> None:
    from rich.live import Live

    try:
        with Live(depth_picture(look()), console=console(), refresh_per_second=4) as live:
            while True:
                time.sleep(LOOK_S)
                live.update(depth_picture(look()))
    except KeyboardInterrupt:
        return


def depth_picture(snapshot: dict[str, Any]) -> Group:
    """Bids left, asks right, best in the first row, with bars as long as the quantities."""
    from rich.console import Group

    from engine.calendar import format_time
    from engine.prices import format_price
    from gateway.market_data import Statistics

    statistics = Statistics(*snapshot["statistics"])
    bids, asks = list(snapshot["bids"])[:5], list(snapshot["asks"])[:5]
    largest = max((q for _, q, _ in bids + asks), default=1)
    rows = []
    for level in range(5):
        cells = []
        if level < len(bids):
            price, quantity, orders = bids[level]
            cells += [
                "▇" * -(-BAR * quantity // largest),
                str(orders),
                f"{quantity:,}",
                f"[red]{format_price(price)}[/red]",
            ]
        else:
            cells += [""] * 4
        if level < len(asks):
            price, quantity, orders = asks[level]
            bar = "▇" * -(-BAR * quantity // largest)
            cells += [f"[green]{format_price(price)}[/green]", f"{quantity:,}", str(orders), bar]
        else:
            cells += [""] * 4
        rows.append(cells)
    s = statistics
    figures = (("last", s.last), ("open", s.open), ("high", s.high), ("low", s.low))
    day = "  ".join(f"{name} {format_price(price)}" for name, price in figures)
    if not s.deals:
        day = f"no deal yet, previous close {format_price(s.reference)}"
    title = (
        f"{snapshot['code']}  {format_time(snapshot['time_ns'])}  {day}  {s.volume:,} t in {s.deals} deals  "
        f"limits {format_price(s.limit_low)} … {format_price(s.limit_high)}"
    )
    depth = table((" " * BAR, "orders", "t", "bid", "ask", "t", "orders", " " * BAR), rows, left=0, last_left=True)
    return Group(title, depth)


def watch_command(folder: Path, who: str, *, seconds: float, as_json: bool) -> None:
    """The public feed, a line for each deal, composite and notice."""
    import msgspec

    from gateway.market_data import MarketDataClient

    key = chosen_key(folder, who or "public")
    ends = time.monotonic() + seconds if seconds else float("inf")
    try:
        with explained(folder), MarketDataClient(folder, key=key) as feed:
            print(f"watching {', '.join(feed.codes)}; Ctrl-C ends it", file=sys.stderr)
            while time.monotonic() < ends:
                for message in feed.poll(LOOK_S):
                    if as_json:
                        print(msgspec.json.encode(message).decode(), flush=True)
                    else:
                        for line in lines_of(message):
                            print(line, flush=True)
    except KeyboardInterrupt:
        return


def lines_of(message: Any) -> list[str]:
    """What a published message says, in words; nothing for a mere change of quotes."""
    from engine.calendar import format_time
    from engine.prices import format_price
    from gateway.market_data import BookUpdate, Bulletin, Composite

    when = format_time(message.time_ns)
    if isinstance(message, BookUpdate):
        return [
            f"{when}  {message.code:6} {format_price(t.price):>8}  {t.quantity:>7,} t  {SIDES[t.aggressor]}"
            for t in message.trades
        ]
    if isinstance(message, Composite):
        return [f"{when}  COMCEA {format_price(message.last):>8}"]
    if isinstance(message, Bulletin):
        notice = message.notice
        words = [str(notice[name]) for name in ("what", "instrument", "text") if notice.get(name)]
        words += [
            f"{name} {value}" for name, value in notice.get("data", {}).items() if not isinstance(value, dict | list)
        ]
        return [f"{when}  {notice.get('t', 'notice')}: {' '.join(words)}"]
    return []


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
