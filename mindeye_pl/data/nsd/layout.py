"""File layout of MindEye2's prepared NSD below one root folder (spec of MindEye2, section 1.1).

The simulated dataset has the same layout, so that both are read by the same code.
"""

from dataclasses import dataclass
from pathlib import Path


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
