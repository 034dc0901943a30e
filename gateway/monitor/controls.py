"""What an operator can do from the page: one table. Each control needs a reason and leads to a journaled command."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

from engine import messages as m
from engine.bulk_messages import BulkFreeze
from engine.codes import Code, Reason
from gateway.client import GatewayError, Refusal, SessionRejected
from gateway.keys import KeyFileError
from gateway.monitor.users import User
from gateway.operator import OperatorClient

REASON_MIN: Final = 5  # characters: "test" is no reason
TIMEOUT_S: Final = 8.0

Values = dict[str, Any]


class Control(NamedTuple):
    """``fields``: what is asked besides the reason. ``make``: the commands, in order. ``effect``: what will happen."""

    name: str
    fields: tuple[str, ...]
    make: Callable[[Values, str], list[Any]]
    two_persons: bool = False
    dangerous: bool = False


class Result(NamedTuple):
    """``ok`` done; ``waits`` for the second person under proposal ``proposal``; else the exchange's own words."""

    ok: bool
    text: str
    proposal: int = 0


def _account(values: Values) -> int:
    return int(values["account"])


def _instrument(values: Values) -> str | None:
    return str(values["instrument"]) or None


CONTROLS: Final[dict[str, Control]] = {
    c.name: c
    for c in (
        Control("halt", ("instrument",), lambda v, why: [m.Halt(instrument=_instrument(v), why=why)], dangerous=True),
        Control("resume", ("instrument",), lambda v, why: [m.Resume(instrument=_instrument(v), why=why)]),
        Control(
            "suspend",
            ("account",),
            lambda v, why: [m.SetAccountStatus(account=_account(v), status=3, why=why)],
            False,
            True,
        ),
        Control(
            "reactivate",
            ("account", "second"),
            lambda v, why: [m.SetAccountStatus(account=_account(v), status=1, second=v["second"], why=why)],
            True,
        ),
        Control(
            "mass_cancel",
            ("account", "instrument"),
            lambda v, why: [
                m.CancelOrders(
                    account=_account(v) if v["account"] else None,
                    instrument=_instrument(v),
                    reason=int(Reason.BY_OPERATOR),
                    why=why,
                )
            ],
            False,
            True,
        ),
        Control(
            "kill",
            ("account",),
            lambda v, why: [
                m.SetAccountStatus(account=_account(v), status=2, why=why),
                m.CancelOrders(account=_account(v), reason=int(Reason.KILL_SWITCH), why=why),
            ],
            False,
            True,
        ),
        Control(
            "freeze_declaration",
            ("declaration",),
            lambda v, why: [BulkFreeze(on=True, declaration=int(v["declaration"] or 0), why=why)],
        ),
        Control(
            "thaw_declaration",
            ("declaration",),
            lambda v, why: [BulkFreeze(on=False, declaration=int(v["declaration"] or 0), why=why)],
        ),
        Control(
            "cancel_deal",
            ("deal", "second"),
            lambda v, why: [m.CancelDeal(number=int(v["deal"]), by="monitor", second=v["second"], why=why)],
            True,
            True,
        ),
        Control("cancel_only", (), lambda v, why: [m.CancelOnly(on=True, why=why)], False, True),
        Control("cancel_only_off", (), lambda v, why: [m.CancelOnly(on=False, why=why)]),
        Control("publish_notice", ("text",), lambda v, why: [m.PublishNotice(text=v["text"])]),
        Control("list_vintage", ("instrument_new",), lambda v, why: [m.ListInstrument(code=v["instrument_new"])]),
        Control(
            "open_account",
            ("account", "text"),
            lambda v, why: [m.OpenAccount(account=_account(v), name=v["text"], why=why)],
        ),
    )
}


def perform(folder: Path, user: User, control: Control, values: Values, why: str) -> Result:
    """Carries a control out with the person's own key, on a connection for this one act."""
    if user.role != "operator" or not user.key:
        return Result(False, "this person may only look")
    why = why.strip()
    if len(why) < REASON_MIN:
        return Result(False, f"reason: at least {REASON_MIN} characters")
    try:
        commands = control.make(values, why)
    except (ValueError, KeyError) as error:
        return Result(False, f"a field is missing or no number: {error}")
    try:
        with OperatorClient(folder, key=str(folder / "keys" / f"{user.key}.key"), timeout=TIMEOUT_S) as ops:
            done = [ops.execute(command) for command in commands]
    except SessionRejected as error:
        if error.code == Code.TWO_PERSONS_REQUIRED:
            return Result(True, str(error), proposal_of(str(error)))
        return Result(False, str(error))
    except Refusal as error:
        return Result(False, f"{error} (code {error.code})")
    except (GatewayError, KeyFileError, OSError) as error:
        return Result(False, str(error))
    data = " ".join(f"{name} {value}" for o in done for name, value in o.data.items())
    return Result(True, data or "done")


def proposal_of(text: str) -> int:
    """The number in "proposal 3 waits for ops2"; 0 where there is none."""
    words = text.split()
    for word, following in pairwise(words):
        if word == "proposal" and following.isdigit():
            return int(following)
    return 0


def confirm(folder: Path, user: User, proposal: int) -> Result:
    """The second person's confirmation, with a key of their own."""
    if user.role != "operator" or not user.key:
        return Result(False, "this person may only look")
    try:
        with OperatorClient(folder, key=str(folder / "keys" / f"{user.key}.key"), timeout=TIMEOUT_S) as ops:
            before = ops.status()["proposals"].get(str(proposal))
            if before is None:
                return Result(False, f"proposal {proposal} is not there any more")
            if before["second"] != user.key:
                return Result(False, f"proposal {proposal} waits for {before['second']}")
            ops.confirm(proposal)
            left = ops.status()["proposals"]
    except (GatewayError, KeyFileError, OSError) as error:
        return Result(False, str(error))
    return Result(str(proposal) not in left, "confirmed" if str(proposal) not in left else "refused by the exchange")
