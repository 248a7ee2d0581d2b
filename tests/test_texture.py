# SPDX-License-Identifier: MIT
"""texture against its oracle, and its properties."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rastergrad as rg
from rastergrad.ops.texture.op import BOUNDARY_MODES, FILTER_MODES, lookup
from testing.closeness import assert_gradients_close, assert_values_close

settings.register_profile("rastergrad", deadline=None, derandomize=True)
settings.load_profile("rastergrad")

PLANE_MODES = BOUNDARY_MODES[:3]
MIP_MODES = FILTER_MODES[2:]
MODES = list(itertools.product(FILTER_MODES, BOUNDARY_MODES))


def random_query(
    seed: int,
    *,
    cube: bool = False,
    n: int = 2,
    tex_images: int = 2,
    side: tuple[int, int] = (8, 16),
    pixels: tuple[int, int] = (5, 7),
    channels: int = 3,
    dtype: torch.dtype = torch.float64,
) -> dict[str, Tensor]:
    """tex, uv, uv_da, mip_level_bias; footprints from a fraction of a texel to the whole texture, with some
    coordinates beyond the borders.
    """
    g = torch.Generator().manual_seed(seed)
    height, width = (side[0], side[0]) if cube else side
    faces = (6,) if cube else ()
    axes = 3 if cube else 2
    tex = torch.randn(tex_images, *faces, height, width, channels, generator=g, dtype=torch.float64)
    uv = torch.randn(n, *pixels, axes, generator=g, dtype=torch.float64)
    uv_da = torch.randn(n, *pixels, 2 * axes, generator=g, dtype=torch.float64)
    uv_da = uv_da * torch.exp(-4 * torch.rand(n, *pixels, 1, generator=g, dtype=torch.float64))
    bias = torch.randn(n, *pixels, generator=g, dtype=torch.float64) * 0.7 + 0.3
    named = {"tex": tex, "uv": uv, "uv_da": uv_da, "mip_level_bias": bias}
    return {k: v.to(dtype) for k, v in named.items()}


def own_levels(tex: Tensor, count: int, seed: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    *outer, height, width, channels = tex.shape
    levels = []
    while len(levels) < count and (height > 1 or width > 1):
        height, width = max(1, height // 2), max(1, width // 2)
        levels.append(
            torch.randn(*outer, height, width, channels, generator=g, dtype=torch.float64).to(tex.dtype)
        )
    return levels


def result(
    inputs: dict[str, Tensor],
    levels: list[Tensor] | None,
    options: dict[str, Any],
    *,
    backend: str = "cpu",
    upstream: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The colours, and the gradients by name."""
    leaves = {k: v.detach().clone().requires_grad_() for k, v in inputs.items()}
    own = None if levels is None else [x.detach().clone().requires_grad_() for x in levels]
    out = lookup(
        leaves["tex"],
        leaves["uv"],
        leaves.get("uv_da"),
        leaves.get("mip_level_bias"),
        own if own is not None else options.get("mip"),
        filter_mode=options.get("filter_mode", "auto"),
        boundary_mode=options.get("boundary_mode", "wrap"),
        max_mip_level=options.get("max_mip_level"),
        circular_gradient=options.get("circular_gradient", True),
        backend=backend,
    )
    if upstream is None:
        g = torch.Generator().manual_seed(99)
        upstream = torch.randn(out.shape, generator=g, dtype=torch.float64).to(out.dtype)
        upstream[:, 0, 0] = 0
    names = [*leaves, *(f"mip[{k}]" for k in range(len(own or [])))]
    tensors = [*leaves.values(), *(own or [])]
    grads = torch.autograd.grad(out, tensors, upstream, allow_unused=True)
    full = (torch.zeros_like(t) if d is None else d for t, d in zip(tensors, grads, strict=True))
    return out.detach(), dict(zip(names, full, strict=True))


def assert_like_oracle(
    inputs: dict[str, Tensor], levels: list[Tensor] | None, options: dict[str, Any], dtype: torch.dtype
) -> None:
    inputs = {k: v.to(dtype) for k, v in inputs.items()}
    levels = None if levels is None else [x.to(dtype) for x in levels]
    got, got_grads = result(inputs, levels, options)
    want, want_grads = result(inputs, levels, options, backend="reference")
    assert_values_close(got, want, dtype=dtype, what=f"out {options}")
    for name, d in want_grads.items():
        assert_gradients_close(got_grads[name], d, dtype=dtype, what=f"d_{name} {options}")


# ---- oracle ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("filter_mode", "boundary_mode"), MODES)
def test_like_oracle_in_every_mode(filter_mode: str, boundary_mode: str) -> None:
    inputs = random_query(1, cube=boundary_mode == "cube")
    options = {"filter_mode": filter_mode, "boundary_mode": boundary_mode}
    for dtype in (torch.float64, torch.float32):
        assert_like_oracle(inputs, None, options, dtype)


@settings(max_examples=60)
@given(data=st.data())
def test_like_oracle_on_any_shape(data: st.DataObject) -> None:
    filter_mode, boundary_mode = data.draw(st.sampled_from(MODES))
    cube = boundary_mode == "cube"
    powers = st.sampled_from([1, 2, 4, 8, 16])
    n = data.draw(st.integers(1, 3))
    custom = filter_mode in MIP_MODES and data.draw(st.booleans())
    sides = st.integers(1, 13) if custom else powers
    inputs = random_query(
        data.draw(st.integers(0, 1000)),
        cube=cube,
        n=n,
        tex_images=data.draw(st.sampled_from([1, n])),
        side=(data.draw(sides), data.draw(sides)),
        pixels=(data.draw(st.integers(1, 6)), data.draw(st.integers(1, 40))),
        channels=data.draw(st.integers(1, 9)),
    )
    given_inputs = data.draw(st.sampled_from([("uv_da",), ("mip_level_bias",), ("uv_da", "mip_level_bias")]))
    for name in ("uv_da", "mip_level_bias"):
        if name not in given_inputs:
            del inputs[name]
    levels = own_levels(inputs["tex"], data.draw(st.integers(1, 5)), 3) if custom else None
    options = {"filter_mode": filter_mode, "boundary_mode": boundary_mode}
    if not custom:
        options["max_mip_level"] = data.draw(st.sampled_from([None, 0, 1, 2, 9]))
    assert_like_oracle(inputs, levels or None, options, torch.float64)


@pytest.mark.parametrize("filter_mode", MIP_MODES)
@pytest.mark.parametrize("cube", [False, True])
def test_prebuilt_stack_like_internal(filter_mode: str, cube: bool) -> None:
    inputs = random_query(2, cube=cube)
    options = {"filter_mode": filter_mode, "boundary_mode": "cube" if cube else "clamp", "max_mip_level": 2}
    internal, d_internal = result(inputs, None, options)
    options["mip"] = rg.build_mipmaps(inputs["tex"], 2, cube)
    prebuilt, d_prebuilt = result(inputs, None, options)
    assert torch.equal(internal, prebuilt)
    for name, d in d_internal.items():
        assert torch.equal(d, d_prebuilt[name]), name


def test_gradient_of_prebuilt_levels_goes_to_the_texture_in_use() -> None:
    inputs = random_query(3)
    source = torch.zeros_like(inputs["tex"]).requires_grad_()
    options: dict[str, Any] = {"mip": rg.build_mipmaps(source), "filter_mode": "linear-mipmap-linear"}
    out, grads = result(inputs, None, options)
    want, want_grads = result(inputs, None, options, backend="reference")
    assert_values_close(out, want, dtype=torch.float64, what="out")
    assert_gradients_close(grads["tex"], want_grads["tex"], dtype=torch.float64, what="d_tex")
    assert not torch.equal(grads["tex"], result(inputs, None, {"filter_mode": "linear"})[1]["tex"])


@pytest.mark.parametrize("circular", [True, False])
@pytest.mark.parametrize("cube", [False, True])
def test_circular_footprints(circular: bool, cube: bool) -> None:
    inputs = random_query(4, cube=cube, side=(16, 16))
    inputs["uv_da"] *= 0
    if cube:
        inputs["uv"] = torch.zeros_like(inputs["uv"])
        inputs["uv"][..., 2] = 1
        inputs["uv"][..., :2] = (
            torch.rand(inputs["uv"][..., :2].shape, generator=torch.Generator().manual_seed(1)) - 0.5
        )
        inputs["uv_da"][..., 0] = inputs["uv_da"][..., 3] = 0.4
    else:
        inputs["uv_da"][..., 0] = inputs["uv_da"][..., 3] = 0.2
    del inputs["mip_level_bias"]
    options = {
        "filter_mode": "linear-mipmap-linear",
        "boundary_mode": "cube" if cube else "wrap",
        "circular_gradient": circular,
    }
    assert_like_oracle(inputs, None, options, torch.float64)
    d = result(inputs, None, options)[1]["uv_da"]
    assert bool(d.any()) == circular


@pytest.mark.parametrize(("filter_mode", "boundary_mode"), MODES)
def test_gradcheck(filter_mode: str, boundary_mode: str) -> None:
    cube = boundary_mode == "cube"
    inputs = random_query(6, cube=cube, n=1, tex_images=1, side=(4, 4), pixels=(2, 3), channels=2)
    if not cube:
        # Inside a texel, away from the borders of cells, where derivatives jump.
        g = torch.Generator().manual_seed(3)
        cell = torch.randint(0, 4, inputs["uv"].shape, generator=g)
        inputs["uv"] = (
            cell + 0.5 + 0.1 + 0.05 * torch.rand(cell.shape, generator=g, dtype=torch.float64)
        ) / 4
    inputs["uv_da"] *= 0.5
    names = ["tex"] if filter_mode == "nearest" else ["tex", "uv"]
    if filter_mode == "linear-mipmap-linear":
        names += ["uv_da", "mip_level_bias"]
    leaves = [inputs[k].requires_grad_() for k in names]

    def run(*values: Tensor) -> Tensor:
        named = {**inputs, **dict(zip(names, values, strict=True))}
        return rg.texture(**named, filter_mode=filter_mode, boundary_mode=boundary_mode)

    assert torch.autograd.gradcheck(run, leaves, eps=1e-7, atol=1e-5)


# ---- properties --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("filter_mode", "boundary_mode"), MODES)
def test_backward_is_the_transpose_of_forward(filter_mode: str, boundary_mode: str) -> None:
    inputs = random_query(7, cube=boundary_mode == "cube", tex_images=1, pixels=(16, 17), channels=5)
    options = {"filter_mode": filter_mode, "boundary_mode": boundary_mode}
    out, grads = result(inputs, None, options)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    out, grads = result(inputs, None, options, upstream=upstream)
    torch.testing.assert_close(
        (out * upstream).sum(), (inputs["tex"] * grads["tex"]).sum(), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("filter_mode", "boundary_mode"), [m for m in MODES if m[1] != "zero"])
def test_constants_survive(filter_mode: str, boundary_mode: str, dtype: torch.dtype) -> None:
    inputs = random_query(8, cube=boundary_mode == "cube", pixels=(20, 20), dtype=dtype)
    inputs["tex"][:] = 0.1
    out = rg.texture(**inputs, filter_mode=filter_mode, boundary_mode=boundary_mode)
    assert bool((out == inputs["tex"].flatten()[0]).all())


@pytest.mark.parametrize("filter_mode", ["nearest", "linear"])
def test_shift_by_whole_texels_shifts_the_texture(filter_mode: str) -> None:
    inputs = random_query(9, side=(8, 16))
    # Multiples of 1/1024: adding whole texels is then exact.
    uv = (inputs["uv"] * 1024).round() / 1024 + 1 / 4096
    moved = uv + torch.tensor([3 / 16, 2 / 8], dtype=torch.float64)
    shifted = torch.roll(inputs["tex"], (-2, -3), (1, 2))
    a = rg.texture(inputs["tex"], moved, filter_mode=filter_mode)
    b = rg.texture(shifted, uv, filter_mode=filter_mode)
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("filter_mode", FILTER_MODES)
@pytest.mark.parametrize("boundary_mode", ["wrap", "clamp", "cube"])
def test_texel_gradients_add_up_to_the_upstream(filter_mode: str, boundary_mode: str) -> None:
    inputs = random_query(10, cube=boundary_mode == "cube", pixels=(40, 41))
    upstream = torch.rand(2, 40, 41, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    options = {"filter_mode": filter_mode, "boundary_mode": boundary_mode}
    _, grads = result(inputs, None, options, upstream=upstream)
    axes = tuple(range(1, grads["tex"].ndim - 1))
    torch.testing.assert_close(grads["tex"].sum(axes), upstream.sum((1, 2)), rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("filter_mode", FILTER_MODES)
@pytest.mark.parametrize("boundary_mode", ["wrap", "cube"])
def test_same_bits_for_every_thread_count(filter_mode: str, boundary_mode: str) -> None:
    cube = boundary_mode == "cube"
    inputs = random_query(
        11, cube=cube, side=(64, 64), pixels=(180, 200), n=2, tex_images=1, dtype=torch.float32
    )
    options = {"filter_mode": filter_mode, "boundary_mode": boundary_mode}
    before = torch.get_num_threads()
    try:
        runs = []
        for threads in (1, 2, 3, 5, 2):
            torch.set_num_threads(threads)
            runs.append(result(inputs, None, options))
    finally:
        torch.set_num_threads(before)
    for out, grads in runs[1:]:
        assert torch.equal(out, runs[0][0])
        for name, d in grads.items():
            assert torch.equal(d, runs[0][1][name]), name


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("filter_mode", FILTER_MODES)
@pytest.mark.parametrize("boundary_mode", ["wrap", "zero", "cube"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wide_images_and_lists_of_queries_see_the_same(
    channels: int, filter_mode: str, boundary_mode: str, dtype: torch.dtype
) -> None:
    """Images are walked in blocks of columns, here with a rest; lists of queries in memory order."""
    cube = boundary_mode == "cube"
    sizes = {"side": (64, 64), "pixels": (90, 203), "n": 2, "channels": channels, "dtype": dtype}
    image = random_query(13, cube=cube, **sizes)
    row = {k: x if k == "tex" else x.flatten(1, 2).unsqueeze(2) for k, x in image.items()}
    options = {"filter_mode": filter_mode, "boundary_mode": boundary_mode}
    upstream = torch.rand(2, 90, 203, channels, dtype=dtype, generator=torch.Generator().manual_seed(3))
    out, grads = result(image, None, options, upstream=upstream)
    out_row, grads_row = result(row, None, options, upstream=upstream.flatten(1, 2).unsqueeze(2))
    assert torch.equal(out.flatten(1, 2), out_row.flatten(1, 2))
    for name, d in grads.items():
        if name == "tex":
            assert_gradients_close(d, grads_row[name], dtype=dtype, what=name)
        else:
            assert torch.equal(d.flatten(), grads_row[name].flatten()), name


@pytest.mark.parametrize("boundary_mode", BOUNDARY_MODES)
def test_a_broadcast_texture_collects_over_images(boundary_mode: str) -> None:
    inputs = random_query(12, cube=boundary_mode == "cube", n=3, tex_images=1)
    options = {"boundary_mode": boundary_mode}
    out, grads = result(inputs, None, options)
    repeated = {**inputs, "tex": inputs["tex"].expand(3, *inputs["tex"].shape[1:]).contiguous()}
    out3, grads3 = result(repeated, None, options)
    torch.testing.assert_close(out, out3, rtol=0, atol=0)
    torch.testing.assert_close(grads["tex"][0], grads3["tex"].sum(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("boundary_mode", BOUNDARY_MODES)
def test_many_channels_are_many_textures(boundary_mode: str) -> None:
    inputs = random_query(13, cube=boundary_mode == "cube", channels=30, dtype=torch.float32)
    options = {"boundary_mode": boundary_mode}
    upstream = torch.randn(2, 5, 7, 30, generator=torch.Generator().manual_seed(1))
    out, grads = result(inputs, None, options, upstream=upstream)
    for c in (0, 3, 4, 17, 29):
        one = {**inputs, "tex": inputs["tex"][..., c : c + 1].contiguous()}
        single, d = result(one, None, options, upstream=upstream[..., c : c + 1].contiguous())
        assert torch.equal(single[..., 0], out[..., c])
        assert torch.equal(d["tex"][..., 0], grads["tex"][..., c])


def test_zero_upstream_keeps_nan_out() -> None:
    for boundary_mode in BOUNDARY_MODES:
        inputs = random_query(14, cube=boundary_mode == "cube", n=1, tex_images=1)
        for name in ("uv", "uv_da", "mip_level_bias"):
            inputs[name][0, 2, 3] = float("nan")
        upstream = torch.ones(1, 5, 7, 3, dtype=torch.float64)
        upstream[0, 2, 3] = 0
        upstream[0, 2, 3, 1] = -0.0
        _, grads = result(inputs, None, {"boundary_mode": boundary_mode}, upstream=upstream)
        for name, d in grads.items():
            assert bool(d.isfinite().all()), (boundary_mode, name)
        assert not grads["uv"][0, 2, 3].any()


# ---- mip stacks --------------------------------------------------------------------------------------------


def test_levels_are_averages() -> None:
    tex = torch.randn(2, 8, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    want = tex
    for level in range(1, 4):
        if want.shape[2] > 1:
            want = (want[:, :, ::2] + want[:, :, 1::2]) / 2
        want = (want[:, ::2] + want[:, 1::2]) / 2
        uv = torch.stack(
            torch.meshgrid(
                (torch.arange(want.shape[2], dtype=torch.float64) + 0.5) / want.shape[2],
                (torch.arange(want.shape[1], dtype=torch.float64) + 0.5) / want.shape[1],
                indexing="xy",
            ),
            -1,
        ).expand(2, -1, -1, -1)
        bias = torch.full(uv.shape[:3], float(level), dtype=torch.float64)
        got = rg.texture(tex, uv, mip_level_bias=bias)
        torch.testing.assert_close(got, want, rtol=1e-14, atol=1e-14)


def test_odd_sides_are_refused_with_the_sizes() -> None:
    tex = torch.rand(1, 12, 20, 3)
    rg.build_mipmaps(tex, 2)
    for most in (3, None):
        with pytest.raises(ValueError, match=r"12x20 -> 6x10 -> 3x5.*max_mip_level=2"):
            rg.build_mipmaps(tex, most)
    uv, bias = torch.rand(1, 2, 2, 2), torch.rand(1, 2, 2)
    with pytest.raises(ValueError, match=r"^texture: .*3x5"):
        rg.texture(tex, uv, mip_level_bias=bias)
    rg.texture(tex, uv, mip_level_bias=bias, max_mip_level=2)
    rg.build_mipmaps(torch.rand(1, 4, 4, 1), 100)


def test_stack_of_another_texture_is_refused() -> None:
    tex = torch.rand(1, 8, 8, 3)
    stack = rg.build_mipmaps(tex)
    assert repr(stack) == "MipStack(3 levels above a texture [1, 8, 8, 3])"
    uv, bias = torch.rand(1, 2, 2, 2), torch.rand(1, 2, 2)
    with pytest.raises(ValueError, match=r"`mip` was built for a texture \[1, 8, 8, 3\].*\[1, 8, 4, 3\]"):
        rg.texture(tex[:, :, :4], uv, mip_level_bias=bias, mip=stack)
    faces = torch.rand(1, 6, 4, 4, 3)
    with pytest.raises(ValueError, match=r"cube map"):
        rg.texture(faces, torch.rand(1, 2, 2, 3), mip_level_bias=bias, mip=stack, boundary_mode="cube")


def test_own_levels_are_checked() -> None:
    tex, uv, bias = torch.rand(1, 6, 10, 3), torch.rand(1, 2, 2, 2), torch.rand(1, 2, 2)
    levels = [torch.rand(1, 3, 5, 3), torch.rand(1, 1, 2, 3), torch.rand(1, 1, 1, 3)]
    rg.texture(tex, uv, mip_level_bias=bias, mip=levels)
    cases: list[tuple[Any, type[Exception], str]] = [
        ([], ValueError, "empty list"),
        ([*levels, torch.rand(1, 1, 1, 3)], ValueError, "allows 3"),
        ([torch.rand(1, 3, 4, 3)], ValueError, r"`mip\[0\]` must be \[1, 3, 5, 3\].*\[1, 3, 4, 3\]"),
        ([torch.rand(2, 3, 5, 3)], ValueError, r"`mip\[0\]`"),
        ([torch.rand(3, 5, 3)], ValueError, r"`mip\[0\]`"),
        ([levels[0].int()], TypeError, r"mip\[0\].*int32"),
        (torch.rand(1, 3, 5, 3), TypeError, "MipStack or a list"),
        (["x"], TypeError, r"mip\[0\]"),
    ]
    for mip, error, message in cases:
        with pytest.raises(error, match=message):
            rg.texture(tex, uv, mip_level_bias=bias, mip=mip)


# ---- cube maps ---------------------------------------------------------------------------------------------


def test_one_texel_faces_are_averages_of_three() -> None:
    tex = torch.tensor([1.0, 2, 4, 8, 16, 32], dtype=torch.float64).view(1, 6, 1, 1, 1)
    # At the corner of a face the four weights are equal: (own + two neighbours + their average) / 4.
    uv = torch.tensor([[1.0, 1, 1], [-1, -1, 1]], dtype=torch.float64).view(1, 1, 2, 3)
    got = rg.texture(tex, uv, boundary_mode="cube").flatten()
    want = torch.tensor([(1 + 4 + 16) / 3, (2 + 8 + 16) / 3], dtype=torch.float64)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("image", [0, 1, 2])
def test_corners_are_right_for_every_image(image: int) -> None:
    g = torch.Generator().manual_seed(3)
    tex = torch.rand(3, 6, 4, 4, 2, generator=g, dtype=torch.float64)
    corners = torch.tensor(list(itertools.product([-1.0, 1], repeat=3)), dtype=torch.float64)
    uv = (corners * (1 - 0.1 * torch.rand(8, 3, generator=g, dtype=torch.float64))).view(1, 2, 4, 3)
    together = rg.texture(tex, uv.expand(3, -1, -1, -1), boundary_mode="cube")
    alone = rg.texture(tex[image : image + 1], uv, boundary_mode="cube")
    assert torch.equal(together[image], alone[0])
    want = rg.texture(tex[image : image + 1], uv, boundary_mode="cube", backend="reference")
    assert_values_close(alone, want, dtype=torch.float64, what="corners")


@pytest.mark.parametrize("side", [1, 2, 5])
def test_linear_cube_maps_are_continuous_across_edges(side: int) -> None:
    g = torch.Generator().manual_seed(5)
    tex = torch.rand(1, 6, side, side, 1, generator=g, dtype=torch.float64)
    edge = 2 * torch.rand(200, 3, generator=g, dtype=torch.float64) - 1
    axis = torch.randint(0, 3, (200, 1), generator=g)
    signs = torch.randint(0, 2, (200, 2), generator=g).double() * 2 - 1
    edge.scatter_(1, axis, signs[:, :1]).scatter_(1, (axis + 1) % 3, signs[:, 1:])
    inward, outward = edge.clone(), edge.clone()
    inward.scatter_(1, axis, signs[:, :1] * (1 - 1e-9))
    outward.scatter_(1, axis, signs[:, :1] * (1 + 1e-9))
    a, b = (rg.texture(tex, d.view(1, 1, 200, 3), boundary_mode="cube") for d in (inward, outward))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-7)


@pytest.mark.parametrize("filter_mode", FILTER_MODES)
def test_directions_without_a_face_are_zero(filter_mode: str) -> None:
    nan, inf = float("nan"), float("inf")
    rows = [[0.0, 0, 0], [nan, 1, 1], [1, nan, 0], [0, 1, nan], [inf, inf, 1], [-inf, 0, inf], [1e-42, 0, 0]]
    uv = torch.tensor(rows).view(1, 1, -1, 3)
    inputs = {
        "tex": torch.rand(1, 6, 4, 4, 3) + 1,
        "uv": uv,
        "uv_da": torch.rand(1, 1, len(rows), 6),
        "mip_level_bias": torch.rand(1, 1, len(rows)),
    }
    out, grads = result(inputs, None, {"filter_mode": filter_mode, "boundary_mode": "cube"})
    assert not out.any()
    for name, d in grads.items():
        assert not d.any(), name


def test_one_infinite_component_looks_at_the_centre_of_its_face() -> None:
    inf = float("inf")
    tex = torch.rand(1, 6, 3, 3, 2)
    uv = torch.tensor([[inf, 1, 2], [1, -inf, 0], [0.5, 3, inf]]).view(1, 1, 3, 3)
    out, grads = result({"tex": tex, "uv": uv}, None, {"boundary_mode": "cube"})
    torch.testing.assert_close(out[0, 0], tex[0, [0, 3, 4], 1, 1])
    assert not grads["uv"].any()


# ---- hostile and unusual input -----------------------------------------------------------------------------

STRANGE = [
    float("nan"),
    float("inf"),
    -float("inf"),
    1e38,
    -1e38,
    2.0**31,
    -(2.0**31),
    1e-42,
    -1e-42,
    0.0,
    -0.0,
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("filter_mode", "boundary_mode"), MODES)
def test_strange_coordinates_are_safe(filter_mode: str, boundary_mode: str, dtype: torch.dtype) -> None:
    cube = boundary_mode == "cube"
    axes = 3 if cube else 2
    rows = list(itertools.product(STRANGE, repeat=axes))
    uv = torch.tensor(rows, dtype=dtype).view(1, 1, -1, axes)
    tex = torch.rand(1, *([6] if cube else []), 4, 4, 3, dtype=dtype)
    count = len(rows)
    inputs = {
        "tex": tex,
        "uv": uv,
        "uv_da": torch.tensor(STRANGE, dtype=dtype)
        .repeat(2 * axes * count)[: 2 * axes * count]
        .view(1, 1, count, -1),
        "mip_level_bias": torch.tensor(STRANGE, dtype=dtype).repeat(count)[:count].view(1, 1, count),
    }
    out, _ = result(inputs, None, {"filter_mode": filter_mode, "boundary_mode": boundary_mode})
    assert bool(((out >= 0) & (out <= 1) | out.isnan()).all())
    if boundary_mode == "clamp" or filter_mode == "nearest":
        assert bool(out.isfinite().all())


def test_number_types() -> None:
    inputs = random_query(15, dtype=torch.float32)
    want, want_grads = result(inputs, None, {})
    for dtype in (torch.float16, torch.bfloat16):
        half = {k: v.to(dtype) for k, v in inputs.items()}
        out, grads = result(half, None, {})
        assert out.dtype == torch.float32
        same, same_grads = result({k: v.float() for k, v in half.items()}, None, {})
        assert torch.equal(out, same)
        for name, d in grads.items():
            assert d.dtype == dtype
            assert torch.equal(d, same_grads[name].to(dtype)), name
    mixed, grads = result({**inputs, "uv": inputs["uv"].double()}, None, {})
    assert mixed.dtype == torch.float64
    assert grads["tex"].dtype == torch.float32
    assert_values_close(mixed, want, dtype=torch.float32, what="mixed")
    assert_gradients_close(grads["tex"], want_grads["tex"], dtype=torch.float32, what="mixed d_tex")


def test_views_of_any_stride() -> None:
    inputs = random_query(16, pixels=(6, 8))
    want, _ = result(inputs, None, {})
    views = {}
    for name, x in inputs.items():
        padded = torch.full([s + 3 for s in x.shape], float("nan"), dtype=x.dtype)
        part = padded[tuple(slice(1, 1 + s) for s in x.shape)]
        part.copy_(x)
        views[name] = part
    got = rg.texture(**views)
    assert torch.equal(got, want)
    upstream = torch.randn(got.shape[::-1], dtype=torch.float64).permute(3, 2, 1, 0)
    leaves = {k: v.clone().requires_grad_() for k, v in inputs.items()}
    a = torch.autograd.grad(rg.texture(**leaves), list(leaves.values()), upstream)
    b = torch.autograd.grad(rg.texture(**leaves), list(leaves.values()), upstream.contiguous())
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_no_images_is_legal() -> None:
    tex = torch.rand(1, 4, 4, 3, requires_grad=True)
    uv = torch.rand(0, 5, 6, 2, requires_grad=True)
    out = rg.texture(tex, uv, torch.rand(0, 5, 6, 4))
    assert out.shape == (0, 5, 6, 3)
    d_tex, d_uv = torch.autograd.grad(out.sum(), [tex, uv])
    assert not d_tex.any()
    assert d_uv.shape == uv.shape
    assert rg.texture(tex[:0], uv).shape == (0, 5, 6, 3)


def test_a_long_list_of_points() -> None:
    n, points = 3, 40000
    inputs = random_query(17, n=n, tex_images=1, pixels=(points, 1), dtype=torch.float32)
    del inputs["uv_da"]
    out, grads = result(inputs, None, {})
    part = {k: v if k == "tex" else v[1:2, 777:778] for k, v in inputs.items()}
    assert torch.equal(result(part, None, {})[0][0, 0], out[1, 777])
    assert grads["uv"].shape == (n, points, 1, 2)


def test_only_wanted_gradients_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = random_query(18)
    everything = result(inputs, None, {})[1]
    for wanted in ("tex", "uv", "uv_da", "mip_level_bias"):
        leaves = {k: v.clone().requires_grad_(k == wanted) for k, v in inputs.items()}
        out = rg.texture(**leaves)
        g = torch.Generator().manual_seed(99)
        upstream = torch.randn(out.shape, generator=g, dtype=torch.float64)
        upstream[:, 0, 0] = 0
        out.backward(upstream)
        for name, leaf in leaves.items():
            assert (leaf.grad is not None) == (name == wanted)
        d = leaves[wanted].grad
        assert d is not None
        assert torch.equal(d, everything[wanted]), wanted
