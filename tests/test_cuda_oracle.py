# SPDX-License-Identifier: MIT
"""The operations' own tests, oracle and properties included, on the GPU's kernels in the emulator."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.mark.parametrize(
    "name", ["rasterize", "interpolate", "texture", "antialias", "antialias_outline", "antialias_visibility"]
)
def test_on_the_kernels_of_a_gpu(name: str) -> None:
    file = TESTS / f"test_{name}.py"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--kernels",
        "emulated",
        "-p",
        "no:cacheprovider",
        str(file),
    ]
    done = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, check=False)
    passed = re.search(r"\d+ passed", done.stdout)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert passed is not None, done.stdout[-500:]
