# SPDX-License-Identifier: MIT
"""Every way into an operation gives the same numbers: eager, torch.compile, vmap, grad; and refuses what it
cannot do.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.torch_version import TorchVersion

import rastergrad as rg

Case = tuple[Callable[..., Tensor], tuple[Tensor, ...]]


def scene() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    pos = torch.cat([torch.rand(1, 12, 3, generator=g) * 1.6 - 0.8, torch.ones(1, 12, 1)], -1)
    return pos, torch.randint(0, 12, (14, 3), generator=g, dtype=torch.int32)


POS, TRI = scene()
RAST, RAST_DB = rg.rasterize(POS, TRI, (8, 10))
VISIBILITY, _ = rg.rasterize(POS, TRI, (24, 30))
G = torch.Generator().manual_seed(1)
ATTR, COLOR = torch.rand(1, 12, 3, generator=G), torch.rand(1, 8, 10, 3, generator=G)
TEX, UV = torch.rand(1, 8, 8, 2, generator=G), torch.rand(1, 8, 10, 2, generator=G)
UV_DA = torch.rand(1, 8, 10, 4, generator=G) * 0.3
MIP = [torch.rand(1, 4, 4, 2, generator=G), torch.rand(1, 2, 2, 2, generator=G)]
CUBE, DIRECTION = torch.rand(1, 6, 4, 4, 2, generator=G), torch.randn(1, 8, 10, 3, generator=G)
TOPOLOGY = rg.edge_topology(TRI)


def weighted(*tensors: Tensor) -> Tensor:
    """A scalar in which every element has another weight, so that no mistake cancels."""
    total = tensors[0].new_zeros(())
    for k, t in enumerate(tensors):
        total = total + (t * torch.linspace(1, 2 + k, t.numel(), dtype=t.dtype).reshape(t.shape)).sum()
    return total


CASES: dict[str, Case] = {
    "rasterize": (lambda p: weighted(*rg.rasterize(p, TRI, (8, 10))), (POS,)),
    "rasterize_range": (
        lambda p: weighted(*rg.rasterize(p, TRI, (8, 10), ranges=torch.tensor([[0, 5], [3, 9]]))),
        (POS[0],),
    ),
    "rasterize_no_db": (
        lambda p: weighted(*rg.rasterize(p, TRI, (8, 10), db_grad=False, depth_grad=False)),
        (POS,),
    ),
    "interpolate": (lambda a, r, d: weighted(*rg.interpolate(a, r, TRI, d, "all")), (ATTR, RAST, RAST_DB)),
    "interpolate_plain": (lambda a, r: weighted(rg.interpolate(a, r, TRI)[0]), (ATTR, RAST)),
    "texture_nearest": (lambda t: weighted(rg.texture(t, UV, filter_mode="nearest")), (TEX,)),
    "texture_linear": (lambda t, u: weighted(rg.texture(t, u)), (TEX, UV)),
    "texture_trilinear": (lambda t, u, d: weighted(rg.texture(t, u, d)), (TEX, UV, UV_DA)),
    "texture_custom": (
        lambda t, u, d, a, b: weighted(rg.texture(t, u, d, mip=[a, b])),
        (TEX, UV, UV_DA, *MIP),
    ),
    "texture_prebuilt": (
        lambda t, u, d: weighted(rg.texture(t, u, d, mip=rg.build_mipmaps(TEX))),
        (TEX, UV, UV_DA),
    ),
    "texture_background": (lambda t, u, d: weighted(rg.texture(t, u, d, rast=RAST)), (TEX, UV, UV_DA)),
    "texture_cube": (lambda t, u: weighted(rg.texture(t, u, boundary_mode="cube")), (CUBE, DIRECTION)),
    "antialias": (lambda c, p: weighted(rg.antialias(c, RAST, p, TRI)), (COLOR, POS)),
    "antialias_pixel_pair": (
        lambda c, p: weighted(rg.antialias(c, RAST, p, TRI, method="pixel_pair")),
        (COLOR, POS),
    ),
    "antialias_topology": (
        lambda c, p: weighted(rg.antialias(c, RAST, p, TRI, topology=TOPOLOGY)),
        (COLOR, POS),
    ),
    "antialias_visibility": (
        lambda c, p: weighted(rg.antialias(c, RAST, p, TRI, visibility=VISIBILITY)),
        (COLOR, POS),
    ),
    "antialias_visibility_topology": (
        lambda c, p: weighted(rg.antialias(c, RAST, p, TRI, topology=TOPOLOGY, visibility=VISIBILITY)),
        (COLOR, POS),
    ),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def eager(case: Case) -> tuple[Tensor, tuple[Tensor, ...]]:
    function, inputs = case
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    value = function(*leaves)
    return value.detach(), torch.autograd.grad(value, leaves)


@every_case
def test_functorch_grad(case: Case) -> None:
    function, inputs = case
    _, want = eager(case)
    got = torch.func.grad(function, argnums=tuple(range(len(inputs))))(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@every_case
def test_functorch_vmap_of_value_and_gradient(case: Case) -> None:
    function, inputs = case
    value, grads = eager(case)
    batched = [torch.stack([x, x, x], 1) for x in inputs]
    run = torch.func.vmap(torch.func.grad_and_value(function, argnums=tuple(range(len(inputs)))), in_dims=1)
    got_grads, got_value = run(*batched)
    for k in range(3):
        assert torch.equal(got_value[k], value)
        assert all(torch.equal(a[k], b) for a, b in zip(got_grads, grads, strict=True))


@every_case
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own compiler uses what torch deprecates
def test_compile_without_a_graph_break(case: Case) -> None:
    compiled(case, "aot_eager")


@every_case
@pytest.mark.skipif(
    torch.__version__ < TorchVersion("2.13"), reason="torch 2.13 is the first that compiles a mapped operator"
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compile_of_a_vmap(case: Case) -> None:
    function, inputs = case
    value, _ = eager(case)
    torch._dynamo.reset()
    run = torch.compile(torch.func.vmap(function), fullgraph=True, backend="aot_eager")
    got = run(*[torch.stack([x, x]) for x in inputs])
    assert torch.allclose(got, value.expand(2), rtol=1e-5)


# One case per primitive: a compilation by inductor takes seconds.
@pytest.mark.parametrize("name", ["rasterize", "interpolate", "texture_trilinear", "antialias"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compile_with_inductor(name: str) -> None:
    compiled(CASES[name], "inductor")


def compiled(case: Case, backend: str) -> None:
    function, inputs = case
    value, want = eager(case)
    torch._dynamo.reset()
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    got = torch.compile(function, fullgraph=True, backend=backend)(*leaves)
    grads = torch.autograd.grad(got, leaves)
    assert torch.allclose(got, value, rtol=1e-5)  # the sum of `weighted` may be taken in another order
    for a, b in zip(grads, want, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5 * float(b.abs().max()))


@every_case
def test_a_second_derivative_is_refused(case: Case) -> None:
    function, inputs = case
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    grads = torch.autograd.grad(function(*leaves), leaves, create_graph=True)
    with pytest.raises(RuntimeError, match=r"rastergrad\.\w+: a second derivative is not available"):
        torch.autograd.grad(sum(g.sum() for g in grads), leaves)
    with pytest.raises(RuntimeError, match=r"not available"):
        torch.func.hessian(lambda x: function(x, *inputs[1:]))(inputs[0])


@every_case
def test_forward_mode_is_refused(case: Case) -> None:
    function, inputs = case
    with pytest.raises(RuntimeError, match=r"rastergrad\.\w+: forward-mode differentiation is not available"):
        torch.func.jvp(function, inputs, tuple(torch.ones_like(x) for x in inputs))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(inputs[0], torch.ones_like(inputs[0]))
        with pytest.raises(RuntimeError, match=r"forward-mode differentiation is not available"):
            function(dual, *inputs[1:])


@every_case
def test_a_first_derivative_with_create_graph_has_the_same_numbers(case: Case) -> None:
    function, inputs = case
    _, want = eager(case)
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    got = torch.autograd.grad(function(*leaves), leaves, create_graph=True)
    assert all(torch.equal(a.detach(), b) for a, b in zip(got, want, strict=True))


@every_case
def test_nothing_is_recorded_without_need(case: Case) -> None:
    function, inputs = case
    value, _ = eager(case)
    with torch.no_grad():
        assert not function(*[x.clone().requires_grad_() for x in inputs]).requires_grad
    assert not function(*inputs).requires_grad
    with torch.inference_mode():
        assert torch.equal(function(*inputs), value)


@every_case
def test_unused_gradients_are_left_away(case: Case) -> None:
    """Asking for one input's gradient gives what asking for all gives."""
    function, inputs = case
    _, want = eager(case)
    for k in range(len(inputs)):
        leaves = [x.detach().clone().requires_grad_(i == k) for i, x in enumerate(inputs)]
        (got,) = torch.autograd.grad(function(*leaves), [leaves[k]])
        assert torch.equal(got, want[k])
