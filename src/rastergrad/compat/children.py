# SPDX-License-Identifier: MIT
"""Processes that a program starts with `multiprocessing` get what the program got.

A forked one inherits it. A spawned one unpickles, before anything else, what its parent prepared for it: an
object among this whose unpickling does the same there.
"""

from collections.abc import Callable
from multiprocessing import spawn
from typing import Any

from . import redirect
from .registration import install


def follow(redirected: bool) -> None:
    """Make spawned processes begin as this one did."""
    prepare = spawn.get_preparation_data

    def prepared(*args: Any, **kwargs: Any) -> dict[str, Any]:
        return {**prepare(*args, **kwargs), "rastergrad.compat": _Beginning(redirected)}

    spawn.get_preparation_data = prepared


def begin(redirected: bool) -> None:
    """nvdiffrast is rastergrad, and with `redirected` CUDA is the CPU, to the end of this process and in all
    that it starts.
    """
    install(replace=True)
    if redirected:
        redirect.start()
    follow(redirected)


class _Beginning:
    def __init__(self, redirected: bool) -> None:
        self.redirected = redirected

    def __reduce__(self) -> tuple[Callable[[bool], None], tuple[bool]]:
        return begin, (self.redirected,)
