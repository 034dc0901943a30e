"""Rows at an address: the kernel's view of a table, a bare pointer that is indexed like an array.

A numba array is seven values (owner, length, strides …), and a kernel with fourteen tables passes a hundred of them
to every function that it is made of: a third of its compile time. All that a kernel needs is where row 0 stands, and
that is what a ``Rows`` value is: one pointer, typed with the table's dtype. ``rows[i]`` is a numba record, or the
number itself in a table of plain numbers; ``rows[i] = x`` writes such a number. Indices are unsigned, nothing is
checked, and nothing is owned: whoever passes the address keeps the table alive.
"""

from __future__ import annotations

import operator
from typing import Any

from numba import types
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

_intrinsic: Any = intrinsic  # untyped: numba's annotation would demand the typing context of every caller


class Rows(types.Type):
    """The numba type of a table's rows; ``row`` is the type of one."""

    def __init__(self, row: types.Type) -> None:
        self.row = row
        super().__init__(name=f"Rows({row})")


@register_model(Rows)
class _RowsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, rows: Rows) -> None:
        super().__init__(manager, rows, manager.lookup(rows.row).get_data_type().as_pointer())


@infer_global(operator.getitem)
class _GetRow(AbstractTemplate):
    def generic(self, arguments: Any, keywords: Any) -> Any:
        rows, index = arguments
        if isinstance(rows, Rows) and isinstance(index, types.Integer):
            return signature(rows.row, rows, types.uint64)
        return None


@infer_global(operator.setitem)
class _SetRow(AbstractTemplate):
    def generic(self, arguments: Any, keywords: Any) -> Any:
        rows, index, _ = arguments
        if isinstance(rows, Rows) and isinstance(index, types.Integer) and isinstance(rows.row, types.Integer):
            return signature(types.none, rows, types.uint64, rows.row)
        return None


@lower_builtin(operator.getitem, Rows, types.uint64)
def _get_row(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    at = builder.gep(values[0], [values[1]])
    return at if isinstance(sig.return_type, types.Record) else builder.load(at)


@lower_builtin(operator.setitem, Rows, types.uint64, types.Integer)
def _set_row(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    builder.store(values[2], builder.gep(values[0], [values[1]]))
    return context.get_dummy_value()


@_intrinsic
def rows_at(typingctx: Any, address: Any, dtype: Any) -> Any:
    """The rows of a global ``dtype`` that begin at an int64 address."""
    rows = Rows(dtype.dtype)

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(rows))

    return rows(types.int64, dtype), codegen
