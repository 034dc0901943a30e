"""Deals from which a day's published figures result: open, high, low, volume and amount, exactly (D31).

The published row of a vintage says less than its deals did; any deals that give the same row serve.
:func:`solve_deals` finds some whenever there are any: one tonne each at the open, the high, the low and
the prices asked for; what remains, V' tonnes for A' fen, goes to the two neighbouring ticks around A'/V',
and is then spread over more prices by moves that keep both sums. Whole numbers throughout.
"""

from __future__ import annotations

from collections.abc import Sequence

from replay.pseudo_random import PseudoRandom

DEAL_MAX_T = 99_999  # one listed deal is at most one listed order (R4.1)

Deal = tuple[int, int]  # price in fen, quantity in tonnes


class NoDeals(ValueError):
    """No deals whatever can give these figures; the text says which figure contradicts."""


def solve_deals(
    opening: int,
    high: int,
    low: int,
    volume: int,
    amount: int,
    tick: int = 1,
    *,
    through: Sequence[int] = (),
    pieces: int = 0,
    seed: int = 0,
) -> list[Deal]:
    """Deals ``(price_fen, quantity_t)``, the first at ``opening``, with exactly these figures.

    At least one deal is at ``high``, one at ``low`` and one at each price of ``through`` (in this order after the
    open); all prices lie within [low, high] and on the tick, all quantities within 1 … DEAL_MAX_T,
    Σ quantity = volume (t) and Σ price × quantity = amount (fen). ``pieces``: about how many further deals the rest
    is spread over (0: as few as possible); ``seed`` chooses among the spreads. NoDeals when there is no solution.
    """
    key_prices = _key_prices(opening, high, low, tick, volume, list(through))
    rest_volume, rest_amount = volume - len(key_prices), amount - sum(key_prices)
    deals: list[Deal] = [(price, 1) for price in key_prices]
    if rest_volume == 0:
        if rest_amount:
            raise NoDeals(f"amount {amount}: {volume} t at open, high and low make {sum(key_prices)}")
        return deals
    if rest_amount % tick:
        raise NoDeals(f"amount {amount}: no sum of prices on the tick {tick}")
    if not low * rest_volume <= rest_amount <= high * rest_volume:
        raise NoDeals(f"amount {amount}: its average over {volume} t does not lie within {low} … {high}")
    lower, upper_quantity = divmod(rest_amount // tick, rest_volume)
    rest = [(lower * tick, rest_volume - upper_quantity), ((lower + 1) * tick, upper_quantity)]
    parts = [(p, q) for p, q in rest if q]
    if pieces:
        parts = _spread(parts, low, high, tick, pieces, PseudoRandom(seed))
    return deals + [(p, q) for price, quantity in parts for p, q in _within_order_size(price, quantity)]


def _key_prices(opening: int, high: int, low: int, tick: int, volume: int, through: list[int]) -> list[int]:
    for name, price in (("open", opening), *(("through", p) for p in through)):
        if not low <= price <= high:
            raise NoDeals(f"{name} {price}: outside {low} … {high}")
    prices = [opening, *through]
    prices += [p for p in dict.fromkeys((high, low)) if p not in prices]
    if any(p % tick for p in prices):
        raise NoDeals(f"open {opening}, high {high}, low {low}: not all on the tick {tick}")
    if volume < len(prices):
        raise NoDeals(f"volume {volume}: fewer tonnes than prices that must be dealt at ({len(prices)})")
    return prices


def _spread(parts: list[Deal], low: int, high: int, tick: int, pieces: int, chance: PseudoRandom) -> list[Deal]:
    """Cuts the parts into ``pieces`` or so, and moves pairs of equal size apart by the same number of ticks."""
    total = sum(q for _, q in parts)
    spread: list[Deal] = []
    for price, quantity in parts:
        room = min(price - low, high - price) // tick
        pairs = max(1, pieces * quantity // total // 2)
        left = quantity
        for number in range(pairs, 0, -1):
            # uneven sizes, the mean of what is left at the middle; two equal halves, what is odd stays at the price
            size = left if number == 1 else chance.between(1, max(1, 2 * left // number - 1))
            half, left = size // 2, left - size
            distance = chance.between(0, room) if half else 0
            spread += [(price - distance * tick, half), (price + distance * tick, half)] if half else []
            spread += [(price, 1)] if size % 2 else []
            if not left:
                break
    return chance.shuffled([d for d in spread if d[1]])


def _within_order_size(price: int, quantity: int) -> list[Deal]:
    full, rest = divmod(quantity, DEAL_MAX_T)
    return [(price, DEAL_MAX_T)] * full + ([(price, rest)] if rest else [])
