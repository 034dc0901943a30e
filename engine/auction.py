"""One-way auction (R10). No auction command exists yet: the machine is empty, and says so to the exchange."""

from __future__ import annotations

from typing import Any

from engine.calendar import TradingCalendar
from engine.lane import Envelope, Notice, Refusal
from engine.market import Market


class Auctions:
    """See :class:`engine.lane.StateMachine`."""

    def __init__(self, market: Market, calendar: TradingCalendar | None) -> None:
        self.market = market
        self.calendar = calendar

    def handle(self, envelope: Envelope, message: Any) -> list[Notice] | Refusal:
        """There are no auction commands to handle."""
        raise AssertionError(f"no auction command is known, got {type(message).__name__}")

    def close_day(self, envelope: Envelope) -> list[Notice]:
        """Nothing is open."""
        return []

    def dump(self) -> bytes:
        """No state."""
        return b""

    def load(self, data: bytes) -> None:
        """No state."""
        assert data == b"", "an auction state of a newer version"

    def check(self) -> None:
        """Nothing to check."""

    def locks(self) -> tuple[dict[int, int], dict[tuple[int, int], int]]:
        """Nothing is locked."""
        return {}, {}
