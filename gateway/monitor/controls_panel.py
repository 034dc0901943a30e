"""What an operator can do: a dialog per control that asks for the reason, the outcome, and who did what today."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any

from nicegui import run, ui

from engine.calendar import format_time
from gateway.keys import KeyFileError, load
from gateway.monitor import controls
from gateway.monitor.controls import CONTROLS, GROUPS, Control, Result
from gateway.monitor.panel import Panel
from gateway.monitor.users import User


class ControlsPanel(Panel):
    """Nothing but a sentence for viewers."""

    def build(self) -> None:
        """Buttons by group, outcome, proposals, acts."""
        if self.user.role != "operator":
            ui.label(self.w("read_only")).props('id="read-only"')
            return
        with ui.card().classes("w-full"):
            ui.label(self.w("effect")).classes("text-subtitle1")
            self.effect = ui.label("–").props('id="effect" role="status"')
            self.waiting = ui.column().props('id="proposals"')
            self.proposals: dict[Hashable, Any] = {}
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
        with ui.row().classes("w-full"):
            self.table("acts", ("time", "person", "act", "reason_short", "result"), broad=True)

    def fill(self, status: dict[str, Any]) -> None:
        """What waits for a second person; what was done."""
        if self.user.role != "operator":
            return
        proposals = [(int(number), self._proposed(proposal)) for number, proposal in status["proposals"].items()]
        self.keep(self.waiting, self.proposals, proposals, self._proposal)
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
            self._ask(name, control.fields, lambda u, v, why: self._perform(control, u, v, why), given or {})
        else:
            self._ask(name, (), lambda u, v, why: self._start(name, u, why), {})

    # --- how ---------------------------------------------------------------------------------------------------

    def _button(self, name: str, color: str) -> None:
        ui.button(self.w(name), color=color, on_click=lambda: self.ask(name)).props(f'outline id="do-{name}"')

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
        name: str,
        fields: tuple[str, ...],
        do: Callable[[User, dict[str, str], str], Result],
        given: dict[str, str],
    ) -> None:
        if self.view.present() is None:
            return
        inputs: dict[str, Any] = {}
        with self.dialog(self.w(name)) as dialog:
            for field in fields:
                box = ui.input(self.w(field), value=given.get(field, "")).classes("w-full")
                box.props(f'for="field-{field}"')
                if hint := self._hint(field):
                    box.props["hint"] = hint
                inputs[field] = box
            why = ui.input(self.w("reason")).classes("w-full").props('for="field-reason"')
            problem = ui.label().classes("text-negative").props('id="problem" role="alert"')

            async def act() -> None:
                user = self.view.present()
                if user is None or not button.enabled:
                    return
                if len((why.value or "").strip()) < controls.REASON_MIN:
                    problem.text = f"{self.w('reason')}: ≥ {controls.REASON_MIN}"
                    return
                button.disable()  # a second click is not a second act
                values = {field: (box.value or "").strip() for field, box in inputs.items()}
                result = await run.io_bound(do, user, values, (why.value or "").strip())
                if result is None:  # the monitor is ending
                    return
                if result.ok:
                    self.effect.text = (
                        f"{format_time(self.picture.status['time_ns'])[:8]} {self.w(name)}: {result.text}"
                    )
                    dialog.close()
                else:
                    problem.text = result.text
                    button.enable()

            why.on("keydown.enter", act)
            with ui.row():
                button = ui.button(self.w("do"), on_click=act, color="negative").props('outline id="do-it"')
                ui.button(self.w("cancel"), on_click=dialog.close).props('flat id="leave"')

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
        what = f"{given['t']} ({', '.join(f'{name} {value}' for name, value in fields)})"
        return f"{what} · {given.get('by', '')} → {proposal['second']} · {given.get('why', '')}"

    def _proposal(self, key: tuple[int, str]) -> Any:
        number, text = key
        with ui.row().classes("items-center") as row:
            ui.label(f"{self.w('proposals')}: {number} · {text}")
            button = ui.button(self.w("confirm")).props(f'outline id="confirm-{number}"')
            button.on_click(lambda: self._confirm(number, button))
        return row

    async def _confirm(self, number: int, button: Any) -> None:
        user = self.view.present()
        if user is None:
            return
        button.disable()
        result = await run.io_bound(controls.confirm, self.pages.folder, user, number)
        if result is not None:
            self._note(user, "confirm", "", result, {"proposal": str(number)})
            self.effect.text = f"{number}: {result.text}"
            button.enable()
