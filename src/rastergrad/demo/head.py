# SPDX-License-Identifier: MIT
"""Heads and faces of the Anny model (Brégier et al. 2025; code Apache 2.0, data CC0).

World: metres, +y up, +z out of the face; the origin lies between the ears.
"""

import contextlib
import io
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rastergrad.capture.template import Template
from rastergrad.scene.extra import require

# The neck is cut so far below the eyes, in metres.
NECK_M = 0.135
BONES = ("neck", "head", "eye")
# Chart of each piece of the surface gets so many times the texels of the face's.
EYE_DETAIL, HIDDEN_DETAIL = 1.6, 0.5


@dataclass(frozen=True)
class Head:
    """The head of one identity.

    Attributes:
        template: neutral, with a texture that it fills.
        actions: [K, V, 3] displacements of the face's actions, named by `names` as ARKit names them.
        part: [V] int64: 0 skin, 1 and 2 the eyes, 3 mouth and tongue.
        lips: [L] int64, the vertices where skin and inside of the mouth meet.
    """

    template: Template
    actions: Tensor
    names: tuple[str, ...]
    part: Tensor
    lips: Tensor


def heads(identities: list[dict[str, float]], names: tuple[str, ...]) -> list[Head]:
    """Heads of several identities, with one topology.

    Args:
        identities: values in 0..1 of Anny's phenotypes: gender, age, muscle, weight, height, proportions.
        names: the actions of the face that are wanted.
    Errors:
        MissingExtraError without Anny.
    Cost:
        About a minute the first time, when Anny reads its data and keeps 0.9 GB of it; 3 s later.
    """
    anny: Any = require("anny", "the demo's head model", "capture")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        model = anny.Anny(local_changes="none", facial_actions="all").to(dtype=torch.float32)
        pose = torch.eye(4).repeat(1, model.bone_count, 1, 1)

        def vertices(identity: dict[str, float], action: dict[str, float]) -> Tensor:
            phenotype = {name: identity.get(name, 0.5) for name in model.phenotype_labels}
            with torch.no_grad():
                found = model(
                    pose_parameters=pose,
                    phenotype_kwargs=phenotype,
                    local_changes_kwargs={},
                    facial_actions=action,
                )
            x, y, z = found["vertices"][0].float().unbind(-1)
            return torch.stack([x, z, -y], dim=-1)

        bones = [k for k, name in enumerate(model.bone_labels) if name.startswith(BONES)]
        mine = torch.isin(model.vertex_bone_indices.long(), torch.tensor(bones))
        share = (model.vertex_bone_weights * mine).sum(-1)
        faces, uv_faces = model.faces.long(), model.face_texture_coordinate_indices.long()
        rest = vertices(identities[0], {})
        eyes = [k for k, name in enumerate(model.bone_labels) if name.startswith("eye")]
        is_eye = (
            torch.isin(model.vertex_bone_indices.long(), torch.tensor(eyes)) * model.vertex_bone_weights
        ).sum(-1)
        cut = rest[is_eye > 0.5, 1].mean() - NECK_M
        kept = (share[faces] > 0.2).all(-1) & (rest[faces][..., 1] > cut).all(-1)
        used, tri = faces[kept].unique(return_inverse=True)
        uv_used, uv_tri = uv_faces[kept].unique(return_inverse=True)
        charts = pieces(uv_tri, len(uv_used))
        uv = model.texture_coordinates.float()[uv_used]
        part, lips = _parts(tri, uv_tri, charts, rest[used])
        detail = torch.ones(int(charts.max()) + 1)
        face_chart = charts[uv_tri[:, 0]]
        for chart in range(len(detail)):
            kind = int(part[tri[face_chart == chart][0, 0]])
            largest = int(torch.bincount(charts).argmax())
            detail[chart] = 1.0 if chart == largest else EYE_DETAIL if kind in (1, 2) else HIDDEN_DETAIL
        uv = packed(uv, charts, detail)
        found = []
        for identity in identities:
            neutral = vertices(identity, {})[used]
            origin = (neutral.amax(0) + neutral.amin(0)) / 2 * torch.tensor([0.0, 1.0, 1.0])
            actions = [vertices(identity, {name: 1.0})[used] - neutral for name in names]
            template = Template(neutral - origin, tri.int(), uv, uv_tri.int())
            found.append(Head(template, torch.stack(actions), names, part, lips))
    return found


def pieces(tri: Tensor, count: int) -> Tensor:
    """The connected piece of each vertex, [count] int64."""
    graph = require("scipy.sparse.csgraph", "the demo's head model", "capture")
    sparse = require("scipy.sparse", "the demo's head model", "capture")
    ends = torch.cat([tri[:, [0, 1]], tri[:, [1, 2]]]).numpy()
    joined = sparse.coo_matrix((torch.ones(len(ends)).numpy(), (ends[:, 0], ends[:, 1])), (count, count))
    return torch.from_numpy(graph.connected_components(joined, directed=False)[1]).long()


def _parts(tri: Tensor, uv_tri: Tensor, charts: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """Skin, eyes, mouth; and the lips. Eyes and tongue are loose, the inside of the mouth is a chart."""
    piece = pieces(tri, len(place))
    sizes = torch.bincount(piece)
    part = torch.zeros(len(place), dtype=torch.int64)
    loose = [k for k in range(len(sizes)) if k != int(sizes.argmax())]
    eyes = sorted(loose, key=lambda k: int(sizes[k]))[:2]
    for k in loose:
        part[piece == k] = 1 + eyes.index(k) if k in eyes else 3
    outside, inside = torch.zeros(2, len(place), dtype=torch.bool)
    on_face = charts[uv_tri[:, 0]] == torch.bincount(charts).argmax()
    outside[tri[on_face]] = True
    inside[tri[~on_face]] = True
    away = place - place[(part == 1) | (part == 2)].mean(0)
    near_mouth = (away[:, 0].abs() < 0.045) & (away[:, 1] < -0.03) & (away[:, 1] > -0.09)
    lips = torch.nonzero(outside & inside & (part == 0) & near_mouth)[:, 0]
    part[(part == 0) & ~outside & near_mouth] = 3
    return part, lips


def packed(uv: Tensor, charts: Tensor, detail: Tensor) -> Tensor:
    """Charts side by side in the unit square, as large as shelves allow.

    Args:
        uv: [U, 2].  charts: [U] chart of each.  detail: [K] size of each chart relative to the others.
    """
    count = int(charts.max()) + 1
    low = torch.stack([uv[charts == k].amin(0) for k in range(count)])
    size = torch.stack([uv[charts == k].amax(0) for k in range(count)]) - low
    size = size * detail[:, None]
    order = sorted(range(count), key=lambda k: -float(size[k, 1]))
    margin = 0.01

    def shelves(scale: float) -> Tensor | None:
        corner = torch.zeros(count, 2)
        x = y = height = 0.0
        for k in order:
            width, tall = (size[k] * scale + 2 * margin).tolist()
            if x + width > 1:
                x, y, height = 0.0, y + height, 0.0
            if x + width > 1 or y + tall > 1:
                return None
            corner[k] = torch.tensor([x + margin, y + margin])
            x, height = x + width, max(height, tall)
        return corner

    small, large = 1e-3, 1e3
    for _ in range(60):
        scale = (small * large) ** 0.5
        small, large = (scale, large) if shelves(scale) is not None else (small, scale)
    corner = shelves(small)
    assert corner is not None
    return corner[charts] + (uv - low[charts]) * detail[charts][:, None] * small
