"""market.toml and surveillance.toml as people read them: every option with what it is, its unit, range and default.

The values come from the configuration, ranges and defaults from its types; the words are here, one entry an option
(tests/test_config.py asks for each). What is only commented out is a default that may be changed.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import inspect

from engine.market import Capacity
from engine.rules import Rules
from gateway.config import Config, Gateway, Market, Member, Operator, to_toml

WIDTH: Final = 110
FIRST_DATE: Final = 19_000_101  # lower bound of every date
BOUND_TOLD: Final = 10_000_000  # an upper bound above it keeps arithmetic in 64 bits; nobody comes near it
HEAD: Final = """\
Configuration of a market. `cea init` wrote it; change it while the exchange is stopped, then `cea doctor`.
Prices are in fen (1 CNY = 100 fen), quantities in tonnes (t), times of day Asia/Shanghai, dates YYYYMMDD.
Rule ids such as R6.1 are those of docs/rules-coverage.md. A name that is not known here is refused, with its path.
"""

CONFIG: Final = {
    "name": "How pages, bulletins and logs name the market.",
    "first_date": "First trading day; the exchange's clock begins on it. Only looked at while the journal is empty.",
    "opens_at": "When a new day is rolled: references move, T+1 buckets open (D27). Before the first trading hour.",
    "transfers_from": "From when on a trading day allowances move between registry and trading account (R13.2).",
    "transfers_to": "Until when; a transfer that is asked for later is refused.",
    "roll_needs_settlement": "Wait with the next day until settlement has reported the last one (D26, D27). false only "
    "where nothing is settled, in tests of software.",
    "close_automatically": "Close the day at the end of trading, by the exchange's own scheduler. false: an operator.",
    "instruments": "Vintages at the start: code = first reference price, fen (R6.5). Operators list later ones.",
    "composite": "Previous close of the composite on the first day, fen (R7.2). 0: from the first references.",
    "members": "Trading accounts at the start (R2.1). Later ones are opened by operators (D30).",
    "operators": "Keys of the operator plane that are made with the folder; more: docs/operations.md, Keys.",
    "rules": "The market's rules. The national profile holds for whatever is not set here.",
    "capacity": "How much the market can hold. Memory is used where it is needed, so that ample numbers cost nothing.",
    "gateway": "Sockets, sessions and limits of the exchange process.",
    "registry": "Database of the registry. A relative SQLite file lies in this folder; PostgreSQL: "
    "postgresql+psycopg://cea@HOST/registry (docs/operations.md, past one machine).",
}  # fmt: skip
GATEWAY: Final = {
    "host": "Address to listen on. Another than a loopback address needs curve = true.",
    "members_port": "Port of the members' plane. 0: a free one, the same at each start where it can be had.",
    "operators_port": "Port of the operators' plane; let the firewall open it to the operators' room only.",
    "feed_port": "Port of the public market-data feed.",
    "metrics_port": "Port of /metrics, /healthz and /readyz; nothing secret is there, but nobody outside needs it.",
    "metrics": "Serve metrics at all. They cost some clock readings a group, and some milliseconds a scrape.",
    "curve": "Encrypt and authenticate every connection (CURVE). false is refused unless host is a loopback address.",
    "lane": "plain: Python takes each message (this market's load, many times over). hot: machine code takes orders.",
    "overlap_from": "Commands of a group from which on its commit goes on beside the loop; 0: never. So many are "
    "taken at once only where more wait behind them; a smaller group is answered sooner without another thread.",
    "stay_awake": "Keep the processors from halting while the exchange runs, where /dev/cpu_dma_latency may be opened: "
    "orders are answered sooner, and processors without work use power (docs/operations.md, Processors).",
    "orders_ahead": "Memory for so many orders, 268 bytes each, is kept present ahead of those that have come, by a "
    "thread that gives way: no order waits for the system to give it (docs/operations.md, Memory).",
    "snapshot_commands": "A snapshot while trading is due after so many commands: a start replays little. 0: never.",
    "snapshot_minutes": "And after so many minutes in which there was any command; 0: never.",
    "heartbeat_ms": "Heartbeat, ms; a session is lost after three without a word (D9). Less finds a dead line sooner, "
    "and calls a slow one dead.",
    "orders_per_second": "Orders that one session may send a second, on average. A member of this market sends ten "
    "a day: this protects the others from a program that runs away.",
    "orders_burst": "And at once. A frame of more is refused as TOO_LARGE; a frame has 1,024 at most.",
    "cancels_factor": "Cancels may be so many times as frequent, so that risk can always be taken down.",
    "throttled_before_logout": "Messages over the limit, none waiting as it was told, that end a session.",
    "malformed_before_logout": "Messages that cannot be read before the session is logged out.",
    "sessions_max": "Sessions that may be logged in; each costs a few KiB.",
    "conflate_ms": "The screens' feed is at most so often, ms: nobody reads faster.",
    "checksum_every": "A book checksum in one of so many messages of a feed: how soon a reader finds its own mistake.",
}  # fmt: skip
MEMBER: Final = {
    "account": "Number of the trading account; part of its key's name (member-N).",
    "name": "Name on statements and screens.",
    "self_trade": "Where it would trade with itself (R8.5): 0 cancel the incoming, 1 the resting order, 2 both.",
    "group": "Named group: the desk may address it, surveillance takes its accounts for linked (R14.3). 0: none.",
}
OPERATOR: Final = {
    "name": "Name of the person's or system's key.",
    "role": "operator: may act; settlement: reports settlement; viewer: reads (the monitor's own key).",
}
RULES: Final = {
    "profile": "national, or generic: a plain exchange without this market's rules, for other markets' data.",
    "hours": "Trading hours from a date on; append, never change what has been in force (R3.2, R3.3).",
    "limits": "Price bands around the previous close from a date on, basis points (R6.1): 1000 = 10 %.",
    "weights": "Weights of the composite's sample from a date on (R7.2).",
    "fees": "Fees of each side from a date on, parts per million of the amount (R5.7). Not published: none by default.",
    "tick_fen": "Smallest step of a price, fen (R1.2).",
    "lot_t": "Quantities are multiples of it, t (R1.2).",
    "listed_quantity_min_t": "Smallest listed order, t (R4.1).",
    "listed_quantity_max_t": "Largest listed order, t (R4.1): below the bulk minimum.",
    "bulk_quantity_min_t": "Smallest bulk declaration, t (R4.2).",
    "best_levels": "Opposite price levels that one order reaches (R8.2); 0: no bound.",
    "accounts": "Keep and check cash and holdings (R5.1). false only for other markets' data.",
    "t_plus_one": "What was bought today cannot be sold today (R5.5).",
    "self_trade_prevention": "An account never trades with itself (R8.5).",
    "around_the_clock": "No phases, always open: for other markets' data.",
    "open_orders_max": "Open orders of one account, unless set on the account.",
    "composite_close_in_range_from": "From this date on the composite's high and low count its close (R7.3, D19).",
    "policies": "Matching policy of a vintage: continuous (R8.1, where none is named) or listing (R8.4, D14).",
}
CAPACITY: Final = {
    "accounts": "Trading accounts; 3,902 exist.",
    "instruments": "Vintages, retired ones included.",
    "orders": "Orders that rest in all books at once.",
    "sessions": "Sessions ever opened; two an account.",
    "levels": "Price levels of one side of a book: a ±10 % band of 400 CNY has 8,001.",
    "deals": "Deals of a day at the start; it grows.",
}
SURVEILLANCE: Final = {
    "repeat_minutes": "The same finding is told again after so many minutes, where something was added to it.",
    "wash_round_trip_t": "Two accounts trade back and forth: so much went there and back, t.",
    "wash_switches": "And the direction changed so often.",
    "wash_share_percent": "And that is so much of what the busier of the two traded, %.",
    "linked_factor": "Accounts of one group: the quantities are divided by it.",
    "prearranged_within_ms": "Two equal orders that fill each other were entered within, ms.",
    "prearranged_deals": "So many such deals of one pair.",
    "prearranged_share_percent": "And they are so much of what the two dealt with each other, %.",
    "transfer_gap_bp": "One bought high from another and sold low to it: gap of the average prices, basis points.",
    "transfer_fen": "And so much money went over, fen.",
    "transfer_deals_each_way": "In so many deals each way.",
    "churn_gap_bp": "One account bought high and sold low, whoever the others were: gap, basis points.",
    "churn_t": "So much both ways, t.",
    "churn_deals_each_way": "In so many deals each way.",
    "layering_life_ms": "An order that its owner cancels within this time was not meant to trade, ms.",
    "layering_cancels": "So many of one side in five minutes.",
    "layering_t": "Of together, t.",
    "layering_cancel_percent": "And so much of what was ordered on that side, %.",
    "layering_opposite_t": "While so much of the other side was dealt, t.",
    "layering_balance_percent": "Who cancels both sides alike is a market maker: cancels of the other side at most, %.",
    "late_minutes": "The close is the day's average (R6.4): its last minutes that are looked at.",
    "close_impact_bp": "One taker's late deals move the close by, basis points.",
    "close_push_bp": "The same against a close with those tonnes at the price of the moment before, basis points.",
    "close_late_share_percent": "And are so much of all late deals, %.",
    "thin_close_t": "A day's volume that small can set any close (R6.7), t.",
    "thin_close_change_bp": "And did: change against the previous close, basis points.",
    "concentration_percent": "One account has so much of a side of the day, % (a report).",
    "concentration_volume_t": "On days with at least so much volume, t.",
    "large_holding_t": "Large-holder report from, t of all vintages (R14.1); 0: none, no number is published.",
    "limit_near_ticks": "The last price is so near to a limit of the day, ticks (a report).",
    "move_bp": "A fast move: in five minutes, basis points.",
    "move_share_percent": "Of which one account took, %.",
    "news_minutes": "One-way trading in so many minutes before a notice of the exchange.",
    "news_t": "Of at least, t.",
    "news_share_percent": "And so much of all, %.",
    "news_one_way_percent": "And so much of it one way, %.",
    "ring_days": "Bulk and auction deals of so many trading days are looked at together: R5.5 makes a ring take days.",
    "ring_t": "Each step of a ring of accounts is at least, t.",
    "ring_share_percent": "And so much of what its seller sold and of what its buyer bought, %.",
    "ring_accounts_max": "Accounts of a ring at most.",
    "agreed_transfer_fen": "Value that went from one account to another by bulk deals there and back, fen.",
    "agreed_transfer_gap_bp": "Gap of the average prices, basis points.",
    "off_market_bp": "A bulk deal so far from the listed price, basis points (a report; the mean is 367 below).",
    "desk_life_ms": "A declaration that its maker takes back within this time was not meant to be answered, ms.",
    "desk_withdrawals": "So many of one account in a day.",
    "auction_cancelled_percent": "Bids of one account that it cancelled, % of what was offered.",
    "auction_winner_percent": "One account won so much of an auction, % (a report).",
    "auction_winner_t": "And at least, t.",
    "push_t": "One account took most of what brought the price to its limit, at least, t.",
}
WORDS: Final[dict[type, dict[str, str]]] = {
    Config: CONFIG, Gateway: GATEWAY, Member: MEMBER, Operator: OPERATOR, Rules: RULES,
}  # fmt: skip


def market_toml(config: Config) -> str:
    """The text of market.toml: equal to the configuration when it is loaded again."""
    plain = [n for n in CONFIG if n not in ("instruments", "members", "operators", "rules", "capacity", "gateway")]
    values = msgspec.to_builtins(config)
    parts = [_comment(HEAD)]
    parts += [_option(Config, name, values[name]) for name in plain]
    parts.append(f"{_comment(CONFIG['instruments'])}{to_toml({'instruments': values['instruments']}).strip()}\n")
    parts.append(f"{_comment(CONFIG['gateway'])}[gateway]")
    parts += [_option(Gateway, name, values["gateway"][name]) for name in GATEWAY]
    parts += ["\n".join(_rows("rules", CONFIG["rules"], _rules(config)))]
    parts += ["\n".join(_rows("capacity", CONFIG["capacity"], _capacity(config)))]
    for name, kind in (("operators", Operator), ("members", Member)):
        fields = "\n".join(f"{n}: {_words(kind, n)}" for n in WORDS[kind])
        entries = "\n".join(f"[[{name}]]\n{to_toml(row)}" for row in values[name])
        parts.append(f"{_comment(CONFIG[name] + chr(10) + fields)}{entries or f'{name} = []'}")
    if not config.members:  # an empty list is a plain option: it must stand before the tables
        parts.insert(1, parts.pop())
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def surveillance_toml() -> str:
    """The text of surveillance.toml: every threshold, commented out at its default."""
    from gateway.surveillance.thresholds import Thresholds

    WORDS.setdefault(Thresholds, SURVEILLANCE)
    head = (
        "Thresholds of surveillance (docs/surveillance.md). None is published: these are choices. To change one, take"
    )
    parts = [
        _comment(f"{head}\nthe # away before its name. The monitor reads this at its start, `cea alerts` each time.")
    ]
    defaults = msgspec.to_builtins(Thresholds())
    parts += [f"{_comment(_words(Thresholds, name))}# {name} = {defaults[name]}\n" for name in SURVEILLANCE]
    return "\n".join(parts)


def _rules(config: Config) -> Iterator[tuple[str, str, Any, bool]]:
    base = Rules.generic() if config.rules.get("profile") == "generic" else Rules.national()
    defaults = msgspec.to_builtins(base)
    for name in RULES:
        yield name, _words(Rules, name, ranges_only=True), config.rules.get(name, defaults[name]), name in config.rules


def _capacity(config: Config) -> Iterator[tuple[str, str, Any, bool]]:
    defaults = vars(Capacity())
    for name, words in CAPACITY.items():
        yield name, words, config.capacity.get(name, defaults[name]), name in config.capacity


def _rows(table: str, words: str, rows: Iterator[tuple[str, str, Any, bool]]) -> Iterator[str]:
    """A table whose options are commented out unless they were set."""
    yield f"{_comment(words)}[{table}]"
    for name, text, value, was_set in rows:
        yield f"{_comment(text)}{'' if was_set else '# '}{name} = {_value(value)}\n"


def _option(kind: type, name: str, value: Any) -> str:
    return f"{_comment(_words(kind, name))}{name} = {_value(value)}\n"


def _words(kind: type, name: str, *, ranges_only: bool = False) -> str:
    """What an option is, with its range and default as its type says them."""
    field = next(f for f in msgspec.structs.fields(kind) if f.name == name)
    words, limits = WORDS[kind][name], _range(field.type)
    if limits:
        words += f" {limits}."
    if field.default is not msgspec.NODEFAULT and not ranges_only:
        words += f" Default: {_value(msgspec.to_builtins(field.default))}."
    return words


def _range(kind: Any) -> str:
    """What a type allows, where a person needs to be told: not the bounds of a date, nor of arithmetic."""
    info = inspect.type_info(kind)
    if isinstance(info, inspect.LiteralType):
        return f"One of {', '.join(map(str, info.values))}"
    if not isinstance(info, inspect.IntType) or info.ge is None or info.ge == FIRST_DATE:
        return ""
    return f"{info.ge:,} … {info.le:,}" if info.le is not None and info.le <= BOUND_TOLD else f"From {info.ge:,}"


def _comment(text: str) -> str:
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, WIDTH - 2)]
    return "".join(f"# {line}\n" for line in lines)


def _value(v: Any) -> str:
    """A TOML value on one line."""
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_value(x)}" for k, x in v.items()) + " }" if v else "{}"
    if isinstance(v, (list, tuple)):
        return "[" + ", ".join(_value(x) for x in v) + "]"
    return str(v) if isinstance(v, int) else json.dumps(v, ensure_ascii=False)


def write_surveillance(market: Market) -> None:
    """A surveillance.toml to change, where there is none."""
    path = market.folder / "surveillance.toml"
    if not path.exists():
        path.write_text(surveillance_toml(), "utf-8")
