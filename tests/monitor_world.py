"""An exchange, its monitor and a headless Chromium, for the monitor's tests."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gateway_market as gm
import pytest

from gateway import config as cfg
from gateway.monitor import users
from gateway.operator import OperatorClient

PASSWORD = "a long enough password"
DAYS = [20251202, gm.DATE, 20251204, 20251205, 20251208]
MEMBERS = 5
CASH = 20_000_000_00
TONNES = 300_000
LIT = "return getComputedStyle(document.body).backgroundColor"


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

        gm.wait_until(ready, 120)
        assert found, (folder / "run" / "monitor.log").read_text()
        self.url = found["url"]

    def stop(self) -> None:
        """SIGTERM."""
        self.process.terminate()
        try:
            self.process.wait(15)
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
    """A headless Chromium."""
    chromium, driver = programs()
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(word)
    options.add_argument(f"--window-size={width},{height}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))


# The place of an element on the screen, or null while something else lies there.
AT_REST = """
const e = arguments[0];
e.scrollIntoView({block: 'center', inline: 'nearest', behavior: 'instant'});
const r = e.getBoundingClientRect();
const top = document.elementFromPoint(r.left + r.width / 2, r.top + r.height / 2);
return top && (e === top || e.contains(top)) ? [r.left, r.top, r.width, r.height].join() : null;
"""


SHOWN = """css => [...document.querySelectorAll(css)].filter(
    e => e.getClientRects().length && getComputedStyle(e).visibility !== 'hidden')"""


class Page:
    """A person at the page."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver, self.url = driver, url

    def all(self, css: str) -> list[Any]:
        """Every element that fits, shown or not."""
        return list(self.driver.find_elements("css selector", css))

    def find(self, css: str, seconds: float = 15.0) -> Any:
        """The element, when it is there and shown."""
        found: list[Any] = []

        def there() -> bool:
            found[:] = self.shown(css)
            return bool(found)

        assert gm.wait_until(there, seconds), f"{css} is not there:\n{self.text()[:2000]}"
        return found[-1]

    def shown(self, css: str) -> list[Any]:
        """Every element that fits and is shown, as the browser itself sees it at one moment."""
        return list(self.js(f"return ({SHOWN})(arguments[0])", css) or [])

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
        from selenium.common.exceptions import JavascriptException, StaleElementReferenceException

        try:
            return self.driver.execute_script(script, *given)
        except (JavascriptException, StaleElementReferenceException):
            return None

    @property
    def stale(self) -> bool | None:
        """Whether the page marks what it shows as old; None while there is no page."""
        found = self.js("return document.body.classList.contains('stale')")
        return None if found is None else bool(found)

    def click(self, css: str, seconds: float = 15.0) -> None:
        """Clicks as a person does: on an element that has come to rest and that nothing covers.

        Tabs slide and dialogs fade in; a click at the place where a button was a moment ago hits its neighbour.
        """
        from selenium.common.exceptions import ElementClickInterceptedException, StaleElementReferenceException

        last: list[Any] = [None]

        def clicked() -> bool:
            try:
                element = self.find(css, seconds)
                place = self.js(AT_REST, element)
                if place is None or place != last[0]:
                    last[0] = place
                    return False
                element.click()
            except (ElementClickInterceptedException, StaleElementReferenceException):
                last[0] = None
                return False
            return True

        assert gm.wait_until(clicked, seconds), f"{css} cannot be clicked:\n{self.text()[:2000]}"

    def text(self) -> str:
        """All text that is shown."""
        return str(self.js("return document.body.innerText") or "")

    def waits_for(self, text: str, seconds: float = 15.0) -> None:
        """Fails where a text does not come up."""
        assert gm.wait_until(lambda: text in self.text(), seconds), f"{text!r} does not come:\n{self.text()[:3000]}"

    def type(self, css: str, text: str, seconds: float = 15.0) -> None:
        """Types into a field until it holds exactly the text: a page that is drawn anew loses letters."""
        from selenium.common.exceptions import InvalidElementStateException, StaleElementReferenceException
        from selenium.webdriver.common.keys import Keys

        def typed() -> bool:
            try:
                field = self.find(css, seconds)
                if field.get_property("value") == text:
                    return True
                field.send_keys(Keys.CONTROL, "a")
                field.send_keys(text or Keys.DELETE)
                return bool(field.get_property("value") == text)
            except (InvalidElementStateException, StaleElementReferenceException):
                return False

        assert gm.wait_until(typed, seconds), f"{css} does not take {text!r}:\n{self.text()[:2000]}"

    def press(self, keys: str) -> None:
        """Keys to whatever has the focus."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(keys).perform()

    def presses(self, keys: str, css: str) -> None:
        """Keys until what they lead to is there: the first may come while the page is drawn."""
        for _ in range(3):
            self.press(keys)
            if gm.wait_until(lambda: bool(self.all(css)), 5):
                return
        raise AssertionError(f"{keys} does not lead to {css}:\n{self.text()[:2000]}")

    def login(self, name: str, password: str = PASSWORD) -> None:
        """Logs in by typing. Returns when the click is done, not when the market is there."""
        self.driver.get(self.url + "login")
        self.type("#field-name", name)
        self.type("#field-password", password)
        self.click("#enter")

    def in_english(self) -> None:
        """Changes the language, if need be."""
        self.find("#language")
        if self.says("#language") == "English":
            self.click("#language")
            assert gm.wait_until(lambda: "Controls" in self.text(), 15), self.text()

    def tab(self, name: str) -> None:
        """Chooses a tab of a page that is connected: a click before that would be lost."""
        assert gm.wait_until(lambda: self.js("return window.ceaOld === false"), 20), self.text()
        chosen = f"#tab-{name}.q-tab--active"
        for _ in range(3):
            if self.all(chosen):
                return
            self.click(f"#tab-{name}")
            if gm.wait_until(lambda: bool(self.all(chosen)), 3):
                return
        raise AssertionError(f"tab {name} does not open:\n{self.text()[:2000]}")

    def act(self, control: str, reason: str, **fields: str) -> None:
        """Fills a control's dialog in and sends it."""
        self.tab("controls")  # and so connected: a page that is drawn anew loses a click
        dialog = f"#field-{next(iter(fields), 'reason')}"
        for _ in range(3):
            self.click(f"#do-{control}")
            if gm.wait_until(lambda: bool(self.shown(dialog)), 5):
                break
        for name, value in fields.items():
            self.type(f"#field-{name}", value)
        self.type("#field-reason", reason)
        self.click("#do-it")

    def done(self, text: str, seconds: float = 15.0) -> str:
        """The outcome of the last act, once it has a text in it and the dialog is gone."""

        def there() -> bool:
            return not self.shown("#do-it") and text in self.says("#effect")

        assert gm.wait_until(there, seconds), f"{text!r} does not come:\n{self.text()[:3000]}"
        return self.says("#effect")


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
