"""The monitor without a browser: people, sessions, controls, picture, words."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

import msgspec
import numpy as np
import pytest
from conftest import PATIENCE_S

from cea import operating
from engine import messages as m
from engine.calendar import format_time, trading_date
from engine.codes import Code
from engine.market import ACCOUNT, HOLDING, UNLIMITED
from engine.records import EVENT, FILL_TAKER, NOTICE, REJECTED
from gateway.metrics import GAUGES
from gateway.monitor import controls, look, users, wellness
from gateway.monitor.acts import Acts
from gateway.monitor.app import KNOCK_S, NO_ANSWER, Guard, Left, announce, same_site
from gateway.monitor.controls_panel import ControlsPanel
from gateway.monitor.feed import Feed
from gateway.monitor.health_panel import VITAL, vital_signs
from gateway.monitor.panel import Panel
from gateway.monitor.picture import CURVE_POINTS, STALE_S, Curve, Member, Picture, members_of
from gateway.monitor.texts import WORDS
from gateway.monitor.view import PANELS
from gateway.monitor.wellness import concerns
from settlement.progress import Progress, Step

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
    assert "account" in controls.perform(keys, li, suspend, {"account": "-5"}, "a good reason").text
    assert "why" in controls.perform(keys, li, suspend, {"account": "5"}, "x" * 501).text
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
            continue  # keys: see the tests of gateway.issuing; announcing an auction: see below
        commands = control.make({field: values[field] for field in control.fields}, "a good reason")
        assert commands
        for command in commands:
            assert m.decode(m.encode(command)) == command
            assert command.why == "a good reason"
        assert control.two_persons == any(getattr(c, "second", "") for c in commands)


class Asked:
    """An exchange that knows one auction, and keeps what it is sent."""

    def __init__(self) -> None:
        self.link, self.sent = self, []

    def query(self, what: str) -> dict:
        return {what: [{"auction": 2, "date": 20251203}]}

    def execute(self, command) -> None:
        self.sent.append(command)


def test_an_auction_is_announced_for_its_own_day_and_what_is_wrong_names_its_field(tmp_path):
    announce, asked = controls.CONTROLS["announce_auction"].act, Asked()
    good = {"auction": "2", "opens": "13:15", "closes": "14:15"}
    assert announce(asked, tmp_path, good, "as applied for") == "auction 2: 20251203 13:15–14:15"
    (command,) = asked.sent
    assert [format_time(t)[:5] for t in (command.opens, command.closes)] == ["13:15", "14:15"]
    assert trading_date(command.opens) == 20251203 and (command.auction, command.why) == (2, "as applied for")
    for field, value in (("auction", "3"), ("opens", "1:15"), ("closes", "2 pm")):
        with pytest.raises(controls.FieldError, match=f"^{field}: "):
            announce(asked, tmp_path, {**good, field: value}, "as applied for")
    with pytest.raises(msgspec.ValidationError, match="why"):
        announce(asked, tmp_path, good, "x" * 501)
    assert len(asked.sent) == 1


class Thing:
    """An element of a page, as far as a list of them needs it."""

    def __init__(self, key: int, place: list[Thing]) -> None:
        self.key, self.place = key, place
        place.append(self)

    def delete(self) -> None:
        self.place.remove(self)

    def move(self, target_index: int) -> None:
        self.place.remove(self)
        self.place.insert(target_index, self)


def rebuilt(panel: Panel, parent, shown, wanted, make) -> None:
    """The planted bug: what a page did that lost a second person's click on the element it was just replacing."""
    if panel.changed("rebuilt", wanted):
        for element in [shown.pop(key) for key in list(shown)]:
            element.delete()
        shown.update({key: make(key) for key in wanted})


@pytest.mark.parametrize(("keep", "sound"), [(Panel.keep, True), (rebuilt, False)])
def test_what_may_be_clicked_stays_the_same_element_while_the_list_around_it_changes(keep, sound):
    place: list[Thing] = []
    shown: dict[int, Thing] = {}
    panel = object.__new__(ControlsPanel)
    panel._drawn = {}
    ever_replaced = False
    for wanted in ([2, 3], [2, 3, 5], [1, 2, 3, 5], [1, 3, 4, 5], [1, 3, 4, 5], [], [3]):
        before = dict(shown)
        keep(panel, contextlib.nullcontext(), shown, wanted, lambda key: Thing(key, place))
        assert [thing.key for thing in place] == wanted == sorted(shown), "each once, in order"
        ever_replaced |= any(shown[key] is not before[key] for key in wanted if key in before)
    assert ever_replaced is not sound


def test_controls_and_fields_have_words_in_both_languages():
    names = set(controls.CONTROLS) | set(controls.GROUPS) | {f for c in controls.CONTROLS.values() for f in c.fields}
    assert names <= set(WORDS)
    assert {w for w in WORDS if "." in w} <= {f"{c.name}.{f}" for c in controls.CONTROLS.values() for f in c.fields}
    assert all(en and zh for en, zh in WORDS.values())


def test_each_sign_of_health_has_a_metric_and_words_and_none_is_made_up():
    status = {"counters": {"feed_overruns": 3}}
    unknown = vital_signs(status, {})
    assert set(unknown) <= set(WORDS) and set(VITAL.values()) <= set(GAUGES)
    assert {v for k, v in unknown.items() if k != "slow_subscribers"} == {"–"} and unknown["slow_subscribers"] == "3"
    known = {"cea_commit_seconds_count": 4, "cea_commit_seconds_sum": 0.01, "cea_disk_free_bytes": 3 << 29}
    signs = vital_signs(status, known | dict.fromkeys(VITAL.values(), 12_345.0))
    assert signs["commit_mean"] == "2.50 ms" and signs["disk_free"] == "1.5 GiB" and signs["sessions_in"] == "12,345"


def quiet() -> Picture:
    """A market that is well."""
    picture = Picture()
    picture.status = {
        "phase": "morning", "halted": 0, "cancel_only": 0, "logged_in": 9, "alarms": [], "proposals": {},
        "day_closed": False, "settled": False,
        "instruments": {"CEA24": {"halted": 0, "listed": 1}, "CEA": {"halted": 1, "listed": 0}},
    }  # fmt: skip
    picture.health = dict.fromkeys(GAUGES, 0.0) | {"cea_disk_free_bytes": 2.0**40, "cea_calendar_days_left": 200.0}
    return picture


TROUBLE = {
    "market_halted": (lambda p: p.status.update(halted=1), True),
    "cancel_only": (lambda p: p.status.update(cancel_only=1), True),
    "vintages_halted": (lambda p: p.status["instruments"]["CEA24"].update(halted=1), False),
    "sessions_lost": (lambda p: p.sessions.append({"state": "lost"}), False),
    "different": (lambda p: setattr(p, "settlement", Progress(differences=("cash of 3",))), True),
    "held_deals": (lambda p: setattr(p, "settlement", Progress(held=2)), True),
    "settlement_stands": (lambda p: setattr(p, "settlement", Progress(step=Step.STOPPED)), True),
    "not_settled": (lambda p: p.status.update(day_closed=True), False),
    "alarms": (lambda p: p.status.update(alarms=["keys.toml cannot be read"]), False),
    "no_metrics": (lambda p: p.health.clear(), False),
    "verify_problems": (lambda p: p.health.update(cea_verify_problems=1), True),
    "disk_low": (lambda p: p.health.update(cea_disk_free_bytes=2.0**31), True),
    "unsent_worst": (lambda p: p.health.update(cea_unsent_reports_worst=20_000), False),
    "calendar_left": (lambda p: p.health.update(cea_calendar_days_left=19), False),
    "accounts_near": (lambda p: p.members.update({3: Member(3, "", 1, 0, 0, 0, (), 95, ())}), False),
    "proposals": (lambda p: p.status.update(proposals={"1": {}}), False),
}


@pytest.mark.parametrize("word", TROUBLE)
def test_a_quiet_market_is_well_and_each_trouble_is_told_with_its_weight_and_its_tab(word):
    picture = quiet()
    assert concerns(picture) == []
    make, grave = TROUBLE[word]
    make(picture)
    (found,) = concerns(picture)
    assert (found.word, found.grave) == (word, grave) and found.tab in PANELS and word in WORDS


def test_the_grave_comes_first_and_many_silent_sessions_are_grave():
    picture = quiet()
    picture.status.update(alarms=["x"])
    picture.sessions = [{"state": "lost"}] * 3
    assert [(c.word, c.detail, c.grave) for c in concerns(picture)] == [
        ("sessions_lost", "3", True), ("alarms", "1", False)
    ]  # fmt: skip
    picture.status.update(phase="closed")
    assert not any(c.grave for c in concerns(picture)), "in the evening members go home"
    assert concerns(Picture()) == [], "before the first answer nothing is known; the page is marked stale"


def test_page_and_pager_have_the_same_limits(repository):
    rules = (repository / "docs" / "operations" / "alerts.yml").read_text()
    for rule in (
        f"cea_disk_free_bytes < {wellness.DISK_LEFT_MIN}",
        f"cea_unsent_reports_worst > {wellness.REPORTS_WAIT_MAX}",
        f"cea_sessions_lost > {wellness.LOST_SHARE_MAX} * (cea_sessions + 1)",
        f"cea_calendar_days_left < {wellness.CALENDAR_DAYS_MIN}",
    ):
        assert rule in rules


def test_the_rate_of_commands_is_that_between_two_answers():
    picture = Picture()
    picture.count(5_000, 100.0)
    assert picture.commands_s == 0, "what came before the first look is no rate"
    picture.count(5_300, 102.0)
    assert picture.commands_s == 150


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
    assert picture.reject_rows("zh")[0]["count"] == 1 and picture.notes[0]["what"] == "halt"
    picture.take(events[2:], {0: {"t": "market_notice", "what": "day"}})
    assert not picture.tape and not picture.rejects


def test_a_cancelled_deal_leaves_the_tape_and_is_noted():
    picture = Picture()
    events = np.zeros(3, EVENT)
    events["kind"], events["ref"] = [FILL_TAKER, FILL_TAKER, NOTICE], [1, 2, 0]
    picture.take(events, {2: {"t": "deal_cancelled", "number": 1, "why": "mistake"}})
    assert [deal["no"] for deal in picture.tape] == [2] and "mistake" in picture.notes[0]["text"]


def test_the_composites_curve_is_computed_deal_by_deal_as_the_rules_say():
    """E6: with the first deal of CEA24 at 59.50 the composite opens at 59.66; R7.3, R7.4."""
    picture = Picture()
    references = {"CEA": 6089, "CEA21": 5944, "CEA22": 5849, "CEA23": 5998, "CEA24": 5996}
    picture.codes = dict(enumerate(references))
    rows = {code: {"weight": 1, "reference": price} for code, price in references.items()}
    picture.take_status({"instruments": {**rows, "CEA25": {"weight": 0, "reference": 1}}})
    events = np.zeros(2, EVENT)
    events["kind"], events["instrument"], events["price"] = FILL_TAKER, [4, 2], [5950, 5950]
    picture.take(events, {})
    assert [price for _, price in picture.curves["COMCEA"].points] == [5966, 5986]
    picture.start_day()
    assert not picture.curves


def test_an_account_shows_how_near_its_limits_it_is_open_buys_included():
    accounts, holdings = np.zeros(2, ACCOUNT), np.zeros((2, 2), HOLDING)
    holdings["position_max"] = holdings["sell_max"] = UNLIMITED
    holdings["sellable"][0, 1], holdings["buy_open"][0, 1], holdings["position_max"][0, 1] = 400, 520, 1_000
    holdings["sold_today"][0, 0], holdings["sell_max"][0, 0] = 3, 10
    page = {"accounts": accounts, "holdings": holdings, "numbers": [4, 9], "names": ["a", "b"], "codes": ["X", "Y"]}
    near, free = members_of(page)
    assert near.limits == (("X", "sell_max", 3, 10), ("Y", "position_max", 920, 1_000)) and near.near == 92
    assert (free.limits, free.near, near.holdings) == ((), -1, (("Y", 400),))


def test_an_auction_is_one_row_of_all_its_notices_and_bids_are_counted_once():
    picture = Picture()
    bid = {"t": "auction_bid_state", "auction": 2, "bid": 7, "account": 3, "price": 5_000, "quantity": 10}
    for notice in (
        {"t": "auction_state", "auction": 2, "seller": 1, "state": "announced"},
        {"t": "auction_announced", "auction": 2, "opens": 5, "closes": 9},
        {**bid, "state": "placed"}, {**bid, "state": "placed"}, {**bid, "state": "raised", "quantity": 12},
        {**bid, "bid": 8, "state": "placed"}, {**bid, "bid": 8, "state": "cancelled"},
    ):  # fmt: skip
        picture.take_auction(notice)
    assert (
        picture.bids[2] == {7: 12} and picture.auctions[2]["state"] == "announced" and picture.auctions[2]["opens"] == 5
    )
    assert "5000" not in str(picture.auctions), "bids are sealed"


def test_depth_adds_up_from_the_best_price_outwards():
    assert look.steps([[5_950, 10, 1], [5_940, 5, 2]]) == [[59.4, 15], [59.5, 10]]


def test_what_people_did_is_on_the_disk_and_a_torn_line_hides_no_other(tmp_path):
    acts = Acts(tmp_path)
    acts.note(person="li", act="halt", why="fire")
    with acts.path.open("ab") as file:
        file.write(b'{"person":"wa')
    again = Acts(tmp_path)
    again.note(person="wang", act="resume", why="out")
    assert [a["person"] for a in Acts(tmp_path).last] == ["wang", "li"] and acts.path.stat().st_mode & 0o077 == 0


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
    assert curve.shown()[-1] == (49_999, 49_999), "the last deal is there, thinned out or not"
    assert len(curve.points) <= CURVE_POINTS and curve.points[0] == (0, 0)
    assert curve.points[-1][1] > 49_000


def test_a_picture_is_stale_when_the_last_answer_is_old():
    picture = Picture()
    assert picture.stale(10.0)
    picture.seen = 10.0
    assert not picture.stale(9.9 + STALE_S) and picture.stale(10.1 + STALE_S)
    every_look = look.TICK_S + look.LOOK_S + 0.2  # ours, and the page's own five times a second
    assert STALE_S + every_look <= 2.0, "marked within two seconds"


def test_only_pages_of_the_same_host_and_port_may_send():
    assert same_site("http://127.0.0.1:8060", "127.0.0.1:8060")
    for origin in ("http://127.0.0.1:8061", "http://evil.example", "null", "http://127.0.0.1:8060.evil.example"):
        assert not same_site(origin, "127.0.0.1:8060")


def test_a_request_that_the_page_leaves_without_an_answer_gets_one():
    sent = []

    async def left(scope, receive, send):
        """What the page's server does where the browser goes away in the middle."""

    async def answered(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"page"})

    async def send(message):
        sent.append((message["type"], message.get("status", message.get("body"))))

    for inner, seen in ((left, [499, b""]), (answered, [200, b"page"])):
        sent.clear()
        asyncio.run(Guard(inner)({"type": "http", "headers": []}, None, send))
        assert sent == list(zip(("http.response.start", "http.response.body"), seen, strict=True))


def test_the_address_is_told_only_once_somebody_listens_there(tmp_path):
    (tmp_path / "run").mkdir()
    told = tmp_path / "run" / "monitor.json"

    async def begin() -> None:
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))  # taken, and nobody listens yet
            telling = asyncio.create_task(announce(tmp_path, *place.getsockname(), "here"))
            await asyncio.sleep(2 * KNOCK_S)
            assert not told.exists()
            place.listen()
            await asyncio.wait_for(telling, PATIENCE_S)

    asyncio.run(begin())
    assert told.read_text() == "here"


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


def test_a_browser_that_left_is_no_error_of_the_server_and_all_else_is():
    """starlette itself raises it where the app ends without an answer; nothing else is kept from the log."""
    base = pytest.importorskip("starlette.middleware.base", reason="the monitor's libraries are not installed")

    async def silent(scope, receive, send):
        pass

    async def pass_on(request, call_next):
        return await call_next(request)

    async def receive():
        return {"type": "http.disconnect"}

    with pytest.raises(RuntimeError) as found:
        asyncio.run(base.BaseHTTPMiddleware(silent, pass_on)({"type": "http", "headers": []}, receive, None))
    for error, kept in ((found.value, False), (RuntimeError("no rows"), True), (ValueError(NO_ANSWER), True)):
        record = logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, "", (), (type(error), error, None))
        assert Left().filter(record) is kept
