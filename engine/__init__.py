"""The market itself: rules, books, accounts, desk, auction, journal. Deterministic; see docs/architecture.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.calendar import TradingCalendar
    from engine.exchange import Depth, Exchange, Level, Output
    from engine.market import Capacity
    from engine.rules import Rules

_HOME = {
    "Capacity": "engine.market",
    "Depth": "engine.exchange",
    "Exchange": "engine.exchange",
    "Level": "engine.exchange",
    "Output": "engine.exchange",
    "Rules": "engine.rules",
    "TradingCalendar": "engine.calendar",
}

__all__ = ["Capacity", "Depth", "Exchange", "Level", "Output", "Rules", "TradingCalendar"]


def __getattr__(name: str) -> Any:
    """Loads the class on first use: numba takes a second to import, and not every part needs it."""
    if name not in _HOME:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)
