"""The tables of every key in docs/configuration.md."""

from pathlib import Path

import pytest

from mindeye_pl.commands.config_table import BEGIN, END, table_text, write

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


@pytest.fixture(scope="module")
def text() -> str:
    return table_text()


def test_the_committed_tables_are_current(text: str) -> None:
    committed = DOCUMENT.read_text().split(BEGIN)[1].split(END)[0]
    assert committed.strip() == text.strip(), "python -m mindeye_pl.commands.config_table"


def test_every_row_has_a_type_and_a_meaning(text: str) -> None:
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) > 300
    lacking = [row[0] for row in rows if len(row) < 4 and not row[0].startswith(("`trainer", "`optimizer"))]
    assert not lacking, "undocumented: libraries alone may be"
    keys = {row[0].strip("`") for row in rows}
    assert {
        "finetune.epochs",
        "backbone.network.mixer",
        "callbacks.checkpoint.signals",
        "logger.wandb.upload",
        "simulation.voxel_counts",
        "features.NAME.layers",
    } <= keys


def test_only_the_tables_are_written(tmp_path: Path, text: str) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write(path)
    assert path.read_text() == f"before\n{BEGIN}\n\n{text}\n{END}\nafter\n"
