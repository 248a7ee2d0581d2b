# SPDX-License-Identifier: MIT
"""Each criterion of testing/closeness.py lets the right thing pass, and can fail."""

import pytest
import torch

from testing.closeness import TOLERANCES, assert_gradients_close, assert_values_close

DTYPES = list(TOLERANCES)


@pytest.fixture
def wanted():
    return torch.randn(20, 50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def faults(got, want, dtype, check=assert_gradients_close, **options):
    with pytest.raises(AssertionError, match="d_pos") as caught:
        check(got, want, dtype=dtype, what="d_pos", **options)
    text = str(caught.value)
    names = ("shape", "not finite", "element-wise", "relative L2", "cosine", "signed bias")
    return [name for name in names if name in text]


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_to_the_dtype_passes(wanted, dtype):
    assert_values_close(wanted.to(dtype), wanted, dtype=dtype, what="d_pos")
    assert_gradients_close(wanted.to(dtype), wanted, dtype=dtype, what="d_pos")
    assert_gradients_close(wanted.to(dtype)[:1, :1, :1], wanted[:1, :1, :1], dtype=dtype, what="one element")


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_wrong_element(wanted, dtype):
    got = wanted.clone()
    got[3, 4, 1] += 1.5 * TOLERANCES[dtype].gradient * wanted.abs().max()
    assert faults(got, wanted, dtype) == ["element-wise"]
    assert faults(got, wanted, dtype, check=assert_values_close) == ["element-wise"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_systematic_factor(wanted, dtype):
    for sign in (1, -1):
        got = wanted * (1 + sign * 1.5 * TOLERANCES[dtype].bias)
        assert faults(got, wanted, dtype) == ["signed bias"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_direction(wanted, dtype):
    tolerance = TOLERANCES[dtype]
    # Rows in pairs, one too long and the other too short: no bias, and the length hardly changes
    step = (tolerance.angle + min(tolerance.relative_l2, 2 * tolerance.angle)) / 2 * 1.05
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(10)[:, None, None]
    wanted = torch.cat([wanted[:10], wanted[:10]], 1).reshape(20, 50, 4)
    assert "cosine" in faults(wanted * (1 + step * signs), wanted, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_relative_l2(wanted, dtype):
    # One huge element makes every other error small in comparison, but not in sum
    spiky = wanted.clone()
    spiky[0, 0, 0] = 30.0
    noise = torch.randn(spiky.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    got = spiky + 2 * TOLERANCES[dtype].relative_l2 * noise
    assert "relative L2" in faults(got, spiky, dtype)
    assert "element-wise" not in faults(got, spiky, dtype)


def test_opposite_direction_and_zero():
    want = torch.tensor([1.0, 2.0])
    assert "cosine" in faults(-want, want, torch.float32)
    assert "element-wise" in faults(want, torch.zeros(2), torch.float32)
    assert_gradients_close(torch.zeros(2), torch.zeros(2), dtype=torch.float32, what="d_pos")
    assert_gradients_close(torch.zeros(0), torch.zeros(0), dtype=torch.float32, what="d_pos")


def test_shape_and_special_values():
    nan, inf = float("nan"), float("inf")
    want = torch.tensor([1.0, nan, inf])
    assert_values_close(want.clone(), want, dtype=torch.float32, what="d_pos")
    assert faults(torch.tensor([1.0, 0.0, inf]), want, torch.float32) == ["not finite"]
    assert faults(torch.tensor([1.0, nan, -inf]), want, torch.float32) == ["not finite"]
    assert faults(torch.tensor([nan, nan, inf]), want, torch.float32) == ["not finite"]
    assert faults(torch.ones(3, 1), torch.ones(3), torch.float32) == ["shape"]


def test_mask_covers_trailing_dimensions(wanted):
    got = wanted.clone()
    got[2, 3] = 100.0
    mask = torch.ones(20, 50, dtype=torch.bool)
    assert faults(got, wanted, torch.float32, mask=mask) != []
    mask[2, 3] = False
    assert_gradients_close(got, wanted, dtype=torch.float32, what="d_pos", mask=mask)
