"""Bulk deals from a published bulk volume and amount: each at least the minimum, inside the band (R4.2, R6.1)."""

from __future__ import annotations

import numpy as np

from replay.deals import Deal, NoDeals

DEALS_MAX = 40  # of one vintage and day: a day of 4 million tonnes


def solve_bulk(volume: int, amount: int, low: int, high: int, minimum: int = 100_000) -> list[Deal]:
    """As few deals ``(price_fen, quantity_t)`` as give Σ quantity = volume (t), Σ price × quantity = amount (fen).

    All quantities are ≥ ``minimum`` and all prices in [low, high]. NoDeals when there are none: one deal where the
    average is a price, else two (every pair of prices is tried), else ``minimum`` tonnes at a price and the rest.
    """
    if volume < minimum:
        raise NoDeals(f"bulk volume {volume}: below the minimum of one deal, {minimum}")
    if not low * volume <= amount <= high * volume:
        raise NoDeals(f"bulk amount {amount}: its average over {volume} t does not lie within {low} … {high}")
    deals: list[Deal] = []
    while len(deals) < DEALS_MAX:
        if amount % volume == 0 and low <= amount // volume <= high:
            return [*deals, (amount // volume, volume)]
        pair = _two_deals(volume, amount, low, high, minimum)
        if pair:
            return deals + pair
        if volume < 3 * minimum:
            break
        # one deal of the minimum at the average leaves the rest about where it was
        price = min(max(amount // volume, low), high)
        deals.append((price, minimum))
        volume, amount = volume - minimum, amount - price * minimum
    raise NoDeals(f"bulk volume {volume}, amount {amount}: no deals of at least {minimum} t found")


def _two_deals(volume: int, amount: int, low: int, high: int, minimum: int) -> list[Deal]:
    """Two deals, the closest prices first: q at p + d and volume − q at p, q = (amount − p × volume) / d."""
    if volume < 2 * minimum:
        return []
    lower = np.arange(low, min(high, amount // volume) + 1, dtype=np.int64)[::-1]
    rest = amount - lower * volume  # what the higher price must bring on top
    for step in range(1, high - low + 1):
        quantity = rest // step
        fits = (quantity * step == rest) & (quantity >= minimum) & (quantity <= volume - minimum)
        fits &= lower + step <= high
        if fits.any():
            at = int(np.argmax(fits))
            price, upper = int(lower[at]), int(quantity[at])
            return [(price + step, upper), (price, volume - upper)]
    return []
