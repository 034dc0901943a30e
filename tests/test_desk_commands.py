"""`cea bulk …` and `cea auction …` against a running exchange: every step, its refusals, and who sees what."""

from __future__ import annotations

import json

import gateway_market as gm
import pytest
from typer.testing import CliRunner

from cea import auction_commands, bulk_commands
from cea.output import Exit
from gateway.operator import OperatorClient


class Desk:
    """`cea` on one market; the answer as JSON, or the error line."""

    def __init__(self, folder: str, app) -> None:
        self.folder, self.app = folder, app

    def text(self, *words: object, code: Exit = Exit.OK) -> str:
        run = CliRunner().invoke(self.app, [str(w) for w in (*words, "-m", self.folder)])
        assert run.exit_code == code, (words, run.output, run.exception)
        return run.output

    def __call__(self, *words: object):
        return json.loads(self.text(*words, "--json"))

    def refused(self, *words: object, code: Exit = Exit.NO) -> str:
        error = self.text(*words, code=code)
        assert len(error.strip().splitlines()) == 1 and "Traceback" not in error
        return error


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with gm.serving(gm.make(tmp_path_factory.mktemp("desk") / "m", lane="hot")) as server:
        with OperatorClient(server.market.folder) as ops:
            gm.fund(ops)
        yield str(server.market.folder)


def clock(folder: str, hour: float) -> None:
    with OperatorClient(folder) as ops:
        ops.step_clock(gm.DAY + int(hour * gm.HOUR))


def test_an_auction_goes_from_application_to_allocation_on_the_command_line(folder) -> None:
    cea = Desk(folder, auction_commands.app)
    assert "working days ahead" in cea.refused("apply", "CEA24", 100_000, 20251203, "-a", 1)
    assert "uniform or pay_as_bid" in cea.refused("apply", "CEA24", 1, 20251203, "--mode", "dutch", code=Exit.USAGE)
    paid = ("apply", "CEA24", 100_000, 20251203, "--seller", 1, "--waive")
    assert "--why" in cea.refused(*paid, code=Exit.USAGE)
    number = cea(*paid, "--why", "government paid allocation")["auction"]
    cea("answer", number, "--approve")
    assert cea("freeze", number, "--operator")["locked_t"] == 100_000
    assert "HH:MM" in cea.refused("announce", number, "ten", "10:30", code=Exit.USAGE)
    assert "unknown" in cea.refused("announce", 77, "10:00", "10:30")
    cea("announce", number, "10:00", "10:30", "--cancel", "--bid-min", 100)
    assert "the window is 10:00:00" in cea.refused("bid", number, "60.00", 1_000, "-a", 2)
    clock(folder, 10.1)
    assert "is not in" in cea.refused("bid", number, "90.00", 1_000, "-a", 2)
    first = cea("bid", number, "60.00", 60_000, "-a", 2)["bid"]
    second = cea("bid", number, "61.00", 50_000, "-a", 3)["bid"]
    third = cea("bid", number, "65.00", 1_000, "-a", 3)["bid"]
    assert "bid" in cea.refused("raise", number, first, "62.00", 60_000, "-a", 3)  # another's bid is unknown
    cea("raise", number, first, "60.50", 60_000, "-a", 2)
    cea("cancel-bid", number, third, "-a", 3)
    own = cea("ls", "-a", 2)
    assert [b["bid"] for b in own["bids"]] == [first] and own["auctions"] == [], "bids are sealed"
    assert [b["bid"] for b in cea("ls", "--auction", number)["bids"]] == [first, second]
    assert "10:00:00–10:30:00" in cea.text("ls", "-a", 4) and "announced" in cea.text("ls", "-a", 1)
    assert cea("allocate")["ended"] == 0  # the window is open
    clock(folder, 10.5)
    with OperatorClient(folder) as ops:
        deals = ops.deals()
    assert deals["quantity"].tolist() == [50_000, 50_000] and set(deals["price"].tolist()) == {6_050}
    assert "dealt" in cea.refused("cancel", number) and cea.text("ls", "-a", 2).strip() == "nothing is open"
    again = cea("apply", "CEA24", 100_000, 20251203, "--seller", 4, "--waive", "--why", "second")["auction"]
    cea("withdraw", again, "--operator")
    refused = cea("apply", "CEA24", 100_000, 20251203, "--seller", 4, "--waive", "--why", "third")["auction"]
    cea("answer", refused, "--refuse", "--why", "not now")


def test_every_step_of_the_desk_can_be_typed(folder) -> None:
    cea = Desk(folder, bulk_commands.app)
    clock(folder, 13.5)
    assert "valid_until" in cea.refused(
        "declare", "sell", "CEA23", "58", 100_000, "--valid-until", "16:00", "-a", 4, code=Exit.NO
    )
    assert "HH:MM" in cea.refused(
        "declare", "sell", "CEA23", "58", 100_000, "--valid-until", "4pm", "-a", 4, code=Exit.USAGE
    )
    assert "group" in cea.refused("declare", "sell", "CEA23", "58", 100_000, "--group", 9, "-a", 4)
    number = cea(
        *("declare", "sell", "cea23", "58.00", 200_000, "--partial", "--to", 5, "--valid-until", "14:30"),
        *("--note", "spot", "-a", 4),
    )["declaration"]
    assert cea.text("ls", "-a", 3).strip() == "nothing is open", "it is addressed to 5 only"
    assert "58.00, in parts  (maker 4)  spot" in cea.text("ls", "-a", 5)
    assert "does not exist" in cea.refused("take", number, "58.00", 100_000, "-a", 3)
    cea("amend", number, "57.00", 200_000, "--note", "cheaper", "--valid-until", "14:30", "-a", 4)
    assert "stands at 57.00" in cea.refused("take", number, "58.00", 100_000, "-a", 5)
    assert "cash" in cea.refused("take", number, "57.00", 200_000, "-a", 5)
    thread = cea("offer", number, "50.00", 100_000, "--note", "all I have", "-a", 5)["thread"]
    cea("counter", thread, "52.00", 100_000, "-a", 4)
    steps = cea.text("view", number, "-a", 5)
    assert "offer" in steps and "maker_counters" in steps and "all I have" in steps
    assert "not open for you" in cea.refused("view", number, "-a", 3)
    assert "maker_counters" in cea.text("view", number, "--operator")
    cea("accept", thread, "52.00", 100_000, "-a", 5)
    cea("freeze", number, "--why", "a question")
    assert "frozen" in cea.refused("confirm", thread, "52.00", 100_000, "-a", 4)
    cea("freeze", number, "--thaw")
    assert cea("confirm", thread, "52.00", 100_000, "-a", 4)["deal"] > 0
    assert "dealt" in cea.text("ls", "--day", "-a", 5) and "100,000 t at 52.00" in cea.text("ls", "--day", "-a", 5)
    again = cea("offer", number, "45.00", 100_000, "-a", 5)["thread"]
    assert "--thread" in cea.refused("cancel", code=Exit.USAGE)
    cea("cancel", "--thread", again, "--why", "mistyped")
    third = cea("offer", number, "45.00", 100_000, "-a", 5)["thread"]
    cea("retract", third, "-a", 5)
    fourth = cea("offer", number, "45.00", 100_000, "-a", 5)["thread"]
    cea("refuse", fourth, "--note", "too low", "-a", 4)
    cea("freeze")
    assert "the desk" in cea.refused("offer", number, "45.00", 100_000, "-a", 5)
    cea("freeze", "--thaw")
    cea("withdraw", number, "-a", 4)
    assert "withdrawn" in cea.refused("withdraw", number, "-a", 4)
    last = cea("declare", "sell", "CEA23", "58", 100_000, "--all-or-none", "-a", 4)["declaration"]
    assert [d["declaration"] for d in cea("ls", "--operator")] == [last]
    cea("cancel", "--declaration", last)
    assert cea("ls", "--operator") == []
