"""Sessions for the command line: whose key, and what to say when nobody answers."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cea.options import LISTENS_S
from cea.output import Exit, fail

if TYPE_CHECKING:
    from gateway.client import Client
    from gateway.operator import OperatorClient

WAIT_S = 10.0  # for an answer: the machine may be busy
KNOCK_S = 0.1


def key_file(folder: Path, name: str) -> str:
    """The path of a key's secret file (a bare name could also be a file of the working folder)."""
    return str(folder / "keys" / f"{name}.key")


def chosen_key(folder: Path, who: str) -> str:
    """A key's file from what a person types: an account number, a name, a path, or nothing (the first member's)."""
    keys = folder / "keys"
    if not keys.is_dir():
        fail(f"{folder}: no market here; `cea init {folder}` makes one, or name it with -m", Exit.CONFIG)
    if who.isdigit():
        who = f"member-{who}"
    if not who:
        numbers = sorted(int(p.stem[7:]) for p in keys.glob("member-*.key") if p.stem[7:].isdigit())
        if not numbers:
            fail(f"{keys}: no member's key here; say whose with --as", Exit.CONFIG)
        who = f"member-{numbers[0]}"
    for path in (Path(key_file(folder, who)), Path(who)):
        if path.is_file():
            return str(path)
    fail(f"{keys}: there is no key {who}", Exit.CONFIG)


@contextmanager
def member(folder: Path, who: str) -> Iterator[Client]:
    """A member's session; gateway errors end the command with their reason."""
    from gateway.client import Client

    name = chosen_key(folder, who)
    with explained(folder), Client(folder, key=name, timeout=WAIT_S) as client:
        yield client


@contextmanager
def operator(folder: Path, name: str = "ops1", *, listens_s: float = LISTENS_S) -> Iterator[OperatorClient]:
    """An operator's session; gateway errors end the command with their reason."""
    from gateway.operator import OperatorClient

    name = chosen_key(folder, name)
    with explained(folder, listens_s), OperatorClient(folder, key=name, timeout=WAIT_S) as client:
        yield client


@contextmanager
def explained(folder: Path | None, listens_s: float = LISTENS_S) -> Iterator[None]:
    """Turns what a client raises into one line and an exit code. ``folder`` None: an exchange at an address."""
    from gateway.client import GatewayError, NoAnswer, UnknownOutcome
    from gateway.config import read_endpoints
    from gateway.keys import KeyFileError

    if folder is not None:
        endpoints = read_endpoints(folder)
        if endpoints is None:
            fail(f"no exchange runs on {folder}; start it with `cea serve {folder}`", Exit.UNREACHABLE)
        if why := nobody_listens(endpoints.members, listens_s):
            fail(f"{why}: the exchange is down; start it with `cea serve {folder}`", Exit.UNREACHABLE)
    try:
        yield
    except NoAnswer as error:
        start = f"; start it with `cea serve {folder}`" if folder is not None and not error.listens else ""
        fail(f"{error}{start}", Exit.UNREACHABLE)
    except UnknownOutcome as error:
        fail(f"{error}; look with `cea orders`", Exit.UNREACHABLE)
    except KeyFileError as error:
        fail(str(error), Exit.CONFIG)
    except GatewayError as error:
        number = f" (code {error.code})" if error.code else ""
        fail(f"{error}{number}", Exit.NO)


def nobody_listens(address: str, seconds: float) -> str:
    """Why nobody can be reached at ``tcp://host:port``, tried for so long; "" as soon as somebody listens.

    What a client waits for, a login, may take its time on a busy machine; that a port is open shows at once.
    """
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    ends = time.monotonic() + seconds
    while True:
        left = ends - time.monotonic()
        try:
            socket.create_connection((host, int(port)), max(left, KNOCK_S)).close()
            return ""
        except OSError as error:
            if left <= 0:
                return f"nobody listens at {address} ({error})"
        time.sleep(KNOCK_S)
