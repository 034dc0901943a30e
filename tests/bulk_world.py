"""A small market with a desk, for the desk's tests: accounts with money and allowances, an envelope per command."""

from __future__ import annotations

from typing import Any

from engine.bulk import Desk
from engine.bulk_messages import BulkDeclare
from engine.calendar import NS_PER_SECOND, day_start_ns
from engine.lane import Envelope, Notice, Refusal
from engine.market import ACTIVE, Capacity, Market
from engine.records import NO_ACCOUNT
from engine.rules import Fees, Rules

DATE = 20231101
CASH = 10_000_000_000_00
TONNES = 5_000_000


def at(clock: str, date: int = DATE) -> int:
    """``13:00:05`` Shanghai time in ns UTC."""
    hour, minute, second = map(int, (clock + ":00").split(":")[:3])
    return day_start_ns(date) + (hour * 3600 + minute * 60 + second) * NS_PER_SECOND


class World:
    """A market with ``accounts`` accounts, CEA21 at 78.72 (E5) and CEA at 50.00; it is 13:30."""

    def __init__(
        self, accounts: int = 6, *, trading_ppm: int = 0, settlement_ppm: int = 0, capacity: Capacity | None = None
    ) -> None:
        rules = Rules.national()
        if trading_ppm or settlement_ppm:
            fees = (Fees(from_date=20210716, trading_ppm=trading_ppm, settlement_ppm=settlement_ppm),)
            rules = Rules(
                profile=rules.profile, hours=rules.hours, limits=rules.limits, weights=rules.weights, fees=fees
            )
        self.market = Market(rules, capacity or Capacity(accounts=max(16, accounts), orders=64, levels=4_096))
        for account in range(accounts):
            row = self.market.accounts[account]
            row["status"], row["available"] = ACTIVE, CASH
        self.market.add_instrument("CEA21", 7_872, DATE)
        self.market.add_instrument("CEA", 5_000, DATE)
        self.market.roll(DATE)
        for account in range(accounts):
            self.market.holdings[account]["sellable"][:2] = TONNES
        self.desk = Desk(self.market)
        self.now = at("13:30")
        self.seq = 0
        self.request = 0

    def envelope(self, account: int = NO_ACCOUNT) -> Envelope:
        self.seq += 1
        self.request += 1
        return Envelope(self.seq, self.now, 0 if account == NO_ACCOUNT else account + 1, account, self.request)

    def send(self, account: int, message: Any) -> list[Notice] | Refusal:
        answer = self.desk.handle(self.envelope(account), message)
        self.desk.check()
        return answer

    def ok(self, account: int, message: Any) -> dict[str, Any]:
        """Sends a command that must succeed; the ``data`` of its Done."""
        answer = self.send(account, message)
        assert not isinstance(answer, Refusal), answer
        return answer[0].message.data

    def refused(self, account: int, message: Any) -> Refusal:
        """Sends a command that must be refused and must change nothing."""
        before = self.desk.dump(), self.market.accounts.tobytes(), self.market.holdings.tobytes()
        answer = self.send(account, message)
        assert isinstance(answer, Refusal), answer
        assert before == (self.desk.dump(), self.market.accounts.tobytes(), self.market.holdings.tobytes())
        return answer

    def declare(self, account: int, side: int, price: int, quantity: int, **more: Any) -> int:
        code = more.pop("instrument", "CEA21")
        message = BulkDeclare(side=side, instrument=code, price=price, quantity=quantity, **more)
        return self.ok(account, message)["declaration"]

    def cash(self, account: int) -> tuple[int, int]:
        """Available and locked, fen."""
        row = self.market.accounts[account]
        return int(row["available"]), int(row["locked"])

    def tonnes(self, account: int, instrument: int = 0) -> tuple[int, int, int]:
        """Sellable, bought today, locked, t."""
        row = self.market.holdings[account, instrument]
        return int(row["sellable"]), int(row["bought_today"]), int(row["locked"])
