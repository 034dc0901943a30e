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

from array import array
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import numpy as np
import xxhash

from engine.records import EVENT, NO_ACCOUNT, NOTICE
from gateway.protocol import REPORTS_PER_FRAME

EVENTS_AT_START: Final = 1 << 14


class Stream:
    """One session's reports of the day: ``first_no`` is the number of index 0."""

    __slots__ = ("first_no", "index")

    def __init__(self, first_no: int = 1) -> None:
        self.first_no = first_no
        self.index = array("I")

    @property
    def next_no(self) -> int:
        """The number that the next report will have."""
        return self.first_no + len(self.index)


class ReportStore:
    """Events of the day and their streams."""

    def __init__(self) -> None:
        self.events = np.zeros(EVENTS_AT_START, EVENT)
        self.count = 0
        self.first_event_no = 1  # number of events[0] in the operators' stream, over all days
        self.payloads: dict[int, bytes] = {}
        self.streams: dict[int, Stream] = {}
        self._sessions_of: dict[int, list[int]] = {}
        self._copies_of: dict[int, list[int]] = {}
        self._all: list[int] = []

    # --- who gets what -------------------------------------------------------------------------------------

    def set_sessions(self, accounts: Iterable[tuple[int, int]], copies: Iterable[tuple[int, int]] = ()) -> None:
        """accounts: (session, account) of members' sessions, NO_ACCOUNT for those without one.
        copies: (session, account) of drop copies."""
        by_account: dict[int, list[int]] = defaultdict(list)
        by_copy: dict[int, list[int]] = defaultdict(list)
        pairs, copy_pairs = sorted(accounts), sorted(copies)
        for session, account in pairs:
            by_account[account].append(session)
        for session, account in copy_pairs:
            by_copy[account].append(session)
        by_account.pop(NO_ACCOUNT, None)
        self._sessions_of, self._copies_of = dict(by_account), dict(by_copy)
        self._all = sorted({s for s, _ in pairs} | {s for s, _ in copy_pairs})

    def stream(self, session: int) -> Stream:
        """A session's stream; it starts empty."""
        found = self.streams.get(session)
        if found is None:
            found = self.streams[session] = Stream()
        return found

    # --- writing -------------------------------------------------------------------------------------------

    def append(self, events: np.ndarray, payloads: bytes) -> set[int]:
        """Takes the events of one batch (EVENT[n]; payloads of the notices in order). Returns the streams that grew."""
        n = len(events)
        base = self.count
        if base + n > len(self.events):
            grown = np.zeros(max(2 * len(self.events), base + n), EVENT)
            grown[:base] = self.events[:base]
            self.events = grown
        self.events[base : base + n] = events
        self.count = base + n
        touched: set[int] = set()
        sessions, accounts, kinds = events["session"].tolist(), events["account"].tolist(), events["kind"].tolist()
        at = 0
        copies = self._copies_of
        for i in range(n):
            session = sessions[i]
            if kinds[i] == NOTICE:
                size = int(events[i]["quantity"])
                self.payloads[base + i] = payloads[at : at + size]
                at += size
            if session:
                self.stream(session).index.append(base + i)
                touched.add(session)
                targets: Iterable[int] = ()
            elif accounts[i] != NO_ACCOUNT:
                targets = self._sessions_of.get(accounts[i], ())
            else:
                targets = self._all if kinds[i] == NOTICE and events[i]["side"] == 1 else ()
            for target in targets:
                self.stream(target).index.append(base + i)
                touched.add(target)
            if copies and accounts[i] in copies:
                for target in copies[accounts[i]]:
                    self.stream(target).index.append(base + i)
                    touched.add(target)
        assert at == len(payloads), "payloads and notices do not add up"
        return touched

    def start_day(self) -> None:
        """Forgets the events of the day before; numbers go on."""
        for stream in self.streams.values():
            stream.first_no = stream.next_no
            stream.index = array("I")
        self.first_event_no += self.count
        self.count = 0
        self.payloads.clear()

    # --- reading -------------------------------------------------------------------------------------------

    def page(self, session: int, first_no: int, last_no: int) -> tuple[np.ndarray, bytes]:
        """Reports first_no … last_no (at most one frame's worth) of a session: events EVENT[n], payloads."""
        stream = self.stream(session)
        start = first_no - stream.first_no
        stop = min(last_no - stream.first_no + 1, start + REPORTS_PER_FRAME, len(stream.index))
        assert 0 <= start <= stop, "a page lies inside the stream"
        places = stream.index[start:stop]
        return self.events[np.frombuffer(places, np.uint32)] if places else self.events[:0], self._blob(places)

    def event_page(self, first_no: int) -> tuple[np.ndarray, bytes]:
        """Events from number ``first_no`` of the stream of all events, at most one frame's worth."""
        start = first_no - self.first_event_no
        stop = min(start + REPORTS_PER_FRAME, self.count)
        assert 0 <= start <= stop, "a page lies inside the stream"
        return self.events[start:stop], self._blob(range(start, stop))

    def _blob(self, places: Iterable[int]) -> bytes:
        if not self.payloads:
            return b""
        return b"".join(self.payloads[i] for i in places if i in self.payloads)

    def of_seq(self, session: int, seq: int) -> tuple[int, int]:
        """(first, last + 1) report numbers of a command in a session's stream: its whole outcome there."""
        stream = self.stream(session)
        seqs = self.events["seq"][np.frombuffer(stream.index, np.uint32)] if stream.index else np.zeros(0, np.uint64)
        first, last = np.searchsorted(seqs, np.uint64(seq)), np.searchsorted(seqs, np.uint64(seq), "right")
        return stream.first_no + int(first), stream.first_no + int(last)

    def digest(self, session: int) -> str:
        """XXH3-128 over a session's reports of the day, events and payloads."""
        stream = self.stream(session)
        digest = xxhash.xxh3_128()
        for no in range(stream.first_no, stream.next_no, REPORTS_PER_FRAME):
            events, payloads = self.page(session, no, stream.next_no - 1)
            digest.update(events.tobytes())
            digest.update(payloads)
        return digest.hexdigest()

    # --- snapshot ------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """Plain values and bytes for the exchange's snapshot."""
        return {
            "events": self.events[: self.count].tobytes(),
            "first_event_no": self.first_event_no,
            "payloads": sorted(self.payloads.items()),
            "streams": [(s, t.first_no, t.index.tobytes()) for s, t in sorted(self.streams.items())],
        }

    def load(self, data: dict[str, Any]) -> None:
        """Puts a dump back."""
        events = np.frombuffer(data["events"], EVENT)
        self.events = np.zeros(max(EVENTS_AT_START, len(events)), EVENT)
        self.events[: len(events)] = events
        self.count, self.first_event_no = len(events), data["first_event_no"]
        self.payloads = {i: bytes(p) for i, p in data["payloads"]}
        self.streams = {}
        for session, first_no, index in data["streams"]:
            stream = self.streams[session] = Stream(first_no)
            stream.index.frombytes(bytes(index))


def encode_dump(data: dict[str, Any]) -> bytes:
    """MessagePack of a dump."""
    return msgspec.msgpack.encode(data)
