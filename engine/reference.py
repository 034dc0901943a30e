"""The listed market once more, naive and readable: the other side of the proof by difference.

Written from docs/matching.md alone, with dicts, deques and a sorted dict of price levels; one order at a time, one
rule after the other. It shares with the kernel the record layouts, the codes, the configuration and the price
arithmetic of ``engine.prices``, and nothing else. Same commands in, byte-identical EVENT records out, and the same
state: tests/test_difference.py holds the two against each other. About a thousand times slower than the kernel.

The slow-lane messages that touch the listed market (accounts, money, halts, close, roll) are in
``engine.reference_day``; the desk and the auction are not modelled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine import market as m
from engine import records as r
from engine.codes import Code, Reason
from engine.prices import divide_half_up, fee_fen
from engine.reference_state import Account, Holding, Instrument, Order, Side, Slots
from engine.rules import AMOUNT_MAX_FEN, TURNOVER_MAX_FEN, Rules


@dataclass(frozen=True, slots=True)
class Command:
    """One COMMAND record as Python integers."""

    seq: int
    time_ns: int
    price: int
    quantity: int
    order_id: int
    token: int
    request_no: int
    account: int
    session: int
    instrument: int
    kind: int
    side: int
    order_type: int
    flags: int


class ReferenceMarket:
    """A market of ``rules``. :meth:`apply` takes COMMAND records and returns EVENT records."""

    def __init__(self, rules: Rules, capacity: m.Capacity) -> None:
        self.rules = rules
        self.capacity = capacity
        self.slots = Slots(capacity.orders)
        self.accounts = [Account() for _ in range(capacity.accounts)]
        self.holdings: dict[tuple[int, int], Holding] = {}
        self.instruments: list[Instrument] = []
        self.books: list[tuple[Side, Side]] = []
        self.last_request: dict[int, int] = {}
        self.documents: set[str] = set()
        self.transfers: dict[str, tuple[int, int, int]] = {}  # out, pending: account, instrument, quantity
        self.deals: list[tuple[int, ...]] = []
        self.deal_number = 0
        self.seq = self.time_ns = 0
        self.halted = self.cancel_only = self.day_closed = self.settled = False
        self.date = self.morning_open = self.morning_end = self.afternoon_open = self.close = 0
        self.trading_ppm = self.settlement_ppm = 0
        self.trading_fees = self.settlement_fees = 0
        self.composite_open = self.composite_high = self.composite_low = 0
        self.composite_last = self.composite_close = self.composite_previous = 0
        self.command: Command
        self.events: list[tuple[int, ...]] = []

    # --- in and out ------------------------------------------------------------------------------------------

    def apply(self, commands: np.ndarray) -> np.ndarray:
        """Applies listed-market commands (COMMAND, shape (n,)) and returns their events (EVENT, shape (k,))."""
        self.events = []
        for record in commands.tolist():
            self.one(Command(*record))
        return np.array(self.events, r.EVENT)

    def one(self, command: Command) -> None:
        """Applies one listed-market command; its events are appended to ``events``."""
        self.command = command
        self.seq, self.time_ns = command.seq, command.time_ns
        code = self.register_request()
        if code == Code.OK:
            handler = {
                r.NEW: self.new,
                r.CANCEL: self.cancel,
                r.REDUCE: self.reduce,
                r.REPLACE: self.replace,
                r.TAKE: self.take,
                r.MASS_CANCEL: self.mass_cancel,
            }.get(command.kind)
            code = handler() if handler is not None else Code.UNKNOWN_KIND
        if code != Code.OK:
            self.reject(code)

    def register_request(self) -> Code:
        """Request numbers rise within a session; a reject of the market consumes its number too (D4)."""
        c = self.command
        if c.session > 0 and c.request_no > 0:
            if c.request_no <= self.last_request.get(c.session, 0):
                return Code.DUPLICATE_REQUEST
            self.last_request[c.session] = c.request_no
        return Code.OK

    def emit(
        self, kind: int, order: Order, *, price: int, quantity: int, leaves: int, ref: int, reason: int = 0
    ) -> None:
        """An event of an order, to the order's session."""
        c = self.command
        head = (c.seq, c.time_ns, price, quantity, leaves, order.id, order.account, ref)
        self.events.append((*head, order.session, order.instrument, kind, order.side, reason))

    def reject(self, code: Code) -> None:
        """A refusal repeats the terms of its command; ``leaves`` says when the market opens next (D15)."""
        c = self.command
        opens = 0
        if code in (Code.MARKET_CLOSED, Code.MARKET_BREAK):
            opens = {m.PRE_OPEN: self.morning_open, m.BREAK: self.afternoon_open}.get(self.phase(), 0)
        head = (c.seq, c.time_ns, c.price, c.quantity, opens, c.order_id, c.account, c.request_no)
        self.events.append((*head, c.session, c.instrument, r.REJECTED, c.side, int(code)))

    # --- what may be done now ----------------------------------------------------------------------------------

    def phase(self) -> int:
        """Phase at the command's own time (D2); a boundary instant belongs to the later phase."""
        time_ns = self.command.time_ns
        if self.rules.around_the_clock:
            return m.MORNING
        if self.day_closed or time_ns >= self.close:
            return m.CLOSED
        if time_ns >= self.afternoon_open:
            return m.AFTERNOON
        if time_ns >= self.morning_end:
            return m.BREAK
        return m.MORNING if time_ns >= self.morning_open else m.PRE_OPEN

    def may_trade(self, instrument: Instrument) -> Code:
        """Phase, halts, the account's state: for commands that can lead to a deal."""
        phase = self.phase()
        if phase in (m.PRE_OPEN, m.CLOSED):
            return Code.MARKET_CLOSED
        if phase == m.BREAK:
            return Code.MARKET_BREAK
        if self.halted:
            return Code.MARKET_HALTED
        if instrument.halted:
            return Code.INSTRUMENT_HALTED
        if self.cancel_only:
            return Code.CANCEL_ONLY
        if self.rules.accounts:
            status = self.accounts[self.command.account].status
            if status == m.SUSPENDED:
                return Code.ACCOUNT_SUSPENDED
            if status == m.ACCOUNT_CANCEL_ONLY:
                return Code.ACCOUNT_CANCEL_ONLY
        return Code.OK

    def known_account(self) -> Code:
        """The account exists (without accounts: any number will do)."""
        account = self.command.account
        if not self.rules.accounts:
            return Code.OK
        known = account < len(self.accounts) and self.accounts[account].status != m.NOT_OPENED
        return Code.OK if known else Code.UNKNOWN_ACCOUNT

    def known_instrument(self) -> Code:
        """The instrument exists and is listed."""
        number = self.command.instrument
        known = number < len(self.instruments) and self.instruments[number].listed
        return Code.OK if known else Code.UNKNOWN_INSTRUMENT

    def own_order(self) -> tuple[Code, Order | None]:
        """The account's own open order that the command names."""
        code = self.known_account()
        if code != Code.OK:
            return code, None
        order = self.slots.find(self.command.order_id)
        if order is None or order.account != self.command.account:
            return Code.ORDER_NOT_OPEN, None
        return Code.OK, order

    # --- checks of terms -----------------------------------------------------------------------------------------

    def check_price(self, instrument: Instrument, price: int) -> Code:
        """Tick, then the day's limits (R1.2, R6.1); a price that is none at all is below every limit."""
        if price <= 0:
            return Code.PRICE_BELOW_LIMIT
        if price % instrument.tick:
            return Code.BAD_TICK
        if price > instrument.limit_high:
            return Code.PRICE_ABOVE_LIMIT
        return Code.PRICE_BELOW_LIMIT if price < instrument.limit_low else Code.OK

    def check_quantity(self, instrument: Instrument, price: int, quantity: int) -> Code:
        """Bounds of one order (R4.1), the lot, and what int64 can represent."""
        if quantity < instrument.quantity_min:
            return Code.QUANTITY_TOO_SMALL
        if quantity > instrument.quantity_max:
            return Code.QUANTITY_TOO_LARGE
        if quantity % instrument.lot:
            return Code.BAD_LOT
        return Code.AMOUNT_TOO_LARGE if price * quantity > AMOUNT_MAX_FEN else Code.OK

    def check_room(self) -> Code:
        """The account's bound on open orders, then the exchange's."""
        if self.rules.accounts:
            account = self.accounts[self.command.account]
            if account.open_orders >= account.open_orders_max:
                return Code.OPEN_ORDERS_LIMIT
        return Code.ORDER_POOL_FULL if self.slots.full() else Code.OK

    def check_funds(self, order: Order, old: Order | None = None) -> Code:
        """Cash or allowances for the lock of ``order``, where that of ``old`` is free (R5.1, R5.5, R14.1, R14.4).

        An order that becomes smaller is held against neither position limit nor sell cap.
        """
        if not self.rules.accounts:
            return Code.OK
        holding = self.holding(order)
        freed = old.leaves if old is not None else 0
        if order.side == r.BUY:
            cash = self.accounts[order.account].available + (self.cash_lock(old) if old is not None else 0)
            if self.cash_lock(order) > cash:
                return Code.INSUFFICIENT_CASH
            if order.leaves > freed and holding.position() - freed + order.leaves > holding.position_max:
                return Code.POSITION_LIMIT
            return Code.OK
        sellable = holding.sellable + freed
        if order.leaves > sellable + holding.bought_today:
            return Code.INSUFFICIENT_ALLOWANCES
        if order.leaves > sellable:
            return Code.BOUGHT_TODAY
        if order.leaves > freed and holding.sold_today + holding.locked - freed + order.leaves > holding.sell_max:
            return Code.SELL_CAP
        return Code.OK

    # --- the books ---------------------------------------------------------------------------------------------

    def own_side(self, order: Order) -> Side:
        return self.books[order.instrument][order.side]

    def opposite(self, order: Order) -> Side:
        return self.books[order.instrument][1 - order.side]

    def would_trade(self, order: Order) -> bool:
        """True when the best opposite price is within the order's limit."""
        best = self.opposite(order).best_price()
        return best is not None and order.crosses(best)

    def within_reach(self, order: Order) -> list[Order]:
        """Resting orders that an incoming one may meet, in the order in which it meets them (R8.1, R8.2)."""
        best_levels = self.instruments[order.instrument].best_levels
        found: list[Order] = []
        for count, (price, queue) in enumerate(self.opposite(order)):
            if (best_levels and count >= best_levels) or not order.crosses(price):
                break
            found.extend(queue)
        return found

    def fillable(self, order: Order) -> bool:
        """Fill-or-kill, judged before anything changes: others' orders within reach (D12, D13)."""
        quantity = 0
        for resting in self.within_reach(order):
            if self.is_self_trade(order, resting):
                if self.self_trade_mode(order) != m.CANCEL_RESTING:
                    break
                continue
            quantity += resting.leaves
        return quantity >= order.leaves

    def is_self_trade(self, order: Order, resting: Order) -> bool:
        return self.rules.self_trade_prevention and order.account == resting.account

    def self_trade_mode(self, order: Order) -> int:
        """The incoming account's way to prevent a self-trade (R8.5)."""
        return self.accounts[order.account].self_trade if order.account < len(self.accounts) else m.CANCEL_INCOMING

    # --- locks -------------------------------------------------------------------------------------------------

    def holding(self, order: Order) -> Holding:
        return self.holdings.setdefault((order.account, order.instrument), Holding())

    def fees(self, amount: int) -> tuple[int, int]:
        """Trading and settlement fee on a running total, each half up (R5.7, D16)."""
        return fee_fen(amount, self.trading_ppm), fee_fen(amount, self.settlement_ppm)

    def cash_lock(self, order: Order) -> int:
        """What a buy order holds: the price of its leaves and the fees that they can still cost (D16)."""
        amount = order.price * order.leaves
        return amount + sum(self.fees(order.filled_amount + amount)) - sum(self.fees(order.filled_amount))

    def lock(self, order: Order) -> None:
        """Takes the lock of an order's terms (R5.2)."""
        if not self.rules.accounts:
            return
        account, holding = self.accounts[order.account], self.holding(order)
        if order.side == r.BUY:
            account.available -= self.cash_lock(order)
            account.locked += self.cash_lock(order)
            holding.buy_open += order.leaves
        else:
            holding.sellable -= order.leaves
            holding.locked += order.leaves

    def unlock(self, order: Order) -> None:
        """Gives back the lock of an order's terms."""
        if not self.rules.accounts:
            return
        account, holding = self.accounts[order.account], self.holding(order)
        if order.side == r.BUY:
            account.available += self.cash_lock(order)
            account.locked -= self.cash_lock(order)
            holding.buy_open -= order.leaves
        else:
            holding.sellable += order.leaves
            holding.locked -= order.leaves

    # --- an order's life -----------------------------------------------------------------------------------------

    def open(self, order: Order) -> None:
        """A new order takes a slot and its lock."""
        order.slot, order.generation = self.slots.take()
        self.slots.orders[order.slot] = order
        if self.rules.accounts:
            self.accounts[order.account].open_orders += 1
        self.lock(order)

    def end(self, order: Order) -> None:
        """An order that holds nothing any more gives back its slot."""
        assert order.leaves == 0, "only an order without leaves is over"
        self.slots.give_back(order)
        if self.rules.accounts:
            self.accounts[order.account].open_orders -= 1

    def cancel_rest(self, order: Order, reason: Reason, ref: int) -> None:
        """Cancels what is left of an order that stands in no book."""
        self.unlock(order)
        quantity, order.leaves = order.leaves, 0
        self.emit(r.CANCELLED, order, price=order.price, quantity=quantity, leaves=0, ref=ref, reason=reason)
        self.end(order)

    def cancel_resting(self, order: Order, reason: Reason, ref: int) -> None:
        """Cancels a resting order."""
        self.own_side(order).remove(order)
        self.cancel_rest(order, reason, ref)

    def new(self) -> Code:
        """NEW: checks, ACCEPTED, matching, rest."""
        c = self.command
        code = self.known_instrument() or self.known_account()
        if code != Code.OK:
            return code
        instrument = self.instruments[c.instrument]
        if c.flags & r.EXPIRES and c.time_ns > c.order_id:
            return Code.STALE
        code = self.may_trade(instrument)
        if code != Code.OK:
            return code
        if c.side not in (r.BUY, r.SELL):
            return Code.BAD_SIDE
        if c.order_type not in (r.LIMIT, r.IOC, r.FOK, r.BEST_FIVE, r.POST_ONLY):
            return Code.BAD_ORDER_TYPE
        if instrument.policy == m.LISTING and c.order_type != r.LIMIT:
            return Code.WRONG_POLICY
        price = c.price
        if c.order_type == r.BEST_FIVE and price == 0:
            price = instrument.limit_high if c.side == r.BUY else instrument.limit_low
        code = self.check_price(instrument, price) or self.check_quantity(instrument, price, c.quantity)
        if code != Code.OK:
            return code
        post_only = c.order_type == r.POST_ONLY
        order = Order(0, 0, c.account, c.session, c.instrument, c.side, price, c.quantity, post_only)
        if post_only and self.would_trade(order):
            return Code.POST_ONLY_WOULD_TRADE
        if c.order_type == r.FOK and not self.fillable(order):
            return Code.NOT_FILLABLE
        code = self.check_room() or self.check_funds(order)
        if code != Code.OK:
            return code
        self.open(order)
        self.emit(r.ACCEPTED, order, price=price, quantity=c.quantity, leaves=c.quantity, ref=c.request_no)
        self.match(order)
        self.place_rest(order, c.order_type)
        return Code.OK

    def match(self, order: Order) -> None:
        """Trades an incoming order with what it may reach; a self-trade may end it (R8.1, R8.2, R8.5)."""
        if self.instruments[order.instrument].policy == m.LISTING:
            return
        for resting in self.within_reach(order):
            if order.leaves == 0:
                break
            if not self.is_self_trade(order, resting):
                if self.is_counted_out(resting, order):
                    self.cancel_rest(order, Reason.TURNOVER_LIMIT, self.command.request_no)
                    return
                self.deal(resting, order, min(resting.leaves, order.leaves))
                continue
            mode = self.self_trade_mode(order)
            if mode in (m.CANCEL_RESTING, m.CANCEL_BOTH):
                self.cancel_resting(resting, Reason.SELF_TRADE, 0)
            if mode in (m.CANCEL_INCOMING, m.CANCEL_BOTH):
                self.cancel_rest(order, Reason.SELF_TRADE, self.command.request_no)
                return

    def is_counted_out(self, maker: Order, taker: Order) -> bool:
        """The day's turnover of the vintage, or what the seller got today, is more than a day can count."""
        seller = maker if maker.side == r.SELL else taker
        proceeds = self.accounts[seller.account].proceeds_today if self.rules.accounts else 0
        return max(self.instruments[maker.instrument].amount, proceeds) > TURNOVER_MAX_FEN

    def place_rest(self, order: Order, order_type: int) -> None:
        """What matching left of an order: rests, or is cancelled with a reason."""
        if order.slot not in self.slots.orders or self.slots.orders[order.slot] is not order:
            return  # ended by a self-trade
        if order.leaves == 0:
            self.end(order)
        elif order_type in (r.IOC, r.FOK, r.BEST_FIVE):
            self.cancel_rest(order, Reason.IOC_REST, self.command.request_no)
        elif self.instruments[order.instrument].policy == m.CONTINUOUS and self.would_trade(order):
            self.cancel_rest(order, Reason.BEYOND_BEST_FIVE, self.command.request_no)
        else:
            self.own_side(order).add(order)

    def deal(self, maker: Order, taker: Order, quantity: int) -> None:
        """One deal at the maker's price: both sides' books, the statistics, the two events."""
        price = self.deal_price(maker, taker)
        buyer, seller = (taker, maker) if taker.side == r.BUY else (maker, taker)
        buyer_fee = self.book_purchase(buyer, price, quantity)
        seller_fee = self.book_sale(seller, price, quantity)
        maker.leaves -= quantity
        taker.leaves -= quantity
        for order in (maker, taker):
            order.filled += quantity
            order.filled_amount += price * quantity
        self.count(self.instruments[maker.instrument], price, quantity)
        flags = m.DEAL_BUYER_TAKES if buyer is taker else 0
        self.deal_number = number = self.deal_number + 1
        if self.rules.accounts:  # else nobody clears them: they are only counted
            terms = (self.time_ns, price, quantity, self.seq, buyer_fee, seller_fee, buyer.account, seller.account)
            self.deals.append((*terms, number, maker.instrument, m.LISTED, flags))
        self.emit(r.FILL_MAKER, maker, price=price, quantity=quantity, leaves=maker.leaves, ref=number)
        self.emit(r.FILL_TAKER, taker, price=price, quantity=quantity, leaves=taker.leaves, ref=number)
        if maker.leaves == 0 and maker is not taker:
            self.leave_book_filled(maker)

    def deal_price(self, maker: Order, taker: Order) -> int:
        """Always the resting order's price (R8.1)."""
        return maker.price

    def leave_book_filled(self, maker: Order) -> None:
        """A filled maker is the first in its queue; it leaves the book and its slot is free."""
        self.own_side(maker).remove(maker)
        self.end(maker)

    def fill_fees(self, order: Order, amount: int) -> tuple[int, int]:
        """Trading and settlement fee that a fill adds to the order's running total (D16)."""
        before, after = self.fees(order.filled_amount), self.fees(order.filled_amount + amount)
        return after[0] - before[0], after[1] - before[1]

    def book_purchase(self, order: Order, price: int, quantity: int) -> int:
        """The buyer pays out of its lock and gets back what the lock held beyond price and fee. Returns the fee."""
        amount = price * quantity
        trading, settlement = self.fill_fees(order, amount)
        if not self.rules.accounts:
            return trading + settlement
        account, holding = self.accounts[order.account], self.holding(order)
        later = Order(0, 0, order.account, 0, order.instrument, order.side, order.price, order.leaves - quantity)
        later.filled_amount = order.filled_amount + amount
        released = self.cash_lock(order) - self.cash_lock(later)
        account.locked -= released
        account.available += released - amount - trading - settlement
        account.fees_today += trading + settlement
        holding.buy_open -= quantity
        if self.rules.t_plus_one:
            holding.bought_today += quantity
        else:
            holding.sellable += quantity
        self.trading_fees += trading
        self.settlement_fees += settlement
        return trading + settlement

    def book_sale(self, order: Order, price: int, quantity: int) -> int:
        """The seller delivers out of its lock; the proceeds less fees are usable at once (R5.5). Returns the fee."""
        amount = price * quantity
        trading, settlement = self.fill_fees(order, amount)
        trading = min(trading, amount)
        settlement = min(settlement, amount - trading)
        if not self.rules.accounts:
            return trading + settlement
        account, holding = self.accounts[order.account], self.holding(order)
        holding.locked -= quantity
        holding.sold_today += quantity
        account.available += amount - trading - settlement
        account.proceeds_today += amount - trading - settlement
        account.fees_today += trading + settlement
        self.trading_fees += trading
        self.settlement_fees += settlement
        return trading + settlement

    def count(self, instrument: Instrument, price: int, quantity: int) -> None:
        """Open, high, low, last, volume of the vintage (R6.3, R6.6) and the composite (R7.3, R7.4)."""
        first = instrument.deals == 0
        instrument.open = price if first else instrument.open
        instrument.high = price if first else max(instrument.high, price)
        instrument.low = price if first else min(instrument.low, price)
        instrument.last = price
        instrument.volume += quantity
        instrument.amount += price * quantity
        instrument.deals += 1
        weight = self.composite_weight()
        if weight == 0:
            return
        composite = divide_half_up(self.composite_sum(), weight)
        first = self.composite_open == 0
        self.composite_open = composite if first else self.composite_open
        self.composite_high = composite if first else max(self.composite_high, composite)
        self.composite_low = composite if first else min(self.composite_low, composite)
        self.composite_last = composite

    def composite_weight(self) -> int:
        return sum(i.weight for i in self.instruments)

    def composite_sum(self) -> int:
        """Σ weight × price; a vintage without a deal counts at its reference (R7.3)."""
        return sum(i.weight * i.last for i in self.instruments)

    # --- the other commands ------------------------------------------------------------------------------------

    def cancel(self) -> Code:
        """CANCEL: until the close, whatever else is halted (D15)."""
        code, order = self.own_order()
        if order is None:
            return code
        if self.phase() == m.CLOSED:
            return Code.MARKET_CLOSED
        self.cancel_resting(order, Reason.BY_OWNER, self.command.request_no)
        return Code.OK

    def reduce(self) -> Code:
        """REDUCE: takes a quantity away, the place in the queue stays."""
        c = self.command
        code, order = self.own_order()
        if order is None:
            return code
        if self.phase() == m.CLOSED:
            return Code.MARKET_CLOSED
        if c.quantity < 1:
            return Code.QUANTITY_TOO_SMALL
        if c.quantity % self.instruments[order.instrument].lot:
            return Code.BAD_LOT
        if c.quantity >= order.leaves:
            self.cancel_resting(order, Reason.REDUCED_TO_ZERO, c.request_no)
            return Code.OK
        self.unlock(order)
        order.leaves -= c.quantity
        self.lock(order)
        self.emit(r.REDUCED, order, price=order.price, quantity=c.quantity, leaves=order.leaves, ref=c.request_no)
        return Code.OK

    def replace(self) -> Code:
        """REPLACE: new price and new total, what is filled included (D11)."""
        c = self.command
        code, order = self.own_order()
        if order is None:
            return code
        instrument = self.instruments[order.instrument]
        code = self.may_trade(instrument) or self.check_price(instrument, c.price)
        if code != Code.OK:
            return code
        if c.quantity <= order.filled:
            self.cancel_resting(order, Reason.REPLACED_TO_FILLED, c.request_no)
            return Code.OK
        code = self.check_quantity(instrument, c.price, c.quantity)
        if code != Code.OK:
            return code
        leaves = c.quantity - order.filled
        new = Order(0, 0, order.account, c.session, order.instrument, order.side, c.price, leaves, order.post_only)
        new.filled_amount = order.filled_amount
        if order.post_only and self.would_trade(new):
            return Code.POST_ONLY_WOULD_TRADE
        code = self.check_funds(new, order)
        if code != Code.OK:
            return code
        keeps_place = c.price == order.price and leaves < order.leaves
        if not keeps_place:
            self.own_side(order).remove(order)
        self.unlock(order)
        order.price, order.leaves, order.session = c.price, leaves, c.session or order.session
        self.lock(order)
        self.emit(r.REPLACED, order, price=c.price, quantity=c.quantity, leaves=leaves, ref=c.request_no)
        if not keeps_place:
            self.match(order)
            self.place_rest(order, r.LIMIT)
        return Code.OK

    def take(self) -> Code:
        """TAKE: a quantity of one named listing, at its price (R8.4, D14)."""
        c = self.command
        code = self.known_account()
        if code != Code.OK:
            return code
        listing = self.slots.find(c.order_id)
        if listing is None:
            return Code.ORDER_NOT_OPEN
        instrument = self.instruments[listing.instrument]
        code = self.may_trade(instrument)
        if code != Code.OK:
            return code
        if instrument.policy != m.LISTING:
            return Code.WRONG_POLICY
        order = Order(0, 0, c.account, c.session, listing.instrument, 1 - listing.side, listing.price, c.quantity)
        if self.is_self_trade(order, listing):
            return Code.SELF_TRADE
        if not self.reachable(listing, instrument):
            return Code.OUT_OF_REACH
        code = (
            self.check_quantity(instrument, listing.price, c.quantity) or self.check_room() or self.check_funds(order)
        )
        if code != Code.OK:
            return code
        self.open(order)
        self.emit(r.ACCEPTED, order, price=order.price, quantity=c.quantity, leaves=c.quantity, ref=c.request_no)
        if self.is_counted_out(listing, order):
            self.cancel_rest(order, Reason.TURNOVER_LIMIT, c.request_no)
            return Code.OK
        self.deal(listing, order, min(listing.leaves, order.leaves))
        if order.leaves:
            self.cancel_rest(order, Reason.TAKEN_OUT, c.request_no)
        else:
            self.end(order)
        return Code.OK

    def reachable(self, listing: Order, instrument: Instrument) -> bool:
        """The listing lies at the best price, or within the best five, as the policy says (D14)."""
        prices = [price for price, _ in self.own_side(listing)]
        if instrument.reach == m.BEST_LEVEL:
            return listing.price == prices[0]
        return not instrument.best_levels or listing.price in prices[: instrument.best_levels]

    def mass_cancel(self) -> Code:
        """MASS_CANCEL: every open order of the account that fits, by rising slot, then the summary."""
        c = self.command
        code = Code.OK if c.instrument == r.ANY_INSTRUMENT else self.known_instrument()
        code = code or self.known_account()
        if code != Code.OK:
            return code
        if self.phase() == m.CLOSED:
            return Code.MARKET_CLOSED
        if c.side not in (r.BUY, r.SELL, r.ANY_SIDE):
            return Code.BAD_SIDE
        count = 0
        for order in self.slots.in_slot_order():
            fits = c.instrument in (r.ANY_INSTRUMENT, order.instrument) and c.side in (r.ANY_SIDE, order.side)
            if order.account == c.account and fits:
                self.cancel_resting(order, Reason.MASS_CANCEL, c.request_no)
                count += 1
        head = (c.seq, c.time_ns, 0, count, 0, 0, c.account, c.request_no)
        self.events.append((*head, c.session, c.instrument, r.MASS_CANCELLED, c.side, 0))
        return Code.OK
