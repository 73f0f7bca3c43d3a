"""HMR of MMPose 0.29.0, brought over by `posecli import mmpose`, gives its numbers: both networks, losses, gradients.

The numbers and the rule for the weights are those of reference/golden/README-0.29.md in the shared folder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_rule import golden_input, golden_state
from torch import Tensor
from typer.testing import CliRunner

from posecli.camera import project as see_through
from posecli.checkpoint import open_model
from posecli.commands.import_ import import_app
from posecli_mesh.head import Estimate
from posecli_mesh.losses import GANLoss, MeshLoss, project
from posecli_mesh.model import MeshRecovery
from posecli_mesh.motion import MotionSet
from posecli_mesh.rotations import from_axis_angle, from_quaternion, from_six

LOSSES = {  # ours -> the reference's
    "keypoints_2d": "joints_2d_loss",
    "keypoints_3d": "joints_3d_loss",
    "vertices": "vertex_loss",
    "rotations": "smpl_pose_loss",
    "shape": "smpl_beta_loss",
}


@dataclass(frozen=True)
class Reference:
    """The reference's network with what it gave, and ours with its weights."""

    facts: dict[str, Any]
    arrays: dict[str, Tensor]
    model: MeshRecovery


@pytest.fixture(scope="module")
def functional(golden: Path) -> dict[str, Tensor]:
    """Inputs and outputs of the reference's functions."""
    with np.load(golden / "functional29_mesh.npz") as archive:
        return {name: torch.from_numpy(values) for name, values in archive.items()}


@pytest.fixture(scope="module")
def reference(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """A checkpoint as 0.x writes it, generator twice and SMPL's arrays included, imported and opened."""
    folder = tmp_path_factory.mktemp("mesh")
    facts = json.loads((golden / "hmr_res50_mixed_224x224.json").read_text())
    with np.load(golden / "hmr_res50_mixed_224x224.npz") as archive:
        arrays = {name: torch.from_numpy(values) for name, values in archive.items()}
    with np.load(golden / "smpl_synthetic.npz") as archive:
        np.savez(folder / "SMPL_NEUTRAL.npz", **{k[6:]: v for k, v in archive.items() if k.startswith("model/")})
        np.save(folder / "regressor.npy", archive["joints_regressor"])
    state = golden_state(facts)
    for part, length in (("pose", 144), ("shape", 10), ("cam", 3)):
        state[f"mesh_head.init_{part}"] = arrays[f"smpl_mean_params.{part}"].view(1, length)
    for prefix, place in (("backbone.", "generator.0."), ("mesh_head.", "generator.1.")):
        state |= {place + name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
    torch.save({"state_dict": state, "meta": {"mmpose_version": "0.29.0"}}, folder / "hmr.pth")
    settings = [
        f"model.body.path={folder / 'SMPL_NEUTRAL.npz'}",
        f"model.body.regressor={folder / 'regressor.npy'}",
        "data.train=synthetic",
        "data.val=synthetic",
    ]
    options = [part for setting in settings for part in ("--set", setting)]
    arguments = [str(folder / "hmr.pth"), str(folder / "ours.safetensors"), "--skeleton", "body24"]
    result = CliRunner().invoke(import_app, [*arguments, "--config", "mesh/mixed/hmr-resnet-50", *options])
    assert result.exception is None, result.output
    for side in ("missing in the checkpoint", "without a place in the model", "of another shape"):
        assert f"{side}: 0\n" in result.stdout
    model, _, _ = open_model(folder / "ours.safetensors")
    assert isinstance(model, MeshRecovery)
    return Reference(facts, arrays, model.eval())


def test_parameters(reference: Reference) -> None:
    assert (
        sum(p.numel() for p in reference.model.parameters()) == reference.facts["params"] - 10
    )  # one of SMPL's own betas


def images(reference: Reference) -> Tensor:
    return golden_input(reference.facts["input_shape"])


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_generator(reference: Reference, rounds: int) -> None:
    """Rotations, shape and camera after each round."""
    model = reference.model
    before, model.head.rounds = model.head.rounds, rounds
    with torch.inference_mode():
        found = model.head(model.backbone(images(reference)))
    model.head.rounds = before
    for values, name in ((found.rotations, "pred_rotmat"), (found.shape, "betas"), (found.camera, "camera")):
        theirs = reference.arrays[f"head_n_iter={rounds}.{name}"]
        assert (values - theirs).abs().max() <= 1e-3 * theirs.std() * 0.05, name  # the input moves them by about 0.05


def test_body_of_the_generator(reference: Reference) -> None:
    """The mesh and its keypoints for the reference's own pose and shape: to 1e-5 metres."""
    arrays = reference.arrays
    with torch.inference_mode():
        found = reference.model.body(arrays["test.smpl_pose"], arrays["test.smpl_beta"])
    assert (found.vertices - arrays["test.vertices"]).abs().max() <= 1e-5
    assert (found.joints - arrays["test.keypoints_3d"]).abs().max() <= 1e-5


def test_discriminator(reference: Reference) -> None:
    """Every score, for matrices and for the same poses as axes and angles."""
    assert reference.model.adversary is not None
    judge, arrays = reference.model.adversary.discriminator, reference.arrays
    rotations = arrays["disc.in.rotmat"]
    with torch.inference_mode():
        scores = judge(rotations, arrays["disc.in.betas"])
        each, features = judge.pose_discriminator(rotations[:, 1:].flatten(2))
        from_angles = judge(from_axis_angle(arrays["disc.in.axis_angle"].view(4, 24, 3)), arrays["disc.in.betas"])
    pairs = (
        (scores, "disc.out.from_rotmat"),
        (from_angles, "disc.out.from_axis_angle"),
        (each, "disc.pose_joint_scores"),
        (features, "disc.pose_inter_features"),
    )
    for ours, name in pairs:
        assert (ours - arrays[name]).abs().max() <= 1e-5, name


def targets(reference: Reference) -> dict[str, Tensor]:
    """The batch of the reference's training step."""
    given = {name[9:]: values for name, values in reference.arrays.items() if name.startswith("train.in.")}
    return {
        "keypoints": given["joints_2d"],
        "visible": given["joints_2d_visible"][..., 0],
        "keypoints_3d": given["joints_3d"] * 1000,
        "known": given["joints_3d_visible"][..., 0],
        "rotations": from_axis_angle(given["pose"].view(2, 24, 3)),
        "shape": given["beta"],
        "has_body": given["has_smpl"],
        "draw": torch.tensor([0.0, 0.5], dtype=torch.float64),  # the two rows of the motion set
    }


def test_training_step(reference: Reference) -> None:
    """All losses within 1e-4; one backward gives both optimizers the gradients of the reference's two steps."""
    model, facts, motion = reference.model, reference.facts, reference.arrays["train.in.mosh_theta"]
    assert model.adversary is not None
    model.adversary.motion = MotionSet(motion[:, 3:75], motion[:, 75:])
    features = model.backbone(images(reference))[-1]
    losses = model.losses_of(model.head([features]), targets(reference))
    model.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    expected = {ours: facts["losses_eval_mode"][theirs] for ours, theirs in LOSSES.items()} | {
        "adversarial": facts["losses_eval_mode"]["adv_loss"],
        "discriminator_real": facts["disc_losses"]["real_loss"],
        "discriminator_made": facts["disc_losses"]["fake_loss"],
    }
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-4)
    norms = {name: value.grad.double().norm().item() for name, value in model.named_parameters()}  # type: ignore[union-attr]
    for group in ("grad_norms", "disc_grad_norms"):
        theirs = {
            name.replace("mesh_head.", "head.").replace("discriminator.", "adversary.discriminator.", 1): value
            for name, value in facts[group].items()
        }
        assert {name: norms[name] for name in theirs} == pytest.approx(theirs, rel=1e-2), group
    model.zero_grad(set_to_none=True)


def test_rotations(functional: dict[str, Tensor]) -> None:
    pairs = (
        (from_six, "rot6d_to_rotmat/in/x", "rot6d_to_rotmat/out/rotmat"),
        (from_axis_angle, "batch_rodrigues/in/theta", "batch_rodrigues/out/rotmat"),
        (from_axis_angle, "batch_rodrigues/in/theta", "batch_rodrigues/out/rotmat_smplx"),
        (from_quaternion, "quat_to_rotmat/in/quat", "quat_to_rotmat/out/rotmat"),
    )
    for function, given, expected in pairs:
        assert (function(functional[given]) - functional[expected]).abs().max() <= 1e-6, expected


def test_gradient_of_axis_angle(functional: dict[str, Tensor]) -> None:
    theta = functional["batch_rodrigues_grad/in/theta"].clone().requires_grad_()
    (from_axis_angle(theta) * functional["batch_rodrigues_grad/in/w"]).sum().backward()
    assert theta.grad is not None
    assert (theta.grad - functional["batch_rodrigues_grad/out/grad"]).abs().max() <= 2e-6


def test_projection(functional: dict[str, Tensor]) -> None:
    """Pixels from the centre, to 1e-4."""
    found = project(functional["project_points/in/points"], functional["project_points/in/camera"], 5000.0, 224)
    assert (found - functional["project_points/out/points2d"]).abs().max() <= 1e-4


def test_perspective(functional: dict[str, Tensor]) -> None:
    """The reference's general projection is core's, which has no pixel for what is not in front of the camera."""
    given = {k.rsplit("/", 1)[1]: v.double().numpy() for k, v in functional.items() if "perspective_projection/" in k}
    points = given["points"] @ given["rotation"].transpose(0, 2, 1) + given["translation"][:, None]
    pixels = see_through(points, np.full((4, 2), 500.0), given["camera_center"])
    seen = points[..., 2] > 0
    assert seen.sum() > 18
    assert np.abs(pixels - given["points2d"])[seen].max() <= 1e-6 * np.abs(given["points2d"]).max()


@pytest.mark.parametrize("weights", ["unit", "config"])
def test_mesh_loss(functional: dict[str, Tensor], weights: str) -> None:
    """Every component and every gradient."""
    prefix = f"MeshLoss_{weights}"
    given = {name.split("/in/")[1]: v for name, v in functional.items() if name.startswith(f"{prefix}/in/")}
    found = {k[5:]: v.clone().requires_grad_() for k, v in given.items() if k.startswith("pred.")}
    true = {k[7:]: v for k, v in given.items() if k.startswith("target.")}
    values = (1, 1, 1, 1, 1) if weights == "unit" else (100, 1000, 20, 30, 0.2)
    loss = MeshLoss(dict(zip(LOSSES, values, strict=True)), (2, 3), (224, 224), 5000.0)
    has = true["has_smpl"]
    joints = found["joints_3d"]
    losses = loss.weighted(
        {
            "keypoints_2d": loss.keypoints_2d(
                joints, found["camera"], true["joints_2d"], true["joints_2d_visible"][..., 0]
            ),
            "keypoints_3d": loss.keypoints_3d(joints, true["joints_3d"], true["joints_3d_visible"][..., 0]),
            "vertices": loss.vertices(found["vertices"], true["vertices"], has),
            "rotations": loss.rotations(found["pose"], from_axis_angle(true["pose"].view(4, 24, 3)), has),
            "shape": loss.shape(found["beta"], true["beta"], has),
        }
    )
    for name, value in losses.items():
        expected = functional[f"{prefix}/out/losses.{LOSSES[name]}"].item()
        assert value.item() == pytest.approx(expected, rel=1e-5), name
    torch.stack(list(losses.values())).sum().backward()
    for name, value in found.items():
        expected = functional[f"{prefix}/out/grad.{name}"]
        assert value.grad is not None
        assert (value.grad - expected).abs().max() <= 1e-5 * expected.abs().max(), name


@pytest.mark.parametrize("kind", ["vanilla", "lsgan", "wgan", "hinge"])
@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("judge", [True, False])
def test_gan_loss(functional: dict[str, Tensor], kind: Any, real: bool, judge: bool) -> None:
    """Value and gradient. The weight is the generator's only."""
    scores = functional[f"GANLoss_{kind}/in/input"].clone().requires_grad_()
    loss = GANLoss(kind, 0.7)
    value = loss.judged(scores, real) if judge else loss.fooling(scores, real)
    value.backward()
    case = f"real={real},disc={judge}"
    assert value.item() == pytest.approx(functional[f"GANLoss_{kind}/out/{case}"].item(), rel=1e-5)
    assert scores.grad is not None
    assert (scores.grad - functional[f"GANLoss_{kind}/out/grad_{case}"]).abs().max() <= 1e-7


def test_missing_labels_count_nothing(reference: Reference) -> None:
    """What is not labelled may hold any numbers: losses and gradients stay the same."""
    model = reference.model
    with torch.no_grad():
        found = model.head(model.backbone(images(reference)))
    given = targets(reference)
    without = dict(given)
    for values, mask in (("keypoints", "visible"), ("keypoints_3d", "known")):
        without[values] = torch.where(given[mask][..., None] > 0, given[values], 1e3)
    root = torch.tensor([2, 3])
    without["keypoints_3d"][:, root] = given["keypoints_3d"][:, root]  # what the others are measured from
    absent = given["has_body"] == 0
    without["shape"] = torch.where(absent[:, None], 3.0, given["shape"])
    estimate = Estimate(found.rotations, found.shape, found.camera)
    before, after = (model.losses_of(estimate, some) for some in (given, without))
    for name in LOSSES:
        assert after[name].item() == pytest.approx(before[name].item(), rel=1e-6), name
