# SPDX-License-Identifier: MIT
"""Other programs that do comparable work, each in a process of its own: one that crashes takes nothing along,
and none leaves threads or memory in ours. Written after their documentation and docstrings.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A peer that may or may not be installed."""

    module: str  # of this package
    tasks: dict[str, tuple[str, ...]]  # variants that are timed, by kind of task; "" is the plain one
    get: str  # how to install it
    does: str  # what it does differently, for the page


BENCH_EXTRA = "pip install 'rastergrad[bench]'"

PEERS = {
    "llvmpipe": Entry(
        "llvmpipe",
        {"rasterize": ("", "with read-back")},
        f"{BENCH_EXTRA} and, in Debian, apt-get install libegl1 libgl1-mesa-dri libgles2",
        "Mesa's software OpenGL, through moderngl and EGL: four channels (u, v, z/w, id) in RGBA32F, "
        "vertices pulled from buffers, barycentrics as varyings (computing them per pixel takes twice as "
        "long: 23 against 11 ms at 10,000 triangles); no derivatives. Time to glFinish, and to the copy in "
        "host memory.",
    ),
    "Embree": Entry(
        "embree",
        {"rasterize": ("",)},
        BENCH_EXTRA,
        "Embree through embreex: a new BVH, then one ray per pixel, spread over as many Python threads; ids "
        "only. Rays are made beforehand.",
    ),
    "Mitsuba 3": Entry(
        "mitsuba3",
        {"rasterize": ("",)},
        f"{BENCH_EXTRA} and, in Debian, apt-get install libllvm15",
        "Mitsuba 3, variant llvm_ad_rgb: vertices are set anew, which rebuilds the BVH, then one ray per "
        "pixel; ids and barycentrics. Rays are made beforehand.",
    ),
    "DEODR": Entry(
        "deodr",
        {"step": ("",)},
        BENCH_EXTRA,
        "DEODR's simpler step, in float64 on one thread: back faces culled, affine bilinear texture, its own "
        "antialiasing of silhouettes, squared error, backward to image positions and texture. Projection "
        "and silhouette flags are made beforehand.",
    ),
}
