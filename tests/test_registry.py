"""The registry's acts (R13), on SQLite and on PostgreSQL."""

from __future__ import annotations

import numpy as np
import pytest
from registry_world import DAY, NOON, one_deal, settled, small_world
from registry_world import postgres as postgres
from registry_world import url as url
from registry_world import world as world

from settlement import compliance, store
from settlement.errors import Refused, accepted
from settlement.hours import TransferHours, day_bounds_ns
from settlement.kinds import ActKind
from settlement.registry import AccountForm, Registry
from settlement.verify import verify

DEADLINE = 20251231


def code(result: object) -> str:
    assert isinstance(result, Refused), result
    return result.code


def test_issue_gives_serials_in_one_line_and_a_repeat_does_nothing(world: Registry) -> None:
    first = accepted(world.issue(1, "CEA24", 500, "doc-1", NOON, "final"))
    again = accepted(world.issue(1, "CEA24", 500, "doc-1", NOON, "final"))
    assert again.repeated
    assert again.act == first.act
    assert world.ranges(1, "CEA24", "registry") == [(4_000_001, 4_000_500)]
    assert code(world.issue(1, "CEA24", 501, "doc-1", NOON, "final")) == "document_used"
    assert world.circulation()["CEA24"]["issued"] == 4_000_500


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((9, "CEA24", 5, "d", NOON), "account"),
        ((1, "CEA99", 5, "d", NOON), "asset"),
        ((1, "CNY", 5, "d", NOON), "asset"),
        ((1, "CEA24", 0, "d", NOON), "quantity"),
        ((1, "CEA24", -5, "d", NOON), "quantity"),
        ((1, "CEA24", 10**15 + 1, "d", NOON), "quantity"),
        ((1, "CEA24", True, "d", NOON), "quantity"),
        ((1, "CEA24", 5, "", NOON), "document"),
        ((1, "CEA24", 5, "d" * 81, NOON), "document"),
        ((1, "CEA24", 5, "a\nb", NOON), "document"),
        ((1, "CEA24", 5, "d", NOON, "gift"), "step"),
    ],
)
def test_a_bad_field_is_named(world: Registry, arguments: tuple, field: str) -> None:
    refused = world.issue(*arguments)
    assert isinstance(refused, Refused)
    assert refused.field == field
    assert world.circulation()["CEA24"]["issued"] == 4_000_000


def test_an_account_number_or_identity_is_given_once(world: Registry) -> None:
    for changed in ({"account": 1}, {"number": "R00001"}, {"identity": "91-00001"}):
        form = AccountForm(**{"account": 50, "number": "R50", "name": "N", "identity": "91-50", **changed})
        refused = world.open_account(form, "open-50", NOON)
        assert code(refused) == "already_exists"
        assert isinstance(refused, Refused)
        assert refused.field in changed


def test_only_what_is_free_moves_and_only_within_hours(world: Registry) -> None:
    assert code(world.move_out(1, "CEA24", 1_000_001, "out-1", NOON)) == "insufficient"
    accepted(world.move_out(1, "CEA24", 1_000, "out-1", NOON))
    world.transfer_hours = TransferHours()
    night = day_bounds_ns(DAY)[0] + 3600 * 10**9
    assert code(world.move_in(1, "CEA24", 10, "in-x", night)) == "outside_hours"
    saturday = NOON + 3 * 24 * 3600 * 10**9
    assert code(world.move_in(1, "CEA24", 10, "in-x", saturday)) == "outside_hours"
    assert accepted(world.move_out(1, "CEA24", 1_000, "out-1", night)).repeated, "a repeat works at any hour"
    accepted(world.move_in(1, "CEA24", 10, "in-x", NOON))
    assert world.balance(1, "CEA24", "registry") == 990


def test_a_freeze_is_lifted_or_deducted_up_to_what_it_froze(world: Registry) -> None:
    accepted(world.move_out(1, "CEA24", 1_000, "out-1", NOON))
    accepted(world.freeze(1, "CEA24", 600, "court-1", NOON))
    assert code(world.cancel(1, "CEA24", 401, "c", NOON)) == "insufficient"
    accepted(world.unfreeze("court-1", 100, "court-2", NOON))
    accepted(world.deduct("court-1", 200, "court-3", NOON, to_account=2))
    accepted(world.deduct("court-1", 50, "court-4", NOON))
    assert code(world.unfreeze("court-1", 251, "court-5", NOON)) == "too_much"
    accepted(world.unfreeze("court-1", 250, "court-5", NOON))
    assert world.balance(2, "CEA24", "registry") == 200
    assert world.balance(1, "CEA24", "deducted") == 50
    assert world.balance(1, "CEA24", "judicial") == 0
    assert code(world.release("court-1", 1, "x", NOON)) == "unknown_document"
    assert verify(world.engine) == []


def test_a_pledge_binds_until_it_is_released(world: Registry) -> None:
    accepted(world.pledge(1, "CEA24", 1_000_000, "bank-1", NOON, bucket="trading"))
    assert code(world.move_out(1, "CEA24", 1, "out", NOON)) == "insufficient"
    accepted(world.release("bank-1", 1_000_000, "bank-2", NOON))
    assert world.balance(1, "CEA24", "trading") == 1_000_000


def test_a_request_ties_up_and_is_decided_once(world: Registry) -> None:
    accepted(world.move_out(1, "CEA24", 1_000, "out-1", NOON))
    accepted(world.request_cancel(1, "CEA24", 700, "req-1", NOON))
    assert code(world.move_in(1, "CEA24", 301, "in-2", NOON)) == "insufficient"
    accepted(world.decide(ActKind.CANCEL, "req-1", True, "dec-1", NOON))
    assert code(world.decide(ActKind.CANCEL, "req-1", False, "dec-2", NOON)) == "already_resolved"
    assert world.balance(1, "CEA24", "cancelled") == 700
    assert code(world.decide(ActKind.CANCEL, "req-9", True, "dec-3", NOON)) == "unknown_request"


def test_the_history_of_a_serial_runs_from_issue_to_cancellation(world: Registry) -> None:
    settled(world, one_deal(1, buyer=2, seller=1, quantity=100))
    accepted(world.move_out(2, "CEA24", 1_000_100, "out-2", NOON))
    accepted(world.cancel(2, "CEA24", 1_000_100, "gift-1", NOON))
    steps = world.history("CEA24-000000000050")
    assert not isinstance(steps, Refused)
    assert [step.kind for step in steps] == ["issue", "transfer_in", "deal", "transfer_out", "cancel"]
    assert steps[-1].document == "gift-1"
    assert all(step.first <= 50 <= step.last for step in steps)
    assert [s.kind for s in accepted(world.history("CEA24-000000000150"))] == ["issue", "transfer_in"]
    assert code(world.history("CEA24-50")) == "bad_field"


def test_statements_add_up_from_any_day_to_any_day(world: Registry) -> None:
    start, end = day_bounds_ns(DAY)
    settled(world, np.concatenate([one_deal(1, 2, 1, 100), one_deal(2, 3, 1, 50, price=6_100)]))
    accepted(world.deposit(1, 500, "later", end + 1))
    statement = accepted(world.statement(1, start, end))
    assert statement.opening == {("CEA23", "trading"): 10**6, ("CEA24", "trading"): 10**6, ("CNY", "cash"): 10**12}
    assert statement.closing["CEA24", "trading"] == 10**6 - 150
    assert statement.closing["CNY", "cash"] == 10**12 + 600_000 + 305_000
    assert [(line.kind, line.change) for line in statement.lines if line.asset == "CNY"] == [
        ("sold", 600_000),
        ("sold", 305_000),
    ]
    whole = accepted(world.statement(1, 0, end + 2))
    assert whole.opening == {}
    assert whole.closing["CNY", "cash"] == world.cash(1)
    assert code(world.statement(99, start, end)) == "unknown_account"


# -- compliance


@pytest.fixture
def entity(world: Registry) -> Registry:
    """Account 1 with 100,000 t of CEA23 and CEA24 in the registry, 5,000 CCER, and 100,000 t of emissions in 2024."""
    for asset in ("CEA23", "CEA24"):
        accepted(world.move_out(1, asset, 100_000, f"out-{asset}", NOON))
    assert world.add_asset("CEA25", vintage=2025) is None
    assert world.add_asset("CCER", kind="offset") is None
    accepted(world.issue(1, "CCER", 6_000, "ccer", NOON))
    accepted(world.issue(1, "CEA25", 6_000, "cea25", NOON))
    accepted(world.set_obligation(1, 2024, 100_000, DEADLINE, "mee-1", NOON))
    return world


def test_surrender_takes_own_or_earlier_vintages_only(entity: Registry) -> None:
    accepted(entity.surrender(1, 2024, "CEA23", 60_000, "s-1", NOON))
    accepted(entity.surrender(1, 2024, "CEA24", 35_000, "s-2", NOON))
    assert code(entity.surrender(1, 2024, "CEA25", 5_000, "s-3", NOON)) == "not_usable"
    assert code(entity.surrender(1, 2022, "CEA23", 5_000, "s-3", NOON)) == "unknown_document"
    # More than there is: refused, also inside a batch of other acts, and nothing of it counts for the year.
    assert code(entity.surrender(1, 2024, "CEA24", 65_001, "s-4", NOON)) == "insufficient"
    with entity.batch(NOON):
        assert code(entity.surrender(1, 2024, "CEA24", 65_001, "s-4", NOON)) == "insufficient"
        assert code(entity.offset(1, 2024, "CCER", 6_001, "o-0", NOON)) == "too_much"
    (state,) = entity.compliance(2024, DAY)
    assert (state.missing_t, state.complied, state.warning, state.days_left) == (5_000, False, "watch", 28)
    assert code(entity.offset(1, 2024, "CCER", 5_001, "o-1", NOON)) == "too_much"
    accepted(entity.offset(1, 2024, "CCER", 5_000, "o-1", NOON))
    (state,) = entity.compliance(2024, DAY)
    assert state.complied
    assert entity.warnings(2024, DAY) == []
    assert entity.balance(1, "CCER", "cancelled") == 5_000
    assert verify(entity.engine) == []


def test_planted_bug_a_refused_surrender_that_counts_is_found(
    entity: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an act writes at the batch's end goes with its refusal; an edited obligation is no proof of compliance."""
    fees = entity.split_fees(DAY, 1, 0, "fees-1", NOON)  # nothing was collected: refused after its writes were noted
    assert code(fees) == "insufficient"
    assert verify(entity.engine) == []
    with store.writing(entity.engine) as connection:
        connection.exec_driver_sql("UPDATE obligation SET surrendered_t = 100000")
        connection.exec_driver_sql("UPDATE registry_account SET name = 'Somebody Else' WHERE account = 2")
    found = verify(entity.engine)
    assert any("obligations: 1 for 2024 stands at" in finding for finding in found)
    assert any("accounts: 2: name is 'Somebody Else'" in finding for finding in found)


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ((2024, 5, 20251331), "deadline"),
        ((2024, 5, 99), "deadline"),
        ((2026, 5, DEADLINE), "year"),
        ((3, 5, DEADLINE), "year"),
    ],
)
def test_an_obligation_has_a_year_and_a_date(entity: Registry, terms: tuple[int, int, int], field: str) -> None:
    refused = entity.set_obligation(2, *terms, "mee-9", NOON)
    assert isinstance(refused, Refused)
    assert refused.field == field
    assert entity.warnings(2024, DAY)


def test_an_allowance_has_a_vintage_and_a_form_one_line_a_field(world: Registry) -> None:
    """A vintage that was forgotten could not be mended: an asset's terms stay. A dump has one line a row."""
    assert code(world.add_asset("CEA30")) == "bad_field"
    assert code(world.add_asset("CEA30", vintage=30)) == "bad_field"
    assert world.add_asset("CEA30", vintage=2030) is None
    form = AccountForm(9, "R9", "Nine", "91-9", province="Hu\nbei")
    assert code(world.open_account(form, "open-9", NOON)) == "bad_field"


def test_serial_numbers_that_are_used_up_refuse_an_issue(world: Registry) -> None:
    refused = world.issue(1, "CEA24", 10**12, "too-many", NOON)
    assert isinstance(refused, Refused)
    assert refused.field == "quantity"
    assert verify(world.engine) == []


def test_early_warning_counts_what_open_orders_will_sell(entity: Registry) -> None:
    accepted(entity.set_obligation(1, 2024, 2_150_000, DEADLINE, "mee-2", NOON))
    (state,) = entity.warnings(2024, DAY)
    assert (state.warning, state.shortfall_t) == ("short", 150_000)
    (state,) = entity.warnings(2024, DAY, {(1, "CEA24"): 50_000, (1, "CEA25"): 999})
    assert state.shortfall_t == 200_000
    assert entity.warnings(2024, 20260101)[0].warning == "overdue"


def test_the_authority_surrenders_for_an_entity_and_the_next_allocation_is_cut(entity: Registry) -> None:
    accepted(entity.move_out(4, "CEA24", 100_000, "out-4", NOON))
    accepted(entity.forced_surrender(4, 1, 2024, "CEA24", 100_000, "force-1", NOON))
    assert entity.compliance(2024, DAY)[0].complied
    accepted(entity.cut_allocation(1, 2025, 30_000, "cut-1", NOON))
    accepted(entity.issue(1, "CEA25", 20_000, "alloc-1", NOON))
    accepted(entity.issue(1, "CEA25", 20_000, "alloc-2", NOON))
    accepted(entity.issue(1, "CEA25", 20_000, "alloc-3", NOON))
    assert entity.balance(1, "CEA25", "registry") == 6_000 + 60_000 - 30_000
    assert verify(entity.engine) == []


@pytest.mark.parametrize(
    ("sold", "bought", "holding", "expected"),
    [(0, 0, 50_000, 10_000), (10_001, 0, 50_000, 25_001), (5, 10, 50_000, 10_000), (100_000, 0, 7, 7)],
)
def test_carry_over_is_ten_thousand_and_one_and_a_half_times_what_was_sold(
    sold: int, bought: int, holding: int, expected: int
) -> None:
    assert compliance.carry_over_max(sold, bought, holding) == expected


def test_carry_over_freezes_from_the_application_and_exchanges_on_approval(entity: Registry) -> None:
    settled(entity, one_deal(1, buyer=2, seller=1, quantity=20_000))
    assert entity.carry_over_limit(1) == 40_000
    accepted(entity.apply_carry_over(1, "CEA23", 30_000, "co-1", NOON))
    assert code(entity.apply_carry_over(1, "CEA24", 10_001, "co-2", NOON)) == "too_much"
    assert code(entity.apply_carry_over(1, "CEA25", 1, "co-2", NOON)) == "not_usable"
    assert code(entity.surrender(1, 2024, "CEA23", 70_001, "s", NOON)) == "insufficient"
    accepted(entity.decide_carry_over("co-1", True, "co-1-yes", NOON))
    assert entity.balance(1, "CEA25", "registry") == 36_000
    assert entity.balance(1, "CEA23", "carried") == 30_000
    accepted(entity.apply_carry_over(1, "CEA24", 10_000, "co-3", NOON))
    accepted(entity.decide_carry_over("co-3", False, "co-3-no", NOON))
    assert entity.balance(1, "CEA25", "registry") == 36_000
    accepted(entity.apply_carry_over(1, "CEA24", 10_000, "co-4", NOON))
    assert verify(entity.engine) == []


def test_carry_over_counts_what_was_held_on_the_last_day_of_2025_whatever_happened_since(entity: Registry) -> None:
    """R13.8: T is bounded by the holding on 2025-12-31: neither receipts nor surrenders of 2026 change it."""
    settled(entity, one_deal(1, buyer=2, seller=1, quantity=20_000))
    then = entity.holdings_on(1, 20251231)
    later = NOON + 60 * 24 * 3600 * 10**9  # February 2026
    before = entity.carry_over_limit(1)
    assert before == 40_000
    held = sum(tonnes for (asset, _), tonnes in then.items() if asset in ("CEA23", "CEA24"))
    for asset, bucket in then:
        if asset in ("CEA23", "CEA24") and bucket == "registry":
            accepted(entity.cancel(1, asset, then[asset, bucket], f"gone-{asset}", later))
    accepted(entity.issue(1, "CEA23", 5, "late", later))
    assert entity.holdings_on(1, 20251231) == then
    assert sum(h.quantity for h in entity.holdings(1) if h.asset != "CNY" and h.bucket != "cancelled") < held
    assert entity.carry_over_limit(1) == before
    assert entity.holdings_on(1, 20251201).get(("CEA23", "trading"), 0) == 0, "before anything came in"


def test_an_account_that_holds_anything_is_not_closed(url: str) -> None:
    registry = small_world(url, tonnes=5, cash_fen=0)
    assert code(registry.close_account(1, "close", NOON)) == "insufficient"
    for asset in ("CEA23", "CEA24"):
        accepted(registry.move_out(1, asset, 5, f"out-{asset}", NOON))
        accepted(registry.cancel(1, asset, 5, f"cancel-{asset}", NOON))
    accepted(registry.close_account(1, "close", NOON))
    assert code(registry.deposit(1, 5, "d", NOON)) == "account_closed"
    registry.close()


def test_conservation_over_issue_trade_surrender_and_cancellation(entity: Registry) -> None:
    settled(entity, one_deal(1, buyer=1, seller=2, quantity=90))
    accepted(entity.surrender(1, 2024, "CEA24", 5_000, "s-1", NOON))
    accepted(entity.cancel(1, "CEA24", 77, "c-1", NOON))
    parts = entity.circulation()["CEA24"]
    assert parts.pop("issued") == 4_000_000 == sum(parts.values())
    assert (parts["surrendered"], parts["cancelled"]) == (5_000, 77)
