# SPDX-License-Identifier: MIT
"""The rules of the house that tools can hold: who includes whom, sizes, the public surface, symbols per
instruction set.
"""

import ast
import doctest
import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch

import rastergrad as rg
from rastergrad.core import native

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "rastergrad"
ROOMS = ("rasterize", "interpolate", "texture", "antialias")
ROOM_FILES = {"__init__.py", "op.py", "reference.py", "NOTES.md"}


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_furnished_alike(room: str) -> None:
    files = {p.name for p in (SOURCE / "ops" / room).iterdir()}
    assert files >= ROOM_FILES
    assert any(re.fullmatch(r"formulas.*\.h", f) for f in files)
    assert any(re.fullmatch(r"cpu.*\.cpp", f) for f in files)


@pytest.mark.parametrize("room", ROOMS)
def test_op_files_have_the_same_five_sections(room: str) -> None:
    text = (SOURCE / "ops" / room / "op.py").read_text()
    sections = re.findall(r"^# ---- (.+?) -+$", text, re.MULTILINE)
    assert [s for s in sections if s in SECTIONS] == SECTIONS


SECTIONS = ["public function", "forward", "backward", "shape-only version", "registration"]


def includes(path: Path) -> list[str]:
    return re.findall(r'^#include [<"](.+?)[>"]', path.read_text(), re.MULTILINE)


def test_formulas_include_neither_std_nor_loops() -> None:
    for path in SOURCE.glob("ops/*/formulas*.h"):
        allowed = {"portable.h", "vec.h"} | {p.name for p in path.parent.glob("formulas*.h")}
        assert set(includes(path)) <= allowed, path


def test_rooms_do_not_include_each_other() -> None:
    core = {p.name for p in (SOURCE / "core").glob("*.h")}
    for path in SOURCE.glob("ops/*/*"):
        if path.suffix in (".h", ".cpp"):
            local = {p.name for p in path.parent.glob("*.h")}
            for name in includes(path):
                assert name in core or name in local or re.fullmatch(r"[a-z_]+(\.h)?", name), (path, name)
                assert "/" not in name, (path, name)


def test_core_knows_no_primitive() -> None:
    for path in (SOURCE / "core").iterdir():
        if path.suffix in (".h", ".cpp", ".c", ".py"):
            found = re.findall(r"#include .*ops|\bfrom \.\.ops|rastergrad\.ops", path.read_text())
            assert not found, (path, found)


def test_long_files_give_a_reason() -> None:
    for path in [*ROOT.glob("src/**/*"), *ROOT.glob("tests/**/*"), *ROOT.glob("testing/**/*")]:
        if path.suffix in (".py", ".h", ".cpp", ".c") and "build" not in path.parts:
            text = path.read_text()
            assert text.count("\n") <= 600 or "Long because" in text[:800], path


def test_sources_carry_the_licence() -> None:
    for folder in ("src", "tests", "testing", "benchmarks", "examples"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".pyi", ".h", ".cpp", ".c", ".glsl"):
                assert "SPDX-License-Identifier: MIT" in path.read_text()[:200], path


def test_public_surface_is_what_the_package_says() -> None:
    for name in rg.__all__:
        value = getattr(rg, name)
        assert value.__doc__, name
        assert len(value.__doc__.splitlines()) > 1 or not callable(value) or name == "memory_use", name
    visible = {n for n, v in vars(rg).items() if not n.startswith("_") and not isinstance(v, type(sys))}
    assert visible == set(rg.__all__)


def modules() -> list[str]:
    names = (m.name for m in pkgutil.walk_packages(rg.__path__, "rastergrad."))
    return sorted(n for n in names if n.rsplit(".", 1)[1] not in ("_native", "librastergrad"))


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_run(name: str) -> None:
    if name.endswith("__main__"):
        return
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0


def test_documented_public_functions_have_examples() -> None:
    for name in rg.__all__:
        value = getattr(rg, name)
        if callable(value) and not isinstance(value, type) and name != "memory_use":
            assert ">>>" in (value.__doc__ or ""), name


def library() -> Path:
    found = list(Path(native._native.__file__).parent.glob("librastergrad.*"))
    assert found, "librastergrad lies beside the module"
    return found[0]


SHIPPED = (".py", ".pyi", ".h", ".cu", ".glsl", ".html")


def shipped_files() -> list[Path]:
    listed = re.search(r"^wheel\.exclude = (\[.*?\])", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    assert listed is not None
    left_out: list[str] = ast.literal_eval(listed[1])
    files = (p for p in SOURCE.rglob("*") if p.suffix in SHIPPED)
    return [p for p in files if not any(p.relative_to(SOURCE.parent).match(pattern) for pattern in left_out)]


def test_what_gpu_kernels_include_is_shipped() -> None:
    shipped = {p for p in shipped_files() if p.suffix in (".cu", ".h")}
    for source in shipped:
        folders = (source.parent, SOURCE / "core")
        for name in re.findall(r'^#include "([^"]+)"', source.read_text(), re.M):
            assert any(folder / name in shipped for folder in folders), f"{source} includes {name}"


def test_wheel_stays_below_two_megabytes() -> None:
    shipped = shipped_files()
    # Each file has its name in the archive twice, and once with a digest in a list.
    sources = sum(len(zlib.compress(p.read_bytes())) + 250 for p in shipped)
    binary = library()
    stripped = binary.read_bytes()
    if shutil.which("strip"):
        copy = ROOT / "build" / "stripped.so"
        subprocess.run(["strip", "-o", copy, binary], check=True)
        stripped = copy.read_bytes()
        copy.unlink()
    assert sources + len(zlib.compress(stripped)) < 2_000_000


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm (binutils)")
def test_inline_functions_stay_in_the_namespace_of_their_instruction_set() -> None:
    """A weak symbol that two instruction sets share is merged by the linker: an old processor would run
    AVX-512.
    """
    # The sanitized library holds one instruction set only: nothing to merge, and little is inlined there.
    objects = [p for p in ROOT.glob("build/**/*.o") if "kernels_" in str(p) and "sanitize" not in p.parts]
    assert objects, "the build folder holds the object files"
    for path in objects:
        level = re.search(r"kernels_(\w+)\.dir", str(path))
        assert level is not None
        listed = subprocess.run(
            ["nm", "-C", "--defined-only", path], check=True, capture_output=True, text=True
        )
        weak = [
            line.split(" ", 2)[2]
            for line in listed.stdout.splitlines()
            if " W " in line or " V " in line or " u " in line
        ]
        strangers = [
            s
            for s in weak
            if f"rg::{level[1]}::" not in s and not re.match(r"DW\.ref|__clang_call_terminate", s)
        ]
        assert not strangers, (path.name, strangers[:5])


def test_import_brings_nothing_heavy_and_says_nothing() -> None:
    """What import time is made of; the time itself is a row of the benchmark table."""
    code = (
        "import torch, sys; before = set(sys.modules); import rastergrad; "
        "assert 'rastergrad.compat' not in sys.modules; "
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    new = {m for m in done.stdout.split() if m not in sys.stdlib_module_names and "editable" not in m}
    assert new == {"rastergrad"}


def test_simd_choice_is_honoured_or_refused() -> None:
    code = "import rastergrad.core.native as n; print(n.simd_level())"
    for level in native.simd_levels():
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment(level), capture_output=True, text=True
        )
        assert done.stdout.strip() == level, done.stderr
    bad = subprocess.run([sys.executable, "-c", code], env=environment("v9"), capture_output=True, text=True)
    assert bad.returncode != 0
    assert "RASTERGRAD_SIMD='v9' cannot be used" in bad.stderr


def environment(level: str) -> dict[str, str]:
    import os

    return {**os.environ, "RASTERGRAD_SIMD": level}


def test_kernel_calls_check_their_fields() -> None:
    handle = native.kernels("interpolate_forward")[torch.float32]
    with pytest.raises(TypeError, match="interpolate_forward_f32 takes 15 fields; got 2"):
        native.call(handle, 1, 2)
    with pytest.raises(ValueError, match="there is no kernel"):
        native.call(-1)
    with pytest.raises(RuntimeError, match="no kernel 'nonsense'"):
        native.kernel("nonsense")
