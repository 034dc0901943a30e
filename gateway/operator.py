"""The operators' client: every operator command, the stepped clock, status, deals, balances, all events.

with OperatorClient("market", key="ops1") as ops:
    ops.execute(messages.Deposit(account=1, amount=100_000_00, document="bank-1"))
    ops.step_clock(time_ns)
    deals = ops.deals()
"""

from __future__ import annotations

import os
from collections import deque
from typing import Any

import numpy as np

from engine.market import ACCOUNT, DEAL, HOLDING
from gateway import keys as keyfile
from gateway import protocol as p
from gateway.client import Client, Report


class OperatorClient(Client):
    """A session on the operator plane. ``execute`` sends any command that the key's role allows (gateway.roles)."""

    def __init__(
        self,
        where: str | os.PathLike[str],
        *,
        key: str | keyfile.Secret = "ops1",
        timeout: float = 10.0,
        server_public: str = "",
    ) -> None:
        super().__init__(where, key=key, timeout=timeout, server_public=server_public, plane="operators")

    def __enter__(self) -> OperatorClient:
        return self

    def step_clock(self, time_ns: int) -> int:
        """Moves a stepped clock forward (D3); what falls due on the way is done first. Returns exchange time."""
        answer = self.link.ask(lambda number: p.StepClock(token=self.link.token, id=number, time_ns=time_ns))
        return int(answer.data)

    def confirm(self, proposal: int) -> None:
        """Confirms another operator's proposed command, which then enters the sequence."""
        self.link._send(p.encode(p.Confirm(token=self.link.token, proposal=proposal)))

    def status(self) -> dict[str, Any]:
        """The exchange at a glance: phase, sequence, instruments, composite, counters, alarms."""
        found: dict[str, Any] = self.link.query("status")
        return found

    def deals(self, date: int | None = None) -> np.ndarray:
        """The open day's deals of all methods: engine.market.DEAL records. ``date`` must be the open day's."""
        args = {} if date is None else {"date": date}
        return np.frombuffer(bytearray(b"".join(self.link.query_pages("deals", "deals", first=1, **args))), DEAL)

    def balances(self) -> list[dict[str, Any]]:
        """Cash and holdings of all accounts."""
        return [row for page in self.link.query_pages("all_balances", "balances") for row in page]

    def balance(self, account: int) -> dict[str, Any]:
        """Cash and holdings of one account."""
        found: dict[str, Any] = self.link.query("balances", account=account)[0]
        return found

    def state_hash(self) -> int:
        """The engine's 64-bit state hash."""
        return int(self.link.query("state_hash")["hash"])

    def seal_hash(self) -> str:
        """The engine's 32-byte state hash, hex."""
        return str(self.link.query("state_hash")["seal"])

    def book(self, code: str) -> dict[str, list[list[int]]]:
        """All levels of an instrument: bids and asks of [price, quantity, orders], best first."""
        found: dict[str, list[list[int]]] = self.link.query("book", code=code)
        return found

    def sessions(self) -> list[dict[str, Any]]:
        """Sessions that were used since the exchange's start."""
        found: list[dict[str, Any]] = self.link.query("sessions")
        return found

    def subscribe(self, first: int = 1, *, shared: bool = False) -> None:
        """Begins the stream of all events from number ``first`` on (1: the whole day); read with :meth:`events`.

        shared: for :meth:`event_pages`, through shared memory where that is possible (gateway.shared_stream). It needs
        one who looks several times a second.
        """
        self.link.subscribe(first, shared=shared)

    def event_pages(self) -> list[tuple[np.ndarray, bytes | memoryview]]:
        """As :meth:`events`, by pages of (EVENT[n], payloads of its notices): for who must keep up with the market.

        From the first call on the stream comes this way only. A page is to be read before the next call.
        """
        if self.link.stream_pages is None:
            self.link.stream_pages = deque()
        self.link.pump()
        self.link.take_shared()
        found = list(self.link.stream_pages)
        self.link.stream_pages.clear()
        return found

    def members(self, first: int = 0) -> dict[str, Any]:
        """A page of accounts from number ``first`` on: ``accounts`` ACCOUNT[n], ``holdings`` HOLDING[n, codes],
        ``numbers``, ``names``, ``codes``; ``next`` begins the next page, 0 at the end."""
        data: dict[str, Any] = self.link.query("members", first=first)
        data["accounts"] = np.frombuffer(data["accounts"], ACCOUNT)
        data["holdings"] = np.frombuffer(data["holdings"], HOLDING).reshape(len(data["numbers"]), len(data["codes"]))
        return data

    def events(self, timeout: float = 0.0) -> list[Report]:
        """Events of the stream that have arrived and were not read yet; waits up to ``timeout`` seconds for one."""
        self.link.pump()
        if not self._stream and timeout:
            self.link.wait(lambda: bool(self._stream), int(timeout * 1e9))
        found = list(self._stream)
        self._stream.clear()
        return found
