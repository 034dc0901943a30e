"""The project's style as a test: import direction, sizes, banned calls, nothing of one machine in tracked files.

Each rule is a function from source text to findings, so that a planted fault proves that it can find one.
"""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
from conftest import REPOSITORY

# Who may import whom among the project's own packages (design 2). `cea` composes, so nobody imports it.
MAY_IMPORT = {
    "engine": {"engine"},
    "settlement": {"settlement", "engine"},
    "gateway": {"gateway", "settlement", "engine"},
    "replay": {"replay", "settlement", "engine"},
    "benchmarks": {"benchmarks", "gateway", "settlement", "replay", "engine"},
    "cea": {"cea", "benchmarks", "gateway", "settlement", "replay", "engine"},
}
OWN = set(MAY_IMPORT)

BUILT = re.compile(r"\..*|out|__pycache__|.*\.egg-info")  # folders that no source is in
LINE_MAX = 120  # as ruff's line-length
FILE_LINES_MAX = 1_000  # a module that does one thing is far below
FUNCTION_LINES_MAX = 100  # machine-code kernels excepted: a call there costs registers, and they say why
KERNEL_DECORATORS = {"njit", "cfunc", "intrinsic", "overload", "entry", "part", "shared", "either", "kernel", "native"}

# The core has no clock, no randomness, no floats for money and no I/O (design 3). Its one door to the disk:
DISK_PORT = "engine/journal/disk.py"
BANNED_CALLS = re.compile(
    r"^(time\.\w+|datetime\.(datetime\.)?(now|today|utcnow)|dt\.(datetime|date)\.(now|today|utcnow)"
    r"|(np|numpy)\.random(\.\w+)*|random(\.\w+)*|secrets\.\w+|uuid\.\w+|os\.(urandom|getenv|environ\S*)|open|print|input|float)$"
)
BANNED_MODULES = {"time", "random", "secrets", "uuid", "socket", "threading", "asyncio", "zmq", "decimal"}

# Put together from pieces, so that this file does not contain what it looks for.
MACHINE_PATHS = re.compile("(?<![\\w.])/(" + "|".join(("work", "root", "home/[a-z]+")) + ")/")
PACKAGE_HOSTS = re.compile(
    r"https?://[\w.:-]*(" + "|".join(("py" + "pi", "python" + "hosted", "/simp" + "le")) + ")", re.I
)


def dotted(node: ast.expr) -> str:
    """``a.b.c`` of a call's target, empty when it is no plain name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def imported(tree: ast.AST) -> list[tuple[int, str]]:
    """Line and top-level package of every import, at any depth."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name.split(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.append((node.lineno, node.module.split(".")[0]))
    return found


def wrong_imports(path: str, tree: ast.AST) -> list[str]:
    """Imports of an own package that this one may not see."""
    package = path.split("/")[0]
    return [
        f"{path}:{line} {package} imports {name}" for line, name in imported(tree) if name in OWN - MAY_IMPORT[package]
    ]


def is_kernel(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """True where a decorator compiles the function."""
    targets = [d.func if isinstance(d, ast.Call) else d for d in function.decorator_list]
    return any(dotted(t).split(".")[-1] in KERNEL_DECORATORS for t in targets)


def too_long(path: str, source: str, tree: ast.AST) -> list[str]:
    """Lines, files and functions beyond their limit."""
    lines = source.splitlines()
    found = [f"{path}:{n} is {len(line)} wide" for n, line in enumerate(lines, 1) if len(line) > LINE_MAX]
    if len(lines) > FILE_LINES_MAX:
        found.append(f"{path} has {len(lines)} lines")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_kernel(node):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                found.append(f"{path}:{node.lineno} {node.name} has {length} lines")
    return found


def impure(path: str, tree: ast.AST) -> list[str]:
    """Clock, randomness, floats and I/O in the core; the Disk port is the one exception, by name."""
    if path == DISK_PORT:
        return []
    found = [f"{path}:{line} imports {name}" for line, name in imported(tree) if name in BANNED_MODULES]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and BANNED_CALLS.match(dotted(node.func)) and not in_main(tree, node):
            found.append(f"{path}:{node.lineno} calls {dotted(node.func)}")
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            found.append(f"{path}:{node.lineno} has the float {node.value}")
    return found


def in_main(tree: ast.AST, call: ast.Call) -> bool:
    """True for calls under ``if __name__ == "__main__"`` or in ``main()``: a module's own small command line."""
    assert isinstance(tree, ast.Module)
    for node in tree.body:
        guarded = isinstance(node, ast.If) and "__name__" in ast.dump(node.test)
        named = isinstance(node, ast.FunctionDef) and node.name == "main"
        if (guarded or named) and node.lineno <= call.lineno <= (node.end_lineno or 0):
            return True
    return False


def of_this_machine(path: str, text: str) -> list[str]:
    """Paths of one machine, and hosts that packages are downloaded from."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if MACHINE_PATHS.search(line) or PACKAGE_HOSTS.search(line):
            found.append(f"{path}:{number} {line.strip()[:80]}")
    return found


def tracked_files() -> list[str]:
    """What git tracks; without git (an unpacked archive) every file outside hidden and build folders."""
    try:
        run = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
        names = run.stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        every = (p.relative_to(REPOSITORY) for p in REPOSITORY.rglob("*") if p.is_file())
        names = [str(p) for p in every if not any(BUILT.fullmatch(part) for part in p.parts)]
    return [name for name in names if (REPOSITORY / name).is_file()]


def sources() -> list[tuple[str, str, ast.Module]]:
    """Path, text and syntax tree of every Python file of the project's packages."""
    found = []
    for path in sorted(p for p in tracked_files() if p.endswith(".py") and p.split("/")[0] in OWN):
        text = (REPOSITORY / path).read_text(encoding="utf-8")
        found.append((path, text, ast.parse(text, path)))
    return found


@pytest.fixture(scope="module")
def modules() -> list[tuple[str, str, ast.Module]]:
    found = sources()
    assert len(found) > 20, "the project's own sources were not found"
    return found


def test_imports_run_one_way(modules) -> None:
    assert [f for path, _, tree in modules for f in wrong_imports(path, tree)] == []


def test_lines_functions_and_files_are_short(modules) -> None:
    assert [f for path, text, tree in modules for f in too_long(path, text, tree)] == []


def test_the_core_has_no_clock_no_randomness_no_float_and_no_io(modules) -> None:
    assert [f for path, _, tree in modules if path.startswith("engine/") for f in impure(path, tree)] == []


def test_public_functions_of_the_core_have_a_docstring(modules) -> None:
    assert [f for path, _, tree in modules if path.startswith("engine/") for f in undocumented(path, tree)] == []


def undocumented(path: str, tree: ast.Module) -> list[str]:
    """Public functions and classes of a module without a docstring."""
    public = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")]
    return [f"{path}:{node.lineno} {node.name}" for node in public if ast.get_docstring(node) is None]


def test_tracked_files_hold_nothing_of_one_machine() -> None:
    found = []
    for path in tracked_files():
        raw = (REPOSITORY / path).read_bytes()
        if b"\0" not in raw[:8_000]:
            found += of_this_machine(path, raw.decode("utf-8", "replace"))
    assert found == []


def test_tracked_files_hold_no_large_data() -> None:
    sizes = {path: (REPOSITORY / path).stat().st_size for path in tracked_files()}
    assert {path: size for path, size in sizes.items() if size > 1_000_000} == {}


@pytest.mark.parametrize(
    ("path", "planted"),
    [
        ("engine/x.py", "from gateway.client import Client"),
        ("engine/x.py", "def f():\n    import settlement.ledger"),
        ("settlement/x.py", "import replay"),
        ("gateway/x.py", "from cea import main"),
        ("replay/x.py", "import gateway.client"),
    ],
)
def test_a_planted_wrong_import_is_found(path: str, planted: str) -> None:
    assert wrong_imports(path, ast.parse(planted))


@pytest.mark.parametrize(
    "planted",
    [
        "import time",
        "def f():\n    return time.time()",
        "def f():\n    return datetime.datetime.now()",
        "def f():\n    return np.random.default_rng()",
        "def f():\n    open('x')",
        "price = 59.5",
        "def f(x):\n    return float(x)",
    ],
)
def test_a_planted_impurity_is_found(planted: str) -> None:
    assert impure("engine/x.py", ast.parse(planted))


def test_a_planted_long_function_and_line_are_found_but_a_kernel_may_be_long() -> None:
    body = "\n".join(f"    a{i} = {i}" for i in range(FUNCTION_LINES_MAX))
    plain, kernel = f"def f():\n{body}", f"@njit(cache=True)\ndef f():\n{body}"
    assert too_long("x.py", plain, ast.parse(plain))
    assert not too_long("x.py", kernel, ast.parse(kernel))
    wide = "a = '" + "x" * LINE_MAX + "'"
    assert too_long("x.py", wide, ast.parse(wide))


@pytest.mark.parametrize("planted", ["see /" + "work/main", "pip --index http://x/simp" + "le", "cd /" + "root/x"])
def test_a_planted_path_or_host_is_found(planted: str) -> None:
    assert of_this_machine("x.md", planted)


def test_the_shared_data_is_not_in_the_project() -> None:
    names = [Path(p).name for p in tracked_files()]
    assert not [n for n in names if n.endswith((".npy.xz", ".csv.xz", "sealed.bin")) or n.startswith("cea_daily")]
