"""Tables and figures of the pages: the committed ones, and the command on a small checkout of its own."""

import json
from pathlib import Path

import pytest

from mindeye_pl.commands.results_tables import RESULTS, main, pages, problems, read_summaries
from tests.reports.results.written import summary

ROOT = Path(__file__).parents[2]
PAGE = """# Results

Pretraining retrieves 76 %<!-- of: hours/0.25 h, pretrained/image_retrieval -->.

<!-- table: {from: hours, columns: [image_retrieval]} -->
<!-- /table -->
"""


@pytest.mark.parametrize("page", pages(ROOT), ids=lambda page: page.name)
def test_every_table_and_figure_is_that_of_its_summary(page: Path) -> None:
    assert problems(page.read_text(), read_summaries(ROOT)) == [], "python -m mindeye_pl.commands.results_tables write"


def test_summaries_are_small() -> None:
    assert all(path.stat().st_size < 500_000 for path in (ROOT / RESULTS).glob("*.json"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / RESULTS).mkdir(parents=True)
    (tmp_path / RESULTS / "hours.json").write_text(json.dumps(summary()))
    (tmp_path / "README.md").write_text("# None\n")
    (tmp_path / "docs" / "results.md").write_text(PAGE)
    return tmp_path


def test_write_and_check(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, root = checkout / "docs" / "results.md", ["--root", str(checkout)]
    assert main([*root, "check"]) == 1
    assert "a table differs from its summary" in capsys.readouterr().out
    assert main([*root, "write"]) == 0
    assert main([*root, "check"]) == 0
    assert "| 0.25 h, pretrained | 75.5 % (69.0-82.0) |" in page.read_text()
    page.write_text(page.read_text().replace("retrieves 76 %", "retrieves 86 %"))
    capsys.readouterr()
    assert main([*root, "check"]) == 1
    assert "86 %<!-- of: hours/0.25 h, pretrained/image_retrieval -->: value is 75.55" in capsys.readouterr().out


def test_a_mistake_is_one_line(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "docs" / "results.md").write_text("<!-- table: {from: days, columns: []} -->\n<!-- /table -->\n")
    assert main(["--root", str(checkout), "write"]) == 2
    assert capsys.readouterr().err.startswith("results_tables: there is no such summary (got: days")
    assert main(["--root", str(checkout), "collect", "x", str(checkout)]) == 2
