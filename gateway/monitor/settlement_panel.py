"""Settlement: how far it is, what is held, and whether the exchange's balances are the registry's (R12)."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from engine.calendar import format_time, to_date
from engine.prices import format_amount, format_change, format_price
from gateway.monitor.panel import Panel
from settlement.progress import Progress, Step

AFTER_RECONCILING = frozenset({Step.STATEMENTS, Step.TELL, Step.DONE, Step.CHECK_OPEN, Step.MAY_OPEN})


class SettlementPanel(Panel):
    """Bar, reconciliation, held deals; the day's result per vintage."""

    def build(self) -> None:
        """A card with the bar, and three tables."""
        with ui.card().classes("w-full"):
            self.settled = ui.label().classes("text-subtitle1").props('id="settled"')
            self.bar = ui.linear_progress(0, show_value=False, size="18px").props('id="settlement-bar"')
            self.bar.props(f'aria-label="{self.w("settlement")}"')
            self.count = ui.label().props('id="settlement-count"')
            self.step = ui.label().props('id="settlement-step" role="status"')
            self.reconciled = ui.label().props('id="reconciliation"')
        with ui.row().classes("w-full gap-3 items-stretch"):
            self.table("differences", ("text",))
            self.table("held", ("text",), title="held_deals")
        with ui.row().classes("w-full gap-3 items-stretch"):
            columns = ("code", "opening", "high", "low", "close", "change", "volume", "amount", "bulk_t", "auction_t")
            self.table("day_result", columns, broad=True)

    def fill(self, status: dict[str, Any]) -> None:
        """The exchange's word on the day, then the settling process's."""
        done = "settled" if status["settled"] else "not_settled" if status["day_closed"] else "trading"
        self.settled.text = f"{to_date(status['date'])}: {self.w(done)}"
        self._fill_progress(self.picture.settlement)
        for label in (self.count, self.reconciled):
            label.set_visibility(bool(label.text))
        self._fill_day()

    def _fill_progress(self, p: Progress | None) -> None:
        if p is None or not p.date:
            self.count.text, self.step.text, self.reconciled.text = "", self.w("no_settlement"), ""
            return
        self.bar.value = round(p.share, 3)
        held = f" · {self.w('held')} {p.held:,}" if p.held else ""
        self.count.text = f"{to_date(p.date)}: {p.posted:,} / {p.deals:,} {self.w('deals_posted')}{held}"
        at = f" · {format_time(p.time_ns)[:8]}" if p.time_ns else ""
        amount = f" · {format_amount(p.amount_fen)} {self.w('cny')}" if p.amount_fen else ""
        self.step.text = " ".join(w for w in (self.w(f"step_{p.step}") + amount + at, p.text) if w)
        if p.differences:
            self.reconciled.text = f"{self.w('different')}: {len(p.differences)}"
        else:
            self.reconciled.text = self.w("reconciled" if p.step in AFTER_RECONCILING else "not_reconciled")
        self.reconciled.classes(replace="text-negative" if p.differences else "")
        self.rows("differences", [{"text": text} for text in p.differences])
        self.rows("held", [{"text": text} for text in p.holding])

    def _fill_day(self) -> None:
        """What the exchange published at the close (R11.1)."""
        rows = [
            {"code": v["code"], "opening": format_price(v["open"]), "close": format_price(v["close"]),
             "high": format_price(v["high"]) if v["high"] else "–", "low": format_price(v["low"]) if v["low"] else "–",
             "change": format_change(v["change_bp"]), "volume": f"{v['volume']:,}",
             "amount": format_amount(v["amount"]), "bulk_t": f"{v['bulk_volume']:,}",
             "auction_t": f"{v['auction_volume']:,}"}
            for v in self.picture.day_result.get("vintages", ())
        ]  # fmt: skip
        d = self.picture.day_result
        if d:
            names = {"opening": "open", "high": "high", "low": "low", "close": "close"}
            composite = {name: format_price(d[f"composite_{field}"]) for name, field in names.items()}
            change = format_change(d["composite_change_bp"])
            rows.append({"code": self.w("composite"), **composite, "change": change})
        self.rows("day_result", rows)
