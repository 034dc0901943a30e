"""`cea serve` and `cea fund`."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cea.output import Exit, fail, print_json

if TYPE_CHECKING:
    from gateway.config import Endpoints


def serve_command(folder: Path, clock: str, *, verbose: bool) -> None:
    """Runs the exchange process; every way it can end has its exit code and one line."""
    began = time.monotonic()
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    log = logging.getLogger("cea.serve")
    log.info("loading the engine (a cold numba cache compiles it first, about a minute)")
    from engine.journal import JournalError, JournalFailed, RecoveryRefused
    from gateway.config import ConfigError
    from gateway.keys import KeyFileError
    from gateway.server import StartError, serve

    def ready(endpoints: Endpoints) -> None:
        log.info(
            "ready after %.2f s: members %s, metrics %s", time.monotonic() - began, endpoints.members, endpoints.metrics
        )

    try:
        serve(folder, clock=clock, ready_callback=ready)
    except RecoveryRefused as error:
        fail(str(error), Exit.RECOVERY_REFUSED)
    except JournalFailed as error:
        fail(error.text, Exit.JOURNAL_FAILED)
    except (ConfigError, KeyFileError, StartError, JournalError, ValueError) as error:
        fail(str(error), Exit.CONFIG)
    log.info("stopped")


def fund_command(folder: Path, *, as_json: bool) -> None:
    """Deposits cash and moves allowances from the registry into trading, as funding.json says."""
    from cea.connecting import operator
    from cea.folder import load_funding, open_registry
    from cea.funding import fund
    from cea.replaying import load_market

    market = load_market(folder)
    endowments = load_funding(market)
    registry = open_registry(market)
    try:
        with operator(folder, "settlement") as client:
            moved = fund(registry, client, endowments, client.time()["time_ns"])
    finally:
        registry.close()
    if as_json:
        print_json({"accounts": len(endowments), "moved": moved})
    else:
        print(f"{len(endowments)} accounts: {moved} deposits and transfers are in the registry and at the exchange")
