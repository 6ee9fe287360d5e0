"""The reconstructions that are scored: those that the run made, or those that the user names.

Legend: n test images, H and W image size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from mindeye_pl.engine.step import RECONSTRUCTIONS, Input, Inputs, Made
from mindeye_pl.errors import UserError
from mindeye_pl.steps.brain.reconstruct import RECONSTRUCT, read_captions, read_reconstructions
from mindeye_pl.steps.evaluation.foreign_images import read_reconstructions_of
from mindeye_pl.store.fingerprint import fingerprint, fingerprint_file


@dataclass(frozen=True)
class ScoredImages:
    """Reconstructions of the test images.

    Attributes:
        tensors: `stimulus_ids` `(n,)`, `images` `(n, 3, H, W)` in [0, 1], and the intermediates that there are.
        captions: of each image, None where there are none.
    """

    tensors: Mapping[str, Any]
    captions: list[str] | None

    @property
    def stimulus_ids(self) -> np.ndarray:
        """Ids of the seen images, `(n,)` ascending."""
        return self.tensors["stimulus_ids"].numpy()


@dataclass(frozen=True)
class GivenReconstructions(Input):
    """Reconstructions that the user names, `evaluate.reconstructions`; opened, their path."""

    artifact_type = RECONSTRUCTIONS

    def fingerprint(self, config: DictConfig) -> str:
        """Return the fingerprint of the file, or of all files of the folder.

        Raises:
            UserError: if there is no such file or folder.
        """
        path = _user_path(config)
        if not path.exists():
            raise UserError(
                "evaluate.reconstructions does not exist",
                got=path,
                expected="a folder of PNG files, a published .pt file, or the folder of a finished reconstruct step",
            )
        if path.is_file():
            return fingerprint_file(path)
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        return fingerprint({str(file.relative_to(path)): fingerprint_file(file) for file in files})

    def open(self, config: DictConfig, parts: Inputs) -> Path:
        """Return the path."""
        return _user_path(config)


def _user_path(config: DictConfig) -> Path:
    return Path(config.evaluate.reconstructions).expanduser()


def scored_input(config: DictConfig) -> dict[str, Input]:
    """Return the reconstructions of a run as an input."""
    if config.evaluate.reconstructions is None:
        return {"reconstruct": Made(RECONSTRUCT)}
    return {"reconstructions": GivenReconstructions()}


def scored_label(config: DictConfig) -> str:
    """Return the label of artifacts that are made from the reconstructions."""
    given = config.evaluate.reconstructions
    return RECONSTRUCT.label(config) if given is None else f"subj0{config.data.subject}-{_user_path(config).stem}"


def read_scored(inputs: Inputs, subject: int, test_split: str) -> ScoredImages:
    """Return the reconstructions.

    Args:
        inputs: `scored_input`, `data` and `split`.
        subject: whose test set it is.
        test_split: of the data.

    Raises:
        UserError: if the user's images do not fit the test set.
    """
    if "reconstruct" in inputs:
        folder = inputs["reconstruct"]
        return ScoredImages(read_reconstructions(folder), read_captions(folder))
    ids = inputs["data"].test_ids(subject, test_split, inputs["split"])
    given = read_reconstructions_of(inputs["reconstructions"], ids)
    return ScoredImages({"stimulus_ids": torch.from_numpy(ids), "images": given.images}, given.captions)
