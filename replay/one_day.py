"""One historical day of this market, rebuilt with the flow between its deals, and played through an engine.

:func:`plan_day` reads the published figures and makes a whole day of messages from which they must result: listed
orders (replay.flow), bulk deals for the desk, winning bids of the auctions. :func:`play` sends them through an
exchange of its own; ``cea day --gateway`` sends the same plan through the exchange process.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np

from engine import messages as msg
from engine.bulletin import OpeningTotals, Totals
from engine.codes import Code
from engine.prices import price_limits
from engine.records import ACCEPTED, COMMAND, FILL_MAKER, FILL_TAKER, NEW, REJECTED
from engine.rules import Rules, in_force
from replay.bulk_deals import solve_bulk
from replay.day_session import MEMBERS, DayOutcome, DaySession
from replay.days import read_days, starting_prices, winning_bids
from replay.deals import Deal
from replay.figures import DayFigures
from replay.flow import INTRADAY_PROFILE, MEMBER_MIX, Action, Flow, build_flow
from replay.source_files import SourceError

DEALS_DEFAULT: Final = 200  # listed deals of a day, about; some 77,000 a year are some 300 a day (assumed, D33)
BULK_AFTER_NS: Final = 45 * 60 * 1_000_000_000  # bulk parties meet three quarters of an hour after the desk opens


class DayPlan(NamedTuple):
    """What is sent on the day, and what must come out: ``day`` has every previous close filled in (R6.5)."""

    day: DayFigures
    composite: int  # its previous close, fen
    flow: Flow
    bulk: list[tuple[str, int, int]]  # code, price (fen), quantity (t)
    auctions: dict[str, list[Deal]]
    totals: OpeningTotals  # of the days before (D29)


class Played(NamedTuple):
    """What the exchange made of it; ``deals``: per vintage (time ns, price fen, quantity t)."""

    outcome: DayOutcome
    deals: dict[str, list[tuple[int, int, int]]]
    wrong: list[str]  # messages whose outcome was not the flow's


def plan_day(path: Path, date: int, rules: Rules, *, deals: int = DEALS_DEFAULT, seed: int = 1) -> DayPlan:
    """The plan of one day of the daily file. SourceError when the day is not there or no deals give its figures."""
    days, _ = read_days(path)
    at = next((n for n, d in enumerate(days) if d.date == date), -1)
    if at < 0:
        raise SourceError(path, f"has no day {date}: it goes from {days[0].date} to {days[-1].date}")
    references, composite = starting_prices(rules, days[at], days[at - 1] if at else None, path)
    vintages = tuple(msgspec.structs.replace(v, previous=references.get(v.code, composite)) for v in days[at].vintages)
    day = msgspec.structs.replace(
        days[at], vintages=vintages, composite=msgspec.structs.replace(days[at].composite, previous=composite)
    )
    if not days[at].composite.open and any(v.listed_volume for v in vintages):
        raise SourceError(path, f"{date}: the composite's row is blank (D32); `cea replay days` compares the vintages")
    try:
        bulk = bulk_of(day, rules)
        flow = _flow(day, rules, deals, seed)
    except ValueError as error:
        raise SourceError(path, f"{date}: {error}") from error
    auctions = {v.code: winning_bids(v.auction_volume, v.auction_amount) for v in vintages if v.auction_volume}
    return DayPlan(day, composite, flow, bulk, auctions, totals_before(days[:at], date))


def bulk_of(day: DayFigures, rules: Rules) -> list[tuple[str, int, int]]:
    """Bulk deals (code, price fen, quantity t) with the published sums. NoDeals where there are none."""
    bulk_bp = in_force(rules.limits, day.date).bulk_bp
    bulk: list[tuple[str, int, int]] = []
    for v in day.vintages:
        if v.bulk_volume:
            low, high = price_limits(v.previous, bulk_bp)
            found = solve_bulk(v.bulk_volume, v.bulk_amount, low, high, rules.bulk_quantity_min_t)
            bulk += [(v.code, price, quantity) for price, quantity in found]
    return bulk


def _flow(day: DayFigures, rules: Rules, deals: int, seed: int) -> Flow:
    """The richest flow up to ``deals`` deals for which an order is found: each vintage has its share by volume."""
    volume = sum(v.listed_volume for v in day.vintages) or 1
    while True:
        pieces = {v.code: -(-deals * v.listed_volume // volume) for v in day.vintages}
        try:
            return build_flow(
                day, rules, pieces=pieces, seed=seed, refusals=False, profile=INTRADAY_PROFILE, mix=MEMBER_MIX
            )
        except ValueError:  # NoOrder, NoDeals: a narrow range of the composite leaves room for fewer deals
            if not deals:
                raise
            deals //= 2


def totals_before(days: Sequence[DayFigures], date: int) -> OpeningTotals:
    """Sums of the daily file before a day: of its year, and since launch (D29)."""
    names = Totals.__struct_fields__

    def total(of: Sequence[DayFigures]) -> Totals:
        return Totals(*(sum(getattr(v, name) for d in of for v in d.vintages) for name in names))

    own_year = [d for d in days if d.date // 10_000 == date // 10_000]
    return OpeningTotals(until=days[-1].date if days else date - 1, year=total(own_year), launch=total(days))


def play(plan: DayPlan, rules: Rules) -> Played:
    """The plan through an exchange of its own, message by message."""
    session = FlowSession(rules, plan.flow)
    references = {v.code: v.previous for v in plan.day.vintages}
    session.begin(plan.day.date, list(references), references, plan.composite)
    session.play(plan)
    outcome = session.end(plan.day.date)
    return Played(outcome, session.timed_deals, session.wrong)


class FlowSession(DaySession):
    """A day session whose listed orders come from the flow's own members; desk and auction parties stay apart."""

    def __init__(self, rules: Rules, flow: Flow) -> None:
        super().__init__(rules, further_accounts=len(flow.members))
        self.flow = flow
        self.orders: dict[int, int] = {}
        self.timed_deals: dict[str, list[tuple[int, int, int]]] = {}
        self.wrong: list[str] = []
        for number, member in enumerate(flow.members, MEMBERS):
            self.must(msg.OpenAccount(account=number, name=member.name))
            self.must(msg.Deposit(account=number, amount=member.cash, document=f"cash-{number}"))

    def _list(self, code: str, reference: int | None) -> None:
        super()._list(code, reference)
        for number, member in enumerate(self.flow.members, MEMBERS):
            quantity = member.allowances.get(code, 0)
            if quantity:
                name = f"{code}-{number}"
                self.must(msg.TransferIn(account=number, instrument=code, quantity=quantity, transfer=name))

    def play(self, plan: DayPlan) -> None:
        """All messages in order of time; auctions at the open and at midday, bulk deals in the afternoon."""
        m = self.exchange.market.market[0]
        afternoon, desk = int(m["afternoon_open"]), int(m["bulk_open"]) + BULK_AFTER_NS
        for code, bids in plan.auctions.items():
            self._send_auction(code, bids)
        sold = not plan.auctions
        met = not plan.bulk
        for action in plan.flow.actions:
            if not sold and action.time_ns >= afternoon:
                self._sell_auctions(afternoon)
                sold = True
            if not met and action.time_ns > desk:
                self._meet(plan, desk)
                met = True
            self._act(action)
        if not sold:
            self._sell_auctions(afternoon)
        if not met:
            self._meet(plan, desk)

    def _meet(self, plan: DayPlan, time_ns: int) -> None:
        self.exchange.advance(max(time_ns, self.exchange.time_ns))
        for code, price, quantity in plan.bulk:
            self._send_bulk({code: [(price, quantity)]})

    def _act(self, a: Action) -> None:
        """One message; its outcome is compared with the flow's."""
        record = np.zeros(1, COMMAND)
        record["kind"], record["side"], record["price"], record["quantity"] = a.kind, a.side, a.price, a.quantity
        record["account"], record["order_type"] = MEMBERS + a.member, a.order_type
        record["instrument"] = self.exchange.market.codes[a.code]
        if a.kind != NEW:
            record["order_id"] = self.orders.get(a.label, 0)
        self.exchange.advance(max(a.time_ns, self.exchange.time_ns))
        events = self.exchange.submit(record)
        first = events[0]
        code = Code(int(first["reason"])) if first["kind"] == REJECTED else Code.OK
        filled = int(events["quantity"][events["kind"] == FILL_TAKER].sum())
        if (code, filled) != (a.expect, a.filled):
            self.wrong.append(f"{a}: outcome {code.name}, {filled} t dealt")
        if a.kind == NEW and first["kind"] == ACCEPTED:
            self.orders[a.label] = int(first["order_id"])
        for e in events[events["kind"] == FILL_MAKER]:
            row = (int(e["time_ns"]), int(e["price"]), int(e["quantity"]))
            self.timed_deals.setdefault(a.code, []).append(row)
