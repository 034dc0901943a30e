"""An exchange, its monitor and a headless Chromium, for the monitor's tests.

A test is done by a person who looks before each step, aims at what is meant, clicks again where a click did nothing,
and is never in a hurry: it fails on what the page does, not on how slow the machine, the browser or the monitor is.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gateway_market as gm
import pytest
from conftest import PATIENCE_S

from gateway import config as cfg
from gateway.monitor import users
from gateway.operator import OperatorClient

PASSWORD = "a long enough password"
DAYS = [20251202, gm.DATE, 20251204, 20251205, 20251208]
MEMBERS = 5
CASH = 20_000_000_00
TONNES = 300_000
AGAIN_S = 5.0  # after so long without an effect a person clicks again
TOGGLE_AGAIN_S = 30.0  # where a second click would undo the first
LOOK_S = 0.03  # between two looks: each one is a round trip to the browser


def market(folder: Path) -> None:
    """A market with its registry: five members with cash and allowances there, to be moved in with :func:`fund`."""
    from cea.folder import make_market

    operators = (
        *(cfg.Operator(name) for name in ("ops1", "ops2", "tester")),
        cfg.Operator("settlement", "settlement"),
        cfg.Operator("monitor", "viewer"),
    )
    make_market(folder, endowments(), days=DAYS, first_date=gm.DATE, operators=operators)


def endowments() -> list[Any]:
    """What each member brings."""
    from cea.folder import Endowment, vintages_on

    stock = dict.fromkeys(vintages_on(gm.DATE)[0], TONNES)
    return [Endowment(n, f"Member {n:02d}", CASH, stock) for n in range(1, MEMBERS + 1)]


def fund(folder: Path) -> None:
    """Moves everything in through the registry, and opens the morning."""
    from cea.folder import open_registry
    from cea.funding import fund as move_in
    from cea.replaying import load_market

    registry = open_registry(load_market(folder))
    try:
        with OperatorClient(folder, key=str(folder / "keys" / "settlement.key")) as client:
            move_in(registry, client, endowments(), client.time()["time_ns"])
    finally:
        registry.close()
    with OperatorClient(folder, key="tester") as tester:
        tester.step_clock(gm.MORNING)


def people(folder: Path) -> None:
    """Two operators and a viewer."""
    users.save(folder / "keys", "li", PASSWORD, "operator", "ops1")
    users.save(folder / "keys", "wang", PASSWORD, "operator", "ops2")
    users.save(folder / "keys", "guest", PASSWORD, "viewer")


class Monitor:
    """`cea monitor` as a child process."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        (folder / "run" / "monitor.json").unlink(missing_ok=True)
        with (folder / "run" / "monitor.log").open("ab") as log:
            # not under the test's name: NiceGUI changes its ways when it sees that pytest runs it
            env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "NICEGUI"))}
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cea.main", "monitor", str(folder), "--port", "0", *options],
                env={**env, "PYTHONPATH": str(gm.ROOT)},
                stdout=log,
                stderr=log,
            )
        found: dict[str, Any] = {}

        def ready() -> bool:
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                found.update(json.loads((folder / "run" / "monitor.json").read_text()))
            return bool(found) or self.process.poll() is not None

        gm.wait_until(ready, 240)
        assert found, (folder / "run" / "monitor.log").read_text()
        self.url = found["url"]

    def stop(self) -> None:
        """SIGTERM."""
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def programs() -> tuple[str, str]:
    """Chromium and its driver; the test is skipped, with the reason, where one is missing."""
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium with chromedriver here: apt-get install chromium chromium-driver")
    pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    return chromium, driver


def browser(width: int = 1280, height: int = 900) -> Any:
    """A headless Chromium; a machine that is busy may need a second start of it."""
    from selenium.common.exceptions import WebDriverException

    chromium, driver = programs()
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars",
        "--disable-background-timer-throttling", "--disable-renderer-backgrounding",
        "--disable-backgrounding-occluded-windows",
    ):  # fmt: skip
        options.add_argument(word)
    options.add_argument(f"--window-size={width},{height}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    for left in (2, 1, 0):
        try:
            found = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
        except WebDriverException:
            if not left:
                raise
        else:
            found.set_script_timeout(PATIENCE_S)
            return found
    raise AssertionError("unreachable")


# What is shown, as the browser itself sees it at one moment; of rows, those with a word in the first cell
SHOWN = """(css, first = null) => [...document.querySelectorAll(css)].filter(e => e.getClientRects().length
    && getComputedStyle(e).visibility !== 'hidden' && (first === null || e.cells[0].innerText.trim() === first))"""
# Where the element is, and "aimed" where it was there at the last look (arguments[2]), too, and nothing lies over it.
# A mouse aims at a place, and a page may move between aim and click. A click that falls on something else is caught.
AIM = f"""
const e = ({SHOWN})(arguments[0], arguments[1]).at(-1);
if (!e) return [null, ''];
e.scrollIntoView({{block: 'center', inline: 'nearest', behavior: 'instant'}});
const r = e.getBoundingClientRect();
const top = document.elementFromPoint(r.left + r.width / 2, r.top + r.height / 2);
if (!top || !e.contains(top)) return [e, ''];
const place = [r.left, r.top, r.width, r.height].join();
if (place !== arguments[2]) return [e, place];
window.ceaAim?.abort();
window.ceaAim = new AbortController();
window.ceaHit = 'none';
document.addEventListener('click', event => {{
    window.ceaHit = e.contains(event.target) ? 'hit' : 'miss';
    if (window.ceaHit === 'miss') {{ event.preventDefault(); event.stopImmediatePropagation(); }}
}}, {{capture: true, once: true, signal: window.ceaAim.signal}});
return [e, 'aimed'];
"""
OUTCOME = f"const shown = {SHOWN}; return [shown('#do-it').length, shown('#effect').at(-1)?.innerText ?? '']"
FIELDS = f"return arguments[0].map(css => ({SHOWN})(css).at(-1)).map(e => e ? [e, e.value] : [null, null])"
HIT = "return window.ceaHit === undefined ? 'another page' : window.ceaHit"


@contextlib.contextmanager
def while_it_moves() -> Iterator[None]:
    """Lets pass what the browser answers of a page that is just changing, or of an element that has gone."""
    from selenium.common import exceptions as e

    changing = e.StaleElementReferenceException, e.ElementNotInteractableException, e.InvalidElementStateException
    try:
        yield
    except (*changing, e.JavascriptException, e.ElementClickInterceptedException):
        return
    except e.WebDriverException as error:
        if not any(word in str(error) for word in ("navigat", "inspector", "context", "frame")):
            raise


class NotThere(AssertionError):
    """Something has not come, or could not be done, in time."""


class Page:
    """A person at the page. ``css``: elements; with ``first`` the row of a table by the text of its first cell."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver, self.url = driver, url

    # --- looking -------------------------------------------------------------------------------------------------

    def until(self, met: Callable[[], Any], what: object = "", seconds: float = PATIENCE_S) -> None:
        """Looks until something is so; NotThere, with what the page says, where it never is."""
        deadline = time.monotonic() + seconds
        while not met():
            if time.monotonic() > deadline:
                raise NotThere(f"{what or met} does not come:\n{self.text()[:3000]}")
            time.sleep(LOOK_S)

    def all(self, css: str) -> list[Any]:
        """Every element that fits, shown or not."""
        return list(self.driver.find_elements("css selector", css))

    def find(self, css: str, seconds: float = PATIENCE_S, first: str | None = None) -> Any:
        """The element, when it is there and shown: the last one where there are several."""
        found: list[Any] = []
        self.until(lambda: found.extend(self.shown(css, first)) or found, css, seconds)
        return found[-1]

    def shown(self, css: str, first: str | None = None) -> list[Any]:
        """Every element that fits and is shown."""
        return list(self.js(f"return ({SHOWN})(arguments[0], arguments[1])", css, first) or [])

    def says(self, css: str) -> str:
        """The text of the last element that fits and is shown; empty where there is none."""
        last = f"const all = ({SHOWN})(arguments[0]); return all.length ? all[all.length - 1].innerText : ''"
        return str(self.js(last, css) or "")

    def cells(self, table: str) -> list[list[str]]:
        """What stands in a table, by rows."""
        script = "return [...document.querySelectorAll(arguments[0])].map(r => [...r.cells].map(c => c.innerText))"
        return list(self.js(script, f"#table-{table} tbody tr") or [])

    def js(self, script: str, *given: Any) -> Any:
        """What a script says; None while the page is between two pages."""
        with while_it_moves():
            return self.driver.execute_script(script, *given)
        return None

    @property
    def stale(self) -> bool | None:
        """Whether the page marks what it shows as old; None while there is no page."""
        found = self.js("return document.body.classList.contains('stale')")
        return None if found is None else bool(found)

    def text(self) -> str:
        """All text that is shown."""
        return str(self.js("return document.body.innerText") or "")

    def waits_for(self, text: str) -> None:
        """Fails where a text does not come up."""
        self.until(lambda: text in self.text(), repr(text))

    # --- doing ---------------------------------------------------------------------------------------------------

    def again(self, attempt: Callable[[], Any], met: Callable[[], Any], again: float = AGAIN_S) -> None:
        """Does something until it has had its effect: a click on a page that is just drawn anew is lost."""
        deadline = time.monotonic() + PATIENCE_S
        while not met():
            if time.monotonic() > deadline:
                raise NotThere(f"{attempt} has no effect:\n{self.text()[:3000]}")
            with contextlib.suppress(NotThere):
                attempt()
                self.until(met, seconds=again)

    def click(
        self,
        css: str,
        until: str | Callable[[], Any] | None = None,
        *,
        first: str | None = None,
        again: float = AGAIN_S,
    ) -> None:
        """Clicks as a person does: on what has come to rest and is not covered, until it has had its effect.

        until: what is shown then, or a condition; without it one click that has hit is enough.
        """
        if until is None:
            self._click(css, first, lambda: False, PATIENCE_S)
            return
        met = (lambda: self.shown(until)) if isinstance(until, str) else until
        self.again(lambda: self._click(css, first, met, 3 * AGAIN_S), met, again)

    def _click(self, css: str, first: str | None, met: Callable[[], Any], seconds: float) -> None:
        place = ""

        def clicked() -> bool:
            nonlocal place
            if met():
                return True
            element, place = self.js(AIM, css, first, place) or (None, "")
            if place == "aimed":
                with while_it_moves():
                    element.click()
                    return self.js(HIT) in ("hit", "another page", None)
            return False

        self.until(clicked, f"a click on {css} {first or ''}", seconds)

    def row(self, table: str, first: str, until: str) -> None:
        """Clicks a row of a table, found by what its first cell says."""
        self.click(f"#table-{table} tbody tr", until, first=first)

    def type(self, wanted: dict[str, str], seconds: float = PATIENCE_S) -> None:
        """Types into fields until each holds exactly its text: a page that is drawn anew loses letters."""
        from selenium.webdriver.common.keys import Keys

        def typed() -> bool:
            fields = self.js(FIELDS, list(wanted)) or []
            if [value for _, value in fields] == list(wanted.values()):
                return True
            for (field, value), text in zip(fields, wanted.values(), strict=False):
                if field is not None and value != text:
                    with while_it_moves():
                        field.send_keys(*([Keys.CONTROL, "a", Keys.NULL, Keys.DELETE] if value else []), text)
            return False

        self.until(typed, wanted, seconds)

    def holds(self, css: str) -> str | None:
        """What stands in a field; None where it is not shown."""
        ((_, value),) = self.js(FIELDS, [css]) or [(None, None)]
        return value

    def press(self, keys: str) -> None:
        """Keys to whatever has the focus."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(keys).perform()

    def presses(self, keys: str, met: Callable[[], Any]) -> None:
        """Keys until what they lead to is so."""
        self.again(lambda: self.press(keys), met)

    def enter(self, css: str, until: str | Callable[[], Any], *, first: str | None = None) -> None:
        """The Enter key on what has the focus, until it has had its effect; as :meth:`click`."""
        focus = f"const e = ({SHOWN})(...arguments).at(-1); e?.focus(); return e && e === document.activeElement"

        def attempt() -> None:
            if self.js(focus, css, first):
                self.press("\ue007")

        self.again(attempt, (lambda: self.shown(until)) if isinstance(until, str) else until)

    # --- the page's own ways -------------------------------------------------------------------------------------

    def login(self, name: str, password: str = PASSWORD) -> None:
        """Logs in by typing. Returns when the market is there, or the page has said why it is not."""
        self.driver.get(self.url + "login")

        def answered() -> bool:
            return bool(self.shown("#logout") or self.says("#problem"))

        def attempt() -> None:
            self.type({"#field-name": name, "#field-password": password}, 3 * AGAIN_S)
            self._click("#enter", None, answered, AGAIN_S)

        self.again(attempt, answered, 2 * AGAIN_S)

    def in_english(self) -> None:
        """Changes the language, if need be."""

        def attempt() -> None:
            if self.says("#language") == "English":
                self._click("#language", None, lambda: False, AGAIN_S)

        self.again(attempt, lambda: self.says("#language") == "中文" and "Controls" in self.text(), TOGGLE_AGAIN_S)

    def light(self, dark: bool) -> None:
        """Changes to dark or light, if need be."""
        self.click("#light", ".body--dark" if dark else ".body--light", again=TOGGLE_AGAIN_S)

    def tab(self, name: str) -> None:
        """Chooses a tab."""
        self.click(f"#tab-{name}", f"#tab-{name}.q-tab--active")

    def leave(self) -> None:
        """Closes the dialog."""
        self.click("#leave", lambda: not self.shown("#leave"))

    def fill_in(self, control: str, reason: str | None, **fields: str) -> None:
        """Opens a control's dialog where it is not open yet, and has every field as it should be."""
        wanted = {f"#field-{name}": value for name, value in fields.items()}
        if reason is not None:
            wanted["#field-reason"] = reason

        def filled() -> bool:
            return [v for _, v in self.js(FIELDS, ["#do-it", *wanted]) or []] == ["", *wanted.values()]

        def attempt() -> None:
            if not self.shown("#do-it"):
                self.tab("controls")
                self.click(control if control.startswith("#") else f"#do-{control}", "#do-it")
            self.type(wanted, 3 * AGAIN_S)

        self.again(attempt, filled)

    def act(self, control: str, reason: str | None, says: str, **fields: str) -> str:
        """Carries a control out; its outcome, which has ``says`` in it. Without a reason where none is asked for."""
        before, found = self.says("#effect"), ""

        def done() -> bool:
            nonlocal found
            dialog, found = self.js(OUTCOME) or (True, "")
            return not dialog and found != before and says in found

        def attempt() -> None:
            self.fill_in(control, reason, **fields)
            problem = self.says("#problem")
            self.click("#do-it", lambda: not self.shown("#do-it") or self.says("#problem") != problem)

        self.again(attempt, done, 2 * AGAIN_S)
        return found

    def refused(self, control: str, reason: str, says: str, *, leave: bool = True, **fields: str) -> None:
        """Tries a control that is refused: the reason for that, which has ``says`` in it, stays in the dialog."""

        def attempt() -> None:
            self.fill_in(control, reason, **fields)
            self.click("#do-it", lambda: self.says("#problem"))

        self.again(attempt, lambda: says in self.says("#problem"))
        if leave:
            self.leave()


@contextlib.contextmanager
def at_the_page(url: str, *, width: int = 1280, height: int = 900) -> Iterator[Page]:
    """A person with a browser of their own."""
    driver = browser(width, height)
    try:
        yield Page(driver, url)
    finally:
        driver.quit()


@contextlib.contextmanager
def monitored(folder: Path, *options: str) -> Iterator[Monitor]:
    """A monitor process that ends with the test."""
    monitor = Monitor(folder, *options)
    try:
        yield monitor
    finally:
        monitor.stop()
