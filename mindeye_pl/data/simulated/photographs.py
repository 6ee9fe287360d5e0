"""Scenes of real photographs: cut-outs at a random place, size and tilt, on a drawn or photographed background."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from mindeye_pl.data.simulated.cutouts import (
    Cutout,
    find_cutouts,
    find_photographs,
    read_cutout,
    read_photograph,
    with_article,
    words_of,
)
from mindeye_pl.data.simulated.rendering import paint_background
from mindeye_pl.data.simulated.scene_source import SceneSource
from mindeye_pl.data.simulated.scenes import (
    RADII,
    RELATIONS,
    SECOND_OBJECT,
    Background,
    describe_background,
    draw_background,
    draw_centres,
    sentence,
)
from mindeye_pl.data.simulated.world import SimulationSettings

#: Largest tilt of a cut-out in degrees, to either side.
_TILT = 15.0
#: Limits of the side of a background's square, over the shorter side of its photograph.
_CROP = (0.6, 1.0)


@dataclass(frozen=True)
class PhotographedObject:
    """One cut-out of a scene."""

    cutout: Cutout
    radius: float  # half of the longer side, in half images
    centre: tuple[float, float]  # (x, y), as in `scenes`
    angle: float  # in degrees
    is_flipped: bool  # from left to right

    @property
    def category(self) -> str:
        """Folder of the cut-out."""
        return self.cutout.category


@dataclass(frozen=True)
class PhotographedBackground:
    """A square of a photograph."""

    path: Path
    side: float  # over the photograph's shorter side
    corner: tuple[float, float]  # (x, y) of the square, from 0 at the left and top to 1
    is_flipped: bool  # from left to right


@dataclass(frozen=True)
class PhotographedScene:
    """A background and its cut-outs."""

    background: Background | PhotographedBackground
    objects: tuple[PhotographedObject, ...]  # one or two, front to back, the larger one first
    relation: str  # relation of the first object to the second, as in `scenes`


@dataclass(frozen=True)
class PhotographedScenes:
    """Scenes of the cut-outs of a folder.

    Attributes:
        cutouts: folder of the cut-outs.
        excluded: names of folders below it that are left out.
        backgrounds: folder of photographs for backgrounds; None draws them.
    """

    cutouts: str
    excluded: tuple[str, ...] = ()
    backgrounds: str | None = None

    @property
    def groups(self) -> Mapping[str, str]:
        """Name of the group of every category."""
        return _groups(self.cutouts, self.excluded)

    def draw(self, rng: np.random.Generator) -> PhotographedScene:
        """Draw a random scene; the objects of one scene are of different categories if there are several."""
        cutouts = find_cutouts(self.cutouts, self.excluded)
        background = draw_background(rng) if self.backgrounds is None else _draw_square(rng, self.backgrounds)
        chosen = [cutouts[rng.integers(len(cutouts))]]
        others = [each for each in cutouts if each.category != chosen[0].category]
        if rng.random() < SECOND_OBJECT and others:
            chosen.append(others[rng.integers(len(others))])
        radii = [float(rng.uniform(*limits)) for limits in RADII[: len(chosen)]]
        relation = str(rng.choice(list(RELATIONS))) if len(chosen) > 1 else ""
        objects = tuple(
            PhotographedObject(cutout, radius, centre, float(rng.uniform(-_TILT, _TILT)), bool(rng.random() < 0.5))
            for cutout, radius, centre in zip(chosen, radii, draw_centres(rng, radii, relation), strict=True)
        )
        return PhotographedScene(background, objects, relation)

    def render(self, scene: PhotographedScene, size: int) -> np.ndarray:
        """Render a scene, `(3, size, size)` float32 RGB in [0, 1]."""
        if isinstance(scene.background, Background):
            image = paint_background(scene.background, size)
        else:
            image = _show_square(scene.background, size)
        for each in reversed(scene.objects):
            _paste(image, each)
        return image

    def captions(self, scene: PhotographedScene) -> list[str]:
        """Return two English captions: a full description, and one that only names the objects."""
        described = f" {scene.relation} ".join(each.cutout.description for each in scene.objects)
        named = " and ".join(with_article(each.cutout.name) for each in scene.objects)
        where = (
            f"on {describe_background(scene.background)}"
            if isinstance(scene.background, Background)
            else f"in front of {words_of(scene.background.path)}"
        )
        return [sentence(f"{described}, {where}."), sentence(f"{named}.")]


@dataclass(frozen=True)
class PhotographSettings(SimulationSettings):
    """Size and difficulty of a simulated NSD whose images are photographs.

    Attributes:
        cutouts: folder of the cut-outs, PNG files with transparency in subfolders by category.
        excluded: names of folders below it that are left out.
        backgrounds: folder of photographs that become backgrounds; null draws them.
    """

    cutouts: str
    excluded: list[str]
    backgrounds: str | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "excluded", list(self.excluded))  # any kind of list from the configuration
        super().__post_init__()

    @property
    def source(self) -> SceneSource:
        """The kind of scenes that the subjects see."""
        return PhotographedScenes(self.cutouts, tuple(self.excluded), self.backgrounds)


@cache
def _groups(folder: str, excluded: tuple[str, ...]) -> Mapping[str, str]:
    return {each.category: each.group for each in find_cutouts(folder, excluded)}


def _draw_square(rng: np.random.Generator, folder: str) -> PhotographedBackground:
    photographs = find_photographs(folder)
    path, side = photographs[rng.integers(len(photographs))], float(rng.uniform(*_CROP))
    return PhotographedBackground(path, side, (float(rng.random()), float(rng.random())), bool(rng.random() < 0.5))


def _show_square(background: PhotographedBackground, size: int) -> np.ndarray:
    from PIL import Image, ImageOps

    photograph = read_photograph(background.path)
    side = background.side * min(photograph.size)
    left, top = ((whole - side) * at for whole, at in zip(photograph.size, background.corner, strict=True))
    shown = photograph.resize((size, size), Image.Resampling.LANCZOS, (left, top, left + side, top + side))
    if background.is_flipped:
        shown = ImageOps.mirror(shown)
    return np.asarray(shown, np.float32).transpose(2, 0, 1) / 255


def _paste(image: np.ndarray, each: PhotographedObject) -> None:
    """Paste a cut-out over its region of the image."""
    from PIL import Image, ImageOps

    size, cutout = image.shape[-1], read_cutout(each.cutout.path)
    scale = each.radius * size / max(cutout.size)
    # Pillow resizes and rotates colours weighted by their alpha, so that transparent pixels leave no fringe.
    width, height = (max(1, round(scale * side)) for side in cutout.size)
    shown = cutout.resize((width, height), Image.Resampling.LANCZOS)
    if each.is_flipped:
        shown = ImageOps.mirror(shown)
    shown = shown.rotate(each.angle, Image.Resampling.BICUBIC, expand=True)
    pixels = np.asarray(shown, np.float32).transpose(2, 0, 1) / 255  # (4, height, width)
    left, top = (round(size * (1 + at) / 2 - side / 2) for at, side in zip(each.centre, shown.size, strict=True))
    pixels = pixels[:, max(0, -top) : size - top, max(0, -left) : size - left]
    top, left = max(0, top), max(0, left)
    region = image[:, top : top + pixels.shape[1], left : left + pixels.shape[2]]
    region += pixels[3:] * (pixels[:3] - region)
