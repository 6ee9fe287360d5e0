"""The data of a run: the simulated world or MindEye1's files, made readable on demand, or the user's NSD as it is."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from hydra.utils import instantiate

from mindeye_pl.data.nsd.captions import LAYOUT
from mindeye_pl.data.nsd.files import check_files
from mindeye_pl.data.nsd.fingerprint import fingerprint_files
from mindeye_pl.data.nsd.layout import NSDLayout
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.errors import UserError
from mindeye_pl.steps.inputs.convert_mindeye1 import CONVERT_MINDEYE1, is_converted
from mindeye_pl.store.artifacts import ArtifactSpec
from mindeye_pl.store.fingerprint import fingerprint_file


def _spec(run: Run) -> ArtifactSpec:
    by = run.plain("simulation")
    return ArtifactSpec("simulate", f"{run.config.simulation.name}-seed{run.config.simulation.seed}", by)


def _build(run: Run, folder: Path) -> None:
    from mindeye_pl.data.simulated.world import simulate_nsd

    for left in folder.iterdir():  # a killed maker's files are not taken up: the world takes seconds
        _remove(left)
    simulate_nsd(instantiate(run.config.simulation, _convert_="all"), folder)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


SIMULATE = Step("simulate", _spec, lambda run: (), _build)


def made_by(run: Run) -> Step | None:
    """The step that makes the run's data; None where they are read from a folder that the user names."""
    if is_converted(run):
        return CONVERT_MINDEYE1
    return SIMULATE if run.config.data.source == "simulated" and run.config.data.root is None else None


def data_steps(run: Run) -> tuple[Step, ...]:
    """The step that other steps need for data; none where the user brings a folder."""
    step = made_by(run)
    return () if step is None else (step,)


def layout(run: Run) -> NSDLayout:
    """The data on disk, made now if need be."""
    step = made_by(run)
    return NSDLayout(Path(run.config.data.root or "nsd") if step is None else run.make(step).folder)


def is_simulated(run: Run) -> bool:
    """Whether every number of this run has to say *simulated*."""
    step = made_by(run)
    return layout(run).simulation.exists() if step is None else step is SIMULATE


def data_inputs(run: Run, subjects: Sequence[int], splits: Sequence[str] = ("train",)) -> dict[str, str]:
    """The fingerprint of the data of these subjects, as a spec's input; data still to be made have one too."""
    if (step := made_by(run)) is not None:
        return {"data": run.spec(step).fingerprint}
    check_files(layout(run), subjects, splits)
    return {"data": fingerprint_files(layout(run), subjects, splits)}


def captions_fingerprint(run: Run) -> str:
    """The fingerprint of the images' captions; those that a step has still to make have one too.

    Raises:
        UserError: if the user's data have none.
    """
    if (step := made_by(run)) is not None:
        return run.spec(step).fingerprint
    path = layout(run).captions
    if not path.is_file():
        raise UserError(
            "data have no captions",
            got=f"no {path.name} in {path.parent}",
            expected=LAYOUT,
            fix="docs/data.md says more",
        )
    return fingerprint_file(path)


def images_fingerprint(run: Run) -> str:
    """The fingerprint of the images file; one that a step has still to make has one too."""
    step = made_by(run)
    return fingerprint_file(layout(run).stimuli) if step is None else run.spec(step).fingerprint
