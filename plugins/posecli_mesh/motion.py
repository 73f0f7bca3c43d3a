"""Poses and shapes of real people without pictures, from motion capture: what the discriminator takes for real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from posecli.console import PosecliError
from posecli.interop.unpickle import load_npz
from posecli_mesh.rotations import from_axis_angle


class MotionSet(nn.Module):
    """M poses and shapes. They move between devices with the model and are saved nowhere.

    They are no buffers: DistributedDataParallel would send them from rank to rank before each step.
    """

    def __init__(self, poses: Tensor, shapes: Tensor) -> None:
        """`poses` (M, 3 P) are axes times angles in radians, `shapes` (M, S)."""
        super().__init__()
        self.poses, self.shapes = poses, shapes

    def forward(self, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Rotations (B, P, 3, 3) and shapes (B, S) for numbers from 0 to below 1, (B,)."""
        rows = (draws * len(self.poses)).long().clamp_max(len(self.poses) - 1)
        poses = self.poses[rows]
        return from_axis_angle(poses.view(len(rows), -1, 3)), self.shapes[rows]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.poses, self.shapes = fn(self.poses), fn(self.shapes)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]


def read_motion(path: Path, poses: int, shapes: int) -> MotionSet:
    """A file .npz with `pose` (M, 3 P) and `shape` (M, S), as the reference's mosh annotations. Raises PosecliError."""
    arrays = load_npz(Path(path).expanduser())
    missing = {"pose", "shape"} - set(arrays)
    if missing:
        raise PosecliError(f"{path}: no array {' and '.join(sorted(missing))} in it; a motion set has pose and shape")
    pose, shape = (np.asarray(arrays[name]) for name in ("pose", "shape"))
    if pose.shape != (len(shape), 3 * poses) or shape.shape != (len(pose), shapes) or not len(pose):
        raise PosecliError(
            f"{path}: pose {pose.shape} and shape {shape.shape} should be {(len(pose), 3 * poses)} and "
            f"{(len(pose), shapes)} for this body"
        )
    for name, values in (("pose", pose), ("shape", shape)):
        if values.dtype.kind not in "fiub":
            raise PosecliError(f"{path}: {name} holds {values.dtype}, a motion set needs numbers")
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            first = ", ".join(map(str, bad[:3].tolist()))
            raise PosecliError(
                f"{path}: {name} is not finite in {len(bad)} of {len(values)} rows (the first: {first}): remove them"
            )
    return MotionSet(torch.from_numpy(pose.astype(np.float32)), torch.from_numpy(shape.astype(np.float32)))
