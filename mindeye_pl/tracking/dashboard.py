"""Dashboards as code: a saved view of W&B's workspace from a plain description of its sections and panels.

W&B's own package (wandb-workspaces, in the extra `dashboard`) knows the format of a view. What is described the same is
the same view, to the last id, so that a saved one is renewed rather than doubled.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mindeye_pl.errors import UserError
from mindeye_pl.tracking.wandb_run import one_line

Plain = Mapping[str, Any]

#: Words for what a run has beside its numbers, by which runs are grouped.
_ATTRIBUTES = {"group": "Group", "job_type": "JobType", "name": "Name", "state": "State", "user": "User"}
#: Keys of a section.
_SECTION_KEYS = {"title", "panels", "open", "columns", "rows"}
#: Letters of W&B's own names of views.
_NAME_LENGTH = 11


def build_view(dashboard: Plain, *, entity: str | None, project: str) -> Any:
    """The saved view that a description asks for; nothing is asked of a server.

    Args:
        dashboard: `name`, `x_axis`, `runs` and `sections`, as in `conf/tracking/dashboard.yaml`.
        entity: W&B team or user, None where it is not known.
        project: W&B project.

    Returns:
        A `wandb_workspaces.workspaces.internal.View`.

    Raises:
        UserError: without wandb-workspaces; for an unknown kind or a wrong key of a panel, naming its place.
    """
    ws = _workspaces()
    try:
        workspace = ws.Workspace(
            entity=entity or "",
            project=project,
            name=dashboard["name"],
            sections=[_section(key, section, dashboard["x_axis"]) for key, section in dashboard["sections"].items()],
            settings=ws.WorkspaceSettings(x_axis=dashboard["x_axis"], max_runs=100),
            runset_settings=_shown_runs(dashboard["runs"]),
        )
    except ValueError as error:  # pydantic's are of this kind
        raise UserError("conf/tracking does not describe a view", seen=one_line(error), mend="see docs/dashboards.md")
    view = workspace._to_model()  # W&B gives no other way to the view's JSON
    view.name = f"nw-{view_name(dashboard['name'])}-v"
    runs = view.spec.section.run_sets[0]
    runs.id = _digest("runs", dashboard["name"])
    runs.filters = _filters(dashboard["runs"])
    return view


def view_name(name: str) -> str:
    """What stands behind `?nw=` in the address of the view called `name`."""
    return _digest("view", name)[:_NAME_LENGTH]


def spec_of(view: Any) -> dict[str, Any]:
    """What W&B's server keeps of a view, as plain JSON values."""
    return json.loads(view.spec.model_dump_json(by_alias=True, exclude_none=True))


def save_view(view: Any) -> str:
    """Saves a view, over the one of the same name if there is one.

    Args:
        view: of `build_view`; without an entity it goes where the user's runs go.

    Returns:
        Its address.

    Raises:
        UserError: where no entity is known, the project is not there, or the server refuses.
    """
    import wandb
    from wandb_workspaces._graphql import get_app_url
    from wandb_workspaces.workspaces import internal

    mend = "`wandb login`, or correct logger.entity and logger.project"
    try:
        api = wandb.Api()
        view.entity = view.entity or api.default_entity or ""
    except Exception as error:  # W&B raises many kinds
        raise UserError("W&B cannot be reached", seen=one_line(error), mend=f"{mend}; or logger.mode=offline")
    if not view.entity:
        raise UserError("W&B does not say whose the dashboard is", mend="logger.entity=TEAM, or WANDB_ENTITY=TEAM")
    try:
        view.id = _saved_id(view) or ""
        internal.upsert_view2(view)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            "W&B did not save the dashboard",
            seen=f"{view.entity}/{view.project}: {one_line(error)}",
            mend=f"{mend}; or logger.mode=offline",
        )
    return f"{get_app_url(api).rstrip('/')}/{view.entity}/{view.project}?nw={view_name(view.display_name)}"


def _saved_id(view: Any) -> str | None:
    """The server's id of the view of this name, None where there is none yet."""
    from wandb_workspaces.workspaces import internal

    try:
        return internal.get_view_dict(view.entity, view.project, view_name(view.display_name))["id"]
    except ValueError as error:  # of one kind with other words: no such project, or no such view
        if not str(error).startswith("Project"):
            return None
        raise UserError(
            "there is no such W&B project",
            seen=f"{view.entity}/{view.project}",
            mend="track a run first (python -m mindeye_pl +experiment=finetune_subj01_1h), or correct logger.project",
        )


def _workspaces() -> Any:
    try:
        import wandb_workspaces.workspaces as ws
    except ImportError:
        raise UserError(
            "a dashboard needs the package wandb-workspaces", mend='pip install "mindeye_pl[dashboard]"'
        ) from None
    return ws


def _section(key: str, section: Plain, x_axis: str) -> Any:
    ws = _workspaces()
    if unknown := section.keys() - _SECTION_KEYS:
        raise UserError(f"tracking.sections.{key} has unknown keys", seen=sorted(unknown), wanted=sorted(_SECTION_KEYS))
    panels = [_panel(f"tracking.sections.{key}.panels[{i}]", p, x_axis) for i, p in enumerate(section["panels"])]
    return ws.Section(
        name=section["title"],
        panels=panels,
        is_open=section.get("open", False),
        layout_settings=ws.SectionLayoutSettings(columns=section.get("columns", 3), rows=section.get("rows", 2)),
        panel_settings=ws.SectionPanelSettings(x_axis=x_axis),
    )


def _panel(place: str, panel: Plain, x_axis: str) -> Any:
    """A panel of W&B's; `place` is for messages, and makes its id."""
    keys = dict(panel)
    kind = keys.pop("kind", None)
    if kind not in _KINDS:
        raise UserError(f"{place} has no kind that is known", seen=kind, wanted=", ".join(_KINDS))
    try:
        made = _KINDS[kind](x_axis=x_axis, **keys)
    except (TypeError, ValueError) as error:
        words = one_line(error).replace(f"_{kind}() ", "")
        raise UserError(f"{place} is no {kind} panel", seen=words, mend="docs/dashboards.md has its keys") from None
    made._id = _digest("panel", place)  # W&B's own would be another each time
    return made


def _line(
    *,
    x_axis: str,
    title: str | None = None,
    y: Sequence[str] = (),
    pattern: str | None = None,
    x: str | None = None,
    smoothing: float = 0.0,
    log_y: bool = False,
) -> Any:
    import wandb_workspaces.reports.v2 as wr

    if bool(y) == (pattern is not None):
        raise ValueError("one of y and pattern")
    return wr.LinePlot(
        title=title,
        x=x or x_axis,
        y=list(y),
        metric_regex=pattern,
        log_y=log_y or None,
        smoothing_type="exponentialTimeWeighted" if smoothing else "none",
        smoothing_factor=smoothing or None,
        smoothing_show_original=True if smoothing else None,
    )


def _bar(*, x_axis: str, metrics: Sequence[str], title: str | None = None, group_by: str | None = None) -> Any:
    import wandb_workspaces.reports.v2 as wr

    if not metrics:
        raise ValueError("metrics is empty")
    return wr.BarPlot(
        title=title,
        metrics=list(metrics),
        groupby=None if group_by is None else _group_key(group_by),
        groupby_aggfunc="mean",
        groupby_rangefunc="stderr",
    )


def _scatter(*, x_axis: str, x: str, y: str, title: str | None = None, z: str | None = None) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.ScatterPlot(title=title, x=_column(x), y=_column(y), z=None if z is None else _column(z))


def _parallel(*, x_axis: str, columns: Sequence[str], title: str | None = None) -> Any:
    import wandb_workspaces.reports.v2 as wr

    named = [wr.ParallelCoordinatesPlotColumn(metric=_column(column), display_name=column) for column in columns]
    return wr.ParallelCoordinatesPlot(title=title, columns=named)


def _media(*, x_axis: str, keys: Sequence[str], title: str | None = None, columns: int | None = None) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.MediaBrowser(title=title, media_keys=list(keys), num_columns=columns)


def _table(*, x_axis: str, name: str) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.WeavePanelSummaryTable(table_name=name)


def _artifact(*, x_axis: str, name: str, tab: str = "lineage") -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.WeavePanelArtifact(artifact=name, tab=tab)


def _run_comparer(*, x_axis: str, only_differences: bool = True) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.RunComparer(diff_only=True if only_differences else None)


def _text(*, x_axis: str, text: str) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.MarkdownPanel(markdown=text)


#: What makes a panel of a kind from its keys.
_KINDS: dict[str, Callable[..., Any]] = {
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


def _column(name: str) -> Any:
    """`config.data.num_sessions` as of the configuration, anything else as a number of the run."""
    import wandb_workspaces.reports.v2 as wr

    return wr.Config(name.removeprefix("config.")) if name.startswith("config.") else wr.SummaryMetric(name)


def _group_key(name: str) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.Metric(_ATTRIBUTES[name]) if name in _ATTRIBUTES else wr.Config(name.removeprefix("config."))


def _shown_runs(runs: Plain) -> Any:
    ws = _workspaces()
    keys = []
    for name in runs["group_by"]:
        if name not in _ATTRIBUTES and not name.startswith("config."):
            wanted = ", ".join([*_ATTRIBUTES, "config.PATH"])
            raise UserError("tracking.runs.group_by names nothing of a run", seen=name, wanted=wanted)
        keys.append(
            ws.Metric(_ATTRIBUTES[name]) if name in _ATTRIBUTES else ws.Config(name.removeprefix("config."))
        )
    return ws.RunsetSettings(groupby=keys, pinned_columns=[_pinned(name) for name in runs["columns"]])


def _pinned(name: str) -> str:
    """A column of the table of runs in W&B's words."""
    if name.startswith("run."):
        return f"run:{name.removeprefix('run.')}"
    if name.startswith("config."):
        top, *below = name.removeprefix("config.").split(".")
        return "config:" + ".".join([top, "value", *below])
    return f"summary:{name}"


def _filters(runs: Plain) -> dict[str, Any]:
    """What a run must be to be shown: in one of the groups, of one of the job types, and with every tag.

    Made from objects: in the words that W&B also takes, the `=` of a tag `hours=1` would be doubled.
    """
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    wanted = [ws.Tags().isin([tag]) for tag in _several(runs["tags"])]
    for key in ("group", "job_type"):
        if values := _several(runs[key]):
            wanted.append(ws.Metric(_ATTRIBUTES[key]).isin(values))
    return expr.filters_tree_to_v2(expr.filter_expr_to_filters_tree(wanted))


def _several(values: str | Sequence[str] | None) -> list[str]:
    return [values] if isinstance(values, str) else [str(value) for value in values or ()]


def _digest(*words: str) -> str:
    return hashlib.sha256("/".join(words).encode()).hexdigest()[:12]
