# SPDX-License-Identifier: MIT
"""`cuda_on_cpu()`: every request for CUDA lands on the CPU, and torch is afterwards what it was before.

tests/programs/hard_coded_cuda.py asks in every way; here are its surroundings: what is left behind, nesting,
threads, completeness.
"""

import ast
import importlib
import io
import pickle
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import _device
from torch.utils.data import DataLoader, TensorDataset

from rastergrad import compat
from rastergrad.compat.redirect import tensors

pytestmark = pytest.mark.cpu_kernels("what lands on the CPU")
PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture
def _program(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The programs can be imported, and are forgotten afterwards; so is what they choose for torch."""
    monkeypatch.syspath_prepend(str(PROGRAMS))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
    yield
    for name in ("hard_coded_cuda", "hard_coded_module"):
        sys.modules.pop(name, None)


def attributes() -> dict[tuple[str, str], Any]:
    """Everything in torch's modules and classes, but for the tables of the compiler, which are emptied."""
    found: dict[tuple[str, str], Any] = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] != "torch" or not isinstance(module, types.ModuleType):
            continue
        if name.startswith("torch._dynamo"):
            continue
        for key, value in list(vars(module).items()):
            found[name, key] = value
            if isinstance(value, type) and str(getattr(value, "__module__", "")).startswith("torch"):
                found.update({(f"{name}.{key}", k): v for k, v in vars(value).items()})
    return found


def run_program() -> None:
    compat.install(replace=True)
    try:
        with compat.cuda_on_cpu():
            importlib.import_module("hard_coded_cuda").main()
    finally:
        compat.uninstall()


@pytest.mark.usefixtures("_program")
@pytest.mark.filterwarnings("ignore")  # of what programs do that torch deprecates
def test_a_program_that_hard_codes_cuda_leaves_no_trace() -> None:
    """Twice: what torch imports and fills when it is first used does not count as a trace."""
    run_program()
    for name in ("hard_coded_cuda", "hard_coded_module"):
        del sys.modules[name]
    before = attributes()
    run_program()
    after = attributes()
    assert before.keys() == after.keys()
    changed = [k for k, v in before.items() if after[k] is not v and not isinstance(v, (int, float))]
    assert changed == []
    assert len(before) > 10_000
    made = [
        k
        for k, v in after.items()
        if isinstance(v, (type, types.FunctionType))
        and ("rastergrad.compat" in str(v.__module__) or "compat/redirect" in str(getattr(v, "__code__", "")))
    ]
    assert made == []


def test_torch_behaves_as_before() -> None:
    def behaviour() -> list[str]:
        def told(ask: Any) -> str:
            try:
                return repr(ask())
            except (RuntimeError, AssertionError, TypeError) as error:
                return f"{type(error).__name__}: {error}"

        x = torch.ones(2)
        return [
            told(ask)
            for ask in (
                lambda: torch.cuda.is_available(),
                lambda: torch.cuda.device_count(),
                lambda: torch.device("cuda"),
                lambda: torch.device("cuda:1").type,
                lambda: torch.get_default_device(),
                lambda: torch.zeros(1, device="meta"),
                lambda: torch.Generator().device,
                lambda: x.to("cpu") is x,
                lambda: x.cpu() is x,
                lambda: torch.cuda.get_device_capability(-1),
                lambda: torch.cuda.Event,
                lambda: torch.overrides._get_current_function_mode_stack(),
                lambda: torch.autocast("cpu").device,
                lambda: torch.jit.script(lambda_free)(x),
            )
        ]

    before = behaviour()
    with compat.cuda_on_cpu():
        torch.set_default_device("cuda:0")
        inside = behaviour()
    assert behaviour() == before
    assert inside != before
    if not torch.cuda.is_available():
        with pytest.raises((RuntimeError, AssertionError)):
            torch.zeros(1, device="cuda")
        with pytest.raises((RuntimeError, AssertionError)):
            torch.zeros(1).cuda()


def lambda_free(x: torch.Tensor) -> torch.Tensor:
    return x + torch.zeros(2)


def test_tables_that_torch_fills_meanwhile_hold_its_own_functions() -> None:
    """What it does at first use, as `with torch.device(...)` and `torch.overrides` do."""
    _device._device_constructors.cache_clear()
    torch.overrides.get_ignored_functions.cache_clear()
    with compat.cuda_on_cpu(), torch.device("cuda"):
        torch.overrides.get_ignored_functions()
        assert torch.zeros(1).device.type == "cpu"
    with torch.device("meta"):
        assert torch.zeros(1).device.type == "meta"
    assert torch.zeros in torch.overrides.get_ignored_functions()


def test_data_loaders_with_pinned_memory_do_not_complain() -> None:
    """torch warns where there is nothing to pin memory for, and warnings are errors here."""
    data = TensorDataset(torch.arange(4.0))
    with compat.cuda_on_cpu():
        (batch,) = next(iter(DataLoader(data, batch_size=4, pin_memory=True)))
    assert torch.equal(batch, torch.arange(4.0))


def test_names_imported_meanwhile_get_the_originals_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imports_names.py").write_text(
        "from torch import Generator, device, zeros as made\n"
        "from torch.cuda import Event, FloatTensor, is_available, stream\n"
        "kept = [made, is_available]\n"
        "def make(factory=made): return factory(1, device=device('cuda'))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with compat.cuda_on_cpu():
        module = importlib.import_module("imports_names")
        assert module.make().device.type == "cpu"
        move = torch.Tensor.to
    assert module.made is torch.zeros
    assert module.device is torch.device
    assert module.Generator is torch.Generator
    assert module.Event is torch.cuda.Event
    assert module.stream is torch.cuda.stream
    assert module.is_available is torch.cuda.is_available
    assert module.FloatTensor is torch.FloatTensor  # which it was: that is a class of torch's own
    # What is not a module's attribute stays as it is, and does as torch does.
    assert module.kept[1]() == torch.cuda.is_available()
    assert torch.equal(module.kept[0](2), torch.zeros(2))
    x = torch.ones(1)
    assert move(x, "cpu") is x
    if not torch.cuda.is_available():
        with pytest.raises((RuntimeError, AssertionError)):
            module.make()


def test_nested_and_after_an_exception() -> None:
    original = torch.zeros
    with compat.cuda_on_cpu():
        with pytest.raises(KeyError), compat.cuda_on_cpu():
            raise KeyError
        assert torch.zeros is not original
        assert torch.zeros(1, device="cuda").device.type == "cpu"
    assert torch.zeros is original


def test_other_threads_land_too() -> None:
    seen: list[str] = []
    with compat.cuda_on_cpu():
        threads = [
            threading.Thread(target=lambda: seen.append(str(torch.ones(2, device="cuda").cuda().device)))
            for _ in range(4)
        ]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert seen == ["cpu"] * 4


def test_classes_keep_their_identity() -> None:
    """Devices and generators in annotations, type tests, tables and pickles."""
    real = torch.device
    with compat.cuda_on_cpu():
        device = torch.device("cuda", 1)
        assert isinstance(device, torch.device)
        assert type(device) == torch.device  # noqa: E721, programs compare like this
        assert {torch.device: 1}[type(device)] == 1
        assert not isinstance("cuda", torch.device)
        assert issubclass(torch.device, torch.device)
        assert isinstance(device, torch.device | str)
        assert pickle.loads(pickle.dumps(device)) == torch.device("cpu")
        assert torch.device("meta").type == "meta"
        assert torch.device(real("cuda")).type == "cpu"
        assert isinstance(torch.Generator(device), torch.Generator)
        assert torch.zeros(1, device=real("cuda:3")).device.type == "cpu"
        with pytest.raises(RuntimeError, match="device string"):
            torch.zeros(1, device="cuda:x")
        with pytest.raises(RuntimeError, match="device"):
            torch.zeros(1).to("cubda")
    assert isinstance(device, real)


def test_is_honest_about_tensors() -> None:
    with compat.cuda_on_cpu():
        x = torch.zeros(1).cuda()
        assert x.device.type == "cpu"
        assert not x.is_cuda
        assert x.get_device() == -1


def test_what_crosses_is_a_copy() -> None:
    source = torch.zeros(3)
    array = np.zeros(3, dtype=np.float32)
    with compat.cuda_on_cpu():
        for sent in (
            source.cuda(),
            source.to("cuda"),
            source.to(torch.device("cuda")),
            source.to(device="cuda"),
            source.cpu(),
            source.to("cpu"),
            source.type(torch.cuda.FloatTensor),
            torch.as_tensor(source, device="cuda"),
            torch.as_tensor(array, device="cuda"),
            torch.asarray(array, device="cuda"),
            torch.from_numpy(array).cuda(),
        ):
            sent += 1
        assert source.to(torch.float32) is source
        leaf = torch.zeros(3, requires_grad=True)
        assert leaf.cuda() is leaf.to("cuda") is leaf.to(torch.device("cuda")) is leaf
        assert leaf.cpu() is not leaf
        leaf.cpu().sum().backward()
    assert not bool(source.any())
    assert not array.any()
    assert leaf.grad is not None
    assert bool((leaf.grad == 1).all())


def test_factories_are_complete() -> None:
    """What torch declares with `device` or `pin_memory` is in our list, private names and `out` apart."""
    declared = ast.parse((Path(torch.__file__).parent / "_C" / "_VariableFunctions.pyi").read_text())

    def takes(function: ast.FunctionDef) -> bool:
        names = {a.arg for a in [*function.args.args, *function.args.kwonlyargs]}
        return bool(names & {"device", "pin_memory"})

    wanted = {f.name for f in declared.body if isinstance(f, ast.FunctionDef) and takes(f)}
    listed = {*tensors.FACTORIES[torch].split(), *tensors.VIEWS.split()}
    assert {n for n in wanted if not n.startswith("_")} - listed == set()
    methods = ast.parse((Path(torch.__file__).parent / "_C" / "__init__.pyi").read_text())
    (base,) = (c for c in methods.body if isinstance(c, ast.ClassDef) and c.name == "TensorBase")
    wanted = {f.name for f in base.body if isinstance(f, ast.FunctionDef) and takes(f)}
    handled = {*tensors.NEW_METHODS.split(), "to", "cuda", "pin_memory", "is_pinned", "xpu"}
    assert {n for n in wanted if not n.startswith("_")} - handled == set()


def test_graphs_are_refused_with_a_remedy() -> None:
    def step(x: torch.Tensor) -> torch.Tensor:
        return x + 1

    with compat.cuda_on_cpu():
        with pytest.raises(RuntimeError, match="Call the steps themselves"):
            torch.cuda.CUDAGraph()
        assert torch.cuda.make_graphed_callables(step, (torch.zeros(1),)) is step


def test_compiled_functions_during_and_afterwards() -> None:
    """torch.compile remembers torch's functions by identity, from its first use on."""

    def moved(x: torch.Tensor) -> torch.Tensor:
        return x.cuda() + torch.ones(3, device="cuda")

    def made(x: torch.Tensor) -> torch.Tensor:
        return x + torch.zeros(3, dtype=torch.float32) + torch.ones_like(x)

    with compat.cuda_on_cpu():
        for function in (moved, made):
            assert float(torch.compile(function, backend="eager")(torch.zeros(3)).sum()) == 3
    torch.compiler.reset()
    assert float(torch.compile(made, backend="eager", fullgraph=True)(torch.zeros(3)).sum()) == 3


def test_files_of_gpu_tensors_are_read() -> None:
    """A file whose tensors say that they lived on a GPU."""
    buffer = io.BytesIO()
    torch.save({"w": torch.arange(3.0)}, buffer, _use_new_zipfile_serialization=False)
    data = buffer.getvalue()
    assert data.count(b"\x03\x00\x00\x00cpu") == 1
    on_gpu = data.replace(b"\x03\x00\x00\x00cpu", b"\x06\x00\x00\x00cuda:0")
    with compat.cuda_on_cpu():
        for place in (None, "cuda", torch.device("cuda"), {"cuda:0": "cuda:1"}, "cpu"):
            loaded = torch.load(io.BytesIO(on_gpu), map_location=place)
            assert torch.equal(loaded["w"], torch.arange(3.0))
