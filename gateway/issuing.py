"""Issuing and revoking members' keys in a running market (D30): a journaled command, and the key file.

The operator's command (``OpenSession``, ``RevokeSession``) says in the journal who did it and why. The key file is what
lets a connection in; the exchange takes a changed one within a second. A stop between the two leaves nothing open:
what the file does not list, the exchange revokes by itself.

The secret is written for whoever fetches it for the member: ``keys/NAME.key``, mode 0600, on the exchange's machine.
It is shown nowhere else and never leaves by the network.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from engine import messages as m
from engine.records import NO_ACCOUNT
from gateway import keys as keyfile
from gateway.client import Client

# Keys that stand in the exchange's table of sessions; others are made with the market (`cea init`).
ROLES: Final = ("trader", "risk")
SESSION_MAX: Final = 65_535
LOCK_FILE: Final = "keys.lock"
REVOKED: Final = ".revoked"  # the secret file's ending afterwards, so that its name and what it was stay known


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


def issue(ops: Client, keys: Path, *, name: str, role: str, account: int, why: str) -> Path:
    """A new key with a session of its own for an account; the path of the secret file.

    keys: the market's folder of keys. Raises IssueError, KeyFileError, and what the operator's client raises where the
    exchange refuses; then nothing stays behind.
    """
    if role not in ROLES:
        raise IssueError(f"role: {role!r} is not one of {', '.join(ROLES)}; other keys are made with the market")
    with _alone(keys):
        table = keyfile.load(keys)
        path = keys / f"{name}.key"
        if any(key.name == name for key in table.keys) or path.exists() or path.with_suffix(REVOKED).exists():
            raise IssueError(f"name: {name!r} is or was a key's name")
        # a number is given once, also after its key is gone: the session's reports of the day go with it
        session = max(ops.link.query("status")["last_session"], *(key.session for key in table.keys)) + 1
        if session > SESSION_MAX:
            raise IssueError(f"session: all {SESSION_MAX:,} numbers are given")
        if not ops.link.query("balances", account=account)[0]["status"]:
            raise IssueError(f"account: {account} is not open")
        server = keyfile.read_secret(keys / keyfile.SERVER_KEY).public
        try:
            msgspec.convert({"name": name, "public": "0" * 40, "session": session, "role": role}, keyfile.Key)
        except msgspec.ValidationError as error:
            raise IssueError(f"name: {error}") from None
        key = keyfile.make(keys, keyfile.NewKey(name, role, account), session, server)
        try:
            _send(ops, m.OpenSession(session=session, account=account, role=role, key=key.public, name=name, why=why))
        except BaseException:
            path.unlink()
            raise
        keyfile.save(keys, keyfile.KeyTable([*table.keys, key]))
    return path


def revoke(ops: Client, keys: Path, *, name: str, why: str) -> int:
    """Takes a member's key out: whoever is logged in with it is logged out. Its session number; errors as of ``issue``.

    Open orders stay, so that a lost key does not take a member out of the market: cancel them apart.
    """
    with _alone(keys):
        table = keyfile.load(keys)
        key = next((k for k in table.keys if k.name == name), None)
        if key is None:
            raise IssueError(f"name: there is no key {name!r}")
        if key.role not in ROLES or key.account == NO_ACCOUNT:
            raise IssueError(
                f"name: {name!r} has the role {key.role}; only keys of {', '.join(ROLES)} are revoked here"
            )
        if sum(k.session == key.session for k in table.keys) == 1:
            _send(ops, m.RevokeSession(session=key.session, why=why))
        keyfile.save(keys, keyfile.KeyTable(k for k in table.keys if k.name != name))
        secret = keys / f"{name}.key"
        if secret.exists():
            os.replace(secret, secret.with_suffix(REVOKED))
    return key.session
