"""Choice of the images that are tested and never trained on.

Legend: N images of the study, S subjects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mindeye_pl.data.layout.splits import fit_clusters
from mindeye_pl.data.own.images import read_square_pixels
from mindeye_pl.errors import UserError

#: Rules of the choice, the values of `own.split`.
Rule = Literal["shared", "held_out", "cluster"]

#: Fewest test images by their repetitions, and the fraction of the images that they are where there are fewer images.
_FEWEST, _FEWEST_FRACTION = 20, 0.1
#: Side of the thumbnails that are clustered.
_THUMBNAIL = 8


@dataclass(frozen=True)
class TestChoice:
    """The tested images, `(N,)` bool, and a sentence that says how they were chosen."""

    is_test: np.ndarray
    reason: str


def choose_test_images(
    rule: Rule, fraction: float, presentations: np.ndarray, chances: np.ndarray, files: Sequence[Path]
) -> TestChoice:
    """Choose the test images of all subjects.

    `shared` takes the images that were presented most often, to every subject if there are such images: as NSD's
    shared1000. They are at least 20, or a tenth of all images, and at most half of them. Where all images have equally
    many presentations, a fraction of them is held out. `held_out` takes a fraction by the images' content. `cluster`
    takes one k-means cluster of the images' thumbnails, of about that fraction: no training image looks like it.

    Args:
        rule: of the choice.
        fraction: of the images, for `held_out` and `cluster`.
        presentations: `(S, N)` int64, how often each subject saw each image.
        chances: `(N,)` in [0, 1), fixed numbers of the images.
        files: N paths.

    Raises:
        UserError: if there are fewer than four images, so that two cannot be tested and two trained on.
    """
    if len(files) < 4:
        raise UserError("there are too few images to test some", got=len(files), expected="at least 4 different images")
    count = int(np.clip(round(fraction * len(files)), 2, len(files) - 2))
    if rule == "cluster":
        return _cluster(fraction, files)
    if rule == "shared":
        seen = presentations.min(0) if presentations.min(0).any() else presentations.max(0)  # (N,)
        fewest = max(2, min(_FEWEST, round(_FEWEST_FRACTION * len(files))))
        most = next(number for number in range(int(seen.max()), -1, -1) if (seen >= number).sum() >= fewest)
        chosen = seen >= most
        if chosen.sum() <= len(files) // 2:
            return TestChoice(chosen, f"the {chosen.sum()} images with the most presentations, {most} or more")
        among = np.flatnonzero(chosen)
        why = f"{chosen.sum()} of {len(files)} images were presented {most} times or more"
        return TestChoice(_lowest(chances, among, count), f"{count} images by their content, as {why}")
    return TestChoice(_lowest(chances, np.arange(len(files)), count), f"{count} images by their content")


def _lowest(chances: np.ndarray, among: np.ndarray, count: int) -> np.ndarray:
    chosen = np.zeros(len(chances), bool)
    chosen[among[np.argsort(chances[among], kind="stable")[:count]]] = True
    return chosen


def _cluster(fraction: float, files: Sequence[Path]) -> TestChoice:
    k = int(np.clip(round(1 / fraction), 2, len(files) // 2))
    thumbnails = np.stack([read_square_pixels(path, _THUMBNAIL, "stretch") for path in files]).reshape(len(files), -1)
    points = np.concatenate([thumbnails - thumbnails.mean(0), np.ones((len(files), 1))], 1)  # no point is at the origin
    clusters = fit_clusters(points, k)
    sizes = np.bincount(clusters, minlength=k)
    wanted = fraction * len(files)
    index = min(range(k), key=lambda one: (sizes[one] < 2, abs(sizes[one] - wanted)))
    if sizes[index] < 2 or len(files) - sizes[index] < 2:
        raise UserError("own.split=cluster finds no group of images", got=sizes.tolist(), fix="own.split=held_out")
    return TestChoice(clusters == index, f"cluster {index} of {k} by colour and layout, {sizes[index]} images")
