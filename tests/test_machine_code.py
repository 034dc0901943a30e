"""How machine code is made: parts and shared functions in an entry, and a cache that knows all its sources."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from engine import machine_code as mc

CONSTANTS = "FACTOR = {factor}\n"
STEPS = """
from engine.machine_code import part, shared
from small_kernel.constants import FACTOR

@part
def scaled(x):
    return FACTOR * x

@shared
def twice(x):
    return scaled(x) + scaled(x)
"""
MAIN = """
from numba import int64
from engine.machine_code import {entry}
from small_kernel.steps import scaled, twice

@{entry}{arguments}
def run(x):
    return twice(x) + scaled(x) if x > 1 else twice(x)
"""

Load = Callable[..., ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Writes a small package with an entry, imports it as a new process would, and gives its main module."""
    monkeypatch.syspath_prepend(tmp_path)

    def forget() -> None:
        for name in [name for name in sys.modules if name.startswith("small_kernel")]:
            del sys.modules[name]

    def imported(factor: int, entry: str = "entry", arguments: str = "(int64(int64))") -> ModuleType:
        folder = tmp_path / "small_kernel"
        folder.mkdir(exist_ok=True)
        texts = {"constants": CONSTANTS.format(factor=factor), "steps": STEPS}
        texts |= {"main": MAIN.format(entry=entry, arguments=arguments), "__init__": ""}
        for name, text in texts.items():
            if not (folder / f"{name}.py").exists() or (folder / f"{name}.py").read_text() != text:
                (folder / f"{name}.py").write_text(text)
        forget()
        importlib.invalidate_caches()
        return importlib.import_module("small_kernel.main")

    yield imported
    forget()


def hits(module: ModuleType) -> int:
    return sum(module.run.stats.cache_hits.values())


def test_an_entry_is_read_from_the_cache_as_long_as_nothing_changed(load: Load) -> None:
    first, second = load(3), load(3)
    assert first.run(5) == second.run(5) == 45 and first.run(1) == 6
    assert (hits(first), hits(second)) == (0, 1)


def test_an_entry_is_compiled_anew_when_a_module_behind_its_own_imports_changes(load: Load) -> None:
    assert load(3).run(5) == 45
    changed = load(40)
    assert changed.run(5) == 600 and hits(changed) == 0
    assert hits(load(40)) == 1


def test_planted_numbas_own_cache_does_not_notice_such_a_change(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mc, "_Cache", mc.FunctionCache)
    assert load(3).run(5) == 45
    assert load(40).run(5) == 45, "numba's cache has learned: ours can go"


def test_a_part_leaves_no_function_behind(load: Load) -> None:
    (code,) = load(3).run.inspect_llvm().values()
    defined = [line for line in code.splitlines() if line.startswith("define")]
    assert any("run" in line for line in defined) and not any("scaled" in line for line in defined)


def test_the_sources_of_the_kernel_are_its_modules_and_what_they_are_made_of() -> None:
    import engine.kernel  # noqa: F401

    found = {"/".join(path.parts[-2:]) for path in mc.sources_of("engine.kernel.batch")}
    assert {"kernel/batch.py", "kernel/locks.py", "engine/book.py", "engine/records.py", "engine/rows.py"} <= found
    assert not {"engine/bulk.py", "engine/exchange.py"} & found, "a change of the slow lane compiles the kernel anew"
