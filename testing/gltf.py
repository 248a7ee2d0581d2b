# SPDX-License-Identifier: MIT
"""A strict reader of GLB files with morph targets, and a player that shows one moment of them."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
TYPES = {5126: np.dtype("<f4"), 5125: np.dtype("<u4")}


@dataclass
class Glb:
    """A file that was checked while reading it."""

    json: dict[str, Any]
    binary: bytes

    @staticmethod
    def read(path: Path) -> "Glb":
        data = path.read_bytes()
        magic, version, length = struct.unpack_from("<4sII", data)
        assert (magic, version, length) == (b"glTF", 2, len(data))
        chunks, at = [], 12
        while at < len(data):
            size, kind = struct.unpack_from("<I4s", data, at)
            assert size % 4 == 0
            chunks.append((kind, data[at + 8 : at + 8 + size]))
            at += 8 + size
        assert at == len(data)
        assert [kind for kind, _ in chunks] == [b"JSON", b"BIN\0"]
        glb = Glb(json.loads(chunks[0][1]), chunks[1][1])
        glb.check()
        return glb

    def check(self) -> None:
        """What the glTF 2.0 specification demands of the features that are used here."""
        gltf = self.json
        assert gltf["asset"]["version"] == "2.0"
        assert len(gltf["buffers"]) == 1
        assert gltf["buffers"][0]["byteLength"] == len(self.binary)
        end = 0
        for view in gltf["bufferViews"]:
            assert view["byteOffset"] % 4 == 0
            assert view["byteOffset"] >= end
            end = view["byteOffset"] + view["byteLength"]
            assert view["byteLength"] > 0
            assert end <= len(self.binary)
        used = set()
        for number, accessor in enumerate(gltf["accessors"]):
            used.add(accessor["bufferView"])
            values = self.array(number)
            assert len(values) == accessor["count"] > 0
            if values.dtype == np.float32:
                assert np.isfinite(values).all()
            if "min" in accessor:
                assert values.min(0).reshape(-1).tolist() == accessor["min"]
                assert values.max(0).reshape(-1).tolist() == accessor["max"]
        used |= {image["bufferView"] for image in gltf["images"]}
        assert used == set(range(len(gltf["bufferViews"])))
        for mesh in gltf["meshes"]:
            for primitive in mesh["primitives"]:
                self._check_primitive(primitive, mesh.get("weights", []))
        for animation in gltf.get("animations", []):
            targets = [(c["target"]["node"], c["target"]["path"]) for c in animation["channels"]]
            assert len(set(targets)) == len(targets)
            for channel in animation["channels"]:
                self._check_channel(animation["samplers"][channel["sampler"]], **channel["target"])
        children = [child for node in gltf["nodes"] for child in node.get("children", [])]
        assert sorted(children + gltf["scenes"][gltf["scene"]]["nodes"]) == list(range(len(gltf["nodes"])))

    def _check_primitive(self, primitive: dict[str, Any], weights: list[float]) -> None:
        attributes = primitive["attributes"]
        count = len(self.array(attributes["POSITION"]))
        assert "min" in self.json["accessors"][attributes["POSITION"]]
        assert {len(self.array(a)) for a in attributes.values()} == {count}
        assert np.abs(np.linalg.norm(self.array(attributes["NORMAL"]), axis=1) - 1).max() < 1e-3
        indices = self.array(primitive["indices"])
        assert len(indices) % 3 == 0
        assert indices.max() < count
        targets = primitive.get("targets", [])
        assert len(targets) == len(weights)
        for target in targets:
            assert set(target) <= set(attributes)
            assert "min" in self.json["accessors"][target["POSITION"]]
            assert {len(self.array(a)) for a in target.values()} == {count}

    def _check_channel(self, sampler: dict[str, Any], node: int, path: str) -> None:
        times = self.array(sampler["input"])
        assert "min" in self.json["accessors"][sampler["input"]]
        assert times.min() >= 0
        assert (np.diff(times) > 0).all()
        each = 1
        if path == "weights":
            each = len(self.json["meshes"][self.json["nodes"][node]["mesh"]]["weights"])
        assert len(self.array(sampler["output"])) == each * len(times)

    def array(self, accessor: int) -> np.ndarray:
        entry = self.json["accessors"][accessor]
        view = self.json["bufferViews"][entry["bufferView"]]
        width, dtype = WIDTHS[entry["type"]], TYPES[entry["componentType"]]
        start = view["byteOffset"] + entry.get("byteOffset", 0)
        assert entry["count"] * width * dtype.itemsize <= view["byteLength"]
        values = np.frombuffer(self.binary, dtype, entry["count"] * width, start)
        return values if width == 1 else values.reshape(-1, width)

    def image(self) -> bytes:
        view = self.json["bufferViews"][self.json["images"][0]["bufferView"]]
        return self.binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]

    def play(self, time_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Positions in the scene's metres, and unit normals, of the one mesh that is shown at a time."""
        root = self.json["nodes"][0]
        shown = []
        for number in root["children"]:
            node = self.json["nodes"][number]
            mesh = self.json["meshes"][node["mesh"]]
            size = self._animated(number, "scale", time_s, np.array(node.get("scale", [1.0] * 3)))
            weights = self._animated(number, "weights", time_s, np.array(mesh.get("weights", [])))
            if not size.any():
                continue
            primitive = mesh["primitives"][0]
            totals = []
            for name in ("POSITION", "NORMAL"):
                total = self.array(primitive["attributes"][name]).astype(np.float64)
                for weight, target in zip(weights, primitive.get("targets", [])):
                    total = total + weight * self.array(target[name])
                totals.append(total)
            normals = totals[1] / np.linalg.norm(totals[1], axis=1, keepdims=True)
            shown.append((totals[0] * size * root.get("scale", [1.0] * 3), normals))
        assert len(shown) == 1
        return shown[0]

    def _animated(self, node: int, path: str, time_s: float, rest: np.ndarray) -> np.ndarray:
        for animation in self.json.get("animations", []):
            for channel in animation["channels"]:
                if channel["target"] == {"node": node, "path": path}:
                    sampler = animation["samplers"][channel["sampler"]]
                    times = self.array(sampler["input"])
                    values = self.array(sampler["output"]).reshape(len(times), -1).astype(np.float64)
                    after = int(np.searchsorted(times, np.float32(time_s), side="right"))
                    if sampler["interpolation"] == "STEP" or after in (0, len(times)):
                        return values[max(after - 1, 0)]
                    share = (time_s - times[after - 1]) / (times[after] - times[after - 1])
                    return (1 - share) * values[after - 1] + share * values[after]
        return rest
