"""Issuing and revoking keys in a running market (D30): a journaled command, and the key file.

Members' keys (trader, risk), drop copies of one or more accounts (read-only) and operators' keys. The operator's
command (``OpenSession``, ``RevokeSession``) says in the journal who did it and why. The key file is what lets a
connection in; the exchange takes a changed one within a second. A stop between the two leaves nothing open: what the
file does not list, the exchange revokes by itself.

A new operator's key takes two persons: the first proposes, and until the second confirms with a key of their own
(:func:`complete`) it is in no key file. Taking one out takes one person, as a kill switch does: it must be quick.

The secret is written for whoever fetches it for its owner: ``keys/NAME.key``, mode 0600, on the exchange's machine.
It is shown nowhere else and never leaves by the network.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from engine import messages as m
from engine.codes import Code
from engine.records import NO_ACCOUNT
from gateway import keys as keyfile
from gateway.client import Client, Refusal, SessionRejected

MEMBER_ROLES: Final = ("trader", "risk")
ROLES: Final = (*MEMBER_ROLES, "drop_copy", "operator")  # others are made with the market (`cea init`)
SESSION_MAX: Final = 65_535
COPIES_MAX: Final = 50  # accounts of one drop copy: the reason in the journal names them all, in 500 characters
LOCK_FILE: Final = "keys.lock"
REVOKED: Final = ".revoked"  # the secret file's ending afterwards, so that its name and what it was stay known
WAITING: Final = ".waiting"  # and while a second person has not confirmed


class IssueError(Exception):
    """A key cannot be issued or revoked: field and reason."""


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One writer of the key file at a time, over processes."""
    fd = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _send(ops: Client, command: m.Message) -> None:
    """Sends what can be read; IssueError names the field of what cannot."""
    try:
        m.decode(m.encode(command))
    except msgspec.ValidationError as error:
        raise IssueError(str(error)) from None
    ops.execute(command)


def _checked(role: str, accounts: tuple[int, ...]) -> None:
    """As many accounts as the role's keys have."""
    if role not in ROLES:
        raise IssueError(f"role: {role!r} is not one of {', '.join(ROLES)}; other keys are made with the market")
    if role in MEMBER_ROLES and len(accounts) != 1:
        raise IssueError(f"account: a {role}'s key has one account")
    if role == "drop_copy" and not 1 <= len(accounts) <= COPIES_MAX:
        raise IssueError(f"account: a drop copy shows 1 to {COPIES_MAX} accounts")
    if role == "operator" and accounts:
        raise IssueError("account: an operator's key has none")


def _second(table: keyfile.KeyTable, ops: Client, role: str, second: str) -> None:
    """Who confirms: another operator's key, for an operator's key alone."""
    if role != "operator":
        if second:
            raise IssueError("second: only an operator's key takes a second person")
        return
    own = table.by_public.get(ops.link.secret.public)
    if second not in {k.name for k in table.keys if k.role == "operator" and k is not own}:
        raise IssueError(f"second: {second!r} is not the key of another operator; an operator's key takes two persons")


def _free(table: keyfile.KeyTable, keys: Path, name: str) -> Path:
    """The path of a new key's secret; IssueError where the name is or was another key's."""
    path = keys / f"{name}.key"
    if any(key.name == name for key in table.keys) or path.exists() or path.with_suffix(REVOKED).exists():
        raise IssueError(f"name: {name!r} is or was a key's name")
    return path


def issue(
    ops: Client, keys: Path, *, name: str, role: str, accounts: tuple[int, ...] = (), why: str, second: str = ""
) -> Path:
    """A new key with a session of its own; the path of the secret file.

    keys: the market's folder of keys. accounts: one of a trader or a risk department, those that a drop copy shows,
    none of an operator. second: the name of the operator's key that confirms an operator's key; then the exchange
    answers TWO_PERSONS_REQUIRED with the proposal's number (SessionRejected), and :func:`complete` finishes it. Raises
    IssueError, KeyFileError, and what the operator's client raises where the exchange refuses; then nothing stays.
    """
    accounts = tuple(dict.fromkeys(accounts))
    _checked(role, accounts)
    with _alone(keys):
        table = keyfile.load(keys)
        path = _free(table, keys, name)
        _second(table, ops, role, second)
        # a number is given once, also after its key is gone: the session's reports of the day go with it
        session = max(ops.link.query("status")["last_session"], *(key.session for key in table.keys)) + 1
        if session > SESSION_MAX:
            raise IssueError(f"session: all {SESSION_MAX:,} numbers are given")
        for account in accounts:
            if not ops.link.query("balances", account=account)[0]["status"]:
                raise IssueError(f"account: {account} is not open")
        server = keyfile.read_secret(keys / keyfile.SERVER_KEY).public
        try:
            msgspec.convert({"name": name, "public": "0" * 40, "session": session, "role": role}, keyfile.Key)
        except msgspec.ValidationError as error:
            raise IssueError(f"name: {error}") from None
        member = accounts[0] if role in MEMBER_ROLES else NO_ACCOUNT
        new = keyfile.NewKey(name, role, member, accounts if role == "drop_copy" else ())
        key = keyfile.make(keys, new, session, server)
        if role == "drop_copy":  # the command has room for one account: the reason says which ones it shows
            why = f"accounts {', '.join(map(str, accounts))}: {why}"
        try:
            _send(
                ops,
                m.OpenSession(
                    session=session, account=member, role=role, key=key.public, name=name, second=second, why=why
                ),
            )
        except SessionRejected as error:
            if error.code == Code.TWO_PERSONS_REQUIRED:
                os.replace(path, path.with_suffix(WAITING))
            else:
                path.unlink()
            raise
        except BaseException:
            path.unlink()
            raise
        keyfile.save(keys, keyfile.KeyTable([*table.keys, key]))
    return path


def complete(keys: Path, command: dict[str, Any], confirm: Callable[[], bool]) -> Path | None:
    """Has the second person confirm a proposed ``OpenSession`` and lists the key; None where the exchange refused.

    command: the proposal as the exchange shows it. confirm: sends the confirmation; True where the exchange did it.
    Raises IssueError where the proposal cannot become a key any more, KeyFileError.
    """
    found = {"name": command["name"], "public": command["key"], "session": command["session"], "role": command["role"]}
    try:
        key = msgspec.convert(found, keyfile.Key)  # its name becomes a path
    except msgspec.ValidationError as error:
        raise IssueError(f"proposal: {error}") from None
    with _alone(keys):
        table = keyfile.load(keys)
        path = _free(table, keys, key.name)
        waiting = path.with_suffix(WAITING)
        if not waiting.exists() or keyfile.read_secret(waiting).public != key.public:
            raise IssueError(f"name: the secret of {key.name!r} is gone or another proposal's; propose it again")
        if key.session <= max(other.session for other in table.keys):
            raise IssueError(f"session: {key.session} was given to another key in the meantime; propose it again")
        wider = keyfile.KeyTable([*table.keys, key])
        if not confirm():
            return None
        os.replace(waiting, path)
        keyfile.save(keys, wider)
    return path


def revoke(ops: Client, keys: Path, *, name: str, why: str) -> int:
    """Takes a key out: whoever is logged in with it is logged out. Its session number; errors as of ``issue``.

    Open orders stay, so that a lost key does not take a member out of the market: cancel them apart. Nobody takes out
    the own key, so one operator always remains.
    """
    with _alone(keys):
        table = keyfile.load(keys)
        key = next((k for k in table.keys if k.name == name), None)
        if key is None:
            raise IssueError(f"name: there is no key {name!r}")
        if key.role not in ROLES:
            raise IssueError(
                f"name: {name!r} has the role {key.role}; only keys of {', '.join(ROLES)} are revoked here"
            )
        if key.public == ops.link.secret.public:
            raise IssueError(f"name: {name!r} is your own key; another operator takes it out")
        if sum(k.session == key.session for k in table.keys) == 1:
            try:
                _send(ops, m.RevokeSession(session=key.session, why=why))
            except Refusal as error:
                # made with the market: the engine never had this session. The command says who and why all the same
                if key.role in MEMBER_ROLES or error.field != "session":
                    raise
        keyfile.save(keys, keyfile.KeyTable(k for k in table.keys if k.name != name))
        secret = keys / f"{name}.key"
        if secret.exists():
            os.replace(secret, secret.with_suffix(REVOKED))
    return key.session
