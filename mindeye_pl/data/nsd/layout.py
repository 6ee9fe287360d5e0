"""Where each file of MindEye2's prepared NSD lies under one root (spec of MindEye2, section 1.1).

The simulated dataset is written by these names and the reader reads by them, so both worlds are one code path.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class NSDLayout:
    """Paths under `root`; nothing here touches the disk."""

    root: Path

    @property
    def stimuli(self) -> Path:
        """Hdf5, dataset `images`: (N, 3, H, W) float16 RGB in [0, 1], row = stimulus id."""
        return self.root / "coco_images_224_float16.hdf5"

    @property
    def region_masks(self) -> Path:
        """Hdf5, group `subj0{s}`, one bool vector (V,) for each ROI."""
        return self.root / "brain_region_masks.hdf5"

    @property
    def ncsnr(self) -> Path:
        """Hdf5, dataset `subj0{s}`: (V,) float32 noise-ceiling signal-to-noise ratio of each voxel."""
        return self.root / "ncsnr.hdf5"

    @property
    def captions(self) -> Path:
        """Json, a list over stimulus ids of lists of English captions."""
        return self.root / "captions.json"

    @property
    def simulation(self) -> Path:
        """Json, the settings of a simulated dataset; its presence is what marks a folder as simulated."""
        return self.root / "simulation.json"

    def betas(self, subject: int) -> Path:
        """Hdf5, dataset `betas`: (trials, V) float32, row = 0-based global trial."""
        return self.root / f"betas_all_subj0{subject}_fp32_renorm.hdf5"

    def noise_free(self, subject: int) -> Path:
        """Hdf5 that only a simulation has: `stimulus_ids` (n,) int64 ascending, `responses` (n, V) float32."""
        return self.root / "noise_free" / f"subj0{subject}.hdf5"

    def shard(self, subject: int, split: str, index: int = 0) -> Path:
        """Tar shard of behaviour arrays; `split` is train (index = session - 1), new_test or test."""
        return self.root / "wds" / f"subj0{subject}" / split / f"{index}.tar"
