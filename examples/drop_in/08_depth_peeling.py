# SPDX-License-Identifier: MIT
"""Render glass: layers peeled from front to back, antialiased one by one, and composited.

Nested translucent shells and panes that cut through them. The image without antialiasing is compared with a
slow one that sorts all fragments of each pixel exactly. Then every object's opacity, random at first, is
recovered from images by gradients through all layers. Printed are the largest difference and the error of
opacities.
"""

import nvdiffrast.torch as dr
import torch
from common import arguments, clip, curve, icosphere, perspective, posed, random_turns, save

args = arguments("08_depth_peeling", __doc__, iterations=(300, 80), resolution=(256, 48), exact=(96, 32))
glctx = dr.RasterizeCudaContext()

# ---- scene: three shells and four panes ----
ball, ball_tri = icosphere(3)
parts, tris, owner = [], [], []
for radius in (1.0, 0.7, 0.35):
    tris.append(ball_tri + sum(len(p) for p in parts))
    owner.append(torch.full((len(ball_tri),), len(parts), device="cuda"))
    parts.append(ball * radius)
pane = torch.tensor([[-1.1, -0.5, 0.0], [1.1, -0.5, 0], [1.1, 0.5, 0], [-1.1, 0.5, 0]], device="cuda")
for turn in random_turns(4):
    tris.append(torch.tensor([[0, 1, 2], [0, 2, 3]], device="cuda").int() + sum(len(p) for p in parts))
    owner.append(torch.full((2,), len(parts), device="cuda"))
    parts.append(pane @ turn.T)
vertices, tri, owner = torch.cat(parts), torch.cat(tris), torch.cat(owner)
colors = torch.rand(len(parts), 3, device="cuda")
opacity = torch.rand(len(parts), device="cuda") * 0.7 + 0.15


def peeled(view: torch.Tensor, alpha: torch.Tensor, size: int, smooth: bool) -> torch.Tensor:
    """[n, size, size, 3], front to back until a layer is empty."""
    pos_clip = clip(view, vertices)
    image, through = (
        torch.zeros(len(view), size, size, 3, device="cuda"),
        torch.ones(len(view), size, size, 1, device="cuda"),
    )
    with dr.DepthPeeler(glctx, pos_clip, tri, (size, size), grad_db=False) as peeler:
        while True:
            rast, _ = peeler.rasterize_next_layer()
            if not bool((rast[..., 3] > 0).any()):
                return image
            of = owner[(rast[..., 3].long() - 1).clamp(min=0)]
            layer = torch.cat([colors[of], alpha[of][..., None]], -1) * (rast[..., 3:] > 0)
            if smooth:
                layer = dr.antialias(layer.contiguous(), rast, pos_clip, tri)
            color, a = layer[..., :3], layer[..., 3:]
            image = image + through * a * color
            through = through * (1 - a)


def exact(view: torch.Tensor, size: int) -> torch.Tensor:
    """Every triangle at every pixel centre, sorted by depth, in float64: [size, size, 3]."""
    steps = (2 * torch.arange(size, dtype=torch.float64) + 1) / size - 1
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    corner = clip(view, vertices)[0].double().cpu()[tri.long().cpu()]  # [T, 3, 4]
    q = (
        corner[:, :, None, None, :2] - torch.stack([x, y], -1) * corner[:, :, None, None, 3:]
    )  # [T, 3, H, W, 2]
    area = q.roll(-1, 1)[..., 0] * q.roll(-2, 1)[..., 1] - q.roll(-1, 1)[..., 1] * q.roll(-2, 1)[..., 0]
    share = area / area.sum(1, keepdim=True)
    z, w = (torch.einsum("tkhw,tk->thw", share, corner[..., c]) for c in (2, 3))
    inside = (share >= 0).all(1) & (w > 0)
    depth, order = torch.where(inside, z / w, torch.inf).sort(0)
    image, through = (
        torch.zeros(size, size, 3, dtype=torch.float64),
        torch.ones(size, size, 1, dtype=torch.float64),
    )
    for layer in range(int(depth.isfinite().sum(0).max())):
        of = owner.cpu()[order[layer]]
        a = (opacity.cpu().double()[of] * depth[layer].isfinite())[..., None]
        image += through * a * colors.cpu().double()[of]
        through *= 1 - a
    return image


view = perspective() @ posed(random_turns(1), 3.6)
with torch.no_grad():
    difference = (peeled(view, opacity, args.exact, False)[0].cpu() - exact(view, args.exact)).abs().amax(-1)
off = float((difference > 1e-5).double().mean())
print(f"peeled and sorted images agree to 1e-5 at all but {off:.3%} of the pixels")

logits = torch.nn.Parameter(torch.zeros(len(parts), device="cuda"))
optimizer = torch.optim.Adam([logits], lr=1e-1)
losses, errors = [], []
for _ in range(args.iterations):
    views = perspective() @ posed(random_turns(2), 3.6)
    with torch.no_grad():
        target = peeled(views, opacity, args.resolution, True)
    loss = (peeled(views, logits.sigmoid(), args.resolution, True) - target).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    errors.append(float((logits.detach().sigmoid() - opacity).abs().max()))
with torch.no_grad():
    shown = [
        peeled(view, a, args.resolution, True)[0]
        for a in (torch.full_like(opacity, 0.5), logits.sigmoid(), opacity)
    ]
    save(args.out / "glass.png", *shown)
curve(args.out / "curve.png", "", loss=losses, error=errors)
print(f"opacities are at most {errors[-1]:.5f} off")
