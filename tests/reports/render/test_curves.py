import re
from xml.etree import ElementTree

import pytest

from mindeye_pl.reports.render.curves import Panel, Series, training_panels
from mindeye_pl.reports.render.figures import CSS_COLOURS, as_svg

SVG = "{http://www.w3.org/2000/svg}"


def history(epochs: int = 6) -> list[dict[str, float]]:
    return [
        {
            "epoch": epoch,
            "train/loss": 5.0 - epoch / 2,
            "train/prior": 4.0 - epoch / 2,
            "train/clip": 1.0,
            "validation/loss": 6.0 - epoch / 2,
            "validation/image_retrieval": epoch / 10,
            "validation/brain_retrieval": epoch / 20,
            "validation/pool_size": 95.0,
            "learning_rate": 3e-4,
            "seconds": 2.0,
        }
        for epoch in range(epochs)
    ]


def test_training_panels_of_a_history() -> None:
    loss, held_out, retrieval, rate = training_panels(history())
    assert [series.name for series in loss.series] == ["loss", "prior", "clip"]
    assert [series.name for series in held_out.series] == ["loss"]
    assert retrieval.title == "Retrieval among 95 held-out images"
    assert [series.name for series in retrieval.series] == ["image retrieval", "brain retrieval"]
    assert retrieval.references == {"chance": 1 / 95}
    assert retrieval.is_percent
    assert rate.series[0].y == [3e-4] * 6
    assert loss.series[0].x == [1, 2, 3, 4, 5, 6]


def test_missing_values_are_not_drawn() -> None:
    records = [
        {"epoch": 0, "train/loss": 2.0},
        {"epoch": 1, "train/loss": float("nan")},
        {"epoch": 2, "train/loss": 1.0},
    ]
    (panel,) = training_panels(records)
    assert panel.series[0].x == [1, 3]
    assert training_panels([]) == []


def test_chart_is_valid_svg_with_css_colours() -> None:
    for panel in training_panels(history()):
        svg = as_svg(panel)
        root = ElementTree.fromstring(svg)
        assert root.tag == f"{SVG}svg"
        assert "viewBox" in root.attrib
        assert "width" not in root.attrib
        texts = {"".join(text.itertext()) for text in root.iter(f"{SVG}text")}
        if len(panel.series) > 1:
            assert {series.name for series in panel.series} <= texts
        assert "var(--series-1)" in svg
        assert not [colour for colour in CSS_COLOURS if colour in svg]
        assert not re.search(r"#[0-9a-f]{6}\b(?<!#ffffff)", re.sub(r"url\(#\w+\)|href=\"#\w+\"", "", svg))


def test_charts_have_unique_ids_and_are_deterministic() -> None:
    panels = training_panels(history()) + training_panels(history(4))
    ids = [found for panel in panels for found in re.findall(r'\bid="([^"]+)"', as_svg(panel))]
    assert len(ids) == len(set(ids))
    assert as_svg(panels[0]) == as_svg(panels[0])


def test_series_names_are_escaped() -> None:
    svg = as_svg(Panel("t", (Series("<b>&", [1, 2], [1, 2]), Series("$x^2$", [1, 2], [1, 3]))))
    texts = {"".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(f"{SVG}text")}
    assert {"<b>&", "$x^2$"} <= texts


def test_more_lines_than_colours_use_dashes() -> None:
    lines = tuple(Series(f"part {i}", [1, 2], [i, i + 1]) for i in range(8))
    svg = as_svg(Panel("loss", lines))
    assert svg.count("var(--series-1)") > svg.count("var(--series-3)")
    assert "stroke-dasharray" in svg


@pytest.mark.parametrize("epochs", [1, 2, 300])
def test_epoch_ticks_are_integers(epochs: int) -> None:
    for panel in training_panels(history(epochs)):
        ticks = [
            float("".join(text.itertext()))
            for text in ElementTree.fromstring(as_svg(panel)).iter(f"{SVG}text")
            if re.fullmatch(r"\d+", "".join(text.itertext()))
        ]
        assert all(tick == int(tick) for tick in ticks)


def test_terms_of_different_size_use_a_log_axis() -> None:
    def ticks(small: float) -> set[str]:
        panel = Panel("loss", (Series("big", [1, 2], [300.0, 200.0]), Series("small", [1, 2], [0.2, small])))
        return {"".join(text.itertext()) for text in ElementTree.fromstring(as_svg(panel)).iter(f"{SVG}text")}

    assert {"0.1", "1", "10", "100"} <= ticks(0.1)
    assert {"0", "100", "200"} <= ticks(0.0)


def test_a_horizontal_axis_of_names_has_each_of_them() -> None:
    names, line = ("0", "4", "all"), Series("model", [0, 1, 2], [1, 2, 3])
    panel = Panel("score", (line,), references={"a": 1, "b": 2}, x_names=names)
    svg = as_svg(panel)
    texts = ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert [text for text in texts if text in names][:3] == ["0", "4", "all"]
    assert len(set(re.findall(r'stroke-dasharray[=:] ?"?([\d., ]+)', svg))) >= 2, "reference lines differ"
    assert "to epoch all" in panel.describe()


def test_panel_description() -> None:
    retrieval = training_panels(history())[2]
    assert retrieval.describe() == (
        "Retrieval among 95 held-out images, to epoch 6: image retrieval from 0.0% to 50.0%; "
        "brain retrieval from 0.0% to 25.0%; chance at 1.1%."
    )
