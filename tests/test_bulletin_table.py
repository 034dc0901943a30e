"""Bulletins as a table: every figure at its place, versions kept, unknown endings refused."""

from __future__ import annotations

import msgspec
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
import pytest
from test_demo import closed_day

from cea.bulletins import bulletin_rows
from engine.bulletin import OpeningTotals, Totals, make_bulletin
from replay.bulletin_table import write_bulletins
from replay.source_files import SourceError


def two_versions():
    nothing = OpeningTotals(until=20251202, year=Totals(), launch=Totals())
    first = make_bulletin(closed_day(), nothing)
    return [first, msgspec.structs.replace(first, version=2)]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_has_the_published_figures_of_each_version(tmp_path, ending) -> None:
    out = tmp_path / f"bulletins.{ending}"
    rows = bulletin_rows(two_versions())
    assert write_bulletins(out, rows) == len(rows) == 12
    table = (pa_csv.read_csv if ending == "csv" else pa_parquet.read_table)(out).to_pylist()
    assert list(tmp_path.iterdir()) == [out] and [r["version"] for r in table] == [1] * 6 + [2] * 6
    vintage = next(r for r in table if r["code"] == "CEA24")
    assert (vintage["close_fen"], vintage["bulk_t"], vintage["bulk_fen"]) == (5_991, 226_790, 1_247_250_000)
    composite = table[5]
    assert (composite["code"], composite["open_fen"], composite["close_fen"]) == ("COMCEA", 5_966, 5_990)
    assert (composite["change_bp"], composite["listed_fen"], composite["auction_t"]) == (25, 3_826_804_210, 0)


def test_another_ending_is_refused_and_nothing_is_left(tmp_path) -> None:
    with pytest.raises(SourceError, match="must end with"):
        write_bulletins(tmp_path / "bulletins.xlsx", bulletin_rows(two_versions()))
    assert not list(tmp_path.iterdir())
