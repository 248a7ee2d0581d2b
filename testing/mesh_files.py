# SPDX-License-Identifier: MIT
"""Small mesh files written by hand, so that readers are not tested against their own writers."""

import base64
import io
import json
from pathlib import Path

import numpy as np

# Two triangles of the unit square in z = 0, texture coordinates = position.
SQUARE = """\
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
vt 0 0
vt 1 0
vt 1 1
vt 0 1
"""
SQUARE_FACES = "f 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"
# Top row red, green; bottom row blue, white, as a picture program shows them.
FOUR_COLORS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], dtype=np.uint8)
# The same in quarters of 8 x 8 pixels: filtering leaves their middles pure.
FOUR_QUARTERS = FOUR_COLORS.repeat(8, axis=0).repeat(8, axis=1)


def png_bytes(pixels: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def square_obj(folder: Path, pixels: np.ndarray = FOUR_COLORS) -> Path:
    """A square.obj with its material and picture."""
    (folder / "colors.png").write_bytes(png_bytes(pixels))
    (folder / "square.mtl").write_text("newmtl paint\nKd 1 1 1\nmap_Kd colors.png\n")
    path = folder / "square.obj"
    path.write_text("mtllib square.mtl\n" + SQUARE + "usemtl paint\n" + SQUARE_FACES)
    return path


def square_gltf(folder: Path, *, offset: tuple[float, float, float] = (0, 0, 0)) -> Path:
    """The same square as glTF, where v counts downward from the top of the picture."""
    positions = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype="<f4")
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], dtype="<f4")
    faces = np.array([0, 1, 2, 0, 2, 3], dtype="<u2")
    data = positions.tobytes() + uv.tobytes() + faces.tobytes()
    inline = "data:application/octet-stream;base64," + base64.b64encode(data).decode()
    picture = "data:image/png;base64," + base64.b64encode(png_bytes(FOUR_COLORS)).decode()
    extent = {"min": [0, 0, 0], "max": [1, 1, 0]}
    content = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "translation": offset}],
        "meshes": [
            {"primitives": [{"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "indices": 2, "material": 0}]}
        ],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
        "textures": [{"source": 0}],
        "images": [{"uri": picture}],
        "buffers": [{"uri": inline, "byteLength": len(data)}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 48},
            {"buffer": 0, "byteOffset": 48, "byteLength": 32},
            {"buffer": 0, "byteOffset": 80, "byteLength": 12},
        ],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3", **extent},
            {"bufferView": 1, "componentType": 5126, "count": 4, "type": "VEC2"},
            {"bufferView": 2, "componentType": 5123, "count": 6, "type": "SCALAR"},
        ],
    }
    path = folder / "square.gltf"
    path.write_text(json.dumps(content))
    return path


def square_ply(folder: Path, body: str, properties: str = "", face_properties: str = "") -> Path:
    path = folder / "square.ply"
    path.write_text(
        "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
        f"{properties}element face 2\nproperty list uchar int vertex_indices\n{face_properties}"
        f"end_header\n{body}"
    )
    return path
