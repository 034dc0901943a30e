"""Ledger and serial ranges against dictionaries, constraints, seals, and what tampering leaves behind."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registry_world import DAY_BEFORE, NOON, PostgresServer, new_database, settled, small_world, some_deals
from registry_world import postgres as postgres
from registry_world import url as url
from registry_world import world as world
from sqlalchemy.exc import DBAPIError, IntegrityError

from settlement import store
from settlement.errors import Refused, accepted
from settlement.kinds import ActKind
from settlement.ledger import Act, Leg, act_id
from settlement.registry import Registry
from settlement.serials import RangeWindow, join, parse_serial, serial_text, span_class
from settlement.verify import check, verify

# -- serial ranges


class Table:
    """A stored table of ranges, for a window to load from and write to."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, int], int] = {}

    def load(self, after: tuple[int, int], limit: int) -> list[tuple[int, int, int]]:
        rows = sorted((day, first, last) for (day, first), last in self.rows.items() if (day, first) > after)
        return rows[:limit]

    def write(self, window: RangeWindow) -> None:
        gone, new = window.changes()
        for day, first, last in gone:
            assert self.rows.pop((day, first)) == last
        for day, first, last in new:
            assert (day, first) not in self.rows
            self.rows[day, first] = last

    def serials(self) -> list[tuple[int, int]]:
        return sorted((day, s) for (day, first), last in self.rows.items() for s in range(first, last + 1))


@given(st.lists(st.tuples(st.sampled_from(["put", "take", "write"]), st.integers(1, 9)), max_size=60))
@settings(max_examples=150, deadline=None)
def test_ranges_hold_the_serials_that_a_set_would_and_give_the_oldest_first(steps: list[tuple[str, int]]) -> None:
    table = Table()
    window, model = RangeWindow(table.load), list[tuple[int, int]]()
    next_serial, day = 1, 1
    free: list[int] = []
    for what, number in steps:
        if what == "put":
            # Every second time serials come back that were given before, in pieces: they split and join.
            back = [free.pop(0) for _ in range(min(len(free), number))] if number % 2 else []
            fresh = back or list(range(next_serial, next_serial + number))
            next_serial = max(next_serial, fresh[-1] + 1)
            window.put(day, join((s, s) for s in fresh))
            model.extend((day, s) for s in fresh)
        elif what == "take" and len(model) >= number:
            model.sort()
            given_, model = model[:number], model[number:]
            pieces = window.take(number)
            serials = [s for first, last in pieces for s in range(first, last + 1)]
            assert serials == [s for _, s in given_]
            free = sorted(free + serials)
        elif what == "write":
            table.write(window)
            assert table.serials() == sorted(model)
            window, day = RangeWindow(table.load), day + 1
    table.write(window)
    assert table.serials() == sorted(model)


def test_a_window_loads_only_what_it_gives() -> None:
    table = Table()
    table.rows = {(1, first): first for first in range(1, 20_001, 2)}
    asked: list[int] = []

    def load(after: tuple[int, int], limit: int) -> list[tuple[int, int, int]]:
        asked.append(limit)
        return table.load(after, limit)

    window = RangeWindow(load)
    assert len(window.take(20)) == 20
    assert sum(asked) < 50


def test_overlapping_ranges_are_a_programmers_error() -> None:
    assert join([(5, 9), (1, 4)]) == [(1, 9)]
    with pytest.raises(AssertionError, match="overlap"):
        join([(1, 5), (5, 9)])


@pytest.mark.parametrize(
    "text", ["", "CEA24", "CEA24-1", "-000000000001", "CEA24-00000000000x", "CEA24-０００００００００００１"]
)
def test_what_is_no_serial_is_not_parsed(text: str) -> None:
    assert parse_serial(text) is None
    assert parse_serial(serial_text("CEA24", 17)) == ("CEA24", 17)


def test_a_span_class_bounds_the_length() -> None:
    for length in (1, 2, 3, 4, 1023, 1024):
        k = span_class(10, 9 + length)
        assert 2 ** (k - 1) <= length < 2**k


# -- the ledger against a dictionary

AMOUNT = st.integers(1, 60)
STEP = st.tuples(st.sampled_from(["post", "pend", "yes", "no", "chain"]), st.integers(0, 3), st.integers(0, 3), AMOUNT)


@given(st.lists(STEP, max_size=25))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_of_transfers_leaves_the_balances_of_a_dictionary(tmp_path: Path, steps: list) -> None:
    file = tmp_path / f"{len(list(tmp_path.iterdir()))}.db"
    registry = small_world(f"sqlite:///{file}", tonnes=100, cash_fen=0)
    held = dict.fromkeys(range(1, 5), 100)
    reserved: dict[int, int] = defaultdict(int)
    waiting: list[tuple[int, int, int, int]] = []
    for number, (what, a, b, amount) in enumerate(steps):
        giver, taker = a + 1, b + 1
        if giver == taker:
            continue
        with registry.ledger.posting(NOON) as posting:
            accounts = {n: posting.account(n, "CEA24", "trading") for n in range(1, 5)}
            free = held[giver] - reserved[giver]
            if what in ("post", "chain"):
                legs = [Leg(accounts[giver], accounts[taker], amount, 99)]
                third = taker % 4 + 1
                if what == "chain" and third != taker:
                    legs.append(Leg(accounts[taker], accounts[third], held[taker] - reserved[taker] + 1, 99))
                fits = free >= amount
                assert (posting.chain(10_000 + number, legs) is None) == fits
                if fits:
                    held[giver] -= amount
                    held[taker] += amount
                    if len(legs) == 2:
                        held[taker], held[third] = held[taker] - legs[1].amount, held[third] + legs[1].amount
            elif what == "pend":
                refused = posting.chain(10_000 + number, [Leg(accounts[giver], accounts[taker], amount, 99, 1)])
                assert (refused is None) == (free >= amount)
                if refused is None:
                    reserved[giver] += amount
                    waiting.append((10_000 + number, giver, taker, amount))
            elif waiting:
                act, giver, taker, amount = waiting.pop(0)
                state = 2 if what == "yes" else 3
                legs = [Leg(accounts[giver], accounts[taker], amount, 99, state, (act, 0), amount)]
                assert posting.chain(10_000 + number, legs) is None
                reserved[giver] -= amount
                if what == "yes":
                    held[giver] -= amount
                    held[taker] += amount
    found = {h.account: (h.quantity, h.reserved) for h in registry.holdings() if h.asset == "CEA24"}
    assert found == {n: (held[n], reserved[n]) for n in held if held[n]}
    assert verify(registry.engine) == []
    registry.close()


def test_a_chain_posts_all_its_legs_or_none(world: Registry) -> None:
    with world.ledger.posting(NOON) as posting:
        a, b, c = (posting.account(n, "CEA24", "trading") for n in (1, 2, 3))
        refused = posting.chain(7, [Leg(a, b, 10, 99), Leg(b, c, 5_000_000, 99)])
        assert isinstance(refused, Refused)
        assert refused.field == "account 2, CEA24, trading"
    assert world.balance(1, "CEA24", "trading") == world.balance(2, "CEA24", "trading") == 1_000_000


def test_an_exception_inside_a_batch_posts_nothing(world: Registry) -> None:
    def fail() -> None:
        with world.batch(NOON):
            accepted(world.deposit(1, 5, "d-x", NOON))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert world.cash(1) == 10**12
    assert accepted(world.deposit(1, 5, "d-x", NOON)).repeated is False


def test_the_same_act_has_the_same_id_everywhere() -> None:
    assert act_id(ActKind.ISSUE, "2025-17") == 6_204_981_848_544_050_462
    assert act_id(ActKind.ISSUE, "2025-17") != act_id(ActKind.CANCEL, "2025-17")


# -- constraints of the database itself


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_account SET debits_posted = credits_posted + 1 WHERE unbounded = 0 AND owner = 1",
        "UPDATE ledger_account SET final = 1 WHERE debits_posted > 0",
        "UPDATE transfer SET amount = 1",
        "DELETE FROM transfer",
        "DELETE FROM act",
        "UPDATE serial_move SET last = last + 1",
        "DELETE FROM seal",
        "UPDATE asset SET kind = 'gold'",
        "INSERT INTO head VALUES (2, 0, '', 1)",
    ],
)
def test_the_database_refuses_what_the_rules_forbid(world: Registry, statement: str) -> None:
    with pytest.raises(DBAPIError), store.writing(world.engine) as connection:
        connection.exec_driver_sql(statement)
    assert verify(world.engine) == []


def test_a_deals_leg_cannot_be_posted_twice(world: Registry) -> None:
    settled(world, some_deals(1))
    deal = int(some_deals(1)["deal_id"][0])

    def again() -> None:
        with world.ledger.posting(NOON) as posting:
            a, b = posting.account(1, "CEA24", "trading"), posting.account(2, "CEA24", "trading")
            assert posting.chain(deal, [Leg(a, b, 1, 1)]) is None

    with pytest.raises(IntegrityError):
        again()


# -- tampering

TAMPERING = {
    "amount": "UPDATE transfer SET amount = amount + 1 WHERE kind = 1 AND leg = 1",
    "taker": "UPDATE transfer SET credit = (SELECT max(id) FROM ledger_account) WHERE act = (SELECT max(id) FROM act)",
    "voucher": "UPDATE act SET content = '{}' WHERE kind = 3",
    "document": "UPDATE act SET document = 'other' WHERE document = 'issue-CEA24-1'",
    "serial": "UPDATE serial_move SET first = first + 1 WHERE first < last",
    "seal": "UPDATE seal SET transfers = transfers, digest = (SELECT digest FROM seal WHERE batch = 1) WHERE batch = 2",
    "gone": "DELETE FROM transfer WHERE kind = 17",
    "deal": "UPDATE deal SET time_ns = time_ns + 1",
    "balance": "UPDATE ledger_account SET credits_posted = credits_posted + 5 WHERE bucket = 'trading'",
    "range": 'UPDATE holding_range SET "last" = "last" + 1',
}


@pytest.mark.parametrize("what", TAMPERING)
def test_tampering_with_a_posted_row_is_found(tmp_path: Path, what: str) -> None:
    registry = small_world(f"sqlite:///{tmp_path}/r.db")
    settled(registry, some_deals(5))
    assert verify(registry.engine) == []
    tamper(registry, TAMPERING[what], "DROP TRIGGER {table}_no_{event}")
    assert verify(registry.engine), what
    registry.close()


@pytest.mark.slow
def test_tampering_on_postgresql_is_found(postgres: PostgresServer) -> None:
    registry = small_world(new_database(postgres))
    settled(registry, some_deals(5))
    assert verify(registry.engine) == []
    with store.writing(registry.engine) as connection:
        connection.exec_driver_sql("ALTER TABLE transfer DISABLE TRIGGER ALL")
        connection.exec_driver_sql(TAMPERING["amount"])
    findings = verify(registry.engine)
    assert any("was changed after it was posted" in finding for finding in findings)
    registry.close()


def tamper(registry: Registry, statement: str, drop: str) -> None:
    with store.writing(registry.engine) as connection:
        for table in ("transfer", "act", "serial_move", "seal", "deal"):
            for event in ("update", "delete"):
                connection.exec_driver_sql(drop.format(table=table, event=event))
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        connection.exec_driver_sql(statement)


def test_planted_bug_serials_that_are_not_moved_are_found(world: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    from settlement.ledger import Posting

    monkeypatch.setattr(Posting, "_move_serials", lambda self, *_: None)
    with world.ledger.posting(NOON) as posting:
        a, b = posting.account(1, "CEA24", "trading"), posting.account(2, "CEA24", "trading")
        assert posting.chain(7, [Leg(a, b, 10, 99)]) is None
        posting.record(Act(ActKind.OPERATOR, "x", 1, DAY_BEFORE, {}))
    with store.reading(world.engine) as connection:
        assert any(finding.startswith("serials: account") for finding in check(connection))
