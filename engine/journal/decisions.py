"""The recovery decision table: what may be found on the disk at start-up, and what is done about it.

Everything about these decisions lives here; ``recovery`` finds, this table decides, ``journal`` acts.

The theory in three sentences. A crash can only leave the journal's own unfinished work behind: a last commit
that was written in part, and temporary files; both are put aside without asking. Whatever else is not in order
was durable once, so a disk, a person or another program has changed it, and no program may guess: start-up
refuses, changes nothing and names the command for the operator. "Was durable" is never assumed but proved: by
the ``synced_seq`` of a sound group behind the damage, by a later segment, or by a verified snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Finding(Enum):
    """What ``recovery.survey`` may observe."""

    EMPTY_FOLDER = "empty_folder"
    CLEAN_END = "clean_end"
    TORN_TAIL = "torn_tail"
    LEFTOVER = "leftover"
    SNAPSHOT_DAMAGED = "snapshot_damaged"
    SNAPSHOT_OF_OTHER_ENGINE = "snapshot_of_other_engine"
    DAMAGE_BEFORE_SOUND_GROUP = "damage_before_sound_group"
    DAMAGE_IN_CLOSED_SEGMENT = "damage_in_closed_segment"
    UNCHAINED_GROUP = "unchained_group"
    MISFIT_GROUP = "misfit_group"
    SNAPSHOT_AHEAD = "snapshot_ahead"
    SNAPSHOT_UNCHAINED = "snapshot_unchained"
    SNAPSHOT_WITHOUT_JOURNAL = "snapshot_without_journal"
    SEGMENT_NOT_OURS = "segment_not_ours"
    SEGMENT_HEADER_DAMAGED = "segment_header_damaged"
    SEGMENT_SHORT = "segment_short"
    SEGMENT_MISSING = "segment_missing"
    SEGMENT_STALE = "segment_stale"
    OLDER_FORMAT = "older_format"
    NEWER_FORMAT = "newer_format"
    OTHER_ENGINE = "other_engine"
    OTHER_RULES = "other_rules"
    OTHER_JOURNAL = "other_journal"


class Action(Enum):
    """What is done: the first three let the exchange start."""

    ACCEPT = "accept"
    ALARM = "accept, and raise an alarm"
    CUT = "cut the tail, count it, raise an alarm"
    REFUSE = "refuse to start"


@dataclass(frozen=True, slots=True)
class Decision:
    """``why`` is the reason in words; ``command`` what the operator runs after a refusal ({folder}, {seq})."""

    action: Action
    why: str
    command: str = ""


_SHOW: Final = "cea journal show {folder}"
_CUT: Final = "cea journal cut {folder} NEW_FOLDER --until {seq}"
_RESTORE: Final = "cea journal ls {folder}, then copy the missing files back from the standby or the archive"
_MIGRATE: Final = "cea journal migrate {folder} NEW_FOLDER"

DECISIONS: Final[dict[Finding, Decision]] = {
    Finding.EMPTY_FOLDER: Decision(Action.ACCEPT, "nothing was ever journaled here: a new journal begins"),
    Finding.CLEAN_END: Decision(Action.ACCEPT, "after the last group there is only untouched room"),
    Finding.TORN_TAIL: Decision(
        Action.CUT, "the last commit is incomplete and nothing shows that it was ever acknowledged (D6)"
    ),
    Finding.LEFTOVER: Decision(Action.ACCEPT, "a temporary file of an interrupted write; it is removed"),
    Finding.SNAPSHOT_DAMAGED: Decision(
        Action.ALARM, "a snapshot only shortens recovery: an older one, or the whole journal, gives the same state"
    ),
    Finding.SNAPSHOT_OF_OTHER_ENGINE: Decision(
        Action.ALARM, "this engine can't read that snapshot: an older one, or the whole journal, gives the same state"
    ),
    Finding.DAMAGE_BEFORE_SOUND_GROUP: Decision(
        Action.REFUSE, "a damaged group was acknowledged: a later group was written after it was on the disk", _CUT
    ),
    Finding.DAMAGE_IN_CLOSED_SEGMENT: Decision(
        Action.REFUSE, "a segment that was complete when the next one began no longer is", _CUT
    ),
    Finding.UNCHAINED_GROUP: Decision(
        Action.REFUSE, "a sound group does not follow the one before it: bytes were moved, repeated or mixed", _CUT
    ),
    Finding.MISFIT_GROUP: Decision(
        Action.REFUSE, "a group's checksum is right and its fields contradict each other: a program wrote this", _SHOW
    ),
    Finding.SNAPSHOT_AHEAD: Decision(
        Action.REFUSE,
        "a verified snapshot is later than the journal's end: acknowledged commands are missing",
        _RESTORE,
    ),
    Finding.SNAPSHOT_UNCHAINED: Decision(
        Action.REFUSE, "a verified snapshot belongs to another history than this journal", _RESTORE
    ),
    Finding.SNAPSHOT_WITHOUT_JOURNAL: Decision(
        Action.REFUSE, "there are snapshots and no segment: the journal is missing", _RESTORE
    ),
    Finding.SEGMENT_NOT_OURS: Decision(Action.REFUSE, "a file with a segment's name is not a segment", _RESTORE),
    Finding.SEGMENT_HEADER_DAMAGED: Decision(
        Action.REFUSE, "a segment's header does not verify; it was on the disk before its first group", _RESTORE
    ),
    Finding.SEGMENT_SHORT: Decision(
        Action.REFUSE, "a segment is shorter than it was made: something cut the file", _CUT
    ),
    Finding.SEGMENT_MISSING: Decision(
        Action.REFUSE, "segments are missing, and no snapshot covers what they held", _RESTORE
    ),
    Finding.SEGMENT_STALE: Decision(
        Action.REFUSE, "a segment does not continue the one before it: an older copy, or another history", _RESTORE
    ),
    Finding.OLDER_FORMAT: Decision(Action.REFUSE, "the journal has an older format", _MIGRATE),
    Finding.NEWER_FORMAT: Decision(
        Action.REFUSE,
        "a newer version of the exchange wrote this journal",
        "that version (pip install cea-exchange==...)",
    ),
    Finding.OTHER_ENGINE: Decision(Action.REFUSE, "the journal was written for another engine ABI", _MIGRATE),
    Finding.OTHER_RULES: Decision(Action.REFUSE, "the journal was written under other rules", _MIGRATE),
    Finding.OTHER_JOURNAL: Decision(Action.REFUSE, "files of two different journals lie in one folder", _RESTORE),
}

assert set(DECISIONS) == set(Finding), "every finding has exactly one decision"
