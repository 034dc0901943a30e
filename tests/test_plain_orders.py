"""An order that is plain at a glance (`kernel._is_plain`) gets the same answer as one that is checked line by line.

Every case is tried twice on the same market: as a limit order without flags, which can pass at a glance, and with an
expiry time that never comes, which changes nothing in the market but always takes the long way.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from small_market import SmallMarket, with_accounts

from engine import market as m
from engine import records as r
from engine.calendar import day_start_ns, parse_clock
from engine.rules import Policy, Rules

NEVER = (1 << 64) - 1
DAY = day_start_ns(20251203)
HOURS = ["09:29", "09:30", "11:29", "11:30", "12:59", "13:00", "14:59", "15:00", "15:01"]
TIMES = [DAY + parse_clock(clock) + off for clock in HOURS for off in (-1, 0, 59_999_999_999)]
ORDERS: list[dict[str, int]] = [
    {},
    {"side": r.SELL},
    {"side": 2},
    {"instrument": 1},
    {"instrument": 99},
    {"account": 3},
    {"account": 4},
    {"account": 1 << 31},
    {"price": 0},
    {"price": -1},
    {"price": 900},
    {"price": 899},
    {"price": 1_100},
    {"price": 1_101},
    {"price": 1 << 40},
    {"quantity": 0},
    {"quantity": 1},
    {"quantity": 1_000},
    {"quantity": 1_001},
    {"quantity": 1 << 50},
]


def halt_market(market: m.Market) -> None:
    market.market[0]["halted"] = 1


def cancel_only(market: m.Market) -> None:
    market.market[0]["cancel_only"] = 1


def close_day(market: m.Market) -> None:
    market.market[0]["day_closed"] = 1


def halt_instrument(market: m.Market) -> None:
    market.instruments[0]["halted"] = 1


def retire_instrument(market: m.Market) -> None:
    market.instruments[0]["listed"] = 0


def suspend_account(market: m.Market) -> None:
    market.accounts[0]["status"] = m.SUSPENDED


def stop_account(market: m.Market) -> None:
    market.accounts[0]["status"] = m.ACCOUNT_CANCEL_ONLY


def coarse_tick(market: m.Market) -> None:
    market.instruments[0]["tick"] = 3


def coarse_lot(market: m.Market) -> None:
    market.instruments[0]["lot"] = 7


STATES: list[Callable[[m.Market], None]] = [
    lambda market: None,
    halt_market,
    cancel_only,
    close_day,
    halt_instrument,
    retire_instrument,
    suspend_account,
    stop_account,
    coarse_tick,
    coarse_lot,
]


def answers(rules: Rules, change: Callable[[m.Market], None], *, flags: int, bound: int = 1_000) -> list[list[int]]:
    """The events' kinds and reasons of each order at each time, all in one batch, on a market changed by hand."""
    market = SmallMarket(rules).exchange
    market.market.instruments["quantity_max"] = bound
    change(market.market)
    cases = [(time_ns, order) for time_ns in TIMES for order in ORDERS]
    batch = np.zeros(len(cases), r.COMMAND)
    for at, (time_ns, order) in enumerate(cases):
        terms = {"price": 1_000, "quantity": 10, **order}
        for name, value in terms.items():
            batch[at][name] = value
        batch[at]["kind"], batch[at]["seq"], batch[at]["time_ns"] = r.NEW, market.seq + 1 + at, time_ns
        batch[at]["flags"], batch[at]["order_id"] = flags, NEVER if flags else 0
    events = market.apply(batch).events
    return [events[name].tolist() for name in ("seq", "kind", "reason", "account", "side", "price", "quantity")]


@pytest.mark.parametrize("change", STATES, ids=lambda change: change.__name__)
def test_what_is_plain_at_a_glance_is_answered_as_if_checked_line_by_line(change: Callable[[m.Market], None]) -> None:
    for rules in (Rules.national(), with_accounts(), Rules.generic()):
        assert answers(rules, change, flags=0) == answers(rules, change, flags=r.EXPIRES)


def test_a_vintage_with_listings_is_answered_as_if_checked_line_by_line() -> None:
    rules = msgspec.structs.replace(with_accounts(), policies={"X": Policy(matching="listing")})
    assert answers(rules, STATES[0], flags=0) == answers(rules, STATES[0], flags=r.EXPIRES)


def test_a_check_that_one_way_leaves_out_would_be_seen() -> None:
    rules = with_accounts()
    assert len(set(answers(rules, STATES[0], flags=0)[2])) > 5, "the cases must end in many ways"
    assert answers(rules, STATES[0], flags=0) != answers(rules, STATES[0], flags=r.EXPIRES, bound=1_001)
