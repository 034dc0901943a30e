"""The sequence: commands become a journal group, the group is durable, the engine carries it out, its reports may go.

The lowest layer of the exchange (gateway.core). It knows no sessions: what a group means for them, the layers above
say in ``deliver``, ``update_routing``, ``_leave_day`` and ``_end_day``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol, cast

import msgspec
import numpy as np

from engine import messages
from engine.exchange import Exchange
from engine.records import NO_ACCOUNT
from gateway.batch import Batch, CommandLog
from gateway.clock import Clock
from gateway.market_data import Publisher
from gateway.reports import ReportStore

# Who gets which report changes with these: each is a group of its own, so that replay may cut batches as it likes.
ALONE: Final = frozenset({messages.OpenSession, messages.RevokeSession, messages.RollDay})


class JournalPort(Protocol):
    """What the core asks of the journal."""

    def append(self, commands: np.ndarray, payloads: bytes) -> None: ...

    def commit(self) -> int: ...


class OverlapPort(JournalPort, Protocol):
    """A journal that commits beside the caller (gateway.commit)."""

    took_ns: int

    def begin(self) -> None: ...

    def wait(self) -> None: ...


class Group(NamedTuple):
    """A group of the listed market that the engine has carried out, and of which nobody may know yet."""

    records: np.ndarray
    events: np.ndarray  # a view that the engine's next call overwrites
    received_ns: int
    began_ns: int  # monotonic: the turn of the loop that cut it


class Counters:
    """What happened, for metrics and status."""

    def __init__(self) -> None:
        self.commands = self.groups = self.events = self.frames = 0
        self.session_rejects = self.malformed = self.throttled = self.logins = self.login_rejects = 0
        self.timeouts = self.blocked = self.alarms = self.feed_overruns = 0
        self.session_codes = [0] * 256  # refusals of the session layer, by code


class Sequence:
    """Batch, journal, engine, log and report store of one exchange."""

    def __init__(
        self,
        exchange: Exchange,
        journal: JournalPort,
        clock: Clock,
        publisher: Publisher | None,
        store: ReportStore | None,
        command_log: CommandLog | None,
    ) -> None:
        self.exchange, self.journal, self.clock = exchange, journal, clock
        self.publisher = publisher
        self.store = store or ReportStore()
        self.log = command_log or CommandLog()
        self.batch = Batch()
        self.overlap_from = 0  # groups of so many commands commit beside the loop; 0: none does
        self.pending: Group | None = None  # carried out, its commit under way
        self.turn: Callable[[], bool] = lambda: False  # takes a plain batch all the way in machine code (gateway.turn)
        self.counters = Counters()
        self.mono_ns = 0  # the loop's last look at the monotonic clock
        self.received_ns = 0  # exchange time at which the newest group was cut
        # metrics: the reports of so many commands go out now; began ns (monotonic) of their turn of the loop
        self.reported: Callable[[int, int], None] = lambda commands, began_ns: None
        self.clock_stepped: Callable[[int], None] = lambda time_ns: None  # the server notes it for its next start

    def source(self, message: Any) -> None:
        """A command of the exchange itself (scheduler, disconnects, bootstrap) enters the batch."""
        if not self.batch.room() or type(message) in ALONE:
            self.flush()
        self.batch.add_message(messages.encode(message), NO_ACCOUNT, 0, 0)
        if type(message) in ALONE:
            self.flush()

    def execute(self, message: Any) -> list[Any]:
        """Sources a message, makes it durable, and returns the notices that it led to (decoded maps)."""
        self.flush()
        first = self.store.count
        self.source(message)
        self.flush()
        places = range(min(first, self.store.count), self.store.count)
        return [msgspec.msgpack.decode(self.store.payloads[i]) for i in places if i in self.store.payloads]

    def flush(self) -> None:
        """Everything up to here is durable and carried out; its reports are on their way."""
        self.finish()
        if not self.batch.count or (not self.batch.payloads and self.turn()):
            return
        records, payloads = self._cut()
        self.journal.append(records, payloads)
        self.journal.commit()
        self.apply(records, payloads)

    def advance(self) -> None:
        """As :meth:`flush`, but while the disk works on a large group of plain orders the exchange goes on.

        The engine is then one group ahead of what anybody may know: ``pending``. Its reports, its market data, its
        entries in the log and in the report store come after its commit, in :meth:`finish` or in the next call.
        """
        if not self.overlap_from or self.batch.count < self.overlap_from or self.batch.payloads:
            self.flush()
            return
        journal, before = cast(OverlapPort, self.journal), self.pending
        if before is not None:
            journal.wait()
        records, payloads = self._cut()
        received_ns = self.received_ns
        journal.append(records, payloads)
        journal.begin()
        if before is not None:
            self._show(before)
        self.pending = Group(records, self.exchange.apply(records).events, received_ns, self.mono_ns)

    def finish(self) -> None:
        """Waits for the group whose commit is under way; its reports go out."""
        if self.pending is not None:
            cast(OverlapPort, self.journal).wait()
            self._show(self.pending)

    def _cut(self) -> tuple[np.ndarray, bytes]:
        """The batch as a group: numbered, timed."""
        head = self.exchange.market.market[0]
        self.received_ns = now = self.clock.now()
        return self.batch.cut(int(head["seq"]) + 1, max(now, int(head["time_ns"])))

    def _show(self, group: Group) -> None:
        """A pending group is durable: its reports go out."""
        self.pending, latest = None, self.received_ns
        self.received_ns = group.received_ns
        self._note(group.records, b"", group.events, b"")
        self.reported(len(group.records), group.began_ns)
        self.received_ns = latest

    def apply(self, records: np.ndarray, payloads: bytes) -> None:
        """Engine and reports: the same for live commands and for recovered ones."""
        if not payloads:  # only the slow lane opens or closes a day, or a session
            self._note(records, payloads, *self.exchange.apply(records))
            self.reported(len(records), self.mono_ns)
            return
        date, closed = (int(self.exchange.market.market[0][name]) for name in ("date", "day_closed"))
        out = self.exchange.apply(records, payloads)
        if int(self.exchange.market.market[0]["date"]) != date:
            self._leave_day()
        self.update_routing()
        self._note(records, payloads, out.events, out.payloads)
        self.reported(len(records), self.mono_ns)
        if not closed and self.exchange.market.market[0]["day_closed"]:
            self._end_day()

    def _note(self, records: np.ndarray, payloads: bytes, events: np.ndarray, notes: bytes) -> None:
        """Log, report store, reports, market data of a durable group. notes: payloads of its notices."""
        self.deliver(events, self.store.append(events, notes), notes)
        self.log.append(records, payloads)  # whoever waits for a report does not wait for this
        if self.publisher is not None:
            self.publisher.collect(events, notes)
        self.noted(len(records), len(events))

    def noted(self, commands: int, events: int) -> None:
        """A durable group has passed through all of it."""
        self.counters.groups += 1
        self.counters.commands += commands
        self.counters.events += events

    # --- what the layers above make of it ----------------------------------------------------------------------

    def deliver(self, events: np.ndarray, touched: np.ndarray, payloads: bytes) -> None:
        """A durable group's reports stand in the store. touched: uint16, the sessions that have new ones."""

    def update_routing(self) -> None:
        """The slow lane may have opened or revoked a session."""

    def _leave_day(self) -> None:
        """The reports of the day before are about to be forgotten."""
        self.store.start_day()
        self.log.start_day()

    def _end_day(self) -> None:
        """The day has been closed."""
