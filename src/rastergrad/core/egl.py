# SPDX-License-Identifier: MIT
"""OpenGL contexts without a window or a display server, through EGL and ctypes; which device has which
driver, and why one has none.

Needs Linux and libEGL. Nothing is loaded before a context is asked for. Sources: the registry's texts of EGL
1.5, EGL_EXT_device_enumeration, EGL_EXT_platform_device, EGL_NV_device_cuda, EGL_MESA_platform_surfaceless.
"""

import atexit
import ctypes
import functools
import os
import threading
from ctypes import c_char_p, c_int, c_uint, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIBRARY = "libEGL.so.1"
CHOICE = "RASTERGRAD_EGL_DEVICE"
DEBIAN = "apt-get install libegl1 libgl1-mesa-dri libgles2"
LEAST = (3, 3)

_NONE, _OPENGL_API, _EXTENSIONS = 0x3038, 0x30A2, 0x3055
_DRAW, _READ = 0x3059, 0x305A
_MAJOR, _MINOR, _PROFILE, _CORE = 0x3098, 0x30FB, 0x30FD, 1
_PLATFORM_DEVICE, _PLATFORM_SURFACELESS = 0x313F, 0x31DD
_CUDA_ORDINAL, _RENDER_NODE, _DRM_FILE = 0x323A, 0x3377, 0x3233
_ERRORS = {
    0x3001: "EGL_NOT_INITIALIZED",
    0x3002: "EGL_BAD_ACCESS",
    0x3003: "EGL_BAD_ALLOC",
    0x3004: "EGL_BAD_ATTRIBUTE",
    0x3005: "EGL_BAD_CONFIG",
    0x3006: "EGL_BAD_CONTEXT",
    0x3008: "EGL_BAD_DISPLAY",
    0x3009: "EGL_BAD_MATCH",
    0x300C: "EGL_BAD_PARAMETER",
    0x300E: "EGL_CONTEXT_LOST",
}
_CALLS: dict[str, tuple[Any, ...]] = {  # result, arguments
    "eglBindAPI": (c_uint, c_uint),
    "eglQueryAPI": (c_uint,),
    "eglGetError": (c_int,),
    "eglGetProcAddress": (c_void_p, c_char_p),
    "eglInitialize": (c_uint, c_void_p, c_void_p, c_void_p),
    "eglTerminate": (c_uint, c_void_p),
    "eglCreateContext": (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p),
    "eglDestroyContext": (c_uint, c_void_p, c_void_p),
    "eglMakeCurrent": (c_uint, c_void_p, c_void_p, c_void_p, c_void_p),
    "eglGetCurrentContext": (c_void_p,),
    "eglGetCurrentDisplay": (c_void_p,),
    "eglGetCurrentSurface": (c_void_p, c_int),
}
_EXTENSION_CALLS: dict[str, tuple[Any, ...]] = {
    "eglQueryDevicesEXT": (c_uint, c_int, c_void_p, c_void_p),
    "eglQueryDeviceStringEXT": (c_char_p, c_void_p, c_int),
    "eglQueryDeviceAttribEXT": (c_uint, c_void_p, c_int, c_void_p),
    "eglGetPlatformDisplayEXT": (c_void_p, c_uint, c_void_p, c_void_p),
}


@dataclass(frozen=True)
class Device:
    """Something that can draw."""

    index: int  # in EGL's list, as RASTERGRAD_EGL_DEVICE counts
    handle: int
    software: bool
    cuda: int | None  # the number that CUDA gives it
    node: str | None  # its file under /dev/dri

    def __str__(self) -> str:
        kind = "software" if self.software else self.node or "no render node"
        return f"EGL device {self.index} ({kind if self.cuda is None else f'{kind}, cuda:{self.cuda}'})"


class Surfaceless:
    """One OpenGL context. `with` makes it current in this thread and afterwards brings back what was there.

    Args:
        egl: the library's functions.
        display, handle: EGL's own.
    """

    def __init__(self, egl: Any, display: int, handle: int) -> None:
        self._egl, self._display, self._handle, self._pid = egl, display, handle, os.getpid()
        self._before: list[tuple[int, int | None, int | None, int | None, int | None] | None] = []

    def load(self, name: str) -> int:
        """The address of an OpenGL function."""
        return self._egl.eglGetProcAddress(name.encode()) or 0

    def __enter__(self) -> None:
        egl = self._egl
        api = egl.eglQueryAPI()
        current = egl.eglGetCurrentContext()
        if current == self._handle and api == _OPENGL_API:
            self._before.append(None)
            return
        surfaces = (egl.eglGetCurrentSurface(_DRAW), egl.eglGetCurrentSurface(_READ))
        self._before.append((api, egl.eglGetCurrentDisplay(), *surfaces, current))
        egl.eglBindAPI(_OPENGL_API)
        if not egl.eglMakeCurrent(self._display, None, None, self._handle):
            self._before.pop()
            raise RuntimeError(f"rastergrad: OpenGL: the context cannot be used: {_error(egl)}")

    def __exit__(self, *_: object) -> None:
        before = self._before.pop()
        if before is None:
            return
        api, display, draw, read, current = before
        # Where nothing was current, ours may stay: making it current costs as much as a small draw.
        if current is not None:
            self._egl.eglMakeCurrent(display, draw, read, current)
        self._egl.eglBindAPI(api)

    def release(self) -> None:
        """Destroy it; in a child process, that of the parent is left alone."""
        handle, self._handle = self._handle, 0
        if not handle or self._pid != os.getpid():
            return
        if self._egl.eglGetCurrentContext() == handle:
            self._egl.eglMakeCurrent(self._display, None, None, None)
        self._egl.eglDestroyContext(self._display, handle)


@functools.cache
def library() -> Any:
    """EGL's functions, by name.

    Errors:
        RuntimeError: there is no libEGL, or one without devices.
    """
    try:
        loaded = ctypes.CDLL(LIBRARY)
    except OSError as failure:
        raise RuntimeError(
            f"rastergrad: OpenGL: {LIBRARY} cannot be loaded ({failure}). Install it; in Debian and Ubuntu: "
            f"{DEBIAN}"
        ) from None
    for name, (result, *arguments) in _CALLS.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    # Where libEGL has no driver, it knows the first of these only.
    for name, (result, *arguments) in _EXTENSION_CALLS.items():
        address = loaded.eglGetProcAddress(name.encode())
        setattr(loaded, name, ctypes.CFUNCTYPE(result, *arguments)(address) if address else None)
    if loaded.eglQueryDevicesEXT is None:
        raise RuntimeError(
            f"rastergrad: OpenGL: {LIBRARY} is older than 2015 and cannot list devices. Update it; in Debian "
            f"and Ubuntu: {DEBIAN}"
        )
    return loaded


def devices() -> list[Device]:
    """What EGL can draw with, in its order.

    Errors:
        RuntimeError: there is no libEGL or no driver.
    """
    egl = library()
    count = c_int()
    found = egl.eglQueryDevicesEXT(0, None, ctypes.byref(count))
    if not found or count.value == 0:
        reason = "" if found else f" ({_error(egl)})"
        raise RuntimeError(
            f"rastergrad: OpenGL: {LIBRARY} is there, but no driver for it{reason}. Install one; in Debian "
            f"and Ubuntu: {DEBIAN}.{_nvidia_hint([])}"
        )
    handles = (c_void_p * count.value)()
    egl.eglQueryDevicesEXT(count.value, handles, ctypes.byref(count))
    return [_device(egl, k, handle) for k, handle in enumerate(handles[: count.value]) if handle]


def _device(egl: Any, index: int, handle: int) -> Device:
    names = (egl.eglQueryDeviceStringEXT(handle, _EXTENSIONS) or b"").decode().split()
    node = None
    if "EGL_EXT_device_drm_render_node" in names:
        node = egl.eglQueryDeviceStringEXT(handle, _RENDER_NODE)
    if not node and "EGL_EXT_device_drm" in names:
        node = egl.eglQueryDeviceStringEXT(handle, _DRM_FILE)
    ordinal = ctypes.c_ssize_t(-1)
    if "EGL_NV_device_cuda" in names:
        egl.eglQueryDeviceAttribEXT(handle, _CUDA_ORDINAL, ctypes.byref(ordinal))
    egl.eglGetError()  # what was asked for in vain is no error of the next call
    software = "EGL_MESA_device_software" in names
    cuda = None if ordinal.value < 0 else ordinal.value
    return Device(index, handle, software, cuda, node.decode() if node else None)


def chosen() -> int | None:
    """The device that RASTERGRAD_EGL_DEVICE names, if it does."""
    value = os.environ.get(CHOICE)
    if not value:
        return None
    if not value.isdigit():
        raise RuntimeError(
            f"rastergrad: OpenGL: {CHOICE} must be the number of an EGL device; got {value!r}. "
            "`rastergrad doctor` lists them."
        )
    return int(value)


def create(cuda: int | None = None, number: int | None = None) -> tuple[Surfaceless, Device]:
    """A context of OpenGL 3.3 or newer, core profile.

    Args:
        cuda: the GPU's number in CUDA, if it must be drawn on that one.
        number: the how manyth device that is no software, if tensors lie on such a one.

    Errors:
        RuntimeError that names the cause and the remedy.
    """
    if _lost:
        raise RuntimeError(f"rastergrad: OpenGL: {_FORKED}")
    listed = devices()
    wanted = chosen()
    if wanted is not None:
        candidates = [d for d in listed if d.index == wanted]
        if not candidates:
            raise RuntimeError(
                f"rastergrad: OpenGL: {CHOICE}={wanted}, but there are only {', '.join(map(str, listed))}."
            )
    elif cuda is not None:
        candidates = [d for d in listed if d.cuda == cuda]
    elif number is not None:
        candidates = [d for d in listed if not d.software][number : number + 1]
    else:
        candidates = sorted(listed, key=lambda d: d.software)
    if not candidates:
        raise RuntimeError(
            f"rastergrad: OpenGL: none of its devices is the GPU that holds the tensors; there are "
            f"{', '.join(map(str, listed))}.{_nvidia_hint(listed)} {CHOICE}=NUMBER takes one of these "
            "instead, and tensors then go through the CPU's memory."
        )
    failures = []
    for device in candidates:
        try:
            return _context(device), device
        except RuntimeError as failure:
            failures.append(f"{device}: {failure}")
    raise RuntimeError(f"rastergrad: OpenGL: {'; '.join(failures)}.{_nvidia_hint(listed)}")


# Displays that were opened before a fork belong to threads that the child does not have: it would wait for
# them for ever. Mesa has two kinds of display, so that a child may have one of its own. NVIDIA's driver does
# not survive at all, no more than CUDA does, and is not even asked which devices there are.
_FORKED = (
    "this process was forked from one that had drawn with OpenGL, which its driver does not survive; start "
    'processes with the method "spawn" or "forkserver" of multiprocessing, or fork before the first drawing'
)
_opened: dict[int, str] = {}  # display -> "ours" or "a parent's"
_lock = threading.Lock()
_nvidias = False  # whether one of them is NVIDIA's
_lost = False  # whether a parent's was


def _after_fork() -> None:
    global _lock, _lost
    _lock = threading.Lock()
    _lost = _lost or _nvidias
    for display in _opened:
        _opened[display] = "a parent's"
    if _opened:
        atexit.register(_terminate)


def _terminate() -> None:
    """At the end of a forked process, Mesa waits for its parent's threads. They do not exist, but those of
    this process may have their names, so they have to be gone by then.
    """
    egl = library()
    for display, whose in _opened.items():
        if whose == "ours":
            egl.eglMakeCurrent(display, None, None, None)
            egl.eglTerminate(display)


os.register_at_fork(after_in_child=_after_fork)


def _display(egl: Any, device: Device) -> int:
    global _nvidias
    with _lock:
        stale = False
        for platform, native in ((_PLATFORM_DEVICE, device.handle), (_PLATFORM_SURFACELESS, None)):
            display = egl.eglGetPlatformDisplayEXT(platform, native, None)
            if display and _opened.get(display) == "a parent's":
                stale = True
                continue
            if display and egl.eglInitialize(display, None, None):
                _opened[display] = "ours"
                _nvidias = _nvidias or device.cuda is not None
                return display
            if not stale:
                raise RuntimeError(_initialize_fails(device, _error(egl)))
        raise RuntimeError(_FORKED)


def _initialize_fails(device: Device, error: str) -> str:
    if device.node and not os.access(device.node, os.R_OK | os.W_OK):
        remedy = (
            f"there is no access to {device.node}: add the user to the group that owns it (render or video)"
        )
    elif device.software:
        remedy = f"Mesa's software driver is missing or broken; in Debian and Ubuntu: {DEBIAN}"
    else:
        remedy = "its driver is missing or broken; Debian has libgl1-mesa-dri, NVIDIA its own"
    return f"eglInitialize gives {error}: {remedy}"


def _context(device: Device) -> Surfaceless:
    egl = library()
    display = _display(egl, device)
    before = egl.eglQueryAPI()
    if not egl.eglBindAPI(_OPENGL_API):
        raise RuntimeError(
            f"eglBindAPI gives {_error(egl)}: the driver has OpenGL ES only; install another one"
        )
    try:
        major, minor = LEAST
        attributes = (c_int * 7)(_MAJOR, major, _MINOR, minor, _PROFILE, _CORE, _NONE)
        handle = egl.eglCreateContext(display, None, None, attributes)
        if not handle:
            raise RuntimeError(
                f"eglCreateContext gives {_error(egl)}: its OpenGL is older than {major}.{minor}; update the "
                f"driver, or draw in software with {CHOICE}, if `rastergrad doctor` lists such a device"
            )
    finally:
        egl.eglBindAPI(before)
    context = Surfaceless(egl, display, handle)
    try:
        with context:
            pass
    except RuntimeError:
        context.release()
        raise RuntimeError("the driver has no contexts without a surface; update it") from None
    return context


def _nvidia_hint(listed: list[Device]) -> str:
    if not Path("/dev/nvidiactl").exists() or any(d.cuda is not None for d in listed):
        return ""
    return (
        " An NVIDIA driver is at work here, without its OpenGL: start the container with "
        "NVIDIA_DRIVER_CAPABILITIES=all, or install the package libnvidia-gl of the driver's version."
    )


def _error(egl: Any) -> str:
    code = egl.eglGetError()
    return _ERRORS.get(code, f"error {code:#x}")
