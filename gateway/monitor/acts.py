"""What people did on the page, a line each in ``reports/acts.jsonl``: who, with which key, what, why, what came of it.

Commands stand in the journal with name and reason as well. This file also has what is no command: settlement that was
started, alerts that were seen, acts that were refused.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from pathlib import Path
from typing import Any, Final

import msgspec

FILE: Final = Path("reports") / "acts.jsonl"
SHOWN: Final = 50  # on the page; the file keeps all


class Acts:
    """The file of one market; for several threads."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._alone = threading.Lock()
        self.last: deque[dict[str, Any]] = deque(maxlen=SHOWN)
        try:
            before = self.path.read_bytes()
        except FileNotFoundError:
            before = b""
        self._torn = before[-1:] not in (b"", b"\n")
        for line in before.splitlines()[-SHOWN:]:
            try:
                self.last.appendleft(msgspec.json.decode(line, type=dict[str, Any]))
            except msgspec.DecodeError:
                continue  # a line that a power cut has torn

    def note(self, **what: Any) -> None:
        """Appends a line and has it on the disk when it returns."""
        line = msgspec.json.encode(what) + b"\n"
        with self._alone:
            if self._torn:
                line, self._torn = b"\n" + line, False
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(fd, line)
                os.fsync(fd)
            finally:
                os.close(fd)
            self.last.appendleft(what)
