"""A journal replayed: the same state at any moment, and red on everything recorded that differs."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from journal_maker import make_journal
from typer.testing import CliRunner

from engine.exchange import Exchange
from engine.journal import RealDisk
from engine.journal.segment import SEGMENT_HEADER_BYTES
from engine.records import FILL_MAKER
from replay.commands import app
from replay.event_text import life_of
from replay.journal import JournalReplay, JournalReport, MinuteDigest, Moment, compare_minutes, parse_moment
from replay.journal_reader import Reader, last_sequence
from replay.market_settings import settings_for
from replay.source_files import SourceError
from replay.what_if import WhatIf


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> tuple[Path, Exchange]:
    folder = tmp_path_factory.mktemp("journal")
    return folder, make_journal(folder)


@pytest.fixture
def replay(market) -> JournalReplay:
    return JournalReplay(*settings_for(market[0]))


def test_a_replay_ends_in_the_state_of_the_exchange_and_meets_seals_and_snapshots(market, replay) -> None:
    r = replay.run()
    assert r.state_hash == f"{market[1].state_hash():016x}" and last_sequence(replay.disk) == r.last_seq
    assert r.ok and (r.seals_checked, r.snapshots_checked) == (3, 1)
    assert (r.first_seq, r.last_seq, r.commands) == (1, market[1].seq, market[1].seq)
    assert len(r.minutes) > 100
    assert r.minutes[-1].state_hash == MinuteDigest().of(replay.exchange, messages=True)
    assert replay.exchange.snapshot() == market[1].snapshot()


def test_a_minutes_hash_is_of_the_whole_state_however_its_deals_were_counted(replay) -> None:
    digest, minutes = MinuteDigest(), []

    def watch(out) -> None:
        messages = bool(out.payloads)  # every message has a notice
        here = digest.of(replay.exchange, messages=messages)
        minutes.append(here == MinuteDigest().of(replay.exchange, messages=True))

    replay.run(watch=watch)
    market = replay.exchange.market
    assert len(minutes) > 100 and all(minutes) and int(market.market[0]["deals"]) > 10
    before = digest.of(replay.exchange, messages=True)
    market.deals[3]["flags"] ^= 1  # planted: a deal, then an account
    assert digest.of(replay.exchange, messages=True) != before
    market.deals[3]["flags"] ^= 1
    assert digest.of(replay.exchange, messages=True) == before
    market.accounts[2]["available"] += 1
    assert digest.of(replay.exchange, messages=False) != before


def test_two_replays_give_the_same_hashes(market, replay) -> None:
    again = JournalReplay(*settings_for(market[0])).run()
    assert compare_minutes(replay.run(), again) == []


@pytest.mark.parametrize("seq", [1, 30, 200, 233, 10_000])
def test_any_sequence_is_reached_in_the_same_state_with_and_without_snapshots(market, replay, seq) -> None:
    settings, disk = settings_for(market[0])
    exchange, last = settings.make(), 0
    for group in Reader(disk):
        n = int(np.searchsorted(group.commands["seq"], seq, side="right"))
        if n == len(group.commands):
            exchange.apply(group.commands, group.payloads)
            last = int(group.commands["seq"][-1])
        else:
            lengths = np.where(group.commands["kind"] == 7, group.commands["quantity"], 0)[:n].sum()
            exchange.apply(group.commands[:n], group.payloads[:lengths])
            last = int(group.commands["seq"][n - 1])
            break
    assert replay.go_to(Moment(seq=seq)) == last == min(seq, market[1].seq)
    assert replay.exchange.state_hash() == exchange.state_hash()


def test_going_back_and_forth_ends_in_the_same_state(market, replay) -> None:
    hashes = {}
    for seq in (50, 300, 120, 300, 50, 10, 120):
        replay.go_to(Moment(seq=seq))
        assert hashes.setdefault(seq, replay.exchange.state_hash()) == replay.exchange.state_hash()
    assert len(set(hashes.values())) == 4


def test_a_time_means_all_commands_up_to_it(market, replay) -> None:
    replay.go_to(parse_moment("2025-12-02T11:30"))
    morning = replay.exchange
    assert int(morning.market.market[0]["date"]) == 20251202
    assert morning.time_ns <= parse_moment("2025-12-02T11:30").time_ns
    (commands, _), *_ = replay.step(1)
    assert commands["time_ns"][0] > parse_moment("2025-12-02T11:30").time_ns
    assert replay.go_to(parse_moment("1969-12-31T00:00")) == 0


def test_an_index_of_states_gives_the_same_moment(market, replay, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("replay.journal.INDEX_EVERY", 100)
    replay.run(index=tmp_path)
    assert len(list(tmp_path.glob("*.state"))) >= 3
    plain, indexed = JournalReplay(*settings_for(market[0])), JournalReplay(*settings_for(market[0]))
    assert plain.go_to(Moment(seq=371)) == indexed.go_to(Moment(seq=371), tmp_path) == 371
    assert plain.exchange.state_hash() == indexed.exchange.state_hash()


def test_a_segment_file_is_replayed_to_its_end(market) -> None:
    first = sorted(market[0].glob("*.segment"))[0]
    run = CliRunner().invoke(app, ["journal", str(first), "--json"])
    whole = CliRunner().invoke(app, ["journal", str(market[0]), "--json"])
    assert run.exit_code == whole.exit_code == 0
    assert json.loads(run.stdout)["last_seq"] < json.loads(whole.stdout)["last_seq"]


def test_a_changed_byte_in_the_journal_ends_the_replay_before_it(market, tmp_path) -> None:
    last = sorted(market[0].glob("*.segment"))[2]
    for file in market[0].glob("*.segment"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    data = bytearray(last.read_bytes())
    data[SEGMENT_HEADER_BYTES + 64 + 16] ^= 1  # the price of its first command
    (tmp_path / last.name).write_bytes(data)
    r = JournalReplay(*settings_for(tmp_path)).run()
    assert 0 < r.last_seq < market[1].seq


def test_a_state_that_differs_from_seal_snapshot_or_report_turns_the_run_red(market, replay, tmp_path) -> None:
    good = replay.run()
    report = tmp_path / "report.json"
    report.write_bytes(msgspec.json.encode(good))
    assert CliRunner().invoke(app, ["journal", str(market[0]), "--expect", str(report)]).exit_code == 0
    settings, disk = settings_for(market[0])
    planted = JournalReplay(settings, disk)
    planted.exchange.market.accounts[11]["available"] = 1  # a state that the commands do not explain
    red = planted.run()
    assert {"seal", "snapshot"} <= {w for d in red.differs for w in ("seal", "snapshot") if w in d}
    assert compare_minutes(good, red)
    changed = msgspec.structs.replace(good, events_hash="0")
    report.write_bytes(msgspec.json.encode(changed))
    run = CliRunner().invoke(app, ["journal", str(market[0]), "--expect", str(report)])
    assert run.exit_code == 1 and "events_hash" in run.stdout
    assert isinstance(msgspec.json.decode(report.read_bytes(), type=JournalReport), JournalReport)


def test_an_orders_whole_life_is_one_view(market, replay) -> None:
    deals = []
    replay.run(watch=lambda out: deals.extend(out.events[out.events["kind"] == FILL_MAKER].copy()))
    order = int(deals[5]["order_id"])
    run = CliRunner().invoke(app, ["journal", str(market[0]), "--order", str(order), "--json"])
    rows = json.loads(run.stdout)
    assert rows[0]["event"] == "accepted" and "fill maker" in [r["event"] for r in rows]
    assert all(r["order"] == order for r in rows)
    dealt = sum(r["quantity"] for r in rows if r["event"] == "fill maker")
    assert life_of(rows).startswith(f"order {order} of account {rows[0]['account']}: ")
    assert f"{rows[0]['instrument']} at " in life_of(rows) and f"{dealt:,} t dealt in " in life_of(rows)
    text = CliRunner().invoke(app, ["journal", str(market[0]), "--order", str(order)]).stdout.splitlines()
    assert len(text) == len(rows) + 1 and text[-1] == life_of(rows)
    assert "no event" in CliRunner().invoke(app, ["journal", str(market[0]), "--order", "999"]).stderr


def test_filters_by_account_and_instrument_hold(market) -> None:
    args = ["journal", str(market[0]), "--account", "3", "--instrument", "CEA24", "--json"]
    rows = json.loads(CliRunner().invoke(app, args).stdout)
    assert rows and all(r["account"] == 3 and r["instrument"] == "CEA24" for r in rows)
    text = CliRunner().invoke(app, ["journal", str(market[0]), "--account", "3", "--speed", "1e9"])
    assert text.exit_code == 0 and "account 3" in text.stdout and "CEA24" in text.stdout


def test_a_moment_shows_books_accounts_and_desk_and_steps_on(market) -> None:
    args = ["journal", str(market[0]), "--at", "2025-12-03T14:00", "--step", "3"]
    view = json.loads(CliRunner().invoke(app, [*args, "--json"]).stdout)
    assert set(view["books"]) == {"CEA23", "CEA24"} and len(view["accounts"]) == 12 and len(view["steps"]) == 3
    assert view["steps"][0][0]["seq"] == view["seq"] + 1
    text = CliRunner().invoke(app, args)
    assert text.exit_code == 0 and "limits" in text.stdout and "account 0:" in text.stdout


def test_the_same_rules_give_the_same_deals_and_others_give_others(market) -> None:
    settings, disk = settings_for(market[0])
    same = WhatIf(settings, {}).run(disk)
    assert same.deals[0] == same.deals[1] > 100 and same.differences == [] and same.vintage_days == 6
    other = WhatIf(settings, {"best_levels": 1}).run(disk)
    assert other.deals[1] < other.deals[0] and len(other.differences) == 6
    assert other.volume[0] == same.volume[0]


def test_what_if_shows_what_a_narrower_limit_refuses(market) -> None:
    limits = '[{"from_date": 20210716, "listed_bp": 10, "bulk_bp": 3000}]'
    run = CliRunner().invoke(app, ["journal", str(market[0]), "--what-if", f"limits={limits}", "--json"])
    report = json.loads(run.stdout)
    assert run.exit_code == 0 and report["rejected"][1] > report["rejected"][0]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--what-if", "beast_levels=1"], "best_levels,"),
        (["--instrument", "CEA99"], "the journal has CEA23, CEA24"),
        (["--what-if", "best_levels=x"], "no JSON"),
        (["--what-if", "best_levels=-1"], "best_levels"),
        (["--at", "noon"], "expected a sequence number"),
        (["--expect", "nowhere.json"], "no report"),
    ],
)
def test_wrong_wishes_are_one_clear_line(market, args, says) -> None:
    run = CliRunner().invoke(app, ["journal", str(market[0]), *args])
    assert run.exit_code == 2 and says in run.stderr and len(run.stderr.strip().splitlines()) == 1


def test_a_folder_without_a_journal_and_foreign_rules_are_refused(market, tmp_path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        settings_for(tmp_path / "nothing")
    with pytest.raises(SourceError, match="no journal segment"):
        settings_for(tmp_path)
    rules = tmp_path / "rules.toml"
    rules.write_text("best_levels = 4\n")
    with pytest.raises(SourceError, match="not those found"):
        settings_for(market[0], rules)
    rules.write_text("best_levels = 5\n")
    assert settings_for(market[0], rules)[0].rules.best_levels == 5
    rules.write_text("best_level = 5\n")
    with pytest.raises(SourceError, match="best_level"):
        settings_for(market[0], rules)


def test_reading_takes_no_lock_and_writes_nothing(market) -> None:
    before = {p.name: p.stat().st_mtime_ns for p in market[0].iterdir()}
    disk = RealDisk(market[0])
    disk.lock()
    try:
        assert JournalReplay(*settings_for(market[0])).run().ok
    finally:
        disk.unlock()
    assert {p.name: p.stat().st_mtime_ns for p in market[0].iterdir()} == before
