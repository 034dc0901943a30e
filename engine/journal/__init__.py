"""The write-ahead journal of the exchange: groups, segments, snapshots, seals, recovery (docs/durability.md)."""

from .disk import Disk, File, RealDisk
from .errors import EXIT_JOURNAL_FAILED, EXIT_RECOVERY_REFUSED, JournalError, JournalFailed, RecoveryRefused
from .group import Group
from .journal import FreeSpace, Journal, Recovery
from .seal import Seal
from .segment import Identity

__all__ = [
    "EXIT_JOURNAL_FAILED",
    "EXIT_RECOVERY_REFUSED",
    "Disk",
    "File",
    "FreeSpace",
    "Group",
    "Identity",
    "Journal",
    "JournalError",
    "JournalFailed",
    "RealDisk",
    "Recovery",
    "RecoveryRefused",
    "Seal",
]
