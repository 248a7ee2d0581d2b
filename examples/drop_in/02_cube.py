# SPDX-License-Identifier: MIT
"""Fit a coloured cube to images of a few pixels: corners and colours at once.

The cube of Laine et al. 2020, section 4: eight corners and a colour for each corner of each face begin at
random and are fitted to images of random poses, 16 x 16 pixels by default. Printed is how far corners are
from the truth.
"""

import nvdiffrast.torch as dr
import torch
from common import arguments, clip, curve, perspective, posed, random_turns, save

args = arguments("02_cube", __doc__, iterations=(2000, 400), resolution=(16, 16), views=(8, 4))
glctx = dr.RasterizeCudaContext()
device = torch.device("cuda")

corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3).to(device)
quads = torch.tensor([[4, 6, 7, 5], [0, 1, 3, 2], [2, 3, 7, 6], [0, 4, 5, 1], [1, 5, 7, 3], [0, 2, 6, 4]])
pos_idx = quads[:, [[0, 1, 2], [0, 2, 3]]].reshape(12, 3).to(device)  # int64, as they come
col_idx = torch.arange(24).view(6, 4)[:, [[0, 1, 2], [0, 2, 3]]].reshape(12, 3).int().cuda()
colors = torch.rand(24, 3, device=device)


def render(
    clip_from_object: torch.Tensor, vtx_pos: torch.Tensor, vtx_col: torch.Tensor, resolution: int
) -> torch.Tensor:
    pos_clip = clip(clip_from_object, vtx_pos)
    rast_out, _ = dr.rasterize(glctx, pos_clip, pos_idx, resolution=[resolution, resolution])
    color, _ = dr.interpolate(vtx_col[None, ...], rast_out, col_idx)
    return dr.antialias(color, rast_out, pos_clip, pos_idx)


vtx_pos = torch.nn.Parameter(corners + (torch.rand(8, 3, device="cuda") - 0.5) * 0.8)
vtx_col = torch.nn.Parameter(torch.rand(24, 3, device="cuda"))
optimizer = torch.optim.Adam([vtx_pos, vtx_col], lr=1e-2)
scheduler = torch.optim.lr_scheduler.LambdaLR(
    optimizer, lambda k: max(0.01, 10 ** (-k / args.iterations * 2))
)
losses, distances = [], []
for it in range(args.iterations + 1):
    view = perspective() @ posed(random_turns(args.views), 3.0)
    with torch.no_grad():
        target = render(view, corners, colors, args.resolution)
    loss = (render(view, vtx_pos, vtx_col, args.resolution) - target).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    losses.append(loss.item())
    distances.append(float((vtx_pos.detach() - corners).norm(dim=1).mean()))
    if it % (args.iterations // 8) == 0:
        print(f"iteration {it:5}: loss {losses[-1]:.2e}, corners {distances[-1]:.5f} away")

with torch.no_grad():
    big = torch.cat([render(view[:1], p, c, 256) for p, c in ((vtx_pos, vtx_col), (corners, colors))])
save(args.out / "cube.png", target[0], big[0], big[1])
curve(args.out / "cube-curve.png", "", loss=losses, distance=distances)
print(f"corners are {distances[-1]:.5f} from the truth, the cube's side being 1")
