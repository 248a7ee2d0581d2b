# SPDX-License-Identifier: MIT
"""Panes of coloured glass, layer by layer, and their opacities from one picture.

`depth_layers` peels until nothing is left; each layer is antialiased and laid below those before it.
Gradients go through all layers, so the opacity of every pane can be found. The same for programs written
for nvdiffrast: [drop_in/08_depth_peeling.py](../drop-in.md).
"""

import torch

import rastergrad as rg

torch.manual_seed(0)
panes = 5
corners = torch.rand(panes, 3, 3) * 1.8 - 0.9  # a triangle each, at any depth
pos = torch.cat([corners, torch.ones(panes, 3, 1)], -1).reshape(1, -1, 4)
tri = torch.arange(3 * panes).view(panes, 3)
colors = torch.rand(panes, 3)


def draw(opacity: torch.Tensor) -> torch.Tensor:
    """Image [128, 128, 3] of the panes with these opacities [panes], on black."""
    image, through = torch.zeros(1, 128, 128, 3), torch.ones(1, 128, 128, 1)
    for rast, _ in rg.depth_layers(pos, tri, (128, 128)):
        pane = rast[..., 3].long() - 1
        layer = torch.cat([colors[pane], opacity[pane][..., None]], -1) * (pane >= 0)[..., None]
        layer = rg.antialias(layer, rast, pos, tri)
        image = image + through * layer[..., 3:] * layer[..., :3]
        through = through * (1 - layer[..., 3:])
    return image[0]


truth = torch.rand(panes) * 0.6 + 0.2
target = draw(truth)
logits = torch.zeros(panes, requires_grad=True)
optimizer = torch.optim.Adam([logits], lr=0.1)
for step in range(101):
    loss = (draw(logits.sigmoid()) - target).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 25 == 0:
        off = (logits.sigmoid() - truth).abs().max().item()
        print(f"step {step:3}: loss {loss.item():.6f}, opacities at most {off:.4f} off")
