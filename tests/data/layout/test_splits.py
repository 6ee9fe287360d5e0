import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from mindeye_pl.data.datamodule import TrialDataModule
from mindeye_pl.data.layout.betas import AsPublished
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.splits import ClusterName, LeftOutCluster, fit_clusters, kept_clusters, read_split
from mindeye_pl.data.layout.test_set import load_test_set
from mindeye_pl.errors import UserError
from mindeye_pl.store.manifest import MANIFEST
from tests.data.small_nsd import NUM_SHARED, NUM_STIMULI, TRIALS_PER_SESSION, StubTokens

FORK = multiprocessing.get_context("fork")


@pytest.mark.parametrize(
    ("name", "k", "index"),
    [("cluster_k5_0", 5, 0), ("cluster_k5_4", 5, 4), ("cluster_k2_1", 2, 1), ("cluster_k12_10", 12, 10)],
)
def test_names(name: str, k: int, index: int) -> None:
    assert read_split(name) == ClusterName(k, index)
    assert str(read_split(name)) == name


def test_the_standard_split_leaves_nothing_out() -> None:
    assert read_split("standard") is None


UNKNOWN = ["Standard", "cluster", "cluster_k5", "cluster_5_0", "tau", "", None, 5]
BAD_NUMBERS = ["cluster_k5_5", "cluster_k5_-1", "cluster_k1_0", "cluster_k0_0", "cluster_k05_1", "cluster_k5_00"]


@pytest.mark.parametrize("name", [*UNKNOWN, *BAD_NUMBERS, "cluster_k5_0 "])
def test_unknown_names(name: object) -> None:
    with pytest.raises(
        UserError, match=r"data\.split: no such split.*expected: standard, or cluster_k\{k\}_\{i\} with"
    ):
        read_split(name)  # type: ignore[arg-type]


def planted(sizes: tuple[int, ...], width: int = 12, noise: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Points around well separated directions, of any length, and which direction each belongs to."""
    rng = np.random.default_rng(3)
    truth = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    points = np.eye(width)[truth] + noise * rng.standard_normal((len(truth), width)) / width**0.5
    return points * rng.uniform(0.1, 10, (len(truth), 1)), truth


def test_planted_clusters_are_found_the_largest_first() -> None:
    points, truth = planted((30, 80, 50))
    np.testing.assert_array_equal(fit_clusters(points, 3), np.array([2, 0, 1])[truth])


def test_every_image_is_nearest_to_the_centre_of_its_own_cluster() -> None:
    points = np.random.default_rng(0).standard_normal((300, 6))
    clusters = fit_clusters(points, 4)
    directions = points / np.linalg.norm(points, axis=1, keepdims=True)
    centres = np.stack([directions[clusters == index].mean(0) for index in range(4)])
    distances = ((directions[:, None] - centres) ** 2).sum(-1)
    assert (distances.argmin(1) == clusters).mean() > 0.99  # k-means stops a little before its fixed point
    assert (np.diff(np.bincount(clusters)) <= 0).all()


def test_threads_lengths_and_types_change_nothing() -> None:
    points = np.random.default_rng(0).standard_normal((2000, 16))
    clusters = fit_clusters(points, 5)
    kept = points.copy()
    with threadpool_limits(2):
        np.testing.assert_array_equal(fit_clusters(points, 5), clusters)
    np.testing.assert_array_equal(points, kept)
    np.testing.assert_array_equal(fit_clusters(4 * points, 5), clusters)
    apart, truth = planted((30, 80, 50))
    np.testing.assert_array_equal(fit_clusters(apart.astype(np.float16), 3), np.array([2, 0, 1])[truth])


@pytest.mark.parametrize("points", [np.eye(3), np.repeat(np.eye(3), 20, axis=0)], ids=["few", "few different"])
def test_more_clusters_than_images(points: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"more clusters than there are different images \(got: 4; expected: 2 to 3\)"):
        fit_clusters(points, 4)


DESCRIPTION = {"embedder": {"name": "test"}, "images": "abc"}


def test_clusters_are_made_once_and_read_back(tmp_path: Path) -> None:
    points, _ = planted((10, 20))
    made = kept_clusters(tmp_path / "new" / "k2", 2, 30, lambda: points, description=DESCRIPTION)
    np.testing.assert_array_equal(made, fit_clusters(points, 2))
    again = kept_clusters(
        tmp_path / "new" / "k2", 2, 30, lambda: pytest.fail("embedded again"), description=DESCRIPTION
    )
    np.testing.assert_array_equal(again, made)
    assert np.bincount(again).tolist() == [20, 10]


def make_slowly(path: Path, results: "multiprocessing.Queue", seed: int) -> None:
    points = np.random.default_rng(seed).standard_normal((60, 4))  # processes that would each make other clusters
    time.sleep(0.05)
    results.put(kept_clusters(path, 3, 60, lambda: points, description=DESCRIPTION).tolist())


def test_concurrent_processes_get_the_same_clusters(tmp_path: Path) -> None:
    results = FORK.Queue()
    processes = [FORK.Process(target=make_slowly, args=(tmp_path / "k3", results, seed)) for seed in range(3)]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("clusters.npy", lambda content: content[:-5], "no complete clusters"),
        ("clusters.npy", lambda content: content[:-8] + b"\1" * 8, "damaged clusters"),
        (MANIFEST, lambda content: content[:-5], "no complete clusters"),
        (MANIFEST, lambda content: content.replace(b"abc", b"xyz"), "other clusters: description"),
        (MANIFEST, lambda content: content.replace(b'"k": 2', b'"k": 3'), "other clusters: k"),
    ],
)
def test_a_damaged_folder(tmp_path: Path, name: str, change, message: str) -> None:
    folder, (points, _) = tmp_path / "k2", planted((10, 20))
    kept_clusters(folder, 2, 30, lambda: points, description=DESCRIPTION)
    path = folder / name
    assert change(path.read_bytes()) != path.read_bytes()
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=rf"k2.* {message}.*Fix: rm -r .*k2, and run again"):
        kept_clusters(folder, 2, 30, lambda: points, description=DESCRIPTION)


def module(layout: DataLayout, cache: Path, left_out: LeftOutCluster | None, **more) -> TrialDataModule:
    settings = {"batch_size": 4, "trials_per_session": TRIALS_PER_SESSION, "validation_fraction": 0.2} | more
    return TrialDataModule(
        layout.root, (1, 2), cache_dir=cache, targets={"tokens": StubTokens()}, left_out=left_out, **settings
    )


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(k=st.integers(2, 4), seed=st.integers(0, 1000), num_sessions=st.sampled_from([1, 2, "all"]))
def test_training_and_test_images_of_a_cluster(small_nsd, tmp_path, k: int, seed: int, num_sessions) -> None:
    """Whatever the clusters: none of their images in any training, all of the test images theirs, and none lost."""
    clusters = np.random.default_rng(seed).integers(k, size=NUM_STIMULI)
    clusters[:NUM_SHARED] = np.arange(NUM_SHARED) % k
    cache, standard = tmp_path / "cache", module(small_nsd, tmp_path / "cache", None, num_sessions=num_sessions)
    tested: dict[int, list[int]] = {1: [], 2: []}
    for index in range(k):
        inside = set(np.flatnonzero(clusters == index).tolist())
        left_out = LeftOutCluster(ClusterName(k, index), clusters)
        data = module(small_nsd, cache, left_out, num_sessions=num_sessions)
        for kind in ("trials", "train_trials", "validation_trials"):
            for trials, before in zip(getattr(data, kind), getattr(standard, kind), strict=True):
                assert not inside & set(trials.stimulus_ids.tolist())
                kept = ~np.isin(before.stimulus_ids, list(inside))
                np.testing.assert_array_equal(trials.beta_rows, before.beta_rows[kept])
        assert not inside & set(data.stimulus_ids_needed().tolist())
        for subject in (1, 2):
            ids = data.test_set(subject).stimulus_ids.tolist()
            assert set(ids) <= inside
            tested[subject] += ids
    for subject in (1, 2):
        assert sorted(tested[subject]) == standard.test_set(subject).stimulus_ids.tolist()


def test_test_responses_are_those_of_the_standard_test_set(small_nsd, tmp_path) -> None:
    clusters = np.arange(NUM_STIMULI) % 2
    whole = load_test_set(small_nsd, 1, normalisation=AsPublished(), cache_dir=tmp_path / "cache")
    for index in range(2):
        left_out = LeftOutCluster(ClusterName(2, index), clusters)
        part = load_test_set(small_nsd, 1, normalisation=AsPublished(), cache_dir=tmp_path / "cache", left_out=left_out)
        where = whole.stimulus_ids % 2 == index
        assert part.stimulus_ids.tolist() == whole.stimulus_ids[where].tolist()
        for name in ("voxels", "weights", "num_repetitions"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[where])


def test_a_cluster_without_a_test_image(small_nsd, tmp_path) -> None:
    clusters = np.where(np.arange(NUM_STIMULI) < NUM_SHARED, 1, np.arange(NUM_STIMULI) % 2 * 2)
    left_out = LeftOutCluster(ClusterName(3, 0), clusters)
    says = r"none of the 6 test images of subject 1 .*got: cluster_k3_0; expected: .*_k3_1\).*data\.split=cluster_k3_1"
    with pytest.raises(UserError, match=says):
        module(small_nsd, tmp_path / "cache", left_out).test_set(1)


def test_a_cluster_that_leaves_nothing_to_train_on(small_nsd, tmp_path) -> None:
    left_out = LeftOutCluster(ClusterName(2, 0), np.zeros(NUM_STIMULI, np.int64))
    with pytest.raises(UserError, match=r"leaves subject 1 no training image .*got: cluster_k2_0"):
        module(small_nsd, tmp_path / "cache", left_out).trials  # noqa: B018
