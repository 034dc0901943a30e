"""Market data: what is published, how a reader builds a book from it, and a client that does.

Public feed, one PUB socket; topics ``F.<code>`` (every change of the best five levels, every deal, the day's
statistics), ``C.<code>`` (the same for screens, at most 10 times a second, each message complete), ``M``
(composite, phases, notices, the day's bulletin), ``S`` (every second: the last sequence of every feed, so that a
reader learns of a gap in silence too). The operators' feed has ``O.<code>`` with all levels (D10).

A PUB socket drops silently for a slow reader. So every feed is numbered, and a reader builds its book in five
steps: (1) subscribe; (2) keep what arrives; (3) ask for a snapshot, which names its sequence; (4) drop what is
not newer than the snapshot, apply the rest in order; (5) at a gap, another epoch or a wrong checksum begin
again. :class:`BookBuilder` is those steps without I/O; :class:`MarketDataClient` runs them over sockets.

Bulk quotes are not in the live display (R9.4).
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Union

import msgspec
import numpy as np
import zmq

from engine.records import BUY, EVENT, NOTICE, SELL
from gateway import config as cfg
from gateway import feed_kernel
from gateway.connection import Connection
from gateway.protocol import LoginAccepted
from gateway.session import NS_PER_MS

if TYPE_CHECKING:
    from engine.exchange import Exchange

LEVELS_PUBLISHED: Final = 5  # R8.6
DEALS_AT_START: Final = 1 << 12  # deals between two publications; grows where there are more
COMPOSITE: Final = ("open", "high", "low", "last", "close", "previous")  # its figures, in the order of the market's
STATUS_NS: Final = 1_000 * NS_PER_MS

Levels = tuple[tuple[int, int, int], ...]  # price (fen), quantity (t), number of orders; quantity 0 takes it away
Publish = Callable[[bytes, bytes, bool], None]  # topic, frame, True for the operators' feed


class Trade(msgspec.Struct, frozen=True, array_like=True):
    """One listed deal: price fen, quantity t, time ns UTC, number of the day; aggressor 0 buy, 1 sell."""

    price: int
    quantity: int
    time_ns: int
    number: int
    aggressor: int


class Statistics(msgspec.Struct, frozen=True, array_like=True):
    """A vintage's day so far (R6): prices 0 where there was no deal yet, ``last`` then the reference."""

    open: int
    high: int
    low: int
    last: int
    volume: int
    amount: int
    deals: int
    reference: int
    limit_low: int
    limit_high: int


class FeedMessage(msgspec.Struct, tag_field="t", kw_only=True):
    """Base of what is published."""


class BookUpdate(FeedMessage, tag="book"):
    """What changed in one instrument. ``checksum``: of the levels after it (:func:`checksum`), every so often."""

    code: str
    epoch: int
    seq: int
    time_ns: int
    bids: Levels
    asks: Levels
    trades: tuple[Trade, ...] = ()
    statistics: Statistics | None = None
    checksum: int | None = None


class BookSnapshot(FeedMessage, tag="snapshot"):
    """One instrument as of sequence ``seq`` of its feed, best level first. ``composite``: as of this moment, for who
    comes in the middle of a day; None where nobody has told it yet."""

    code: str
    epoch: int
    seq: int
    time_ns: int
    bids: Levels
    asks: Levels
    statistics: Statistics
    composite: Composite | None = None


class Screen(FeedMessage, tag="screen"):
    """The conflated picture: complete in itself."""

    code: str
    time_ns: int
    bids: Levels
    asks: Levels
    statistics: Statistics


class Composite(FeedMessage, tag="composite"):
    """The composite (R7.4), fen; 0 where the day had no deal yet."""

    epoch: int
    seq: int
    time_ns: int
    open: int
    high: int
    low: int
    last: int
    close: int
    previous: int


class Bulletin(FeedMessage, tag="notice"):
    """A public notice: phase, halt, bulletin. ``notice`` is the engine's notice as a map with its type in ``t``."""

    epoch: int
    seq: int
    time_ns: int
    notice: dict[str, Any]


class FeedStatus(FeedMessage, tag="status"):
    """The last sequence of each feed; ``market`` that of topic M."""

    epoch: int
    time_ns: int
    books: dict[str, int]
    market: int


_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(
    Union[BookUpdate, BookSnapshot, Screen, Composite, Bulletin, FeedStatus]
)
_encoder = msgspec.msgpack.Encoder()


def decode(frame: bytes) -> Any:
    """A published message; msgspec.DecodeError where it is none."""
    return _decoder.decode(frame)


def encode(message: FeedMessage) -> bytes:
    """MessagePack bytes of a published message."""
    return _encoder.encode(message)


def checksum(bids: Levels, asks: Levels) -> int:
    """CRC-32 over all levels of the picture, bids then asks, best first, each as three int64."""
    flat = np.array([*bids, *asks], np.int64).reshape(-1)
    return zlib.crc32(flat.astype("<i8").tobytes(), len(bids))


class _Side:
    """The levels of one side as last published, and how to find what changed."""

    def __init__(self, n_levels: int = 0) -> None:
        self.quantity = np.zeros(n_levels, np.int64)
        self.count = np.zeros(n_levels, np.int64)
        self.moved = np.zeros((n_levels, 3), np.int64)
        self.best = np.zeros((LEVELS_PUBLISHED, 3), np.int64)
        self.top: dict[int, tuple[int, int, int]] = {}


class _Feed:
    """One instrument's feed."""

    def __init__(self) -> None:
        self.seq = 0
        self.full_seq = 0
        self.sides = [_Side(), _Side()]
        self.statistics: Statistics | None = None
        self.screen_due = False
        self.touched = False


def statistics_of(exchange: Exchange, index: int) -> Statistics:
    """A vintage's statistics from the market's table."""
    row = exchange.market.instruments[index]
    return Statistics(*(int(row[name]) for name in Statistics.__struct_fields__))


class Publisher:
    """Turns what the engine did into feed messages. No I/O: ``publish`` is called with topic and frame."""

    def __init__(self, exchange: Exchange, publish: Publish, *, epoch: int, checksum_every: int = 64) -> None:
        self.exchange, self.publish, self.epoch = exchange, publish, epoch
        self.checksum_every = checksum_every
        self.feeds: dict[int, _Feed] = {}
        self.market_seq = 0
        self.waiting = False  # something was collected that is not published yet
        self.deals = np.zeros(DEALS_AT_START, EVENT)
        self.n_deals = 0
        self._touched = np.zeros(1 << 16, np.uint8)
        self._notes: list[tuple[np.ndarray, bytes]] = []
        self._time_ns = 0
        feed_kernel.pick(self.deals[:0], self.deals, 0, self._touched)  # compiled (or loaded) before the market opens
        self._composite: tuple[int, ...] = ()
        self._conflate_due_ns = self._status_due_ns = 0
        for index in exchange.market.codes.values():
            self._update(index, (), 0, silent=True)

    # --- from events -----------------------------------------------------------------------------------------

    def collect(self, events: np.ndarray, payloads: bytes) -> None:
        """Keeps what the feeds need of a batch for the next :meth:`flush`: members' reports go first.

        events: EVENT[n], which need not last; payloads of its notices, in order.
        """
        if not len(events):
            return
        if self.n_deals + len(events) > len(self.deals):
            deals = np.zeros(2 * (self.n_deals + len(events)), EVENT)
            deals[: self.n_deals] = self.deals[: self.n_deals]
            self.deals = deals
        self.n_deals, notices = feed_kernel.pick(events, self.deals, self.n_deals, self._touched)
        if notices:
            self._notes.append((events[events["kind"] == NOTICE], payloads))
        self._time_ns = int(events[-1]["time_ns"])
        self.waiting = True

    def collected(self, n_deals: int, time_ns: int) -> None:
        """Machine code has collected a batch without notices (gateway.turn): so many deals wait now."""
        self.n_deals, self._time_ns, self.waiting = n_deals, time_ns, True

    def flush(self) -> None:
        """Publishes what has changed since the last time; every deal is in it, levels as they are now."""
        if not self.waiting:
            return
        codes = self.exchange.market.codes
        time_ns, deals, notes = self._time_ns, self.deals[: self.n_deals], self._notes
        # A notice is rare: a roll, a listing, a close move everything.
        touched = sorted(i for i in codes.values() if notes or self._touched[i])
        for index in touched:
            mine = deals[deals["instrument"] == index] if len(deals) else deals
            columns = (mine[name].tolist() for name in ("price", "quantity", "time_ns", "ref", "side"))
            trades = tuple(Trade(p, q, at, no, 1 - side) for p, q, at, no, side in zip(*columns, strict=True))
            self._update(index, trades, time_ns)
        self._touched[touched] = 0
        self.n_deals, self._notes, self.waiting = 0, [], False
        self._composite_update(time_ns)
        for events, payloads in notes:
            self._notices(events, payloads)

    def _look(self, index: int, feed: _Feed, side: int) -> tuple[Levels, Levels]:
        """(levels that have changed since the last look, best levels) of a side."""
        book, s = self.exchange.market.book, 2 * index + side
        known, row = feed.sides[side], self.exchange.market.instruments[index]
        n_levels = int(book.sides[s]["n_levels"])
        if n_levels != len(known.quantity):  # a new band: everything is new, and the book was empty
            top, known = known.top, _Side(n_levels)
            feed.sides[side], known.top = known, top
        base, tick = int(row["band_base"]), int(row["tick"])
        moved, best = feed_kernel.compare(
            book.sides, book.levels, s, base, tick, known.quantity, known.count, known.moved, known.best
        )
        rows = known.moved[:moved].tolist() if moved else ()
        return tuple((p, q, n) for p, q, n in rows), tuple((p, q, n) for p, q, n in known.best[:best].tolist())

    def _update(self, index: int, trades: tuple[Trade, ...], time_ns: int, *, silent: bool = False) -> None:
        """Compares an instrument's levels with what was published and publishes the difference."""
        feed = self.feeds.setdefault(index, _Feed())
        code = self.exchange.market.code_of(index)
        tops: list[Levels] = []
        changes: list[Levels] = []
        full: list[Levels] = []
        for side in (BUY, SELL):
            moved, top = self._look(index, feed, side)
            full.append(moved)
            was, now = feed.sides[side].top, {level[0]: level for level in top}
            gone = tuple((price, 0, 0) for price in was if price not in now)
            changes.append(gone + tuple(level for level in top if was.get(level[0]) != level))
            feed.sides[side].top = now
            tops.append(top)
        statistics = statistics_of(self.exchange, index)
        fresh = statistics if statistics != feed.statistics else None
        feed.statistics = statistics
        if silent:
            return
        if full[0] or full[1]:
            feed.full_seq += 1
            self._publish_book(b"O.", code, feed.full_seq, time_ns, full, trades, None, None, operators=True)
        if changes[0] or changes[1] or trades or fresh is not None:
            feed.seq += 1
            feed.screen_due = True
            check = checksum(*tops) if feed.seq % self.checksum_every == 0 else None
            self._publish_book(b"F.", code, feed.seq, time_ns, changes, trades, fresh, check, operators=False)

    def _publish_book(
        self,
        topic: bytes,
        code: str,
        seq: int,
        time_ns: int,
        changes: list[Levels],
        trades: tuple[Trade, ...],
        statistics: Statistics | None,
        check: int | None,
        *,
        operators: bool,
    ) -> None:
        update = BookUpdate(
            code=code,
            epoch=self.epoch,
            seq=seq,
            time_ns=time_ns,
            bids=changes[0],
            asks=changes[1],
            trades=trades,
            statistics=statistics,
            checksum=check,
        )
        self.publish(topic + code.encode(), encode(update), operators)

    def _composite_now(self) -> tuple[int, ...]:
        m = self.exchange.market.market[0]
        return tuple(int(m[f"composite_{name}"]) for name in COMPOSITE)

    def _composite_message(self, time_ns: int, values: tuple[int, ...]) -> Composite:
        named = dict(zip(COMPOSITE, values, strict=True))
        return Composite(epoch=self.epoch, seq=self.market_seq, time_ns=time_ns, **named)

    def _composite_update(self, time_ns: int) -> None:
        now = self._composite_now()
        if now == self._composite:
            return
        self._composite = now
        self.market_seq += 1
        self.publish(b"M", encode(self._composite_message(time_ns, now)), False)

    def _notices(self, events: np.ndarray, payloads: bytes) -> None:
        at = 0
        for event in events:
            size = int(event["quantity"])
            payload, at = payloads[at : at + size], at + size
            if event["side"] != 1:
                continue
            self.market_seq += 1
            notice = msgspec.msgpack.decode(payload)
            message = Bulletin(epoch=self.epoch, seq=self.market_seq, time_ns=int(event["time_ns"]), notice=notice)
            self.publish(b"M", encode(message), False)

    # --- on time and on request ------------------------------------------------------------------------------

    def tick(self, mono_ns: int, time_ns: int, conflate_ms: int) -> None:
        """Screens that are due, and the status of the feeds."""
        self.flush()
        if mono_ns >= self._conflate_due_ns:
            self._conflate_due_ns = mono_ns + conflate_ms * NS_PER_MS
            for index, feed in self.feeds.items():
                if feed.screen_due:
                    feed.screen_due = False
                    s = self.snapshot(self.exchange.market.code_of(index), time_ns)
                    screen = Screen(code=s.code, time_ns=time_ns, bids=s.bids, asks=s.asks, statistics=s.statistics)
                    self.publish(b"C." + s.code.encode(), encode(screen), False)
        if mono_ns >= self._status_due_ns:
            self._status_due_ns = mono_ns + STATUS_NS
            for operators in (False, True):
                books = {
                    self.exchange.market.code_of(i): f.full_seq if operators else f.seq for i, f in self.feeds.items()
                }
                status = FeedStatus(epoch=self.epoch, time_ns=time_ns, books=books, market=self.market_seq)
                self.publish(b"S", encode(status), operators)

    def snapshot(self, code: str, time_ns: int, *, full: bool = False) -> BookSnapshot:
        """An instrument now, with the sequence of its feed. KeyError for an unknown code."""
        self.flush()
        index = self.exchange.market.codes[code]
        feed = self.feeds.setdefault(index, _Feed())
        depth = self.exchange.depth(code, 1 << 30 if full else LEVELS_PUBLISHED)
        return BookSnapshot(
            code=code,
            epoch=self.epoch,
            seq=feed.full_seq if full else feed.seq,
            time_ns=time_ns,
            bids=tuple((lv.price, lv.quantity, lv.orders) for lv in depth.bids),
            asks=tuple((lv.price, lv.quantity, lv.orders) for lv in depth.asks),
            statistics=statistics_of(self.exchange, index),
            composite=self._composite_message(time_ns, self._composite_now()),
        )


class BookBuilder:
    """A reader's book of one instrument: the five steps of the module's text, without I/O.

    ``feed`` takes what arrives and returns True when a snapshot is needed; ``take_snapshot`` gives it.
    """

    # A reader that waits for its snapshot keeps so many messages, then begins again.
    KEPT_MAX: Final = 10_000

    def __init__(self, code: str) -> None:
        self.code = code
        self.bids: dict[int, tuple[int, int]] = {}
        self.asks: dict[int, tuple[int, int]] = {}
        self.trades: list[Trade] = []
        self.statistics: Statistics | None = None
        self.epoch = self.seq = -1
        self.gaps = self.resyncs = self.checksums = 0
        self.live = False
        self._kept: list[BookUpdate] = []

    def feed(self, update: BookUpdate) -> bool:
        """Takes an update; True: ask for a snapshot."""
        if not self.live:
            self._kept.append(update)
            del self._kept[: -self.KEPT_MAX]
            return True
        if update.epoch == self.epoch and update.seq <= self.seq:
            return False
        if update.epoch != self.epoch or update.seq != self.seq + 1 or not self._apply(update):
            return self._begin_again(update)
        return False

    def status(self, status: FeedStatus) -> bool:
        """Learns of a gap at the end of what arrived; True: ask for a snapshot."""
        if not self.live:
            return True
        if status.epoch != self.epoch or status.books.get(self.code, self.seq) > self.seq:
            return self._begin_again(None)
        return False

    def take_snapshot(self, snapshot: BookSnapshot) -> bool:
        """Step 3 and 4. True when what was kept does not follow it: ask again."""
        self.bids = {p: (q, n) for p, q, n in snapshot.bids}
        self.asks = {p: (q, n) for p, q, n in snapshot.asks}
        self.statistics = snapshot.statistics
        self.epoch, self.seq, self.live = snapshot.epoch, snapshot.seq, True
        self.resyncs += 1
        kept, self._kept = self._kept, []
        again = False
        for update in kept:  # all of them: behind a gap they are kept for the next snapshot
            if update.epoch == self.epoch and update.seq > snapshot.seq:
                again |= self.feed(update)
        return again

    def _begin_again(self, update: BookUpdate | None) -> bool:
        self.gaps += 1
        self.live = False
        self._kept = [update] if update is not None else []
        return True

    def _apply(self, update: BookUpdate) -> bool:
        for book, changes in ((self.bids, update.bids), (self.asks, update.asks)):
            for price, quantity, orders in changes:
                if quantity:
                    book[price] = (quantity, orders)
                else:
                    book.pop(price, None)
        self.trades += update.trades
        if update.statistics is not None:
            self.statistics = update.statistics
        self.seq = update.seq
        if update.checksum is None:
            return True
        self.checksums += 1
        return checksum(*self.levels()) == update.checksum

    def levels(self) -> tuple[Levels, Levels]:
        """Bids and asks, best first."""
        bids = tuple((p, *self.bids[p]) for p in sorted(self.bids, reverse=True))
        return bids, tuple((p, *self.asks[p]) for p in sorted(self.asks))


class MarketDataClient:
    """Books, deals, statistics, composite, phases and the bulletin, over sockets. Not for several threads.

    ``books[code]`` is a :class:`BookBuilder`; ``notices`` keeps the public notices (phase, day_closed …) as maps.
    ``codes`` None takes all instruments that are listed now. ``screens``: the conflated feed instead.
    """

    NOTICES_KEPT: Final = 10_000

    def __init__(
        self,
        where: str | os.PathLike[str],
        *,
        key: str = "public",
        codes: Iterable[str] | None = None,
        screens: bool = False,
        full: bool = False,
        timeout: float = 10.0,
    ) -> None:
        """full: all levels, with an operator's key on the operator plane."""
        plane = "operators" if full else "members"
        self.link = Connection(where, key, plane=plane, timeout=timeout, resume="quick")
        self.link.open()
        assert self.link.login is not None
        self.full, self.screens_only = full, screens
        self.codes = list(codes) if codes is not None else [i.code for i in self.link.login.instruments]
        self.books = {code: BookBuilder(code) for code in self.codes}
        self.screens: dict[str, Screen] = {}
        self.composite: Composite | None = None
        self.notices: list[Bulletin] = []
        self.market_gaps = 0
        self._epoch = self._market_seq = -1
        self._wanted: set[str] = set(self.codes)
        self._login: LoginAccepted | None = self.link.login
        self._feed_at = ""
        self.socket = self._connect()

    def _connect(self) -> zmq.Socket[Any]:
        endpoints = cfg.read_endpoints(self.link.where)
        assert endpoints is not None, "logged in, so there are endpoints"
        socket = self.link.context.socket(zmq.SUB)
        socket.linger = 0
        if endpoints.curve:
            socket.curve_serverkey = endpoints.server_public.encode()
            socket.curve_publickey = self.link.secret.public.encode()
            socket.curve_secretkey = self.link.secret.secret.encode()
        topics = ["S"] if self.full else ["M", "S"]
        letter = "O." if self.full else "C." if self.screens_only else "F."
        for topic in [*topics, *(letter + code for code in self.codes)]:
            socket.subscribe(topic)
        self._feed_at = self._feed_of(endpoints)
        socket.connect(self._feed_at)
        return socket

    def _feed_of(self, endpoints: cfg.Endpoints) -> str:
        return endpoints.operator_feed if self.full else endpoints.feed

    def _follow(self) -> None:
        """An exchange that was started again may publish somewhere else: somebody had taken its port meanwhile."""
        if self.link.login is self._login:
            return
        self._login = self.link.login
        endpoints = cfg.read_endpoints(self.link.where)
        if endpoints is not None and self._feed_at != self._feed_of(endpoints):
            self.socket.close(0)
            self.socket = self._connect()

    def poll(self, timeout: float = 0.0) -> list[FeedMessage]:
        """Takes what has arrived, waiting up to ``timeout`` seconds for the first message; repairs gaps."""
        found: list[FeedMessage] = []
        self.link.pump()
        self._follow()
        self.repair()
        if self.socket.poll(int(timeout * 1000)):
            while True:
                try:
                    frame = self.socket.recv_multipart(zmq.DONTWAIT)[1]
                except zmq.Again:
                    break
                message = decode(frame)
                self.take(message)
                found.append(message)
        self.repair()
        return found

    def take(self, message: FeedMessage) -> None:
        """One published message; what it shows to be missing is asked for by the next :meth:`repair`."""
        if isinstance(message, BookUpdate):
            if message.code in self.books and self.books[message.code].feed(message):
                self._wanted.add(message.code)
        elif isinstance(message, Screen):
            self.screens[message.code] = message
        elif isinstance(message, FeedStatus):
            self._wanted |= {code for code, book in self.books.items() if book.status(message)}
            if message.epoch == self._epoch and message.market > self._market_seq >= 0:
                self.market_gaps += 1  # what was lost is not sent again: notices are in members' reports too
                self._market_seq = message.market
        elif isinstance(message, (Composite, Bulletin)):
            if self._market_seq >= 0 and (message.epoch, message.seq) != (self._epoch, self._market_seq + 1):
                self.market_gaps += 1
            self._epoch, self._market_seq = message.epoch, message.seq
            if isinstance(message, Composite):
                self._take_composite(message)
            else:
                self.notices.append(message)
                del self.notices[: -self.NOTICES_KEPT]

    def _take_composite(self, told: Composite) -> None:
        """From the feed or with a snapshot, whichever comes first: an older one says nothing new."""
        if self.composite is None or (told.epoch, told.seq) >= (self.composite.epoch, self.composite.seq):
            self.composite = told

    def repair(self) -> None:
        """Asks for the snapshots that are needed (step 3)."""
        if self.screens_only:
            return
        for code in sorted(self._wanted):
            snapshot = msgspec.convert(self.link.query("snapshot", code=code, full=self.full), BookSnapshot)
            if snapshot.composite is not None:
                self._take_composite(snapshot.composite)
            if not self.books[code].take_snapshot(snapshot):
                self._wanted.discard(code)

    def close(self) -> None:
        """Gives the sockets back."""
        self.socket.close(0)
        self.link.close()

    def __enter__(self) -> MarketDataClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
