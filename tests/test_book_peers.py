"""The comparison with other Python engines: same rows, same trades, and a reason where one is not installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.book_stream import generate

FAKE = """
import enum
class _Order:
    def __init__(self, side, symbol, price, quantity): self.id, self.quantity = id(self), quantity
class _Trade:
    fill_quantity = 3
class _Blotter:
    trades = [_Trade()]
class Book:
    order_map = {}
    def match(self, order): return _Blotter()
def bid(symbol, price, quantity): return _Order(0, symbol, price, quantity)
ask = bid
"""


def test_our_book_and_the_naive_one_make_the_same_trades_and_missing_peers_say_why() -> None:
    rows = peers.prefix(generate(3_000, 4), 1_000)
    lines = peers.compare(rows, sys.executable, 1)
    assert [line["engine"] for line in lines] == ["cea-exchange, bare book", "naive reference", *peers.ENGINES]
    assert lines[0]["same_trades"]
    assert lines[0]["kops"] > 0
    for line in lines[2:]:
        assert line.get("same_trades") or "not installed" in line["skipped"]


def test_a_peer_with_other_trades_is_shown_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyorderbook.py").write_text(FAKE)
    (tmp_path / "pyorderbook-0.dist-info").mkdir()
    (tmp_path / "pyorderbook-0.dist-info" / "METADATA").write_text("Name: pyorderbook\nVersion: 0.0\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    lines = peers.compare(peers.prefix(generate(300, 4), 100), sys.executable, 1)
    assert lines[-1] == {"engine": "pyorderbook", "version": "0.0", "kops": lines[-1]["kops"], "same_trades": False}


def test_the_command_line_prints_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert peers.main(["--rows", "200", "--runs", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 200
