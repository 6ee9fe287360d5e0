"""MindEye1's own files of NSD: where they lie, and what brings them (MindEye1, spec section 2.2)."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mindeye_pl.data.nsd.layout import NSDLayout
from mindeye_pl.errors import UserError

#: Prepared for these alone.
SUBJECTS = (1, 2, 5, 7)

#: Training is train and val together; the images of test are the test set.
SPLITS = ("train", "val", "test")
TEST = "test"

_REPOSITORY, _FOLDER = "pscotti/naturalscenesdataset", "webdataset_avg_split"


@dataclass(frozen=True)
class MindEye1Layout:
    """The folder `webdataset_avg_split`.

    Attributes:
        source_dir: the folder that it lies in.
        shards: number of tar shards of each split, published 18, 1 and 2.
    """

    source_dir: Path
    shards: Mapping[str, int]

    def metadata(self, subject: int) -> Path:
        """Json with the numbers of samples: `totals.train`, `totals.val`."""
        return self.source_dir / _FOLDER / f"metadata_subj0{subject}.json"

    def shards_of(self, subject: int) -> Iterator[tuple[str, Path]]:
        """The tar shards of a subject, each with its split."""
        for split in SPLITS:
            for index in range(self.shards[split]):
                yield split, self.source_dir / _FOLDER / split / f"{split}_subj0{subject}_{index}.tar"

    def companions(self) -> list[Path]:
        """Files of MindEye2's that lie beside the folder and tell more of the same voxels and images."""
        of_mindeye2 = NSDLayout(self.source_dir)
        known = (of_mindeye2.region_masks, of_mindeye2.ncsnr, of_mindeye2.captions)
        return [path for path in known if path.is_file()]

    def fetch(self, path: Path) -> str:
        """The command that downloads a file of this layout to its place."""
        name = path.relative_to(self.source_dir).as_posix()
        folder = shlex.quote(str(self.source_dir))
        return f"hf download {_REPOSITORY} {name} --repo-type dataset --local-dir {folder}"

    def missing(self, subjects: Sequence[int]) -> list[Path]:
        """The shards of some subjects that are not there.

        Raises:
            UserError: for a subject without such files.
        """
        if others := [subject for subject in subjects if subject not in SUBJECTS]:
            raise UserError(
                "MindEye1 prepared NSD for four subjects",
                got=f"subject {others[0]}",
                expected=f"some of {list(SUBJECTS)}",
                fix=f"data.subjects={[subject for subject in subjects if subject in SUBJECTS]}",
            )
        return [path for subject in subjects for _, path in self.shards_of(subject) if not path.is_file()]

    def check(self, subjects: Sequence[int]) -> None:
        """Checks that the shards of some subjects are there, before anything is read.

        Raises:
            UserError: naming the first that is not and the command that brings it, or a subject without such files.
        """
        if missing := self.missing(subjects):
            number = sum(1 for subject in subjects for _ in self.shards_of(subject))
            raise UserError(
                f"{missing[0]} is missing",
                got=f"{number - len(missing)} of {number} shards of subjects {list(subjects)}",
                fix=f"{self.fetch(missing[0])}, or data.subjects=[...]",
            )
