"""Selection of a subject's voxels, and the regions of the published evaluation among them.

Source of labels: NSD data manual, "ROIs": `prf-visualrois` numbers V1v, V1d, V2v, V2d, V3v, V3d and hV4 from 1 to 7;
voxels outside are 0, and -1 outside of the cortex.

Legend: V selected voxels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mindeye_pl.data.layout.paths import subject_name
from mindeye_pl.data.nsd.release import NSD_GENERAL, NsdRelease
from mindeye_pl.data.nsd.volumes import Volume, read_volume
from mindeye_pl.errors import UserError

#: Value of `data.mask`: the voxels that vary in every session that is prepared.
ALL_FINITE = "all_finite"

_AREAS = {"V1": (1, 2), "V2": (3, 4), "V3": (5, 6), "V4": (7,)}


def parse_mask(mask: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names and paths in a value of `data.mask`; raises a UserError for one that means nothing."""
    names = (mask,) if isinstance(mask, str) else tuple(mask)
    if not names:
        raise UserError("data.mask names no mask", got="[]", expected=f"{NSD_GENERAL}, for example")
    if ALL_FINITE in names and len(names) > 1:
        raise UserError(f"data.mask: {ALL_FINITE} stands alone", got=list(names), fix=f"data.mask={ALL_FINITE}")
    return names


def named_masks(mask: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of NSD's own masks in a parsed `data.mask`."""
    return tuple(name for name in mask if not _is_path(name) and name != ALL_FINITE)


def mask_files(mask: tuple[str, ...], subject: int) -> list[Path]:
    """Return the paths of the user's own masks in a parsed `data.mask`; `{subject}` in one stands for `subj01`."""
    return [Path(name.replace("{subject}", subject_name(subject))) for name in mask if _is_path(name)]


def _is_path(name: str) -> bool:
    return name.endswith((".nii", ".nii.gz"))


def read_mask(release: NsdRelease, subject: int, mask: tuple[str, ...], general: Volume) -> np.ndarray | None:
    """Return the voxels above 0 in any of some masks, `(X, Y, Z)` bool; None for `all_finite`.

    Not a number is outside. Raises a UserError if a file is missing or damaged, is not in the space of `general`, the
    subject's nsdgeneral, or there is no voxel.
    """
    if mask == (ALL_FINITE,):
        return None
    paths = [release.roi(subject, name) for name in named_masks(mask)] + mask_files(mask, subject)
    selected = np.zeros(general.values.shape, bool)
    for path in paths:
        volume = read_volume(path)
        general.check_same_space(path, volume.values.shape, volume.affine)
        selected |= volume.values > 0
    if not selected.any():
        raise UserError(f"{paths[0]} has no voxel above 0", got=f"data.mask={list(mask)}", fix="another data.mask")
    return selected


def region_masks(mask: np.ndarray, general: np.ndarray, areas: np.ndarray) -> dict[str, np.ndarray]:
    """Return the regions of `constants.ROIS` over the selected voxels, `(V,)` bool each.

    `mask` `(X, Y, Z)` selects the voxels, `general` and `areas` are the volumes nsdgeneral and prf-visualrois. Voxels
    of nsdgeneral outside of V1 to V4 are `higher_vis`.
    """
    inside, labels = general[mask] > 0, areas[mask]
    regions = {area: np.isin(labels, numbers) for area, numbers in _AREAS.items()}
    early = np.logical_or.reduce(list(regions.values()))
    return {"nsd_general": inside, **regions, "higher_vis": inside & ~early}
