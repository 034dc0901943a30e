"""The exchange's own health: gateway, journal, alarms; and the notices of the day."""

from __future__ import annotations

from typing import Any, Final

from nicegui import ui

from gateway.monitor.panel import Panel

GIB: Final = 1 << 30
# What an operator looks at first, each with the metric that tells it.
VITAL: Final = {
    "durable_sequence": "cea_durable_sequence",
    "waits_for_disk": "cea_batch_commands",
    "sessions_in": "cea_sessions",
    "sessions_lost": "cea_sessions_lost",
    "unsent_reports": "cea_unsent_reports",
    "unsent_worst": "cea_unsent_reports_worst",
    "unsettled_deals": "cea_unsettled_deals",
    "calendar_left": "cea_calendar_days_left",
    "verify_problems": "cea_verify_problems",
}


def commit_mean(health: dict[str, float]) -> str:
    """How long a group takes to the disk on average; a dash: not known (yet)."""
    commits = health.get("cea_commit_seconds_count", 0)
    return f"{1_000 * health['cea_commit_seconds_sum'] / commits:.2f} ms" if commits else "–"


def vital_signs(status: dict[str, Any], health: dict[str, float]) -> dict[str, str]:
    """The figures that say whether the exchange is well, as text, by the key of their word; a dash: not known (yet)."""
    signs = {"commit_mean": commit_mean(health)}
    signs |= {key: f"{int(health[metric]):,}" if metric in health else "–" for key, metric in VITAL.items()}
    signs["slow_subscribers"] = f"{status['counters']['feed_overruns']:,}"
    free = health.get("cea_disk_free_bytes")
    signs["disk_free"] = "–" if free is None else f"{free / GIB:,.1f} GiB"
    return signs


class HealthPanel(Panel):
    """What matters in words; alarms, notices; every counter by its own name."""

    def build(self) -> None:
        """Four tables."""
        with ui.row().classes("w-full gap-3 items-stretch"):
            self.table("vital", ("sign", "value"))
            self.table("alarms", ("text",))
            self.table("notes", ("time", "text"))
        with ui.row().classes("w-full gap-3 items-stretch"):
            self.table("counters", ("counter", "value"))

    def fill(self, status: dict[str, Any]) -> None:
        """The gateway's counters, then all metrics without labels."""
        health = self.picture.health
        self.rows("vital", [{"sign": self.w(k), "value": v} for k, v in vital_signs(status, health).items()])
        figures: dict[str, float] = {k: v for k, v in status["counters"].items() if isinstance(v, int | float)}
        figures |= {"seq": status["seq"], "open_orders": status["open_orders"], "deals": status["deals"]}
        figures |= {k.removeprefix("cea_"): v for k, v in health.items()}
        self.rows(
            "counters", [{"counter": k, "value": f"{v:,.6g}" if v % 1 else f"{int(v):,}"} for k, v in figures.items()]
        )
        self.rows("alarms", [{"text": text} for text in status["alarms"]])
        self.rows(
            "notes",
            [
                {"time": n["time"], "text": f"{self.w('note_' + n['what'])} {n['text']}"}
                for n in list(self.picture.notes)
            ],
        )
