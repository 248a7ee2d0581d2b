# SPDX-License-Identifier: MIT
"""Recover a shape from silhouettes and normals, beginning with a sphere.

From images of four channels (normal and mask) of a mesh seen from all sides, as remeshing programs render
them: `grad_db=False`, `pos_gradient_boost`. Vertices move by Adam in the parameterisation of Nicolet et al.
2021, "Large steps in inverse rendering of geometry": u = (I + lambda L) v, so that a step moves
neighbourhoods; long edges are split between rounds. `--mesh FILE` loads another target; by default a duck
if the package deodr is installed, else a made-up head. Printed is the mean distance between the surfaces,
in percent of the target's bounding box.
"""

import importlib.util
from pathlib import Path

import nvdiffrast.torch as dr
import torch
from common import arguments, clip, curve, icosphere, perspective, posed, random_turns, rotations, save

args = arguments(
    "07_shape_recovery",
    __doc__,
    ("mesh",),
    iterations=(750, 240),
    views=(12, 6),
    resolution=(256, 96),
    level=(3, 2),
    rounds=(3, 2),
    smoothness=(12, 12),
)
glctx = dr.RasterizeCudaContext()
camera = perspective(40.0)


def made_up() -> tuple[torch.Tensor, torch.Tensor]:
    """A head of sorts: a sphere with a nose, a chin, and two ears."""
    v, f = icosphere(args.level + 2)
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


path = args.mesh
duck = importlib.util.find_spec("deodr")
if path is None and duck is not None and not args.small:
    path = Path(duck.submodule_search_locations[0]) / "data" / "duck.obj"
target_v, target_f = made_up() if path is None else loaded(path)
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


def split(v: torch.Tensor, f: torch.Tensor, longest: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A vertex in the middle of each edge longer than that: triangles become two, three or four."""
    sides = f.long()[:, [[0, 1], [1, 2], [2, 0]]].sort(-1).values.reshape(-1, 2)
    edges, side = torch.unique(sides, dim=0, return_inverse=True)
    long = (v[edges[:, 0]] - v[edges[:, 1]]).norm(dim=1) > longest
    middle = torch.full((len(edges),), -1, device="cuda")
    middle[long] = len(v) + torch.arange(int(long.sum()), device="cuda")
    side = middle[side].reshape(-1, 3)
    # Triangles are turned so that their one split side, or their one whole side, comes first.
    count = (side >= 0).sum(1)
    odd = torch.where(count[:, None] == 2, side < 0, side >= 0).int().argmax(1)
    order = (odd[:, None] + torch.arange(3, device="cuda")) % 3
    (a, b, c), (ab, bc, ca) = f.long().gather(1, order).T, side.gather(1, order).T
    pieces = [
        [(a, b, c)],
        [(a, ab, c), (ab, b, c)],
        [(a, b, bc), (a, bc, ca), (ca, bc, c)],
        [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)],
    ]
    parts = [torch.stack(piece, 1)[count == k] for k, each in enumerate(pieces) for piece in each]
    return torch.cat([v, v[edges[long]].mean(1)]), torch.cat(parts).int()


def fitted(v: torch.Tensor, f: torch.Tensor, rate: float, smoothness: float) -> torch.Tensor:
    """Vertices after a round of steps; triangles stay."""
    iterations = args.iterations // args.rounds
    edges = torch.cat(
        [f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]]
    ).long()  # in one direction: the mesh is closed
    laplacian = torch.zeros(len(v), len(v), device="cuda")
    laplacian[edges[:, 0], edges[:, 1]] = -1
    laplacian.diagonal().copy_(-laplacian.sum(1))
    system = torch.eye(len(v), device="cuda") + smoothness * laplacian
    smooth = torch.linalg.inv(system)  # a few thousand vertices; for more, factor the sparse matrix
    u = (system @ v).requires_grad_()
    moment, second = torch.zeros_like(u), torch.zeros((), device="cuda")
    for it in range(iterations):
        views = camera @ posed(random_turns(args.views), 3.0)
        with torch.no_grad():
            target = render(target_v, target_f, views)
        loss = (render(smooth @ u, f, views) - target).abs().mean()
        (gradient,) = torch.autograd.grad(loss, u)
        with torch.no_grad():  # Adam with one step size for all vertices, as the parameterisation wants it
            moment.lerp_(gradient, 0.1)
            second.lerp_(gradient.abs().max() ** 2, 0.01)
            size = (second / (1 - 0.99 ** (it + 1))).sqrt().clamp(min=1e-12)
            u -= rate * 0.1 ** (it / iterations) * moment / (1 - 0.9 ** (it + 1)) / size
        losses.append(loss.item())
    return (smooth @ u).detach()


losses: list[float] = []
sphere, sphere_f = icosphere(args.level)
v, tri = sphere * 0.6, sphere_f
for stage in range(args.rounds):
    if stage:
        v, tri = split(v, tri, 0.12 * 0.6**stage)
    v = fitted(v, tri, 2e-2 * 0.5**stage, args.smoothness)
    print(f"{len(tri):,} triangles: loss {losses[-1]:.4f}")


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
    diagonal = float((target_v.amax(0) - target_v.amin(0)).norm())
    count = 5_000 if args.small else 60_000
    truth = samples(target_v, target_f, count)
    found = [
        100 * distance(samples(x, f, count), truth) / diagonal
        for x, f in ((sphere * 0.6, sphere_f), (v, tri))
    ]
    floor = 100 * distance(samples(target_v, target_f, count), truth) / diagonal
    halves = torch.tensor([[0.3], [-0.9]], device="cuda")  # of the angles from which it is shown
    views = camera @ posed(rotations(torch.cat([halves.cos(), halves * 0, halves.sin(), halves * 0], 1)), 2.4)
    images = [
        torch.cat(list(render(x, f, views)), 0)[..., :3]
        for x, f in ((sphere * 0.6, sphere_f), (v, tri), (target_v, target_f))
    ]
save(args.out / "shape.png", *(x[: args.resolution] for x in images), *(x[args.resolution :] for x in images))
curve(args.out / "curve.png", "mean absolute error of images", loss=losses)
print(f"{len(target_f):,} triangles to find, {len(tri):,} to find them with")
print(f"mean surface distance: {found[1]:.3f} % of the bounding box's diagonal")
print(f"(that of the sphere: {found[0]:.2f}; of other samples of the truth: {floor:.3f})")
