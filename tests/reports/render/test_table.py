import io

import pytest
from rich.console import Console

from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.reports.render.table import (
    Results,
    Row,
    explain_retrieval,
    format_chance,
    format_interval,
    format_percent,
    terminal_table,
)

IMAGE = Score("image_retrieval", 0.634, 1 / 300, 300, 1000, (0.584, 0.684))
BRAIN = Score("brain_retrieval", 0.589, 1 / 300, 300, 1000, (0.539, 0.639))
LONG = "python -m mindeye_pl +experiment=finetune_subj01_all scale=paper data=nsd trainer=gpu paths.nsd=/data seed=7"


def printed(rows: list[Row], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, soft_wrap=True)
    console.print(terminal_table(Results("Subject 1", rows)))
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.634, "63.4"),
        (1.0, "100.0"),
        (1 / 300, "0.33"),
        (0.0, "0.0"),
        (0.00999, "1.0"),
        (0.01, "1.0"),
        (1 / 982, "0.10"),
    ],
)
def test_format_percent(value: float, expected: str) -> None:
    assert format_percent(value) == f"{expected}\u202f%"


def test_terminal_table_shows_scores_intervals_and_chance() -> None:
    text = printed([Row("Fine-tuned, 1 hour", (IMAGE, BRAIN), note="from pretraining")])
    for part in ("Fine-tuned, 1 hour", "63.4\u202f%  58.4–68.4", "58.9\u202f%  53.9–63.9", "0.33\u202f% (1 of 300)"):
        assert part in text
    assert "from pretraining" in text
    assert "Subject 1, chance 0.33\u202f% (1 of 300)" in text
    assert "simulated" not in text


def test_long_names_are_wrapped() -> None:
    names = [f"some.deep.group.of.options.a_parameter={value}" for value in ("this", "that")]
    text = printed([Row(name, (IMAGE, BRAIN)) for name in names], width=60)
    assert "_parameter=this" in text
    assert "_parameter=that" in text


def test_empty_row_shows_its_command() -> None:
    text = printed([Row("Fine-tuned, 40 hours", command=LONG)], width=60)
    assert LONG in text.splitlines()
    assert "not run yet" in text
    assert "failed" in printed([Row("Fine-tuned, 40 hours", command=LONG, status="failed")])


def test_simulated_is_marked_in_title_or_rows() -> None:
    simulated = Row("Fine-tuned", (IMAGE, BRAIN), simulated=True)
    assert "Subject 1 (simulated)" in printed([simulated])
    mixed = printed([simulated, Row("MindEye2, as published", (IMAGE, BRAIN))], width=120)
    assert "Fine-tuned (simulated)" in mixed
    assert "as published (simulated)" not in mixed


def test_common_chance_is_shown_once() -> None:
    assert format_chance(Row("a", (IMAGE, BRAIN))) == "0.33\u202f% (1 of 300)"
    other = Score("brain_retrieval", 0.5, 1 / 50, 50, 50)
    assert format_chance(Row("a", (IMAGE, other))) == "0.33\u202f% (1 of 300), 2.0\u202f% (1 of 50)"
    assert format_interval(other) == ""
    different = printed([Row("a", (IMAGE, BRAIN)), Row("b", (other,))], width=120).splitlines()
    assert different[0].strip() == "Subject 1"
    assert different[1].split()[-1] == "Chance"
    assert different[3].rstrip().endswith("2.0\u202f% (1 of 50)")
    assert format_chance(Row("empty")) == ""


def test_explain_retrieval_names_pool_and_chance() -> None:
    words = explain_retrieval(IMAGE)
    assert words.startswith("From brain activity alone, the image")
    assert "300 candidates 63.4\u202f%" in words
    assert words.endswith("0.33\u202f% of the time.")
    assert "Given an image" in explain_retrieval(BRAIN)
