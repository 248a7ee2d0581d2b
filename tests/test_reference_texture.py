# SPDX-License-Identifier: MIT
"""The oracle of texture against numbers worked out by hand, finite differences and the golden cases."""

import importlib.util
from pathlib import Path

import pytest
import torch

from rastergrad.ops.texture.reference import build_mipmaps, texture

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"
NO_GOLDEN = "the golden files are not there (expected in ../shared/golden, beside the checkout)"
GOLDEN_CASES = sorted(path.stem for path in GOLDEN.glob("t*.npz"))

NAN, INF = float("nan"), float("inf")
FILTERS = ("nearest", "linear", "linear-mipmap-nearest", "linear-mipmap-linear")
BOUNDARIES = ("wrap", "clamp", "zero", "cube")
TRILINEAR = "linear-mipmap-linear"


class Golden:
    """What the golden runner calls; in the library behind them circular footprints have no gradient."""

    @staticmethod
    def texture(
        tex,
        uv,
        uv_da=None,
        mip_level_bias=None,
        mip=None,
        filter_mode="auto",
        boundary_mode="wrap",
        max_mip_level=None,
    ):
        return texture(
            tex,
            uv,
            uv_da,
            mip_level_bias,
            mip,
            filter_mode=filter_mode,
            boundary_mode=boundary_mode,
            max_mip_level=max_mip_level,
            circular_gradient=False,
        )


@pytest.mark.skipif(not GOLDEN_CASES, reason=NO_GOLDEN)
@pytest.mark.parametrize("case", GOLDEN_CASES)
def test_golden(case):
    spec = importlib.util.spec_from_file_location("golden_loader", GOLDEN / "golden_loader.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.run(Golden, None, only=case, verbose=False) == []


def tensor(x):
    return torch.tensor(x, dtype=torch.float64)


def look_up(tex, points, filter_mode="linear", boundary_mode="wrap", **options):
    """Values [P, C] at a list of P coordinates; options are [P, ...] lists."""
    rows = {k: tensor(v)[None, None] for k, v in options.items() if k in ("uv_da", "mip_level_bias")}
    rest = {k: v for k, v in options.items() if k not in rows}
    uv = tensor(points)[None, None]
    return texture(tex, uv, filter_mode=filter_mode, boundary_mode=boundary_mode, **rows, **rest)[0, 0]


# -------------------------------------------------------------------------------- bilinear on a plane

# Four columns, two rows, one channel: row 0 is 0 1 2 3 (times 10), row 1 is 100 more
PLANE = (tensor([[0, 10, 20, 30], [100, 110, 120, 130]]))[None, :, :, None]


@pytest.mark.parametrize("boundary", ["wrap", "clamp", "zero"])
@pytest.mark.parametrize("filter_mode", ["nearest", "linear"])
def test_texel_centres_return_the_texel(filter_mode, boundary):
    centres = [((i + 0.5) / 4, (j + 0.5) / 2) for j in range(2) for i in range(4)]
    got = look_up(PLANE, centres, filter_mode, boundary).flatten()
    assert got.tolist() == PLANE.flatten().tolist()


@pytest.mark.parametrize(
    ("boundary", "s", "want"),
    [
        ("wrap", 0.0, 15),  # half of column 0 and half of column 3
        ("wrap", 1.0, 15),
        ("wrap", 0.25, 5),
        ("wrap", 1.25, 5),
        ("wrap", -0.125, 30),
        ("wrap", 1 / 16, 7.5),  # a quarter of a texel left of the centre: 3/4 * 0 + 1/4 * 30
        ("clamp", 0.0, 0),
        ("clamp", -7.0, 0),
        ("clamp", 1.0, 30),
        ("clamp", 9.0, 30),
        ("clamp", 0.5, 15),
        ("zero", 1.0, 15),  # half a texel outside: half of 30
        ("zero", 1.0625, 7.5),
        ("zero", 1.125, 0),
        ("zero", 5.0, 0),
        ("zero", -5.0, 0),
    ],
)
def test_linear_at_borders(boundary, s, want):
    assert look_up(PLANE, [(s, 0.25)], "linear", boundary).item() == pytest.approx(want, abs=1e-12)
    # The same along rows
    turned = PLANE.transpose(1, 2)
    assert look_up(turned, [(0.25, s)], "linear", boundary).item() == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize(
    ("boundary", "s", "want"),
    [
        ("wrap", 0.25, 10),
        ("wrap", 0.2499999, 0),
        ("wrap", -0.01, 30),
        ("wrap", 2.6, 20),
        ("wrap", -1e-30, 30),  # s - floor(s) rounds to 1: index 4 is clamped to 3
        ("clamp", -0.01, 0),
        ("clamp", 1.0, 30),
        ("zero", 1.0, 0),
        ("zero", -0.01, 0),
        ("zero", 0.999, 30),
    ],
)
def test_nearest_at_borders(boundary, s, want):
    assert look_up(PLANE, [(s, 0.25)], "nearest", boundary).item() == want


def test_clamp_has_no_gradient_at_and_beyond_the_border_centres():
    s = tensor([-1.0, 0.0, 0.125, 0.125 + 1e-9, 0.875 - 1e-9, 0.875, 1.0, 3.0])
    uv = torch.stack([s, torch.full_like(s, 0.5)], 1)[None, None].requires_grad_()
    texture(PLANE, uv, filter_mode="linear", boundary_mode="clamp").sum().backward()
    # 10 per texel of 1/4 in s; 100 per texel of 1/2 in t
    assert uv.grad[0, 0, :, 0].tolist() == pytest.approx([0, 0, 0, 40, 40, 0, 0, 0])
    assert uv.grad[0, 0, :, 1].tolist() == pytest.approx([200] * 8)


# -------------------------------------------------------------------------------- level selection


def level_stack(width, height, levels):
    """A texture of zeros whose level k is the constant k: its trilinear value is the level itself."""
    sizes = [(max(1, height >> k), max(1, width >> k)) for k in range(1, levels + 1)]
    mip = [torch.full((1, h, w, 1), float(k), dtype=torch.float64) for k, (h, w) in enumerate(sizes, 1)]
    return torch.zeros(1, height, width, 1, dtype=torch.float64), mip


@pytest.mark.parametrize(
    ("texels", "want"),
    [
        # (sX, sY, tX, tY) in texels
        ((2, 0, 0, 1), 1.0),  # axis-aligned: the longer axis counts
        ((1, 0, 0, 4), 2.0),
        ((0, 4, 1, 0), 2.0),  # turned by 90 degrees
        ((3, 0, 4, 0), 2.321928094887362),  # rank one: length 5, log2 5
        ((3, -4, 4, 3), 2.321928094887362),  # a circle of radius 5
        ((1, 1, 0, 1), 0.694241913630617),  # shear: the golden ratio's log2
        ((0.5, 0, 0, 0.5), 0.0),  # magnification
        ((1e6, 0, 0, 0), 4.0),  # beyond the last level
        ((0, 0, 0, 0), 0.0),
        ((INF, INF, 0, 0), 0.0),  # inf - inf: NaN counts as 0
        ((NAN, 0, 0, 0), 0.0),
    ],
)
@pytest.mark.parametrize(("width", "height"), [(16, 16), (32, 16)])
def test_level_of_known_footprints(texels, want, width, height):
    tex, mip = level_stack(width, height, 4)
    da = [t / side for t, side in zip(texels, (width, width, height, height))]
    got = look_up(tex, [(0.3, 0.6)], TRILINEAR, uv_da=[da], mip=mip).item()
    assert got == pytest.approx(want, abs=1e-12)
    floor = look_up(tex, [(0.3, 0.6)], "linear-mipmap-nearest", uv_da=[da], mip=mip).item()
    assert floor == int(want + 1e-12)


def test_level_bias():
    tex, mip = level_stack(16, 16, 4)
    bias = [-1.0, 0.0, 0.25, 1.75, 4.0, 9.0, NAN, INF, -INF]
    points = [(0.5, 0.5)] * len(bias)
    got = look_up(tex, points, TRILINEAR, mip_level_bias=bias, mip=mip).flatten().tolist()
    assert got == pytest.approx([0, 0, 0.25, 1.75, 4, 4, 0, 4, 0], abs=1e-12)
    got = look_up(tex, points, "linear-mipmap-nearest", mip_level_bias=bias, mip=mip).flatten().tolist()
    assert got == [0, 0, 0, 1, 4, 4, 0, 4, 0]
    two = [[2 / 16, 0, 0, 0]] * len(bias)
    got = look_up(tex, points, TRILINEAR, uv_da=two, mip_level_bias=bias, mip=mip).flatten().tolist()
    assert got == pytest.approx([0, 1, 1.25, 2.75, 4, 4, 0, 4, 0], abs=1e-12)
    # No bias lifts a footprint of zero
    none = [[0, 0, 0, 0]] * len(bias)
    got = look_up(tex, points, TRILINEAR, uv_da=none, mip_level_bias=bias, mip=mip).flatten().tolist()
    assert got == [0] * len(bias)


def test_level_gradient_is_zero_where_the_level_is_an_integer_or_clamped():
    tex, mip = level_stack(16, 16, 4)
    bias = tensor([-1.0, 0.0, 1.0, 1.5, 4.0, 9.0])[None, None].requires_grad_()
    uv = torch.full((1, 1, 6, 2), 0.5, dtype=torch.float64)
    out = texture(tex, uv, mip_level_bias=bias, mip=mip, filter_mode=TRILINEAR, boundary_mode="wrap")
    out.sum().backward()
    assert bias.grad.flatten().tolist() == [0, 0, 0, 1, 0, 0]


@pytest.mark.parametrize("side", [INF, -INF, NAN, 1e200, 0.0])
def test_a_footprint_without_derivative_gets_no_gradient(side):
    tex, mip = level_stack(16, 16, 4)
    da = tensor([[[[side, 0.1 * bool(side), 0.0, 0.0]]]]).requires_grad_()
    uv = tensor([[[[0.5, 0.5]]]]).requires_grad_()
    out = texture(tex, uv, da, mip=mip, filter_mode=TRILINEAR, boundary_mode="wrap")
    assert out.item() in (0.0, 4.0)
    assert not any(g.any() for g in torch.autograd.grad(out.sum(), [uv, da]))


def test_an_integer_level_touches_no_other_level():
    tex, (first, second) = level_stack(4, 4, 2)
    mip = [torch.full_like(first, INF), torch.full_like(second, NAN).requires_grad_()]
    out = look_up(tex, [(0.5, 0.5)] * 2, TRILINEAR, mip_level_bias=[0.0, 1.0], mip=mip)
    assert out.flatten().tolist() == [0, INF]
    assert not torch.autograd.grad(out.sum(), mip[1])[0].any()


def test_max_mip_level_zero_means_linear():
    tex, da = torch.rand(1, 5, 7, 2, dtype=torch.float64), [[0.5, 0, 0, 0.5]]
    for filter_mode in ("linear-mipmap-nearest", TRILINEAR):
        got = look_up(tex, [(0.3, 0.8)], filter_mode, uv_da=da, max_mip_level=0)
        assert torch.equal(got, look_up(tex, [(0.3, 0.8)]))


@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_circular_footprint_has_the_mean_of_the_one_sided_derivatives(angle):
    generator = torch.Generator().manual_seed(5)
    tex = torch.rand(1, 16, 8, 2, dtype=torch.float64, generator=generator)
    uv = tensor([[[[0.31, 0.47]]]])
    # A circle of 2.7 texels; the turned one is circular exactly, as a^2 + b^2 commutes and a b - a b cancels
    a, b = 2.7 * torch.cos(tensor(angle)), 2.7 * torch.sin(tensor(angle))
    da = (torch.stack([a, -b, b, a]) / tensor([8, 8, 16, 16]))[None, None, None].requires_grad_()

    def loss(da, **options):
        out = texture(tex, uv, da, filter_mode=TRILINEAR, boundary_mode="wrap", max_mip_level=3, **options)
        return (out * tensor([1.0, -3.0])).sum()

    (native,) = torch.autograd.grad(loss(da), da)
    # Beside a cone's apex the central difference is wrong by a term in e |e|, hence by the step (times 3)
    step = 1e-7 * torch.eye(4, dtype=torch.float64).reshape(4, 1, 1, 1, 4)
    central = torch.stack([(loss(da + e) - loss(da - e)) / 2e-7 for e in step]).detach()
    torch.testing.assert_close(native.flatten(), central, rtol=1e-6, atol=1e-6)
    (compat,) = torch.autograd.grad(loss(da, circular_gradient=False), da)
    assert not compat.any()


# -------------------------------------------------------------------------------- mip stacks


def test_mip_levels_are_means_of_2x2_blocks():
    tex = torch.arange(16.0).double().reshape(1, 2, 8, 1)
    levels = build_mipmaps(tex, None, cube=False)
    assert [tuple(x.shape) for x in levels] == [(1, 1, 4, 1), (1, 1, 2, 1), (1, 1, 1, 1)]
    assert levels[0].flatten().tolist() == [4.5, 6.5, 8.5, 10.5]  # (0+1+8+9)/4, ...
    assert levels[1].flatten().tolist() == [5.5, 9.5]  # pairs, once a side is 1
    assert levels[2].flatten().tolist() == [7.5]


def test_mip_levels_of_a_column():
    levels = build_mipmaps(torch.arange(4.0).reshape(1, 4, 1, 1), None, cube=False)
    assert [x.flatten().tolist() for x in levels] == [[0.5, 2.5], [1.5]]


def test_mip_faces_are_averaged_separately():
    tex = torch.arange(6.0).reshape(1, 6, 1, 1, 1).expand(1, 6, 4, 4, 1)
    levels = build_mipmaps(tex, None, cube=True)
    assert [tuple(x.shape) for x in levels] == [(1, 6, 2, 2, 1), (1, 6, 1, 1, 1)]
    assert levels[1].flatten().tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("limit", [3, None])
def test_an_odd_side_fails_only_when_another_level_is_due(limit):
    tex = torch.zeros(1, 12, 20, 1)
    assert [tuple(x.shape[1:3]) for x in build_mipmaps(tex, 2, cube=False)] == [(6, 10), (3, 5)]
    with pytest.raises(RuntimeError, match=r"12x20 -> 6x10 -> 3x5.*max_mip_level=2"):
        build_mipmaps(tex, limit, cube=False)


def test_a_limit_beyond_1x1_is_harmless():
    assert len(build_mipmaps(torch.zeros(1, 4, 4, 1), 99, cube=False)) == 2
    assert build_mipmaps(torch.zeros(1, 1, 1, 1), None, cube=False) == []
    with pytest.raises(RuntimeError, match="1x3"):
        build_mipmaps(torch.zeros(1, 1, 3, 1), None, cube=False)


def test_level_gradients_flow_to_tex_only_through_a_stack_built_inside():
    tex = torch.rand(1, 4, 4, 1, dtype=torch.float64, requires_grad=True)
    uv, bias = tensor([[[[0.5, 0.5]]]]), tensor([[[2.0]]])
    run = {"filter_mode": TRILINEAR, "boundary_mode": "wrap"}
    (inside,) = torch.autograd.grad(texture(tex, uv, None, bias, **run).sum(), tex)
    torch.testing.assert_close(inside, torch.full_like(inside, 1 / 16))
    mip = [torch.rand(1, k, k, 1, dtype=torch.float64, requires_grad=True) for k in (2, 1)]
    outside = torch.autograd.grad(texture(tex, uv, None, bias, mip, **run).sum(), [tex, *mip])
    assert not outside[0].any()
    assert not outside[1].any()
    assert outside[2].item() == 1.0


# -------------------------------------------------------------------------------- cubes

# For each face: the direction of its centre, of growing columns and of growing rows
CUBE_FACES = [
    ("+x", "-z", "-y"),
    ("-x", "+z", "-y"),
    ("+y", "+x", "+z"),
    ("-y", "+x", "-z"),
    ("+z", "+x", "-y"),
    ("-z", "-x", "-y"),
]


def unit(name):
    return tensor([float(axis == name[1]) * (1 if name[0] == "+" else -1) for axis in "xyz"])


@pytest.mark.parametrize(
    ("filter_mode", "size"),
    # A linear look-up on 1x1 faces never returns one texel
    [("nearest", 1), ("nearest", 3), ("nearest", 4), ("linear", 2), ("linear", 3), ("linear", 4)],
)
def test_cube_face_order_and_orientation(filter_mode, size):
    tex = torch.arange(6.0 * size * size).double().reshape(1, 6, size, size, 1)
    points = [
        (unit(n) + unit(s) * ((2 * i + 1) / size - 1) + unit(t) * ((2 * j + 1) / size - 1)) * 0.37
        for n, s, t in CUBE_FACES
        for j in range(size)
        for i in range(size)
    ]
    got = look_up(tex, torch.stack(points).tolist(), filter_mode, "cube")
    torch.testing.assert_close(got.flatten(), tex.flatten(), rtol=0, atol=1e-9)


def test_cube_ties_prefer_x_over_y_over_z():
    tex = torch.arange(6.0).double().reshape(1, 6, 1, 1, 1)
    points = [(1, 1, 1), (-1, 1, 1), (0.2, 1, 1), (0.2, -1, 1), (0.2, 0.2, -1)]
    assert look_up(tex, points, "nearest", "cube").flatten().tolist() == [0, 1, 2, 3, 5]


def test_cube_edges_blend_the_touching_texels():
    size = 4
    tex = torch.arange(6.0 * size * size).double().reshape(1, 6, size, size, 1)
    x, y, z_neg = tex[0, 0, ..., 0], tex[0, 2, ..., 0], tex[0, 5, ..., 0]
    inner = [1, 2]  # texels away from the corners
    across = {k: (2 * k + 1) / size - 1 for k in inner}
    # Right edge of +x, left edge of -z: same rows. Top edge of +x, right edge of +y: columns against rows
    right = look_up(tex, [(1, -across[j], -1) for j in inner], "linear", "cube").flatten().tolist()
    assert right == pytest.approx([(x[j, 3] + z_neg[j, 0]).item() / 2 for j in inner])
    top = look_up(tex, [(1, 1, -across[i]) for i in inner], "linear", "cube").flatten().tolist()
    assert top == pytest.approx([(x[0, i] + y[3 - i, 3]).item() / 2 for i in inner])


def test_cube_corner_is_the_mean_of_three_texels():
    tex = torch.rand(1, 6, 4, 4, 1, dtype=torch.float64, requires_grad=True)
    out = look_up(tex, [(1, 1, 1)], "linear", "cube")
    # The corner (1, 1, 1): +x row 0 column 0, +y row 3 column 3, +z row 0 column 3
    touching = [(0, 0, 0, 0, 0), (0, 2, 3, 3, 0), (0, 4, 0, 3, 0)]
    assert out.item() == pytest.approx(sum(tex[k].item() for k in touching) / 3)
    out.sum().backward()
    want = torch.zeros_like(tex)
    for k in touching:
        want[k] = 1 / 3
    torch.testing.assert_close(tex.grad, want)


def test_cube_of_1x1_faces():
    tex = tensor([1, 2, 4, 8, 16, 32]).reshape(1, 6, 1, 1, 1)
    x, y, z = 1.0, 4.0, 16.0
    # +x at (1, 0.2, 0.4): 0.1 of a texel towards +y, 0.2 towards +z; the fourth texel is (x + y + z) / 3
    want = 0.8 * 0.9 * x + 0.8 * 0.1 * y + 0.2 * 0.9 * z + 0.2 * 0.1 * (x + y + z) / 3
    got = look_up(tex, [(1, 0.2, 0.4), (3, 3, 3)], "linear", "cube").flatten().tolist()
    assert got == pytest.approx([want, 7.0])


@pytest.mark.parametrize("size", [1, 2, 5])
def test_cube_is_continuous_across_every_edge_and_corner(size):
    generator = torch.Generator().manual_seed(size)
    tex = torch.rand(1, 6, size, size, 2, dtype=torch.float64, generator=generator)
    along = torch.linspace(-1, 1, 23, dtype=torch.float64)
    for fixed in range(3):
        for first in (-1.0, 1.0):
            for second in (-1.0, 1.0):
                point = torch.empty(23, 3, dtype=torch.float64)
                point[:, fixed] = along
                point[:, (fixed + 1) % 3], point[:, (fixed + 2) % 3] = first, second
                sides = []
                for axis in (1, 2):
                    near = point.clone()
                    near[:, (fixed + axis) % 3] *= 1 + 1e-9  # now the longest component
                    sides.append(look_up(tex, near.tolist(), "linear", "cube"))
                torch.testing.assert_close(sides[0], sides[1], rtol=0, atol=1e-7)


def test_cube_corners_are_right_for_every_image():
    generator = torch.Generator().manual_seed(3)
    tex = torch.rand(3, 6, 4, 4, 2, dtype=torch.float64, generator=generator)
    corners = tensor([[x, y, z] for x in (-1, 1.1) for y in (-1.05, 1) for z in (-1, 0.99)])
    uv = corners[None, None].expand(3, 1, 8, 3)
    got = texture(tex, uv, filter_mode="linear", boundary_mode="cube")
    for n in range(3):
        alone = texture(tex[n : n + 1], uv[:1], filter_mode="linear", boundary_mode="cube")
        assert torch.equal(got[n], alone[0])


@pytest.mark.parametrize("filter_mode", FILTERS)
def test_meaningless_directions_give_zero(filter_mode):
    tex = torch.ones(1, 6, 4, 4, 1, requires_grad=True)
    rows = [(0, 0, 0), (NAN, 1, 0), (1, NAN, 0), (INF, -INF, 0), (INF, 1, NAN), (1e-42, 0, 0), (2e-39, 0, 0)]
    uv = torch.tensor(rows)[None, None].requires_grad_()
    bias = torch.full((1, 1, len(rows)), 0.5, requires_grad=True)
    da = torch.full((1, 1, len(rows), 6), NAN, requires_grad=True)
    for given in ({"uv_da": da}, {"mip_level_bias": bias}):
        out = texture(tex, uv, filter_mode=filter_mode, boundary_mode="cube", **given)
        assert not out.any()
        leaves = [tex, uv, *given.values()]
        gradients = torch.autograd.grad(out.sum(), leaves, allow_unused=True)
        assert not any(g.any() for g in gradients if g is not None)
    # In float64 the reciprocal of 1e-42 is an ordinary number
    assert texture(tex, uv.double(), filter_mode="linear", boundary_mode="cube")[0, 0, 5] == 1


def test_a_cube_gradient_beyond_the_callers_precision_is_dropped():
    tex = torch.arange(54.0).reshape(1, 6, 3, 3, 1)
    uv = torch.tensor([[[(1e-38, 2e-39, 3e-39), (1.0, 0.2, 0.3)]]]).requires_grad_()
    out = texture(tex, uv, filter_mode="linear", boundary_mode="cube")
    assert out[0, 0, 0].item() == pytest.approx(out[0, 0, 1].item(), rel=1e-5)
    out.sum().backward()
    assert uv.grad[0, 0, 0].tolist() == [0, 0, 0]
    assert uv.grad[0, 0, 1].all()


def test_one_infinite_component_looks_up_the_centre_of_the_face():
    tex = torch.arange(54.0).reshape(1, 6, 3, 3, 1)
    uv = torch.tensor([[[(INF, 1, 0), (5, -INF, 2), (0, 0, INF)]]]).requires_grad_()
    out = texture(tex, uv, filter_mode="linear", boundary_mode="cube")
    assert out.flatten().tolist() == [4, 3 * 9 + 4, 4 * 9 + 4]
    out.sum().backward()
    assert not uv.grad.any()
    # At infinity every step is nothing: the footprint is zero, the level 0
    da, mip = torch.full((1, 1, 3, 6), 2.0, requires_grad=True), [torch.full((1, 6, 1, 1, 1), 99.0)]
    fine = texture(tex, uv, da, mip=mip, filter_mode=TRILINEAR, boundary_mode="cube")
    assert torch.equal(fine, out)
    assert not torch.autograd.grad(fine.sum(), da)[0].any()


# -------------------------------------------------------------------------------- gradients


def smooth_inputs(filter_mode, boundary, seed=0):
    """Inputs in the middle of texel cells and between levels: (tex, uv, uv_da, bias), float64."""
    generator = torch.Generator().manual_seed(seed)
    cube = boundary == "cube"
    tex = torch.rand(2, *((6, 4, 4) if cube else (8, 4)), 2, dtype=torch.float64, generator=generator)
    shape = (2, 1, 4, 3 if cube else 2)
    uv = torch.randn(shape, dtype=torch.float64, generator=generator)
    da = torch.randn(*shape[:3], 2 * shape[3], dtype=torch.float64, generator=generator) * (
        0.6 if cube else 0.4
    )
    bias = torch.rand(shape[:3], dtype=torch.float64, generator=generator) * 0.2 - 0.3
    return [x.requires_grad_() for x in (tex, uv, da, bias)]


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("filter_mode", FILTERS)
def test_gradcheck(filter_mode, boundary):
    def run(tex, uv, da, bias):
        return texture(tex, uv, da, bias, filter_mode=filter_mode, boundary_mode=boundary)

    inputs = smooth_inputs(filter_mode, boundary)
    if boundary == "cube":  # one image, one channel: the time goes with the square of the texels
        inputs = [x[:1].detach().requires_grad_() for x in (inputs[0][..., :1], *inputs[1:])]
    assert torch.autograd.gradcheck(run, inputs)
    gradients = torch.autograd.grad(run(*inputs).square().sum(), inputs, allow_unused=True)
    # The table of docs/conventions.md
    receives = [g is not None and bool(g.any()) for g in gradients]
    assert receives == [True, filter_mode != "nearest", filter_mode == TRILINEAR, filter_mode == TRILINEAR]


def test_cube_uv_gradient_includes_the_footprint():
    tex, uv, da, bias = smooth_inputs(TRILINEAR, "cube")
    with_footprint = texture(tex, uv, da, bias, filter_mode=TRILINEAR, boundary_mode="cube")
    (g,) = torch.autograd.grad(with_footprint.sum(), uv)
    # Along the direction itself the look-up is constant, but the footprint shrinks: level = const - log2 |d|
    assert ((g * uv.detach()).sum(-1).abs() > 1e-3).any()
    without = texture(tex, uv, None, bias + 1, filter_mode=TRILINEAR, boundary_mode="cube")
    (g,) = torch.autograd.grad(without.sum(), uv)
    torch.testing.assert_close((g * uv.detach()).sum(-1), torch.zeros(2, 1, 4, dtype=torch.float64))


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("filter_mode", FILTERS)
def test_zero_upstream_keeps_nan_out(filter_mode, boundary):
    tex, uv, da, bias = smooth_inputs(filter_mode, boundary)
    for x in (uv, da, bias):
        with torch.no_grad():
            x[0, 0, 1] = NAN
    out = texture(tex, uv, da, bias, filter_mode=filter_mode, boundary_mode=boundary)
    upstream = torch.ones_like(out)
    upstream[0, 0, 1] = -0.0
    gradients = torch.autograd.grad(out, [tex, uv, da, bias], upstream, allow_unused=True)
    assert all(g.isfinite().all() for g in gradients if g is not None)
    assert all(not g[0, 0, 1].any() for g in gradients[1:] if g is not None)
    assert gradients[0].any()


def test_nan_and_infinite_coordinates():
    tex = torch.rand(1, 4, 8, 2, dtype=torch.float64, requires_grad=True)
    for boundary in ("wrap", "clamp", "zero"):
        nearest = look_up(tex, [(NAN, 0.3)], "nearest", boundary)
        assert torch.equal(nearest[0], tex[0, 1, 0])
    uv = tensor([[[[NAN, 0.375]]]]).requires_grad_()
    clamped = texture(tex, uv, filter_mode="linear", boundary_mode="clamp")
    assert torch.equal(clamped[0, 0, 0], tex[0, 1, 0])
    assert torch.autograd.grad(clamped.sum(), uv)[0][0, 0, 0, 0] == 0
    # An infinite coordinate lies outside
    far = tensor([[[[INF, 0.375], [0.3, -INF]]]]).requires_grad_()
    outside = texture(tex, far, filter_mode="linear", boundary_mode="zero")
    assert not outside.any()
    assert not torch.autograd.grad(outside.sum(), far)[0].any()
    for boundary in ("wrap", "zero"):
        out = texture(tex, uv, filter_mode="linear", boundary_mode=boundary)
        assert out.isnan().all()
        (g,) = torch.autograd.grad(out.sum(), uv)
        assert g.isfinite().flatten().tolist() == [True, False]
        # NaN counts as cell 0: columns 0 and 1 of rows 1 and 2 are touched
        touched = torch.autograd.grad(look_up(tex, [(NAN, 0.375)], "linear", boundary).sum(), tex)[0]
        assert touched[0, ..., 0].isnan().nonzero().tolist() == [[1, 0], [1, 1], [2, 0], [2, 1]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("filter_mode", FILTERS)
def test_hostile_coordinates_never_leave_the_texture(filter_mode, boundary, dtype):
    """An index out of the table raises IndexError, so that getting through is the assertion."""
    values = [0.0, -0.0, NAN, INF, -INF, 2.0**31, -(2.0**31), 2.0**63, -(2.0**63), 3e38, -3e38, 1e-45, 0.5]
    wide = 3 if boundary == "cube" else 2
    uv = torch.cartesian_prod(*[torch.tensor(values, dtype=dtype)] * wide)[None, None].requires_grad_()
    count = uv.shape[2]
    tex = torch.rand(1, *((6, 4, 4) if wide == 3 else (4, 8)), 2, dtype=dtype, requires_grad=True)
    cycle = torch.tensor(values, dtype=dtype).repeat(count * 2 * wide // len(values) + 1)
    da = cycle[: count * 2 * wide].reshape(1, 1, count, 2 * wide).clone().requires_grad_()
    bias = cycle[5 : count + 5].reshape(1, 1, count).clone().requires_grad_()
    out = texture(tex, uv, da, bias, filter_mode=filter_mode, boundary_mode=boundary)
    out.sum().backward()
    in_range = out[out.isfinite()]
    assert in_range.numel()
    assert in_range.min() >= 0
    assert in_range.max() <= 1
    if boundary in ("clamp", "cube"):
        assert out.isfinite().all()


# -------------------------------------------------------------------------------- shapes and types


@pytest.mark.parametrize("boundary", ["wrap", "clamp", "cube"])
@pytest.mark.parametrize("filter_mode", FILTERS)
def test_a_constant_texture_stays_constant(filter_mode, boundary):
    tex, uv, da, bias = smooth_inputs(filter_mode, boundary)
    tex = torch.full_like(tex, 0.7)
    out = texture(tex, uv, da, bias, filter_mode=filter_mode, boundary_mode=boundary)
    torch.testing.assert_close(out, torch.full_like(out, 0.7), rtol=1e-12, atol=0)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("filter_mode", FILTERS)
def test_broadcast_texture_equals_its_copies(filter_mode, boundary):
    tex, uv, da, bias = smooth_inputs(filter_mode, boundary)
    tex = tex[:1].detach().requires_grad_()
    run = {"filter_mode": filter_mode, "boundary_mode": boundary}
    one = texture(tex, uv, da, bias, **run)
    two = texture(tex.expand(2, *tex.shape[1:]), uv, da, bias, **run)
    assert torch.equal(one, two)
    weights = torch.arange(float(one.numel())).double().reshape(one.shape)
    g1, g2 = (torch.autograd.grad((x * weights).sum(), tex)[0] for x in (one, two))
    torch.testing.assert_close(g1, g2, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("filter_mode", FILTERS)
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_empty_queries(filter_mode, boundary):
    tex, uv, da, bias = (x[:0] for x in smooth_inputs(filter_mode, boundary))
    for base in (tex, torch.zeros(1, *tex.shape[1:])):
        out = texture(base, uv, da, bias, filter_mode=filter_mode, boundary_mode=boundary)
        assert out.shape == (0, 1, 4, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_results_and_gradients_keep_the_dtype(dtype):
    inputs = [x.detach().to(dtype).requires_grad_() for x in smooth_inputs(TRILINEAR, "wrap")]
    out = texture(*inputs, filter_mode=TRILINEAR, boundary_mode="wrap")
    gradients = torch.autograd.grad(out.sum(), inputs)
    assert out.dtype == dtype
    assert all(g.dtype == dtype for g in gradients)
    exact = texture(*(x.double() for x in inputs), filter_mode=TRILINEAR, boundary_mode="wrap")
    assert torch.equal(out, exact.to(dtype))
