"""Queue positions: told from events, equal to what the engine's own book says, and drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from journal_maker import make_journal
from typer.testing import CliRunner

from engine.records import ACCEPTED, BUY, CANCELLED, EVENT, FILL_MAKER, FILL_TAKER, REDUCED, REPLACED, SELL
from replay.chart_command import app
from replay.journal import JournalReplay
from replay.market_settings import settings_for
from replay.queue_positions import FILLED, RESTING, TAKEN_BACK, Queues, collect_queues

MINUTE = 60 * 10**9


def queues_of(*rows: tuple[int, int, int, int, int, int]) -> Queues:
    """Rows (minute = seq, kind, order, side, price, leaves)."""
    events = np.zeros(len(rows), EVENT)
    for event, (minute, kind, order, side, price, leaves) in zip(events, rows, strict=True):
        event["seq"], event["time_ns"], event["kind"], event["order_id"] = minute, minute * MINUTE, kind, order
        event["side"], event["price"], event["leaves"] = side, price, leaves
    queues = Queues(0)
    queues.read(events)
    return queues


def test_tonnes_ahead_shrink_as_those_before_are_filled_reduced_and_cancelled() -> None:
    queues = queues_of(
        (1, ACCEPTED, 1, BUY, 6_000, 100),
        (2, ACCEPTED, 2, BUY, 6_000, 50),
        (3, ACCEPTED, 3, BUY, 6_000, 10),
        (4, FILL_MAKER, 1, BUY, 6_000, 60),
        (5, REDUCED, 2, BUY, 6_000, 20),
        (6, CANCELLED, 2, BUY, 6_000, 0),
        (7, FILL_MAKER, 1, BUY, 6_000, 0),
        (7, FILL_MAKER, 3, BUY, 6_000, 0),
    )
    third = queues.places[3]
    assert list(zip(third.minutes, third.ahead, strict=True)) == [(3, 150), (4, 110), (5, 80), (6, 60), (7, 0)]
    assert [queues.places[n].end for n in (1, 2, 3)] == [FILLED, TAKEN_BACK, FILLED]
    assert third.length == 4


def test_a_replace_for_more_goes_to_the_end_and_one_for_less_stays() -> None:
    start = [(n, ACCEPTED, n, SELL, 6_000, 100) for n in (1, 2, 3)]
    less = queues_of(*start, (4, REPLACED, 1, SELL, 6_000, 40))
    assert (less.places[1].ahead[-1], less.places[3].ahead[-1]) == (0, 140)
    more = queues_of(*start, (4, REPLACED, 1, SELL, 6_000, 140))
    assert (more.places[1].ahead[-1], more.places[3].ahead[-1]) == (200, 100)
    moved = queues_of(*start, (4, REPLACED, 1, SELL, 6_010, 100))
    assert (moved.places[1].ahead[-1], moved.places[1].price) == (0, 6_010)


def test_an_order_that_is_filled_at_once_never_rested() -> None:
    queues = queues_of((1, ACCEPTED, 1, BUY, 6_000, 5), (1, FILL_TAKER, 1, BUY, 6_000, 0))
    assert queues.places[1].length == 0 and queues.places[1].end == FILLED


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("journal")
    make_journal(folder, seed=3)
    return folder


def test_queues_of_a_journal_agree_with_the_depth_of_the_engines_book(market) -> None:
    """After every command: the tonnes of each level are the sum of its queue."""
    replay, compared = JournalReplay(*settings_for(market)), 0
    queues = Queues(0)

    def watch(out) -> None:
        nonlocal compared
        index = replay.exchange.market.codes.get("CEA24")
        if index is None:
            return
        queues.read(out.events[(out.events["instrument"] == index) & (out.events["kind"] < 9)])
        depth = replay.exchange.depth("CEA24", 50)
        for side, levels in ((BUY, depth.bids), (SELL, depth.asks)):
            own = {p: (sum(q.values()), len(q)) for (s, p), q in queues.levels.items() if s == side and q}
            assert own == {lv.price: (lv.quantity, lv.orders) for lv in levels}
            compared += 1

    replay.run(watch=watch)
    assert compared > 20


def test_a_day_is_chosen_and_lapsed_orders_end_as_cancelled(market) -> None:
    day, places = collect_queues(JournalReplay(*settings_for(market)), "CEA24", 20251202)
    assert day == 20251202 and all(p.length > 0 for p in places)
    assert not [p for p in places if p.end == RESTING]


@pytest.mark.parametrize("ending", ["png", "svg", "html"])
def test_the_picture_is_written_whole(market, tmp_path, ending) -> None:
    out = tmp_path / f"queue.{ending}"
    run = CliRunner().invoke(app, ["queue", str(market), str(out), "-i", "CEA24"])
    assert run.exit_code == 0, run.output
    assert list(tmp_path.iterdir()) == [out] and out.stat().st_size > 8_000


def test_what_never_rested_is_one_clear_line(market, tmp_path) -> None:
    for args, says in ((["--order", "1"], "no such order rested"), (["--date", "20200101"], "has no day 20200101")):
        run = CliRunner().invoke(app, ["queue", str(market), str(tmp_path / "q.png"), "-i", "CEA24", *args])
        assert run.exit_code == 2 and says in run.stderr and not list(tmp_path.iterdir())
