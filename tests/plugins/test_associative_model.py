"""Associative embedding: targets and losses against plain loops, and what becomes of maps, good and bad."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from posecli import load
from posecli.batch import Batch, collate
from posecli.checkpoint import Header, save_checkpoint
from posecli.config import DataConfig, Experiment, dump
from posecli.console import PosecliError, RunFailed
from posecli.datasets.config import SyntheticConfig
from posecli.nn.config import ResNetConfig
from posecli.summary import DataSummary
from posecli.types import Dataset
from posecli_associative.config import HigherConfig, HourglassConfig, TagsConfig
from posecli_associative.losses import pull_and_push
from posecli_associative.model import Associative
from posecli_associative.oracle import true_tags
from posecli_associative.targets import encode_scene, resize_mask

SIZE = (128, 64)
DATA = SyntheticConfig(count=3, seed=5, size=SIZE, people=(2, 3))


@pytest.fixture(scope="module")
def scenes() -> Dataset:
    return DATA.build()


def config(**fields: object) -> TagsConfig:
    return TagsConfig(backbone=ResNetConfig(depth=18), input_size=SIZE, deconv_filters=8, sigma=1.0, **fields)


def batch_of(model: Associative, scenes: Dataset) -> Batch:
    transform = model.transform(train=False)
    return collate([transform(scenes[index], np.random.default_rng(0)) for index in range(len(scenes))])


# --- targets and losses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unbiased", [False, True])
def test_heatmaps_are_the_highest_gaussians(unbiased: bool) -> None:
    """Against every cell and person in turn."""
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(2, 4, 3, 2, generator=generator) * torch.tensor([80.0, 48.0]) - 4
    visible = (torch.rand(2, 4, 3, generator=generator) > 0.3).float()
    targets = encode_scene(points, visible, (72, 40), (18, 10), 1.5, unbiased)
    expected = torch.zeros(2, 3, 10, 18)
    less = 1 if unbiased else 0
    for picture, person, joint in np.ndindex(2, 4, 3):
        x, y = (
            points[picture, person, joint] * torch.tensor([(18 - less) / (72 - less), (10 - less) / (40 - less)])
        ).tolist()
        column, row = int(x), int(y)
        shown = visible[picture, person, joint] > 0 and 0 <= column < 18 and 0 <= row < 10
        assert bool(targets.visible[picture, person, joint]) == bool(shown)
        if not shown:
            continue
        assert targets.cells[picture, person, joint] == row * 18 + column
        middle = (x, y) if unbiased else (column, row)
        for down, across in np.ndindex(10, 18):
            if abs(across - column) > 5 or abs(down - row) > 5:
                continue  # round(3 sigma) cells and one more
            value = np.exp(-((across - middle[0]) ** 2 + (down - middle[1]) ** 2) / (2 * 1.5**2))
            expected[picture, joint, down, across] = max(expected[picture, joint, down, across], value)
    torch.testing.assert_close(targets.heatmaps, expected)


def loop(tags: Tensor, visible: Tensor, kind: str) -> tuple[float, float]:
    """Pull and push of one picture's tags (P, K), person by person."""
    shown = [tags[person][visible[person]] for person in range(len(tags)) if visible[person].any()]
    if not shown:
        return 0.0, 0.0
    pull = sum(float((own - own.mean()).square().mean()) for own in shown) / len(shown)
    push = 0.0
    for first in range(len(shown)):
        for second in range(len(shown)):
            gap = float(shown[first].mean() - shown[second].mean())
            if first != second or kind == "exp-diagonal":
                push += max(0.0, 1 - abs(gap)) if kind == "max" else np.exp(-(gap**2))
    pairs = len(shown) * (len(shown) - 1)
    return pull, 0.5 * push / pairs if pairs else 0.0


@pytest.mark.parametrize("kind", ["exp", "max", "exp-diagonal"])
def test_pull_and_push_person_by_person(kind: str) -> None:
    generator = torch.Generator().manual_seed(2)
    tags = torch.randn(5, 4, 3, generator=generator)
    visible = torch.rand(5, 4, 3, generator=generator) > 0.5
    visible[0] = False  # nobody
    visible[1, 1:] = False  # one person
    visible[1, 0] = True
    pull, push = pull_and_push(tags, visible, kind)  # type: ignore[arg-type]
    for picture in range(5):
        expected = loop(tags[picture], visible[picture], kind)
        assert (pull[picture].item(), push[picture].item()) == pytest.approx(expected, rel=1e-5), picture


def test_masks_are_halved_by_majority() -> None:
    mask = torch.tensor([[[1, 1, 0, 0], [1, 0, 0, 1], [0, 0, 1, 1], [0, 0, 1, 1]]], dtype=torch.uint8)
    assert resize_mask(mask, (2, 2)).tolist() == [[[1, 0], [0, 1]]]
    assert torch.equal(resize_mask(mask, (4, 4)), mask.float())


def test_weights_of_stages(scenes: Dataset) -> None:
    """A weight of 0 leaves a stage out; another number of weights than stages is refused."""
    twice = HourglassConfig(stacks=2, channels=(8, 8), input_size=SIZE, sigma=1.0)
    torch.manual_seed(0)
    both = twice.build(scenes.skeleton).eval()
    only = twice.model_copy(update={"loss": twice.loss.model_copy(update={"heatmap": (0.0, 2.0)})})
    torch.manual_seed(0)
    second = only.build(scenes.skeleton).eval()
    batch = batch_of(both, scenes)
    outputs = both.outputs(batch.inputs["image"])
    targets = [both.encode(batch.targets, SIZE, (output.shape[3], output.shape[2])) for output in outputs]
    joints = len(scenes.skeleton)
    truth, mask = targets[1]
    error = ((outputs[1][:, :joints] - truth.heatmaps).square() * mask[:, None]).mean()
    torch.testing.assert_close(second.compare(outputs, targets)["heatmap"], 2 * error)
    with pytest.raises(PosecliError, match=r"model.loss.heatmap: 2 weights.*stages, 1"):
        config(loss={"heatmap": (1.0, 2.0)}).build(scenes.skeleton)


# --- from maps to people ----------------------------------------------------------------------------------------------


def perfect_maps(model: Associative, batch: Batch) -> Tensor:
    """What an ideal network gives: targets, and everybody's number times 10 as the tag."""
    targets, _ = model.encode(batch.targets, SIZE, (SIZE[0] // 4, SIZE[1] // 4))
    tags = true_tags(batch, (SIZE[1] // 4, SIZE[0] // 4))[..., 0]
    return torch.cat([targets.heatmaps, tags], dim=1)


def test_perfect_maps_give_the_people(scenes: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody is found once, in image pixels, to a cell; with the box around the keypoints."""
    model = config(flip_test=False).build(scenes.skeleton).eval()
    batch = batch_of(model, scenes)
    maps = perfect_maps(model, batch)
    monkeypatch.setattr(model, "outputs", lambda images: [maps])
    for sample, prediction in zip(batch.samples, model.predict(batch), strict=True):
        found, truth = prediction.people, sample.people
        assert prediction.id == sample.id
        gaps = np.linalg.norm(found.keypoints[:, None] - truth.keypoints[None], axis=-1)  # (M, N, K)
        means = np.nanmedian(gaps, axis=-1)
        assert (means.min(axis=0) < 4).all()
        assert found.boxes is not None
        known = np.isfinite(found.keypoints).all(axis=-1)
        assert (known == (found.scores > 0)).all()
        low = np.nanmin(found.keypoints, axis=1)
        np.testing.assert_allclose(found.boxes[:, :2], low, atol=1e-4)


def test_nobody_is_no_error(scenes: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    model = config().build(scenes.skeleton).eval()
    batch = batch_of(model, scenes)
    maps = torch.zeros(len(batch), 34, SIZE[1] // 4, SIZE[0] // 4)
    monkeypatch.setattr(model, "outputs", lambda images: [maps])
    for prediction in model.predict(batch):
        assert len(prediction.people) == 0
        assert prediction.people.keypoints.shape == (0, 17, 2)


@pytest.mark.parametrize("part", ["heatmap", "tag"])
def test_broken_maps_stop_with_the_picture(part: str, scenes: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    model = config().build(scenes.skeleton).eval()
    batch = batch_of(model, scenes)
    maps = torch.zeros(len(batch), 34, SIZE[1] // 4, SIZE[0] // 4)
    maps[1, 0 if part == "heatmap" else 20, 3, 4] = torch.nan
    monkeypatch.setattr(model, "outputs", lambda images: [maps])
    with pytest.raises(RunFailed, match=f"not finite for '{batch.ids[1]}'"):
        model.predict(batch)


def test_more_people_than_the_limit(
    scenes: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The best stay, and it is told."""
    model = config(flip_test=False, max_people=3, decode={"project": False}).build(scenes.skeleton).eval()
    batch = batch_of(model, scenes)
    maps = torch.zeros(len(batch), 34, SIZE[1] // 4, SIZE[0] // 4)
    columns = torch.arange(2, 32, 6)
    maps[0, 0, 8, columns] = torch.tensor([0.5, 0.9, 0.3, 0.8, 0.7])
    maps[0, 17, 8, columns] = torch.arange(5) * 10.0
    monkeypatch.setattr(model, "outputs", lambda images: [maps])
    first, *others = model.predict(batch)
    assert len(first.people) == 3
    assert not any(len(other.people) for other in others)
    assert sorted(first.people.keypoints[:, 0, 0].tolist()) == pytest.approx([34, 82, 106], abs=4)
    assert f"{first.id}: 5 people found, the best 3 are kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"scales": []}, "1 among them"),
        ({"scales": [0, 1]}, "positive"),
        ({"scales": [2]}, "1 among them"),
        ({"scales": [1, float("inf")]}, "positive"),
        ({"input_size": [250, 190]}, r"multiples of 64, as in \[256, 192\]"),
        ({"input_size": [96, 96]}, "multiples of 64"),
        ({"input_size": [64, 64], "channels": [8] * 6}, "6 resolutions takes multiples of 128"),
        ({"augment": {"scale": [0, 1.5]}}, "greater than 0"),
        ({"augment": {"scale": [0.5, float("inf")]}}, "finite"),
    ],
    ids=["none", "zero", "without-1", "infinite", "odd", "96", "six", "parts of nothing", "endless parts"],
)
def test_sizes_and_scales_that_do_not_fit(fields: dict[str, object], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        HourglassConfig.model_validate(fields)


def test_an_hourglass_at_any_scale(scenes: Dataset) -> None:
    small = HourglassConfig(stacks=1, channels=(4,) * 5, input_size=SIZE, scales=(0.75, 1.0, 1.5))
    model = small.build(scenes.skeleton)
    batch = batch_of(model.eval(), scenes)
    with torch.inference_mode():
        heatmaps, _ = model.maps(batch)
    assert heatmaps.shape[2:] == batch.inputs["image"].shape[1:3]


def test_mirrored_pictures_and_scales_take_part(scenes: Dataset) -> None:
    """Without them the maps differ; a mirrored picture gives the mirrored people."""
    torch.manual_seed(0)
    plain = config(flip_test=False).build(scenes.skeleton).eval()
    both = config(flip_test=True, scales=(0.5, 1.0, 2.0)).build(scenes.skeleton).eval()
    both.load_state_dict(plain.state_dict())
    batch = batch_of(both, scenes)
    assert set(batch.inputs) == {"image", "image@0.5", "image@2"}
    with torch.inference_mode():
        heatmaps, tags = both.maps(batch)
        mirrored = Batch(
            {name: images.flip(2) for name, images in batch.inputs.items()}, batch.targets, batch.samples, batch.undo
        )
        other, _ = both.maps(mirrored)
    height, width = batch.inputs["image"].shape[1:3]
    assert heatmaps.shape == (3, 17, height, width)
    assert tags.shape == (3, 17, height, width, 2)
    assert both.flip_index is not None
    torch.testing.assert_close(other[:, both.flip_index].flip(-1), heatmaps, rtol=1e-3, atol=1e-5)
    batch = batch_of(plain, scenes)
    with torch.inference_mode():
        assert plain.maps(batch)[1].shape[-1] == 1


def test_true_tags_need_labels(scenes: Dataset, tmp_path: pytest.TempPathFactory) -> None:
    """Pictures to infer have no truth."""
    experiment = Experiment(model=config(decode={"tags": "oracle"}), data=DataConfig(train=DATA, val=DATA))
    model = experiment.model.build(scenes.skeleton)
    path = tmp_path / "model.safetensors"  # type: ignore[operator]
    save_checkpoint(path, model.state_dict(), Header(dump(experiment), scenes.skeleton.to_dict()))
    with pytest.raises(PosecliError, match="oracle needs labelled pictures"):
        load(path, "cpu")(scenes[0].image())  # type: ignore[operator]


def test_true_tags_are_of_the_nearest(scenes: Dataset) -> None:
    model = config().build(scenes.skeleton)
    batch = batch_of(model, scenes)
    tags = true_tags(batch, (SIZE[1], SIZE[0]))
    assert tags.shape == (3, 17, SIZE[1], SIZE[0], 1)
    people = batch.samples[0].people
    for person, joint in np.argwhere(people.labelled):
        x, y = people.keypoints[person, joint].round().astype(int)
        own = np.linalg.norm(people.keypoints[:, joint] - [x, y], axis=-1)
        assert tags[0, joint, y, x, 0] == pytest.approx(10 * np.nanargmin(own), abs=0.01)


# --- what the data decides --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "box", "size", "note"),
    [
        ((640.0, 480.0), (100.0, 200.0), [640, 512], "as the picture is, in multiples of 64"),
        ((4000.0, 3000.0), (100.0, 200.0), [704, 512], "large pictures are limited"),
        ((640.0, 480.0), (500.0, 400.0), [320, 256], "large instances need fewer pixels"),
        ((100.0, 80.0), (50.0, 60.0), [128, 128], "never below two multiples"),
    ],
)
def test_input_from_the_data(
    picture: tuple[float, float], box: tuple[float, float], size: list[int], note: str
) -> None:
    summary = DataSummary(100, 50, picture, box, False, 0.9, None, True, True)
    fields, reasons = HigherConfig.fields_for(summary)
    assert fields["input_size"] == size, note
    assert any("no flips" in reason for reason in reasons)
