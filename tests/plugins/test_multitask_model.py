"""Heads and necks by name, classes in a mirror, scores of single heads, and where synthetic people face."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from posecli.augmentation import Augmentation
from posecli.batch import Batch, collate
from posecli.config import ConfigError, Experiment, Layers, load_experiment, parse_metric, validate
from posecli.console import PosecliError
from posecli.datasets.synthetic import facing, synthetic_dataset
from posecli.geometry import is_mirrored
from posecli.nn.config import ResNetConfig
from posecli.types import Dataset, People
from posecli_multitask.build import build_multitask, mirror_of
from posecli_multitask.config import ClassTask, HeatmapTask, MultiTaskConfig, NeckConfig, RegressionTask
from posecli_multitask.model import MultiTask
from posecli_multitask.tasks import ClassTask as Classes

FACING = ClassTask(column="facing", classes=("camera", "right", "away", "left"), mirrored=(("right", "left"),))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic_dataset(6, seed=1, size=(96, 96))


def model_of(**fields: object) -> MultiTask:
    torch.manual_seed(0)
    config = MultiTaskConfig.model_validate(
        {
            "backbone": ResNetConfig(depth=18, stages=3),
            "input_size": (64, 64),
            "necks": {"pooled": NeckConfig()},
            "heads": {
                "keypoints": HeatmapTask(deconv_filters=8),
                "coordinates": RegressionTask(neck="pooled", weight=0.5),
                "facing": FACING,
            },
            **fields,
        }
    )
    return build_multitask(config, synthetic_dataset(1).skeleton).eval()


def batch_of(model: MultiTask, dataset: Dataset, train: bool = False) -> Batch:
    transform = model.transform(train)
    return collate([transform(dataset[index], np.random.default_rng(index)) for index in range(len(dataset))])


def test_losses_have_the_heads_names_and_weights(dataset: Dataset) -> None:
    model = model_of()
    heads = {"keypoints": HeatmapTask(deconv_filters=8, weight=4), "facing": FACING.model_copy(update={"weight": 0.0})}
    other = model_of(heads=heads | {"coordinates": RegressionTask(neck="pooled", weight=1.0)})
    other.load_state_dict(model.state_dict())  # the order of the heads does not matter
    first, second = (one.losses(batch_of(one, dataset)) for one in (model, other))
    assert set(first) == {"keypoints", "coordinates", "facing"}
    for name, factor in (("keypoints", 4), ("coordinates", 2), ("facing", 0)):
        assert second[name].item() == pytest.approx(factor * first[name].item(), rel=1e-5)


def test_a_prediction_holds_what_every_head_found(dataset: Dataset) -> None:
    model = model_of()
    with torch.inference_mode():
        people = People.concatenate([one.people for one in model.predict(batch_of(model, dataset))])
    assert people.keypoints.shape == people.extra["coordinates"].shape == (6, 17, 2)
    np.testing.assert_allclose(people.extra["facing"].sum(axis=1), 1, rtol=1e-5)
    assert people.extra["row"].tolist() == [0] * 6
    swapped = model_of(keypoints="coordinates")
    swapped.load_state_dict(model.state_dict())
    with torch.inference_mode():
        others = People.concatenate([one.people for one in swapped.predict(batch_of(swapped, dataset))])
    np.testing.assert_array_equal(others.keypoints, people.extra["coordinates"])
    np.testing.assert_array_equal(others.extra["keypoints"], people.keypoints)


@pytest.mark.parametrize(
    ("column", "neck", "message"),
    [
        (
            "facin",
            "pooled",
            "head 'facing': the data 'synthetic' has no column 'facin' to learn its classes from; did you mean "
            "'facing'? (columns: facing): name one with --set model.heads.facing.column=NAME, or leave "
            "the head out with --set model.heads.facing=null",
        ),
        ("species", "own", "'species' to learn its classes from (columns: facing): "),
        ("area", "own", "'area' to learn its classes from (columns: facing): "),
        ("species", "own", "with --set model.heads.facing=null --set model.necks.own=null"),
    ],
    ids=["nearly the name", "another name", "no whole numbers", "with its neck"],
)
def test_a_head_without_its_column_is_not_trained(dataset: Dataset, column: str, neck: str, message: str) -> None:
    necks = {name: NeckConfig() for name in {"pooled", neck}}
    heads = {"keypoints": HeatmapTask(deconv_filters=8), "coordinates": RegressionTask(neck="pooled")}
    model = model_of(necks=necks, heads={**heads, "facing": FACING.model_copy(update={"column": column, "neck": neck})})
    assert len(model.units(dataset)) == 6  # predicting asks for no column
    with pytest.raises(PosecliError) as caught:
        model.units(dataset, train=True)
    assert message in str(caught.value)
    assert len(model_of().units(dataset, train=True)) == 6


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([1, 2, 3, 4, 4, -1], "has 2 rows of classes beyond the last of 4 (0 camera to 3 left), up to 4: name all"),
        ([-1] * 6, "knows nobody's class, leave the head out with --set model.heads.facing=null"),
        ([-1, 3, -1, -1, -1, -1], None),
    ],
    ids=["counted from 1", "nobody's", "one person's"],
)
def test_columns_of_classes_that_cannot_be_learnt(dataset: Dataset, numbers: list[int], message: str | None) -> None:
    data = dataclasses.replace(dataset, people=dataset.people.with_extra(facing=np.array(numbers)))
    if message is None:
        assert len(model_of().units(data, train=True)) == 6
        return
    with pytest.raises(PosecliError) as caught:
        model_of().units(data, train=True)
    assert message in str(caught.value)


def test_null_leaves_a_head_and_its_neck_out() -> None:
    names = ("model.heads.facing=null", "model.necks.pooled=null")
    config = load_experiment("multitask", names).model
    assert isinstance(config, MultiTaskConfig)
    assert set(config.heads) == {"keypoints"}
    assert not config.necks


def test_classes_change_sides_in_a_mirror(dataset: Dataset) -> None:
    model = model_of(augment=Augmentation(flip=0.5, half_body=0))
    batch = batch_of(model, dataset, train=True)
    mirror, true = mirror_of(FACING), dataset.people.extra["facing"]
    turned = [is_mirrored(undo) for undo in batch.undo.numpy()]
    assert set(turned) == {True, False}
    expected = [mirror[number] if flip else number for number, flip in zip(true, turned, strict=True)]
    assert batch.targets["facing"].tolist() == expected
    assert mirror == [0, 3, 2, 1]


def test_averaging_with_the_mirror_swaps_classes() -> None:
    task = Classes("facing", "facing", FACING.classes, mirror_of(FACING))
    logits = torch.tensor([[2.0, 1.0, -1.0, 0.5]])
    same = task.decode(task.average(logits, logits[:, [0, 3, 2, 1]], torch.arange(17)))
    np.testing.assert_allclose(same, task.decode(logits), rtol=1e-5)


def test_unknown_classes_cost_nothing() -> None:
    task = Classes("facing", "facing", FACING.classes, [0, 1, 2, 3])
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    one = task.loss(logits[:1], {"facing": torch.tensor([2])})
    assert task.loss(logits, {"facing": torch.tensor([2, -1, -1])}).item() == pytest.approx(one.item() / 3)


def test_the_guess_is_how_often_each_class_is_there(dataset: Dataset) -> None:
    guessed = {one.id: one.people for one in model_of().guess(dataset, dataset)}
    shares = np.bincount(dataset.people.extra["facing"], minlength=4) / 6
    np.testing.assert_allclose(guessed[0].extra["facing"], shares[None])
    np.testing.assert_array_equal(guessed[0].extra["coordinates"], guessed[0].keypoints)
    share, by_class = parse_metric("accuracy@facing").build(dataset.skeleton).compute(dataset, guessed)
    assert share.value == pytest.approx(shares.max())
    assert by_class.value == pytest.approx(1 / (shares > 0).sum())


def test_accuracy_counts_whom_nobody_predicted(dataset: Dataset) -> None:
    true = dataset.people.extra["facing"]
    found = {
        row: dataset[row].people.with_extra(facing=np.eye(4)[[true[row] if row else (true[0] + 1) % 4]])
        for row in range(5)
    }
    share, by_class = parse_metric("accuracy@facing").build(dataset.skeleton).compute(dataset, found)
    assert share.value == pytest.approx(4 / 6)
    assert share.note == "6 people, 1 of them not predicted"
    right = np.array([False, True, True, True, True, False])
    assert by_class.value == pytest.approx(np.mean([right[true == number].mean() for number in np.unique(true)]))


@pytest.mark.parametrize(
    ("text", "numbers", "value", "note"),
    [
        ("accuracy@facing", [0, 1, 1, 4, 7, -1], 2 / 3, "3 people; 2 left out, of classes that the head does not have"),
        ("accuracy@facing", [4] * 6, float("nan"), "0 people; 6 left out, of classes that the head does not have"),
        ("accuracy@posture:facing", [0] * 6, float("nan"), "no prediction has classes of a head 'posture'"),
        ("accuracy@coordinates:facing", [0] * 6, float("nan"), "no prediction has classes of a head 'coordinates'"),
    ],
    ids=["other classes", "none of its classes", "no such head", "a head of keypoints"],
)
def test_accuracy_of_what_cannot_be_right(
    dataset: Dataset, text: str, numbers: list[int], value: float, note: str
) -> None:
    data = dataclasses.replace(dataset, people=dataset.people.with_extra(facing=np.array(numbers)))
    said = np.eye(4)[[0, 1, 0, 3, 3, 3]]
    found = {
        row: data[row].people.with_extra(facing=said[row : row + 1], coordinates=data[row].people.keypoints)
        for row in range(6)
    }
    score = parse_metric(text).build(data.skeleton).compute(data, found)[0]
    assert score.value == pytest.approx(value, nan_ok=True)
    assert score.note == note


def test_accuracy_needs_whole_numbers(dataset: Dataset) -> None:
    with pytest.raises(PosecliError, match="no column 'area' of classes"):
        parse_metric("accuracy@facing:area").build(dataset.skeleton).compute(dataset, {})


def test_a_metric_of_another_head(dataset: Dataset) -> None:
    found = {row: dataset[row].people for row in range(6)}
    moved = {
        key: people.with_extra(coordinates=people.keypoints + np.array([3.0, 4.0])) for key, people in found.items()
    }
    scores = parse_metric("head@coordinates:epe").build(dataset.skeleton).compute(dataset, moved)
    assert [score.name for score in scores] == ["coordinates: EPE", "coordinates: EPE median"]
    assert scores[0].value == pytest.approx(5.0, abs=1e-4)
    with pytest.raises(PosecliError, match="no head 'coordinates' beside the main one"):
        parse_metric("head@coordinates:epe").build(dataset.skeleton).compute(dataset, found)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"heads": {"facing": {"task": "class", "column": "facing", "classes": ["a", "b"]}}}, "there is none"),
        ({"heads": {"a": {"task": "heatmap"}, "b": {"task": "regression"}}}, "say which head's"),
        ({"heads": {"a": {"task": "heatmap", "neck": "pooled"}}}, "there is no neck 'pooled'"),
        (
            {"necks": {"pooled": {"kind": "pool"}}},
            "no head sits on 'pooled'; leave it .* --set model.necks.pooled=null",
        ),
        (
            {
                "necks": {"n": {"kind": "convolution"}},
                "heads": {"a": {"task": "heatmap", "pyramid": True, "neck": "n"}},
            },
            "a pyramid sits on the backbone itself",
        ),
        ({"heads": {"row": {"task": "heatmap"}}}, "cannot be a head's or neck's name"),
        (
            {"heads": {"a": {"task": "heatmap"}, "b": {**FACING.model_dump(), "mirrored": [["right", "up"]]}}},
            "mirrored names 'up'",
        ),
        (
            {"heads": {"b": {**FACING.model_dump(), "mirrored": [["right", "left"], ["right", "away"]]}}},
            "mirrored names 'right' more than once",
        ),
        ({"heads": {"b": {**FACING.model_dump(), "classes": ["right", "left", "left"]}}}, "classes names 'left' more"),
    ],
    ids=[
        "no keypoints",
        "two heads find them",
        "no such neck",
        "a neck too many",
        "a pyramid on a neck",
        "a column's name",
        "no such class",
        "a class with two mirror images",
        "a class twice",
    ],
)
def test_configs_that_make_no_sense(model: dict[str, object], message: str) -> None:
    layers = Layers()
    layers.add({"model": {"use": "multitask", **model}, "data": {"train": "synthetic", "val": "synthetic"}}, "a.yaml")
    with pytest.raises(ConfigError, match=message):
        validate(Experiment, layers)


@pytest.mark.parametrize(
    ("heads", "necks", "message"),
    [
        ({"a": HeatmapTask(neck="n")}, {"n": NeckConfig(kind="pool")}, "heatmaps need a map"),
        ({"a": HeatmapTask(stride=3)}, {}, "no doubling makes 3"),
        ({"keypoints": HeatmapTask(codec="udp"), "b": HeatmapTask()}, {}, "for all heatmaps or for none"),
    ],
    ids=["pooled", "stride", "two ways to crop"],
)
def test_heads_that_do_not_fit(heads: dict[str, object], necks: dict[str, object], message: str) -> None:
    with pytest.raises(PosecliError, match=message):
        model_of(heads=heads, necks=necks)


@pytest.mark.parametrize(("angle", "number"), [(0, 0), (80, 1), (100, 1), (180, 2), (-100, 3), (-30, 0)])
def test_where_people_face(angle: float, number: int) -> None:
    """A person whose right shoulder and hip are on the picture's left faces the camera; turned by `angle` about the
    upright axis, the person's front moves to the right side of the picture."""
    names = synthetic_dataset(1).skeleton.names
    joints = np.zeros((1, 17, 3))
    for index, name in enumerate(names):
        side = {"left": 200.0, "right": -200.0}.get(name.split("_")[0], 0.0)
        joints[0, index] = [side * np.cos(np.radians(angle)), 0, side * np.sin(np.radians(angle)) + 3000]
    front = np.array([np.sin(np.radians(angle)), 0, -np.cos(np.radians(angle))])  # at 90 degrees: to the right, +x
    assert facing(joints).tolist() == [number]
    assert (front[0] > 0.5) == (number == 1)


def test_all_sides_of_synthetic_people_are_seen() -> None:
    counts = np.bincount(synthetic_dataset(200, seed=0, size=(64, 64)).people.extra["facing"], minlength=4)
    assert counts.min() >= 2
    assert counts.argmax() == 0, "most of them face the camera"
