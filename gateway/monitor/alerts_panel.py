"""Surveillance alerts (R14.3) with their evidence, and who has seen them."""

from __future__ import annotations

import time
from typing import Any, Final

from nicegui import ui

from engine.calendar import format_time
from engine.prices import format_amount
from gateway.monitor.panel import Panel
from gateway.surveillance.alerts import KINDS, Alert

ROWS_SHOWN: Final = 200  # `cea alerts` lists all
UNITS: Final = {"fen": "cny", "deals": "deals_unit"}  # of a measure, where the word is another one


class AlertsPanel(Panel):
    """One table; a click shows the evidence."""

    def build(self) -> None:
        """The table."""
        columns = ("time", "kind", "code", "accounts_named", "text", "acknowledged")
        with ui.row().classes("w-full"):
            self.table("alerts", columns, key="name", broad=True, chosen=self._evidence)

    def fill(self, status: dict[str, Any]) -> None:
        """The newest first."""
        self.rows(
            "alerts",
            [
                {"name": a.name, "time": format_time(a.time_ns)[:8], "kind": self._kind(a.kind), "code": a.instrument,
                 "accounts_named": ", ".join(map(str, a.accounts)), "text": self._told(a),
                 "acknowledged": self.picture.acknowledged.get(a.name, "")}
                for a in list(self.picture.alerts)[: -ROWS_SHOWN - 1 : -1]
            ],
        )  # fmt: skip

    def _kind(self, kind: str) -> str:
        return KINDS[kind][self.view.language == "zh"]

    def _told(self, a: Alert) -> str:
        """The detector's sentence, in this browser's language."""
        return a.text_zh if self.view.language == "zh" else a.text

    def _measured(self, a: Alert) -> str:
        score, limit = (format_amount(v) if a.unit == "fen" else f"{v:,}" for v in (a.score, a.limit))
        unit = self.w(UNITS.get(a.unit, a.unit))
        return f"{self.w('score')} {score} {unit}, {self.w('threshold')} {limit} {unit}"

    def _evidence(self, row: dict[str, Any]) -> None:
        alert = next((a for a in list(self.picture.alerts) if a.name == row.get("name")), None)
        title = f"{self._kind(alert.kind)} {format_time(alert.time_ns)[:8]}" if alert else ""
        if alert is None or not self.may_ask(title):
            return
        with self.dialog(title, "w-full") as dialog:
            ui.label(self._told(alert))
            ui.label(self._measured(alert))
            ui.label(f"{self.w('tape')}: {', '.join(map(str, alert.deals)) or '–'}")
            ui.label(f"{self.w('evidence_orders')}: {', '.join(f'{o:x}' for o in alert.orders[:20]) or '–'}")
            ui.label(self.w("replay"))
            ui.code(alert.replay.replace("MARKET", str(self.pages.folder))).classes("w-full")

            def acknowledge() -> None:
                user = self.view.present()
                if user is not None and user.role == "operator":
                    self.pages.feed.acknowledge(alert.name, user.name)
                    self.pages.acts.note(
                        time_ns=time.time_ns(), person=user.name, key=user.key, act="acknowledge", what=alert.name
                    )
                    dialog.close()

            with ui.row():
                if self.user.role == "operator":
                    ui.button(self.w("acknowledge"), on_click=acknowledge).props('outline id="acknowledge"')
                ui.button(self.w("leave"), on_click=dialog.close).props('flat id="leave"')
