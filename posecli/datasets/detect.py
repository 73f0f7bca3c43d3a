"""What a path given with `--data` is, and which of its pictures train and which are scored."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from posecli.console import PosecliError
from posecli.datasets.config import (
    AicConfig,
    CocoConfig,
    CocoWholeBodyConfig,
    CrowdPoseConfig,
    DeepLabCutConfig,
    DeepPoseKitConfig,
    InterHandConfig,
    KnownKeypointsConfig,
    LspConfig,
    MhpConfig,
    MpiiConfig,
    MpiiTrbConfig,
    OcHumanConfig,
    SplitConfig,
    StoredDatasetConfig,
)
from posecli.datasets.known_config import (
    AflwConfig,
    AnimalKingdomConfig,
    AtrwConfig,
    CofwConfig,
    DeepFashion2Config,
    Face300WConfig,
    JhmdbConfig,
    LapaConfig,
    PoseTrack18Config,
    WflwConfig,
)
from posecli.datasets.known_sets import names_alike
from posecli.datasets.published_crowds import mhp_folder
from posecli.skeleton import house_skeleton

Found = tuple[StoredDatasetConfig, StoredDatasetConfig, str]
NAMES = re.compile(rb'"keypoints"\s*:\s*(\[\s*"[^\]]*\])')
POINTS = re.compile(rb'"keypoints"\s*:\s*\[([^\]"]*\d[^\]"]*)\]')  # of the first annotation
OURS = b'"flip_pairs"'  # files that posecli wrote state their flip pairs, and are COCO's whatever they were before
OWN_WORDS: list[tuple[type[StoredDatasetConfig], tuple[bytes, ...]]] = [
    (CocoWholeBodyConfig, (b'"lefthand_kpts"',)),
    (CrowdPoseConfig, (b'"crowdIndex"',)),
    (AicConfig, (b'"Right Shoulder"', b'"Head top"')),
    (AicConfig, (b'"human_annotations"', b'"keypoint_annotations"')),
    (OcHumanConfig, (b'"keypoint_visible"', b'"others_occluded"')),
    (MhpConfig, (b'"Right-ankle"', b'"Upper-neck"')),
    (MpiiConfig, (b'"joints_vis"',)),
    (MpiiTrbConfig, (b'"medial_right_bow"',)),
    (PoseTrack18Config, (b'"bbox_head"', b'"vid_id"')),
    (DeepFashion2Config, (b'"pair_id"', b'"style"')),
]
"""What stands only in the annotation files of these datasets."""
OWN_NAMES: list[tuple[type[KnownKeypointsConfig], bytes, bool]] = [
    (JhmdbConfig, b'"belly"', False),
    (AtrwConfig, b'"right_front_paw"', False),
    (AnimalKingdomConfig, b'"upper_body_ids"', True),
]
"""What stands in the files of these, and in others': they are told by their keypoints' names, all of them. And whether
they state flip pairs themselves."""
UNNAMED: dict[int, type[StoredDatasetConfig]] = {
    19: AflwConfig,
    29: CofwConfig,
    68: Face300WConfig,
    98: WflwConfig,
    106: LapaConfig,
}
"""Faces: the category `face` names no keypoints, their number tells what they are."""
FACE, BOX_SIZE = b'"face"', b'"box_size"'
WORDS = re.compile(
    b"|".join(
        {OURS, FACE, BOX_SIZE, *(word for _, words in OWN_WORDS for word in words), *(word for _, word, _ in OWN_NAMES)}
    )
)
VAL = 0.2  # share of the pictures held out where the data brings no split of its own


def detect_dataset(path: Path, seed: int = 0) -> Found:
    """The configs of the train and val side of the data at `path`, absolute paths in them, and the reason.

    Knows a folder with train.json and val.json (as `posecli convert` writes), COCO's own layout, one annotation file
    (alone or in a folder), InterHand2.6M, Multi-Human Parsing v2, a DeepLabCut project, a DeepPoseKit file, an LSP or
    LSPET folder.
    Without a split of its own the data is split by `seed`, 80 to 20. Raises PosecliError saying what was looked for.
    """
    path = path.expanduser().absolute()
    if path.is_file() and path.suffix.lower() == ".json":
        return _split(coco_like(path), seed, f"{path.name} is one annotation file")
    if path.is_file() and path.suffix.lower() in (".h5", ".hdf5"):
        return _split(DeepPoseKitConfig(path=path), seed, f"{path.name} is a DeepPoseKit annotation set")
    if path.is_file() and path.name in ("config.yaml", "joints.mat"):
        path = path.parent
    if path.is_file():
        raise PosecliError(
            f"{path}: its format is not told by itself; convert it by posecli convert FORMAT {path} FOLDER, or train "
            f"with --set 'data.train={{use: FORMAT, path: {path}}}', and alike for data.val (see posecli list datasets)"
        )
    if not path.is_dir():
        raise PosecliError(f"{path}: no such file or folder")
    attempts: tuple[Callable[[Path, int], Found | None], ...] = (
        _interhand,
        _mhp,
        _pair,
        _deeplabcut,
        _lsp,
        _deepposekit,
        _alone,
    )
    for attempt in attempts:
        found = attempt(path, seed)
        if found is not None:
            return found
    raise PosecliError(
        f"{path}: no train.json and val.json, no single annotation file, no *_joint_3d.json of InterHand2.6M, "
        "no DeepLabCut config.yaml with labeled-data, no pose_annos of MHP v2, no joints.mat, no single .h5 in it; "
        "see posecli convert --help"
    )


def coco_like(file: Path) -> StoredDatasetConfig:
    """The config for an annotation file: that of the first dataset whose own words it holds, else plain COCO.

    One that has its joints in another file beside it is InterHand2.6M's.
    """
    if file.name.endswith("_data.json") and file.with_name(file.name.replace("_data.json", "_joint_3d.json")).is_file():
        return InterHandConfig(path=file)
    if not file.stat().st_size:
        return CocoConfig(path=file)
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = {match.group() for match in WORDS.finditer(content)}  # once through a file that may be large
        config = _told_by_words(found, content) or _told_by_number(found, content) or CocoConfig
        return config(path=file)


def _told_by_words(found: set[bytes], content: mmap.mmap) -> type[StoredDatasetConfig] | None:
    if OURS not in found:
        for config, words in OWN_WORDS:
            if found.issuperset(words):
                return config
    for known, word, states_pairs in OWN_NAMES:
        if word in found and (states_pairs or OURS not in found) and _has_names_of(known, content):
            return known
    return None


def _has_names_of(config: type[KnownKeypointsConfig], content: mmap.mmap) -> bool:
    named = NAMES.search(content)
    try:
        return named is not None and names_alike(json.loads(named[1]), house_skeleton(config.skeleton).names)
    except ValueError:
        return False  # a name with a bracket in it


def _told_by_number(found: set[bytes], content: mmap.mmap) -> type[StoredDatasetConfig] | None:
    """A set of faces, by how many keypoints the first annotation has."""
    points = POINTS.search(content) if FACE in found else None
    config = None if points is None else UNNAMED.get((points[1].count(b",") + 1) // 3)
    if config is None or NAMES.search(content) or (config is AflwConfig and BOX_SIZE not in found):
        return None
    return config


def _split(config: StoredDatasetConfig, seed: int, reason: str) -> Found:
    sides = [
        config.model_copy(update={"split": SplitConfig(side=side, val=VAL, seed=seed)}) for side in ("train", "val")
    ]
    shares = f"{1 - VAL:.0%} of its pictures to train and {VAL:.0%} to score, drawn by seed {seed}"
    return sides[0], sides[1], f"{reason}{_read_as(config)}: {shares}"


def _read_as(config: StoredDatasetConfig) -> str:
    """The set that an annotation file was told to be; nothing for plain COCO."""
    return f", read as {config.name}" if isinstance(config, KnownKeypointsConfig | CocoWholeBodyConfig) else ""


def _interhand(path: Path, seed: int) -> Found | None:
    """InterHand2.6M's folder: its own train side, and its val or test side."""
    places = ("*_joint_3d.json", "*/*_joint_3d.json", "annotations/*/*_joint_3d.json")
    names = [file.name for place in places for file in path.glob(place)]
    if not names:
        return None
    parts = {part for part in ("train", "val", "test") if any(f"_{part}_" in name for name in names)}
    held_out: Literal["val", "test"] = "val" if "val" in parts else "test"
    if {"train", held_out} <= parts:
        reason = f"InterHand2.6M: train on its train files, score on {held_out}"
        return InterHandConfig(path=path, part="train"), InterHandConfig(path=path, part=held_out), reason
    return _split(InterHandConfig(path=path), seed, "InterHand2.6M")


def _mhp(path: Path, seed: int) -> Found | None:
    """Multi-Human Parsing v2: train/ and val/, or one of them."""
    train, val = path / "train", path / "val"
    if mhp_folder(train) is not None and mhp_folder(val) is not None:
        return MhpConfig(path=train), MhpConfig(path=val), "MHP v2: train on its train side, score on val"
    return None if mhp_folder(path) is None else _split(MhpConfig(path=path), seed, "a side of MHP v2")


def _pair(path: Path, seed: int) -> Found | None:
    """A train and a val file side by side."""
    for folder in (path, path / "annotations"):
        train, val = _named(folder, "train"), _named(folder, "val") or _named(folder, "test")
        if train is not None and val is not None:
            sides = coco_like(train), coco_like(val)
            return *sides, f"train on {train.name}, score on {val.name}{_read_as(sides[0])}"
    return None


def _named(folder: Path, side: str) -> Path | None:
    """`side.json`, else the only JSON file with `side` in its name, the only person_keypoints file, or that ends so."""
    if (folder / f"{side}.json").is_file():
        return folder / f"{side}.json"
    files = sorted(folder.glob(f"*{side}*.json"))
    persons = [file for file in files if file.name.startswith("person_keypoints")]
    ended = [file for file in files if file.stem.endswith(f"_{side}")]  # mpii_train.json beside mpii_trainval.json
    return next((found[0] for found in (files, persons, ended) if len(found) == 1), None)


def _deeplabcut(path: Path, seed: int) -> Found | None:
    if not ((path / "config.yaml").is_file() and (path / "labeled-data").is_dir()):
        return None
    return _split(DeepLabCutConfig(path=path), seed, "a DeepLabCut project")


def _lsp(path: Path, seed: int) -> Found | None:
    if not (path / "joints.mat").is_file():
        return None
    return _split(LspConfig(path=path), seed, "Leeds Sports Pose (joints.mat)")


def _deepposekit(path: Path, seed: int) -> Found | None:
    files = sorted(path.glob("*.h5"))
    if len(files) != 1 or any(path.glob("*.json")):
        return None
    return _split(DeepPoseKitConfig(path=files[0]), seed, f"{files[0].name} is a DeepPoseKit annotation set")


def _alone(path: Path, seed: int) -> Found | None:
    files = sorted(path.glob("*.json")) or sorted(path.glob("annotations/*.json"))
    if len(files) != 1:
        return None
    return _split(coco_like(files[0]), seed, f"{files[0].name} is the only annotation file")
