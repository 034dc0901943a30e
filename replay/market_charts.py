"""Pictures of a day from its journal: deals with limits and average, depth over time, spread and imbalance.

The journal is replayed once; the book is looked at after every minute. Colours are safe for colour-blind readers
(cividis, and blue against orange), sizes are for 1,000 pixels. matplotlib is imported when a picture is drawn.
"""

from __future__ import annotations

import html
import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from engine.calendar import day_start_ns, to_date, trading_date
from engine.exchange import Depth, Output
from engine.market import BULK
from engine.prices import format_price
from engine.records import FILL_MAKER, NOTICE
from replay.chart import FONT_ADVICE, cjk_font
from replay.journal import JournalReplay, Progress
from replay.journal_reader import MINUTE_NS
from replay.source_files import SourceError
from replay.whole_file import whole_file

log = logging.getLogger(__name__)
HEAT_LEVELS: Final = 200  # of each side that are looked at: a book of this market has far fewer
BUY_COLOUR, SELL_COLOUR = "#0072b2", "#d55e00"  # Okabe and Ito's blue and vermilion
INK, GREY, PALE = "#22303c", "#8a97a3", "#c9d3dc"
WIDTH_INCHES, HEIGHT_INCHES, DOTS = 10.0, 6.0, 100  # 1,000 × 600 pixels
BREAK_MINUTES: Final = (690, 780)  # 11:30 and 13:00, left out of the axis
ENDINGS: Final = (".png", ".svg", ".html")
LANGUAGES: Final = ("both", "zh", "en")
_language: ContextVar[str] = ContextVar("language", default="both")


class Day(msgspec.Struct):
    """What the pictures of one instrument and day are drawn from. Minutes count from local midnight."""

    code: str
    date: int
    limit_low: int = 0
    limit_high: int = 0
    reference: int = 0
    close: int = 0
    minutes: list[int] = []
    books: list[Depth] = []
    deals: list[tuple[float, int, int]] = []  # minute, price, quantity
    bulk: list[tuple[float, int, int]] = []


def collect(replay: JournalReplay, code: str, date: int = 0, progress: Progress | None = None) -> Day:
    """Replays the journal and keeps one day of one instrument (0: the last day). SourceError when there is none."""
    days: dict[int, Day] = {}

    def watch(out: Output) -> None:
        market = replay.exchange.market
        index = market.codes.get(code)
        if not len(out.events) or index is None:
            return
        time_ns, head = int(out.events["time_ns"][-1]), market.market[0]
        today = int(head["date"])
        if today != trading_date(time_ns) or (date and today != date):
            return
        if today not in days:
            days.clear()
            days[today] = Day(code, today)
        day, row, start = days[today], market.instruments[index], day_start_ns(today)
        day.limit_low, day.limit_high = int(row["limit_low"]), int(row["limit_high"])
        day.reference, day.close = int(row["reference"]), int(row["close"])
        mine = out.events[(out.events["kind"] == FILL_MAKER) & (out.events["instrument"] == index)]
        for e in mine:
            day.deals.append(((int(e["time_ns"]) - start) / MINUTE_NS, int(e["price"]), int(e["quantity"])))
        if (out.events["kind"] == NOTICE).any():
            table = market.deals[: int(head["deals"])]
            bulk = table[(table["method"] == BULK) & (table["instrument"] == index)]
            day.bulk = [((int(d["time_ns"]) - start) / MINUTE_NS, int(d["price"]), int(d["quantity"])) for d in bulk]
        minute = (time_ns - start) // MINUTE_NS
        if day.minutes and day.minutes[-1] == minute:
            day.minutes.pop()
            day.books.pop()
        day.minutes.append(minute)
        day.books.append(replay.exchange.depth(code, HEAT_LEVELS))

    replay.run(watch=watch, progress=progress)
    if not days:
        raise SourceError(code, f"has no day {date or ''} in this journal".replace("  ", " "))
    (day,) = days.values()
    return day


# --- pictures -----------------------------------------------------------------------------------------------------


def draw(day: Day, what: str, out: Path) -> None:
    """Draws ``day``, ``heat`` or ``spread`` into a .png, .svg or self-contained .html file."""
    paint = {"day": _draw_day, "heat": _draw_heat, "spread": _draw_spread}[what]
    write_picture(out, f"{day.code} {to_date(day.date)} {what}", lambda figure: paint(figure, day))


def write_picture(out: Path, name: str, paint: Callable[[Any], None]) -> None:
    """Gives ``paint`` an empty figure and writes it; the file appears when it is whole. SourceError: unknown ending."""
    if out.suffix not in ENDINGS:
        raise SourceError(out, f"must end with one of {', '.join(ENDINGS)}")
    import matplotlib as mpl
    from matplotlib.figure import Figure

    font = cjk_font()
    if font is None:
        log.warning(FONT_ADVICE)
    with mpl.rc_context({"font.family": [font, "DejaVu Sans"] if font else ["DejaVu Sans"]}):
        figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DOTS, layout="constrained")
        paint(figure)
        _save(figure, out, name)


@contextmanager
def language(wanted: str) -> Iterator[None]:
    """Texts of the pictures drawn inside: ``both``, ``zh`` or ``en``; without a CJK font they are English (D35)."""
    assert wanted in LANGUAGES
    token = _language.set(wanted)
    try:
        yield
    finally:
        _language.reset(token)


def words(chinese: str, english: str, between: str = " ") -> str:
    """The text in the language that is wanted."""
    wanted = _language.get() if cjk_font() else "en"
    return {"zh": chinese, "en": english, "both": f"{chinese}{between}{english}"}[wanted]


def _title(axes: Any, chinese: str, english: str) -> None:
    """Above the axes, one line a language."""
    axes.set_title(words(chinese, english, "\n"), loc="left", color=INK, fontsize=11)


def _save(figure: Any, out: Path, name: str) -> None:
    with whole_file(out) as part:
        if out.suffix == ".html":
            part.write_text(_page(figure, name), encoding="utf-8")
        else:
            figure.savefig(part, format=out.suffix[1:])


def _page(figure: Any, name: str) -> str:
    """One page with the picture in it, without anything from outside."""
    picture = io.BytesIO()
    figure.savefig(picture, format="svg")
    svg = picture.getvalue().decode()
    page = f'<!doctype html><html lang="{words("zh", "en", "-")[:2]}"><meta charset="utf-8">'
    page += f'<meta name="viewport" content="width=device-width"><title>{html.escape(name)}</title>'
    page += "<style>body{margin:0}svg{width:100%;max-width:1200px;height:auto}</style>"
    return f"{page}<body>{svg[svg.index('<svg') :]}</body></html>"


def _axis_minutes(minutes: Any) -> np.ndarray:
    """Minutes since midnight on an axis without the midday break."""
    m = np.asarray(minutes, dtype=np.float64)
    length = BREAK_MINUTES[1] - BREAK_MINUTES[0]
    return np.where(m >= BREAK_MINUTES[1], m - length, np.minimum(m, BREAK_MINUTES[0]))


def _time_axis(axes: Any) -> None:
    hours = [570, 600, 630, 660, 690, 810, 840, 870, 900]
    labels = [f"{h // 60:02d}:{h % 60:02d}" for h in hours]
    labels[hours.index(690)] = "11:30\n13:00"
    axes.set_xticks(_axis_minutes(hours), labels)
    axes.set_xlim(570, 810)
    axes.axvline(690, color=PALE, linewidth=1)
    axes.set_xlabel(words("北京时间", "Asia/Shanghai"))


def _draw_day(figure: Any, day: Day) -> None:
    """Deals, the average that becomes the close (R6.4), limits, bulk deals; volume below."""
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    minutes, prices, sizes = (np.array(c) for c in zip(*day.deals, strict=True)) if day.deals else (np.zeros(0),) * 3
    x = _axis_minutes(minutes)
    top.plot(x, prices / 100, ".", color=GREY, markersize=4, label=words("成交", "deals"))
    if len(x):
        average = np.cumsum(prices * sizes) / np.cumsum(sizes)
        top.step(
            [*x, 810],
            [*average / 100, average[-1] / 100],
            where="post",
            color=BUY_COLOUR,
            label=words("当日均价 → 收盘价", "average of the day so far → close"),
        )
        counts = np.histogram(x, bins=np.arange(570, 811, 5), weights=sizes)[0]
        below.bar(np.arange(572.5, 810, 5), counts / 1_000, width=4.4, color=INK)
    if day.bulk:
        bulk = np.array(day.bulk)
        top.plot(
            _axis_minutes(bulk[:, 0]),
            bulk[:, 1] / 100,
            "D",
            color=SELL_COLOUR,
            label=words("大宗成交（不计入收盘价）", "bulk deals (not in the close)"),
        )
    low, high = _price_range(day)
    for price, name in (
        (day.limit_high, words("涨停价", "upper limit")),
        (day.limit_low, words("跌停价", "lower limit")),
        (day.reference, words("前收盘", "previous close")),
    ):
        if low <= price <= high:
            top.axhline(price / 100, color=INK, linewidth=0.8, linestyle=":" if price == day.reference else "--")
            text = f"{name}\n{format_price(price)}"
            top.annotate(text, (812, price / 100), ha="left", va="center", fontsize=8, color=INK, annotation_clip=False)
    top.set_ylim(low / 100, high / 100)
    close, limits = format_price(day.close), f"{format_price(day.limit_low)} … {format_price(day.limit_high)}"
    _title(
        top,
        f"{day.code} {to_date(day.date)} 挂牌协议成交，收盘价 {close} 元/吨，涨跌停价 {limits}",
        f"{day.code} {to_date(day.date)} listed deals, close {close} CNY/t, limits {limits}",
    )
    top.set_ylabel(words("价格（元/吨）", "price (CNY/t)"))
    top.legend(loc="upper left", bbox_to_anchor=(0, -0.02), ncols=3, frameon=False, fontsize=8)  # never over a deal
    below.set_ylabel(words("5分钟成交量（千吨）", "volume in 5 min (kt)", "\n"))
    _time_axis(below)


def _price_range(day: Day) -> tuple[int, int]:
    """What the axis shows, fen: all prices and the previous close, with room; a limit only when it is near."""
    prices = [price for _, price, _ in [*day.deals, *day.bulk]] + [day.reference]
    low, high = min(prices), max(prices)
    room = max(10, (high - low) // 4)
    near = [p for p in (day.limit_low, day.limit_high) if low - room <= p <= high + room]
    return min([low, *near]) - room, max([high, *near]) + room


def _draw_heat(figure: Any, day: Day) -> None:
    """Quantity per price and minute; deals on top."""
    axes = figure.subplots()
    prices = sorted({level.price for book in day.books for side in book for level in side})
    if not prices:
        raise SourceError(day.code, f"{day.date}: no order rested at the end of any minute")
    low, high = prices[0], prices[-1]
    table = np.full((high - low + 1, 240), np.nan)
    column_of = {m: int(_axis_minutes(m)) - 570 for m in day.minutes}
    last: Depth = Depth([], [])
    books = dict(zip(day.minutes, day.books, strict=True))
    for minute in [*range(570, 690), *range(780, 900)]:
        last = books.get(minute, last)
        for side in last:
            for level in side:
                table[level.price - low, column_of.get(minute, int(_axis_minutes(minute)) - 570)] = level.quantity
    image = axes.pcolormesh(
        np.arange(570, 811), (np.arange(low, high + 2) - 0.5) / 100, np.log10(table), cmap="cividis", rasterized=True
    )
    bar = figure.colorbar(image, ax=axes)
    bar.set_label(words("挂单量（吨）", "resting quantity (t)"))
    ticks = [t for t in range(7) if np.nanmin(np.log10(table)) <= t <= np.nanmax(np.log10(table))]
    bar.set_ticks(ticks, labels=[f"{10**t:,}" for t in ticks])
    if day.deals:
        deals = np.array(day.deals)
        axes.plot(
            _axis_minutes(deals[:, 0]),
            deals[:, 1] / 100,
            ".",
            color=SELL_COLOUR,
            markersize=2,
            label=words("成交", "deals"),
        )
        axes.legend(
            loc="lower right", bbox_to_anchor=(1, 1), frameon=False, fontsize=8, markerscale=3
        )  # outside: orders stand everywhere
    _title(
        axes,
        f"{day.code} {to_date(day.date)} 盘口深度（每分钟）",
        f"{day.code} {to_date(day.date)} depth of the book, every minute",
    )
    axes.set_ylabel(words("价格（元/吨）", "price (CNY/t)"))
    _time_axis(axes)


def _draw_spread(figure: Any, day: Day) -> None:
    """Spread at the touch, and which side of the best five levels is heavier."""
    top, below = figure.subplots(2, 1, sharex=True)
    both = [(m, b) for m, b in zip(day.minutes, day.books, strict=True) if b.bids and b.asks]
    if not both:
        raise SourceError(day.code, f"{day.date}: no minute ends with a bid and an ask")
    x = _axis_minutes([m for m, _ in both])
    top.step(x, [(b.asks[0].price - b.bids[0].price) for _, b in both], where="post", color=INK)
    top.set_ylim(bottom=0)
    top.set_ylabel(words("买卖价差（分）", "spread (fen)"))
    _title(
        top,
        f"{day.code} {to_date(day.date)} 买卖价差与五档买卖不平衡（每分钟）",
        f"{day.code} {to_date(day.date)} spread, and imbalance of the best five levels, every minute",
    )
    bids = np.array([sum(level.quantity for level in b.bids[:5]) for _, b in both])
    asks = np.array([sum(level.quantity for level in b.asks[:5]) for _, b in both])
    share = 100 * (bids - asks) / (bids + asks)
    below.fill_between(x, share, 0, where=share >= 0, step="post", color=BUY_COLOUR, label=words("买盘多", "more bids"))
    below.fill_between(x, share, 0, where=share < 0, step="post", color=SELL_COLOUR, label=words("卖盘多", "more asks"))
    below.axhline(0, color=INK, linewidth=0.8)
    below.set_ylim(-100, 100)
    below.set_ylabel(words("（买－卖）/（买＋卖），%", "(bids − asks) / both, %", "\n"))
    below.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=8)  # never over a bar
    _time_axis(below)
