# SPDX-License-Identifier: MIT
"""Images of a mesh: colour, depth, normals, triangle ids; one sample per pixel, edges by `antialias`."""

import torch
from torch import Tensor

import rastergrad as rg
from rastergrad.scene.camera import Camera, project
from rastergrad.scene.image import linear_from_srgb, srgb_from_linear
from rastergrad.scene.mesh import Mesh
from rastergrad.scene.shade import albedo, facing_normals, light

WORLD_UP = torch.tensor([0.0, 1.0, 0.0])
Size = tuple[int, int]


def render_color(
    mesh: Mesh, camera: Camera, size: Size, *, up: Tensor = WORLD_UP, backend: str | None = None
) -> Tensor:
    """The lit mesh.

    Args:
        mesh: what to draw.
        camera: from where.
        size: (H, W) in pixels.
        up: [3] world direction of the sky light.
        backend: None chooses by device; "cpu", "cuda", "opengl" or "reference".
    Returns:
        [H, W, 4] linear light premultiplied by coverage, and coverage; zero where there is nothing.
    Gradients:
        to the mesh's float tensors, through visibility too.
    Cost:
        Memory about 200 bytes a pixel.
    """
    pos = project(camera.clip_from_world, mesh.positions)[None]
    rast, rast_db = rg.rasterize(pos, mesh.tri, size, backend=backend)
    world_from_cam = torch.linalg.inv(camera.cam_from_world)
    normals = facing_normals(mesh, world_from_cam[:3, 3])
    normal, _ = rg.interpolate(normals.values, rast, normals.tri, backend=backend)
    color = albedo(mesh, rast, rast_db, backend=backend)
    covered = (rast[..., 3:] > 0).to(color)
    lit = light(color[..., :3], normal, world_from_cam, up)
    return rg.antialias(torch.cat([lit, covered], dim=-1), rast, pos, mesh.tri, backend=backend)[0]


def render_depth(mesh: Mesh, camera: Camera, size: Size, *, backend: str | None = None) -> Tensor:
    """Distance from the camera along its axis, in world units.

    Returns:
        [H, W]; 0 where there is nothing. Not antialiased: a mean of two depths is the depth of neither.
    """
    in_cam = project(camera.cam_from_world, mesh.positions)
    rast = _rasterize(mesh, camera, size, backend)
    depth, _ = rg.interpolate(-in_cam[:, 2:3].contiguous(), rast, mesh.tri, backend=backend)
    return depth[0, ..., 0]


def render_normals(mesh: Mesh, camera: Camera, size: Size, *, backend: str | None = None) -> Tensor:
    """Unit normals in world space as the mesh has them, not turned toward the camera.

    Returns:
        [H, W, 3]; 0 where there is nothing. Not antialiased.
    """
    rast = _rasterize(mesh, camera, size, backend)
    normal, _ = rg.interpolate(mesh.normals.values, rast, mesh.normals.tri, backend=backend)
    return torch.nn.functional.normalize(normal[0], dim=-1)


def render_ids(mesh: Mesh, camera: Camera, size: Size, *, backend: str | None = None) -> Tensor:
    """Index of the visible triangle plus one.

    Returns:
        [H, W] int32; 0 where there is nothing.
    """
    value = _rasterize(mesh, camera, size, backend)[0, ..., 3].float()
    # Above 2^24 the float's bit pattern counts on (docs: conventions, triangle ids).
    return torch.where(value <= 2**24, value.int(), value.contiguous().view(torch.int32) - 0x4A800000)


def _rasterize(mesh: Mesh, camera: Camera, size: Size, backend: str | None) -> Tensor:
    pos = project(camera.clip_from_world, mesh.positions)[None]
    return rg.rasterize(pos, mesh.tri, size, db_grad=False, backend=backend)[0]


def render(
    what: str, mesh: Mesh, camera: Camera, size: Size, *, up: str = "y", backend: str | None = None
) -> Tensor:
    """One of the four images by name: "color", "depth", "normals", "ids"; `up`: the upright axis, y or z."""
    if what == "color":
        sky = torch.tensor([0.0, 0.0, 1.0] if up == "z" else [0.0, 1.0, 0.0])
        return render_color(mesh, camera, size, up=sky, backend=backend)
    draw = {"depth": render_depth, "normals": render_normals, "ids": render_ids}[what]
    return draw(mesh, camera, size, backend=backend)


def display(what: str, image: Tensor, background: tuple[float, ...] | None) -> Tensor:
    """An image of `render` as a PNG shows it, values in 0..1.

    Args:
        background: sRGB in 0..1 behind a colour image, or None to leave it transparent.
    """
    if what == "color":
        if background is None:
            return srgb_from_linear(straight(image))
        return srgb_from_linear(over(image, linear_from_srgb(torch.tensor(background))))
    return {"depth": depth_picture, "normals": normal_picture, "ids": id_picture}[what](image)


def over(rgba: Tensor, background: Tensor) -> Tensor:
    """A premultiplied image [H, W, 4] over a colour [3] in linear light: [H, W, 3]."""
    return rgba[..., :3] + (1 - rgba[..., 3:]) * background.to(rgba)


def straight(rgba: Tensor) -> Tensor:
    """A premultiplied image as PNG wants it: colour divided by coverage, [H, W, 4]."""
    alpha = rgba[..., 3:]
    return torch.cat([rgba[..., :3] / alpha.clamp_min(1e-6), alpha.clamp(0, 1)], dim=-1)


def depth_picture(depth: Tensor) -> Tensor:
    """Depth [H, W] for the eye: near white, far dark grey, nothing black; [H, W]."""
    seen = depth > 0
    if not seen.any():
        return torch.zeros_like(depth)
    near, far = depth[seen].min(), depth[seen].max()
    return torch.where(seen, 1 - 0.8 * (depth - near) / (far - near).clamp_min(1e-12), 0.0)


def normal_picture(normals: Tensor) -> Tensor:
    """Normals [H, W, 3] for the eye: x, y, z from -1..1 to red, green, blue, nothing black."""
    seen = (normals != 0).any(-1, keepdim=True)
    return torch.where(seen, normals * 0.5 + 0.5, 0.0)


def id_picture(ids: Tensor) -> Tensor:
    """Ids [H, W] for the eye: a scattered bright colour for each triangle, nothing black; [H, W, 3]."""
    # Multiples of irrational numbers modulo 1 never repeat and spread evenly (Weyl 1916).
    steps = torch.tensor([0.8191725134, 0.6710436067, 0.5497004779], dtype=torch.float64)
    scattered = (ids[..., None].double() * steps) % 1
    return torch.where(ids[..., None] > 0, 0.25 + 0.75 * scattered, 0.0).float()
