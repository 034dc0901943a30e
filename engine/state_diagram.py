"""Draws a state table as a Mermaid diagram, and keeps the diagrams of a docs page equal to the tables.

A page marks each place with ``<!-- table: name -->`` … ``<!-- end -->``; what stands between is generated.
Only a developer's command and a test use this module; the exchange never does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeVar

State = TypeVar("State", bound=IntEnum)
Event = TypeVar("Event", bound=IntEnum)
Action = TypeVar("Action", bound=IntEnum)

Table = dict[tuple[State, Event], tuple[State, tuple[Action, ...]]]


def words(member: IntEnum) -> str:
    """``OFFERED_BY_MAKER`` → ``offered by maker``."""
    return member.name.lower().replace("_", " ")


def mermaid(table: Mapping[Any, Any]) -> str:
    """One Mermaid state diagram; arrows carry the event and the actions in brackets."""
    lines = ["```mermaid", "stateDiagram-v2"]
    for (state, event), (to, actions) in sorted(table.items()):
        start = "[*]" if state == 0 else state.name.lower()
        done = f" [{', '.join(words(a) for a in actions)}]" if actions else ""
        lines.append(f"    {start} --> {to.name.lower()} : {words(event)}{done}")
    states = {to for to, _ in table.values()}
    ends = sorted(states - {state for state, _ in table})
    lines += [f"    {state.name.lower()} --> [*]" for state in ends]
    return "\n".join([*lines, "```"])


def render(page: str, diagrams: Mapping[str, Mapping[Any, Any]]) -> str:
    """The page with every marked place filled. ValueError when a table has no place on it."""
    for name, table in diagrams.items():
        place = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not place.search(page):
            raise ValueError(f"page has no place for the table {name}")
        page = place.sub(rf"\g<1>{mermaid(table)}\n\g<2>", page)
    return page


def main(path: str, diagrams: Mapping[str, Mapping[Any, Any]]) -> None:
    """Rewrites the diagrams of a docs page in place."""
    page = Path(path)
    page.write_text(render(page.read_text(encoding="utf-8"), diagrams), encoding="utf-8")
