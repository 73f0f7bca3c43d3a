"""Codecs against the reference's numbers, against plain loops, and by what must hold for any keypoints."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from posecli.codecs import refinement
from posecli.codecs.codec import Codec
from posecli.codecs.heatmap import Heatmap, Variant
from posecli.codecs.regression import Regression
from posecli.codecs.simcc import SimCC

INPUT = (192, 256)
VARIANTS: tuple[Variant, ...] = ("plain", "dark", "udp")
PIXEL_ULP = 2e-5  # pixels: the reference decodes in float32, whose spacing at 250 is 1.5e-5
CELL_ULP = 4e-6  # cells: the same at 60


def codecs() -> dict[str, Codec[Any]]:
    """One of each kind, by name."""
    return {
        "plain": Heatmap(INPUT),
        "dark": Heatmap(INPUT, (48, 64), 2.0, "dark"),
        "udp": Heatmap(INPUT, (48, 64), 2.0, "udp"),
        "simcc": SimCC(INPUT),
        "simcc-rtmpose": SimCC(INPUT, (4.9, 5.66), normalize=False),
        "simcc-dark": SimCC(INPUT, normalize=False, dark=True),
        "simcc-one-hot": SimCC(INPUT, split=3.0, labels="one-hot", smoothing=0.1),
        "regression": Regression(INPUT),
    }


ALL = list(codecs())


def random_keypoints(seed: int, count: int = 20, low: float = 0.0, high: float = 1.0) -> Tensor:
    """(count, 17, 2) points of the input; `low` and `high` are shares of its sides."""
    generator = torch.Generator().manual_seed(seed)
    share = low + (high - low) * torch.rand(count, 17, 2, generator=generator)
    return share * (torch.tensor(INPUT) - 1)


def as_list(outputs: Tensor | tuple[Tensor, Tensor]) -> list[Tensor]:
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def like(codec: Codec[Any], tensors: list[Tensor]) -> Any:
    return tuple(tensors) if isinstance(codec, SimCC) else tensors[0]


def random_outputs(codec: Codec[Any], seed: int, count: int = 6) -> Any:
    """Uniform noise in the shape of a head's outputs: maxima anywhere, also on borders and in corners."""
    generator = torch.Generator().manual_seed(seed)
    return like(codec, [torch.rand(count, *shape, generator=generator) for shape in codec.output_shapes(17)])


# --- the reference's numbers -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def functional(golden: Path) -> dict[str, Tensor]:
    """functional.npz: MMPose 1.3.2's codecs, refinements and losses."""
    with np.load(golden / "functional.npz") as arrays:
        return {
            name: torch.from_numpy(arrays[name])
            for name in arrays.files
            if name.startswith(("encode/", "decode/", "refine/", "heatmap_maximum/", "gaussian_blur/"))
        }


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found.double().reshape(expected.shape) - expected.double()).abs().max())


HEATMAPS = [("msra", "plain"), ("msra_unbiased", "dark"), ("udp_gaussian", "udp")]


@pytest.mark.parametrize(("entry", "variant"), HEATMAPS)
def test_heatmap_targets_are_the_references(functional: dict[str, Tensor], entry: str, variant: Variant) -> None:
    source = f"encode/{entry}"
    targets = Heatmap(INPUT, (48, 64), 2.0, variant).encode(
        functional[f"{source}/in/keypoints"], functional[f"{source}/in/keypoints_visible"]
    )
    assert difference(targets["heatmaps"], functional[f"{source}/out/heatmaps"]) < 1e-6
    assert difference(targets["weights"], functional[f"{source}/out/keypoint_weights"]) == 0


@pytest.mark.parametrize(("entry", "variant"), HEATMAPS)
def test_heatmaps_decode_as_in_the_reference(functional: dict[str, Tensor], entry: str, variant: Variant) -> None:
    source = f"decode/{entry}"
    keypoints, scores = Heatmap(INPUT, (48, 64), 2.0, variant).decode(functional[f"{source}/in/heatmaps"][None])
    if variant == "udp":
        # The reference decodes UDP to pixels of input / (input - 1) times the size, and undoes it on the way to the
        # picture; here keypoints are pixels of the input, the same that `encode` takes.
        keypoints = keypoints * torch.tensor(INPUT) / (torch.tensor(INPUT) - 1)
    assert difference(keypoints, functional[f"{source}/out/keypoints"]) < PIXEL_ULP
    assert difference(scores, functional[f"{source}/out/scores"]) == 0


SIMCC = [
    ("simcc_gaussian_rtmpose", SimCC(INPUT, (4.9, 5.66), normalize=False)),
    ("simcc_gaussian_norm", SimCC(INPUT, 6.0)),
    ("simcc_dark", SimCC(INPUT, 6.0, normalize=False, dark=True)),
    ("simcc_standard", SimCC(INPUT, labels="one-hot")),
    ("simcc_standard_ls", SimCC(INPUT, split=3.0, labels="one-hot", smoothing=0.1)),
]


@pytest.mark.parametrize(("entry", "codec"), SIMCC)
def test_simcc_targets_are_the_references(functional: dict[str, Tensor], entry: str, codec: SimCC) -> None:
    source = f"encode/{entry}"
    targets = codec.encode(functional[f"{source}/in/keypoints"], functional[f"{source}/in/keypoints_visible"])
    assert difference(targets["x"], functional[f"{source}/out/keypoint_x_labels"]) < 1e-6
    assert difference(targets["y"], functional[f"{source}/out/keypoint_y_labels"]) < 1e-6
    assert difference(targets["weights"], functional[f"{source}/out/keypoint_weights"]) == 0


@pytest.mark.parametrize(("entry", "codec"), SIMCC[:3])  # the reference has decoded numbers for these
def test_simcc_decodes_as_in_the_reference(functional: dict[str, Tensor], entry: str, codec: SimCC) -> None:
    source = f"decode/{entry}"
    keypoints, scores = codec.decode((functional[f"{source}/in/simcc_x"], functional[f"{source}/in/simcc_y"]))
    assert difference(keypoints, functional[f"{source}/out/keypoints"]) < (PIXEL_ULP if codec.dark else 1e-6)
    assert difference(scores, functional[f"{source}/out/scores"]) == 0


def test_regression_is_the_references(functional: dict[str, Tensor]) -> None:
    codec = Regression(INPUT)
    source = "encode/regression"
    targets = codec.encode(functional[f"{source}/in/keypoints"], functional[f"{source}/in/keypoints_visible"])
    assert difference(targets["coordinates"], functional[f"{source}/out/keypoint_labels"]) < 1e-6
    assert difference(targets["weights"], functional[f"{source}/out/keypoint_weights"]) == 0
    keypoints, scores = codec.decode(functional["decode/regression/in/encoded"])
    assert difference(keypoints, functional["decode/regression/out/keypoints"]) < PIXEL_ULP
    assert difference(scores, functional["decode/regression/out/scores"]) == 0


def test_maxima_are_the_references(functional: dict[str, Tensor]) -> None:
    locations, values = refinement.maxima(functional["heatmap_maximum/in/heatmaps"][None])
    assert difference(locations, functional["heatmap_maximum/out/locs"]) == 0
    assert difference(values, functional["heatmap_maximum/out/vals"]) == 0


REFINEMENTS = [
    ("default", refinement.shift_quarter, 0.0),
    ("dark", refinement.refine_dark, CELL_ULP),
    ("dark_udp", refinement.refine_dark_udp, CELL_ULP),
]


@pytest.mark.parametrize(("entry", "refine", "tolerance"), REFINEMENTS)
def test_refinements_are_the_references(
    functional: dict[str, Tensor], entry: str, refine: Any, tolerance: float
) -> None:
    source = f"refine/{entry}"
    refined = refine(functional[f"{source}/in/keypoints"], functional[f"{source}/in/heatmaps"][None])
    assert difference(refined, functional[f"{source}/out/keypoints"]) <= tolerance


def test_blur_is_the_references(functional: dict[str, Tensor]) -> None:
    blurred = refinement.blur(functional["gaussian_blur/in/heatmaps"][None], 11)
    assert difference(blurred, functional["gaussian_blur/out/heatmaps"]) < 1e-6


# --- plain loops: the definitions, one keypoint at a time ------------------------------------------------------------


def loop_targets(points: np.ndarray, variant: Variant, sigma: float, size: tuple[int, int]) -> tuple[np.ndarray, list]:
    """Heatmaps (K, H, W) and weights of points (K, 2) in cells, cell by cell."""
    width, height = size
    maps, weights = np.zeros((len(points), height, width)), []
    for heatmap, (x, y) in zip(maps, points, strict=True):
        peak_x, peak_y = (x, y) if variant == "dark" else (int(x + 0.5), int(y + 0.5))
        reach = 3 * sigma
        weights.append(
            float(peak_x - reach < width and peak_y - reach < height and peak_x + reach >= -1 and peak_y + reach >= -1)
        )
        center = (peak_x, peak_y) if variant == "plain" else (x, y)
        for row in range(height):
            for column in range(width):
                near = abs(column - peak_x) <= reach and abs(row - peak_y) <= reach
                if weights[-1] and (near or variant == "dark"):
                    squared = (column - center[0]) ** 2 + (row - center[1]) ** 2
                    heatmap[row, column] = np.exp(-squared / (2 * sigma**2))
    return maps, weights


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_encode_equals_loops_also_outside(variant: Variant, sigma: float) -> None:
    codec = Heatmap((48, 64), (12, 16), sigma, variant)
    points = torch.rand(1, 60, 2, generator=torch.Generator().manual_seed(3)) * 3 * torch.tensor([48, 64])
    points = points - torch.tensor([48, 64])  # from one input size outside to one input size beyond
    targets = codec.encode(points, torch.ones(1, 60))
    maps, weights = loop_targets((points[0] / torch.tensor(codec.cell)).numpy(), variant, sigma, (12, 16))
    assert np.abs(targets["heatmaps"][0].numpy() - maps).max() < 1e-6
    assert targets["weights"][0].tolist() == weights
    assert 0 < sum(weights) < 60


def loop_decode(heatmap: np.ndarray, variant: Variant) -> tuple[float, float]:
    """The position in cells of the maximum of one map (H, W), as the papers say, borders as in the reference."""
    height, width = heatmap.shape
    y, x = (int(index) for index in np.unravel_index(heatmap.argmax(), heatmap.shape))
    if heatmap[y, x] <= 0:
        return -1.0, -1.0
    if variant == "plain":
        step_x = step_y = 0.0
        if 1 < x < width - 1 and 0 < y < height:
            step_x = 0.25 * np.sign(heatmap[y, x + 1] - heatmap[y, x - 1])
        if 1 < y < height - 1 and 0 < x < width:
            step_y = 0.25 * np.sign(heatmap[y + 1, x] - heatmap[y - 1, x])
        return x + step_x, y + step_y
    padded = np.pad(heatmap.astype(np.float64), 5)
    blurred = cv2.GaussianBlur(padded, (11, 11), 0)[5:-5, 5:-5]
    blurred *= heatmap.max() / blurred.max()
    if variant == "dark":
        if not (1 < x < width - 2 and 1 < y < height - 2):
            return x, y
        log = np.log(np.maximum(blurred, 1e-10))
        slope = np.array([log[y, x + 1] - log[y, x - 1], log[y + 1, x] - log[y - 1, x]]) / 2
        xx = (log[y, x + 2] - 2 * log[y, x] + log[y, x - 2]) / 4
        yy = (log[y + 2, x] - 2 * log[y, x] + log[y - 2, x]) / 4
        xy = (log[y + 1, x + 1] - log[y - 1, x + 1] - log[y + 1, x - 1] + log[y - 1, x - 1]) / 4
        hessian = np.array([[xx, xy], [xy, yy]])
    else:
        log = np.pad(np.log(np.clip(blurred, 1e-3, 50)), 1, mode="edge")
        x, y = x + 1, y + 1
        slope = np.array([log[y, x + 1] - log[y, x - 1], log[y + 1, x] - log[y - 1, x]]) / 2
        xx = log[y, x + 1] - 2 * log[y, x] + log[y, x - 1]
        yy = log[y + 1, x] - 2 * log[y, x] + log[y - 1, x]
        xy = log[y + 1, x + 1] - log[y, x + 1] - log[y + 1, x] + 2 * log[y, x]
        xy = (xy - log[y, x - 1] - log[y - 1, x] + log[y - 1, x - 1]) / 2
        hessian = np.array([[xx, xy], [xy, yy]]) + np.finfo(np.float32).eps * np.eye(2)
        x, y = x - 1, y - 1
    moved_x, moved_y = (x, y) - np.linalg.solve(hessian, slope)
    inside = -1 < moved_x < width and -1 < moved_y < height  # as ours: elsewhere there is no peak
    return (moved_x, moved_y) if inside else (x, y)


def maps_with_maxima_everywhere() -> Tensor:
    """(1, 12 * 16, 16, 12): weak noise and one peak, on each cell in turn."""
    noise = torch.rand(1, 192, 192, generator=torch.Generator().manual_seed(5))
    return (noise + 2 * torch.eye(192)).reshape(1, 192, 16, 12)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("smooth", [False, True], ids=["noise", "gaussian"])
def test_decode_equals_loops_on_every_cell(variant: Variant, smooth: bool) -> None:
    codec = Heatmap((48, 64), (12, 16), 1.5, variant)
    heatmaps = maps_with_maxima_everywhere()
    if smooth:
        heatmaps = refinement.blur(heatmaps, 5).float()
    keypoints, _ = codec.decode(heatmaps)
    expected = np.array([loop_decode(heatmap, variant) for heatmap in heatmaps[0].numpy()]) * codec.cell
    error = np.abs(keypoints[0].numpy() - expected) / np.maximum(1, np.abs(expected))
    assert error.max() < 1e-5  # relative: a Newton step on noise can be long


@pytest.mark.parametrize("variant", ["dark", "udp"])
def test_maps_without_a_peak_give_places_on_the_map(variant: Variant) -> None:
    """As of a network that has learnt little; Taylor steps on them go anywhere."""
    codec = Heatmap((192, 256), (48, 64), 2.0, variant)
    generator = torch.Generator().manual_seed(0)
    slopes = torch.linspace(0, 1, 48)[None, None, None] + torch.linspace(0, 1, 64)[None, None, :, None]
    maps = slopes + 1e-3 * torch.rand(1, 500, 64, 48, generator=generator)
    maps[:, 250:] = torch.rand(1, 250, 64, 48, generator=generator)
    keypoints, _ = codec.decode(maps)
    assert (keypoints > -4.1).all()
    assert (keypoints < torch.tensor([192.0, 256.0]) + 4.1).all()


# --- what must hold for any keypoints ---------------------------------------------------------------------------------

RESOLUTION = [
    # codec, share of the input from which points are drawn, largest error in input pixels along an axis
    ("plain", (0.0, 0.97), 2.001, "half a cell of 4 pixels; the last 2 pixels have their nearest cell outside"),
    ("dark", (0.0, 0.97), 2.001, "half a cell at the border"),
    ("dark", (0.15, 0.85), 0.01, "0.002 cells well inside"),
    ("udp", (0.0, 1.0), 4.1, "a cell at the border"),
    ("udp", (0.15, 0.85), 0.01, "0.002 cells well inside"),
    ("simcc", (0.0, 1.0), 0.251, "half a bin of half a pixel"),
    ("simcc-rtmpose", (0.0, 1.0), 0.251, "half a bin of half a pixel"),
    ("simcc-dark", (0.2, 0.8), 0.26, "labels stand on bins"),
    ("simcc-one-hot", (0.0, 1.0), 0.167, "half a bin of a third of a pixel"),
    ("regression", (0.0, 1.0), 1e-4, "exact"),
]


@pytest.mark.parametrize(("name", "region", "pixels", "note"), RESOLUTION)
def test_decoding_targets_gives_the_keypoints_back(
    name: str, region: tuple[float, float], pixels: float, note: str
) -> None:
    codec = codecs()[name]
    keypoints = random_keypoints(1, 40, *region)
    targets = codec.encode(keypoints, torch.ones(40, 17))
    decoded, scores = codec.decode(codec.perfect(targets))
    assert (targets["weights"] == 1).all()
    assert (decoded - keypoints).abs().max() < pixels, note
    assert (scores > 0).all()


@pytest.mark.parametrize("name", ALL)
def test_unlabelled_keypoints_poison_nothing(name: str) -> None:
    codec = codecs()[name]
    keypoints, visible = random_keypoints(2, 3), torch.ones(3, 17)
    clean = codec.encode(keypoints, visible)
    for row, value in ((0, float("nan")), (1, float("inf")), (2, -float("inf"))):
        keypoints[row, row + 3] = value
        visible[row, row + 3] = row % 2  # also infinite and yet called visible
    targets = codec.encode(keypoints, visible)
    for key, tensor in targets.items():
        assert torch.isfinite(tensor).all(), key
        rest = torch.ones(3, 17, dtype=torch.bool)
        rest[[0, 1, 2], [3, 4, 5]] = False
        assert torch.equal(tensor[rest], clean[key][rest]), key
    assert targets["weights"][[0, 1, 2], [3, 4, 5]].tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", ALL)
def test_weights_follow_visibility(name: str) -> None:
    keypoints = torch.tensor([[96.0, 128.0]]).expand(1, 4, 2)
    weights = codecs()[name].encode(keypoints, torch.tensor([[0, 1, 2, 0]]))["weights"]
    assert weights.tolist() == [[0, 1, 1, 0]]
    assert weights.dtype == torch.float32


OUTSIDE = [
    # codec, x in input pixels, weight, why
    ("plain", -27.9, 1.0, "cell -6.98 goes to -6 (towards zero): 3 sigma reach cell 0"),
    ("plain", -34.1, 0.0, "cell -8.5 goes to -8, its reach ends before cell -1"),
    ("plain", 212.0, 1.0, "cell 53 reaches cell 47"),
    ("plain", 214.1, 0.0, "cell 54 begins at 48"),
    ("dark", -27.9, 1.0, "the right end, cell 0.03, is inside"),
    ("dark", -28.1, 0.0, "the right end, cell -0.03, is outside"),
    ("simcc", -9.4, 1.0, "bin -19 reaches bin 0"),
    ("simcc", -10.0, 0.0, "bin -20 does not"),
    ("simcc-one-hot", -0.2, 0.0, "bin -1"),
    ("simcc-one-hot", 191.9, 0.0, "bin 576 of 576"),
    ("regression", -0.1, 0.0, "left of the first pixel centre"),
    ("regression", 191.0, 1.0, "the last pixel centre"),
    ("regression", 191.1, 0.0, "beyond the last pixel centre"),
]


@pytest.mark.parametrize(("name", "x", "weight", "why"), OUTSIDE)
def test_keypoints_out_of_reach_have_no_weight(name: str, x: float, weight: float, why: str) -> None:
    targets = codecs()[name].encode(torch.tensor([[[x, 128.0]]]), torch.ones(1, 1))
    assert targets["weights"].item() == weight, why


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shift", [False, None])
def test_flipping_twice(name: str, shift: bool | None) -> None:
    codec = codecs()[name]
    index = torch.tensor([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15])
    outputs = random_outputs(codec, 3)
    twice = codec.flip(codec.flip(outputs, index, shift), index, shift)
    same = [torch.allclose(first, second) for first, second in zip(as_list(outputs), as_list(twice), strict=True)]
    if shift is False or name not in ("plain", "dark"):
        assert all(same)  # a shift of coordinates is undone by the second mirror
    else:
        shifted = as_list(outputs)[0]
        assert torch.equal(as_list(twice)[0][..., 2:-1], shifted[..., 2:-1])


FLIPS = [
    # codec, shift, how far the mirrored picture's decoded keypoints lie right of the original's, input pixels
    ("dark", False, -3.0, "cells 4 pixels wide: the mirrored grid lies 3 pixels to the left"),
    ("dark", None, 1.0, "and one cell more is 1 to the right"),
    ("plain", False, -4.0, "3 to the left, in whole cells"),
    ("plain", None, 0.0, "1 to the right, in whole cells"),
    ("udp", None, 0.0, "grids end at pixel centres: no gap"),
    ("simcc-rtmpose", None, 0.5, "bins of half a pixel: one bin"),
    ("simcc-rtmpose", True, 0.0, "made up for"),
    ("regression", False, 1.0, "1 - x / width is one pixel too far"),
    ("regression", None, 0.0, "made up for"),
]


@pytest.mark.parametrize(("name", "shift", "gap", "note"), FLIPS)
def test_flip_test_of_mirrored_pictures(name: str, shift: bool | None, gap: float, note: str) -> None:
    codec = codecs()[name]
    index = torch.tensor([1, 0, 2, *range(3, 17)])
    cells = torch.randint(8, 40, (8, 17, 2), generator=torch.Generator().manual_seed(8))
    keypoints = cells * torch.tensor(getattr(codec, "cell", (4.0, 4.0)))
    # mirrored pictures, as a perfect network sees them: mirrored points, partners swapped
    mirrored = keypoints[:, index].clone()
    mirrored[..., 0] = INPUT[0] - 1 - mirrored[..., 0]
    visible = torch.ones(8, 17)
    back = codec.flip(codec.perfect(codec.encode(mirrored, visible)), index, shift)
    decoded, _ = codec.decode(back)
    offset = decoded - keypoints
    assert (offset[..., 0] - gap).abs().max() < 0.02, note
    assert offset[..., 1].abs().max() < 0.02


@pytest.mark.parametrize("name", ALL)
def test_a_batch_is_its_instances(name: str) -> None:
    codec = codecs()[name]
    outputs = as_list(random_outputs(codec, 4))
    whole = codec.decode(like(codec, outputs))
    for row in range(len(outputs[0])):
        single = codec.decode(like(codec, [tensor[row : row + 1] for tensor in outputs]))
        for part, all_rows in zip(single, whole, strict=True):
            torch.testing.assert_close(part[0], all_rows[row], rtol=0, atol=1e-4)
    keypoints, visible = random_keypoints(5, 4), torch.ones(4, 17)
    targets = codec.encode(keypoints, visible)
    for row in range(4):
        single_targets = codec.encode(keypoints[row : row + 1], visible[row : row + 1])
        assert all(torch.equal(single_targets[key][0], targets[key][row]) for key in targets)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), -float("inf")])
def test_outputs_without_evidence_decode_to_finite_values(name: str, value: float) -> None:
    codec = codecs()[name]
    outputs = [torch.full((2, *shape), value) for shape in codec.output_shapes(17)]
    keypoints, scores = codec.decode(like(codec, outputs))
    assert keypoints.shape == (2, 17, 2)
    assert scores.shape == (2, 17)
    assert torch.isfinite(keypoints).all()
    assert torch.isfinite(scores).all()
    if name != "regression":  # which has no confidence
        assert (scores <= 0).all()
        assert (keypoints < 0).all()
    elif not np.isfinite(value):
        assert (scores == 0).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_few_broken_cells_do_not_matter(variant: Variant) -> None:
    codec = Heatmap(INPUT, variant=variant)
    targets = codec.encode(torch.full((1, 1, 2), 80.0), torch.ones(1, 1))
    heatmaps = targets["heatmaps"].clone()
    heatmaps[0, 0, 50, 40], heatmaps[0, 0, 60, 10] = float("nan"), float("inf")
    torch.testing.assert_close(codec.decode(heatmaps), codec.decode(targets["heatmaps"]))


@pytest.mark.parametrize("variant", VARIANTS)
def test_constant_maps_decode_to_their_first_cell(variant: Variant) -> None:
    keypoints, scores = Heatmap(INPUT, variant=variant).decode(torch.ones(1, 1, 64, 48))
    assert scores.item() == 1
    assert torch.isfinite(keypoints).all()
    if variant != "udp":  # the blur darkens the border and a Newton step there has no bound
        assert keypoints.tolist() == [[[0, 0]]]


@pytest.mark.parametrize("refine", [refinement.refine_dark, refinement.refine_dark_udp])
@pytest.mark.parametrize("value", [1e-12, 0.1, 1.0, 60.0])
def test_nothing_moves_on_flat_ground(refine: Any, value: float) -> None:
    locations = torch.tensor([[[24.0, 32.0], [15.0, 20.0]]])
    assert (refine(locations, torch.full((1, 2, 64, 48), value)) - locations).abs().max() < 1e-6


def test_rounding_noise_on_flat_ground_is_no_slope() -> None:
    noise = torch.rand(1, 50, 64, 48, generator=torch.Generator().manual_seed(10))
    locations = torch.tensor([24.0, 32.0]).expand(1, 50, 2)
    assert torch.equal(refinement.refine_dark(locations, 1 + 3e-7 * noise), locations)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_are_decoded_in_float32(name: str, dtype: torch.dtype) -> None:
    codec = codecs()[name]
    halves = [tensor.to(dtype) for tensor in as_list(random_outputs(codec, 6))]
    with torch.autocast("cpu", torch.bfloat16):
        keypoints, scores = codec.decode(like(codec, halves))
    expected_keypoints, expected_scores = codec.decode(like(codec, [tensor.float() for tensor in halves]))
    assert keypoints.dtype == scores.dtype == torch.float32
    assert torch.equal(keypoints, expected_keypoints)
    assert torch.equal(scores, expected_scores)


@pytest.mark.parametrize("name", ALL)
def test_targets_have_the_shapes_heads_must_give(name: str) -> None:
    codec = codecs()[name]
    targets = codec.encode(random_keypoints(7, 2), torch.ones(2, 17))
    shapes = [tuple(tensor.shape) for tensor in as_list(codec.perfect(targets))]
    assert shapes == [(2, *shape) for shape in codec.output_shapes(17)]
    assert all(tensor.dtype == torch.float32 for tensor in targets.values())


@pytest.mark.parametrize("name", ALL)
def test_codecs_can_be_pickled_and_copied(name: str) -> None:
    codec = codecs()[name]
    outputs = random_outputs(codec, 9, count=1)
    for twin in (pickle.loads(pickle.dumps(codec)), copy.deepcopy(codec)):
        assert torch.equal(twin.decode(outputs)[0], codec.decode(outputs)[0])


@pytest.mark.parametrize("name", ALL)
def test_no_instances(name: str) -> None:
    codec = codecs()[name]
    targets = codec.encode(torch.zeros(0, 17, 2), torch.zeros(0, 17))
    keypoints, scores = codec.decode(codec.perfect(targets))
    assert keypoints.shape == (0, 17, 2)
    assert scores.shape == (0, 17)


def test_average_of_outputs() -> None:
    plain, simcc = codecs()["plain"], codecs()["simcc"]
    one, three = torch.ones(1, 17, 64, 48), torch.full((1, 17, 64, 48), 3.0)
    assert (plain.average(one, three) == 2).all()
    x, y = simcc.average((one, three), (three, three))
    assert (x == 2).all()
    assert (y == 3).all()


WRONG = [
    (lambda: Heatmap((190, 256)), "stride of 4 does not divide the input size 190 x 256"),
    (lambda: Heatmap(INPUT, variant="darkk"), "there are plain, dark and udp"),  # type: ignore[arg-type]
    (lambda: Heatmap(INPUT, blur_kernel=10), "must be odd"),
    (lambda: Heatmap(INPUT, sigma=0), "sigma positive"),
    (lambda: SimCC(INPUT, labels="hard"), "there are gaussian and one-hot"),  # type: ignore[arg-type]
    (lambda: SimCC(INPUT, smoothing=1.0), "smoothing must be"),
    (lambda: SimCC(INPUT, split=0), "must be positive"),
]


@pytest.mark.parametrize(("build", "message"), WRONG)
def test_wrong_numbers_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
