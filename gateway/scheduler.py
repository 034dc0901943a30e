"""The scheduler: what the day's hours make due, as commands in the sequence like any other (D27).

The phase itself follows from each command's time (D2); the marks are for readers. Nothing here is state: what
is due follows from the market's tables and the time, so a restart needs no memory of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from engine import messages
from engine.auction_messages import AuctionTick
from engine.bulk_messages import BulkExpire
from engine.calendar import day_start_ns, parse_clock
from engine.records import NO_ACCOUNT
from gateway.clock import SteppedClock
from gateway.keys import KeyFileError, KeyTable

if TYPE_CHECKING:
    from gateway.core import Core

BOUNDARIES = ("morning_open", "morning_end", "afternoon_open", "close")


def next_due(core: Core, done_ns: int, tried: set[int]) -> tuple[int, list[Any]] | None:
    """The next thing that falls due after ``done_ns``: (time, commands), None where nothing does.

    Marks at each boundary, CloseDay at the close, the desk's and the auctions' deadlines, RollDay at the opening
    hour of the next trading day once the day is closed and settled (or settlement is not asked for). ``tried``:
    deadlines that were served in this run; one that stands after that waits for something else (a halt).
    """
    m = core.exchange.market.market[0]
    if m["around_the_clock"] or not m["date"]:
        return None
    found = [] if m["day_closed"] else _boundary(core, done_ns)
    for machine, command in ((core.exchange.desk, BulkExpire()), (core.exchange.auctions, AuctionTick())):
        at = machine.next_deadline()
        if at is not None and at not in tried:
            found.append((max(at, done_ns), [command]))
    if found:
        return min(found, key=lambda due: due[0])
    return _roll(core, done_ns) if m["day_closed"] else None


def _boundary(core: Core, done_ns: int) -> list[tuple[int, list[Any]]]:
    m, automatic = core.exchange.market.market[0], core.market.config.close_automatically
    for name in BOUNDARIES:
        at = int(m[name])
        if at > done_ns:
            commands: list[Any] = [messages.PhaseMark()]
            if name == "close" and automatic:
                commands.append(messages.CloseDay())
            return [(at, commands)]
    return [(done_ns, [messages.CloseDay()])] if automatic else []


def _roll(core: Core, done_ns: int) -> tuple[int, list[Any]] | None:
    m, config = core.exchange.market.market[0], core.market.config
    if config.roll_needs_settlement and m["deals"] and not m["settled"]:
        return None
    opens_ns = parse_clock(config.opens_at)
    try:
        date = core.market.calendar.next_day(int(m["date"]))
        if not isinstance(core.clock, SteppedClock):  # days on which the exchange did not run are not made up
            while day_start_ns(after := core.market.calendar.next_day(date)) + opens_ns <= core.clock.now():
                date = after
    except ValueError as error:  # beyond the calendar's horizon: an operator must extend it
        if not any("calendar ends" in text for text in core.alarms):
            core.alarm(str(error))
        return None
    at = day_start_ns(date) + opens_ns
    return max(at, done_ns), [messages.RollDay(date=date, by="scheduler")]


def run_until(core: Core, time_ns: int, set_clock: Callable[[int], None] | None = None) -> int:
    """Sources everything that falls due up to ``time_ns``. Returns when to look again (ns; 0: nothing is due).

    ``set_clock`` moves a stepped clock to each due time, so that the commands bear it.
    """
    done_ns = int(core.exchange.market.market[0]["time_ns"])
    tried: set[int] = set()
    while True:
        due = next_due(core, done_ns, tried)
        if due is None:
            return 0
        at, commands = due
        if at > time_ns:
            return at
        if set_clock is not None:
            set_clock(max(at, core.clock.now()))
        for machine in (core.exchange.desk, core.exchange.auctions):
            deadline = machine.next_deadline()
            if deadline is not None and deadline <= at:
                tried.add(deadline)
        for command in commands:
            core.source(command)
        core.flush()
        done_ns = max(done_ns, at)
        if not _took_effect(commands[-1], core.exchange.market.market[0]):
            core.alarm(f"the scheduler's {type(commands[-1]).__name__} was refused")
            return 0


def _took_effect(last: Any, market: Any) -> bool:
    if isinstance(last, messages.CloseDay):
        return bool(market["day_closed"])
    return not isinstance(last, messages.RollDay) or int(market["date"]) == last.date


def bootstrap(core: Core) -> None:
    """Brings the market to what its configuration says: first day, instruments, accounts, sessions of keys.

    Only what is missing is commanded, so it runs at every start and after each reload of the keys (D30).
    """
    config, exchange = core.market.config, core.exchange
    if exchange.market.market[0]["date"] == 0:
        roll = messages.RollDay(date=config.first_date, composite=config.composite, by="bootstrap")
        for notice in core.execute(roll):
            if notice.get("t") == "refused":
                core.alarm(f"market.toml: first_date {config.first_date}: {notice['text']}")
    for code, reference in config.instruments.items():
        if code not in exchange.market.codes:
            core.source(messages.ListInstrument(code=code, reference=reference, by="bootstrap"))
    for member in config.members:
        if member.account < len(exchange.market.accounts) and not exchange.market.accounts[member.account]["status"]:
            core.source(
                messages.OpenAccount(
                    account=member.account,
                    name=member.name,
                    self_trade=member.self_trade,
                    group=member.group,
                    by="bootstrap",
                )
            )
    core.flush()
    check_sessions(core, core.keys)
    sync_sessions(core)


def check_sessions(core: Core, keys: KeyTable) -> None:
    """Raises KeyFileError where the file gives a session's number to another account or role than the journal did."""
    known = core.exchange.administration.state.sessions
    for key in keys.keys:
        entry = known.get(key.session)
        if entry is not None and (entry.account, entry.role) != (key.account, key.role):
            was = entry.role if entry.account == NO_ACCOUNT else f"{entry.role} of account {entry.account}"
            raise KeyFileError(
                f"{key.name}.session: {key.session} was given to the {was}; its reports go with it: give another number"
            )


def sync_sessions(core: Core) -> None:
    """Opens and revokes sessions so that the engine's table says what the key file says (D30)."""
    table = core.exchange.market.sessions
    known = core.exchange.administration.state.sessions
    wanted = {k.session: k for k in core.keys.keys if k.role in ("trader", "risk") and k.session < len(table)}
    publics: dict[int, set[str]] = {}
    for key in core.keys.keys:
        publics.setdefault(key.session, set()).add(key.public)
    for session, key in wanted.items():
        row = table[session]
        entry = known.get(session)
        stands = row["open"] and entry and entry.account == key.account and entry.key in publics[session]
        if row["open"] and not stands:
            core.source(messages.RevokeSession(session=session, by="key file", why="another key"))
        if not stands:
            core.source(
                messages.OpenSession(
                    session=session,
                    account=key.account,
                    role=key.role,
                    key=key.public,
                    name=key.name,
                    valid_from=key.valid_from,
                    valid_to=key.valid_to,
                    by="key file",
                )
            )
    issued = {(k.session, k.role, k.public) for k in core.keys.keys if k.role in ("drop_copy", "operator")}
    for session in table["open"].nonzero()[0].tolist():
        entry = known.get(session)
        if session not in wanted and not (entry and (session, entry.role, entry.key) in issued):
            core.source(messages.RevokeSession(session=session, by="key file", why="not in the key file"))
    core.flush()
