"""Every card passes against our own exchange, on both lanes; a card fails where the exchange breaks its promise."""

from __future__ import annotations

import gateway_market as gm
import pytest

from gateway.cards import Card, Probe, Result, certify
from gateway.client import Client
from gateway.operator import OperatorClient


@pytest.fixture(params=[pytest.param("plain", marks=pytest.mark.slow), "hot"])
def server(tmp_path, request):
    with gm.serving(gm.make(tmp_path / "m", lane=request.param)) as found:
        yield found


def at_once(card: Card) -> bool:
    """The others wait for timers: tests/test_certify.py runs them."""
    return card.number <= 20


def failed(results: list[Result]) -> list[Result]:
    return [r for r in results if r.failed]


def test_all_cards_pass_before_the_open_and_in_the_session(server):
    folder = server.market.folder
    results = certify(folder, "member-1", at_once)
    assert failed(results) == [], "logins are possible outside hours (D7)"
    assert [r.title for r in results if not r.tried] == ["Mass cancel", "Open orders"], "they need an order in the book"
    assert all("refused the order" in r.reason for r in results if not r.tried)
    with OperatorClient(folder) as ops:
        gm.fund(ops)
    results = certify(folder, "member-1", at_once)
    assert all(r.passed and r.tried for r in results) and len(results) == 20
    with Client(folder, key="member-1") as me:
        assert len(me.open_orders()) == 0


def test_cards_find_an_exchange_that_breaks_its_promises(server, monkeypatch):
    folder = server.market.folder
    core = server.core
    core._judge_login = _version_blind(core._judge_login)
    core._repeat = lambda *a: None

    def fail(*titles: str) -> list[str]:
        return [r.title for r in certify(folder, "member-2", lambda c: c.title in titles) if not r.passed]

    assert fail("Wrong version", "Gap") == ["Wrong version"]
    for method in ("frames", "wait"):  # this card waits in vain
        function = getattr(Probe, method)
        monkeypatch.setattr(function, "__defaults__", (0.5,))
    assert fail("Mismatch") == ["Mismatch"]


def _version_blind(judge):
    """Planted bug: any version is taken."""
    import msgspec

    return lambda plane, route, key, message: judge(plane, route, key, msgspec.structs.replace(message, version=1))
