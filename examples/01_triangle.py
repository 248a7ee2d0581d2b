# SPDX-License-Identifier: MIT
"""A triangle, rendered, and moved to a target by gradient descent.

The loss compares images of 64 x 64 pixels. Only `antialias` makes it depend on where the edges lie.
"""

import torch

import rastergrad as rg

tri = torch.tensor([[0, 1, 2]], dtype=torch.int32)
white = torch.ones(3, 1)


def draw(corners: torch.Tensor) -> torch.Tensor:
    """Image [64, 64, 1] of the triangle with these corners [3, 2], in -1..1, on black."""
    pos = torch.cat([corners, torch.tensor([[0.0, 1.0]]).expand(3, 2)], dim=1)  # z = 0, w = 1
    rast, _ = rg.rasterize(pos[None], tri, (64, 64))
    color, _ = rg.interpolate(white, rast, tri)
    return rg.antialias(color, rast, pos[None], tri)[0]


target_corners = torch.tensor([[-0.6, -0.5], [0.7, -0.3], [0.1, 0.8]])
target = draw(target_corners)
corners = torch.tensor([[-0.2, -0.2], [0.3, -0.4], [-0.1, 0.3]], requires_grad=True)
optimizer = torch.optim.Adam([corners], lr=0.02)
for step in range(201):
    loss = ((draw(corners) - target) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        off = (corners - target_corners).norm(dim=1).mean().item()
        print(f"step {step:3}: loss {loss.item():.6f}, corners {off:.4f} away")
