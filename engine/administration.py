"""Slow-lane commands of the market itself: accounts, money, transfers, the day, halts, corrections.

One handler per message type, found by its class in ``HANDLERS``. Each checks first and changes after, so that a
refusal leaves nothing behind. Commands of the exchange and its operators need an envelope without an account
(``NO_ACCOUNT``); a member may only ask for a withdrawal and a transfer out of its own account.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from engine import messages as msg
from engine.bulletin import COMPOSITE
from engine.closing import close_market, composite_on_close, day_result, rebuild_statistics
from engine.codes import Code, Reason
from engine.lane import Envelope, Notice, Refusal
from engine.market import ACTIVE, CLOSED, DEAL_CANCELLED, LISTED, NOT_OPENED, UNLIMITED
from engine.records import NO_ACCOUNT
from engine.rules import AMOUNT_MAX_FEN, QUANTITY_MAX_T

if TYPE_CHECKING:
    from engine.exchange import Exchange

Answer = list[Notice] | Refusal

DOCUMENTS_MAX = 1 << 20  # remembered document numbers: 20 a trading account and day for a quarter, and still 50 MB
MEMBER_COMMANDS = (msg.Withdraw, msg.TransferOut)
WITHOUT_ACCOUNT = ("drop_copy", "operator")  # roles of sessions that trade for nobody


class PendingTransfer(msgspec.Struct):
    """Allowances on their way out to the registry (D24)."""

    account: int
    instrument: str
    quantity: int


class SessionEntry(msgspec.Struct):
    """A session number's key, as the journal knows it (never a secret)."""

    account: int
    role: str
    key: str
    name: str
    valid_from: int
    valid_to: int


class AdministrationState(msgspec.Struct):
    """What administration remembers beside the tables."""

    names: dict[int, str] = {}
    documents: dict[str, int] = {}  # document or transfer number → date of first use
    transfers: dict[str, PendingTransfer] = {}
    sessions: dict[int, SessionEntry] = {}


class Administration:
    """State machine of the market's own commands (see :class:`engine.lane.StateMachine`)."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.market = exchange.market
        self.state = AdministrationState()
        # instrument → tonnes in trading accounts at most; found anew when it says no, so it is no part of the state
        self._allowances_at_most: dict[int, int] = {}

    def handle(self, envelope: Envelope, message: Any) -> Answer:
        """Carries out a command or refuses it; authorisation first."""
        if envelope.account != NO_ACCOUNT and not (
            isinstance(message, MEMBER_COMMANDS) and message.account == envelope.account
        ):
            return Refusal(Code.NOT_AUTHORISED, "account")
        return HANDLERS[type(message)](self, envelope, message)

    def close_day(self, envelope: Envelope) -> list[Notice]:
        """Nothing of administration's ends with the day."""
        return []

    def dump(self) -> bytes:
        """MessagePack of what is remembered. Dicts keep the order of insertion, which follows from the commands."""
        return msgspec.msgpack.encode(self.state)

    def load(self, data: bytes) -> None:
        """Puts a dumped state back."""
        self._allowances_at_most.clear()
        self.state = msgspec.msgpack.decode(data, type=AdministrationState)

    def check(self) -> None:
        """Asserts that what is in transfer belongs to pending transfers."""
        pending = sum(t.quantity for t in self.state.transfers.values())
        assert pending == int(self.market.holdings["in_transfer"].sum()), "allowances in transfer without a transfer"

    def locks(self) -> tuple[dict[int, int], dict[tuple[int, int], int]]:
        """Administration locks nothing: a transfer out has a bucket of its own."""
        return {}, {}

    # --- small helpers of the handlers -----------------------------------------------------------------------

    def _done(self, envelope: Envelope, message: Any, **data: Any) -> Notice:
        tag = type(message).__struct_config__.tag
        return Notice(msg.Done(command=tag, data=data), envelope.account, envelope.session)

    def _known(self, account: int, code: str) -> tuple[int, Refusal | None]:
        """Index of the instrument, or why account or instrument is refused."""
        if self.market.account_code(account) != Code.OK:
            return 0, Refusal(Code.UNKNOWN_ACCOUNT, "account")
        index = self.market.codes.get(code)
        return (index, None) if index is not None else (0, Refusal(Code.UNKNOWN_INSTRUMENT, "instrument"))

    def _document(self, number: str) -> Refusal | None:
        """Remembers a document number; a second use is refused (D23, D24)."""
        if number in self.state.documents:
            return Refusal(Code.DUPLICATE_DOCUMENT, "document", f"{number} was used on {self.state.documents[number]}")
        if len(self.state.documents) >= DOCUMENTS_MAX:
            return Refusal(Code.CAPACITY, "document", "as many document numbers are remembered as can be")
        self.state.documents[number] = int(self.market.market[0]["date"])
        return None

    # --- accounts and instruments ------------------------------------------------------------------------------

    def open_account(self, envelope: Envelope, m: msg.OpenAccount) -> Answer:
        """R2.1; ALREADY_EXISTS, CAPACITY."""
        if m.account >= len(self.market.accounts):
            return Refusal(Code.CAPACITY, "account", f"account numbers go up to {len(self.market.accounts) - 1}")
        row = self.market.accounts[m.account]
        if row["status"] != NOT_OPENED:
            return Refusal(Code.ALREADY_EXISTS, "account")
        row["status"], row["self_trade"], row["group"] = ACTIVE, m.self_trade, m.group
        row["open_orders_max"] = m.open_orders_max or self.market.rules.open_orders_max
        self.state.names[m.account] = m.name
        return [self._done(envelope, m, account=m.account)]

    def set_account_status(self, envelope: Envelope, m: msg.SetAccountStatus) -> Answer:
        """R14.1. Back to active takes two persons, from a kill switch (2) and from 3: else 3 were the way round it."""
        if self.market.account_code(m.account) != Code.OK:
            return Refusal(Code.UNKNOWN_ACCOUNT, "account")
        row = self.market.accounts[m.account]
        if row["status"] != ACTIVE and m.status == ACTIVE and (not m.second or m.second == m.by):
            return Refusal(Code.TWO_PERSONS_REQUIRED, "second")
        row["status"] = m.status
        notice = msg.MarketNotice(what="account_status", data={"account": m.account, "status": m.status}, text=m.why)
        return [self._done(envelope, m, account=m.account, status=m.status), Notice(notice, m.account)]

    def set_limits(self, envelope: Envelope, m: msg.SetLimits) -> Answer:
        """R14.1, R14.4; they hold from the next order on."""
        index, refusal = self._known(m.account, m.instrument)
        if refusal:
            return refusal
        holding = self.market.holdings[m.account, index]
        holding["position_max"] = UNLIMITED if m.position_max < 0 else m.position_max
        holding["sell_max"] = UNLIMITED if m.sell_max < 0 else m.sell_max
        return [self._done(envelope, m)]

    def open_session(self, envelope: Envelope, m: msg.OpenSession) -> Answer:
        """A session number is one account's and one role's for good: its reports go with it. Operators: two persons.

        For another account or role it is ALREADY_EXISTS, after its revocation too; for another key, while it is open.
        """
        if m.session >= len(self.market.sessions):
            return Refusal(Code.CAPACITY, "session")
        if m.role == "trader" and self.market.account_code(m.account) != Code.OK:
            return Refusal(Code.UNKNOWN_ACCOUNT, "account")
        if m.account == NO_ACCOUNT and m.role not in WITHOUT_ACCOUNT:
            return Refusal(Code.UNKNOWN_ACCOUNT, "account")
        if m.role == "operator" and (not m.second or m.second == m.by):
            return Refusal(Code.TWO_PERSONS_REQUIRED, "second")
        row = self.market.sessions[m.session]
        entry = SessionEntry(m.account, m.role, m.key, m.name, m.valid_from, m.valid_to)
        known = self.state.sessions.get(m.session)
        if known and (known.account, known.role) != (m.account, m.role):
            return Refusal(Code.ALREADY_EXISTS, "session", "was given to another account or role")
        if row["open"] and known and known != entry:
            return Refusal(Code.ALREADY_EXISTS, "session")
        row["account"], row["open"] = m.account, 1
        self.state.sessions[m.session] = entry
        return [self._done(envelope, m, session=m.session)]

    def revoke_session(self, envelope: Envelope, m: msg.RevokeSession) -> Answer:
        """The key is out at once; what it has open stays until cancelled."""
        if m.session not in self.state.sessions:
            return Refusal(Code.BAD_FIELD, "session", "no such session")
        self.market.sessions[m.session]["open"] = 0
        return [self._done(envelope, m, session=m.session)]

    def list_instrument(self, envelope: Envelope, m: msg.ListInstrument) -> Answer:
        """R1.3; without a reference it is the previous trading day's composite close (R6.5)."""
        head = self.market.market[0]
        if m.code == COMPOSITE:
            return Refusal(Code.BAD_FIELD, "code", f"{COMPOSITE} is the composite: published, never traded (R1.4)")
        if m.code in self.market.codes:
            return Refusal(Code.ALREADY_EXISTS, "code")
        if len(self.market.codes) >= self.market.capacity.instruments:
            return Refusal(Code.CAPACITY, "code")
        composite = head["composite_close"] if head["day_closed"] else head["composite_previous"]
        reference = m.reference if m.reference is not None else int(composite)
        if reference <= 0:
            return Refusal(Code.BAD_FIELD, "reference", "there is no composite close to start from")
        date = int(head["date"]) or self.market.rules.limits[-1].from_date
        try:
            self.market.add_instrument(m.code, reference, date)
        except ValueError as error:
            return Refusal(Code.BAD_FIELD, "reference", str(error))
        notice = msg.MarketNotice(what="listed", instrument=m.code, data={"reference": reference})
        return [self._done(envelope, m, code=m.code, reference=reference), Notice(notice, public=True)]

    def retire_instrument(self, envelope: Envelope, m: msg.RetireInstrument) -> Answer:
        """Only without open orders; holdings stay, and the price keeps being carried."""
        index = self.market.instrument_index(m.code)
        if index is None:
            return Refusal(Code.UNKNOWN_INSTRUMENT, "code")
        if self.market.book.sides[2 * index : 2 * index + 2]["orders"].any():
            return Refusal(Code.WRONG_STATE, "code", "there are open orders")
        if self.market.instruments[index]["deals"]:
            return Refusal(Code.WRONG_PHASE, "code", "it has traded today: retire it after the roll")
        self.market.instruments[index]["listed"] = 0
        self.market.start_composite(int(self.market.market[0]["date"]) or self.market.rules.limits[-1].from_date)
        notice = msg.MarketNotice(what="retired", instrument=m.code, text=m.why)
        return [self._done(envelope, m, code=m.code), Notice(notice, public=True)]

    # --- money and allowances ------------------------------------------------------------------------------------

    def deposit(self, envelope: Envelope, m: msg.Deposit) -> Answer:
        """D23. CAPACITY where the market's cash would exceed what can be represented."""
        if self.market.account_code(m.account) != Code.OK:
            return Refusal(Code.UNKNOWN_ACCOUNT, "account")
        row = self.market.accounts[m.account]
        if self.market.total_cash() + m.amount > AMOUNT_MAX_FEN:  # of all: so that no sum or balance can overflow
            return Refusal(Code.CAPACITY, "amount")
        refusal = self._document(m.document)
        if refusal:
            return refusal
        row["available"] += m.amount
        moved = msg.CashMoved(amount=m.amount, available=int(row["available"]), document=m.document)
        return [self._done(envelope, m, document=m.document), Notice(moved, m.account)]

    def withdraw(self, envelope: Envelope, m: msg.Withdraw) -> Answer:
        """D23, R5.5: only the withdrawable part."""
        if self.market.account_code(m.account) != Code.OK:
            return Refusal(Code.UNKNOWN_ACCOUNT, "account")
        if m.amount > self.market.withdrawable(m.account):
            return Refusal(Code.INSUFFICIENT_WITHDRAWABLE, "amount")
        refusal = self._document(m.document)
        if refusal:
            return refusal
        row = self.market.accounts[m.account]
        row["available"] -= m.amount
        moved = msg.CashMoved(amount=-m.amount, available=int(row["available"]), document=m.document)
        return [self._done(envelope, m, document=m.document), Notice(moved, m.account)]

    def transfer_in(self, envelope: Envelope, m: msg.TransferIn) -> Answer:
        """R13.2, D24: the registry has posted; the allowances are sellable at once."""
        index, refusal = self._known(m.account, m.instrument)
        if refusal:
            return refusal
        at_most = self._allowances_at_most.get(index, QUANTITY_MAX_T)
        if at_most + m.quantity > QUANTITY_MAX_T:
            at_most = self.market.total_allowances(index)  # a sum over all accounts: too slow for every transfer
            if at_most + m.quantity > QUANTITY_MAX_T:
                return Refusal(Code.CAPACITY, "quantity")
        refusal = self._document(m.transfer)
        if refusal:
            return refusal
        self._allowances_at_most[index] = at_most + m.quantity
        holding = self.market.holdings[m.account, index]
        holding["sellable"] += m.quantity
        return self._moved(envelope, m, m.account, m.instrument, m.quantity, m.transfer, "in")

    def transfer_out(self, envelope: Envelope, m: msg.TransferOut) -> Answer:
        """R13.2, D24: only what is sellable; it waits in transfer until the registry has answered."""
        index, refusal = self._known(m.account, m.instrument)
        if refusal:
            return refusal
        holding = self.market.holdings[m.account, index]
        if m.quantity > holding["sellable"]:
            today = m.quantity <= int(holding["sellable"]) + int(holding["bought_today"])
            return Refusal(Code.BOUGHT_TODAY if today else Code.INSUFFICIENT_ALLOWANCES, "quantity")
        refusal = self._document(m.transfer)
        if refusal:
            return refusal
        holding["sellable"] -= m.quantity
        holding["in_transfer"] += m.quantity
        self.state.transfers[m.transfer] = PendingTransfer(m.account, m.instrument, m.quantity)
        return self._moved(envelope, m, m.account, m.instrument, -m.quantity, m.transfer, "out_requested")

    def transfer_out_done(self, envelope: Envelope, m: msg.TransferOutDone) -> Answer:
        """The registry's answer; a repeat is UNKNOWN_TRANSFER and does nothing."""
        pending = self.state.transfers.pop(m.transfer, None)
        if pending is None:
            return Refusal(Code.UNKNOWN_TRANSFER, "transfer")
        holding = self.market.holdings[pending.account, self.market.codes[pending.instrument]]
        holding["in_transfer"] -= pending.quantity
        back = 0 if m.posted else pending.quantity
        holding["sellable"] += back
        state = "out_done" if m.posted else "out_refused"
        return self._moved(envelope, m, pending.account, pending.instrument, back, m.transfer, state)

    def _moved(
        self, envelope: Envelope, m: Any, account: int, instrument: str, quantity: int, transfer: str, state: str
    ) -> list[Notice]:
        sellable = int(self.market.holdings[account, self.market.codes[instrument]]["sellable"])
        moved = msg.AllowancesMoved(
            instrument=instrument, quantity=quantity, sellable=sellable, transfer=transfer, state=state
        )
        return [self._done(envelope, m, transfer=transfer), Notice(moved, account)]

    # --- the day -------------------------------------------------------------------------------------------------

    def roll_day(self, envelope: Envelope, m: msg.RollDay) -> Answer:
        """D27: one command opens the day. WRONG_PHASE before the last day is closed and settled."""
        head, calendar = self.market.market[0], self.exchange.calendar
        if head["date"]:
            if not head["day_closed"]:
                return Refusal(Code.WRONG_PHASE, "date", f"{head['date']} is not closed yet")
            if head["deals"] and self.market.rules.accounts and not head["settled"]:
                return Refusal(Code.WRONG_PHASE, "date", f"{head['date']} is not settled yet")
            if m.date <= head["date"]:
                return Refusal(Code.BAD_FIELD, "date", f"{m.date} is not after {head['date']}")
        try:
            if calendar is not None and not calendar.is_trading_day(m.date):
                return Refusal(Code.BAD_FIELD, "date", f"{m.date} is not a trading day")
            self.market.rules.boundaries_ns(m.date)
        except ValueError as error:
            return Refusal(Code.BAD_FIELD, "date", str(error))
        for code in m.references:
            if code not in self.market.codes:
                return Refusal(Code.UNKNOWN_INSTRUMENT, "references", f"{code} is not listed")
        rows = self.market.instruments
        for code, index in self.market.codes.items():
            try:  # before anything changes: a half-rolled day could not be repaired
                if rows[index]["listed"]:
                    self.market.band(m.references.get(code, int(rows[index]["close"])), m.date)
            except ValueError as error:
                return Refusal(Code.CAPACITY, "references", f"{code}: {error}")
        for code, reference in m.references.items():
            self.market.instruments[self.market.codes[code]]["close"] = reference
        if m.composite:
            head["composite_close"] = m.composite
        self.market.roll(m.date)
        data = {"date": m.date, "references": self._references()}
        return [self._done(envelope, m, date=m.date), Notice(msg.MarketNotice(what="day", data=data), public=True)]

    def _references(self) -> dict[str, list[int]]:
        rows = self.market.instruments
        return {
            code: [int(rows[i][name]) for name in ("reference", "limit_low", "limit_high", "bulk_low", "bulk_high")]
            for code, i in self.market.codes.items()
            if rows[i]["listed"]
        }

    def close_the_day(self, envelope: Envelope, m: msg.CloseDay) -> Answer:
        """R5.3, R6.4, R7.4: lapse, closes, composite. WRONG_PHASE before 15:00, WRONG_STATE a second time."""
        head = self.market.market[0]
        if not head["date"] and not head["around_the_clock"]:
            return Refusal(Code.WRONG_PHASE, "", "no day is open")
        if head["day_closed"]:
            return Refusal(Code.WRONG_STATE, "", "the day is closed already")
        if not head["around_the_clock"] and self.market.phase(envelope.time_ns) != CLOSED:
            return Refusal(Code.WRONG_PHASE, "", "the market is open until its closing time")
        notices = self.exchange.desk.close_day(envelope) + self.exchange.auctions.close_day(envelope)
        lapsed = self.exchange.cancel_orders(envelope, int(Reason.CLOSE))
        return [*notices, Notice(close_market(self.market, lapsed), public=True), self._done(envelope, m)]

    def correct_bulletin(self, envelope: Envelope, m: msg.CorrectBulletin) -> Answer:
        """D29: the result of the closed day as its deals now stand; a notice before it says why. Changes no state."""
        head = self.market.market[0]
        if not head["day_closed"]:
            return Refusal(Code.WRONG_PHASE, "", "no day is closed, or the next one is open already")
        why = msg.MarketNotice(what="bulletin_correction", text=m.why, data={"date": int(head["date"])})
        result = day_result(self.market, 0)
        return [Notice(why, public=True), Notice(result, public=True), self._done(envelope, m, date=int(head["date"]))]

    def settle_day(self, envelope: Envelope, m: msg.SettleDay) -> Answer:
        """The registry has delivered: proceeds become withdrawable (R5.5, D27)."""
        head = self.market.market[0]
        if m.date != head["date"] or not head["day_closed"]:
            return Refusal(Code.WRONG_PHASE, "date", f"the day to settle is {head['date']}, after its close")
        if head["settled"]:
            return Refusal(Code.WRONG_STATE, "date", "the day is settled already")
        head["settled"] = 1
        self.market.accounts["proceeds_today"] = 0
        notice = msg.MarketNotice(what="settled", data={"date": m.date, "digest": m.digest})
        return [self._done(envelope, m, date=m.date), Notice(notice, public=True)]

    def phase_mark(self, envelope: Envelope, m: msg.PhaseMark) -> Answer:
        """D2: tells everybody which phase the time has brought; desk and auctions end what has run out."""
        phase = self.market.phase(envelope.time_ns)
        bulk = self.market.bulk_is_open(envelope.time_ns)
        notice = msg.MarketNotice(what="phase", data={"phase": phase, "bulk_open": bulk})
        ended = [*self.exchange.desk.tick(envelope), *self.exchange.auctions.tick(envelope)]
        return [Notice(notice, public=True), *ended]

    # --- halts and corrections --------------------------------------------------------------------------------------

    def halt(self, envelope: Envelope, m: msg.Halt | msg.Resume) -> Answer:
        """R14.2, D15, D22: sets or lifts the halt of the market or of one instrument."""
        on = isinstance(m, msg.Halt)
        if m.instrument is None:
            target = self.market.market[0]
        else:
            index = self.market.instrument_index(m.instrument)
            if index is None:
                return Refusal(Code.UNKNOWN_INSTRUMENT, "instrument")
            target = self.market.instruments[index]
        if bool(target["halted"]) == on:
            return Refusal(Code.WRONG_STATE, "instrument", "halted already" if on else "not halted")
        target["halted"] = on
        notice = msg.MarketNotice(what="halt" if on else "resume", instrument=m.instrument or "", text=m.why)
        return [self._done(envelope, m), Notice(notice, public=True)]

    def cancel_only(self, envelope: Envelope, m: msg.CancelOnly) -> Answer:
        """Cancel-only mode of the whole exchange."""
        self.market.market[0]["cancel_only"] = m.on
        notice = msg.MarketNotice(what="cancel_only" if m.on else "cancel_only_off", text=m.why)
        return [self._done(envelope, m), Notice(notice, public=True)]

    def cancel_orders(self, envelope: Envelope, m: msg.CancelOrders) -> Answer:
        """Cancels open listed orders of a session, an account or an instrument; one of them must be named."""
        index = self.market.codes.get(m.instrument) if m.instrument is not None else 0xFFFF
        if index is None:
            return Refusal(Code.UNKNOWN_INSTRUMENT, "instrument")
        if m.account is None and not m.session and m.instrument is None:
            return Refusal(Code.BAD_FIELD, "account", "name an account, a session or an instrument")
        account = -1 if m.account is None else m.account
        count = self.exchange.cancel_orders(envelope, m.reason, account, m.session or -1, index)
        return [self._done(envelope, m, cancelled=count)]

    def cancel_deal(self, envelope: Envelope, m: msg.CancelDeal) -> Answer:
        """D28: two persons, before clearing, and only when both sides can give back what they got."""
        head, market = self.market.market[0], self.market
        if m.by == m.second:
            return Refusal(Code.TWO_PERSONS_REQUIRED, "second")
        if head["settled"]:
            return Refusal(Code.WRONG_PHASE, "number", "the day is cleared already")
        if m.number > head["deals"] or not market.rules.accounts:
            return Refusal(Code.UNKNOWN_DEAL, "number")
        deal = market.deals[m.number - 1]
        if deal["flags"] & DEAL_CANCELLED:
            return Refusal(Code.WRONG_STATE, "number", "it is cancelled already")
        quantity, amount = int(deal["quantity"]), int(deal["price"]) * int(deal["quantity"])
        proceeds = amount - int(deal["seller_fee"])
        bucket = "bought_today" if market.rules.t_plus_one else "sellable"
        got = market.holdings[deal["buyer"], deal["instrument"]]
        gave = market.holdings[deal["seller"], deal["instrument"]]
        buyer, seller = market.accounts[deal["buyer"]], market.accounts[deal["seller"]]
        if got[bucket] < quantity:
            return Refusal(Code.NOT_REVERSIBLE, "number", "the buyer no longer has the allowances")
        if seller["available"] < proceeds:
            return Refusal(Code.NOT_REVERSIBLE, "number", "the seller no longer has the proceeds")
        got[bucket] -= quantity
        gave["sellable"] += quantity
        gave["sold_today"] -= quantity
        seller["available"] -= proceeds
        seller["proceeds_today"] = max(0, int(seller["proceeds_today"]) - proceeds)
        seller["fees_today"] -= deal["seller_fee"]
        buyer["available"] += amount + int(deal["buyer_fee"])
        buyer["fees_today"] -= deal["buyer_fee"]
        self._give_back_fees(int(deal["buyer_fee"]) + int(deal["seller_fee"]))
        deal["flags"] |= DEAL_CANCELLED
        rebuild_statistics(market)
        if head["day_closed"]:
            composite_on_close(market)
        code = market.code_of(int(deal["instrument"]))
        notice = msg.DealCancelled(
            number=m.number, instrument=code, price=int(deal["price"]), quantity=quantity, why=m.why
        )
        parties = [Notice(notice, int(deal["buyer"])), Notice(notice, int(deal["seller"]))]
        public = [Notice(notice, public=True)] if deal["method"] == LISTED else []
        return [self._done(envelope, m, number=m.number), *parties, *public]

    def _give_back_fees(self, fee: int) -> None:
        """Takes a cancelled deal's fees out of what was collected, the settlement fees first."""
        head = self.market.market[0]
        settlement = min(fee, int(head["settlement_fees"]))
        head["settlement_fees"] -= settlement
        head["trading_fees"] -= fee - settlement

    def send_statement(self, envelope: Envelope, m: msg.SendStatement) -> Answer:
        """R12.4: the registry's word to one trader; the market's state stays as it is."""
        if self.market.account_code(m.account) != Code.OK:
            return Refusal(Code.UNKNOWN_ACCOUNT, "account")
        statement = msg.Statement(date=m.date, digest=m.digest, lines=m.lines, closing=m.closing)
        return [self._done(envelope, m), Notice(statement, m.account)]

    def publish_notice(self, envelope: Envelope, m: msg.PublishNotice) -> Answer:
        """D30."""
        return [self._done(envelope, m), Notice(msg.MarketNotice(what="notice", text=m.text), public=True)]


HANDLERS: dict[type, Callable[[Administration, Envelope, Any], Answer]] = {
    msg.OpenAccount: Administration.open_account,
    msg.SetAccountStatus: Administration.set_account_status,
    msg.SetLimits: Administration.set_limits,
    msg.OpenSession: Administration.open_session,
    msg.RevokeSession: Administration.revoke_session,
    msg.ListInstrument: Administration.list_instrument,
    msg.RetireInstrument: Administration.retire_instrument,
    msg.Deposit: Administration.deposit,
    msg.Withdraw: Administration.withdraw,
    msg.TransferIn: Administration.transfer_in,
    msg.TransferOut: Administration.transfer_out,
    msg.TransferOutDone: Administration.transfer_out_done,
    msg.RollDay: Administration.roll_day,
    msg.CloseDay: Administration.close_the_day,
    msg.CorrectBulletin: Administration.correct_bulletin,
    msg.SettleDay: Administration.settle_day,
    msg.SendStatement: Administration.send_statement,
    msg.PhaseMark: Administration.phase_mark,
    msg.Halt: Administration.halt,
    msg.Resume: Administration.halt,
    msg.CancelOnly: Administration.cancel_only,
    msg.CancelOrders: Administration.cancel_orders,
    msg.CancelDeal: Administration.cancel_deal,
    msg.PublishNotice: Administration.publish_notice,
}
