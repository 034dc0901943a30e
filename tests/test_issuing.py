"""Keys are issued and revoked in a running market: journaled, secret on the disk only, nothing half-done."""

from __future__ import annotations

import random

import msgspec
import pytest
from session_world import World

from engine import messages as m
from engine.records import MESSAGE, NO_ACCOUNT
from gateway import issuing, keys
from gateway.client import GatewayError, Refusal, SessionRejected
from gateway.scheduler import check_sessions, sync_sessions


@pytest.fixture
def place(tmp_path):
    """(world, operators' client, folder of keys): an exchange without sockets, its keys on the disk."""
    world = World(random.Random(1))
    keys.save(tmp_path, world.table)
    keys.write_secret(tmp_path / keys.SERVER_KEY, keys.Secret("server", "s" * 40, "x" * 40, "s" * 40))
    return world, world.client("ops1"), tmp_path


def reload(world: World, folder) -> int:
    """The exchange takes the key file; how many commands that leads to."""
    before = world.core.exchange.seq
    world.core.set_keys(keys.load(folder))
    sync_sessions(world.core)
    return world.core.exchange.seq - before


def last_command(world: World):
    """The last slow-lane command of the journal."""
    group, payloads = next(g for g in reversed(world.journal.groups) if (g[0]["kind"] == MESSAGE).any())
    return m.decode(payloads[-int(group[-1]["quantity"]) :])


def test_an_issued_key_is_journaled_with_who_and_why_and_its_secret_is_the_owners_alone(place):
    world, ops, folder = place
    path = issuing.issue(ops, folder, name="member-2b", role="trader", accounts=(2,), why="a second desk")
    command = last_command(world)
    assert isinstance(command, m.OpenSession) and (command.by, command.why) == ("ops1", "a second desk")
    secret = keys.read_secret(path)
    assert path.stat().st_mode & 0o077 == 0 and command.key == secret.public
    assert secret.secret.encode() not in b"".join(payloads for _, payloads in world.journal.groups)
    assert secret.secret not in (folder / keys.KEY_FILE).read_text()
    assert reload(world, folder) == 0, "the exchange has it from the operator's command already"
    assert world.core.exchange.market.sessions[command.session]["account"] == 2
    assert world.core.keys.by_public[secret.public].session == command.session


def test_a_revoked_key_is_out_at_once_and_its_name_is_not_given_again(place):
    world, ops, folder = place
    issuing.issue(ops, folder, name="risk-3", role="risk", accounts=(3,), why="risk department")
    reload(world, folder)
    session = issuing.revoke(ops, folder, name="risk-3", why="left the company")
    assert last_command(world).why == "left the company" and not world.core.exchange.market.sessions[session]["open"]
    assert reload(world, folder) == 0 and not (folder / "risk-3.key").exists()
    with pytest.raises(issuing.IssueError, match="is or was"):
        issuing.issue(ops, folder, name="risk-3", role="risk", accounts=(3,), why="again")
    issuing.issue(ops, folder, name="risk-2", role="risk", accounts=(2,), why="another member")
    reload(world, folder)
    assert keys.load(folder).keys[-1].session == session + 1, "a number is given once: its reports go with it"
    member = world.client("member-1")
    assert member.buy("CEA24", 5900, 1).open
    issuing.revoke(ops, folder, name="member-1", why="credentials were stolen")
    reload(world, folder)
    with pytest.raises(GatewayError):
        member.buy("CEA24", 5900, 1)


def test_a_number_stays_its_accounts_after_its_key_is_gone_and_another_one_gets_no_reports(place):
    """A fuzzed operator revoked a member's session and opened it for another account, whose reports the member got."""
    world, ops, _ = place
    book = world.core.exchange.administration.state.sessions
    number, account = next((n, e.account) for n, e in book.items() if e.role == "trader")
    for other in ({"account": account + 1, "role": "trader"}, {"account": account, "role": "risk"}):
        for revoked in (False, True):
            if revoked:
                ops.execute(m.RevokeSession(session=number, why="left"))
            with pytest.raises(Refusal, match=r"session: .*another account or role|session: already"):
                ops.execute(m.OpenSession(session=number, **other, key="k" * 40, why="again"))
            assert book[number].account == account
    assert not world.core.exchange.market.sessions[number]["open"]
    ops.execute(m.OpenSession(session=number, account=account, role="trader", key="k" * 40, why="a new key"))
    assert world.core.exchange.market.sessions[number]["open"]


def test_a_key_file_that_gives_a_number_to_another_account_is_not_taken(place):
    world, _, folder = place
    table = keys.load(folder)
    check_sessions(world.core, table)
    first = next(k for k in table.keys if k.role == "trader")
    moved = msgspec.structs.replace(first, account=first.account + 1)
    with pytest.raises(keys.KeyFileError, match=f"{first.name}.session: {first.session} was given to the trader of"):
        check_sessions(world.core, keys.KeyTable([moved, *(k for k in table.keys if k.session != first.session)]))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"role": "settlement"}, "role"),
        ({"name": "member-1"}, "name"),
        ({"name": "../x"}, "name"),
        ({"accounts": (7,)}, "account"),
        ({"accounts": (1, 2)}, "account"),
        ({"accounts": (1, 7), "role": "drop_copy"}, "account"),
        ({"role": "operator"}, "account"),
        ({"second": "ops1"}, "second"),
        ({"accounts": (), "role": "operator"}, "second"),
        ({"accounts": (), "role": "operator", "second": "ops1"}, "second"),
        ({"accounts": (), "role": "operator", "second": "member-2"}, "second"),
    ],
)
def test_what_cannot_be_issued_names_its_field_and_leaves_nothing_behind(place, changes, field):
    world, ops, folder = place
    before, seq = sorted(folder.iterdir()), world.core.exchange.seq
    with pytest.raises(issuing.IssueError, match=f"^{field}: "):
        issuing.issue(ops, folder, **{"name": "new", "role": "trader", "accounts": (1,), "why": "reason", **changes})
    left = [p for p in sorted(folder.iterdir()) if p.name != issuing.LOCK_FILE]
    assert left == before and world.core.exchange.seq == seq
    for name in ("ops1", "nobody"):
        with pytest.raises(issuing.IssueError, match=r"^name: "):
            issuing.revoke(ops, folder, name=name, why="reason")


def test_a_secret_goes_where_the_exchange_refuses_and_an_unwritten_file_is_made_good(place, monkeypatch):
    world, ops, folder = place
    with pytest.raises(issuing.IssueError, match="why"):
        issuing.issue(
            ops, folder, name="new", role="trader", accounts=(1,), why="x" * 501
        )  # longer than a reason may be
    world.core.exchange.market.sessions["open"][5] = 1  # planted: the exchange has the number, and does not say so
    known = world.core.exchange.administration.state.sessions
    known[5] = msgspec.structs.replace(known[1], key="k" * 40)
    ask = ops.link.query

    def older(what, **args):
        return {**ask(what, **args), "last_session": 4} if what == "status" else ask(what, **args)

    monkeypatch.setattr(ops.link, "query", older)
    with pytest.raises(GatewayError):
        issuing.issue(ops, folder, name="new", role="trader", accounts=(1,), why="reason")
    world.core.exchange.market.sessions["open"][5] = 0
    assert not (folder / "new.key").exists() and len(keys.load(folder).keys) == 4
    ops.execute(m.OpenSession(session=5, account=1, role="trader", key="z" * 40, name="lost", why="power cut"))
    assert reload(world, folder) == 1, "a session without a key in the file is revoked"
    assert not world.core.exchange.market.sessions[5]["open"]


def test_a_drop_copy_is_issued_for_several_accounts_sees_them_and_is_out_when_revoked(place):
    world, ops, folder = place
    path = issuing.issue(ops, folder, name="copy-12", role="drop_copy", accounts=(1, 2), why="their custodian")
    command = last_command(world)
    assert (command.role, command.by, command.why) == ("drop_copy", "ops1", "accounts 1, 2: their custodian")
    assert reload(world, folder) == 0, "its session stands: the file lists what the command opened"
    key = keys.load(folder).keys[-1]
    assert (key.account, key.accounts, key.public) == (NO_ACCOUNT, (1, 2), keys.read_secret(path).public)
    world.client("member-2").buy("CEA24", 5900, 1)
    world.client("member-3").buy("CEA24", 5800, 1)
    events, _ = world.core.store.page(command.session, 1, world.core.store.stream(command.session).next_no - 1)
    assert set(events["account"].tolist()) == {2}, "the accounts of the copy, and no other's"
    issuing.revoke(ops, folder, name="copy-12", why="custody has ended")
    assert last_command(world).why == "custody has ended" and reload(world, folder) == 0
    assert not world.core.exchange.market.sessions[command.session]["open"]
    assert world.core.keys.authorised(key.public, world.core.clock.now()) is None


def proposed(world: World, ops, folder) -> dict:
    """ops1 proposes the key ops3, ops2 is to confirm: the proposal as the exchange shows it."""
    with pytest.raises(SessionRejected, match="waits for ops2"):
        issuing.issue(ops, folder, name="ops3", role="operator", why="a third shift", second="ops2")
    ((_, proposal),) = sorted(ops.link.query("status")["proposals"].items())[-1:]
    return proposal["command"]


def test_an_operators_key_takes_two_persons_and_lets_nobody_in_before_the_second(place):
    world, ops, folder = place
    keys.save(folder, keys.KeyTable([*world.table.keys, keys.Key("ops2", "ops2".ljust(40, "*"), 5, "operator")]))
    reload(world, folder)
    seq = world.core.exchange.seq
    command = proposed(world, ops, folder)
    assert world.core.exchange.seq == seq and not (folder / "ops3.key").exists()
    assert "ops3" not in (folder / keys.KEY_FILE).read_text()
    assert issuing.complete(folder, command, lambda: False) is None, "the exchange refused"
    assert "ops3" not in (folder / keys.KEY_FILE).read_text()

    def by_the_second() -> bool:
        world.core.source(m.decode(m.encode(m.OpenSession(**{k: v for k, v in command.items() if k != "t"}))))
        world.core.flush()
        return bool(world.core.exchange.market.sessions[command["session"]]["open"])

    path = issuing.complete(folder, command, by_the_second)
    assert keys.read_secret(path).public == command["key"] and path.stat().st_mode & 0o077 == 0
    assert (last_command(world).by, last_command(world).second) == ("ops1", "ops2")
    assert reload(world, folder) == 0 and world.core.keys.by_public[command["key"]].role == "operator"
    with pytest.raises(issuing.IssueError, match="is or was"):
        issuing.complete(folder, command, by_the_second)  # not twice
    assert issuing.revoke(ops, folder, name="ops3", why="left the company") == command["session"]
    with pytest.raises(issuing.IssueError, match="your own"):
        issuing.revoke(ops, folder, name="ops1", why="by mistake")
    issuing.revoke(ops, folder, name="ops2", why="key was stolen")  # made by hand: the engine had no session of it
    assert (last_command(world).by, last_command(world).why) == ("ops1", "key was stolen")
    assert [k.name for k in keys.load(folder).keys if k.role == "operator"] == ["ops1"]


def test_the_exchange_itself_asks_for_two_persons_and_an_old_proposal_makes_no_key(place):
    world, ops, folder = place
    for second in ("", "ops1"):  # without a second nobody is asked; oneself is no second: the engine's own word
        world.core.source(alone := m.OpenSession(session=9, account=NO_ACCOUNT, role="operator", key="k", by="ops1",
                                                 second=second))  # fmt: skip
        world.core.flush()
        assert last_command(world) == alone and not world.core.exchange.market.sessions[9]["open"]
    with pytest.raises(Refusal, match="account"):
        ops.execute(m.OpenSession(session=9, account=NO_ACCOUNT, role="risk", key="k"))
    keys.save(folder, keys.KeyTable([*world.table.keys, keys.Key("ops2", "ops2".ljust(40, "*"), 5, "operator")]))
    reload(world, folder)
    first, again = proposed(world, ops, folder), proposed(world, ops, folder)
    for command, field in ((first, "name"), ({**again, "name": "../ops3"}, "proposal")):
        with pytest.raises(issuing.IssueError, match=f"^{field}: "):
            issuing.complete(folder, command, lambda: pytest.fail("nothing may be confirmed"))
    issuing.issue(ops, folder, name="member-1b", role="trader", accounts=(1,), why="took the number")
    with pytest.raises(issuing.IssueError, match=r"^session: "):
        issuing.complete(folder, again, lambda: pytest.fail("nothing may be confirmed"))
