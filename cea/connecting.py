"""Sessions for the command line: whose key, and what to say when nobody answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cea.output import Exit, fail

if TYPE_CHECKING:
    from gateway.client import Client
    from gateway.operator import OperatorClient

WAIT_S = 10.0


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
def operator(folder: Path, name: str = "ops1") -> Iterator[OperatorClient]:
    """An operator's session; gateway errors end the command with their reason."""
    from gateway.operator import OperatorClient

    name = chosen_key(folder, name)
    with explained(folder), OperatorClient(folder, key=name, timeout=WAIT_S) as client:
        yield client


@contextmanager
def explained(folder: Path | None) -> Iterator[None]:
    """Turns what a client raises into one line and an exit code. ``folder`` None: an exchange at an address."""
    from gateway.client import GatewayError, NoAnswer, UnknownOutcome
    from gateway.config import read_endpoints
    from gateway.keys import KeyFileError

    if folder is not None and read_endpoints(folder) is None:
        fail(f"no exchange runs on {folder}; start it with `cea serve {folder}`", Exit.UNREACHABLE)
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
