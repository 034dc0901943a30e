"""What a member's developer gets wrong, and what the client says to it: at once, with the field and the reason."""

from __future__ import annotations

import random

import pytest
from session_world import World

from engine.codes import Code
from gateway import protocol as p
from gateway.client import LoggedOut, LoginRefused, SessionRejected
from gateway.connection import Connection
from gateway.session import Bucket


@pytest.mark.parametrize(
    ("option", "value"),
    [("cancel_on_disconnect_ms", -5), ("cancel_on_disconnect_ms", "x"), ("heartbeat_ms", 50), ("heartbeat_ms", 2**70)],
)
def test_an_option_that_no_login_may_bear_is_named_before_anything_is_sent(option, value):
    with pytest.raises(ValueError, match="login: .*" + ("" if value == 2**70 else option)):
        World(random.Random(1)).client("member-1", **{option: value})


def test_a_login_that_the_exchange_cannot_read_is_refused_with_its_reason(monkeypatch):
    """A client that does not look first is told all the same; it waited for its time to be over, and blamed the key."""
    monkeypatch.setattr(p, "checked", lambda message: message)
    with pytest.raises(LoginRefused, match="heartbeat_ms") as found:
        World(random.Random(1)).client("member-1", heartbeat_ms=50)
    assert found.value.code == Code.MALFORMED


def test_a_dead_mans_switch_out_of_bounds_is_no_switch_and_says_so():
    world = World(random.Random(1))
    client = world.client("member-1")
    for wrong in (-2, "1s", 10**12):
        with pytest.raises(ValueError, match=r"dead_man: .*within_ms"):
            client.dead_man(wrong)
    client.dead_man(400)
    client.sync()
    assert world.core.sessions[1].dead_man_ms == 400


def test_a_kill_switch_is_sent_over_a_new_connection_where_the_old_one_is_gone():
    world = World(random.Random(1))
    client = world.client("member-1")
    client.link.socket.up = False
    client.kill("keys were stolen")
    client.sync()
    assert world.core.exchange.market.accounts[1]["status"] == 2


def asked_too_often() -> None:
    world = World(random.Random(1))
    client = world.client("member-1", timeout=5.0)
    session = world.core.sessions[1]
    session.orders = Bucket(session.row, "order", 2, 1, world.now_ns)
    began = world.now_ns
    assert [client.balances()[0]["account"] for _ in range(4)] == [1] * 4
    assert 10**9 < world.now_ns - began < 3 * 10**9, "as fast as the exchange allows"


def test_a_question_too_many_waits_for_as_long_as_the_exchange_says():
    asked_too_often()


def test_a_planted_client_that_overhears_the_reject_is_found(monkeypatch):
    """As it was: the question was lost, and the time was over."""
    hear = Connection._on_session_reject

    def overhear(link: Connection, message: p.SessionReject) -> None:
        hear(link, message)
        link._control_reject = None

    monkeypatch.setattr(Connection, "_on_session_reject", overhear)
    with pytest.raises(Exception, match="no answer to Query"):
        asked_too_often()


def test_a_question_that_cannot_be_answered_in_time_says_that_it_was_one_too_many():
    world = World(random.Random(1))
    client = world.client("member-1", timeout=2.0)
    session = world.core.sessions[1]
    session.orders = Bucket(session.row, "order", 1, 1, world.now_ns)
    session.row["order_fill"] = -(10**10)  # ten seconds' worth
    with pytest.raises(SessionRejected, match=r"too many messages; wait and try again \(after \d+ ms\)"):
        client.balances()


def test_who_was_taken_over_stays_out_and_does_not_take_the_session_back():
    world = World(random.Random(1))
    old = world.client("member-1")
    new = world.client("member-1")
    for act in (old.sync, old.balances, lambda: old.buy("CEA24", 5_900, 1), old.sync):
        with pytest.raises(LoggedOut, match="taken over"):
            act()
    new.sync()
    assert new.buy("CEA24", 5_900, 1).accepted
