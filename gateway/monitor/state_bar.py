"""The line under the market's name, on every tab: all is well, or what has to be looked at, each a way to its tab.

Where the data is old nobody knows: the page hides the line.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from nicegui import ui

from gateway.monitor.panel import Panel
from gateway.monitor.wellness import Concern, concerns


class StateBar(Panel):
    """A badge, and a button for each concern."""

    def build(self) -> None:
        """The badge; buttons come and go."""
        self.buttons: dict[Hashable, Any] = {}
        with ui.row().classes("w-full items-center gap-2 state"):
            self.badge = ui.badge().props('id="state" role="status"').classes("q-pa-sm")
            self.row = ui.row().classes("items-center gap-2").props('id="concerns"')

    def fill(self, status: dict[str, Any]) -> None:
        """Green where nothing is to be looked at, red where something is grave."""
        found = {(c.word, c.grave): c for c in concerns(self.picture)}
        self.keep(self.row, self.buttons, list(found), lambda key: self._button(found[key]))
        for key, concern in found.items():
            self.buttons[key].text = f"{self.w(concern.word)} {concern.detail}".strip()
        grave = any(c.grave for c in found.values())
        self.badge.text = self.w("act_now" if grave else "look_at" if found else "is_well")
        self.badge.props(f"color={'negative' if grave else 'warning' if found else 'positive'}")

    def _button(self, concern: Concern) -> Any:
        button = ui.button(color="negative" if concern.grave else "warning")
        button.on_click(lambda: self.view.show(concern.tab))
        return button.props(f'outline dense id="concern-{concern.word}"').classes("concern")
