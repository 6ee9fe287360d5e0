import csv
import io
import re
from pathlib import Path

import pytest
from PIL import Image

from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.reports.render.bars import Bars
from mindeye_pl.reports.render.exports import as_csv, as_latex, as_markdown, export_figures, export_tables, latex
from mindeye_pl.reports.render.grid import grid_section
from mindeye_pl.reports.render.image_table import SEEN, Cell, ImageRow
from mindeye_pl.reports.render.page import ReportData, write_report
from mindeye_pl.reports.render.section import charts_section
from mindeye_pl.reports.render.table import Column, Results, Row

COLUMNS = [
    Column("Image & more", "image_retrieval", group="Retrieval_1"),
    Column("SwAV", "swav_distance", form="number", higher_is_better=False, group="High level"),
]
NASTY = r"50 % of {A}_b & c #1 $x$ ~^\ |*<"
TABLE = Results(
    "All scores",
    [
        Row(NASTY, (Score("image_retrieval", 0.634, 1 / 300, 300, 982, (0.584, 0.684)),), this_run=True),
        Row("null, \"quoted\"\n", (Score("swav_distance", 0.9, None, None, 982),), kind="null",
            differs={"swav_distance": "worse"}, source="Table_1"),
    ],
    COLUMNS,
    needs=["AlexNet(2) needs FILE: COMMAND"],
)  # fmt: skip
BARS = Bars("Correlation", ["V1", "V2"], [0.3, 0.2])


def test_csv_contains_every_score_exactly() -> None:
    null, model = csv.DictReader(io.StringIO(as_csv(TABLE)))
    assert model["row"] == NASTY
    assert (float(model["value"]), float(model["low"]), float(model["high"])) == (0.634, 0.584, 0.684)
    assert float(model["chance"]) == 1 / 300
    assert (model["pool_size"], model["num_images"], model["this_run"]) == ("300", "982", "True")
    assert (null["row"], null["kind"], null["low"], null["against_this_run"]) == (
        "null, \"quoted\"\n", "null", "", "worse",
    )  # fmt: skip


@pytest.mark.parametrize("text", ["=1+1", "=HYPERLINK(A1)", "+1", "-1", "@SUM(A1)", "model", "", " =1", "a=b"])
def test_no_cell_of_the_csv_is_a_formula(text: str) -> None:
    row = Row(text, (Score("image_retrieval", -0.5, None, None, 982),), source=text)
    (found,) = csv.DictReader(io.StringIO(as_csv(Results("x", [row], COLUMNS))))
    kept = f"'{text}" if text[:1] in {"=", "+", "-", "@"} else text
    assert (found["row"], found["source"]) == (kept, kept)
    assert found["value"] == "-0.5", "numbers stay numbers"


def test_markdown_has_a_cell_for_every_column() -> None:
    lines = [line for line in as_markdown(TABLE).splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 4 for line in lines)
    assert "63.4\u202f% (58.4–68.4)" in as_markdown(TABLE)
    assert "AlexNet(2) needs FILE: COMMAND" in as_markdown(TABLE)


def test_latex_is_valid() -> None:
    text = as_latex(TABLE)
    code = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    bare = re.sub(r"\\[\\{}$&%#_]", "", code)  # without what is escaped, row ends among it
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not re.search(r"[%#_~^]", bare)
    assert code.count(r"\begin{") == code.count(r"\end{") == 1
    rows = [line for line in code.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert len(rows) == 3
    assert all(len(re.findall(r"(?<!\\)&", line)) == 2 for line in rows)
    assert r"\cmidrule(lr){2-2} \cmidrule(lr){3-3}" in code
    assert r"63.4\,\% (58.4--68.4)" in code
    assert code.isascii()
    depth = 0
    for sign in re.findall(r"(?<!\\)[{}]", re.sub(r"\\\\", "", code)):
        depth += 1 if sign == "{" else -1
        assert depth >= 0
    assert depth == 0


@pytest.mark.parametrize("letter", list("\\{}$&%#_~^"))
def test_latex_special_characters_are_escaped(letter: str) -> None:
    assert latex(letter) != letter
    assert latex(f"a{letter}b").startswith("a\\")


def test_exported_figures_are_deterministic_png_and_pdf(tmp_path: Path) -> None:
    paths = export_figures(tmp_path / "figures", {"bars": BARS})
    assert [path.name for path in paths] == ["bars.png", "bars.pdf"]
    with Image.open(paths[0]) as image:
        assert image.size == (1380, 810)
    before = [path.read_bytes() for path in paths]
    assert before[1].startswith(b"%PDF-")
    assert before[1].rstrip().endswith(b"%%EOF")
    export_figures(tmp_path / "figures", {"bars": BARS})
    assert [path.read_bytes() for path in paths] == before
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["bars.pdf", "bars.png"]
    assert export_figures(tmp_path / "none", {}) == export_tables(tmp_path / "none", []) == []
    assert not (tmp_path / "none").exists()


def test_page_links_to_exported_files(tmp_path: Path) -> None:
    from tests.reports.test_images import image

    charts = charts_section("Brain", [BARS])
    grid = grid_section("Reconstructions", [SEEN], [ImageRow(f"s {i}", {"Seen": Cell(image(i))}) for i in range(20)])
    assert charts is not None
    assert grid is not None
    page = tmp_path / "index.html"
    write_report(page, ReportData("t", "s", False, results=[TABLE], images=[grid], more=[charts]), export=True)
    links = [link for link in re.findall(r'href="([^"]+)"', page.read_text()) if not link.startswith("#")]
    assert sorted(links) == [
        "figures/brain-correlation.pdf", "figures/brain-correlation.png", "figures/reconstructions.pdf",
        "figures/reconstructions.png", "tables/all-scores.csv", "tables/all-scores.md", "tables/all-scores.tex",
    ]  # fmt: skip
    assert all((tmp_path / link).is_file() for link in links)
