# SPDX-License-Identifier: MIT
"""Adjoints in formulas.h against dual numbers, in C++: see tests/native/."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMPILER = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
# Formulas of one name in two rooms keep them in programs of their own.
PROGRAMS = {"adjoints_image": 5, "adjoints_outline": 5, "adjoints_rasterize": 5, "adjoints_texture": 10}


@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_adjoint_equals_the_jacobian_by_dual_numbers(program: str, tmp_path: Path) -> None:
    folders = ROOT / "testing", ROOT / "src" / "rastergrad", ROOT / "src" / "rastergrad" / "core"
    source = ROOT / "tests" / "native" / f"{program}.cpp"
    built = tmp_path / program
    flags = ["-std=c++20", "-O1", *(f"-I{f}" for f in folders)]
    subprocess.run([str(COMPILER), *flags, str(source), "-o", str(built)], check=True)
    done = subprocess.run([built], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("good") == PROGRAMS[program], done.stdout
