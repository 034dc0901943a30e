"""The rules of compliance as arithmetic, without I/O: usable vintages, offset, carry-over, risk (R13.4–R13.8)."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class VintageRule:
    """From ``from_date`` (YYYYMMDD) on, vintages ``earliest`` … the compliance year itself may be surrendered."""

    from_date: int
    earliest: int


# Own or earlier vintage, none borrowed (R13.4). Dated configuration: append, never change.
VINTAGE_RULES: Final = (VintageRule(20210716, 2019),)

FIRST_YEAR: Final = 2019  # the national market's first compliance year
LAST_YEAR: Final = 2199  # beyond it a digit is wrong
OFFSET_DIVISOR: Final = 20  # 5 % of the obligation (R13.5)
CARRY_BASE_T: Final = 10_000  # R13.8
CARRY_FIRST_DATE: Final = 20240101
CARRY_LAST_DATE: Final = 20251231
CARRY_TARGET: Final = "CEA25"
CARRY_VINTAGES: Final = range(2019, 2025)  # 2019 … 2024


def usable(vintage: int, year: int, date: int, rules: Sequence[VintageRule] = VINTAGE_RULES) -> bool:
    """Whether allowances of ``vintage`` may be surrendered on ``date`` for compliance year ``year`` (R13.4)."""
    valid = [rule for rule in rules if rule.from_date <= date]
    return bool(valid) and valid[-1].earliest <= vintage <= year


def offset_max(emissions_t: int) -> int:
    """Tonnes of CCER that may count for an obligation: 5 %, rounded down (R13.5)."""
    return emissions_t // OFFSET_DIVISOR


def carry_over_max(sold_t: int, bought_t: int, holding_t: int) -> int:
    """T = floor(10,000 + NS x 1.5), NS = max(0, sold - bought), at most the holding on 2025-12-31 (R13.8)."""
    net_sold = max(0, sold_t - bought_t)
    return min(CARRY_BASE_T + net_sold * 3 // 2, holding_t)


def days_between(first: int, last: int) -> int:
    """Calendar days from ``first`` to ``last`` (YYYYMMDD); negative where last is earlier."""
    days = [datetime.date(date // 10_000, date // 100 % 100, date % 100) for date in (first, last)]
    return (days[1] - days[0]).days


@dataclass(frozen=True, slots=True)
class Compliance:
    """Where an entity stands for one year. Usable holdings are those that may be surrendered for it."""

    account: int
    year: int
    emissions_t: int
    deadline: int
    surrendered_t: int
    offset_t: int
    usable_registry_t: int = 0
    usable_trading_t: int = 0
    open_sells_t: int = 0
    days_left: int = 0

    @property
    def missing_t(self) -> int:
        """Tonnes still to be surrendered or offset."""
        return max(0, self.emissions_t - self.surrendered_t - self.offset_t)

    @property
    def complied(self) -> bool:
        return self.missing_t == 0

    @property
    def shortfall_t(self) -> int:
        """What is missing even if everything usable were surrendered and every open sell order dealt."""
        return max(0, self.missing_t - self.usable_registry_t - max(0, self.usable_trading_t - self.open_sells_t))

    @property
    def warning(self) -> str:
        """'' (no risk), 'watch' (could comply, has not), 'short' (holds too little) or 'overdue'."""
        if self.complied:
            return ""
        if self.days_left < 0:
            return "overdue"
        return "short" if self.shortfall_t else "watch"
