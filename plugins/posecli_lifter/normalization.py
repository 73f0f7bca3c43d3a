"""From pixels to what lifting networks see, and from what they say to millimetres; batched, on the device.

Three are those of MMPose's codecs ImagePoseLifting, VideoPoseLifting and MotionBERTLabel; `Person` is for cameras that
were not seen in training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from posecli.losses.pose3d import length
from posecli.nn.precise import precise

METRE = 1000.0  # millimetres
USUAL_FOCAL = 1.2  # of unknown cameras, in picture widths: about 45 degrees across


@dataclass(frozen=True)
class View:
    """What a camera saw of B people in T frames each."""

    keypoints: Tensor  # (B, T, K, 2) image pixels; 0 where not known
    visible: Tensor  # (B, T, K) confidence; 0 where not known
    size: Tensor  # (B, 2) width and height of the pictures
    focal: Tensor  # (B, 2) pixels; 0 where there is no camera
    center: Tensor  # (B, 2) pixels

    @classmethod
    def of(cls, inputs: Mapping[str, Tensor]) -> View:
        """The inputs of a batch."""
        visible = inputs["visible"].float()
        known = (visible > 0) & inputs["keypoints"].isfinite().all(dim=-1)
        keypoints = torch.where(known[..., None], inputs["keypoints"], 0.0)
        return cls(keypoints, visible * known, inputs["size"], inputs["focal"], inputs["center"])

    def mirrored(self, flip_index: Tensor) -> View:
        """What the camera would have seen in a mirror: left is right."""
        across = self.keypoints.new_tensor([-1.0, 1.0])
        shift = torch.stack([self.size[:, 0], torch.zeros_like(self.size[:, 0])], dim=-1)  # (B, 2)
        return replace(
            self,
            keypoints=(self.keypoints * across + shift[:, None, None])[:, :, flip_index],
            visible=self.visible[:, :, flip_index],
            center=self.center * across + shift,
        )

    def frames(self, rows: slice) -> View:
        """Some of the frames."""
        return replace(self, keypoints=self.keypoints[:, rows], visible=self.visible[:, rows])

    def rays(self) -> Tensor:
        """Where the keypoints lie at depth 1, (B, T, K, 2); a camera that is not known is taken for a usual one."""
        focal, center = self.camera()
        return (self.keypoints - center[:, None, None]) / focal[:, None, None]

    def camera(self) -> tuple[Tensor, Tensor]:
        """Focal lengths and centres, both (B, 2) pixels, of a usual camera where they are not known."""
        known = (self.focal > 0).all(dim=-1, keepdim=True)
        focal = torch.where(known, self.focal, self.size[:, :1] * USUAL_FOCAL)
        return focal, torch.where(known, self.center, self.size / 2)

    def image_scaled(self) -> Tensor:
        """Keypoints from -1 to 1 across the picture, as far down as the picture is high, (B, T, K, 2)."""
        half = self.size[:, None, None] / 2
        return (self.keypoints - half) / half[..., :1]


class Normalization(nn.Module, ABC):
    """What a network is given and what it is asked for. 3D poses are relative to the middle of the joints `roots`."""

    channels = 2  # numbers for each keypoint

    def __init__(self, roots: Sequence[int]) -> None:
        super().__init__()
        self.roots = list(roots)

    @abstractmethod
    def inputs(self, view: View) -> Tensor:
        """(B, T, K, channels); 0 where a keypoint is not known."""

    @abstractmethod
    def targets(self, poses: Tensor, view: View) -> Tensor:
        """What the network should say of poses (B, T, K, 3) in camera millimetres, seen in the same T frames."""

    @abstractmethod
    def poses(self, outputs: Tensor, view: View) -> Tensor:
        """Poses (B, T, K, 3) in camera millimetres relative to the root: the inverse of `targets`."""

    def asked(self, joints: Tensor) -> Tensor:
        """Of values for each joint, (..., K): those of the joints that the network speaks of."""
        return joints

    def relative(self, poses: Tensor) -> Tensor:
        """Poses (..., K, 3) with the root at 0."""
        return poses - self.root_of(poses)[..., None, :]

    def root_of(self, points: Tensor) -> Tensor:
        """Where the root of points (..., K, D) is, (..., D)."""
        return points[..., self.roots, :].mean(dim=-2)

    def root_known(self, known: Tensor) -> Tensor:
        """Whether the root is known, (...,), where joints are or are not, (..., K)."""
        return known[..., self.roots].amin(dim=-1)


class Image(Normalization):
    """2D in halves of the picture's width from its middle, 3D in metres from the root: VideoPose3D's way.

    With `confidence` that of the 2D comes beside it.
    """

    def __init__(self, roots: Sequence[int], confidence: bool = False) -> None:
        super().__init__(roots)
        self.confidence = confidence
        self.channels = 3 if confidence else 2

    def inputs(self, view: View) -> Tensor:
        places = view.image_scaled() * (view.visible > 0)[..., None]
        return torch.cat([places, view.visible[..., None]], dim=-1) if self.confidence else places

    def targets(self, poses: Tensor, view: View) -> Tensor:
        return self.relative(poses) / METRE

    def poses(self, outputs: Tensor, view: View) -> Tensor:
        return self.relative(outputs.float()) * METRE


class Standard(Normalization):
    """Mean 0 and deviation 1 of every coordinate of every joint, over a data set: SimpleBaseline3D's way.

    Statistics of the 2D in pixels, (K, 2), and of the 3D in metres from the root, (K - 1, 3): the network does not
    speak of the root.
    """

    mean_2d: Tensor
    deviation_2d: Tensor
    mean_3d: Tensor
    deviation_3d: Tensor

    def __init__(
        self,
        root: int,
        mean_2d: Sequence[Sequence[float]],
        deviation_2d: Sequence[Sequence[float]],
        mean_3d: Sequence[Sequence[float]],
        deviation_3d: Sequence[Sequence[float]],
    ) -> None:
        super().__init__([root])
        self.root = root
        for name, rows in (("mean_2d", mean_2d), ("deviation_2d", deviation_2d)):
            self.register_buffer(name, torch.tensor(rows), persistent=False)
        for name, rows in (("mean_3d", mean_3d), ("deviation_3d", deviation_3d)):
            self.register_buffer(name, torch.tensor(rows), persistent=False)

    def inputs(self, view: View) -> Tensor:
        return (view.keypoints - self.mean_2d) / self.deviation_2d * (view.visible > 0)[..., None]

    def targets(self, poses: Tensor, view: View) -> Tensor:
        others = self._without_root(self.relative(poses), dim=-2) / METRE
        return (others - self.mean_3d) / self.deviation_3d

    def poses(self, outputs: Tensor, view: View) -> Tensor:
        others = (outputs.float() * self.deviation_3d + self.mean_3d) * METRE
        root = torch.zeros_like(others[..., :1, :])
        return torch.cat([others[..., : self.root, :], root, others[..., self.root :, :]], dim=-2)

    def asked(self, joints: Tensor) -> Tensor:
        return self._without_root(joints, dim=-1)

    def _without_root(self, values: Tensor, dim: int) -> Tensor:
        before, after = (
            values.narrow(dim, 0, self.root),
            values.narrow(dim, self.root + 1, values.shape[dim] - self.root - 1),
        )
        return torch.cat([before, after], dim=dim)


class ImageDepth(Image):
    """3D as the picture shows it: pixels and a depth in pixels from the root; MotionBERT's way.

    The 2D comes as in `Image`, with its confidence. What is said is in halves of the picture's width; it has no size
    in millimetres: that is the depth of the root over the focal length, which only truth tells. Without it the pose
    is scaled until its bones add up to `body` millimetres.
    """

    def __init__(self, roots: Sequence[int], parents: Sequence[int], body: float) -> None:
        super().__init__(roots, confidence=True)
        self.bones = [joint for joint, parent in enumerate(parents) if joint != parent]
        self.ends = [parents[joint] for joint in self.bones]
        self.body = body

    def factor(self, poses: Tensor, view: View) -> Tensor:
        """Millimetres a pixel at the root's depth, (B, T, 1, 1)."""
        focal, _ = view.camera()
        return self.root_of(poses)[..., 2, None, None] / focal[:, None, :1, None]

    def targets(self, poses: Tensor, view: View) -> Tensor:
        focal, center = view.camera()
        places = poses[..., :2] / poses[..., 2:].clamp(min=1.0) * focal[:, None, None] + center[:, None, None]
        depths = poses[..., 2:] / self.factor(poses, view).clamp(min=1e-6)
        return self.relative(torch.cat([places, depths], dim=-1)) / (view.size[:, None, None, :1] / 2)

    def poses(self, outputs: Tensor, view: View) -> Tensor:
        shown = self.relative(outputs.float())
        steps = shown[..., self.bones, :] - shown[..., self.ends, :]
        total = length(steps).sum(dim=-1)[..., None, None]
        return shown * (self.body / total.clamp(min=1e-6))

    def sized(self, outputs: Tensor, view: View, factor: Tensor) -> Tensor:
        """`poses` where the millimetres a pixel are known, (B, T, 1, 1)."""
        return self.relative(outputs.float()) * (view.size[:, None, None, :1] / 2) * factor


class Person(Normalization):
    """The person as a camera would see it that looks straight at it, at one size: alike for near and far cameras.

    Every frame by itself: the ray to the root becomes the optical axis, by the least turn; what is then seen is divided
    by its own size. The direction of the ray and the logarithm of the size are given beside, for all keypoints alike
    (`channels` is 2 with `place` off, else 5). 3D is in metres from the root, turned likewise.
    """

    def __init__(self, roots: Sequence[int], place: bool = False) -> None:
        super().__init__(roots)
        self.place = place
        self.channels = 5 if place else 2

    @precise
    def inputs(self, view: View) -> Tensor:
        known = (view.visible > 0)[..., None].float()
        rays = view.rays()
        axis = self._axis(rays, known)
        turned = torch.cat([rays, torch.ones_like(rays[..., :1])], dim=-1) @ _turn(axis).mT
        seen = turned[..., :2] / turned[..., 2:].clamp(min=1e-2)
        size = self._size(seen, known)
        inputs = seen / size * known
        if not self.place:
            return inputs
        beside = torch.cat([axis[..., :2] / axis[..., 2:], (size[..., 0] * 5).log()], dim=-1)  # (B, T, 3)
        return torch.cat([inputs, beside[:, :, None].expand(-1, -1, inputs.shape[2], -1)], dim=-1)

    @precise
    def targets(self, poses: Tensor, view: View) -> Tensor:
        return self.relative(poses) @ self._turns(view).mT / METRE

    @precise
    def poses(self, outputs: Tensor, view: View) -> Tensor:
        return self.relative(outputs) @ self._turns(view) * METRE

    def _turns(self, view: View) -> Tensor:
        return _turn(self._axis(view.rays(), (view.visible > 0)[..., None].float()))

    def _axis(self, rays: Tensor, known: Tensor) -> Tensor:
        """The direction of the root, (B, T, 3), of length 1; of the middle of what is known where the root is not."""
        middle = (rays * known).sum(dim=-2) / known.sum(dim=-2).clamp(min=1)
        ray = torch.where(self.root_known(known[..., 0])[..., None] > 0, self.root_of(rays), middle)
        return nn.functional.normalize(torch.cat([ray, torch.ones_like(ray[..., :1])], dim=-1), dim=-1)

    def _size(self, seen: Tensor, known: Tensor) -> Tensor:
        """The root mean square distance from the axis, (B, T, 1, 1)."""
        squares = (seen.square().sum(dim=-1, keepdim=True) * known).sum(dim=-2, keepdim=True)
        return (squares / known.sum(dim=-2, keepdim=True).clamp(min=1)).sqrt().clamp(min=1e-3)


def _turn(axis: Tensor) -> Tensor:
    """The least rotation that takes a direction (..., 3), forward and of length 1, to (0, 0, 1): (..., 3, 3).

    Rodrigues' formula with the axis (y, -x, 0) and the cosine z.
    """
    x, y, z = axis.unbind(-1)
    share = 1 / (1 + z)
    rows = [1 - share * x * x, -share * x * y, -x, -share * x * y, 1 - share * y * y, -y, x, y, z]
    return torch.stack(rows, dim=-1).reshape(*axis.shape[:-1], 3, 3)
