"""The bare book against a C control on a stream of 5-column rows: ``python -m benchmarks.book FILE --json``.

FILE is ``.npy`` or ``.npy.xz``, int32, shape (N, 5): op (0 new, 1 cancel, 2 reduce by qty, 3 replace), order_id, side
(0 buy, 1 sell), price_ticks, qty; benchmarks/book_kernel.py says what each row does. Timed: everything from the first
row to the last, external ids resolved, trades hashed. Not timed: reading the file, finding the price band, making the
empty tables, and compilation (there is a warm-up run).

``mops`` is of the barest book (benchmarks/ladder_kernel.py), and so is the control; ``exchange_book_mops`` is of the
book that the exchange runs (engine/book.py), which keeps each level's quantity and count too. A band of more than
2^22 prices is run by the exchange's book alone, and ``book`` says so.

    python -m benchmarks.book FILE [--json] [--runs 9]
    python -m benchmarks.book --generate FILE [--orders 1000000] [--seed 1]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from benchmarks import control, ladder_kernel
from benchmarks.book_kernel import HASH_START, NEW, REPLACE, RESULT, ROW, run
from benchmarks.book_stream import generate
from benchmarks.conditions import conditions, describe
from benchmarks.flash1 import Band
from benchmarks.ids import FAR, IdTable, new_id_table
from benchmarks.ladder_kernel import PRICES_MAX, Ladder, new_ladder
from benchmarks.streams import StreamError, read_array, write_array
from benchmarks.timing import RUNS_MIN, Job, positive, time_in_turn
from engine.book import LEVELS_MAX, Book, new_book
from engine.memory import aligned_zeros

COLUMNS: Final = 5
DENSE_IDS_PER_ROW: Final = 16  # ids spread wider are numbered first: a table of all would be larger than a hash table
SMALLEST, LARGEST = np.iinfo(np.int32).min, np.iinfo(np.int32).max


def read_rows(path: str | Path) -> np.ndarray:
    """A stream as int32 (N, 5), C-contiguous. Raises StreamError for what is not one."""
    array = read_array(path)
    if array.ndim != 2 or array.shape[1] != COLUMNS or array.dtype.kind not in "iu":
        raise StreamError(f"{path}: must be integers of shape (N, 5), is {array.dtype} of shape {array.shape}")
    if not len(array):
        raise StreamError(f"{path}: the stream is empty")
    if not SMALLEST <= int(array.min()) <= int(array.max()) <= LARGEST:
        raise StreamError(f"{path}: values must fit int32")
    rows = np.ascontiguousarray(array, np.int32)
    for column, name, most in ((0, "op", REPLACE), (2, "side", 1)):
        used = rows[:, 0] == NEW if name == "side" else slice(None)  # only a new order's side is looked at
        values = rows[used, column]
        bad = np.flatnonzero((values < 0) | (values > most))
        if len(bad):
            raise StreamError(f"{path}: {name} {values[bad[0]]} is not one of 0 … {most}")
    return rows


def price_band(rows: np.ndarray) -> Band:
    """The band of prices at which orders can rest. Raises StreamError beyond D17."""
    prices = rows[(rows[:, 0] == NEW) | (rows[:, 0] == REPLACE), 3]
    if not len(prices):
        return Band(0, 1)
    base, top = int(prices.min()), int(prices.max())
    if top - base >= LEVELS_MAX:
        raise StreamError(f"price_ticks: {base} … {top} is a band of more than {LEVELS_MAX} ticks (D17)")
    return Band(base, top - base + 1)


def new_state(rows: np.ndarray, band: Band) -> tuple[Book, IdTable]:
    """The exchange's book for a stream, empty, with room for every order of it."""
    capacity = max(int((rows[:, 0] == NEW).sum()), 1)
    return new_book(capacity, [band.n_levels]), new_id_table(rows[:, 1])


def apply(state: tuple[Book, IdTable], rows: np.ndarray, band: Band, result: np.ndarray) -> None:
    """Apply all rows to the exchange's book; ``result`` (RESULT, (1,)) gets trades, volume and hash."""
    run(rows.view(ROW)[:, 0], *state, np.int64(band.base), result)


class LadderState(NamedTuple):
    """The barest book for a stream, and how its ids are found."""

    ladder: Ladder
    slot_of: np.ndarray  # u4: node of an id at its place: id - first_id, or its number where ids are sparse
    first_id: np.int64
    table: np.ndarray | None  # u8: the hash table of `number_ids` where ids are sparse
    places: np.ndarray | None  # u4, (N,): room for its result


def new_ladder_state(rows: np.ndarray, band: Band) -> LadderState:
    """The barest book for a stream, empty, with room for every order of it. ``band`` has at most PRICES_MAX prices."""
    ladder = new_ladder(band.n_levels, _entries(rows))
    first, last = int(rows[:, 1].min()), int(rows[:, 1].max())
    if last - first < len(rows) * DENSE_IDS_PER_ROW:
        return LadderState(ladder, _touched(last - first + 1, np.dtype("<u4")), np.int64(first), None, None)
    table = _touched(1 << (2 * len(rows)).bit_length(), np.dtype("<u8"))
    places = _touched(len(rows), np.dtype("<u4"))
    return LadderState(ladder, _touched(len(rows) + 1, np.dtype("<u4")), np.int64(first), table, places)


def _touched(n: int, dtype: np.dtype) -> np.ndarray:
    array = aligned_zeros(n, dtype)
    array.fill(0)  # its pages are there when the time begins
    return array


def apply_to_ladder(state: LadderState, rows: np.ndarray, band: Band, result: np.ndarray) -> None:
    """Apply all rows to the barest book; ``result`` (RESULT, (1,)) gets trades, volume and hash."""
    ladder, slot_of, first_id, table, places = state
    records = rows.view(ROW)[:, 0]
    if table is not None:
        ladder_kernel.number_ids(records, table, places)
    result[0] = (0, 0, HASH_START)
    # the kernel looks FAR rows ahead, so the last ones are run from a copy with something after them
    body = max(len(records) - int(FAR), 0)
    end = np.concatenate([records[body:], np.repeat(records[-1:], FAR)])
    end_places = None if places is None else np.concatenate([places[body:], np.repeat(places[-1:], FAR)])
    for some, count, at in ((records, body, places), (end, len(records) - body, end_places)):
        ladder_kernel.run(some, count, ladder, slot_of, first_id, at, np.int64(band.base), result)


def _entries(rows: np.ndarray) -> int:
    return int(((rows[:, 0] == NEW) | (rows[:, 0] == REPLACE)).sum())


def benchmark(path: str | Path, runs: int) -> dict[str, Any]:
    """Time a stream on the barest book, the exchange's and the C control, in turn, and compare their trades."""
    rows = read_rows(path)
    band = price_band(rows)
    narrow = band.n_levels <= PRICES_MAX
    results = {name: np.zeros(1, RESULT) for name in ("ladder", "exchange", "control")}
    jobs: dict[str, Job] = {
        "exchange": (lambda: new_state(rows, band), lambda state: apply(state, rows, band, results["exchange"]))
    }
    if narrow:
        jobs["ladder"] = (
            lambda: new_ladder_state(rows, band),
            lambda state: apply_to_ladder(state, rows, band, results["ladder"]),
        )
    why_not = None
    try:
        jobs["control"] = _control_job(rows, band, results["control"])
    except control.NoControl as error:
        why_not = str(error)
    timed = time_in_turn(jobs, runs)
    n = len(rows)
    ours = "ladder" if narrow else "exchange"
    result = results[ours][0]
    found: dict[str, Any] = {
        "file": Path(path).name,
        "ops": n,
        "trades": int(result["trades"]),
        "volume": int(result["volume"]),
        "trade_hash": f"{int(result['hash']):016x}",
        "book": ours,
        "mops": round(timed[ours].rate(n), 2),
        "mops_median": round(timed[ours].rate(n), 2),
        "mops_best": round(timed[ours].best_rate(n), 2),
        "mops_cpu": round(timed[ours].cpu_rate(n), 2),
        "exchange_book_mops": round(timed["exchange"].rate(n), 2),
        "exchange_book_mops_cpu": round(timed["exchange"].cpu_rate(n), 2),
        "exchange_book_identical": bool(result == results["exchange"][0]),
        "control_mops": None,
        "runs": runs,
    }
    if "control" in timed:
        found |= {
            "control_mops": round(timed["control"].rate(n), 2),
            "control_mops_best": round(timed["control"].best_rate(n), 2),
            "control_mops_cpu": round(timed["control"].cpu_rate(n), 2),
            "control_identical": bool(result == results["control"][0]),
            "ratio_to_control": round(timed[ours].rate(n) / timed["control"].rate(n), 3),
            "ratio_to_control_cpu": round(timed[ours].cpu_rate(n) / timed["control"].cpu_rate(n), 3),
        }
    else:
        found["control_skipped"] = why_not
    return found


def _control_job(rows: np.ndarray, band: Band, result: np.ndarray) -> Job:
    table = new_id_table(rows[:, 1])
    if not table.dense:
        raise control.NoControl("the control resolves ids by direct indexing only, these are too sparse for it")
    if band.n_levels > PRICES_MAX:
        raise control.NoControl("the control has an anchor for each price, this band is too wide for it")
    library = control.load("book")
    library.control_book_new.restype = ctypes.c_void_p
    i64, pointer = ctypes.c_int64, ctypes.c_void_p
    size = (i64(band.n_levels), i64(len(table.slot_of)), i64(_entries(rows)), i64(int(table.first_id)))
    books: list[Any] = []

    def prepare() -> Any:
        while books:
            library.control_book_free(books.pop())
        books.append(pointer(library.control_book_new(*size)))
        return books[0]

    def job(book: Any) -> None:
        library.control_book(
            book, pointer(rows.ctypes.data), i64(len(rows)), i64(band.base), pointer(result.ctypes.data)
        )

    return prepare, job


def main(argv: list[str] | None = None) -> int:
    """Command line. Exit code 1 when the control's or the exchange's book's trades differ, 2 for a bad file."""
    parser = argparse.ArgumentParser(prog="benchmarks.book", description="The bare book against a C control")
    parser.add_argument("file", nargs="?", help="rows, .npy or .npy.xz")
    parser.add_argument("--generate", metavar="FILE", help="write a made-up stream instead")
    parser.add_argument("--orders", type=int, default=1_000_000, help="rows to generate")
    parser.add_argument("--seed", type=int, default=1, help="of the generator")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--runs", type=positive, default=9, help=f"timed runs, at least {RUNS_MIN} for a quotable figure"
    )
    arguments = parser.parse_args(argv)
    if (arguments.file is None) == (arguments.generate is None):
        parser.error("give a file of rows or --generate FILE")
    if arguments.generate:
        write_array(arguments.generate, generate(arguments.orders, arguments.seed))
        return 0
    conditions_found = conditions()
    try:
        result = benchmark(arguments.file, arguments.runs)
    except StreamError as error:
        print(f"benchmarks.book: {error}", file=sys.stderr)
        return 2
    print(describe(conditions_found), file=sys.stderr)
    if arguments.json:
        print(json.dumps(result | {"conditions": conditions_found}))
    else:
        for name, value in result.items():
            print(f"{name:24} {value}")
    return 1 if False in (result.get("control_identical"), result["exchange_book_identical"]) else 0


if __name__ == "__main__":
    raise SystemExit(main())
