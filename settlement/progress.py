"""How far a settlement is, for whoever watches: a small file that is replaced whole (`run/settlement.json`).

The settling process writes it; the operators' page, `cea status` and people read it. It is a picture and no
record: what counts stands in the database (``settlement_day``), and the file may be deleted at any time.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

FILE: Final = Path("run") / "settlement.json"  # inside the market folder
# A day with many differences or held pairs is looked at in the registry, not in this file.
LISTED_MAX: Final = 50


class Step(StrEnum):
    """What the settling process does."""

    WAITING = "waiting"  # for the close, or for the next morning
    RECEIVE = "receive"
    CLEAR = "clear"
    CONFIRM = "confirm"
    DELIVER = "deliver"
    RECONCILE = "reconcile"
    STATEMENTS = "statements"
    TELL = "tell"
    DONE = "done"  # the day is settled and the exchange knows
    CHECK_OPEN = "check_open"
    MAY_OPEN = "may_open"  # the morning's check found every balance equal
    STOPPED = "stopped"  # an operator has to decide; ``text`` says on what
    UNREACHABLE = "unreachable"  # exchange or database does not answer; it is tried again


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the settlement of a date (YYYYMMDD; 0: none yet).

    ``deals`` of the day, ``posted`` of them so far (held ones count: they were tried), ``held`` that wait for an
    operator; ``state`` as in settlement.states.DayState; ``differences`` and ``holding`` as texts, at most
    LISTED_MAX each; ``text`` a sentence for people. ``time_ns``: ns UTC of this look; ``pid`` of the writer;
    ``service``: a standing process that goes on by itself writes this.
    """

    date: int = 0
    step: Step = Step.WAITING
    state: str = ""
    deals: int = 0
    posted: int = 0
    held: int = 0
    amount_fen: int = 0
    differences: tuple[str, ...] = ()
    holding: tuple[str, ...] = ()
    text: str = ""
    time_ns: int = 0
    pid: int = 0
    service: bool = False

    @property
    def share(self) -> float:
        """Part of the deals that were posted, 0 … 1, for a bar."""
        if not self.deals:
            return 1.0 if self.step in (Step.DONE, Step.MAY_OPEN) else 0.0
        return min(1.0, self.posted / self.deals)


def write(folder: Path, progress: Progress) -> None:
    """Replace the market folder's file."""
    target = folder / FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(f".{os.getpid()}.tmp")
    draft.write_bytes(msgspec.json.encode(progress))
    draft.replace(target)


def read(folder: Path) -> Progress | None:
    """The market folder's file; None where there is none or it is of another version."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Progress)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
