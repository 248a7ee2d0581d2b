# SPDX-License-Identifier: MIT
"""The library under AddressSanitizer and UndefinedBehaviorSanitizer: built apart, loaded in place of the
installed one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "sanitize"
# Of x86-64, the oldest instruction set: fewest intrinsics, whose memory accesses the sanitizers do not see.
LEVEL = {"x86_64": "v2", "AMD64": "v2", "aarch64": "neon"}.get(os.uname().machine, "baseline")
#: For programs besides the library, as in CMakeLists.txt
FLAGS = ("-fsanitize=address,undefined,float-cast-overflow", "-fno-omit-frame-pointer")
#: What a report ends the process with
EXIT_CODE = 86

# Run as `python -c PRELUDE native-module module arguments...`
PRELUDE = """
import importlib.util, runpy, sys
spec = importlib.util.spec_from_file_location("rastergrad.core._native", sys.argv[1])
sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[spec.name])
name, sys.argv = sys.argv[2], sys.argv[2:]
runpy.run_module(name, run_name="__main__", alter_sys=True)
"""


def missing() -> str | None:
    """Why there can be no sanitized library here."""
    if shutil.which("g++") is None:
        return "needs g++"
    if not _runtime("libasan.so") or not _runtime("libubsan.so"):
        return "needs the sanitizers' runtime libraries of gcc (Debian: in libgcc-dev)"
    return None


def _runtime(name: str) -> Path | None:
    found = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    path = Path(found.stdout.strip())  # the bare name where gcc has none
    return path.resolve() if path.is_absolute() and path.exists() else None


def _tool(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f"{name} is missing: `pip install {name}`"
    return found


def build() -> Path:
    """Compile what has changed; returns the Python module, which finds the library beside it."""
    settings = {
        "CMAKE_BUILD_TYPE": "None",
        "CMAKE_C_COMPILER": "gcc",
        "CMAKE_CXX_COMPILER": "g++",
        "CMAKE_MAKE_PROGRAM": _tool("ninja"),
        "Python_EXECUTABLE": sys.executable,
        "RASTERGRAD_SANITIZE": "ON",
    }
    environment = {**os.environ, "RASTERGRAD_ISAS": LEVEL}
    configure = [_tool("cmake"), "-S", ROOT, "-B", FOLDER, "-G", "Ninja"]
    for command in (
        [*configure, *(f"-D{key}={value}" for key, value in settings.items())],
        [_tool("cmake"), "--build", FOLDER],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    (module,) = FOLDER.glob("_native*.so")
    return module


def environment() -> dict[str, str]:
    """For a process that loads the sanitized library, or is one of its programs."""
    return {
        **{k: v for k, v in os.environ.items() if k != "RASTERGRAD_SIMD"},
        # Python and torch live until the process ends: leaks are for the memory tests to find.
        # A request for more memory than there is has to be refused, not reported.
        "ASAN_OPTIONS": f"detect_leaks=0:allocator_may_return_null=1:exitcode={EXIT_CODE}",
        "UBSAN_OPTIONS": f"print_stacktrace=1:halt_on_error=1:exitcode={EXIT_CODE}",
    }


def run(native: Path, module: str, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """`python -m module arguments` on the sanitized library."""
    # Python is not sanitized, so the runtime has to be there first; and it looks up the C++ library's throw
    # when it starts, which must be there by then.
    preload = [_runtime("libasan.so"), _runtime("libubsan.so"), _runtime("libstdc++.so")]
    return subprocess.run(
        [sys.executable, "-c", PRELUDE, str(native), module, *arguments],
        cwd=ROOT,
        env={**environment(), "LD_PRELOAD": " ".join(str(p) for p in preload if p)},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
