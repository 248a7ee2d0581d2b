# SPDX-License-Identifier: MIT
"""Adjoints in formulas.h against dual numbers, in C++: see tests/native/adjoints.cpp."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMPILER = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
def test_every_adjoint_equals_the_jacobian_by_dual_numbers(tmp_path: Path) -> None:
    program = tmp_path / "adjoints"
    folders = ROOT / "testing", ROOT / "src" / "rastergrad", ROOT / "src" / "rastergrad" / "core"
    source = ROOT / "tests" / "native" / "adjoints.cpp"
    subprocess.run(
        [str(COMPILER), "-std=c++20", "-O1", *(f"-I{f}" for f in folders), str(source), "-o", str(program)],
        check=True,
    )
    done = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("good") >= 5, done.stdout
