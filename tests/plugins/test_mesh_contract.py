"""Body mesh models keep the contract that every plugin is held to, with and without a discriminator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from posecli.algorithm import Algorithm
from posecli.batch import Batch
from posecli.config import ModelConfig, OptimizerConfig, parse_metric
from posecli.console import PosecliError
from posecli.optimization import build_optimizers, set_rate
from posecli.skeleton import house_skeleton
from posecli.testing import PluginContract
from posecli.types import People
from posecli_mesh.config import AdversarialConfig, HMRConfig, MeshLossConfig
from posecli_mesh.dataset_config import SyntheticBodiesConfig
from posecli_mesh.head import Estimate
from posecli_mesh.losses import project
from posecli_mesh.model import MeshRecovery


def small(adversarial: AdversarialConfig | None = None) -> HMRConfig:
    return HMRConfig.model_validate(
        {
            "backbone": {"use": "resnet", "depth": 18},
            "input_size": (64, 64),
            "hidden": 64,
            "dropout": 0.0,
            "adversarial": adversarial,
            # the losses' usual weights make 2D errors of a fresh network hard to see in 40 steps
            "losses": MeshLossConfig(keypoints_2d=10),
        }
    )


class TestMesh(PluginContract):
    """With a discriminator, which takes poses of a motion set for real; labels are 2D keypoints here.

    Pixels of the prediction's own camera stand for encoding and decoding.
    """

    plugin = "mesh"
    resolution = 0.01
    overfit_ratio = 0.8  # two sides that work against each other

    @pytest.fixture(autouse=True)
    def motion(self, tmp_path: Path) -> None:
        random = np.random.default_rng(0)
        self.path = tmp_path / "motion.npz"
        np.savez(self.path, pose=random.normal(0, 0.3, (20, 72)), shape=random.normal(size=(20, 10)))

    def model_config(self) -> ModelConfig:
        return small(AdversarialConfig(motion=self.path))

    def test_perfect_predictions_score_best(self) -> None:
        """On bodies whose shapes and poses are known, which the synthetic people's are not."""
        samples = SyntheticBodiesConfig(count=4, size=(64, 64)).build()
        perfect = {}
        for index, sample_id in enumerate(samples.ids):
            truth = samples[index].people
            sure = np.ones(truth.scores.shape, np.float32)
            extra = {name: truth.extra[name] for name in ("rotations", "shape", "row")}
            perfect[sample_id] = People(truth.extra["keypoints_3d"], sure, truth.boxes, sure[:, 0], extra)
        for text in ("pve", "mpjpe", "p-mpjpe", "mpjpe-14", "p-mpjpe-14"):
            scores = parse_metric(text).build(samples.skeleton).compute(samples, perfect)
            assert np.isfinite(scores[0].value), f"{text}: nothing was scored"
            for score in scores:
                assert np.isnan(score.value) or np.isclose(score.value, score.best, atol=1e-3), score  # millimetres

    def decoded_targets(self, algorithm: Algorithm, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Keypoints as the loss projects them in the crop, and as predictions are projected in the whole picture."""
        assert isinstance(algorithm, MeshRecovery)
        algorithm.eval()
        with torch.no_grad():
            estimate = algorithm.estimate(batch.inputs["image"])
            joints = algorithm.body(estimate.rotations, estimate.shape).joints[:, algorithm.joint_index]
            pixels = project(joints, estimate.camera, algorithm.loss.focal, algorithm.loss.size[0])
            people = [prediction.people for prediction in algorithm.predict(batch)]
        centred = pixels + (torch.tensor(algorithm.loss.size) - 1) / 2
        in_picture = centred.double() @ batch.undo[:, :, :2].mT + batch.undo[:, None, :, 2]
        places = torch.from_numpy(np.concatenate([person.keypoints for person in people]))
        cameras = torch.from_numpy(np.concatenate([person.extra["camera"] for person in people]))
        seen = cameras[:, None, :1] * places[..., :2] / places[..., 2:] + cameras[:, None, 1:]
        return in_picture, seen.double(), torch.ones(seen.shape[:2], dtype=torch.bool)


def test_groups_of_parameters() -> None:
    """Two optimizers with a discriminator, each parameter in one of them; one optimizer without."""
    skeleton = house_skeleton("body24")
    alone, judged = small().build(skeleton), small(AdversarialConfig()).build(skeleton)
    assert set(alone.parameter_groups()) == {"model"}
    groups = judged.parameter_groups()
    assert set(groups) == {"model", "discriminator"}
    assert sum(len(group) for group in groups.values()) == len(list(judged.parameters()))
    optimizers = build_optimizers(judged, OptimizerConfig(lr=1e-3, factors={"discriminator": 0.4}))
    set_rate(optimizers, 1e-3)
    assert {name: one.param_groups[0]["lr"] for name, one in optimizers.items()} == pytest.approx(
        {"model": 1e-3, "discriminator": 4e-4}
    )
    with pytest.raises(PosecliError, match="no group of parameters is named 'discriminator'"):
        build_optimizers(alone, OptimizerConfig(factors={"discriminator": 0.4}))


def test_neither_side_moves_the_other() -> None:
    """The generator's term gives the discriminator no gradient, and the discriminator's terms the generator none."""
    model = small(AdversarialConfig()).build(house_skeleton("body24"))
    assert model.adversary is not None
    rotations = torch.eye(3).repeat(2, 24, 1, 1).requires_grad_()
    shape = torch.zeros(2, 10, requires_grad=True)
    targets = {"rotations": rotations.detach(), "shape": shape.detach(), "has_body": torch.tensor([1.0, 0.0])}
    losses = model.adversary.losses(Estimate(rotations, shape, torch.zeros(2, 3)), targets)
    parameters = list(model.adversary.parameters())
    assert torch.autograd.grad(losses["adversarial"], parameters, retain_graph=True, allow_unused=True) == (
        None,
    ) * len(parameters)
    both = losses["discriminator_real"] + losses["discriminator_made"]
    assert torch.autograd.grad(both, [rotations, shape], allow_unused=True) == (None, None)


def test_numbers_that_are_none_reach_the_loss() -> None:
    """A rotation of NaN makes the sum of losses NaN, at which training stops and names the batch."""
    model = small(AdversarialConfig()).build(house_skeleton("body24"))
    rotations = torch.eye(3).repeat(2, 24, 1, 1)
    rotations[1, 5, 0, 0] = torch.nan
    unlabelled = {
        "keypoints": torch.zeros(2, 24, 2),
        "visible": torch.zeros(2, 24),
        "keypoints_3d": torch.zeros(2, 24, 3),
        "known": torch.zeros(2, 24),
        "rotations": torch.eye(3).repeat(2, 24, 1, 1),
        "shape": torch.zeros(2, 10),
        "has_body": torch.zeros(2),
    }
    losses = model.losses_of(Estimate(rotations, torch.zeros(2, 10), torch.ones(2, 3)), unlabelled)
    assert torch.isnan(torch.stack(list(losses.values())).sum())
