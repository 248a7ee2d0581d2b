# SPDX-License-Identifier: MIT
"""Tensors that are asked for on a CUDA device, or sent to one.

What goes to a GPU or comes back is a copy, and programs rely on it: `history.append(x.detach().cpu())` must
not change with x. Therefore it is a copy here, too. But a tensor that requires a gradient is only copied by
`.cpu()` and `.to("cpu")`: sent to CUDA it is taken to be there already, or an optimiser would be given what
is no leaf.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .devices import CPU, landed, means_cuda
from .patches import Patches

# What takes `device` or `pin_memory` by name; a test compares this list with torch's own declarations.
FACTORIES: dict[ModuleType, str] = {
    torch: "arange bartlett_window blackman_window empty empty_like empty_permuted empty_quantized "
    "empty_strided eye from_file full full_like hamming_window hann_window kaiser_window linspace logspace "
    "normal ones ones_like rand rand_like randint randint_like randn randn_like randperm range scalar_tensor "
    "sparse_bsc_tensor sparse_bsr_tensor sparse_compressed_tensor sparse_coo_tensor sparse_csc_tensor "
    "sparse_csr_tensor tensor tril_indices triu_indices zeros zeros_like",
    torch.fft: "fftfreq rfftfreq",
    torch.nested: "as_nested_tensor nested_tensor",
}
NEW_METHODS = "new new_empty new_empty_strided new_full new_ones new_tensor new_zeros"
# What gives back its input where nothing is to be converted.
VIEWS = "as_tensor asarray from_dlpack"

CPU_TYPES: dict[Any, Any] = {}  # torch.cuda.FloatTensor -> torch.FloatTensor, and so on


def patch(patches: Patches) -> None:
    """Factories, conversions, default device and tensor type."""
    for module, names in FACTORIES.items():
        for name in names.split():
            patches.wrap(module, name, _made)
    for name in NEW_METHODS.split():
        patches.wrap(Tensor, name, _made)
    for name in VIEWS.split():
        patches.wrap(torch, name, _viewed)
    patches.wrap(Tensor, "to", _to)
    patches.wrap(Tensor, "cuda", lambda original, x, *_, **__: _moved(x, x))
    patches.wrap(Tensor, "cpu", _cpu)
    patches.wrap(Tensor, "type", _type)
    patches.wrap(Tensor, "pin_memory", lambda original, x, *_, **__: x)
    patches.wrap(Tensor, "record_stream", lambda *_: None)
    patches.wrap(torch.nn.Module, "to", _module_to)
    _patch_types(patches)
    _patch_defaults(patches)


# ---- made there --------------------------------------------------------------------------------------------


def _made(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if "device" in kwargs:
        kwargs["device"] = landed(kwargs["device"])
    if "pin_memory" in kwargs:
        kwargs["pin_memory"] = False
    return original(*args, **kwargs)


def _viewed(original: Callable[..., Tensor], source: Any, *args: Any, **kwargs: Any) -> Tensor:
    asked = means_cuda(kwargs.get("device"))
    made = _made(original, source, *args, **kwargs)
    return _moved(source, made) if asked else made


# ---- sent there --------------------------------------------------------------------------------------------


def _moved(source: Any, arrived: Tensor) -> Tensor:
    """What has arrived, as memory of its own."""
    if isinstance(source, Tensor) and (arrived is not source or source.requires_grad):
        return arrived
    return arrived.clone()


def _to(original: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    first = args[0] if args else kwargs.get("device")
    if first is None or isinstance(first, (torch.dtype, Tensor)):
        return original(x, *args, **kwargs)
    if args:
        args = landed(first), *args[1:]
    else:
        kwargs["device"] = landed(first)
    arrived = original(x, *args, **kwargs)
    if first == "cpu":
        return arrived.clone() if arrived is x else arrived
    # A device object may have been asked for as torch.device("cuda").
    return _moved(x, arrived)


def _cpu(original: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    arrived = original(x, *args, **kwargs)
    return arrived.clone() if arrived is x else arrived


def _type(original: Callable[..., Any], x: Tensor, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
    if dtype is None:
        return original(x)
    arrived = original(x, on_cpu(dtype), *args, **kwargs)
    # torch.cuda.FloatTensor is torch.FloatTensor now, so that any of these classes may mean a GPU.
    asked = "torch.cuda." in dtype if isinstance(dtype, str) else not isinstance(dtype, torch.dtype)
    return _moved(x, arrived) if asked else arrived


def _module_to(original: Callable[..., Any], module: Any, *args: Any, **kwargs: Any) -> Any:
    """Only numbers need help: everything else reaches `Tensor.to`."""
    if args and means_cuda(args[0]):
        args = "cuda", *args[1:]
    if means_cuda(kwargs.get("device")):
        kwargs["device"] = "cuda"
    return original(module, *args, **kwargs)


# ---- types and defaults ------------------------------------------------------------------------------------


def on_cpu(kind: Any) -> Any:
    """torch.FloatTensor for torch.cuda.FloatTensor or its name, and so on; anything else as it is."""
    if isinstance(kind, str):
        return kind.replace("torch.cuda.", "torch.")
    return CPU_TYPES.get(kind, kind)


def _patch_types(patches: Patches) -> None:
    for name in dir(torch.cuda):
        if name.endswith(("Tensor", "Storage")) and hasattr(torch, name):
            CPU_TYPES[getattr(torch.cuda, name)] = getattr(torch, name)
            patches.set(torch.cuda, name, getattr(torch, name))
    patches.later(CPU_TYPES.clear)


def _patch_defaults(patches: Patches) -> None:
    before = torch.get_default_device()
    set_default_device = torch.set_default_device
    touched: list[bool] = []

    def choose(device: Any) -> None:
        if not touched:
            touched.append(True)
            patches.later(lambda: set_default_device(None if before == CPU else before))
        set_default_device(landed(device))

    if means_cuda(before):
        choose(CPU)
    patches.wrap(torch, "set_default_device", lambda original, device: choose(device))
    patches.wrap(torch, "set_default_tensor_type", lambda original, kind: original(on_cpu(kind)))
