# SPDX-License-Identifier: MIT
"""The oracle of interpolate against numbers worked out by hand, finite differences and the golden cases."""

import importlib.util
from pathlib import Path

import pytest
import torch

from rastergrad.ops.interpolate.reference import _triangle_index, interpolate

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"
NO_GOLDEN = "the golden files are not there (expected in ../shared/golden, beside the checkout)"
GOLDEN_CASES = sorted(path.stem for path in GOLDEN.glob("i*.npz"))


class Golden:
    """What the golden runner calls; lists of attributes are resolved here, as the public function does."""

    @staticmethod
    def interpolate(attr, rast, tri, rast_db=None, diff_attrs=None):
        A = attr.shape[-1]
        if isinstance(diff_attrs, str):
            diff_attrs = range(A)
        listed = None if diff_attrs is None else [j + A if j < 0 else j for j in diff_attrs]
        return interpolate(attr, rast, tri, rast_db, listed)


@pytest.mark.skipif(not GOLDEN_CASES, reason=NO_GOLDEN)
@pytest.mark.parametrize("case", GOLDEN_CASES)
def test_golden(case):
    spec = importlib.util.spec_from_file_location("golden_loader", GOLDEN / "golden_loader.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.run(Golden, None, only=case, verbose=False) == []


def pixels(*rows, dtype=torch.float64):
    """One image of height 1 from (u, v, z/w, id) rows."""
    return torch.tensor(rows, dtype=dtype)[None, None]


TRI = torch.tensor([[0, 1, 2], [2, 1, 3]])
ATTR = torch.tensor([[8.0, 1.0], [4.0, 0.0], [16.0, -2.0], [2.0, 5.0]], dtype=torch.float64)


def test_values_worked_out_by_hand():
    rast = pixels((0.25, 0.5, 0.0, 1), (0.5, 0.25, 0.9, 2), (1, 0, 0, 1), (0, 1, 0, 1), (0, 0, 0, 1))
    out, out_da = interpolate(ATTR, rast, TRI)
    # 8/4 + 4/2 + 16/4 = 8 and 1/4 + 0 - 2/4; triangle 2 has the corners 2, 1, 3: 16/2 + 4/4 + 2/4
    assert out[0, 0].tolist() == [[8.0, -0.25], [9.5, 0.25], [8.0, 1.0], [4.0, 0.0], [16.0, -2.0]]
    assert out_da.shape == (1, 1, 5, 0)


def test_derivatives_worked_out_by_hand():
    rast, db = pixels((0.25, 0.5, 0, 1)), torch.tensor([1.0, 2.0, 3.0, 4.0]).double().reshape(1, 1, 1, 4)
    _, out_da = interpolate(ATTR, rast, TRI, db, [1, 0, 7, -1, 0])
    first = [1 * -8 + 3 * -12, 2 * -8 + 4 * -12]  # a0 - a2 = -8, a1 - a2 = -12
    second = [1 * 3 + 3 * 2, 2 * 3 + 4 * 2]  # a0 - a2 = 3, a1 - a2 = 2
    assert out_da.flatten().tolist() == [*second, *first, 0, 0, 0, 0, *first]


def test_attributes_out_of_range_get_no_gradient():
    attr, rast = ATTR.clone().requires_grad_(), pixels((0.25, 0.5, 0, 1))
    db = torch.ones(1, 1, 1, 4, dtype=torch.float64, requires_grad=True)
    _, out_da = interpolate(attr, rast, TRI, db, [2, -1])
    out_da.sum().backward()
    assert not attr.grad.any()
    assert not db.grad.any()
    _, out_da = interpolate(ATTR, rast, TRI, torch.full((1, 1, 1, 4), float("nan")), [2, -1])
    assert out_da.flatten().tolist() == [0, 0, 0, 0]


def test_id_encoding():
    assert (_triangle_index(torch.tensor([-3.0, -1e30, -float("inf")])) < 0).all()
    ids = torch.tensor([0.0, 1.0, 2.9, 2.0**24, 16777218.0, 16777220.0])
    assert _triangle_index(ids).tolist() == [-1, 0, 1, 2**24 - 1, 2**24, 2**24 + 1]
    assert _triangle_index(ids.double()).tolist() == _triangle_index(ids).tolist()
    # 889192447 is the largest id whose float is finite
    largest = torch.tensor([torch.finfo(torch.float32).max])
    assert _triangle_index(largest).tolist() == [889192447 - 1]


@pytest.mark.parametrize("bad_id", [0.0, -1.0, 3.0, 1e30, float("nan"), float("inf"), -float("inf")])
def test_background_is_zero_whatever_is_stored_there(bad_id):
    attr = ATTR.clone()
    attr[0] = float("nan")
    attr.requires_grad_()
    nan = float("nan")
    rast = pixels((nan, 1, 0, bad_id), (0.5, 0.25, 0, 2)).requires_grad_()
    db = torch.full((1, 1, 2, 4), nan, dtype=torch.float64)
    db[0, 0, 1] = 1.0
    db.requires_grad_()
    out, out_da = interpolate(attr, rast, TRI, db, [0, 1])
    assert not out[0, 0, 0].any()
    assert not out_da[0, 0, 0].any()
    (out.sum() + out_da.sum()).backward()
    assert attr.grad.isfinite().all()
    for gradient in (rast.grad, db.grad):
        assert not gradient[0, 0, 0].any()
        assert gradient[0, 0, 1].isfinite().all()


@pytest.mark.parametrize("bad", [-1, 4, 2**31 - 1])
def test_vertex_index_out_of_range_gives_zeros(bad):
    tri = TRI.clone()
    tri[0, 1] = bad
    out, _ = interpolate(ATTR, pixels((0.25, 0.5, 0, 1), (1, 0, 0, 2)), tri)
    assert out[0, 0].tolist() == [[0, 0], ATTR[2].tolist()]


def test_broadcast_forms_agree_and_gradients_add_up():
    torch.manual_seed(0)
    rast = torch.rand(3, 4, 5, 4, dtype=torch.float64) * 0.5
    rast[..., 3] = torch.randint(0, 3, (3, 4, 5))
    upstream = torch.randn(3, 4, 5, 2, dtype=torch.float64)
    gradients, values = [], []
    for shape in ((4, 2), (1, 4, 2), (3, 4, 2)):
        attr = ATTR.expand(shape).clone().requires_grad_()
        out, _ = interpolate(attr, rast, TRI)
        out.backward(upstream)
        values.append(out.detach())
        gradients.append(attr.grad.sum(0) if len(shape) == 3 else attr.grad)
    for value, gradient in zip(values[1:], gradients[1:]):
        assert torch.equal(value, values[0])
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-12, atol=1e-12)


def test_each_image_reads_its_own_attributes():
    attr = torch.stack([ATTR, ATTR + 100])
    rast = pixels((0.25, 0.5, 0, 1)).expand(2, 1, 1, 4)
    out, _ = interpolate(attr, rast, TRI)
    assert out[:, 0, 0, 0].tolist() == [8.0, 108.0]


def test_gradcheck():
    torch.manual_seed(1)
    rast = torch.rand(2, 3, 2, 4, dtype=torch.float64) * 0.5
    ids = torch.randint(0, 3, (2, 3, 2, 1)).double()
    db = torch.randn(2, 3, 2, 4, dtype=torch.float64)
    attr = torch.randn(2, 4, 3, dtype=torch.float64)

    def run(attr, barycentrics, db):
        return interpolate(attr, torch.cat([barycentrics, ids], -1), TRI, db, [2, 0, 2, 5])

    inputs = [x.requires_grad_() for x in (attr, rast[..., :3].clone(), db)]
    assert torch.autograd.gradcheck(run, inputs)


def test_zero_upstream_keeps_nan_out():
    nan = float("nan")
    rast = pixels((nan, nan, nan, 1), (0.5, 0.25, 0, 2)).requires_grad_()
    db = torch.tensor([[nan] * 4, [1.0] * 4], dtype=torch.float64).reshape(1, 1, 2, 4).requires_grad_()
    attr = ATTR.clone().requires_grad_()
    out, out_da = interpolate(attr, rast, TRI, db, [0, 1])
    upstream = torch.ones_like(out), torch.ones_like(out_da)
    for g in upstream:
        g[0, 0, 0] = 0.0
    gradients = torch.autograd.grad([out, out_da], [attr, rast, db], upstream)
    assert all(g.isfinite().all() for g in gradients)
    assert gradients[0].any()


@pytest.mark.parametrize(("n", "V", "T"), [(0, 4, 2), (1, 0, 2), (1, 4, 0), (1, 0, 0)])
def test_empty(n, V, T):
    attr = ATTR[:V].clone().requires_grad_()
    rast = torch.ones(n, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    db = torch.ones_like(rast)
    out, out_da = interpolate(attr, rast, TRI[:T], db, [0])
    assert out.shape == (n, 2, 3, 2)
    assert out_da.shape == (n, 2, 3, 2)
    (out.sum() + out_da.sum()).backward()
    assert not out.any()
    assert not rast.grad.any()
    assert attr.grad.shape == (V, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_results_and_gradients_keep_the_dtype(dtype):
    attr = ATTR.to(dtype).requires_grad_()
    rast = pixels((0.25, 0.5, 0.0, 1), dtype=dtype).requires_grad_()
    out, _ = interpolate(attr, rast, TRI)
    out.sum().backward()
    assert out.flatten().tolist() == [8.0, -0.25]
    assert out.dtype == attr.grad.dtype == rast.grad.dtype == dtype
