# SPDX-License-Identifier: MIT
"""Gradients of visibility: exact ones beside those of both methods of antialiasing, and where one loses them.

Scenes and truth are those of benchmarks/gradient_truth.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import rastergrad as rg
from benchmarks.gradient_truth import truth
from benchmarks.gradient_truth.measure import Agreement
from benchmarks.gradient_truth.methods import clip_from_camera
from benchmarks.gradient_truth.records import smooth_weight
from benchmarks.gradient_truth.scenes import SIZE, Scene, scene
from benchmarks.gradient_truth.surface import Array, edges_of

from . import sheet

POSES = {"sphere": 7, "torus": 0, "boxes": 7}  # their errors are near the medians over all poses
METHODS = ("pixel_pair", "outline")
PANELS = 8  # of the quadrature, per row of pixels: errors of 1e-4
RED = 0  # the channel in which the two boxes differ most


def _side(side: int) -> int:
    """Pixels of the small images; in figures of the usual size, those of the benchmark."""
    return max(12, side * SIZE // 256)


def _image(posed: Scene, pos: Tensor, height: int, width: int, method: str) -> Tensor:
    """[N, height, width, 3] of N sets of clip-space positions [N, P, 4]."""
    pos = pos[:, torch.from_numpy(posed.place)].float()
    tri = torch.from_numpy(posed.tri)
    rast, _ = rg.rasterize(pos, tri, (height, width))
    color, _ = rg.interpolate(torch.from_numpy(posed.color).float(), rast, tri)
    color = torch.where(rast[..., 3:] > 0, color, torch.from_numpy(posed.background).float())
    return rg.antialias(color, rast, pos, tri, method=method)


def _exact(posed: Scene, size: int) -> Tensor:
    return torch.from_numpy(truth.image(posed.surface(size), size, size, panels=PANELS))


# ---- derivatives of pixels ---------------------------------------------------------------------------------


def _growth(posed: Scene, size: int) -> Array:
    """[P, 3]: how positions move as the scene grows from its centre, by a pixel where that is fastest."""
    outward = posed.position - posed.position.mean(0)
    step = 1e-4
    places = [
        replace(posed, position=posed.position + s * outward).surface(size).vertex[:, :2] for s in (0, step)
    ]
    return outward * step / np.linalg.norm(places[1] - places[0], axis=1).max()


def _change(posed: Scene, size: int, method: str) -> Tensor:
    """[size, size]: the derivative of each pixel by `_growth`, as backward() finds it.

    Each pixel gets an image of its own, which depends on a number of its own; of that image it and its
    neighbours, 3 x 3 pixels, are enough.
    """
    position, growth = torch.from_numpy(posed.position), torch.from_numpy(_growth(posed, size))
    amount = torch.zeros(size * size, 1, 1, dtype=torch.float64, requires_grad=True)
    x, y, z, w = clip_from_camera(position + amount * growth).unbind(-1)
    row, column = (
        n.reshape(-1, 1) for n in torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    )
    x, y = ((size * q + (size - 1 - 2 * n) * w) / 3 for q, n in ((x, column), (y, row)))
    image = _image(posed, torch.stack([x, y, z, w], -1), 3, 3, method)
    (d_amount,) = torch.autograd.grad(image[:, 1, 1, RED].sum(), amount)
    return d_amount.reshape(size, size)


def _true_change(posed: Scene, size: int, step: float = 0.01) -> Tensor:
    growth = _growth(posed, size)
    ends = [_exact(replace(posed, position=posed.position + s * growth), size) for s in (step, -step)]
    return (ends[0] - ends[1])[..., RED] / (2 * step)


def pixels(path: Path, side: int) -> None:
    """How each pixel changes as the scene grows."""
    size = _side(side)
    figure, panels = sheet.grid(len(POSES), 4, width=2.1, height=2.15)
    for line, (name, pose) in zip(panels, POSES.items()):
        posed = scene(name, pose)
        first = line is panels[0]
        sheet.show(line[0], _exact(posed, size).clamp(0, 1), "image, exact" if first else "")
        changes = {"change, exact": _true_change(posed, size)}
        changes.update({method: _change(posed, size, method) for method in METHODS})
        most = float(next(iter(changes.values())).abs().max())
        for panel, (title, change) in zip(line[1:], changes.items()):
            drawn = sheet.show(panel, change, title if first else "", cmap="RdBu_r", vmin=-most, vmax=most)
        figure.colorbar(drawn, ax=line[3], shrink=0.8, pad=0.03).ax.tick_params(labelsize=6)
    sheet.save(figure, path)


# ---- gradients of vertices ---------------------------------------------------------------------------------


def _gradient(posed: Scene, weight: Array, method: str) -> Array:
    """[P, 3]: dL/d(position), L being the sum of weight times image."""
    position = torch.from_numpy(posed.position).requires_grad_()
    image = _image(posed, clip_from_camera(position[None]), *weight.shape[:2], method)[0]
    (d_position,) = torch.autograd.grad((image * torch.from_numpy(weight)).sum(), position)
    return d_position.numpy()


def vertices(path: Path, side: int) -> None:
    """Arrows at the vertices: the gradient of a loss that weighs the image smoothly."""
    size = _side(side)
    weight = smooth_weight(np.random.default_rng(1), size)
    most = float(np.abs(weight.mean(-1)).max())
    box: dict[str, Any] = {"extent": (0, size, 0, size)}
    figure, panels = sheet.grid(len(POSES), 4, width=2.1, height=2.25)
    for line, (name, pose) in zip(panels, POSES.items()):
        posed = scene(name, pose)
        picture, exact = truth.image_and_gradient(posed.surface(size), weight[:, :, None], panels=PANELS)
        pale = torch.from_numpy(0.3 * picture + 0.7).clamp(0, 1)
        found = {"exact": exact[0, :, :2]}
        for method in METHODS:
            found[method] = posed.screen_gradient(_gradient(posed, weight, method), size)[:, :2]
        longest = float(np.linalg.norm(found["exact"], axis=1).max())
        weights = torch.from_numpy(weight.mean(-1))
        sheet.show(line[0], weights, "weights of the loss", cmap="PuOr", vmin=-most, vmax=most, **box)
        for panel, (title, gradient) in zip(line[1:], found.items()):
            if title != "exact":
                title = f"{title}: error {Agreement.of(gradient, found['exact']).relative:.2f}"
            sheet.show(panel, pale, title, **box)
            arrows = _arrows(panel, posed.surface(size).vertex[:, :2], gradient, longest, size)
            if title == "exact":
                label = f"{longest / 2:.2g} per pixel"
                panel.quiverkey(
                    arrows, 0.12, 0.06, longest / 2, label, labelpos="E", fontproperties={"size": 6}
                )
    sheet.save(figure, path)


def _arrows(panel: Any, start: Array, gradient: Array, longest: float, size: int) -> Any:
    """Arrows, of which the longest takes a fifth of the panel; none that would be all head."""
    shown = np.linalg.norm(gradient, axis=1) > 0.05 * longest
    panel.set(xlim=(0, size), ylim=(0, size))
    scale = {"angles": "xy", "scale_units": "xy", "scale": longest / (0.2 * size)}
    return panel.quiver(*start[shown].T, *gradient[shown].T, **scale, color=sheet.BLUE, width=0.008)


# ---- where the pixel pair loses them -----------------------------------------------------------------------


@dataclass(frozen=True)
class Rim:
    """A pixel at the right rim of a surface, whose right neighbour shows background."""

    row: int
    column: int
    triangle: int  # what the pixel shows
    margin: float  # least barycentric coordinate at its centre
    walked: list[int]  # triangles from there to the outline
    end: float  # of the walk, in px from the left of the image


@lru_cache
def _sphere() -> tuple[Scene, Array, Array, Array]:
    """The sphere; its vertices in px [P, 2], outlines [E, 2], and which triangles show their front [T]."""
    posed = scene("sphere", POSES["sphere"])
    surface = posed.surface()
    corner = surface.vertex[posed.tri, :2]
    one, other = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    front = one[:, 0] * other[:, 1] > one[:, 1] * other[:, 0]
    edges = edges_of(posed.tri)
    sides = edges.triangles.reshape(-1, 2)  # a closed surface: two triangles on each edge
    return posed, surface.vertex[:, :2], edges.ends[front[sides].sum(1) == 1], front


def _crossings(place: Array, ends: Array, y: float) -> Array:
    """Where edges cross a line of constant y; NaN where they do not."""
    (x0, y0), (x1, y1) = place[ends[..., 0]].T, place[ends[..., 1]].T
    with np.errstate(divide="ignore", invalid="ignore"):
        part = (y - y0) / (y1 - y0)
    return np.where((part >= 0) & (part <= 1), x0 + part * (x1 - x0), np.nan)


def _outline_at(place: Array, outlines: Array, y: float) -> float:
    """The right end of a convex surface at this height."""
    return float(np.nanmax(_crossings(place, outlines, y)))


def _rims() -> Iterator[Rim]:
    """All such pixels whose triangle has no outline of its own."""
    posed, place, outlines, front = _sphere()
    position = torch.from_numpy(posed.position)[None]
    rast, _ = rg.rasterize(clip_from_camera(position).float(), torch.from_numpy(posed.tri), (SIZE, SIZE))
    shown = rast[0, ..., 3].long().numpy() - 1
    on_outline = {frozenset(ends) for ends in outlines.tolist()}
    sides = posed.tri[:, [[0, 1], [1, 2], [2, 0]]]
    for row in range(SIZE):
        covered = np.flatnonzero(shown[row] >= 0)
        if not len(covered):
            continue
        column, y = int(covered[-1]), row + 0.5
        triangle = int(shown[row, column])
        if any(frozenset(ends) in on_outline for ends in sides[triangle].tolist()):
            continue
        crossed = np.stack([_crossings(place, sides[:, k], y) for k in range(3)], 1)
        with np.errstate(invalid="ignore"):
            beyond = (np.fmax.reduce(crossed, 1) > column + 0.5) & front
        u, v = rast[0, row, column, :2].tolist()
        end = _outline_at(place, outlines, y)
        yield Rim(row, column, triangle, min(u, v, 1 - u - v), np.flatnonzero(beyond).tolist(), end)


def rim(path: Path, side: int) -> None:
    """What both methods look at between a pixel at the rim of a sphere and the background beside it."""
    _, place, outlines, front = _sphere()
    posed = scene("sphere", POSES["sphere"])
    clear = [
        r for r in _rims() if 0.6 < r.end - (r.column + 0.5) < 0.85
    ]  # beyond the border, short of the centre
    found = max(clear, key=lambda r: (len(r.walked) >= 3, r.margin))
    x, y, end = found.column + 0.5, found.row + 0.5, found.end
    figure, panels = sheet.row(3, width=2.9, height=2.6)
    titles = (
        "pixel_pair: the triangle seen has no outline",
        "outline: a walk over the surface ...",
        "... and the area up to the outline in this row",
    )
    for panel, title in zip(panels, titles):
        panel.set(xlim=(x - 2.5, x + 2.5), ylim=(y - 2, y + 2), xticks=[], yticks=[], aspect="equal")
        panel.set_title(title, fontsize="small")
        for edge in panel.spines.values():
            edge.set_color("0.8")
        for k in range(-3, 4):
            panel.axvline(found.column + k, color="0.8", linewidth=0.6)
            panel.axhline(found.row + k, color="0.8", linewidth=0.6)
        for corners in posed.tri[front]:
            _fill(panel, place[corners], "0.93", 1)
        sheet.outline(panel, place.tolist(), torch.from_numpy(posed.tri[front]), color="0.6", linewidth=0.7)
        for ends in outlines.tolist():
            panel.plot(*place[ends].T, color="black", linewidth=2, solid_capstyle="round")
        for dx in range(-2, 3):
            for dy in range(-2, 3):
                panel.plot(x + dx, y + dy, ".", color="0.45", markersize=3)
    _fill(panels[0], place[posed.tri[found.triangle]], sheet.ORANGE)
    for triangle in found.walked:
        _fill(panels[1], place[posed.tri[triangle]], sheet.SKY)
    panels[1].annotate(
        "",
        xy=(end, y),
        xytext=(x, y),
        arrowprops={"arrowstyle": "-|>", "color": sheet.BLUE, "linewidth": 2, "shrinkA": 0, "shrinkB": 0},
    )
    border = found.column + 1.0
    heights = np.linspace(found.row, found.row + 1, 65)
    ends_at = np.array([_outline_at(place, outlines, h) for h in heights])
    panels[2].fill_betweenx(heights, border, ends_at, color=sheet.GREEN, alpha=0.5, linewidth=0)
    for h in (found.row, found.row + 1):
        panels[2].plot([x - 0.5, x + 1.5], [h, h], color=sheet.GREEN, linewidth=1)
    for panel in panels:
        panel.plot([x, x + 1], [y, y], "o", color=sheet.BLUE, markersize=4)
    sheet.save(figure, path)


def _fill(panel: Any, corners: Array, color: str, alpha: float = 0.45) -> None:
    panel.fill(*corners.T, color=color, alpha=alpha, linewidth=0)


FIGURES = {"gradients_rim": rim, "gradients_pixels": pixels, "gradients_vertices": vertices}
