"""One command as a built-in function of Python: nothing to pass, to look up or to unpack on the way into the kernel.

`kernel.run` called through numba costs 290 ns before it does anything, a Python method around it 50 more: twice what
the command itself takes. What is made here is a built-in without arguments, twenty instructions of machine code between
Python's call and the kernel's. It is a method of a tuple: the address of a :data:`CALL` record, what to call where a
plain answer is not possible, and whatever has to live as long as the function does.

Python's stable interface only (a ``PyMethodDef``, tuples, numbers); pointers are 64-bit words. It keeps the
interpreter's lock: a command is shorter than giving it back and asking for it again.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

CALL: Final = np.dtype(
    [
        ("run", "<i8"),  # the kernel as a C function: three int64, returns one
        ("control", "<i8"),  # its arguments: addresses of the control record and of the command
        ("command", "<i8"),
        ("written", "<i8"),  # address of the number of events that it wrote
        ("kept", "<i8"),  # not 0: something of the call before is to be put away first
    ]
)
_WORD: Final = ir.IntType(64)
_METH_NOARGS: Final = 4


class _Method(ctypes.Structure):
    """PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def _call(builder: ir.IRBuilder, function: Any, *arguments: Any) -> Any:
    """A C function at an address, of and to words."""
    pointer = ir.FunctionType(_WORD, [_WORD] * len(arguments)).as_pointer()
    return builder.call(builder.inttoptr(function, pointer), [_WORD(a) if isinstance(a, int) else a for a in arguments])


def _python(name: str) -> Any:
    """The address of a function of Python's."""
    return _WORD(ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value)


def _module() -> ir.Module:
    """``object apply(tuple, nothing)``: status = run(control, command, 1); written, unless status or kept is not 0."""
    module = ir.Module()
    module.triple = llvm.get_process_triple()
    function = ir.Function(module, ir.FunctionType(_WORD, [_WORD, _WORD]), "apply")
    builder = ir.IRBuilder(function.append_basic_block())
    owner = function.args[0]
    row = _call(builder, _python("PyLong_AsVoidPtr"), _call(builder, _python("PyTuple_GetItem"), owner, 0))
    at = builder.inttoptr(row, _WORD.as_pointer())
    run, control, command, written, kept = (
        builder.load(builder.gep(at, [_WORD(i)])) for i in range(CALL.itemsize // 8)
    )
    status = _call(builder, run, control, command, 1)
    plain = builder.icmp_signed("==", builder.or_(status, kept), _WORD(0))
    with builder.if_then(plain, likely=True):
        count = builder.load(builder.inttoptr(written, _WORD.as_pointer()))
        builder.ret(_call(builder, _python("PyLong_FromLongLong"), count))
    otherwise = _call(builder, _python("PyTuple_GetItem"), owner, 1)
    builder.ret(_call(builder, _python("PyObject_CallNoArgs"), otherwise))
    return module


@cache
def _method() -> tuple[_Method, Any]:
    """The function's definition, made once (some 15 ms), and what keeps its machine code."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(_module())), machine)
    engine.finalize_object()
    doc = b"Applies the record; returns the number of events."
    return _Method(b"apply", engine.get_function_address("apply"), _METH_NOARGS, doc), engine


def single_call(call: np.ndarray, otherwise: Callable[[], int]) -> Callable[[], int]:
    """The built-in for a CALL record, shape (1,): runs the command; returns what it wrote, or what ``otherwise`` does.

    ``otherwise`` is called after the kernel where that returned a status other than 0, or where ``kept`` is not 0.
    """
    assert call.dtype == CALL and call.shape == (1,)
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    made: Callable[[], int] = new(ctypes.addressof(_method()[0]), (call.ctypes.data, otherwise, call), None)
    return made
