"""NSD-synthetic: 744 responses to 284 artificial images, two to ten responses each, the same order for all subjects."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from mindeye_pl.data.layout.hdf5 import open_dataset
from mindeye_pl.data.nsd_tests.further_test import FurtherTest, FurtherTrials
from mindeye_pl.data.nsd_tests.mat_files import read_mat
from mindeye_pl.data.released.pixels import from_rows
from mindeye_pl.errors import UserError

SPLIT = "nsd_synthetic_test"


class Synthetic(FurtherTest):
    """Images 1 to 220 are shared, the last 64 are colours that were calibrated for each subject."""

    betas_folder, betas_name = "nsdsyntheticbetas_fithrf_GLMdenoise_RR", "betas_nsdsynthetic"

    @property
    def _design(self) -> Path:
        return self.folder / "nsddata/experiments/nsdsynthetic/nsdsynthetic_expdesign.mat"

    def _stimuli(self, subject: int) -> tuple[Path, Path]:
        folder = self.folder / "nsddata_stimuli/stimuli/nsdsynthetic"
        return folder / "nsdsynthetic_stimuli.hdf5", folder / f"nsdsynthetic_colorstimuli_subj{subject:02d}.hdf5"

    def files(self, subject: int) -> list[Path]:
        """Return betas, mask, design and both files of images."""
        return [self.betas_file(subject), self.mask(subject), self._design, *self._stimuli(subject)]

    def images(self, subject: int) -> Mapping[str, Callable[[], np.ndarray]]:
        """Return the readers of all images, in the order of the design's numbers."""
        found: dict[str, Callable[[], np.ndarray]] = {}
        for path, owner in zip(self._stimuli(subject), ("", f" of subject {subject}"), strict=True):
            with open_dataset(path, "imgBrick") as dataset:
                count = len(dataset)
            found |= {f"synthetic {len(found) + row}{owner}": partial(_read, path, row) for row in range(count)}
        return found

    def trials(self, subject: int) -> FurtherTrials:
        """Return the images by `masterordering`; all responses are tested."""
        order, names = read_mat(self._design, "masterordering").ravel().astype(np.int64), list(self.images(subject))
        if order.min() < 1 or order.max() > len(names):
            raise UserError(f"{self._design}: unknown image", got=order.max(), expected=f"1 to {len(names)}")
        return FurtherTrials([names[number - 1] for number in order], {SPLIT: np.ones(len(order), bool)})


def _read(path: Path, row: int) -> np.ndarray:
    """Return an image `(3, H, W)` uint8 as it looked: stored values are linear in luminance."""
    with open_dataset(path, "imgBrick") as dataset:
        linear = from_rows(dataset[row])
    return np.rint(np.sqrt(linear / np.float32(255)) * 255).astype(np.uint8)
