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


def test_adjoint_formulas_leave_no_report(tmp_path: Path) -> None:
    """The runner of test_adjoints, instrumented."""
    program = tmp_path / "adjoints"
    folders = "testing", "src/rastergrad", "src/rastergrad/core"
    subprocess.run(
        ["g++", "-std=c++20", "-O1", "-g1", *sanitized.FLAGS]
        + [f"-I{sanitized.ROOT / f}" for f in folders]
        + [str(sanitized.ROOT / "tests" / "native" / "adjoints.cpp"), "-o", str(program)],
        check=True,
    )
    survives(subprocess.run([program], env=sanitized.environment(), capture_output=True, text=True))


@pytest.mark.parametrize("fault", ["outside", "undefined"])
def test_a_fault_in_a_kernel_is_reported(native: Path, fault: str) -> None:
    """The instrumented kernels do look: at a pixel behind the last one, at a misaligned index."""
    done = sanitized.run(native, "testing.faults", fault)
    assert REPORT.search(done.stdout + done.stderr), done.stdout + done.stderr
    assert done.returncode == sanitized.EXIT_CODE
    assert "not noticed" not in done.stdout
