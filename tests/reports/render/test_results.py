import io
import re

from rich.console import Console

from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.reports.render.results import results_section
from mindeye_pl.reports.render.table import KINDS, NOT_COMPARABLE, Column, Kind, Results, Row, terminal_table

COLUMNS = (
    Column("PixCorr", "pixcorr", "How similar?", "number", group="Low level"),
    Column("SSIM", "ssim", "How similar?", "number", group="Low level"),
    Column("CLIP", "clip_two_way", "Which of two?", group="High level"),
    Column("SwAV", "swav_distance", "How far?", "number", higher_is_better=False, group="High level"),
    Column("FID", "fid", "How far?", "number", higher_is_better=False, group="High level", limits=None),
    Column("Image", "image_retrieval", "Which image?", group="Retrieval"),
)
NEEDS = ["AlexNet(2) needs alexnet-owt-7be5be79.pth: python -m mindeye_pl pipeline=check_weights"]


def row(name: str, kind: Kind = "model", value: float = 0.5, **changes: object) -> Row:
    scores = (
        Score("pixcorr", value, None, None, 100, (value - 0.1, value + 0.1)),
        Score("clip_two_way", value, 0.5, 2, 100),
        Score("swav_distance", 1 - value, None, None, 100),
        Score("fid", 100 * value, None, None, 100),
        Score("image_retrieval", value, 1 / 300, 300, 100),
    )
    return Row(name, scores, kind=kind, **changes)  # type: ignore[arg-type]


ROWS = [
    row("true tokens", "ceiling", 0.9),
    row("fine-tuned", this_run=True),
    row("shuffled brains", "null", 0.01, differs={"pixcorr": "worse"}),
    row("MindEye2", "published", 0.7, source="arXiv:2403.11207, Table 1"),
    row("ridge", "baseline", 0.3),
]


def html(rows: list[Row] = ROWS, **changes: object) -> str:
    section = results_section(Results("Scores", rows, COLUMNS, **changes))  # type: ignore[arg-type]
    assert section is not None
    return section.html


def printed(rows: list[Row], width: int = 100, **changes: object) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, soft_wrap=True)
    console.print(terminal_table(Results("Scores", rows, COLUMNS, **changes)))  # type: ignore[arg-type]
    return console.file.getvalue()


def test_rows_are_grouped_by_kind() -> None:
    assert [kind for kind, _ in Results("Scores", ROWS).groups] == list(KINDS.values())
    for text in (html(), printed(ROWS)):
        positions = [text.index(KINDS[kind].partition(":")[0]) for kind in KINDS]
        assert positions == sorted(positions)
        names = [text.index(name) for name in ("shuffled brains", "ridge", "fine-tuned", "true tokens")]
        assert names == sorted(names)
    assert KINDS["model"] not in html([row("fine-tuned"), row("from scratch")]), "a single kind needs no title"


def test_published_rows_are_marked_beside_simulated_rows() -> None:
    for text in (html(), printed(ROWS)):
        assert "arXiv:2403.11207, Table 1" in text
        assert NOT_COMPARABLE not in text
    mixed = [*ROWS[:-1], row("ridge", "baseline", simulated=True)]
    assert html(mixed).count(NOT_COMPARABLE) == 1
    assert printed(mixed, 200).count(NOT_COMPARABLE) == 1


def test_lower_is_better_is_marked() -> None:
    page = html()
    assert page.count("↓ lower is better") == 2
    assert 'data-sort="swav_distance" data-lower' in page
    assert 'data-sort="pixcorr" data-lower' not in page
    assert "SwAV ↓" in printed(ROWS)


def test_significant_differences_are_marked() -> None:
    assert html().count('<abbr class="mark" title="significantly worse than this run">') == 1
    assert "95&nbsp;% interval of the difference" in html()
    assert "▼ 0.010" in printed(ROWS)
    assert "▼ significantly worse than this run" in printed(ROWS)
    assert "significantly" not in html([row("fine-tuned")])


def test_missing_weights_are_listed() -> None:
    page = html(needs=NEEDS)
    assert "AlexNet(2) needs alexnet-owt-7be5be79.pth" in page
    assert '<code tabindex="0">python -m mindeye_pl pipeline=check_weights</code>' in page
    assert NEEDS[0] in printed(ROWS, needs=NEEDS).splitlines()
    assert "needs" not in html()


def test_wide_table_has_groups_and_questions() -> None:
    page = html()
    assert re.findall(r'scope="colgroup" colspan="(\d)">([^<]+)', page) == [
        ("2", "Low level"),
        ("3", "High level"),
        ("1", "Retrieval"),
    ]
    assert page.index("Which of two?") > page.index("</table>")
    assert "chance 50.0\u202f% (1 of 2)" in page[: page.index("<tbody>")]
    assert "those of FID show the range of the column" in page
    assert page.count("not computed") == len(ROWS), "no row has an SSIM"


def test_scale_stays_inside_its_cell() -> None:
    page = html([row("far", value=1.7), row("below", value=-0.4)])
    positions = [float(value) for value in re.findall(r'(?:cx|x)="([-\d.]+)%"', page)]
    assert min(positions) >= 0
    assert max(positions) <= 100
