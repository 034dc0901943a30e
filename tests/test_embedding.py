"""docs/embedding.md's block and the example simulation run as they are printed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import zero_intelligence

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


def test_a_single_command_gives_the_events_of_a_batch_even_when_the_buffer_is_too_small():
    from engine import Exchange, Rules
    from engine import messages as msg

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
