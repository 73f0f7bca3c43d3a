"""Networks of MMPose 0.29 and 1.3.2, brought over by `posecli import mmpose`, give its outputs, losses and people.

The numbers are those of reference/golden/ae29_*, ae_hrnet-w32*, functional29_ae and functional in the shared folder;
how the weights follow from their names stands in the README there.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_rule import golden_input, golden_state, import_state
from torch import Tensor

from posecli import geometry
from posecli.batch import Batch, collate
from posecli.checkpoint import open_model
from posecli.config import load_experiment
from posecli.datasets.pictures import picture_size
from posecli.interop.mmpose import match, take
from posecli.skeleton import house_skeleton
from posecli.types import People, Sample
from posecli_associative.decoding import decode
from posecli_associative.losses import StageLoss, heatmap_loss, pull_and_push, tags_at
from posecli_associative.model import Associative
from posecli_associative.peaks import find_peaks
from posecli_associative.targets import SceneTargets, encode_scene

JOINTS = 17
NETWORKS = {  # the reference's file -> our config
    "ae29_hrnet_w32_coco_512x512": "associative/coco/hrnet-w32-512",
    "ae29_higherhrnet_w32_coco_512x512": "associative/coco/higherhrnet-w32-512",
    "ae29_res50_coco_512x512": "associative/coco/resnet-50-512",
    "ae29_mobilenetv2_coco_512x512": "associative/coco/mobilenetv2-512",
    "ae29_hourglass_ae_coco_512x512": "associative/coco/hourglass-512",
    "ae_hrnet-w32_8xb24-300e_coco-512x512": "associative/coco/hrnet-w32-512",
}
BY_COMMAND = ("ae29_higherhrnet_w32_coco_512x512", "ae_hrnet-w32_8xb24-300e_coco-512x512")  # imported as users do it


@dataclass(frozen=True)
class Reference:
    """A network of the reference and what it gave."""

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]
    model: Associative
    names: dict[str, str]  # our tensor -> theirs


@pytest.fixture(scope="module", params=NETWORKS)
def reference(request: pytest.FixtureRequest, golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """A network with the reference's weights; every tensor of both sides has its partner."""
    facts = json.loads((golden / f"{request.param}.json").read_text())
    with np.load(golden / f"{request.param}.npz") as archive:
        arrays = dict(archive)
    state = golden_state(facts)
    model_config = load_experiment(NETWORKS[request.param]).model
    if request.param in BY_COMMAND:
        folder = tmp_path_factory.mktemp("parity")
        ours = import_state(state, folder, "--config", NETWORKS[request.param], meta={"mmpose_version": "0.29.0"})
        model, _, _ = open_model(ours)
        ours.unlink()
        matched = match(model, model_config, state)
    else:
        with torch.device("meta"):
            built = model_config.build(house_skeleton("coco"))
        model = built.to_empty(device="cpu")
        matched = match(model, model_config, state)
        take(model, state, matched)
    assert isinstance(model, Associative)
    return Reference(facts, arrays, model.eval(), matched.matched)


def stored(arrays: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, int]:
    """A tensor of the reference, flat, as far as it is stored: every n-th value, and n."""
    if name in arrays:
        return arrays[name].ravel(), 1
    key = next(key for key in arrays if key.startswith(f"{name}#flat"))
    return arrays[key], int(key.split("::")[1].rstrip("]"))


def test_parameters(reference: Reference) -> None:
    parameters = sum(parameter.numel() for parameter in reference.model.parameters())
    assert parameters == reference.facts["params"]


def test_raw_outputs(reference: Reference) -> None:
    """At most 1e-3 of what the input moves them by; where that is not known, 1e-4 of their spread."""
    images = golden_input(reference.facts["input_shape"])
    with torch.inference_mode():
        outputs = reference.model.network()(images)
    if "num_outputs" not in reference.facts:  # the 1.x head gives heatmaps and tags apart
        outputs = [outputs[0][:, :JOINTS], outputs[0][:, JOINTS:]]
    assert len(outputs) == reference.facts.get("num_outputs", 2)
    for index, output in enumerate(outputs):
        theirs, step = stored(reference.arrays, f"out.{index}")
        sensitivity = reference.facts.get("input_sensitivity", {}).get(f"out.{index}", 0.1)
        difference = np.abs(output.numpy().ravel()[::step] - theirs).max()
        assert difference <= 1e-3 * sensitivity * theirs.std(), f"output {index}"


def cells_of(packed: np.ndarray, cells: int) -> tuple[Tensor, Tensor]:
    """Cells and visibility (B, P, K) of the reference's lists (B, P, K, 2) of k * cells + cell, in any order."""
    places = torch.zeros(packed.shape[:3], dtype=torch.int64)
    visible = torch.zeros(packed.shape[:3], dtype=torch.bool)
    for picture, person, entry in np.argwhere(packed[..., 1] > 0):
        joint, cell = divmod(int(packed[picture, person, entry, 0]), cells)
        places[picture, person, joint], visible[picture, person, joint] = cell, True
    return places, visible


def stage_targets(arrays: Mapping[str, np.ndarray], stage: int) -> tuple[SceneTargets, Tensor]:
    """What the reference compared a stage's output with; stages of the same size share it."""
    stage = stage if f"loss.in.targets.{stage}" in arrays else 0
    heatmaps, mask = (torch.from_numpy(arrays[f"loss.in.{name}.{stage}"]) for name in ("targets", "masks"))
    cells, visible = cells_of(arrays[f"loss.in.joints.{stage}"], heatmaps.shape[2] * heatmaps.shape[3])
    return SceneTargets(heatmaps, cells, visible), mask


def test_losses_and_gradients(reference: Reference) -> None:
    """Losses within 1e-4, the gradients' norms within 1e-2, normalisation in evaluation mode."""
    if "losses_eval_mode" not in reference.facts:
        pytest.skip("the reference has no loss of this network")
    model = reference.model
    model.zero_grad()
    images = golden_input((2, 3, 128, 128))
    outputs = model.network()(images)
    losses = model.compare(outputs, [stage_targets(reference.arrays, stage) for stage in range(len(outputs))])
    theirs = reference.facts["losses_eval_mode"]
    for name, loss in losses.items():
        tolerance = 1e-3 if theirs[f"{name}_loss"] < 1e-4 else 1e-4
        assert loss.item() == pytest.approx(theirs[f"{name}_loss"], rel=tolerance), name
    torch.stack(list(losses.values())).sum().backward()
    norms = {name: value.grad.norm().item() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad(set_to_none=True)
    expected = {name: reference.facts["grad_norms"][reference.names[name]] for name in norms}
    assert len(expected) == len(reference.facts["grad_norms"])
    for name, norm in norms.items():
        assert norm == pytest.approx(expected[name], rel=1e-2), name
    assert np.linalg.norm(list(norms.values())) == pytest.approx(reference.facts["grad_norm_total"], rel=1e-2)


def evaluation_batch(model: Associative, picture: Path) -> Batch:
    """A picture as it is looked at when predicting."""
    nobody = People(np.zeros((0, JOINTS, 2)), np.zeros((0, JOINTS)))
    size = picture_size(picture)
    assert size is not None
    return collate([model.transform(train=False)(Sample("one", picture, size, nobody), np.random.default_rng(0))])


def picture_of(facts: Mapping[str, Any], shared: Path) -> Path:
    told = facts["image"] if "image" in facts else facts["pred_image"]["file"]
    return shared / "data" / "format-samples" / "coco" / Path(told).name


def test_decoded_people_of_1x(reference: Reference, shared: Path) -> None:
    """30 people that are noise in a real picture: 95 % of the keypoints within 0.05 px are right by the README.

    On one machine's rounding 99 % are, person by person. On another's a flat top takes its other cell and two people of
    noise exchange their keypoints, so a keypoint may be found again in any of the people, with its score.
    """
    if "pred.keypoints" not in reference.arrays:
        pytest.skip("the reference has no decoded people of this network")
    model = reference.model
    batch = evaluation_batch(model, picture_of(reference.facts, shared))
    with torch.inference_mode():
        heatmaps, tags = model.maps(batch)
    settings = model.settings.model_copy(update={"adjust": "inside", "fill": "cost", "limit": "first"})
    (found,) = decode(heatmaps, tags, settings, (896, 512), max_people=30)
    expected = reference.arrays["pred.keypoints"]
    ours = geometry.apply(batch.undo.numpy()[0], found.keypoints)
    assert ours.shape == expected.shape
    apart = np.abs(ours[:, None] - expected).max(axis=-1)  # (ours, theirs, K)
    assert (apart.min(axis=0) <= 0.05).mean() >= 0.95
    assert (apart.min(axis=1) <= 0.05).mean() >= 0.95
    theirs = np.take_along_axis(reference.arrays["pred.keypoint_scores"], apart.argmin(axis=1), axis=0)
    alike = np.abs(found.scores - theirs) <= 1e-3
    assert alike[apart.min(axis=1) <= 0.05].mean() >= 0.99


# --- HigherHRNet on a real picture, 0.29 ------------------------------------------------------------------------------

TEST_TIMES: dict[str, tuple[int, tuple[float, ...], bool]] = {  # size, scales, mirrored too
    "s128_flip": (128, (1.0,), True),
    "s128_noflip": (128, (1.0,), False),
    "s128_ms_1_2_flip": (128, (1.0, 2.0), True),
    "s256_flip": (256, (1.0,), True),
}


@pytest.fixture(scope="module")
def higher(golden: Path) -> Associative:
    """HigherHRNet with the weights of the reference's test-time run."""
    facts = json.loads((golden / "ae29_higherhrnet_w32_coco_512x512.json").read_text())
    gain = json.loads((golden / "ae29_higherhrnet_testtime.json").read_text())["gain"]
    config = load_experiment("associative/coco/higherhrnet-w32-512").model
    state = golden_state(facts, gain)
    model = config.build(house_skeleton("coco"))
    take(model, state, match(model, config, state))
    assert isinstance(model, Associative)
    return model.eval()


@pytest.mark.parametrize("case", TEST_TIMES)
def test_whole_prediction_of_0x(case: str, higher: Associative, golden: Path, shared: Path) -> None:
    """From the picture to maps and peaks, in full. The weights are noise, so many pairings of candidates and people
    cost the same, and the reference takes others: of its people nine tenths of the keypoints are found again."""
    with np.load(golden / "ae29_higherhrnet_testtime.npz") as archive:
        stored = {name: archive[name] for name in archive.files if name.startswith(f"{case}.")}
    size, scales, higher.flip_test = TEST_TIMES[case]
    higher.evaluation_transform = dataclasses.replace(higher.evaluation_transform, size=(size, size), scales=scales)
    facts = json.loads((golden / "ae29_higherhrnet_testtime.json").read_text())
    batch = evaluation_batch(higher, picture_of(facts, shared))
    with torch.inference_mode():
        heatmaps, tags = higher.maps(batch)
    for name, values in (("heatmaps", heatmaps), ("tags", tags)):
        (key,) = (key for key in stored if key.startswith(f"{case}.aggregated_{name}#flat"))
        step = int(key.rsplit("::", 1)[1][:-1])
        assert values.contiguous().flatten()[::step].numpy() == pytest.approx(stored[key], abs=1e-5)
    peaks = find_peaks(heatmaps, tags, count=30, reach=2, threshold=0.1)
    high = stored[f"{case}.topk.val_k"] > 0.1
    assert peaks.values.numpy()[high] == pytest.approx(stored[f"{case}.topk.val_k"][high], abs=1e-5)
    places = stored[f"{case}.topk.loc_k"]
    same = peaks.cells.numpy() == places[..., 0] + heatmaps.shape[3] * places[..., 1]
    assert same[high].mean() > 0.99  # of cells with the same value, along the border, the reference takes any
    (found,) = decode(heatmaps, tags, higher.settings, (heatmaps.shape[3], heatmaps.shape[2]))
    ours, theirs = geometry.apply(batch.undo.numpy()[0], found.keypoints), stored[f"{case}.preds"]
    assert len(ours) == pytest.approx(len(theirs), rel=0.1)
    shares = [
        np.mean(np.abs(ours - person[:, :2]).max(axis=-1)[:, person[:, 2] != 0] <= 0.05, axis=1).max()
        for person in theirs
    ]
    assert np.mean(shares) > 0.88


# --- functions --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def older(golden: Path) -> dict[str, Tensor]:
    """Functions of 0.29."""
    with np.load(golden / "functional29_ae.npz") as archive:
        kept = [
            name for name in archive if name.startswith(("AELoss", "Heatmap", "MultiLoss")) and "Parser" not in name
        ]
        return {name: torch.from_numpy(archive[name]) for name in kept}


@pytest.fixture(scope="module")
def newer(golden: Path) -> dict[str, Tensor]:
    """Functions of 1.3.2."""
    with np.load(golden / "functional.npz") as archive:
        kept = [name for name in archive if name.startswith(("encode/ae_", "loss/AssociativeEmbedding"))]
        return {name: torch.from_numpy(archive[name]) for name in kept}


@pytest.mark.parametrize("kind", ["exp", "max"])
def test_pull_and_push(older: dict[str, Tensor], kind: str) -> None:
    out = older[f"AELoss_{kind}/in/out"].clone().requires_grad_()
    cells, visible = cells_of(older[f"AELoss_{kind}/in/joints"].numpy(), 32 * 32)
    pull, push = pull_and_push(tags_at(out[:, JOINTS:], cells), visible, kind)
    torch.testing.assert_close(pull, older[f"AELoss_{kind}/out/pull"])
    torch.testing.assert_close(push, older[f"AELoss_{kind}/out/push"])
    (pull.sum() + push.sum()).backward()
    torch.testing.assert_close(out.grad, older[f"AELoss_{kind}/out/grad"])


@pytest.mark.parametrize("scale", ["1.0", "0.001"])
def test_pull_and_push_of_1x(newer: dict[str, Tensor], scale: str) -> None:
    """1.x counts the diagonal and sums over the pictures, where posecli takes the mean."""
    entry = f"loss/AssociativeEmbedding_w{scale}"
    tags = newer[f"{entry}/in/tags"].clone().requires_grad_()
    indices = newer[f"{entry}/in/keypoint_indices"]
    pull, push = pull_and_push(tags_at(tags, indices[..., 0]), indices[..., 1] > 0, "exp-diagonal")
    torch.testing.assert_close(float(scale) * pull.sum(), newer[f"{entry}/out/pull"])
    torch.testing.assert_close(float(scale) * push.sum(), newer[f"{entry}/out/push"])
    (float(scale) * (pull.sum() + push.sum())).backward()
    torch.testing.assert_close(tags.grad, newer[f"{entry}/out/grad_tags"])


@pytest.mark.parametrize("supervise_empty", [True, False])
def test_heatmap_loss(older: dict[str, Tensor], supervise_empty: bool) -> None:
    entry = f"HeatmapLoss_supervise_empty={supervise_empty}"
    maps = older[f"{entry}/in/out"][:, :JOINTS].clone().requires_grad_()
    loss = heatmap_loss(maps, older[f"{entry}/in/target"], older[f"{entry}/in/mask"], supervise_empty)
    torch.testing.assert_close(loss, older[f"{entry}/out/loss"])
    loss.sum().backward()
    torch.testing.assert_close(maps.grad, older[f"{entry}/out/grad"])


def test_stage_loss(older: dict[str, Tensor]) -> None:
    """The reference's MultiLossFactory with unequal weights; its values are per picture, ours their means."""
    out = older["MultiLossFactory/in/out"].clone().requires_grad_()
    cells, visible = cells_of(older["MultiLossFactory/in/joints"].numpy(), 32 * 32)
    targets = SceneTargets(older["MultiLossFactory/in/target"], cells, visible)
    loss = StageLoss(heatmap=0.5, pull=0.02, push=0.01, kind="max", supervise_empty=False)
    losses = loss(out[:, :JOINTS], out[:, JOINTS:], targets, older["MultiLossFactory/in/mask"])
    for name, theirs in (("heatmap", "heat"), ("pull", "pull"), ("push", "push")):
        torch.testing.assert_close(losses[name], older[f"MultiLossFactory/out/{theirs}"].mean())
    torch.stack(list(losses.values())).sum().backward()
    torch.testing.assert_close(2 * out.grad, older["MultiLossFactory/out/grad"])


@pytest.mark.parametrize("unbiased", [False, True])
def test_targets(older: dict[str, Tensor], unbiased: bool) -> None:
    """HeatmapGenerator and JointsEncoder, with people partly outside the map."""
    entry = f"HeatmapGenerator_udp={unbiased}"
    people = older[f"{entry}/in/joints"][None]
    targets = encode_scene(people[..., :2], people[..., 2], (32, 32), (32, 32), 2.0, unbiased)
    torch.testing.assert_close(targets.heatmaps[0], older[f"{entry}/out/heatmaps"], rtol=0, atol=1e-6)
    cells, visible = cells_of(older[f"{entry}/out/encoded"][None].numpy(), 32 * 32)
    assert torch.equal(targets.visible, visible[:, :3])
    assert torch.equal(targets.cells[targets.visible], cells[:, :3][targets.visible])


@pytest.mark.parametrize("unbiased", [False, True])
def test_targets_of_1x(newer: dict[str, Tensor], unbiased: bool) -> None:
    """The codec's encode: the nearest cell; a Gaussian reaches into the map from outside, its tag does not count."""
    entry = f"encode/ae_udp={unbiased}"
    points, seen = newer[f"{entry}/in/keypoints"][None], newer[f"{entry}/in/keypoints_visible"][None]
    targets = encode_scene(points, seen, (512, 512), (128, 128), 2.0, unbiased, "nearest")
    torch.testing.assert_close(targets.heatmaps[0, :, ::4, ::4], newer[f"{entry}/out/heatmaps"], rtol=0, atol=1e-5)
    indices = newer[f"{entry}/out/keypoint_indices"][None]
    assert torch.equal(targets.visible, indices[..., 1] > 0)
    assert torch.equal(targets.cells[targets.visible], indices[..., 0][targets.visible])


def test_foreground_weighs_errors_by_the_target() -> None:
    generator = torch.Generator().manual_seed(0)
    maps, targets = torch.rand(2, 2, 3, 4, 5, generator=generator)
    mask = torch.ones(2, 4, 5)
    by_hand = ((maps - targets) ** 2 * (1 + 10 * targets)).mean(dim=(1, 2, 3))
    torch.testing.assert_close(heatmap_loss(maps, targets, mask, foreground=10.0), by_hand)
    torch.testing.assert_close(
        heatmap_loss(maps, torch.zeros_like(targets), mask, foreground=10.0), (maps**2).mean(dim=(1, 2, 3))
    )
