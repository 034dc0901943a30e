"""What passes between the exchange and its slow-lane state machines (desk, auction, administration)."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from engine.codes import TEXT_EN, Code
from engine.records import NO_ACCOUNT


class Envelope(NamedTuple):
    """The fixed record that a slow-lane command came in: who, when, in which place of the sequence."""

    seq: int
    time_ns: int
    session: int  # 0: the exchange itself
    account: int  # NO_ACCOUNT: an operator or the exchange itself
    request_no: int


class Notice(NamedTuple):
    """One NOTICE event to be: a message for a session, for all sessions of an account, or for everybody.

    session > 0: that session only. session 0 and an account: every session of the account. NO_ACCOUNT: the
    market (operators always, members where ``public``).
    """

    message: Any  # a msgspec Struct
    account: int = NO_ACCOUNT
    session: int = 0
    reason: int = 0  # a Code where the notice refuses something
    public: bool = False
    instrument: int = 0xFFFF


class Refusal(NamedTuple):
    """A slow-lane command is refused: nothing has changed. The sender gets code, field and text."""

    code: Code
    field: str = ""
    text: str = ""


def refuse(code: Code, field: str = "", detail: str = "") -> Refusal:
    """A refusal with the code's text and what is special about this case."""
    return Refusal(code, field, f"{TEXT_EN[code]}: {detail}" if detail else TEXT_EN[code])


class StateMachine(Protocol):
    """What the exchange asks of desk and auctions. No clock, no I/O; all time is in the envelope."""

    def handle(self, envelope: Envelope, message: Any) -> list[Notice] | Refusal:
        """Carries out a command or refuses it."""

    def close_day(self, envelope: Envelope) -> list[Notice]:
        """Ends whatever does not outlive the day, and releases its locks."""

    def dump(self) -> bytes:
        """The whole state, deterministic MessagePack: equal states give equal bytes."""

    def load(self, data: bytes) -> None:
        """Puts a dumped state back."""

    def check(self) -> None:
        """Asserts the machine's invariants, its locks against the market's tables included."""

    def locks(self) -> tuple[dict[int, int], dict[tuple[int, int], int]]:
        """Cash locked by account, and allowances locked by (account, instrument): what this machine owns."""
