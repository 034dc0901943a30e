"""Surveillance: known manipulators are found, clean days stay quiet, and the same events give the same alerts."""

from __future__ import annotations

import contextlib
import re
import string
import subprocess
import sys
from itertools import pairwise

import msgspec
import numpy as np
import pytest
import registry_world as rw

from engine.calendar import day_start_ns, parse_clock
from engine.records import ACCEPTED, EVENT, NO_ACCOUNT, NOTICE
from gateway.surveillance import Surveillance, Thresholds, scenarios
from gateway.surveillance import kernel as k
from gateway.surveillance import watch as watch_module
from gateway.surveillance.agreed_detectors import cycles
from gateway.surveillance.sentences import SENTENCES, sentence
from gateway.surveillance.watch import Positions
from settlement.errors import accepted
from settlement.kinds import FINAL_BUCKETS
from settlement.surveyed import surveyed

# None of these seeds was used to choose a threshold (0 … 29 were).
SEEDS = (2_001, 2_002)


# Scenarios that need a day's background to be hard; the others are found in any market.
BUSY = frozenset(("wash", "prearranged", "value_transfer", "layering", "marking_close", "before_news", "overselling"))
WITHOUT_DEALS = frozenset(("overselling", "large_holder", "desk_withdrawals", "auction_cancelled"))


def figures(text: str) -> list[str]:
    return sorted(re.findall(r"[0-9][0-9,.]*[0-9]|[0-9]", text))


@pytest.mark.parametrize("name", sorted(scenarios.SCENARIOS))
def test_a_known_manipulator_is_found_with_evidence_of_its_own_deals_or_orders(name):
    days = [scenarios.run_day(name, seed, orders=600 if name in BUSY else 60) for seed in SEEDS[: 1 + (name in BUSY)]]
    assert any(day.found and day.happened for day in days), [day.watch.alerts for day in days]
    for day in days:
        for alert in day.watch.alerts:
            assert alert.first_seq <= alert.last_seq
            assert alert.kind == "price_limit" or alert.score >= alert.limit
            assert len(alert.accounts) != 1 or f"account {alert.accounts[0]}" in alert.text
            assert not re.search("[A-Za-z]", alert.text_zh), "no English in the Chinese"
            assert figures(alert.text) == figures(alert.text_zh)
            assert str(max(alert.first_seq - 1, 1)) in alert.replay
            if alert.kind not in WITHOUT_DEALS:
                assert alert.deals or alert.orders


WARMED = """
from gateway.surveillance import kernel, scenarios, warm_up

def loaded():
    return {name for name, function in vars(kernel).items() if getattr(function, "signatures", None)}

assert not loaded()
warm_up()
before = loaded()
assert "collect" in before
scenarios.run_day("wash", 2001, orders=60)
print(*sorted(loaded() - before))
"""


def test_after_warming_up_a_day_loads_no_code_that_takes_its_time():
    ran = subprocess.run([sys.executable, "-c", WARMED], check=False, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert set(ran.stdout.split()) <= {"pair_row"}, "a lookup of a few lines"


def unequal(sentences: dict[str, tuple[str, str]]) -> list[str]:
    """Codes whose sentences do not tell the same figures in the same units."""

    def told(text: str) -> list:
        return sorted((name, spec) for _, name, spec, _ in string.Formatter().parse(text) if name)

    return [code for code, (en, zh) in sentences.items() if told(en) != told(zh)]


def test_both_languages_tell_the_same_figures_in_the_same_units():
    assert not unequal(SENTENCES)
    en, zh = SENTENCES["value_transfer"]
    assert unequal({"planted": (en, zh.replace("{gain:cny}", "{gain:,}"))})


def test_a_sentence_without_its_figure_is_an_error_of_ours_and_not_an_empty_place():
    assert sentence("large_holder", {"account": 7, "held": 1_234}) == "account 7 holds 1,234 t of all vintages"
    with pytest.raises(KeyError):
        sentence("large_holder", {"account": 7})


def test_clean_days_raise_no_alarm_although_makers_cancel_all_day():
    for seed in SEEDS:
        day = scenarios.run_day("clean", seed, orders=600)
        assert day.deals > 100 and not day.false_alarms


def test_thresholds_that_are_too_low_make_a_clean_day_alarm():
    """The planted bug of the test above: it would see a false alarm if there was one."""
    low = Thresholds(wash_round_trip_t=1, wash_switches=1, wash_share_percent=1)
    assert scenarios.run_day("clean", SEEDS[0], low, orders=600).false_alarms


def recorded(name: str, seed: int) -> tuple[np.ndarray, list[bytes], list]:
    """A day's events, command by command, the payloads of their notices, and the alerts of a watch of the whole."""
    events, payloads = [], []
    day = scenarios.run_day(name, seed, orders=400, record=lambda e, p: (events.append(e.copy()), payloads.append(p)))
    return events, payloads, day.watch.alerts


def alerts_in_pieces(watch: Surveillance, events: list[np.ndarray], payloads: list[bytes], cuts: list[int]) -> list:
    for first, last in pairwise([0, *cuts, len(events)]):
        if last > first:
            part = np.concatenate([e.view(np.uint8) for e in events[first:last]]).view(EVENT)
            watch.feed(part, b"".join(payloads[first:last]))
    watch.finish()
    return watch.alerts


@pytest.mark.parametrize("name", ["layering", "bulk_ring"])
def test_the_same_events_give_the_same_alerts_however_they_are_cut(name):
    events, payloads, alerts = recorded(name, 3)
    assert alerts
    rng = np.random.default_rng(1)
    for pieces in (7, 40, len(events)):
        cuts = sorted(rng.choice(np.arange(1, len(events)), pieces - 1, replace=False).tolist())
        fresh = Surveillance(codes={0: scenarios.CODE}, groups=scenarios.GROUPS)
        again = alerts_in_pieces(fresh, events, payloads, cuts)
        assert msgspec.json.encode(again) == msgspec.json.encode(alerts)


def test_a_watch_that_looked_at_the_end_of_each_batch_would_be_caught():
    class Hasty(Surveillance):
        def feed(self, events, payloads=b""):
            super().feed(events, payloads)
            self._look(int(events[-1]["time_ns"]), closing=False)
            return self.alerts

    events, payloads, alerts = recorded("layering", 3)
    cuts = list(range(10, len(events), 10))
    assert alerts_in_pieces(Hasty(codes={0: scenarios.CODE}), events, payloads, cuts) != alerts


def test_tables_grow_with_the_numbers_of_accounts_orders_and_pairs(monkeypatch):
    monkeypatch.setattr(watch_module, "PAIRS_FIRST", 4)
    events, payloads, alerts = recorded("wash", 2)
    small = Surveillance(codes={0: scenarios.CODE}, accounts=1, instruments=1)
    small.orders = small.orders[:2].copy()
    again = alerts_in_pieces(small, events, payloads, [100])
    assert [a.name for a in again] == [a.name for a in alerts] and len(small.pairs) > 4


def test_the_highest_numbers_of_events_are_found_in_one_pass():
    rng = np.random.default_rng(1)
    events = np.zeros(500, EVENT)
    events["account"], events["kind"] = rng.integers(0, 9_000, 500), rng.integers(1, 12, 500)
    events["instrument"], events["order_id"] = rng.integers(0, 300, 500), rng.integers(0, 1 << 60, 500)
    events["account"][::7] = NO_ACCOUNT
    listed = events[events["kind"] != NOTICE]
    slots = events["order_id"] & np.uint64(0xFFFFFFFF)
    expected = (events["account"][events["account"] != NO_ACCOUNT].max(), listed["instrument"].max(), slots.max())
    assert k.highest(events) == expected and k.highest(events[:0]) == (0, 0, 0)


def test_linked_accounts_are_told_of_at_half_of_the_quantity():
    events, payloads, _ = recorded("wash", 2)
    high = Thresholds(wash_round_trip_t=3_000, prearranged_deals=1_000)
    alone = alerts_in_pieces(Surveillance(high, codes={0: scenarios.CODE}), events, payloads, [])
    linked = Surveillance(high, codes={0: scenarios.CODE}, groups={scenarios.FIRST_BAD: 7, scenarios.FIRST_BAD + 1: 7})
    together = alerts_in_pieces(linked, events, payloads, [])
    first = next(a for a in together if a.kind == "wash")
    assert first.limit == 1_500
    assert not alone or alone[0].time_ns > first.time_ns


def test_what_is_not_an_events_array_is_a_mistake_of_the_programmer():
    with pytest.raises(AssertionError):
        Surveillance().feed(np.zeros(1, np.uint8))


def test_thresholds_refuse_unknown_names_and_values_out_of_range():
    with pytest.raises(msgspec.ValidationError, match="wash_switch"):
        msgspec.convert({"wash_switch": 3}, Thresholds)
    with pytest.raises(msgspec.ValidationError, match=r"\$\.layering_cancel_percent"):
        msgspec.convert({"layering_cancel_percent": 101}, Thresholds)


def test_a_large_holder_is_reported_where_a_threshold_is_set():
    watch = Surveillance(Thresholds(large_holding_t=400_000), codes={0: "CEA24"})
    watch.holdings = {3: 400_000, 4: 399_999}
    watch.start_day(20251203, {})
    event = np.zeros(1, EVENT)
    event["kind"], event["account"], event["quantity"], event["time_ns"] = ACCEPTED, 3, 1, scenarios.clock("10:00")
    watch.feed(event)
    watch.finish()
    assert [(a.kind, a.accounts) for a in watch.alerts] == [("large_holder", (3,))]


# --- desk and auction ------------------------------------------------------------------------------------------------


def notice(watch: Surveillance, seq: int, at: str, account: int, payload: dict, date: int = scenarios.DATE) -> None:
    """One notice of the exchange, to an account or (NO_ACCOUNT) to everybody."""
    data, event = msgspec.msgpack.encode(payload), np.zeros(1, EVENT)
    event["seq"], event["kind"], event["account"], event["quantity"] = seq, NOTICE, account, len(data)
    event["time_ns"], event["side"] = day_start_ns(date) + parse_clock(at), account == NO_ACCOUNT
    watch.feed(event, data)


def day(watch: Surveillance, seq: int, date: int) -> None:
    prices = {"CEA24": [6_000, 5_400, 6_600, 4_200, 7_800]}
    data = {"date": date, "references": prices}
    notice(watch, seq, "08:30", NO_ACCOUNT, {"t": "market_notice", "what": "day", "data": data}, date)


def bulk_deal(watch: Surveillance, seq: int, seller: int, buyer: int, price: int = 6_000, **more) -> None:
    words = {"t": "bulk_deal", "number": seq, "price": price, "quantity": 100_000}
    notice(watch, seq, "13:10", seller, {**words, "side": 1, "counterparty": buyer}, **more)
    notice(watch, seq, "13:10", buyer, {**words, "side": 0, "counterparty": seller}, **more)


def desk_watch(**thresholds) -> Surveillance:
    watch = Surveillance(Thresholds(**thresholds), codes={0: "CEA24"})
    day(watch, 1, scenarios.DATE)
    return watch


def test_a_ring_of_bulk_deals_over_three_days_is_found_and_not_over_more_days_than_are_looked_at():
    for days, found in ((5, True), (2, False)):
        watch = desk_watch(ring_days=days)
        bulk_deal(watch, 10, 1, 2)
        day(watch, 20, 20251204)
        bulk_deal(watch, 21, 2, 3, date=20251204)
        day(watch, 30, 20251205)
        bulk_deal(watch, 31, 3, 1, date=20251205)
        watch.finish()
        rings = [a for a in watch.alerts if a.kind == "ring"]
        assert bool(rings) == found
        if rings:
            assert rings[0].accounts == (1, 2, 3) and (rings[0].first_seq, rings[0].last_seq) == (10, 31)
            assert "1 → 2 → 3 → 1" in rings[0].text and rings[0].deals == (31,)


def test_days_without_a_deal_count_as_days():
    watch = desk_watch(ring_days=3)
    bulk_deal(watch, 10, 1, 2)
    for n, date in enumerate((20251204, 20251205, 20251208), 2):
        day(watch, 10 * n, date)
    assert not watch.agreed.deals and not watch.agreed.flows


def test_a_chain_of_bulk_deals_that_does_not_close_is_no_ring():
    watch = desk_watch()
    for seq, (seller, buyer) in enumerate(((1, 2), (2, 3), (3, 4), (1, 4)), 10):
        bulk_deal(watch, seq, seller, buyer)
    watch.finish()
    assert not watch.alerts


def test_a_cancelled_bulk_deal_is_no_longer_part_of_a_ring():
    watch = desk_watch()
    bulk_deal(watch, 10, 1, 2)
    bulk_deal(watch, 11, 2, 1)
    for account in (1, 2, NO_ACCOUNT):
        notice(watch, 12, "13:10", account, {"t": "deal_cancelled", "number": 11})
    watch.finish()
    assert not watch.alerts and not watch.agreed.flows.get((0, 2, 1))


def test_every_cycle_is_told_once_and_none_longer_than_asked():
    graph = {0: {1: {2: 5, 3: 7}, 2: {3: 6, 1: 4}, 3: {1: 9}, 4: {1: 1}}}
    assert sorted(cycles(graph, 6)) == [(0, (1, 2), 4), (0, (1, 2, 3), 5), (0, (1, 3), 7)]
    assert sorted(cycles(graph, 2)) == [(0, (1, 2), 4), (0, (1, 3), 7)]


def test_a_bulk_deal_far_from_the_listed_price_is_reported():
    watch = desk_watch()
    bulk_deal(watch, 10, 1, 2, price=4_800)
    bulk_deal(watch, 11, 3, 4, price=4_801)
    watch.finish()
    assert [(a.kind, a.accounts, a.score) for a in watch.alerts] == [("off_market", (1, 2), 2_000)]


def test_the_winner_of_most_of_an_auction_is_reported_with_its_deals():
    watch = desk_watch()
    for seq, (bidder, filled, number) in enumerate(((5, 200_000, 1), (6, 100_000, 2), (7, 0, 0)), 10):
        words = {"auction": 3, "bid": seq, "filled": filled, "price": 6_100, "number": number}
        notice(watch, seq, "10:30", bidder, {"t": "auction_bid_result", **words})
    notice(watch, 15, "10:30", 9, {"t": "auction_sold", "auction": 3, "sold": 300_000})
    watch.finish()
    assert [(a.kind, a.accounts, a.score, a.deals) for a in watch.alerts] == [("auction_winner", (5,), 66, (1,))]


def test_a_cancelled_listed_deal_leaves_the_tables_of_its_day():
    events, payloads, _ = recorded("thin_close", 1)
    watch = Surveillance(codes={0: scenarios.CODE})
    alerts_in_pieces(watch, events, payloads, [])
    assert watch.alerts and int(watch.vintages[0]["deals"]) == 1
    again = Surveillance(codes={0: scenarios.CODE})
    at = next(i for i, e in enumerate(events) if e["time_ns"][0] >= scenarios.clock("13:00"))
    alerts_in_pieces(again, events[:at], payloads[:at], [])
    assert int(again.vintages[0]["deals"]) == 1
    number = int(again.deals[0]["number"])
    notice(again, int(events[at]["seq"][0]), "13:00", NO_ACCOUNT, {"t": "deal_cancelled", "number": number})
    assert again.vintages[["deals", "volume", "amount", "last"]].tolist()[0] == (0, 0, 0, 0)
    assert not int(again.day["sold_t"].sum())
    assert not int(again.pairs["low_sells_t"].sum() + again.pairs["high_sells_t"].sum())


def test_the_last_look_of_a_day_happens_though_only_notices_follow():
    events, payloads, alerts = recorded("thin_close", 1)
    watch = Surveillance(codes={0: scenarios.CODE})
    last = max(i for i, e in enumerate(events) if (e["kind"] != NOTICE).all())
    for part, payload in zip(events[: last + 1], payloads[: last + 1], strict=True):
        watch.feed(part, payload)
    assert not watch.alerts
    notice(watch, 9_999, "15:00", NO_ACCOUNT, {"t": "market_notice", "what": "phase"})
    assert [a.kind for a in watch.alerts] == [a.kind for a in alerts]


def test_holdings_and_needs_come_from_the_registry_at_each_days_start():
    asked: list[int] = []

    def positions(date: int) -> Positions:
        asked.append(date)
        return Positions({1: 300_000}, {1: 250_000}, {1: 300_000}, frozenset({"CEA24"}))

    watch = Surveillance(codes={0: "CEA24"}, positions=positions)
    day(watch, 1, scenarios.DATE)
    bulk_deal(watch, 10, 1, 2)
    watch.finish()
    assert scenarios.DATE in asked
    assert [(a.kind, a.accounts, a.score) for a in watch.alerts] == [("overselling", (1,), 50_000)]
    day(watch, 20, 20251204)
    watch.finish()
    assert len(watch.alerts) == 1 and asked[-1] == 20251204


def test_a_price_that_only_touched_its_limit_between_two_looks_is_told_with_who_brought_it_there():
    for back, kinds in ((6_590, ["price_limit", "limit_push"]), (6_589, [])):
        watch = Surveillance(codes={0: scenarios.CODE})
        stage = scenarios.Stage(1, watch.feed)
        stage.at(scenarios.clock("10:00"))
        for price in (6_200, back, 5_991):
            stage.order(7, scenarios.SELL, price, 1_000)
            stage.order(8, scenarios.BUY, price, 1_000)
        stage.at(scenarios.clock("10:02"))
        stage.order(9, scenarios.BUY, 5_990, 1)
        assert [a.kind for a in watch.alerts if a.kind != "price_move"] == kinds
        assert all(a.accounts == (8,) for a in watch.alerts if a.kind == "limit_push")


def test_a_return_to_the_days_average_is_nobodys_price_move():
    watch = Surveillance(codes={0: scenarios.CODE})
    stage = scenarios.Stage(1, watch.feed)
    for at, price, seller, buyer in (("10:00", 6_000, 5, 6), ("10:01", 6_400, 7, 8), ("10:03", 6_000, 9, 10)):
        stage.at(scenarios.clock(at))
        for n in range(4 if price == 6_000 else 1):
            stage.order(seller, scenarios.SELL, price + n, 2_000)
            stage.order(buyer, scenarios.BUY, price + n, 2_000)
    stage.at(scenarios.clock("10:04"))
    stage.order(11, scenarios.BUY, 5_900, 1)
    assert [a.accounts for a in watch.alerts if a.kind == "price_move"] == [(8,)]


def test_a_day_on_which_the_manipulator_could_do_nothing_is_not_counted(monkeypatch):
    def idle(stage):
        accounts = frozenset(range(1, scenarios.ACCOUNTS))
        return scenarios.Actor([], frozenset({"thin_close"}), accounts, lambda: False)

    monkeypatch.setattr(scenarios, "SCENARIOS", {"idle": idle, "thin_close": scenarios.thin})
    monkeypatch.setattr(scenarios, "ORDERS", {"idle": 0, "thin_close": 0, "clean": 0})
    rows = scenarios.count(range(1, 3))
    assert [rows[name]["happened"] for name in ("idle", "thin_close", "clean")] == [0, 2, 0]
    assert [rows[name]["found"] for name in ("idle", "thin_close", "clean")] == [0, 2, 0]


def found_enough(rows: dict[str, dict[str, int]]) -> None:
    for name, row in rows.items():
        if name != "clean":
            assert row["found"] >= 0.8 * row["happened"] > 0, (name, row)
    assert sum(row["days_with_false_alarm"] for row in rows.values()) <= 0.05 * sum(r["days"] for r in rows.values())


# Seeds of their own: no threshold was chosen on them. docs/surveillance.md has the counts.
@pytest.mark.slow
def test_recall_and_false_alarms_over_seeds_that_no_threshold_was_chosen_on():
    found_enough(scenarios.count(range(5_000, 5_015)))


@pytest.mark.soak
def test_recall_and_false_alarms_over_thirty_seeds():
    found_enough(scenarios.count(range(4_000, 4_030)))


def test_the_registry_tells_holdings_and_needs_as_they_were_at_a_days_start(tmp_path):
    registry = rw.small_world(f"sqlite:///{tmp_path}/registry.db", accounts=3, tonnes=10_000)
    with contextlib.closing(registry):
        accepted(registry.set_obligation(1, 2023, 12_000, 20251231, "mee-1", rw.DAY_BEFORE))
        accepted(registry.set_obligation(2, 2024, 5_000, 20251130, "mee-2", rw.DAY_BEFORE))  # overdue: not watched here
        accepted(registry.move_out(1, "CEA23", 4_000, "out", rw.DAY_BEFORE))
        rw.settled(registry, rw.some_deals(60, accounts=3))
        accepted(registry.surrender(1, 2023, "CEA23", 3_000, "s-1", rw.NOON))
        accepted(registry.cancel(1, "CEA23", 1_000, "c-1", rw.NOON))
        then, later = surveyed(registry, rw.DAY), surveyed(registry, 20251204)
        for found, date in ((then, 20251202), (later, rw.DAY)):
            for account in (1, 2, 3):
                held = registry.holdings_on(account, date)
                alive = {k: t for k, t in held.items() if k[0] != "CNY" and k[1] not in FINAL_BUCKETS}
                assert found.holdings[account] == sum(alive.values())
                assert found.usable[account] == sum(t for (asset, _), t in alive.items() if asset == "CEA23")
        assert (then.needs, later.needs, then.vintages) == ({1: 12_000}, {1: 9_000}, {"CEA23"})
