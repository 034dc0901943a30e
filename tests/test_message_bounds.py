"""Every whole number that a slow-lane command carries has bounds: none reaches a table that cannot hold it."""

from __future__ import annotations

import typing
from collections.abc import Iterator

import msgspec
import pytest
from msgspec import inspect

from engine import messages as m


def unbounded(kind: inspect.Type, path: str) -> Iterator[str]:
    """Names of the numbers within a type that lack an upper bound of 64 bits or a lower one."""
    if isinstance(kind, inspect.IntType):
        if kind.ge is None or kind.le is None or kind.le >= 1 << 63:
            yield path
    elif isinstance(kind, inspect.UnionType):
        for one in kind.types:
            yield from unbounded(one, path)
    elif isinstance(kind, inspect.DictType):
        yield from unbounded(kind.value_type, f"{path}[]")
    elif isinstance(kind, inspect.ListType | inspect.VarTupleType):
        yield from unbounded(kind.item_type, f"{path}[]")
    elif isinstance(kind, inspect.StructType):
        for field in kind.fields:
            yield from unbounded(field.type, f"{path}.{field.name}")


@pytest.mark.parametrize("command", m.COMMANDS, ids=lambda c: c.__name__)
def test_every_number_of_a_command_has_bounds(command):
    assert list(unbounded(inspect.type_info(command), command.__name__)) == []


def test_a_planted_number_without_a_bound_is_found():
    class Planted(msgspec.Struct):
        limits: dict[str, typing.Annotated[int, msgspec.Meta(ge=0)]]

    assert list(unbounded(inspect.type_info(Planted), "Planted")) == ["Planted.limits[]"]
