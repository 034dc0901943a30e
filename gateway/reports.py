"""The day's events and, per session, which of them are its reports: numbered, in journal order, repeatable.

One array holds every event of the day once; a stream is a list of indices into it. Which stream an event
belongs to is a pure function of the event and the session table at that moment, so replaying the journal
gives the same numbers and the same bytes. Streams are not written to files of their own (D5): they stand in
the exchange's snapshot, and what came after it is replayed.

Routing: an event with a session goes to that session. One with session 0 and an account goes to all of the
account's sessions; one of the market (NO_ACCOUNT) to all sessions where it is public. Whatever concerns an
account goes to its drop copies besides. Operators see everything, as the stream of all events.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import xxhash

from engine.memory import reserved
from engine.records import EVENT, NO_ACCOUNT, NOTICE
from gateway import hot
from gateway.memory import EVENTS_PER_ORDER, Used
from gateway.protocol import REPORTS_PER_FRAME, STREAM_PER_FRAME

# Reserved memory is touched only where it is used, so that a day of a billion events costs nothing before it comes, and
# no order of a busy day waits for a copy: before memory for them is full, the machine's is (64 GiB). Where a system
# counts what is reserved (strict overcommit), there is room for 67 million, then growing copies.
EVENTS_AT_START: Final = 1 << 26
EVENTS_MOST: Final = 1 << 30
BLOCKS_AT_START: Final = 1 << 19  # as many events in full blocks, and a last block of each session
BLOCKS_MOST: Final = 1 << 23
MANY: Final = 64  # records from which on a copy as bytes saves more than its two views cost
SESSIONS: Final = 1 << 16  # session numbers are 16 bits


class Span(NamedTuple):
    """The numbers of a session's reports of the day: ``first_no`` … ``next_no`` - 1."""

    first_no: int
    next_no: int


class ReportStore:
    """Events of the day and their streams. A stream's index is a chain of blocks (gateway.hot)."""

    def __init__(self) -> None:
        self.events = reserved((EVENTS_AT_START,), EVENT, most=EVENTS_MOST)
        self.count = 0
        self.first_event_no = 1  # number of events[0] in the operators' stream, over all days
        self.payloads: dict[int, bytes] = {}
        self.streams = np.zeros(SESSIONS, hot.STREAM)
        self.blocks = reserved((BLOCKS_AT_START, hot.BLOCK), np.uint32, most=BLOCKS_MOST)
        self.previous = reserved((len(self.blocks),), np.uint32)
        self.used = 1  # block 0 means none
        self._marks = np.zeros(SESSIONS, np.uint8)
        self._touched = np.zeros(SESSIONS, np.uint16)
        self._members, self._owners = np.zeros(0, np.int64), np.zeros(0, np.int64)  # members' sessions, their accounts
        self._sessions_of: dict[int, list[int]] = {}  # those of the accounts that were asked for
        self._copy_pairs: list[tuple[int, int]] = []
        self._copies_of: dict[int, list[int]] = {}
        self.copied = np.zeros(0, np.uint8)
        self._copy_starts, self._copies = np.zeros(1, np.int64), np.zeros(0, np.uint16)  # by account, for machine code
        self._copies_most = 0
        self._all: list[int] | None = None  # made when it is first asked for
        self.lent = False  # True when a snapshot may still be reading the events
        self.rejects = np.zeros(256, np.int64)  # refusals taken so far by code, over all days: for the metrics
        self.direct = False  # True when each event of the last batch was one session's

    def growing(self, orders: int) -> list[Used]:
        """What grows, for :class:`gateway.memory.TouchAhead`; so many orders are to be ahead."""
        events = EVENTS_PER_ORDER * orders
        blocks = events // hot.BLOCK + 1
        return [
            lambda: (self.events, self.count, events),
            lambda: (self.blocks, self.used, blocks),
            lambda: (self.previous, self.used, blocks),
        ]

    # --- who gets what -------------------------------------------------------------------------------------

    def set_sessions(self, sessions: np.ndarray, owners: np.ndarray, copies: Iterable[tuple[int, int]] = ()) -> None:
        """sessions, owners: members' sessions in rising order and the account of each; those without one are left out.
        copies: (session, account) of drop copies.

        A market opens its sessions one after the other, so this takes some microseconds however many there are.
        """
        members = owners != NO_ACCOUNT
        self._members, self._owners = sessions[members], owners[members]
        self._sessions_of, self._all = {}, None
        copy_pairs = sorted(copies)
        if copy_pairs == self._copy_pairs:
            return
        by_copy: dict[int, list[int]] = defaultdict(list)
        for session, account in copy_pairs:
            by_copy[account].append(session)
        self._copy_pairs, self._copies_of = copy_pairs, dict(by_copy)
        self.copied = np.zeros(max(by_copy, default=-1) + 1, np.uint8)
        self.copied[list(by_copy)] = 1
        counts = [len(by_copy.get(account, ())) for account in range(len(self.copied))]
        self._copy_starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._copies = np.array([s for account in sorted(by_copy) for s in by_copy[account]], np.uint16)
        self._copies_most = max(counts, default=0)

    def _sessions(self, account: int) -> list[int]:
        """The members' sessions of an account."""
        found = self._sessions_of.get(account)
        if found is None:
            found = self._sessions_of[account] = self._members[self._owners == account].tolist()
        return found

    def _everybody(self) -> list[int]:
        """All members' sessions and drop copies."""
        if self._all is None:
            self._all = sorted({*self._members.tolist(), *(session for session, _ in self._copy_pairs)})
        return self._all

    def stream(self, session: int) -> Span:
        """The numbers of a session's reports; an unused stream begins at 1."""
        row = self.streams[session]
        return Span(int(row["first_no"]) or 1, int(row["next_no"]) or 1)

    def warm_up(self) -> None:
        """Compiles (or loads) the machine code of an empty store, before the market opens."""
        other = ReportStore()
        event = np.zeros(1, EVENT)
        event["session"] = event["seq"] = 1
        other.append(event, b"")
        other.set_sessions(np.zeros(0, np.int64), np.zeros(0, np.int64), [(2, 0)])
        other.append(event, b"")
        other.page(1, 1, 1)
        other.of_seq(1, 1)
        hot.push(other.streams, other.blocks, other.previous, other.used, 1, 0)

    # --- writing -------------------------------------------------------------------------------------------

    def append(self, events: np.ndarray, payloads: bytes) -> np.ndarray:
        """Takes the events of a batch (EVENT[n]; payloads of the notices in order).

        Returns the sessions whose streams grew: uint16, a view that the next call overwrites.
        """
        n, base = len(events), self.count
        self._make_events_room(n)
        if n < MANY:
            self.events[base : base + n] = events
        else:  # numpy copies records field by field, bytes at memory speed
            self.events[base : base + n].view(np.uint8)[:] = events.view(np.uint8)
        self.count = base + n
        self._make_room(n)
        self.direct = bool(hot.plain(events, self.copied, self.rejects)) and not payloads
        if self.direct:
            self.used, touched = hot.index_events(
                events, base, self.streams, self.blocks, self.previous, self.used, self._marks, self._touched
            )
            return self._touched[:touched]
        if not payloads and events["session"].all():  # drop copies, and nothing else out of the ordinary
            self._make_room(n * (1 + self._copies_most))
            self.used, touched = hot.index_copied(
                events,
                base,
                self.streams,
                self.blocks,
                self.previous,
                self.used,
                self._marks,
                self._touched,
                self._copy_starts,
                self._copies,
            )
            return self._touched[:touched]
        return self._append_mixed(events, payloads, base)

    def make_room(self, events: int, blocks: int) -> None:
        """Room for so many more events and blocks, for a restore."""
        self._make_events_room(events)
        self._make_room(blocks)

    def _make_events_room(self, n: int) -> None:
        if self.count + n > len(self.events):
            grown = reserved((max(2 * len(self.events), self.count + n),), EVENT)
            grown[: self.count] = self.events[: self.count]
            self.events = grown

    def _make_room(self, reports: int) -> None:
        """Blocks for so many more reports, each of which may begin a new one."""
        if self.used + reports < len(self.previous):
            return
        size = max(2 * len(self.previous), self.used + reports + 1)
        blocks, previous = reserved((size, hot.BLOCK), np.uint32), reserved((size,), np.uint32)
        blocks[: self.used], previous[: self.used] = self.blocks[: self.used], self.previous[: self.used]
        self.blocks, self.previous = blocks, previous

    def _append_mixed(self, events: np.ndarray, payloads: bytes, base: int) -> np.ndarray:
        """Events with notices, several addressees or drop copies among them, one by one."""
        touched: set[int] = set()
        sessions, accounts, kinds = events["session"].tolist(), events["account"].tolist(), events["kind"].tolist()
        at, copies = 0, self._copies_of
        for i in range(len(events)):
            if kinds[i] == NOTICE:
                size = int(events[i]["quantity"])
                self.payloads[base + i] = payloads[at : at + size]
                at += size
            if sessions[i]:
                targets: Iterable[int] = (sessions[i],)
            elif accounts[i] != NO_ACCOUNT:
                targets = self._sessions(accounts[i])
            else:
                targets = self._everybody() if kinds[i] == NOTICE and events[i]["side"] == 1 else ()
            targets = [*targets, *copies.get(accounts[i], ())]
            self._make_room(len(targets))
            for target in targets:
                self.used = hot.push(self.streams, self.blocks, self.previous, self.used, target, base + i)
            touched.update(targets)
        assert at == len(payloads), "payloads and notices do not add up"
        return np.array(sorted(touched), np.uint16)

    def start_day(self) -> None:
        """Forgets the events of the day before; numbers go on."""
        if self.lent:  # a snapshot that is being written keeps the old memory
            self.events, self.lent = reserved((EVENTS_AT_START,), EVENT, most=EVENTS_MOST), False
        self.streams["first_no"] = self.streams["next_no"]
        self.streams["tail"] = self.streams["fill"] = 0
        self.used = 1
        self.first_event_no += self.count
        self.count = 0
        self.payloads.clear()

    # --- reading -------------------------------------------------------------------------------------------

    def _places(self, session: int, first_no: int, count: int) -> np.ndarray:
        """Event indices (uint32[count]) of a session's reports from ``first_no`` on."""
        places = np.empty(count, np.uint32)
        hot.collect(self.streams, self.blocks, self.previous, session, first_no, places)
        return places

    def page(self, session: int, first_no: int, last_no: int) -> tuple[np.ndarray, bytes]:
        """Reports first_no … last_no (at most one frame's worth) of a session: events EVENT[n], payloads."""
        span = self.stream(session)
        count = min(last_no + 1, first_no + REPORTS_PER_FRAME, span.next_no) - first_no
        assert first_no >= span.first_no and count >= 0, "a page lies inside the stream"
        places = self._places(session, first_no, count)
        return self.events[places], self._blob(places.tolist())

    def event_page(self, first_no: int, most: int = STREAM_PER_FRAME) -> tuple[np.ndarray, bytes]:
        """Events from number ``first_no`` of the stream of all events, at most so many."""
        start = first_no - self.first_event_no
        stop = min(start + most, self.count)
        assert 0 <= start <= stop, "a page lies inside the stream"
        events = self.events[start:stop]
        if not self.payloads or start > next(reversed(self.payloads)):  # as in nearly every page of a busy market
            return events, b""
        notices = np.flatnonzero(events["kind"] == NOTICE)  # a thousand looks into a dict cost more than all the rest
        return events, self._blob((notices + start).tolist())

    def _blob(self, places: Iterable[int]) -> bytes:
        if not self.payloads:
            return b""
        return b"".join(self.payloads[i] for i in places if i in self.payloads)

    def of_seq(self, session: int, seq: int) -> tuple[int, int]:
        """(first, last + 1) report numbers of a command in a session's stream: its whole outcome there."""
        first, last = hot.numbers_of(self.streams, self.blocks, self.previous, self.events, session, np.uint64(seq))
        return int(first), int(last)

    def digest(self, session: int) -> str:
        """XXH3-128 over a session's reports of the day, events and payloads."""
        span = self.stream(session)
        places = self._places(session, span.first_no, span.next_no - span.first_no)
        digest = xxhash.xxh3_128(self.events[places].tobytes())
        digest.update(self._blob(places.tolist()))
        return digest.hexdigest()
