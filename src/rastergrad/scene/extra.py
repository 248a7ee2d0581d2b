# SPDX-License-Identifier: MIT
"""Optional packages: imported when first needed, with a remedy when they are missing."""

import importlib
from types import ModuleType


class MissingExtraError(ImportError):
    """A package that only one of rastergrad's extras installs is not there."""


def require(module: str, purpose: str, extra: str = "demo") -> ModuleType:
    """Import `module`, or say which command installs it.

    Args:
        module: dotted name, e.g. "PIL.Image".
        purpose: what needs it, the subject of the message: "reading a mesh".
        extra: the extra of rastergrad that lists the package.
    Errors:
        MissingExtraError naming the package, its purpose and the pip command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(
            f"{purpose} needs the package `{package}`, which cannot be imported ({error}). "
            f"Install it with: pip install 'rastergrad[{extra}]'"
        ) from error
