"""The exchange's own health: gateway, journal, alarms; and the notices of the day."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from gateway.monitor.panel import Panel


class HealthPanel(Panel):
    """Counters, alarms, notices."""

    def build(self) -> None:
        """Three tables."""
        with ui.row().classes("w-full gap-3 items-stretch"):
            self.table("counters", ("name", "value"))
            self.table("alarms", ("text",))
            self.table("notes", ("time", "text"))

    def fill(self, status: dict[str, Any]) -> None:
        """Journal first, then the counters, then all metrics without labels."""
        health = self.picture.health
        commits = health.get("cea_commit_seconds_count", 0)
        figures: dict[str, float] = {"durable_sequence": health.get("cea_durable_sequence", 0)}
        if commits:
            figures["commit_mean_ms"] = 1_000 * health["cea_commit_seconds_sum"] / commits
        figures |= {k: v for k, v in status["counters"].items() if isinstance(v, int | float)}
        figures |= {"seq": status["seq"], "open_orders": status["open_orders"], "deals": status["deals"]}
        figures |= {k.removeprefix("cea_"): v for k, v in health.items()}
        self.rows(
            "counters", [{"name": k, "value": f"{v:,.6g}" if v % 1 else f"{int(v):,}"} for k, v in figures.items()]
        )
        self.rows("alarms", [{"text": text} for text in status["alarms"]])
        self.rows("notes", list(self.picture.notes))
