"""The bulk desk's behaviour (R9, D20–D22): each rule in one test, through the desk's one door ``handle``."""

from __future__ import annotations

from bulk_world import CASH, TONNES, World

from engine.bulk_messages import BulkAccept, BulkConfirm, BulkCounter, BulkDeal, BulkOffer, BulkTake
from engine.records import BUY, SELL


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
