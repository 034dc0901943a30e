"""A price ladder for another market's prices: source prices to levels 2 … n + 1 of the engine, and back.

The engine's book is an array of levels (D17). With the greatest common divisor of all resting prices as its tick
most sessions fit: the ladder is then an arithmetic one. Where prices are too sparse for that (one stub quote at
200,000 dollars among sub-penny prices) the levels are the ranks of the prices that occur: matching, which only
compares prices, is the same. So they are where price × quantity would exceed what the engine represents. Levels 1
and n + 2 are guards: limits of immediate orders outside all prices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import numpy as np

from engine.records import BUY
from engine.rules import LEVELS_MAX

GUARDS: Final = 2


class Ladder(NamedTuple):
    """``prices`` is empty for an arithmetic ladder (low + tick × step), else the sorted prices that occur."""

    low: int
    tick: int
    steps: int
    prices: np.ndarray

    @property
    def levels(self) -> int:
        """Levels that the book needs, guards included."""
        return self.steps + GUARDS

    @property
    def kind(self) -> str:
        """``tick`` or ``ranks``, as reports print it."""
        return "ranks" if len(self.prices) else "tick"

    def to_price(self, level: int) -> int:
        """Source price of an engine price at which an order may rest."""
        step = level - GUARDS
        return int(self.prices[step]) if len(self.prices) else self.low + self.tick * step

    def to_levels(self, prices: np.ndarray, sides: np.ndarray) -> np.ndarray:
        """Engine prices (int64, shape as ``prices``) of limits: a buy's rounded down to a level, a sell's up."""
        buys = sides == BUY
        if len(self.prices):
            down = np.searchsorted(self.prices, prices, side="right") - 1
            up = np.searchsorted(self.prices, prices, side="left")
        else:
            down = (prices - self.low) // self.tick
            up = -((self.low - prices) // self.tick)
        return np.clip(np.where(buys, down, up), -1, self.steps) + GUARDS


class PriceSurvey:
    """Lowest, highest and the common divisor of prices that come in batches."""

    def __init__(self) -> None:
        self.low, self.high, self.tick, self._first, self.seen = 0, 0, 0, 0, False

    def add(self, prices: np.ndarray) -> None:
        """Looks at a batch."""
        if not len(prices):
            return
        low, high = int(prices.min()), int(prices.max())
        if not self.seen:
            self.low, self.high, self._first, self.seen = low, high, low, True
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.tick = math.gcd(self.tick, low - self._first, int(np.gcd.reduce(prices - low)))


def ladder_from(
    survey: PriceSurvey,
    batches: Callable[[], Iterable[np.ndarray]],
    levels_max: int = LEVELS_MAX,
    *,
    ranks: bool = False,
) -> Ladder:
    """A ladder for all prices at which an order may rest; ``batches`` gives them again where their ranks are needed.

    ``ranks``: use ranks even where a tick would do, so that the engine's prices are as small as can be. ValueError
    where even the ranks exceed ``levels_max``.
    """
    if not survey.seen:
        return Ladder(0, 1, 1, np.zeros(0, np.int64))
    low, high, tick = survey.low, survey.high, survey.tick or 1
    steps = (high - low) // tick + 1
    if steps + GUARDS <= levels_max and not ranks:
        return Ladder(low, tick, steps, np.zeros(0, np.int64))
    prices = np.zeros(0, np.int64)
    for batch in batches():
        prices = np.union1d(prices, batch)
        if len(prices) + GUARDS > levels_max:
            raise ValueError(
                f"prices {low} … {high} on a tick of {tick} make {steps} levels, and {len(prices)} different prices "
                f"occur; a book has at most {levels_max - GUARDS} (D17)"
            )
    return Ladder(low, tick, len(prices), prices)


def ladder_of(resting: np.ndarray, levels_max: int = LEVELS_MAX, *, ranks: bool = False) -> Ladder:
    """:func:`ladder_from` for prices that are all there."""
    survey = PriceSurvey()
    survey.add(resting)
    return ladder_from(survey, lambda: [resting], levels_max, ranks=ranks)
