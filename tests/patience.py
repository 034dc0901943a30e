"""Clients that wait long: importing this makes it so for every client that names no time of its own.

What is waited for comes within milliseconds. A machine that stands still for seconds, or that compiles meanwhile, is no
failure of what is tested: a long wait costs nothing while the tests are green.
"""

from __future__ import annotations

from conftest import PATIENCE_S

from gateway.client import Client
from gateway.connection import Connection
from gateway.market_data import MarketDataClient
from gateway.operator import OperatorClient

for _client in (Connection, Client, OperatorClient, MarketDataClient):
    assert _client.__init__.__kwdefaults__ and "timeout" in _client.__init__.__kwdefaults__
    _client.__init__.__kwdefaults__["timeout"] = PATIENCE_S
Client.wait_for.__defaults__ = (PATIENCE_S,)
PATIENCE_MS = int(PATIENCE_S * 1_000)
