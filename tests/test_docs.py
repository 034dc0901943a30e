"""What the documentation says is so: files and tests that it names exist, its commands are commands, its code runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cea.main import SUB_COMMANDS, app

RULES = {1: 4, 2: 3, 3: 3, 4: 4, 5: 7, 6: 7, 7: 4, 8: 6, 9: 4, 10: 5, 11: 2, 12: 6, 13: 8, 14: 4, 15: 2}
NO_PROOF_YET = {"R15.1", "R15.2"}  # the sister market is on the roadmap


def pages(repository: Path) -> list[Path]:
    return [repository / "README.md", *sorted((repository / "docs").rglob("*.md"))]


def coverage(repository: Path) -> dict[str, tuple[str, str]]:
    """Rule → (where, proof) of the coverage table."""
    text = (repository / "docs" / "rules-coverage.md").read_text("utf-8")
    rows = re.findall(r"^\| (R\d+\.\d+) \| [^|]+ \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    return {rule: (where.strip("` "), proof.strip("` ")) for rule, where, proof in rows}


def missing(repository: Path, where: str, proof: str) -> list[str]:
    """What a row of the table names and is not there."""
    found = [] if (repository / where).is_file() else [where]
    file, _, name = proof.partition("::")
    path = repository / file
    if not path.is_file() or f"def {name}(" not in path.read_text("utf-8"):
        found.append(proof)
    return found


def test_every_rule_of_the_market_stands_in_the_coverage_table_once(repository) -> None:
    expected = [f"R{chapter}.{n}" for chapter, last in RULES.items() for n in range(1, last + 1)]
    assert list(coverage(repository)) == expected


def test_what_the_coverage_table_names_exists(repository) -> None:
    table = coverage(repository)
    open_rules = {rule for rule, (where, proof) in table.items() if "–" in (where, proof)}
    assert open_rules == NO_PROOF_YET
    assert [m for rule, row in table.items() if rule not in open_rules for m in missing(repository, *row)] == []


def test_a_planted_wrong_name_is_found(repository) -> None:
    assert missing(repository, "engine/prices.py", "tests/test_docs.py::test_that_is_not_there")
    assert missing(repository, "engine/nothing.py", "tests/test_docs.py::test_a_planted_wrong_name_is_found")


def test_links_and_pictures_of_the_pages_lead_somewhere(repository) -> None:
    broken = []
    for page in pages(repository):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert broken == []


def test_commands_in_the_pages_are_commands(repository) -> None:
    known = {info.name or info.callback.__name__ for info in app.registered_commands if info.callback} | set(
        SUB_COMMANDS
    )
    unknown = []
    for page in pages(repository):
        for line in page.read_text("utf-8").splitlines():
            for word in re.findall(r"(?:^    |`|&& )cea ([a-z]+)", line):
                if word not in known:
                    unknown.append(f"{page.name}: cea {word}")
    assert unknown == []


def test_make_targets_in_the_pages_are_targets(repository) -> None:
    makefile = (repository / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {
        w for page in pages(repository) for w in re.findall(r"(?:^    |`)make ([a-z-]+)", page.read_text("utf-8"), re.M)
    }
    assert named and named <= targets


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    """A running market in a folder named ``market``, as the README has it."""
    from cea.processes import ExchangeProcess

    folder = tmp_path_factory.mktemp("readme") / "market"
    cea = [sys.executable, "-m", "cea.main"]
    subprocess.run([*cea, "init", "market", "--yes", "--date", "20251203"], cwd=folder.parent, check=True)
    process = ExchangeProcess(folder)
    process.start()
    for words in (["fund"], ["clock", "09:35"]):
        subprocess.run([*cea, *words], cwd=folder.parent, check=True, capture_output=True)
    yield folder
    process.stop()


@pytest.mark.slow
def test_the_ten_lines_of_the_readme_trade(repository, market) -> None:
    (code,) = re.findall(r"```python\n(.+?)```", (repository / "README.md").read_text("utf-8"), re.DOTALL)
    assert len(code.strip().splitlines()) <= 12
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=market.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "accepted 0 1000" in done.stdout and "1000 t taken back" in done.stdout and "CEA24" in done.stdout
