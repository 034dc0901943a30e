"""The page itself. Every text of a member or of the exchange is set as text, never as HTML."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from nicegui import app, run, ui

from engine.calendar import format_time, trading_date
from engine.prices import change_bp, format_amount, format_change, format_price
from gateway.monitor import controls
from gateway.monitor.feed import Feed
from gateway.monitor.texts import word
from gateway.monitor.users import Sessions, User
from gateway.surveillance.alerts import KINDS

# Half of the 500 ms within which the page must follow an event; the feed asks more often than that.
TICK_S: Final = 0.25
TABS: Final = ("market", "desk", "members", "health", "alerts", "controls")
PRIMARY: Final = "#2767b0"  # 5.6 : 1 on white
SHANGHAI_MS: Final = 8 * 3_600_000  # the chart shows exchange time, wherever the browser stands
UP, DOWN = "#d33a2f", "#16875b"  # red is up, as everywhere in China
AXIS: Final = {"fontSize": 12, "color": "#808890"}  # legible on white and on black
GRID: Final = {"lineStyle": {"color": "#80889044"}}
RIGHT: Final = frozenset({"price", "quantity", "orders", "number", "count", "value", "available", "locked", "requests"})

STYLE: Final = """
body { font-family: system-ui, "Noto Sans CJK SC", "WenQuanYi Micro Hei", sans-serif; font-size: 15px; }
.q-table th, .q-table td { font-size: 14px; padding: 4px 10px !important; }
.q-field__label, .q-field__native, .q-field__input, .q-field__messages, .q-badge, .q-tooltip { font-size: 14px; }
.q-field--float .q-field__label { transform: translateY(-38%) scale(.9) !important; }
.q-tab__label { font-size: 15px; text-transform: none; }
.q-btn { text-transform: none; }
.nicegui-content { padding: 12px; gap: 12px; }
.tile { min-width: 215px; flex: 1 1 215px; } .tile b { font-size: 24px; font-variant-numeric: tabular-nums; }
.up { color: #d33a2f; } .down { color: #16875b; }
.body--dark .up { color: #ff7b70; } .body--dark .down { color: #4fce9b; }
.body--dark .text-primary { color: #8ab8f0 !important; } .body--dark .text-negative { color: #ff8a80 !important; }
.panel { flex: 1 1 340px; min-width: 0; } .num td { font-variant-numeric: tabular-nums; }
#stale { display: none; background: #b3261e; color: #fff; font-weight: 700; padding: 8px 14px; width: 100%; }
body.stale #stale { display: block; } body.stale .live { opacity: .45; }
@media (max-width: 700px) { .q-tab { padding: 0 8px; } .nicegui-content { padding: 6px; } .wide { display: none; } }
"""
# The page marks itself stale when the monitor's own process has gone silent, too.
BEAT: Final = """<script>
window.ceaSeen = Date.now(); window.ceaOld = true;
window.ceaBeat = old => { window.ceaSeen = Date.now(); window.ceaOld = old; };
setInterval(() => document.body.classList.toggle('stale', window.ceaOld || Date.now() - window.ceaSeen > 1500), 200);
</script>"""


class Pages:
    """Registers the two pages, login and monitor."""

    def __init__(self, folder: Path, feed: Feed, sessions: Sessions, actions: dict[str, Any]) -> None:
        self.folder, self.feed, self.sessions, self.actions = folder, feed, sessions, actions
        self.language: dict[str, str] = {}  # by browser

    def register(self) -> None:
        """Makes the routes."""

        @ui.page("/login")
        def login() -> None:
            self._login()

        @ui.page("/")
        def monitor() -> Any:
            browser = app.storage.browser["id"]
            user = self.sessions.user(browser, touch=True)
            if user is None:
                ui.navigate.to("/login")
                return
            View(self, browser, user).build()

    def _login(self) -> None:
        browser = app.storage.browser["id"]
        language = self.language.get(browser, "zh")
        ui.add_css(STYLE)
        ui.colors(primary=PRIMARY)
        ui.dark_mode(None)
        with ui.card().classes("mx-auto mt-16 w-80"):
            ui.label(word("title", language)).classes("text-h6")
            name = ui.input(word("name", language)).props('autocomplete="username"').classes("w-full")
            password = ui.input(word("password", language), password=True).classes("w-full")
            password.props('autocomplete="current-password"')
            problem = ui.label().classes("text-negative").props('role="alert"')

            async def submit() -> None:
                why = await run.io_bound(self.sessions.login, browser, name.value or "", password.value or "")
                password.value = ""
                if why:
                    problem.text = word(why, language)
                else:
                    ui.navigate.to("/")

            password.on("keydown.enter", submit)
            ui.button(word("login", language), on_click=submit).classes("w-full").props('id="enter"')

            def other() -> None:
                self.language[browser] = "en" if language == "zh" else "zh"
                ui.navigate.to("/login")

            ui.button("English" if language == "zh" else "中文", on_click=other).props("flat").classes("w-full")


class View:
    """One browser's monitor."""

    def __init__(self, pages: Pages, browser: str, user: User) -> None:
        self.pages, self.browser, self.user = pages, browser, user
        self.picture = pages.feed.picture
        self.language = pages.language.get(browser, "zh")
        self.code = ""
        self.tables: dict[str, Any] = {}
        self.tiles: dict[str, dict[str, Any]] = {}
        self._drawn: dict[str, Any] = {}

    def w(self, key: str) -> str:
        """A word in this browser's language."""
        return word(key, self.language)

    # --- the page --------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Everything once; afterwards :meth:`tick` fills it."""
        ui.add_css(STYLE)
        ui.add_head_html(BEAT)
        ui.colors(primary=PRIMARY)
        self.dark = ui.dark_mode(None)
        with ui.row().classes("w-full items-center gap-3"):
            self.name = ui.label().classes("text-h6")
            self.phase = ui.badge().props('id="phase"').classes("q-pa-sm")
            self.clock = ui.label().props('id="clock"').classes("tabular-nums")
            ui.space()
            ui.label(f"{self.user.name} ({self.user.role})").classes("wide")
            ui.button("中文" if self.language == "en" else "English", on_click=self._other_language).props("flat dense")
            ui.button("◐", on_click=lambda: self.dark.set_value(not self.dark.value)).props(
                'flat dense aria-label="dark or light"'
            )
            ui.button(self.w("logout"), on_click=self._logout).props('flat dense id="logout"')
        ui.html(f'<div id="stale" role="alert">{self.w("stale")}</div>', sanitize=False).classes("w-full")
        self.problem = ui.label().classes("text-negative")
        with ui.tabs().classes("w-full").props('dense align="left" outside-arrows mobile-arrows') as tabs:
            for tab in TABS:
                ui.tab(tab, label=self.w(tab)).props(f'id="tab-{tab}"')
        with ui.tab_panels(tabs, value="market").classes("w-full live").props("keep-alive"):
            for tab in TABS:
                with ui.tab_panel(tab).classes("q-pa-none"):
                    getattr(self, f"_{tab}")()
        ui.keyboard(on_key=lambda e: self._key(tabs, e))
        ui.timer(TICK_S, self.tick)
        self.tick()

    def _key(self, tabs: Any, e: Any) -> None:
        if e.action.keydown and str(e.key).isdigit() and 1 <= int(str(e.key)) <= len(TABS):
            tabs.value = TABS[int(str(e.key)) - 1]

    def _other_language(self) -> None:
        self.pages.language[self.browser] = "en" if self.language == "zh" else "zh"
        ui.navigate.to("/")

    def _logout(self) -> None:
        self.pages.sessions.logout(self.browser)
        ui.navigate.to("/login")

    def _table(self, name: str, columns: tuple[str, ...], title: str = "", rows: int = 0) -> None:
        fields = [
            {"name": c, "label": self.w(c), "field": c, "align": "right" if c in RIGHT else "left"} for c in columns
        ]
        with ui.card().classes("panel overflow-auto").style("max-height: 480px"):
            ui.label(self.w(title or name)).classes("text-subtitle1")
            table = ui.table(columns=fields, rows=[], row_key=columns[0], pagination=rows or None)
            self.tables[name] = table.props(f'flat dense no-data-label="–" hide-no-data id="table-{name}"').classes(
                "w-full num"
            )

    def _market(self) -> None:
        self.tile_row = ui.row().classes("w-full gap-3 items-stretch").props('id="tiles"')
        with ui.row().classes("w-full gap-3 items-stretch"):
            with ui.card().classes("panel"):
                self.chart_title = ui.label().classes("text-subtitle1")
                self.curve = ui.echart(curve_options()).style("height: 300px; width: 100%")
            with ui.card().classes("panel"):
                ui.label(self.w("depth")).classes("text-subtitle1")
                self.depth = ui.echart(depth_options()).style("height: 300px; width: 100%")
        with ui.row().classes("w-full gap-3 items-stretch"):
            self._table("book", ("side", "price", "quantity", "orders"))
            self._table("tape", ("number", "time", "code", "price", "quantity", "side"))

    def _desk(self) -> None:
        with ui.row().classes("w-full gap-3 items-stretch"):
            columns = ("number", "maker", "side", "code", "price", "quantity", "state", "text")
            self._table("declarations", columns)
            self._table("dialogues", ("number", "maker", "taker", "price", "quantity", "state"))
            self._table("auctions", ("number", "code", "state", "text"))

    def _members(self) -> None:
        with ui.row().classes("w-full gap-3 items-stretch"):
            self._table("sessions", ("number", "account", "role", "state", "requests", "unsent", "throttled"))
            self._table("accounts", ("account", "state", "available", "locked", "orders", "holdings"))
            self._table("rejects", ("code", "text", "count"))

    def _health(self) -> None:
        with ui.card().classes("w-full"):
            ui.label(self.w("settlement")).classes("text-subtitle1")
            self.settled = ui.label().props('id="settled"')
        with ui.row().classes("w-full gap-3 items-stretch"):
            self._table("counters", ("name", "value"))
            self._table("alarms", ("text",))
            self._table("notes", ("time", "text"))

    def _alerts(self) -> None:
        self._table("alerts", ("time", "kind", "code", "accounts_named", "text", "acknowledged"))
        table = self.tables["alerts"]
        table.props("wrap-cells").on("rowClick", lambda e: self._evidence(e.args[1]))

    def _controls(self) -> None:
        if self.user.role != "operator":
            ui.label(self.w("read_only")).props('id="read-only"')
            return
        with ui.row().classes("gap-2"):
            for control in controls.CONTROLS.values():
                color = "negative" if control.dangerous else "primary"
                button = ui.button(self.w(control.name), color=color, on_click=lambda c=control: self._ask(c))
                button.props(f'outline id="do-{control.name}"')
            for name in self.pages.actions:
                ui.button(self.w(name), on_click=lambda n=name: self._ask_action(n)).props(f'id="do-{name}"')
        with ui.card().classes("w-full"):
            ui.label(self.w("effect")).classes("text-subtitle1")
            self.effect = ui.label().props('id="effect" role="status"')
        with ui.card().classes("w-full"):
            ui.label(self.w("proposals")).classes("text-subtitle1")
            self.waiting = ui.column().props('id="proposals"')

    # --- acts ------------------------------------------------------------------------------------------------

    def _present(self) -> User | None:
        """Whoever clicked is still logged in, with the role of now; else: to the login."""
        user = self.pages.sessions.user(self.browser, touch=True)
        if user is None:
            ui.navigate.to("/login")
        return user

    def _ask(self, control: controls.Control) -> None:
        if self._present() is None:
            return
        inputs: dict[str, Any] = {}
        with ui.dialog() as dialog, ui.card().classes("w-96"):
            ui.label(self.w(control.name)).classes("text-h6")
            for field in control.fields:
                inputs[field] = ui.input(self.w(field)).classes("w-full").props(f'for="field-{field}"')
            why = ui.input(self.w("reason")).classes("w-full").props('for="field-reason"')
            problem = ui.label().classes("text-negative").props('id="problem" role="alert"')

            async def do() -> None:
                user = self._present()
                if user is None:
                    return
                values = {field: (item.value or "").strip() for field, item in inputs.items()}
                result = await run.io_bound(controls.perform, self.pages.folder, user, control, values, why.value or "")
                if result is None:  # the monitor is ending
                    return
                if result.ok:
                    self.effect.text = f"{format_time(time.time_ns())[:8]} {self.w(control.name)}: {result.text}"
                    dialog.close()
                else:
                    problem.text = result.text

            with ui.row():
                ui.button(self.w("do"), on_click=do, color="negative").props('id="do-it"')
                ui.button(self.w("cancel"), on_click=dialog.close).props("flat")
        dialog.on("hide", dialog.delete)
        dialog.open()

    def _ask_action(self, name: str) -> None:
        if self._present() is None:
            return
        with ui.dialog() as dialog, ui.card().classes("w-96"):
            ui.label(self.w(name)).classes("text-h6")
            why = ui.input(self.w("reason")).classes("w-full").props('for="field-reason"')
            problem = ui.label().classes("text-negative").props('id="problem" role="alert"')

            async def do() -> None:
                user = self._present()
                reason = (why.value or "").strip()
                if user is None or user.role != "operator" or len(reason) < controls.REASON_MIN:
                    problem.text = self.w("reason")
                    return
                dialog.close()
                self.effect.text = "…"
                self.effect.text = f"{self.w(name)}: {await run.io_bound(self.pages.actions[name], user.key, reason)}"

            with ui.row():
                ui.button(self.w("do"), on_click=do).props('id="do-it"')
                ui.button(self.w("cancel"), on_click=dialog.close).props("flat")
        dialog.on("hide", dialog.delete)
        dialog.open()

    async def _confirm(self, proposal: int) -> None:
        user = self._present()
        if user is not None:
            result = await run.io_bound(controls.confirm, self.pages.folder, user, proposal)
            if result is not None:
                self.effect.text = f"{proposal}: {result.text}"

    def _evidence(self, row: dict[str, Any]) -> None:
        alert = next((a for a in list(self.picture.alerts) if a.name == row.get("name")), None)
        if alert is None or self._present() is None:
            return
        with ui.dialog() as dialog, ui.card().classes("w-full"):
            ui.label(self._kind(alert.kind)).classes("text-h6")
            ui.label(alert.text)
            ui.label(f"score {alert.score:,} {alert.unit}, threshold {alert.limit:,}")
            ui.label(f"deals {', '.join(map(str, alert.deals)) or '-'}")
            ui.label(f"orders {', '.join(f'{o:x}' for o in alert.orders[:20]) or '-'}")
            ui.code(alert.replay.replace("MARKET", str(self.pages.folder)))

            def acknowledge() -> None:
                user = self._present()
                if user is not None and user.role == "operator":
                    self.pages.feed.acknowledge(alert.name, user.name)
                    dialog.close()

            if self.user.role == "operator":
                ui.button(self.w("acknowledge"), on_click=acknowledge).props('id="acknowledge"')
        dialog.on("hide", dialog.delete)
        dialog.open()

    def _kind(self, kind: str) -> str:
        return KINDS[kind][self.language == "zh"]

    # --- twice a second --------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Fills in what has changed."""
        if self.pages.sessions.user(self.browser) is None:
            ui.navigate.to("/login")
            return
        p = self.picture
        stale = p.stale(time.monotonic())
        ui.run_javascript(f"window.ceaBeat && window.ceaBeat({str(stale).lower()})")
        self.problem.text = p.error if stale else ""
        s = p.status
        if not s:
            return
        self.name.text = s["name"]
        self.phase.text = self.w(s["phase"])
        self.phase.props(f"color={'negative' if s['halted'] or s['cancel_only'] else 'primary'}")
        self.clock.text = f"{trading_date(s['time_ns'])} {format_time(s['time_ns'])[:8]}"
        self._fill_market(s)
        self._fill_rest(s)

    def _set(self, name: str, rows: list[dict[str, Any]]) -> None:
        if self._drawn.get(name) != rows:
            self._drawn[name] = rows
            self.tables[name].rows = rows

    def _fill_market(self, s: dict[str, Any]) -> None:
        listed = {code: row for code, row in s["instruments"].items() if row["listed"]}
        if set(listed) != set(self.tiles) - {"COMCEA"} or not self.tiles:
            self._make_tiles(list(listed))
        if self.code not in listed:
            self.code = max(listed, key=lambda c: listed[c]["volume"], default="")
        for code, row in listed.items():
            self._fill_tile(self.tiles[code], row, row["last"] or row["reference"], row["reference"])
        c = s["composite"]
        self._fill_tile(self.tiles["COMCEA"], None, c["last"] or c["previous"], c["previous"])
        book = self.picture.books.get(self.code, {"bids": [], "asks": []})
        rows = [
            {"side": f"{self.w(side)} {i + 1}", "price": format_price(p), "quantity": f"{q:,}", "orders": n}
            for side, levels in (("ask", book["asks"]), ("bid", book["bids"]))
            for i, (p, q, n) in enumerate(levels[:5])
        ]
        asks = [r for r in rows if r["side"].startswith(self.w("ask"))]
        self._set("book", asks[::-1] + rows[len(asks) :])
        self._set(
            "tape",
            [
                {**d, "number": d["no"], "price": format_price(d["price"]), "quantity": f"{d['quantity']:,}",
                 "side": self.w(d["side"])}
                for d in list(self.picture.tape)[:60]
            ],
        )  # fmt: skip
        if self.code:
            self._draw(listed[self.code], book)

    def _make_tiles(self, codes: list[str]) -> None:
        self.tile_row.clear()
        self.tiles = {}
        with self.tile_row:
            for code in [*codes, "COMCEA"]:
                card = ui.card().classes("tile cursor-pointer").props(f'id="tile-{code}" tabindex="0"')
                if code != "COMCEA":
                    card.on("click", lambda c=code: self._choose(c)).on("keydown.enter", lambda c=code: self._choose(c))
                with card:
                    title = ui.label(code if code != "COMCEA" else self.w("composite")).classes("text-subtitle1")
                    with ui.row().classes("items-baseline gap-2"):
                        last = ui.html("<b></b>", sanitize=False)
                        change = ui.label()
                    self.tiles[code] = {"title": title, "last": last, "change": change, "more": ui.label()}

    def _choose(self, code: str) -> None:
        self.code = code
        self.tick()

    def _fill_tile(self, tile: dict[str, Any], row: dict[str, Any] | None, last: int, reference: int) -> None:
        tile["last"].content = f"<b>{format_price(last)}</b>"  # digits of our own
        moved = change_bp(last, reference) if reference else 0
        tile["change"].text = format_change(moved)
        tile["change"].classes(replace="up" if moved > 0 else "down" if moved < 0 else "")
        if row is None:
            return
        vwap = format_price(row["amount"] // row["volume"]) if row["volume"] else "-"
        limits = f"{format_price(row['limit_low'])} … {format_price(row['limit_high'])}"
        halted = f" · {self.w('halted')}" if row["halted"] else ""
        tile["more"].text = f"{self.w('limits')} {limits} · {row['volume']:,} t · {self.w('vwap')} {vwap}{halted}"

    def _draw(self, row: dict[str, Any], book: dict[str, Any]) -> None:
        self.chart_title.text = f"{self.w('intraday')} {self.code}"
        curve = self.picture.curves.get(self.code)
        points = [[t + SHANGHAI_MS, p / 100] for t, p in (list(curve.points) if curve else [])]
        low, high = row["limit_low"] / 100, row["limit_high"] / 100
        drawn = (self.code, len(points), points[-1:], low, high)
        if self._drawn.get("curve") != drawn:
            self._drawn["curve"] = drawn
            series = self.curve.options["series"][0]
            series["data"] = points
            series["markLine"]["data"] = [{"yAxis": low}, {"yAxis": high}]
            self.curve.options["yAxis"].update(min=round(low * 0.995, 1), max=round(high * 1.005, 1))
            bounds = self.picture.status["boundaries"]
            self.curve.options["xAxis"].update(
                min=bounds[0] // 1_000_000 + SHANGHAI_MS, max=bounds[3] // 1_000_000 + SHANGHAI_MS
            )
            self.curve.update()
        sides = [_steps(book["bids"]), _steps(book["asks"])]
        if self._drawn.get("depth") != sides:
            self._drawn["depth"] = sides
            for series, data in zip(self.depth.options["series"], sides, strict=True):
                series["data"] = data
            self.depth.update()

    def _fill_rest(self, s: dict[str, Any]) -> None:
        p = self.picture
        names = (self.w("buy"), self.w("sell"))
        self._set(
            "declarations",
            [
                {"number": d["declaration"], "maker": d["maker"], "side": names[d["side"]], "code": d["instrument"],
                 "price": format_price(d["price"]), "quantity": f"{d['quantity']:,}", "state": d["state"],
                 "text": d.get("note", "")}
                for d in p.desk.get("declarations", ())
            ],
        )  # fmt: skip
        self._set(
            "dialogues",
            [
                {"number": t["thread"], "maker": t["maker"], "taker": t["taker"], "price": format_price(t["price"]),
                 "quantity": f"{t['quantity']:,}", "state": f"{t['state']} ({len(t['steps'])})"}
                for t in p.desk.get("threads", ())
            ],
        )  # fmt: skip
        self._set(
            "auctions",
            [
                {"number": number, "code": a.get("instrument", ""), "state": a.get("state", a.get("t", "")),
                 "text": a.get("why", "")}
                for number, a in list(p.auctions.items())
            ],
        )  # fmt: skip
        self._set(
            "sessions",
            [
                {"number": x["session"], "account": x["account"] if x["account"] < 1 << 31 else "-", "role": x["role"],
                 "state": x["state"], "requests": x["next_request"] - 1, "unsent": x["unsent"],
                 "throttled": x["throttled"]}
                for x in p.sessions
            ],
        )  # fmt: skip
        self._set("accounts", [self._account_row(a) for a in p.accounts])
        self._set("rejects", p.reject_rows(self.language))
        commits = p.health.get("cea_commit_seconds_count", 0)
        figures: dict[str, float] = {"durable_sequence": p.health.get("cea_durable_sequence", 0)}
        if commits:
            figures["commit_mean_ms"] = 1_000 * p.health["cea_commit_seconds_sum"] / commits
        figures |= {**s["counters"], "seq": s["seq"], "open_orders": s["open_orders"], "deals": s["deals"]}
        figures |= {k.removeprefix("cea_"): v for k, v in p.health.items()}
        self._set(
            "counters", [{"name": k, "value": f"{v:,.6g}" if v % 1 else f"{int(v):,}"} for k, v in figures.items()]
        )
        self._set("alarms", [{"text": text} for text in s["alarms"]])
        self._set("notes", list(p.notes))
        done = "settled" if s["settled"] else "not_settled" if s["day_closed"] else "trading"
        self.settled.text = f"{s['date']}: {self.w(done)}"
        self._set(
            "alerts",
            [
                {"name": a.name, "time": format_time(a.time_ns)[:8], "kind": self._kind(a.kind), "code": a.instrument,
                 "accounts_named": ", ".join(map(str, a.accounts)), "text": a.text,
                 "acknowledged": p.acknowledged.get(a.name, "")}
                for a in reversed(list(p.alerts))
            ],
        )  # fmt: skip
        if self.user.role == "operator" and self._drawn.get("proposals") != s["proposals"]:
            self._drawn["proposals"] = s["proposals"]
            self.waiting.clear()
            with self.waiting:
                for number, proposal in s["proposals"].items():
                    with ui.row().classes("items-center"):
                        ui.label(f"{number}: {proposal['command']} → {proposal['second']}")
                        button = ui.button(self.w("confirm"), on_click=lambda n=int(number): self._confirm(n))
                        button.props(f'id="confirm-{number}"')

    def _account_row(self, a: dict[str, Any]) -> dict[str, Any]:
        held = " ".join(f"{code} {h['sellable'] + h['bought_today']:,}" for code, h in a["holdings"].items())
        state = ("", "active", "cancel only", "suspended")[a["status"]]
        return {
            "account": a["account"],
            "state": state,
            "available": format_amount(a["available"]),
            "locked": format_amount(a["locked"]),
            "orders": a["open_orders"],
            "holdings": held,
        }


def _steps(levels: list[list[int]]) -> list[list[float]]:
    """Cumulated tonnes by price (CNY, for the chart only)."""
    total, found = 0, []
    for price, quantity, _ in levels:
        total += quantity
        found.append([price / 100, total])
    return sorted(found)


def curve_options() -> dict[str, Any]:
    """The intraday chart: prices as steps between the limits."""
    return {
        "animation": False,
        "useUTC": True,
        "grid": {"left": 56, "right": 60, "top": 16, "bottom": 28},
        "tooltip": {"trigger": "axis"},
        "xAxis": {"type": "time", "axisLabel": {**AXIS, "hideOverlap": True}},
        "yAxis": {"type": "value", "axisLabel": AXIS, "splitLine": GRID},
        "series": [
            {
                "type": "line",
                "step": "end",
                "showSymbol": False,
                "data": [],
                "lineStyle": {"width": 2},
                "markLine": {
                    "symbol": "none",
                    "data": [],
                    "label": {**AXIS, "textBorderWidth": 0},
                    "lineStyle": {"type": "dashed"},
                },
            }
        ],
    }


def depth_options() -> dict[str, Any]:
    """The depth chart: cumulated tonnes of both sides."""
    side = {"type": "line", "step": "end", "showSymbol": False, "data": [], "areaStyle": {"opacity": 0.25}}
    return {
        "animation": False,
        "grid": {"left": 64, "right": 20, "top": 16, "bottom": 28},
        "tooltip": {"trigger": "axis"},
        "xAxis": {"type": "value", "scale": True, "axisLabel": AXIS, "splitLine": GRID},
        "yAxis": {"type": "value", "axisLabel": AXIS, "splitLine": GRID},
        "series": [{**side, "color": UP}, {**side, "color": DOWN}],
    }
