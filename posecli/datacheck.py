"""Faults in labelled data, by rule: what is wrong, how often, where first.

Works on raw COCO keypoint JSON, so that a file too broken to be read is reported all the same; every other format is
turned into the same records first.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from posecli import console
from posecli.console import PosecliError
from posecli.conversion import picture_names
from posecli.datasets.coco import collection_paused, outlines, parse_json
from posecli.datasets.coco_columns import can_read
from posecli.datasets.coco_motion import NUMBERS
from posecli.datasets.coco_skeleton import find_sidecar, from_fields, read_skeleton, to_fields
from posecli.datasets.coco_writer import annotation_records, category_records, image_records
from posecli.datasets.config import CocoWholeBodyConfig, InterHandConfig, KnownKeypointsConfig
from posecli.datasets.detect import coco_like, detect_dataset
from posecli.datasets.interhand import Faults, assemble, find_data, read_files
from posecli.datasets.interhand import check as check_files
from posecli.datasets.known_sets import all_categories
from posecli.datasets.pictures import find_pictures, picture_size
from posecli.datasets.published_crowds import is_published
from posecli.datasets.regions import Regions
from posecli.datasets.wholebody import join_parts
from posecli.skeleton import house_skeleton
from posecli.types import BoolArray, Dataset, FloatArray

Record = dict[str, Any]
Level = Literal["fault", "note"]
TOLERANCE = 1.0  # pixels by which rounding may push a point or a box over the edge
EXAMPLES = 3
COUNTED = ("area", "iscrowd", "num_keypoints")  # what COCO's evaluation reads of an annotation beside its geometry


@dataclass(frozen=True)
class Rule:
    """A fault makes the check fail; a note is worth knowing."""

    level: Level
    title: str
    consequence: str


RULES: dict[str, Rule] = {
    "D101": Rule("fault", "picture is missing", "it is skipped in training"),
    "D102": Rule("fault", "picture cannot be decoded", "it is skipped in training"),
    "D103": Rule("fault", "picture has another size than stated", "boxes and keypoints may be of another picture"),
    "D104": Rule("fault", "image id repeats", "people cannot be told apart by picture; the file is refused"),
    "D105": Rule("fault", "image record without a usable id or file_name", "the file is refused"),
    "D106": Rule("fault", "picture is both in train and val", "the score is too good"),
    "D107": Rule("note", "two image records name one file", "the picture counts twice"),
    "D201": Rule("fault", "annotation id repeats", "COCO's evaluation mixes people up"),
    "D202": Rule("fault", "annotation of a picture that is not listed", "it is left out"),
    "D203": Rule("fault", "annotation of a category that is not listed", "it is left out"),
    "D204": Rule("fault", "wrong number of keypoints", "the file is refused"),
    "D205": Rule("fault", "keypoint or box is not made of finite numbers", "it is unknown, or the file is refused"),
    "D206": Rule("fault", "box of a labelled person has no area", "there is nothing to crop"),
    "D207": Rule("fault", "box lies outside the picture", "there is nothing to see in the crop"),
    "D208": Rule("note", "box sticks out of the picture", "the crop reaches over the edge"),
    "D209": Rule("fault", "labelled keypoint lies outside the picture", "the network learns to guess"),
    "D210": Rule("note", "visibility is not 0, 1 or 2", "whatever is above 0 counts as labelled"),
    "D211": Rule("note", "num_keypoints is not the number of labelled keypoints", "COCO's evaluation uses it"),
    "D212": Rule("fault", "annotation record without a usable id or image_id", "the file is refused"),
    "D213": Rule("fault", "annotation or picture that InterHand2.6M's reader cannot use", "it is left out"),
    "D214": Rule("fault", "number or outline of another kind", "it is replaced, or the file is refused"),
    "D301": Rule("fault", "no category lists keypoints", "the file is refused"),
    "D302": Rule("fault", "bad flip pairs", "mirrored pictures would get wrong labels; the file is refused"),
    "D303": Rule("note", "flip pairs are unknown", "no picture is mirrored; give flip_pairs in the category"),
    "D304": Rule("note", "no sigmas", "AP is refused; give sigmas in the category or in a skeleton.yaml"),
    "D305": Rule("fault", "sigmas that are not one positive number a keypoint", "AP would be wrong"),
    "D306": Rule("fault", "skeleton that cannot be read", "the file is refused"),
    "D307": Rule("fault", "category record without a usable id", "the file is refused"),
    "D401": Rule("fault", "nobody has a labelled keypoint", "there is nothing to learn"),
    "D402": Rule("note", "picture without people", "top-down training does not use it"),
}


@dataclass
class Finding:
    """One rule in one file: how often, and the first places."""

    rule: str
    file: str
    count: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def level(self) -> Level:
        return RULES[self.rule].level

    def line(self) -> str:
        """`D206 fault  box of a labelled person has no area: 2 (annotation 3, annotation 9); there is nothing …`"""
        rule = RULES[self.rule]
        more = ", …" if self.count > len(self.examples) else ""
        where = f" ({', '.join(self.examples)}{more})" if self.examples else ""
        return f"{self.rule} {rule.level:5}  {rule.title}: {self.count}{where}; {rule.consequence}"

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        rule = RULES[self.rule]
        return {
            "rule": self.rule,
            "level": rule.level,
            "file": self.file,
            "title": rule.title,
            "consequence": rule.consequence,
            "count": self.count,
            "examples": self.examples,
        }


@dataclass
class Checked:
    """One annotation file or dataset: how much it holds, and what was found."""

    file: str
    pictures: int = 0
    people: int = 0
    labelled: int = 0
    findings: dict[str, Finding] = field(default_factory=dict)
    paths: set[Path] = field(default_factory=set, repr=False)

    def add(self, rule: str, places: Iterable[object]) -> None:
        """Count every place under `rule`."""
        for place in places:
            finding = self.findings.setdefault(rule, Finding(rule, self.file))
            finding.count += 1
            if len(finding.examples) < EXAMPLES:
                finding.examples.append(str(place))

    @property
    def faults(self) -> int:
        """How many places are faulty, notes left out."""
        return sum(finding.count for finding in self.findings.values() if finding.level == "fault")

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        found = [finding.to_dict() for _, finding in sorted(self.findings.items())]
        counts = {"pictures": self.pictures, "people": self.people, "labelled_keypoints": self.labelled}
        return {"file": self.file, **counts, "faults": self.faults, "findings": found}


def check(path: Path, images: Path | None = None, decode: bool = True) -> list[Checked]:
    """Everything found at `path`: an annotation file, a folder with annotation files, a project of another format.

    `images`: the folder of the pictures, looked for beside the file by default; `decode`: read every picture whole,
    not only its header. Raises PosecliError when there is nothing that could be checked.
    """
    path = path.expanduser()
    files = [path] if path.is_file() and path.suffix.lower() == ".json" else _annotation_files(path)
    checked = [_check_file(file, images, decode) for file in files] or _check_dataset(path, decode)
    for first, second in itertools.combinations(checked, 2):
        if {"train", "val"} == {Path(first.file).stem, Path(second.file).stem}:
            second.add("D106", sorted(str(shared) for shared in first.paths & second.paths))
    return checked


def _check_file(file: Path, images: Path | None, decode: bool) -> Checked:
    """An annotation file as it stands; datasets of known keypoints are held to those, not to what the file says."""
    config = coco_like(file)
    if isinstance(config, InterHandConfig):
        return _check_interhand(str(file), config.model_copy(update={"images": images}), decode)
    document = parse_json(file)
    if isinstance(config, KnownKeypointsConfig) and is_published(document):
        return _check_read(str(file), config.model_copy(update={"images": images}).build(), decode)
    categories, annotations = (_table(document, key) for key in ("categories", "annotations"))
    if isinstance(config, KnownKeypointsConfig) and isinstance(categories, list) and isinstance(annotations, list):
        if config.any_category:
            categories = all_categories(categories, [record for record in annotations if isinstance(record, dict)])
        document["categories"] = [_described(record, config.skeleton) for record in categories]
    if isinstance(config, CocoWholeBodyConfig) and isinstance(categories, list) and isinstance(annotations, list):
        document["categories"] = [
            _described(record, "coco_wholebody") if _table(record, "keypoints") else record for record in categories
        ]
        document["annotations"] = [_joined(record) for record in annotations]
    return check_document(str(file), file, document, images, decode)


def _described(record: Any, skeleton: str) -> Any:
    """A category with the keypoints of a house skeleton."""
    return {**record, **to_fields(house_skeleton(skeleton))} if isinstance(record, dict) else record


def _joined(record: Any) -> Any:
    """An annotation of COCO-WholeBody with all parts in `keypoints`, without the count of those of the body alone.

    Where a part is no list, neither are the keypoints.
    """
    if not isinstance(record, dict):
        return record
    rest = {key: value for key, value in record.items() if key != "num_keypoints"}
    try:
        return {**rest, "keypoints": join_parts(record)}
    except TypeError:
        return {**rest, "keypoints": math.nan}


def _annotation_files(folder: Path) -> list[Path]:
    """The annotation files of a folder, and of annotations/ in it; detections and results are passed over."""
    if not folder.is_dir():
        return []
    files = sorted(folder.glob("*.json")) or sorted(folder.glob("annotations/*.json"))
    return [file for file in files if len(files) == 1 or isinstance(_table(parse_json(file), "images"), list)]


def _check_dataset(path: Path, decode: bool) -> list[Checked]:
    """Another format: its sides are read as datasets, then checked as the COCO records they would be written as."""
    sides = [config.model_copy(update={"split": None}) for config in detect_dataset(path)[:2]]
    if sides[0] == sides[1]:  # one that is split by drawing
        sides = sides[:1]
    return [
        _check_interhand(f"{_as_given(side.path, path)} {side.part or ''}".strip(), side, decode)
        if isinstance(side, InterHandConfig)
        else _check_read(_as_given(side.path, path), side.build(), decode)
        for side in sides
    ]


def _as_given(found: Path, path: Path) -> str:
    """A place that was found at `path`, named relative to here where that is how `path` was."""
    whole = path.absolute()
    return str(path / found.relative_to(whole)) if found.is_relative_to(whole) else str(found)


@collection_paused()
def _check_interhand(name: str, config: InterHandConfig, decode: bool) -> Checked:
    """InterHand2.6M's three files: what reading leaves out, and the rest of it by the other rules."""
    files = read_files(find_data(config.path, config.part, config.subset))
    faults = Faults()
    usable = check_files(files, faults)
    if usable.annotations:
        report = _check_read(name, assemble(files, usable, config.images), decode)
    else:
        report = Checked(name, len(files.images), len(files.annotations))
    for (reason, kind), found in faults.found.items():
        report.add("D213", (f"{kind} {which}: {reason}" for which in found))
    return report


def _check_read(name: str, dataset: Dataset, decode: bool) -> Checked:
    report = check_document(name, None, to_document(dataset), _common_folder(dataset), decode)
    if decode:
        _check_sources(report, dataset)
    return report


def _check_sources(report: Checked, dataset: Dataset) -> None:
    """Pictures that are no files of their own: each can be read, and has the size that the dataset says."""
    from posecli.images import UnreadableImage, read_image

    for identity, image, stated in zip(dataset.ids, dataset.images, dataset.sizes.tolist(), strict=True):
        if not callable(image):
            continue
        try:
            height, width = read_image(image).shape[:2]
        except UnreadableImage as error:
            report.add("D102", [error])
            continue
        if [width, height] != stated:
            report.add("D103", [f"picture {identity} is {width}×{height}, stated {stated[0]}×{stated[1]}"])


def to_document(dataset: Dataset) -> dict[str, list[Record]]:
    """The COCO tables of a dataset, as the writer writes them."""
    return {
        "images": list(image_records(dataset, picture_names(dataset.images))),
        "annotations": list(annotation_records(dataset)),
        "categories": list(category_records(dataset)),
    }


def _common_folder(dataset: Dataset) -> Path | None:
    """The folder that `picture_names` are relative to; None for pictures that are no files of their own."""
    first, name = dataset.images[0], picture_names(dataset.images)[0]
    if not isinstance(first, Path):
        return None
    return first.absolute().parents[len(Path(name).parts) - 1]


def check_document(name: str, file: Path | None, document: Any, images: Path | None, decode: bool) -> Checked:
    """Apply every rule to the tables of one COCO keypoint file. `images`: where the pictures lie, if known."""
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(_table(document, key), list)]
    if missing:
        raise PosecliError(f"{name} has no list `{missing[0]}`: COCO keypoint JSON has images, annotations, categories")
    report = Checked(name, len(document["images"]), len(document["annotations"]))
    pictures = _check_images(report, document["images"])
    _check_files(report, _picture_paths(file, pictures, images), decode)
    joints = _check_categories(report, file, document["categories"])
    _check_annotations(report, document["annotations"], pictures, joints)
    return report


def _table(document: Any, key: str) -> Any:
    return document.get(key) if isinstance(document, Mapping) else None


# --- pictures ---------------------------------------------------------------------------------------------------------


def _check_images(report: Checked, records: Sequence[Any]) -> list[Record]:
    """The image records that can be used; ids and file names are checked."""
    good = [record for record in records if isinstance(record, dict) and _has(record, "id") and _is_shown(record)]
    known = {id(record) for record in good}
    report.add("D105", (f"entry {place} of images" for place, record in enumerate(records) if id(record) not in known))
    report.add("D104", (f"image {identity}" for identity in _repeated(record["id"] for record in good)))
    report.add("D107", _repeated(str(record["file_name"]) for record in good if record.get("file_name")))
    return good


def _is_shown(record: Record) -> bool:
    """Whether there is a file, or a camera for motion that nobody filmed."""
    return _has(record, "file_name") or (_has(record, "camera_id") and not record.get("file_name"))


def _has(record: Mapping[str, Any], *keys: str) -> bool:
    """Whether all of these are text or whole numbers of at most 64 bits, as ids are."""
    return all(isinstance(record.get(key), int | str) and record[key] != "" and _fits(record[key]) for key in keys)


def _fits(value: Any) -> bool:
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def _repeated(values: Iterable[Hashable]) -> list[Hashable]:
    return [value for value, count in Counter(values).items() if count > 1]


def _picture_paths(file: Path | None, records: Sequence[Record], images: Path | None) -> list[tuple[Path, Record]]:
    records = [record for record in records if record.get("file_name")]
    if not records or (file is None and images is None):
        return []
    if file is not None:
        try:
            images = find_pictures(file, [str(record["file_name"]) for record in records], images)
        except PosecliError:
            if images is not None:
                raise
            images = file.parent  # they are all missing
    assert images is not None
    return [(images / str(record["file_name"]), record) for record in records]


def _check_files(report: Checked, pictures: Sequence[tuple[Path, Record]], decode: bool) -> None:
    """Each picture there, of the stated size, and whole; files are read by a few threads."""
    report.paths = {path.resolve() for path, _ in pictures}
    with ThreadPoolExecutor() as threads, console.progress(len(pictures), "pictures") as bar:
        looked = threads.map(lambda entry: _look(entry[0], entry[1], decode), pictures)
        for (path, _), (rule, message) in zip(pictures, looked, strict=True):
            bar.update(1)
            if rule:
                report.add(rule, [f"{path.name}{message}"])


def _look(path: Path, record: Record, decode: bool) -> tuple[str, str]:
    """The rule a picture breaks, or "", and what to say behind its name."""
    from posecli.images import UnreadableImage, read_image

    if not path.is_file():
        return "D101", ""
    size = picture_size(path)
    stated = (record.get("width"), record.get("height"))
    if size is not None and None not in stated and 0 not in stated and size != stated:
        return "D103", f" is {size[0]}×{size[1]}, stated {stated[0]}×{stated[1]}"
    try:
        if decode:
            read_image(path, 8 if path.suffix.lower() in (".jpg", ".jpeg") else 1)
        elif size is None:
            return "D102", ""
    except UnreadableImage as error:
        return "D102", str(error).removeprefix(str(path))
    return "", ""


# --- the skeleton -----------------------------------------------------------------------------------------------------


def _check_categories(report: Checked, file: Path | None, records: Sequence[Any]) -> dict[Any, int]:
    """The number of keypoints by category id, for every category there is (0 where it has none)."""
    known = [record for record in records if isinstance(record, dict) and _has(record, "id")]
    usable = {id(record) for record in known}
    report.add("D307", (f"entry {place} of categories" for place, r in enumerate(records) if id(r) not in usable))
    able = [record for record in known if isinstance(record.get("keypoints"), list) and record["keypoints"]]
    if not able and len(known) == len(records):  # else the reason is told
        report.add("D301", [f"{len(records)} categories"])
    for record in able:
        _check_skeleton(report, file, record)
    return {record["id"]: 0 for record in known} | {record["id"]: len(record["keypoints"]) for record in able}


def _check_skeleton(report: Checked, file: Path | None, record: Record) -> None:
    label = f"category {record.get('name', record['id'])}"
    names = [str(name) for name in record["keypoints"]]
    sidecar = find_sidecar(file) if file is not None else None
    repeats = len(set(names)) < len(names)  # which D306 tells
    faults = [] if repeats else _pair_faults(names, record.get("flip_pairs") or ())
    report.add("D302", (f"{label}: {fault}" for fault in faults))
    sigmas = record.get("sigmas")
    wrong = sigmas is not None and not _positive(sigmas, len(names))
    if wrong:
        report.add("D305", [f"{label}: {len(sigmas) if isinstance(sigmas, list) else sigmas!r} for {len(names)}"])
    usable = {key: value for key, value in record.items() if not (key == "flip_pairs" and faults)}
    usable = {key: value for key, value in usable.items() if not (key == "sigmas" and wrong)}
    try:
        skeleton, _ = read_skeleton(file if file is not None else Path("-"), usable)
    except PosecliError as error:
        report.add("D306", [f"{label}: {error}"])
        return
    if skeleton.flip_pairs is None and not faults:
        report.add("D303", [label])
    if skeleton.sigmas is None and not wrong:
        report.add("D304", [label if sidecar is None else f"{label}, {sidecar.name}"])


def _pair_faults(names: Sequence[str], pairs: Any) -> list[str]:
    try:
        from_fields("", {"keypoints": names, "flip_pairs": pairs}, "")
    except PosecliError as error:
        return [str(error).removeprefix(": ").removeprefix("flip_pairs: ")]
    return []


def _positive(values: Any, count: int) -> bool:
    return isinstance(values, list) and len(values) == count and all(_finite(value) and value > 0 for value in values)


# --- people -----------------------------------------------------------------------------------------------------------


def _check_annotations(
    report: Checked, records: Sequence[Any], pictures: Sequence[Record], joints: Mapping[Any, int]
) -> None:
    sizes = {record["id"]: _stated_size(record) for record in pictures}
    usable = list(_usable(report, records, sizes, joints))
    report.add("D201", (f"annotation {identity}" for identity in _repeated(record["id"] for record in usable)))
    people = [record for record in usable if joints.get(record.get("category_id", 1))]
    for count in sorted(set(joints.values()) - {0}):
        _check_people(report, [record for record in people if joints[record.get("category_id", 1)] == count], sizes)
    if not report.labelled and any(joints.values()) and len(usable) == len(records):  # else the reason is told
        report.add("D401", [f"{len(people)} annotations"])
    populated = {record["image_id"] for record in records if isinstance(record, dict) and _has(record, "image_id")}
    report.add("D402", (f"image {record['id']}" for record in pictures if record["id"] not in populated))


def _stated_size(record: Record) -> tuple[float, float]:
    """Width and height of a picture, 0 where they are no numbers: then it is not of the size stated, which is told."""
    width, height = record.get("width"), record.get("height")
    return (width or 0, height or 0) if _finite(width) and _finite(height) else (0, 0)


def _usable(
    report: Checked, records: Sequence[Any], sizes: Mapping[Any, Any], joints: Mapping[Any, int]
) -> Iterator[Record]:
    """Annotations whose numbers can be looked at; those that cannot are reported."""
    for place, record in enumerate(records):
        fault = _record_fault(record, sizes, joints)
        if fault is None:
            yield record
            continue
        rule, message = fault
        known = isinstance(record, dict) and _has(record, "id")
        report.add(rule, [(f"annotation {record['id']}" if known else f"entry {place} of annotations") + message])


def _record_fault(record: Any, sizes: Mapping[Any, Any], joints: Mapping[Any, int]) -> tuple[str, str] | None:
    if not isinstance(record, dict) or not _has(record, "id", "image_id"):
        return "D212", ""
    if record["image_id"] not in sizes:
        return "D202", f" of image {record['image_id']}"
    category = record.get("category_id", 1)
    if isinstance(category, list | dict) or category not in joints:
        return "D203", f" of category {category}"
    keypoints, box, points = (record.get(key) or [] for key in ("keypoints", "bbox", "keypoints_3d"))
    if not all(isinstance(values, list) for values in (keypoints, box, points)):
        return "D205", ""
    for values in (keypoints, points):
        if joints[category] and len(values) not in (0, 3 * joints[category]):
            return "D204", f" has {len(values) / 3:g}, expected {joints[category]}"
    known = (value for value in points if value is not None)
    if len(box) not in (0, 4) or not all(map(_finite, itertools.chain(keypoints, box, known))):
        return "D205", ""
    wrong = next((key for key in COUNTED if key in record and not _finite(record[key])), None)
    wrong = wrong or next((key for key in NUMBERS if not _fits(record.get(key))), None)
    if wrong is None and record.get("segmentation") and not can_read(lambda seen: Regions({0: outlines(seen)}), record):
        return "D214", ": segmentation is neither polygons nor run lengths"
    return None if wrong is None else ("D214", f": {wrong} {record[wrong]!r:.40}")


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def _check_people(report: Checked, records: Sequence[Record], sizes: Mapping[Any, tuple[float, float]]) -> None:
    """Boxes and keypoints of annotations that all have equally many keypoints, in columns."""
    full = [record for record in records if record.get("keypoints")]
    if not full:
        return
    triples = np.array([record["keypoints"] for record in full], dtype=np.float64).reshape(len(full), -1, 3)
    frames = np.array([sizes[record["image_id"]] for record in full], dtype=np.float64)  # (N, 2)
    labelled = triples[..., 2] > 0
    report.labelled += int(labelled.sum())

    def flag(rule: str, mask: Any, say: Callable[[int], str] = lambda row: "") -> None:
        rows = np.flatnonzero(mask).tolist()
        report.add(rule, (f"annotation {full[row]['id']}{say(row)}" for row in rows))

    flag("D210", (~np.isin(triples[..., 2], (0, 1, 2))).any(axis=1))
    stated = np.array([record.get("num_keypoints", -1) for record in full], dtype=np.float64)
    flag("D211", (stated >= 0) & (stated != labelled.sum(axis=1)))
    outside = labelled & _outside(triples[..., :2], frames[:, None])
    flag("D209", outside.any(axis=1), lambda row: f": {int(outside[row].sum())} of {int(labelled[row].sum())}")
    blank = (math.nan,) * 4
    boxes = np.array([record.get("bbox") or blank for record in full], dtype=np.float64)
    flat = (boxes[:, 2:] <= 0).any(axis=1)
    flag("D206", flat & labelled.any(axis=1))
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    known = (frames > 0).all(axis=1) & ~flat
    beyond = known & ((low >= frames) | (high <= 0)).any(axis=1)
    flag("D207", beyond)
    sticking = ((low < -TOLERANCE) | (high > frames + TOLERANCE)).any(axis=1)
    flag("D208", known & sticking & ~beyond)


def _outside(points: FloatArray, frames: FloatArray) -> BoolArray:
    """Which points (…, 2) lie beyond the edge of their frame by more than the tolerance; unknown frames have none."""
    over = (points < -TOLERANCE) | (points > frames - 1 + TOLERANCE)
    return np.asarray(over.any(axis=-1) & (frames > 0).all(axis=-1))
