"""W&B's sweep files, generated from the sweep experiments.

Each job of W&B's agent is one command line of the sweep: the experiment, and a value for every swept parameter.
"""

import contextlib
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from hydra import compose
from omegaconf import DictConfig, OmegaConf

from mindeye_pl.conf_files import conf_dir
from mindeye_pl.config import CONFIG_NAME, sweep_values
from mindeye_pl.console import console
from mindeye_pl.errors import UserError
from mindeye_pl.steps.evaluation.retrieval import EVALUATE
from mindeye_pl.store.atomic import write_text

#: W&B's agent waits for the run of the step `evaluate`.
SCORES_OF_EVALUATE = ("image_retrieval", "brain_retrieval", "image_retrieval_full", "brain_retrieval_full")
#: Name in `pipeline.steps`.
WANDB_SWEEPS = "wandb_sweeps"

_HEAD = "# Made by `python -m mindeye_pl pipeline=wandb_sweeps{more}`; start it with `wandb sweep {path}`.\n"
#: Overrides of this command, which the jobs do not get.
_OWN = ("pipeline=", "sweep.wandb_folder=", "paths.", "plan=", "logger")


def write_wandb_sweeps(config: DictConfig, overrides: Sequence[str]) -> list[Path]:
    """Write `NAME.yaml` for every experiment of `conf/experiment/sweeps` into `sweep.wandb_folder`; return the paths.

    Overrides that are not about this command, for example `scale=paper`, are given to each job.
    """
    more = [item for item in overrides if not item.startswith(_OWN)]
    folder = Path(config.sweep.wandb_folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for source in sorted((conf_dir() / "experiment" / "sweeps").glob("*.yaml")):
        path = folder / source.name
        head = _HEAD.format(more="".join(f" {item}" for item in more), path=path.as_posix())
        if (content := wandb_sweep(f"sweeps/{source.stem}", more)) is None:
            continue
        write_text(path, head + yaml.safe_dump(content, sort_keys=False, width=120))
        paths.append(path)
        console.print(f"{path}")
    return paths


def wandb_sweep(experiment: str, more: Sequence[str] = ()) -> dict[str, Any] | None:
    """Return one sweep in W&B's own format: a grid over the parameters of `hydra.sweeper.params`.

    None for a sweep whose jobs evaluate nothing, because W&B's agent would wait for a score. Every job gets `more`
    overrides, for example `scale=paper`; they beat the sweep, as they do under `-m`.

    Raises:
        UserError: if `sweep.agent_metric` is not a score of the agent's run.
    """
    config = compose(CONFIG_NAME, overrides=[f"+experiment={experiment}", *more], return_hydra_config=True)
    if EVALUATE.name not in config.pipeline.steps:
        return None
    if (metric := config.sweep.agent_metric) not in SCORES_OF_EVALUATE:
        what = "sweep.agent_metric is not a score of the run that W&B's agent waits for"
        expected, fix = f"one of {list(SCORES_OF_EVALUATE)}", "sweep.agent_metric=image_retrieval"
        raise UserError(what, got=metric, expected=expected, fix=fix)
    given = {item.lstrip("+~").split("=", 1)[0] for item in more}
    swept = sweep_values(config.hydra.sweeper.params)
    return {
        "name": experiment.replace("/", "-"),
        "description": _question(experiment),
        "project": OmegaConf.select(config, "logger.wandb.project", default="mindeye_pl"),
        "method": "grid",
        "metric": {"name": f"score/{metric}", "goal": "maximize"},
        # W&B refuses the experiment's plus sign in a parameter's name.
        "command": ["${env}", "python", "-m", "mindeye_pl", f"+experiment={experiment}", *more, "${args_no_hyphens}"],
        "parameters": {
            key: {"values": [_plain(value) for value in values]}
            for key, values in swept.items()
            if key.lstrip("+") not in given
        },
    }


def _plain(value: str) -> int | float | str:
    """Return a number if it is written in the same way, so that the command line stays the same.

    A whole number with a point stays text: W&B's server may return it without the point.
    """
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            number = kind(value)
            if str(number) == value and (kind is int or not float(number).is_integer()):
                return number
    return value


def _question(experiment: str) -> str:
    """Return the experiment file's first comment without the command, or its name if it has none."""
    lines = (conf_dir() / "experiment" / f"{experiment}.yaml").read_text(encoding="utf-8").splitlines()
    comment = [line.removeprefix("# ") for line in takewhile(lambda line: line.startswith("#"), lines)]
    return " ".join(line for line in comment if not line.startswith(("@package", "python -m"))) or experiment
