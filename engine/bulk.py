"""The bulk-agreement desk (R9, D20–D22): declarations, dialogues, both sides' confirmation, the deal.

A state machine on the market's tables without clock or I/O. What may follow what is in engine/bulk_states.py;
what may be asked at all is in engine/bulk_checks.py, what each party sees in engine/bulk_notices.py, what is locked for
it in engine/bulk_locks.py. Commands cost a few dictionary look-ups: no step scans what is open, whatever its number.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Final

from engine import bulk_checks as checks
from engine import bulk_locks
from engine import bulk_notices as notices
from engine.bulk_messages import (
    BulkAccept,
    BulkAmend,
    BulkCancel,
    BulkConfirm,
    BulkCounter,
    BulkDeclare,
    BulkDesk,
    BulkExpire,
    BulkFreeze,
    BulkOffer,
    BulkRefuse,
    BulkRetract,
    BulkTake,
    BulkView,
    BulkWithdraw,
)
from engine.bulk_records import Declaration, DeskState, Hold, Thread, decode_state, encode_state
from engine.bulk_states import BOUND, DECLARATION, DIALOGUE, Declared, DeclaredAction, Step, Talk, TalkAction, Turn
from engine.codes import Code
from engine.lane import Envelope, Notice, Refusal, refuse
from engine.market import BULK, Market
from engine.messages import Done
from engine.prices import format_price
from engine.records import BUY, NO_ACCOUNT, SELL

# A member negotiates a handful of deals a day (the whole market has about 300 a day, rulebook 2).
DECLARATIONS_PER_ACCOUNT_MAX: Final = 200
# A public declaration may draw an answer from a quarter of the market; bounds the cost of ending it.
THREADS_PER_DECLARATION_MAX: Final = 1_000
# A dialogue that has not come to terms after 50 offers of each side will not.
STEPS_PER_THREAD_MAX: Final = 100
# Twice what is measured (10,000 declarations, 50,000 dialogues): bounds memory and the snapshot.
DECLARATIONS_MAX: Final = 20_000
THREADS_MAX: Final = 100_000
# Declarations on one page of a view: with their dialogues some hundred kilobytes.
VIEW_MAX: Final = 100
# How many ended numbers are kept for a clear refusal; older ones are "unknown".
ENDED_MAX: Final = 100_000

Answer = list[Notice] | Refusal


class Desk:
    """The desk of one market. ``handle`` carries out a command, ``tick`` lets time pass, ``close_day`` ends the day."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.declarations: dict[int, Declaration] = {}
        self.threads: dict[int, Thread] = {}
        self.ended_declarations: dict[int, tuple[int, int, bool]] = {}  # number → state, maker, public
        self.ended_threads: dict[int, tuple[int, int, int]] = {}  # number → state, maker, taker
        self.next_declaration = 1
        self.next_thread = 1
        self.frozen = False
        self._made: dict[int, int] = {}  # account → its open declarations
        self._expiry: list[tuple[int, int]] = []  # heap of (valid_until, number); stale entries are skipped
        self._notices: list[Notice] = []
        handlers: dict[Any, Callable[[Envelope, Any], Refusal | dict[str, Any]]] = {
            BulkDeclare: self._declare,
            BulkAmend: self._amend,
            BulkWithdraw: self._withdraw,
            BulkTake: self._take,
            BulkOffer: self._offer,
            BulkCounter: self._counter,
            BulkAccept: self._accept,
            BulkConfirm: self._confirm,
            BulkRefuse: self._refuse,
            BulkRetract: self._retract,
            BulkFreeze: self._freeze,
            BulkCancel: self._cancel,
            BulkExpire: self._expire,
        }
        self._handlers = {kind: (handler, kind.__struct_config__.tag) for kind, handler in handlers.items()}

    # --- the exchange's side ---------------------------------------------------------------------------------

    def handle(self, envelope: Envelope, message: Any) -> Answer:
        """Carries out a command: ``Done`` to the sender first, then what others are told. Or refuses it."""
        self._notices = []
        handler, tag = self._handlers[type(message)]
        answer = handler(envelope, message)
        if isinstance(answer, Refusal):
            assert not self._notices, "a refused command tells nobody"
            return answer
        done = Done(command=tag, data=answer)
        return [Notice(done, envelope.account, envelope.session), *self._notices]

    def tick(self, envelope: Envelope) -> list[Notice]:
        """Ends the declarations whose time has passed at the envelope's time."""
        self._notices = []
        while self._expiry and self._expiry[0][0] <= envelope.time_ns:
            until, number = heapq.heappop(self._expiry)
            found = self.declarations.get(number)
            if found is not None and found.valid_until == until:
                self._move(envelope, found, Step.EXPIRE)
        return self._notices

    def next_deadline(self) -> int | None:
        """When :meth:`tick` has something to do next (ns UTC), for the scheduler; None when nothing is open."""
        while self._expiry:
            until, number = self._expiry[0]
            found = self.declarations.get(number)
            if found is not None and found.valid_until == until:
                return until
            heapq.heappop(self._expiry)
        return None

    def close_day(self, envelope: Envelope) -> list[Notice]:
        """Expires all that is open: nothing outlives the day (R9.2). An operator's freeze of the desk ends too."""
        self._notices = []
        for found in list(self.declarations.values()):
            self._move(envelope, found, Step.EXPIRE)
        self._expiry.clear()
        self.ended_declarations.clear()
        self.ended_threads.clear()
        self.frozen = False
        return self._notices

    def dump(self) -> bytes:
        """The whole state as deterministic MessagePack."""
        return encode_state(
            DeskState(
                list(self.declarations.values()),
                list(self.threads.values()),
                list(self.ended_declarations.items()),
                list(self.ended_threads.items()),
                self.next_declaration,
                self.next_thread,
                self.frozen,
            )
        )

    def load(self, data: bytes) -> None:
        """Puts a dumped state back; the market's tables come from the same snapshot."""
        state = decode_state(data)
        self.declarations = {d.number: d for d in state.declarations}
        self.threads = {t.number: t for t in state.threads}
        self.ended_declarations = dict(state.ended_declarations)
        self.ended_threads = dict(state.ended_threads)
        self.next_declaration, self.next_thread = state.next_declaration, state.next_thread
        self.frozen = state.frozen
        self._made = {}
        for found in self.declarations.values():
            self._made[found.maker] = self._made.get(found.maker, 0) + 1
        self._expiry = [(d.valid_until, d.number) for d in self.declarations.values()]
        heapq.heapify(self._expiry)

    # --- commands on declarations ----------------------------------------------------------------------------

    def _declare(self, envelope: Envelope, m: BulkDeclare) -> Refusal | dict[str, Any]:
        maker, index = envelope.account, self.market.instrument_index(m.instrument)
        refusal = self._may_act(envelope, index)
        if refusal:
            return refusal
        assert index is not None
        refusal = checks.audience(self.market, maker, m) or checks.terms(self.market, index, m.price, m.quantity)
        if refusal:
            return refusal
        until = checks.valid_until(self.market, envelope, m.valid_until)
        if isinstance(until, Refusal):
            return until
        if self._made.get(maker, 0) >= DECLARATIONS_PER_ACCOUNT_MAX:
            return refuse(Code.LIMIT_REACHED, "account", f"{DECLARATIONS_PER_ACCOUNT_MAX} open declarations")
        if len(self.declarations) >= DECLARATIONS_MAX:
            return refuse(Code.CAPACITY, "declaration", f"{DECLARATIONS_MAX} open declarations on the desk")
        new = Declaration(
            number=self.next_declaration,
            maker=maker,
            side=m.side,
            instrument=index,
            price=m.price,
            quantity=m.quantity,
            dealt=0,
            partial=m.partial,
            to=m.to,
            group=m.group,
            note=m.note,
            valid_until=until,
            state=Declared.NEW,
        )
        refusal = self._move(envelope, new, Step.DECLARE)
        if refusal:
            return refusal
        self.next_declaration += 1
        return {"declaration": new.number, "locked_fen": new.hold.cash, "locked_t": _locked_t(new.side, new.hold)}

    def _amend(self, envelope: Envelope, m: BulkAmend) -> Refusal | dict[str, Any]:
        found = self._own(envelope, m.declaration)
        if isinstance(found, Refusal):
            return found
        rest = m.quantity - found.dealt
        refusal = (
            self._may_act(envelope, found.instrument)
            or checks.may_step(found)
            or checks.terms(self.market, found.instrument, m.price, rest)
        )
        if refusal:
            return refusal
        until = checks.valid_until(self.market, envelope, m.valid_until)
        if isinstance(until, Refusal):
            return until
        old = found.price, found.quantity
        found.price, found.quantity = m.price, rest
        refusal = self._move(envelope, found, Step.AMEND, (until, m.note))
        if refusal:
            found.price, found.quantity = old
            return refusal
        return {
            "declaration": found.number,
            "locked_fen": found.hold.cash,
            "locked_t": _locked_t(found.side, found.hold),
        }

    def _withdraw(self, envelope: Envelope, m: BulkWithdraw) -> Refusal | dict[str, Any]:
        found = self._own(envelope, m.declaration)
        if isinstance(found, Refusal):
            return found
        return self._move(envelope, found, Step.WITHDRAW) or {"declaration": found.number}

    # --- commands on dialogues --------------------------------------------------------------------------------

    def _take(self, envelope: Envelope, m: BulkTake) -> Refusal | dict[str, Any]:
        found = self._addressed(envelope, m.declaration)
        if isinstance(found, Refusal):
            return found
        if m.price != found.price:
            return refuse(Code.BULK_TERMS_CHANGED, "price", f"the declaration stands at {format_price(found.price)}")
        return self._open_thread(envelope, found, m, Turn.TAKE)

    def _offer(self, envelope: Envelope, m: BulkOffer) -> Refusal | dict[str, Any]:
        found = self._addressed(envelope, m.declaration)
        if isinstance(found, Refusal):
            return found
        return self._open_thread(envelope, found, m, Turn.OFFER)

    def _open_thread(
        self, envelope: Envelope, found: Declaration, m: BulkTake | BulkOffer, turn: Turn
    ) -> Refusal | dict[str, Any]:
        taker = envelope.account
        refusal = self._may_act(envelope, found.instrument) or checks.may_step(found)
        if refusal:
            return refusal
        if taker in found.threads:
            return refuse(Code.ALREADY_EXISTS, "declaration", f"dialogue {found.threads[taker]} is open")
        changed = Code.BULK_TERMS_CHANGED if turn == Turn.TAKE else Code.BAD_FIELD
        refusal = checks.fit(found, m.quantity, changed) or checks.terms(
            self.market, found.instrument, m.price, m.quantity
        )
        if refusal:
            return refusal
        if found.threads_opened >= THREADS_PER_DECLARATION_MAX:
            return refuse(Code.LIMIT_REACHED, "declaration", f"{THREADS_PER_DECLARATION_MAX} dialogues were opened")
        if len(self.threads) >= THREADS_MAX:
            return refuse(Code.CAPACITY, "thread", f"{THREADS_MAX} open dialogues on the desk")
        new = Thread(self.next_thread, found.number, taker, m.price, m.quantity)
        refusal = self._turn(envelope, new, turn, m.note)
        if refusal:
            return refusal
        self.next_thread += 1
        return {
            "thread": new.number,
            "declaration": found.number,
            "locked_fen": new.hold.cash,
            "locked_t": _locked_t(SELL - found.side, new.hold),
        }

    def _counter(self, envelope: Envelope, m: BulkCounter) -> Refusal | dict[str, Any]:
        thread = self._party(envelope, m.thread, Turn.MAKER_COUNTERS, Turn.TAKER_COUNTERS)
        if isinstance(thread, Refusal):
            return thread
        found, turn = self.declarations[thread.declaration], self._by(envelope, thread, Turn.MAKER_COUNTERS)
        refusal = (
            self._may_act(envelope, found.instrument)
            or checks.may_step(found)
            or checks.fit(found, m.quantity, Code.BAD_FIELD)
            or checks.terms(self.market, found.instrument, m.price, m.quantity)
        )
        if refusal:
            return refusal
        if len(thread.steps) >= STEPS_PER_THREAD_MAX:
            return refuse(Code.LIMIT_REACHED, "thread", f"{STEPS_PER_THREAD_MAX} steps")
        old = thread.price, thread.quantity
        thread.price, thread.quantity = m.price, m.quantity
        refusal = self._turn(envelope, thread, turn, m.note)
        if refusal:
            thread.price, thread.quantity = old
            return refusal
        return self._bound(envelope, thread)

    def _accept(self, envelope: Envelope, m: BulkAccept) -> Refusal | dict[str, Any]:
        thread = self._party(envelope, m.thread, Turn.MAKER_ACCEPTS, Turn.TAKER_ACCEPTS)
        if isinstance(thread, Refusal):
            return thread
        refusal = self._may_agree(envelope, thread, m)
        if refusal:
            return refusal
        return self._turn(envelope, thread, self._by(envelope, thread, Turn.MAKER_ACCEPTS)) or self._bound(
            envelope, thread
        )

    def _confirm(self, envelope: Envelope, m: BulkConfirm) -> Refusal | dict[str, Any]:
        thread = self._party(envelope, m.thread, Turn.MAKER_CONFIRMS, Turn.TAKER_CONFIRMS)
        if isinstance(thread, Refusal):
            return thread
        refusal = self._may_agree(envelope, thread, m)
        if refusal:
            return refusal
        maker = self.declarations[thread.declaration].maker
        other = thread.taker if envelope.account == maker else maker
        code = self.market.may_trade(other)
        if code != Code.OK:
            return refuse(code, "counterparty")
        refusal = self._turn(envelope, thread, self._by(envelope, thread, Turn.MAKER_CONFIRMS))
        return refusal or {"thread": thread.number, "deal": int(self.market.market[0]["deals"])}

    def _refuse(self, envelope: Envelope, m: BulkRefuse) -> Refusal | dict[str, Any]:
        thread = self._party(envelope, m.thread, Turn.MAKER_REFUSES, Turn.TAKER_REFUSES)
        if isinstance(thread, Refusal):
            return thread
        turn = self._by(envelope, thread, Turn.MAKER_REFUSES)
        return self._turn(envelope, thread, turn, m.note) or {"thread": thread.number}

    def _retract(self, envelope: Envelope, m: BulkRetract) -> Refusal | dict[str, Any]:
        thread = self._party(envelope, m.thread, Turn.MAKER_RETRACTS, Turn.TAKER_RETRACTS)
        if isinstance(thread, Refusal):
            return thread
        turn = self._by(envelope, thread, Turn.MAKER_RETRACTS)
        return self._turn(envelope, thread, turn) or {"thread": thread.number}

    # --- operators and scheduler ------------------------------------------------------------------------------

    def _freeze(self, envelope: Envelope, m: BulkFreeze) -> Refusal | dict[str, Any]:
        if envelope.account != NO_ACCOUNT:
            return refuse(Code.NOT_AUTHORISED)
        if m.declaration == 0:
            if self.frozen == m.on:
                return refuse(Code.WRONG_STATE, "on", "the desk is so already")
            self.frozen = m.on
            self._notices.append(Notice(BulkDesk(frozen=m.on, why=m.why), public=True))
            return {"frozen": m.on, **_told(m)}
        found = self._known(envelope, m.declaration)
        if isinstance(found, Refusal):
            return found
        step = Step.FREEZE if m.on else Step.THAW
        return self._move(envelope, found, step) or {"declaration": found.number, **_told(m)}

    def _cancel(self, envelope: Envelope, m: BulkCancel) -> Refusal | dict[str, Any]:
        if envelope.account != NO_ACCOUNT:
            return refuse(Code.NOT_AUTHORISED)
        if bool(m.declaration) == bool(m.thread):
            return refuse(Code.BAD_FIELD, "declaration", "give a declaration or a thread")
        if m.declaration:
            found = self._known(envelope, m.declaration)
            if isinstance(found, Refusal):
                return found
            return self._move(envelope, found, Step.CANCEL) or {"declaration": found.number, **_told(m)}
        thread = self.threads.get(m.thread)
        if thread is None:
            return refuse(Code.UNKNOWN_THREAD, "thread")
        return self._turn(envelope, thread, Turn.END, m.why) or {"thread": thread.number, **_told(m)}

    def _expire(self, envelope: Envelope, _: BulkExpire) -> Refusal | dict[str, Any]:
        if envelope.account != NO_ACCOUNT:
            return refuse(Code.NOT_AUTHORISED)
        before = len(self.declarations)
        self.tick(envelope)
        return {"expired": before - len(self.declarations)}

    # --- checks (engine/bulk_checks.py) ---------------------------------------------------------------------------

    def _may_act(self, envelope: Envelope, instrument: int | None) -> Refusal | None:
        return checks.may_act(self.market, envelope, instrument, desk_frozen=self.frozen)

    def _may_agree(self, envelope: Envelope, thread: Thread, m: BulkAccept | BulkConfirm) -> Refusal | None:
        found = self.declarations[thread.declaration]
        return (
            self._may_act(envelope, found.instrument)
            or checks.may_step(found)
            or checks.same_terms(thread, m.price, m.quantity)
        )

    # --- look-ups -----------------------------------------------------------------------------------------------

    def _known(self, envelope: Envelope, number: int) -> Declaration | Refusal:
        """A declaration that is alive at the envelope's time and that the sender may know of."""
        found = self.declarations.get(number)
        operator = envelope.account == NO_ACCOUNT
        if found is None:
            state, maker, public = self.ended_declarations.get(number, (0, NO_ACCOUNT, False))
            if state and (operator or public or maker == envelope.account):
                return refuse(Code.WRONG_STATE, "declaration", f"it is {Declared(state).name.lower()}")
            return refuse(Code.UNKNOWN_DECLARATION, "declaration")
        if not operator and (
            self.market.account_code(envelope.account) != Code.OK
            or not checks.sees(self.market, envelope.account, found)
        ):
            return refuse(Code.UNKNOWN_DECLARATION, "declaration")
        if envelope.time_ns >= found.valid_until:
            return refuse(Code.WRONG_STATE, "declaration", "it is expired")
        return found

    def _own(self, envelope: Envelope, number: int) -> Declaration | Refusal:
        found = self._known(envelope, number)
        if isinstance(found, Declaration) and found.maker != envelope.account:
            return refuse(Code.NOT_AUTHORISED, "declaration", "it is another account's")
        return found

    def _addressed(self, envelope: Envelope, number: int) -> Declaration | Refusal:
        """A declaration that the sender may answer: a stranger cannot tell it from one that does not exist."""
        if envelope.account == NO_ACCOUNT:
            return refuse(Code.NOT_AUTHORISED, "account", "a member's command")
        found = self._known(envelope, number)
        if isinstance(found, Declaration) and found.maker == envelope.account:
            return refuse(Code.SELF_DEAL, "declaration")
        return found

    def _party(self, envelope: Envelope, number: int, by_maker: Turn, by_taker: Turn) -> Thread | Refusal:
        """An open dialogue of the sender in which it may now do one of the two things."""
        thread = self.threads.get(number)
        if thread is None:
            state, maker, taker = self.ended_threads.get(number, (0, NO_ACCOUNT, NO_ACCOUNT))
            if state and envelope.account in (maker, taker):
                return refuse(Code.WRONG_STATE, "thread", f"it is {Talk(state).name.lower()}")
            return refuse(Code.UNKNOWN_THREAD, "thread")
        found = self.declarations[thread.declaration]
        if envelope.account not in (found.maker, thread.taker):
            return refuse(Code.UNKNOWN_THREAD, "thread")
        if envelope.time_ns >= found.valid_until:
            return refuse(Code.WRONG_STATE, "thread", "its declaration is expired")
        turn = by_maker if envelope.account == found.maker else by_taker
        if (thread.state, turn) not in DIALOGUE:
            return refuse(Code.WRONG_STATE, "thread", f"it is {thread.state.name.lower()}")
        return thread

    def _by(self, envelope: Envelope, thread: Thread, maker_turn: Turn) -> Turn:
        """The maker's turn or, one further in the list, the taker's."""
        is_maker = envelope.account == self.declarations[thread.declaration].maker
        return maker_turn if is_maker else Turn(maker_turn + 1)

    def _bound(self, envelope: Envelope, thread: Thread) -> dict[str, Any]:
        """What the sender of a step is bound to now."""
        found = self.declarations[thread.declaration]
        is_maker = envelope.account == found.maker
        hold, side = (found.hold, found.side) if is_maker else (thread.hold, SELL - found.side)
        return {"thread": thread.number, "locked_fen": hold.cash, "locked_t": _locked_t(side, hold)}

    # --- transitions --------------------------------------------------------------------------------------------

    def _terms(self, found: Declaration) -> tuple[int, int, int]:
        """What the maker's lock must cover (D21): all that is open, at the highest price it is bound to, once."""
        price = max(found.price, *found.raised.values()) if found.raised else found.price
        deals = found.quantity // self.market.rules.bulk_quantity_min_t if found.partial else 1
        return price, found.quantity, max(1, deals)

    def _relock(self, found: Declaration, how: Callable[..., Code] = bulk_locks.change) -> Refusal | None:
        """The maker's lock follows its terms; nothing changes when it can't."""
        code = how(self.market, found.hold, found.maker, found.instrument, found.side, self._terms(found))
        return None if code == Code.OK else refuse(code, "price" if found.side == BUY else "quantity")

    def _move(
        self, envelope: Envelope, found: Declaration, step: Step, amended: tuple[int, str] | None = None
    ) -> Refusal | None:
        """One transition of a declaration. Only its first action can fail, and then nothing has changed."""
        entry = DECLARATION.get((found.state, step))
        if entry is None:
            return refuse(Code.WRONG_STATE, "declaration", f"it is {found.state.name.lower()}")
        state, actions = entry
        for at, action in enumerate(actions):
            if action in (DeclaredAction.LOCK, DeclaredAction.RELOCK):
                refusal = self._relock(found, bulk_locks.take if action == DeclaredAction.LOCK else bulk_locks.change)
                if refusal:
                    assert at == 0, "an action that can fail comes first"
                    return refusal
            elif action == DeclaredAction.END_TAKEN:
                self._end(envelope, found, Turn.TERMS_CHANGE, lambda t: True)
            elif action == DeclaredAction.END_UNFIT:
                self._end(envelope, found, Turn.NO_LONGER_FITS, lambda t: not self._fits(found, t))
            elif action == DeclaredAction.END_THREADS:
                self._end(envelope, found, Turn.END, lambda t: True)
            elif action == DeclaredAction.RELEASE:
                bulk_locks.give_back(self.market, found.hold, found.maker, found.instrument, found.side)
        self._enter(found, state, amended)
        self._tell_declaration(found)
        return None

    def _fits(self, found: Declaration, thread: Thread) -> bool:
        return checks.fit(found, thread.quantity, Code.BAD_FIELD) is None

    def _enter(self, found: Declaration, state: Declared, amended: tuple[int, str] | None) -> None:
        """Registers, changes or forgets the declaration in its new state."""
        new = found.state == Declared.NEW
        found.state = state
        if amended:
            found.valid_until, found.note = amended
        if state in (Declared.OPEN, Declared.FROZEN):
            if new:
                self.declarations[found.number] = found
                self._made[found.maker] = self._made.get(found.maker, 0) + 1
            if new or amended:
                self._watch(found)
            return
        del self.declarations[found.number]
        self._made[found.maker] -= 1
        if not self._made[found.maker]:
            del self._made[found.maker]
        _remember(self.ended_declarations, found.number, (int(state), found.maker, found.public))

    def _watch(self, found: Declaration) -> None:
        """Notes when the declaration expires; entries that amends have left behind are dropped now and then."""
        heapq.heappush(self._expiry, (found.valid_until, found.number))
        if len(self._expiry) > 2 * len(self.declarations) + STEPS_PER_THREAD_MAX:
            self._expiry = [(d.valid_until, d.number) for d in self.declarations.values()]
            heapq.heapify(self._expiry)

    def _end(self, envelope: Envelope, found: Declaration, turn: Turn, which: Callable[[Thread], bool]) -> None:
        """Puts a turn of the exchange's to the declaration's open dialogues."""
        for number in list(found.threads.values()):
            thread = self.threads[number]
            if which(thread) and DIALOGUE[thread.state, turn][0] != thread.state:
                self._turn(envelope, thread, turn, by=NO_ACCOUNT)

    def _turn(
        self, envelope: Envelope, thread: Thread, turn: Turn, note: str = "", by: int | None = None
    ) -> Refusal | None:
        """One transition of a dialogue. Only its first action can fail, and then nothing has changed."""
        found, by = self.declarations[thread.declaration], envelope.account if by is None else by
        entry = DIALOGUE.get((thread.state, turn))
        assert entry is not None, f"{thread.state.name} has no {turn.name}: callers look it up first"
        state, actions = entry
        for at, action in enumerate(actions):
            refusal = self._act(envelope, found, thread, action)
            if refusal:
                assert at == 0, "an action that can fail comes first"
                return refusal
        thread.state = state
        thread.steps.append((envelope.seq, envelope.time_ns, int(turn), by, thread.price, thread.quantity, note))
        if state in BOUND:
            self.threads[thread.number] = thread
            if turn in (Turn.OFFER, Turn.TAKE):
                found.threads[thread.taker] = thread.number
                found.threads_opened += 1
        else:
            del self.threads[thread.number]
            del found.threads[thread.taker]
            _remember(self.ended_threads, thread.number, (int(state), found.maker, thread.taker))
        self._tell_thread(found, thread, turn, by, note)
        if state == Talk.DEALT:
            self._deal_done(envelope, found, thread)
        return None

    def _act(self, envelope: Envelope, found: Declaration, thread: Thread, action: TalkAction) -> Refusal | None:
        side = SELL - found.side  # the taker's
        if action == TalkAction.LOCK_TAKER:
            terms = thread.price, thread.quantity, 1
            code = bulk_locks.take(self.market, thread.hold, thread.taker, found.instrument, side, terms)
            return None if code == Code.OK else refuse(code, "price" if side == BUY else "quantity")
        if action == TalkAction.RELEASE_TAKER:
            bulk_locks.give_back(self.market, thread.hold, thread.taker, found.instrument, side)
        elif action == TalkAction.BIND_MAKER:
            found.raised[thread.number] = thread.price
            refusal = self._relock(found)
            if refusal:
                del found.raised[thread.number]
            return refusal
        elif action == TalkAction.UNBIND_MAKER:
            if found.raised.pop(thread.number, None) is not None:
                refusal = self._relock(found)
                assert refusal is None, "a smaller lock fits into the larger one"
        else:
            self._deal(envelope, found, thread)
        return None

    def _deal(self, envelope: Envelope, found: Declaration, thread: Thread) -> None:
        """The deal itself, out of both locks (R9.1); each side is told."""
        price, quantity, maker, taker = thread.price, thread.quantity, found.maker, thread.taker
        fees = (
            bulk_locks.spend(self.market, found.hold, found.side, price, quantity),
            bulk_locks.spend(self.market, thread.hold, SELL - found.side, price, quantity),
        )
        buyer, seller = (maker, taker) if found.side == BUY else (taker, maker)
        number = self.market.settle_deal(
            BULK, found.instrument, price, quantity, buyer, seller, seq=envelope.seq, time_ns=envelope.time_ns
        )
        found.quantity -= quantity
        found.dealt += quantity
        self._notices.extend(notices.of_deal(self.market, found, thread, number, fees))

    def _deal_done(self, envelope: Envelope, found: Declaration, thread: Thread) -> None:
        """What a deal leaves of its declaration (D21)."""
        bulk_locks.give_back(self.market, thread.hold, thread.taker, found.instrument, SELL - found.side)
        stays = found.partial and found.quantity >= self.market.rules.bulk_quantity_min_t
        refusal = self._move(envelope, found, Step.DEAL_PART if stays else Step.DEAL_REST)
        assert refusal is None, "a smaller lock fits into the larger one"

    # --- who is told what (engine/bulk_notices.py) ----------------------------------------------------------------

    def _tell_declaration(self, found: Declaration) -> None:
        self._notices.extend(notices.of_declaration(self.market, found))

    def _tell_thread(self, found: Declaration, thread: Thread, turn: Turn, by: int, note: str) -> None:
        self._notices.extend(notices.of_turn(self.market, found, thread, turn, by, note))

    # --- looking in -------------------------------------------------------------------------------------------------

    def view(self, account: int, after: int = 0, count: int = VIEW_MAX) -> BulkView:
        """What is open for an account: declarations that it may see from number ``after`` on, and its dialogues.

        NO_ACCOUNT is the operators' view: all of it. It changes nothing and costs a pass over what is open, so it is
        a question, not a command. ``next`` of the answer is where the next page begins, 0 when this is the last.
        """
        operator = account == NO_ACCOUNT
        shown: list[Declaration] = []
        following = 0
        for found in self.declarations.values():
            if found.number < after or not (operator or checks.sees(self.market, account, found)):
                continue
            if len(shown) == count:
                following = found.number
                break
            shown.append(found)
        talks = [
            self.threads[number]
            for found in shown
            for taker, number in found.threads.items()
            if operator or account in (taker, found.maker)
        ]
        return BulkView(
            declarations=tuple(notices.declaration_message(self.market, d) for d in shown),
            threads=tuple(notices.thread_view(self.declarations[t.declaration], t) for t in talks),
            next=following,
        )

    # --- inspection -----------------------------------------------------------------------------------------------

    def locks(self) -> tuple[dict[int, int], dict[tuple[int, int], int]]:
        """Cash by account and allowances by (account, instrument) that the desk's locks own."""
        cash: dict[int, int] = {}
        allowances: dict[tuple[int, int], int] = {}
        if not self.market.market[0]["accounts_on"]:
            return cash, allowances
        for account, instrument, side, hold in self._holds():
            if side == BUY and hold.cash:
                cash[account] = cash.get(account, 0) + hold.cash
            elif side == SELL and hold.quantity:
                allowances[account, instrument] = allowances.get((account, instrument), 0) + hold.quantity
        return cash, allowances

    def _holds(self) -> list[tuple[int, int, int, Hold]]:
        made = [(d.maker, d.instrument, d.side, d.hold) for d in self.declarations.values()]
        for thread in self.threads.values():
            found = self.declarations[thread.declaration]
            made.append((thread.taker, found.instrument, SELL - found.side, thread.hold))
        return made

    def check(self) -> None:
        """Asserts the desk's invariants: indexes, who is bound to what, and that the market's locks cover ours."""
        market, made = self.market, dict[int, int]()
        for number, found in self.declarations.items():
            assert number == found.number and found.state in (Declared.OPEN, Declared.FROZEN)
            made[found.maker] = made.get(found.maker, 0) + 1
            price, quantity, deals = self._terms(found)
            assert found.hold.quantity == quantity, f"declaration {number} holds another quantity than it offers"
            if found.side == BUY and market.market[0]["accounts_on"]:
                amount = price * quantity
                need = amount + sum(market.fees(amount)) + bulk_locks.rounding_slack(market, deals)
                assert found.hold.cash == need, f"declaration {number} locks {found.hold.cash}, needs {need}"
            bound = {n for n in found.threads.values() if BOUND[self.threads[n].state][1]}
            assert set(found.raised) == bound, f"declaration {number}: bound in other dialogues than it stands in"
        assert made == self._made, "the count of open declarations is wrong"
        for number, thread in self.threads.items():
            found = self.declarations[thread.declaration]
            assert found.threads.get(thread.taker) == number and self._fits(found, thread)
            if BOUND[thread.state][0]:
                assert thread.hold.quantity == thread.quantity, f"thread {number}: the taker is not locked in full"
            else:
                assert thread.hold.quantity == 0 and thread.hold.cash == 0, f"thread {number}: a lock is left behind"
        assert sum(len(d.threads) for d in self.declarations.values()) == len(self.threads)
        cash, allowances = self.locks()
        for account, locked in cash.items():
            assert market.accounts[account]["locked"] >= locked, f"account {account}: desk locks are not in the market"
        for (account, instrument), locked in allowances.items():
            assert market.holdings[account, instrument]["locked"] >= locked, f"account {account}: allowances missing"


def _locked_t(side: int, hold: Hold) -> int:
    return hold.quantity if side == SELL else 0


def _told(m: BulkFreeze | BulkCancel) -> dict[str, str]:
    """Who acted and why, for the operators' copy: members see that it happened, not the suspicion behind it (D30)."""
    return {"by": m.by, "why": m.why}


def _remember(ended: dict[int, Any], number: int, how: Any) -> None:
    """Keeps how a number ended; forgets the oldest when there are too many."""
    ended[number] = how
    if len(ended) > ENDED_MAX:
        del ended[next(iter(ended))]
