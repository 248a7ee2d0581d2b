# SPDX-License-Identifier: MIT
"""Medians over poses, as Markdown tables and as JSON."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .measure import Measurement
from .methods import METHODS
from .records import MOVED, NOISE, SMOOTH
from .surface import Array

Figures = tuple[float, ...]


@dataclass(frozen=True)
class Table:
    """One figure, or a pair, of every scene and method."""

    key: str  # its name in the JSON
    title: str
    read: Callable[[Measurement], Figures]
    shape: str  # of a cell


def _agreement(key: str, title: str, space: str, loss: str) -> Table:
    def read(m: Measurement) -> Figures:
        return m.mean(loss, space, "cosine"), m.mean(loss, space, "relative")

    return Table(key, f"{title}: cosine / relative L2", read, "{:.3f} / {:.2f}")


TABLES = (
    _agreement("place", "Gradient by place of the vertices, smooth weights", "place", SMOOTH),
    Table("gain", "Its gain", lambda m: (m.mean(SMOOTH, "place", "gain"),), "{:.3f}"),
    _agreement("place_moved", "By place, squared difference from a moved scene", "place", MOVED),
    _agreement("place_noise", "By place, white noise as weights", "place", NOISE),
    _agreement("depth", "Gradient by depth at a fixed place, smooth weights", "depth", SMOOTH),
    _agreement("affine", "Gradient by 12 affine degrees of freedom a body, smooth weights", "affine", SMOOTH),
    Table("image", "Image, root mean square error", lambda m: (m.image_rmse,), "{:.4f}"),
)


def medians(measurements: Sequence[Measurement], table: Table) -> dict[str, dict[str, Figures]]:
    """For each method the median over poses of each scene, and their mean over scenes as "mean".

    A pose counts with the mean over its weights of the table's kind.
    """
    scenes, methods = (dict.fromkeys(getattr(m, by) for m in measurements) for by in ("scene", "method"))
    found: dict[str, dict[str, Figures]] = {}
    for method in methods:
        of_scene: dict[str, Figures] = {}
        for scene in scenes:
            poses = [table.read(m) for m in measurements if m.scene == scene and m.method == method]
            of_scene[scene] = _rounded(np.median(poses, axis=0))
        found[method] = {**of_scene, "mean": _rounded(np.mean(list(of_scene.values()), axis=0))}
    return found


def _rounded(figures: Array) -> Figures:
    return tuple(round(float(v), 5) for v in figures)


def markdown(measurements: Sequence[Measurement]) -> str:
    """All tables, and below them what qualifies them."""
    blocks = []
    for table in TABLES:
        found = medians(measurements, table)
        lines = [
            f"**{table.title}**",
            "",
            "| scene | " + " | ".join(METHODS[method].title for method in found) + " |",
            "|---|" + "---|" * len(found),
        ]
        for scene in next(iter(found.values())):
            cells = [table.shape.format(*of_scene[scene]) for of_scene in found.values()]
            lines.append(f"| {scene} | " + " | ".join(cells) + " |")
        blocks.append("\n".join(lines))
    about = qualification(measurements)
    blocks.append(
        f"Medians over {about['poses']:.0f} poses. Error of the truth, relative L2: median "
        f"{about['truth_error_median']:.0e}, at most {about['truth_error_max']:.0e}. Elements of gradients "
        f"that are not finite: {about['non_finite']:.0f}."
    )
    return "\n\n".join(blocks)


def qualification(measurements: Sequence[Measurement]) -> dict[str, float]:
    """How many poses, how exact the truth is, and how many elements of gradients are NaN or infinite."""
    errors = [m.truth_error for m in measurements]
    return {
        "poses": len({m.pose for m in measurements}),
        "truth_error_median": float(np.median(errors)),
        "truth_error_max": max(errors),
        "non_finite": sum(c.non_finite for m in measurements for c in m.losses),
    }
