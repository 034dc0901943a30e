"""One browser's monitor: the frame around the tabs, and the look that fills them four times a second."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from nicegui import ui

from engine.calendar import format_time, to_date, trading_date
from gateway.monitor import look
from gateway.monitor.alerts_panel import AlertsPanel
from gateway.monitor.controls_panel import ControlsPanel
from gateway.monitor.desk_panel import DeskPanel
from gateway.monitor.health_panel import HealthPanel
from gateway.monitor.market_panel import MarketPanel
from gateway.monitor.members_panel import MembersPanel
from gateway.monitor.settlement_panel import SettlementPanel
from gateway.monitor.state_bar import StateBar
from gateway.monitor.texts import word
from gateway.monitor.users import User

if TYPE_CHECKING:
    from gateway.monitor.pages import Pages
    from gateway.monitor.panel import Panel

PANELS: Final[dict[str, type[Panel]]] = {
    "market": MarketPanel,
    "desk": DeskPanel,
    "members": MembersPanel,
    "settlement": SettlementPanel,
    "health": HealthPanel,
    "alerts": AlertsPanel,
    "controls": ControlsPanel,
}


class View:
    """The frame. A browser that is not logged in any more is sent to the login."""

    def __init__(self, pages: Pages, browser: str, user: User) -> None:
        self.pages, self.browser, self.user = pages, browser, user
        self.picture = pages.feed.picture
        self.choice = pages.choice(browser)
        self.language = self.choice.language
        self.panels = {name: make(self) for name, make in PANELS.items()}
        self.state = StateBar(self)

    def w(self, key: str) -> str:
        """A word in this browser's language."""
        return word(key, self.language)

    def build(self) -> None:
        """Everything once; afterwards :meth:`tick` fills it."""
        ui.add_css(look.STYLE)
        ui.add_head_html(look.BEAT)
        ui.colors(**look.COLORS)
        self.dark = ui.dark_mode(self.choice.dark)
        with ui.row().classes("w-full items-center gap-3"):
            self.name = ui.label().classes("text-h6")
            self.phase = ui.badge().props('id="phase"').classes("q-pa-sm")
            self.clock = ui.label().props('id="clock"').classes("tabular-nums")
            ui.space()
            ui.label(f"{self.user.name} ({self.w(self.user.role)})").classes("wide")
            ui.button("中文" if self.language == "en" else "English", on_click=self._other_language).props(
                'flat dense id="language"'
            )
            ui.button("◐", on_click=self._other_light).props(f'flat dense id="light" aria-label="{self.w("light")}"')
            ui.button(self.w("logout"), on_click=self._logout).props('flat dense id="logout"')
        ui.html(f'<div id="stale" role="alert">{self.w("stale")}</div>', sanitize=False).classes("w-full")
        self.problem = ui.label().classes("text-negative")
        self.state.build()
        with ui.tabs().classes("w-full").props('dense align="left" outside-arrows mobile-arrows') as self.tabs:
            self.tab_of = {name: ui.tab(name, label=self.w(name)).props(f'id="tab-{name}"') for name in PANELS}
        with ui.tab_panels(self.tabs, value=self.choice.tab, animated=False).classes("w-full live").props("keep-alive"):
            for name, panel in self.panels.items():
                with ui.tab_panel(name).classes("q-pa-none"), ui.column().classes("w-full gap-3 items-stretch"):
                    panel.build()
        self.floor = ui.element("div")  # where dialogs are
        self.dialog: tuple[str, Any] | None = None  # the last one that was opened, by its title
        self.tabs.on_value_change(self._shown)
        ui.keyboard(on_key=self._key)
        self._due, self._dealt = 0.0, -1
        self.client = ui.context.client
        ui.timer(look.LOOK_S, self._look)
        self.tick()

    def show(self, tab: str) -> None:
        """Chooses a tab."""
        self.tabs.value = tab

    def present(self) -> User | None:
        """Whoever clicked, still logged in and with the role of now; else: to the login."""
        user = self.pages.sessions.user(self.browser, touch=True)
        if user is None:
            ui.navigate.to("/login")
        return user

    def _key(self, e: Any) -> None:
        if e.action.keydown and str(e.key).isdigit() and 1 <= int(str(e.key)) <= len(PANELS):
            self.show(list(PANELS)[int(str(e.key)) - 1])

    def _shown(self) -> None:
        self.choice.tab = self.tabs.value
        self.tick()

    def _other_language(self) -> None:
        self.choice.language = "en" if self.language == "zh" else "zh"
        ui.navigate.to("/")

    def _other_light(self) -> None:
        self.choice.dark = self.dark.value = not self.dark.value

    def _logout(self) -> None:
        self.pages.sessions.logout(self.browser)
        ui.navigate.to("/login")

    def _look(self) -> None:
        if not self.client.has_socket_connection:
            return  # nobody sees it; whoever comes back sees the next look
        if time.monotonic() >= self._due or self.picture.dealt != self._dealt:
            self.tick()

    def tick(self) -> None:
        """Fills in what has changed, of the tab that is shown."""
        if self.pages.sessions.user(self.browser) is None:
            ui.navigate.to("/login")
            return
        p, now = self.picture, time.monotonic()
        p.looked, self._due, self._dealt = now, now + look.TICK_S, p.dealt
        stale = p.stale(now)
        ui.run_javascript(f"window.ceaBeat && window.ceaBeat({str(stale).lower()})")
        self.problem.text = p.error if stale else ""
        self.problem.set_visibility(bool(self.problem.text))
        s = p.status
        if not s:
            return
        self.name.text = s["name"]
        self.phase.text = self.w(s["phase"]) + (f" · {self.w('cancel_only')}" if s["cancel_only"] else "")
        self.phase.props(f"color={'negative' if s['halted'] or s['cancel_only'] else 'primary'}")
        self.clock.text = f"{to_date(trading_date(s['time_ns']))} {format_time(s['time_ns'])[:8]}"
        self.state.fill(s)
        self._count("alerts", sum(a.name not in p.acknowledged for a in list(p.alerts)))
        self._count("controls", len(s["proposals"]))
        self.panels[self.tabs.value].fill(s)

    def _count(self, tab: str, waiting: int) -> None:
        """How many things wait in a tab, behind its name."""
        label = f"{self.w(tab)} ({waiting})" if waiting else self.w(tab)
        if self.tab_of[tab].props.get("label") != label:
            self.tab_of[tab].props(f'label="{label}"')
