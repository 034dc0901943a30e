"""A small market with a desk, for the desk's tests: accounts with money and allowances, an envelope per command."""

from __future__ import annotations

from typing import Any

from engine.bulk import Desk
from engine.bulk_messages import (
    BulkAccept,
    BulkAmend,
    BulkConfirm,
    BulkCounter,
    BulkDeclare,
    BulkOffer,
    BulkRefuse,
    BulkRetract,
    BulkTake,
)
from engine.bulk_states import Talk, Turn
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
        self.market = Market(
            rules, capacity or Capacity(accounts=max(16, accounts), instruments=2, orders=64, levels=4_096)
        )
        for account in range(accounts):
            row = self.market.accounts[account]
            row["status"], row["available"] = ACTIVE, CASH
        self.market.add_instrument("CEA21", 7_872, DATE)
        self.market.add_instrument("CEA", 5_000, DATE)
        self.market.roll(DATE)
        for account in range(accounts):
            self.market.holdings[account]["sellable"][:2] = TONNES
        self.n_accounts = accounts
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

    def totals(self) -> tuple[int, list[int]]:
        """All cash and all allowances per vintage: constant, whatever the desk does (guarantee 3)."""
        return self.market.total_cash(), [self.market.total_allowances(i) for i in (0, 1)]

    def check_locks(self) -> None:
        """Every locked fen and tonne of the market belongs to exactly one declaration or dialogue of the desk."""
        self.desk.check()
        assert (self.market.accounts["available"] >= 0).all()
        for name in ("sellable", "bought_today", "locked", "buy_open"):
            assert (self.market.holdings[name] >= 0).all(), name
        cash, allowances = self.desk.locks()
        for account in range(self.n_accounts):
            assert self.market.accounts[account]["locked"] == cash.get(account, 0), f"cash of account {account}"
            for instrument in (0, 1):
                held = self.market.holdings[account, instrument]["locked"]
                assert held == allowances.get((account, instrument), 0), f"allowances of account {account}"


MAKER, TAKER, OTHER = 0, 1, 2

# How each open state of a dialogue is reached: the turns after the declaration.
PATHS: dict[Talk, tuple[Turn, ...]] = {
    Talk.OFFERED_BY_TAKER: (Turn.OFFER,),
    Talk.OFFERED_BY_MAKER: (Turn.OFFER, Turn.MAKER_COUNTERS),
    Talk.TAKEN: (Turn.TAKE,),
    Talk.ACCEPTED_BY_TAKER: (Turn.OFFER, Turn.MAKER_COUNTERS, Turn.TAKER_ACCEPTS),
    Talk.ACCEPTED_BY_MAKER: (Turn.OFFER, Turn.MAKER_ACCEPTS),
}


def command(world: World, declaration: int, turn: Turn) -> tuple[int, Any]:
    """Who sends what for a turn of MAKER's and TAKER's dialogue, with the terms that fit its present state."""
    found = world.desk.declarations.get(declaration)
    number = found.threads.get(TAKER) if found else None
    thread = world.desk.threads[number] if number else None
    who = MAKER if turn.name.startswith("MAKER") else TAKER
    open_terms = (found.price, found.quantity) if found else (7_000, 200_000)
    price, quantity = (thread.price, thread.quantity) if thread else open_terms
    number = number or max(1, world.desk.next_thread - 1)
    verb = turn.name.rpartition("_")[2]
    part = 100_000 if found and found.partial else open_terms[1]
    if turn == Turn.OFFER:
        return who, BulkOffer(declaration=declaration, price=open_terms[0] + 20, quantity=part)
    if turn == Turn.TAKE:
        return who, BulkTake(declaration=declaration, price=open_terms[0], quantity=part)
    if verb == "COUNTERS":
        return who, BulkCounter(thread=number, price=price + 30, quantity=quantity)
    if verb == "ACCEPTS":
        return who, BulkAccept(thread=number, price=price, quantity=quantity)
    if verb == "CONFIRMS":
        return who, BulkConfirm(thread=number, price=price, quantity=quantity)
    return who, (BulkRefuse(thread=number) if verb == "REFUSES" else BulkRetract(thread=number))


def reach(world: World, side: int, state: Talk, *, partial: bool = True) -> int:
    """A declaration of MAKER with one dialogue of TAKER in the given state. Returns the declaration's number."""
    declaration = world.declare(MAKER, side, 7_000, 300_000, partial=partial)
    for turn in PATHS[state]:
        who, message = command(world, declaration, turn)
        world.ok(who, message)
    assert next(iter(world.desk.threads.values())).state == state
    return declaration


def amend(declaration: int, price: int, quantity: int) -> BulkAmend:
    return BulkAmend(declaration=declaration, price=price, quantity=quantity)
