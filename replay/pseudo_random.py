"""Seeded pseudo-random numbers (splitmix64) that are the same on every Python, so that a flow is its seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
MASK = (1 << 64) - 1


class PseudoRandom:
    """splitmix64 (Steele, Lea, Flood 2014): one 64-bit state, equal seeds give equal sequences."""

    def __init__(self, seed: int) -> None:
        self.state = seed & MASK

    def bits(self) -> int:
        """The next 64 bits."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def below(self, bound: int) -> int:
        """An integer in 0 … bound − 1; ``bound`` ≥ 1, small against 2^64 (the bias is bound / 2^64)."""
        assert bound >= 1
        return self.bits() % bound

    def between(self, first: int, last: int) -> int:
        """An integer in first … last, both included."""
        return first + self.below(last - first + 1)

    def one_of(self, items: Sequence[T]) -> T:
        """One of the items; there must be one."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in another order (Fisher and Yates)."""
        mixed = list(items)
        for i in range(len(mixed) - 1, 0, -1):
            j = self.below(i + 1)
            mixed[i], mixed[j] = mixed[j], mixed[i]
        return mixed
