"""Bulk and auction deals, and what happens before them: kept from the notices, in plain rows.

They are few (some thousand a day at most), so that they need no machine code. The deals of the last days are kept,
because what was bought today cannot be sold today (R5.5): a ring of bulk deals takes days.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from engine.records import BUY, NO_ACCOUNT

if TYPE_CHECKING:
    from gateway.surveillance.thresholds import Thresholds

# A year of this market has some 500 bulk deals; an auction of 100,000 bids deals with each of them once.
AGREED_MAX: Final = 1 << 17
ENDED_MAX: Final = 1 << 14  # withdrawn declarations and cancelled bids of a day that are kept
NS_PER_MS: Final = 1_000_000


class Agreed(NamedTuple):
    """One bulk or auction deal: prices in fen, quantity in t, time ns UTC. ``auction`` 0: of the desk."""

    seq: int
    time_ns: int
    date: int
    number: int
    instrument: int
    seller: int
    buyer: int
    price: int
    quantity: int
    auction: int
    listed: int  # the vintage's last listed price then, or its previous close; fen, 0 where it is not known


class Withdrawn(NamedTuple):
    """A declaration that its maker took back soon, or a bid that its bidder cancelled."""

    seq: int
    time_ns: int
    instrument: int
    account: int
    quantity: int
    number: int
    began_seq: int


class Auctioned(NamedTuple):
    """An auction that dealt."""

    auction: int
    instrument: int
    seller: int
    time_ns: int
    deals: tuple[Agreed, ...]


class AgreedDeals:
    """The rows of some days, and those of today that the detectors have not looked at yet."""

    def __init__(self) -> None:
        self.date = 0
        self.dates: list[int] = []  # trading days whose deals are kept, today the last
        self.deals: deque[Agreed] = deque(maxlen=AGREED_MAX)
        self.fresh: list[Agreed] = []  # since the last look
        self.auctioned: list[Auctioned] = []  # since the last look
        self.declared: dict[int, tuple[int, int]] = {}  # declaration → time, sequence
        self.withdrawn: dict[int, list[Withdrawn]] = {}  # account → today's
        self.cancelled_bids: dict[tuple[int, int], list[Withdrawn]] = {}  # auction, account → today's
        self.offered: dict[int, int] = {}  # auction → t
        # sums of the kept days: (instrument, seller, buyer) → t, fen; (instrument, account) → t
        self.flows: dict[tuple[int, int, int], tuple[int, int]] = {}
        self.sold: Counter[tuple[int, int]] = Counter()
        self.bought: Counter[tuple[int, int]] = Counter()
        self._today: dict[int, dict[int, tuple[int, int]]] = {}  # account → instrument → t bought, t sold today
        self.version = 0  # changes with the sums
        self._won: dict[int, list[tuple[int, int, int, int, int]]] = {}  # auction → account, price, t, number, seq
        self._kept = 0

    def start_day(self, date: int, days: int) -> None:
        """Forgets what only concerned yesterday, and the deals of more than ``days`` trading days before."""
        if date == self.date:
            return
        self.date = date
        self.declared.clear()
        self.withdrawn.clear()
        self.cancelled_bids.clear()
        self._won.clear()
        self._kept = 0
        self.dates = [*self.dates, date][-days:]
        oldest = self.dates[0]
        self._refill(d for d in self.deals if d.date >= oldest)

    def _refill(self, deals: Iterable[Agreed]) -> None:
        """Makes rows and sums anew."""
        self.deals, self.flows = deque(deals, maxlen=AGREED_MAX), {}
        self.sold.clear()
        self.bought.clear()
        self._today.clear()
        for deal in self.deals:
            self._sum(deal)

    def _sum(self, d: Agreed) -> None:
        t, fen = self.flows.get((d.instrument, d.seller, d.buyer), (0, 0))
        self.flows[d.instrument, d.seller, d.buyer] = t + d.quantity, fen + d.quantity * d.price
        self.sold[d.instrument, d.seller] += d.quantity
        self.bought[d.instrument, d.buyer] += d.quantity
        self.version += 1
        if d.date == self.date:
            for account, bought, sold in ((d.buyer, d.quantity, 0), (d.seller, 0, d.quantity)):
                mine = self._today.setdefault(account, {})
                before = mine.get(d.instrument, (0, 0))
                mine[d.instrument] = before[0] + bought, before[1] + sold

    def take(self, event: np.void, notice: dict[str, Any], listed: int, t: Thresholds) -> None:
        """One notice of desk or auction; everything that its receiver is told twice is taken once.

        ``listed``: the vintage's last listed price, fen. A deal is told to both sides: the buyer's copy counts.
        """
        kind = notice["t"]
        seq, time_ns, account = int(event["seq"]), int(event["time_ns"]), int(event["account"])
        instrument = int(event["instrument"])
        if kind == "bulk_deal" and notice["side"] == BUY:
            self._add(
                Agreed(
                    seq, time_ns, self.date, notice["number"], instrument, notice["counterparty"], account,
                    notice["price"], notice["quantity"], 0, listed,
                )
            )  # fmt: skip
        elif kind == "bulk_declaration" and account == NO_ACCOUNT:
            self._declaration(notice, seq, time_ns, instrument, t.desk_life_ms * NS_PER_MS)
        elif kind == "auction_announced":
            self.offered[notice["auction"]] = notice["quantity"]
        elif kind == "auction_bid_state" and notice["account"] == account and notice["state"] == "cancelled":
            row = Withdrawn(seq, time_ns, instrument, account, notice["quantity"], notice["bid"], seq)
            self._keep(self.cancelled_bids.setdefault((notice["auction"], account), []), row)
        elif kind == "auction_bid_result" and notice["filled"]:
            won = account, notice["price"], notice["filled"], notice["number"], seq
            self._won.setdefault(notice["auction"], []).append(won)
        elif kind == "auction_sold":
            self._sold(notice["auction"], instrument, account, time_ns, listed)

    def _declaration(self, notice: dict[str, Any], seq: int, time_ns: int, instrument: int, life_ns: int) -> None:
        number, state, account = notice["declaration"], notice["state"], notice["maker"]
        if state == "open":
            self.declared.setdefault(number, (time_ns, seq))
            return
        began = self.declared.pop(number, None)
        if state == "withdrawn" and began is not None and time_ns - began[0] <= life_ns:
            row = Withdrawn(seq, time_ns, instrument, account, notice["quantity"], number, began[1])
            self._keep(self.withdrawn.setdefault(account, []), row)

    def _keep(self, rows: list[Withdrawn], row: Withdrawn) -> None:
        if self._kept < ENDED_MAX:
            self._kept += 1
            rows.append(row)

    def _sold(self, auction: int, instrument: int, seller: int, time_ns: int, listed: int) -> None:
        rows = tuple(
            Agreed(seq, time_ns, self.date, number, instrument, seller, buyer, price, t, auction, listed)
            for buyer, price, t, number, seq in self._won.pop(auction, [])
        )
        for row in rows:
            self._add(row)
        self.auctioned.append(Auctioned(auction, instrument, seller, time_ns, rows))

    def _add(self, deal: Agreed) -> None:
        if len(self.deals) == AGREED_MAX:  # rare: the oldest half goes at once, so that sums are seldom made anew
            self._refill(list(self.deals)[AGREED_MAX // 2 :])
        self.deals.append(deal)
        self.fresh.append(deal)
        self._sum(deal)

    def cancel(self, number: int) -> None:
        """A deal of today that was taken back (D28)."""
        kept = [d for d in self.deals if d.date != self.date or d.number != number]
        if len(kept) != len(self.deals):
            self._refill(kept)
            self.fresh = [d for d in self.fresh if d.number != number]

    def today(self, account: int, instruments: frozenset[int] | None = None) -> tuple[int, int]:
        """What an account bought and sold today, t, of all instruments or of some."""
        mine = self._today.get(account, {})
        rows = [row for instrument, row in mine.items() if instruments is None or instrument in instruments]
        return sum(b for b, _ in rows), sum(s for _, s in rows)
