# SPDX-License-Identifier: MIT
"""OpenGL contexts: who gets which, that they come and go without a trace, and what is said where there are
none.
"""

import gc
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import rastergrad as rg
from rastergrad import doctor
from rastergrad.core import egl, opengl
from testing import scenes, with_opengl

pytestmark = with_opengl.needs_opengl

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
MESH = scenes.sphere(300)
POS = MESH.clip(scenes.orbit(2))


@pytest.fixture(autouse=True)
def _context() -> opengl.Context:
    return with_opengl.require()


def drawn() -> torch.Tensor:
    return rg.rasterize(POS, MESH.tri, (32, 32), backend="opengl")[0]


def python(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": paths, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# ---- one per process, device and thread --------------------------------------------------------------------


def test_one_for_each_thread_and_gone_with_it() -> None:
    mine = opengl.context(CPU)
    assert opengl.context(CPU) is mine
    want = drawn()
    others: list[weakref.ref[opengl.Context]] = []

    def work() -> bool:
        others.append(weakref.ref(opengl.context(CPU)))
        assert opengl.context(CPU) is others[-1]() is not mine
        return torch.equal(drawn(), want)

    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    assert results == [True]
    gc.collect()
    assert others[0]() is None
    assert torch.equal(drawn(), want)


def test_eight_threads_at_once() -> None:
    want = drawn()
    start = threading.Barrier(8)

    def work(_: int) -> bool:
        start.wait()
        return all(torch.equal(drawn(), want) for _ in range(6))

    for _ in range(3):
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(8)))


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_a_thousand_contexts_leave_nothing_behind() -> None:
    """Memory, open files and threads, of contexts alone and of those that have drawn. Contexts that are not
    destroyed take 300 kB each: 300 MB.
    """

    def used() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    def come_and_go(times: int, *, drawing: bool) -> None:
        for _ in range(times):
            if drawing:
                drawn()
                opengl.release()
            else:
                opengl.create(CPU).release()

    come_and_go(20, drawing=False)
    come_and_go(5, drawing=True)
    before, memory = used(), resident_mb()
    come_and_go(1000, drawing=False)
    come_and_go(30, drawing=True)
    assert used() == before
    assert resident_mb() - memory < 15


def test_released_twice_is_released_once() -> None:
    context = opengl.create(CPU)
    context.release()
    context.release()
    assert float(drawn()[..., 3].max()) > 0


def test_a_context_of_the_program_stays_current() -> None:
    """A viewer's, for example: it is current before and after, and ours does not depend on it."""
    library = egl.library()
    theirs = opengl.create(CPU)
    with theirs:
        before = library.eglGetCurrentContext()
        want = drawn()
        assert library.eglGetCurrentContext() == before
        with opengl.context(CPU), theirs:
            assert library.eglGetCurrentContext() == before
        assert library.eglGetCurrentContext() == before
        assert theirs.gl.GetError() == 0
    library.eglMakeCurrent(library.eglGetCurrentDisplay(), None, None, None)
    assert torch.equal(drawn(), want)
    assert library.eglGetCurrentContext() not in (None, before)
    theirs.release()


def test_beside_moderngl() -> None:
    """It keeps its own state for a context that it takes to be current."""
    moderngl = pytest.importorskip("moderngl", reason="needs moderngl, of the extra bench")
    theirs = moderngl.create_context(standalone=True, backend="egl")
    target = theirs.framebuffer([theirs.texture((4, 4), 4, dtype="f4")])
    target.use()
    theirs.clear(0.25, 0.5, 0.75, 1.0)
    drawn()
    theirs.clear(0.5, 0.5, 0.75, 1.0, viewport=(0, 0, 2, 4))
    pixels = torch.frombuffer(bytearray(target.read(components=4, dtype="f4")), dtype=torch.float32).reshape(
        4, 4, 4
    )
    assert pixels[:, :2, 0].unique().tolist() == [0.5]
    assert pixels[:, 2:, 0].unique().tolist() == [0.25]
    theirs.release()
    assert float(drawn()[..., 3].max()) > 0


def test_of_the_platform_through_glcontext(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Windows and macOS would use, with glcontext's EGL in place of their own: made current, drawn with,
    released.
    """
    glcontext = pytest.importorskip("glcontext", reason="needs glcontext, of the extra opengl")
    monkeypatch.setattr(glcontext, "default_backend", lambda: glcontext.get_backend_by_name("egl"))
    monkeypatch.setattr(sys, "platform", "win32")
    want = drawn()
    opengl.release()
    assert opengl.context(CPU).device == "the default device of win32"
    assert torch.equal(drawn(), want)
    opengl.release()


def test_of_the_platform_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setitem(sys.modules, "glcontext", None)
    with pytest.raises(
        RuntimeError, match=r"glcontext cannot be imported.*pip install 'rastergrad\[opengl\]'"
    ):
        opengl.create(CPU)

    class Broken:
        @staticmethod
        def default_backend() -> object:
            raise OSError("no display")

    monkeypatch.setitem(sys.modules, "glcontext", Broken)
    with pytest.raises(
        RuntimeError, match=r"no context of OpenGL 3\.3 \(no display\)\. Update the graphics driver"
    ):
        opengl.create(CPU)


# ---- processes ---------------------------------------------------------------------------------------------

DRAWN = """
    import multiprocessing, os, sys
    import torch
    import rastergrad as rg
    from testing import scenes
    mesh = scenes.sphere(300)
    pos = mesh.clip(scenes.orbit(2))
    def drawn():
        return rg.rasterize(pos, mesh.tri, (32, 32), backend="opengl")[0]
    want = drawn()
"""
FORKS = f"""{DRAWN}
    def same(*_):
        return torch.equal(drawn(), want)
    def status(child):
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    child = os.fork()
    if child == 0:
        assert same()
        grandchild = os.fork()
        if grandchild == 0:
            try:
                drawn()
            except RuntimeError as failure:
                assert 'with the method "spawn"' in str(failure)
                os._exit(5)
            os._exit(6)
        assert same()
        sys.exit(3 if status(grandchild) == 5 else 4)
    assert status(child) == 3
    assert same()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert all(pool.map(same, range(4)))
    idle = os.fork()
    if idle == 0:
        sys.exit(7)
    assert status(idle) == 7
    assert same()
"""


NVIDIAS_FORK = f"""{DRAWN}
    child = os.fork()
    if child == 0:
        try:
            drawn()
        except RuntimeError as failure:
            os._exit(5 if 'with the method "spawn"' in str(failure) else 6)
        os._exit(7)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == 5, code
    assert torch.equal(drawn(), want)
"""


def test_forked_processes_draw_with_a_context_of_their_own() -> None:
    """Raw forks that end as programs do, and workers of multiprocessing; no word on stderr. The parent's
    threads are missing in a child, so what waits for one hangs: hence the time limit. Mesa has displays for
    one generation, NVIDIA's driver refuses at once.
    """
    nvidias = "cuda:" in with_opengl.require().device
    # Python 3.12 says of any process with several threads that it had better not fork.
    program = NVIDIAS_FORK if nvidias else FORKS
    done = python(program, PYTHONWARNINGS="ignore::DeprecationWarning")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


AS_NVIDIAS = """
    import dataclasses
    from rastergrad.core import egl
    device = egl._device
    egl._device = lambda *found: dataclasses.replace(device(*found), cuda=0)
"""


def test_a_fork_is_refused_before_it_touches_nvidias_driver() -> None:
    """With Mesa's in its place: the child must not reach it, and the parent goes on drawing."""
    done = python(AS_NVIDIAS + NVIDIAS_FORK, PYTHONWARNINGS="ignore::DeprecationWarning")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    """Not by the import, nor by drawing with the device's backend; the end of a process is silent."""
    done = python("""
        import pathlib, torch, rastergrad as rg
        import rastergrad.compat.nvdiffrast as dr
        pos, tri = torch.rand(1, 3, 4), torch.tensor([[0, 1, 2]])
        rg.rasterize(pos, tri, (4, 4))
        dr.rasterize(dr.RasterizeGLContext(device="cpu"), pos, tri, (4, 4))
        print("libEGL" in pathlib.Path("/proc/self/maps").read_text())
        rg.rasterize(pos, tri, (4, 4), backend="opengl")
        print("libEGL" in pathlib.Path("/proc/self/maps").read_text())
    """)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["False", "True"], "")


# ---- why there is none -------------------------------------------------------------------------------------

# egl.py stands alone, so that a process takes 0.1 s in place of 2.
OPEN = f"""
    import importlib.util, sys
    spec = importlib.util.spec_from_file_location("egl", {str(egl.__file__)!r})
    egl = sys.modules["egl"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(egl)
    try:
        context, device = egl.create()
        with context:
            print("draws on", device)
    except RuntimeError as failure:
        print(failure)
"""


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "draws on EGL device 0"),
        ({"DISPLAY": ":99", "EGL_PLATFORM": "x11"}, "draws on EGL device 0"),
        ({"WAYLAND_DISPLAY": "absent", "EGL_PLATFORM": "wayland"}, "draws on EGL device 0"),
        ({"RASTERGRAD_EGL_DEVICE": "0"}, "draws on EGL device 0"),
        (
            {"RASTERGRAD_EGL_DEVICE": "40"},
            "rastergrad: OpenGL: RASTERGRAD_EGL_DEVICE=40, but there are only EGL device 0",
        ),
        (
            {"RASTERGRAD_EGL_DEVICE": "gpu"},
            "RASTERGRAD_EGL_DEVICE must be the number of an EGL device; got 'gpu'",
        ),
        (
            {"__EGL_VENDOR_LIBRARY_DIRS": "/absent"},
            f"no driver for it. Install one; in Debian and Ubuntu: {egl.DEBIAN}",
        ),
        (
            {"LIBGL_DRIVERS_PATH": "/absent"},
            "EGL device 0 (software): eglInitialize gives EGL_NOT_INITIALIZED: Mesa's software driver is "
            f"missing or broken; in Debian and Ubuntu: {egl.DEBIAN}",
        ),
        (
            {"MESA_GL_VERSION_OVERRIDE": "3.2"},
            "eglCreateContext gives EGL_BAD_MATCH: its OpenGL is older than 3.3; update the driver, or draw "
            "in software with RASTERGRAD_EGL_DEVICE",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_causes_and_remedies(variables: dict[str, str], said: str) -> None:
    """Found out by breaking Mesa; no abort. A broken display does no harm."""
    if not with_opengl.software(with_opengl.require()):
        pytest.skip("the variables break Mesa's software driver only")
    done = python(OPEN, **variables)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egl, "LIBRARY", "libEGL-absent.so.1")
    egl.library.cache_clear()
    with pytest.raises(
        RuntimeError, match=r"libEGL-absent\.so\.1 cannot be loaded .*apt-get install libegl1"
    ):
        egl.create()
    monkeypatch.undo()
    egl.library.cache_clear()
    assert egl.devices()


SOFTWARE = egl.Device(0, 100, True, None, None)
FIRST = egl.Device(1, 101, False, 0, "/dev/dri/renderD128")
SECOND = egl.Device(2, 102, False, 1, "/dev/dri/renderD129")


def choose(monkeypatch: pytest.MonkeyPatch, devices: list[egl.Device], **wanted: int) -> list[int]:
    """The devices that are tried, in order, when all but software fails."""
    tried: list[int] = []

    def context(device: egl.Device) -> str:
        tried.append(device.index)
        if device.software:
            return "a context"
        raise RuntimeError("is broken")

    monkeypatch.setattr(egl, "devices", lambda: devices)
    monkeypatch.setattr(egl, "_context", context)
    assert egl.create(**wanted)[1].software
    return tried


def test_hardware_first_for_tensors_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(monkeypatch, [SOFTWARE, FIRST, SECOND]) == [1, 2, 0]


def test_the_gpu_of_the_tensors_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never in silence by software or by another GPU; the variable may say so."""
    with pytest.raises(
        RuntimeError, match=r"OpenGL: EGL device 2 \(/dev/dri/renderD129, cuda:1\): is broken\."
    ):
        choose(monkeypatch, [SOFTWARE, FIRST, SECOND], cuda=1)
    with pytest.raises(RuntimeError, match=r"EGL device 2 \(.*\): is broken\."):
        choose(monkeypatch, [SOFTWARE, FIRST, SECOND], number=1)
    with pytest.raises(
        RuntimeError, match=r"none of its devices is the GPU that holds the tensors; there are EGL dev"
    ):
        choose(monkeypatch, [SOFTWARE, FIRST], cuda=1)
    monkeypatch.setenv(egl.CHOICE, "0")
    assert choose(monkeypatch, [SOFTWARE, FIRST], cuda=1) == [0]


def test_gpus_that_cuda_does_not_see_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    for visible, index, ordinal in (
        ("", 1, 1),
        ("2,3", 1, 3),
        ("2,3", 0, 2),
        ("GPU-7f3a", 0, 0),
        ("1", 4, 4),
    ):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert opengl._ordinal(index) == ordinal


def test_nvidia_without_its_opengl(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual container: CUDA works, graphics were not asked for."""
    monkeypatch.setattr(egl, "Path", lambda name: Path("/") if name == "/dev/nvidiactl" else Path(name))
    monkeypatch.setattr(egl, "devices", lambda: [SOFTWARE])
    with pytest.raises(RuntimeError, match=r"NVIDIA_DRIVER_CAPABILITIES=all.*libnvidia-gl"):
        egl.create(cuda=0)


def test_a_render_node_without_access(tmp_path: Path) -> None:
    said = egl._initialize_fails(
        egl.Device(1, 1, False, None, str(tmp_path / "renderD128")), "EGL_BAD_ACCESS"
    )
    assert "there is no access to" in said
    assert "add the user to the group that owns it" in said
    assert "driver is missing" in egl._initialize_fails(egl.Device(1, 1, False, None, None), "EGL_BAD_ACCESS")


def test_missing_functions_shaders_and_errors_of_the_driver() -> None:
    with pytest.raises(RuntimeError, match="the driver has no glActiveTexture; update it"):
        opengl.Functions(lambda name: 0)
    with opengl.context(CPU) as context:
        gl = context.gl
        with pytest.raises(
            RuntimeError, match=r"(?s)refuses the shaders of nothing; please report this: .*error"
        ):
            opengl.program(gl, "#version 330 core\nnonsense", "#version 330 core\nvoid main() {}", "nothing")
        gl.Enable(0xFFFF)
        with pytest.raises(RuntimeError, match=r"OpenGL: testing: GL_INVALID_ENUM\.$"):
            gl.check("testing")
        gl.check("testing")
        with pytest.raises(AttributeError, match="glFlush is not among"):
            gl.Flush()


# ---- doctor ------------------------------------------------------------------------------------------------


def test_doctor_says_what_draws_and_checks_it() -> None:
    lines, well = doctor.examine()
    assert well
    context = with_opengl.require()
    assert f"OpenGL for tensors on cpu: {context.device}, {context.renderer}, {context.version}" in lines
    (check,) = [line for line in lines if line.startswith("check rasterize with OpenGL")]
    assert "within" in check


def test_doctor_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is content: OpenGL is nobody's duty."""

    def missing(_: torch.device) -> opengl.Context:
        raise RuntimeError("rastergrad: OpenGL: libEGL.so.1 cannot be loaded. Install it")

    monkeypatch.setattr(opengl, "context", missing)
    lines, well = doctor.examine()
    assert well
    assert "OpenGL: none; libEGL.so.1 cannot be loaded. Install it" in lines
    assert not [line for line in lines if "with OpenGL" in line]
