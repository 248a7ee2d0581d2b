# SPDX-License-Identifier: MIT
"""Most of an image lies far from any edge: the kernels pass over that, and must not miss a pair near one."""

import pytest
import torch

import rastergrad as rg


def _scene(kind: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pos = torch.rand(2, 18, 4, generator=generator, dtype=torch.float64) * 2 - 1
    pos[..., 2] *= 0.5
    pos[..., 3] = 1
    tri = torch.arange(18, dtype=torch.int32).reshape(-1, 3)
    if kind == "cells":  # edges on the borders of the map's cells
        width, height = torch.tensor(93.0), torch.tensor(71.0)
        pos[..., 0] = torch.randint(0, 12, (2, 18), generator=generator) * 8 / width * 2 - 1
        pos[..., 1] = torch.randint(0, 9, (2, 18), generator=generator) * 8 / height * 2 - 1
    if kind == "far":  # ends far outside of the image
        pos[:, ::3, :2] *= 1000
    if kind == "behind":  # ends behind the eye, or on its plane
        pos[:, ::3, 3] = -0.5
        pos[:, 4, 3] = 0
    if kind == "quad":  # folds and insides
        tri = torch.cat([tri, tri[:, [1, 0, 2]] + torch.tensor([0, 0, 3])])[:-1].clamp(max=17).int()
    return pos, tri


@pytest.mark.parametrize("kind", ["plain", "cells", "far", "behind", "quad"])
@pytest.mark.parametrize(
    ("method", "intersections"), [("pixel_pair", True), ("outline", True), ("outline", False)]
)
@pytest.mark.parametrize("seed", range(3))
def test_nothing_near_an_edge_is_missed(kind: str, method: str, intersections: bool, seed: int) -> None:
    pos, tri = _scene(kind, seed)
    rast, _ = rg.rasterize(pos, tri, (71, 93))
    generator = torch.Generator().manual_seed(seed)
    color = torch.rand(2, 71, 93, 2, generator=generator, dtype=torch.float64)
    up = torch.rand(color.shape, generator=generator, dtype=torch.float64)
    found = []
    for backend in ("cpu", "reference"):
        c, p = color.clone().requires_grad_(), pos.clone().requires_grad_()
        image = rg.antialias(c, rast, p, tri, method=method, intersections=intersections, backend=backend)
        found.append((image, *torch.autograd.grad(image, (c, p), up)))
    for fast, slow in zip(*found, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)
