# SPDX-License-Identifier: MIT
"""Instructions that the hot kernels take: a number that does not depend on how busy or how fast a machine is.

`record` runs operations once and keeps every call that reaches native code: the kernel's name, its fields,
and the memory that they point to. `count` plays the calls back in a program without Python
(testing/replay.cpp) under valgrind, on one thread and with the AVX2 kernels, since valgrind 3.19 does not
know AVX-512. So nothing here knows what fields a kernel has.

    python -m testing.instructions             # compare with benchmarks/results/instructions.json
    python -m testing.instructions --update    # write it
"""

import argparse
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import rastergrad as rg
from rastergrad.core import _native, native

from . import scenes

ROOT = Path(__file__).resolve().parent.parent
STORED = ROOT / "benchmarks" / "results" / "instructions.json"
LEVEL = "v3"
TOLERANCE = 0.05
SIDE, TRIANGLES = 192, 4_000


@dataclass(frozen=True)
class Call:
    """One call of a kernel: pointers among the fields are (block, offset)."""

    label: str
    kernel: str
    fields: tuple[int | tuple[int, int], ...]
    blocks: tuple[bytes, ...]


def library() -> Path:
    """The installed shared library."""
    return next(Path(str(_native.__file__)).parent.glob("librastergrad.*"))


def missing() -> str | None:
    """Why nothing can be counted here."""
    if shutil.which("g++") is None:
        return "needs g++"
    if shutil.which("valgrind") is None:
        return "needs valgrind (Debian: apt-get install valgrind)"
    if LEVEL not in native.simd_levels():
        return f"the library has no {LEVEL} kernels, or this processor cannot run them"
    return None


def compiler(library: bytes) -> str:
    """What compiled a library, "gcc 12" or "clang 17"; from the notes that compilers leave in it."""
    if found := re.search(rb"clang version (\d+)", library):  # its libraries name the gcc of libc, too
        return f"clang {int(found[1])}"
    if found := re.search(rb"GCC: \([^)]*\) (\d+)", library):
        return f"gcc {int(found[1])}"
    return "unknown compiler"


# ---- what is counted ---------------------------------------------------------------------------------------


def cases() -> Iterator[tuple[str, Callable[[], object]]]:
    """Labels, and operations that are run once each."""
    mesh = scenes.sphere(TRIANGLES, bumps=0.2)
    size, tri = (SIDE, SIDE), mesh.tri
    pos = mesh.clip(scenes.orbit(1)).contiguous().requires_grad_()
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    def backward(outs: object, leaves: list[torch.Tensor]) -> Callable[[], object]:
        wanted = [o for o in (outs if isinstance(outs, tuple) else (outs,)) if o.requires_grad]
        upstream = [noise(*o.shape) for o in wanted]
        return lambda: torch.autograd.grad(wanted, leaves, upstream)

    drawn = rg.rasterize(pos, tri, size)
    rast, rast_db = (t.detach().requires_grad_() for t in drawn)
    yield "rasterize a sphere", lambda: rg.rasterize(pos.detach(), tri, size)
    yield "rasterize a sphere, backward", backward(drawn, [pos])
    soup = scenes.soup(2_000, (0.05, 0.3))
    soup_pos = torch.nn.functional.pad(soup.pos, (0, 1), value=1.0)[None]
    yield "rasterize a soup", lambda: rg.rasterize(soup_pos, soup.tri, size)

    for channels in (3, 16):
        attr = noise(1, len(mesh.pos), channels).requires_grad_()
        out, _ = rg.interpolate(attr, rast, tri)
        yield f"interpolate {channels}", lambda a=attr: rg.interpolate(a.detach(), rast.detach(), tri)
        yield f"interpolate {channels}, backward", backward(out, [attr, rast])
    uv = mesh.uv[None].clone().requires_grad_()
    outs = rg.interpolate(uv, rast, tri, rast_db, "all")
    yield (
        "interpolate with derivatives",
        lambda: rg.interpolate(uv.detach(), rast.detach(), tri, rast_db.detach(), "all"),
    )
    yield "interpolate with derivatives, backward", backward(outs, [uv, rast, rast_db])

    for name, shape, cube in (
        ("texture", (1, 256, 256, 3), False),
        ("texture of 16 channels", (1, 256, 256, 16), False),
        ("cube map", (1, 6, 128, 128, 3), True),
    ):
        tex = noise(*shape).requires_grad_()
        query = scenes.texture_query(0, 1, SIDE, SIDE, cube=cube, side=shape[2])
        leaves = [tex, *(t.requires_grad_() for t in query)]
        mode = "cube" if cube else "wrap"
        for way, used in (("bilinear", leaves[:2]), ("trilinear", leaves)):
            result = rg.texture(*used, boundary_mode=mode)
            yield (
                f"{name}, {way}",
                lambda used=used, mode=mode: rg.texture(*(t.detach() for t in used), boundary_mode=mode),
            )
            yield f"{name}, {way}, backward", backward(result, used)

    color = noise(1, SIDE, SIDE, 3).requires_grad_()
    topology = rg.edge_topology(tri)
    for method in ("pixel_pair", "outline"):
        options = {"topology": topology, "method": method}
        image = rg.antialias(color, rast.detach(), pos, tri, **options)
        yield (
            f"antialias, {method}",
            lambda o=options: rg.antialias(color.detach(), rast.detach(), pos.detach(), tri, **o),
        )
        yield f"antialias, {method}, backward", backward(image, [color, pos])


# ---- recording ---------------------------------------------------------------------------------------------


def record(cases: Iterator[tuple[str, Callable[[], object]]]) -> list[Call]:
    """Every call of a kernel that the operations make, on one thread."""
    calls: list[Call] = []
    original, threads = native.call, torch.get_num_threads()
    torch.set_num_threads(1)

    def recording(kernel: int, /, *fields: Tensor | int | float | None) -> int:
        plain = [x.data_ptr() if isinstance(x, Tensor) else x for x in fields]
        calls.append(_call(label, _name(kernel), plain))
        return original(kernel, *fields)

    try:
        for label, run in cases:  # noqa: B007  # `recording` reads it
            native.call = recording
            run()
            native.call = original
    finally:
        native.call = original
        torch.set_num_threads(threads)
    return calls


def _name(kernel: int) -> str:
    """Native code finds kernels by name; here the other way round."""
    import ctypes

    name = ctypes.CDLL(str(library())).rg_kernel_name
    name.restype = ctypes.c_char_p
    return name(kernel).decode()


def _call(label: str, kernel: str, fields: Sequence[int | float | None]) -> Call:
    """A field is a pointer if it points into a tensor that is alive; sizes and flags are far below."""
    starts = {s.data_ptr(): s for s in _live_storages() if s.nbytes()}
    blocks: dict[int, int] = {}
    encoded: list[int | tuple[int, int]] = []
    for value in fields:
        if isinstance(value, float):
            encoded.append(struct.unpack("<q", struct.pack("<d", value))[0])
            continue
        number = int(value or 0)
        inside = [start for start, s in starts.items() if start <= number < start + s.nbytes()]
        if inside:
            encoded.append((blocks.setdefault(inside[0], len(blocks)), number - inside[0]))
        else:
            assert number < 1 << 40, f"{kernel}: field {value:#x} points to no tensor"
            encoded.append(number)
    contents = tuple(_bytes(starts[start]) for start in blocks)
    return Call(label, kernel, tuple(encoded), contents)


def _live_storages() -> list[torch.UntypedStorage]:
    import gc

    # No subclasses: what torch.compile has left behind has no memory.
    return [
        o.untyped_storage()
        for o in gc.get_objects()
        if type(o) in (torch.Tensor, torch.nn.Parameter)
        and o.layout is torch.strided
        and o.device.type == "cpu"
    ]


def _bytes(storage: torch.UntypedStorage) -> bytes:
    return bytes(torch.tensor([], dtype=torch.uint8).set_(storage).numpy())


# ---- counting ----------------------------------------------------------------------------------------------


def count(calls: list[Call]) -> dict[str, int]:
    """Instructions by "label: kernel", replayed under valgrind; those of equal names are added."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tape").write_bytes(b"".join(map(on_tape, calls)))
        _run(
            *("g++", "-std=c++20", "-O1", f"-I{ROOT / 'src' / 'rastergrad' / 'core'}"),
            *(str(Path(__file__).with_name("replay.cpp")), str(library()), f"-Wl,-rpath,{library().parent}"),
            *("-o", str(folder / "replay")),
        )
        _run(
            *("valgrind", "--tool=callgrind", "--collect-atstart=no", "--toggle-collect=counted_call"),
            *("--dump-after=counted_call", f"--callgrind-out-file={folder / 'out'}"),
            *(str(folder / "replay"), str(folder / "tape")),
        )
        outs = [(folder / f"out.{k + 1}").read_text() for k in range(len(calls))]
    totals = [int(re.findall(r"^(?:totals|summary): (\d+)", out, re.MULTILINE)[-1]) for out in outs]
    found: dict[str, int] = {}
    for call, total in zip(calls, totals, strict=True):
        name = f"{call.label}: {call.kernel}"
        found[name] = found.get(name, 0) + total
    return found


def on_tape(call: Call) -> bytes:
    """As testing/replay.cpp reads it."""
    name = call.kernel.encode()
    parts = [struct.pack("<q", len(name)), name, struct.pack("<qq", len(call.blocks), len(call.fields))]
    for block in call.blocks:
        parts += [struct.pack("<q", len(block)), block]
    for field in call.fields:
        parts.append(struct.pack("<qq", *(field if isinstance(field, tuple) else (-1, field))))
    return b"".join(parts)


def _run(*command: str) -> None:
    environment = {**os.environ, "RASTERGRAD_SIMD": LEVEL}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def changes(stored: dict[str, int], found: dict[str, int], tolerance: float = TOLERANCE) -> list[str]:
    """What differs by more than the tolerance, in either direction, or is not in both."""
    lines = [f"{name}: no longer run" for name in stored if name not in found]
    for name, instructions in found.items():
        if name not in stored:
            lines.append(f"{name}: not stored, {instructions:,} instructions")
        elif abs(instructions - stored[name]) > tolerance * stored[name]:
            change = instructions / stored[name] - 1
            lines.append(f"{name}: {stored[name]:,} -> {instructions:,} instructions ({change:+.1%})")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m testing.instructions", description=__doc__)
    parser.add_argument("--update", action="store_true", help="store what is counted")
    args = parser.parse_args()
    if reason := missing():
        print(f"Nothing counted: {reason}")
        return 0
    found, built_by = count(record(cases())), compiler(library().read_bytes())
    stored = json.loads(STORED.read_text(encoding="utf-8")) if STORED.exists() else {}
    for line in changes(stored.get(built_by, {}), found):
        print(line)
    if args.update:
        STORED.write_text(
            json.dumps({**stored, built_by: found}, indent=1, sort_keys=True) + "\n", encoding="utf-8"
        )
        print(f"Stored {len(found)} counts for {built_by}")
        return 0
    if built_by not in stored:
        print(f"No counts are stored for {built_by}; --update stores these")
        return 0
    return 1 if changes(stored[built_by], found) else 0


if __name__ == "__main__":
    sys.exit(main())
