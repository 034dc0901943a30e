"""The naive reference by hand, and its streams under an audit that knows no engine; planted bugs show that it bites."""

from __future__ import annotations

import pytest
import states
from streams import NEW_VINTAGE, PROFILES, Stream, make_stream
from tape import Tape

from engine import records as r
from engine.codes import Code, Reason
from engine.reference_day import ReferenceExchange
from engine.reference_state import Instrument, Order

LENGTH = 2_000


def tape_of(stream: Stream) -> Tape:
    policies = [stream.profile.rules.policies.get(code) for code in (*stream.profile.references, NEW_VINTAGE)]
    return Tape(
        [policy is None or policy.matching == "continuous" for policy in policies],
        self_trade_prevention=stream.profile.rules.self_trade_prevention,
        best_only=all(policy is None or policy.reach == "best_level" for policy in policies),
    )


def audit(stream: Stream) -> Tape:
    """All that can be judged without a second engine."""
    tape = tape_of(stream)
    tape.read_with_limits(stream.events, stream.limits)
    rules = stream.profile.rules
    for state in stream.checkpoints.values():
        states.check(state, accounts_on=rules.accounts)
    last = list(stream.checkpoints.values())[-1]
    if rules.accounts:
        assert states.total_cash(last) == stream.cash_in, "cash was made or lost"
        assert states.total_allowances(last)[: len(stream.allowances_in)] == list(stream.allowances_in.values())
    return tape


@pytest.mark.parametrize("name", PROFILES)
def test_streams_of_every_profile_pass_the_audit(name: str) -> None:
    stream = make_stream(PROFILES[name], 1, LENGTH, checkpoint_every=100, save=states.of_reference)
    tape = audit(stream)
    assert tape.kinds[r.FILL_TAKER] > 15, "a stream without deals proves nothing"
    assert tape.kinds[r.REPLACED] > 10
    assert tape.kinds[r.REDUCED] > 10


def test_the_streams_reach_every_reject_code_and_every_reason() -> None:
    codes, reasons = set(), set()
    for profile in PROFILES.values():
        stream = make_stream(profile, 1, 6_000)
        kinds = stream.events["kind"]
        codes |= set(stream.events["reason"][kinds == r.REJECTED].tolist())
        reasons |= set(stream.events["reason"][kinds == r.CANCELLED].tolist())
    assert {code for code in Code if 0 < code < 100} - codes == set()
    assert set(Reason) - reasons <= {Reason.TURNOVER_LIMIT}  # 2^62 fen in a day: some seeds; test_peer_bugs.py by hand


# --- planted bugs: each must fail the audit -------------------------------------------------------------------------


class LastComeFirstServed(ReferenceExchange):
    """FIFO broken: a level is served from its end."""

    def within_reach(self, order: Order) -> list[Order]:
        found = super().within_reach(order)
        return sorted(found, key=lambda o: (o.price if order.side == r.BUY else -o.price, -found.index(o)))


class WorstPriceFirst(ReferenceExchange):
    """Price priority broken."""

    def within_reach(self, order: Order) -> list[Order]:
        return list(reversed(super().within_reach(order)))


class TakerPriced(ReferenceExchange):
    """Deals at the incoming order's limit."""

    def deal_price(self, maker: Order, taker: Order) -> int:
        return taker.price


class RestThatCrosses(ReferenceExchange):
    """What the best five could not reach rests all the same: the book is crossed."""

    def place_rest(self, order: Order, order_type: int) -> None:
        if order.leaves and order_type == r.LIMIT and self.slots.find(order.id) is order:
            self.own_side(order).add(order)
        else:
            super().place_rest(order, order_type)


class ImprovementKept(ReferenceExchange):
    """A buyer who pays less than its limit does not get the difference back."""

    def book_purchase(self, order: Order, price: int, quantity: int) -> int:
        self.accounts[order.account].available -= (order.price - price) * quantity if self.rules.accounts else 0
        return super().book_purchase(order, price, quantity)


class CashMadeBySelling(ReferenceExchange):
    """The seller's fee is booked as collected, but not taken."""

    def book_sale(self, order: Order, price: int, quantity: int) -> int:
        fee = super().book_sale(order, price, quantity)
        if self.rules.accounts:
            self.accounts[order.account].available += fee
        return fee


class AllowancesLost(ReferenceExchange):
    """A cancelled sell gives back a tonne too little."""

    def unlock(self, order: Order) -> None:
        super().unlock(order)
        if order.side == r.SELL and self.rules.accounts and self.holding(order).sellable:
            self.holding(order).sellable -= 1


class ShortSale(ReferenceExchange):
    """Allowances are not checked."""

    def check_funds(self, order: Order, old: Order | None = None) -> Code:
        code = super().check_funds(order, old)
        return Code.OK if code == Code.INSUFFICIENT_ALLOWANCES else code


class CashOnCredit(ReferenceExchange):
    """Cash is not checked."""

    def check_funds(self, order: Order, old: Order | None = None) -> Code:
        code = super().check_funds(order, old)
        return Code.OK if code == Code.INSUFFICIENT_CASH else code


class PriceAnywhere(ReferenceExchange):
    """The upper limit is not checked."""

    def check_price(self, instrument: Instrument, price: int) -> Code:
        code = super().check_price(instrument, price)
        return Code.OK if code == Code.PRICE_ABOVE_LIMIT and price < 1 << 40 else code


class LockReleasedTwice(ReferenceExchange):
    """A reduce releases a fen more than it holds."""

    def reduce(self) -> Code:
        order = self.slots.find(self.command.order_id)
        code = super().reduce()
        if code == Code.OK and order is not None and order.side == r.BUY and self.rules.accounts:
            self.accounts[order.account].locked -= min(1, self.accounts[order.account].locked)
        return code


class TradesWithItself(ReferenceExchange):
    """Self-trade prevention switched off where it should be on."""

    def is_self_trade(self, order: Order, resting: Order) -> bool:
        return False


class IdsComeTwice(ReferenceExchange):
    """A slot's generation does not grow: an id is given twice."""

    def end(self, order: Order) -> None:
        super().end(order)
        self.slots.generation[order.slot] -= 1


PLANTED = [
    (LastComeFirstServed, "national"),
    (WorstPriceFirst, "deep"),
    (TakerPriced, "generic"),
    (RestThatCrosses, "deep"),
    (ImprovementKept, "national"),
    (CashMadeBySelling, "national"),
    (AllowancesLost, "national"),
    (ShortSale, "national"),
    (CashOnCredit, "national"),
    (PriceAnywhere, "national"),
    (LockReleasedTwice, "national"),
    (TradesWithItself, "generic_accounts"),
    (IdsComeTwice, "generic"),
]


@pytest.mark.parametrize(("bug", "name"), PLANTED, ids=lambda x: x if isinstance(x, str) else x.__name__)
def test_the_audit_finds_a_planted_bug(bug: type[ReferenceExchange], name: str) -> None:
    def streams() -> None:
        for seed in range(1, 7):
            audit(make_stream(PROFILES[name], seed, LENGTH, checkpoint_every=100, save=states.of_reference, market=bug))

    with pytest.raises(AssertionError):
        streams()
