"""Panels of a dashboard: the keys of each kind in `conf/tracking`, and their W&B panels."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mindeye_pl.errors import UserError
from mindeye_pl.tracking.wandb_run import one_line

_CONFIG = "config."


def build_panel(path: str, panel: Mapping[str, Any], *, x_axis: str) -> Any:
    """Build a panel of `wandb_workspaces.reports.v2` from its `kind` and the keys of that kind.

    The config path of the panel is for error messages and its id; `x_axis` is the default of a line panel.

    Raises:
        UserError: for an unknown kind, or invalid keys.
    """
    import wandb_workspaces.reports.v2 as wr

    keys = dict(panel)
    if (kind := keys.pop("kind", None)) not in KINDS:
        raise UserError(f"unknown kind of {path}", got=kind, expected=", ".join(KINDS))
    if kind == "line":
        keys.setdefault("x", x_axis)
    try:
        built = KINDS[kind](wr, **keys)
    except (TypeError, ValueError) as error:  # includes pydantic's errors
        message = one_line(error).replace(f"_{kind}() ", "")
        fix = "see its keys in docs/dashboards.md"
        raise UserError(f"{path} is not a valid {kind} panel", got=message, fix=fix) from error
    built._id = stable_id(path)  # W&B's own ids are random
    return built


def config_path(name: str) -> str | None:
    """Return `data.subject` for `config.data.subject`; None for names outside the configuration."""
    return name.removeprefix(_CONFIG) if name.startswith(_CONFIG) else None


def stable_id(*parts: str) -> str:
    """Return a twelve-digit hash of the parts, of the length of W&B's random ids."""
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:12]


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
    """Build curves over `x`, of the names `y` or of all names that match the regular expression `pattern`."""
    if bool(y) == bool(pattern):
        raise ValueError("needs either y or pattern")
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
    """Build one bar per group of runs: the mean, with its standard error."""
    if not metrics:
        raise ValueError("metrics is empty")
    key = None if group_by is None else wr.Config(config_path(group_by) or group_by)
    form = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stderr"}
    return wr.BarPlot(title=title, metrics=list(metrics), groupby=key, **form)


def _scatter(wr: Any, *, x: str, y: str, z: str | None = None, title: str | None = None) -> Any:
    """Build one point per run, from its summary and its configuration."""
    return wr.ScatterPlot(title=title, x=_column(wr, x), y=_column(wr, y), z=None if z is None else _column(wr, z))


def _parallel(wr: Any, *, columns: Sequence[str], title: str | None = None) -> Any:
    """Build one line per run through an axis per column."""
    named = [wr.ParallelCoordinatesPlotColumn(metric=_column(wr, name), display_name=name) for name in columns]
    return wr.ParallelCoordinatesPlot(title=title, columns=named)


def _media(wr: Any, *, keys: Sequence[str], title: str | None = None, columns: int | None = None) -> Any:
    """Build a panel of logged images."""
    return wr.MediaBrowser(title=title, media_keys=list(keys), num_columns=columns)


def _table(wr: Any, *, name: str) -> Any:
    """Build a panel of a logged table, with the rows of all runs."""
    return wr.WeavePanelSummaryTable(table_name=name)


def _artifact(wr: Any, *, name: str, tab: str = "lineage") -> Any:
    """Build a panel of one artifact: overview, metadata, usage, files, or lineage."""
    return wr.WeavePanelArtifact(artifact=name, tab=tab)


def _run_comparer(wr: Any, *, only_differences: bool = True) -> Any:
    """Build a comparison of the runs' configurations and results."""
    return wr.RunComparer(diff_only=True if only_differences else None)


def _text(wr: Any, *, text: str) -> Any:
    """Build a panel with Markdown text."""
    return wr.MarkdownPanel(markdown=text)


def _column(wr: Any, name: str) -> Any:
    path = config_path(name)
    return wr.SummaryMetric(name) if path is None else wr.Config(path)


#: Builder of each kind of panel.
KINDS: dict[str, Callable[..., Any]] = {
    builder.__name__.removeprefix("_"): builder
    for builder in (_line, _bar, _scatter, _parallel, _media, _table, _artifact, _run_comparer, _text)
}
