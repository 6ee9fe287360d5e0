"""The data of a run: the simulated world made on demand, or the user's NSD, and what identifies either."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from hydra.utils import instantiate

from mindeye_pl.artifacts import ArtifactSpec
from mindeye_pl.data.files import check_files
from mindeye_pl.data.fingerprint import fingerprint_file, fingerprint_files
from mindeye_pl.data.layout import NSDLayout
from mindeye_pl.pipelines.step import Run, Step


def _spec(run: Run) -> ArtifactSpec:
    by = run.plain("simulation")
    return ArtifactSpec("simulate", f"{run.config.simulation.name}-seed{run.config.simulation.seed}", by)


def _build(run: Run, folder: Path) -> None:
    from mindeye_pl.data.simulated import simulate_nsd

    for left in folder.iterdir():  # a killed maker's files are not taken up: the world takes seconds
        _remove(left)
    simulate_nsd(instantiate(run.config.simulation, _convert_="all"), folder)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


SIMULATE = Step("simulate", _spec, lambda run: (), _build)


def makes_its_data(run: Run) -> bool:
    """Whether the run simulates its data, rather than reading a folder that the user names."""
    return run.config.data.source == "simulated" and run.config.data.root is None


def data_steps(run: Run) -> tuple[Step, ...]:
    """The step that other steps need for data; none where the user brings a folder."""
    return (SIMULATE,) if makes_its_data(run) else ()


def layout(run: Run) -> NSDLayout:
    """The data on disk, simulated now if need be."""
    if makes_its_data(run):
        return NSDLayout(run.make(SIMULATE).folder)
    return NSDLayout(Path(run.config.data.root or "nsd"))


def is_simulated(run: Run) -> bool:
    """Whether every number of this run has to say *simulated*."""
    return makes_its_data(run) or layout(run).simulation.exists()


def data_inputs(run: Run, subjects: Sequence[int], splits: Sequence[str] = ("train",)) -> dict[str, str]:
    """The fingerprint of the data of these subjects, as a spec's input; a world still to be simulated has one too."""
    if makes_its_data(run):
        return {"data": run.spec(SIMULATE).fingerprint}
    check_files(layout(run), subjects, splits)
    return {"data": fingerprint_files(layout(run), subjects, splits)}


def pictures_fingerprint(run: Run) -> str:
    """The fingerprint of the pictures file; a world still to be simulated has one too."""
    return run.spec(SIMULATE).fingerprint if makes_its_data(run) else fingerprint_file(layout(run).stimuli)
