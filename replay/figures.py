"""Published figures of one trading day, per vintage and of the composite: what a replayed day must arrive at.

Prices in fen, quantities in tonnes, amounts in fen. High and low are 0 on a day without a listed deal.
"""

from __future__ import annotations

import csv
from pathlib import Path

import msgspec

COMPOSITE = "COMCEA"


class VintageFigures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One vintage's (or the composite's) published row of a day."""

    code: str
    previous: int
    open: int
    high: int
    low: int
    close: int
    listed_volume: int = 0
    listed_amount: int = 0
    bulk_volume: int = 0
    bulk_amount: int = 0
    auction_volume: int = 0
    auction_amount: int = 0


class DayFigures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One trading day: date YYYYMMDD, source of the figures, the vintages in listing order, the composite."""

    date: int
    source: str
    composite: VintageFigures
    vintages: tuple[VintageFigures, ...]

    def vintage(self, code: str) -> VintageFigures:
        """A vintage's figures; KeyError when it has none that day."""
        for v in self.vintages:
            if v.code == code:
                return v
        raise KeyError(code)


def parse_hundredths(text: str) -> int:
    """Decimal text of a published file (``59.5``, ``595000.0``, empty) to hundredths, exactly; ValueError names it."""
    if not text:
        return 0
    whole, _, fraction = text.partition(".")
    if not (whole + fraction).isdigit() or fraction[2:].strip("0"):
        raise ValueError(f"figure {text!r}: expected a number with at most two decimals")
    return int(whole) * 100 + int((fraction + "00")[:2])


def parse_tonnes(text: str) -> int:
    """Whole tonnes of a published file (``10000.0``); ValueError names a fraction."""
    tonnes, rest = divmod(parse_hundredths(text), 100)
    if rest:
        raise ValueError(f"figure {text!r}: expected whole tonnes")
    return tonnes


def read_daily_file(path: Path) -> list[DayFigures]:
    """The exchange's daily file (one row per day and code, columns as published) as days in order of date."""
    days: dict[str, dict[str, VintageFigures]] = {}
    with path.open(encoding="utf-8-sig", newline="") as lines:
        for row in csv.DictReader(lines):
            figures = VintageFigures(
                code=row["subject_code"],
                previous=parse_hundredths(row["prev_close"]),
                open=parse_hundredths(row["open"]),
                high=parse_hundredths(row["high"]),
                low=parse_hundredths(row["low"]),
                close=parse_hundredths(row["close"]),
                listed_volume=parse_tonnes(row["listed_volume_t"]),
                listed_amount=parse_hundredths(row["listed_amount_cny"]),
                bulk_volume=parse_tonnes(row["bulk_volume_t"]),
                bulk_amount=parse_hundredths(row["bulk_amount_cny"]),
                auction_volume=parse_tonnes(row["auction_volume_t"]),
                auction_amount=parse_hundredths(row["auction_amount_cny"]),
            )
            days.setdefault(row["trade_date"], {})[figures.code] = figures
    nothing = VintageFigures(code=COMPOSITE, previous=0, open=0, high=0, low=0, close=0)
    return [
        DayFigures(
            date=int(date.replace("-", "")),
            source=path.name,
            composite=rows.get(COMPOSITE, nothing),
            vintages=tuple(v for code, v in rows.items() if code != COMPOSITE),
        )
        for date, rows in sorted(days.items())
    ]
