"""Commands and notices of the one-way auction (R10). See engine/auction.py for what they do.

Prices in fen per tonne, quantities in tonnes, times in ns UTC, dates YYYYMMDD.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from engine.message_types import WORD_MAX, Account, Amount, Date, InstrumentCode, Message, Quantity, Text

Number = Annotated[int, msgspec.Meta(ge=1, le=0xFFFFFFFF)]
Time = Annotated[int, msgspec.Meta(ge=1, le=WORD_MAX)]
Mode = Literal["uniform", "pay_as_bid"]
Reserve = Literal["previous_close", "minus_10"]

# --- commands of the seller ------------------------------------------------------------------------------------


class AuctionApply(Message, tag="auction_apply"):
    """Applies for an auction on ``date`` (R10.4): mode (R10.2) and reserve (R10.3) are the seller's choice.

    An operator applies for an authority (government paid allocation) by naming the ``seller``, and may waive the
    notice periods with a reason; a seller can do neither.
    """

    instrument: InstrumentCode
    quantity: Quantity
    date: Date
    mode: Mode = "uniform"
    reserve: Reserve = "previous_close"
    seller: Account | None = None
    waive: bool = False
    by: Text = ""
    why: Text = ""


class AuctionFreeze(Message, tag="auction_freeze"):
    """The seller's allowances are in place: they are frozen for the auction (R10.4)."""

    auction: Number


class AuctionWithdraw(Message, tag="auction_withdraw"):
    """The seller withdraws before the auction is announced."""

    auction: Number


# --- commands of bidders ---------------------------------------------------------------------------------------


class AuctionBid(Message, tag="auction_bid"):
    """A sealed bid in the window; cash is locked in full."""

    auction: Number
    price: Amount
    quantity: Quantity


class AuctionRaise(Message, tag="auction_raise"):
    """Raises an own bid: neither price nor quantity may fall, one must rise. Its time is that of the raise."""

    auction: Number
    bid: Number
    price: Amount
    quantity: Quantity


class AuctionCancelBid(Message, tag="auction_cancel_bid"):
    """Takes an own bid back in the window, where the announcement allows it."""

    auction: Number
    bid: Number


# --- commands of operators and of the scheduler ----------------------------------------------------------------


class AuctionAnswer(Message, tag="auction_answer"):
    """The exchange's answer to an application, due within 3 working days (R10.4)."""

    auction: Number
    approve: bool
    by: Text = ""
    why: Text = ""


class AuctionAnnounce(Message, tag="auction_announce"):
    """Announces the bidding window (R3.2) and what bidders may do in it; public."""

    auction: Number
    opens: Time
    closes: Time
    bid_min: Quantity = 1
    raise_allowed: bool = True
    cancel_allowed: bool = False
    by: Text = ""
    why: Text = ""


class AuctionCancel(Message, tag="auction_cancel"):
    """An operator ends an auction without deals; everything is released."""

    auction: Number
    by: Text = ""
    why: Text = ""


class AuctionTick(Message, tag="auction_tick"):
    """The scheduler's mark that a window has closed or a deadline has passed; what is due follows from the time."""


AUCTION_COMMANDS: tuple[Any, ...] = (
    AuctionApply,
    AuctionFreeze,
    AuctionWithdraw,
    AuctionBid,
    AuctionRaise,
    AuctionCancelBid,
    AuctionAnswer,
    AuctionAnnounce,
    AuctionCancel,
    AuctionTick,
)

# --- notices -----------------------------------------------------------------------------------------------------


class AuctionState(Message, tag="auction_state"):
    """Where an auction stands, to its seller and the operators. ``late``: the exchange's answer came late."""

    auction: int
    seller: int
    instrument: str
    quantity: int
    date: int
    mode: str
    reserve: str
    state: str
    answer_by: int
    freeze_by: int
    late: bool = False
    why: str = ""


class AuctionAnnounced(Message, tag="auction_announced"):
    """The public announcement. Reserve and cap in fen follow on the day from the previous close (R10.3)."""

    auction: int
    seller: int
    instrument: str
    quantity: int
    date: int
    mode: str
    reserve: str
    opens: int
    closes: int
    bid_min: int
    raise_allowed: bool
    cancel_allowed: bool


class AuctionBidState(Message, tag="auction_bid_state"):
    """A bid was placed, raised, cancelled, or released with its auction: to its bidder and the operators only."""

    auction: int
    bid: int
    account: int
    price: int
    quantity: int
    state: str  # placed, raised, cancelled, released; open in a view


class AuctionBidResult(Message, tag="auction_bid_result", gc=False):
    """What a bid got, to its bidder: ``filled`` 0 for a loser. ``number`` is the deal's of the day, 0 without."""

    auction: int
    bid: int
    price_bid: int
    quantity_bid: int
    filled: int
    price: int
    amount: int
    fee: int
    number: int


class AuctionSold(Message, tag="auction_sold"):
    """The seller's result: deals ``first`` … ``last`` of the day, totals in t and fen."""

    auction: int
    sold: int
    amount: int
    fee: int
    first: int
    last: int


class AuctionResult(Message, tag="auction_result"):
    """The public result: totals, and the lowest price that was dealt. No bid, no bidder."""

    auction: int
    instrument: str
    offered: int
    sold: int
    amount: int
    price_low: int
    deals: int
    state: str
    why: str = ""


# --- answers to the question "what is open for me?" -------------------------------------------------------------------


class AuctionView(Message, tag="auction_view"):
    """What an account may know of the auctions that are not over: own applications, announced windows, own bids.

    For operators: all applications and windows, and the bids of one auction a page at a time. ``next`` is the bid
    with which the next page begins, 0 at the end.
    """

    auctions: tuple[AuctionState, ...]
    announced: tuple[AuctionAnnounced, ...]
    bids: tuple[AuctionBidState, ...]
    next: int


AUCTION_NOTICES: tuple[Any, ...] = (
    AuctionState,
    AuctionAnnounced,
    AuctionBidState,
    AuctionBidResult,
    AuctionSold,
    AuctionResult,
)
