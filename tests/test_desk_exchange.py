"""Desk and auction inside the exchange: one sequence, one journal form, one state, one set of locks."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from bulk_world import at

from engine import Capacity, Exchange, Rules
from engine import messages as msg
from engine.auction_messages import AuctionAnnounce, AuctionAnswer, AuctionApply, AuctionBid, AuctionFreeze
from engine.bulk_messages import BulkConfirm, BulkDeclare, BulkTake
from engine.codes import Code
from engine.records import BUY, COMMAND, LIMIT, NEW, NO_ACCOUNT, SELL

DATE = 20231101


def notices(output) -> list[tuple[int, dict]]:
    """(account, decoded payload) of every notice."""
    found, taken = [], 0
    for event in output.events:
        length = int(event["quantity"])
        found.append((int(event["account"]), msgspec.msgpack.decode(output.payloads[taken : taken + length])))
        taken += length
    return found


def done(output) -> dict:
    """The data of the Done notice; fails with the refusal's text."""
    for _, message in notices(output):
        assert message["t"] != "refused", message
        if message["t"] == "done":
            return message["data"]
    raise AssertionError("no done")


@pytest.fixture
def exchange() -> Exchange:
    ex = Exchange(Rules.national(), Capacity(accounts=16, orders=64, levels=4_096, deals=2, sessions=32))
    for account in range(6):
        done(ex.execute(msg.OpenAccount(account=account, name=f"member {account}")))
        done(ex.execute(msg.Deposit(account=account, amount=10**12, document=f"d{account}")))
    done(ex.execute(msg.ListInstrument(code="CEA21", reference=7_872)))
    done(ex.execute(msg.RollDay(date=DATE, references={"CEA21": 7_872})))
    for account in range(6):
        transfer = f"t{account}"
        done(ex.execute(msg.TransferIn(account=account, instrument="CEA21", quantity=10**6, transfer=transfer)))
    return ex


def bulk_deal(ex: Exchange, maker: int, taker: int, price: int, quantity: int) -> int:
    """A sale by direct acceptance; the deal's number."""
    sale = BulkDeclare(side=SELL, instrument="CEA21", price=price, quantity=quantity)
    declaration = done(ex.execute(sale, maker))["declaration"]
    take = BulkTake(declaration=declaration, price=price, quantity=quantity)
    thread = done(ex.execute(take, taker))["thread"]
    return done(ex.execute(BulkConfirm(thread=thread, price=price, quantity=quantity), maker))["deal"]


def test_bulk_deals_that_make_the_table_of_deals_grow_leave_the_matching_kernel_its_memory(exchange) -> None:
    ex = exchange
    ex.advance(at("13:30"))
    assert [bulk_deal(ex, 0, 1, 7_000 + n, 100_000) for n in range(5)] == [1, 2, 3, 4, 5]
    orders = np.zeros(2, COMMAND)
    orders["kind"], orders["order_type"], orders["price"], orders["quantity"] = NEW, LIMIT, 7_900, 10
    orders["side"], orders["account"], orders["session"], orders["request_no"] = (SELL, BUY), (2, 3), (3, 4), 1
    ex.submit(orders)
    deals = ex.market.deals[: int(ex.market.market[0]["deals"])]
    assert deals["number"].tolist() == [1, 2, 3, 4, 5, 6]
    assert deals["price"].tolist() == [7_000, 7_001, 7_002, 7_003, 7_004, 7_900]
    ex.check()


def test_the_close_counts_no_bulk_and_no_auction_deal_and_the_bulletin_has_both(exchange) -> None:
    ex = exchange
    ex.advance(at("09:00"))
    apply = AuctionApply(instrument="CEA21", quantity=100_000, date=DATE, seller=5, waive=True, why="authority")
    auction = done(ex.execute(apply))["auction"]
    done(ex.execute(AuctionAnswer(auction=auction, approve=True)))
    done(ex.execute(AuctionFreeze(auction=auction), 5))
    done(ex.execute(AuctionAnnounce(auction=auction, opens=at("10:00"), closes=at("10:30"))))
    ex.advance(at("10:10"))
    done(ex.execute(AuctionBid(auction=auction, price=8_000, quantity=60_000), 1))
    ex.check()
    ex.advance(at("11:30"))
    ex.execute(msg.PhaseMark())
    ex.advance(at("13:30"))
    bulk_deal(ex, 0, 1, 5_510, 292_144)
    ex.check()
    ex.advance(at("15:00"))
    closed = next(m for _, m in notices(ex.execute(msg.CloseDay())) if m["t"] == "day_closed")
    vintage = closed["vintages"][0]
    assert (vintage["bulk_volume"], vintage["bulk_amount"]) == (292_144, 1_609_713_440)
    assert (vintage["auction_volume"], vintage["auction_amount"]) == (60_000, 480_000_000)
    assert (vintage["open"], vintage["high"], vintage["low"], vintage["close"]) == (7_872, 0, 0, 7_872)
    assert (vintage["volume"], vintage["amount"]) == (0, 0)
    ex.check()


def test_a_snapshot_amid_a_negotiation_and_a_bidding_window_goes_on_as_if_nothing_had_been(exchange) -> None:
    ex = exchange
    ex.advance(at("13:10"))
    apply = AuctionApply(instrument="CEA21", quantity=100_000, date=DATE, seller=5, waive=True)
    auction = done(ex.execute(apply))["auction"]
    done(ex.execute(AuctionAnswer(auction=auction, approve=True)))
    done(ex.execute(AuctionFreeze(auction=auction)))
    done(ex.execute(AuctionAnnounce(auction=auction, opens=at("13:20"), closes=at("14:00"))))
    ex.advance(at("13:30"))
    done(ex.execute(AuctionBid(auction=auction, price=8_000, quantity=60_000), 1))
    sale = BulkDeclare(side=SELL, instrument="CEA21", price=7_000, quantity=300_000, partial=True)
    declaration = done(ex.execute(sale, 0))["declaration"]
    thread = done(ex.execute(BulkTake(declaration=declaration, price=7_000, quantity=120_000), 2))["thread"]
    again = Exchange.restore(ex.rules, ex.snapshot(), ex.market.capacity)
    assert again.state_hash() == ex.state_hash()
    again.check()
    steps = [(BulkConfirm(thread=thread, price=7_000, quantity=120_000), 0), (msg.PhaseMark(), NO_ACCOUNT)]
    outputs = []
    for one in (ex, again):
        made = [one.execute(*steps[0])]
        one.advance(at("15:00"))
        made.append(one.execute(*steps[1]))
        one.check()
        outputs.append([(o.events.tobytes(), o.payloads) for o in made])
    assert outputs[0] == outputs[1] and ex.state_hash() == again.state_hash()
    assert not ex.desk.declarations and not ex.auctions.auctions


def test_a_repeated_request_number_does_nothing_a_second_time(exchange) -> None:
    ex = exchange
    ex.advance(at("13:30"))
    sale = BulkDeclare(side=SELL, instrument="CEA21", price=7_000, quantity=100_000)
    done(ex.execute(sale, 0, session=1, request_no=1))
    before = ex.desk.dump()
    event = ex.execute(sale, 0, session=1, request_no=1).events[0]
    assert event["reason"] == Code.DUPLICATE_REQUEST and ex.desk.dump() == before
