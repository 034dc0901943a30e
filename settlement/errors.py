"""What the registry says when it refuses: a value with a stable code, never an exception.

Codes are part of the registry's interface (docs/settlement.md): never reuse one for another meaning. An
operating error (a balance too small, a document used twice) is a ``Refused``; a programmer's error asserts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

T = TypeVar("T")

BAD_FIELD: Final = "bad_field"
UNKNOWN_ACCOUNT: Final = "unknown_account"
UNKNOWN_ASSET: Final = "unknown_asset"
UNKNOWN_DEAL: Final = "unknown_deal"
UNKNOWN_REQUEST: Final = "unknown_request"
UNKNOWN_DOCUMENT: Final = "unknown_document"
ALREADY_EXISTS: Final = "already_exists"
DOCUMENT_USED: Final = "document_used"
INSUFFICIENT: Final = "insufficient"
ACCOUNT_CLOSED: Final = "account_closed"
FINAL_ACCOUNT: Final = "final_account"
OUTSIDE_HOURS: Final = "outside_hours"
NOT_USABLE: Final = "not_usable"
TOO_MUCH: Final = "too_much"
WRONG_STATE: Final = "wrong_state"
ALREADY_RESOLVED: Final = "already_resolved"
MISMATCH: Final = "mismatch"
TWO_PERSONS: Final = "two_persons"
SCHEMA: Final = "schema"


@dataclass(frozen=True, slots=True)
class Refused:
    """An operating error: ``code`` for programs, ``field`` and ``reason`` for people."""

    code: str
    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.code}: {self.field}: {self.reason}"


def accepted(result: T | Refused) -> T:
    """``result`` where the caller knows that it can't be refused; a refusal is then a programmer's error."""
    assert not isinstance(result, Refused), str(result)
    return result
