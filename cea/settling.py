"""Publishing how far a settlement is (settlement.progress), by whichever process settles."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from settlement.progress import Progress


def publish(folder: Path, progress: Progress, *, service: bool = False) -> None:
    """Writes the market folder's file, with the machine's time and this process."""
    from msgspec.structs import replace

    from settlement.progress import write

    write(folder, replace(progress, time_ns=time.time_ns(), pid=os.getpid(), service=service))
