"""Market data: whatever is lost on the way, a reader's book ends equal to the engine's, and it knew of each gap."""

from __future__ import annotations

import random

import msgspec
from session_world import World

from gateway import market_data as md


def reader_and_engine(seed: int, loss: float, *, full: bool, orders: int = 300, check_every: int = 7):
    """Random orders; a reader whose messages are lost at random. Returns (builder, publisher, messages lost)."""
    chance = random.Random(seed)
    world = World(chance)
    feed: list[bytes] = []
    wanted = b"O.CEA24" if full else b"F.CEA24"

    def publish(topic: bytes, frame: bytes, operators: bool) -> None:
        if topic == wanted or (topic == b"S" and operators == full):
            feed.append(frame)

    publisher = md.Publisher(world.core.exchange, publish, epoch=1, checksum_every=check_every)
    world.core.publisher = publisher
    members = [world.client(f"member-{i}") for i in (1, 2, 3)]
    builder = md.BookBuilder("CEA24")
    lost = 0
    needs = True
    for step in range(orders):
        who = chance.choice(members)
        if chance.random() < 0.2 and who.orders(only_open=True):
            who.cancel(chance.choice(who.orders(only_open=True)).order_id)
        else:
            side = chance.choice(["buy", "sell"])
            who.order(side, "CEA24", 5900 + chance.randrange(30), 1 + chance.randrange(50))
        publisher.tick(step * 10**8, 0, 100)
        for frame in feed:
            if chance.random() < loss:
                lost += 1
                continue
            message = md.decode(frame)
            needs |= builder.status(message) if isinstance(message, md.FeedStatus) else builder.feed(message)
        feed.clear()
        if needs and chance.random() < 0.5:  # the snapshot takes its time
            snapshot = msgspec.convert(msgspec.to_builtins(publisher.snapshot("CEA24", 0, full=full)), md.BookSnapshot)
            needs = builder.take_snapshot(snapshot)
    publisher.tick(10**15, 0, 100)
    for frame in feed:
        message = md.decode(frame)
        needs |= builder.status(message) if isinstance(message, md.FeedStatus) else builder.feed(message)
    if needs:
        builder.take_snapshot(publisher.snapshot("CEA24", 0, full=full))
    return builder, publisher, lost


def test_without_losses_a_reader_never_begins_again_and_its_checksums_hold():
    for full in (False, True):
        builder, publisher, _ = reader_and_engine(1, 0.0, full=full)
        snapshot = publisher.snapshot("CEA24", 0, full=full)
        assert builder.levels() == (snapshot.bids, snapshot.asks)
        assert builder.gaps == 0 and builder.resyncs == 1 and (full or builder.checksums > 5)
        assert len(builder.trades) > 20


def test_with_losses_a_reader_notices_and_ends_with_the_engines_book():
    for seed in range(4):
        builder, publisher, lost = reader_and_engine(seed, 0.15, full=seed % 2 == 1)
        snapshot = publisher.snapshot("CEA24", 0, full=seed % 2 == 1)
        assert lost > 10 and builder.gaps > 0
        assert builder.levels() == (snapshot.bids, snapshot.asks) and builder.seq == snapshot.seq


def test_a_planted_wrong_level_is_caught_by_the_checksum():
    levels = ((5900, 10, 1), (5899, 5, 2))
    builder = md.BookBuilder("CEA24")
    statistics = md.Statistics(*[0] * 10)
    builder.take_snapshot(
        md.BookSnapshot(code="CEA24", epoch=1, seq=1, time_ns=0, bids=levels, asks=(), statistics=statistics)
    )
    builder.bids[5899] = (6, 2)  # the planted error
    update = md.BookUpdate(code="CEA24", epoch=1, seq=2, time_ns=0, bids=(), asks=(), checksum=md.checksum(levels, ()))
    assert builder.feed(update) and not builder.live


def test_the_public_feed_shows_five_levels_and_no_bulk_quotes():
    builder, publisher, _ = reader_and_engine(3, 0.0, full=False)
    bids, asks = builder.levels()
    assert len(bids) <= 5 and len(asks) <= 5 and max(len(bids), len(asks)) == 5
    everything = publisher.snapshot("CEA24", 0, full=True)
    assert bids == everything.bids[:5] and asks == everything.asks[:5]


def composite(epoch: int, seq: int, last: int) -> md.Composite:
    return md.Composite(epoch=epoch, seq=seq, time_ns=0, open=1, high=2, low=1, last=last, close=0, previous=1)


def test_a_snapshot_tells_the_composite_and_an_older_message_behind_it_does_not_undo_that():
    _, publisher, _ = reader_and_engine(3, 0.0, full=False)
    told = publisher.snapshot("CEA24", 5).composite
    m = publisher.exchange.market.market[0]
    assert told is not None and told.last == m["composite_last"] > 0 and told.seq == publisher.market_seq
    reader = md.MarketDataClient.__new__(md.MarketDataClient)  # without a connection
    reader.composite = None
    for message, last in (((1, 5, 60), 60), ((1, 4, 59), 60), ((1, 6, 61), 61), ((2, 1, 62), 62), ((1, 9, 63), 62)):
        reader._take_composite(composite(*message))
        assert reader.composite.last == last
