# SPDX-License-Identifier: MIT
"""The NEON path compiles: every kernel and the core, for 64-bit ARM, without a warning."""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "rastergrad"
COMPILER = "aarch64-linux-gnu-g++"
FILES = sorted([*SOURCE.glob("ops/*/cpu*.cpp"), *SOURCE.glob("core/*.cpp")])
FLAGS = [
    *("-std=gnu++20", "-fPIC", "-Wall", "-Wextra", "-Werror"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
    *("-O1", "-c", "-DRG_ISA=neon"),
]


@pytest.mark.skipif(
    shutil.which(COMPILER) is None, reason=f"needs {COMPILER} (Debian: g++-aarch64-linux-gnu)"
)
def test_everything_compiles_for_neon(tmp_path: Path) -> None:
    rooms = {path.parent.name for path in FILES if path.parent.parent.name == "ops"}
    # What CMake writes for registry.cpp
    declared = "".join(f'extern "C" const rg::KernelTable rastergrad_kernels_neon_{r};\n' for r in rooms)
    listed = ", ".join(f"&rastergrad_kernels_neon_{r}" for r in rooms)
    (tmp_path / "kernel_tables.inc").write_text(
        f"{declared}struct Level {{ const char* name; std::vector<const rg::KernelTable*> tables; }};\n"
        f'const Level kLevels[] = {{{{"neon", {{{listed}}}}}}};\n'
    )

    def compile_one(path: Path) -> subprocess.CompletedProcess[str]:
        output = tmp_path / f"{path.parent.name}_{path.stem}.o"
        command = [COMPILER, *FLAGS, "-I", SOURCE / "core", "-I", tmp_path, "-o", output, path]
        return subprocess.run(command, capture_output=True, text=True)

    with ThreadPoolExecutor(2) as pool:
        for path, done in zip(FILES, pool.map(compile_one, FILES)):
            assert done.returncode == 0, f"{path}\n{done.stderr[:4000]}"
    library = tmp_path / "librastergrad.so"
    link = [COMPILER, "-shared", "-pthread", "-Wl,--no-undefined", "-o", library, *tmp_path.glob("*.o")]
    linked = subprocess.run(link, capture_output=True, text=True)
    assert linked.returncode == 0, linked.stderr[:4000]
