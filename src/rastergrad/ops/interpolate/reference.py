# SPDX-License-Identifier: MIT
"""Interpolation from its definition: float64 PyTorch, gradients by autograd only.

Attributes are blended with the barycentrics of the fragment buffer, out = u a0 + v a1 + (1-u-v) a2, and their
image-space derivatives follow from those of u and v. Only covered pixels are ever computed, so nothing stored
at a background pixel, nor in an attribute row that nobody refers to, can leak into values or gradients.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_LARGEST_EXACT_ID = 1 << 24
# Above 2^24 the id is the float's bit pattern minus this (2^24 itself has the bits 0x4B800000)
_ID_BITS = 0x4A800000


def interpolate(
    attr: Tensor,
    rast: Tensor,
    tri: Tensor,
    rast_db: Tensor | None = None,
    diff_attrs: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Blend vertex attributes over the pixels of a fragment buffer.

    Args:
        attr: [V, A], [1, V, A] or [N, V, A] float.
        rast: [N, H, W, 4] float: u, v, z/w and the encoded triangle id.
        tri: [T, 3] integer vertex indices; rows with an index outside [0, V) give zeros.
        rast_db: [N, H, W, 4] float, du/dX du/dY dv/dX dv/dY per pixel; needed with `diff_attrs`.
        diff_attrs: attributes to differentiate, counted from 0; anything outside [0, A) gives a zero pair.

    Returns:
        out [N, H, W, A] and out_da [N, H, W, 2 len(diff_attrs)], in the dtype of `attr`; background is zero.

    Gradients: to attr, to u and v of rast, and to rast_db.
    """
    N, H, W, _ = rast.shape
    V, A = attr.shape[-2:]
    chosen = list(diff_attrs or ())

    # Pixels whose triangle and vertices exist
    index = _triangle_index(rast[..., 3]).reshape(-1)  # [N H W]
    exists = (index >= 0) & (index < tri.shape[0])
    pixel = exists.nonzero().squeeze(1)
    corner = tri.long()[index[pixel]]  # [P, 3]
    in_range = ((corner >= 0) & (corner < V)).all(1)
    pixel, corner = pixel[in_range], corner[in_range]
    if attr.dim() == 3 and attr.shape[0] > 1:
        corner = corner + (pixel // (H * W) * V)[:, None]
    vertices = attr.double().flatten(0, -2)
    uv = rast.double().reshape(-1, 4)[pixel, :2]  # [P, 2]

    quiet = _ZeroUpstream()
    a = quiet.enter(vertices[corner])  # [P, 3, A]
    u, v = quiet.enter(uv).unsqueeze(-1).unbind(1)  # [P, 1] each
    blended = quiet.leave(u * a[:, 0] + v * a[:, 1] + (1 - u - v) * a[:, 2])
    out = _spread(blended, pixel, N * H * W).reshape(N, H, W, A).to(attr.dtype)
    if not chosen:
        return out, out.new_zeros(N, H, W, 0)

    assert rast_db is not None, "diff_attrs needs rast_db"
    column = torch.tensor(chosen, device=attr.device)
    known = (column >= 0) & (column < A)
    quiet = _ZeroUpstream()
    a = quiet.enter(vertices[corner])
    a = torch.cat([a, a.new_zeros(len(pixel), 3, 1)], 2)[:, :, torch.where(known, column, A)]  # [P, 3, E]
    db = quiet.enter(rast_db.double().reshape(-1, 4)[pixel])  # [P, 4]
    du, dv = db[:, None, :2], db[:, None, 2:]  # [P, 1, (X, Y)]
    pairs = du * (a[:, 0] - a[:, 2])[..., None] + dv * (a[:, 1] - a[:, 2])[..., None]  # [P, E, 2]
    pairs = quiet.leave(torch.where(known[:, None], pairs, 0.0).flatten(1))
    return out, _spread(pairs, pixel, N * H * W).reshape(N, H, W, 2 * len(chosen)).to(attr.dtype)


def _triangle_index(ids: Tensor) -> Tensor:
    """Triangle index of each encoded id (docs/definition.md 1); negative where there is none."""
    ids = ids.detach().float()
    exact = ids.clamp(-1.0, float(_LARGEST_EXACT_ID)).nan_to_num(-1.0).long()
    bits = ids.contiguous().view(torch.int32).long() - _ID_BITS
    return torch.where(ids > _LARGEST_EXACT_ID, bits, exact) - 1


def _spread(values: Tensor, pixel: Tensor, count: int) -> Tensor:
    """[P, E] values of the covered pixels as a zero-filled [count, E] image."""
    return values.new_zeros(count, values.shape[1]).index_put((pixel,), values)


class _ZeroUpstream:
    """Keeps pixels with an all-zero upstream gradient out of every gradient, where 0 * NaN would enter."""

    def __init__(self) -> None:
        self.active: Tensor | None = None

    def enter(self, x: Tensor) -> Tensor:
        """Mark a per-pixel input, [P, ...]."""
        if not x.requires_grad:
            return x
        x = x.view_as(x)
        x.register_hook(self._filter)
        return x

    def leave(self, out: Tensor) -> Tensor:
        """Mark the per-pixel output, [P, C]."""
        if not out.requires_grad:
            return out
        out = out.view_as(out)  # hooks run in the order of registration: `out` may itself be an entered input
        out.register_hook(self._see)
        return out

    def _see(self, upstream: Tensor | None) -> None:
        # autograd passes None for a gradient that is zero by construction
        self.active = None if upstream is None else (upstream != 0).any(1)

    def _filter(self, g: Tensor | None) -> Tensor | None:
        if g is None or self.active is None:
            return None
        return torch.where(self.active.reshape(-1, *[1] * (g.dim() - 1)), g, 0.0)
