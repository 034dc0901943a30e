"""How the journal says no: operating errors as values with a stable code, and the one error that ends the process.

Three kinds, told apart by what has to happen next:

- ``JournalError``: the call was refused, nothing changed (a group too large, the journal is in use).
- ``RecoveryRefused``: start-up found something that it must not decide alone; the text names the command to run.
- ``JournalFailed``: the disk reported an error. What is on it is unknown from then on, so the process ends
  with exit code 74 and recovers at its next start. Nothing is retried: a second fsync may report success for
  pages that the kernel has thrown away.
"""

from __future__ import annotations

from typing import Final

# sysexits.h EX_IOERR: "an error occurred while doing I/O on some file".
EXIT_JOURNAL_FAILED: Final = 74
# sysexits.h EX_DATAERR: the data was wrong; a supervisor must not simply restart on it.
EXIT_RECOVERY_REFUSED: Final = 65


class JournalError(Exception):
    """A refused call: ``code`` is stable, ``text`` names the field and the reason."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class RecoveryRefused(JournalError):
    """Start-up refuses. ``command`` is what the operator runs next; nothing on disk was changed."""

    def __init__(self, code: str, text: str, command: str) -> None:
        super().__init__(code, f"{text}. Run: {command}")
        self.command = command


class JournalFailed(SystemExit):
    """An I/O error on the journal: the process ends with exit code 74.

    A ``SystemExit``, so that no ``except Exception`` on the way up can turn it into "log and continue".
    ``text`` says which operation failed; the caller that owns the process logs it on its way out.
    """

    def __init__(self, text: str) -> None:
        super().__init__(EXIT_JOURNAL_FAILED)
        self.text = text

    def __str__(self) -> str:
        return self.text
