"""Keys, planes, ZAP: each trap of ZeroMQ that the design names is a test here."""

from __future__ import annotations

import os
import time
import tomllib
from pathlib import Path

import gateway_market as gm
import msgspec
import pytest
import zmq
from zmq.utils import z85

from gateway import config as cfg
from gateway import keys, zap
from gateway import protocol as p
from gateway.client import Client, GatewayError, LoginRefused, NoAnswer
from gateway.config import ConfigError
from gateway.operator import OperatorClient
from gateway.server import StartError

NOTHING_S = 0.3  # whoever is refused gets no answer: so long one waits for none


@pytest.fixture(params=["plain"])
def served(tmp_path, request, monkeypatch):
    """A server that a test can reach into, and that looks at its key file often; parameter: its lane."""
    monkeypatch.setattr("gateway.server.HOUSEKEEPING_NS", 50_000_000)
    with gm.serving(gm.make(tmp_path / "m", lane=request.param)) as server:
        yield server


def refuses(served, connect) -> None:
    """The exchange refuses that key. A client that gave up before it was asked for its key says nothing: once more."""
    before = served._zap.refused

    def tried() -> bool:
        with pytest.raises(NoAnswer):
            connect()
        return bool(served._zap.refused > before)

    assert gm.wait_until(tried)


def test_only_known_keys_connect_and_each_to_its_plane(served):
    folder = served.market.folder
    public, secret = (k.decode() for k in zmq.curve_keypair())
    stranger = keys.Secret("stranger", public, secret, served.endpoints.server_public)
    for connect in (
        lambda: Client(folder, key=stranger, timeout=NOTHING_S),
        lambda: OperatorClient(folder, key="member-1", timeout=NOTHING_S),
        lambda: Client(folder, key="ops1", timeout=NOTHING_S),
    ):
        refuses(served, connect)
    with Client(folder, key="member-1") as me:
        assert me.account == 1


def test_the_self_test_finds_a_handler_that_lets_everybody_in(served):
    assert served._zap is not None
    address = served.endpoints.members
    served._self_test(address)
    served._zap.answer = lambda r: [b"1.0", r[1], b"200", b"OK", z85.encode(r[6]), b""]  # type: ignore[method-assign]
    with pytest.raises(StartError, match="unknown key"):
        served._self_test(address)


def test_a_zap_request_that_is_odd_is_refused():
    context: zmq.Context = zmq.Context()
    handler = zap.ZapThread(context, lambda domain, public: True)
    good = [b"1.0", b"1", b"members", b"127.0.0.1", b"", b"CURVE", bytes(32)]
    assert handler.answer(good)[2] == b"200"
    for place, value in ((0, b"2.0"), (5, b"NULL"), (5, b"PLAIN"), (6, b"short")):
        odd = [*good]
        odd[place] = value
        assert handler.answer(odd)[2] == b"400"
    assert handler.answer([])[2] == b"400" and handler.answer(good[:6])[2] == b"400"
    handler.stop()
    context.term()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_handler_that_is_gone_lets_nobody_in(served):
    """The enforced domain: without a ZAP handler libzmq would accept any key."""
    assert served._zap is not None
    served._zap.stop()
    with pytest.raises(NoAnswer):
        Client(served.market.folder, key="member-1", timeout=NOTHING_S)
    with pytest.raises(StartError, match="ZAP"):
        served._housekeeping(time.monotonic_ns())


BOTH_LANES = pytest.mark.parametrize("served", [pytest.param("plain", marks=pytest.mark.slow), "hot"], indirect=True)


@BOTH_LANES
def test_a_revoked_key_loses_its_session_at_once_and_a_new_one_takes_its_place(served):
    folder = served.market.folder / "keys"
    with Client(served.market.folder, key="member-1") as me:
        table = keys.load(folder)
        old = next(k for k in table.keys if k.name == "member-1")
        server_public = keys.read_secret(folder / "server.key").server_public
        new = keys.make(folder, keys.NewKey("member-1-b", "trader", 1), old.session, server_public)
        keys.save(folder, keys.KeyTable([*table.keys, new]))  # overlap: both hold
        assert gm.wait_until(lambda: new.public in served.core.keys.by_public)
        me.sync()
        with pytest.raises(LoginRefused, match="in use"):  # another key of the session (D7)
            Client(served.market.folder, key="member-1-b")
        me.buy("CEA24", "59.50", 1)
        keys.save(folder, keys.KeyTable([*(k for k in table.keys if k is not old), new]))
        assert gm.wait_until(lambda: old.public not in served.core.keys.by_public)
        with pytest.raises(GatewayError, match="revoked"):
            me.buy("CEA24", "59.50", 1)  # a plain order: what machine code would take without asking Python
    with Client(served.market.folder, key="member-1-b") as again:
        assert again.account == 1
    with pytest.raises(NoAnswer):
        Client(served.market.folder, key="member-1", timeout=NOTHING_S)


@BOTH_LANES
def test_a_key_that_expires_loses_its_session_though_it_only_sends_plain_orders(served):
    folder = served.market.folder / "keys"
    with Client(served.market.folder, key="member-1") as me:
        table = keys.load(folder)
        mine = next(k for k in table.keys if k.name == "member-1")
        session = served.core.sessions[mine.session]
        assert session.logged_in and session.token in served.core.tokens
        token = session.token
        ending = msgspec.structs.replace(mine, valid_to=served.core.clock.now() + 1)
        served.core.keys = keys.KeyTable([*(k for k in table.keys if k is not mine), ending])  # as if loaded long ago
        served.core.clock.step(served.core.clock.now() + 1_000_000_000)
        assert gm.wait_until(lambda: token not in served.core.tokens)
        with pytest.raises(GatewayError):
            me.buy("CEA24", "59.50", 1)


@pytest.mark.parametrize("served", ["hot"], indirect=True)
def test_machine_code_takes_no_order_of_a_connection_with_another_key(served):
    with Client(served.market.folder, key="member-1") as me:
        me.buy("CEA24", "59.50", 1)
        me.link.timeout_ns = 2 * 10**9  # it asks again and again
        seq, session = served.core.exchange.seq, served.core.sessions[me.link.session]
        session.key = served.core.sessions[me.link.session].key[::-1]  # token and connection stay, the key does not
        served.core._refresh(session)
        with pytest.raises(GatewayError):
            me.buy("CEA24", "59.50", 1)
        assert gm.wait_until(lambda: served.core.counters.session_rejects > 0) and served.core.exchange.seq == seq


def replace(path: Path, text: str) -> None:
    """In one step: an empty file, seen in between, is a table without keys."""
    spare = path.with_suffix(".new")
    spare.write_text(text)
    os.replace(spare, path)


def test_a_bad_key_file_keeps_the_old_one_and_alarms(served):
    path = served.market.folder / "keys" / keys.KEY_FILE
    good = path.read_text()
    before = served.core.keys
    for bad in ("[[key]", good.replace('role = "trader"', 'role = "king"', 1), ""):
        replace(path, bad + "\n" if bad else "key = 5\n")
        assert gm.wait_until(lambda: served.core.alarms), bad
        assert served.core.keys is before and "key file" in served.core.alarms[-1]
        served.core.alarms = []
    replace(path, good)
    with Client(served.market.folder, key="member-1") as me:
        me.sync()


def test_a_login_needs_an_unguessable_routing_id_and_the_token_is_bound_to_it(served):
    """Routing ids are chosen by the peer: they identify nobody, and a guessable one is refused."""
    folder = served.market.folder
    secret = keys.read_secret(folder / "keys" / "member-1.key")
    with Client(folder, key="member-1") as me:
        token = me.link.token
        thief = Client(folder, key="member-2")  # knows the token, but is another key on another connection
        thief.link.token = token
        before = served.core.counters.session_rejects
        assert [b["account"] for b in thief.balances()] == [2], "it was refused, logged in anew, and sees its own"
        assert served.core.counters.session_rejects > before
        me.sync()
        thief.close()
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.linger = 0
    socket.set(zmq.ROUTING_ID, b"member-1")
    socket.curve_serverkey = secret.server_public.encode()
    socket.curve_publickey, socket.curve_secretkey = secret.public.encode(), secret.secret.encode()
    socket.connect(served.endpoints.members)
    socket.send(p.encode(p.Login(version=p.PROTOCOL_VERSION)))
    assert socket.poll(60_000)
    answer = p.decode_from_exchange(socket.recv())
    assert isinstance(answer, p.LoginRejected) and "routing id" in answer.text
    socket.close()


def test_keys_files_and_configuration_name_what_is_wrong(tmp_path):
    market = gm.make(tmp_path / "m")
    path = market.folder / "keys" / "member-1.key"
    path.chmod(0o644)
    with pytest.raises(keys.KeyFileError, match="chmod 600"):
        keys.read_secret(path)
    with pytest.raises(ConfigError, match="there is a market already"):
        gm.make(tmp_path / "m")
    text = (market.folder / "market.toml").read_text()
    for old, new, reason in (
        ("metrics = true", "metrics = 3", r"gateway.metrics"),
        ("account = 2", "account = 1", r"members\[1\]"),
        ('host = "127.0.0.1"', 'host = "127.0.0.1"\nfast = true', "fast"),
    ):
        (market.folder / "market.toml").write_text(text.replace(old, new, 1))
        with pytest.raises(ConfigError, match=reason):
            cfg.load(market.folder)


KEY_LINES = '[[key]]\nname = "a"\nsession = 1\naccounts = [1, 2]\nvalid_from = 0\n'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# none\n",
        KEY_LINES,
        '# comment with = and "\n\n' + KEY_LINES + "\n" + KEY_LINES.replace("1", "77").replace("[77, 2]", "[]"),
        KEY_LINES.replace('"a"', '"ä€ \t"'),
        *(
            KEY_LINES.replace('"a"', value)
            for value in (r'"a\"b"', r'"a\/b"', '"a" # why', "'a'", '"a', '"a\x01"', '"a""b"')
        ),
        *(
            KEY_LINES.replace("= 1\n", f"= {n}\n")
            for n in ("-1", "+1", "01", "1_0", "0x1F", "1.5", "1e3", "true", "١", "")
        ),
        *(KEY_LINES.replace("[1, 2]", a) for a in ("[1,2]", "[ 1 ]", "[1, 2,]", "[01]", "[1, [2]]", "[1 2]", "[,]")),
        KEY_LINES + "session = 2\n",
        KEY_LINES.replace("[[key]]", "[key]"),
        KEY_LINES.replace("[[key]]\n", ""),
        KEY_LINES.replace("\n", "\r\n"),
        KEY_LINES + "# bell \x07\n",
        KEY_LINES + "name.x = 1\n",
        KEY_LINES + "[[key.accounts]]\n",
    ],
)
def test_the_short_way_through_a_key_file_reads_what_toml_reads(text: str) -> None:
    try:
        expected = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        with pytest.raises(tomllib.TOMLDecodeError):
            keys.parse(text)
    else:
        assert keys.parse(text) == expected


def test_a_saved_key_file_takes_the_short_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [keys.NewKey("member-1", "trader", 1), keys.NewKey("copy", "drop_copy", accounts=(1, 2))]
    table = keys.create(tmp_path / "keys", wanted)
    monkeypatch.setattr(tomllib, "loads", lambda text: pytest.fail("the long way"))
    assert keys.load(tmp_path / "keys").keys == table.keys
