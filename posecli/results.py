"""Predictions on disk: JSON Lines that read back exactly, COCO results JSON, long CSV. All are written as they come."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np

from posecli.console import PosecliError
from posecli.files import atomic_path
from posecli.skeleton import Skeleton
from posecli.types import IN_PICTURE, Array, FloatArray, People, Prediction, SampleId

SCHEMA = "posecli.results/1"
PLAIN = ("track_id", "row")  # extra arrays that stand as keys of their own; others stand under "extra"
LEFT_OUT = ("vertices",)  # thousands of numbers a person that others say: meshes are written as files of their own
IN_CAMERA = "in_camera"  # (N,) of 3D people: False where keypoints are image pixels and a depth in millimetres
DECIMALS = (12, 10, 8, 6, 5, 4, 3, 2, 1, 0)


@dataclass(frozen=True)
class ResultsHeader:
    """Who made a results file, of what."""

    skeleton: Skeleton
    model: str = ""
    checkpoint: str = ""  # SHA-256 of the weights
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)  # names, by the columns of their probabilities


@dataclass(frozen=True)
class Line:
    """One prediction of a results file, and what it says about the picture that it was made on."""

    prediction: Prediction
    image: str | None = None  # its path
    size: tuple[int, int] | None = None  # width, height
    rate: float | None = None  # frames a second of the film that it is a frame of


class Write(Protocol):
    """Takes one line after the other."""

    def __call__(self, line: Line) -> None: ...


# --- JSON Lines ------------------------------------------------------------------------------------------------------


@contextmanager
def results_writer(path: Path, header: ResultsHeader) -> Iterator[Write]:
    """A function that appends predictions to a results file, which takes its place when the block ends well."""
    with _text(path) as stream:
        stream.write(_dump(_encode_header(header)))

        def write(line: Line) -> None:
            fields: dict[str, Any] = {"id": line.prediction.id}
            if line.image is not None:
                fields["image"] = line.image
            if line.size is not None:
                fields["size"] = [int(side) for side in line.size]
            if line.rate is not None:
                fields["rate"] = line.rate
            fields["people"] = encode_people(line.prediction.people)
            stream.write(_dump(fields))

        yield write


def write_results(path: Path, predictions: Iterable[Prediction], header: ResultsHeader) -> None:
    """Write a results file, whole or not at all."""
    with results_writer(path, header) as write:
        for prediction in predictions:
            write(Line(prediction))


def read_results(path: Path) -> tuple[ResultsHeader, dict[SampleId, People]]:
    """The header and all predicted people by sample id. Raises PosecliError naming the line that is wrong."""
    header = read_header(path)
    people: dict[SampleId, People] = {}
    for number, line in _results(path, header.skeleton):
        prediction = line.prediction
        if prediction.id in people:
            raise PosecliError(f"{path}, line {number}: sample {prediction.id!r} comes a second time")
        people[prediction.id] = prediction.people
    return header, people


def iterate_results(path: Path) -> Iterator[Prediction]:
    """The predictions of a results file one after the other. Raises PosecliError naming the line that is wrong."""
    for line in iterate_lines(path):
        yield line.prediction


def iterate_lines(path: Path) -> Iterator[Line]:
    """The same, with what the file says about the pictures."""
    for _, line in _results(path, read_header(path).skeleton):
        yield line


def read_header(path: Path) -> ResultsHeader:
    """The first line of a results file. Raises PosecliError when it is not one."""
    _, fields = next(_lines(path), (1, None))
    schema = fields.get("schema") if isinstance(fields, dict) else None
    if not isinstance(fields, dict) or not isinstance(schema, str) or not schema.startswith("posecli.results/"):
        raise _no_results(path)
    if schema != SCHEMA:
        raise PosecliError(f"{path}: schema {schema} is not known to this posecli, which reads {SCHEMA}")
    try:
        return ResultsHeader(
            Skeleton.from_dict(fields["skeleton"]),
            str(fields.get("model", "")),
            str(fields.get("checkpoint", "")),
            str(fields.get("command", "")),
            {str(name): str(version) for name, version in dict(fields.get("versions", {})).items()},
            {str(column): tuple(map(str, names)) for column, names in dict(fields.get("classes", {})).items()},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PosecliError(f"{path}, line 1: the header is damaged: {error!r}") from error


def encode_people(people: People) -> list[dict[str, Any]]:
    """Plain JSON values, one dict a person; float32 values read back exactly, NaN stands as null."""
    points = _plain(np.concatenate([people.keypoints, people.scores[..., None]], axis=2))  # (N, K, D + 1)
    boxes = None if people.boxes is None else _plain(people.boxes)
    scores = None if people.instance_scores is None else _plain(people.instance_scores)
    extra = {name: _plain(values) for name, values in people.extra.items() if name not in LEFT_OUT}
    rows = []
    for index in range(len(people)):
        row: dict[str, Any] = {"keypoints": points[index]}
        if boxes is not None:
            row["box"] = boxes[index]
        if scores is not None:
            row["score"] = scores[index]
        row |= {name: extra[name][index] for name in PLAIN if name in extra}
        others = {name: values[index] for name, values in extra.items() if name not in PLAIN}
        rows.append(row | {"extra": others} if others else row)
    return rows


def decode_people(rows: Sequence[Mapping[str, Any]], joints: int) -> People:
    """The inverse of `encode_people`. Raises ValueError or KeyError for anything else."""
    if not rows:
        return People.empty(joints)
    points = _points([row["keypoints"] for row in rows], joints)
    extra = {name: _column([row[name] for row in rows]) for name in PLAIN if name in rows[0]}
    for name in rows[0].get("extra", {}):
        extra[name] = _column([row["extra"][name] for row in rows])
    return People(
        points[..., :-1],
        points[..., -1],
        _floats([row["box"] for row in rows]) if "box" in rows[0] else None,
        _floats([row["score"] for row in rows]) if "score" in rows[0] else None,
        extra,
    )


def _points(rows: Sequence[Any], joints: int) -> FloatArray:
    """Keypoints and scores (N, joints, 3 or 4). Raises ValueError for anything else."""
    try:
        points = _floats(rows)
    except (TypeError, ValueError):  # people of different lengths, or no numbers
        points = np.zeros(0, np.float32)
    if points.ndim != 3 or points.shape[1] != joints or points.shape[2] not in (3, 4):
        raise ValueError(f"keypoints must be {joints} lists [x, y, score] or [x, y, z, score] a person")
    return points


def _encode_header(header: ResultsHeader) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "skeleton": header.skeleton.to_dict(),
        "model": header.model,
        "checkpoint": header.checkpoint,
        "command": header.command,
        "versions": dict(header.versions),
        **({"classes": {column: list(names) for column, names in header.classes.items()}} if header.classes else {}),
    }


def _results(path: Path, skeleton: Skeleton) -> Iterator[tuple[int, Line]]:
    for number, fields in _lines(path):
        if number == 1:
            continue
        try:
            if not isinstance(fields["id"], int | str):
                raise ValueError("the id must be a number or a text")
            prediction = Prediction(fields["id"], decode_people(fields["people"], len(skeleton)))
            yield number, Line(prediction, fields.get("image"), _size(fields.get("size")), fields.get("rate"))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise PosecliError(f"{path}, line {number}: not a prediction: {reason}") from error


def _size(sides: Any) -> tuple[int, int] | None:
    if sides is None:
        return None
    width, height = sides
    return int(width), int(height)


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The lines' JSON values with their numbers from 1 on."""
    try:
        with path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, _parse(path, number, line)
    except OSError as error:
        raise PosecliError(f"cannot read the results file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PosecliError(f"{path} is not a posecli results file: it is not UTF-8 text") from error


def _no_results(path: Path) -> PosecliError:
    return PosecliError(
        f"{path}, line 1: not a posecli results file; its first line must be a header with a `schema`, as `posecli "
        f"infer` and `posecli eval --out` write it into results.jsonl"
    )


def _parse(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        if number == 1:
            raise _no_results(path) from error
        cut = "" if line.endswith("\n") else "; it is the last one and has no end, so the file was probably cut off"
        raise PosecliError(f"{path}, line {number}: not valid JSON ({error.msg}){cut}") from error


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"


def _plain(values: Array) -> list[Any]:
    """Nested lists; floats as the shortest decimals that give the same float32 again, NaN and infinity as None."""
    if values.dtype.kind != "f":
        return list(values.tolist())
    exact = values.astype(np.float32)
    short = exact.astype(np.float64)
    known = np.isfinite(exact)
    for decimals in DECIMALS:
        rounded = np.round(np.where(known, exact, 0.0).astype(np.float64), decimals)
        short = np.where(known & (rounded.astype(np.float32) == exact), rounded, short)
    if known.all():
        return list(short.tolist())
    holes = short.astype(object)
    holes[~known] = None
    return list(holes.tolist())


def _floats(values: Sequence[Any]) -> FloatArray:
    return np.array(values, dtype=np.float32)  # None becomes NaN


def _column(values: Sequence[Any]) -> Array:
    """A per-row array: whole numbers and truth values keep their type, all else is float32."""
    column = np.array(values)
    return column if column.dtype.kind in "biU" else _floats(values)


# --- other formats ---------------------------------------------------------------------------------------------------


@contextmanager
def coco_writer(path: Path, category: int = 1) -> Iterator[Write]:
    """A function that appends predictions to a COCO results JSON: a list of people with flat x, y, score.

    Keypoints that are not predicted are 0, 0, 0; `image_id` is the sample's id; `category` is that of people without a
    column of that name. Of 3D predictions those of the column `keypoints_2d` (N, K, 2), image pixels, are written;
    raises PosecliError where there is none.
    """
    with _text(path) as stream:
        stream.write("[")
        separator = "\n"

        def write(line: Line) -> None:
            nonlocal separator
            for row in coco_rows(line.prediction, category):
                stream.write(separator + json.dumps(row, ensure_ascii=False, separators=(",", ":")))
                separator = ",\n"

        yield write
        stream.write("\n]\n")


def to_coco_json(path: Path, predictions: Iterable[Prediction], category: int = 1) -> None:
    """Write COCO results JSON, whole or not at all."""
    with coco_writer(path, category) as write:
        for prediction in predictions:
            write(Line(prediction))


def in_picture(people: People) -> bool:
    """Whether COCO results can hold these people: their keypoints are 2D, or have places in the picture beside."""
    return people.keypoints.shape[2] == 2 or IN_PICTURE in people.extra


def coco_rows(prediction: Prediction, category: int = 1) -> list[dict[str, Any]]:
    """One COCO result for each person of a prediction. Raises PosecliError for 3D keypoints without `keypoints_2d`."""
    people = prediction.people
    pixels = people.keypoints if people.keypoints.shape[2] == 2 else people.extra.get(IN_PICTURE)
    if pixels is None:
        raise PosecliError("COCO results hold 2D keypoints only; write 3D ones as results.jsonl or CSV")
    known = np.isfinite(pixels).all(axis=-1, keepdims=True)  # (N, K, 1)
    points = np.where(known, np.concatenate([pixels, people.scores[..., None]], axis=2), 0)
    scores = people.scores.mean(axis=1) if people.instance_scores is None else people.instance_scores
    categories = people.extra.get("category", np.full(len(people), category))
    rows: list[dict[str, Any]] = [
        {"image_id": prediction.id, "category_id": int(own), "keypoints": flat, "score": score}
        for own, flat, score in zip(
            categories, _plain(points.reshape(len(people), 3 * points.shape[1])), _plain(scores), strict=True
        )
    ]
    if "track_id" in people.extra:
        for row, number in zip(rows, people.extra["track_id"].tolist(), strict=True):
            row["track_id"] = number
    if people.boxes is not None:
        corners = people.boxes.astype(np.float64)
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        for row, box in zip(rows, _plain(boxes), strict=True):
            row["bbox"] = box
    return rows


def is_coco_results(path: Path) -> bool:
    """Whether a file begins as a JSON list does; a missing one does not."""
    try:
        with path.open("rb") as stream:
            return stream.read(256).lstrip().startswith(b"[")
    except OSError:
        return False


def read_coco_results(path: Path, joints: int) -> dict[SampleId, People]:
    """The people of COCO results JSON by their pictures' ids, each with `joints` keypoints: what `to_coco_json` writes.

    Keypoints that are 0, 0, 0 are not predicted; people have boxes where all of their picture have a `bbox`. Raises
    PosecliError naming the result that is wrong.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise PosecliError(f"cannot read the COCO results {path}: {error}") from error
    if not isinstance(content, list):
        raise PosecliError(f"{path} is no list of COCO results")
    rows: dict[SampleId, list[People]] = {}
    for number, row in enumerate(content):
        try:
            if not isinstance(row["image_id"], int | str):
                raise ValueError("image_id must be a number or a text")
            rows.setdefault(row["image_id"], []).append(_coco_person(row, joints))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise PosecliError(
                f"{path}: result {number} is not {{image_id, category_id, keypoints: [x, y, score, ...], score}}: "
                f"{reason}"
            ) from error
    return {image: People.concatenate(people) for image, people in rows.items()}


def _coco_person(row: Mapping[str, Any], joints: int) -> People:
    """One row of People. Raises KeyError, TypeError or ValueError where a field is missing or wrong."""
    points = _floats(row["keypoints"])
    if points.ndim != 1 or len(points) % 3:
        raise ValueError("keypoints must be a flat list of three numbers each")
    if len(points) != 3 * joints:
        raise ValueError(
            f"it has {len(points) // 3} keypoints, the data {joints}: score it against data of the same skeleton"
        )
    points = points.reshape(1, joints, 3)
    known = (points != 0).any(axis=2, keepdims=True)
    box = None
    if row.get("bbox"):
        x, y, width, height = map(float, row["bbox"])
        box = _floats([[x, y, x + width, y + height]])
    return People(
        np.where(known, points[..., :2], np.float32(np.nan)),
        points[..., 2],
        box,
        _floats([float(row["score"])]),
        {"category": np.array([int(row.get("category_id", 1))])},
    )


@contextmanager
def csv_writer(path: Path, header: ResultsHeader, dimensions: int = 2, tracked: bool = False) -> Iterator[Write]:
    """A function that appends predictions to a long CSV: image, person, (track,) keypoint, x, y, score, a line each.

    The first column is the image's path where one is given, else the sample's id; unknown numbers are left empty. 3D
    coordinates stand under x_mm, y_mm and z_mm; under x, y and z_mm where the first people that come are image pixels
    and a depth, as their column `in_camera` says. With `tracked` there is a column for `extra["track_id"]`. Of the
    header's classes the likeliest have columns of their own.
    """
    headed = False
    with _text(path) as stream:
        table = csv.writer(stream, lineterminator="\n")

        def head(axes: Sequence[str]) -> None:
            nonlocal headed
            headed = True
            own = ["track"] if tracked else []
            table.writerow(["image", "person", *own, *header.classes, "keypoint", *axes, "score"])

        def write(line: Line) -> None:
            people = line.prediction.people
            if len(people) and not headed:
                head(_axes(people, dimensions))
            name = line.prediction.id if line.image is None else line.image
            points = _plain(np.concatenate([people.keypoints, people.scores[..., None]], axis=2))
            tracks = people.extra.get("track_id", np.array([""] * len(people))).tolist()
            kinds = [_likeliest(people, column, names) for column, names in header.classes.items()]
            for person, (track, values, *own) in enumerate(zip(tracks, points, *kinds, strict=True)):
                start = [name, person, *([track] if tracked else []), *own]
                for keypoint, numbers in zip(header.skeleton.names, values, strict=True):
                    table.writerow([*start, keypoint, *numbers])

        yield write
        if not headed:
            head(_axes(None, dimensions))


def _axes(people: People | None, dimensions: int) -> list[str]:
    """What the coordinates of such people are called."""
    if dimensions == 2:
        return ["x", "y"]
    placed = people is None or bool(np.all(people.extra.get(IN_CAMERA, True)))
    return ["x_mm", "y_mm", "z_mm"] if placed else ["x", "y", "z_mm"]


def _likeliest(people: People, column: str, names: Sequence[str]) -> list[str]:
    """Each person's likeliest class by a column of probabilities (N, C); empty where there is none."""
    if column not in people.extra:
        return [""] * len(people)
    return [names[number] for number in people.extra[column].argmax(axis=1).tolist()]


def write_csv(
    path: Path, predictions: Iterable[Prediction], header: ResultsHeader, dimensions: int = 2, tracked: bool = False
) -> None:
    """Write a long CSV, whole or not at all."""
    with csv_writer(path, header, dimensions, tracked) as write:
        for prediction in predictions:
            write(Line(prediction))


@contextmanager
def _text(path: Path) -> Iterator[TextIO]:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        yield stream
