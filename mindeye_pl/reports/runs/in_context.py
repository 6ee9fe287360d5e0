"""The table of decoding from a support set."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.reports.render.table import BY_DIRECTION, COLUMNS, Column, Kind, Results
from mindeye_pl.reports.runs.rows import About, retrieval_columns
from mindeye_pl.steps.brain.in_context.decode import BAYESIAN, TRANSFORMER
from mindeye_pl.steps.evaluation.in_context import RIDGE, SHUFFLED, scores_at

IN_CONTEXT = "Decoding from a support set"
#: Columns of the terminal.
ON_TERMINAL = tuple(column.score for column in COLUMNS)

_LINES: dict[str, tuple[str, Kind, str]] = {
    RIDGE: ("ridge", "baseline", "from the same images"),
    BAYESIAN: ("Bayesian", "model", "closed form"),
    TRANSFORMER: ("transformer", "model", "corrects the closed form"),
}


def in_context_results(content: Mapping[str, Any], about: About) -> Results:
    """Return retrieval at each size of the support set."""
    rows, columns = [], list[Column]()
    for line, (title, kind, note) in _LINES.items():
        for size in content["context"]:
            if scores := scores_at(content, line, size):
                columns = columns or retrieval_columns(scores, about)
                is_last = line == content["decoder"] and size == max(content["context"])
                rows.append(about.row(f"{title}, {_images(size)}", scores, kind, note, this_run=is_last))
    null: Kind = "null"
    chance = [replace(score, value=score.chance or 0.0, interval=None) for score in rows[0].scores]
    shuffled = [Score.from_dict(plain) for plain in content["rows"][SHUFFLED]]
    rows = [about.row("chance", chance, null), about.row("shuffled brains", shuffled, null), *rows]
    note = (
        f"Subject {about.subject} is in no training. Support sets are drawn from {content['available']:,} of its "
        f"training images; scores are means over {content['draws']} draws, intervals over the test images. "
        f"{BY_DIRECTION}"
    )
    return Results(IN_CONTEXT, rows, columns, note)


def _images(size: int) -> str:
    return "no image" if size == 0 else f"{size} images"
