"""Acts from a CSV file: all rows or none; every bad row is named (2,257 entities' allocations in one file).

Columns are named in the first line, in any order; unknown columns are refused. A file can be imported again:
rows that are in the registry already do nothing.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Final

from settlement.accounts import AccountForm
from settlement.base import Posted
from settlement.errors import Refused
from settlement.kinds import ActKind
from settlement.ledger import act_id
from settlement.registry import Registry

# A file of more rows than this is not an allocation of a national market.
ROWS_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that can't be imported: its line in the file (the header is line 1), the field and the reason."""

    line: int
    field: str
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.field}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did. With bad rows, nothing was imported."""

    rows: int
    repeated: int
    bad: list[BadRow]


ACCOUNT_COLUMNS: Final = tuple(field.name for field in fields(AccountForm))
ISSUE_COLUMNS: Final = ("account", "asset", "quantity", "document", "step")
OBLIGATION_COLUMNS: Final = ("account", "year", "emissions_t", "deadline", "document")
_OPTIONAL: Final = {"step": "pre-allocation", "kind": "entity", "province": "", "bank_account": ""}
_NUMBERS: Final = frozenset({"account", "quantity", "year", "emissions_t", "deadline"})

Cells = dict[str, str | int]


class _Undo(Exception):
    """Ends a batch with bad rows, so that nothing of it is kept."""


def import_accounts(registry: Registry, lines: Iterable[str], document: str, time_ns: int) -> Imported:
    """Open accounts; the document number of each is ``document`` and its account id."""

    def act(cells: Cells) -> Posted | Refused:
        form = AccountForm(**cells)  # type: ignore[arg-type]
        return registry.open_account(form, f"{document}/{cells['account']}", time_ns)

    def number(cells: Cells) -> int:
        return act_id(ActKind.OPEN_ACCOUNT, f"{document}/{cells['account']}")

    return _import(registry, lines, ACCOUNT_COLUMNS, act, number, time_ns)


def import_issues(registry: Registry, lines: Iterable[str], time_ns: int) -> Imported:
    """Issue allowances: account, asset, quantity, document, step."""

    def act(cells: Cells) -> Posted | Refused:
        account, asset, quantity, document, step = (cells[name] for name in ISSUE_COLUMNS)
        return registry.issue(int(account), str(asset), int(quantity), str(document), time_ns, str(step))

    def number(cells: Cells) -> int:
        return act_id(ActKind.ISSUE, str(cells["document"]))

    return _import(registry, lines, ISSUE_COLUMNS, act, number, time_ns)


def import_obligations(registry: Registry, lines: Iterable[str], time_ns: int) -> Imported:
    """Record verified emissions: account, year, emissions_t, deadline, document."""

    def act(cells: Cells) -> Posted | Refused:
        account, year, emissions, deadline = (int(cells[name]) for name in OBLIGATION_COLUMNS[:4])
        return registry.set_obligation(account, year, emissions, deadline, str(cells["document"]), time_ns)

    def number(cells: Cells) -> int:
        return act_id(ActKind.OBLIGATION, str(cells["document"]))

    return _import(registry, lines, OBLIGATION_COLUMNS, act, number, time_ns)


def _import(
    registry: Registry,
    lines: Iterable[str],
    columns: tuple[str, ...],
    act: Callable[[Cells], Posted | Refused],
    number: Callable[[Cells], int],
    time_ns: int,
) -> Imported:
    rows, bad = _parse(lines, columns)
    seen: dict[int, int] = {}
    once: list[tuple[int, Cells]] = []
    for line, cells in rows:
        key = number(cells)
        if key in seen:
            bad.append(BadRow(line, "document", f"is also in line {seen[key]}"))
        else:
            once.append((line, cells))
        seen.setdefault(key, line)
    repeated = 0
    try:
        with registry.batch(time_ns) as posting:
            posting.preload_acts(seen)
            posting.preload_owners(int(cells["account"]) for _, cells in once)
            for line, cells in once:
                result = act(cells)
                if isinstance(result, Refused):
                    bad.append(BadRow(line, result.field, result.reason))
                else:
                    repeated += result.repeated
            if bad:
                raise _Undo
    except _Undo:
        return Imported(0, 0, sorted(bad, key=lambda row: row.line))
    return Imported(len(rows), repeated, [])


def _parse(lines: Iterable[str], columns: tuple[str, ...]) -> tuple[list[tuple[int, Cells]], list[BadRow]]:
    reader = csv.DictReader(lines, strict=True)
    rows: list[tuple[int, Cells]] = []
    bad: list[BadRow] = []
    try:
        names = reader.fieldnames or []
        for name in columns:
            if name not in names and name not in _OPTIONAL:
                bad.append(BadRow(1, name, "the column is missing"))
        bad += [BadRow(1, name or "", "is not a column of this file") for name in names if name not in columns]
        if bad:
            return [], bad
        for record in reader:
            if len(rows) + len(bad) >= ROWS_MAX:
                bad.append(BadRow(reader.line_num, "file", f"has more than {ROWS_MAX} rows"))
                break
            cells = _cells(record, columns, reader.line_num)
            if isinstance(cells, BadRow):
                bad.append(cells)
            else:
                rows.append((reader.line_num, cells))
    except UnicodeDecodeError:
        bad.append(BadRow(reader.line_num + 1, "file", "is not UTF-8: save it as CSV UTF-8"))
    except csv.Error as error:
        bad.append(BadRow(reader.line_num, "file", str(error)))
    return rows, bad


def _cells(record: dict[str | None, str | None], columns: tuple[str, ...], line: int) -> Cells | BadRow:
    if None in record:
        return BadRow(line, "file", "the row has more cells than the header")
    cells: Cells = {}
    for name in columns:
        value = (record.get(name) or "").strip() or _OPTIONAL.get(name)
        if value is None:
            return BadRow(line, name, "is empty")
        if name in _NUMBERS:
            digits = value.removeprefix("-")
            if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
                return BadRow(line, name, f"{value!r} is not a whole number")
            cells[name] = int(value)
        else:
            cells[name] = value
    return cells
