"""Dashboards: building, saving and errors."""

import json
import sys
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import wandb
import wandb_workspaces.workspaces as ws
from omegaconf import OmegaConf
from wandb_workspaces.workspaces import internal

from mindeye_pl.commands.dashboard import make_dashboard
from mindeye_pl.conf_files import conf_dir
from mindeye_pl.config import compose_config
from mindeye_pl.errors import UserError
from mindeye_pl.tracking.dashboard import build_view, save_view, spec_of, view_name
from mindeye_pl.tracking.panels import KINDS
from mindeye_pl.tracking.wandb_run import STEP
from tests.conftest import CommandLine
from tests.tracking.wandb_server import KEY, WandbServer, wandb_server

DASHBOARDS = sorted((conf_dir() / "tracking").glob("*.yaml"))


@cache
def _composed(name: str) -> dict[str, Any]:
    return OmegaConf.to_container(compose_config([f"tracking={name}"]).tracking, resolve=True)


def described(name: str = "dashboard") -> dict[str, Any]:
    return deepcopy(_composed(name))


def view_of(dashboard: dict[str, Any]) -> Any:
    return build_view(dashboard, entity="lab", project="mindeye_pl")


def with_panel(**panel: Any) -> dict[str, Any]:
    dashboard = described()
    dashboard["sections"] = {"own": {"title": "own", "panels": [panel]}}
    return dashboard


def panels_of(view: Any) -> list[dict[str, Any]]:
    return [panel for section in spec_of(view)["section"]["panelBankConfig"]["sections"] for panel in section["panels"]]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboard_round_trip(path: Path) -> None:
    view = view_of(described(path.stem))
    spec = spec_of(view)
    read = internal.WorkspaceViewspec.model_validate_json(json.dumps(spec))
    again = ws.Workspace._from_model(internal.View(**view.model_dump(exclude={"spec"}), spec=read))
    assert spec_of(again._to_model()) == spec
    assert [section.name for section in again.sections] == [each["title"] for each in described()["sections"].values()]


def test_equal_descriptions_yield_equal_views() -> None:
    first, second = view_of(described()), view_of(described())
    assert spec_of(first) == spec_of(second)
    assert first.name == second.name == f"nw-{view_name('mindeye_pl')}-v"
    ids = [panel["__id__"] for panel in panels_of(first)]
    assert len(ids) == len(set(ids))
    other = described()
    other["name"] = "another"
    assert view_of(other).name != first.name


def test_curves_use_the_logged_axis() -> None:
    panels = panels_of(view_of(described()))
    axes = [panel["config"]["xAxis"] for panel in panels if panel["viewType"] == "Run History Line Plot"]
    assert len(axes) > 10
    assert set(axes) == {STEP}
    assert described()["x_axis"] == STEP


def test_runs_are_filtered_by_group_step_and_tags() -> None:
    dashboard = described()
    dashboard["runs"] |= {
        "group": "finetune_subj01_1h",
        "job_type": ["finetune", "evaluate"],
        "tags": ["hours=1", "subj01"],
    }
    (runs,) = spec_of(view_of(dashboard))["section"]["runSets"]
    found = [(each["key"]["name"], each["op"], each["value"]) for each in runs["filters"]["filters"]]
    assert found == [
        ("tags", "IN", ["hours=1"]),
        ("tags", "IN", ["subj01"]),
        ("group", "IN", ["finetune_subj01_1h"]),
        ("jobType", "IN", ["finetune", "evaluate"]),
    ]
    assert {each.get("connector", "AND") for each in runs["filters"]["filters"]} == {"AND"}


def test_runs_are_grouped_over_seeds() -> None:
    (runs,) = spec_of(view_of(described()))["section"]["runSets"]
    keys = [(key["section"], key["name"]) for key in runs["grouping"]]
    assert ("run", "jobType") in keys
    assert ("config", "data.value.num_sessions") in keys
    assert ("config", "finetune.value.start") in keys
    assert not any("seed" in name for _, name in keys)


@pytest.mark.parametrize("name", ["columns", "group_by"])
def test_group_keys_are_in_the_configuration(name: str) -> None:
    config = compose_config([])
    paths = [word.removeprefix("config.") for word in config.tracking.runs[name] if word.startswith("config.")]
    assert paths
    assert all(OmegaConf.select(config, path) is not None for path in paths)


def test_all_kinds_of_panels() -> None:
    panels = {
        "line": {"y": ["train/loss"], "smoothing": 0.5, "log_y": True},
        "bar": {"metrics": ["score/ssim"], "group_by": "config.finetune.start"},
        "scatter": {"x": "config.data.num_sessions", "y": "score/ssim", "z": "score/pixcorr"},
        "parallel": {"columns": ["config.seed", "score/ssim"]},
        "media": {"keys": ["reconstructions"], "columns": 2},
        "table": {"name": "retrieval"},
        "artifact": {"name": "finetune-abc"},
        "run_comparer": {},
        "text": {"text": "words"},
    }
    assert panels.keys() == KINDS.keys()
    made = {kind: panels_of(view_of(with_panel(kind=kind, **keys)))[0] for kind, keys in panels.items()}
    assert made["bar"]["config"]["groupBy"] == "finetune.value.start"
    assert made["bar"]["config"]["metrics"] == ["score/ssim"]
    assert made["scatter"]["config"]["xAxis"] == "config:data.value.num_sessions"
    assert made["scatter"]["config"]["yAxis"] == "summary:score/ssim"
    assert made["media"]["config"]["mediaKeys"] == ["reconstructions"]
    assert made["line"]["config"]["smoothingWeight"] == 0.5
    assert '"retrieval"' in json.dumps(made["table"])
    assert '"finetune-abc"' in json.dumps(made["artifact"])


def test_null_section_is_omitted() -> None:
    dashboard = described()
    dashboard["sections"]["losses"] = None
    names = [each["name"] for each in spec_of(view_of(dashboard))["section"]["panelBankConfig"]["sections"]]
    assert len(names) == len(described()["sections"]) - 1
    assert "Training losses by part" not in names


@pytest.mark.parametrize(
    ("panel", "message"),
    [
        ({"kind": "pie"}, "unknown kind of tracking.sections.own.panels[0] (got: pie; expected: line, bar"),
        ({"kind": "bar"}, "missing 1 required keyword-only argument: 'metrics'"),
        ({"kind": "line"}, "either y or pattern"),
        ({"kind": "line", "y": ["a"], "pattern": "b"}, "either y or pattern"),
        ({"kind": "bar", "metrics": []}, "metrics is empty"),
        ({"kind": "table", "nam": "retrieval"}, "unexpected keyword argument 'nam'"),
        (
            {"kind": "artifact", "name": "a", "tab": "colour"},
            "tracking.sections.own.panels[0] is not a valid artifact panel",
        ),
        ({"kind": "media", "keys": ["a"], "columns": "many"}, "is not a valid media panel"),
    ],
)
def test_invalid_panel_is_refused(panel: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        view_of(with_panel(**panel))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_invalid_section_or_group_is_refused() -> None:
    dashboard = with_panel(kind="run_comparer")
    dashboard["sections"]["own"]["colour"] = "red"
    with pytest.raises(
        UserError, match=r"tracking.sections.own is not a valid section .*colour.*expected: title, panels"
    ):
        view_of(dashboard)
    del dashboard["sections"]["own"]["colour"], dashboard["sections"]["own"]["title"]
    with pytest.raises(UserError, match=r"tracking\.sections\.own is not a valid section"):
        view_of(dashboard)
    dashboard = described()
    dashboard["runs"]["group_by"] = ["hours"]
    with pytest.raises(
        UserError, match=r"unknown run attribute in tracking\.runs\.group_by .*got: hours; expected: group, job_type"
    ):
        view_of(dashboard)
    dashboard = described() | {"name": "brains 🧠"}
    with pytest.raises(UserError, match="conf/tracking is not a valid view"):
        view_of(dashboard)


def test_offline_prints_only_json(cli: CommandLine) -> None:
    options = (
        "logger.wandb.mode=offline",
        'tracking.runs.tags=["hours=1"]',
        "tracking.sections.losses=null",
        "logger.wandb.entity=lab",
    )
    code, out, err = cli("pipeline=dashboard", *options)
    assert code == 0, err
    printed = json.loads(out)
    expected = described()
    expected["runs"]["tags"], expected["sections"]["losses"] = ["hours=1"], None
    assert printed["spec"] == spec_of(view_of(expected))
    assert (printed["entity"], printed["project"], printed["name"]) == ("lab", "mindeye_pl", "mindeye_pl")
    assert not (cli.outputs / "artifacts").exists()
    assert not (cli.outputs / "wandb").exists()


def test_dashboard_errors_are_one_line(cli: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cli.refuses("pipeline=dashboard", "logger=csv", says=("got: logger=csv", "Fix: logger=wandb"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    cli.refuses("pipeline=dashboard", "logger.wandb.mode=online", says=("without a W&B key", "wandb login"))
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    words = ("needs the package wandb-workspaces", 'pip install "mindeye_pl[dashboard]"')
    cli.refuses("pipeline=dashboard", "logger.wandb.mode=offline", says=words)


class Views:
    """Minimal W&B server that also stores saved views."""

    def __init__(self, server: WandbServer):
        self.url, self.saved, self._other = server.url, {}, server.answer
        self.entity: str | None = "lab"
        server.answer = self.answer  # type: ignore[method-assign]

    def answer(self, operation: str, values: dict[str, Any]) -> dict[str, Any]:
        if operation == "View":
            if values["name"] != "mindeye_pl":
                return {"project": None}
            found = [view for view in self.saved.values() if view["name"] == values["viewName"]]
            nodes = [{key: view[key] for key in ("id", "displayName", "spec")} for view in found]
            return {"project": {"allViews": {"edges": [{"node": node} for node in nodes]}}}
        if operation == "UpsertView2":
            key = values.get("id") or f"id-{len(self.saved)}"
            self.saved[key] = {**values, "id": key}
            return {"upsertView": {"view": {"id": key, "name": values["name"]}, "inserted": "id" not in values}}
        answered = self._other(operation, values)
        if "viewer" in answered:
            answered["viewer"]["entity"] = self.entity
        return answered


@pytest.fixture
def views(monkeypatch: pytest.MonkeyPatch) -> Iterator[Views]:
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_SILENT", "true")
        wandb.teardown()  # what it read of the environment before
        yield Views(server)
        wandb.teardown()


def test_saving_again_updates_the_dashboard(views: Views, capsys: pytest.CaptureFixture[str]) -> None:
    config = compose_config(["pipeline=dashboard", "logger.wandb.mode=online"])
    make_dashboard(config)
    address = f"{views.url}/lab/mindeye_pl?nw={view_name('mindeye_pl')}"
    assert f"dashboard: {address}" in capsys.readouterr().out
    (first,) = deepcopy(views.saved).values()
    assert (first["entityName"], first["projectName"], first["displayName"]) == ("lab", "mindeye_pl", "mindeye_pl")
    assert json.loads(first["spec"]) == spec_of(view_of(described()))

    config.tracking.sections.losses = None
    make_dashboard(config)
    (second,) = views.saved.values()
    assert second["id"] == first["id"]
    assert len(second["spec"]) < len(first["spec"])
    config.tracking.name = "another"
    make_dashboard(config)
    assert len(views.saved) == 2
    capsys.readouterr()
    config.plan, config.tracking.name = True, "a third"
    make_dashboard(config)
    assert json.loads(capsys.readouterr().out)["name"] == "a third"
    assert len(views.saved) == 2
    assert ws.Workspace.from_url(address).name == "mindeye_pl"


def test_missing_project_or_entity_is_refused(views: Views) -> None:
    with pytest.raises(
        UserError, match=r"the W&B project does not exist \(got: lab/brains\). Fix: logger.wandb.project="
    ):
        save_view(build_view(described(), entity="lab", project="brains"))
    views.entity = None
    with pytest.raises(UserError, match=r"dashboard's W&B entity is unknown. Fix: logger.wandb.entity=TEAM"):
        save_view(build_view(described(), entity=None, project="mindeye_pl"))
    assert not views.saved
