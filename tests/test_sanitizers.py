# SPDX-License-Identifier: MIT
"""Hostile tensors on a library built with AddressSanitizer and UndefinedBehaviorSanitizer: not one report.

RASTERGRAD_HOSTILE_ROUNDS sets the number of calls; more are for long runs.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from testing import sanitized

pytestmark = pytest.mark.skipif(
    sanitized.missing() is not None, reason=f"no sanitized build: {sanitized.missing()}"
)
REPORT = re.compile(r"ERROR: AddressSanitizer|runtime error:|AddressSanitizer:DEADLYSIGNAL")


@pytest.fixture(scope="module")
def native() -> Path:
    return sanitized.build()


def survives(done: subprocess.CompletedProcess[str]) -> None:
    output = done.stdout + done.stderr
    found = REPORT.search(output)
    assert found is None, output[found.start() : found.start() + 6000]
    assert done.returncode == 0, output[-6000:]


def test_hostile_tensors_leave_no_report(native: Path) -> None:
    rounds = os.environ.get("RASTERGRAD_HOSTILE_ROUNDS", "300")
    done = sanitized.run(native, "testing.hostile", "--rounds", rounds, "--seed", "100000", "--trace")
    survives(done)
    assert f"library: {native}" in done.stdout
    assert f"survived {rounds} rounds" in done.stdout


PROGRAMS = sorted((sanitized.ROOT / "tests" / "native").glob("*.cpp"))


@pytest.mark.parametrize("source", PROGRAMS, ids=lambda path: path.stem)
def test_native_tests_leave_no_report(source: Path, tmp_path: Path) -> None:
    program = tmp_path / source.stem
    folders = "testing", "src/rastergrad", "src/rastergrad/core"
    includes = [f"-I{sanitized.ROOT / f}" for f in folders]
    command = [
        "g++",
        "-std=c++20",
        "-O1",
        "-g1",
        *sanitized.FLAGS,
        *includes,
        str(source),
        "-o",
        str(program),
    ]
    subprocess.run(command, check=True)
    survives(subprocess.run([program], env=sanitized.environment(), capture_output=True, text=True))


@pytest.mark.parametrize("fault", ["outside", "undefined"])
def test_a_fault_in_a_kernel_is_reported(native: Path, fault: str) -> None:
    """The instrumented kernels do look: at a pixel behind the last one, at a misaligned index."""
    done = sanitized.run(native, "testing.faults", fault)
    assert REPORT.search(done.stdout + done.stderr), done.stdout + done.stderr
    assert done.returncode == sanitized.EXIT_CODE
    assert "not noticed" not in done.stdout


def test_vectors_end_where_tensors_do(native: Path) -> None:
    done = sanitized.run(native, "testing.ends")
    survives(done)
    assert "no vector reached beyond a tensor" in done.stdout
