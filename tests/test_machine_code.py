"""How machine code is made: parts and shared functions in an entry, and a cache that knows all its sources."""

from __future__ import annotations

import fcntl
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numba
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
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")  # where it stands by itself: beside the source
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)

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


LATER = pytest.mark.parametrize(("entry", "arguments"), [("kernel", ""), ("native", "()")])


@LATER
def test_what_is_compiled_at_its_first_call_is_compiled_anew_too(load: Load, entry: str, arguments: str) -> None:
    assert load(3, entry, arguments).run(5) == 45
    assert load(40, entry, arguments).run(5) == 600
    same = load(40, entry, arguments)
    assert same.run(5) == 600 and hits(same) == 1


@LATER
def test_planted_with_numbas_own_cache_it_is_not(
    load: Load, monkeypatch: pytest.MonkeyPatch, entry: str, arguments: str
) -> None:
    monkeypatch.setattr(mc, "_Cache", mc.FunctionCache)
    assert load(3, entry, arguments).run(5) == 45
    assert load(40, entry, arguments).run(5) == 45, "numba's cache has learned: ours can go"


def test_planted_numbas_own_cache_does_not_notice_such_a_change(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    class Numbas(mc.FunctionCache):
        def leave(self) -> None:
            """It never had a turn."""

    monkeypatch.setattr(mc, "_EntryCache", Numbas)
    assert load(3).run(5) == 45
    assert load(40).run(5) == 45, "numba's cache has learned: ours can go"


def test_what_was_killed_between_index_and_code_is_compiled_anew(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(3).run(5) == 45
    with monkeypatch.context() as killed:
        killed.setattr(mc.IndexDataCacheFile, "_save_data", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            load(40)
    assert load(40).run(5) == 600


def test_what_older_sources_gave_is_removed_and_another_pythons_code_is_not(load: Load, tmp_path: Path) -> None:
    cache, other = tmp_path / "small_kernel" / "__pycache__", "main.run-6.py300.nbi"
    cache.mkdir(parents=True)
    (cache / other).touch()
    kept = []
    for factor in (3, 40):
        load(factor)
        kept.append({file.name for file in cache.glob("main.run-*")})
    assert len(kept[0]) == len(kept[1]) == 3 and kept[0] & kept[1] == {other}


@pytest.mark.parametrize("other_compiles", [True, False])
def test_who_waited_while_another_compiled_reads_what_it_wrote(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_compiles: bool
) -> None:
    load(3)
    cache, kept, waited = tmp_path / "small_kernel" / "__pycache__", tmp_path / "kept", []
    kept.mkdir()
    for file in cache.glob("main.run-*"):
        file.rename(kept / file.name)

    def flock(turn: int, how: int) -> None:
        waited.append((os.fstat(turn).st_ino, how))
        for file in kept.iterdir() if other_compiles else ():
            file.rename(cache / file.name)

    monkeypatch.setattr(mc.fcntl, "flock", flock)
    second = load(3)
    assert waited == [(cache.stat().st_ino, fcntl.LOCK_EX)]
    assert second.run(5) == 45 and hits(second) == int(other_compiles)


START = """
import sys
sys.path.insert(0, sys.argv[1])
from small_kernel.main import run
print(run(5), sum(run.stats.cache_hits.values()))
"""


@pytest.mark.slow
def test_of_three_processes_that_start_at_once_one_compiles(load: Load, tmp_path: Path) -> None:
    load(3)
    for file in (tmp_path / "small_kernel" / "__pycache__").glob("main.run-*"):
        file.unlink()
    words = [sys.executable, "-c", START, str(tmp_path)]
    started = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sorted(process.communicate()[0] for process in started) == ["45 0\n", "45 1\n", "45 1\n"]


def test_the_sources_of_a_module_do_not_depend_on_what_is_imported(load: Load, tmp_path: Path) -> None:
    load(3)
    aside, main = tmp_path / "small_kernel" / "aside.py", tmp_path / "small_kernel" / "main.py"
    aside.write_text("")
    main.write_text(main.read_text().replace("import scaled, twice", "import scaled as aside, scaled, twice"))
    assert "as aside" in main.read_text()
    found = {path.name for path in mc.sources_of("small_kernel.main")}
    assert {"main.py", "steps.py", "constants.py", "machine_code.py"} <= found and "aside.py" not in found
    for name in ("small_kernel.constants", "small_kernel.steps"):
        del sys.modules[name]
    assert found == {path.name for path in mc.sources_of("small_kernel.main")}


def test_a_part_leaves_no_function_behind(load: Load) -> None:
    (code,) = load(3).run.inspect_llvm().values()
    defined = [line for line in code.splitlines() if line.startswith("define")]
    assert any("run" in line for line in defined) and not any("scaled" in line for line in defined)


def test_the_sources_of_the_kernel_are_its_modules_and_what_they_are_made_of() -> None:
    import engine.kernel  # noqa: F401

    found = {"/".join(path.parts[-2:]) for path in mc.sources_of("engine.kernel.batch")}
    assert {"kernel/batch.py", "kernel/locks.py", "engine/book.py", "engine/records.py", "engine/rows.py"} <= found
    assert not {"engine/bulk.py", "engine/exchange.py"} & found, "a change of the slow lane compiles the kernel anew"
