# SPDX-License-Identifier: MIT
"""User errors, in one place: who, what was expected, what came, what to do. Kernels assume what is checked
here.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_INTEGERS = (
    torch.int32,
    torch.int64,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
)
_INT32_MAX = 2**31 - 1


def describe(value: Any) -> str:
    """What came, in the words of an error message."""
    if isinstance(value, Tensor):
        where = "" if value.device.type == "cpu" else f" on {value.device}"
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}{where}"
    if isinstance(value, (str, int, float, bool, type(None))):
        return repr(value)
    return type(value).__name__


def tensor(function: str, name: str, value: Any, expected: str) -> Tensor:
    """Refuse what is no tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{function}: `{name}` must be {expected}; got {describe(value)}. "
            f"Convert with `torch.as_tensor({name})`."
        )
    return value


def numbers(values: Any) -> list[Any]:
    """A tensor's or an array's numbers as Python's, nested like its shape."""
    return values.tolist()


def floating(
    function: str, name: str, value: Any, shape: str, ranks: Sequence[int], last: int | None = None
) -> Tensor:
    """A floating-point tensor of one of the given ranks, with `last` as its last size."""
    expected = f"a float tensor of shape {shape}"
    value = tensor(function, name, value, expected)
    if value.dtype not in _FLOATS:
        raise TypeError(
            f"{function}: `{name}` must be {expected}; got {describe(value)}. Convert with `{name}.float()`."
        )
    if value.ndim not in ranks or (last is not None and value.shape[-1] != last):
        raise ValueError(f"{function}: `{name}` must be {expected}; got {describe(value)}.")
    return value


def triangles(function: str, name: str, value: Any) -> Tensor:
    """Triangle corners as contiguous int32 [T, 3]. What does not fit int32 becomes an index that is out of
    range.
    """
    expected = "an integer tensor of shape [T, 3]"
    value = tensor(function, name, value, expected)
    if value.dtype not in _INTEGERS:
        raise TypeError(
            f"{function}: `{name}` must be {expected}; got {describe(value)}. Convert with `{name}.int()`."
        )
    if value.ndim != 2 or value.shape[1] != 3:
        raise ValueError(f"{function}: `{name}` must be {expected}; got {describe(value)}.")
    if value.dtype == torch.int32:
        return value.contiguous()
    if value.dtype == torch.uint64:
        raise TypeError(
            f"{function}: `{name}` must be {expected}; got {describe(value)}. Convert with `{name}.long()`."
        )
    return value.to(torch.int64).clamp(-1, _INT32_MAX).to(torch.int32).contiguous()


def resolution(function: str, value: Any) -> tuple[int, int]:
    """(height, width) from any iterable of two whole numbers."""
    # What is usual goes first: asking for an Iterable takes half a microsecond.
    if type(value) is tuple and len(value) == 2:
        height, width = value
        if type(height) is type(width) is int and height > 0 and width > 0:
            return value
    expected = "(height, width), two whole numbers above 0"
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{function}: `resolution` must be {expected}; got {describe(value)}.")
    sizes = list(value)
    if len(sizes) != 2:
        raise ValueError(f"{function}: `resolution` must be {expected}; got {len(sizes)} values.")
    whole = []
    for size in sizes:
        try:
            number = int(size)
        except (TypeError, ValueError):
            raise TypeError(
                f"{function}: `resolution` must be {expected}; got {describe(size)} in it."
            ) from None
        if number != size or number <= 0:
            raise ValueError(f"{function}: `resolution` must be {expected}; got {size!r} in it.")
        whole.append(number)
    return whole[0], whole[1]


def same_device(function: str, **tensors: Tensor | None) -> torch.device:
    """All tensors on one device, which is returned."""
    first: tuple[str, torch.device] | None = None
    for name, value in tensors.items():
        if value is None:
            continue
        if first is None:
            first = (name, value.device)
        elif value.device != first[1]:
            raise ValueError(
                f"{function}: all tensors must be on one device; `{first[0]}` is on {first[1]}, "
                f"`{name}` on {value.device}. Move with `{name}.to({str(first[1])!r})`."
            )
    if first is None:
        raise ValueError(f"{function}: no tensor given.")
    return first[1]


def working_dtype(*tensors: Tensor | None) -> torch.dtype:
    """float64 if any input is float64, else float32: half types are computed in float32."""
    for t in tensors:
        if t is not None and t.dtype == torch.float64:
            return torch.float64
    return torch.float32


def prepared(value: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor as kernels want it; the conversion is differentiable, so gradients return in the caller's
    dtype.
    """
    # `to` costs a microsecond even where there is nothing to do.
    return (value if value.dtype == dtype else value.to(dtype)).contiguous()


def choice(function: str, name: str, value: Any, options: Sequence[str]) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in options:
        listed = ", ".join(repr(o) for o in options)
        raise ValueError(f"{function}: `{name}` must be one of {listed}; got {describe(value)}.")
    return value


def flag(function: str, name: str, value: Any) -> bool:
    """A bool and nothing that merely looks like one."""
    if not isinstance(value, bool):
        raise TypeError(f"{function}: `{name}` must be True or False; got {describe(value)}.")
    return value
