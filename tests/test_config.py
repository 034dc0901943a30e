"""The market folder's files as people read them: commented, complete, and equal to what they were made from."""

from __future__ import annotations

import tomllib
from functools import partial
from itertools import pairwise

import msgspec
import pytest

from cea.folder import init_command, make_market
from engine.market import Capacity
from engine.rules import Rules
from gateway import config_text as text
from gateway.config import Config, Gateway, Member, Operator, load
from gateway.surveillance import Thresholds

FULL = Config(
    name='quoted "name" 碳',
    instruments={"CEA24": 5_991, "CEA.X": 1},
    composite=5_975,
    members=(Member(1, "a"), Member(7, "b", self_trade=2, group=3)),
    operators=(Operator("one", "viewer"),),
    rules={
        "tick_fen": 2,
        "fees": [{"from_date": 20210716, "trading_ppm": 5}],
        "policies": {"CEA24": {"matching": "listing"}},
    },
    capacity={"deals": 9},
    gateway=Gateway(lane="hot", members_port=4_000, conflate_ms=250),
    registry="postgresql+psycopg://cea@db/registry",
)


def parse(written: str) -> Config:
    return msgspec.convert(tomllib.loads(written), Config)


def without_words(words: dict[str, str], kind: type) -> set[str]:
    """Options that have no text, and texts of options that are not there."""
    return {f.name for f in msgspec.structs.fields(kind)} ^ set(words)


@pytest.mark.parametrize("config", [FULL, Config(), Config(members=(Member(1, "a"),), rules={"profile": "generic"})])
def test_the_commented_configuration_is_the_configuration(config):
    assert parse(text.market_toml(config)) == config


def test_a_line_whose_comment_is_taken_away_changes_nothing_but_says_it():
    written = text.market_toml(FULL).splitlines()
    names = {*text.RULES, *text.CAPACITY}
    bare = [line[2:] if line.startswith("# ") and line[2:].split(" = ")[0] in names else line for line in written]
    config = parse("\n".join(bare))
    assert set(config.rules) == set(text.RULES) and set(config.capacity) == set(text.CAPACITY)
    assert config.make_rules() == FULL.make_rules() and config.make_rules() != Config().make_rules()
    assert vars(Capacity(**config.capacity)) == vars(Capacity(**FULL.capacity))


@pytest.mark.parametrize("kind", [Config, Gateway, Member, Operator, Rules])
def test_every_option_has_its_words_and_every_word_its_option(kind):
    assert without_words(text.WORDS[kind], kind) == set()


def test_every_threshold_and_capacity_has_its_words():
    assert without_words(text.SURVEILLANCE, Thresholds) == set()
    assert set(text.CAPACITY) == set(vars(Capacity()))


def test_an_option_without_words_would_be_found():
    class More(Gateway, frozen=True):
        new_option: int = 3

    assert without_words(text.GATEWAY, More) == {"new_option"}


def test_every_written_option_stands_under_its_comment():
    known = {*text.CONFIG, *text.GATEWAY, *text.RULES, *text.CAPACITY, *text.SURVEILLANCE} - {"name"}
    seen = set()
    for written in (text.market_toml(FULL), text.surveillance_toml()):
        for above, line in pairwise(written.splitlines()):
            option = line.removeprefix("# ").split(" = ")[0]
            if " = " in line and option in known:
                seen.add(option)
                assert above.startswith("# ") and above[2:].split(" = ")[0] not in known, line
    assert seen == known - {"members", "operators", "rules", "capacity", "gateway"}


def test_every_threshold_may_be_changed_in_the_file_that_is_written():
    bare = "\n".join(line[2:] for line in text.surveillance_toml().splitlines() if " = " in line)
    assert msgspec.toml.decode(bare.encode(), type=Thresholds) == Thresholds()
    assert msgspec.toml.decode(text.surveillance_toml().encode(), type=Thresholds) == Thresholds()


@pytest.mark.slow
def test_init_asks_for_everything_and_writes_what_was_answered(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "asked"
    answers = iter([str(folder), "my market", "20251203", "2", "41000", "hot", "sqlite:///r.db", "y"])
    monkeypatch.setattr("cea.folder.sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr("typer._click.termui.visible_prompt_func", lambda prompt: next(answers))
    days = [20251202, 20251203, 20251204]  # the whole calendar takes a second
    monkeypatch.setattr("cea.folder.make_market", partial(make_market, days=days))
    more = {"name": "", "members": 3, "date": 20251203, "port": 0, "registry": "sqlite:///registry.db", "lane": "plain"}
    init_command(tmp_path / "default", yes=False, empty=False, **more)
    config = load(folder).config
    assert (config.name, config.first_date, len(config.members)) == ("my market", 20251203, 2)
    g = config.gateway
    assert (g.members_port, g.operators_port, g.feed_port, g.metrics_port, g.lane) == (
        41000,
        41001,
        41002,
        41003,
        "hot",
    )
    assert (
        config.registry == "sqlite:///r.db" and (folder / "r.db").exists() and (folder / "surveillance.toml").exists()
    )
    assert "cea doctor" in capsys.readouterr().out
