# SPDX-License-Identifier: MIT
"""Between tensors and OpenGL: buffers that grow, and two ways across. `Host` goes through the CPU's memory;
`Cuda` stays on the GPU.

Source for the latter: CUDA driver and runtime manuals, "OpenGL Interoperability"; the calls are those of the
package cuda-bindings.
"""

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import Tensor

from . import native
from .opengl import Functions, name

_ARRAY_BUFFER, _PIXEL_PACK, _PIXEL_UNPACK = 0x8892, 0x88EB, 0x88EC
_STREAM_DRAW, _TEXTURE_BUFFER, _TEXTURE_2D_ARRAY = 0x88E0, 0x8C2A, 0x8C1A
_FLOAT, _RED, _RGBA = 0x1406, 0x1903, 0x1908


class Buffer:
    """Memory of OpenGL's, which grows and keeps its name.

    Args:
        texel: the format by which shaders read it as a texture; 0 if they do not.
    """

    def __init__(self, gl: Functions, texel: int = 0) -> None:
        self.gl, self._texel = gl, texel
        self.name = name(gl.GenBuffers)
        self.texture = name(gl.GenTextures) if texel else 0
        self.capacity = 0
        self.registered: Any = None  # with CUDA

    def reserve(self, count: int) -> bool:
        """Hold at least `count` bytes; whether new memory was needed for it."""
        # What was once large does not stay so.
        if self.capacity // 8 <= count <= self.capacity:
            return False
        gl = self.gl
        gl.BindBuffer(_ARRAY_BUFFER, self.name)
        gl.BufferData(_ARRAY_BUFFER, count, None, _STREAM_DRAW)
        self.capacity = count
        if self.texture:
            gl.BindTexture(_TEXTURE_BUFFER, self.texture)
            gl.TexBuffer(_TEXTURE_BUFFER, self._texel, self.name)
        gl.check(f"a buffer of {count / 1e6:.0f} MB")
        return True


class Transfer(Protocol):
    """A way across. Images are texture arrays of float32 with 1 or 4 channels."""

    def upload(self, tensor: Tensor, buffer: Buffer) -> None: ...
    def upload_image(self, tensor: Tensor, texture: int) -> None: ...
    def empty(self, shape: Sequence[int], device: torch.device) -> Tensor: ...
    def download(self, texture: int, tensor: Tensor) -> None: ...
    def delivered(self, tensor: Tensor, device: torch.device) -> Tensor: ...


class Host:
    """Through the CPU's memory: one copy each way, into recycled memory."""

    def __init__(self, gl: Functions) -> None:
        self.gl = gl

    def upload(self, tensor: Tensor, buffer: Buffer) -> None:
        tensor = tensor.cpu().contiguous()
        if tensor.nbytes:
            buffer.reserve(tensor.nbytes)
            self.gl.BindBuffer(_ARRAY_BUFFER, buffer.name)
            self.gl.BufferSubData(_ARRAY_BUFFER, 0, tensor.nbytes, tensor.data_ptr())

    def upload_image(self, tensor: Tensor, texture: int) -> None:
        _fill(self.gl, texture, tensor.shape, tensor.cpu().contiguous().data_ptr())

    def empty(self, shape: Sequence[int], device: torch.device) -> Tensor:
        return native.empty(shape, torch.float32)

    def download(self, texture: int, tensor: Tensor) -> None:
        gl = self.gl
        gl.BindTexture(_TEXTURE_2D_ARRAY, texture)
        gl.GetTexImage(_TEXTURE_2D_ARRAY, 0, _channels(tensor), _FLOAT, tensor.data_ptr())

    def delivered(self, tensor: Tensor, device: torch.device) -> Tensor:
        return tensor.to(device)


def _channels(tensor: Tensor) -> int:
    return _RGBA if tensor.ndim == 4 else _RED


def _fill(gl: Functions, texture: int, shape: Sequence[int], address: int | None) -> None:
    images, height, width = shape
    gl.BindTexture(_TEXTURE_2D_ARRAY, texture)
    gl.TexSubImage3D(_TEXTURE_2D_ARRAY, 0, 0, 0, 0, width, height, images, _RED, _FLOAT, address)


class Cuda:
    """On the GPU. A buffer is registered with CUDA once for as long as it keeps its memory, and mapped on
    torch's current stream: what CUDA did before is done when OpenGL goes on, and the other way round.

    Args:
        runtime: the module cuda.bindings.runtime.
        device: the GPU, which must be the one that OpenGL draws on.

    Errors:
        RuntimeError if it is another one.
    """

    def __init__(self, gl: Functions, runtime: ModuleType, device: torch.device) -> None:
        self.gl, self._runtime, self._index = gl, runtime, device.index or 0
        self._pixels = Buffer(gl)  # between images and tensors
        self._call("cudaSetDevice", self._index)
        everything = runtime.cudaGLDeviceList.cudaGLDeviceListAll
        count, listed = self._call("cudaGLGetDevices", 64, everything)
        drawing = listed[:count]  # zeros follow, which would be the first GPU
        if self._index not in drawing:
            raise RuntimeError(
                f"rastergrad: OpenGL draws on the GPU that CUDA numbers {drawing}, tensors are on "
                f"cuda:{self._index}. Let RASTERGRAD_EGL_DEVICE name the right one; `rastergrad doctor` "
                "lists them."
            )

    def upload(self, tensor: Tensor, buffer: Buffer) -> None:
        tensor = tensor.contiguous()
        if tensor.nbytes:
            self._reserve(buffer, tensor.nbytes)
            self._copy(buffer, tensor, into_tensor=False)

    def upload_image(self, tensor: Tensor, texture: int) -> None:
        self.upload(tensor, self._pixels)
        self.gl.BindBuffer(_PIXEL_UNPACK, self._pixels.name)
        _fill(self.gl, texture, tensor.shape, None)
        self.gl.BindBuffer(_PIXEL_UNPACK, 0)

    def empty(self, shape: Sequence[int], device: torch.device) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=device)

    def download(self, texture: int, tensor: Tensor) -> None:
        gl = self.gl
        self._reserve(self._pixels, tensor.nbytes)
        gl.BindBuffer(_PIXEL_PACK, self._pixels.name)
        gl.BindTexture(_TEXTURE_2D_ARRAY, texture)
        gl.GetTexImage(_TEXTURE_2D_ARRAY, 0, _channels(tensor), _FLOAT, None)
        gl.BindBuffer(_PIXEL_PACK, 0)
        self._copy(self._pixels, tensor, into_tensor=True)

    def delivered(self, tensor: Tensor, device: torch.device) -> Tensor:
        return tensor

    def _reserve(self, buffer: Buffer, count: int) -> None:
        if buffer.registered is not None and not buffer.capacity // 8 <= count <= buffer.capacity:
            # A registered buffer must not change its memory.
            self._call("cudaGraphicsUnregisterResource", buffer.registered)
            buffer.registered = None
        buffer.reserve(count)
        if buffer.registered is None:
            # Both ways: the buffer for pixels is written to and read from.
            (buffer.registered,) = self._call("cudaGraphicsGLRegisterBuffer", buffer.name, 0)

    def _copy(self, buffer: Buffer, tensor: Tensor, *, into_tensor: bool) -> None:
        stream = torch.cuda.current_stream(self._index).cuda_stream
        resource = buffer.registered
        self._call("cudaSetDevice", self._index)
        self._call("cudaGraphicsMapResources", 1, resource, stream)
        try:
            address, _ = self._call("cudaGraphicsResourceGetMappedPointer", resource)
            ends = (tensor.data_ptr(), address) if into_tensor else (address, tensor.data_ptr())
            kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToDevice
            self._call("cudaMemcpyAsync", *ends, tensor.nbytes, kind, stream)
        finally:
            self._call("cudaGraphicsUnmapResources", 1, resource, stream)

    def _call(self, function: str, *arguments: Any) -> tuple[Any, ...]:
        """All functions of the bindings return a status, then results."""
        status, *results = getattr(self._runtime, function)(*arguments)
        if int(status) != 0:
            raise RuntimeError(
                f"rastergrad: OpenGL: {function} fails with {status!r}. RASTERGRAD_GL_INTEROP=0 goes through "
                "the CPU's memory instead."
            )
        return tuple(results)


def cuda_runtime() -> ModuleType | None:
    """The bindings, if they are installed."""
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError:
        return None
