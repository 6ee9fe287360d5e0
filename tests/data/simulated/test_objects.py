"""Signed distances of drawn parts, against a second implementation by dense sampling of the outline."""

from itertools import pairwise

import numpy as np
import pytest

from mindeye_pl.data.simulated.objects import CATEGORIES, Part, distance, drawing

AXIS = np.linspace(-1, 1, 21, dtype=np.float32)


def sampled_distance(part: Part) -> np.ndarray:
    """Return the unsigned distances to many points of the outline, or of a stroke's middle."""
    if part.kind == "O":
        angle = np.linspace(0, 2 * np.pi, 4001)
        points = part.points[0] + part.points[1] * np.stack([np.cos(angle), np.sin(angle)], 1)
    else:
        corners = np.concatenate([part.points, part.points[:1]]) if part.kind == "P" else part.points
        steps = np.linspace(0, 1, 501)[:, None]
        points = np.concatenate([a + steps * (b - a) for a, b in pairwise(corners)])
    u, v = np.meshgrid(AXIS, AXIS)
    return np.hypot(u[..., None] - points[:, 0], v[..., None] - points[:, 1]).min(-1)


@pytest.mark.parametrize("category", ["boat", "anchor", "guitar"])
def test_distance_equals_that_to_the_outline(category):
    for part in drawing(category):
        found, expected = distance(part, AXIS, AXIS[:, None]), sampled_distance(part)
        if part.kind == "L":
            np.testing.assert_allclose(found, expected - part.width / 2, atol=2e-3)
        elif part.kind == "P":
            np.testing.assert_allclose(np.abs(found), expected, atol=2e-3)
        else:  # exact at the edge only
            near = np.abs(found) < 0.05
            np.testing.assert_allclose(np.abs(found)[near], expected[near], atol=0.02)


def test_inside_is_negative():
    square = Part("P", np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)], np.float32), 0.0, False)
    inside = distance(square, AXIS, AXIS[:, None]) < 0
    np.testing.assert_array_equal(inside, (np.abs(AXIS) < 0.499) & (np.abs(AXIS[:, None]) < 0.499))
    ellipse = Part("O", np.array([(0.0, 0.0), (0.8, 0.3)], np.float32), 0.0, False)
    inside = distance(ellipse, AXIS, AXIS[:, None]) < 0
    np.testing.assert_array_equal(inside, (AXIS / 0.8) ** 2 + (AXIS[:, None] / 0.3) ** 2 < 1)


def test_every_category_is_drawn():
    assert len(CATEGORIES) == 80
    for category in CATEGORIES:
        assert drawing(category)
        assert any(not part.is_detail for part in drawing(category))
