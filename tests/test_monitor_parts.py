"""The monitor without a browser: people, sessions, controls, picture, words."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from cea import operating
from engine import messages as m
from engine.codes import Code
from engine.records import EVENT, FILL_TAKER, NOTICE, REJECTED
from gateway.monitor import controls, users
from gateway.monitor.app import Guard, same_site
from gateway.monitor.feed import Feed
from gateway.monitor.picture import CURVE_POINTS, STALE_S, Curve, Picture
from gateway.monitor.texts import WORDS

PASSWORD = "a long enough password"


@pytest.fixture
def keys(tmp_path):
    (tmp_path / "ops1.key").write_text("secret")
    users.save(tmp_path, "li", PASSWORD, "operator", "ops1")
    users.save(tmp_path, "guest", PASSWORD, "viewer")
    return tmp_path


class Time:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_people_log_in_with_their_password_and_nobody_elses(keys):
    sessions = users.Sessions(keys)
    assert sessions.login("b1", "li", PASSWORD) == "" and sessions.user("b1").role == "operator"
    assert sessions.login("b2", "li", PASSWORD + "x") == "wrong" and sessions.user("b2") is None
    assert sessions.login("b2", "nobody", PASSWORD) == "wrong"
    assert PASSWORD not in (keys / users.FILE).read_text()


def test_a_session_ends_when_nobody_clicks_and_lives_while_somebody_does(keys):
    clock = Time()
    sessions = users.Sessions(keys, clock)
    sessions.login("b", "li", PASSWORD)
    clock.now += users.IDLE_S - 1
    assert sessions.user("b", touch=True)
    clock.now += users.IDLE_S - 1
    assert sessions.user("b")  # looking is not clicking
    clock.now += 2
    assert sessions.user("b") is None
    clock.now -= 2
    assert sessions.user("b") is None, "it is forgotten, not only hidden"


def test_guessing_is_slowed_down_even_with_the_right_password(keys):
    clock = Time()
    sessions = users.Sessions(keys, clock)
    for _ in range(users.FAILURES_MAX):
        assert sessions.login("b", "li", "wrong password") == "wrong"
    assert sessions.login("b", "li", PASSWORD) == "wait"
    clock.now += users.FAILURES_S
    assert sessions.login("b", "li", PASSWORD) == ""


def test_a_file_that_others_can_read_or_that_is_no_users_file_is_refused(keys):
    (keys / users.FILE).chmod(0o644)
    with pytest.raises(users.UserFileError, match="chmod 600"):
        users.load(keys)
    (keys / users.FILE).chmod(0o600)
    (keys / users.FILE).write_text("[[users]]\nname = 'x'\nrole = 'king'\n")
    with pytest.raises(users.UserFileError, match="role"):
        users.load(keys)


def test_short_passwords_and_keys_that_are_not_there_are_refused(keys):
    with pytest.raises(users.UserFileError, match="password"):
        users.save(keys, "wu", "short", "viewer")
    with pytest.raises(users.UserFileError, match="ops9"):
        users.save(keys, "wu", PASSWORD, "operator", "ops9")
    with pytest.raises(users.UserFileError, match="name"):
        users.save(keys, "Wu <b>", PASSWORD, "viewer")


def test_a_viewer_and_a_reason_that_is_none_never_reach_the_exchange(keys):
    guest, li = users.load(keys)["guest"], users.load(keys)["li"]
    halt = controls.CONTROLS["halt"]
    assert controls.perform(keys, guest, halt, {"instrument": ""}, "a good reason").text == "this person may only look"
    assert "reason" in controls.perform(keys, li, halt, {"instrument": ""}, " no ").text
    suspend = controls.CONTROLS["suspend"]
    assert "account" in controls.perform(keys, li, suspend, {}, "a good reason").text
    assert "number" in controls.perform(keys, li, suspend, {"account": "x"}, "a good reason").text
    assert not controls.confirm(keys, guest, 1).ok


def test_an_operator_without_a_usable_key_is_told_so(keys):
    (keys / "keys").mkdir()
    (keys / "keys" / "ops1.key").write_text("no key")
    (keys / "keys" / "ops1.key").chmod(0o600)
    halt = controls.CONTROLS["halt"]
    result = controls.perform(keys, users.load(keys)["li"], halt, {"instrument": ""}, "a good reason")
    assert not result.ok and "ops1.key" in result.text


def test_every_control_makes_commands_that_carry_the_reason_and_encode():
    values = {"instrument": "CEA24", "account": "3", "second": "ops2", "declaration": "1", "deal": "4",
              "text": "words", "instrument_new": "CEA26", "dialogue": "2", "auction": "5", "position_max": "50,000",
              "sell_max": ""}  # fmt: skip
    for control in controls.CONTROLS.values():
        if control.act is not None:
            continue  # keys: see the tests of gateway.issuing
        commands = control.make({field: values[field] for field in control.fields}, "a good reason")
        assert commands
        for command in commands:
            assert m.decode(m.encode(command)) == command
            assert command.why == "a good reason"
        assert control.two_persons == any(getattr(c, "second", "") for c in commands)


def test_controls_and_fields_have_words_in_both_languages():
    names = set(controls.CONTROLS) | set(controls.GROUPS) | {f for c in controls.CONTROLS.values() for f in c.fields}
    assert names <= set(WORDS)
    assert all(en and zh for en, zh in WORDS.values())


def test_each_field_of_a_control_has_an_option_on_the_command_line():
    assert {f for c in controls.CONTROLS.values() for f in c.fields} <= set(operating.OPTIONS)
    assert {c.group for c in controls.CONTROLS.values()} == set(controls.GROUPS)


def test_the_number_of_a_proposal_is_read_from_the_exchanges_words():
    assert controls.proposal_of("a second person must confirm: proposal 12 waits for ops2") == 12
    assert controls.proposal_of("no proposal waits for this key") == 0


def test_the_picture_follows_deals_refusals_and_the_day():
    picture = Picture()
    picture.codes = {0: "CEA24"}
    events = np.zeros(3, EVENT)
    events["kind"] = [FILL_TAKER, REJECTED, NOTICE]
    events["price"][0], events["quantity"][0], events["ref"][0] = 5950, 100, 7
    events["reason"][1] = Code.SELF_TRADE
    picture.take(events, {2: {"t": "market_notice", "what": "halt", "text": "fire"}})
    assert picture.tape[0]["price"] == 5950 and picture.curves["CEA24"].points == [(0, 5950)]
    assert picture.reject_rows("zh")[0]["count"] == 1 and picture.notes[0]["text"] == "halt fire"
    picture.take(events[2:], {0: {"t": "market_notice", "what": "day"}})
    assert not picture.tape and not picture.rejects


def test_a_cancelled_deal_leaves_the_tape_and_is_noted():
    picture = Picture()
    events = np.zeros(3, EVENT)
    events["kind"], events["ref"] = [FILL_TAKER, FILL_TAKER, NOTICE], [1, 2, 0]
    picture.take(events, {2: {"t": "deal_cancelled", "number": 1, "why": "mistake"}})
    assert [deal["no"] for deal in picture.tape] == [2] and "mistake" in picture.notes[0]["text"]


def test_who_has_seen_an_alert_is_known_after_a_restart_of_the_monitor(tmp_path):
    (tmp_path / "run").mkdir()
    Feed(tmp_path, "key").acknowledge("20251203-wash", "li")
    again = Feed(tmp_path, "key")
    assert again.picture.acknowledged == {"20251203-wash": "li"}
    (tmp_path / "run" / "acknowledged.json").write_text("broken")
    assert Feed(tmp_path, "key").picture.acknowledged == {}


def test_a_curve_never_grows_beyond_its_points_and_keeps_its_first():
    curve = Curve()
    for n in range(50_000):
        curve.add(n * 1_000_000, n)
    assert len(curve.points) <= CURVE_POINTS and curve.points[0] == (0, 0)
    assert curve.points[-1][1] > 49_000


def test_a_picture_is_stale_when_the_last_answer_is_old():
    picture = Picture()
    assert picture.stale(10.0)
    picture.seen = 10.0
    assert not picture.stale(9.9 + STALE_S) and picture.stale(10.1 + STALE_S)


def test_only_pages_of_the_same_host_and_port_may_send():
    assert same_site("http://127.0.0.1:8060", "127.0.0.1:8060")
    for origin in ("http://127.0.0.1:8061", "http://evil.example", "null", "http://127.0.0.1:8060.evil.example"):
        assert not same_site(origin, "127.0.0.1:8060")


def test_a_websocket_of_another_site_is_closed_before_the_page_sees_it():
    sent, reached = [], []

    async def inner(scope, receive, send):
        reached.append(scope["type"])

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    for origin, passes in ((b"http://evil.example", False), (b"http://here", True)):
        scope = {"type": "websocket", "headers": [(b"origin", origin), (b"host", b"here")]}
        asyncio.run(Guard(inner)(scope, receive, send))
        assert bool(reached) == passes
    assert sent == [{"type": "websocket.close", "code": 4403}]
