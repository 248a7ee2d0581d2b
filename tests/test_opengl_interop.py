# SPDX-License-Identifier: MIT
"""The way across that stays on an NVIDIA GPU, without one: a stand-in for cuda.bindings.runtime that moves
the bytes and insists on the order of calls that CUDA's manual asks for. Only a GPU can tell whether the
driver agrees.
"""

import ctypes
import enum
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

import rastergrad as rg
from rastergrad.core import opengl, opengl_transfer
from rastergrad.core.opengl_transfer import Cuda
from rastergrad.ops.rasterize.opengl import Renderer
from testing import scenes, with_opengl

pytestmark = with_opengl.needs_opengl

CPU = torch.device("cpu")
STREAM = 0xBEEF
_BUFFER, _BUFFER_SIZE = 0x8892, 0x8764


class Status(enum.IntEnum):
    success = 0
    invalid = 1


class Runtime:
    """Buffers of OpenGL: what is in them is copied out when they are mapped, and back afterwards."""

    cudaGLDeviceList = SimpleNamespace(cudaGLDeviceListAll=1)  # noqa: N815, the bindings' names
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyDeviceToDevice=3)  # noqa: N815

    def __init__(self, context: opengl.Context, drawing: tuple[int, ...] = (0,)) -> None:
        load = context._native.load
        self.gl, self.drawing = context.gl, drawing
        self.read = ctypes.CFUNCTYPE(None, ctypes.c_uint, *[ctypes.c_ssize_t] * 2, ctypes.c_void_p)(
            load("glGetBufferSubData")
        )
        self.size_of = ctypes.CFUNCTYPE(None, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p)(
            load("glGetBufferParameteriv")
        )
        self.calls: list[str] = []
        self.registered: dict[int, int] = {}  # resource -> bytes when it was registered
        self.names: dict[int, int] = {}  # resource -> buffer
        self.mapped: dict[int, Any] = {}
        self.device: int | None = None

    def _size(self, name: int) -> int:
        size = ctypes.c_int()
        self.gl.BindBuffer(_BUFFER, name)
        self.size_of(_BUFFER, _BUFFER_SIZE, ctypes.byref(size))
        return size.value

    def cudaSetDevice(self, device: int) -> tuple[Status]:  # noqa: N802
        self.device = device
        return (Status.success,)

    def cudaGLGetDevices(self, count: int, which: int) -> tuple[Status, int, list[int]]:  # noqa: N802
        assert self.device is not None
        assert which == 1
        found = list(self.drawing[:count])
        return Status.success, len(found), found + [0] * (count - len(found))

    def cudaGraphicsGLRegisterBuffer(self, name: int, flags: int) -> tuple[Status, int]:  # noqa: N802
        assert flags == 0  # read and written
        assert name not in [self.names[r] for r in self.registered], "registered twice"
        resource = 1000 + len(self.calls)
        self.calls.append("register")
        self.registered[resource], self.names[resource] = self._size(name), name
        return Status.success, resource

    def cudaGraphicsUnregisterResource(self, resource: int) -> tuple[Status]:  # noqa: N802
        self.calls.append("unregister")
        assert resource not in self.mapped
        assert self._size(self.names[resource]) == self.registered.pop(resource), "resized while registered"
        return (Status.success,)

    def cudaGraphicsMapResources(self, count: int, resource: int, stream: int) -> tuple[Status]:  # noqa: N802
        self.calls.append("map")
        assert (count, stream) == (1, STREAM)
        assert not self.mapped
        size = self.registered[resource]
        assert self._size(self.names[resource]) == size, "resized while registered"
        self.mapped[resource] = memory = ctypes.create_string_buffer(size)
        self.read(_BUFFER, 0, size, memory)
        return (Status.success,)

    def cudaGraphicsResourceGetMappedPointer(self, resource: int) -> tuple[Status, int, int]:  # noqa: N802
        memory = self.mapped[resource]
        return Status.success, ctypes.addressof(memory), len(memory)

    def cudaMemcpyAsync(self, to: int, of: int, count: int, kind: int, stream: int) -> tuple[Status]:  # noqa: N802
        self.calls.append("copy")
        assert (kind, stream) == (3, STREAM)
        ((start, size),) = [(ctypes.addressof(m), len(m)) for m in self.mapped.values()]
        inside = to if start <= to < start + size else of
        assert start <= inside
        assert inside + count <= start + size
        ctypes.memmove(to, of, count)
        return (Status.success,)

    def cudaGraphicsUnmapResources(self, count: int, resource: int, stream: int) -> tuple[Status]:  # noqa: N802
        self.calls.append("unmap")
        assert (count, stream) == (1, STREAM)
        memory = self.mapped.pop(resource)
        self.gl.BindBuffer(_BUFFER, self.names[resource])
        self.gl.BufferSubData(_BUFFER, 0, len(memory), memory)
        return (Status.success,)


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Renderer, Runtime]]:
    """A renderer whose tensors, on the CPU in truth, cross as those on a GPU do."""
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: SimpleNamespace(cuda_stream=STREAM))
    with with_opengl.require() as context:
        renderer, runtime = Renderer(context), Runtime(context)
        way = Cuda(context.gl, runtime, CPU)  # type: ignore[arg-type]
        monkeypatch.setattr(renderer, "_way", lambda _: way)
        yield renderer, runtime


def test_results_are_those_of_the_way_through_host_memory(drawing: tuple[Renderer, Runtime]) -> None:
    """Minibatches in parts, ranges, layers, and meshes that grow and shrink."""
    renderer, runtime = drawing
    for count, views, size in ((200, 3, (20, 30)), (3000, 2, (33, 17)), (100, 1, (64, 64)), (100, 5, (8, 8))):
        mesh = scenes.sphere(count)
        pos, ranges = mesh.clip(scenes.orbit(views)), torch.tensor([[0, 50], [20, 60], [5, 0]])
        renderer.most_images = 2
        for want, got in (
            (rg.rasterize(pos, mesh.tri, size, backend="opengl"), (pos, mesh.tri, None, None, size, False)),
            (
                rg.rasterize(pos[0], mesh.tri, size, ranges=ranges, backend="opengl"),
                (pos[0].contiguous(), mesh.tri, ranges, None, size, False),
            ),
        ):
            rast, rast_db, _ = renderer.draw(*got)
            assert torch.equal(rast, want[0])
            assert torch.equal(rast_db, want[1])
        key = None
        for want_rast, _ in list(rg.depth_layers(pos, mesh.tri, size, 3, backend="opengl")):
            rast, _, key = renderer.draw(pos, mesh.tri, None, key, size, True)
            assert torch.equal(rast, want_rast)
    assert runtime.mapped == {}
    assert len(runtime.registered) <= 3


def test_buffers_are_registered_once(drawing: tuple[Renderer, Runtime]) -> None:
    """The second frame maps what it has: positions in, two images out. Topology stays."""
    renderer, runtime = drawing
    mesh = scenes.sphere(500)
    pos = mesh.clip(scenes.orbit(2))
    renderer.draw(pos, mesh.tri, None, None, (16, 16), False)
    once = ["map", "copy", "unmap"]
    assert runtime.calls == ["register", *once] * 3 + once
    runtime.calls.clear()
    renderer.draw(pos * 0.5, mesh.tri, None, None, (16, 16), False)
    assert runtime.calls == once * 3


def test_another_gpu_is_refused() -> None:
    with (
        with_opengl.require() as context,
        pytest.raises(
            RuntimeError, match=r"CUDA numbers \[1\], tensors are on cuda:0\. Let RASTERGRAD_EGL_DEVICE"
        ),
    ):
        Cuda(context.gl, Runtime(context, drawing=(1,)), CPU)  # type: ignore[arg-type]


def test_a_failing_call_is_named_and_leaves_nothing_mapped(
    drawing: tuple[Renderer, Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer, runtime = drawing
    monkeypatch.setattr(runtime, "cudaMemcpyAsync", lambda *_: (Status.invalid,))
    mesh = scenes.sphere(100)
    with pytest.raises(RuntimeError, match=r"cudaMemcpyAsync fails with .*invalid.*RASTERGRAD_GL_INTEROP=0"):
        renderer.draw(mesh.clip(scenes.orbit(1)), mesh.tri, None, None, (4, 4), False)
    assert runtime.mapped == {}


def test_who_crosses_how(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the GPU with NVIDIA's torch and the bindings; through host memory for all others and on request."""
    runtime = ModuleType("runtime")
    monkeypatch.setattr("rastergrad.ops.rasterize.opengl.Cuda", lambda *given: given[1:])
    gpu = torch.device("cuda", 0)
    with with_opengl.require() as context:

        def way(device: torch.device, bindings: ModuleType | None = runtime, nvidia: bool = True) -> Any:
            monkeypatch.setattr("rastergrad.ops.rasterize.opengl.cuda_runtime", lambda: bindings)
            renderer = Renderer(context)
            renderer._nvidia = nvidia
            chosen = renderer._way(device)
            return "host" if chosen is renderer._host else chosen

        assert way(CPU) == "host"
        assert way(torch.device("xpu", 0)) == "host"
        assert way(gpu, None) == "host"
        assert way(gpu, nvidia=False) == "host"  # drawn by Mesa, as RASTERGRAD_EGL_DEVICE may say
        assert way(gpu) == (runtime, gpu)
        monkeypatch.setenv("RASTERGRAD_GL_INTEROP", "0")
        assert way(gpu) == "host"
        monkeypatch.delenv("RASTERGRAD_GL_INTEROP")
        monkeypatch.setattr(torch.version, "hip", "6.0")
        assert way(gpu) == "host"


def test_the_bindings_are_looked_for() -> None:
    try:
        import cuda.bindings.runtime as installed
    except ImportError:
        installed = None
    assert opengl_transfer.cuda_runtime() is installed
