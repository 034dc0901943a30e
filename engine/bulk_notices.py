"""What a party of the bulk desk sees: the notices of its declarations, dialogues and deals, and the desk's view.

Who is told what is decided here and nowhere else. A notice to NO_ACCOUNT is the operators', the members' too where it
is public.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from engine.bulk_checks import group_members
from engine.bulk_messages import BulkDeal, BulkDeclaration, BulkStep, BulkThread, BulkThreadView
from engine.bulk_records import Declaration, Thread
from engine.bulk_states import Declared, Talk, Turn
from engine.lane import Notice
from engine.market import Market
from engine.records import NO_ACCOUNT, SELL

# Names as notices show them.
DECLARED_WORD: Final = {state: state.name.lower() for state in Declared}
TALK_WORD: Final = {state: state.name.lower() for state in Talk}
TURN_WORD: Final = {turn: turn.name.lower() for turn in Turn}


def of_declaration(market: Market, found: Declaration) -> Iterable[Notice]:
    """To the maker, to whom it is addressed, to the operators."""
    message = declaration_message(market, found)
    yield Notice(message, NO_ACCOUNT, 0, 0, found.public, found.instrument)
    if found.public:
        return
    others = found.to or tuple(a for a in group_members(market, found.group) if a != found.maker)
    for account in (found.maker, *others):
        yield Notice(message, account=account, instrument=found.instrument)


def declaration_message(market: Market, found: Declaration) -> BulkDeclaration:
    """A declaration as it stands. Never with the maker's locks."""
    return BulkDeclaration(
        declaration=found.number,
        maker=found.maker,
        side=found.side,
        instrument=market.code_of(found.instrument),
        price=found.price,
        quantity=found.quantity,
        partial=found.partial,
        state=DECLARED_WORD[found.state],
        valid_until=found.valid_until,
        note=found.note,
    )


def of_turn(market: Market, found: Declaration, thread: Thread, turn: Turn, by: int, note: str) -> Iterable[Notice]:
    """A turn of a dialogue, to its two parties and to the operators, and to nobody else."""
    message = BulkThread(
        thread=thread.number,
        declaration=found.number,
        maker=found.maker,
        taker=thread.taker,
        side=found.side,
        instrument=market.code_of(found.instrument),
        price=thread.price,
        quantity=thread.quantity,
        state=TALK_WORD[thread.state],
        event=TURN_WORD[turn],
        by=by,
        note=note,
    )
    for account in (found.maker, thread.taker, NO_ACCOUNT):
        yield Notice(message, account, 0, 0, False, found.instrument)


def of_deal(market: Market, found: Declaration, thread: Thread, number: int, fees: tuple[int, int]) -> Iterable[Notice]:
    """The deal with this number, to each of its sides with its own fee. fees: the maker's and the taker's, fen."""
    for account, other, side, fee in (
        (found.maker, thread.taker, found.side, fees[0]),
        (thread.taker, found.maker, SELL - found.side, fees[1]),
    ):
        message = BulkDeal(
            number=number,
            declaration=found.number,
            thread=thread.number,
            instrument=market.code_of(found.instrument),
            side=side,
            price=thread.price,
            quantity=thread.quantity,
            amount=thread.price * thread.quantity,
            fee=fee,
            counterparty=other,
        )
        yield Notice(message, account=account, instrument=found.instrument)


def thread_view(found: Declaration, thread: Thread) -> BulkThreadView:
    """A dialogue with all its steps, for its parties and the operators."""
    steps = tuple(
        BulkStep(
            seq=seq, time_ns=time_ns, event=TURN_WORD[Turn(turn)], by=by, price=price, quantity=quantity, note=note
        )
        for seq, time_ns, turn, by, price, quantity, note in thread.steps
    )
    return BulkThreadView(
        thread=thread.number,
        declaration=thread.declaration,
        maker=found.maker,
        taker=thread.taker,
        price=thread.price,
        quantity=thread.quantity,
        state=TALK_WORD[thread.state],
        steps=steps,
    )
