"""The bulk desk's states: everything about transitions lives here, and nothing else does (R9.2, D21).

Two tables ``(state, event) → (state, actions)``: one of a declaration, one of a dialogue (thread) between the
declaration's maker and one counterparty, the taker. A pair that is not in the table is refused and changes
nothing. Actions are names; engine/bulk.py carries them out in the order given.

Who is bound follows from the state: the maker by its declaration always, at a higher price where its own
offer or acceptance in a dialogue says so (BIND_MAKER); the taker while its offer or its acceptance stands
(LOCK_TAKER). A dialogue has one side to move:

    OFFERED_BY_TAKER   the maker answers          ACCEPTED_BY_MAKER  the taker confirms
    OFFERED_BY_MAKER   the taker answers          ACCEPTED_BY_TAKER  the maker confirms
                                                  TAKEN              the maker confirms (direct acceptance)

``python -m engine.bulk_states`` rewrites the diagrams in docs/bulk.md.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

from engine.state_diagram import Table, main


class Declared(IntEnum):
    """States of a declaration."""

    __hash__ = int.__hash__  # quick: Enum\'s own hashes the name

    NEW = 0  # before it exists
    OPEN = 1
    FROZEN = 2  # by an operator: only ways out
    DEALT = 3  # nothing (or less than the minimum) is left
    WITHDRAWN = 4
    EXPIRED = 5
    CANCELLED = 6  # by an operator


class Step(IntEnum):
    """What can happen to a declaration."""

    __hash__ = int.__hash__  # quick: Enum\'s own hashes the name

    DECLARE = 0
    AMEND = 1
    DEAL_PART = 2  # a deal that leaves at least the minimum
    DEAL_REST = 3  # a deal that leaves less
    WITHDRAW = 4
    EXPIRE = 5
    CANCEL = 6
    FREEZE = 7
    THAW = 8


class DeclaredAction(IntEnum):
    """What the desk does on a declaration's transition."""

    LOCK = 0  # the maker, in full
    RELOCK = 1  # the maker, at the new terms or the new rest
    RELEASE = 2  # the maker
    END_TAKEN = 3  # direct acceptances of the old terms
    END_UNFIT = 4  # dialogues whose quantity no longer fits
    END_THREADS = 5  # all dialogues


class Talk(IntEnum):
    """States of a dialogue."""

    __hash__ = int.__hash__  # quick: Enum\'s own hashes the name

    NEW = 0
    OFFERED_BY_TAKER = 1
    OFFERED_BY_MAKER = 2
    TAKEN = 3  # the taker accepted the declaration's own terms
    ACCEPTED_BY_TAKER = 4  # the taker accepted the maker's offer
    ACCEPTED_BY_MAKER = 5  # the maker accepted the taker's offer
    DEALT = 6
    REFUSED = 7
    RETRACTED = 8
    ENDED = 9  # with its declaration, or by the operator
    UNFIT = 10  # amended or dealt away under it


class Turn(IntEnum):
    """What can happen to a dialogue, with the side that does it."""

    __hash__ = int.__hash__  # quick: Enum\'s own hashes the name

    OFFER = 0  # by the taker, who opens the dialogue
    TAKE = 1  # by the taker, the declaration as it stands
    MAKER_COUNTERS = 2
    TAKER_COUNTERS = 3
    MAKER_ACCEPTS = 4
    TAKER_ACCEPTS = 5
    MAKER_CONFIRMS = 6
    TAKER_CONFIRMS = 7
    MAKER_REFUSES = 8
    TAKER_REFUSES = 9
    MAKER_RETRACTS = 10
    TAKER_RETRACTS = 11
    TERMS_CHANGE = 12  # the declaration was amended
    NO_LONGER_FITS = 13  # amended or dealt below the dialogue's quantity
    END = 14  # the declaration ended, or the operator cancels


class TalkAction(IntEnum):
    """What the desk does on a dialogue's transition."""

    LOCK_TAKER = 0  # at the terms on the table, in full
    RELEASE_TAKER = 1
    BIND_MAKER = 2  # to the terms on the table: only a price above the declaration's costs a buyer more
    UNBIND_MAKER = 3
    DEAL = 4  # out of both locks; the declaration takes DEAL_PART or DEAL_REST


_A, _T = DeclaredAction, TalkAction
_WAYS_OUT: Final = {
    Step.WITHDRAW: (Declared.WITHDRAWN, (_A.END_THREADS, _A.RELEASE)),
    Step.EXPIRE: (Declared.EXPIRED, (_A.END_THREADS, _A.RELEASE)),
    Step.CANCEL: (Declared.CANCELLED, (_A.END_THREADS, _A.RELEASE)),
}

DECLARATION: Final[Table[Declared, Step, DeclaredAction]] = {
    (Declared.NEW, Step.DECLARE): (Declared.OPEN, (_A.LOCK,)),
    (Declared.OPEN, Step.AMEND): (Declared.OPEN, (_A.RELOCK, _A.END_TAKEN, _A.END_UNFIT)),
    (Declared.OPEN, Step.DEAL_PART): (Declared.OPEN, (_A.RELOCK, _A.END_UNFIT)),
    (Declared.OPEN, Step.DEAL_REST): (Declared.DEALT, (_A.END_THREADS, _A.RELEASE)),
    (Declared.OPEN, Step.FREEZE): (Declared.FROZEN, ()),
    (Declared.FROZEN, Step.THAW): (Declared.OPEN, ()),
    **{(state, step): to for state in (Declared.OPEN, Declared.FROZEN) for step, to in _WAYS_OUT.items()},
}

# Dialogue states in which it is still going on, with who is bound beyond the declaration: (taker, maker).
BOUND: Final = {
    Talk.OFFERED_BY_TAKER: (True, False),
    Talk.OFFERED_BY_MAKER: (False, True),
    Talk.TAKEN: (True, False),  # at the declaration's own terms
    Talk.ACCEPTED_BY_TAKER: (True, True),
    Talk.ACCEPTED_BY_MAKER: (True, True),
}


def _release(state: Talk) -> tuple[TalkAction, ...]:
    taker, maker = BOUND[state]
    return ((_T.RELEASE_TAKER,) if taker else ()) + ((_T.UNBIND_MAKER,) if maker else ())


def _ends(state: Talk, turn: Turn, to: Talk) -> dict[tuple[Talk, Turn], tuple[Talk, tuple[TalkAction, ...]]]:
    return {(state, turn): (to, _release(state))}


DIALOGUE: Final[Table[Talk, Turn, TalkAction]] = {
    (Talk.NEW, Turn.OFFER): (Talk.OFFERED_BY_TAKER, (_T.LOCK_TAKER,)),
    (Talk.NEW, Turn.TAKE): (Talk.TAKEN, (_T.LOCK_TAKER,)),
    (Talk.OFFERED_BY_TAKER, Turn.MAKER_COUNTERS): (Talk.OFFERED_BY_MAKER, (_T.BIND_MAKER, _T.RELEASE_TAKER)),
    (Talk.OFFERED_BY_TAKER, Turn.MAKER_ACCEPTS): (Talk.ACCEPTED_BY_MAKER, (_T.BIND_MAKER,)),
    (Talk.OFFERED_BY_MAKER, Turn.TAKER_COUNTERS): (Talk.OFFERED_BY_TAKER, (_T.LOCK_TAKER, _T.UNBIND_MAKER)),
    (Talk.OFFERED_BY_MAKER, Turn.TAKER_ACCEPTS): (Talk.ACCEPTED_BY_TAKER, (_T.LOCK_TAKER,)),
    (Talk.TAKEN, Turn.MAKER_CONFIRMS): (Talk.DEALT, (_T.DEAL,)),
    (Talk.ACCEPTED_BY_TAKER, Turn.MAKER_CONFIRMS): (Talk.DEALT, (_T.DEAL, _T.UNBIND_MAKER)),
    (Talk.ACCEPTED_BY_MAKER, Turn.TAKER_CONFIRMS): (Talk.DEALT, (_T.DEAL, _T.UNBIND_MAKER)),
    **_ends(Talk.OFFERED_BY_TAKER, Turn.MAKER_REFUSES, Talk.REFUSED),
    **_ends(Talk.OFFERED_BY_TAKER, Turn.TAKER_RETRACTS, Talk.RETRACTED),
    **_ends(Talk.OFFERED_BY_MAKER, Turn.TAKER_REFUSES, Talk.REFUSED),
    **_ends(Talk.OFFERED_BY_MAKER, Turn.MAKER_RETRACTS, Talk.RETRACTED),
    **_ends(Talk.TAKEN, Turn.MAKER_REFUSES, Talk.REFUSED),
    **_ends(Talk.TAKEN, Turn.TAKER_RETRACTS, Talk.RETRACTED),
    **_ends(Talk.TAKEN, Turn.TERMS_CHANGE, Talk.UNFIT),
    **_ends(Talk.ACCEPTED_BY_TAKER, Turn.MAKER_REFUSES, Talk.REFUSED),
    **_ends(Talk.ACCEPTED_BY_TAKER, Turn.TAKER_RETRACTS, Talk.RETRACTED),
    **_ends(Talk.ACCEPTED_BY_MAKER, Turn.TAKER_REFUSES, Talk.REFUSED),
    **_ends(Talk.ACCEPTED_BY_MAKER, Turn.MAKER_RETRACTS, Talk.RETRACTED),
    **{(state, Turn.TERMS_CHANGE): (state, ()) for state in BOUND if state != Talk.TAKEN},
    **{(state, Turn.NO_LONGER_FITS): (Talk.UNFIT, _release(state)) for state in BOUND},
    **{(state, Turn.END): (Talk.ENDED, _release(state)) for state in BOUND},
}

DIAGRAMS: Final[dict[str, Any]] = {"declaration": DECLARATION, "dialogue": DIALOGUE}

if __name__ == "__main__":
    main("docs/bulk.md", DIAGRAMS)
