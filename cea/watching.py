"""`cea watch` and `cea book` on a terminal: a live picture that follows the public feed, snapshot and increments.

The picture is drawn from what the feed has told (:class:`gateway.market_data.MarketDataClient` repairs gaps by itself),
never by asking again and again. Keys are read in between; the terminal is put back however it ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cea.connecting import chosen_key, explained
from cea.output import Exit, console, fail, table

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

    from gateway.market_data import Levels, MarketDataClient, Statistics

DRAW_S: Final = 0.1  # at most ten pictures a second: nobody reads faster
SILENT_S: Final = 3.0  # the feed says something each second; after three it is told that it does not
TAPE_ROWS: Final = 500
LEVELS: Final = 5  # R8.6
SIDES: Final = ("buy", "sell")
WIDE: Final = 124  # columns from which book and tape stand side by side
NARROW: Final = 76  # columns below which the book has no bars
BAR_MAX: Final = 24
HELP: Final = "q quit · ←/→ or 1-9 vintage · a all deals or this vintage's · space hold"

ARROWS: Final = {"\x1b[C": "next", "\x1b[B": "next", "\x1b[D": "previous", "\x1b[A": "previous", "\t": "next"}


class Picture:
    """What is on the screen: one vintage's book, the tape, the composite. No terminal in it."""

    def __init__(self, codes: list[str], shown: str = "", *, only: bool = False) -> None:
        self.codes = codes
        self.at = codes.index(shown) if shown else 0
        self.chosen = bool(shown)  # else the one that trades most when it is first looked at
        self.only = only  # the tape has the shown vintage's deals only
        self.held = False
        self.tape: deque[tuple[str, str, int, int, str]] = deque(maxlen=TAPE_ROWS)
        self.notes: deque[str] = deque(maxlen=3)
        self.composite = self.time_ns = 0
        self.heard = time.monotonic()
        self.ended = False

    @property
    def code(self) -> str:
        """The vintage that is shown."""
        return self.codes[self.at]

    def take(self, message: Any) -> None:
        """One message of the feed."""
        from engine.calendar import format_time
        from gateway.market_data import BookUpdate, Bulletin, Composite

        self.heard = time.monotonic()
        self.time_ns = max(self.time_ns, message.time_ns)
        if isinstance(message, BookUpdate):
            for t in message.trades:
                when = format_time(t.time_ns)[:12]
                self.tape.appendleft((when, message.code, t.price, t.quantity, SIDES[t.aggressor]))
        elif isinstance(message, Composite):
            self.composite = message.last
        elif isinstance(message, Bulletin):
            words = words_of(message.notice)
            if words:
                self.notes.appendleft(f"{format_time(message.time_ns)[:8]}  {words}")

    def key(self, key: str) -> None:
        """What a key press does; unknown ones do nothing."""
        self.chosen = True
        if key in ("q", "Q", "\x1b"):
            self.ended = True
        elif key in ("next", "n", "previous", "p"):
            step = 1 if key in ("next", "n") else -1
            self.at = (self.at + step) % len(self.codes)
        elif key.isdigit() and 0 < int(key) <= len(self.codes):
            self.at = int(key) - 1
        elif key in ("a", "A"):
            self.only = not self.only
        elif key == " ":
            self.held = not self.held

    def draw(self, feed: MarketDataClient, width: int, height: int, *, tape: bool = True) -> RenderableType:
        """The whole screen, ``width`` columns and ``height`` rows."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        if not self.chosen:
            self._choose(feed)
        book = feed.books[self.code]
        bids, asks = book.levels()
        side_by_side = tape and width >= WIDE
        bars = 0 if width < NARROW else min(BAR_MAX, ((width // 2 if side_by_side else width) - 56) // 2)
        depth = depth_group(self.code, self.time_ns, bids, asks, book.statistics, bars=max(bars, 0))
        foot = Text(self._state(), style="dim", no_wrap=True, overflow="ellipsis")
        parts: list[RenderableType] = [Text(self._head(feed), style="bold", no_wrap=True, overflow="ellipsis")]
        if not tape:
            return Group(depth, foot)
        if side_by_side:
            grid = Table.grid(expand=True, padding=(0, 2))
            grid.add_column(ratio=1)
            grid.add_column(ratio=1)
            grid.add_row(depth, self._tape(max(3, height - 6 - len(self.notes))))
            parts.append(grid)
        else:
            parts += [depth, self._tape(max(3, height - 17 - len(self.notes)))]
        parts += [Text(note, no_wrap=True, overflow="ellipsis") for note in self.notes]
        return Group(*parts, foot)

    def _choose(self, feed: MarketDataClient) -> None:
        """Nobody opens a market to look at a vintage without deals."""
        volumes = [s.volume if (s := feed.books[code].statistics) else 0 for code in self.codes]
        if busiest := max(volumes):
            self.at, self.chosen = volumes.index(busiest), True

    def _head(self, feed: MarketDataClient) -> str:
        from engine.prices import format_price

        words = []
        for number, code in enumerate(self.codes, 1):
            statistics = feed.books[code].statistics
            price = format_price(statistics.last) if statistics and statistics.last else "-"
            words.append(f"[{number} {code} {price}]" if code == self.code else f" {number} {code} {price} ")
        return f"{' '.join(words)}  COMCEA {format_price(self.composite) if self.composite else '-'}"

    def _tape(self, rows: int) -> RenderableType:
        from engine.prices import format_price

        mine = [r for r in self.tape if not self.only or r[1] == self.code][:rows]
        cells = [
            (when, code, f"[{'red' if side == 'buy' else 'green'}]{format_price(price)}[/]", f"{quantity:,}", side)
            for when, code, price, quantity, side in mine
        ]
        name = f"deals of {self.code}" if self.only else "deals"
        return table((name, "vintage", "CNY", "t", "taker"), cells, left=2, last_left=True)

    def _state(self) -> str:
        silent = time.monotonic() - self.heard
        if silent > SILENT_S:
            return f"NOTHING HEARD FOR {silent:.0f} s: this may be old.   {HELP}"
        return f"{'HELD: space goes on.   ' if self.held else ''}{HELP}"


def words_of(notice: dict[str, Any]) -> str:
    """A public notice in words."""
    words = [str(notice[name]) for name in ("what", "instrument", "text") if notice.get(name)]
    data = notice.get("data") or {}
    words += [f"{name} {value}" for name, value in data.items() if not isinstance(value, dict | list)]
    return f"{notice.get('t', 'notice')}: {' '.join(words)}"


def depth_group(
    code: str, time_ns: int, bids: Levels, asks: Levels, statistics: Statistics | None, *, bars: int = BAR_MAX
) -> Group:
    """Bids left, asks right, best in the first row, with bars as long as the quantities."""
    from rich.console import Group
    from rich.text import Text

    from engine.calendar import format_time
    from engine.prices import format_price

    bids, asks = bids[:LEVELS], asks[:LEVELS]
    largest = max((q for _, q, _ in bids + asks), default=1)
    rows = []
    for level in range(LEVELS):
        cells = []
        for side, colour in ((bids, "red"), (asks, "green")):
            if level < len(side):
                price, quantity, orders = side[level]
                bar = "▇" * -(-bars * quantity // largest)
                one = [bar] * bool(bars) + [str(orders), f"{quantity:,}", f"[{colour}]{format_price(price)}[/{colour}]"]
            else:
                one = [""] * (3 + bool(bars))
            cells += one if colour == "red" else one[::-1]
        rows.append(cells)
    names = ["orders", "t", "bid", "ask", "t", "orders"]
    columns = (" " * bars, *names, " " * bars) if bars else tuple(names)
    depth = table(columns, rows, left=0, last_left=bool(bars))
    title = f"{code}  {format_time(time_ns)[:12] if time_ns else ''}"
    if statistics is None:
        return Group(Text(title), depth)
    s = statistics
    day = "  ".join(
        f"{n} {format_price(p)}" for n, p in (("last", s.last), ("open", s.open), ("high", s.high), ("low", s.low))
    )
    if not s.deals:
        day = f"no deal yet, previous close {format_price(s.reference)}"
    more = f"{s.volume:,} t in {s.deals} deals  limits {format_price(s.limit_low)} … {format_price(s.limit_high)}"
    return Group(Text(f"{title}  {day}  {more}"), depth)


# --- the terminal --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def keys() -> Iterator[Callable[[], list[str]]]:
    """A function that tells which keys were pressed since; the terminal gives them one by one meanwhile.

    Without a terminal to type on nobody presses any. Ctrl-C stays Ctrl-C.
    """
    if not sys.stdin.isatty():
        yield list
        return
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield lambda: pressed(fd)
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def pressed(fd: int) -> list[str]:
    """Keys that wait on a terminal, arrows and Tab by their names."""
    text = ""
    while select.select([fd], [], [], 0)[0]:
        data = os.read(fd, 64)
        if not data:
            return ["q"]  # the terminal is gone
        text += data.decode("utf-8", "replace")
    found = []
    while text:
        arrow = next((a for a in ARROWS if text.startswith(a)), "")
        found.append(ARROWS[arrow] if arrow else text[0])
        text = text[len(arrow) or 1 :]
    return found


def follow(feed: MarketDataClient, picture: Picture, *, seconds: float, tape: bool) -> None:
    """Draws until q, Ctrl-C or the time is over; the terminal's own size at each picture."""
    from rich.live import Live

    out = console()
    ends = time.monotonic() + seconds if seconds else float("inf")

    def image() -> RenderableType:
        return picture.draw(feed, out.width, out.height, tape=tape)

    with (
        contextlib.suppress(KeyboardInterrupt),
        keys() as read_keys,
        Live(image(), console=out, screen=tape, auto_refresh=False, vertical_overflow="crop") as live,
    ):
        drawn = size = None
        while not picture.ended and time.monotonic() < ends:
            for message in feed.poll(DRAW_S):
                picture.take(message)
            if feed.composite is not None:  # the snapshots have it too, for who begins in the middle of a day
                picture.composite = feed.composite.last
            for book in feed.books.values():
                book.trades.clear()  # the tape has them
            typed = read_keys()
            for key in typed:
                picture.key(key)
            now = time.monotonic()
            if typed or out.size != size or (not picture.held and (drawn is None or now - drawn >= DRAW_S)):
                drawn, size = now, out.size
                live.update(image(), refresh=True)


def listed_codes(feed: MarketDataClient, wanted: list[str]) -> list[str]:
    """The wanted codes, in upper case, or all; ends the command where one is not listed."""
    known = [i.code for i in feed.link.login.instruments] if feed.link.login else []
    codes = [code.upper() for code in wanted]
    for code in codes:
        if code not in known:
            fail(f"{code}: not listed; there are {', '.join(known)}", Exit.NO)
    return codes or known


def watch_command(
    folder: Path, who: str, wanted: list[str], *, listens_s: float, seconds: float, lines: bool, as_json: bool
) -> None:
    """The market live: a picture on a terminal, else a line for each deal, composite and notice."""
    from gateway.market_data import MarketDataClient

    key = chosen_key(folder, who or "public")
    plain = lines or as_json or not sys.stdout.isatty()
    with contextlib.suppress(KeyboardInterrupt), explained(folder, listens_s):
        with MarketDataClient(folder, key=key, codes=()) as looked:
            codes = listed_codes(looked, wanted)
        with MarketDataClient(folder, key=key, codes=codes) as feed:
            if not codes:
                fail("nothing is listed", Exit.NO)
            if plain:
                _lines(feed, seconds, as_json=as_json)
            else:
                shown = feed.codes[0] if wanted else ""
                follow(feed, Picture(feed.codes, shown, only=bool(wanted)), seconds=seconds, tape=True)


def _lines(feed: MarketDataClient, seconds: float, *, as_json: bool) -> None:
    import msgspec

    ends = time.monotonic() + seconds if seconds else float("inf")
    print(f"watching {', '.join(feed.codes)}; Ctrl-C ends it", file=sys.stderr)
    while time.monotonic() < ends:
        for message in feed.poll(min(0.5, max(0.0, ends - time.monotonic()))):
            if as_json:
                print(msgspec.json.encode(message).decode(), flush=True)
            else:
                for line in lines_of(message):
                    print(line, flush=True)


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
        return [f"{when}  {words_of(message.notice)}"]
    return []


def book_command(folder: Path, who: str, code: str, *, listens_s: float, once: bool, as_json: bool) -> None:
    """Five levels a side (R8.6): live on a terminal, once elsewhere."""
    import msgspec

    from cea.output import print_json
    from gateway.market_data import BookSnapshot, MarketDataClient

    key = chosen_key(folder, who or "public")
    live = not (once or as_json) and sys.stdout.isatty()
    with contextlib.suppress(KeyboardInterrupt), explained(folder, listens_s):
        with MarketDataClient(folder, key=key, codes=()) as feed:
            (code,) = listed_codes(feed, [code])
            found = None if live else feed.link.query("snapshot", code=code)
        if as_json:
            print_json(found)
        elif not live:
            s = msgspec.convert(found, BookSnapshot)
            console().print(depth_group(s.code, s.time_ns, s.bids, s.asks, s.statistics))
        else:
            with MarketDataClient(folder, key=key, codes=[code]) as feed:
                follow(feed, Picture([code], only=True), seconds=0, tape=False)
