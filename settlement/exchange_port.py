"""The exchange as the registry sees it: a port, and its implementation over the engine in the same process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec
import numpy as np

from engine import messages
from engine.codes import Code
from engine.records import NOTICE
from settlement.clearing import Summary, summarise
from settlement.deals import Deals, from_market

DOCUMENT_MAX: Final = 64  # characters of a document number at the exchange (engine.message_types)
# Answers to a repeat: what was asked for happened at the first time.
ALREADY_DONE = frozenset({Code.DUPLICATE_DOCUMENT, Code.UNKNOWN_TRANSFER})


@dataclass(frozen=True, slots=True)
class Answer:
    """The exchange's answer to a message. ``repeated``: it had been done before."""

    done: bool
    code: int = 0
    text: str = ""
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class ExchangeBalance:
    """One account at the exchange; ``holdings``: code -> (sellable, bought today, locked, in transfer)."""

    account: int
    cash_available: int
    cash_locked: int
    holdings: dict[str, tuple[int, int, int, int]]


class ExchangePort(Protocol):
    """What the bridge needs of an exchange."""

    def send(self, message: messages.Message) -> Answer | None:
        """Hand over a command of engine/messages.py. None: no answer came, the outcome is unknown."""

    def deals(self, date: int) -> Iterable[Deals]:
        """The day's deals in blocks, in order of their ids."""

    def summary(self, date: int) -> Summary:
        """The exchange's own sums and hash of the day's deals (R12.3)."""

    def balances(self) -> Iterable[ExchangeBalance]:
        """Every account's balances at the exchange."""

    def fees(self) -> tuple[int, int]:
        """Trading and settlement fees in fen that the exchange has ever charged (R5.7), rounded as it rounds (D16)."""


class LocalExchange:
    """The port over an ``engine.exchange.Exchange`` (anything with ``market`` and ``execute``)."""

    def __init__(self, exchange: Any, block_deals: int = 50_000) -> None:
        self.exchange = exchange
        self.block_deals = block_deals

    def send(self, message: messages.Message) -> Answer | None:
        output = self.exchange.execute(message)
        return answer_of(output.events, output.payloads)

    def _codes(self) -> list[str]:
        codes: dict[str, int] = self.exchange.market.codes
        return sorted(codes, key=lambda code: codes[code])

    def deals(self, date: int) -> Iterator[Deals]:
        head = self.exchange.market.market[0]
        assert int(head["date"]) == date, "the exchange's open day is another one"
        count = int(head["deals"])
        for at in range(0, count, self.block_deals):
            table = self.exchange.market.deals[at : min(at + self.block_deals, count)]
            yield from_market(date, table, self._codes())

    def summary(self, date: int) -> Summary:
        return summarise(date, self.deals(date))

    def balances(self) -> Iterator[ExchangeBalance]:
        return market_balances(self.exchange.market, self._codes())

    def fees(self) -> tuple[int, int]:
        head = self.exchange.market.market[0]
        return int(head["trading_fees"]), int(head["settlement_fees"])


def answer_of(events: np.ndarray, payloads: bytes) -> Answer | None:
    """The answer to one slow-lane command in what the engine put out for it."""
    at = 0
    for event in events[events["kind"] == NOTICE]:
        size = int(event["quantity"])
        notice: dict[str, Any] = msgspec.msgpack.decode(payloads[at : at + size])
        at += size
        if notice["t"] == "done":
            return Answer(done=True)
        if notice["t"] == "refused":
            again = notice["code"] in ALREADY_DONE
            return Answer(again, notice["code"], f"{notice.get('field', '')}: {notice.get('text', '')}", again)
    return None


def market_balances(market: Any, codes: list[str]) -> Iterator[ExchangeBalance]:
    """The accounts of an engine's tables (``engine.market.Market``) that hold anything."""
    names = ("sellable", "bought_today", "locked", "in_transfer")
    index = [market.codes[code] for code in codes]
    buckets = np.stack([market.holdings[name][:, index] for name in names], axis=-1).astype(np.int64)
    cash = np.stack([market.accounts["available"], market.accounts["locked"]], axis=-1).astype(np.int64)
    for account in np.flatnonzero(buckets.any(axis=(1, 2)) | cash.any(axis=1)).tolist():
        held = {code: tuple(row) for code, row in zip(codes, buckets[account].tolist(), strict=True) if any(row)}
        available, locked = cash[account].tolist()
        yield ExchangeBalance(account, available, locked, held)  # type: ignore[arg-type]
