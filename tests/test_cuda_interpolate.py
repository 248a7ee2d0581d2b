# SPDX-License-Identifier: MIT
"""interpolate's GPU kernels, in the emulator, beside the CPU's and the oracle."""

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

import rastergrad as rg
from testing import golden
from testing.emulator import ORDERS, emulated

SIZE = (21, 70)  # neither a whole number of blocks nor of warps
G = torch.Generator().manual_seed(0)
POS = torch.cat([torch.rand(2, 12, 3, generator=G) * 2 - 1, torch.ones(2, 12, 1)], -1)
TRI = torch.randint(0, 12, (20, 3), generator=G, dtype=torch.int32)
RAST, RAST_DB = rg.rasterize(POS, TRI, SIZE)
Diff = None | str | list[int]


@pytest.fixture
def reproducible() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def run(
    shape: Sequence[int],
    diff: Diff,
    dtype: torch.dtype,
    needs: Sequence[bool] = (True, True, True),
    backend: str | None = None,
) -> list[Tensor]:
    """Outputs, then the gradients that are wanted, for a random upstream."""
    g = torch.Generator().manual_seed(1)
    attr = torch.rand(shape, generator=g, dtype=torch.float64).to(dtype)
    inputs = [attr, RAST.to(dtype), RAST_DB.to(dtype)]
    wanted = [x.requires_grad_() if n else x for x, n in zip([x.clone() for x in inputs], needs)]
    out, out_da = rg.interpolate(wanted[0], wanted[1], TRI, wanted[2], diff, backend=backend)
    total = sum(
        (o * torch.rand(o.shape, generator=g, dtype=torch.float64).to(dtype)).sum() for o in (out, out_da)
    )
    leaves = [x for x in wanted[: 2 if diff is None else 3] if x.requires_grad]
    assert isinstance(total, Tensor)
    return [out.detach(), out_da.detach(), *torch.autograd.grad(total, leaves)]


def close(got: Sequence[Tensor], want: Sequence[Tensor], bound: float) -> None:
    assert len(got) == len(want)
    for a, b in zip(got, want):
        assert a.shape == b.shape
        if a.numel():
            assert float((a - b).abs().max()) <= bound * float(b.abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("diff", [None, "all", [0, 2, -1, 9]])
@pytest.mark.parametrize("shape", [(12, 1), (12, 3), (1, 12, 8), (2, 12, 5), (2, 12, 4), (12, 300)])
def test_as_on_the_cpu(shape: tuple[int, ...], diff: Diff, dtype: torch.dtype) -> None:
    """Outputs bit for bit; gradients but for the order of sums."""
    want = run(shape, diff, dtype)
    with emulated():
        got = run(shape, diff, dtype)
    assert all(torch.equal(a, b) for a, b in zip(got[:2], want[:2]))
    close(got, want, 2e-6 if dtype == torch.float32 else 1e-14)


@pytest.mark.parametrize("diff", [None, "all", [3, 3, 0]])
def test_as_the_oracle_says(diff: Diff) -> None:
    with emulated():
        got = run((2, 12, 4), diff, torch.float64)
    close(got, run((2, 12, 4), diff, torch.float64, backend="reference"), 1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reproducible_in_any_order(reproducible: None, dtype: torch.dtype) -> None:
    found = []
    for order in ORDERS:
        with emulated(order):
            found.append(run((12, 4), "all", dtype))
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other))
    close(found[0], run((12, 4), "all", dtype), 2e-6 if dtype == torch.float32 else 1e-14)


@pytest.mark.parametrize("needs", [(True, False, False), (False, True, False), (False, False, True)])
def test_what_is_not_wanted_is_not_computed(needs: tuple[bool, ...]) -> None:
    every = run((12, 4), "all", torch.float32)
    with emulated() as engine:
        got = run((12, 4), "all", torch.float32, needs)
    close(got[2:], [every[2 + needs.index(True)]], 2e-6)
    assert engine.launched.count("interpolate_backward") == 1


def test_views_that_begin_anywhere() -> None:
    """Loads of sixteen bytes would fail on them."""

    def shifted(x: Tensor) -> Tensor:
        return torch.cat([torch.zeros(1), x.flatten()])[1:].view(x.shape).detach().requires_grad_()

    attr = torch.rand(12, 4, generator=torch.Generator().manual_seed(5))

    def both(a: Tensor, r: Tensor, d: Tensor) -> list[Tensor]:
        out, out_da = rg.interpolate(a, r, TRI, d, [1])
        upstream = shifted(torch.linspace(0, 1, out.numel()).view(out.shape)).detach()
        return [
            out.detach(),
            *torch.autograd.grad([out, out_da], [a, r, d], [upstream, torch.ones_like(out_da)]),
        ]

    plain = both(*(x.clone().requires_grad_() for x in (attr, RAST, RAST_DB)))
    with emulated():
        got = both(shifted(attr), shifted(RAST), shifted(RAST_DB))
    close(got, plain, 2e-6)


def test_indices_out_of_range_and_ids_that_do_not_exist_give_zeros() -> None:
    tri = TRI.clone()
    tri[3, 1], tri[5, 0] = 12, -1
    rast = RAST.clone()
    rast[0, 0, :6, 3] = torch.tensor([21.0, -1, float("nan"), float("inf"), -float("inf"), 3e9])
    attr = torch.rand(12, 3, generator=torch.Generator().manual_seed(6))

    def both() -> list[Tensor]:
        a, r = attr.clone().requires_grad_(), rast.clone().requires_grad_()
        out, _ = rg.interpolate(a, r, tri)
        return [out.detach(), *torch.autograd.grad(out.square().sum(), [a, r])]

    want = both()
    with emulated():
        close(both(), want, 2e-6)


def test_a_zero_upstream_keeps_infinities_out() -> None:
    attr = torch.rand(12, 4)
    attr[TRI[4].long()] = float("inf")

    def both(channels: int) -> list[Tensor]:
        a, r = attr[:, :channels].clone().requires_grad_(), RAST.clone().requires_grad_()
        out, _ = rg.interpolate(a, r, TRI)
        upstream = torch.where(out.isfinite(), 1.0, 0.0)
        return list(torch.autograd.grad(out, [a, r], upstream))

    for channels in (3, 4):
        want = both(channels)
        with emulated():
            got = both(channels)
        assert all(bool(x.isfinite().all()) for x in got)
        close(got, want, 2e-6)


@pytest.mark.parametrize(
    ("n", "triangles", "vertices", "channels"), [(0, 2, 3, 2), (1, 0, 3, 2), (1, 2, 0, 2), (1, 2, 3, 0)]
)
def test_empty_inputs(n: int, triangles: int, vertices: int, channels: int) -> None:
    attr = torch.rand(vertices, channels).requires_grad_()
    rast = torch.ones(n, 3, 4, 4).requires_grad_()
    tri = torch.zeros(triangles, 3, dtype=torch.int32)
    with emulated():
        out, out_da = rg.interpolate(attr, rast, tri, rast.detach(), "all")
        grads = torch.autograd.grad(
            [out, out_da], [attr, rast], [torch.ones_like(out), torch.ones_like(out_da)]
        )
    assert out.shape == (n, 3, 4, channels)
    assert out_da.shape == (n, 3, 4, 2 * channels)
    assert [g.shape for g in grads] == [attr.shape, rast.shape]
    assert not (triangles == 0 and bool(out.any()))


@pytest.mark.skipif(not golden.available(), reason=golden.MISSING)
@pytest.mark.parametrize("name", golden.names("i"))
def test_golden(name: str) -> None:
    with emulated():
        assert golden.failures(golden.native_functions("cuda"), name) == []
