"""The feed's relay: sessions without sockets, and a reader of a relay sees what a reader of the exchange sees."""

from __future__ import annotations

import contextlib
import threading
import time

import gateway_market as gm
import msgspec
import pytest

from engine.codes import Code
from gateway import keys as keyfile
from gateway import protocol as p
from gateway import relay as module
from gateway.client import Client, GatewayError
from gateway.connection import Connection
from gateway.market_data import BookSnapshot, MarketDataClient, Statistics
from gateway.operator import OperatorClient
from gateway.relay import Relay, RelaySessions

UPSTREAM = p.LoginAccepted(
    version=p.PROTOCOL_VERSION, session=9, account=3, role="market_data", token=77, epoch=4, first_report=5,
    next_report=8, next_request=6, heartbeat_ms=5_000, heartbeats_lost=3, cancel_on_disconnect_ms=-1,
    orders_per_second=1, frame_records_max=1, payload_bytes_max=1, phase="morning", date=gm.DATE, time_ns=gm.DAY,
    instruments=(p.Instrument(0, "CEA24", 5_991, 5_392, 6_590),),
)  # fmt: skip
SNAPSHOT = BookSnapshot(
    code="CEA24", epoch=4, seq=12, time_ns=gm.DAY, bids=((5_990, 10, 1),), asks=(), statistics=Statistics(*[0] * 10)
)
KEYS = keyfile.KeyTable(
    [
        keyfile.Key(name, letter * 40, n, role)
        for n, (name, letter, role) in enumerate(
            (("a", "a", "market_data"), ("b", "b", "market_data"), ("op", "o", "operator")), 1
        )
    ]
)


class World:
    """Sessions of a relay, with a clock that stands and a book that may be incomplete."""

    def __init__(self) -> None:
        self.now, self.book, self.keys = 10**12, SNAPSHOT, KEYS
        self.sessions = RelaySessions(lambda: self.keys, lambda code: self.book, lambda: self.now)
        self.sessions.upstream, self.sessions.codes = UPSTREAM, frozenset({"CEA24"})

    def send(self, who: str, message: p.Control | bytes, route: bytes = b"") -> list:
        frame = message if isinstance(message, bytes) else p.encode(message)
        return self.said(self.sessions.take(route or who.encode(), who * 40, frame))

    @staticmethod
    def said(replies: list) -> list:
        return [p.decode_from_exchange(frame) for _, frame in replies]

    def login(self, who: str, route: bytes = b"") -> int:
        accepted = self.send(who, p.Login(version=p.PROTOCOL_VERSION), route)[-2]
        assert isinstance(accepted, p.LoginAccepted), accepted
        return accepted.token


def test_a_reader_logs_in_with_its_own_session_and_the_exchanges_epoch():
    world = World()
    accepted, done = world.send("a", p.Login(version=p.PROTOCOL_VERSION))
    assert (accepted.epoch, accepted.session, accepted.next_report, accepted.instruments) == (
        4, 1, 1, UPSTREAM.instruments,
    )  # fmt: skip
    assert accepted.token != UPSTREAM.token and isinstance(done, p.ResyncDone)


@pytest.mark.parametrize(
    ("who", "message", "code"),
    [
        ("x", p.Login(version=p.PROTOCOL_VERSION), Code.NOT_AUTHORISED),
        ("o", p.Login(version=p.PROTOCOL_VERSION), Code.ROLE_NOT_ALLOWED),
        ("a", p.Login(version=99), Code.WRONG_VERSION),
        ("a", p.Query(token=1, id=1, what="snapshot"), Code.NOT_LOGGED_IN),
        ("a", bytes(64), Code.ROLE_NOT_ALLOWED),
        ("a", b"\x81\xff", Code.MALFORMED),
        ("a", b"", Code.ROLE_NOT_ALLOWED),
    ],
)
def test_what_a_relay_does_not_do_is_refused_with_its_code(who, message, code):
    (reply,) = World().send(who, message)
    assert reply.code == code


def test_a_token_works_only_with_its_own_key_and_connection():
    world = World()
    token = world.login("a")
    query = p.Query(token=token, id=1, what="snapshot", args={"code": "CEA24"})
    assert world.send("a", query)[0].data["seq"] == 12
    assert world.send("b", query)[0].code == Code.NOT_LOGGED_IN
    assert world.send("a", query, b"other")[0].code == Code.NOT_LOGGED_IN
    assert world.send("a", p.Kill(token=token))[0].code == Code.ROLE_NOT_ALLOWED


def test_a_snapshot_waits_for_a_book_that_is_repaired_and_is_given_up_after_its_time():
    world = World()
    token = world.login("a")
    world.book = None
    query = p.Query(token=token, id=5, what="snapshot", args={"code": "CEA24"})
    assert world.send("a", query) == [] and world.said(world.sessions.tick()) == []
    world.book = SNAPSHOT
    (answer,) = world.said(world.sessions.tick())
    assert answer.id == 5 and msgspec.convert(answer.data, BookSnapshot) == SNAPSHOT
    world.book = None
    world.send("a", query)
    world.now += module.WAIT_NS + 1
    world.sessions.tick()
    assert not world.sessions.waiting


def test_questions_are_bounded_by_the_second_and_unknown_ones_refused():
    world = World()
    token = world.login("a")

    def ask(what: str, **args: object) -> int:
        return world.send("a", p.Query(token=token, id=1, what=what, args=args))[0].code

    assert ask("balances") == ask("snapshot", code="CEA24", full=True) == Code.ROLE_NOT_ALLOWED
    assert ask("snapshot", code="NO") == ask("snapshot", code=[1]) == Code.UNKNOWN_INSTRUMENT
    codes = [ask("snapshot", code="CEA24") for _ in range(module.QUERIES_PER_S)]
    assert codes[-1] == Code.THROTTLED and codes[0] == Code.OK
    world.now += 10**9
    assert ask("time") == Code.OK


def test_silence_revocation_and_a_second_login_end_a_session():
    world = World()
    first = world.login("a")
    assert world.send("a", p.Login(version=p.PROTOCOL_VERSION), b"new")[0].code == Code.SESSION_IN_USE
    assert first not in world.sessions.readers and len(world.sessions.readers) == 1
    world.login("b")
    world.keys = keyfile.KeyTable(KEYS.keys[:1])
    assert [m.code for m in world.said(world.sessions.tick())] == [Code.NOT_AUTHORISED]
    world.now += 5_000 * 10**6
    assert [type(m) for m in world.said(world.sessions.tick())] == [p.Heartbeat]
    world.now += 10_001 * 10**6
    world.sessions.tick()
    assert not world.sessions.readers and not world.sessions.by_key


@contextlib.contextmanager
def relaying(tmp_path, source, key):
    """A relay in a thread of this process."""
    folder = tmp_path / "relay"
    module.prepare(folder)
    relay = Relay(folder, source, str(key))
    relay.open()
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        yield relay, folder
    finally:
        relay.stopping = True
        thread.join()
        relay.close()


def same_books(one: MarketDataClient, other: MarketDataClient) -> bool:
    one.poll(0.02)
    other.poll(0.02)
    return all(
        one.books[c].live and other.books[c].live and one.books[c].seq == other.books[c].seq
        and one.books[c].levels() == other.books[c].levels() and one.books[c].statistics == other.books[c].statistics
        for c in one.codes
    )  # fmt: skip


@pytest.mark.slow
def test_a_reader_of_a_relay_sees_what_a_reader_of_the_exchange_sees_also_over_a_kill(tmp_path):
    market = tmp_path / "m"
    gm.make(market)
    with gm.running(market) as process:
        with OperatorClient(market, key=str(market / "keys" / "ops1.key")) as ops:
            gm.fund(ops)
        with (
            relaying(tmp_path, market, market / "keys" / "relay.key") as (relay, folder),
            Client(market, key=str(market / "keys" / "member-1.key")) as one,
            Client(market, key=str(market / "keys" / "member-2.key")) as two,
            MarketDataClient(market, key=str(market / "keys" / "public.key")) as direct,
            MarketDataClient(folder, key=str(folder / "keys" / "public.key")) as reader,
        ):
            for feed in (direct, reader):
                assert gm.wait_until(lambda f=feed: bool(f.poll(0.05))), "it is subscribed"
            for n in range(30):
                one.buy("CEA24", 5_900 + n, 10 + n)
                if n % 3 == 0:
                    two.sell("CEA24", 5_900 + n, 5)
            assert gm.wait_until(lambda: same_books(direct, reader) and reader.books["CEA24"].statistics.deals == 10)
            assert reader.books["CEA24"].gaps == 0
            assert gm.wait_until(lambda: relay.frames > 5), "a status each second at least"
            # somebody whom only the exchange knows is refused here
            with pytest.raises(GatewayError):
                Connection(folder, str(market / "keys" / "public.key"), timeout=1.0).open()
            late_key = module.add_reader(folder, "late")
            with MarketDataClient(folder, key=str(late_key), screens=False) as late:
                assert gm.wait_until(lambda: same_books(direct, late))
                assert direct.composite is not None and late.composite is not None
                assert late.composite.last == direct.composite.last > 0, "nothing has been published since it came"
            process.kill()
            process.start()
            process.ready()
            one.sell("CEA23", 6_000, 7)
            one.buy("CEA24", 5_950, 11)
            assert gm.wait_until(
                lambda: same_books(direct, reader) and reader.books["CEA24"].bids.get(5_950) == (11, 1)
            )
            assert relay.status()["connects"] >= 1


def test_a_relay_without_encryption_serves_only_this_machine(tmp_path):
    with pytest.raises(module.cfg.ConfigError, match="loopback"):
        Relay(tmp_path, tmp_path, "k", host="0.0.0.0", curve=False)


def test_a_reader_that_comes_before_the_exchange_answers_waits(tmp_path):
    world = World()
    world.sessions.upstream = None
    assert world.send("a", p.Login(version=p.PROTOCOL_VERSION)) == []
    world.sessions.upstream = UPSTREAM
    assert world.login("a") and time.monotonic()
