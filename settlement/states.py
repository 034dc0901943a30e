"""The settlement of a day and of a deal as tables (R12, D26). Everything about transitions lives here; this
file does no I/O and does not know which database or exchange is on the other side.

A day: deals come in (OPEN), are cleared (CLEARED), both institutions confirm (CONFIRMED), delivery runs
(SETTLING) and ends SETTLED or, with a pair that could not post, HELD. Balances are compared: RECONCILED, or
DIFFERENT until an operator decides (RELEASED). Only from RECONCILED or RELEASED may the day roll (D27).

A deal that could not post is HELD; it is settled later, or covered by the reserve and then settled, or
reversed (D28). All other deals go on.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class DayState(StrEnum):
    OPEN = "open"
    CLEARED = "cleared"
    CONFIRMED = "confirmed"
    DISPUTED = "disputed"
    SETTLING = "settling"
    SETTLED = "settled"
    HELD = "held"
    RECONCILED = "reconciled"
    DIFFERENT = "different"
    RELEASED = "released"
    ROLLED = "rolled"


class DayEvent(StrEnum):
    CLEAR = "clear"  # all deals are in and summed
    AGREE = "agree"  # counts, sums and hashes of both sides are equal (R12.3)
    DISAGREE = "disagree"
    START = "start"  # delivery begins or goes on
    FINISH = "finish"  # every deal is settled
    HOLD = "hold"  # every deal was tried, some are held (D26)
    RESOLVE = "resolve"  # the last held deal was resolved
    MATCH = "match"  # registry and exchange agree to the tonne and fen
    DIFFER = "differ"
    RELEASE = "release"  # an operator decides to open in spite of it
    ROLL = "roll"  # the exchange's day has rolled


_D, _E = DayState, DayEvent
DAY: Final[dict[tuple[DayState, DayEvent], DayState]] = {
    (_D.OPEN, _E.CLEAR): _D.CLEARED,
    (_D.CLEARED, _E.CLEAR): _D.CLEARED,
    (_D.CLEARED, _E.AGREE): _D.CONFIRMED,
    (_D.CLEARED, _E.DISAGREE): _D.DISPUTED,
    (_D.DISPUTED, _E.AGREE): _D.CONFIRMED,
    (_D.DISPUTED, _E.DISAGREE): _D.DISPUTED,
    (_D.CONFIRMED, _E.START): _D.SETTLING,
    (_D.SETTLING, _E.START): _D.SETTLING,
    (_D.SETTLING, _E.FINISH): _D.SETTLED,
    (_D.SETTLING, _E.HOLD): _D.HELD,
    (_D.HELD, _E.HOLD): _D.HELD,
    (_D.HELD, _E.RESOLVE): _D.SETTLED,
    (_D.HELD, _E.RELEASE): _D.RELEASED,
    (_D.SETTLED, _E.MATCH): _D.RECONCILED,
    (_D.SETTLED, _E.DIFFER): _D.DIFFERENT,
    (_D.RECONCILED, _E.MATCH): _D.RECONCILED,
    (_D.RECONCILED, _E.DIFFER): _D.DIFFERENT,
    (_D.DIFFERENT, _E.MATCH): _D.RECONCILED,
    (_D.DIFFERENT, _E.DIFFER): _D.DIFFERENT,
    (_D.DIFFERENT, _E.RELEASE): _D.RELEASED,
    (_D.RECONCILED, _E.ROLL): _D.ROLLED,
    (_D.RELEASED, _E.ROLL): _D.ROLLED,
}
MAY_OPEN_NEXT: Final = frozenset({_D.RECONCILED, _D.RELEASED, _D.ROLLED})


class DealState(StrEnum):
    WAITING = "waiting"  # not tried yet
    SETTLED = "settled"
    HELD = "held"
    REVERSED = "reversed"


class DealEvent(StrEnum):
    POST = "post"  # both legs are in
    FAIL = "fail"  # a leg could not post
    REVERSE = "reverse"  # the operator takes the deal back (D28); nothing was or will be delivered


_S, _V = DealState, DealEvent
DEAL: Final[dict[tuple[DealState, DealEvent], DealState]] = {
    (_S.WAITING, _V.POST): _S.SETTLED,
    (_S.WAITING, _V.FAIL): _S.HELD,
    (_S.HELD, _V.POST): _S.SETTLED,
    (_S.HELD, _V.FAIL): _S.HELD,
    (_S.HELD, _V.REVERSE): _S.REVERSED,
}
DONE: Final = frozenset({_S.SETTLED, _S.REVERSED})


class WindowState(StrEnum):
    """A trader's objection window for one day (R12.4)."""

    OPEN = "open"  # the statement is out; silence so far
    OBJECTED = "objected"
    CONTESTED = "contested"  # the next day has opened, an objection has no answer yet
    ACCEPTED = "accepted"  # by silence, or every objection has its answer


class WindowEvent(StrEnum):
    OBJECT = "object"
    ANSWER = "answer"  # the last objection without an answer got one
    CLOSE = "close"  # the next day opens


_W, _X = WindowState, WindowEvent
WINDOW: Final[dict[tuple[WindowState, WindowEvent], WindowState]] = {
    (_W.OPEN, _X.OBJECT): _W.OBJECTED,
    (_W.OPEN, _X.CLOSE): _W.ACCEPTED,
    (_W.OBJECTED, _X.OBJECT): _W.OBJECTED,
    (_W.OBJECTED, _X.ANSWER): _W.OPEN,
    (_W.OBJECTED, _X.CLOSE): _W.CONTESTED,
    (_W.CONTESTED, _X.ANSWER): _W.ACCEPTED,
}


def next_window(state: WindowState, event: WindowEvent) -> WindowState | None:
    """The window's next state, or None where the event is not possible."""
    return WINDOW.get((state, event))


def next_day(state: DayState, event: DayEvent) -> DayState | None:
    """The day's next state, or None where the event is not possible."""
    return DAY.get((state, event))


def next_deal(state: DealState, event: DealEvent) -> DealState | None:
    """The deal's next state, or None where the event is not possible."""
    return DEAL.get((state, event))
