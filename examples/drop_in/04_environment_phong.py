# SPDX-License-Identifier: MIT
"""Recover an environment and a Phong highlight from a mirror-like object.

A bumpy globe mirrors an environment map and has the Phong highlight of a lamp, which is elsewhere in each
image. From images of random poses the cube map (6 faces, looked up with trilinear filtering by reflected
directions and their derivatives) and the highlight's colour and exponent are recovered. Printed are the
environment's PSNR over directions and the errors of the highlight.
"""

import math

import nvdiffrast.torch as dr
import torch
from common import arguments, clip, curve, icosphere, perspective, posed, psnr, random_turns, save

args = arguments(
    "04_environment_phong",
    __doc__,
    iterations=(1500, 200),
    side=(128, 16),
    resolution=(384, 96),
    level=(5, 3),
)
glctx = dr.RasterizeCudaContext()
directions, tri = icosphere(args.level)
vertices = directions * (1 + 0.06 * (directions * 4).sin().prod(1, keepdim=True))
faces = vertices[tri.long()]
flat = torch.linalg.cross(faces[:, 1] - faces[:, 0], faces[:, 2] - faces[:, 0])
normals = torch.zeros_like(vertices).index_add_(0, tri.long().flatten(), flat.repeat_interleave(3, 0))
normals = torch.nn.functional.normalize(normals, dim=1)


def texel_directions(side: int) -> torch.Tensor:
    """[6, side, side, 3] in the order and the axes of cube maps."""
    steps = (torch.arange(side, device="cuda") + 0.5) / side * 2 - 1
    t, s = torch.meshgrid(steps, steps, indexing="ij")
    one = torch.ones_like(s)
    each = [(one, -t, -s), (-one, -t, s), (s, one, t), (s, -one, -t), (s, -t, one), (-s, -t, -one)]
    return torch.nn.functional.normalize(torch.stack([torch.stack(f, -1) for f in each]), dim=-1)


def sky(d: torch.Tensor) -> torch.Tensor:
    """A made-up environment in 0..1: a gradient, a few lamps, and stripes."""
    up = d[..., 1:2] * 0.5 + 0.5
    color = (
        torch.tensor([0.25, 0.2, 0.15], device="cuda") * (1 - up)
        + torch.tensor([0.3, 0.5, 0.8], device="cuda") * up
    )
    g = torch.Generator().manual_seed(2)
    for _ in range(8):
        to = torch.nn.functional.normalize(torch.randn(3, generator=g), dim=0).cuda()
        lamp = torch.rand(3, generator=g).cuda()
        color = color + lamp * (((d * to).sum(-1, keepdim=True) - 0.9) * 30).sigmoid()
    stripes = (torch.atan2(d[..., 0:1], d[..., 2:3]) * 8).sin() * 0.1
    return (color + stripes).clamp(0, 1)


def render(
    pose: torch.Tensor, light: torch.Tensor, env: torch.Tensor, rgb: torch.Tensor, exponent: torch.Tensor
) -> torch.Tensor:
    """The object stands still in the world; cameras go around it."""
    size = [args.resolution, args.resolution]
    rast, rast_db = dr.rasterize(glctx, clip(perspective(40.0) @ pose, vertices), tri, size)
    eye = -pose[:, :3, :3].transpose(1, 2) @ pose[:, :3, 3:]
    towards = vertices - eye.transpose(1, 2)  # [n, V, 3]
    mirrored = towards - 2 * normals * (normals * towards).sum(-1, keepdim=True)
    refl, refl_da = dr.interpolate(mirrored.contiguous(), rast, tri, rast_db=rast_db, diff_attrs="all")
    color = dr.texture(env[None], refl, refl_da, filter_mode="linear-mipmap-linear", boundary_mode="cube")
    aim = (torch.nn.functional.normalize(refl, dim=-1) * light).sum(-1, keepdim=True).clamp(min=1e-4)
    color = color + rgb * aim**exponent
    return torch.where(rast[..., 3:] > 0, color, torch.zeros_like(color))


every = texel_directions(args.side)
true_env, true_rgb, true_exponent = (
    sky(every),
    torch.tensor([0.9, 0.7, 0.4]).cuda(),
    torch.tensor(25.0).cuda(),
)
env = torch.nn.Parameter(torch.full_like(true_env, 0.5))
rgb = torch.nn.Parameter(torch.full((3,), 0.3, device="cuda"))
log_exponent = torch.nn.Parameter(torch.tensor(math.log(8.0), device="cuda"))
optimizer = torch.optim.Adam([{"params": [env], "lr": 5e-2}, {"params": [rgb, log_exponent], "lr": 4e-2}])
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 0.02 ** (k / args.iterations))
losses = []
for _ in range(args.iterations):
    pose, light = (
        posed(random_turns(1), 3.2),
        torch.nn.functional.normalize(torch.randn(3, device="cuda"), dim=0),
    )
    with torch.no_grad():
        target = render(pose, light, true_env, true_rgb, true_exponent)
    loss = (render(pose, light, env, rgb, log_exponent.exp()) - target).abs().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    losses.append(loss.item())

with torch.no_grad():
    got = render(pose, light, env, rgb, log_exponent.exp())
    save(args.out / "object.png", got[0], target[0])
    save(args.out / "environment.png", *(torch.cat(list(e), 1) for e in (env, true_env)))
curve(args.out / "curve.png", "mean absolute error of images", loss=losses)
exponent = float(log_exponent.detach().exp())
print(f"environment: PSNR {psnr(env.detach().clamp(0, 1), true_env):.2f} dB")
off = float((rgb.detach() - true_rgb).abs().max())
print(f"highlight: colour {off:.4f} off, exponent {exponent:.3f} in place of 25")
