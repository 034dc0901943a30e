"""The bulk desk with its dialogues (R9), and the one-way auctions (R10). A click on a row shows all of it."""

from __future__ import annotations

from typing import Any, Final

from nicegui import ui

from engine.calendar import format_time, to_date, trading_date
from engine.prices import format_amount, format_price
from gateway.monitor.panel import Panel

ROWS_SHOWN: Final = 200  # the oldest first; `cea bulk ls --operator` lists all

# What comes next for an auction, by its state (R10.4); cancelling it is always possible.
STEPS: Final = {"applied": ("approve_auction", "refuse_auction"), "ready": ("announce_auction",)}


class DeskPanel(Panel):
    """Declarations, dialogues, auctions."""

    def build(self) -> None:
        """Three tables."""
        with ui.row().classes("w-full gap-3 items-stretch"):
            declarations = ("number", "maker", "side", "code", "price", "quantity", "state", "text")
            self.table("declarations", declarations, key="number", broad=True, chosen=self._declaration)
            self.table("dialogues", ("number", "declaration_no", "taker", "price", "quantity", "state"),
                       key="number", broad=True, chosen=self._dialogue)  # fmt: skip
        with ui.row().classes("w-full gap-3 items-stretch"):
            auctions = ("number", "code", "maker", "quantity", "mode", "state", "window", "bids", "result", "text")
            self.table("auctions", auctions, key="number", broad=True, chosen=self._auction)

    def fill(self, status: dict[str, Any]) -> None:
        """What is open now; auctions of the day also when they are over."""
        desk, names = self.picture.desk, (self.w("buy"), self.w("sell"))
        self.rows(
            "declarations",
            [
                {"number": d["declaration"], "maker": d["maker"], "side": names[d["side"]], "code": d["instrument"],
                 "price": format_price(d["price"]), "quantity": f"{d['quantity']:,}", "state": self.w(d["state"]),
                 "text": d.get("note", "")}
                for d in desk.get("declarations", ())[:ROWS_SHOWN]
            ],
        )  # fmt: skip
        self.rows(
            "dialogues",
            [
                {"number": t["thread"], "declaration_no": t["declaration"], "taker": t["taker"],
                 "price": format_price(t["price"]), "quantity": f"{t['quantity']:,}",
                 "state": f"{self.w(t['state'])} ({len(t['steps'])})"}
                for t in desk.get("threads", ())[:ROWS_SHOWN]
            ],
        )  # fmt: skip
        self.rows("auctions", [self._auction_row(n, a) for n, a in sorted(self.picture.auctions.items())])

    def _auction_row(self, number: int, a: dict[str, Any]) -> dict[str, Any]:
        window = ""
        if "opens" in a:
            window = f"{to_date(trading_date(a['opens']))} {format_time(a['opens'])[:5]}–{format_time(a['closes'])[:5]}"
        bids, result, t = self.picture.bids.get(number, {}), "", self.w("t")
        if "sold" in a and "price_low" in a:
            low = f" ≥ {format_price(a['price_low'])}" if a["price_low"] else ""
            result = f"{a['sold']:,} {t}{low}, {format_amount(a['amount'])} {self.w('cny')}"
        return {
            "number": number,
            "code": a.get("instrument", ""),
            "maker": a.get("seller", ""),
            "quantity": f"{a.get('quantity', a.get('offered', 0)):,}",
            "mode": self.w(a.get("mode", "")),
            "state": self.w(a.get("state", "")),
            "window": window,
            "bids": f"{len(bids)}: {sum(bids.values()):,} {t}" if bids else "",
            "result": result,
            "text": a.get("why", ""),
        }

    # --- one row ---------------------------------------------------------------------------------------------

    def _declaration(self, row: dict[str, Any]) -> None:
        title = f"{self.w('declaration_title')} {row['number']}"
        if not self.may_ask(title):
            return
        with self.dialog(title) as dialog:
            ui.label(f"{row['side']} {row['code']} {row['price']} × {row['quantity']} {self.w('t')} · {row['state']}")
            ui.label(row["text"])
            names = ("freeze_declaration", "thaw_declaration", "cancel_declaration")
            self._acts(dialog, names, {"declaration": str(row["number"])})

    def _dialogue(self, row: dict[str, Any]) -> None:
        thread = next((t for t in self.picture.desk.get("threads", ()) if t["thread"] == row["number"]), None)
        title = f"{self.w('dialogue_title')} {row['number']}"
        if thread is None or not self.may_ask(title):
            return
        with self.dialog(title, "w-full") as dialog:
            for step in thread["steps"]:
                who = step["by"] if step["by"] < 1 << 31 else "–"
                terms = f"{format_price(step['price'])} × {step['quantity']:,} {self.w('t')}"
                words = f"{format_time(step['time_ns'])[:8]} · {who} · {self.w(step['event'])} · {terms}"
                ui.label(f"{words} {step['note']}".strip()).classes("step")
            self._acts(dialog, ("cancel_dialogue",), {"dialogue": str(row["number"])})

    def _auction(self, row: dict[str, Any]) -> None:
        title = f"{self.w('auction_title')} {row['number']}"
        if not self.may_ask(title):
            return
        with self.dialog(title) as dialog:
            for name in ("code", "maker", "quantity", "mode", "state", "window", "bids", "result", "text"):
                if row[name]:
                    ui.label(f"{self.w(name)}: {row[name]}")
            now = self.picture.auctions.get(row["number"], {}).get("state", "")
            self._acts(dialog, (*STEPS.get(now, ()), "cancel_auction"), {"auction": str(row["number"])})

    def _acts(self, dialog: Any, names: tuple[str, ...], given: dict[str, str]) -> None:
        """Buttons that lead to a control with its field filled in, for operators."""
        with ui.row():
            for name in names if self.user.role == "operator" else ():
                button = ui.button(self.w(name), on_click=lambda n=name: self._ask(dialog, n, given))
                button.props(f'outline id="row-{name}"')
            ui.button(self.w("leave"), on_click=dialog.close).props('flat id="leave"')

    def _ask(self, dialog: Any, name: str, given: dict[str, str]) -> None:
        dialog.close()
        self.view.show("controls")
        self.view.panels["controls"].ask(name, given)  # type: ignore[attr-defined]
