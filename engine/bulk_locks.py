"""Locks of the desk: each belongs to one declaration or one taker, and is given back exactly once (R9.3, D21).

A buyer's lock covers price × quantity with fees. Where the quantity may go in several deals, each rounds its
two fees by itself, so the lock adds the most that rounding can cost: n deals round by at most n − 1 fen more
per fee than one deal of their sum.
"""

from __future__ import annotations

from engine.bulk_records import Hold
from engine.codes import Code
from engine.market import Market
from engine.records import BUY
from engine.rules import AMOUNT_MAX_FEN

FEES_PER_SIDE = 2  # trading and settlement fee, each rounded by itself


def rounding_slack(market: Market, deals: int) -> int:
    """Fen that ``deals`` separate roundings of both fees can cost beyond one; 0 without fees or accounts."""
    if deals == 1:
        return 0
    m = market.market[0]
    on = m["accounts_on"] and (m["trading_ppm"] or m["settlement_ppm"])
    return FEES_PER_SIDE * (deals - 1) if on else 0


def take(market: Market, hold: Hold, account: int, instrument: int, side: int, terms: tuple[int, int, int]) -> Code:
    """Locks (price, quantity, deals at most) into an empty hold; nothing changes unless the code is OK."""
    assert hold.quantity == 0 and hold.cash == 0, "a hold is filled once"
    price, quantity, deals = terms
    if side != BUY:
        code = market.lock_sell(account, instrument, quantity)
        hold.quantity = quantity if code == Code.OK else 0
        return code
    code, cash = market.lock_buy(account, instrument, quantity, price)
    if code != Code.OK:
        return code
    slack = rounding_slack(market, deals)
    if slack:
        code = market.lock_cash(account, slack)
        if code != Code.OK:
            market.release_buy(account, instrument, quantity, cash)
            return code
    hold.quantity, hold.cash = quantity, cash + slack
    return Code.OK


def give_back(market: Market, hold: Hold, account: int, instrument: int, side: int) -> None:
    """Releases whatever the hold still has."""
    if side == BUY:
        market.release_buy(account, instrument, hold.quantity, hold.cash)
    else:
        market.release_sell(account, instrument, hold.quantity)
    hold.quantity = hold.cash = 0


def change(market: Market, hold: Hold, account: int, instrument: int, side: int, terms: tuple[int, int, int]) -> Code:
    """Moves a hold to other terms in one step: either it holds the new ones in full or nothing has changed.

    Holding less never fails, also where a limit was lowered since the lock was made.
    """
    price, quantity, deals = terms
    more = quantity - hold.quantity
    if side != BUY:
        if more == 0:
            return Code.OK
        if more < 0:
            market.release_sell(account, instrument, -more)
        else:
            code = market.lock_sell(account, instrument, more)
            if code != Code.OK:
                return code
        hold.quantity = quantity
        return Code.OK
    if more > 0:
        return _grow_buy(market, hold, account, instrument, terms)
    if price * quantity > AMOUNT_MAX_FEN:
        return Code.AMOUNT_TOO_LARGE
    need = _cash_needed(market, price * quantity, deals)
    if need > hold.cash:
        code = market.lock_cash(account, need - hold.cash)
        if code != Code.OK:
            return code
        hold.cash = need
    market.release_buy(account, instrument, -more, hold.cash - need)
    hold.quantity, hold.cash = quantity, need
    return Code.OK


def _cash_needed(market: Market, amount: int, deals: int) -> int:
    on = market.market[0]["accounts_on"]
    return amount + sum(market.fees(amount)) + rounding_slack(market, deals) if on else 0


def _grow_buy(market: Market, hold: Hold, account: int, instrument: int, terms: tuple[int, int, int]) -> Code:
    """A buyer binds itself to more tonnes: released and locked anew, or put back exactly as it was."""
    row, holding = market.accounts[account].copy(), market.holdings[account, instrument].copy()
    quantity, cash = hold.quantity, hold.cash
    give_back(market, hold, account, instrument, BUY)
    code = take(market, hold, account, instrument, BUY, terms)
    if code != Code.OK:
        market.accounts[account], market.holdings[account, instrument] = row, holding
        hold.quantity, hold.cash = quantity, cash
    return code


def spend(market: Market, hold: Hold, side: int, price: int, quantity: int) -> int:
    """Takes a deal's part out of a hold, as Market.settle_deal takes it out of the account. Returns the side's fee."""
    amount = price * quantity
    fee = sum(market.fees(amount))
    hold.quantity -= quantity
    if side != BUY:
        return min(fee, amount)
    if market.market[0]["accounts_on"]:
        hold.cash -= amount + fee
    assert hold.quantity >= 0 and hold.cash >= 0, "a deal takes more than its lock holds"
    return fee
