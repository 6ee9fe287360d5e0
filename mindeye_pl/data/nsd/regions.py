"""Regions and reliability of a subject's voxels.

Legend: V voxels of the subject's nsdgeneral mask.
"""

from collections.abc import Sequence

import h5py
import numpy as np

from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.data.nsd.betas import betas_shape
from mindeye_pl.data.nsd.hdf5 import open_dataset
from mindeye_pl.data.nsd.layout import FETCH_AGAIN, NSDLayout
from mindeye_pl.errors import UserError


def read_regions(layout: NSDLayout, subject: int, *, names: Sequence[str] = nsd.ROIS) -> dict[str, np.ndarray]:
    """Read region masks `(V,)` bool by name, in the order of the names, over the voxels of the betas file.

    NSD's file contains more regions than the six of the published evaluation. Raises a UserError if the file is missing
    or damaged, a region is missing, or its mask does not fit the betas.
    """
    path, num_voxels = layout.region_masks, betas_shape(layout, subject)[1]
    masks = {}
    for name in names:
        with open_dataset(path, f"subj0{subject}/{name}") as dataset:
            mask = _vector(dataset, num_voxels, f"{path}: region {name} of subject {subject}")
        if not np.isin(mask, (0, 1)).all():
            got = np.unique(mask)[:5].tolist()
            raise UserError(f"{path}: region {name} is not a mask", got=got, expected="only 0 and 1")
        masks[name] = mask.astype(bool)
    return masks


def read_ncsnr(layout: NSDLayout, subject: int) -> np.ndarray | None:
    """Read each voxel's noise-ceiling signal-to-noise ratio `(V,)` float32: standard deviation of signal over noise.

    Missing values are 0; voxels without noise are infinite. MindEye2's distribution of NSD has no such file; the result
    is then None. For real data it can be computed from NSD's `ncsnr.nii.gz` of the same preparation (`func1pt8mm`,
    `betas_fithrf`): the volume flattened in C order, at the voxels of the nsdgeneral mask. Raises a UserError if the
    file is damaged, lacks the subject, or does not fit the betas.
    """
    path = layout.ncsnr
    if not path.is_file():
        return None
    with open_dataset(path, f"subj0{subject}") as dataset:
        ratio = _vector(dataset, betas_shape(layout, subject)[1], f"{path}: ncsnr of subject {subject}")
    ratio = np.nan_to_num(ratio.astype(np.float32), nan=0, posinf=np.inf)
    if (ratio < 0).any():
        raise UserError(f"{path} contains a negative ratio", got=ratio.min(), expected="at least 0", fix=FETCH_AGAIN)
    return ratio


def _vector(dataset: h5py.Dataset, num_voxels: int, what: str) -> np.ndarray:
    """Check that a dataset has one value per voxel and read it."""
    if dataset.shape != (num_voxels,):
        fix = "use betas and masks of the same preparation of NSD (docs/data.md)"
        raise UserError(f"{what} does not fit the betas", got=dataset.shape, expected=(num_voxels,), fix=fix)
    return np.asarray(dataset)
