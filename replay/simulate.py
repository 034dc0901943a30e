"""Synthetic flow: members with inventories and a compliance deadline, sending orders at random times (D33).

Two kinds of arrival. ``zero`` (zero intelligence): a Poisson stream. ``hawkes``: each message raises the rate of the
following ones, which decays again: λ(t) = μ + Σ α e^(−β (t − tᵢ)), simulated by thinning (Ogata 1981). The rates are
assumed; those of this market are not public. What a message is, is drawn: a limit order around the touch, a
best-five order, or a cancel. A member that must still buy for its surrender buys more often, the more so the nearer
the deadline; one with more than it needs sells.

All randomness is numpy's PCG64 from one seed, so equal parameters give equal journals.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import numpy as np

from engine import messages as msg
from engine.calendar import NS_PER_SECOND, day_start_ns
from engine.exchange import ENGINE_ABI, Exchange
from engine.journal import Identity, Journal, RealDisk
from engine.market import Capacity
from engine.records import (
    ACCEPTED,
    BEST_FIVE,
    BUY,
    CANCEL,
    COMMAND,
    FILL_MAKER,
    FILL_TAKER,
    LIMIT,
    MESSAGE,
    NEW,
    NO_ACCOUNT,
    REJECTED,
    SELL,
)
from engine.rules import Rules

Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
CASH_FEN: Final = 50_000_000_00
COMMIT_EVERY: Final = 1_000  # commands
ROLL_AT: Final = 9 * 3600 * NS_PER_SECOND

Progress = Callable[[int, int], None]


class Parameters(msgspec.Struct, frozen=True):
    """All that a run depends on. Rates per vintage and second of trading time; all assumed (D33)."""

    seed: int = 1
    kind: Literal["zero", "hawkes"] = "hawkes"
    date: int = 20251203
    days_to_deadline: Annotated[int, msgspec.Meta(ge=0)] = 20
    members: Annotated[int, msgspec.Meta(ge=2, le=4_000)] = 40
    vintages: dict[str, int] = {}  # code → previous close in fen; none: two of 60.00 and 59.50
    rate: Positive = 0.5  # messages; for hawkes the base rate μ
    excitement: Share = 0.6  # hawkes: how many further messages one message brings on average (α / β)
    decay: Positive = 0.1  # hawkes: β, per second
    cancels: Share = 0.35
    takers: Share = 0.1  # of the orders
    distance_fen: Positive = 15.0  # mean distance of a limit order from the touch
    size_t: Positive = 400.0  # mean size of an order

    def checked(self) -> Parameters:
        """ValueError where a value makes no sense together with another."""
        if self.kind == "hawkes" and self.excitement >= 1:
            raise ValueError("excitement: at 1 or more the messages never end")
        return self


class SimulationReport(msgspec.Struct):
    """Parameters and outcome; the journal's replay gives the same state hash."""

    parameters: Parameters
    commands: int
    orders: int
    cancels: int
    rejected: int
    deals: int
    closes: dict[str, int]
    composite_close: int
    still_needed_t: int
    state_hash: str
    journal: str = ""


def arrivals(rng: np.random.Generator, p: Parameters, seconds: float) -> np.ndarray:
    """Times of messages in [0, seconds), float64 seconds, rising."""
    if p.kind == "zero":
        return np.sort(rng.random(rng.poisson(p.rate * seconds)) * seconds)
    times: list[float] = []
    now, excited = 0.0, 0.0  # the excited part of the rate at ``now``
    jump = p.excitement * p.decay
    while True:
        bound = p.rate + excited
        wait = rng.exponential(1 / bound)
        now += wait
        if now >= seconds:
            return np.array(times)
        excited *= float(np.exp(-p.decay * wait))
        if rng.random() * bound <= p.rate + excited:
            times.append(now)
            excited += jump


class Simulation:
    """One day of one market."""

    def __init__(self, parameters: Parameters, journal: Path | None = None) -> None:
        self.p = parameters.checked()
        self.rng = np.random.Generator(np.random.PCG64(self.p.seed))
        rules = Rules.national()
        self.vintages = self.p.vintages or {"CEA23": 5_950, "CEA24": 6_000}
        self.exchange = Exchange(rules, Capacity(accounts=self.p.members))
        self.folder, self.journal = journal, None
        if journal is not None:
            journal.mkdir(parents=True, exist_ok=True)
            identity = Identity(ENGINE_ABI, rules.hash(), journal_id=self.p.seed + 1)
            self.journal = Journal.open(RealDisk(journal), identity)
        self.need = np.round(self.rng.normal(0, 20_000, self.p.members)).astype(np.int64)  # > 0: short of allowances
        self.live: dict[str, list[tuple[int, int]]] = {code: [] for code in self.vintages}  # (order id, account)
        self.counts = dict.fromkeys(("commands", "orders", "cancels", "rejected", "deals"), 0)

    def run(self, progress: Progress | None = None) -> SimulationReport:
        """The whole day: opening, flow, close."""
        self._open()
        m = self.exchange.market.market[0]
        morning = int(m["morning_end"] - m["morning_open"])
        seconds = (morning + int(m["close"] - m["afternoon_open"])) / NS_PER_SECOND
        flow = sorted((t, code) for code in self.vintages for t in arrivals(self.rng, self.p, seconds).tolist())
        for n, (t, code) in enumerate(flow):
            since = int(t * NS_PER_SECOND)
            start = int(m["morning_open"]) if since < morning else int(m["afternoon_open"]) - morning
            self._message(start + since, code)
            if progress and n % 1_000 == 0:
                progress(n, len(flow))
        self._execute(msg.CloseDay(), int(m["close"]))
        if self.journal is not None:
            self.journal.seal(self.p.date, self.exchange.seal_hash(), {"deals": int(m["deals"])})
            self.journal.close()
        rows = self.exchange.market.instruments
        return SimulationReport(
            parameters=msgspec.structs.replace(self.p, vintages=self.vintages),
            **self.counts,
            closes={code: int(rows[i]["close"]) for code, i in self.exchange.market.codes.items()},
            composite_close=int(m["composite_close"]),
            still_needed_t=int(np.maximum(self.need, 0).sum()),
            state_hash=f"{self.exchange.state_hash():016x}",
            journal=str(self.folder or ""),
        )

    def _open(self) -> None:
        start = day_start_ns(self.p.date) + ROLL_AT
        for code, reference in self.vintages.items():
            self._execute(msg.ListInstrument(code=code, reference=reference), start)
        self._execute(msg.RollDay(date=self.p.date, composite=int(np.mean(list(self.vintages.values())))), start)
        for account in range(self.p.members):
            self._execute(msg.OpenAccount(account=account, name=f"Member {account + 1}"), start)
            self._execute(msg.Deposit(account=account, amount=CASH_FEN, document=f"cash-{account}"), start)
            for code in self.vintages:
                stock = int(self.rng.integers(10_000, 60_000))
                self._execute(
                    msg.TransferIn(account=account, instrument=code, quantity=stock, transfer=f"{code}-{account}"),
                    start,
                )

    # --- what a message is ------------------------------------------------------------------------------------

    def _message(self, time_ns: int, code: str) -> None:
        if self.live[code] and self.rng.random() < self.p.cancels:
            at = int(self.rng.integers(len(self.live[code])))
            order, account = self.live[code].pop(at)
            self._send(time_ns, code, kind=CANCEL, order_id=order, account=account)
            self.counts["cancels"] += 1
            return
        account = int(self.rng.integers(self.p.members))
        urgency = 1 / (1 + self.p.days_to_deadline / 10)
        lean = 0.4 * urgency * float(np.tanh(self.need[account] / 20_000))
        side = BUY if self.rng.random() < 0.5 + lean else SELL
        size = int(min(99_999, 1 + self.rng.exponential(self.p.size_t)))
        row = self.exchange.market.instruments[self.exchange.market.codes[code]]
        taker = self.rng.random() < self.p.takers
        depth = self.exchange.depth(code, 1)
        own, other = (depth.bids, depth.asks) if side == BUY else (depth.asks, depth.bids)
        way = 1 if side == BUY else -1
        anchor = other[0].price - way if other else own[0].price if own else int(row["last"])
        price = anchor - way * int(self.rng.geometric(1 / self.p.distance_fen) - 1)
        price = min(max(price, int(row["limit_low"])), int(row["limit_high"]))
        kind = BEST_FIVE if taker else LIMIT
        fields = {"side": side, "quantity": size, "order_type": kind, "account": account}
        self._send(time_ns, code, kind=NEW, price=0 if taker else price, **fields)
        self.counts["orders"] += 1

    def _send(self, time_ns: int, code: str, **fields: int) -> None:
        record = np.zeros(1, COMMAND)
        record["seq"], record["time_ns"] = self.exchange.seq + 1, time_ns
        record["instrument"] = self.exchange.market.codes[code]
        for name, value in fields.items():
            record[name] = value
        events = self._apply(record, b"")
        first = events[0]
        if first["kind"] == REJECTED:
            self.counts["rejected"] += 1
        elif first["kind"] == ACCEPTED:
            self.live[code].append((int(first["order_id"]), int(first["account"])))
        for event in events[1:]:
            if event["kind"] in (FILL_MAKER, FILL_TAKER):
                signed = int(event["quantity"]) * (1 if event["side"] == BUY else -1)
                self.need[int(event["account"])] -= signed
                self.counts["deals"] += int(event["kind"] == FILL_MAKER)

    def _execute(self, message: msgspec.Struct, time_ns: int) -> None:
        payload = msg.encode(message)
        record = np.zeros(1, COMMAND)
        record["seq"], record["time_ns"], record["kind"] = self.exchange.seq + 1, time_ns, MESSAGE
        record["account"], record["quantity"] = NO_ACCOUNT, len(payload)
        self._apply(record, payload)

    def _apply(self, record: np.ndarray, payload: bytes) -> np.ndarray:
        if self.journal is not None:
            self.journal.append(record, payload)
            if self.exchange.seq % COMMIT_EVERY == 0:
                self.journal.commit()
        self.counts["commands"] += 1
        return self.exchange.apply(record, payload).events
