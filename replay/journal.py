"""A journal replayed: verified by state hashes, to any moment, filtered, or what if other rules had held.

The engine is deterministic, so a replay of the same journal gives the same hash after every minute and the same
hash over all events, on every machine. What was recorded is compared on the way: the daily seals (hash of the whole
state) and the snapshots (byte for byte the state at their sequence).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
import xxhash

from engine import state
from engine.calendar import day_start_ns, format_time, parse_clock, trading_date
from engine.exchange import Exchange, Output
from engine.journal import Disk
from engine.journal.rewrite import segment_headers
from engine.journal.segment import SEGMENT_HEADER_BYTES, segment_name
from engine.journal.snapshot import read_snapshot
from engine.records import COMMAND
from replay import journal_reader
from replay.journal_reader import EVERYTHING, MINUTE_NS, Reader, cut_at, minute_bounds
from replay.market_settings import Settings, engine_part
from replay.whole_file import whole_file

INDEX_EVERY: Final = 500_000  # commands between two states of an index: a sixth of a second of replay at most

Watch = Callable[[Output], None]
Progress = Callable[[int, int], None]


class MinuteHash(msgspec.Struct, frozen=True):
    """The state after the last command of a minute (Shanghai time), as :class:`MinuteDigest` hashes it."""

    minute: str
    seq: int
    state_hash: str


class MinuteDigest:
    """Hash of the whole state for every minute, at a cost that does not grow with the day's deals.

    xxh3 over xxh3 of the deals, the state machines, and the tables but the deals. Deals are only ever added, so those
    of earlier minutes are not hashed again; only a message (a deal taken back) can change one, then they are. Only
    messages change the state machines.
    """

    def __init__(self) -> None:
        self._deals, self._counted, self._date = xxhash.xxh3_64(), 0, 0
        self._machines = b""

    def of(self, exchange: Exchange, *, messages: bool) -> str:
        """``messages``: whether any came since the last call."""
        head = exchange.market.market[0]
        count = int(head["deals"]) if exchange.rules.accounts else 0  # without accounts nobody keeps them
        date = int(head["date"])
        if messages or date != self._date or count < self._counted:
            self._deals, self._counted, self._date = xxhash.xxh3_64(), 0, date
        self._deals.update(np.ascontiguousarray(exchange.market.deals[self._counted : count]).view("u1").data)
        self._counted = count
        if messages:
            self._machines = b"".join(state.machines(exchange))
        digest = xxhash.xxh3_64(self._deals.digest())
        digest.update(self._machines)
        for part in state.tables(exchange, deals=False):
            digest.update(part)
        return digest.hexdigest()


class JournalReport(msgspec.Struct):
    """What a replay found. ``differs``: recorded hashes that are not those of the replay."""

    first_seq: int = 0
    last_seq: int = 0
    commands: int = 0
    events: int = 0
    minutes: list[MinuteHash] = []
    state_hash: str = ""
    events_hash: str = ""
    seals_checked: int = 0
    snapshots_checked: int = 0
    differs: list[str] = []

    @property
    def ok(self) -> bool:
        """True when every recorded hash is that of the replay."""
        return not self.differs


class Moment(NamedTuple):
    """All commands up to and with this sequence, or all up to and at this time."""

    seq: int = EVERYTHING
    time_ns: int = EVERYTHING


def parse_moment(text: str) -> Moment:
    """``1234567`` (a sequence) or ``2025-12-03T10:15[:30]`` (Shanghai time). ValueError says what is expected."""
    if text.isascii() and text.isdigit():
        return Moment(seq=int(text))
    match = re.fullmatch(r"(\d{4})-?(\d\d)-?(\d\d)[T ](\d\d:\d\d(?::\d\d)?)", text)
    if match is None:
        raise ValueError(f"{text!r}: expected a sequence number, or a time such as 2025-12-03T10:15:30")
    date = int("".join(match.group(1, 2, 3)))
    return Moment(time_ns=day_start_ns(date) + parse_clock(match.group(4)))


def minute_text(time_ns: int) -> str:
    """``2025-12-03 10:15`` in Shanghai."""
    date = str(trading_date(time_ns))
    return f"{date[:4]}-{date[4:6]}-{date[6:]} {format_time(time_ns)[:5]}"


def sequence_at(disk: Disk, moment: Moment, walked: dict[int, journal_reader.Walked] | None = None) -> int:
    """The last sequence of a moment: its own, or that of the last command not after its time. 0 before the first.

    ``walked``: gets the segment that was read for it, see :class:`Reader`.
    """
    if moment.time_ns == EVERYTHING:
        return moment.seq
    last = 0
    start, end = 0, EVERYTHING
    for header in segment_headers(disk):  # the first command of each segment says whether the moment lies behind it
        file = disk.open(segment_name(header.index))
        record = file.read(SEGMENT_HEADER_BYTES + 64, COMMAND.itemsize)
        file.close()
        if len(record) < COMMAND.itemsize or record.view(COMMAND)[0]["seq"] != header.first_seq:
            continue  # a segment without commands yet, or one that begins with a seal
        if record.view(COMMAND)[0]["time_ns"] > moment.time_ns:
            end = header.first_seq - 1
            break
        start = header.first_seq - 1
    for group in Reader(disk, start, until_seq=end, walked=walked):
        times = group.commands["time_ns"]
        here = int(np.searchsorted(times, moment.time_ns, side="right"))
        if here:
            last = int(group.commands["seq"][here - 1])
        if here < len(times):
            break
    return last or start


class JournalReplay:
    """An engine that goes through a journal. ``exchange`` is where it stands; ``seq`` its last command."""

    def __init__(self, settings: Settings, disk: Disk, last_segment: str = "") -> None:
        self.settings, self.disk, self.last_segment = settings, disk, last_segment
        self._exchange: Exchange | None = None
        self.seq = 0

    @property
    def exchange(self) -> Exchange:
        """Where the replay stands; before its first step an empty market, made when it is asked for."""
        if self._exchange is None:
            self._exchange = self.settings.make()
        return self._exchange

    # --- to a moment ----------------------------------------------------------------------------------------

    def go_to(self, moment: Moment, index: Path | None = None, progress: Progress | None = None) -> int:
        """Brings the engine to a moment, from the nearest state before it. Returns its sequence.

        States are the journal's own snapshots and, where there is one, the index that :meth:`run` wrote.
        """
        walked: dict[int, journal_reader.Walked] = {}
        target = sequence_at(self.disk, moment, walked)
        found = journal_reader.newest_snapshot(self.disk, target, self.settings)
        indexed = _newest_indexed(index, target) if index else None
        if indexed and (found is None or indexed[0] > found[0]):
            found = indexed[0], np.memmap(indexed[1], np.uint8, "r").data  # read once, while it is put into the tables
        if found is not None and not self.seq <= found[0] <= target:
            found = None
        if found is None and self.seq > target:
            self._exchange, self.seq = None, 0
        if found is not None:
            self._exchange, self.seq = self.settings.restore(found[1]), found[0]
        start = self.seq
        reader = Reader(self.disk, self.seq, self.last_segment, until_seq=target, walked=walked)
        for commands, payloads in self._pieces(reader, target, ()):
            self.exchange.apply(commands, payloads)
            self.seq = int(commands["seq"][-1])
            if progress:
                progress(self.seq - start, target - start)
        return self.seq

    def step(self, count: int) -> Iterator[tuple[np.ndarray, Output]]:
        """The next ``count`` commands one by one, each with what it leads to (a view until the next)."""
        if count < 1:
            return
        for group in Reader(self.disk, self.seq, self.last_segment):
            for commands, payloads in cut_at(group, list(range(1, len(group.commands) + 1))):
                yield commands, self.exchange.apply(commands, payloads)
                self.seq = int(commands["seq"][-1])
                count -= 1
                if not count:
                    return

    def _pieces(self, reader: Reader, target: int, stops: Iterable[int]) -> Iterator[tuple[np.ndarray, bytes]]:
        """Commands behind ``seq`` up to ``target``, cut where a minute ends and at the sequences ``stops``."""
        wanted = sorted(stops)
        for group in reader:
            first, n = int(group.commands["seq"][0]), len(group.commands)
            keep = min(n, target - first + 1)
            if keep <= 0:
                return
            bounds = set(minute_bounds(group.commands["time_ns"]))
            low = int(np.searchsorted(wanted, first))
            bounds |= {s - first + 1 for s in wanted[low : int(np.searchsorted(wanted, first + n))]}
            bounds = {b for b in bounds if b < keep} | {keep}
            for piece in cut_at(group, sorted(bounds)):
                yield piece
                if int(piece[0]["seq"][-1]) >= target:
                    return

    # --- the whole journal ----------------------------------------------------------------------------------

    def run(
        self,
        moment: Moment = Moment(),  # noqa: B008 (immutable)
        watch: Watch | None = None,
        progress: Progress | None = None,
        index: Path | None = None,
    ) -> JournalReport:
        """Replays up to a moment and verifies on the way; ``watch`` sees every piece's output.

        ``index``: a folder that gets the engine's state every INDEX_EVERY commands, for :meth:`go_to`.
        """
        assert self.seq == 0, "run starts from the first command"
        report, digest = JournalReport(), xxhash.xxh3_64()
        target = EVERYTHING if moment == Moment() else sequence_at(self.disk, moment)
        reader = Reader(self.disk, 0, self.last_segment)
        snapshots = journal_reader.snapshot_sequences(self.disk)
        total = journal_reader.last_sequence(self.disk, self.last_segment) if progress else 0
        minute, indexed, messages, minutes = -1, 0, True, MinuteDigest()
        time_ns = 0
        for commands, payloads in self._pieces(reader, target, snapshots):
            time_ns = int(commands["time_ns"][0])
            if time_ns // MINUTE_NS != minute and minute >= 0:
                self._end_minute(report, minute, minutes.of(self.exchange, messages=messages))
                messages = False
            minute, messages = time_ns // MINUTE_NS, messages or bool(payloads)
            out = self.exchange.apply(commands, payloads)
            self.seq = int(commands["seq"][-1])
            report.first_seq = report.first_seq or int(commands["seq"][0])
            report.commands += len(commands)
            report.events += len(out.events)
            digest.update(memoryview(out.events).cast("B"))  # type: ignore[arg-type]
            digest.update(out.payloads)
            if watch:
                watch(out)
            seal = reader.seals.get(self.seq)
            if seal is not None:
                report.seals_checked += 1
                if seal.state_hash != self.exchange.seal_hash():
                    report.differs.append(f"the seal of {seal.day} after sequence {self.seq}")
            if self.seq in snapshots:
                self._check_snapshot(report, snapshots[self.seq])
            if index and self.seq // INDEX_EVERY != indexed:
                indexed = self.seq // INDEX_EVERY
                _write_indexed(index, self.seq, self.exchange)
            if progress:
                progress(self.seq, max(total, self.seq))
        if minute >= 0:
            self._end_minute(report, minute, minutes.of(self.exchange, messages=messages))
        report.last_seq = self.seq
        report.state_hash = f"{self.exchange.state_hash():016x}"
        report.events_hash = digest.hexdigest()
        return report

    def _end_minute(self, report: JournalReport, minute: int, state_hash: str) -> None:
        report.minutes.append(MinuteHash(minute_text(minute * MINUTE_NS), self.seq, state_hash))

    def _check_snapshot(self, report: JournalReport, name: str) -> None:
        found = read_snapshot(self.disk, name)
        report.snapshots_checked += 1
        if found is None:
            report.differs.append(f"{name} does not verify")
        elif not found[0].rules_hash.startswith(self.settings.rules.hash()):
            report.differs.append(f"{name} was made under other rules")
        elif bytes(engine_part(found[1].tobytes())) != self.exchange.snapshot():
            report.differs.append(f"{name} is not the state after sequence {self.seq}")


def compare_minutes(recorded: JournalReport, replayed: JournalReport) -> list[str]:
    """Where two replays of one journal part: the first minute whose hash differs, and the end."""
    found = []
    for a, b in zip(recorded.minutes, replayed.minutes, strict=False):
        if a != b:
            found.append(f"minute {a.minute}: recorded {a.state_hash} after {a.seq}, now {b.state_hash} after {b.seq}")
            break
    for name in ("last_seq", "events", "state_hash", "events_hash"):
        if getattr(recorded, name) != getattr(replayed, name):
            found.append(f"{name}: recorded {getattr(recorded, name)}, now {getattr(replayed, name)}")
    return found


def _write_indexed(folder: Path, seq: int, exchange: Exchange) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / f"{seq:020d}.state") as part:
        part.write_bytes(exchange.snapshot())


def _newest_indexed(folder: Path, until_seq: int) -> tuple[int, Path] | None:
    states = sorted(folder.glob("*.state"))
    known = [(int(p.stem), p) for p in states if p.stem.isdigit() and int(p.stem) <= until_seq]
    return known[-1] if known else None
