"""The demo's members: the day's flow through the public client, in a process apart from the exchange's.

Each message is sent by its member's own session; the operator steps the exchange's clock to its time (D3).
What came of it is compared with what the flow expects: reject code, tonnes dealt at once. A dead exchange is
nothing special here: the clients reconnect, resynchronise and resend (docs/protocol.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cea.connecting import key_file
from cea.folder import Endowment
from engine.auction_messages import AuctionAnnounce, AuctionAnswer, AuctionApply, AuctionBid, AuctionFreeze
from engine.bulk_messages import BulkAccept, BulkConfirm, BulkCounter, BulkDeclare, BulkOffer
from engine.codes import Code
from engine.records import BEST_FIVE, BUY, CANCEL, FOK, IOC, LIMIT, POST_ONLY, REDUCE, SELL
from gateway.client import Client, Order
from gateway.market_data import MarketDataClient
from gateway.operator import OperatorClient
from replay.day_session import AUCTION_MIN_T
from replay.deals import Deal
from replay.flow import Action, Flow

TYPE_NAMES: Final = {LIMIT: "limit", IOC: "ioc", FOK: "fok", BEST_FIVE: "best_five", POST_ONLY: "post_only"}
OUTCOME_S: Final = 60.0  # a call may span the exchange's crash and restart
PUMP_S: Final = 1.0  # how often idle sessions are heard: well below their heartbeat's end
SELLER, BUYER = 0, 1  # which of the members negotiate bulk deals and auctions
MARGIN_FEN: Final = 200  # per tonne: what the first word of a negotiation may be dearer, and the fees
FEED_S: Final = 60.0  # a reader of the feed learns of a gap within a second; a busy machine takes longer


class DemoError(Exception):
    """The day did not go as it must; the text says what differs."""


class Driver:
    """The sessions of all members and of one operator."""

    def __init__(self, folder: Path, accounts: list[int], speed: float = 0.0) -> None:
        """``speed``: exchange time runs so many times as fast as real time; 0: as fast as it goes."""
        self.ops = OperatorClient(folder, key=key_file(folder, "ops1"), timeout=OUTCOME_S)
        self.members = [
            Client(folder, key=key_file(folder, f"member-{account}"), timeout=OUTCOME_S) for account in accounts
        ]
        self.feed = MarketDataClient(folder, key=key_file(folder, "public"), timeout=OUTCOME_S)
        self.accounts = accounts
        self.orders: dict[int, Order] = {}
        self.refusals: dict[Code, int] = {}
        self._pumped = time.monotonic()
        self.speed = speed
        self._began = (0, 0.0)  # exchange time and real time of the first step

    def close(self) -> None:
        """Logs everybody out."""
        for client in [*self.members, self.ops]:
            client.close()
        self.feed.close()

    def step(self, time_ns: int) -> None:
        """Moves the exchange's clock, when it is time, and keeps idle sessions alive."""
        if self.speed:
            self._wait_for(time_ns)
        self.ops.step_clock(time_ns)
        self._pump()

    def _pump(self) -> None:
        if time.monotonic() - self._pumped > PUMP_S:
            for client in [*self.members, self.ops]:
                client.poll(0)
            self.feed.poll(0)
            self._pumped = time.monotonic()

    def _wait_for(self, time_ns: int) -> None:
        """Until real time has come so far; the exchange's clock goes on in the meantime, for those who watch."""
        if not self._began[0]:
            self._began = (time_ns, time.monotonic())
        start_ns, began = self._began
        due = began + (time_ns - start_ns) / 1e9 / self.speed
        while (left := due - time.monotonic()) > 0:
            self._pump()
            time.sleep(min(left, PUMP_S))

    def send(self, action: Action) -> None:
        """One message of the flow; DemoError when its outcome is another than the flow's."""
        self.step(action.time_ns)
        client = self.members[action.member]
        if action.kind in (CANCEL, REDUCE):
            order_id = self.orders[action.label].order_id
            outcome = client.cancel(order_id) if action.kind == CANCEL else client.reduce(order_id, action.quantity)
            code, filled = Code(outcome.code), 0
        else:
            side = "buy" if action.side == BUY else "sell"
            kind = TYPE_NAMES[action.order_type]
            order = client.order(side, action.code, action.price, action.quantity, type=kind)
            self.orders[action.label] = order
            code, filled = Code(order.code), order.filled
        if code != action.expect or filled != action.filled:
            raise DemoError(f"{action}: outcome {code.name}, {filled} t dealt")
        if code:
            self.refusals[code] = self.refusals.get(code, 0) + 1

    def run(self, flow: Flow, first: int, last: int, progress: Callable[[int], None]) -> None:
        """The messages ``first`` … ``last`` - 1 of the flow."""
        for number in range(first, last):
            self.send(flow.actions[number])
            progress(number)

    # --- the desk --------------------------------------------------------------------------------------------

    def negotiate(
        self,
        code: str,
        price: int,
        quantity: int,
        seller: int,
        buyer: int,
        *,
        buyer_begins: bool,
        band: tuple[int, int],
    ) -> int:
        """One bulk deal between two members: declare, offer, counter, accept, confirm (R9.1). Returns its amount.

        ``seller``, ``buyer``: indexes of members. The first word is dearer (or cheaper) than where they meet, inside
        the bulk ``band`` (lowest and highest price, fen).
        """
        maker, taker = (buyer, seller) if buyer_begins else (seller, buyer)
        way = -1 if buyer_begins else 1
        first, answer = (min(max(p, band[0]), band[1]) for p in (price + way * 120, price - way * 80))
        side, to = (BUY, (self.accounts[taker],)) if buyer_begins else (SELL, ())
        declaration = BulkDeclare(side=side, instrument=code, price=first, quantity=quantity, to=to)
        number = self.members[maker].execute(declaration).data["declaration"]
        offer = BulkOffer(declaration=number, price=answer, quantity=quantity, note="for delivery today")
        thread = self.members[taker].execute(offer).data["thread"]
        self.members[maker].execute(BulkCounter(thread=thread, price=price, quantity=quantity))
        self.members[taker].execute(BulkAccept(thread=thread, price=price, quantity=quantity))
        self.members[maker].execute(BulkConfirm(thread=thread, price=price, quantity=quantity))
        for party in (self.members[maker], self.members[taker]):
            report = party.wait_for("bulk_deal", OUTCOME_S)
            if report is None or report.notice is None:
                raise DemoError(f"bulk deal of {quantity} t {code}: a party was not told")
            told: dict[str, Any] = report.notice
            if (told["price"], told["quantity"]) != (price, quantity):
                raise DemoError(f"bulk deal: {told}")
        return price * quantity

    def auction(
        self, code: str, bids: list[Deal], seller: int, buyer: int, *, previous: int, date: int, window: tuple[int, int]
    ) -> int:
        """A one-way auction with these winning bids (R10); it is dealt when its window ends. Returns its number.

        The application lies days before the day, so the operator applies for the seller and waives the notice periods.
        """
        lowest, opens = min(price for price, _ in bids), window[0]
        application = AuctionApply(
            instrument=code,
            quantity=auction_quantity(bids),
            date=date,
            mode="uniform" if len(bids) == 1 else "pay_as_bid",
            reserve="minus_10" if lowest < previous else "previous_close",
            seller=self.accounts[seller],
            waive=True,
            by="ops1",
            why="historical day: the application lies before it",
        )
        number = int(self.ops.execute(application).data["auction"])
        self.ops.execute(AuctionAnswer(auction=number, approve=True, by="ops1"))
        self.members[seller].execute(AuctionFreeze(auction=number))
        self.ops.execute(AuctionAnnounce(auction=number, opens=opens, closes=window[1], by="ops1"))
        self.step(opens)
        for price, quantity in bids:
            self.members[buyer].execute(AuctionBid(auction=number, price=price, quantity=quantity))
        return number

    def published_volumes(self, wanted: dict[str, int]) -> dict[str, int]:
        """Volumes per vintage as a reader of the public feed has them, at the latest when it has caught up (t)."""
        deadline = time.monotonic() + FEED_S
        while True:
            self.feed.poll(0.1)
            found = {c: b.statistics.volume if b.statistics else 0 for c, b in self.feed.books.items()}
            if found == wanted or time.monotonic() > deadline:
                return found

    def day_closed(self) -> dict[str, Any]:
        """The day's result from the stream of all events; DemoError when the exchange has not closed the day."""
        self.ops.subscribe(1)
        deadline = time.monotonic() + OUTCOME_S
        while time.monotonic() < deadline:
            for report in self.ops.events(1.0):
                if report.notice is not None and report.notice.get("t") == "day_closed":
                    return report.notice
        raise DemoError("the exchange did not publish the day's result")


def auction_quantity(bids: list[Deal]) -> int:
    """What is offered so that these bids win: at least what an auction must offer (R10)."""
    return max(AUCTION_MIN_T, sum(quantity for _, quantity in bids))


def endowments_of(
    flow: Flow, bulk: list[tuple[str, int, int]], auctions: dict[str, list[Deal]] | None = None
) -> list[Endowment]:
    """The flow's members as accounts 1 …; SELLER sells bulk (code, price, quantity) and auctions, BUYER buys them."""
    bids = [bid for won in (auctions or {}).values() for bid in won]
    amount = sum((p + MARGIN_FEN) * q for p, q in [*((p, q) for _, p, q in bulk), *bids])
    stock: dict[str, int] = {}
    for code, quantity in [
        *((c, q) for c, _, q in bulk),
        *((c, auction_quantity(b)) for c, b in (auctions or {}).items()),
    ]:
        stock[code] = stock.get(code, 0) + quantity
    found = []
    for number, member in enumerate(flow.members, 1):
        extra = stock if number == SELLER + 1 else {}
        allowances = {c: member.allowances.get(c, 0) + extra.get(c, 0) for c in {**member.allowances, **extra}}
        found.append(Endowment(number, member.name, member.cash + (amount if number == BUYER + 1 else 0), allowances))
    return found
