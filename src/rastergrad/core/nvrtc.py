# SPDX-License-Identifier: MIT
"""NVIDIA's run-time compiler: where it is, and CUDA C++ into a program for one architecture."""

import ctypes
import os
import sys
from collections.abc import Sequence
from functools import cache
from importlib import util
from pathlib import Path

import torch

_WINDOWS = sys.platform == "win32"
_MAJORS = (13, 12)  # newest first


class CompileError(RuntimeError):
    """The compiler refused a source; the message is its log."""


class Compiler:
    """A loaded NVRTC library (NVRTC documentation, "User Interface").

    Args:
        path: of the library, or its bare name for what the process or the system's loader knows.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._library = ctypes.CDLL(path)
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        self.version = major.value, minor.value

    def architectures(self) -> list[int]:
        """Compute capabilities that it makes programs for, as 90 for 9.0, ascending."""
        count = ctypes.c_int()
        self._check(self._library.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
        numbers = (ctypes.c_int * count.value)()
        self._check(self._library.nvrtcGetSupportedArchs(numbers))
        return sorted(numbers)

    def compile(self, source: Path, options: Sequence[str], *, ptx: bool = False) -> tuple[bytes, str]:
        """The compiled program (a cubin, or PTX for the driver to finish) and the compiler's log.

        Errors:
            CompileError with the compiler's log, which names files and lines.
        """
        program = ctypes.c_void_p()
        lib = self._library
        text = source.read_bytes()
        made = lib.nvrtcCreateProgram(ctypes.byref(program), text, os.fsencode(source), 0, None, None)
        self._check(made)
        try:
            listed = (ctypes.c_char_p * len(options))(*[os.fsencode(o) for o in options])
            failed = lib.nvrtcCompileProgram(program, len(options), listed)
            log = self._fetch(program, "ProgramLog").rstrip(b"\0").decode(errors="replace").strip()
            if failed:
                raise CompileError(f"{self._words(failed)} in {source}:\n{log}")
            return self._fetch(program, "PTX" if ptx else "CUBIN"), log
        finally:
            lib.nvrtcDestroyProgram(ctypes.byref(program))

    def _fetch(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        text = ctypes.create_string_buffer(max(size.value, 1))
        self._check(getattr(self._library, f"nvrtcGet{what}")(program, text))
        return text.raw[: size.value]

    def _check(self, result: int) -> None:
        if result:
            raise RuntimeError(f"rastergrad: NVRTC ({self.path}): {self._words(result)}")

    def _words(self, result: int) -> str:
        return self._library.nvrtcGetErrorString(result).decode()


@cache
def compiler() -> Compiler:
    """The compiler that torch has loaded, else that of the package nvidia-cuda-nvrtc, else the system's.

    Errors:
        RuntimeError that names the package to install.
    """
    majors = _wanted_majors()
    failures = []
    for path in [*_loaded(majors), *_packaged(majors), *map(_name, majors)]:
        try:
            return Compiler(path)
        except (OSError, AttributeError) as failure:
            failures.append(f"{path}: {failure}")
    package = "nvidia-cuda-nvrtc-cu12" if majors[0] == 12 else f"'nvidia-cuda-nvrtc=={majors[0]}.*'"
    raise RuntimeError(
        "rastergrad: CUDA kernels are compiled at first use by NVRTC, which was not found. "
        f"Install it with: pip install {package}. Tried {'; '.join(failures)}."
    )


def _wanted_majors() -> list[int]:
    """CUDA's major version that torch was built for; any where torch has none."""
    if torch.version.cuda is None:
        return list(_MAJORS)
    return [int(torch.version.cuda.split(".")[0])]


def _name(major: int) -> str:
    return f"nvrtc64_{major}0_0.dll" if _WINDOWS else f"libnvrtc.so.{major}"


def _loaded(majors: Sequence[int]) -> list[str]:
    """Names that the process has loaded already."""
    if _WINDOWS:
        return []
    found = []
    for name in map(_name, majors):
        try:
            ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        except OSError:
            continue
        found.append(name)
    return found


def _packaged(majors: Sequence[int]) -> list[str]:
    """Files of NVIDIA's wheels, which all share the package `nvidia`."""
    spec = util.find_spec("nvidia")
    folders = [] if spec is None else [Path(p) for p in spec.submodule_search_locations or ()]
    inner = "bin" if _WINDOWS else "lib"
    places = {13: ("cu13",), 12: ("cuda_nvrtc",)}
    candidates = (
        folder / place / inner / _name(major)
        for major in majors
        for folder in folders
        for place in places.get(major, ())
    )
    return [str(path) for path in candidates if path.is_file()]
