# SPDX-License-Identifier: MIT
"""interpolate on a GPU: what the kernels of cuda.cu are given."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ...core import gpu, gpu_sums, gpu_tables

_MODULE = gpu.Module(Path(__file__).parent / "cuda.cu")
_PIXELS = 256  # of a block forward
_TILE_X, _TILE_Y = 32, 8  # of a block backward


def _table(channels: Sequence[int], attr: Tensor) -> Tensor | None:
    """The channels with derivatives for kernels; None for all in order."""
    if not channels or list(channels) == list(range(attr.shape[-1])):
        return None
    return gpu_tables.table(channels, attr.device)


def _stride(attr: Tensor) -> int:
    return attr[0].numel() if attr.ndim == 3 and attr.shape[0] > 1 else 0


def forward(
    attr: Tensor, rast: Tensor, rast_db: Tensor | None, tri: Tensor, channels: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """`out` and `out_da`."""
    images, height, width = rast.shape[:3]
    pixels = height * width
    out = gpu.empty((images, height, width, attr.shape[-1]), attr.dtype, attr.device)
    out_da = gpu.empty((images, height, width, 2 * len(channels)), attr.dtype, attr.device)
    rast = gpu.aligned(rast)
    rast_db = None if rast_db is None else gpu.aligned(rast_db)
    table = _table(channels, attr)
    _MODULE.on(attr.device, attr.dtype).blocks(
        "interpolate_forward",
        (images * -(-pixels // _PIXELS), 1, 1),
        attr.data_ptr(),
        rast.data_ptr(),
        gpu.address(rast_db),
        tri.data_ptr(),
        gpu.address(table),
        out.data_ptr(),
        out_da.data_ptr(),
        images,
        pixels,
        *attr.shape[-2:],
        tri.shape[0],
        len(channels),
        _stride(attr),
    )
    return out, out_da


def backward(
    needs: Sequence[bool],
    attr: Tensor,
    rast: Tensor,
    rast_db: Tensor | None,
    tri: Tensor,
    channels: Sequence[int],
    d_out: Tensor | None,
    d_out_da: Tensor | None,
) -> Sequence[Tensor | None]:
    """One gradient or None per differentiable input of the operation."""
    images, height, width = rast.shape[:3]
    device, dtype = attr.device, attr.dtype
    sums = gpu_sums.Sums(attr.shape, dtype, device) if needs[0] else None
    d_rast = gpu.empty(rast.shape, dtype, device) if needs[1] else None
    d_rast_db = gpu.empty(rast.shape, dtype, device) if needs[2] and rast_db is not None else None
    rast = gpu.aligned(rast)
    rast_db = None if rast_db is None else gpu.aligned(rast_db)
    table = _table(channels, attr)
    d_out_da = d_out_da if channels else None
    # Four channels at a time, unless their derivatives' upstream is taken along channel by channel.
    by_four = False
    if d_out is not None and attr.shape[-1] % 4 == 0 and (d_out_da is None or table is not None):
        by_four, attr, d_out = True, gpu.aligned(attr), gpu.aligned(d_out)
    launch = _MODULE.on(device, dtype)
    for _ in gpu_sums.passes(sums):
        launch.blocks(
            "interpolate_backward",
            (images * -(-width // _TILE_X) * -(-height // _TILE_Y), 1, 1),
            attr.data_ptr(),
            rast.data_ptr(),
            gpu.address(rast_db),
            tri.data_ptr(),
            gpu.address(table),
            gpu.address(d_out),
            gpu.address(d_out_da),
            *gpu_sums.fields(sums),
            gpu.address(d_rast),
            gpu.address(d_rast_db),
            images,
            height,
            width,
            *attr.shape[-2:],
            tri.shape[0],
            len(channels),
            _stride(attr),
            int(by_four),
        )
    return None if sums is None else sums.total(), d_rast, d_rast_db
