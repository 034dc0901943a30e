"""Valid-but-nasty frames: no crash, no state change but by valid commands, bounded memory, a correct reject.

The frames, the judge and the coverage-guided search are in ``gateway_fuzzer.py``; here they run in small, against the
core as it is and against cores with planted bugs. Long runs: ``make soak``, their figures in docs/evidence/gateway.md.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
from collections.abc import Callable

import fuzz_frames as ff
import gateway_fuzzer as fuzzer
import gateway_market as gm
import numpy as np
import pytest
from gateway_fuzzer import CORE, Failure, Fuzzer
from session_world import World

from cea.replaying import machine_maker
from engine.codes import Code
from engine.journal import RealDisk
from engine.journal.inspection import verify
from engine.records import COMMAND
from gateway import hot, shared_stream
from gateway import protocol as p
from gateway.cards import Probe
from gateway.client import Client
from gateway.core import Core
from gateway.operator import OperatorClient

SOAK_SEEDS = range(1_000, 1_020)  # 500,000 frames each


def test_nasty_frames_change_nothing_but_by_valid_commands():
    fuzz = Fuzzer(1, modules=CORE)
    fuzz.run(1, 1_500)
    found = fuzz.result()
    assert found["commands"] > 300 and found["hashes"] > 1
    wanted = {"MALFORMED", "NOT_LOGGED_IN", "REQUEST_GAP", "REQUEST_MISMATCH", "RESERVED_FIELD", "ROLE_NOT_ALLOWED"}
    assert wanted <= set(found["answers"]), "the grammar makes them all"


class Trusting(Core):
    """Planted bug: a session number in the record is believed."""

    def _check(self, session, head):
        code = super()._check(session, head)
        return Code.OK if code == Code.RESERVED_FIELD and not head[0] and not head[1] and not head[7] else code


class Eager(Core):
    """Planted bug: a reject of the session layer consumes a number."""

    def _refuse(self, session, message):
        if message.code == Code.REQUEST_GAP:
            self.sessions[1].next_request += 1
        super()._refuse(session, message)


class Touchy(Core):
    """Planted bug: a question changes the state."""

    def _on_query(self, session, message):
        self.exchange.market.accounts[1]["available"] += 1
        super()._on_query(session, message)


class Hasty(Core):
    """Planted bug: an answer that the socket does not take is forgotten."""

    def _answer(self, session, frame):
        self.send(self._plane(session), session.route, frame)


@pytest.mark.slow
def test_a_planted_core_that_forgets_answers_is_found():
    with pytest.raises(Failure, match=r"lost|is owed"):
        Fuzzer(22, core_class=Hasty, modules=CORE).run(10, 1_000)


class Skipping(Core):
    """Planted bug: now and then an event does not come into shared memory."""

    def _share_stream(self, *, at_once):
        super()._share_stream(at_once=at_once)
        if self.shared is not None and self.shared.next_no % 8 == 0:
            self.shared.next_no += 1


@pytest.mark.skipif(not shared_stream.available(), reason="no shared memory here: the stream goes through the socket")
def test_a_planted_core_that_skips_an_event_in_shared_memory_is_found():
    with pytest.raises(Failure, match="in shared memory"):
        Fuzzer(6, core_class=Skipping, modules=CORE).run(4, 1_500)


@pytest.mark.parametrize("broken", [Trusting, pytest.param(Eager, marks=pytest.mark.slow), Touchy])
def test_planted_bugs_in_the_session_layer_are_found(broken):
    with pytest.raises(Failure):
        Fuzzer(2, core_class=broken, modules=CORE).run(1, 4_000)


class Generous(Core):
    """Planted bug: machine code is told that every role may send every kind."""

    def _refresh(self, session):
        super()._refresh(session)
        session.row["kinds"] = 0b111_1110


@pytest.mark.slow
def test_the_hot_lanes_machine_code_meets_the_same_judge():
    Fuzzer(4, hot=True).run(1, 10_000)
    with pytest.raises(Failure, match="rejects"):
        Fuzzer(4, hot=True, core_class=Generous, modules=CORE).run(1, 3_000)
    Fuzzer(4, core_class=Generous, modules=CORE).run(1, 3_000)  # the plain lane does not look there


class Brittle(Core):
    """Planted bug: a crash that needs two odd values in one record."""

    def _one(self, session, head, record):
        if head[4] >= 2**31 and head[3] >= 2**31:
            raise KeyError("planted")
        return super()._one(session, head, record)


@pytest.mark.slow
def test_the_guided_search_finds_a_crash_that_needs_two_odd_values_at_once():
    def search() -> None:
        for seed in range(3, 13):  # the first one finds it, as a rule
            Fuzzer(seed, core_class=Brittle, modules=CORE).run(5, 10_000)

    with pytest.raises(Failure, match="planted"):
        search()


def test_a_clock_beyond_what_a_record_can_bear_is_refused():
    """Found by the fuzzer: an operator's step_clock to 2**64 - 1 ended the exchange at its next command."""
    world = World(random.Random(1))
    ops = world.client("ops1")
    for time_ns in (2**64 - 1, 2**63):
        frame = ff.Frame(body={"t": "step_clock", "token": 0, "id": 1, "time_ns": time_ns})
        before = world.core.counters.malformed
        world.core.receive("operators", ops.link.socket.route, ops.link.socket.key, frame.render(ops.link.token, 1))
        assert world.core.counters.malformed == before + 1 and not world.core.batch.count
    world.client("member-1").buy("CEA24", 5_900, 1)


def test_machine_code_takes_exactly_what_the_plain_checks_take():
    chance = random.Random(5)
    world = World(chance)
    world.client("member-1")
    session = world.core.sessions[1]
    row, batch = world.core.hot[1:2], np.zeros(64, COMMAND)
    taken = 0
    for _ in range(2_000):
        frame = ff.Frame(rows=[ff.row(chance)])
        if chance.random() < 0.7:
            ff.mutate_rows(chance, frame, frame)
        data = frame.render(session.token, session.next_request)[:64]
        record = np.frombuffer(data, COMMAND)
        head = ff.RECORD.unpack(data)
        world.core.mono_ns += 10**6
        kind_allowed = 1 <= head[ff.KIND] <= 6  # kind 0 and kinds beyond 7 are Python's to refuse or to pass on
        plain = world.core._check(session, head) == Code.OK and head[ff.REQUEST] == session.next_request
        hot_row = row.copy()
        got = hot._take(hot_row[0], record.ctypes.data, 1, batch.ctypes.data, 0, 1, world.core.mono_ns)
        assert bool(got) == (plain and kind_allowed), record
        if got:
            taken += 1
            assert int(hot_row[0]["next_request"]) == session.next_request + 1
            kept = batch[0].copy()
            assert kept["token"] == 0 and kept["account"] == 1 and kept["session"] == 1
            for name in ("price", "quantity", "order_id", "request_no", "instrument", "kind", "side", "flags"):
                assert kept[name] == record[0][name]
    assert taken > 500


@pytest.mark.slow
def test_forty_thousand_nasty_frames():
    Fuzzer(100).run(2, 20_000)


@pytest.mark.soak
@pytest.mark.parametrize("seed", SOAK_SEEDS)
def test_ten_million_nasty_frames(seed):
    fuzz = Fuzzer(seed, hot=bool(seed % 2))  # the plain lane and the hot one in turn
    fuzz.run(25, 20_000)
    print(json.dumps(fuzz.result()))
    assert fuzz.result()["resident_mb"] < fuzzer.RESIDENT_MB_MAX


def log_in(probe: Probe) -> p.LoginAccepted:
    """Logs in; again where a frame that was too large has broken the connection, and the login with it."""
    for turn in range(1, int(gm.PATIENCE_S)):
        if turn % 3 == 0:  # libzmq takes no connection of a name whose last one it has not seen go: a new socket
            probe.socket.close(0)
            probe.socket = probe.link._dealer(probe.link._target(), immediate=False)
        probe.send(p.Login(version=p.PROTOCOL_VERSION, resume="quick", heartbeat_ms=60_000))
        found = next((a for a in probe.frames(1.0) if isinstance(a, p.LoginAccepted)), None)
        if found is not None:
            return found
    raise AssertionError("no login")


def over_sockets(folder, seed: int, frames: int, enough: Callable[[dict[str, int]], bool]) -> dict[str, int]:
    """Nasty frames over CURVE connections of three members; the journal and its replay judge afterwards.

    At least so many, and on until it is enough: how many are taken depends on how far the exchange is behind.
    """
    chance = random.Random(seed)
    count = {"frames": 0, "answers": 0, "logins": 0}
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(Probe(folder, f"member-{i}")) for i in (1, 2, 3)]
        following = dict.fromkeys(range(3), 1)
        for i in itertools.count():
            if i >= frames and i % 500 == 0 and (enough(count) or i >= 10 * frames):
                break
            who = chance.randrange(3)
            probe = probes[who]
            if probe.accepted is None or i % 100 == 0:  # logged out for what it sent, perhaps: log in again
                probe.accepted = log_in(probe)
                following[who] = probe.accepted.next_request
                count["logins"] += 1
            frame = ff.fresh(chance, ff.MEMBERS_OWN)
            if chance.random() < 0.5:
                frame = ff.mutated(chance, frame, ff.fresh(chance, ff.MEMBERS_OWN))
            data = frame.render(probe.token, following[who])
            if len(data) > p.FRAME_BYTES_MAX and chance.random() < 0.9:
                continue  # each of these costs a new connection
            probe.socket.send_multipart([data] * min(frame.parts, 50))
            clean = frame.parts == 1 and not frame.cut and not frame.edits
            following[who] += (
                len(frame.rows) if clean and frame.rows and not any(r[ff.TOKEN] for r in frame.rows) else 0
            )
            count["frames"] += 1
            while probe.socket.poll(0):
                answer = probe.socket.recv()
                count["answers"] += 1
                if p.is_map(answer[0]):  # a reject says what it expected
                    following[who] = getattr(p.decode_from_exchange(answer), "expected", 0) or following[who]
    return count


@pytest.mark.slow
def test_nasty_frames_over_sockets_leave_what_the_journal_says(tmp_path):
    folder = tmp_path / "m"
    gm.make(folder, lane="hot", malformed_before_logout=1_000)
    with gm.running(folder) as process, OperatorClient(folder, timeout=60) as ops:
        gm.fund(ops)

        def enough(count: dict[str, int]) -> bool:
            status = ops.status()
            return status["counters"]["malformed"] > 200 and count["answers"] > 1_000 and status["seq"] > first + 300

        first = ops.status()["seq"]
        count = over_sockets(folder, 7, 5_000, enough)
        for i in (1, 2, 3):  # a login takes back what would cancel its orders later, and so change the hash
            with Client(folder, key=f"member-{i}") as one:
                one.sync()
        with Client(folder, key="member-4") as other:
            assert other.buy("CEA24", "58.00", 1).accepted, "the others trade on"
        status, expected = ops.status(), ops.seal_hash()
        assert status["counters"]["malformed"] > 200 and count["answers"] > 1_000
        assert process.stop() == 0
        assert "Traceback" not in (folder / "log").read_text()
    report = verify(RealDisk(folder / "journal"), *machine_maker(folder))
    assert not report.problems and report.state_hash.hex() == expected
    assert report.commands > 300
    print(count, report.commands)
