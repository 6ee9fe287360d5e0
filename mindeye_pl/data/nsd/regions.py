"""What is known of a subject's voxels: the regions that they lie in, and how reliable they are.

Legend: V voxels of the subject's nsdgeneral mask.
"""

from collections.abc import Sequence

import numpy as np

from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.data.nsd.betas import betas_shape
from mindeye_pl.data.nsd.files import FETCH_AGAIN
from mindeye_pl.data.nsd.hdf5 import open_dataset
from mindeye_pl.data.nsd.layout import NSDLayout
from mindeye_pl.errors import UserError


def read_regions(layout: NSDLayout, subject: int, *, names: Sequence[str] = nsd.ROIS) -> dict[str, np.ndarray]:
    """Masks `(V,)` bool by the name of the region, over the voxels of the betas file.

    They are read from the data folder, where the published evaluation opens the file in whatever folder it runs in.

    Args:
        layout: the data.
        subject: 1 to 8.
        names: regions wanted, in this order. NSD's file holds more than the six of the published evaluation.

    Raises:
        UserError: if the file is missing or damaged, has no such region, or its masks do not fit the betas.
    """
    path, num_voxels = layout.region_masks, betas_shape(layout, subject)[1]
    masks = {}
    for name in names:
        with open_dataset(path, f"subj0{subject}/{name}") as dataset:
            mask = _vector(dataset, num_voxels, f"{path}: region {name} of subject {subject}")
        if not np.isin(mask, (0, 1)).all():
            raise UserError(f"{path}: region {name} is no mask", got=np.unique(mask)[:5].tolist(), expected="0 and 1")
        masks[name] = mask.astype(bool)
    return masks


def read_ncsnr(layout: NSDLayout, subject: int) -> np.ndarray | None:
    """Noise-ceiling signal-to-noise ratio of each voxel `(V,)` float32: standard deviation of signal over noise.

    A voxel without a value has 0: nothing is known to be signal. Voxels without any noise are infinite.

    MindEye2's distribution of NSD has no such file, so that the answer is None there. A simulation writes it; for real
    data it would come from NSD's own `ncsnr.nii.gz`, beside the betas that MindEye2 was prepared from (`func1pt8mm`,
    `betas_fithrf`): the volume flattened in C order, at the voxels of the nsdgeneral mask.

    Args:
        layout: the data.
        subject: 1 to 8.

    Raises:
        UserError: if the file is damaged, lacks the subject, or does not fit the betas.
    """
    path = layout.ncsnr
    if not path.is_file():
        return None
    with open_dataset(path, f"subj0{subject}") as dataset:
        ratio = _vector(dataset, betas_shape(layout, subject)[1], f"{path}: ncsnr of subject {subject}")
    ratio = np.nan_to_num(ratio.astype(np.float32), nan=0, posinf=np.inf)
    if (ratio < 0).any():
        raise UserError(f"{path} holds a negative ratio", got=ratio.min(), expected="0 or more", fix=FETCH_AGAIN)
    return ratio


def _vector(dataset: object, num_voxels: int, what: str) -> np.ndarray:
    """One value for each voxel."""
    seen = getattr(dataset, "shape", "a group")  # hdf5 keeps groups and datasets under one kind of name
    if seen != (num_voxels,):
        raise UserError(
            f"{what} does not fit the betas",
            got=seen,
            expected=(num_voxels,),
            fix="betas and masks of the same preparation of NSD (docs/data.md)",
        )
    return np.asarray(dataset)
