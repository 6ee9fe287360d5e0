"""Where the configuration lies, the resolvers it uses, and the checks that no single group can make."""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.errors import UserError

CONFIG_NAME = "config"

#: Top-level keys whose content belongs to a library or to the user, so that any key may stand below them.
_OPEN_NODES = frozenset({"trainer", "callbacks", "logger"})


def conf_dir() -> Path:
    """The folder of the configuration: inside an installed package, else at the repository's top."""
    packaged = Path(__file__).parent / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "conf"


def register_resolvers() -> None:
    """Makes `${other_subjects:all,one}` and `${wandb_mode:}` known to OmegaConf."""
    from mindeye_pl.tracking.mode import wandb_mode

    OmegaConf.register_new_resolver("other_subjects", _other_subjects, replace=True)
    OmegaConf.register_new_resolver("wandb_mode", wandb_mode, replace=True)


def _other_subjects(subjects: Iterable[int], subject: int) -> list[int]:
    return [other for other in subjects if other != subject]


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
    """What Hydra's basic sweeper goes through for each of `hydra.sweeper.params`: lists, ranges and globs alike."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    parsed = parser.parse_overrides([f"{key}={value}" for key, value in (params or {}).items()])
    return {
        str(one.get_key_element()): list(one.sweep_string_iterator())
        if one.is_sweep_override()
        else [str(one.get_value_element_as_str())]
        for one in parsed
    }


def experiment_overrides(experiment: str, overrides: Iterable[str]) -> list[str]:
    """Return the command line of another experiment under the overrides of this one.

    The subject, the amount of data and the start belong to an experiment and are not carried over.

    Args:
        experiment: its name, and its own overrides after it: "finetune data.subject=2 data.num_sessions=all".
        overrides: the command line of this run.
    """
    name, *its_own = shlex.split(experiment)
    own = (
        "+experiment=",
        "experiment=",
        "data.num_sessions=",
        "data.subject=",
        "finetune.start=",
        "pipeline=",
        "plan=",
    )
    carried = (item for item in overrides if not item.startswith((*own, *(f"{_key(one)}=" for one in its_own))))
    return [f"+experiment={name}", *its_own, *carried]


def _key(override: str) -> str:
    return override.lstrip("+~").split("=", 1)[0]


def check_config(config: DictConfig) -> None:
    """The checks across groups; called before any step runs.

    Raises:
        UserError: for a sweep experiment without `-m`, a key that no group declares, an unknown subject, a fine-tuning
            subject inside the pretraining set, an unknown part in `finetune.trainable`, an unknown split.
    """
    if HydraConfig.initialized():
        _check_sweep(HydraConfig.get())
        _check_keys(config, HydraConfig.get())
    _check_subjects(config)
    _check_split(config)


def _check_sweep(hydra_config: Any) -> None:
    experiment = hydra_config.runtime.choices.get("experiment")
    params = hydra_config.sweeper.get("params") or {}
    given = {item.lstrip("+").split("=", 1)[0] for item in hydra_config.overrides.task}
    if hydra_config.mode != RunMode.MULTIRUN and not given.issuperset(params):  # else it is one job of the sweep
        raise UserError(
            f"+experiment={experiment} is a sweep of {', '.join(params)}",
            got="a single run",
            expected="a multirun",
            fix=f"python -m mindeye_pl -m +experiment={experiment}",
        )


def _check_keys(config: DictConfig, hydra_config: Any) -> None:
    """Refuses keys that no group declares: Hydra merges a typo inside an experiment's body without a word."""
    experiment = hydra_config.runtime.choices.get("experiment")
    choices = {
        group: choice
        for group, choice in hydra_config.runtime.choices.items()
        if group not in ("experiment", "ablation") and not group.startswith("hydra") and "@" not in group
    }
    added = [
        item for item in hydra_config.overrides.task if item.startswith("+") and not item.startswith("+experiment")
    ]
    ablation = hydra_config.runtime.choices.get("ablation")
    if experiment is None and ablation == "none" and not added:
        return  # Hydra itself refuses unknown keys on the command line
    sources = tuple(source.path for source in hydra_config.runtime.config_sources)
    known = _known_keys(tuple(f"{group}={choice}" for group, choice in choices.items() if choice), sources)
    for key in _leaf_keys(config):
        if key not in known and not any(key.startswith(prefix + ".") for prefix in _OPEN_NODES):
            by_user = any(item.lstrip("+").startswith(key) for item in added)
            where = "the command line" if by_user else f"experiment={experiment} or ablation={ablation}"
            raise UserError(
                f"unknown key in {where}", got=key, expected=_nearest(key, known), fix=f"correct or remove `{key}`"
            )


@lru_cache
def _known_keys(choices: tuple[str, ...], sources: tuple[str, ...]) -> frozenset[str]:
    """The keys that options of groups declare, kept for the jobs of a sweep; `sources` are where the options lie."""
    return frozenset(_leaf_keys(compose_config(list(choices))))


def _leaf_keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in node:
        child = node._get_node(key)
        path = f"{prefix}{key!s}"
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_interpolation():
            yield from _leaf_keys(child, f"{path}.")
        yield path


def _nearest(key: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    matches = get_close_matches(key, known, n=1, cutoff=0.5)
    return matches[0] if matches else "a key of `python -m mindeye_pl --cfg job`"


def _check_subjects(config: DictConfig) -> None:
    subject, pretraining = config.data.subject, list(config.pretrain.subjects)
    known = list(config.data.subjects)
    for name, value in (("data.subject", subject), *(("pretrain.subjects", other) for other in pretraining)):
        if value not in known:
            raise UserError(f"{name} is unknown", got=value, expected=f"one of {known}", fix=f"{name}={known[0]}")
    if "finetune" in config.pipeline.steps and config.finetune.start == "pretrained" and subject in pretraining:
        others = ",".join(str(other) for other in pretraining if other != subject)
        raise UserError(
            f"subject {subject} is fine-tuned and also inside pretrain.subjects, which would leak its brain",
            got=pretraining,
            expected=f"a list without {subject}",
            fix=f"pretrain.subjects=[{others}]",
        )
    if len(set(pretraining)) != len(pretraining):
        raise UserError("pretrain.subjects names a subject twice", got=pretraining, expected="each once")
    if config.data.source == "nsd" and not set(known) <= set(nsd.SUBJECTS):
        raise UserError("data.subjects", got=known, expected=f"some of {list(nsd.SUBJECTS)}")


def _check_split(config: DictConfig) -> None:
    from mindeye_pl.data.nsd.splits import read_split

    read_split(config.data.split)
