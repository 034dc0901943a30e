"""The one-way auction (R10): application, answer, freeze, announcement, sealed bids, allocation, deals.

A state machine on the market's tables without clock or I/O. What may follow what is in engine/auction_states.py,
who gets what in engine/auction_allocation.py; here are the checks, the deadlines, the locks and the notices. Bids
are sealed: until the close a bid's notices go to its bidder and the operators, and the public result names none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from engine import bulk_locks
from engine.auction_allocation import Award, Bid, Booked, allocate, settle
from engine.auction_messages import (
    AuctionAnnounce,
    AuctionAnnounced,
    AuctionAnswer,
    AuctionApply,
    AuctionBid,
    AuctionBidResult,
    AuctionBidState,
    AuctionCancel,
    AuctionCancelBid,
    AuctionFreeze,
    AuctionRaise,
    AuctionResult,
    AuctionSold,
    AuctionState,
    AuctionTick,
    AuctionView,
    AuctionWithdraw,
)
from engine.auction_records import Auction, AuctionsState, decode_state, encode_state
from engine.auction_states import AUCTION, OPEN, SELLER_LOCKED, Do, Move, Stage
from engine.calendar import TradingCalendar, format_time, trading_date
from engine.codes import Code
from engine.lane import Envelope, Notice, Refusal, refuse
from engine.market import Market
from engine.messages import Done
from engine.prices import format_price, price_limits
from engine.records import BUY, NO_ACCOUNT

QUANTITY_MIN_T: Final = 100_000  # R4.3
BAND_BP: Final = 1_000  # R10.3: reserve and cap 10 % around the previous close
APPLY_DAYS: Final = 10  # R10.4, working days ahead of the auction
ANSWER_DAYS: Final = 3  # R10.4, after the application
FREEZE_DAYS: Final = 5  # R10.4, ahead of the auction
# The market has seen a few auctions a year; bounds memory, and what one seller can occupy.
AUCTIONS_MAX: Final = 1_000
AUCTIONS_PER_SELLER_MAX: Final = 20
# Twice what is measured: bounds the close of an auction to about a second.
BIDS_MAX: Final = 200_000
BIDS_PER_ACCOUNT_MAX: Final = 100  # a demand curve has few steps
# Bids on one page of an operator's view: some hundred kilobytes.
VIEW_BIDS_MAX: Final = 5_000
ENDED_MAX: Final = 10_000  # kept for a clear refusal

Answer = list[Notice] | Refusal
Result = Refusal | dict[str, Any]


class Auctions:
    """All auctions of one market. ``handle`` carries out a command, ``tick`` lets time pass."""

    def __init__(self, market: Market, calendar: TradingCalendar | None) -> None:
        self.market = market
        self.calendar = calendar
        self.auctions: dict[int, Auction] = {}
        self.ended: dict[int, int] = {}  # number → stage
        self.next_auction = 1
        self._notices: list[Notice] = []
        self._handlers: dict[type, Callable[[Envelope, Any], Result]] = {
            AuctionApply: self._apply,
            AuctionAnswer: self._answer,
            AuctionFreeze: self._freeze,
            AuctionAnnounce: self._announce,
            AuctionBid: self._bid,
            AuctionRaise: self._raise,
            AuctionCancelBid: self._cancel_bid,
            AuctionWithdraw: self._withdraw,
            AuctionCancel: self._cancel,
            AuctionTick: self._tick,
        }

    # --- the exchange's side ---------------------------------------------------------------------------------

    def handle(self, envelope: Envelope, message: Any) -> Answer:
        """Carries out a command: ``Done`` to the sender first, then what others are told. Or refuses it."""
        self._notices = []
        answer = self._handlers[type(message)](envelope, message)
        if isinstance(answer, Refusal):
            assert not self._notices, "a refused command tells nobody"
            return answer
        done = Done(command=message.__struct_config__.tag, data=answer)
        return [Notice(done, account=envelope.account, session=envelope.session), *self._notices]

    def tick(self, envelope: Envelope) -> list[Notice]:
        """Closes windows and lets applications lapse that are due at the envelope's time.

        A halted market makes no deals: the close of a window waits for the end of the halt (R14.2).
        """
        self._notices = []
        today = trading_date(envelope.time_ns)
        for auction in list(self.auctions.values()):
            if auction.stage == Stage.ANNOUNCED:
                if envelope.time_ns >= auction.closes and not self._halted(auction):
                    self._close(envelope, auction)
            elif self._lapses(auction, today):
                self._move(envelope, auction, Move.LAPSE, why="a deadline has passed (R10.4)")
        return self._notices

    def next_deadline(self) -> int | None:
        """When a bidding window closes next (ns UTC), for the scheduler; None when none is announced."""
        return min((a.closes for a in self.auctions.values() if a.stage == Stage.ANNOUNCED), default=None)

    def close_day(self, envelope: Envelope) -> list[Notice]:
        """Closes today's auctions; one whose day ends in a halt is cancelled. Auctions of later days stay."""
        self.tick(envelope)
        today = int(self.market.market[0]["date"])
        for auction in list(self.auctions.values()):
            if auction.date > today:
                continue
            if auction.stage == Stage.ANNOUNCED:
                self._move(envelope, auction, Move.CANCEL, why="the day closed in a halt")
            else:
                self._move(envelope, auction, Move.LAPSE, why="its day has passed")
        return self._notices

    def dump(self) -> bytes:
        """The whole state as deterministic MessagePack."""
        return encode_state(AuctionsState(list(self.auctions.values()), list(self.ended.items()), self.next_auction))

    def load(self, data: bytes) -> None:
        """Puts a dumped state back; the market's tables come from the same snapshot."""
        state = decode_state(data)
        self.auctions = {a.number: a for a in state.auctions}
        self.ended, self.next_auction = dict(state.ended), state.next_auction

    # --- the seller and the exchange's answer ------------------------------------------------------------------

    def _apply(self, envelope: Envelope, m: AuctionApply) -> Result:
        operator = envelope.account == NO_ACCOUNT
        if not operator and (m.seller not in (None, envelope.account) or m.waive):
            return refuse(Code.NOT_AUTHORISED, "waive" if m.waive else "seller")
        if operator and m.seller is None:
            return refuse(Code.BAD_FIELD, "seller", "an operator names the seller")
        seller = envelope.account if m.seller is None else m.seller
        code = self.market.may_trade(seller)
        if code != Code.OK:
            return refuse(code, "seller")
        index = self.market.instrument_index(m.instrument)
        if index is None:
            return refuse(Code.UNKNOWN_INSTRUMENT, "instrument")
        if m.quantity < QUANTITY_MIN_T or m.quantity % int(self.market.instruments[index]["lot"]):
            return refuse(Code.AUCTION_QUANTITY, "quantity", f"at least {QUANTITY_MIN_T} t, in whole lots")
        dates = self._dates(trading_date(envelope.time_ns), m)
        if isinstance(dates, Refusal):
            return dates
        if len(self.auctions) >= AUCTIONS_MAX:
            return refuse(Code.CAPACITY, "auction", f"{AUCTIONS_MAX} open auctions")
        if sum(a.seller == seller for a in self.auctions.values()) >= AUCTIONS_PER_SELLER_MAX:
            return refuse(Code.LIMIT_REACHED, "seller", f"{AUCTIONS_PER_SELLER_MAX} open auctions")
        new = Auction(
            self.next_auction, seller, index, m.quantity, m.date, m.mode, m.reserve, dates[0], dates[1], m.waive
        )
        self.next_auction += 1
        self.auctions[new.number] = new
        self._move(envelope, new, Move.APPLY, why=m.why)
        return {"auction": new.number, "answer_by": new.answer_by, "freeze_by": new.freeze_by}

    def _dates(self, today: int, m: AuctionApply) -> tuple[int, int] | Refusal:
        """Until when the exchange answers and the seller's allowances are frozen (R10.4), or why not."""
        if self.calendar is None and not m.waive:
            return refuse(Code.BAD_FIELD, "date", "without a calendar the notice periods can't be counted")
        try:
            if self.calendar is not None and not self.calendar.is_trading_day(m.date):
                return refuse(Code.BAD_FIELD, "date", f"{m.date} is not a trading day")
            self.market.rules.boundaries_ns(m.date)
            if m.date < today:
                return refuse(Code.BAD_FIELD, "date", f"{m.date} has passed")
            if self.calendar is None or m.waive:
                return m.date, m.date
            days = self.calendar.working_days_between(today, m.date)
            if days < APPLY_DAYS:
                return refuse(Code.BAD_FIELD, "date", f"{days} working days ahead, {APPLY_DAYS} are needed")
            return self.calendar.next_day(today, ANSWER_DAYS), self.calendar.previous_day(m.date, FREEZE_DAYS)
        except ValueError as error:
            return refuse(Code.BAD_FIELD, "date", str(error))

    def _answer(self, envelope: Envelope, m: AuctionAnswer) -> Result:
        auction = self._operators(envelope, m.auction)
        if isinstance(auction, Refusal):
            return auction
        late = trading_date(envelope.time_ns) > auction.answer_by  # the exchange's own duty: no harm to the seller
        before, auction.late = auction.late, late
        refusal = self._move(envelope, auction, Move.APPROVE if m.approve else Move.REFUSE, why=m.why)
        if refusal:
            auction.late = before
        return refusal or {"auction": auction.number, "late": late}

    def _freeze(self, envelope: Envelope, m: AuctionFreeze) -> Result:
        auction = self._sellers(envelope, m.auction)
        if isinstance(auction, Refusal):
            return auction
        if trading_date(envelope.time_ns) > auction.freeze_by:
            return refuse(Code.WRONG_STATE, "auction", f"allowances were due by {auction.freeze_by}")
        code = self.market.may_trade(auction.seller)
        if code != Code.OK:
            return refuse(code, "seller")
        return self._move(envelope, auction, Move.FREEZE) or {"auction": auction.number, "locked_t": auction.locked}

    def _withdraw(self, envelope: Envelope, m: AuctionWithdraw) -> Result:
        auction = self._sellers(envelope, m.auction)
        if isinstance(auction, Refusal):
            return auction
        return self._move(envelope, auction, Move.WITHDRAW) or {"auction": auction.number}

    def _announce(self, envelope: Envelope, m: AuctionAnnounce) -> Result:
        auction = self._operators(envelope, m.auction)
        if isinstance(auction, Refusal):
            return auction
        morning, _, _, close = self.market.rules.boundaries_ns(auction.date)
        first = max(morning, envelope.time_ns)
        if not first <= m.opens < m.closes <= close:
            hours = f"{format_time(morning)[:8]}–{format_time(close)[:8]} on {auction.date}"
            return refuse(Code.BAD_FIELD, "opens", f"the window must lie ahead, within {hours}")
        if m.bid_min > auction.quantity:
            return refuse(Code.BAD_FIELD, "bid_min", f"above the {auction.quantity} t offered")
        if (auction.stage, Move.ANNOUNCE) in AUCTION:
            auction.opens, auction.closes, auction.bid_min = m.opens, m.closes, m.bid_min
            auction.raise_allowed, auction.cancel_allowed = m.raise_allowed, m.cancel_allowed
        return self._move(envelope, auction, Move.ANNOUNCE) or {"auction": auction.number}

    def _cancel(self, envelope: Envelope, m: AuctionCancel) -> Result:
        auction = self._operators(envelope, m.auction)
        if isinstance(auction, Refusal):
            return auction
        return self._move(envelope, auction, Move.CANCEL, why=m.why) or {"auction": auction.number}

    def _tick(self, envelope: Envelope, _: AuctionTick) -> Result:
        if envelope.account != NO_ACCOUNT:
            return refuse(Code.NOT_AUTHORISED)
        before = len(self.auctions)
        self.tick(envelope)
        return {"ended": before - len(self.auctions)}

    # --- bids -----------------------------------------------------------------------------------------------------

    def band(self, auction: Auction) -> tuple[int, int]:
        """Reserve and cap in fen (R10.3), from the vintage's previous close."""
        reference = int(self.market.instruments[auction.instrument]["reference"])
        low, high = price_limits(reference, BAND_BP)
        return (reference if auction.reserve == "previous_close" else low), high

    def _bid(self, envelope: Envelope, m: AuctionBid) -> Result:
        auction = self._bidding(envelope, m.auction, binding=True)
        if isinstance(auction, Refusal):
            return auction
        bidder = envelope.account
        if bidder == auction.seller:
            return refuse(Code.SELF_DEAL, "auction")
        refusal = self._check_bid(auction, m.price, m.quantity)
        if refusal:
            return refusal
        if auction.bids_of.get(bidder, 0) >= BIDS_PER_ACCOUNT_MAX:
            return refuse(Code.LIMIT_REACHED, "account", f"{BIDS_PER_ACCOUNT_MAX} bids")
        if len(auction.bids) >= BIDS_MAX:
            return refuse(Code.CAPACITY, "auction", f"{BIDS_MAX} bids")
        bid = Bid(auction.next_bid, bidder, m.price, m.quantity, envelope.seq)
        refusal = self._move_bid(auction, Move.BID, bid, m.price, m.quantity)
        if refusal:
            return refusal
        auction.next_bid += 1
        auction.bids[bid.number] = bid
        auction.bids_of[bidder] = auction.bids_of.get(bidder, 0) + 1
        self._tell_bid(auction, bid, "placed")
        return {"auction": auction.number, "bid": bid.number, "locked_fen": bid.hold.cash}

    def _raise(self, envelope: Envelope, m: AuctionRaise) -> Result:
        found = self._own_bid(envelope, m.auction, m.bid, binding=True)
        if isinstance(found, Refusal):
            return found
        auction, bid = found
        if not auction.raise_allowed:
            return refuse(Code.WRONG_STATE, "bid", "bids of this auction cannot be raised")
        if m.price < bid.price or m.quantity < bid.quantity or (m.price, m.quantity) == (bid.price, bid.quantity):
            return refuse(Code.BAD_FIELD, "price", "a raise lowers neither price nor quantity, and raises one")
        refusal = self._check_bid(auction, m.price, m.quantity)
        refusal = refusal or self._move_bid(auction, Move.RAISE, bid, m.price, m.quantity)
        if refusal:
            return refusal
        bid.price, bid.quantity, bid.seq = m.price, m.quantity, envelope.seq
        self._tell_bid(auction, bid, "raised")
        return {"auction": auction.number, "bid": bid.number, "locked_fen": bid.hold.cash}

    def _cancel_bid(self, envelope: Envelope, m: AuctionCancelBid) -> Result:
        found = self._own_bid(envelope, m.auction, m.bid, binding=False)
        if isinstance(found, Refusal):
            return found
        auction, bid = found
        if not auction.cancel_allowed:
            return refuse(Code.WRONG_STATE, "bid", "bids of this auction cannot be cancelled")
        self._move_bid(auction, Move.CANCEL_BID, bid, bid.price, bid.quantity)
        del auction.bids[bid.number]
        auction.bids_of[bid.account] -= 1
        if not auction.bids_of[bid.account]:
            del auction.bids_of[bid.account]
        self._tell_bid(auction, bid, "cancelled")
        return {"auction": auction.number, "bid": bid.number}

    def _check_bid(self, auction: Auction, price: int, quantity: int) -> Refusal | None:
        row, (low, high) = self.market.instruments[auction.instrument], self.band(auction)
        if not auction.bid_min <= quantity <= auction.quantity or quantity % int(row["lot"]):
            return refuse(Code.AUCTION_QUANTITY, "quantity", f"{auction.bid_min} … {auction.quantity} t, whole lots")
        if price % int(row["tick"]):
            return refuse(Code.BAD_TICK, "price")
        if not low <= price <= high:
            band = f"{format_price(price)} is not in {format_price(low)} … {format_price(high)}"
            return refuse(Code.AUCTION_PRICE_OUT_OF_BAND, "price", band)
        return None

    def _move_bid(self, auction: Auction, move: Move, bid: Bid, price: int, quantity: int) -> Refusal | None:
        """A bid's transition: the auction stays announced, the bidder's lock follows."""
        stage, actions = AUCTION[auction.stage, move]
        assert stage == Stage.ANNOUNCED and len(actions) == 1
        if actions[0] == Do.RELEASE_BID:
            bulk_locks.give_back(self.market, bid.hold, bid.account, auction.instrument, BUY)
            return None
        lock = bulk_locks.take if actions[0] == Do.LOCK_BID else bulk_locks.change
        code = lock(self.market, bid.hold, bid.account, auction.instrument, BUY, (price, quantity, 1))
        return None if code == Code.OK else refuse(code, "price")

    # --- look-ups -------------------------------------------------------------------------------------------------

    def _find(self, number: int) -> Auction | Refusal:
        auction = self.auctions.get(number)
        if auction is not None:
            return auction
        if number in self.ended:
            return refuse(Code.WRONG_STATE, "auction", f"it is {Stage(self.ended[number]).name.lower()}")
        return refuse(Code.UNKNOWN_AUCTION, "auction")

    def _operators(self, envelope: Envelope, number: int) -> Auction | Refusal:
        return self._find(number) if envelope.account == NO_ACCOUNT else refuse(Code.NOT_AUTHORISED)

    def _sellers(self, envelope: Envelope, number: int) -> Auction | Refusal:
        """The seller's own auction, or any for an operator who acts for an authority."""
        found = self._find(number)
        mine = isinstance(found, Auction) and found.seller == envelope.account
        if envelope.account == NO_ACCOUNT or mine:
            return found
        public = isinstance(found, Auction) and found.stage == Stage.ANNOUNCED
        return refuse(Code.NOT_AUTHORISED, "auction") if public else refuse(Code.UNKNOWN_AUCTION, "auction")

    def _bidding(self, envelope: Envelope, number: int, *, binding: bool) -> Auction | Refusal:
        """An announced auction inside its window, for a member who may bid; ``binding`` False: a way out."""
        if envelope.account == NO_ACCOUNT:
            return refuse(Code.NOT_AUTHORISED, "account", "a member's command")
        found = self.auctions.get(number)
        if found is None or found.stage != Stage.ANNOUNCED:
            announced = found is None and self.ended.get(number, 0) in (Stage.DEALT, Stage.UNSOLD)
            return refuse(Code.AUCTION_CLOSED if announced else Code.UNKNOWN_AUCTION, "auction")
        open_today = self.market.market[0]["date"] == found.date and not self.market.market[0]["day_closed"]
        if not open_today or not found.opens <= envelope.time_ns < found.closes:
            window = f"{format_time(found.opens)[:8]}–{format_time(found.closes)[:8]} on {found.date}"
            return refuse(Code.AUCTION_CLOSED, "time", f"the window is {window}")
        if not binding:
            return found
        code = self.market.may_trade(envelope.account)
        if code != Code.OK:
            return refuse(code, "account")
        m, row = self.market.market[0], self.market.instruments[found.instrument]
        if not row["listed"]:
            return refuse(Code.UNKNOWN_INSTRUMENT, "auction")
        for on, reason in ((m["cancel_only"], Code.CANCEL_ONLY), (m["halted"], Code.MARKET_HALTED)):
            if on:
                return refuse(reason)
        return refuse(Code.INSTRUMENT_HALTED) if row["halted"] else found

    def _own_bid(self, envelope: Envelope, number: int, bid: int, *, binding: bool) -> tuple[Auction, Bid] | Refusal:
        auction = self._bidding(envelope, number, binding=binding)
        if isinstance(auction, Refusal):
            return auction
        found = auction.bids.get(bid)
        if found is None or found.account != envelope.account:  # another's bid is as unknown as none: sealed
            return refuse(Code.AUCTION_BID_UNKNOWN, "bid")
        return auction, found

    def _halted(self, auction: Auction) -> bool:
        return bool(self.market.market[0]["halted"] or self.market.instruments[auction.instrument]["halted"])

    def _lapses(self, auction: Auction, today: int) -> bool:
        """R10.4: without frozen allowances after the deadline, or never announced for its day."""
        return today > (auction.date if auction.stage == Stage.READY else auction.freeze_by)

    # --- transitions ------------------------------------------------------------------------------------------------

    def _move(self, envelope: Envelope, auction: Auction, move: Move, why: str = "") -> Refusal | None:
        """One transition of an auction. Only its first action can fail, and then nothing has changed."""
        entry = AUCTION.get((auction.stage, move))
        if entry is None:
            return refuse(Code.WRONG_STATE, "auction", f"it is {auction.stage.name.lower()}")
        stage, actions = entry
        result: AuctionResult | None = None
        for at, action in enumerate(actions):
            if action == Do.LOCK_SELLER:
                code = self.market.lock_sell(auction.seller, auction.instrument, auction.quantity)
                if code != Code.OK:
                    assert at == 0, "an action that can fail comes first"
                    return refuse(code, "quantity")
                auction.locked = auction.quantity
            elif action == Do.RELEASE_SELLER:
                self.market.release_sell(auction.seller, auction.instrument, auction.locked)
                auction.locked = 0
            elif action == Do.RELEASE_BIDS:
                for bid in auction.bids.values():
                    bulk_locks.give_back(self.market, bid.hold, bid.account, auction.instrument, BUY)
                    self._tell_bid(auction, bid, "released")
            else:
                assert action == Do.ALLOCATE
                result = self._allocate(envelope, auction)
        was_public = auction.stage == Stage.ANNOUNCED
        auction.stage = stage
        self._tell(auction, why)
        if stage not in OPEN:
            if was_public:
                self._notices.append(Notice(result or self._no_deals(auction, why), public=True))
            del self.auctions[auction.number]
            self.ended[auction.number] = int(stage)
            if len(self.ended) > ENDED_MAX:
                del self.ended[next(iter(self.ended))]
        return None

    def _close(self, envelope: Envelope, auction: Auction) -> None:
        refusal = self._move(envelope, auction, Move.CLOSE_WITH_BIDS if auction.bids else Move.CLOSE_WITHOUT_BIDS)
        assert refusal is None, "an announced auction can close"

    def _allocate(self, envelope: Envelope, auction: Auction) -> AuctionResult:
        """Deals, releases, and everybody's own result (R10.2, R10.5, E9)."""
        bids = list(auction.bids.values())
        awards = allocate(bids, auction.quantity, uniform=auction.mode == "uniform")
        booked = settle(self.market, auction.instrument, auction.seller, bids, awards, envelope.seq, envelope.time_ns)
        sold = sum(filled for _, filled, _ in awards)
        auction.locked -= sold
        self._tell_bidders(auction, bids, awards, booked)
        message = AuctionSold(
            auction=auction.number,
            sold=sold,
            amount=booked.amount,
            fee=booked.seller_fee,
            first=booked.first,
            last=booked.first + len(awards) - 1,
        )
        self._notices.append(Notice(message, account=auction.seller, instrument=auction.instrument))
        return AuctionResult(
            auction=auction.number,
            instrument=self.market.code_of(auction.instrument),
            offered=auction.quantity,
            sold=sold,
            amount=booked.amount,
            price_low=awards[-1][2],
            deals=len(awards),
            state=Stage.DEALT.name.lower(),
        )

    # --- who is told what ---------------------------------------------------------------------------------------------

    def _tell(self, auction: Auction, why: str) -> None:
        """The auction's stage to its seller and the operators; the announcement to everybody."""
        message = self._state_notice(auction, why)
        for account in (auction.seller, NO_ACCOUNT):
            self._notices.append(Notice(message, account=account, instrument=auction.instrument))
        if auction.stage == Stage.ANNOUNCED:
            announced = self._announcement(auction)
            self._notices.append(Notice(announced, public=True, instrument=auction.instrument))

    def _common(self, auction: Auction) -> dict[str, Any]:
        return {
            "auction": auction.number,
            "seller": auction.seller,
            "instrument": self.market.code_of(auction.instrument),
            "quantity": auction.quantity,
            "date": auction.date,
            "mode": auction.mode,
            "reserve": auction.reserve,
        }

    def _state_notice(self, auction: Auction, why: str = "") -> AuctionState:
        return AuctionState(
            **self._common(auction),
            state=auction.stage.name.lower(),
            answer_by=auction.answer_by,
            freeze_by=auction.freeze_by,
            late=auction.late,
            why=why,
        )

    def _announcement(self, auction: Auction) -> AuctionAnnounced:
        return AuctionAnnounced(
            **self._common(auction),
            opens=auction.opens,
            closes=auction.closes,
            bid_min=auction.bid_min,
            raise_allowed=auction.raise_allowed,
            cancel_allowed=auction.cancel_allowed,
        )

    def _tell_bid(self, auction: Auction, bid: Bid, state: str) -> None:
        """Sealed: to the bidder and the operators."""
        message = _bid_notice(auction, bid, state)
        for account in (bid.account, NO_ACCOUNT):
            self._notices.append(Notice(message, account=account, instrument=auction.instrument))

    def _tell_bidders(self, auction: Auction, bids: list[Bid], awards: list[Award], booked: Booked) -> None:
        """Each bidder its own result, winners and losers alike."""
        won = {
            bid.number: _bid_result(auction, bid, filled, price, each, number)
            for number, ((bid, filled, price), each) in enumerate(zip(awards, booked.each, strict=True), booked.first)
        }
        add, where = self._notices.append, auction.instrument
        for bid in bids:
            message = won.get(bid.number) or _bid_result(auction, bid, 0, 0, (0, 0), 0)
            add(Notice(message, bid.account, 0, 0, False, where))

    def _no_deals(self, auction: Auction, why: str) -> AuctionResult:
        return AuctionResult(
            auction=auction.number,
            instrument=self.market.code_of(auction.instrument),
            offered=auction.quantity,
            sold=0,
            amount=0,
            price_low=0,
            deals=0,
            state=auction.stage.name.lower(),
            why=why,
        )

    # --- looking in -------------------------------------------------------------------------------------------------

    def view(self, account: int, number: int = 0, first_bid: int = 0) -> AuctionView:
        """What an account may know of the auctions that are not over; it changes nothing.

        A member: its own applications, announced windows, its own bids. Operators (NO_ACCOUNT): all applications and
        windows, and the bids of auction ``number`` from ``first_bid`` on, a page at a time.
        """
        operator, alive = account == NO_ACCOUNT, list(self.auctions.values())
        bids = [
            (a, bid)
            for a in alive
            if (a.number == number if operator else account in a.bids_of)
            for bid in a.bids.values()
            if bid.number >= first_bid and (operator or bid.account == account)
        ]
        more = bids[VIEW_BIDS_MAX][1].number if len(bids) > VIEW_BIDS_MAX else 0
        return AuctionView(
            auctions=tuple(self._state_notice(a) for a in alive if operator or a.seller == account),
            announced=tuple(self._announcement(a) for a in alive if a.stage == Stage.ANNOUNCED),
            bids=tuple(_bid_notice(a, bid, "open") for a, bid in bids[:VIEW_BIDS_MAX]),
            next=more,
        )

    # --- inspection -----------------------------------------------------------------------------------------------

    def locks(self) -> tuple[dict[int, int], dict[tuple[int, int], int]]:
        """Cash by account and allowances by (account, instrument) that the auctions' locks own."""
        cash: dict[int, int] = {}
        allowances: dict[tuple[int, int], int] = {}
        if not self.market.market[0]["accounts_on"]:
            return cash, allowances
        for auction in self.auctions.values():
            if auction.locked:
                key = auction.seller, auction.instrument
                allowances[key] = allowances.get(key, 0) + auction.locked
            for bid in auction.bids.values():
                cash[bid.account] = cash.get(bid.account, 0) + bid.hold.cash
        return cash, allowances

    def check(self) -> None:
        """Asserts the machine's invariants: who is locked in which stage, and that the market's locks cover ours."""
        market = self.market
        for number, auction in self.auctions.items():
            assert number == auction.number and auction.stage in OPEN
            held = auction.quantity if auction.stage in SELLER_LOCKED else 0
            assert auction.locked == held, f"auction {number}, {auction.stage.name}: {auction.locked} t locked"
            assert auction.stage == Stage.ANNOUNCED or not auction.bids, f"auction {number}: bids outside the window"
            counts: dict[int, int] = {}
            for bid in auction.bids.values():
                counts[bid.account] = counts.get(bid.account, 0) + 1
                amount = bid.price * bid.quantity
                need = amount + sum(market.fees(amount)) if market.market[0]["accounts_on"] else 0
                assert (bid.hold.quantity, bid.hold.cash) == (bid.quantity, need), f"bid {bid.number} is not locked"
            assert counts == auction.bids_of, f"auction {number}: the count of bids is wrong"
        cash, allowances = self.locks()
        for account, locked in cash.items():
            assert market.accounts[account]["locked"] >= locked, f"account {account}: bids are not in the market"
        for (account, instrument), locked in allowances.items():
            assert market.holdings[account, instrument]["locked"] >= locked, f"account {account}: allowances missing"


def _bid_notice(auction: Auction, bid: Bid, state: str) -> AuctionBidState:
    return AuctionBidState(
        auction=auction.number, bid=bid.number, account=bid.account, price=bid.price, quantity=bid.quantity, state=state
    )


def _bid_result(
    auction: Auction, bid: Bid, filled: int, price: int, each: tuple[int, int], number: int
) -> AuctionBidResult:
    return AuctionBidResult(
        auction=auction.number,
        bid=bid.number,
        price_bid=bid.price,
        quantity_bid=bid.quantity,
        filled=filled,
        price=price,
        amount=each[0],
        fee=each[1],
        number=number,
    )
