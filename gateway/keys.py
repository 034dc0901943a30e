"""Keys: who holds which CURVE key, with which role, for how long. The key file and its hot reload.

``keys.toml`` lists public keys only; each secret lies in a file of its own, ``<name>.key`` (mode 0600), for
whoever owns it. Two entries with the same session are one session with two keys: rotation with overlap.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import zmq

from engine.records import NO_ACCOUNT
from gateway.roles import ROLES

KEY_FILE: Final = "keys.toml"
SERVER_KEY: Final = "server.key"

_NUMBER: Final = "(?:0|[1-9][0-9]{0,18})"
# One line of a table: a name, and a text without escapes, a number, or numbers.
_FIELD: Final = re.compile(
    rf"""([a-z_]+) = (?:"([^"\\\x00-\x1f\x7f]*)"|({_NUMBER})|\[((?:{_NUMBER}(?:, {_NUMBER})*)?)\])"""
)


class KeyFileError(Exception):
    """A key file cannot be used: file, path and reason."""


class Key(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One public key. Times are ns UTC of exchange time, 0: no bound. ``accounts``: what a drop copy shows."""

    name: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,39}\Z")]
    public: Annotated[str, msgspec.Meta(min_length=40, max_length=40)]
    session: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    role: str
    account: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)] = NO_ACCOUNT
    accounts: tuple[int, ...] = ()
    valid_from: int = 0
    valid_to: int = 0

    def valid_at(self, time_ns: int) -> bool:
        """True inside the key's validity."""
        return time_ns >= self.valid_from and (self.valid_to == 0 or time_ns < self.valid_to)


class NewKey(NamedTuple):
    """A key to be made."""

    name: str
    role: str
    account: int = NO_ACCOUNT
    accounts: tuple[int, ...] = ()


class Secret(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A key pair as its owner keeps it, with the exchange's public key to talk to."""

    name: str
    public: str
    secret: str
    server_public: str


class _File(msgspec.Struct, forbid_unknown_fields=True):
    key: list[Key] = []


class KeyTable:
    """All keys by their public half, and sessions by number. Immutable: a reload makes a new one."""

    def __init__(self, entries: Iterable[Key]) -> None:
        self.keys = tuple(entries)
        self.by_public: dict[str, Key] = {}
        self.by_session: dict[int, Key] = {}
        names: set[str] = set()
        for i, key in enumerate(self.keys):
            where = f"key[{i}] ({key.name})"
            if key.role not in ROLES:
                raise KeyFileError(f"{where}.role: {key.role!r} is not one of {', '.join(ROLES)}")
            if key.public in self.by_public:
                raise KeyFileError(f"{where}.public: the same key is there twice")
            if key.name in names:
                raise KeyFileError(f"{where}.name: is there twice")
            other = self.by_session.get(key.session)
            if other is not None and (other.role, other.account) != (key.role, key.account):
                raise KeyFileError(
                    f"{where}.session: {key.session} belongs to {other.name} with another role or account"
                )
            if key.role in ("trader", "risk") and key.account == NO_ACCOUNT:
                raise KeyFileError(f"{where}.account: a {key.role} needs one")
            names.add(key.name)
            self.by_public[key.public] = key
            self.by_session.setdefault(key.session, key)

    def authorised(self, public: str, time_ns: int) -> Key | None:
        """The key, where it is known and valid now."""
        key = self.by_public.get(public)
        return key if key is not None and key.valid_at(time_ns) else None


def parse(text: str) -> dict[str, Any]:
    """The key file's tables, as ``tomllib`` reads them.

    A file that has the form of :func:`save` is read line by line: ``tomllib`` takes 0.7 s for 4,000 keys, at each start
    and each reload. Whatever is not plainly of that form is left to ``tomllib``, errors included.
    """
    tables: list[dict[str, Any]] = []
    for line in text.split("\n"):
        field = _FIELD.fullmatch(line)
        if field is not None and tables and field[1] not in tables[-1]:
            name, string, number, numbers = field.groups()
            tables[-1][name] = (
                string if string is not None else int(number) if number else [int(n) for n in numbers.split(", ") if n]
            )
        elif line == "[[key]]":
            tables.append({})
        elif line and not (line.startswith("#") and line.isprintable()):
            return tomllib.loads(text)
    return {"key": tables} if tables else {}


def load(folder: Path) -> KeyTable:
    """Reads keys.toml; KeyFileError names path and reason."""
    path = folder / KEY_FILE
    try:
        return KeyTable(msgspec.convert(parse(path.read_text("utf-8")), _File).key)
    except (OSError, msgspec.ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError, KeyFileError) as error:
        raise KeyFileError(f"{path}: {error}") from None


def create(folder: Path, wanted: Iterable[NewKey]) -> KeyTable:
    """Makes the server's key pair, one pair per wanted key, and keys.toml. Sessions are numbered from 1."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    public, secret = (k.decode() for k in zmq.curve_keypair())
    write_secret(folder / SERVER_KEY, Secret("server", public, secret, public))
    entries = [make(folder, new, session, public) for session, new in enumerate(wanted, 1)]
    table = KeyTable(entries)
    save(folder, table)
    return table


def make(folder: Path, new: NewKey, session: int, server_public: str) -> Key:
    """A new pair: the secret into its own file, the entry back."""
    public, secret = (k.decode() for k in zmq.curve_keypair())
    write_secret(folder / f"{new.name}.key", Secret(new.name, public, secret, server_public))
    return Key(new.name, public, session, new.role, new.account, tuple(new.accounts))


def save(folder: Path, table: KeyTable) -> None:
    """Replaces keys.toml as a whole."""
    lines = ["# Public keys, roles and sessions. Secrets are in the other files here.\n"]
    for key in table.keys:
        lines.append("\n[[key]]\n")
        fields: dict[str, Any] = msgspec.to_builtins(key)
        lines += [f"{k} = {json.dumps(v)}\n" for k, v in fields.items()]
    spare = folder / f"{KEY_FILE}.tmp"
    spare.write_text("".join(lines), "utf-8")
    os.replace(spare, folder / KEY_FILE)


def write_secret(path: Path, secret: Secret) -> None:
    """A secret file that only its owner can read."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(secret)))


def read_secret(path: Path) -> Secret:
    """A secret file; KeyFileError where it is missing, broken, or readable by others."""
    try:
        if path.is_dir():
            raise KeyFileError(f"{path}: is a folder, not a key file")
        if path.stat().st_mode & 0o077:
            raise KeyFileError(f"{path}: others can read it; chmod 600")
        return msgspec.json.decode(path.read_bytes(), type=Secret)
    except (OSError, msgspec.DecodeError) as error:
        raise KeyFileError(f"{path}: {error}") from None
