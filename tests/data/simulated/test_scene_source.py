"""The drawn world behind the interface of scenes: the same bits as before there was an interface."""

import hashlib

import numpy as np

from mindeye_pl.data.simulated.identity import Identity
from mindeye_pl.data.simulated.objects import CATEGORIES
from mindeye_pl.data.simulated.rendering import render
from mindeye_pl.data.simulated.scene_source import DRAWN
from mindeye_pl.data.simulated.scenes import captions, draw_scene
from mindeye_pl.data.simulated.world import perceive, stimulus_scene

SCENES = [stimulus_scene(3, index) for index in range(12)]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def test_drawn_scenes_are_those_of_the_functions() -> None:
    scene = draw_scene(np.random.default_rng(5))
    assert DRAWN.draw(np.random.default_rng(5)) == scene
    assert DRAWN.captions(scene) == captions(scene)
    np.testing.assert_array_equal(DRAWN.render(scene, 32), render(scene, 32))
    assert list(DRAWN.groups) == list(CATEGORIES)


def test_the_drawn_world_is_unchanged() -> None:
    """Pixels are compared in 8 bits and identities to 1e-4: the last bits differ between processors."""
    words = "\n".join(text for scene in SCENES for text in DRAWN.captions(scene))
    pixels = np.round(255 * np.stack([DRAWN.render(scene, 32) for scene in SCENES])).astype(np.uint8)
    assert digest(repr(SCENES).encode()) == "78abb9e5653069e8"
    assert digest(words.encode()) == "299e1d6e5f16c53f"
    assert digest(pixels.tobytes()) == "40433bf5e5dbd09c"
    identity = [-0.6234, -0.8609, 0.42910, -1.7721, 0.4374, -0.2788, 0.2737, -0.5180]
    np.testing.assert_allclose(Identity.sample(np.random.default_rng(1))(SCENES)[0], identity, atol=1e-4)


def test_percepts_have_a_source() -> None:
    given, default = perceive(SCENES, 3, 2.0, DRAWN), perceive(SCENES, 3, 2.0)
    np.testing.assert_array_equal(given.visual, default.visual)
    np.testing.assert_array_equal(given.identity, default.identity)
