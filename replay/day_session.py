"""One trading day through the national exchange: orders to the market and the desk, then the close and its figures.

Members' orders lead to deals that were worked out beforehand: for each deal, or sweep of deals, resting orders and an
incoming one. After the last deal an order at each limit and one a tick beyond it show where the engine's own limits
lie. Bulk volume goes over the desk: declaration, acceptance, confirmation (R9.1). Auction volume is sold in a one-way
auction of the morning (R10); its notice periods are waived, because the application lies days before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec
import numpy as np

from engine import messages as msg
from engine.auction_messages import AuctionAnnounce, AuctionAnswer, AuctionApply, AuctionBid, AuctionFreeze, AuctionTick
from engine.bulk_messages import BulkConfirm, BulkDeclare, BulkTake
from engine.calendar import NS_PER_SECOND, day_start_ns
from engine.codes import TEXT_EN, Code
from engine.exchange import Exchange
from engine.market import Capacity
from engine.records import ACCEPTED, BUY, COMMAND, FILL_MAKER, IOC, LIMIT, NEW, NO_ACCOUNT, NOTICE, REJECTED, SELL
from engine.rules import Rules
from replay.deals import Deal
from replay.flow import Episode

MEMBERS: Final = 12  # makers, takers and desk parties take turns; how many there really are does not matter here
CASH_FEN: Final = 10**17  # per member: a thousand times the market's turnover since 2021
STOCK_T: Final = 10**11  # per member and vintage
LEVELS: Final = 1 << 14  # a ±10 % band of a reference of 800 yuan
AUCTION_MIN_T: Final = 100_000  # what a seller must offer at least (R4.3); less may be sold (R10.5)
ROLL_AT: Final = 9 * 3600 * NS_PER_SECOND
PROBE_BEFORE_CLOSE_NS: Final = 10 * NS_PER_SECOND


class Refused(NamedTuple):
    """An order or desk command of the day that the exchange refused, which it should not have."""

    code: str
    reject: int
    text: str


class DayOutcome(NamedTuple):
    """What the exchange made of the day."""

    result: msg.DayClosed
    refused: list[Refused]
    deals: list[Deal]  # all listed deals as events told them, (price, quantity)
    limits: dict[str, tuple[int, int]]  # as found by probing with orders


class DaySession:
    """A national exchange that lives through one day after the other."""

    def __init__(self, rules: Rules, further_accounts: int = 0) -> None:
        accounts = MEMBERS + further_accounts
        capacity = Capacity(accounts=accounts, instruments=64, orders=1 << 12, sessions=1, levels=LEVELS)
        self.rules = rules
        self.exchange = Exchange(rules, capacity)
        self.refused: list[Refused] = []
        self.deals: list[Deal] = []
        self.turn = 0
        for account in range(MEMBERS):
            self.must(msg.OpenAccount(account=account, name=f"Member {account + 1}"))
            self.must(msg.Deposit(account=account, amount=CASH_FEN, document=f"cash-{account}"))

    # --- messages -------------------------------------------------------------------------------------------

    def send(self, message: Any, account: int = NO_ACCOUNT) -> list[dict[str, Any]]:
        """One slow-lane command; the notices that it led to, decoded."""
        out = self.exchange.execute(message, account)
        found, at = [], 0
        for event in out.events[out.events["kind"] == NOTICE]:
            size = int(event["quantity"])
            found.append(msgspec.msgpack.decode(out.payloads[at : at + size]))
            at += size
        return found

    def must(self, message: Any) -> list[dict[str, Any]]:
        """A command that the exchange carries out; ValueError with its text when it is refused."""
        notices = self.send(message)
        for n in notices:
            if n["t"] == "refused":
                raise ValueError(f"{n['command']}: {n['text']} ({n['field']})")
        return notices

    # --- the day --------------------------------------------------------------------------------------------

    def begin(self, date: int, codes: Sequence[str], references: dict[str, int], composite: int) -> None:
        """Rolls to the date and lists what is new: at its reference if it has one, else as R6.5 says.

        ``references`` and ``composite`` are for the first day, and for a composite that was printed otherwise (D32).
        """
        listed = self.exchange.market.codes
        for code in codes:
            if code not in listed and code in references:
                self._list(code, references[code])
        self.exchange.advance(day_start_ns(date) + ROLL_AT)
        self.must(msg.RollDay(date=date, references={c: references[c] for c in references}, composite=composite))
        for code in codes:
            if code not in listed:
                self._list(code, None)
        self.refused, self.deals = [], []

    def _list(self, code: str, reference: int | None) -> None:
        self.must(msg.ListInstrument(code=code, reference=reference))
        for account in range(MEMBERS):
            self.must(msg.TransferIn(account=account, instrument=code, quantity=STOCK_T, transfer=f"{code}-{account}"))

    def trade(self, episodes: Sequence[Episode], bulk: dict[str, list[Deal]], auctions: dict[str, list[Deal]]) -> None:
        """All listed deals in order, spread over the day's hours; bulk deals at the opening of the desk.

        ``auctions``: per vintage the bids that win, whole. They are placed at the opening, and dealt at midday.
        """
        m = self.exchange.market.market[0]
        for code, bids in auctions.items():
            self._send_auction(code, bids)
        morning, afternoon = int(m["morning_end"] - m["morning_open"]), int(m["close"] - m["afternoon_open"])
        step = (morning + afternoon - 2 * PROBE_BEFORE_CLOSE_NS) // max(1, len(episodes))
        times = [n * step for n in range(len(episodes))]
        before = sum(t < morning for t in times)
        self._send_episodes(episodes[:before], [int(m["morning_open"]) + t for t in times[:before]])
        if auctions:
            self._sell_auctions(int(m["afternoon_open"]))
        self._send_bulk(bulk)
        self._send_episodes(episodes[before:], [int(m["afternoon_open"]) + t - morning for t in times[before:]])

    def _send_episodes(self, episodes: Sequence[Episode], times: Sequence[int]) -> None:
        """Per episode its makers' resting orders and its taker, who wants exactly what they offer."""
        if not episodes:
            return
        rows = []
        for e, time_ns in zip(episodes, times, strict=True):
            instrument, taker = self.exchange.market.codes[e.code], self._member()
            for price, quantity in e.deals:
                maker = self._member(taker)
                rows.append((time_ns, price, quantity, maker, instrument, 1 - e.side, LIMIT))
            kind = IOC if self.turn % 3 == 0 else LIMIT
            rows.append((time_ns, e.deals[-1][0], sum(q for _, q in e.deals), taker, instrument, e.side, kind))
        events = self.apply(rows)
        for event in events[events["kind"] == REJECTED]:
            code = self.exchange.market.code_of(int(event["instrument"]))
            reason = int(event["reason"])
            price, quantity = int(event["price"]), int(event["quantity"])
            self.refused.append(Refused(code, reason, f"{quantity} t at {price} fen: {TEXT_EN[reason]}"))
        makers = events[events["kind"] == FILL_MAKER]
        self.deals += list(zip(makers["price"].tolist(), makers["quantity"].tolist(), strict=True))

    def apply(self, rows: Sequence[tuple[int, int, int, int, int, int, int]]) -> np.ndarray:
        """Sends new orders (time, price, quantity, account, instrument, side, type) as one batch. Its events."""
        assert rows, "nothing to send"
        commands = np.zeros(len(rows), COMMAND)
        names = ("time_ns", "price", "quantity", "account", "instrument", "side", "order_type")
        for name, column in zip(names, zip(*rows, strict=True), strict=True):
            commands[name] = column
        commands["kind"] = NEW
        first = self.exchange.seq + 1
        commands["seq"] = np.arange(first, first + len(rows), dtype=np.uint64)
        return self.exchange.apply(commands).events.copy()

    def _member(self, other_than: int = -1) -> int:
        self.turn += 1
        member = self.turn * 7 % MEMBERS
        return member if member != other_than else (member + 1) % MEMBERS

    def _send_bulk(self, bulk: dict[str, list[Deal]]) -> None:
        """Each deal as a declaration that another member takes as it stands and its maker confirms (R9.1, D21)."""
        if not any(bulk.values()):
            return
        self.exchange.advance(max(self.exchange.time_ns, int(self.exchange.market.market[0]["bulk_open"])))
        for code, deals in bulk.items():
            for price, quantity in deals:
                maker = self._member()
                taker = self._member(maker)
                side = BUY if self.turn % 4 == 0 else SELL
                terms: dict[str, Any] = {"price": price, "quantity": quantity}
                answer = self.send(BulkDeclare(side=side, instrument=code, **terms), maker)
                if self._refused(code, answer):
                    continue
                answer = self.send(BulkTake(declaration=answer[0]["data"]["declaration"], **terms), taker)
                if self._refused(code, answer):
                    continue
                self._refused(code, self.send(BulkConfirm(thread=answer[0]["data"]["thread"], **terms), maker))

    def _send_auction(self, code: str, bids: Sequence[Deal]) -> None:
        """Application, approval, freeze and announcement by the operator and the seller, then the bids (R10)."""
        m, seller = self.exchange.market.market[0], self._member()
        reference = int(self.exchange.market.instruments[self.exchange.market.codes[code]]["reference"])
        mode: Literal["uniform", "pay_as_bid"] = "uniform" if len(bids) == 1 else "pay_as_bid"
        apply = AuctionApply(
            instrument=code,
            quantity=max(AUCTION_MIN_T, sum(q for _, q in bids)),
            date=int(m["date"]),
            mode=mode,
            reserve="minus_10" if min(p for p, _ in bids) < reference else "previous_close",
            seller=seller,
            waive=True,
            why="historical day: the application lies before it",
        )
        answer = self.send(apply)
        if self._refused(code, answer):
            return
        number, opens, closes = answer[0]["data"]["auction"], int(m["morning_open"]), int(m["morning_end"])
        for message in (
            AuctionAnswer(auction=number, approve=True),
            AuctionFreeze(auction=number),
            AuctionAnnounce(auction=number, opens=max(opens, self.exchange.time_ns), closes=closes),
        ):
            if self._refused(code, self.send(message)):
                return
        self.exchange.advance(max(opens, self.exchange.time_ns))
        for price, quantity in bids:
            bid = AuctionBid(auction=number, price=price, quantity=quantity)
            self._refused(code, self.send(bid, self._member(seller)))

    def _sell_auctions(self, time_ns: int) -> None:
        """Deals the auctions whose window has ended by this time."""
        self.exchange.advance(max(time_ns, self.exchange.time_ns))
        self.must(AuctionTick())

    def _refused(self, code: str, notices: list[dict[str, Any]]) -> bool:
        for n in notices:
            if n["t"] == "refused":
                self.refused.append(Refused(code, n["code"], f"{n['command']}: {n['text']}"))
                return True
        return False

    def end(self, date: int) -> DayOutcome:
        """Probes the limits, closes and settles the day."""
        m = self.exchange.market.market[0]
        limits = self._probe_limits(int(m["close"]) - PROBE_BEFORE_CLOSE_NS)
        self.exchange.advance(int(m["close"]))
        notices = self.must(msg.CloseDay())
        (closed,) = (n for n in notices if n["t"] == "day_closed")
        self.must(msg.SettleDay(date=date, digest="replay"))
        del closed["t"]
        return DayOutcome(msgspec.convert(closed, msg.DayClosed), self.refused, self.deals, limits)

    def _probe_limits(self, time_ns: int) -> dict[str, tuple[int, int]]:
        """Limits as orders find them: accepted at the limit, refused a tick beyond; (0, 0) where that is not so."""
        market, tick = self.exchange.market, self.rules.tick_fen
        rows, codes = [], [c for c, i in market.codes.items() if market.instruments[i]["listed"]]
        for code in codes:
            i = market.codes[code]
            low, high = int(market.instruments[i]["limit_low"]), int(market.instruments[i]["limit_high"])
            rows += [(time_ns, p, 1, 0, i, BUY, LIMIT) for p in (low, low - tick)]
            rows += [(time_ns, p, 1, 1, i, SELL, LIMIT) for p in (high, high + tick)]
        expected = (0, int(Code.PRICE_BELOW_LIMIT), 0, int(Code.PRICE_ABOVE_LIMIT))
        events = self.apply(rows)
        answers = events[np.isin(events["kind"], (ACCEPTED, REJECTED))]["reason"].reshape(-1, 4)
        found = {}
        for code, answer in zip(codes, answers, strict=True):
            i = market.codes[code]
            low, high = int(market.instruments[i]["limit_low"]), int(market.instruments[i]["limit_high"])
            found[code] = (low, high) if tuple(answer) == expected else (0, 0)
        return found
