# SPDX-License-Identifier: MIT
"""What "the same" means for values and for gradients, in one place.

A gradient is judged as a vector, too: an optimiser follows its direction and length, and a small error with
the same sign everywhere (a forgotten stabiliser, a lost factor of 1.0001) drives it off although each element
passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tolerance:
    """Bounds for one dtype. `wanted` is the exact vector, `error` the difference to it."""

    value: float  # max |error| / max |wanted|, forward results
    gradient: float  # the same for gradients: longer sums, and divisions by small areas and footprints
    relative_l2: float  # |error| / |wanted|
    angle: float  # radians between the two vectors: a bound on 1 - cosine that does not cancel
    bias: float  # sum of sign(wanted) * error / sum |wanted|: are all elements too long, or too short?


TOLERANCES = {
    # 2^-53 per operation; areas of slivers and footprints of grazing surfaces lose up to four digits
    torch.float64: Tolerance(value=1e-11, gradient=1e-10, relative_l2=1e-10, angle=1e-10, bias=1e-11),
    # The library that wrote the golden numbers is within 4e-6 (values) and 1e-5 (gradients) of float64
    # arithmetic on the same inputs; twice that leaves room for another order of operations
    torch.float32: Tolerance(value=1e-5, gradient=2e-5, relative_l2=2e-5, angle=1e-5, bias=5e-6),
    # Computed in float32, rounded once to 11 bits: half a unit is 2^-11 = 4.9e-4 of each element
    torch.float16: Tolerance(value=6e-4, gradient=6e-4, relative_l2=6e-4, angle=5e-4, bias=3e-4),
    # The same with 8 bits: 2^-8 = 3.9e-3
    torch.bfloat16: Tolerance(value=4.5e-3, gradient=4.5e-3, relative_l2=4.5e-3, angle=4e-3, bias=2e-3),
}

# Below this magnitude an array counts as zero: float32 noise of cancelling contributions of order one
_NOTHING = 1e-6


def assert_values_close(
    got: Tensor, want: Tensor, *, dtype: torch.dtype, what: str, mask: Tensor | None = None
) -> None:
    """Compare forward results element by element, relative to the largest wanted magnitude.

    Args:
        got: result computed in `dtype`.
        want: the exact result, of the same shape; NaN and infinities must stand at the same places.
        dtype: row of `TOLERANCES`.
        what: name for the message.
        mask: bool, True where to compare; broadcast over trailing dimensions.
    """
    got, want = _flat(got, want, what, mask)
    _raise(what, dtype, _element_faults(got, want, TOLERANCES[dtype].value))


def assert_gradients_close(
    got: Tensor, want: Tensor, *, dtype: torch.dtype, what: str, mask: Tensor | None = None
) -> None:
    """Compare gradients by element, relative L2, direction and signed bias; see `assert_values_close`."""
    tolerance = TOLERANCES[dtype]
    got, want = _flat(got, want, what, mask)
    faults = _element_faults(got, want, tolerance.gradient)
    got, want = _finite(got, want)
    length = want.norm().item()
    if length > _NOTHING * math.sqrt(max(want.numel(), 1)):
        error = got - want
        l2 = error.norm().item() / length
        if l2 > tolerance.relative_l2:
            faults.append(f"relative L2 {l2:.2e} > {tolerance.relative_l2:.1e}")
        # From the part of `got` across `want`: 1 - cosine itself would cancel below angles of 1e-8
        across = got - want * ((got @ want) / length**2)
        angle = math.atan2(across.norm().item(), (got @ want).item() / length)
        if angle > tolerance.angle:
            one_minus = [2 * math.sin(a / 2) ** 2 for a in (angle, tolerance.angle)]
            faults.append(f"1 - cosine {one_minus[0]:.2e} > {one_minus[1]:.1e}")
        # Independent errors average out with the square root of their number, a bias does not
        limit = max(tolerance.bias, tolerance.gradient / math.sqrt(want.numel()))
        bias = (want.sign() @ error).item() / want.abs().sum().item()
        if abs(bias) > limit:
            faults.append(f"signed bias {bias:+.2e}, allowed {limit:.1e}")
    _raise(what, dtype, faults)


def _flat(got: Tensor, want: Tensor, what: str, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    if got.shape != want.shape:
        raise AssertionError(f"{what}: shape {tuple(got.shape)}, wanted {tuple(want.shape)}")
    got, want = got.detach().double().cpu(), want.detach().double().cpu()
    if mask is None:
        return got.flatten(), want.flatten()
    mask = mask.cpu().reshape(*mask.shape, *[1] * (want.dim() - mask.dim())).expand(want.shape)
    return got[mask], want[mask]


def _finite(got: Tensor, want: Tensor) -> tuple[Tensor, Tensor]:
    both = got.isfinite() & want.isfinite()
    return got[both], want[both]


def _element_faults(got: Tensor, want: Tensor, tolerance: float) -> list[str]:
    faults = []
    # NaN equals NaN, an infinity equals itself
    special = ~(got.isfinite() & want.isfinite())
    same = (got == want) | (got.isnan() & want.isnan())
    strange = special & ~same
    if strange.any():
        k = int(strange.nonzero()[0])
        faults.append(f"{int(strange.sum())} elements not finite, e.g. {k}: {got[k]:g}, wanted {want[k]:g}")
    got, want = torch.where(special, 0.0, got), torch.where(special, 0.0, want)
    if want.numel():
        error = (got - want).abs()
        scale = max(want.abs().max().item(), _NOTHING)
        k = int(error.argmax())
        relative = error[k].item() / scale
        if relative > tolerance:
            wrong = int((error > tolerance * scale).sum())
            faults.append(
                f"element-wise {relative:.2e} > {tolerance:.1e} of {scale:.3g} in {wrong} of {want.numel()}, "
                f"worst {k}: {got[k]:.9g}, wanted {want[k]:.9g}"
            )
    return faults


def _raise(what: str, dtype: torch.dtype, faults: list[str]) -> None:
    if faults:
        raise AssertionError(f"{what} ({str(dtype).removeprefix('torch.')}): " + "; ".join(faults))
