"""An exchange, its monitor and a headless Chromium, for the monitor's tests."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gateway_market as gm
import pytest

from gateway.monitor import users

PASSWORD = "a long enough password"


def people(folder: Path) -> None:
    """Two operators and a viewer."""
    users.save(folder / "keys", "li", PASSWORD, "operator", "ops1")
    users.save(folder / "keys", "wang", PASSWORD, "operator", "ops2")
    users.save(folder / "keys", "guest", PASSWORD, "viewer")


class Monitor:
    """`cea monitor` as a child process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "run" / "monitor.json").unlink(missing_ok=True)
        with (folder / "run" / "monitor.log").open("ab") as log:
            # not under the test's name: NiceGUI changes its ways when it sees that pytest runs it
            env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "NICEGUI"))}
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cea.main", "monitor", str(folder), "--port", "0"],
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


def browser(width: int = 1280, height: int = 900) -> Any:
    """A headless Chromium; the test is skipped, with the reason, where there is none."""
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium with chromedriver here: apt-get install chromium chromium-driver")
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


class Page:
    """A person at the page."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver, self.url = driver, url

    def all(self, css: str) -> list[Any]:
        """Every element that fits, shown or not."""
        return list(self.driver.find_elements("css selector", css))

    def find(self, css: str, seconds: float = 15.0) -> Any:
        """The element, when it is there and shown."""
        from selenium.webdriver.common.by import By

        found: list[Any] = []

        def there() -> bool:
            found[:] = [e for e in self.driver.find_elements(By.CSS_SELECTOR, css) if e.is_displayed()]
            return bool(found)

        assert gm.wait_until(there, seconds), f"{css} is not there:\n{self.text()[:2000]}"
        return found[-1]

    def click(self, css: str, seconds: float = 15.0) -> None:
        """Clicks as a person does: on an element that has come to rest and that nothing covers.

        Tabs slide and dialogs fade in; a click at the place where a button was a moment ago hits its neighbour.
        """
        from selenium.common.exceptions import ElementClickInterceptedException, StaleElementReferenceException

        last: list[Any] = [None]

        def clicked() -> bool:
            try:
                element = self.find(css, seconds)
                place = self.driver.execute_script(AT_REST, element)
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
        return str(self.driver.execute_script("return document.body.innerText"))

    def waits_for(self, text: str, seconds: float = 15.0) -> None:
        """Fails where a text does not come up."""
        assert gm.wait_until(lambda: text in self.text(), seconds), f"{text!r} does not come:\n{self.text()[:3000]}"

    def login(self, name: str, password: str = PASSWORD) -> None:
        """Logs in by typing."""
        self.driver.get(self.url + "login")
        self.find("input[type=password]")
        fields = self.driver.find_elements("css selector", "input")
        fields[0].send_keys(name)
        fields[1].send_keys(password)
        self.click("#enter")

    def tab(self, name: str) -> None:
        """Chooses a tab of a page that is connected: a click before that would be lost."""
        assert gm.wait_until(lambda: self.driver.execute_script("return window.ceaOld === false"), 20), self.text()
        self.click(f"#tab-{name}")

    def act(self, control: str, reason: str, **fields: str) -> None:
        """Fills a control's dialog in and sends it."""
        self.tab("controls")  # and so connected: a page that is drawn anew loses a click
        dialog = f"#field-{next(iter(fields), 'reason')}"
        for _ in range(3):
            self.click(f"#do-{control}")
            if gm.wait_until(lambda: any(e.is_displayed() for e in self.all(dialog)), 5):
                break
        for name, value in fields.items():
            self.find(f"#field-{name}").send_keys(value)
        self.find("#field-reason").send_keys(reason)
        self.click("#do-it")


@contextlib.contextmanager
def monitored(folder: Path) -> Iterator[Monitor]:
    """A monitor process that ends with the test."""
    monitor = Monitor(folder)
    try:
        yield monitor
    finally:
        monitor.stop()
        time.sleep(0)
