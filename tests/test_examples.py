# SPDX-License-Identifier: MIT
"""The example programs run as they stand and do what they say."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_triangle_finds_its_target(capsys: pytest.CaptureFixture[str]) -> None:
    program = EXAMPLES / "01_triangle.py"
    assert len(program.read_text().splitlines()) < 40
    runpy.run_path(str(program), run_name="__main__")
    distances = [float(d) for d in re.findall(r"corners ([\d.]+) away", capsys.readouterr().out)]
    assert distances[0] > 0.4
    assert distances[-1] < 0.001


def test_every_example_has_a_docstring_and_is_tested() -> None:
    names = sorted(p.name for p in EXAMPLES.glob("*.py"))
    tests = Path(__file__).read_text()
    for name in names:
        assert re.match(r"# SPDX.*\n\"\"\"\w", (EXAMPLES / name).read_text()), name
        assert f'"{name}"' in tests, name
