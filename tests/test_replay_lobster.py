"""LOBSTER sessions from their own files: every fill and every book row, but executions out of turn, which are named."""

from __future__ import annotations

import json

import pytest
from l3_sessions import random_lobster
from typer.testing import CliRunner

from replay.commands import app
from replay.lobster import read_messages, replay_lobster
from replay.source_files import SourceError


@pytest.mark.slow
def test_amzn_comes_out_but_for_the_nine_exceptions_of_the_venue(shared_data) -> None:
    start = shared_data / "l3" / "AMZN_2012-06-21_34200000_57600000_"
    r = replay_lobster(
        start.with_name(start.name + "message_5.csv.xz"), start.with_name(start.name + "orderbook_5.csv.xz")
    )
    assert r.ok and (r.executions, len(r.exclusions)) == (8_974, 9)
    assert all("skips an older order" in e.reason for e in r.exclusions)
    assert r.replay.fills == r.replay.fills_matched == 8_965
    assert r.replay.books == r.replay.books_matched > 153_000


@pytest.mark.parametrize("levels", [1, 2, 3, 12])
def test_made_up_sessions_come_out_whole_at_any_depth(tmp_path, levels) -> None:
    for seed in range(4):
        pair = random_lobster(tmp_path, f"S{seed}", seed=seed, levels=levels, commands=600)
        r = replay_lobster(*pair)
        assert r.ok, r.replay.mismatches
        assert r.replay.fills + len(r.exclusions) == r.executions > 20
        assert r.exclusions == [] or levels < 12, r.exclusions
        assert r.replay.books >= r.messages - r.executions


def test_an_execution_out_of_turn_is_named_and_not_silently_matched(tmp_path) -> None:
    message, book = tmp_path / "m.csv", tmp_path / "b.csv"
    message.write_text("1.0,1,5,10,100,-1\n2.0,1,6,20,100,-1\n3.0,4,6,20,100,-1\n4.0,4,5,10,100,-1\n")
    empty = "-9999999999,0"
    book.write_text(f"100,10,{empty}\n100,30,{empty}\n100,10,{empty}\n9999999999,0,{empty}\n")
    r = replay_lobster(message, book)
    assert [(e.row, e.reason) for e in r.exclusions] == [(2, "execution of order 6 at 100 skips an older order")]
    assert r.ok and r.replay.fills_matched == 1


def test_a_book_row_that_is_not_the_state_turns_the_run_red(tmp_path) -> None:
    pair = random_lobster(tmp_path, "S", seed=2, levels=12, commands=300)
    lines = pair[1].read_text().splitlines()
    fields = lines[150].split(",")
    fields[1] = str(int(fields[1]) + 1)
    pair[1].write_text("\n".join([*lines[:150], ",".join(fields), *lines[151:]]))
    r = replay_lobster(*pair)
    assert not r.ok and r.replay.books_matched == r.replay.books - 1


def test_times_printed_through_binary_floats_are_equal_times(tmp_path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("43002.632812672004,1,5,10,100,-1\n43002.632812672,1,6,10,100,-1\n")
    table = read_messages(path).window(0, 2)
    assert table[0, 0] == table[1, 0] == 43_002_632_812_672


@pytest.mark.parametrize(
    ("messages", "books", "says"),
    [
        ("1.0,1,5,10,100,-1\n", "100,10,-9999999999,0\n100,10,-9999999999,0\n", "has 2 rows, the message file 1"),
        ("1.0,9,5,10,100,-1\n", "100,10,-9999999999,0\n", "line 1: is no LOBSTER message"),
        ("1.0,1,5,10,100,0\n", "100,10,-9999999999,0\n", "line 1: is no LOBSTER message"),
        ("1.0,1,5,10\n", "100,10,-9999999999,0\n", "line 1: field 5 is missing"),
        ("1.0,1,5,ten,100,-1\n", "100,10,-9999999999,0\n", "line 1: field 4 is not a decimal number"),
    ],
)
def test_broken_files_are_refused_with_line_and_reason(tmp_path, messages, books, says) -> None:
    (tmp_path / "m.csv").write_text(messages)
    (tmp_path / "b.csv").write_text(books)
    with pytest.raises(SourceError, match=says):
        replay_lobster(tmp_path / "m.csv", tmp_path / "b.csv")


def test_the_command_prints_json_and_tells_by_its_exit_code(tmp_path) -> None:
    pair = random_lobster(tmp_path, "S", seed=1, levels=2, commands=200)
    run = CliRunner().invoke(app, ["lobster", *map(str, pair), "--json"])
    out = json.loads(run.stdout)
    assert run.exit_code == 0 and out["replay"]["books_matched"] == out["replay"]["books"]
    text = CliRunner().invoke(app, ["lobster", *map(str, pair)])
    assert text.exit_code == 0 and "equal" in text.stdout
