"""The interface of a kind of scenes, on which the simulated world is built, and its first implementation.

A source draws descriptions of images, renders them and captions them. Drawn scenes are the default; photographs of
real objects are in `photographs`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mindeye_pl.data.simulated import scenes
from mindeye_pl.data.simulated.objects import GROUPS
from mindeye_pl.data.simulated.rendering import render


class SceneObject(Protocol):
    """An object of a scene."""

    @property
    def category(self) -> str:
        """Name of its category, a key of `SceneSource.groups`."""


class Scene(Protocol):
    """Description of an image, a dataclass; without its objects, the background is left."""

    @property
    def objects(self) -> Sequence[SceneObject]:
        """One or two objects, front to back, the larger one first."""


class SceneSource(Protocol):
    """A kind of scenes: hashable, picklable, and a function of the generators alone."""

    def __hash__(self) -> int:
        """Return the hash, by which percepts are cached."""

    @property
    def groups(self) -> Mapping[str, str]:
        """Name of the group of every category, in a fixed order."""

    def draw(self, rng: np.random.Generator) -> Any:
        """Draw the description of a random scene, a `Scene`."""

    def render(self, scene: Any, size: int) -> np.ndarray:
        """Render a scene, `(3, size, size)` float32 RGB in [0, 1]."""

    def captions(self, scene: Any) -> list[str]:
        """Return two English captions: a full description, and one that only names the objects."""


@dataclass(frozen=True)
class DrawnScenes:
    """Procedural scenes of 80 drawn categories."""

    @property
    def groups(self) -> Mapping[str, str]:
        """Name of the group of every category."""
        return GROUPS

    def draw(self, rng: np.random.Generator) -> scenes.Scene:
        """Draw a random scene."""
        return scenes.draw_scene(rng)

    def render(self, scene: scenes.Scene, size: int) -> np.ndarray:
        """Render a scene, `(3, size, size)` float32 RGB in [0, 1]."""
        return render(scene, size)

    def captions(self, scene: scenes.Scene) -> list[str]:
        """Return two English captions."""
        return scenes.captions(scene)


DRAWN = DrawnScenes()
