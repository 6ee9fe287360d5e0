"""A further scan session of NSD's subjects, which is tested and never trained on.

Legend: T responses of the session, V voxels of the subject's nsdgeneral mask.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindeye_pl.data.layout.hdf5 import open_dataset
from mindeye_pl.data.layout.paths import subject_name
from mindeye_pl.data.released.preparation import zscore
from mindeye_pl.data.released.volumes import read_masks, read_series
from mindeye_pl.errors import UserError

#: Released betas are integers of percent signal change times 300.
_SCALE = np.float32(300)
#: Volumes of an hdf5 file in memory at once.
_VOLUMES_PER_BLOCK = 32


@dataclass(frozen=True, eq=False)
class FurtherTrials:
    """Responses of one session in the order of the betas."""

    images: list[str | None]  # (T,) name of the image, None for a response to none
    splits: Mapping[str, np.ndarray]  # (T,) bool masks of the tested responses, by the split's name

    def __post_init__(self) -> None:
        for name, mask in self.splits.items():
            assert all(self.images[row] is not None for row in np.flatnonzero(mask)), f"{name} tests no image"


class FurtherTest(ABC):
    """One session's released files below `folder`, with NSD's own paths (`nsddata/`, `nsddata_betas/`, ...)."""

    #: Folder and file of the betas.
    betas_folder: str
    betas_name: str

    def __init__(self, folder: Path):
        self.folder = folder

    @abstractmethod
    def files(self, subject: int) -> list[Path]:
        """Return the files of a subject that are read."""

    @abstractmethod
    def images(self, subject: int) -> Mapping[str, Callable[[], np.ndarray]]:
        """Return the readers of images `(3, H, W)` uint8 by name; an equal name is an equal image in all subjects."""

    @abstractmethod
    def trials(self, subject: int) -> FurtherTrials:
        """Return the order of the images, and which responses are tested."""

    def mask(self, subject: int) -> Path:
        """Return the path of the nsdgeneral mask."""
        return self.folder / "nsddata/ppdata" / subject_name(subject) / "func1pt8mm/roi/nsdgeneral.nii.gz"

    def betas_file(self, subject: int) -> Path:
        """Return the path of the betas, hdf5 where it exists and NIfTI otherwise."""
        folder = self.folder / "nsddata_betas/ppdata" / subject_name(subject) / "func1pt8mm" / self.betas_folder
        hdf5 = folder / f"{self.betas_name}.hdf5"
        return hdf5 if hdf5.is_file() else folder / f"{self.betas_name}.nii.gz"

    def betas(self, subject: int) -> np.ndarray:
        """Return the responses `(T, V)` float32, z-scored within the session; a UserError for a damaged file."""
        path, (mask,) = self.betas_file(subject), read_masks([self.mask(subject)])
        series = read_series(path, mask) if path.name.endswith(".nii.gz") else _read_hdf5(path, mask)
        return zscore(series / _SCALE)[0]


def _read_hdf5(path: Path, mask: np.ndarray) -> np.ndarray:
    """Return `(T, V)` of hdf5 betas that MATLAB wrote, `(T, Z, Y, X)`, or of `(X, Y, Z, T)`."""
    with open_dataset(path, "betas") as dataset:
        if dataset.shape[1:] == mask.shape[::-1]:
            axes = (3, 2, 1)
        elif dataset.shape[:3] == mask.shape:
            return np.stack([dataset[..., index][mask] for index in range(dataset.shape[3])])
        else:
            expected = f"(trials, {', '.join(map(str, mask.shape[::-1]))}), the mask's axes reversed"
            raise UserError(f"{path} does not fit nsdgeneral", got=dataset.shape, expected=expected)
        series = np.empty((len(dataset), np.count_nonzero(mask)), np.float32)
        for start in range(0, len(series), _VOLUMES_PER_BLOCK):
            block = dataset[start : start + _VOLUMES_PER_BLOCK]
            series[start : start + len(block)] = block.transpose(0, *axes)[:, mask]
    return series
