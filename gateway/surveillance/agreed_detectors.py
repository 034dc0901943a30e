"""The judgements on bulk and auction deals, and on rings of accounts over all trading methods (R14.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gateway.surveillance import kernel as k
from gateway.surveillance.agreed import Agreed, Withdrawn
from gateway.surveillance.alerts import Finding
from gateway.surveillance.detectors import deals_of, round_trip, tell_numbers

if TYPE_CHECKING:
    from gateway.surveillance.watch import Surveillance

EDGES_MAX: Final = 1_024  # of one look: more at once is a broken threshold, not a market
BASIS: Final = 10_000

Ring = tuple[int, tuple[int, ...], int]  # instrument, accounts in the order of the allowances' way, least t of an edge


def agreed_deals(w: Surveillance, time_ns: int) -> None:
    """What each new bulk or auction deal means with those before it."""
    fresh, w.agreed.fresh = w.agreed.fresh, []
    for instrument, low, high in dict.fromkeys((d.instrument, *sorted((d.seller, d.buyer))) for d in fresh):
        _transfer(w, time_ns, instrument, low, high)
    for deal in fresh:
        if deal.auction == 0 and deal.listed:
            away = abs(deal.price - deal.listed) * BASIS // deal.listed
            if away >= w.thresholds.off_market_bp:
                facts = {"quantity": deal.quantity, "price": deal.price, "listed": deal.listed, "away": away}
                limit, parties, kind = w.thresholds.off_market_bp, (deal.seller, deal.buyer), "off_market"
                found = Finding(kind, deal.time_ns, deal.instrument, parties, away, limit, "bp", kind, facts)
                tell_numbers(w, found, [deal.seq], [deal.number])


def _flow(w: Surveillance, instrument: int, seller: int, buyer: int) -> tuple[int, int]:
    """Tonnes and fen that went from one account to another: bulk and auction of the kept days, listed of today."""
    t, fen = w.agreed.flows.get((instrument, seller, buyer), (0, 0))
    low, high = sorted((seller, buyer))
    key = ((instrument << (2 * k.ACCOUNT_BITS)) | (low << k.ACCOUNT_BITS) | high) + 1
    pair = w.pairs[int(k.pair_row(w.pairs, np.uint64(key)))]
    if int(pair["key"]) == key:
        side = "low" if seller == low else "high"
        t, fen = t + int(pair[f"{side}_sells_t"]), fen + int(pair[f"{side}_sells_fen"])
    return t, fen


def _between(w: Surveillance, instrument: int, seller: int, buyer: int) -> list[Agreed]:
    return [d for d in w.agreed.deals if (d.instrument, d.seller, d.buyer) == (instrument, seller, buyer)]


def _transfer(w: Surveillance, time_ns: int, instrument: int, low: int, high: int) -> None:
    """Value that goes from one account to another by buying back dearer, or selling back cheaper."""
    t = w.thresholds
    there, back = _flow(w, instrument, low, high), _flow(w, instrument, high, low)
    if not there[0] or not back[0]:
        return
    matched, gain, gap = round_trip(*there, *back)
    if abs(gain) < t.agreed_transfer_fen or gap < t.agreed_transfer_gap_bp:
        return
    winner, loser = (low, high) if gain > 0 else (high, low)
    rows = _between(w, instrument, low, high) + _between(w, instrument, high, low)
    facts = {"loser": loser, "winner": winner, "gain": abs(gain), "matched": matched, "gap": gap}
    numbers, kind = [d.number for d in rows if d.date == w.date], "agreed_transfer"
    limit, seqs = t.agreed_transfer_fen, [d.seq for d in rows]
    found = Finding(kind, time_ns, instrument, (loser, winner), abs(gain), limit, "fen", kind, facts)
    tell_numbers(w, found, seqs, numbers)


# --- rings ---------------------------------------------------------------------------------------------------------


def rings(w: Surveillance, time_ns: int) -> None:
    """Allowances that come back to their seller over other accounts: A to B to C to A, by whatever trading method."""
    out = np.zeros((EDGES_MAX, 4), np.int64)
    n = k.ring_edges(w.pairs, w.day, w.thresholds.ring_t, w.thresholds.ring_share_percent, out)
    edges: dict[int, dict[int, dict[int, int]]] = {}
    for instrument, seller, buyer, t in out[:n].tolist():
        edges.setdefault(instrument, {}).setdefault(seller, {})[buyer] = t
    agreed = agreed_edges(w)
    for (instrument, seller, buyer), t in agreed.items():
        to = edges.setdefault(instrument, {}).setdefault(seller, {})
        to[buyer] = to.get(buyer, 0) + t
    for instrument, accounts, least in cycles(edges, w.thresholds.ring_accounts_max):
        _tell_ring(w, time_ns, instrument, accounts, least, agreed)


def agreed_edges(w: Surveillance) -> dict[tuple[int, int, int], int]:
    """Flows of bulk and auction deals that are much of what both their ends trade in the kept days."""
    if w.edges_version != w.agreed.version:
        w.edges_version, share, n = w.agreed.version, w.thresholds.ring_share_percent, len(w.day)
        w.edges = {
            (i, seller, buyer): t
            for (i, seller, buyer), (t, _) in w.agreed.flows.items()
            if t >= w.thresholds.ring_t
            and 100 * t >= share * (w.agreed.sold[i, seller] + (int(w.day[seller, i]["sold_t"]) if seller < n else 0))
            and 100 * t >= share * (w.agreed.bought[i, buyer] + (int(w.day[buyer, i]["bought_t"]) if buyer < n else 0))
        }
    return w.edges


def cycles(edges: dict[int, dict[int, dict[int, int]]], longest: int) -> Iterator[Ring]:
    """Every simple cycle of 2 to ``longest`` accounts, told once, from its lowest number on, in a fixed order.

    An account has at most two edges out of each method (each is at least a third of what it sold), so that a path
    has few ways to go on.
    """
    for instrument in sorted(edges):
        graph = edges[instrument]
        for first in sorted(graph):
            stack: list[tuple[tuple[int, ...], int]] = [((first,), 1 << 62)]
            while stack:
                path, least = stack.pop()
                for to, t in sorted(graph.get(path[-1], {}).items(), reverse=True):
                    if to == first and len(path) > 1:
                        yield instrument, path, min(least, t)
                    elif to > first and to not in path and len(path) < longest:
                        stack.append(((*path, to), min(least, t)))


def _tell_ring(
    w: Surveillance,
    time_ns: int,
    instrument: int,
    accounts: tuple[int, ...],
    least: int,
    agreed: dict[tuple[int, int, int], int],
) -> None:
    ways = list(zip(accounts, (*accounts[1:], accounts[0]), strict=True))
    by_agreement = [way for way in ways if (instrument, *way) in agreed]
    if len(accounts) == 2 and not by_agreement:
        return  # two accounts in the listed market: `wash` looks at them, more closely
    seqs: list[int] = []
    numbers: list[int] = []
    for seller, buyer in ways:
        for d in _between(w, instrument, seller, buyer):
            seqs.append(d.seq)
            numbers += [d.number] * (d.date == w.date)
        for row in deals_of(w, instrument, between=(seller, buyer)):
            seqs.append(int(row["seq"]))
            numbers.append(int(row["number"]))
    way = " → ".join(map(str, (*accounts, accounts[0])))
    code = "ring_agreed" if len(by_agreement) == len(ways) else "ring_mixed" if by_agreement else "ring_listed"
    facts: dict[str, int | str] = {"quantity": least, "way": way, "days": w.thresholds.ring_days}
    kind, limit = "wash" if len(accounts) == 2 else "ring", w.thresholds.ring_t
    found = Finding(kind, time_ns, instrument, tuple(sorted(accounts)), least, limit, "t", code, facts)
    tell_numbers(w, found, seqs, sorted(set(numbers)))


# --- desk and auction ----------------------------------------------------------------------------------------------


def desk(w: Surveillance, time_ns: int) -> None:
    """Declarations made and soon taken back, again and again: the desk's order-and-cancel."""
    limit = w.thresholds.desk_withdrawals
    for account, rows in sorted(w.agreed.withdrawn.items()):
        if len(rows) >= limit:
            t = sum(r.quantity for r in rows)
            seconds, instrument = w.thresholds.desk_life_ms // 1_000, rows[-1].instrument
            facts = {"account": account, "count": len(rows), "quantity": t, "seconds": seconds}
            kind, unit = "desk_withdrawals", "declarations"
            found = Finding(kind, time_ns, instrument, (account,), len(rows), limit, unit, kind, facts)
            _tell_ended(w, found, rows)


def auctions(w: Surveillance, time_ns: int) -> None:
    """Who won (linked to the seller, or most of it), and who took large bids away before the end."""
    t = w.thresholds
    for (auction, account), rows in sorted(w.agreed.cancelled_bids.items()):
        share = 100 * sum(r.quantity for r in rows) // max(1, w.agreed.offered.get(auction, 1 << 62))
        if share >= t.auction_cancelled_percent:
            facts = {"account": account, "share": share, "auction": auction}
            limit, instrument, kind = t.auction_cancelled_percent, rows[-1].instrument, "auction_cancelled"
            _tell_ended(w, Finding(kind, time_ns, instrument, (account,), share, limit, "%", kind, facts), rows)
    done, w.agreed.auctioned = w.agreed.auctioned, []
    for a in done:
        won: dict[int, list[Agreed]] = {}
        for deal in a.deals:
            won.setdefault(deal.buyer, []).append(deal)
        total = sum(d.quantity for d in a.deals)
        group = w.groups.get(a.seller, 0)
        for buyer, deals in sorted(won.items()):
            mine = sum(d.quantity for d in deals)
            seqs, numbers = [d.seq for d in deals], [d.number for d in deals]
            if group and w.groups.get(buyer) == group:
                facts = {"account": buyer, "seller": a.seller, "quantity": mine, "total": total}
                parties, kind = (a.seller, buyer), "auction_linked"
                found = Finding(kind, time_ns, a.instrument, parties, mine, 1, "t", kind, facts)
                tell_numbers(w, found, seqs, numbers)
            if mine >= t.auction_winner_t and 100 * mine >= t.auction_winner_percent * total:
                share = 100 * mine // total
                facts = {"account": buyer, "quantity": mine, "total": total, "share": share, "auction": a.auction}
                limit, kind = t.auction_winner_percent, "auction_winner"
                found = Finding(kind, time_ns, a.instrument, (buyer,), share, limit, "%", kind, facts)
                tell_numbers(w, found, seqs, numbers)


def _tell_ended(w: Surveillance, found: Finding, rows: list[Withdrawn]) -> None:
    """What was taken back: its evidence is when it began and when it ended."""
    tell_numbers(w, found, [r.began_seq for r in rows] + [r.seq for r in rows], [])


EVERY_MINUTE: Final[tuple[Callable[[Any, int], None], ...]] = (agreed_deals, rings, desk, auctions)
