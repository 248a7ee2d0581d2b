# SPDX-License-Identifier: MIT
"""A procedural face: skin with freckles, lips, brows, hair, eyes; a function of the place on the head."""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

import rastergrad as rg
from rastergrad.capture.frames import filled_texture
from rastergrad.demo.head import Head

LIP_M = 0.008  # height of a lip
SKIN = torch.tensor([0.50, 0.29, 0.21])
LIPS = torch.tensor([0.45, 0.14, 0.12])
HAIR = torch.tensor([0.09, 0.06, 0.045])
MOUTH = torch.tensor([0.20, 0.05, 0.05])
WHITE = torch.tensor([0.62, 0.58, 0.56])
IRIS = torch.tensor([0.10, 0.20, 0.28])


def noise(place: Tensor, cell: float, seed: int) -> Tensor:
    """Smooth noise in -1..1 at places [..., 3], with cells of `cell` metres."""
    side = 64
    generator = torch.Generator().manual_seed(seed)
    grid = torch.rand(1, 1, side, side, side, generator=generator) * 2 - 1
    # Wraps by mirroring, so any place has a value.
    at = ((place / cell / side * 2 + 1) % 4 - 2).abs() - 1
    return grid_sample(grid, at.reshape(1, 1, 1, -1, 3), align_corners=True).reshape(place.shape[:-1])


def paint(head: Head, side: int, seed: int) -> Tensor:
    """The albedo, [side, side, 3] linear, row 0 is v = 0."""
    template = head.template
    flat = torch.cat(
        [template.uv * 2 - 1, torch.zeros(len(template.uv), 1), torch.ones(len(template.uv), 1)], dim=1
    )
    rast, _ = rg.rasterize(flat[None], template.uv_tri, (side, side), db_grad=False)
    center = torch.zeros_like(template.positions)
    for eye in (1, 2):
        center[head.part == eye] = template.positions[head.part == eye].mean(0)
    per_vertex = torch.cat(
        [
            template.positions,
            template.positions - center,
            (head.part[:, None] == torch.tensor([0, 1, 2, 3])).float(),
            torch.cdist(template.positions, template.positions[head.lips]).amin(1, keepdim=True),
        ],
        dim=1,
    )
    values = rg.interpolate(per_vertex, rast, template.tri)[0][0]
    place, from_eye, part = values[..., :3], values[..., 3:6], values[..., 6:10]
    from_lips = values[..., 10]
    x, y, z = place.unbind(-1)

    coarse, middle, fine = (noise(place, cell, seed + k) for k, cell in enumerate((0.02, 0.006, 0.0025)))
    grain = noise(place, 0.0012, seed + 3)
    color = SKIN * (1 + 0.18 * coarse + 0.12 * middle + 0.10 * fine + 0.08 * grain)[..., None]
    redness = (0.10 * noise(place, 0.03, seed + 4)).clamp_min(0)
    color = color * torch.stack([1 + redness, 1 - redness, 1 - redness], dim=-1)
    freckles = ((fine + 0.6 * middle) > 0.75).float() * 0.35
    color = color * (1 - freckles)[..., None]

    def over(below: Tensor, above: Tensor, amount: Tensor) -> Tensor:
        return below + (above - below) * amount.clamp(0, 1)[..., None]

    color = over(color, LIPS * (1 + 0.15 * fine + 0.1 * grain)[..., None], (1 - from_lips / LIP_M) * 5)
    eyes = template.positions[(head.part == 1) | (head.part == 2)]
    eye_height = eyes[:, 1].mean()
    along = (x.abs() - eyes[:, 0].abs().mean()) / 0.024
    across = (y - eye_height - 0.021 + 0.006 * along.square()).abs() / (0.0045 - 0.0015 * along)
    brow = 3 * (1 - torch.maximum(across, along.abs())) * (z > 0).float()
    color = over(color, HAIR, brow * (0.7 + 0.3 * grain))
    hairline = (y - eye_height - 0.062 + 0.006 * coarse + 0.5 * (-z).clamp_min(-0.03)) * 80
    color = over(color, HAIR * (1 + 0.5 * middle + 0.4 * fine)[..., None], hairline)
    color = over(color, MOUTH * (1 + 0.3 * middle)[..., None], part[..., 3])

    forward = from_eye[..., 2] / from_eye.norm(dim=-1).clamp_min(1e-9)
    eye = WHITE * (1 + 0.06 * middle)[..., None]
    eye = over(eye, IRIS * (1 + 0.5 * fine)[..., None], (forward - 0.885) * 60)
    eye = over(eye, torch.full((3,), 0.01), (forward - 0.975) * 150)
    color = over(color, eye, part[..., 1] + part[..., 2])
    # Colours go on beyond the edges of charts, which lookups near them reach.
    return filled_texture(color.clamp(0.01, 0.95), (rast[0, ..., 3] > 0).float())
