"""Descriptions of simulated images: a background, one to four objects, and the relation of the first two.

`rendering.render` turns a scene into an image, `captions` into English, and `semantics` into the semantic features of
"higher" voxels. Coordinates are in units of half an image, x to the right and y downwards, with the centre at (0, 0).
"""

from dataclasses import dataclass

import numpy as np

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
SHAPES = ("circle", "square", "triangle", "diamond", "ring", "cross", "star", "crescent")
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
    "in front of": (0, 0),
}

#: Probabilities of one, two, three and four objects.
_NUM_OBJECTS = (0.25, 0.35, 0.25, 0.15)
_COLOUR_JITTER = 0.04
_NUM_WAVES = 4
_TONE = 0.2


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene."""

    shape: str  # one of `SHAPES`
    colour: str  # one of `COLOURS`
    rgb: Rgb  # the jittered colour, in [0, 1]
    texture: str  # one of `TEXTURES`
    radius: float  # of the circumscribed circle, in half images
    centre: tuple[float, float]  # (x, y)
    angle: float  # rotation in radians

    @property
    def size(self) -> str:
        """Size category of the radius."""
        return "small" if self.radius < 0.26 else "medium-sized" if self.radius < 0.38 else "large"


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
    objects: tuple[SceneObject, ...]  # one to four, front to back
    relation: str  # relation of the first object to the second, one of `RELATIONS`; "" for a single object


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draw a random scene."""
    background = _draw_background(rng)
    count = 1 + int(rng.choice(4, p=_NUM_OBJECTS))
    # Colours differ from each other and from the background's, so that every object is visible.
    colours = rng.permutation([name for name in COLOURS if name not in background.colours])[:count]
    radii = rng.uniform(0.24, 0.55, count) * (1.0, 0.9, 0.75, 0.65)[count - 1]
    relation = str(rng.choice(list(RELATIONS))) if count > 1 else ""
    centres = _draw_centres(rng, radii, relation)
    objects = tuple(
        SceneObject(
            shape=str(rng.choice(SHAPES)),
            colour=str(colour),
            rgb=_jittered(rng, str(colour)),
            texture=str(rng.choice(TEXTURES, p=(0.5, 0.25, 0.25))),
            radius=float(radius),
            centre=centre,
            angle=float(rng.uniform(-0.25, 0.25)),
        )
        for colour, radius, centre in zip(colours, radii, centres, strict=True)
    )
    return Scene(background, objects, relation)


def _draw_background(rng: np.random.Generator) -> Background:
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


def _draw_centres(rng: np.random.Generator, radii: np.ndarray, relation: str) -> list[tuple[float, float]]:
    """Draw the centres of the objects: the first two by their relation, the others where there is space."""
    if len(radii) == 1:
        return [_point(rng.uniform(-0.5, 0.5, 2))]
    centre, direction = rng.uniform(-0.15, 0.15, 2), np.array(RELATIONS[relation], float)
    if relation == "in front of":
        radii[:2] = np.sort(radii[:2])  # the smaller object hides only a part of the larger one
        distance, angle = rng.uniform(0.5, 0.9) * radii[1], rng.uniform(0, 2 * np.pi)
        centres = [centre + distance * np.array([np.cos(angle), np.sin(angle)]), centre]
    else:
        across = rng.uniform(-0.25, 0.25) * direction[::-1]
        apart = direction * max(0.4, 0.55 * radii[:2].sum()) + across
        centres = [centre + apart, centre - apart]
    for index in range(2, len(radii)):
        candidates = rng.uniform(-0.75, 0.75, (12, 2))
        space = np.min([np.hypot(*(candidates - other).T) - radii[i] for i, other in enumerate(centres)], axis=0)
        enough = np.flatnonzero(space > radii[index])
        centres.append(candidates[enough[0] if len(enough) else np.argmax(space)])
    return [_point(np.clip(centre, -0.8, 0.8)) for centre in centres]


def _point(xy: np.ndarray) -> tuple[float, float]:
    return float(xy[0]), float(xy[1])


def captions(scene: Scene) -> list[str]:
    """Return two English captions: a full description, and a short one of the main objects."""
    first, *others = scene.objects
    behind = f"on {_describe_background(scene.background)}"
    if not others:
        full, short = f"{_describe(first)} {behind}.", f"a {first.colour} {first.shape}."
    else:
        second, *rest = others
        also = f", with {_join([_describe(scene_object) for scene_object in rest])}" if rest else ""
        full = f"{_describe(first)} {scene.relation} {_describe(second)}{also}, {behind}."
        short = f"a {first.colour} {first.shape} {scene.relation} a {second.colour} {second.shape}."
    return [_sentence(full), _sentence(short)]


def _describe(scene_object: SceneObject) -> str:
    texture = "" if scene_object.texture == "plain" else f"{scene_object.texture} "
    return f"a {scene_object.size} {texture}{scene_object.colour} {scene_object.shape}"


def _describe_background(background: Background) -> str:
    first, second = background.colours
    return {
        "gradient": f"a background fading from {first} to {second}",
        "horizon": f"a {second} ground under a {first} sky",
        "stripes": f"light and dark {first} stripes",
        "checks": f"light and dark {first} checks",
        "clouds": f"{first} and {second} clouds",
    }[background.kind]


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _sentence(text: str) -> str:
    text = text.replace("a orange", "an orange")
    return text[0].upper() + text[1:]


#: Centres of the four image quarters for which `semantics` describes the objects.
_QUARTERS = np.array([(-0.45, -0.45), (0.45, -0.45), (-0.45, 0.45), (0.45, 0.45)])
_QUARTER_WIDTH = 0.45
_INDEX = {names: {name: i for i, name in enumerate(names)} for names in (SHAPES, tuple(COLOURS), TEXTURES, BACKGROUNDS)}
_OBJECT_FEATURES = len(SHAPES) + len(COLOURS) + len(TEXTURES)
NUM_SEMANTICS = len(_QUARTERS) * _OBJECT_FEATURES + len(_NUM_OBJECTS) + len(BACKGROUNDS) + len(COLOURS)


def semantics(scene: Scene) -> np.ndarray:
    """Return the semantic features of a scene, `(NUM_SEMANTICS,)` float32.

    They are the shapes, colours and textures of the objects near each quarter of the image (weighted by size and
    distance), the number of objects, the kind of the background and its colours.
    """
    shapes, colours, textures, kinds = _INDEX.values()
    near = np.zeros((len(_QUARTERS), _OBJECT_FEATURES))
    for scene_object in scene.objects:
        distance = np.hypot(*(_QUARTERS - scene_object.centre).T)
        weight = np.sqrt(scene_object.radius / 0.3) * np.exp(-0.5 * (distance / _QUARTER_WIDTH) ** 2)
        for column in (
            shapes[scene_object.shape],
            len(SHAPES) + colours[scene_object.colour],
            len(SHAPES) + len(COLOURS) + textures[scene_object.texture],
        ):
            near[:, column] += weight
    number, kind, behind = np.zeros(len(_NUM_OBJECTS)), np.zeros(len(BACKGROUNDS)), np.zeros(len(COLOURS))
    number[len(scene.objects) - 1] = 1
    kind[kinds[scene.background.kind]] = 1
    for name in scene.background.colours:
        behind[colours[name]] = 0.5
    return np.concatenate([near.ravel(), number, kind, behind]).astype(np.float32)
