# SPDX-License-Identifier: MIT
"""Programs run as `python PROGRAM` or `python -m MODULE` would run them."""

import builtins
import importlib.util
import io
import os
import sys
import zipfile
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType, TracebackType
from typing import Any, NoReturn

_HERE = os.path.dirname(os.path.abspath(__file__))


def run_script(path: str, arguments: Sequence[str]) -> None:
    """Run a file, or a folder or archive with a `__main__.py`, as `__main__`."""
    sys.argv[:] = [path, *arguments]
    place = os.path.abspath(path)
    packed = os.path.isdir(place) or zipfile.is_zipfile(place)
    if not getattr(sys.flags, "safe_path", False):  # since Python 3.11
        sys.path[0] = place if packed else os.path.dirname(os.path.realpath(place))
    if packed:
        spec = PathFinder.find_spec("__main__", [place])
        if spec is None:
            _refuse(f"can't find '__main__' module in {place!r}", 1)
        _execute(_code(spec), __spec__=spec, __loader__=spec.loader, __file__=spec.origin, __package__="")
        return
    try:
        with io.open_code(place) as file:
            source = file.read()
    except OSError as error:
        _refuse(f"can't open file {place!r}: [Errno {error.errno}] {error.strerror}", 2)
    _hide_own_frames()
    code = compile(source, place, "exec", dont_inherit=True)
    _execute(code, __file__=place, __cached__=None, __loader__=SourceFileLoader("__main__", place))


def run_module(name: str, arguments: Sequence[str]) -> None:
    """Run a module, or a package with a `__main__`, as `__main__`. Tracebacks lack the two lines about runpy
    that `python -m` begins them with.
    """
    sys.argv[:] = ["-m", *arguments]
    spec = _found(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = _found(f"{name}.__main__")
        if spec is None:
            what = f"{name}.__main__; {name!r} is a package and cannot be directly executed"
            _refuse(f"No module named {what}", 1)
    if spec is None:
        _refuse(f"No module named {name}", 1)
    code = _code(spec)
    sys.argv[0] = spec.origin or name
    _execute(
        code,
        __spec__=spec,
        __loader__=spec.loader,
        __file__=spec.origin,
        __cached__=spec.cached,
        __package__=spec.parent,
    )


def _found(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ImportError as error:
        what = f"{name!r} ({type(error).__name__}: {error})"
        _refuse(f"Error while finding module specification for {what}", 1)


def _code(spec: ModuleSpec) -> CodeType:
    _hide_own_frames()
    loader: Any = spec.loader
    code = loader.get_code(spec.name) if hasattr(loader, "get_code") else None
    if code is None:
        _refuse(f"No code object available for {spec.name}", 1)
    return code


def _refuse(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"{sys.executable}: {message}\n")
    sys.exit(code)


def _execute(code: CodeType, **names: Any) -> None:
    """Run in a module that stays `__main__` to the end: what runs at exit, or is pickled, looks there."""
    main = ModuleType("__main__")
    main.__dict__.update(__builtins__=builtins, **names)
    sys.modules["__main__"] = main
    exec(code, main.__dict__)


def _hide_own_frames() -> None:
    """Tracebacks begin with the program's own frames. A hook that the program sets wins."""
    shown = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> Any:
        while trace is not None and _is_ours(trace):
            trace = trace.tb_next
        shown(kind, error.with_traceback(trace), trace)

    sys.excepthook = hook


def _is_ours(trace: TracebackType) -> bool:
    """The frames of this package, and those of runpy and importlib that lie before the program's."""
    frame = trace.tb_frame
    file = frame.f_code.co_filename
    return os.path.dirname(file) == _HERE or frame.f_globals.get("__name__") in ("runpy", *_IMPORTERS)


_IMPORTERS = ("importlib._bootstrap", "importlib._bootstrap_external")
