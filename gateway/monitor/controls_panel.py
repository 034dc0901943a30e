"""What an operator can do: a dialog per control that asks for the reason, the outcome, and who did what today."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
from typing import Any, Final

from nicegui import run, ui

from engine.calendar import format_time
from gateway.keys import KeyFileError, load
from gateway.monitor import controls, form
from gateway.monitor.controls import CONTROLS, GROUPS, Control, Result
from gateway.monitor.panel import Panel
from gateway.monitor.texts import WORDS
from gateway.monitor.users import User

# Commands that need two persons, as the control that makes them
PROPOSED: Final = {"set_account_status": "reactivate", "open_session": "issue_key"}


class ControlsPanel(Panel):
    """Nothing but a sentence for viewers."""

    def build(self) -> None:
        """Outcome, buttons by group, proposals, acts: what comes and goes lies below what stays where it is."""
        if self.user.role != "operator":
            ui.label(self.w("read_only")).props('id="read-only"')
            return
        with ui.card().classes("w-full"):
            ui.label(self.w("effect")).classes("text-subtitle1")
            self.effect = ui.label(self.view.choice.effect).props('id="effect" role="status"')
        with ui.row().classes("w-full gap-3 items-stretch"):
            for group in GROUPS:
                with ui.card().classes("panel"):
                    ui.label(self.w(group)).classes("text-subtitle1")
                    with ui.row().classes("gap-2"):
                        for control in CONTROLS.values():
                            if control.group == group:
                                self._button(control.name, "negative" if control.dangerous else "primary")
            if self.pages.actions:
                with ui.card().classes("panel"):
                    ui.label(self.w("evening")).classes("text-subtitle1")
                    with ui.row().classes("gap-2"):
                        for name in self.pages.actions:
                            self._button(name, "primary")
        with ui.card().classes("w-full") as self.waiting_card:
            ui.label(self.w("proposals")).classes("text-subtitle1")
            self.waiting = ui.column().props('id="proposals"')
            self.proposals: dict[Hashable, Any] = {}
        with ui.row().classes("w-full"):
            self.table("acts", ("time", "person", "act", "reason_short", "result"), broad=True)

    def fill(self, status: dict[str, Any]) -> None:
        """What waits for a second person; what was done."""
        if self.user.role != "operator":
            return
        proposals = [(int(number), self._proposed(proposal)) for number, proposal in status["proposals"].items()]
        self.keep(self.waiting, self.proposals, proposals, self._proposal)
        self.waiting_card.set_visibility(bool(proposals))
        self.effect.text = self.view.choice.effect
        self.rows(
            "acts",
            [
                {"time": format_time(a["time_ns"])[:8], "person": a["person"], "act": self.w(a["act"]),
                 "reason_short": a.get("why", ""), "result": a.get("result", a.get("what", ""))}
                for a in list(self.pages.acts.last)
            ],
        )  # fmt: skip

    def ask(self, name: str, given: dict[str, str] | None = None) -> None:
        """Opens a control's dialog, with fields that are known filled in."""
        if name in CONTROLS:
            control = CONTROLS[name]
            labels = {field: self._label(name, field) for field in control.fields}
            self._ask(self.w(name), lambda u, v, why: self._perform(control, u, v, why), labels, given or {})
        else:
            self._ask(self.w(name), lambda u, v, why: self._start(name, u, why))

    # --- how ---------------------------------------------------------------------------------------------------

    def _button(self, name: str, color: str) -> None:
        ui.button(self.w(name), color=color, on_click=lambda: self.ask(name)).props(f'outline id="do-{name}"')

    def _label(self, control: str, field: str) -> str:
        """A field may mean something else in one control: empty is all of them, or none."""
        own = f"{control}.{field}"
        return self.w(own if own in WORDS else field)

    def _hint(self, field: str) -> str:
        """What may stand in a field, where that is a short list."""
        if field == "instrument":
            return ", ".join(code for code, row in self.picture.status["instruments"].items() if row["listed"])
        if field == "role":
            return "trader, risk, drop_copy, operator"
        if field == "second":
            try:
                keys = load(self.pages.folder / "keys").keys
            except KeyFileError:
                return ""
            return ", ".join(key.name for key in keys if key.role == "operator" and key.name != self.user.key)
        return ""

    def _ask(
        self,
        title: str,
        do: Callable[[User, dict[str, str], str], Result],
        labels: Mapping[str, str] = MappingProxyType({}),
        given: dict[str, str] | None = None,
        *,
        about: str = "",
        reasoned: bool = True,
    ) -> None:
        """A dialog for one act; ``do`` is run in a thread, once.

        ``labels``: its fields; ``given``: what stands in them at first; ``about``: what is to be read before.
        """
        if not self.may_ask(title):
            return
        asked = {**labels, **({"reason": self.w("reason")} if reasoned else {})}
        with self.dialog(title) as dialog:
            if about:
                ui.label(about).classes("step")
            for name, label in asked.items():
                box = form.field(name, label, (given or {}).get(name, ""))
                if name == next(iter(asked)):
                    box.props("autofocus")  # the keyboard is where typing begins
                if hint := self._hint(name):
                    box.props["hint"] = hint
            problem = ui.label().classes("text-negative").props('id="problem" role="alert"')

            async def act(typed: dict[str, str]) -> None:
                user = self.view.present()
                if user is None or not button.enabled:
                    return
                values = {name: value.strip() for name, value in typed.items()}
                why = values.pop("reason", "")
                if reasoned and len(why) < controls.REASON_MIN:
                    problem.text = f"{self.w('reason')}: ≥ {controls.REASON_MIN}"
                    return
                button.disable()  # a second click is not a second act
                problem.text = ""
                result = None
                try:
                    result = await run.io_bound(do, user, values, why)
                finally:
                    self._came(title, result, dialog, problem, button)

            if reasoned:
                form.sends(box, "keydown.enter", asked, act)
            with ui.row():
                button = ui.button(self.w("do"), color="negative").props('outline id="do-it"')
                form.sends(button, "click", asked, act)
                ui.button(self.w("cancel"), on_click=dialog.close).props('flat id="leave"')

    def _came(self, title: str, result: Result | None, dialog: Any, problem: Any, button: Any) -> None:
        """Shows what came of an act: the dialog, or the whole page, may be another one by now."""
        if result is not None and (result.ok or dialog.is_deleted):
            self.view.choice.effect = (
                f"{format_time(self.picture.status['time_ns'])[:8]} {title}: {self.w(result.text)}"
            )
        if dialog.is_deleted:
            return
        if result is not None and result.ok:
            self.effect.text = self.view.choice.effect
            dialog.close()
        else:
            problem.text = "" if result is None else result.text
            button.enable()

    def _perform(self, control: Control, user: User, values: dict[str, str], why: str) -> Result:
        result = controls.perform(self.pages.folder, user, control, values, why)
        self._note(user, control.name, why, result, values)
        return result

    def _start(self, name: str, user: User, why: str) -> Result:
        """Settlement or bulletin: what whoever composes the system runs for us."""
        if user.role != "operator":
            return Result(False, self.w("read_only"))
        result = Result(True, self.pages.actions[name](user.key, why))
        self._note(user, name, why, result, {})
        return result

    def _note(self, user: User, act: str, why: str, result: Result, values: dict[str, str]) -> None:
        self.pages.acts.note(
            time_ns=time.time_ns(), person=user.name, key=user.key, act=act, values=values, why=why, ok=result.ok,
            result=result.text,
        )  # fmt: skip

    def _proposed(self, proposal: dict[str, Any]) -> str:
        """What a second person is asked for, in a line."""
        given = proposal["command"]
        fields = ((k, v) for k, v in given.items() if k not in ("t", "by", "second", "why") and v != "")
        what = f"{self.w(PROPOSED.get(given['t'], given['t']))} ({', '.join(f'{self.w(k)} {v}' for k, v in fields)})"
        return f"{what} · {given.get('by', '')} → {proposal['second']} · {given.get('why', '')}"

    def _proposal(self, key: tuple[int, str]) -> Any:
        number, text = key
        with ui.row().classes("items-center") as row:
            ui.label(f"{number} · {text}")
            ui.button(self.w("confirm"), on_click=lambda: self._confirm(number, text)).props(
                f'outline id="confirm-{number}"'
            )
        return row

    def _confirm(self, number: int, text: str) -> None:
        """Asks once more: the rows of a list move up when one above goes."""

        def do(user: User, values: dict[str, str], why: str) -> Result:
            result = controls.confirm(self.pages.folder, user, number)
            self._note(user, "confirm", "", result, {"proposal": str(number)})
            return result

        self._ask(f"{self.w('confirm')} {number}", do, about=text, reasoned=False)
