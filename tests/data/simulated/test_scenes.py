from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mindeye_pl.data.simulated.objects import CATEGORIES, GROUPS
from mindeye_pl.data.simulated.rendering import render
from mindeye_pl.data.simulated.scenes import (
    BACKGROUNDS,
    COLOURS,
    TEXTURES,
    TWO_TONES,
    Background,
    Scene,
    SceneObject,
    captions,
    draw_scene,
)

SCENES = [draw_scene(np.random.default_rng(seed)) for seed in range(300)]
GREY = ((0.5, 0.5, 0.5),) * 2
EMPTY = Background("gradient", ("white", "white"), GREY, 0.0, 2.0, (0.0,) * 8)


def single_object(category: str, texture: str = "plain", radius: float = 0.6) -> Scene:
    """Return a scene with a red object in the middle of a grey image."""
    return Scene(EMPTY, (SceneObject(category, "red", COLOURS["red"], texture, radius, (0.0, 0.0), 0.0),), "")


def test_all_categories_textures_colours_and_backgrounds_occur():
    assert {scene.background.kind for scene in SCENES} == set(BACKGROUNDS)
    scene_objects = [scene_object for scene in SCENES for scene_object in scene.objects]
    assert {scene_object.category for scene_object in scene_objects} == set(CATEGORIES)
    assert {scene_object.texture for scene_object in scene_objects} == set(TEXTURES)
    assert {scene_object.colour for scene_object in scene_objects} == set(COLOURS)
    assert set(Counter(len(scene.objects) for scene in SCENES)) == {1, 2}


def test_objects_are_visible_and_differ_in_colour():
    for scene in SCENES:
        colours = [scene_object.colour for scene_object in scene.objects]
        assert len(set(colours)) == len(colours)
        assert not set(colours) & set(scene.background.colours)
        for scene_object in scene.objects:
            assert max(map(abs, scene_object.centre)) <= 1 - scene_object.radius + 1e-6  # inside the image


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
        }[scene.relation]


def test_captions_name_objects_and_background():
    for scene in SCENES:
        full, named = captions(scene)
        for scene_object in scene.objects:
            assert f"{scene_object.colour} {scene_object.category}" in full
            assert scene_object.category in named
        assert scene.relation in full
        assert all(colour in full for colour in scene.background.colours)
        assert not set(named.split()) & {*COLOURS, *TEXTURES, "left", "above"}  # identity alone
        for text in (full, named):
            assert text[0].isupper()
            assert text.endswith(".")
            assert "a orange" not in text.lower()


def test_category_says_nothing_of_colour_place_and_size():
    """The main object's category and the other draws are independent."""
    mains = [draw_scene(np.random.default_rng((3, seed))).objects[0] for seed in range(3000)]
    ids = np.array([CATEGORIES.index(main.category) for main in mains])
    values = np.array([[main.radius, *main.centre, *main.rgb, main.angle] for main in mains])
    between = np.stack([values[ids == i].mean(0) for i in range(len(CATEGORIES))])
    counts = np.bincount(ids, minlength=len(CATEGORIES))[:, None]
    ratio = (counts * (between - values.mean(0)) ** 2).sum(0) / (len(CATEGORIES) - 1) / values.var(0)  # F statistic
    assert ratio.max() < 1.6


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


@pytest.mark.parametrize("category", CATEGORIES[::8])
def test_edges_are_antialiased(category):
    """The area of an object changes smoothly with its size, and some pixels on its edge are mixed."""
    radii = np.linspace(0.5, 0.53, 7)
    cover = [(0.5 - render(single_object(category, radius=radius), 64)[2]).sum() for radius in radii]
    steps = np.diff(cover)
    assert steps.min() > 0
    assert steps.max() < 4 * steps.min()
    red = render(single_object(category), 64)[0]
    assert ((red > 0.52) & (red < 0.6)).any()


def test_drawings_differ_and_are_inside_their_reach():
    axis = (np.arange(96) + 0.5) / 48 - 1
    covers = []
    for category in CATEGORIES:
        covers.append(np.abs(render(single_object(category), 96) - 0.5).max(0) > 1e-6)
        assert np.hypot(axis, axis[:, None])[covers[-1]].max() < 0.6 * 1.46
        assert 0.03 < covers[-1].mean() < 0.5
    flat = np.stack(covers).reshape(len(CATEGORIES), -1)
    overlap = (flat[:, None] & flat).sum(-1) / (flat[:, None] | flat).sum(-1)
    assert overlap[~np.eye(len(CATEGORIES), dtype=bool)].max() < 0.9
    assert set(Counter(GROUPS.values()).values()) == {10}


def test_front_object_hides_the_one_behind():
    front, back = (
        single_object("apple").objects[0],
        replace(single_object("clock").objects[0], colour="blue", rgb=COLOURS["blue"]),
    )
    image = render(Scene(EMPTY, (front, back), "above"), 64)
    assert image[0, 36, 32] > image[2, 36, 32]


def test_scene_is_determined_by_the_generator():
    assert draw_scene(np.random.default_rng(7)) == SCENES[7]
