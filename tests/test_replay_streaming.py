"""Importers stream: tiny batches change nothing, ids are given again, and memory does not grow with the session."""

from __future__ import annotations

import ctypes
import gc
import gzip
import json
import mmap
from pathlib import Path

import numpy as np
import pytest
from l3_sessions import random_lobster, random_session
from test_replay_orders import mbo_session

from replay import l3, lobster, session, source_files, source_orders
from replay import order_ids as ids
from replay.l3 import replay_l3
from replay.l3_text import L3Text
from replay.lobster import replay_lobster
from replay.order_ids import OrderIds
from replay.session import Session, Spool
from replay.source_files import SourceError, text_blocks, text_lines
from replay.source_orders import replay_mbo, replay_orders

DENSE = list(range(100, 120))


@pytest.fixture
def tiny(monkeypatch) -> None:
    """Every batch, window, spool and table as small as can be."""
    monkeypatch.setattr(source_files, "BLOCK_BYTES", 100)
    monkeypatch.setattr(session, "SPOOL_BYTES", 500)
    monkeypatch.setattr(session, "SCAN_ROWS", 7)
    monkeypatch.setattr(lobster, "WINDOW_ROWS", 5)
    monkeypatch.setattr(lobster, "BATCH_ROWS", 4)
    monkeypatch.setattr(source_orders, "BATCH_ROWS", 6)
    monkeypatch.setattr(ids, "IDS_AT_FIRST", 4)


def everything(tmp_path: Path) -> list[object]:
    """What all importers make of the same made-up sessions."""
    found: list[object] = []
    for checks in "BK":
        found.append(replay_l3(random_session(tmp_path, checks, seed=3, prices=DENSE, commands=300, checks=checks)))
    for levels in (1, 3):
        found.append(replay_lobster(*random_lobster(tmp_path, "L", seed=4, levels=levels, commands=300)))
    found.append(replay_mbo(*mbo_session(tmp_path, 2)))
    table = ["id,side,price,quantity,action"]
    for n in range(200):  # every fifth asks for an order that may be gone
        table.append(
            f"o{n},{'BS'[n % 2]},{100 + n * 7 % 5}.5,{1 + n % 9},{'cancel' if n % 5 == 0 else 'new'}".replace(
                f"o{n},", f"o{max(0, n - 3) if n % 5 == 0 else n},", 1
            )
        )
    (tmp_path / "t.csv").write_text("\n".join(table))
    found.append(replay_orders(tmp_path / "t.csv", {}, 1))
    return json.loads(json.dumps([_plain(r) for r in found]))


def _plain(report: object) -> object:
    import msgspec

    return msgspec.to_builtins(report)


def test_tiny_batches_give_the_same_reports_as_whole_files(tmp_path, request) -> None:
    whole = everything(tmp_path)
    request.getfixturevalue("tiny")
    assert everything(tmp_path) == whole
    assert all(r["ok"] for r in whole[:2]) and whole[4]["ok"], whole


def test_an_order_is_never_parted_from_its_fills(tmp_path, tiny) -> None:
    path = random_session(tmp_path, "S", seed=3, prices=DENSE, commands=300, checks="B")
    batches = list(L3Text(path).batches())
    assert len(batches) > 20 and all(b.rows["kind"][0] != ord("F") for b in batches)
    assert np.concatenate([b.rows["line"] for b in batches]).tolist() == list(
        range(1, 1 + sum(len(b.rows) for b in batches))
    )


def test_a_broken_row_in_the_last_batch_is_told_before_anything_is_sent(tmp_path, tiny, monkeypatch) -> None:
    path = tmp_path / "X.cmd.csv"
    path.write_text("".join(f"N,{n},o{n},B,100,5\n" for n in range(99)) + "N,99,x,B,1O0,5\n")
    monkeypatch.setattr(l3, "exchange_for", lambda *_: pytest.fail("a market was made"))
    with pytest.raises(SourceError, match=r"line 100: field 5 is not a whole number"):
        replay_l3(path)
    table = tmp_path / "t.csv"
    table.write_text("id,side,price,quantity\n" + "a,b,10,5\n" * 50 + "a,b,10,99999999999999999999\n")
    with pytest.raises(SourceError, match=r"line 52: 99999999999999999999 does not fit into 64 bits"):
        replay_orders(table, {}, 2)


def test_numbers_of_orders_that_are_gone_are_given_again(tmp_path, monkeypatch) -> None:
    """20,000 orders of which two are open at once need a table of a few hundred."""
    monkeypatch.setattr(ids, "IDS_AT_FIRST", 16)
    monkeypatch.setattr(source_files, "BLOCK_BYTES", 4_000)
    made: list[OrderIds] = []
    real = OrderIds.__init__
    monkeypatch.setattr(OrderIds, "__init__", lambda self: (made.append(self), real(self))[1])
    path = tmp_path / "X.cmd.csv"
    lines = [f"N,{n},order-{n},B,{100 + n % 3},5\n" + (f"C,{n},order-{n - 1}\n" if n else "") for n in range(20_000)]
    path.write_text("".join(lines))
    r = replay_l3(path)
    assert (r.resting, r.not_open, r.commands) == (1, 0, 39_999)
    assert len(made[0].engine_ids) < 1_000


def test_text_comes_in_whole_lines_from_any_file(tmp_path) -> None:
    text = "\ufeffä,1\r\nb\n\nlast".encode()
    for name, data in (("x.csv", text), ("x.csv.gz", gzip.compress(text))):
        (tmp_path / name).write_bytes(data)
        for size in (1, 2, 5, 100):
            blocks = list(text_blocks(tmp_path / name, block_bytes=size))
            assert b"".join(blocks) == text and all(b.endswith(b"\n") for b in blocks[:-1])
    assert list(text_lines(tmp_path / "x.csv")) == ["ä,1\r\n", "b\n", "\n", "last"]
    (tmp_path / "y.csv").write_bytes(b"a\nb\xff\n")
    with pytest.raises(SourceError, match="line 2: is not UTF-8"):
        list(text_lines(tmp_path / "y.csv"))
    (tmp_path / "y.csv.gz").write_bytes(gzip.compress(b"x" * 1_000)[:-9])
    with pytest.raises(SourceError, match="cannot be read"):
        list(text_blocks(tmp_path / "y.csv.gz"))
    (tmp_path / "z.csv").write_bytes(b"x" * (6 << 20))
    with pytest.raises(SourceError, match="holds a line of more than"):
        list(text_blocks(tmp_path / "z.csv"))


def test_a_spool_gives_back_what_was_put_in_from_memory_and_from_a_file(monkeypatch) -> None:
    rows = np.arange(60, dtype=np.int64).reshape(20, 3)
    for most in (64 << 20, 100):
        monkeypatch.setattr(session, "SPOOL_BYTES", most)
        spool = Spool(np.int64, 3)
        for at in range(0, 20, 4):
            spool.add(rows[at : at + 4])
        assert len(spool) == 20 and (spool.window(3, 9) == rows[3:9]).all() and len(spool.window(18, 99)) == 2
        spool.close()


def test_sequences_of_a_book_file_that_fall_are_refused(tmp_path) -> None:
    path, book = mbo_session(tmp_path, 1)
    lines = book.read_text().splitlines()
    book.write_text("\n".join([*lines[:5], lines[3], *lines[5:]]) + "\n")
    with pytest.raises(SourceError, match=r"line 6: sequence 2 comes after 3: they must rise"):
        replay_mbo(path, book)


# --- memory -----------------------------------------------------------------------------------------------------------


M_MMAP_THRESHOLD = -3  # of malloc.h
MEASUREMENTS = 4  # at most: other threads of this process, and the kernel's huge pages, come into a first one's way


def peak_growth(run) -> int:
    """KiB by which the resident size rises at its peak over what it is now."""
    status = Path("/proc/self/status")

    def read(name: str) -> int:
        return int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith(name)))

    # what is freed goes back at once: glibc would keep ever larger pieces, and clear them when they are asked for again
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 17)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = read("VmRSS")
    run()
    return read("VmHWM") - before


def l3_file(path: Path, rows: int) -> None:
    with path.open("w") as f:
        for n in range(rows // 4):
            f.write(f"N,{n},a{n},S,{100 + n % 9},5\nR,{n},a{n},1\nI,{n},B,200,4\nF,{n},a{n},{100 + n % 9},4\n")


def lobster_files(path: Path, rows: int) -> None:
    """An order joins a level that stands and leaves it again; every fiftieth time a level comes into view and goes."""
    with path.open("w") as m, path.with_suffix(".book").open("w") as b:
        m.write("1.0,1,1,5,99,1\n1.1,1,2,5,100,-1\n")
        b.write("9999999999,0,99,5\n100,5,99,5\n")
        for n in range(3, 3 + rows // 2):
            price, book = (99, "99,5,99,5") if n % 50 == 0 else (100, "100,10,99,5")
            m.write(f"{n}.1,1,{n},5,{price},-1\n{n}.2,3,{n},5,{price},-1\n")
            b.write(f"{book}\n100,5,99,5\n")


def mbo_file(path: Path, rows: int) -> None:
    with path.open("w") as f:
        f.write("action,side,price,size,order_id\n")
        for n in range(rows // 2):
            f.write(f"A,B,1.5,5,{n}\nC,B,1.5,5,{n}\n")


def table_file(path: Path, rows: int) -> None:
    with path.open("w") as f:
        f.write("id,side,price,quantity\n")
        for n in range(rows):
            f.write(f"{n},{'BS'[n % 2]},10.00,5\n")


IMPORTERS = {
    "l3": (l3_file, 100_000, replay_l3),
    "lobster": (lobster_files, 20_000, lambda p: replay_lobster(p, p.with_suffix(".book"))),
    "mbo": (mbo_file, 20_000, replay_mbo),
    "orders": (table_file, 20_000, lambda p: replay_orders(p, {}, 2)),
}


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak is read from Linux's /proc, memory is glibc's"
)
@pytest.mark.parametrize("name", IMPORTERS)
def test_memory_does_not_grow_with_the_session(tmp_path, monkeypatch, name) -> None:
    """Twelve times the file needs no more than a few MB more; held batches are a planted error that is seen."""
    monkeypatch.setattr(session, "SPOOL_BYTES", 1 << 20)
    monkeypatch.setattr(source_files, "BLOCK_BYTES", 1 << 18)
    for module in (lobster, source_orders):
        monkeypatch.setattr(module, "BATCH_ROWS", 1 << 12)
    monkeypatch.setattr(lobster, "WINDOW_ROWS", 1 << 12)
    monkeypatch.setattr(ids, "IDS_AT_FIRST", 1 << 12)
    monkeypatch.setattr(l3, "ORDERS_MAX", 1 << 12)  # few are open at once; Linux gives large tables 2 MB at a time
    make, rows, run = IMPORTERS[name]
    path = tmp_path / "X.cmd.csv"
    make(path, rows)
    run(path)  # whatever is loaded once
    short = long = 1 << 40
    for _ in range(MEASUREMENTS):  # the least of each: what else this process does only adds
        make(path, rows)
        short = min(short, peak_growth(lambda: run(path)))
        make(path, 12 * rows)
        long = min(long, peak_growth(lambda: run(path)))
        if long - short < 6_000:
            break
    file_kib = path.stat().st_size // 1024
    print(f"{name}: {short} KiB of {rows:,} rows, {long} KiB of {12 * rows:,} rows, a file of {file_kib} KiB")
    assert long - short < 6_000
    held: list[object] = []
    real = Session._take

    def keep(batch):  # in memory of its own: what this process freed before would take it without growing
        kept = mmap.mmap(-1, max(batch.rows.nbytes, 1))
        kept.write(batch.rows.tobytes())
        return kept

    monkeypatch.setattr(Session, "_take", lambda self, batch: (held.append(keep(batch)), real(self, batch))[1])
    assert peak_growth(lambda: run(path)) - short > 6_000
