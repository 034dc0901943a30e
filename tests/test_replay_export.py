"""Tables of a replay: every deal and event is there once, bars add up, and no half-written file stays behind."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pyarrow.parquet as parquet
import pytest
from bulk_world import World
from journal_maker import make_journal
from typer.testing import CliRunner

from engine.bulk_messages import BulkCancel, BulkDeclare, BulkFreeze, BulkWithdraw
from engine.exchange import Exchange
from engine.market import Capacity
from engine.messages import encode
from engine.records import NO_ACCOUNT
from engine.rules import Rules
from replay.commands import app
from replay.export import TRADES
from replay.export_desk import AUCTIONS, auction_rows, desk_rows
from replay.journal import JournalReplay
from replay.market_settings import settings_for


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> tuple[Path, Exchange]:
    folder = tmp_path_factory.mktemp("journal")
    return folder, make_journal(folder, seed=4)


def export(market, out: Path, *options: str) -> dict:
    run = CliRunner().invoke(app, ["export", str(market[0]), str(out), "--json", *options])
    assert run.exit_code == 0, run.output
    return json.loads(run.stdout)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_all_events_of_the_replay_are_in_the_table(market, tmp_path, suffix) -> None:
    report = JournalReplay(*settings_for(market[0])).run()
    out = tmp_path / f"events.{suffix}"
    assert export(market, out)["rows"] == report.events
    table = pl.read_parquet(out) if suffix == "parquet" else pl.read_csv(out)
    assert len(table) == report.events
    assert set(table["event"].unique()) >= {"accepted", "fill maker", "fill taker", "cancelled", "rejected", "notice"}
    assert table["seq"].is_sorted() and table.filter(pl.col("event") == "notice")["price_fen"].sum() == 0
    assert set(table["instrument"].drop_nulls().unique()) == {"CEA23", "CEA24"}


def test_trades_have_both_sides_and_the_day_s_sums(market, tmp_path) -> None:
    out = tmp_path / "trades.parquet"
    export(market, out, "--what", "trades")
    table = pl.read_parquet(out)
    last = table.filter(pl.col("time").dt.convert_time_zone("Asia/Shanghai").dt.strftime("%Y%m%d") == "20251203")
    for code, i in market[1].market.codes.items():
        own = last.filter(pl.col("instrument") == code)
        row = market[1].market.instruments[i]
        assert own["quantity_t"].sum() == row["volume"] and len(own) == row["deals"]
        assert (own["price_fen"] * own["quantity_t"]).sum() == row["amount"]
    assert (table["maker_account"] != table["taker_account"]).all() and table.schema.names() == TRADES.names


def test_bars_add_up_to_the_trades(market, tmp_path) -> None:
    export(market, tmp_path / "t.parquet", "--what", "trades")
    export(market, tmp_path / "b.parquet", "--what", "bars", "--seconds", "300")
    trades, bars = pl.read_parquet(tmp_path / "t.parquet"), pl.read_parquet(tmp_path / "b.parquet")
    wanted = (
        trades.with_columns(pl.col("time").dt.truncate("5m").alias("start"), pl.col("instrument").cast(pl.String))
        .group_by("start", "instrument")
        .agg(
            pl.col("price_fen").first().alias("open_fen"),
            pl.col("price_fen").max().alias("high_fen"),
            pl.col("price_fen").min().alias("low_fen"),
            pl.col("price_fen").last().alias("close_fen"),
            pl.col("quantity_t").sum().alias("volume_t"),
            (pl.col("price_fen") * pl.col("quantity_t")).sum().alias("amount_fen"),
            pl.len().cast(pl.Int64).alias("deals"),
        )
    )
    keys = ["start", "instrument"]
    assert wanted.sort(keys).equals(bars.sort(keys)) and len(bars) > 20


def test_books_show_levels_best_first_and_never_crossed(market, tmp_path) -> None:
    export(market, tmp_path / "k.parquet", "--what", "books")
    table = pl.read_parquet(tmp_path / "k.parquet")
    both = table.drop_nulls(["bid_price_fen_1", "ask_price_fen_1"])
    assert len(table) > 100 and (both["bid_price_fen_1"] < both["ask_price_fen_1"]).all()


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_the_desk_s_log_has_every_step_and_both_sides_of_every_deal(market, tmp_path, suffix) -> None:
    out = tmp_path / f"desk.{suffix}"
    rows = export(market, out, "--what", "desk")["rows"]
    table = pl.read_parquet(out) if suffix == "parquet" else pl.read_csv(out)
    assert len(table) == rows and table["seq"].is_sorted()
    assert not table.select("seq", "what", "thread", "by", "state").is_duplicated().any(), (
        "a notice's copies count once"
    )
    deals = table.filter(pl.col("what") == "deal")
    assert len(deals) == 4 and deals["quantity_t"].unique().to_list() == [150_000]  # two days, two sides
    assert sorted(deals["side"]) == ["buy", "buy", "sell", "sell"]
    assert (deals["price_fen"] * deals["quantity_t"] == deals["amount_fen"]).all()
    for thread in deals["thread"].unique():
        steps = table.filter((pl.col("thread") == thread) & (pl.col("what") == "dialogue"))
        assert steps["event"].to_list() == ["take", "maker_confirms"]
        assert steps["by"].to_list() == [steps["taker"][0], steps["maker"][1]]


def test_the_log_keeps_what_was_refused_with_its_reason() -> None:
    exchange = Exchange(Rules.national(), Capacity(accounts=8, instruments=1))
    (row,) = desk_rows(exchange.execute(BulkWithdraw(declaration=9), account=3, session=2, request_no=1))
    assert (row["what"], row["by"], row["event"], row["state"]) == ("refused", 3, "withdraw", "refused")
    assert row["note"].startswith("UNKNOWN_DECLARATION declaration: ")
    assert not list(auction_rows(exchange.execute(BulkWithdraw(declaration=9)))), "each log has its own commands"


def test_the_log_says_which_operator_acted_and_why_and_the_members_do_not_hear_it() -> None:
    exchange = Exchange(Rules.national(), Capacity(accounts=8, instruments=1))
    out = exchange.execute(BulkFreeze(on=True, by="ops1", why="layering?"))
    operator = [row for row in desk_rows(out) if row["what"] == "operator"]
    assert [(r["event"], r["note"], r["by"]) for r in operator] == [("freeze", "ops1: layering?", None)]

    world = World()
    world.ok(1, BulkDeclare(side=1, instrument="CEA21", price=7_872, quantity=100_000))
    done, *others = world.send(NO_ACCOUNT, BulkCancel(declaration=1, by="ops1", why="a court's order"))
    assert done.message.data == {"declaration": 1, "by": "ops1", "why": "a court's order"} and not done.public
    assert others and not any(b"court" in encode(notice.message) for notice in others)


def test_the_auctions_log_adds_up(market, tmp_path) -> None:
    out = tmp_path / "auctions.parquet"
    export(market, out, "--what", "auctions")
    table = pl.read_parquet(out)
    by_what = {str(name[0]): part for name, part in table.group_by("what")}
    assert by_what["window"]["closes"][0] > by_what["window"]["opens"][0] and len(by_what["bid"]) >= 2
    won = by_what["bid result"].filter(pl.col("state") == "won")
    (result,) = by_what["result"].to_dicts()
    assert (won["filled_t"].sum(), won["amount_fen"].sum()) == (result["filled_t"], result["amount_fen"])
    assert won["filled_t"].sum() == 1_000 == by_what["seller's result"]["filled_t"][0]
    assert won["deal"].n_unique() == len(won) and table.schema.names() == AUCTIONS.names


def test_an_interrupted_export_leaves_nothing_behind(market, tmp_path, monkeypatch) -> None:
    def stop(self, out, exchange):
        assert list(tmp_path.iterdir()) == [tmp_path / "x.parquet.part"]
        raise KeyboardInterrupt

    monkeypatch.setattr("replay.export.Export.watch", stop)
    run = CliRunner().invoke(app, ["export", str(market[0]), str(tmp_path / "x.parquet")])
    assert run.exit_code != 0 and list(tmp_path.iterdir()) == []


def test_a_name_without_a_known_ending_is_refused(market, tmp_path) -> None:
    run = CliRunner().invoke(app, ["export", str(market[0]), str(tmp_path / "x.txt")])
    assert run.exit_code == 2 and "must end with .parquet or .csv" in run.stderr
    assert CliRunner().invoke(app, ["export", str(market[0]), "x.csv", "--what", "all"]).exit_code == 2
    run = CliRunner().invoke(app, ["export", str(market[0]), str(tmp_path / "nowhere" / "x.csv")])
    assert run.exit_code == 2 and "its folder does not exist" in run.stderr


def test_the_parquet_schema_is_the_documented_one(market, tmp_path) -> None:
    export(market, tmp_path / "e.parquet")
    schema = parquet.read_schema(tmp_path / "e.parquet")
    assert schema.names[:5] == ["seq", "time", "event", "instrument", "account"]
    assert str(schema.field("time").type) == "timestamp[ns, tz=UTC]"
