"""Arrays in MATLAB's `.mat` files, of MATLAB 5 to 7.2; no code is run in reading them."""

from pathlib import Path

import numpy as np

from mindeye_pl.errors import UserError
from mindeye_pl.store.regular_files import check_regular


def read_mat(path: Path, name: str) -> np.ndarray:
    """Return a variable; a cell array is an array of objects.

    Raises a UserError if the file or the variable is missing.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not check_regular(path).is_file():
        raise UserError(f"{path} is missing", expected=f"a .mat file with {name}")
    try:
        found = loadmat(path, variable_names=[name])
    except (MatReadError, NotImplementedError, ValueError, TypeError, OSError) as error:
        raise UserError(f"{path} is not a .mat file of MATLAB 5 to 7.2", got=error) from error
    if name not in found:
        raise UserError(f"{path} has no variable {name}", expected=name)
    value: np.ndarray = found[name]
    return value
