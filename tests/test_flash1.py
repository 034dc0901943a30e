"""The public benchmark: published hashes, edge cases, and random streams against the naive book."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import control, flash1
from benchmarks.flash1_kernel import MESSAGE, REPORT, reports_max
from benchmarks.flash1_text import fields, report_hash
from benchmarks.ids import DENSE_IDS_MAX
from benchmarks.naive import NaiveFlash1, Order
from benchmarks.streams import StreamError, write_array
from engine.book import LEVELS_MAX, check

BUY, SELL = 0, 1
Message = tuple[int, int, int, int, int, int]  # type, side, ioc, qty, order_id, price


def new(order_id: int, side: int, qty: int, price: int, ioc: int = 0) -> Message:
    return (0, side, ioc, qty, order_id, price)


def cancel(order_id: int, side: int = 0, price: int = 0) -> Message:
    return (1, side, 0, 0, order_id, price)


def modify(order_id: int, side: int, qty: int, price: int) -> Message:
    return (2, side, 0, qty, order_id, price)


def to_array(messages: list[Message]) -> np.ndarray:
    return np.array([(t, side, ioc, 0, qty, oid, price) for t, side, ioc, qty, oid, price in messages], MESSAGE)


def kernel_reports(messages: list[Message], batch: int | None = None) -> list[tuple[int, ...]]:
    array = to_array(messages)
    band = flash1.price_band(array)
    state = flash1.new_state(array, band)
    reports = np.zeros(reports_max(array), REPORT)
    found: list[tuple[int, ...]] = []
    batch = batch or len(array)
    for start in range(0, len(array), batch):
        n = flash1.apply(state, array, start, min(start + batch, len(array)), band, reports)
        found += fields(reports[:n])
    check(state.book)
    return found


def naive_reports(messages: list[Message]) -> list[tuple[int, ...]]:
    naive = NaiveFlash1()
    for message in messages:
        naive.apply(*message)
    return naive.reports


def random_stream(seed: int, n: int = 400, ids: int = 60, ticks: int = 12, spread: int = 1) -> list[Message]:
    """Few ids and prices, so that every corner is met: reused ids, stale cancels, deep queues, sweeps, IOC rests."""
    random = np.random.default_rng(seed)
    messages: list[Message] = []
    naive = NaiveFlash1()
    for _ in range(n):
        kind = int(random.choice(3, p=(0.6, 0.2, 0.2)))
        order_id = int(random.integers(1, ids)) * spread
        if kind == 0 and order_id in naive.book.by_id:
            kind = 2
        price = 1_000 + int(random.integers(ticks))
        message = (
            kind,
            int(random.integers(2)),
            int(random.random() < 0.2),
            int(random.integers(0, 20)),
            order_id,
            price,
        )
        naive.apply(*message)
        messages.append(message)
    return messages


@pytest.mark.parametrize("seed", range(30))
def test_random_streams_give_the_reports_of_the_naive_book_however_they_are_cut(seed: int) -> None:
    messages = random_stream(seed, ticks=(3, 12, 200)[seed % 3])
    expected = naive_reports(messages)
    assert {line[0] for line in expected} == {0, 1, 2, 3, 4, 5}
    assert kernel_reports(messages) == expected
    assert kernel_reports(messages, batch=(1, 2, 7)[seed % 3]) == expected


@pytest.mark.parametrize("spread", [1, 70_000_000])
def test_ids_up_to_the_end_of_u4_are_resolved_dense_or_sparse(spread: int) -> None:
    messages = random_stream(99, spread=spread)
    table = flash1.new_state(to_array(messages), flash1.Band(1_000, 300)).ids
    assert table.dense == (spread == 1)
    assert kernel_reports(messages) == naive_reports(messages)
    last = (1 << 32) - 1
    extreme = [
        new(last, BUY, 5, 10),
        new(0, SELL, 3, 10),
        cancel(last - 1),
        modify(last, BUY, 4, 9),
        cancel(0),
        cancel(last),
    ]
    assert last > DENSE_IDS_MAX
    assert kernel_reports(extreme) == naive_reports(extreme)


def test_an_older_order_under_a_live_id_can_only_be_filled() -> None:
    messages = [new(1, BUY, 5, 10), new(1, BUY, 7, 11), cancel(1), cancel(1), new(2, SELL, 9, 10), cancel(1), cancel(2)]
    expected = naive_reports(messages)
    assert (1, 4, 10, 5, 1, 2) in expected
    assert kernel_reports(messages) == expected


# The invariants that the published conformance gate lists, each in our own smallest sequence.
CORNERS: dict[str, list[Message]] = {
    "cancel of the head": [new(i, BUY, 10, 100) for i in (1, 2, 3)] + [cancel(1), new(4, SELL, 20, 100, 1)],
    "scattered cancels": [new(i, BUY, i, 100) for i in range(1, 40)]
    + [cancel(i) for i in (3, 7, 20, 39, 1)]
    + [new(50, SELL, 10_000, 100, 1)],
    "exact multi-level boundary": [new(1, SELL, 5, 101), new(2, SELL, 5, 102), new(3, BUY, 10, 103), cancel(3)],
    "modify into a cross": [new(1, SELL, 10, 100), new(2, BUY, 10, 90), modify(2, BUY, 12, 105), cancel(2), cancel(1)],
    "modify into a cross, sell": [new(1, BUY, 10, 200), new(2, SELL, 4, 210), modify(2, SELL, 4, 195), cancel(2)],
    "modify to the other side": [new(1, BUY, 10, 100), new(2, BUY, 5, 99), modify(1, SELL, 8, 99), cancel(1)],
    "modify of a rest": [new(1, SELL, 10, 100), new(2, BUY, 4, 100), modify(1, SELL, 6, 101), new(3, BUY, 9, 101)],
    "modify keeps no priority": [new(1, BUY, 5, 9), new(2, BUY, 5, 9), modify(1, BUY, 5, 9), new(3, SELL, 5, 9)],
    "stale cancel after a fill": [new(1, SELL, 5, 9), new(2, BUY, 5, 9), cancel(1), cancel(2), modify(1, SELL, 5, 9)],
    "id reused after a cancel": [new(1, SELL, 5, 9), cancel(1), new(1, BUY, 6, 8), new(2, SELL, 6, 8), cancel(1)],
    "id reused after a fill": [new(1, SELL, 5, 9), new(2, BUY, 5, 9), new(1, SELL, 7, 9), cancel(1), cancel(1)],
    "immediate order's rest": [new(1, SELL, 5, 9), new(2, BUY, 8, 9, 1), cancel(2), new(3, SELL, 3, 9)],
    "immediate order without a cross": [new(1, SELL, 5, 9), new(2, BUY, 8, 8, 1), new(3, BUY, 1, 1, 1), cancel(2)],
    "quantity 0": [
        new(1, BUY, 0, 9),
        cancel(1),
        new(2, BUY, 0, 9, 1),
        new(3, SELL, 5, 9),
        modify(3, SELL, 0, 9),
        cancel(3),
    ],
    "largest quantity": [new(i, BUY, 0xFFFFFFFF, 9) for i in (1, 2, 3)] + [new(4, SELL, 0xFFFFFFFF, 9), cancel(2)],
    "largest price": [new(1, BUY, 1, 0xFFFFFFFF), new(2, SELL, 1, 0xFFFFFFFE), new(3, SELL, 2, 0xFFFFFFFF), cancel(3)],
    "price 0": [new(1, SELL, 1, 0), new(2, BUY, 1, 0), new(3, BUY, 4, 0), cancel(3, price=77)],
    "deep sweep": [new(i, SELL, 1, 100) for i in range(1, 5_001)] + [new(5_001, BUY, 5_000, 100), cancel(17)],
    "phantom best": [
        new(1, BUY, 1, 9),
        new(2, BUY, 1, 5),
        cancel(1),
        new(3, SELL, 1, 6),
        cancel(3),
        cancel(2),
        cancel(2),
    ],
    "only unknown ids": [cancel(9), modify(9, BUY, 1, 5), cancel(0xFFFFFFFF)],
}


@pytest.mark.parametrize("corner", CORNERS)
def test_the_kernel_reports_as_the_naive_book_in_the_corner(corner: str) -> None:
    messages = CORNERS[corner]
    assert kernel_reports(messages) == naive_reports(messages)
    assert kernel_reports(messages, batch=1) == naive_reports(messages)


def _modify_keeps_place(
    naive: NaiveFlash1, kind: int, side: int, ioc: int, qty: int, order_id: int, price: int
) -> None:
    order = naive.book.by_id.get(order_id)
    if kind == 2 and order is not None and (order.side, order.price) == (side, price) and qty:
        naive.reports.append((3, naive.seq, side, order_id, price, qty))
        order.leaves = qty
        naive.seq += 1
    else:
        NaiveFlash1.apply(naive, kind, side, ioc, qty, order_id, price)


def _rests_immediate(naive: NaiveFlash1, kind: int, side: int, _: int, qty: int, order_id: int, price: int) -> None:
    NaiveFlash1.apply(naive, kind, side, 0, qty, order_id, price)


def _accepts_stale(naive: NaiveFlash1, kind: int, side: int, ioc: int, qty: int, order_id: int, price: int) -> None:
    if kind == 1 and order_id not in naive.book.by_id:
        naive.reports.append((2, naive.seq, side, order_id, price))
        naive.seq += 1
    else:
        NaiveFlash1.apply(naive, kind, side, ioc, qty, order_id, price)


@pytest.mark.parametrize("fault", [_modify_keeps_place, _rests_immediate, _accepts_stale])
def test_the_streams_tell_a_planted_fault_from_the_rules(fault: Callable[..., None]) -> None:
    messages = random_stream(1)
    naive = NaiveFlash1()
    for message in messages:
        fault(naive, *message)
    assert naive.reports != kernel_reports(messages)


def test_the_streams_tell_taker_priced_trades_from_the_rules() -> None:
    messages = random_stream(1)
    naive = NaiveFlash1()

    def trade_at_the_takers_price(maker: Order, taker_id: int, price: int, qty: int) -> None:
        naive.reports.append((1, naive.seq, messages[naive.seq][5], qty, maker.order_id, taker_id))

    naive.book.on_trade = trade_at_the_takers_price
    for message in messages:
        naive.apply(*message)
    assert naive.reports != kernel_reports(messages)


@pytest.mark.parametrize("scenario", ["normal", pytest.param("flash-crash", marks=pytest.mark.slow)])
def test_a_published_scenario_gives_its_published_hash(shared_data: Path, scenario: str) -> None:
    messages = flash1.read_messages(shared_data / "flash1" / f"flash1_{scenario}.npy.xz")
    band = flash1.price_band(messages)
    reports = np.zeros(reports_max(messages), REPORT)
    n = flash1.apply(flash1.new_state(messages, band), messages, 0, len(messages), band, reports)
    assert report_hash(reports[:n]) == flash1.PUBLISHED[scenario]


def test_the_hash_is_that_of_the_lines_joined_by_newlines() -> None:
    reports = np.zeros(70_000, REPORT)
    random = np.random.default_rng(3)
    for name, most in (("seq", 1 << 32), ("price", 1 << 32), ("qty", 101), ("order_id", 1 << 32), ("taker_id", 12)):
        reports[name] = random.integers(most, size=len(reports))
    reports["kind"] = random.integers(6, size=len(reports))
    reports["side"] = random.integers(2, size=len(reports))
    reports[:2]["seq"] = (0, 0xFFFFFFFF)
    for n in (1, 2, 65_536, 65_537, 70_000):
        text = "\n".join(",".join(map(str, line)) for line in fields(reports[:n]))
        assert report_hash(reports[:n]) == hashlib.sha256(text.encode()).hexdigest()
    whole = report_hash(reports)
    reports[66_000]["seq"] ^= 1
    assert report_hash(reports) != whole


def test_the_given_edge_cases_pass(shared_data: Path) -> None:
    result = flash1.edge_cases(shared_data / "flash1" / "edge_cases.json")
    assert (result["cases"], result["passed"], result["failed"]) == (16, 16, 0)


def case_file(folder: Path, **change: object) -> Path:
    step = {"msg": [0, 0, 0, 10, 1, 100], "reports": [[0, 0, 0, 1, 100, 10]], "best_bid": 100, "best_ask": None}
    path = folder / "cases.json"
    path.write_text(json.dumps({"cases": {"good": [step], "other": [step | change]}}))
    return path


@pytest.mark.parametrize(
    "change",
    [
        {"reports": [[0, 0, 0, 1, 100, 9]]},
        {"reports": []},
        {"best_bid": 99},
        {"best_bid": None},
        {"best_ask": 100},
        {"msg": [0, 1, 0, 10, 1, 100]},
        {"msg": [3, 0, 0, 10, 1, 100]},
        {"msg": [0, 0, 0, 10, 1, 1 << 40]},
        {"msg": [0, 0, 0, 10.5, 1, 100]},
        {"msg": [0, 0, 0, 10]},
        {"msg": None},
    ],
)
def test_an_edge_case_that_expects_something_else_fails(
    tmp_path: Path, change: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert flash1.main(["--edge-cases", str(case_file(tmp_path, **change)), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert (result["cases"], result["passed"], result["failed"]) == (2, 1, 1)
    assert result["failures"][0]["case"] == "other"


@pytest.mark.parametrize("steps", [[], [{"msg": [0, 0, 0, 10, 1, 100]}], [7], None])
def test_an_edge_case_that_can_not_fail_fails(tmp_path: Path, steps: object) -> None:
    path = tmp_path / "cases.json"
    path.write_text(json.dumps({"cases": {"empty": steps}}))
    result = flash1.edge_cases(path)
    assert (result["cases"], result["passed"], result["failed"]) == (1, 0, 1)


@pytest.mark.parametrize("text", ["{", "[1]", '{"cases": []}', '{"cases": 3}', "{}"])
def test_a_file_that_holds_no_edge_cases_is_refused(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cases.json"
    path.write_text(text)
    assert flash1.main(["--edge-cases", str(path)]) == 2
    assert "cannot be read as a file of edge cases" in capsys.readouterr().err


def test_no_run_at_all_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for runs in ("0", "-1", "x"):
        with pytest.raises(SystemExit, match="2"):
            flash1.main([str(tmp_path / "s.npy"), "--runs", runs])
        assert "not a whole number of at least 1" in capsys.readouterr().err


def small_stream() -> np.ndarray:
    return to_array(random_stream(7, n=3_000, ids=800, ticks=40))


@pytest.mark.parametrize("name", ["flash1_small.npy", "flash1_small.npy.xz"])
def test_the_command_line_times_a_stream_and_prints_json(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    messages = small_stream()
    write_array(tmp_path / name, messages)
    assert flash1.main([str(tmp_path / name), "--json", "--runs", "7"]) == 0
    result = json.loads(capsys.readouterr().out)
    naive = naive_reports([(m[0], m[1], m[2], m[4], m[5], m[6]) for m in messages.tolist()])
    assert (result["scenario"], result["messages"], result["reports"]) == ("small", 3_000, len(naive))
    assert result["mmsgs_per_s"] > 0
    assert result["conditions"]["cpu"]
    if "control_skipped" not in result:
        assert result["control_identical"] is True
        assert result["control_mmsgs_per_s"] > 0


def test_without_a_compiler_the_control_is_skipped_with_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "compiler", lambda: None)
    write_array(tmp_path / "s.npy", small_stream())
    assert flash1.main([str(tmp_path / "s.npy"), "--json", "--runs", "1"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["control_mmsgs_per_s"] is None
    assert "compiler" in result["control_skipped"]


def bad_streams() -> Iterator[tuple[str, np.ndarray]]:
    good = small_stream()
    for name, field, value in (("type", "type", 3), ("side", "side", 2)):
        bad = good.copy()
        bad[17][field] = value
        yield name, bad
    wide = good.copy()
    wide[:2] = to_array([new(1, BUY, 1, 1), new(2, BUY, 1, 1 + LEVELS_MAX)])
    yield "price", wide
    yield "empty", good[:0]
    yield "records", np.zeros((4, 5), np.int32)
    too_large = good.astype([(name, "i8") for name in MESSAGE.names or ()])
    too_large["qty"][3] = 1 << 32
    yield "qty", too_large


@pytest.mark.parametrize(("word", "array"), list(bad_streams()))
def test_a_bad_stream_is_refused_with_its_field(
    tmp_path: Path, word: str, array: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    write_array(tmp_path / "bad.npy", array)
    assert flash1.main([str(tmp_path / "bad.npy"), "--json"]) == 2
    output = capsys.readouterr()
    assert word in output.err
    assert not output.out


def test_a_file_that_is_no_array_is_refused(tmp_path: Path) -> None:
    for name in ("a.npy", "a.npy.xz"):
        (tmp_path / name).write_bytes(b"no array")
        with pytest.raises(StreamError, match=r"a\.npy"):
            flash1.read_messages(tmp_path / name)
    with pytest.raises(StreamError, match="missing"):
        flash1.read_messages(tmp_path / "missing.npy")
