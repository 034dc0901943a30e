"""The market's state: numpy tables that the kernel and the Python state machines share (design 4 and 5).

One record per thing, plain integers, no pointers: accounts, holdings (account × instrument), instruments,
sessions, the day's deals, and one ``MARKET`` record for what exists once. The book's tables (orders,
levels, bitmaps) are laid out in ``engine.book``.

Buckets of an account and a vintage (R5.6): sellable, bought today, locked by orders, in transfer. Cash:
available (with today's proceeds), locked; withdrawable follows from the two and ``proceeds_today``.
Every lock has one owner (order, declaration, bid) that knows how much it holds and releases it once.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from engine import book
from engine.calendar import trading_date
from engine.codes import Code
from engine.memory import HUGE_FROM, HUGE_PAGE, HUGE_UP_TO, aligned_zeros, reserved
from engine.prices import fee_fen, price_limits
from engine.records import BUY
from engine.rules import AMOUNT_MAX_FEN, LEVELS_MAX, QUANTITY_MAX_T, Policy, Rules, in_force
from engine.words import octet_of, octets, word_of, words

UNLIMITED: Final = (1 << 63) - 1
# A table of more deals is one that somebody has reserved for a whole day: it fills from its beginning, and most of it
# never. To touch all of it would cost a start up to a second on a virtual machine whose host has not given the pages.
DEALS_TOUCHED: Final = 1 << 20
DEALS_MOST: Final = 1 << 30  # reserved: up to here the table grows where it lies, and nobody waits for a copy

# Phases of the listed market (R3.2, D2, D15); `halted` is a flag beside them.
PRE_OPEN: Final = 0
MORNING: Final = 1
BREAK: Final = 2
AFTERNOON: Final = 3
CLOSED: Final = 4

# ACCOUNT.status
NOT_OPENED: Final = 0
ACTIVE: Final = 1
ACCOUNT_CANCEL_ONLY: Final = 2  # kill switch, risk
SUSPENDED: Final = 3

# What an account's status answers to a command that binds it.
MAY_TRADE: Final = {
    NOT_OPENED: Code.UNKNOWN_ACCOUNT,
    ACTIVE: Code.OK,
    ACCOUNT_CANCEL_ONLY: Code.ACCOUNT_CANCEL_ONLY,
    SUSPENDED: Code.ACCOUNT_SUSPENDED,
}

# ACCOUNT.self_trade (R8.5)
CANCEL_INCOMING: Final = 0
CANCEL_RESTING: Final = 1
CANCEL_BOTH: Final = 2

# DEAL.method
LISTED: Final = 0
BULK: Final = 1
AUCTION: Final = 2

# DEAL.flags
DEAL_CANCELLED: Final = 1
DEAL_BUYER_TAKES: Final = 2

# INSTRUMENT.policy, .reach
CONTINUOUS: Final = 0
LISTING: Final = 1
BEST_LEVEL: Final = 0
BEST_FIVE_LEVELS: Final = 1

ACCOUNT: Final = np.dtype(
    [
        ("available", "<i8"),  # fen, proceeds of today included
        ("locked", "<i8"),  # fen, owned by open buy orders, declarations, bids
        ("proceeds_today", "<i8"),  # fen received for sales that are not settled yet (R5.5)
        ("fees_today", "<i8"),  # fen paid today
        ("open_orders", "<u4"),
        ("open_orders_max", "<u4"),
        ("status", "u1"),
        ("self_trade", "u1"),
        ("reserved_a", "<u2"),
        ("group", "<u4"),
        ("reserved_b", "<u8", (2,)),
    ]
)

HOLDING: Final = np.dtype(
    [
        ("sellable", "<i8"),
        ("bought_today", "<i8"),  # T+1 (R5.5)
        ("locked", "<i8"),  # by open sell orders, declarations, auctions
        ("in_transfer", "<i8"),  # on its way to the registry (D24)
        ("buy_open", "<i8"),  # quantity of open buys, for the position limit (R14.1)
        ("sold_today", "<i8"),  # for the sell cap (R14.4)
        ("position_max", "<i8"),
        ("sell_max", "<i8"),  # per day: sold today + locked
    ]
)

INSTRUMENT: Final = np.dtype(
    [
        ("reference", "<i8"),
        ("limit_low", "<i8"),
        ("limit_high", "<i8"),
        ("band_base", "<i8"),  # price of level 0
        ("tick", "<i8"),
        ("lot", "<i8"),
        ("quantity_min", "<i8"),
        ("quantity_max", "<i8"),
        ("open", "<i8"),  # 0 until the first deal of the day
        ("high", "<i8"),
        ("low", "<i8"),
        ("last", "<i8"),  # last deal of the day, else the reference
        ("volume", "<i8"),
        ("amount", "<i8"),
        ("deals", "<i8"),
        ("close", "<i8"),  # set by the close of the day
        ("bulk_volume", "<i8"),
        ("bulk_amount", "<i8"),
        ("auction_volume", "<i8"),
        ("auction_amount", "<i8"),
        ("weight", "<i8"),  # in the composite today
        ("bulk_low", "<i8"),
        ("bulk_high", "<i8"),
        ("n_levels", "<u4"),  # of today's band
        ("best_levels", "<u4"),  # 0: no bound
        ("listed", "u1"),
        ("halted", "u1"),
        ("policy", "u1"),
        ("reach", "u1"),
        ("listed_from", "<u4"),  # YYYYMMDD
        ("code", "S16"),
    ]
)

SESSION: Final = np.dtype(
    [("last_request", "<u4"), ("account", "<u4"), ("role", "u1"), ("open", "u1"), ("pad", "<u2"), ("key_no", "<u4")]
)

DEAL: Final = np.dtype(
    [
        ("time_ns", "<i8"),
        ("price", "<i8"),
        ("quantity", "<i8"),
        ("seq", "<u8"),
        ("buyer_fee", "<i8"),
        ("seller_fee", "<i8"),
        ("buyer", "<u4"),
        ("seller", "<u4"),
        ("number", "<u4"),  # of the day, from 1
        ("instrument", "<u2"),
        ("method", "u1"),
        ("flags", "u1"),
    ]
)

MARKET: Final = np.dtype(
    [
        ("seq", "<u8"),  # last applied
        ("time_ns", "<i8"),  # of the last applied command (D2)
        ("date", "<i8"),  # YYYYMMDD of the open day
        ("morning_open", "<i8"),
        ("morning_end", "<i8"),
        ("afternoon_open", "<i8"),
        ("close", "<i8"),
        ("bulk_open", "<i8"),
        ("bulk_end", "<i8"),
        ("trading_ppm", "<i8"),
        ("settlement_ppm", "<i8"),
        ("trading_fees", "<i8"),  # collected, fen
        ("settlement_fees", "<i8"),
        ("composite_sum", "<i8"),  # Σ weight × price now
        ("composite_weight", "<i8"),  # Σ weight
        ("composite_open", "<i8"),  # 0 until the first listed deal
        ("composite_high", "<i8"),
        ("composite_low", "<i8"),
        ("composite_last", "<i8"),
        ("composite_close", "<i8"),
        ("composite_previous", "<i8"),
        ("deals", "<u8"),  # of the day, all methods
        ("deals_capacity", "<u8"),
        ("n_accounts", "<u8"),
        ("n_instruments", "<u8"),
        ("n_sessions", "<u8"),
        ("halted", "u1"),
        ("cancel_only", "u1"),
        ("day_closed", "u1"),
        ("settled", "u1"),
        ("accounts_on", "u1"),
        ("t_plus_one", "u1"),
        ("self_trade_on", "u1"),
        ("around_the_clock", "u1"),
    ]
)

HEAD: Final = np.dtype(
    {"names": ["market", "pool"], "formats": [MARKET, book.POOL], "offsets": [0, 224], "itemsize": 256}
)
"""What exists once and every command touches. It stands before the kernel's control record, in one piece with it: the
kernel reaches all of it from one address, and has registers for other things."""
CONTROL_ROOM: Final = 768  # bytes for the control record (engine.kernel.control)

assert ACCOUNT.itemsize == 64 and HOLDING.itemsize == 64 and DEAL.itemsize == 64 and SESSION.itemsize == 16

# Where the slow lane's fields stand (engine.words).
_ACCOUNT, _AVAILABLE, _LOCKED, _PROCEEDS, _FEES = (
    ACCOUNT.itemsize // 8,
    *(word_of(ACCOUNT, n) for n in ("available", "locked", "proceeds_today", "fees_today")),
)
_HOLDING, _SELLABLE, _BOUGHT, _HELD, _LEAVING, _BUY_OPEN, _SOLD, _POSITION_MAX, _SELL_MAX = (
    HOLDING.itemsize // 8,
    *(word_of(HOLDING, str(n)) for n in HOLDING.names or ()),
)
_INSTRUMENT, _TICK, _LOT, _BULK_LOW, _BULK_HIGH = (
    INSTRUMENT.itemsize // 8,
    *(word_of(INSTRUMENT, n) for n in ("tick", "lot", "bulk_low", "bulk_high")),
)
_SEQ, _TIME, _TRADING_PPM, _SETTLEMENT_PPM, _BULK_OPEN, _BULK_END = (
    word_of(MARKET, n) for n in ("seq", "time_ns", "trading_ppm", "settlement_ppm", "bulk_open", "bulk_end")
)
DEAL_NUMBER: Final = (DEAL.names or ()).index("number")
_STATUS = octet_of(ACCOUNT, "status")
_INSTRUMENT_LISTED, _INSTRUMENT_HALTED = octet_of(INSTRUMENT, "listed"), octet_of(INSTRUMENT, "halted")
_HALTED, _CANCEL_ONLY, _DAY_CLOSED, _ACCOUNTS_ON, _T_PLUS_ONE, _AROUND_THE_CLOCK = (
    octet_of(MARKET, n)
    for n in ("halted", "cancel_only", "day_closed", "accounts_on", "t_plus_one", "around_the_clock")
)


class Capacity:
    """How much a market can hold. Memory is touched only where used, so ample numbers cost nothing at start.

    accounts 4,096 (3,902 exist, rulebook 2); orders 2^17 resting at once; sessions 8,192 (two per account);
    instruments 16 vintages; levels 2^13 per side (a ±10 % band of a 400-yuan reference has 8,001).
    """

    def __init__(
        self,
        accounts: int = 4_096,
        instruments: int = 16,
        orders: int = 1 << 17,
        sessions: int = 8_192,
        levels: int = 1 << 13,
        deals: int = 1 << 16,
    ) -> None:
        for name, value, most in (
            ("accounts", accounts, 1 << 24),
            ("instruments", instruments, 255),
            ("orders", orders, 1 << 28),
            ("sessions", sessions, 65_535),
            ("levels", levels, LEVELS_MAX),
            ("deals", deals, 1 << 30),
        ):
            if not 1 <= value <= most:
                raise ValueError(f"capacity.{name}: {value} is not in 1 … {most}")
        self.accounts, self.instruments, self.orders = accounts, instruments, orders
        self.sessions, self.levels, self.deals = sessions, levels, deals


def _room_for_deals(rows: int) -> np.ndarray:
    """DEAL[``rows`` or more], zeroed; the first ``rows`` in huge pages and present, as with :func:`aligned_zeros`."""
    size = rows * DEAL.itemsize
    huge = size if HUGE_FROM <= size <= HUGE_UP_TO else 0
    room = reserved((rows,), DEAL, most=DEALS_MOST, huge=huge)
    if huge and rows <= DEALS_TOUCHED:
        room[:rows].view(np.uint8)[::HUGE_PAGE] = 0
    return room


class Market:
    """The tables, and the slow lane's way to change them. The kernel changes the same memory."""

    def __init__(self, rules: Rules, capacity: Capacity | None = None) -> None:
        self.rules = rules.validate()
        self.capacity = capacity or Capacity()
        c = self.capacity
        head = aligned_zeros(HEAD.itemsize + CONTROL_ROOM, np.dtype(np.uint8))
        self.control_room = head[HEAD.itemsize :]
        at = HEAD.fields["pool"][1]  # type: ignore[index]
        self.market, pool = head[: MARKET.itemsize].view(MARKET), head[at : at + book.POOL.itemsize].view(book.POOL)
        self.accounts = aligned_zeros(c.accounts, ACCOUNT)
        self.holdings = aligned_zeros(c.accounts * c.instruments, HOLDING).reshape(c.accounts, c.instruments)
        self.instruments = aligned_zeros(c.instruments, INSTRUMENT)
        self.sessions = aligned_zeros(c.sessions, SESSION)
        self.deals_room = _room_for_deals(c.deals)
        self.deals = self.deals_room[: c.deals]
        self.book = book.new_book(c.orders, [c.levels] * c.instruments)
        pool[:] = self.book.pool
        self.book = self.book._replace(pool=pool)
        self.cold = aligned_zeros(c.orders + 1, book.ORDER_COLD)
        self.codes: dict[str, int] = {}
        self._cash, self._stock, self._facts = words(self.accounts), words(self.holdings), words(self.instruments)
        self._head, self._flags = words(self.market), octets(self.market)
        self._account_flags, self._instrument_flags = octets(self.accounts), octets(self.instruments)
        m = self.market[0]
        m["deals_capacity"] = c.deals
        m["n_accounts"], m["n_sessions"] = c.accounts, c.sessions
        m["accounts_on"], m["t_plus_one"] = rules.accounts, rules.t_plus_one
        m["self_trade_on"], m["around_the_clock"] = rules.self_trade_prevention, rules.around_the_clock
        self.holdings["position_max"] = UNLIMITED
        self.holdings["sell_max"] = UNLIMITED

    # --- time ----------------------------------------------------------------------------------------------

    def stamp(self, seq: int, time_ns: int) -> None:
        """Notes the slow-lane command that is being applied."""
        self._head[_SEQ], self._head[_TIME] = seq, time_ns

    def phase(self, time_ns: int) -> int:
        """Phase of the listed market at a time of the open day (D2): one of PRE_OPEN … CLOSED."""
        m = self.market[0]
        if m["around_the_clock"]:
            return MORNING
        if m["day_closed"] or time_ns >= m["close"]:
            return CLOSED
        if time_ns < m["morning_open"]:
            return PRE_OPEN
        if time_ns < m["morning_end"]:
            return MORNING
        return BREAK if time_ns < m["afternoon_open"] else AFTERNOON

    def bulk_is_open(self, time_ns: int) -> bool:
        """True inside the day's bulk hours (R3.2), halts aside."""
        flags, head = self._flags, self._head
        if flags[_AROUND_THE_CLOCK]:
            return True
        return not flags[_DAY_CLOSED] and head[_BULK_OPEN] <= time_ns < head[_BULK_END]

    def stopped(self, instrument: int) -> Code:
        """Why nobody may bind itself in an instrument now (R14.2), in the order of the kernel's checks; OK: one may."""
        flags, at = self._flags, instrument * INSTRUMENT.itemsize
        if not self._instrument_flags[at + _INSTRUMENT_LISTED]:
            return Code.UNKNOWN_INSTRUMENT
        if flags[_CANCEL_ONLY]:
            return Code.CANCEL_ONLY
        if flags[_HALTED]:
            return Code.MARKET_HALTED
        return Code.INSTRUMENT_HALTED if self._instrument_flags[at + _INSTRUMENT_HALTED] else Code.OK

    # --- look-ups --------------------------------------------------------------------------------------------

    def account_code(self, account: int) -> Code:
        """OK when the account exists."""
        known = 0 <= account < len(self.accounts) and self.accounts[account]["status"] != NOT_OPENED
        return Code.OK if known else Code.UNKNOWN_ACCOUNT

    def may_trade(self, account: int) -> Code:
        """OK when the account exists and may enter orders, declarations and bids."""
        known = 0 <= account < len(self.accounts)
        return MAY_TRADE[self._account_flags[account * ACCOUNT.itemsize + _STATUS] if known else NOT_OPENED]

    def instrument_index(self, code: str) -> int | None:
        """Index of a listed instrument, None when it is unknown or retired."""
        index = self.codes.get(code)
        if index is None or not self._instrument_flags[index * INSTRUMENT.itemsize + _INSTRUMENT_LISTED]:
            return None
        return index

    def code_of(self, instrument: int) -> str:
        """Code of an instrument's index."""
        return list(self.codes)[instrument]  # they stand in the order of their indexes

    # --- locks of the slow lane (desk, auction) --------------------------------------------------------------

    def bulk_terms(self, instrument: int) -> tuple[int, int, int, int]:
        """Lot (t), tick, lowest and highest bulk price (fen) of an instrument today (R6.1)."""
        facts, at = self._facts, instrument * _INSTRUMENT
        return facts[at + _LOT], facts[at + _TICK], facts[at + _BULK_LOW], facts[at + _BULK_HIGH]

    def fees(self, amount_fen: int) -> tuple[int, int]:
        """Trading and settlement fee of one side on a running total (R5.7, D16)."""
        trading, settlement = self._head[_TRADING_PPM], self._head[_SETTLEMENT_PPM]
        if not trading and not settlement:
            return 0, 0
        return fee_fen(amount_fen, trading), fee_fen(amount_fen, settlement)

    def _holding(self, account: int, instrument: int) -> int:
        """Where a holding begins in the words of the table."""
        assert 0 <= instrument < self.capacity.instruments
        return (account * self.capacity.instruments + instrument) * _HOLDING

    def lock_buy(self, account: int, instrument: int, quantity: int, price: int) -> tuple[Code, int]:
        """Locks price × quantity and its fees in full (R5.2, R9.3). Returns the code and the cash locked (fen).

        Codes: AMOUNT_TOO_LARGE, INSUFFICIENT_CASH, POSITION_LIMIT. Nothing changes unless the code is OK.
        """
        amount = price * quantity
        if amount > AMOUNT_MAX_FEN:
            return Code.AMOUNT_TOO_LARGE, 0
        if not self._flags[_ACCOUNTS_ON]:
            return Code.OK, 0
        need = amount + sum(self.fees(amount))
        cash, a = self._cash, account * _ACCOUNT
        stock, h = self._stock, self._holding(account, instrument)
        if need > cash[a + _AVAILABLE]:
            return Code.INSUFFICIENT_CASH, 0
        position = stock[h + _SELLABLE] + stock[h + _BOUGHT] + stock[h + _HELD] + stock[h + _LEAVING]
        if position + stock[h + _BUY_OPEN] + quantity > stock[h + _POSITION_MAX]:
            return Code.POSITION_LIMIT, 0
        cash[a + _AVAILABLE] -= need
        cash[a + _LOCKED] += need
        stock[h + _BUY_OPEN] += quantity
        return Code.OK, need

    def release_buy(self, account: int, instrument: int, quantity: int, cash: int) -> None:
        """Gives back a lock of :meth:`lock_buy` or a part of it."""
        if not self._flags[_ACCOUNTS_ON]:
            return
        money, a = self._cash, account * _ACCOUNT
        stock, h = self._stock, self._holding(account, instrument)
        held = 0 <= cash <= money[a + _LOCKED] and 0 <= quantity <= stock[h + _BUY_OPEN]
        assert held, "release exceeds the lock"
        money[a + _LOCKED] -= cash
        money[a + _AVAILABLE] += cash
        stock[h + _BUY_OPEN] -= quantity

    def lock_cash(self, account: int, cash: int) -> Code:
        """Locks cash on top of a lock of :meth:`lock_buy` (rounding of several fees); release_buy gives it back."""
        money, a = self._cash, account * _ACCOUNT
        if cash > money[a + _AVAILABLE]:
            return Code.INSUFFICIENT_CASH
        money[a + _AVAILABLE] -= cash
        money[a + _LOCKED] += cash
        return Code.OK

    def lock_sell(self, account: int, instrument: int, quantity: int) -> Code:
        """Locks allowances in full (R5.2). Codes: BOUGHT_TODAY, INSUFFICIENT_ALLOWANCES, SELL_CAP."""
        if not self._flags[_ACCOUNTS_ON]:
            return Code.OK
        stock, h = self._stock, self._holding(account, instrument)
        if quantity > stock[h + _SELLABLE]:
            today = quantity <= stock[h + _SELLABLE] + stock[h + _BOUGHT]
            return Code.BOUGHT_TODAY if today else Code.INSUFFICIENT_ALLOWANCES
        if stock[h + _SOLD] + stock[h + _HELD] + quantity > stock[h + _SELL_MAX]:
            return Code.SELL_CAP
        stock[h + _SELLABLE] -= quantity
        stock[h + _HELD] += quantity
        return Code.OK

    def release_sell(self, account: int, instrument: int, quantity: int) -> None:
        """Gives back a lock of :meth:`lock_sell` or a part of it."""
        if not self._flags[_ACCOUNTS_ON]:
            return
        stock, h = self._stock, self._holding(account, instrument)
        assert 0 <= quantity <= stock[h + _HELD], "release exceeds the lock"
        stock[h + _HELD] -= quantity
        stock[h + _SELLABLE] += quantity

    def position(self, account: int, instrument: int) -> int:
        """All allowances of a vintage in the trading account, whatever their bucket (R5.6)."""
        h = self.holdings[account, instrument]
        return int(h["sellable"]) + int(h["bought_today"]) + int(h["locked"]) + int(h["in_transfer"])

    def settle_deal(
        self,
        method: int,
        instrument: int,
        price: int,
        quantity: int,
        buyer: int,
        seller: int,
        *,
        seq: int,
        time_ns: int,
    ) -> int:
        """Books a bulk or auction deal out of locks that cover it: money, allowances (T+1), fees, statistics.

        Takes amount and the buyer's fees out of the buyer's locked cash and the quantity out of the seller's
        locked allowances; the caller releases what its own locks hold beyond that. Returns the deal's number.
        """
        assert method in (BULK, AUCTION), "listed deals are the kernel's"
        m, amount = self.market[0], price * quantity
        trading, settlement = self.fees(amount)
        buyer_fee, seller_fee = trading + settlement, min(trading + settlement, amount)
        if m["accounts_on"]:
            cash, b, s = self._cash, buyer * _ACCOUNT, seller * _ACCOUNT
            stock, hb, hs = self._stock, self._holding(buyer, instrument), self._holding(seller, instrument)
            covered = cash[b + _LOCKED] >= amount + buyer_fee and stock[hs + _HELD] >= quantity
            assert covered, "the deal is not covered by locks"
            cash[b + _LOCKED] -= amount + buyer_fee
            cash[b + _FEES] += buyer_fee
            stock[hb + _BUY_OPEN] -= quantity
            stock[hb + (_BOUGHT if self._flags[_T_PLUS_ONE] else _SELLABLE)] += quantity
            stock[hs + _HELD] -= quantity
            stock[hs + _SOLD] += quantity
            cash[s + _AVAILABLE] += amount - seller_fee
            cash[s + _PROCEEDS] += amount - seller_fee
            cash[s + _FEES] += seller_fee
            seller_trading = min(trading, seller_fee)
            m["trading_fees"] += trading + seller_trading
            m["settlement_fees"] += settlement + seller_fee - seller_trading
        row, word = self.instruments[instrument], "bulk" if method == BULK else "auction"
        row[f"{word}_volume"] += quantity
        row[f"{word}_amount"] += amount
        return self.record_deal(
            (time_ns, price, quantity, seq, buyer_fee, seller_fee, buyer, seller, 0, instrument, method, 0)
        )

    def record_deal(self, deal: tuple[int, ...]) -> int:
        """Appends a deal to the day's table, which grows when it is full. Returns its number (from 1)."""
        m = self.market[0]
        if m["deals"] == m["deals_capacity"]:
            self.grow_deals()
        at = int(m["deals"])
        self.deals[at] = (*deal[:DEAL_NUMBER], at + 1, *deal[DEAL_NUMBER + 1 :])
        m["deals"] = at + 1
        return at + 1

    def grow_deals(self, rows: int = 0) -> None:
        """Doubles the table of the day's deals (to ``rows`` at least); the exchange takes its address anew."""
        size = 2 * len(self.deals)
        while size < rows:
            size *= 2
        if size > len(self.deals_room):
            before, self.deals_room = self.deals, _room_for_deals(size)
            self.deals_room[: len(before)].view(np.uint8)[:] = before.view(np.uint8)  # not field by field
        self.deals = self.deals_room[:size]
        self.market[0]["deals_capacity"] = len(self.deals)

    def withdrawable(self, account: int) -> int:
        """Cash that may leave today (R5.5): available without the proceeds that are not settled yet."""
        row = self.accounts[account]
        return max(0, int(row["available"]) - int(row["proceeds_today"]))

    # --- the day ---------------------------------------------------------------------------------------------

    def set_reference(self, instrument: int, reference: int, date: int) -> None:
        """Sets the reference price, and with it limits and the book's band (R6.1, R6.2). The book must be empty."""
        row, limits = self.instruments[instrument], in_force(self.rules.limits, date)
        low, high = self.band(reference, date)
        n_levels = (high - low) // self.rules.tick_fen + 1
        row["reference"] = row["last"] = row["close"] = reference
        row["bulk_low"], row["bulk_high"] = 1, AMOUNT_MAX_FEN
        if limits.bulk_bp:
            row["bulk_low"], row["bulk_high"] = price_limits(reference, limits.bulk_bp, 1)
        row["limit_low"], row["limit_high"], row["band_base"] = low, high, low
        row["n_levels"] = n_levels
        for side in self.book.sides[2 * instrument : 2 * instrument + 2]:
            assert side["orders"] == 0, "the band moves only while the book is empty"
            side["n_levels"] = n_levels
        self.lay_ladder(instrument)

    def lay_ladder(self, instrument: int) -> None:
        """How prices become levels on both sides of an instrument's book, from its band; after the band has moved."""
        sides = self.book.sides[2 * instrument : 2 * instrument + 2]
        low = int(self.instruments[instrument]["band_base"])
        n_levels = int(sides[BUY]["n_levels"])
        sides[BUY]["flip_add"] = n_levels
        for side, add in zip(sides, (low + n_levels, -low), strict=True):
            side["ahead_add"] = (int(side["levels_offset"]) + add) & book.NIL

    def band(self, reference: int, date: int) -> tuple[int, int]:
        """Lowest and highest price of an order on a date (R6.1, R6.2); ValueError when there is no room for so many.

        Without price limits the band is as wide as the capacity, with the reference in its middle (D17).
        """
        tick, levels, bp = self.rules.tick_fen, self.capacity.levels, in_force(self.rules.limits, date).listed_bp
        if not bp:
            low = max(tick, (reference // tick - levels // 2) * tick)
            return low, low + (levels - 1) * tick
        low, high = price_limits(reference, bp, tick)
        low = max(low, tick)
        if (high - low) // tick >= levels:
            raise ValueError(f"the band of {reference} has {(high - low) // tick + 1} levels, capacity {levels}")
        return low, high

    def add_instrument(self, code: str, reference: int, date: int) -> int:
        """Lists an instrument; returns its index. ValueError when the table is full or the code is taken."""
        if code in self.codes:
            raise ValueError(f"instrument {code}: already listed")
        index = len(self.codes)
        if index >= self.capacity.instruments:
            raise ValueError(f"instrument {code}: capacity of {self.capacity.instruments} instruments is used up")
        self.band(reference, date)  # refused before anything is listed
        self.codes[code] = index
        row, r = self.instruments[index], self.rules
        policy = r.policies.get(code, Policy())
        row["code"], row["listed"], row["listed_from"] = code.encode(), 1, date
        row["tick"], row["lot"], row["best_levels"] = r.tick_fen, r.lot_t, r.best_levels
        row["quantity_min"], row["quantity_max"] = r.listed_quantity_min_t, min(r.listed_quantity_max_t, QUANTITY_MAX_T)
        row["policy"] = LISTING if policy.matching == "listing" else CONTINUOUS
        row["reach"] = BEST_LEVEL if policy.reach == "best_level" else BEST_FIVE_LEVELS
        self.market[0]["n_instruments"] = index + 1
        self.set_reference(index, reference, date)
        self.start_composite(date)
        return index

    def start_composite(self, date: int) -> None:
        """Takes the weights in force (R7.2) and sums weight × last for today's listed vintages."""
        weights = in_force(self.rules.weights, date).weights
        rows, m = self.instruments, self.market[0]
        rows["weight"] = 0
        for code, index in self.codes.items():
            rows[index]["weight"] = weights.get(code, 0) if rows[index]["listed"] else 0
        m["composite_weight"] = int(rows["weight"].sum())
        m["composite_sum"] = int((rows["weight"] * rows["last"]).sum())

    def roll(self, date: int) -> None:
        """Opens a day (D27): T+1 buckets open, references move to the closes, counters and hours are the new day's."""
        m, r, rows = self.market[0], self.rules, self.instruments
        assert m["date"] == 0 or trading_date(int(m["close"])) < date, "a day is rolled once"
        assert self.book.pool[0]["live"] == 0, "orders must have lapsed before the roll"
        self.holdings["sellable"] += self.holdings["bought_today"]
        self.holdings["bought_today"] = 0
        self.holdings["sold_today"] = 0
        self.accounts["proceeds_today"] = 0
        self.accounts["fees_today"] = 0
        m["date"] = date
        m["morning_open"], m["morning_end"], m["afternoon_open"], m["close"] = r.boundaries_ns(date)
        m["bulk_open"], m["bulk_end"] = r.bulk_boundaries_ns(date)
        fees = in_force(r.fees, date)
        m["trading_ppm"], m["settlement_ppm"] = fees.trading_ppm, fees.settlement_ppm
        m["deals"] = m["day_closed"] = m["settled"] = 0
        if m["composite_close"]:
            m["composite_previous"] = m["composite_close"]
        for name in ("composite_open", "composite_high", "composite_low", "composite_close"):
            m[name] = 0
        m["composite_last"] = m["composite_previous"]
        for name in ("open", "high", "low", "volume", "amount", "deals"):
            rows[name] = 0
        for name in ("bulk_volume", "bulk_amount", "auction_volume", "auction_amount"):
            rows[name] = 0
        for index in self.codes.values():
            if rows[index]["listed"]:
                self.set_reference(index, int(rows[index]["close"]), date)
        self.start_composite(date)

    # --- inspection -----------------------------------------------------------------------------------------

    def check(self) -> None:
        """Asserts what must hold of accounts and book at any moment (guarantee 3): O(accounts + levels + orders)."""
        book.check(self.book)
        for name in ("available", "locked", "proceeds_today"):
            assert (self.accounts[name] >= 0).all(), f"an account's {name} is below zero"
        for name in ("sellable", "bought_today", "locked", "in_transfer", "buy_open"):
            assert (self.holdings[name] >= 0).all(), f"a holding's {name} is below zero"

    def total_cash(self) -> int:
        """All members' cash and the fees collected, fen: only deposits and withdrawals change it."""
        m = self.market[0]
        cash = int(self.accounts["available"].sum()) + int(self.accounts["locked"].sum())
        return cash + int(m["trading_fees"]) + int(m["settlement_fees"])

    def total_allowances(self, instrument: int) -> int:
        """All members' allowances of a vintage in trading accounts, t: only transfers change it."""
        h = self.holdings[:, instrument]
        return sum(int(h[name].sum()) for name in ("sellable", "bought_today", "locked", "in_transfer"))
