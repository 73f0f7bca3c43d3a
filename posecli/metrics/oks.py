"""AP and AR by object keypoint similarity, computed by pycocotools with the sigmas of the dataset itself."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from posecli.geometry import box_areas, keypoint_boxes
from posecli.metrics.crowding import crowd_indices, levels_of
from posecli.metrics.matching import as_labelled
from posecli.metrics.metric import Metric, Score
from posecli.metrics.pck import require_2d
from posecli.skeleton import Skeleton
from posecli.types import Array, Dataset, FloatArray, People, SampleId

BODY_SHARE = 0.53  # a person covers about that share of the box; used where no area is annotated, as CrowdPose does
FAR = -1e6  # where a keypoint that is not predicted is put: OKS 0


class Ap(Metric):
    """COCO's AP and AR for keypoints (Lin et al.; Ronchi and Perona, ICCV 2017).

    OKS = mean over labelled keypoints of exp(-d² / (2 (2 sigma)² area)); thresholds .50:.05:.95, 101 recall points,
    20 people a picture. Crowd rows and people without a labelled keypoint are neither asked for nor held against.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        sigmas: FloatArray,
        source: str,
        threshold: float | None = None,
        box_area: bool = False,
        levels: tuple[float, float] | None = None,
    ) -> None:
        self.skeleton = skeleton
        self.sigmas = sigmas  # (K,)
        self.source = source
        self.threshold = threshold
        self.box_area = box_area
        self.levels = levels  # crowd indices that part easy, medium and hard pictures; None: not parted

    def compute(self, truth: Dataset, predictions: Mapping[SampleId, People]) -> list[Score]:
        require_2d(truth, "AP")
        known = set(truth.ids)
        predictions = {key: as_labelled(truth, key, people) for key, people in predictions.items() if key in known}
        areas, area_note = self._areas(truth.people)
        precision, recall = self._evaluate(truth, predictions, areas)
        notes = [f"{self.source}: {format_sigmas(self.sigmas)}", *area_note]
        scores = self._scores(precision, recall)
        if self.levels is not None:
            scores, note = self._crowd_scores(scores, truth, predictions, areas)
            notes.append(note)
        headline = scores[0]
        if np.isnan(headline.value):
            notes.append("nobody to find: no labelled people in the data")
        return [Score(headline.name, headline.value, note="; ".join(notes)), *scores[1:]]

    def _crowd_scores(
        self, scores: list[Score], truth: Dataset, predictions: Mapping[SampleId, People], areas: FloatArray
    ) -> tuple[list[Score], str]:
        """The scores of all pictures, without those by size, and AP of every level; what a level is."""
        assert self.levels is not None
        indices, source = crowd_indices(truth)
        scores = [score for score in scores if not score.name.endswith((":medium", ":large"))]
        for level, chosen in levels_of(indices, self.levels).items():
            part = truth.take(chosen)
            rows = np.isin(truth.sample_of_row, chosen)
            found = {sample_id: predictions[sample_id] for sample_id in part.ids if sample_id in predictions}
            precision, _ = self._evaluate(part, found, areas[rows])
            note = f"{len(chosen)} pictures"
            scores.append(Score(f"{scores[0].name}:{level}", _mean(precision[:, :, 0, 0, 0]), note=note))
        medium, hard = self.levels
        return scores, f"crowd index {source}: easy below {medium:g}, hard from {hard:g}"

    def _areas(self, people: People) -> tuple[FloatArray, list[str]]:
        """The area of every true row, (N,), and what to say about it."""
        if "area" in people.extra and not self.box_area:
            return np.asarray(people.extra["area"], dtype=np.float64), []
        reason = "as asked" if self.box_area else "the data has no areas"
        boxes = true_boxes(people)
        return box_areas(boxes.astype(np.float64)) * BODY_SHARE, [f"area = {BODY_SHARE} × box, {reason}"]

    def _evaluate(
        self, truth: Dataset, predictions: Mapping[SampleId, People], areas: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """pycocotools' precision (T, R, 1, A, 1) and recall (T, 1, A, 1); -1 where there is nothing to find."""
        numbers = {sample_id: number for number, sample_id in enumerate(sorted(truth.ids, key=_id_order), start=1)}
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress there
            known = _index(truth_annotations(truth, areas, numbers), numbers, self.skeleton)
            guessed = _index(prediction_annotations(predictions, numbers), numbers, self.skeleton)
            evaluation = COCOeval(known, guessed, "keypoints")
            evaluation.params.kpt_oks_sigmas = self.sigmas
            if self.threshold is not None:
                evaluation.params.iouThrs = np.array([self.threshold])
            evaluation.evaluate()
            evaluation.accumulate()
        return evaluation.eval["precision"], evaluation.eval["recall"]

    def _scores(self, precision: FloatArray, recall: FloatArray) -> list[Score]:
        if self.threshold is not None:
            at = f"@{self.threshold:g}"
            return [
                Score(f"AP{at}", _mean(precision[:, :, 0, 0, 0])),
                Score(f"AR{at}", _mean(recall[:, 0, 0, 0])),
            ]
        scores = []
        for name, values in (("AP", precision[:, :, 0, :, 0]), ("AR", recall[:, None, 0, :, 0])):  # (T, R, A)
            scores += [
                Score(name, _mean(values[:, :, 0])),
                Score(f"{name}@0.5", _mean(values[0, :, 0])),
                Score(f"{name}@0.75", _mean(values[5, :, 0])),
                Score(f"{name}:medium", _mean(values[:, :, 1])),
                Score(f"{name}:large", _mean(values[:, :, 2])),
            ]
        return scores


def format_sigmas(sigmas: FloatArray) -> str:
    """The sigmas as a user can check them: all of them, or their range when there are many."""
    if len(sigmas) > 26:
        return f"{len(sigmas)} values from {sigmas.min():.4g} to {sigmas.max():.4g}"
    return " ".join(f"{sigma:.4g}".removeprefix("0") for sigma in sigmas)


def true_boxes(people: People) -> FloatArray:
    """Boxes (N, 4) of true people; tight ones around the labelled keypoints where the data has none."""
    if people.boxes is not None:
        return people.boxes
    return keypoint_boxes(np.where(people.labelled[..., None], people.keypoints, np.nan))


def truth_annotations(truth: Dataset, areas: FloatArray, numbers: Mapping[SampleId, int]) -> list[dict[str, Any]]:
    """COCO annotations for the rows of the truth; `numbers` gives each sample's image id."""
    people = truth.people
    labelled = people.labelled
    flat = _flat(np.where(labelled[..., None], people.keypoints, 0.0), np.where(labelled, people.scores, 0.0))
    boxes = _xywh(true_boxes(people))
    images = [numbers[truth.ids[index]] for index in truth.sample_of_row]
    columns = zip(images, flat, boxes, areas.tolist(), people.crowd, labelled.sum(axis=1), strict=True)
    return [
        {
            "id": row,
            "image_id": image,
            "category_id": 1,
            "keypoints": points,
            "bbox": box.tolist(),
            "area": area,
            "iscrowd": int(crowd),
            "num_keypoints": int(count),
        }
        for row, (image, points, box, area, crowd, count) in enumerate(columns, start=1)
    ]


def prediction_annotations(
    predictions: Mapping[SampleId, People], numbers: Mapping[SampleId, int]
) -> list[dict[str, Any]]:
    """COCO annotations for predictions: area = that of the box, or of the keypoints' extent where there is no box."""
    annotations: list[dict[str, Any]] = []
    for sample_id in sorted((key for key in predictions if key in numbers), key=_id_order):
        people = predictions[sample_id]
        if len(people) == 0:
            continue
        known = np.asarray(np.isfinite(people.keypoints).all(axis=-1))
        boxes = people.boxes if people.boxes is not None else keypoint_boxes(people.keypoints)
        areas = _products(_xywh(boxes))
        flat = _flat(np.where(known[..., None], people.keypoints, FAR), people.scores)
        for points, area, score in zip(flat, areas.tolist(), person_scores(people).tolist(), strict=True):
            number = len(annotations) + 1
            annotations.append(
                {
                    "id": number,
                    "image_id": numbers[sample_id],
                    "category_id": 1,
                    "keypoints": points,
                    "area": area,
                    "score": score,
                }
            )
    return annotations


def person_scores(people: People) -> FloatArray:
    """Instance scores (N,), or the mean keypoint score where a prediction has none."""
    scores = people.scores.mean(axis=1) if people.instance_scores is None else people.instance_scores
    return np.nan_to_num(np.asarray(scores, dtype=np.float64))


def _products(boxes: FloatArray) -> FloatArray:
    return np.asarray(boxes[:, 2] * boxes[:, 3])


def _xywh(boxes: FloatArray) -> FloatArray:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float64)


def _flat(keypoints: FloatArray, scores: FloatArray) -> Array:
    """x1 y1 s1 x2 y2 s2 ... for each person, (N, 3 K) float64."""
    return (
        np.concatenate([keypoints, scores[..., None]], axis=2)
        .reshape(len(scores), 3 * scores.shape[1])
        .astype(np.float64)
    )


def _id_order(sample_id: SampleId) -> tuple[bool, int, str]:
    """Numbers first, by size, then names: an order that does not depend on how the samples stand in the dataset."""
    return (False, sample_id, "") if isinstance(sample_id, int) else (True, 0, sample_id)


def _index(annotations: list[dict[str, Any]], numbers: Mapping[SampleId, int], skeleton: Skeleton) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": number} for number in numbers.values()],
        "annotations": annotations,
        "categories": [{"id": 1, "name": skeleton.name}],
    }
    coco.createIndex()
    return coco


def _mean(values: FloatArray) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else float("nan")
