"""Panels of a dashboard: what each kind takes in `conf/tracking`, and the panel of W&B's that it becomes."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mindeye_pl.errors import UserError
from mindeye_pl.tracking.wandb_run import one_line

_CONFIG = "config."


def build_panel(place: str, panel: Mapping[str, Any], *, x_axis: str) -> Any:
    """A panel of `wandb_workspaces.reports.v2`.

    Args:
        place: of the panel in the configuration, for messages; its id follows from it.
        panel: its `kind` and the keys of that kind.
        x_axis: of a line panel that names none.

    Raises:
        UserError: for an unknown kind, or keys that the kind does not take.
    """
    import wandb_workspaces.reports.v2 as wr

    keys = dict(panel)
    kind = keys.pop("kind", None)
    if kind not in KINDS:
        raise UserError(f"{place} has no kind that is known", got=kind, expected=", ".join(KINDS))
    if kind == "line":
        keys.setdefault("x", x_axis)
    try:
        made = KINDS[kind](wr, **keys)
    except (TypeError, ValueError) as error:  # pydantic's are among them
        words = one_line(error).replace(f"_{kind}() ", "")
        raise UserError(f"{place} is no {kind} panel", got=words, fix="docs/dashboards.md has its keys") from error
    made._id = stable_id(place)  # W&B's own would be another each time
    return made


def config_path(name: str) -> str | None:
    """`data.subject` of `config.data.subject`; None of what is no part of a run's configuration."""
    return name.removeprefix(_CONFIG) if name.startswith(_CONFIG) else None


def stable_id(*words: str) -> str:
    """Twelve digits that are the same for the same words, as long as W&B's own random ids."""
    return hashlib.sha256("/".join(words).encode()).hexdigest()[:12]


def _line(
    wr: Any,
    *,
    x: str,
    y: Sequence[str] = (),
    pattern: str | None = None,
    title: str | None = None,
    smoothing: float = 0.0,
    log_y: bool = False,
) -> Any:
    """Curves over `x`: of the names `y`, or of all names that match the regular expression `pattern`."""
    if bool(y) == bool(pattern):
        raise ValueError("it takes either y or pattern")
    return wr.LinePlot(
        title=title,
        x=x,
        y=list(y),
        metric_regex=pattern,
        log_y=log_y or None,
        smoothing_type="exponentialTimeWeighted" if smoothing else "none",
        smoothing_factor=smoothing or None,
        smoothing_show_original=True if smoothing else None,
    )


def _bar(wr: Any, *, metrics: Sequence[str], title: str | None = None, group_by: str | None = None) -> Any:
    """A bar for each group of runs: the mean, with its standard error."""
    if not metrics:
        raise ValueError("metrics is empty")
    key = None if group_by is None else wr.Config(config_path(group_by) or group_by)
    return wr.BarPlot(
        title=title, metrics=list(metrics), groupby=key, groupby_aggfunc="mean", groupby_rangefunc="stderr"
    )


def _scatter(wr: Any, *, x: str, y: str, z: str | None = None, title: str | None = None) -> Any:
    """A point for each run, by what is known at its end and by its configuration."""
    return wr.ScatterPlot(title=title, x=_column(wr, x), y=_column(wr, y), z=None if z is None else _column(wr, z))


def _parallel(wr: Any, *, columns: Sequence[str], title: str | None = None) -> Any:
    """A line for each run, through one axis for each column."""
    named = [wr.ParallelCoordinatesPlotColumn(metric=_column(wr, name), display_name=name) for name in columns]
    return wr.ParallelCoordinatesPlot(title=title, columns=named)


def _media(wr: Any, *, keys: Sequence[str], title: str | None = None, columns: int | None = None) -> Any:
    """Logged images."""
    return wr.MediaBrowser(title=title, media_keys=list(keys), num_columns=columns)


def _table(wr: Any, *, name: str) -> Any:
    """A logged table, the rows of all runs together."""
    return wr.WeavePanelSummaryTable(table_name=name)


def _artifact(wr: Any, *, name: str, tab: str = "lineage") -> Any:
    """One artifact: overview, metadata, usage, files, or lineage."""
    return wr.WeavePanelArtifact(artifact=name, tab=tab)


def _run_comparer(wr: Any, *, only_differences: bool = True) -> Any:
    """Configurations and results of the runs beside each other."""
    return wr.RunComparer(diff_only=True if only_differences else None)


def _text(wr: Any, *, text: str) -> Any:
    """Words in Markdown."""
    return wr.MarkdownPanel(markdown=text)


def _column(wr: Any, name: str) -> Any:
    path = config_path(name)
    return wr.SummaryMetric(name) if path is None else wr.Config(path)


#: What makes a panel of a kind.
KINDS: dict[str, Callable[..., Any]] = {
    "line": _line,
    "bar": _bar,
    "scatter": _scatter,
    "parallel": _parallel,
    "media": _media,
    "table": _table,
    "artifact": _artifact,
    "run_comparer": _run_comparer,
    "text": _text,
}
