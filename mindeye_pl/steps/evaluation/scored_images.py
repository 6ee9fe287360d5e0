"""Which reconstructions are scored: those that the run made, or those that the user names, and the brains beside them.

Legend: n test images, H and W image size.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mindeye_pl.data.nsd.test_set import TestSet, load_tested_trials
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.errors import UserError
from mindeye_pl.steps.brain.reconstruct import RECONSTRUCT, read_captions, read_reconstructions
from mindeye_pl.steps.brain.trials import subject_data
from mindeye_pl.steps.evaluation.sources.reconstructions import ForeignReconstructions, read_reconstructions_of
from mindeye_pl.steps.inputs.simulate import data_inputs, data_steps, layout
from mindeye_pl.steps.inputs.splits import left_out_images
from mindeye_pl.store.fingerprint import fingerprint, fingerprint_file


def scored_steps(run: Run) -> Sequence[Step]:
    """The step that makes the images; only the data where the user names some."""
    return (RECONSTRUCT,) if run.config.evaluate.reconstructions is None else data_steps(run)


def scored_identity(run: Run) -> tuple[str, dict[str, str]]:
    """A label, and the fingerprints of what is scored."""
    given = run.config.evaluate.reconstructions
    if given is None:
        spec = run.spec(RECONSTRUCT)
        return spec.label, {"reconstruct": spec.fingerprint}
    config, path = run.config, Path(given).expanduser()
    if not path.exists():
        raise UserError(
            "evaluate.reconstructions does not exist",
            got=path,
            expected="a folder of PNG files, a published .pt file, or the folder of a finished reconstruct step",
        )
    inputs = data_inputs(run, [config.data.subject], ("train", config.data.test_split))
    return f"subj0{config.data.subject}-{path.stem}", inputs | {"reconstructions": _fingerprint(path)}


def _fingerprint(path: Path) -> str:
    if path.is_file():
        return fingerprint_file(path)
    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    return fingerprint({str(file.relative_to(path)): fingerprint_file(file) for file in files})


def scored_images(run: Run) -> Mapping[str, Any]:
    """`stimulus_ids` `(n,)`, `images` `(n, 3, H, W)` in [0, 1], and the intermediates that there are.

    Raises:
        UserError: if images of the user's do not fit the test set.
    """
    if run.config.evaluate.reconstructions is None:
        return read_reconstructions(run.make(RECONSTRUCT))
    ids = test_ids(run)
    return {"stimulus_ids": torch.from_numpy(ids), "images": _foreign(run, ids).images}


def scored_captions(run: Run) -> list[str] | None:
    """The captions that belong to them, None where there are none."""
    if run.config.evaluate.reconstructions is None:
        return read_captions(run.make(RECONSTRUCT))
    return _foreign(run, test_ids(run)).captions


def _foreign(run: Run, ids: np.ndarray) -> ForeignReconstructions:
    return read_reconstructions_of(run.config.evaluate.reconstructions, ids)


def test_ids(run: Run) -> np.ndarray:
    """The test images of the run's subject, `(n,)` ascending."""
    config = run.config
    which = (layout(run), config.data.subject, config.data.test_split, Path(config.paths.cache))
    return np.unique(load_tested_trials(*which, left_out_images(run)).stimulus_ids)


def test_brains(run: Run) -> TestSet:
    """The measured responses to the test images, in the order of `test_ids`."""
    return subject_data(run).test_set(run.config.data.subject)
