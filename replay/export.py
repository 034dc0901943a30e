"""Tables of a replay as Parquet or CSV, streamed: memory stays at one batch (docs/replay.md has all columns).

``events`` is every event of the engine, ``trades`` one row per deal, ``books`` the best levels after every command that
changed them, ``bars`` open, high, low, close, volume per instrument and interval, ``desk`` and ``auctions`` the log of
negotiations and bids (replay/export_desk.py). Prices in fen, quantities in tonnes, times as nanoseconds UTC. A file
appears under its name when it is whole; until then it is ``name.part``.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from engine.exchange import Exchange, Output
from engine.market import Market
from engine.records import FILL_MAKER, FILL_TAKER, NOTICE
from replay.event_text import KINDS
from replay.export_desk import ROWS
from replay.source_files import SourceError
from replay.whole_file import part_of

ROWS_PER_GROUP: Final = 1 << 17  # of Parquet: some 10 MB, and the batch that is held in memory
BOOK_LEVELS: Final = 5  # R8.6
TIME: Final = pa.timestamp("ns", tz="UTC")
KIND_NAMES: Final = [KINDS.get(n, str(n)) for n in range(max(KINDS) + 1)]
SIDE_NAMES: Final = ["buy", "sell", "both"]

EVENTS: Final = pa.schema(
    [
        ("seq", pa.uint64()),
        ("time", TIME),
        ("event", pa.dictionary(pa.uint8(), pa.string())),
        ("instrument", pa.dictionary(pa.uint8(), pa.string())),
        ("account", pa.uint32()),
        ("session", pa.uint16()),
        ("side", pa.dictionary(pa.uint8(), pa.string())),
        ("price_fen", pa.int64()),
        ("quantity_t", pa.int64()),
        ("leaves_t", pa.int64()),
        ("order_id", pa.uint64()),
        ("ref", pa.uint32()),
        ("reason", pa.uint16()),
    ]
)
TRADES: Final = pa.schema(
    [
        ("seq", pa.uint64()),
        ("time", TIME),
        ("instrument", pa.dictionary(pa.uint8(), pa.string())),
        ("deal", pa.uint32()),
        ("price_fen", pa.int64()),
        ("quantity_t", pa.int64()),
        ("taker_side", pa.dictionary(pa.uint8(), pa.string())),
        ("maker_account", pa.uint32()),
        ("taker_account", pa.uint32()),
        ("maker_order_id", pa.uint64()),
        ("taker_order_id", pa.uint64()),
    ]
)
BARS: Final = pa.schema(
    [
        ("start", TIME),
        ("instrument", pa.string()),
        *((f"{name}_fen", pa.int64()) for name in ("open", "high", "low", "close")),
        ("volume_t", pa.int64()),
        ("amount_fen", pa.int64()),
        ("deals", pa.int64()),
    ]
)
BOOKS: Final = pa.schema(
    [("seq", pa.uint64()), ("time", TIME), ("instrument", pa.string())]
    + [
        (f"{side}_{what}_{level}", pa.int64())
        for level in range(1, BOOK_LEVELS + 1)
        for side in ("bid", "ask")
        for what in ("price_fen", "quantity_t", "orders")
    ]
)


class Writer:
    """A Parquet or CSV file (by its suffix) that is written batch by batch."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema, self.rows = path, schema, 0
        self._part = part_of(path)
        if not path.absolute().parent.is_dir():
            raise SourceError(path, "its folder does not exist")
        self._open: Any
        if path.suffix == ".parquet":
            self._open = pa_parquet.ParquetWriter(self._part, schema, compression="zstd", compression_level=1)
        elif path.suffix == ".csv":
            plain = [f.with_type(pa.string()) if pa.types.is_dictionary(f.type) else f for f in schema]
            self.schema = pa.schema(plain)
            self._open = pa_csv.CSVWriter(self._part, self.schema)
        else:
            raise SourceError(path, "must end with .parquet or .csv")

    def write(self, columns: list[Any]) -> None:
        """Appends rows; ``columns`` as in the schema."""
        arrays = [
            a.cast(f.type) if isinstance(a, pa.Array) else pa.array(a, f.type)
            for a, f in zip(columns, self.schema, strict=True)
        ]
        table = pa.Table.from_arrays(arrays, schema=self.schema)
        self.rows += len(table)
        self._open.write_table(table)

    def finish(self) -> None:
        """Closes the file and gives it its name."""
        self._open.close()
        self._part.replace(self.path)

    def abandon(self) -> None:
        """Closes and removes what was written so far."""
        self._open.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.finish() if kind is None else self.abandon()


def _names(codes: np.ndarray, names: list[str]) -> pa.Array:
    """Numbers as dictionary-encoded names; what has no name is null."""
    known = codes < len(names)
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.uint8), mask=~known), pa.array(names, pa.string()))


def _time(values: np.ndarray) -> pa.Array:
    return pa.array(np.ascontiguousarray(values), pa.int64()).cast(TIME)


def instrument_names(market: Market) -> list[str]:
    """Codes in order of index."""
    return list(market.codes)


def event_columns(events: np.ndarray, market: Market) -> list[Any]:
    """Columns of EVENTS. A notice has no instrument, side, price."""
    plain = events["kind"] != NOTICE
    instruments = np.where(plain, events["instrument"], 0xFFFF)
    sides = np.where(plain, events["side"], 0xFF)
    return [
        np.ascontiguousarray(events["seq"]),
        _time(events["time_ns"]),
        _names(events["kind"], KIND_NAMES),
        _names(instruments, instrument_names(market)),
        pa.array(np.ascontiguousarray(events["account"]), mask=events["account"] == 0xFFFFFFFF),
        *(np.ascontiguousarray(events[n]) for n in ("session",)),
        _names(sides, SIDE_NAMES),
        *(np.ascontiguousarray(events[n]) for n in ("price", "quantity", "leaves", "order_id", "ref", "reason")),
    ]


def trade_columns(events: np.ndarray, market: Market) -> list[Any]:
    """Columns of TRADES: a FILL_MAKER is always followed by its FILL_TAKER."""
    at = np.flatnonzero(events["kind"] == FILL_MAKER)
    maker, taker = events[at], events[at + 1]
    assert (taker["kind"] == FILL_TAKER).all(), "a deal's two events are neighbours"
    return [
        maker["seq"].copy(),
        _time(maker["time_ns"]),
        _names(maker["instrument"], instrument_names(market)),
        maker["ref"].copy(),
        maker["price"].copy(),
        maker["quantity"].copy(),
        _names(taker["side"], SIDE_NAMES),
        maker["account"].copy(),
        taker["account"].copy(),
        maker["order_id"].copy(),
        taker["order_id"].copy(),
    ]


class Bars:
    """Bars of an interval, put together from trades; one open bar per instrument is held."""

    def __init__(self, interval_ns: int) -> None:
        self.interval_ns = interval_ns
        self.rows: list[tuple[Any, ...]] = []
        self._open: dict[int, list[int]] = {}  # instrument → start, open, high, low, close, volume, amount, deals

    def add(self, events: np.ndarray, market: Market) -> None:
        """Takes the deals of a batch in."""
        deals = events[events["kind"] == FILL_MAKER]
        if not len(deals):
            return
        starts = deals["time_ns"] // self.interval_ns * self.interval_ns
        for index in np.unique(deals["instrument"]).tolist():
            mine = deals["instrument"] == index
            own, own_starts = deals[mine], starts[mine]
            cuts = [0, *(np.flatnonzero(own_starts[1:] != own_starts[:-1]) + 1).tolist(), len(own)]
            for a, b in pairwise(cuts):
                self._add(index, int(own_starts[a]), own["price"][a:b], own["quantity"][a:b], market)

    def _add(self, index: int, start: int, prices: np.ndarray, quantities: np.ndarray, market: Market) -> None:
        first, last, amount = int(prices[0]), int(prices[-1]), int((prices * quantities).sum())
        high, low, volume = int(prices.max()), int(prices.min()), int(quantities.sum())
        bar = self._open.get(index)
        if bar is None or bar[0] != start:
            self._close(index, market)
            self._open[index] = [start, first, high, low, last, volume, amount, len(prices)]
        else:
            bar[2:5] = max(bar[2], high), min(bar[3], low), last
            bar[5:8] = bar[5] + volume, bar[6] + amount, bar[7] + len(prices)

    def _close(self, index: int, market: Market) -> None:
        bar = self._open.pop(index, None)
        if bar is not None:
            self.rows.append((bar[0], market.code_of(index), *bar[1:]))

    def columns(self, market: Market, *, last: bool = False) -> list[Any]:
        """Finished bars (with ``last`` the open ones too) as columns of BARS; they are handed out once."""
        for index in list(self._open) if last else ():
            self._close(index, market)
        rows, self.rows = self.rows, []
        columns = [list(c) for c in zip(*rows, strict=True)] if rows else [[] for _ in BARS]
        return [_time(np.array(columns[0], np.int64)), *columns[1:]]


class Books:
    """Best levels of an instrument after each piece of the replay in which its book changed."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []

    def add(self, out: Output, exchange: Exchange) -> None:
        """Looks at the books of all instruments that the events name."""
        events = out.events[out.events["kind"] != NOTICE]
        if not len(events):
            return
        seq, time_ns = int(events["seq"][-1]), int(events["time_ns"][-1])
        for index in np.unique(events["instrument"]).tolist():
            if index >= len(exchange.market.codes):
                continue
            code = exchange.market.code_of(index)
            depth = exchange.depth(code, BOOK_LEVELS)
            row: list[Any] = [seq, time_ns, code]
            for n in range(BOOK_LEVELS):
                for side in (depth.bids, depth.asks):
                    row += side[n] if n < len(side) else (None, None, None)
            self.rows.append(tuple(row))

    def columns(self) -> list[Any]:
        """Rows so far as columns of BOOKS; they are handed out once."""
        rows, self.rows = self.rows, []
        columns = [list(c) for c in zip(*rows, strict=True)] if rows else [[] for _ in BOOKS]
        return [columns[0], _time(np.array(columns[1], np.int64)), *columns[2:]]


class Export:
    """One table of a replay. ``watch`` is given to :meth:`replay.journal.JournalReplay.run`; ``end`` before closing."""

    def __init__(self, path: Path, what: str, interval_ns: int = 60 * 10**9) -> None:
        schemas = {"events": EVENTS, "trades": TRADES, "bars": BARS, "books": BOOKS}
        schemas |= {name: schema for name, (schema, _) in ROWS.items()}
        self.what = what
        self.writer = Writer(path, schemas[what])
        self.bars, self.books = Bars(interval_ns), Books()
        self._rows: list[dict[str, Any]] = []
        self._held: list[np.ndarray] = []
        self._held_rows = 0

    def watch(self, out: Output, exchange: Exchange) -> None:
        """Takes a piece's events in."""
        if self.what == "bars":
            self.bars.add(out.events, exchange.market)
        elif self.what == "books":
            self.books.add(out, exchange)
            if len(self.books.rows) >= ROWS_PER_GROUP:
                self.writer.write(self.books.columns())
        elif self.what in ROWS:
            self._rows.extend(ROWS[self.what][1](out))
            if len(self._rows) >= ROWS_PER_GROUP:
                self._flush(exchange)
        else:
            self._held.append(out.events.copy())
            self._held_rows += len(out.events)
            if self._held_rows >= ROWS_PER_GROUP:
                self._flush(exchange)

    def _flush(self, exchange: Exchange) -> None:
        if self._rows:
            self.writer.write([[row[name] for row in self._rows] for name in self.writer.schema.names])
            self._rows = []
        if not self._held:
            return
        events = np.concatenate(self._held)
        self._held, self._held_rows = [], 0
        columns = event_columns if self.what == "events" else trade_columns
        self.writer.write(columns(events, exchange.market))

    def end(self, exchange: Exchange) -> int:
        """Writes what is held; returns the rows of the whole file."""
        self._flush(exchange)
        if self.what == "bars":
            self.writer.write(self.bars.columns(exchange.market, last=True))
        elif self.what == "books":
            self.writer.write(self.books.columns())
        return self.writer.rows
