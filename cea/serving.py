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


def settle_command(folder: Path, *, as_json: bool) -> None:
    """Settles the open day after its close, and tells the exchange."""
    from cea.connecting import operator
    from cea.folder import open_registry
    from cea.remote_exchange import RemoteExchange
    from cea.replaying import load_market
    from cea.settling import publish
    from engine.prices import format_amount
    from settlement.bridge import Bridge
    from settlement.errors import Refused

    registry = open_registry(load_market(folder))
    try:
        with operator(folder, "settlement") as client:
            now = client.time()
            if not now["day_closed"]:
                fail(f"{now['date']} is not closed yet ({now['phase']})", Exit.NO)
            bridge = Bridge(
                registry, RemoteExchange(client), lambda: int(now["time_ns"]), publish=lambda p: publish(folder, p)
            )
            ended = bridge.end_of_day(now["date"], statements=folder / "reports" / "statements")
    finally:
        registry.close()
    if isinstance(ended, Refused):
        fail(f"{ended.code}: {ended.field}: {ended.reason}", Exit.NO)
    if as_json:
        print_json({"date": ended.day.date, "state": ended.day.state, "summary": ended.summary,
                    "held": ended.day.held, "differences": [str(d) for d in ended.differences]})  # fmt: skip
    else:
        s = ended.summary
        print(f"{s.date}: {ended.day.state}, {s.deals:,} deals, {s.quantity_t:,} t, {format_amount(s.amount_fen)} CNY")
        for line in [*(f"held: deal {h.deal_id}: {h.reason}" for h in ended.day.held), *map(str, ended.differences)]:
            print(line)
    if not ended.may_open_next:
        fail(f"{ended.day.date} is {ended.day.state}: an operator must decide before the next day opens", Exit.NO)
