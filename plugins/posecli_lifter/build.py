"""The only place where lifting models are put together from their configs."""

from __future__ import annotations

from collections.abc import Sequence

from posecli.console import PosecliError, few
from posecli.losses.pose3d import BoneLength, JointDistance, MotionDistance
from posecli.losses.regression import SquaredError
from posecli.skeleton import Skeleton
from posecli_lifter.config import DSTFormerConfig, TemporalConfig
from posecli_lifter.dstformer import DSTFormer
from posecli_lifter.heads import MotionHead, TemporalHead
from posecli_lifter.losses import BoneMean, Projection
from posecli_lifter.model import Cutting, Lifter, SemiSupervision
from posecli_lifter.normalization import Image, ImageDepth, Normalization, Person, Standard
from posecli_lifter.temporal import TemporalNetwork
from posecli_lifter.transform import WindowTransform


def build_temporal(config: TemporalConfig, skeleton: Skeleton) -> Lifter:
    """Convolutions over time; one frame of a window is spoken of."""
    normalization = _normalization(config, skeleton)
    joints = len(skeleton)
    inputs = joints * normalization.channels

    def network() -> TemporalNetwork:
        return TemporalNetwork(inputs, config.channels, config.kernels, config.dropout, config.causal)

    backbone = network()
    semi = None
    if config.semi is not None:
        bones = BoneLength(parents(skeleton))
        semi = SemiSupervision(
            Projection(config.semi.projection), BoneMean(bones, config.semi.bones), config.semi.warmup
        )
    return Lifter(
        backbone,
        TemporalHead(config.channels, joints - 1 if config.normalize == "standard" else joints),
        normalization,
        JointDistance() if config.loss == "distance" else SquaredError(),
        skeleton,
        WindowTransform(skeleton, config.augment),
        WindowTransform(skeleton),
        Cutting(config.frames, config.stride, config.longest, config.causal, whole=False, unlabelled=semi is not None),
        flip_test=config.flip_test,
        trajectory=(network(), TemporalHead(config.channels, 1)) if config.trajectory else None,
        semi=semi,
    )


def build_dstformer(config: DSTFormerConfig, skeleton: Skeleton) -> Lifter:
    """Attention over joints and frames; every frame of a window is spoken of."""
    roots = roots_of(skeleton)
    normalization = Image(roots, confidence=True)
    if config.target == "image":
        normalization = ImageDepth(roots, parents(skeleton), config.body)
    backbone = DSTFormer(
        normalization.channels,
        len(skeleton),
        config.channels,
        config.depth,
        config.heads,
        config.mlp_ratio,
        config.frames,
    )
    return Lifter(
        backbone,
        MotionHead(config.channels, config.embedding),
        normalization,
        MotionDistance(config.scale_loss, config.velocity_loss),
        skeleton,
        WindowTransform(skeleton, config.augment),
        WindowTransform(skeleton),
        Cutting(config.frames, config.stride, min(config.longest, config.frames), causal=False, whole=True),
        flip_test=config.flip_test,
    )


def _normalization(config: TemporalConfig, skeleton: Skeleton) -> Normalization:
    roots = roots_of(skeleton)
    if config.normalize == "image":
        return Image(roots)
    if config.normalize != "standard":
        return Person(roots, place=config.normalize == "person-place")
    if skeleton.root is None:
        raise PosecliError(
            f"model.normalize: standard leaves the root joint out, skeleton {skeleton.name!r} has none: take image or "
            f"person"
        )
    tables = config.statistics
    assert tables is not None  # the config sees to it
    for name, rows, wanted in (
        ("mean_2d", tables.mean_2d, (len(skeleton), 2)),
        ("deviation_2d", tables.deviation_2d, (len(skeleton), 2)),
        ("mean_3d", tables.mean_3d, (len(skeleton) - 1, 3)),
        ("deviation_3d", tables.deviation_3d, (len(skeleton) - 1, 3)),
    ):
        _check_table(name, rows, wanted)
    return Standard(skeleton.root, tables.mean_2d, tables.deviation_2d, tables.mean_3d, tables.deviation_3d)


def _check_table(name: str, rows: Sequence[Sequence[float]], wanted: tuple[int, int]) -> None:
    if len(rows) != wanted[0] or any(len(row) != wanted[1] for row in rows):
        found = f"{len(rows)}×{len(rows[0]) if rows else 0}"
        raise PosecliError(f"model.statistics.{name}: {found} numbers, the skeleton asks for {wanted[0]}×{wanted[1]}")


def roots_of(skeleton: Skeleton) -> tuple[int, ...]:
    """The joints whose middle 3D poses are relative to. Raises PosecliError when no joint has a name that says so."""
    if not skeleton.roots:
        raise PosecliError(
            f"skeleton {skeleton.name!r} has no root joint to measure 3D poses from: one named root, pelvis or hips, "
            f"or left_hip and right_hip"
        )
    return skeleton.roots


def parents(skeleton: Skeleton) -> tuple[int, ...]:
    """The parent of every joint, (K,), along the links that lead from the root to it; the root is its own.

    Of two hips that stand for a root the left one is it. Raises PosecliError when a joint cannot be reached.
    """
    root = roots_of(skeleton)[0]
    found = {root: root}
    waiting = [root]
    while waiting:
        joint = waiting.pop(0)
        for link in skeleton.links:
            if joint in link:
                other = link[0] if link[1] == joint else link[1]
                if other not in found:
                    found[other] = joint
                    waiting.append(other)
    lost = [name for index, name in enumerate(skeleton.names) if index not in found]
    if lost:
        raise PosecliError(f"skeleton {skeleton.name!r}: no links lead from the root to {few(lost)}; add them")
    return tuple(found[joint] for joint in range(len(skeleton)))
