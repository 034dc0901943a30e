"""The demo's order flow, sent straight through the engine: the published figures of the day result (D31, E6)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine import messages
from engine.codes import Code, Reason
from engine.exchange import Exchange
from engine.records import ACCEPTED, CANCEL, CANCELLED, COMMAND, EVENT, FILL_MAKER, FILL_TAKER, NEW, NOTICE, REJECTED
from engine.rules import Rules, in_force
from replay.figures import DayFigures
from replay.flow import Flow, build_flow

PIECES = {"CEA22": 12, "CEA23": 60, "CEA24": 140}


@pytest.fixture(scope="module")
def day(repository: Path) -> DayFigures:
    return msgspec.toml.decode((repository / "cea" / "day_20251203.toml").read_bytes(), type=DayFigures)


class Direct:
    """A flow through ``Exchange.apply``, without gateway: outcomes checked message by message."""

    def __init__(self, day: DayFigures, flow: Flow, rules: Rules | None = None) -> None:
        self.exchange = x = Exchange(rules or Rules.national())
        self.orders: dict[int, int] = {}
        self.events: list[np.ndarray] = []
        x.advance(rules_open(day) - 1_800 * 10**9)
        references = {v.code: v.previous for v in day.vintages}
        for code, price in references.items():
            self.done(messages.ListInstrument(code=code, reference=price))
        self.done(messages.RollDay(date=day.date, references=references, composite=day.composite.previous))
        for number, member in enumerate(flow.members):
            self.done(messages.OpenAccount(account=number, name=member.name))
            self.done(messages.Deposit(account=number, amount=member.cash, document=f"D{number}"))
            for code, quantity in member.allowances.items():
                name = f"T{number}-{code}"
                self.done(messages.TransferIn(account=number, instrument=code, quantity=quantity, transfer=name))

    def done(self, message, account=None):
        out = self.exchange.execute(message) if account is None else self.exchange.execute(message, account)
        events = out.events[out.events["kind"] == NOTICE]
        assert not events["reason"].any(), out.payloads
        self.events.append(out.events.copy())
        return out.payloads

    def send(self, a) -> np.ndarray:
        record = np.zeros(1, COMMAND)
        record["kind"], record["side"], record["price"], record["quantity"] = a.kind, a.side, a.price, a.quantity
        record["account"], record["session"], record["order_type"] = a.member, 0, a.order_type
        record["instrument"] = self.exchange.market.codes[a.code]
        if a.kind != NEW:
            record["order_id"] = self.orders[a.label]
        self.exchange.advance(a.time_ns)
        events = self.exchange.submit(record).copy()
        self.events.append(events)
        if a.kind == NEW and events[0]["kind"] == ACCEPTED:
            self.orders[a.label] = int(events[0]["order_id"])
        return events

    def run(self, flow: Flow) -> None:
        for a in flow.actions:
            events = self.send(a)
            code = int(events[0]["reason"]) if events[0]["kind"] == REJECTED else Code.OK
            assert code == a.expect, (a, Code(code))
            assert events["quantity"][events["kind"] == FILL_TAKER].sum() == a.filled, a

    def close(self) -> messages.DayClosed:
        self.exchange.advance(int(self.exchange.market.market[0]["close"]))
        payloads = self.done(messages.CloseDay())
        decoder = msgspec.msgpack.Decoder()
        at, found = 0, None
        for e in self.events[-1]:
            if e["kind"] == NOTICE:
                raw = payloads[at : at + int(e["quantity"])]
                at += int(e["quantity"])
                if decoder.decode(raw)["t"] == "day_closed":
                    found = msgspec.msgpack.decode(raw, type=messages.DayClosed)
        assert found is not None
        return found

    def all_events(self) -> np.ndarray:
        return np.concatenate(self.events) if self.events else np.zeros(0, EVENT)


def rules_open(day: DayFigures) -> int:
    return Rules.national().boundaries_ns(day.date)[0]


def differences(closed: messages.DayClosed, day: DayFigures) -> list[str]:
    """Every published listed figure that the closed day does not have."""
    found = []
    for v in closed.vintages:
        p = day.vintage(v.code)
        for name, have, want in (
            ("open", v.open, p.open),
            ("high", v.high, p.high),
            ("low", v.low, p.low),
            ("close", v.close, p.close),
            ("volume", v.volume, p.listed_volume),
            ("amount", v.amount, p.listed_amount),
        ):
            if have != want:
                found.append(f"{v.code} {name}: {have}, published {want}")
    c = day.composite
    for name in ("open", "high", "low", "close"):
        have = getattr(closed, f"composite_{name}")
        if have != getattr(c, name):
            found.append(f"composite {name}: {have}, published {getattr(c, name)}")
    return found


@pytest.fixture(scope="module")
def ran(day) -> tuple[Direct, Flow, messages.DayClosed]:
    flow = build_flow(day, Rules.national(), pieces=PIECES)
    direct = Direct(day, flow)
    direct.run(flow)
    return direct, flow, direct.close()


def test_the_published_figures_result_through_matching(ran, day) -> None:
    assert differences(ran[2], day) == []
    assert ran[2].composite_change_bp == 25


@pytest.mark.parametrize("seed", [2, 3, 4, 5])
def test_other_seeds_give_the_same_figures_by_other_orders(day, seed, ran) -> None:
    flow = build_flow(day, Rules.national(), pieces=PIECES, seed=seed)
    assert flow.actions != ran[1].actions
    direct = Direct(day, flow)
    direct.run(flow)
    assert differences(direct.close(), day) == []
    direct.exchange.market.check()


def test_the_flow_has_everything_that_a_day_has(ran) -> None:
    direct, flow, closed = ran
    events = direct.all_events()
    kinds = Counter(events["kind"].tolist())
    assert kinds[ACCEPTED] > 600 and kinds[FILL_MAKER] == kinds[FILL_TAKER] > 250 and kinds[CANCELLED] > 100
    reasons = Counter(events["reason"][events["kind"] == CANCELLED].tolist())
    for reason in (Reason.BY_OWNER, Reason.IOC_REST, Reason.BEYOND_BEST_FIVE, Reason.CLOSE):
        assert reasons[reason], reason
    makers = events[events["kind"] == FILL_MAKER]
    assert (makers["leaves"] > 0).any(), "no resting order was filled in part"
    levels = Counter()
    for seq in np.unique(makers["seq"]):
        levels[len(np.unique(makers["price"][makers["seq"] == seq]))] += 1
    assert max(levels) == 5 and levels[2] and levels[3], levels
    refused = {a.expect for a in flow.actions if a.expect}
    assert refused == {
        Code.MARKET_CLOSED,
        Code.MARKET_BREAK,
        Code.PRICE_ABOVE_LIMIT,
        Code.PRICE_BELOW_LIMIT,
        Code.QUANTITY_TOO_LARGE,
        Code.INSUFFICIENT_CASH,
        Code.INSUFFICIENT_ALLOWANCES,
        Code.BOUGHT_TODAY,
        Code.NOT_FILLABLE,
        Code.ORDER_NOT_OPEN,
    }
    assert any(a.kind == CANCEL for a in flow.actions) and closed.lapsed_orders >= 50
    assert len({a.member for a in flow.actions}) == len(flow.members) == 20


def test_a_flow_is_its_seed(day, ran) -> None:
    assert build_flow(day, Rules.national(), pieces=PIECES) == ran[1]


def test_a_planted_lost_tonne_turns_the_figures_red(day, ran) -> None:
    flow = ran[1]
    at = next(n for n, a in enumerate(flow.actions) if a.filled > 1 and a.quantity == a.filled)
    broken = flow.actions[at]._replace(quantity=flow.actions[at].quantity - 1, filled=flow.actions[at].filled - 1)
    direct = Direct(day, flow)
    for n, a in enumerate(flow.actions):
        direct.send(broken if n == at else a)
    assert differences(direct.close(), day)


def test_a_planted_stale_weight_turns_the_composite_red(day, ran) -> None:
    rules = Rules.national()
    stale = msgspec.structs.replace(rules, weights=rules.weights[:1])
    direct = Direct(day, ran[1], stale)
    direct.run(ran[1])
    assert any("composite" in d for d in differences(direct.close(), day))
    assert in_force(rules.weights, day.date) != in_force(stale.weights, day.date)
