"""What a number was measured on: every benchmark prints it beside its figures."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import llvmlite
import numba
import numpy as np

from gateway.awake import Awake

_awakes: list[Awake] = []


def keep_awake() -> None:
    """Processors without work do not halt from here to the process's end, where that is allowed (gateway.awake)."""
    if not _awakes:
        _awakes.append(Awake())


def awake() -> bool:
    """Whether this process keeps them from halting."""
    return any(one.held for one in _awakes)


def conditions() -> dict[str, str]:
    """Machine, load and versions, as text by name."""
    return {
        "cpu": _cpu(),
        "cores": str(os.cpu_count()),
        "load": " ".join(f"{x:.2f}" for x in os.getloadavg()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "numpy": np.__version__,
        "processors": "stay awake" if awake() else "halt without work",
        "compiler": compiler_version() or "none found",
    }


def compiler() -> str | None:
    """Path of a C compiler, None where there is none."""
    return shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")


def compiler_version() -> str | None:
    """First line of the compiler's own description."""
    path = compiler()
    if path is None:
        return None
    answer = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return answer.stdout.splitlines()[0] if answer.stdout else path


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def describe(found: dict[str, str]) -> str:
    """One line for a terminal."""
    return ", ".join(f"{name} {value}" for name, value in found.items())
