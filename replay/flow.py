"""A seeded order flow of some members from which a day's published figures result through matching (D31, D33).

The deals and their order come from ``replay.interleave``; here each of them gets its orders: somebody's
resting order, an incoming one that takes it (some sweep up to five levels, some are filled in part and the
rest is cancelled), quotes around them that nobody reaches, and orders that the exchange must refuse. Rates and
members are assumed; the figures are published ones.

The book stays as intended because of one rule: an order may only stand while every deal of its vintage is
strictly on its safe side (all prices above a resting bid, below a resting ask), or is its own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from engine.calendar import NS_PER_SECOND
from engine.codes import Code
from engine.prices import price_limits
from engine.records import BEST_FIVE, BUY, CANCEL, FOK, IOC, LIMIT, NEW, REDUCE, SELL
from engine.rules import Rules, in_force
from replay.figures import DayFigures
from replay.interleave import DayDeal, order_deals
from replay.pseudo_random import PseudoRandom

TRADERS_MIN: Final = 6  # of which four may be excluded at once (two makers, the taker, a quoter)
AHEAD_MAX: Final = 4  # deals of its vintage that a resting order may stand before its own
QUOTE_LIFE_MAX: Final = 6  # deals of its vintage that a quote outlives before it is cancelled
QUOTES_MAX: Final = 3  # new quotes per deal: some five orders a deal, assumed (D33)
SMALL_T: Final = 20_000  # what the newcomer's 2,000,000 CNY buy at up to 100 CNY
STEP_NS: Final = 20_000_000  # between two messages of the flow; the market's real spacing is not public
ORDER_MAX_T: Final = 99_999  # R4.1

# Shares of the day's messages per half-hour of trading: more after the open and before the close, as markets have it.
# This market's own profile is not published: assumed (D33).
INTRADAY_PROFILE: Final = (18, 11, 9, 10, 10, 11, 13, 18)
# Who trades how often, as (buys, sells) of equal members' 4: assumed (D33). Traders both ways, entities that lack
# allowances and buy, entities with a surplus that sell.
MEMBER_MIX: Final = ((10, 10), (8, 1), (8, 8), (1, 8), (4, 1), (1, 4))


class Action(NamedTuple):
    """One message of a member, and what must come of it at once."""

    time_ns: int
    member: int  # index into Flow.members
    kind: int  # NEW, CANCEL or REDUCE of engine.records
    label: int  # names the order within the flow
    code: str
    side: int
    price: int
    quantity: int
    order_type: int
    expect: Code  # OK or the reject
    filled: int  # tonnes dealt when it arrives


class Member(NamedTuple):
    """What a member brings into the day: cash (fen) and allowances (t) per vintage."""

    name: str
    cash: int
    allowances: dict[str, int]


class Flow(NamedTuple):
    """The whole day's messages in order of time, and who sends them."""

    members: list[Member]
    actions: list[Action]
    deals: list[DayDeal]


class Episode(NamedTuple):
    """Deals of one incoming order: vintage, side of the incoming order, (price, quantity) level by level."""

    code: str
    side: int
    deals: list[tuple[int, int]]

    @property
    def low(self) -> int:
        """Lowest price dealt at."""
        return min(p for p, _ in self.deals)

    @property
    def high(self) -> int:
        """Highest price dealt at."""
        return max(p for p, _ in self.deals)


class FlowBuilder:
    """Collects the messages of a day, slot by slot: what is placed ahead, the deal, what is taken back."""

    def __init__(
        self, day: DayFigures, rules: Rules, traders: int, seed: int, mix: Sequence[tuple[int, int]] = ((1, 1),)
    ) -> None:
        assert traders >= TRADERS_MIN, "too few traders for makers, takers and quotes"
        # per side (buy, sell) the members' weights, added up
        self.appetite = [list(accumulate(mix[i % len(mix)][side] for i in range(traders))) for side in (BUY, SELL)]
        self.day, self.rules, self.chance = day, rules, PseudoRandom(seed)
        self.traders = traders
        self.newcomer, self.penniless = traders, traders + 1
        self.labels = 0
        self.limits = {
            v.code: price_limits(v.previous, in_force(rules.limits, day.date).listed_bp, rules.tick_fen)
            for v in day.vintages
        }
        volume = {v.code: v.listed_volume for v in day.vintages}
        # each could deal most of the day alone, and has stock for quotes: nobody runs out by chance
        self.stock = {code: 5_000 + v * 3 // 4 // 1_000 * 1_000 for code, v in volume.items()}
        self.members = [
            Member(f"Member {i + 1:02d}", 4_000_000_00 + self._day_amount() // 100_00 * 100_00, self.stock)
            for i in range(traders)
        ]
        self.members.append(Member("Newcomer", 2_000_000_00, {}))
        self.members.append(Member("Penniless", 1_000_00, {}))
        self.sold = [dict.fromkeys(volume, 0) for _ in self.members]
        self.bought = [0] * len(self.members)
        self.ahead: list[list[Action]] = []
        self.main: list[list[Action]] = []
        self.after: list[list[Action]] = []

    def open_slots(self, count: int) -> None:
        """One slot of messages per episode."""
        self.ahead = [[] for _ in range(count)]
        self.main = [[] for _ in range(count)]
        self.after = [[] for _ in range(count)]

    def _day_amount(self) -> int:
        return sum(v.listed_amount + v.bulk_amount for v in self.day.vintages)

    def label(self) -> int:
        """A new order's name."""
        self.labels += 1
        return self.labels

    def somebody(self, code: str, side: int, price: int, quantity: int, without: Sequence[int] = ()) -> int:
        """A trader who can pay or deliver, none of ``without``; what the order locks is booked."""
        for _ in range(200):
            member = bisect_right(self.appetite[side], self.chance.below(self.appetite[side][-1]))
            if member in without:
                continue
            if side == SELL and self.sold[member][code] + quantity <= self.stock[code]:
                self.sold[member][code] += quantity
                return member
            if side == BUY and self.bought[member] + price * quantity <= self.members[member].cash:
                self.bought[member] += price * quantity
                return member
        raise ValueError(f"flow: nobody can {'sell' if side else 'buy'} {quantity} t of {code}")

    # --- one deal's orders -----------------------------------------------------------------------------------

    def episode(self, slot: int, episode: Episode, history: list[int], episodes: list[Episode]) -> None:
        """The orders of one episode: its makers, placed ahead where that is safe, and its taker."""
        maker_side = 1 - episode.side
        makers: list[int] = []
        takers_turn = self.chance.below(8)
        for level, (price, quantity) in enumerate(episode.deals):
            last = level == len(episode.deals) - 1
            at = self._slot_ahead(maker_side, price, history, episodes)
            parts = [quantity]
            if quantity > 400 and self.chance.below(4) == 0:
                first = self.chance.between(1, quantity - 1)
                parts = [first, quantity - first]
            for number, part in enumerate(parts):
                # the last maker of an episode may offer more than is taken: filled in part, the rest cancelled
                extra = self.chance.between(1, 300) if last and number == len(parts) - 1 and takers_turn == 1 else 0
                extra = min(extra, ORDER_MAX_T - part)
                member = self.somebody(episode.code, maker_side, price, part + extra, [*makers])
                makers.append(member)
                label = self._place(self.ahead[at], member, episode.code, maker_side, price, part + extra, 0, LIMIT)
                if extra:
                    self._cancel(self.after[slot], member, label, episode.code)
        self._take(slot, episode, makers, takers_turn)

    def _take(self, slot: int, episode: Episode, makers: list[int], turn: int) -> None:
        """The incoming order or orders of an episode."""
        code, side, total = episode.code, episode.side, sum(q for _, q in episode.deals)
        price = episode.deals[-1][0]
        taker = self.somebody(code, side, price, total + 300, makers)
        main, after = self.main[slot], self.after[slot]
        room = min(300, ORDER_MAX_T - total)
        if len(episode.deals) == 1 and total > 100 and turn == 2:  # two takers, the maker is filled in part first
            first = self.chance.between(1, total - 1)
            second = self.somebody(code, side, price, total, [*makers, taker])
            self._place(main, taker, code, side, price, first, first, LIMIT)
            self._place(main, second, code, side, price, total - first, total - first, LIMIT)
        elif turn == 3 and room > 0:  # the rest rests at its limit, and is cancelled
            label = self._place(main, taker, code, side, price, total + room, total, LIMIT)
            self._cancel(after, taker, label, code)
        elif turn == 4 and room > 0:
            self._place(main, taker, code, side, price, total + room, total, IOC)
        elif turn == 5:
            self._place(main, taker, code, side, price, total, total, FOK)
        elif turn == 6:
            self._place(main, taker, code, side, price, total, total, BEST_FIVE)
        else:
            self._place(main, taker, code, side, price, total, total, LIMIT)

    def sweep_beyond(self, slot: int, episode: Episode) -> None:
        """A sixth level stands behind the five that this sweep takes: its rest would still cross: cancelled (R8.2)."""
        code, side = episode.code, episode.side
        way = 1 if side == BUY else -1
        price, total = episode.deals[-1][0] + way * self.rules.tick_fen, sum(q for _, q in episode.deals)
        assert self.limits[code][0] <= price <= self.limits[code][1], "no room for a sixth level"
        makers: list[int] = []
        for level, quantity in [*episode.deals, (price, 500)]:
            makers.append(self.somebody(code, 1 - side, level, quantity, makers))
            label = self._place(self.main[slot], makers[-1], code, 1 - side, level, quantity, 0, LIMIT)
        taker = self.somebody(code, side, price, total + 200, makers)
        self._place(self.main[slot], taker, code, side, price, total + 200, total, LIMIT)
        self._cancel(self.after[slot], makers[-1], label, code)

    def _slot_ahead(self, side: int, price: int, history: list[int], episodes: list[Episode]) -> int:
        """How early an order at this price may stand: back over deals that are strictly on its safe side."""
        at = history[-1]
        most = self.chance.between(0, AHEAD_MAX)
        for earlier in history[-2::-1][:most]:
            safe = episodes[earlier].high < price if side == SELL else episodes[earlier].low > price
            if not safe:
                break
            at = earlier
        return at

    def quote(self, slot: int, code: str, coming: list[int], episodes: list[Episode]) -> None:
        """A small order near the price that no deal of the coming ones reaches, and its end."""
        side = self.chance.below(2)
        window = coming[: self.chance.between(1, QUOTE_LIFE_MAX)]
        low, high = self.limits[code]
        distance = self.chance.between(1, 6) * self.rules.tick_fen
        edge = min(episodes[s].low for s in window) if side == BUY else max(episodes[s].high for s in window)
        price = edge - distance if side == BUY else edge + distance
        if not low <= price <= high:
            return
        quantity = self.chance.between(1, 20) * 50
        member = self.somebody(code, side, price, quantity)
        label = self._place(self.ahead[slot], member, code, side, price, quantity, 0, LIMIT)
        if quantity >= 500 and self.chance.below(3) == 0:
            self._reduce(self.after[slot], member, label, code, quantity // 2)
        self._cancel(self.after[window[-1]], member, label, code)

    def standing_quotes(self, slot: int, code: str, low: int, high: int) -> None:
        """Orders outside the day's range that nobody reaches: they lapse at the close (R5.3)."""
        for level in range(1, 6):
            for side, price in ((BUY, low - 3 * level), (SELL, high + 3 * level)):
                if not self.limits[code][0] <= price <= self.limits[code][1]:
                    continue
                quantity = self.chance.between(1, 10) * 100
                member = self.somebody(code, side, price, quantity)
                self._place(self.ahead[slot], member, code, side, price, quantity, 0, LIMIT)

    # --- messages --------------------------------------------------------------------------------------------

    def _place(
        self, to: list[Action], member: int, code: str, side: int, price: int, quantity: int, filled: int, kind: int
    ) -> int:
        label = self.label()
        to.append(Action(0, member, NEW, label, code, side, price, quantity, kind, Code.OK, filled))
        return label

    def _cancel(self, to: list[Action], member: int, label: int, code: str, expect: Code = Code.OK) -> None:
        to.append(Action(0, member, CANCEL, label, code, 0, 0, 0, 0, expect, 0))

    def _reduce(self, to: list[Action], member: int, label: int, code: str, by: int) -> None:
        to.append(Action(0, member, REDUCE, label, code, 0, 0, by, 0, Code.OK, 0))

    def refused(
        self, to: list[Action], member: int, code: str, side: int, price: int, quantity: int, why: Code
    ) -> None:
        """An order that must get this reject code."""
        kind = FOK if why == Code.NOT_FILLABLE else LIMIT
        to.append(Action(0, member, NEW, self.label(), code, side, price, quantity, kind, why, 0))


def episodes_of(sequence: Sequence[DayDeal], day: DayFigures, chance: PseudoRandom) -> list[Episode]:
    """Groups the deals by block; the incoming side follows the price's move, by chance where it stands still."""
    last = {v.code: v.previous for v in day.vintages}
    episodes: list[Episode] = []
    previous_block = -1
    for d in sequence:
        joined = d.block == previous_block and sum(q for _, q in episodes[-1].deals) + d.quantity <= ORDER_MAX_T
        if joined:
            episodes[-1].deals.append((d.price, d.quantity))
        else:
            way = d.price - last[d.code]
            side = BUY if way > 0 else SELL if way < 0 else chance.below(2)
            episodes.append(Episode(d.code, side, [(d.price, d.quantity)]))
        last[d.code], previous_block = d.price, d.block
    sided = []
    for e in episodes:  # in a sweep, the levels themselves say which side comes in
        rising = e.deals[-1][0] - e.deals[0][0]
        sided.append(e._replace(side=BUY if rising > 0 else SELL) if rising else e)
    return sided


def build_flow(
    day: DayFigures,
    rules: Rules,
    *,
    pieces: dict[str, int],
    traders: int = 18,
    seed: int = 1,
    refusals: bool = True,
    profile: Sequence[int] = (1,),
    mix: Sequence[tuple[int, int]] = ((1, 1),),
) -> Flow:
    """All messages of the day by ``traders`` members and two more that are there to be refused.

    ``pieces``: about how many deals per vintage. ``refusals``: whether orders that must be refused are among the
    messages. ``profile``: shares of the messages per equal part of the trading hours. ``mix``: per member (repeated)
    how often it buys and sells. The flow depends on its arguments only. NoOrder or NoDeals where none is found.
    """
    weights = in_force(rules.weights, day.date).weights
    traded = any(v.listed_volume for v in day.vintages)
    deals = order_deals(day, weights, pieces=pieces, seed=seed) if traded else []
    b = FlowBuilder(day, rules, traders, seed, mix)
    episodes = episodes_of(deals, day, b.chance)
    b.open_slots(max(1, len(episodes)))
    slots = {v.code: [s for s, e in enumerate(episodes) if e.code == v.code] for v in day.vintages}
    for v in day.vintages:
        b.standing_quotes(0, v.code, v.low or v.previous, v.high or v.previous)
    beyond = next((s for s, e in enumerate(episodes) if s and _has_sixth_level(b, e)), -1)
    for slot, e in enumerate(episodes):
        own = slots[e.code]
        position = own.index(slot)
        if slot == beyond:
            b.sweep_beyond(slot, e)
        else:
            b.episode(slot, e, own[: position + 1], episodes)
        for _ in range(b.chance.between(0, QUOTES_MAX)):
            b.quote(slot, e.code, own[position:], episodes)
    if refusals:
        _add_refusals(b, episodes, slots)
    actions = _timed(b, rules, day.date, profile, refusals=refusals)
    return Flow(b.members, actions, deals)


def _has_sixth_level(b: FlowBuilder, e: Episode) -> bool:
    """A sweep of as many levels as an order may reach, with room inside the limits for one more behind them."""
    low, high = b.limits[e.code]
    inside = e.high < high if e.side == BUY else e.low > low
    return len(e.deals) == b.rules.best_levels and inside


def _add_refusals(b: FlowBuilder, episodes: list[Episode], slots: dict[str, list[int]]) -> None:
    """An order for each check that members know best: limits, size, cash, allowances, T+1, fill-or-kill, order gone."""
    code = max(slots, key=lambda c: len(slots[c]))
    other = min(slots, key=lambda c: len(slots[c]))
    low, high = b.limits[code]
    at = [slots[code][len(slots[code]) * n // 10] for n in range(10)]
    b.refused(b.after[at[1]], 0, code, BUY, high + 1, 100, Code.PRICE_ABOVE_LIMIT)
    b.refused(b.after[at[2]], 1, code, SELL, low - 1, 100, Code.PRICE_BELOW_LIMIT)
    b.refused(b.after[at[3]], 2, code, BUY, low, 100_000, Code.QUANTITY_TOO_LARGE)
    b.refused(b.after[at[4]], b.penniless, code, BUY, low, 1_000, Code.INSUFFICIENT_CASH)
    b.refused(b.after[at[5]], b.newcomer, other, SELL, b.limits[other][1], 50, Code.INSUFFICIENT_ALLOWANCES)
    b.refused(b.after[at[6]], 3, code, BUY, low, 90_000, Code.NOT_FILLABLE)
    # the newcomer buys a little, and cannot sell it today
    for slot, episode in enumerate(episodes):
        for n, a in enumerate(b.main[slot]):
            small = a.kind == NEW and a.side == BUY and 0 < a.quantity == a.filled <= SMALL_T
            if small:
                highest = b.limits[episode.code][1]
                b.main[slot][n] = a._replace(member=b.newcomer)
                b.refused(b.after[slot], b.newcomer, episode.code, SELL, highest, a.quantity, Code.BOUGHT_TODAY)
                b._cancel(b.after[slot], b.newcomer, a.label, episode.code, Code.ORDER_NOT_OPEN)
                return


def _timed(b: FlowBuilder, rules: Rules, date: int, profile: Sequence[int], *, refusals: bool) -> list[Action]:
    """Spreads the slots over the day's hours, a little unevenly; with ``refusals``, messages outside hours too."""
    morning, morning_end, afternoon, close = rules.boundaries_ns(date)
    noon, end = morning_end - morning, morning_end - morning + close - afternoon
    code = b.day.vintages[-1].code
    reference = b.day.vintages[-1].previous
    early = Action(0, 0, NEW, b.label(), code, BUY, reference, 100, LIMIT, Code.MARKET_CLOSED, 0)
    lunch = Action(0, 1, NEW, b.label(), code, BUY, reference, 100, LIMIT, Code.MARKET_BREAK, 0)
    timed = [early._replace(time_ns=morning - 5 * 60 * NS_PER_SECOND)] if refusals else []
    slots = [[*b.ahead[s], *b.main[s], *b.after[s]] for s in range(len(b.main))]
    starts = _slot_starts(len(slots), end, profile)
    lunch_told = not refusals
    for slot, (first, last) in enumerate(pairwise([*starts, end])):
        messages = slots[slot]
        if first < noon < last:  # a slot is not cut by the break: it begins after it, or ends before
            first, last = (noon, last) if last - noon > noon - first else (first, noon)
        if first >= noon and not lunch_told:
            timed.append(lunch._replace(time_ns=morning_end + 30 * 60 * NS_PER_SECOND))
            lunch_told = True
        room = last - first - len(messages) * STEP_NS
        assert room > 0, "more messages than the slot's time holds"
        # the first slot starts on the stroke of the open, the others somewhere in the first half of theirs
        start = first + (b.chance.below(min(room, (last - first) // 2)) if slot else min(room, NS_PER_SECOND))
        opened = start + morning if first < noon else start - noon + afternoon
        timed += [m._replace(time_ns=opened + i * STEP_NS) for i, m in enumerate(messages)]
    if not lunch_told:
        timed.append(lunch._replace(time_ns=morning_end + 30 * 60 * NS_PER_SECOND))
    assert all(x.time_ns < y.time_ns for x, y in pairwise(timed))
    return timed


def _slot_starts(count: int, length: int, profile: Sequence[int]) -> list[int]:
    """When each of ``count`` slots begins in ``length`` ns of trading, so many in each part as the profile says."""
    total, parts = sum(profile), len(profile)
    sums = [0, *accumulate(profile)]
    starts = []
    for n in range(count):
        at = n * total  # in units of 1 / (count × total) of all messages
        part = bisect_right([x * count for x in sums], at) - 1
        inside = (at - sums[part] * count) * length // (parts * profile[part] * count)
        starts.append(length * part // parts + inside)
    return starts
