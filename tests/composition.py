"""Compositions of `conf` in a tenth of the time: what tests compose again is remembered, and copied."""

import pickle
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hydra._internal import config_loader_impl as loader
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.defaults_list import DefaultsList, Overrides
from hydra._internal.hydra import Hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.default_element import InputDefault, ResultDefault
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.grammar_parser import parse

from mindeye_pl.conf_files import conf_dir

CONF = conf_dir()


@contextmanager
def remembered() -> Iterator[None]:
    """Remember files of `conf`, defaults lists by their choices, and the configurations that these make.

    Folders of a user are read each time, and values of a command line applied each time. A command is not composed a
    first time for its `hydra.mode` alone, which no file of `conf` sets.
    """
    load, single, whole = (
        OmegaConf.load,
        ConfigLoaderImpl._load_single_config,
        ConfigLoaderImpl._compose_config_from_defaults_list,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("omegaconf.base.parse", lru_cache(maxsize=None)(parse))
        patch.setattr(Hydra, "get_mode", _mode)
        patch.setattr(OmegaConf, "load", _copied(load, _file_of_conf))
        patch.setattr(ConfigLoaderImpl, "_load_single_config", _copied(single, _embedded))
        patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", _copied(whole, _composed))
        patch.setattr(loader, "create_defaults_list", _listed_once(defaults_list.create_defaults_list))
        choices = _choices_where_read(defaults_list._create_interpolation_map)
        patch.setattr(defaults_list, "_create_interpolation_map", choices)
        yield


def _copied(make: Callable[..., Any], key_of: Callable[..., Hashable | None]) -> Callable[..., Any]:
    """Make once for each key, and every time where the key is None."""
    made = dict[Hashable, bytes]()

    def make_once(*args: Any, **kwargs: Any) -> Any:
        key = key_of(*args, **kwargs)
        if key is None:
            return make(*args, **kwargs)
        if key not in made:
            made[key] = pickle.dumps(make(*args, **kwargs))
        return pickle.loads(made[key])  # a copy, in a quarter of the time of `deepcopy`

    return make_once


def _file_of_conf(file: Any) -> str | None:
    name = str(getattr(file, "name", file))
    return name if Path(name).is_relative_to(CONF) else None


def _embedded(_: ConfigLoader, default: ResultDefault, repo: IConfigRepository) -> str | None:
    return repr(default) if _reads_conf_alone(repo) else None


def _composed(_: ConfigLoader, defaults: list[ResultDefault], repo: IConfigRepository) -> tuple[str, ...] | None:
    return tuple(map(repr, defaults)) if _reads_conf_alone(repo) else None


def _reads_conf_alone(repo: IConfigRepository) -> bool:
    return [Path(source.path) for source in repo.get_sources() if source.scheme() == "file"] == [CONF]


def _mode(_: Hydra, config_name: str | None, overrides: list[str]) -> RunMode | None:
    given = [item.partition("=")[2] for item in overrides if item.startswith("hydra.mode=")]
    return RunMode[given[-1]] if given else None


def _listed_once(create: Callable[..., DefaultsList]) -> Callable[..., DefaultsList]:
    """Defaults lists depend on the overrides that choose an option of a group, and on no others."""
    made = dict[Hashable, DefaultsList]()

    def create_once(repo: IConfigRepository, overrides_list: list[Override], **options: Any) -> DefaultsList:
        if not _reads_conf_alone(repo):
            return create(repo=repo, overrides_list=overrides_list, **options)
        choices = [one.input_line for one in overrides_list if repo.group_exists(one.key_or_group)]
        key = (*choices, *sorted(options.items()))
        if key not in made:
            made[key] = create(repo=repo, overrides_list=overrides_list, **options)
        return replace(made[key], config_overrides=Overrides(repo, overrides_list).config_overrides)

    return create_once


def _choices_where_read(create: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    """The choices for interpolations in a file's defaults list: few files have any, and Hydra makes them for all."""

    def create_where_read(overrides: Overrides, defaults: list[InputDefault], self_added: bool) -> DictConfig:
        if any(one.is_interpolation() for one in defaults):
            return create(overrides, defaults, self_added)
        return OmegaConf.create({})

    return create_where_read
