# SPDX-License-Identifier: MIT
"""texture on a GPU: levels, scratch, and which kernels run."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...core import gpu, gpu_sums

_HERE = Path(__file__).parent
_FORWARD = gpu.Module(_HERE / "cuda.cu")
_BACKWARD = gpu.Module(_HERE / "cuda_backward.cu")
_MIPMAP = gpu.Module(_HERE / "cuda_mipmap.cu")
_MOST_LEVELS = 25
_TILE = 16  # side of the first level that a block makes
_MOST_AT_ONCE = 5
_WRAP_TO_CUBE = 3  # number of the boundary mode "cube"


def build_stack(tex: Tensor, depth: int, length: int) -> Tensor:
    """Levels 1 to `depth` one behind the other, and what pads them to `length` elements."""
    data = gpu.empty((length,), tex.dtype, tex.device)
    *outer, height, width, channels = tex.shape
    planes = int(torch.Size(outer).numel())
    launch = _MIPMAP.on(tex.device, tex.dtype)
    size, source, done, begin = tex.element_size(), tex.data_ptr(), 0, 0
    while done < depth:
        even = min(_halvings(height), _halvings(width), _MOST_AT_ONCE, depth - done)
        count = max(even, 1)
        fields = source, data.data_ptr() + begin * size, planes, height, width, channels, count
        if even:
            tiles = -(-(width // 2) // _TILE) * -(-(height // 2) // _TILE)
            launch.blocks("texture_stack_tile", (planes * tiles, -(-channels // 4), 1), *fields)
        else:
            smaller = max(height // 2, 1) * max(width // 2, 1)
            launch.over("texture_stack_level", planes * smaller * channels, *fields)
        for _ in range(count):
            source = data.data_ptr() + begin * size
            height, width = max(height // 2, 1), max(width // 2, 1)
            begin += planes * height * width * channels
        done += count
    data[begin:].zero_()
    return data


def _halvings(side: int) -> int:
    """How often a side can be halved without a rest."""
    return (side & -side).bit_length() - 1


def _sizes(tex: Tensor, depth: int) -> list[int]:
    """Texels of all images of the base and of each level above it."""
    *outer, height, width, _ = tex.shape
    planes = int(torch.Size(outer).numel())
    return [planes * max(height >> k, 1) * max(width >> k, 1) for k in range(depth + 1)]


def _query(
    tex: Tensor,
    uv: Tensor,
    uv_da: Tensor | None,
    bias: Tensor | None,
    stack: Tensor | None,
    rast: Tensor | None,
    levels: Sequence[Tensor],
    modes: Sequence[int],
    by_four: bool,
) -> tuple[int | None, ...]:
    filter_mode, boundary_mode, depth, circular = modes
    pointers = [tex.data_ptr(), *(x.data_ptr() for x in levels)]
    if stack is not None and not levels:
        begin = stack.data_ptr()
        for texels in _sizes(tex, depth)[1:]:
            pointers.append(begin)
            begin += texels * tex.shape[-1] * tex.element_size()
    pointers += [0] * (_MOST_LEVELS - len(pointers))
    images, rows, columns = uv.shape[:3]
    return (
        uv.data_ptr(),
        gpu.address(uv_da),
        gpu.address(bias),
        gpu.address(rast),
        images,
        rows * columns,
        tex.shape[0],
        *tex.shape[-3:],
        depth,
        filter_mode,
        boundary_mode,
        circular,
        int(by_four),
        *pointers,
    )


def _aligned(uv_da: Tensor | None, boundary_mode: int) -> Tensor | None:
    """Derivatives of coordinates are read four at a time; those of directions are not."""
    return uv_da if uv_da is None or boundary_mode == _WRAP_TO_CUBE else gpu.aligned(uv_da)


def forward(
    tex: Tensor,
    uv: Tensor,
    uv_da: Tensor | None,
    bias: Tensor | None,
    stack: Tensor | None,
    rast: Tensor | None,
    filter_mode: int,
    boundary_mode: int,
    depth: int,
    circular: int,
    levels: Sequence[Tensor],
) -> Tensor:
    """The colours."""
    channels = tex.shape[-1]
    out = gpu.empty((*uv.shape[:3], channels), tex.dtype, tex.device)
    by_four = channels % 4 == 0
    if by_four:
        tex, levels = gpu.aligned(tex), [gpu.aligned(x) for x in levels]
    uv_da = _aligned(uv_da, boundary_mode)
    modes = filter_mode, boundary_mode, depth, circular
    query = _query(tex, uv, uv_da, bias, stack, rast, levels, modes, by_four)
    items = int(uv.shape[:3].numel()) * -(-channels // 4)
    _FORWARD.on(tex.device, tex.dtype).over("texture_forward", items, *query, out.data_ptr())
    return out


def backward(
    wanted: Sequence[bool],
    tex: Tensor,
    uv: Tensor,
    uv_da: Tensor | None,
    bias: Tensor | None,
    stack: Tensor | None,
    rast: Tensor | None,
    modes: Sequence[int],
    levels: Sequence[Tensor],
    d_out: Tensor,
) -> list[Tensor | None]:
    """Gradients of `tex`, `uv`, `uv_da`, `bias` and of each of `levels`, where wanted."""
    filter_mode, boundary_mode, depth, _ = modes
    device, dtype, channels = tex.device, tex.dtype, tex.shape[-1]
    sizes = _sizes(tex, depth)
    # Gradients of a stack's levels go down to the base; those of given levels stay there.
    kept = [wanted[0]] * len(sizes) if not levels else [wanted[0], *wanted[4:]]
    stride = 4 if channels == 3 else channels
    offsets, total = [], 0
    for texels, keep in zip(sizes, kept, strict=True):
        offsets.append(total if keep else -1)
        total += texels if keep else 0
    sums = gpu_sums.Sums((total * stride,), dtype, device) if total else None
    given = (uv, uv_da, bias)
    d_uv, d_uv_da, d_bias = (
        gpu.empty(x.shape, dtype, device) if want and x is not None else None
        for x, want in zip(given, wanted[1:4], strict=True)
    )
    uv_da = _aligned(uv_da, boundary_mode)
    launch = _BACKWARD.on(device, dtype)
    query = _query(tex, uv, uv_da, bias, stack, rast, levels, modes, False)
    table = [*offsets, *[-1] * (_MOST_LEVELS - len(offsets))]
    nearest = filter_mode == 0
    for _ in gpu_sums.passes(sums) if sums is not None or not nearest else ():
        launch.over(
            "texture_backward_nearest" if nearest else "texture_backward",
            int(uv.shape[:3].numel()),
            *query,
            d_out.data_ptr(),
            *gpu_sums.fields(sums),
            stride,
            gpu.address(d_uv),
            gpu.address(d_uv_da),
            gpu.address(d_bias),
            *table,
        )
    grads: list[Tensor | None] = [None, d_uv, d_uv_da, d_bias, *[None] * len(levels)]
    if sums is None:
        return grads
    flat = sums.total()
    *outer, height, width, _ = tex.shape
    if not levels and depth:
        d_tex = gpu.empty(tex.shape, dtype, device)
        planes = int(torch.Size(outer).numel())
        cells = planes * max(height // 2, 1) * max(width // 2, 1)
        fields = planes, height, width, channels, stride, depth, *table
        launch.over("texture_gather", cells * channels, flat.data_ptr(), d_tex.data_ptr(), *fields)
        grads[0] = d_tex
        return grads
    if stride != channels:
        padded, flat = flat, gpu.empty((total * channels,), dtype, device)
        fields = total, stride, channels
        launch.over("texture_compact", total * channels, padded.data_ptr(), flat.data_ptr(), *fields)
    for k, (x, offset) in enumerate(zip((tex, *levels), offsets, strict=False)):
        if offset >= 0:
            part = flat[offset * channels : offset * channels + x.numel()].view(x.shape)
            grads[0 if k == 0 else 3 + k] = part
    return grads
