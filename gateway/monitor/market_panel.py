"""The market: a tile per vintage and the composite, intraday chart, depth, book, deals."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Any, Final

from nicegui import ui

from engine.prices import change_bp, closing_price, format_amount, format_change, format_price
from gateway.monitor import look
from gateway.monitor.health_panel import commit_mean
from gateway.monitor.panel import Panel
from gateway.monitor.picture import COMPOSITE

CURVE_S: Final = 1.0  # a curve of 2,000 points is 40 kB: once a second is as much as an eye wants
FEW: Final = 20
TAPE_SHOWN: Final = 60
FIGURES: Final = ("all_volume", "all_amount", "all_deals", "open_orders", "logged_in", "commands_s", "commit")
WAYS: Final = ("", "bulk_", "auction_")
BOOK_SHOWN: Final = 5  # R8.6; the depth chart has more


class MarketPanel(Panel):
    """``code``: the vintage that charts and book show, or the composite."""

    def build(self) -> None:
        """Tiles, two charts, two tables."""
        self.code = self.view.choice.code  # none yet: the one that trades most is shown
        self.cards: dict[Hashable, Any] = {}
        self.tiles: dict[str, dict[str, Any]] = {}  # what stands in the cards
        self._curve_due = 0.0
        with ui.row().classes("w-full items-center figures").props('id="figures"'):
            self.figures = {name: self._figure(name) for name in FIGURES}
        self.tile_row = ui.row().classes("w-full gap-3 items-stretch").props('id="tiles"')
        with ui.row().classes("w-full gap-3 items-stretch"):
            with ui.card().classes("panel"):
                self.chart_title = ui.label().classes("text-subtitle1").props('id="curve-title"')
                self.curve = (
                    ui.echart(look.curve_options(self.w("per_t")))
                    .style("height: 300px; width: 100%")
                    .props('id="curve"')
                )
            with ui.card().classes("panel"):
                self.depth_title = ui.label().classes("text-subtitle1")
                self.depth = (
                    ui.echart(look.depth_options(self.w("t"), self.w("per_t")))
                    .style("height: 300px; width: 100%")
                    .props('id="depth"')
                )
        with ui.row().classes("w-full gap-3 items-stretch"):
            self.table("book", ("side", "price", "quantity", "orders"))
            self.table("tape", ("number", "time", "code", "price", "quantity", "side"), key="number")

    def fill(self, status: dict[str, Any]) -> None:
        """Tiles, then what belongs to the chosen one."""
        listed = {code: row for code, row in status["instruments"].items() if row["listed"]}
        self.keep(self.tile_row, self.cards, [*listed, COMPOSITE], self._make_tile)
        if self.view.choice.code not in (*listed, COMPOSITE):  # nothing was chosen, or it was retired
            busiest = max(listed, key=lambda c: listed[c]["volume"], default=COMPOSITE)
            if busiest != self.code:
                self._show(busiest)
        for name, text in self._figures(status).items():
            self.figures[name].text = text
        for code, row in listed.items():
            self._fill_tile(code, row["last"] or row["reference"], row["reference"], self._about(row))
            self.tiles[code]["halted"].set_visibility(bool(row["halted"]))
        c = status["composite"]
        about = "", ""
        if c["open"]:
            about = (
                f"{self.w('opening')} {format_price(c['open'])}",
                f"{self.w('low')} {format_price(c['low'])} · {self.w('high')} {format_price(c['high'])}",
            )
        self._fill_tile(COMPOSITE, c["last"] or c["previous"], c["previous"], about)
        self._fill_tape()
        if self.code == COMPOSITE:
            self._draw_curve(status, 0, 0, c["previous"])
            self._fill_book({"bids": [], "asks": []})
        else:
            row = listed[self.code]
            self.picture.wanted[self.code] = time.monotonic()
            self._draw_curve(status, row["limit_low"], row["limit_high"], row["reference"])
            self._fill_book(self.picture.books.get(self.code, {"bids": [], "asks": []}))

    def _figure(self, name: str) -> Any:
        with ui.column().classes("gap-0"):
            ui.label(self.w(name)).classes("small pale")
            return ui.label("–").props(f'id="figure-{name}"').classes("figure")

    def _figures(self, status: dict[str, Any]) -> dict[str, str]:
        """The whole market: the day's volume and turnover of all three ways of trading, and its pulse."""
        rows = status["instruments"].values()
        volume, amount = (sum(row[f"{way}{what}"] for row in rows for way in WAYS) for what in ("volume", "amount"))
        return {
            "all_volume": f"{volume:,} {self.w('t')}",
            "all_amount": f"{format_amount(amount)} {self.w('cny')}",
            "all_deals": f"{status['deals']:,}",
            "open_orders": f"{status['open_orders']:,}",
            "logged_in": f"{status['logged_in']:,}",
            "commands_s": f"{self.picture.commands_s:,.0f}",
            "commit": commit_mean(self.picture.health),
        }

    # --- tiles -----------------------------------------------------------------------------------------------

    def _make_tile(self, code: str) -> Any:
        card = ui.card().classes("tile cursor-pointer").props(f'id="tile-{code}" tabindex="0" role="button"')
        card.on("click", lambda: self._choose(code)).on("keydown.enter", lambda: self._choose(code))
        if code == self.code:
            card.classes("chosen")
        with card:
            with ui.row().classes("items-center gap-2"):
                ui.label(code if code != COMPOSITE else self.w("composite")).classes("text-subtitle1")
                halted = ui.badge(self.w("halted"), color="negative")
                halted.set_visibility(False)
            with ui.row().classes("items-baseline gap-2"):
                last = ui.html("<b></b>", sanitize=False)
                change = ui.label()
            more = [ui.label().classes("small") for _ in range(2)]
            self.tiles[code] = {"last": last, "change": change, "halted": halted, "more": more}
        return card

    def _choose(self, code: str) -> None:
        if self.view.present() is not None:
            self.view.choice.code = code
            self._show(code)
            self.view.tick()

    def _show(self, code: str) -> None:
        self.code = code
        self._curve_due = 0.0
        self._mark()

    def _mark(self) -> None:
        for code, card in self.cards.items():
            card.classes(add="chosen") if code == self.code else card.classes(remove="chosen")

    def _fill_tile(self, code: str, last: int, reference: int, about: tuple[str, str]) -> None:
        tile = self.tiles[code]
        tile["last"].content = f"<b>{format_price(last)}</b>"  # digits of our own
        moved = change_bp(last, reference) if reference else 0
        tile["change"].text = format_change(moved)
        tile["change"].classes(replace="up" if moved > 0 else "down" if moved < 0 else "")
        for label, text in zip(tile["more"], about, strict=True):
            label.text = text

    def _about(self, row: dict[str, Any]) -> tuple[str, str]:
        average = format_price(closing_price(row["amount"], row["volume"], 0)) if row["volume"] else "–"
        limits = f"{format_price(row['limit_low'])} … {format_price(row['limit_high'])}"
        return f"{self.w('limits')} {limits}", f"{row['volume']:,} {self.w('t')} · {self.w('vwap')} {average}"

    # --- charts and tables -----------------------------------------------------------------------------------

    def _draw_curve(self, status: dict[str, Any], low: int, high: int, reference: int) -> None:
        now = time.monotonic()
        if now < self._curve_due:
            return
        self._curve_due = now + CURVE_S
        name = self.w("composite") if self.code == COMPOSITE else self.code
        self.chart_title.text = f"{self.w('intraday')} {name}"
        self.depth_title.text = f"{self.w('depth')} {'' if self.code == COMPOSITE else self.code}"
        curve = self.picture.curves.get(self.code)
        points = [[t + look.SHANGHAI_MS, price / 100] for t, price in (curve.shown() if curve else [])]
        bounds = [b // 1_000_000 + look.SHANGHAI_MS for b in status["boundaries"]]
        if not self.changed("curve", (self.code, len(points), points[-1:], low, high, reference, bounds)):
            return
        series, prices = self.curve.options["series"][0], [price for _, price in points] + [reference / 100]
        series["data"] = points
        series["showSymbol"] = len(points) <= FEW  # a line through one point is none
        series["markLine"]["data"] = look.limit_lines(low, high, reference)
        series["markArea"]["data"] = [[{"xAxis": bounds[1]}, {"xAxis": bounds[2]}]]
        lowest, highest = (low / 100, high / 100) if high else (min(prices), max(prices))
        self.curve.options["yAxis"].update(min=round(lowest * 0.995, 1), max=round(highest * 1.005, 1))
        self.curve.options["xAxis"].update(min=bounds[0], max=bounds[3])
        self.curve.update()

    def _fill_book(self, book: dict[str, Any]) -> None:
        def side(name: str) -> list[dict[str, Any]]:
            return [
                {"side": f"{self.w(name)} {i + 1}", "price": format_price(p), "quantity": f"{q:,}", "orders": n}
                for i, (p, q, n) in enumerate(book[f"{name}s"][:BOOK_SHOWN])
            ]

        self.rows("book", side("ask")[::-1] + side("bid"))
        sides = [look.steps(book["bids"]), look.steps(book["asks"])]
        if self.changed("depth", sides):
            for series, data in zip(self.depth.options["series"], sides, strict=True):
                series["data"] = data
            self.depth.update()

    def _fill_tape(self) -> None:
        self.rows(
            "tape",
            [
                {**d, "number": d["no"], "price": format_price(d["price"]), "quantity": f"{d['quantity']:,}",
                 "side": self.w(d["side"])}
                for d in list(self.picture.tape)[:TAPE_SHOWN]
            ],
        )  # fmt: skip
