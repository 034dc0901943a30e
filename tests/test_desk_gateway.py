"""The desk through the exchange process: published bulk figures, privacy on the wire, a kill amid a negotiation.

The bulk figures are those of three days that the rulebook quotes (E2, E5, E7): 2021-07-21, 2023-11-01, 2026-08-14.
"""

from __future__ import annotations

import contextlib

import gateway_market as gm
import pytest

from engine import messages as m
from engine.auction_messages import AuctionAnnounce, AuctionAnswer, AuctionApply, AuctionBid, AuctionFreeze
from engine.bulk_messages import (
    BulkAccept,
    BulkConfirm,
    BulkCounter,
    BulkDeclare,
    BulkFreeze,
    BulkOffer,
    BulkTake,
    BulkWithdraw,
)
from engine.calendar import day_start_ns
from engine.codes import Code
from engine.records import BUY, SELL
from gateway import config as cfg
from gateway.client import Client, Refusal
from gateway.keys import NewKey
from gateway.operator import OperatorClient

DAYS = [20210720, 20210721, 20231101, 20260814, 20260817]
# date → vintage, published bulk volume (t) and amount (fen)
PUBLISHED = {
    20210721: ("CEA", 100_000, 529_200_000),
    20231101: ("CEA21", 292_144, 1_609_713_440),
    20260814: ("CEA25", 500_000, 4_694_500_000),
}
REFERENCES = {"CEA": 5_328, "CEA21": 7_872, "CEA25": 9_815}


def at(date: int, hour: float) -> int:
    return day_start_ns(date) + int(hour * gm.HOUR)


@contextlib.contextmanager
def market(folder, first_date: int):
    """An exchange process with five rich members, and its operator."""
    config = cfg.Config(
        first_date=first_date,
        instruments=REFERENCES,
        composite=5_328,
        members=tuple(cfg.Member(i, f"member {i}") for i in range(1, 6)),
    )
    extra = (NewKey("drop-1", "drop_copy", accounts=(1,)), NewKey("drop-3", "drop_copy", accounts=(3,)))
    cfg.create(folder, config, days=DAYS, extra_keys=extra)
    with gm.running(folder) as process, OperatorClient(folder) as ops:
        for account in range(1, 6):
            ops.execute(m.Deposit(account=account, amount=10**12, document=f"bank-{account}"))
            for code in REFERENCES:
                transfer = f"in-{code}-{account}"
                ops.execute(m.TransferIn(account=account, instrument=code, quantity=10**6, transfer=transfer))
        yield process, ops


def by_taking(maker: Client, taker: Client, code: str, price: int, quantity: int) -> None:
    """Direct acceptance of a sale."""
    sale = BulkDeclare(side=SELL, instrument=code, price=price, quantity=quantity)
    number = maker.execute(sale).data["declaration"]
    thread = taker.execute(BulkTake(declaration=number, price=price, quantity=quantity)).data["thread"]
    maker.execute(BulkConfirm(thread=thread, price=price, quantity=quantity))


def by_dialogue(maker: Client, taker: Client, code: str, price: int, quantity: int) -> None:
    """A purchase whose price is talked down."""
    wish = BulkDeclare(side=BUY, instrument=code, price=price + 100, quantity=quantity)
    number = maker.execute(wish).data["declaration"]
    thread = taker.execute(BulkOffer(declaration=number, price=price + 200, quantity=quantity)).data["thread"]
    maker.execute(BulkCounter(thread=thread, price=price, quantity=quantity))
    taker.execute(BulkAccept(thread=thread, price=price, quantity=quantity))
    maker.execute(BulkConfirm(thread=thread, price=price, quantity=quantity))


def in_parts(maker: Client, taker: Client, code: str, price: int, quantity: int) -> None:
    """One partial declaration in two deals."""
    sale = BulkDeclare(side=SELL, instrument=code, price=price, quantity=quantity, partial=True)
    number = maker.execute(sale).data["declaration"]
    for part in (quantity - 200_000, 200_000):
        thread = taker.execute(BulkTake(declaration=number, price=price, quantity=part)).data["thread"]
        maker.execute(BulkConfirm(thread=thread, price=price, quantity=part))


def test_the_published_bulk_figures_of_three_days_come_out_of_the_exchange_process(tmp_path) -> None:
    ways = dict(zip(PUBLISHED, (by_taking, by_dialogue, in_parts), strict=True))
    folder = tmp_path / "m"
    with market(folder, 20210721) as (_, ops), Client(folder, key="member-1") as a, Client(folder, key="member-2") as b:
        for date, (code, volume, amount) in PUBLISHED.items():
            ops.step_clock(at(date, 12.5))
            early = BulkDeclare(side=BUY, instrument=code, price=REFERENCES[code], quantity=100_000)
            with pytest.raises(Refusal, match="13:00:00"):
                a.execute(early)
            ops.step_clock(at(date, 13.5))
            assert amount % volume == 0, "these days' averages are prices"
            ways[date](a, b, code, amount // volume, volume)
            ops.step_clock(at(date, 15))
            closed = a.wait_for(lambda r, d=date: r.notice and r.notice["t"] == "day_closed" and r.notice["date"] == d)
            assert closed is not None, f"no close of {date}"
            vintage = next(v for v in closed.notice["vintages"] if v["code"] == code)
            assert (vintage["bulk_volume"], vintage["bulk_amount"]) == (volume, amount)
            assert (vintage["volume"], vintage["high"], vintage["low"]) == (0, 0, 0)
            assert vintage["close"] == vintage["previous"] == REFERENCES[code], "a bulk deal moved the close"
            ops.execute(m.SettleDay(date=date))


def bulk_seen(client: Client) -> list[dict]:
    """What has reached a connection of desk and auction."""
    client.sync()
    return [r.notice for r in client.poll() if r.notice and r.notice["t"].startswith(("bulk_", "auction_"))]


def test_a_connection_gets_only_what_is_addressed_to_it_and_a_kill_changes_nothing(tmp_path) -> None:
    folder = tmp_path / "m"
    with market(folder, 20231101) as (process, ops), contextlib.ExitStack() as stack:
        one, two, three, drop_one, drop_three = (
            stack.enter_context(Client(folder, key=key))
            for key in ("member-1", "member-2", "member-3", "drop-1", "drop-3")
        )
        ops.step_clock(at(20231101, 9))
        for message in (
            AuctionApply(instrument="CEA21", quantity=100_000, date=20231101, seller=4, waive=True, why="authority"),
            AuctionAnswer(auction=1, approve=True),
            AuctionFreeze(auction=1),
            AuctionAnnounce(auction=1, opens=at(20231101, 13.25), closes=at(20231101, 14)),
        ):
            ops.execute(message)
        ops.step_clock(at(20231101, 13.5))
        assert {n["t"] for n in bulk_seen(three)} == {"auction_announced"}
        one.execute(AuctionBid(auction=1, price=7_900, quantity=50_000))
        sale = BulkDeclare(side=SELL, instrument="CEA21", price=7_000, quantity=200_000, to=(2,), note="only for two")
        number = one.execute(sale).data["declaration"]
        thread = two.execute(BulkOffer(declaration=number, price=6_000, quantity=200_000)).data["thread"]
        assert [t["taker"] for t in two.link.query("desk")["threads"]] == [2]
        assert three.link.query("desk") == {"t": "bulk_view", "declarations": [], "threads": [], "next": 0}
        process.kill()
        process.start()
        one.execute(BulkCounter(thread=thread, price=6_500, quantity=200_000))
        two.execute(BulkAccept(thread=thread, price=6_500, quantity=200_000))
        for message in (
            BulkTake(declaration=number, price=7_000, quantity=200_000),
            BulkOffer(declaration=number, price=7_000, quantity=200_000),
            BulkConfirm(thread=thread, price=6_500, quantity=200_000),
            BulkWithdraw(declaration=number),
        ):
            with pytest.raises(Refusal) as refused:
                three.execute(message)
            assert refused.value.code in (Code.UNKNOWN_DECLARATION, Code.UNKNOWN_THREAD)
        with pytest.raises(Refusal) as refused:  # an operators' command
            three.execute(BulkFreeze(on=True))
        assert refused.value.code in (Code.NOT_AUTHORISED, Code.ROLE_NOT_ALLOWED)
        one.execute(BulkConfirm(thread=thread, price=6_500, quantity=200_000))
        assert bulk_seen(three) == [], "a stranger was told"
        assert {n["t"] for n in bulk_seen(drop_three)} == {"auction_announced"}
        dropped = {n["t"] for n in bulk_seen(drop_one)}
        assert {"bulk_declaration", "bulk_thread", "bulk_deal", "auction_bid_state"} <= dropped
        again = stack.enter_context(Client(folder, key="member-2"))  # another life sees its whole day, once
        seen = [n for n in again.poll(1.0) if n.notice]
        deals = [n.notice for n in seen if n.notice["t"] == "bulk_deal"]
        assert [(d["price"], d["quantity"], d["counterparty"]) for d in deals] == [(6_500, 200_000, 1)]
        assert not any(n.notice["t"] == "auction_bid_state" for n in seen), "a bid is sealed"
        rows = ops.deals()
        assert rows["quantity"].tolist() == [200_000]
        ops.subscribe()
        ops.sync()
        audit = [r.notice for r in ops.events(1.0) if r.notice]
        events = [n["event"] for n in audit if n["t"] == "bulk_thread" and n["thread"] == thread]
        expected = ["offer", "maker_counters", "taker_accepts", "maker_confirms"]
        assert [e for n, e in enumerate(events) if n == 0 or events[n - 1] != e] == expected
