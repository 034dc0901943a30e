"""`cea demo`: 3 December 2025 of the national market, from a member's order to the settled registry."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cea.output import Exit, console, fail, print_json, table

if TYPE_CHECKING:
    from cea.demo_driver import Driver
    from cea.processes import ExchangeProcess
    from engine.bulletin import Bulletin
    from engine.rules import Rules
    from gateway.config import Market
    from replay.figures import DayFigures
    from replay.one_day import DayPlan
    from settlement.registry import Registry

# About how many deals each vintage's day is cut into (assumed, D33): some 260 deals and 900 messages.
PIECES: Final = {"CEA22": 12, "CEA23": 60, "CEA24": 140}
BULK_AFTER_NS: Final = 45 * 60 * 1_000_000_000  # the bulk parties meet three quarters of an hour after 13:00
COLD_S: Final = 4.0  # a warm start takes two
WIDTH: Final = 34


class Steps:
    """Progress on standard error: what is being done, and how long it took."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.out = console(stderr=True)
        self.began = time.monotonic()
        self.name, self.since = "", self.began

    def start(self, name: str) -> None:
        """A new step begins."""
        self.name, self.since = name, time.monotonic()
        if not self.quiet and self.out.is_terminal:
            self.out.print(f"[dim]{name} …[/dim]", end="\r")

    def note(self, text: str) -> None:
        """How far the present step is (terminals only)."""
        if not self.quiet and self.out.is_terminal:
            self.out.print(f"[dim]{self.name} … {text}[/dim]   ", end="\r")

    def done(self, text: str) -> None:
        """The step is over."""
        if not self.quiet:
            took = time.monotonic() - self.since
            self.out.print(f"{self.name.ljust(WIDTH)} {took:5.1f} s  {text}", soft_wrap=True)


class Crash:
    """SIGKILL of the exchange in the middle of the day, and its restart, while the members go on trading."""

    def __init__(self, process: ExchangeProcess) -> None:
        self.process = process
        self.ready_s = 0.0
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.process.kill()
            self.ready_s = self.process.start()
        except Exception as error:  # handed to the main thread, which ends the demo with it
            self.failure = error

    def start(self) -> None:
        """Kills and restarts beside the running members."""
        self._thread.start()

    def join(self) -> None:
        """Waits for the restart; raises what it raised."""
        self._thread.join()
        if self.failure is not None:
            raise self.failure


def demo_command(out: Path, *, seed: int, kill: bool, as_json: bool) -> None:
    """Runs the demo and prints its result; ends with exit code 1 when any figure differs."""
    from cea.demo_driver import DemoError
    from cea.processes import NotReady

    steps = Steps(quiet=as_json)
    try:
        result = Demo(out, seed, steps).run(kill=kill)
    except (DemoError, NotReady) as error:
        fail(str(error), Exit.NO)
    if as_json:
        print_json(result)
    if not result["equal"] or not result["conserved"] or not result["replay_agrees"]:
        fail("the day's result is not what it must be: see above", Exit.NO)


class Demo:
    """One run of the demo's day."""

    def __init__(
        self,
        out: Path,
        seed: int,
        steps: Steps,
        pieces: dict[str, int] = PIECES,
        *,
        plan: DayPlan | None = None,
        speed: float = 0.0,
    ) -> None:
        """``plan``: another day (`cea day --gateway`), in the market folder ``out`` itself.

        ``speed``: times as fast as the day was; 0: as fast as it goes.
        """
        from engine.rules import Rules

        rules = Rules.national()
        self.steps, self.seed, self.speed = steps, seed, speed
        steps.start("Order flow from published figures")
        self.plan = plan or _demo_plan(rules, pieces, seed)
        self.day: DayFigures = self.plan.day
        self.flow, self.bulk, self.auctions = self.plan.flow, self.plan.bulk, self.plan.auctions
        self.folder = out if plan else out / "demo-market"
        self.chart = out / (f"day-{self.day.date}.png" if plan else f"demo-{self.day.date}.png")
        self.hours = rules.boundaries_ns(self.day.date)
        steps.done(
            f"{len(self.flow.deals)} deals, {len(self.flow.actions)} messages of {len(self.flow.members)} members"
        )

    def run(self, *, kill: bool) -> dict[str, Any]:
        """The whole day. Returns what was found, for --json and for tests."""
        from cea.folder import open_registry
        from cea.processes import ExchangeProcess

        market = self._make_market()
        registry = open_registry(market)
        process = ExchangeProcess(self.folder)
        try:
            stages = [registry_totals(registry)]
            self._start(process)
            self._fund(market, registry)
            stages.append(registry_totals(registry))
            driver, crash = self._trade(process, kill)
            try:
                closed = self._close(driver)
                settled = self._settle(market, registry)
                bulletin = self._bulletin(closed)
                seal_hash = driver.ops.seal_hash()
                self._draw(driver, bulletin)
            finally:
                driver.close()
            stages.append(registry_totals(registry))
            exit_code = self._stop(process)
            agrees = self._replay(seal_hash)
        finally:
            process.stop()
            registry.close()
        return self._result(bulletin, stages, settled, seal_hash, agrees, exit_code, driver, crash)

    # --- step by step ----------------------------------------------------------------------------------------

    def _make_market(self) -> Market:
        from cea.demo_driver import endowments_of
        from cea.folder import make_market
        from cea.processes import is_running
        from gateway.config import to_toml

        self.steps.start("Market folder, keys, registry")
        if is_running(self.folder):
            fail(f"a demo's exchange still runs on {self.folder}: stop it, or choose another --out", Exit.CONFIG)
        if (self.folder / "market.toml").exists():
            shutil.rmtree(self.folder)  # only ever a market of an earlier demo
        self.endowments = endowments_of(self.flow, self.bulk, self.auctions)
        market = make_market(
            self.folder,
            self.endowments,
            days=days_around(self.day.date),
            first_date=self.day.date,
            instruments={v.code: v.previous for v in self.day.vintages},
            composite=self.plan.composite,
        )
        (self.folder / "totals.toml").write_text(to_toml(msgspec.to_builtins(self.plan.totals)), "utf-8")
        issued = sum(sum(e.allowances.values()) for e in self.endowments)
        self.steps.done(f"{len(self.endowments)} accounts, {issued:,} t issued with serial numbers")
        return market

    def _start(self, process: ExchangeProcess) -> None:
        self.steps.start("Exchange process")
        process.start(waiting=self._waiting)
        from gateway.config import read_endpoints

        endpoints = read_endpoints(self.folder)
        assert endpoints is not None and process.child is not None
        self.steps.done(f"pid {process.child.pid}, CURVE on {endpoints.members}, metrics on {endpoints.metrics}")

    def _waiting(self, seconds: float) -> None:
        if seconds > COLD_S:
            self.steps.note(f"{seconds:.0f} s: a first start compiles the engine, up to two minutes")

    def _fund(self, market: Market, registry: Registry) -> None:
        from cea.connecting import key_file
        from cea.funding import fund
        from gateway.operator import OperatorClient

        self.steps.start("Registry transfers into trading")
        with OperatorClient(self.folder, key=key_file(self.folder, "settlement"), timeout=60) as client:
            acts = fund(registry, client, self.endowments, market.start_ns())
        self.steps.done(f"{acts} deposits and transfers, posted in the registry and at the exchange")

    def _trade(self, process: ExchangeProcess, kill: bool) -> tuple[Driver, Crash | None]:
        from cea.demo_driver import BUYER, SELLER, Driver
        from engine.calendar import format_time

        self.steps.start("The day's trading")
        actions, crash = self.flow.actions, None
        driver = Driver(self.folder, [e.account for e in self.endowments], self.speed)
        desk = self.hours[2] + BULK_AFTER_NS
        bulk_at = next((n for n, a in enumerate(actions) if a.time_ns > desk), len(actions))

        def progress(number: int) -> None:
            if number % 25 == 0:
                self.steps.note(format_time(actions[number].time_ns)[:8])

        for code, bids in self.auctions.items():
            previous = self.day.vintage(code).previous
            driver.auction(code, bids, SELLER, BUYER, previous=previous, date=self.day.date, window=self.hours[:2])
        half = len(actions) // 2
        driver.run(self.flow, 0, half, progress)
        if kill:
            crash = Crash(process)
            crash.start()
        driver.run(self.flow, half, bulk_at, progress)
        driver.step(actions[bulk_at].time_ns - 1 if bulk_at < len(actions) else desk)
        for number, (code, price, quantity) in enumerate(self.bulk):
            band = bulk_band(self.day, code)
            driver.negotiate(code, price, quantity, SELLER, BUYER, buyer_begins=number % 2 == 1, band=band)
        driver.run(self.flow, bulk_at, len(actions), progress)
        if crash is not None:
            crash.join()
        refused = sum(driver.refusals.values())
        killed = f", killed at half and ready again after {crash.ready_s:.1f} s" if crash else ""
        self.steps.done(
            f"{len(actions):,} messages, {refused} refused with {len(driver.refusals)} codes, "
            f"{len(self.bulk)} bulk deals, {len(self.auctions)} auctions{killed}"
        )
        return driver, crash

    def _close(self, driver: Driver) -> Any:
        from cea.demo_driver import DemoError
        from engine.messages import DayClosed

        self.steps.start("Close")
        driver.step(self.hours[3])
        notice = {name: value for name, value in driver.day_closed().items() if name != "t"}
        closed = msgspec.convert({**notice, "t": "day_closed"}, DayClosed)
        volumes = {v.code: v.volume for v in closed.vintages}
        seen = driver.published_volumes(volumes)
        if seen != volumes:
            raise DemoError(f"the market-data feed has volumes {seen}, the exchange {volumes}")
        self.steps.done(f"{closed.lapsed_orders} orders lapsed, closes and composite computed, the feed agrees")
        return closed

    def _settle(self, market: Market, registry: Registry) -> dict[str, Any]:
        from cea.connecting import key_file
        from cea.demo_driver import DemoError
        from cea.remote_exchange import RemoteExchange
        from gateway.operator import OperatorClient
        from settlement.bridge import Bridge
        from settlement.errors import Refused

        self.steps.start("Clearing and delivery")
        with OperatorClient(self.folder, key=key_file(self.folder, "settlement"), timeout=60) as client:
            bridge = Bridge(registry, RemoteExchange(client), lambda: self.hours[3] + 30 * 60 * 1_000_000_000)
            ended = bridge.end_of_day(self.day.date, statements=self.folder / "reports" / "statements")
        if isinstance(ended, Refused):
            raise DemoError(f"settlement: {ended.code}: {ended.field}: {ended.reason}")
        if ended.differences or not ended.may_open_next:
            raise DemoError("settlement: " + ("; ".join(map(str, ended.differences)) or str(ended.day.state)))
        s = ended.summary
        self.steps.done(f"{s.deals} deals delivered against payment, both sides agree, registry and exchange reconcile")
        return {"deals": s.deals, "quantity_t": s.quantity_t, "amount_fen": s.amount_fen, "digest": s.digest}

    def _bulletin(self, closed: Any) -> Bulletin:
        from cea.bulletins import opening_totals
        from engine.bulletin import make_bulletin

        return make_bulletin(closed, opening_totals(self.folder, self.day.date))

    def _draw(self, driver: Driver, bulletin: Bulletin) -> None:
        from engine.market import LISTED
        from replay.chart import draw_day

        self.steps.start("Chart")
        codes = [row[1] for row in sorted(driver.ops.link.query("instruments"))]
        deals: dict[str, list[tuple[int, int, int]]] = {}
        for d in driver.ops.deals():
            if d["method"] == LISTED:
                row = (int(d["time_ns"]), int(d["price"]), int(d["quantity"]))
                deals.setdefault(codes[int(d["instrument"])], []).append(row)
        draw_day(self.chart, bulletin, deals, self.hours)
        self.steps.done(str(self.chart))

    def _stop(self, process: ExchangeProcess) -> int:
        self.steps.start("Clean stop")
        code = process.stop()
        self.steps.done(f"exit code {code}")
        return code

    def _replay(self, seal: str) -> bool:
        from cea.replaying import machine_maker
        from engine.journal import RealDisk
        from engine.journal.inspection import verify

        self.steps.start("Journal replayed")
        make, restore = machine_maker(self.folder)
        report = verify(RealDisk(self.folder / "journal"), make, restore)
        agrees = report.ok and report.state_hash.hex() == seal
        found = "the same state hash" if agrees else "; ".join(report.problems) or "another state hash"
        self.steps.done(f"{report.commands:,} commands: {found}")
        return agrees

    # --- the result ------------------------------------------------------------------------------------------

    def _result(
        self,
        bulletin: Bulletin,
        stages: list[dict[str, dict[str, int]]],
        settled: dict[str, Any],
        seal_hash: str,
        agrees: bool,
        exit_code: int,
        driver: Driver,
        crash: Crash | None,
    ) -> dict[str, Any]:
        from cea.comparison import compare

        figures = compare(bulletin, self.day)
        equal, conserved = all(f.equal for f in figures), is_conserved(stages)
        if not self.steps.quiet:
            print_bulletin(bulletin)
            print_comparison(figures)
            print_totals(stages)
            print(f"journal     {self.folder / 'journal'}")
            print(f"registry    {self.folder / 'registry.db'}")
            print(f"statements  {self.folder / 'reports' / 'statements'}")
            print(f"chart       {self.chart}")
            verdict = "All figures equal the published ones." if equal else "FIGURES DIFFER."
            kept = "Conserved to the tonne and the fen." if conserved else "NOT CONSERVED."
            print(f"{verdict} {kept} {time.monotonic() - self.steps.began:.1f} s")
        return {
            "equal": equal,
            "conserved": conserved,
            "replay_agrees": agrees,
            "exit_code": exit_code,
            "seconds": round(time.monotonic() - self.steps.began, 2),
            "bulletin": bulletin,
            "differences": [f._asdict() for f in figures if not f.equal],
            "refused": {code.name: count for code, count in driver.refusals.items()},
            "settled": settled,
            "registry": stages,
            "state_hash": seal_hash,
            "killed_ready_s": crash.ready_s if crash else None,
            "market": str(self.folder),
            "chart": str(self.chart),
            "pid": os.getpid(),
        }


def _demo_plan(rules: Rules, pieces: dict[str, int], seed: int) -> DayPlan:
    """3 December 2025 from the figures that the project carries."""
    from cea.bulletins import opening_totals
    from cea.folder import day_figures
    from replay.flow import build_flow
    from replay.one_day import DayPlan, bulk_of

    day = day_figures()
    totals = opening_totals(Path(__file__).parent, day.date)
    return DayPlan(
        day, day.composite.previous, build_flow(day, rules, pieces=pieces, seed=seed), bulk_of(day, rules), {}, totals
    )


def bulk_band(day: DayFigures, code: str) -> tuple[int, int]:
    """Lowest and highest price of a bulk deal, fen (R6.1)."""
    from engine.prices import price_limits
    from engine.rules import Rules, in_force

    return price_limits(day.vintage(code).previous, in_force(Rules.national().limits, day.date).bulk_bp)


def days_around(date: int) -> list[int]:
    """Trading days enough for a day and the next open: the day, and the weekdays about it."""
    import datetime as dt

    from engine.calendar import from_date, to_date

    near = [to_date(date) + dt.timedelta(days=n) for n in range(-3, 6)]
    return [from_date(d) for d in near if from_date(d) == date or d.weekday() < 5]


def registry_totals(registry: Registry) -> dict[str, dict[str, int]]:
    """What the registry holds, per vintage (t) and for money (fen): what came in, and what lies in which bucket."""
    from settlement.kinds import BANK, CNY, SYSTEM

    totals = {code: dict(buckets) for code, buckets in sorted(registry.circulation().items())}
    money: dict[str, int] = {}
    for holding in registry.holdings():
        if holding.asset == CNY:
            money[holding.bucket] = money.get(holding.bucket, 0) + holding.quantity
    totals[CNY] = {"issued": -registry.balance(SYSTEM, CNY, BANK), **money}
    return totals


def is_conserved(stages: list[dict[str, dict[str, int]]]) -> bool:
    """True when at every stage what lies in all buckets is what came in, and the day itself brought nothing in."""
    balanced = all(
        t["issued"] == sum(q for name, q in t.items() if name != "issued") for s in stages for t in s.values()
    )
    same = all(stages[-1][asset]["issued"] == stages[-2][asset]["issued"] for asset in stages[-1])
    return balanced and same


def print_bulletin(bulletin: Bulletin) -> None:
    """The sentences, Chinese then English."""
    from engine.bulletin import sentences_en, sentences_zh

    print()
    print("\n".join(sentences_zh(bulletin)))
    print()
    print("\n".join(sentences_en(bulletin)))


def print_comparison(figures: list[Any]) -> None:
    """A row per vintage; a figure that differs shows both."""
    names = list(dict.fromkeys(f.name for f in figures))
    rows: dict[str, dict[str, str]] = {}
    for f in figures:
        text = f.ours if f.equal else f"[red]{f.ours} ≠ {f.published}[/red]"
        rows.setdefault(f.code, {})[f.name] = text
    marks = {code: all(f.equal for f in figures if f.code == code) for code in rows}
    shown = [
        (code, *(cells.get(name, "") for name in names), "= published" if marks[code] else "[red]differs[/red]")
        for code, cells in rows.items()
    ]
    console().print(table(("vintage", *names, ""), shown))


def print_totals(stages: list[dict[str, dict[str, int]]]) -> None:
    """Registry balances at the start, before the first order and after settlement."""
    from engine.prices import format_amount
    from settlement.kinds import CASH, CNY, REGISTRY, TRADING

    start, opened, settled = stages
    rows = []
    for asset in settled:
        text = format_amount if asset == CNY else "{:,}".format
        inside = (CASH,) if asset == CNY else (REGISTRY, TRADING)
        cells = ["/".join(text(stage[asset].get(bucket, 0)) for bucket in inside) for stage in (start, opened, settled)]
        rows.append((f"{asset} {'/'.join(inside)}", *cells, text(settled[asset]["issued"])))
    console().print(table(("registry holds", "at first", "before the open", "after settlement", "came in"), rows))
