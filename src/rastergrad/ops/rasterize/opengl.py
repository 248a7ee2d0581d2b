# SPDX-License-Identifier: MIT
"""rasterize with OpenGL: the graphics hardware's own rasteriser, or Mesa's in software, finds what is
visible; a shader gives (u, v, z/w, id) and derivatives of it. Gradients are those of the usual kernels.
"""

import ctypes
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from ctypes import c_float, c_uint
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...core import opengl
from ...core.opengl_transfer import Buffer, Cuda, Host, Transfer, cuda_runtime

_TRIANGLES, _UNSIGNED_INT, _LEQUAL = 0x0004, 0x1405, 0x0203
_DEPTH_TEST, _CLIP_DISTANCE, _PACK_ALIGNMENT, _UNPACK_ALIGNMENT = 0x0B71, 0x3000, 0x0D05, 0x0CF5
_ELEMENTS, _TEXTURE_0, _TEXTURE_BUFFER, _TEXTURE_2D_ARRAY = 0x8893, 0x84C0, 0x8C2A, 0x8C1A
_RGBA32F, _R32F, _R32I, _DEPTH32F = 0x8814, 0x822E, 0x8235, 0x8CAC
_RGBA, _RED, _DEPTH, _FLOAT = 0x1908, 0x1903, 0x1902, 0x1406
_FRAMEBUFFER, _COLOR_0, _DEPTH_ATTACHMENT, _COMPLETE = 0x8D40, 0x8CE0, 0x8D00, 0x8CD5
_CLEAR_COLOR, _CLEAR_DEPTH = 0x1800, 0x1801
_MIN_FILTER, _MAG_FILTER, _NEAREST = 0x2801, 0x2800, 0x2600
_MOST_SIDE, _MOST_VIEWPORT, _MOST_IMAGES, _MOST_LAYERS, _MOST_TEXELS = 0x0D33, 0x0D3A, 0x88FF, 0x9318, 0x8C2B

_FOLDER = Path(__file__).parent
_LAYER_EXTENSIONS = ("GL_ARB_shader_viewport_layer_array", "GL_AMD_vertex_shader_layer")
# Images drawn at once: enough to hide what a draw costs, within what recycling may hold on to.
_TARGET_BYTES = 256 << 20
_TARGETS_KEPT_BYTES = 2 * _TARGET_BYTES
_BYTES_PER_PIXEL = 44
_INTEROP = "RASTERGRAD_GL_INTEROP"


def forward(
    pos: Tensor,
    tri: Tensor,
    ranges: Tensor | None,
    previous_key: Tensor | None,
    height: int,
    width: int,
    layered: bool,
    refuse: Callable[[int], Exception] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`rast`, `rast_db` and, where `layered`, the depth of what was drawn; on the device of `pos`.

    `refuse` makes an error of the number of the first triangle with an index out of range; without it, such
    triangles are left out.
    """
    with opengl.context(pos.device) as context:
        renderer = context.kept(Renderer)
        rast, rast_db, key = renderer.draw(
            pos.detach().float(), tri, ranges, previous_key, (height, width), layered, refuse
        )
    return rast.to(pos.dtype), rast_db.to(pos.dtype), key


class Mesh:
    """The triangles that OpenGL holds, and which of them have an index out of range."""

    def __init__(self, tri: Tensor, vertices: int, bad: Tensor) -> None:
        self.tri, self.vertices, self._bad = tri, vertices, bad
        # Where torch does not count changes, nothing is known for sure.
        self._version = -1 if tri.is_inference() else tri._version
        self._first_bad: int | None = None

    def holds(self, tri: Tensor) -> bool:
        if tri.device != self.tri.device or tri.shape != self.tri.shape:
            return False
        if tri.device.type == "cpu":
            return torch.equal(tri, self.tri)
        return tri is self.tri and not tri.is_inference() and tri._version == self._version

    def first_bad(self) -> int:
        """-1 if there is none; asking a GPU waits for it."""
        if self._first_bad is None:
            found = self._bad.nonzero()
            self._first_bad = int(found[0, 0]) if len(found) else -1
        return self._first_bad


@dataclass
class Target:
    """What is drawn into: texture arrays, one layer per image."""

    framebuffer: int
    fragments: int
    slopes: int
    key: int  # 0 where depth is not asked for
    previous: int
    depth: int
    images: int

    def textures(self) -> list[int]:
        return [t for t in (self.fragments, self.slopes, self.key, self.previous, self.depth) if t]


class Renderer:
    """What one context keeps from call to call: programs, the mesh, images to draw into.

    Args:
        context: where to draw; current.
        layers: whether a vertex may choose the image it is drawn into; by default what the driver can do.
    """

    def __init__(self, context: opengl.Context, layers: bool | None = None) -> None:
        self.gl = gl = context.gl
        self.renderer = context.renderer
        self._nvidia = "NVIDIA" in context.vendor
        found = [e for e in _LAYER_EXTENSIONS if e in context.extensions]
        self.layers = bool(found) if layers is None else layers
        self._layer_extension = found[0] if found and self.layers else None
        viewport = (ctypes.c_int * 2)()
        gl.GetIntegerv(_MOST_VIEWPORT, viewport)
        self.most_side = min(gl.integer(_MOST_SIDE), *viewport)
        self.most_images = gl.integer(_MOST_IMAGES)
        self.most_texels = gl.integer(_MOST_TEXELS)
        self._programs: dict[tuple[bool, bool], dict[str, int]] = {}
        self._positions, self._triangles = Buffer(gl, _RGBA32F), Buffer(gl, _R32I)
        self._mesh: Mesh | None = None
        self._targets: OrderedDict[tuple[int, int, int, bool], Target] = OrderedDict()
        self._host, self._cuda = Host(gl), None
        gl.BindVertexArray(opengl.name(gl.GenVertexArrays))
        gl.Enable(_DEPTH_TEST)
        gl.Enable(_CLIP_DISTANCE)
        gl.DepthFunc(_LEQUAL)  # of equal depths, what is drawn later wins
        for alignment in (_PACK_ALIGNMENT, _UNPACK_ALIGNMENT):
            gl.PixelStorei(alignment, 4)
        gl.check("setting up")

    def draw(
        self,
        pos: Tensor,
        tri: Tensor,
        ranges: Tensor | None,
        previous_key: Tensor | None,
        size: tuple[int, int],
        layered: bool,
        refuse: Callable[[int], Exception] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `forward`; `pos` is float32."""
        gl, device = self.gl, pos.device
        table = None if ranges is None else [(first, count) for first, count in ranges.tolist()]
        images = pos.shape[0] if table is None else len(table)
        height, width = size
        self._refuse(pos.shape[-2], tri.shape[0], size)
        way = self._way(device)
        outputs = [
            way.empty(shape, device)
            for shape in ((images, height, width, 4),) * 2 + ((images, height, width) if layered else (0,),)
        ]
        triangles, vertices = tri.shape[0], pos.shape[-2]
        if triangles:
            self._upload_triangles(tri, vertices, way, refuse)
        drawable = min(triangles, vertices) > 0
        if table is not None and drawable:
            way.upload(pos, self._positions)
        together = self._together(images, vertices if table is None else 0, size)
        for start in _starts(images, together):
            part = slice(start, start + together)
            target = self._target(size, together, layered)
            if table is None and drawable:
                way.upload(pos[part], self._positions)
            behind = previous_key is not None
            if previous_key is not None:
                way.upload_image(previous_key[part], target.previous)
            draws = [(0, triangles)] * together if table is None else table[part]
            gl.Viewport(0, 0, width, height)
            self._draw(target, size, draws if drawable else [], vertices, triangles, table is None, behind)
            for texture, output in zip((target.fragments, target.slopes, target.key), outputs, strict=True):
                if texture:
                    way.download(texture, output[part])
            gl.check(f"drawing {together} x {height} x {width} pixels")
        rast, rast_db, key = (way.delivered(output, device) for output in outputs)
        return rast, rast_db, key

    # ---- limits -------------------------------------------------------------------------------------------

    def _refuse(self, vertices: int, triangles: int, size: tuple[int, int]) -> None:
        if max(size) > self.most_side:
            raise ValueError(
                f"rasterize: `resolution` must be at most {self.most_side} pixels a side with "
                f'backend="opengl" on {self.renderer}; got {size}. Draw the image in parts, or with another '
                "backend."
            )
        for name, count, most in (
            ("pos", vertices, self.most_texels),
            ("tri", triangles, self.most_texels // 3),
        ):
            if count > most:
                what = "vertices" if name == "pos" else "triangles"
                raise ValueError(
                    f'rasterize: `{name}` must have at most {most} {what} with backend="opengl" on '
                    f"{self.renderer}; got {count}. Draw the mesh in parts, or with another backend."
                )

    def _together(self, images: int, vertices: int, size: tuple[int, int]) -> int:
        """How many images are drawn at once. All draws are alike; the last may repeat images of the one
        before.
        """
        most = min(self.most_images, max(_TARGET_BYTES // (_BYTES_PER_PIXEL * size[0] * size[1]), 1))
        if vertices:
            most = min(most, self.most_texels // vertices)
        return -(-images // max(-(-images // most), 1))

    # ---- what goes in -------------------------------------------------------------------------------------

    def _way(self, device: torch.device) -> Transfer:
        """On the GPU if the tensors' memory can be reached from where OpenGL draws: both NVIDIA's."""
        if device.type != "cuda" or torch.version.hip is not None or not self._nvidia:
            return self._host
        if os.environ.get(_INTEROP) == "0":
            return self._host
        if self._cuda is None:
            runtime = cuda_runtime()
            if runtime is None:
                return self._host
            self._cuda = Cuda(self.gl, runtime, device)
        return self._cuda

    def _upload_triangles(
        self, tri: Tensor, vertices: int, way: Transfer, refuse: Callable[[int], Exception] | None
    ) -> None:
        """Once for as long as they are the same. On a CPU that is their content: identity would not show a
        change by NumPy through shared memory, and an index buffer that is converted for each call would never
        be found.
        """
        known = self._mesh
        if known is None or known.vertices != vertices or not known.holds(tri):
            self._mesh = None  # until the new one is there
            bad = ((tri < 0) | (tri >= vertices)).any(1)
            way.upload(tri.masked_fill(bad[:, None], 0), self._triangles)  # no area, hence not drawn
            known = self._mesh = Mesh(tri.clone() if tri.device.type == "cpu" else tri, vertices, bad)
        if refuse is not None and known.first_bad() >= 0:
            raise refuse(known.first_bad())

    # ---- drawing ------------------------------------------------------------------------------------------

    def _draw(
        self,
        target: Target,
        size: tuple[int, int],
        draws: list[tuple[int, int]],
        vertices: int,
        triangles: int,
        instanced: bool,
        behind: bool,
    ) -> None:
        """The images of a target, each a run (first triangle, count)."""
        gl, (height, width) = self.gl, size
        gl.BindFramebuffer(_FRAMEBUFFER, target.framebuffer)
        uniforms = self._program(bool(target.key), behind)
        gl.Uniform1i(uniforms["vertices"], vertices if instanced else 0)
        gl.Uniform2f(uniforms["steps"], 128 * width, 128 * height)
        gl.Uniform4f(uniforms["pixels"], 2 / width, 2 / height, 1 / width - 1, 1 / height - 1)
        for unit, (kind, texture) in enumerate(
            (
                (_TEXTURE_BUFFER, self._positions.texture),
                (_TEXTURE_BUFFER, self._triangles.texture),
                (_TEXTURE_2D_ARRAY, target.previous),
            )
        ):
            gl.ActiveTexture(_TEXTURE_0 + unit)
            gl.BindTexture(kind, texture)
        gl.ActiveTexture(_TEXTURE_0 + 3)  # binding for another purpose must not disturb these
        gl.BindBuffer(_ELEMENTS, self._triangles.name)

        def run(image: int, first: int, count: int, instances: int) -> None:
            count = min(count, triangles - first)
            if count > 0:
                gl.Uniform1i(uniforms["first_image"], image)
                gl.Uniform1i(uniforms["first_triangle"], first)
                gl.DrawElementsInstanced(_TRIANGLES, 3 * count, _UNSIGNED_INT, 12 * first, instances)

        if not self.layers:
            for image in range(target.images):
                self._attach(target, image)
                self._clear(target)
                if draws:
                    run(image, *draws[image], 1)
            return
        self._clear(target)
        if instanced and draws:
            run(0, 0, triangles, target.images)
        elif draws:
            for image, (first, count) in enumerate(draws):
                run(image, first, count, 1)

    def _clear(self, target: Target) -> None:
        nothing, far = (c_float * 4)(), (c_float * 4)(1.0, 1.0, 1.0, 1.0)
        for k, value in enumerate((nothing, nothing, far) if target.key else (nothing, nothing)):
            self.gl.ClearBufferfv(_CLEAR_COLOR, k, value)
        self.gl.ClearBufferfv(_CLEAR_DEPTH, 0, far)

    def _program(self, key: bool, behind: bool) -> dict[str, int]:
        """Makes the program current; where its uniforms are."""
        gl = self.gl
        found = self._programs.get((key, behind))
        if found is None:
            head = "#version 330 core\n"
            defines = [n for n, on in (("LAYERED", self.layers), ("KEY", key), ("BEHIND", behind)) if on]
            defined = "".join(f"#define {n}\n" for n in defines)
            extension = f"#extension {self._layer_extension} : require\n" if self._layer_extension else ""
            vertex = head + extension + defined + (_FOLDER / "opengl_vertex.glsl").read_text("ascii")
            # Has `precise`. Where it is missing, the driver only says so.
            extension = "#extension GL_ARB_gpu_shader5 : enable\n"
            fragment = head + extension + defined + (_FOLDER / "opengl_fragment.glsl").read_text("ascii")
            made = opengl.program(gl, vertex, fragment, "rasterize")
            names = (
                "vertices",
                "first_image",
                "first_triangle",
                "steps",
                "pixels",
                "positions",
                "triangles",
                "previous",
            )
            found = {n: gl.GetUniformLocation(made, n.encode()) for n in names}
            found["program"] = made
            gl.UseProgram(made)
            for unit, n in enumerate(names[-3:]):
                gl.Uniform1i(found[n], unit)
            self._programs[key, behind] = found
        gl.UseProgram(found["program"])
        return found

    # ---- images to draw into ------------------------------------------------------------------------------

    def _target(self, size: tuple[int, int], images: int, key: bool) -> Target:
        wanted = (*size, images, key)
        found = self._targets.get(wanted)
        if found is None:
            kept = images * size[0] * size[1]
            while self._targets and _BYTES_PER_PIXEL * (kept + self._pixels()) > _TARGETS_KEPT_BYTES:
                self._discard(self._targets.popitem(last=False)[1])
            found = self._targets[wanted] = self._new_target(size, images, key)
        self._targets.move_to_end(wanted)
        return found

    def _pixels(self) -> int:
        """Of all images that are kept."""
        return sum(height * width * images for height, width, images, _ in self._targets)

    def _new_target(self, size: tuple[int, int], images: int, key: bool) -> Target:
        gl = self.gl
        made = Target(opengl.name(gl.GenFramebuffers), 0, 0, 0, 0, 0, images)
        try:
            made.fragments = self._images(size, images, _RGBA32F, _RGBA)
            made.slopes = self._images(size, images, _RGBA32F, _RGBA)
            if key:
                made.key = self._images(size, images, _R32F, _RED)
                made.previous = self._images(size, images, _R32F, _RED)
            made.depth = self._images(size, images, _DEPTH32F, _DEPTH)
            gl.BindFramebuffer(_FRAMEBUFFER, made.framebuffer)
            self._attach(made, None if self.layers else 0)
            buffers = 3 if key else 2
            gl.DrawBuffers(buffers, (c_uint * buffers)(*(_COLOR_0 + k for k in range(buffers))))
            gl.check(f"images of {images} x {size[0]} x {size[1]} pixels")
            status = gl.CheckFramebufferStatus(_FRAMEBUFFER)
            if status != _COMPLETE:
                raise RuntimeError(
                    f"rastergrad: OpenGL: {self.renderer} cannot draw into float32 images of "
                    f"{images} x {size[0]} x {size[1]} pixels (status {status:#x}). Use another backend."
                )
        except RuntimeError:
            self._discard(made)
            raise
        return made

    def _images(self, size: tuple[int, int], images: int, stored: int, channels: int) -> int:
        gl = self.gl
        made = opengl.name(gl.GenTextures)
        gl.BindTexture(_TEXTURE_2D_ARRAY, made)
        height, width = size
        gl.TexImage3D(_TEXTURE_2D_ARRAY, 0, stored, width, height, images, 0, channels, _FLOAT, None)
        for which in (_MIN_FILTER, _MAG_FILTER):  # the default wants mip levels
            gl.TexParameteri(_TEXTURE_2D_ARRAY, which, _NEAREST)
        return made

    def _attach(self, target: Target, image: int | None) -> None:
        """One image, or with None all as layers."""
        gl = self.gl
        places = [
            (_COLOR_0, target.fragments),
            (_COLOR_0 + 1, target.slopes),
            (_DEPTH_ATTACHMENT, target.depth),
        ]
        if target.key:
            places.append((_COLOR_0 + 2, target.key))
        for place, texture in places:
            if image is None:
                gl.FramebufferTexture(_FRAMEBUFFER, place, texture, 0)
            else:
                gl.FramebufferTextureLayer(_FRAMEBUFFER, place, texture, 0, image)

    def _discard(self, target: Target) -> None:
        opengl.delete(self.gl.DeleteFramebuffers, [target.framebuffer])
        opengl.delete(self.gl.DeleteTextures, target.textures())


def _starts(images: int, together: int) -> Iterator[int]:
    for start in range(0, images, max(together, 1)):
        yield min(start, images - together)
