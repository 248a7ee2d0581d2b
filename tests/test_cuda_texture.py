# SPDX-License-Identifier: MIT
"""texture's GPU kernels, in the emulator, beside the CPU's. tests/test_cuda_oracle.py compares them with the
oracle.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rastergrad as rg
from rastergrad.ops.texture.op import BOUNDARY_MODES, FILTER_MODES
from testing import golden, strategies
from testing.closeness import assert_gradients_close, assert_values_close
from testing.emulator import ORDERS, emulated
from testing.poison import Poison, equal

MODES = list(itertools.product(FILTER_MODES, BOUNDARY_MODES))
TYPES = [torch.float32, torch.float64]


@pytest.fixture
def reproducible() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def query(
    seed: int,
    *,
    cube: bool = False,
    channels: int = 3,
    tex_images: int = 2,
    size: tuple[int, int] = (9, 35),
    dtype: torch.dtype = torch.float32,
) -> list[Tensor]:
    """tex, uv, uv_da, bias: from strong magnification, where warps share cells, to the top of the stack."""
    g = torch.Generator().manual_seed(seed)
    faces, sides, axes = ((6,), (16, 16), 3) if cube else ((), (16, 8), 2)
    tex = torch.randn(tex_images, *faces, *sides, channels, generator=g)
    uv = torch.randn(2, *size, axes, generator=g)
    uv[:, : size[0] // 2] = uv[:, :1, :1] + 0.01 * uv[:, : size[0] // 2]
    uv_da = torch.randn(2, *size, 2 * axes, generator=g) * torch.exp(
        -5 * torch.rand(2, *size, 1, generator=g)
    )
    bias = torch.randn(2, *size, generator=g) * 0.7 + 0.3
    return [x.to(dtype) for x in (tex, uv, uv_da, bias)]


def run(
    inputs: Sequence[Tensor],
    filter_mode: str,
    boundary_mode: str,
    needs: Sequence[bool] = (True,) * 9,
    **options: Any,
) -> list[Tensor]:
    """Colours, then gradients of what is used and wanted, for a random upstream with zeros in it."""
    tex, uv, uv_da, bias, *levels = [
        x.detach().clone().requires_grad_(n) for x, n in zip(inputs, needs, strict=False)
    ]
    mipmapped = filter_mode in FILTER_MODES[2:]
    given = {"uv_da": uv_da, "mip_level_bias": bias} if mipmapped else {}
    out = rg.texture(
        tex, uv, filter_mode=filter_mode, boundary_mode=boundary_mode, mip=levels or None, **given, **options
    )
    g = torch.Generator().manual_seed(3)
    upstream = torch.randn(out.shape, generator=g, dtype=torch.float64).to(out.dtype)
    upstream[:, ::3, ::5] = 0
    leaves = [x for x in (tex, uv, *given.values(), *levels) if x.requires_grad]
    grads = torch.autograd.grad(out, leaves, upstream, allow_unused=True)
    return [
        out.detach(),
        *(torch.zeros_like(x) if d is None else d for x, d in zip(leaves, grads, strict=True)),
    ]


def same_colours(got: Tensor, want: Tensor, filter_mode: str) -> None:
    """Bit for bit, but that the logarithm behind a level between two may be rounded otherwise in float32."""
    if filter_mode == FILTER_MODES[3] and got.dtype == torch.float32:
        assert torch.equal(got.isfinite(), want.isfinite())
        tame = want.isfinite() & (want.abs() < 1e30)
        assert_values_close(got[tame], want[tame], dtype=torch.float32, what="colours")
    else:
        assert equal([got], [want])


def agree(got: Sequence[Tensor], want: Sequence[Tensor], filter_mode: str = FILTER_MODES[3]) -> None:
    """Colours, and gradients but for the order of sums."""
    same_colours(got[0], want[0], filter_mode)
    assert len(got) == len(want)
    for k, (a, b) in enumerate(zip(got[1:], want[1:])):
        assert_gradients_close(a, b, dtype=a.dtype, what=f"gradient {k}")


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("channels", [1, 3, 4, 8, 5])
@pytest.mark.parametrize(("filter_mode", "boundary_mode"), MODES)
def test_as_on_the_cpu(filter_mode: str, boundary_mode: str, channels: int, dtype: torch.dtype) -> None:
    inputs = query(channels, cube=boundary_mode == "cube", channels=channels, dtype=dtype)
    want = run(inputs, filter_mode, boundary_mode)
    with emulated() as engine:
        got = run(inputs, filter_mode, boundary_mode)
    agree(got, want, filter_mode)
    assert "texture_forward" in engine.launched
    backward = "texture_backward_nearest" if filter_mode == "nearest" else "texture_backward"
    assert backward in engine.launched


@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data())
def test_as_on_the_cpu_for_any_shape(data: st.DataObject) -> None:
    boundary_mode = data.draw(st.sampled_from(BOUNDARY_MODES))
    filter_mode = data.draw(st.sampled_from(FILTER_MODES))
    cube, images = boundary_mode == "cube", data.draw(st.integers(1, 3))
    tex = data.draw(strategies.textures(images, cube))
    uv, uv_da = data.draw(strategies.texture_queries(images, cube))
    bias = torch.randn(uv.shape[:3], generator=torch.Generator().manual_seed(1))
    inputs = [x.double() for x in (tex, uv, uv_da, bias)]
    want = run(inputs, filter_mode, boundary_mode)
    with emulated():
        agree(run(inputs, filter_mode, boundary_mode), want, filter_mode)


@pytest.mark.parametrize("tex_images", [1, 2])
@pytest.mark.parametrize("cube", [False, True])
def test_levels_of_ones_own(cube: bool, tex_images: int) -> None:
    """Gradients stay with each level; with some of them unwanted, too."""
    inputs = query(7, cube=cube, tex_images=tex_images, dtype=torch.float64)
    side, outer = 8, inputs[0].shape[:-3]
    levels = []
    for height, width in ((side, side if cube else 4), (4, 4 if cube else 2)):
        g = torch.Generator().manual_seed(height)
        levels.append(torch.randn(*outer, height, width, 3, generator=g, dtype=torch.float64))
    boundary = "cube" if cube else "wrap"
    for needs in (
        (True,) * 6,
        (False, True, True, True, True, False),
        (True, False, False, False, False, True),
    ):
        want = run([*inputs, *levels], FILTER_MODES[3], boundary, needs)
        with emulated():
            agree(run([*inputs, *levels], FILTER_MODES[3], boundary, needs), want)


@pytest.mark.parametrize("cube", [False, True])
@pytest.mark.parametrize(
    ("sides", "channels"),
    [((64, 64), 3), ((64, 32), 7), ((96, 32), 4), ((1, 64), 1), ((2, 2), 2), ((12, 20), 9), ((128, 128), 1)],
)
def test_stacks_bit_for_bit(sides: tuple[int, int], channels: int, cube: bool) -> None:
    """Five levels at a time where sides can be halved so often, else one by one; down to one texel or row."""
    shape = (2, 6, sides[0], sides[0], channels) if cube else (2, *sides, channels)
    tex = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    depth = None if sides != (12, 20) and sides != (96, 32) else 2
    want = rg.build_mipmaps(tex, depth, cube=cube)
    with emulated():
        got = rg.build_mipmaps(tex, depth, cube=cube)
    assert equal([got.data], [want.data])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("filter_mode", "boundary_mode"),
    [(FILTER_MODES[0], "wrap"), (FILTER_MODES[3], "wrap"), (FILTER_MODES[3], "cube")],
)
def test_in_any_order(reproducible: None, filter_mode: str, boundary_mode: str, dtype: torch.dtype) -> None:
    inputs = query(5, cube=boundary_mode == "cube", dtype=dtype)
    found = []
    for order in ORDERS:
        with emulated(order):
            found.append(run(inputs, filter_mode, boundary_mode))
    for other in found[1:]:
        assert equal(found[0], other)
    agree(found[0], run(inputs, filter_mode, boundary_mode), filter_mode)


def test_pixels_that_share_a_cell_add_up_before_memory() -> None:
    """All pixels of an image look at one texel: the warp leaves four additions of a texel, not 128."""
    tex = torch.rand(1, 16, 16, 4)
    uv = torch.full((1, 8, 32, 2), 0.3)
    upstream = torch.rand(1, 8, 32, 4, generator=torch.Generator().manual_seed(0))
    with emulated():
        leaf = tex.clone().requires_grad_()
        (d_tex,) = torch.autograd.grad(rg.texture(leaf, uv), leaf, upstream)
    assert int((d_tex != 0).any(-1).sum()) == 4
    assert torch.allclose(d_tex.sum((0, 1, 2)), upstream.sum((0, 1, 2)), rtol=1e-5)


@pytest.mark.parametrize("which", range(4))
def test_what_is_not_wanted_is_not_computed(which: int) -> None:
    inputs = query(8)
    every = run(inputs, FILTER_MODES[3], "wrap")
    with emulated() as engine:
        got = run(inputs, FILTER_MODES[3], "wrap", [k == which for k in range(4)])
    assert_gradients_close(got[1], every[1 + which], dtype=torch.float32, what=f"input {which}")
    assert ("texture_gather" in engine.launched) == (which == 0)


def test_nothing_waits_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("this would wait")

    inputs = [x.requires_grad_() for x in query(9)]
    with emulated() as engine, monkeypatch.context() as patched:
        patched.setattr(engine, "launch", lambda *_: None)  # the emulator itself looks at memory
        for name in ("item", "tolist", "cpu", "nonzero", "__bool__", "__int__", "__float__", "numpy"):
            patched.setattr(Tensor, name, refuse)
        out = rg.texture(*inputs[:3], mip_level_bias=inputs[3])
        torch.autograd.grad(out, inputs, torch.ones_like(out))


def test_views_that_begin_anywhere() -> None:
    """Loads of sixteen bytes would fail on them."""

    def shifted(x: Tensor) -> Tensor:
        return torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape)

    inputs = query(10, channels=8)
    want = run(inputs, FILTER_MODES[3], "wrap")
    with emulated():
        leaves = [shifted(x).requires_grad_() for x in inputs]
        out = rg.texture(*leaves[:3], mip_level_bias=leaves[3])
        g = torch.Generator().manual_seed(3)
        upstream = torch.randn(out.shape, generator=g, dtype=torch.float64).to(out.dtype)
        upstream[:, ::3, ::5] = 0
        grads = torch.autograd.grad(out, leaves, shifted(upstream))
    agree([out.detach(), *grads], want)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_hostile_numbers_give_the_colours_of_the_cpu(seed: int) -> None:
    """NaN, infinities and far coordinates, in and out of the texture; nothing outside of it is read."""
    p = Poison(seed)
    filter_mode, boundary_mode = p.pick(*MODES)
    cube, images = boundary_mode == "cube", 1 + p.images()
    side, channels = p.pick(1, 2, 4, 8), 1 + p.channels()
    tex = p.floats(p.pick(1, images), *((6, side, side) if cube else (side, p.pick(1, 2, 8))), channels)
    shape = images, p.pick(1, 5), p.pick(1, 7, 33)
    axes = 3 if cube else 2
    inputs = [tex, p.floats(*shape, axes), p.floats(*shape, 2 * axes), p.floats(*shape)]
    want = run(inputs, filter_mode, boundary_mode)
    with emulated():
        got = run(inputs, filter_mode, boundary_mode)
    same_colours(got[0], want[0], filter_mode)
    for a, b in zip(got[1:], want[1:], strict=True):
        assert a.shape == b.shape


@pytest.mark.skipif(not golden.available(), reason=golden.MISSING)
@pytest.mark.parametrize("name", golden.names("t"))
def test_golden(name: str) -> None:
    with emulated():
        assert golden.failures(golden.native_functions("cuda"), name) == []
