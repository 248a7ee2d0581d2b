# SPDX-License-Identifier: MIT
"""The picture that a captured mesh gives: texture times light, then the camera's colour; one pass of the four
primitives.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

import rastergrad as rg
from rastergrad.capture.performance import Performance
from rastergrad.capture.template import Template
from rastergrad.scene.camera import project
from rastergrad.scene.harmonics import shading
from rastergrad.scene.normals import vertex_normals
from rastergrad.scene.pinhole import Pinhole

Size = tuple[int, int]


def clip_matrices(cameras: Sequence[Pinhole], around: Tensor) -> Tensor:
    """World to clip space, with planes that hold everything in front of the cameras.

    Args:
        cameras: n of them.  around: [..., 3] points that shall be seen, world units.
    Returns:
        [n, 4, 4] float32.
    """
    points = around.detach().reshape(-1, 3).double()
    low, high = points.amin(0), points.amax(0)
    centre, radius = (low + high) / 2, float((high - low).norm()) / 2
    matrices = []
    for camera in cameras:
        distance = float((camera.eye.to(centre) - centre).norm())
        near = max(distance - 2 * radius, 0.02 * distance)
        matrices.append(camera.clip_from_world(near, distance + 2 * radius))
    return torch.stack(matrices).to(around)


def draw(
    pos: Tensor,
    template: Template,
    texture: Tensor,
    shade: Tensor | None,
    size: Size,
    *,
    topology: "rg.EdgeTopology | None" = None,
    backend: str | None = None,
) -> Tensor:
    """Images of a textured mesh, lit at its vertices.

    Args:
        pos: [n, V, 4] clip space.
        texture: [1, h, w, 3] linear albedo.
        shade: [n, V, 3] light at each vertex; None for 1.
        size: (H, W), row 0 the bottom.
    Returns:
        [n, H, W, 4] linear light premultiplied by coverage, and coverage.
    Gradients:
        to `pos`, `texture` and `shade`; not through the footprint of texture lookups, whose share in the
        gradient of positions is small beside that of the place looked up.
    """
    rast, rast_db = rg.rasterize(pos, template.tri, size, db_grad=False, backend=backend)
    uv, uv_da = rg.interpolate(template.uv, rast, template.uv_tri, rast_db, "all", backend=backend)
    color = rg.texture(texture, uv, uv_da.detach(), rast=rast, backend=backend)
    if shade is not None:
        color = color * rg.interpolate(shade, rast, template.tri, backend=backend)[0]
    color = torch.cat([color, (rast[..., 3:] > 0).to(color)], dim=-1)
    return rg.antialias(color, rast, pos, template.tri, topology=topology, backend=backend)


def render(
    performance: Performance, frame: int, cameras: Sequence[Pinhole], size: Size | None = None
) -> Tensor:
    """One frame from any cameras, without the colour of a particular one.

    Args:
        frame: index into `performance.positions`.
        cameras: n cameras whose pictures have one size; or `size` is given.
        size: (H, W); that of the first camera when None.
    Returns:
        [n, H, W, 4] linear light premultiplied by coverage, and coverage; row 0 is the bottom.
    """
    positions = performance.positions[frame]
    if size is None:
        size = (cameras[0].height, cameras[0].width)
    with torch.no_grad():
        pos = project(clip_matrices(cameras, positions), positions)
        normal = vertex_normals(positions, performance.template.tri)
        shade = shading(normal, performance.light).clamp_min(0)
        return draw(
            pos,
            performance.template,
            performance.texture[None],
            shade[None].expand(len(pos), -1, -1).contiguous(),
            size,
        )
