"""The market's state: numpy tables that the kernel and the Python state machines share (design 4 and 5).

One record per thing, plain integers, no pointers: accounts, holdings (account × instrument), instruments,
sessions, the day's deals, and one ``MARKET`` record for what exists once. The book's tables (orders,
levels, bitmaps) are laid out in ``engine.book``.

Buckets of an account and a vintage (R5.6): sellable, bought today, locked by orders, in transfer. Cash:
available (with today's proceeds), locked; withdrawable follows from the two and ``proceeds_today``.
Every lock has one owner (order, declaration, bid) that knows how much it holds and releases it once.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from engine import book
from engine.calendar import trading_date
from engine.codes import Code
from engine.prices import fee_fen, price_limits
from engine.records import BUY
from engine.rules import AMOUNT_MAX_FEN, LEVELS_MAX, QUANTITY_MAX_T, Policy, Rules, in_force

UNLIMITED: Final = (1 << 63) - 1

# Phases of the listed market (R3.2, D2, D15); `halted` is a flag beside them.
PRE_OPEN: Final = 0
MORNING: Final = 1
BREAK: Final = 2
AFTERNOON: Final = 3
CLOSED: Final = 4

# ACCOUNT.status
NOT_OPENED: Final = 0
ACTIVE: Final = 1
ACCOUNT_CANCEL_ONLY: Final = 2  # kill switch, risk
SUSPENDED: Final = 3

# ACCOUNT.self_trade (R8.5)
CANCEL_INCOMING: Final = 0
CANCEL_RESTING: Final = 1
CANCEL_BOTH: Final = 2

# DEAL.method
LISTED: Final = 0
BULK: Final = 1
AUCTION: Final = 2

# DEAL.flags
DEAL_CANCELLED: Final = 1
DEAL_BUYER_TAKES: Final = 2

# INSTRUMENT.policy, .reach
CONTINUOUS: Final = 0
LISTING: Final = 1
BEST_LEVEL: Final = 0
BEST_FIVE_LEVELS: Final = 1

ACCOUNT: Final = np.dtype(
    [
        ("available", "<i8"),  # fen, proceeds of today included
        ("locked", "<i8"),  # fen, owned by open buy orders, declarations, bids
        ("proceeds_today", "<i8"),  # fen received for sales that are not settled yet (R5.5)
        ("fees_today", "<i8"),  # fen paid today
        ("open_orders", "<u4"),
        ("open_orders_max", "<u4"),
        ("status", "u1"),
        ("self_trade", "u1"),
        ("reserved_a", "<u2"),
        ("group", "<u4"),
        ("reserved_b", "<u8", (2,)),
    ]
)

HOLDING: Final = np.dtype(
    [
        ("sellable", "<i8"),
        ("bought_today", "<i8"),  # T+1 (R5.5)
        ("locked", "<i8"),  # by open sell orders, declarations, auctions
        ("in_transfer", "<i8"),  # on its way to the registry (D24)
        ("buy_open", "<i8"),  # quantity of open buys, for the position limit (R14.1)
        ("sold_today", "<i8"),  # for the sell cap (R14.4)
        ("position_max", "<i8"),
        ("sell_max", "<i8"),  # per day: sold today + locked
    ]
)

INSTRUMENT: Final = np.dtype(
    [
        ("reference", "<i8"),
        ("limit_low", "<i8"),
        ("limit_high", "<i8"),
        ("band_base", "<i8"),  # price of level 0
        ("tick", "<i8"),
        ("lot", "<i8"),
        ("quantity_min", "<i8"),
        ("quantity_max", "<i8"),
        ("open", "<i8"),  # 0 until the first deal of the day
        ("high", "<i8"),
        ("low", "<i8"),
        ("last", "<i8"),  # last deal of the day, else the reference
        ("volume", "<i8"),
        ("amount", "<i8"),
        ("deals", "<i8"),
        ("close", "<i8"),  # set by the close of the day
        ("bulk_volume", "<i8"),
        ("bulk_amount", "<i8"),
        ("auction_volume", "<i8"),
        ("auction_amount", "<i8"),
        ("weight", "<i8"),  # in the composite today
        ("bulk_low", "<i8"),
        ("bulk_high", "<i8"),
        ("n_levels", "<u4"),  # of today's band
        ("best_levels", "<u4"),  # 0: no bound
        ("listed", "u1"),
        ("halted", "u1"),
        ("policy", "u1"),
        ("reach", "u1"),
        ("listed_from", "<u4"),  # YYYYMMDD
        ("code", "S16"),
    ]
)

SESSION: Final = np.dtype([("last_request", "<u4"), ("account", "<u4"), ("role", "u1"), ("open", "u1"), ("pad", "<u2"), ("key_no", "<u4")])

DEAL: Final = np.dtype(
    [
        ("time_ns", "<i8"),
        ("price", "<i8"),
        ("quantity", "<i8"),
        ("seq", "<u8"),
        ("buyer_fee", "<i8"),
        ("seller_fee", "<i8"),
        ("buyer", "<u4"),
        ("seller", "<u4"),
        ("number", "<u4"),  # of the day, from 1
        ("instrument", "<u2"),
        ("method", "u1"),
        ("flags", "u1"),
    ]
)

MARKET: Final = np.dtype(
    [
        ("seq", "<u8"),  # last applied
        ("time_ns", "<i8"),  # of the last applied command (D2)
        ("date", "<i8"),  # YYYYMMDD of the open day
        ("morning_open", "<i8"),
        ("morning_end", "<i8"),
        ("afternoon_open", "<i8"),
        ("close", "<i8"),
        ("bulk_open", "<i8"),
        ("bulk_end", "<i8"),
        ("trading_ppm", "<i8"),
        ("settlement_ppm", "<i8"),
        ("trading_fees", "<i8"),  # collected, fen
        ("settlement_fees", "<i8"),
        ("composite_sum", "<i8"),  # Σ weight × price now
        ("composite_weight", "<i8"),  # Σ weight
        ("composite_open", "<i8"),  # 0 until the first listed deal
        ("composite_high", "<i8"),
        ("composite_low", "<i8"),
        ("composite_last", "<i8"),
        ("composite_close", "<i8"),
        ("composite_previous", "<i8"),
        ("deals", "<u8"),  # of the day, all methods
        ("deals_capacity", "<u8"),
        ("orders_used", "<u8"),  # slots ever used: live ones lie below
        ("free_top", "<u8"),  # entries on the free stack
        ("orders_open", "<u8"),
        ("orders_capacity", "<u8"),
        ("n_accounts", "<u8"),
        ("n_instruments", "<u8"),
        ("n_sessions", "<u8"),
        ("halted", "u1"),
        ("cancel_only", "u1"),
        ("day_closed", "u1"),
        ("settled", "u1"),
        ("accounts_on", "u1"),
        ("t_plus_one", "u1"),
        ("self_trade_on", "u1"),
        ("around_the_clock", "u1"),
    ]
)

assert ACCOUNT.itemsize == 64 and HOLDING.itemsize == 64 and DEAL.itemsize == 64 and SESSION.itemsize == 16


class Capacity:
    """How much a market can hold. Memory is touched only where used, so ample numbers cost nothing at start.

    accounts 4,096 (3,902 exist, rulebook 2); orders 2^17 resting at once; sessions 8,192 (two per account);
    instruments 16 vintages; levels 2^13 per side (a ±10 % band of a 400-yuan reference has 8,001).
    """

    def __init__(
        self,
        accounts: int = 4_096,
        instruments: int = 16,
        orders: int = 1 << 17,
        sessions: int = 8_192,
        levels: int = 1 << 13,
        deals: int = 1 << 16,
    ) -> None:
        for name, value, most in (
            ("accounts", accounts, 1 << 24),
            ("instruments", instruments, 255),
            ("orders", orders, 1 << 28),
            ("sessions", sessions, 65_535),
            ("levels", levels, LEVELS_MAX),
            ("deals", deals, 1 << 30),
        ):
            if not 1 <= value <= most:
                raise ValueError(f"capacity.{name}: {value} is not in 1 … {most}")
        self.accounts, self.instruments, self.orders = accounts, instruments, orders
        self.sessions, self.levels, self.deals = sessions, levels, deals


class Market:
    """The tables, and the slow lane's way to change them. The kernel changes the same memory."""

    def __init__(self, rules: Rules, capacity: Capacity | None = None) -> None:
        self.rules = rules.validate()
        self.capacity = capacity or Capacity()
        c = self.capacity
        self.market = np.zeros(1, MARKET)
        self.accounts = np.zeros(c.accounts, ACCOUNT)
        self.holdings = np.zeros((c.accounts, c.instruments), HOLDING)
        self.instruments = np.zeros(c.instruments, INSTRUMENT)
        self.sessions = np.zeros(c.sessions, SESSION)
        self.deals = np.zeros(c.deals, DEAL)
        self.book = book.Tables(instruments=c.instruments, orders=c.orders, levels=c.levels)
        self.codes: dict[str, int] = {}
        head = self.market[0]
        head["orders_capacity"], head["deals_capacity"] = c.orders, c.deals
        head["n_accounts"], head["n_sessions"] = c.accounts, c.sessions
        head["accounts_on"], head["t_plus_one"] = rules.accounts, rules.t_plus_one
        head["self_trade_on"], head["around_the_clock"] = rules.self_trade_prevention, rules.around_the_clock
        self.holdings["position_max"] = UNLIMITED
        self.holdings["sell_max"] = UNLIMITED
