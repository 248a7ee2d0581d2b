# SPDX-License-Identifier: MIT
"""What antialiasing changes in an image, and what gradient it gives to visibility."""

from pathlib import Path

import torch
from torch import Tensor

import rastergrad as rg

from . import sheet

WIDTH = HEIGHT = 16
CORNERS = [(2.3, 2.1), (14.2, 4.6), (6.1, 13.8)]
TRI = torch.tensor([[0, 1, 2]])


def _draw(corners: Tensor, smooth: bool) -> Tensor:
    """A white triangle on black, [H, W]; corners [3, 2] in pixels."""
    scale = torch.tensor([2 / WIDTH, 2 / HEIGHT])
    pos = torch.cat([corners * scale - 1, torch.tensor([[0.0, 1.0]]).expand(3, 2)], dim=1)[None]
    rast, _ = rg.rasterize(pos, TRI, (HEIGHT, WIDTH))
    color = (rast[..., 3:] > 0).float()
    return (rg.antialias(color, rast, pos, TRI) if smooth else color)[0, ..., 0]


def visibility(path: Path, side: int) -> None:
    """Without, with, the change of the image as the triangle moves right, and the gradient at its corners."""
    corners = torch.tensor(CORNERS, requires_grad=True)
    smooth = _draw(corners, smooth=True)
    figure, panels = sheet.row(4, height=2.5)
    box = {"extent": (0, WIDTH, 0, HEIGHT)}
    sheet.show(panels[0], _draw(corners.detach(), smooth=False), "one sample a pixel", cmap="gray", **box)
    sheet.show(panels[1], smooth, "antialiased", cmap="gray", **box)
    # One column of the Jacobian is a loop over pixels; a step of a hundredth of a pixel shows the same.
    step = torch.tensor([0.01, 0.0])
    moved = [_draw(corners.detach() + sign * step, smooth=True) for sign in (1, -1)]
    change = (moved[0] - moved[1]) / 0.02
    drawn = sheet.show(
        panels[2], change, "change per pixel to the right", cmap="RdBu_r", vmin=-1, vmax=1, **box
    )
    figure.colorbar(drawn, ax=panels[2], shrink=0.7).ax.tick_params(labelsize=6)

    target = [(4.3, 1.2), (13.0, 6.6), (8.6, 14.6)]
    loss = (smooth - _draw(torch.tensor(target), smooth=True)).square().sum()
    (d_corners,) = torch.autograd.grad(loss, corners)
    sheet.show(panels[3], smooth, "descent to the orange target", cmap="gray", vmax=1.6, **box)
    sheet.outline(panels[3], target, TRI, color=sheet.ORANGE, linewidth=1.6)
    longest = d_corners.norm(dim=1).max()
    for (x, y), (dx, dy) in zip(CORNERS, (-3.5 * d_corners / longest).tolist()):
        panels[3].annotate(
            "",
            xy=(x + dx, y + dy),
            xytext=(x, y),
            arrowprops={"arrowstyle": "-|>", "color": sheet.SKY, "linewidth": 2},
        )
    for panel in panels[:2]:
        sheet.outline(panel, CORNERS, TRI, color=sheet.SKY)
    sheet.save(figure, path)


FIGURES = {"antialias_visibility": visibility}
