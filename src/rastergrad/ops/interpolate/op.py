# SPDX-License-Identifier: MIT
"""interpolate: vertex attributes and their image-space derivatives at every pixel."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core import check, dispatch, gpu, native, system_memory
from ...core.autograd import Primitive, plain_call
from . import cuda, reference

# ---- public function ---------------------------------------------------------------------------------------


def interpolate(
    attr: Tensor,
    rast: Tensor,
    tri: Tensor,
    rast_db: Tensor | None = None,
    diff_attrs: str | Sequence[int] | np.ndarray[Any, Any] | None = None,
    *,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Interpolate vertex attributes with the perspective-correct barycentrics of each pixel.

    Args:
        attr: attributes, float [V, A] or [1, V, A] for all images alike, or [N, V, A].
        rast: fragment buffer of `rasterize`, float [N, H, W, 4]: (u, v, z/w, id).
        tri: attribute indices, integer [T, 3]. Need not be the rasterised index buffer: row k belongs to
            triangle k.
        rast_db: derivatives of (u, v) to pixels, float [N, H, W, 4]; needed with `diff_attrs`.
        diff_attrs: which attributes get derivatives: None, "all", or channel numbers (negative ones count
            from the end; a number out of range gives zeros).
        backend: None chooses by device; "cpu", "cuda" or "reference". "opengl", which only rasterises, means
            None here.

    Returns:
        `out`, float [N, H, W, A], zero at background, and `out_da`, float [N, H, W, 2 len(diff_attrs)] with
        (d/dX, d/dY) per chosen attribute, X to the right and Y up in pixels; its last size is 0 without
        `diff_attrs`.

    Gradients:
        To `attr`, to (u, v) of `rast`, and to `rast_db`. None to z/w, id and `tri`. A pixel whose upstream
        gradient is exactly zero contributes nothing, even where its attributes are not finite.

    Errors:
        TypeError for what is no tensor of the right kind, ValueError for shapes that do not fit. Attribute
        indices out of range are no error: such pixels are zero.

    Cost:
        One pass over the pixels, bound by memory. Gradients are bitwise deterministic on a CPU, and on a GPU
        under `torch.use_deterministic_algorithms(True)`. Does not synchronise.

    Source:
        Laine et al. 2020, section 3.3.

    Example:
        >>> import torch, rastergrad as rg
        >>> pos = torch.tensor([[[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]]])
        >>> tri = torch.tensor([[0, 1, 2]])
        >>> rast, _ = rg.rasterize(pos, tri, (4, 4))
        >>> out, _ = rg.interpolate(torch.ones(3, 2), rast, tri)
        >>> out.shape, bool((out == 1).all())
        (torch.Size([1, 4, 4, 2]), True)
    """
    name = "interpolate"
    asked_db = None if diff_attrs is None else rast_db
    if (
        backend is None
        and (diff_attrs is None or rast_db is not None)
        and plain_call()
        and native.ordinary("fNHW4 fVA|1VA|NVA iT3 ?fNHW4", rast, attr, tri, asked_db)
    ):
        channels = _channels(diff_attrs, attr.shape[-1])
        used_db = asked_db if channels else None
        out, out_da = _primitive.eager(2, attr, rast, used_db, tri, channels)
        return out, out_da
    check.floating(name, "attr", attr, "[V, A], [1, V, A] or [N, V, A]", (2, 3))
    check.floating(name, "rast", rast, "[N, H, W, 4]", (4,), last=4)
    tri = check.triangles(name, "tri", tri)
    channels = _channels(diff_attrs, attr.shape[-1])
    if channels and rast_db is None:
        raise ValueError(f"{name}: `diff_attrs` needs `rast_db`, the second result of `rasterize`; got None.")
    if rast_db is not None and channels:
        check.floating(name, "rast_db", rast_db, "[N, H, W, 4]", (4,), last=4)
        if rast_db.shape != rast.shape:
            raise ValueError(
                f"{name}: `rast_db` must have the shape of `rast`, {list(rast.shape)}; "
                f"got {list(rast_db.shape)}."
            )
    if attr.ndim == 3 and attr.shape[0] not in (1, rast.shape[0]):
        raise ValueError(
            f"{name}: `attr` must have 1 or {rast.shape[0]} images, as `rast` does; "
            f"got {check.describe(attr)}."
        )
    used_db = rast_db if channels else None
    device = check.same_device(name, attr=attr, rast=rast, tri=tri, rast_db=used_db)
    dtype = check.working_dtype(attr, rast, used_db)
    attr, rast = check.prepared(attr, dtype), check.prepared(rast, dtype)
    used_db = None if used_db is None else check.prepared(used_db, dtype)
    if dispatch.resolve(name, backend, device) == "reference":
        return reference.interpolate(attr, rast, tri.long(), used_db, channels or None)
    out, out_da = _primitive(attr, rast, used_db, tri, channels)
    return out, out_da


def _channels(diff_attrs: Any, count: int) -> list[int]:
    """Channel numbers with derivatives; -1 for one that does not exist."""
    if diff_attrs is None:
        return []
    if isinstance(diff_attrs, str):
        if diff_attrs != "all":
            raise ValueError(
                f'interpolate: `diff_attrs` must be None, "all" or channel numbers; got {diff_attrs!r}.'
            )
        return list(range(count))
    numbers: Any = check.numbers(diff_attrs) if isinstance(diff_attrs, (np.ndarray, Tensor)) else diff_attrs
    flat: list[Any] = [*numbers] if isinstance(numbers, (list, tuple, range)) else [None]
    if not all(isinstance(j, (int, np.integer)) for j in flat):
        raise TypeError(
            f'interpolate: `diff_attrs` must be None, "all" or a flat sequence of whole numbers; '
            f"got {check.describe(diff_attrs)}."
        )
    wrapped = [int(j) + count if j < 0 else int(j) for j in flat]
    return [j if 0 <= j < count else -1 for j in wrapped]


# ---- forward -----------------------------------------------------------------------------------------------

_FORWARD = native.kernels("interpolate_forward")
_BACKWARD = native.kernels("interpolate_backward")


@lru_cache(maxsize=64)
def _channel_table(channels: tuple[int, ...]) -> Tensor:
    return torch.tensor(channels, dtype=torch.int32)


def _sizes(attr: Tensor, pixels: Sequence[int], tri: Tensor, channels: Sequence[int]) -> tuple[int, ...]:
    images, height, columns = pixels
    *outer, vertices, width = attr.shape
    stride = vertices * width if outer and outer[0] > 1 else 0
    return images, height * columns, vertices, width, tri.shape[0], len(channels), stride, native.threads()


def _table(channels: Sequence[int]) -> Tensor | None:
    return _channel_table(tuple(channels)) if channels else None


def _forward(
    attr: Tensor, rast: Tensor, rast_db: Tensor | None, tri: Tensor, channels: Sequence[int]
) -> tuple[Tensor, ...]:
    if gpu.holds(attr):
        return cuda.forward(attr, rast, rast_db, tri, channels)
    *pixels, _ = rast.shape
    sizes = _sizes(attr, pixels, tri, channels)
    width, derivatives = sizes[3], 2 * len(channels)
    system_memory.require(
        "interpolate", sizes[0] * sizes[1] * (width + derivatives) * attr.element_size(), pixels
    )
    out = native.empty_as(attr, *pixels, width)
    out_da = native.empty_as(attr, *pixels, derivatives)
    native.call(_FORWARD[attr.dtype], attr, rast, rast_db, tri, _table(channels), out, out_da, *sizes)
    return out, out_da


# ---- backward ----------------------------------------------------------------------------------------------


def _backward(
    needs: Sequence[bool], inputs: Sequence[Any], outputs: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> Sequence[Tensor | None]:
    attr, rast, rast_db, tri, channels = inputs
    d_out, d_out_da = grads
    if gpu.holds(attr):
        return cuda.backward(needs, attr, rast, rast_db, tri, channels, d_out, d_out_da)
    *pixels, _ = rast.shape
    wanted = (attr.nbytes if needs[0] else 0) + (needs[1] + needs[2]) * rast.nbytes
    system_memory.require("interpolate", wanted, pixels, "gradients")
    d_attr = native.empty_as(attr) if needs[0] else None
    d_rast = native.empty_as(rast) if needs[1] else None
    d_rast_db = native.empty_as(rast_db) if needs[2] else None
    native.call(
        _BACKWARD[attr.dtype],
        attr,
        rast,
        rast_db,
        tri,
        _table(channels),
        d_out,
        d_out_da if channels else None,
        d_attr,
        d_rast,
        d_rast_db,
        *_sizes(attr, pixels, tri, channels),
    )
    return d_attr, d_rast, d_rast_db


# ---- shape-only version ------------------------------------------------------------------------------------


def _shapes(
    attr: Tensor, rast: Tensor, rast_db: Tensor | None, tri: Tensor, channels: Sequence[int]
) -> tuple[Tensor, ...]:
    pixels = rast.shape[:3]
    return attr.new_empty((*pixels, attr.shape[-1])), attr.new_empty((*pixels, 2 * len(channels)))


# ---- registration ------------------------------------------------------------------------------------------

_primitive = Primitive(
    "interpolate",
    "Tensor attr, Tensor rast, Tensor? rast_db, Tensor tri, int[] channels",
    _forward,
    _backward,
    _shapes,
    outputs=2,
    differentiable=3,
)
