"""Dashboards as code: saved views of a W&B workspace, built from a plain description of sections and panels.

W&B's package wandb-workspaces (extra `dashboard`) defines the format of a view. Equal descriptions produce equal views
with equal ids, so that saving again updates a view instead of duplicating it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mindeye_pl.errors import UserError
from mindeye_pl.tracking.panels import build_panel, config_path, stable_id
from mindeye_pl.tracking.wandb_run import one_line

Plain = Mapping[str, Any]

#: W&B's names of the run attributes that runs can be grouped by, besides their configuration.
_ATTRIBUTES = {"group": "Group", "job_type": "JobType", "name": "Name", "state": "State", "user": "User"}
#: Keys of a section; the first two are required.
_SECTION_KEYS = ("title", "panels", "open", "columns", "rows")
#: Maximum number of runs, or groups of runs, in one panel.
_MAX_RUNS = 100


def build_view(dashboard: Plain, *, entity: str | None, project: str) -> Any:
    """Build a `wandb_workspaces.workspaces.internal.View` from its description, without contacting a server.

    The description has `name`, `x_axis`, `runs` and `sections`, as in `conf/tracking/dashboard.yaml`.

    Raises:
        UserError: if wandb-workspaces is missing, or W&B does not support a part of the description.
    """
    try:
        import wandb_workspaces.workspaces as ws
    except ImportError:
        fix = 'pip install "mindeye_pl[dashboard]"'
        raise UserError("a dashboard needs the package wandb-workspaces", fix=fix) from None
    name, x_axis, runs = dashboard["name"], dashboard["x_axis"], dashboard["runs"]
    sections = {key: section for key, section in dashboard["sections"].items() if section is not None}
    try:
        workspace = ws.Workspace(
            entity=entity or "",
            project=project,
            name=name,
            sections=[_section(ws, f"tracking.sections.{key}", each, x_axis) for key, each in sections.items()],
            settings=ws.WorkspaceSettings(x_axis=x_axis, max_runs=_MAX_RUNS),
            runset_settings=ws.RunsetSettings(
                groupby=[_group_key(ws, key) for key in _as_list(runs["group_by"])],
                pinned_columns=[_pinned(column) for column in _as_list(runs["columns"])],
            ),
        )
    except ValueError as error:  # includes pydantic's errors
        fix = "use the keys of docs/dashboards.md"
        raise UserError("conf/tracking is not a valid view", got=one_line(error), fix=fix) from error
    view = workspace._to_model()  # the package has no public access to a view's JSON
    view.name = f"nw-{view_name(name)}-v"
    (run_set,) = view.spec.section.run_sets
    run_set.id, run_set.filters = stable_id("runs", name), _filters(ws, runs)
    return view


def view_name(name: str) -> str:
    """Return the value of `?nw=` in the address of the view displayed as `name`, of the length of W&B's own ones."""
    return stable_id("view", name)[:11]


def spec_of(view: Any) -> dict[str, Any]:
    """Return the view as the plain JSON values that W&B's server stores."""
    return json.loads(view.spec.model_dump_json(by_alias=True, exclude_none=True))


def save_view(view: Any) -> str:
    """Save a view of `build_view`, replacing the one of the same name, and return its address.

    Without an entity it is saved under the user's default entity.

    Raises:
        UserError: if the entity or the project is missing, or the server refuses.
    """
    import wandb
    from wandb_workspaces._graphql import get_app_url
    from wandb_workspaces.workspaces import internal

    try:
        api = wandb.Api()
        view.entity = view.entity or api.default_entity or ""
        if not view.entity:
            fix = "logger.wandb.entity=TEAM, or WANDB_ENTITY=TEAM"
            raise UserError("the dashboard's W&B entity is unknown", fix=fix)
        view.id = _saved_id(view) or ""
        internal.upsert_view2(view)
        address = get_app_url(api).rstrip("/")
    except UserError:
        raise
    except Exception as error:  # W&B raises many kinds
        fix = (
            "wandb login, or the right logger.wandb.entity and logger.wandb.project; "
            "logger.wandb.mode=offline prints the dashboard"
        )
        raise UserError("W&B did not save the dashboard", got=one_line(error), fix=fix) from error
    return f"{address}/{view.entity}/{view.project}?nw={view_name(view.display_name)}"


def _saved_id(view: Any) -> str | None:
    """Return the server's id of the view of this name, None if there is none."""
    from wandb_workspaces.workspaces import internal

    try:
        return internal.get_view_dict(view.entity, view.project, view_name(view.display_name))["id"]
    except ValueError as error:  # raised for both a missing project and a missing view
        if not str(error).startswith("Project"):
            return None
        fix = "logger.wandb.project=NAME, or track a run first: python -m mindeye_pl +experiment=finetune_subj01_1h"
        got = f"{view.entity}/{view.project}"
        raise UserError("the W&B project does not exist", got=got, fix=fix) from error


def _section(ws: Any, path: str, section: Plain, x_axis: str) -> Any:
    keys = {"open": False, "columns": 3, "rows": 2} | dict(section)
    if set(keys) != set(_SECTION_KEYS):
        raise UserError(f"{path} is not a valid section", got=", ".join(section), expected=", ".join(_SECTION_KEYS))
    panels = [build_panel(f"{path}.panels[{i}]", panel, x_axis=x_axis) for i, panel in enumerate(keys["panels"])]
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
    expected = ", ".join([*_ATTRIBUTES, "config.PATH"])
    raise UserError("unknown run attribute in tracking.runs.group_by", got=name, expected=expected)


def _pinned(name: str) -> str:
    """Return W&B's name of a column of the runs table."""
    if name.startswith("run."):
        return f"run:{name.removeprefix('run.')}"
    if (path := config_path(name)) is not None:
        top, *below = path.split(".")
        return "config:" + ".".join([top, "value", *below])
    return f"summary:{name}"


def _filters(ws: Any, runs: Plain) -> dict[str, Any]:
    """Build the filters of the runs: one of the groups, one of the job types, and all tags.

    They are built from objects, because W&B's text expressions double the `=` of a tag such as `hours=1`.
    """
    from wandb_workspaces import expr

    conditions = [ws.Tags().isin([tag]) for tag in _as_list(runs["tags"])]
    values_by_attribute = {_ATTRIBUTES[key]: _as_list(runs[key]) for key in ("group", "job_type")}
    conditions += [ws.Metric(key).isin(values) for key, values in values_by_attribute.items() if values]
    return expr.filters_tree_to_v2(expr.filter_expr_to_filters_tree(conditions))


def _as_list(values: str | Sequence[str] | None) -> list[str]:
    return [values] if isinstance(values, str) else [str(value) for value in values or ()]
