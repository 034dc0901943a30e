"""The desk against its naive model, over sequences that hypothesis invents: same answers, same balances, same state.

Accounts are poor enough that locks are refused often, and the fees are odd enough that rounding shows.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from bulk_reference import NaiveDesk
from bulk_world import World
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from engine.bulk import Desk
from engine.bulk_messages import (
    BulkAccept,
    BulkAmend,
    BulkCancel,
    BulkConfirm,
    BulkCounter,
    BulkDeclare,
    BulkFreeze,
    BulkOffer,
    BulkRefuse,
    BulkRetract,
    BulkTake,
    BulkWithdraw,
)
from engine.bulk_states import BOUND, DIALOGUE, Talk, TalkAction, Turn
from engine.lane import Refusal
from engine.records import BUY, NO_ACCOUNT, SELL

ACCOUNTS = 4
CASH = 7_000_000_000  # a million tonnes at 70 yuan
POOR_TONNES = 700_000
PPM = (333, 71)

accounts = st.integers(0, ACCOUNTS - 1)
prices = st.sampled_from([6_999, 7_000, 7_001, 8_333, 10_234, 10_235, 5_510, 5_509])
quantities = st.sampled_from([100_000, 100_001, 150_000, 200_003, 99_999])
flags = st.booleans()


VISITED: set[Talk] = set()  # states that the machine has stood in


class DeskMachine(RuleBasedStateMachine):
    """One rule per command. Numbers are drawn among those that exist, and now and then beyond."""

    def __init__(self) -> None:
        super().__init__()
        self.w = World(ACCOUNTS, trading_ppm=PPM[0], settlement_ppm=PPM[1])
        self.w.market.accounts["available"][:ACCOUNTS] = CASH
        self.w.market.holdings["sellable"][:ACCOUNTS, :2] = POOR_TONNES
        self.naive = NaiveDesk(ACCOUNTS, CASH, POOR_TONNES, (5_510, 10_234), PPM)
        self.total = self.w.totals()

    def both(self, account: int, message: Any, name: str, *args: Any) -> None:
        answer = self.w.desk.handle(self.w.envelope(account), message)
        got = answer.code.name if isinstance(answer, Refusal) else "ok"
        expected = self.naive.run(name, *args)
        assert got == expected or (expected == "GONE" and got in ("WRONG_STATE", "UNKNOWN_THREAD")), (message, got)

    def number(self, pick: int) -> int:
        """A declaration's number: an open one mostly."""
        live = list(self.w.desk.declarations)
        return live[pick % len(live)] if live and pick % 7 else pick % (self.w.desk.next_declaration + 1) + 1

    def thread(self, pick: int, *wanted: Talk) -> int:
        """A dialogue's number: of those in the wanted states mostly."""
        live = [n for n, t in self.w.desk.threads.items() if not wanted or t.state in wanted or pick % 5 == 0]
        return live[pick % len(live)] if live and pick % 7 else pick % (self.w.desk.next_thread + 1) + 1

    def terms(self, thread: int, price: int, quantity: int, right: bool) -> tuple[int, int]:
        """The terms on the table, mostly."""
        found = self.w.desk.threads.get(thread)
        return (found.price, found.quantity) if found and right else (price, quantity)

    def party(self, thread: int, first: bool) -> int:
        """A party of the dialogue."""
        found = self.w.desk.threads.get(thread)
        if found is None:
            return 0
        return found.taker if first else self.w.desk.declarations[found.declaration].maker

    def mover(self, thread: int, wrong: bool) -> int:
        """The party whose turn it is (or, ``wrong``, the other)."""
        found = self.w.desk.threads.get(thread)
        takers = found is not None and found.state in (Talk.OFFERED_BY_MAKER, Talk.ACCEPTED_BY_MAKER)
        return self.party(thread, takers != wrong)

    def stranger(self, number: int, who: int) -> int:
        """Somebody else than the declaration's maker."""
        found = self.w.desk.declarations.get(number)
        return (who + 1) % ACCOUNTS if found and found.maker == who else who

    @rule(who=accounts, side=flags, price=prices, quantity=quantities, partial=flags, to=st.sets(accounts, max_size=2))
    def declare(self, who: int, side: bool, price: int, quantity: int, partial: bool, to: set[int]) -> None:
        message = BulkDeclare(
            side=BUY if side else SELL,
            instrument="CEA21",
            price=price,
            quantity=quantity,
            partial=partial,
            to=tuple(sorted(to)),
        )
        word = "buy" if side else "sell"
        self.both(who, message, "declare", who, word, price, quantity, partial, message.to)

    @rule(who=accounts, own=flags, pick=st.integers(0, 100), price=prices, quantity=quantities)
    def amend(self, who: int, own: bool, pick: int, price: int, quantity: int) -> None:
        number = self.number(pick)
        if own and number in self.w.desk.declarations:
            who = self.w.desk.declarations[number].maker
        message = BulkAmend(declaration=number, price=price, quantity=quantity)
        self.both(who, message, "amend", who, number, price, quantity)

    @rule(who=accounts, pick=st.integers(0, 100))
    def withdraw(self, who: int, pick: int) -> None:
        number = self.number(pick)
        self.both(who, BulkWithdraw(declaration=number), "withdraw", who, number)

    @rule(who=accounts, pick=st.integers(0, 100), price=prices, quantity=quantities, take=flags)
    def open_thread(self, who: int, pick: int, price: int, quantity: int, take: bool) -> None:
        number = self.number(pick)
        found = self.w.desk.declarations.get(number)
        who = self.stranger(number, who) if pick % 6 else who
        if take and found and pick % 3:
            price = found.price
        if found and pick % 5 and not (found.partial and quantity <= found.quantity):
            quantity = found.quantity
        kind = BulkTake if take else BulkOffer
        message = kind(declaration=number, price=price, quantity=quantity)
        self.both(who, message, "open", who, number, price, quantity, take)

    @precondition(lambda self: self.w.desk.threads)
    @rule(odd=st.integers(0, 4), pick=st.integers(0, 100), price=prices, quantity=quantities)
    def counter(self, odd: int, pick: int, price: int, quantity: int) -> None:
        number = self.thread(pick, Talk.OFFERED_BY_TAKER, Talk.OFFERED_BY_MAKER)
        if pick % 2:
            quantity = self.terms(number, price, quantity, True)[1]
        who = self.mover(number, odd == 0)
        message = BulkCounter(thread=number, price=price, quantity=quantity)
        self.both(who, message, "counter", who, number, price, quantity)

    @precondition(lambda self: self.w.desk.threads)
    @rule(odd=st.integers(0, 4), pick=st.integers(0, 100), price=prices, quantity=quantities, right=st.integers(0, 5))
    def accept(self, odd: int, pick: int, price: int, quantity: int, right: int) -> None:
        number = self.thread(pick)
        who, (price, quantity) = self.mover(number, odd == 0), self.terms(number, price, quantity, right > 0)
        self.both(
            who, BulkAccept(thread=number, price=price, quantity=quantity), "accept", who, number, price, quantity
        )

    @precondition(lambda self: self.w.desk.threads)
    @rule(odd=st.integers(0, 4), pick=st.integers(0, 100), price=prices, quantity=quantities, right=st.integers(0, 5))
    def confirm(self, odd: int, pick: int, price: int, quantity: int, right: int) -> None:
        number = self.thread(pick, Talk.TAKEN, Talk.ACCEPTED_BY_MAKER, Talk.ACCEPTED_BY_TAKER)
        who, (price, quantity) = self.mover(number, odd == 0), self.terms(number, price, quantity, right > 0)
        message = BulkConfirm(thread=number, price=price, quantity=quantity)
        self.both(who, message, "confirm", who, number, price, quantity)

    @precondition(lambda self: self.w.desk.threads)
    @rule(first=flags, stranger=accounts, odd=st.integers(0, 4), pick=st.integers(0, 100), away=flags)
    def leave(self, first: bool, stranger: int, odd: int, pick: int, away: bool) -> None:
        number = self.thread(pick)
        who = stranger if odd == 0 else self.party(number, first)
        message = BulkRetract(thread=number) if away else BulkRefuse(thread=number)
        self.both(who, message, "retract" if away else "refuse", who, number)

    @rule(pick=st.integers(0, 100), on=flags, whole=st.integers(0, 3))
    def freeze(self, pick: int, on: bool, whole: int) -> None:
        number = self.number(pick) if whole else 0
        on = on and pick % 8 == 0  # more thaw than frost
        self.both(NO_ACCOUNT, BulkFreeze(on=on, declaration=number), "freeze", number, on)

    @precondition(lambda self: self.w.desk.threads)
    @rule(pick=st.integers(0, 100))
    def operator_cancels_a_thread(self, pick: int) -> None:
        number = self.thread(pick)
        self.both(NO_ACCOUNT, BulkCancel(thread=number), "cancel_talk", number)

    @rule()
    def snapshot_and_restore(self) -> None:
        again = Desk(self.w.market)
        again.load(self.w.desk.dump())
        assert again.dump() == self.w.desk.dump()
        self.w.desk = again

    @invariant()
    def balances_and_open_business_are_the_same(self) -> None:
        self.w.check_locks()
        assert self.w.totals() == self.total
        for account in range(ACCOUNTS):
            row, held = self.w.market.accounts[account], self.w.market.holdings[account, 0]
            ours = (row["available"], row["locked"], held["sellable"], held["bought_today"], held["locked"])
            assert tuple(map(int, ours)) == self.naive.balances(account), f"account {account}"
        ours_open = {n: (d.price, d.quantity) for n, d in self.w.desk.declarations.items()}
        assert ours_open == {n: (d["price"], d["left"]) for n, d in self.naive.declared.items()}
        ours_talks = {n: (t.price, t.quantity) for n, t in self.w.desk.threads.items()}
        assert ours_talks == {n: (t["price"], t["quantity"]) for n, t in self.naive.talks.items()}
        deals = self.w.market.deals[: int(self.w.market.market[0]["deals"])]
        rows = [tuple(map(int, d)) for d in deals[["price", "quantity", "buyer", "seller"]]]
        assert rows == self.naive.deals
        VISITED.update(t.state for t in self.w.desk.threads.values())
        if rows:
            VISITED.add(Talk.DEALT)


COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True, "database": None}


def test_the_desk_and_the_naive_model_give_the_same_answers_and_balances() -> None:
    run_state_machine_as_test(DeskMachine, settings=settings(max_examples=25, stateful_step_count=30, **COMMON))


DRAWS = {
    "who": ACCOUNTS,
    "stranger": ACCOUNTS,
    "pick": 101,
    "odd": 8,
    "right": 8,
    "whole": 6,
    "side": 2,
    "partial": 2,
    "own": 2,
    "take": 2,
    "first": 2,
    "away": 2,
    "on": 2,
}
PRICES, QUANTITIES = (6_999, 7_000, 7_001, 8_333, 5_509, 10_234), (100_000, 100_001, 150_000, 200_003, 99_999)
WEIGHTS = {
    "declare": ("side price quantity partial who to", 4),
    "amend": ("who own pick price quantity", 2),
    "withdraw": ("who pick", 1),
    "open_thread": ("who pick price quantity take", 8),
    "counter": ("odd pick price quantity", 6),
    "accept": ("odd pick price quantity right", 6),
    "confirm": ("odd pick price quantity right", 4),
    "leave": ("first stranger odd pick away", 2),
    "freeze": ("pick on whole", 1),
    "operator_cancels_a_thread": ("pick", 1),
    "snapshot_and_restore": ("", 1),
}


def walk(seed: int, steps: int) -> None:
    """Long negotiations, busier than hypothesis' own: the same rules, drawn by weight."""
    draw, machine = random.Random(seed), DeskMachine()
    names, weights = list(WEIGHTS), [weight for _, weight in WEIGHTS.values()]
    for _ in range(steps):
        name = draw.choices(names, weights)[0]
        if name in NEED_A_THREAD and not machine.w.desk.threads:
            continue
        arguments: dict[str, Any] = {}
        for what in WEIGHTS[name][0].split():
            if what == "price":
                arguments[what] = draw.choice(PRICES)
            elif what == "quantity":
                arguments[what] = draw.choice(QUANTITIES)
            elif what == "to":
                arguments[what] = set(draw.sample(range(ACCOUNTS), draw.choice((0, 0, 2))))
            else:
                drawn = draw.randrange(DRAWS[what])
                arguments[what] = bool(drawn) if DRAWS[what] == 2 else drawn
        getattr(machine, name)(**arguments)
        machine.balances_and_open_business_are_the_same()


NEED_A_THREAD = ("counter", "accept", "confirm", "leave", "operator_cancels_a_thread")


def test_long_negotiations_stand_in_every_state_and_agree_with_the_naive_model() -> None:
    VISITED.clear()
    for seed in range(10):
        walk(seed, 400)
    assert set(BOUND) | {Talk.DEALT} == VISITED, "the walk must stand in every state to prove anything"


@pytest.mark.slow
def test_many_long_negotiations_agree_with_the_naive_model() -> None:
    run_state_machine_as_test(DeskMachine, settings=settings(max_examples=100, stateful_step_count=60, **COMMON))
    for seed in range(100, 140):
        walk(seed, 500)


def drop_release(monkeypatch: pytest.MonkeyPatch) -> None:
    key = Talk.OFFERED_BY_TAKER, Turn.MAKER_COUNTERS
    monkeypatch.setitem(DIALOGUE, key, (Talk.OFFERED_BY_MAKER, (TalkAction.BIND_MAKER,)))


def confirm_by_one_side(monkeypatch: pytest.MonkeyPatch) -> None:
    key = Talk.OFFERED_BY_TAKER, Turn.MAKER_CONFIRMS
    monkeypatch.setitem(DIALOGUE, key, (Talk.DEALT, (TalkAction.DEAL,)))


def sum_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    terms = Desk._terms

    def doubled(self: Desk, found: Any) -> tuple[int, int, int]:
        price, quantity, deals = terms(self, found)
        return price, quantity * max(1, len(found.threads)), deals

    monkeypatch.setattr(Desk, "_terms", doubled)


@pytest.mark.parametrize("plant", [drop_release, confirm_by_one_side, sum_of_threads])
def test_planted_errors_in_locks_and_confirmation_are_found(plant, monkeypatch) -> None:
    plant(monkeypatch)

    def walks() -> None:
        for seed in range(10):
            walk(seed, 400)

    with pytest.raises((AssertionError, KeyError)):
        walks()
