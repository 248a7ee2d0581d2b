# SPDX-License-Identifier: MIT
"""What does not fit is refused before it starts; torch's own tensors can be recycled."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import rastergrad as rg
from rastergrad.core import system_memory

HEAP = """
import sys, torch
import rastergrad as rg
def heap():
    line = next(l for l in open("/proc/self/maps") if "[heap]" in l)
    return [int(x, 16) for x in line.split()[0].split("-")]
if sys.argv[1] == "recycled":
    assert rg.recycle_torch_memory()
several = [torch.ones(31 << 18) for _ in range(4)]
low, high = heap()
inside = [low <= t.data_ptr() < high for t in several]
del several
print(all(inside), any(inside), heap()[1] == high)
"""


def pretend(monkeypatch: pytest.MonkeyPatch, folder: Path, *, membership: str = "", **files: str) -> None:
    """A system whose files say that."""
    (folder / "group" / "inner").mkdir(parents=True)
    (folder / "membership").write_text(membership)
    for name, text in files.items():
        (folder / name.replace("__", "/")).write_text(text)
    monkeypatch.setattr(system_memory, "_MEMINFO", folder / "meminfo")
    monkeypatch.setattr(system_memory, "_CGROUPS", folder / "group")
    monkeypatch.setattr(system_memory, "_MEMBERSHIP", folder / "membership")


MEMINFO = "MemTotal:  9000000 kB\nMemAvailable:  4000000 kB\nSwapFree:  1000000 kB\nHugePages_Total:  0\n"


@pytest.fixture(autouse=True)
def empty_shelf() -> None:
    rg.release_memory()


def test_available_is_memory_and_swap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, meminfo=MEMINFO)
    assert system_memory.available() == 5_000_000 * 1024


def test_the_tightest_control_group_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, meminfo=MEMINFO, membership="0::/inner\n")
    inner = tmp_path / "group" / "inner"
    (tmp_path / "group" / "memory.max").write_text("max\n")
    (inner / "memory.max").write_text("3000\n")
    (inner / "memory.current").write_text("2500\n")
    assert system_memory.available() == 500
    (inner / "memory.stat").write_text("anon 900\ninactive_file 300\n")
    assert system_memory.available() == 800
    (tmp_path / "group" / "memory.max").write_text("2600\n")
    (tmp_path / "group" / "memory.current").write_text("2550\n")
    assert system_memory.available() == 50


def test_without_its_files_nothing_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path)
    assert system_memory.available() is None
    system_memory.require("rasterize", 1 << 60, (1, 1, 1))


def test_idle_blocks_count_as_available(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, meminfo=MEMINFO)
    block = system_memory._native.empty(2, 32, 8 << 20)
    before = system_memory.available()
    del block
    assert before is not None
    assert system_memory.available() == before + (32 << 20)


def test_what_does_not_fit_is_refused_with_both_numbers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, tmp_path, meminfo=MEMINFO)
    system_memory.require("rasterize", 5_000_000 * 1024, (1, 1, 1))
    with pytest.raises(RuntimeError, match=r"^texture: the results for 3 x 4 x 5 .* 6\.0 GB .* 5\.1 GB are"):
        system_memory.require("texture", 6_000_000_000, (3, 4, 5))


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or system_memory.platform.libc_ver()[0] != "glibc",
    reason="only glibc can be told",
)
def test_recycled_tensors_come_from_a_heap_that_stays() -> None:
    def run(how: str) -> str:
        return subprocess.check_output([sys.executable, "-c", HEAP, how], text=True).strip()

    assert run("fresh").startswith("False False")
    assert run("recycled") == "True True True"


@pytest.mark.parametrize("name", ["rasterize", "interpolate", "texture", "antialias"])
def test_each_operation_asks_before_it_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    pos = torch.tensor([[[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]]]).requires_grad_()
    tri = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    rast, rast_db = rg.rasterize(pos, tri, (8, 8))
    leaf = torch.rand(1, 8, 8, 3).requires_grad_()
    operations = {
        "rasterize": lambda: rg.rasterize(pos, tri, (8, 8))[0],
        "interpolate": lambda: rg.interpolate(leaf[0, 0, :3], rast, tri, rast_db, "all")[0],
        "texture": lambda: rg.texture(leaf, rast[..., :2]),
        "antialias": lambda: rg.antialias(leaf, rast, pos, tri),
    }
    image = operations[name]()
    monkeypatch.setattr(system_memory, "_ASK_FROM_BYTES", 0)
    monkeypatch.setattr(system_memory, "available", lambda: 8)
    with pytest.raises(RuntimeError, match=rf"^{name}: the results for 1 x 8 x 8 pixels"):
        operations[name]()
    with pytest.raises(RuntimeError, match=rf"^{name}: the gradients for 1 x 8 x 8 pixels"):
        image.sum().backward()
