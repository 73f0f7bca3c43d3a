"""Checkpoints of MMPose 0.x and 1.x: read without running anything in them, renamed, and only taken whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from posecli.algorithm import Algorithm
from posecli.checkpoint import without_downloads
from posecli.config import BackboneConfig, Experiment, ModelConfig, dump
from posecli.console import PosecliError
from posecli.interop.names import IGNORED, UNCOUNTED, our_names
from posecli.interop.unpickle import load_torch, record_names
from posecli.skeleton import Skeleton


@dataclass(frozen=True)
class Foreign:
    """What a checkpoint of another project holds."""

    state: dict[str, Tensor]
    facts: dict[str, str]  # version, epoch, iteration ... as far as the file tells
    left_out: dict[str, str]  # what is not weights of the network: name -> what it is
    inert: dict[str, int]  # classes in the file that stay unread: name -> how often


@dataclass(frozen=True)
class Match:
    """Our tensors beside theirs."""

    matched: dict[str, str]  # our name -> theirs
    missing: tuple[str, ...]  # ours, not in the checkpoint
    unexpected: tuple[str, ...]  # theirs, not in the model
    mismatched: dict[str, tuple[str, tuple[int, ...], tuple[int, ...]]]  # our name -> theirs, our shape, theirs

    @property
    def complete(self) -> bool:
        """Whether every tensor of both sides has its partner."""
        return not (self.missing or self.unexpected or self.mismatched)


def read_mmpose(path: Path) -> Foreign:
    """Weights and facts of a checkpoint. Raises PosecliError when it is damaged, hostile, or holds no weights."""
    content = load_torch(path)
    if not isinstance(content, dict):
        raise PosecliError(f"{path} holds a {type(content).__name__}, no state dict: is it a checkpoint?")
    wrapped = content.get("state_dict", content.get("model"))
    weights = wrapped if isinstance(wrapped, dict) else content
    tensors = {_bare(name): value for name, value in weights.items() if isinstance(value, Tensor)}
    state = {name: value for name, value in tensors.items() if not name.startswith(IGNORED)}
    if not state:
        raise PosecliError(f"{path} holds no weights: its keys are {', '.join(map(str, list(content)[:8]))}")
    left_out = {
        str(key): _kind(content[key]) for key in content if weights is not content and content[key] is not weights
    }
    aside = len(weights) - len(state)
    if aside:
        left_out["in the state dict"] = f"{aside} entries that are no weights of the network (preprocessing, averages)"
    return Foreign(state, _facts(content.get("meta")), left_out, record_names(content))


def _bare(name: Any) -> str:
    """Without the prefix that a parallel wrapper leaves."""
    return str(name).removeprefix("module.")


def _kind(value: Any) -> str:
    return f"{len(value)} entries" if isinstance(value, dict | list) else type(value).__name__


def _facts(meta: Any) -> dict[str, str]:
    wanted = (
        "mmpose_version",
        "mmengine_version",
        "mmcv_version",
        "epoch",
        "iter",
        "time",
        "experiment_name",
        "exp_name",
    )
    if not isinstance(meta, Mapping):
        return {}
    return {key: str(meta[key]) for key in wanted if isinstance(meta.get(key), str | int | float)}


def match(model: nn.Module, config: ModelConfig, state: Mapping[str, Tensor]) -> Match:
    """Pair the model's tensors with a checkpoint's, by MMPose's names of either generation, and by shape."""
    own = model.state_dict()
    state = {name: tensor for name, tensor in state.items() if not name.startswith(config.mmpose_ignored)}
    backbone = getattr(config, "backbone", None)
    renamed = our_names(state, backbone if isinstance(backbone, BackboneConfig) else None, config.mmpose_prefixes)
    theirs: dict[str, str] = {}
    for name, ours in renamed.items():
        theirs.setdefault(ours, name)
    shared = [name for name in own if name in theirs]
    fits = {name: own[name].shape == state[theirs[name]].shape for name in shared}
    return Match(
        {name: theirs[name] for name in shared if fits[name]},
        tuple(name for name in own if name not in theirs and not name.endswith(UNCOUNTED)),
        tuple(name for name, ours in renamed.items() if ours not in own or theirs[ours] != name),
        {
            name: (theirs[name], tuple(own[name].shape), tuple(state[theirs[name]].shape))
            for name in shared
            if not fits[name]
        },
    )


def build_for_import(experiment: Experiment, skeleton: Skeleton) -> Algorithm:
    """The untrained model of a config, without any download."""
    fields = without_downloads(dump(experiment.model))
    return type(experiment.model).model_validate(fields).build(skeleton)


def take(model: nn.Module, state: Mapping[str, Tensor], matched: Match) -> dict[str, Tensor]:
    """Load a complete match into `model` and give its state dict. Raises PosecliError when it is not complete."""
    if not matched.complete:
        faults = [
            f"{len(matched.missing)} of the model's tensors are missing" if matched.missing else "",
            f"{len(matched.unexpected)} of the checkpoint's have no place" if matched.unexpected else "",
            f"{len(matched.mismatched)} have another shape" if matched.mismatched else "",
        ]
        raise PosecliError(
            f"the checkpoint is not of this network, nothing was written: {', '.join(filter(None, faults))}; "
            "choose the config it was trained with"
        )
    model.load_state_dict({name: state[theirs] for name, theirs in matched.matched.items()}, strict=False)
    return model.state_dict()
