# SPDX-License-Identifier: MIT
"""`python -m benchmarks.opengl`: rasterize with OpenGL against the usual kernels, in numbers and in time.

Spheres of 1,000 to 100,000 triangles on images of 256 to 2048 pixels a side. For each: the share of pixels
that show another triangle and whether all of them lie within 1/16 pixel of an edge; the largest differences
of u and v and, relative to the pixel's largest, of the derivatives, where both show the same; milliseconds,
on the CPU with read-back. Exit status 1 if a difference is larger than it may be. The other llvmpipe, in the
table of `python -m benchmarks`, draws half as many channels and computes no derivatives.

`--device cuda` measures on an NVIDIA GPU: with memory that OpenGL and CUDA share, through the CPU's memory,
and the CUDA kernels, all as a program calls them, in bursts of calls between two synchronisations.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import rastergrad as rg
from rastergrad.core import opengl
from rastergrad.ops.rasterize.opengl import Renderer
from testing import scenes, with_opengl

from .results import write
from .scene import camera

TRIANGLES, SIDES = (1_000, 10_000, 100_000), (256, 512, 1024, 2048)
LIMITS = {"ids": 1e-5, "uv": 1e-4, "db": 1e-3}
INTEROP = "RASTERGRAD_GL_INTEROP"
# Column, backend, value of INTEROP.
CPU_WAYS = (("OpenGL", "opengl", None), ("CPU", "cpu", None))
GPU_WAYS = (("OpenGL", "opengl", None), ("by host", "opengl", "0"), ("CUDA", "cuda", None))
BURST = 10  # calls between two synchronisations; on a CPU a single one

Way = tuple[str, str, str | None]
Row = dict[str, Any]


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
    parser.add_argument("--device", default="cpu", help="where the tensors are: cpu, cuda or cuda:N (cpu)")
    parser.add_argument("--out", type=Path, metavar="JSON", help="file to write as well")
    options = parser.parse_args(argv)
    device = torch.device(options.device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            parser.error("--device cuda: torch sees no CUDA device")
        device = torch.device("cuda", device.index or 0)
    elif device.type != "cpu":
        parser.error(f"--device must be cpu, cuda or cuda:N; got {options.device!r}")
    with opengl.context(device) as context:
        content: dict[str, Any] = {
            "opengl": {
                "renderer": context.renderer,
                "version": context.version,
                "tensors": str(device),
                "crossing": type(context.kept(Renderer)._way(device)).__name__,
                "threads": torch.get_num_threads(),
            },
            "rows": [],
        }
    told = content["opengl"]
    print(
        f"{told['renderer']}, {told['version']}; tensors on {device} cross by {told['crossing']}; "
        f"{told['threads']} threads for the CPU"
    )
    ways = CPU_WAYS if device.type == "cpu" else GPU_WAYS
    names = " ".join(f"{name:>8}" for name, *_ in ways)
    print(f"triangles  side  other ids at edges     u, v       db {names}")
    for count in options.triangles:
        for side in options.sides:
            row = _row(count, side, options.rounds, device, ways)
            content["rows"].append(row)
            print(_line(row), flush=True)
            if options.out is not None:
                write(options.out, content)
    return 0 if all(row["well"] for row in content["rows"]) else 1


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _row(triangles: int, side: int, rounds: int, device: torch.device, ways: tuple[Way, ...]) -> Row:
    mesh = scenes.sphere(triangles)
    pos, tri = mesh.clip(camera())[None].contiguous().to(device), mesh.tri.to(device)
    size = (side, side)
    rast, rast_db = got = rg.rasterize(pos, tri, size, backend="opengl")
    want, want_db = rg.rasterize(pos, tri, size)
    same = rast[..., 3] == want[..., 3]
    ids = float((~same).float().mean())
    # A pixel or two of a small image are no share.
    at_edges = bool(with_opengl.doubtful(got, (want, want_db))[~same].all())
    uv = float((rast - want)[same][:, :2].abs().max())
    largest = want_db[same].abs().amax(1, keepdim=True).clamp_min(1e-30)
    db = float(((rast_db - want_db)[same].abs() / largest).max())
    close = ids <= max(LIMITS["ids"], 1.5 / side**2) and uv <= LIMITS["uv"] and db <= LIMITS["db"]
    return {
        "triangles": triangles,
        "side": side,
        "other_ids": ids,
        "at_edges": at_edges,
        "uv": uv,
        "db": db,
        "ms": _medians(pos, tri, size, ways, rounds),
        "well": at_edges and close,
    }


def _line(row: Row) -> str:
    told = " ".join(f"{'' if value is None else format(value, '.3g'):>8}" for value in row["ms"].values())
    return (
        f"{row['triangles']:9,} {row['side']:5} {row['other_ids']:10.1e} "
        f"{'yes' if row['at_edges'] else 'NO':>8} {row['uv']:8.1e} {row['db']:8.1e} {told}"
    )


def _medians(
    pos: Tensor, tri: Tensor, size: tuple[int, int], ways: tuple[Way, ...], rounds: int
) -> dict[str, float | None]:
    """Milliseconds of a call, the ways in turn."""
    times: dict[str, list[float]] = {name: [] for name, *_ in ways}
    on_gpu = pos.device.type == "cuda"
    burst = BURST if on_gpu else 1
    for number in range(rounds + 1 if rounds > 0 else 0):
        for name, backend, interop in ways:
            with _interop(interop):
                if on_gpu:
                    torch.cuda.synchronize(pos.device)
                started = time.perf_counter()
                for _ in range(burst):
                    rg.rasterize(pos, tri, size, backend=backend)
                if on_gpu:
                    torch.cuda.synchronize(pos.device)
                if number > 0:  # the first warms up
                    times[name].append((time.perf_counter() - started) * 1e3 / burst)
    return {name: round(statistics.median(found), 4) if found else None for name, found in times.items()}


@contextmanager
def _interop(value: str | None) -> Iterator[None]:
    """RASTERGRAD_GL_INTEROP with this value in between; None leaves it."""
    before = os.environ.get(INTEROP)
    if value is not None:
        os.environ[INTEROP] = value
    try:
        yield
    finally:
        if value is not None:
            os.environ.pop(INTEROP)
            if before is not None:
                os.environ[INTEROP] = before


if __name__ == "__main__":
    sys.exit(main())
