"""Volumes and back, losses against what they stand for, mirrors, and the way through the camera."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from posecli.batch import Batch, collate
from posecli.console import PosecliError
from posecli.datasets.interhand import interhand_dataset
from posecli.datasets.synthetic_hands import synthetic_hands
from posecli.nn.config import ResNetConfig
from posecli.skeleton import house_skeleton
from posecli.types import Dataset, FloatArray
from posecli_interhand.build import build_internet
from posecli_interhand.config import HandLossConfig, InterNetConfig
from posecli_interhand.heads import HandOutputs
from posecli_interhand.losses import place_error, root_error, type_error, volume_entropy, volume_error
from posecli_interhand.model import InterHand, in_camera
from posecli_interhand.transform import HandsTransform
from posecli_interhand.volume import Decoding, DepthBins, Volume

SMALL = Volume((32, 24), (8, 6), 10, bound=400.0, sigma=1.0, peak=3.0)


def joints(count: int = 5, seed: int = 0) -> Tensor:
    """Joints (2, count, 3) within SMALL's volume."""
    low, high = torch.tensor([4.0, 4.0, -120.0]), torch.tensor([26.0, 18.0, 120.0])
    return low + (high - low) * torch.rand(2, count, 3, generator=torch.Generator().manual_seed(seed))


def volumes(count: int = 5, seed: int = 1) -> Tensor:
    return torch.randn(2, count, 10, 6, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- volumes --------------------------------------------------------------------------------------------------------


def test_a_blob_is_the_gaussian_at_its_place() -> None:
    """Voxel by voxel, with 3 sigma as its end along each axis."""
    points = joints(1)[:1]
    made = SMALL.encode(points, torch.ones(1, 1)).full()[0, 0]
    x, y, z = (points[0, 0] / torch.tensor([4.0, 4.0, 40.0]) + torch.tensor([0.0, 0.0, 5.0])).tolist()
    for place in np.ndindex(10, 6, 8):
        off = np.array(place) - [z, y, x]
        far = any(abs(voxel - round(middle)) > 3 + 0.5 for voxel, middle in zip(place, (z, y, x), strict=True))
        true = 0.0 if far else 3 * np.exp(-(off @ off) / 2)
        assert made[place].item() == pytest.approx(true, abs=1e-5) or abs(off).max() > 2.5


def test_decoding_between_voxels_is_exact() -> None:
    points = joints(200)
    found, scores = SMALL.decode(SMALL.encode(points, torch.ones(2, 200)).full())
    assert (found - points).abs().max() < 1e-3
    assert (scores > 0.6).all()
    assert (scores <= 1).all()


def test_the_mean_of_a_whole_gaussian_is_its_place() -> None:
    """Joints well inside; of two blobs, one three times as high, the mean lies between them by their shares."""
    volume = Volume((64, 64), (16, 16), 16, bound=400.0, sigma=1.0, peak=3.0)
    voxels = 4 + 7 * torch.rand(1, 50, 3, generator=torch.Generator().manual_seed(0))
    cells = torch.tensor(volume.cells)
    points = (voxels - torch.tensor([0, 0, 8])) * cells
    volumes = volume.encode(points, torch.ones(1, 50)).full()
    found, scores = volume.decode(volumes, "mean")
    assert ((found - points) / cells).abs().max() < 0.03
    assert torch.equal(scores, volume.decode(volumes, "highest")[1])
    both = volumes[:, :1] + volumes[:, 1:2] / 3
    between = (3 * found[:, 0] + found[:, 1]) / 4
    assert torch.allclose(volume.decode(both, "mean")[0][:, 0] / cells, between / cells, atol=0.02)


def test_the_error_of_places_counts_voxels_of_visible_joints() -> None:
    truth = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 4.0, 4.0]]])
    places = truth + torch.tensor([[[0.5, -1.0, 0.0], [9.0, 9.0, 9.0]]])
    assert place_error(places, truth, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(1.5 / 2)


def test_nearest_voxels_are_half_a_voxel_off_at_most() -> None:
    points = joints(200)
    found, _ = SMALL.decode(SMALL.encode(points, torch.ones(2, 200)).full(), "highest")
    cells = torch.tensor(SMALL.cells)
    off = (found - points).abs() / cells
    assert off.max() <= 0.5 + 1e-5
    assert off.max() > 0.4
    assert torch.allclose(found / cells, (found / cells).round(), atol=1e-5)


@pytest.mark.parametrize(
    ("point", "visible", "weight"),
    [
        ((10.0, 10.0, 0.0), 1.0, 1.0),
        ((10.0, 10.0, 0.0), 0.0, 0.0),
        ((10.0, 10.0, -201.0), 1.0, 0.0),
        ((10.0, 10.0, 200.0), 1.0, 0.0),
        ((900.0, 10.0, 0.0), 1.0, 1.0),
        ((float("nan"), 10.0, 0.0), 1.0, 0.0),
    ],
    ids=["inside", "not visible", "before the volume", "behind it", "beside the picture: nothing is there", "unknown"],
)
def test_which_joints_count(point: tuple[float, float, float], visible: float, weight: float) -> None:
    blobs = SMALL.encode(torch.tensor([[point]]), torch.tensor([[visible]]))
    assert blobs.weights.item() == weight
    assert torch.isfinite(blobs.full()).all()
    if point[0] > 32:
        assert blobs.full().abs().max() == 0


def test_flat_and_wild_volumes_are_decoded_to_something_finite() -> None:
    wild = torch.zeros(1, 4, 10, 6, 8)
    wild[0, 1] = float("nan")
    wild[0, 2] = -1.0
    wild[0, 3, 0, 0, 0] = 1.0
    points, scores = SMALL.decode(wild)
    assert torch.isfinite(points).all()
    assert torch.isfinite(scores).all()
    assert points[0, 3].tolist() == [0.0, 0.0, -200.0]


def test_logits_of_a_gaussian_are_the_gaussian() -> None:
    volume = Volume((64, 64), (16, 16), 16, sigma=1.5, peak=2.0)
    points = torch.tensor([[[30.0, 33.0, 5.0]]])
    full = volume.encode(points, torch.ones(1, 1)).full()
    again = volume.of_logits((full / 2).clamp(min=1e-12).log())
    assert (again - full).abs().max() < 0.02
    assert (volume.decode(again)[0] - points).abs().max() < 0.01


@pytest.mark.parametrize("depth", [-199.0, -31.5, 0.0, 120.0])
def test_depth_bins(depth: float) -> None:
    bins = DepthBins(64, 400.0)
    places, weights = bins.encode(torch.tensor([depth]), torch.ones(1))
    assert weights.item() == 1
    assert bins.decode(places).item() == pytest.approx(depth, abs=1e-3)
    assert bins.decode(bins.flip(places)).item() == pytest.approx(-depth, abs=1e-3)


def test_depths_beyond_the_bins_do_not_count() -> None:
    _, weights = DepthBins().encode(torch.tensor([201.0, -201.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 0.0, 1.0]))
    assert weights[:, 0].tolist() == [0, 0, 0, 1]


# --- losses ---------------------------------------------------------------------------------------------------------


def test_the_error_of_volumes_equals_that_against_full_ones() -> None:
    """Value and gradient, weights 0, 1 and between; no full volume is made."""
    weights = torch.tensor([[1.0, 0.0, 0.5, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0, 0.25]])
    blobs = SMALL.encode(joints(), torch.ones(2, 5))._replace(weights=weights)
    own, full = (volumes().float().requires_grad_() for _ in range(2))
    expected = (((full - blobs.full()) ** 2).mean(dim=(2, 3, 4)) * weights).mean()
    found = volume_error(own, blobs)
    (3 * expected).backward()
    (3 * found).backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert own.grad is not None
    assert full.grad is not None
    assert (own.grad - full.grad).abs().max() < 1e-7


def test_the_entropy_of_volumes_equals_that_against_full_ones() -> None:
    """One joint is unknown; the others have Gaussians that sum to 1."""
    known = torch.ones(2, 5)
    known[1, 3] = 0
    blobs = SMALL.encode(joints(), known)
    target = blobs.full().double().flatten(2)
    target = target / target.sum(dim=2, keepdim=True) * known[..., None]
    expected = -(target * torch.log_softmax(volumes().flatten(2), dim=2)).sum(dim=2).mean()
    assert volume_entropy(volumes(), blobs).item() == pytest.approx(expected.item(), rel=1e-5)


def test_what_is_not_known_costs_nothing() -> None:
    blobs = SMALL.encode(joints(), torch.zeros(2, 5))
    zero = torch.zeros(2)
    assert volume_error(volumes().float(), blobs) == 0
    assert volume_entropy(volumes().float(), blobs) == 0
    assert root_error(torch.ones(2, 1), torch.zeros(2, 1), zero[:, None]) == 0
    assert type_error(torch.ones(2, 2), torch.zeros(2, 2), zero) == 0


# --- the model ------------------------------------------------------------------------------------------------------


def small_model(**fields: object) -> InterHand:
    torch.manual_seed(0)
    config = InterNetConfig(
        backbone=ResNetConfig(depth=18, stages=3), input_size=(64, 64), depth=16, deconv_filters=8, hidden=8
    )
    return build_internet(config.model_copy(update=fields), house_skeleton("interhand")).eval()


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic_hands(6, seed=1)


def batch_of(model: InterHand, dataset: Dataset) -> Batch:
    transform = model.transform(train=False)
    return collate([transform(dataset[index], np.random.default_rng(0)) for index in range(len(dataset))])


def perfect(model: InterHand, batch: Batch) -> HandOutputs:
    """What an ideal network would say."""
    targets = batch.targets
    points = torch.cat([targets["keypoints"], targets["depth"][..., None]], dim=-1)
    places, _ = model.bins.encode(targets["root_depth"], targets["root_valid"])
    return HandOutputs(model.volume.encode(points, targets["visible"]).full(), places, 20 * targets["hand_type"] - 10)


@pytest.mark.parametrize("flip_test", [False, True])
def test_ideal_outputs_give_the_truth_in_millimetres(
    dataset: Dataset, flip_test: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also averaged with those for the mirrored picture, to within the voxel that the mirrored grid is shifted by."""
    model = small_model(flip_test=flip_test)
    batch = batch_of(model, dataset)
    outputs = iter([perfect(model, batch), model.flip(perfect(model, batch))])
    monkeypatch.setattr(model, "outputs", lambda images: next(outputs))
    for row, prediction in enumerate(model.predict(batch)):
        people, truth = prediction.people, dataset[row].people
        known = batch.targets["visible"][row].numpy() > 0
        error = np.linalg.norm(people.keypoints[0] - truth.extra["keypoints_3d"][0], axis=1)[known]
        assert np.quantile(error, 0.9) < (9.0 if flip_test else 0.1)  # 12 mm a voxel; at borders they are not exact
        assert (people.extra["hand_type"][0] > 0.5).tolist() == (truth.extra["hand_type"][0] > 0).tolist()
        if truth.extra["root_valid"][0]:
            assert people.extra["root_depth"][0] == pytest.approx(truth.extra["root_depth"][0], abs=0.01)
        assert people.extra["row"].tolist() == [0]
        pixels = people.extra["keypoints_2d"][0][known]
        assert np.median(np.abs(pixels - truth.keypoints[0][known])) < (2.5 if flip_test else 0.01)


def test_a_mirrored_picture_gives_the_other_hand(dataset: Dataset) -> None:
    """Exactly, where volumes are not shifted: outputs for the mirrored picture, mirrored back, decode to the mirror."""
    model = small_model()
    outputs = perfect(model, batch_of(model, dataset))
    volume = model.volume
    twice = volume.flip(volume.flip(outputs.volumes, model.flip_index, False), model.flip_index, False)
    assert torch.equal(twice, outputs.volumes)
    points, _ = volume.decode(outputs.volumes)
    mirrored, _ = volume.decode(volume.flip(outputs.volumes, model.flip_index, shift=False))
    expected = points[:, model.flip_index].clone()
    expected[..., 0] = 60 - expected[..., 0]  # 16 cells of 4 pixels: cell c has its mirror at 15 - c
    shown = outputs.volumes.amax(dim=(2, 3, 4))[:, model.flip_index] > 0
    assert (mirrored - expected).abs()[shown].max() < 1e-3


def test_without_depths_predictions_stay_pixels(dataset: Dataset) -> None:
    sample = dataset[0]
    points = np.random.default_rng(0).uniform(0, 100, (42, 3))
    bare = dataclasses.replace(sample, camera=None)
    np.testing.assert_allclose(in_camera(bare, points, 10.0), points, rtol=1e-6)


@pytest.mark.parametrize("camera", [True, False], ids=["with a camera", "without"])
def test_predictions_say_whether_they_are_in_millimetres(dataset: Dataset, camera: bool) -> None:
    model = small_model()
    batch = batch_of(model, dataset)
    if not camera:
        bare = tuple(dataclasses.replace(sample, camera=None) for sample in batch.samples)
        batch = dataclasses.replace(batch, samples=bare)
    with torch.inference_mode():
        found = [prediction.people for prediction in model.predict(batch)]
    for people in found:
        assert people.extra["in_camera"].tolist() == [camera]
        assert np.array_equal(people.keypoints[..., :2], people.extra["keypoints_2d"]) is not camera


def test_of_one_known_wrist_the_other_follows(dataset: Dataset) -> None:
    sample = dataset[0]
    points = np.zeros((42, 3))
    for known in ((700.0, np.nan), (np.nan, 730.0)):
        people = sample.people.with_extra(absolute_depth=np.array([known]))
        placed = in_camera(dataclasses.replace(sample, people=people), points, 30.0)
        assert placed[20, 2] == pytest.approx(700)
        assert placed[41, 2] == pytest.approx(730)


def test_losses_by_name_and_weight(dataset: Dataset) -> None:
    plain, weighted = small_model(), small_model(loss=HandLossConfig(keypoints=2, root_depth=0, hand_type=3))
    weighted.load_state_dict(plain.state_dict())
    batch = batch_of(plain, dataset)
    first, second = plain.losses(batch), weighted.losses(batch)
    assert list(first) == ["keypoints", "root_depth", "hand_type"]
    for name, factor in zip(first, (2, 0, 3), strict=True):
        assert second[name].item() == pytest.approx(factor * first[name].item(), rel=1e-5)


def test_other_skeletons_are_refused() -> None:
    with pytest.raises(PosecliError, match="use a top-down model for single hands"):
        build_internet(InterNetConfig(), house_skeleton("coco"))


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(PosecliError, match="no multiple of the stride"):
        build_internet(InterNetConfig(input_size=(250, 256)), house_skeleton("interhand"))


# --- real hands -----------------------------------------------------------------------------------------------------


def round_trip(dataset: Dataset, how: Decoding) -> FloatArray:
    """How far, in millimetres, the true joints of real pictures come back from volumes of the reference's size."""
    volume = Volume((256, 256), (64, 64), 64)
    transform = HandsTransform(dataset.skeleton, (256, 256))
    errors = []
    for index in range(len(dataset)):
        sample = dataset[index]
        example = transform(sample, np.random.default_rng(0))
        points = np.c_[example.targets["keypoints"], example.targets["depth"]][None]
        blobs = volume.encode(torch.from_numpy(points), torch.from_numpy(example.targets["visible"])[None])
        assert np.array_equal(blobs.weights[0] > 0, example.targets["visible"] > 0)
        found = volume.decode(blobs.full(), how)[0][0].double().numpy()
        found[:, :2] = found[:, :2] @ example.undo[:, :2].T + example.undo[:, 2]
        placed = in_camera(sample, found, float(example.targets["root_depth"]))
        known = example.targets["visible"] > 0
        errors.append(np.linalg.norm(placed - sample.people.extra["keypoints_3d"][0], axis=1)[known])
    return np.concatenate(errors)


def test_real_hands_return_from_volumes(shared: Path) -> None:
    """The four samples of InterHand2.6M: within 0.1 mm between voxels; nearest voxels 2 mm off in the mean."""
    folder = shared / "data" / "format-samples" / "interhand2.6m"
    dataset = interhand_dataset(folder / "test_interhand2.6m_data.json", folder)
    assert len(dataset) == 4
    assert round_trip(dataset, "between").max() <= 0.1
    nearest = round_trip(dataset, "highest")
    assert 1.5 < nearest.mean() < 2.5
    assert nearest.max() < 4.5
