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


def digest(*values: object) -> str:
    return hashlib.sha256(b"".join(np.asarray(each).tobytes() for each in values)).hexdigest()[:16]


def test_drawn_scenes_are_those_of_the_functions() -> None:
    scene = draw_scene(np.random.default_rng(5))
    assert DRAWN.draw(np.random.default_rng(5)) == scene
    assert DRAWN.captions(scene) == captions(scene)
    np.testing.assert_array_equal(DRAWN.render(scene, 32), render(scene, 32))
    assert list(DRAWN.groups) == list(CATEGORIES)


def test_the_drawn_world_is_unchanged() -> None:
    """Checksums of pixels to 8 bits, captions and identities to 4 decimals: rounding differs between processors."""
    pixels = np.stack([DRAWN.render(scene, 32) for scene in SCENES])
    words = "\n".join(text for scene in SCENES for text in DRAWN.captions(scene))
    identity = Identity.sample(np.random.default_rng(1))(SCENES)
    percepts = perceive(SCENES, seed=3, figure_gain=2.0)
    found = {
        "scenes": hashlib.sha256(repr(SCENES).encode()).hexdigest()[:16],
        "captions": hashlib.sha256(words.encode()).hexdigest()[:16],
        "pixels": digest(np.round(255 * pixels).astype(np.uint8)),
    }
    print(found, identity[0].tolist(), percepts.visual.mean(), percepts.identity.sum())
