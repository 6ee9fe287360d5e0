"""Files of THINGS-fMRI: `betas_csv/sub-01_ResponseData.h5`, `_StimulusMetadata.csv`, `_VoxelMetadata.csv`, and images.

Legend: T trials of a subject, W voxels in its files, V those that are kept.
"""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from mindeye_pl.data.image_sources import read_pixels
from mindeye_pl.data.layout.hdf5 import names_in, open_dataset
from mindeye_pl.data.released.preparation import Preparation, Recorded, noise_ceiling_to_ncsnr
from mindeye_pl.data.released.tables import numbers, read_table
from mindeye_pl.errors import UserError

_GROUP = "ResponseData"
#: Column of the noise ceiling for the average of the presentations of a test image, and how many these are.
_CEILING, _REPETITIONS = "nc_testset", 12
#: Voxels of a session in memory at once.
_VOXELS_PER_BLOCK = 16_384

#: Regions whose voxels are kept: retinotopic and category-selective ones, not those of the Glasser atlas.
_REGIONS = (
    *("V1", "V2", "V3", "hV4", "VO1", "VO2", "LO1 (prf)", "LO2 (prf)", "TO1", "TO2", "V3b", "V3a"),
    *("lEBA", "rEBA", "lFFA", "rFFA", "lOFA", "rOFA", "lSTS", "rSTS", "lPPA", "rPPA", "lRSC", "rRSC"),
    *("lTOS", "rTOS", "lLOC", "rLOC", "IT"),
)


class Things(Preparation):
    """Voxels are those of `voxel_regions`, by default 29 visual regions, about 17,000 of 211,000."""

    def _file(self, subject: int, name: str) -> Path:
        folder = self.folder if self.folder.name == "betas_csv" else self.folder / "betas_csv"
        return folder / f"sub-{subject:02d}_{name}"

    def _image(self, concept: str, name: str) -> Path:
        folder = self.folder.parent if self.folder.name == "betas_csv" else self.folder
        return folder / "object_images" / concept / name

    def files(self) -> list[Path]:
        """Return tables, responses and images."""
        names = ("ResponseData.h5", "StimulusMetadata.csv", "VoxelMetadata.csv")
        found = [self._file(subject, name) for subject in self.subjects for name in names]
        return found + ([self._image(*shown) for shown in self._shown] if all(path.is_file() for path in found) else [])

    @cached_property
    def _stimuli(self) -> dict[int, dict[str, list[str]]]:
        """The stimulus table of each subject."""
        columns = ("trial_type", "session", "run", "stimulus", "concept")
        return {subject: read_table(self._file(subject, "StimulusMetadata.csv"), columns) for subject in self.subjects}

    @cached_property
    def _voxels(self) -> dict[int, dict[str, np.ndarray]]:
        """Columns `(W,)` of each subject's voxel table: the regions that are kept, and the noise ceiling."""
        found = {}
        for subject in self.subjects:
            path, wanted = self._file(subject, "VoxelMetadata.csv"), self.voxel_regions
            table = read_table(path, wanted or (), optional=(_CEILING, *(() if wanted else _REGIONS)))
            found[subject] = {name: numbers(path, name, column) for name, column in table.items()}
            if set(table) <= {_CEILING}:
                raise UserError(f"{path} has no visual region", expected="V1, V2, ...", fix="data.voxel_regions=[NAME]")
        return found

    @cached_property
    def _shown(self) -> list[tuple[str, str]]:
        """Concept and file of each image, in the order of the stimulus ids."""
        tables = self._stimuli.values()
        return sorted({pair for table in tables for pair in zip(table["concept"], table["stimulus"], strict=True)})

    def _order(self, subject: int) -> np.ndarray:
        """Return the rows of the stimulus table in temporal order: by session and run, else as they stand."""
        table, path = self._stimuli[subject], self._file(subject, "StimulusMetadata.csv")
        session, run = (numbers(path, name, table[name]) for name in ("session", "run"))
        return np.lexsort((run, session))

    def images(self) -> Iterator[np.ndarray]:
        """Yield the images."""
        for concept, name in self._shown:
            yield read_pixels(self._image(concept, name)).numpy()

    def trials(self, subject: int) -> Recorded:
        """Return the trials of the images with `trial_type` train or test."""
        table, order = self._stimuli[subject], self._order(subject)
        path = self._file(subject, "StimulusMetadata.csv")
        if other := set(table["trial_type"]) - {"train", "test"}:
            raise UserError(f"{path}: unknown trial_type", got=other.pop(), expected="train or test")
        index = {shown: row for row, shown in enumerate(self._shown)}
        ids = np.array([index[pair] for pair in zip(table["concept"], table["stimulus"], strict=True)], np.int64)
        is_test = np.array(table["trial_type"]) == "test"
        sessions = np.unique(numbers(path, "session", table["session"])[order], return_inverse=True)[1] + 1
        return Recorded(ids[order], is_test[order], sessions.astype(np.int64))

    def betas(self, subject: int) -> Iterator[np.ndarray]:
        """Yield each session's responses at the kept voxels."""
        path, kept, order = self._file(subject, "ResponseData.h5"), self._kept(subject), self._order(subject)
        name, (num_voxels, _) = self._block(path, len(kept), len(order))
        sessions = self.trials(subject).sessions
        with open_dataset(path, name) as dataset:
            for session in range(1, sessions[-1] + 1):
                columns = order[sessions == session]
                ascending = np.sort(columns)
                blocks = []
                for start in range(0, num_voxels, _VOXELS_PER_BLOCK):
                    rows = slice(start, start + _VOXELS_PER_BLOCK)
                    if kept[rows].any():
                        span = dataset[rows, ascending[0] : ascending[-1] + 1][kept[rows]]
                        blocks.append(span[:, columns - ascending[0]])
                yield np.concatenate(blocks).T

    def _block(self, path: Path, num_voxels: int, num_trials: int) -> tuple[str, tuple[int, int]]:
        """Return name and shape of the block of responses in a table that pandas wrote: voxels by trials."""
        shapes = {}
        for name in (f"{_GROUP}/{one}" for one in names_in(path, _GROUP) if re.fullmatch(r"block\d+_values", one)):
            with open_dataset(path, name) as dataset:
                shapes[name] = dataset.shape
        for name, shape in shapes.items():
            if shape == (num_voxels, num_trials):
                return name, (num_voxels, num_trials)
        expected = f"({num_voxels}, {num_trials}): voxels and trials of the tables beside it"
        raise UserError(f"{path} has no responses that fit its tables", got=list(shapes.values()), expected=expected)

    def _region_columns(self, subject: int) -> dict[str, np.ndarray]:
        """Return the masks `(W,)` of the regions by name."""
        return {name: column == 1 for name, column in self._voxels[subject].items() if name != _CEILING}

    def _kept(self, subject: int) -> np.ndarray:
        return np.logical_or.reduce(list(self._region_columns(subject).values()))

    def regions(self, subject: int) -> dict[str, np.ndarray]:
        """Return the regions; `LO1 (prf)` becomes `LO1_prf`."""
        kept = self._kept(subject)
        return {
            re.sub(r"\W+", "_", name).strip("_"): mask[kept] for name, mask in self._region_columns(subject).items()
        }

    def ncsnr(self, subject: int) -> np.ndarray | None:
        """Return the ratio of `nc_testset`, a noise ceiling in percent for the average of twelve responses."""
        ceiling = self._voxels[subject].get(_CEILING)
        return None if ceiling is None else noise_ceiling_to_ncsnr(ceiling[self._kept(subject)], _REPETITIONS)
