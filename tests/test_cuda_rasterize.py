# SPDX-License-Identifier: MIT
"""rasterize's GPU kernels, in the emulator, beside the CPU's and the oracle: what is drawn, bit for bit."""

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rastergrad as rg
from rastergrad.ops.rasterize import cuda, op
from rastergrad.ops.rasterize.op import draw
from testing import golden, strategies
from testing.closeness import TOLERANCES, assert_gradients_close
from testing.emulator import ORDERS, emulated
from testing.poison import Poison, equal

TYPES = [torch.float32, torch.float64]
Size = tuple[int, int]


@pytest.fixture
def reproducible() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def run(pos: Tensor, tri: Tensor, size: Size, **options: Any) -> list[Tensor]:
    """rast, rast_db, and the gradient of `pos` for a random upstream of both."""
    pos = pos.detach().clone().requires_grad_()
    rast, db, _ = draw("rasterize", pos, tri, size, **options)
    return [rast.detach(), db.detach(), *torch.autograd.grad([rast, db], [pos], upstream(rast))]


def upstream(rast: Tensor) -> list[Tensor]:
    g = torch.Generator().manual_seed(1)
    return [torch.randn(rast.shape, generator=g, dtype=torch.float64).to(rast.dtype) for _ in range(2)]


def exact(pos: Tensor, tri: Tensor, rast: Tensor, **options: Any) -> Tensor:
    """The gradient of `pos` for what was drawn, in float64."""
    db_grad, depth_grad, gate = (options.get(k, True) for k in ("db_grad", "depth_grad", "interior_gate"))
    inputs = (
        pos.double(),
        tri,
        options.get("ranges"),
        None,
        *rast.shape[1:3],
        False,
        db_grad,
        depth_grad,
        gate,
        "",
        "cpu",
    )
    grads = [g.double() for g in upstream(rast)]
    d_pos = op._backward((True,), inputs, (rast.double(),), (*grads, None))[0]
    assert d_pos is not None
    return d_pos


def as_near(got: Tensor, want: Tensor, truth: Tensor) -> None:
    """A gradient as on the CPU, which sums relative to a pixel of each block: both round, but differently. On
    slivers float32 loses digits in either way; neither may lose many more than the other.
    """
    if got.dtype == torch.float64:
        assert_gradients_close(got, truth, dtype=torch.float64, what="d_pos")
        return
    assert got.shape == want.shape
    errors = [float((d - truth).abs().max()) / float(truth.abs().max()) for d in (got, want)]
    assert errors[0] <= 4 * errors[1] + TOLERANCES[torch.float32].gradient, errors


def agree(got: Sequence[Tensor], want: Sequence[Tensor], truth: Tensor) -> None:
    """What is drawn, and the gradient of `pos`."""
    assert equal(got[:2], want[:2])
    as_near(got[2], want[2], truth)


def both(pos: Tensor, tri: Tensor, size: Size, **options: Any) -> list[Tensor]:
    """What the GPU's kernels give, compared with the CPU's."""
    want = run(pos, tri, size, **options)
    with emulated() as engine:
        got = run(pos, tri, size, **options)
    agree(got, want, exact(pos, tri, want[0], **options))
    assert {"rasterize_begin", "rasterize_shade", "rasterize_backward"} <= set(engine.launched)
    return got


def mesh(seed: int, *, images: int = 2, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Triangles of all sizes, some partly outside; in float64 some that pass the eye, where float32 keeps no
    digits of a gradient.
    """
    g = torch.Generator().manual_seed(seed)
    centre = torch.rand(images, 60, 1, 3, generator=g) * 2.4 - 1.2
    reach = 10 ** (torch.rand(60, 1, 1, generator=g) * 2.5 - 2)
    corners = centre + (torch.rand(images, 60, 3, 3, generator=g) - 0.5) * reach
    w = torch.rand(images, 60, 3, 1, generator=g) * 1.5 + 0.3
    if dtype == torch.float64:
        w[:, ::9, 0] *= -1
    pos = torch.cat([corners * w.abs(), w], -1).reshape(images, 180, 4).to(dtype)
    return pos, torch.arange(180, dtype=torch.int32).view(60, 3)


# ---- scenes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [(21, 70), (64, 64), (1, 97), (130, 5)])
@pytest.mark.parametrize("seed", range(3))
def test_as_on_the_cpu(seed: int, size: Size, dtype: torch.dtype) -> None:
    rast, _, d_pos = both(*mesh(seed, dtype=dtype), size)
    assert int(rast[..., 3].unique().numel()) > 4
    assert int((d_pos != 0).any(-1).sum()) > 6


@settings(max_examples=150, deadline=None, derandomize=True)
@given(scene=strategies.clip_scenes(), dtype=st.sampled_from(TYPES))
def test_as_on_the_cpu_where_formulas_break(scene: strategies.ClipScene, dtype: torch.dtype) -> None:
    want = rg.rasterize(scene.pos.to(dtype), scene.tri, scene.size)
    with emulated():
        assert equal(rg.rasterize(scene.pos.to(dtype), scene.tri, scene.size), want)


def test_as_the_oracle_says() -> None:
    pos, tri = mesh(5, dtype=torch.float64)
    with emulated():
        got = run(pos, tri, (33, 40))
    want = run(pos, tri, (33, 40), backend="reference")
    assert torch.equal(got[0][..., 3], want[0][..., 3])
    for a, b in zip(got, want, strict=True):
        assert float((a - b).abs().max()) <= 1e-9 * float(b.abs().max())


@pytest.mark.parametrize("dtype", TYPES)
def test_parts_of_one_mesh(dtype: torch.dtype) -> None:
    """Ranges that overlap, are empty, or go past the end."""
    pos, tri = mesh(1, images=1, dtype=dtype)
    ranges = torch.tensor([[0, 60], [10, 0], [50, 100], [70, 5], [3, 40]], dtype=torch.int32)
    rast, _, _ = both(pos[0], tri, (24, 40), ranges=ranges)
    covered = (rast[..., 3] > 0).flatten(1).any(1)
    assert covered.tolist() == [True, False, True, False, True]


@pytest.mark.parametrize("dtype", TYPES)
def test_layers(dtype: torch.dtype) -> None:
    """Each draws only what lies behind the one before, gradients included."""
    pos, tri = mesh(2, dtype=dtype)

    def peeled(pos: Tensor = pos) -> list[Tensor]:
        p = pos.clone().requires_grad_()
        layers = list(rg.depth_layers(p, tri, (30, 41)))
        total = sum((rast[..., :3].square().sum() + db.square().sum() for rast, db in layers))
        assert isinstance(total, Tensor)
        images = torch.cat([torch.cat(layer, -1) for layer in layers])
        return [images.detach(), *torch.autograd.grad(total, p)]

    want = peeled()
    with emulated():
        got = peeled()
    assert len(want[0]) > 4
    assert torch.equal(got[0], want[0])
    as_near(got[1], want[1], peeled(pos.double())[1])


@pytest.mark.parametrize("options", [{"depth_grad": False}, {"db_grad": False}, {"interior_gate": False}])
def test_gradients_that_are_switched_off(options: dict[str, bool]) -> None:
    every = run(*mesh(3), (40, 50))[2]
    assert not torch.equal(both(*mesh(3), (40, 50), **options)[2], every) or "interior_gate" in options


@pytest.mark.parametrize("which", [0, 1])
def test_an_upstream_that_did_not_arrive(which: int) -> None:
    def one() -> Tensor:
        pos, tri = mesh(4, dtype=torch.float64)
        out = rg.rasterize(pos.requires_grad_(), tri, (30, 44))[which]
        return torch.autograd.grad(out.square().sum(), pos)[0]

    want = one()
    with emulated():
        assert_gradients_close(one(), want, dtype=torch.float64, what="d_pos")


# ---- queues ------------------------------------------------------------------------------------------------


def test_equal_depths_go_to_the_higher_index_in_any_order() -> None:
    """In all three ways of drawing, and between them."""
    big = torch.tensor([[-0.9, -0.8, 0.25, 1], [0.9, -0.7, 0.25, 1], [0.1, 0.9, 0.25, 1]])
    small = big * torch.tensor([0.05, 0.05, 1, 1]) + torch.tensor([0.013, -0.02, 0, 0])
    pos = torch.cat([big, small, big, small])[None]
    tri = torch.arange(12, dtype=torch.int32).view(4, 3)
    for order in (tri, tri.flip(0), tri[[1, 0, 3, 2]]):
        want = rg.rasterize(pos, order, (96, 150))
        for threads in ORDERS:
            with emulated(threads):
                assert equal(rg.rasterize(pos, order, (96, 150)), want)


def huge(size: Size, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A few triangles over the whole image, and many small ones before and behind them."""
    g = torch.Generator().manual_seed(seed)
    large = torch.cat([torch.rand(6, 3, 2, generator=g) * 6 - 3, torch.rand(6, 3, 1, generator=g)], -1)
    centre = torch.rand(300, 1, 3, generator=g) * torch.tensor([2, 2, 1.0]) - torch.tensor([1, 1, 0.0])
    small = centre + (torch.rand(300, 3, 3, generator=g) - 0.5) * torch.tensor(
        [20 / size[1], 20 / size[0], 0]
    )
    corners = torch.cat([large, small])
    pos = torch.cat([corners, torch.ones(306, 3, 1)], -1).reshape(1, -1, 4)
    return pos, torch.arange(918, dtype=torch.int32).view(306, 3)


def test_triangles_of_more_chunks_than_a_triangle_may_have() -> None:
    """Above 255 chunks of 64 x 64 pixels, chunks of 128 x 128 are made of four."""
    pos, tri = huge((1100, 1090))
    want = rg.rasterize(pos, tri, (1100, 1090))
    with emulated():
        got = rg.rasterize(pos, tri, (1100, 1090))
    assert equal(got, want)
    assert int(got[0][..., 3].unique().numel()) > 100


def test_more_triangles_of_several_chunks_than_a_warp_has_lanes() -> None:
    """Which of 1,500 triangles a chunk belongs to is searched for 32 ways at a time."""
    g = torch.Generator().manual_seed(3)
    centre, reach = torch.rand(1500, 1, 3, generator=g) - 0.5, torch.tensor([1.2, 1.2, 0.1])
    corners = centre + (torch.rand(1500, 3, 3, generator=g) - 0.5) * reach
    pos = torch.cat([corners, torch.ones(1500, 3, 1)], -1).reshape(1, -1, 4)
    tri = torch.arange(4500, dtype=torch.int32).view(1500, 3)
    want = rg.rasterize(pos, tri, (150, 190))
    with emulated():
        assert equal(rg.rasterize(pos, tri, (150, 190)), want)


@pytest.mark.parametrize(("single", "parted"), [(1, 1), (7, 3), (40, 1), (0, 0)])
def test_full_queues(monkeypatch: pytest.MonkeyPatch, single: int, parted: int) -> None:
    """Who finds no room draws by itself."""
    pos, tri = huge((150, 170), seed=1)
    want = rg.rasterize(pos, tri, (150, 170))
    monkeypatch.setattr(cuda, "_MOST_SINGLE", single)
    monkeypatch.setattr(cuda, "_MOST_PARTED", parted)
    for order in ORDERS:
        with emulated(order):
            assert equal(rg.rasterize(pos, tri, (150, 170)), want)


@pytest.mark.parametrize("tiny", [0, 1, 10**9])
def test_drawn_by_warps_or_by_threads(monkeypatch: pytest.MonkeyPatch, tiny: int) -> None:
    """How a triangle is drawn does not show."""
    pos, tri = huge((70, 180), seed=2)
    want = rg.rasterize(pos, tri, (70, 180))
    monkeypatch.setattr(cuda, "_tiny", lambda *_: tiny)
    with emulated():
        assert equal(rg.rasterize(pos, tri, (70, 180)), want)


# ---- order -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
def test_in_any_order(reproducible: None, dtype: torch.dtype) -> None:
    pos, tri = mesh(6, dtype=dtype)
    found = []
    for order in ORDERS:
        with emulated(order):
            found.append(run(pos, tri, (41, 52)))
    for other in found[1:]:
        assert equal(found[0], other)
    want = run(pos, tri, (41, 52))
    agree(found[0], want, exact(pos, tri, want[0]))


# ---- what is asked of the machine --------------------------------------------------------------------------


def test_nothing_waits_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for ranges, which are on the CPU by contract."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("this would wait")

    pos, tri = mesh(7)
    pos.requires_grad_()
    with emulated() as engine, monkeypatch.context() as patched:
        patched.setattr(engine, "launch", lambda *_: None)  # the emulator itself looks at memory
        for name in ("item", "tolist", "cpu", "nonzero", "__bool__", "__int__", "__float__", "numpy"):
            patched.setattr(Tensor, name, refuse)
        with pytest.raises(AssertionError, match="would wait"):
            bool(pos.sum())
        rast, db = rg.rasterize(pos, tri, (8, 9))
        torch.autograd.grad([rast, db], pos, [torch.ones_like(rast), torch.ones_like(db)])


def test_views_that_begin_anywhere() -> None:
    """Loads of sixteen bytes would fail on them."""

    def shifted(x: Tensor) -> Tensor:
        return torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape)

    pos, tri = mesh(8)
    want = run(pos, tri, (20, 33))
    with emulated():
        p = shifted(pos).requires_grad_()
        rast, db = rg.rasterize(p, shifted(tri), (20, 33))
        grads = [shifted(x) for x in upstream(rast)]
        got = [rast.detach(), db.detach(), *torch.autograd.grad([rast, db], p, grads)]
    agree(got, want, exact(pos, tri, want[0]))


# ---- hostile input -----------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_hostile_numbers_give_what_they_give_on_the_cpu(seed: int) -> None:
    p = Poison(seed)
    n, size, vertices, triangles = p.images(), p.size(), p.vertices(), p.triangles()
    if n * size[0] * size[1] > 6000 or min(size) == 0 or (n == 0 and triangles == 0):
        return
    pos = p.clip_positions(n, vertices).float()
    tri = torch.as_tensor(p.triangle_table(triangles, vertices, bad=0.3))

    def drawn() -> tuple[Tensor, Tensor, Tensor]:
        return draw("rasterize", pos, tri, size, strict=False, layered=True)

    want = drawn()
    with emulated():
        assert equal(drawn(), want)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_fragments_of_anywhere_give_the_gradients_of_the_cpu(seed: int) -> None:
    """Ids that do not exist, NaN and infinities: into the backward pass alone."""
    p = Poison(seed)
    vertices, triangles = 1 + p.vertices(), p.triangles()
    pos = torch.cat([p.uniform(-1, 1, 1, vertices, 3), p.uniform(0.5, 2, 1, vertices, 1)], -1)
    tri = torch.randint(0, vertices, (triangles, 3), generator=p.generator).int()
    rast = p.fragments(1, (9, 35), triangles)
    grads = p.floats(1, 9, 35, 4), p.floats(1, 9, 35, 4)

    options = None, None, 9, 35, False, True, p.chance(0.5), p.chance(0.5), "", "cpu"

    def gradient(pos: Tensor = pos, tri: Tensor = tri) -> Tensor:
        inputs = pos.double(), tri, *options
        d_pos = op._backward((True,), inputs, (rast.double(),), (*(g.double() for g in grads), None))[0]
        assert d_pos is not None
        return d_pos

    want = gradient()
    with emulated():
        got = gradient()
    assert torch.equal(want.isfinite(), got.isfinite())
    tame = want.isfinite()
    if bool(tame.any()):
        # Relative to what is added: where a triangle names a vertex twice, huge terms cancel.
        terms = gradient(pos[:, tri.reshape(-1).long()], torch.arange(tri.numel()).reshape(-1, 3).int())
        largest = max([0.0, *terms[terms.isfinite()].abs().tolist()])
        assert float((got - want)[tame].abs().max()) <= 1e-9 * largest


def test_indices_out_of_range_are_named_when_debugging_and_left_out_otherwise() -> None:
    pos, tri = mesh(9)
    tri[5, 2], tri[7, 0] = 180, -1
    want = draw("rasterize", pos, tri, (31, 40), strict=False)
    rg.debug(True)
    try:
        with emulated(), pytest.raises(ValueError, match=r"rasterize: `tri` must hold.*in triangle 5"):
            rg.rasterize(pos, tri, (31, 40))
    finally:
        rg.debug(False)
    with emulated():
        assert equal(draw("rasterize", pos, tri, (31, 40)), want)


def test_a_zero_upstream_keeps_infinities_out() -> None:
    """Where slopes overflow and nobody asks."""
    pos = torch.tensor([[[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]]]) * torch.tensor(
        [1e-30, 1e-30, 1, 1]
    )
    pos = torch.cat([pos, torch.tensor([[[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]]])], 1)
    tri = torch.arange(6, dtype=torch.int32).view(2, 3)
    _, _, d_pos = both(pos, tri, (9, 9))
    assert bool(d_pos.isfinite().all())


@pytest.mark.parametrize(("n", "triangles", "vertices"), [(0, 2, 3), (1, 0, 3), (2, 2, 0)])
def test_empty_inputs(n: int, triangles: int, vertices: int) -> None:
    pos = torch.rand(n, vertices, 4).requires_grad_()
    tri = torch.zeros(triangles, 3, dtype=torch.int32)
    with emulated():
        rast, db = (
            rg.rasterize(pos, tri, (5, 6))
            if vertices
            else draw("rasterize", pos, tri, (5, 6), strict=False)[:2]
        )
        (d_pos,) = torch.autograd.grad([rast, db], pos, [torch.ones_like(rast), torch.ones_like(db)])
    assert rast.shape == db.shape == (n, 5, 6, 4)
    assert not bool(rast.any())
    assert torch.equal(d_pos, torch.zeros_like(pos))


@pytest.mark.skipif(not golden.available(), reason=golden.MISSING)
@pytest.mark.parametrize("name", golden.names("r"))
def test_golden(name: str) -> None:
    with emulated():
        assert golden.failures(golden.native_functions("cuda"), name) == []
