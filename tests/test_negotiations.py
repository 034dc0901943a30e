"""A member can ask what became of its negotiations of the day, and learns nothing of others'."""

from __future__ import annotations

import random

import gateway_market as gm
import pytest
from session_world import World

from engine import messages as m
from engine.bulk_messages import BulkAccept, BulkConfirm, BulkCounter, BulkDeclare, BulkOffer, BulkRefuse, BulkWithdraw
from engine.codes import Code
from engine.records import SELL
from gateway import negotiations
from gateway.client import GatewayError


def test_ended_dialogues_come_back_with_every_step_and_only_to_their_parties(monkeypatch):
    world = World(random.Random(1))
    for account in (2, 3):
        world.core.source(m.Deposit(account=account, amount=10**12, document=f"more-{account}"))
    world.core.step_to(gm.DAY + int(13.5 * gm.HOUR))
    maker, taker, third = (world.client(f"member-{i}") for i in (1, 2, 3))
    terms = {"price": 5_900, "quantity": 100_000}

    def offered(by, text: str = "") -> tuple[int, int]:
        number = maker.execute(BulkDeclare(side=SELL, instrument="CEA24", **terms)).data["declaration"]
        return number, by.execute(BulkOffer(declaration=number, price=5_800, quantity=100_000, note=text)).data[
            "thread"
        ]

    _, dealt = offered(taker, "by noon")
    maker.execute(BulkCounter(thread=dealt, price=5_850, quantity=100_000))
    taker.execute(BulkAccept(thread=dealt, price=5_850, quantity=100_000))
    maker.execute(BulkConfirm(thread=dealt, price=5_850, quantity=100_000))
    _, refused = offered(taker)
    maker.execute(BulkRefuse(thread=refused))
    gone, ended = offered(third)
    maker.execute(BulkWithdraw(declaration=gone))
    _, still_open = offered(third)

    found = maker.negotiations()
    assert [(d["thread"], d["state"]) for d in found] == [(dealt, "dealt"), (refused, "refused"), (ended, "ended")]
    assert still_open not in {d["thread"] for d in found}
    assert [s[2] for s in found[0]["steps"]] == ["offer", "maker_counters", "taker_accepts", "maker_confirms"]
    assert found[0]["price"] == 5_850 and found[0]["steps"][0][4:] == [5_800, 100_000, "by noon"]
    assert [d["thread"] for d in taker.negotiations()] == [dealt, refused], "others' dialogues are not shown"
    assert [d["thread"] for d in third.negotiations()] == [ended]
    monkeypatch.setattr(negotiations, "ENDED_PER_ANSWER", 2)
    assert maker.negotiations() == found, "it pages"
    with pytest.raises(GatewayError) as refusal:
        maker.link.query("negotiations", first="x")
    assert refusal.value.code == Code.BAD_FIELD
    ops = world.client("ops1")
    assert ops.link.query("negotiations", account=3)["dialogues"] == third.negotiations()
