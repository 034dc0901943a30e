"""Market data over real sockets: a stalled reader, losses, reconnects, and a journal's disk that is nearly full."""

from __future__ import annotations

import os
import random
import socket
import threading
import time

import gateway_market as gm
import pytest
import zmq
from patience import PATIENCE_MS

import gateway.server
from engine.codes import Code
from gateway import keys, zap
from gateway import market_data as md
from gateway.client import Client
from gateway.operator import OperatorClient
from gateway.server import Server

# What the feed's connections hold here: a reader that stalls is behind after a second, not after minutes.
BUFFER_BYTES, SEND_FRAMES = 4_096, 16
# What a connection holds beside our own buffers is the system's affair: one trades until the server has met a full one.
STALL_ROUNDS = 60
LOSS_ROUNDS = 40  # of trading beside a reader that loses; more where the system was slow to connect it anew
LOSS_ROUNDS_MAX = 1_000


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server in a thread of this process whose sockets buffer little."""
    server = Server(gm.make(tmp_path_factory.mktemp("feed") / "m", lane="hot"), "stepped")
    server.context.sndbuf = BUFFER_BYTES  # of all sockets that it makes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gateway.server, "SEND_FRAMES_MAX", SEND_FRAMES)
        server.open()
    thread = threading.Thread(target=server.run)
    thread.start()
    with OperatorClient(server.market.folder) as ops:
        gm.fund(ops)
    yield server
    server.stopping = True
    thread.join()
    server.close()


class SmallReader(md.MarketDataClient):
    """A market-data client whose connection holds few frames."""

    def _connect(self) -> zmq.Socket:
        context = self.link.context
        context.rcvbuf, context.rcvhwm = BUFFER_BYTES, 1
        try:
            return super()._connect()
        finally:
            del context.rcvbuf, context.rcvhwm


def trade(me: Client, other: Client, rounds: int, chance: random.Random, reader: md.MarketDataClient | None) -> None:
    """Orders that move the book and deal, each answered before the next, while a reader reads."""
    for i in range(rounds):
        if reader is not None and i % 4 == 0:
            reader.poll()
        price = 5_900 + chance.randrange(40)
        who, side = (me, "buy") if chance.random() < 0.5 else (other, "sell")
        who.order(side, "CEA24", price, 1 + chance.randrange(9))


def same_as_the_engines(reader: md.MarketDataClient, folder) -> None:
    """After the last message the reader's book is the engine's."""
    with OperatorClient(folder) as ops:
        book = ops.book("CEA24")
    engines = tuple(tuple(tuple(level) for level in book[side][: None if reader.full else 5]) for side in book)

    def arrived() -> bool:
        reader.poll(0.05)
        return reader.books["CEA24"].live and reader.books["CEA24"].levels() == engines

    assert gm.wait_until(arrived), "the reader never came to the engine's book"


@pytest.mark.slow
def test_a_stalled_subscriber_costs_the_others_nothing_and_learns_of_its_gap(served):
    """The exchange waits for it nowhere: every order is answered while it reads nothing, and all others read all."""
    folder = served.market.folder
    chance = random.Random(1)
    with (
        Client(folder, key="member-1") as me,
        Client(folder, key="member-2") as other,
        md.MarketDataClient(folder, codes=["CEA24"]) as good,
    ):
        counters = served.core.counters
        with SmallReader(folder, key="drop", codes=["CEA24"]) as stalled:
            assert gm.wait_until(lambda: stalled.poll(0.05) is not None and stalled.books["CEA24"].live)
            assert gm.wait_until(lambda: bool(good.poll(0.05))), "a status each second: it is subscribed"
            overruns, rounds = counters.feed_overruns, 0
            while counters.feed_overruns == overruns and rounds < STALL_ROUNDS:
                trade(me, other, 400, chance, good)
                rounds += 1
            assert counters.feed_overruns > overruns, "the connection held all that was published"
            trade(me, other, 400, chance, good)  # and what follows the message that was dropped
            assert stalled.books["CEA24"].gaps == 0, "it has read nothing yet"
            same_as_the_engines(good, folder)
            assert good.books["CEA24"].gaps == 0, "the reader beside it lost nothing"
            same_as_the_engines(stalled, folder)
            assert stalled.books["CEA24"].gaps >= 1, "messages were dropped, and it knows"
        me.mass_cancel()
        other.mass_cancel()


class LossyReader(md.MarketDataClient):
    """A reader that loses messages on the way, and its connection."""

    def __init__(self, *args, chance: random.Random, **more) -> None:
        self.chance, self.lost, self.cuts = chance, 0, 0
        super().__init__(*args, **more)

    def take(self, message: md.FeedMessage) -> None:
        if self.chance.random() < 0.2:
            self.lost += 1
        else:
            super().take(message)

    def cut(self) -> None:
        """The connection breaks; what is published until the next one stands is gone."""
        self.cuts += 1
        self.socket.close(0)
        self.socket = self._connect()


@pytest.mark.slow
@pytest.mark.parametrize(("key", "full"), [("public", False), ("monitor", True)])
def test_random_losses_and_reconnects_end_with_the_engines_book(served, key, full):
    folder = served.market.folder
    chance = random.Random(2)
    with (
        Client(folder, key="member-1") as me,
        Client(folder, key="member-2") as other,
        LossyReader(folder, key=key, codes=["CEA24"], full=full, chance=chance) as reader,
    ):
        book = reader.books["CEA24"]

        def enough() -> bool:
            return reader.lost > 5 and reader.cuts > 2 and book.gaps > 3 and book.resyncs > book.gaps

        rounds = 0
        while rounds < LOSS_ROUNDS or (not enough() and rounds < LOSS_ROUNDS_MAX):
            rounds += 1
            trade(me, other, 12, chance, None)
            if chance.random() < 0.2:
                reader.cut()
            if chance.random() < 0.1:
                me.mass_cancel()
            reader.poll(0.02)
        reader.chance = random.Random(0)
        reader.chance.random = lambda: 1.0  # type: ignore[method-assign]  # the channel has healed
        same_as_the_engines(reader, folder)
        assert enough()
        me.mass_cancel()
        other.mass_cancel()


def subscriber(folder, key: str, address: str) -> zmq.Socket:
    """A bare reader of a feed, with a member's or an operator's key."""
    secret = keys.read_secret(folder / "keys" / f"{key}.key")
    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.linger = 0
    socket.curve_serverkey = secret.server_public.encode()
    socket.curve_publickey, socket.curve_secretkey = secret.public.encode(), secret.secret.encode()
    socket.subscribe("S")  # the status, every second
    socket.connect(address)
    return socket


@pytest.mark.slow
def test_a_reader_follows_an_exchange_that_comes_back_on_another_port(tmp_path):
    folder = tmp_path / "m"
    gm.make(folder)
    with (
        gm.running(folder) as process,
        md.MarketDataClient(folder, codes=["CEA24"]) as reader,
        socket.socket() as taker,
    ):
        with OperatorClient(folder) as ops:
            gm.fund(ops)
        assert gm.wait_until(lambda: bool(reader.poll(0.05)))
        before = reader.socket.last_endpoint.decode()
        process.kill()
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind(("127.0.0.1", int(before.rsplit(":", 1)[1])))
        taker.listen()
        process.start()
        process.ready()
        with Client(folder, key="member-1") as me:
            me.buy("CEA24", "58.77", 3)
            assert gm.wait_until(lambda: reader.poll(0.05) and reader.socket.last_endpoint.decode() != before)
            frames = reader.books["CEA24"].seq
            me.buy("CEA24", "58.78", 3)
            assert gm.wait_until(lambda: reader.poll(0.05) and reader.books["CEA24"].seq > frames), "published there"
            assert reader.books["CEA24"].levels()[0][:2] == ((5_878, 3, 1), (5_877, 3, 1))


@pytest.mark.slow
def test_a_revoked_market_data_key_is_cut_off_and_full_depth_is_for_operators(served):
    """D10: a PUB socket cannot check each message, so the feed is bound anew when a key goes."""
    folder, table = served.market.folder, keys.load(served.market.folder / "keys")
    revoked = subscriber(folder, "public", served.endpoints.feed)
    stays = subscriber(folder, "drop", served.endpoints.feed)
    peeping = subscriber(folder, "drop", served.endpoints.operator_feed)
    operator = subscriber(folder, "monitor", served.endpoints.operator_feed)
    bound = served.sockets[zap.FEED]
    try:
        assert all(socket.poll(PATIENCE_MS) for socket in (revoked, stays, operator)), "all who may read do"
        assert not peeping.poll(0), "a member's key gets nothing of the operators' feed"
        keys.save(folder / "keys", keys.KeyTable(k for k in table.keys if k.name != "public"))
        assert gm.wait_until(lambda: served.sockets.get(zap.FEED) not in (None, bound)), "the feed is bound anew"
        while stays.poll(50):
            stays.recv_multipart()
        assert stays.poll(PATIENCE_MS), "the others connect anew by themselves"
        while revoked.poll(50):  # what was on its way before
            revoked.recv_multipart()
        assert not revoked.poll(1_500), "more than a status later nothing has come"
    finally:
        keys.save(folder / "keys", table)
        for socket in (revoked, stays, peeping, operator):
            socket.close()
    assert gm.wait_until(lambda: "public" in {k.name for k in served.core.keys.keys})


@pytest.mark.slow
def test_a_nearly_full_disk_leaves_cancels_only_until_an_operator_ends_it(served):
    from engine import messages as m

    folder = served.market.folder
    disk = served.journal._disk
    real = disk.free_bytes
    with Client(folder, key="member-3") as me, OperatorClient(folder) as ops:
        order = me.buy("CEA23", "56.00", 10)
        disk.free_bytes = lambda: 0
        try:
            assert gm.wait_until(lambda: bool(served.core.exchange.market.market[0]["cancel_only"]))
            refused = me.buy("CEA23", "56.00", 1)
            assert (refused.status, refused.code) == ("rejected", Code.CANCEL_ONLY)
            assert me.reduce(order.order_id, 4).ok and me.cancel(order.order_id).ok, "risk can be taken down"
            assert any("nearly full" in text for text in ops.status()["alarms"])
        finally:
            disk.free_bytes = real
        time.sleep(1.2)  # a housekeeping later there is room again, and still nobody but an operator ends it
        assert me.buy("CEA23", "56.00", 1).code == Code.CANCEL_ONLY
        ops.execute(m.CancelOnly(on=False, why="room was made"))
        assert me.buy("CEA23", "56.00", 1).accepted
        me.mass_cancel()


def test_a_keys_name_wins_over_what_lies_in_the_working_folder(tmp_path, monkeypatch):
    folder = gm.make(tmp_path / "m").folder
    monkeypatch.chdir(tmp_path)
    os.mkdir("settlement")  # as the repository's own folder of that name
    (tmp_path / "member-1").write_text("somebody's notes")
    for name in ("settlement", "member-1"):
        assert Client(folder, key=name, connect=False).link.secret.name == name
    loose = folder / "keys" / "member-2.key"
    assert Client(folder, key=str(loose), connect=False).link.secret.name == "member-2"
    with pytest.raises(keys.KeyFileError, match=r"keys/nobody\.key"):
        Client(folder, key="nobody", connect=False)
    with pytest.raises(keys.KeyFileError, match="folder"):
        Client("tcp://127.0.0.1:1", key="settlement", connect=False)
