# SPDX-License-Identifier: MIT
"""rastergrad: differentiable rasterisation for PyTorch, in four primitives."""

from .core.native import memory_use, release_memory
from .ops.antialias.op import antialias
from .ops.antialias.topology import EdgeTopology, edge_topology
from .ops.interpolate.op import interpolate

__version__ = "0.1.0"

__all__ = ["EdgeTopology", "antialias", "edge_topology", "interpolate", "memory_use", "release_memory"]
