"""A seeded writer on a crash disk, and the check of every image that a crash may leave (used by the journal's tests).

The invariant, in one sentence: whatever the disk holds after a crash, recovery finds a prefix of what was
submitted that contains everything acknowledged, and its state is the state of a clean replay of that prefix.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import xxhash

from engine.journal import Identity, Journal
from engine.journal.crash_disk import CrashDisk
from engine.journal.increment import Increment
from engine.journal.snapshot import read_references, read_snapshot, snapshot_names
from engine.journal.spare import Beside
from engine.records import COMMAND, MESSAGE, NEW

IDENTITY = Identity(engine_abi=1, rules_hash=b"rules of the crash tests", journal_id=0x5EED)
SEGMENT_BYTES = 4096  # small, so that rotation happens all the time
STATE_BYTES = 1_300  # more than two sectors: a snapshot can be torn


class Machine(Protocol):
    """What the journal protects. States are compared byte for byte."""

    def apply(self, commands: np.ndarray, payloads: bytes) -> None: ...

    def state(self) -> bytes: ...

    def restore(self, state: bytes) -> None: ...


class Fold:
    """The smallest deterministic machine: a 64-bit hash over every command and payload, one after the other."""

    def __init__(self) -> None:
        self.hash = 0

    def apply(self, commands: np.ndarray, payloads: bytes) -> None:
        place = 0
        for record in commands:
            length = int(record["quantity"]) if record["kind"] == MESSAGE else 0
            text = self.hash.to_bytes(8, "little") + record.tobytes() + payloads[place : place + length]
            place += length
            self.hash = xxhash.xxh3_64_intdigest(text)
        assert place == len(payloads), "payloads and MESSAGE commands do not fit each other"

    def state(self) -> bytes:
        return self.hash.to_bytes(8, "little") * (STATE_BYTES // 8)

    def restore(self, state: bytes) -> None:
        assert len(state) == STATE_BYTES // 8 * 8
        self.hash = int.from_bytes(state[:8], "little")


def some_commands(rng: random.Random, first_seq: int, count: int) -> tuple[np.ndarray, bytes]:
    """COMMAND[count] with mixed kinds, and the payloads of the messages among them."""
    commands = np.zeros(count, COMMAND)
    commands["seq"] = np.arange(first_seq, first_seq + count)
    commands["time_ns"] = commands["seq"].astype(np.int64) * 1_000
    commands["kind"] = NEW
    commands["price"] = rng.randrange(1, 1 << 40)
    commands["quantity"] = rng.randrange(1, 99_999)
    blob = b""
    for i in range(count):
        if rng.random() < 0.2:
            payload = rng.randbytes(rng.randrange(1, 90))
            commands["kind"][i], commands["quantity"][i] = MESSAGE, len(payload)
            blob += payload
    return commands, blob


def recovered(disk: CrashDisk, machine: Machine, beside: Beside | None = None) -> Journal:
    """Open the journal and bring ``machine`` to its end."""
    journal = Journal.open(disk, IDENTITY, segment_bytes=SEGMENT_BYTES, beside=beside)
    if journal.recovery.snapshot is not None:
        machine.restore(journal.recovery.snapshot)
    for group in journal.groups(journal.recovery.snapshot_seq):
        machine.apply(group.commands, group.payloads)
    return journal


class Later:
    """The place of the gateway's thread: work is done at any disk operation of the writer, or when it is waited for."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._works: list[Callable[[], None]] = []  # more than one where nobody waits, which is a planted bug
        self.between = self.waited = 0  # how often work was done so

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        self._works.append(work)
        return self._wait

    def perhaps(self) -> None:
        """One chance in ten."""
        if self._works and self._rng.random() < 0.1:
            self.between += 1
            self._works.pop(0)()

    def forget(self) -> None:
        """The process has ended, and its thread with it."""
        self._works.clear()

    def _wait(self) -> None:
        while self._works:
            self.waited += 1
            self._works.pop(0)()


@dataclass
class Writer:
    """Runs a seeded workload and checks ``images_a_point`` crash images before each disk operation.

    ``make`` builds the machine, ``source(rng, first_seq, count)`` its commands; ``acknowledge_early`` is a planted bug.
    """

    seed: int
    images_a_point: int = 8
    make: Callable[[], Machine] = Fold
    source: Callable[[random.Random, int, int], tuple[np.ndarray, bytes]] = some_commands
    group_max: int = 12
    acknowledge_early: bool = False
    images: int = 0
    accepted: int = 0
    snapshots_done: int = 0
    snapshot_seq: int = 0
    torn: int = 0
    states: dict[int, bytes] = field(default_factory=dict)
    increments: list[Increment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.disk = CrashDisk(self.rng.randrange)
        self.machine: Machine = self.make()
        self.states[0] = self.machine.state()
        self.journal: Journal | None = None
        self.later = Later(random.Random(~self.seed))

    def run(self, steps: int) -> None:
        """Do ``steps`` random steps: append, commit, snapshot, seal, restart after a kill or a power cut."""
        self.disk.observe = self._at_point
        self.journal = recovered(self.disk, self.make(), self.later)
        for _ in range(steps):
            action = self.rng.random()
            if action < 0.45:
                self._append()
            elif action < 0.80:
                self.accepted = self.journal.commit()
            elif action < 0.90:
                self._snapshot()
            elif action < 0.92:
                self.journal.seal(20260101 + self.journal.next_seq, self.machine.state()[:8], {"n": 1})
                self.accepted = self.journal.durable_seq
            else:
                self._restart(power=action < 0.96)
        self._at_point("end")

    def _append(self) -> None:
        assert self.journal is not None
        commands, payloads = self.source(self.rng, self.journal.next_seq, self.rng.randrange(1, self.group_max))
        self.machine.apply(commands, payloads)
        self.states[int(commands["seq"][-1])] = self.machine.state()
        if self.acknowledge_early:
            self.accepted = int(commands["seq"][-1])
        self.journal.append(commands, payloads)

    def _snapshot(self) -> None:
        assert self.journal is not None
        self.accepted = self.journal.commit()
        state = self.machine.state()
        if self.accepted > self.snapshot_seq:  # else there is nothing new that a snapshot would need
            if self.rng.random() < 0.3:
                self.increments = []  # a new day
            increment = self.journal.increment(state[: self.rng.randrange(1, 1_200)], self.accepted)
            assert increment is not None
            self.increments.append(increment)
        assert self.journal.snapshot([state[:500], state[500:]], self.accepted, self.increments)
        if self.accepted > self.snapshot_seq:
            self.snapshots_done += 1
        self.snapshot_seq = self.accepted

    def _restart(self, power: bool) -> None:
        """Go on from a crash: the writer itself lives through it, as the exchange does."""
        self.disk.observe = None
        self.disk = self.disk.power_cut(self.rng.randrange) if power else self.disk.copy()
        self.disk.observe = self._at_point
        self.later.forget()
        self.machine = self.make()
        self.journal = recovered(self.disk, self.machine, self.later)
        last = self.journal.durable_seq
        assert last >= self.accepted, f"seed {self.seed}: acknowledged {self.accepted}, recovered {last}"
        # What was not recovered never happened: its sequences are used again by other commands.
        self.accepted = last
        newest = next(iter(snapshot_names(self.disk)), None)
        self.increments = list(read_references(self.disk, newest)) if newest else []
        self.states = {seq: state for seq, state in self.states.items() if seq <= last}

    def _at_point(self, operation: str) -> None:
        self.later.perhaps()
        # Most of what can be torn is pending before a sync: look harder there.
        for _ in range(self.images_a_point * (4 if operation == "sync" else 1)):
            self.check(self.disk.power_cut(self.rng.randrange), f"power cut before {operation}")
        if self.rng.random() < 0.2:
            twin = self.disk.copy()
            first = self.check(twin, f"kill before {operation}", go_on=False)
            # What the killed process's successor has accepted must survive a power cut of its own.
            second = self.check(twin.power_cut(self.rng.randrange), f"kill, then power cut, before {operation}")
            assert second >= first, f"seed {self.seed}: {first} was recovered after a kill, {second} after a power cut"

    def check(self, image: CrashDisk, what: str, go_on: bool = True) -> int:
        """Recover ``image``, compare, go on for one group, crash again. Returns the last sequence recovered."""
        self.images += 1
        where = f"seed {self.seed}, operation {self.disk.operations}, {what}"
        found = [read_snapshot(image, name) for name in snapshot_names(image)]
        assert None not in found, f"{where}: a damaged snapshot under its final name"
        assert len(found) >= min(3, self.snapshots_done), f"{where}: too few snapshots"
        machine = self.make()
        journal = recovered(image, machine)
        last = journal.durable_seq
        assert last >= self.accepted, f"{where}: acknowledged {self.accepted}, recovered {last}"
        assert last in self.states, f"{where}: recovered {last}, which was never submitted"
        assert machine.state() == self.states[last], f"{where}: another state at {last}"
        assert journal.recovery.snapshot_seq >= self.snapshot_seq, f"{where}: the last snapshot is lost"
        self.torn += journal.recovery.cut_bytes > 0
        if go_on and self.rng.random() < 0.25:
            self._go_on(image, journal, machine, where)
        image.unlock()
        return last

    def _go_on(self, image: CrashDisk, journal: Journal, machine: Machine, where: str) -> None:
        """The next life of an image: one more group, one more crash."""
        commands, payloads = self.source(self.rng, journal.next_seq, 3)
        machine.apply(commands, payloads)
        journal.append(commands, payloads)
        last = journal.commit()
        again = self.make()
        after = recovered(image.power_cut(self.rng.randrange), again)
        assert after.durable_seq == last, f"{where}: {last} was committed after recovery, {after.durable_seq} found"
        assert again.state() == machine.state(), f"{where}: another state after the second crash"
