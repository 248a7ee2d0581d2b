# SPDX-License-Identifier: MIT
"""Checks that cost more than they may by default."""

_enabled = False


def debug(enabled: bool = True) -> None:
    """Look at indices on a GPU before using them, and name those out of range.

    On a CPU that is always done. On a GPU the answer has to come back before the work may begin, so there it
    is done in this mode only; otherwise triangles with an index out of range are left out.

    Args:
        enabled: whether to check from now on, in all threads.

    Errors:
        TypeError for what is no bool.

    Cost:
        Each `rasterize` and `antialias` on a GPU waits for the GPU.

    Example:
        >>> import rastergrad as rg
        >>> rg.debug(True)
        >>> rg.debug(False)
    """
    global _enabled
    if not isinstance(enabled, bool):
        raise TypeError(f"debug: `enabled` must be True or False; got {type(enabled).__name__}.")
    _enabled = enabled


def debugging() -> bool:
    """Whether `debug(True)` holds."""
    return _enabled
