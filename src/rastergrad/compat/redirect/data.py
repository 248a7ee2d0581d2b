# SPDX-License-Identifier: MIT
"""Files, storages, data loaders, data parallelism."""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import serialization
from torch.storage import TypedStorage, _StorageBase  # where `.cuda()` of storages is defined
from torch.utils.data import DataLoader

from .devices import landed
from .patches import Patches

# Before torch's own readers, of which the first has 10.
_PRIORITY = 5


def patch(patches: Patches) -> None:
    """torch.load, torch.jit.load, storages, DataLoader, DataParallel."""
    _patch_files(patches)
    patches.wrap(_StorageBase, "cuda", lambda original, storage, *_, **__: storage.clone())
    patches.wrap(TypedStorage, "cuda", lambda original, storage, *_, **__: storage.clone())
    patches.wrap(DataLoader, "__init__", _loader)
    # Without a GPU it is the module itself.
    patches.wrap(sys.modules["torch.nn.parallel.data_parallel"], "_get_available_device_type", lambda _: None)


def _patch_files(patches: Patches) -> None:
    """A place of storages named "cuda", whether a file or `map_location` says so, is the CPU."""

    def restored(storage: Any, location: str) -> Any:
        return storage if location.startswith("cuda") else None

    readers = serialization._package_registry
    serialization.register_package(_PRIORITY, lambda storage: None, restored)
    reader = next(r for r in readers if r[2] is restored)
    patches.later(lambda: readers.remove(reader))

    def load(
        original: Callable[..., Any], f: Any, map_location: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """TorchScript has its own reader."""
        return original(f, landed(map_location) or "cpu", *args, **kwargs)

    patches.wrap(torch.jit, "load", load)


def _loader(original: Callable[..., None], self: Any, *args: Any, **kwargs: Any) -> None:
    original(self, *args, **kwargs)
    self.pin_memory = False
