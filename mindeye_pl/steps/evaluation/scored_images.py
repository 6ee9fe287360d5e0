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
from mindeye_pl.steps.evaluation.foreign.images import (
    blurry_beside,
    check_reconstructions,
    companions,
    is_refined,
    read_reconstructions_of,
)
from mindeye_pl.steps.evaluation.foreign.layouts import table_beside
from mindeye_pl.steps.inputs.dataset import data_steps
from mindeye_pl.steps.inputs.splits import Split, split_name, test_data
from mindeye_pl.store.fingerprint import fingerprint, fingerprint_file


@dataclass(frozen=True)
class ScoredImages:
    """Reconstructions of the test images.

    Attributes:
        tensors: `stimulus_ids` `(n,)`, `images` `(n, 3, H, W)` in [0, 1], and the intermediates that there are.
        captions: of each image, None where there are none.
        are_refined: the images are refined ones of the published code, whose evaluation mixes the blurry ones in.
    """

    tensors: Mapping[str, Any]
    captions: list[str] | None
    are_refined: bool = False

    @property
    def stimulus_ids(self) -> np.ndarray:
        """Ids of the seen images, `(n,)` ascending."""
        return self.tensors["stimulus_ids"].numpy()


class Scored(Input):
    """The reconstructions that are scored; opened, `ScoredImages`."""

    artifact_type = RECONSTRUCTIONS

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the run's reconstruction; for images of the user's, `evaluate.reconstructions`, their test set."""
        if config.evaluate.reconstructions is None:
            return {"reconstruct": Made(RECONSTRUCT)}
        return {"data": test_data(config), "split": Split()}

    def fingerprint(self, config: DictConfig) -> str | None:
        """Return the fingerprint of the user's file, or of all files of the folder."""
        if config.evaluate.reconstructions is None:
            return None
        if (path := _existing(config)).is_file():
            return fingerprint({file.name: fingerprint_file(file) for file in (path, *companions(path))})
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        found = {str(file.relative_to(path)): fingerprint_file(file) for file in files}
        table = table_beside(path)  # perhaps beside the folder
        return fingerprint(found | ({} if table is None else {table.name: fingerprint_file(table)}))

    def check(self, config: DictConfig, parts: Inputs) -> None:
        """Check the user's images; against the test set too, unless a step makes it or clusters choose it."""
        if config.evaluate.reconstructions is None:
            return
        path = _existing(config)
        if data_steps(config) or split_name(config) is not None:
            check_reconstructions(path)
            _check_blurry(path, config)
        else:
            self.open(config, parts)

    def open(self, config: DictConfig, parts: Inputs) -> ScoredImages:
        """Return the images; those of the user's are refused where they do not fit the test set."""
        if "reconstruct" in parts:
            folder = parts["reconstruct"]
            return ScoredImages(read_reconstructions(folder), read_captions(folder))
        ids = parts["data"].test_ids(config.data.subject, config.data.test_split, parts["split"])
        path = _user_path(config)
        given = read_reconstructions_of(path, ids)
        tensors = {"stimulus_ids": torch.from_numpy(ids), "images": given.images}
        if not is_refined(path) or not config.protocol.blend:
            return ScoredImages(tensors, given.captions)
        _check_blurry(path, config)
        return ScoredImages(tensors | {"blurry_images": given.blurry}, given.captions, are_refined=True)


def _user_path(config: DictConfig) -> Path:
    return Path(config.evaluate.reconstructions).expanduser()


def _existing(config: DictConfig) -> Path:
    if not (path := _user_path(config)).exists():
        expected = "a folder or archive of PNG files, a published file, or the folder of a finished reconstruct step"
        raise UserError("evaluate.reconstructions does not exist", got=path, expected=expected)
    return path


def _check_blurry(path: Path, config: DictConfig) -> None:
    """Refuse refined images without the blurry ones that are mixed in."""
    if is_refined(path) and config.protocol.blend and not blurry_beside(path).is_file():
        raise UserError(
            f"{path} holds refined images, which the published evaluation mixes with blurry ones",
            got="no file of those beside it",
            expected=blurry_beside(path).name,
            fix="copy it there, or protocol.blend=0",
        )


def scored_label(config: DictConfig) -> str:
    """Return the label of artifacts that are made from the reconstructions."""
    given = config.evaluate.reconstructions
    return RECONSTRUCT.label(config) if given is None else f"subj{config.data.subject:02d}-{_user_path(config).stem}"
