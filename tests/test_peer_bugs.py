"""The wrong things that other matching engines were seen to do, a test by name for each (issue 3).

tests/test_difference_mutants.py plants most of them into this kernel and shows that these tests fail then.
"""

from __future__ import annotations

import msgspec
import pytest
from small_market import Seen, SmallMarket, of_kind, with_accounts
from streams import ODD_FEES

from engine import messages as msg
from engine import records as r
from engine.codes import Code, Reason
from engine.prices import fee_fen
from engine.rules import AMOUNT_MAX_FEN, QUANTITY_MAX_T, TURNOVER_MAX_FEN, Policy, Rules


def test_the_best_price_is_alive_after_the_best_order_is_cancelled() -> None:
    market = SmallMarket()
    best = market.sell(1_000, 5)[0].order_id
    market.sell(1_002, 7)
    market.cancel(best, account=1)
    assert market.asks() == [(1_002, 7, 1)]
    events = market.buy(1_001, 3)
    assert [e.kind for e in events] == ["accepted"], "nothing stands at or below 1,001 any more"
    fills = of_kind(market.buy(1_002, 3), "maker")
    assert [(e.price, e.quantity) for e in fills] == [(1_002, 3)]


def test_the_best_price_is_alive_after_the_last_order_of_a_side_is_cancelled() -> None:
    market = SmallMarket()
    market.cancel(market.buy(990, 5)[0].order_id)
    assert market.bids() == []
    assert [e.kind for e in market.sell(980, 5)] == ["accepted"]
    assert [e.kind for e in market.buy(970, 1)] == ["accepted"]


def test_a_cancel_after_the_fill_is_refused_and_changes_nothing() -> None:
    market = SmallMarket()
    maker = market.sell(1_000, 5)[0].order_id
    taker = market.buy(1_000, 5)[0].order_id
    before = market.exchange.state_hash()
    for order_id, account in ((maker, 1), (taker, 0)):
        (event,) = market.cancel(order_id, account)
        assert (event.kind, event.reason) == ("rejected", Code.ORDER_NOT_OPEN)
    market.exchange.market.market["seq"] -= 2
    assert market.exchange.state_hash() == before, "a refused cancel changed the state"


def test_a_cancel_of_a_partly_filled_order_takes_only_what_is_left() -> None:
    market = SmallMarket(with_accounts())
    maker = market.sell(1_000, 5)[0].order_id
    market.buy(1_000, 3)
    (event,) = market.cancel(maker, account=1)
    assert (event.kind, event.quantity, event.leaves) == ("cancelled", 2, 0)
    assert market.exchange.market.holdings[1, 0]["locked"] == 0
    assert market.exchange.market.holdings[1, 0]["sellable"] == 10**9 - 3


@pytest.mark.parametrize(("maker_side", "limits"), [(r.SELL, (1_000, 1_050)), (r.BUY, (1_000, 950))])
def test_a_deal_is_made_at_the_resting_price_and_never_at_the_takers(maker_side: int, limits: tuple[int, int]) -> None:
    market = SmallMarket(with_accounts())
    market.order(maker_side, limits[0], 5, account=1)
    events = market.order(1 - maker_side, limits[1], 5, account=0)
    assert [e.price for e in events if e.kind in ("maker", "taker")] == [1_000, 1_000]
    cash = market.exchange.market.accounts["available"]
    buyer, seller = (0, 1) if maker_side == r.SELL else (1, 0)
    assert (cash[buyer], cash[seller]) == (10**12 - 5_000, 10**12 + 5_000)


@pytest.mark.parametrize("order_type", [r.IOC, r.BEST_FIVE])
def test_the_rest_of_an_immediate_order_does_not_rest(order_type: int) -> None:
    market = SmallMarket(with_accounts())
    market.sell(1_000, 5)
    events = market.buy(1_010, 8, order_type=order_type)
    assert (events[-1].kind, events[-1].quantity, events[-1].reason) == ("cancelled", 3, Reason.IOC_REST)
    assert market.bids() == market.asks() == []
    assert market.exchange.market.accounts[0]["locked"] == 0
    (event,) = market.cancel(events[0].order_id)
    assert event.reason == Code.ORDER_NOT_OPEN


def makers_of(events: list[Seen]) -> list[int]:
    return [e.order_id for e in of_kind(events, "maker")]


@pytest.mark.parametrize("gone", range(5))
def test_a_cancel_in_the_queue_does_not_change_the_order_of_the_others(gone: int) -> None:
    market = SmallMarket()
    ids = [market.sell(1_000, 1)[0].order_id for _ in range(5)]
    market.cancel(ids.pop(gone), account=1)
    assert makers_of(market.buy(1_000, 4)) == ids, "first in, first out, whoever left"


def test_many_cancels_in_the_queue_do_not_change_the_order_of_the_others() -> None:
    market = SmallMarket()
    ids = [market.sell(1_000, 1)[0].order_id for _ in range(50)]
    for order_id in ids[1::3]:
        market.cancel(order_id, account=1)
    left = [i for at, i in enumerate(ids) if at % 3 != 1]
    late = market.sell(1_000, 1)[0].order_id  # takes a freed slot, not a freed place
    assert makers_of(market.buy(1_000, 50)) == [*left, late]


def test_a_partly_filled_maker_keeps_its_place() -> None:
    market = SmallMarket()
    first = market.sell(1_000, 10)[0].order_id
    second = market.sell(1_000, 10)[0].order_id
    assert makers_of(market.buy(1_000, 4)) == [first]
    assert makers_of(market.buy(1_000, 4)) == [first]
    assert makers_of(market.buy(1_000, 4)) == [first, second]


def test_a_reduced_order_keeps_its_place_and_an_enlarged_one_does_not() -> None:
    market = SmallMarket()
    a, b, c = (market.sell(1_000, 10)[0].order_id for _ in range(3))
    market.send(r.REDUCE, account=1, order_id=a, quantity=4)
    market.send(r.REPLACE, account=1, order_id=b, price=1_000, quantity=11)
    assert makers_of(market.buy(1_000, 27)) == [a, c, b]


def test_fill_or_kill_looks_at_every_level_within_its_limit() -> None:
    market = SmallMarket()
    for price in (1_000, 1_001, 1_002):
        market.sell(price, 4)
    refused = market.buy(1_002, 13, order_type=r.FOK)
    assert [(e.kind, e.reason) for e in refused] == [("rejected", Code.NOT_FILLABLE)]
    assert market.asks() == [(1_000, 4, 1), (1_001, 4, 1), (1_002, 4, 1)], "a refusal touches nothing"
    refused = market.buy(1_001, 9, order_type=r.FOK)
    assert refused[0].reason == Code.NOT_FILLABLE, "what stands beyond the limit does not count"
    filled = market.buy(1_002, 12, order_type=r.FOK)
    assert [(e.price, e.quantity) for e in of_kind(filled, "maker")] == [(1_000, 4), (1_001, 4), (1_002, 4)]


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_fill_or_kill_does_not_count_own_orders(mode: int) -> None:
    market = SmallMarket(with_accounts())
    market.exchange.market.accounts[0]["self_trade"] = mode
    market.sell(1_000, 4, account=1)
    own = market.sell(1_000, 4, account=0)[0].order_id
    market.sell(1_001, 4, account=1)
    refused = market.buy(1_001, 9, order_type=r.FOK)
    assert [(e.kind, e.reason) for e in refused] == [("rejected", Code.NOT_FILLABLE)]
    events = market.buy(1_001, 8, order_type=r.FOK)
    if mode == 1:  # own orders step aside: eight of others' tonnes are there
        assert sum(e.quantity for e in of_kind(events, "taker")) == 8
        assert [e.order_id for e in of_kind(events, "cancelled")] == [own]
    else:  # the first own order stops it
        assert [(e.kind, e.reason) for e in events] == [("rejected", Code.NOT_FILLABLE)]
        assert sum(e.quantity for e in of_kind(market.buy(1_001, 4, order_type=r.FOK), "taker")) == 4


def test_a_sweep_through_thirty_thousand_orders_does_not_recurse() -> None:
    depth = 30_000
    market = SmallMarket(orders=depth + 1)
    sell = {"kind": r.NEW, "account": 1, "side": r.SELL, "price": 1_000, "quantity": 1}
    market.send_all([{**sell, "price": 1_000 + at % 900} for at in range(depth)])
    events = market.buy(1_999, depth)
    assert len(events) == 1 + 2 * depth
    assert events[-1].leaves == 0
    assert market.asks() == market.bids() == []


@pytest.mark.parametrize("event_capacity", [6, 7, 8, 9, 10, 31])
def test_output_that_is_full_in_the_middle_of_a_sweep_goes_on_exactly_there(event_capacity: int) -> None:
    def sweep(room: int) -> tuple[list[Seen], int]:
        market = SmallMarket(with_accounts(), event_capacity=room, deals=3)
        for at in range(40):
            market.sell(1_000 + at // 7, 2, account=1 + at % 3)
        events = market.buy(1_010, 77, account=0)
        mass = [market.sell(1_020 + at, 1, account=2)[0].order_id for at in range(30)]
        cancelled = market.send(r.MASS_CANCEL, account=2, instrument=r.ANY_INSTRUMENT, side=r.ANY_SIDE)
        assert len(mass) == 30
        return events + cancelled, market.exchange.state_hash()

    narrow, wide = sweep(event_capacity), sweep(1 << 12)
    assert narrow == wide
    assert len(of_kind(narrow[0], "taker")) == 39
    assert sum(e.quantity for e in of_kind(narrow[0], "taker")) == 77


HUGE = 1 << 40  # a price at which 2^21 t are AMOUNT_MAX_FEN, 2^23 t are 2^63 and 2^24 t are 0 modulo 2^64


def test_price_times_quantity_that_int64_cannot_hold_is_refused() -> None:
    market = SmallMarket(with_accounts(), accounts=2, reference=HUGE, levels=1_024, cash=AMOUNT_MAX_FEN // 2)
    fits = AMOUNT_MAX_FEN // HUGE
    for quantity in (fits + 1, 1 << 23, 1 << 24, (1 << 24) + 1, HUGE, QUANTITY_MAX_T):
        for side in (r.BUY, r.SELL):
            (event,) = market.order(side, HUGE, quantity)
            assert (event.kind, event.reason) == ("rejected", Code.AMOUNT_TOO_LARGE), quantity
    for quantity in (QUANTITY_MAX_T + 1, (1 << 63) - 1):
        (event,) = market.buy(HUGE, quantity)
        assert event.reason == Code.QUANTITY_TOO_LARGE
    (event,) = market.buy(HUGE, fits)
    assert event.reason == Code.INSUFFICIENT_CASH
    (event,) = market.buy(HUGE, fits // 2)
    assert event.kind == "accepted"
    assert market.exchange.market.accounts[0]["locked"] == AMOUNT_MAX_FEN // 2
    fills = of_kind(market.sell(HUGE, fits), "maker")
    assert [e.quantity for e in fills] == [fits // 2]
    assert market.exchange.market.accounts[1]["available"] == AMOUNT_MAX_FEN


def test_the_cash_and_the_allowances_of_all_stay_within_int64() -> None:
    market = SmallMarket(with_accounts(), accounts=4, cash=AMOUNT_MAX_FEN // 2, allowances=QUANTITY_MAX_T // 2)
    state = market.exchange.market
    assert state.total_cash() == AMOUNT_MAX_FEN, "the third and the fourth deposit are refused"
    assert state.total_allowances(0) == QUANTITY_MAX_T // 2 * 2, "the third and the fourth transfer likewise"
    assert [int(x) for x in state.accounts["available"]] == [AMOUNT_MAX_FEN // 2] * 2 + [0] * 2


def test_the_largest_amount_and_its_fee_do_not_overflow() -> None:
    cash = AMOUNT_MAX_FEN // 2
    market = SmallMarket(with_accounts(fees=ODD_FEES), accounts=2, reference=HUGE, levels=1_024, cash=cash)
    quantity = 1 << 19
    market.sell(HUGE, quantity)
    market.buy(HUGE, quantity)
    amount = quantity * HUGE
    fee = sum(fee_fen(amount, ppm) for ppm in (ODD_FEES[0].trading_ppm, ODD_FEES[0].settlement_ppm))
    accounts = market.exchange.market.accounts
    assert accounts[0]["available"] == cash - amount - fee
    assert accounts[1]["available"] == cash + amount - fee


def test_a_day_counts_no_more_turnover_than_int64_holds() -> None:
    market = SmallMarket(reference=HUGE, levels=1_024)
    fits = AMOUNT_MAX_FEN // HUGE
    for _ in range(3):
        market.sell(HUGE, fits, account=1)
        assert of_kind(market.buy(HUGE, fits), "taker")
    market.sell(HUGE, fits, account=1)
    events = market.buy(HUGE, fits)  # would be 2^63
    assert [(e.kind, e.reason) for e in events[1:]] == [("cancelled", Reason.TURNOVER_LIMIT)]
    assert market.exchange.market.instruments[0]["amount"] == 3 * AMOUNT_MAX_FEN
    assert market.asks() == [(HUGE, fits, 1)], "the resting order stays as it was"


@pytest.mark.parametrize("policy", ["continuous", "listing"])
def test_an_account_counts_no_more_proceeds_of_all_its_sales_than_int64_holds(policy: str) -> None:
    market = SmallMarket(with_accounts(policies={"X": Policy(matching=policy)}))
    maker = market.sell(1_000, 5, account=1)[0].order_id
    market.exchange.market.accounts[1]["proceeds_today"] = TURNOVER_MAX_FEN + 1  # of other vintages
    events = market.buy(1_000, 3) if policy == "continuous" else market.send(r.TAKE, order_id=maker, quantity=3)
    assert [(e.kind, e.reason) for e in events] == [("accepted", 0), ("cancelled", Reason.TURNOVER_LIMIT)]
    market.exchange.check()
    market.exchange.market.accounts[1]["proceeds_today"] = TURNOVER_MAX_FEN
    events = market.buy(1_000, 3) if policy == "continuous" else market.send(r.TAKE, order_id=maker, quantity=3)
    assert [e.quantity for e in of_kind(events, "taker")] == [3]


@pytest.mark.parametrize(("expiry", "stale"), [(0, True), (1 << 62, False), (1 << 63, False), ((1 << 64) - 1, False)])
def test_an_expiry_time_beyond_a_signed_number_has_not_passed(expiry: int, stale: bool) -> None:
    market = SmallMarket()
    market.exchange.advance(1)
    (event,) = market.send(r.NEW, price=1_000, quantity=1, flags=r.EXPIRES, order_id=expiry)
    assert (event.kind == "rejected" and event.reason == Code.STALE) == stale


def test_a_slot_is_used_again_and_an_order_id_never() -> None:
    market = SmallMarket(orders=3)
    seen: set[int] = set()
    slots: set[int] = set()
    for _ in range(20):
        order_id = market.buy(990, 1)[0].order_id
        assert order_id not in seen
        seen.add(order_id)
        slots.add(order_id & 0xFFFFFFFF)
        market.cancel(order_id)
    assert len(slots) == 1, "the slot freed last is used first"
    living = market.buy(990, 1)[0].order_id
    for stale in seen:
        for kind in (r.CANCEL, r.REDUCE, r.REPLACE):
            (event,) = market.send(kind, order_id=stale, price=991, quantity=1)
            assert event.reason == Code.ORDER_NOT_OPEN
    assert market.bids() == [(990, 1, 1)]
    assert market.cancel(living)[0].kind == "cancelled"


@pytest.mark.parametrize("order_id", [0, 1, 2, 3, 4, 1 << 32, (1 << 32) + 1, (1 << 64) - 1, 1 << 63, 0xFFFFFFFF])
def test_a_forged_order_id_does_not_reach_the_book(order_id: int) -> None:
    market = SmallMarket(orders=3)
    market.cancel(market.buy(990, 1)[0].order_id)
    living = market.buy(990, 1)[0].order_id
    before = market.bids()
    if order_id != living:
        assert market.cancel(order_id)[0].reason == Code.ORDER_NOT_OPEN
    assert market.cancel(living, account=3)[0].reason == Code.ORDER_NOT_OPEN, "another's order"
    assert market.bids() == before


def test_a_full_pool_refuses_and_recovers() -> None:
    market = SmallMarket(orders=3)
    ids = [market.buy(990, 1)[0].order_id for _ in range(3)]
    assert market.buy(990, 1)[0].reason == Code.ORDER_POOL_FULL
    market.cancel(ids[1])
    assert market.buy(990, 1)[0].kind == "accepted"
    assert market.buy(990, 1)[0].reason == Code.ORDER_POOL_FULL


def test_a_band_wider_than_its_table_is_refused_before_anything_changes() -> None:
    market = SmallMarket(Rules.national(), levels=64, reference=300)  # 270 … 330 are 61 levels
    exchange = market.exchange
    exchange.advance(exchange.rules.boundaries_ns(20251203)[3])
    exchange.execute(msg.CloseDay())
    before = state_without_seq(market)
    for message in (msg.RollDay(date=20251204, references={"X": 320}), msg.ListInstrument(code="Y", reference=320)):
        answer = msgspec.msgpack.decode(exchange.execute(message).payloads)
        assert (answer["t"], "capacity 64" in answer["text"]) == ("refused", True)
        assert state_without_seq(market) == before
    exchange.execute(msg.RollDay(date=20251204, references={"X": 310}))
    assert exchange.market.instruments[0]["limit_high"] == 341


def state_without_seq(market: SmallMarket) -> int:
    """The state's hash as if no command had been counted."""
    seq = market.exchange.market.market["seq"].copy()
    market.exchange.market.market["seq"] = 0
    found = market.exchange.state_hash()
    market.exchange.market.market["seq"] = seq
    return found
