"""Files of MOSAIC: one hdf5 file for each subject, and the images that were shown.

A subject's number is 100 times the number of its dataset (`DATASETS`) and its number there: 1 is `sub-01_NSD`, 203 is
`sub-03_THINGS`. All have the same voxels. An image that is tested for one of the prepared subjects is tested for all,
so that no training sees it. A file has single trials without sessions, so a subject has one session, in a random order
of its trials that is the same each time.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from mindeye_pl.data.image_sources import SUFFIXES, read_pixels
from mindeye_pl.data.layout.hdf5 import open_hdf5
from mindeye_pl.data.mosaic.parcellation import VISUAL, find_parcellation, read_areas
from mindeye_pl.data.released.preparation import Preparation, Recorded
from mindeye_pl.errors import UserError
from mindeye_pl.store.regular_files import check_regular

#: Datasets by the hundreds of their subjects' numbers.
DATASETS = ("NSD", "BOLD5000", "THINGS", "GOD", "deeprecon", "NOD", "HAD", "BMD")

_BETAS = "betas"
_NAME = re.compile(r"stimulus-(?P<image>.+)_phase-(?P<phase>[a-z]+)_rep-\d+")
_TRAINED = "train"
#: Phases of tested images; artificial ones are test images of NSD-synthetic and Deep Image Reconstruction.
_TESTED = ("test", "artificial")


def mosaic_name(subject: int) -> str:
    """Return a subject's name in MOSAIC: `sub-03_THINGS` of 203."""
    dataset, number = divmod(subject, 100)
    if dataset >= len(DATASETS) or not number:
        expected = ", ".join(f"{100 * index + 1}: sub-01_{name}" for index, name in enumerate(DATASETS))
        raise UserError("data.subjects: no subject of MOSAIC", got=subject, expected=expected)
    return f"sub-{number:02d}_{DATASETS[dataset]}"


@dataclass(frozen=True)
class _Response:
    key: str
    image: str  # name of the image file without its suffix
    is_test: bool


class Mosaic(Preparation):
    """Voxels are those of `voxel_regions`, by default the visual areas of the Glasser atlas, 7,894 of 91,282."""

    @cached_property
    def _paths(self) -> dict[str, Path]:
        """Every file below the folder by its name; of equal names the first."""
        return {path.name: path for path in sorted(self.folder.rglob("*"), reverse=True) if path.is_file()}

    @cached_property
    def _image_files(self) -> dict[str, Path]:
        """The images below the folder by their name without suffix."""
        return {path.stem: path for path in self._paths.values() if path.suffix.lower() in SUFFIXES}

    def _file(self, subject: int) -> Path:
        name = f"{mosaic_name(subject)}.hdf5"
        return self._paths.get(name, self.folder / name)

    def files(self) -> list[Path]:
        """Return the subjects' files, the areas, and the images."""
        found = [self._file(subject) for subject in self.subjects]
        if not all(path.is_file() for path in found):
            return found
        return [*found, find_parcellation(self.folder), *map(self._image, self._names)]

    def _image(self, name: str) -> Path:
        if name not in self._image_files:
            raise UserError(f"{self.folder} lacks an image that was shown", got=name, expected="NAME.jpg or NAME.png")
        return self._image_files[name]

    @cached_property
    def _responses(self) -> dict[int, list[_Response]]:
        """The responses of each subject, in the order in which they are written."""
        return {subject: _read_responses(self._file(subject)) for subject in self.subjects}

    @cached_property
    def _names(self) -> list[str]:
        """The images that the subjects saw, in the order of the stimulus ids."""
        return sorted({one.image for responses in self._responses.values() for one in responses})

    @cached_property
    def _tested(self) -> set[str]:
        return {one.image for responses in self._responses.values() for one in responses if one.is_test}

    @cached_property
    def _areas(self) -> dict[str, np.ndarray]:
        return read_areas(find_parcellation(self.folder), tuple(self.voxel_regions or VISUAL))

    @cached_property
    def _kept(self) -> np.ndarray:
        return np.logical_or.reduce(list(self._areas.values()))

    def images(self) -> Iterator[np.ndarray]:
        """Yield the images."""
        for name in self._names:
            yield read_pixels(self._image(name)).numpy()

    def trials(self, subject: int) -> Recorded:
        """Return the trials, all of one session."""
        index = {name: row for row, name in enumerate(self._names)}
        names = [one.image for one in self._responses[subject]]
        return Recorded.of_sessions(names, index, self._tested, np.ones(len(names)))

    def betas(self, subject: int) -> Iterator[np.ndarray]:
        """Yield all responses at once."""
        path, responses = self._file(subject), self._responses[subject]
        betas = np.empty((len(responses), np.count_nonzero(self._kept)), np.float32)
        with open_hdf5(path) as file:
            for row, response in enumerate(responses):
                dataset: h5py.Dataset = file[_BETAS][response.key]
                if dataset.size != len(self._kept):
                    what = f"{path}: {response.key} does not fit the areas"
                    raise UserError(what, got=dataset.shape, expected=(len(self._kept),))
                betas[row] = dataset[()].ravel()[self._kept]
        yield betas

    def regions(self, subject: int) -> dict[str, np.ndarray]:
        """Return the areas."""
        return {name: mask[self._kept] for name, mask in self._areas.items()}


def _read_responses(path: Path) -> list[_Response]:
    """Return the responses of a file in a random order, which depends on the number of responses alone.

    Image and phase come from a response's attributes, and from its name where it has none.
    """
    check_regular(path)
    try:
        with open_hdf5(path) as file:
            if not isinstance(file.get(_BETAS), h5py.Group):
                raise UserError(f"{path} has no group {_BETAS}", got=sorted(file), expected=_BETAS)
            found = [_response(path, key, file[_BETAS][key]) for key in sorted(file[_BETAS])]
    except OSError as error:
        raise UserError(f"{path} is truncated or not an hdf5 file", got=error, fix="download the file again") from error
    if not found:
        raise UserError(f"{path} has no responses")
    return [found[index] for index in np.random.default_rng(0).permutation(len(found))]


def _response(path: Path, key: str, dataset: h5py.Dataset) -> _Response:
    named = _NAME.search(key)
    image, phase = (dataset.attrs.get(name) for name in ("image_stimulus_filename", "phase"))
    if named is not None:
        image, phase = image or named["image"], phase or named["phase"]
    if image is None or phase not in (_TRAINED, *_TESTED):
        expected = "attributes image_stimulus_filename and phase, or stimulus-NAME_phase-test_rep-0 in its name"
        raise UserError(f"{path}: a response does not say what was shown", got=key, expected=expected)
    stem = Path(image).stem if Path(image).suffix.lower() in SUFFIXES else str(image)
    return _Response(key, stem, phase != _TRAINED)
