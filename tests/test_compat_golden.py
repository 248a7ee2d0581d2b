# SPDX-License-Identifier: MIT
"""The golden cases through `rastergrad.compat.nvdiffrast`: 81 cases, the runner's own tolerances, no mask."""

import pytest
import torch

import rastergrad.compat.nvdiffrast as dr
from testing import golden

pytestmark = pytest.mark.skipif(not golden.available(), reason=golden.MISSING)
ENCODING = "r18_triangle_id_encoding"  # the runner does not drive it


def test_all_comparisons(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(golden.names("")) == 81
    assert golden.loader().run(dr, dr.RasterizeCudaContext("cpu")) == []
    assert capsys.readouterr().out.splitlines()[-1] == "361 comparisons, 0 failures"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch sees")
def test_all_comparisons_on_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert golden.loader().run(dr, dr.RasterizeCudaContext(), device="cuda") == []
    assert capsys.readouterr().out.splitlines()[-1] == "361 comparisons, 0 failures"


def test_triangle_ids_are_encoded_as_recorded_and_read_back() -> None:
    """Ids on both sides of 2^24; the index buffers of the larger ones recorded would take gigabytes."""
    case = golden.loader().load(ENCODING)
    ids = torch.from_numpy(case.x["ids"]).long()
    wanted = torch.from_numpy(case.out["float"])
    kept = (ids > 0) & (ids <= 20_000_000)
    ids, wanted = ids[kept], wanted[kept]
    assert bool((ids > 2**24).any())
    tri = torch.zeros(20_000_000, 3, dtype=torch.int32)
    tri[ids - 1] = torch.arange(3, dtype=torch.int32)
    pos = torch.tensor([[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]])
    ranges = torch.stack([ids - 1, torch.ones_like(ids)], 1).int()
    rast, _ = dr.rasterize(dr.RasterizeCudaContext("cpu"), pos, tri, (1, 1), ranges=ranges)
    assert torch.equal(rast[:, 0, 0, 3], wanted)
    out, _ = dr.interpolate(torch.ones(3, 1), rast, tri)
    assert bool((out == 1).all())
