"""What a skeleton's names tell."""

from __future__ import annotations

import pytest

from posecli.skeleton import Skeleton


@pytest.mark.parametrize(
    ("names", "roots"),
    [
        (("nose", "pelvis", "left_hip", "right_hip"), (1,)),
        (("nose", "right_hip", "left_hip"), (2, 1)),
        (("Left_Hip", "Right_Hip"), (0, 1)),
        (("nose", "left_hip"), ()),
    ],
    ids=["root", "hips", "capitals", "neither"],
)
def test_roots(names: tuple[str, ...], roots: tuple[int, ...]) -> None:
    assert Skeleton("some", names).roots == roots
