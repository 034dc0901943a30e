"""A small market with auctions, for the auction's tests."""

from __future__ import annotations

from typing import Any

from bulk_world import World, at

from engine.auction import Auctions
from engine.auction_messages import AuctionAnnounce, AuctionAnswer, AuctionApply, AuctionBid, AuctionFreeze, AuctionTick
from engine.auction_states import Stage
from engine.calendar import TradingCalendar
from engine.lane import Notice, Refusal
from engine.records import NO_ACCOUNT

SELLER = 0


def weekdays() -> list[int]:
    """Monday–Friday of the last quarter of 2023."""
    import datetime as dt

    first = dt.date(2023, 10, 9)
    every = (first + dt.timedelta(days=n) for n in range(83))
    return [d.year * 10_000 + d.month * 100 + d.day for d in every if d.weekday() < 5]


class AuctionWorld(World):
    """Prices as in E9: the vintage CEA21 closed at 74.10. Commands go to the auctions instead of the desk."""

    def __init__(self, accounts: int = 6, **more: Any) -> None:
        super().__init__(accounts, **more)
        self.market.set_reference(0, 7_410, 20231101)
        self.auctions = Auctions(self.market, TradingCalendar(weekdays()))
        self.now = at("09:00")

    def send(self, account: int, message: Any) -> list[Notice] | Refusal:
        answer = self.auctions.handle(self.envelope(account), message)
        self.auctions.check()
        return answer

    def refused(self, account: int, message: Any) -> Refusal:
        before = self.auctions.dump(), self.market.accounts.tobytes(), self.market.holdings.tobytes()
        answer = self.send(account, message)
        assert isinstance(answer, Refusal), answer
        assert before == (self.auctions.dump(), self.market.accounts.tobytes(), self.market.holdings.tobytes())
        return answer

    def check_locks(self) -> None:
        """Every locked fen and tonne belongs to exactly one bid or auction."""
        self.auctions.check()
        assert (self.market.accounts["available"] >= 0).all()
        cash, allowances = self.auctions.locks()
        for account in range(self.n_accounts):
            assert self.market.accounts[account]["locked"] == cash.get(account, 0), f"cash of account {account}"
            for instrument in (0, 1):
                row = self.market.holdings[account, instrument]
                assert row["locked"] == allowances.get((account, instrument), 0), f"allowances of account {account}"
        assert int(self.market.holdings["buy_open"].sum()) == sum(
            b.quantity for a in self.auctions.auctions.values() for b in a.bids.values()
        )

    def into(self, stage: Stage, quantity: int = 100_000, **more: Any) -> int:
        """An auction of today in a stage; the window is 10:00–10:30, the time then 10:10 where it is announced."""
        announced = {k: more.pop(k) for k in ("bid_min", "raise_allowed", "cancel_allowed") if k in more}
        apply = AuctionApply(instrument="CEA21", quantity=quantity, date=20231101, seller=SELLER, waive=True, **more)
        number = self.ok(NO_ACCOUNT, apply)["auction"]
        if stage > Stage.APPLIED:
            self.ok(NO_ACCOUNT, AuctionAnswer(auction=number, approve=True))
        if stage > Stage.APPROVED:
            self.ok(SELLER, AuctionFreeze(auction=number))
        if stage > Stage.READY:
            window = {"opens": at("10:00"), "closes": at("10:30")}
            self.ok(NO_ACCOUNT, AuctionAnnounce(auction=number, **window, **announced))
            self.now = at("10:10")
        return number

    def bid(self, account: int, auction: int, price: int, quantity: int) -> int:
        return self.ok(account, AuctionBid(auction=auction, price=price, quantity=quantity))["bid"]

    def close(self) -> list[Notice]:
        """The scheduler's tick at the window's end."""
        self.now = at("10:30")
        answer = self.send(NO_ACCOUNT, AuctionTick())
        assert not isinstance(answer, Refusal)
        self.check_locks()
        return answer
