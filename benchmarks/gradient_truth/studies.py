# SPDX-License-Identifier: MIT
"""Two questions beyond the table: does a gradient survive dense meshes, and is its size ever far off?"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from .measure import Measurement, measure
from .methods import Method
from .records import SMOOTH, record
from .scenes import CLOSED, SIZE, Scene, ball, scene

ONE_LOSS = (SMOOTH,)


@dataclass(frozen=True)
class Density:
    """A method on spheres of one density at one resolution: means over poses."""

    method: str
    triangles: int
    size: int  # px, side of the image
    cosine: float
    relative: float
    gain: float

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def densities(
    methods: Sequence[Method],
    *,
    levels: Sequence[int] = (1, 2, 3, 4, 5),
    sizes: Sequence[int] = (48, 96, 192, 384),
    poses: int = 3,
) -> list[Density]:
    """Spheres of 20 * 4^level triangles at several resolutions."""
    found = []
    for level in levels:
        for size in sizes:
            scenes = [ball(level, pose) for pose in range(poses)]
            for method in methods:
                measured = [_measured(s, method, size) for s in scenes]
                cosine, relative, gain = (
                    float(np.mean([m.mean(SMOOTH, "place", figure) for m in measured]))
                    for figure in ("cosine", "relative", "gain")
                )
                found.append(Density(method.name, 20 * 4**level, size, cosine, relative, gain))
    return found


@dataclass(frozen=True)
class Spread:
    """How far the size of a method's gradients is from the truth, over random poses of closed scenes."""

    method: str
    poses: int
    least_gain: float
    median_gain: float
    greatest_gain: float
    greatest_length: float  # |found| / |true|: a gain hides what is orthogonal to the truth
    non_finite: int

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def spreads(methods: Sequence[Method], poses: int, *, scenes: Sequence[str] = CLOSED) -> list[Spread]:
    """So many random poses of the closed scenes in turn; none of them is in the table."""
    posed = [scene(scenes[k % len(scenes)], 1000 + k // len(scenes)) for k in range(poses)]
    found = []
    for method in methods:
        measured = [_measured(s, method, SIZE) for s in posed]
        gains = [m.mean(SMOOTH, "place", "gain") for m in measured]
        lengths = [m.mean(SMOOTH, "place", "length") for m in measured]
        non_finite = sum(c.non_finite for m in measured for c in m.losses)
        found.append(
            Spread(
                method.name,
                poses,
                min(gains),
                float(np.median(gains)),
                max(gains),
                max(lengths),
                non_finite,
            )
        )
    return found


def _measured(posed: Scene, method: Method, size: int) -> Measurement:
    # Fewer panels a row serve larger images, whose rows are thinner: 8 at 48 px, where the error is 1e-4.
    truth = record(posed, size, losses=ONE_LOSS, panels=max(1, 8 * SIZE / size))
    return measure(posed, truth, method, size, losses=ONE_LOSS)


def densities_markdown(found: Sequence[Density]) -> str:
    """Gains, a row for each mesh and resolution."""
    methods = list(dict.fromkeys(d.method for d in found))
    lines = [
        "Gain of the gradient by place, spheres",
        "",
        "| triangles | pixels | " + " | ".join(methods) + " |",
        "|---:|---:|" + "---|" * len(methods),
    ]
    for triangles, size in dict.fromkeys((d.triangles, d.size) for d in found):
        gains = [
            next(d.gain for d in found if (d.method, d.triangles, d.size) == (method, triangles, size))
            for method in methods
        ]
        lines.append(f"| {triangles} | {size} | " + " | ".join(f"{gain:.3f}" for gain in gains) + " |")
    return "\n".join(lines)


def spreads_markdown(found: Sequence[Spread]) -> str:
    """A row for each method."""
    lines = [
        f"Gradient by place over {found[0].poses} random poses of closed scenes",
        "",
        "| method | least gain | median gain | greatest gain | greatest length | not finite |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {s.method} | {s.least_gain:.3f} | {s.median_gain:.3f} | {s.greatest_gain:.3f} | "
        f"{s.greatest_length:.3f} | {s.non_finite} |"
        for s in found
    ]
    return "\n".join(lines)
