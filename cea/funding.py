"""Cash and allowances from the registry into trading accounts: deposits and transfers in (R13.2, D23, D24)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cea.folder import Endowment, accepted

if TYPE_CHECKING:
    from gateway.operator import OperatorClient
    from settlement.registry import Registry


def fund(registry: Registry, client: OperatorClient, endowments: Iterable[Endowment], time_ns: int) -> int:
    """Moves everything in; returns how many acts. Each has a document number, so a repeat does nothing."""
    from cea.remote_exchange import RemoteExchange
    from settlement.bridge import Bridge

    bridge = Bridge(registry, RemoteExchange(client), lambda: time_ns)
    bridge.resume()
    acts = 0
    for e in endowments:
        if e.cash:
            accepted(bridge.deposit(e.account, e.cash, f"bank-{e.account}"), f"deposit of account {e.account}")
            acts += 1
        for code, quantity in e.allowances.items():
            document = f"in-{e.account}-{code}"
            accepted(bridge.move_in(e.account, code, quantity, document), document)
            acts += 1
    assert bridge.resume() == 0, "the exchange has not answered everything"
    return acts
