"""The market folder: what is in it, how it is made, how its ``market.toml`` is read.

::

    market/
      market.toml     rules, instruments, members, operators, ports: everything below `Config`
      calendar.toml   the trading days that are known (R3.1)
      keys/           keys.toml (public keys, roles), one secret file per key (mode 0600)
      journal/        engine.journal's segments and snapshots
      reports/        bulletins and statements for people
      registry.db     settlement's ledger, where SQLite is used
      run/            endpoints.json while the exchange runs

Everything is validated at load; a :class:`ConfigError` names the file, the path in it and the reason.
"""

from __future__ import annotations

import json
import os
import secrets
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from engine.calendar import TradingCalendar, day_start_ns, parse_clock
from engine.rules import Rules
from gateway import keys
from gateway.protocol import HEARTBEAT_MS

Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
Code = Annotated[str, msgspec.Meta(pattern=r"\A[A-Z0-9_.-]{1,16}\Z")]


class ConfigError(Exception):
    """A market folder cannot be used: file, path and reason in one line."""


class Member(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A trading account (R2.1). ``group``: for the desk's named groups."""

    account: Annotated[int, msgspec.Meta(ge=1, le=0xFFFF_FFFE)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    self_trade: Annotated[int, msgspec.Meta(ge=0, le=2)] = 0
    group: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)] = 0


class Operator(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A person or system on the operator plane."""

    name: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9_-]{0,39}\Z")]
    role: Literal["operator", "settlement", "viewer"] = "operator"


class Gateway(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Sockets and limits. Port 0: a free one is chosen and written to run/endpoints.json."""

    host: str = "127.0.0.1"
    members_port: Port = 0
    operators_port: Port = 0
    feed_port: Port = 0
    metrics_port: Port = 0
    metrics: bool = True
    curve: bool = True  # False is refused unless the host is a loopback address
    lane: Literal["plain", "hot"] = "plain"
    # Commands of a group from which on its commit goes on beside the loop, 0: never. So many are drained at once
    # only where more wait behind them (BATCH_RECORDS less a frame's): there is work meanwhile. A smaller group takes
    # the shorter way through machine code, in the loop (gateway.turn).
    overlap_from: Annotated[int, msgspec.Meta(ge=0, le=16_384)] = 3_072
    # Only who may open the kernel's device does so (gateway.awake): whoever gave that right wants it.
    stay_awake: bool = True
    # A quarter of a second of a million orders a second; 67 MB.
    orders_ahead: Annotated[int, msgspec.Meta(ge=10_000, le=1_000_000_000)] = 250_000
    # A snapshot while trading is due after so many commands (a start replays some 0.3 s at most), or after so many
    # minutes where there was any command (what is verified at a start stays short, and the files few). 0: never.
    snapshot_commands: Annotated[int, msgspec.Meta(ge=0)] = 1_000_000
    snapshot_minutes: Annotated[int, msgspec.Meta(ge=0, le=1_440)] = 10
    heartbeat_ms: Annotated[int, msgspec.Meta(ge=100, le=60_000)] = HEARTBEAT_MS
    # A member of this market sends some 10 orders a day; 20,000/s is what one member may take of the engine.
    # (The upper bounds keep the buckets' arithmetic, in billionths, inside 64 bits.)
    orders_per_second: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 20_000
    orders_burst: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 40_000
    cancels_factor: Annotated[int, msgspec.Meta(ge=1, le=20)] = 4  # a larger bucket, so that risk can be taken down
    throttled_before_logout: Annotated[int, msgspec.Meta(ge=1)] = 1_000
    malformed_before_logout: Annotated[int, msgspec.Meta(ge=1)] = 20
    sessions_max: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 8_192
    conflate_ms: Annotated[int, msgspec.Meta(ge=100, le=60_000)] = 100  # at most 10 Hz for screens
    checksum_every: Annotated[int, msgspec.Meta(ge=1)] = 64  # book checksum: one per so many messages of a feed


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Everything in market.toml."""

    name: str = "national carbon market"
    first_date: Annotated[int, msgspec.Meta(ge=19_000_101, le=21_001_231)] = 20251203
    opens_at: str = "08:30"  # when the day is rolled, Asia/Shanghai
    transfers_from: str = "08:30"  # registry account <-> trading account, on trading days (R13.2, R3.3)
    transfers_to: str = "15:30"
    roll_needs_settlement: bool = True
    close_automatically: bool = True
    instruments: dict[Code, Annotated[int, msgspec.Meta(ge=1)]] = {}  # code → first reference, fen
    composite: Annotated[int, msgspec.Meta(ge=0)] = 0  # previous close of the composite, fen
    members: tuple[Member, ...] = ()
    operators: tuple[Operator, ...] = (
        Operator("ops1"),
        Operator("ops2"),
        Operator("settlement", "settlement"),
        Operator("monitor", "viewer"),
        # One key, one session: a person's `cea registry …` must not log the standing service out.
        Operator("settlement-service", "settlement"),
    )
    rules: dict[str, Any] = {}  # replaces fields of the national profile; {"profile": "generic"} takes the other
    capacity: dict[str, int] = {}
    gateway: Gateway = Gateway()
    registry: str = "sqlite:///registry.db"

    def make_rules(self) -> Rules:
        """The market's rules; ConfigError names the field."""
        changes = dict(self.rules)
        base = Rules.generic() if changes.pop("profile", "national") == "generic" else Rules.national()
        fields: dict[str, Any] = {**msgspec.to_builtins(base), **changes}
        try:
            return msgspec.convert(fields, Rules).validate()
        except (msgspec.ValidationError, ValueError) as error:
            raise ConfigError(f"market.toml: rules: {error}") from None


class Market(msgspec.Struct, frozen=True):
    """A loaded market folder."""

    folder: Path
    config: Config
    rules: Rules
    calendar: TradingCalendar

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    @property
    def endpoints_file(self) -> Path:
        return self.folder / "run" / "endpoints.json"

    def start_ns(self) -> int:
        """When a new market's clock starts: the opening hour of its first day, ns UTC."""
        return day_start_ns(self.config.first_date) + parse_clock(self.config.opens_at)


LOOPBACK = ("127.0.0.1", "localhost", "::1")


def check(config: Config) -> Config:
    """What types cannot say; ConfigError names the path."""
    if not config.gateway.curve and config.gateway.host not in LOOPBACK:
        raise ConfigError(f"gateway.host {config.gateway.host}: without curve only a loopback address is allowed")
    seen: set[int] = set()
    for i, member in enumerate(config.members):
        if member.account in seen:
            raise ConfigError(f"members[{i}].account: {member.account} is there twice")
        seen.add(member.account)
    names = [o.name for o in config.operators]
    if len(set(names)) != len(names):
        raise ConfigError("operators: a name is there twice")
    for name in ("opens_at", "transfers_from", "transfers_to"):
        try:
            parse_clock(getattr(config, name))
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from None
    config.make_rules()
    return config


def create(
    folder: str | os.PathLike[str],
    config: Config,
    *,
    days: Iterable[int] | None = None,
    extra_keys: Iterable[keys.NewKey] = (),
) -> Market:
    """Makes a market folder with its keys; ConfigError where one is there already.

    ``days``: the trading days; None takes XSHG's from a year before the first date to its horizon (imports
    pandas, about a second). ``extra_keys``: drop copies, risk, market data. One trader key per member is named
    ``member-<account>``, one per operator by its name, ``public`` and ``relay`` for market data.
    """
    root = Path(folder)
    check(config)
    if (root / "market.toml").exists():
        raise ConfigError(f"{root}: there is a market already")
    if days is None:
        try:
            days = TradingCalendar.shanghai(config.first_date - 10_000, 21_001_231).days
        except ValueError as error:
            raise ConfigError(f"first_date: {config.first_date} with the year before it: {error}") from None
    day_list = sorted(set(days))
    if config.first_date not in day_list:
        later = next((day for day in day_list if day > config.first_date), None)
        known = f"the next one is {later}" if later else f"the last one that is known is {max(day_list, default=0)}"
        raise ConfigError(f"first_date: {config.first_date} is no trading day; {known}")
    for name in ("keys", "journal", "reports", "run"):
        (root / name).mkdir(parents=True, exist_ok=True, mode=0o750)
    os.chmod(root / "keys", 0o700)
    wanted = [keys.NewKey(f"member-{m.account}", "trader", m.account) for m in config.members]
    wanted += [keys.NewKey("public", "market_data")]
    wanted += list(extra_keys)
    wanted += [keys.NewKey(o.name, o.role) for o in config.operators]
    wanted += [keys.NewKey("relay", "market_data")] * all(k.name != "relay" for k in wanted)
    keys.create(root / "keys", wanted)
    rows = [", ".join(map(str, day_list[i : i + 10])) for i in range(0, len(day_list), 10)]
    _write(root / "calendar.toml", "days = [\n" + "".join(f"  {row},\n" for row in rows) + "]\n")
    from gateway.config_text import market_toml  # here: it knows this module

    _write(root / "market.toml", market_toml(config))
    return load(root)


def load(folder: str | os.PathLike[str]) -> Market:
    """Reads and validates a market folder; ConfigError names file, path and reason."""
    root = Path(folder)
    config = _read(root / "market.toml", Config)
    try:
        check(config)
    except ConfigError as error:
        raise ConfigError(f"{root / 'market.toml'}: {error}") from None
    days = _read(root / "calendar.toml", _Calendar).days
    try:
        calendar = TradingCalendar(days)
    except ValueError as error:
        raise ConfigError(f"{root / 'calendar.toml'}: {error}") from None
    return Market(root, config, config.make_rules(), calendar)


class _Calendar(msgspec.Struct, forbid_unknown_fields=True):
    days: list[int]


class Endpoints(msgspec.Struct, frozen=True):
    """run/endpoints.json: where a running exchange is found."""

    members: str
    operators: str
    feed: str
    operator_feed: str
    metrics: str
    curve: bool
    server_public: str
    pid: int


def read_endpoints(folder: str | os.PathLike[str]) -> Endpoints | None:
    """The endpoints of the exchange that runs (or ran last) in a folder, None where none ever did."""
    try:
        return msgspec.json.decode((Path(folder) / "run" / "endpoints.json").read_bytes(), type=Endpoints)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_endpoints(market: Market, endpoints: Endpoints) -> None:
    """Replaces the file as a whole, so that a reader never sees half of it."""
    market.endpoints_file.parent.mkdir(exist_ok=True)
    spare = market.endpoints_file.with_name(f"endpoints.{secrets.token_hex(4)}.tmp")
    spare.write_bytes(msgspec.json.format(msgspec.json.encode(endpoints)))
    os.replace(spare, market.endpoints_file)


def _read(path: Path, kind: type[Any]) -> Any:
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), kind)
    except FileNotFoundError:
        raise ConfigError(f"{path}: not there; `cea init {path.parent}` makes a market") from None
    except (msgspec.ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")


def to_toml(value: dict[str, Any], path: str = "") -> str:
    """TOML text of plain values, dicts and lists of dicts (all that our files hold)."""
    plain: list[str] = []
    tables: list[str] = []
    for key, v in value.items():
        name = f"{path}.{_key(key)}" if path else _key(key)
        if isinstance(v, dict):
            tables.append(f"\n[{name}]\n{to_toml(v, name)}")
        elif isinstance(v, (list, tuple)) and v and all(isinstance(x, dict) for x in v):
            tables += [f"\n[[{name}]]\n{to_toml(x, name)}" for x in v]
        elif v is not None:
            plain.append(f"{_key(key)} = {_scalar(v)}\n")
    return "".join(plain) + "".join(tables)


def _key(key: str) -> str:
    bare = key.replace("_", "").replace("-", "")
    return key if bare.isascii() and bare.isalnum() else json.dumps(key, ensure_ascii=False)


def _scalar(v: Any) -> str:
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, (list, tuple)):
        return "[" + ", ".join(_scalar(x) for x in v) + "]"
    if isinstance(v, int):
        return str(v)
    return json.dumps(v, ensure_ascii=False)
