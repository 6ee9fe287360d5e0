"""Fixtures that several folders use: the tiny simulated NSD, and the command line run in this process."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from pytorch_lightning import Trainer
from safetensors.torch import load_file

from mindeye_pl import cli as command_line
from mindeye_pl.config import compose_config
from mindeye_pl.data.simulated.world import SimulationSettings, simulate_nsd
from mindeye_pl.engine.run import Run
from mindeye_pl.steps.inputs.simulate import SIMULATE
from mindeye_pl.training.callbacks.history import History
from tests import composition, forked

# Hypothesis keeps its examples beside the tests otherwise; a test run leaves nothing behind.
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(Path(tempfile.gettempdir()) / "mindeye_pl_hypothesis"))

# And so with the digests of large files.
os.environ.setdefault("MINDEYE_CACHE", str(Path(tempfile.gettempdir()) / "mindeye_pl_cache"))

CONF = Path(__file__).parents[1] / "conf"


@pytest.fixture(scope="session", autouse=True)
def _compositions() -> Iterator[None]:
    with composition.remembered():
        yield


@pytest.fixture(scope="session")
def tiny_settings() -> SimulationSettings:
    """The settings of `simulation=tiny`."""
    settings = OmegaConf.to_container(OmegaConf.load(CONF / "simulation" / "tiny.yaml"), resolve=True)
    assert isinstance(settings, dict)
    assert settings.pop("_target_") == "mindeye_pl.data.simulated.world.SimulationSettings"
    return SimulationSettings(**settings)


@pytest.fixture(scope="session")
def tiny_nsd(tiny_settings: SimulationSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny simulated NSD, made once for each testing process and not to be changed."""
    root = tmp_path_factory.mktemp("tiny_nsd")
    simulate_nsd(tiny_settings, root, workers=1, progress=False)
    return root


#: Without the rows of other experiments, each of which is composed to be looked for.
ALONE = "report.compare=[]"


#: What the finished tiny run has printed.
PRINTED = "printed.txt"


class CommandLine:
    """Runs `python -m mindeye_pl ARGS` with its results below one folder.

    Attributes:
        outputs: the folder.
        compares: whether the table has the rows of other experiments; they take a third of a tiny run's time.
    """

    def __init__(self, outputs: Path, capture: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
        self.outputs, self._capture, self._monkeypatch = outputs, capture, monkeypatch
        self.compares = False

    def __call__(self, *args: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        GlobalHydra.instance().clear()
        more = [f"paths.outputs={self.outputs}"] + ([] if self.compares else [ALONE])
        self._monkeypatch.setattr(sys, "argv", ["mindeye_pl", *forked.last_of_each_key(*args, *more)])
        self._capture.readouterr()
        try:
            command_line.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = self._capture.readouterr()
        return code, out, err

    def refuses(self, *args: str, says: tuple[str, ...]) -> None:
        """The command ends with exit code 2 and one line that says all of `says`; no finished artifact changes."""
        before = self.artifacts()
        code, _, err = self(*args)
        lines = [line for line in err.splitlines() if line.strip()]
        assert code == 2, err
        assert len(lines) == 1, err
        assert "Traceback" not in err
        for words in says:
            assert words in lines[0], f"{words!r} not in {lines[0]!r}"
        after = self.artifacts()
        assert {name: after[name] for name in before} == before

    def made(self, step: str) -> Path:
        """The only finished artifact of a step."""
        (folder,) = (self.outputs / "artifacts" / step).glob("[!.]*")
        return folder

    def ends_in_the_same_weights(self, *args: str, step: str, file: str, stops: tuple[int, ...], epochs: int) -> None:
        """Check that `step` writes the same `file` after a training that was stopped where epochs `stops` begin."""
        assert self(*args)[0] == 0
        alone, begin = load_file(self.made(step) / file), History.on_train_epoch_start
        for epoch in stops:
            done = self.made(step)
            done.rename(done.with_name(f".before-{epoch}"))

            def stop(history: History, trainer: Trainer, module: Any, epoch: int = epoch) -> None:
                begin(history, trainer, module)
                if trainer.current_epoch == epoch:
                    raise RuntimeError("killed")

            with self._monkeypatch.context() as patch:
                patch.setattr(History, "on_train_epoch_start", stop)
                with pytest.raises(RuntimeError, match="killed"):
                    self(*args)
            code, out, err = self(*args)
            assert code == 0, err
            assert f"resuming after epoch {epoch}, for {epochs} epochs" in out
            again = load_file(self.made(step) / file)
            assert again.keys() == alone.keys()
            for name, value in alone.items():
                assert torch.equal(again[name], value), name

    def artifacts(self) -> dict[str, int]:
        """Every file of a finished artifact, with its modification time."""
        files = (self.outputs / "artifacts").rglob("*")
        return {str(p): p.stat().st_mtime_ns for p in files if p.is_file() and "/." not in str(p)}


def made_once(name: str, worker: str, factory: pytest.TempPathFactory, make: Callable[[Path], None]) -> Path:
    """The folder `name` after `make`, which one of the testing processes does for all of them."""
    if worker == "master":
        make(folder := factory.mktemp(name))
        return folder
    folder = factory.getbasetemp().parent / name  # above the processes' own
    with FileLock(folder.with_suffix(".lock")):
        if not folder.with_suffix(".done").exists():
            folder.mkdir()
            make(folder)
            folder.with_suffix(".done").touch()
    return folder


@pytest.fixture(scope="session")
def laboratory(worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared store with the tiny world in it, which then need not be simulated for each test."""

    def make(folder: Path) -> None:
        overrides = ["scale=tiny", f"paths.artifacts={folder}"]
        Run(compose_config(overrides), overrides).make(SIMULATE)

    return made_once("laboratory", worker_id, tmp_path_factory, make)


@pytest.fixture
def cli(
    tmp_path: Path, laboratory: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    """The command line with fresh outputs, but for the tiny world."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINDEYE_ARTIFACTS", str(laboratory))
    return CommandLine(tmp_path / "outputs", capfd, monkeypatch)


@pytest.fixture(scope="session")
def finished_outputs(worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of one finished tiny run, made once; copy before writing into it."""

    def make(folder: Path) -> None:
        command = ("+experiment=finetune_subj01_1h", "scale=tiny", "logger=none", f"paths.outputs={folder}", ALONE)
        (folder / PRINTED).write_text(forked.run(*command, folder=folder))

    return made_once("finished", worker_id, tmp_path_factory, make)


@pytest.fixture
def finished(finished_outputs: Path, cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a finished tiny run, which has a world of its own, as the outputs of `cli`."""
    monkeypatch.delenv("MINDEYE_ARTIFACTS")
    shutil.copytree(finished_outputs, cli.outputs, symlinks=True)
    return cli.outputs
