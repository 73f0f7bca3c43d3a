"""Body meshes from pictures: crop, network, parametric body, camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from posecli import console, distributed
from posecli.algorithm import Algorithm, Transform
from posecli.batch import Batch
from posecli.drawing import draw_people
from posecli.nn.backbone import Backbone
from posecli.nn.normalize import Normalize
from posecli.skeleton import Skeleton
from posecli.types import Array, Dataset, ImageArray, People, Prediction, Sample
from posecli.units import PersonUnits
from posecli_mesh.bodies import BODIES, GENDER_NUMBERS, Body, BodyOutput, own_bodies
from posecli_mesh.discriminator import BodyDiscriminator
from posecli_mesh.head import Estimate, RegressionHead
from posecli_mesh.losses import GANLoss, MeshLoss, translation
from posecli_mesh.motion import MotionSet
from posecli_mesh.transform import MeshTransform

MILLIMETRES = 1000.0  # a metre
PARAMETERS = ("rotations", "shape")
SMALLEST_SCALE = 0.01  # of a camera in a prediction: a body stays in front of it


class Network(nn.Module):
    """Backbone and head, and nothing else."""

    def __init__(self, backbone: Backbone, head: RegressionHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotations (B, P, 3, 3), shape (B, S) and camera (B, 3)."""
        estimate: Estimate = self.head(self.backbone(images))
        return estimate.rotations, estimate.shape, estimate.camera


class Adversary(nn.Module):
    """A discriminator with its loss and with what it takes for real: a motion set, or the labels of the batch."""

    def __init__(self, discriminator: BodyDiscriminator, loss: GANLoss, motion: MotionSet | None) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.loss = loss
        self.motion = motion

    def losses(self, estimate: Estimate, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Both sides at once. Neither moves the other's weights.

        The discriminator sees what was found without its history, and the generator sees the discriminator's
        weights as constants, so one backward gives the gradients of two separate steps from the same weights.
        """
        rotations, shape, counts = self._real(targets)
        constants = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        made = functional_call(self.discriminator, constants, (estimate.rotations, estimate.shape))
        seen = self.discriminator(estimate.rotations.detach(), estimate.shape.detach())
        return {
            "adversarial": self.loss.fooling(made),
            "discriminator_real": self.loss.judged(self.discriminator(rotations, shape), True, counts),
            "discriminator_made": self.loss.judged(seen, False),
        }

    def _real(self, targets: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Rotations (B, P, 3, 3) and shapes (B, S) of people, and how much each row counts, (B,)."""
        if self.motion is not None:
            return *self.motion(targets["draw"]), None
        return targets["rotations"], targets["shape"], targets["has_body"]


class MeshRecovery(Algorithm):
    """One body a crop. The head turns the backbone's coarsest map into rotations, shape and camera.

    A prediction has keypoints (1, K, 3) in camera millimetres and, in `extra`, `vertices` (1, V, 3) in the same,
    `rotations` (1, P, 3, 3), `shape` (1, S) and `camera` (1, 3): focal length and principal point in pixels of the
    whole picture, so that pixel = focal * (x, y) / z + (center x, center y). `body` and `gender` (1,) say whose they
    are: numbers in BODIES and GENDER_NUMBERS.
    """

    needs = "boxes"
    joint_index: Tensor

    def __init__(
        self,
        backbone: Backbone,
        head: RegressionHead,
        body: Body,
        loss: MeshLoss,
        skeleton: Skeleton,
        joint_index: tuple[int, ...],
        training_transform: MeshTransform,
        evaluation_transform: MeshTransform,
        *,
        adversary: Adversary | None = None,
    ) -> None:
        """`joint_index` (K,) says which of the body's joints each keypoint of the skeleton is."""
        super().__init__()
        self.normalize = Normalize()
        self.backbone = backbone
        self.head = head
        self.body = body
        self.loss = loss
        self.skeleton = skeleton
        self.training_transform = training_transform
        self.evaluation_transform = evaluation_transform
        self.adversary = adversary
        self.register_buffer("joint_index", torch.tensor(joint_index), persistent=False)

    def units(self, samples: Dataset, train: bool = False) -> Sequence[Sample]:
        """Labels of other bodies than the model's count as none. Raises PosecliError where all are."""
        own = own_bodies(samples, self.body)
        if train and own is not samples and distributed.rank() == 0:
            console.note(
                f"{samples.name}: some poses and shapes are of other bodies than {self.body.name!r}, which the model "
                "finds; of those people only keypoints are learnt"
            )
        return PersonUnits(own)

    def transform(self, train: bool) -> Transform:
        return self.training_transform if train else self.evaluation_transform

    def network(self) -> nn.Module:
        return Network(self.backbone, self.head)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        judge = [] if self.adversary is None else list(self.adversary.discriminator.parameters())
        judged = {id(parameter) for parameter in judge}
        own = [p for p in self.parameters() if p.requires_grad and id(p) not in judged]
        return {"model": own} | ({"discriminator": judge} if judge else {})

    def estimate(self, images: Tensor) -> Estimate:
        """What the head says of crops (B, H, W, 3) uint8 RGB."""
        estimate: Estimate = self.head(self.backbone(self.normalize(images)))
        return estimate

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return self.losses_of(self.estimate(batch.inputs["image"]), batch.targets)

    def losses_of(self, estimate: Estimate, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weighted losses of an estimate; targets as `MeshTransform` makes them."""
        found: BodyOutput = self.body(estimate.rotations, estimate.shape)
        joints = found.joints[:, self.joint_index]
        with torch.no_grad():
            truth: BodyOutput = self.body(targets["rotations"], targets["shape"])
        has_body, loss = targets["has_body"], self.loss
        losses = {
            "keypoints_2d": loss.keypoints_2d(joints, estimate.camera, targets["keypoints"], targets["visible"]),
            "keypoints_3d": loss.keypoints_3d(joints, targets["keypoints_3d"] / MILLIMETRES, targets["known"]),
            "vertices": loss.vertices(found.vertices, truth.vertices, has_body),
            "rotations": loss.rotations(estimate.rotations, targets["rotations"], has_body),
            "shape": loss.shape(estimate.shape, targets["shape"], has_body),
        }
        if self.head.guide is not None and estimate.heatmaps is not None:
            losses["guide"] = self.head.guide.loss(
                estimate.heatmaps, targets["keypoints"], targets["visible"], loss.size
            )
        against = {} if self.adversary is None else self.adversary.losses(estimate, targets)
        return loss.weighted(losses) | against

    def predict(self, batch: Batch) -> list[Prediction]:
        estimate = self.estimate(batch.inputs["image"])
        body: BodyOutput = self.body(estimate.rotations, estimate.shape)
        place = self._place(estimate.camera)[:, None]
        results = {
            "keypoints": (body.joints[:, self.joint_index] + place) * MILLIMETRES,
            "vertices": (body.vertices + place) * MILLIMETRES,
            "rotations": estimate.rotations,
            "shape": estimate.shape,
        }
        arrays = {name: tensor.float().cpu().numpy() for name, tensor in results.items()}
        arrays["camera"] = self._cameras(batch.undo).float().cpu().numpy()
        arrays["body"] = np.full(len(place), BODIES.index(self.body.name))
        arrays["gender"] = np.full(len(place), GENDER_NUMBERS.index(self.body.gender))
        keypoints = arrays.pop("keypoints")
        return [
            Prediction(sample.id, _person(sample.people, keypoints[row], {k: v[row] for k, v in arrays.items()}))
            for row, sample in enumerate(batch.samples)
        ]

    def draw(self, image: ImageArray, prediction: Prediction, threshold: float = 0.3) -> ImageArray:
        from posecli_mesh.drawing import as_seen, draw_bodies

        people = prediction.people if "camera" in prediction.people.extra else as_seen(prediction.people)
        if people is None:  # truth without a body in the camera frame
            return draw_people(image, prediction.people, self.skeleton, threshold)
        return draw_bodies(image, self._skinned(people), self.body.faces.cpu().numpy(), threshold)

    def files(self, prediction: Prediction) -> Mapping[str, bytes]:
        from posecli_mesh.files import body_files

        return body_files(self._skinned(prediction.people), self.body.faces.cpu().numpy(), self.skeleton.names)

    def guess(self, train: Dataset, truth: Dataset) -> list[Prediction]:
        """The mean body of `train` for everybody."""
        from posecli_mesh.guess import guess_bodies

        return guess_bodies(self.body, self.joint_index, own_bodies(train, self.body), truth)

    @torch.inference_mode()
    def _skinned(self, people: People) -> People:
        """People with their vertices, which results on disk leave out: made again, and moved to the keypoints."""
        if "vertices" in people.extra or not len(people):
            return people
        place = self.joint_index.device
        arrays = (torch.as_tensor(people.extra[name], dtype=torch.float32, device=place) for name in PARAMETERS)
        found: BodyOutput = self.body(*arrays)
        joints = found.joints[:, self.joint_index].cpu().numpy() * MILLIMETRES
        moved = (people.keypoints - joints).mean(axis=1, keepdims=True)
        vertices = found.vertices.cpu().numpy() * MILLIMETRES + moved
        return people.with_extra(vertices=vertices.astype(np.float32))

    def _place(self, camera: Tensor) -> Tensor:
        """Where the bodies stand before the camera, (B, 3) metres."""
        scale = camera[:, :1].clamp_min(SMALLEST_SCALE)
        return translation(torch.cat([scale, camera[:, 1:]], dim=1), self.loss.focal, self.loss.size[0])

    def _cameras(self, undo: Tensor) -> Tensor:
        """Focal length and principal point (B, 3) in pixels of the picture; the crop's own is its middle."""
        middle = (torch.tensor(self.loss.size, dtype=undo.dtype) - 1) / 2
        center = undo[:, :, :2] @ middle + undo[:, :, 2]
        return torch.cat([undo[:, :1, 0] * self.loss.focal, center], dim=1)


def _person(asked: People, keypoints: Array, extra: dict[str, Array]) -> People:
    """One found person: as sure as the box it was cut out by, which is kept; a true box counts as sure."""
    sure = np.ones(1, np.float32) if asked.instance_scores is None else asked.instance_scores[:1].astype(np.float32)
    scores = np.repeat(sure[:, None], len(keypoints), axis=1)
    kept = {name: asked.extra[name][:1] for name in ("row", "track_id", "category") if name in asked.extra}
    boxes = None if asked.boxes is None else asked.boxes[:1]
    return People(keypoints[None], scores, boxes, sure, {name: value[None] for name, value in extra.items()} | kept)
