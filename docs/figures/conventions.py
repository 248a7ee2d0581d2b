# SPDX-License-Identifier: MIT
"""Pixels and texels: where they lie and where their centres are."""

from pathlib import Path

import torch

import rastergrad as rg

from . import sheet

WIDTH, HEIGHT = 6, 4


def grids(path: Path, side: int) -> None:
    """Left: pixels under a triangle. Right: the texels of a texture and what a linear lookup gives."""
    figure, (image, texture) = sheet.row(2, width=4.2, height=3.3)
    corners = [(0.7, 0.4), (5.6, 1.3), (2.4, 3.8)]
    tri = torch.tensor([[0, 1, 2]])
    rast, _ = rg.rasterize(sheet.clip_of_pixels(corners, WIDTH, HEIGHT)[None], tri, (HEIGHT, WIDTH))
    sheet.show(image, 1 - 0.25 * rast[0, ..., 3], extent=(0, WIDTH, 0, HEIGHT), cmap="gray", vmin=0, vmax=1.0)
    sheet.outline(image, corners, tri, color=sheet.ORANGE)
    for column in range(WIDTH):
        for row in range(HEIGHT):
            image.plot(column + 0.5, row + 0.5, ".", color="black", markersize=3)
    image.set(xticks=[k + 0.5 for k in range(WIDTH)], yticks=[k + 0.5 for k in range(HEIGHT)])
    image.set_xticklabels(range(WIDTH))
    image.set_yticklabels(range(HEIGHT))
    image.set(xlabel="column i", ylabel="row j")
    image.set_title("an image of 6 x 4 pixels, (x/w, y/w) at two corners", fontsize="small")
    for x, y, word in ((0, 0, "(-1, -1)"), (WIDTH, HEIGHT, "(1, 1)")):
        image.annotate(
            word,
            (x, y),
            xytext=(4, 4) if x == 0 else (-4, -11),
            textcoords="offset points",
            ha="left" if x == 0 else "right",
            color=sheet.BLUE,
            fontsize="small",
        )
    for k in range(1, WIDTH):
        image.axvline(k, color="0.85", linewidth=0.6, zorder=1)
    for k in range(1, HEIGHT):
        image.axhline(k, color="0.85", linewidth=0.6, zorder=1)

    texels = torch.tensor([[0.1, 0.9, 0.3, 0.7], [0.8, 0.2, 0.6, 0.4], [0.5, 1.0, 0.0, 0.9]])
    steps = (torch.arange(side) + 0.5) / side
    t, s = torch.meshgrid(steps, steps, indexing="ij")
    smooth = rg.texture(texels[None, :, :, None], torch.stack([s, t], -1)[None], boundary_mode="clamp")
    sheet.show(texture, smooth[0, ..., 0], extent=(0, 1, 0, 1), cmap="viridis", aspect=0.75, vmin=0, vmax=1)
    for k in range(1, 4):
        texture.axvline(k / 4, color="white", linewidth=0.8)
    for k in range(1, 3):
        texture.axhline(k / 3, color="white", linewidth=0.8)
    for column in range(4):
        for row in range(3):
            texture.plot((column + 0.5) / 4, (row + 0.5) / 3, ".", color="white", markersize=5)
    texture.set(xticks=[0, 0.25, 0.5, 0.75, 1], yticks=[0, 1 / 3, 2 / 3, 1])
    texture.set_yticklabels(["0", "1/3", "2/3", "1"])
    texture.set(xlabel="s, along columns", ylabel="t, along rows")
    texture.set_title("a texture of 4 x 3 texels, linear filter", fontsize="small")
    sheet.save(figure, path)


FIGURES = {"conventions_grids": grids}
