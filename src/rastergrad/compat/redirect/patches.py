# SPDX-License-Identifier: MIT
"""Attributes replaced and put back."""

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from torch.jit import _builtins

_ABSENT = object()


class Switch:
    """Whether CUDA is being redirected. A function that somebody has kept, in a list or as a default, looks
    here, and is what it stands for as soon as the redirection is over.
    """

    on = False


class Patches:
    """Replacements that can be undone exactly, to the same objects in the same places."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []
        self._originals: dict[int, tuple[Any, Any]] = {}  # by identity of what stands in for them

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Replace an attribute of a module or class. One that was inherited is inherited again afterwards."""
        before = vars(owner).get(name, _ABSENT)
        if before is _ABSENT:
            self._undo.append(lambda: delattr(owner, name))
        else:
            self._undo.append(lambda: setattr(owner, name, before))
        setattr(owner, name, value)

    def stand_in(self, owner: Any, name: str, value: Any) -> None:
        """The same for a value made for this one place: who imports it meanwhile gets the original later."""
        if name in vars(owner):
            self._originals[id(value)] = value, vars(owner)[name]
        self.set(owner, name, value)

    def wrap(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        """Replace a function or method, if there is one, by `around(original, *args, **kwargs)`."""
        original = getattr(owner, name, None)
        if original is None:
            return

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            if Switch.on:
                return around(original, *args, **kwargs)
            return original(*args, **kwargs)

        self.stand_in(owner, name, call)
        operator = _builtins._find_builtin(original)
        if operator is not None:
            # torch.jit.script knows torch's functions by identity.
            _builtins._register_builtin(call, operator)
            self.later(lambda: _builtins._get_builtin_table().pop(id(call)))

    def later(self, undo: Callable[[], object]) -> None:
        """Something else to be undone."""
        self._undo.append(undo)

    def undo(self) -> None:
        """Put everything back, the last first; also in modules that said `from torch import` meanwhile."""
        while self._undo:
            self._undo.pop()()
        for module in list(sys.modules.values()):
            if isinstance(module, ModuleType):
                for name, value in list(vars(module).items()):
                    if id(value) in self._originals and self._originals[id(value)][0] is value:
                        setattr(module, name, self._originals[id(value)][1])
        self._originals.clear()
