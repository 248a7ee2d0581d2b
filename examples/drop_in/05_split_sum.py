# SPDX-License-Identifier: MIT
"""Split-sum shading with a mip stack of one's own: learn an environment, then a roughness texture.

Rough mirrors see an environment that is blurred the more the rougher they are. The blurred maps are levels
of a cube map that the program owns: parameters of the optimiser, looked up with `mip=[...]` and
`mip_level_bias`, the bias being the roughness. First the levels are learned from images of globes of known
roughness. Then they stay, and the roughness of another globe, a texture, is found. Printed are the PSNR of
each level and the error of the roughness.
"""

import nvdiffrast.torch as dr
import torch
from common import arguments, clip, cube_sphere, curve, perspective, posed, psnr, random_turns, save

args = arguments(
    "05_split_sum", __doc__, iterations=(1000, 250), side=(64, 16), resolution=(256, 64), tile=(32, 8)
)
LEVELS = 4  # above the sharp one
glctx = dr.RasterizeCudaContext()
vertices, tri, place, face = cube_sphere(24)
uv = torch.stack([(face % 3 + place[:, 0] * 0.98 + 0.01) / 3, (face // 3 + place[:, 1] * 0.98 + 0.01) / 2], 1)


def texel_directions(side: int) -> torch.Tensor:
    """[6, side, side, 3] in the order and the axes of cube maps."""
    steps = (torch.arange(side, device="cuda") + 0.5) / side * 2 - 1
    t, s = torch.meshgrid(steps, steps, indexing="ij")
    one = torch.ones_like(s)
    each = [(one, -t, -s), (-one, -t, s), (s, one, t), (s, -one, -t), (s, -t, one), (-s, -t, -one)]
    return torch.nn.functional.normalize(torch.stack([torch.stack(f, -1) for f in each]), dim=-1)


def sky(d: torch.Tensor) -> torch.Tensor:
    up = d[..., 1:2] * 0.5 + 0.5
    color = (
        torch.tensor([0.2, 0.15, 0.1], device="cuda") * (1 - up)
        + torch.tensor([0.2, 0.35, 0.6], device="cuda") * up
    )
    g = torch.Generator().manual_seed(3)
    for _ in range(12):
        to = torch.nn.functional.normalize(torch.randn(3, generator=g), dim=0).cuda()
        color = (
            color
            + torch.rand(3, generator=g).cuda()
            * 0.8
            * (((d * to).sum(-1, keepdim=True) - 0.92) * 40).sigmoid()
        )
    return color.clamp(0, 1)


def true_levels() -> list[torch.Tensor]:
    """Level k is the sky blurred by a lobe that widens with k."""
    fine = texel_directions(24).reshape(-1, 3)
    light, solid = (
        sky(fine),
        fine.abs().amax(1, keepdim=True).T ** 3,
    )  # a texel's solid angle, but for a factor
    levels = [sky(texel_directions(args.side))[None]]
    for k in range(1, LEVELS + 1):
        to = texel_directions(args.side >> k).reshape(-1, 3)
        lobe = ((to @ fine.T - 1) * (4.0 * 4 ** (LEVELS - k) + 2)).exp() * solid
        levels.append(
            (lobe @ light / lobe.sum(1, keepdim=True)).view(1, 6, args.side >> k, args.side >> k, 3)
        )
    return levels


def render(pose: torch.Tensor, levels: list[torch.Tensor], roughness: torch.Tensor) -> torch.Tensor:
    """Roughness: 0..1, one number [n], or a texture [1, h, w, 1]."""
    size = (args.resolution, args.resolution)
    rast, _ = dr.rasterize(glctx, clip(perspective(40.0) @ pose, vertices), tri, size, grad_db=False)
    eye = -pose[:, :3, :3].transpose(1, 2) @ pose[:, :3, 3:]
    towards = torch.nn.functional.normalize(vertices - eye.transpose(1, 2), dim=-1)
    cosine = -(vertices * towards).sum(-1, keepdim=True)
    both, _ = dr.interpolate(torch.cat([towards + 2 * vertices * cosine, cosine], -1), rast, tri)
    refl, cosine = both[..., :3].contiguous(), both[..., 3:].clamp(0, 1)
    if roughness.ndim == 4:
        at, _ = dr.interpolate(uv[None], rast, tri)
        roughness = dr.texture(roughness, at, filter_mode="linear", boundary_mode="clamp")[..., 0]
    else:
        roughness = roughness[:, None, None].expand(rast.shape[:3])
    bias = (roughness * LEVELS).contiguous()
    light = dr.texture(
        levels[0],
        refl,
        mip_level_bias=bias,
        mip=levels[1:],
        filter_mode="linear-mipmap-linear",
        boundary_mode="cube",
    )
    # Karis' fit of the second sum for metals: scale and offset of the reflectance at normal incidence.
    reflectance = torch.tensor([0.95, 0.8, 0.5], device="cuda")
    r = roughness[..., None]
    a004 = torch.minimum((1 - r) ** 2, 2 ** (-9.28 * cosine)) * (1 - r) + r * -0.0275 + 0.0425
    scale, offset = a004 * -1.04 + r * -0.572 + 1.04, a004 * 1.04 + r * 0.022 - 0.04
    return torch.where(rast[..., 3:] > 0, light * (reflectance * scale + offset), torch.zeros_like(light))


# ---- the environment, from globes of known roughness ----
truth = true_levels()
levels = [torch.nn.Parameter(torch.full_like(x, 0.3)) for x in truth]
optimizer = torch.optim.Adam(levels, lr=3e-2)
losses = []
for it in range(args.iterations):
    poses, roughness = posed(random_turns(3), 3.2), torch.rand(3, device="cuda")
    with torch.no_grad():
        target = render(poses, truth, roughness)
    loss = (render(poses, levels, roughness) - target).square().mean()
    optimizer.param_groups[0]["lr"] = 3e-2 * 0.03 ** (it / args.iterations)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
found = [psnr(a.detach(), b) for a, b in zip(levels, truth)]
print("levels: PSNR " + ", ".join(f"{x:.2f}" for x in found) + " dB")

# ---- a roughness texture, in that environment ----
fixed = [x.detach() for x in levels]
rows, columns = torch.meshgrid(torch.arange(2 * args.tile), torch.arange(3 * args.tile), indexing="ij")
wave = (rows / args.tile * 3).sin() * (columns / args.tile * 4).cos()
true_roughness = (0.5 + 0.4 * wave)[None, :, :, None].cuda()
logits = torch.nn.Parameter(torch.zeros_like(true_roughness))
optimizer = torch.optim.Adam([logits], lr=5e-2)
for it in range(args.iterations):
    poses = posed(random_turns(2), 3.2)
    with torch.no_grad():
        target = render(poses, truth, true_roughness)
    loss = (render(poses, fixed, logits.sigmoid()) - target).square().mean()
    optimizer.param_groups[0]["lr"] = 5e-2 * 0.03 ** (it / args.iterations)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
error = (logits.detach().sigmoid() - true_roughness).abs()
with torch.no_grad():
    shown = [
        render(poses[:1], fixed, r)[0]
        for r in (torch.full_like(true_roughness, 0.5), logits.sigmoid(), true_roughness)
    ]
    save(args.out / "globe.png", *shown)
    save(args.out / "roughness.png", torch.cat([logits.sigmoid()[0], true_roughness[0]], 0))
    save(args.out / "levels.png", *(torch.cat(list(x[0]), 0) for x in levels))
curve(args.out / "curve.png", "mean square error of images", environment=losses)
print(f"roughness: mean error {float(error.mean()):.4f}")
