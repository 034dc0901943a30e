"""The objection window (R12.4): statements go out the same day, an objection must come before the next open,
silence is acceptance. Objections and answers are acts of the ledger: sealed, each with its document number.

One trader's objection does not stop the market. What nobody has answered when the window closes stays contested
until it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import Connection, select

from settlement import schema, store
from settlement.base import Posted, account_fault
from settlement.errors import BAD_FIELD, UNKNOWN_DOCUMENT, WRONG_STATE, Refused
from settlement.kinds import ActKind
from settlement.ledger import Act, Leg, Posting, act_id
from settlement.registry import Registry
from settlement.states import DayState, WindowEvent, WindowState, next_window

WHY_MAX = 2_000  # characters: a reason, not a file
# A trader can object to a statement from the delivery on, until the next day has opened.
_HAS_STATEMENT = frozenset(
    {DayState.SETTLED, DayState.HELD, DayState.RECONCILED, DayState.DIFFERENT, DayState.RELEASED}
)


@dataclass(frozen=True, slots=True)
class Objection:
    """One objection; ``answer`` is empty while nobody has decided."""

    account: int
    date: int
    document: str
    why: str
    answer: str = ""
    by: str = ""


class Objections:
    """Objections to the settlement of days, on a registry's database."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def object(self, account: int, date: int, why: str, document: str, time_ns: int) -> Posted | Refused:
        """A trader objects to its statement of ``date`` (YYYYMMDD)."""

        def build(posting: Posting) -> list[Leg] | Refused:
            refused = account_fault(posting, account) or _text_fault("why", why)
            if refused is not None:
                return refused
            state = _day_state(posting.connection, date)
            if state == DayState.ROLLED:
                text = f"the window of {date} closed when the next day opened; silence was acceptance"
                return Refused(WRONG_STATE, "date", text)
            if state not in _HAS_STATEMENT:
                return Refused(WRONG_STATE, "date", f"{date} has no statement yet")
            return []

        content = {"account": account, "date": date, "why": why}
        return self.registry.post(Act(ActKind.OBJECTION, document, account, time_ns, content), build)

    def answer(self, objection: str, decision: str, document: str, by: str, time_ns: int) -> Posted | Refused:
        """The registry's decision on the objection with that document number; one answer each."""
        account = self.registry.act_account(act_id(ActKind.OBJECTION, objection))

        def build(posting: Posting) -> list[Leg] | Refused:
            refused = _text_fault("decision", decision)
            known = {row.document: row for row in _objections(posting.connection, account=account)}
            if refused is None and objection not in known:
                refused = Refused(UNKNOWN_DOCUMENT, "objection", f"there is no objection {objection}")
            if refused is None and known[objection].answer:
                refused = Refused(WRONG_STATE, "objection", f"{objection} was answered before")
            return [] if refused is None else refused

        content = {"objection": objection, "decision": decision, "by": by}
        return self.registry.post(Act(ActKind.ANSWER, document, account, time_ns, content), build)

    def of_day(self, date: int) -> list[Objection]:
        """The day's objections, in order of account and document."""
        with store.reading(self.registry.engine) as connection:
            return [found for found in _objections(connection) if found.date == date]

    def window(self, account: int, date: int) -> WindowState | Refused:
        """Where the trader's window for the day stands."""
        with store.reading(self.registry.engine) as connection:
            day = _day_state(connection, date)
            mine = [found for found in _objections(connection, account) if found.date == date]
        if day is None:
            return Refused(BAD_FIELD, "date", f"{date} has no settlement")
        events = [WindowEvent.OBJECT] * bool(mine)
        answered = all(found.answer for found in mine)
        if mine and answered:
            events.append(WindowEvent.ANSWER)
        if day == DayState.ROLLED:
            events.append(WindowEvent.CLOSE)
        state = WindowState.OPEN
        for event in events:
            to = next_window(state, event)
            assert to is not None
            state = to
        return state


def _text_fault(field: str, text: str) -> Refused | None:
    if not text or len(text) > WHY_MAX or not text.isprintable():
        return Refused(BAD_FIELD, field, f"1 to {WHY_MAX} printable characters")
    return None


def _day_state(connection: Connection, date: int) -> DayState | None:
    days = schema.settlement_day
    found = connection.execute(select(days.c.state).where(days.c.date == date)).scalar_one_or_none()
    return None if found is None else DayState(found)


def _objections(connection: Connection, account: int | None = None) -> list[Objection]:
    act = schema.act
    query = select(act.c.account, act.c.document, act.c.content, act.c.kind).where(
        act.c.kind.in_((ActKind.OBJECTION, ActKind.ANSWER))
    )
    if account is not None:
        query = query.where(act.c.account == account)
    rows = connection.execute(query.order_by(act.c.account, act.c.document)).all()
    answers = {a["objection"]: a for a in (json.loads(row.content) for row in rows if row.kind == ActKind.ANSWER)}
    found: list[Objection] = []
    for row in rows:
        if row.kind == ActKind.OBJECTION:
            content, decided = json.loads(row.content), answers.get(row.document, {})
            words = (content["why"], decided.get("decision", ""), decided.get("by", ""))
            found.append(Objection(row.account, content["date"], row.document, *words))
    return found
