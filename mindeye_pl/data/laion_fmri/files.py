"""Files of LAION-fMRI as its package downloads them, and the lists of its splits.

The standard split tests the images that all subjects saw, whose names begin with `shared_`. Lists are read from
`splits/POOL/NAME.json`, a copy of `laion_fmri/splits/data` of the dataset's package. `tau`, `ood`, `random_0`, ... are
those of the shared pool, `tau_sub-01`, ... those of a subject's own pool. A list's training images are those it names;
where the pool is one subject's, images that it did not see are trained on too.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mindeye_pl.data.image_sources import decode_image
from mindeye_pl.data.layout.hdf5 import open_hdf5
from mindeye_pl.data.released.preparation import Preparation, Recorded, noise_ceiling_to_ncsnr
from mindeye_pl.data.released.tables import numbers, read_table
from mindeye_pl.data.released.volumes import read_masks, read_series, read_volume
from mindeye_pl.errors import UserError
from mindeye_pl.store.json_files import read_json

#: Pool of the images that all subjects saw.
SHARED = "shared"
_TESTED = "shared_"
#: Noise ceiling in percent for the average of this many responses.
_CEILING, _REPETITIONS = "Noiseceiling12rep", 12


class LaionFmri(Preparation):
    """Voxels are those of `voxel_regions`, by default of all released regions; `subjects` are those of the files."""

    def _derivatives(self, subject: int) -> Path:
        return self.folder / "derivatives/glmsingle-tedana" / _name(subject)

    def _sessions(self, subject: int) -> list[str]:
        found = sorted(path.name for path in self._derivatives(subject).glob("ses-*") if path.is_dir())
        if not found:
            raise UserError(f"{self._derivatives(subject)} has no sessions", expected="ses-01, ses-02, ...")
        return found

    def _session_file(self, subject: int, session: str, end: str) -> Path:
        return self._derivatives(subject) / session / "func" / f"{_name(subject)}_{session}_task-images_{end}"

    def _betas(self, subject: int, session: str) -> Path:
        return self._session_file(subject, session, "space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz")

    def _trials(self, subject: int, session: str) -> Path:
        return self._session_file(subject, session, "desc-SingletrialBetas_trials.tsv")

    def _ceiling(self, subject: int) -> Path:
        return self._derivatives(subject) / f"{_name(subject)}_task-images_space-T1w_desc-{_CEILING}_statmap.nii.gz"

    def _masks(self, subject: int) -> dict[str, Path]:
        """Return the masks of the regions that are kept, by name."""
        folder = self.folder / "derivatives/rois" / _name(subject)
        head, tail = f"{_name(subject)}_space-T1w_res-1pt8_label-", "_mask.nii.gz"
        paths = sorted(folder.rglob(f"{head}*{tail}"))
        found = {path.name.removeprefix(head).removesuffix(tail): path for path in paths}
        if missing := set(self.voxel_regions or ()) - set(found):
            raise UserError(f"{folder} has no region {missing.pop()}", expected=", ".join(sorted(found)[:8]))
        if not found:
            raise UserError(f"{folder} has no regions", expected=f"CATEGORY/{head}V1{tail}")
        return {name: found[name] for name in self.voxel_regions or found}

    @property
    def _images_file(self) -> Path:
        return self.folder / "stimuli/task-images_stimuli.h5"

    @property
    def _images_table(self) -> Path:
        return self.folder / "stimuli/task-images_metadata.csv"

    @cached_property
    def _split_files(self) -> dict[str, tuple[str, Path]]:
        """Pool and file of each list by the split's name."""
        pools = [SHARED, *map(_name, self.subjects)]
        paths = [(pool, path) for pool in pools for path in sorted((self.folder / "splits" / pool).glob("*.json"))]
        return {path.stem if pool == SHARED else f"{path.stem}_{pool}": (pool, path) for pool, path in paths}

    def files(self) -> list[Path]:
        """Return images, betas, trials, masks, noise ceilings where they exist, and lists."""
        found = [self._images_file, self._images_table, *(path for _, path in self._split_files.values())]
        for subject in self.subjects:
            for session in self._sessions(subject):
                found += [self._betas(subject, session), self._trials(subject, session)]
            found += self._masks(subject).values()
            found += [path for path in [self._ceiling(subject)] if path.is_file()]
        return found

    @cached_property
    def _labels(self) -> dict[int, list[list[str]]]:
        """The image of each response, by subject and session, in the betas' order."""
        found: dict[int, list[list[str]]] = {}
        for subject in self.subjects:
            found[subject] = []
            for path in (self._trials(subject, session) for session in self._sessions(subject)):
                table = read_table(path, ("beta_index", "label"), "\t")
                order = np.argsort(numbers(path, "beta_index", table["beta_index"]))
                found[subject].append([table["label"][row] for row in order])
        return found

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Row in the images file of each image that the subjects saw, in the order of the stimulus ids."""
        seen = {label for sessions in self._labels.values() for session in sessions for label in session}
        names = read_table(self._images_table, ("image_name",))["image_name"]
        rows = {name: row for row, name in enumerate(names) if name in seen}
        if missing := seen - set(rows):
            raise UserError(f"{self._images_table} lacks an image that was shown", got=sorted(missing)[0])
        return rows

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self._rows)}

    def images(self) -> Iterator[np.ndarray]:
        """Yield the images, JPEG files in a dataset of bytes."""
        with open_hdf5(self._images_file) as file:
            if "images" not in file:
                raise UserError(f"{self._images_file} has no dataset images", got=sorted(file))
            for name, row in self._rows.items():
                yield decode_image(bytes(file["images"][row]), name)

    def trials(self, subject: int) -> Recorded:
        """Return the trials; shared images are tested."""
        sessions = self._labels[subject]
        labels = [label for session in sessions for label in session]
        numbered = np.repeat(np.arange(len(sessions)), list(map(len, sessions)))
        return Recorded.of_sessions(labels, self._index, {one for one in labels if one.startswith(_TESTED)}, numbered)

    def betas(self, subject: int) -> Iterator[np.ndarray]:
        """Yield each session's responses."""
        inside = np.logical_or.reduce(read_masks(list(self._masks(subject).values())))
        for session in self._sessions(subject):
            yield read_series(self._betas(subject, session), inside)

    def regions(self, subject: int) -> dict[str, np.ndarray]:
        """Return the regions that are kept."""
        paths = self._masks(subject)
        masks = read_masks(list(paths.values()))
        inside = np.logical_or.reduce(masks)
        return {name: mask[inside] for name, mask in zip(paths, masks, strict=True)}

    def ncsnr(self, subject: int) -> np.ndarray | None:
        """Return the ratio of the noise ceiling for the average of twelve responses."""
        if not (path := self._ceiling(subject)).is_file():
            return None
        inside = np.logical_or.reduce(read_masks(list(self._masks(subject).values())))
        return noise_ceiling_to_ncsnr(read_volume(path)[inside], _REPETITIONS)

    def splits(self) -> dict[str, dict[str, list[int]]]:
        """Return the lists of the dataset, by pool and name."""
        return {name: self._split(pool, path) for name, (pool, path) in self._split_files.items()}

    def _split(self, pool: str, path: Path) -> dict[str, list[int]]:
        try:
            content: Any = read_json(path)
            (lists,) = content["variants"]
            trained, tested = set(lists["train_ids"]), set(lists["test_ids"])
        except (KeyError, TypeError, ValueError, OSError) as error:
            expected = '{"variants": [{"train_ids": [...], "test_ids": [...]}]}'
            raise UserError(f"{path} is not a list of a split", got=error, expected=expected) from error
        if pool == SHARED:
            others = set(self._index) - trained - tested
        else:
            subject = next(one for one in self.subjects if _name(one) == pool)
            others = {label for session in self._labels[subject] for label in session} - trained - tested
        kept = (tested & set(self._index), others)
        return {
            key: sorted(self._index[one] for one in of) for key, of in zip(("tested", "left_out"), kept, strict=True)
        }


def _name(subject: int) -> str:
    return f"sub-{subject:02d}"
