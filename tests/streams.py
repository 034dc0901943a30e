"""Seeded random streams of commands for the proof by difference.

A generator drives the naive reference while it writes the stream: it can so aim at orders that are open, prices that
cross and balances that just suffice, and the stream comes with its expected events and state. Times, phases, halts,
day close and roll are part of the stream. Nothing here knows the kernel.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from engine import market as m
from engine import messages as msg
from engine import records as r
from engine.calendar import day_start_ns, from_date
from engine.codes import Code
from engine.reference import Command
from engine.reference_day import ReferenceExchange
from engine.reference_state import Holding
from engine.rules import AMOUNT_MAX_FEN, QUANTITY_MAX_T, Fees, Limits, Policy, Rules, Weights

NEW_VINTAGE = "CEA26"
MINUTE_NS = 60_000_000_000
FIRST_DAY = dt.date(2025, 12, 3)
DAYS = tuple(from_date(d) for i in range(800) if (d := FIRST_DAY + dt.timedelta(days=i)).weekday() < 5)
BEGIN = {"price": 0, "quantity": 0, "order_id": 0, "instrument": 0, "side": 0, "order_type": 0, "flags": 0}


@dataclass(frozen=True)
class Profile:
    """A small market and the mix of what happens in it."""

    name: str
    rules: Rules
    references: dict[str, int]
    accounts: int = 5
    cash: int = 30_000
    allowances: int = 300
    quantity: int = 60  # typical largest quantity of one order
    orders: int = 64  # capacity of the pool: small, so that it is full at times
    levels: int = 512  # a band that outgrows them would end the day roll
    weird: float = 0.04  # share of commands with a field that makes no sense
    slow: float = 0.02  # share of messages
    day_minutes: float = 0.3  # of market time between two commands, on average
    extreme: bool = False


def national(**changes: Any) -> Rules:
    """The national rules with changes."""
    return msgspec.structs.replace(Rules.national(), **changes)


ODD_FEES = (Fees(from_date=20210716, trading_ppm=3_137, settlement_ppm=61_803),)
HALF_FEES = (Fees(from_date=20210716, trading_ppm=500_000, settlement_ppm=500_000),)  # ties, and more than the proceeds
QUARTERS = (Weights(from_date=20210716, weights={"CEA24": 1, "CEA25": 3}),)  # so that the composite meets ties
BAND = (Limits(from_date=20210716, listed_bp=1_000), Limits(from_date=20251205, listed_bp=2_000))
TWO = {"CEA24": 105, "CEA25": 98}

PROFILES: dict[str, Profile] = {
    p.name: p
    for p in (
        Profile("national", national(fees=ODD_FEES, weights=QUARTERS, limits=BAND, open_orders_max=9), TWO),
        Profile("narrow", national(best_levels=2, weights=QUARTERS), {"CEA24": 20, "CEA25": 31}, accounts=3, orders=12),
        Profile(
            "deep",
            national(fees=ODD_FEES, best_levels=3),
            {"CEA24": 400},
            accounts=12,
            cash=300_000,
            allowances=2_000,
            orders=400,
            levels=256,
        ),
        Profile(
            "listing",
            national(
                policies={"CEA24": Policy(matching="listing"), "CEA25": Policy(matching="listing", reach="best_five")},
                fees=ODD_FEES,
                best_levels=3,
            ),
            TWO,
        ),
        Profile("generic", Rules.generic(tick_fen=5, lot_t=2), {"X": 1_000, "Y": 100}, orders=100, levels=40),
        Profile(
            "generic_accounts",
            msgspec.structs.replace(Rules.generic(accounts=True), self_trade_prevention=True, fees=HALF_FEES),
            {"X": 1_000},
            cash=300_000,
            levels=100,
        ),
        Profile(
            "extreme",
            msgspec.structs.replace(Rules.generic(accounts=True, tick_fen=1), fees=ODD_FEES),
            {"X": 1 << 40},
            cash=AMOUNT_MAX_FEN >> 3,
            allowances=QUANTITY_MAX_T >> 4,
            quantity=1 << 22,
            extreme=True,
        ),
    )
}


@dataclass
class Stream:
    """Commands (COMMAND), payloads of their MESSAGE records in order, and what the reference made of them."""

    profile: Profile
    seed: int
    commands: np.ndarray
    payloads: list[bytes]
    events: np.ndarray  # EVENT, without notices
    ends: np.ndarray  # (n,) int64: events of commands 0 … i are events[:ends[i]]
    reference: ReferenceExchange
    checkpoints: dict[int, Any] = field(default_factory=dict)  # number of commands applied → state
    limits: list[tuple[int, dict[int, tuple[int, int]]]] = field(default_factory=list)  # (from seq, limits)
    cash_in: int = 0  # deposits less withdrawals that took effect, fen
    allowances_in: dict[str, int] = field(default_factory=dict)  # transfers that took effect, t


class Generator:
    """Writes one stream: :meth:`start` lays the market, :meth:`step` adds one command."""

    def __init__(self, profile: Profile, seed: int, market: type[ReferenceExchange] = ReferenceExchange) -> None:
        self.profile = profile
        self.random = random.Random(f"{profile.name} {seed}")
        self.seed = seed
        capacity = m.Capacity(
            accounts=profile.accounts + 2,
            instruments=len(profile.references) + 1,
            orders=profile.orders,
            sessions=2 * profile.accounts + 4,
            levels=profile.levels,
            deals=16,
        )
        self.capacity = capacity
        self.market = market(profile.rules, capacity)
        self.commands: list[tuple[int, ...]] = []
        self.payloads: list[bytes] = []
        self.ends: list[int] = []
        self.requests: dict[int, int] = {}
        self.seq = 0
        self.day = 0
        self.documents = 0
        self.time_ns = day_start_ns(DAYS[0]) + 9 * 60 * MINUTE_NS
        self.limits: list[tuple[int, dict[int, tuple[int, int]]]] = []
        self.cash_in = 0
        self.allowances_in = dict.fromkeys(profile.references, 0)
        self.leaving: dict[str, tuple[str, int]] = {}

    # --- writing -------------------------------------------------------------------------------------------------

    def send(self, kind: int, *, account: int = 0, session: int = 0, request_no: int = 0, **fields: int) -> None:
        """One listed-market command, into the stream and through the reference."""
        self.seq += 1
        values = {**BEGIN, **fields}
        command = Command(
            seq=self.seq,
            time_ns=self.time_ns,
            token=0,
            request_no=request_no,
            account=account,
            session=session,
            kind=kind,
            **values,
        )
        self.commands.append(_row(command))
        self.market.one(command)
        self.ends.append(len(self.market.events))

    def tell(self, message: msg.Message) -> Code:
        """One message of the exchange itself, into the stream and through the reference."""
        self.seq += 1
        payload = msg.encode(message)
        command = Command(
            seq=self.seq,
            time_ns=self.time_ns,
            token=0,
            request_no=0,
            account=r.NO_ACCOUNT,
            session=0,
            kind=r.MESSAGE,
            **{**BEGIN, "quantity": len(payload)},
        )
        self.commands.append(_row(command))
        self.payloads.append(payload)
        code = self.market.execute(command, message)
        self.ends.append(len(self.market.events))
        if code == Code.OK:
            self.keep_account(message)
        return code

    def keep_account(self, message: msg.Message) -> None:
        """Notes what came in and out, and the limits of a new day: what the audit of the stream needs."""
        if isinstance(message, msg.Deposit):
            self.cash_in += message.amount
        elif isinstance(message, msg.Withdraw):
            self.cash_in -= message.amount
        elif isinstance(message, msg.TransferIn):
            self.allowances_in[message.instrument] += message.quantity
        elif isinstance(message, msg.TransferOutDone) and message.posted:
            code, quantity = self.leaving[message.transfer]
            self.allowances_in[code] -= quantity
        elif isinstance(message, msg.TransferOut):
            self.leaving[message.transfer] = message.instrument, message.quantity
        elif isinstance(message, msg.RollDay | msg.ListInstrument):
            if isinstance(message, msg.ListInstrument):
                self.allowances_in.setdefault(message.code, 0)
            now = {i: (v.limit_low, v.limit_high) for i, v in enumerate(self.market.instruments)}
            self.limits.append((self.seq, now))

    def document(self) -> str:
        self.documents += 1
        return f"D{self.documents}"

    def start(self) -> None:
        """Opens the first day, lists the vintages, opens and fills the accounts."""
        p = self.profile
        assert self.tell(msg.RollDay(date=DAYS[0])) == Code.OK
        for code, reference in p.references.items():
            assert self.tell(msg.ListInstrument(code=code, reference=reference)) == Code.OK
        for account in range(p.accounts):
            most = 3 if account == 1 else 0
            self.tell(
                msg.OpenAccount(account=account, name=f"A{account}", self_trade=account % 3, open_orders_max=most)
            )
            self.tell(msg.Deposit(account=account, amount=p.cash, document=self.document()))
            for code in p.references:
                self.tell(
                    msg.TransferIn(account=account, instrument=code, quantity=p.allowances, transfer=self.document())
                )
        first = next(iter(p.references))
        self.tell(msg.SetLimits(account=0, instrument=first, position_max=p.allowances + p.quantity * 4))
        self.tell(msg.SetLimits(account=2, instrument=first, sell_max=p.quantity * 5))
        self.time_ns = day_start_ns(DAYS[0]) + (9 * 60 + 29) * MINUTE_NS

    # --- choosing ------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One random command or message; market time goes on."""
        rng, p = self.random, self.profile
        if rng.random() < 0.7:
            trading = self.market.morning_open <= self.time_ns < self.market.morning_end
            trading = trading or self.time_ns >= self.market.afternoon_open
            self.time_ns += int(rng.expovariate(1.0) * p.day_minutes * MINUTE_NS) * (1 if trading else 6)
        if rng.random() < (0.1 if self.time_ns < self.market.morning_open else 0.004):
            self.jump_to_boundary()
        if self.market.day_closed or (not p.rules.around_the_clock and self.time_ns >= self.market.close):
            if rng.random() < 0.15:
                self.end_day()
                return
        elif rng.random() < (p.slow if self.all_well() else 0.2):
            self.message()
            return
        self.command()

    def all_well(self) -> bool:
        """True when nothing is halted and nobody is suspended."""
        now = self.market
        halted = now.halted or now.cancel_only or any(i.halted for i in now.instruments)
        return not halted and all(a.status in (m.NOT_OPENED, m.ACTIVE) for a in now.accounts)

    def jump_to_boundary(self) -> None:
        """To the exact instant of the next phase, or the nanosecond before it (D2)."""
        now = self.market
        coming = [t for t in (now.morning_open, now.morning_end, now.afternoon_open, now.close) if t > self.time_ns]
        if coming:
            self.time_ns = coming[0] - self.random.choice((0, 0, 1))

    def end_day(self) -> None:
        """The close, or after it the roll into the next day."""
        if not self.market.day_closed:
            self.tell(msg.CloseDay())
            return
        if not self.market.settled and self.random.random() < 0.3:
            self.tell(self.cancel_deal())
            return
        if not self.market.settled and self.random.random() < 0.9:
            self.tell(msg.SettleDay(date=self.market.date))
            return
        if self.market.deal_number and not self.market.settled and self.profile.rules.accounts:
            self.tell(msg.RollDay(date=DAYS[self.day + 1]))  # refused: not settled yet
            return
        self.day += 1
        self.time_ns = day_start_ns(DAYS[self.day]) + (9 * 60 + 25) * MINUTE_NS
        self.tell(msg.RollDay(date=DAYS[self.day]))

    def message(self) -> None:
        """A halt and its end, cancel-only, an account's state, money, limits, an operator's cancel."""
        rng, p, now = self.random, self.profile, self.market
        code = rng.choice(list(p.references))
        account = rng.randrange(p.accounts)
        if now.halted or now.cancel_only or any(i.halted for i in now.instruments):
            ends = (msg.Resume(), msg.Resume(instrument=code), msg.CancelOnly(on=False))
            self.tell(rng.choice(ends) if rng.random() < 0.9 else msg.Halt(instrument=code))
            return
        suspended = [a for a in range(p.accounts) if now.accounts[a].status != m.ACTIVE]
        if suspended and rng.random() < 0.7:
            self.tell(msg.SetAccountStatus(account=suspended[0], status=m.ACTIVE, by="a", second="b"))
            return
        most = rng.choice((-1, p.allowances, p.allowances + p.quantity, p.allowances + 5 * p.quantity))
        choices: list[Callable[[], msg.Message]] = [
            msg.Halt,
            lambda: msg.Halt(instrument=code),
            lambda: msg.CancelOnly(on=True),
            lambda: msg.SetAccountStatus(account=account, status=rng.choice((2, 3)), by="a", second="b"),
            lambda: msg.Deposit(account=account, amount=rng.randint(1, p.cash // 4), document=self.document()),
            lambda: msg.Withdraw(account=account, amount=rng.randint(1, p.cash // 8), document=self.document()),
            lambda: msg.TransferIn(
                account=account, instrument=code, quantity=rng.randint(1, p.allowances // 4), transfer=self.document()
            ),
            lambda: msg.TransferOut(
                account=account, instrument=code, quantity=rng.randint(1, p.allowances // 8), transfer=self.document()
            ),
            lambda: msg.TransferOutDone(
                transfer=rng.choice([*self.market.transfers, "unknown"]), posted=rng.random() < 0.5
            ),
            self.cancel_deal,
            self.cancel_deal,
            lambda: msg.Deposit(account=account, amount=1, document=f"D{rng.randint(1, self.documents)}"),
            lambda: self.change_the_list(code),
            lambda: msg.SetLimits(account=account, instrument=code, position_max=most),
            lambda: msg.SetLimits(account=account, instrument=code, sell_max=rng.choice((-1, p.quantity * 3))),
            lambda: msg.CancelOrders(account=account, reason=9),
            lambda: msg.CancelOrders(session=account + 1, reason=8),
            lambda: msg.CancelOrders(instrument=code, reason=10),
        ]
        self.tell(rng.choice(choices)())

    def change_the_list(self, code: str) -> msg.Message:
        """Lists a new vintage at the composite's previous close (R6.5), or retires one; mostly refused."""
        if self.random.random() < 0.5:
            return msg.ListInstrument(code=NEW_VINTAGE)
        return msg.RetireInstrument(code=NEW_VINTAGE if self.random.random() < 0.7 else code)

    def cancel_deal(self) -> msg.CancelDeal:
        """Takes back a deal of the day, mostly one that there was (D28)."""
        number = self.random.randint(1, max(1, self.market.deal_number + 1))
        return msg.CancelDeal(number=number, by="a", second=self.random.choice("bbbba"))

    def command(self) -> None:
        """A listed-market command, with the fields of its kind; a few with a field that makes no sense."""
        rng = self.random
        account = rng.randrange(self.profile.accounts)
        listing = any(i.policy == m.LISTING for i in self.market.instruments)
        kind = rng.choices(
            (r.NEW, r.CANCEL, r.REDUCE, r.REPLACE, r.TAKE, r.MASS_CANCEL), (60, 9, 6, 12, 25 if listing else 0.5, 0.3)
        )[0]
        order = None
        if kind in (r.CANCEL, r.REDUCE, r.REPLACE, r.TAKE) and self.market.slots.orders:
            order = self.market.slots.orders[rng.choice(list(self.market.slots.orders))]
            if kind != r.TAKE and rng.random() < 0.97:
                account = order.account
        fields: dict[str, int] = {}
        instrument = rng.randrange(len(self.market.instruments))
        if kind == r.NEW:
            fields = self.new_order(instrument, account)
        elif kind == r.MASS_CANCEL:
            fields = {"instrument": rng.choice((instrument, r.ANY_INSTRUMENT)), "side": rng.choice((0, 1, 2))}
        elif order is not None:
            fields = {"order_id": order.id, "quantity": self.size()}
            if order.generation and rng.random() < 0.03:
                fields["order_id"] -= 1 << 32  # dead, and its slot is in use again
            if kind == r.REPLACE:
                more = rng.randint(-8, 8) if rng.random() < 0.8 else rng.randint(1, 3 * self.profile.quantity)
                fields["price"] = order.price if rng.random() < 0.4 else self.price(order.instrument, order.side)
                fields["quantity"] = max(0, order.filled + self.lots(order.leaves + more))
        if rng.random() < self.profile.weird:
            self.spoil(fields)
            kind = kind if rng.random() < 0.9 else rng.choice((0, 8, 255))
            account = account if rng.random() < 0.8 else rng.choice((self.profile.accounts, 1 << 20, r.NO_ACCOUNT))
        session, request_no = self.request(account)
        self.send(kind, account=account, session=session, request_no=request_no, **fields)

    def request(self, account: int) -> tuple[int, int]:
        """Session and request number: the account's own session, rising, at times repeated or none."""
        rng, p = self.random, self.profile
        if account >= p.accounts or rng.random() < 0.05:
            return 0, rng.choice((0, 1))
        session = account + 1 + (p.accounts if rng.random() < 0.1 else 0)
        if rng.random() < 0.03:
            return session, self.requests.get(session, 0)
        self.requests[session] = self.requests.get(session, 0) + rng.choice((1, 1, 1, 2))
        return session, self.requests[session]

    def new_order(self, instrument: int, account: int) -> dict[str, int]:
        """A new order near the market, of any type."""
        rng = self.random
        order_type = rng.choices((r.LIMIT, r.IOC, r.FOK, r.BEST_FIVE, r.POST_ONLY), (60, 12, 12, 8, 8))[0]
        if self.market.instruments[instrument].policy == m.LISTING and rng.random() < 0.95:
            order_type = r.LIMIT
        side = rng.randrange(2)
        price = self.price(instrument, side)
        bounded = 0.0 if self.profile.extreme else 0.08  # what just suffices there is more than can be counted
        if order_type == r.BEST_FIVE and rng.random() < 0.5:
            price = 0
        fields = {
            "instrument": instrument,
            "side": side,
            "order_type": order_type,
            "price": price,
            "quantity": self.just_enough(instrument, account, side, price) if rng.random() < bounded else self.size(),
        }
        if rng.random() < 0.05:
            fields["flags"] = r.EXPIRES
            fields["order_id"] = rng.choice((self.time_ns - 1, self.time_ns, self.time_ns + 1, 0, (1 << 64) - 1))
        return fields

    def price(self, instrument: int, side: int) -> int:
        """A price of the band, seldom just outside; mostly on its own side of the last one, so that books fill."""
        rng, i = self.random, self.market.instruments[instrument]
        draw = rng.random()
        if draw < 0.02:
            return rng.choice((i.limit_low - i.tick, i.limit_high + i.tick, i.limit_low - 1, i.limit_high + 1))
        if draw < 0.08:
            return i.limit_high if side == r.BUY else i.limit_low
        if draw < 0.25:
            return i.limit_low + rng.randrange(i.n_levels) * i.tick
        away = round(abs(rng.gauss(0, 4)) - 1) * i.tick
        return min(max(i.last - away if side == r.BUY else i.last + away, i.limit_low), i.limit_high)

    def size(self) -> int:
        """A quantity, mostly small, at times near what the profile's accounts can bear."""
        rng, p = self.random, self.profile
        if p.extreme and rng.random() < 0.2:
            return rng.choice((1, 2, 1 << 20, 1 << 21, (1 << 21) - 1, (1 << 21) + 1, 1 << 30, QUANTITY_MAX_T))
        return self.lots(rng.randint(1, p.quantity if rng.random() < 0.9 else p.quantity * 4))

    def just_enough(self, instrument: int, account: int, side: int, price: int) -> int:
        """All that the account's means or one of its bounds allow, or a tonne more (R5.1, R5.5, R14.1, R14.4)."""
        holding = self.market.holdings.get((account, instrument), Holding())
        if side == r.BUY:
            bounds = [
                holding.position_max - holding.position(),
                self.market.accounts[account].available // max(price, 1),
            ]
        else:
            cap = holding.sell_max - holding.sold_today - holding.locked
            bounds = [cap, holding.sellable, holding.sellable + holding.bought_today]
        bounds = [bound for bound in bounds if 0 < bound < 1 << 40]
        return self.lots(self.random.choice(bounds) + self.random.choice((0, 0, 1))) if bounds else self.size()

    def lots(self, quantity: int) -> int:
        """Mostly a multiple of the lot."""
        lot = self.profile.rules.lot_t
        return quantity if lot == 1 or self.random.random() < 0.02 else -(-quantity // lot) * lot

    def spoil(self, fields: dict[str, int]) -> None:
        """Puts nonsense into one field."""
        rng = self.random
        name = rng.choice(("price", "quantity", "order_id", "instrument", "side", "order_type", "flags"))
        nonsense: dict[str, tuple[int, ...]] = {
            "price": (-1, 0, 1, 1 << 40, (1 << 63) - 1, -(1 << 63), 3),
            "quantity": (-1, 0, 100_000, 99_999, (1 << 63) - 1, -(1 << 63), 1 << 53, (1 << 53) + 1),
            "order_id": (0, 1, 2, 1 << 32, (1 << 32) + 1, (7 << 32) + 3, (1 << 64) - 1, fields.get("order_id", 0) ^ 1),
            "instrument": (len(self.market.instruments), 200, 256, 0xFFFF),
            "side": (2, 3, 255),
            "order_type": (5, 128, 255),
            "flags": (1, 2, 255),
        }
        fields[name] = rng.choice(nonsense[name])


def _row(command: Command) -> tuple[int, ...]:
    return tuple(getattr(command, name) for name in r.COMMAND.names or ())


def make_stream(
    profile: Profile,
    seed: int,
    length: int,
    *,
    checkpoint_every: int = 0,
    save: Callable[[ReferenceExchange], Any] | None = None,
    market: type[ReferenceExchange] = ReferenceExchange,
) -> Stream:
    """A stream of at least ``length`` commands; ``save`` keeps the reference's state at every checkpoint."""
    generator = Generator(profile, seed, market)
    generator.start()
    checkpoints: dict[int, Any] = {}
    while len(generator.commands) < length:
        generator.step()
        if save is not None and checkpoint_every and len(generator.commands) % checkpoint_every == 0:
            checkpoints[len(generator.commands)] = save(generator.market)
    if save is not None:
        checkpoints[len(generator.commands)] = save(generator.market)
    return Stream(
        profile=profile,
        seed=seed,
        commands=np.array(generator.commands, r.COMMAND),
        payloads=generator.payloads,
        events=np.array(generator.market.events, r.EVENT),
        ends=np.array(generator.ends, np.int64),
        reference=generator.market,
        checkpoints=checkpoints,
        limits=generator.limits,
        cash_in=generator.cash_in,
        allowances_in=generator.allowances_in,
    )
