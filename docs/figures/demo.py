# SPDX-License-Identifier: MIT
"""The cube experiment, cut down to seconds."""

from functools import lru_cache
from pathlib import Path

from rastergrad.demo.cube import Fit, fit
from rastergrad.demo.figures import plot_convergence, plot_shapes

REPEATS = 4


@lru_cache(maxsize=1)
def _fits(side: int) -> list[Fit]:
    """Four resolutions; 1,024 iterations at the size of the pages."""
    iterations = 4 * side
    keep = sorted({0, min(100, iterations), iterations})
    return [fit("continuous", pixels, iterations, range(REPEATS), keep=keep) for pixels in (2, 4, 8, 16)]


def shapes(path: Path, side: int) -> None:
    plot_shapes(path, _fits(side))


def convergence(path: Path, side: int) -> None:
    plot_convergence(path, _fits(side))


FIGURES = {"demo_shapes": shapes, "demo_convergence": convergence}
