"""How far the operators' page is behind the market, what it weighs, and when it is first seen.

    python -m benchmarks.page [--json] [--smoke] [--deals 20] [--events 10000]

One exchange (hot lane, durable), `cea monitor` beside it, and a headless Chromium at the page. A member's orders make
``--events`` events a second (immediate-or-cancel, two events each) while two others deal now and then. Of each deal:
from the maker's report at its client until the deal's row stands in the page's table, both by this machine's clock.
All of it, the browser too, shares the machine's processors. Needs Chromium with its driver and selenium.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks import gateway as gw
from benchmarks.conditions import conditions, describe
from benchmarks.room import monitor
from engine.records import BUY, IOC
from gateway.client import Client
from gateway.monitor import users

PASSWORD: Final = "a password that is long"
EVENTS_PER_ORDER: Final = 2  # accepted, cancelled
PRICE: Final = 6_100  # above the load's bids at 59.91, so that it never trades with them
WAIT_S: Final = 10.0
# Notes when each row of the tape came into the page, by its quantity, which is another one for each deal.
WATCH: Final = """
window.cameAt = {};
new MutationObserver(() => { const now = Date.now();
  for (const cell of document.querySelectorAll('#table-tape tbody td:nth-child(5)'))
    if (!(cell.innerText in window.cameAt)) window.cameAt[cell.innerText] = now;
}).observe(document.querySelector('#table-tape'), {subtree: true, childList: true, characterData: true});
"""
WEIGHT: Final = """
const all = performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'));
const paint = performance.getEntriesByName('first-contentful-paint')[0];
return [all.reduce((sum, e) => sum + e.transferSize, 0), all.length, paint ? paint.startTime : -1];
"""


def browser() -> Any:
    """A headless Chromium, or None where there is none."""
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not chromium or not driver:
        return None
    try:
        from selenium import webdriver
    except ImportError:
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1280,900",
    ):
        options.add_argument(word)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))


def until(condition: Callable[[], Any], seconds: float) -> Any:
    """What the condition gives once it holds; RuntimeError when the time is over."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise RuntimeError("the page did not show what was waited for")


def load(folder: Path, events: int, seconds: float) -> None:
    """The busy member, as a process of its own."""
    with Client(folder, key=str(folder / "keys" / "member-1.key"), heartbeat_ms=60_000) as client:
        stream = gw.open_load(gw.Native(), [client], gw.records(BUY, IOC, 1))
        rate = events / EVENTS_PER_ORDER
        took, _ = stream.run(int(rate * seconds), 1 << 20, 1, int(1e9 / rate))
        client.link.socket = None
    print(json.dumps({"orders_per_second": round(rate * seconds / took)}))


def first_sight(driver: Any, url: str) -> dict[str, Any]:
    """Weight and first paint of the login, cold, and of the market page behind it."""

    def weighed() -> dict[str, Any]:
        size, requests, paint = until(lambda: (w := driver.execute_script(WEIGHT))[2] >= 0 and w, WAIT_S)
        return {"kB": round(size / 1_000), "requests": requests, "first_paint_ms": round(paint)}

    driver.get(url + "login")
    until(lambda: driver.find_elements("css selector", "#field-password"), WAIT_S)
    login = weighed()
    for field, text in (("name", "watcher"), ("password", PASSWORD)):
        driver.find_element("css selector", f"#field-{field}").send_keys(text)
    driver.find_element("css selector", "#enter").click()
    until(lambda: driver.find_elements("css selector", "#tile-CEA24"), WAIT_S)
    return {"login_cold": login, "market": weighed()}


def measure(deals: int, events: int) -> dict[str, Any]:
    """Everything, on one exchange."""
    driver = browser()
    if driver is None:
        return {"skipped": "no Chromium with chromedriver and selenium here"}
    with contextlib.ExitStack() as stack:
        stack.callback(driver.quit)
        folder = stack.enter_context(gw.exchange(False, "hot", members=3, funded=3))
        users.save(folder / "keys", "watcher", PASSWORD, "viewer", "")
        stack.enter_context(monitor(folder))
        url = json.loads((folder / "run" / "monitor.json").read_text())["url"]
        found = first_sight(driver, url)
        driver.execute_script(WATCH)
        seller, buyer = (
            stack.enter_context(Client(folder, key=str(folder / "keys" / f"member-{n}.key"))) for n in (2, 3)
        )
        seconds = deals * 0.6 + 2
        words = [sys.executable, "-m", "benchmarks.page", "--load", str(folder), str(events), str(seconds)]
        busy = stack.enter_context(subprocess.Popen(words, stdout=subprocess.PIPE))
        stack.callback(busy.terminate)
        time.sleep(1.5)
        reported: dict[str, float] = {}
        for n in range(deals):
            seller.sell("CEA24", PRICE, 100 + n)
            assert buyer.buy("CEA24", PRICE, 100 + n).filled == 100 + n
            reported[str(100 + n)] = time.time() * 1_000
            time.sleep(0.5 + 0.01 * (n % 7))  # not in step with the page's own looks
        until(lambda: len(driver.execute_script("return window.cameAt")) >= deals, WAIT_S)
        came = driver.execute_script("return window.cameAt")
        behind = sorted(came[q] - at for q, at in reported.items())
        rate = json.loads(busy.communicate(timeout=60)[0])["orders_per_second"]
    return {
        **found,
        "behind_ms": {"median": round(statistics.median(behind)), "worst": round(behind[-1]), "deals": deals},
        "events_per_second": rate * EVENTS_PER_ORDER,
        "aim": "<= 500 ms at 10,000 events/s",
    }


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="does it run at all")
    parser.add_argument("--deals", type=int, default=20)
    parser.add_argument("--events", type=int, default=10_000, help="a second")
    parser.add_argument("--load", nargs=3, metavar=("FOLDER", "EVENTS", "SECONDS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.load:
        load(Path(args.load[0]), int(args.load[1]), float(args.load[2]))
        return
    deals, events = (3, 200) if args.smoke else (args.deals, args.events)
    found = {"conditions": conditions(), **measure(deals, events)}
    if args.json:
        print(json.dumps(found, indent=1))
        return
    print(describe(found["conditions"]))
    if "skipped" in found:
        print(found["skipped"])
        return
    late = found["behind_ms"]
    print(f"at {found['events_per_second']:,} events/s a deal stands on the page {late['median']} ms after its report")
    print(f"at the median, {late['worst']} ms at worst of {late['deals']} (aim 500)")
    for name in ("login_cold", "market"):
        page = found[name]
        print(f"{name}: {page['kB']} kB in {page['requests']} requests, first paint after {page['first_paint_ms']} ms")


if __name__ == "__main__":
    main()
