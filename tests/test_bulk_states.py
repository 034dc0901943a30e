"""The desk's two tables, walked over their whole product, and driven through the desk itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from bulk_world import MAKER, OTHER, PATHS, TAKER, World, amend, command, reach
from conftest import REPOSITORY

from engine.bulk_messages import BulkCancel, BulkExpire, BulkFreeze, BulkOffer, BulkTake, BulkWithdraw
from engine.bulk_states import (
    BOUND,
    DECLARATION,
    DIAGRAMS,
    DIALOGUE,
    Declared,
    DeclaredAction,
    Step,
    Talk,
    TalkAction,
    Turn,
)
from engine.codes import Code
from engine.lane import Refusal
from engine.records import BUY, NO_ACCOUNT, SELL
from engine.state_diagram import render

MEMBER_TURNS = [turn for turn in Turn if turn < Turn.TERMS_CHANGE]
ENDS = [state for state in Talk if state not in BOUND and state != Talk.NEW]


def test_every_pair_of_a_declaration_is_either_in_the_table_or_refused() -> None:
    for state in Declared:
        for step in Step:
            entry = DECLARATION.get((state, step))
            if entry is None:
                continue
            to, actions = entry
            assert state not in (Declared.DEALT, Declared.WITHDRAWN, Declared.EXPIRED, Declared.CANCELLED)
            ends = to not in (Declared.OPEN, Declared.FROZEN)
            assert ends == (DeclaredAction.RELEASE in actions), f"{state.name} {step.name}: released when it ends"
            assert ends == (DeclaredAction.END_THREADS in actions)
            fallible = [a for a in actions if a in (DeclaredAction.LOCK, DeclaredAction.RELOCK)]
            assert not fallible or actions[0] == fallible[0], "what can fail comes first"
    for state in (Declared.OPEN, Declared.FROZEN):  # the ways out are always open (D22)
        assert {(state, s) in DECLARATION for s in (Step.WITHDRAW, Step.EXPIRE, Step.CANCEL)} == {True}


def test_every_pair_of_a_dialogue_moves_the_locks_with_who_is_bound() -> None:
    for state in Talk:
        for turn in Turn:
            entry = DIALOGUE.get((state, turn))
            if entry is None:
                continue
            to, actions = entry
            assert state not in ENDS
            (taker, maker), (taker_then, maker_then) = BOUND.get(state, (False, False)), BOUND.get(to, (False, False))
            if TalkAction.DEAL in actions:
                assert taker and to == Talk.DEALT and (TalkAction.UNBIND_MAKER in actions) == maker
                continue
            assert (TalkAction.LOCK_TAKER in actions) == (taker_then and not taker), (state, turn)
            assert (TalkAction.RELEASE_TAKER in actions) == (taker and not taker_then), (state, turn)
            assert (TalkAction.BIND_MAKER in actions) == (maker_then and not maker), (state, turn)
            assert (TalkAction.UNBIND_MAKER in actions) == (maker and not maker_then), (state, turn)
            fallible = [a for a in actions if a in (TalkAction.LOCK_TAKER, TalkAction.BIND_MAKER)]
            assert not fallible or actions[0] == fallible[0], "what can fail comes first"


def test_a_dialogue_has_one_side_to_move_and_every_state_can_be_left_by_either_side() -> None:
    for state in BOUND:
        turns = {turn for turn in MEMBER_TURNS if (state, turn) in DIALOGUE}
        progress = {t.name.split("_")[0] for t in turns if t.name.endswith(("COUNTERS", "ACCEPTS", "CONFIRMS"))}
        assert len(progress) == 1, f"{state.name}: {progress} may move on"
        ways_out = {t.name.split("_")[0] for t in turns if t.name.endswith(("REFUSES", "RETRACTS"))}
        assert ways_out == {"MAKER", "TAKER"}
        for turn in (Turn.TERMS_CHANGE, Turn.NO_LONGER_FITS, Turn.END):
            assert (state, turn) in DIALOGUE


@pytest.mark.parametrize("side", [BUY, SELL])
@pytest.mark.parametrize("state", list(BOUND), ids=lambda s: s.name)
@pytest.mark.parametrize("turn", MEMBER_TURNS, ids=lambda t: t.name)
def test_the_desk_does_what_the_table_says_for_every_open_state_and_turn(side: int, state: Talk, turn: Turn) -> None:
    w = World(3, trading_ppm=300, settlement_ppm=70)
    declaration, before = reach(w, side, state), w.totals()
    number = next(iter(w.desk.threads))
    who, message = command(w, declaration, turn)
    answer = w.send(who, message)
    if turn in (Turn.OFFER, Turn.TAKE):
        assert isinstance(answer, Refusal) and answer.code == Code.ALREADY_EXISTS  # a dialogue per counterparty
    elif (state, turn) not in DIALOGUE:
        assert isinstance(answer, Refusal) and answer.code == Code.WRONG_STATE and answer.field == "thread"
    else:
        assert not isinstance(answer, Refusal), answer
        to = DIALOGUE[state, turn][0]
        assert (w.desk.threads[number].state if to in BOUND else Talk(w.desk.ended_threads[number][0])) == to
    w.check_locks()
    assert w.totals() == before


@pytest.mark.parametrize("last", [t for s, t in DIALOGUE if DIALOGUE[s, t][0] in ENDS and t in MEMBER_TURNS])
def test_a_dialogue_that_has_ended_takes_no_further_turn(last: Turn) -> None:
    state = next(s for s, t in DIALOGUE if t == last and s in BOUND and DIALOGUE[s, t][0] in ENDS)
    w = World(3)
    declaration = reach(w, SELL, state)
    w.ok(*command(w, declaration, last))
    for turn in MEMBER_TURNS[2:]:
        who, message = command(w, declaration, turn)
        assert w.refused(who, message).code == Code.WRONG_STATE
        assert w.refused(OTHER, message).code == Code.UNKNOWN_THREAD, "a stranger learns nothing"
    w.check_locks()


def into(w: World, side: int, state: Declared) -> int:
    """A declaration in a state, with a dialogue where it is open."""
    declaration = reach(w, side, Talk.ACCEPTED_BY_MAKER, partial=state != Declared.DEALT)
    if state == Declared.FROZEN:
        w.ok(NO_ACCOUNT, BulkFreeze(on=True, declaration=declaration))
    elif state == Declared.DEALT:
        w.ok(*command(w, declaration, Turn.TAKER_CONFIRMS))
    elif state == Declared.WITHDRAWN:
        w.ok(MAKER, BulkWithdraw(declaration=declaration))
    elif state == Declared.CANCELLED:
        w.ok(NO_ACCOUNT, BulkCancel(declaration=declaration))
    elif state == Declared.EXPIRED:
        w.now = w.desk.declarations[declaration].valid_until
        w.ok(NO_ACCOUNT, BulkExpire())
    return declaration


COMMANDS = {
    Step.AMEND: lambda n: (MAKER, amend(n, 7_100, 350_000)),
    Step.WITHDRAW: lambda n: (MAKER, BulkWithdraw(declaration=n)),
    Step.CANCEL: lambda n: (NO_ACCOUNT, BulkCancel(declaration=n)),
    Step.FREEZE: lambda n: (NO_ACCOUNT, BulkFreeze(on=True, declaration=n)),
    Step.THAW: lambda n: (NO_ACCOUNT, BulkFreeze(on=False, declaration=n)),
}


@pytest.mark.parametrize("side", [BUY, SELL])
@pytest.mark.parametrize("state", list(Declared)[1:], ids=lambda s: s.name)
@pytest.mark.parametrize("step", list(COMMANDS), ids=lambda s: s.name)
def test_the_desk_does_what_the_table_says_for_every_declaration(side: int, state: Declared, step: Step) -> None:
    w = World(3, trading_ppm=300)
    before = w.totals()
    number = into(w, side, state)
    who, message = COMMANDS[step](number)
    if (state, step) in DECLARATION:
        w.ok(who, message)
        to = DECLARATION[state, step][0]
        left = w.desk.declarations.get(number)
        assert (left.state if left else Declared(w.desk.ended_declarations[number][0])) == to
    elif state == Declared.EXPIRED and step == Step.AMEND:
        assert w.refused(who, message).code == Code.WRONG_STATE
    elif state == Declared.FROZEN and step == Step.AMEND:
        assert w.refused(who, message).code == Code.BULK_FROZEN
    else:
        assert w.refused(who, message).code == Code.WRONG_STATE
    w.check_locks()
    assert w.totals() == before


DIALOGUE_ACTIONS = [
    (state, turn, action)
    for (state, turn), (_, actions) in DIALOGUE.items()
    if turn in MEMBER_TURNS
    for action in actions
]


@pytest.mark.parametrize(("state", "turn", "action"), DIALOGUE_ACTIONS, ids=lambda x: x.name)
def test_planted_leaving_out_one_action_of_the_dialogue_table_is_found(state, turn, action, monkeypatch) -> None:
    to, actions = DIALOGUE[state, turn]
    w = World(3)
    number = reach(w, BUY, state) if state in BOUND else w.declare(MAKER, BUY, 7_000, 300_000, partial=True)
    monkeypatch.setitem(DIALOGUE, (state, turn), (to, tuple(a for a in actions if a != action)))
    who, message = command(w, number, turn)

    def drive() -> None:
        w.ok(who, message)
        w.check_locks()
        assert int(w.market.market[0]["deals"]) == (to == Talk.DEALT), "a deal was confirmed and not made"

    with pytest.raises((AssertionError, KeyError)):
        drive()


DECLARED_ACTIONS = [
    (state, step, action)
    for (state, step), (_, actions) in DECLARATION.items()
    for action in actions
    if step not in (Step.EXPIRE, Step.DEAL_PART, Step.DEAL_REST)
]


@pytest.mark.parametrize(("state", "step", "action"), DECLARED_ACTIONS, ids=lambda x: x.name)
def test_planted_leaving_out_one_action_of_the_declaration_table_is_found(state, step, action, monkeypatch) -> None:
    to, actions = DECLARATION[state, step]
    w = World(4)
    number = 0
    if state != Declared.NEW:
        number = into(w, SELL, Declared.OPEN)
        w.ok(OTHER, BulkTake(declaration=number, price=7_000, quantity=100_000))
        w.ok(3, BulkOffer(declaration=number, price=6_900, quantity=300_000))
        if state == Declared.FROZEN:
            w.ok(NO_ACCOUNT, BulkFreeze(on=True, declaration=number))
    monkeypatch.setitem(DECLARATION, (state, step), (to, tuple(a for a in actions if a != action)))

    def drive() -> None:
        if step == Step.DECLARE:
            w.declare(MAKER, SELL, 7_000, 300_000)
        elif step == Step.AMEND:
            w.ok(MAKER, amend(number, 7_000, 250_000))
            assert not any(t.state == Talk.TAKEN for t in w.desk.threads.values()), "a take of old terms stands"
        else:
            w.ok(*COMMANDS[step](number))
        w.check_locks()

    with pytest.raises((AssertionError, KeyError)):
        drive()


@pytest.mark.parametrize("action", list(DECLARATION[Declared.OPEN, Step.DEAL_PART][1]), ids=lambda x: x.name)
def test_planted_a_deal_that_leaves_its_declaration_as_it_was_is_found(action, monkeypatch) -> None:
    w = World(4, trading_ppm=300)
    number = reach(w, BUY, Talk.TAKEN)
    w.ok(OTHER, BulkTake(declaration=number, price=7_000, quantity=250_000))
    to, actions = DECLARATION[Declared.OPEN, Step.DEAL_PART]
    changed = tuple(a for a in actions if a != action)
    monkeypatch.setitem(DECLARATION, (Declared.OPEN, Step.DEAL_PART), (to, changed))
    with pytest.raises(AssertionError):
        w.ok(*command(w, number, Turn.MAKER_CONFIRMS))


def test_every_state_of_the_path_table_is_covered() -> None:
    assert set(PATHS) == set(BOUND)
    assert TAKER != MAKER


def test_the_diagrams_in_the_documentation_are_those_of_the_tables() -> None:
    page = Path(REPOSITORY, "docs", "bulk.md").read_text(encoding="utf-8")
    assert render(page, DIAGRAMS) == page, "run python -m engine.bulk_states"
