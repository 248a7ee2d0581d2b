# SPDX-License-Identifier: MIT
"""edge_topology against a dictionary, and how antialias finds and remembers it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rastergrad as rg
from rastergrad.ops.antialias import topology as room
from rastergrad.ops.antialias.op import blend
from testing import scenes

settings.register_profile("rastergrad", deadline=None, derandomize=True)
settings.load_profile("rastergrad")


def opposites(tri: Tensor) -> list[list[int]]:
    """The opposite vertex across each edge, or -1: docs/definition.md 5.4, one triangle after the other."""
    remembered: dict[tuple[int, int], list[int]] = {}
    rows = tri.tolist()

    def edge(row: list[int], k: int) -> tuple[int, int]:
        a, b = row[(k + 1) % 3], row[(k + 2) % 3]
        return min(a, b), max(a, b)

    entered = [min(row) >= 0 and len(set(row)) == 3 for row in rows]
    for row, good in zip(rows, entered, strict=True):
        for k in range(3):
            known = remembered.setdefault(edge(row, k), []) if good else []
            if good and len(known) < 2 and row[k] not in known:
                known.append(row[k])

    def across(row: list[int], k: int) -> int:
        known = remembered.get(edge(row, k), [])
        if len(known) < 2 or row[k] not in known:
            return -1
        return known[1 - known.index(row[k])]

    return [
        [across(row, k) if good else -1 for k in range(3)] for row, good in zip(rows, entered, strict=True)
    ]


def found(tri: Tensor, topology: rg.EdgeTopology | None = None) -> list[list[int]]:
    """The same from `edge_topology`; checks that twins lie on the same edge."""
    twins = (topology or rg.edge_topology(tri)).twins.reshape(-1).tolist()
    rows = tri.tolist()
    result = []
    for h, twin in enumerate(twins):
        if twin < 0:
            result.append(-1)
            continue
        (t, k), (other, j) = divmod(h, 3), divmod(twin, 3)
        assert {rows[t][(k + 1) % 3], rows[t][(k + 2) % 3]} == {
            rows[other][(j + 1) % 3],
            rows[other][(j + 2) % 3],
        }
        result.append(rows[other][j])
    return [result[i : i + 3] for i in range(0, len(result), 3)]


@settings(max_examples=200)
@given(
    seed=st.integers(0, 10**6),
    vertices=st.sampled_from([1, 2, 3, 4, 5, 7, 20, 300]),
    triangles=st.sampled_from([0, 1, 2, 3, 10, 60, 400]),
    lowest=st.sampled_from([0, 0, -1, -3]),
    scale=st.sampled_from([1, 1, 1, 99_991, 2**31 // 300 - 1]),
)
def test_equals_a_dictionary_on_random_soups(
    seed: int, vertices: int, triangles: int, lowest: int, scale: int
) -> None:
    """Few vertices: many triangles on an edge, duplicates in both windings. Large scale: sparse indices."""
    g = torch.Generator().manual_seed(seed)
    tri = (torch.randint(lowest, vertices, (triangles, 3), generator=g) * scale).int()
    assert found(tri) == opposites(tri)


def test_equals_a_dictionary_across_chunks_and_buckets() -> None:
    """40,000 triangles: several chunks of 16,384 and some 80 buckets, duplicates far from originals."""
    tri = scenes.sphere(20_000).tri
    g = torch.Generator().manual_seed(0)
    tri = torch.cat(
        [tri, tri.roll(1, 1).flip(0), torch.randint(0, 50, (500, 3), generator=g, dtype=torch.int32)]
    )
    assert found(tri) == opposites(tri)


def test_a_closed_mesh_has_a_partner_at_every_edge_and_twins_are_mutual() -> None:
    twins = rg.edge_topology(scenes.sphere(1000).tri).twins.reshape(-1).long()
    assert bool((twins >= 0).all())
    assert torch.equal(twins[twins], torch.arange(len(twins)))


def test_the_lowest_triangles_of_a_crowded_edge_are_paired() -> None:
    tri = torch.tensor([[0, 1, 2], [1, 0, 2], [0, 1, 3], [0, 1, 4], [1, 0, 3]])
    # Edge 0-1 remembers 2 (triangle 0; triangle 1 repeats it) and 3 (triangle 2); 4 is one too many.
    twins = rg.edge_topology(tri).twins
    assert twins[:, 2].tolist() == [8, 8, 2, -1, 2]


def test_back_to_back_triangles_are_borders() -> None:
    assert bool((rg.edge_topology(torch.tensor([[0, 1, 2], [2, 1, 0], [0, 1, 2]])).twins == -1).all())


@pytest.mark.parametrize("hub", [0, 30_000, 60_001])
def test_a_fan_around_one_vertex(hub: int) -> None:
    """Every triangle shares a vertex: neither slow nor wrong."""
    rim = torch.tensor([v for v in range(60_002) if v != hub], dtype=torch.int32)
    tri = torch.stack([torch.full_like(rim, hub), rim, rim.roll(-1)], 1)
    twins = rg.edge_topology(tri).twins
    assert bool((twins[:, 0] == -1).all())
    h = torch.arange(len(tri))
    assert torch.equal(twins[:, 1].long(), (h + 1) % len(tri) * 3 + 2)
    assert torch.equal(twins[:, 2].long(), (h - 1) % len(tri) * 3 + 1)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_bitwise_equal_for_every_thread_count(threads: int) -> None:
    g = torch.Generator().manual_seed(1)
    tri = torch.randint(0, 5000, (100_000, 3), generator=g, dtype=torch.int32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        want = rg.edge_topology(tri)
        torch.set_num_threads(threads)
        got = rg.edge_topology(tri)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(got.twins, want.twins)
    assert torch.equal(got.bounds, want.bounds)


def test_what_the_object_says() -> None:
    topology = rg.edge_topology(torch.tensor([[4, 1, 2], [2, 1, 9]]))
    assert (topology.triangles, topology.vertices) == (2, 10)
    assert repr(topology) == "EdgeTopology(triangles=2, vertices=10)"
    assert repr(rg.edge_topology(torch.zeros(0, 3).int())) == "EdgeTopology(triangles=0, vertices=0)"
    with pytest.raises(AttributeError):
        topology.twins = topology.twins  # type: ignore


@pytest.mark.parametrize(
    ("tri", "error", "message"),
    [
        (
            [[0, 1, 2]],
            TypeError,
            r"edge_topology: `tri` must be an integer tensor of shape \[T, 3\]; got list",
        ),
        (torch.zeros(3, 3), TypeError, r"edge_topology: `tri` .*got float32 \[3, 3\].*tri.int\(\)"),
        (torch.zeros(3, 4).int(), ValueError, r"edge_topology: `tri` .*got int32 \[3, 4\]"),
    ],
)
def test_bad_input(tri: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rg.edge_topology(tri)  # type: ignore


# ---- what antialias remembers -----------------------------------------------------------------------------


def quad() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two triangles that share the edge 1-2, and lie on the same side of it: a fold along x = 0.15."""
    pos = torch.tensor([[[-0.9, 0, 0, 1], [0.15, -2, 0, 1], [0.15, 2, 0, 1], [-0.5, 0, 0, 1]]])
    rast = torch.zeros(1, 2, 4, 4)
    rast[:, :, :2, 3] = 1
    return (
        torch.rand(1, 2, 4, 3, generator=torch.Generator().manual_seed(0)),
        rast,
        pos,
        torch.tensor([[0, 1, 2], [2, 1, 3]]).int(),
    )


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of triangles whenever a topology is built."""
    counted: list[int] = []
    build = room._build

    def counting(tri: Tensor, vertices: int) -> tuple[Tensor, Tensor]:
        counted.append(tri.shape[0])
        return build(tri, vertices)

    monkeypatch.setattr(room, "_build", counting)
    room._recent.clear()
    return counted


@pytest.mark.cpu_kernels("a GPU's memory is not looked at: topologies are known again by tensor and version")
def test_is_built_once_and_found_again_by_content(builds: list[int]) -> None:
    color, rast, pos, tri = quad()
    pos.requires_grad_()
    rg.antialias(color, rast, pos, tri).sum().backward()
    rg.antialias(color, rast, pos, tri.long())
    rg.antialias(color, rast, pos, tri.clone())
    assert builds == [2]


@pytest.mark.cpu_kernels("a GPU's memory is not looked at: topologies are known again by tensor and version")
@pytest.mark.parametrize("how", ["in place", "through NumPy", "through .data"])
def test_a_changed_index_buffer_is_noticed(how: str, builds: list[int]) -> None:
    """The second triangle turns to the other side of the edge: no silhouette any more."""
    color, rast, pos, tri = quad()
    pos = torch.cat([pos, torch.tensor([[[0.9, 0, 0, 1]]])], 1)
    assert not torch.equal(rg.antialias(color, rast, pos, tri), color)
    if how == "in place":
        tri[1, 2] = 4
    elif how == "through NumPy":
        tri.numpy()[1, 2] = 4
    else:
        tri.data[1, 2] = 4
    assert torch.equal(rg.antialias(color, rast, pos, tri), color)
    assert builds == [2, 2]


@pytest.mark.cpu_kernels("a GPU's memory is not looked at: topologies are known again by tensor and version")
def test_remembers_a_few_only(builds: list[int]) -> None:
    color, rast, pos, tri = quad()
    for count in range(1, room._KEPT + 3):
        rg.antialias(color, rast, pos, tri[:1].expand(count, 3))
    assert len(room._recent) == room._KEPT
    rg.antialias(color, rast, pos, tri[:1].expand(room._KEPT + 2, 3))
    assert len(builds) == room._KEPT + 2


def test_a_given_topology_is_used_as_it_is(builds: list[int]) -> None:
    color, rast, pos, tri = quad()
    topology = rg.edge_topology(tri)
    builds.clear()
    image = rg.antialias(color, rast, pos.requires_grad_(), tri, topology=topology)
    image.sum().backward()
    assert builds == []
    assert torch.equal(image, rg.antialias(color, rast, pos, tri))


def test_an_index_out_of_range_does_not_take_a_place_on_an_edge(builds: list[int]) -> None:
    """Without `strict` such triangles are absent, also from a topology that did not know the vertices."""
    color, rast, pos, tri = quad()
    bad = torch.cat([torch.tensor([[1, 2, 77], [2, 1, 78]]).int(), tri])
    rast[..., 3] *= 3
    want = blend(color, rast, pos, tri[[0, 0, 0, 1]].contiguous(), strict=False)
    assert not torch.equal(want, color)
    for topology in (None, rg.edge_topology(bad)):
        assert torch.equal(blend(color, rast, pos, bad, strict=False, topology=topology), want)
