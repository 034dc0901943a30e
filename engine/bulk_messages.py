"""Commands and notices of the bulk-agreement desk (R9). See engine/bulk.py for what they do.

Prices in fen per tonne, quantities in tonnes, times in ns UTC. Whoever accepts or confirms names the terms
(price, quantity) that it means: if an amend or a counter-offer came first, the answer is BULK_TERMS_CHANGED
and nothing is bound.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from engine.message_types import WORD_MAX, Account, Amount, InstrumentCode, Message, Quantity, Text

# An address list or a named group: more counterparties than that are "everyone" (3,902 accounts exist).
GROUP_MEMBERS_MAX: Final = 500

Side = Annotated[int, msgspec.Meta(ge=0, le=1)]  # 0 buy, 1 sell: the declaring side
Number = Annotated[int, msgspec.Meta(ge=1, le=0xFFFFFFFF)]
Note = Annotated[str, msgspec.Meta(max_length=200)]  # a sentence or two of other terms (R9.1)

# --- commands of members -------------------------------------------------------------------------------------


class BulkDeclare(Message, tag="bulk_declare"):
    """Declares a wish to buy or sell in bulk. It binds its maker and locks in full (R9.3).

    ``partial`` False: all or none. True: any part of at least the bulk minimum may be dealt, and the rest stays
    open while the minimum remains (D21). Addressed to everyone, or to the accounts in ``to``, or to the accounts
    of the operators' named group ``group``. ``valid_until`` 0 means the end of today's bulk hours.
    """

    side: Side
    instrument: InstrumentCode
    price: Amount
    quantity: Quantity
    partial: bool = False
    to: Annotated[tuple[Account, ...], msgspec.Meta(max_length=GROUP_MEMBERS_MAX)] = ()
    group: Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)] = 0
    note: Note = ""
    valid_until: Annotated[int, msgspec.Meta(ge=0, le=WORD_MAX)] = 0


class BulkAmend(Message, tag="bulk_amend"):
    """New terms of an own declaration. ``quantity`` is the new total, what has dealt is included (as D11)."""

    declaration: Number
    price: Amount
    quantity: Quantity
    note: Note = ""
    valid_until: Annotated[int, msgspec.Meta(ge=0, le=WORD_MAX)] = 0


class BulkWithdraw(Message, tag="bulk_withdraw"):
    """Takes an own declaration back; its dialogues end."""

    declaration: Number


class BulkTake(Message, tag="bulk_take"):
    """Accepts a declaration as it stands (direct acceptance, R9.1); its maker's confirmation makes the deal."""

    declaration: Number
    price: Amount
    quantity: Quantity
    note: Note = ""


class BulkOffer(Message, tag="bulk_offer"):
    """Opens a dialogue with a declaration by a first counter-offer, which binds its maker (R9.3)."""

    declaration: Number
    price: Amount
    quantity: Quantity
    note: Note = ""


class BulkCounter(Message, tag="bulk_counter"):
    """Answers the other side's offer with one's own, which replaces it. Offers alternate."""

    thread: Number
    price: Amount
    quantity: Quantity
    note: Note = ""


class BulkAccept(Message, tag="bulk_accept"):
    """Accepts the other side's offer: the first of the two confirmations (D21)."""

    thread: Number
    price: Amount
    quantity: Quantity


class BulkConfirm(Message, tag="bulk_confirm"):
    """The second confirmation: now it is a deal."""

    thread: Number
    price: Amount
    quantity: Quantity


class BulkRefuse(Message, tag="bulk_refuse"):
    """Refuses what the other side has put on the table, or will not confirm: the dialogue ends."""

    thread: Number
    note: Note = ""


class BulkRetract(Message, tag="bulk_retract"):
    """Takes back one's own offer or acceptance before the deal: the dialogue ends."""

    thread: Number


# --- commands of operators and of the scheduler --------------------------------------------------------------


class BulkFreeze(Message, tag="bulk_freeze"):
    """Freezes (or thaws) one declaration, or the whole desk when ``declaration`` is 0. Ways out stay open (D22)."""

    on: bool
    declaration: Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)] = 0
    by: Text = ""
    why: Text = ""


class BulkCancel(Message, tag="bulk_cancel"):
    """An operator ends a declaration with its dialogues, or one dialogue (exactly one of the two is given)."""

    declaration: Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)] = 0
    thread: Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)] = 0
    by: Text = ""
    why: Text = ""


class BulkExpire(Message, tag="bulk_expire"):
    """The scheduler's mark that a declaration's time has passed; what is stale follows from the time (D2)."""


BULK_COMMANDS: tuple[Any, ...] = (
    BulkDeclare,
    BulkAmend,
    BulkWithdraw,
    BulkTake,
    BulkOffer,
    BulkCounter,
    BulkAccept,
    BulkConfirm,
    BulkRefuse,
    BulkRetract,
    BulkFreeze,
    BulkCancel,
    BulkExpire,
)

# --- notices ---------------------------------------------------------------------------------------------------


class BulkDeclaration(Message, tag="bulk_declaration", gc=False):
    """A declaration as its addressees, its maker and the operators see it: new, changed or ended.

    ``quantity`` is what is still open, ``state`` a name of engine.bulk_states.Declared in lower case.
    """

    declaration: int
    maker: int
    side: int
    instrument: str
    price: int
    quantity: int
    partial: bool
    state: str
    valid_until: int
    note: str = ""


class BulkThread(Message, tag="bulk_thread", gc=False):
    """A step of a dialogue, to its two parties and the operators.

    ``side`` is the declaration's; ``by`` the account that acted (``maker``, ``taker``, or NO_ACCOUNT: the
    exchange); ``state`` a name of engine.bulk_states.Talk in lower case, ``event`` one of its Turn.
    """

    thread: int
    declaration: int
    maker: int
    taker: int
    side: int
    instrument: str
    price: int
    quantity: int
    state: str
    event: str
    by: int
    note: str = ""


class BulkDeal(Message, tag="bulk_deal", gc=False):
    """A deal, to each of its two sides. ``side`` is the receiver's own, ``number`` the deal's of the day.

    ``amount`` = price × quantity, ``fee`` the receiver's fees, all in fen.
    """

    number: int
    declaration: int
    thread: int
    instrument: str
    side: int
    price: int
    quantity: int
    amount: int
    fee: int
    counterparty: int


class BulkDesk(Message, tag="bulk_desk"):
    """The desk as a whole was frozen or thawed by an operator; public."""

    frozen: bool
    why: str = ""


# --- answers to the question "what is open for me?" ----------------------------------------------------------------


class BulkStep(Message, tag="bulk_step"):
    """One step of a dialogue, as it was recorded."""

    seq: int
    time_ns: int
    event: str
    by: int
    price: int
    quantity: int
    note: str


class BulkThreadView(Message, tag="bulk_thread_view"):
    """An open dialogue with all its steps so far."""

    thread: int
    declaration: int
    maker: int
    taker: int
    price: int
    quantity: int
    state: str
    steps: tuple[BulkStep, ...]


class BulkView(Message, tag="bulk_view"):
    """A page of what is open for an account; ``next`` is where the next page begins, 0 at the end."""

    declarations: tuple[BulkDeclaration, ...]
    threads: tuple[BulkThreadView, ...]
    next: int


BULK_NOTICES: tuple[Any, ...] = (BulkDeclaration, BulkThread, BulkDeal, BulkDesk)
