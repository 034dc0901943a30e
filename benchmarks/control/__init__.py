"""The C controls: our own sources, built at run time where a C compiler is present."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.conditions import compiler

FLAGS: Final = ("-O3", "-march=native", "-shared", "-fPIC")
HERE: Final = Path(__file__).parent


class NoControl(RuntimeError):
    """There is no control in this run; the text says why."""


def load(name: str) -> ctypes.CDLL:
    """Compile ``control/<name>.c`` into a temporary folder and load it. Raises NoControl."""
    path = compiler()
    if path is None:
        raise NoControl("no C compiler (gcc, cc or clang) on the path")
    with tempfile.TemporaryDirectory(prefix="cea-control-") as folder:
        library = Path(folder) / f"{name}.so"
        command = [path, *FLAGS, "-o", str(library), str(HERE / f"{name}.c")]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            raise NoControl(f"{path} could not build {name}.c: {answer.stderr.strip()[:300]}")
        return ctypes.CDLL(str(library))  # stays mapped when the folder goes
