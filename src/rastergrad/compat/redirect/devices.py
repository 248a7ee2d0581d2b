# SPDX-License-Identifier: MIT
"""Which requests mean CUDA, and the two classes that make something of a device's name."""

from collections.abc import Callable
from typing import Any

import torch

from .patches import Patches, Switch

CPU = torch.device("cpu")
RealDevice = torch.device
_RealGenerator = torch.Generator


def means_cuda(device: Any) -> bool:
    """Whether this names a CUDA device: "cuda", "cuda:1", a device object, or a number."""
    if isinstance(device, str):
        return device == "cuda" or (device.startswith("cuda:") and RealDevice(device).type == "cuda")
    if isinstance(device, RealDevice):
        return device.type == "cuda"
    return isinstance(device, int) and not isinstance(device, bool)


def landed(device: Any) -> Any:
    """The same device, or the CPU where it is a CUDA device."""
    return CPU if means_cuda(device) else device


class _StandIn(type):
    """A class in the place of one that cannot be derived from. It makes instances of that one, and is that
    one for `isinstance`, as a key, in a pickle, and for everything else that is asked of it.
    """

    real: type
    make: Callable[..., Any]

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls.make(*args, **kwargs) if Switch.on else cls.real(*args, **kwargs)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.real)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return subclass is cls or issubclass(subclass, cls.real)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is cls.real

    def __hash__(cls) -> int:
        return hash(cls.real)

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls.real, name)


def _device(*args: Any, **kwargs: Any) -> torch.device:
    named = args[0] if args else kwargs.get("type", kwargs.get("device"))
    return CPU if means_cuda(named) else RealDevice(*args, **kwargs)


def _generator(device: Any = "cpu") -> torch.Generator:
    return _RealGenerator(device=landed(device))


def patch(patches: Patches) -> None:
    """torch.device, torch.Generator."""
    for name, make in (("device", _device), ("Generator", _generator)):
        # A pickled device refers to its class by module and name.
        members = {"__module__": "torch", "real": getattr(torch, name), "make": staticmethod(make)}
        patches.stand_in(torch, name, _StandIn(name, (), members))
