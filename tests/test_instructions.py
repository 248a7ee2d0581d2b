# SPDX-License-Identifier: MIT
"""The instructions of hot kernels are those that are stored; and what counts them counts right."""

import json
import struct

import pytest
import torch

import rastergrad as rg
from testing import instructions


def test_hot_kernels_take_the_instructions_that_are_stored() -> None:
    if reason := instructions.missing():
        pytest.skip(reason)
    built_by = instructions.compiler(instructions.library().read_bytes())
    stored = json.loads(instructions.STORED.read_text(encoding="utf-8")).get(built_by)
    if stored is None:
        pytest.skip(f"no counts are stored for {built_by}: `python -m testing.instructions --update`")
    differing = instructions.changes(stored, instructions.count(instructions.record(instructions.cases())))
    assert not differing, "\n".join([*differing, "if meant: `python -m testing.instructions --update`"])


def twice_as_many_pixels() -> dict[str, int]:
    """Counts of interpolate on 32 x 32 and on 64 x 64 pixels."""
    tri = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    attr = torch.rand(1, 3, 4)

    def run(side: int):
        rast = torch.rand(1, side, side, 4)
        rast[..., 3] = 1
        return lambda: rg.interpolate(attr, rast, tri)

    return instructions.count(
        instructions.record(iter([("32", run(32)), ("64", run(64)), ("again", run(64))]))
    )


def test_counts_are_of_kernels_only_and_repeat() -> None:
    if reason := instructions.missing():
        pytest.skip(reason)
    counts = twice_as_many_pixels()
    small, large, again = counts.values()
    assert next(iter(counts)) == "32: interpolate_forward_f32"
    assert large == again
    # Four times the pixels, a few instructions for each: neither Python nor the loader is in it.
    assert 3 < large / small < 5
    assert 5 < large / 64**2 < 200


def test_a_recorded_call_says_where_its_pointers_point() -> None:
    attr = torch.rand(1, 3, 2)
    tri = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    rast = torch.ones(2, 4, 4, 4)[1:]  # does not start its memory
    (call,) = instructions.record(iter([("label", lambda: rg.interpolate(attr, rast, tri))]))
    assert (call.label, call.kernel) == ("label", "interpolate_forward_f32")
    pointers = [f for f in call.fields if isinstance(f, tuple)]
    contents = dict(pointers)
    assert len(call.blocks) == len(contents) == 4  # three inputs and what comes out
    where = call.blocks.index(attr.numpy().tobytes())
    assert contents[where] == 0
    inside = next(block for block, content in enumerate(call.blocks) if len(content) == 2 * 4 * 4 * 4 * 4)
    assert contents[inside] == 4 * 4 * 4 * 4
    assert 4 * 4 in call.fields  # how many pixels


def test_a_tape_is_what_the_player_reads() -> None:
    call = instructions.Call("label", "name", (7, (0, 2)), (b"block",))
    assert instructions.on_tape(call) == (
        struct.pack("<q", 4) + b"name" + struct.pack("<qq", 1, 2)
        + struct.pack("<q", 5) + b"block" + struct.pack("<qqqq", -1, 7, 0, 2)
    )  # fmt: skip


def test_both_directions_of_a_change_count() -> None:
    stored = {"same": 1000, "more": 1000, "fewer": 1000, "gone": 1000}
    found = {"same": 1050, "more": 1051, "fewer": 949, "new": 1}
    assert instructions.changes(stored, found) == [
        "gone: no longer run",
        "more: 1,000 -> 1,051 instructions (+5.1%)",
        "fewer: 1,000 -> 949 instructions (-5.1%)",
        "new: not stored, 1 instructions",
    ]


@pytest.mark.parametrize(
    ("notes", "name"),
    [
        (b"\0GCC: (Debian 12.2.0-14+deb12u1) 12.2.0\0", "gcc 12"),
        (b"\0GCC: (GNU) 9.4.0\0Debian clang version 17.0.6\0", "clang 17"),
        (b"nothing", "unknown compiler"),
    ],
)
def test_a_library_tells_its_compiler(notes: bytes, name: str) -> None:
    assert instructions.compiler(notes) == name
