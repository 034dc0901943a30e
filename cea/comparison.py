"""The day's result next to the published figures, figure by figure."""

from __future__ import annotations

from typing import NamedTuple

from engine.bulletin import Bulletin
from engine.messages import VintageClose
from engine.prices import change_bp, format_amount, format_change, format_price
from replay.figures import COMPOSITE, DayFigures


class Figure(NamedTuple):
    """One figure: whose, which, ours and the published one as text."""

    code: str
    name: str
    ours: str
    published: str

    @property
    def equal(self) -> bool:
        """True when both are the same text."""
        return self.ours == self.published


def compare(bulletin: Bulletin, day: DayFigures) -> list[Figure]:
    """Every published figure of the day: prices, change, volumes and amounts, per vintage and of the composite."""
    figures: list[Figure] = []
    ours = {v.code: v for v in bulletin.vintages}
    for p in day.vintages:
        v = ours.get(p.code)
        names = _vintage_texts(v) if v is not None else {}
        published = {
            "open": format_price(p.open),
            "high": format_price(p.high) if p.listed_volume else "-",
            "low": format_price(p.low) if p.listed_volume else "-",
            "close": format_price(p.close),
            "previous": format_price(p.previous),
            "change": format_change(change_bp(p.close, p.previous)),
            "listed t": f"{p.listed_volume:,}",
            "listed CNY": format_amount(p.listed_amount),
            "bulk t": f"{p.bulk_volume:,}",
            "bulk CNY": format_amount(p.bulk_amount),
        }
        if p.auction_volume or (v is not None and v.auction_volume):
            published |= {"auction t": f"{p.auction_volume:,}", "auction CNY": format_amount(p.auction_amount)}
        figures += [Figure(p.code, name, names.get(name, "missing"), text) for name, text in published.items()]
    c, b = day.composite, bulletin
    figures += [
        Figure(COMPOSITE, name, mine, theirs)
        for name, mine, theirs in (
            ("open", format_price(b.composite_open), format_price(c.open)),
            ("high", format_price(b.composite_high), format_price(c.high)),
            ("low", format_price(b.composite_low), format_price(c.low)),
            ("close", format_price(b.composite_close), format_price(c.close)),
            ("previous", format_price(b.composite_previous), format_price(c.previous)),
            ("change", format_change(b.composite_change_bp), format_change(change_bp(c.close, c.previous))),
            ("listed t", f"{b.day.listed_volume:,}", f"{c.listed_volume:,}"),
            ("listed CNY", format_amount(b.day.listed_amount), format_amount(c.listed_amount)),
            ("bulk t", f"{b.day.bulk_volume:,}", f"{c.bulk_volume:,}"),
            ("bulk CNY", format_amount(b.day.bulk_amount), format_amount(c.bulk_amount)),
        )
    ]
    return figures


def _vintage_texts(v: VintageClose) -> dict[str, str]:
    return {
        "open": format_price(v.open),
        "high": format_price(v.high) if v.volume else "-",
        "low": format_price(v.low) if v.volume else "-",
        "close": format_price(v.close),
        "previous": format_price(v.previous),
        "change": format_change(v.change_bp),
        "listed t": f"{v.volume:,}",
        "listed CNY": format_amount(v.amount),
        "bulk t": f"{v.bulk_volume:,}",
        "bulk CNY": format_amount(v.bulk_amount),
        "auction t": f"{v.auction_volume:,}",
        "auction CNY": format_amount(v.auction_amount),
    }
