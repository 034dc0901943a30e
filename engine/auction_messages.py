"""Commands and notices of the one-way auction (R10). See engine/auction.py for what they do."""

from __future__ import annotations

from typing import Any

AUCTION_COMMANDS: tuple[Any, ...] = ()
