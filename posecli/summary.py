"""What a dataset is like, in a few numbers: from them a model chooses what nobody stated. Imports no numpy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSummary:
    """The labelled instances of a dataset, at a glance, and what is stated already of how they are seen."""

    instances: int  # with a labelled keypoint
    pictures: int  # that show somebody
    picture: tuple[float, float]  # median width and height of the pictures
    box: tuple[float, float]  # median width and height of the instances' boxes in pixels
    whole_pictures: bool  # whether boxes are whole pictures
    uprightness: float  # how alike instances are turned: 0 all directions, 1 all the same
    flip_pairs: int | None  # left and right partners; None when unknown
    has_upper: bool  # whether the skeleton says what the upper body is
    has_sigmas: bool  # whether AP can be computed
    input_size: tuple[int, int] | None = None  # width and height that a config states; None leaves them to the model
