"""How machine code is made: njit with our options, parts that are compiled once, and a cache that is never stale.

``@entry(signature)``  what Python calls: compiled, or read from the cache, when its module is imported
``@part``              becomes part of what calls it (LLVM inlines it): the steps of a hot path, the book's primitives
``@shared``            called from several places, a function of its own: what is rare, or large
``@either``            a part, or a function of its own, as LLVM finds
``@kernel``            compiled at its first call, for the types of its arguments: benchmarks and tools
``@native()``          the same, with all of numba's passes and counts of references: for what works on arrays

numba makes a library of each function: it takes in all that the function calls, optimises that anew and turns it into
machine code. Where sixty functions call each other six deep, the innermost is optimised in each that leads to it, and
of all this only the outermost ever runs. Parts and shared functions are therefore left as LLVM's intermediate code; an
entry takes in all that it calls, directly or not, each once, and optimises the whole.

numba's own cache knows the file in which a function stands, not those of the functions, constants and record layouts
that become part of it: a change there would go unnoticed. Ours compares a digest of several texts: of the function's
module and of those that it imports, directly or not, from its own package and from this one. And of several processes
that start at once without a cache, one compiles and the others wait for what it writes.

This module reads files, the project's own sources, while a module with machine code is imported, and never afterwards.
"""

from __future__ import annotations

import fcntl
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Final

from llvmlite.binding import Linkage
from numba import njit
from numba.core import errors
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, CompilerBase
from numba.core.targetconfig import ConfigStack
from numba.core.typed_passes import IRLegalization, NativeLowering, NoPythonBackend, PreLowerStripPhis
from numba.core.typeinfer import TypeInferer
from numba.core.types.functions import Function
from numba.core.untyped_passes import FixupArgs, IRProcessing, ReconstructSSA, TranslateByteCode

KERNEL_OPTIONS: Final[dict[str, Any]] = {"_nrt": False, "nogil": True, "error_model": "numpy"}
"""No reference counts, no interpreter lock, no zero-division checks."""


# --- the cache ------------------------------------------------------------------------------------------------------

_IMPORT: Final = re.compile(r"^(?:from ([\w.]+) import (\([^)]*\)|.*)|import ([\w.]+))", re.MULTILINE)
_IMPORTED: Final = re.compile(r"(\w+)(?: as \w+)?")


def sources_of(module: str) -> list[Path]:
    """The files whose text becomes machine code with a function of ``module``: its own, and those it imports.

    Found by their places on the disk: what else the process has imported, or has not yet, makes no difference.
    """
    own = {module.partition(".")[0], __name__.partition(".")[0]}
    found: dict[str, Path] = {}
    open_ends = [module]
    while open_ends:
        name = open_ends.pop()
        file = _file_of(name) if name not in found and name.partition(".")[0] in own else None
        if file is None:
            continue
        found[name] = file
        for package, names, plain in _IMPORT.findall(file.read_text()):
            open_ends.append(package or plain)
            open_ends += [f"{package}.{one}" for one in _IMPORTED.findall(names)] if package else []
    return [found[name] for name in sorted(found)]


def _file_of(module: str) -> Path | None:
    """The text of a module of a package that is being imported; None where the name is none of a module."""
    top, *inner = module.split(".")
    root = Path(sys.modules[top].__file__ or "")
    place = root.parent.joinpath(*inner)
    return (
        next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)
        if inner
        else root
    )


@cache
def _digest(module: ModuleType) -> str:
    digest = blake2b(digest_size=16)
    for file in sources_of(module.__name__):
        digest.update(file.read_bytes())
    return digest.hexdigest()


class _Cache(FunctionCache):
    """numba's cache of one function, valid while all its sources are what they were."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        digest = _digest(sys.modules[function.__module__])
        # The index is written before the code that it names: with the digest in both names it never names old code.
        self._kept_as = f"{self._impl.filename_base}.{digest}"
        self._cache_file = IndexDataCacheFile(self._cache_path, self._kept_as, digest)

    def save_overload(self, signature: Any, data: Any) -> None:
        """Keeps what was compiled, in place of what older sources gave."""
        super().save_overload(signature, data)
        function, _, line_and_python = self._impl.filename_base.rpartition("-")
        python = line_and_python.partition(".")[2]  # another version keeps its own
        for file in Path(self._cache_path).glob(f"{function}-*.{python}.*nb[ci]"):
            if not file.name.startswith(self._kept_as):
                file.unlink(missing_ok=True)


class _EntryCache(_Cache):
    """A cache into which one process at a time compiles."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._turn: int | None = None

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """What is kept, or None; then nobody else compiles into this folder until `leave`."""
        found = super().load_overload(signature, target_context)
        if found is None:
            self._turn = os.open(self._cache_path, os.O_RDONLY)
            with suppress(OSError):  # a file system without locks: each compiles for itself
                fcntl.flock(self._turn, fcntl.LOCK_EX)
            found = super().load_overload(signature, target_context)  # who had the turn before may have written it
        return found

    def leave(self) -> None:
        """Lets the next process look, after `load_overload` and what followed it."""
        if self._turn is not None:
            os.close(self._turn)
            self._turn = None


# --- parts and wholes -----------------------------------------------------------------------------------------------


class _PartLibrary(JITCodeLibrary):
    """A part's intermediate code, and which parts it calls: nothing is optimised or linked here."""

    stays_out: ClassVar[bool] = True  # where it is not inlined by force

    def finalize(self) -> None:
        self._raise_if_finalized()
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == Linkage.external:
                function.linkage = "linkonce_odr"  # many wholes may have it
                if self.stays_out and not any(b"alwaysinline" in group for group in function.attributes):
                    function.add_function_attribute("noinline")  # even of one caller: the rare stays out of the way
        self._finalized = True

    def _get_module_for_linking(self) -> Any:
        return self._final_module


class _EitherLibrary(_PartLibrary):
    stays_out = False


class _WholeLibrary(JITCodeLibrary):
    """An entry with all that it calls, directly or not, each once."""

    def finalize(self) -> None:
        whole: dict[Any, None] = {}
        open_ends = list(self._linking_libraries)
        while open_ends:
            library = open_ends.pop()
            if library not in whole:
                whole[library] = None
                open_ends += library._linking_libraries if isinstance(library, _PartLibrary) else []
        self._linking_libraries = list(whole)
        super().finalize()

    def _optimize_final_module(self) -> None:
        """What the whole took in is its own: nobody else calls it, so what none of its calls needs goes."""
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == Linkage.linkonce_odr:
                function.linkage = "internal"
        super()._optimize_final_module()


class _PartLowering(NativeLowering):
    """numba's lowering without its last step, the machine code; its callers know the part by a name of its own."""

    _name = "part_lowering"

    def run_pass(self, state: Any) -> bool:
        state.flags.no_compile = True
        super().run_pass(state)
        handle: Any = [].append  # a name for its callers: numba wants a built-in function, nobody calls it
        state.targetctx.insert_user_function(handle, state.cr.fndesc, [state.library])
        state.cr = state.cr._replace(cfunc=handle)
        return True


def _library(of: type[JITCodeLibrary], state: Any) -> JITCodeLibrary:
    library = of(state.targetctx.codegen(), state.func_id.func_qualname)
    library.enable_object_caching()
    return library


_errors: Any = errors  # mypy does not see all that is in it


class _Types(TypeInferer):
    """numba's type inference, which remembers what an operator or a built-in function makes of which types.

    numba tries dozens of templates for each sum in a function, twice, and finds the same each time.
    """

    known: ClassVar[dict[Any, Any]] = {}

    def resolve_call(self, fnty: Any, pos_args: Any, kw_args: Any) -> Any:
        if not isinstance(fnty, Function) or kw_args:
            return super().resolve_call(fnty, pos_args, kw_args)
        question = (fnty, tuple(pos_args))
        if question not in self.known:
            self.known[question] = super().resolve_call(fnty, pos_args, kw_args)
        return self.known[question]


class _TypeInference:
    """The pass of that name, with `_Types`."""

    def run_pass(self, state: Any) -> None:
        warnings = _errors.WarningsFixer(errors.NumbaWarning)
        types = _Types(state.typingctx, state.func_ir, warnings)
        with state.typingctx.callstack.register(state.targetctx.target, types, state.func_id, state.args), warnings:
            for index, (name, of) in enumerate(zip(state.func_ir.arg_names, state.args, strict=True)):
                types.seed_argument(name, index, of)
            if state.return_type is not None:
                types.seed_return(state.return_type)
            types.build_constraint()
            types.propagate()
            state.typemap, state.return_type, state.calltypes = types.unify()


class _WholeCompiler(CompilerBase):
    """numba's compiler with the passes that our code needs, one after the other, and nothing between them.

    Without rewriting of arrays, closures, ``with`` and unrolling, and without walks over all variables after each pass,
    a function takes half the time. What needs one of those does not compile.
    """

    library: type[JITCodeLibrary] = _WholeLibrary
    lowering: type[NativeLowering] = NativeLowering

    def _compile_core(self) -> Any:
        state = self.state
        state.library = _library(self.library, state)
        last: tuple[Any, ...] = (self.lowering, NoPythonBackend)
        if state.flags.nrt:
            last = (IRLegalization, *last)  # says where variables end, for those who count references
        with ConfigStack().enter(state.flags.copy()):
            for step in (*_TO_TYPES, *last):
                step().run_pass(state)
        state.pipeline = None
        return state.cr


_TO_TYPES: Final = (TranslateByteCode, FixupArgs, IRProcessing, ReconstructSSA, _TypeInference, PreLowerStripPhis)


class _PartCompiler(_WholeCompiler):
    library = _PartLibrary
    lowering = _PartLowering


class _EitherCompiler(_PartCompiler):
    library = _EitherLibrary


class _NativeCompiler(Compiler):
    """numba's compiler with all its passes, for what may call parts."""

    def define_pipelines(self) -> Any:
        self.state.library = _library(_WholeLibrary, self.state)
        return super().define_pipelines()


# --- decorators -----------------------------------------------------------------------------------------------------

_PART_OPTIONS: Final[dict[str, Any]] = {
    **KERNEL_OPTIONS,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "pipeline_class": _PartCompiler,
}

part: Any = njit(forceinline=True, **_PART_OPTIONS)
"""njit for a part of a hot path: inlined by LLVM, which compiles faster than numba's own inlining."""

shared: Any = njit(forceinline=False, **_PART_OPTIONS)
"""njit for a part that stays a function of its own; its arguments should be few, as an address of all tables is.

Without the flag numba hands a part's forced inlining down to what it calls, and the rare swells the hot path."""


either: Any = njit(forceinline=False, **{**_PART_OPTIONS, "pipeline_class": _EitherCompiler})
"""njit for a part that LLVM inlines where it finds that it pays."""


def native(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """njit with ``options``, compiled or read from the cache at the first call."""

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = njit(pipeline_class=_NativeCompiler, **options)(function)
        dispatcher._cache = _Cache(function)
        return dispatcher

    return compiled


kernel: Any = native(**KERNEL_OPTIONS)
"""njit for a batch kernel of a benchmark or a tool."""


def entry(signature: Any, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """njit for what Python calls, compiled or read from the cache now: nothing compiles while a market is open.

    ``options``: where a function needs others than KERNEL_OPTIONS.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = njit(pipeline_class=_WholeCompiler, **{**KERNEL_OPTIONS, **options})(function)
        dispatcher._cache = kept = _EntryCache(function)
        try:
            dispatcher.compile(signature)
        finally:
            kept.leave()
        dispatcher.disable_compile()
        return dispatcher

    return compiled


def entry_address(compiled: Any) -> int:
    """An `entry` as a C function, of its signature's types, for other machine code to call."""
    (overload,) = compiled.overloads.values()
    return int(overload.library.get_pointer_to_function(overload.fndesc.llvm_cfunc_wrapper_name))
