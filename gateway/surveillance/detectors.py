"""The judgements: each looks at the tables of the day and tells what is conspicuous, with its evidence.

A detector never knows who is who: it says what can be seen in orders and deals. Whether it was manipulation is for
people, who get the deals, orders and the part of the journal to replay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from engine.records import BUY
from gateway.surveillance import kernel as k
from gateway.surveillance.alerts import EVIDENCE_MAX, Alert, Finding

if TYPE_CHECKING:
    from gateway.surveillance.watch import Surveillance

NS_PER_MINUTE: Final = 60 * 1_000_000_000
CANDIDATES_MAX: Final = 256  # of one look: more at once is a broken threshold, not a market
_LOW: Final = (1 << k.ACCOUNT_BITS) - 1


# --- evidence ------------------------------------------------------------------------------------------------------


def kept_deals(w: Surveillance) -> np.ndarray:
    """The day's deals that are still kept, oldest first."""
    count = int(w.state[0]["deals"])
    if count <= len(w.deals):
        deals = w.deals[:count]
    else:
        at = count % len(w.deals)
        deals = np.concatenate([w.deals[at:], w.deals[:at]])
    return deals[deals["quantity"] > 0] if w.taken_back else deals


def deals_of(w: Surveillance, instrument: int, *, of: int = -1, between: tuple[int, int] | None = None) -> np.ndarray:
    """Deals of an instrument: of one account, or between two."""
    deals = kept_deals(w)
    keep = deals["instrument"] == instrument
    if of >= 0:
        keep &= (deals["maker"] == of) | (deals["taker"] == of)
    if between is not None:
        a, b = between
        keep &= ((deals["maker"] == a) & (deals["taker"] == b)) | ((deals["maker"] == b) & (deals["taker"] == a))
    return deals[keep]


def tell_numbers(
    w: Surveillance, found: Finding, seqs: list[int], numbers: list[int], orders: tuple[int, ...] = ()
) -> None:
    """Makes the alert of a finding. Its evidence: sequences of the journal, numbers of today's deals, order ids."""
    w.tell(
        Alert(
            kind=found.kind,
            date=w.date,
            time_ns=found.time_ns,
            instrument=w.codes.get(found.instrument, f"#{found.instrument}"),
            accounts=found.accounts,
            score=int(found.score),
            limit=int(found.limit),
            unit=found.unit,
            sentence=found.sentence,
            facts=found.facts,
            first_seq=min(seqs, default=w.last_seq),
            last_seq=max(seqs, default=w.last_seq),
            deals=tuple(numbers[-EVIDENCE_MAX:]),
            orders=orders[:EVIDENCE_MAX],
        )
    )


def tell(
    w: Surveillance, found: Finding, deals: np.ndarray, orders: tuple[int, ...] = (), seqs: list[int] | None = None
) -> None:
    """Makes the alert of a finding on listed deals, DEALT[n], whose orders it names unless others are given; ``seqs``:
    of what else is evidence."""
    newest = deals[-EVIDENCE_MAX:]
    if not orders and len(newest):
        orders = tuple(dict.fromkeys(np.stack([newest["maker_order"], newest["taker_order"]], 1).ravel().tolist()))
    tell_numbers(w, found, [*deals["seq"].tolist(), *(seqs or [])], newest["number"].tolist(), orders)


def round_trip(a_t: int, a_fen: int, b_t: int, b_fen: int) -> tuple[int, int, int]:
    """What two opposite flows did: t that went both ways, fen that the seller of the first gained by it, and how far
    their average prices are apart (bp). Both flows are more than nothing; exact integers."""
    matched = min(a_t, b_t)
    gain = matched * (a_fen * b_t - b_fen * a_t) // (a_t * b_t)
    gap = abs(a_fen * b_t - b_fen * a_t) * 10_000 // min(a_fen * b_t, b_fen * a_t)
    return matched, gain, gap


# --- pairs ---------------------------------------------------------------------------------------------------------


def pairs(w: Surveillance, time_ns: int) -> None:
    """Wash trades, pre-arranged deals and value transfer between two accounts (R14.3)."""
    t = w.thresholds
    out = np.zeros(CANDIDATES_MAX, np.int64)
    n = k.pair_candidates(
        w.pairs, w.day, t.wash_round_trip_t // t.linked_factor, t.wash_switches,
        t.wash_share_percent // t.linked_factor, max(t.prearranged_deals // t.linked_factor, 2),
        t.transfer_deals_each_way, t.transfer_fen, out,
    )  # fmt: skip
    for at in sorted(out[:n].tolist(), key=lambda row: int(w.pairs[row]["key"])):
        p = w.pairs[at]
        key = int(p["key"]) - 1
        instrument, low, high = key >> (2 * k.ACCOUNT_BITS), (key >> k.ACCOUNT_BITS) & _LOW, key & _LOW
        linked = w.groups.get(low, 0) != 0 and w.groups.get(low) == w.groups.get(high)
        _wash(w, time_ns, p, instrument, low, high, t.linked_factor if linked else 1)
        _arranged(w, time_ns, p, instrument, low, high, t.linked_factor if linked else 1)
        _transfer(w, time_ns, p, instrument, low, high)


def _traded(w: Surveillance, account: int, instrument: int) -> int:
    row = w.day[account, instrument]
    return int(row["bought_t"]) + int(row["sold_t"])


def _wash(w: Surveillance, now: int, p: np.void, instrument: int, low: int, high: int, factor: int) -> None:
    t = w.thresholds
    there, back = int(p["low_sells_t"]), int(p["high_sells_t"])
    trip, limit = min(there, back), t.wash_round_trip_t // factor
    share = 100 * (there + back) // max(1, _traded(w, low, instrument), _traded(w, high, instrument))
    if trip >= limit and int(p["switches"]) >= t.wash_switches and share >= t.wash_share_percent // factor:
        facts = {"trip": trip, "low": low, "high": high, "switches": int(p["switches"]), "share": share}
        tell(
            w,
            Finding("wash", now, instrument, (low, high), trip, limit, "t", "wash", facts),
            deals_of(w, instrument, between=(low, high)),
        )


def _arranged(w: Surveillance, now: int, p: np.void, instrument: int, low: int, high: int, factor: int) -> None:
    t = w.thresholds
    count, limit = int(p["arranged"]), max(t.prearranged_deals // factor, 2)
    both = int(p["low_sells_t"]) + int(p["high_sells_t"])
    share = 100 * int(p["arranged_t"]) // max(1, both)
    if count >= limit and share >= t.prearranged_share_percent:
        facts = {"count": count, "low": low, "high": high, "within_ms": t.prearranged_within_ms, "share": share}
        found = Finding("prearranged", now, instrument, (low, high), count, limit, "deals", "prearranged", facts)
        tell(w, found, deals_of(w, instrument, between=(low, high)))


def _transfer(w: Surveillance, now: int, p: np.void, instrument: int, low: int, high: int) -> None:
    t = w.thresholds
    if min(int(p["low_sales"]), int(p["high_sales"])) < t.transfer_deals_each_way:
        return
    a_t, a_fen, b_t, b_fen = (int(p[n]) for n in ("low_sells_t", "low_sells_fen", "high_sells_t", "high_sells_fen"))
    matched, gain, gap = round_trip(a_t, a_fen, b_t, b_fen)
    if abs(gain) >= t.transfer_fen and gap >= t.transfer_gap_bp:
        winner, loser = (low, high) if gain > 0 else (high, low)
        facts = {"loser": loser, "winner": winner, "gain": abs(gain), "matched": matched, "gap": gap}
        parties, kind = (loser, winner), "value_transfer"
        found = Finding(kind, now, instrument, parties, abs(gain), t.transfer_fen, "fen", kind, facts)
        tell(w, found, deals_of(w, instrument, between=(low, high)))


# --- one account ---------------------------------------------------------------------------------------------------


def layering(w: Surveillance, time_ns: int) -> None:
    """Many orders of one side placed and quickly cancelled while the other side is dealt (R14.3)."""
    t = w.thresholds
    out = np.zeros((CANDIDATES_MAX, 4), np.int64)
    n = k.layering_candidates(
        w.flow, t.layering_cancels, t.layering_t, t.layering_cancel_percent, t.layering_opposite_t,
        t.layering_balance_percent, out,
    )  # fmt: skip
    since = time_ns - k.BUCKETS * NS_PER_MINUTE
    count = int(w.state[0]["quicks"])
    for account, instrument, side, quick_t in out[:n].tolist():
        rows = w.quicks[: min(count, len(w.quicks))]
        mine = rows[(rows["account"] == account) & (rows["instrument"] == instrument) & (rows["side"] == side)]
        mine = np.sort(mine[mine["time_ns"] >= since], order="seq")
        deals = deals_of(w, instrument, of=account)
        deals = deals[deals["time_ns"] >= since]
        code = "layering_buy" if side == BUY else "layering_sell"
        facts = {
            "account": account, "orders": len(mine), "quantity": quick_t, "seconds": t.layering_life_ms // 1_000,
        }  # fmt: skip
        orders = tuple(mine["order_id"].tolist()[:EVIDENCE_MAX])
        seqs = mine["accepted_seq"].tolist() + mine["seq"].tolist()
        tell(
            w,
            Finding("layering", time_ns, instrument, (account,), quick_t, t.layering_t, "t", code, facts),
            deals,
            orders,
            seqs,
        )


def churn(w: Surveillance, time_ns: int) -> None:
    """An account that buys high and sells low, again and again (R14.3)."""
    t, d = w.thresholds, w.day
    least = np.minimum(d["bought_t"], d["sold_t"])
    often = np.minimum(d["buys"], d["sales"]) >= t.churn_deals_each_way
    for account, instrument in np.argwhere((least >= t.churn_t) & often).tolist():
        row = d[account, instrument]
        bought, sold = int(row["bought_fen"]) * int(row["sold_t"]), int(row["sold_fen"]) * int(row["bought_t"])
        gap = (bought - sold) * 10_000 // sold
        if gap >= t.churn_gap_bp:
            facts = {"account": account, "bought": int(row["bought_t"]), "sold": int(row["sold_t"]), "gap": gap}
            kind, limit = "buy_high_sell_low", t.churn_gap_bp
            found = Finding(kind, time_ns, instrument, (account,), gap, limit, "bp", kind, facts)
            tell(w, found, deals_of(w, instrument, of=account))


def overselling(w: Surveillance, time_ns: int) -> None:
    """An account sells what it still needs for surrender (R14.4): listed, bulk and auction sales of today."""
    usable = w.usable_instruments()
    for account, need in sorted(w.needs.items()):
        if account not in w.usable:
            continue
        rows = w.day[account] if account < len(w.day) else w.day[0] * 0
        rows = rows[sorted(i for i in usable if i < len(rows))] if usable is not None else rows
        bought, sold = w.agreed.today(account, usable)
        sold += int(rows["sold_t"].sum())
        left = w.usable[account] + bought + int(rows["bought_t"].sum()) - sold
        if sold and left < need:
            facts, kind = {"account": account, "left": left, "sold": sold, "need": need}, "overselling"
            deals = kept_deals(w)
            deals = deals[(deals["maker"] == account) | (deals["taker"] == account)]
            instrument = int(deals["instrument"][-1]) if len(deals) else -1
            tell(w, Finding(kind, time_ns, instrument, (account,), need - left, 1, "t", kind, facts), deals)


def large_holders(w: Surveillance, time_ns: int) -> None:
    """Large-holder report (大户报告, R14.1), where a threshold is set."""
    limit = w.thresholds.large_holding_t
    for account, first in sorted(w.holdings.items()) if limit else ():
        rows = w.day[account] if account < len(w.day) else w.day[:0]
        bought, sold = w.agreed.today(account)
        held = first + bought - sold + int(rows["bought_t"].sum()) - int(rows["sold_t"].sum())
        if held >= limit:
            facts, kind = {"account": account, "held": held}, "large_holder"
            tell(w, Finding(kind, time_ns, -1, (account,), held, limit, "t", kind, facts), w.deals[:0])


def concentration(w: Surveillance, time_ns: int) -> None:
    """One account has most of a side of an instrument's day."""
    t = w.thresholds
    for instrument in np.flatnonzero(w.vintages["volume"] >= t.concentration_volume_t).tolist():
        volume = int(w.vintages[instrument]["volume"])
        for field, code in (("bought_t", "concentration_bought"), ("sold_t", "concentration_sold")):
            account = int(w.day[:, instrument][field].argmax())
            quantity = int(w.day[account, instrument][field])
            share = 100 * quantity // volume
            if share >= t.concentration_percent:
                facts = {"account": account, "quantity": quantity, "volume": volume, "share": share}
                limit = t.concentration_percent
                found = Finding("concentration", time_ns, instrument, (account,), share, limit, "%", code, facts)
                tell(w, found, deals_of(w, instrument, of=account))


# --- prices --------------------------------------------------------------------------------------------------------


def close_marking(w: Surveillance, time_ns: int) -> None:
    """Late deals of one taker that move the closing price, or a tiny volume that sets it (R6.4, R6.7)."""
    t, late_ns = w.thresholds, int(w.state[0]["late_ns"])
    for instrument in np.flatnonzero(w.vintages["deals"]).tolist():
        v = w.vintages[instrument]
        volume, amount, late = int(v["volume"]), int(v["amount"]), int(v["late_t"])
        reference = w.prices.get(instrument, (0, 0, 0))[0]
        if reference and volume <= t.thin_close_t:
            moved = abs(amount - reference * volume) * 10_000 // (reference * volume)
            if moved >= t.thin_close_change_bp:
                deals = deals_of(w, instrument)
                both = {int(a) for a in deals["maker"]} | {int(a) for a in deals["taker"]}
                limit, kind, parties = t.thin_close_change_bp, "thin_close", tuple(sorted(both))
                facts = {"volume": volume, "moved": moved}
                tell(w, Finding(kind, time_ns, instrument, parties, moved, limit, "bp", kind, facts), deals)
        for account in np.flatnonzero(w.day[:, instrument]["late_t"]).tolist() if late else ():
            mine, fen = int(w.day[account, instrument]["late_t"]), int(w.day[account, instrument]["late_fen"])
            if 100 * mine < t.close_late_share_percent * late:
                continue
            base_t, base_fen = volume - mine, amount - fen
            if base_t == 0:
                base_t, base_fen = 1, reference
            without = abs(amount * base_t - base_fen * volume) * 10_000 // (base_fen * volume) if base_fen else 0
            deals = deals_of(w, instrument)
            earlier = deals["price"][deals["time_ns"] < late_ns]
            before = int(earlier[-1]) if len(earlier) else reference
            against = abs(fen - mine * before) * 10_000 // (volume * before) if before else 0
            deals = deals[(deals["time_ns"] >= late_ns) & (deals["taker"] == account)]
            if without >= t.close_impact_bp:
                off, limit, code = without, t.close_impact_bp, "marking_close"
            elif against >= t.close_push_bp:
                off, limit, code = against, t.close_push_bp, "marking_close_push"
            else:
                continue
            share = 100 * mine // late
            facts = {"account": account, "quantity": mine, "share": share, "minutes": t.late_minutes, "off": off}
            found = Finding("marking_close", time_ns, instrument, (account,), off, limit, "bp", code, facts)
            tell(w, found, deals)


def price_limits(w: Surveillance, time_ns: int) -> None:
    """A price at, or within some ticks of, a limit of the day (R6.1), in the last minutes."""
    near = w.thresholds.limit_near_ticks
    for instrument, (_, low, high) in sorted(w.prices.items()):
        if instrument >= len(w.vintages) or not w.vintages[instrument]["deals"]:
            continue
        v = w.vintages[instrument]
        if int(v["low"]) - low > near and high - int(v["high"]) > near:
            continue
        deals = deals_of(w, instrument)
        since = int(np.searchsorted(deals["time_ns"], time_ns - k.BUCKETS * NS_PER_MINUTE))
        before, deals = int(deals["price"][since - 1]) if since else 0, deals[since:]
        for code, limit in (("price_limit_upper", high), ("price_limit_lower", low)):
            away = np.abs(deals["price"] - limit)
            if not len(deals) or int(away.min()) > near:
                continue
            nearest = int(away.argmin())  # the first of them
            there, ticks = deals[nearest : nearest + 1], int(away[nearest])
            facts = {"price": int(there["price"][0]), "ticks": ticks}
            tell(w, Finding("price_limit", time_ns, instrument, (), ticks, near, "ticks", code, facts), there)
            if ticks == 0 and before != limit:
                _push(w, time_ns, instrument, limit, deals[: nearest + 1])


def _top_taker(deals: np.ndarray) -> tuple[int, int, int]:
    """Who took most of some deals: account, t, percent."""
    takers, places = np.unique(deals["taker"], return_inverse=True)
    taken = np.bincount(places, deals["quantity"]).astype(np.int64)
    top = int(taken.argmax())
    return int(takers[top]), int(taken[top]), 100 * int(taken[top]) // max(1, int(taken.sum()))


def _push(w: Surveillance, time_ns: int, instrument: int, limit: int, deals: np.ndarray) -> None:
    """Who brought the price to its limit: of the last minutes' deals up to the first at the limit, one took most."""
    t = w.thresholds
    account, taken, share = _top_taker(deals)
    if share >= t.move_share_percent and taken >= t.push_t:
        facts = {"limit": limit, "minutes": k.BUCKETS, "account": account, "quantity": taken, "share": share}
        found = Finding("limit_push", time_ns, instrument, (account,), taken, t.push_t, "t", "limit_push", facts)
        tell(w, found, deals[deals["taker"] == account])


def price_moves(w: Surveillance, time_ns: int) -> None:
    """A fast move of the price, most of it taken by one account.

    A move back to the day's average, or most of the way to it, is not told: it ends what another has done.
    """
    t, now = w.thresholds, int(w.state[0]["bucket"])
    for instrument in np.flatnonzero(w.vintages["deals"]).tolist():
        v = w.vintages[instrument]
        last, average = int(v["last"]), int(v["amount"]) // int(v["volume"])
        worst = minutes = 0
        for ago in range(k.BUCKETS):  # the price as it was one minute before this look, two minutes, …
            price = int(v["prices"][(now - ago) % k.BUCKETS])
            if price and 2 * abs(last - average) > abs(price - average):
                move = abs(last - price) * 10_000 // price
                if move > worst:
                    worst, minutes = move, ago + 1
        if worst < t.move_bp:
            continue
        deals = deals_of(w, instrument)
        deals = deals[deals["time_ns"] >= time_ns - minutes * NS_PER_MINUTE]
        if not len(deals):
            continue
        account, _, share = _top_taker(deals)
        if share >= t.move_share_percent:
            facts = {"moved": worst, "minutes": minutes, "share": share, "account": account}
            found = Finding("price_move", time_ns, instrument, (account,), worst, t.move_bp, "bp", "price_move", facts)
            tell(w, found, deals)


def before_news(w: Surveillance, time_ns: int) -> None:
    """At a notice of the exchange: who traded heavily and one way just before (R14.3)."""
    t = w.thresholds
    deals = kept_deals(w)
    deals = deals[deals["time_ns"] >= time_ns - t.news_minutes * NS_PER_MINUTE]
    for instrument in np.unique(deals["instrument"]).tolist():
        here = deals[deals["instrument"] == instrument]
        volume = int(here["quantity"].sum())
        buyers = np.where(here["taker_side"] == BUY, here["taker"], here["maker"])
        sellers = np.where(here["taker_side"] == BUY, here["maker"], here["taker"])
        for account in np.unique(np.concatenate([buyers, sellers])).tolist():
            bought = int(here["quantity"][buyers == account].sum())
            sold = int(here["quantity"][sellers == account].sum())
            net = abs(bought - sold)
            if (
                net >= t.news_t
                and 100 * net >= t.news_one_way_percent * (bought + sold)
                and 100 * net >= t.news_share_percent * volume
            ):
                code = "before_news_bought" if bought > sold else "before_news_sold"
                facts = {"account": account, "quantity": net, "volume": volume, "minutes": t.news_minutes}
                found = Finding("before_news", time_ns, instrument, (account,), net, t.news_t, "t", code, facts)
                tell(w, found, here[(here["maker"] == account) | (here["taker"] == account)])


Detector = Callable[[Any, int], None]
EVERY_MINUTE: Final[tuple[Detector, ...]] = (
    pairs,
    layering,
    churn,
    overselling,
    large_holders,
    price_limits,
    price_moves,
)
AT_CLOSE: Final[tuple[Detector, ...]] = (close_marking, concentration)
