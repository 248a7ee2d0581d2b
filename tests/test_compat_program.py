# SPDX-License-Identifier: MIT
"""`python -m rastergrad.compat`: programs run unchanged, and as Python itself would run them."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import rastergrad
from rastergrad.compat import __main__ as runner
from rastergrad.compat import program

PROGRAMS = Path(__file__).parent / "programs"
RUNNER = ("-m", "rastergrad.compat", "--device", "cpu")
LINE = "rastergrad.compat: nvdiffrast is rastergrad here; every request for a CUDA device lands on the CPU\n"


# Also where PYTHONPATH is a path relative to the checkout.
PATHS = [str(Path(rastergrad.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
ENVIRONMENT = {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONPATH": os.pathsep.join(PATHS)}


def python(*arguments: object, folder: Path) -> tuple[str, str, int]:
    """What it writes to stdout and stderr, and its exit code."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=ENVIRONMENT)
    return done.stdout, done.stderr, done.returncode


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["hard_coded_cuda.py"], "everything landed\n"),
        # Tensors: "tensors shared between processes"; started by "spawn", as CUDA demands.
        (["shares_tensors.py", "--device", "mine"], "16 pixels, ['--device', 'mine']\n"),
    ],
)
def test_programs_that_hard_code_cuda(command: list[str], said: str, tmp_path: Path) -> None:
    """With one line on stderr, from any folder."""
    done = python(*RUNNER, PROGRAMS / command[0], *command[1:], folder=tmp_path)
    assert done == (said, LINE, 0)


# What a program can see of how it is run; the last lines differ from program to program.
SEEN = """
import sys, atexit, inspect, pickle
import helper
class Mine: pass
assert isinstance(pickle.loads(pickle.dumps(Mine())), Mine)
assert sys.modules["__main__"].__dict__ is globals()
print(sys.argv, __name__, __file__, sys.path[0], __package__, __doc__)
print(__spec__ and (__spec__.name, __spec__.origin), type(__loader__).__name__, helper.__file__)
print(inspect.getsource(helper.f), sys.flags.dev_mode)
atexit.register(lambda: print("at exit", __name__, Mine in vars(sys.modules["__main__"]).values()))
"""


def test_as_python_itself(tmp_path: Path) -> None:
    """Arguments, `__main__`, `__file__`, `sys.path[0]`, exit codes, what is printed, and tracebacks."""
    folder = tmp_path / "inner"
    folder.mkdir()
    (folder / "helper.py").write_text("def f():\n    raise ValueError('deep')\n")
    programs = {
        "raises": SEEN + "try:\n    helper.f()\nexcept ValueError as e:\n    raise KeyError('x') from e\n",
        "exits": SEEN + "sys.exit(7)\n",
        "interrupts": SEEN + "raise KeyboardInterrupt\n",
        "is_no_program": "def f(:\n",
        "folder/__main__": SEEN + "sys.exit('no such luck')",
    }
    (folder / "folder").mkdir()
    (folder / "folder" / "helper.py").write_text("def f(): ...\n")
    for name, text in programs.items():
        (folder / f"{name}.py").write_text(text)
    pairs = [
        (("inner/raises.py", "--device", "cuda", "-m"), tmp_path),
        (("inner/interrupts.py",), tmp_path),
        (("inner/is_no_program.py",), tmp_path),
        (("inner/folder", "z"), tmp_path),
        (("-m", "exits", "-x", "y"), folder),
    ]
    with ThreadPoolExecutor(2) as pool:
        wanted = pool.map(lambda pair: python(*pair[0], folder=pair[1]), pairs)
        got = list(pool.map(lambda pair: python(*RUNNER, *pair[0], folder=pair[1]), pairs))
    for (command, _), (out, err, code), (ours, our_err, our_code) in zip(pairs, wanted, got, strict=True):
        assert our_err.startswith(LINE), our_err
        assert (ours, our_err.removeprefix(LINE), our_code) == (out, without_runpy(err), code), command


def without_runpy(trace: str) -> str:
    """`python -m` begins tracebacks with two calls of runpy, in Python 3.10 followed by their lines."""
    return re.sub(r'  File "[^"]*runpy[^"]*", line.*\n(?:    .*\n)*', "", trace)


@pytest.mark.parametrize(
    "command",
    [("is_not_there.py",), (".",), ("-m", "is_not_there"), ("-m", "inner.is_not_there"), ("-m", "inner")],
)
def test_what_is_not_there(
    command: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Refused in Python's words, with Python's exit code."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "__init__.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "path", sys.path.copy())
    run = program.run_module if command[0] == "-m" else program.run_script
    with pytest.raises(SystemExit) as refusal:
        run(command[-1], [])
    _, err, code = python(*command, folder=tmp_path)
    assert (capsys.readouterr().err, refusal.value.code) == (err, code)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name a program, or -m and a module"),
        (["--device", "tpu", "x.py"], "invalid choice: 'tpu'"),
    ],
)
def test_options(
    arguments: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["rastergrad.compat", *arguments])
    with pytest.raises(SystemExit) as refusal:
        runner.main()
    assert words in capsys.readouterr().err
    assert refusal.value.code == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch sees")
@pytest.mark.parametrize(
    ("options", "place"), [([], "cuda:0"), (["--device", "cuda"], "cuda:0"), (["--device", "cpu"], "cpu")]
)
def test_with_a_gpu(options: list[str], place: str, tmp_path: Path) -> None:
    """The program's own lines decide, or `--device cpu`."""
    (tmp_path / "places.py").write_text(
        "import nvdiffrast.torch as dr, torch\n"
        "pos = torch.tensor([[[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]]]).cuda()\n"
        "tri = torch.tensor([[0, 1, 2]], dtype=torch.int32, device='cuda')\n"
        "rast, _ = dr.rasterize(dr.RasterizeCudaContext(), pos, tri, (2, 2))\n"
        "print(rast.device, int(rast[..., 3].sum()))\n"
    )
    out, err, code = python("-m", "rastergrad.compat", *options, "places.py", folder=tmp_path)
    assert (out, code) == (f"{place} 4\n", 0)
    assert err == (LINE if place == "cpu" else LINE.replace(LINE.split("; ")[1], "CUDA is the GPU\n"))
