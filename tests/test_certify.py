"""`cea certify` as a member's developer meets it: cards one by one, and one clear sentence where it cannot begin."""

from __future__ import annotations

import json
import socket
import threading

import gateway_market as gm
import msgspec
import pytest
import zmq
from test_cli import run

from cea import connecting
from cea.output import Exit
from gateway import config as cfg
from gateway import keys
from gateway.cards import CARDS, prove_login
from gateway.cards import certify as run_cards
from gateway.client import Client, GatewayError, NoAnswer
from gateway.operator import OperatorClient

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with gm.serving(gm.make(tmp_path_factory.mktemp("certify") / "m", lane="hot")) as server:
        yield server


def certify(capsys, *words: object) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    code = run("certify", *words)
    seen = capsys.readouterr()
    return code, seen.out, seen.err


def test_each_card_runs_by_its_number_and_all_run_together(served, capsys):
    folder = served.market.folder
    for hours, untried in (("before the open", 5), ("in the session", 0)):
        code, out, _ = certify(capsys, "-m", folder)
        assert code == Exit.OK and f"{len(CARDS) - untried} of {len(CARDS)} cards passed" in out, hours
        assert out.count("not tried") == untried and out.count("refused the order that it needs") == untried, hours
        if hours == "before the open":
            with OperatorClient(folder) as ops:
                gm.fund(ops)
    with Client(folder, key="member-1") as me:
        assert len(me.open_orders()) == 0, "cards leave nothing behind"
    assert all(card.title in out for card in CARDS)
    for card in CARDS:
        code, out, _ = certify(capsys, "-m", folder, "--only", card.number, "--json")
        (row,) = json.loads(out)
        assert code == Exit.OK and (row["number"], row["title"], row["passed"]) == (card.number, card.title, True)


@pytest.mark.parametrize("title", ["Cancel on disconnect", "Orders stay", "Dead-man switch", "Malformed to the end"])
def test_the_cards_of_timers_find_an_exchange_without_them(served, title, monkeypatch):
    with OperatorClient(served.market.folder) as ops:
        ops.step_clock(max(gm.MORNING, served.core.clock.now()))
    number = next(c.number for c in CARDS if c.title == title)
    core = served.core
    if title == "Orders stay":  # planted bugs: the opposite of what each card says
        monkeypatch.setattr(
            core,
            "_on_logout",
            lambda session, message: (
                core.cancel_session(session, "planted"),
                type(core)._on_logout(core, session, message),
            ),
        )
    elif title == "Malformed to the end":
        monkeypatch.setattr(core, "config", msgspec.structs.replace(core.config, malformed_before_logout=10**6))
    else:
        monkeypatch.setattr(core, "cancel_session", lambda session, why: None)
    monkeypatch.setattr("gateway.cards.ANSWER_SECONDS", 1.0)
    monkeypatch.setattr("gateway.cards.Probe.frames.__defaults__", (1.0,))
    (result,) = run_cards(served.market.folder, "member-3", lambda card: card.number == number)
    assert not result.passed and result.reason


def test_a_members_developer_needs_only_a_key_file_and_an_address(served, capsys):
    key = served.market.folder / "keys" / "member-2.key"
    code, out, _ = certify(capsys, "--at", served.endpoints.members, "--as", key, "--only", 1, "--only", 9)
    assert code == Exit.OK and "2 of 2 cards passed" in out
    code, _, err = certify(capsys, "--at", served.endpoints.members)
    assert code == Exit.USAGE and "key file" in err


def test_a_failing_card_says_what_was_seen_and_fails_the_command(served, capsys):
    judge = served.core._judge_login
    served.core._judge_login = lambda plane, route, key, message: judge(
        plane, route, key, type(message)(version=1, claim=message.claim)
    )
    try:
        code, out, err = certify(capsys, "-m", served.market.folder, "--only", 2)
    finally:
        served.core._judge_login = judge
    assert code == Exit.NO and "FAILED" in out and "answered LoginAccepted" in out and "1 of 1 cards failed" in err


def test_wrong_keys_and_wrong_addresses_are_told_apart(served, tmp_path, capsys, monkeypatch):
    folder, address = served.market.folder, served.endpoints.members
    public, secret = (k.decode() for k in zmq.curve_keypair())
    stranger = tmp_path / "stranger.key"
    keys.write_secret(stranger, keys.Secret("stranger", public, secret, served.endpoints.server_public))
    with monkeypatch.context() as patience:
        patience.setattr("gateway.cards.prove_login.__defaults__", (1.0,))  # in vain
        code, _, err = certify(capsys, "--at", address, "--as", stranger)
    assert code == Exit.UNREACHABLE and "listens" in err and "does not know the key stranger" in err
    assert "operators' keys have an endpoint of their own" in err
    with socket.socket() as taken, monkeypatch.context() as patience:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        patience.setattr("gateway.cards.prove_login.__defaults__", (1.0,))
        nobody = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        code, _, err = certify(capsys, "--at", nobody, "--as", folder / "keys" / "member-1.key")
    assert code == Exit.UNREACHABLE and "nobody listens" in err
    code, _, err = certify(capsys, "-m", folder, "--as", "nobody")
    assert code == Exit.CONFIG and "there is no key nobody" in err
    code, _, err = certify(capsys, "-m", folder, "--as", "risk-1")
    assert code == Exit.NO and "is a risk's; the cards need a trader's" in err
    with pytest.raises(GatewayError, match="trader"):
        prove_login(folder, "drop")
    loose = tmp_path / "loose.key"
    loose.write_bytes((folder / "keys" / "member-1.key").read_bytes())
    loose.chmod(0o644)
    code, _, err = certify(capsys, "--at", address, "--as", loose)
    assert code == Exit.CONFIG and "chmod 600" in err


def test_somebody_who_begins_to_listen_is_waited_for_and_nobody_is_told_in_time():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))  # taken, and nobody listens yet
        address = f"tcp://127.0.0.1:{place.getsockname()[1]}"
        assert "nobody listens at " + address in connecting.nobody_listens(address, 0.0)
        threading.Timer(0.2, place.listen).start()
        assert connecting.nobody_listens(address, gm.PATIENCE_S) == ""


def test_a_market_that_is_not_running_is_said_so(tmp_path, capsys, monkeypatch):
    market = gm.make(tmp_path / "m")
    code, _, err = certify(capsys, "-m", market.folder)
    assert code == Exit.UNREACHABLE and "no exchange runs" in err
    cfg.write_endpoints(  # what a killed exchange leaves behind
        market,
        cfg.Endpoints(members="tcp://127.0.0.1:9", operators="tcp://127.0.0.1:9", feed="", operator_feed="",
                      metrics="", curve=True, server_public="", pid=0),
    )  # fmt: skip
    monkeypatch.setattr("gateway.cards.prove_login.__defaults__", (0.5,))
    knock = connecting.nobody_listens
    monkeypatch.setattr(connecting, "nobody_listens", lambda address, seconds: knock(address, min(seconds, 0.1)))
    with pytest.raises(NoAnswer, match="nobody listens"):
        prove_login(market.folder, "member-1", 0.5)
    code, _, err = certify(capsys, "-m", market.folder)
    assert code == Exit.UNREACHABLE and "nobody listens" in err and "cea serve" in err
    assert run("status", "-m", market.folder, "--timeout", "0.1") == Exit.UNREACHABLE
    err = capsys.readouterr().err
    assert "nobody listens" in err and "the exchange is down" in err and "cea serve" in err
