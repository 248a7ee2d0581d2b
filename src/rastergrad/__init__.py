# SPDX-License-Identifier: MIT
"""rastergrad: differentiable rasterisation for PyTorch, in four primitives."""

from .core.debug import debug
from .core.native import memory_use, release_memory
from .core.system_memory import recycle_torch_memory
from .core.torch_threads import rest_torch_threads
from .ops.antialias.counts import OutlineCounts, outline_counts
from .ops.antialias.op import antialias
from .ops.antialias.topology import EdgeTopology, edge_topology
from .ops.interpolate.op import interpolate
from .ops.rasterize.op import depth_layers, rasterize
from .ops.texture.mipmap import MipStack, build_mipmaps
from .ops.texture.op import texture

__version__ = "0.1.0"

# In pipeline order.
__all__ = [  # noqa: RUF022
    "rasterize",
    "depth_layers",
    "interpolate",
    "build_mipmaps",
    "MipStack",
    "texture",
    "edge_topology",
    "EdgeTopology",
    "antialias",
    "outline_counts",
    "OutlineCounts",
    "debug",
    "memory_use",
    "release_memory",
    "recycle_torch_memory",
    "rest_torch_threads",
]
