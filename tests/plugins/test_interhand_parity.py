"""InterNet with the weights of MMPose 1.3.2 and 0.29.0, brought over by `posecli import mmpose`, gives their numbers.

The numbers and the rule for weights are those of reference/golden/README.md and README-0.29.md in the shared folder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_rule import golden_input, golden_state, import_state
from torch import Tensor

from posecli.batch import Batch, collate
from posecli.checkpoint import open_model
from posecli.datasets.interhand import interhand_dataset
from posecli.geometry import crop_matrix, invert
from posecli.nn.heads import HeatmapHead
from posecli.types import Array
from posecli_interhand.heads import HandHead, HandOutputs
from posecli_interhand.losses import root_error, type_error, volume_error
from posecli_interhand.model import InterHand
from posecli_interhand.volume import Blobs, DepthBins, Volume

OLDER = "interhand3d29_res50"
NEWER = "internet_res50_4xb16-20e_interhand3d-256x256"
CONFIG = "interhand/interhand3d/resnet-50"
SWAP = torch.tensor([*range(21, 42), *range(21)])
TARGET = "target.heatmap(sigma 2,max_bound 255,depth_bound 400)"


@dataclass(frozen=True)
class Reference:
    """What the reference gave."""

    facts: dict[str, Any]
    arrays: dict[str, Array]

    def compare(self, name: str, ours: Tensor, tolerance: float) -> None:
        """Against a slice and the sums of every channel."""
        (sliced,) = [key for key in self.arrays if key.startswith(f"{name}#flat")]
        step = int(sliced.split("::")[1].rstrip("]"))
        values = ours.numpy()
        assert np.abs(values.reshape(-1)[::step] - self.arrays[sliced]).max() <= tolerance
        rows = values.reshape(*self.arrays[f"{name}#chan_sum"].shape, -1).astype(np.float64)
        assert np.abs(rows.sum(-1) - self.arrays[f"{name}#chan_sum"]).max() <= tolerance * rows.shape[-1]
        squares = self.arrays[f"{name}#chan_sumsq"]
        assert np.abs((rows**2).sum(-1) - squares).max() <= 2 * tolerance * np.sqrt(squares * rows.shape[-1]).max()


def read(golden: Path, name: str) -> Reference:
    with np.load(golden / f"{name}.npz") as archive:
        return Reference(json.loads((golden / f"{name}.json").read_text()), dict(archive))


@pytest.fixture(scope="module")
def older(golden: Path) -> Reference:
    return read(golden, OLDER)


@pytest.fixture(scope="module")
def newer(golden: Path) -> Reference:
    return read(golden, NEWER)


def imported(reference: Reference, folder: Path) -> InterHand:
    """What `posecli import mmpose` makes of a file with the reference's weights and names."""
    ours = import_state(golden_state(reference.facts), folder, "--config", CONFIG, "--skeleton", "interhand")
    model, _, _ = open_model(ours)
    ours.unlink()
    assert isinstance(model, InterHand)
    assert sum(parameter.numel() for parameter in model.parameters()) == reference.facts["params"]
    return model


@pytest.fixture(scope="module")
def older_model(older: Reference, tmp_path_factory: pytest.TempPathFactory) -> InterHand:
    return imported(older, tmp_path_factory.mktemp("older"))


@pytest.fixture(scope="module")
def newer_model(newer: Reference, tmp_path_factory: pytest.TempPathFactory) -> InterHand:
    return imported(newer, tmp_path_factory.mktemp("newer"))


def image() -> Tensor:
    return golden_input((1, 3, 256, 256))


def raw(model: InterHand, images: Tensor) -> HandOutputs:
    with torch.inference_mode():
        outputs: HandOutputs = model.network()(images)
    return outputs


# --- the network of 1.x ---------------------------------------------------------------------------------------------


def test_raw_outputs_of_1x(newer: Reference, newer_model: InterHand) -> None:
    outputs = raw(newer_model, image())
    sensitivity, spread = newer.facts["input_sensitivity"], newer.facts["tensors"]
    newer.compare("out.0", outputs.volumes, 1e-3 * sensitivity["out.0"] * spread["out.0"]["std"])
    assert abs(outputs.root.item() - newer.arrays["out.1"].item()) <= 1e-3 * sensitivity["out.1"] * 64
    error = np.abs(outputs.hand_type.numpy() - newer.arrays["out.2"]).max()
    assert error <= 1e-3 * sensitivity["out.2"] * spread["out.2"]["std"]


@pytest.fixture(scope="module")
def loss_batch(newer: Reference, newer_model: InterHand, shared: Path) -> Batch:
    """The two pairs the reference's losses were taken of."""
    folder = shared / "data" / "format-samples" / "interhand2.6m"
    dataset = interhand_dataset(folder / "test_interhand2.6m_data.json", folder)
    transform = newer_model.transform(train=False)
    return collate([transform(dataset[index], np.random.default_rng(0)) for index in range(2)])


def test_targets_of_1x(newer: Reference, newer_model: InterHand, loss_batch: Batch) -> None:
    label = {key.rsplit(".", 1)[1]: value for key, value in newer.arrays.items() if ".label." in key}
    places, weights = newer_model.bins.encode(loss_batch.targets["root_depth"], loss_batch.targets["root_valid"])
    assert places[0].item() == pytest.approx(label["root_depth"].item(), abs=1e-4)
    assert weights[0].item() == label["root_depth_weight"].item()
    np.testing.assert_array_equal(loss_batch.targets["hand_type"][:1], label["type"])
    np.testing.assert_array_equal(loss_batch.targets["visible"][:1], label["keypoint_weights"])
    inputs = newer_model.normalize(loss_batch.inputs["image"]).contiguous().numpy()
    theirs = newer.arrays["loss.inputs#flat[::20]"]
    assert np.abs(inputs.reshape(-1)[::20] - theirs).max() <= 0.02  # a grey level after normalisation is 0.0175


def with_holes(blobs: Blobs) -> Blobs:
    """The targets as the reference has them: with sigma 2.5 a Gaussian's first voxel is the place less 7.5, rounded,
    and halves are rounded to even numbers. A wrist lies at 32 of the depth exactly, so only even voxels are filled."""
    z = blobs.z.clone()
    z[:, [20, 41], 1::2] = 0
    return blobs._replace(z=z)


def test_losses_and_gradients_of_1x(newer: Reference, newer_model: InterHand, loss_batch: Batch) -> None:
    newer_model.zero_grad()
    targets = loss_batch.targets
    outputs = newer_model.outputs(loss_batch.inputs["image"])
    losses = newer_model.losses_of(outputs, targets)
    points = torch.cat([targets["keypoints"], targets["depth"][..., None]], dim=-1)
    blobs = newer_model.volume.encode(points, targets["visible"])
    assert losses["keypoints"].item() == pytest.approx(volume_error(outputs.volumes, blobs).item())
    losses["keypoints"] = volume_error(outputs.volumes, with_holes(blobs))
    told = newer.facts["losses_eval_mode"]
    for ours, theirs in (("keypoints", "loss_kpt"), ("root_depth", "loss_rel_root"), ("hand_type", "loss_hand_type")):
        assert losses[ours].item() == pytest.approx(told[theirs], rel=1e-4), ours
    torch.stack(list(losses.values())).sum().backward()
    compare_gradients(newer_model, newer.facts)


def compare_gradients(model: InterHand, facts: dict[str, Any]) -> None:
    norms = {name: value.grad.norm().item() for name, value in model.named_parameters() if value.grad is not None}
    theirs = {name.replace("keypoint_head.", "head."): norm for name, norm in facts["grad_norms"].items()}
    assert set(norms) == set(theirs)
    ratios = np.array([norms[name] / theirs[name] for name in norms])
    assert np.linalg.norm(list(norms.values())) == pytest.approx(facts["grad_norm_total"], rel=1e-2)
    assert np.median(np.abs(ratios - 1)) <= 1e-2
    # one grey level in 5 of 10,000 pixels, as warps of two machines differ, moves single norms by up to 0.04
    assert np.abs(ratios - 1).max() <= 5e-2, list(norms)[int(np.abs(ratios - 1).argmax())]
    model.zero_grad(set_to_none=True)


# --- the network of 0.29 --------------------------------------------------------------------------------------------


def test_raw_outputs_of_029(older: Reference, older_model: InterHand) -> None:
    outputs = raw(older_model, image())
    sensitivity = 3.6e-3  # of this gain, as the file tells
    assert older.facts["gain_search"]["1.0"][0] == pytest.approx(sensitivity, rel=0.02)
    std = older.facts["tensors"]["out.heatmap3d"]["std"]
    older.compare("out.heatmap3d", outputs.volumes, 1e-3 * std)
    assert outputs.root.item() == pytest.approx(older.arrays["out.rel_root"].item(), abs=1e-3)
    chances = torch.sigmoid(outputs.hand_type).numpy()  # 0.29's head ends with a sigmoid
    assert np.abs(chances - older.arrays["out.hand_type"]).max() <= 1e-3 * sensitivity


def points_of(older: Reference) -> tuple[Tensor, Tensor]:
    points = torch.from_numpy(older.arrays["target.in.joints_3d"])[None]
    return points, torch.from_numpy(older.arrays["target.in.visible"][None, :, 0])


def test_targets_of_029(older: Reference) -> None:
    volume = Volume((256, 256), (64, 64), 64, sigma=2.0)
    blobs = volume.encode(*points_of(older))
    older.compare(TARGET, blobs.full(), 1e-3)
    np.testing.assert_array_equal(blobs.weights[0], older.arrays["target.weight"][:, 0])


def test_losses_and_gradients_of_029(older: Reference, older_model: InterHand) -> None:
    older_model.zero_grad()
    outputs = older_model.network()(image())
    blobs = Volume((256, 256), (64, 64), 64, sigma=2.0).encode(*points_of(older))
    one = torch.ones(1)
    losses = {
        "hand_loss": volume_error(outputs.volumes, blobs),
        "rel_root_loss": root_error(outputs.root, torch.tensor([[31.5]]), one[:, None]),
        "hand_type_loss": type_error(outputs.hand_type, torch.tensor([[1.0, 0.0]]), one),
    }
    for name, value in losses.items():
        assert value.item() == pytest.approx(older.facts["losses_eval_mode"][name], rel=1e-4), name
    torch.stack(list(losses.values())).sum().backward()
    compare_gradients(older_model, older.facts)


def mirrored_as_029(volume: Volume, outputs: HandOutputs, bins: DepthBins, shift: bool) -> HandOutputs:
    """What 0.29 takes for mirrored outputs. It has two faults that posecli does not repeat: of the 42 D slices of the
    volumes, in a row, it swaps the first 21 with the next 21, instead of the hands; and the root depth's place, counted
    from one end of the bins, becomes its negative."""
    joints, depth = outputs.volumes.shape[1:3]
    slices = torch.arange(joints * depth)
    slices[:42] = SWAP
    flat = volume.flip(outputs.volumes.flatten(1, 2), slices, shift)
    return HandOutputs(
        flat.unflatten(1, (joints, depth)), bins.flip(outputs.root) - bins.count, outputs.hand_type.flip(1)
    )


def in_picture(points: Tensor, center: tuple[float, float], side: float, size: tuple[int, int]) -> Array:
    """Points (42, 3) of a crop in image pixels."""
    undo = invert(crop_matrix(np.array(center), np.array([side, side]), size))
    return np.c_[points[:, :2].numpy() @ undo[:, :2].T + undo[:, 2], points[:, 2]]


@pytest.mark.parametrize("flip", [False, True], ids=["as it is", "with the mirrored picture"])
def test_predictions_of_029(older: Reference, older_model: InterHand, flip: bool) -> None:
    """Nearest voxels in image pixels and millimetres."""
    outputs = raw(older_model, image())
    if flip:
        mirrored = raw(older_model, image().flip(3))
        outputs = older_model.average(outputs, mirrored_as_029(older_model.volume, mirrored, older_model.bins, False))
    points, scores = older_model.volume.decode(outputs.volumes, "highest")
    name = "pred_flip" if flip else "pred"
    theirs = older.arrays[f"{name}.preds"][0]
    assert np.abs(in_picture(points[0], (300, 200), 300, (256, 256)) - theirs[:, :3]).max() <= 0.05
    assert np.abs(scores[0].numpy() * 255 - theirs[:, 3]).max() <= 1e-3 * np.abs(theirs[:, 3]).max()
    root = older_model.bins.decode(outputs.root).item()
    assert root == pytest.approx(older.arrays[f"{name}.rel_root_depth"].item(), abs=0.05)
    np.testing.assert_array_equal(outputs.hand_type > 0, older.arrays[f"{name}.hand_type"])


# --- a small head, in full ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(older: Reference) -> HandOutputs:
    right, left = (HeatmapHead(32, 21 * 8, [16], [4]) for _ in range(2))
    head = HandHead(right, left, 32, 8, 16, 12).eval()
    head.load_state_dict(golden_state(older.facts, older.facts["small_head_gain"], "small_head_state"))
    with torch.inference_mode():
        outputs: HandOutputs = head([torch.from_numpy(older.arrays["small.in.feat"])])
    return outputs


def test_small_head(older: Reference, small: HandOutputs) -> None:
    np.testing.assert_allclose(small.volumes, older.arrays["small.out.heatmap3d"], atol=1e-4)
    np.testing.assert_allclose(small.root, older.arrays["small.out.rel_root"], atol=1e-4)
    np.testing.assert_allclose(torch.sigmoid(small.hand_type), older.arrays["small.out.hand_type"], atol=1e-5)


SMALL = Volume((8, 8), (8, 8), 8, peak=1.0)
CROPS = (((300.0, 200.0), 300.0), ((50.0, 60.0), 160.0))  # centre and side of the two crops


def test_small_head_mirrored(older: Reference, small: HandOutputs) -> None:
    flipped = mirrored_as_029(SMALL, small, DepthBins(16), True)
    theirs = {
        name: older.arrays[f"small.flipped_back(shift).{name}"] for name in ("heatmap3d", "rel_root", "hand_type")
    }
    np.testing.assert_allclose(flipped.volumes, theirs["heatmap3d"], atol=1e-4)
    np.testing.assert_allclose(flipped.root, theirs["rel_root"], atol=1e-4)
    np.testing.assert_allclose(torch.sigmoid(flipped.hand_type), theirs["hand_type"], atol=1e-5)


def test_small_head_decoded(older: Reference, small: HandOutputs) -> None:
    points, scores = SMALL.decode(small.volumes, "highest")
    theirs = older.arrays["small.decode.preds"]
    for row in range(2):
        np.testing.assert_allclose(in_picture(points[row], *CROPS[0], (8, 8)), theirs[row, :, :3], atol=1e-3)
    np.testing.assert_allclose(scores, theirs[..., 3], atol=1e-4)
    np.testing.assert_allclose(
        DepthBins(16).decode(small.root), older.arrays["small.decode.rel_root_depth"][:, 0], 1e-4
    )
    np.testing.assert_array_equal(small.hand_type > 0, older.arrays["small.decode.hand_type"])


def test_nearest_voxels(older: Reference) -> None:
    """keypoints_from_heatmaps3d, which leaves the depth in voxels."""
    points, scores = SMALL.decode(torch.from_numpy(older.arrays["decode3d.in.heatmaps"]), "highest")
    points[..., 2] = points[..., 2] / SMALL.cells[2] + 4
    for row, crop in enumerate(CROPS):
        np.testing.assert_allclose(
            in_picture(points[row], *crop, (8, 8)), older.arrays["decode3d.preds"][row], atol=1e-3
        )
    np.testing.assert_array_equal(scores[..., None], older.arrays["decode3d.maxvals"])
