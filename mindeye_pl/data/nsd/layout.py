"""File layout of MindEye2's prepared NSD below one root folder (spec of MindEye2, section 1.1), checks and fingerprint.

The simulated dataset has the same layout, so that both are read by the same code. Checks and fingerprint do not read
the 70 GB of NSD.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.errors import UserError
from mindeye_pl.store.fingerprint import fingerprint_folder

FETCH_AGAIN = "download the file again (docs/data.md)"
SET_ROOT = "paths.nsd=FOLDER with MindEye2's files of NSD (docs/data.md), or data=simulated"


@dataclass(frozen=True)
class NSDLayout:
    """Paths below `root`; no method accesses the disk."""

    root: Path

    @property
    def stimuli(self) -> Path:
        """Path of the images: hdf5 dataset `images`, (N, 3, H, W) float16 RGB in [0, 1], row = stimulus id."""
        return self.root / "coco_images_224_float16.hdf5"

    @property
    def region_masks(self) -> Path:
        """Path of the region masks: hdf5 group `subj0{s}`, one bool vector (V,) per ROI."""
        return self.root / "brain_region_masks.hdf5"

    @property
    def ncsnr(self) -> Path:
        """Path of the ncsnr: hdf5 dataset `subj0{s}`, (V,) float32 noise-ceiling signal-to-noise ratio per voxel."""
        return self.root / "ncsnr.hdf5"

    @property
    def captions(self) -> Path:
        """Path of the captions: JSON list over stimulus ids of lists of English captions."""
        return self.root / "captions.json"

    @property
    def simulation(self) -> Path:
        """Path of the JSON settings of a simulated dataset; this file marks a folder as simulated."""
        return self.root / "simulation.json"

    def betas(self, subject: int) -> Path:
        """Return the path of the betas: hdf5 dataset `betas`, (trials, V) float32, row = 0-based global trial."""
        return self.root / f"betas_all_subj0{subject}_fp32_renorm.hdf5"

    def noise_free(self, subject: int) -> Path:
        """Return the path of a simulation's responses: hdf5, `stimulus_ids` (n,) ascending, `responses` (n, V)."""
        return self.root / "noise_free" / f"subj0{subject}.hdf5"

    def shard(self, subject: int, split: str, index: int = 0) -> Path:
        """Return the path of a tar shard; `split` is train (index = session - 1), new_test or test."""
        return self.root / "wds" / f"subj0{subject}" / split / f"{index}.tar"


def check_files(layout: NSDLayout, subjects: Sequence[int], splits: Sequence[str] = ("train",)) -> None:
    """Check that the files of some subjects exist, and the first shard of each split that will be read.

    Raises a UserError if the folder, a subject or a file is missing.
    """
    if not layout.root.is_dir():
        raise UserError("the data folder is missing", got=layout.root, expected="a folder", fix=SET_ROOT)
    present = [subject for subject in nsd.SUBJECTS if layout.betas(subject).is_file()]
    if not present:
        raise UserError(f"{layout.root} contains no betas", expected=layout.betas(subjects[0]).name, fix=SET_ROOT)
    for subject in subjects:
        if subject not in present:
            got, fix = f"betas of subjects {present}", f"data.subjects={present}, or {FETCH_AGAIN}"
            raise UserError(f"{layout.betas(subject)} is missing", got=got, expected=f"subject {subject}", fix=fix)
    for path in (layout.stimuli, *(layout.shard(subject, split) for subject in subjects for split in splits)):
        if not path.is_file():
            raise UserError(f"{path} is missing", fix=FETCH_AGAIN)


def fingerprint_files(
    layout: NSDLayout, subjects: Sequence[int], splits: Sequence[str] = ("train", *nsd.TEST_SPLITS)
) -> str:
    """Return the fingerprint of the images, and of the betas and shards of the given subjects and splits.

    Raises a UserError if a file is missing.
    """
    check_files(layout, subjects, splits=())
    shards = [layout.shard(subject, split).parent.glob("*.tar") for subject in subjects for split in splits]
    files = {layout.stimuli, *map(layout.betas, subjects), *(shard for folder in shards for shard in folder)}
    return fingerprint_folder(layout.root, files)
