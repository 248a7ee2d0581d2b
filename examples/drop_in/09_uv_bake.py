# SPDX-License-Identifier: MIT
"""Bake thirty photographs of a bumpy globe into its texture, in UV space.

The atlas is rasterised: positions are the texture coordinates (z = 0, w = 1), and what is interpolated are
points of the surface. Each texel is projected into each view, counts where a depth comparison says that the
view sees it, by the cosine to the camera, and takes the photograph's colour. Printed is the PSNR over
covered texels; a new view is rendered.
"""

import math

import nvdiffrast.torch as dr
import torch
from common import arguments, clip, cube_sphere, perspective, posed, psnr, random_turns, save

args = arguments("09_uv_bake", __doc__, views=(30, 30), tile=(256, 64), resolution=(768, 256))
glctx = dr.RasterizeCudaContext()
directions, faces, place, side = cube_sphere(32)
bumps = 0.12 * (directions * 5).sin().prod(1, keepdim=True) + 0.1 * (directions[:, :1] * 3).cos()
vertices = directions * (1 + bumps)
column, row = side % 3, side // 3  # an atlas of 3 x 2 tiles, a texel apart
inset = 1.5 / args.tile
uv = torch.stack(
    [(column + place[:, 0] * (1 - 2 * inset) + inset) / 3, (row + place[:, 1] * (1 - 2 * inset) + inset) / 2],
    1,
)
atlas_size = [2 * args.tile, 3 * args.tile]


def padded(tex: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Texels around those that are known get their average, so that filters find no gaps between tiles."""
    filled = torch.cat([tex * known[..., None], known[..., None].float()], -1).permute(0, 3, 1, 2)
    for _ in range(8):
        around = torch.nn.functional.avg_pool2d(filled, 3, stride=1, padding=1)
        around = around / around[:, 3:].clamp(min=1e-6) * (around[:, 3:] > 0)
        filled = torch.where(filled[:, 3:] > 0, filled, around)
    return filled[:, :3].permute(0, 2, 3, 1).contiguous()


# ---- the surface at each texel ----
uv_clip = torch.cat([uv * 2 - 1, torch.tensor([[0.0, 1.0]], device="cuda").expand(len(uv), 2)], 1)[None]
atlas, _ = dr.rasterize(glctx, uv_clip, faces, resolution=atlas_size, grad_db=False)
covered = atlas[..., 3] > 0
points, _ = dr.interpolate(vertices[None], atlas, faces)
flat = torch.linalg.cross(*(vertices[faces.long()][:, k] - vertices[faces.long()][:, 0] for k in (1, 2)))
vertex_normals = torch.zeros_like(vertices).index_add_(
    0, faces.long().flatten(), flat.repeat_interleave(3, 0)
)
outward = torch.nn.functional.normalize(
    vertex_normals * (vertex_normals * directions).sum(1, keepdim=True).sign(), dim=1
)
normals, _ = dr.interpolate(outward[None], atlas, faces)

g = torch.Generator().manual_seed(1)
waves, phases = torch.randn(24, 3, generator=g).cuda() * 9, torch.rand(24, generator=g).cuda() * 6
mix = torch.rand(24, 3, generator=g).cuda() - 0.5
truth = ((points @ waves.T + phases).sin() @ mix * 0.6).sigmoid()
truth = padded(truth, covered)

# ---- photographs ----
camera = perspective(40.0)
poses = posed(random_turns(args.views), 3.4)


def photograph(tex: torch.Tensor, pose: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Colours [1, H, W, 3] and z/w [1, H, W, 1], 1 where there is nothing."""
    size = (args.resolution, args.resolution)
    rast, rast_db = dr.rasterize(glctx, clip(camera @ pose, vertices), faces, size)
    at, at_da = dr.interpolate(uv[None], rast, faces, rast_db=rast_db, diff_attrs="all")
    color = dr.texture(tex, at, at_da, filter_mode="linear-mipmap-linear", max_mip_level=3)
    seen = rast[..., 3:] > 0
    return color * seen, torch.where(seen, rast[..., 2:3], 1.0)


# ---- baking ----
total, weights = torch.zeros_like(truth), torch.zeros_like(truth[..., :1])
for pose in poses[:, None]:
    color, depth = photograph(truth, pose)
    seen_from = clip(camera @ pose, points.reshape(-1, 3)).view(1, *atlas_size, 4)
    ndc = seen_from[..., :3] / seen_from[..., 3:]
    at = (ndc[..., :2] * 0.5 + 0.5).contiguous()
    nearest = dr.texture(depth, at, filter_mode="linear", boundary_mode="clamp")
    eye = -pose[0, :3, :3].T @ pose[0, :3, 3]
    cosine = (normals * torch.nn.functional.normalize(eye - points, dim=-1)).sum(-1, keepdim=True)
    visible = (ndc[..., 2:] < nearest + 5e-4) & (cosine > 0.2)
    weight = torch.where(visible, cosine.clamp(min=0) ** 6, torch.zeros_like(cosine))
    total += weight * dr.texture(color.contiguous(), at, filter_mode="linear", boundary_mode="clamp")
    weights += weight
baked = total / weights.clamp(min=1e-8)
reached = covered & (weights[..., 0] > 0)
baked = padded(baked, reached)
share = float(reached.sum() / covered.sum())
print(f"{share:.2%} of the texels are seen by one of {args.views} views")
print(f"baked texture: PSNR {psnr(baked[reached], truth[reached]):.2f} dB over {int(reached.sum()):,} texels")
new = posed(random_turns(1), 4.0)
images = [photograph(tex, new)[0][0] for tex in (baked, truth)]
print(f"a new view: PSNR {psnr(*images):.2f} dB")
save(args.out / "view.png", *images, (images[0] - images[1]).abs() * 5)
save(args.out / "atlas.png", torch.cat([baked[0], truth[0]], 0))
assert math.isfinite(share)
