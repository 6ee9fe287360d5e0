"""Histograms and slices of one value per voxel."""

import re

import numpy as np
from matplotlib.figure import Figure

from mindeye_pl.reports.render.figures import as_svg
from mindeye_pl.reports.render.histogram import Histogram
from mindeye_pl.reports.render.mosaic import Mosaic


def volume(num_slices: int) -> np.ndarray:
    """A volume `(6, 5, Z)` whose outermost slices are empty; a voxel's value is the index of its slice."""
    values = np.full((6, 5, num_slices + 2), np.nan)
    values[1:4, 2:4, 1:-1] = np.arange(1, num_slices + 1)
    return values


def test_slices_with_values_are_drawn_from_bottom_to_top() -> None:
    mosaic, figure = Mosaic("Map", volume(3), "reliability", (0, 3)), Figure()
    mosaic.draw_on(figure)
    drawn = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in drawn] == ["z 1", "z 2", "z 3"]
    assert [axes.images[0].get_array().shape for axes in drawn] == [(2, 3)] * 3, "the filled part, (Y, X)"
    assert [np.unique(axes.images[0].get_array()).tolist() for axes in drawn] == [[1], [2], [3]]
    assert mosaic.describe() == "Map: reliability of 18 voxels in 3 slices."


def test_many_slices_are_thinned_out() -> None:
    assert Mosaic("Map", volume(60), "reliability", (0, 1)).slices == list(range(1, 61, 3))


def test_both_figures_suit_the_pages_security_policy() -> None:
    for figure in (
        Mosaic("Map", volume(2), "reliability", (0, 2)),
        Histogram("Voxels", np.linspace(0, 1, 50), "reliability", (0.0, 1.0)),
    ):
        svg = as_svg(figure)
        assert svg.startswith("<svg")
        assert "style=" not in svg
        assert not re.search(r'href="(?!data:|#)', svg)


def test_a_histogram_tells_its_median() -> None:
    assert "median 0.5" in Histogram("Voxels", np.linspace(0, 1, 51), "reliability", (0.0, 1.0)).describe()
