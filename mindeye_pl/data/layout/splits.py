"""Splits: the images that are tested and never trained on. Held-out clusters are groups of similar images.

NSD's training and test images belong to the same semantic clusters, so that a decoder can score well by recognising the
cluster and reproducing training images of it (Shirakawa et al., arXiv 2405.10078). Here k-means in CLIP space puts all
images into k clusters. The split `cluster_k5_0` leaves cluster 0 of 5 out of every training, and tests its images in
the standard test set. The names are those of LAION-fMRI, whose own lists of images are another kind
(`listed_splits.py`).

Legend: N images in the images file, E width of CLIP's embedding, n requested images.
"""

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

import numpy as np
from threadpoolctl import threadpool_limits

from mindeye_pl.console import console
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.trials import (
    NumSessions,
    TestImages,
    Trials,
    load_all_trials,
    load_test_trials,
    load_training_trials,
)
from mindeye_pl.errors import UserError
from mindeye_pl.store.atomic import write_array
from mindeye_pl.store.built_once import FolderKind

STANDARD = "standard"


#: The schema is raised too when the same images would be put into other clusters.
KIND = FolderKind("clusters", schema=2, option="paths.artifacts")
CLUSTERS = "clusters.npy"  # (N,) int64

#: Starts of k-means; the best is kept. The seed determines the numbers of the clusters, so it is not an option.
_STARTS, _SEED = 10, 0


@dataclass(frozen=True)
class ClusterName:
    """The split `cluster_k{k}_{index}`: cluster `index` of `k` is left out."""

    k: int
    index: int

    def __str__(self) -> str:
        return f"cluster_k{self.k}_{self.index}"


@dataclass(frozen=True)
class ImageWiseName:
    """The split `image_wise_{percent}`: the images that were shown first are trained on, `percent` of 100."""

    percent: int

    def __str__(self) -> str:
        return f"image_wise_{self.percent}"


@dataclass(frozen=True)
class ListedName:
    """A split of the dataset's own, which lists its images by this name."""

    name: str

    def __str__(self) -> str:
        return self.name


SplitName = ClusterName | ImageWiseName | ListedName


def read_split(name: str, listed: Sequence[str] = ()) -> SplitName | None:
    """Parse the name of a split, None for the standard split; raises a UserError with the valid forms.

    A name of the dataset's own, by one of the patterns `listed` (`tau*`), is that split, whatever else it could mean.
    """
    if name == STANDARD:
        return None
    if any(fnmatchcase(name, pattern) for pattern in listed):
        return ListedName(name)
    if found := re.fullmatch(r"image_wise_([1-9]\d?)", str(name)):
        return ImageWiseName(int(found[1]))
    found = re.fullmatch(r"cluster_k([1-9]\d*)_(0|[1-9]\d*)", str(name))
    if found is None or not int(found[2]) < int(found[1]) > 1:
        expected = (
            "standard, or cluster_k{k}_{i} with i from 0 to k - 1 (cluster_k5_0: the first of five), "
            "or image_wise_{percent} with 1 to 99 (image_wise_85: trained on the images that were shown first)"
        )
        expected += f", or {', '.join(listed)}" if listed else ""
        raise UserError("data.split: no such split", got=name, expected=expected, fix=f"data.split={STANDARD}")
    return ClusterName(int(found[1]), int(found[2]))


class LeftOut(ABC):
    """Images that are tested and never trained on, and the trials of training and test."""

    name: SplitName

    @abstractmethod
    def holds(self, stimulus_ids: np.ndarray) -> np.ndarray:
        """Return the mask of the left-out images, `(n,)` bool of `(n,)` stimulus ids."""

    def training_trials(
        self,
        layout: DataLayout,
        subject: int,
        num_sessions: NumSessions,
        cache_dir: Path,
        *,
        test_images: TestImages = "refuse",
    ) -> Trials:
        """Return the trials of `load_training_trials` whose images are not left out."""
        trials = load_training_trials(layout, subject, num_sessions, cache_dir, test_images=test_images)
        return trials.select(~self.holds(trials.stimulus_ids))

    @abstractmethod
    def test_trials(self, layout: DataLayout, subject: int, split: str, cache_dir: Path) -> Trials:
        """Return the test trials of a subject in temporal order, see `load_test_trials`."""


@dataclass(frozen=True, eq=False)
class LeftOutCluster(LeftOut):
    """Images of one cluster; those of the shared1000 are tested. See `LeftOut`."""

    name: ClusterName
    clusters: np.ndarray  # (N,) integers, cluster of each image of the images file

    def holds(self, stimulus_ids: np.ndarray) -> np.ndarray:
        """Return the mask of the images in the cluster."""
        return self.clusters[stimulus_ids] == self.name.index

    def test_trials(self, layout: DataLayout, subject: int, split: str, cache_dir: Path) -> Trials:
        """Return the trials of the standard test set whose images are in the cluster; errors as `check_tested`."""
        trials = load_test_trials(layout, subject, split, cache_dir)
        self.check_tested(trials.stimulus_ids, f"subject {subject}")
        return trials.select(self.holds(trials.stimulus_ids))

    def check_tested(self, stimulus_ids: np.ndarray, owner: str) -> None:
        """Raise a UserError that names other clusters if no test image `(n,)` of a subject is in the cluster."""
        if len(stimulus_ids) == 0 or self.holds(stimulus_ids).any():
            return
        tested = [str(ClusterName(self.name.k, index)) for index in np.unique(self.clusters[stimulus_ids]).tolist()]
        raise UserError(
            f"data.split: none of the {len(np.unique(stimulus_ids))} test images of {owner} is in this cluster",
            got=self.name,
            expected=f"one with test images, {', '.join(tested[:5])}{', ...' if len(tested) > 5 else ''}",
            fix=f"data.split={tested[0]}, or fewer clusters",
        )


def fit_clusters(embeddings: np.ndarray, k: int) -> np.ndarray:
    """Cluster embeddings `(N, E)`, none of them zero, by k-means on the unit sphere, `(N,)` int64; the largest is 0.

    With one thread the same embeddings always give the same clusters; several would sum a centre in any order. Raises a
    UserError if there are fewer distinct images than clusters.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    too_few = "data.split asks for more clusters than there are different images"
    if len(embeddings) < k:
        raise UserError(too_few, got=k, expected=f"2 to {len(embeddings)}")
    directions = np.array(embeddings, np.float32)  # a copy, which k-means may change
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of too few different points, refused below
        found = KMeans(k, n_init=_STARTS, random_state=_SEED, copy_x=False).fit_predict(directions)
    _, first, sizes = np.unique(found, return_index=True, return_counts=True)
    if len(sizes) < k:
        raise UserError(too_few, got=k, expected=f"2 to {len(sizes)}")
    rank = np.empty(len(sizes), np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))  # among equal sizes the lowest stimulus id comes first
    return rank[found]


def kept_clusters(
    folder: Path, k: int, num_images: int, embeddings: Callable[[], np.ndarray], *, description: dict[str, Any]
) -> np.ndarray:
    """Return the cluster of each image, `(N,)` int64, from a folder that is built once.

    Trainings on different subjects must leave out the same images, so all of them read the one folder; concurrent
    processes wait for each other. Only a missing folder needs the embeddings, `(N, E)`. Its name should contain a
    fingerprint of the description, plain data that determine the embeddings.

    Raises a UserError if the folder is damaged or contains other clusters, or as `fit_clusters`.
    """

    def build(work: Path) -> None:
        points = embeddings()
        assert len(points) == num_images, f"{len(points)} embeddings of {num_images} images"
        clusters = fit_clusters(points, k)
        sizes = ", ".join(map(str, np.bincount(clusters, minlength=k)))
        console.print(f"put {num_images} images into {k} clusters of {sizes}")
        write_array(work / CLUSTERS, clusters)

    KIND.built(folder, {"k": k, "num_images": num_images, "description": description}, build)
    return np.load(folder / CLUSTERS, allow_pickle=False)


@dataclass(frozen=True, eq=False)
class LeftOutLast(LeftOut):
    """Images that one subject first saw at the end of its sessions in use. See `LeftOut`."""

    name: ImageWiseName
    trials: Trials  # all trials of the subject in the sessions in use, in temporal order
    stimulus_ids: np.ndarray  # (T,) int64, ascending, of the test images
    test_split: str  # split whose shard has the trials of shared1000 images

    @classmethod
    def of_subject(
        cls,
        name: ImageWiseName,
        layout: DataLayout,
        subject: int,
        num_sessions: NumSessions,
        *,
        test_split: str,
        cache_dir: Path,
        test_images: TestImages = "refuse",
    ) -> Self:
        """Return the left-out images of a subject's first sessions.

        Raises a UserError as `load_all_trials`, or if there are too few images to split.
        """
        trials = load_all_trials(layout, subject, num_sessions, test_split, cache_dir, test_images=test_images)
        images = by_first_appearance(trials.stimulus_ids)
        trained = len(images) * name.percent // 100
        if not 0 < trained < len(images):
            got = f"{name} of {len(images)} images of subject {subject}"
            what = "data.split leaves nothing to train on, or nothing to test"
            raise UserError(what, got=got, fix="more sessions, or data.split=standard")
        return cls(name, trials, np.sort(images[trained:]), test_split)

    def holds(self, stimulus_ids: np.ndarray) -> np.ndarray:
        """Return the mask of the test images."""
        return np.isin(stimulus_ids, self.stimulus_ids)

    def training_trials(
        self,
        layout: DataLayout,
        subject: int,
        num_sessions: NumSessions,
        cache_dir: Path,
        *,
        test_images: TestImages = "refuse",
    ) -> Trials:
        """Return the subject's trials without test images; for other subjects those of the training split."""
        if subject != self.trials.subject:
            return super().training_trials(layout, subject, num_sessions, cache_dir, test_images=test_images)
        trials = load_all_trials(layout, subject, num_sessions, self.test_split, cache_dir, test_images=test_images)
        return trials.select(~self.holds(trials.stimulus_ids))

    def test_trials(self, layout: DataLayout, subject: int, split: str, cache_dir: Path) -> Trials:
        """Return all trials of test images in the sessions in use, of the tested subject only."""
        assert subject == self.trials.subject, f"subject {self.trials.subject} is tested, not {subject}"
        return self.trials.select(self.holds(self.trials.stimulus_ids))


def by_first_appearance(stimulus_ids: np.ndarray) -> np.ndarray:
    """Return the distinct stimulus ids of trials `(n,)` in temporal order, by their first trial."""
    ids, first = np.unique(stimulus_ids, return_index=True)
    return ids[np.argsort(first)]
