"""Counts how often each test set was scored: a number that only grows, kept in the manifest of every evaluation.

Choosing by test scores is invisible in a single table. The count says how many different models and settings have been
scored on the same test images below one `paths.artifacts`.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mindeye_pl.engine.step import Input, Inputs, Work
from mindeye_pl.steps.inputs.dataset import Data
from mindeye_pl.steps.inputs.splits import divides_all_trials, split_settings
from mindeye_pl.store.artifacts import FACTS
from mindeye_pl.store.atomic import write_json
from mindeye_pl.store.fingerprint import fingerprint
from mindeye_pl.store.locks import held
from mindeye_pl.store.own_files import read_json

FILE = "test_evaluations.json"


@dataclass(frozen=True)
class OpenedLog:
    """The log of one test set."""

    path: Path
    test_set: str  # fingerprint of the subject's test images and the responses to them, 12 digits
    locks: str  # as the store's

    def count(self, work: Work) -> int:
        """Log that a step scores the test set; return the number of this evaluation, 1 for the first.

        The same evaluation, resumed after a kill or rebuilt after its artifact was removed, counts once. The manifest
        of the artifact gets `test_set` and `test_evaluations`.
        """
        with held(self.path.with_name(f".{self.path.name}.lock"), "the log of the test sets", locks=self.locks):
            log = _read(self.path)
            entries = log.setdefault(self.test_set, {})
            entries.setdefault(work.name, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
            write_json(self.path, log)
        step = work.name.partition("/")[0]
        count = [name for name in entries if name.startswith(f"{step}/")].index(work.name) + 1
        write_json(work.folder / FACTS, {"test_set": self.test_set, "test_evaluations": count})
        return count


def _read(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    fix = f"a copy of it, or rm {path}, which forgets how often each test set was scored"
    log: dict[str, dict[str, Any]] = read_json(path, dict[str, dict[str, Any]], fix=fix)
    return log


class TestSetLog(Input):
    """The log of the test set; opened, an `OpenedLog`. That a test set was scored changes no score."""

    __test__ = False

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the step that makes the data."""
        return _tested(config).parts(config)

    def open(self, config: DictConfig, parts: Inputs) -> OpenedLog:
        """Return the log."""
        data = parts["fingerprint"] if "fingerprint" in parts else _tested(config).fingerprint(config)
        by = {"data": data, "split": split_settings(config)}
        by |= {key: config.data[key] for key in ("subject", "test_split")}
        return OpenedLog(Path(config.paths.artifacts) / FILE, fingerprint(by)[:12], config.artifacts.locks)


def _tested(config: DictConfig) -> Data:
    splits = ("train", config.data.test_split) if divides_all_trials(config) else (config.data.test_split,)
    return Data((config.data.subject,), splits)
