"""Rules of the listed market by hand, under the national profile: few orders, figures worked out on paper.

The proof by difference holds two programs against each other; here the rulebook's own sentences are held against one.
"""

from __future__ import annotations

import msgspec
import pytest
from small_market import Seen, SmallMarket, of_kind

from engine import messages as msg
from engine import records as r
from engine.codes import Code, Reason
from engine.exchange import Exchange
from engine.market import DEAL_BUYER_TAKES, NOT_OPENED
from engine.rules import Fees, Policy, Rules, Weights

DATE = 20251203
OPEN, MORNING_END, AFTERNOON, CLOSE = Rules.national().boundaries_ns(DATE)
REFERENCE = 10_000  # limits 90.00 and 110.00
LEVELS = 4_096  # a band of 2,001 ticks, tomorrow of more


def national(**changes: object) -> SmallMarket:
    """A national market in its first nanosecond of the morning."""
    market = SmallMarket(msgspec.structs.replace(Rules.national(), **changes), reference=REFERENCE, levels=LEVELS)
    market.exchange.advance(OPEN)
    return market


def is_refused(market: SmallMarket, message: msg.Message) -> bool:
    """Is a message of the exchange itself answered with a refusal?"""
    return any(isinstance(notice, msg.Refused) for _, notice in market.exchange.execute(message).notices())


def only(events: list[Seen]) -> tuple[str, int]:
    (event,) = events
    return event.kind, event.reason


def test_one_order_is_of_1_to_99999_tonnes_and_an_account_may_have_many_r4_1_r4_4() -> None:
    market = national()
    for side in (r.BUY, r.SELL):
        account = side
        price = 9_500 if side == r.BUY else 10_500
        assert only(market.order(side, price, 99_999, account)) == ("accepted", 0)
        assert only(market.order(side, price, 99_999, account)) == ("accepted", 0)
        assert only(market.order(side, price, 1, account)) == ("accepted", 0)
        assert only(market.order(side, price, 100_000, account)) == ("rejected", Code.QUANTITY_TOO_LARGE)
        assert only(market.order(side, price, 0, account)) == ("rejected", Code.QUANTITY_TOO_SMALL)


def test_an_order_reaches_the_best_five_levels_that_stand_when_it_arrives_r8_2_d12() -> None:
    market = national()
    for level in range(6):
        market.sell(10_000 + level, 10)
    market.sell(10_000, 10, account=2)  # a second order at a level does not make it two
    events = market.buy(10_005, 100)
    assert [(e.price, e.quantity) for e in of_kind(events, "maker")] == [
        (10_000, 10), (10_000, 10), (10_001, 10), (10_002, 10), (10_003, 10), (10_004, 10),
    ]  # fmt: skip
    assert (events[-1].kind, events[-1].quantity, events[-1].reason) == ("cancelled", 40, Reason.BEYOND_BEST_FIVE)
    assert market.asks() == [(10_005, 10, 1)] and market.bids() == []


def test_what_the_best_five_left_rests_where_it_crosses_nothing_r8_2() -> None:
    market = national()
    for level in range(6):
        market.sell(10_000 + level, 10)
    events = market.buy(10_004, 60)
    assert len(of_kind(events, "maker")) == 5 and of_kind(events, "cancelled") == []
    assert market.bids() == [(10_004, 10, 1)] and market.asks() == [(10_005, 10, 1)]


def test_fill_or_kill_must_be_filled_inside_the_best_five_d12() -> None:
    market = national()
    for level in range(6):
        market.sell(10_000 + level, 10)
    assert only(market.buy(10_005, 51, order_type=r.FOK)) == ("rejected", Code.NOT_FILLABLE)
    assert len(of_kind(market.buy(10_005, 50, order_type=r.FOK), "maker")) == 5


def test_an_order_stays_over_lunch_can_be_cancelled_then_and_lapses_at_the_close_r5_3_d15() -> None:
    market = national()
    stays, goes = (market.buy(9_900, 10)[0].order_id for _ in range(2))
    market.exchange.advance(MORNING_END)
    assert only(market.buy(9_900, 1)) == ("rejected", Code.MARKET_BREAK)
    assert market.bids() == [(9_900, 20, 2)]
    assert only(market.cancel(goes)) == ("cancelled", Reason.BY_OWNER)
    market.exchange.advance(AFTERNOON)
    assert [e.order_id for e in of_kind(market.sell(9_900, 4), "maker")] == [stays]
    market.exchange.advance(CLOSE)
    assert only(market.cancel(stays)) == ("rejected", Code.MARKET_CLOSED)
    events = market.exchange.execute(msg.CloseDay()).events
    lapsed = events[events["kind"] == r.CANCELLED]
    assert [(int(e["order_id"]), int(e["quantity"]), int(e["reason"])) for e in lapsed] == [(stays, 6, Reason.CLOSE)]
    assert market.exchange.market.accounts[0]["locked"] == 0 and market.bids() == []


@pytest.mark.parametrize("order_type", [r.LIMIT, r.IOC, r.POST_ONLY, r.BEST_FIVE])
def test_each_boundary_instant_belongs_to_the_phase_that_begins_d2(order_type: int) -> None:
    market = SmallMarket(Rules.national(), reference=REFERENCE, levels=LEVELS)
    closed, pause = ("rejected", Code.MARKET_CLOSED), ("rejected", Code.MARKET_BREAK)
    seen = []
    for at in (OPEN - 1, OPEN, MORNING_END - 1, MORNING_END, AFTERNOON - 1, AFTERNOON, CLOSE - 1, CLOSE):
        market.exchange.advance(at)
        first = market.buy(9_900, 1, order_type=order_type)[0]
        seen.append((first.kind, first.reason))
    taken = ("accepted", 0)
    assert seen == [closed, taken, taken, pause, pause, taken, taken, closed]


def test_the_reject_of_an_order_before_the_open_or_in_the_break_says_when_the_market_opens_d15() -> None:
    market = SmallMarket(Rules.national(), reference=REFERENCE, levels=LEVELS)
    seen = {}
    for at in (OPEN - 1, MORNING_END, AFTERNOON - 1, CLOSE):
        market.exchange.advance(at)
        seen[at] = market.buy(9_900, 1)[0].leaves
    assert seen == {OPEN - 1: OPEN, MORNING_END: AFTERNOON, AFTERNOON - 1: AFTERNOON, CLOSE: 0}
    market.exchange.execute(msg.CloseDay())
    assert market.buy(9_900, 1)[0].leaves == 0


def test_what_was_bought_today_is_sold_tomorrow_and_proceeds_buy_today_but_leave_later_r5_5() -> None:
    market = SmallMarket(Rules.national(), reference=REFERENCE, levels=LEVELS, cash=1_000_000, allowances=100)
    exchange = market.exchange
    exchange.advance(OPEN)
    market.sell(10_000, 100, account=1)
    market.buy(10_000, 100, account=0)
    assert only(market.sell(10_000, 101, account=0)) == ("rejected", Code.BOUGHT_TODAY)
    assert only(market.sell(10_000, 200, account=0)) == ("rejected", Code.BOUGHT_TODAY)
    assert only(market.sell(10_000, 201, account=0)) == ("rejected", Code.INSUFFICIENT_ALLOWANCES)
    assert only(market.sell(10_500, 100, account=0)) == ("accepted", 0)  # what it had before
    assert only(market.buy(9_900, 202, account=1)) == ("accepted", 0)  # 1,999,800 fen: proceeds are in it
    market.send(r.MASS_CANCEL, account=1, instrument=r.ANY_INSTRUMENT, side=r.ANY_SIDE)
    assert is_refused(market, msg.Withdraw(account=1, amount=1_000_001, document="w1"))
    exchange.advance(CLOSE)
    exchange.execute(msg.CloseDay())
    exchange.execute(msg.SettleDay(date=DATE, digest="x"))
    assert not is_refused(market, msg.Withdraw(account=1, amount=2_000_000, document="w2"))
    exchange.execute(msg.RollDay(date=20251204))
    exchange.advance(Rules.national().boundaries_ns(20251204)[0])
    assert only(market.sell(10_500, 200, account=0)) == ("accepted", 0)


def test_open_high_low_and_close_are_of_listed_deals_and_a_tie_goes_up_r6_3_r6_4_r6_6() -> None:
    market = national()
    for price, quantity in ((10_050, 1), (10_101, 1), (9_970, 2)):
        market.sell(price, quantity)
        market.buy(price, quantity)
    row = market.exchange.market.instruments[0]
    assert [int(row[n]) for n in ("open", "high", "low", "last")] == [10_050, 10_101, 9_970, 9_970]
    market.exchange.advance(CLOSE)
    notices = [n for _, n in market.exchange.execute(msg.CloseDay()).notices()]
    (vintage,) = next(n for n in notices if isinstance(n, msg.DayClosed)).vintages
    assert (vintage.close, vintage.change_bp) == (10_023, 23)  # 40,091 / 4 = 10,022.75; 0.23 %
    assert (vintage.open, vintage.high, vintage.low, vintage.volume) == (10_050, 10_101, 9_970, 4)


def test_the_composite_rounds_a_tie_up_at_every_deal_r7_3_r7_4() -> None:
    market = national(weights=(Weights(from_date=20210716, weights={"X": 1, "Y": 1}),))
    market.exchange.execute(msg.ListInstrument(code="Y", reference=10_001))
    row = market.exchange.market.market[0]
    market.sell(10_000, 1)
    market.buy(10_000, 1)  # (10,000 + 10,001) / 2
    assert [int(row[f"composite_{n}"]) for n in ("open", "high", "low", "last")] == [10_001] * 4
    market.sell(9_903, 1)
    market.buy(9_903, 1)  # 9,952
    market.sell(10_004, 1)
    market.buy(10_004, 1)  # 10,002.5
    assert [int(row[f"composite_{n}"]) for n in ("open", "high", "low", "last")] == [10_001, 10_003, 9_952, 10_003]


def test_nobody_trades_with_himself_and_what_was_dealt_before_stays_r8_5_d13() -> None:
    market = national()
    market.sell(10_000, 5, account=1)
    own = market.sell(10_000, 5, account=0)[0].order_id
    market.sell(10_001, 5, account=1)
    events = market.buy(10_001, 12, account=0)
    assert [(e.price, e.quantity) for e in of_kind(events, "maker")] == [(10_000, 5)]
    assert (events[-1].kind, events[-1].quantity, events[-1].reason) == ("cancelled", 7, Reason.SELF_TRADE)
    assert market.asks() == [(10_000, 5, 1), (10_001, 5, 1)]
    assert only(market.cancel(own, account=0)) == ("cancelled", Reason.BY_OWNER)


def test_replace_names_the_total_with_what_is_filled_and_a_failed_one_changes_nothing_d11() -> None:
    market = national()
    order = market.sell(10_000, 10)[0].order_id
    market.buy(10_000, 4)
    before = market.asks()
    for bad in ({"price": 11_001, "quantity": 10}, {"price": 10_000, "quantity": 100_000}):
        assert market.send(r.REPLACE, account=1, order_id=order, **bad)[0].kind == "rejected"
        assert market.asks() == before == [(10_000, 6, 1)]
    (event,) = market.send(r.REPLACE, account=1, order_id=order, price=10_000, quantity=9)
    assert (event.kind, event.quantity, event.leaves) == ("replaced", 9, 5)
    (event,) = market.send(r.REPLACE, account=1, order_id=order, price=10_000, quantity=4)
    assert (event.kind, event.reason) == ("cancelled", Reason.REPLACED_TO_FILLED)


@pytest.mark.parametrize(("ppm", "quantity", "fees"), [(500, 3, 15), (333, 7, 23), (1_000_000 // 3, 1, 3_333)])
def test_fees_round_on_the_orders_running_total_and_not_per_fill_d16(ppm: int, quantity: int, fees: int) -> None:
    market = national(fees=(Fees(from_date=20210716, trading_ppm=ppm),))
    for _ in range(quantity):
        market.sell(10_000, 1)
    market.buy(10_000, quantity)
    assert market.exchange.market.accounts[0]["fees_today"] == fees  # half up of 10,000 × quantity × ppm / 10^6
    assert market.exchange.market.accounts[0]["locked"] == 0


def test_a_sellers_fees_never_exceed_its_proceeds_and_a_tie_of_a_fee_goes_up_d16() -> None:
    fees = (Fees(from_date=20210716, trading_ppm=500_000, settlement_ppm=500_000),)
    market = national(fees=fees)
    market.sell(9_999, 1)
    market.buy(9_999, 1)
    buyer, seller = (market.exchange.market.accounts[i] for i in (0, 1))
    assert (buyer["fees_today"], seller["fees_today"]) == (10_000, 9_999)  # 4,999.5 goes up twice
    assert (buyer["available"], seller["available"]) == (10**12 - 19_999, 10**12)


@pytest.mark.parametrize("order_type", [r.LIMIT, r.IOC])
def test_a_halt_of_the_market_is_told_before_one_of_the_vintage_and_cancels_still_work_d15(order_type: int) -> None:
    market = national()
    order = market.buy(9_900, 10)[0].order_id
    market.exchange.execute(msg.Halt(instrument="X"))
    assert only(market.buy(9_900, 1, order_type=order_type)) == ("rejected", Code.INSTRUMENT_HALTED)
    market.exchange.execute(msg.Halt())
    assert only(market.buy(9_900, 1, order_type=order_type)) == ("rejected", Code.MARKET_HALTED)
    assert only(market.send(r.REDUCE, order_id=order, quantity=4)) == ("reduced", 0)
    assert only(market.cancel(order)) == ("cancelled", Reason.BY_OWNER)


def test_a_replace_is_held_against_position_limit_and_sell_cap_as_a_new_order_is_r14_1_r14_4() -> None:
    market = national()
    have = int(market.exchange.market.holdings[0, 0]["sellable"])
    market.exchange.execute(msg.SetLimits(account=0, instrument="X", position_max=have + 10))
    market.exchange.execute(msg.SetLimits(account=1, instrument="X", sell_max=10))
    assert only(market.buy(9_900, 11)) == ("rejected", Code.POSITION_LIMIT)
    assert only(market.sell(10_100, 11)) == ("rejected", Code.SELL_CAP)
    buy, sell = market.buy(9_900, 9)[0].order_id, market.sell(10_100, 9)[0].order_id
    for account, order, price, code in ((0, buy, 9_900, Code.POSITION_LIMIT), (1, sell, 10_100, Code.SELL_CAP)):
        terms = {"account": account, "order_id": order, "price": price}
        assert only(market.send(r.REPLACE, **terms, quantity=11)) == ("rejected", code)
        assert only(market.send(r.REPLACE, **terms, quantity=10)) == ("replaced", 0)
    assert market.bids() == [(9_900, 10, 1)] and market.asks() == [(10_100, 10, 1)]


@pytest.mark.parametrize(("reach", "second"), [("best_level", "rejected"), ("best_five", "accepted")])
def test_a_listing_is_taken_at_its_price_and_may_cross_as_far_as_the_taker_reaches_r8_3_r8_4_d14(
    reach: str, second: str
) -> None:
    market = national(policies={"X": Policy(matching="listing", reach=reach)})
    market.buy(10_100, 5, account=2)
    asks = [market.sell(10_000 + level, 10)[0].order_id for level in range(6)]
    assert market.bids() == [(10_100, 5, 1)], "new orders never cross by themselves"
    events = market.send(r.TAKE, account=0, order_id=asks[0], quantity=4)
    assert [(e.kind, e.price, e.quantity) for e in events[1:3]] == [("maker", 10_000, 4), ("taker", 10_000, 4)]
    assert market.send(r.TAKE, account=0, order_id=asks[4], quantity=1)[0].kind == second
    assert only(market.send(r.TAKE, account=0, order_id=asks[5], quantity=1)) == ("rejected", Code.OUT_OF_REACH)
    assert only(market.send(r.TAKE, account=1, order_id=asks[0], quantity=1)) == ("rejected", Code.SELF_TRADE)


def test_a_request_number_counts_in_its_session_only_and_session_0_has_none() -> None:
    market = national()

    def buy(session: int, request_no: int) -> tuple[str, int]:
        terms = {"price": 9_900, "quantity": 1, "session": session, "request_no": request_no}
        return only(market.send(r.NEW, **terms))

    assert [buy(1, 5), buy(1, 5), buy(1, 4)] == [("accepted", 0)] + 2 * [("rejected", Code.DUPLICATE_REQUEST)]
    assert [buy(2, 5), buy(0, 5), buy(0, 5), buy(0, 4)] == 4 * [("accepted", 0)]
    cancel = {"kind": r.CANCEL, "order_id": 99, "session": 2, "request_no": 6}
    assert only(market.send(**cancel)) == ("rejected", Code.ORDER_NOT_OPEN)  # a reject uses its number up (D4)
    assert only(market.send(**cancel)) == ("rejected", Code.DUPLICATE_REQUEST)


def test_the_composite_can_not_be_listed_or_traded_r1_4() -> None:
    market = national()
    assert is_refused(market, msg.ListInstrument(code="COMCEA", reference=10_000))
    assert "COMCEA" not in market.exchange.market.codes


def test_the_day_after_has_a_fresh_reference_limits_and_figures_r6_1_r6_4() -> None:
    market = national()
    market.sell(10_900, 10)
    market.buy(10_900, 10)
    exchange: Exchange = market.exchange
    exchange.advance(CLOSE)
    for message in (msg.CloseDay(), msg.SettleDay(date=DATE, digest="x"), msg.RollDay(date=20251204)):
        exchange.execute(message)
    row = exchange.market.instruments[0]
    assert [int(row[n]) for n in ("reference", "limit_low", "limit_high")] == [10_900, 9_810, 11_990]
    assert [int(row[n]) for n in ("open", "high", "low", "volume", "amount")] == [0] * 5


def statuses(market: SmallMarket, order: int) -> list[int]:
    """What a new order at a glance, one that is checked line by line, and a replace of account 0 are answered."""
    return [
        market.buy(9_900, 1)[0].reason,
        market.buy(9_900, 1, order_type=r.IOC)[0].reason,
        market.send(r.REPLACE, order_id=order, price=9_900, quantity=11)[0].reason,
    ]


@pytest.mark.parametrize("order_type", [r.LIMIT, r.IOC])
def test_a_price_limit_itself_is_taken_and_a_fen_beyond_it_is_not_r6_1(order_type: int) -> None:
    market = national()
    for side in (r.BUY, r.SELL):
        assert market.order(side, 9_000, 1, side, order_type)[0].kind == "accepted"
        assert market.order(side, 11_000, 1, side, order_type)[0].kind == "accepted"
        assert only(market.order(side, 8_999, 1, side, order_type)) == ("rejected", Code.PRICE_BELOW_LIMIT)
        assert only(market.order(side, 11_001, 1, side, order_type)) == ("rejected", Code.PRICE_ABOVE_LIMIT)


def test_limits_lie_on_the_tick_and_a_tie_goes_up_r6_2() -> None:
    rules = msgspec.structs.replace(Rules.national(), tick_fen=5)
    row = SmallMarket(rules, reference=1_025, levels=LEVELS).exchange.market.instruments[0]
    assert [int(row[n]) for n in ("limit_low", "limit_high")] == [925, 1_130]  # 922.5 and 1,127.5


def test_ticks_and_lots_hold_for_new_orders_replaces_and_reduces() -> None:
    market = SmallMarket(Rules.generic(tick_fen=5, lot_t=2))
    order = market.buy(1_000, 10)[0].order_id
    for terms, code in (((1_001, 2), Code.BAD_TICK), ((1_000, 3), Code.BAD_LOT)):
        price, quantity = terms
        assert only(market.buy(price, quantity)) == ("rejected", code)
        changed = market.send(r.REPLACE, order_id=order, price=price, quantity=quantity)
        assert only(changed) == ("rejected", code)
    for quantity, code in ((3, Code.BAD_LOT), (0, Code.QUANTITY_TOO_SMALL)):
        assert only(market.send(r.REDUCE, order_id=order, quantity=quantity)) == ("rejected", code)
    assert only(market.send(r.REDUCE, order_id=order, quantity=4)) == ("reduced", 0)
    assert market.bids() == [(1_000, 6, 1)]


def test_who_or_what_may_only_cancel_neither_orders_nor_replaces_but_reduces_and_cancels_r14_1() -> None:
    market = national()
    order = market.buy(9_900, 10)[0].order_id
    exchange = market.exchange
    for stop, go, code in (
        (msg.CancelOnly(on=True), msg.CancelOnly(on=False), Code.CANCEL_ONLY),
        (msg.SetAccountStatus(account=0, status=2), None, Code.ACCOUNT_CANCEL_ONLY),
        (msg.SetAccountStatus(account=0, status=3), None, Code.ACCOUNT_SUSPENDED),
    ):
        exchange.execute(stop)
        assert statuses(market, order) == [code] * 3
        assert only(market.send(r.REDUCE, order_id=order, quantity=1)) == ("reduced", 0)
        assert market.buy(9_800, 1, account=2)[0].reason == (code if go is not None else 0)
        exchange.execute(go or msg.SetAccountStatus(account=0, status=1, by="a", second="b"))
    exchange.advance(MORNING_END)
    assert statuses(market, order) == [Code.MARKET_BREAK] * 3
    assert only(market.cancel(order)) == ("cancelled", Reason.BY_OWNER)


def test_a_position_is_all_that_is_held_locked_leaving_bought_and_asked_for_r14_1() -> None:
    market = SmallMarket(Rules.national(), reference=REFERENCE, levels=LEVELS, allowances=100)
    market.exchange.advance(OPEN)
    market.sell(10_500, 10, account=0)
    market.sell(10_000, 5, account=1)
    market.buy(10_000, 5)
    market.exchange.execute(msg.TransferOut(account=0, instrument="X", quantity=7, transfer="out"))
    market.buy(9_950, 2)
    asked = market.buy(9_900, 3)[0].order_id  # 83 to sell, 10 offered, 7 leaving, 5 bought, 5 asked for: 110
    market.exchange.execute(msg.SetLimits(account=0, instrument="X", position_max=112))
    terms = {"order_id": asked, "price": 9_900}
    for order_type in (r.LIMIT, r.IOC):
        assert only(market.buy(9_800, 3, order_type=order_type)) == ("rejected", Code.POSITION_LIMIT)
    assert only(market.send(r.REPLACE, **terms, quantity=6)) == ("rejected", Code.POSITION_LIMIT)
    assert only(market.send(r.REPLACE, **terms, quantity=5)) == ("replaced", 0)
    assert only(market.buy(9_800, 1)) == ("rejected", Code.POSITION_LIMIT)
    market.exchange.execute(msg.SetLimits(account=0, instrument="X", position_max=50))
    assert only(market.send(r.REPLACE, **terms, quantity=4)) == ("replaced", 0)  # what gets smaller may
    assert only(market.send(r.REPLACE, **{**terms, "price": 9_901}, quantity=4)) == ("replaced", 0)
    market.exchange.execute(msg.SetLimits(account=0, instrument="X", position_max=111))
    market.cancel(asked)
    assert market.buy(9_800, 5)[0].reason == Code.POSITION_LIMIT and market.buy(9_800, 4)[0].reason == 0


def test_a_sell_cap_counts_what_was_sold_today_and_what_is_offered_r14_4() -> None:
    market = national()
    market.exchange.execute(msg.SetLimits(account=1, instrument="X", sell_max=10))
    market.sell(10_000, 4)
    market.buy(10_000, 3)  # 3 sold, 1 offered
    for order_type in (r.LIMIT, r.IOC):
        assert only(market.sell(10_100, 7, order_type=order_type)) == ("rejected", Code.SELL_CAP)
    offered = market.sell(10_100, 6)[0].order_id
    assert only(market.sell(10_100, 1)) == ("rejected", Code.SELL_CAP)
    market.exchange.execute(msg.SetLimits(account=1, instrument="X", sell_max=2))
    terms = {"account": 1, "order_id": offered, "price": 10_101}
    assert only(market.send(r.REPLACE, **terms, quantity=7)) == ("rejected", Code.SELL_CAP)
    assert only(market.send(r.REPLACE, **terms, quantity=5)) == ("replaced", 0)


def test_an_account_has_so_many_open_orders_and_each_that_ends_makes_room() -> None:
    market = national(open_orders_max=2)
    full = ("rejected", Code.OPEN_ORDERS_LIMIT)
    first, second = (market.buy(9_900, 10)[0].order_id for _ in range(2))
    for order_type in (r.LIMIT, r.IOC):
        assert only(market.buy(9_900, 10, order_type=order_type)) == full
    market.sell(9_900, 10)  # fills the first
    assert market.buy(9_900, 1, order_type=r.IOC)[-1].reason == Reason.IOC_REST  # a taker that ends
    third = market.buy(9_900, 10)[0].order_id
    assert only(market.buy(9_900, 10)) == full
    market.send(r.REDUCE, order_id=second, quantity=10)
    fourth = market.buy(9_900, 10)[0].order_id
    assert only(market.buy(9_900, 10)) == full
    assert only(market.cancel(third)) == only(market.cancel(fourth)) == ("cancelled", Reason.BY_OWNER)
    assert market.exchange.market.accounts[0]["open_orders"] == 0
    assert only(market.cancel(first)) == ("rejected", Code.ORDER_NOT_OPEN)


def test_the_exchange_has_so_many_orders_and_takes_as_many() -> None:
    market = SmallMarket(Rules.national(), reference=REFERENCE, levels=LEVELS, orders=2)
    market.exchange.advance(OPEN)
    assert [market.buy(9_900, 1)[0].reason for _ in range(3)] == [0, 0, Code.ORDER_POOL_FULL]


def test_the_lock_of_a_buy_covers_its_fees_to_the_fen_r5_7() -> None:
    rules = msgspec.structs.replace(
        Rules.national(), fees=(Fees(from_date=20210716, trading_ppm=500, settlement_ppm=300),)
    )
    market = SmallMarket(rules, reference=REFERENCE, levels=LEVELS, cash=30_024)
    market.exchange.advance(OPEN)
    row = market.exchange.market.accounts[0]
    assert only(market.buy(10_001, 3)) == ("rejected", Code.INSUFFICIENT_CASH)
    order = market.buy(10_000, 3)[0].order_id  # 30,000 and 15 and 9
    assert (row["available"], row["locked"]) == (0, 30_024)
    market.sell(10_000, 1)
    assert (row["available"], row["locked"], row["fees_today"]) == (0, 20_016, 8)
    assert only(market.send(r.REPLACE, order_id=order, price=10_001, quantity=3)) == (
        "rejected",
        Code.INSUFFICIENT_CASH,
    )
    market.send(r.REDUCE, order_id=order, quantity=1)
    assert (row["available"], row["locked"]) == (10_008, 10_008)
    market.cancel(order)
    assert (row["available"], row["locked"]) == (20_016, 0)
    seller = market.exchange.market.accounts[1]
    assert (seller["available"], seller["proceeds_today"]) == (30_024 + 9_992, 9_992)
    head = market.exchange.market.market[0]
    assert (head["trading_fees"], head["settlement_fees"]) == (10, 6)


def test_what_stays_locked_rounds_its_fees_on_the_running_total_too_d16() -> None:
    market = national(fees=(Fees(from_date=20210716, trading_ppm=333),))
    row = market.exchange.market.accounts[0]
    order = market.buy(10_000, 3)[0].order_id  # 30,000 and 9.99
    assert row["locked"] == 30_010
    market.sell(10_000, 1)  # 3.33 are paid; 9.99 less 3 are still to come
    assert (row["locked"], row["fees_today"]) == (20_007, 3)
    market.send(r.REDUCE, order_id=order, quantity=1)  # 6.66 less 3
    assert row["locked"] == 10_004
    market.cancel(order)
    assert (row["locked"], row["available"]) == (0, 10**12 - 10_003)
    market.buy(10_000, 2)  # in the same slot, with a total of its own
    assert row["locked"] == 20_007
    market.sell(10_000, 1)
    assert (row["locked"], row["fees_today"]) == (10_004, 6)


def test_the_composite_weighs_its_vintages_and_opens_with_any_of_them_r7_1_r7_3() -> None:
    market = national(weights=(Weights(from_date=20210716, weights={"Y": 3, "X": 1}),))
    market.exchange.execute(msg.ListInstrument(code="Y", reference=10_001))
    row = market.exchange.market.market[0]
    market.exchange.market.holdings[1, 1]["sellable"] = 100

    def deal(instrument: int, price: int) -> list[int]:
        for side in (r.SELL, r.BUY):
            terms = {"account": side, "instrument": instrument, "side": side, "price": price, "quantity": 1}
            market.send(r.NEW, **terms)
        return [int(row[f"composite_{name}"]) for name in ("open", "high", "low", "last")]

    assert deal(0, 10_100) == [10_026, 10_026, 10_026, 10_026]  # (10,100 + 3 × 10,001) / 4 = 10,025.75
    assert deal(1, 9_901) == [10_026, 10_026, 9_951, 9_951]  # (10,100 + 3 × 9,901) / 4 = 9,950.75
    assert deal(0, 10_103) == [10_026, 10_026, 9_951, 9_952]  # 9,951.5
    assert deal(1, 10_031) == [10_026, 10_049, 9_951, 10_049]


@pytest.mark.parametrize(("of_y", "price", "close"), [(1, 10_000, 10_001), (3, 10_102, 10_026)])
def test_the_composite_closes_from_weighted_closes_and_a_tie_goes_up_r7_1_r7_4(
    of_y: int, price: int, close: int
) -> None:
    market = national(weights=(Weights(from_date=20210716, weights={"X": 1, "Y": of_y}),))
    market.exchange.execute(msg.ListInstrument(code="Y", reference=10_001))
    market.sell(price, 1)
    market.buy(price, 1)
    market.exchange.advance(CLOSE)
    market.exchange.execute(msg.CloseDay())
    row = market.exchange.market.market[0]
    assert row["composite_close"] == close  # 10,000.5; (10,102 + 30,003) / 4 = 10,026.25


def test_a_deal_in_a_vintage_without_weight_opens_the_composite_and_does_not_move_it_r7_3() -> None:
    market = national(weights=(Weights(from_date=20210716, weights={"Y": 1}),))
    market.exchange.execute(msg.ListInstrument(code="Y", reference=10_001))
    market.sell(10_500, 1)
    market.buy(10_500, 1)
    row = market.exchange.market.market[0]
    assert [int(row[f"composite_{name}"]) for name in ("open", "high", "low", "last")] == [10_001] * 4


@pytest.mark.parametrize(
    ("mode", "own_left", "dealt", "reason"),
    [(0, 5, 0, Reason.SELF_TRADE), (1, 0, 5, Reason.IOC_REST), (2, 0, 0, Reason.SELF_TRADE)],
)
def test_each_account_chooses_which_of_its_own_orders_gives_way_r8_5_d13(
    mode: int, own_left: int, dealt: int, reason: int
) -> None:
    market = national()
    market.exchange.market.accounts[0]["self_trade"] = mode
    market.sell(10_000, 5, account=0)
    market.sell(10_000, 5, account=1)
    kill = market.buy(10_000, 5, order_type=r.FOK)
    if mode != 1:  # its own order stands before the other: judged before anything is touched
        assert only(kill) == ("rejected", Code.NOT_FILLABLE)
        kill = market.buy(10_000, 8, order_type=r.IOC)
        assert kill[-1].reason == reason
    assert sum(e.quantity for e in of_kind(kill, "maker")) == dealt
    left = [(10_000, own_left + 5 - dealt, 1 + (own_left > 0) - (dealt > 0))]
    assert market.asks() == [level for level in left if level[1]]


def test_levels_that_hold_own_orders_only_count_among_the_best_five_d12() -> None:
    market = national()
    market.exchange.market.accounts[0]["self_trade"] = 1  # its resting orders give way
    for level in range(5):
        market.sell(10_000 + level, 1, account=0)
    market.sell(10_005, 10, account=1)
    assert only(market.buy(10_005, 1, order_type=r.FOK)) == ("rejected", Code.NOT_FILLABLE)
    events = market.buy(10_005, 1)
    assert (events[-1].reason, market.asks(), market.bids()) == (Reason.BEYOND_BEST_FIVE, [(10_005, 10, 1)], [])


def test_a_post_only_order_never_takes_when_it_enters_and_when_it_is_replaced() -> None:
    market = national()
    market.sell(10_000, 5)
    would = ("rejected", Code.POST_ONLY_WOULD_TRADE)
    assert only(market.buy(10_000, 5, order_type=r.POST_ONLY)) == would
    order = market.buy(9_999, 5, order_type=r.POST_ONLY)[0].order_id
    assert only(market.send(r.REPLACE, order_id=order, price=10_000, quantity=5)) == would
    assert only(market.send(r.REPLACE, order_id=order, price=9_998, quantity=5)) == ("replaced", 0)


def test_a_best_five_order_without_a_price_goes_to_the_limit_of_its_side() -> None:
    market = national()
    market.buy(9_000, 3, account=0)
    assert [e.price for e in of_kind(market.order(r.SELL, 0, 5, 1, r.BEST_FIVE), "maker")] == [9_000]
    market.sell(11_000, 3, account=1)
    assert [e.price for e in of_kind(market.order(r.BUY, 0, 5, 0, r.BEST_FIVE), "maker")] == [11_000]


def test_an_order_that_is_replaced_by_its_equal_or_by_more_goes_to_the_end_of_its_level_d11() -> None:
    market = national()
    for quantity, keeps in ((4, True), (5, False), (6, False)):
        first, second = (market.sell(10_000, 5)[0].order_id for _ in range(2))
        market.send(r.REPLACE, account=1, order_id=first, price=10_000, quantity=quantity)
        assert [e.order_id for e in of_kind(market.buy(10_000, 1), "maker")] == [first if keeps else second]
        market.send(r.MASS_CANCEL, account=1, instrument=r.ANY_INSTRUMENT, side=r.ANY_SIDE)


def test_an_order_is_stale_after_its_time_and_not_at_it() -> None:
    market = national()
    terms = {"price": 9_900, "quantity": 1, "flags": r.EXPIRES}
    assert only(market.send(r.NEW, **terms, order_id=OPEN)) == ("accepted", 0)
    assert only(market.send(r.NEW, **terms, order_id=OPEN - 1)) == ("rejected", Code.STALE)


def test_a_mass_cancel_takes_the_orders_of_its_account_its_vintage_and_its_side() -> None:
    market = national()
    market.exchange.execute(msg.ListInstrument(code="Y", reference=REFERENCE))
    market.exchange.market.holdings[0, 1]["sellable"] = 100

    def orders() -> list[tuple[int, int, int, int]]:
        names = ("account", "instrument", "side", "session")
        return [tuple(int(row[name]) for name in names) for row in market.exchange.open_orders()]  # type: ignore[misc]

    everything = [(account, instrument, side) for account in (0, 2) for instrument in (0, 1) for side in (0, 1)]
    market.exchange.market.holdings[2, 1]["sellable"] = 100
    for account, instrument, side in everything:
        terms = {"side": side, "price": 9_900 + 200 * side, "quantity": 1, "session": 1 + side}
        market.send(r.NEW, account=account, instrument=instrument, **terms)
    market.send(r.MASS_CANCEL, account=0, instrument=1, side=r.BUY)
    assert [o[:3] for o in orders()] == [o for o in everything if o != (0, 1, 0)]
    market.send(r.MASS_CANCEL, account=0, instrument=r.ANY_INSTRUMENT, side=r.SELL)
    assert [o[:3] for o in orders()] == [o for o in everything if o[0] == 2 or o == (0, 0, 0)]
    market.exchange.execute(msg.CancelOrders(session=2, reason=8))
    assert [o[3] for o in orders()] == [1, 1, 1]


def test_a_replace_moves_an_order_to_the_session_that_sends_it_d8() -> None:
    market = national()
    order = market.send(r.NEW, price=9_900, quantity=2, session=1)[0].order_id
    market.send(r.REPLACE, order_id=order, price=9_900, quantity=1, session=2)
    market.exchange.execute(msg.CancelOrders(session=1, reason=8))
    assert market.bids() == [(9_900, 1, 1)]
    market.exchange.execute(msg.CancelOrders(session=2, reason=8))
    assert market.bids() == []


def test_nobody_changes_or_cancels_anothers_order_or_one_that_is_gone() -> None:
    market = national()
    order = market.buy(9_900, 5)[0].order_id
    for kind in (r.CANCEL, r.REDUCE, r.REPLACE):
        assert only(market.send(kind, account=2, order_id=order, price=9_900, quantity=1)) == (
            "rejected",
            Code.ORDER_NOT_OPEN,
        )
    market.cancel(order)
    market.buy(9_900, 5)  # has the slot now
    for kind in (r.CANCEL, r.REDUCE, r.REPLACE):
        assert only(market.send(kind, order_id=order, price=9_900, quantity=1)) == ("rejected", Code.ORDER_NOT_OPEN)
    assert market.bids() == [(9_900, 5, 1)]


@pytest.mark.parametrize("order_type", [r.LIMIT, r.IOC])
def test_an_account_that_nobody_opened_can_do_nothing_r2_1(order_type: int) -> None:
    market = national()
    market.exchange.market.accounts[3]["status"] = NOT_OPENED
    assert only(market.buy(9_900, 1, 3, order_type)) == ("rejected", Code.UNKNOWN_ACCOUNT)
    for kind in (r.CANCEL, r.REDUCE, r.REPLACE, r.MASS_CANCEL):
        assert only(market.send(kind, account=3, order_id=1, price=9_900, quantity=1))[1] == Code.UNKNOWN_ACCOUNT


def test_a_taker_is_held_to_sizes_means_and_bounds_as_any_order_r4_1_r8_3() -> None:
    market = national(policies={"X": Policy(matching="listing")})
    listing = market.sell(10_000, 99_999)[0].order_id
    take = {"account": 0, "order_id": listing}
    assert only(market.send(r.TAKE, **take, quantity=100_000)) == ("rejected", Code.QUANTITY_TOO_LARGE)
    assert only(market.send(r.TAKE, **take, quantity=0)) == ("rejected", Code.QUANTITY_TOO_SMALL)
    have = int(market.exchange.market.holdings[0, 0]["sellable"])
    market.exchange.execute(msg.SetLimits(account=0, instrument="X", position_max=have + 3))
    assert only(market.send(r.TAKE, **take, quantity=4)) == ("rejected", Code.POSITION_LIMIT)
    assert market.send(r.TAKE, **take, quantity=3)[-1].kind == "taker"
    assert market.asks() == [(10_000, 99_996, 1)]
    small = market.sell(10_000, 2)[0].order_id
    rest = market.send(r.TAKE, account=2, order_id=small, quantity=5)[-1]
    assert (rest.kind, rest.quantity, rest.reason) == ("cancelled", 3, Reason.TAKEN_OUT)


def test_a_deal_says_who_took_and_lists_the_fees_of_both() -> None:
    market = national()
    market.sell(10_000, 1)
    market.buy(10_000, 1)
    market.buy(10_000, 1)
    market.sell(10_000, 1)
    deals = market.exchange.market.deals[:2]
    assert deals["flags"].tolist() == [DEAL_BUYER_TAKES, 0] and deals["number"].tolist() == [1, 2]
    assert deals["buyer"].tolist() == [0, 0] and deals["seller"].tolist() == [1, 1]
