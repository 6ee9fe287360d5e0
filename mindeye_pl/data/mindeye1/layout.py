"""File layout of MindEye1's NSD files, and the commands that download them (MindEye1, spec section 2.2)."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.errors import UserError

#: Subjects that MindEye1 prepared.
SUBJECTS = (1, 2, 5, 7)

#: Splits: train and val together are the training set; test is the test set.
SPLITS = ("train", "val", "test")
TEST = "test"

_REPOSITORY, _FOLDER = "pscotti/naturalscenesdataset", "webdataset_avg_split"


@dataclass(frozen=True)
class MindEye1Layout:
    """Layout of the folder `webdataset_avg_split`."""

    source_dir: Path  # its parent folder
    shards: Mapping[str, int]  # number of tar shards of each split, published 18, 1 and 2

    def metadata(self, subject: int) -> Path:
        """Return the path of the JSON with the numbers of samples: `totals.train`, `totals.val`."""
        return self.source_dir / _FOLDER / f"metadata_subj0{subject}.json"

    def shards_of(self, subject: int) -> Iterator[tuple[str, Path]]:
        """Yield the tar shards of a subject, each with its split."""
        for split in SPLITS:
            for index in range(self.shards[split]):
                yield split, self.source_dir / _FOLDER / split / f"{split}_subj0{subject}_{index}.tar"

    def companion_files(self) -> list[Path]:
        """Return MindEye2's existing files beside the folder, which describe the same voxels and images."""
        mindeye2 = DataLayout(self.source_dir)
        masks = map(mindeye2.brain_mask, SUBJECTS)
        return [path for path in (mindeye2.region_masks, mindeye2.ncsnr, mindeye2.captions, *masks) if path.is_file()]

    def fetch_command(self, path: Path) -> str:
        """Return the command that downloads a file of this layout."""
        name = path.relative_to(self.source_dir).as_posix()
        folder = shlex.quote(str(self.source_dir))
        return f"hf download {_REPOSITORY} {name} --repo-type dataset --local-dir {folder}"

    def missing_shards(self, subjects: Sequence[int]) -> list[Path]:
        """Return the missing shards; raises a UserError for a subject that MindEye1 did not prepare."""
        if others := [subject for subject in subjects if subject not in SUBJECTS]:
            got, expected = f"subject {others[0]}", f"subjects among {list(SUBJECTS)}"
            fix = f"data.subjects={[subject for subject in subjects if subject in SUBJECTS]}"
            raise UserError("MindEye1 has files of four subjects only", got=got, expected=expected, fix=fix)
        return [path for subject in subjects for _, path in self.shards_of(subject) if not path.is_file()]

    def check(self, subjects: Sequence[int]) -> None:
        """Raise a UserError if a shard is missing, with the command that downloads it, or as `missing_shards`."""
        if missing := self.missing_shards(subjects):
            number = sum(1 for subject in subjects for _ in self.shards_of(subject))
            got = f"{number - len(missing)} of {number} shards of subjects {list(subjects)}"
            fix = f"{self.fetch_command(missing[0])}, or data.subjects=[...]"
            raise UserError(f"{missing[0]} is missing", got=got, fix=fix)
