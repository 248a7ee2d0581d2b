# SPDX-License-Identifier: MIT
"""`python -m benchmarks.opengl`: rasterize with OpenGL against the CPU's kernels, in numbers and in time.

Spheres of 1,000 to 100,000 triangles on images of 256 to 2048 pixels a side. For each: the share of pixels
that show another triangle and whether all of them lie within 1/16 pixel of an edge; the largest differences
of u and v and, relative to the pixel's largest, of the derivatives, where both show the same; milliseconds
with read-back. Exit status 1 if a difference is larger than it may be. The other llvmpipe, in the table of
`python -m benchmarks`, draws half as many channels and computes no derivatives.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch

import rastergrad as rg
from rastergrad.core import opengl
from testing import scenes, with_opengl

from .scene import camera, seen

TRIANGLES, SIDES = (1_000, 10_000, 100_000), (256, 512, 1024, 2048)
LIMITS = {"ids": 1e-5, "uv": 1e-4, "db": 1e-3}
HEAD = "triangles  side  other ids at edges     u, v       db   OpenGL      CPU"


def main(argv: list[str] | None = None) -> int:
    """Print the table; 1 if a limit is passed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.opengl", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--triangles", type=_numbers, default=TRIANGLES, metavar="N,N,...")
    parser.add_argument(
        "--sides", type=_numbers, default=SIDES, metavar="N,N,...", help="of the images, in pixels"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is shown; 0 times nothing")
    options = parser.parse_args(argv)
    with opengl.context(torch.device("cpu")) as context:
        print(f"{context.renderer}, {context.version}; {torch.get_num_threads()} threads for the CPU")
    print(HEAD)
    well = [_row(n, side, options.rounds) for n in options.triangles for side in options.sides]
    return 0 if all(well) else 1


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _row(triangles: int, side: int, rounds: int) -> bool:
    scene = seen(scenes.sphere(triangles), camera(), side)
    size = (side, side)
    rast, rast_db = got = rg.rasterize(scene.pos, scene.tri, size, backend="opengl")
    same = rast[..., 3] == scene.rast[..., 3]
    ids = float((~same).float().mean())
    # A pixel or two of a small image are no share.
    at_edges = bool(with_opengl.doubtful(got, (scene.rast, scene.rast_db))[~same].all())
    uv = float((rast - scene.rast)[same][:, :2].abs().max())
    largest = scene.rast_db[same].abs().amax(1, keepdim=True).clamp_min(1e-30)
    db = float(((rast_db - scene.rast_db)[same].abs() / largest).max())
    ms = [
        _median(lambda backend=backend: rg.rasterize(scene.pos, scene.tri, size, backend=backend), rounds)
        for backend in ("opengl", "cpu")
    ]
    told = " ".join(f"{value:8.2f}" if value is not None else f"{'':8}" for value in ms)
    print(
        f"{triangles:9,} {side:5} {ids:10.1e} {'yes' if at_edges else 'NO':>8} {uv:8.1e} {db:8.1e} {told}",
        flush=True,
    )
    return at_edges and ids <= max(LIMITS["ids"], 1.5 / side**2) and uv <= LIMITS["uv"] and db <= LIMITS["db"]


def _median(run: Callable[[], object], rounds: int) -> float | None:
    if rounds <= 0:
        return None
    times = []
    for _ in range(rounds + 1):  # the first warms up
        started = time.perf_counter()
        run()
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times[1:])


if __name__ == "__main__":
    sys.exit(main())
