# SPDX-License-Identifier: MIT
"""texture with `rast`: where fragments show no triangle, the colour is zero and nothing comes from there."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rastergrad as rg
from rastergrad.ops.rasterize.reference import encode_ids
from rastergrad.ops.texture import op
from rastergrad.ops.texture.op import BOUNDARY_MODES, FILTER_MODES
from testing.closeness import assert_gradients_close, assert_values_close
from testing.poison import NUMBERS, Poison, equal

settings.register_profile("rastergrad", deadline=None, derandomize=True)
settings.load_profile("rastergrad")

MODES = list(itertools.product(FILTER_MODES, BOUNDARY_MODES))
TYPES = [torch.float32, torch.float64]
# Ids that show a triangle, and what shows none. The former count on beyond 2^24 in the float's bits.
SHOWN = (1.0, 2.0, 77.0, *encode_ids(torch.tensor([2**24, 2**24 + 1, 2**24 + 5, 889192447])).tolist())
UNSHOWN = (0.0, -0.0, 0.5, 1 - 2.0**-24, -1.0, -77.0, float("nan"), -float("inf"))


def fragments(seed: int, shape: Sequence[int], dtype: torch.dtype, share: float = 0.5) -> Tensor:
    """Runs of eight pixels with a triangle or without, and single ones among them; u, v and z/w are anything:
    nobody looks at them.
    """
    g = torch.Generator().manual_seed(seed)
    *lead, width = shape
    runs = torch.rand(*lead, width // 8 + 1, generator=g).repeat_interleave(8, -1)[..., :width]
    draws = torch.where(torch.rand(*shape, generator=g) < 0.1, torch.rand(*shape, generator=g), runs)
    shown = torch.tensor(SHOWN)[torch.randint(len(SHOWN), tuple(shape), generator=g)]
    unshown = torch.tensor(UNSHOWN)[torch.randint(len(UNSHOWN), tuple(shape), generator=g)]
    ids = torch.where(draws < share, shown, unshown)
    return torch.cat([Poison(seed).floats(*shape, 3), ids[..., None]], -1).to(dtype)


def query(
    seed: int,
    *,
    cube: bool = False,
    channels: int = 3,
    images: tuple[int, int] = (2, 2),
    sides: tuple[int, int] = (16, 8),
    pixels: tuple[int, int] = (5, 39),
    dtype: torch.dtype = torch.float64,
) -> dict[str, Tensor]:
    """tex, uv, uv_da, mip_level_bias; the upper half of the pixels look at a small part of the texture."""
    g = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    n, textures = images
    axes, shape = (3, (6, sides[0], sides[0])) if cube else (2, sides)
    uv = randn(n, *pixels, axes)
    uv[:, pixels[0] // 2 :] = 0.4 + 0.02 * uv[:, pixels[0] // 2 :]
    found = {
        "tex": randn(textures, *shape, channels),
        "uv": uv,
        "uv_da": randn(n, *pixels, 2 * axes) * torch.exp(-4 * randn(n, *pixels, 1).abs()),
        "mip_level_bias": 0.3 + 0.7 * randn(n, *pixels),
    }
    return {name: x.to(dtype) for name, x in found.items()}


def outcome(
    inputs: dict[str, Tensor],
    rast: Tensor | None,
    *,
    levels: Sequence[Tensor] = (),
    masked: Tensor | None = None,
    upstream: Tensor | None = None,
    **options: Any,
) -> dict[str, Tensor]:
    """Colours and gradients by name. `masked` are fragments that torch makes a mask of, afterwards."""
    leaves = {name: x.detach().clone().requires_grad_() for name, x in inputs.items()}
    own = [x.detach().clone().requires_grad_() for x in levels]
    if own:
        options["mip"] = own
    out = rg.texture(**leaves, rast=rast, **options)
    if masked is not None:
        out = torch.where(masked[..., 3:] >= 1, out, 0.0)
    if upstream is None:
        g = torch.Generator().manual_seed(9)
        upstream = torch.randn(out.shape, generator=g, dtype=torch.float64).to(out.dtype)
        upstream[:, ::3, ::5] = 0
    leaves |= {f"mip[{k}]": x for k, x in enumerate(own)}
    grads = torch.autograd.grad(out, list(leaves.values()), upstream, allow_unused=True)
    found = {
        f"d_{name}": torch.zeros_like(x) if d is None else d
        for (name, x), d in zip(leaves.items(), grads, strict=True)
    }
    return {"out": out.detach(), **found}


def same(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    for name, x in want.items():
        assert equal([got[name]], [x]), name


def like_oracle(inputs: dict[str, Tensor], rast: Tensor, **options: Any) -> None:
    got, want = outcome(inputs, rast, **options), outcome(inputs, rast, backend="reference", **options)
    dtype = inputs["tex"].dtype
    assert_values_close(got["out"], want.pop("out"), dtype=dtype, what="colours")
    for name, d in want.items():
        assert_gradients_close(got[name], d, dtype=dtype, what=name)


# ---- oracle, and the product with a mask -------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 16])
@pytest.mark.parametrize(("filter_mode", "boundary_mode"), MODES)
def test_like_the_oracle_and_like_a_mask(filter_mode: str, boundary_mode: str, channels: int) -> None:
    for dtype in TYPES:
        inputs = query(channels, cube=boundary_mode == "cube", channels=channels, dtype=dtype)
        rast = fragments(channels, inputs["uv"].shape[:3], dtype)
        options = {"filter_mode": filter_mode, "boundary_mode": boundary_mode}
        like_oracle(inputs, rast, **options)
        same(outcome(inputs, rast, **options), outcome(inputs, None, masked=rast, **options))


@settings(max_examples=120)
@given(data=st.data())
def test_like_the_oracle_and_like_a_mask_for_any_shape(data: st.DataObject) -> None:
    """Bit for bit like a mask: the same texels, the same order of sums, and nothing from background."""
    filter_mode, boundary_mode = data.draw(st.sampled_from(MODES))
    cube, mipmapped = boundary_mode == "cube", filter_mode in FILTER_MODES[2:]
    stack = data.draw(st.sampled_from(["internal", "built", "own"])) if mipmapped else "internal"
    sides = st.integers(1, 21) if stack == "own" else st.sampled_from([1, 2, 4, 8, 16, 64])
    n = data.draw(st.integers(1, 3))
    inputs = query(
        data.draw(st.integers(0, 10**6)),
        cube=cube,
        channels=data.draw(st.sampled_from([1, 2, 3, 4, 5, 8, 9, 16, 17])),
        images=(n, data.draw(st.sampled_from([1, n]))),
        sides=(data.draw(sides), data.draw(sides)),
        pixels=(data.draw(st.integers(1, 20)), data.draw(st.sampled_from([1, 2, 15, 16, 17, 40, 64, 71]))),
        dtype=data.draw(st.sampled_from(TYPES)),
    )
    tex = inputs["tex"]
    for name in data.draw(st.sampled_from([(), ("uv_da",), ("mip_level_bias",)])):
        del inputs[name]
    options: dict[str, Any] = {"filter_mode": filter_mode, "boundary_mode": boundary_mode}
    if stack == "built":
        options["mip"] = rg.build_mipmaps(tex, cube=cube)
    elif stack == "own":
        *outer, height, width, channels = tex.shape
        while height * width > 1:
            height, width = max(1, height // 2), max(1, width // 2)
            options.setdefault("levels", []).append(torch.randn(*outer, height, width, channels).to(tex))
        if "levels" not in options:
            options["max_mip_level"] = 0
    share = data.draw(st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]))
    rast = fragments(data.draw(st.integers(0, 10**6)), inputs["uv"].shape[:3], tex.dtype, share)
    same(outcome(inputs, rast, **options), outcome(inputs, None, masked=rast, **options))
    if tex.dtype == torch.float64:
        like_oracle(inputs, rast, **options)


@pytest.mark.cpu_kernels("images larger than the caches take long elsewhere")
@pytest.mark.parametrize("channels", [1, 3, 4, 5])
def test_images_larger_than_the_caches(channels: int) -> None:
    pixels = (517, 1031)
    inputs = query(3, channels=channels, images=(1, 1), pixels=pixels, sides=(64, 64), dtype=torch.float32)
    inputs["uv"] = inputs["uv"] * 0.3
    rast = fragments(4, (1, *pixels), torch.float32)
    rast[:, 100:300, 200:] = 0
    for filter_mode in FILTER_MODES[1], FILTER_MODES[3]:
        options = {"filter_mode": filter_mode}
        same(outcome(inputs, rast, **options), outcome(inputs, None, masked=rast, **options))


# ---- what background holds does not matter -----------------------------------------------------------------


@pytest.mark.parametrize("backend", [None, "reference"])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("filter_mode", "boundary_mode"), MODES)
def test_nothing_comes_from_background(
    filter_mode: str, boundary_mode: str, dtype: torch.dtype, backend: str | None
) -> None:
    """NaN, infinities and ends of ranges as coordinates, derivatives, bias and upstream gradient."""
    options: dict[str, Any] = {
        "filter_mode": filter_mode,
        "boundary_mode": boundary_mode,
        "backend": backend,
    }
    for channels in (2, 3, 4):
        inputs = query(channels, cube=boundary_mode == "cube", channels=channels, dtype=dtype)
        shape = inputs["uv"].shape[:3]
        rast = fragments(channels, shape, dtype)
        shown = rast[..., 3:] >= 1
        g = torch.Generator().manual_seed(1)
        upstream = torch.randn(*shape, channels, generator=g, dtype=torch.float64).to(dtype)
        want = outcome(inputs, rast, upstream=upstream, **options)
        wild = {"tex": inputs["tex"]}
        for name, x in [("upstream", upstream), *inputs.items()]:
            if name != "tex":
                numbers = torch.tensor(NUMBERS, dtype=torch.float64).to(dtype)
                strange = numbers[torch.randint(len(NUMBERS), x.shape, generator=g)]
                wild[name] = torch.where(shown if x.ndim == 4 else shown[..., 0], x, strange)
        got = outcome(wild, rast, upstream=wild.pop("upstream"), **options)
        # What lies in background may decide where accumulators stand, hence in which order texels are summed.
        assert_gradients_close(got.pop("d_tex"), want["d_tex"], dtype=dtype, what="d_tex")
        for name, x in got.items():
            assert torch.equal(x, want[name]), name  # but for signs of zeros
            there = (~shown).expand_as(x) if x.ndim == 4 else ~shown[..., 0]
            assert not x[there].any(), name
        assert not got["out"][(~shown).expand_as(got["out"])].signbit().any()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("filter_mode", "boundary_mode"), MODES)
def test_a_texture_without_numbers_leaves_background_zero(
    filter_mode: str, boundary_mode: str, value: float
) -> None:
    for channels, dtype in itertools.product((1, 3, 4, 6), TYPES):
        inputs = query(7, cube=boundary_mode == "cube", channels=channels, dtype=dtype)
        inputs["tex"][:] = value
        rast = fragments(8, inputs["uv"].shape[:3], dtype)
        shown = rast[..., 3:] >= 1
        found = outcome(inputs, rast, filter_mode=filter_mode, boundary_mode=boundary_mode)
        for name in "out", "d_uv", "d_uv_da", "d_mip_level_bias":
            x = found[name] if found[name].ndim == 4 else found[name][..., None]
            assert not x[(~shown).expand_as(x)].any(), name
        if boundary_mode in ("wrap", "clamp"):
            assert not found["out"][shown.expand_as(found["out"])].isfinite().any()
        assert found["d_tex"].isfinite().all()


# ---- how many show something -------------------------------------------------------------------------------


SIZES = [(1, 1), (1, 15), (1, 16), (1, 17), (3, 33), (20, 70), (35, 16), (70, 1)]


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
@pytest.mark.parametrize("pixels", SIZES)
def test_nothing_everything_and_one(pixels: tuple[int, int], channels: int) -> None:
    for filter_mode, dtype in itertools.product(FILTER_MODES, TYPES):
        inputs = query(1, channels=channels, pixels=pixels, images=(1, 1), dtype=dtype)
        rast = torch.zeros(1, *pixels, 4, dtype=dtype)
        for x in outcome(inputs, rast, filter_mode=filter_mode).values():
            assert not x.any()
            assert not x.signbit().any()
        whole = outcome(inputs, None, filter_mode=filter_mode)
        same(outcome(inputs, rast + 1, filter_mode=filter_mode), whole)
        for place in {0, 7, 15, 16, pixels[0] * pixels[1] // 2, pixels[0] * pixels[1] - 1}:
            if place >= pixels[0] * pixels[1]:
                continue
            rast = torch.zeros(1, *pixels, 4, dtype=dtype)
            rast.view(-1, 4)[place, 3] = 1
            found = outcome(inputs, rast, filter_mode=filter_mode)
            alone = torch.zeros_like(whole["out"])
            alone.view(-1, channels)[place] = whole["out"].view(-1, channels)[place]
            assert torch.equal(found["out"], alone)
            rest = found["d_uv"].view(-1, 2).clone()
            assert torch.equal(rest[place], whole["d_uv"].view(-1, 2)[place])
            rest[place] = 0
            assert not rest.any()


@pytest.mark.parametrize("dtype", TYPES)
def test_which_ids_show_a_triangle(dtype: torch.dtype) -> None:
    """Those from 1 on, also where the float's bits count on; nothing else, and NaN is nothing."""
    ids = torch.tensor([*SHOWN, float("inf"), *UNSHOWN], dtype=dtype)
    # Sixteen of each as well, so that whole groups of pixels are alike.
    ids = torch.cat([ids, ids.repeat_interleave(16)])
    rast = torch.zeros(1, 1, len(ids), 4, dtype=dtype)
    rast[..., 3] = ids
    tex = torch.ones(1, 4, 4, 3, dtype=dtype)
    uv = torch.full((1, 1, len(ids), 2), 0.4, dtype=dtype)
    want = torch.tensor([1.0] * (len(SHOWN) + 1) + [0.0] * len(UNSHOWN), dtype=dtype)
    want = torch.cat([want, want.repeat_interleave(16)])[None, None, :, None].expand(1, 1, -1, 3)
    assert torch.equal(rg.texture(tex, uv, rast=rast), want)
    assert torch.equal(rg.texture(tex, uv, rast=rast, backend="reference"), want)


@pytest.mark.parametrize("boundary_mode", ["wrap", "cube"])
@pytest.mark.parametrize("filter_mode", FILTER_MODES)
def test_same_bits_for_every_thread_count(filter_mode: str, boundary_mode: str) -> None:
    inputs = query(
        5, cube=boundary_mode == "cube", sides=(64, 64), pixels=(90, 130), images=(2, 1), dtype=torch.float32
    )
    rast = fragments(6, (2, 90, 130), torch.float32)
    before = torch.get_num_threads()
    try:
        runs = []
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            runs.append(outcome(inputs, rast, filter_mode=filter_mode, boundary_mode=boundary_mode))
    finally:
        torch.set_num_threads(before)
    for other in runs[1:]:
        same(other, runs[0])


# ---- what is kept for the way back -------------------------------------------------------------------------


@pytest.mark.parametrize("textures", [1, 2])
@pytest.mark.parametrize("pixels", [*SIZES, (9, 63), (5, 64), (4, 65), (3, 80), (2, 517)])
def test_which_pixels_show_something_is_kept(pixels: tuple[int, int], textures: int) -> None:
    """A bit for each, in words of sixteen neighbours; of narrow images all pixels in a row. Gradients need
    nothing else of the fragments.
    """
    inputs = query(3, pixels=pixels, images=(2, textures), dtype=torch.float32)
    rast = fragments(4, (2, *pixels), torch.float32)
    modes = 3, 0, 0, 1, []
    tensors = inputs["tex"], inputs["uv"], inputs["uv_da"], inputs["mip_level_bias"], None
    out, record = op._where_shown.forward(*tensors, rast, *modes)
    bits = (record[:, None] >> torch.arange(8, dtype=torch.uint8) & 1).bool()
    if pixels[1] >= 64:
        got = bits.reshape(2, pixels[0], -1)
        assert not got[..., pixels[1] :].any()
        got = got[..., : pixels[1]]
    elif textures == 1:
        got = bits.reshape(-1)[: 2 * pixels[0] * pixels[1]].reshape(2, *pixels)
    else:
        got = bits.reshape(2, -1)[:, : pixels[0] * pixels[1]].reshape(2, *pixels)
    assert torch.equal(got, rast[..., 3] >= 1)
    needs, flat = [True] * 4, (*tensors, rast, *modes[:4])
    want = op._where_shown.backward(needs, flat, [record], [out])
    rast.fill_(float("nan"))
    assert equal(op._where_shown.backward(needs, flat, [record], [out]), want)


# ---- the four in a row -------------------------------------------------------------------------------------


def test_background_of_a_picture() -> None:
    """A rasterised triangle: background looks at coordinates of zero no more, gradients reach positions."""
    pos = torch.tensor([[[-0.8, -0.8, 0, 1], [0.8, -0.8, 0, 1], [0.0, 0.8, 0, 1]]], requires_grad=True)
    tri = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    tex, coords = torch.rand(1, 8, 8, 3) + 1, torch.rand(1, 3, 2)
    upstream = torch.randn(1, 20, 37, 3, generator=torch.Generator().manual_seed(1))

    def picture(with_rast: bool) -> tuple[Tensor, Tensor]:
        rast, rast_db = rg.rasterize(pos, tri, (20, 37))
        uv, uv_da = rg.interpolate(coords, rast, tri, rast_db, "all")
        if with_rast:
            color = rg.texture(tex, uv, uv_da, rast=rast)
        else:
            color = rg.texture(tex, uv, uv_da) * (rast[..., 3:] > 0)
        return color.detach(), torch.autograd.grad(color, pos, upstream)[0]

    (got, d_got), (want, d_want) = picture(True), picture(False)
    assert torch.equal(got, want)
    assert torch.equal(d_got, d_want)
    assert 0 < int((got == 0).all(-1).sum()) < 20 * 37


# ---- kinds of tensors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_fragments_of_another_number_type(dtype: torch.dtype) -> None:
    inputs = query(11, dtype=torch.float32)
    rast = torch.zeros(2, 5, 39, 4, dtype=dtype)
    rast[..., 3] = torch.arange(39) % 3
    want = outcome(inputs, rast.float())
    got = outcome(inputs, rast)
    assert got["out"].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert_values_close(got["out"].float(), want["out"], dtype=torch.float32, what="colours")
    for name, d in want.items():
        if name != "out":
            assert got[name].dtype == torch.float32
            assert_gradients_close(got[name], d, dtype=torch.float32, what=name)
    assert torch.equal(got["out"] == 0, want["out"] == 0)


def test_an_id_just_below_one_is_not_rounded_up() -> None:
    rast = torch.zeros(1, 1, 1, 4, dtype=torch.float64)
    rast[..., 3] = 1 - 2.0**-40
    assert not rg.texture(torch.ones(1, 2, 2, 3), torch.full((1, 1, 1, 2), 0.5), rast=rast).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_everything_of_a_half_type(dtype: torch.dtype) -> None:
    inputs = {name: x.to(dtype) for name, x in query(12).items()}
    rast = fragments(12, (2, 5, 39), torch.float32)
    rast = rast.clamp(-100, 100).to(dtype)
    got = outcome(inputs, rast)
    want = outcome({name: x.float() for name, x in inputs.items()}, rast.float())
    assert torch.equal(got["out"], want["out"])
    for name, x in inputs.items():
        assert got[f"d_{name}"].dtype == dtype
        assert torch.equal(got[f"d_{name}"], want[f"d_{name}"].to(x.dtype))


def test_views_of_any_stride() -> None:
    inputs = query(13, dtype=torch.float32)
    rast = fragments(13, (2, 5, 39), torch.float32)
    want = outcome(inputs, rast)
    padded = torch.full((4, 9, 80, 7), float("nan"))
    padded[1:3, 2:7, 1:79:2, 3:] = rast
    same(outcome(inputs, padded[1:3, 2:7, 1:79:2, 3:]), want)
    moved = torch.cat([rast.new_zeros(1), rast.flatten()])[1:].view(rast.shape)  # begins anywhere
    same(outcome(inputs, moved), want)
    one_for_all = rast[:1, :1].expand(2, 5, 39, 4)
    same(outcome(inputs, one_for_all), outcome(inputs, one_for_all.contiguous()))


def test_no_images() -> None:
    out = rg.texture(torch.rand(1, 4, 4, 3), torch.rand(0, 5, 6, 2), rast=torch.rand(0, 5, 6, 4))
    assert out.shape == (0, 5, 6, 3)


# ---- ways in -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [None, "reference"])
def test_fragments_get_no_gradient(backend: str | None) -> None:
    inputs = query(14)
    rast = fragments(14, (2, 5, 39), torch.float64).requires_grad_()
    tex = inputs["tex"].requires_grad_()
    out = rg.texture(tex, inputs["uv"], rast=rast, backend=backend)
    assert torch.autograd.grad(out.sum(), [tex, rast], allow_unused=True)[1] is None
    same(outcome(inputs, rast, backend=backend), outcome(inputs, rast.detach(), backend=backend))


def test_only_fragments_require_a_gradient() -> None:
    inputs = query(14)
    for dtype in TYPES:
        rast = fragments(14, (2, 5, 39), dtype).requires_grad_()
        out = rg.texture(inputs["tex"], inputs["uv"], rast=rast)
        assert out.requires_grad
        assert torch.autograd.grad(out.sum(), rast, allow_unused=True) == (None,)


def test_changing_fragments_before_backward_is_noticed() -> None:
    inputs = query(15)
    rast = fragments(15, (2, 5, 39), torch.float64)
    out = rg.texture(inputs["tex"].requires_grad_(), inputs["uv"], rast=rast)
    rast[..., 3] = 0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@pytest.mark.parametrize(("filter_mode", "boundary_mode"), MODES)
def test_gradcheck(filter_mode: str, boundary_mode: str) -> None:
    cube = boundary_mode == "cube"
    inputs = query(16, cube=cube, channels=2, images=(1, 1), sides=(4, 4), pixels=(2, 3))
    if not cube:
        # Inside a texel, away from the borders of cells, where derivatives jump.
        cell = torch.randint(0, 4, inputs["uv"].shape, generator=torch.Generator().manual_seed(3))
        inputs["uv"] = (cell + 0.6 + 0.05 * torch.rand(cell.shape, dtype=torch.float64)) / 4
    inputs["uv_da"] *= 0.5
    rast = torch.zeros(1, 2, 3, 4, dtype=torch.float64)
    rast[..., 3] = torch.tensor([[0.0, 2, 3], [4, 0, 5]])
    names = ["tex"] if filter_mode == "nearest" else ["tex", "uv"]
    if filter_mode == "linear-mipmap-linear":
        names += ["uv_da", "mip_level_bias"]

    def run(fragments: Tensor, *values: Tensor) -> Tensor:
        named = {**inputs, **dict(zip(names, values, strict=True))}
        return rg.texture(**named, rast=fragments, filter_mode=filter_mode, boundary_mode=boundary_mode)

    leaves = [rast.requires_grad_(), *(inputs[name].requires_grad_() for name in names)]
    assert torch.autograd.gradcheck(run, leaves, eps=1e-7, atol=1e-5)


def test_functorch() -> None:
    inputs = query(17)
    tex, uv, uv_da, _ = inputs.values()
    rast = fragments(17, (2, 5, 39), torch.float64)

    def value(tex: Tensor, uv: Tensor, uv_da: Tensor, rast: Tensor) -> Tensor:
        return rg.texture(tex, uv, uv_da, rast=rast).square().sum()

    leaves = [x.clone().requires_grad_() for x in (tex, uv, uv_da)]
    want = torch.autograd.grad(value(*leaves, rast), leaves)
    got = torch.func.grad(value, argnums=(0, 1, 2, 3))(tex, uv, uv_da, rast)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=False))
    assert not got[3].any()

    several = torch.stack([fragments(seed, (2, 5, 39), torch.float64) for seed in range(3)])
    each = torch.stack([rg.texture(tex, uv, uv_da, rast=x) for x in several])
    run = torch.func.vmap(lambda x: rg.texture(tex, uv, uv_da, rast=x))
    assert torch.equal(run(several), each)
    assert torch.equal(torch.func.vmap(lambda x: run(x), in_dims=0)(several[None])[0], each)
    grads = torch.func.vmap(torch.func.grad(lambda t, x: value(t, uv, uv_da, x)), in_dims=(None, 3))(
        tex, several.movedim(0, 3)
    )
    for k in range(3):
        leaf = tex.clone().requires_grad_()
        assert torch.equal(grads[k], torch.autograd.grad(value(leaf, uv, uv_da, several[k]), leaf)[0])
