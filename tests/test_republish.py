"""`cea replay publish`: a reader of the replayed feed has the deals, books and closes that the journal leads to."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from journal_maker import make_journal
from patience import PATIENCE_S as WAIT_S
from typer.testing import CliRunner

from cea.replay_commands import app
from cea.republish import first_order, readers_keys, republishing
from engine import messages
from engine.exchange import Exchange
from engine.journal import RealDisk
from engine.records import COMMAND, FILL_MAKER, FILL_TAKER, NEW, NO_ACCOUNT
from engine.rules import Rules
from gateway.client import Client, GatewayError
from gateway.config import read_endpoints
from gateway.keys import Key, KeyTable
from gateway.market_data import MarketDataClient, Publisher
from gateway.operator import OperatorClient
from replay.journal import JournalReplay
from replay.market_charts import collect
from replay.market_settings import settings_for
from replay.source_files import SourceError

DATE = 20251203


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> tuple[Path, Exchange]:
    folder = tmp_path_factory.mktemp("journal")
    return folder, make_journal(folder, seed=5)


class Republished:
    """The server in a thread of its own: its sockets belong to it alone."""

    def __init__(self, journal: Path, folder: Path, speed: float, date: int = DATE, accounts: tuple = ()) -> None:
        self.error: Exception | None = None
        self.played = 0
        self._thread = threading.Thread(target=self._run, args=(journal, folder, speed, date, accounts))
        self._up = threading.Event()
        self._leave = threading.Event()
        self.go = threading.Event()
        self._thread.start()
        assert self._up.wait(WAIT_S)

    def _run(self, journal: Path, folder: Path, speed: float, date: int, accounts: tuple) -> None:
        try:
            with republishing(journal, folder, None, date, accounts) as server:
                self._up.set()
                server.wait_for(1)
                while not (self.go.is_set() or self._leave.is_set()):
                    server.serve_for(0.05)
                self.played = server.play(speed)
                while not self._leave.is_set():
                    server.serve_for(0.05)
        except Exception as error:  # shown by end()
            self.error = error
            self._up.set()

    def end(self) -> None:
        self._leave.set()
        self._thread.join(WAIT_S)
        assert self.error is None and not self._thread.is_alive(), self.error


def watch(server: Republished, folder: Path, until: str = "day_closed") -> MarketDataClient:
    """Lets the day begin, reads the feed until the notice; the client is still logged in."""
    feed = MarketDataClient(folder, key=str(folder / "keys" / "public.key"))
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        feed.poll(0.1)
        if feed.books and all(book.live for book in feed.books.values()):
            server.go.set()
        if any(n.notice.get("t") == until for n in feed.notices):
            for _ in range(4):
                feed.poll(0.05)
            return feed
    raise AssertionError(f"no {until} in {WAIT_S} s")


@pytest.mark.parametrize("speed", [0.0, pytest.param(10_000.0, marks=pytest.mark.slow)])
def test_a_reader_sees_every_deal_of_the_day_and_its_close(market, tmp_path, speed) -> None:
    server = Republished(market[0], tmp_path / "again", speed)
    try:
        feed = watch(server, tmp_path / "again")
        for code in ("CEA23", "CEA24"):
            day = collect(JournalReplay(*settings_for(market[0])), code, DATE)
            row = market[1].market.instruments[market[1].market.codes[code]]
            book = feed.books[code]
            assert [(t.price, t.quantity) for t in book.trades] == [(p, q) for _, p, q in day.deals]
            assert book.statistics is not None and book.statistics.volume == row["volume"]
            assert book.gaps == 0 and book.levels() == ((), ())  # orders lapse at the close
        closed = next(n.notice for n in feed.notices if n.notice.get("t") == "day_closed")
        assert closed["date"] == DATE and feed.market_gaps == 0
        feed.close()
    finally:
        server.end()
    assert server.played > 100


@pytest.mark.slow
def test_a_speed_is_kept_and_a_pause_is_cut(market, tmp_path, monkeypatch) -> None:
    """At 10,000 times, a day of 5.5 hours takes 2 s; a lunch break of 0.5 s is cut to 0.1 s."""
    monkeypatch.setattr("cea.republish.PAUSE_MAX_S", 0.1)
    server = Republished(market[0], tmp_path / "again", 10_000.0)
    began = time.monotonic()
    try:
        watch(server, tmp_path / "again").close()
        assert 0.5 < time.monotonic() - began < WAIT_S
    finally:
        server.end()


def test_nobody_can_trade_or_look_in_without_a_key(market, tmp_path) -> None:
    folder = tmp_path / "again"
    server = Republished(market[0], folder, 0.0)
    try:
        feed = watch(server, folder)
        feed.close()
        with Client(folder, key=str(folder / "keys" / "public.key"), timeout=WAIT_S) as reader:
            with pytest.raises(GatewayError):
                reader.order("buy", "CEA24", 6_000, 100)
            with pytest.raises(GatewayError):
                reader.execute(messages.CloseDay())
        keys = sorted(p.name for p in (folder / "keys").glob("*.key"))
        assert keys == ["monitor.key", "public.key", "relay.key", "server.key"] and not any(
            (folder / "journal").iterdir()
        )
        endpoints = read_endpoints(folder)
        assert endpoints is not None and endpoints.curve
    finally:
        server.end()


FILLS = (FILL_MAKER, FILL_TAKER)


def fills_of(journal: Path, account: int | None) -> list[tuple[int, ...]]:
    """Fills of the day (of one account) as a replay has them."""
    replay, found = JournalReplay(*settings_for(journal)), []

    def note(out) -> None:
        mine = out.events[np.isin(out.events["kind"], FILLS)]
        if int(replay.exchange.market.market[0]["date"]) == DATE:
            found.extend(facts(e) for e in mine if account is None or e["account"] == account)

    replay.run(watch=note)
    return found


def facts(e) -> tuple[int, ...]:
    return tuple(int(e[name]) for name in ("seq", "kind", "account", "price", "quantity", "order_id"))


def test_the_viewer_has_every_event_and_a_copy_the_reports_of_its_account_alone(market, tmp_path) -> None:
    folder = tmp_path / "again"
    server = Republished(market[0], folder, 0.0, accounts=(1,))
    try:
        watch(server, folder).close()
        with OperatorClient(folder, key="monitor", timeout=WAIT_S) as ops:
            ops.subscribe(1)
            seen, wanted = [], fills_of(market[0], None)
            deadline = time.monotonic() + WAIT_S
            while len(seen) < len(wanted) and time.monotonic() < deadline:
                seen += [facts(r.event) for r in ops.events(0.2) if int(r.event["kind"]) in FILLS]
            assert seen == wanted and len(seen) > 100
            with pytest.raises(GatewayError):
                ops.execute(messages.CloseDay())
        with Client(folder, key="copy-1", timeout=WAIT_S, resume="restart") as copy:
            copy.sync()
            reports = [r.event for r in copy.poll()]
            assert [facts(e) for e in reports if int(e["kind"]) in FILLS] == fills_of(market[0], 1) != []
            assert {int(e["account"]) for e in reports} <= {1, NO_ACCOUNT}
        full = MarketDataClient(folder, key="monitor", full=True)
        full.close()
    finally:
        server.end()


def test_a_reader_has_no_members_session() -> None:
    """Planted: the numbers that a fresh folder gives would be members', whose reports would go to the readers."""
    table = Exchange(Rules.national()).market.sessions
    table[1:3]["open"] = 1
    key = Key(name="public", public="x" * 40, session=1, role="market_data")
    assert table[1]["open"] and not table[readers_keys(KeyTable([key]), table).keys[0].session]["open"]
    full = table.copy()
    full["open"] = 1
    with pytest.raises(SourceError, match="no 1 sessions left"):
        readers_keys(KeyTable([key]), full)


def test_a_planted_lost_deal_is_seen_by_the_comparison(market, tmp_path, monkeypatch) -> None:
    lost: list[int] = []
    real = Publisher.collect

    def losing(self, events, payloads) -> None:
        deals = np.flatnonzero(events["kind"] == FILL_MAKER)
        if len(deals) and not lost:
            lost.append(int(events[deals[0]]["price"]))
            events = np.delete(events, deals[0])
        real(self, events, payloads)

    monkeypatch.setattr(Publisher, "collect", losing)
    server = Republished(market[0], tmp_path / "again", 0.0)
    try:
        feed = watch(server, tmp_path / "again")
        seen = sum(len(book.trades) for book in feed.books.values())
        feed.close()
    finally:
        server.end()
    days = [collect(JournalReplay(*settings_for(market[0])), code, DATE) for code in ("CEA23", "CEA24")]
    assert lost and seen == sum(len(day.deals) for day in days) - 1


def test_the_first_order_is_where_publishing_begins(market) -> None:
    disk = RealDisk(market[0])
    replay = JournalReplay(*settings_for(market[0]))
    first = first_order(disk, 0)
    replay.go_to(replay_moment(first - 1))
    ((commands, _),) = replay.step(1)
    assert commands.dtype == COMMAND and commands["kind"][0] == NEW and set(replay.exchange.market.codes) >= {"CEA24"}
    assert first_order(disk, np.iinfo(np.int64).max) == 0


def replay_moment(seq: int):
    from replay.journal import Moment

    return Moment(seq=seq)


def test_what_cannot_be_published_is_one_clear_line(market, tmp_path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "market.toml").write_text("")
    for args, says in (
        ([str(tmp_path / "nowhere")], "no such folder"),
        ([str(market[0]), "--to", str(tmp_path / "taken")], "there is a market already"),
        ([str(market[0]), "--to", str(tmp_path / "x"), "--date", "20301203"], "no order to publish"),
    ):
        run = CliRunner().invoke(app, ["publish", *args])
        assert run.exit_code == 2 and says in run.stderr, run.stderr
    with pytest.raises(SourceError), republishing(tmp_path / "nowhere", tmp_path / "y"):
        pass
