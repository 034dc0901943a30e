"""The page's two routes, login and monitor. Every text of a member or of the exchange is set as text, never as HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nicegui import app, run, ui

from gateway.monitor import look
from gateway.monitor.acts import Acts
from gateway.monitor.feed import Feed
from gateway.monitor.texts import word
from gateway.monitor.users import Sessions
from gateway.monitor.view import View


class Pages:
    """Registers the routes; keeps what all browsers share, and what each has chosen."""

    def __init__(self, folder: Path, feed: Feed, sessions: Sessions, actions: dict[str, Any]) -> None:
        self.folder, self.feed, self.sessions, self.actions = folder, feed, sessions, actions
        self.acts = Acts(folder)
        self.language: dict[str, str] = {}  # by browser
        self.dark: dict[str, bool] = {}

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
        language = self.language.get(browser, "zh")
        ui.add_css(look.STYLE)
        ui.colors(primary=look.PRIMARY)
        ui.dark_mode(self.dark.get(browser))
        with ui.card().classes("mx-auto mt-16 w-80"):
            ui.label(word("title", language)).classes("text-h6")
            name = ui.input(word("name", language)).classes("w-full")
            name.props('autocomplete="username" autofocus for="field-name"')
            password = ui.input(word("password", language), password=True).classes("w-full")
            password.props('autocomplete="current-password" for="field-password"')
            problem = ui.label().classes("text-negative").props('role="alert"')

            async def submit() -> None:
                why = await run.io_bound(self.sessions.login, browser, name.value or "", password.value or "")
                password.value = ""
                if why:
                    problem.text = word(why, language)
                else:
                    ui.navigate.to("/")

            password.on("keydown.enter", submit)
            ui.button(word("login", language), on_click=submit).classes("w-full").props('id="enter"')

            def other() -> None:
                self.language[browser] = "en" if language == "zh" else "zh"
                ui.navigate.to("/login")

            ui.button("English" if language == "zh" else "中文", on_click=other).props('flat id="language"').classes(
                "w-full"
            )
