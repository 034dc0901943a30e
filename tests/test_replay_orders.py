"""Market-by-order files and tables of orders: the same fills and books as the session that they tell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from l3_sessions import random_session
from typer.testing import CliRunner

from replay.commands import app
from replay.source_files import SourceError
from replay.source_orders import decimal, replay_mbo, replay_orders

PRICES = [13_400_000_000 + 10_000_000 * n for n in range(14)]
HEADER = "ts_event,action,side,price,size,order_id,flags,sequence"


def mbo_of(stream: Path) -> str:
    """The session of a command stream as MBO messages: fills as T, F, C; several messages may share a sequence."""
    left: dict[str, int] = {}
    side_of: dict[str, tuple[str, str]] = {}
    lines = [HEADER, "0,R,N,,0,0,8,-1"]
    rows = [line.split(",") for line in stream.read_text(encoding="utf-8").splitlines()]
    for at, (kind, row, *rest) in enumerate(rows):

        def tell(action: str, side: str, price: str, size: int, order: str, row=row) -> None:
            text = f"{int(price) // 10**9}.{int(price) % 10**9:09d}"
            lines.append(f"{row},{action},{side},{text},{size},{order},0,{row}")

        if kind in ("N", "I"):
            fills = []
            for f in rows[at + 1 :]:
                if f[0] != "F":
                    break
                fills.append(f)
            for _, _, order, price, size in fills:
                tell("T", "B" if rest[-3] == "B" else "A", price, int(size), "0")
                tell("F", side_of[order][0], price, int(size), order)
                tell("C", side_of[order][0], price, int(size), order)
                left[order] -= int(size)
            rest_size = int(rest[-1]) - sum(int(f[4]) for f in fills)
            if kind == "N" and rest_size:
                order, side, price, _ = rest
                left[order], side_of[order] = rest_size, ("B" if side == "B" else "A", price)
                tell("A", side_of[order][0], price, rest_size, order)
        elif kind in ("C", "R"):
            order = rest[0]
            size = left[order] if kind == "C" else int(rest[1])
            left[order] -= size
            tell("C", *side_of[order], size, order)
    return "\n".join(lines) + "\n"


def mbo_session(tmp_path: Path, seed: int) -> tuple[Path, Path]:
    stream = random_session(tmp_path, f"S{seed}", seed=seed, prices=PRICES, commands=300, checks="K")
    path = tmp_path / f"S{seed}.mbo.csv"
    path.write_text(mbo_of(stream), encoding="utf-8")
    book = tmp_path / f"S{seed}.mbp-10.csv"
    lines = book.read_text().splitlines()
    book.write_text("\n".join(["sequence" + lines[0], *lines[1:]]) + "\n")  # its first column is the row's number
    return path, book


@pytest.mark.parametrize("seed", range(4))
def test_a_market_by_order_session_comes_out_with_all_its_books(tmp_path, seed) -> None:
    r = replay_mbo(*mbo_session(tmp_path, seed))
    assert r.ok, r.mismatches
    assert r.fills > 50 and r.books >= 250 and r.not_open == 0


def test_a_fill_out_of_turn_turns_a_market_by_order_run_red(tmp_path) -> None:
    path = tmp_path / "m.csv"
    rows = ["1,A,A,1.5,10,a,0,1", "2,A,A,1.5,10,b,0,2", "3,T,B,1.5,4,0,0,3", "3,F,A,1.5,4,b,0,3", "3,C,A,1.5,4,b,0,3"]
    path.write_text("\n".join([HEADER, *rows]))
    r = replay_mbo(path)
    assert not r.ok and "another order" in r.mismatches[0].text and r.mismatches[0].line == 5


def test_a_modify_loses_its_place_only_for_another_price_or_more(tmp_path) -> None:
    path = tmp_path / "m.csv"
    start = ["1,A,A,1.5,10,a,0,1", "2,A,A,1.5,10,b,0,2"]
    end = ["9,T,B,1.5,5,0,0,9", "9,F,A,1.5,5,{},0,9", "9,C,A,1.5,5,{},0,9"]
    for modify, first in (("3,M,A,1.5,7,a,0,3", "a"), ("3,M,A,1.5,11,a,0,3", "b"), ("3,M,A,1.6,7,a,0,3", "b")):
        path.write_text("\n".join([HEADER, *start, modify, *(line.format(first) for line in end)]))
        assert replay_mbo(path).ok, modify


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("action,side,price,size\n", "no column 'order_id'"),
        (HEADER + "\n1,X,A,1.5,10,a,0,1\n", "line 2: cannot be read: action 'X'"),
        (HEADER + "\n1,A,A,1.5,ten,a,0,1\n", "line 2: cannot be read: 'ten'"),
        (HEADER + "\n1,A\n", "line 2: too few fields"),
    ],
)
def test_broken_messages_are_refused_with_line_and_reason(tmp_path, text, says) -> None:
    path = tmp_path / "m.csv"
    path.write_text(text)
    with pytest.raises(SourceError, match=says):
        replay_mbo(path)


TABLE = """OrderID,BuySell,Px,Qty,Type
a,SELL,10.05,5,new
b,sell,10.10,5,NEW
c,buy,10.10,7,new
x,buy,9.5,4,ioc
b,,,1,reduce
"""


def test_a_table_of_orders_is_read_by_its_column_map(tmp_path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(TABLE)
    columns = {"id": "OrderID", "side": "BuySell", "price": "Px", "quantity": "Qty", "action": "Type"}
    r, depth = replay_orders(path, columns, 2)
    assert (r.commands, r.fills_unexpected, r.traded, r.rejected, r.resting) == (5, 2, 7, 0, 1)
    assert depth.bids == [] and depth.asks == [(1010, 2, 1)]
    pairs = ",".join(f"{f}={c}" for f, c in columns.items())
    run = CliRunner().invoke(app, ["orders", str(path), "--map", pairs, "--json"])
    assert run.exit_code == 0 and json.loads(run.stdout)["asks"] == [[1010, 2, 1]]
    assert "ask 10.10: 2 in 1 orders" in CliRunner().invoke(app, ["orders", str(path), "--map", pairs]).stdout


def test_a_table_without_actions_holds_new_orders(tmp_path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("id,side,price,quantity\n1,B,10,5\n2,S,9.99,3\n")
    assert replay_orders(path, {}, 2)[0].traded == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id,side,price\n", "no column 'quantity'"),
        ("id,side,price,quantity\n1,up,10,5\n", "line 2: 'up' is no side"),
        ("id,side,price,quantity\n1,B,10.005,5\n", "line 2: '10.005' is not a number with at most 2 decimals"),
    ],
)
def test_a_broken_table_is_refused_with_line_and_reason(tmp_path, text, says) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(text)
    with pytest.raises(SourceError, match=says):
        replay_orders(path, {}, 2)


def test_decimals_are_read_exactly() -> None:
    assert [decimal(t, 2) for t in ("10", "10.5", "-0.05", ".5", "1.2300")] == [1000, 1050, -5, 50, 123]


def test_a_wrong_map_is_a_wrong_command_line(tmp_path) -> None:
    assert CliRunner().invoke(app, ["orders", "x.csv", "--map", "number=a"]).exit_code == 2
