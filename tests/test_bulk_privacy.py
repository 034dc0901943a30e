"""Who is told what at the desk: over long random negotiations every notice goes only to whom it may go."""

from __future__ import annotations

import pytest
import test_bulk_machine as machine

from engine.bulk import Desk
from engine.bulk_messages import BulkCounter, BulkDeal, BulkDeclaration, BulkDesk, BulkOffer, BulkThread
from engine.lane import Notice, Refusal
from engine.messages import Done
from engine.records import NO_ACCOUNT, SELL

LOCK_WORDS = ("lock", "hold", "cash", "raised", "available")


class Watch:
    """Looks at every answer of a desk. It knows the audience from the declarations that were sent."""

    def __init__(self) -> None:
        self.audience: dict[int, tuple[int, ...]] = {}  # declaration → to; empty: everyone
        self.parties: dict[int, tuple[int, int]] = {}  # thread → maker, taker
        self.seen: set[type] = set()

    def look(self, envelope, message, answer) -> None:
        if isinstance(answer, Refusal):
            return
        data = answer[0].message.data
        if type(message).__name__ == "BulkDeclare":
            self.audience[data["declaration"]] = message.to
        for notice in answer:
            self.judge(envelope, notice)

    def judge(self, envelope, notice: Notice) -> None:
        m, who = notice.message, notice.account
        self.seen.add(type(m))
        if isinstance(m, Done):
            assert (who, notice.session) == (envelope.account, envelope.session) and not notice.public
            return
        assert notice.session == 0 and not any(w in f for f in m.__struct_fields__ for w in LOCK_WORDS)
        if isinstance(m, BulkDeclaration):
            to = self.audience[m.declaration]
            assert notice.public == (not to) and (not notice.public or who == NO_ACCOUNT)
            assert who in (NO_ACCOUNT, m.maker, *to), "a declaration reached a stranger"
        elif isinstance(m, BulkThread):
            self.parties[m.thread] = m.maker, m.taker
            assert not notice.public and who in (NO_ACCOUNT, m.maker, m.taker), "a dialogue reached a stranger"
        elif isinstance(m, BulkDeal):
            assert not notice.public and who in self.parties[m.thread] and m.counterparty in self.parties[m.thread]
            assert who != m.counterparty
        else:
            assert isinstance(m, BulkDesk) and notice.public


def watched_walks(monkeypatch, seeds: int) -> Watch:
    """Random walks with every answer looked at."""
    handle, watch = Desk.handle, Watch()

    def looking(self, envelope, message):
        answer = handle(self, envelope, message)
        watch.look(envelope, message, answer)
        return answer

    monkeypatch.setattr(Desk, "handle", looking)
    for seed in range(seeds):
        watch.audience.clear()
        machine.walk(seed, 300)
    return watch


def test_a_party_sees_only_what_is_addressed_to_it(monkeypatch) -> None:
    watch = watched_walks(monkeypatch, 6)
    assert watch.seen == {Done, BulkDeclaration, BulkThread, BulkDeal, BulkDesk}, "every kind of notice was looked at"


def test_the_operators_see_every_step_of_every_dialogue(monkeypatch) -> None:
    tell, steps, told = Desk._tell_thread, [], []

    def counting(self, found, thread, turn, by, note):
        before = len(self._notices)
        tell(self, found, thread, turn, by, note)
        steps.append(turn)
        told.extend(n for n in self._notices[before:] if n.account == NO_ACCOUNT and not n.public)

    monkeypatch.setattr(Desk, "_tell_thread", counting)
    machine.walk(3, 300)
    assert len(told) == len(steps) > 50


@pytest.mark.parametrize("name", ["_tell_thread", "_tell_declaration"])
def test_planted_a_notice_to_everybody_or_to_a_stranger_is_found(name: str, monkeypatch) -> None:
    tell = getattr(Desk, name)

    def leaking(self, found, *more):
        tell(self, found, *more)
        last = self._notices[-1]
        if found.to or name == "_tell_thread":
            stranger = next(a for a in range(6) if a not in (found.maker, *found.to, getattr(last.message, "taker", 0)))
            self._notices.append(last._replace(account=stranger))

    monkeypatch.setattr(Desk, name, leaking)
    with pytest.raises(AssertionError, match="stranger"):
        watched_walks(monkeypatch, 6)


def test_a_view_shows_an_account_what_it_may_see_and_the_operators_all() -> None:
    w = machine.World(5)
    for number in range(1, 8):
        to = () if number % 3 == 0 else (1,) if number % 3 == 1 else (2, 3)
        assert w.declare(0, SELL, 7_000, 100_000, to=to) == number
    mine = w.ok(2, BulkOffer(declaration=2, price=6_900, quantity=100_000))["thread"]
    w.ok(3, BulkOffer(declaration=2, price=6_800, quantity=100_000, note="two ships"))
    w.ok(0, BulkCounter(thread=mine, price=6_950, quantity=100_000))
    shown = {who: w.desk.view(who) for who in (0, 1, 2, 3, 4, NO_ACCOUNT)}
    numbers = {who: [d.declaration for d in view.declarations] for who, view in shown.items()}
    assert numbers[0] == numbers[NO_ACCOUNT] == list(range(1, 8))
    assert numbers[1] == [1, 3, 4, 6, 7] and numbers[2] == numbers[3] == [2, 3, 5, 6] and numbers[4] == [3, 6]
    assert [len(shown[who].threads) for who in (0, 1, 2, 3, 4, NO_ACCOUNT)] == [2, 0, 1, 1, 0, 2]
    assert [step.event for step in shown[2].threads[0].steps] == ["offer", "maker_counters"]
    pages, after = [], 1
    while after:
        page = w.desk.view(2, after, 3)
        pages, after = pages + [d.declaration for d in page.declarations], page.next
    assert pages == numbers[2], "pages join without a gap"
