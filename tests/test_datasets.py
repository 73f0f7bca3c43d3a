"""Readers: COCO, COCO-WholeBody, LSP, LSPET, DeepLabCut; splits; what --data finds."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from golden_rule import assert_same_skeleton
from pycocotools import mask as run_lengths
from scipy.io import savemat

from posecli.console import PosecliError
from posecli.datasets.coco import coco_dataset
from posecli.datasets.coco_skeleton import flip_faults, from_fields, to_fields
from posecli.datasets.config import DATASETS, CocoConfig, DeepLabCutConfig, LspConfig, SplitConfig
from posecli.datasets.deeplabcut import deeplabcut_dataset
from posecli.datasets.detect import detect_dataset
from posecli.datasets.lsp import lsp_dataset
from posecli.datasets.pictures import PicturePaths, find_pictures, picture_size
from posecli.datasets.regions import Regions, decompress, trace_runs
from posecli.datasets.split import split_indices
from posecli.datasets.wholebody import wholebody_dataset
from posecli.skeleton import Skeleton, house_skeleton, house_skeletons

Document = dict[str, Any]
NAMES = ["snout", "left_ear", "right_ear", "tail"]


def picture(path: Path, width: int = 40, height: int = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))
    return path


def person(identity: int, image: int, keypoints: list[float], **fields: Any) -> Document:
    record = {"id": identity, "image_id": image, "category_id": 1, "keypoints": keypoints, "bbox": [1, 2, 20, 10]}
    return {**record, "area": 150.5, "iscrowd": 0, **fields}


def document(**fields: Any) -> Document:
    """Two pictures; people in another order than the pictures."""
    return {
        "images": [
            {"id": 7, "file_name": "b.png", "width": 40, "height": 30},
            {"id": 3, "file_name": "a.png", "width": 40, "height": 30},
        ],
        "categories": [{"id": 1, "name": "mouse", "keypoints": NAMES, "skeleton": [[1, 2], [1, 3]]}],
        "annotations": [
            person(11, 3, [1, 2, 2, 3.5, 4, 1, 0, 0, 0, 9, 9, 0]),
            person(12, 7, [5, 6, 2, 7, 8, 2, 9, 10, 2, 11, 12, 2]),
            person(13, 3, [1, 1, 2, 2, 2, 2, 3, 3, 2, 4, 4, 2]),
        ],
        **fields,
    }


def store(folder: Path, content: Document | str) -> Path:
    for name in ("a.png", "b.png"):
        picture(folder / name)
    file = folder / "ann.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


# --- COCO -------------------------------------------------------------------------------------------------------------


def test_people_stand_in_columns_in_the_order_of_the_pictures(tmp_path: Path) -> None:
    dataset = coco_dataset(store(tmp_path, document()))
    assert list(dataset.ids) == [7, 3]
    assert dataset.offsets.tolist() == [0, 1, 3]
    assert dataset.people.extra["annotation_id"].tolist() == [12, 11, 13]
    sample = dataset[1]
    assert sample.size == (40, 30)
    assert sample.image == tmp_path / "a.png"
    assert sample.people.scores[0].tolist() == [2, 1, 0, 0]
    assert np.isnan(sample.people.keypoints[0, 2:]).all(), "visibility 0 is unknown, whatever its coordinates"
    assert sample.people.boxes is not None
    assert sample.people.boxes[0].tolist() == [1, 2, 21, 12], "x, y, x + w, y + h"
    assert sample.people.extra["area"].tolist() == [150.5, 150.5]
    assert dataset.categories == {1: "mouse"}


def test_a_dataset_travels_to_workers(tmp_path: Path) -> None:
    dataset = pickle.loads(pickle.dumps(coco_dataset(store(tmp_path, document()))))
    assert dataset[0].image == tmp_path / "b.png"


def test_names_with_sides_give_flip_pairs_and_never_sigmas(tmp_path: Path) -> None:
    dataset = coco_dataset(store(tmp_path, document()))
    assert dataset.skeleton.name == "mouse"
    assert dataset.skeleton.links == ((0, 1), (0, 2))
    assert dataset.skeleton.flip_pairs == ((1, 2),)
    assert dataset.skeleton.sigmas is None
    assert any("left_ear/right_ear" in note for note in dataset.notes)


def test_the_category_may_say_more(tmp_path: Path) -> None:
    content = document()
    content["categories"][0] |= {"flip_pairs": [["snout", "tail"]], "sigmas": [0.1, 0.2, 0.3, 0.4], "upper": ["snout"]}
    skeleton = coco_dataset(store(tmp_path, content)).skeleton
    assert skeleton.flip_pairs == ((0, 3),)
    assert skeleton.sigmas == (0.1, 0.2, 0.3, 0.4)
    assert skeleton.upper == (0,)


@pytest.mark.parametrize("name", ["ann.skeleton.yaml", "skeleton.yaml"])
def test_a_skeleton_beside_the_file_wins(tmp_path: Path, name: str) -> None:
    content = document()
    content["categories"][0]["sigmas"] = [0.1] * 4
    (tmp_path / name).write_text(yaml.safe_dump({"sigmas": [0.5] * 4, "flip_pairs": [[1, 2]]}))
    dataset = coco_dataset(store(tmp_path, content))
    assert dataset.skeleton.sigmas == (0.5,) * 4
    assert any(name in note for note in dataset.notes)


def test_the_names_of_a_house_skeleton_bring_what_it_knows(tmp_path: Path) -> None:
    house = house_skeleton("coco")
    content = document(annotations=[person(1, 3, [1, 1, 2] * 17)])
    content["categories"] = [{"id": 1, "name": "person", "keypoints": list(house.names)}]
    dataset = coco_dataset(store(tmp_path, content))
    assert dataset.skeleton == house
    assert any("'coco'" in note for note in dataset.notes)


def test_a_file_of_ones_own_can_be_read_with_another_skeleton(tmp_path: Path) -> None:
    file = store(tmp_path, document())
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({"name": "rat", "keypoints": ["a", "b", "c", "d"], "sigmas": [0.1] * 4}))
    assert coco_dataset(file, skeleton=str(other)).skeleton.names == ("a", "b", "c", "d")
    with pytest.raises(PosecliError, match="17 keypoints"):
        coco_dataset(file, skeleton="coco")
    with pytest.raises(PosecliError, match="did you mean 'coco'"):
        coco_dataset(file, skeleton="cooc")


def test_several_categories(tmp_path: Path) -> None:
    content = document()
    content["categories"].append({"id": 2, "name": "rat", "keypoints": NAMES})
    content["annotations"][0]["category_id"] = 2
    together = coco_dataset(store(tmp_path, content))
    assert together.people.extra["category"].tolist() == [1, 2, 1], "one list of names: read together"
    assert together.categories == {1: "mouse", 2: "rat"}
    assert coco_dataset(store(tmp_path, content), category="rat").people.extra["annotation_id"].tolist() == [11]
    assert len(coco_dataset(store(tmp_path, content), category=1).people) == 2
    content["categories"][1]["keypoints"] = ["one"]
    with pytest.raises(PosecliError, match=r"choose one: category=mouse, category=rat, by --set data.train.category="):
        coco_dataset(store(tmp_path, content))


def test_keypoints_that_are_no_list(tmp_path: Path) -> None:
    content = document()
    content["categories"][0]["keypoints"] = 4
    with pytest.raises(PosecliError, match="no category lists its `keypoints`"):
        coco_dataset(store(tmp_path, content))


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_keypoints_without_a_finite_place_are_not_labelled(tmp_path: Path, value: float | None) -> None:
    people = coco_dataset(store(tmp_path, document(annotations=[person(1, 3, [value, 5, 2] + [4, 5, 2] * 3)]))).people
    assert people.scores.tolist() == [[0, 2, 2, 2]]
    assert np.isnan(people.keypoints[0, 0]).all()


@pytest.mark.parametrize("box", [[4, 4, 0, 9], [9, 9, -5, -5]])
def test_labelled_people_who_cannot_be_cut_out_are_counted(tmp_path: Path, box: list[int]) -> None:
    content = document(annotations=[person(1, 3, [1, 1, 2] * 4, bbox=box), person(2, 3, [0] * 12, bbox=box)])
    assert any(
        "1 labelled people have a box without area" in note for note in coco_dataset(store(tmp_path, content)).notes
    )


def test_a_tight_box_without_area_is_no_fault(tmp_path: Path) -> None:
    alone = person(1, 3, [1, 1, 2] + [0] * 9, bbox=None)
    dataset = coco_dataset(store(tmp_path, document(annotations=[alone])), strict=True)
    assert "1 labelled people have no bbox, and a tight one without area: annotation 1" in dataset.notes


NAN = float("nan")
LOST: list[tuple[str, Document, str]] = [
    ("picture", {"image_id": 99}, "1 annotations belong to pictures the file does not list and are left out"),
    ("category", {"category_id": 5}, "1 annotations belong to categories the file does not list and are left out"),
    ("no category", {"category_id": None}, "1 annotations belong to categories the file does not list and are left"),
    ("place", {"keypoints": [NAN, 1, 2] + [1] * 9}, "1 annotations have keypoints without a finite place"),
    ("flag", {"keypoints": [1, 1, NAN] + [1] * 9}, "1 annotations have keypoints without a finite place"),
    ("box", {"bbox": [NAN, 1, 5, 5]}, "1 annotations have a bbox that is not finite and get a tight one"),
    ("half a box", {"bbox": [1, 1, None, 5]}, "1 annotations have a bbox that is not finite and get a tight one"),
    ("flat box", {"bbox": [1, 1, 0, 5]}, "1 labelled people have a box without area"),
    ("area", {"area": NAN}, "1 annotations have an area that is not finite and get that of the box"),
]


@pytest.mark.parametrize(("case", "fields", "note"), LOST, ids=[case[0] for case in LOST])
def test_what_is_lost_is_counted_and_refused_when_strict(
    tmp_path: Path, case: str, fields: Document, note: str
) -> None:
    content = document()
    content["annotations"][2].update(fields)
    file = store(tmp_path, content)
    (told,) = [told for told in coco_dataset(file).notes if note in told]
    assert told.endswith(": annotation 13")
    with pytest.raises(PosecliError, match=f"ann.json: {note}.*: annotation 13; see posecli data check"):
        CocoConfig(path=file).refusing().build()


COCO_FORMS = [
    ("coco", "coco/test_coco.json"),
    ("coco-wholebody", "coco/test_coco_wholebody.json"),
    ("crowdpose", "crowdpose/test_crowdpose.json"),
    ("aic", "aic/test_aic.json"),
    ("ochuman", "ochuman/test_ochuman.json"),
    ("mhp", "mhp/test_mhp.json"),
    ("freihand", "freihand/test_freihand.json"),
    ("onehand10k", "onehand10k/test_onehand10k.json"),
    ("rhd", "rhd/test_rhd.json"),
    ("panoptic-hand", "panoptic/test_panoptic.json"),
]


@pytest.mark.parametrize(("name", "sample"), COCO_FORMS, ids=[case[0] for case in COCO_FORMS])
def test_every_format_like_coco_can_refuse(tmp_path: Path, shared: Path, name: str, sample: str) -> None:
    (kind,) = [config for config in DATASETS if config.name == name]
    source = shared / "data/format-samples" / sample
    content = json.loads(source.read_text())
    content["annotations"][0]["category_id"] = 99
    file = tmp_path / source.name
    file.write_text(json.dumps(content))
    config = kind.model_validate({"path": file, "images": source.parent})
    assert any("categories the file does not list" in note for note in config.build().notes)
    with pytest.raises(PosecliError, match="1 annotations belong to categories the file does not list"):
        config.refusing().build()


def test_nothing_is_lost_without_faults(tmp_path: Path) -> None:
    content = document()
    content["categories"].append({"id": 2, "name": "cheese"})
    content["annotations"][1]["category_id"] = 2
    content["annotations"][0]["keypoints"][9:11] = [NAN, None]  # where visibility is 0
    CocoConfig(path=store(tmp_path, content), strict=True).build()


def test_regions_of_crowds_and_of_people_without_points_are_ignored(tmp_path: Path) -> None:
    columns = [5 * 30 + 10, *[10, 20] * 19, 10, 10 + 15 * 30]  # x 5 to 24, y 10 to 19
    nothing = [0] * 12
    content = document(
        annotations=[
            person(1, 3, [1, 1, 2] * 4, segmentation=[[0, 0, 9, 0, 9, 9]]),
            person(2, 3, nothing, segmentation=[[1, 1, 5, 1, 5, 5, 1, 5]]),
            person(3, 7, nothing, segmentation=None),
            person(4, 7, nothing, iscrowd=1, segmentation={"size": [30, 40], "counts": columns}),
        ]
    )
    dataset = coco_dataset(store(tmp_path, content))
    assert [polygon.tolist() for polygon in dataset[1].ignore] == [[[1, 1], [5, 1], [5, 5], [1, 5]]]
    box, crowd = dataset[0].ignore
    assert box.tolist() == [[1, 2], [21, 2], [21, 12], [1, 12]], "no outline: the box"
    assert crowd.min(axis=0).tolist() == [5, 10]
    assert crowd.max(axis=0).tolist() == [24, 19]
    assert dataset.people.extra["crowd"].tolist() == [False, True, False, False]


def test_run_lengths_are_traced() -> None:
    # down the columns of a 4 × 4 mask whose middle 2 × 2 is set
    (outline,) = trace_runs({"size": [4, 4], "counts": [5, 2, 2, 2, 5]})
    assert sorted(map(tuple, outline.tolist())) == [(1, 1), (1, 2), (2, 1), (2, 2)]


@pytest.mark.parametrize("seed", range(5))
def test_compressed_run_lengths_are_those_of_pycocotools(seed: int) -> None:
    generator = np.random.default_rng(seed)
    counts = generator.integers(1, 5000, 40).tolist()
    stored = run_lengths.frPyObjects({"size": [sum(counts), 1], "counts": counts}, sum(counts), 1)
    assert decompress(stored["counts"]) == counts
    assert decompress(stored["counts"].decode()) == counts


def test_regions_are_a_mapping() -> None:
    regions = Regions({4: [[0, 0, 1, 0, 1, 1], [2, 2, 3, 2, 3, 3, 9]], 1: [[5, 5, 6, 6, 7, 7]]})
    assert list(regions) == [1, 4]
    assert len(regions[4]) == 2
    assert regions[4][1].tolist() == [[2, 2], [3, 2], [3, 3]], "an odd number at the end is dropped"
    assert regions.get(2, ()) == ()


def test_sizes_come_from_the_pictures_where_the_file_has_none(tmp_path: Path) -> None:
    content = document()
    del content["images"][1]["width"]
    assert coco_dataset(store(tmp_path, content)).sizes.tolist() == [[40, 30], [40, 30]]


def test_what_an_annotation_may_leave_out(tmp_path: Path) -> None:
    bare = {"id": 1, "image_id": 3, "category_id": 1, "keypoints": [1, 2, 2, 5, 4, 2] + [0] * 6}
    unlabelled = {"id": 2, "image_id": 3, "category_id": 1, "bbox": [0, 0, 4, 5]}
    people = coco_dataset(store(tmp_path, document(annotations=[bare, unlabelled]))).people
    assert people.boxes is not None
    assert people.boxes.tolist() == [[1, 2, 5, 4], [0, 0, 4, 5]], "without bbox: tight"
    assert people.extra["area"].tolist() == [8, 20], "without area: that of the box"
    assert not people.labelled[1].any()


@pytest.mark.parametrize("place", ["", "images", "../images", "../val2017", "../images/val2017"])
def test_pictures_are_found_near_the_file(tmp_path: Path, place: str) -> None:
    file = tmp_path / "annotations" / "person_keypoints_val2017.json"
    picture(file.parent / place / "b.png")
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(document()))
    first = coco_dataset(file)[0].image
    assert isinstance(first, Path)
    assert first.is_file()


def test_the_first_picture_may_be_missing(tmp_path: Path) -> None:
    file = store(tmp_path, document())
    (tmp_path / "images").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "images" / "a.png")
    (tmp_path / "b.png").unlink()
    assert [path.is_file() for path in coco_dataset(file).images if isinstance(path, Path)] == [False, True]


def test_columns_of_ones_own(tmp_path: Path) -> None:
    content = document()
    content["categories"][0]["columns"] = ["facing"]
    content["annotations"][0]["facing"] = 3
    content["annotations"][1]["facing"] = 1
    facing = coco_dataset(store(tmp_path, content)).people.extra["facing"]
    assert facing.tolist() == [1, 3, -1], "in the order of the pictures, -1 where it is not known"


FAULTS: list[tuple[str, Callable[[Document], object], str]] = [
    ("no people", lambda d: d.update(annotations=[]), "no annotations of 'mouse'"),
    ("no pictures", lambda d: d.update(images=[]), "lists no images"),
    ("no table", lambda d: d.pop("categories"), "no list `categories`"),
    ("no keypoints", lambda d: d["categories"][0].pop("keypoints"), "no category lists its `keypoints`"),
    (
        "too few",
        lambda d: d["annotations"][1].update(keypoints=[1, 2, 2] * 3),
        "annotation 12 has 3 keypoints, 4 are expected",
    ),
    ("torn", lambda d: d["annotations"][1].update(keypoints=[1, 2]), "annotation 12 has 2 numbers"),
    (
        "words",
        lambda d: d["annotations"][1].update(keypoints=["x"] * 12),
        "annotation 12 has keypoints that are not numbers",
    ),
    ("a number", lambda d: d["annotations"][1].update(keypoints=5), "annotation 12 has keypoints that are no list"),
    (
        "short box",
        lambda d: d["annotations"][1].update(bbox=[1, 2, 3]),
        r"annotation 12 has the bbox \[1, 2, 3\], which is not four",
    ),
    ("long box", lambda d: d["annotations"][1].update(bbox=[1, 2, 3, 4, 5]), "annotation 12 has the bbox"),
    ("no box", lambda d: d["annotations"][1].update(bbox=5), "annotation 12 has the bbox 5, which is not four numbers"),
    ("area", lambda d: d["annotations"][1].update(area="x"), "annotation 12 has the area 'x'; a number is expected"),
    ("crowd", lambda d: d["annotations"][1].update(iscrowd=[0, 1]), r"annotation 12 has the iscrowd \[0, 1\]"),
    ("outline", lambda d: d["annotations"][1].update(iscrowd=1, segmentation=5), "annotation 12 has a segmentation"),
    (
        "words as outline",
        lambda d: d["annotations"][1].update(iscrowd=1, segmentation=[["x"] * 6]),
        "annotation 12 has a segm",
    ),
    ("ignore", lambda d: d["images"][1].update(ignore=5), "image 3 has an `ignore` that is no list of polygons"),
    ("large id", lambda d: d["annotations"][1].update(id=2**63), "has the id 9223372036854775808; a whole number"),
    ("large track", lambda d: [r.update(track_id=2**63) for r in d["annotations"]], "annotation 12 has the track_id"),
    ("picture's list", lambda d: d["annotations"][1].update(image_id=[7]), "annotation 12 has an image_id or a categ"),
    ("category's list", lambda d: d["annotations"][1].update(category_id={}), "annotation 12 has an image_id or a cat"),
    ("list as id", lambda d: d["images"][1].update(id=[3]), r"image \[3\] has a list or an object as id"),
    ("object as id", lambda d: d["categories"][0].update(id={}), "category {} has a list or an object as id"),
    ("width", lambda d: d["images"][1].update(width="a"), "image 3 has the width 'a'; a whole number is expected"),
    ("endless", lambda d: d["images"][1].update(height=float("inf")), "image 3 has the height inf; a whole number"),
    (
        "endless link",
        lambda d: d["categories"][0].update(skeleton=[[1, float("inf")]]),
        "cannot convert float infinity",
    ),
    ("endless upper", lambda d: d["categories"][0].update(upper=[float("inf")]), "cannot convert float infinity"),
    ("lists as names", lambda d: d["categories"][0].update(keypoints=[["a"]]), "there is no keypoint 2, they"),
    ("scalar 3D", lambda d: d["annotations"][1].update(keypoints_3d=5), "annotation 12 has the keypoints_3d 5; a list"),
    ("twice", lambda d: d["images"][1].update(id=7), "image ids repeat"),
    ("pairs", lambda d: d["categories"][0].update(flip_pairs=[[0, 0]]), "flip_pairs"),
    ("unknown name", lambda d: d["categories"][0].update(flip_pairs=[["snout", "tial"]]), "did you mean 'tail'"),
    ("sigmas", lambda d: d["categories"][0].update(sigmas=[0.1]), "1 sigmas for 4 keypoints"),
    (
        "no file",
        lambda d: [record.update(file_name=f"c{record['id']}.png") for record in d["images"]],
        r"c7.png is in none of .*nor are 1 others.*--set data.train.images=FOLDER",
    ),
    (
        "own columns",
        lambda d: (d["categories"][0].update(columns=["facing"]), d["annotations"][0].update(facing="left")),
        "annotation 11 has the facing 'left'; a number is expected",
    ),
    (
        "half a class",
        lambda d: (d["categories"][0].update(columns=["facing"]), d["annotations"][0].update(facing=1.5)),
        "annotation 11 has the facing 1.5; a whole number is expected",
    ),
]


@pytest.mark.parametrize(("note", "change", "message"), FAULTS, ids=[case[0] for case in FAULTS])
def test_bad_files_get_one_line(tmp_path: Path, note: str, change: Callable[[Document], object], message: str) -> None:
    content = document()
    change(content)
    with pytest.raises(PosecliError, match=message) as raised:
        coco_dataset(store(tmp_path, content))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "is empty"), ("{", "is not JSON"), ("[]", "is a list"), ("3", "no list `images`")],
)
def test_files_that_are_no_annotations(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(PosecliError, match=message):
        coco_dataset(store(tmp_path, content))


def test_a_missing_folder_of_pictures(tmp_path: Path) -> None:
    with pytest.raises(PosecliError, match="does not exist"):
        coco_dataset(store(tmp_path, document()), images=tmp_path / "nowhere")
    with pytest.raises(PosecliError, match="no annotation file"):
        coco_dataset(tmp_path / "nowhere.json")


def test_coco_sample_file(shared: Path) -> None:
    folder = shared / "data/format-samples/coco"
    dataset = CocoConfig(path=folder / "test_coco.json").build()
    assert (len(dataset), len(dataset.people), int(dataset.people.labelled.sum())) == (4, 14, 181)
    assert dataset.skeleton == house_skeleton("coco")
    truth = json.loads((folder / "test_coco.json").read_text())["annotations"]
    stored = {record["id"]: np.reshape(record["keypoints"], (17, 3)) for record in truth}
    for identity, points, flags in zip(
        dataset.people.extra["annotation_id"], dataset.people.keypoints, dataset.people.scores, strict=True
    ):
        expected = stored[int(identity)]
        assert flags.tolist() == expected[:, 2].tolist()
        assert points[flags > 0].tolist() == expected[flags > 0, :2].tolist()


# --- skeletons --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(house_skeletons()))
def test_skeletons_survive_a_category(name: str) -> None:
    skeleton = house_skeleton(name)
    assert from_fields("", to_fields(skeleton), name) == skeleton


@pytest.mark.parametrize("name", ["coco", "coco_wholebody", "coco_wholebody_face", "coco_wholebody_hand"])
def test_skeletons_are_the_reference_s(golden: Path, name: str) -> None:
    assert_same_skeleton(house_skeleton(name), golden, name)


def test_the_parts_are_cut_from_the_whole_body() -> None:
    whole = house_skeleton("coco_wholebody")
    assert whole.sigmas is not None
    start = 0
    for part in ("coco", *(f"coco_wholebody_{name}" for name in ("foot", "face", "left_hand", "right_hand"))):
        skeleton = house_skeleton(part)
        stop = start + len(skeleton)
        assert skeleton.names == whole.names[start:stop]
        assert skeleton.sigmas == whole.sigmas[start:stop]
        start = stop
    assert start == len(whole)


def test_coco_sigmas_are_those_of_pycocotools() -> None:
    from pycocotools.cocoeval import Params

    assert np.allclose(house_skeleton("coco").sigmas, Params("keypoints").kpt_oks_sigmas)


@pytest.mark.parametrize(
    ("pairs", "faults"),
    [([[0, 1], [2, 3]], 0), ([[0, 0]], 2), ([[0, 1, 2]], 1), ([[0, 4]], 1), ([[0, 1], [1, 2]], 1)],
)
def test_flip_faults(pairs: list[list[int]], faults: int) -> None:
    assert len(flip_faults(4, pairs)) == faults


# --- COCO-WholeBody ---------------------------------------------------------------------------------------------------

PARTS = [  # counted in the file: persons or valid parts, labelled keypoints
    ("wholebody", 133, 14, 701),
    ("body", 17, 14, 181),
    ("foot", 6, 10, 38),
    ("face", 68, 4, 272),
    ("left_hand", 21, 5, 105),
    ("right_hand", 21, 5, 105),
    ("hands", 21, 10, 210),
]


@pytest.mark.parametrize(("part", "joints", "people", "labelled"), PARTS)
def test_wholebody_parts(shared: Path, part: str, joints: int, people: int, labelled: int) -> None:
    dataset = wholebody_dataset(shared / "data/format-samples/coco/test_coco_wholebody.json", None, part)
    assert dataset.people.keypoints.shape == (people, joints, 2)
    assert int(dataset.people.labelled.sum()) == labelled
    identities = dataset.people.extra["annotation_id"]
    assert len(np.unique(identities)) == people
    boxes = dataset.people.boxes
    assert boxes is not None
    seen = dataset.people.labelled.any(axis=1)
    assert (boxes[seen, 2:] > boxes[seen, :2]).all()


def test_wholebody_parts_stand_where_they_belong(shared: Path) -> None:
    folder = shared / "data/format-samples/coco"
    whole = wholebody_dataset(folder / "test_coco_wholebody.json")
    face = wholebody_dataset(folder / "test_coco_wholebody.json", None, "face")
    rows = np.isin(whole.people.extra["annotation_id"], face.people.extra["annotation_id"])
    assert np.array_equal(whole.people.keypoints[rows, 23:91], face.people.keypoints, equal_nan=True)
    joined = wholebody_dataset(folder / "test_keypoint_partition_metric.json")  # all 133 in one field
    assert np.array_equal(whole.people.keypoints, joined.people.keypoints, equal_nan=True)


# --- LSP --------------------------------------------------------------------------------------------------------------


def lsp_folder(folder: Path, joints: np.ndarray, pictures: int, digits: int) -> Path:
    for number in range(1, pictures + 1):
        picture(folder / "images" / f"im{number:0{digits}d}.jpg", 40 + number)
    savemat(folder / "joints.mat", {"joints": joints})
    return folder


def test_lspet_zero_is_not_labelled_and_never_in_the_box(tmp_path: Path) -> None:
    joints = np.tile(np.arange(14.0)[:, None, None] + 5, (1, 3, 2))  # (14, 3, 2)
    joints[:, 2] = 1
    joints[0, :, 0] = (-500, 900, 0)
    dataset = lsp_dataset(lsp_folder(tmp_path, joints, 2, 5))
    people = dataset.people
    assert people.scores[0].tolist() == [0] + [2] * 13
    assert np.isnan(people.keypoints[0, 0]).all()
    assert people.boxes is not None
    assert people.boxes.tolist() == [[6, 6, 18, 18], [5, 5, 18, 18]]
    assert dataset.sizes.tolist() == [[41, 30], [42, 30]]
    assert list(dataset.ids) == [1, 2]
    assert "LSPET" in dataset.notes[0]


def test_lsp_one_is_occluded(tmp_path: Path) -> None:
    joints = np.tile(np.arange(14.0)[None, :, None], (3, 1, 3))  # (3, 14, 3)
    joints[2] = 0
    joints[2, 4, 1] = 1
    dataset = lsp_dataset(lsp_folder(tmp_path, joints, 2, 4))
    assert dataset.people.scores[1].tolist() == [2] * 4 + [1] + [2] * 9
    assert np.isfinite(dataset.people.keypoints).all()
    assert len(dataset) == 2
    assert any("1 annotated pictures are not in images/" in note for note in dataset.notes)


def test_lsp_errors(tmp_path: Path) -> None:
    with pytest.raises(PosecliError, match=r"no joints\.mat"):
        lsp_dataset(tmp_path)
    lsp_folder(tmp_path, np.zeros((3, 3)), 1, 5)
    with pytest.raises(PosecliError, match="has shape"):
        lsp_dataset(tmp_path)
    (tmp_path / "joints.mat").write_bytes(b"no matrix")
    with pytest.raises(PosecliError, match="not a MATLAB file"):
        lsp_dataset(tmp_path)


def test_lspet_sample(shared: Path) -> None:
    folder = shared / "data/lspet"
    train, rest = LspConfig(path=folder, first=3500).build(), LspConfig(path=folder, skip=3500).build()
    assert (len(train), len(rest)) == (3500, 499)
    assert train.ids[-1] + 1 == rest.ids[0] == 3501
    share = float(np.concatenate([train.people.labelled, rest.people.labelled]).mean())
    assert share == pytest.approx(0.88, abs=0.005), "12 % are not labelled, as the data's README says"
    assert train.skeleton.sigmas is None


# --- DeepLabCut -------------------------------------------------------------------------------------------------------

CONFIG = {
    "Task": "mice",
    "scorer": "Ann",
    "bodyparts": ["nose", "leftear", "rightear"],
    "skeleton": [["nose", "leftear"]],
}


def project(folder: Path, tables: dict[str, str], config: dict[str, Any] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config or CONFIG))
    for video, table in tables.items():
        picture(folder / "labeled-data" / video / "img0.png", 64, 48)
        picture(folder / "labeled-data" / video / "img1.png", 64, 48)
        (folder / "labeled-data" / video / "CollectedData_Ann.csv").write_text(table)
    return folder


HEAD = "scorer,Ann,Ann,Ann,Ann,Ann,Ann\nbodyparts,nose,nose,leftear,leftear,rightear,rightear\ncoords,x,y,x,y,x,y\n"
WIDE = (
    "scorer,,,Ann,Ann,Ann,Ann,Ann,Ann\nbodyparts,,,nose,nose,leftear,leftear,rightear,rightear\ncoords,,,x,y,x,y,x,y\n"
)
INDEX = [
    ("slashes", HEAD + "labeled-data/v/img0.png,1,2,3,4,5,6\nlabeled-data/v/img1.png,1,2,,,NaN,NaN\n"),
    ("backslashes", HEAD + "labeled-data\\v\\img0.png,1,2,3,4,5,6\nlabeled-data\\v\\img1.png,1,2,,,,\n"),
    ("three columns", WIDE + "labeled-data,v,img0.png,1,2,3,4,5,6\nlabeled-data,v,img1.png,1,2,,,,\n"),
]


@pytest.mark.parametrize(("note", "table"), INDEX, ids=[case[0] for case in INDEX])
def test_deeplabcut_index_styles(tmp_path: Path, note: str, table: str) -> None:
    dataset = deeplabcut_dataset(project(tmp_path / "p", {"v": table}))
    assert list(dataset.ids) == ["v/img0.png", "v/img1.png"]
    assert dataset.people.keypoints[0].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert dataset.people.scores.tolist() == [[2, 2, 2], [2, 0, 0]], "empty and NaN are not labelled"
    assert dataset.people.boxes is not None
    assert dataset.people.boxes.tolist() == [[0, 0, 64, 48]] * 2
    assert dataset.skeleton == Skeleton("mice", ("nose", "leftear", "rightear"), ((0, 1),), ((1, 2),))
    assert dataset[1].image == tmp_path / "p/labeled-data/v/img1.png"


def test_deeplabcut_several_videos_and_an_empty_frame(tmp_path: Path) -> None:
    rows = "labeled-data/{0}/img0.png,1,2,3,4,5,6\nlabeled-data/{0}/img1.png,,,,,,\n"
    dataset = deeplabcut_dataset(project(tmp_path / "p", {v: HEAD + rows.format(v) for v in ("w", "v")}), "keypoints")
    assert list(dataset.ids) == ["v/img0.png", "v/img1.png", "w/img0.png", "w/img1.png"]
    assert dataset.offsets.tolist() == [0, 1, 1, 2, 2]
    assert dataset.people.boxes is not None
    assert dataset.people.boxes.tolist() == [[1, 2, 5, 6]] * 2


def test_deeplabcut_several_animals(tmp_path: Path) -> None:
    table = (
        "scorer,Ann,Ann,Ann,Ann,Ann,Ann,Ann,Ann\nindividuals,one,one,one,one,two,two,two,two\n"
        "bodyparts,nose,nose,tail,tail,nose,nose,tail,tail\ncoords,x,y,x,y,x,y,x,y\n"
        "labeled-data/v/img0.png,1,2,3,4,5,6,7,8\nlabeled-data/v/img1.png,,,,,5,6,,\n"
    )
    config = {"Task": "two", "scorer": "Ann", "bodyparts": "MULTI!", "multianimalbodyparts": ["tail", "nose"]}
    dataset = deeplabcut_dataset(project(tmp_path / "p", {"v": table}, config))
    assert dataset.offsets.tolist() == [0, 2, 3]
    assert dataset.people.keypoints[1].tolist() == [[7, 8], [5, 6]], "in the config's order"
    assert dataset.people.boxes is not None
    assert dataset.people.boxes[0].tolist() == [1, 2, 3, 4], "several animals: tight boxes"


def test_deeplabcut_errors(tmp_path: Path) -> None:
    with pytest.raises(PosecliError, match=r"no config\.yaml"):
        deeplabcut_dataset(tmp_path)
    empty = project(tmp_path / "p", {})
    with pytest.raises(PosecliError, match="label frames"):
        deeplabcut_dataset(empty)
    with pytest.raises(PosecliError, match="no header lines"):
        deeplabcut_dataset(project(tmp_path / "q", {"v": "a,b\n1,2\n"}))
    with pytest.raises(PosecliError, match="line 4"):
        deeplabcut_dataset(project(tmp_path / "r", {"v": HEAD + "labeled-data/v/img0.png,one,2,3,4,5,6\n"}))


def test_deeplabcut_sample(shared: Path) -> None:
    dataset = DeepLabCutConfig(path=shared / "data/deeplabcut-openfield").build()
    assert (len(dataset), int(dataset.people.labelled.sum())) == (116, 464)
    assert dataset.people.keypoints[0, 0].tolist() == pytest.approx([21.521, 265.428])
    assert dataset.skeleton.flip_pairs == ((1, 2),)


# --- pictures, splits, --data -----------------------------------------------------------------------------------------


def test_sizes_are_those_of_the_picture_as_it_is_read(tmp_path: Path) -> None:
    from PIL import Image

    from posecli.images import read_image

    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(turned, exif=exif)
    height, width = read_image(turned).shape[:2]
    assert picture_size(turned) == (width, height) == (30, 40)
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    assert picture_size(tmp_path / "bad.jpg") is None
    assert picture_size(tmp_path / "missing.jpg") is None


def test_picture_paths_are_a_sequence() -> None:
    paths = PicturePaths(Path("folder"), ["a.jpg", "sub/b.jpg"])
    assert list(paths) == [Path("folder/a.jpg"), Path("folder/sub/b.jpg")]
    assert list(paths[1:]) == [Path("folder/sub/b.jpg")]
    assert len(PicturePaths(Path("folder"), [])) == 0


@pytest.mark.parametrize(
    ("count", "val", "held_out"),
    [(10, 0.2, 2), (10, 0.0, 0), (3, 0.01, 1), (3, 0.99, 2), (1, 0.2, 0), (116, 24, 24)],
)
@pytest.mark.parametrize("order", ["random", "order"])
def test_split(count: int, val: float, held_out: int, order: str) -> None:
    train, test = split_indices(count, val, 0, order)
    assert len(test) == held_out
    assert sorted([*train, *test]) == list(range(count))
    again = split_indices(count, val, 0, order)
    assert np.array_equal(test, again[1])
    if order == "order":
        assert test.tolist() == list(range(count - held_out, count))


def test_one_picture_is_not_divided(tmp_path: Path) -> None:
    content = document(annotations=[person(1, 3, [1, 1, 2] * 4)])
    content["images"] = content["images"][1:]
    with pytest.raises(PosecliError, match="one picture makes no train and val side"):
        CocoConfig(path=store(tmp_path, content), split=SplitConfig(side="val")).build()


def test_a_split_leaves_something_to_train_on() -> None:
    with pytest.raises(PosecliError, match="leave none"):
        split_indices(10, 10)


def test_cuts_of_a_config(tmp_path: Path) -> None:
    file = store(tmp_path, document())
    assert list(CocoConfig(path=file, first=1).build().ids) == [7]
    assert list(CocoConfig(path=file, skip=1).build().ids) == [3]
    sides = [CocoConfig(path=file, split=SplitConfig(side=side, val=0.5)).build().ids for side in ("train", "val")]
    assert sorted([*sides[0], *sides[1]]) == [3, 7]
    with pytest.raises(PosecliError, match="no picture of 2 is left"):
        CocoConfig(path=file, skip=2).build()


def test_detect(tmp_path: Path) -> None:
    file = store(tmp_path / "one", document())
    train, val, reason = detect_dataset(file, seed=3)
    assert train.split == SplitConfig(side="train", seed=3)
    assert val.split == SplitConfig(side="val", seed=3)
    assert "seed 3" in reason
    assert detect_dataset(file.parent)[0] == detect_dataset(file)[0]
    (file.parent / "train.json").write_text("{}")
    (file.parent / "val.json").write_text("{}")
    train, val, _ = detect_dataset(file.parent)
    assert (train.path.name, val.path.name, train.split) == ("train.json", "val.json", None)
    assert isinstance(detect_dataset(project(tmp_path / "p", {"v": HEAD}))[0], DeepLabCutConfig)
    assert isinstance(detect_dataset(lsp_folder(tmp_path / "l", np.zeros((14, 3, 1)), 1, 5))[0], LspConfig)
    with pytest.raises(PosecliError, match="no such file or folder"):
        detect_dataset(tmp_path / "nothing")
    (tmp_path / "people.npz").touch()
    with pytest.raises(PosecliError, match=r"not told by itself.*--set 'data.train={use: FORMAT, path: .*people.npz}'"):
        detect_dataset(tmp_path / "people.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PosecliError, match=r"no train\.json"):
        detect_dataset(tmp_path / "empty")


def test_detect_sample_files(shared: Path) -> None:
    folder = shared / "data/format-samples/coco"
    assert detect_dataset(folder / "test_coco.json")[0].name == "coco"
    assert detect_dataset(folder / "test_coco_wholebody.json")[0].name == "coco-wholebody"


def test_links_to_pictures_that_were_moved_are_told(tmp_path: Path) -> None:
    """As of a converted folder that was copied to another depth."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").symlink_to("../../gone/a.png")
    with pytest.raises(PosecliError, match=r"images/a\.png is a link to .*gone/a\.png, which is not there.*--copy"):
        find_pictures(tmp_path / "train.json", ["a.png"], None)
