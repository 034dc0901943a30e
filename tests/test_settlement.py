"""Clearing and delivery versus payment (R12), on SQLite and on PostgreSQL."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from registry_world import (
    DAY,
    NOON,
    PostgresServer,
    confirmed,
    expected_balances,
    new_database,
    one_deal,
    settled,
    small_world,
    some_deals,
    trading_balances,
)
from registry_world import postgres as postgres
from registry_world import url as url
from registry_world import world as world
from sqlalchemy import func, select

from settlement import delivery as delivery_module
from settlement import ledger, schema, states, store
from settlement.clearing import Clearing, differences, summarise
from settlement.deals import Deals, deal_id, faults
from settlement.delivery import Delivery
from settlement.errors import Refused, accepted
from settlement.kinds import ActKind
from settlement.objections import Objections
from settlement.registry import Registry
from settlement.states import DayEvent, DayState, DealEvent, DealState, WindowEvent, WindowState
from settlement.verify import check, verify


def test_a_day_settles_every_deal_and_equals_the_naive_model(world: Registry) -> None:
    deals = some_deals(500, fees=True)
    before = trading_balances(world)
    day = settled(world, deals, block=120)
    assert day.state == DayState.SETTLED
    assert not day.held
    assert trading_balances(world) == expected_balances(before, deals)
    fees = int(deals["buyer_fee_fen"].sum() + deals["seller_fee_fen"].sum())
    assert world.balance(-1, "CNY", "fees") == fees == day.summary.fees_fen
    assert verify(world.engine) == []


def test_postgresql_settles_the_same_day_to_the_same_rows(postgres: PostgresServer, tmp_path: Path) -> None:
    """Blocks in bulk and deal by deal, codes of two lengths, held deals: equal seals mean equal rows."""
    seals = []
    for database in (f"sqlite:///{tmp_path}/r.db", new_database(postgres)):
        registry = small_world(database, cash_fen=5 * 10**6)
        assert registry.add_asset("CEA", vintage=2020) is None
        for account in (1, 2, 3, 4):
            accepted(registry.issue(account, "CEA", 10**6, f"i-{account}", NOON))
            accepted(registry.move_in(account, "CEA", 10**6, f"t-{account}", NOON))
        deals = some_deals(300, fees=True)
        deals["instrument"][::3] = b"CEA"
        day = settled(registry, deals, block=100)
        assert 0 < len(day.held) < 300
        with store.reading(registry.engine) as connection:
            seals.append([bytes(d) for d in connection.execute(select(schema.seal.c.digest)).scalars()])
        assert verify(registry.engine) == []
        registry.close()
    assert seals[0] == seals[1]


def test_settling_again_does_nothing(world: Registry) -> None:
    deals = some_deals(50)
    delivery = confirmed(world, deals)
    accepted(delivery.settle(DAY, NOON))
    after = trading_balances(world)
    assert accepted(delivery.settle(DAY, NOON)).state == DayState.SETTLED
    assert trading_balances(world) == after
    assert isinstance(delivery.receive(DAY, [deals], NOON), Refused)


def test_the_serials_that_move_do_not_depend_on_the_blocks(tmp_path: Path) -> None:
    deals = some_deals(300)
    ranges = []
    for block in (7, 300):
        registry = small_world(f"sqlite:///{tmp_path}/{block}.db")
        settled(registry, deals, block=block)
        ranges.append([registry.ranges(account, "CEA24", "trading") for account in (1, 2, 3, 4)])
        registry.close()
    assert ranges[0] == ranges[1]


def test_allowances_bought_today_are_given_last(world: Registry) -> None:
    first, second = one_deal(1, buyer=2, seller=1, quantity=100), one_deal(2, buyer=3, seller=2, quantity=50)
    own = world.ranges(2, "CEA24", "trading")[0][0]
    settled(world, np.concatenate([first, second]))
    assert (own, own + 49) in world.ranges(3, "CEA24", "trading")


def test_the_exchange_must_confirm_the_same_sums_and_hash(world: Registry) -> None:
    deals = some_deals(20)
    delivery = Delivery(world)
    delivery.receive(DAY, [deals], NOON)
    accepted(delivery.clear(DAY, NOON))
    other = deals.copy()
    other["time_ns"][3] += 1
    refused = delivery.confirm(summarise(DAY, [other]), NOON)
    assert isinstance(refused, Refused)
    assert "digest" in refused.reason
    assert accepted(delivery.day(DAY)).state == DayState.DISPUTED
    assert isinstance(delivery.settle(DAY, NOON), Refused)
    assert delivery.confirm(summarise(DAY, [deals]), NOON) is None
    assert accepted(delivery.settle(DAY, NOON)).state == DayState.SETTLED


def test_clearing_in_blocks_equals_clearing_at_once_and_sums_are_gross() -> None:
    deals = some_deals(400, fees=True)
    blocks, once = Clearing(DAY), Clearing(DAY)
    for block in np.array_split(deals, 7):
        blocks.add(block)
    once.add(deals)
    assert differences(blocks.summary(), once.summary()) == []
    assert blocks.traders == once.traders
    bought = deals[(deals["buyer"] == 1) & (deals["instrument"] == b"CEA24")]
    sums = once.traders[1, "CEA24"]
    assert (sums.bought_t, sums.bought_fen) == (bought["quantity_t"].sum(), bought["amount_fen"].sum())
    assert sums.sold_t > 0, "nothing is netted: both directions stand"


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [("amount_fen", 1, "price x"), ("buyer", 0, "buyer is"), ("date", 1, "date"), ("quantity_t", 0, "positive")],
)
def test_a_wrong_deal_is_refused_and_named(field: str, value: int, word: str) -> None:
    deals = some_deals(5)
    deals["seller"][2] = 0
    assert faults(deals, DAY) == []
    deals[field][2] = value
    assert any(word in text and str(deals["deal_id"][2]) in text for text in faults(deals, DAY))


def test_a_frozen_pair_is_held_and_the_others_go_on(world: Registry) -> None:
    accepted(world.freeze(1, "CEA24", 1_000_000, "court-1", NOON, bucket="trading"))
    deals = np.concatenate([one_deal(1, 2, 1, 100), one_deal(2, 3, 4, 70)])
    before = trading_balances(world)
    delivery = confirmed(world, deals)
    day = accepted(delivery.settle(DAY, NOON))
    assert day.state == DayState.HELD
    assert [held.deal_id for held in day.held] == [deal_id(DAY, 1)]
    assert "account 1, CEA24, trading: 0 t available" in day.held[0].reason
    assert trading_balances(world) == expected_balances(before, deals, {deal_id(DAY, 1)})
    accepted(world.unfreeze("court-1", 1_000_000, "court-2", NOON))
    day = accepted(delivery.retry(DAY, NOON))
    assert day.state == DayState.SETTLED
    assert day.held[0].state == DealState.SETTLED
    assert world.balance(2, "CEA24", "trading") == 1_000_100
    assert verify(world.engine) == []


def test_proceeds_of_a_held_deal_that_were_spent_come_from_the_reserve_and_go_back(url: str) -> None:
    registry = small_world(url, cash_fen=0)
    accepted(registry.deposit(2, 600_000, "d2", NOON))
    accepted(registry.fund_reserve(10**7, "reserve", NOON))
    accepted(registry.freeze(1, "CEA24", 1_000_000, "court-1", NOON, bucket="trading"))
    # 1 sells to 2 (held: frozen), and has spent the proceeds on a purchase from 3.
    deals = np.concatenate([one_deal(1, 2, 1, 100), one_deal(2, 1, 3, 80)])
    delivery = confirmed(registry, deals)
    day = accepted(delivery.settle(DAY, NOON))
    assert [held.deal_id for held in day.held] == [deal_id(DAY, 1)]
    assert registry.cash(3) == 480_000
    assert registry.balance(1, "CNY", "owed") == 480_000
    assert registry.balance(-1, "CNY", "reserve") == 10**7 - 480_000
    accepted(registry.unfreeze("court-1", 1_000_000, "court-2", NOON))
    assert accepted(delivery.retry(DAY, NOON)).state == DayState.SETTLED
    assert registry.balance(1, "CNY", "owed") == 0
    assert registry.balance(-1, "CNY", "reserve") == 10**7
    assert registry.cash(1) == 600_000 - 480_000
    assert verify(registry.engine) == []
    registry.close()


def test_a_buyer_without_money_is_held_until_an_operator_covers_or_reverses(url: str) -> None:
    registry = small_world(url, cash_fen=0)
    accepted(registry.fund_reserve(10**7, "reserve", NOON))
    delivery = confirmed(registry, np.concatenate([one_deal(1, 2, 1, 100), one_deal(2, 3, 1, 10)]))
    day = accepted(delivery.settle(DAY, NOON))
    assert len(day.held) == 2
    assert accepted(delivery.cover(deal_id(DAY, 1), "decision-1", "op", NOON)).state == DayState.HELD
    assert registry.balance(2, "CNY", "owed") == 600_000 == registry.cash(1)
    day = accepted(delivery.reverse(deal_id(DAY, 2), "decision-2", "op", NOON))
    assert day.state == DayState.SETTLED
    assert registry.cash(3) == 0
    again = delivery.reverse(deal_id(DAY, 2), "decision-3", "op", NOON)
    assert isinstance(again, Refused)
    assert verify(registry.engine) == []
    registry.close()


@pytest.mark.parametrize(("cash_fen", "frozen"), [(10**12, 0), (5 * 10**6, 0), (3 * 10**6, 0), (4 * 10**6, 999_000)])
def test_deals_posted_in_bulk_leave_the_rows_that_deal_by_deal_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cash_fen: int, frozen: int
) -> None:
    """The same day with the bulk way and without it: the same rows, so the same seals; also where deals can't post,
    and where the reserve pays for sellers of held deals and is paid back."""
    seals, bulk = [], []
    real = delivery_module.Posting.deliver
    for short in (True, False):
        registry = small_world(f"sqlite:///{tmp_path}/{short}.db", cash_fen=cash_fen)
        monkeypatch.setattr(
            delivery_module.Posting,
            "deliver",
            lambda *terms, short=short: (bulk.append(real(*terms)), bulk[-1])[1] if short else 0,
        )
        accepted(registry.fund_reserve(10**9, "reserve", NOON))
        if frozen:
            accepted(registry.freeze(1, "CEA24", frozen, "court-1", NOON, bucket="trading"))
        day = settled(registry, some_deals(300, fees=True), block=100)
        assert (frozen > 0) <= bool(legs_of_kind(registry, ActKind.COVER) and legs_of_kind(registry, ActKind.REPAY))
        with store.reading(registry.engine) as connection:
            seals.append((day, [bytes(d) for d in connection.execute(select(schema.seal.c.digest)).scalars()]))
        assert verify(registry.engine) == []
        registry.close()
    assert seals[0] == seals[1]
    assert any(bulk)
    assert (0 < len(seals[0][0].held) < 300) == (cash_fen < 10**12), "some deals could be paid and some could not"


def test_planted_bug_a_bulk_that_forgets_the_order_of_deals_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A buyer who is paid only later in the block cannot pay now: looking at the sums alone lets the deal pass."""
    registry = small_world(f"sqlite:///{tmp_path}/r.db", cash_fen=0)
    accepted(registry.deposit(3, 10**8, "d3", NOON))
    pairs = [one_deal(1, buyer=2, seller=1, quantity=10)] + [one_deal(n, 3, 2, 10) for n in range(2, 20)]
    deals = np.concatenate(pairs)
    delivery = confirmed(registry, deals)
    assert [held.deal_id for held in accepted(delivery.settle(DAY, NOON)).held] == [deal_id(DAY, 1)]
    registry.close()
    monkeypatch.setattr(ledger, "_first_below_zero", lambda balances, giver, *_: len(giver))
    wrong = small_world(f"sqlite:///{tmp_path}/w.db", cash_fen=0)
    accepted(wrong.deposit(3, 10**8, "d3", NOON))
    assert accepted(confirmed(wrong, deals).settle(DAY, NOON)).held == []
    wrong.close()


def test_planted_bug_a_leg_that_posts_alone_is_found(world: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delivery without payment: the seller keeps its allowances in no book, and conservation of value shows it."""
    deals = some_deals(30)
    before = trading_balances(world)
    real = delivery_module.Posting.chain
    monkeypatch.setattr(delivery_module.Posting, "deliver", lambda *_: 0)
    monkeypatch.setattr(
        delivery_module.Posting, "chain", lambda self, act, legs, numbers=None: real(self, act, legs[:1], [0])
    )
    settled(world, deals)
    assert trading_balances(world) != expected_balances(before, deals)
    assert legs_of_deals(world) == (30, 0)


def legs_of_kind(registry: Registry, kind: ActKind) -> int:
    table = schema.transfer
    with store.reading(registry.engine) as connection:
        query = select(func.count()).select_from(table).where(table.c.kind == kind)
        return int(connection.execute(query).scalar_one())


def legs_of_deals(registry: Registry) -> tuple[int, int]:
    table = schema.transfer
    query = select(table.c.leg, func.count()).where(table.c.kind == 1).group_by(table.c.leg)
    with store.reading(registry.engine) as connection:
        counts = dict(connection.execute(query).all())
    return counts.get(0, 0), counts.get(1, 0)


def test_concurrent_readers_never_see_one_leg(url: str) -> None:
    registry = small_world(url)
    delivery = confirmed(registry, some_deals(3_000))
    seen: list[tuple[int, int]] = []
    done = threading.Event()

    def read() -> None:
        reader = Registry.open(url)
        while not done.is_set():
            seen.append(legs_of_deals(reader))
            with store.reading(reader.engine) as connection:
                seen_faults.extend(check(connection))
            reading.set()
        reading.set()
        reader.close()

    seen_faults: list[str] = []
    reading = threading.Event()
    thread = threading.Thread(target=read)
    thread.start()
    assert reading.wait(120), "it reads while the deals are settled"
    accepted(delivery.settle(DAY, NOON, block_deals=100))
    done.set()
    thread.join()
    assert seen_faults == []
    assert seen
    assert all(allowance == cash for allowance, cash in seen)
    registry.close()


def test_the_day_table_names_every_pair_of_state_and_event() -> None:
    for state, event in product(DayState, DayEvent):
        to = states.next_day(state, event)
        assert (to is None) == ((state, event) not in states.DAY)
    reached = {DayState.OPEN} | set(states.DAY.values())
    assert reached == set(DayState)
    # Nothing leads to the next open but a reconciliation or an operator's word (D26).
    for (state, event), to in states.DAY.items():
        if to in states.MAY_OPEN_NEXT and state not in states.MAY_OPEN_NEXT:
            assert event in (DayEvent.MATCH, DayEvent.RELEASE)


def test_silence_is_acceptance_and_an_objection_stays_until_it_is_answered(world: Registry) -> None:
    """R12.4: possible from the statement to the next open; what has no answer by then is contested."""
    objections, delivery = Objections(world), Delivery(world)
    assert isinstance(objections.object(1, DAY, "price", "obj-0", NOON), Refused)
    settled(world, some_deals(20))
    accepted(objections.object(1, DAY, "deal 3 is not mine", "obj-1", NOON))
    assert accepted(objections.object(1, DAY, "deal 3 is not mine", "obj-1", NOON)).repeated
    accepted(objections.object(2, DAY, "fee", "obj-2", NOON))
    accepted(objections.answer("obj-2", "the fee is right", "ans-2", "Li", NOON))
    assert isinstance(objections.answer("obj-2", "or not", "ans-3", "Li", NOON), Refused)
    assert [objections.window(n, DAY) for n in (1, 2, 3)] == [WindowState.OBJECTED, WindowState.OPEN, WindowState.OPEN]
    assert delivery.step(DAY, DayEvent.MATCH, NOON) is None
    assert delivery.step(DAY, DayEvent.ROLL, NOON) is None
    late = objections.object(3, DAY, "too late", "obj-3", NOON)
    assert isinstance(late, Refused)
    assert "silence was acceptance" in late.reason
    assert objections.window(1, DAY) == WindowState.CONTESTED
    assert objections.window(3, DAY) == WindowState.ACCEPTED
    accepted(objections.answer("obj-1", "it is: order 17", "ans-1", "Li", NOON))
    assert objections.window(1, DAY) == WindowState.ACCEPTED
    assert [(o.account, o.answer) for o in objections.of_day(DAY)] == [(1, "it is: order 17"), (2, "the fee is right")]
    assert verify(world.engine) == []


def test_the_window_table_names_every_pair_of_state_and_event() -> None:
    for state, event in product(WindowState, WindowEvent):
        assert (states.next_window(state, event) is None) == ((state, event) not in states.WINDOW)
    assert all(state != WindowState.ACCEPTED for state, _ in states.WINDOW), "acceptance is final"


def test_a_deal_that_is_done_never_changes() -> None:
    for state, event in product(DealState, DealEvent):
        if state in states.DONE:
            assert states.next_deal(state, event) is None
    assert set(states.DEAL.values()) | {DealState.WAITING} == set(DealState)


def peak_of_a_day(registry: Registry, date: int, blocks: int) -> int:
    """Bytes at the peak while a day of ``blocks`` blocks is made, received, cleared and delivered block by block."""
    size = 250

    def stream() -> Iterator[Deals]:
        for number in range(blocks):
            block = some_deals(size, seed=number, date=date)
            block["deal_id"] += np.uint64(number * size)
            yield block

    delivery = Delivery(registry)
    tracemalloc.start()
    try:
        assert accepted(delivery.receive(date, stream(), NOON)) == blocks * size
        accepted(delivery.clear(date, NOON, block_deals=size))
        assert delivery.confirm(summarise(date, stream()), NOON) is None
        assert accepted(delivery.settle(date, NOON, block_deals=size)).state == DayState.SETTLED
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_deals_of_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times the blocks, about the same peak; a settlement that keeps its blocks (planted) is found."""
    registry = small_world(f"sqlite:///{tmp_path}/r.db")
    peak_of_a_day(registry, DAY, 3)  # what is made once and stays: prepared statements, caches
    gc.collect()  # what other tests have left would be collected, or not, in the middle
    short, long = peak_of_a_day(registry, DAY + 1, 4), peak_of_a_day(registry, DAY + 2, 16)
    assert long < 1.25 * short
    kept: list[object] = []
    real = store.insert_columns
    keep = lambda connection, table, columns: (kept.append(dict(columns)), real(connection, table, columns))  # noqa: E731
    monkeypatch.setattr(store, "insert_columns", keep)
    assert peak_of_a_day(registry, DAY + 5, 16) > 1.25 * short
    registry.close()
