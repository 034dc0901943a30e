"""The proof by difference: the kernel and the naive reference give the same events and the same state.

For any stream, any cutting into batches and any room for events; the same suite finds bugs planted on either side.
"""

from __future__ import annotations

import pytest
import states
from difference import Difference, run
from streams import PROFILES, Stream, make_stream
from test_reference import PLANTED, audit

from engine.reference_day import ReferenceExchange

CHECKPOINT_EVERY = 1_000
FAST_LENGTH = 15_000  # commands; seven profiles make 100,000
_streams: dict[tuple[str, int, int], Stream] = {}


def stream_of(name: str, seed: int, length: int) -> Stream:
    """A stream with checkpoints; the reference is slow, so each is made once."""
    key = name, seed, length
    if key not in _streams:
        _streams[key] = make_stream(
            PROFILES[name], seed, length, checkpoint_every=CHECKPOINT_EVERY, save=states.of_reference
        )
    return _streams[key]


@pytest.mark.parametrize("name", PROFILES)
def test_kernel_and_reference_agree_in_any_cutting(name: str) -> None:
    stream = stream_of(name, 11, FAST_LENGTH)
    hashes = run(stream, cut=4096)
    assert len(hashes) >= FAST_LENGTH // CHECKPOINT_EVERY
    assert run(stream, cut=7) == hashes, "the state's hash depends on the cutting"


@pytest.mark.parametrize("cut", [1, 2, 3, 64])
@pytest.mark.parametrize("name", PROFILES)
def test_kernel_and_reference_agree_command_by_command(name: str, cut: int) -> None:
    stream = stream_of(name, 12, 2_000)
    assert run(stream, cut=cut) == run(stream, cut=4096)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("event_capacity", [1, 9])
def test_kernel_and_reference_agree_however_little_room_there_is_for_events(name: str, event_capacity: int) -> None:
    stream = stream_of(name, 12, 2_000)
    assert run(stream, cut=4096, event_capacity=event_capacity) == run(stream, cut=4096)


@pytest.mark.parametrize("name", PROFILES)
def test_a_market_restored_from_its_snapshot_goes_on_as_if_nothing_had_been(name: str) -> None:
    stream = stream_of(name, 12, 2_000)
    assert run(stream, cut=4096, restore_at_checkpoints=True) == run(stream, cut=4096)


@pytest.mark.parametrize("name", PROFILES)
def test_all_invariants_hold_after_every_command(name: str) -> None:
    run(stream_of(name, 13, 300), cut=1, check_every_batch=True)
    audit(stream_of(name, 12, 2_000))


@pytest.mark.parametrize(("bug", "name"), PLANTED, ids=lambda x: x if isinstance(x, str) else x.__name__)
def test_the_difference_finds_a_bug_planted_into_the_reference(bug: type[ReferenceExchange], name: str) -> None:
    def differences() -> None:
        for seed in range(1, 7):
            run(
                make_stream(PROFILES[name], seed, 1_500, checkpoint_every=500, save=states.of_reference, market=bug),
                cut=64,
            )

    with pytest.raises(Difference):
        differences()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 105))
@pytest.mark.parametrize("name", PROFILES)
def test_kernel_and_reference_agree_over_millions_of_commands(name: str, seed: int) -> None:
    agree_over_a_long_stream(name, seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(105, 130))
@pytest.mark.parametrize("name", PROFILES)
def test_kernel_and_reference_agree_over_nine_million_commands(name: str, seed: int) -> None:
    agree_over_a_long_stream(name, seed)


def agree_over_a_long_stream(name: str, seed: int) -> None:
    length = 6_000 if name == "extreme" else 60_000  # a day's turnover of more than int64 is out of all reach but here
    stream = make_stream(PROFILES[name], seed, length, checkpoint_every=4_999, save=states.of_reference)
    audit(stream)
    first = run(stream, cut=1 + seed % 5)
    assert run(stream, cut=4096, event_capacity=seed) == first
    assert run(stream, cut=4096, restore_at_checkpoints=True) == first
