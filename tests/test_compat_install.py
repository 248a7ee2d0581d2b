# SPDX-License-Identifier: MIT
"""`install()` and `uninstall()`: what `import nvdiffrast.torch` finds."""

import copy
import importlib
import importlib.util
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import rastergrad.compat.nvdiffrast as ours
from rastergrad import compat


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = dict(sys.modules)
    yield
    compat.uninstall()
    for name in [n for n in sys.modules if n.split(".")[0] == "nvdiffrast"]:
        del sys.modules[name]
    sys.modules.update({n: m for n, m in before.items() if n.split(".")[0] == "nvdiffrast"})
    importlib.invalidate_caches()


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package of that name, as if nvdiffrast itself were installed."""
    package = tmp_path / "nvdiffrast"
    package.mkdir()
    (package / "__init__.py").write_text("__version__ = 'theirs'\n")
    (package / "torch.py").write_text("def rasterize(): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_all_ways_to_import_it() -> None:
    assert compat.install()
    import nvdiffrast
    import nvdiffrast.torch
    import nvdiffrast.torch as dr
    from nvdiffrast import torch as dr_from
    from nvdiffrast.torch import RasterizeCudaContext

    assert dr is dr_from is nvdiffrast.torch is importlib.import_module("nvdiffrast.torch") is ours
    assert RasterizeCudaContext is ours.RasterizeCudaContext
    assert [int(x) for x in nvdiffrast.__version__.split(".")] >= [0, 3, 1]
    for name in ("nvdiffrast", "nvdiffrast.torch"):
        assert importlib.util.find_spec(name) is not None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("nvdiffrast.tensorflow")


def test_uninstall_undoes_it() -> None:
    before = {n: m for n, m in sys.modules.items() if "nvdiffrast" in n}
    compat.install()
    assert compat.install()  # a second time changes nothing
    compat.uninstall()
    assert {n: m for n, m in sys.modules.items() if "nvdiffrast" in n} == before
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("nvdiffrast.torch")
    compat.uninstall()  # nor does a second undoing


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize("imported", [False, True])
def test_the_real_one_wins_unless_told_otherwise(imported: bool) -> None:
    if imported:
        importlib.import_module("nvdiffrast.torch")
    before = dict(sys.modules)
    assert not compat.install()
    assert dict(sys.modules) == before
    assert importlib.import_module("nvdiffrast").__version__ == "theirs"

    real = importlib.import_module("nvdiffrast.torch")
    assert compat.install(replace=True)
    assert importlib.import_module("nvdiffrast.torch") is ours
    compat.uninstall()
    assert importlib.import_module("nvdiffrast.torch") is real
    assert importlib.import_module("nvdiffrast").torch is real


def test_a_forbidden_import_counts_as_absent_and_stays_forbidden() -> None:
    sys.modules["nvdiffrast"] = None  # type: ignore[assignment]
    assert compat.install()
    assert importlib.import_module("nvdiffrast.torch") is ours
    compat.uninstall()
    assert sys.modules["nvdiffrast"] is None


def test_contexts_are_copied_and_pickled_with_what_holds_them() -> None:
    class Renderer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.glctx = ours.RasterizeGLContext(device="cpu")

    twin = copy.deepcopy(Renderer())
    again = pickle.loads(pickle.dumps(twin.glctx))
    assert isinstance(again, ours.RasterizeGLContext)
    assert pickle.loads(pickle.dumps(ours.rasterize)) is ours.rasterize


def test_as_the_guide_says() -> None:
    """In a process of its own, where nothing has been imported yet."""
    code = """
        import sys
        from rastergrad import compat
        assert "rastergrad.compat.nvdiffrast" not in sys.modules
        compat.install()
        import nvdiffrast.torch as dr
        print(dr.rasterize.__module__)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.stderr) == ("rastergrad.compat.nvdiffrast", "")
