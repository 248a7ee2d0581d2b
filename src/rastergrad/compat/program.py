# SPDX-License-Identifier: MIT
"""Programs run as `python PROGRAM` or `python -m MODULE` would run them."""

import builtins
import importlib.util
import io
import os
import runpy
import sys
import zipfile
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from types import ModuleType, TracebackType
from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))


def run_script(path: str, arguments: Sequence[str]) -> None:
    """Run a file, or a folder or archive with a `__main__.py`, as `__main__`."""
    sys.argv[:] = [path, *arguments]
    place = os.path.abspath(path)
    packed = os.path.isdir(place) or zipfile.is_zipfile(place)
    if not getattr(sys.flags, "safe_path", False):  # since Python 3.11
        sys.path[0] = place if packed else os.path.dirname(os.path.realpath(place))
    _hide_own_frames()
    if packed:
        runpy.run_path(path, run_name="__main__")
        return
    try:
        with io.open_code(place) as file:
            source = file.read()
    except OSError as error:
        sys.stderr.write(
            f"{sys.executable}: can't open file {place!r}: [Errno {error.errno}] {error.strerror}\n"
        )
        sys.exit(2)
    # Stays `__main__` to the end: what runs at exit and what is pickled looks there.
    main = ModuleType("__main__")
    loader = SourceFileLoader("__main__", place)
    main.__dict__.update(__file__=place, __cached__=None, __builtins__=builtins, __loader__=loader)
    sys.modules["__main__"] = main
    exec(compile(source, place, "exec", dont_inherit=True), main.__dict__)


def run_module(name: str, arguments: Sequence[str]) -> None:
    """Run a module, or a package with a `__main__`, as `__main__`."""
    sys.argv[:] = ["-m", *arguments]
    _hide_own_frames()
    try:
        found = importlib.util.find_spec(name)
    except ImportError as error:
        what = f"{name!r} ({type(error).__name__}: {error})"
        sys.exit(f"{sys.executable}: Error while finding module specification for {what}")
    if found is None:
        sys.exit(f"{sys.executable}: No module named {name}")
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _hide_own_frames() -> None:
    """Tracebacks begin with the program's own frames. A hook that the program sets wins."""
    shown = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> Any:
        while trace is not None and _is_ours(trace):
            trace = trace.tb_next
        shown(kind, error.with_traceback(trace), trace)

    sys.excepthook = hook


def _is_ours(trace: TracebackType) -> bool:
    frame = trace.tb_frame
    file = frame.f_code.co_filename
    return os.path.dirname(file) == _HERE or frame.f_globals.get("__name__") == "runpy"
