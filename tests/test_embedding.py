"""docs/embedding.md's block and the example simulation run as they are printed."""

from __future__ import annotations

import gc
import re
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zero_intelligence

from engine import Exchange, Rules
from engine import messages as msg
from engine.exchange import SingleCommand
from engine.records import BUY, COMMAND, NEW, SELL

ROOT = Path(__file__).parent.parent


def test_the_ten_lines_of_the_page_run_as_printed(capsys):
    page = (ROOT / "docs" / "embedding.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.S)
    exec(compile(block, "docs/embedding.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "Depth(bids=[], asks=[Level(price=10000, quantity=300, orders=1)])" in printed


def test_the_simulation_gives_the_same_day_for_the_same_seed_and_draws_it(tmp_path):
    first, deals, result = zero_intelligence.simulate(2_000, seed=7)
    second, _, _ = zero_intelligence.simulate(2_000, seed=7)
    other, _, _ = zero_intelligence.simulate(2_000, seed=8)
    assert first.state_hash() == second.state_hash() != other.state_hash()
    assert len(deals) > 100
    assert result.vintages[0].volume == int(deals["quantity"].sum())
    chart = tmp_path / "day.png"
    zero_intelligence.draw(deals, result, chart)
    assert chart.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ([1, 2], "array of COMMAND records"),
        (np.zeros(2), "array of COMMAND records, is float64"),
        (np.zeros((2, 2), COMMAND), "one row"),
        (np.zeros(6, COMMAND)[::2], "contiguous"),
    ],
)
def test_what_is_no_batch_of_commands_is_an_error_in_words(wrong, says):
    exchange = Exchange(Rules.generic())
    with pytest.raises(AssertionError, match=says):
        exchange.submit(wrong)
    assert exchange.seq == 0


def test_the_clock_takes_whole_nanoseconds_and_runs_forward():
    exchange = Exchange(Rules.generic())
    exchange.advance(np.int64(5))
    for wrong in (6.5, "6", 4):
        with pytest.raises(AssertionError, match="time"):
            exchange.advance(wrong)
    assert exchange.time_ns == 5


@pytest.mark.parametrize(
    ("change", "field"),
    [({"tick_fen": 0}, "tick_fen"), ({"tick_fen": 1.5}, "tick_fen"), ({"lot_t": "1"}, "lot_t"), ({"fees": ()}, "fees")],
)
def test_rules_made_in_python_are_checked_like_those_of_a_file(change, field):
    with pytest.raises(ValueError, match=field):
        Exchange(msgspec.structs.replace(Rules.generic(), **change))


def test_a_single_command_gives_the_events_of_a_batch_even_when_the_buffer_is_too_small():
    def market(event_capacity: int) -> Exchange:
        exchange = Exchange(Rules.generic(), event_capacity=event_capacity)
        exchange.execute(msg.ListInstrument(code="X", reference=10_000))
        resting = np.zeros(50, COMMAND)
        resting["kind"], resting["side"], resting["price"], resting["quantity"] = NEW, SELL, 10_000, 3
        exchange.submit(resting)
        return exchange

    sweep = np.zeros(1, COMMAND)
    sweep["kind"], sweep["side"], sweep["price"], sweep["quantity"] = NEW, BUY, 10_000, 200
    sweep["seq"] = 52
    whole = market(1 << 12)
    expected = whole.apply(sweep.copy()).events.copy()
    small = market(6)
    lane = SingleCommand(small)
    for _ in range(2):  # the second command is an ordinary one again
        lane.buffer[:] = sweep.view("u1").data
        written = lane.apply()
        assert lane.events[:written].tobytes() == expected.tobytes()
        assert small.state_hash() == whole.state_hash()
        sweep["seq"], sweep["quantity"] = 53, 1
        expected = whole.apply(sweep.copy()).events.copy()


def test_a_single_command_costs_no_memory_and_outlives_the_name_of_its_lane():
    exchange = Exchange(Rules.generic())
    exchange.execute(msg.ListInstrument(code="X", reference=10_000))
    lane = SingleCommand(exchange)
    lane.record["kind"], lane.record["price"], lane.record["quantity"] = NEW, 10_000, 3
    apply, record = lane.apply, lane.record
    del lane, exchange
    gc.collect()
    grown = []
    for first in (2, 1_002, 2_002):  # the blocks are the whole process's: another thread may take some meanwhile
        before = sys.getallocatedblocks()
        for seq in range(first, first + 1_000):
            record["seq"], record["side"] = seq, seq % 2
            assert apply() == (1 if seq % 2 == 0 else 3)  # rests, is dealt with
        grown.append(sys.getallocatedblocks() - before)
    assert min(grown) < 100
