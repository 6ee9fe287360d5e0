"""Dashboards as code: a saved view of W&B's workspace from a plain description of its sections and panels.

W&B's own package (wandb-workspaces, in the extra `dashboard`) knows the format of a view. What is described the same is
the same view, to the last id, so that a saved one is renewed and not doubled.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mindeye_pl.errors import UserError
from mindeye_pl.tracking.panels import build_panel, config_path, stable_id
from mindeye_pl.tracking.wandb_run import one_line

Plain = Mapping[str, Any]

#: W&B's words for what runs can be grouped by beside their configuration.
_ATTRIBUTES = {"group": "Group", "job_type": "JobType", "name": "Name", "state": "State", "user": "User"}
#: Keys of a section, of which it must have the first two.
_SECTION_KEYS = ("title", "panels", "open", "columns", "rows")
#: Runs, or groups of runs, that one panel shows.
_MOST_RUNS = 100
#: Letters in W&B's own names of views.
_NAME_LENGTH = 11

_FIX = (
    "wandb login, or the right logger.wandb.entity and logger.wandb.project; "
    "logger.wandb.mode=offline prints the dashboard"
)


def build_view(dashboard: Plain, *, entity: str | None, project: str) -> Any:
    """The saved view that a description asks for; no server is asked.

    Args:
        dashboard: `name`, `x_axis`, `runs` and `sections`, as in `conf/tracking/dashboard.yaml`.
        entity: W&B team or user, None where it is not known.
        project: W&B project.

    Returns:
        A `wandb_workspaces.workspaces.internal.View`.

    Raises:
        UserError: without wandb-workspaces; for a part of the description that W&B has no words for, naming its place.
    """
    ws = _workspaces()
    name, x_axis, runs = dashboard["name"], dashboard["x_axis"], dashboard["runs"]
    sections = {key: section for key, section in dashboard["sections"].items() if section is not None}
    try:
        workspace = ws.Workspace(
            entity=entity or "",
            project=project,
            name=name,
            sections=[_section(ws, f"tracking.sections.{key}", each, x_axis) for key, each in sections.items()],
            settings=ws.WorkspaceSettings(x_axis=x_axis, max_runs=_MOST_RUNS),
            runset_settings=ws.RunsetSettings(
                groupby=[_group_key(ws, key) for key in _several(runs["group_by"])],
                pinned_columns=[_pinned(column) for column in _several(runs["columns"])],
            ),
        )
    except ValueError as error:  # pydantic's are among them
        fix = "the keys of docs/dashboards.md"
        raise UserError("conf/tracking describes no view", got=one_line(error), fix=fix) from error
    view = workspace._to_model()  # the package has no public way to a view's JSON
    view.name = f"nw-{view_name(name)}-v"
    (shown,) = view.spec.section.run_sets
    shown.id, shown.filters = stable_id("runs", name), _filters(ws, runs)
    return view


def view_name(name: str) -> str:
    """What stands behind `?nw=` in the address of the view that people see as `name`."""
    return stable_id("view", name)[:_NAME_LENGTH]


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
        UserError: where the user has no entity, there is no such project, or the server refuses.
    """
    import wandb
    from wandb_workspaces._graphql import get_app_url
    from wandb_workspaces.workspaces import internal

    try:
        api = wandb.Api()
        view.entity = view.entity or api.default_entity or ""
        if not view.entity:
            raise UserError(
                "W&B does not say whose the dashboard is", fix="logger.wandb.entity=TEAM, or WANDB_ENTITY=TEAM"
            )
        view.id = _saved_id(view) or ""
        internal.upsert_view2(view)
        address = get_app_url(api).rstrip("/")
    except UserError:
        raise
    except Exception as error:  # W&B raises many kinds
        raise UserError("W&B did not save the dashboard", got=one_line(error), fix=_FIX) from error
    return f"{address}/{view.entity}/{view.project}?nw={view_name(view.display_name)}"


def _saved_id(view: Any) -> str | None:
    """The server's id of the view of this name, None where there is none yet."""
    from wandb_workspaces.workspaces import internal

    try:
        return internal.get_view_dict(view.entity, view.project, view_name(view.display_name))["id"]
    except ValueError as error:  # one kind for two things: no such project, no such view
        if not str(error).startswith("Project"):
            return None
        raise UserError(
            "there is no such W&B project",
            got=f"{view.entity}/{view.project}",
            fix="logger.wandb.project=NAME, or first track a run: python -m mindeye_pl +experiment=finetune_subj01_1h",
        ) from error


def _workspaces() -> Any:
    try:
        import wandb_workspaces.workspaces as ws
    except ImportError:
        fix = 'pip install "mindeye_pl[dashboard]"'
        raise UserError("a dashboard needs the package wandb-workspaces", fix=fix) from None
    return ws


def _section(ws: Any, place: str, section: Plain, x_axis: str) -> Any:
    keys = {"open": False, "columns": 3, "rows": 2} | dict(section)
    if set(keys) != set(_SECTION_KEYS):
        raise UserError(f"{place} is no section", got=", ".join(section), expected=", ".join(_SECTION_KEYS))
    panels = [build_panel(f"{place}.panels[{i}]", panel, x_axis=x_axis) for i, panel in enumerate(keys["panels"])]
    return ws.Section(
        name=keys["title"],
        panels=panels,
        is_open=keys["open"],
        layout_settings=ws.SectionLayoutSettings(columns=keys["columns"], rows=keys["rows"]),
        panel_settings=ws.SectionPanelSettings(x_axis=x_axis),
    )


def _group_key(ws: Any, name: str) -> Any:
    if name in _ATTRIBUTES:
        return ws.Metric(_ATTRIBUTES[name])
    if (path := config_path(name)) is not None:
        return ws.Config(path)
    wanted = ", ".join([*_ATTRIBUTES, "config.PATH"])
    raise UserError("tracking.runs.group_by names nothing of a run", got=name, expected=wanted)


def _pinned(name: str) -> str:
    """A column of the table of runs, as the table calls it."""
    if name.startswith("run."):
        return f"run:{name.removeprefix('run.')}"
    if (path := config_path(name)) is not None:
        top, *below = path.split(".")
        return "config:" + ".".join([top, "value", *below])
    return f"summary:{name}"


def _filters(ws: Any, runs: Plain) -> dict[str, Any]:
    """What a run must be to be shown: of one of the groups, of one of the job types, and with every tag.

    Made of objects: in an expression of words, which W&B takes too, it doubles the `=` of a tag `hours=1`.
    """
    from wandb_workspaces import expr

    wanted = [ws.Tags().isin([tag]) for tag in _several(runs["tags"])]
    named = {_ATTRIBUTES[key]: _several(runs[key]) for key in ("group", "job_type")}
    wanted += [ws.Metric(key).isin(values) for key, values in named.items() if values]
    return expr.filters_tree_to_v2(expr.filter_expr_to_filters_tree(wanted))


def _several(values: str | Sequence[str] | None) -> list[str]:
    return [values] if isinstance(values, str) else [str(value) for value in values or ()]
