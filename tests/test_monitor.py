"""The monitor in a real headless Chromium: an operator's day from open to settlement, losses, attacks, screens."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from contextlib import contextmanager
from urllib.parse import urlsplit

import gateway_market as gm
import monitor_world as mw
import pytest

from engine import messages as m
from engine.auction_messages import AuctionAnnounce, AuctionAnswer, AuctionApply, AuctionBid, AuctionFreeze
from engine.bulk_messages import BulkCounter, BulkDeclare, BulkOffer
from engine.journal import RealDisk
from engine.journal.rewrite import sound_groups
from engine.prices import format_price
from engine.records import MESSAGE
from gateway import keys as keyfile
from gateway.client import Client, GatewayError
from gateway.monitor.controls import proposal_of
from gateway.operator import OperatorClient

pytestmark = pytest.mark.slow
NASTY = "<img src=x onerror='window.pwned=1'><script>window.pwned=1</script>"
TABS = ("market", "desk", "members", "settlement", "health", "alerts", "controls")
NEXT_DAY = gm.DAY + 24 * gm.HOUR


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(folder, exchange, operators' session of the test, monitor) in the morning of 2025-12-03."""
    mw.programs()  # skips at once where there is no browser
    folder = tmp_path_factory.mktemp("market") / "m"
    mw.market(folder)
    mw.people(folder)
    with gm.running(folder) as process:
        mw.fund(folder)
        with Client(folder, key="member-1") as a, Client(folder, key="member-2") as b:
            for i in range(12):
                a.sell("CEA24", 5950 + i, 500)
            for _ in range(4):
                b.buy("CEA24", 5952, 400)
        with OperatorClient(folder, key="tester") as ops, mw.monitored(folder) as monitor:
            yield folder, process, ops, monitor


@pytest.fixture(scope="module")
def page(world):
    """An operator who is logged in, in English."""
    with mw.at_the_page(world[3].url) as page:
        page.login("li")
        page.find("#tile-CEA24")
        page.in_english()
        yield page


def journaled(folder) -> list:
    """All slow-lane commands of the journal, decoded."""
    found = []
    for group in sound_groups(RealDisk(folder / "journal")):
        at = 0
        for command in group.commands[group.commands["kind"] == MESSAGE]:
            end = at + int(command["quantity"])
            found.append(m.decode(bytes(group.payloads[at:end])))
            at = end
    return found


def test_a_wrong_password_is_refused_and_a_viewer_sees_and_cannot_act(world):
    with mw.at_the_page(world[3].url) as page:
        page.driver.get(page.url)
        page.find("#field-password")
        assert "CEA24" not in page.text()
        page.login("li", "not the password")
        page.waits_for("密码错误")
        page.driver.get(page.url)
        page.find("#field-password")
        page.login("guest")
        page.find("#tile-CEA24")
        page.tab("controls")
        page.find("#read-only")
        assert not page.all("[id^=do-]")


def test_the_market_stands_on_the_page_and_a_new_deal_appears_at_once(world, page):
    page.tab("market")
    page.waits_for("59.5")
    page.click("#tile-CEA24", lambda: page.says("#curve-title") == "Intraday CEA24")
    with Client(world[0], key="member-3") as me:
        assert me.buy("CEA24", 5960, 123).filled == 123
        page.until(lambda: any("123" in row for row in page.cells("tape")), "the deal")
    page.until(lambda: len(page.all("canvas")) == 2, "both charts")
    # the composite has a curve of its own
    page.click("#tile-COMCEA", lambda: page.says("#curve-title") == "Intraday Composite")
    page.enter("#tile-CEA24", lambda: page.says("#curve-title") == "Intraday CEA24")


def test_a_halt_needs_a_reason_shows_its_effect_and_ends(world, page):
    _folder, _, ops, _ = world
    page.refused("halt", "x", "≥ 5", leave=False, instrument="CEA24")
    assert not ops.status()["instruments"]["CEA24"]["halted"]
    page.act("halt", "x technical failure", "Halt: ", instrument="CEA24")
    assert ops.status()["instruments"]["CEA24"]["halted"]
    page.tab("market")
    page.waits_for("HALTED")
    page.until(lambda: page.says("#concern-vintages_halted") == "halted CEA24", "the concern")
    page.click("#concern-vintages_halted", "#tab-controls.q-tab--active")
    page.act("resume", "cause is gone", "Resume: ", instrument="CEA24")
    page.until(lambda: not page.shown("#concern-vintages_halted"), "the end of the concern")
    assert not ops.status()["instruments"]["CEA24"]["halted"]
    page.tab("health")
    page.waits_for("technical failure")
    page.until(lambda: dict(page.cells("vital")).get("commit to disk, mean", "").endswith(" ms"), "a commit's time")


# The letters' own messages are lost, as by a connection that breaks before the click; how many there were.
LOSES = """window.ceaLost = 0; window.ceaEmit ??= window.socket.emit;
window.socket.emit = name => { window.ceaLost += name === 'event'; }"""
KEEPS = "if (window.ceaEmit) { window.socket.emit = window.ceaEmit; } return window.ceaLost"


def test_the_journal_has_what_stood_in_the_dialog_at_the_click_though_no_letter_was_heard(world, page):
    text, reason = "bulk hours begin late: 13:30", "发布系统维护公告 a planned change"
    lost = 0

    def attempt() -> None:
        nonlocal lost
        page.tab("controls")
        page.click("#do-publish_notice", "#do-it")
        page.js(LOSES)
        try:
            page.type({"#field-text": text, "#field-reason": reason}, 3 * mw.AGAIN_S)
        finally:
            lost = max(lost, page.js(KEEPS) or 0)
        page.click("#do-it", lambda: not page.shown("#do-it"))

    page.again(attempt, lambda: "Publish a notice: done" in page.says("#effect"), 2 * mw.AGAIN_S)
    assert lost >= len(text), "an input tells each letter; here nobody heard it"
    said = [c for c in journaled(world[0]) if isinstance(c, m.PublishNotice)]
    assert said and {(c.text, c.why) for c in said} == {(text, reason)}


def test_each_other_control_of_one_person_does_what_it_says(world, page):
    folder, _, ops, _ = world
    with Client(folder, key="member-4") as me:
        assert me.buy("CEA24", 5900, 10).open
        page.act("mass_cancel", "asked by the member", "cancelled 1", account="4", instrument="")
        assert ops.balance(4)["open_orders"] == 0
    page.act("suspend", "suspected of layering", "status 3", account="5")
    assert ops.balance(5)["status"] == 3
    page.act("kill", "credentials were stolen", "status 2", account="4")
    assert ops.balance(4)["status"] == 2
    page.act("cancel_only", "trouble with the disk", "Cancel-only mode: ")
    assert ops.status()["cancel_only"]
    page.until(lambda: "Cancel-only" in page.says("#phase"), "the mark of the mode")
    page.act("cancel_only_off", "disk was replaced", "End cancel-only mode: ")
    assert not ops.status()["cancel_only"]
    page.act("publish_notice", "announcement", "Publish a notice: ", text="lunch is at noon")
    page.act("open_account", "a new emitter", "Open an account: ", account="77", text=NASTY)
    # the exchange's own refusal stays in the dialog
    page.refused("open_account", "a new emitter", "code ", account="77", text="again")
    page.act("list_vintage", "issued today", "reference ", instrument_new="CEA25")
    page.tab("market")
    page.find("#tile-CEA25")
    page.act("retire_vintage", "listed by mistake", "Retire a vintage: ", instrument="CEA25")
    limits = {"account": "3", "instrument": "CEA24", "position_max": "310,000", "sell_max": ""}
    page.act("set_limits", "large holder", "Holding and sell limits: ", **limits)
    page.tab("members")
    page.waits_for("▲ CEA24 holding 300,")
    said = {type(c).__name__: c for c in journaled(folder) if getattr(c, "by", "") == "ops1"}
    acts = {"CancelOrders", "CancelOnly", "PublishNotice", "OpenAccount", "ListInstrument"}
    assert acts | {"RetireInstrument", "SetAccountStatus", "SetLimits"} <= set(said)
    assert all(len(c.why) >= 5 for c in said.values()), "each has its reason in the journal"
    acts = [json.loads(line) for line in (folder / "reports" / "acts.jsonl").read_text().splitlines()]
    assert acts[-1]["person"] == "li" and acts[-1]["act"] == "set_limits" and not [a for a in acts if not a["why"]]


def test_two_persons_cancel_a_deal_undo_a_kill_switch_and_make_an_operators_key(world, page):
    folder, _, ops, monitor = world
    ops.execute(m.SetAccountStatus(account=4, status=2, why="credentials were stolen"))
    before = ops.balance(2)
    asked = page.act("cancel_deal", "an obvious mistake", "waits for ops2", deal="1", second="ops2")
    number = proposal_of(asked)
    page.refused(f"#confirm-{number}", None, "waits for ops2")  # the first person cannot confirm it
    page.act("reactivate", "credentials were replaced", "waits for ops2", account="4", second="ops2")
    key = {"account": "", "key_name": "ops3", "role": "operator", "second": "ops2"}
    page.act("issue_key", "a third shift", "waits for ops2", **key)
    waiting = ops.status()["proposals"]
    assert len(waiting) == 3 and ops.balance(4)["status"] == 2 and not (folder / "keys" / "ops3.key").exists()
    with mw.at_the_page(monitor.url) as other:
        other.login("wang")
        other.find("#tile-CEA24")
        other.in_english()
        other.tab("controls")
        other.waits_for("an obvious mistake")
        for n in waiting:
            other.act(f"#confirm-{n}", None, f"Confirm {n}: confirmed and done")
        other.act("revoke_key", "the shift was dropped", "Revoke a key: session ", key_name="ops3")
    deal = ops.deals()[0]
    assert deal["flags"] & 1 and not ops.status()["proposals"] and ops.balance(4)["status"] == 1
    after, amount = ops.balance(2), int(deal["price"] * deal["quantity"])
    assert after["available"] == before["available"] + amount
    assert before["holdings"]["CEA24"]["bought_today"] - after["holdings"]["CEA24"]["bought_today"] == deal["quantity"]
    (command,) = (c for c in journaled(folder) if isinstance(c, m.CancelDeal))
    assert (command.by, command.second) == ("ops1", "ops2")
    (command,) = (c for c in journaled(folder) if isinstance(c, m.OpenSession) and c.name == "ops3")
    assert (command.by, command.second, command.why) == ("ops1", "ops2", "a third shift")


def test_a_key_is_issued_and_revoked_and_its_secret_is_never_on_the_page(world, page):
    folder = world[0]
    desk = {"account": "2", "key_name": "member-2b", "role": "", "second": ""}
    told = page.act("issue_key", "a second desk", "member-2b.key", **desk)
    secret = keyfile.read_secret(folder / "keys" / "member-2b.key")
    assert secret.secret not in told and secret.secret not in page.driver.page_source
    with Client(folder, key="member-2b") as me:  # taken by the exchange within a second
        assert me.buy("CEA24", 5800, 1).open
        page.act("revoke_key", "desk was closed", "Revoke a key: session ", key_name="member-2b")

        def is_out() -> bool:
            try:
                me.buy("CEA24", 5801, 1)
            except GatewayError:
                return True
            return False

        page.until(is_out, "the end of the revoked key's session")
    custodian = {"account": "1, 2", "key_name": "copy-12", "role": "drop_copy", "second": ""}
    page.act("issue_key", "their custodian", "copy-12.key", **custodian)
    with Client(folder, key="copy-12") as copy, Client(folder, key="member-1") as me:
        order = me.buy("CEA24", 5801, 1)
        page.until(lambda: any(r.event["order_id"] == order.order_id for r in copy.poll()), "the copy of an order")
    page.refused("revoke_key", "by mistake", "has the role settlement", key_name="settlement")


def test_the_desk_with_its_dialogues_and_the_auction_stand_on_the_page(world, page):
    folder, _, ops, _ = world
    date = gm.DATE
    with Client(folder, key="member-1") as seller:
        ask = AuctionApply(instrument="CEA23", quantity=100_000, date=date, seller=1, waive=True, why="test")
        number, other = (ops.execute(ask).data["auction"] for _ in range(2))
        page.tab("desk")
        page.row("auctions", str(other), "#row-refuse_auction")
        page.click("#row-refuse_auction", "#field-auction")
        page.act("refuse_auction", "handed in twice", "Refuse an auction: ", auction=str(other))
        page.tab("desk")
        page.row("auctions", str(number), "#row-approve_auction")
        page.click("#row-approve_auction", "#field-auction")
        assert page.holds("#field-auction") == str(number)
        page.act("approve_auction", "in good order", "Approve an auction: ")
        seller.execute(AuctionFreeze(auction=number))
        opens = gm.DAY + int(13.25 * gm.HOUR)
        window = {"auction": str(number), "opens": "13:15", "closes": "14:15"}
        page.refused("announce_auction", "as applied for", "closes: time of day '2 pm'", **{**window, "closes": "2 pm"})
        page.act("announce_auction", "as applied for", f"auction {number}: {date} 13:15–14:15", **window)
        page.tab("desk")
        page.waits_for("2025-12-03 13:15–14:15")
        ops.step_clock(opens)
        reference = ops.status()["instruments"]["CEA23"]["reference"]
        with Client(folder, key="member-3") as bidder:
            bidder.execute(AuctionBid(auction=number, price=reference + 5, quantity=40_000))
        page.waits_for("1: 40,000 t")
        declared = seller.execute(
            BulkDeclare(side=1, instrument="CEA24", price=5700, quantity=150_000, note="at once")
        ).data["declaration"]
        with Client(folder, key="member-2") as taker:
            offer = BulkOffer(declaration=declared, price=5600, quantity=150_000, note="too dear")
            thread = taker.execute(offer).data["thread"]
            seller.execute(BulkCounter(thread=thread, price=5650, quantity=150_000, note="last word"))
            page.waits_for("maker has offered (2)")
            page.enter("#table-dialogues tbody tr", "#row-cancel_dialogue", first=str(thread))
            page.until(lambda: "too dear" in page.text() and "last word" in page.text(), "the steps of the dialogue")
            page.leave()
    page.row("declarations", str(declared), "#row-freeze_declaration")
    page.click("#row-freeze_declaration", "#field-declaration")  # leads to the control, with its number filled in
    assert page.holds("#field-declaration") == str(declared)
    page.act("freeze_declaration", "looked into", "Freeze a declaration: ")
    page.act("thaw_declaration", "nothing was wrong", "Thaw a declaration: ", declaration=str(declared))
    page.act("cancel_dialogue", "a typing error", "End a dialogue: ", dialogue=str(thread))
    page.act("cancel_declaration", "the seller asked", "Cancel a declaration: ", declaration=str(declared))
    ops.step_clock(opens + gm.HOUR)
    page.tab("desk")
    page.waits_for(f"40,000 t ≥ {format_price(reference + 5)}")  # what was sold, and the lowest price that was dealt
    said = [c for c in journaled(folder) if isinstance(c, AuctionAnswer | AuctionAnnounce)]
    assert [(c.auction, c.by, c.why) for c in said] == [
        (other, "ops1", "handed in twice"), (number, "ops1", "in good order"), (number, "ops1", "as applied for")
    ]  # fmt: skip


def test_texts_of_members_stay_texts(world, page):
    folder, _, ops, _ = world
    ops.step_clock(max(ops.time()["time_ns"], gm.DAY + int(13.2 * gm.HOUR)))  # bulk hours
    ops.execute(m.PublishNotice(text=NASTY))
    ops.execute(m.OpenAccount(account=78, name=NASTY))
    with Client(folder, key="member-1") as me, Client(folder, key="member-2") as other:
        number = me.execute(BulkDeclare(side=1, instrument="CEA22", price=5800, quantity=100_000, note=NASTY)).data[
            "declaration"
        ]
        offer = BulkOffer(declaration=number, price=5800, quantity=100_000, note=NASTY)
        thread = other.execute(offer).data["thread"]
        me.kill(NASTY)
    page.tab("desk")
    page.waits_for("onerror")
    page.row("dialogues", str(thread), ".step")
    page.until(lambda: "<script>" in page.says(".step"), "the text of the dialogue")
    page.leave()
    for tab in ("members", "health"):
        page.tab(tab)
        page.waits_for("<script>")
    asked = page.act("reactivate", NASTY, "waits for ops2", account="1", second="ops2")
    page.waits_for("<script>")
    page.click(f"#confirm-{proposal_of(asked)}", ".step")
    page.until(lambda: "<script>" in page.says(".step"), "the text of the proposal")
    page.leave()
    assert page.driver.execute_script("return window.pwned === undefined")


SMALL_TEXT = """
return [...document.querySelectorAll('body *')].filter(e => e.offsetParent && [...e.childNodes].some(
    n => n.nodeType == 3 && n.textContent.trim())).map(e => [parseFloat(getComputedStyle(e).fontSize), e.textContent])
    .filter(([size]) => size < 12)
"""
# Text whose contrast with what lies behind it is below 4.5 : 1 (WCAG AA).
PALE_TEXT = """
const parse = c => (c.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b; };
const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > .9) return c.slice(0, 3); } return [255, 255, 255]; };
return [...document.querySelectorAll('body *')].filter(e => e.offsetParent && [...e.childNodes].some(
    n => n.nodeType == 3 && n.textContent.trim()) && !e.closest('.q-field__label')).map(e => {
    const a = light(parse(getComputedStyle(e).color).slice(0, 3)), b = light(behind(e));
    return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.textContent]; }).filter(([c]) => c < 4.5)
"""
WIDE = "return [document.documentElement.scrollWidth, window.innerWidth]"


@contextmanager
def of_size(page, width: int, height: int):
    """The window in another size, and back."""
    page.driver.set_window_size(width, height)
    try:
        yield
    finally:
        page.driver.set_window_size(1280, 900)


@pytest.mark.parametrize(("width", "height", "dark"), [(1280, 900, False), (500, 850, True)])
def test_the_page_fits_and_its_text_is_large_and_clear_enough(world, page, width, height, dark, tmp_path):
    page.light(dark)
    with of_size(page, width, height):
        for tab in TABS:
            page.tab(tab)
            page.until(lambda: (page.js(WIDE) or [9_999])[0] <= width + 1, (tab, page.js(WIDE)))
            page.until(lambda: page.js(SMALL_TEXT) == [], (tab, page.js(SMALL_TEXT)))
            page.until(lambda: page.js(PALE_TEXT) == [], (tab, page.js(PALE_TEXT)))
            assert page.driver.save_screenshot(str(tmp_path / f"{tab}-{width}.png"))
    if dark:
        page.driver.get(page.url)  # the choices stay
        page.find(".body--dark")
        page.find(f"#tab-{TABS[-1]}.q-tab--active")
        page.light(False)


def test_the_keyboard_reaches_every_tab_and_leaves_what_is_typed_alone(world, page):
    page.tab("controls")
    page.driver.execute_script("document.activeElement.blur()")
    for number, tab in enumerate(TABS, 1):
        page.presses(str(number), lambda chosen=f"#tab-{tab}.q-tab--active": page.all(chosen))
    page.fill_in("halt", "1 2 3")  # digits in a field change no tab
    assert page.all("#tab-controls.q-tab--active")
    page.presses("\ue00c", lambda: not page.shown("#do-it"))  # Escape


def test_the_day_is_closed_settled_and_reconciled_and_the_next_morning_is_open(world, page):
    folder, _, ops, _ = world
    ops.step_clock(gm.DAY + 15 * gm.HOUR + gm.HOUR // 100)
    page.tab("settlement")
    page.waits_for("closed, not settled")
    page.waits_for("no settlement has been started")
    close = ops.status()["instruments"]["CEA24"]["close"]
    page.waits_for(f"{close // 100}.{close % 100:02d}")
    page.act("bulletin", "every evening", f"Publish the bulletin: {gm.DATE}")
    page.tab("health")
    page.waits_for("综合价格行情")
    page.act("settle", "every evening", "Start settlement: ")
    page.tab("settlement")
    assert ops.status()["settled"]
    live = int(sum(deal["flags"] & 1 == 0 for deal in ops.deals()))
    page.waits_for(f"2025-12-03: {live:,} / {live:,} deals posted")
    page.waits_for("reconciled: every balance")
    page.until(lambda: page.says("#settlement-step").startswith("done"), "the last step")
    full = "return document.querySelector('#settlement-bar').getAttribute('aria-valuenow')"
    page.until(lambda: page.js(full) == "1", "a full bar")
    page.until(lambda: page.says("#settled").endswith(": settled"), "the settled day")
    assert not page.cells("differences")
    ops.step_clock(NEXT_DAY + int(9.6 * gm.HOUR))
    page.tab("market")
    page.waits_for("2025-12-04 09:36")
    page.waits_for("morning")
    page.until(lambda: not page.cells("tape"), "a new day's empty tape")
    with Client(folder, key="member-3") as a, Client(folder, key="member-2") as b:
        a.sell("CEA24", close, 77)
        assert b.buy("CEA24", close, 77).filled == 77
        page.until(lambda: any("77" in row for row in page.cells("tape")), "the deal")


def test_nothing_is_loaded_from_another_host_and_no_script_fails(world, page):
    host = urlsplit(world[3].url).netloc
    urls = []
    for entry in page.driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            urls.append(message["params"]["request"]["url"])
    assert urls
    assert not [u for u in urls if not u.startswith(("data:", "blob:")) and urlsplit(u).netloc != host]
    severe = [e for e in page.driver.get_log("browser") if e["level"] == "SEVERE"]
    # a connection that a busy machine has broken is made again; that is no script's failure
    broken = [e for e in severe if e["source"] == "network" or "WebSocket connection to" in e["message"]]
    assert not [e for e in severe if e not in broken]
    log = (world[0] / "run" / "monitor.log").read_text()
    assert "Traceback" not in log, log[-3_000:]


def test_requests_of_another_sites_page_are_refused(world):
    request = urllib.request.Request(world[3].url, headers={"Origin": "http://evil.example"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 403
    with urllib.request.urlopen(world[3].url + "login") as answer:
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "samesite=strict" in answer.headers["Set-Cookie"].lower()


def test_the_page_is_marked_stale_when_the_exchange_is_gone_and_recovers(world, page):
    _folder, process, _, _ = world
    page.tab("market")
    tape: list[str] = []
    page.until(lambda: page.stale is False and (tape.extend(page.cells("tape")) or tape), "a fresh page")
    newest = tape[0]
    process.kill()
    page.until(lambda: page.stale is True, "the mark of old data")
    page.until(lambda: not page.shown("#state"), "nobody knows how the market is")
    process.start()
    process.ready()
    page.until(lambda: page.stale is False, "a fresh page")
    page.find("#state")
    page.until(lambda: newest in page.cells("tape"), "the day's deals, again")


def test_a_page_whose_monitor_is_gone_marks_itself_stale_and_nobody_is_logged_in_afterwards(world, page):
    folder, _, _, monitor = world
    monitor.stop()
    page.until(lambda: page.stale is True, "the mark of a dead page")
    with mw.monitored(folder, "--idle", "0.15") as again:  # nine seconds without a click
        page.url = again.url
        page.driver.get(again.url)
        page.find("#field-password")
        page.login("li")
        page.find("#field-password")  # time is over: the page asks again by itself
