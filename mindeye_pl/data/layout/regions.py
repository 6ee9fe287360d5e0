"""Regions and reliability of a subject's voxels.

Legend: V voxels of the subject's nsdgeneral mask.
"""

from collections.abc import Sequence

import h5py
import numpy as np

from mindeye_pl.data.layout.betas import betas_shape
from mindeye_pl.data.layout.hdf5 import names_in, open_dataset
from mindeye_pl.data.layout.paths import FETCH_AGAIN, DataLayout, subject_name
from mindeye_pl.errors import UserError


def read_regions(layout: DataLayout, subject: int, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Read region masks `(V,)` bool by name, in the order of the names, over the voxels of the betas file.

    None takes all regions, alphabetically; NSD's file contains more than the six of the published evaluation. Raises a
    UserError if the file is missing or damaged, a region is missing, or its mask does not fit the betas.
    """
    path, num_voxels, group = layout.region_masks, betas_shape(layout, subject)[1], subject_name(subject)
    masks = {}
    for name in names_in(path, group) if names is None else names:
        with open_dataset(path, f"{group}/{name}") as dataset:
            mask = _vector(dataset, num_voxels, f"{path}: region {name} of subject {subject}")
        if not np.isin(mask, (0, 1)).all():
            got = np.unique(mask)[:5].tolist()
            raise UserError(f"{path}: region {name} is not a mask", got=got, expected="only 0 and 1")
        masks[name] = mask.astype(bool)
    return masks


def read_ncsnr(layout: DataLayout, subject: int) -> np.ndarray | None:
    """Read each voxel's noise-ceiling signal-to-noise ratio `(V,)` float32: standard deviation of signal over noise.

    Missing values are 0; voxels without noise are infinite. MindEye2's distribution of NSD has no such file; the result
    is then None. For real data it can be computed from NSD's `ncsnr.nii.gz` of the same preparation (`func1pt8mm`,
    `betas_fithrf`): the volume flattened in C order, at the voxels of the nsdgeneral mask. Raises a UserError if the
    file is damaged, lacks the subject, or does not fit the betas.
    """
    path = layout.ncsnr
    if not path.is_file():
        return None
    with open_dataset(path, subject_name(subject)) as dataset:
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
