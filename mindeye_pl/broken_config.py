"""Mistakes in a user's own configuration files that Hydra meets while it composes, in one line with file and line."""

import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from omegaconf import OmegaConf
from yaml import MarkedYAMLError, YAMLError

from mindeye_pl.errors import UserError

_FOLDER = re.compile(r"file://([^\s,\]'\"]+)|--config-dir[= ]([^\s]+)")


def mistake_in_config(error: Exception) -> UserError | None:
    """Return the user's view of an error while Hydra reads and composes files; None for an error of other origin."""
    if not _is_of_composition(error):
        return None
    if isinstance(error, YAMLError):
        return _of_yaml(error, "a configuration file")
    if isinstance(error, UnicodeDecodeError):
        return next(_unreadable(), None)
    if isinstance(error, RecursionError):
        return UserError(
            "configuration files include each other", got="endless defaults", expected="no file in its own"
        )
    return UserError("a configuration file is wrong", got=str(error) or type(error).__name__)


def _is_of_composition(error: Exception) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    composes = any(Path(frame.filename).match("hydra/_internal/config_loader_impl.py") for frame in frames)
    return composes and isinstance(error, (YAMLError, UnicodeDecodeError, RecursionError, ValueError, OSError))


def _of_yaml(error: YAMLError, name: str) -> UserError:
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    if mark is None:
        return UserError(f"{name} is no YAML", got=error)
    return UserError(f"{mark.name}, line {mark.line + 1}, is no YAML", got=getattr(error, "problem", error))


def _unreadable() -> Iterator[UserError]:
    """Yield the files below the user's folders of configuration that are no UTF-8."""
    for found in _FOLDER.finditer(" ".join(sys.argv[1:])):
        for path in sorted(Path(found[1] or found[2]).rglob("*.yaml")):
            try:
                OmegaConf.load(path)
            except UnicodeDecodeError as error:
                line = path.read_bytes()[: error.start].count(b"\n") + 1
                yield UserError(f"{path}, line {line}, is no UTF-8", got=f"byte {error.object[error.start]:#x}")
            except (OSError, YAMLError):
                continue
