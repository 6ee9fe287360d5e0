"""NSD-imagery: responses to simple shapes and natural scenes while they were seen, and while they were imagined.

Twelve runs in a fixed order. A run of vision or imagery has 48 responses to six targets, eight each; a run of attention
has 96, two for each trial, and is not tested. Set C are words without an image and is not tested either. So the seen
images have 8 responses each and the imagined ones 16.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from mindeye_pl.data.image_sources import read_pixels
from mindeye_pl.data.nsd_tests.further_test import FurtherTest, FurtherTrials
from mindeye_pl.data.nsd_tests.mat_files import read_mat
from mindeye_pl.errors import UserError

VISION, IMAGERY = "nsd_vision_test", "nsd_imagery_test"

#: Order of the responses within a run: by onset, or all of one condition before those of the next.
OrderInRuns = Literal["by_onset", "by_condition"]

#: Runs in the order of the betas.
RUNS = ("visA", "attA", "imgA_1", "visB", "attB", "imgB_1", "visC", "attC", "imgC_1", "imgA_2", "imgB_2", "imgC_2")
_SETS_WITH_IMAGES = "AB"


class Imagery(FurtherTest):
    """A run's six columns of `designmatrixGLMsingle.mat` are the six targets of its set, in their order."""

    betas_folder, betas_name = "nsdimagerybetas_fithrf_GLMdenoise_RR", "betas_nsdimagery"

    def __init__(self, folder: Path, order_in_runs: OrderInRuns = "by_onset"):
        super().__init__(folder)
        self.order_in_runs: OrderInRuns = order_in_runs

    @property
    def _experiment(self) -> Path:
        return self.folder / "nsddata/experiments/nsdimagery"

    @property
    def _design(self) -> Path:
        return self._experiment / "designmatrixGLMsingle.mat"

    def _pair_list(self, name: str) -> Path:
        return self._experiment / f"{name}_pair_list.mat"

    def _targets(self, name: str) -> list[Path]:
        """Return the six image files of a set, in the order of their numbers."""
        pairs = read_mat(self._pair_list(name), "pair_list")  # (6, 3) cells: number, file, letter of the cue
        rows = sorted((int(float(str(_plain(row[0])))), str(_plain(row[1]))) for row in pairs)
        return [self._experiment / "rawtargetimages" / f"set{name}" / file for _, file in rows]

    def files(self, subject: int) -> list[Path]:
        """Return betas, mask, design, the sets' lists and their images."""
        lists = [self._pair_list(name) for name in _SETS_WITH_IMAGES]
        known = [path for name in _SETS_WITH_IMAGES if self._pair_list(name).is_file() for path in self._targets(name)]
        return [self.betas_file(subject), self.mask(subject), self._design, *lists, *known]

    def images(self, subject: int) -> Mapping[str, Callable[[], np.ndarray]]:
        """Return the readers of the twelve images."""
        paths = [path for name in _SETS_WITH_IMAGES for path in self._targets(name)]
        return {_name(path): partial(_read, path) for path in paths}

    def conditions(self) -> list[np.ndarray]:
        """Return the condition of each response of each run, from 0 in the order of the design's columns."""
        design = read_mat(self._design, "stimulus").ravel()  # a cell `(times, conditions)` for each run
        if len(design) != len(RUNS):
            raise UserError(f"{self._design} has another number of runs", got=len(design), expected=len(RUNS))
        found = []
        for cell in design:
            times, columns = np.nonzero(np.asarray(cell.todense() if hasattr(cell, "todense") else cell))
            conditions = np.unique(columns, return_inverse=True)[1]
            order = np.lexsort((conditions, times) if self.order_in_runs == "by_onset" else (times, conditions))
            found.append(conditions[order])
        return found

    def trials(self, subject: int) -> FurtherTrials:
        """Return the images of sets A and B in runs of vision and of imagery; nothing of the other runs."""
        images: list[str | None] = []
        masks: dict[str, list[bool]] = {VISION: [], IMAGERY: []}
        targets = {name: [_name(path) for path in self._targets(name)] for name in _SETS_WITH_IMAGES}
        for run, conditions in zip(RUNS, self.conditions(), strict=True):
            kind, name = run[:3], run[3]
            tested = kind != "att" and name in targets
            if tested and (count := conditions.max() + 1) != len(targets[name]):
                what = f"{self._design}: run {run} has other conditions than the set's images"
                raise UserError(what, got=count, expected=len(targets[name]))
            images += [targets[name][one] if tested else None for one in conditions]
            for split, mask in masks.items():
                mask += [tested and kind == ("vis" if split == VISION else "img")] * len(conditions)
        return FurtherTrials(images, {split: np.array(mask) for split, mask in masks.items()})

    def agreement(self, subject: int, betas: np.ndarray) -> dict[str, float]:
        """Return the mean correlation of seen images' responses `(T, V)` within a condition, by order in the runs.

        The true order has the higher one.
        """
        found = {}
        for order in get_args(OrderInRuns):
            trials = Imagery(self.folder, order).trials(subject)
            rows = np.flatnonzero(trials.splits[VISION])
            centred = betas[rows] - betas[rows].mean(0)
            centred /= np.linalg.norm(centred, axis=1, keepdims=True) + 1e-12
            names = np.array([trials.images[row] for row in rows])
            same = (names[:, None] == names) & ~np.eye(len(names), dtype=bool)
            found[order] = float((centred @ centred.T)[same].mean())
        return found


def _plain(cell: np.ndarray) -> object:
    """Return the one value of a cell."""
    while isinstance(cell, np.ndarray):
        cell = cell.ravel()[0]
    return cell


def _name(path: Path) -> str:
    return f"imagery {path.stem}"


def _read(path: Path) -> np.ndarray:
    return read_pixels(path).numpy()
