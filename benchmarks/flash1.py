"""The public matching-engine benchmark's streams and edge cases: ``python -m benchmarks.flash1 FILE --json``.

Source: arXiv 2606.01183 and the harness published with it. A stream is an array of MESSAGE records (.npy or .npy.xz);
its result is the SHA-256 of the reports, one text line each, in the order in which they arise. Timed: external ids
resolved, matching, all six kinds of reports written as records. Not timed: reading the file, finding the price band,
compilation (a warm-up run), rendering the text and its hash.

    python -m benchmarks.flash1 FILE [--json] [--runs 9]
    python -m benchmarks.flash1 --edge-cases FILE [--json]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
from operator import index
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from benchmarks import control
from benchmarks.conditions import conditions, describe
from benchmarks.flash1_kernel import CANCEL, MESSAGE, MODIFY, REPORT, REPORT_WORDS, reports_max, run
from benchmarks.flash1_text import fields, report_hash
from benchmarks.ids import IdTable, new_id_table
from benchmarks.streams import StreamError, read_array
from benchmarks.timing import RUNS_MIN, Job, positive, time_in_turn
from engine.book import LEVELS_MAX, NIL, Book, new_book

PUBLISHED: Final = {
    "static": "9803843ee404fc29c9a0aa5614f8f0d5a58b5c44fcac9ef89067886fcaaa30d1",
    "normal": "e9b2e3926854410b01a035aeb25dd05f1e597c233be8263de9eb49b6713d367e",
    "swing-25": "61a84be9469661bd039e00dbc9a7c011e70b6ace37aadfe60045ea083b05f4df",
    "swing-40": "3cb0175e7982ff09ea220d1feaee3844cf9116a5ce455757879dea1d880b9b9f",
    "flash-crash": "cff8d3f94b709fc64a8b2058a6ca4fb6920364904796e46906895e362d2bb16b",
}
"""The published results of the five scenarios (seed 23), to compare with what a run computes."""

PUBLISHED_MESSAGES: Final = 1_996_097  # of each of the five; another count is another stream of the same name


EXPECTATIONS: Final = ("reports", "best_bid", "best_ask")
"""What a step of an edge case may say of the state after its message."""


class Band(NamedTuple):
    """The prices that a stream uses: tick 0 is ``base``."""

    base: int
    n_levels: int


class State(NamedTuple):
    """A book and the table of external ids: what `run` works on."""

    book: Book
    ids: IdTable


def read_messages(path: str | Path) -> np.ndarray:
    """A stream as MESSAGE records. Raises StreamError for what is not one."""
    array = read_array(path)
    if array.ndim != 1 or array.dtype.names is None or set(MESSAGE.names or ()) - {"pad"} - set(array.dtype.names):
        raise StreamError(f"{path}: must be one column of records with the fields {', '.join(MESSAGE.names or ())}")
    messages = np.zeros(len(array), MESSAGE)
    for name in MESSAGE.names or ():
        if name in array.dtype.names:
            info = np.iinfo(MESSAGE[name])
            values = array[name]
            if len(values) and not info.min <= int(values.min()) <= int(values.max()) <= info.max:
                raise StreamError(f"{path}: field {name} is outside {info.min} … {info.max}")
            messages[name] = values
    _validate(messages, str(path))
    return messages


def _validate(messages: np.ndarray, where: str) -> None:
    if not len(messages):
        raise StreamError(f"{where}: the stream is empty")
    for name, most in (("type", MODIFY), ("side", 1)):
        bad = np.flatnonzero(messages[name] > most)
        if len(bad):
            raise StreamError(f"{where}: message {bad[0]}: {name} {messages[name][bad[0]]} is not one of 0 … {most}")


def price_band(messages: np.ndarray) -> Band:
    """The band of prices at which orders can rest; a cancel's price is not looked at. Raises StreamError beyond D17."""
    prices = messages["price"][messages["type"] != CANCEL]
    if not len(prices):
        return Band(0, 1)
    base, top = int(prices.min()), int(prices.max())
    if top - base >= LEVELS_MAX:
        raise StreamError(f"price: {base} … {top} is a band of more than {LEVELS_MAX} ticks (D17)")
    return Band(base, top - base + 1)


def new_state(messages: np.ndarray, band: Band) -> State:
    """An empty book for a stream, with room for every order of it."""
    capacity = max(int((messages["type"] == 0).sum()), 1)
    return State(new_book(capacity, [band.n_levels]), new_id_table(messages["order_id"]))


def apply(state: State, messages: np.ndarray, start: int, stop: int, band: Band, reports: np.ndarray) -> int:
    """Apply ``messages[start:stop]``; returns how many of ``reports`` are written."""
    return int(run(messages, start, stop, state.book, state.ids, np.uint64(band.base), reports.view(REPORT_WORDS)))


def best_prices(state: State, band: Band) -> tuple[int | None, int | None]:
    """Best bid and best ask, None where a side is empty."""
    bid, ask = (int(side["best"]) for side in state.book.sides)
    return (None if bid == NIL else band.base + band.n_levels - 1 - bid, None if ask == NIL else band.base + ask)


def benchmark(path: str | Path, runs: int) -> dict[str, Any]:
    """Time a stream against the C control, in turn, and hash what both wrote."""
    messages = read_messages(path)
    band = price_band(messages)
    reports = np.zeros(reports_max(messages), REPORT)
    counts: dict[str, int] = {}

    def ours(state: State) -> None:
        counts["ours"] = apply(state, messages, 0, len(messages), band, reports)

    jobs: dict[str, Job] = {"ours": (lambda: new_state(messages, band), ours)}
    control_reports = np.zeros(0, REPORT)
    why_not = None
    try:
        prepare, job, control_reports = _control_job(messages, band, counts)
        jobs["control"] = (prepare, job)
    except control.NoControl as error:
        why_not = str(error)
    timed = time_in_turn(jobs, runs)
    n = len(messages)
    written = reports[: counts["ours"]]
    sha256 = report_hash(written)
    scenario = Path(path).name.split(".")[0].removeprefix("flash1_")
    published = PUBLISHED.get(scenario) if n == PUBLISHED_MESSAGES else None
    result: dict[str, Any] = {
        "scenario": scenario,
        "messages": n,
        "reports": len(written),
        "sha256": sha256,
        "published": None if published is None else published == sha256,
        "mmsgs_per_s": round(timed["ours"].rate(n), 2),
        "mmsgs_per_s_median": round(timed["ours"].rate(n), 2),
        "mmsgs_per_s_best": round(timed["ours"].best_rate(n), 2),
        "mmsgs_per_s_cpu": round(timed["ours"].cpu_rate(n), 2),
        "control_mmsgs_per_s": None,
        "runs": runs,
    }
    if "control" in timed:
        result |= {
            "control_mmsgs_per_s": round(timed["control"].rate(n), 2),
            "control_mmsgs_per_s_best": round(timed["control"].best_rate(n), 2),
            "control_mmsgs_per_s_cpu": round(timed["control"].cpu_rate(n), 2),
            "control_identical": bool(np.array_equal(written, control_reports[: counts["control"]])),
            "ratio_to_control": round(timed["ours"].rate(n) / timed["control"].rate(n), 3),
            "ratio_to_control_cpu": round(timed["ours"].cpu_rate(n) / timed["control"].cpu_rate(n), 3),
        }
    else:
        result["control_skipped"] = why_not
    return result


def _control_job(messages: np.ndarray, band: Band, counts: dict[str, int]) -> tuple[Any, Any, np.ndarray]:
    table = new_id_table(messages["order_id"])
    if not table.dense:
        raise control.NoControl("the control resolves ids by direct indexing only, these are too sparse for it")
    library = control.load("flash1")
    library.control_flash1_new.restype = ctypes.c_void_p
    library.control_flash1.restype = ctypes.c_int64
    reports = np.zeros(reports_max(messages), REPORT)
    i64, pointer = ctypes.c_int64, ctypes.c_void_p
    orders = max(int((messages["type"] == 0).sum()), 1)

    first_id = int(messages["order_id"].min())
    size = (i64(band.n_levels), i64(len(table.slot_of)), i64(orders), i64(first_id))
    books: list[Any] = []

    def prepare() -> Any:
        while books:
            library.control_flash1_free(books.pop())
        books.append(pointer(library.control_flash1_new(*size)))
        return books[0]

    def job(book: Any) -> None:
        arguments = (pointer(messages.ctypes.data), i64(len(messages)), ctypes.c_uint32(band.base))
        counts["control"] = library.control_flash1(book, *arguments, pointer(reports.ctypes.data))

    return prepare, job, reports


def edge_cases(path: str | Path) -> dict[str, Any]:
    """Run a JSON file's named small cases; compare reports, best bid and best ask after every message."""
    try:
        cases = json.loads(Path(path).read_text())["cases"]
        if not isinstance(cases, dict):
            raise TypeError("cases must be an object: name to list of steps")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StreamError(f"{path}: cannot be read as a file of edge cases: {error!r}") from error
    failures = [failure for name, steps in cases.items() if (failure := _failure(name, steps)) is not None]
    return {"cases": len(cases), "passed": len(cases) - len(failures), "failed": len(failures), "failures": failures}


def _failure(name: str, steps: list[dict[str, Any]]) -> dict[str, Any] | None:
    try:
        messages = np.zeros(len(steps), MESSAGE)
        for i, step in enumerate(steps):
            kind, side, ioc, qty, order_id, price = (index(number) for number in step["msg"])
            messages[i] = (kind, side, ioc, 0, qty, order_id, price)
        _validate(messages, name)
        band = price_band(messages)
        if not any(step.keys() & EXPECTATIONS for step in steps):
            raise StreamError(f"{name}: expects nothing, neither {', '.join(EXPECTATIONS)}")
    except (StreamError, OverflowError, ValueError, KeyError, TypeError, AttributeError) as error:
        return {"case": name, "error": str(error)}
    state = new_state(messages, band)
    reports = np.zeros(reports_max(messages), REPORT)
    for i, step in enumerate(steps):
        written = apply(state, messages, i, i + 1, band, reports)
        got = {"reports": [list(line) for line in fields(reports[:written])]}
        bid, ask = best_prices(state, band)
        got |= {"best_bid": bid, "best_ask": ask}  # type: ignore[dict-item]
        expected = {key: step[key] for key in got if key in step}
        if expected != {key: got[key] for key in expected}:
            return {"case": name, "message": i, "expected": expected, "got": got}
    return None


def main(argv: list[str] | None = None) -> int:
    """Command line. Exit code 1 when an edge case fails or a published hash is missed, 2 for a bad file."""
    parser = argparse.ArgumentParser(prog="benchmarks.flash1", description="The public matching-engine benchmark")
    parser.add_argument("file", nargs="?", help="a stream, .npy or .npy.xz")
    parser.add_argument("--edge-cases", metavar="FILE", help="named small cases, JSON")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--runs", type=positive, default=9, help=f"timed runs, at least {RUNS_MIN} for a quotable figure"
    )
    arguments = parser.parse_args(argv)
    if (arguments.file is None) == (arguments.edge_cases is None):
        parser.error("give a stream or --edge-cases FILE")
    found = conditions()
    try:
        result = edge_cases(arguments.edge_cases) if arguments.edge_cases else benchmark(arguments.file, arguments.runs)
    except StreamError as error:
        print(f"benchmarks.flash1: {error}", file=sys.stderr)
        return 2
    print(describe(found), file=sys.stderr)
    if arguments.json:
        print(json.dumps(result | {"conditions": found}))
    else:
        for name, value in result.items():
            print(f"{name:24} {value}")
    return 1 if result.get("failed") or result.get("published") is False else 0


if __name__ == "__main__":
    raise SystemExit(main())
