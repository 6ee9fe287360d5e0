import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mindeye_pl.data.simulated.rendering import render
from mindeye_pl.data.simulated.scenes import (
    BACKGROUNDS,
    COLOURS,
    NUM_SEMANTICS,
    SHAPES,
    TEXTURES,
    TWO_TONES,
    Background,
    Scene,
    SceneObject,
    captions,
    draw_scene,
    semantics,
)

SCENES = [draw_scene(np.random.default_rng(seed)) for seed in range(300)]
GREY = ((0.5, 0.5, 0.5),) * 2
EMPTY = Background("gradient", ("white", "white"), GREY, 0.0, 2.0, (0.0,) * 8)


def one(shape: str, texture: str = "plain", radius: float = 0.6) -> Scene:
    """A red object in the middle of a grey image."""
    return Scene(EMPTY, (SceneObject(shape, "red", COLOURS["red"], texture, radius, (0.0, 0.0), 0.0),), "")


def test_every_kind_of_thing_occurs():
    assert {scene.background.kind for scene in SCENES} == set(BACKGROUNDS)
    things = [thing for scene in SCENES for thing in scene.objects]
    assert {thing.shape for thing in things} == set(SHAPES)
    assert {thing.texture for thing in things} == set(TEXTURES)
    assert {thing.colour for thing in things} == set(COLOURS)
    assert set(Counter(len(scene.objects) for scene in SCENES)) == {1, 2, 3, 4}


def test_objects_are_seen_and_differ():
    for scene in SCENES:
        colours = [thing.colour for thing in scene.objects]
        assert len(set(colours)) == len(colours)
        assert not set(colours) & set(scene.background.colours)
        for thing in scene.objects:
            assert max(map(abs, thing.place)) <= 0.8


def test_two_tones_are_of_one_colour():
    for scene in SCENES:
        first, second = scene.background.colours
        assert (first == second) == (scene.background.kind in TWO_TONES)


def test_relation_is_true_of_the_first_two_objects():
    for scene in SCENES:
        if len(scene.objects) == 1:
            assert scene.relation == ""
            continue
        (x, y), (other_x, other_y) = scene.objects[0].place, scene.objects[1].place
        assert {
            "to the left of": x < other_x,
            "to the right of": x > other_x,
            "above": y < other_y,
            "below": y > other_y,
            "in front of": np.hypot(x - other_x, y - other_y) < scene.objects[1].radius,
        }[scene.relation]


def test_captions_name_what_is_there():
    for scene in SCENES:
        full, short = captions(scene)
        for thing in scene.objects:
            assert f"{thing.colour} {thing.shape}" in full
        assert scene.relation in full
        assert scene.relation in short
        assert all(colour in full for colour in scene.background.colours)
        assert f"{scene.objects[0].colour} {scene.objects[0].shape}" in short
        for text in (full, short):
            assert text[0].isupper()
            assert text.endswith(".")
            assert "a orange" not in text.lower()


def test_image():
    images = np.stack([render(scene, 64) for scene in SCENES[:50]])
    assert images.shape == (50, 3, 64, 64)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    flat = images.reshape(50, -1)
    apart = np.sqrt(((flat[:, None] - flat) ** 2).mean(-1))
    assert apart[~np.eye(50, dtype=bool)].min() > 0.05


def test_same_scene_at_every_size():
    for scene in SCENES[:30]:
        large, small = render(scene, 256), render(scene, 64)
        shrunk = large.reshape(3, 64, 4, 64, 4).mean((2, 4))
        assert np.abs(shrunk - small).mean() < 0.01


@pytest.mark.parametrize("shape", SHAPES)
def test_antialiasing(shape):
    """The area of a shape changes smoothly with its size, and some pixels on its edge are mixed."""
    cover = [(0.5 - render(one(shape, radius=radius), 64)[2]).sum() for radius in np.linspace(0.5, 0.53, 7)]
    steps = np.diff(cover)
    assert steps.min() > 0
    assert steps.max() < 4 * steps.min()
    red = render(one(shape), 64)[0]
    assert ((red > 0.52) & (red < 0.6)).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_shape_lies_inside_its_radius(shape):
    changed = np.abs(render(one(shape), 128) - 0.5).max(0) > 1e-6
    axis = (np.arange(128) + 0.5) / 64 - 1
    assert np.hypot(axis, axis[:, None])[changed].max() < 0.6 * 1.15  # the corners of a square
    assert changed.mean() > 0.03


def test_object_behind_is_hidden():
    front, back = one("circle").objects[0], replace(one("square").objects[0], colour="blue", rgb=COLOURS["blue"])
    image = render(Scene(EMPTY, (front, back), "in front of"), 64)
    assert image[0, 32, 32] > image[2, 32, 32]


def test_semantics():
    values = np.stack([semantics(scene) for scene in SCENES])
    assert values.shape == (300, NUM_SEMANTICS)
    assert values.dtype == np.float32
    assert (values.std(0) > 0).all()  # nothing is constant
    # A thing on the left is counted on the left.
    left = replace(one("star").objects[0], place=(-0.5, -0.5))
    right = replace(left, place=(0.5, -0.5))
    star = SHAPES.index("star")
    per_part = len(SHAPES) + len(COLOURS) + len(TEXTURES)
    at_left, at_right = (semantics(Scene(EMPTY, (thing,), "")) for thing in (left, right))
    assert at_left[star] > 5 * at_left[per_part + star]
    assert at_right[star] == pytest.approx(at_left[per_part + star], rel=1e-5)


def test_scene_follows_from_the_generator():
    assert draw_scene(np.random.default_rng(7)) == SCENES[7]


def test_rendering_is_fast():
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        for scene in SCENES[:50]:
            render(scene, 64)
        best = min(best, (time.perf_counter() - start) / 50)
    assert best < 5e-3  # 0.3 ms on an idle core
