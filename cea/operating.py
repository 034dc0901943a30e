"""`cea operate`: the controls of the operators' page from the command line, each a journaled command (D30)."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from cea.connecting import chosen_key, explained
from cea.output import Exit, console, fail, print_json, table

# A control's field → the option that gives it; a second name where the page's word would be a riddle here.
OPTIONS = {
    "account": "account",
    "instrument": "vintage",
    "instrument_new": "vintage",
    "declaration": "declaration",
    "dialogue": "dialogue",
    "auction": "auction",
    "opens": "opens",
    "closes": "closes",
    "deal": "deal",
    "second": "second",
    "key_name": "key",
    "role": "role",
    "text": "text",
    "position_max": "position-max",
    "sell_max": "sell-max",
}
EMPTY_IS_ALL = {"instrument": {"halt", "resume", "mass_cancel"}, "account": {"mass_cancel"}}
EMPTY_IS_NONE = {"account": {"issue_key"}, "second": {"issue_key"}}  # an operator's key: no account, but a second
EMPTY_IS_FINE = {"position_max", "sell_max", "role", "declaration"}


def list_controls() -> None:
    """What can be done, and which options each act takes."""
    from gateway.monitor.controls import CONTROLS
    from gateway.monitor.texts import word

    rows = []
    for control in CONTROLS.values():
        fields = " ".join(f"--{OPTIONS[field]}" for field in control.fields)
        rows.append((control.name.replace("_", "-"), fields, word(control.name, "en")))
    rows.append(("confirm", "--proposal", "Confirm another operator's act, as the second person"))
    console().print(table(("act", "options (and --why)", "what it does"), rows, left=3))


def operate_command(folder: Path, act: str, who: str, why: str, given: dict[str, str], *, as_json: bool) -> None:
    """Carries one control out with an operator's key; exit code 1 where the exchange refuses."""
    from gateway.monitor import controls

    key = Path(chosen_key(folder, who)).stem
    with explained(folder):
        if act == "confirm":
            number = given.get("proposal", "")
            if not number.isdigit():
                _usage("confirm needs --proposal NUMBER")
            result = controls.confirm_as(folder, key, int(number))
        else:
            control = controls.CONTROLS.get(act.replace("-", "_"))
            if control is None:
                _usage(f"there is no act {act!r}; `cea operate` lists them")
            result = controls.perform_as(folder, key, control, _values(control, given), why)
    if not result.ok:
        fail(result.text, Exit.NO)
    if as_json:
        print_json({"act": act, "text": result.text, "proposal": result.proposal})
    else:
        print(result.text)


def _values(control: object, given: dict[str, str]) -> dict[str, str]:
    from gateway.monitor.controls import Control

    assert isinstance(control, Control)
    act, takes = control.name.replace("_", "-"), {OPTIONS[field] for field in control.fields}
    for option in given:
        if option not in takes:
            known = ", ".join(f"--{name}" for name in sorted(takes)) or "only --why"
            _usage(f"{act} does not take --{option}; it takes {known}")
    values = {field: given.get(OPTIONS[field], "") for field in control.fields}
    for field, value in values.items():
        may_be_empty = EMPTY_IS_ALL.get(field, set()) | EMPTY_IS_NONE.get(field, set())
        if not value and field not in EMPTY_IS_FINE and control.name not in may_be_empty:
            _usage(f"{act} needs --{OPTIONS[field]}")
    return values


def _usage(text: str) -> NoReturn:
    fail(text, Exit.USAGE)
