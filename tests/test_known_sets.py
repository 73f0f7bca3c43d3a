"""Bodies, faces, animals and clothes in COCO's form: the sample files, what is special in them, and their skeletons."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from golden_rule import assert_same_skeleton

from posecli.autoconfig import experiment_for
from posecli.config import layers_of, parse_metric
from posecli.console import PosecliError
from posecli.conversion import convert
from posecli.datacheck import check
from posecli.datasets import known_config
from posecli.datasets.coco import coco_dataset
from posecli.datasets.coco_writer import CocoWriter
from posecli.datasets.config import KnownKeypointsConfig
from posecli.datasets.detect import coco_like
from posecli.datasets.known_config import (
    AflwConfig,
    AnimalKingdomConfig,
    AnimalPoseConfig,
    Ap10kConfig,
    AtrwConfig,
    CofwConfig,
    DeepFashion2Config,
    DeepFashionConfig,
    ExlposeConfig,
    Face300VwConfig,
    Face300WConfig,
    Face300WlpConfig,
    HalpeConfig,
    Horse10Config,
    HumanArtConfig,
    JhmdbConfig,
    LapaConfig,
    MacaqueConfig,
    PoseTrack18Config,
    WflwConfig,
)
from posecli.metrics.config import NmeConfig, PckConfig
from posecli.skeleton import house_skeleton
from posecli.types import Dataset, People

SAMPLES = "data/format-samples"
FILES = [  # pictures, instances, labelled keypoints; the first instance's first keypoint, and its box
    (PoseTrack18Config, "posetrack18/annotations/test_posetrack18_val.json", (3, 14, 182), (401, 530), None),
    (JhmdbConfig, "jhmdb/test_jhmdb_sub1.json", (3, 3, 45), (97.8517, 91.5985), (78, 61, 132, 220)),
    (Face300WConfig, "300w/test_300w.json", (2, 2, 136), (268, 398.882), (251, 265, 728, 742)),
    (Face300VwConfig, "300vw/anno_300vw.json", (3, 3, 204), (743.224, 197.764), None),
    (Face300WlpConfig, "300wlp/test_300wlp.json", (2, 2, 136), (144.7809, 253.3918), None),
    (WflwConfig, "wflw/test_wflw.json", (2, 4, 392), (440.6961, 132.7326), (440, 122, 525, 207)),
    (CofwConfig, "cofw/test_cofw.json", (2, 2, 58), (46.5625, 120.0758), (38, 102, 143, 282)),
    (AflwConfig, "aflw/test_aflw.json", (2, 2, 38), (337.2834, 205.7890), (268, 140, 630, 502)),
    (AnimalPoseConfig, "animalpose/test_animalpose.json", (2, 2, 32), (117, 95), (13, 36, 297, 228)),
    (AnimalKingdomConfig, "ak/test_animalkingdom.json", (2, 2, 12), (220.9915, 135.6839), None),
    (AtrwConfig, "atrw/test_atrw.json", (2, 2, 30), (225, 215), (0, 0, 1239, 731)),
    (Horse10Config, "horse10/test_horse10.json", (3, 3, 52), (126, 71.1), (2, 38, 147, 135)),
    (MacaqueConfig, "macaque/test_macaque.json", (2, 2, 31), (641.06, 308.89), None),
    (DeepFashionConfig, "fld/test_fld.json", (2, 2, 15), (108, 33), (88, 21, 136, 163)),
    (DeepFashion2Config, "deepfasion2/deepfasion2.json", (2, 2, 59), None, (103, 80, 704, 749)),
    (HumanArtConfig, "coco/test_coco.json", (4, 14, 181), (367, 81), None),
]


@pytest.mark.parametrize(("kind", "name", "counts", "point", "box"), FILES, ids=[kind.name for kind, *_ in FILES])
def test_sample_files(
    shared: Path, kind: type[KnownKeypointsConfig], name: str, counts: tuple[int, ...], point: Any, box: Any
) -> None:
    folder = shared / SAMPLES
    samples = kind.model_validate({"path": folder / name}).build()
    people = samples.people
    assert (len(samples), len(people), people.labelled.sum()) == counts
    assert samples.skeleton == house_skeleton(kind.skeleton)
    assert people.boxes is not None
    if point is not None:
        assert np.allclose(people.keypoints[0, 0], point, atol=1e-3)
    if box is not None:
        assert np.allclose(people.boxes[0], box, atol=1e-3)
    for sample in samples:
        assert sample.size == cv2.imread(str(sample.image)).shape[1::-1]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (
            name,
            {"300wlp": "300w", "300vw": "coco"}.get(kind.name, kind.name),
        )  # 68 points of a face, read alike; a person
        for kind, name, *_ in FILES
        if kind not in (AnimalPoseConfig, Horse10Config, MacaqueConfig, DeepFashionConfig, HumanArtConfig)
    ],
)
def test_files_are_told_apart_and_checked(shared: Path, name: str, kind: str) -> None:
    file = shared / SAMPLES / name
    assert coco_like(file).name == kind
    faults = 1 if kind in ("posetrack18", "coco") else 0  # a keypoint outside the picture; nothing names the keypoints
    assert check(file, decode=False)[0].faults == faults


@pytest.mark.parametrize(
    ("names", "fields", "kind", "note"),
    [
        (house_skeleton("jhmdb").names, {}, "jhmdb", "all its names, in their order"),
        (house_skeleton("jhmdb").names[::-1], {}, "coco", "in another order"),
        (("nose", "belly", "tail"), {}, "coco", "an animal with a belly"),
        (house_skeleton("ap10k").names, {"name": "tiger"}, "coco", "AP-10K has tigers with front paws too"),
        (house_skeleton("atrw").names, {"name": "tiger"}, "atrw", "ATRW's own"),
        (house_skeleton("animal_kingdom").names, {"upper_body_ids": [0], "flip_pairs": [[1, 2]]}, "animal-kingdom", ""),
        (house_skeleton("animal_kingdom").names, {"flip_pairs": [[1, 2]]}, "coco", "as posecli writes it"),
        (("belly", "a]b", "c"), {}, "coco", "a bracket in a name"),
        ((), {"name": "face"}, "wflw", "98 keypoints of a face without names"),
        ((), {"name": "beetle"}, "coco", "98 keypoints of something else"),
        (("a",), {"name": "face"}, "coco", "98 keypoints, and names"),
    ],
)
def test_user_s_files_stay_coco(tmp_path: Path, names: tuple[str, ...], fields: Any, kind: str, note: str) -> None:
    """A word that a published set has too makes no published set of a file."""
    file = write(tmp_path, 98, {"num_keypoints": 98})
    document = json.loads(file.read_text())
    document["categories"] = [{"id": 1, "name": "it", "keypoints": list(names), **fields}]
    file.write_text(json.dumps(document, indent=2))
    assert coco_like(file).name == kind, note


@pytest.mark.parametrize("kind", [AnimalPoseConfig, Horse10Config, MacaqueConfig, DeepFashionConfig, HumanArtConfig])
def test_plain_coco_gives_the_same(shared: Path, kind: type[KnownKeypointsConfig]) -> None:
    """Their files name their keypoints, by which the shipped skeleton is found."""
    name = next(name for other, name, *_ in FILES if other is kind)
    plain, known = coco_dataset(shared / SAMPLES / name), kind.model_validate({"path": shared / SAMPLES / name}).build()
    assert plain.skeleton == known.skeleton
    assert np.array_equal(plain.people.keypoints, known.people.keypoints, equal_nan=True)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, name, *_ in FILES], ids=[k.name for k, *_ in FILES])
def test_converted_files_read_back(shared: Path, tmp_path: Path, kind: type[KnownKeypointsConfig], name: str) -> None:
    config = kind.model_validate({"path": shared / SAMPLES / name})
    before = config.build()
    done = convert(config, tmp_path / "out", CocoWriter(), val=0)
    after = coco_dataset(done.sides[0].file)
    assert coco_like(done.sides[0].file).name == "coco", "what posecli wrote is COCO's"
    assert after.skeleton.names == before.skeleton.names
    assert after.skeleton.flip_pairs == before.skeleton.flip_pairs
    assert np.allclose(after.people.keypoints, before.people.keypoints, atol=5e-4, equal_nan=True)
    assert np.allclose(after.people.boxes, before.people.boxes, atol=5e-3)


# --- what is special --------------------------------------------------------------------------------------------------


def write(folder: Path, joints: int, *annotations: dict[str, Any], **picture: Any) -> Path:
    """One picture of 200×100 with annotations whose keypoint k is (10 + k % 50, 20)."""
    flat = [value for joint in range(joints) for value in (10 + joint % 50, 20, 2)]
    plain = {"image_id": 1, "category_id": 1, "keypoints": flat, "bbox": [10, 10, 40, 40]}
    document = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 200, "height": 100, **picture}],
        "annotations": [{**plain, "id": number, **given} for number, given in enumerate(annotations, 1)],
        "categories": [{"id": 1, "name": "it"}],
    }
    (folder / "a.jpg").write_bytes(b"")
    file = folder / "set.json"
    file.write_text(json.dumps(document))
    return file


SQUARES = [
    ({"center": [50, 40], "scale": 0.4}, (10, 0, 90, 80), "a square of 200 × scale"),
    ({"center": [50, 40]}, (10, 10, 50, 50), "no scale: the file's box"),
    ({"scale": 0.4}, (10, 10, 50, 50), "no centre: the file's box"),
    ({"center": None, "scale": None}, (10, 10, 50, 50), "unknown"),
]


@pytest.mark.parametrize("kind", [Face300WConfig, WflwConfig, AflwConfig])
@pytest.mark.parametrize(("given", "box", "note"), SQUARES)
def test_squares(tmp_path: Path, kind: type[KnownKeypointsConfig], given: Any, box: Any, note: str) -> None:
    file = write(tmp_path, len(house_skeleton(kind.skeleton)), given)
    boxes = kind.model_validate({"path": file}).build().people.boxes
    assert boxes is not None
    assert np.allclose(boxes[0], box), note


@pytest.mark.parametrize(
    ("box", "expected", "note"),
    [
        ([11, 21, 30, 40], (10, 20, 40, 60), "pixels count from 1 in the file"),
        ([0, 1, 30, 40], (0, 0, 29, 40), "before the first pixel"),
        ([181, 81, 40, 40], (180, 80, 199, 99), "behind the last pixel"),
    ],
)
def test_jhmdb_counts_from_one(tmp_path: Path, box: list[int], expected: Any, note: str) -> None:
    """As mmpose/datasets/datasets/body/jhmdb_dataset.py: boxes cut off at the last pixels, areas 0.53 of them."""
    people = JhmdbConfig(path=write(tmp_path, 15, {"bbox": box})).build().people
    assert people.boxes is not None
    assert people.boxes[0].tolist() == list(expected), note
    assert people.keypoints[0, :2].tolist() == [[9, 19], [10, 19]]
    left, top, right, bottom = expected
    assert np.isclose(people.extra["area"][0], 0.53 * (right - left) * (bottom - top))


def test_posetrack_regions_and_heads(tmp_path: Path) -> None:
    nobody = [0.0] * 51
    regions = {"ignore_regions_x": [[0, 20, 20], [5, 6]], "ignore_regions_y": [[0, 0, 9], [5, 6]]}
    file = write(tmp_path, 17, {"bbox_head": [0, 0, 30, 40]}, {"keypoints": nobody, "bbox": [90, 10, 5, 5]}, **regions)
    samples = PoseTrack18Config(path=file).build()
    outlines = [polygon.tolist() for polygon in samples[0].ignore]
    assert outlines == [
        [[0, 0], [20, 0], [20, 9]],  # two points are no region
        [[90, 10], [95, 10], [95, 15], [90, 15]],  # a person without keypoints
    ]
    heads = samples.people.extra["head_size"]
    assert heads[0] == 30, "0.6 × 50"
    assert np.isnan(heads[1])
    score = PckConfig(threshold=0.5, by="head").build(samples.skeleton).compute(samples, perfect(samples))[0]
    assert score.value == 1
    assert "1 person" in (score.note or "")


def perfect(samples: Dataset, move: float = 0.0) -> dict[Any, People]:
    """Predictions that are the truth, moved to the right."""
    people = {}
    for sample in samples:
        true = sample.people
        moved = np.nan_to_num(true.keypoints) + np.array([move, 0])
        scores = np.ones(len(true))
        people[sample.id] = People(moved, np.ones_like(true.scores), true.boxes, scores, {"row": true.extra["row"]})
    return people


@pytest.mark.parametrize(
    ("kind", "name", "by", "length", "note"),
    [
        (AflwConfig, "aflw/test_aflw.json", "box_size", [362, None], "the file's own size"),
        (WflwConfig, "wflw/test_wflw.json", "60,72", None, "outer eye corners"),
        (Face300WConfig, "300w/test_300w.json", "36,45", None, "outer eye corners"),
        (CofwConfig, "cofw/test_cofw.json", "8,9", None, "outer eye corners"),
        (Horse10Config, "horse10/test_horse10.json", "0,1", None, "nose to eye"),
    ],
)
def test_nme(shared: Path, kind: type[KnownKeypointsConfig], name: str, by: str, length: Any, note: str) -> None:
    """By the lengths that the reference divides by: the mean of error / length, here with an error of 3 pixels."""
    file = shared / SAMPLES / name
    samples = kind.model_validate({"path": file}).build()
    people = samples.people
    if by == "box_size":
        lengths = np.array([record["box_size"] for record in json.loads(file.read_text())["annotations"]])
        order = np.argsort([record["id"] for record in json.loads(file.read_text())["annotations"]])
        assert sorted(lengths[order].tolist()) == sorted(people.extra["box_size"].tolist())
        lengths = people.extra["box_size"]
        assert length[0] in lengths
    else:
        first, second = map(int, by.split(","))
        lengths = np.linalg.norm(people.keypoints[:, first] - people.keypoints[:, second], axis=-1)
    counts = people.labelled.sum(axis=1)
    known = np.isfinite(lengths)
    expected = (3 / lengths[known] * counts[known]).sum() / counts[known].sum()
    score = NmeConfig(by=by).build(samples.skeleton).compute(samples, perfect(samples, 3.0))[0]
    assert np.isclose(score.value, expected, rtol=1e-5), note


def test_box_size_is_asked_for(tmp_path: Path) -> None:
    samples = CofwConfig(path=write(tmp_path, 29, {})).build()
    with pytest.raises(PosecliError, match="needs a column `box_size`"):
        NmeConfig(by="box_size").build(samples.skeleton).compute(samples, perfect(samples))


@pytest.mark.parametrize(
    ("build", "joints", "skeleton", "labelled", "note"),
    [
        (lambda path: HalpeConfig(path=path), 136, "halpe", 136, "the whole body"),
        (lambda path: HalpeConfig(path=path, part="body"), 136, "halpe26", 26, "body and feet: the first 26"),
        (lambda path: HumanArtConfig(path=path), 17, "coco", 17, "COCO's"),
        (lambda path: DeepFashionConfig(path=path, part="upper"), 6, "deepfashion_upper", 6, "upper clothes"),
        (lambda path: DeepFashionConfig(path=path, part="lower"), 4, "deepfashion_lower", 4, "lower clothes"),
        (lambda path: LapaConfig(path=path), 106, "lapa", 106, "no sample file"),
        (lambda path: Ap10kConfig(path=path), 17, "ap10k", 17, "no sample file"),
        (lambda path: ExlposeConfig(path=path), 14, "exlpose", 14, "no sample file"),
    ],
)
def test_parts(
    tmp_path: Path, build: Callable[[Path], KnownKeypointsConfig], joints: int, skeleton: str, labelled: int, note: str
) -> None:
    samples = build(write(tmp_path, joints, {})).build()
    assert samples.skeleton == house_skeleton(skeleton), note
    assert samples.people.labelled.sum() == labelled, note


def test_human_art_has_21_keypoints_too(tmp_path: Path) -> None:
    more = {"keypoints": [1, 1, 2] * 17, "keypoints_21": [7, 8, 2] * 21}
    samples = HumanArtConfig(path=write(tmp_path, 17, more), joints=21).build()
    assert samples.skeleton == house_skeleton("humanart21")
    assert samples.people.keypoints[0].tolist() == [[7, 8]] * 21


def test_exlpose_areas_are_of_bodies(tmp_path: Path) -> None:
    people = ExlposeConfig(path=write(tmp_path, 14, {"area": 7})).build().people
    assert people.extra["area"].tolist() == [0.53 * 1600]


FAULTS = [
    (WflwConfig, 98, {"center": [1], "scale": 1}, "center that is not two numbers", "one number"),
    (WflwConfig, 98, {"center": [1, 2], "scale": "big"}, "center that is not two numbers", "a word"),
    (JhmdbConfig, 15, {"bbox": [1, 2]}, "keypoints or a bbox that are not numbers", "a short box"),
    (JhmdbConfig, 15, {"keypoints": "none"}, "keypoints or a bbox that are not numbers", "a word"),
    (PoseTrack18Config, 17, {"bbox_head": [1, 2]}, "bbox_head that is not four numbers", "a short box"),
    (HalpeConfig, 17, {}, "17 keypoints, 136 are expected", "another set's file"),
    (HalpeConfig, 136, {"keypoints": 3}, "keypoints that are no list", "a number"),
    (HumanArtConfig, 17, {}, None, "17 of 17"),
    (AflwConfig, 19, {"box_size": [56, 56]}, None, "no number is no length"),
]


@pytest.mark.parametrize(("kind", "joints", "given", "message", "note"), FAULTS)
def test_what_cannot_be_read_is_said(
    tmp_path: Path, kind: type[KnownKeypointsConfig], joints: int, given: Any, message: str | None, note: str
) -> None:
    config = kind.model_validate({"path": write(tmp_path, joints, given)})
    if message is None:
        assert len(config.build()) == 1, note
        return
    with pytest.raises(PosecliError, match=message):
        config.build()


@pytest.mark.parametrize("value", [[56, 56], "small", None, {"a": 1}])
def test_a_user_s_own_field_is_no_length(tmp_path: Path, value: Any) -> None:
    """`box_size` and `head_size` are not COCO's: whatever a user keeps there, the file is read."""
    file = write(tmp_path, 3, {"box_size": value, "head_size": value}, {"head_size": 7})
    document = json.loads(file.read_text())
    document["categories"] = [{"id": 1, "name": "it", "keypoints": ["a", "b", "c"]}]
    file.write_text(json.dumps(document))
    extra = coco_dataset(file).people.extra
    assert "box_size" not in extra
    assert np.array_equal(extra["head_size"], [np.nan, 7], equal_nan=True)
    assert not any(finding.rule.startswith("D2") for finding in check(file, decode=False)[0].findings.values())


def test_categories_that_are_no_lists_are_none(tmp_path: Path) -> None:
    file = write(tmp_path, 15, {})
    document = json.loads(file.read_text())
    document["categories"][0]["keypoints"] = 17
    file.write_text(json.dumps(document))
    assert len(JhmdbConfig(path=file).build()) == 1


def test_people_in_pictures_with_regions_are_judged(tmp_path: Path) -> None:
    regions = {"ignore_regions_x": [[0, 20, 20]], "ignore_regions_y": [[0, 0, 9]]}
    file = write(tmp_path, 17, {"keypoints": 5}, **regions)
    with pytest.raises(PosecliError, match="annotation 1 has keypoints, a segmentation or a bbox that are no lists"):
        PoseTrack18Config(path=file).build()


def test_21_keypoints_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(PosecliError, match="has no keypoints_21; read its 17 keypoints by joints=17"):
        HumanArtConfig(path=write(tmp_path, 17, {}), joints=21).build()


def test_regions_of_different_lengths_are_said(tmp_path: Path) -> None:
    file = write(tmp_path, 17, {}, ignore_regions_x=[[1, 2, 3]], ignore_regions_y=[[1, 2]])
    with pytest.raises(PosecliError, match="image 1 has ignore_regions_x and _y that are not lists of one length"):
        PoseTrack18Config(path=file).build()


# --- skeletons --------------------------------------------------------------------------------------------------------

SKELETONS = {  # the reference's name, where it is another
    "aflw": "aflw",
    "animal_kingdom": "ak",
    "animalpose": "animalpose",
    "ap10k": "ap10k",
    "atrw": "atrw",
    "cofw": "cofw",
    "deepfashion2": "deepfashion2",
    "deepfashion_full": "deepfashion_full",
    "deepfashion_lower": "deepfashion_lower",
    "deepfashion_upper": "deepfashion_upper",
    "exlpose": "exlpose",
    "halpe": "halpe",
    "halpe26": "halpe26",
    "horse10": "horse10",
    "humanart21": "humanart21",
    "jhmdb": "jhmdb",
    "lapa": "lapa",
    "posetrack18": "posetrack18",
    "wflw": "wflw",
}


@pytest.mark.parametrize("name", SKELETONS)
def test_skeletons_are_the_reference_s(golden: Path, name: str) -> None:
    differing = [140] if name == "deepfashion2" else []  # the reference's vest has half a pair
    assert_same_skeleton(house_skeleton(name), golden, SKELETONS[name], names=False, differing=differing)


@pytest.mark.parametrize("name", ["coco", "coco_wholebody_face"])
def test_sets_share_a_skeleton(golden: Path, name: str) -> None:
    """Macaques and Human-Art are COCO's, 300W and its relatives are COCO-WholeBody's faces."""
    known = json.loads((golden / "dataset_metainfo.json").read_text())
    others = {"coco": ["macaque", "humanart"], "coco_wholebody_face": ["300w", "300vw"]}[name]
    assert all(known[other]["flip_indices"] == known[name]["flip_indices"] for other in others)


def test_every_set_is_listed_once() -> None:
    names = [config.name for config in known_config.DATASETS]
    assert len(set(names)) == len(names)
    assert {kind for kind, *_ in FILES} | {LapaConfig, Ap10kConfig, ExlposeConfig, HalpeConfig} == {
        *known_config.DATASETS
    }


# --- what they are scored by ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in known_config.DATASETS if kind.metrics], ids=lambda kind: kind.name)
def test_metrics_of_the_field_fit_the_skeleton(kind: type[KnownKeypointsConfig]) -> None:
    for metric in kind.metrics:
        parse_metric(metric).build(house_skeleton(kind.skeleton))


def test_data_is_scored_as_the_field_does(shared: Path) -> None:
    """NME by the outer eye corners, where nobody states another metric."""
    file = shared / SAMPLES / "wflw/test_wflw.json"
    free, reasons = experiment_for(layers_of("topdown/custom"), file)
    assert free.eval.metrics == ("nme:60,72",)
    assert "read as wflw" in reasons[0]
    assert reasons[-1] == "metrics: nme:60,72, by which such data is scored"
    stated, _ = experiment_for(layers_of("topdown/custom", ["eval.metrics=[epe]"]), file)
    assert stated.eval.metrics == ("epe",)
