"""Preloads ``short_writes.c``: a kernel that writes in part, is interrupted, or ends with half a write done."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("short_writes.c")


def build(folder: Path) -> Path:
    """The library to preload; skips where no C compiler is here or preloading does nothing."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler is here")
    library = folder / "short_writes.so"
    made = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"the C compiler cannot build a library to preload: {made.stderr.decode()[:200]}")
    return library


def preloading(library: Path, mode: str) -> dict[str, str]:
    """The environment of a process whose writes are to be changed: mode as in ``short_writes.c``."""
    return {**os.environ, "LD_PRELOAD": str(library), "CEA_WRITES": mode}
