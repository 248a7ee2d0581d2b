# SPDX-License-Identifier: MIT
"""From fragments to colours: albedo of a mesh's materials, and a light that needs no setting up."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate as resize
from torch.nn.functional import normalize

import rastergrad as rg
from rastergrad.scene.mesh import Indexed, Mesh, Part
from rastergrad.scene.normals import face_normals

# A key light from the upper left of the camera and a sky; a white surface never exceeds 1.
KEY_FROM_CAMERA = (-0.45, 0.6, 0.7)
KEY, SKY, GROUND = 0.7, 0.3, 0.08


def mip_levels(texture: Tensor) -> list[Tensor]:
    """Levels 1, 2, ... of a texture of any size, down to 1 x 1, by area averages.

    `rastergrad.build_mipmaps` wants sides that halve evenly; pictures of meshes often have others.

    Args:
        texture: [1, h, w, C].
    Returns:
        list of [1, max(1, h >> k), max(1, w >> k), C].
    """
    planes = texture.permute(0, 3, 1, 2)
    levels = []
    while planes.shape[2] > 1 or planes.shape[3] > 1:
        size = (max(1, planes.shape[2] // 2), max(1, planes.shape[3] // 2))
        planes = resize(planes, size=size, mode="area")
        levels.append(planes.permute(0, 2, 3, 1).contiguous())
    return levels


def albedo(mesh: Mesh, rast: Tensor, rast_db: Tensor, *, backend: str | None = None) -> Tensor:
    """Colour of the surface at each pixel before light: base colour x texture x vertex colours.

    Args:
        rast, rast_db: [n, H, W, 4] of `rasterize` with `mesh.tri`.
    Returns:
        [n, H, W, 4] linear RGBA; zero on the background. Alpha is carried but nothing is blended by it.
    Gradients:
        to `rast` and `rast_db`.
    """
    triangle = rast[..., 3:]
    uv = uv_da = None
    if mesh.uv is not None:
        uv, uv_da = rg.interpolate(
            mesh.uv.values, rast, mesh.uv.tri, rast_db, diff_attrs="all", backend=backend
        )
    color = torch.zeros_like(rast)
    for part in mesh.parts:
        own = (triangle > part.first) & (triangle <= part.first + part.count)
        color = torch.where(own, _part_color(part, uv, uv_da, backend).to(rast), color)
    if mesh.colors is not None:
        color = color * rg.interpolate(mesh.colors.values, rast, mesh.colors.tri, backend=backend)[0]
    return color


def _part_color(part: Part, uv: Tensor | None, uv_da: Tensor | None, backend: str | None) -> Tensor:
    if part.texture is None or uv is None:
        return part.base_color
    texel = rg.texture(part.texture, uv, uv_da, mip=mip_levels(part.texture) or None, backend=backend)
    return part.base_color * texel


def facing_normals(mesh: Mesh, eye: Tensor) -> Indexed:
    """The mesh's normals, turned at the corners of each triangle to the side from which the eye sees it.

    Deciding by triangle, not by pixel, keeps smooth normals that lean away a little at an outline as they
    are.

    Args:
        eye: [3] world position.
    Returns:
        normals [3T, 3] and their index buffer.
    Gradients:
        to `mesh.normals.values`.
    """
    flat = face_normals(mesh.positions, mesh.tri)
    first_corner = mesh.positions[mesh.tri[:, 0].long()]
    away = (flat * (eye.to(flat) - first_corner)).sum(-1, keepdim=True) < 0
    seen_side = torch.where(away, -flat, flat)[:, None]  # [T, 1, 3]
    corners = mesh.normals.at_corners()  # [T, 3, 3]
    turned = torch.where((corners * seen_side).sum(-1, keepdim=True) < 0, -corners, corners)
    each_corner = torch.arange(3 * len(flat), dtype=torch.int32).reshape(-1, 3)
    return Indexed(turned.reshape(-1, 3), each_corner)


def light(color: Tensor, normal: Tensor, world_from_cam: Tensor, up: Tensor) -> Tensor:
    """Diffuse light on a surface.

    Args:
        color: [..., 3] linear albedo.  normal: [..., 3] world space, any length, on the side that is seen.
        world_from_cam: [4, 4], places the key light.  up: [3] world direction of the sky.
    Returns:
        [..., 3] linear.
    Gradients:
        to `color` and `normal`.
    """
    axes = world_from_cam[:3, :3].to(normal)
    key = axes @ normalize(torch.tensor(KEY_FROM_CAMERA).to(normal), dim=0)
    unit = normalize(normal, dim=-1)
    lambert = (unit * key).sum(-1, keepdim=True).clamp_min(0)
    height = (unit * normalize(up.to(normal), dim=0)).sum(-1, keepdim=True) * 0.5 + 0.5
    return color * (KEY * lambert + GROUND + (SKY - GROUND) * height)
