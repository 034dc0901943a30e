"""Bugs planted into the kernel's sources: the suites must find every one of them.

The kernel is compiled once more from changed sources, in which each bug is switched by a number in CONTROL. A change
whose place in the sources is not found any more fails loudly: then the bug must be planted anew.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
import small_market
import states
import test_peer_bugs as peer
from conftest import REPOSITORY
from difference import Difference, batches, run
from streams import PROFILES, Stream, make_stream
from tape import Tape
from test_reference import tape_of

import engine.exchange
from engine import market as m
from engine import records as r
from engine.exchange import Exchange
from engine.rules import Rules

pytestmark = pytest.mark.slow

LENGTH = 4_000


class Mutant(NamedTuple):
    """``old`` stands once in the kernel's source; in ``new``, @ON@ is true when this bug is switched on."""

    name: str
    old: str
    new: str
    profiles: tuple[str, ...] = ("national", "deep")
    peer: Callable[[], None] | None = None
    invariant: bool = False  # the tape and the books must find it without any reference
    needs: str = ""  # what its module does not import


MUTANTS = [
    Mutant(
        "deals at the taker's price",
        "    price = price_of(t, s, level)\n    maker_leaves = maker.leaves\n",
        "    price = price_of(t, s, level)\n    if @ON@:\n        price = limit\n    maker_leaves = maker.leaves\n",
        peer=lambda: peer.test_a_deal_is_made_at_the_resting_price_and_never_at_the_takers(r.SELL, (1_000, 1_050)),
        invariant=True,
    ),
    Mutant(
        "an IOC's rest rests",
        "    if k.leaves > 0 and reason < 0:\n",
        "    if k.leaves > 0 and (reason < 0 or (@ON@ and reason == R_IOC_REST)):\n",
        peer=lambda: peer.test_the_rest_of_an_immediate_order_does_not_rest(r.IOC),
    ),
    Mutant(
        "what the best five could not reach rests, and the book is crossed",
        "np.int64(R_BEYOND_BEST_FIVE) if rests else reason",
        "np.int64(R_BEYOND_BEST_FIVE) if rests and not @ON@ else reason",
        profiles=("deep", "narrow"),
        invariant=True,
    ),
    Mutant(
        "the last in the queue is served first",
        "        maker_slot = np.uint64(head_of(t.levels, t.sides, opposite, best))\n",
        "        maker_slot = np.uint64(head_of(t.levels, t.sides, opposite, best))\n        if @ON@:\n"
        "            maker_slot = np.uint64(t.levels[np.uint64(t.sides[opposite].levels_offset) + best].tail)\n",
        peer=lambda: peer.test_a_cancel_in_the_queue_does_not_change_the_order_of_the_others(0),
        invariant=True,
    ),
    Mutant(
        "a partly filled maker loses its place",
        "        reduce(t.orders, t.levels, t.sides, s, maker_slot, quantity)\n    return w, quantity\n",
        "        reduce(t.orders, t.levels, t.sides, s, maker_slot, quantity)\n        if @ON@:\n"
        "            rest = maker.leaves\n            remove(t.orders, t.levels, t.sides, t.bitmap, s, maker_slot)\n"
        "            append(t.orders, t.levels, t.sides, t.bitmap, s, maker_slot, level, rest)\n"
        "    return w, quantity\n",
        peer=peer.test_a_partly_filled_maker_keeps_its_place,
        needs="from engine.book import append\n",
        invariant=True,
    ),
    Mutant(
        "the best price is dead after a cancel",
        "    remove(t.orders, t.levels, t.sides, t.bitmap, s, slot)\n    free(t, slot)\n    return w\n",
        "    best = t.sides[s].best\n    remove(t.orders, t.levels, t.sides, t.bitmap, s, slot)\n    free(t, slot)\n"
        "    if @ON@:\n        t.sides[s].best = best\n    return w\n",
        peer=peer.test_the_best_price_is_alive_after_the_best_order_is_cancelled,
    ),
    Mutant(
        "fill-or-kill looks at one level only",
        "(best_levels == 0 or visited < best_levels):\n",
        "(best_levels == 0 or visited < best_levels) and not (@ON@ and visited == 1):\n",
        peer=peer.test_fill_or_kill_looks_at_every_level_within_its_limit,
    ),
    Mutant(
        "fill-or-kill counts own orders",
        "            if m.self_trade_on and order.account == account:\n",
        "            if m.self_trade_on and order.account == account and not @ON@:\n",
        peer=lambda: peer.test_fill_or_kill_does_not_count_own_orders(0),
    ),
    Mutant(
        "output that is full loses a tonne",
        "            return w, np.int64(OUTPUT_FULL)\n",
        "            k.leaves -= 1 if @ON@ else 0\n            return w, np.int64(OUTPUT_FULL)\n",
        peer=lambda: peer.test_output_that_is_full_in_the_middle_of_a_sweep_goes_on_exactly_there(7),
    ),
    Mutant(
        "a stale order id reaches the order that has its slot now",
        "    slot = find(t.orders, t.pool, c.order_id)\n",
        "    slot = find(t.orders, t.pool, c.order_id)\n    if @ON@ and slot == np.uint64(0):\n"
        "        low = np.uint64(c.order_id) & LOW32\n"
        "        if low <= np.uint64(t.pool[np.uint64(0)].capacity) and t.orders[low].leaves > 0:\n"
        "            slot = low\n",
        peer=peer.test_a_slot_is_used_again_and_an_order_id_never,
    ),
    Mutant(
        "a buyer does not get back what it paid less than its limit",
        "    a.available += freed - amount - fee\n",
        "    a.available += freed - (limit * quantity if @ON@ else amount) - fee\n",
        peer=lambda: peer.test_a_deal_is_made_at_the_resting_price_and_never_at_the_takers(r.SELL, (1_000, 1_050)),
        invariant=True,
    ),
    Mutant(
        "the seller's fee is collected and not taken",
        "    a.available += amount - fee\n",
        "    a.available += amount - (np.int64(0) if @ON@ else fee)\n",
        peer=peer.test_the_largest_amount_and_its_fee_do_not_overflow,
        invariant=True,
    ),
    Mutant("what was bought today can be sold today", "    if m.t_plus_one:\n", "    if m.t_plus_one and not @ON@:\n"),
    Mutant(
        "cash is not checked",
        " > a.available:\n        return C_INSUFFICIENT_CASH\n",
        " > a.available and not @ON@:\n        return C_INSUFFICIENT_CASH\n",
        invariant=True,
    ),
    Mutant(
        "at a glance the market never closes",
        " or c.time_ns >= k.open_until:\n",
        " or (c.time_ns >= k.open_until and not @ON@):\n",
        profiles=("national",),
    ),
    Mutant(
        "at a glance no vintage is halted",
        "    if i.state & STATE_MASK != STATE_PLAIN or ",
        "    if (i.state & STATE_MASK != STATE_PLAIN and not @ON@) or ",
        profiles=("national",),
    ),
    Mutant(
        "an account trades with itself",
        "        if m.self_trade_on and t.orders[maker_slot].account == order.account:\n",
        "        if m.self_trade_on and t.orders[maker_slot].account == order.account and not @ON@:\n",
        invariant=True,
    ),
    Mutant(
        "fees are rounded per fill",
        "        t.cold[slot].filled_amount += amount\n",
        "        t.cold[slot].filled_amount += np.int64(0) if @ON@ else amount\n",
        invariant=True,
    ),
    Mutant(
        "a request number counts twice",
        "        if c.request_no <= record.last_request:\n",
        "        if c.request_no < record.last_request or (c.request_no == record.last_request and not @ON@):\n",
    ),
]


def mutated_sources(sources: dict[str, str]) -> dict[str, str]:
    """The texts of the kernel's modules with all bugs in them, each behind its number."""

    def plant(old: str, new: str, needs: str = "") -> bool:
        places = [name for name, source in sources.items() for _ in range(source.count(old))]
        if len(places) != 1:
            return False
        future = "from __future__ import annotations\n"
        sources[places[0]] = sources[places[0]].replace(old, new).replace(future, future + needs)
        return True

    lost = []
    for number, mutant in enumerate(MUTANTS, 1):
        on = f"(t.control[np.uint64(0)].mutant == {number})"
        if not plant(mutant.old, mutant.new.replace("@ON@", on), mutant.needs):
            lost.append(mutant.name)
    assert not lost, f"to be planted anew, their place in the kernel is gone: {lost}"
    guard = "        if m.self_trade_on and t.orders[maker_slot]"  # a dead best price would be an endless loop
    assert plant(guard, f"        if maker_slot == np.uint64(0):\n            break\n{guard}")
    field = '        ("cursor", "<i8"),'  # behind what the exchange reads by position
    assert plant(field, f'        ("mutant", "<i8"),\n{field}')
    return {name: source.replace("engine.kernel", "mutated_kernel") for name, source in sources.items()}


@pytest.fixture(scope="module")
def mutated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The kernel compiled from the changed sources, all bugs off."""
    folder = tmp_path_factory.mktemp("mutants")
    sources = {path.name: path.read_text() for path in (REPOSITORY / "engine" / "kernel").glob("*.py")}
    (folder / "mutated_kernel").mkdir()
    for name, source in mutated_sources(sources).items():
        (folder / "mutated_kernel" / name).write_text(source)
    sys.path.insert(0, str(folder))
    yield importlib.import_module("mutated_kernel")
    sys.path.remove(str(folder))


def exchange_with(number: int) -> type[Exchange]:
    """An exchange on the mutated kernel with one bug switched on; 0: none."""

    class Mutated(Exchange):
        def _bind(self) -> None:
            super()._bind()
            self._control[0]["mutant"] = number

    return Mutated


def streams_of(mutant: Mutant) -> list[Stream]:
    return [
        make_stream(PROFILES[name], seed, LENGTH, checkpoint_every=200, save=states.of_reference)
        for name in mutant.profiles
        for seed in (1, 2)
    ]


def difference(mutated: type[Exchange], streams: list[Stream]) -> None:
    """The proof by difference, in wide and in narrow output."""
    for stream in streams:
        for room in (1 << 12, 7):
            run(stream, cut=64, exchange=mutated(stream.profile.rules, stream.reference.capacity, event_capacity=room))


def invariants(mutated: type[Exchange], streams: list[Stream]) -> None:
    """The kernel's own events and books under the audit, without the reference's answers."""
    for stream in streams:
        exchange = mutated(stream.profile.rules, stream.reference.capacity)
        tape = tape_of(stream)
        limits = dict(stream.limits)
        for start, end, payloads in batches(stream.commands, stream.payloads, 1, []):
            events = exchange.apply(stream.commands[start:end], payloads).events
            tape.limits = limits.get(start + 1, tape.limits)
            tape.read(events[events["kind"] != r.NOTICE])
            if end % 200 == 0:
                state = states.of_market(exchange.market)
                states.check(state, accounts_on=stream.profile.rules.accounts)
        cash = states.total_cash(states.of_market(exchange.market))
        assert cash == stream.cash_in, "cash was made or lost"


@pytest.fixture
def on_mutated_kernel(mutated: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], type[Exchange]]:
    monkeypatch.setattr(engine.exchange, "kernel", mutated)

    def switch(number: int) -> type[Exchange]:
        chosen = exchange_with(number)
        monkeypatch.setattr(small_market, "Exchange", chosen)
        return chosen

    return switch


def test_the_changed_kernel_with_all_bugs_off_passes(on_mutated_kernel: Callable[[int], type[Exchange]]) -> None:
    sound = on_mutated_kernel(0)
    streams = streams_of(MUTANTS[0])
    difference(sound, streams)
    invariants(sound, streams)
    for mutant in MUTANTS:
        if mutant.peer is not None:
            mutant.peer()


@pytest.mark.parametrize("number", range(1, len(MUTANTS) + 1), ids=lambda n: MUTANTS[n - 1].name)
def test_a_bug_planted_into_the_kernel_is_found(
    number: int, on_mutated_kernel: Callable[[int], type[Exchange]]
) -> None:
    mutant, planted = MUTANTS[number - 1], on_mutated_kernel(number)
    streams = streams_of(mutant)
    with pytest.raises((Difference, AssertionError)):
        difference(planted, streams)
    if mutant.invariant:
        with pytest.raises(AssertionError):
            invariants(planted, streams)
    if mutant.peer is not None:
        with pytest.raises((AssertionError, ValueError, IndexError)):
            mutant.peer()


def test_a_limit_a_tick_too_wide_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = m.price_limits

    def too_wide(reference_fen: int, limit_bp: int, tick_fen: int = 1) -> tuple[int, int]:
        low, high = sound(reference_fen, limit_bp, tick_fen)
        return low, high + tick_fen

    monkeypatch.setattr(m, "price_limits", too_wide)
    with pytest.raises(Difference):
        difference(Exchange, streams_of(MUTANTS[0]))
    exchange = small_market.SmallMarket(Rules.national(), reference=10_000, levels=4_096).exchange
    exchange.advance(Rules.national().boundaries_ns(20251203)[0])
    deal = np.zeros(2, r.COMMAND)  # beyond the limit: a sell that rests there, and who reaches it
    deal["kind"], deal["price"], deal["quantity"] = r.NEW, 11_001, 1
    deal["side"], deal["account"] = (r.SELL, r.BUY), (1, 0)
    tape = Tape([True])
    tape.limits = {0: (9_000, 11_000)}
    with pytest.raises(AssertionError, match=r"R6\.1"):
        tape.read(exchange.submit(deal))


def test_a_limit_rounded_down_at_a_tie_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def rounded_down(reference_fen: int, limit_bp: int, tick_fen: int = 1) -> tuple[int, int]:
        scale = 10_000 * tick_fen
        return tuple(reference_fen * (10_000 + bp) // scale * tick_fen for bp in (-limit_bp, limit_bp))  # type: ignore[return-value]

    monkeypatch.setattr(m, "price_limits", rounded_down)
    exchange = small_market.SmallMarket(Rules.national(), reference=9_025).exchange  # E4: 99.275
    assert exchange.market.instruments[0]["limit_high"] == 9_927
    with pytest.raises(Difference):
        difference(Exchange, streams_of(MUTANTS[0]))
