# SPDX-License-Identifier: MIT
"""What the cube experiment leaves behind: convergence, pictures, the fitted mesh, JSON."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rastergrad.demo.cube import CONVERGED, DISTANCE, VIEW_WINDOW, Cube, Fit, draw, true_cube
from rastergrad.scene.camera import perspective, project, rotation, translation
from rastergrad.scene.extra import require
from rastergrad.scene.image import replacing

# Okabe and Ito's palette: told apart by all readers.
COLORS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
FINE = 256  # side in pixels of the high-resolution pictures
EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if (a ^ b) in (1, 2, 4)]


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two middle ones."""
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def write_curves(path: Path, fits: Sequence[Fit], settings: dict[str, Any]) -> None:
    """All curves with the settings that made them, as JSON."""
    runs = [
        {
            "coloring": fit.coloring,
            "resolution": fit.resolution,
            "median_final_distance": median(fit.distance[-1]),
            "converged": int(fit.converged.sum()),
            "repeats": len(fit.start),
            "start_distance": fit.start,
            "final_distance": fit.distance[-1],
            "iterations": fit.iterations,
            "distance": [list(run) for run in zip(*fit.distance)],
            "loss": [list(run) for run in zip(*fit.loss)],
        }
        for fit in fits
    ]
    settings = {**settings, "converged_below": CONVERGED}
    with replacing(path) as name:
        Path(name).write_text(json.dumps({"settings": settings, "runs": runs}) + "\n", encoding="utf-8")


def write_mesh(path: Path, fit: Fit) -> None:
    """The fitted cube of median quality as a PLY with vertex colours, which `rastergrad render` draws."""
    trimesh = require("trimesh", "writing the mesh")
    final = fit.distance[-1]
    middle = sorted(range(len(final)), key=final.__getitem__)[len(final) // 2]
    positions, colors = (values[middle] for values in fit.shapes[max(fit.shapes)])
    cube = true_cube(fit.coloring)
    # Each face corner becomes a vertex of its own: positions and colours have different index buffers.
    corners, faces = positions[cube.tri.long()].reshape(-1, 3), torch.arange(36).reshape(12, 3)
    rgb = (colors[cube.color_tri.long()].reshape(-1, 3).clamp(0, 1) * 255).round().to(torch.uint8)
    mesh = trimesh.Trimesh(corners.numpy(), faces.numpy(), vertex_colors=rgb.numpy(), process=False)
    with replacing(path) as name:
        Path(name).write_bytes(mesh.export(file_type="ply"))


def plot_convergence(path: Path, fits: Sequence[Fit]) -> None:
    """Vertex distance over iterations, both axes logarithmic; a panel for each colouring."""
    figures = require("matplotlib.figure", "drawing the plot")
    colorings = list(dict.fromkeys(fit.coloring for fit in fits))
    resolutions = sorted({fit.resolution for fit in fits})
    figure = figures.Figure(figsize=(6.4 * len(colorings), 5), layout="constrained")
    panels = figure.subplots(1, len(colorings), squeeze=False, sharey=True)[0]
    for panel, coloring in zip(panels, colorings):
        for fit in (fit for fit in fits if fit.coloring == coloring):
            color = COLORS[resolutions.index(fit.resolution) % len(COLORS)]
            distance = torch.tensor(fit.distance)  # [points, repeats]
            count, repeats = int(fit.converged.sum()), distance.shape[1]
            panel.plot(fit.iterations, distance.numpy(), color=color, alpha=0.15, linewidth=0.7)
            chosen = distance[:, fit.converged] if count else distance
            shown = "" if count else ", mean of all"
            name = f"{fit.resolution} x {fit.resolution}: {count} of {repeats} converged{shown}"
            panel.plot(
                fit.iterations,
                chosen.mean(1).numpy(),
                color=color,
                linewidth=2,
                linestyle="-" if count else "--",
                label=f"{name} (median {median(fit.distance[-1]):.2g})",
            )
        panel.axhline(CONVERGED, color="0.6", linewidth=0.8, linestyle=":")
        panel.set(xscale="log", yscale="log", xlabel="iteration", title=f"{coloring} colours")
        panel.grid(alpha=0.25, which="both", linewidth=0.4)
        panel.legend(fontsize="small", loc="lower left")
    panels[0].set_ylabel("mean distance of the vertices to the true cube's")
    figure.suptitle(
        f"Thick: mean of the runs that end below {CONVERGED} (dotted), the criterion of convergence. "
        "Thin: each run.",
        fontsize="small",
    )
    with replacing(path) as name:
        figure.savefig(name, dpi=120)


def plot_shapes(path: Path, fits: Sequence[Fit], backend: str | None = None) -> None:
    """A row for each resolution: the input with the geometry of the moment on top, then the result in full.

    Shows the median repeat of each fit. All fits must be of one colouring and have kept the same steps.
    """
    figures = require("matplotlib.figure", "drawing the pictures")
    effects = require("matplotlib.patheffects", "drawing the pictures")
    cube = true_cube(fits[0].coloring)
    view = (
        perspective(VIEW_WINDOW, VIEW_WINDOW)
        @ translation(0, 0, -DISTANCE)
        @ rotation(0, math.radians(25))
        @ rotation(1, math.radians(35))
    )
    truth = _picture(cube, cube.positions, cube.colors, view, FINE, backend)
    steps = sorted(fits[0].shapes)
    columns = ["start" if step == 0 else f"{step:,} iterations" for step in steps]
    columns += ["found, drawn finely", "true cube"]
    figure = figures.Figure(figsize=(2.1 * len(columns), 2.2 * len(fits) + 0.3), layout="constrained")
    panels = figure.subplots(len(fits), len(columns), squeeze=False)
    halo = [effects.withStroke(linewidth=2.6, foreground="black")]
    for row, fit in zip(panels, fits):
        shown = int(torch.argsort(fit.final)[(len(fit.start) - 1) // 2])
        coarse = _picture(cube, cube.positions, cube.colors, view, fit.resolution, backend)
        for panel, step in zip(row, steps):
            positions = fit.shapes[step][0][shown]
            clip = project(view, positions)
            corners = clip[:, :2] / clip[:, 3:]
            panel.imshow(coarse, extent=(-1, 1, -1, 1), origin="lower", interpolation="nearest")
            for a, b in EDGES:
                xs, ys = corners[[a, b]].T.tolist()
                panel.plot(xs, ys, color="white", linewidth=1.2, path_effects=halo)
        positions, colors = (value[shown] for value in fit.shapes[steps[-1]])
        fine = _picture(cube, positions, colors, view, FINE, backend)
        for panel, picture in zip(row[-2:], (fine, truth)):
            panel.imshow(picture, extent=(-1, 1, -1, 1), origin="lower")
        row[0].set_ylabel(f"{fit.resolution} x {fit.resolution} pixels")
        row[-2].set_xlabel(f"distance {fit.final[shown]:.2g}", fontsize="small")
    for panel, title in zip(panels[0], columns):
        panel.set_title(title, fontsize="small")
    for panel in panels.flat:
        panel.set(xticks=[], yticks=[], xlim=(-1, 1), ylim=(-1, 1))
    figure.suptitle(f"The pixels of one view and the cube found so far, {fits[0].coloring} colours")
    with replacing(path) as name:
        figure.savefig(name, dpi=110)


def _picture(
    cube: Cube,
    positions: torch.Tensor,
    colors: torch.Tensor,
    view: torch.Tensor,
    side: int,
    backend: str | None,
) -> Any:
    image = draw(cube, positions[None], colors[None], view[None].float(), side, backend)
    return image[0].detach().clamp(0, 1).numpy()
