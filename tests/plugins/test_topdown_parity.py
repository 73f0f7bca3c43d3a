"""Seven networks of MMPose 1.3.2, brought over by `posecli import mmpose`, give its numbers.

The numbers and the rule for the weights are those of reference/golden/README.md in the shared folder. A checkpoint with
these weights and the reference's names is written in torch's format, imported, and opened as users open it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from posecli.batch import Batch, collate
from posecli.checkpoint import count_parameters, open_model
from posecli.commands.import_ import import_app
from posecli.datasets.coco import coco_dataset
from posecli.losses.simcc import DiscreteKL
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


def normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The noise that belongs to a name."""
    return np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)


def weight(name: str, shape: list[int], role: str, kind: str, gain: float) -> Tensor:
    """The value of a tensor by the golden README's table."""
    if kind == "int64":
        return torch.zeros(shape, dtype=torch.int64)
    noise = normal(name, tuple(shape))
    last = name.rsplit(".", 1)[-1]
    if last == "running_var":
        value = 1 + 0.1 * np.abs(noise)
    elif last == "running_mean":
        value = 0.1 * noise
    elif len(shape) <= 1:
        value = 1 + 0.1 * noise if last in {"weight", "gamma", "g", "scale"} else 0.05 * noise
    else:
        value = noise * (0.02 if shape[0] == 1 else gain / np.sqrt(np.prod(shape[1:])))
    assert role == "param" or last.startswith("running_")
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


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


def import_checkpoint(state: dict[str, Tensor], config: tuple[str, ...], folder: Path, older: bool) -> Path:
    """What `posecli import mmpose` makes of a file with these weights, in the older naming and format if asked."""
    if older:
        state = {name.replace("head.", "keypoint_head.", 1): value for name, value in state.items()}
    meta = {"mmpose_version": "0.29.0"} if older else {"epoch": 210, "iter": 10, "mmengine_version": "0.10.7"}
    path = folder / "reference.pth"
    content = {"state_dict": state, "meta": meta, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}}
    torch.save(content, path, _use_new_zipfile_serialization=not older)
    options = ["--config", config[0], *(part for setting in config[1:] for part in ("--set", setting))]
    result = CliRunner().invoke(import_app, [str(path), str(folder / "ours.safetensors"), *options])
    path.unlink()
    assert result.exception is None, result.output
    assert f"matched: {len(state)}\n" in result.stdout
    for side in ("missing in the checkpoint", "without a place in the model", "of another shape"):
        assert f"{side}: 0\n" in result.stdout
    return folder / "ours.safetensors"


@pytest.fixture(scope="module", params=NETWORKS)
def reference(
    request: pytest.FixtureRequest, golden: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reference]:
    """A network with the reference's weights."""
    facts = json.loads((golden / f"{request.param}.json").read_text())
    with np.load(golden / f"{request.param}.npz") as archive:
        arrays = dict(archive)
    state = {name: weight(name, shape, role, kind, facts["gain"]) for name, shape, role, kind in facts["state"]}
    folder = tmp_path_factory.mktemp("parity")
    older = list(NETWORKS).index(request.param) % 2 == 1  # both namings and file formats, each on half of the networks
    path = import_checkpoint(state, NETWORKS[request.param], folder, older)
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
    images = torch.from_numpy(normal("input", tuple(reference.facts["input_shape"])).astype(np.float32))
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


def test_losses_and_gradients(reference: Reference, coco: Dataset) -> None:
    """The loss within 1e-4, the gradients' norms within 1e-2, normalisation in evaluation mode."""
    model = reference.model
    batch = loss_batch(reference, coco)
    inputs = model.normalize(batch.inputs["image"]).contiguous().numpy()
    theirs = reference.arrays["loss.inputs#flat[::15]"]
    assert np.abs(inputs.reshape(-1)[::15] - theirs).max() <= 0.02  # a grey level after normalisation is 0.0175
    model.zero_grad()
    loss = torch.stack(list(model.losses(batch).values())).sum()
    if isinstance(model.loss, DiscreteKL) and model.loss.average:
        loss = loss * len(batch)  # the reference sums this loss over instances
    loss.backward()
    assert loss.item() == pytest.approx(reference.facts["losses_eval_mode"]["loss_kpt"], rel=1e-4)
    norms = {name: value.grad.norm().item() for name, value in model.named_parameters() if value.grad is not None}
    ours, theirs = np.array(list(norms.values())), np.array(list(reference.facts["grad_norms"].values()))
    assert ours.shape == theirs.shape
    assert np.linalg.norm(ours) == pytest.approx(reference.facts["grad_norm_total"], rel=1e-2)
    errors = np.abs(ours - theirs) / theirs
    assert np.median(errors) <= 1e-2
    # one grey level in 5 of 10,000 pixels, as warps of two machines differ, moves single norms by up to 0.04
    assert errors.max() <= 5e-2, list(norms)[errors.argmax()]
    model.zero_grad(set_to_none=True)
