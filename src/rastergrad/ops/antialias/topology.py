# SPDX-License-Identifier: MIT
"""Which triangles share an edge: built once per index buffer."""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ...core import check, gpu, native
from ...core.autograd import Primitive
from . import cuda

# Half-edges are numbered in 32 bits.
_MOST_TRIANGLES = (2**31 - 1) // 3


@dataclass(frozen=True, eq=False)
class EdgeTopology:
    """The edges of a mesh, for `antialias`; made by `edge_topology` and opaque to callers.

    Half-edge `3 t + k` is the edge of triangle t opposite to its corner k. `twins` holds for each one the
    half-edge on the other side, or -1; of the triangles on a non-manifold edge, those two are paired that
    have the lowest indices.
    """

    twins: Tensor  # int32 [T, 3]
    bounds: Tensor  # int32 [2]: the smallest and the largest vertex index of all triangles

    @property
    def triangles(self) -> int:
        """The number of triangles it was built for."""
        return self.twins.shape[0]

    @property
    def vertices(self) -> int:
        """The smallest number of vertices that its triangles can refer to."""
        return int(self.bounds[1]) + 1

    @cached_property
    def components(self) -> Tensor:
        """For each triangle the lowest one that it is connected to over edges, int32 [T]; found out when
        asked for, as only `visibility` needs it.
        """
        if gpu.runs_on(self.twins.device):
            return cuda.components(self.twins)
        if self.twins.device.type != "cpu":
            return EdgeTopology(self.twins.cpu(), self.bounds).components.to(self.twins.device)
        # No operation of torch: inside functorch its result would have no memory to point at.
        components = native.empty(self.twins.shape[:1], torch.int32)
        native.call(_CONNECT, self.twins.data_ptr(), components.data_ptr(), self.twins.shape[0])
        return components

    @property
    def nbytes(self) -> int:
        """Bytes that it keeps."""
        known = self.__dict__.get("components")
        return self.twins.nbytes + (0 if known is None else known.nbytes)

    def __repr__(self) -> str:
        return f"EdgeTopology(triangles={self.triangles}, vertices={self.vertices})"


def edge_topology(tri: Tensor) -> EdgeTopology:
    """Find out which triangles share an edge, to be used in many calls of `antialias`.

    Args:
        tri: vertex indices, integer [T, 3]. Two triangles share an edge if they refer to the same two vertex
            indices, wherever those lie. Triangles with a negative or repeated index have no edges.

    Returns:
        An opaque object to be passed as `topology`. It belongs to the index buffer as it was: build another
        one after changing `tri`.

    Gradients:
        None.

    Errors:
        TypeError or ValueError if `tri` is no integer tensor of shape [T, 3].

    Cost:
        Some 20 ns per triangle on two threads; 12 bytes per triangle to keep. The result does not depend on
        the number of threads. `antialias` without `topology` does the same and remembers the last few
        results, so this saves only the look-up: a hash of `tri` per call. On a GPU, where a hash would have
        to wait, it knows `tri` again by the tensor itself and its version: pass a topology if another library
        that shares its memory changes it, or if `tri.data` does.

    Source:
        Twin half-edges; Laine et al. 2020, section 3.5, on what they are used for.

    Example:
        >>> import torch, rastergrad as rg
        >>> rg.edge_topology(torch.tensor([[0, 1, 2], [2, 1, 3]]))
        EdgeTopology(triangles=2, vertices=4)
    """
    tri = check.triangles("edge_topology", "tri", tri)
    _check_size("edge_topology", tri)
    if tri.device.type == "meta":
        raise ValueError(
            f"edge_topology: `tri` must hold vertex indices; got {check.describe(tri)}, which holds none."
        )
    if tri.device.type != "cpu" and not gpu.runs_on(tri.device):
        twins, bounds = _primitive(tri.cpu())
        return EdgeTopology(twins.to(tri.device), bounds)
    return EdgeTopology(*_primitive(tri))


def built(tri: Tensor, vertices: int) -> tuple[Tensor, Tensor]:
    """Twins and bounds of `remembered`."""
    topology = remembered(tri, vertices)
    return topology.twins, topology.bounds


def remembered(tri: Tensor, vertices: int) -> EdgeTopology:
    """The edges of contiguous int32 `tri`; a triangle with an index beyond `vertices` has none.

    Remembered by the content of `tri`: its identity would not show a change by NumPy through shared memory,
    and an index buffer that is converted or sliced anew for each call would never be found.
    """
    _check_size("antialias", tri)
    if gpu.runs_on(tri.device):
        return _remembered_by_identity(tri, vertices)
    count, threads = tri.shape[0], native.threads()
    key = (native.call(_FINGERPRINT, tri.data_ptr(), count, threads), count, vertices)
    with _lock:
        known = _recent.get(key)
        if known is not None:
            _recent.move_to_end(key)
            return known
    made = EdgeTopology(*_build(tri, vertices))
    with _lock:
        _recent[key] = made
        while len(_recent) > _KEPT or (len(_recent) > 1 and _remembered_bytes() > _KEPT_BYTES):
            _recent.popitem(last=False)
    return made


def _remembered_by_identity(tri: Tensor, vertices: int) -> EdgeTopology:
    """The same on a GPU, whose memory cannot be looked at without waiting: by the tensor and its version."""
    recording = tri.is_cuda and torch.cuda.is_current_stream_capturing()
    if tri.is_inference():  # its changes are not counted
        return EdgeTopology(*_build(tri, vertices))
    with _lock:
        for known in _identified:
            if known.tensor() is tri and known.key == (tri.data_ptr(), tri._version, vertices):
                return known.topology
    made = EdgeTopology(*_build(tri, vertices))
    # What a graph records belongs to the graph.
    if not recording:
        key = tri.data_ptr(), tri._version, vertices
        with _lock:
            alive = [k for k in _identified if k.tensor() is not None and k.tensor() is not tri]
            _identified[:] = [*alive[1 - _KEPT :], _Identified(weakref.ref(tri), key, made)]
    return made


def matching(function: str, topology: Any, tri: Tensor) -> EdgeTopology:
    """Refuse what cannot belong to `tri`."""
    if not isinstance(topology, EdgeTopology):
        raise TypeError(
            f"{function}: `topology` must be None or a result of `edge_topology(tri)`; "
            f"got {check.describe(topology)}."
        )
    if topology.triangles != tri.shape[0]:
        raise ValueError(
            f"{function}: `topology` must have been built for this `tri`, which has {tri.shape[0]} triangles;"
            f" got one for {topology.triangles}. Build it with `edge_topology(tri)`."
        )
    return topology


_KEPT = 8
_KEPT_BYTES = 256 << 20
_recent: OrderedDict[tuple[int, int, int], EdgeTopology] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True)
class _Identified:
    """The topology of a tensor on a GPU as it was at this version."""

    tensor: "weakref.ref[Tensor]"
    key: tuple[int, int, int]
    topology: EdgeTopology


_identified: list[_Identified] = []

_BUILD = native.kernel("antialias_topology")
_CONNECT = native.kernel("antialias_components")
_FINGERPRINT = native.kernel("antialias_fingerprint")


def _remembered_bytes() -> int:
    return sum(topology.nbytes for topology in _recent.values())


def _check_size(function: str, tri: Tensor) -> None:
    if tri.shape[0] > _MOST_TRIANGLES:
        raise ValueError(
            f"{function}: `tri` must have at most {_MOST_TRIANGLES} triangles; "
            f"got {tri.shape[0]}. Split the mesh."
        )


def _build(tri: Tensor, vertices: int) -> tuple[Tensor, Tensor]:
    if gpu.runs_on(tri.device):
        return cuda.topology(tri, vertices)
    twins = native.empty(tri.shape, torch.int32)
    bounds = torch.empty(2, dtype=torch.int32)
    native.call(
        _BUILD, tri.data_ptr(), twins.data_ptr(), bounds.data_ptr(), tri.shape[0], vertices, native.threads()
    )
    return twins, bounds


def _forward(tri: Tensor) -> tuple[Tensor, ...]:
    return _build(tri, 2**31)


def _backward(
    needs: Sequence[bool], inputs: Sequence[Any], outputs: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> Sequence[Tensor | None]:
    return ()


def _shapes(tri: Tensor) -> tuple[Tensor, ...]:
    return tri.new_empty(tri.shape), tri.new_empty((2,))


_primitive = Primitive(
    "edge_topology",
    "Tensor tri",
    _forward,
    _backward,
    _shapes,
    outputs=2,
    differentiable=0,
    constant_outputs=(0, 1),
)
