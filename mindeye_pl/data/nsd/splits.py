"""Splits: which images are tested and never trained on. Held-out clusters are groups of like images.

NSD's training and test images share their clusters of meaning, so that a decoder can score well by naming the cluster
and showing what it remembers of it (Shirakawa et al., arXiv 2405.10078). Here all images of the images file are
put into k clusters by k-means in CLIP space. The split `cluster_k5_0` leaves cluster 0 of 5 out of every training, and
its test set is what the standard test set has of cluster 0. Names as LAION-fMRI has them.

Legend: N images in the images file, E width of CLIP's embedding, n images asked for.
"""

import json
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from filelock import FileLock
from threadpoolctl import threadpool_limits

from mindeye_pl.console import console
from mindeye_pl.data.nsd.layout import NSDLayout
from mindeye_pl.data.nsd.trials import NumSessions, Trials, load_all_trials, load_test_trials, load_training_trials
from mindeye_pl.errors import UserError
from mindeye_pl.store.atomic import write_text

STANDARD = "standard"

#: What `data.split` may be, in words.
KNOWN = (
    "standard, or cluster_k{k}_{i} with i from 0 to k - 1 (cluster_k5_0: the first of five), "
    "or image_wise_{percent} with 1 to 99 (image_wise_85: trained on the images that were shown first)"
)

#: Raised when the same images would be put into other clusters, or the file's meaning changes.
SCHEMA_VERSION = 1

#: Starts of k-means, of which the best is kept. The seed belongs to the names of the clusters, so it is no option.
_STARTS, _SEED = 10, 0


@dataclass(frozen=True)
class ClusterName:
    """What `cluster_k{k}_{index}` says: cluster `index` of `k`."""

    k: int
    index: int

    def __str__(self) -> str:
        return f"cluster_k{self.k}_{self.index}"


@dataclass(frozen=True)
class ImageWiseName:
    """What `image_wise_{percent}` says: so many of a hundred images are trained on, those that were shown first."""

    percent: int

    def __str__(self) -> str:
        return f"image_wise_{self.percent}"


def read_split(name: str) -> ClusterName | ImageWiseName | None:
    """What the split of this name leaves out, None for the standard split.

    Raises:
        UserError: for another name, with the known forms.
    """
    if name == STANDARD:
        return None
    if (found := re.fullmatch(r"image_wise_([1-9]\d?)", str(name))) is not None:
        return ImageWiseName(int(found[1]))
    found = re.fullmatch(r"cluster_k([1-9]\d*)_(0|[1-9]\d*)", str(name))
    if found is None or not int(found[2]) < int(found[1]) > 1:
        raise UserError("data.split: no such split", got=name, expected=KNOWN, fix=f"data.split={STANDARD}")
    return ClusterName(int(found[1]), int(found[2]))


class LeftOut(Protocol):
    """Images that are tested and never trained on, and the trials on both sides."""

    @property
    def name(self) -> ClusterName | ImageWiseName:
        """Of the split."""

    def holds(self, stimulus_ids: np.ndarray) -> np.ndarray:
        """Mask of the images that are left out, `(n,)` bool of `(n,)` stimulus ids."""

    def training_trials(self, layout: NSDLayout, subject: int, num_sessions: NumSessions, cache_dir: Path) -> Trials:
        """What is left to train on of a subject's first sessions, in order of time. See `load_training_trials`."""

    def test_trials(self, layout: NSDLayout, subject: int, split: str, cache_dir: Path) -> Trials:
        """The tested trials of a subject, in order of time. See `load_test_trials`."""


@dataclass(frozen=True, eq=False)
class LeftOutCluster:
    """The images of one cluster, of which those among the shared1000 are tested. See `LeftOut`.

    Attributes:
        name: of the cluster.
        clusters: `(N,)` integers, the cluster of each image of the images file.
    """

    name: ClusterName
    clusters: np.ndarray

    def holds(self, stimulus_ids: np.ndarray) -> np.ndarray:
        """Mask of the images that are in the cluster, `(n,)` bool of `(n,)` stimulus ids."""
        return self.clusters[stimulus_ids] == self.name.index

    def training_trials(self, layout: NSDLayout, subject: int, num_sessions: NumSessions, cache_dir: Path) -> Trials:
        """The trials of the training split whose images are in other clusters."""
        trials = load_training_trials(layout, subject, num_sessions, cache_dir)
        return trials.select(~self.holds(trials.stimulus_ids))

    def test_trials(self, layout: NSDLayout, subject: int, split: str, cache_dir: Path) -> Trials:
        """What the standard test set has of the cluster.

        Raises:
            UserError: as `check_tested`.
        """
        trials = load_test_trials(layout, subject, split, cache_dir)
        self.check_tested(trials.stimulus_ids, f"subject {subject}")
        return trials.select(self.holds(trials.stimulus_ids))

    def check_tested(self, stimulus_ids: np.ndarray, whose: str) -> None:
        """Refuses a cluster without a test image; what is given is the standard test set, `(n,)` stimulus ids.

        Raises:
            UserError: naming the clusters that have one.
        """
        if len(stimulus_ids) == 0 or self.holds(stimulus_ids).any():
            return
        tested = [str(ClusterName(self.name.k, index)) for index in np.unique(self.clusters[stimulus_ids]).tolist()]
        raise UserError(
            f"data.split: none of the {len(np.unique(stimulus_ids))} test images of {whose} is in this cluster",
            got=self.name,
            expected=f"one with test images, {', '.join(tested[:5])}{', ...' if len(tested) > 5 else ''}",
            fix=f"data.split={tested[0]}, or fewer clusters",
        )


def fit_clusters(embeddings: np.ndarray, k: int) -> np.ndarray:
    """K-means on the unit sphere of CLIP space, `(N,)` int64; the largest cluster is 0.

    The same embeddings give the same clusters whatever the number of threads: threads would add up a centre in the
    order in which they happen to finish, so there is one.

    Args:
        embeddings: `(N, E)` floating point, one row for each image, none of them zero.
        k: clusters, at least 2.

    Raises:
        UserError: if there are fewer distinct images than clusters.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    too_few = "data.split asks for more clusters than there are different images"
    if len(embeddings) < k:
        raise UserError(too_few, got=k, expected=f"2 to {len(embeddings)}")
    directions = np.array(embeddings, np.float32)  # a copy, which k-means may change
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of too few different points, told below
        found = KMeans(k, n_init=_STARTS, random_state=_SEED, copy_x=False).fit_predict(directions)
    _, first, sizes = np.unique(found, return_index=True, return_counts=True)
    if len(sizes) < k:
        raise UserError(too_few, got=k, expected=f"2 to {len(sizes)}")
    rank = np.empty(len(sizes), np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))  # of equal ones, that of the lowest stimulus id is first
    return rank[found]


def kept_clusters(
    path: Path, k: int, num_images: int, embeddings: Callable[[], np.ndarray], *, description: dict[str, Any]
) -> np.ndarray:
    """The cluster of each image, `(N,)` int64, from a file that is made once.

    Trainings on different subjects must leave out the same images, so all read the one file; processes that race for
    it wait for each other.

    Args:
        path: a json file; its name should hold a fingerprint of `description`.
        k: clusters.
        num_images: N.
        embeddings: makes `(N, E)`, called only where there is no file yet.
        description: plain data, what the embeddings depend on.

    Raises:
        UserError: if the file is damaged or tells of other clusters, or as `fit_clusters`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        points = embeddings()
        assert len(points) == num_images, f"{len(points)} embeddings of {num_images} images"
        with FileLock(path.with_name(f".{path.name}.lock")):
            if not path.exists():
                clusters = fit_clusters(points, k)
                sizes = np.bincount(clusters, minlength=k).tolist()
                made = {"schema": SCHEMA_VERSION, "k": k, "description": description, "images_of_cluster": sizes}
                console.print(f"put {num_images} images into {k} clusters of {', '.join(map(str, sizes))}")
                write_text(path, json.dumps(made | {"cluster_of_image": clusters.tolist()}))
    return _read_clusters(path, k, num_images, description)


def _read_clusters(path: Path, k: int, num_images: int, description: dict[str, Any]) -> np.ndarray:
    fix = f"rm {path}, and run again"
    try:
        found = json.loads(path.read_text())
        clusters = np.asarray(found.pop("cluster_of_image"), dtype=np.int64)
        told = {key: found[key] for key in ("schema", "k", "description")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} holds no clusters", got=error, fix=fix) from error
    wanted = json.loads(json.dumps({"schema": SCHEMA_VERSION, "k": k, "description": description}))
    if told != wanted:
        raise UserError(f"{path} holds other clusters", got=told, expected=wanted, fix=fix)
    if clusters.shape != (num_images,) or not ((clusters >= 0) & (clusters < k)).all():
        raise UserError(
            f"{path} holds other clusters than it says",
            got=f"{clusters.shape} numbers",
            expected=f"{num_images} numbers from 0 to {k - 1}",
            fix=fix,
        )
    return clusters


@dataclass(frozen=True, eq=False)
class LeftOutLast:
    """The images that one subject saw for the first time at the end of its sessions in use. See `LeftOut`.

    Attributes:
        name: of the split.
        trials: all of the subject's in the sessions in use, in order of time.
        stimulus_ids: `(T,)` int64, ascending, of the images that are tested.
        test_split: whose shard holds the trials of shared1000 images.
    """

    name: ImageWiseName
    trials: Trials
    stimulus_ids: np.ndarray
    test_split: str

    @classmethod
    def of_subject(
        cls,
        name: ImageWiseName,
        layout: NSDLayout,
        subject: int,
        num_sessions: NumSessions,
        *,
        test_split: str,
        cache_dir: Path,
    ) -> Self:
        """What is left out where this subject is tested in its first sessions.

        Raises:
            UserError: as `load_all_trials`, or if the sessions show too few images for two sides.
        """
        trials = load_all_trials(layout, subject, num_sessions, test_split, cache_dir)
        images = by_first_appearance(trials.stimulus_ids)
        trained = len(images) * name.percent // 100
        if not 0 < trained < len(images):
            raise UserError(
                "data.split leaves nothing to train on, or nothing to test",
                got=f"{name} of {len(images)} images of subject {subject}",
                fix="more sessions, or data.split=standard",
            )
        return cls(name, trials, np.sort(images[trained:]), test_split)

    def holds(self, stimulus_ids: np.ndarray) -> np.ndarray:
        """Mask of the images that are tested, `(n,)` bool of `(n,)` stimulus ids."""
        return np.isin(stimulus_ids, self.stimulus_ids)

    def training_trials(self, layout: NSDLayout, subject: int, num_sessions: NumSessions, cache_dir: Path) -> Trials:
        """All trials of the subject but those of tested images; of another subject those of its training split."""
        if subject == self.trials.subject:
            trials = load_all_trials(layout, subject, num_sessions, self.test_split, cache_dir)
        else:
            trials = load_training_trials(layout, subject, num_sessions, cache_dir)
        return trials.select(~self.holds(trials.stimulus_ids))

    def test_trials(self, layout: NSDLayout, subject: int, split: str, cache_dir: Path) -> Trials:
        """All trials of tested images in the sessions in use; they belong to the subject that is tested."""
        assert subject == self.trials.subject, f"subject {self.trials.subject} is tested, not {subject}"
        return self.trials.select(self.holds(self.trials.stimulus_ids))


def by_first_appearance(stimulus_ids: np.ndarray) -> np.ndarray:
    """Each image once, in the order in which they were first shown; `(n,)` of trials in order of time."""
    ids, first = np.unique(stimulus_ids, return_index=True)
    return ids[np.argsort(first)]
