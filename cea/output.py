"""How `cea` speaks: errors in one line, tables for people, JSON for scripts, and what the exit codes mean."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


class Exit(IntEnum):
    """Exit codes of `cea` (docs/operations.md)."""

    OK = 0
    NO = 1  # it ran, and the answer is no: refused, not equal, something found
    USAGE = 2  # the command line is wrong
    CONFIG = 3  # the market folder, a key or a file cannot be used
    UNREACHABLE = 4  # no exchange answers
    RECOVERY_REFUSED = 65  # the journal needs an operator's decision; the text names the command
    JOURNAL_FAILED = 74  # the disk failed under the journal


def fail(text: str, code: Exit = Exit.NO) -> NoReturn:
    """Ends the command: one line on standard error, and the exit code."""
    import typer

    print(f"cea: {text}", file=sys.stderr)
    raise typer.Exit(int(code))


def console(stderr: bool = False) -> Console:
    """Where tables go; plain when the output is not a terminal."""
    from rich.console import Console

    out = Console(stderr=stderr, highlight=False)
    if not out.is_terminal:
        out.width = 200  # a pipe has no width: nothing is cut
    return out


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, left: int = 1, last_left: bool = False) -> Table:
    """A table whose first ``left`` columns (and the last, if asked) are texts, the others numbers (right-aligned)."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        is_text = number < left or (last_left and number == len(columns) - 1)
        made.add_column(name, justify="left" if is_text else "right", no_wrap=True)
    for row in rows:
        made.add_row(*map(str, row))
    return made


def print_json(value: Any) -> None:
    """One JSON document on standard output: dataclasses, Structs and bytes (as hex) included."""
    import msgspec

    print(msgspec.json.encode(value_without_bytes(value)).decode())


def value_without_bytes(value: Any) -> Any:
    """Plain values with bytes as hex text (msgspec would write base64)."""
    import msgspec

    plain = msgspec.to_builtins(value, builtin_types=(bytes, bytearray), str_keys=True)
    return _hex(plain)


def _hex(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return bytes(value).hex()
    if isinstance(value, dict):
        return {k: _hex(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_hex(v) for v in value]
    return value
