"""Descriptions of simulated images: a background, a main object, and in some a smaller one beside it.

An object's category says nothing about its colour, place, size and texture, which are drawn for each image: the pixels
of a blurred image do not identify the object. `rendering.render` turns a scene into an image, `captions` into English.
Coordinates are in units of half an image, x to the right and y downwards, with the centre at (0, 0).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mindeye_pl.data.simulated.objects import CATEGORIES

Rgb = tuple[float, float, float]

#: Named colours, RGB in [0, 1]; each use is jittered a little, so that a name is a category and not a single value.
COLOURS: dict[str, Rgb] = {
    "red": (0.84, 0.13, 0.14),
    "orange": (0.96, 0.55, 0.12),
    "yellow": (0.97, 0.86, 0.20),
    "green": (0.16, 0.62, 0.24),
    "turquoise": (0.16, 0.74, 0.74),
    "blue": (0.14, 0.30, 0.80),
    "purple": (0.50, 0.20, 0.62),
    "pink": (0.96, 0.56, 0.72),
    "brown": (0.45, 0.29, 0.16),
    "white": (0.95, 0.95, 0.95),
    "black": (0.07, 0.07, 0.08),
}
TEXTURES = ("plain", "striped", "spotted")
BACKGROUNDS = ("gradient", "horizon", "stripes", "checks", "clouds")
#: Backgrounds in two tones of one colour; with two colours they would hide the objects.
TWO_TONES = ("stripes", "checks")

#: Relation of the first object to the second: the direction from the second to the first.
RELATIONS: dict[str, tuple[float, float]] = {
    "to the left of": (-1, 0),
    "to the right of": (1, 0),
    "above": (0, -1),
    "below": (0, 1),
}

#: Probability of a second object.
SECOND_OBJECT = 0.4
#: Radii of the main object and of the second one.
RADII = ((0.48, 0.75), (0.25, 0.38))
_COLOUR_JITTER = 0.04
_NUM_WAVES = 4
_TONE = 0.2


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene."""

    category: str  # one of `CATEGORIES`
    colour: str  # one of `COLOURS`
    rgb: Rgb  # the jittered colour, in [0, 1]
    texture: str  # one of `TEXTURES`
    radius: float  # of the circumscribed circle, in half images
    centre: tuple[float, float]  # (x, y)
    angle: float  # rotation in radians

    @property
    def size(self) -> str:
        """Size category of the radius."""
        return "small" if self.radius < 0.4 else "medium-sized" if self.radius < 0.58 else "large"


@dataclass(frozen=True)
class Background:
    """Background of a scene."""

    kind: str  # one of `BACKGROUNDS`
    colours: tuple[str, str]  # names of its two colours
    rgbs: tuple[Rgb, Rgb]  # the jittered colours
    angle: float  # direction of the pattern, or tilt of the horizon, in radians
    frequency: float  # periods of the pattern per image
    phases: tuple[float, ...]  # of the waves of the pattern, in [0, 1)


@dataclass(frozen=True)
class Scene:
    """A background and its objects."""

    background: Background
    objects: tuple[SceneObject, ...]  # one or two, front to back, the larger one first
    relation: str  # relation of the first object to the second, one of `RELATIONS`; "" for a single object


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draw a random scene."""
    background = draw_background(rng)
    count = 1 + int(rng.random() < SECOND_OBJECT)
    # Colours differ from each other and from the background's, so that every object is visible.
    colours = rng.permutation([name for name in COLOURS if name not in background.colours])[:count]
    categories = rng.permutation(CATEGORIES)[:count]
    radii = [float(rng.uniform(*limits)) for limits in RADII[:count]]
    relation = str(rng.choice(list(RELATIONS))) if count > 1 else ""
    objects = tuple(
        SceneObject(
            category=str(category),
            colour=str(colour),
            rgb=_jittered(rng, str(colour)),
            texture=str(rng.choice(TEXTURES, p=(0.5, 0.25, 0.25))),
            radius=radius,
            centre=centre,
            angle=float(rng.uniform(-0.25, 0.25)),
        )
        for category, colour, radius, centre in zip(
            categories, colours, radii, draw_centres(rng, radii, relation), strict=True
        )
    )
    return Scene(background, objects, relation)


def draw_background(rng: np.random.Generator) -> Background:
    """Draw a random background."""
    kind = str(rng.choice(BACKGROUNDS))
    names = [name for name in COLOURS if kind not in TWO_TONES or name not in ("black", "white")]
    first, second = (str(name) for name in rng.choice(names, 2, replace=False))
    rgbs = _jittered(rng, first), _jittered(rng, second)
    if kind in TWO_TONES:
        second, rgbs = first, _tones(rgbs[0])
    turn = rng.uniform(-0.12, 0.12) if kind == "horizon" else rng.uniform(-np.pi, np.pi)
    return Background(
        kind=kind,
        colours=(first, second),
        rgbs=rgbs,
        angle=float(turn),
        frequency=float(rng.uniform(1.5, 4.0)),
        phases=tuple(rng.random(2 * _NUM_WAVES).tolist()),
    )


def _jittered(rng: np.random.Generator, colour: str) -> Rgb:
    red, green, blue = np.clip(np.array(COLOURS[colour]) + _COLOUR_JITTER * rng.standard_normal(3), 0, 1).tolist()
    return red, green, blue


def _tones(rgb: Rgb) -> tuple[Rgb, Rgb]:
    """Return a lighter and a darker tone of a colour."""
    values = np.array(rgb)
    light, dark = (values + _TONE * (1 - values)).tolist(), ((1 - _TONE) * values).tolist()
    return (light[0], light[1], light[2]), (dark[0], dark[1], dark[2])


def draw_centres(rng: np.random.Generator, radii: list[float], relation: str) -> list[tuple[float, float]]:
    """Draw the centres of the objects inside the image, the second one beside the first."""
    first = rng.uniform(radii[0] - 1, 1 - radii[0], 2)
    if not relation:
        return [_point(first)]
    # Both along the relation's axis as far apart as the image allows, up to touching, and near each other across it.
    direction = np.array(RELATIONS[relation], float)
    across = direction[::-1] != 0
    first = np.where(across, first, direction * (1 - radii[0]))
    beside = first + rng.uniform(-0.4, 0.4, 2)
    second = np.where(across, beside, direction * (1 - 2 * radii[0] - radii[1]))
    return [_point(first), _point(np.clip(second, radii[1] - 1, 1 - radii[1]))]


def _point(xy: np.ndarray) -> tuple[float, float]:
    return float(xy[0]), float(xy[1])


def captions(scene: Scene) -> list[str]:
    """Return two English captions: a full description, and one that only names the objects."""
    described = [_describe(each) for each in scene.objects]
    full = f" {scene.relation} ".join(described) + f", on {describe_background(scene.background)}."
    return [sentence(full), name_objects([each.category for each in scene.objects])]


def name_objects(categories: Sequence[str]) -> str:
    """Return a caption that only names objects: "An apple and a cat."."""
    return sentence(" and ".join(f"a {category}" for category in categories) + ".")


def _describe(scene_object: SceneObject) -> str:
    texture = "" if scene_object.texture == "plain" else f"{scene_object.texture} "
    return f"a {scene_object.size} {texture}{scene_object.colour} {scene_object.category}"


def describe_background(background: Background) -> str:
    """Return a background in words."""
    first, second = background.colours
    return {
        "gradient": f"a background fading from {first} to {second}",
        "horizon": f"a {second} ground under a {first} sky",
        "stripes": f"light and dark {first} stripes",
        "checks": f"light and dark {first} checks",
        "clouds": f"{first} and {second} clouds",
    }[background.kind]


def sentence(text: str) -> str:
    """Return a text with an upper-case first letter and "an" before the sound of a vowel."""
    text = re.sub(r"\ba (?=[aeiou])(?!uni|use|eu|uk\b|one\b)", "an ", text)
    return text[0].upper() + text[1:]
