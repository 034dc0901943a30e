"""The one-way auction's states: everything about transitions lives here, and nothing else does (R10).

One table ``(state, event) → (state, actions)``. A pair that is not in it is refused and changes nothing. Actions
are names; engine/auction.py carries them out in the order given. Inside ANNOUNCED the bidding window follows
from the time (as D2): a bid before or after it is refused by the clock, not by the table.

``python -m engine.auction_states`` rewrites the diagram in docs/auction.md.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

from engine.state_diagram import Table, main


class Stage(IntEnum):
    """States of an auction."""

    NEW = 0
    APPLIED = 1  # the exchange owes an answer
    APPROVED = 2  # the seller owes the allowances
    READY = 3  # allowances frozen
    ANNOUNCED = 4  # bids in the window
    DEALT = 5
    UNSOLD = 6  # no bid
    REFUSED = 7
    WITHDRAWN = 8  # by the seller, or because the allowances were not in place in time
    CANCELLED = 9  # by an operator, or overtaken by a halt


class Move(IntEnum):
    """What can happen to an auction."""

    APPLY = 0
    APPROVE = 1
    REFUSE = 2
    FREEZE = 3
    ANNOUNCE = 4
    BID = 5
    RAISE = 6
    CANCEL_BID = 7
    CLOSE_WITH_BIDS = 8
    CLOSE_WITHOUT_BIDS = 9
    WITHDRAW = 10
    LAPSE = 11  # a deadline has passed (R10.4)
    CANCEL = 12


class Do(IntEnum):
    """What the machine does on a transition."""

    LOCK_SELLER = 0
    LOCK_BID = 1
    RELOCK_BID = 2
    RELEASE_BID = 3
    ALLOCATE = 4  # deals out of both sides' locks; every bid's rest is released
    RELEASE_BIDS = 5
    RELEASE_SELLER = 6


AUCTION: Final[Table[Stage, Move, Do]] = {
    (Stage.NEW, Move.APPLY): (Stage.APPLIED, ()),
    (Stage.APPLIED, Move.APPROVE): (Stage.APPROVED, ()),
    (Stage.APPLIED, Move.REFUSE): (Stage.REFUSED, ()),
    (Stage.APPLIED, Move.WITHDRAW): (Stage.WITHDRAWN, ()),
    (Stage.APPLIED, Move.LAPSE): (Stage.WITHDRAWN, ()),
    (Stage.APPLIED, Move.CANCEL): (Stage.CANCELLED, ()),
    (Stage.APPROVED, Move.FREEZE): (Stage.READY, (Do.LOCK_SELLER,)),
    (Stage.APPROVED, Move.WITHDRAW): (Stage.WITHDRAWN, ()),
    (Stage.APPROVED, Move.LAPSE): (Stage.WITHDRAWN, ()),
    (Stage.APPROVED, Move.CANCEL): (Stage.CANCELLED, ()),
    (Stage.READY, Move.ANNOUNCE): (Stage.ANNOUNCED, ()),
    (Stage.READY, Move.WITHDRAW): (Stage.WITHDRAWN, (Do.RELEASE_SELLER,)),
    (Stage.READY, Move.LAPSE): (Stage.WITHDRAWN, (Do.RELEASE_SELLER,)),
    (Stage.READY, Move.CANCEL): (Stage.CANCELLED, (Do.RELEASE_SELLER,)),
    (Stage.ANNOUNCED, Move.BID): (Stage.ANNOUNCED, (Do.LOCK_BID,)),
    (Stage.ANNOUNCED, Move.RAISE): (Stage.ANNOUNCED, (Do.RELOCK_BID,)),
    (Stage.ANNOUNCED, Move.CANCEL_BID): (Stage.ANNOUNCED, (Do.RELEASE_BID,)),
    (Stage.ANNOUNCED, Move.CLOSE_WITH_BIDS): (Stage.DEALT, (Do.ALLOCATE, Do.RELEASE_SELLER)),
    (Stage.ANNOUNCED, Move.CLOSE_WITHOUT_BIDS): (Stage.UNSOLD, (Do.RELEASE_SELLER,)),
    (Stage.ANNOUNCED, Move.CANCEL): (Stage.CANCELLED, (Do.RELEASE_BIDS, Do.RELEASE_SELLER)),
}

# States in which the seller's allowances are frozen.
SELLER_LOCKED: Final = (Stage.READY, Stage.ANNOUNCED)
OPEN: Final = (Stage.APPLIED, Stage.APPROVED, Stage.READY, Stage.ANNOUNCED)

DIAGRAMS: Final[dict[str, Any]] = {"auction": AUCTION}

if __name__ == "__main__":
    main("docs/auction.md", DIAGRAMS)
