"""The bulk desk's behaviour (R9, D20–D22): each rule in one test, through the desk's one door ``handle``."""

from __future__ import annotations

import pytest
from bulk_world import CASH, MAKER, OTHER, TAKER, TONNES, World, amend, at, command, reach

from engine import bulk
from engine.bulk_messages import (
    GROUP_MEMBERS_MAX,
    BulkAccept,
    BulkCancel,
    BulkConfirm,
    BulkCounter,
    BulkDeal,
    BulkDeclaration,
    BulkDeclare,
    BulkExpire,
    BulkFreeze,
    BulkOffer,
    BulkRefuse,
    BulkRetract,
    BulkTake,
    BulkThread,
    BulkWithdraw,
)
from engine.bulk_states import Talk, Turn
from engine.codes import Code
from engine.market import ACCOUNT_CANCEL_ONLY, Capacity
from engine.messages import encode
from engine.records import BUY, NO_ACCOUNT, SELL


def test_a_dialogue_goes_from_declaration_over_counters_and_both_confirmations_to_a_deal() -> None:
    w = World()
    number = w.declare(0, SELL, 7_000, 200_000)
    assert w.tonnes(0) == (TONNES - 200_000, 0, 200_000)
    thread = w.ok(1, BulkOffer(declaration=number, price=6_500, quantity=200_000))["thread"]
    assert w.cash(1) == (CASH - 6_500 * 200_000, 6_500 * 200_000)
    w.ok(0, BulkCounter(thread=thread, price=6_800, quantity=200_000))
    assert w.cash(1) == (CASH, 0), "an offer that was answered binds no longer"
    w.ok(1, BulkAccept(thread=thread, price=6_800, quantity=200_000))
    answer = w.send(0, BulkConfirm(thread=thread, price=6_800, quantity=200_000))
    deals = [n for n in answer if isinstance(n.message, BulkDeal)]
    assert [(n.account, n.message.side, n.message.counterparty) for n in deals] == [(0, SELL, 1), (1, BUY, 0)]
    assert w.cash(1) == (CASH - 6_800 * 200_000, 0)
    assert w.cash(0) == (CASH + 6_800 * 200_000, 0)
    assert w.tonnes(1) == (TONNES, 200_000, 0)
    assert w.tonnes(0) == (TONNES - 200_000, 0, 0)
    assert not w.desk.declarations and not w.desk.threads


def test_e5_a_deal_at_the_bulk_limit_down_of_2023_11_01() -> None:
    w = World()
    number = w.declare(2, SELL, 5_510, 292_144)
    thread = w.ok(3, BulkTake(declaration=number, price=5_510, quantity=292_144))["thread"]
    w.ok(2, BulkConfirm(thread=thread, price=5_510, quantity=292_144))
    row = w.market.instruments[0]
    assert (row["bulk_volume"], row["bulk_amount"]) == (292_144, 1_609_713_440)
    assert (row["open"], row["high"], row["low"], row["volume"], row["last"]) == (0, 0, 0, 0, 7_872)


@pytest.mark.parametrize(("price", "fits"), [(5_509, False), (5_510, True), (10_234, True), (10_235, False)])
def test_every_price_of_a_negotiation_lies_in_the_bulk_band_r6_2(price: int, fits: bool) -> None:
    w = World()
    number = w.declare(0, SELL, 7_000, 200_000)
    thread = w.ok(1, BulkOffer(declaration=number, price=7_000, quantity=200_000))["thread"]
    for who, message in (
        (2, BulkDeclare(side=BUY, instrument="CEA21", price=price, quantity=100_000)),
        (2, BulkOffer(declaration=number, price=price, quantity=200_000)),
        (0, BulkCounter(thread=thread, price=price, quantity=200_000)),
        (0, amend(number, price, 200_000)),
    ):
        if fits:
            w.ok(who, message)
        else:
            refusal = w.refused(who, message)
            assert (refusal.code, refusal.field) == (Code.BULK_PRICE_OUT_OF_BAND, "price")
            assert "55.10 … 102.34" in refusal.text


def test_a_quantity_below_the_bulk_minimum_is_refused_at_every_step_r4_2() -> None:
    w = World()
    message = BulkDeclare(side=BUY, instrument="CEA21", price=7_000, quantity=99_999)
    assert w.refused(0, message).code == Code.BULK_QUANTITY_TOO_SMALL
    number = w.declare(0, SELL, 7_000, 200_000, partial=True)
    offer = BulkOffer(declaration=number, price=7_000, quantity=99_999)
    assert w.refused(1, offer).code == Code.BULK_QUANTITY_TOO_SMALL
    assert w.refused(0, amend(number, 7_000, 99_999)).code == Code.BULK_QUANTITY_TOO_SMALL


@pytest.mark.parametrize(
    ("clock", "is_open"), [("12:59:59", False), ("13:00", True), ("14:59:59", True), ("15:00", False)]
)
def test_the_desk_is_open_from_13_to_15_and_a_reject_says_when(clock: str, is_open: bool) -> None:
    w = World()
    w.now = at(clock)
    message = BulkDeclare(side=BUY, instrument="CEA21", price=7_000, quantity=100_000)
    if is_open:
        w.ok(0, message)
    else:
        refusal = w.refused(0, message)
        assert refusal.code == Code.BULK_CLOSED and "13:00:00–15:00:00" in refusal.text


def test_allowances_bought_at_the_desk_cannot_be_sold_today_d20() -> None:
    w = World()
    number = reach(w, SELL, Talk.TAKEN, partial=False)
    w.ok(*command(w, number, Turn.MAKER_CONFIRMS))
    w.market.holdings[TAKER, 0]["sellable"] = 0
    message = BulkDeclare(side=SELL, instrument="CEA21", price=7_000, quantity=200_000)
    assert w.refused(TAKER, message).code == Code.BOUGHT_TODAY
    w.ok(MAKER, BulkDeclare(side=BUY, instrument="CEA21", price=7_000, quantity=200_000))  # cash is T+0


def test_a_trader_cannot_deal_with_itself() -> None:
    w = World()
    number = w.declare(0, SELL, 7_000, 200_000)
    assert w.refused(0, BulkTake(declaration=number, price=7_000, quantity=200_000)).code == Code.SELF_DEAL
    assert w.refused(0, BulkOffer(declaration=number, price=7_100, quantity=200_000)).code == Code.SELF_DEAL
    message = BulkDeclare(side=SELL, instrument="CEA21", price=7_000, quantity=100_000, to=(1, 0))
    assert w.refused(0, message).code == Code.SELF_DEAL


def test_all_or_none_is_dealt_whole_and_a_partial_declaration_stays_while_the_minimum_remains_d21() -> None:
    w = World()
    whole = w.declare(0, SELL, 7_000, 300_000)
    refusal = w.refused(1, BulkTake(declaration=whole, price=7_000, quantity=100_000))
    assert (refusal.code, refusal.field) == (Code.BULK_TERMS_CHANGED, "quantity")
    part = w.declare(0, SELL, 7_000, 300_000, partial=True)
    for rest, quantity in ((180_000, 120_000), (0, 120_000)):
        thread = w.ok(1, BulkTake(declaration=part, price=7_000, quantity=quantity))["thread"]
        w.ok(0, BulkConfirm(thread=thread, price=7_000, quantity=quantity))
        w.check_locks()
        found = w.desk.declarations.get(part)
        assert (found.quantity if found else 0) == rest  # 60,000 t are below the minimum: the declaration ends
    assert w.tonnes(0)[2] == 300_000, "only the other declaration's lock is left"


def test_a_declaration_locks_its_maximum_once_and_not_the_sum_of_its_dialogues_d21() -> None:
    w = World()
    number = w.declare(0, BUY, 7_000, 200_000, partial=True)
    threads = []
    for taker in (1, 2, 3):
        threads.append(w.ok(taker, BulkOffer(declaration=number, price=7_500, quantity=200_000))["thread"])
        w.ok(0, BulkAccept(thread=threads[-1], price=7_500, quantity=200_000))
        assert w.cash(0)[1] == 7_500 * 200_000
    w.ok(0, BulkRetract(thread=threads[0]))
    assert w.cash(0)[1] == 7_500 * 200_000, "still bound at that price in two dialogues"
    w.ok(1 + 1, BulkRefuse(thread=threads[1]))
    w.ok(3, BulkRefuse(thread=threads[2]))
    assert w.cash(0)[1] == 7_000 * 200_000
    w.check_locks()


def test_the_first_confirmed_deal_wins_and_dialogues_that_no_longer_fit_are_told_d21() -> None:
    w = World()
    number = w.declare(0, SELL, 7_000, 250_000, partial=True)
    first = w.ok(1, BulkTake(declaration=number, price=7_000, quantity=120_000))["thread"]
    small = w.ok(2, BulkTake(declaration=number, price=7_000, quantity=100_000))["thread"]
    large = w.ok(3, BulkTake(declaration=number, price=7_000, quantity=200_000))["thread"]
    answer = w.send(0, BulkConfirm(thread=first, price=7_000, quantity=120_000))
    told = [(n.account, n.message.thread, n.message.state) for n in answer if isinstance(n.message, BulkThread)]
    assert (3, large, "unfit") in told and (0, large, "unfit") in told
    assert w.cash(3) == (CASH, 0), "its lock is released at once"
    assert list(w.desk.threads) == [small]
    assert w.refused(0, BulkConfirm(thread=large, price=7_000, quantity=200_000)).code == Code.WRONG_STATE
    w.ok(0, BulkConfirm(thread=small, price=7_000, quantity=100_000))


def test_whoever_confirms_names_the_terms_so_a_race_with_an_amend_or_a_withdraw_has_one_outcome() -> None:
    w = World()
    number = w.declare(0, SELL, 7_000, 200_000)
    w.ok(0, amend(number, 7_100, 200_000))  # sequenced first
    refusal = w.refused(1, BulkTake(declaration=number, price=7_000, quantity=200_000))
    assert refusal.code == Code.BULK_TERMS_CHANGED and "71.00" in refusal.text
    thread = w.ok(1, BulkTake(declaration=number, price=7_100, quantity=200_000))["thread"]
    answer = w.send(0, amend(number, 7_200, 200_000))  # the take of the old terms is void, and its taker is told
    assert any(n.account == 1 and n.message.state == "unfit" for n in answer if isinstance(n.message, BulkThread))
    assert w.cash(1) == (CASH, 0)
    assert w.refused(0, BulkConfirm(thread=thread, price=7_100, quantity=200_000)).code == Code.WRONG_STATE
    thread = w.ok(1, BulkTake(declaration=number, price=7_200, quantity=200_000))["thread"]
    w.ok(0, BulkWithdraw(declaration=number))
    refusal = w.refused(0, BulkConfirm(thread=thread, price=7_200, quantity=200_000))
    assert refusal.code == Code.WRONG_STATE and "ended" in refusal.text
    refusal = w.refused(2, BulkTake(declaration=number, price=7_200, quantity=200_000))
    assert refusal.code == Code.WRONG_STATE and "withdrawn" in refusal.text
    w.check_locks()


def test_a_declaration_that_its_maker_can_no_longer_cover_is_not_amended_and_stands_untouched() -> None:
    w = World()
    w.market.accounts[0]["available"] = 7_000 * 100_000
    number = w.declare(0, BUY, 7_000, 100_000)
    assert w.refused(0, amend(number, 7_001, 100_000)).code == Code.INSUFFICIENT_CASH
    assert w.refused(0, amend(number, 7_000, 100_001)).code == Code.INSUFFICIENT_CASH
    w.ok(0, amend(number, 6_900, 100_000))
    assert w.cash(0) == (100 * 100_000, 6_900 * 100_000)
    w.market.holdings[1, 0]["sellable"] = 99_999
    take = BulkTake(declaration=number, price=6_900, quantity=100_000)
    assert w.refused(1, take).code == Code.INSUFFICIENT_ALLOWANCES


def test_a_lower_position_limit_set_meanwhile_does_not_stop_a_lock_from_shrinking() -> None:
    w = World()
    number = w.declare(0, BUY, 7_000, 300_000, partial=True)
    thread = w.ok(1, BulkTake(declaration=number, price=7_000, quantity=100_000))["thread"]
    w.market.holdings[0, 0]["position_max"] = 1
    w.ok(0, BulkConfirm(thread=thread, price=7_000, quantity=100_000))
    w.check_locks()
    assert w.refused(0, amend(number, 7_000, 400_000)).code == Code.POSITION_LIMIT


def test_a_declaration_expires_at_its_time_and_everything_at_15_00() -> None:
    w = World()
    early = w.declare(0, SELL, 7_000, 100_000, valid_until=at("14:00"))
    late = w.declare(0, SELL, 7_000, 100_000)
    for wrong in (w.now, at("15:00") + 1):
        message = BulkDeclare(side=SELL, instrument="CEA21", price=7_000, quantity=100_000, valid_until=wrong)
        assert w.refused(0, message).field == "valid_until"
    assert w.desk.next_deadline() == at("14:00")
    w.now = at("14:00")
    refusal = w.refused(1, BulkTake(declaration=early, price=7_000, quantity=100_000))  # before the scheduler's mark
    assert refusal.code == Code.WRONG_STATE and "expired" in refusal.text
    assert w.refused(0, BulkWithdraw(declaration=early)).code == Code.WRONG_STATE
    assert w.ok(NO_ACCOUNT, BulkExpire()) == {"expired": 1}
    assert w.tonnes(0)[2] == 100_000 and w.desk.next_deadline() == at("15:00")
    w.now = at("15:00")
    notices = w.desk.close_day(w.envelope())
    assert [n.message.state for n in notices if isinstance(n.message, BulkDeclaration)] == ["expired"]
    assert notices[0].message.declaration == late and w.tonnes(0)[2] == 0 and w.desk.next_deadline() is None


@pytest.mark.parametrize("what", ["market", "instrument", "desk", "declaration"])
def test_a_halt_or_freeze_stops_whatever_binds_and_leaves_the_ways_out_open_d22(what: str) -> None:
    w = World()
    numbers = [w.declare(0, SELL, 7_000, 100_000) for _ in range(4)]
    threads = [w.ok(1, BulkOffer(declaration=n, price=6_900, quantity=100_000))["thread"] for n in numbers]
    if what == "market":
        w.market.market[0]["halted"] = 1
    elif what == "instrument":
        w.market.instruments[0]["halted"] = 1
    for number in {"desk": [0], "declaration": numbers}.get(what, []):
        w.ok(NO_ACCOUNT, BulkFreeze(on=True, declaration=number, by="operator", why="inquiry"))
    for who, message in (
        (2, BulkTake(declaration=numbers[0], price=7_000, quantity=100_000)),
        (2, BulkOffer(declaration=numbers[0], price=6_800, quantity=100_000)),
        (0, BulkCounter(thread=threads[0], price=6_950, quantity=100_000)),
        (0, BulkAccept(thread=threads[0], price=6_900, quantity=100_000)),
        (0, amend(numbers[0], 7_100, 100_000)),
    ):
        assert w.refused(who, message).code == Code.BULK_FROZEN
    w.ok(0, BulkRefuse(thread=threads[0]))
    w.ok(1, BulkRetract(thread=threads[1]))
    w.ok(0, BulkWithdraw(declaration=numbers[2]))
    w.ok(NO_ACCOUNT, BulkCancel(declaration=numbers[3]))
    w.check_locks()
    assert w.cash(1) == (CASH, 0)


def test_the_operators_commands_are_the_operators() -> None:
    w = World()
    number = w.declare(0, SELL, 7_000, 100_000)
    for message in (BulkFreeze(on=True), BulkCancel(declaration=number), BulkExpire()):
        assert w.refused(0, message).code == Code.NOT_AUTHORISED
    for message in (
        BulkDeclare(side=BUY, instrument="CEA21", price=7_000, quantity=100_000),
        BulkTake(declaration=number, price=7_000, quantity=100_000),
    ):
        assert w.refused(NO_ACCOUNT, message).code == Code.NOT_AUTHORISED
    assert w.refused(NO_ACCOUNT, BulkCancel()).code == Code.BAD_FIELD


def test_a_suspended_counterparty_stops_the_deal_but_not_the_way_out() -> None:
    w = World()
    number = reach(w, SELL, Talk.TAKEN)
    w.market.accounts[TAKER]["status"] = ACCOUNT_CANCEL_ONLY
    who, message = command(w, number, Turn.MAKER_CONFIRMS)
    refusal = w.refused(who, message)
    assert (refusal.code, refusal.field) == (Code.ACCOUNT_CANCEL_ONLY, "counterparty")
    w.ok(*command(w, number, Turn.TAKER_RETRACTS))
    w.check_locks()


def test_what_may_be_open_is_bounded_and_the_reject_names_the_bound(monkeypatch) -> None:
    w = World()
    monkeypatch.setattr(bulk, "DECLARATIONS_PER_ACCOUNT_MAX", 2)
    monkeypatch.setattr(bulk, "DECLARATIONS_MAX", 3)
    monkeypatch.setattr(bulk, "THREADS_PER_DECLARATION_MAX", 2)
    monkeypatch.setattr(bulk, "THREADS_MAX", 3)
    monkeypatch.setattr(bulk, "STEPS_PER_THREAD_MAX", 3)
    one, two, three = (w.declare(who, SELL, 7_000, 100_000) for who in (0, 0, 1))
    message = BulkDeclare(side=SELL, instrument="CEA21", price=7_000, quantity=100_000)
    assert w.refused(0, message).code == Code.LIMIT_REACHED
    assert w.refused(1, message).code == Code.CAPACITY
    offer = {"price": 6_900, "quantity": 100_000}
    thread = w.ok(2, BulkOffer(declaration=one, **offer))["thread"]
    w.ok(0, BulkCounter(thread=thread, **offer))
    w.ok(2, BulkCounter(thread=thread, **offer))
    refusal = w.refused(0, BulkCounter(thread=thread, **offer))
    assert refusal.code == Code.LIMIT_REACHED and "3 steps" in refusal.text
    w.ok(3, BulkOffer(declaration=one, **offer))
    assert w.refused(4, BulkOffer(declaration=one, **offer)).code == Code.LIMIT_REACHED
    w.ok(3, BulkOffer(declaration=two, **offer))
    assert w.refused(4, BulkOffer(declaration=three, **offer)).code == Code.CAPACITY


def test_amending_for_ever_does_not_grow_the_list_of_deadlines() -> None:
    w = World()
    number = w.declare(0, SELL, 7_000, 100_000)
    for n in range(1_000):
        w.ok(0, amend(number, 7_000 + n % 2, 100_000))
    assert len(w.desk._expiry) <= 2 + bulk.STEPS_PER_THREAD_MAX + 1


def test_the_longest_declaration_fits_into_one_payload() -> None:
    to = tuple(range(0xFFFFFFFE - GROUP_MEMBERS_MAX, 0xFFFFFFFE))
    message = BulkDeclare(side=SELL, instrument="C" * 16, price=1 << 60, quantity=1 << 52, to=to, note="碳" * 200)
    assert len(encode(message)) < 16 * 1024


def test_a_named_group_is_a_number_that_operators_give_to_accounts() -> None:
    w = World(capacity=Capacity(accounts=700, instruments=2, orders=64, levels=4_096))
    w.market.accounts["group"][[0, TAKER]] = 7
    number = w.declare(0, SELL, 7_000, 100_000, group=7)
    take = BulkTake(declaration=number, price=7_000, quantity=100_000)
    assert w.refused(OTHER, take).code == Code.UNKNOWN_DECLARATION
    w.ok(TAKER, take)
    for more, field in (({"group": 8}, "group"), ({"to": (1, 1)}, "to"), ({"to": (1,), "group": 7}, "group")):
        message = BulkDeclare(side=SELL, instrument="CEA21", price=7_000, quantity=100_000, **more)
        refusal = w.refused(0, message)
        assert (refusal.code, refusal.field) == (Code.BAD_FIELD, field)
    message = BulkDeclare(side=SELL, instrument="CEA21", price=7_000, quantity=100_000, to=(699,))
    assert w.refused(0, message).code == Code.UNKNOWN_ACCOUNT
    w.market.accounts["status"], w.market.accounts["group"] = 1, 9
    message = BulkDeclare(side=SELL, instrument="CEA21", price=7_000, quantity=100_000, group=9)
    assert w.refused(0, message).code == Code.LIMIT_REACHED


def test_fees_are_in_the_lock_and_a_declaration_dealt_in_many_parts_never_runs_short() -> None:
    w = World(trading_ppm=1, settlement_ppm=1)  # 0.5 fen of fee on many a deal: the roundings add up
    w.market.accounts[0]["available"] = 7_005 * 1_000_000 + 2 * 7_005 + 18
    number = w.declare(0, BUY, 7_005, 1_000_000, partial=True)
    before = w.totals()
    for _ in range(9):
        thread = w.ok(1, BulkTake(declaration=number, price=7_005, quantity=100_000))["thread"]
        w.ok(0, BulkConfirm(thread=thread, price=7_005, quantity=100_000))
        w.check_locks()
    assert w.totals() == before and w.desk.declarations[number].quantity == 100_000
