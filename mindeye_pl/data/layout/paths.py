"""File layout below one root folder, that of MindEye2's prepared NSD (spec of MindEye2, section 1.1), and fingerprint.

Every dataset is prepared into this layout, so that all are read by the same code. Checks and fingerprint do not read
the 70 GB of NSD.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mindeye_pl.errors import UserError
from mindeye_pl.store.fingerprint import fingerprint_folder

FETCH_AGAIN = "download the file again (docs/data.md)"
SET_ROOT = "paths.nsd=FOLDER with MindEye2's files of NSD (docs/data.md), or data=simulated"


def subject_name(subject: int) -> str:
    """Return a subject's name in paths and tables: `subj01`."""
    return f"subj{subject:02d}"


@dataclass(frozen=True)
class DataLayout:
    """Paths below `root`; no method but `subjects` and `test_splits` accesses the disk."""

    root: Path

    @property
    def stimuli(self) -> Path:
        """Path of the images: hdf5 dataset `images`, (N, 3, H, W) float16 RGB in [0, 1], row = stimulus id."""
        return self.root / "coco_images_224_float16.hdf5"

    @property
    def region_masks(self) -> Path:
        """Path of the region masks: hdf5 group `subj{s:02d}`, one bool vector (V,) per ROI."""
        return self.root / "brain_region_masks.hdf5"

    @property
    def ncsnr(self) -> Path:
        """Path of the ncsnr: hdf5 dataset `subj{s:02d}`, (V,) float32 noise-ceiling signal-to-noise ratio per voxel."""
        return self.root / "ncsnr.hdf5"

    @property
    def captions(self) -> Path:
        """Path of the captions: JSON list over stimulus ids of lists of English captions."""
        return self.root / "captions.json"

    @property
    def splits(self) -> Path:
        """Path of the dataset's own named splits: JSON object, from a name to the stimulus ids that are tested."""
        return self.root / "splits.json"

    @property
    def simulation(self) -> Path:
        """Path of the JSON settings of a simulated dataset; this file marks a folder as simulated."""
        return self.root / "simulation.json"

    def betas(self, subject: int) -> Path:
        """Return the path of the betas: hdf5 dataset `betas`, (trials, V) float32, row = 0-based global trial."""
        return self.root / f"betas_all_{subject_name(subject)}_fp32_renorm.hdf5"

    def brain_mask(self, subject: int) -> Path:
        """Return the path of the optional NIfTI mask that says where the voxels lie (`data/layout/brain_mask.py`)."""
        return self.root / "masks" / f"{subject_name(subject)}.nii.gz"

    def noise_free(self, subject: int) -> Path:
        """Return the path of a simulation's responses: hdf5, `stimulus_ids` (n,) ascending, `responses` (n, V)."""
        return self.root / "noise_free" / f"{subject_name(subject)}.hdf5"

    def shard(self, subject: int, split: str, index: int = 0) -> Path:
        """Return the path of a tar shard; `split` is train (index = session - 1) or a test split."""
        return self.root / "wds" / subject_name(subject) / split / f"{index}.tar"

    def subjects(self) -> list[int]:
        """Return the subjects with betas, ascending."""
        found = (re.fullmatch(r"betas_all_subj(\d{2,})_fp32_renorm.hdf5", path.name) for path in self.root.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def test_splits(self, subject: int) -> list[str]:
        """Return the names of a subject's test splits, whose folders have `test` in their names."""
        folders = self.shard(subject, "train").parents[1].glob("*test*")
        return sorted(folder.name for folder in folders if self.shard(subject, folder.name).is_file())


def check_files(layout: DataLayout, subjects: Sequence[int], splits: Sequence[str] = ("train",)) -> None:
    """Check that the files of some subjects exist, and the first shard of each split that will be read.

    Raises a UserError if the folder, a subject or a file is missing.
    """
    if not layout.root.is_dir():
        raise UserError("the data folder is missing", got=layout.root, expected="a folder", fix=SET_ROOT)
    present = layout.subjects()
    if not present:
        raise UserError(f"{layout.root} contains no betas", expected=layout.betas(subjects[0]).name, fix=SET_ROOT)
    for subject in subjects:
        if subject not in present:
            got, fix = f"betas of subjects {present}", f"data.subjects={present}, or {FETCH_AGAIN}"
            raise UserError(f"{layout.betas(subject)} is missing", got=got, expected=f"subject {subject}", fix=fix)
    for path in (layout.stimuli, *(layout.shard(subject, split) for subject in subjects for split in splits)):
        if not path.is_file():
            raise UserError(f"{path} is missing", fix=FETCH_AGAIN)


def fingerprint_files(layout: DataLayout, subjects: Sequence[int], splits: Sequence[str]) -> str:
    """Return the fingerprint of the images, and of the betas and shards of the given subjects and splits.

    Raises a UserError if a file is missing.
    """
    check_files(layout, subjects, splits=())
    shards = [layout.shard(subject, split).parent.glob("*.tar") for subject in subjects for split in splits]
    files = {layout.stimuli, *map(layout.betas, subjects), *(shard for folder in shards for shard in folder)}
    return fingerprint_folder(layout.root, files)
