"""The one-way auction (R10): each rule in one test, the state table's whole product, E9, a naive model."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from auction_world import SELLER, AuctionWorld, weekdays
from bulk_world import CASH, TONNES, at
from conftest import REPOSITORY

from engine import auction as auction_module
from engine.auction import Auctions
from engine.auction_allocation import Bid, allocate, settle
from engine.auction_messages import (
    AuctionAnnounce,
    AuctionAnnounced,
    AuctionAnswer,
    AuctionApply,
    AuctionBid,
    AuctionBidResult,
    AuctionBidState,
    AuctionCancel,
    AuctionCancelBid,
    AuctionFreeze,
    AuctionRaise,
    AuctionResult,
    AuctionSold,
    AuctionTick,
    AuctionWithdraw,
)
from engine.auction_states import AUCTION, DIAGRAMS, OPEN, SELLER_LOCKED, Do, Move, Stage
from engine.calendar import TradingCalendar
from engine.codes import Code
from engine.lane import Refusal
from engine.market import AUCTION as AUCTION_DEAL
from engine.records import BUY, NO_ACCOUNT
from engine.rules import QUANTITY_MAX_T
from engine.state_diagram import render

E9_BIDS = [(1, 7_500, 60_000), (2, 7_450, 30_000), (3, 7_450, 30_000)]


@pytest.mark.parametrize(("mode", "prices"), [("uniform", [7_450] * 3), ("pay_as_bid", [7_500, 7_450, 7_450])])
def test_e9_price_then_time_and_the_marginal_bid_is_filled_in_part(mode: str, prices: list[int]) -> None:
    w = AuctionWorld()
    number, before = w.into(Stage.ANNOUNCED, mode=mode), w.totals()
    assert w.auctions.band(w.auctions.auctions[number]) == (7_410, 8_151)
    for account, price, quantity in E9_BIDS:
        w.bid(account, number, price, quantity)
    w.check_locks()
    notices = w.close()
    results = [n.message for n in notices if isinstance(n.message, AuctionBidResult)]
    assert [r.filled for r in results] == [60_000, 30_000, 10_000]
    assert [r.price for r in results] == prices
    amounts = [p * q for p, q in zip(prices, (60_000, 30_000, 10_000), strict=True)]
    for account, amount, filled in zip((1, 2, 3), amounts, (60_000, 30_000, 10_000), strict=True):
        assert w.cash(account) == (CASH - amount, 0) and w.tonnes(account) == (TONNES, filled, 0)
    assert w.cash(SELLER) == (CASH + sum(amounts), 0) and w.tonnes(SELLER) == (TONNES - 100_000, 0, 0)
    row = w.market.instruments[0]
    assert (row["auction_volume"], row["auction_amount"]) == (100_000, sum(amounts))
    assert (row["open"], row["high"], row["low"], row["volume"], row["bulk_volume"]) == (0, 0, 0, 0, 0)  # R10.5
    assert w.totals() == before and not w.auctions.auctions


def test_an_under_subscribed_auction_deals_and_the_rest_goes_back_to_the_seller_r10_5() -> None:
    w = AuctionWorld()
    number = w.into(Stage.ANNOUNCED, quantity=200_000)
    w.bid(1, number, 8_000, 50_000)
    w.bid(2, number, 7_410, 1)
    notices = w.close()
    sold = next(n for n in notices if isinstance(n.message, AuctionSold))
    assert (sold.account, sold.message.sold, sold.message.amount) == (SELLER, 50_001, 50_001 * 7_410)
    assert w.tonnes(SELLER) == (TONNES - 50_001, 0, 0)
    result = next(n for n in notices if isinstance(n.message, AuctionResult))
    assert result.public and (result.message.sold, result.message.price_low, result.message.deals) == (50_001, 7_410, 2)


def test_an_auction_without_a_bid_is_unsold_and_everything_is_released() -> None:
    w = AuctionWorld()
    number = w.into(Stage.ANNOUNCED)
    notices = w.close()
    assert next(n for n in notices if isinstance(n.message, AuctionResult)).message.state == "unsold"
    assert w.tonnes(SELLER) == (TONNES, 0, 0)
    assert w.refused(1, AuctionBid(auction=number, price=7_500, quantity=1)).code == Code.AUCTION_CLOSED


@pytest.mark.parametrize(("reserve", "low"), [("previous_close", 7_410), ("minus_10", 6_669)])
def test_bids_lie_between_reserve_and_cap_r10_3(reserve: str, low: int) -> None:
    w = AuctionWorld()
    number = w.into(Stage.ANNOUNCED, reserve=reserve)
    for price in (low - 1, 8_152):
        refusal = w.refused(1, AuctionBid(auction=number, price=price, quantity=1))
        assert (refusal.code, refusal.field) == (Code.AUCTION_PRICE_OUT_OF_BAND, "price") and "81.51" in refusal.text
    for price in (low, 8_151):
        w.bid(1, number, price, 1)


def test_bids_are_sealed_until_the_close() -> None:
    w = AuctionWorld()
    number = w.into(Stage.ANNOUNCED, cancel_allowed=True)
    for message in (
        AuctionBid(auction=number, price=7_500, quantity=10),
        AuctionRaise(auction=number, bid=1, price=7_600, quantity=10),
        AuctionCancelBid(auction=number, bid=1),
        AuctionBid(auction=number, price=7_700, quantity=10),
    ):
        notices = w.send(1, message)
        told = {(n.account, n.public) for n in notices[1:]}
        assert told == {(1, False), (NO_ACCOUNT, False)}, "the bidder and the operators, nobody else"
        assert all(isinstance(n.message, AuctionBidState) for n in notices[1:])
    for message in (
        AuctionRaise(auction=number, bid=2, price=7_800, quantity=10),
        AuctionCancelBid(auction=number, bid=2),
    ):
        there, not_there = w.refused(2, message), w.refused(2, type(message)(**{**fields(message), "bid": 77}))
        assert there == not_there, "another's bid looks like none"
    for notice in w.close():
        if notice.account != NO_ACCOUNT and isinstance(notice.message, AuctionBidResult):
            assert notice.account == 1
        if notice.public:
            assert not hasattr(notice.message, "account") and not hasattr(notice.message, "price_bid")


def fields(message) -> dict:
    return {name: getattr(message, name) for name in message.__struct_fields__}


def test_a_bid_can_be_raised_and_then_ranks_by_the_time_of_the_raise() -> None:
    w = AuctionWorld()
    number = w.into(Stage.ANNOUNCED)
    first, _ = w.bid(1, number, 7_500, 60_000), w.bid(2, number, 7_600, 60_000)
    for price, quantity in ((7_499, 60_000), (7_500, 60_000), (7_600, 59_999)):
        raised = AuctionRaise(auction=number, bid=first, price=price, quantity=quantity)
        assert w.refused(1, raised).code == Code.BAD_FIELD
    w.ok(1, AuctionRaise(auction=number, bid=first, price=7_600, quantity=70_000))
    assert w.cash(1)[1] == 7_600 * 70_000
    results = {n.account: n.message.filled for n in w.close() if isinstance(n.message, AuctionBidResult)}
    assert results == {1: 40_000, 2: 60_000}
    w = AuctionWorld()
    number = w.into(Stage.ANNOUNCED, raise_allowed=False)
    bid = w.bid(1, number, 7_500, 10)
    assert w.refused(1, AuctionRaise(auction=number, bid=bid, price=7_600, quantity=10)).code == Code.WRONG_STATE
    assert w.refused(1, AuctionCancelBid(auction=number, bid=bid)).code == Code.WRONG_STATE


def test_bids_lock_cash_in_full_and_losers_are_released_at_the_close() -> None:
    w = AuctionWorld(trading_ppm=333, settlement_ppm=77)
    number, before = w.into(Stage.ANNOUNCED), w.totals()
    w.market.accounts[2]["available"] = 7_500 * 100
    assert w.refused(2, AuctionBid(auction=number, price=7_500, quantity=100)).code == Code.INSUFFICIENT_CASH
    w.market.accounts[2]["available"] = CASH
    w.bid(1, number, 8_000, 100_000)
    w.bid(2, number, 7_999, 100_000)
    w.check_locks()
    w.close()
    assert w.cash(2) == (CASH, 0) and w.tonnes(2) == (TONNES, 0, 0) and w.totals() == before


@pytest.mark.parametrize(
    ("clock", "is_open"), [("09:59:59", False), ("10:00", True), ("10:29:59", True), ("10:30", False)]
)
def test_bids_are_taken_inside_the_announced_window_only(clock: str, is_open: bool) -> None:
    w = AuctionWorld()
    number = w.into(Stage.ANNOUNCED)
    w.now = at(clock)
    message = AuctionBid(auction=number, price=7_500, quantity=10)
    if is_open:
        w.ok(1, message)
    else:
        refusal = w.refused(1, message)
        assert refusal.code == Code.AUCTION_CLOSED and "10:00:00–10:30:00" in refusal.text


def test_the_seller_does_not_bid_and_sizes_are_bounded() -> None:
    w = AuctionWorld()
    number = w.into(Stage.ANNOUNCED, bid_min=100)
    assert w.refused(SELLER, AuctionBid(auction=number, price=7_500, quantity=100)).code == Code.SELF_DEAL
    for quantity in (99, 100_001):
        assert w.refused(1, AuctionBid(auction=number, price=7_500, quantity=quantity)).code == Code.AUCTION_QUANTITY
    small = AuctionApply(instrument="CEA21", quantity=99_999, date=20231201)
    assert w.refused(1, small).code == Code.AUCTION_QUANTITY  # R4.3


def test_the_notice_periods_of_r10_4_count_working_days() -> None:
    w = AuctionWorld()
    days = weekdays()
    today = days.index(20231101)
    late = AuctionApply(instrument="CEA21", quantity=100_000, date=days[today + 9])
    refusal = w.refused(1, late)
    assert (refusal.code, refusal.field) == (Code.BAD_FIELD, "date") and "10 are needed" in refusal.text
    assert w.refused(1, AuctionApply(instrument="CEA21", quantity=100_000, date=20231202)).field == "date"  # Saturday
    far = AuctionApply(instrument="CEA21", quantity=100_000, date=20240301)
    assert "calendar ends" in w.refused(1, far).text
    date = days[today + 10]
    number = w.ok(1, AuctionApply(instrument="CEA21", quantity=100_000, date=date))["auction"]
    found = w.auctions.auctions[number]
    assert (found.answer_by, found.freeze_by) == (days[today + 3], days[today + 5])
    w.ok(NO_ACCOUNT, AuctionAnswer(auction=number, approve=True))
    w.now = at("15:00", found.freeze_by)
    assert not any(isinstance(n.message, AuctionResult) for n in w.auctions.tick(w.envelope()))
    assert number in w.auctions.auctions, "on the last day it is not too late"
    w.now = at("09:00", days[today + 6])
    assert w.refused(1, AuctionFreeze(auction=number)).code == Code.WRONG_STATE
    notices = w.auctions.tick(w.envelope())
    assert {(n.account, n.message.state) for n in notices} == {(1, "withdrawn"), (NO_ACCOUNT, "withdrawn")}
    assert not w.auctions.auctions and w.tonnes(1) == (TONNES, 0, 0)


def test_a_late_answer_of_the_exchange_is_marked_and_does_not_harm_the_seller() -> None:
    w = AuctionWorld()
    days = weekdays()
    number = w.ok(1, AuctionApply(instrument="CEA21", quantity=100_000, date=days[-1]))["auction"]
    w.now = at("09:00", days[days.index(20231101) + 4])
    assert w.ok(NO_ACCOUNT, AuctionAnswer(auction=number, approve=True))["late"] is True


def test_frozen_allowances_stay_frozen_over_the_days_until_the_auction() -> None:
    w = AuctionWorld()
    days = weekdays()
    number = w.ok(1, AuctionApply(instrument="CEA21", quantity=100_000, date=days[-1]))["auction"]
    w.ok(NO_ACCOUNT, AuctionAnswer(auction=number, approve=True))
    w.ok(1, AuctionFreeze(auction=number))
    w.now = at("15:00")
    assert w.auctions.close_day(w.envelope()) == []
    assert w.tonnes(1) == (TONNES - 100_000, 0, 100_000)
    again = Auctions(w.market, TradingCalendar(days))
    again.load(w.auctions.dump())
    again.check()
    assert again.dump() == w.auctions.dump()


def test_only_an_operator_waives_notice_periods_or_names_another_seller() -> None:
    w = AuctionWorld()
    for more, field in (({"waive": True}, "waive"), ({"seller": 2}, "seller")):
        refusal = w.refused(1, AuctionApply(instrument="CEA21", quantity=100_000, date=20231201, **more))
        assert (refusal.code, refusal.field) == (Code.NOT_AUTHORISED, field)
    number = w.into(Stage.APPLIED)
    for message in (
        AuctionAnswer(auction=number, approve=True),
        AuctionAnnounce(auction=number, opens=1, closes=2),
        AuctionCancel(auction=number),
        AuctionTick(),
    ):
        assert w.refused(SELLER, message).code == Code.NOT_AUTHORISED
    assert w.refused(2, AuctionWithdraw(auction=number)) == w.refused(2, AuctionWithdraw(auction=99))


def test_a_halt_stops_bids_and_the_close_waits_for_its_end() -> None:
    w = AuctionWorld()
    number = w.into(Stage.ANNOUNCED, cancel_allowed=True)
    bid = w.bid(1, number, 7_500, 10)
    w.market.market[0]["halted"] = 1
    assert w.refused(2, AuctionBid(auction=number, price=7_500, quantity=10)).code == Code.MARKET_HALTED
    w.ok(1, AuctionCancelBid(auction=number, bid=bid))
    w.market.market[0]["halted"] = 0
    w.bid(1, number, 7_500, 10)
    w.market.market[0]["halted"] = 1
    w.close()
    assert number in w.auctions.auctions
    w.market.market[0]["halted"] = 0
    w.close()
    assert number not in w.auctions.auctions and w.tonnes(1)[1] == 10


def test_a_day_that_closes_in_a_halt_cancels_its_auction_and_releases_everybody() -> None:
    w = AuctionWorld()
    number = w.into(Stage.ANNOUNCED)
    w.bid(1, number, 7_500, 10)
    w.market.market[0]["halted"] = 1
    w.now = at("15:00")
    notices = w.auctions.close_day(w.envelope())
    assert any(n.public and isinstance(n.message, AuctionResult) and n.message.state == "cancelled" for n in notices)
    w.check_locks()
    assert w.cash(1) == (CASH, 0) and w.tonnes(SELLER) == (TONNES, 0, 0)


def test_the_announcement_is_public_and_names_the_window() -> None:
    w = AuctionWorld()
    number = w.into(Stage.READY)
    for opens, closes in ((at("08:00"), at("10:00")), (at("10:00"), at("10:00")), (at("14:00"), at("15:00") + 1)):
        refusal = w.refused(NO_ACCOUNT, AuctionAnnounce(auction=number, opens=opens, closes=closes))
        assert (refusal.code, refusal.field) == (Code.BAD_FIELD, "opens")
    notices = w.send(NO_ACCOUNT, AuctionAnnounce(auction=number, opens=at("10:00"), closes=at("10:30")))
    public = [n.message for n in notices if n.public]
    assert len(public) == 1 and isinstance(public[0], AuctionAnnounced)
    assert w.auctions.next_deadline() == at("10:30")


def test_what_may_be_open_is_bounded(monkeypatch) -> None:
    w = AuctionWorld()
    monkeypatch.setattr(auction_module, "BIDS_PER_ACCOUNT_MAX", 2)
    monkeypatch.setattr(auction_module, "BIDS_MAX", 3)
    monkeypatch.setattr(auction_module, "AUCTIONS_PER_SELLER_MAX", 2)
    monkeypatch.setattr(auction_module, "AUCTIONS_MAX", 3)
    number = w.into(Stage.ANNOUNCED)
    message = AuctionBid(auction=number, price=7_500, quantity=10)
    w.ok(1, message), w.ok(1, message)
    assert w.refused(1, message).code == Code.LIMIT_REACHED
    w.ok(2, message)
    assert w.refused(3, message).code == Code.CAPACITY
    w.into(Stage.APPLIED)
    apply = AuctionApply(instrument="CEA21", quantity=100_000, date=weekdays()[-1])
    own = AuctionApply(instrument="CEA21", quantity=100_000, date=weekdays()[-1], seller=SELLER)
    assert w.refused(SELLER, own).code == Code.LIMIT_REACHED
    w.ok(1, apply)
    assert w.refused(2, apply).code == Code.CAPACITY


# --- the table -------------------------------------------------------------------------------------------------


def test_the_seller_is_locked_in_exactly_the_stages_that_say_so() -> None:
    for (stage, move), (to, actions) in AUCTION.items():
        before, after = stage in SELLER_LOCKED, to in SELLER_LOCKED
        assert (Do.LOCK_SELLER in actions) == (after and not before), (stage, move)
        assert (Do.RELEASE_SELLER in actions) == (before and not after), (stage, move)
        assert stage in (*OPEN, Stage.NEW)


COMMANDS = {
    Move.APPROVE: lambda n: (NO_ACCOUNT, AuctionAnswer(auction=n, approve=True)),
    Move.REFUSE: lambda n: (NO_ACCOUNT, AuctionAnswer(auction=n, approve=False)),
    Move.FREEZE: lambda n: (SELLER, AuctionFreeze(auction=n)),
    Move.ANNOUNCE: lambda n: (NO_ACCOUNT, AuctionAnnounce(auction=n, opens=at("11:00"), closes=at("11:10"))),
    Move.BID: lambda n: (2, AuctionBid(auction=n, price=7_500, quantity=10)),
    Move.RAISE: lambda n: (1, AuctionRaise(auction=n, bid=1, price=7_600, quantity=10)),
    Move.CANCEL_BID: lambda n: (1, AuctionCancelBid(auction=n, bid=1)),
    Move.CLOSE_WITH_BIDS: lambda n: (NO_ACCOUNT, AuctionTick()),
    Move.WITHDRAW: lambda n: (SELLER, AuctionWithdraw(auction=n)),
    Move.CANCEL: lambda n: (NO_ACCOUNT, AuctionCancel(auction=n)),
}
CASES = [(stage, move) for stage in list(Stage)[1:] for move in COMMANDS]


def staged(stage: Stage) -> tuple[AuctionWorld, int]:
    """A world with an auction in a stage, with one bid of account 1 where it is announced."""
    w = AuctionWorld(trading_ppm=300)
    number = w.into(min(stage, Stage.ANNOUNCED), cancel_allowed=True)
    if stage == Stage.ANNOUNCED or stage in (Stage.DEALT, Stage.CANCELLED):
        w.bid(1, number, 7_500, 10)
    if stage in (Stage.DEALT, Stage.UNSOLD):
        w.close()
        w.now = at("10:10")
    elif stage == Stage.CANCELLED:
        w.ok(NO_ACCOUNT, AuctionCancel(auction=number))
    elif stage in (Stage.REFUSED, Stage.WITHDRAWN):
        w = AuctionWorld()
        number = w.into(Stage.APPLIED)
        w.ok(*COMMANDS[Move.REFUSE if stage == Stage.REFUSED else Move.WITHDRAW](number))
    return w, number


@pytest.mark.parametrize(("stage", "move"), CASES, ids=lambda x: x.name)
def test_the_machine_does_what_the_table_says_for_every_stage_and_command(stage: Stage, move: Move) -> None:
    w, number = staged(stage)
    before = w.totals()
    if move == Move.CLOSE_WITH_BIDS:
        w.now = at("10:30")
    answer = w.send(*COMMANDS[move](number))
    expected = AUCTION.get((stage, move))
    if expected:
        assert not isinstance(answer, Refusal), answer
        found = w.auctions.auctions.get(number)
        assert (found.stage if found else Stage(w.auctions.ended[number])) == expected[0]
    elif move == Move.CLOSE_WITH_BIDS:
        assert answer[0].message.data == {"ended": 0}, "a tick finds nothing to close"
    else:
        assert isinstance(answer, Refusal)
        assert answer.code in (Code.WRONG_STATE, Code.UNKNOWN_AUCTION, Code.AUCTION_CLOSED, Code.NOT_AUTHORISED)
    w.check_locks()
    assert w.totals() == before


PLANTS = [
    (stage, move, action)
    for (stage, move), (_, actions) in AUCTION.items()
    for action in actions
    if move in COMMANDS and action not in (Do.LOCK_BID, Do.RELOCK_BID, Do.RELEASE_BID)
]


@pytest.mark.parametrize(("stage", "move", "action"), PLANTS, ids=lambda x: x.name)
def test_planted_leaving_out_one_action_of_the_table_is_found(
    stage: Stage, move: Move, action: Do, monkeypatch
) -> None:
    w, number = staged(stage)
    to, actions = AUCTION[stage, move]
    monkeypatch.setitem(AUCTION, (stage, move), (to, tuple(a for a in actions if a != action)))

    def drive() -> None:
        if move == Move.CLOSE_WITH_BIDS:
            w.now = at("10:30")
        w.ok(*COMMANDS[move](number))
        w.check_locks()

    with pytest.raises(AssertionError):
        drive()


def test_the_diagram_in_the_documentation_is_that_of_the_table() -> None:
    page = Path(REPOSITORY, "docs", "auction.md").read_text(encoding="utf-8")
    assert render(page, DIAGRAMS) == page, "run python -m engine.auction_states"


# --- the naive model and the batch settlement --------------------------------------------------------------------


def naive(bids: list[Bid], offered: int, uniform: bool) -> dict[int, tuple[int, int]]:
    """Tonne by tonne: each goes to the best bid that still wants one. bid → (tonnes, price)."""
    got = {b.number: 0 for b in bids}
    last = 0
    for _ in range(offered):
        wanting = [b for b in bids if got[b.number] < b.quantity]
        if not wanting:
            break
        best = min(wanting, key=lambda b: (-b.price, b.seq))
        got[best.number] += 1
        last = best.price
    return {b.number: (got[b.number], last if uniform else b.price) for b in bids if got[b.number]}


def random_bids(draw: random.Random, count: int, accounts: int) -> list[Bid]:
    times = draw.sample(range(1_000), count)
    return [
        Bid(
            n + 1,
            draw.randrange(1, accounts),
            draw.choice((7_410, 7_411, 7_500, 8_151)),
            draw.randrange(1, 9),
            times[n],
        )
        for n in range(count)
    ]


def disagreements(rule) -> int:
    """How many of 300 random auctions a rule allocates otherwise than tonne by tonne."""
    found = 0
    for seed in range(300):
        draw = random.Random(seed)
        bids, offered, uniform = random_bids(draw, draw.randrange(0, 12), 6), draw.randrange(1, 40), seed % 2 == 0
        awards = rule(bids, offered, uniform=uniform)
        found += {bid.number: (filled, price) for bid, filled, price in awards} != naive(bids, offered, uniform)
    return found


def test_the_allocation_is_that_of_handing_out_tonne_by_tonne() -> None:
    assert disagreements(allocate) == 0


def test_sums_beyond_int64_are_allocated_like_small_ones() -> None:
    """Other markets' rules may have no bound on a bid: 3,000 of the largest are more than 2^64 t."""
    bids = [Bid(n, n, 7_500, QUANTITY_MAX_T, n) for n in range(1, 3_001)]
    awards = allocate(bids, QUANTITY_MAX_T + 5, uniform=True)
    assert [(bid.number, filled) for bid, filled, _ in awards] == [(1, QUANTITY_MAX_T), (2, 5)]


def test_planted_an_allocation_by_number_instead_of_time_or_at_the_highest_price_is_found() -> None:
    def by_number(bids, offered, *, uniform):
        again = [Bid(b.number, b.account, b.price, b.quantity, b.number) for b in bids]
        return allocate(again, offered, uniform=uniform)

    def at_highest(bids, offered, *, uniform):
        awards = allocate(bids, offered, uniform=uniform)
        return [(bid, filled, awards[0][0].price) for bid, filled, _ in awards] if uniform else awards

    assert disagreements(by_number) > 50 and disagreements(at_highest) > 50


@pytest.mark.parametrize("ppm", [(0, 0), (333, 77), (500_000, 500_000)])
def test_the_batch_settlement_leaves_the_same_bytes_as_one_deal_after_the_other(ppm: tuple[int, int]) -> None:
    for seed in range(20):
        worlds = [AuctionWorld(6, trading_ppm=ppm[0], settlement_ppm=ppm[1]) for _ in range(2)]
        for w in worlds:
            draw = random.Random(seed)
            bids = random_bids(draw, 12, 6)
            assert w.market.lock_sell(SELLER, 0, 40) == Code.OK
            for bid in bids:
                code, bid.hold.cash = w.market.lock_buy(bid.account, 0, bid.quantity, bid.price)
                bid.hold.quantity = bid.quantity
                assert code == Code.OK
            awards = allocate(bids, 40, uniform=seed % 2 == 0)
            if w is worlds[0]:
                assert settle(w.market, 0, SELLER, bids, awards, 5, 6).first == 1
                assert all(b.hold.cash == b.hold.quantity == 0 for b in bids)
                continue
            for bid, filled, price in awards:
                w.market.settle_deal(AUCTION_DEAL, 0, price, filled, bid.account, SELLER, seq=5, time_ns=6)
                bid.hold.cash -= price * filled + sum(w.market.fees(price * filled))
                bid.hold.quantity -= filled
            for bid in bids:
                w.market.release_buy(bid.account, 0, bid.hold.quantity, bid.hold.cash)
        one, two = worlds
        for name in ("accounts", "holdings", "instruments", "deals", "market"):
            assert np.array_equal(getattr(one.market, name), getattr(two.market, name)), name


def test_random_auctions_conserve_cash_and_allowances_with_raises_and_cancels() -> None:
    for seed in range(30):
        draw, w = random.Random(seed), AuctionWorld(6, trading_ppm=333, settlement_ppm=71)
        mode = draw.choice(("uniform", "pay_as_bid"))
        number, before = w.into(Stage.ANNOUNCED, mode=mode, cancel_allowed=True), w.totals()
        for _ in range(40):
            account, price, quantity = draw.randrange(6), draw.randrange(7_400, 8_160), draw.randrange(1, 60_000)
            bid = draw.randrange(1, 20)
            message = draw.choice(
                (
                    AuctionBid(auction=number, price=price, quantity=quantity),
                    AuctionRaise(auction=number, bid=bid, price=price, quantity=quantity),
                    AuctionCancelBid(auction=number, bid=bid),
                )
            )
            w.send(account, message)
            w.check_locks()
        again = Auctions(w.market, None)
        again.load(w.auctions.dump())
        w.auctions = again
        w.close()
        assert w.totals() == before and not w.market.accounts["locked"].any()
        assert BUY == 0
