# SPDX-License-Identifier: MIT
"""Mesa's software OpenGL: the mesh into one RGBA32F image of (u, v, z/w, id)."""

import os
from typing import Any

import numpy as np

# The two buffers are read by index (vertex pulling), so that corners know which they are: the barycentrics
# are those of the corners, interpolated with perspective.
VERTEX = """
#version 430
layout(std430, binding = 0) readonly buffer Positions { vec4 pos[]; };
layout(std430, binding = 1) readonly buffer Triangles { int tri[]; };
out vec2 barycentric;
void main() {
    int corner = gl_VertexID % 3;
    barycentric = vec2(corner == 0, corner == 1);
    gl_Position = pos[tri[gl_VertexID]];
}
"""
FRAGMENT = """
#version 430
in vec2 barycentric;
layout(location = 0) out vec4 fragment;
void main() {
    fragment = vec4(barycentric, 2.0 * gl_FragCoord.z - 1.0, float(gl_PrimitiveID + 1));
}
"""

_context: Any = None


def context() -> Any:
    """One for the process: Mesa reads the number of threads when the first is made."""
    global _context
    if _context is None:
        import moderngl

        os.environ["LP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
        # Hardware, if there is any, is not what the CPU is compared with.
        os.environ["LIBGL_ALWAYS_SOFTWARE"] = "1"
        _context = moderngl.create_context(standalone=True, backend="egl", require=430)
        name = _context.info["GL_RENDERER"]
        if "llvmpipe" not in name:
            raise RuntimeError(f"OpenGL is {name}, not llvmpipe")
    return _context


def version() -> str:
    return f"{context().info['GL_RENDERER']}, {context().info['GL_VERSION']}"


def prepare(kind: str, scene: dict[str, Any], threads: int) -> "Draw":
    return Draw(scene)


class Draw:
    """Draws on `run`."""

    def __init__(self, scene: dict[str, Any]) -> None:
        import moderngl

        self.gl = context()
        self.height, self.width = (int(n) for n in scene["size"])
        self.corners = scene["tri"].size
        self.buffers = [self.gl.buffer(scene[name].tobytes()) for name in ("pos_clip", "tri")]
        self.image = self.gl.texture((self.width, self.height), 4, dtype="f4")
        self.target = self.gl.framebuffer([self.image], self.gl.depth_renderbuffer((self.width, self.height)))
        self.program = self.gl.program(vertex_shader=VERTEX, fragment_shader=FRAGMENT)
        self.mesh = self.gl.vertex_array(self.program, [])
        self.gl.enable(moderngl.DEPTH_TEST)
        self.gl.depth_func = "<="
        self.host = bytearray(self.height * self.width * 16)

    def run(self, variant: str) -> None:
        for slot, buffer in enumerate(self.buffers):
            buffer.bind_to_storage_buffer(slot)
        self.target.use()
        self.target.clear(0.0, 0.0, 0.0, 0.0, depth=1.0)
        self.mesh.render(vertices=self.corners)
        self.gl.finish()
        if variant == "with read-back":
            self.target.read_into(self.host, components=4, dtype="f4")

    def result(self) -> dict[str, Any]:
        self.run("with read-back")
        fragments = np.frombuffer(self.host, np.float32).reshape(self.height, self.width, 4)
        return {"id": fragments[..., 3].astype(np.int64)}

    def __del__(self) -> None:
        for thing in (self.mesh, self.program, self.target, self.image, *self.buffers):
            thing.release()
