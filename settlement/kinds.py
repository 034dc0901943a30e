"""The acts of the registry, the buckets of an account, the states of a transfer: numbers kept for ever."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

CNY: Final = "CNY"  # money is an asset like the vintages, counted in fen
CCER: Final = "CCER"  # offset credits, counted in tonnes (R13.5)
SYSTEM: Final = -1  # owner of the accounts that belong to no trader

# Buckets of a trader's account, per asset (R13.3)
REGISTRY: Final = "registry"  # available in the registry
TRADING: Final = "trading"  # moved to the trading account (R13.2)
JUDICIAL: Final = "judicial"  # frozen by a court (R13.7)
PLEDGED: Final = "pledged"  # frozen for a third party
SURRENDERED: Final = "surrendered"  # final
CANCELLED: Final = "cancelled"  # final (R13.6)
CARRIED: Final = "carried"  # final: exchanged for a later vintage (R13.8)
DEDUCTED: Final = "deducted"  # final: taken by judicial or administrative deduction
CASH: Final = "cash"  # the trader's ledger in the special settlement account (R12.4)

FINAL_BUCKETS: Final = frozenset({SURRENDERED, CANCELLED, CARRIED, DEDUCTED})

# Buckets of SYSTEM
ISSUER: Final = "issuer"  # where allowances come from; its balance is minus what was ever issued
BANK: Final = "bank"  # where money comes from and goes to
FEES: Final = "fees"  # as collected with the deals; split into the next two at the day's end (R5.7)
TRADING_FEES: Final = "fees_trading"  # the exchange's
SETTLEMENT_FEES: Final = "fees_settle"  # the registry institution's
RESERVE: Final = "reserve"  # settlement risk reserve (R12.5)
OWED: Final = "owed"  # what a trader owes the reserve (R12.5): a memorandum, not money
CLAIMS: Final = "claims"  # SYSTEM's other side of OWED

UNBOUNDED_BUCKETS: Final = frozenset({ISSUER, BANK, CLAIMS})


class ActKind(IntEnum):
    """What an act is; stored in acts and transfers."""

    DEAL = 1
    OPEN_ACCOUNT = 2
    ISSUE = 3
    TRANSFER_IN = 4  # registry -> trading account (转入)
    TRANSFER_OUT = 5  # trading account -> registry (转出)
    FREEZE = 6
    UNFREEZE = 7
    PLEDGE = 8
    RELEASE = 9
    DEDUCT = 10
    SURRENDER = 11
    OFFSET = 12
    CANCEL = 13
    FORCED_CANCEL = 14
    FORCED_SURRENDER = 15
    CARRY_OVER = 16
    DEPOSIT = 17
    WITHDRAW = 18
    FUND_RESERVE = 19
    COVER = 20  # the reserve pays for a trader in default (R12.5)
    REPAY = 21  # the trader pays the reserve back
    OBLIGATION = 22
    CUT = 23
    CLOSE_ACCOUNT = 24
    REQUEST = 25  # a quantity is tied up until the request is decided
    DECIDE = 26
    REVERSAL = 27  # D28
    OPERATOR = 28  # an operator's decision on a day or a deal; moves nothing
    PAY_FEES = 29
    OBJECTION = 30  # of a trader to its statement (R12.4); moves nothing
    ANSWER = 31  # the decision on an objection; moves nothing
    SPLIT_FEES = 32  # a day's collected fees into the exchange's and the registry's part (R5.7)


class TransferState(IntEnum):
    """How a transfer counts: at once, as a reservation, or as the end of a reservation."""

    POSTED = 0
    PENDING = 1
    POST_PENDING = 2
    VOID_PENDING = 3
