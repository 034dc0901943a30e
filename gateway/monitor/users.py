"""Who may look at the monitor, and whose key acts for whom: ``keys/monitor.toml``, readable by its owner only.

A person logs in by name and password (scrypt, salted). ``viewer`` sees everything; ``operator`` may act too, with the
person's own CURVE key, so that the journal says who it was (D30) and two persons are two keys (D28).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from gateway.config import to_toml

FILE: Final = "monitor.toml"
PASSWORD_MIN: Final = 10
# scrypt at 16 MiB: some 50 ms a login, which is nothing for a person and much for a guesser.
SCRYPT: Final = {"n": 1 << 14, "r": 8, "p": 1, "dklen": 32}
FAILURES_MAX: Final = 5  # of one name within FAILURES_S, then it must wait
FAILURES_S: Final = 60.0
IDLE_S: Final = 15 * 60.0  # without a click for so long: log in again
SESSIONS_MAX: Final = 200


class UserFileError(Exception):
    """The users' file cannot be used; the text names path and reason."""


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A person. ``key``: name of the operator key in the market's keys/, empty for viewers."""

    name: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9_.-]{0,39}\Z")]
    role: Literal["viewer", "operator"]
    salt: str
    digest: str
    key: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9_-]{0,40}\Z")] = ""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    users: list[User] = []


def digest_of(password: str, salt: str) -> str:
    """scrypt of a password, hex."""
    return hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), **SCRYPT).hex()  # type: ignore[arg-type]


def load(keys: Path) -> dict[str, User]:
    """The users by name; none where the file is missing. UserFileError on wrong content or a file others can read."""
    path = keys / FILE
    try:
        if path.stat().st_mode & 0o077:
            raise UserFileError(f"{path}: must be readable by its owner only (chmod 600)")
        found = msgspec.convert(tomllib.loads(path.read_text("utf-8")), _File)
    except FileNotFoundError:
        return {}
    except (msgspec.ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserFileError(f"{path}: {error}") from None
    return {user.name: user for user in found.users}


def save(keys: Path, name: str, password: str, role: str, key: str = "") -> User:
    """Adds or replaces a person. UserFileError where a field is wrong or the key is not there."""
    if len(password) < PASSWORD_MIN:
        raise UserFileError(f"password: at least {PASSWORD_MIN} characters")
    if role == "operator" and not (keys / f"{key}.key").is_file():
        raise UserFileError(f"key: there is no {key or 'key'} in {keys}")
    salt = secrets.token_hex(16)
    fields = {"name": name, "role": role, "salt": salt, "digest": digest_of(password, salt), "key": key}
    try:
        user = msgspec.convert(fields, User)
    except msgspec.ValidationError as error:
        raise UserFileError(str(error)) from None
    users = {**load(keys), name: user}
    spare = keys / f"{FILE}.tmp"
    with os.fdopen(os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(to_toml({"users": [msgspec.to_builtins(u) for u in users.values()]}))
    os.replace(spare, keys / FILE)
    return user


class Sessions:
    """Who is logged in, by the browser's signed id. ``clock``: monotonic seconds; ``idle_s``: see IDLE_S."""

    def __init__(self, keys: Path, clock: Callable[[], float] = time.monotonic, *, idle_s: float = IDLE_S) -> None:
        self.keys, self.clock, self.idle_s = keys, clock, idle_s
        self._open: dict[str, tuple[User, float]] = {}
        self._failures: dict[str, list[float]] = {}

    def login(self, browser: str, name: str, password: str) -> str:
        """Empty where it succeeded, else the reason: ``wrong`` or ``wait`` (too many failures)."""
        now = self.clock()
        recent = [t for t in self._failures.get(name, []) if now - t < FAILURES_S]
        if len(recent) >= FAILURES_MAX:
            return "wait"
        user = load(self.keys).get(name)
        # an unknown name takes as long as a wrong password
        made = digest_of(password, user.salt if user else "00" * 16)
        if user is None or not hmac.compare_digest(made, user.digest):
            if len(self._failures) > SESSIONS_MAX:
                self._failures.clear()
            self._failures[name] = [*recent, now]
            return "wrong"
        self._failures.pop(name, None)
        if len(self._open) >= SESSIONS_MAX:
            self._open.pop(min(self._open, key=lambda b: self._open[b][1]))
        self._open[browser] = (user, now)
        return ""

    def user(self, browser: str, *, touch: bool = False) -> User | None:
        """The person of a browser, None where nobody is (any more). ``touch``: a click, which keeps it alive."""
        found = self._open.get(browser)
        if found is None or self.clock() - found[1] > self.idle_s:
            self._open.pop(browser, None)
            return None
        if touch:
            self._open[browser] = (found[0], self.clock())
        return found[0]

    def logout(self, browser: str) -> None:
        """Forgets a browser."""
        self._open.pop(browser, None)
