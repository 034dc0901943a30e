"""The order of a day's deals over all vintages, so that the composite's open, high and low result too (R7.3, R7.4).

Each listed deal moves the composite, so its path depends on how the vintages' deals interleave. Seen as a
walk: a state is every vintage's last price; a move is one deal. :func:`skeleton` finds moves of one tonne
that touch all that must be touched (each vintage's open, high and low; the composite's open, high and low)
without ever leaving [composite low, composite high]. Vintages that have opened move freely inside their own
[low, high], so what a phase of the walk can reach is an interval of the weighted sum, and the search is
over the order in which vintages open. :func:`place` then puts all other deals where the composite stays
inside its range.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from engine.prices import divide_half_up
from replay.deals import Deal, NoDeals, solve_deals
from replay.figures import DayFigures, VintageFigures
from replay.pseudo_random import PseudoRandom

MOVES_MAX = 2_000  # of one skeleton: a composite range of a fen against vintages that move by yuan needs hundreds
BUSY_T = 5_000  # from this volume on, a few single tonnes in the skeleton bind nothing
TRIES_PER_BLOCK = 24  # places that are compared for a block; more gives smoother prices, and costs time


class NoOrder(ValueError):
    """No interleaving was found that gives the composite's published figures."""


class DayDeal(NamedTuple):
    """A listed deal of the day to be: vintage, price (fen), quantity (t); equal ``block`` = one incoming order."""

    code: str
    price: int
    quantity: int
    block: int


class Block(NamedTuple):
    """Deals of one vintage that follow each other as one incoming order's."""

    code: str
    number: int
    deals: list[Deal]


class Walk:
    """Last prices of all vintages, the composite's weighted sum, and the moves so far."""

    def __init__(self, day: DayFigures, weights: dict[str, int]) -> None:
        self.vintages = day.vintages
        self.weight = [weights.get(v.code, 0) for v in day.vintages]
        self.last = [v.previous for v in day.vintages]
        self.sum = sum(w * p for w, p in zip(self.weight, self.last, strict=True))
        total, c = sum(self.weight), day.composite
        if total <= 0:
            raise NoOrder("composite: no vintage of the day has a weight")
        # the sums whose half-up quotient is a price: total × (price ∓ 1/2), the upper end excluded
        self.sums_of = lambda price: (-(-(2 * price - 1) * total // 2), ((2 * price + 1) * total - 1) // 2)
        self.low, self.high = self.sums_of(c.low)[0], self.sums_of(c.high)[1]
        self.opened: list[int] = []
        self.moves: list[tuple[int, int]] = []

    def deal(self, i: int, price: int) -> None:
        """One deal of vintage ``i`` at a price."""
        self.sum += self.weight[i] * (price - self.last[i])
        self.last[i] = price
        self.moves.append((i, price))
        if len(self.moves) > MOVES_MAX:
            raise NoOrder("composite: too many moves")

    def inside(self, total: int) -> bool:
        """True where a weighted sum lies in the composite's range of the day."""
        return self.low <= total <= self.high

    def reach(self, fixed: int | None, price: int, first: int, last: int) -> list[int] | None:
        """Last prices near the present ones: vintage ``fixed`` at ``price``, the sum in first … last, or None."""
        to = list(self.last)
        if fixed is not None:
            to[fixed] = price
        first, last = max(first, self.low), min(last, self.high)
        if first > last:
            return None
        total = sum(w * p for w, p in zip(self.weight, to, strict=True))
        for i in sorted(self.opened, key=lambda i: -self.vintages[i].listed_volume):
            if i == fixed or not self.weight[i]:
                continue
            v, w = self.vintages[i], self.weight[i]
            if total < first:
                step = min(-(-(first - total) // w), v.high - to[i])
            elif total > last:
                step = -min(-(-(total - last) // w), to[i] - v.low)
            else:
                break
            to[i] += step
            total += w * step
        return to if first <= total <= last else None

    def go(self, to: list[int]) -> None:
        """Moves to these last prices, one deal at a time, each as far as the composite's range allows."""
        while self.last != to:
            best_step, best = 0, -1
            for i in self.opened:
                w, way = self.weight[i], to[i] - self.last[i]
                if not way:
                    continue
                room = abs(way) if not w else (self.high - self.sum if way > 0 else self.sum - self.low) // w
                step = min(abs(way), room)
                # a move that arrives saves deals; else the longest
                if (step == abs(way), step) > (
                    best_step == abs(to[best] - self.last[best]) if best >= 0 else False,
                    best_step,
                ):
                    best_step, best = step, i
            if best < 0 or best_step <= 0:
                raise NoOrder("composite: no way between two states")
            self.deal(best, self.last[best] + (best_step if to[best] > self.last[best] else -best_step))


def skeleton(day: DayFigures, weights: dict[str, int]) -> list[tuple[int, int]]:
    """Moves (index of the vintage, price) that touch every published price of the day. NoOrder when none are found."""
    traded = [i for i, v in enumerate(day.vintages) if v.listed_volume]
    traded.sort(key=lambda i: -day.vintages[i].listed_volume)  # among equals, the busiest opens first
    found: list[list[tuple[int, int]]] = []
    for early in (False, True):  # the second try also hurries with the vintages' own extremes
        for order in () if found else itertools.permutations(traded):
            walk = Walk(day, weights)
            try:
                _walk_through(walk, day, order, early=early)
            except NoOrder:
                continue
            found.append(walk.moves)
    if not found:
        raise NoOrder(f"{day.date}: no order of the deals gives the composite's open, high and low")
    return min(found, key=len)


def _walk_through(walk: Walk, day: DayFigures, order: Sequence[int], *, early: bool) -> None:
    """Opens the vintages in this order and touches everything, the composite's extremes as late as possible.

    ``early``: an opened vintage's high or low is touched now where it will be out of reach later.
    """
    c = day.composite
    for position, i in enumerate(order):
        v = walk.vintages[i]
        jump = walk.weight[i] * (v.open - walk.last[i])
        if position == 0:
            first, last = walk.sums_of(c.open)
            if not first <= walk.sum + jump <= last:
                raise NoOrder("composite: another open")
        else:
            _touch_before_it_is_too_late(walk, day, order[position:])
            if early:
                _touch_vintages_before_it_is_too_late(walk, order[position:])
            to = walk.reach(None, 0, walk.low - jump, walk.high - jump)
            if to is None:
                raise NoOrder("composite: a vintage cannot open inside the range")
            walk.go(to)
        walk.opened.append(i)
        walk.deal(i, v.open)
    for price in (c.high, c.low):
        _touch_composite(walk, price, must=True)
        for i in order:
            _recover(walk, i)
    for i in order:
        for price in (walk.vintages[i].high, walk.vintages[i].low):
            if (i, price) not in walk.moves:
                to = walk.reach(i, price, walk.low, walk.high)
                if to is None:
                    raise NoOrder("composite: a vintage's high or low lies outside the range")
                walk.go(to)
                _recover(walk, i)


def _recover(walk: Walk, i: int) -> None:
    """Back to a busy vintage's average price, so that its other deals find room; where the range allows."""
    v = walk.vintages[i]
    if v.listed_volume >= BUSY_T:
        to = walk.reach(i, divide_half_up(v.listed_amount, v.listed_volume), walk.low, walk.high)
        if to is not None and all(a == b for j, (a, b) in enumerate(zip(to, walk.last, strict=True)) if j != i):
            walk.go(to)


def _touch_before_it_is_too_late(walk: Walk, day: DayFigures, unopened: Sequence[int]) -> None:
    """Touches a composite extreme now when it is out of reach once the other vintages have opened."""
    all_open = [*walk.opened, *unopened]
    rest = sum(w * p for i, (w, p) in enumerate(zip(walk.weight, walk.last, strict=True)) if i not in all_open)
    lowest = rest + sum(walk.weight[i] * walk.vintages[i].low for i in all_open)
    highest = rest + sum(walk.weight[i] * walk.vintages[i].high for i in all_open)
    for price in (day.composite.high, day.composite.low):
        first, last = walk.sums_of(price)
        if last < lowest or first > highest:
            _touch_composite(walk, price, must=False)


def _touch_vintages_before_it_is_too_late(walk: Walk, unopened: Sequence[int]) -> None:
    """Touches an opened vintage's high or low now when the composite's range forbids it once all have opened."""
    all_open = [*walk.opened, *unopened]
    rest = sum(w * p for i, (w, p) in enumerate(zip(walk.weight, walk.last, strict=True)) if i not in all_open)
    for i in list(walk.opened):
        others = [j for j in all_open if j != i]
        for price in (walk.vintages[i].high, walk.vintages[i].low):
            here = rest + walk.weight[i] * price
            lowest = here + sum(walk.weight[j] * walk.vintages[j].low for j in others)
            highest = here + sum(walk.weight[j] * walk.vintages[j].high for j in others)
            if (i, price) in walk.moves or (lowest <= walk.high and highest >= walk.low):
                continue
            to = walk.reach(i, price, walk.low, walk.high)
            if to is not None:
                walk.go(to)


def _touch_composite(walk: Walk, price: int, *, must: bool) -> None:
    first, last = walk.sums_of(price)
    state = {i: walk.vintages[i].previous for i in range(len(walk.vintages))}
    total = sum(w * p for w, p in zip(walk.weight, state.values(), strict=True))
    for i, p in walk.moves:
        total += walk.weight[i] * (p - state[i])
        state[i] = p
        if first <= total <= last:
            return
    to = walk.reach(None, 0, first, last)
    if to is not None:
        walk.go(to)
    elif must:
        raise NoOrder("composite: its high or low cannot be reached")


def order_deals(day: DayFigures, weights: dict[str, int], *, pieces: dict[str, int], seed: int = 0) -> list[DayDeal]:
    """All listed deals of the day in an order that gives every published figure, the composite's included.

    ``pieces``: about how many deals a vintage gets beyond the skeleton's; some follow each other as one block,
    which one incoming order can sweep. NoOrder or NoDeals when the search fails.
    """
    moves = skeleton(day, weights)
    chance = PseudoRandom(seed)
    sequence = [DayDeal(day.vintages[i].code, price, 1, n) for n, (i, price) in enumerate(moves)]
    path = composite_path(sequence, day, weights)
    touches = {path.index(day.composite.high), path.index(day.composite.low)}
    blocks: list[list[Deal]] = []
    codes: list[str] = []
    for i, v in enumerate(day.vintages):
        own = [price for j, price in moves if j == i]
        if not own:
            continue
        deals = _rest_deals(v, own, pieces.get(v.code, 0), seed + i)
        made = _blocks(deals, chance)
        blocks += made
        codes += [v.code] * len(made)
    for at in chance.shuffled(range(len(blocks))):
        block = Block(codes[at], len(moves) + at, blocks[at])
        sequence = place(sequence, block, Walk(day, weights), touches, chance)
    return sequence


def _rest_deals(v: VintageFigures, own: list[int], pieces: int, seed: int) -> list[Deal]:
    deals = solve_deals(
        v.open, v.high, v.low, v.listed_volume, v.listed_amount, through=own[1:], pieces=pieces, seed=seed
    )
    if [p for p, _ in deals[: len(own)]] != own:
        raise NoDeals(f"{v.code}: the skeleton's prices are not the first deals")
    return deals[len(own) :]


def _blocks(deals: list[Deal], chance: PseudoRandom) -> list[list[Deal]]:
    """Groups some deals by rising or falling price, up to five levels each: sweeps (R8.2). The others stand alone."""
    left, blocks = sorted(deals), []
    while left:
        size = min(len(left), chance.one_of((1, 1, 1, 2, 3, 5)))
        at = chance.below(len(left) - size + 1)
        block, distinct = [left.pop(at)], 1
        while distinct < size and at < len(left):
            if left[at][0] != block[-1][0]:
                block.append(left.pop(at))
                distinct += 1
            else:
                at += 1
        blocks.append(block if chance.below(2) else block[::-1])
    return blocks


def place(sequence: list[DayDeal], block: Block, start: Walk, touches: set[int], chance: PseudoRandom) -> list[DayDeal]:
    """Puts a block where the composite stays in its range, near to its neighbours' prices.

    ``touches`` are the skeleton's moves that make the composite's high and low: their moment is left alone.
    """
    weights = {v.code: w for v, w in zip(start.vintages, start.weight, strict=True)}
    own = [n for n, d in enumerate(sequence) if d.code == block.code]
    sums = _sums(sequence, start, weights)
    touched = [n for n, d in enumerate(sequence) if d.block in touches]
    places = [n + 1 for n in range(own[0], len(sequence)) if n + 1 == len(sequence) or not _inside_block(sequence, n)]
    best: tuple[int, int] | None = None
    for attempt in ([chance.one_of(places) for _ in range(TRIES_PER_BLOCK)], places):
        for at in attempt:
            before = sequence[max(n for n in own if n < at)].price
            until = next((n for n in own if n >= at), len(sequence))
            if any(at <= n < until for n in touched):
                continue
            shifts = [weights[block.code] * (p - before) for p, _ in block.deals]
            held = sums[at - 1 : until]  # the last price of the block holds until the vintage's next deal
            reached = [sums[at - 1] + s for s in shifts] + [min(held) + shifts[-1], max(held) + shifts[-1]]
            if not all(map(start.inside, reached)):
                continue
            after = sequence[until].price if until < len(sequence) else block.deals[-1][0]
            cost = abs(block.deals[0][0] - before) + abs(after - block.deals[-1][0])
            if best is None or cost < best[0]:
                best = (cost, at)
        if best is not None:
            break
    if best is None:
        raise NoOrder(f"{block.code}: no place for a deal at {block.deals[0][0]}")
    at = best[1]
    return sequence[:at] + [DayDeal(block.code, p, q, block.number) for p, q in block.deals] + sequence[at:]


def _sums(sequence: list[DayDeal], start: Walk, weights: dict[str, int]) -> list[int]:
    """The composite's weighted sum after each deal."""
    sums, total, last = [], start.sum, {v.code: v.previous for v in start.vintages}
    for d in sequence:
        total += weights[d.code] * (d.price - last[d.code])
        last[d.code] = d.price
        sums.append(total)
    return sums


def _inside_block(sequence: list[DayDeal], n: int) -> bool:
    return sequence[n].block == sequence[n + 1].block


def composite_path(sequence: Sequence[DayDeal], day: DayFigures, weights: dict[str, int]) -> list[int]:
    """The composite after each deal, fen (R7.4)."""
    last = {v.code: v.previous for v in day.vintages}
    used = {code: weights.get(code, 0) for code in last}
    path = []
    for d in sequence:
        last[d.code] = d.price
        path.append(divide_half_up(sum(used[c] * p for c, p in last.items()), sum(used.values())))
    return path
