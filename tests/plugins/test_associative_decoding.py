"""Maps put together, peaks, groups and filled-in keypoints: the reference's numbers, and slow literal versions of each.

The numbers are those of reference/golden in the shared folder: README.md for MMPose 1.3.2, README-0.29.md for 0.29.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from posecli.console import PosecliError
from posecli.types import FloatArray
from posecli_associative.config import DecodeConfig
from posecli_associative.decoding import Found, decode, place_peaks
from posecli_associative.filling import best_cells, fill_missing
from posecli_associative.grouping import group
from posecli_associative.maps import Maps, aggregate, aggregate_scales, split_outputs
from posecli_associative.peaks import Members, find_peaks

ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)
OLDER = DecodeConfig(order=ORDER)  # MMPose 0.x
NEWER = DecodeConfig(order=ORDER, adjust="inside", fill="cost", limit="first")  # MMPose 1.x
CROWDS = ("1people_1tag", "4people_1tag", "10people_1tag", "4people_2tag")


# --- slow and literal -----------------------------------------------------------------------------------------------


def literal_peaks(heatmap: FloatArray, count: int, reach: int, threshold: float) -> list[tuple[float, int]]:
    """The highest peaks of a map (H, W) as (value, cell)."""
    height, width = heatmap.shape
    found = []
    for y in range(height):
        for x in range(width):
            around = heatmap[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            if heatmap[y, x] > threshold and heatmap[y, x] >= around.max():
                found.append((float(heatmap[y, x]), y * width + x))
    return sorted(found, key=lambda peak: (-peak[0], peak[1]))[:count]


def literal_groups(values: FloatArray, tags: FloatArray, order: tuple[int, ...]) -> list[dict[int, int]]:
    """Each person's candidates by keypoint, from values (K, C) and tags (K, C, L)."""
    people: list[dict[int, int]] = []
    for joint in order:
        there = [number for number, value in enumerate(values[joint]) if value > 0.1]
        means = [np.mean([tags[k, number] for k, number in person.items()], axis=0) for person in people]
        distance = np.array([[np.linalg.norm(tags[joint, number] - mean) for mean in means] for number in there])
        distance = distance.reshape(len(there), len(people))
        cost = np.round(distance) * 100 - values[joint, there][:, None]
        pairs = dict(zip(*linear_sum_assignment(cost), strict=True))
        for row, number in enumerate(there):
            if row in pairs and distance[row, pairs[row]] < 1:
                people[pairs[row]][joint] = number
            else:
                people.append({joint: number})
    return people


def literal_cell(heatmap: FloatArray, tags: FloatArray, mean: FloatArray, weight: float) -> int:
    """The first cell of a map (H, W) with tags (H, W, L) where heatmap - weight * round(distance) is highest."""
    distance = ((tags - mean) ** 2).sum(axis=-1) ** 0.5
    return int(np.argmax(heatmap - np.float32(weight) * np.round(distance)))


def maps_of(kind: str, seed: int) -> tuple[Tensor, Tensor]:
    """Heatmaps (2, 3, H, W) and tags (2, 3, H, W, L) of a kind, of any size."""
    generator = torch.Generator().manual_seed(seed)
    height, width, length = (
        int(torch.randint(*span, (1,), generator=generator)) for span in ((3, 90), (3, 90), (1, 4))
    )
    heatmaps = torch.randn(2, 3, height, width, generator=generator)
    tags = torch.randn(2, 3, height, width, length, generator=generator) * 3
    if kind == "steps":
        return heatmaps.round() / 4, tags.round() / 2
    if kind == "smooth":
        layers = tags.permute(0, 4, 1, 2, 3).flatten(0, 1)
        layers = functional.avg_pool2d(layers, 9, 1, 4).view(2, length, 3, height, width) * 5
        return functional.avg_pool2d(heatmaps, 9, 1, 4) * 3, layers.permute(0, 2, 3, 4, 1)
    if kind == "mostly zero":
        heatmaps = (heatmaps > 2.2).float()
        return heatmaps, torch.where(heatmaps[..., None] > 0, tags, 0)
    if kind == "constant":
        return torch.full_like(heatmaps, 0.5), torch.ones_like(tags)
    return heatmaps, tags


KINDS = ("noise", "steps", "smooth", "mostly zero", "constant")


@pytest.mark.parametrize("kind", KINDS)
def test_peaks_are_those_of_a_slow_search(kind: str) -> None:
    for seed, (count, reach, threshold) in enumerate([(30, 2, 0.1), (3, 1, 0.0), (200, 8, 0.3), (1, 3, 0.1)]):
        heatmaps, tags = maps_of(kind, seed)
        heatmaps = heatmaps[..., :40, :40].contiguous()
        peaks = find_peaks(heatmaps, tags[:, :, :40, :40], count, reach, threshold)
        for number, heatmap in enumerate(heatmaps.flatten(0, 1).numpy()):
            expected = literal_peaks(heatmap, count, reach, threshold)
            values, cells = peaks.values.flatten(0, 1)[number], peaks.cells.flatten(0, 1)[number]
            found = list(zip(values.tolist(), cells.tolist(), strict=True))
            assert found == expected + [(0.0, 0)] * (count - len(expected))
            read = tags[:, :, :40, :40].flatten(0, 1)[number].flatten(0, 1)[cells]
            assert torch.equal(peaks.tags.flatten(0, 1)[number], read)


def test_peaks_of_large_maps_are_those_of_pooling() -> None:
    """Also where few of many peaks are wanted, so that most squares are never looked into."""
    for seed, smooth in ((0, 1), (1, 3), (2, 9)):
        heatmaps = torch.rand(1, 3, 200, 304, generator=torch.Generator().manual_seed(seed))
        heatmaps = functional.avg_pool2d(heatmaps, smooth, 1, smooth // 2)
        highest = functional.max_pool2d(heatmaps, 5, 1, 2)
        values, cells = (
            torch.where(highest == heatmaps, heatmaps, 0).flatten(2).sort(dim=-1, descending=True, stable=True)
        )
        peaks = find_peaks(heatmaps, heatmaps[..., None], 30, 2, 0.1)
        assert torch.equal(peaks.values, values[..., :30])
        assert torch.equal(peaks.cells, cells[..., :30])


@pytest.mark.parametrize("kind", KINDS)
def test_filled_cells_are_those_of_a_slow_search(kind: str) -> None:
    for seed in range(12):
        heatmaps, tags = maps_of(kind, seed)
        generator = torch.Generator().manual_seed(seed)
        maps = torch.randint(6, (10,), generator=generator)
        means = torch.randn(10, tags.shape[-1], generator=generator) * 2
        means = means.round() / 2 if kind == "steps" else means
        for weight in (1.0, 100.0):
            found = best_cells(heatmaps, tags, maps, means, weight)
            for cell, number, mean in zip(found.tolist(), maps.tolist(), means.numpy(), strict=True):
                place = divmod(number, 3)
                assert cell == literal_cell(heatmaps[place].numpy(), tags[place].numpy(), mean, weight)


def test_filled_cells_of_large_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three levels deep, and in several goes."""
    monkeypatch.setattr("posecli_associative.filling.AT_ONCE", 4096)
    generator = torch.Generator().manual_seed(0)
    heatmaps = functional.interpolate(torch.rand(1, 2, 50, 60, generator=generator) ** 4, (200, 240), mode="bilinear")
    tags = functional.interpolate(torch.randn(1, 2, 10, 12, generator=generator) * 4, (200, 240), mode="bilinear")
    maps, means = torch.arange(40) % 2, torch.linspace(-8, 8, 40)[:, None]
    found = best_cells(heatmaps, tags[..., None], maps, means, 1.0)
    for cell, number, mean in zip(found.tolist(), maps.tolist(), means.numpy(), strict=True):
        assert cell == literal_cell(heatmaps[0, number].numpy(), tags[0, number, ..., None].numpy(), mean, 1.0)


def test_groups_are_those_of_a_slow_search() -> None:
    for seed in range(20):
        generator = np.random.default_rng(seed)
        values = -np.sort(-generator.uniform(0, 1, (17, 8)).astype(np.float32), axis=1)
        tags = (generator.integers(0, 5, (17, 8, 1)) * 2 + generator.normal(0, 0.2, (17, 8, 2))).astype(np.float32)
        found = group(values, tags, OLDER, ORDER)
        people = literal_groups(values, tags, ORDER)
        assert len(people) > 5
        assert [{joint: int(row[joint]) for joint in np.flatnonzero(row >= 0)} for row in found] == people


# --- the reference's numbers ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def newer(golden: Path) -> dict[str, FloatArray]:
    """What MMPose 1.3.2 gives, and the maps that both are asked about."""
    with np.load(golden / "functional.npz") as archive:
        return {name: archive[name] for name in archive.files if name.startswith("ae_decode/")}


@pytest.fixture(scope="module")
def older(golden: Path) -> dict[str, FloatArray]:
    """What MMPose 0.29 gives."""
    with np.load(golden / "functional29_ae.npz") as archive:
        return {name: archive[name] for name in archive.files if name.startswith(("HeatmapParser/", "aggregate/"))}


def crowd_maps(newer: dict[str, FloatArray], crowd: str) -> tuple[Tensor, Tensor]:
    """Heatmaps (1, 17, 128, 128) and tags (1, 17, 128, 128, L)."""
    heatmaps = torch.from_numpy(newer[f"ae_decode/{crowd}/in/heatmaps_f16"].astype(np.float32))
    tags = torch.from_numpy(newer[f"ae_decode/{crowd}/in/tags_f16"].astype(np.float32))
    return heatmaps[None], tags.view(1, -1, 17, 128, 128).permute(0, 2, 3, 4, 1)


@pytest.mark.parametrize("crowd", CROWDS)
def test_newer_decoding(crowd: str, newer: dict[str, FloatArray]) -> None:
    heatmaps, tags = crowd_maps(newer, crowd)
    expected = {name: newer[f"ae_decode/{crowd}/out/{name}"] for name in ("keypoints", "scores", "instance_scores")}
    (found,) = decode(heatmaps, tags, NEWER, (512, 512), max_people=30)
    assert found.dropped == 0
    assert found.keypoints == pytest.approx(expected["keypoints"], abs=0.05)
    assert found.scores == pytest.approx(expected["scores"], abs=1e-4)
    assert found.instance_scores == pytest.approx(expected["instance_scores"], abs=1e-4)


@pytest.mark.parametrize("crowd", CROWDS)
def test_peaks_of_the_reference(crowd: str, newer: dict[str, FloatArray]) -> None:
    peaks = find_peaks(*crowd_maps(newer, crowd), count=30, reach=2, threshold=0.1)
    values = newer[f"ae_decode/{crowd}/out/topk_vals"]
    high = values > 0.1
    assert high.sum() > 10
    assert np.array_equal(peaks.values[0].numpy()[high], values[high])
    cells = newer[f"ae_decode/{crowd}/out/topk_locs"]
    assert np.array_equal(peaks.cells[0].numpy()[high], (cells[..., 0] + 128 * cells[..., 1])[high])
    assert np.array_equal(peaks.tags[0].numpy()[high], newer[f"ae_decode/{crowd}/out/topk_tags"][high])


OLDER_CASES: dict[str, dict[str, Any]] = {
    "plain": {"adjust": "none", "fill": "none"},
    "adjust": {"fill": "none"},
    "adjust_refine": {},
    "udp": {"fill": "none"},  # on a CPU the reference fills from maps that it has overwritten with their logarithms
    "score_per_joint": {},
    "ignore_too_much": {"limit": "grouping", "candidates": 5},
    "no_detection_val": {"use_detection_score": False, "fill": "none"},
    "thr0.5": {"detection_threshold": 0.5, "tag_threshold": 0.3},
}


# Without the tenfold crowd by distance alone: there the reference's pairing is not the cheapest, it begins a person
# with the tag 12.40 although nobody else claims the one at 12.37.
OLDER_RUNS = [
    (crowd, case) for crowd in CROWDS for case in OLDER_CASES if (crowd, case) != ("10people_1tag", "no_detection_val")
]


@pytest.mark.parametrize(("crowd", "case"), OLDER_RUNS)
def test_older_decoding(crowd: str, case: str, newer: dict[str, FloatArray], older: dict[str, FloatArray]) -> None:
    settings = OLDER.model_copy(update=OLDER_CASES[case])
    limit = 5 if case == "ignore_too_much" else None
    (found,) = decode(*crowd_maps(newer, crowd), settings, (128, 128), limit, unbiased=case == "udp")
    people = older[f"HeatmapParser/{crowd}/{case}/out/people"]
    scores = older[f"HeatmapParser/{crowd}/{case}/out/scores"]
    there = people[..., 2] != 0
    assert found.scores == pytest.approx(people[..., 2], abs=1e-4)
    assert found.keypoints[there] == pytest.approx(people[there][:, :2], abs=0.05)
    if case == "score_per_joint":
        assert np.where(scores > 0, found.scores, 0) == pytest.approx(scores, abs=1e-4)
    elif (
        case != "ignore_too_much"
    ):  # pairings that cost the same are chosen otherwise; what is filled in makes up for it
        assert found.instance_scores == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("project", [False, True])
def test_aggregation(align: bool, project: bool, older: dict[str, FloatArray], golden: Path) -> None:
    entry = f"aggregate/align={align},project={project}"
    given = {name: torch.from_numpy(older[f"{entry}/in/{name}"]) for name in ("outputs.0", "outputs.1", "heat_scale2")}
    mirrored = [torch.from_numpy(older[f"{entry}/in/outputs_flipped.{stage}"]) for stage in (0, 1)]
    flip_index = torch.tensor(json.loads((golden / "functional29_ae.json").read_text())[entry]["params"]["flip_index"])
    maps = split_outputs([given["outputs.0"], given["outputs.1"]], 17, [True, True], [True, False])
    flipped = split_outputs(mirrored, 17, [True, True], [True, False])
    size = (32, 48) if project else None
    heatmaps, tags = aggregate(maps, flipped, flip_index, size, align)
    assert heatmaps.numpy() == pytest.approx(older[f"{entry}/out/heat.0"], abs=1e-5)
    alone, own_tags = aggregate(maps, None, None, size, align)
    assert alone.numpy() == pytest.approx(older[f"{entry}/out/heat_noflip.0"], abs=1e-5)
    two = aggregate_scales([heatmaps, given["heat_scale2"]], align)
    assert two.numpy() == pytest.approx(older[f"{entry}/out/heat_two_scales"], abs=1e-5)
    if project:  # otherwise the reference leaves tags as coarse as they are until later
        assert tags.numpy() == pytest.approx(older[f"{entry}/out/tags_unsqueeze"], abs=1e-5)
        assert own_tags[..., 0].numpy() == pytest.approx(older[f"{entry}/out/tags_noflip.0"], abs=1e-5)
    else:
        expected = torch.from_numpy(older[f"{entry}/out/tags_unsqueeze"])
        for layer in (0, 1):
            resized = functional.interpolate(expected[..., layer], (16, 24), mode="bilinear", align_corners=align)
            assert tags[..., layer].numpy() == pytest.approx(resized.numpy(), abs=1e-5)


# HigherHRNet on a real picture, stage by stage from the stored outputs. The weights are noise, so many pairings of
# candidates and people cost the same, and the reference takes others: what comes before and after is compared in full.
REAL_CASES: dict[str, tuple[bool, bool, dict[str, Any]]] = {  # mirrored too, resized to the input, settings
    "s128_flip": (True, True, {}),
    "s128_noflip": (False, True, {}),
    "s128_flip_noadjust_norefine": (True, True, {"adjust": "none", "fill": "none"}),
    "s128_flip_noproject": (True, False, {}),
}


@pytest.fixture(scope="module")
def real(golden: Path) -> dict[str, FloatArray]:
    """What MMPose 0.29 gives for a real picture at 256×128."""
    with np.load(golden / "ae29_higherhrnet_testtime.npz") as archive:
        return dict(archive)


def real_maps(real: dict[str, FloatArray], case: str, golden: Path) -> tuple[Tensor, Tensor]:
    """The aggregated heatmaps and tags of a case."""
    mirrored, projected, _ = REAL_CASES[case]
    flip_index = json.loads((golden / "ae29_higherhrnet_testtime.json").read_text())["cases"][case]["flip_index"]
    sides = [
        split_outputs(
            [torch.from_numpy(real[f"s128_flip.raw.forward{side}.output{stage}"]) for stage in (0, 1)],
            17,
            [True, True],
            [True, False],
        )
        for side in (0, 1)
    ]
    return aggregate(
        sides[0], sides[1] if mirrored else None, torch.tensor(flip_index), (128, 256) if projected else None
    )


@pytest.mark.parametrize("case", REAL_CASES)
def test_maps_and_peaks_of_a_real_picture(case: str, real: dict[str, FloatArray], golden: Path) -> None:
    maps = real_maps(real, case, golden)
    for name, values in zip(("heatmaps", "tags"), maps, strict=True):
        (stored,) = (key for key in real if key.startswith(f"{case}.aggregated_{name}#flat"))
        step = int(stored.rsplit("::", 1)[1][:-1])
        assert values.contiguous().flatten()[::step].numpy() == pytest.approx(real[stored], abs=1e-5)
    peaks = find_peaks(*maps, count=30, reach=2, threshold=0.1)
    high = real[f"{case}.topk.val_k"] > 0.1
    width = maps[0].shape[3]
    cells = real[f"{case}.topk.loc_k"]
    assert high.sum() > 200
    assert np.array_equal(peaks.cells.numpy()[high], (cells[..., 0] + width * cells[..., 1])[high])
    assert peaks.values.numpy()[high] == pytest.approx(real[f"{case}.topk.val_k"][high], abs=1e-5)
    assert peaks.tags.numpy()[high] == pytest.approx(real[f"{case}.topk.tag_k"][high], abs=1e-5)


def test_places_and_filling_of_a_real_picture(real: dict[str, FloatArray], golden: Path) -> None:
    """From the reference's own groups, given by the run without adjusting and filling."""
    heatmaps, tags = real_maps(real, "s128_flip", golden)
    plain, expected = real["s128_flip_noadjust_norefine.preds"], real["s128_flip.preds"]
    cells = np.rint((plain[..., :2] - [320 - 392, 0]) * 256 / 784).astype(np.int64)
    there = torch.from_numpy(plain[..., 2] > 0)
    index = torch.where(there, torch.from_numpy(cells[..., 1] * 256 + cells[..., 0]), 0)
    values = torch.where(there, heatmaps[0].flatten(1).gather(1, index.T).T, 0)
    members = Members(torch.zeros(len(plain), dtype=torch.long), index, values)
    points, scores = fill_missing(
        heatmaps, tags, members, place_peaks(heatmaps, members, OLDER, False), "penalty", False
    )
    known = expected[..., 2] != 0
    assert known.sum() > plain[..., 2].astype(bool).sum() + 1000
    assert scores.numpy() == pytest.approx(expected[..., 2], abs=1e-4)
    ours = points.numpy() * 784 / 256 + [320 - 392, 0]
    near = np.abs(ours - expected[..., :2]).max(axis=-1)[known] < 0.05
    assert near.mean() > 0.999


def test_people_of_a_real_picture(real: dict[str, FloatArray], golden: Path) -> None:
    heatmaps, tags = real_maps(real, "s128_noflip", golden)
    (found,) = decode(heatmaps, tags, OLDER, (256, 128))
    expected = real["s128_noflip.preds"]
    assert len(found.keypoints) == len(expected) == 127
    ours = found.keypoints * 784 / 256 + [320 - 392, 0]
    same = (np.abs(ours - expected[..., :2]).max(axis=-1) < 0.05) | (expected[..., 2] == 0)
    assert same.mean() > 0.9


# --- properties -----------------------------------------------------------------------------------------------------


def scene(people: FloatArray, tags: FloatArray, size: tuple[int, int] = (160, 128)) -> tuple[Tensor, Tensor]:
    """Perfect maps (1, K, H, W) and (1, K, H, W, 1) of people (N, K, 2) in cells with tags (N,); NaN is missing."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    gaps = (x - people[..., 0, None, None]) ** 2 + (y - people[..., 1, None, None]) ** 2
    peaks = np.nan_to_num(np.exp(-gaps / 18))  # (N, K, H, W)
    whose = peaks.argmax(axis=0)
    return torch.from_numpy(peaks.max(axis=0))[None].float(), torch.from_numpy(tags[whose])[None, ..., None].float()


def crowd(count: int, seed: int = 0) -> FloatArray:
    """People (N, 5, 2) on whole cells, no two of whose keypoints of a kind are close."""
    generator = np.random.default_rng(seed)
    corners = np.array([[20 + 40 * (n % 4), 20 + 30 * (n // 4)] for n in range(count)])
    return (corners[:, None] + generator.integers(-9, 10, (count, 5, 2))).astype(float)


def sorted_rows(found: Found) -> FloatArray:
    rows = np.concatenate([found.keypoints, found.scores[..., None]], axis=-1).reshape(len(found.scores), -1)
    return rows[np.lexsort(rows.T)]


def test_perfect_maps_give_the_people_back() -> None:
    people = crowd(12)
    (found,) = decode(*scene(people, np.arange(12) * 3.0), DecodeConfig(adjust="none"), (160, 128))
    assert found.scores == pytest.approx(1.0, abs=1e-6)
    assert found.instance_scores == pytest.approx(1.0, abs=1e-6)
    order = np.lexsort(people.reshape(12, -1).T)
    assert sorted_rows(found)[:, :2] == pytest.approx(people[order, 0])
    assert {tuple(row) for row in found.keypoints.reshape(12, -1)} == {tuple(row) for row in people.reshape(12, -1)}


def test_it_does_not_matter_who_has_which_tag() -> None:
    people, tags = crowd(12), np.arange(12) * 3.0
    people[2, 3] = people[7, 0] = np.nan
    (one,) = decode(*scene(people, tags), DecodeConfig(), (640, 512))
    order = np.random.default_rng(1).permutation(12)
    (other,) = decode(*scene(people[order], tags), DecodeConfig(fill="none"), (640, 512))
    (same,) = decode(*scene(people, tags), DecodeConfig(fill="none"), (640, 512))
    assert np.array_equal(sorted_rows(other), sorted_rows(same))
    assert (one.scores > 0).sum() >= (same.scores > 0).sum() == 58


def test_a_batch_is_its_pictures_one_by_one() -> None:
    maps = [scene(crowd(count, count), np.arange(count) * 2.0) for count in (3, 12)]
    maps.insert(1, (torch.zeros(1, 5, 128, 160), torch.zeros(1, 5, 128, 160, 1)))
    together = decode(
        torch.cat([part[0] for part in maps]), torch.cat([part[1] for part in maps]), OLDER5, (160, 128), 8
    )
    assert [len(found.scores) for found in together] == [3, 0, 8]
    assert [found.dropped for found in together] == [0, 0, 4]
    for found, part in zip(together, maps, strict=True):
        (alone,) = decode(*part, OLDER5, (160, 128), 8)
        assert np.array_equal(found.keypoints, alone.keypoints)
        assert np.array_equal(found.scores, alone.scores)
        assert np.array_equal(found.instance_scores, alone.instance_scores)


OLDER5 = DecodeConfig(order=(2, 0, 1, 4, 3))


def test_a_missing_keypoint_is_found_by_its_tag() -> None:
    """A low maximum that is no peak above the threshold, among higher ones of others."""
    people = crowd(6)
    heatmaps, tags = scene(people, np.arange(6) * 3.0)
    column, row = people[4, 2].astype(int)
    near = slice(row - 9, row + 10), slice(column - 9, column + 10)
    heatmaps[0, 2][near] *= 0.08
    (none,) = decode(heatmaps, tags, DecodeConfig(fill="none", adjust="none"), (160, 128))
    (filled,) = decode(heatmaps, tags, DecodeConfig(adjust="none"), (160, 128))
    missing = np.argwhere(none.scores == 0)
    assert len(missing) == 1
    person, joint = missing[0]
    assert joint == 2
    assert filled.keypoints[person, joint] == pytest.approx(
        people[4, 2] + 0.25
    )  # a quarter cell away from equal neighbours
    assert filled.scores[person, joint] == pytest.approx(0.08)
    assert filled.instance_scores == pytest.approx(none.instance_scores)


@pytest.mark.parametrize(("limit", "kept"), [("best", [1, 3, 4]), ("first", [4, 3, 1]), ("grouping", [4, 3, 1])])
def test_limits(limit: Literal["best", "first", "grouping"], kept: list[int]) -> None:
    """People are begun by the height of their first keypoint's peak; the best are those with the highest mean."""
    people = crowd(5)
    heatmaps, tags = scene(people, np.arange(5) * 3.0)
    heights = np.ones((5, 5))
    heights[[4, 3, 1, 0, 2], 0] = [1, 0.95, 0.9, 0.85, 0.8] if limit != "best" else [0.8, 0.85, 0.9, 0.95, 1]
    heights[[0, 2], 1:] = 0.5
    for person, joint in np.ndindex(5, 5):
        column, row = people[person, joint].astype(int)
        near = slice(row - 7, row + 8), slice(column - 7, column + 8)
        heatmaps[0, joint][near] *= float(heights[person, joint])
    settings = DecodeConfig(limit=limit, adjust="none", fill="none")
    (found,) = decode(heatmaps, tags, settings, (160, 128), max_people=3)
    expected = {tuple(people[person, 0]) for person in kept}
    assert {tuple(place) for place in found.keypoints[:, 0]} == expected
    assert found.dropped == (0 if limit == "grouping" else 2)


def test_unbiased_places_lie_between_cells() -> None:
    """UDP: the maps' corner cells are the input's corner pixels, and the Newton step finds the Gaussian's middle."""
    people = crowd(4) + np.random.default_rng(3).uniform(-0.4, 0.4, (4, 5, 2))
    (found,) = decode(*scene(people, np.arange(4) * 3.0), DecodeConfig(), (637, 509), unbiased=True)
    assert np.sort(found.keypoints.reshape(-1, 2), axis=0) == pytest.approx(
        np.sort(people.reshape(-1, 2) * 4, axis=0), abs=0.2
    )


def test_keypoints_may_share_one_map_of_tags() -> None:
    outputs = [torch.randn(2, 6, 8, 8)]
    heatmaps, tags = aggregate(split_outputs(outputs, 5, [True], [True]), None, None)
    assert tags.shape == (2, 5, 8, 8, 1)
    assert torch.equal(tags[:, 0], tags[:, 4])
    maps = split_outputs([outputs[0][:, :5], outputs[0][:, 5:]], 5, [True, False], [False, True])
    both = aggregate(maps, Maps(maps.heatmaps, maps.tags), torch.arange(5))
    assert torch.equal(both[1][..., 1], tags[..., 0].flip(-1))
    assert torch.equal(both[0], (heatmaps + heatmaps.flip(-1)) / 2)


def test_mirrored_maps_need_pairs() -> None:
    maps = split_outputs([torch.zeros(1, 10, 8, 8)], 5, [True], [True])
    with pytest.raises(ValueError, match="flip_index"):
        aggregate(maps, maps, None)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("part", [0, 1])
def test_what_is_no_number_stops(part: int, value: float) -> None:
    maps = scene(crowd(3), np.arange(3) * 3.0)
    column, row = crowd(3)[1, 2].astype(int)
    maps[part][0, 2, row, column] = value
    with pytest.raises(PosecliError, match="not finite"):
        decode(*maps, DecodeConfig(), (160, 128))


def test_an_order_that_does_not_fit() -> None:
    with pytest.raises(PosecliError, match="each of the 5 keypoints once"):
        decode(*scene(crowd(2), np.arange(2.0)), OLDER, (160, 128))


def test_flat_tops_along_the_border_are_one_person() -> None:
    """Resizing repeats what lies on the border: a keypoint in the corner has four cells of the same value and tag."""
    people = np.array([[[0.0, 0.0], [4.3, 8.3]], [[20.3, 15.3], [20.3, 9.3]]])
    heatmaps, tags = scene(people, np.array([1.0, 6.0]), (32, 24))
    large = [functional.interpolate(maps, scale_factor=4, mode="bilinear") for maps in (heatmaps, tags[..., 0])]
    assert large[0][0, 0, 0, 0] == large[0][0, 0, 1, 1] == 1
    (found,) = decode(large[0], large[1][..., None], DecodeConfig(), (128, 96))
    assert len(found.keypoints) == 2
    assert found.keypoints[0, 0] == pytest.approx([0.25, 0.25])
