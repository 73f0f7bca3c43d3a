"""3D drawings: where things appear, from which side, in which colours."""

from __future__ import annotations

import numpy as np
import pytest

from posecli.drawing import PAPER, instance_color
from posecli.drawing3d import FRONT, SIDE, Scene, draw_scene, draw_views, scene_of
from posecli.skeleton import Skeleton
from posecli.types import FloatArray, ImageArray

LEFT, RIGHT, MIDDLE = (250, 0, 0), (0, 0, 250), (0, 250, 0)
SKELETON = Skeleton(
    "body",
    ("pelvis", "head", "left_hand", "right_hand"),
    ((0, 1), (1, 2), (1, 3)),
    flip_pairs=((2, 3),),
    colors=(MIDDLE, MIDDLE, LEFT, RIGHT),
)
POSE = np.array([[0, 0, 0], [0, -700, 0], [600, -700, 0], [-300, -700, -500]], np.float64)  # faces the camera


def places(image: ImageArray, color: tuple[int, int, int]) -> FloatArray:
    """The pixels (P, 2), x and y, of one colour."""
    rows, columns = np.nonzero((image == color).all(axis=-1))
    return np.stack([columns, rows], axis=1).astype(np.float64)


def test_the_camera_s_side_shows_what_the_camera_sees() -> None:
    image = draw_scene(POSE[None], SKELETON, scene_of(POSE), (300, 300))
    left, right, middle = (places(image, color).mean(axis=0) for color in (LEFT, RIGHT, MIDDLE))
    assert left[0] > middle[0] > right[0], "a left hand at +x is on the right of the picture"
    assert middle[1] > left[1], "up is up"
    assert abs(middle[0] - 150) < 40


def test_the_side_view_shows_depth() -> None:
    front = draw_scene(POSE[None], SKELETON, scene_of(POSE), (300, 300), FRONT)
    side = draw_scene(POSE[None], SKELETON, scene_of(POSE), (300, 300), SIDE)
    assert np.ptp(places(side, LEFT)[:, 0]) < 0.4 * np.ptp(places(front, LEFT)[:, 0]), "the left hand points at the eye"
    assert np.ptp(places(side, RIGHT)[:, 0]) > 40, "what reaches forward is seen from the side"


def test_a_turn_of_360_degrees_is_none() -> None:
    first, last = (draw_scene(POSE[None], SKELETON, scene_of(POSE), (200, 200), turn) for turn in (10.0, 370.0))
    assert (first != last).mean() < 0.001


@pytest.mark.parametrize("turn", range(0, 360, 45))
def test_the_scene_holds_everybody_from_every_side(turn: float) -> None:
    random = np.random.default_rng(0)
    poses = POSE + random.uniform(-1500, 1500, (5, 1, 3)) * [1, 0, 1] + [0, 0, 4000]
    scene = scene_of(poses)
    image = draw_scene(poses, SKELETON, scene, (240, 240), turn)
    rim = np.concatenate([image[:3].reshape(-1, 3), image[:, :3].reshape(-1, 3), image[:, -3:].reshape(-1, 3)])
    for color in (LEFT, RIGHT, MIDDLE):
        assert len(places(image, color)) > 5
        assert not (rim == color).all(axis=-1).any()


def test_numbers_are_discs_of_their_colour() -> None:
    poses = np.stack([POSE, POSE - [-900, 0, 0]])
    image = draw_scene(poses, SKELETON, scene_of(poses), (300, 300), numbers=(4, 9))
    first, second = (places(image, instance_color(number)) for number in (4, 9))
    assert len(first) > 30
    assert len(second) > 30
    assert first[:, 0].mean() < second[:, 0].mean()


def test_what_is_unknown_is_left_out() -> None:
    pose = POSE.copy()
    pose[2] = np.nan
    image = draw_scene(pose[None], SKELETON, scene_of(pose), (200, 200), numbers=(0,))
    assert len(places(image, LEFT)) == 0
    assert len(places(image, RIGHT)) > 0
    nobody = draw_scene(
        np.full((1, 4, 3), np.nan), SKELETON, scene_of(np.full((4, 3), np.nan)), (200, 200), numbers=(0,)
    )
    assert (nobody == PAPER).all(axis=-1).mean() > 0.8
    assert draw_views(np.zeros((0, 4, 3)), SKELETON).shape == (256, 512, 3)


def test_points_without_links_are_dots() -> None:
    dots = Skeleton("dots", SKELETON.names, colors=SKELETON.colors)
    assert len(places(draw_scene(POSE[None], dots, scene_of(POSE), (300, 300)), LEFT)) > 0


@pytest.mark.parametrize("far", [1e5, 1e9, 1e15])
def test_what_is_far_off_is_drawn_in_time(far: float) -> None:
    """The scene of a wild pose has a coarser floor; beside a scene it lies outside the picture."""
    wild = POSE * far
    assert draw_scene(wild[None], SKELETON, scene_of(wild), (100, 100), numbers=(0,)).shape == (100, 100, 3)
    beside = draw_scene(np.stack([POSE, wild]), SKELETON, scene_of(POSE), (300, 300), numbers=(0, 1))
    assert len(places(beside, LEFT)) > 0


def test_the_floor_is_below_everybody() -> None:
    scene = scene_of(np.stack([POSE, POSE - [0, -300, 0]]))
    assert scene.floor == pytest.approx(300, abs=20)
    assert isinstance(scene, Scene)
    assert scene_of(POSE / 100).reach == 1000, "something small is not blown up"
