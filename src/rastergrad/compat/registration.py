# SPDX-License-Identifier: MIT
"""`import nvdiffrast.torch`, answered by rastergrad."""

import importlib
import importlib.util
import sys
import threading
from importlib.machinery import ModuleSpec
from types import ModuleType

_NAME = "nvdiffrast"
# The release whose functions and arguments these are: programs compare it with what they need.
VERSION = "0.4.0"
# Whether a RasterizeGLContext draws with OpenGL: 1 yes, 0 no.
OPENGL_CHOICE = "RASTERGRAD_COMPAT_OPENGL"

_lock = threading.Lock()
_replaced: dict[str, ModuleType | None] | None = None  # None: not installed


def install(replace: bool = False) -> bool:
    """Let `import nvdiffrast.torch` find `rastergrad.compat.nvdiffrast`, in this process.

    Args:
        replace: whether to win over nvdiffrast itself where that is installed. Modules that have imported it
            already keep it.

    Returns:
        Whether the name now stands for rastergrad. False where nvdiffrast itself is installed and `replace`
        is not given: then nothing is changed.

    Cost:
        Nothing the second time. `uninstall` undoes it.

    Example:
        >>> from rastergrad import compat
        >>> compat.install(replace=True)
        True
        >>> import nvdiffrast.torch as dr
        >>> dr.RasterizeCudaContext("cpu")
        RasterizeCudaContext(device='cpu')
        >>> compat.uninstall()
    """
    global _replaced
    with _lock:
        if _replaced is not None:
            return True
        if not replace and _is_there():
            return False
        torch_module = importlib.import_module("rastergrad.compat.nvdiffrast")
        _replaced = {name: module for name, module in sys.modules.items() if _belongs(name)}
        for name in _replaced:
            del sys.modules[name]
        sys.modules[_NAME] = _package(torch_module)
        sys.modules[f"{_NAME}.torch"] = torch_module
        return True


def uninstall() -> None:
    """Undo `install`: what `nvdiffrast` stood for before, it stands for again. Modules that have imported it
    meanwhile keep what they got. Without effect where nothing is installed.
    """
    global _replaced
    with _lock:
        if _replaced is None:
            return
        for name in [n for n in sys.modules if _belongs(n)]:
            del sys.modules[name]
        sys.modules.update(_replaced)  # type: ignore[arg-type]
        _replaced = None


def _belongs(name: str) -> bool:
    return name == _NAME or name.startswith(f"{_NAME}.")


def _is_there() -> bool:
    """Whether nvdiffrast itself can be imported; nothing is."""
    if _NAME in sys.modules:
        return sys.modules[_NAME] is not None  # None forbids the import
    return importlib.util.find_spec(_NAME) is not None


def _package(torch_module: ModuleType) -> ModuleType:
    package = ModuleType(_NAME, "Programs written for nvdiffrast get rastergrad here (rastergrad.compat).")
    package.__spec__ = ModuleSpec(_NAME, None, origin="rastergrad.compat", is_package=True)
    package.__path__ = []
    package.__package__ = _NAME
    package.__dict__.update(__version__=VERSION, torch=torch_module)
    return package
