"""Synthetic flow: a seed is a day, rates are what they say, and the journal replays to the same state."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from replay.journal import JournalReplay
from replay.market_settings import settings_for
from replay.simulate import Parameters, Simulation, arrivals
from replay.simulate_command import app

SMALL = Parameters(seed=5, rate=0.03, members=12)


def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


@pytest.mark.parametrize("kind", ["zero", "hawkes"])
def test_equal_seeds_give_equal_days_and_others_others(kind, tmp_path) -> None:
    p = msgspec.structs.replace(SMALL, kind=kind)
    a, b = Simulation(p, tmp_path / "a").run(), Simulation(p).run()
    assert a.state_hash == b.state_hash and a.deals == b.deals > 50
    assert Simulation(msgspec.structs.replace(p, seed=6)).run().state_hash != a.state_hash
    replayed = JournalReplay(*settings_for(tmp_path / "a")).run()
    assert replayed.ok and replayed.state_hash == a.state_hash and replayed.seals_checked == 1


def test_the_market_is_sound_after_the_day() -> None:
    s = Simulation(SMALL)
    s.run()
    s.exchange.check()
    assert s.exchange.market.total_cash() == SMALL.members * 50_000_000_00


def test_arrivals_have_the_stated_mean_rate() -> None:
    zero = Parameters(kind="zero", rate=2.0)
    hawkes = Parameters(kind="hawkes", rate=0.5, excitement=0.75, decay=0.5)  # mean rate μ / (1 − α/β) = 2
    for p in (zero, hawkes):
        counts = [len(arrivals(rng(seed), p, 2_000.0)) for seed in range(10)]
        assert abs(np.mean(counts) / 4_000 - 1) < 0.1


def test_hawkes_messages_come_in_clusters_and_poisson_ones_do_not() -> None:
    """Variance over mean of counts per 20 s: 1 for Poisson, 1 / (1 − 0.75)² = 16 for long windows of this process."""
    dispersion = {}
    for p in (Parameters(kind="zero", rate=2.0), Parameters(kind="hawkes", rate=0.5, excitement=0.75, decay=0.5)):
        times = np.concatenate([arrivals(rng(seed), p, 2_000.0) + 2_000 * seed for seed in range(10)])
        counts = np.histogram(times, bins=np.arange(0, 20_001, 20))[0]
        dispersion[p.kind] = counts.var() / counts.mean()
    assert 0.85 < dispersion["zero"] < 1.15 and dispersion["hawkes"] > 5


def test_need_before_the_deadline_makes_members_buy_what_they_lack() -> None:
    far = Simulation(msgspec.structs.replace(SMALL, days_to_deadline=10_000)).run()
    near = Simulation(msgspec.structs.replace(SMALL, days_to_deadline=0)).run()
    assert near.still_needed_t < far.still_needed_t


def test_an_interrupted_simulation_leaves_nothing_behind(tmp_path, monkeypatch) -> None:
    def stop(self, time_ns, code):
        assert [p.name for p in tmp_path.iterdir()] == ["j.part"]
        raise KeyboardInterrupt

    monkeypatch.setattr(Simulation, "_message", stop)
    run = CliRunner().invoke(app, ["zero", "--rate", "0.02", "--out", str(tmp_path / "j")])
    assert run.exit_code != 0 and not list(tmp_path.iterdir())


def test_the_command_prints_seed_and_parameters(tmp_path) -> None:
    run = CliRunner().invoke(app, ["hawkes", "--seed", "3", "--rate", "0.02", "--members", "8", "--json"])
    out = json.loads(run.stdout)
    assert run.exit_code == 0 and out["parameters"]["seed"] == 3 and out["parameters"]["rate"] == 0.02
    text = CliRunner().invoke(app, ["zero", "--rate", "0.02", "--out", str(tmp_path / "j")])
    assert text.exit_code == 0 and "assumed" in text.stdout
    again = CliRunner().invoke(app, ["zero", "--out", str(tmp_path / "j")])
    assert again.exit_code == 2 and "not empty" in again.stderr
    assert CliRunner().invoke(app, ["hawkes", "--excitement", "1.0"]).exit_code == 2
