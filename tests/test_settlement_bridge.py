"""The bridge between a real engine and a real registry, and requests to a remote registry."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from registry_world import DAY, NOON
from small_market import SmallMarket

from engine import messages as msg
from engine import records as r
from engine.rules import Fees, Rules
from settlement import progress, store
from settlement.bridge import Bridge
from settlement.errors import Refused, accepted
from settlement.exchange_port import Answer, LocalExchange
from settlement.fees import trading_parts
from settlement.outbox import OutboxState
from settlement.registry import AccountForm, Registry
from settlement.remote import REQUEST, Outcome, RemoteRegistry, RequestEvent, RequestState, Unknown
from settlement.states import DayState
from settlement.verify import verify

CASH, TONNES = 10**9, 10_000


class Bank:
    """A settlement bank that pays, refuses or does not answer."""

    def __init__(self) -> None:
        self.answers: list[str | Refused | None] = []
        self.paid: dict[str, int] = {}

    def pay(self, account: int, amount_fen: int, document: str) -> str | Refused | None:
        answer = self.answers.pop(0) if self.answers else f"B-{document}"
        if isinstance(answer, str) or answer is None:
            self.paid[document] = amount_fen  # also when the answer is lost
        return answer


class Town:
    """Three members at an exchange with accounts, their registry, and the bridge between."""

    def __init__(self, folder: Path, rules: Rules | None = None) -> None:
        self.market = SmallMarket(rules or Rules.generic(accounts=True), cash=1, allowances=1)
        self.registry = Registry.open(f"sqlite:///{folder}/registry.db")
        self.exchange = LocalExchange(self.market.exchange)
        self.bank = Bank()
        self.bridge = Bridge(self.registry, self.exchange, lambda: NOON, self.bank)
        assert self.registry.add_asset("X", vintage=2025) is None
        for account in range(4):
            form = AccountForm(account, f"R{account}", f"Member {account}", f"91-{account}")
            accepted(self.registry.open_account(form, f"open-{account}", NOON))
            accepted(self.registry.issue(account, "X", 2 * TONNES + 1, f"issue-{account}", NOON))
            # What SmallMarket gave each account at the exchange, in the registry's books.
            accepted(self.registry.move_in(account, "X", 1, f"T{account}", NOON))
            accepted(self.registry.deposit(account, 1, f"C{account}", NOON))
            accepted(self.bridge.move_in(account, "X", TONNES, f"in-{account}"))
            accepted(self.bridge.deposit(account, CASH, f"deposit-{account}"))

    def trade(self, price: int, quantity: int, seller: int = 0, buyer: int = 1) -> None:
        common = {"instrument": 0, "price": price, "quantity": quantity, "order_type": r.LIMIT}
        self.market.send(r.NEW, account=seller, side=r.SELL, request_no=self.next(), **common)
        seen = self.market.send(r.NEW, account=buyer, side=r.BUY, request_no=self.next(), **common)
        assert any(event.kind == "taker" for event in seen), seen

    def close(self) -> None:
        self.market.exchange.execute(msg.CloseDay())
        assert self.market.exchange.market.market[0]["day_closed"]

    def next(self) -> int:
        self.request = getattr(self, "request", 0) + 1
        return self.request

    def sellable(self, account: int) -> int:
        return int(self.market.exchange.market.holdings[account, 0]["sellable"])

    def available(self, account: int) -> int:
        return int(self.market.exchange.market.accounts[account]["available"])


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    town = Town(tmp_path)
    yield town
    town.registry.close()


def test_a_day_at_a_real_engine_settles_and_reconciles(town: Town, tmp_path: Path) -> None:
    town.trade(1_000, 30)
    town.trade(1_001, 20, seller=2, buyer=0)
    town.close()
    ended = accepted(town.bridge.end_of_day(DAY, statements=tmp_path / "statements"))
    assert ended.day.state == DayState.RECONCILED
    assert ended.may_open_next
    assert ended.differences == []
    assert (ended.summary.deals, ended.summary.quantity_t) == (2, 50)
    assert town.registry.balance(1, "X", "trading") == TONNES + 31
    assert len(list((tmp_path / "statements").iterdir())) == 3
    again = accepted(town.bridge.end_of_day(DAY))
    assert again.summary == ended.summary
    assert town.bridge.rolled(DAY) is None
    assert verify(town.registry.engine) == []


def test_each_trader_hears_its_statement_once_with_the_hash_of_its_file(town: Town, tmp_path: Path) -> None:
    heard: list[tuple[int, Any]] = []
    execute = town.market.exchange.execute

    def listen(message: Any) -> Any:
        output, at = execute(message), 0
        for event in output.events[output.events["kind"] == r.NOTICE]:
            notice = msg.decode_notice(output.payloads[at : at + int(event["quantity"])])
            at += int(event["quantity"])
            if isinstance(notice, msg.Statement):
                heard.append((int(event["account"]), notice))
        return output

    town.market.exchange.execute = listen  # type: ignore[method-assign]
    town.trade(1_000, 30)
    town.close()
    for _ in range(2):
        accepted(town.bridge.end_of_day(DAY, statements=tmp_path / "s"))
    assert [account for account, _ in heard] == [0, 1]
    for account, notice in heard:
        content = (tmp_path / "s" / f"{DAY}-{account}.json").read_bytes()
        assert notice.digest == hashlib.blake2b(content, digest_size=32).hexdigest()
        assert notice.closing["CNY"] == town.registry.cash(account) == town.available(account)
        assert notice.closing["X"] == town.registry.balance(account, "X", "trading")
        assert notice.lines == len(json.loads(content)["lines"]) >= 2


def test_fees_are_split_as_the_exchange_charged_them_and_a_missing_fen_is_named(tmp_path: Path) -> None:
    """R5.7, D16: rates that round in every deal; the two parts are the exchange's own totals to the fen."""
    odd = (Fees(from_date=19000101, trading_ppm=3_137, settlement_ppm=61_803),)
    town = Town(tmp_path, msgspec.structs.replace(Rules.generic(accounts=True), fees=odd))
    for price, quantity in ((1_001, 7), (999, 13), (1_003, 1)):
        town.trade(price, quantity)
    town.close()
    head = town.market.exchange.market.market[0]
    trading, settlement = int(head["trading_fees"]), int(head["settlement_fees"])
    head["trading_fees"] += 1
    ended = accepted(town.bridge.end_of_day(DAY))
    assert [str(d) for d in ended.differences] == [
        f"account -1 CNY: registry {trading + settlement} fen, exchange {trading + settlement + 1} fen (fees)"
    ]
    head["trading_fees"] -= 1
    for _ in range(2):
        assert accepted(town.bridge.end_of_day(DAY)).differences == []
        parts = [town.registry.balance(-1, "CNY", bucket) for bucket in ("fees", "fees_trading", "fees_settle")]
        assert parts == [0, trading, settlement]
    assert trading > 0
    assert settlement > trading
    of_deals = town.registry.fees_of_deals(DAY)
    assert len(of_deals) == 6
    assert sum(fee.trading_fen for fee in of_deals) == trading
    assert sum(fee.settlement_fen for fee in of_deals) == settlement
    table = town.market.exchange.market.deals[:3]
    assert [f.trading_fen + f.settlement_fen for f in of_deals] == np.stack(
        [table["buyer_fee"], table["seller_fee"]], axis=1
    ).ravel().tolist()
    lines = accepted(town.registry.statement(0, 0, NOON * 2)).lines
    assert {line.kind for line in lines} >= {"trading fee", "settlement fee"}
    accepted(town.registry.pay_out_fees(trading, "paid", NOON, "fees_trading"))
    assert town.registry.balance(-1, "CNY", "fees_trading") == 0
    assert accepted(town.bridge.end_of_day(DAY)).differences == [], "what was paid out is still collected"
    assert verify(town.registry.engine) == []
    with store.writing(town.registry.engine) as connection:  # planted: a fen from one institution to the other
        connection.exec_driver_sql("DROP TRIGGER deal_fee_no_update")
        connection.exec_driver_sql("UPDATE deal_fee SET buyer_trading_fen = buyer_trading_fen + 1")
    assert any("fen are trading fees, not" in finding for finding in verify(town.registry.engine))
    town.registry.close()


def test_the_parts_of_fees_are_exact_and_less_than_a_fen_from_their_share() -> None:
    dice = random.Random(5)
    for _ in range(200):
        fees = [
            dice.choice((0, 1, dice.randrange(10**3), dice.randrange(10**12))) for _ in range(dice.randrange(1, 30))
        ]
        total = sum(fees)
        if not total:
            continue
        trading = dice.choice((0, total, dice.randrange(total + 1)))
        at = dice.randrange(len(fees) + 1)
        parts = trading_parts(fees[:at], trading, total) + trading_parts(fees[at:], trading, total, sum(fees[:at]))
        assert sum(parts) == trading
        assert all(0 <= part <= fee for part, fee in zip(parts, fees, strict=True))
        assert all(abs(part * total - fee * trading) < total for part, fee in zip(parts, fees, strict=True))


def test_a_difference_of_one_tonne_is_named_and_stops_the_next_open(town: Town) -> None:
    town.trade(1_000, 30)
    town.market.exchange.market.holdings[2, 0]["sellable"] += 1
    town.close()
    ended = accepted(town.bridge.end_of_day(DAY))
    assert ended.day.state == DayState.DIFFERENT
    assert not ended.may_open_next
    assert [str(d) for d in ended.differences] == ["account 2 X: registry 10001 t, exchange 10002 t"]
    assert isinstance(town.bridge.rolled(DAY), Refused)
    assert accepted(town.bridge.release(DAY, "op-1", "Wang", "known")).state == DayState.RELEASED
    assert town.bridge.rolled(DAY) is None


def test_a_difference_that_was_put_right_reconciles(town: Town) -> None:
    town.trade(1_000, 30)
    town.market.exchange.market.accounts[2]["available"] += 1
    town.close()
    assert accepted(town.bridge.end_of_day(DAY)).day.state == DayState.DIFFERENT
    town.market.exchange.market.accounts[2]["available"] -= 1
    assert accepted(town.bridge.end_of_day(DAY)).day.state == DayState.RECONCILED


def test_transfers_are_told_again_until_the_exchange_has_answered(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line dies before, then after the exchange has acted: the allowances arrive once."""
    real = town.exchange.send
    lost: list[str] = []

    def send(message: Any) -> Answer | None:
        lost.append("x")
        if len(lost) == 1:
            return None
        answer = real(message)
        return None if len(lost) == 2 else answer

    town.bridge.outbox._send = send
    before = town.sellable(1)
    accepted(town.bridge.move_in(1, "X", 50, "late"))
    assert town.sellable(1) == before
    assert town.bridge.resume() == 1
    assert town.sellable(1) == before + 50
    assert town.bridge.resume() == 0
    assert town.sellable(1) == before + 50
    assert town.bridge.outbox.state("in:late") == OutboxState.DONE
    assert accepted(town.bridge.move_in(1, "X", 50, "late")).repeated


def test_a_transfer_out_goes_back_where_the_registry_refuses(town: Town) -> None:
    town.market.exchange.execute(msg.TransferOut(account=0, instrument="X", quantity=500, transfer="out-1"))
    accepted(town.bridge.move_out(0, "X", 500, "out-1"))
    assert town.sellable(0) == TONNES - 499
    accepted(town.registry.freeze(0, "X", TONNES - 499, "court", NOON, bucket="trading"))
    town.market.exchange.execute(msg.TransferOut(account=0, instrument="X", quantity=9, transfer="out-2"))
    assert isinstance(town.bridge.move_out(0, "X", 9, "out-2"), Refused)
    assert town.sellable(0) == TONNES - 499
    assert town.registry.balance(0, "X", "registry") == TONNES + 500


def test_a_transfer_out_that_was_refused_needs_a_new_number(town: Town) -> None:
    """Asked for again under the old number the exchange says "done before"; the registry must not post alone."""
    accepted(town.registry.freeze(0, "X", TONNES, "court", NOON, bucket="trading"))
    assert isinstance(town.bridge.transfer_out(0, "X", 9, "out-1"), Refused)
    accepted(town.registry.unfreeze("court", TONNES, "court-2", NOON))
    again = town.bridge.transfer_out(0, "X", 9, "out-1")
    assert isinstance(again, Refused)
    assert again.code == "document_used"
    assert town.registry.balance(0, "X", "trading") == town.sellable(0) == TONNES + 1
    done = town.bridge.transfer_out(0, "X", 9, "out-2")
    assert done is not None
    accepted(done)
    repeated = town.bridge.transfer_out(0, "X", 9, "out-2")
    assert repeated is not None
    assert accepted(repeated).repeated
    assert town.registry.balance(0, "X", "trading") == town.sellable(0) == TONNES - 8
    assert isinstance(town.bridge.transfer_out(0, "X", 10 * TONNES, "out-3"), Refused)


def test_the_next_day_opens_on_the_registrys_balances(town: Town) -> None:
    town.trade(1_000, 30)
    town.close()
    assert isinstance(town.bridge.check_open(DAY + 1), list), "a day that nobody has received stops nothing"
    accepted(town.bridge.end_of_day(DAY))
    town.market.exchange.market.holdings[2, 0]["sellable"] += 1
    assert [d.account for d in accepted(town.bridge.check_open(DAY + 1))] == [2]
    assert accepted(town.bridge.delivery.day(DAY)).state == DayState.RECONCILED, "not rolled over a difference"
    town.market.exchange.market.holdings[2, 0]["sellable"] -= 1
    assert town.bridge.check_open(DAY + 1) == []
    assert accepted(town.bridge.delivery.day(DAY)).state == DayState.ROLLED


def test_the_next_day_does_not_open_before_the_last_one_is_settled(town: Town) -> None:
    town.trade(1_000, 30)
    town.market.exchange.market.accounts[2]["available"] += 1
    town.close()
    accepted(town.bridge.end_of_day(DAY))
    assert isinstance(town.bridge.check_open(DAY + 1), Refused)
    accepted(town.bridge.release(DAY, "op-1", "Wang", "known"))
    assert len(accepted(town.bridge.check_open(DAY + 1))) == 1
    assert accepted(town.bridge.delivery.day(DAY)).state == DayState.ROLLED


def test_a_withdrawal_is_paid_once_refused_or_given_back(town: Town) -> None:
    assert not isinstance(town.bridge.withdraw(0, 400, "w-1"), Refused)
    assert (town.available(0), town.registry.cash(0)) == (CASH + 1 - 400, CASH + 1 - 400)
    town.bank.answers = [None]
    assert town.bridge.withdraw(0, 100, "w-2") is None
    accepted(town.bridge.withdraw(0, 100, "w-2"))
    assert town.bank.paid == {"w-1": 400, "w-2": 100}
    town.bank.answers = [Refused("closed", "account", "the bank account is closed")]
    assert isinstance(town.bridge.withdraw(0, 50, "w-3"), Refused)
    assert (town.available(0), town.registry.cash(0)) == (CASH + 1 - 500, CASH + 1 - 500)
    assert isinstance(town.bridge.withdraw(0, 10**12, "w-4"), Refused)
    assert verify(town.registry.engine) == []


def test_proceeds_of_the_day_are_not_paid_out_before_settlement(town: Town) -> None:
    town.trade(1_000, 30)
    refused = town.bridge.withdraw(0, CASH + 10, "w-1")
    assert isinstance(refused, Refused)
    assert town.registry.holdings(0)[-1].reserved == 0
    town.close()
    accepted(town.bridge.end_of_day(DAY))
    assert not isinstance(town.bridge.withdraw(0, CASH + 10, "w-2"), Refused)


# -- a remote registry


class SimulatedLine:
    """A registry at the end of a bad line: late, twice, never, refusing; it counts what it executes."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.executed: dict[str, Mapping[str, Any]] = {}
        self.runs: dict[str, int] = {}
        self.refusing = {"bad"}

    def _decide(self, key: str, request: Mapping[str, Any]) -> Outcome:
        if request["what"] in self.refusing:
            return Refused("insufficient", "quantity", "not there")
        if key not in self.executed:
            self.executed[key] = request
            self.runs[key] = self.runs.get(key, 0) + 1
        return {"batch": len(self.executed)}

    def send(self, key: str, request: Mapping[str, Any]) -> Outcome | Unknown:
        luck = self.dice.randrange(4)
        if luck == 0:
            return Unknown.NO_ANSWER  # never arrived
        answer = self._decide(key, request)
        if luck == 1:
            return Unknown.NO_ANSWER  # arrived, the answer was lost
        return self._decide(key, request) if luck == 2 else answer  # delivered twice

    def ask(self, key: str) -> Outcome | Unknown:
        if self.dice.randrange(3) == 0:
            return Unknown.NO_ANSWER
        return {"batch": 1} if key in self.executed else Unknown.NEVER_SEEN


@pytest.mark.parametrize("seed", range(8))
def test_every_request_to_a_bad_line_is_executed_exactly_once(tmp_path: Path, seed: int) -> None:
    registry = Registry.open(f"sqlite:///{tmp_path}/outbox.db")
    line = SimulatedLine(seed)
    for number in range(12):
        # A new object each time: what is open is in the database, not in memory.
        RemoteRegistry(registry.engine, line).submit(f"k{number}", {"what": "move", "n": number}, NOON)
    for _ in range(60):
        if not RemoteRegistry(registry.engine, line).resolve():
            break
    assert RemoteRegistry(registry.engine, line).resolve() == []
    assert line.runs == {f"k{number}": 1 for number in range(12)}
    registry.close()


def test_a_key_keeps_its_outcome_and_its_request(tmp_path: Path) -> None:
    registry = Registry.open(f"sqlite:///{tmp_path}/outbox.db")
    remote = RemoteRegistry(registry.engine, SimulatedLine(3))
    for _ in range(20):
        answer = remote.submit("k", {"what": "bad"}, NOON)
        if answer is not None:
            break
    assert isinstance(answer, Refused)
    assert answer.code == "insufficient"
    assert remote.submit("k", {"what": "bad"}, NOON) == answer
    other = remote.submit("k", {"what": "move"}, NOON)
    assert isinstance(other, Refused)
    assert other.code == "document_used"
    registry.close()


def test_a_request_with_an_outcome_never_changes() -> None:
    for state, event in product((RequestState.DONE, RequestState.REFUSED), RequestEvent):
        assert (state, event) not in REQUEST
    # Sending happens from NEW alone, and NEW is reached again only from "never seen".
    assert {state for state, event in REQUEST if event == RequestEvent.SEND} == {RequestState.NEW}
    assert {event for (_, event), to in REQUEST.items() if to == RequestState.NEW} == {RequestEvent.NEVER_SEEN}


def test_who_watches_sees_each_step_and_the_deals_posted_of_all(town: Town, tmp_path: Path) -> None:
    """The file of a market folder: every step in order, at the end all deals; a torn file is no file."""
    seen: list[progress.Progress] = []
    bridge = Bridge(town.registry, town.exchange, lambda: NOON, publish=seen.append)
    town.trade(1_000, 30)
    town.trade(1_001, 20, seller=2, buyer=0)
    town.close()
    accepted(bridge.end_of_day(DAY, statements=tmp_path / "s"))
    words = "receive clear confirm deliver deliver reconcile statements tell done"
    assert [one.step for one in seen] == words.split()
    assert [one.posted for one in seen if one.step == progress.Step.DELIVER] == [0, 2]
    assert (seen[-1].deals, seen[-1].posted, seen[-1].share, seen[-1].state) == (2, 2, 1.0, "reconciled")
    assert progress.read(tmp_path) is None
    progress.write(tmp_path, seen[-1])
    assert progress.read(tmp_path) == seen[-1]
    (tmp_path / progress.FILE).write_text('{"date": 2', encoding="utf-8")
    assert progress.read(tmp_path) is None


def test_an_operator_makes_the_exchange_hold_what_the_registry_says(town: Town) -> None:
    """R13.1, D26: up and down, money and allowances; before, each difference is named; a repeat changes nothing."""
    accepted(town.registry.deposit(0, 77, "bank-1", NOON))
    accepted(town.registry.reserve_withdrawal(1, 55, "bank-2", NOON))
    accepted(town.registry.move_in(2, "X", 5, "in-extra", NOON))
    accepted(town.registry.move_out(3, "X", 7, "out-extra", NOON))
    town.close()
    ended = accepted(town.bridge.end_of_day(DAY))
    assert (len(ended.differences), ended.may_open_next) == (4, False)
    assert isinstance(town.bridge.adopt(DAY, "d" * 33, "Li"), Refused)
    assert town.bridge.adopt(DAY, "dec-1", "Li") == []
    assert town.bridge.adopt(DAY, "dec-2", "Li") == []
    assert (town.available(0), town.available(1)) == (CASH + 78, CASH + 1 - 55)
    assert (town.sellable(2), town.sellable(3)) == (TONNES + 6, TONNES + 1 - 7)
    assert town.bridge.asked_here("dec-1:3:X"), "the service must not take these for members' own transfers"
    assert not town.bridge.asked_here("W-1")
    assert accepted(town.bridge.end_of_day(DAY)).may_open_next
    assert town.registry.decisions()[0]["differences"][0].startswith("account 0 CNY: registry ")
    assert verify(town.registry.engine) == []


def test_a_debt_to_the_reserve_is_paid_back_in_both_books(town: Town) -> None:
    """R12.5: what an operator had the reserve pay is claimed back, never more than is owed."""
    accepted(town.registry.fund_reserve(10**9, "reserve", NOON))
    town.trade(1_000, 30)
    accepted(town.registry.reserve_withdrawal(1, CASH + 1, "court", NOON))
    town.close()
    (held,) = accepted(town.bridge.end_of_day(DAY)).day.held
    accepted(town.bridge.delivery.cover(held.deal_id, "dec-1", "Li", NOON))
    accepted(town.registry.return_withdrawal("court", "court-2", NOON))
    assert dict(town.registry.funds())["claims"] == 30_000
    assert [str(one) for one in accepted(town.bridge.end_of_day(DAY)).differences] == [
        f"account 1 CNY: registry {CASH + 1} fen, exchange {CASH + 1 - 30_000} fen"
    ]
    assert town.bridge.adopt(DAY, "dec-2", "Li") == []
    assert isinstance(town.bridge.repay(1, 30_001, "back-1"), Refused)
    accepted(town.bridge.repay(1, 30_000, "back-1"))
    assert accepted(town.bridge.repay(1, 30_000, "back-1")).repeated
    assert dict(town.registry.funds())["claims"] == 0
    assert accepted(town.bridge.end_of_day(DAY)).differences == []


def test_a_document_number_that_the_exchange_would_not_take_posts_nothing(town: Town) -> None:
    for refused in (town.bridge.deposit(1, 5, "d" * 65), town.bridge.withdraw(1, 5, "w" * 60)):
        assert isinstance(refused, Refused)
        assert refused.field == "document"
    assert town.registry.cash(1) == CASH + 1
    assert town.bridge.outbox.waiting() == []
