# SPDX-License-Identifier: MIT
"""`--kernels cuda` runs the tests on a GPU's kernels, `--kernels emulated` on their emulator."""

from collections.abc import Iterator

import pytest
import torch

import rastergrad as rg
from testing import on_gpu


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kernels", choices=on_gpu.KERNELS, default="cpu", help="which kernels compute")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cpu_kernels(reason): about the CPU's kernels only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--kernels") == "cpu":
        return
    for item in items:
        mark = item.get_closest_marker("cpu_kernels")
        if mark is not None:
            item.add_marker(pytest.mark.skip(reason=f"about the CPU's kernels: {mark.args[0]}"))


@pytest.fixture(autouse=True, scope="session")
def _kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    """With a GPU's kernels sums are reproducible and indices are checked, as they always are on a CPU."""
    which = request.config.getoption("--kernels")
    if which == "cpu":
        yield
        return
    torch.use_deterministic_algorithms(True, warn_only=True)
    rg.debug(True)
    with on_gpu.kernels(which):
        yield
    rg.debug(False)
    torch.use_deterministic_algorithms(False)
