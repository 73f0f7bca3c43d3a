"""Seven networks of MMPose 1.3.2, brought over by `posecli import mmpose`, give its numbers.

The numbers and the rule for the weights are those of reference/golden/README.md in the shared folder. A checkpoint with
these weights and the reference's names is written in torch's format, imported, and opened as users open it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from golden_rule import golden_input, golden_state, import_state, normal
from torch import Tensor

from posecli import geometry
from posecli.batch import Batch, collate
from posecli.checkpoint import count_parameters, open_model
from posecli.config import Experiment, find_config, layers_of, validate
from posecli.datasets.coco import coco_dataset
from posecli.images import read_image
from posecli.losses.simcc import DiscreteKL
from posecli.skeleton import house_skeleton
from posecli.transforms import CropTransform
from posecli.types import Dataset, People, Sample
from posecli_topdown.model import TopDown

NETWORKS = {  # the reference's config -> ours, with settings
    "td-hm_res50_8xb64-210e_coco-256x192": ("topdown/coco/resnet-50",),
    "td-hm_hrnet-w32_8xb64-210e_coco-256x192": ("topdown/coco/hrnet-w32",),
    "td-hm_hrnet-w32_udp-8xb64-210e_coco-256x192": ("topdown/coco/hrnet-w32-udp",),
    "td-hm_mobilenetv2_8xb64-210e_coco-256x192": ("topdown/coco/mobilenet-v2",),
    "simcc_res50_8xb64-210e_coco-256x192": ("topdown/coco/simcc-resnet-50",),
    "td-hm_vgg16-bn_8xb64-210e_coco-256x192": ("topdown/coco/resnet-50", "model.backbone.use=vgg"),
    "td-reg_res50_8xb64-210e_coco-256x192": ("topdown/coco/deeppose-resnet-50",),
}


@dataclass(frozen=True)
class Reference:
    """A network of the reference and what it gave."""

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]
    model: TopDown
    parameters: int  # as our checkpoint's file tells

    def maps(self, text: str) -> list[np.ndarray]:
        """`out`, or `out.0`, `out.1`."""
        return [
            values for name, values in sorted(self.arrays.items()) if name.split(".")[0] == text and "#" not in name
        ]


@pytest.fixture(scope="module", params=NETWORKS)
def reference(
    request: pytest.FixtureRequest, golden: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reference]:
    """A network with the reference's weights."""
    facts = json.loads((golden / f"{request.param}.json").read_text())
    with np.load(golden / f"{request.param}.npz") as archive:
        arrays = dict(archive)
    state = golden_state(facts)
    folder = tmp_path_factory.mktemp("parity")
    older = list(NETWORKS).index(request.param) % 2 == 1  # both namings and file formats, each on half of the networks
    if older:
        state = {name.replace("head.", "keypoint_head.", 1): value for name, value in state.items()}
    meta = {"mmpose_version": "0.29.0"} if older else {"epoch": 210, "iter": 10, "mmengine_version": "0.10.7"}
    config, *settings = NETWORKS[request.param]
    options = ["--config", config, *(part for setting in settings for part in ("--set", setting))]
    path = import_state(state, folder, *options, meta=meta, older=older)
    model, _, header = open_model(path)
    assert isinstance(model, TopDown)
    assert (header.epoch, header.step) == ((0, 0) if older else (210, 10))
    yield Reference(facts, arrays, model, count_parameters(path))
    path.unlink()


def test_parameters(reference: Reference) -> None:
    backbone = sum(parameter.numel() for parameter in reference.model.backbone.parameters())
    assert backbone == reference.facts["params_backbone"]
    assert sum(parameter.numel() for parameter in reference.model.parameters()) == reference.facts["params"]
    assert reference.parameters == reference.facts["params"]


@pytest.mark.parametrize("channels_last", [False, True])
def test_raw_outputs(reference: Reference, channels_last: bool) -> None:
    """At most 1e-3 of what the input moves them by."""
    images = golden_input(reference.facts["input_shape"])
    model = reference.model
    if channels_last:
        images = images.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        features = model.backbone(images)[-1]
        outputs = model.head(features)
    start = reference.arrays["backbone.0#first64"]
    assert np.abs(features.flatten()[:64].numpy() - start).max() <= 1e-3 * np.abs(start).max()
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    expected = reference.maps("out")
    assert len(outputs) == len(expected)
    sensitivities = reference.facts["input_sensitivity"].values()
    for ours, theirs, sensitivity in zip(outputs, expected, sensitivities, strict=True):
        assert np.abs(ours.numpy() - theirs).max() <= 1e-3 * sensitivity * theirs.std()


@pytest.fixture(scope="module")
def coco(shared: Path) -> Dataset:
    """The four sample pictures of COCO."""
    folder = shared / "data" / "format-samples" / "coco"
    return coco_dataset(folder / "test_coco.json", folder)


def batch_of(model: TopDown, samples: list[Sample]) -> Batch:
    transform = model.transform(train=False)
    return collate([transform(sample, np.random.default_rng(0)) for sample in samples])


def predict(model: TopDown, batch: Batch, flip_test: bool) -> tuple[np.ndarray, np.ndarray]:
    model.flip_test = flip_test
    with torch.inference_mode():
        people = People.concatenate([prediction.people for prediction in model.predict(batch)])
    return people.keypoints, people.scores


@pytest.mark.parametrize("flip_test", [True, False])
def test_decoded_keypoints(reference: Reference, coco: Dataset, shared: Path, flip_test: bool) -> None:
    """Four people in a real picture, within 0.05 px."""
    told = reference.facts["pred_image"]
    path = shared / "data" / "format-samples" / "coco" / Path(told["file"]).name
    boxes = np.array(told["bboxes_xyxy"])
    unknown = np.full((1, len(coco.skeleton), 2), np.nan)
    people = [People(unknown, np.zeros(unknown.shape[:2]), box[None]) for box in boxes]
    samples = [Sample(index, path, (640, 427), person) for index, person in enumerate(people)]
    keypoints, scores = predict(reference.model, batch_of(reference.model, samples), flip_test)
    prefix = "pred" if flip_test else "pred_noflip"
    assert np.abs(keypoints - reference.arrays[f"{prefix}.keypoints"]).max() <= 0.05
    theirs = reference.arrays[f"{prefix}.keypoint_scores"]
    assert np.abs(scores - theirs).max() <= 1e-3 * np.abs(theirs).max()


def loss_batch(reference: Reference, coco: Dataset) -> Batch:
    """The two people the reference's losses were taken of."""
    chosen = []
    for name, annotation in reference.facts["loss_samples"]:
        sample = next(coco[index] for index, image in enumerate(coco.images) if Path(str(image)).name == name)
        row = np.flatnonzero(sample.people.extra["annotation_id"] == annotation)
        chosen.append(Sample(sample.id, sample.image, sample.size, sample.people[row]))
    return batch_of(reference.model, chosen)


def rounded_matrix(box: np.ndarray, transform: CropTransform) -> np.ndarray:
    """The reference's matrix for a box (4,), which is ours but for what is rounded.

    UDP's matrix is in float32; else it is made of three points that are: the middle, the middle of the left side and
    the corner of the right angle that these two begin.
    """
    width, height = transform.size
    center, scale = geometry.box_center_scale(box.astype(np.float32), transform.padding)
    scale = geometry.fit_aspect(scale, width / height)
    if transform.unbiased:
        return geometry.crop_matrix(center, scale, transform.size, unbiased=True).astype(np.float32)
    source, target = (
        np.array([(x, y), (x - half, y), (x - half, y + half)], dtype=np.float32)
        for x, y, half in ((*center, scale[0] / 2), (width / 2, height / 2, width / 2))
    )
    return cv2.getAffineTransform(source, target)


def rounded_batch(model: TopDown, batch: Batch) -> Batch:
    """The batch with crops as the reference's matrix gives them: one grey level apart in 1 of 3,000 values."""
    transform = model.evaluation_transform
    pixels = []
    for sample in batch.samples:
        assert sample.people.boxes is not None
        matrix = rounded_matrix(sample.people.boxes[0], transform)
        pixels.append(cv2.warpAffine(read_image(sample.image), matrix, transform.size, flags=cv2.INTER_LINEAR))
    rounded = torch.from_numpy(np.stack(pixels))
    apart = (rounded.int() - batch.inputs["image"].int()).abs()
    assert apart.max() <= 1
    assert apart.float().mean() <= 1e-3
    return dataclasses.replace(batch, inputs={**batch.inputs, "image": rounded})


def loss_of(model: TopDown, batch: Batch) -> Tensor:
    """The loss as the reference has it, which sums SimCC's over instances."""
    loss = torch.stack(list(model.losses(batch).values())).sum()
    return loss * len(batch) if isinstance(model.loss, DiscreteKL) and model.loss.average else loss


def test_losses_and_gradients(reference: Reference, coco: Dataset) -> None:
    """The loss within 1e-4, the gradients' norms within 1e-2, normalisation in evaluation mode.

    The gradients are those of the reference's very pixels: single norms of MobileNetV2 and SimCC, all of them small,
    move by up to 0.03 with the few pixels that its float32 matrix makes one grey level brighter or darker.
    """
    model = reference.model
    own = loss_batch(reference, coco)
    expected = reference.facts["losses_eval_mode"]["loss_kpt"]
    with torch.inference_mode():
        assert loss_of(model, own).item() == pytest.approx(expected, rel=1e-4)
    batch = rounded_batch(model, own)
    inputs = model.normalize(batch.inputs["image"]).contiguous().numpy()
    np.testing.assert_allclose(inputs.reshape(-1)[::15], reference.arrays["loss.inputs#flat[::15]"], atol=1e-5)
    model.zero_grad()
    loss = loss_of(model, batch)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    norms = {name: value.grad.norm().item() for name, value in model.named_parameters() if value.grad is not None}
    ours, theirs = np.array(list(norms.values())), np.array(list(reference.facts["grad_norms"].values()))
    assert ours.shape == theirs.shape
    errors = np.abs(ours - theirs) / theirs
    assert errors.max() <= 1e-2, list(norms)[errors.argmax()]
    assert np.linalg.norm(ours) == pytest.approx(reference.facts["grad_norm_total"], rel=1e-3)
    model.zero_grad(set_to_none=True)


@pytest.mark.parametrize("older", [False, True])
def test_hrnetv2_comes_over(tmp_path: Path, older: bool) -> None:
    """Of its head 0.x numbers the layers through, 1.x does not: the same tensors, in the same places."""
    config = "topdown/wflw/hrnetv2-w18"
    model = validate(Experiment, layers_of(find_config(config))).model.build(house_skeleton("wflw"))
    state = {name: golden_tensor(name, value) for name, value in model.state_dict().items()}
    state = {name: value for name, value in state.items() if not name.startswith("normalize")}
    theirs = state
    if older:
        numbered = {
            "head.conv_layers.": "keypoint_head.final_layer.",
            "head.final_layer.": "keypoint_head.final_layer.3.",
        }
        theirs = {
            next((new + name[len(old) :] for old, new in numbered.items() if name.startswith(old)), name): value
            for name, value in state.items()
        }
    opened, _, _ = open_model(import_state(theirs, tmp_path, "--config", config, "--skeleton", "wflw", older=older))
    loaded = opened.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items() if "num_batches" not in name)


def golden_tensor(name: str, value: Tensor) -> Tensor:
    return torch.from_numpy(normal(name, value.shape).astype(np.float32)) if value.is_floating_point() else value
