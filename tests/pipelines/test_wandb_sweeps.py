"""W&B's sweep files are those of the experiments, W&B accepts them, and what its agent would run composes."""

from itertools import product
from pathlib import Path

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from mindeye_pl.config import conf_dir
from tests.conftest import CommandLine

ROOT = Path(__file__).parents[2]
SWEEPS = sorted(path.stem for path in (conf_dir() / "experiment" / "sweeps").glob("*.yaml"))


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
    code, _, err = cli("pipeline=wandb_sweeps", f"sweep.wandb_folder={tmp_path / 'made'}")
    assert code == 0, err
    assert sorted(path.stem for path in (ROOT / "sweeps").glob("*.yaml")) == SWEEPS
    for name in SWEEPS:
        made, kept = (
            yaml.safe_load((folder / f"{name}.yaml").read_text()) for folder in (tmp_path / "made", ROOT / "sweeps")
        )
        assert made == kept, "make them anew: python -m mindeye_pl pipeline=wandb_sweeps"


def test_what_every_job_gets(cli: CommandLine, tmp_path: Path) -> None:
    code, _, err = cli("pipeline=wandb_sweeps", "scale=tiny", f"sweep.wandb_folder={tmp_path}")
    assert code == 0, err
    sweep = yaml.safe_load((tmp_path / "hours_subj01.yaml").read_text())
    assert sweep["command"][-3:] == ["+experiment=sweeps/hours_subj01", "scale=tiny", "${args_no_hyphens}"]
    assert sweep["parameters"]["data.num_sessions"] == {"values": [0.5, 1, 2]}
    assert sweep["metric"] == {"name": "score/image_retrieval", "goal": "maximize"}


@pytest.mark.parametrize("name", SWEEPS)
def test_wandb_accepts_them(name: str) -> None:
    sweeps = pytest.importorskip("sweeps", reason="pip install --no-deps sweeps: W&B's own check of sweep files")
    content = yaml.safe_load((ROOT / "sweeps" / f"{name}.yaml").read_text())
    assert sweeps.schema_violations_from_proposed_config(content) == []
    assert sweeps.schema_violations_from_proposed_config(content | {"method": "guess"}) != []


@pytest.mark.parametrize("name", SWEEPS)
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
