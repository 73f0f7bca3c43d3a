"""How the weights of the reference's networks follow from their names, and how they come over; for tests of parity.

The rule stands in reference/golden/README.md in the shared folder.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typer.testing import CliRunner

from posecli.commands.import_ import import_app
from posecli.skeleton import Skeleton
from posecli.types import FloatArray

ONES = {"weight", "gamma", "g", "scale"}  # last parts of names of vectors that scatter around 1
SIDES = ("missing in the checkpoint", "without a place in the model", "of another shape")


def normal(name: str, shape: Sequence[int]) -> FloatArray:
    """The noise that belongs to a name."""
    noise: FloatArray = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(shape))
    return noise


def golden_input(shape: Sequence[int]) -> Tensor:
    """What the networks were given."""
    return torch.from_numpy(normal("input", shape).astype(np.float32))


def golden_state(facts: Mapping[str, Any], gain: float | None = None, state: str = "state") -> dict[str, Tensor]:
    """All tensors of a network by name, for the gain that its file tells unless another is given."""
    factor = facts["gain"] if gain is None else gain
    return {name: _weight(name, shape, kind, factor) for name, shape, _, kind in facts[state]}


def _weight(name: str, shape: Sequence[int], kind: str, gain: float) -> Tensor:
    if kind == "int64":
        return torch.zeros(tuple(shape), dtype=torch.int64)
    noise = normal(name, shape)
    last = name.rsplit(".", 1)[-1]
    if last == "running_var":
        value = 1 + 0.1 * np.abs(noise)
    elif last == "running_mean":
        value = 0.1 * noise
    elif len(shape) <= 1:
        value = 1 + 0.1 * noise if last in ONES else 0.05 * noise
    else:
        value = noise * (0.02 if shape[0] == 1 else gain / np.sqrt(np.prod(shape[1:])))
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def import_state(
    state: Mapping[str, Tensor],
    folder: Path,
    *options: str | Path,
    meta: Mapping[str, Any] | None = None,
    older: bool = False,
) -> Path:
    """What `posecli import mmpose` with these options makes of a file with these weights, in torch's older format if
    asked. Every tensor finds its place."""
    theirs, ours = folder / "reference.pth", folder / "ours.safetensors"
    content = {"state_dict": dict(state), "meta": dict(meta or {}), "optimizer": {"state": {0: torch.zeros(3)}}}
    torch.save(content, theirs, _use_new_zipfile_serialization=not older)
    result = CliRunner().invoke(import_app, [str(part) for part in (theirs, ours, *options)])
    theirs.unlink()
    assert result.exception is None, result.output
    assert f"matched: {len(state)}\n" in result.stdout
    for side in SIDES:
        assert f"{side}: 0\n" in result.stdout
    return ours


def assert_same_skeleton(
    skeleton: Skeleton, golden: Path, name: str, *, names: bool = True, differing: Sequence[int] = ()
) -> None:
    """The skeleton is the reference's `name`, but for the names if they are ours, and for the mirror partners of the
    keypoints in `differing`. Mirrored twice it is itself."""
    known = json.loads((golden / "dataset_metainfo.json").read_text())[name]
    assert len(skeleton) == known["num_keypoints"]
    assert not names or list(skeleton.names) == known["keypoint_names"]
    assert [list(link) for link in skeleton.links] == known["skeleton_links"]
    assert skeleton.flip_index is not None
    assert np.flatnonzero(skeleton.flip_index != known["flip_indices"]).tolist() == list(differing)
    assert (skeleton.flip_index[skeleton.flip_index] == np.arange(len(skeleton))).all()
    assert list(skeleton.upper or ()) == known["upper"]
    assert np.allclose(skeleton.weights or np.ones(len(skeleton)), known["joint_weights"])
