"""The picture of queue positions: one line per order, from its arrival to its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from engine.calendar import to_date
from engine.prices import format_price
from engine.records import BUY
from replay.market_charts import (
    BUY_COLOUR,
    GREY,
    INK,
    SELL_COLOUR,
    _axis_minutes,
    _time_axis,
    _title,
    words,
    write_picture,
)
from replay.queue_positions import FILLED, Place
from replay.source_files import SourceError

SHOWN: Final = 40  # lines that can still be told apart; the ones that waited longest behind others
SECOND: Final = 1 / 60  # minutes; what rested for less is a dot, not a line
NAMED: Final = 5  # up to so many lines bear their price


def draw_queues(code: str, date: int, places: Sequence[Place], out: Path) -> None:
    """Draws the orders that waited longest. SourceError when no order ever rested."""
    rested = [p for p in places if p.length >= SECOND] or list(places)
    shown = sorted(rested, key=lambda p: (max(p.ahead) > 0, p.length), reverse=True)[:SHOWN]
    if not shown:
        raise SourceError(code, f"{date}: no such order rested")
    write_picture(out, f"{code} {to_date(date)} queue", lambda figure: _paint(figure, code, date, shown, len(places)))


def _paint(figure: Any, code: str, date: int, shown: Sequence[Place], total: int) -> None:
    axes = figure.subplots()
    told: set[str] = set()

    def once(label: str) -> str:
        known = label in told
        told.add(label)
        return "_nolegend_" if known else label

    for place in shown:
        colour = BUY_COLOUR if place.side == BUY else SELL_COLOUR
        name = words("买单", "bids") if place.side == BUY else words("卖单", "asks")
        x = _axis_minutes(place.minutes)
        axes.step(x, place.ahead, where="post", color=colour, linewidth=1, alpha=0.8, label=once(name))
        filled = place.end == FILLED
        end = words("成交", "filled") if filled else words("撤单或失效", "cancelled or lapsed")
        style = {"marker": "o", "color": INK} if filled else {"marker": "x", "color": GREY}
        axes.plot(x[-1:], place.ahead[-1:], linestyle="", markersize=5, label=once(end), **style)
        if len(shown) <= NAMED:
            axes.annotate(format_price(place.price), (x[0], place.ahead[0]), fontsize=8, color=colour, va="bottom")
    axes.set_ylim(bottom=0)
    axes.set_ylabel(words("同价位前面排队量（吨）", "tonnes ahead at the same price"))
    few = total > len(shown)
    _title(
        axes,
        f"{code} {to_date(date)} 排队位置，"
        + (f"{total:,} 笔中等待最久的 {len(shown)} 笔" if few else f"{total:,} 笔"),
        f"{code} {to_date(date)} queue positions, "
        + (f"the {len(shown)} of {total:,} that waited longest" if few else f"{total:,} orders"),
    )
    axes.legend(loc="upper right", fontsize=8)  # queues grow shorter: there is room
    axes.yaxis.set_major_formatter("{x:,.0f}")
    _time_axis(axes)
