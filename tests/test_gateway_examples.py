"""The example programs run against an exchange."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import gateway_market as gm
import pytest

from gateway.client import Client
from gateway.operator import OperatorClient

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def example(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with gm.serving(gm.make(tmp_path_factory.mktemp("examples") / "m", lane="hot")) as server:
        with OperatorClient(server.market.folder) as ops:
            gm.fund(ops)
        yield str(server.market.folder)


def test_the_market_maker_quotes_both_sides_and_leaves_nothing_behind(folder):
    made = example("market_maker").run(folder, "member-3", "CEA24", 20, 100, 6)
    assert {o.side for o in made} == {"buy", "sell"} and all(o.accepted for o in made)
    with Client(folder, key="member-3") as me:
        assert len(me.open_orders()) == 0


def test_the_compliance_buyer_buys_its_quantity_in_slices_and_no_more(folder):
    with Client(folder, key="member-4") as seller:
        seller.send_batch([("sell", "CEA24", 5_950 + i, 40) for i in range(4)])
        bought = example("compliance_buyer").run(folder, "member-5", "CEA24", 150, 5_960, 25, 0.0, 50)
        assert bought == 150
        assert sum(f.quantity for f in seller.fills()) == 150
        seller.mass_cancel()
    assert example("compliance_buyer").run(folder, "member-5", "CEA24", 10, 5_900, 5, 0.0, 2) == 0


def test_the_bulk_negotiation_ends_in_a_deal(folder):
    with OperatorClient(folder) as ops:
        ops.step_clock(gm.DAY + int(13.5 * gm.HOUR))
        deal = example("bulk_negotiation").run(folder, "member-1", "member-2", "CEA24", 5_800, 5_750, 120_000)
        assert (deal["price"], deal["quantity"]) == (5_750, 120_000)
        assert int(ops.deals()[-1]["quantity"]) == 120_000
