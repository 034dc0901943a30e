"""The report store: machine code gives every session the same reports as the rule, event by event."""

from __future__ import annotations

import numpy as np
import pytest

from engine.records import EVENT, NO_ACCOUNT, NOTICE
from gateway.reports import ReportStore

SESSIONS = np.arange(1, 20)
ACCOUNTS = SESSIONS % 7  # of each
COPIES = [(100, 1), (101, 1), (100, 3), (102, 6)]
SIZES = (1, 5, 3_000, 2, 900)


def events_of(rng: np.random.Generator, count: int) -> np.ndarray:
    """EVENT[count] of members' sessions, as orders lead to them."""
    events = np.zeros(count, EVENT)
    events["session"] = rng.integers(1, 20, count)
    events["account"] = events["session"] % 7
    events["kind"] = rng.integers(1, NOTICE, count)
    events["seq"] = np.arange(count)
    return events


def one_by_one(store: ReportStore, events: np.ndarray) -> set[int]:
    """The rule of the module's text, in Python."""
    base = store.count
    store.events[base : base + len(events)] = events
    store.count += len(events)
    return set(store._append_mixed(events, b"", base).tolist())


def differences(copies: list[tuple[int, int]]) -> list[int]:
    """Sessions whose streams differ between the two ways."""
    rng = np.random.default_rng(1)
    fast, naive = ReportStore(), ReportStore()
    fast.set_sessions(SESSIONS, ACCOUNTS, copies)
    naive.set_sessions(SESSIONS, ACCOUNTS, COPIES)
    for size in SIZES:
        events = events_of(rng, size)
        grew = set(fast.append(events, b"").tolist()), one_by_one(naive, events)
        assert copies != COPIES or grew[0] == grew[1]
    sessions = [*range(1, 20), 100, 101, 102]
    return [s for s in sessions if fast.stream(s) != naive.stream(s) or fast.digest(s) != naive.digest(s)]


def test_drop_copies_get_what_concerns_their_accounts_from_machine_code_as_from_the_rule() -> None:
    assert differences(COPIES) == []


@pytest.mark.parametrize("missing", range(len(COPIES)))
def test_a_planted_missing_copy_is_found(missing: int) -> None:
    assert differences(COPIES[:missing] + COPIES[missing + 1 :]) == [COPIES[missing][0]]


def test_a_notice_goes_to_the_sessions_that_its_account_has_at_that_moment() -> None:
    store = ReportStore()

    def told(account: int, public: int = 0) -> list[int]:
        event = np.zeros(1, EVENT)
        event["kind"], event["account"], event["side"], event["quantity"] = NOTICE, account, public, 1
        return store.append(event, b"x").tolist()

    store.set_sessions(SESSIONS[:3], ACCOUNTS[:3], [(100, 2)])
    assert told(2) == [2, 100] and told(4) == [] and told(NO_ACCOUNT, 1) == [1, 2, 3, 100]
    store.set_sessions(SESSIONS[:12], ACCOUNTS[:12], [(100, 2)])
    assert told(2) == [2, 9, 100] and told(4) == [4, 11] and told(NO_ACCOUNT, 1) == [*range(1, 13), 100]
    store.set_sessions(SESSIONS[:2], np.array([2, NO_ACCOUNT]), [(100, 4)])
    assert told(2) == [1] and told(4) == [100] and told(NO_ACCOUNT, 1) == [1, 100] and told(NO_ACCOUNT) == []
