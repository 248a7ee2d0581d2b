# SPDX-License-Identifier: MIT
"""The first fitting loop of the guide: a triangle that finds its target."""

from pathlib import Path

import torch
from torch import Tensor

import rastergrad as rg

from . import sheet

TRI = torch.tensor([[0, 1, 2]])
TARGET = torch.tensor([[-0.6, -0.5], [0.7, -0.3], [0.1, 0.8]])
START = torch.tensor([[-0.2, -0.2], [0.3, -0.4], [-0.1, 0.3]])


def _draw(corners: Tensor, side: int) -> Tensor:
    """White on black, [side, side]."""
    pos = torch.cat([corners, torch.tensor([[0.0, 1.0]]).expand(3, 2)], dim=1)[None]  # z = 0, w = 1
    rast, _ = rg.rasterize(pos, TRI, (side, side))
    color, _ = rg.interpolate(torch.ones(3, 1), rast, TRI)
    return rg.antialias(color, rast, pos, TRI)[0, ..., 0]


def triangle(path: Path, side: int) -> None:
    """The image after some steps of Adam; the outline of the target on top."""
    pixels = max(8, side // 8)
    goal = _draw(TARGET, pixels)
    corners = START.clone().requires_grad_()
    optimizer = torch.optim.Adam([corners], lr=0.02)
    shown = (0, 20, 50, 100, 200)
    figure, panels = sheet.row(len(shown), width=1.75, height=2.0)
    for step in range(shown[-1] + 1):
        image = _draw(corners, pixels)
        loss = (image - goal).square().mean()
        if step in shown:
            panel = panels[shown.index(step)]
            sheet.show(panel, image, f"step {step}: {loss.item():.1g}", cmap="gray", extent=(-1, 1, -1, 1))
            sheet.outline(panel, TARGET.tolist(), TRI, color=sheet.ORANGE, linewidth=1.4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    sheet.save(figure, path)


FIGURES = {"fitting_triangle": triangle}
