"""Reader of the real fMRI that PyMVPA's source archive holds: one slice of subject 1 of Haxby et al. 2001 (Science).

    pip download --no-deps --no-binary :all: pymvpa2==2.6.5     # or the archive from PyPI's page; it is not built
    tar xzf pymvpa2-2.6.5.tar.gz
    HAXBY_FOLDER=pymvpa2-2.6.5/mvpa2/data python -m pytest -m slow tests/real

The data are under CC BY-SA 3.0 and no part of this project.

Legend: t volumes, V voxels, n blocks.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: Numbers of NIfTI's data types that occur here.
_DTYPES = {2: np.uint8, 4: np.int16, 8: np.int32, 16: np.float32}
_REST = 0
#: Volumes, of 2.5 s each, by which the response lags behind the images.
_LAG = 2


@dataclass(frozen=True)
class Responses:
    """Responses to blocks of images of one category.

    Attributes:
        betas: `(n, V)` float32, mean volume of each block, z-scored in its run.
        categories: `(n,)` int64, 1 to 8.
        runs: `(n,)` int64, 0 to 11.
    """

    betas: np.ndarray
    categories: np.ndarray
    runs: np.ndarray


def read_haxby(folder: Path) -> Responses:
    """Return the blocks of all runs of a folder with `bold.nii.gz`, `mask.nii.gz` and `attributes.txt`."""
    mask = read_nifti(folder / "mask.nii.gz").squeeze() > 0
    volumes = read_nifti(folder / "bold.nii.gz")
    voxels = volumes.reshape(-1, volumes.shape[-1])[mask.reshape(-1)].T.astype(np.float64)  # (t, V)
    labels, chunks = np.loadtxt(folder / "attributes.txt", dtype=np.int64).T  # (t,) each
    assert len(labels) == len(voxels), (len(labels), len(voxels))
    found: list[tuple[np.ndarray, int, int]] = []
    for run in np.unique(chunks):
        own, of_run = standardise(voxels[chunks == run]), labels[chunks == run]
        lagged = np.concatenate([np.full(_LAG, _REST), of_run[:-_LAG]])
        found += [
            (own[lagged == category].mean(0), category, run) for category in np.unique(of_run) if category != _REST
        ]
    betas, categories, runs = zip(*found, strict=True)
    return Responses(np.stack(betas).astype(np.float32), np.array(categories), np.array(runs))


def standardise(run: np.ndarray) -> np.ndarray:
    """Return the volumes of a run `(t, V)` without their linear trend, each voxel with a standard deviation of 1."""
    time = np.linspace(-1, 1, len(run))
    basis, _ = np.linalg.qr(np.stack([np.ones_like(time), time], 1))
    residuals = run - basis @ (basis.T @ run)
    return residuals / np.maximum(residuals.std(0), 1e-6)


def read_nifti(path: Path) -> np.ndarray:
    """Return the values of a little-endian NIfTI-1 file, the first axis fastest, without its scaling."""
    content = gzip.decompress(path.read_bytes())
    assert content[344:347] in (b"n+1", b"ni1"), path
    rank, *sizes = np.frombuffer(content, "<i2", 8, 40).tolist()
    dtype = _DTYPES[int(np.frombuffer(content, "<i2", 1, 70)[0])]
    offset = int(np.frombuffer(content, "<f4", 1, 108)[0])
    count = int(np.prod(sizes[:rank]))
    return np.frombuffer(content, dtype, count, offset).reshape(sizes[:rank], order="F")
