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


def single_object(shape: str, texture: str = "plain", radius: float = 0.6) -> Scene:
    """Return a scene with a red object in the middle of a grey image."""
    return Scene(EMPTY, (SceneObject(shape, "red", COLOURS["red"], texture, radius, (0.0, 0.0), 0.0),), "")


def test_all_shapes_textures_colours_and_backgrounds_occur():
    assert {scene.background.kind for scene in SCENES} == set(BACKGROUNDS)
    scene_objects = [scene_object for scene in SCENES for scene_object in scene.objects]
    assert {scene_object.shape for scene_object in scene_objects} == set(SHAPES)
    assert {scene_object.texture for scene_object in scene_objects} == set(TEXTURES)
    assert {scene_object.colour for scene_object in scene_objects} == set(COLOURS)
    assert set(Counter(len(scene.objects) for scene in SCENES)) == {1, 2, 3, 4}


def test_objects_are_visible_and_differ_in_colour():
    for scene in SCENES:
        colours = [scene_object.colour for scene_object in scene.objects]
        assert len(set(colours)) == len(colours)
        assert not set(colours) & set(scene.background.colours)
        for scene_object in scene.objects:
            assert max(map(abs, scene_object.centre)) <= 0.8


def test_two_tone_backgrounds_have_one_colour():
    for scene in SCENES:
        first, second = scene.background.colours
        assert (first == second) == (scene.background.kind in TWO_TONES)


def test_relation_holds_for_the_first_two_objects():
    for scene in SCENES:
        if len(scene.objects) == 1:
            assert scene.relation == ""
            continue
        (x, y), (other_x, other_y) = scene.objects[0].centre, scene.objects[1].centre
        assert {
            "to the left of": x < other_x,
            "to the right of": x > other_x,
            "above": y < other_y,
            "below": y > other_y,
            "in front of": np.hypot(x - other_x, y - other_y) < scene.objects[1].radius,
        }[scene.relation]


def test_captions_name_objects_and_background():
    for scene in SCENES:
        full, short = captions(scene)
        for scene_object in scene.objects:
            assert f"{scene_object.colour} {scene_object.shape}" in full
        assert scene.relation in full
        assert scene.relation in short
        assert all(colour in full for colour in scene.background.colours)
        assert f"{scene.objects[0].colour} {scene.objects[0].shape}" in short
        for text in (full, short):
            assert text[0].isupper()
            assert text.endswith(".")
            assert "a orange" not in text.lower()


def test_rendered_images_are_valid_and_differ():
    images = np.stack([render(scene, 64) for scene in SCENES[:50]])
    assert images.shape == (50, 3, 64, 64)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    flat = images.reshape(50, -1)
    apart = np.sqrt(((flat[:, None] - flat) ** 2).mean(-1))
    assert apart[~np.eye(50, dtype=bool)].min() > 0.05


def test_scene_looks_the_same_at_every_size():
    for scene in SCENES[:30]:
        large, small = render(scene, 256), render(scene, 64)
        shrunk = large.reshape(3, 64, 4, 64, 4).mean((2, 4))
        assert np.abs(shrunk - small).mean() < 0.01


@pytest.mark.parametrize("shape", SHAPES)
def test_edges_are_antialiased(shape):
    """The area of a shape changes smoothly with its size, and some pixels on its edge are mixed."""
    cover = [(0.5 - render(single_object(shape, radius=radius), 64)[2]).sum() for radius in np.linspace(0.5, 0.53, 7)]
    steps = np.diff(cover)
    assert steps.min() > 0
    assert steps.max() < 4 * steps.min()
    red = render(single_object(shape), 64)[0]
    assert ((red > 0.52) & (red < 0.6)).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_shape_is_inside_its_radius(shape):
    changed = np.abs(render(single_object(shape), 128) - 0.5).max(0) > 1e-6
    axis = (np.arange(128) + 0.5) / 64 - 1
    assert np.hypot(axis, axis[:, None])[changed].max() < 0.6 * 1.15  # the corners of a square
    assert changed.mean() > 0.03


def test_front_object_hides_the_one_behind():
    front, back = (
        single_object("circle").objects[0],
        replace(single_object("square").objects[0], colour="blue", rgb=COLOURS["blue"]),
    )
    image = render(Scene(EMPTY, (front, back), "in front of"), 64)
    assert image[0, 32, 32] > image[2, 32, 32]


def test_semantics_depend_on_the_quarter():
    values = np.stack([semantics(scene) for scene in SCENES])
    assert values.shape == (300, NUM_SEMANTICS)
    assert values.dtype == np.float32
    assert (values.std(0) > 0).all()  # nothing is constant
    # An object on the left is counted on the left.
    left = replace(single_object("star").objects[0], centre=(-0.5, -0.5))
    right = replace(left, centre=(0.5, -0.5))
    star = SHAPES.index("star")
    per_quarter = len(SHAPES) + len(COLOURS) + len(TEXTURES)
    at_left, at_right = (semantics(Scene(EMPTY, (scene_object,), "")) for scene_object in (left, right))
    assert at_left[star] > 5 * at_left[per_quarter + star]
    assert at_right[star] == pytest.approx(at_left[per_quarter + star], rel=1e-5)


def test_scene_is_determined_by_the_generator():
    assert draw_scene(np.random.default_rng(7)) == SCENES[7]


def test_rendering_is_fast():
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        for scene in SCENES[:50]:
            render(scene, 64)
        best = min(best, (time.perf_counter() - start) / 50)
    assert best < 5e-3  # 0.3 ms on an idle core
