"""The bridge between exchange and registry: transfers and money during the day, settlement after the close.

Every step can be repeated: after a crash of either side, ``resume`` and ``end_of_day`` go on where they
stopped. An act and the message about it are written together (``settlement.outbox``); acts are keyed by
document number, deals by their id, so a repeat finds them done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from engine import messages
from engine.codes import Code
from settlement import outbox
from settlement.base import Posted
from settlement.clearing import Summary
from settlement.delivery import Day, Delivery
from settlement.errors import BAD_FIELD, DOCUMENT_USED, WRONG_STATE, Refused
from settlement.exchange_port import DOCUMENT_MAX, ExchangePort
from settlement.hours import day_bounds_ns
from settlement.kinds import CASH, CNY, SYSTEM, TRADING, ActKind
from settlement.ledger import Act
from settlement.progress import LISTED_MAX, Progress, Step
from settlement.queries import statement_json
from settlement.reconcile import Difference, reconcile
from settlement.registry import Registry
from settlement.states import MAY_OPEN_NEXT, DayEvent, DayState, DealState

_RETURNED = ":returned"  # behind the document number of a withdrawal that the bank has refused


class BankPort(Protocol):
    """The settlement bank. ``document`` is the idempotency key of a payment."""

    def pay(self, account: int, amount_fen: int, document: str) -> str | Refused | None:
        """Pay out; the bank's document number, a refusal, or None when the outcome is unknown (ask again)."""


@dataclass(frozen=True, slots=True)
class EndOfDay:
    """How a day ended: its state, what was cleared, what is held, what differs. ``told``: the exchange has
    heard and accepted that the day is settled; ``answer`` is what it said if not."""

    day: Day
    summary: Summary
    differences: list[Difference] = field(default_factory=list)
    told: bool = False
    answer: str = ""

    @property
    def may_open_next(self) -> bool:
        return self.told and self.day.state in MAY_OPEN_NEXT


class Bridge:
    """Settlement of one exchange against one registry. ``clock`` gives ns UTC; it is only asked here, at the edge."""

    def __init__(
        self,
        registry: Registry,
        exchange: ExchangePort,
        clock: Callable[[], int],
        bank: BankPort | None = None,
        publish: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        """``publish`` hears each step of a settlement (settlement.progress)."""
        self.registry = registry
        self.exchange = exchange
        self.delivery = Delivery(registry)
        self.outbox = outbox.Outbox(registry.engine, exchange.send)
        self._clock = clock
        self._bank = bank
        self._publish = publish
        self._posted = 0  # deals of the day that is being settled

    # -- during the day (D23, D24)

    def resume(self) -> int:
        """After a start: tell the exchange what it has not heard. Returns how many messages still wait."""
        return self.outbox.flush()

    def _with_message(
        self, act: Callable[[int], Posted | Refused], key: str, message: messages.Message
    ) -> Posted | Refused:
        refused = _fits(getattr(message, "document", "") or getattr(message, "transfer", ""))
        if refused is not None:
            return refused
        now = self._clock()
        with self.registry.batch(now) as posting:
            result = act(now)
            if isinstance(result, Posted):
                outbox.put(posting, key, message)
        self.outbox.flush()
        return result

    def move_in(self, account: int, asset: str, quantity: int, document: str) -> Posted | Refused:
        """转入: the registry posts, then the exchange makes the allowances sellable (D24)."""
        message = messages.TransferIn(account=account, instrument=asset, quantity=quantity, transfer=document)
        return self._with_message(
            lambda now: self.registry.move_in(account, asset, quantity, document, now), f"in:{document}", message
        )

    def move_out(self, account: int, asset: str, quantity: int, document: str) -> Posted | Refused:
        """转出, on the exchange's notice that it has locked the quantity: the registry posts or refuses, and the
        exchange finalises (D24)."""
        key = f"out:{document}"
        now = self._clock()
        if self.outbox.state(key) is not None and not self.registry.has_act(ActKind.TRANSFER_OUT, document):
            return Refused(DOCUMENT_USED, "document", f"{document} was refused before: a new try needs a new number")
        with self.registry.batch(now) as posting:
            result = self.registry.move_out(account, asset, quantity, document, now)
            posted = isinstance(result, Posted)
            outbox.put(posting, key, messages.TransferOutDone(transfer=document, posted=posted))
        self.outbox.flush()
        return result

    def transfer_out(self, account: int, asset: str, quantity: int, document: str) -> Posted | Refused | None:
        """转出 asked for here, not by the trader at the exchange: the exchange locks, then as ``move_out``. None: the
        exchange has not answered; the same call again goes on."""
        ask = messages.TransferOut(account=account, instrument=asset, quantity=quantity, transfer=document)
        answer = self.exchange.send(ask)
        if answer is None:
            return None
        if not answer.done:
            return Refused(WRONG_STATE, "quantity", f"the exchange refuses: {answer.text}")
        return self.move_out(account, asset, quantity, document)

    def deposit(self, account: int, amount_fen: int, document: str) -> Posted | Refused:
        """Money has arrived at the bank: booked here, then usable at the exchange (D23)."""
        message = messages.Deposit(account=account, amount=amount_fen, document=document)
        return self._with_message(
            lambda now: self.registry.deposit(account, amount_fen, document, now), f"deposit:{document}", message
        )

    def withdraw(self, account: int, amount_fen: int, document: str) -> Posted | Refused | None:
        """Money back to the trader: reserved here, taken from the withdrawable part there, paid, booked (D23).
        None: exchange or bank have not answered yet; the same call again goes on."""
        assert self._bank is not None, "no bank is connected"
        refused = _fits(f"{document}{_RETURNED}")
        if refused is not None:
            return refused
        message = messages.Withdraw(account=account, amount=amount_fen, document=document)
        key = f"withdraw:{document}"
        reserved = self._with_message(
            lambda now: self.registry.reserve_withdrawal(account, amount_fen, document, now), key, message
        )
        if isinstance(reserved, Refused):
            return reserved
        state = self.outbox.state(key)
        if state == outbox.OutboxState.WAITING:
            return None
        if state == outbox.OutboxState.REFUSED:
            self.registry.return_withdrawal(document, f"{document}{_RETURNED}", self._clock())
            answer = dict(self.outbox.refused())[key]
            return Refused(WRONG_STATE, "amount_fen", f"the exchange refuses: {answer}")
        paid = self._bank.pay(account, amount_fen, document)
        if paid is None:
            return None
        if isinstance(paid, Refused):
            back = messages.Deposit(account=account, amount=amount_fen, document=f"{document}{_RETURNED}")
            self._with_message(
                lambda now: self.registry.return_withdrawal(document, f"{document}{_RETURNED}", now),
                f"deposit:{document}{_RETURNED}",
                back,
            )
            return paid
        return self.registry.pay_withdrawal(document, f"{document}:paid:{paid}"[:80], self._clock())

    def repay(self, account: int, amount_fen: int, document: str) -> Posted | Refused:
        """A trader in default pays the risk reserve back (R12.5): booked here, then taken out at the exchange."""
        message = messages.Withdraw(account=account, amount=amount_fen, document=f"repay-{document}")
        return self._with_message(
            lambda now: self.registry.repay(account, amount_fen, document, now), f"own:{message.document}", message
        )

    def asked_here(self, document: str) -> bool:
        """Whether a movement at the exchange under this document was asked for by the registry's side; what was not
        is a member's own, and the registry has to follow (D23, D24)."""
        if any(self.outbox.state(f"{kind}:{document}") is not None for kind in ("own", "out", "withdraw")):
            return True
        return any(self.registry.has_act(kind, document) for kind in (ActKind.TRANSFER_OUT, ActKind.WITHDRAW))

    # -- after the close

    def end_of_day(
        self, date: int, statements: Path | None = None, after_block: Callable[[int], None] | None = None
    ) -> EndOfDay | Refused:
        """Settle trading date ``date``: receive, clear, confirm, deliver, reconcile, statements; the exchange
        then hears SettleDay, unless a difference or a held pair waits for an operator (D26)."""
        self._posted = 0
        self._publish(Progress(date=date, step=Step.RECEIVE))
        self.outbox.flush()
        delivery = self.delivery
        day = delivery.day(date)
        if isinstance(day, Refused) or day.state == DayState.OPEN:
            received = delivery.receive(date, self.exchange.deals(date), self._clock())
            if isinstance(received, Refused):
                return received
            self._publish(Progress(date=date, step=Step.CLEAR, deals=received))
            cleared = delivery.clear(date, self._clock())
            if isinstance(cleared, Refused):
                return cleared
            day = delivery.day(date)
            assert not isinstance(day, Refused)
        if day.state in (DayState.CLEARED, DayState.DISPUTED):
            self._show(day, Step.CONFIRM)
            refused = delivery.confirm(self.exchange.summary(date), self._clock())
            if refused is not None:
                return refused

        self._posted = delivery.tried(date)

        def block_posted(count: int) -> None:
            self._posted += count
            self._show(delivery.day(date), Step.DELIVER)

        self._show(delivery.day(date), Step.DELIVER)
        settled = delivery.settle(date, self._clock(), after_block=after_block, progress=block_posted)
        if isinstance(settled, Refused):
            return settled
        return self._after_delivery(date, statements)

    def _show(self, day: Day | Refused, step: Step, differences: Sequence[Difference] = (), text: str = "") -> None:
        """Publish where the day stands."""
        if isinstance(day, Refused):
            return
        waiting = [held for held in day.held if held.state == DealState.HELD]
        progress = Progress(
            date=day.date,
            step=step,
            state=day.state,
            deals=day.summary.deals,
            posted=self._posted,
            held=len(waiting),
            amount_fen=day.summary.amount_fen,
            differences=tuple(map(str, differences[:LISTED_MAX])),
            holding=tuple(f"deal {held.deal_id}: {held.reason}" for held in waiting[:LISTED_MAX]),
            text=text,
        )
        self._publish(progress)

    def _after_delivery(self, date: int, statements: Path | None) -> EndOfDay | Refused:
        self._show(self.delivery.day(date), Step.RECONCILE)
        differences = reconcile(self.registry.engine, self.exchange.balances()) + self._split_fees(date)
        day = self.delivery.day(date)
        assert not isinstance(day, Refused)
        if day.state in (DayState.SETTLED, DayState.DIFFERENT, DayState.RECONCILED):
            event = DayEvent.DIFFER if differences else DayEvent.MATCH
            self.delivery.step(date, event, self._clock())
        day = self.delivery.day(date)
        assert not isinstance(day, Refused)
        if statements is not None:
            self._show(day, Step.STATEMENTS, differences)
            self.write_statements(date, statements)
        self._show(day, Step.TELL, differences)
        told, answer = self._tell(day) if day.state in MAY_OPEN_NEXT else (False, "")
        self._show(day, Step.DONE if told else Step.STOPPED, differences, answer or _waits_for(day, differences))
        return EndOfDay(day, day.summary, differences, told, answer)

    def _split_fees(self, date: int) -> list[Difference]:
        """A deal has one fee a side; what of it is the exchange's and what the registry's follows from the totals
        that the exchange has charged (R5.7, D16; settlement.fees). The totals differ: nothing is split."""
        trading, settlement = self.exchange.fees()
        collected, split_trading, split_settlement = self.registry.fees_collected()
        if trading + settlement != collected:
            return [Difference(SYSTEM, CNY, collected, trading + settlement, "fees")]
        new = (trading - split_trading, settlement - split_settlement)
        if any(new):
            document = f"fees-{date}-{trading}-{settlement}"  # the totals, so that a repeat is the same act
            split = self.registry.split_fees(date, *new, document, self._clock())
            if isinstance(split, Refused):
                return [Difference(SYSTEM, CNY, collected, trading + settlement, f"fees: {split.reason}")]
        return []

    def _tell(self, day: Day, by: str = "") -> tuple[bool, str]:
        """Tell the exchange that the day is settled; a repeat is refused there as "settled already", which is
        as good. Without an answer the next ``end_of_day`` tells it again."""
        answer = self.exchange.send(messages.SettleDay(date=day.date, digest=day.summary.digest, by=by))
        if answer is None:
            return False, "no answer"
        return answer.done or answer.code == Code.WRONG_STATE, answer.text

    def release(self, date: int, document: str, by: str, why: str) -> Day | Refused:
        """An operator decides that the next day may open in spite of held pairs or differences (D26)."""
        now = self._clock()
        content = {"date": date, "decision": "release", "by": by, "why": why}
        act = Act(ActKind.OPERATOR, document, SYSTEM, now, content)
        refused = self.delivery.step(date, DayEvent.RELEASE, now)
        if refused is not None:
            return refused
        posted = self.registry.post(act, lambda _: [])
        if isinstance(posted, Refused):
            return posted
        day = self.delivery.day(date)
        assert not isinstance(day, Refused)
        self._tell(day, by)
        return day

    def rolled(self, date: int) -> Refused | None:
        """The exchange's day has rolled (D27): the settlement of ``date`` is closed."""
        return self.delivery.step(date, DayEvent.ROLL, self._clock())

    def check_open(self, date: int) -> list[Difference] | Refused:
        """Before trading date ``date`` opens: everything is told, every earlier day is settled, and the exchange's
        accounts are the registry's balances, to the tonne and the fen (R13.1). Then those days count as rolled;
        differences are returned, and nothing is stepped."""
        if self.outbox.flush():
            return Refused(WRONG_STATE, "exchange", "has not answered everything that it was told")
        waiting = self.delivery.unrolled(date)
        for day, state in waiting:
            if state not in MAY_OPEN_NEXT:
                return Refused(WRONG_STATE, "date", f"{day} is {state}: settle it, or let an operator decide")
        found = reconcile(self.registry.engine, self.exchange.balances())
        released = any(state == DayState.RELEASED for _, state in waiting)
        if not found or released:  # what an operator has released may open with its differences (D26)
            for day, _ in waiting:
                self.rolled(day)
        return found

    def was_released(self, date: int) -> bool:
        """Whether an operator has let date ``date`` open in spite of what the last day left (D26)."""
        days = [day for day, _ in self.delivery.days(before=date)]
        if not days:
            return False
        return any(
            content.get("decision") == "release" and content.get("date") == days[-1]
            for content in self.registry.decisions()
        )

    def adopt(self, date: int, document: str, by: str) -> list[Difference] | Refused:
        """An operator's decision that the registry is right (R13.1): what the exchange has too much or too little, it
        is told to take out or in, under document numbers of this act. Returns what still differs then. Only before
        the open: during trading the two sides differ by the day's deals."""
        refused = _fits(document, DOCUMENT_MAX // 2)  # each balance gets a number of its own behind it
        if refused is not None:
            return refused
        now = self._clock()
        found = [one for one in reconcile(self.registry.engine, self.exchange.balances()) if one.account != SYSTEM]
        content = {"date": date, "decision": "adopt", "by": by, "differences": [str(one) for one in found]}
        with self.registry.batch(now) as posting:
            posted = self.registry.post(Act(ActKind.OPERATOR, document, SYSTEM, now, content), lambda _: [])
            if isinstance(posted, Refused):
                return posted
            for one in found:
                number = f"{document}:{one.account}:{one.asset}"
                for step, message in enumerate(_setting(one, number)):
                    # Messages of one moment are sent in the order of their keys.
                    outbox.put(posting, f"own:{number}{':done' * step}", message)
        self.outbox.flush()
        return reconcile(self.registry.engine, self.exchange.balances())

    def write_statements(self, date: int, folder: Path) -> int:
        """One JSON file per trader of the day, written whole or not at all, and a message to its trader with the
        file's hash and the closing balances; returns how many. A statement that has not changed is told once."""
        folder.mkdir(parents=True, exist_ok=True)
        start_ns, end_ns = day_bounds_ns(date)
        accounts = self.delivery.traders(date)
        told: list[messages.SendStatement] = []
        for account in accounts:
            statement = self.registry.statement(account, start_ns, end_ns)
            if isinstance(statement, Refused):
                continue
            target = folder / f"{date}-{account}.json"
            draft = target.with_suffix(".tmp")
            content = statement_json(statement).encode()
            draft.write_bytes(content)
            draft.replace(target)
            closing = {asset: held for (asset, bucket), held in statement.closing.items() if bucket in (TRADING, CASH)}
            digest = hashlib.blake2b(content, digest_size=32).hexdigest()
            told.append(
                messages.SendStatement(
                    account=account, date=date, digest=digest, lines=len(statement.lines), closing=closing
                )
            )
        with self.registry.batch(self._clock()) as posting:
            for message in told:
                outbox.put(posting, f"statement:{date}:{message.account}:{message.digest[:16]}", message)
        self.outbox.flush()
        return len(accounts)


def _fits(document: str, most: int = DOCUMENT_MAX) -> Refused | None:
    """The exchange takes shorter document numbers than the registry."""
    if len(document) <= most:
        return None
    return Refused(BAD_FIELD, "document", f"{document} is longer than the {most} characters that the exchange takes")


def _setting(one: Difference, number: str) -> list[messages.Message]:
    """What makes the exchange's balance the registry's."""
    change = one.registry - one.exchange
    if one.asset == CNY:
        kind = messages.Deposit if change > 0 else messages.Withdraw
        return [kind(account=one.account, amount=abs(change), document=number)]
    if change > 0:
        return [messages.TransferIn(account=one.account, instrument=one.asset, quantity=change, transfer=number)]
    out = messages.TransferOut(account=one.account, instrument=one.asset, quantity=-change, transfer=number)
    return [out, messages.TransferOutDone(transfer=number, posted=True)]


def _waits_for(day: Day, differences: Sequence[Difference]) -> str:
    """What an operator has to decide on, in a sentence; empty where nothing waits."""
    held = sum(one.state == DealState.HELD for one in day.held)
    if held:
        return f"{held} of {day.summary.deals} deals are held: cea registry resolve, or let an operator release the day"
    if differences:
        return f"registry and exchange differ in {len(differences)} balances"
    return ""
