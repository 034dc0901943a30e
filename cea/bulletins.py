"""`cea bulletin`: closed days from the journal, with year and all-time totals (R11, D29)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cea.output import Exit, fail, print_json

if TYPE_CHECKING:
    from engine.bulletin import Bulletin, OpeningTotals

TOTALS_FILE = Path(__file__).with_name("totals_20251202.toml")


def opening_totals(folder: Path, first_date: int) -> OpeningTotals:
    """The totals that a market's bulletins start from: its ``totals.toml``; without one, the published sums.

    The published sums go up to 2025-12-02; a market that starts on another day starts from nothing.
    """
    from engine.bulletin import OpeningTotals, Totals

    own = folder / "totals.toml"
    try:
        if own.is_file():
            return msgspec.toml.decode(own.read_bytes(), type=OpeningTotals)
        published = msgspec.toml.decode(TOTALS_FILE.read_bytes(), type=OpeningTotals)
    except msgspec.DecodeError as error:
        fail(f"{own}: {error}", Exit.CONFIG)
    if first_date == 20251203:
        return published
    return OpeningTotals(until=first_date - 1, year=Totals(), launch=Totals())


def bulletins_of(folder: Path) -> list[Bulletin]:
    """The bulletin of every closed day in the journal, in order. A later result of a day is a new version (D29)."""
    from cea.replaying import load_market, notices_of
    from engine.bulletin import make_bulletin, totals_after
    from engine.messages import DayClosed

    totals = opening_totals(folder, load_market(folder).config.first_date)
    found: list[Bulletin] = []
    reason = ""
    for notice in notices_of(folder):
        if notice.get("what") == "bulletin_correction":
            reason = notice["text"]
        if notice.get("t") != "day_closed":
            continue
        closed = msgspec.convert(notice, DayClosed)
        if found and closed.date == found[-1].date:
            found.append(make_bulletin(closed, totals, found[-1].version + 1, reason))
        else:
            totals = totals_after(found[-1]) if found else totals
            found.append(make_bulletin(closed, totals))
    return found


def bulletin_rows(bulletins: Sequence[Bulletin]) -> list[tuple[Any, ...]]:
    """One row per bulletin and vintage, and one of the composite; the columns are replay.bulletin_table's."""
    from replay.figures import COMPOSITE

    rows: list[tuple[Any, ...]] = []
    for b in bulletins:
        for v in b.vintages:
            sums = (v.volume, v.amount, v.bulk_volume, v.bulk_amount, v.auction_volume, v.auction_amount)
            prices = (v.open, v.high, v.low, v.close, v.previous, v.change_bp)
            rows.append((b.date, b.version, v.code, *prices, *sums))
        prices = (b.composite_open, b.composite_high, b.composite_low, b.composite_close, b.composite_previous,
                  b.composite_change_bp)  # fmt: skip
        rows.append((b.date, b.version, COMPOSITE, *prices, *msgspec.structs.astuple(b.day)))
    return rows


def correct_command(folder: Path, who: str, why: str, *, as_json: bool) -> None:
    """The closed day's result once more, with the reason: the next version of its bulletin; the others stay (D29)."""
    from cea.connecting import operator
    from engine.messages import CorrectBulletin

    if not why.strip():
        fail("say why: --why TEXT", Exit.USAGE)
    with operator(folder, who or "ops1") as client:
        client.execute(CorrectBulletin(why=why))
    bulletin_command(folder, 0, as_json=as_json)


def bulletin_command(folder: Path, date: int, out: Path | None = None, *, as_json: bool) -> None:
    """Prints the last bulletin, or that of a date; with ``out``, writes all of them (or the date's) as a table."""
    from cea.demo import print_bulletin
    from cea.output import console, table
    from engine.bulletin import COLUMNS, table_rows

    found = [b for b in bulletins_of(folder) if date in (0, b.date)]
    if not found:
        fail(f"{folder}: no day is closed yet" if not date else f"{folder}: {date} is not a closed day", Exit.NO)
    if out is not None:
        from replay.bulletin_table import write_bulletins
        from replay.source_files import SourceError

        try:
            rows = write_bulletins(out, bulletin_rows(found))
        except (SourceError, OSError) as error:
            fail(str(error), Exit.USAGE)
        print(f"{out}: {rows:,} rows of {len(found):,} bulletins")
        return
    bulletin = found[-1]
    if as_json:
        print_json(bulletin)
        return
    print_bulletin(bulletin)
    console().print(table([en for en, _ in COLUMNS], table_rows(bulletin)))
