"""Protocol of a dataset's released files, and the writer of the working layout from it.

Legend: T trials of a subject, t of one of its sessions, V voxels, S side of the images.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindeye_pl.console import console
from mindeye_pl.data.layout.hdf5 import open_hdf5
from mindeye_pl.data.layout.paths import DataLayout, subject_name
from mindeye_pl.data.layout.writer import write_betas, write_trials
from mindeye_pl.data.released.pixels import square
from mindeye_pl.errors import UserError
from mindeye_pl.store.atomic import write_json

#: Voxels that are scaled in double precision at once.
_VOXELS_PER_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class Recorded:
    """Trials of one subject in temporal order."""

    stimulus_ids: np.ndarray  # (T,) int64, index of the image in `Preparation.images`
    is_test: np.ndarray  # (T,) bool, trials of a test image
    sessions: np.ndarray  # (T,) int64 from 1, ascending

    @classmethod
    def of_sessions(
        cls, names: Sequence[str], index: Mapping[str, int], tested: set[str], sessions: np.ndarray
    ) -> "Recorded":
        """Return the trials of images by name; numbers of sessions become 1, 2, ... in their order."""
        ids = np.array([index[name] for name in names], np.int64)
        is_test = np.array([name in tested for name in names])
        return cls(ids, is_test, 1 + np.unique(sessions, return_inverse=True)[1].astype(np.int64))


class Preparation(ABC):
    """Released files of one dataset below `folder`.

    Args:
        folder: of the files.
        subjects: whose files are prepared.
        image_size: S, side of the images that are written.
        voxel_regions: regions whose voxels are kept; None keeps those that the dataset's class documents.
    """

    def __init__(
        self, folder: Path, subjects: Sequence[int], image_size: int, voxel_regions: Sequence[str] | None = None
    ):
        self.folder, self.subjects, self.image_size = folder, tuple(subjects), image_size
        self.voxel_regions = voxel_regions

    @abstractmethod
    def files(self) -> list[Path]:
        """Return the files that are read; each must exist."""

    @abstractmethod
    def images(self) -> Iterable[np.ndarray]:
        """Yield each image, `(3, H, W)` uint8; its index is its stimulus id, and its central square is written."""

    @abstractmethod
    def trials(self, subject: int) -> Recorded:
        """Return a subject's trials."""

    @abstractmethod
    def betas(self, subject: int) -> Iterable[np.ndarray]:
        """Yield the released responses of each session in its turn, `(t, V)` floating point, in the trials' order."""

    def regions(self, subject: int) -> dict[str, np.ndarray]:
        """Return the regions by name, each a mask `(V,)` bool; empty where none are released."""
        return {}

    def ncsnr(self, subject: int) -> np.ndarray | None:
        """Return each voxel's noise-ceiling signal-to-noise ratio `(V,)`, None where none is released."""
        return None

    def splits(self) -> dict[str, dict[str, list[int]]]:
        """Return the dataset's own splits by name, in the format of `splits.json`; empty where it has none."""
        return {}


def zscore(betas: np.ndarray) -> tuple[np.ndarray, int]:
    """Return z-scores of every voxel over the trials of one session, `(t, V)` float32, and how many voxels have none.

    A constant voxel, or one with a value that is not finite, is 0 in this session.
    """
    scores, missing = np.empty(betas.shape, np.float32), 0
    for start in range(0, betas.shape[1], _VOXELS_PER_BLOCK):
        voxels = slice(start, start + _VOXELS_PER_BLOCK)
        block = betas[:, voxels].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            mean, std = block.mean(0), block.std(0)
            block = (block - mean) / np.where(std <= np.finfo(np.float32).eps * np.abs(mean), 0, std)
        without = ~np.isfinite(block).all(0)
        block[:, without] = 0
        scores[:, voxels], missing = block, missing + int(without.sum())
    return scores, missing


def prepare(preparation: Preparation, root: Path) -> dict[str, dict[str, int]]:
    """Write the working layout below a folder, and return numbers of each subject by name.

    Betas are z-scored within each session, as NSD's are. Raises a UserError for a missing or damaged file, or as
    `write_trials`.
    """
    layout = DataLayout(root)
    root.mkdir(parents=True, exist_ok=True)
    for path in (layout.region_masks, layout.ncsnr):  # of a killed preparation
        path.unlink(missing_ok=True)
    shape = (3, preparation.image_size, preparation.image_size)
    with open_hdf5(layout.stimuli, "w") as file:
        images = file.create_dataset("images", (0, *shape), np.float16, maxshape=(None, *shape), chunks=(1, *shape))
        for index, pixels in enumerate(preparation.images()):
            images.resize(index + 1, axis=0)
            images[index] = square(pixels, preparation.image_size) / np.float32(255)
    facts = {subject_name(subject): _prepare_subject(preparation, subject, layout) for subject in preparation.subjects}
    if splits := preparation.splits():
        write_json(layout.splits, splits)
    return facts


def _prepare_subject(preparation: Preparation, subject: int, layout: DataLayout) -> dict[str, int]:
    trials, name = preparation.trials(subject), subject_name(subject)
    write_trials(layout, subject, stimulus_ids=trials.stimulus_ids, is_test=trials.is_test, sessions=trials.sessions)
    counts = np.unique(trials.sessions, return_counts=True)[1]
    parts = _checked(preparation.betas(subject), counts, f"{preparation.folder}, {name}")
    first = next(parts)
    num_voxels, missing = first.shape[1], 0

    def scores() -> Iterator[np.ndarray]:
        nonlocal missing
        for part in _chain(first, parts):
            scored, without = zscore(part)
            missing = max(missing, without)
            yield scored

    write_betas(layout, subject, (len(trials.sessions), num_voxels), scores())
    if missing:
        console.print(f"{name}: up to {missing} voxels of a session have no variance or no finite values, and are 0")
    if regions := preparation.regions(subject):
        with open_hdf5(layout.region_masks, "a") as file:
            group = file.require_group(name)
            for region, mask in regions.items():
                group[region] = mask
    if (ncsnr := preparation.ncsnr(subject)) is not None:
        with open_hdf5(layout.ncsnr, "a") as file:
            file[name] = ncsnr.astype(np.float32)
    tested = np.unique(trials.stimulus_ids[trials.is_test])
    return {
        "trials": len(trials.sessions),
        "sessions": len(counts),
        "voxels": num_voxels,
        "test images": len(tested),
        "training images": len(np.unique(trials.stimulus_ids)) - len(tested),
    }


def _chain(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest


def _checked(parts: Iterable[np.ndarray], counts: np.ndarray, what: str) -> Iterator[np.ndarray]:
    """Yield parts, one for each session; a UserError if a session has another number of trials than its list."""
    session = 0
    for session, part in enumerate(parts, start=1):
        expected = counts[session - 1] if session <= len(counts) else 0
        if len(part) != expected:
            got = f"{len(part)} responses in session {session}"
            raise UserError(f"{what}: trials and responses differ in number", got=got, expected=int(expected))
        yield part
    if session != len(counts):
        raise UserError(f"{what}: sessions are missing", got=session, expected=len(counts))


def noise_ceiling_to_ncsnr(percent: np.ndarray, repetitions: int) -> np.ndarray:
    """Return the ncsnr of noise ceilings in percent of variance for an average of some repetitions (Allen et al. 2022).

    NC = 100 ncsnr² / (ncsnr² + 1 / repetitions), solved for ncsnr.
    """
    share = np.clip(np.nan_to_num(percent) / 100, 0, 1 - 1e-6)
    return np.sqrt(share / (1 - share) / repetitions).astype(np.float32)
