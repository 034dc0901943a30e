"""A seeded afternoon with everything in it: listed orders, negotiations at the desk, auctions, on one exchange.

Unlike ``streams``, which aims at the listed market's corners, this one interleaves the three methods on the same
accounts, so that locks of all kinds are open at any moment. It is made by running the engine: every number that a
command names is one that the exchange gave out.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import numpy as np
from bulk_world import at

from engine import Capacity, Exchange, Rules
from engine import auction_messages as am
from engine import bulk_messages as bm
from engine import messages as msg
from engine.auction_states import Stage
from engine.records import BUY, CANCEL, COMMAND, LIMIT, MESSAGE, NEW, NO_ACCOUNT, SELL

DATE = 20231101
CODES = ("CEA21", "CEA")
REFERENCES = {"CEA21": 7_872, "CEA": 5_000}
ACCOUNTS = 6
MINIMUM_T = 100_000  # of a bulk quantity and of an auction (R4.2, R4.3)
CAPACITY = Capacity(accounts=16, instruments=2, orders=256, levels=4_096, deals=4, sessions=32)


class DeskStream(NamedTuple):
    """Commands (COMMAND, sequenced), the payloads of the MESSAGE records in order, what they led to by name."""

    commands: np.ndarray
    payloads: list[bytes]
    bulk_deals: int
    auctions_closed: int
    listed_deals: int


class _Writer:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(f"desk {seed}")
        self.exchange = Exchange(Rules.national(), CAPACITY)
        self.records: list[np.ndarray] = []
        self.payloads: list[bytes] = []
        self.auctions_closed = 0

    def send(self, message: Any, account: int = NO_ACCOUNT) -> dict[str, Any]:
        """One message; the data of its Done, empty where it was refused."""
        payload = msg.encode(message)
        record = np.zeros(1, COMMAND)
        record["kind"], record["account"], record["quantity"] = MESSAGE, account, len(payload)
        self._apply(record, payload)
        done = [n.data for _, n in self.output.notices() if isinstance(n, msg.Done)]
        return done[0] if done else {}

    def order(self, account: int, **fields: int) -> None:
        record = np.zeros(1, COMMAND)
        record["account"] = account
        for name, value in fields.items():
            record[name] = value
        self._apply(record, b"")

    def _apply(self, record: np.ndarray, payload: bytes) -> None:
        record["seq"], record["time_ns"] = self.exchange.seq + 1, self.exchange.time_ns
        self.records.append(record)
        self.payloads += [payload] if payload else []
        self.output = self.exchange.apply(record, payload)

    def lay(self) -> None:
        for account in range(ACCOUNTS):
            self.send(msg.OpenAccount(account=account, name=f"member {account}"))
            self.send(msg.Deposit(account=account, amount=10**12, document=f"d{account}"))
        for code in CODES:
            self.send(msg.ListInstrument(code=code, reference=REFERENCES[code]))
        self.send(msg.RollDay(date=DATE, references=REFERENCES))
        for account in range(ACCOUNTS):
            for code in CODES:
                transfer = f"t{account}{code}"
                self.send(msg.TransferIn(account=account, instrument=code, quantity=3_000_000, transfer=transfer))

    # One step of each method

    def listed(self) -> None:
        chance, account = self.random, self.random.randrange(ACCOUNTS)
        open_orders = self.exchange.open_orders()
        if len(open_orders) and chance.random() < 0.3:
            row = open_orders[chance.randrange(len(open_orders))]
            self.order(int(row["account"]), kind=CANCEL, order_id=int(row["order_id"]))
            return
        instrument = chance.randrange(2)
        price = REFERENCES[CODES[instrument]] + chance.randint(-6, 6)
        side, quantity = chance.choice((BUY, SELL)), chance.randint(1, 900)
        self.order(
            account, kind=NEW, order_type=LIMIT, side=side, price=price, quantity=quantity, instrument=instrument
        )

    def desk(self) -> None:
        chance, desk = self.random, self.exchange.desk
        who = chance.randrange(ACCOUNTS)
        if desk.threads and chance.random() < 0.7:
            number = chance.choice(sorted(desk.threads))
            thread = desk.threads[number]
            terms = {"thread": number, "price": thread.price, "quantity": thread.quantity}
            maker = desk.declarations[thread.declaration].maker
            who = chance.choice((maker, thread.taker))
            kind = chance.choices(("confirm", "accept", "counter", "refuse", "retract"), (5, 4, 3, 1, 1))[0]
            if kind == "counter":
                terms["price"] += chance.randint(-20, 20)
            plain = {"refuse": bm.BulkRefuse(thread=number), "retract": bm.BulkRetract(thread=number)}
            bound = {"confirm": bm.BulkConfirm, "accept": bm.BulkAccept, "counter": bm.BulkCounter}
            self.send(plain.get(kind) or bound[kind](**terms), who)
        elif desk.declarations and chance.random() < 0.6:
            number = chance.choice(sorted(desk.declarations))
            found = desk.declarations[number]
            quantity = MINIMUM_T if found.partial else found.quantity
            make = chance.choice((bm.BulkTake, bm.BulkOffer))
            self.send(make(declaration=number, price=found.price, quantity=quantity), who)
        elif desk.declarations and chance.random() < 0.3:
            number = chance.choice(sorted(desk.declarations))
            self.send(bm.BulkWithdraw(declaration=number), desk.declarations[number].maker)
        else:
            code = chance.choice(CODES)
            self.send(
                bm.BulkDeclare(
                    side=chance.choice((BUY, SELL)),
                    instrument=code,
                    price=REFERENCES[code] + chance.randint(-900, 900),
                    quantity=chance.choice((1, 2, 3)) * MINIMUM_T,
                    partial=chance.random() < 0.5,
                ),
                who,
            )

    def begin_auction(self, opens: int, closes: int) -> None:
        seller = self.random.randrange(ACCOUNTS)
        apply = am.AuctionApply(
            instrument=self.random.choice(CODES), quantity=MINIMUM_T, date=DATE, seller=seller, waive=True, why="test"
        )
        number = self.send(apply)["auction"]
        self.send(am.AuctionAnswer(auction=number, approve=True))
        self.send(am.AuctionFreeze(auction=number), seller)
        self.send(am.AuctionAnnounce(auction=number, opens=opens, closes=closes, cancel_allowed=True))

    def bid(self) -> None:
        chance = self.random
        found = [(n, a) for n, a in sorted(self.exchange.auctions.auctions.items()) if a.stage == Stage.ANNOUNCED]
        if not found:
            return
        number, auction = chance.choice(found)
        price = REFERENCES[CODES[auction.instrument]] + chance.randint(0, 300)
        bids = sorted(auction.bids)
        if bids and chance.random() < 0.3:
            bid = chance.choice(bids)
            old = auction.bids[bid]
            change = am.AuctionRaise(auction=number, bid=bid, price=old.price + 10, quantity=old.quantity)
            cancel = am.AuctionCancelBid(auction=number, bid=bid)
            self.send(chance.choice((change, change, cancel)), old.account)
        else:
            quantity = chance.randint(1, 70) * 1_000
            self.send(am.AuctionBid(auction=number, price=price, quantity=quantity), chance.randrange(ACCOUNTS))

    def run(self, length: int) -> None:
        """Fills the afternoon with ``length`` commands; two auctions, the desk and the listed market side by side."""
        self.lay()
        windows = [(at("13:05"), at("13:40")), (at("13:50"), at("14:30"))]
        first, last = at("13:00"), at("14:59")
        self.exchange.advance(first)
        for opens, closes in windows:
            self.begin_auction(opens, closes)
        due = [closes for _, closes in windows]
        laid = len(self.records)
        while len(self.records) < length:
            share = (len(self.records) - laid) / max(1, length - laid)
            now = first + int((last - first) * share)
            while due and now >= due[0]:
                self.exchange.advance(due.pop(0))
                self.send(am.AuctionTick())
                self.auctions_closed += 1
            self.exchange.advance(now)
            kind = self.random.random()
            if kind < 0.5:
                self.desk()
            elif kind < 0.65:
                self.bid()
            else:
                self.listed()
        self.exchange.check()


def desk_stream(seed: int, length: int) -> DeskStream:
    """``length`` commands of an afternoon, and how many deals of each method they lead to."""
    writer = _Writer(seed)
    writer.run(length)
    market = writer.exchange.market
    methods = market.deals["method"][: int(market.market[0]["deals"])].tolist()
    return DeskStream(
        np.concatenate(writer.records), writer.payloads, methods.count(1), writer.auctions_closed, methods.count(0)
    )
