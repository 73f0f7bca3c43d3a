"""data check: every rule on a file with that fault, and quiet on good data."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posecli.console import PosecliError
from posecli.datacheck import RULES, check
from posecli.datasets.coco_skeleton import to_fields
from posecli.skeleton import house_skeleton

Document = dict[str, Any]


def good(folder: Path) -> Document:
    """Three pictures with one person each; nothing to find."""
    generator = np.random.default_rng(0)
    for index in range(3):
        noise = generator.integers(0, 255, (40, 60, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{index}.jpg"), noise)
    keypoints = [value for point in range(17) for value in (10 + point, 5 + point, 2)]
    person = {"category_id": 1, "bbox": [5, 5, 30, 25], "area": 600, "iscrowd": 0, "num_keypoints": 17}
    return {
        "images": [{"id": index, "file_name": f"{index}.jpg", "width": 60, "height": 40} for index in range(3)],
        "annotations": [{"id": 10 + i, "image_id": i, "keypoints": list(keypoints), **person} for i in range(3)],
        "categories": [{"id": 1, "name": "person", **to_fields(house_skeleton("coco"))}],
    }


def renamed(document: Document, **fields: Any) -> None:
    """A skeleton the house does not know, with only `fields` beside its names."""
    names = [f"point {index}" for index in range(17)]
    document["categories"] = [{"id": 1, "name": "thing", "keypoints": names, **fields}]


def cut_in_half(folder: Path) -> None:
    file = folder / "1.jpg"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


INFINITE = float("inf")
CASES: list[tuple[str, int, Callable[[Document, Path], object]]] = [
    ("D101", 1, lambda d, f: (f / "2.jpg").unlink()),
    ("D101", 1, lambda d, f: (f / "0.jpg").unlink()),
    ("D102", 1, lambda d, f: cut_in_half(f)),
    ("D102", 1, lambda d, f: (f / "1.jpg").write_bytes(b"no picture")),
    ("D103", 1, lambda d, f: d["images"][1].update(width=40, height=60)),
    ("D103", 1, lambda d, f: d["images"][1].update(width="a")),
    ("D103", 1, lambda d, f: d["images"][1].update(height=[])),
    ("D103", 1, lambda d, f: d["images"][1].update(height=INFINITE)),
    ("D104", 1, lambda d, f: d["images"].append(d["images"][0] | {"file_name": "1.jpg"})),
    ("D105", 1, lambda d, f: d["images"].append({"id": 9})),
    ("D105", 1, lambda d, f: d["images"].append({"id": [9], "file_name": "2.jpg"})),
    ("D107", 1, lambda d, f: d["images"].append(d["images"][0] | {"id": 9})),
    ("D201", 1, lambda d, f: d["annotations"][1].update(id=10)),
    ("D202", 1, lambda d, f: d["annotations"][1].update(image_id=99)),
    ("D203", 1, lambda d, f: d["annotations"][1].update(category_id=2)),
    ("D203", 1, lambda d, f: d["annotations"][1].update(category_id=[1])),
    ("D203", 1, lambda d, f: d["annotations"][1].update(category_id={})),
    ("D204", 1, lambda d, f: d["annotations"][1].update(keypoints_3d=[1, 2, 3])),
    ("D204", 2, lambda d, f: [record["keypoints"].pop() for record in d["annotations"][:2]]),
    ("D205", 1, lambda d, f: d["annotations"][1].update(bbox=[1, 2, None, 4])),
    ("D205", 1, lambda d, f: d["annotations"][1]["keypoints"].__setitem__(0, float("nan"))),
    ("D205", 1, lambda d, f: d["annotations"][1].update(bbox=5)),
    ("D205", 1, lambda d, f: d["annotations"][1].update(keypoints=5)),
    ("D205", 1, lambda d, f: d["annotations"][1].update(keypoints={"nose": [1, 2, 2]})),
    ("D205", 1, lambda d, f: d["annotations"][1]["keypoints"].__setitem__(0, 10**400)),
    ("D205", 1, lambda d, f: d["annotations"][1].update(keypoints_3d=5)),
    ("D205", 1, lambda d, f: d["annotations"][1].update(keypoints_3d=[None, "a", 1] * 17)),
    ("D206", 1, lambda d, f: d["annotations"][1].update(bbox=[5, 5, 0, 25])),
    ("D207", 1, lambda d, f: d["annotations"][1].update(bbox=[61, 5, 10, 10])),
    ("D208", 1, lambda d, f: d["annotations"][1].update(bbox=[50, 5, 20, 10])),
    ("D209", 1, lambda d, f: d["annotations"][1]["keypoints"].__setitem__(0, 75)),
    ("D210", 1, lambda d, f: d["annotations"][1]["keypoints"].__setitem__(2, 0.4)),
    ("D211", 1, lambda d, f: d["annotations"][1].update(num_keypoints=3)),
    ("D212", 1, lambda d, f: d["annotations"].append({"keypoints": []})),
    ("D212", 1, lambda d, f: d["annotations"][1].update(id=2**63)),
    ("D212", 1, lambda d, f: d["annotations"].append(d["annotations"][1] | {"image_id": [1]})),
    ("D212", 1, lambda d, f: d["annotations"].append(d["annotations"][1] | {"id": {}})),
    ("D214", 1, lambda d, f: d["annotations"][1].update(num_keypoints=None)),
    ("D214", 1, lambda d, f: d["annotations"][1].update(area="x")),
    ("D214", 1, lambda d, f: d["annotations"][1].update(iscrowd=[])),
    ("D214", 1, lambda d, f: d["annotations"][1].update(segmentation=5)),
    ("D214", 1, lambda d, f: d["annotations"][1].update(segmentation=[["x"] * 6])),
    ("D214", 1, lambda d, f: d["annotations"][1].update(track_id=2**63)),
    ("D301", 1, lambda d, f: d["categories"][0].pop("keypoints")),
    ("D301", 1, lambda d, f: d["categories"][0].update(keypoints=17)),
    ("D302", 1, lambda d, f: d["categories"][0].update(flip_pairs=[[1, 2], [2, 3]])),
    ("D302", 1, lambda d, f: d["categories"][0].update(flip_pairs=[[1, 40]])),
    ("D302", 1, lambda d, f: d["categories"][0].update(flip_pairs=[["left_eye", "rigth_eye"]])),
    ("D302", 1, lambda d, f: d["categories"][0].update(flip_pairs=[[1, INFINITE]])),
    ("D303", 1, lambda d, f: renamed(d, sigmas=[0.1] * 17)),
    ("D304", 1, lambda d, f: renamed(d, flip_pairs=[[0, 1]])),
    ("D305", 1, lambda d, f: d["categories"][0].update(sigmas=[0.1] * 16 + [-1])),
    ("D305", 1, lambda d, f: d["categories"][0].update(sigmas=[0.1] * 5)),
    ("D306", 1, lambda d, f: d["categories"][0]["keypoints"].__setitem__(0, "left_eye")),
    ("D306", 1, lambda d, f: d["categories"][0].update(skeleton=[[1, 40]])),
    ("D306", 1, lambda d, f: d["categories"][0].update(skeleton=[[1, INFINITE]])),
    ("D306", 1, lambda d, f: d["categories"][0].update(upper=[INFINITE])),
    ("D307", 1, lambda d, f: d["categories"].append({"id": [], "name": "mouse"})),
    ("D401", 1, lambda d, f: d.update(annotations=[])),
    ("D402", 1, lambda d, f: d["annotations"].pop()),
]


def stored(folder: Path, document: Document) -> Path:
    file = folder / "ann.json"
    file.write_text(json.dumps(document))
    return file


def test_good_data_has_nothing_to_report(tmp_path: Path) -> None:
    (report,) = check(stored(tmp_path, good(tmp_path)))
    assert report.findings == {}
    assert (report.pictures, report.people, report.labelled) == (3, 3, 51)


@pytest.mark.parametrize(("rule", "count", "spoil"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_rules(tmp_path: Path, rule: str, count: int, spoil: Callable[[Document, Path], object]) -> None:
    document = good(tmp_path)
    spoil(document, tmp_path)
    (report,) = check(stored(tmp_path, document))
    assert rule in report.findings, [finding.line() for finding in report.findings.values()]
    finding = report.findings[rule]
    assert finding.count == count
    assert finding.examples
    assert (report.faults > 0) == any(RULES[found].level == "fault" for found in report.findings)
    others = {found for found in report.findings if RULES[found].level == "fault"} - {rule}
    assert not others, "one fault is told once"


WHOLE: list[tuple[str, str, Callable[[Document], object]]] = [
    ("a foot is not finite", "D205", lambda record: record["foot_kpts"].__setitem__(0, INFINITE)),
    ("a hand is no list", "D205", lambda record: record.update(lefthand_kpts=5)),
    ("a point of the face lacks", "D204", lambda record: record["face_kpts"].pop()),
    ("a hand lies outside", "D209", lambda record: record["righthand_kpts"].__setitem__(slice(0, 3), [9999, 1, 2])),
]


@pytest.mark.parametrize(("case", "rule", "spoil"), WHOLE, ids=[case[0] for case in WHOLE])
def test_all_parts_of_the_whole_body(
    shared: Path, tmp_path: Path, case: str, rule: str, spoil: Callable[[Document], object]
) -> None:
    folder = shared / "data/format-samples/coco"
    document = json.loads((folder / "test_coco_wholebody.json").read_text())
    (first, *_) = [record for record in document["annotations"] if record["righthand_valid"]]
    first.update(foot_valid=True, face_valid=True, lefthand_valid=True)
    spoil(first)
    (report,) = check(stored(tmp_path, document), folder, decode=False)
    assert {found for found in report.findings if RULES[found].level == "fault"} == {rule}
    assert report.findings[rule].examples[0].startswith(f"annotation {first['id']}")


def test_every_rule_has_a_case() -> None:
    assert set(RULES) == {case[0] for case in CASES} | {"D106", "D213"}  # D213: see test_interhand


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"flip_pairs": [[1, 40]]}, "person: there is no keypoint 40, they count from 0 to 16"),
        ({"flip_pairs": [[1, 2], [2, 3]]}, "person: keypoint 2 stands in more than one pair"),
        ({"skeleton": [[1, 40]]}, "skeleton: there is no keypoint 40, they count from 1 to 17"),
    ],
    ids=["a pair too high", "two pairs", "a link too high"],
)
def test_keypoints_are_told_in_the_numbers_of_the_file(tmp_path: Path, fields: dict[str, object], told: str) -> None:
    document = good(tmp_path)
    document["categories"][0].update(fields)
    (report,) = check(stored(tmp_path, document))
    assert any(told in example for finding in report.findings.values() for example in finding.examples)


def test_many_findings_are_counted_and_few_are_named(tmp_path: Path) -> None:
    document = good(tmp_path)
    first = document["annotations"][0]
    document["annotations"] += [first | {"id": 100 + index, "bbox": [1, 1, 0, 0]} for index in range(20)]
    (report,) = check(stored(tmp_path, document))
    line = report.findings["D206"].line()
    assert "20 (annotation 100, annotation 101, annotation 102, …)" in line


def test_a_picture_on_both_sides(tmp_path: Path) -> None:
    document = good(tmp_path)
    for side in ("train", "val"):
        (tmp_path / f"{side}.json").write_text(json.dumps(document))
    train, val = check(tmp_path)
    assert train.faults == 0
    assert val.findings["D106"].count == 3


def test_without_decoding_only_the_header_is_read(tmp_path: Path) -> None:
    document = good(tmp_path)
    cut_in_half(tmp_path)
    (report,) = check(stored(tmp_path, document), decode=False)
    assert report.faults == 0


def test_crowds_need_no_box_area(tmp_path: Path) -> None:
    document = good(tmp_path)
    document["annotations"][0] |= {"iscrowd": 1, "keypoints": [0] * 51, "num_keypoints": 0, "bbox": [1, 1, 0, 0]}
    (report,) = check(stored(tmp_path, document))
    assert report.findings == {}


@pytest.mark.parametrize(("content", "message"), [("", "is empty"), ("{]", "not JSON"), ("{}", "no list `images`")])
def test_what_cannot_be_checked(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "ann.json").write_text(content)
    with pytest.raises(PosecliError, match=message):
        check(tmp_path / "ann.json")


def posecli(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "posecli", "data", "check", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_command(tmp_path: Path) -> None:
    document = good(tmp_path)
    done = posecli(stored(tmp_path, document))
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 pictures, 3 people, 51 labelled keypoints" in done.stdout
    document["annotations"][1]["bbox"] = [5, 5, 0, 0]
    done = posecli(stored(tmp_path, document))
    assert done.returncode == 1
    assert "D206 fault  box of a labelled person has no area: 1 (annotation 11)" in done.stdout
    done = posecli(tmp_path / "ann.json", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["ok"] is False
    assert told["checked"][0]["findings"][0]["rule"] == "D206"
    done = posecli(tmp_path / "nothing")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_project_is_named_as_it_was_given(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mouse").symlink_to((shared / "data/deeplabcut-openfield").resolve())
    for given in (Path("mouse"), tmp_path / "mouse"):
        assert [report.file for report in check(given, decode=False)] == [str(given)]


def test_sample_data(shared: Path) -> None:
    (coco,) = check(shared / "data/format-samples/coco/test_coco.json")
    assert coco.findings == {}
    (whole,) = check(shared / "data/format-samples/coco/test_coco_wholebody.json")
    assert (whole.faults, whole.labelled) == (0, 701)
    (mouse,) = check(shared / "data/deeplabcut-openfield", decode=False)
    assert (mouse.pictures, set(mouse.findings)) == (116, {"D304"})
    (lspet,) = check(shared / "data/lspet", decode=False)
    assert {rule: finding.count for rule, finding in lspet.findings.items()} == {"D208": 1, "D209": 1, "D304": 1}
