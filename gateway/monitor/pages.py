"""The page's two routes, login and monitor. Every text of a member or of the exchange is set as text, never as HTML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nicegui import app, run, ui

from gateway.monitor import form, look
from gateway.monitor.acts import Acts
from gateway.monitor.feed import Feed
from gateway.monitor.texts import word
from gateway.monitor.users import Sessions
from gateway.monitor.view import View

CHOICES_MAX: Final = 1_000  # browsers; the one that came first is forgotten


@dataclass
class Choice:
    """What a browser has chosen, and what came of its last act: a page that is drawn anew goes on with it.

    That is so after a reload, and after a break of the connection that was longer than the page's memory.
    """

    language: str = "zh"
    dark: bool | None = None
    tab: str = "market"
    code: str = ""  # the vintage, or the composite
    effect: str = "–"


class Pages:
    """Registers the routes; keeps what all browsers share, and what each has chosen."""

    def __init__(self, folder: Path, feed: Feed, sessions: Sessions, actions: dict[str, Any]) -> None:
        self.folder, self.feed, self.sessions, self.actions = folder, feed, sessions, actions
        self.acts = Acts(folder)
        self._choices: dict[str, Choice] = {}

    def choice(self, browser: str) -> Choice:
        """What this browser has chosen so far."""
        if browser not in self._choices and len(self._choices) >= CHOICES_MAX:
            self._choices.pop(next(iter(self._choices)))
        return self._choices.setdefault(browser, Choice())

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
        choice = self.choice(browser)
        language = choice.language
        ui.add_css(look.STYLE)
        ui.colors(**look.COLORS)
        ui.dark_mode(choice.dark)
        with ui.card().classes("mx-auto mt-16 w-80"):
            ui.label(word("title", language)).classes("text-h6")
            name = form.field("name", word("name", language))
            name.props('autocomplete="username" autofocus')
            password = form.field("password", word("password", language), password=True)
            password.props('autocomplete="current-password"')
            problem = ui.label().classes("text-negative").props('id="problem" role="alert"')

            async def submit(typed: dict[str, str]) -> None:
                if not typed["password"] or not enter.enabled:  # nothing typed, or clicked again: no try that counts
                    return
                enter.disable()
                try:
                    why = await run.io_bound(self.sessions.login, browser, typed["name"], typed["password"])
                finally:
                    enter.enable()
                    password.value = ""
                if why:
                    problem.text = word(why, language)
                elif why is not None:  # None: the monitor is ending
                    choice.tab, choice.code, choice.effect = "market", "", "–"  # the last person's
                    ui.navigate.to("/")

            enter = ui.button(word("login", language)).classes("w-full").props('id="enter"')
            for element, event in ((password, "keydown.enter"), (enter, "click")):
                form.sends(element, event, ("name", "password"), submit)

            def other() -> None:
                choice.language = "en" if language == "zh" else "zh"
                ui.navigate.to("/login")

            ui.button("English" if language == "zh" else "中文", on_click=other).props('flat id="language"').classes(
                "w-full"
            )
