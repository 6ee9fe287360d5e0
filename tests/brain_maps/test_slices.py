"""Slices of a volume: values at their coordinates, outlines of regions."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("nilearn", reason="needs pip install -e .[brain]")

from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure

from mindeye_pl.brain_maps.figure import outlined, write_png
from mindeye_pl.brain_maps.slices import draw_slices
from tests.brain_maps.planted import block, halves, map_of


def drawn(values: np.ndarray) -> Figure:
    mask = block()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return draw_slices(mask, map_of(values), halves(mask), note="simulated")


def slices(figure: Figure, direction: str) -> list[tuple[float, Axes]]:
    """Coordinate and axes of the slices in a direction, as written on them."""
    found = []
    for axes in figure.axes:
        texts = [re.fullmatch(rf"{direction}=(-?\d+)", text.get_text()) for text in axes.texts]
        found += [(float(text[1]), axes) for text in texts if text]
    return found


def test_values_are_drawn_at_their_coordinates() -> None:
    mask = block()
    for axis, direction in enumerate("xyz"):
        cuts = slices(drawn(mask.coordinates[:, axis]), direction)
        assert len(cuts) == 6
        for coordinate, axes in cuts:
            (image,) = axes.images
            shown = np.asarray(image.get_array())[np.asarray(image.get_alpha()) > 0]
            assert len(shown) > 0
            np.testing.assert_allclose(shown, shown[0], atol=1e-4)
            assert abs(shown[0] - coordinate) < 1  # written without decimals


def test_regions_are_outlined_and_named() -> None:
    mask = block()
    figure = drawn(mask.coordinates[:, 1])
    colours = outlined(halves(mask))
    assert list(colours) == ["left_half", "right_half"]
    contours = [one for axes in figure.axes for one in axes.collections if isinstance(one, ContourSet)]
    for colour in colours.values():
        of_region = [one for one in contours if to_hex(one.get_edgecolor()[0]) == colour]
        assert sum(len(path.vertices) for one in of_region for path in one.get_paths()) > 50
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["left half", "right half"]


def test_figures_are_labelled_and_files_are_equal(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random(block().num_voxels)
    values[::7] = np.nan
    for name in "ab":
        figure = drawn(values)
        write_png(figure, tmp_path / f"{name}.png")
    assert figure._suptitle.get_text() == "Planted map (simulated)"
    assert any(axes.get_ylabel() == "mm" for axes in figure.axes)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).std() > 10
