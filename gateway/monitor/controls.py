"""What an operator can do, from the page and from `cea operate`: one table.

Each control needs a reason and leads to journaled commands, sent with the person's own key (D30).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from engine import messages as m
from engine.auction_messages import AuctionAnnounce, AuctionAnswer, AuctionCancel
from engine.bulk_messages import BulkCancel, BulkFreeze
from engine.calendar import day_start_ns, parse_clock
from engine.codes import TEXT_EN, Code, Reason
from gateway import issuing
from gateway.client import GatewayError, Refusal, SessionRejected
from gateway.keys import KeyFileError
from gateway.monitor.users import User
from gateway.operator import OperatorClient

REASON_MIN: Final = 5  # characters: "test" is no reason
TIMEOUT_S: Final = 20.0  # an act that was given up too early may still be done: rather wait
WAIT_S: Final = 0.2
GROUPS: Final = ("trading_group", "accounts_keys", "desk_group", "deals_news")

Values = dict[str, Any]
Act = Callable[[OperatorClient, Path, Values, str], str]  # → what came of it


class Control(NamedTuple):
    """``fields``: what is asked besides the reason; a ``_``-less name of WORDS each.

    ``make``: the commands, in order, from (fields, reason). ``act`` instead of it: an act with more than commands; it
    gets the market's folder of keys. ``dangerous``: takes something away from members.
    """

    name: str
    group: str
    fields: tuple[str, ...]
    make: Callable[[Values, str], list[Any]] = lambda values, why: []
    two_persons: bool = False
    dangerous: bool = False
    act: Act | None = None


class FieldError(ValueError):
    """A field of a control cannot be what was typed: field and reason."""


class Result(NamedTuple):
    """``ok`` done; ``waits`` for the second person under proposal ``proposal``; else the exchange's own words."""

    ok: bool
    text: str
    proposal: int = 0


def _account(values: Values) -> int:
    return int(values["account"])


def _instrument(values: Values) -> str | None:
    return str(values["instrument"]) or None


def _number(text: str) -> int:
    """A whole number, with or without commas; empty is none (-1)."""
    return int(text.replace(",", "")) if text else -1


def _mass_cancel(v: Values, why: str) -> list[Any]:
    account = _account(v) if v["account"] else None
    return [m.CancelOrders(account=account, instrument=_instrument(v), reason=int(Reason.BY_OPERATOR), why=why)]


def _kill(v: Values, why: str) -> list[Any]:
    return [
        m.SetAccountStatus(account=_account(v), status=2, why=why),
        m.CancelOrders(account=_account(v), reason=int(Reason.KILL_SWITCH), why=why),
    ]


def _limits(v: Values, why: str) -> list[Any]:
    position, sell = _number(v["position_max"]), _number(v["sell_max"])
    return [m.SetLimits(account=_account(v), instrument=v["instrument"], position_max=position, sell_max=sell, why=why)]


def _freeze(on: bool) -> Callable[[Values, str], list[Any]]:
    return lambda v, why: [BulkFreeze(on=on, declaration=int(v["declaration"] or 0), why=why)]


def _status(status: int) -> Callable[[Values, str], list[Any]]:
    return lambda v, why: [m.SetAccountStatus(account=_account(v), status=status, second=v.get("second", ""), why=why)]


def _issue_key(ops: OperatorClient, keys: Path, v: Values, why: str) -> str:
    accounts = tuple(int(number) for number in v["account"].replace(",", " ").split())
    role, second = v["role"] or "trader", v.get("second", "")
    path = issuing.issue(ops, keys, name=v["key_name"], role=role, accounts=accounts, why=why, second=second)
    return _where(path)


def _answer(approve: bool) -> Callable[[Values, str], list[Any]]:
    return lambda v, why: [AuctionAnswer(auction=int(v["auction"]), approve=approve, why=why)]


def _announce_auction(ops: OperatorClient, keys: Path, v: Values, why: str) -> str:
    """The window is given by the clock; the day is the one that was applied for (R3.2)."""
    number, clock = int(v["auction"]), {}
    for field in ("opens", "closes"):
        try:
            clock[field] = parse_clock(v[field])
        except ValueError as error:
            raise FieldError(f"{field}: {error}") from None
    dates = {a["auction"]: a["date"] for a in ops.link.query("auctions")["auctions"]}
    if number not in dates:
        raise FieldError(f"auction: {number} is unknown or over")
    start = day_start_ns(dates[number])
    command = AuctionAnnounce(auction=number, opens=start + clock["opens"], closes=start + clock["closes"], why=why)
    ops.execute(m.decode(m.encode(command)))
    return f"auction {number}: {dates[number]} {v['opens']}–{v['closes']}"


def _where(path: Path) -> str:
    return f"secret: {path} (mode 0600, on this machine)"


def _revoke_key(ops: OperatorClient, keys: Path, v: Values, why: str) -> str:
    return f"session {issuing.revoke(ops, keys, name=v['key_name'], why=why)}"


CONTROLS: Final[dict[str, Control]] = {
    c.name: c
    for c in (
        Control(
            "halt",
            "trading_group",
            ("instrument",),
            lambda v, why: [m.Halt(instrument=_instrument(v), why=why)],
            dangerous=True,
        ),
        Control(
            "resume", "trading_group", ("instrument",), lambda v, why: [m.Resume(instrument=_instrument(v), why=why)]
        ),
        Control("mass_cancel", "trading_group", ("account", "instrument"), _mass_cancel, dangerous=True),
        Control("cancel_only", "trading_group", (), lambda v, why: [m.CancelOnly(on=True, why=why)], dangerous=True),
        Control("cancel_only_off", "trading_group", (), lambda v, why: [m.CancelOnly(on=False, why=why)]),
        Control(
            "open_account",
            "accounts_keys",
            ("account", "text"),
            lambda v, why: [m.OpenAccount(account=_account(v), name=v["text"], why=why)],
        ),
        Control("set_limits", "accounts_keys", ("account", "instrument", "position_max", "sell_max"), _limits),
        Control("suspend", "accounts_keys", ("account",), _status(3), dangerous=True),
        Control("kill", "accounts_keys", ("account",), _kill, dangerous=True),
        Control("reactivate", "accounts_keys", ("account", "second"), _status(1), two_persons=True),
        Control("issue_key", "accounts_keys", ("account", "key_name", "role", "second"), act=_issue_key),
        Control("revoke_key", "accounts_keys", ("key_name",), act=_revoke_key, dangerous=True),
        Control("freeze_declaration", "desk_group", ("declaration",), _freeze(True), dangerous=True),
        Control("thaw_declaration", "desk_group", ("declaration",), _freeze(False)),
        Control(
            "cancel_declaration",
            "desk_group",
            ("declaration",),
            lambda v, why: [BulkCancel(declaration=int(v["declaration"]), why=why)],
            dangerous=True,
        ),
        Control(
            "cancel_dialogue",
            "desk_group",
            ("dialogue",),
            lambda v, why: [BulkCancel(thread=int(v["dialogue"]), why=why)],
            dangerous=True,
        ),
        Control("approve_auction", "desk_group", ("auction",), _answer(True)),
        Control("refuse_auction", "desk_group", ("auction",), _answer(False), dangerous=True),
        Control("announce_auction", "desk_group", ("auction", "opens", "closes"), act=_announce_auction),
        Control(
            "cancel_auction",
            "desk_group",
            ("auction",),
            lambda v, why: [AuctionCancel(auction=int(v["auction"]), why=why)],
            dangerous=True,
        ),
        Control(
            "cancel_deal",
            "deals_news",
            ("deal", "second"),
            lambda v, why: [m.CancelDeal(number=int(v["deal"]), by="operator", second=v["second"], why=why)],
            two_persons=True,
            dangerous=True,
        ),
        Control(
            "list_vintage",
            "deals_news",
            ("instrument_new",),
            lambda v, why: [m.ListInstrument(code=v["instrument_new"], why=why)],
        ),
        Control(
            "retire_vintage",
            "deals_news",
            ("instrument",),
            lambda v, why: [m.RetireInstrument(code=v["instrument"], why=why)],
            dangerous=True,
        ),
        Control("publish_notice", "deals_news", ("text",), lambda v, why: [m.PublishNotice(text=v["text"], why=why)]),
    )
}


def perform(folder: Path, user: User, control: Control, values: Values, why: str) -> Result:
    """Carries a control out with the person's own key, on a connection for this one act."""
    if user.role != "operator" or not user.key:
        return Result(False, "this person may only look")
    return perform_as(folder, user.key, control, values, why)


def perform_as(folder: Path, key: str, control: Control, values: Values, why: str) -> Result:
    """As :func:`perform`, with an operator's key by name."""
    why = why.strip()
    if len(why) < REASON_MIN:
        return Result(False, f"reason: at least {REASON_MIN} characters")
    try:
        # decoded once here, as the exchange will: it logs out whoever sends what cannot be read
        commands = [m.decode(m.encode(command)) for command in control.make(values, why)]
    except msgspec.ValidationError as error:
        return Result(False, str(error))
    except (ValueError, KeyError) as error:
        return Result(False, _unusable(error))
    try:
        with OperatorClient(folder, key=str(folder / "keys" / f"{key}.key"), timeout=TIMEOUT_S) as ops:
            if control.act is not None:
                return Result(True, control.act(ops, folder / "keys", values, why))
            done = [ops.execute(command) for command in commands]
    except SessionRejected as error:
        if error.code == Code.TWO_PERSONS_REQUIRED:
            return Result(True, str(error), proposal_of(str(error)))
        return Result(False, str(error))
    except Refusal as error:
        return Result(False, f"{error} (code {error.code})")
    except (GatewayError, KeyFileError, issuing.IssueError, OSError) as error:
        return Result(False, str(error))
    except msgspec.ValidationError as error:
        return Result(False, str(error))
    except (ValueError, KeyError) as error:
        return Result(False, _unusable(error))
    data = " ".join(f"{name} {value}" for o in done for name, value in o.data.items())
    return Result(True, data or "done")


def _unusable(error: Exception) -> str:
    return str(error) if isinstance(error, FieldError) else f"a field is missing or no number: {error}"


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
    return confirm_as(folder, user.key, proposal)


def confirm_as(folder: Path, key: str, proposal: int) -> Result:
    """As :func:`confirm`, with an operator's key by name."""
    try:
        with OperatorClient(folder, key=str(folder / "keys" / f"{key}.key"), timeout=TIMEOUT_S) as ops:
            status = ops.status()
            before = status["proposals"].get(str(proposal))
            if before is None:
                return Result(False, f"proposal {proposal} is not there any more")
            if before["second"] != key:
                return Result(False, f"proposal {proposal} waits for {before['second']}")
            ops.subscribe(status["next_event"])  # the outcome is an event of nobody's session
            outcome: dict[str, Any] | None = None

            def confirmed() -> bool:
                nonlocal outcome
                ops.confirm(proposal)
                outcome = _outcome(ops, before["command"]["t"])
                return outcome is not None and outcome["t"] == "done"

            secret = None
            if before["command"]["t"] == "open_session" and before["command"]["role"] == "operator":
                secret = issuing.complete(folder / "keys", before["command"], confirmed)
            else:
                confirmed()
    except (GatewayError, KeyFileError, issuing.IssueError, OSError) as error:
        return Result(False, str(error))
    if outcome is None:
        return Result(False, "no outcome was seen: look at the market before you try again")
    if outcome["t"] == "refused":
        return Result(False, f"{TEXT_EN[Code(outcome['code'])]}: {outcome['field']} {outcome['text']}")
    return Result(True, f"confirmed and done; {_where(secret)}" if secret else "confirmed and done")


def _outcome(ops: OperatorClient, command: str) -> dict[str, Any] | None:
    """What the engine says to a confirmed command; None where nothing comes in time."""
    tries = round(TIMEOUT_S / WAIT_S)
    for _ in range(tries):
        for report in ops.events(WAIT_S):
            notice = report.notice or {}
            if notice.get("t") in ("done", "refused") and notice["command"] == command:
                return notice
    return None
