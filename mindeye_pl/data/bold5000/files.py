"""Files of BOLD5000, release 2.0.

Betas are read from arrays of the regions (`BOLD5000_GLMsingle_ROI_betas/py/*.npy`) where these exist, and else from one
NIfTI file for each session and the masks `sub-CSI1_mask-LHPPA.nii.gz`. Files may lie in any subfolder.
"""

import re
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from mindeye_pl.data.image_sources import read_pixels
from mindeye_pl.data.released.preparation import Preparation, Recorded
from mindeye_pl.data.released.tables import read_lines
from mindeye_pl.data.released.volumes import read_masks, read_series
from mindeye_pl.errors import UserError

#: The sessions with ten runs; the others have nine. Subject 4 left after nine sessions.
_TEN_RUNS = {1: (1, 2, 3, 5, 7, 10, 15), 2: (1, 3, 4, 5, 11, 12, 14), 3: (1, 3, 5, 6, 7, 11, 15), 4: (1, 4, 9)}
_SESSIONS = {1: 15, 2: 15, 3: 15, 4: 9}

_BETAS = "GLMbetas-TYPED-FITHRF-GLMDENOISE-RR"
_REPEATED = "repeated_stimuli_113_list.txt"
#: Regions, each of both hemispheres, under one name where the files of subjects 2 and 3 have another one.
_REGIONS = ("EarlyVis", "LOC", "OPA", "PPA", "RSC")
_OTHER_NAMES = {"LO": "LOC", "RRSC": "RSC"}


class Bold5000(Preparation):
    """Voxels are those of the regions, repeated images are tested. Arrays of regions that overlap repeat a voxel."""

    @cached_property
    def _paths(self) -> dict[str, Path]:
        """Every file below the folder by its name."""
        return {path.name: path for path in sorted(self.folder.rglob("*")) if path.is_file()}

    def _path(self, name: str) -> Path:
        """Return the file of a name; a missing one is expected in the folder itself."""
        return self._paths.get(name, self.folder / name)

    def _region_files(self, subject: int) -> dict[str, list[Path]]:
        """Return the files of each region, of its hemispheres: arrays of betas, or masks where there are none."""
        patterns = (rf"CSI{subject}_{_BETAS}_allses_[LR]H(\w+)\.npy", rf"sub-CSI{subject}_mask-[LR]H(\w+)\.nii\.gz")
        for pattern in patterns:
            found: dict[str, list[Path]] = {}
            for name, path in self._paths.items():
                if match := re.fullmatch(pattern, name):
                    found.setdefault(_OTHER_NAMES.get(match[1], match[1]), []).append(path)
            if found:
                return {name: found[name] for name in self.voxel_regions or _REGIONS if name in found}
        return {}

    def _session_files(self, subject: int) -> list[Path]:
        names = (f"CSI{subject}_{_BETAS}_ses-{session + 1:02d}.nii.gz" for session in range(_SESSIONS[subject]))
        return [self._path(name) for name in names]

    def _names_file(self, subject: int) -> Path:
        return self._path(f"CSI{subject}_imgnames.txt")

    def files(self) -> list[Path]:
        """Return lists, betas, masks and images."""
        found = [self._path(_REPEATED), *map(self._names_file, self.subjects)]
        for subject in self.subjects:
            regions = [path for paths in self._region_files(subject).values() for path in paths]
            if not regions:
                what = f"{self.folder} has no regions of subject CSI{subject}"
                expected = f"CSI{subject}_{_BETAS}_allses_LHPPA.npy, ... or sub-CSI{subject}_mask-LHPPA.nii.gz, ..."
                raise UserError(what, expected=expected, fix="docs/datasets.md lists the files")
            found += regions
            if regions[0].suffix != ".npy":
                found += self._session_files(subject)
        return found + (list(map(self._path, self._names)) if all(path.is_file() for path in found) else [])

    @cached_property
    def _names(self) -> list[str]:
        """The images that the subjects saw, in the order of their stimulus ids."""
        return sorted({name for subject in self.subjects for name in read_lines(self._names_file(subject))})

    def images(self) -> Iterator[np.ndarray]:
        """Yield the images."""
        for name in self._names:
            yield read_pixels(self._path(name)).numpy()

    def trials(self, subject: int) -> Recorded:
        """Return the trials; a session has nine or ten runs of equally many."""
        names, index = read_lines(self._names_file(subject)), {name: row for row, name in enumerate(self._names)}
        sessions = np.arange(1, _SESSIONS[subject] + 1)
        runs = np.repeat(sessions, np.where(np.isin(sessions, _TEN_RUNS[subject]), 10, 9))
        if len(names) % len(runs):
            expected = f"a multiple of {len(runs)}, the runs of subject CSI{subject}"
            raise UserError(f"{self._names_file(subject)} has other trials", got=len(names), expected=expected)
        tested = set(read_lines(self._path(_REPEATED)))
        return Recorded.of_sessions(names, index, tested, np.repeat(runs, len(names) // len(runs)))

    def betas(self, subject: int) -> Iterator[np.ndarray]:
        """Yield each session's responses."""
        paths = [path for paths in self._region_files(subject).values() for path in paths]
        if paths[0].suffix != ".npy":
            inside = np.logical_or.reduce(read_masks(paths))
            for path in self._session_files(subject):
                yield read_series(path, inside)
            return
        arrays = [_array(path) for path in paths]
        bounds = np.searchsorted(self.trials(subject).sessions, np.arange(1, _SESSIONS[subject] + 2))
        if wrong := [path for path, array in zip(paths, arrays, strict=True) if len(array) != bounds[-1]]:
            expected = f"{bounds[-1]}, as in {self._names_file(subject).name}"
            raise UserError(f"{wrong[0]} has another number of trials", got=len(_array(wrong[0])), expected=expected)
        for first, last in pairwise(bounds):
            yield np.concatenate([array[first:last] for array in arrays], axis=1)

    def regions(self, subject: int) -> dict[str, np.ndarray]:
        """Return the regions of both hemispheres."""
        files = self._region_files(subject)
        paths = [path for paths in files.values() for path in paths]
        if paths[0].suffix != ".npy":
            masks = dict(zip(paths, read_masks(paths), strict=True))
            inside = np.logical_or.reduce(list(masks.values()))
            return {name: np.logical_or.reduce([masks[path] for path in of])[inside] for name, of in files.items()}
        owner = np.repeat(np.arange(len(paths)), [_array(path).shape[1] for path in paths])
        place = {path: number for number, path in enumerate(paths)}
        return {name: np.isin(owner, [place[path] for path in of]) for name, of in files.items()}


def _array(path: Path) -> np.ndarray:
    """Return an array of betas `(T, V)`, which stays on disk; arrays of objects are refused."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path} is not a numpy array", got=error, fix="download the file again") from error
    if array.ndim != 2:
        raise UserError(f"{path} does not contain betas", got=array.shape, expected="(trials, voxels)")
    return array
