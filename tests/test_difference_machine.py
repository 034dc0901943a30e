"""A hypothesis state machine over a very small market: the kernel against the reference, command by command.

Where the seeded streams are wide, this is narrow: three accounts, five to eleven price levels, quantities of a few
tonnes, so that hypothesis meets odd coincidences and shrinks what it finds to a few commands.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
import states
from difference import first_event_difference, open_exchange
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from streams import DAYS, ODD_FEES, Generator, Profile, national

from engine import messages as msg
from engine import records as r
from engine.calendar import day_start_ns
from engine.reference_day import ReferenceExchange
from engine.rules import Policy, Rules

ACCOUNTS = st.integers(0, 2)
QUANTITIES = st.integers(0, 9)
STEPS_FROM_REFERENCE = st.integers(-6, 6)
SIDES = st.sampled_from((r.BUY, r.SELL))
REFERENCE = 50


class Action(NamedTuple):
    """One listed-market command to be; what the numbers mean depends on ``what``."""

    what: str
    account: int
    side: int
    steps: int
    quantity: int
    pick: int


WHAT = ("rest",) * 5 + ("new",) * 6 + ("replace",) * 3 + ("cancel", "reduce", "take", "take", "mass_cancel")
ACTION = st.builds(
    Action, st.sampled_from(WHAT), ACCOUNTS, SIDES, STEPS_FROM_REFERENCE, QUANTITIES, pick=st.integers(0, 9)
)
MESSAGES: list[st.SearchStrategy[Any]] = [
    st.sampled_from((msg.Halt(), msg.Halt(instrument="A"), msg.CancelOnly(on=True))),
    st.builds(
        msg.SetLimits,
        account=ACCOUNTS,
        instrument=st.just("A"),
        position_max=st.integers(0, 60),
        sell_max=st.integers(-1, 30),
    ),
    st.builds(msg.SetAccountStatus, account=ACCOUNTS, status=st.sampled_from((2, 3))),
    st.builds(msg.CancelOrders, account=st.sampled_from((None, 0, 1)), session=st.integers(0, 2), reason=st.just(9)),
]

VARIANTS = [
    national(best_levels=2),
    national(best_levels=1, fees=ODD_FEES, open_orders_max=4),
    national(policies={"A": Policy(matching="listing")}, best_levels=2),
    national(policies={"A": Policy(matching="listing", reach="best_five")}, best_levels=2, fees=ODD_FEES),
    msgspec.structs.replace(Rules.generic(accounts=True), self_trade_prevention=True),
    msgspec.structs.replace(Rules.generic(tick_fen=2, lot_t=2), best_levels=3),
]


class Machine(RuleBasedStateMachine):
    """Every rule sends one command or message into both markets' stream; `flush` compares."""

    reference_class: type[ReferenceExchange] = ReferenceExchange

    @initialize(
        rules=st.sampled_from(VARIANTS),
        modes=st.tuples(*[st.integers(0, 2)] * 3),
        cash=st.sampled_from((400, 2_000)),
        allowances=st.sampled_from((6, 40)),
        room=st.sampled_from((1, 9, 512)),
    )
    def start(self, rules: Rules, modes: tuple[int, ...], cash: int, allowances: int, room: int) -> None:
        """Opens a day with one vintage and three accounts."""
        profile = Profile(
            "machine", rules, {"A": REFERENCE}, accounts=3, cash=cash, allowances=allowances, orders=8, levels=64
        )
        g = self.generator = Generator(profile, 0, self.reference_class)
        self.exchange = open_exchange(rules, g.capacity, room)
        self.sent = self.seen = self.told = 0
        g.tell(msg.RollDay(date=DAYS[0]))
        g.tell(msg.ListInstrument(code="A", reference=REFERENCE))
        for account, mode in enumerate(modes):
            g.tell(msg.OpenAccount(account=account, name="x", self_trade=mode))
            g.tell(msg.Deposit(account=account, amount=cash, document=g.document()))
            g.tell(msg.TransferIn(account=account, instrument="A", quantity=allowances, transfer=g.document()))
        g.time_ns = day_start_ns(DAYS[0]) + 10 * 3600 * 1_000_000_000
        self.flush()

    def order_id(self, pick: int) -> int:
        """An open order's id; with none open, an id that means nothing."""
        ids = [order.id for order in self.generator.market.slots.in_slot_order()]
        return ids[pick % len(ids)] if ids else pick

    def owner(self, order_id: int, other: int) -> int:
        order = self.generator.market.slots.find(order_id)
        return order.account if order is not None else other

    def price(self, steps: int) -> int:
        return REFERENCE + steps * self.generator.profile.rules.tick_fen

    @rule(actions=st.lists(ACTION, min_size=1, max_size=8))
    def act(self, actions: list[Action]) -> None:
        """Some listed-market commands."""
        for action in actions:
            getattr(self, action.what)(action)

    def rest(self, a: Action) -> None:
        """A plain order on its own side of the reference: without many of them no book fills."""
        quantity = (a.quantity + 1) * self.generator.profile.rules.lot_t
        price = self.price(-abs(a.steps) if a.side == r.BUY else abs(a.steps))
        self.generator.send(
            r.NEW, account=a.account, side=a.side, price=price, quantity=quantity, session=a.account + 1
        )

    def new(self, a: Action) -> None:
        """Any order type, any price of the band and a little beyond, any small quantity."""
        price = 0 if a.pick == 9 else self.price(a.steps)
        self.generator.send(
            r.NEW, account=a.account, side=a.side, price=price, quantity=a.quantity, order_type=a.pick % 6
        )

    def cancel(self, a: Action) -> None:
        order_id = self.order_id(a.pick)
        self.generator.send(r.CANCEL, account=self.owner(order_id, a.account), order_id=order_id)

    def reduce(self, a: Action) -> None:
        order_id = self.order_id(a.pick)
        account = self.owner(order_id, 0) if a.account else 1
        self.generator.send(r.REDUCE, account=account, order_id=order_id, quantity=a.quantity)

    def replace(self, a: Action) -> None:
        order_id = self.order_id(a.pick)
        order = self.generator.market.slots.find(order_id)
        price = order.price if order is not None and a.side == r.BUY else self.price(a.steps)
        quantity = a.quantity - 4 + (order.filled + order.leaves if order is not None else 0)
        self.generator.send(
            r.REPLACE,
            account=self.owner(order_id, 0),
            order_id=order_id,
            price=price,
            quantity=quantity,
            session=a.account,
        )

    def take(self, a: Action) -> None:
        self.generator.send(r.TAKE, account=a.account, order_id=self.order_id(a.pick), quantity=a.quantity)

    def mass_cancel(self, a: Action) -> None:
        instrument = (0, 0, 1, r.ANY_INSTRUMENT)[a.pick % 4]
        self.generator.send(r.MASS_CANCEL, account=a.account, side=a.quantity % 4, instrument=instrument)

    @rule(hours=st.sampled_from((0, 1, 2)))
    def wait(self, hours: int) -> None:
        """Into the break, the afternoon, and after the close into the next day."""
        g = self.generator
        g.time_ns += hours * 3600 * 1_000_000_000
        if not g.profile.rules.around_the_clock and g.time_ns >= g.market.close:
            g.tell(msg.CloseDay())
            g.tell(msg.SettleDay(date=DAYS[g.day]))
            g.day += 1
            g.tell(msg.RollDay(date=DAYS[g.day]))
            g.time_ns = g.market.morning_open

    @rule(message=st.one_of(MESSAGES))
    def tell(self, message: Any) -> None:
        """A message of the operators; what it forbids is allowed again before long."""
        self.generator.tell(message)

    @rule()
    def all_clear(self) -> None:
        """Ends halts and suspensions."""
        for message in (msg.Resume(), msg.Resume(instrument="A"), msg.CancelOnly(on=False)):
            self.generator.tell(message)
        for account in range(3):
            self.generator.tell(msg.SetAccountStatus(account=account, status=1, by="a", second="b"))

    @rule()
    def flush(self) -> None:
        """All that is pending goes to the kernel as one batch; events, state and invariants are compared."""
        g = self.generator
        commands = np.array(g.commands[self.sent :], r.COMMAND)
        self.sent = len(g.commands)
        payloads, self.told = b"".join(g.payloads[self.told :]), len(g.payloads)
        events = self.exchange.apply(commands, payloads).events
        ours = events[events["kind"] != r.NOTICE]
        expected = np.array(g.market.events[self.seen :], r.EVENT)
        self.seen = len(g.market.events)
        assert ours.tobytes() == expected.tobytes(), first_event_difference(ours, expected)
        self.exchange.check()
        found = states.differences(states.of_market(self.exchange.market), states.of_reference(g.market))
        assert not found, found[:10]

    @invariant()
    def reference_holds(self) -> None:
        """The reference itself keeps the invariants after every command."""
        if hasattr(self, "generator"):
            states.check(states.of_reference(self.generator.market), accounts_on=self.generator.profile.rules.accounts)

    def teardown(self) -> None:
        if hasattr(self, "generator"):
            self.flush()


def run_machine(machine: type[Machine], examples: int, steps: int, *, shrink: bool = True) -> None:
    """Runs a machine without a database or deadlines: the same examples every time."""
    phases = [Phase.explicit, Phase.generate, *([Phase.shrink] if shrink else [])]
    machine.TestCase.settings = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        phases=phases,
        report_multiple_bugs=False,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    machine.TestCase("runTest").runTest()  # type: ignore[attr-defined]


def test_the_machine_finds_no_difference() -> None:
    run_machine(Machine, 30, 30)


@pytest.mark.slow
def test_the_machine_finds_no_difference_in_many_examples() -> None:
    run_machine(Machine, 300, 60)


class ForgetsImprovement(ReferenceExchange):
    """A buyer who pays less than its limit keeps paying its limit."""

    def deal_price(self, maker: Any, taker: Any) -> int:
        return max(maker.price, taker.price) if taker.side == r.BUY else maker.price


def test_the_machine_finds_a_planted_bug() -> None:
    class Planted(Machine):
        reference_class = ForgetsImprovement

    with pytest.raises(AssertionError):
        run_machine(Planted, 40, 40, shrink=False)
