"""The slow-lane messages of the naive reference: accounts, money, halts, the close and the roll of the day.

Only what touches the listed market's state is modelled; notices are not written. A message that is refused changes
nothing and says so by returning its code.
"""

from __future__ import annotations

from functools import singledispatchmethod

from engine import market as m
from engine import messages as msg
from engine.codes import Code, Reason
from engine.prices import composite_price, price_limits
from engine.reference import Command, ReferenceMarket
from engine.reference_state import Account, Holding, Instrument, Side
from engine.rules import AMOUNT_MAX_FEN, QUANTITY_MAX_T, Policy, in_force


class ReferenceExchange(ReferenceMarket):
    """The reference with its slow lane. :meth:`execute` applies one message."""

    def execute(self, command: Command, message: msg.Message) -> Code:
        """Applies a message under its envelope; events (lapsed and cancelled orders) are appended to ``events``."""
        self.command = command
        self.seq, self.time_ns = command.seq, command.time_ns
        code = self.register_request()
        return code if code != Code.OK else self.handle(message)

    @singledispatchmethod
    def handle(self, message: msg.Message) -> Code:
        """One message's effect; its code is OK when it took effect."""
        raise NotImplementedError(f"the reference does not model {type(message).__name__}")

    # --- accounts ------------------------------------------------------------------------------------------------

    def account(self, number: int) -> Account | None:
        """An account that is open."""
        known = number < len(self.accounts) and self.accounts[number].status != m.NOT_OPENED
        return self.accounts[number] if known else None

    def index_ever(self, code: str) -> int | None:
        """Index of an instrument, retired or not: its holdings can still be moved."""
        found = [i for i, instrument in enumerate(self.instruments) if instrument.code == code.encode()]
        return found[0] if found else None

    def index(self, code: str) -> int | None:
        """Index of a listed instrument."""
        for index, instrument in enumerate(self.instruments):
            if instrument.code == code.encode() and instrument.listed:
                return index
        return None

    def holding_of(self, account: int, instrument: int) -> Holding:
        return self.holdings.setdefault((account, instrument), Holding())

    @handle.register
    def _(self, message: msg.OpenAccount) -> Code:
        if message.account >= len(self.accounts):
            return Code.CAPACITY
        account = self.accounts[message.account]
        if account.status != m.NOT_OPENED:
            return Code.ALREADY_EXISTS
        account.status = m.ACTIVE
        account.self_trade, account.group = message.self_trade, message.group
        account.open_orders_max = message.open_orders_max or self.rules.open_orders_max
        return Code.OK

    @handle.register
    def _(self, message: msg.SetAccountStatus) -> Code:
        account = self.account(message.account)
        if account is None:
            return Code.UNKNOWN_ACCOUNT
        two_persons = message.second and message.second != message.by
        if account.status != m.ACTIVE and message.status == m.ACTIVE and not two_persons:
            return Code.TWO_PERSONS_REQUIRED
        account.status = message.status
        return Code.OK

    @handle.register
    def _(self, message: msg.SetLimits) -> Code:
        index = self.index_ever(message.instrument)
        if self.account(message.account) is None:
            return Code.UNKNOWN_ACCOUNT
        if index is None:
            return Code.UNKNOWN_INSTRUMENT
        holding = self.holding_of(message.account, index)
        holding.position_max = message.position_max if message.position_max >= 0 else m.UNLIMITED
        holding.sell_max = message.sell_max if message.sell_max >= 0 else m.UNLIMITED
        return Code.OK

    @handle.register
    def _(self, message: msg.Deposit) -> Code:
        account = self.account(message.account)
        if account is None:
            return Code.UNKNOWN_ACCOUNT
        if message.document in self.documents:
            return Code.DUPLICATE_DOCUMENT
        cash = sum(a.available + a.locked for a in self.accounts) + self.trading_fees + self.settlement_fees
        if cash + message.amount > AMOUNT_MAX_FEN:
            return Code.CAPACITY
        self.documents.add(message.document)
        account.available += message.amount
        return Code.OK

    @handle.register
    def _(self, message: msg.Withdraw) -> Code:
        account = self.account(message.account)
        if account is None:
            return Code.UNKNOWN_ACCOUNT
        if message.document in self.documents:
            return Code.DUPLICATE_DOCUMENT
        if message.amount > account.available - account.proceeds_today:
            return Code.INSUFFICIENT_WITHDRAWABLE
        self.documents.add(message.document)
        account.available -= message.amount
        return Code.OK

    @handle.register
    def _(self, message: msg.TransferIn) -> Code:
        index = self.index_ever(message.instrument)
        if self.account(message.account) is None:
            return Code.UNKNOWN_ACCOUNT
        if index is None:
            return Code.UNKNOWN_INSTRUMENT
        if message.transfer in self.documents:
            return Code.DUPLICATE_DOCUMENT
        vintage = [h for (_, instrument), h in self.holdings.items() if instrument == index]
        if sum(h.position() - h.buy_open for h in vintage) + message.quantity > QUANTITY_MAX_T:
            return Code.CAPACITY
        self.documents.add(message.transfer)
        self.holding_of(message.account, index).sellable += message.quantity
        return Code.OK

    @handle.register
    def _(self, message: msg.TransferOut) -> Code:
        index = self.index_ever(message.instrument)
        if self.account(message.account) is None:
            return Code.UNKNOWN_ACCOUNT
        if index is None:
            return Code.UNKNOWN_INSTRUMENT
        holding = self.holding_of(message.account, index)
        if message.quantity > holding.sellable + holding.bought_today:
            return Code.INSUFFICIENT_ALLOWANCES
        if message.quantity > holding.sellable:
            return Code.BOUGHT_TODAY
        if message.transfer in self.documents:
            return Code.DUPLICATE_DOCUMENT
        self.documents.add(message.transfer)
        holding.sellable -= message.quantity
        holding.in_transfer += message.quantity
        self.transfers[message.transfer] = (message.account, index, message.quantity)
        return Code.OK

    @handle.register
    def _(self, message: msg.TransferOutDone) -> Code:
        if message.transfer not in self.transfers:
            return Code.UNKNOWN_TRANSFER
        account, index, quantity = self.transfers.pop(message.transfer)
        holding = self.holding_of(account, index)
        holding.in_transfer -= quantity
        if not message.posted:
            holding.sellable += quantity
        return Code.OK

    # --- halts, cancels ------------------------------------------------------------------------------------------

    @handle.register
    def _(self, message: msg.Halt) -> Code:
        return self.set_halted(message.instrument, True)

    @handle.register
    def _(self, message: msg.Resume) -> Code:
        return self.set_halted(message.instrument, False)

    def set_halted(self, code: str | None, halted: bool) -> Code:
        """Halts or resumes the market (None) or one vintage (R14.2)."""
        if code is None:
            if self.halted == halted:
                return Code.WRONG_STATE
            self.halted = halted
            return Code.OK
        index = self.index(code)
        if index is None:
            return Code.UNKNOWN_INSTRUMENT
        if self.instruments[index].halted == int(halted):
            return Code.WRONG_STATE
        self.instruments[index].halted = int(halted)
        return Code.OK

    @handle.register
    def _(self, message: msg.CancelOnly) -> Code:
        self.cancel_only = message.on
        return Code.OK

    @handle.register
    def _(self, message: msg.CancelOrders) -> Code:
        index = None if message.instrument is None else self.index_ever(message.instrument)
        if message.instrument is not None and index is None:
            return Code.UNKNOWN_INSTRUMENT
        if message.account is None and not message.session and index is None:
            return Code.BAD_FIELD
        for order in self.slots.in_slot_order():
            if (
                message.account in (None, order.account)
                and message.session in (0, order.session)
                and index in (None, order.instrument)
            ):
                self.cancel_resting(order, Reason(message.reason), 0)
        return Code.OK

    # --- the day -------------------------------------------------------------------------------------------------

    @handle.register
    def _(self, message: msg.ListInstrument) -> Code:
        if any(i.code == message.code.encode() for i in self.instruments):
            return Code.ALREADY_EXISTS
        if len(self.instruments) == self.capacity.instruments:
            return Code.CAPACITY
        composite = self.composite_close if self.day_closed else self.composite_previous
        reference = message.reference or composite  # R6.5
        if not reference:
            return Code.BAD_FIELD
        r, policy = self.rules, self.rules.policies.get(message.code, Policy())
        instrument = Instrument(
            tick=r.tick_fen,
            lot=r.lot_t,
            quantity_min=r.listed_quantity_min_t,
            quantity_max=min(r.listed_quantity_max_t, QUANTITY_MAX_T),
            best_levels=r.best_levels,
            listed=1,
            policy=m.LISTING if policy.matching == "listing" else m.CONTINUOUS,
            reach=m.BEST_LEVEL if policy.reach == "best_level" else m.BEST_FIVE_LEVELS,
            listed_from=self.date,
            code=message.code.encode(),
        )
        self.instruments.append(instrument)
        self.books.append((Side(0), Side(1)))
        self.set_reference(instrument, reference, self.date)
        self.set_weights(self.date)
        return Code.OK

    def set_reference(self, instrument: Instrument, reference: int, date: int) -> None:
        """Reference and limits of the day (R6.1, R6.2); without limits, a band around the reference (D17)."""
        limits, tick = in_force(self.rules.limits, date), instrument.tick
        instrument.reference = instrument.last = instrument.close = reference
        if limits.listed_bp:
            low, high = price_limits(reference, limits.listed_bp, tick)
            low = max(low, tick)
        else:
            levels = self.capacity.levels
            low = max(tick, (reference // tick - levels // 2) * tick)
            high = low + (levels - 1) * tick
        instrument.limit_low, instrument.limit_high, instrument.band_base = low, high, low
        instrument.n_levels = (high - low) // tick + 1
        instrument.bulk_low, instrument.bulk_high = 1, AMOUNT_MAX_FEN
        if limits.bulk_bp:
            instrument.bulk_low, instrument.bulk_high = price_limits(reference, limits.bulk_bp, 1)

    def set_weights(self, date: int) -> None:
        """Weights in the composite on a date (R7.2)."""
        weights = in_force(self.rules.weights, date).weights
        for instrument in self.instruments:
            instrument.weight = weights.get(instrument.code.decode(), 0) if instrument.listed else 0

    @handle.register
    def _(self, message: msg.CloseDay) -> Code:
        if self.day_closed:
            return Code.WRONG_STATE
        if not self.rules.around_the_clock and self.phase() != m.CLOSED:
            return Code.WRONG_PHASE
        for order in self.slots.in_slot_order():
            self.cancel_resting(order, Reason.CLOSE, 0)
        self.set_closes()
        self.day_closed = True
        return Code.OK

    def set_closes(self) -> None:
        """Closes of the vintages, then of the composite (R6.4, R7.4)."""
        dealt = False
        for instrument in self.instruments:
            if not instrument.listed:
                continue
            instrument.close = instrument.reference
            if instrument.volume:
                # half up; written out, so that the close does not rest on engine.prices alone
                instrument.close = (2 * instrument.amount + instrument.volume) // (2 * instrument.volume)
                dealt = True
        self.close_composite(dealt)

    def close_composite(self, dealt: bool) -> None:
        """Close of the composite, and what it does to high and low (R7.3, R7.4, D19)."""
        sample = [i for i in self.instruments if i.weight]
        if not sample:
            return  # no composite today; its previous close is carried on
        if not dealt:
            self.composite_close = self.composite_previous
            self.composite_open = self.composite_high = self.composite_low = self.composite_previous
            return
        self.composite_close = composite_price([i.close for i in sample], [i.weight for i in sample])
        if self.date >= self.rules.composite_close_in_range_from:
            self.composite_high = max(self.composite_high, self.composite_close)
            self.composite_low = min(self.composite_low, self.composite_close)

    @handle.register
    def _(self, message: msg.CorrectBulletin) -> Code:
        return Code.OK if self.day_closed else Code.WRONG_PHASE

    @handle.register
    def _(self, message: msg.CancelDeal) -> Code:
        if message.by == message.second:
            return Code.TWO_PERSONS_REQUIRED
        if self.settled:
            return Code.WRONG_PHASE
        if message.number > len(self.deals):
            return Code.UNKNOWN_DEAL
        deal = self.deals[message.number - 1]
        _, price, quantity, _, buyer_fee, seller_fee, buyer, seller, _, instrument, _, flags = deal
        if flags & m.DEAL_CANCELLED:
            return Code.WRONG_STATE
        got, gave = self.holding_of(buyer, instrument), self.holding_of(seller, instrument)
        proceeds = price * quantity - seller_fee
        if quantity > (got.bought_today if self.rules.t_plus_one else got.sellable):
            return Code.NOT_REVERSIBLE
        if proceeds > self.accounts[seller].available:
            return Code.NOT_REVERSIBLE
        if self.rules.t_plus_one:
            got.bought_today -= quantity
        else:
            got.sellable -= quantity
        gave.sellable += quantity
        gave.sold_today -= quantity
        self.accounts[buyer].available += price * quantity + buyer_fee
        self.accounts[buyer].fees_today -= buyer_fee
        self.accounts[seller].available -= proceeds
        self.accounts[seller].proceeds_today = max(0, self.accounts[seller].proceeds_today - proceeds)
        self.accounts[seller].fees_today -= seller_fee
        settlement = min(buyer_fee + seller_fee, self.settlement_fees)
        self.settlement_fees -= settlement
        self.trading_fees -= buyer_fee + seller_fee - settlement
        self.deals[message.number - 1] = (*deal[:-1], flags | m.DEAL_CANCELLED)
        self.recount()
        return Code.OK

    def recount(self) -> None:
        """The day's statistics once more, from the deals that still stand (D28)."""
        for instrument in self.instruments:
            self.clear_statistics(instrument)
            instrument.last = instrument.reference
        self.composite_open = self.composite_high = self.composite_low = 0
        self.composite_last = self.composite_previous
        for _, price, quantity, *_, instrument_index, _, flags in self.deals:
            if not flags & m.DEAL_CANCELLED:
                self.count(self.instruments[instrument_index], price, quantity)
        if self.day_closed:
            self.set_closes()

    @handle.register
    def _(self, message: msg.SettleDay) -> Code:
        if message.date != self.date or not self.day_closed:
            return Code.WRONG_PHASE
        if self.settled:
            return Code.WRONG_STATE
        self.settled = True
        for account in self.accounts:
            account.proceeds_today = 0
        return Code.OK

    @handle.register
    def _(self, message: msg.RetireInstrument) -> Code:
        index = self.index(message.code)
        if index is None:
            return Code.UNKNOWN_INSTRUMENT
        if any(side.levels for side in self.books[index]):
            return Code.WRONG_STATE
        if self.instruments[index].deals:
            return Code.WRONG_PHASE
        self.instruments[index].listed = 0
        self.set_weights(self.date)
        return Code.OK

    @handle.register
    def _(self, message: msg.RollDay) -> Code:
        if self.date and not self.day_closed:
            return Code.WRONG_PHASE
        if self.date and self.deal_number and self.rules.accounts and not self.settled:
            return Code.WRONG_PHASE
        if self.date and message.date <= self.date:
            return Code.BAD_FIELD
        if any(self.index_ever(code) is None for code in message.references):
            return Code.UNKNOWN_INSTRUMENT
        for holding in self.holdings.values():
            holding.sellable += holding.bought_today
            holding.bought_today = holding.sold_today = 0
        for account in self.accounts:
            account.proceeds_today = account.fees_today = 0
        self.date = message.date
        self.morning_open, self.morning_end, self.afternoon_open, self.close = self.rules.boundaries_ns(message.date)
        fees = in_force(self.rules.fees, message.date)
        self.trading_ppm, self.settlement_ppm = fees.trading_ppm, fees.settlement_ppm
        self.deals, self.deal_number = [], 0
        self.day_closed = self.settled = False
        self.composite_previous = message.composite or self.composite_close or self.composite_previous
        self.composite_open = self.composite_high = self.composite_low = self.composite_close = 0
        self.composite_last = self.composite_previous
        for instrument in self.instruments:
            self.start_day(instrument, message)
        self.set_weights(message.date)
        return Code.OK

    def start_day(self, instrument: Instrument, message: msg.RollDay) -> None:
        """Clears a vintage's statistics; its reference is its close, or what the message says (R6.4)."""
        self.clear_statistics(instrument)
        if instrument.listed:
            reference = message.references.get(instrument.code.decode(), instrument.close)
            self.set_reference(instrument, reference, message.date)

    def clear_statistics(self, instrument: Instrument) -> None:
        """The day's figures of a vintage are as before its first deal."""
        instrument.open = instrument.high = instrument.low = 0
        instrument.volume = instrument.amount = instrument.deals = 0
        instrument.bulk_volume = instrument.bulk_amount = 0
        instrument.auction_volume = instrument.auction_amount = 0
