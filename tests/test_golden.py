# SPDX-License-Identifier: MIT
"""The golden cases through the rooms: 81 cases, 361 comparisons, the runner's own tolerances, no mask.

Where rastergrad differs from the library behind the numbers on purpose, the rooms have a switch that the
drop-in module uses, and so does the adapter: no depth gradient, gradients also from pixels outside the exact
triangle, bad triangles skipped, no gradient from circular footprints (docs/differences.md). Vertices snap to
1/256 pixel here and to 1/16 there: only pixels that the runner itself masks change.
"""

import pytest
import torch

import rastergrad as rg
from testing import golden, levels

pytestmark = pytest.mark.skipif(not golden.available(), reason=golden.MISSING)
ENCODING = "r18_triangle_id_encoding"  # the runner does not drive it


@pytest.mark.parametrize("name", [n for n in golden.names("") if n != ENCODING])
def test_case(name: str) -> None:
    assert golden.failures(golden.native_functions("cpu"), name) == []


@pytest.mark.parametrize("level", levels.LEVELS)
def test_all_comparisons_on_each_instruction_set(level: str) -> None:
    assert len(golden.names("")) == 81
    assert levels.run(level, "testing.golden").splitlines()[-1] == "361 comparisons, 0 failures"


def test_triangle_ids_are_encoded_as_recorded_and_read_back() -> None:
    """Up to id 20,000,000: the index buffers of the larger ids recorded would take gigabytes."""
    case = golden.loader().load(ENCODING)
    ids = torch.from_numpy(case.x["ids"]).long()
    wanted = torch.from_numpy(case.out["float"])
    wanted, ids = wanted[(ids > 0) & (ids <= 20_000_000)], ids[(ids > 0) & (ids <= 20_000_000)]
    assert len(ids) == 8
    tri = torch.zeros(20_000_000, 3, dtype=torch.int32)
    tri[ids - 1] = torch.arange(3, dtype=torch.int32)
    pos = torch.tensor([[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]])
    ranges = torch.stack([ids - 1, torch.ones_like(ids)], 1)
    rast, _ = rg.rasterize(pos, tri, (1, 1), ranges=ranges)
    assert torch.equal(rast[:, 0, 0, 3], wanted)
    out, _ = rg.interpolate(torch.ones(3, 1), rast, tri)
    assert bool((out == 1).all())
