"""Found bodies as files: the mesh as Wavefront .obj and Stanford .ply, the parameters as .npz.

Meshes are in metres with y up and z towards the viewer, as programs for meshes show them: the camera frame turned half
way round about x. Parameters stay in the camera frame.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from posecli.types import Array, FloatArray, IntArray, People
from posecli_mesh.rotations import to_axis_angle

UPRIGHT = np.array([1.0, -1.0, -1.0]) / 1000  # camera millimetres to metres with y up


def body_files(people: People, faces: IntArray, names: Sequence[str]) -> Mapping[str, bytes]:
    """The files of a picture's people by their suffix; nothing where nobody was found.

    `people` have `vertices` (N, V, 3), `rotations`, `shape` and `camera` in `extra`; `names` are of the keypoints.
    """
    if not len(people):
        return {}
    bodies = np.asarray(people.extra["vertices"], dtype=np.float64) * UPRIGHT
    return {".obj": to_obj(bodies, faces), ".ply": to_ply(bodies, faces), ".npz": to_npz(people, names)}


def to_obj(bodies: FloatArray, faces: IntArray) -> bytes:
    """One object for each of the bodies (N, V, 3), with the same faces (F, 3)."""
    lines = []
    for number, vertices in enumerate(bodies):
        lines.append(f"o person_{number}")
        lines += [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in vertices.tolist()]
        corners = faces + 1 + number * len(vertices)
        lines += [f"f {a} {b} {c}" for a, b, c in corners.tolist()]
    return ("\n".join(lines) + "\n").encode("ascii")


def to_ply(bodies: FloatArray, faces: IntArray) -> bytes:
    """All bodies (N, V, 3) as one mesh, binary."""
    count, vertices = bodies.shape[:2]
    header = (
        "ply\nformat binary_little_endian 1.0\n"
        f"element vertex {count * vertices}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {count * len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = np.empty(count * len(faces), dtype=[("count", "u1"), ("corners", "<i4", (3,))])
    rows["count"] = 3
    rows["corners"] = (faces[None] + vertices * np.arange(count)[:, None, None]).reshape(-1, 3)
    return header.encode("ascii") + bodies.astype("<f4").tobytes() + rows.tobytes()


def to_npz(people: People, names: Sequence[str]) -> bytes:
    """`rotations` (N, P, 3, 3), the same as axes times angles `pose` (N, 3 P), `shape` (N, S), `camera` (N, 3),
    `keypoints` (N, K, 3) camera millimetres with `keypoint_names` (K,), `boxes` and `scores` where they are known."""
    rotations = np.asarray(people.extra["rotations"], dtype=np.float32)
    pose = to_axis_angle(torch.from_numpy(rotations).double()).flatten(1).numpy().astype(np.float32)
    arrays: dict[str, Array] = {
        "pose": pose,
        "rotations": rotations,
        "shape": people.extra["shape"],
        "camera": people.extra["camera"],
        "keypoints": people.keypoints,
        "keypoint_names": np.array(names, dtype=np.str_),
    }
    if people.boxes is not None:
        arrays["boxes"] = people.boxes
    if people.instance_scores is not None:
        arrays["scores"] = people.instance_scores
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()
