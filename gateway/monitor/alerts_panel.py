"""Surveillance alerts (R14.3) with their evidence, and who has seen them."""

from __future__ import annotations

import time
from typing import Any, Final

from nicegui import ui

from engine.calendar import format_time
from gateway.monitor.panel import Panel
from gateway.surveillance.alerts import KINDS

ROWS_SHOWN: Final = 200  # `cea alerts` lists all


class AlertsPanel(Panel):
    """One table; a click shows the evidence."""

    def build(self) -> None:
        """The table."""
        columns = ("time", "kind", "code", "accounts_named", "text", "acknowledged")
        self.table("alerts", columns, key="name", broad=True, chosen=self._evidence)

    def fill(self, status: dict[str, Any]) -> None:
        """The newest first."""
        self.rows(
            "alerts",
            [
                {"name": a.name, "time": format_time(a.time_ns)[:8], "kind": self._kind(a.kind), "code": a.instrument,
                 "accounts_named": ", ".join(map(str, a.accounts)), "text": a.text,
                 "acknowledged": self.picture.acknowledged.get(a.name, "")}
                for a in list(self.picture.alerts)[: -ROWS_SHOWN - 1 : -1]
            ],
        )  # fmt: skip

    def _kind(self, kind: str) -> str:
        return KINDS[kind][self.view.language == "zh"]

    def _evidence(self, row: dict[str, Any]) -> None:
        alert = next((a for a in list(self.picture.alerts) if a.name == row.get("name")), None)
        title = f"{self._kind(alert.kind)} {format_time(alert.time_ns)[:8]}" if alert else ""
        if alert is None or not self.may_ask(title):
            return
        with self.dialog(title, "w-full") as dialog:
            ui.label(alert.text)
            ui.label(f"{self.w('score')} {alert.score:,} {alert.unit}, {self.w('threshold')} {alert.limit:,}")
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

            if self.user.role == "operator":
                ui.button(self.w("acknowledge"), on_click=acknowledge).props('id="acknowledge"')
