"""`cea monitor`: the operators' page, its people, and what it can start (settlement, bulletin)."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from cea.connecting import chosen_key
from cea.output import Exit, fail
from gateway.giving_way import give_way

PORT = 8060


def add_user(folder: Path, name: str, role: str, key: str) -> None:
    """Adds or replaces a person of the monitor; the password comes from the terminal, or as a line of stdin."""
    import getpass

    from gateway.monitor import users

    password = getpass.getpass(f"Password for {name}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    try:
        user = users.save(folder / "keys", name, password, role, key)
    except users.UserFileError as error:
        fail(str(error), Exit.CONFIG)
    acts = f", acts with key {user.key}" if user.key else ""
    print(f"{user.name}: {user.role}{acts}, in {folder / 'keys' / users.FILE}")


def monitor_command(folder: Path, host: str, port: int, key: str, *, idle_s: float) -> None:
    """Serves the page until Ctrl-C."""
    from cea.replaying import load_market
    from cea.surveying import surveillance_of, thresholds_of
    from gateway.monitor import app, users

    path = chosen_key(folder, key)
    try:
        if not users.load(folder / "keys"):
            fail(f"nobody may log in yet: cea monitor {folder} --add NAME --role operator --key ops1", Exit.CONFIG)
    except users.UserFileError as error:
        fail(str(error), Exit.CONFIG)
    market, thresholds = load_market(folder), thresholds_of(folder)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    give_way()
    actions = {"settle": lambda who, why: settle(folder), "bulletin": lambda who, why: publish(folder, who, why)}
    app.run(
        folder,
        path,
        host=host,
        port=port,
        make_watch=lambda: surveillance_of(market, thresholds, live=True),
        actions=actions,
        idle_s=idle_s,
    )


def settle(folder: Path) -> str:
    """Runs `cea settle` as the registry's side; what it says."""
    return _run("settle", "-m", str(folder))


def publish(folder: Path, key: str, why: str) -> str:
    """Publishes the last closed day's bulletin as a notice to all members, with the person's key."""
    from cea.bulletins import bulletins_of
    from engine.bulletin import sentences_zh
    from engine.messages import PublishNotice
    from gateway.client import GatewayError
    from gateway.operator import OperatorClient

    found = bulletins_of(folder)
    if not found:
        return "no day is closed yet"
    try:
        with OperatorClient(folder, key=str(folder / "keys" / f"{key}.key")) as ops:
            ops.execute(PublishNotice(text="\n".join(sentences_zh(found[-1])), why=why))
    except GatewayError as error:
        return str(error)
    return f"{found[-1].date}, version {found[-1].version}"


def _run(*words: str) -> str:
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "cea.main", *words], capture_output=True, text=True, check=False, timeout=600
    )
    return (done.stdout + done.stderr).strip()[-2_000:] or f"exit code {done.returncode}"
