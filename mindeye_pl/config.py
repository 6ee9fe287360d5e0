"""Where the configuration lies, the resolvers it uses, and the checks that no single group can make."""

import re
import shlex
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from mindeye_pl.conf_files import conf_dir
from mindeye_pl.errors import UserError

CONFIG_NAME = "config"


def register_resolvers() -> None:
    """Register `${other_subjects:all,one}`, `${wandb_mode:}`, and those of a laboratory's own recordings."""
    from mindeye_pl.tracking.mode import wandb_mode

    OmegaConf.register_new_resolver("other_subjects", _other_subjects, replace=True)
    OmegaConf.register_new_resolver("wandb_mode", wandb_mode, replace=True)
    OmegaConf.register_new_resolver("own_labels", _own_labels, replace=True)
    OmegaConf.register_new_resolver("own_start", _own_start, replace=True)


def _other_subjects(subjects: Iterable[int], subject: int) -> ListConfig:
    return ListConfig([other for other in subjects if other != subject])


def _own_labels(own: DictConfig) -> DictConfig:
    """The labels of the subjects whose betas are in `own.path`, by their numbers; one subject where there are none."""
    from mindeye_pl.data.own.folder import ONLY, StudyFolder

    found = [] if own.path is None else StudyFolder(Path(own.path), own.betas).subject_labels()
    return DictConfig(dict(enumerate(found or [ONLY], start=1)))


def _own_start(subjects: Iterable[int]) -> str:
    """The start of a fine-tuning: weights that other subjects trained, where there are others."""
    return "pretrained" if len(list(subjects)) > 1 else "scratch"


def command_line(hydra_config: Any) -> list[str]:
    """The overrides that compose this configuration again: the task's, and further folders of configuration."""
    folders = (item for item in hydra_config.overrides.hydra if item.startswith("hydra.searchpath="))
    return [*hydra_config.overrides.task, *folders]


def compose_config(overrides: list[str]) -> DictConfig:
    """The configuration that the command line `overrides` asks for, with or without a running Hydra application."""
    register_resolvers()
    if GlobalHydra.instance().is_initialized():
        return compose(CONFIG_NAME, overrides=overrides)
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="mindeye_pl"):
        return compose(CONFIG_NAME, overrides=overrides)


def sweep_values(params: Mapping[str, Any] | None) -> dict[str, list[str]]:
    """Return the values that Hydra's basic sweeper uses for each of `hydra.sweeper.params`: lists, ranges and globs."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    values = {}
    for one in parser.parse_overrides([f"{key}={value}" for key, value in (params or {}).items()]):
        swept = one.sweep_string_iterator() if one.is_sweep_override() else [one.get_value_element_as_str()]
        values[str(one.get_key_element())] = list(swept)
    return values


def experiment_overrides(experiment: str, overrides: Iterable[str]) -> list[str]:
    """Return the command line of another experiment under the overrides of this one.

    The subject, the amount of data and the start belong to an experiment and are not carried over. Overrides of its own
    follow its name: "finetune data.subject=2 data.num_sessions=all".
    """
    name, *its_own = shlex.split(experiment)
    own = ("+experiment", "experiment", "data.num_sessions", "data.subject", "finetune.start", "pipeline", "plan")
    fixed = tuple(f"{key}=" for key in (*own, *map(_key, its_own)))
    carried = (item for item in overrides if not item.startswith(fixed))
    return [f"+experiment={name}", *its_own, *carried]


def _key(override: str) -> str:
    return override.lstrip("+~").split("=", 1)[0]


def check_config(config: DictConfig) -> None:
    """Check a composed configuration before any step runs: every value by itself, then values against each other.

    Raises:
        UserError: for the first mistake.
    """
    # These import all that a run imports, which `--help` need not.
    from mindeye_pl.data.layout.splits import read_split
    from mindeye_pl.schema.nodes.root import Config
    from mindeye_pl.schema.validate import validate

    if HydraConfig.initialized():
        _check_sweep(HydraConfig.get())
    validate(config, Config)
    _check_subjects(config)
    read_split(config.data.split, config.data.get("listed_splits") or ())
    _check_evaluated(config.evaluate)
    _check_sweep_metric(config.sweep)


def _check_sweep(hydra_config: Any) -> None:
    experiment = hydra_config.runtime.choices.get("experiment")
    params = hydra_config.sweeper.get("params") or {}
    given = {_key(item) for item in hydra_config.overrides.task}
    if hydra_config.mode != RunMode.MULTIRUN and not given.issuperset(params):  # else it is one job of the sweep
        what, fix = f"+experiment={experiment} is a sweep of", f"python -m mindeye_pl -m +experiment={experiment}"
        raise UserError(f"{what} {', '.join(params)}", got="a single run", expected="a multirun", fix=fix)


def _check_subjects(config: DictConfig) -> None:
    subject, pretraining = config.data.subject, list(config.pretrain.subjects)
    known = list(config.data.subjects)
    for name, value in (("data.subject", subject), *(("pretrain.subjects", other) for other in pretraining)):
        if value not in known:
            raise UserError(f"{name} is unknown", got=value, expected=f"one of {known}", fix=f"{name}={known[0]}")
    if "finetune" in config.pipeline.steps and config.finetune.start == "pretrained" and subject in pretraining:
        what = f"subject {subject} is fine-tuned and also inside pretrain.subjects, which would leak its brain"
        fix = f"pretrain.subjects=[{','.join(map(str, _other_subjects(pretraining, subject)))}]"
        raise UserError(what, got=pretraining, expected=f"a list without {subject}", fix=fix)
    for name, subjects in (("pretrain.subjects", pretraining), ("data.subjects", known)):
        if len(once := list(dict.fromkeys(subjects))) != len(subjects):
            fix = f"{name}=[{','.join(map(str, once))}]"
            raise UserError(f"{name} names a subject twice", got=subjects, expected="each once", fix=fix)


def _check_evaluated(evaluate: DictConfig) -> None:
    if evaluate.low_level_checkpoint is not None and evaluate.checkpoint is None:
        what = "evaluate.low_level_checkpoint needs evaluate.checkpoint"
        expected = "the checkpoint that the low-level model belongs to"
        fix = "evaluate.low_level_checkpoint=null, or evaluate.checkpoint=PATH"
        raise UserError(what, got="evaluate.checkpoint=null", expected=expected, fix=fix)


def _check_sweep_metric(sweep: DictConfig) -> None:
    metric, columns = sweep.metric, list(sweep.columns)
    if metric not in columns:
        expected = f"one of {columns}, which sweep.columns lists"
        fix = f"sweep.metric={(get_close_matches(metric, columns) or columns)[0]}"
        raise UserError("sweep.metric is no column of the sweep's table", got=metric, expected=expected, fix=fix)


def _leads_elsewhere(names: str) -> bool:
    """Return whether a name, or one of several that are swept, is an absolute path or has a part such as `..`."""
    absolute = re.search(r"(^|[^\w.+-])/", names)
    return absolute is not None or any(part.startswith(".") for part in re.split(r"[^\w.+-]+", names))


def check_command_line(arguments: Iterable[str]) -> None:
    """Refuse, before Hydra composes anything, a key that is given twice and a config group that is set to null.

    The experiment names folders of results, so that it is refused as a path too, before Hydra makes the first of them.
    """
    given: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.lstrip("+").partition("=")
        if not equals or argument.startswith("-"):
            continue
        if key in given:
            raise UserError(f"{key} is given twice", got=f"{given[key]} and {argument}", expected="one value")
        given[key] = argument
        if key.strip("/").partition("@")[0] == "experiment" and _leads_elsewhere(value):
            expected, fix = "NAME, or sweeps/NAME", "--config-dir=DIR, which has your own in its folder experiment"
            raise UserError(
                "experiment is no name below the folder of experiments", got=value, expected=expected, fix=fix
            )
        if value not in ("", "null") or key.startswith("hydra"):
            continue
        if options := sorted(path.stem for path in (conf_dir() / key).glob("*.yaml")):
            what, expected = f"{key} is a config group, whose options are files", f"one of {', '.join(options)}"
            fix = f"{key}={'none' if 'none' in options else options[0]}"
            raise UserError(what, got=argument, expected=expected, fix=fix)
