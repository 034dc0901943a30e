"""SIGKILL at random points of a settlement: afterwards each deal is settled exactly once and the books are equal."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from registry_world import (
    DAY,
    NOON,
    PostgresServer,
    confirmed,
    expected_balances,
    new_database,
    small_world,
    some_deals,
    trading_balances,
)
from registry_world import postgres as postgres
from sqlalchemy import func, select

from settlement import schema, store
from settlement.delivery import Delivery
from settlement.errors import accepted
from settlement.registry import Registry
from settlement.states import DayState
from settlement.verify import verify

CHILD = Path(__file__).with_name("settlement_child.py")


def kill_and_resume(url: str, kills: int, deals_a_kill: int, block: int, seed: int) -> int:
    """Settle a day of deals under ``kills`` kills; returns how many kills hit a running settlement."""
    dice = random.Random(seed)
    registry = small_world(url)
    deals = some_deals(kills * deals_a_kill, seed=seed, fees=True)
    before = trading_balances(registry)
    confirmed(registry, deals)
    hits = 0
    forker = subprocess.Popen(
        [sys.executable, str(CHILD), url, str(block)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=CHILD.parent.parent,
        env={"PYTHONPATH": f"{CHILD.parent}:{CHILD.parent.parent}", "PATH": "/usr/bin:/bin"},
    )
    for _ in range(kills):
        hits += kill_once(forker, dice)
        with store.reading(registry.engine) as connection:
            legs = select(schema.transfer.c.leg, func.count()).where(schema.transfer.c.kind == 1)
            counts = dict(connection.execute(legs.group_by(schema.transfer.c.leg)).all())
        assert len(set(counts.values())) <= 1, f"one leg without the other: {counts}"
    forker.communicate()
    day = accepted(Delivery(registry).settle(DAY, NOON))
    assert day.state == DayState.SETTLED
    assert trading_balances(registry) == expected_balances(before, deals)
    assert verify(registry.engine) == []
    registry.close()
    return hits


def kill_once(forker: subprocess.Popen[str], dice: random.Random) -> bool:
    """Start a settling process and kill it some blocks later, at a moment that no block knows; whether it was still
    settling."""
    assert forker.stdin is not None
    assert forker.stdout is not None
    forker.stdin.write("start\n")
    forker.stdin.flush()
    lines: list[str] = []  # the child's number and what the child itself says, in any order

    def read() -> str:
        assert forker.stdout is not None
        lines.append(forker.stdout.readline())
        assert lines[-1], "the forker has ended"
        return lines[-1]

    while not (any(line.startswith("child ") for line in lines) and "ready\n" in lines):
        read()
    child = next(int(line.split()[1]) for line in lines if line.startswith("child "))
    for _ in range(dice.randrange(3)):
        if {f"{DayState.SETTLED}\n", "ended\n"} & set(lines):
            break
        read()
    time.sleep(dice.random() * 0.03)
    with contextlib.suppress(ProcessLookupError):  # it has ended
        os.kill(child, signal.SIGKILL)
    while "ended\n" not in lines:
        read()
    return f"{DayState.SETTLED}\n" not in lines


def test_two_kills_on_sqlite_lose_and_repeat_nothing(tmp_path: Path) -> None:
    assert kill_and_resume(f"sqlite:///{tmp_path}/r.db", kills=2, deals_a_kill=400, block=40, seed=7) > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_twenty_kills_on_sqlite(tmp_path: Path, seed: int) -> None:
    assert kill_and_resume(f"sqlite:///{tmp_path}/r.db", kills=20, deals_a_kill=250, block=50, seed=seed) > 10


@pytest.mark.slow
def test_twenty_kills_on_postgresql(postgres: PostgresServer) -> None:
    assert kill_and_resume(new_database(postgres), kills=20, deals_a_kill=250, block=50, seed=2) > 10


@pytest.mark.soak
def test_two_hundred_kills_on_each(tmp_path: Path, postgres: PostgresServer) -> None:
    for round_ in range(10):
        url = f"sqlite:///{tmp_path}/{round_}.db"
        assert kill_and_resume(url, kills=20, deals_a_kill=250, block=50, seed=100 + round_) > 10
        assert kill_and_resume(new_database(postgres), kills=20, deals_a_kill=250, block=50, seed=200 + round_) > 10


def test_planted_bug_a_settlement_that_forgets_where_it_was_posts_twice(tmp_path: Path) -> None:
    """Without the deal as the transfers' key, a cursor that is set back would deliver again; the key refuses."""
    registry = small_world(f"sqlite:///{tmp_path}/r.db")
    deals = some_deals(10)
    delivery = confirmed(registry, deals)
    accepted(delivery.settle(DAY, NOON))
    with store.writing(registry.engine) as connection:
        connection.exec_driver_sql("UPDATE settlement_day SET settled_through = 0, state = 'confirmed'")
    after = trading_balances(registry)
    with pytest.raises(Exception, match="UNIQUE"):
        delivery.settle(DAY, NOON)
    assert trading_balances(registry) == after
    registry.close()


def test_a_registry_opened_by_two_processes_stays_one_chain(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/r.db"
    first = small_world(url)
    second = Registry.open(url)
    for number in range(10):
        accepted((first, second)[number % 2].deposit(1, 5, f"d-{number}", NOON))
    assert first.cash(1) == second.cash(1) == 10**12 + 50
    assert verify(first.engine) == []
    first.close()
    second.close()
