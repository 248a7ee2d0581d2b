# SPDX-License-Identifier: MIT
"""Paper to draw on: panels in a row, images with row 0 at the bottom, and shapes to render."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from rastergrad.scene.camera import Camera, frame, project
from testing.scenes import Mesh

# Okabe and Ito's palette: told apart by all readers.
ORANGE, BLUE, GREEN, PINK, YELLOW, SKY = "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
UP = torch.tensor([0.0, 1.0, 0.0])


def row(count: int, *, width: float = 2.1, height: float = 2.3) -> tuple[Figure, list[Any]]:
    """A figure with so many panels side by side, each width x height inches."""
    figure, panels = grid(1, count, width=width, height=height)
    return figure, panels[0]


def grid(rows: int, columns: int, *, width: float, height: float) -> tuple[Figure, list[list[Any]]]:
    """A figure with rows of panels, each width x height inches."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, [list(line) for line in figure.subplots(rows, columns, squeeze=False)]


def show(panel: Any, image: Tensor, title: str = "", **options: Any) -> Any:
    """An image [H, W] or [H, W, 3] as it lies in memory, row 0 at the bottom; NaN is left white."""
    drawn = panel.imshow(
        image.detach().numpy(), origin="lower", **{"interpolation": "nearest", "cmap": "viridis", **options}
    )
    panel.set(xticks=[], yticks=[])
    panel.set_title(title, fontsize="small")
    for edge in panel.spines.values():
        edge.set_color("0.8")
    return drawn


def covered(values: Tensor, rast: Tensor) -> Tensor:
    """Values [1, H, W] where a triangle is seen, NaN elsewhere; [H, W]."""
    return torch.where(rast[0, ..., 3] > 0, values[0], torch.nan)


def on_white(color: Tensor, rast: Tensor) -> Tensor:
    """Colours [1, H, W, 3] with white where there is no triangle."""
    return torch.where(rast[..., 3:] > 0, color, 1.0)


def save(figure: Figure, path: Path) -> None:
    """Write a figure on white paper, so that it can be read on a dark page too."""
    figure.savefig(path, dpi=144, facecolor="white", bbox_inches="tight", pad_inches=0.08)


def clip_of_pixels(corners: Sequence[tuple[float, float]], width: int, height: int) -> Tensor:
    """Clip-space positions [V, 4] of points given in pixels from the lower left corner of the image."""
    points = torch.tensor(corners) / torch.tensor([width / 2, height / 2]) - 1
    return torch.cat([points, torch.tensor([[0.0, 1.0]]).expand(len(corners), 2)], dim=1)


def outline(panel: Any, corners: Sequence[tuple[float, float]], tri: Tensor, **options: Any) -> None:
    """The edges of triangles whose corners are given in the panel's coordinates."""
    for index in tri.tolist():
        loop = [corners[k] for k in (*index, index[0])]
        panel.plot(*zip(*loop), **{"color": "black", "linewidth": 1, **options})


def seen_from(mesh: Mesh, direction: tuple[float, float, float], **options: Any) -> tuple[Tensor, Camera]:
    """Clip-space positions [1, V, 4] of a mesh framed from a direction, and the camera."""
    camera = frame(mesh.pos, torch.tensor(direction), UP, **options)
    return project(camera.clip_from_world, mesh.pos)[None], camera


def torus(rings: int = 96, sides: int = 48, *, thickness: float = 0.38) -> Mesh:
    """A closed torus around the y axis."""
    turn = torch.arange(rings) * (2 * math.pi / rings)
    around = torch.arange(sides) * (2 * math.pi / sides)
    turn, around = torch.meshgrid(turn, around, indexing="ij")
    radius = 1 + thickness * around.cos()
    pos = torch.stack([radius * turn.sin(), thickness * around.sin(), radius * turn.cos()], dim=-1)
    ring, side = torch.meshgrid(torch.arange(rings), torch.arange(sides), indexing="ij")
    a = ring * sides + side
    b = ring * sides + (side + 1) % sides
    c, d = (a + sides) % (rings * sides), (b + sides) % (rings * sides)
    tri = torch.stack([torch.stack([a, c, d], -1), torch.stack([a, d, b], -1)]).reshape(-1, 3)
    uv = torch.stack([turn, around], -1) / (2 * math.pi)
    return Mesh(pos.reshape(-1, 3), tri.int(), uv.reshape(-1, 2))


def checker(uv: Tensor, squares: int = 8) -> Tensor:
    """A pattern of two greys over uv [..., 2] in 0..1; [..., 1]."""
    return 0.35 + 0.5 * ((uv * squares).floor().sum(-1, keepdim=True) % 2)
