"""The monitor in a real headless Chromium: an operator at work, losses, attacks, small screens."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import gateway_market as gm
import monitor_world as mw
import pytest

from engine import messages as m
from engine.bulk_messages import BulkDeclare
from gateway.client import Client
from gateway.operator import OperatorClient

pytestmark = pytest.mark.slow
NASTY = "<img src=x onerror='window.pwned=1'><script>window.pwned=1</script>"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(folder, exchange, operators' session of the test, monitor)."""
    mw.browser().quit()  # skips at once where there is none
    folder = tmp_path_factory.mktemp("market") / "m"
    gm.make(folder)
    mw.people(folder)
    with gm.running(folder) as process, OperatorClient(folder, key=str(folder / "keys" / "settlement.key")) as ops:
        with OperatorClient(folder, key="ops1") as first:
            gm.fund(first)
        with Client(folder, key="member-1") as a, Client(folder, key="member-2") as b:
            for i in range(12):
                a.sell("CEA24", 5950 + i, 500)
            for _ in range(4):
                b.buy("CEA24", 5952, 400)
        with mw.monitored(folder) as monitor:
            yield folder, process, ops, monitor


@pytest.fixture(scope="module")
def page(world):
    """An operator who is logged in, in English."""
    driver = mw.browser()
    try:
        page = mw.Page(driver, world[3].url)
        page.login("li")
        page.find("#tile-CEA24", 60)
        driver.find_element("xpath", "//button[contains(., 'English')]").click()
        page.waits_for("Order book")
        yield page
    finally:
        driver.quit()


def test_a_wrong_password_is_refused_and_the_page_asks_for_a_login(world):
    driver = mw.browser()
    try:
        page = mw.Page(driver, world[3].url)
        driver.get(page.url)
        page.find("input[type=password]")
        assert "CEA24" not in page.text()
        page.login("li", "not the password")
        page.waits_for("密码错误")
        driver.get(page.url)
        page.find("input[type=password]")
    finally:
        driver.quit()


def test_the_market_stands_on_the_page_and_a_new_deal_appears_at_once(world, page):
    page.waits_for("59.5")
    page.click("#tile-CEA24")
    with Client(world[0], key="member-3") as me:
        began = time.monotonic()
        assert me.buy("CEA24", 5960, 123).filled == 123
        page.waits_for("123", 5)
        assert time.monotonic() - began < 3
    assert page.driver.find_elements("css selector", "canvas")


def test_a_halt_needs_a_reason_shows_its_effect_and_ends(world, page):
    _folder, _, ops, _ = world
    page.tab("controls")
    page.act("halt", "x", instrument="CEA24")
    page.waits_for("at least 5 characters")
    assert not ops.status()["instruments"]["CEA24"]["halted"]
    page.find("#field-reason").send_keys(" technical failure")
    page.click("#do-it")
    page.waits_for("Halt: ")
    assert gm.wait_until(lambda: ops.status()["instruments"]["CEA24"]["halted"])
    page.act("resume", "cause is gone", instrument="CEA24")
    assert gm.wait_until(lambda: not ops.status()["instruments"]["CEA24"]["halted"])
    page.tab("health")
    page.waits_for("technical failure")


def test_each_other_control_of_one_person_does_what_it_says(world, page):
    folder, _, ops, _ = world
    page.tab("controls")

    def status_of(account: int) -> int:
        return ops.balance(account)["status"]

    with Client(folder, key="member-4") as me:
        order = me.buy("CEA24", 5900, 10)
        assert order.open
    page.act("mass_cancel", "asked by the member", account="4")
    assert gm.wait_until(lambda: ops.balance(4)["open_orders"] == 0)
    page.act("suspend", "suspected of layering", account="5")
    assert gm.wait_until(lambda: status_of(5) == 3)
    page.act("kill", "credentials were stolen", account="4")
    assert gm.wait_until(lambda: status_of(4) == 2)
    page.act("cancel_only", "trouble with the disk")
    assert gm.wait_until(lambda: ops.status()["cancel_only"])
    page.act("cancel_only_off", "disk was replaced")
    assert gm.wait_until(lambda: not ops.status()["cancel_only"])
    page.act("publish_notice", "announcement", text="lunch is at noon")
    page.waits_for("Publish a notice: ")
    page.act("open_account", "a new emitter", account="77", text=NASTY)
    page.waits_for("Open an account: ")
    page.act("freeze_declaration", "looked into", declaration="0")
    page.waits_for("Freeze a declaration: ")
    page.act("thaw_declaration", "nothing was wrong", declaration="0")
    page.waits_for("Thaw a declaration: ")


def test_two_persons_cancel_a_deal(world, page):
    _folder, _, ops, monitor = world
    page.tab("controls")
    page.act("cancel_deal", "an obvious mistake", deal="1", second="ops2")
    page.waits_for("proposal 1 waits for ops2")
    page.click("#confirm-1")
    page.waits_for("waits for ops2")  # the first person cannot confirm it
    assert "1" in ops.status()["proposals"]
    driver = mw.browser()
    try:
        other = mw.Page(driver, monitor.url)
        other.login("wang")
        other.tab("controls")
        other.click("#confirm-1")
        assert gm.wait_until(lambda: not ops.status()["proposals"], 10)
        assert ops.deals()[0]["flags"] & 1
    finally:
        driver.quit()


def test_a_viewer_sees_and_cannot_act(world):
    driver = mw.browser()
    try:
        page = mw.Page(driver, world[3].url)
        page.login("guest")
        page.find("#tile-CEA24", 60)
        page.tab("controls")
        page.find("#read-only")
        assert not driver.find_elements("css selector", "[id^=do-]")
    finally:
        driver.quit()


def test_texts_of_members_stay_texts(world, page):
    folder, _, _ops, _ = world
    with OperatorClient(folder, key="ops1") as first:
        first.execute(m.PublishNotice(text=NASTY))
        first.step_clock(gm.DAY + int(13.2 * gm.HOUR))
    with Client(folder, key="member-1") as me:
        me.execute(BulkDeclare(side=1, instrument="CEA24", price=5900, quantity=100_000, note=NASTY))
    page.tab("desk")
    page.waits_for("onerror")
    page.tab("health")
    page.waits_for("<script>")
    assert page.driver.execute_script("return window.pwned === undefined")


def test_nothing_is_loaded_from_another_host_and_no_script_fails(world, page):
    host = urlsplit(world[3].url).netloc
    urls = []
    for entry in page.driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            urls.append(message["params"]["request"]["url"])
    assert urls
    assert not [u for u in urls if not u.startswith(("data:", "blob:")) and urlsplit(u).netloc != host]
    assert not [e for e in page.driver.get_log("browser") if e["level"] == "SEVERE"]


def test_requests_of_another_sites_page_are_refused(world):
    request = urllib.request.Request(world[3].url, headers={"Origin": "http://evil.example"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 403
    with urllib.request.urlopen(world[3].url + "login") as answer:
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "samesite=strict" in answer.headers["Set-Cookie"].lower()


SMALL_TEXT = """
return [...document.querySelectorAll('body *')].filter(e => e.offsetParent && [...e.childNodes].some(
    n => n.nodeType == 3 && n.textContent.trim())).map(e => [parseFloat(getComputedStyle(e).fontSize), e.textContent])
    .filter(([size]) => size < 12)
"""


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (500, 850)])
def test_the_page_fits_and_no_text_is_smaller_than_12_px(world, page, width, height, tmp_path):
    page.driver.set_window_size(width, height)
    for tab in ("market", "desk", "members", "health", "alerts", "controls"):
        page.tab(tab)
        time.sleep(0.6)
        assert page.driver.execute_script(SMALL_TEXT) == []
        wide, inner = page.driver.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert wide <= inner + 1, tab
        assert page.driver.save_screenshot(str(tmp_path / f"{tab}-{width}.png"))
    page.driver.set_window_size(1280, 900)


def test_the_page_is_marked_stale_within_two_seconds_and_recovers(world, page):
    _folder, process, _, _ = world
    stale = "return document.body.classList.contains('stale')"
    assert not page.driver.execute_script(stale)
    process.kill()
    began = time.monotonic()
    assert gm.wait_until(lambda: page.driver.execute_script(stale), 10)
    took = time.monotonic() - began
    process.start()
    process.ready()
    assert gm.wait_until(lambda: not page.driver.execute_script(stale), 30)
    page.tab("market")
    page.waits_for("CEA24")
    assert took < 2.5, f"{took:.2f} s"  # two seconds, and what a loaded machine takes to look


def test_a_page_whose_monitor_is_gone_marks_itself_stale(world, page):
    world[3].stop()
    assert gm.wait_until(lambda: page.driver.execute_script("return document.body.classList.contains('stale')"), 4)
