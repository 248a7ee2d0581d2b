# SPDX-License-Identifier: MIT
"""interpolate against its oracle, its properties, and bad input."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rastergrad as rg
from testing.closeness import assert_gradients_close, assert_values_close

settings.register_profile("rastergrad", deadline=None, derandomize=True)
settings.load_profile("rastergrad")


def random_scene(
    seed: int,
    *,
    n: int = 2,
    vertices: int = 30,
    channels: int = 3,
    triangles: int = 20,
    size: tuple[int, int] = (9, 13),
    dtype: torch.dtype = torch.float32,
    attr_rank: int = 3,
    shared: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """attr, rast, tri, rast_db; ids run in stretches as in real images, with background and ids beyond the
    last triangle.
    """
    g = torch.Generator().manual_seed(seed)
    height, width = size
    attr = torch.randn(1 if shared else n, vertices, channels, generator=g, dtype=dtype)
    attr = attr[0] if attr_rank == 2 else attr
    tri = torch.randint(0, vertices, (triangles, 3), generator=g, dtype=torch.int32)
    rast = torch.rand(n, height, width, 4, generator=g, dtype=dtype)
    ids = torch.randint(0, triangles + 2, (n, height, (width + 3) // 4), generator=g).repeat_interleave(4, 2)[
        ..., :width
    ]
    rast[..., 3] = ids.to(dtype)
    return attr, rast, tri, torch.randn(n, height, width, 4, generator=g, dtype=dtype)


def both(
    attr: Tensor, rast: Tensor, tri: Tensor, rast_db: Tensor, diff: Any, seed: int = 0
) -> list[tuple[list[Tensor], list[Tensor]]]:
    """(outputs, gradients) of the kernel and of the oracle."""
    results = []
    for backend in ("cpu", "reference"):
        inputs = [t.detach().clone().requires_grad_() for t in (attr, rast, rast_db)]
        outs = list(rg.interpolate(inputs[0], inputs[1], tri, inputs[2], diff, backend=backend))
        g = torch.Generator().manual_seed(seed)
        upstream = [torch.randn(o.shape, generator=g, dtype=torch.float64).to(o.dtype) for o in outs]
        wanted = outs if diff is not None else outs[:1]
        used = inputs if diff is not None else inputs[:2]
        grads = torch.autograd.grad(wanted, used, upstream[: len(wanted)])
        results.append(([o.detach() for o in outs], list(grads)))
    return results


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    channels=st.sampled_from([1, 2, 3, 4, 5, 7, 8, 16, 17, 30, 33, 50]),
    diff=st.sampled_from([None, "all", [0], [0, -1, 99, 0], [-100]]),
    size=st.sampled_from([(1, 1), (1, 9), (7, 1), (5, 6), (33, 17)]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    attr_rank=st.sampled_from([2, 3]),
    shared=st.booleans(),
)
def test_values_and_gradients_equal_the_oracle(
    seed: int,
    channels: int,
    diff: Any,
    size: tuple[int, int],
    dtype: torch.dtype,
    attr_rank: int,
    shared: bool,
) -> None:
    scene = random_scene(seed, channels=channels, size=size, dtype=dtype, attr_rank=attr_rank, shared=shared)
    (values, grads), (want_values, want_grads) = both(*scene, diff)
    for name, got, want in zip(("out", "out_da"), values, want_values, strict=True):
        assert_values_close(got, want, dtype=dtype, what=name)
    for name, got, want in zip(("attr", "rast", "rast_db"), grads, want_grads, strict=False):
        assert_gradients_close(got, want, dtype=dtype, what=f"d_{name}")


def test_large_images_are_cut_into_strips_that_fit_together() -> None:
    scene = random_scene(
        3, n=2, channels=3, size=(150, 301)
    )  # several strips of 16,384 pixels and a remainder
    (values, grads), (want_values, want_grads) = both(*scene, "all")
    for got, want in zip(values, want_values, strict=True):
        assert_values_close(got, want, dtype=torch.float32, what="values")
    for got, want in zip(grads, want_grads, strict=True):
        assert_gradients_close(got, want, dtype=torch.float32, what="gradients")


def of_random_lengths(rast: Tensor, triangles: int, longest: int) -> Tensor:
    """The same fragments with runs of one id of any length up to `longest`, across rows and images."""
    g = torch.Generator().manual_seed(longest)
    pixels = rast.numel() // 4
    lengths = torch.randint(1, longest + 1, (pixels,), generator=g)
    ids = torch.randint(0, triangles + 2, (pixels,), generator=g).repeat_interleave(lengths)[:pixels]
    return torch.cat([rast[..., :3], ids.reshape(*rast.shape[:3], 1).to(rast.dtype)], -1)


@pytest.mark.parametrize("longest", [1, 3, 9, 40, 700])
@pytest.mark.parametrize(
    ("channels", "diff"), [(1, "all"), (2, "all"), (3, [2, 0]), (4, [1]), (6, "all"), (3, [1, -9])]
)
def test_runs_of_any_length(longest: int, channels: int, diff: Any) -> None:
    """Four pixels make a register and 256 a tile: runs end everywhere in both, and at the tensor's end."""
    attr, rast, tri, rast_db = random_scene(longest, channels=channels, size=(37, 29))
    rast = of_random_lengths(rast, len(tri), longest)
    (values, grads), (want_values, want_grads) = both(attr, rast, tri, rast_db, diff)
    for got, want in zip(values, want_values, strict=True):
        assert_values_close(got, want, dtype=torch.float32, what="values")
    for got, want in zip(grads, want_grads, strict=True):
        assert_gradients_close(got, want, dtype=torch.float32, what="gradients")


@pytest.mark.parametrize("longest", [1, 3, 40, 700])
@pytest.mark.parametrize("size", [(1, 5), (3, 16), (40, 431)])
@pytest.mark.parametrize(
    ("channels", "diff"), [(1, None), (1, "all"), (2, None), (2, "all"), (2, [1]), (2, [1, -99]), (2, [0, 0])]
)
def test_gradients_of_fragments_alone_are_the_same(
    longest: int, size: tuple[int, int], channels: int, diff: Any
) -> None:
    """Whether attributes need a gradient makes no difference to the others."""
    attr, rast, tri, rast_db = random_scene(21, channels=channels, size=size)
    rast = of_random_lengths(rast, len(tri), longest)
    rast[..., 0, 1, :2] = float("inf")
    found = []
    for wanted in (True, False):
        a, r, db = (t.clone().requires_grad_(n) for t, n in ((attr, wanted), (rast, True), (rast_db, True)))
        outs = [o for o in rg.interpolate(a, r, tri, db, diff) if o.numel()]
        g = torch.Generator().manual_seed(1)
        upstream = [torch.randn(o.shape, generator=g) for o in outs]
        for u in upstream:
            u[..., ::7, :] = 0
        found.append(torch.autograd.grad(outs, [r, db], upstream, allow_unused=True))
    for got, want in zip(found[1], found[0], strict=True):
        assert (got is None) == (want is None)
        assert got is None or torch.equal(got, want)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("vertices", [30, 60_000])
def test_outputs_beyond_the_caches_and_tables_of_all_sizes(vertices: int, shared: bool) -> None:
    """Outputs of 4 MB and more are streamed, here from addresses within a cache line. Gradients of few
    vertices are summed in tables, those of many go through records.
    """
    scene = random_scene(4, vertices=vertices, triangles=500, size=(599, 601), shared=shared)
    (values, grads), (want_values, want_grads) = both(*scene, "all")
    for got, want in zip(values, want_values, strict=True):
        assert_values_close(got, want, dtype=torch.float32, what="values")
    for got, want in zip(grads, want_grads, strict=True):
        assert_gradients_close(got, want, dtype=torch.float32, what="gradients")


def test_a_silent_pixel_beside_a_loud_one_keeps_nonfinite_fragments_out() -> None:
    """They share a register."""
    attr, rast, tri, rast_db = random_scene(14, n=1)
    rast[..., 3] = 1
    silent = torch.rand(rast.shape[:3], generator=torch.Generator().manual_seed(1)) < 0.5
    rast[silent] = torch.tensor([torch.inf, torch.nan, 0, 1])
    rast_db[silent] = torch.inf
    leaves = [t.clone().requires_grad_() for t in (attr, rast, rast_db)]
    outs = rg.interpolate(leaves[0], leaves[1], tri, leaves[2], [0, 2])
    upstream = [torch.ones_like(o) * ~silent.unsqueeze(-1) for o in outs]
    for grad in torch.autograd.grad(outs, leaves, upstream):
        assert bool(grad.isfinite().all())


@pytest.mark.parametrize("channels", [1, 3, 4, 9])
def test_a_constant_survives_exactly(channels: int) -> None:
    _, rast, tri, rast_db = random_scene(1, channels=channels)
    tri_count = tri.shape[0]
    attr = torch.full((30, channels), 0.1)
    out, out_da = rg.interpolate(attr, rast, tri, rast_db, "all")
    seen = (rast[..., 3] >= 1) & (rast[..., 3] <= tri_count)
    assert bool((out[seen] == 0.1).all())
    assert bool((out[~seen] == 0).all())
    assert bool((out_da == 0).all())


def test_transpose_of_the_linear_part() -> None:
    """<J x, y> = <x, J^T y> for the map attr -> (out, out_da)."""
    attr, rast, tri, rast_db = random_scene(5, dtype=torch.float64)
    attr.requires_grad_()
    out, out_da = rg.interpolate(attr, rast, tri, rast_db, "all")
    y, z = torch.randn_like(out), torch.randn_like(out_da)
    (back,) = torch.autograd.grad([out, out_da], [attr], [y, z])
    assert torch.allclose((out * y).sum() + (out_da * z).sum(), (attr * back).sum(), rtol=1e-12)


def test_gradients_of_a_constant_shift_add_up() -> None:
    """Adding c to every attribute adds c to every covered pixel: the gradients at the corners sum to the
    upstream there.
    """
    attr, rast, tri, rast_db = random_scene(6, dtype=torch.float64)
    attr.requires_grad_()
    out, _ = rg.interpolate(attr, rast, tri, rast_db)
    y = torch.randn_like(out)
    (d_attr,) = torch.autograd.grad(out, attr, y)
    seen = ((rast[..., 3] >= 1) & (rast[..., 3] <= tri.shape[0])).unsqueeze(-1)
    assert torch.allclose(d_attr.sum((0, 1)), (y * seen).sum((0, 1, 2)), rtol=1e-10)


def test_gradcheck() -> None:
    attr, rast, tri, rast_db = random_scene(7, n=1, vertices=6, triangles=4, size=(3, 4), dtype=torch.float64)
    ids = rast[..., 3:]

    def run(a: Tensor, uvz: Tensor, db: Tensor) -> tuple[Tensor, Tensor]:
        return rg.interpolate(a, torch.cat([uvz, ids], -1), tri, db, "all")

    inputs = [t.clone().requires_grad_() for t in (attr, rast[..., :3], rast_db)]
    assert torch.autograd.gradcheck(run, inputs)


def test_zero_upstream_keeps_nonfinite_attributes_out() -> None:
    attr, rast, tri, rast_db = random_scene(8, n=1)
    attr = attr.clone()
    attr[..., tri[0].long(), :] = float("nan")
    touched = torch.isin(tri, tri[0]).any(1)
    attr.requires_grad_()
    rast.requires_grad_()
    out, out_da = rg.interpolate(attr, rast, tri, rast_db, "all")
    index = rast[..., 3].detach().long() - 1
    clean = ~((index >= 0) & (index < tri.shape[0]) & touched[index.clamp(0, tri.shape[0] - 1)]).unsqueeze(-1)
    grads = torch.autograd.grad(
        [out, out_da], [attr, rast], [clean * torch.ones_like(out), clean * torch.ones_like(out_da)]
    )
    assert all(bool(g.isfinite().all()) for g in grads)


def test_attribute_indices_out_of_range_give_zeros() -> None:
    attr, rast, tri, rast_db = random_scene(9)
    tri = tri.clone()
    tri[3] = torch.tensor([0, 30, 1])
    tri[4] = torch.tensor([-1, 2, 3])
    attr.requires_grad_()
    out, out_da = rg.interpolate(attr, rast, tri, rast_db, "all")
    bad = (rast[..., 3] == 4) | (rast[..., 3] == 5)
    assert bool(bad.any())
    assert bool((out[bad] == 0).all())
    assert bool((out_da[bad] == 0).all())
    (d_attr,) = torch.autograd.grad(out, attr, bad.unsqueeze(-1) * torch.ones_like(out))
    assert bool((d_attr == 0).all())


def test_ids_above_2_to_the_24_are_decoded() -> None:
    index = 2**24 + 5
    tri = torch.zeros(index + 1, 3, dtype=torch.int32)
    tri[-1] = torch.tensor([1, 2, 3])
    bits = torch.tensor([index + 1 + 0x4A800000], dtype=torch.int32)
    rast = torch.zeros(1, 1, 2, 4)
    rast[0, 0, :, 0], rast[0, 0, :, 1] = 0.25, 0.5
    rast[0, 0, 0, 3] = bits.view(torch.float32)[0]
    rast[0, 0, 1, 3] = float("nan")
    attr = torch.tensor([[9.0], [1.0], [2.0], [4.0]])
    out, _ = rg.interpolate(attr, rast, tri)
    assert out.flatten().tolist() == [0.25 + 1.0 + 1.0, 0.0]


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_bitwise_equal_for_every_thread_count(threads: int) -> None:
    scene = random_scene(10, n=3, channels=5, size=(120, 250))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        (want, want_grads), _ = both(*scene, "all")
        torch.set_num_threads(threads)
        (got, got_grads), _ = both(*scene, "all")
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip([*got, *got_grads], [*want, *want_grads], strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_are_computed_in_float32_and_get_half_gradients(dtype: torch.dtype) -> None:
    attr, rast, tri, _ = random_scene(11)
    half = attr.to(dtype).requires_grad_()
    out, _ = rg.interpolate(half, rast, tri)
    want, _ = rg.interpolate(half.detach().float(), rast, tri)
    assert out.dtype == torch.float32
    assert torch.equal(out, want)
    out.sum().backward()
    assert half.grad is not None
    assert half.grad.dtype == dtype


def test_views_strides_and_index_types_make_no_difference() -> None:
    attr, rast, tri, rast_db = random_scene(12)
    want = rg.interpolate(attr, rast, tri, rast_db, "all")
    wide = torch.randn(2, 30, 8)
    wide[..., 1:7:2] = attr
    turned = rast.permute(2, 1, 0, 3).contiguous().permute(2, 1, 0, 3)
    assert not turned.is_contiguous()
    for index in (
        tri.long(),
        tri.short(),
        tri.to(torch.uint32),
        tri.to(torch.uint8),
        torch.cat([tri, tri], 1)[:, :3],
    ):
        got = rg.interpolate(wide[..., 1:7:2], turned, index, rast_db.flip(1).flip(1), np.arange(3))
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize(
    ("n", "vertices", "triangles", "size"),
    [(0, 3, 1, (4, 4)), (2, 0, 0, (4, 4)), (1, 3, 0, (4, 4)), (1, 0, 2, (2, 3))],
)
def test_empty_inputs_give_zeros_and_zero_gradients(
    n: int, vertices: int, triangles: int, size: tuple[int, int]
) -> None:
    attr = torch.randn(vertices, 3, requires_grad=True)
    rast = torch.rand(n, *size, 4)
    rast[..., 3] = 1
    tri = torch.zeros(triangles, 3, dtype=torch.int32)
    out, out_da = rg.interpolate(attr, rast, tri, rast, "all")
    assert out.shape == (n, *size, 3)
    assert out_da.shape == (n, *size, 6)
    assert (vertices == 3 and triangles == 1) or bool((out == 0).all())
    out.sum().backward()
    assert attr.grad is not None
    assert attr.grad.shape == attr.shape


def test_no_channels_are_legal() -> None:
    _, rast, tri, _ = random_scene(1)
    out, out_da = rg.interpolate(torch.zeros(30, 0), rast, tri)
    assert out.shape == (2, 9, 13, 0)
    assert out_da.shape == (2, 9, 13, 0)


def test_changing_an_input_between_forward_and_backward_is_caught() -> None:
    attr, rast, tri, _ = random_scene(13)
    attr.requires_grad_()
    out, _ = rg.interpolate(attr * 1, rast, tri)
    rast[..., 0] += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


ATTR, RAST, TRI, DB = random_scene(0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: rg.interpolate([1.0], RAST, TRI),
            TypeError,
            r"`attr` must be a float tensor .*got list.*torch.as_tensor",
        ),  # type: ignore
        (
            lambda: rg.interpolate(ATTR.int(), RAST, TRI),
            TypeError,
            r"`attr` .*got int32 \[2, 30, 3\].*attr.float\(\)",
        ),
        (lambda: rg.interpolate(ATTR[0, 0], RAST, TRI), ValueError, r"`attr` .*\[V, A\].*got float32 \[3\]"),
        (
            lambda: rg.interpolate(ATTR, RAST[0], TRI),
            ValueError,
            r"`rast` .*\[N, H, W, 4\].*got float32 \[9, 13, 4\]",
        ),
        (
            lambda: rg.interpolate(ATTR, RAST[..., :3], TRI),
            ValueError,
            r"`rast` .*got float32 \[2, 9, 13, 3\]",
        ),
        (
            lambda: rg.interpolate(ATTR, RAST, TRI.float()),
            TypeError,
            r"`tri` must be an integer tensor .*tri.int\(\)",
        ),
        (
            lambda: rg.interpolate(ATTR, RAST, TRI[:, :2]),
            ValueError,
            r"`tri` .*\[T, 3\]; got int32 \[20, 2\]",
        ),
        (
            lambda: rg.interpolate(ATTR, RAST, TRI, diff_attrs="all"),
            ValueError,
            r"`diff_attrs` needs `rast_db`",
        ),
        (
            lambda: rg.interpolate(ATTR, RAST, TRI, DB[:1], "all"),
            ValueError,
            r"`rast_db` must have the shape of `rast`",
        ),
        (
            lambda: rg.interpolate(ATTR, RAST, TRI, DB, "some"),
            ValueError,
            r"`diff_attrs` must be None, \"all\" or.*'some'",
        ),
        (
            lambda: rg.interpolate(ATTR, RAST, TRI, DB, [0.5]),
            TypeError,
            r"`diff_attrs` .*whole numbers; got list",
        ),  # type: ignore
        (lambda: rg.interpolate(ATTR, RAST, TRI, DB, [[0]]), TypeError, r"`diff_attrs` .*flat sequence"),  # type: ignore
        (
            lambda: rg.interpolate(ATTR[:, :, :][[0, 1, 0]], RAST, TRI),
            ValueError,
            r"`attr` must have 1 or 2 images",
        ),
        (
            lambda: rg.interpolate(ATTR, RAST, TRI, backend="metal"),
            ValueError,
            r"`backend` must be one of 'cpu', 'cuda', 'opengl', 'reference'",
        ),
        (lambda: rg.interpolate(ATTR.to("meta"), RAST, TRI), ValueError, r"`attr` is on meta, `rast` on cpu"),
    ],
)
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
