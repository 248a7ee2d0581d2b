# SPDX-License-Identifier: MIT
"""Recover a shape from silhouettes and normals, beginning with a sphere.

From images of four channels (normal and mask) of a mesh seen from all sides, as remeshing programs render
them: `grad_db=False`, `pos_gradient_boost`. Vertices move by Adam in the parameterisation of Nicolet et al.
2021, "Large steps in inverse rendering of geometry": u = (I + lambda L) v, so that a step moves
neighbourhoods. `--mesh FILE` loads another target; by default a duck if the package deodr is installed,
else a made-up head. Printed is the mean distance between the surfaces, in percent of the target's bounding
box.
"""

import importlib.util
from pathlib import Path

import nvdiffrast.torch as dr
import torch
from common import arguments, clip, curve, icosphere, perspective, posed, random_turns, rotations, save

args = arguments(
    "07_shape_recovery",
    __doc__,
    iterations=(600, 120),
    views=(12, 6),
    resolution=(256, 96),
    level=(4, 3),
    smoothness=(12, 12),
)
glctx = dr.RasterizeCudaContext()
camera = perspective(40.0)


def made_up() -> tuple[torch.Tensor, torch.Tensor]:
    """A head of sorts: a sphere with a nose, a chin, and two ears."""
    v, f = icosphere(args.level + 1)
    radius = 1 + 0.1 * (v[:, 1:2] * 2).sin()
    for to, height, width in (
        ((0, -0.1, 1), 0.35, 12),
        ((0, -0.9, 0.6), 0.2, 8),
        ((1, 0.1, 0), 0.25, 20),
        ((-1, 0.1, 0), 0.25, 20),
    ):
        axis = torch.nn.functional.normalize(torch.tensor(to, dtype=torch.float32), dim=0).cuda()
        radius = radius + height * ((v @ axis - 1) * width).exp()[:, None]
    return v * radius * torch.tensor([0.8, 1.0, 0.9], device="cuda"), f


def loaded(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    import trimesh

    mesh = trimesh.load(path, force="mesh", process=True)
    return torch.tensor(mesh.vertices, dtype=torch.float32).cuda(), torch.tensor(mesh.faces).cuda()


duck = importlib.util.find_spec("deodr")
path = Path(duck.submodule_search_locations[0]) / "data" / "duck.obj" if duck and not args.small else None
target_v, target_f = loaded(path) if path is not None and path.exists() else made_up()
low, high = target_v.amin(0), target_v.amax(0)
target_v = (target_v - (low + high) / 2) / (high - low).norm() * 2


def vertex_normals(v: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
    corners = v[f.long()]
    flat = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return torch.nn.functional.normalize(
        torch.zeros_like(v).index_add_(0, f.long().flatten(), flat.repeat_interleave(3, 0)), dim=1
    )


def render(v: torch.Tensor, f: torch.Tensor, views: torch.Tensor) -> torch.Tensor:
    """Normals in 0..1 and the mask, [n, H, W, 4]."""
    pos = clip(views, v)
    rast, _ = dr.rasterize(glctx, pos, f, (args.resolution, args.resolution), grad_db=False)
    normal, _ = dr.interpolate((vertex_normals(v, f) + 1) / 2, rast, f)
    mask = (rast[..., 3:] > 0).float()
    return dr.antialias(torch.cat([normal * mask, mask], -1), rast, pos, f, pos_gradient_boost=3.0)


start, tri = icosphere(args.level)
start = start * 0.6
edges = torch.cat(
    [tri[:, [0, 1]], tri[:, [1, 2]], tri[:, [2, 0]]]
).long()  # each in one direction: the mesh is closed
laplacian = torch.zeros(len(start), len(start), device="cuda").index_put_(
    (edges[:, 0], edges[:, 1]), torch.tensor(-1.0).cuda()
)
laplacian.diagonal().copy_(-laplacian.sum(1))
system = torch.eye(len(start), device="cuda") + args.smoothness * laplacian
smooth = torch.linalg.inv(system)  # a few thousand vertices; for more, factor the sparse matrix
u = torch.nn.Parameter(system @ start)
moment, second = torch.zeros_like(u), torch.zeros((), device="cuda")
losses = []
for it in range(args.iterations):
    v = smooth @ u
    views = camera @ posed(random_turns(args.views), 3.0)
    with torch.no_grad():
        target = render(target_v, target_f, views)
    loss = (render(v, tri, views) - target).abs().mean()
    (gradient,) = torch.autograd.grad(loss, u)
    with torch.no_grad():  # Adam with one step size for all vertices, as the parameterisation wants it
        moment.lerp_(gradient, 0.1)
        second.lerp_(gradient.abs().max() ** 2, 0.01)
        rate = 2e-2 * 0.1 ** (it / args.iterations)
        u -= (
            rate
            * (moment / (1 - 0.9 ** (it + 1)))
            / (second / (1 - 0.99 ** (it + 1))).sqrt().clamp(min=1e-12)
        )
    losses.append(loss.item())


def samples(v: torch.Tensor, f: torch.Tensor, count: int) -> torch.Tensor:
    """Points of the surface, evenly by area."""
    corners = v[f.long()]
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
    chosen = corners[torch.multinomial(area, count, replacement=True)]
    a, b = torch.rand(2, count, 1, device="cuda")
    a, b = torch.where(a + b > 1, 1 - a, a), torch.where(a + b > 1, 1 - b, b)
    return chosen[:, 0] + a * (chosen[:, 1] - chosen[:, 0]) + b * (chosen[:, 2] - chosen[:, 0])


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean over both surfaces of the distance to the other; of samples, so that it is a little too long."""
    pairs = [
        torch.cat([torch.cdist(part, y).amin(1) for part in x.split(2000)]).mean()
        for x, y in ((a, b), (b, a))
    ]
    return float(sum(pairs) / 2)


with torch.no_grad():
    v = smooth @ u
    diagonal = float((target_v.amax(0) - target_v.amin(0)).norm())
    count = 5_000 if args.small else 60_000
    truth = samples(target_v, target_f, count)
    found = [100 * distance(samples(x, tri, count), truth) / diagonal for x in (start, v)]
    floor = 100 * distance(samples(target_v, target_f, count), truth) / diagonal
    halves = torch.tensor([[0.3], [-0.9]], device="cuda")  # of the angles from which it is shown
    views = camera @ posed(rotations(torch.cat([halves.cos(), halves * 0, halves.sin(), halves * 0], 1)), 2.4)
    images = [
        torch.cat(list(render(x, f, views)), 0)[..., :3]
        for x, f in ((start, tri), (v, tri), (target_v, target_f))
    ]
save(args.out / "shape.png", *(x[: args.resolution] for x in images), *(x[args.resolution :] for x in images))
curve(args.out / "curve.png", "mean absolute error of images", loss=losses)
print(f"{len(target_f):,} triangles to find, {len(tri):,} to find them with")
print(f"mean surface distance: {found[1]:.3f} % of the bounding box's diagonal")
print(f"(that of the sphere: {found[0]:.2f}; of other samples of the truth: {floor:.3f})")
