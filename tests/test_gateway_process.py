"""The exchange process as a whole: orders, crashes, resynchronisation, over real sockets and CURVE."""

from __future__ import annotations

import gateway_market as gm
import pytest

from engine import messages as m
from engine.codes import Code
from gateway.client import Client, LoggedOut, LoginRefused, NoAnswer, Refusal, SessionRejected
from gateway.operator import OperatorClient


@pytest.fixture(scope="module", params=["plain", "hot"])
def exchange(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("market") / "m"
    gm.make(folder, lane=request.param)
    with gm.running(folder) as process, OperatorClient(folder) as ops:
        gm.fund(ops)
        yield process, ops


def test_an_order_rests_fills_and_is_cancelled(exchange):
    folder = exchange[0].folder
    with Client(folder, key="member-1") as buyer, Client(folder, key="member-2") as seller:
        ask = seller.sell("CEA24", "59.50", 1_000)
        assert ask.status == "accepted" and ask.order_id
        bid = buyer.buy("CEA24", 5950, 400)
        assert (bid.status, bid.filled, bid.amount) == ("filled", 400, 2_380_000)
        mine = next(o for o in seller.orders() if o.order_id == ask.order_id)
        assert (mine.status, mine.leaves) == ("partly_filled", 600)
        assert seller.cancel(ask.order_id).ok
        assert mine.status == "cancelled" and not seller.orders(only_open=True)
        assert [f.quantity for f in buyer.fills()] == [400]


def test_refusals_by_the_market_are_orders_with_a_code(exchange):
    with Client(exchange[0].folder, key="member-3") as me:
        assert me.buy("CEA24", "90.00", 10).code == Code.PRICE_ABOVE_LIMIT
        assert me.sell("CEA24", "59.00", 150_000).code == Code.QUANTITY_TOO_LARGE
        assert me.cancel(12345).code == Code.ORDER_NOT_OPEN
        with pytest.raises(Refusal) as refused:
            me.execute(m.Withdraw(account=3, amount=10**15, document="w1"))
        assert refused.value.code == Code.INSUFFICIENT_WITHDRAWABLE


def test_a_batch_of_orders_comes_back_complete_and_in_order(exchange):
    with Client(exchange[0].folder, key="member-4") as me:
        orders = me.send_batch([("buy", "CEA23", "56.00", 1 + i % 7) for i in range(1_500)])
        assert [o.quantity for o in orders] == [1 + i % 7 for i in range(1_500)] and all(o.open for o in orders)
        assert me.mass_cancel("CEA23").quantity == 1_500
        assert not me.orders(only_open=True)


def test_roles_and_planes_keep_apart(exchange):
    folder = exchange[0].folder
    with Client(folder, key="risk-1") as risk:
        assert risk.link.login.role == "risk"
        with pytest.raises(Exception, match="role"):
            risk.buy("CEA24", "59.00", 1)
        assert risk.mass_cancel().ok
    with pytest.raises(Refusal), Client(folder, key="member-1") as me:
        me.execute(m.Withdraw(account=2, amount=1, document="other"))
    with pytest.raises(NoAnswer):  # ZAP refuses the key on this plane without a word (D7)
        OperatorClient(folder, key="member-1", timeout=1.0)


def test_a_drop_copy_sees_its_accounts_only(exchange):
    folder = exchange[0].folder
    with Client(folder, key="drop") as drop, Client(folder, key="member-2") as b, Client(folder, key="member-3") as c:
        drop.sync()
        drop.poll()
        order = b.buy("CEA23", "56.00", 7)
        other = c.buy("CEA23", "56.00", 9)
        drop.sync()
        reports = drop.poll()
        seen = {int(r.event["order_id"]) for r in reports}
        assert order.order_id in seen and other.order_id not in seen
        numbers = [r.no for r in reports]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "in a sequence of its own"
        with pytest.raises(SessionRejected, match="role"):
            drop.cancel(order.order_id)  # it only reads
        assert b.cancel(order.order_id).ok and c.cancel(other.order_id).ok
        c.sell("CEA23", "56.00", 3)
        assert b.buy("CEA23", "56.00", 3).filled == 3
        found = [(f.account, f.quantity, f.side) for f in drop.fills()]
        assert found[-1:] == [(2, 3, "buy")], "its account's side only"


def test_a_second_login_of_the_same_key_takes_over(exchange):
    folder = exchange[0].folder
    first = Client(folder, key="member-5")  # D7
    with Client(folder, key="member-5") as second:
        with pytest.raises(LoggedOut, match="taken over"):
            first.sync()
        assert second.buy("CEA23", "56.00", 1).accepted
        second.mass_cancel()


@pytest.mark.slow
@pytest.mark.parametrize("lane", ["plain", "hot"])
def test_a_kill_loses_nothing_and_reports_come_again_byte_for_byte(tmp_path, lane):
    folder = tmp_path / "m"
    gm.make(folder, lane=lane)
    with gm.running(folder) as process, OperatorClient(folder) as ops, Client(folder, key="member-1") as me:
        gm.fund(ops)
        other = Client(folder, key="member-2")
        orders = me.send_batch([("buy", "CEA24", "59.00", 10 + i) for i in range(50)])
        other.sell("CEA24", "59.00", 200)
        me.sync()
        before = [(r.no, r.event.tobytes(), r.notice) for r in me.poll()]
        hash_before = ops.state_hash()
        process.kill()
        process.start()
        process.ready()
        assert me.buy("CEA24", "58.90", 5).accepted  # reconnects and resynchronises by itself
        with_again = Client(folder, key="member-2")  # another life of member 2 sees all of its day
        assert [f.quantity for f in with_again.fills()] == [f.quantity for f in other.fills()]
        me.cancel(me.orders(only_open=True)[-1].order_id)
        again = Client(folder, key="member-1")
        after = [(r.no, r.event.tobytes(), r.notice) for r in again.poll(1.0)]
        assert after[: len(before)] == before
        assert {o.order_id for o in again.orders()} >= {o.order_id for o in orders}
        assert ops.status()["epoch"] == 2 and hash_before != ops.state_hash()
        assert process.stop() == 0  # a clean stop, then a start from its snapshot: the day's reports stay (D5)
        process.start()
        process.ready()
        third = Client(folder, key="member-1")
        assert [(r.no, r.event.tobytes(), r.notice) for r in third.poll(1.0)][: len(after)] == after
        third.link.next_report += 1_000  # D6: a client that has seen more than we have
        third.link._drop()
        with pytest.raises(LoginRefused) as held:
            third.link.open()
        assert held.value.code == Code.AHEAD_OF_EXCHANGE
