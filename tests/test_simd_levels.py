# SPDX-License-Identifier: MIT
"""Every instruction set gives the same bits: all primitives, forward and backward, float32 and float64."""

import pytest

from testing import levels


@pytest.mark.skipif(len(levels.LEVELS) < 2, reason="this build and processor offer a single instruction set")
def test_results_are_bitwise_equal_on_all_instruction_sets() -> None:
    found = {level: levels.run(level, "testing.fingerprints").splitlines() for level in levels.LEVELS}
    for level, lines in found.items():
        assert lines[0] == f"level: {level}"
    want = dict(line.split(": ") for line in found[levels.LEVELS[0]][1:])
    assert len(want) > 150
    for level in levels.LEVELS[1:]:
        got = dict(line.split(": ") for line in found[level][1:])
        different = [name for name in want if got.get(name) != want[name]]
        assert not different, f"{level} and {levels.LEVELS[0]} differ in {different}"
