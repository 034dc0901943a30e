"""Other markets' sessions, order by order: exact on real ones, on made-up ones, and red on every planted difference."""

from __future__ import annotations

import gzip
import json
import lzma

import numpy as np
import pytest
from l3_sessions import random_session
from typer.testing import CliRunner

from replay.commands import app
from replay.l3 import replay_l3
from replay.ladder import ladder_of
from replay.source_files import SourceError

DENSE = list(range(100, 120))
SUB_PENNY = [2_238_200 + 100 * n for n in range(15)]
SPARSE = [1, 3, 1_000_003, 77_000_000_019, 199_999_990_000_001]  # steps far apart without a common tick


def write(folder, text, name="X.cmd.csv"):
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("AMZN_5", (235_213, 6_591, 8_965, 153_465)),
        ("ARL_2025-07-17", (5_828, 11, 11, 3_881)),
        ("bitstamp_2015-05-01", (49_439, 389, 575, 0)),
    ],
)
def test_every_fill_and_every_book_of_a_real_session_is_equal(shared_data, name, expected) -> None:
    r = replay_l3(shared_data / "l3" / f"{name}.cmd.csv.xz")
    assert (r.commands, r.aggressors, r.fills, r.books) == expected
    assert (r.fills_matched, r.books_matched, r.fills_unexpected, r.rejected) == (r.fills, r.books, 0, 0)
    assert r.ok and not r.mismatches


def test_the_five_live_ids_of_bitstamp_are_ignored_and_counted(shared_data) -> None:
    assert replay_l3(shared_data / "l3" / "bitstamp_2015-05-01.cmd.csv.xz").live_ids_ignored == 5


@pytest.mark.parametrize("checks", ["B", "K"])
@pytest.mark.parametrize(("prices", "ladder"), [(DENSE, "tick"), (SUB_PENNY, "tick"), (SPARSE, "ranks")])
def test_made_up_sessions_agree_with_a_book_of_lists(tmp_path, prices, ladder, checks) -> None:
    for seed in range(4):
        path = random_session(tmp_path, f"S{seed}", seed=seed, prices=prices, commands=400, checks=checks)
        r = replay_l3(path)
        assert r.ok, r.mismatches
        assert r.fills > 50 and r.books == 400 and r.ladder == ladder and r.aggressors > 20


def test_large_quantities_at_far_prices_are_not_refused_by_the_engines_arithmetic(tmp_path) -> None:
    """A thousand bitcoins in hundred-millionths, at a million dollars in cents, beside a bid of one cent."""
    far = "N,1,low,B,1,100000000000\nN,2,high,S,100000000,500000000000\nN,3,mid,S,2349999,7\n"
    r = replay_l3(
        write(tmp_path, far + "I,4,B,100000000,500000000007\nF,4,mid,2349999,7\nF,4,high,100000000,500000000000\n")
    )
    assert r.ok and r.ladder == "ranks" and r.rejected == 0
    assert replay_l3(write(tmp_path, far.replace("100000000,5", "24000,5"))).ladder == "tick"


def test_prices_of_zero_and_below_are_prices_like_others(tmp_path) -> None:
    path = random_session(tmp_path, "Z", seed=3, prices=[-37_63, -10, 0, 10, 55], commands=300, checks="B")
    assert replay_l3(path).ok


def test_compressed_files_are_read_as_they_are(tmp_path) -> None:
    plain = random_session(tmp_path, "P", seed=1, prices=DENSE, commands=50, checks="B")
    book = (tmp_path / "P.orderbook.csv").read_bytes()
    (tmp_path / "Q.cmd.csv.xz").write_bytes(lzma.compress(plain.read_bytes()))
    (tmp_path / "Q.orderbook.csv.gz").write_bytes(gzip.compress(book))
    r = replay_l3(tmp_path / "Q.cmd.csv.xz")
    assert r.ok and r.book.endswith("Q.orderbook.csv.gz")


def test_lines_that_end_like_on_windows_and_empty_lines_are_read(tmp_path) -> None:
    r = replay_l3(write(tmp_path, "N,1,a,S,100,5\r\n\r\nI,2,B,100,5\r\nF,2,a,100,5"))
    assert r.ok and r.fills_matched == 1


def test_a_live_id_that_comes_again_is_ignored_and_a_dead_one_is_not(tmp_path) -> None:
    text = "N,1,a,S,100,5\nN,2,a,S,101,7\nI,3,B,101,9\nF,3,a,100,5\nN,4,a,S,102,1\nI,5,B,102,1\nF,5,a,102,1\n"
    r = replay_l3(write(tmp_path, text))
    assert (r.ok, r.live_ids_ignored, r.fills_matched, r.commands) == (True, 1, 2, 5)


def test_a_cancel_of_an_order_that_is_gone_is_counted_and_harmless(tmp_path) -> None:
    r = replay_l3(write(tmp_path, "N,1,a,S,100,5\nC,2,a\nC,3,a\nR,4,never,1\nI,5,B,100,1\n"))
    assert r.ok and r.not_open == 2


def test_a_sweep_that_overflows_the_events_buffer_is_compared_to_its_end(tmp_path) -> None:
    n = 40_000
    new = "".join(f"N,{i},o{i},S,{100 + i % 50},1\n" for i in range(n))
    order = sorted(range(n), key=lambda i: (100 + i % 50, i))
    fills = "".join(f"F,0,o{i},{100 + i % 50},1\n" for i in order)
    r = replay_l3(write(tmp_path, f"{new}I,0,B,200,{n + 5}\n{fills}"))
    assert r.ok and r.fills_matched == n and r.resting == 0


GOOD = "N,1,a,S,100,5\nN,2,b,S,100,5\nI,3,B,100,7\nF,3,a,100,5\nF,3,b,100,2\nB,0\n"
BOOK = "100,3,-9999999999,0\n"


@pytest.mark.parametrize(
    ("wrong", "right", "says"),
    [
        ("F,3,b,100,5\nF,3,a,100,2", "F,3,a,100,5\nF,3,b,100,2", "of another order made"),  # time priority
        ("F,3,b,100,3", "F,3,b,100,2", "fill 3 at 100 expected, 2 at 100 of the order named"),
        ("F,3,b,101,2", "F,3,b,100,2", "fill 2 at 101 expected"),
        ("", "F,3,b,100,2\n", "none expected"),
        ("F,3,b,100,2\nF,3,b,100,1", "F,3,b,100,2", "expected, none made"),
        ("N,2,b,S,100,6", "N,2,b,S,100,5", "100 × 3 (1 orders) expected, 100 × 4"),
        ("N,2,b,S,100,-5", "N,2,b,S,100,5", "refused: quantity is below the minimum"),
    ],
)
def test_each_planted_difference_turns_the_run_red(tmp_path, wrong, right, says) -> None:
    write(tmp_path, BOOK, "X.orderbook.csv")
    assert replay_l3(write(tmp_path, GOOD)).ok
    r = replay_l3(write(tmp_path, GOOD.replace(right, wrong)))
    assert not r.ok and any(says in m.text for m in r.mismatches), r.mismatches


def test_a_wrong_order_count_of_an_mbp_row_is_found(tmp_path) -> None:
    path = random_session(tmp_path, "K", seed=5, prices=DENSE, commands=60, checks="K")
    book = tmp_path / "K.mbp-10.csv"
    lines = book.read_text().splitlines()
    fields = lines[40].split(",")
    fields[3] = str(int(fields[3]) + 1)
    book.write_text("\n".join([*lines[:40], ",".join(fields), *lines[41:]]))
    r = replay_l3(path)
    assert not r.ok and r.books_matched == r.books - 1 and "bid level 1" in r.mismatches[0].text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("N,1,a,S,100,5\nX,2\n", "line 2: the first field is not one of"),
        ("N,1,a,T,100,5\n", "line 1: field 4: side is not B or S"),
        ("\nN,1,a,S,1O0,5\n", "line 2: field 5 is not a whole number"),
        ("N,1,a,S,10.5,5\n", "line 1: field 5 is not a whole number"),
        ("N,1,a,S,99999999999999999999,5\n", "line 1: field 5 does not fit into 64 bits"),
        ("N,1,,S,100,5\n", "line 1: field 3 is empty"),
        ("N,1,a,S,100,\n", "line 1: field 6 is empty"),
        ("C,1\n", "line 1: too few fields"),
        ("C,1,a,b\n", "line 1: too many fields"),
        ("B,1\n", "no book file lies beside it"),
        ("\n\n", "holds no row"),
    ],
)
def test_a_broken_stream_is_refused_with_line_and_reason(tmp_path, text, says) -> None:
    with pytest.raises(SourceError, match=says):
        replay_l3(write(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "book", "says"),
    [
        ("X.orderbook.csv", "100,3,1\n", "neither a LOBSTER orderbook"),
        ("X.orderbook.csv", "100,3,99,1\n100,3\n", "line 2: field 3 is missing"),
        ("X.orderbook.csv", "100,3,99,-\n", "line 1: field 4 is not a decimal number"),
        ("X.mbp-10.csv", "n,bid_px_00,bid_sz_00,bid_ct_00\n0,1.5,1,1\n", "no column ask_px_00"),
        ("X.orderbook.csv", "", "neither a LOBSTER orderbook"),
    ],
)
def test_a_broken_book_file_is_refused_with_line_and_reason(tmp_path, name, book, says) -> None:
    write(tmp_path, book, name)
    with pytest.raises(SourceError, match=says):
        replay_l3(write(tmp_path, "B,0\n"))


def test_a_check_that_names_a_row_beyond_the_book_file_is_an_error(tmp_path) -> None:
    write(tmp_path, BOOK, "X.orderbook.csv")
    with pytest.raises(SourceError, match=r"line 1: names row 1 of X\.orderbook\.csv"):
        replay_l3(write(tmp_path, "B,1\n"))


def test_two_book_files_beside_a_stream_must_be_told_apart(tmp_path) -> None:
    stream = random_session(tmp_path, "X", seed=1, prices=DENSE, commands=20, checks="B")
    write(tmp_path, BOOK, "X.mbp-10.csv")
    with pytest.raises(SourceError, match="more than one book file"):
        replay_l3(stream)
    assert replay_l3(stream, tmp_path / "X.orderbook.csv").ok


def test_a_ladder_that_would_be_too_wide_becomes_ranks_and_beyond_that_an_error() -> None:
    wide = np.array([0, 7, 1 << 40])
    assert (ladder_of(wide).kind, ladder_of(wide).levels) == ("ranks", 5)
    with pytest.raises(ValueError, match="3 different prices occur; a book has at most 2"):
        ladder_of(wide, levels_max=4)


def test_the_command_exits_with_one_on_a_difference_and_two_on_a_broken_file(tmp_path) -> None:
    write(tmp_path, BOOK, "X.orderbook.csv")
    good = CliRunner().invoke(app, ["l3", str(write(tmp_path, GOOD)), "--json"])
    assert good.exit_code == 0 and json.loads(good.stdout)["books_matched"] == 1
    red = CliRunner().invoke(app, ["l3", str(write(tmp_path, GOOD.replace("F,3,b,100,2", "F,3,b,100,1"))), "--json"])
    assert red.exit_code == 1 and json.loads(red.stdout)["fills_matched"] == 1
    broken = CliRunner().invoke(app, ["l3", str(write(tmp_path, "Q\n"))])
    assert broken.exit_code == 2 and "line 1" in broken.stderr and not broken.stdout
