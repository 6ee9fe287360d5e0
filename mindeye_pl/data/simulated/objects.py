"""The object categories of simulated scenes: 80 drawings in eight groups.

A drawing is a sequence of parts, later ones over earlier ones, in tenths of the object's radius, x to the right and y
downwards: `P x y x y ...` is a polygon, `O x y a b` an ellipse with semi-axes a and b, `L w x y x y ...` a stroke of
width w. Parts with a lower-case letter have a second tone of the object's colour.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

_DRAWINGS: dict[str, dict[str, str]] = {
    "animal": {
        "fish": "O -2 0 7 4.5; P 3 0 9.5 -5.5 9.5 5.5; o -6 -1 1.2 1.2",
        "bird": "O 0 1 6 4; O 5 -4 3.2 3.2; P 7.5 -5 10 -3.5 7.5 -2.5; P -4 -1 -10 -4 -9 3; "
        "p -3 0 3 0 -2 4.5; L 1 0 5 0 9; L 1 2.5 5 2.5 9",
        "cat": "O 0 1 7.5 7; P -7.4 0 -7.5 -9.5 -1 -5.5; P 7.4 0 7.5 -9.5 1 -5.5; o -3 0 1.2 1.6; "
        "o 3 0 1.2 1.6; p -1.2 3 1.2 3 0 4.6",
        "rabbit": "O 0 4 6 5.5; O -3 -4.5 2 5.5; O 3 -4.5 2 5.5; o -2.2 3 1.1 1.1; o 2.2 3 1.1 1.1",
        "snail": "O 2 -1 6.5 6.5; P -10 6 9 5 10 8.5 -9 8.5; L 2.4 -8 7 -8 -1; l 1.4 2 -1 4 -1 4 2 0 2 -1 -3 3 -5 6 -3",
        "butterfly": "O -5 -4 4.4 5; O 5 -4 4.4 5; O -4 5 3.4 4; O 4 5 3.4 4; l 2 0 -7 0 8",
        "spider": "O 0 0 4.8 5.2; L 1.1 -9 -9 -6 -4 0 0 6 -4 9 -9; L 1.1 -10 -1 0 0 10 -1; "
        "L 1.1 -9 9 -6 4 0 0 6 4 9 9; o -1.7 -2 1 1; o 1.7 -2 1 1",
        "duck": "O -1 3.5 8 5; O 5 -4.5 3.6 3.6; P 2.5 -3 7.5 -3 6 4 0 4; P 8 -5.6 10.5 -3.8 8 -3; "
        "p -6 2 2 2 -2 6.5; o 5.6 -5.4 1 1",
        "turtle": "P -8 3 -6.5 -3 -2 -6.5 2 -6.5 6.5 -3 8 3; O 9 0 2.2 2.2; P -6.5 3 -3 3 -4 8 -6.5 8; "
        "P 3 3 6.5 3 6.5 8 4 8; l 1.2 -8 1.5 8 1.5",
        "crab": "O 0 2 6.5 4.8; L 1.3 -5 0 -8 -4; L 1.3 5 0 8 -4; O -8 -6 2.4 3.2; O 8 -6 2.4 3.2; "
        "L 1.1 -4 4 -9.5 8; L 1.1 4 4 9.5 8; L 1.1 -3 5 -5 9.5; L 1.1 3 5 5 9.5; o -2.2 0 1.1 1.1; "
        "o 2.2 0 1.1 1.1",
    },
    "plant": {
        "tree": "O 0 -3 7.5 7; p -1.7 3 1.7 3 2.4 10 -2.4 10",
        "pine": "P 0 -10 6 -2 -6 -2; P 0 -6 8.5 5 -8.5 5; p -1.7 5 1.7 5 1.7 10 -1.7 10",
        "flower": "O 0 -5.8 3.6 3.6; O 5.5 -1.8 3.6 3.6; O 3.4 4.7 3.6 3.6; O -3.4 4.7 3.6 3.6; "
        "O -5.5 -1.8 3.6 3.6; o 0 0 3 3",
        "leaf": "P 0 -10 4.5 -6 6.5 0 4.5 5 0 8 -4.5 5 -6.5 0 -4.5 -6; l 1.1 0 -7 0 10; l 0.9 -4 0 0 3 4 0",
        "mushroom": "P -9 0 -7.5 -6 -3 -9 3 -9 7.5 -6 9 0; p -2.8 0 2.8 0 3.4 9 -3.4 9",
        "cactus": "L 4.8 0 9.5 0 -7.5; L 3.2 0 4 -6.5 4 -6.5 -3; L 3.2 0 1 6.5 1 6.5 -5.5",
        "tulip": "P -5.5 -9.5 -2.7 -5 0 -10 2.7 -5 5.5 -9.5 5.5 -2 2.2 2 -2.2 2 -5.5 -2; l 1.5 0 2 0 10; "
        "l 2 0 9.5 -5.5 3",
        "palm": "p -1 -3 1 -3 2.8 10 -0.6 10; L 2.4 -10 0 -7 -6 0 -4 7 -6 10 0; L 2.4 -5 -10 0 -4 5 -10",
        "clover": "O 0 -5 4.2 4.2; O -5 1.5 4.2 4.2; O 5 1.5 4.2 4.2; l 1.6 0 0 1.5 10",
        "grass": "P -9 9 -7 -6 -4 9; P -5 9 -1 -10 2 9; P 1 9 6 -7 6 9; P 5 9 10 -2 9 9; p -10 8 10 8 10 10 -10 10",
    },
    "food": {
        "apple": "O -3 2 5.4 7.4; O 3 2 5.4 7.4; l 1.3 0 -4 1 -9.5; p 1 -6.5 6.5 -10 5.5 -5.5",
        "pear": "O 0 4 6.8 6; O 0 -4 3.8 5; l 1.3 0 -7.5 1.2 -10",
        "cherry": "O -4.8 5 4.4 4.4; O 5 6 4.4 4.4; l 1.2 -4.8 2 1 -9 5 3",
        "carrot": "P -4.6 -4 4.6 -4 0 10; l 1.9 0 -4 -4 -10; l 1.9 0 -4 0 -10; l 1.9 0 -4 4 -10",
        "banana": "L 5 -8 -5 -5 3 1 6 8 4.5; l 1.8 8 4 10 2; l 2 -8 -5 -8.5 -8",
        "icecream": "O 0 -4 5.8 5.8; p -5.4 0 5.4 0 0 10",
        "cake": "P -9 0 9 0 9 8.5 -9 8.5; p -9 0 9 0 9 3 -9 3; L 1.5 0 0 0 -6; o 0 -8 1.5 2.2",
        "lollipop": "O 0 -4 6.2 6.2; L 1.6 0 2 0 10; l 1.4 -3 -3 -2 -7 2 -7 3 -3 0 -2",
        "pizza": "P -8.5 -8 8.5 -8 0 10; p -9 -10 9 -10 8 -7 -8 -7; o -2.5 -3.5 1.6 1.6; o 3 -3.5 1.6 1.6; "
        "o 0 3 1.6 1.6",
        "avocado": "O 0 1 6.2 8; O 0 -2.5 4.8 7; o 0 2.5 3 3",
    },
    "vehicle": {
        "car": "P -10 0 -6.5 -0.5 -4 -5.5 4 -5.5 7 -0.5 10 1 10 4.5 -10 4.5; o -5 5 2.8 2.8; o 5 5 2.8 2.8; "
        "p -3.2 -4 3.2 -4 4.8 -0.6 -4.6 -0.6",
        "bus": "P -10 -6.5 10 -6.5 10 5 -10 5; o -5 6 2.5 2.5; o 5 6 2.5 2.5; "
        "p -8.5 -4.5 -3.5 -4.5 -3.5 0 -8.5 0; p -2.5 -4.5 2.5 -4.5 2.5 0 -2.5 0; "
        "p 3.5 -4.5 8.5 -4.5 8.5 0 3.5 0",
        "boat": "P -10 3 10 3 6 9 -6 9; P -0.8 1.5 -0.8 -10 -8.5 1.5; p 1 1.5 1 -8 7.5 1.5",
        "rocket": "P 0 -10 4 -4 4 5 -4 5 -4 -4; P -4 0 -8.5 8.5 -4 6; P 4 0 8.5 8.5 4 6; o 0 -3 1.9 1.9; "
        "p -2.2 5 2.2 5 0 10",
        "plane": "L 3.2 -8 0 9 0; P 3 0 -3.5 -10 -6 -10 -2.5 0; P 3 0 -3.5 10 -6 10 -2.5 0; "
        "P -6.5 0 -10 -4.5 -9 0 -10 4.5; o 7.5 0 1 1",
        "balloon": "O 0 -3 6.8 7; l 0.9 -4.5 2.5 -2.2 7; l 0.9 4.5 2.5 2.2 7; P -2.6 6.6 2.6 6.6 2.6 10 -2.6 10",
        "truck": "P -10 -6.5 2 -6.5 2 4 -10 4; P 3 -2.5 7.5 -2.5 10 1 10 4 3 4; o -6 5 2.6 2.6; o 6 5 2.6 2.6",
        "submarine": "O 0 2 9.8 5.4; P -2.4 -2 2.4 -2 2.4 -6 -2.4 -6; L 1.3 1 -5 1 -9 4.5 -9; o -5 2 1.6 1.6; "
        "o 0 2 1.6 1.6; o 5 2 1.6 1.6",
        "train": "P -10 -2 2 -2 2 4 -10 4; P 1.5 -9 9.5 -9 9.5 4 1.5 4; P -8.5 -7 -5 -7 -5 -2 -8.5 -2; "
        "o -7 5.5 2.3 2.3; o -1.5 5.5 2.3 2.3; o 5.5 5.5 2.6 2.6; p 3.8 -6.5 7.3 -6.5 7.3 -2 3.8 -2",
        "sled": "P -8 -2 8 -2 8 1 -8 1; L 1.5 -5 0 -5 7; L 1.5 4 0 4 7; l 1.8 -10 7 7 7 10 4 10 -1",
    },
    "building": {
        "house": "P 0 -9.5 10 0 -10 0; P -8 -0.5 8 -0.5 8 9 -8 9; p -2 3 2 3 2 9 -2 9",
        "castle": "P -9 -8 -6 -8 -6 -4 -1.6 -4 -1.6 -8 1.6 -8 1.6 -4 6 -4 6 -8 9 -8 9 9 -9 9; "
        "p -2.3 3 2.3 3 2.3 9 -2.3 9",
        "tent": "P 0 -8 10 8 -10 8; p 0 -1 3.7 8 -3.7 8",
        "lighthouse": "P -2.6 -5 2.6 -5 5 10 -5 10; p -3.4 -8 3.4 -8 3.4 -5 -3.4 -5; "
        "P -3.4 -8 3.4 -8 0 -10.2; p -3.3 0 3.3 0 4 3.4 -4 3.4",
        "windmill": "P -3.2 -2 3.2 -2 5.5 10 -5.5 10; l 2.3 -8 -9 8 4; l 2.3 8 -9 -8 4",
        "church": "P -10 2 -3 -3 4 2; P -9 1.5 4 1.5 4 9 -9 9; P 1.6 -2 5.3 -10 9 -2; "
        "P 2 -2 8.6 -2 8.6 9 2 9; p -5.5 4.5 -2 4.5 -2 9 -5.5 9",
        "bridge": "L 2.4 -10 3 10 3; L 1.7 -10 3 -6 -3 0 -5.5 6 -3 10 3; L 1.2 -5 -3 -5 3; L 1.2 0 -5 0 3; "
        "L 1.2 5 -3 5 3; p -10 3 -7 3 -7 9 -10 9; p 7 3 10 3 10 9 7 9",
        "tower": "P -1 -10 1 -10 2.2 0 7.5 10 4 10 0 4 -4 10 -7.5 10 -2.2 0; l 1.4 -4 3 4 3; l 1.2 -2.4 -2 2.4 -2",
        "well": "P 0 -10 8 -4 -8 -4; L 1.5 -5 -4 -5 3; L 1.5 5 -4 5 3; P -7.5 2 7.5 2 6.5 9.5 -6.5 9.5; "
        "p -7.5 2 7.5 2 7.3 4 -7.3 4",
        "factory": "P -9 9 -9 -9 -5.5 -9 -5.5 0 -1 -4 -1 0 4 -4 4 0 9 -4 9 9; p -6 4 -3 4 -3 7 -6 7; p 0 4 3 4 3 7 0 7",
    },
    "furnishing": {
        "cup": "P -7 -6 5 -6 4 8 -6 8; L 1.8 4.8 -3 9 -2 9 3 4.2 4; p -7 -6 5 -6 5 -3.6 -7 -3.6",
        "bottle": "P -1.9 -10 1.9 -10 1.9 -5 4.6 -1 4.6 10 -4.6 10 -4.6 -1 -1.9 -5; p -4.6 2 4.6 2 4.6 6.5 -4.6 6.5",
        "lamp": "P -4 -9.5 4 -9.5 8 0 -8 0; L 1.6 0 0 0 8; p -5 7.6 5 7.6 5 10 -5 10",
        "chair": "L 2 -5.5 -10 -5.5 10; P -6 0 7 0 7 3 -6 3; L 2 6 2 6 10; l 1.4 -5.5 -7 -5.5 -7",
        "clock": "O 0 0 9 9; l 1.6 0 -6.5 0 0 4.5 3",
        "umbrella": "P -10 0 -7.3 -6 0 -9.3 7.3 -6 10 0; l 1.5 0 0 0 8 3 9.4 4.2 7",
        "book": "P -10 -6.5 0 -4 10 -6.5 10 6 0 8.5 -10 6; l 1.4 0 -4 0 8.5; l 0.9 -8 -2 -2.5 -1; l 0.9 8 -2 2.5 -1",
        "bell": "P -2.2 -8.5 2.2 -8.5 5.2 -4 6.2 4 9 6.5 -9 6.5 -6.2 4 -5.2 -4; o 0 8 2.2 2.2",
        "candle": "P -3.2 -2 3.2 -2 3.2 10 -3.2 10; o 0 -6.5 2.3 3.6",
        "ladder": "L 2 -4.5 -10 -4.5 10; L 2 4.5 -10 4.5 10; l 1.6 -4 -6 4 -6; l 1.6 -4 -1.5 4 -1.5; "
        "l 1.6 -4 3 4 3; l 1.6 -4 7 4 7",
    },
    "clothing": {
        "shirt": "P -4 -8.5 4 -8.5 10 -3 7 1 5 -1 5 9 -5 9 -5 -1 -7 1 -10 -3; p -2.4 -8.5 2.4 -8.5 0 -4.5",
        "trousers": "P -5.5 -9.5 5.5 -9.5 6.5 10 2 10 0 -1 -2 10 -6.5 10; p -5.5 -9.5 5.5 -9.5 5.7 -7 -5.7 -7",
        "hat": "P -5.2 -8 5.2 -8 6 3 -6 3; O 0 4 10 2.8; p -5.8 -0.5 5.8 -0.5 6 2.6 -6 2.6",
        "boot": "P -4.5 -9.5 3 -9.5 3 3 9 5 9 9 -4.5 9; p -4.5 7.5 9 7.5 9 10 -4.5 10",
        "sock": "P -3 -9.5 4.5 -9.5 4.5 2 -1.5 9.5 -8 8.5 -8 4 -3 1; p -3 -9.5 4.5 -9.5 4.5 -6 -3 -6",
        "dress": "P -3.4 -9.5 3.4 -9.5 2.2 -2 8.5 9.5 -8.5 9.5 -2.2 -2; p -2.2 -3.4 2.2 -3.4 3 -0.6 -3 -0.6",
        "crown": "P -9 7.5 -9 -6 -4.5 0 0 -8.5 4.5 0 9 -6 9 7.5; p -9 4 9 4 9 7.5 -9 7.5",
        "glove": "P -5 4 -5 -3 5 -3 5 4; L 2.5 -3.8 -2 -3.8 -7.5; L 2.5 -1.3 -2 -1.3 -9; L 2.5 1.3 -2 1.3 -9; "
        "L 2.5 3.8 -2 3.8 -7.5; L 2.6 4 3 8.5 -1; p -5 4 5 4 5 10 -5 10",
        "glasses": "O -5 0 4.8 4.8; O 5 0 4.8 4.8; o -5 0 3 3; o 5 0 3 3; L 1.5 -10 -4 -8 -2; L 1.5 10 -4 8 -2",
        "ring": "o 0 -7 3 3; L 2.4 0 -4 5 -2 6.5 3 4 8 0 9 -4 8 -6.5 3 -5 -2 0 -4",
    },
    "tool": {
        "hammer": "P -7.5 -9 7.5 -9 7.5 -4 -7.5 -4; p -1.5 -4 1.5 -4 1.5 10 -1.5 10",
        "axe": "l 2 -1 -9.5 -1 10; P -1 -8 7 -10 8.5 -4 7 2 -1 -3",
        "key": "O -5 0 4.8 4.8; o -5 0 2 2; L 2.3 -1 0 9 0; L 2.2 4.5 0 4.5 4.5; L 2.2 8.5 0 8.5 4.5",
        "anchor": "L 2 0 -6 0 8; L 2 -8 2 -6 7 0 9 6 7 8 2; L 1.8 -4.5 -3 4.5 -3; O 0 -8 2.2 2.2; o 0 -8 0.9 0.9",
        "scissors": "L 2.2 -7 -9.5 4 5; L 2.2 7 -9.5 -4 5; O -5 7 3.2 3.2; O 5 7 3.2 3.2; o -5 7 1.5 1.5; "
        "o 5 7 1.5 1.5",
        "magnet": "L 4.2 -6 -8 -6 1 -4 6 0 7.6 4 6 6 1 6 -8; p -8.1 -10 -3.9 -10 -3.9 -6 -8.1 -6; "
        "p 3.9 -10 8.1 -10 8.1 -6 3.9 -6",
        "sword": "P -1.5 -7 0 -10.4 1.5 -7 1.5 4 -1.5 4; p -5.5 3.5 5.5 3.5 5.5 6 -5.5 6; L 2 0 6 0 10",
        "shield": "P -8 -9 8 -9 8 0 5 6 0 10 -5 6 -8 0; l 1.7 0 -8.5 0 9; l 1.7 -7.5 -2 7.5 -2",
        "guitar": "O 0 6 5.2 4.2; O 0 0.5 3.8 3.4; L 1.8 0 0 0 -9; p -1.9 -10 1.9 -10 1.9 -7 -1.9 -7; o 0 4 1.9 1.9",
        "drum": "P -8 -4 8 -4 8 6.5 -8 6.5; o 0 -4 8 2.8; l 1.1 -8 -2 -4 6 0 -2 4 6 8 -2",
    },
}

#: Name of the group of every category, in the order of the categories' ids.
GROUPS = {name: group for group, drawings in _DRAWINGS.items() for name in drawings}
CATEGORIES = tuple(GROUPS)


@dataclass(frozen=True)
class Part:
    """One part of a drawing, in units of the object's radius."""

    kind: str  # P, O or L
    points: np.ndarray  # (n, 2) float32 corners; centre and semi-axes of an ellipse
    width: float  # of a stroke, else 0
    is_detail: bool  # whether it has the second tone


@cache
def drawing(category: str) -> tuple[Part, ...]:
    """Return the parts of a category's drawing, back to front."""
    return tuple(_parse(part.split()) for part in _DRAWINGS[GROUPS[category]][category].split(";"))


def _parse(words: list[str]) -> Part:
    kind, numbers = words[0].upper(), np.array(words[1:], np.float32) / 10
    width = 0.0
    if kind == "L":
        width, numbers = float(numbers[0]), numbers[1:]
    return Part(kind, numbers.reshape(-1, 2), width, words[0].islower())


def distance(part: Part, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the signed distance to the edge of a part, negative inside, for points `(u, v)` of any shape.

    The distance to an ellipse is approximate, exact at its edge to first order.
    """
    if part.kind == "O":
        (x, y), (a, b) = part.points
        scaled = np.hypot((u - x) / a, (v - y) / b)
        slope = np.hypot((u - x) / a**2, (v - y) / b**2)
        return np.where(slope > 1e-3, scaled * (scaled - 1) / np.maximum(slope, 1e-3), -min(a, b))
    starts = part.points if part.kind == "P" else part.points[:-1]
    ends = np.roll(part.points, -1, 0) if part.kind == "P" else part.points[1:]
    nearest = np.full(np.broadcast(u, v).shape, np.inf, np.float32)
    inside = np.zeros(nearest.shape, bool)
    for (x, y), (to_x, to_y) in zip(starts, ends, strict=True):
        along_x, along_y = to_x - x, to_y - y
        fraction = np.clip(((u - x) * along_x + (v - y) * along_y) / max(along_x**2 + along_y**2, 1e-9), 0, 1)
        nearest = np.minimum(nearest, np.hypot(u - x - fraction * along_x, v - y - fraction * along_y))
        if part.kind == "P" and y != to_y:  # even-odd rule: edges that a ray to the right crosses
            inside ^= ((y > v) != (to_y > v)) & (u < x + (v - y) / (to_y - y) * along_x)
    return nearest - np.float32(part.width / 2) if part.kind == "L" else np.where(inside, -nearest, nearest)
