"""W&B's sweep files are those of the experiments, W&B accepts them, and what its agent would run composes."""

from itertools import product
from pathlib import Path

import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from mindeye_pl.commands import wandb_sweeps
from mindeye_pl.conf_files import conf_dir
from mindeye_pl.config import register_resolvers, sweep_values
from mindeye_pl.tracking import wandb_run
from tests.conftest import CommandLine
from tests.tracking.offline_record import offline_records

ROOT = Path(__file__).parents[2]
#: The sweep without an evaluation, for whose score an agent would wait for ever.
WITHOUT_SCORE = "budget"
SWEEPS = sorted(
    path.stem for path in (conf_dir() / "experiment" / "sweeps").glob("*.yaml") if path.stem != WITHOUT_SCORE
)

#: Of which the default tests ask what the slow ones ask of all.
FEW = ("hours_subj01",)


def jobs(sweep: dict) -> list[dict]:
    """The grid as W&B's agent gets it, one job after the other."""
    parameters = sweep["parameters"]
    grids = [values.get("values", [values.get("value")]) for values in parameters.values()]
    return [
        {"args": {name: {"value": value} for name, value in zip(parameters, chosen, strict=True)}}
        for chosen in product(*grids)
    ]


def command(sweep: dict, job: dict) -> list[str]:
    """The arguments behind `python -m mindeye_pl`, filled in by W&B's own code."""
    words = create_sweep_command(list(sweep["command"]))
    assert words[:4] == ["${env}", "python", "-m", "mindeye_pl"]
    assert words[-1] == "${args_no_hyphens}"
    return [*words[4:-1], *create_sweep_command_args(job)["args_no_hyphens"]]


def test_the_files_of_the_repository_are_those_of_the_experiments(cli: CommandLine, tmp_path: Path) -> None:
    cli.compares = True  # the files hold the words of the command line
    code, _, err = cli("pipeline=wandb_sweeps", f"sweep.wandb_folder={tmp_path / 'made'}")
    assert code == 0, err
    assert sorted(path.stem for path in (ROOT / "sweeps").glob("*.yaml")) == SWEEPS
    for name in SWEEPS:
        made, kept = (
            yaml.safe_load((folder / f"{name}.yaml").read_text()) for folder in (tmp_path / "made", ROOT / "sweeps")
        )
        assert made == kept, "make them anew: python -m mindeye_pl pipeline=wandb_sweeps"


def test_overrides_of_every_job() -> None:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        sweep = wandb_sweeps.wandb_sweep("sweeps/hours_subj01", ["scale=tiny"])
        assert wandb_sweeps.wandb_sweep(f"sweeps/{WITHOUT_SCORE}") is None
    assert sweep is not None
    assert sweep["command"][-3:] == ["+experiment=sweeps/hours_subj01", "scale=tiny", "${args_no_hyphens}"]
    assert sweep["parameters"]["data.num_sessions"] == {"values": [0.5, 1, 2]}
    assert sweep["metric"] == {"name": "score/image_retrieval", "goal": "maximize"}


@pytest.mark.parametrize("name", SWEEPS)
def test_wandb_accepts_them(name: str) -> None:
    sweeps = pytest.importorskip("sweeps", reason="pip install --no-deps sweeps: W&B's own check of sweep files")
    content = yaml.safe_load((ROOT / "sweeps" / f"{name}.yaml").read_text())
    assert sweeps.schema_violations_from_proposed_config(content) == []
    assert sweeps.schema_violations_from_proposed_config(content | {"method": "guess"}) != []


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in SWEEPS])
def test_the_agents_first_and_last_command_lines_compose(name: str, cli: CommandLine) -> None:
    sweep = yaml.safe_load((ROOT / "sweeps" / f"{name}.yaml").read_text())
    every = jobs(sweep)
    for job in (every[0], every[-1]):
        words = command(sweep, job)
        assert words[0] == f"+experiment=sweeps/{name}"
        code, out, err = cli(*words, "scale=tiny", "plan=true")
        assert code == 0, err
        assert "will run" in out


def test_a_job_that_lacks_a_parameter_is_a_sweep_without_m(cli: CommandLine) -> None:
    cli.refuses(
        "+experiment=sweeps/hours_subj01",
        "seed=1",
        "scale=tiny",
        says=("is a sweep", "-m +experiment=sweeps/hours_subj01"),
    )


def test_all_sweep_syntaxes_of_hydra() -> None:
    written = {
        "1,2,3": [1, 2, 3],
        "range(1,4)": [1, 2, 3],
        "choice(a,b)": ["a", "b"],
        "glob(no_m*)": ["no_mixco"],
        "[1],[2,5]": ["[1]", "[2,5]"],
        "1.0,2.5": ["1.0", 2.5],  # as text, since the server may give 1 back
        "1": [1],
    }
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for words, values in written.items():
            found = [wandb_sweeps._plain(value) for value in sweep_values({"ablation": words})["ablation"]]
            assert found == values
            assert list(map(type, found)) == list(map(type, values))


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("hours_subj01", ["scale=tiny", "seed=7"]),
        *(pytest.param(name, [], marks=() if name in FEW else pytest.mark.slow) for name in SWEEPS),
    ],
)
def test_the_grid_is_that_of_hydras_own_sweeper(name: str, more: list[str]) -> None:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        sweep = wandb_sweeps.wandb_sweep(f"sweeps/{name}", more)
        assert sweep is not None
        given = [f"+experiment=sweeps/{name}", *more]
        config = wandb_sweeps.compose(wandb_sweeps.CONFIG_NAME, overrides=given, return_hydra_config=True)
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        params = [f"{key}={value}" for key, value in config.hydra.sweeper.params.items()]
        (basic,) = (one for one in Plugins.instance().discover(Sweeper) if one.__name__ == "BasicSweeper")
        (hydras,) = basic.split_arguments(parser.parse_overrides([*params, *given]), None)
    assert sorted(sorted(command(sweep, job)) for job in jobs(sweep)) == sorted(map(sorted, hydras))


def test_questions_of_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_sweeps, "conf_dir", lambda: tmp_path)
    (tmp_path / "experiment").mkdir()
    path = tmp_path / "experiment" / "mine.yaml"
    path.write_text("# @package _global_\n# python -m mindeye_pl -m +experiment=mine\n# One?\n# Two.\nseed: 1\n# No.\n")
    assert wandb_sweeps._question("mine") == "One? Two."
    path.write_text("# @package _global_\ndefaults: []\n")
    assert wandb_sweeps._question("mine") == "mine"


@pytest.mark.slow
def test_the_agents_run_has_the_score_also_when_it_was_made_before(
    cli: CommandLine, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_run, "_agent", {})
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_RUN_ID", "agents")
    code, out, err = cli("+experiment=finetune_subj01_1h", "scale=tiny", "logger.wandb.mode=offline")
    assert code == 0, err
    assert "evaluate: cached" in out
    assert "wandb sync" in out
    assert "-agents" in out
    records = offline_records(finished)
    assert list(records) == ["evaluate"]
    (record,) = records["evaluate"]
    assert (record.run.run_id, record.run.sweep_id) == ("agents", "sweep1")
    assert 0 <= record.summary["score/image_retrieval"] <= 1


def test_an_agent_metric_that_is_never_logged_is_refused(cli: CommandLine, tmp_path: Path) -> None:
    command = ("pipeline=wandb_sweeps", f"sweep.wandb_folder={tmp_path}", "sweep.agent_metric=pixcorr")
    cli.refuses(*command, says=("sweep.agent_metric", "pixcorr", "image_retrieval"))
