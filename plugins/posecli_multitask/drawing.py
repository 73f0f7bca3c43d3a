"""Classes of people, in words at their boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2

from posecli.types import ImageArray, People

INK, PAPER = (20, 20, 20), (240, 240, 240)  # grey levels


def draw_classes(image: ImageArray, people: People, classes: Mapping[str, Sequence[str]]) -> ImageArray:
    """A copy of the RGB picture with the likeliest class of every head in `classes` at each person's box."""
    drawn = image.copy()
    scale = max(0.35, image.shape[1] / 1200)
    for row in range(len(people)):
        words = [
            names[int(people.extra[head][row].argmax())] for head, names in classes.items() if head in people.extra
        ]
        if people.boxes is None or not words:
            continue
        left, _, _, bottom = people.boxes[row].tolist()
        at = (int(left) + 2, min(int(bottom), image.shape[0]) - 4)
        for color, width in ((INK, 3), (PAPER, 1)):
            cv2.putText(drawn, ", ".join(words), at, cv2.FONT_HERSHEY_SIMPLEX, scale, color, width, cv2.LINE_AA)
    return drawn
