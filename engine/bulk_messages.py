"""Commands and notices of the bulk-agreement desk (R9). See engine/bulk.py for what they do."""

from __future__ import annotations

from typing import Any

BULK_COMMANDS: tuple[Any, ...] = ()
