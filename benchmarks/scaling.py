# SPDX-License-Identifier: MIT
"""How time and memory grow: `python -m benchmarks.scaling [--quick]`. Each point is measured in a process of
its own: the median time of a call, and by how much memory at its peak exceeds what lay there before.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import rastergrad as rg
from testing import scenes

from . import results
from .bench_step import Step
from .memory import peak_bytes, reset_peak, resident_bytes
from .scene import camera, seen

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Setting:
    """One point; the curves change one number each."""

    operation: str
    triangles: int = 10_000
    side: int = 512
    batch: int = 1
    channels: int = 3
    threads: int = 2


@dataclass(frozen=True)
class Curve:
    """Values of one number, on one operation or more."""

    over: str
    values: tuple[int, ...]
    operations: tuple[str, ...] = ("rasterize", "step")


FULL = (
    Curve("triangles", (1_000, 10_000, 100_000, 1_000_000, 4_000_000)),
    Curve("side", (128, 256, 512, 1024, 2048, 4096)),
    Curve("batch", (1, 4, 16, 64)),
    Curve("channels", (1, 2, 4, 8, 16, 32, 64), ("interpolate", "texture")),
    Curve("threads", tuple(range(1, (os.cpu_count() or 1) + 1))),
)
QUICK = tuple(Curve(c.over, c.values[:3], c.operations) for c in FULL)


def operation(s: Setting) -> Callable[[], object]:
    """A call with everything that it needs ready."""
    size = (s.side, s.side)
    mesh = scenes.sphere(s.triangles)
    if s.operation == "rasterize":
        pos = mesh.clip(camera())[None].expand(s.batch, -1, -1).contiguous()
        return lambda: rg.rasterize(pos, mesh.tri, size)
    scene = seen(mesh, camera(), s.side)
    if s.operation == "step":
        step = Step(scene, batch=s.batch)
        return step.run
    generator = torch.Generator().manual_seed(0)
    if s.operation == "interpolate":
        attr = torch.rand(1, len(mesh.pos), s.channels, generator=generator).requires_grad_()

        def interpolate() -> object:
            out, _ = rg.interpolate(attr, scene.rast, mesh.tri)
            return torch.autograd.grad(out, attr, torch.ones_like(out))

        return interpolate
    uv, uv_da = rg.interpolate(scene.uv, scene.rast, mesh.tri, scene.rast_db, "all")
    tex = torch.rand(1, 512, 512, s.channels, generator=generator).requires_grad_()

    def texture() -> object:
        out = rg.texture(tex, uv, uv_da)
        return torch.autograd.grad(out, tex, torch.ones_like(out))

    return texture


def measured(s: Setting, budget_s: float) -> dict[str, Any]:
    """In this process: {"ms", "bytes"}."""
    torch.set_num_threads(s.threads)
    # Code that is loaded by a first call is no memory that a call needs.
    operation(Setting(s.operation, triangles=100, side=16, threads=s.threads))()
    call = operation(s)
    rg.release_memory()
    reset_peak()
    before = resident_bytes()
    call()
    peak = peak_bytes() - before
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - start < budget_s and len(times) < 30):
        begin = time.perf_counter()
        call()
        times.append((time.perf_counter() - begin) * 1e3)
    return {"ms": statistics.median(times), "bytes": peak}


def point(s: Setting, budget_s: float) -> dict[str, Any]:
    """In a process of its own. One that fails, because memory is out perhaps, is a point without figures."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--point", json.dumps(vars(s))]
    done = subprocess.run(
        [*command, "--budget", str(budget_s)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"failed": f"status {done.returncode}: {last}"}
    return json.loads(done.stdout)


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Slope of the line through the upper half of the points, both axes logarithmic: the lower half shows
    what a call costs at least.
    """
    pairs = [(math.log(a), math.log(b)) for a, b in zip(x, y, strict=True)][(len(x) - 1) // 2 :]
    mean_x, mean_y = (statistics.fmean(values) for values in zip(*pairs, strict=True))
    spread = sum((a - mean_x) ** 2 for a, _ in pairs)
    return sum((a - mean_x) * (b - mean_y) for a, b in pairs) / spread if spread else math.nan


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three small points for each curve")
    parser.add_argument(
        "--only", choices=[c.over for c in FULL], action="append", help="one curve; repeatable"
    )
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    parser.add_argument("--budget", type=float, default=1.0, help="seconds of timing for each point")
    args = parser.parse_args(arguments)
    if args.point:
        print(json.dumps(measured(Setting(**json.loads(args.point)), args.budget)))
        return
    curves = []
    for curve in QUICK if args.quick else FULL:
        if args.only and curve.over not in args.only:
            continue
        for name in curve.operations:
            curves.append(_curve(curve.over, name, curve.values, args.budget))  # noqa: PERF401  # as they come
    path = args.out or results.path_for(results.processor(), "scaling")
    new = {"scaled_on": results.machine((Setting.threads,), Setting.side), "curves": curves}
    before = json.loads(path.read_text(encoding="utf-8")) if args.only and path.exists() else None
    results.write(path, merged(before, new))
    print(f"{len(curves)} curves: {os.path.relpath(path)}")


def merged(old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """New curves in the places of old ones, if both were measured alike; else the new ones."""
    if old is None or old["scaled_on"] != new["scaled_on"]:
        return new
    fresh = {(c["over"], c["operation"]): c for c in new["curves"]}
    kept = [fresh.pop((c["over"], c["operation"]), c) for c in old["curves"]]
    return {**new, "curves": kept + list(fresh.values())}


def _curve(over: str, name: str, values: Sequence[int], budget_s: float) -> dict[str, Any]:
    points = []
    for value in values:
        found = {over: value, **point(Setting(name, **{over: value}), budget_s)}
        points.append(found)
        figures = found.get("failed") or f"{found['ms']:9.3f} ms {found['bytes'] / 1e6:9.1f} MB"
        print(f"{name:12s} {value:>9,} {over:10s} {figures}", flush=True)
    good = [p for p in points if "failed" not in p]
    x = [p[over] for p in good]
    fitted = {
        what: exponent(x, [max(p[what], 1) if what == "bytes" else p[what] for p in good])
        for what in ("ms", "bytes")
    }
    print(f"{name:12s} over {over}: time ~ {over}^{fitted['ms']:.2f}, memory ~ {over}^{fitted['bytes']:.2f}")
    return {"operation": name, "over": over, "points": points, "exponents": fitted}


if __name__ == "__main__":
    main()
