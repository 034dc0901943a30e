"""The rules of a market as dated, validated configuration; two profiles ship.

``national`` is the national carbon market of the rulebook. ``generic`` is an open price-time market for
other markets' data, research and benchmarks: no price limits, no best-five, any lot and tick, accounts
optional. Both run the same kernel. A hash of the rules stands in every journal segment.

Every parameter that the market publishes with a date is a list of entries with ``from_date`` (YYYYMMDD);
the entry in force is the last one that does not lie in the future.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, Protocol, TypeVar

import msgspec

from engine.calendar import day_start_ns, parse_clock

Positive = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]
Date = Annotated[int, msgspec.Meta(ge=19_000_101, le=21_001_231)]

# int64 holds 9.2e18; amounts are bounded to a quarter of it so that a sum of a lock, its fee and a balance
# that is itself bounded can never wrap (the kernel checks price × quantity against this by division).
AMOUNT_MAX_FEN = 1 << 61
TURNOVER_MAX_FEN = 1 << 62  # of a day: one more deal of AMOUNT_MAX_FEN still fits into int64
QUANTITY_MAX_T = 1 << 53
LEVELS_MAX = 1 << 25  # D17


class Hours(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Trading hours of one method from a date on (R3.2, R3.3). Times are local, start included, end excluded (D2)."""

    from_date: Date
    morning: tuple[str, str] = ("09:30", "11:30")
    afternoon: tuple[str, str] = ("13:00", "15:00")
    bulk: tuple[str, str] = ("13:00", "15:00")


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Price bands in basis points of the reference, from a date on (R6.1). 0 means no band."""

    from_date: Date
    listed_bp: Annotated[int, msgspec.Meta(ge=0, lt=10_000)] = 1_000
    bulk_bp: Annotated[int, msgspec.Meta(ge=0, lt=10_000)] = 3_000


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whole-number weights of the composite's sample from a date on (R7.2): {"CEA": 1, "CEA21": 1 …}."""

    from_date: Date
    weights: dict[str, NotNegative]


class Fees(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fees per side from a date on, parts per million of the amount (R5.7); trading and settlement fee apart."""

    from_date: Date
    trading_ppm: Annotated[int, msgspec.Meta(ge=0, le=500_000)] = 0
    settlement_ppm: Annotated[int, msgspec.Meta(ge=0, le=500_000)] = 0


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Matching policy of an instrument (R8.1, R8.4, D14)."""

    matching: Literal["continuous", "listing"] = "continuous"
    reach: Literal["best_level", "best_five"] = "best_level"


class _Dated(Protocol):
    @property
    def from_date(self) -> int: ...


T = TypeVar("T", bound=_Dated)


def in_force(entries: tuple[T, ...], date: int) -> T:
    """The last entry whose ``from_date`` is not after ``date``; ValueError when there is none."""
    found = [e for e in entries if e.from_date <= date]
    if not found:
        raise ValueError(f"rules: nothing in force on {date}; the first entry is from {entries[0].from_date}")
    return found[-1]


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All parameters of a market: :meth:`national` or :meth:`generic`, changed with ``msgspec.structs.replace``."""

    profile: Literal["national", "generic"]
    hours: tuple[Hours, ...]
    limits: tuple[Limits, ...]
    weights: tuple[Weights, ...]
    fees: tuple[Fees, ...]
    tick_fen: Positive = 1
    lot_t: Positive = 1
    listed_quantity_min_t: Positive = 1
    listed_quantity_max_t: Annotated[int, msgspec.Meta(ge=1, le=QUANTITY_MAX_T)] = 99_999
    bulk_quantity_min_t: Positive = 100_000
    best_levels: NotNegative = 5  # 0: no bound (R8.2)
    accounts: bool = True  # False: no cash, holdings or limits are kept or checked
    t_plus_one: bool = True  # R5.5
    self_trade_prevention: bool = True  # R8.5
    around_the_clock: bool = False  # True: no phases, always open
    open_orders_max: Positive = 10_000  # per account, unless set on the account
    composite_close_in_range_from: Date = 20260105  # R7.3, D19
    policies: dict[str, Policy] = {}

    @classmethod
    def national(cls) -> Rules:
        """The national carbon market (rulebook sections 3–8)."""
        return cls(
            profile="national",
            hours=(Hours(from_date=20210716),),
            limits=(Limits(from_date=20210716),),
            weights=(
                Weights(from_date=20210716, weights={"CEA": 1}),
                Weights(from_date=20230828, weights={"CEA": 1, "CEA21": 1, "CEA22": 1}),
                Weights(from_date=20241028, weights={"CEA": 1, "CEA21": 1, "CEA22": 1, "CEA23": 1}),
                Weights(from_date=20250429, weights={"CEA": 1, "CEA21": 1, "CEA22": 1, "CEA23": 1, "CEA24": 1}),
                Weights(from_date=20260105, weights={"CEA25": 1}),
            ),
            fees=(Fees(from_date=20210716),),
        )

    @classmethod
    def generic(cls, *, accounts: bool = False, tick_fen: int = 1, lot_t: int = 1) -> Rules:
        """Other markets' data, research, benchmarks: the same kernel with the national rules switched off."""
        return cls(
            profile="generic",
            hours=(Hours(from_date=19000101),),
            limits=(Limits(from_date=19000101, listed_bp=0, bulk_bp=0),),
            weights=(Weights(from_date=19000101, weights={}),),
            fees=(Fees(from_date=19000101),),
            tick_fen=tick_fen,
            lot_t=lot_t,
            listed_quantity_max_t=QUANTITY_MAX_T,
            best_levels=0,
            accounts=accounts,
            t_plus_one=False,
            self_trade_prevention=False,
            around_the_clock=True,
            open_orders_max=1 << 30,
        )

    def hash(self) -> bytes:
        """16 bytes over the canonical encoding; stands in every journal segment (design 6)."""
        return hashlib.blake2b(msgspec.json.encode(self, order="deterministic"), digest_size=16).digest()

    def boundaries_ns(self, date: int) -> tuple[int, int, int, int]:
        """Morning open, morning end, afternoon open, close of a date, ns UTC (R3.2)."""
        hours, start = in_force(self.hours, date), day_start_ns(date)
        times = tuple(start + parse_clock(t) for t in (*hours.morning, *hours.afternoon))
        if not times[0] < times[1] <= times[2] < times[3]:
            raise ValueError(f"rules.hours from {hours.from_date}: {hours.morning} {hours.afternoon} do not follow")
        return times[0], times[1], times[2], times[3]

    def bulk_boundaries_ns(self, date: int) -> tuple[int, int]:
        """Open and end of bulk trading on a date, ns UTC (R3.2)."""
        hours, start = in_force(self.hours, date), day_start_ns(date)
        return start + parse_clock(hours.bulk[0]), start + parse_clock(hours.bulk[1])

    def validate(self) -> Rules:
        """Checks types and bounds, order of dated entries, hours that follow. ValueError names the field."""
        try:
            msgspec.convert(msgspec.to_builtins(self), Rules)  # rules made in Python have met no decoder yet
        except msgspec.ValidationError as error:
            raise ValueError(f"rules: {error}") from error
        for name in ("hours", "limits", "weights", "fees"):
            dates = [e.from_date for e in getattr(self, name)]
            if not dates or dates != sorted(set(dates)):
                raise ValueError(f"rules.{name}: entries must be one or more, with rising from_date")
        for hours in self.hours:
            self.boundaries_ns(hours.from_date)
            if parse_clock(hours.bulk[0]) >= parse_clock(hours.bulk[1]):
                raise ValueError(f"rules.hours from {hours.from_date}: bulk {hours.bulk} does not follow")
        if self.listed_quantity_min_t > self.listed_quantity_max_t:
            raise ValueError("rules.listed_quantity_min_t is above listed_quantity_max_t")
        return self
