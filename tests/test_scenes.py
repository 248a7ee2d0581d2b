# SPDX-License-Identifier: MIT
"""The shared scenes are what they promise: closed, oriented, seeded, and special where they say so."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from testing import scenes, strategies


def edge_counts(tri):
    """How often each directed edge occurs."""
    edges = torch.cat([tri[:, [0, 1]], tri[:, [1, 2]], tri[:, [2, 0]]]).tolist()
    counts = {}
    for a, b in edges:
        counts[a, b] = counts.get((a, b), 0) + 1
    return counts


def normals_and_centres(mesh):
    a, b, c = mesh.pos[mesh.tri.long()].unbind(1)
    return torch.linalg.cross(b - a, c - a), (a + b + c) / 3


@pytest.mark.parametrize("mesh", [scenes.sphere(8), scenes.sphere(500, bumps=0.2), scenes.cube(shared=True)])
def test_closed_meshes_are_closed_and_face_outward(mesh):
    counts = edge_counts(mesh.tri)
    assert set(counts.values()) == {1}
    assert all((b, a) in counts for a, b in counts)
    assert mesh.tri.unique().tolist() == list(range(len(mesh.pos)))
    normal, centre = normals_and_centres(mesh)
    assert ((normal * centre).sum(1) > 0).all()
    assert mesh.uv.shape == (len(mesh.pos), 2)
    assert mesh.uv.min() >= 0
    assert mesh.uv.max() <= 1


@pytest.mark.parametrize("triangles", [1_000, 10_000, 100_000, 1_000_000])
def test_sphere_has_about_as_many_triangles_as_asked(triangles):
    mesh = scenes.sphere(triangles)
    assert abs(len(mesh.tri) - triangles) <= 0.01 * triangles
    torch.testing.assert_close(mesh.pos.norm(dim=1), torch.ones(len(mesh.pos)))
    assert mesh.tri.dtype == torch.int32


def test_cube_with_its_own_vertices_per_face():
    mesh = scenes.cube(shared=False)
    assert mesh.pos.shape == (24, 3)
    normal, centre = normals_and_centres(mesh)
    assert ((normal * centre).sum(1) > 0).all()
    shared = scenes.cube(shared=True)
    assert torch.equal(mesh.pos[mesh.tri.long()], shared.pos[shared.tri.long()])


def test_grid_covers_the_square_once():
    mesh = scenes.grid(7, 5, jitter=0.24, seed=3)
    normal, _ = normals_and_centres(mesh)
    assert len(mesh.tri) == 70
    assert (normal[:, 2] > 0).all()
    assert normal[:, 2].sum().item() / 2 == pytest.approx(4.0, rel=1e-5)
    inner = [edge for edge in edge_counts(mesh.tri) if (edge[1], edge[0]) in edge_counts(mesh.tri)]
    assert len(inner) == 3 * 70 - 2 * (7 + 5)


def test_soup_spans_its_decades_evenly():
    mesh = scenes.soup(4000, (1e-5, 1.0), seed=1)
    corner = mesh.pos[mesh.tri.long()].double()
    decade = (corner - corner.mean(1, keepdim=True)).norm(dim=2).amax(1).log10()
    for k in range(-5, 0):
        share = ((decade >= k) & (decade < k + 1)).double().mean().item()
        assert 0.1 < share < 0.3


def test_camera_conventions():
    clip_from_view = scenes.perspective(math.pi / 2, aspect=2.0, near=1.0, far=10.0)
    view_from_world = scenes.look((0.0, 0.0, 5.0))
    points = torch.tensor([[0.0, 0, 4], [0, 0, -5], [0, 5, 0], [10, 0, 0]])  # near, far, top, right
    clip = scenes.transform(points, clip_from_view @ view_from_world)
    ndc = clip[:, :3] / clip[:, 3:]
    want = torch.tensor([[0.0, 0, -1], [0, 0, 1], [0, 1, 7 / 9], [1, 0, 7 / 9]])
    torch.testing.assert_close(ndc, want, rtol=1e-5, atol=1e-5)
    assert scenes.orbit(3).shape == (3, 4, 4)
    assert scenes.cube().clip(scenes.orbit(3)).shape == (3, 8, 4)
    # Whatever orbits sees the origin in the middle of its image
    origin = scenes.transform(torch.zeros(1, 3), scenes.orbit(5))
    torch.testing.assert_close(origin[:, 0, :2], torch.zeros(5, 2), rtol=0, atol=1e-5)


def test_random_clip_mesh_has_every_kind_of_vertex():
    pos, tri = scenes.random_clip_mesh(0, 2, 200, 300)
    assert pos.shape == (2, 200, 4)
    outside = (pos[..., :3].abs() > pos[..., 3:].abs()).any(-1)
    behind = pos[..., 3] < 0
    for share in (outside, behind, ~outside & ~behind):
        assert 0.05 < share.float().mean() < 0.9
    assert tri.min() >= 0
    assert tri.max() < 200
    assert all(len(set(row)) == 3 for row in tri.tolist())
    again = scenes.random_clip_mesh(0, 2, 200, 300)
    assert torch.equal(pos, again[0])
    assert torch.equal(tri, again[1])
    assert not torch.equal(pos, scenes.random_clip_mesh(1, 2, 200, 300)[0])


@pytest.mark.parametrize(("v", "t"), [(0, 0), (1, 2), (2, 2), (3, 5), (4, 0)])
def test_random_clip_mesh_of_few_vertices(v, t):
    pos, tri = scenes.random_clip_mesh(0, 1, v, t)
    assert pos.shape == (1, v, 4)
    assert tri.shape == (t, 3)
    assert v < 3 or all(len(set(row)) == 3 for row in tri.tolist())
    assert not t or tri.max() < v


@pytest.mark.parametrize("cube", [False, True])
def test_texture_query_derivatives_are_exact(cube):
    uv, uv_da = (x.double() for x in scenes.texture_query(2, 2, 9, 11, cube=cube, texels_per_pixel=4.0))
    da = uv_da.unflatten(3, (-1, 2))
    # Central differences over two pixels; the warp's third derivative times 1/6 bounds their error
    torch.testing.assert_close((uv[:, :, 2:] - uv[:, :, :-2]) / 2, da[:, :, 1:-1, :, 0], rtol=0, atol=1e-4)
    torch.testing.assert_close((uv[:, 2:] - uv[:, :-2]) / 2, da[:, 1:-1, :, :, 1], rtol=0, atol=1e-4)


def test_fragments_are_valid_barycentrics():
    rast, rast_db = scenes.fragments(4, 2, 20, 30, 7)
    u, v, z, index = rast.unbind(3)
    assert u.min() >= 0
    assert v.min() >= 0
    assert (u + v).max() <= 1 + 1e-6
    assert z.abs().max() <= 1
    assert index.unique().tolist() == list(range(8))
    background = index == 0
    assert not rast[background].any()
    assert not rast_db[background].any()
    assert not scenes.fragments(4, 1, 3, 3, 0)[0].any()


@settings(max_examples=30, deadline=None)
@given(strategies.clip_scenes())
def test_drawn_triangles_are_of_their_kind(scene):
    height, width = scene.size
    for image in scene.pos:
        for kind, row in zip(scene.kinds, scene.tri.tolist()):
            corner = image[row].double()
            pixel = (corner[:, :2] / corner[:, 3:] + 1) / 2 * torch.tensor([width, height])
            if kind == "on centres":
                assert ((pixel - 0.5) - (pixel - 0.5).round()).abs().max() < 1e-4
            elif kind == "on corners":
                assert (pixel - pixel.round()).abs().max() < 1e-4
            elif kind == "behind":
                assert (corner[:, 3] < 0).sum() == 2
            elif kind == "w near zero":
                assert (corner[:, 3].abs() < 0.02).sum() == 2
            elif kind == "repeated":
                assert len(set(row)) == 2
            elif kind in ("flat", "point"):
                a, b = (pixel[1:] - pixel[0]) / torch.tensor([width, height])
                assert abs(a[0] * b[1] - a[1] * b[0]) < 1e-5
            elif kind == "tiny":
                ndc = pixel / torch.tensor([width, height]) * 2
                assert (ndc - ndc[0]).norm(dim=1).max() < 0.5


@settings(max_examples=20, deadline=None)
@given(strategies.fragment_buffers(), st.data())
def test_drawn_inputs_fit_together(buffer, data):
    rast, rast_db, triangles = buffer
    assert rast.shape == rast_db.shape
    assert rast[..., 3].max() <= triangles
    cube = data.draw(st.booleans())
    uv, uv_da = data.draw(strategies.texture_queries(2, cube))
    tex = data.draw(strategies.textures(2, cube))
    assert uv_da.shape[3] == 2 * uv.shape[3] == (6 if cube else 4)
    assert tex.shape[0] in (1, 2)
    assert tex.dim() == (5 if cube else 4)


def test_a_bust_is_a_closed_scan_in_no_order():
    mesh = scenes.bust(5_000)
    counts = edge_counts(mesh.tri)
    assert set(counts.values()) == {1}
    assert all((b, a) in counts for a, b in counts)
    normal, centre = normals_and_centres(mesh)
    assert ((normal * centre).sum(1) > 0).float().mean() > 0.99
    assert mesh.pos.norm(dim=1).max() <= 1
    area = normal.norm(dim=1)
    assert area.quantile(0.99) > 50 * area.quantile(0.01)
    # Triangles that follow each other lie as far apart as any two.
    step = (centre[1:] - centre[:-1]).norm(dim=1).mean()
    apart = (centre - centre[torch.randperm(len(centre), generator=torch.Generator().manual_seed(0))]).norm(
        dim=1
    )
    assert step > 0.8 * apart.mean()
    assert torch.equal(mesh.tri, scenes.bust(5_000).tri)
    assert not torch.equal(mesh.tri, scenes.bust(5_000, seed=1).tri)
