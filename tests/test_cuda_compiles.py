# SPDX-License-Identifier: MIT
"""Every kernel for every architecture, compiled without a GPU."""

import json

import pytest

from rastergrad.core import nvrtc
from testing import gpu_resources


@pytest.fixture(scope="module")
def compiled() -> list[gpu_resources.Compiled]:
    return list(gpu_resources.compile_all())


def test_all_kernels_compile_for_all_architectures_without_a_complaint(
    compiled: list[gpu_resources.Compiled],
) -> None:
    wanted = len(gpu_resources.modules()) * 2 * len(gpu_resources.ARCHITECTURES)
    assert len(compiled) == wanted
    assert wanted >= 5 * 2 * 7, "every room has kernels"
    assert all(c.kernels for c in compiled)
    assert [c for c in compiled if c.complaints] == []


def test_kernels_take_no_more_of_a_gpu_than_recorded(compiled: list[gpu_resources.Compiled]) -> None:
    """More registers mean fewer threads at a time, spills mean slow memory. Other compilers count otherwise.
    `python -m testing.gpu_resources --update` records anew.
    """
    version = json.loads(gpu_resources.RECORD.read_text())["nvrtc"]
    if version != ".".join(map(str, nvrtc.compiler().version)):
        pytest.skip(f"recorded with NVRTC {version}")
    known = gpu_resources.recorded()
    found = gpu_resources.table(compiled)
    assert found.keys() == known.keys(), (
        "run `python -m testing.gpu_resources --update` and look at the difference"
    )
    grown = {
        (module, kernel): (numbers, known[module].get(kernel))
        for module, kernels in found.items()
        for kernel, numbers in kernels.items()
        if kernel not in known[module]
        or numbers[0] > known[module][kernel][0] + 8
        or numbers[1] > known[module][kernel][1]
    }
    assert grown == {}


#: Around the call that clips a triangle, which few threads reach.
SPILLS_WHERE_RARE = {"rasterize_triangles": 40}


def test_float32_kernels_do_not_spill_on_data_centre_gpus(compiled: list[gpu_resources.Compiled]) -> None:
    spilling = [
        (c.module, c.architecture, name, spilled)
        for c in compiled
        for name, (_, spilled) in c.kernels.items()
        if c.number == "float"
        and c.architecture in (80, 90, 100)
        and spilled > SPILLS_WHERE_RARE.get(name, 0)
    ]
    assert spilling == []
