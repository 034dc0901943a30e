"""What an engine is made of to replay a journal: rules, capacity, calendar; from a market folder or by the rules' hash.

A market folder's ``market.toml`` holds more (ports, members): that is the gateway's. Here only ``[rules]`` and
``[capacity]`` are read, and ``calendar.toml``, in the same form.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from engine.calendar import TradingCalendar
from engine.exchange import ENGINE_ABI, Exchange
from engine.journal import Disk, RealDisk
from engine.journal.rewrite import segment_headers
from engine.market import Capacity
from engine.rules import Rules
from engine.state import MAGIC
from replay.source_files import SourceError


class Settings(NamedTuple):
    """Makes engines for one journal."""

    rules: Rules
    capacity: dict[str, int]
    calendar: TradingCalendar | None

    def make(self) -> Exchange:
        """An engine before the first command."""
        return Exchange(self.rules, Capacity(**self.capacity), self.calendar)

    def restore(self, snapshot: bytes | memoryview) -> Exchange:
        """An engine in the state of a snapshot, the engine's own or one that the exchange process wrote around it."""
        return Exchange.restore(self.rules, engine_part(snapshot), Capacity(**self.capacity), self.calendar)


def engine_part(snapshot: bytes | memoryview) -> memoryview:
    """The engine's bytes: the exchange process puts its own state before them, with its length in 8 bytes."""
    view = memoryview(snapshot)
    if bytes(view[: len(MAGIC)]) == MAGIC:
        return view
    return view[8 + int.from_bytes(view[:8], "little") :]


def journal_folder(path: Path) -> Path:
    """The journal of a market folder, the folder itself, or a segment file's. SourceError when there is none."""
    folder = path.parent if path.is_file() else path
    folder = folder / "journal" if (folder / "journal").is_dir() else folder
    if not folder.is_dir():
        raise SourceError(path, "no such folder or segment file")
    return folder


def settings_for(path: Path, rules_file: Path | None = None) -> tuple[Settings, Disk]:
    """Settings and disk of a journal. SourceError where its rules are not known or not those it was written under.

    Rules come from ``rules_file`` (TOML: fields that replace the profile's), else from the market folder that the
    journal lies in, else one of the two profiles whose hash stands in the segments.
    """
    folder = journal_folder(path)
    disk = RealDisk(folder)
    headers = segment_headers(disk)
    if not headers:
        raise SourceError(folder, "holds no journal segment that can be read")
    if headers[-1].engine_abi != ENGINE_ABI:
        raise SourceError(folder, f"written by engine ABI {headers[-1].engine_abi}, this engine has {ENGINE_ABI}")
    written = headers[-1].rules_hash
    market = folder.parent if (folder.parent / "market.toml").is_file() else None
    calendar, capacity = None, {}
    if rules_file is not None:
        candidates = [rules_from(rules_file, _toml(rules_file))]
    elif market is not None:
        config = _toml(market / "market.toml")
        candidates = [rules_from(market / "market.toml", config.get("rules", {}))]
        capacity = config.get("capacity", {})
    else:
        candidates = [Rules.national(), Rules.generic(), Rules.generic(accounts=True)]
    if market is not None and (market / "calendar.toml").is_file():
        calendar = TradingCalendar(_toml(market / "calendar.toml")["days"])
    for rules in candidates:
        if written.startswith(rules.hash()):
            return Settings(rules, capacity, calendar), disk
    raise SourceError(
        folder, f"written under rules {written[:16].hex()}, which are not those found: name a --rules file"
    )


def rules_from(path: Path, changes: dict[str, Any]) -> Rules:
    """A profile with some fields replaced: ``profile`` names it, national by default. SourceError names the field."""
    base = Rules.generic() if changes.get("profile", "national") == "generic" else Rules.national()
    fields = {**msgspec.to_builtins(base), **changes}
    try:
        return msgspec.convert(fields, Rules).validate()
    except (msgspec.ValidationError, ValueError) as error:
        raise SourceError(path, f"rules: {error}") from error


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SourceError(path, f"cannot be read: {error}") from error
