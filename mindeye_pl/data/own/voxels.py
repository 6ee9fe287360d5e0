"""Choice of the voxels that are kept: finite in every trial, and not constant in any session.

Legend: V considered voxels, t trials of a session.
"""

from dataclasses import dataclass

import numpy as np

from mindeye_pl.errors import UserError


@dataclass(frozen=True)
class VoxelCounts:
    """Numbers of voxels: considered, dropped for a value that is not finite, dropped as constant, and kept."""

    considered: int
    not_finite: int
    constant: int

    @property
    def kept(self) -> int:
        """Number of voxels that are kept."""
        return self.considered - self.not_finite - self.constant


class VoxelCheck:
    """Collects over sessions which of V voxels are kept."""

    def __init__(self, num_voxels: int):
        self._finite, self._varies = np.ones(num_voxels, bool), np.ones(num_voxels, bool)

    def add(self, betas: np.ndarray) -> None:
        """Look at the betas `(t, V)` of a session."""
        self._finite &= np.isfinite(betas).all(0)
        self._varies &= (betas != betas[:1]).any(0)

    def kept(self, subject: str) -> tuple[np.ndarray, VoxelCounts]:
        """Return the mask of the kept voxels `(V,)` bool, and their numbers.

        Raises a UserError if more than half of the voxels are not finite, or no voxel varies.
        """
        counts = VoxelCounts(len(self._finite), int((~self._finite).sum()), int((self._finite & ~self._varies).sum()))
        if 2 * counts.not_finite > counts.considered:
            what = f"{subject}: more than half of the voxels have a beta that is not finite"
            got, fix = f"{counts.not_finite} of {counts.considered}", "own.mask=FILE of the brain's voxels"
            raise UserError(what, got=got, expected="finite numbers", fix=fix)
        if counts.kept == 0:
            what, got = f"{subject}: no voxel varies over its trials", f"{counts.constant} constant voxels"
            raise UserError(what, got=got, expected="betas of single trials", fix="another file, or own.dataset=NAME")
        return self._finite & self._varies, counts
