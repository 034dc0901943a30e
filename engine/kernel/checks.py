"""What several kinds of commands have to pass: market, account, price, size, allowances. 0, or the reject's code."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Final

import numpy as np

from engine.kernel.answers import (
    C_ACCOUNT_CANCEL_ONLY,
    C_ACCOUNT_SUSPENDED,
    C_AMOUNT_TOO_LARGE,
    C_BAD_LOT,
    C_BAD_TICK,
    C_BOUGHT_TODAY,
    C_CANCEL_ONLY,
    C_INSTRUMENT_HALTED,
    C_INSUFFICIENT_ALLOWANCES,
    C_MARKET_BREAK,
    C_MARKET_CLOSED,
    C_MARKET_HALTED,
    C_PRICE_ABOVE_LIMIT,
    C_PRICE_BELOW_LIMIT,
    C_QUANTITY_TOO_LARGE,
    C_QUANTITY_TOO_SMALL,
    C_UNKNOWN_ACCOUNT,
)
from engine.machine_code import part
from engine.market import ACCOUNT_CANCEL_ONLY, BREAK, CLOSED, MORNING, NOT_OPENED, PRE_OPEN, SUSPENDED
from engine.market import AFTERNOON as PHASE_AFTERNOON
from engine.rules import AMOUNT_MAX_FEN

SMALL_PRICE: Final = 1 << 31
SMALL_QUANTITY: Final = 1 << 30  # a price and a quantity below these can't exceed AMOUNT_MAX_FEN


@part
def _phase(m, time_ns):
    if m.around_the_clock:
        return MORNING
    if m.day_closed or time_ns >= m.close:
        return CLOSED
    if time_ns < m.morning_open:
        return PRE_OPEN
    if time_ns < m.morning_end:
        return MORNING
    if time_ns < m.afternoon_open:
        return BREAK
    return PHASE_AFTERNOON


@part
def check_market(m, i, time_ns):
    """May orders be entered now? (lines 5 and 6 of the table)"""
    phase = _phase(m, time_ns)
    if phase != MORNING and phase != PHASE_AFTERNOON:
        return C_MARKET_BREAK if phase == BREAK else C_MARKET_CLOSED
    if m.halted | i.halted | m.cancel_only:
        if m.halted:
            return C_MARKET_HALTED
        return C_INSTRUMENT_HALTED if i.halted else C_CANCEL_ONLY
    return 0


@part
def check_account(t, m, account):
    """May the account bind itself (line 7)? Returns a code, 0: it may; so do all checks here."""
    if m.accounts_on:
        status = t.accounts[np.uint64(account)].status
        if status >= ACCOUNT_CANCEL_ONLY:
            return C_ACCOUNT_SUSPENDED if status == SUSPENDED else C_ACCOUNT_CANCEL_ONLY
    return 0


@part
def check_price(i, price):
    """Tick and price limits of the day (R6.1, R6.2)."""
    if price > 0 and i.tick != 1 and price % i.tick != 0:
        return C_BAD_TICK
    if price > i.limit_high:
        return C_PRICE_ABOVE_LIMIT
    if price < i.limit_low:
        return C_PRICE_BELOW_LIMIT
    return 0


@part
def check_size(i, price, quantity):
    """Size and lot (R4.1), and an amount in fen that can be counted."""
    if quantity < i.quantity_min:
        return C_QUANTITY_TOO_SMALL
    if quantity > i.quantity_max:
        return C_QUANTITY_TOO_LARGE
    if i.lot != 1 and quantity % i.lot != 0:
        return C_BAD_LOT
    if (price >= SMALL_PRICE or quantity >= SMALL_QUANTITY) and quantity > AMOUNT_MAX_FEN // price:
        return C_AMOUNT_TOO_LARGE
    return 0


@part
def check_allowances(h, extra):
    """Does the holding have ``extra`` tonnes that can be sold today (R5.1, R5.5)?"""
    if extra > h.sellable:
        return C_BOUGHT_TODAY if extra <= h.sellable + h.bought_today else C_INSUFFICIENT_ALLOWANCES
    return 0


@part
def check_account_exists(t, m, account):
    """Is the account open? Every account is, where accounts are off."""
    if m.accounts_on and (
        np.uint64(account) >= np.uint64(t.control[np.uint64(0)].n_accounts)
        or t.accounts[np.uint64(account)].status == NOT_OPENED
    ):
        return C_UNKNOWN_ACCOUNT
    return 0
