# SPDX-License-Identifier: MIT
"""The cube experiment from options to files, with progress on the terminal."""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

import rastergrad as rg
from rastergrad.demo.cube import COLORINGS, Fit, fit
from rastergrad.demo.figures import median, plot_convergence, plot_shapes, write_curves, write_mesh
from rastergrad.scene.extra import require

RESULTS = Path("results/demo/cube")
MESH = "cube.ply"  # the fitted cube at the highest resolution


@dataclass(frozen=True)
class CubeOptions:
    """Settings of one run of the experiment."""

    resolutions: tuple[int, ...] = (2, 4, 8, 16)
    iterations: int = 5000
    repeats: int = 16
    colorings: tuple[str, ...] = COLORINGS
    seed: int = 0
    out: Path = RESULTS
    backend: str | None = None

    def quick(self) -> "CubeOptions":
        """The same experiment cut down to about a minute on two cores."""
        return replace(self, iterations=2500, repeats=8)


def run_cube(options: CubeOptions) -> list[str]:
    """Run all fits and write curves.json, convergence.png, cube.ply, and a picture of shapes per colouring.

    Returns:
        Lines for the user: a table, then what happened and where the results lie.
    Errors:
        MissingExtraError before any work; OSError when `options.out` cannot be written.
    """
    require("matplotlib.figure", "drawing the demo's figures")
    require("trimesh", "writing the demo's mesh")
    tqdm = require("tqdm", "showing progress").tqdm
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    keep = sorted({0, *(n for n in (100, 1000) if n < options.iterations), options.iterations})
    seeds = range(options.seed, options.seed + options.repeats)
    jobs = [(coloring, resolution) for coloring in options.colorings for resolution in options.resolutions]
    fits: list[Fit] = []
    with tqdm(total=len(jobs) * options.iterations, unit="it", file=sys.stderr) as bar:

        def show(step: int, distance: torch.Tensor) -> None:
            bar.update()
            if step % 100 == 0:
                bar.set_postfix_str(f"distance {distance.median():.3f}")

        for coloring, resolution in jobs:
            bar.set_description(f"{coloring} {resolution} x {resolution}")
            fits.append(
                fit(
                    coloring,
                    resolution,
                    options.iterations,
                    seeds,
                    backend=options.backend,
                    keep=keep,
                    progress=show,
                )
            )
    settings = {name: value for name, value in asdict(options).items() if name != "out"}
    write_curves(options.out / "curves.json", fits, {"version": rg.__version__, **settings})
    plot_convergence(options.out / "convergence.png", fits)
    for coloring in options.colorings:
        same = [found for found in fits if found.coloring == coloring]
        plot_shapes(options.out / f"shapes_{coloring}.png", same, options.backend)
    write_mesh(options.out / MESH, max(fits, key=lambda found: found.resolution))
    return _report(fits, options, time.perf_counter() - started)


def _report(fits: Sequence[Fit], options: CubeOptions, seconds: float) -> list[str]:
    lines = [f"{'colours':<14}{'pixels':>8}{'median distance':>18}{'best':>10}{'converged':>12}"]
    for found in fits:
        final = found.distance[-1]
        side = f"{found.resolution} x {found.resolution}"
        count = f"{int(found.converged.sum())} of {len(final)}"
        lines.append(f"{found.coloring:<14}{side:>8}{median(final):>18.4f}{min(final):>10.4f}{count:>12}")
    names = [
        "convergence.png",
        *(f"shapes_{coloring}.png" for coloring in options.colorings),
        MESH,
        "curves.json",
    ]
    total = sum(int(found.converged.sum()) for found in fits)
    lines.append(
        f"Cube demo: {total} of {len(fits) * options.repeats} runs of {options.iterations:,} iterations "
        f"found the cube, in {seconds:.0f} s. Results: {options.out}/ ({', '.join(names)})"
    )
    return lines
