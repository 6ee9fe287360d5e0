"""Bar charts, interval bands and token maps."""

from xml.etree import ElementTree

import numpy as np
import pytest

from mindeye_pl.reports.render.bars import Bars
from mindeye_pl.reports.render.curves import Panel, Series
from mindeye_pl.reports.render.figures import CSS_COLOURS, Drawable, as_svg
from mindeye_pl.reports.render.section import charts_section
from mindeye_pl.reports.render.tokens import token_map, token_map_section

SVG = "{http://www.w3.org/2000/svg}"
RNG = np.random.default_rng(0)
BARS = Bars("Correlation", ["V1", "V2"], [0.3, 0.2], [(0.25, 0.35), None], [0.5, None])
HOURS = Panel(
    "Retrieval",
    (Series("model", [0.5, 1, 40], [0.3, 0.5, 0.9], [0.2, 0.4, 0.8], [0.4, 0.6, 1.0]),),
    x_label="hours",
    log_x=True,
    is_percent=True,
)
MAP = token_map("Tokens", RNG.normal(size=(6, 5)), RNG.normal(size=(6, 5)), [f"<{i}>" for i in range(6)])


def texts(svg: str) -> set[str]:
    return {"".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(f"{SVG}text")}


@pytest.mark.parametrize("drawable", [BARS, HOURS, MAP], ids=lambda drawable: type(drawable).__name__)
def test_figures_are_valid_svg_without_styles(drawable: Drawable) -> None:
    svg = as_svg(drawable)
    root = ElementTree.fromstring(svg)
    assert "style" not in svg.replace("font-style", "")
    assert "var(--series-1)" in svg
    assert not [colour for colour in CSS_COLOURS if colour in svg]
    assert all("style" not in element.attrib for element in root.iter())
    assert svg == as_svg(drawable)
    section = charts_section("Figures", [drawable])
    assert section is not None
    assert list(section.figures.values()) == [drawable]


def test_bars_description_has_value_interval_and_ceiling() -> None:
    assert BARS.describe() == "Correlation: V1 0.3 (0.25 to 0.35), ceiling 0.5; V2 0.2."
    assert {"V1", "V2", "ceiling", "score"} <= texts(as_svg(BARS))
    with pytest.raises(AssertionError, match="2 labels"):
        Bars("b", ["V1", "V2"], [0.3])


def test_log_axis_has_a_tick_at_each_point() -> None:
    assert {"0.5", "1", "40"} <= texts(as_svg(HOURS))
    assert "model from 30.0% (20.0% to 40.0%) to 90.0% (80.0% to 100.0%)" in HOURS.describe()


def test_few_points_have_interval_bars_and_many_a_band() -> None:
    from matplotlib.figure import Figure

    def collections(count: int) -> list[str]:
        figure = Figure()
        x = list(range(count))
        Panel("p", (Series("s", x, x, x, [value + 1 for value in x]),)).draw_on(figure)
        return [type(part).__name__ for part in figure.axes[0].collections]

    assert collections(3) == ["LineCollection"]
    assert collections(30) == ["FillBetweenPolyCollection"]
    with pytest.raises(AssertionError, match="low and high"):
        Series("s", [1], [1], low=[0])


def test_token_map_is_the_plane_of_the_true_tokens() -> None:
    true = RNG.normal(size=(40, 12)) * np.linspace(3, 0.1, 12)
    map_ = token_map("Tokens", np.zeros_like(true) + true.mean(0), true, [str(i) for i in range(40)])
    assert np.allclose(map_.predicted, 0, atol=1e-9), "predictions of the mean must collapse to one point"
    centred = true - true.mean(0)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    assert np.allclose(abs(map_.true), abs(centred @ directions[:2].T))
    assert map_.explained[0] == pytest.approx(values[0] ** 2 / (values**2).sum())


def test_token_map_section_has_names_and_effective_rank() -> None:
    names = ["stimulus <1>", "stimulus 2", "stimulus 3"]
    ranks = {"predicted": 1.5, "true": 2.25}
    section = token_map_section(RNG.normal(size=(3, 4)), RNG.normal(size=(3, 4)), names, effective_rank=ranks)
    assert section is not None
    assert "<title>stimulus &lt;1&gt;</title>" in section.html
    assert "Effective rank: predicted 1.5, true 2.2." in section.html
    assert token_map_section(np.zeros((1, 4)), np.zeros((1, 4)), ["a"]) is None
