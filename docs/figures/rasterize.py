# SPDX-License-Identifier: MIT
"""Coverage, the fragment buffer, and depth layers."""

from pathlib import Path

import torch
from torch.nn.functional import normalize

import rastergrad as rg
from testing import scenes

from . import sheet


def coverage(path: Path, side: int) -> None:
    """Three triangles that share edges: each pixel belongs to the one that holds its centre."""
    width, height = 18, 10
    corners = [(1.2, 1.1), (9.7, 0.6), (16.6, 3.4), (12.1, 9.3), (3.4, 8.2)]
    tri = torch.tensor([[0, 1, 4], [1, 3, 4], [1, 2, 3]])
    rast, _ = rg.rasterize(sheet.clip_of_pixels(corners, width, height)[None], tri, (height, width))
    figure, (panel,) = sheet.row(1, width=6.5, height=3.7)
    shades = torch.tensor([[1, 1, 1], [0.98, 0.85, 0.75], [0.75, 0.86, 0.95], [0.75, 0.93, 0.86]])
    sheet.show(panel, shades[rast[0, ..., 3].long()], extent=(0, width, 0, height))
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    panel.plot(x.flatten(), y.flatten(), ".", color="0.45", markersize=2.5)
    sheet.outline(panel, corners, tri)
    panel.set(xticks=range(0, width + 1, 2), yticks=range(0, height + 1, 2))
    panel.set(xlabel="pixels from the left", ylabel="pixels from the bottom")
    panel.grid(color="0.9", linewidth=0.5)
    sheet.save(figure, path)


def buffers(path: Path, side: int) -> None:
    """The channels of the fragment buffer and one of its derivatives, for a bumpy sphere of 400 triangles."""
    mesh = scenes.sphere(400, bumps=0.25)
    pos, _ = sheet.seen_from(mesh, (0.6, 0.5, 1.0))
    rast, rast_db = rg.rasterize(pos, mesh.tri, (side, side))
    u, v, depth, index = rast.unbind(-1)
    figure, panels = sheet.row(5, width=1.75, height=2.4)
    images = (("u", u, "viridis"), ("v", v, "viridis"), ("z/w", depth, "gray_r"))
    for panel, (name, values, colors) in zip(panels, images):
        drawn = sheet.show(panel, sheet.covered(values, rast), name, cmap=colors)
        figure.colorbar(drawn, ax=panel, orientation="horizontal", shrink=0.9).ax.tick_params(labelsize=6)
    scattered = torch.where(index > 0, (index * 0.6180339887) % 1, torch.nan)
    drawn = sheet.show(panels[3], scattered[0], "id, in colours", cmap="twilight")
    figure.colorbar(drawn, ax=panels[3], orientation="horizontal", shrink=0.9).ax.set_visible(False)
    slope = rast_db[..., :2].norm(dim=-1)
    drawn = sheet.show(panels[4], sheet.covered(slope, rast), "|(du/dX, du/dY)|", cmap="magma", vmax=0.12)
    figure.colorbar(drawn, ax=panels[4], orientation="horizontal", shrink=0.9).ax.tick_params(labelsize=6)
    sheet.save(figure, path)


def layers(path: Path, side: int) -> None:
    """The four surfaces that lines of sight meet in a torus, peeled one after the other."""
    mesh = sheet.torus()
    pos, _ = sheet.seen_from(mesh, (0.0, 0.34, 1.0), aspect=2.0)
    towards = normalize(torch.tensor([0.4, 0.8, 0.6]), dim=0)
    centre = normalize(mesh.pos * torch.tensor([1.0, 0.0, 1.0]), dim=-1)
    shade = ((normalize(mesh.pos - centre, dim=-1) * towards).sum(-1, keepdim=True)).abs() * 0.8 + 0.15
    figure, panels = sheet.row(4, width=2.3, height=1.4)
    peeled = rg.depth_layers(pos, mesh.tri, (side, 2 * side), 4)
    for number, (panel, (rast, _)) in enumerate(zip(panels, peeled)):
        light, _ = rg.interpolate(shade, rast, mesh.tri)
        sheet.show(panel, sheet.covered(light[..., 0], rast), f"layer {number}", cmap="gray", vmin=0, vmax=1)
    sheet.save(figure, path)


FIGURES = {"rasterize_coverage": coverage, "rasterize_buffers": buffers, "rasterize_layers": layers}
