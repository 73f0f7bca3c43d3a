"""The lifting algorithm: units and predictions, normalisation, learning from clips without 3D."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from posecli.batch import collate
from posecli.camera import project
from posecli.console import PosecliError
from posecli.datasets.config import SyntheticMotionConfig
from posecli.losses.pose3d import length
from posecli.skeleton import Skeleton, house_skeleton
from posecli.testing import example_batch
from posecli.types import Camera, Dataset, Prediction
from posecli_lifter.augmentation import MotionAugmentation
from posecli_lifter.build import parents
from posecli_lifter.config import (
    DSTFormerConfig,
    LifterConfig,
    PartlyLabelledConfig,
    SemiConfig,
    StatisticsConfig,
    TemporalConfig,
)
from posecli_lifter.losses import project as project_batch
from posecli_lifter.model import LENS, Lifter
from posecli_lifter.normalization import Image, ImageDepth, Normalization, Person, Standard, View
from posecli_lifter.partly_labelled import partly_labelled

H36M = house_skeleton("h36m")


@pytest.fixture(scope="module")
def motion() -> Dataset:
    """Three clips of forty frames."""
    return SyntheticMotionConfig(clips=3, frames=40).build()


def build(config: LifterConfig) -> Lifter:
    torch.manual_seed(0)
    model = config.build(H36M)
    assert isinstance(model, Lifter)
    return model.eval()


def predict(model: Lifter, samples: Dataset) -> dict[object, Prediction]:
    """Predictions by sample, unit by unit."""
    transform = model.transform(train=False)
    found: list[Prediction] = []
    with torch.inference_mode():
        for unit in model.units(samples):
            found += model.predict(collate([transform(unit, np.random.default_rng(0))]))
    assert len({one.id for one in found}) == len(found), "a frame is predicted once"
    return {one.id: one for one in found}


@pytest.mark.parametrize(
    "config",
    [
        TemporalConfig(channels=16, kernels=(3, 3)),
        TemporalConfig(channels=16, kernels=(3, 3), causal=True, normalize="person"),
        TemporalConfig(channels=16, kernels=(3, 3), trajectory=True),
        TemporalConfig(channels=16, kernels=(1, 1), normalize="person-place"),
    ],
)
def test_clips_in_pieces_predict_the_same(config: TemporalConfig, motion: Dataset) -> None:
    """Every frame of every clip once, whether the clips are whole, in pieces, or cut into training windows."""
    whole = predict(build(config), motion)
    assert set(whole) == set(motion.ids)
    pieces = predict(build(config.model_copy(update={"longest": 7})), motion)
    for name, one in whole.items():
        np.testing.assert_allclose(pieces[name].people.keypoints, one.people.keypoints, atol=0.05)
        assert one.people.extra["row"].tolist() == [0]
    model = build(config.model_copy(update={"flip_test": False}))
    batch = example_batch(model, motion)
    with torch.inference_mode():
        poses = model.poses(View.of(batch.inputs))[:, 0].numpy()
    unflipped = predict(model, motion)
    for sample, pose in zip(batch.samples, poses, strict=True):
        np.testing.assert_allclose(unflipped[sample.id].people.keypoints[0], pose, atol=0.05)


def test_attention_takes_windows_at_most_as_long(motion: Dataset) -> None:
    model = build(DSTFormerConfig(frames=16, channels=16, depth=1, heads=2, embedding=16))
    found = predict(model, motion)
    assert set(found) == set(motion.ids)


def test_mirrored_input_gives_the_mirrored_pose(motion: Dataset) -> None:
    """That is what averaging with the mirror image makes sure of."""
    model = build(TemporalConfig(channels=16, kernels=(3, 3), normalize="person-place"))
    assert model.flip_index is not None
    view = View.of(example_batch(model, motion).inputs)

    def averaged(view: View) -> Tensor:
        assert model.flip_index is not None
        other = model.poses(view.mirrored(model.flip_index))[:, :, model.flip_index]
        return (model.poses(view) + other * torch.tensor([-1.0, 1, 1])) / 2

    with torch.inference_mode():
        mirrored = averaged(view.mirrored(model.flip_index))[:, :, model.flip_index] * torch.tensor([-1.0, 1, 1])
        torch.testing.assert_close(mirrored, averaged(view), rtol=0, atol=0.05)


def test_unknown_keypoints_do_not_matter(motion: Dataset) -> None:
    """Wherever an unknown keypoint is said to be, the pose is the same, finite, and told for that joint too."""
    model = build(TemporalConfig(channels=16, kernels=(3, 3), normalize="person"))
    batch = example_batch(model, motion)
    batch.inputs["visible"][:, :, [0, 13]] = 0
    with torch.inference_mode():
        poses = model.poses(View.of(batch.inputs))
        batch.inputs["keypoints"][:, :, [0, 13]] = torch.nan
        torch.testing.assert_close(model.poses(View.of(batch.inputs)), poses)
    assert poses.isfinite().all()


def test_every_joint_has_a_score(motion: Dataset) -> None:
    """One that was not seen scores what all of the person do in the mean."""
    hidden = motion.people.scores.copy()
    hidden[:, 13] = 0
    found = predict(
        build(TemporalConfig(channels=16, kernels=(3, 3))),
        dataclasses.replace(motion, people=dataclasses.replace(motion.people, scores=hidden)),
    )
    scores = found[motion.ids[5]].people.scores
    np.testing.assert_allclose(scores[0, [0, 13]], [1, 16 / 17], rtol=1e-6)


def test_nothing_seen_is_nothing_told(motion: Dataset) -> None:
    """A frame without a known keypoint has no pose, its neighbours have theirs."""
    pixels, scores = motion.people.keypoints.copy(), motion.people.scores.copy()
    pixels[5], scores[5] = np.nan, 0
    people = dataclasses.replace(motion.people, keypoints=pixels, scores=scores)
    found = predict(build(TemporalConfig(channels=16, kernels=(3, 3))), dataclasses.replace(motion, people=people))
    unseen = found[motion.ids[5]].people
    assert np.isnan(unseen.keypoints).all()
    assert not unseen.scores.any()
    assert np.isfinite(found[motion.ids[4]].people.keypoints).all()


@pytest.mark.parametrize("kernels", [(3, 3), (1, 1, 1)], ids=["frames", "one-frame"])
def test_a_batch_of_one_window_is_learnt_from(kernels: tuple[int, ...], motion: Dataset) -> None:
    model = build(TemporalConfig(channels=16, kernels=kernels)).train()
    batch = example_batch(model, motion)
    one = type(batch)(
        {name: values[:1] for name, values in batch.inputs.items()},
        {name: values[:1] for name, values in batch.targets.items()},
        batch.samples[:1],
        batch.undo[:1],
    )
    loss = model.losses(one)["pose"]
    loss.backward()
    assert loss.isfinite()
    assert model.steps == 1
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(values.isfinite().all() for values in model.state_dict().values())


@pytest.mark.parametrize(
    "config",
    [
        TemporalConfig(channels=16, kernels=(3, 3), trajectory=True),
        TemporalConfig(channels=16, kernels=(3, 3), normalize="person-place"),
        DSTFormerConfig(frames=9, channels=16, depth=1, heads=2, embedding=16, target="metres"),
        DSTFormerConfig(frames=9, channels=16, depth=1, heads=2, embedding=16),
    ],
    ids=["trajectory", "person", "metres", "image"],
)
def test_the_middle_of_the_hips_is_a_root(config: LifterConfig, motion: Dataset) -> None:
    """Human3.6M's joints without the hip in the middle, as H3WB's are: trained, and poses around the middle."""
    names = ("hidden", *(f"{name}_joint" for name in H36M.names[1:]))
    names = tuple({1: "right_hip", 4: "left_hip"}.get(joint, name) for joint, name in enumerate(names))
    hips = dataclasses.replace(H36M, name="hips", names=names)
    torch.manual_seed(0)
    model = config.build(hips)
    assert isinstance(model, Lifter)
    batch = example_batch(model, motion)
    assert all(loss.isfinite() for loss in model.losses(batch).values())
    batch.targets["known"][:, :, 1] = 0
    assert float(model.losses(batch)["pose"].detach()) == 0, "without both hips nothing is known"
    if isinstance(config, DSTFormerConfig) or not config.trajectory:
        poses = predict(model.eval(), motion)[motion.ids[3]].people.keypoints
        np.testing.assert_allclose(poses[:, [1, 4]].mean(axis=1), 0, atol=1e-3)


# --- normalisation ----------------------------------------------------------------------------------------------------


def statistics() -> StatisticsConfig:
    """Some numbers, of the right shapes."""
    draw = np.random.default_rng(0).uniform
    tables = [draw(400, 600, (17, 2)), draw(50, 100, (17, 2)), draw(-1, 1, (16, 3)), draw(0.1, 0.3, (16, 3))]
    names = ("mean_2d", "deviation_2d", "mean_3d", "deviation_3d")
    return StatisticsConfig.model_validate(dict(zip(names, (table.tolist() for table in tables), strict=True)))


def normalizations() -> list[Normalization]:
    tables = statistics()
    standard = Standard(0, tables.mean_2d, tables.deviation_2d, tables.mean_3d, tables.deviation_3d)
    return [Image([0]), Image([1, 4], confidence=True), standard, Person([0]), Person([1, 4], place=True)]


def seen(motion: Dataset) -> tuple[View, Tensor]:
    """What the cameras of all clips saw, and the true poses."""
    batch = example_batch(build(TemporalConfig(channels=4, kernels=(3,))), motion)
    return View.of(batch.inputs), batch.targets["keypoints_3d"]


@pytest.mark.parametrize("codec", normalizations(), ids=lambda codec: type(codec).__name__)
def test_what_is_said_becomes_the_pose(codec: Normalization, motion: Dataset) -> None:
    view, poses = seen(motion)
    decoded = codec.poses(codec.targets(poses, view), view)
    torch.testing.assert_close(decoded, codec.relative(poses), rtol=0, atol=0.01)
    assert codec.inputs(view).shape == (*view.visible.shape, codec.channels)


def test_a_depth_picture_needs_a_size(motion: Dataset) -> None:
    """With the millimetres a pixel the pose comes back nearly, for it is taken to be flat; without, its proportions."""
    view, poses = seen(motion)
    codec = ImageDepth([0], parents(H36M), body=4000)
    targets = codec.targets(poses, view)
    true = codec.relative(poses)
    flat = codec.sized(targets, view, codec.factor(poses, view))
    torch.testing.assert_close(flat[..., 2], true[..., 2], rtol=0, atol=0.05)
    assert (flat - true).norm(dim=-1).mean() < 0.1 * true.norm(dim=-1).mean()
    decoded = codec.poses(targets, view)
    lengths = (decoded[..., codec.bones, :] - decoded[..., codec.ends, :]).norm(dim=-1).sum(dim=-1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 4000.0))


def test_a_person_looks_alike_to_all_cameras() -> None:
    """Turning a camera about its place, and another lens, leave what is seen of a person nearly as it was."""
    pose = torch.randn(1, 1, 17, 3, generator=torch.Generator().manual_seed(0)) * 300 + torch.tensor([0.0, 0, 5000])

    def look(points: Tensor, focal: float, center: float) -> View:
        pixels = points[..., :2] / points[..., 2:] * focal + center
        size, lens, middle = (torch.full((1, 2), value) for value in (1000.0, focal, center))
        return View(pixels, torch.ones(1, 1, 17), size, lens, middle)

    angle = torch.tensor(0.3)
    turn = torch.tensor([[angle.cos(), 0, angle.sin()], [0, 1, 0], [-angle.sin(), 0, angle.cos()]])
    root = pose - pose[..., :1, :] + torch.tensor([0.0, 0, 5000])  # in the middle of the first camera
    one = Person([0]).inputs(look(root, 1000.0, 500.0))
    other = Person([0]).inputs(look(root @ turn.T, 1400.0, 450.0))
    torch.testing.assert_close(other, one, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"kernels": (3, 4)}, "odd number"),
        ({"normalize": "standard"}, "statistics"),
        ({"trajectory": True, "normalize": "person"}, "normalize: image"),
        ({"semi": {}}, "trajectory: true"),
    ],
)
def test_faults_in_configs(fields: dict[str, object], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        TemporalConfig.model_validate(fields)


def test_faults_that_the_skeleton_shows() -> None:
    with pytest.raises(PosecliError, match="no root joint"):
        TemporalConfig().build(Skeleton("mouse", ("snout", "tail")))
    with pytest.raises(PosecliError, match="standard leaves the root joint out"):
        TemporalConfig(normalize="standard", statistics=statistics()).build(house_skeleton("coco"))
    few = statistics().model_copy(update={"mean_2d": ((1.0, 2.0),)})
    with pytest.raises(PosecliError, match="mean_2d: 1×2 numbers, the skeleton asks for 17×2"):
        TemporalConfig(normalize="standard", statistics=few).build(H36M)


# --- clips without 3D -------------------------------------------------------------------------------------------------


def partly(share: float = 1.0) -> PartlyLabelledConfig:
    return PartlyLabelledConfig(
        labelled=SyntheticMotionConfig(clips=4, frames=12),
        unlabelled=SyntheticMotionConfig(clips=6, frames=12, seed=1),
        share=share,
    )


def test_partly_labelled_data() -> None:
    """Two of four labelled clips keep their 3D; the windows of a batch are balanced."""
    data = partly(0.5).build()
    known = np.isfinite(data.people.extra["keypoints_3d"]).all(axis=(1, 2))
    assert (len(data), int(known.sum())) == (120, 24)
    assert len(np.unique(data.people.extra["track_id"])) == 10
    assert len(set(data.ids)) == 120
    assert data[119].id == "unlabelled/00005/000011"
    assert data[119].camera is not None
    model = build(TemporalConfig(channels=8, kernels=(3, 3), trajectory=True, semi=SemiConfig()))
    labelled = example_batch(model, data).targets["known"].flatten(1).sum(dim=1) > 0
    assert labelled.float().mean() == 0.5


def test_clips_that_never_had_3d() -> None:
    """Films of known cameras with 2D keypoints alone, rows without a track among them."""
    whole = SyntheticMotionConfig(clips=2, frames=5).build()
    films = dataclasses.replace(whole, people=dataclasses.replace(whole.people, extra={}))
    data = partly_labelled(whole, films)
    assert np.isfinite(data.people.extra["keypoints_3d"]).all(axis=(1, 2)).tolist() == [True] * 10 + [False] * 10
    assert len(np.unique(data.people.extra["track_id"])) == 2 + 10
    with pytest.raises(PosecliError, match="has no 3D to learn from"):
        partly_labelled(films, whole)
    with pytest.raises(PosecliError, match="has 2D keypoints only"):
        build(TemporalConfig(channels=8, kernels=(3,))).units(films, train=True)


def test_unlabelled_clips_are_learnt_from() -> None:
    """Projection and bones come down on clips without 3D, and only after the warm-up; labelled poses are learnt too."""
    torch.manual_seed(0)
    semi = SemiConfig(projection=0.5, bones=1.0, warmup=3)
    model = TemporalConfig(channels=64, kernels=(3, 3), dropout=0, trajectory=True, semi=semi).build(H36M)
    batch = example_batch(model, partly(0.5).build())
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    history = []
    for _ in range(40):
        losses = model(batch)
        history.append({name: value.item() for name, value in losses.items()})
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    assert history[0].keys() == {"pose", "trajectory", "projection", "bones"}
    waited = [index for index, values in enumerate(history) if values["projection"] == 0]
    assert waited == [0, 1, 2]
    for name in ("pose", "trajectory", "projection"):
        assert history[-1][name] < 0.5 * history[3][name], name


def test_poses_are_projected_through_the_lens(motion: Dataset) -> None:
    """True poses project nearly to the pixels that a lens bends, and not without it; in a mirror as well."""
    lens = np.array([-0.2, 0.24, -0.001, -0.002, -0.002])
    assert motion.cameras is not None
    known = [one for one in motion.cameras if one is not None]
    cameras = [Camera(one.rotation, one.position, one.focal, one.center, lens) for one in known]
    points = motion.people.extra["keypoints_3d"]
    owners = motion.sample_of_row
    pixels = np.stack(
        [
            project(points[row], camera.focal, camera.center, camera.distortion)
            for row, camera in enumerate(cameras[owner] for owner in owners)
        ]
    )
    bent = dataclasses.replace(
        motion, cameras=cameras, people=dataclasses.replace(motion.people, keypoints=pixels.astype(np.float32))
    )
    model = build(TemporalConfig(channels=4, kernels=(3,), augment=MotionAugmentation(flip=1, camera=0)))
    for train in (False, True):
        transform = model.transform(train)
        batch = collate([transform(model.units(bent, train=True)[0], np.random.default_rng(0))])
        pinhole = torch.cat([batch.inputs["focal"], batch.inputs["center"]], dim=1)
        errors = [
            length(project_batch(batch.targets["keypoints_3d"], camera) - batch.inputs["keypoints"]).max().item()
            for camera in (pinhole, torch.cat([pinhole, batch.targets["distortion"][:, LENS]], dim=1))
        ]
        assert errors[1] < 0.3 * errors[0], train
