"""Splits that a dataset brings itself: lists of stimulus ids in `splits.json`.

Tested images may be any that a subject saw, of its training shards too. LAION-fMRI's `tau`, `ood` and `cluster_k5_0` to
`cluster_k5_4` are such lists.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import TypeAdapter, ValidationError

from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.splits import LeftOut, ListedName
from mindeye_pl.data.layout.trials import NumSessions, TestImages, Trials, load_all_trials
from mindeye_pl.errors import UserError
from mindeye_pl.store.regular_files import check_regular

#: Format of the file, for error messages.
SPLITS_LAYOUT = 'a json object from names to {"tested": stimulus ids, "left_out": further ids never trained on}'


@dataclass(frozen=True, eq=False)
class LeftOutListed(LeftOut):
    """Images that a list names. See `LeftOut`."""

    name: ListedName
    tested: np.ndarray  # (n,) int64, ascending
    left_out: np.ndarray  # (m,) int64, ascending, neither trained on nor tested
    test_split: str  # split whose shard has the trials that no training shard has

    @classmethod
    def read(cls, name: ListedName, path: Path, num_images: int, test_split: str) -> Self:
        """Read the split from a dataset's `splits.json`.

        Raises a UserError if the file is missing, has another format or no such split, or an id is out of range.
        """
        lists = read_splits(path)
        if name.name not in lists:
            what = f"data.split: {path} has no such split"
            raise UserError(what, got=name, expected=", ".join(sorted(lists)[:8]) or "at least one split")
        tested, left_out = (np.unique(np.array(ids, np.int64)) for ids in lists[name.name])
        for ids in (tested, left_out):
            if len(ids) and not 0 <= ids[0] <= ids[-1] < num_images:
                raise UserError(
                    f"{path}: an id of {name} is out of range", got=ids[-1], expected=f"0 to {num_images - 1}"
                )
        if not len(tested):
            raise UserError(f"{path}: {name} tests no image")
        return cls(name, tested, left_out, test_split)

    def holds(self, stimulus_ids: np.ndarray) -> np.ndarray:
        """Return the mask of the images that are never trained on."""
        return np.isin(stimulus_ids, self.tested) | np.isin(stimulus_ids, self.left_out)

    def training_trials(
        self,
        layout: DataLayout,
        subject: int,
        num_sessions: NumSessions,
        cache_dir: Path,
        *,
        test_images: TestImages = "refuse",
    ) -> Trials:
        """Return a subject's trials, those of the test shard too, whose images are not left out."""
        trials = load_all_trials(layout, subject, num_sessions, self.test_split, cache_dir, test_images=test_images)
        return trials.select(~self.holds(trials.stimulus_ids))

    def test_trials(self, layout: DataLayout, subject: int, split: str, cache_dir: Path) -> Trials:
        """Return all trials of the tested images in all sessions; a UserError if the subject saw none of them."""
        trials = load_all_trials(layout, subject, "all", split, cache_dir)
        found = trials.select(np.isin(trials.stimulus_ids, self.tested))
        if not len(found):
            raise UserError(f"data.split: subject {subject} saw no image of this split", got=self.name)
        return found


def read_splits(path: Path) -> dict[str, tuple[list[int], list[int]]]:
    """Return tested and further left-out stimulus ids of each split by name; a UserError for another format."""
    if not check_regular(path).is_file():
        raise UserError("the dataset lists no splits", got=f"no {path.name} in {path.parent}", expected=SPLITS_LAYOUT)
    try:
        found = TypeAdapter(dict[str, dict[str, list[int]]]).validate_json(path.read_bytes(), strict=True)
    except (OSError, ValidationError) as error:
        got = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise UserError(f"{path} is not a file of splits", got=got, expected=SPLITS_LAYOUT) from error
    if wrong := [name for name, lists in found.items() if not {"tested"} <= set(lists) <= {"tested", "left_out"}]:
        got = f"{wrong[0]} with {', '.join(found[wrong[0]]) or 'nothing'}"
        raise UserError(f"{path} is not a file of splits", got=got, expected=SPLITS_LAYOUT)
    return {name: (lists["tested"], lists.get("left_out", [])) for name, lists in found.items()}
