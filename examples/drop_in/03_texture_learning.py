# SPDX-License-Identifier: MIT
"""Learn a globe's texture from near and far, with and without mipmaps.

The experiment of Laine et al. 2020, section 4: a textured globe is seen from distances of 1.5 to 50 radii.
References are rendered at 2048 x 2048 pixels (4096 with --reference 4096) and filtered down to 512 x 512;
the texture, an atlas of 4 x 3 tiles of 512 x 512 texels, is learned from them. Without prefiltering, a
pixel far away blames the few texels that it happens to hit. Printed is the PSNR of both textures.
"""

import math

import nvdiffrast.torch as dr
import torch
from common import arguments, clip, cube_sphere, curve, perspective, posed, psnr, random_turns, save

args = arguments(
    "03_texture_learning",
    __doc__,
    iterations=(1200, 500),
    tile=(512, 32),
    resolution=(512, 64),
    reference=(2048, 256),
)
glctx = dr.RasterizeGLContext()
vtx_pos, pos_idx, place, face = cube_sphere(24)
RATE = 5e-2
max_mip_level = int(math.log2(args.tile))

# A cross of six tiles in the atlas of 4 x 3, half a texel inside of each.
column, row = torch.tensor([[2, 1], [0, 1], [1, 2], [1, 0], [1, 1], [3, 1]], device="cuda")[face].T
inset = 0.5 / args.tile
inside = place * (1 - 2 * inset) + inset
vtx_uv = torch.stack([(column + inside[:, 0]) / 4, (row + inside[:, 1]) / 3], 1)


def globe(points: torch.Tensor) -> torch.Tensor:
    """Colours of land, sea, and a fine grid of lines, [..., 3] in 0..1, at points of the unit sphere."""
    g = torch.Generator().manual_seed(5)
    height = torch.zeros_like(points[..., 0])
    for octave in range(7):
        waves = torch.nn.functional.normalize(torch.randn(8, 3, generator=g), dim=1).cuda() * 1.9**octave * 2
        phase = torch.rand(8, generator=g).cuda() * 6.3
        height = height + (points @ waves.T + phase).sin().sum(-1) * 0.6**octave / 3
    land = (height * 6).sigmoid()[..., None]
    shade = (height * 9).sin()[..., None] * 0.15
    sea, soil = torch.tensor([[0.1, 0.25, 0.6], [0.55, 0.5, 0.2]]).cuda()
    color = sea + (soil - sea) * land + shade
    longitude, latitude = torch.atan2(points[..., 0], points[..., 2]), points[..., 1].asin()
    lines = (longitude * 72).cos().maximum((latitude * 72).cos())[..., None] > 0.97
    return torch.where(lines, 1 - color, color).clamp(0, 1)


def true_texture() -> tuple[torch.Tensor, torch.Tensor]:
    """The atlas [1, 3 tile, 4 tile, 3], and which texels a tile covers [3 tile, 4 tile]."""
    height, width = 3 * args.tile, 4 * args.tile
    uv_clip = torch.cat([vtx_uv * 2 - 1, torch.tensor([[0.0, 1.0]]).cuda().expand(len(vtx_uv), 2)], 1)[None]
    rast, _ = dr.rasterize(glctx, uv_clip.contiguous(), pos_idx, [height, width], grad_db=False)
    points, _ = dr.interpolate(vtx_pos, rast, pos_idx)
    seen = rast[0, ..., 3] > 0
    return globe(torch.nn.functional.normalize(points, dim=-1)) * seen[..., None], seen


def render(
    view: torch.Tensor, tex: torch.Tensor, resolution: int, mipmaps: bool, mip: object = None
) -> torch.Tensor:
    rast, rast_db = dr.rasterize(glctx, clip(view, vtx_pos), pos_idx, (resolution, resolution))
    if mipmaps:
        uv, uv_da = dr.interpolate(vtx_uv[None], rast, pos_idx, rast_db=rast_db, diff_attrs="all")
        options = {"filter_mode": "linear-mipmap-linear", "max_mip_level": max_mip_level}
        color = dr.texture(tex, uv, uv_da, mip=mip, **options)
    else:
        uv, _ = dr.interpolate(vtx_uv[None], rast, pos_idx)
        color = dr.texture(tex, uv, filter_mode="linear")
    return color * rast[..., 3:].clamp(0, 1)


truth, covered = true_texture()
true_mip = dr.texture_construct_mip(truth, max_mip_level=max_mip_level)
learned = {name: torch.full_like(truth, 0.2).requires_grad_() for name in ("mipmaps", "no mipmaps")}
optimizers = {name: torch.optim.Adam([tex], lr=RATE) for name, tex in learned.items()}
curves: dict[str, list[float]] = {name: [] for name in learned}
for it in range(args.iterations + 1):
    distance = 1.5 * (50 / 1.5) ** float(torch.rand(()))
    view = perspective() @ posed(random_turns(1), distance)
    with torch.no_grad():
        fine = render(view, truth, args.reference, True, true_mip)
        factor = args.reference // args.resolution
        target = torch.nn.functional.avg_pool2d(fine.permute(0, 3, 1, 2), factor).permute(0, 2, 3, 1)
    for name, tex in learned.items():
        image = render(view, tex, args.resolution, name == "mipmaps")
        loss = (image - target).square().mean()
        optimizers[name].param_groups[0]["lr"] = RATE * 0.03 ** (it / args.iterations)
        optimizers[name].zero_grad()
        loss.backward()
        optimizers[name].step()
        curves[name].append(float((tex.detach() - truth)[0][covered].square().mean()))
    if it % (args.iterations // 5) == 0:
        found = ", ".join(
            f"{name} {psnr(t[0][covered], truth[0][covered]):.2f} dB" for name, t in learned.items()
        )
        print(f"iteration {it:5}: {found}")

with torch.no_grad():
    view = perspective() @ posed(random_turns(1), 2.6)
    save(args.out / "globe.png", *(render(view, t, 512, True)[0] for t in (truth, *learned.values())))
    save(args.out / "atlas.png", *(t[0] for t in (truth, *learned.values())))
curve(args.out / "curve.png", "mean square error of the texture", **curves)
with_mipmaps, without = (psnr(t[0][covered], truth[0][covered]) for t in learned.values())
print(f"texture PSNR: {with_mipmaps:.2f} dB with mipmaps, {without:.2f} dB without")
