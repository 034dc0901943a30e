"""Historical days of this market: sessions rebuilt from daily figures, and every figure compared (D31, D32).

For each day orders are sent through matching that lead to deals with the published open, high, low, volume and amount
of every vintage; close, change, limits and the composite must then come out of the engine as published. References
are the engine's own, carried from day to day: a published previous close is used on the first day only (R6.4, R6.5).
The order in which the vintages' deals come is solved so that the composite's open, high and low result too (R7.3).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Final

import msgspec

from engine.calendar import to_date
from engine.prices import composite_price
from engine.rules import Rules, in_force
from replay.bulk_deals import solve_bulk
from replay.day_session import DayOutcome, DaySession
from replay.deals import Deal, NoDeals, solve_deals
from replay.figures import COMPOSITE, DayFigures, VintageFigures, parse_hundredths, parse_tonnes, read_daily_file
from replay.flow import Episode, episodes_of
from replay.interleave import DayDeal, order_deals
from replay.pseudo_random import PseudoRandom
from replay.source_files import SourceError

LAUNCH: Final = 20210716
LAUNCH_REFERENCE_FEN: Final = 4_800  # the first day starts from 48.00 (E1, D32)
PIECES: Final = 12  # further deals per vintage and day, about

# Published figures that contradict their own rules, with what is exempt (D32). "row": the row is blank.
EXEMPT: Final = {
    (20230828, COMPOSITE): ("change", "prints 0.31, 0.42 %, which is not close / previous close − 1"),
    (20241226, COMPOSITE): ("close", "prints 97.80 for 97.805"),
    (20250114, COMPOSITE): ("open", "prints 0.00 on a day without a deal"),
    (20251013, COMPOSITE): ("row", "the row is blank"),
}
PRICES: Final = ("open", "high", "low", "close", "prev_close")
VOLUMES: Final = tuple(
    f"{kind}_{what}" for kind in ("listed", "bulk", "auction") for what in ("volume_t", "amount_cny")
)
REQUIRED_COLUMNS: Final = ("trade_date", "subject_code", *PRICES, "change_rate", *VOLUMES)

Changes = Mapping[tuple[int, str], int]  # (date, code) → published change in basis points
Progress = Callable[[int, int], None]


class Finding(msgspec.Struct, frozen=True):
    """A figure that differs: where, which, and what was published against what came out."""

    date: int
    code: str
    field: str
    reason: str


class DaysReport(msgspec.Struct):
    """What the replay found. A composite counts as matched when its published open and close came out.

    ``vintage_days``: rows of vintages, days without a deal included (their close is carried);
    ``ranges_matched``: days whose composite high and low came out too; ``ranges_unsolved``: days for which no order of
    the vintages' deals was found that gives them; a mismatch only where it is sure that there is none.
    """

    days: int = 0
    first: int = 0
    last: int = 0
    vintage_days: int = 0
    vintage_days_with_deals: int = 0
    closes_matched: int = 0
    composites_matched: int = 0
    ranges_matched: int = 0
    limits_matched: int = 0
    limit_violations: int = 0
    listed_deals: int = 0
    bulk_deals: int = 0
    auctions: int = 0
    exempt: list[Finding] = []
    mismatches: list[Finding] = []
    ranges_unsolved: list[Finding] = []
    bulk_unsolved: list[Finding] = []

    @property
    def ok(self) -> bool:
        """True when nothing differs but what D32 exempts."""
        return not self.mismatches and not self.limit_violations


def read_days(path: Path) -> tuple[list[DayFigures], Changes]:
    """The daily file's days and published changes. SourceError names file, line and reason."""
    changes: dict[tuple[int, str], int] = {}
    try:
        seen: set[tuple[int, str]] = set()
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            missing = [c for c in REQUIRED_COLUMNS if c not in (reader.fieldnames or ())]
            if missing:
                raise SourceError(path, f"has no column {missing[0]}", 1)
            for row in reader:
                try:
                    date = int(row["trade_date"].replace("-", ""))
                    to_date(date)  # ValueError where there is no such day
                    if (date, row["subject_code"]) in seen:
                        raise ValueError(f"a second row of {row['trade_date']} {row['subject_code']}")
                    seen.add((date, row["subject_code"]))
                    if row["change_rate"]:
                        changes[date, row["subject_code"]] = _basis_points(row["change_rate"])
                    for name in (*PRICES, *VOLUMES):
                        (parse_tonnes if name.endswith("_t") else parse_hundredths)(row[name])
                except (ValueError, TypeError, AttributeError) as error:
                    raise SourceError(path, str(error), reader.line_num) from error
        days = read_daily_file(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(path, f"cannot be read: {error}") from error
    except (KeyError, ValueError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(path, str(error)) from error
    return days, changes


def _basis_points(text: str) -> int:
    """``-1.17%`` → −117."""
    sign = -1 if text.startswith("-") else 1
    return sign * parse_hundredths(text.lstrip("+-").rstrip("%"))


def replay_days(
    path: Path, first: int = 0, last: int = 99_999_999, rules: Rules | None = None, progress: Progress | None = None
) -> DaysReport:
    """Replays the file's days from ``first`` to ``last`` (YYYYMMDD). SourceError when there is nothing to replay."""
    days, changes = read_days(path)
    chosen = [n for n, day in enumerate(days) if first <= day.date <= last]
    if not chosen:
        raise SourceError(
            path,
            f"has no day between {first} and {last}: it goes from {days[0].date} to {days[-1].date}"
            if days
            else "has no day",
        )
    start = chosen[0]
    before = days[start - 1] if start else None
    replay = DaysReplay(rules or Rules.national(), days[start], before, changes, path)
    for done, n in enumerate(chosen, 1):
        replay.day(days[n])
        if progress:
            progress(done, len(chosen))
    return replay.report


class DaysReplay:
    """The exchange and the comparison, day after day."""

    def __init__(
        self, rules: Rules, first: DayFigures, before: DayFigures | None, changes: Changes, path: Path
    ) -> None:
        self.rules, self.changes = rules, changes
        self.session = DaySession(rules)
        self.report = DaysReport(first=first.date)
        self.references, self.composite = starting_prices(rules, first, before, path)

    def day(self, day: DayFigures) -> None:
        """One day: orders, close, comparison."""
        r, session = self.report, self.session
        r.days += 1
        r.last = day.date
        session.begin(day.date, [v.code for v in day.vintages], self.references, self.composite)
        self.references, self.composite = {}, 0
        known = self._with_own_references(day)
        for v in known.vintages:
            limits = self._row(v.code)
            r.limit_violations += bool(v.listed_volume) and not (limits[1] <= v.low and v.high <= limits[2])
        episodes, solved = self._episodes(known)
        bulk = {v.code: self._bulk(day.date, v) for v in known.vintages if v.bulk_volume}
        auctions = {
            v.code: winning_bids(v.auction_volume, v.auction_amount) for v in known.vintages if v.auction_volume
        }
        r.auctions += len(auctions)
        session.trade(episodes, bulk, auctions)
        outcome = session.end(day.date)
        r.listed_deals += len(outcome.deals)
        for refused in outcome.refused:
            self._differs(day.date, refused.code, "order", f"refused by the exchange: {refused.text}")
        self._compare_vintages(day, outcome)
        self._compare_composite(day, outcome, solved)

    # --- the day's orders -----------------------------------------------------------------------------------

    def _row(self, code: str) -> tuple[int, ...]:
        """The engine's reference, limits and bulk band of a vintage: five numbers, fen."""
        market = self.session.exchange.market
        row = market.instruments[market.codes[code]]
        return tuple(int(row[n]) for n in ("reference", "limit_low", "limit_high", "bulk_low", "bulk_high"))

    def _with_own_references(self, day: DayFigures) -> DayFigures:
        """The day's figures with previous closes as the engine carries them: a new vintage's are not published."""
        vintages = tuple(msgspec.structs.replace(v, previous=self._row(v.code)[0]) for v in day.vintages)
        return msgspec.structs.replace(day, vintages=vintages)

    def _episodes(self, day: DayFigures) -> tuple[list[Episode], bool]:
        """The listed deals in their order, and whether the composite's high and low must result from it."""
        weights = in_force(self.rules.weights, day.date).weights
        pieces = {v.code: PIECES for v in day.vintages}
        solved, sequence = True, []
        if any(v.listed_volume for v in day.vintages):
            try:
                sequence = order_deals(day, weights, pieces=pieces, seed=day.date)
            except ValueError as error:  # NoOrder, NoDeals, or a high that only the close makes (R7.4 from 2026)
                solved = False
                if day.composite.open:
                    self.report.ranges_unsolved.append(Finding(day.date, COMPOSITE, "high, low", str(error)))
                    self._check_reach(day, weights)
                sequence = self._by_first_deal(day, weights)
        return episodes_of(sequence, day, PseudoRandom(day.date)), solved

    def _check_reach(self, day: DayFigures, weights: Mapping[str, int]) -> None:
        """A composite's high or low that no order of the deals can give: every vintage at its highest, or lowest."""
        sample = [v for v in day.vintages if weights.get(v.code)]
        if not sample:
            return
        shares = [weights[v.code] for v in sample]
        highest = composite_price([max(v.previous, v.high) for v in sample], shares)
        lowest = composite_price([min(v.previous, v.low or v.previous) for v in sample], shares)
        for field, published in (("high", day.composite.high), ("low", day.composite.low)):
            if not lowest <= published <= highest:
                reason = f"published {published}, and the vintages' prices of the day give {lowest} … {highest}"
                self._differs(day.date, COMPOSITE, field, reason)

    def _by_first_deal(self, day: DayFigures, weights: Mapping[str, int]) -> list[DayDeal]:
        """Vintage after vintage, the one first whose first deal makes the composite's open (R7.3)."""
        traded = [v for v in day.vintages if v.listed_volume]
        sample = [v for v in day.vintages if weights.get(v.code)]

        def opens_right(v: VintageFigures) -> bool:
            prices = [v.open if s.code == v.code else s.previous for s in sample]
            return bool(sample) and composite_price(prices, [weights[s.code] for s in sample]) == day.composite.open

        traded.sort(key=opens_right, reverse=True)
        sequence: list[DayDeal] = []
        for v in traded:
            try:
                deals = solve_deals(
                    v.open, v.high, v.low, v.listed_volume, v.listed_amount, pieces=PIECES, seed=day.date
                )
            except NoDeals as error:
                self._differs(day.date, v.code, "deals", str(error))
                continue
            sequence += [DayDeal(v.code, p, q, len(sequence) + n) for n, (p, q) in enumerate(deals)]
        return sequence

    def _bulk(self, date: int, v: VintageFigures) -> list[Deal]:
        low, high = self._row(v.code)[3:]
        try:
            deals = solve_bulk(v.bulk_volume, v.bulk_amount, low, high, self.rules.bulk_quantity_min_t)
        except NoDeals as error:
            self.report.bulk_unsolved.append(Finding(date, v.code, "bulk", str(error)))
            self._differs(date, v.code, "bulk", str(error))
            return []
        self.report.bulk_deals += len(deals)
        return deals

    # --- comparison -----------------------------------------------------------------------------------------

    def _differs(self, date: int, code: str, field: str, reason: str) -> None:
        """Writes a difference down: as exempt where D32 says so, else as a mismatch."""
        exempt, why = EXEMPT.get((date, code), ("", ""))
        if exempt == field:
            self.report.exempt.append(Finding(date, code, field, f"{reason}; {why} (D32)"))
        else:
            self.report.mismatches.append(Finding(date, code, field, reason))

    def _compare(self, date: int, code: str, figures: Mapping[str, tuple[int, int]]) -> bool:
        """Compares published with own figures, by name. True when all are equal."""
        equal = True
        for field, (published, own) in figures.items():
            if published != own:
                self._differs(date, code, field, f"published {published}, came out {own}")
                equal = False
        return equal

    def _compare_vintages(self, day: DayFigures, outcome: DayOutcome) -> None:
        r = self.report
        came_out = {v.code: v for v in outcome.result.vintages}
        for v in day.vintages:
            own = came_out[v.code]
            r.vintage_days += 1
            r.vintage_days_with_deals += bool(v.listed_volume)
            r.closes_matched += v.close == own.close
            figures = {
                "open": (v.open, own.open),
                "high": (v.high, own.high),
                "low": (v.low, own.low),
                "close": (v.close, own.close),
                "volume": (v.listed_volume, own.volume),
                "amount": (v.listed_amount, own.amount),
                "auction volume": (v.auction_volume, own.auction_volume),
                "auction amount": (v.auction_amount, own.auction_amount),
            }
            if v.previous:
                figures["previous"] = (v.previous, own.previous)
            if (day.date, v.code) in self.changes:
                figures["change"] = (self.changes[day.date, v.code], own.change_bp)
            bulk_solved = not any((b.date, b.code) == (day.date, v.code) for b in r.bulk_unsolved)
            if bulk_solved:
                figures["bulk volume"] = (v.bulk_volume, own.bulk_volume)
                figures["bulk amount"] = (v.bulk_amount, own.bulk_amount)
            self._compare(day.date, v.code, figures)
            wanted = limits_by_decimal(own.previous, in_force(self.rules.limits, day.date).listed_bp)
            if outcome.limits[v.code] == wanted == (own.limit_low, own.limit_high):
                r.limits_matched += 1
            else:
                reason = f"the rule gives {wanted}, orders found {outcome.limits[v.code]}"
                self._differs(day.date, v.code, "limits", reason)

    def _compare_composite(self, day: DayFigures, outcome: DayOutcome, solved: bool) -> None:
        r, c, own = self.report, day.composite, outcome.result
        field = EXEMPT.get((day.date, COMPOSITE), ("", ""))[0]
        if not (c.open or c.close):
            self._differs(day.date, COMPOSITE, "row", f"blank; open {own.composite_open}, close {own.composite_close}")
            return
        equal = self._compare(
            day.date, COMPOSITE, {"open": (c.open, own.composite_open), "close": (c.close, own.composite_close)}
        )
        r.composites_matched += equal
        if solved or not any(v.listed_volume for v in day.vintages):
            figures = {"high": (c.high, own.composite_high), "low": (c.low, own.composite_low)}
            r.ranges_matched += self._compare(day.date, COMPOSITE, figures)
        if c.previous:
            self._compare(day.date, COMPOSITE, {"previous": (c.previous, own.composite_previous)})
        if (day.date, COMPOSITE) in self.changes and field != "close":  # the change follows from the close
            published = self.changes[day.date, COMPOSITE]
            self._compare(day.date, COMPOSITE, {"change": (published, own.composite_change_bp)})
        if field == "close" and c.close != own.composite_close:
            self.composite = c.close  # what was printed stands as the next day's previous close


def winning_bids(volume: int, amount: int) -> list[Deal]:
    """Bids that win an auction whole with these sums: one price, or two neighbouring ones, the higher first."""
    price, above = divmod(amount, volume)
    return [(p, q) for p, q in ((price + 1, above), (price, volume - above)) if q]


def limits_by_decimal(reference_fen: int, limit_bp: int) -> tuple[int, int]:
    """R6.2 once more, in decimal arithmetic, so that the engine's limits have something to be compared with."""
    low, high = (
        (Decimal(reference_fen) * (10_000 + sign * limit_bp) / 10_000).quantize(Decimal(1), ROUND_HALF_UP)
        for sign in (-1, 1)
    )
    return int(low), int(high)


def starting_prices(
    rules: Rules, first: DayFigures, before: DayFigures | None, path: Path
) -> tuple[dict[str, int], int]:
    """References by code and the composite's previous close with which the first replayed day begins (D32)."""
    closes = {v.code: v.close for v in before.vintages} if before else {}
    references = {v.code: v.previous or closes.get(v.code, 0) for v in first.vintages}
    references = {code: reference for code, reference in references.items() if reference}
    if first.date == LAUNCH:
        references.setdefault("CEA", LAUNCH_REFERENCE_FEN)
        return references, first.composite.previous or LAUNCH_REFERENCE_FEN
    composite = first.composite.previous or (before.composite.close if before else 0)
    if not composite:
        weights = in_force(rules.weights, before.date if before else first.date).weights
        sample = [code for code in references if weights.get(code)]
        if sample:
            composite = composite_price([references[c] for c in sample], [weights[c] for c in sample])
    if not composite:
        raise SourceError(path, f"{first.date}: neither the composite nor a vintage has a previous close to start from")
    return references, composite
