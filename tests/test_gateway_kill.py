"""The exchange process killed at random moments under load from real clients, and failing system calls under it.

What holds after every restart (issue of durability): each acknowledged request is in the journal once, no request was
executed twice, every client's reports are without a gap, and the state is the one that `cea verify` comes to.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import faulty_writes
import gateway_market as gm
import numpy as np
import pytest

from cea.replaying import machine_maker
from engine import messages as m
from engine.codes import Code
from engine.journal import EXIT_JOURNAL_FAILED, RealDisk
from engine.journal.inspection import verify
from engine.journal.rewrite import sound_groups
from engine.records import FILL_MAKER, FILL_TAKER
from gateway import config as cfg
from gateway.client import Client, NoAnswer, Refusal, Report, UnknownOutcome
from gateway.operator import OperatorClient

FORKER = str(Path(__file__).with_name("server_forker.py"))
MEMBERS = 4
ROUNDS, ROUNDS_SOAK = 20, 1_000
ROUNDS_A_JOURNAL = 50  # every start replays the whole of it
CLEAN_STOP_EVERY = 7
SNAPSHOT_COMMANDS = 60  # so most starts go on from a snapshot that was taken while trading, and some kills tear one
ACKNOWLEDGED_BEFORE_KILL = 20
ENDED_S = 5  # so long without an answer: has the exchange ended?
START_SECONDS = gm.PATIENCE_S  # generous: the machine may be shared


class Exchange:
    """The exchange process of a folder, forked from a parent that has its libraries."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        env = {**os.environ, "PYTHONPATH": str(gm.ROOT)}
        with (folder / "log").open("ab") as log:
            self._parent = subprocess.Popen(
                [sys.executable, FORKER, str(folder), "stepped"],
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.pid = 0
        self.start()

    def _line(self) -> str:
        assert self._parent.stdout is not None
        return self._parent.stdout.readline()

    def start(self) -> None:
        """Starts it and waits until it can be reached."""
        assert self._parent.stdin is not None
        self._parent.stdin.write("start\n")
        self._parent.stdin.flush()
        self.pid = int(self._line())
        ready = gm.wait_until(lambda: (e := cfg.read_endpoints(self.folder)) and e.pid == self.pid, START_SECONDS)
        assert ready, (self.folder / "log").read_text()

    def end(self, number: signal.Signals) -> int:
        """Sends a signal; the exit code."""
        os.kill(self.pid, number)
        word, code = self._line().split()
        assert word == "ended"
        self.pid = 0
        return int(code)

    def close(self) -> None:
        if self.pid:
            self.end(signal.SIGKILL)
        assert self._parent.stdin is not None and self._parent.stdout is not None
        self._parent.stdin.close()
        self._parent.wait()
        self._parent.stdout.close()


class Trader(threading.Thread):
    """A member that sends without pause, through every restart, and keeps what it was told."""

    def __init__(self, folder: Path, account: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.account, self.random = account, random.Random(f"{seed} {account}")
        self.client = Client(folder, key=f"member-{account}", timeout=START_SECONDS)
        self.reports: list[Report] = []
        self.acknowledged: list[int] = []
        self.stopping = False
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stopping:
                self.acknowledged += self.step()
                self.reports += self.client.poll()
        except BaseException as error:
            self.failure = error

    def step(self) -> list[int]:
        """One call; the numbers of the requests that it was told the outcome of."""
        chance, client = self.random, self.client
        kind = chance.random()
        live = [o for o in list(client.by_request.values())[-60:] if o.open]
        if kind < 0.7 or not live:
            rows = [
                (
                    chance.choice(("buy", "sell")),
                    chance.choice(("CEA23", "CEA24")),
                    chance.randint(5_880, 6_060),
                    chance.randint(1, 20),
                )
                for _ in range(chance.randint(1, 30))
            ]
            return [o.request_no for o in client.send_batch(rows)]
        order = chance.choice(live)
        if kind < 0.82:
            return [client.cancel(order.order_id).request_no]
        if kind < 0.9:
            return [client.replace(order.order_id, order.price + chance.choice((-1, 0, 1)), 15).request_no]
        if kind < 0.96:
            try:
                document = f"{self.account}-{client.link.next_request}"
                return [client.execute(m.Withdraw(account=self.account, amount=1, document=document)).request_no]
            except Refusal:
                return []
        return [client.mass_cancel(chance.choice((None, "CEA23"))).request_no]


def journaled(folder: Path) -> dict[tuple[int, int], list[int]]:
    """(session, request_no) → sequences, of every command of a member in the journal."""
    found: dict[tuple[int, int], list[int]] = {}
    for group in sound_groups(RealDisk(folder / "journal")):
        c = group.commands
        for seq, session, number in zip(
            c["seq"].tolist(), c["session"].tolist(), c["request_no"].tolist(), strict=True
        ):
            if number:
                found.setdefault((session, number), []).append(seq)
    return found


def check_traders(traders: list[Trader], journal: dict[tuple[int, int], list[int]]) -> None:
    """What every client was told agrees with the journal, request by request and report by report."""
    twice = {k: v for k, v in journal.items() if len(v) != 1}
    assert not twice, f"executed twice: {twice}"
    for trader in traders:
        session = trader.client.link.session
        missing = [n for n in trader.acknowledged if (session, n) not in journal]
        assert not missing, f"session {session}: acknowledged and lost: {missing}"
        assert len(set(trader.acknowledged)) == len(trader.acknowledged)
        numbers = [r.no for r in trader.reports]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"session {session}: a gap in the reports"
        assert numbers[0] == 1
        assert not trader.client.link.pending
        used = sorted(n for s, n in journal if s == session)
        assert used == list(range(1, trader.client.link.next_request)), f"session {session}: requests"
        for report in trader.reports:
            event = report.event
            if event["session"] == session and event["ref"] and event["kind"] not in (FILL_MAKER, FILL_TAKER):
                assert journal[session, int(event["ref"])] == [int(event["seq"])], (
                    f"session {session}: report {report.no}"
                )


def same_again(folder: Path, trader: Trader) -> None:
    """Another life of the client gets the same reports, byte for byte."""
    trader.client.close()
    with Client(folder, key=f"member-{trader.account}", timeout=START_SECONDS) as again:
        again.sync()
        reports = again.poll()
    assert [(r.no, r.event.tobytes(), r.notice) for r in reports] == [
        (r.no, r.event.tobytes(), r.notice) for r in trader.reports
    ]


def wait_for_progress(traders: list[Trader]) -> None:
    """Until the clients have been told of some more requests: the kill then comes under load."""
    goal = sum(len(t.acknowledged) for t in traders) + ACKNOWLEDGED_BEFORE_KILL
    served = gm.wait_until(
        lambda: sum(len(t.acknowledged) for t in traders) >= goal or any(t.failure for t in traders), START_SECONDS
    )
    assert served, "nobody is served"
    assert not any(t.failure for t in traders), [t.failure for t in traders]


def kill_rounds(folder: Path, rounds: int, seed: int, lane: str, **gateway: int) -> Counter[str]:
    """Kills, restarts, checks. Returns what happened, counted. gateway: more of its configuration."""
    chance, count = random.Random(seed), Counter[str]()
    gm.make(folder, lane=lane, snapshot_commands=SNAPSHOT_COMMANDS, **gateway)
    exchange = Exchange(folder)
    traders: list[Trader] = []
    try:
        with OperatorClient(folder, timeout=START_SECONDS) as ops:
            gm.fund(ops)
            traders += [Trader(folder, account, seed) for account in range(1, MEMBERS + 1)]
            for trader in traders:
                trader.start()
            for number in range(rounds):
                wait_for_progress(traders)
                time.sleep(chance.uniform(0, 0.15))
                if number % CLEAN_STOP_EVERY == CLEAN_STOP_EVERY - 1:
                    assert exchange.end(signal.SIGTERM) == 0
                    count["clean stops"] += 1
                else:
                    assert exchange.end(signal.SIGKILL) == -signal.SIGKILL
                    count["kills"] += 1
                exchange.start()
            for trader in traders:
                trader.stopping = True
            for trader in traders:
                trader.join(START_SECONDS)
                assert not trader.is_alive() and trader.failure is None, trader.failure
            for trader in traders:  # the others' last orders have met this one's
                trader.client.sync()
                trader.reports += trader.client.poll()
            assert ops.status()["epoch"] == rounds + 1
            check_traders(traders, journaled(folder))
            for trader in traders:
                same_again(folder, trader)
            expected = ops.seal_hash()
        exchange.end(signal.SIGKILL)
        log, names = (folder / "log").read_text(), os.listdir(folder / "journal")
        assert "Traceback" not in log, log
        count["snapshots"] = log.count("snapshot of sequence")
        count["starts from a snapshot"] = sum("from the snapshot of 0," not in x for x in log.split("open: ")[1:])
        count["increments"] = sum(name.endswith(".increment") for name in names)
        report = verify(RealDisk(folder / "journal"), *machine_maker(folder))
        assert report.snapshots == sum(name.endswith(".snapshot") for name in names), "every snapshot verifies"
        assert [p for p in report.problems if not p.startswith("torn_tail")] == []
        assert report.state_hash.hex() == expected
        count["commands"] = report.commands
        count["acknowledged requests"] = sum(len(t.acknowledged) for t in traders)
        count["reports"] = sum(len(t.reports) for t in traders)
    finally:
        for trader in traders:
            trader.stopping = True
        exchange.close()
    return count


@pytest.mark.slow
@pytest.mark.parametrize(("lane", "gateway"), [("plain", {}), ("hot", {}), ("hot", {"overlap_from": 1})])
def test_an_exchange_killed_ten_times_under_load_keeps_its_word_to_every_client(
    tmp_path: Path, lane: str, gateway: dict[str, int]
) -> None:
    """The third commits every group of orders beside the loop, which otherwise only full batches do."""
    count = kill_rounds(tmp_path / "m", ROUNDS // 2, 1, lane, **gateway)
    print(lane, gateway, dict(count))
    assert count["kills"] + count["clean stops"] == ROUNDS // 2
    assert count["starts from a snapshot"] > ROUNDS // 5
    assert count["acknowledged requests"] > ROUNDS * ACKNOWLEDGED_BEFORE_KILL // 2


@pytest.mark.soak
def test_an_exchange_killed_a_thousand_times_under_load_keeps_its_word_to_every_client(tmp_path: Path) -> None:
    total = Counter[str]()
    for number in range(ROUNDS_SOAK // ROUNDS_A_JOURNAL):
        total += kill_rounds(tmp_path / f"m{number}", ROUNDS_A_JOURNAL, number, ("plain", "hot")[number % 2])
        print(number, dict(total), flush=True)
        shutil.rmtree(tmp_path / f"m{number}")


def test_a_request_that_stands_twice_in_the_journal_or_is_missing_there_is_noticed() -> None:
    """Planted: the checks of the kill rounds are able to fail."""
    trader = Trader.__new__(Trader)
    trader.acknowledged, trader.reports = [1, 2], [_report(1), _report(2)]
    trader.client = _Told(session=3, next_request=3)  # type: ignore[assignment]
    check_traders([trader], {(3, 1): [10], (3, 2): [11]})
    for journal in ({(3, 1): [10, 12], (3, 2): [11]}, {(3, 1): [10]}):
        with pytest.raises(AssertionError):
            check_traders([trader], journal)
    trader.reports = [_report(1), _report(3)]
    with pytest.raises(AssertionError, match="gap"):
        check_traders([trader], {(3, 1): [10], (3, 2): [11]})


class _Told:
    """A client's numbers, for the planted errors."""

    def __init__(self, session: int, next_request: int) -> None:
        self.link = self
        self.session, self.next_request, self.pending = session, next_request, {}


def _report(number: int) -> Report:
    from engine.records import EVENT

    return Report(number, np.zeros(1, EVENT)[0], None, False, 0, 0)


# Failing system calls


@pytest.fixture(scope="session")
def strace() -> str:
    path = shutil.which("strace")
    if path is None:
        pytest.skip("strace is not here")
    if subprocess.run([path, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")
    return path


class Faulty:
    """The exchange with faults under it: ``command`` goes before the interpreter, ``env`` is the process's."""

    def __init__(self, folder: Path, command: list[str], env: dict[str, str]) -> None:
        self.folder = folder
        with (folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, sys.executable, "-c", gm.SERVE, str(folder), "stepped"],
                env={**env, "PYTHONPATH": str(gm.ROOT)},
                stdout=log,
                stderr=log,
            )

    def ready(self, former: int = 0) -> bool:
        return gm.wait_until(
            lambda: (
                self.process.poll() is not None
                or ((e := cfg.read_endpoints(self.folder)) is not None and e.pid != former)
            ),
            240,
        )

    def terminate(self) -> int:
        """SIGTERM to the exchange itself; the exit code."""
        endpoints = cfg.read_endpoints(self.folder)
        assert endpoints is not None
        os.kill(endpoints.pid, signal.SIGTERM)
        return self.process.wait(gm.PATIENCE_S)

    def log(self) -> str:
        return (self.folder / "log").read_text()


def traced(strace: str, folder: Path, *injections: str) -> Faulty:
    """The exchange under strace, with faults injected into its journal's system calls."""
    journal = folder / "journal"
    names = [journal / f"{i:08d}.segment" for i in range(1, 6)] + [journal / "spare.tmp", journal / "snapshot.tmp"]
    paths = [a for name in (journal, *names) for a in ("-P", str(name))]
    calls = ",".join(dict.fromkeys(text.split(":")[0] for text in injections))
    options = [f"--inject={text}" for text in injections]
    command = [strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", *options, *paths]
    return Faulty(folder, command, dict(os.environ))


def ends_with_nothing_lost(folder: Path, faulty: Faulty, code: int) -> list[int]:
    """Trades until the fault ends the exchange, starts it again without; the requests that were told."""
    told: list[int] = []
    try:
        assert faulty.ready()
        while faulty.process.poll() is None:  # it has ended, or an answer only took long
            with contextlib.suppress(NoAnswer, UnknownOutcome):
                trade_until_it_ends(folder, faulty, told)
        assert faulty.process.wait(gm.PATIENCE_S) == code, faulty.log()
    finally:
        if faulty.process.poll() is None:
            faulty.process.kill()
    assert "Traceback" not in faulty.log(), faulty.log()
    came_back(folder, told)
    return told


def came_back(folder: Path, told: list[int]) -> None:
    """What was told is in the journal, nothing is there twice, and a start gives all reports again."""
    assert all(len(v) == 1 for v in journaled(folder).values())
    with gm.running(folder), Client(folder, key="member-1", timeout=START_SECONDS) as again:
        session = again.link.session
        kept = {number for s, number in journaled(folder) if s == session}
        assert set(told) <= kept, (told, kept)
        assert [r.no for r in again.poll(1.0)] == list(range(1, again.link.next_report))
    report = verify(RealDisk(folder / "journal"), *machine_maker(folder))
    assert [p for p in report.problems if not p.startswith("torn_tail")] == []


# Two orders commit in the loop, three hundred beside it (gateway.commit).
BATCHES = ([("buy", "CEA24", 5_900, 1)] * 2, [("buy", "CEA23", 5_900, 1)] * 300)


def trade_until_it_ends(
    folder: Path, faulty: Faulty, told: list[int], rounds: int = 1_000_000, patience_s: float = ENDED_S
) -> None:
    with OperatorClient(folder, timeout=patience_s) as ops, Client(folder, key="member-1", timeout=patience_s) as me:
        for message in gm.funding():
            with contextlib.suppress(Refusal):  # in a second try: it was done in the first
                ops.execute(message)
        ops.step_clock(gm.MORNING)
        for number in range(rounds):
            if faulty.process.poll() is not None:
                break
            told += [o.request_no for o in me.send_batch(BATCHES[number % 2])]


@pytest.mark.slow
@pytest.mark.parametrize("occurrence", [4, 40])
def test_an_error_of_the_disk_ends_the_exchange_with_its_own_code_and_loses_nothing_told(
    strace: str, tmp_path: Path, occurrence: int
) -> None:
    folder = tmp_path / "m"
    gm.make(folder)
    ends_with_nothing_lost(
        folder, traced(strace, folder, f"fdatasync:error=EIO:when={occurrence}"), EXIT_JOURNAL_FAILED
    )


@pytest.mark.slow
def test_an_exchange_killed_at_its_nth_sync_loses_nothing_told(strace: str, tmp_path: Path) -> None:
    for occurrence in (2, 40, 45):  # while it starts; while members trade, in commits in the loop and beside it
        folder = tmp_path / f"m{occurrence}"
        gm.make(folder)
        faulty = traced(strace, folder, f"fdatasync:signal=KILL:when={occurrence}")
        told = ends_with_nothing_lost(folder, faulty, -signal.SIGKILL)
        assert occurrence == 2 or told


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faulty_writes.build(tmp_path_factory.mktemp("library"))


@pytest.mark.slow
def test_an_exchange_killed_in_the_middle_of_a_write_loses_nothing_told(library: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    gm.make(folder)
    faulty = Faulty(folder, [], faulty_writes.preloading(library, "torn:5"))
    assert ends_with_nothing_lost(folder, faulty, -signal.SIGKILL)


@pytest.mark.slow
def test_a_disk_that_fills_in_the_middle_of_a_write_ends_the_exchange_with_its_own_code(
    library: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "m"
    gm.make(folder)
    faulty = Faulty(folder, [], faulty_writes.preloading(library, "full:5"))
    assert ends_with_nothing_lost(folder, faulty, EXIT_JOURNAL_FAILED)


@pytest.mark.slow
def test_an_exchange_finishes_short_and_interrupted_writes(library: Path, tmp_path: Path) -> None:
    folder, told = tmp_path / "m", []
    gm.make(folder)
    faulty = Faulty(folder, [], faulty_writes.preloading(library, "short"))
    try:
        assert faulty.ready() and faulty.process.poll() is None, faulty.log()
        trade_until_it_ends(folder, faulty, told, rounds=20, patience_s=gm.PATIENCE_S)
        assert len(told) == 20 * 151
        os.kill(faulty.process.pid, signal.SIGKILL)  # a clean stop would leave a snapshot: here the groups must do
        faulty.process.wait()
    finally:
        if faulty.process.poll() is None:
            faulty.process.kill()
    came_back(folder, told)


@pytest.mark.slow
def test_a_full_disk_makes_the_market_cancel_only_while_the_journal_still_has_room(strace: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    gm.make(folder)
    with gm.running(folder) as process, OperatorClient(folder) as ops, Client(folder, key="member-1") as me:
        gm.fund(ops)
        order = me.buy("CEA24", 5_900, 100)
        former = process.process.pid
        assert process.stop() == 0
    faulty = traced(strace, folder, "fallocate:error=ENOSPC:when=1+")  # the start uses the spare; no new one is made
    try:
        assert faulty.ready(former) and faulty.process.poll() is None, faulty.log()
        with OperatorClient(folder) as ops, Client(folder, key="member-1") as me:
            assert gm.wait_until(lambda: bool(ops.status()["cancel_only"]))
            assert me.buy("CEA24", 5_900, 100).code == Code.CANCEL_ONLY
            assert me.cancel(order.order_id).ok
            hash_before = ops.seal_hash()
        assert faulty.terminate() == 0, faulty.log()
    finally:
        if faulty.process.poll() is None:
            faulty.process.kill()
    assert "Traceback" not in faulty.log(), faulty.log()
    with gm.running(folder), OperatorClient(folder) as ops:
        assert ops.seal_hash() == hash_before, "room was made, and nothing was lost"
