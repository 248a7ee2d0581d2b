# SPDX-License-Identifier: MIT
"""Find the pose of a coloured cube from one image, a hundred times.

The cube has unshared vertices and a colour per face, paler from corner to corner. Each start is random.
First a greedy search without gradients: random turns, then smaller and smaller ones around the best so far.
Then gradients through `antialias`, on a quaternion. All poses are one minibatch. Printed is how many end
within a degree.
"""

import nvdiffrast.torch as dr
import torch
from common import arguments, clip, curve, perspective, posed, rotations, save

args = arguments(
    "06_pose", __doc__, poses=(100, 10), greedy=(1600, 800), iterations=(150, 60), resolution=(96, 64)
)
glctx = dr.RasterizeCudaContext(device="cuda:0")
corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3).cuda()
quads = torch.tensor([[4, 6, 7, 5], [0, 1, 3, 2], [2, 3, 7, 6], [0, 4, 5, 1], [1, 5, 7, 3], [0, 2, 6, 4]])
vtx_pos = corners[quads.flatten().cuda()]  # 24 of them: four for each face
tri = (
    (torch.arange(0, 24, 4)[:, None, None] + torch.tensor([[0, 1, 2], [0, 2, 3]])).reshape(12, 3).int().cuda()
)
face_colors = torch.tensor(
    [[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], device="cuda"
)
# Paler from corner to corner: where one face hides all others, its colour alone would fit four poses.
vtx_col = (
    face_colors.repeat_interleave(4, 0) * torch.tensor([1.0, 0.8, 0.6, 0.4], device="cuda").repeat(6)[:, None]
)


def render(quaternions: torch.Tensor, size: int = args.resolution) -> torch.Tensor:
    pos_clip = clip(perspective(30.0) @ posed(rotations(quaternions), 3.5), vtx_pos)
    rast, _ = dr.rasterize(glctx, pos_clip, tri, (size, size))
    color, _ = dr.interpolate(vtx_col, rast, tri)
    return dr.antialias(color, rast, pos_clip, tri)


def loss_of(quaternions: torch.Tensor) -> torch.Tensor:
    return (render(quaternions) - target).square().mean((1, 2, 3))


def rough_loss_of(quaternions: torch.Tensor) -> torch.Tensor:
    return (render(quaternions, 24) - rough_target).square().mean((1, 2, 3))


def multiplied(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    w, v = (
        a[:, :1] * b[:, :1] - (a[:, 1:] * b[:, 1:]).sum(1, keepdim=True),
        torch.linalg.cross(a[:, 1:], b[:, 1:]),
    )
    return torch.cat([w, a[:, :1] * b[:, 1:] + b[:, :1] * a[:, 1:] + v], 1)


def degrees_between(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a, b = (torch.nn.functional.normalize(q, dim=1) for q in (a, b))
    return 2 * torch.rad2deg((a * b).sum(1).abs().clamp(max=1).acos())


# The 24 turns of a cube onto itself: none, half, quarter, and third turns.
signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
half_turns = torch.nn.functional.pad(torch.eye(3), (1, 0))
skew_turns = torch.nn.functional.pad(
    torch.tensor([[1.0, 1, 0], [1, -1, 0], [1, 0, 1], [1, 0, -1], [0, 1, 1], [0, 1, -1]]), (1, 0)
)
quarter_turns = torch.nn.functional.pad(torch.cat([torch.eye(3), -torch.eye(3)]), (1, 0), value=1.0)
third_turns = torch.nn.functional.pad(signs, (1, 0), value=1.0)
turns = torch.cat([torch.eye(1, 4), half_turns, skew_turns, quarter_turns, third_turns])
turns = torch.nn.functional.normalize(turns, dim=1).cuda()
truth = torch.randn(args.poses, 4, device="cuda")
with torch.no_grad():
    target, rough_target = render(truth), render(truth, 24)
    best = torch.randn(args.poses, 4, device="cuda")
    start = best.clone()
    lowest = rough_loss_of(best)
    for k in range(args.greedy):
        if k < args.greedy // 2:
            trial = torch.randn(args.poses, 4, device="cuda")
        else:  # some thirty degrees at first, then less
            step = torch.randn(args.poses, 4, device="cuda") * 0.3 * 0.1 ** (2 * k / args.greedy - 1)
            step[:, 0] = 1
            trial = multiplied(step, torch.nn.functional.normalize(best, dim=1))
        loss = rough_loss_of(trial)
        better = loss < lowest
        best[better], lowest[better] = trial[better], loss[better]
greedy = best.clone()
print(f"after the greedy phase: median {float(degrees_between(best, truth).median()):.1f} degrees off")


def refined(
    quaternions: torch.Tensor, wanted: torch.Tensor, iterations: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quaternions and losses after gradient descent; all poses at once."""
    quaternions = torch.nn.Parameter(torch.nn.functional.normalize(quaternions, dim=1))
    optimizer = torch.optim.Adam([quaternions], lr=1e-2)
    for it in range(iterations):
        optimizer.param_groups[0]["lr"] = 1e-2 * 0.01 ** (it / iterations)
        loss = (render(quaternions, wanted.shape[1]) - wanted).square().mean((1, 2, 3))
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        with torch.no_grad():
            quaternions /= quaternions.norm(dim=1, keepdim=True)
        if len(quaternions) == args.poses:
            history.append(float(degrees_between(quaternions.detach(), truth).mean()))
    return quaternions.detach(), loss.detach()


# A face seen nearly from the front looks much the same after a quarter turn: turned poses are followed, too,
# for a while.
history: list[float] = []
each = len(turns)
hypotheses = multiplied(best.repeat_interleave(each, 0), turns.repeat(args.poses, 1))
wanted = render(truth, args.resolution // 2).detach().repeat_interleave(each, 0)
hypotheses, losses = refined(hypotheses, wanted, args.iterations // 3)
chosen = losses.view(args.poses, each).argmin(1)
quaternions = hypotheses.view(args.poses, each, 4)[torch.arange(args.poses, device="cuda"), chosen]
quaternions, _ = refined(quaternions, target, args.iterations)

error = degrees_between(quaternions.detach(), truth)
with torch.no_grad():
    shown = [torch.cat(list(render(q)[:6]), 1) for q in (start, greedy, quaternions, truth)]
    save(args.out / "poses.png", torch.cat(shown[::-1], 0))
curve(args.out / "curve.png", "mean error in degrees", error=history)
good = int((error < 1).sum())
median, worst = float(error.median()), float(error.max())
print(f"{good} of {args.poses} poses within 1 degree; median {median:.4f}, worst {worst:.2f}")
