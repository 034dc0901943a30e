"""The bare-book benchmark: its rows' rules against the naive book, its hash, its command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import book as bench
from benchmarks import ladder_kernel
from benchmarks.book_kernel import HASH_START, RESULT, ROW
from benchmarks.book_stream import generate
from benchmarks.ids import FAR
from benchmarks.naive import NaiveRows
from benchmarks.streams import read_array, write_array
from engine.book import LEVELS_MAX, check

NEW, CANCEL, REDUCE, REPLACE = 0, 1, 2, 3
BUY, SELL = 0, 1
Row = tuple[int, int, int, int, int]  # op, order_id, side, price, qty
Outcome = tuple[int, int, int]  # trades, volume, hash


def kernel_outcome(rows: np.ndarray) -> Outcome:
    band = bench.price_band(rows)
    state = bench.new_state(rows, band)
    result = np.zeros(1, RESULT)
    bench.apply(state, rows, band, result)
    check(state[0])
    outcome = outcome_of(result)
    assert ladder_outcome(rows) == outcome
    return outcome


def ladder_outcome(rows: np.ndarray) -> Outcome:
    band = bench.price_band(rows)
    state = bench.new_ladder_state(rows, band)
    result = np.zeros(1, RESULT)
    bench.apply_to_ladder(state, rows, band, result)
    ladder_kernel.check(state.ladder, state.slot_of, band.n_levels)
    return outcome_of(result)


def outcome_of(result: np.ndarray) -> Outcome:
    trades, volume, trade_hash = (int(result[name][0]) for name in ("trades", "volume", "hash"))
    return trades, volume, trade_hash


def naive_outcome(rows: np.ndarray, naive: NaiveRows | None = None) -> Outcome:
    naive = naive or NaiveRows()
    naive.apply_all(rows.tolist())
    return naive.trades, naive.volume, naive.hash


def as_rows(rows: list[Row]) -> np.ndarray:
    return np.array(rows, np.int32)


def random_rows(seed: int, n: int = 600, ids: int = 60, ticks: int = 15, base: int = 100) -> np.ndarray:
    """Few ids and prices: live ids entered again, unknown ids, quantities of 0 and less, replaces that trade."""
    random = np.random.default_rng(seed)
    rows = np.empty((n, 5), np.int32)
    rows[:, 0] = random.choice(4, size=n, p=(0.55, 0.15, 0.15, 0.15))
    rows[:, 1] = random.integers(ids, size=n)
    rows[:, 2] = random.integers(2, size=n)
    rows[:, 3] = base + random.integers(ticks, size=n)
    rows[:, 4] = random.integers(-1, 15, size=n)
    return rows


@pytest.mark.parametrize("seed", range(20))
def test_random_rows_give_the_trades_of_the_naive_book(seed: int) -> None:
    rows = random_rows(seed, ticks=(4, 15, 300)[seed % 3], base=(100, -7, -2_000_000_000)[seed % 3])
    outcome = kernel_outcome(rows)
    assert outcome[0] > 50
    assert outcome == naive_outcome(rows)


@pytest.mark.parametrize("transform", [lambda x: x * 30_000_000, lambda x: x - 30, lambda x: (x - 30) * 60_000_000])
def test_ids_may_be_sparse_or_negative(transform: Callable[[np.ndarray], np.ndarray]) -> None:
    rows = random_rows(3)
    rows[:, 1] = transform(rows[:, 1].astype(np.int64))
    assert kernel_outcome(rows) == naive_outcome(rows)


CORNERS: dict[str, tuple[list[Row], int, int]] = {  # rows, trades, volume
    "reduce keeps priority": (
        [(NEW, 1, BUY, 9, 5), (NEW, 2, BUY, 9, 5), (REDUCE, 1, 0, 0, 3), (NEW, 3, SELL, 9, 2), (CANCEL, 1, 0, 0, 0)],
        1,
        2,
    ),
    "reduce by all removes": ([(NEW, 1, BUY, 9, 5), (REDUCE, 1, 0, 0, 5), (NEW, 3, SELL, 9, 2)], 0, 0),
    "reduce by more removes": ([(NEW, 1, BUY, 9, 5), (REDUCE, 1, 0, 0, 99), (NEW, 3, SELL, 9, 2)], 0, 0),
    "replace trades": ([(NEW, 1, BUY, 9, 5), (NEW, 2, SELL, 12, 5), (REPLACE, 1, BUY, 12, 7)], 1, 5),
    "replace keeps its own side": ([(NEW, 1, BUY, 9, 5), (REPLACE, 1, SELL, 9, 5), (NEW, 2, SELL, 9, 5)], 1, 5),
    "replace to nothing removes": ([(NEW, 1, BUY, 9, 5), (REPLACE, 1, BUY, 9, 0), (NEW, 2, SELL, 9, 5)], 0, 0),
    "a live id is not entered again": ([(NEW, 1, BUY, 9, 5), (NEW, 1, BUY, 9, 5), (NEW, 2, SELL, 9, 9)], 1, 5),
    "a dead id may come again": (
        [(NEW, 1, BUY, 9, 5), (CANCEL, 1, 0, 0, 0), (NEW, 1, BUY, 9, 4), (NEW, 2, SELL, 1, 9)],
        1,
        4,
    ),
    "unknown ids are ignored": (
        [(CANCEL, 1, 0, 0, 0), (REDUCE, 2, 0, 0, 1), (REPLACE, 3, 0, 5, 5), (NEW, 4, SELL, 5, 5)],
        0,
        0,
    ),
    "a price beyond the band on a cancel": (
        [(NEW, 1, BUY, 9, 5), (CANCEL, 1, 0, -(1 << 31), 0), (NEW, 2, SELL, 9, 1)],
        0,
        0,
    ),
    "largest values": (
        [(NEW, 2**31 - 1, BUY, 2**31 - 1, 2**31 - 1), (NEW, -(2**31), SELL, 2**31 - 1, 2**31 - 1)],
        1,
        2**31 - 1,
    ),
    "only cancels": ([(CANCEL, 1, 0, 0, 0)], 0, 0),
}


@pytest.mark.parametrize("corner", CORNERS)
def test_the_kernel_and_the_naive_book_agree_in_the_corner(corner: str) -> None:
    rows, trades, volume = CORNERS[corner]
    outcome = kernel_outcome(as_rows(rows))
    assert outcome[:2] == (trades, volume)
    assert outcome == naive_outcome(as_rows(rows))


def test_the_hash_follows_its_definition_trade_by_trade() -> None:
    rows = as_rows([(NEW, 7, BUY, 100, 5), (NEW, 8, BUY, 101, 5), (NEW, 9, SELL, 100, 7)])
    h = 1469598103934665603
    for x in (8, 9, 101, 5, 7, 9, 100, 2):
        h = (h ^ x) * 1099511628211 % 2**64
    assert kernel_outcome(rows) == (2, 7, h)


class ReplaceKeepsItsPlace(NaiveRows):
    def apply(self, op: int, order_id: int, side: int, price: int, qty: int) -> None:
        order = self.book.by_id.get(order_id)
        if op == REPLACE and order is not None and price == order.price and qty > 0:
            order.leaves = qty
        else:
            super().apply(op, order_id, side, price, qty)


class ReduceLosesItsPlace(NaiveRows):
    def apply(self, op: int, order_id: int, side: int, price: int, qty: int) -> None:
        order = self.book.by_id.get(order_id)
        if op == REDUCE and order is not None and 0 < qty < order.leaves:
            self.book.take_out(order)
            self.book.rest(order_id, order.side, order.price, order.leaves - qty)
        else:
            super().apply(op, order_id, side, price, qty)


class LastComesFirst(NaiveRows):
    def enter(self, order_id: int, side: int, price: int, qty: int) -> None:
        super().enter(order_id, side, price, qty)
        queue = self.book.sides[side].get(price, [])
        queue.reverse()


class ReplaceTakesTheRowsSide(NaiveRows):
    def apply(self, op: int, order_id: int, side: int, price: int, qty: int) -> None:
        order = self.book.by_id.get(order_id)
        if op == REPLACE and order is not None and qty > 0:
            self.book.take_out(order)
            self.enter(order_id, side, price, qty)
        else:
            super().apply(op, order_id, side, price, qty)


@pytest.mark.parametrize("fault", [ReplaceKeepsItsPlace, ReduceLosesItsPlace, LastComesFirst, ReplaceTakesTheRowsSide])
def test_the_rows_tell_a_planted_fault_from_the_rules(fault: type[NaiveRows]) -> None:
    rows = random_rows(0, n=2_000, ticks=4)
    assert naive_outcome(rows, fault()) != kernel_outcome(rows)


def test_a_generated_stream_is_lifelike_and_the_same_for_the_same_seed() -> None:
    rows = generate(20_000, 5)
    assert np.array_equal(rows, generate(20_000, 5))
    assert not np.array_equal(rows, generate(20_000, 6))
    shares = np.bincount(rows[:, 0], minlength=4) / len(rows)
    assert shares == pytest.approx([0.55, 0.32, 0.07, 0.06], abs=0.02)
    outcome = kernel_outcome(rows)
    assert outcome == naive_outcome(rows)
    assert 0.05 * len(rows) < outcome[0] < 0.6 * len(rows)


@pytest.mark.parametrize("name", ["rows.npy", "rows.npy.xz"])
def test_the_command_line_generates_and_times_a_stream(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / name)
    assert bench.main(["--generate", path, "--orders", "5000", "--seed", "2"]) == 0
    assert bench.main([path, "--json", "--runs", "7"]) == 0
    result = json.loads(capsys.readouterr().out)
    trades, volume, trade_hash = naive_outcome(read_array(path))
    assert (result["ops"], result["trades"], result["volume"]) == (5_000, trades, volume)
    assert result["trade_hash"] == f"{trade_hash:016x}"
    assert result["mops"] > 0
    assert result["exchange_book_mops"] > 0
    assert (result["book"], result["exchange_book_identical"]) == ("ladder", True)
    assert result["conditions"]["numba"]
    if "control_skipped" not in result:
        assert result["control_identical"] is True


@pytest.mark.parametrize("seed", range(6))
def test_the_control_makes_the_same_trades_on_random_rows(seed: int, tmp_path: Path) -> None:
    write_array(tmp_path / "rows.npy", random_rows(seed, n=3_000, ids=300, ticks=(5, 40, 70_000)[seed % 3]))
    result = bench.benchmark(tmp_path / "rows.npy", 1)
    assert result.get("control_identical", "control_skipped" in result)


@pytest.mark.parametrize("cut", [1, 5, 64])
def test_the_ladder_may_be_run_in_pieces_of_any_length(cut: int) -> None:
    rows = random_rows(4)
    state = bench.new_ladder_state(rows, band := bench.price_band(rows))
    result = np.array([(0, 0, HASH_START)], RESULT)
    padded = np.concatenate([rows, rows[-1:].repeat(FAR, 0)]).view(ROW)[:, 0]
    for start in range(0, len(rows), cut):
        count = min(cut, len(rows) - start)
        ladder_kernel.run(
            padded[start:], count, state.ladder, state.slot_of, state.first_id, None, np.int64(band.base), result
        )
        ladder_kernel.check(state.ladder, state.slot_of, band.n_levels)
    assert outcome_of(result) == naive_outcome(rows)


def spread_rows(seed: int) -> np.ndarray:
    """Prices as far apart as the ladder's band, so that every tier of its bitmap is gone through."""
    rows = random_rows(seed, n=800, ids=300, ticks=1 << 22)
    rows[:, 3] = 7 + np.array([0, 1, 63, 64, 4095, 4096, 1 << 18, (1 << 22) - 1])[rows[:, 3] % 8]
    return rows


def test_the_best_price_is_found_across_all_tiers_of_the_bitmap() -> None:
    rows = spread_rows(1)
    assert bench.price_band(rows).n_levels == ladder_kernel.PRICES_MAX
    outcome = kernel_outcome(rows)
    assert outcome[0] > 100
    assert outcome == naive_outcome(rows)


def test_a_band_too_wide_for_the_ladder_runs_on_the_exchanges_book(tmp_path: Path) -> None:
    rows = as_rows([(NEW, 1, BUY, 0, 5), (NEW, 2, SELL, 1 << 22, 5), (NEW, 3, SELL, 0, 2)])
    write_array(tmp_path / "rows.npy", rows)
    result = bench.benchmark(tmp_path / "rows.npy", 1)
    assert (result["book"], result["trades"], result["volume"]) == ("exchange", 1, 2)
    assert "too wide" in result["control_skipped"]
    assert result["trade_hash"] == f"{naive_outcome(rows)[2]:016x}"


LADDER_FAULTS: dict[str, Callable[[ladder_kernel.Ladder], None]] = {
    "node 0": lambda ladder: ladder.nodes["next"].__setitem__(0, 1),
    "prev of node": lambda ladder: ladder.nodes["prev"].__setitem__(ladder.nodes["next"][1], 2),
    "is dead": lambda ladder: ladder.nodes["leaves"].__setitem__(ladder.nodes["next"][1], 0),
    "no bit": lambda ladder: ladder.bitmap.__setitem__(0, 0),
    "an ask is better": lambda ladder: ladder.best.__setitem__(0, 1 << 60),
    "a bid is better": lambda ladder: ladder.best.__setitem__(1, 1 << 60),
    "crossed": lambda ladder: ladder.nodes["leaves"].__setitem__(ladder.nodes["next"][3], 5),
    "living orders": lambda ladder: ladder.nodes["next"].__setitem__(1, 1) or ladder.nodes["prev"].__setitem__(1, 1),
}


@pytest.mark.parametrize("fault", LADDER_FAULTS)
def test_the_ladders_check_finds_a_planted_fault(fault: str) -> None:
    rows = as_rows([(NEW, 1, BUY, 0, 5), (NEW, 2, SELL, 1, 5), (NEW, 3, SELL, 2, 5), (CANCEL, 2, 0, 0, 0)])
    rows = np.concatenate([rows, as_rows([(NEW, 4, SELL, 1, 6), (NEW, 5, BUY, 0, 7)])])
    band = bench.price_band(rows)
    state = bench.new_ladder_state(rows, band)
    bench.apply_to_ladder(state, rows, band, np.zeros(1, RESULT))
    ladder_kernel.check(state.ladder, state.slot_of, band.n_levels)
    LADDER_FAULTS[fault](state.ladder)
    if fault == "crossed":
        state.ladder.nodes["leaves"][state.ladder.nodes["next"][1]] |= 1 << 31
    with pytest.raises(AssertionError, match=fault):
        ladder_kernel.check(state.ladder, state.slot_of, band.n_levels)


@pytest.mark.parametrize(
    ("word", "array"),
    [
        ("op", as_rows([(4, 1, 0, 5, 5)])),
        ("side", as_rows([(NEW, 1, 2, 5, 5)])),
        ("price_ticks", as_rows([(NEW, 1, 0, 0, 5), (NEW, 2, 0, LEVELS_MAX, 5)])),
        ("shape", np.zeros((3, 4), np.int32)),
        ("int32", np.full((1, 5), 1 << 40)),
        ("integers", np.zeros((1, 5), np.float64)),
        ("empty", np.zeros((0, 5), np.int32)),
    ],
)
def test_a_bad_stream_is_refused_with_its_reason(
    tmp_path: Path, word: str, array: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    write_array(tmp_path / "bad.npy", array)
    assert bench.main([str(tmp_path / "bad.npy")]) == 2
    assert word in capsys.readouterr().err


def test_a_side_that_is_not_looked_at_may_be_anything(tmp_path: Path) -> None:
    write_array(tmp_path / "rows.npy", as_rows([(NEW, 1, BUY, 5, 5), (REPLACE, 1, -1, 6, 5), (CANCEL, 1, -1, 0, 0)]))
    assert bench.read_rows(tmp_path / "rows.npy").shape == (3, 5)
