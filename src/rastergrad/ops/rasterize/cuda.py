# SPDX-License-Identifier: MIT
"""rasterize on a GPU: scratch, and which kernels of cuda.cu and cuda_backward.cu run."""

from pathlib import Path

import torch
from torch import Tensor

from ...core import gpu, gpu_sums, gpu_tables

_FORWARD = gpu.Module(Path(__file__).parent / "cuda.cu")
_BACKWARD = gpu.Module(Path(__file__).parent / "cuda_backward.cu")
_TILE_X, _TILE_Y = 32, 8  # of a block
_VERTEX_BYTES, _LARGE_BYTES = 16, 64
# Entries of the queues, within which most scenes stay; beyond, threads draw by themselves.
_MOST_SINGLE, _MOST_PARTED = 1 << 21, 1 << 19
_BLOCKS_PER_PROCESSOR = 16


def _tiny(triangles: int, pixels: int) -> int:
    """Triangles whose box has no more pixels are drawn by one thread. Where triangles are few, so are
    threads, and warps share the work better; where they are many, the queue's memory costs more than an idle
    lane.
    """
    return 64 if triangles * 30 > pixels else 16


def _tiles(images: int, height: int, width: int) -> tuple[int, int, int]:
    return images * -(-width // _TILE_X) * -(-height // _TILE_Y), 1, 1


def forward(
    pos: Tensor,
    tri: Tensor,
    ranges: Tensor | None,
    previous_key: Tensor | None,
    height: int,
    width: int,
    layered: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """`rast`, `rast_db` and, where `layered`, the depth of what was drawn."""
    device, dtype = pos.device, pos.dtype
    vertices, triangles = pos.shape[-2], tri.shape[0]
    pos = gpu.aligned(pos)
    # On the CPU by contract: how much work there is must be known without asking the GPU.
    table = None if ranges is None else ranges.flatten().tolist()
    images = pos.shape[0] if table is None else len(table) // 2
    most = triangles if table is None else max(table[1::2], default=0)
    rast = gpu.empty((images, height, width, 4), dtype, device)
    rast_db = gpu.empty((images, height, width, 4), dtype, device)
    key = gpu.empty((images, height, width) if layered else (0,), torch.float32, device)
    if images == 0:
        return rast, rast_db, key

    pixels, placed = images * height * width, (images if table is None else 1) * vertices
    # Clipping makes pieces; a few more entries than triangles are enough for most.
    single = min(images * min(most, triangles) + 1024, _MOST_SINGLE)
    parted = min(single, _MOST_PARTED)
    words = gpu.empty((pixels,), torch.int64, device)
    screen = gpu.empty((max(placed, 1) * _VERTEX_BYTES,), torch.uint8, device)
    queues = gpu.empty(((single + parted) * _LARGE_BYTES,), torch.uint8, device)
    counts = gpu.empty((2,), torch.int64, device)
    on_device = None if table is None else gpu_tables.table(table, device)
    fields = (
        pos.data_ptr(),
        tri.data_ptr(),
        gpu.address(on_device),
        gpu.address(previous_key),
        words.data_ptr(),
        screen.data_ptr(),
        queues.data_ptr(),
        queues.data_ptr() + single * _LARGE_BYTES,
        counts.data_ptr(),
        images,
        vertices,
        triangles,
        height,
        width,
        most,
        single,
        parted,
        _tiny(images * most, pixels),
    )
    launch = _FORWARD.on(device, dtype)
    everywhere = gpu.processors(device) * _BLOCKS_PER_PROCESSOR
    launch.blocks("rasterize_begin", (everywhere, 1, 1), *fields)
    if most and triangles and vertices:
        launch.over("rasterize_triangles", min(images * (most + 128), 2**31 * 64), *fields)
        launch.blocks("rasterize_chunks", (everywhere, 1, 1), *fields)
    launch.blocks(
        "rasterize_shade",
        _tiles(images, height, width),
        pos.data_ptr(),
        tri.data_ptr(),
        words.data_ptr(),
        rast.data_ptr(),
        rast_db.data_ptr(),
        key.data_ptr() if layered else None,
        images,
        vertices,
        height,
        width,
        int(table is None),
    )
    return rast, rast_db, key


def backward(
    pos: Tensor,
    tri: Tensor,
    rast: Tensor,
    d_rast: Tensor | None,
    d_rast_db: Tensor | None,
    instanced: bool,
    depth_grad: bool,
    interior_gate: bool,
) -> Tensor:
    """The gradient of `pos`."""
    device, dtype = pos.device, pos.dtype
    images, height, width = rast.shape[:3]
    sums = gpu_sums.Sums(pos.shape, dtype, device)
    pos, rast = gpu.aligned(pos), gpu.aligned(rast)
    d_rast = None if d_rast is None else gpu.aligned(d_rast)
    d_rast_db = None if d_rast_db is None else gpu.aligned(d_rast_db)
    launch = _BACKWARD.on(device, dtype)
    for _ in gpu_sums.passes(sums):
        launch.blocks(
            "rasterize_backward",
            _tiles(images, height, width),
            pos.data_ptr(),
            tri.data_ptr(),
            rast.data_ptr(),
            gpu.address(d_rast),
            gpu.address(d_rast_db),
            *sums.fields(),
            images,
            pos.shape[-2],
            tri.shape[0],
            height,
            width,
            int(instanced),
            int(depth_grad),
            int(interior_gate),
        )
    return sums.total()
