"""Whole auctions against a naive model, over sequences that hypothesis invents: same answers, balances, bids, deals.

Accounts are poor enough that locks are refused, and the fees are odd enough that rounding shows.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from auction_reference import NaiveAuctions
from auction_world import AuctionWorld
from bulk_world import at
from conftest import FIXED
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import engine.auction as machine_under_test
from engine.auction import Auctions
from engine.auction_allocation import allocate
from engine.auction_messages import (
    AuctionAnnounce,
    AuctionAnswer,
    AuctionApply,
    AuctionBid,
    AuctionCancel,
    AuctionCancelBid,
    AuctionFreeze,
    AuctionRaise,
    AuctionTick,
    AuctionWithdraw,
)
from engine.auction_states import AUCTION, OPEN, Do, Move, Stage
from engine.lane import Refusal
from engine.records import NO_ACCOUNT

ACCOUNTS, SELLERS = 9, 2
CASH = 1_400_000_000  # some 180,000 tonnes
TONNES = 700_000
PPM = (333, 71)
PRICES = (7_410, 7_411, 7_500, 8_151, 8_152, 6_669, 6_668, 7_000)
QUANTITIES = (99, 100, 30_000, 60_000, 100_000, 150_001)
MINUTE = 60 * 10**9
VISITED: set[Stage] = set()

picks = st.integers(0, 30)
accounts = st.integers(0, ACCOUNTS - 1)
prices, quantities, flags = st.sampled_from(PRICES), st.sampled_from(QUANTITIES), st.booleans()


class AuctionMachine(RuleBasedStateMachine):
    """One rule per command. Numbers are drawn among those that exist, and now and then beyond."""

    def __init__(self) -> None:
        super().__init__()
        self.w = AuctionWorld(ACCOUNTS, trading_ppm=PPM[0], settlement_ppm=PPM[1])
        self.w.market.accounts["available"][:ACCOUNTS] = CASH
        self.w.market.holdings["sellable"][:ACCOUNTS, :2] = TONNES
        self.w.now = at("09:25")
        self.naive = NaiveAuctions(ACCOUNTS, CASH, TONNES, 7_410, PPM)
        self.naive.now = self.w.now

    def both(self, account: int | None, message: Any, expected: str) -> None:
        answer = self.w.auctions.handle(self.w.envelope(NO_ACCOUNT if account is None else account), message)
        got = answer.code.name if isinstance(answer, Refusal) else "ok"
        assert got == expected, (message, got, expected)

    def number(self, pick: int, *wanted: Stage) -> int:
        """An auction's number: an open one in a wanted stage mostly."""
        live = [n for n, a in self.w.auctions.auctions.items() if not wanted or a.stage in wanted]
        return live[pick % len(live)] if live and pick % 7 else pick % (self.w.auctions.next_auction + 1) + 1

    def some_bid(self, pick: int, right: bool) -> tuple[int, int, int]:
        """An auction, a bid of it, and its bidder (or somebody)."""
        number = self.number(pick, Stage.ANNOUNCED)
        found = self.w.auctions.auctions.get(number)
        bids = list(found.bids.values()) if found else []
        if not bids:
            return number, 1, pick % ACCOUNTS
        bid = bids[pick % len(bids)]
        return number, bid.number, bid.account if right else pick % ACCOUNTS

    @rule(seller=st.integers(0, SELLERS - 1), whole=st.integers(0, 4), uniform=flags, low=flags)
    def apply(self, seller: int, whole: int, uniform: bool, low: bool) -> None:
        quantity = (99_999, 100_000, 100_001, 150_000, 200_000)[whole]
        mode, reserve = "uniform" if uniform else "pay_as_bid", "minus_10" if low else "previous_close"
        message = AuctionApply(
            instrument="CEA21", quantity=quantity, date=20231101, seller=seller, waive=True, mode=mode, reserve=reserve
        )
        self.both(None, message, self.naive.apply(seller, quantity, mode, reserve))

    @rule(pick=picks, odd=st.integers(0, 9))
    def answer(self, pick: int, odd: int) -> None:
        number = self.number(pick, Stage.APPLIED)
        self.both(None, AuctionAnswer(auction=number, approve=odd > 0), self.naive.answer(number, odd > 0))

    def seller_of(self, number: int, odd: int) -> int | None:
        found = self.w.auctions.auctions.get(number)
        return None if odd == 0 else odd % ACCOUNTS if odd < 3 or found is None else found.seller

    @rule(pick=picks, odd=st.integers(0, 9))
    def freeze(self, pick: int, odd: int) -> None:
        number = self.number(pick, Stage.APPROVED)
        who = self.seller_of(number, odd)
        self.both(who, AuctionFreeze(auction=number), self.naive.freeze(number, who))

    @rule(pick=picks, odd=st.integers(0, 9))
    def withdraw(self, pick: int, odd: int) -> None:
        number = self.number(pick)
        who = self.seller_of(number, odd)
        self.both(who, AuctionWithdraw(auction=number), self.naive.withdraw(number, who))

    @rule(pick=picks, start=st.integers(0, 4), raises=flags, cancels=flags)
    def announce(self, pick: int, start: int, raises: bool, cancels: bool) -> None:
        number = self.number(pick, Stage.READY)
        opens = max(self.w.now, at("09:30")) + (start - 1) * MINUTE
        opens = max(opens, at("09:30"))
        window, smallest = (opens, opens + 10 * MINUTE), 100 if start % 2 else 1
        if window[1] > at("15:00"):
            return
        message = AuctionAnnounce(
            auction=number,
            opens=window[0],
            closes=window[1],
            raise_allowed=raises,
            cancel_allowed=cancels,
            bid_min=smallest,
        )
        self.both(None, message, self.naive.announce(number, window, raises, cancels, smallest))

    @rule(who=accounts, pick=picks, price=prices, quantity=quantities)
    def bid(self, who: int, pick: int, price: int, quantity: int) -> None:
        number = self.number(pick, Stage.ANNOUNCED)
        message = AuctionBid(auction=number, price=price, quantity=quantity)
        self.both(who, message, self.naive.bid(number, who, price, quantity))

    @rule(pick=picks, price=prices, quantity=quantities, right=flags)
    def raise_bid(self, pick: int, price: int, quantity: int, right: bool) -> None:
        number, bid, who = self.some_bid(pick, right)
        message = AuctionRaise(auction=number, bid=bid, price=price, quantity=quantity)
        self.both(who, message, self.naive.raise_bid(number, bid, who, price, quantity))

    @rule(pick=picks, right=flags)
    def cancel_bid(self, pick: int, right: bool) -> None:
        number, bid, who = self.some_bid(pick, right)
        self.both(who, AuctionCancelBid(auction=number, bid=bid), self.naive.cancel_bid(number, bid, who))

    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        number = self.number(pick)
        self.both(None, AuctionCancel(auction=number), self.naive.cancel(number))

    @rule(minutes=st.integers(0, 6), tick=flags)
    def time_passes(self, minutes: int, tick: bool) -> None:
        if self.w.now + minutes * MINUTE < at("14:59"):
            self.w.now += minutes * MINUTE
            self.naive.now = self.w.now
        if tick:
            self.both(None, AuctionTick(), self.naive.tick())

    @rule(odd=st.integers(0, 3))
    def halt(self, odd: int) -> None:
        self.w.market.market[0]["halted"] = self.naive.halted = odd == 0

    @rule()
    def snapshot_and_restore(self) -> None:
        data, calendar = self.w.auctions.dump(), self.w.auctions.calendar
        self.w.auctions = Auctions(self.w.market, calendar)
        self.w.auctions.load(data)
        assert self.w.auctions.dump() == data

    @invariant()
    def balances_bids_and_deals_are_the_same(self) -> None:
        w, naive = self.w, self.naive
        w.check_locks()
        VISITED.update(Stage[a["stage"].upper()] for a in naive.auctions)
        for account in naive.accounts:
            assert w.cash(account) == (naive.available(account), naive.locked_cash(account)), f"cash of {account}"
            held = naive.sellable(account), naive.bought(account), naive.locked_tonnes(account)
            assert w.tonnes(account) == held, f"allowances of {account}"
        for number, theirs in enumerate(naive.auctions, 1):
            mine = w.auctions.auctions.get(number)
            stage = mine.stage if mine else Stage(w.auctions.ended[number])
            assert stage.name.lower() == theirs["stage"], f"auction {number}"
            assert (stage in OPEN) == (mine is not None)
            if mine:
                bids = [(b.number, b.account, b.price, b.quantity) for b in mine.bids.values()]
                assert bids == [(b["number"], b["account"], b["price"], b["quantity"]) for b in theirs["bids"]]
        rows = w.market.deals[: int(w.market.market[0]["deals"])]
        got = [tuple(map(int, (r["buyer"], r["seller"], r["price"], r["quantity"]))) for r in rows]
        assert got == naive.deals


COMMON: dict[str, Any] = FIXED


def test_invented_auctions_agree_with_the_naive_model() -> None:
    run_state_machine_as_test(AuctionMachine, settings=settings(max_examples=15, stateful_step_count=40, **COMMON))


# Many bids at few prices: time decides, and a raise changes who wins.
CLOSE_PRICES = (7_500, 7_500, 7_500, 7_501, 7_410, 8_152)
BUSY_QUANTITIES = (30_000, 40_000, 60_001, 100)
# rule → its arguments and how often it is drawn
WEIGHTS: dict[str, tuple[dict[str, Any], int]] = {
    "apply": ({"seller": SELLERS, "whole": 5, "uniform": 2, "low": 2}, 5),
    "answer": ({"pick": 31, "odd": 10}, 8),
    "freeze": ({"pick": 31, "odd": 10}, 8),
    "withdraw": ({"pick": 31, "odd": 10}, 1),
    "announce": ({"pick": 31, "start": 5, "raises": 2, "cancels": 2}, 8),
    "bid": ({"who": ACCOUNTS, "pick": 31, "price": CLOSE_PRICES, "quantity": BUSY_QUANTITIES}, 30),
    "raise_bid": ({"pick": 31, "price": CLOSE_PRICES, "quantity": BUSY_QUANTITIES, "right": 2}, 16),
    "cancel_bid": ({"pick": 31, "right": 2}, 3),
    "time_passes": ({"minutes": 5, "tick": 2}, 12),
    "halt": ({"odd": 4}, 2),
    "cancel": ({"pick": 31}, 1),
    "snapshot_and_restore": ({}, 1),
}


def walk(seed: int, steps: int) -> list[tuple[int, int, int, int]]:
    """A busy day: the same rules, drawn by weight. Returns the deals."""
    draw, machine = random.Random(seed), AuctionMachine()
    names, weights = list(WEIGHTS), [weight for _, weight in WEIGHTS.values()]
    for _ in range(steps):
        name = draw.choices(names, weights)[0]
        drawn: dict[str, Any] = {}
        for what, among in WEIGHTS[name][0].items():
            value = draw.randrange(among) if isinstance(among, int) else draw.choice(among)
            drawn[what] = bool(value) if among == 2 and what != "seller" else value
        getattr(machine, name)(**drawn)
        machine.balances_bids_and_deals_are_the_same()
    return machine.naive.deals


def walks() -> int:
    return sum(len(walk(seed, 300)) for seed in range(10))


def test_busy_days_stand_in_every_stage_deal_and_agree_with_the_naive_model() -> None:
    VISITED.clear()
    assert walks() > 30
    assert set(Stage) - {Stage.NEW} == VISITED, "the days must stand in every stage to prove anything"


@pytest.mark.slow
def test_many_invented_auctions_agree_with_the_naive_model() -> None:
    run_state_machine_as_test(AuctionMachine, settings=settings(max_examples=100, stateful_step_count=60, **COMMON))
    for seed in range(100, 140):
        walk(seed, 300)


def a_raise_keeps_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A raise keeps the old bid's time."""
    real = Auctions._raise

    def keeps(self: Auctions, envelope: Any, m: AuctionRaise) -> Any:
        found = self.auctions.get(m.auction)
        old = found.bids[m.bid].seq if found and m.bid in found.bids else 0
        answer = real(self, envelope, m)
        if not isinstance(answer, Refusal):
            self.auctions[m.auction].bids[m.bid].seq = old
        return answer

    monkeypatch.setattr(Auctions, "_raise", keeps)


def always_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        machine_under_test, "allocate", lambda bids, offered, uniform: allocate(bids, offered, uniform=True)
    )


def no_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled auction keeps its bidders' cash."""
    key = Stage.ANNOUNCED, Move.CANCEL
    monkeypatch.setitem(AUCTION, key, (Stage.CANCELLED, (Do.RELEASE_SELLER,)))


@pytest.mark.parametrize("plant", [a_raise_keeps_its_time, always_uniform, no_release])
def test_planted_errors_in_rank_price_and_release_are_found(plant, monkeypatch) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        walks()
