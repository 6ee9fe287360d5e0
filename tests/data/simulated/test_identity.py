"""The identity of objects: invariant to how they look, shared by subjects, of fewer dimensions than categories."""

from dataclasses import replace

import numpy as np

from mindeye_pl.data.simulated.identity import NUM_IDENTITY, Identity
from mindeye_pl.data.simulated.objects import CATEGORIES, GROUPS
from mindeye_pl.data.simulated.scenes import Scene, draw_scene

IDENTITY = Identity.sample(np.random.default_rng(0))
SCENES = [draw_scene(np.random.default_rng(seed)) for seed in range(50)]


def alone(category: str) -> Scene:
    scene = SCENES[0]
    return replace(scene, objects=(replace(scene.objects[0], category=category),), relation="")


def test_identity_does_not_depend_on_the_look():
    changed = [
        replace(
            scene,
            background=SCENES[0].background,
            objects=tuple(replace(each, rgb=(0, 0, 0), centre=(0, 0), radius=0.3) for each in scene.objects),
        )
        for scene in SCENES
    ]
    np.testing.assert_array_equal(IDENTITY(changed), IDENTITY(SCENES))
    assert IDENTITY(SCENES).shape == (50, NUM_IDENTITY)
    assert IDENTITY(SCENES).dtype == np.float32


def test_categories_differ_and_those_of_a_group_are_nearer():
    values = IDENTITY([alone(category) for category in CATEGORIES]).astype(float)
    apart = np.linalg.norm(values[:, None] - values, axis=-1)
    groups = np.array([GROUPS[category] for category in CATEGORIES])
    same = (groups[:, None] == groups) & ~np.eye(len(CATEGORIES), dtype=bool)
    assert apart[same].mean() < 0.9 * apart[groups[:, None] != groups].mean()
    assert apart[~np.eye(len(CATEGORIES), dtype=bool)].min() > 1e-3


def test_a_linear_map_explains_little_of_the_categories():
    values = IDENTITY([alone(category) for category in CATEGORIES]).astype(float)
    with_offset = np.column_stack([values, np.ones(len(values))])
    weights = np.linalg.lstsq(with_offset, np.eye(len(CATEGORIES)), rcond=None)[0]
    left = ((np.eye(len(CATEGORIES)) - with_offset @ weights) ** 2).sum() / (len(CATEGORIES) - 1)
    assert left > 0.85  # although no two categories are alike


def test_worlds_differ():
    assert not np.allclose(Identity.sample(np.random.default_rng(1))(SCENES), IDENTITY(SCENES))
