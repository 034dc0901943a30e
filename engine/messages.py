"""Slow-lane commands and notices of the market itself: accounts, money, transfers, day, halts, operators.

Each is a msgspec tagged Struct, encoded as a MessagePack map with key ``t`` for the type; in the journal it
is the payload of a COMMAND record of kind ``MESSAGE``, whose envelope (seq, time, session, account,
request_no) is the record. Desk and auction have their own modules; :data:`Command` is the union of all.

Money in fen, quantities in tonnes, dates YYYYMMDD, instruments by code. ``by`` and ``why`` of an operator's
command are for the audit trail: who did it and for what reason (D30).
"""

from __future__ import annotations

from typing import Annotated, Any, Union

import msgspec

from engine.auction_messages import AUCTION_COMMANDS, AUCTION_NOTICES
from engine.bulk_messages import BULK_COMMANDS, BULK_NOTICES
from engine.message_types import (
    WORD_MAX,
    Account,
    Amount,
    Date,
    Document,
    InstrumentCode,
    Limit,
    Message,
    Name,
    Quantity,
    Text,
    Word,
)
from engine.rules import AMOUNT_MAX_FEN

# --- accounts, instruments, keys (operators, D30) --------------------------------------------------------


class OpenAccount(Message, tag="open_account"):
    """Opens a trading account (R2.1). self_trade: 0 cancel incoming, 1 cancel resting, 2 both (R8.5)."""

    account: Account
    name: Name
    self_trade: Annotated[int, msgspec.Meta(ge=0, le=2)] = 0
    open_orders_max: Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)] = 0  # 0: as the rules say
    group: Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)] = 0  # for the desk's named groups
    by: Text = ""
    why: Text = ""


class SetAccountStatus(Message, tag="account_status"):
    """status: 1 active, 2 cancel only, 3 suspended (R14.1). Back to 1 takes two persons."""

    account: Account
    status: Annotated[int, msgspec.Meta(ge=1, le=3)]
    by: Text = ""
    second: Text = ""
    why: Text = ""


class SetLimits(Message, tag="set_limits"):
    """Maximum holding and daily sell cap of an account in a vintage (R14.1, R14.4); -1 means none."""

    account: Account
    instrument: InstrumentCode
    position_max: Limit = -1
    sell_max: Limit = -1
    by: Text = ""
    why: Text = ""


class OpenSession(Message, tag="open_session"):
    """Gives a session number to a key: the key's name and fingerprint, never its secret.

    account: NO_ACCOUNT for a drop copy and an operator's key; the latter takes two persons.
    """

    session: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    account: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]
    role: Name
    key: Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
    name: Text = ""
    valid_from: Word = 0
    valid_to: Word = 0
    by: Text = ""
    second: Text = ""
    why: Text = ""


class RevokeSession(Message, tag="revoke_session"):
    """Takes a key out; its open orders stay unless mass-cancelled."""

    session: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    by: Text = ""
    why: Text = ""


class ListInstrument(Message, tag="list_instrument"):
    """Lists a vintage (R1.3). reference None: the composite's previous close (R6.5)."""

    code: InstrumentCode
    reference: Amount | None = None
    by: Text = ""
    why: Text = ""


class RetireInstrument(Message, tag="retire_instrument"):
    """Takes a vintage off the market; only without open orders."""

    code: InstrumentCode
    by: Text = ""
    why: Text = ""


# --- money and allowances (D23, D24) ----------------------------------------------------------------------


class Deposit(Message, tag="deposit"):
    """Cash from the settlement bank into the trading account; ``document`` makes a repeat do nothing."""

    account: Account
    amount: Amount
    document: Document


class Withdraw(Message, tag="withdraw"):
    """Cash back to the bank, only from what is withdrawable (R5.5)."""

    account: Account
    amount: Amount
    document: Document


class TransferIn(Message, tag="transfer_in"):
    """Allowances from the registry into the trading account (转入), posted there already (D24, R13.2)."""

    account: Account
    instrument: InstrumentCode
    quantity: Quantity
    transfer: Document


class TransferOut(Message, tag="transfer_out"):
    """Locks allowances for the way back to the registry (转出); TransferOutDone ends it (D24)."""

    account: Account
    instrument: InstrumentCode
    quantity: Quantity
    transfer: Document


class TransferOutDone(Message, tag="transfer_out_done"):
    """The registry has posted (or refused) the transfer out."""

    transfer: Document
    posted: bool


# --- the day (D27) -----------------------------------------------------------------------------------------


class RollDay(Message, tag="roll_day"):
    """Opens trading date ``date``: T+1 buckets open, references move, counters restart, hours and limits of the date.

    ``references`` sets previous closes by code (a first day, or a correction); ``composite`` the composite's.
    """

    date: Date
    references: dict[str, Amount] = {}
    composite: Annotated[int, msgspec.Meta(ge=0, le=AMOUNT_MAX_FEN)] = 0
    by: Text = ""


class CloseDay(Message, tag="close_day"):
    """Lapses what is open, computes closes and composite close (R5.3, R6.4, R7.4). Only from 15:00 on."""


class CorrectBulletin(Message, tag="correct_bulletin"):
    """The closed day's result once more, as its deals now stand: the next version of its bulletin (D29).

    After a deal was cancelled behind the close (D28). Only until the next day is rolled; ``why`` goes to everybody.
    """

    why: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]
    by: Text = ""


class SettleDay(Message, tag="settle_day"):
    """The registry has delivered the day: proceeds become withdrawable. ``digest`` is the clearing's hash."""

    date: Date
    digest: Annotated[str, msgspec.Meta(max_length=128)] = ""
    by: Text = ""


class SendStatement(Message, tag="send_statement"):
    """The registry tells a trader its statement of the day (R12.4); changes nothing. See :class:`Statement`."""

    account: Account
    date: Date
    digest: Annotated[str, msgspec.Meta(min_length=64, max_length=64)]
    lines: Annotated[int, msgspec.Meta(ge=0, le=WORD_MAX)]
    closing: Annotated[dict[Name, Word], msgspec.Meta(max_length=64)]


class PhaseMark(Message, tag="phase_mark"):
    """The scheduler's mark that a boundary has passed; the phase itself follows from the time (D2)."""


class Halt(Message, tag="halt"):
    """Halts the market, or one instrument (R14.2)."""

    instrument: InstrumentCode | None = None
    by: Text = ""
    why: Text = ""


class Resume(Message, tag="resume"):
    """Ends a halt."""

    instrument: InstrumentCode | None = None
    by: Text = ""
    why: Text = ""


class CancelOnly(Message, tag="cancel_only"):
    """Cancel-only mode of the whole exchange (disk nearly full, operator)."""

    on: bool
    by: Text = ""
    why: Text = ""


class CancelOrders(Message, tag="cancel_orders"):
    """Cancels open listed orders: of a session (disconnect, D8), of an account, or of an instrument.

    ``reason`` is a :class:`engine.codes.Reason` number (DISCONNECT, KILL_SWITCH, BY_OPERATOR).
    """

    account: Account | None = None
    session: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    instrument: InstrumentCode | None = None
    reason: Annotated[int, msgspec.Meta(ge=8, le=10)] = 10
    by: Text = ""
    why: Text = ""


class CancelDeal(Message, tag="cancel_deal"):
    """Trade cancellation by two persons, before clearing, when both sides can give back (D28)."""

    number: Annotated[int, msgspec.Meta(ge=1, le=0xFFFFFFFF)]
    by: Name
    second: Name
    why: Text = ""


class PublishNotice(Message, tag="publish_notice"):
    """A notice of the exchange to all members. ``why`` is for the journal, members see the text."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=4_000)]
    by: Text = ""
    why: Text = ""


# --- notices (payloads of NOTICE events) -----------------------------------------------------------------


class Done(Message, tag="done"):
    """A slow-lane command took effect. ``command`` is its tag; ``data`` what its sender wants back."""

    command: str
    data: dict[str, Any] = {}


class Refused(Message, tag="refused"):
    """A slow-lane command was refused and changed nothing."""

    command: str
    code: int
    field: str = ""
    text: str = ""


class CashMoved(Message, tag="cash_moved"):
    """Deposit or withdrawal booked: amount is positive in, negative out."""

    amount: int
    available: int
    document: str


class AllowancesMoved(Message, tag="allowances_moved"):
    """Transfer in, out requested, out done or undone; quantity as booked in ``sellable``."""

    instrument: str
    quantity: int
    sellable: int
    transfer: str
    state: str  # in, out_requested, out_done, out_refused


class Statement(Message, tag="statement"):
    """To a trader, after the delivery of ``date``: its statement at the registry has ``lines`` movements and ends with
    ``closing`` (code or CNY -> tonnes or fen in trading). ``digest``: BLAKE2b-256 of the statement's file, in hex.

    An objection must come before the next open; silence is acceptance (R12.4)."""

    date: int
    digest: str
    lines: int
    closing: dict[str, int]


class MarketNotice(Message, tag="market_notice"):
    """To everybody: phase, halt, resume, cancel-only, listing, a text of the exchange."""

    what: str
    instrument: str = ""
    text: str = ""
    data: dict[str, Any] = {}


class VintageClose(msgspec.Struct, frozen=True):
    """One vintage's day. Prices in fen, 0 where there was no deal (high, low)."""

    code: str
    open: int
    high: int
    low: int
    close: int
    previous: int
    change_bp: int
    volume: int
    amount: int
    deals: int
    bulk_volume: int
    bulk_amount: int
    auction_volume: int
    auction_amount: int
    limit_low: int
    limit_high: int


class DayClosed(Message, tag="day_closed"):
    """The day's result, to everybody (R11.1)."""

    date: int
    composite_open: int
    composite_high: int
    composite_low: int
    composite_close: int
    composite_previous: int
    composite_change_bp: int
    vintages: tuple[VintageClose, ...]
    lapsed_orders: int


class DealCancelled(Message, tag="deal_cancelled"):
    """A deal was taken back (D28)."""

    number: int
    instrument: str
    price: int
    quantity: int
    why: str


MARKET_COMMANDS: tuple[type[Message], ...] = (
    OpenAccount,
    SetAccountStatus,
    SetLimits,
    OpenSession,
    RevokeSession,
    ListInstrument,
    RetireInstrument,
    Deposit,
    Withdraw,
    TransferIn,
    TransferOut,
    TransferOutDone,
    RollDay,
    CloseDay,
    CorrectBulletin,
    SettleDay,
    SendStatement,
    PhaseMark,
    Halt,
    Resume,
    CancelOnly,
    CancelOrders,
    CancelDeal,
    PublishNotice,
)

MARKET_NOTICES: tuple[type[Message], ...] = (
    Done,
    Refused,
    CashMoved,
    AllowancesMoved,
    Statement,
    MarketNotice,
    DayClosed,
    DealCancelled,
)

NOTICES = MARKET_NOTICES + BULK_NOTICES + AUCTION_NOTICES
COMMANDS = MARKET_COMMANDS + BULK_COMMANDS + AUCTION_COMMANDS

_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Union[COMMANDS])  # type: ignore[valid-type]
_notices: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Union[NOTICES])  # type: ignore[valid-type]


def encode(message: msgspec.Struct) -> bytes:
    """MessagePack bytes of a command or notice; equal messages give equal bytes."""
    return _encoder.encode(message)


def decode(payload: bytes | memoryview) -> Any:
    """A command from its payload. ValidationError names path and reason, DecodeError says that it is no MessagePack."""
    return _decoder.decode(payload)


def decode_notice(payload: bytes | memoryview) -> Any:
    """A notice from its payload; errors as of :func:`decode`."""
    return _notices.decode(payload)
