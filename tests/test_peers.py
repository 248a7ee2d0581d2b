# SPDX-License-Identifier: MIT
"""Other programs beside the benchmark: one that is missing, wrong or dead is reported and stops nothing."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.measure import measure
from benchmarks.peers import PEERS, Entry
from benchmarks.peers.agree import colours_differ, edge_distance_px, ids_differ
from benchmarks.peers.deodr import silhouettes
from benchmarks.peers.process import PeerError, Peers, Process
from benchmarks.peers.rays import primary_rays
from benchmarks.rows import Row, Task
from benchmarks.scene import camera, seen, sphere
from testing import scenes

# A worker in a few lines: its behaviour is its first argument. It draws what we drew.
FAKE = """
import json, os, sys, time
import numpy as np
for line in sys.stdin:
    request, answer = json.loads(line), {}
    if request["do"] == "version":
        answer = {"version": "1.0"}
    if request["do"] == "prepare":
        if sys.argv[1] == "raises":
            answer = {"error": "ValueError: too many triangles"}
        elif sys.argv[1] == "dies":
            os._exit(3)
        ids = np.load(sys.argv[3])
        np.savez(request["result"], id=ids + 1 if sys.argv[1] == "differs" else ids)
    if request["do"] == "run":
        if sys.argv[1] == "dies later":
            os._exit(4)
        answer = {"ms": 20.0 if request["variant"] else 10.0}
    print(json.dumps(answer), flush=True)
"""


def fake(behaviour: str, folder: Path) -> tuple[Peers, Task]:
    scene = sphere(200, 32)
    ids = folder / "ids.npy"
    np.save(ids, scene.rast[0, ..., 3].numpy().astype(np.int64))
    script = folder / "worker.py"
    script.write_text(FAKE.replace("sys.argv[3]", repr(str(ids))))
    table = {"Fake": Entry(behaviour, {"rasterize": ("", "with read-back")}, "pip install fake", "nothing")}
    return Peers(["Fake"], 1, table, command=(sys.executable, str(script))), Task("rasterize", scene)


def row(task: Task) -> Row:
    return Row("op", None, lambda: 5.0, lambda: None, clocked=True, task=task)


def measured(peers: Peers, task: Task) -> list[tuple[str, float, float]]:
    peers.start()
    try:
        (found,) = measure([row(task)], threads=(1,), budget_s=0, least=1, peers=peers)
    finally:
        peers.stop()
    assert list(found.notes) == peers.notes
    return [(peer.name, peer.ms, peer.speedup) for peer in found.peers]


def test_a_peer_that_does_the_same_work_is_timed(tmp_path: Path) -> None:
    peers, task = fake("works", tmp_path)
    assert measured(peers, task) == [("Fake", 10.0, 2.0), ("Fake with read-back", 20.0, 4.0)]
    assert (peers.versions, peers.notes) == ({"Fake": "1.0"}, [])


@pytest.mark.parametrize(
    ("behaviour", "note"),
    [
        (
            "differs",
            "Fake is not timed at rasterize of 196 triangles: only 0.000% of ids away from edges agree",
        ),
        ("raises", "Fake failed at rasterize of 196 triangles: ValueError: too many triangles"),
        ("dies", "Fake failed at rasterize of 196 triangles: its process ended with status 3 on prepare"),
        ("dies later", "Fake failed while it was timed: its process ended with status 4 on run"),
    ],
)
def test_a_peer_that_fails_is_reported_and_the_run_goes_on(
    tmp_path: Path, behaviour: str, note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    peers, task = fake(behaviour, tmp_path)
    assert measured(peers, task) == []
    assert peers.notes[0].startswith(note)
    assert note in capsys.readouterr().out


def test_a_peer_that_died_serves_the_next_task(tmp_path: Path) -> None:
    peers, task = fake("dies", tmp_path)
    peers.start()
    assert peers.prepare(task) == []
    assert peers.prepare(task) == []
    assert len(peers.notes) == 2
    peers.stop()


def test_a_peer_that_is_not_installed_says_how_to_get_it() -> None:
    table = {"Absent": Entry("no_such_module", {"rasterize": ("",)}, "pip install absent", "nothing")}
    peers = Peers(["Absent"], 1, table)
    peers.start()
    assert peers.names == []
    (note,) = peers.notes
    assert note.startswith("Absent is left out: ModuleNotFoundError")
    assert note.endswith("To get it: pip install absent")


def test_a_peer_that_does_not_answer_is_stopped() -> None:
    sleeper = Process("x", 1, (sys.executable, "-c", "import time; time.sleep(60)"))
    with pytest.raises(PeerError, match=r"no answer to run within 0\.2 s"):
        sleeper.ask(0.2, do="run")
    assert sleeper.child is None


# ---- is it the same work? ----------------------------------------------------------------------------------


def test_ids_may_differ_at_edges_only() -> None:
    scene = sphere(200, 64)
    ids = scene.rast[0, ..., 3].numpy().astype(np.int64)
    assert ids_differ(scene, ids) is None
    near = edge_distance_px(scene) < 0.02
    covered = ids > 0
    assert 0 < (near & covered).sum() < 0.2 * covered.sum()
    assert ids_differ(scene, np.where(near & covered, 1, ids)) is None
    assert "99" in (
        ids_differ(scene, np.where(np.arange(ids.size).reshape(ids.shape) % 150 == 0, 1, ids)) or ""
    )
    assert "shape" in (ids_differ(scene, ids[:-1]) or "")
    assert ids_differ(scene, ids.T.copy()) is not None


def test_a_distance_to_the_edge_is_in_pixels() -> None:
    # One triangle over the lower left half of 8 x 8 pixels: the diagonal is x + y = 8.
    pos = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [-1, 1, 0]])
    mesh = scenes.Mesh(pos, torch.tensor([[0, 1, 2]], dtype=torch.int32), torch.zeros(3, 2))
    distance = edge_distance_px(seen(mesh, torch.eye(4), 8))
    assert distance[0, 0] == pytest.approx(0.5)
    assert distance[2, 4] == pytest.approx((8 - 7) / 2**0.5, rel=1e-5)  # centre (4.5, 2.5)
    assert distance[7, 7] == 0


def test_colours_may_differ_by_what_affine_coordinates_do() -> None:
    import rastergrad as rg

    scene = sphere(10_000, 64)
    texture = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    image = rg.texture(texture, rg.interpolate(scene.uv, scene.rast, scene.tri)[0])[0].numpy()
    assert colours_differ(scene, texture, image + 0.005) is None
    assert "0.050 in the median" in (colours_differ(scene, texture, image + 0.05) or "")
    assert "shape" in (colours_differ(scene, texture, image[:-1]) or "")


@pytest.mark.parametrize("clip_from_world", [camera(), torch.eye(4)], ids=["perspective", "orthographic"])
def test_rays_pass_through_what_pixels_show(clip_from_world: torch.Tensor) -> None:
    """A point on a ray projects onto the pixel's centre."""
    arrays = {"size": np.array([3, 5]), "clip_from_world": clip_from_world.numpy()}
    origin, direction = primary_rays(arrays)
    point = torch.from_numpy(origin + 0.3 * direction)
    clip = scenes.transform(point, clip_from_world)
    pixel = (clip[:, :2] / clip[:, 3:] + 1) / 2 * torch.tensor([5.0, 3.0])
    x, y = torch.meshgrid(torch.arange(5) + 0.5, torch.arange(3) + 0.5, indexing="xy")
    torch.testing.assert_close(pixel, torch.stack([x, y], -1).reshape(-1, 2), rtol=1e-4, atol=1e-4)
    assert np.allclose(np.linalg.norm(direction, axis=1), 1)


def test_silhouettes_are_edges_between_front_and_back() -> None:
    # A square of two front faces, folded under along its right side.
    place = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    tri = np.array([[0, 1, 2], [0, 2, 3], [1, 0, 2]])
    assert silhouettes(place, tri).tolist() == [[True, True, False], [False, True, True], [False] * 3]


# ---- the real ones -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PEERS)
def test_an_installed_peer_agrees_with_ours(name: str) -> None:
    peers = Peers([name], 1)
    peers.start()
    try:
        if not peers.names:
            pytest.skip(peers.notes[0])
        scene = sphere(20_000, 256)
        generator = torch.Generator().manual_seed(0)
        step = {key: torch.rand(1, 256, 256, 3, generator=generator) for key in ("texture", "goal")}
        for kind, variants in PEERS[name].tasks.items():
            ready = peers.prepare(Task(kind, scene, step if kind == "step" else {}))
            assert not peers.notes
            assert [prepared.variant for prepared in ready] == list(variants)
            assert all(prepared.run() > 0 for prepared in ready)
    finally:
        peers.stop()


def test_every_peer_is_described() -> None:
    page = (Path(__file__).parent.parent / "docs" / "performance.md").read_text(encoding="utf-8")
    for name, entry in PEERS.items():
        assert f"**{name}**" in page
        assert json.dumps(entry.get)
