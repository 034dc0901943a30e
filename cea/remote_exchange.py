"""The exchange as the registry's bridge needs it, over the operator plane (settlement.exchange_port)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine import messages
from gateway.client import Refusal, UnknownOutcome
from gateway.operator import OperatorClient
from settlement.clearing import Summary, summarise
from settlement.deals import Deals, from_market
from settlement.exchange_port import ALREADY_DONE, Answer, ExchangeBalance


class RemoteExchange:
    """The bridge's port over an operator client whose key has the role ``settlement``."""

    def __init__(self, client: OperatorClient) -> None:
        self.client = client

    def send(self, message: messages.Message) -> Answer | None:
        """Hands over a command; None where its outcome is unknown: the bridge asks again later."""
        try:
            self.client.execute(message)
        except Refusal as refused:
            if refused.code in ALREADY_DONE:
                return Answer(done=True, code=refused.code, text=str(refused), repeated=True)
            return Answer(done=False, code=refused.code, text=str(refused))
        except UnknownOutcome:
            return None
        return Answer(done=True)

    def codes(self) -> list[str]:
        """Instrument codes by index."""
        rows: list[Any] = self.client.link.query("instruments")
        return [row[1] for row in sorted(rows, key=lambda row: row[0])]

    def deals(self, date: int) -> Iterator[Deals]:
        """The open day's deals as one block."""
        table: np.ndarray = self.client.deals(date)
        yield from_market(date, table, self.codes())

    def summary(self, date: int) -> Summary:
        """Sums and hash of the exchange's deals (R12.3)."""
        return summarise(date, self.deals(date))

    def balances(self) -> Iterator[ExchangeBalance]:
        """Every account's balances at the exchange."""
        for row in self.client.balances():
            holdings = {
                code: (h["sellable"], h["bought_today"], h["locked"], h["in_transfer"])
                for code, h in row["holdings"].items()
            }
            yield ExchangeBalance(row["account"], row["available"], row["locked"], holdings)

    def fees(self) -> tuple[int, int]:
        """Trading and settlement fees that the exchange has ever charged, in fen."""
        found = self.client.status()["fees"]
        return int(found["trading"]), int(found["settlement"])
