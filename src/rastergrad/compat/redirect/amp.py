# SPDX-License-Identifier: MIT
"""Mixed precision for "cuda", done on the CPU in the number type that CUDA would use."""

from collections.abc import Callable
from typing import Any

import torch
from torch.amp import autocast_mode, grad_scaler

from .patches import Patches


def _device_type(given: Any) -> Any:
    return "cpu" if given == "cuda" else given


def patch(patches: Patches) -> None:
    """The classes keep their identity: `torch.cuda.amp` derives from them, programs test for them."""
    half = torch.get_autocast_dtype

    def autocast(
        original: Callable[..., None],
        self: Any,
        device_type: Any,
        dtype: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        if device_type == "cuda" and dtype is None:
            dtype = half("cuda")
        original(self, _device_type(device_type), dtype, *args, **kwargs)

    def scaler(
        original: Callable[..., None], self: Any, device: Any = "cuda", *args: Any, **kwargs: Any
    ) -> None:
        original(self, _device_type(device), *args, **kwargs)

    def decorated(original: Callable[..., Any], *args: Any, device_type: Any, **kwargs: Any) -> Any:
        return original(*args, device_type=_device_type(device_type), **kwargs)

    def asked(original: Callable[..., Any], device_type: Any = "cuda", *args: Any) -> Any:
        return original(_device_type(device_type), *args)

    patches.wrap(torch, "get_autocast_gpu_dtype", lambda original: half("cpu"))
    patches.wrap(autocast_mode.autocast, "__init__", autocast)
    patches.wrap(grad_scaler.GradScaler, "__init__", scaler)
    for owner in (torch.amp, autocast_mode):
        for name in ("custom_fwd", "custom_bwd"):
            patches.wrap(owner, name, decorated)
    for name in ("is_autocast_enabled", "get_autocast_dtype", "set_autocast_dtype"):
        patches.wrap(torch, name, asked)
