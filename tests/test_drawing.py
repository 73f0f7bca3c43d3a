"""Drawing: what is shown, what is left out, and nothing in place."""

from __future__ import annotations

import numpy as np
import pytest

from posecli import drawing
from posecli.skeleton import Skeleton, house_skeleton
from posecli.types import ImageArray, People

SKELETON = Skeleton("arms", ("head", "left_hand", "right_hand"), ((1, 0), (2, 0), (1, 2)), flip_pairs=((1, 2),))
GREY = np.full((200, 300, 3), 128, np.uint8)


def one(points: list[list[float]], scores: list[float], truth: bool = False) -> People:
    return People(np.array([points]), np.array([scores]), None, None if truth else np.ones(1))


TRIANGLE = [[150.0, 40.0], [230.0, 160.0], [70.0, 160.0]]


def alike(image: ImageArray, place: tuple[float, float], color: tuple[int, ...]) -> bool:
    """Whether the pixel at x, y has the colour, but for the smoothing of thin lines."""
    return all(abs(one - other) <= 30 for one, other in zip(pixel(image, *place), color, strict=True))


def pixel(image: ImageArray, x: float, y: float) -> tuple[int, ...]:
    return tuple(int(value) for value in image[round(y), round(x)])


def test_draws_a_copy_with_joints_and_links_in_the_colours_of_their_sides() -> None:
    before = GREY.copy()
    drawn = drawing.draw_people(GREY, one(TRIANGLE, [0.9, 0.9, 0.9]), SKELETON)
    assert (before == GREY).all()
    assert drawn is not GREY
    assert pixel(drawn, *TRIANGLE[0]) == drawing.CENTER
    assert pixel(drawn, *TRIANGLE[1]) == drawing.LEFT
    assert pixel(drawn, *TRIANGLE[2]) == drawing.RIGHT
    assert alike(drawn, (190, 100), drawing.LEFT)  # half way from the left hand to the head
    assert alike(drawn, (110, 100), drawing.RIGHT)
    assert alike(drawn, (150, 160), drawing.CENTER)  # across the body


@pytest.mark.parametrize(
    ("points", "scores", "note"),
    [
        (TRIANGLE, [0.29, 0.1, 0.0], "all below the threshold"),
        ([[np.nan, np.nan]] * 3, [1.0, 1.0, 1.0], "unknown places"),
        ([[1e12, 5.0], [-1e30, 1.0], [np.inf, 3.0]], [1.0, 1.0, 1.0], "beyond any picture"),
        ([[-500.0, -500.0], [-600.0, -500.0], [-500.0, -900.0]], [1.0, 1.0, 1.0], "outside the picture"),
    ],
)
def test_leaves_out_what_is_unknown_or_unsure(points: list[list[float]], scores: list[float], note: str) -> None:
    assert (drawing.draw_people(GREY, one(points, scores), SKELETON) == GREY).all(), note


def test_a_link_needs_both_ends_and_nobody_is_no_drawing() -> None:
    drawn = drawing.draw_people(GREY, one(TRIANGLE, [0.9, 0.9, 0.1]), SKELETON)
    assert alike(drawn, (190, 100), drawing.LEFT)
    assert pixel(drawn, 110, 100) == (128, 128, 128)
    assert (drawing.draw_people(GREY, People.empty(3), SKELETON) == GREY).all()


def test_a_link_that_leaves_the_picture_goes_on_to_its_edge() -> None:
    drawn = drawing.draw_people(GREY, one([[150.0, 100.0], [3000.0, 100.0], [-1.0, -1.0]], [1, 1, 0]), SKELETON)
    assert alike(drawn, (299, 100), drawing.LEFT)


def test_occluded_truth_is_dimmed_and_sure_predictions_are_not() -> None:
    truth = drawing.draw_people(GREY, one(TRIANGLE, [2, 1, 2], truth=True), SKELETON)
    seen, hidden = pixel(truth, *TRIANGLE[2]), pixel(truth, *TRIANGLE[1])
    assert seen == drawing.RIGHT
    assert 0 < abs(hidden[0] - 128) < abs(drawing.LEFT[0] - 128)
    predicted = drawing.draw_people(GREY, one(TRIANGLE, [1, 1, 1]), SKELETON)
    assert pixel(predicted, *TRIANGLE[1]) == drawing.LEFT


def test_a_larger_person_in_a_larger_picture_gets_thicker_lines() -> None:
    def painted(size: int) -> int:
        canvas = np.full((size, size, 3), 128, np.uint8)
        points = np.array(TRIANGLE) / 300 * size
        drawn = drawing.draw_people(canvas, one(points.tolist(), [0.9] * 3), SKELETON)
        return int((drawn[round(points[1, 1] * 0.6)] != 128).any(axis=-1).sum())  # across the two arms

    assert painted(300) < painted(1200) < painted(3000)


def test_outlines_and_shades_are_where_they_belong_and_safe() -> None:
    square = np.array([[20, 30], [120, 30], [120, 130], [20, 130]], np.float32)
    strange = [np.full((4, 2), np.nan), square + 9e9, np.zeros((0, 2))]
    drawn = GREY.copy()
    for polygon in strange:
        drawing.draw_outline(drawn, polygon, (255, 0, 0))
    drawing.shade(drawn, strange)
    assert (drawn == GREY).all()
    drawing.draw_outline(drawn, square, (255, 0, 0))
    assert alike(drawn, (20, 80), (255, 0, 0))
    assert pixel(drawn, 70, 80) == (128, 128, 128)
    drawing.shade(drawn, [*strange, square])
    inside = drawn[35:125, 25:115].reshape(-1, 3)
    assert {tuple(color) for color in inside.tolist()} == {(64, 64, 64), drawing.SHADE}
    assert (drawn[:25] == 128).all()


@pytest.mark.parametrize("shape", [(1, 4, 2), (1, 3, 3)])
def test_refuses_other_keypoints_than_the_skeletons(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="3 keypoints in image pixels"):
        drawing.draw_people(GREY, People(np.zeros(shape), np.ones(shape[:2])), SKELETON)


def test_colours_of_a_skeleton_win_and_unknown_sides_get_hues() -> None:
    coco = house_skeleton("coco")
    assert drawing.keypoint_colors(coco) == (coco.colors or drawing.keypoint_colors(coco))
    own = Skeleton("own", ("a", "b"), ((0, 1),), colors=((1, 2, 3), (4, 5, 6)))
    assert drawing.keypoint_colors(own) == ((1, 2, 3), (4, 5, 6))
    assert drawing.link_colors(own) == ((4, 5, 6),)
    plain = Skeleton("plain", tuple("abcdefgh"))
    assert len(set(drawing.keypoint_colors(plain))) == 8


def test_the_right_of_a_pair_is_known_by_its_name() -> None:
    swapped = Skeleton("swapped", ("R_hip", "L_hip"), flip_pairs=((0, 1),))
    assert drawing.keypoint_colors(swapped) == (drawing.RIGHT, drawing.LEFT)


def test_a_contact_sheet_has_equal_cells_and_whole_pictures() -> None:
    red, blue = np.full((50, 100, 3), (255, 0, 0), np.uint8), np.full((100, 50, 3), (0, 0, 255), np.uint8)
    sheet = drawing.contact_sheet([red, blue, red], columns=2, cell=(100, 100), gap=10)
    assert sheet.shape == (10 + 2 * 110, 10 + 2 * 110, 3)
    assert pixel(sheet, 60, 60) == (255, 0, 0)
    assert pixel(sheet, 60, 20) == drawing.PAPER  # above the flat picture, centred in its cell
    assert pixel(sheet, 170, 60) == (0, 0, 255)
    assert pixel(sheet, 170, 170) == drawing.PAPER  # no fourth picture
    assert (sheet == (255, 0, 0)).all(axis=-1).sum() == 2 * 50 * 100


def test_titles_stand_below_and_long_ones_fit() -> None:
    plain = drawing.contact_sheet([GREY, GREY], 2)
    titled = drawing.contact_sheet([GREY, GREY], 2, titles=["truth", "a very long title " * 20])
    assert titled.shape[0] > plain.shape[0]
    assert titled.shape[1] == plain.shape[1]
    below = titled[6 + 200 : -6]
    assert (below[:, 6:306] != drawing.PAPER).any()
    assert (below[:, :6] == drawing.PAPER).all()
    assert (below[:, -6:] == drawing.PAPER).all()


def test_pictures_side_by_side_get_one_height() -> None:
    row = drawing.side_by_side([GREY, GREY[::2, ::2], GREY[:, :100]], height=100, gap=5)
    assert row.shape == (100, 150 + 5 + 150 + 5 + 50, 3)


def test_sheets_need_a_picture() -> None:
    with pytest.raises(ValueError, match="at least one"):
        drawing.contact_sheet([], 3)
    with pytest.raises(ValueError, match="at least one"):
        drawing.side_by_side([], 100)
