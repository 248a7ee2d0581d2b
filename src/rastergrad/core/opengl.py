# SPDX-License-Identifier: MIT
"""OpenGL contexts: created when first needed, one per process, device and thread; released with their thread
and at exit.

On Linux they come from EGL and need no display; elsewhere from the platform, through the package glcontext.
A context is current only while it is used where another one was current before, so that programs with a
window of their own are not disturbed.
"""

import ctypes
import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from ctypes import c_char_p, c_float, c_int, c_ssize_t, c_uint, c_void_p
from typing import Any, TypeVar

import torch

from . import egl

T = TypeVar("T")

# ---- functions --------------------------------------------------------------------------------------------

_TYPES = {"v": None, "i": c_int, "I": c_uint, "f": c_float, "n": c_ssize_t, "p": c_void_p, "s": c_char_p}
# Result, then arguments: i and I are 32 bits, n is a size, p an address, s a text, v nothing.
_SIGNATURES = {
    "ActiveTexture": "vI",
    "AttachShader": "vII",
    "BindBuffer": "vII",
    "BindFramebuffer": "vII",
    "BindTexture": "vII",
    "BindVertexArray": "vI",
    "BufferData": "vInpI",
    "BufferSubData": "vInnp",
    "CheckFramebufferStatus": "II",
    "ClearBufferfv": "vIip",
    "CompileShader": "vI",
    "CreateProgram": "I",
    "CreateShader": "II",
    "DeleteFramebuffers": "vip",
    "DeleteShader": "vI",
    "DeleteTextures": "vip",
    "DepthFunc": "vI",
    "DrawBuffers": "vip",
    "DrawElementsInstanced": "vIiIpi",
    "Enable": "vI",
    "Finish": "v",
    "FramebufferTexture": "vIIIi",
    "FramebufferTextureLayer": "vIIIii",
    "GenBuffers": "vip",
    "GenFramebuffers": "vip",
    "GenTextures": "vip",
    "GenVertexArrays": "vip",
    "GetError": "I",
    "GetIntegerv": "vIp",
    "GetProgramInfoLog": "vIipp",
    "GetProgramiv": "vIIp",
    "GetShaderInfoLog": "vIipp",
    "GetShaderiv": "vIIp",
    "GetString": "sI",
    "GetStringi": "sII",
    "GetTexImage": "vIiIIp",
    "GetUniformLocation": "iIs",
    "LinkProgram": "vI",
    "PixelStorei": "vIi",
    "ShaderSource": "vIipp",
    "TexBuffer": "vIII",
    "TexImage3D": "vIiiiiiiIIp",
    "TexParameteri": "vIIi",
    "TexSubImage3D": "vIiiiiiiiIIp",
    "Uniform1i": "vii",
    "Uniform2f": "viff",
    "Uniform4f": "viffff",
    "UseProgram": "vI",
    "Viewport": "viiii",
}
_VENDOR, _RENDERER, _VERSION, _EXTENSIONS, _NUM_EXTENSIONS = 0x1F00, 0x1F01, 0x1F02, 0x1F03, 0x821D
_ERRORS = {
    0x0500: "GL_INVALID_ENUM",
    0x0501: "GL_INVALID_VALUE",
    0x0502: "GL_INVALID_OPERATION",
    0x0505: "GL_OUT_OF_MEMORY",
    0x0506: "GL_INVALID_FRAMEBUFFER_OPERATION",
    0x0507: "GL_CONTEXT_LOST",
}


class Functions:
    """OpenGL's functions without their prefix: `gl.Viewport(0, 0, w, h)`. They release the GIL.

    Args:
        load: from a name to an address, 0 where there is none.
    """

    def __init__(self, load: Callable[[str], int]) -> None:
        for name, codes in _SIGNATURES.items():
            address = load(f"gl{name}")
            if not address:
                raise RuntimeError(f"rastergrad: OpenGL: the driver has no gl{name}; update it.")
            result, *arguments = (_TYPES[code] for code in codes)
            setattr(self, name, ctypes.CFUNCTYPE(result, *arguments)(address))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(f"gl{name} is not among the functions that are loaded")

    def integer(self, name: int) -> int:
        """A number that the driver tells."""
        value = c_int()
        self.GetIntegerv(name, ctypes.byref(value))
        return value.value

    def check(self, doing: str) -> None:
        """Refuse to go on after an error; `doing` says what it would have come from."""
        code = self.GetError()
        if code == 0:
            return
        first = code
        while code != 0 and code != 0x0507:  # a lost context says so for ever
            code = self.GetError()
        remedy = "Use fewer images at a time or a smaller resolution." if first == 0x0505 else ""
        raise RuntimeError(
            f"rastergrad: OpenGL: {doing}: {_ERRORS.get(first, f'error {first:#x}')}. {remedy}".rstrip()
        )


# ---- contexts ---------------------------------------------------------------------------------------------


class Context:
    """One OpenGL context and what is kept in it. Use it in the thread that asked for it, within `with`.

    Args:
        native: what makes it current and releases it.
        device: where it draws, in words.
    """

    def __init__(self, native: Any, device: str) -> None:
        self._native = native
        self.device = device
        self._kept: dict[Callable[..., Any], Any] = {}
        # Also at exit, before modules are taken apart.
        self._finalizer = weakref.finalize(self, native.release)
        with native:
            self.gl = gl = Functions(native.load)
            self.vendor = (gl.GetString(_VENDOR) or b"unknown").decode(errors="replace")
            self.renderer = (gl.GetString(_RENDERER) or b"unknown").decode(errors="replace")
            self.version = (gl.GetString(_VERSION) or b"unknown").decode(errors="replace")
            count = gl.integer(_NUM_EXTENSIONS)
            self.extensions = frozenset((gl.GetStringi(_EXTENSIONS, k) or b"").decode() for k in range(count))

    def __enter__(self) -> "Context":
        self._native.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._native.__exit__(None, None, None)

    def kept(self, make: Callable[["Context"], T]) -> T:
        """What `make` makes of this context, once. It must not refer to the context, which would outlive its
        thread.
        """
        found = self._kept.get(make)
        if found is None:
            found = self._kept[make] = make(self)
        return found

    def release(self) -> None:
        """Destroy the context with all that it holds; once is enough, twice does no harm."""
        self._kept.clear()
        self._finalizer()


class _Threads(threading.local):
    def __init__(self) -> None:
        self.contexts: dict[tuple[int, str, int | None], Context] = {}


_threads = _Threads()


def context(device: torch.device) -> Context:
    """The context of this process and thread for tensors on `device`.

    Args:
        device: tensors on a CPU take the first device that draws, hardware before software; those on a GPU
            that GPU. RASTERGRAD_EGL_DEVICE names another one.

    Errors:
        RuntimeError that names the cause and the remedy.

    Cost:
        Some 10 ms the first time, and shaders are compiled in it.
    """
    # The process, too: after a fork a context is its parent's.
    key = (os.getpid(), device.type, device.index)
    found = _threads.contexts.get(key)
    if found is None:
        for stale in [k for k in _threads.contexts if k[0] != key[0]]:
            del _threads.contexts[stale]
        found = _threads.contexts[key] = create(device)
    return found


def release() -> None:
    """Destroy this thread's contexts. The next drawing creates new ones."""
    for each in _threads.contexts.values():
        each.release()
    _threads.contexts.clear()


def create(device: torch.device) -> Context:
    """A context of its own, which the caller releases."""
    if not sys.platform.startswith("linux"):
        return Context(_of_platform(), f"the default device of {sys.platform}")
    index = device.index or 0
    if device.type == "cpu":
        native, drawn_on = egl.create()
    elif device.type == "cuda" and torch.version.hip is None:
        native, drawn_on = egl.create(cuda=_ordinal(index))
    else:
        native, drawn_on = egl.create(number=index)
    return Context(native, str(drawn_on))


def _ordinal(index: int) -> int:
    """The driver's number of torch's GPU: CUDA_VISIBLE_DEVICES hides some from torch, none from EGL."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if index < len(visible) and all(v.strip().isdigit() for v in visible):
        return int(visible[index])
    return index


def _of_platform() -> Any:
    """Windows' and macOS' own contexts."""
    try:
        import glcontext
    except ImportError as failure:
        raise RuntimeError(
            f"rastergrad: OpenGL: the package glcontext cannot be imported ({failure}). Install it with: "
            "pip install 'rastergrad[opengl]'"
        ) from failure
    major, minor = egl.LEAST
    try:
        return glcontext.default_backend()(mode="standalone", glversion=100 * major + 10 * minor)
    except Exception as failure:  # whatever its backends raise
        raise RuntimeError(
            f"rastergrad: OpenGL: no context of OpenGL {major}.{minor} ({failure}). Update the "
            "graphics driver."
        ) from failure


# ---- objects ----------------------------------------------------------------------------------------------

_VERTEX, _FRAGMENT, _COMPILED, _LINKED, _LOG_LENGTH = 0x8B31, 0x8B30, 0x8B81, 0x8B82, 0x8B84


def program(gl: Functions, vertex: str, fragment: str, what: str) -> int:
    """A program of two shaders.

    Errors:
        RuntimeError with the driver's log.
    """
    made = gl.CreateProgram()
    for kind, source in ((_VERTEX, vertex), (_FRAGMENT, fragment)):
        shader = gl.CreateShader(kind)
        text = c_char_p(source.encode("ascii"))
        gl.ShaderSource(shader, 1, ctypes.byref(text), None)
        gl.CompileShader(shader)
        _succeeded(gl.GetShaderiv, gl.GetShaderInfoLog, shader, _COMPILED, what)
        gl.AttachShader(made, shader)
        gl.DeleteShader(shader)
    gl.LinkProgram(made)
    _succeeded(gl.GetProgramiv, gl.GetProgramInfoLog, made, _LINKED, what)
    return made


def _succeeded(ask: Callable[..., Any], log: Callable[..., Any], thing: int, status: int, what: str) -> None:
    value, length = c_int(), c_int()
    ask(thing, status, ctypes.byref(value))
    if value.value:
        return
    ask(thing, _LOG_LENGTH, ctypes.byref(length))
    text = ctypes.create_string_buffer(max(length.value, 1))
    log(thing, len(text), None, text)
    raise RuntimeError(
        f"rastergrad: OpenGL: the driver refuses the shaders of {what}; please report this: "
        f"{text.value.decode(errors='replace').strip()}"
    )


def name(generate: Callable[..., Any]) -> int:
    """A new object's name from glGen..."""
    made = c_uint()
    generate(1, ctypes.byref(made))
    return made.value


def delete(function: Callable[..., Any], names: Sequence[int]) -> None:
    """Give objects up with glDelete..."""
    function(len(names), (c_uint * len(names))(*names))
