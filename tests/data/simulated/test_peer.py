"""`simulation=peer` as the published code's readers see it: a reader of their files written from the specification."""

import io
import itertools
import tarfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from hydra.utils import instantiate

from mindeye_pl.config import compose_config
from mindeye_pl.data.simulated.world import SimulationSettings, simulate_nsd

pytestmark = pytest.mark.slow

SESSIONS, TRIALS, TESTED, VOXELS = 8, 750, 3000, 200


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = compose_config(["simulation=peer", "simulation.subjects=[1]"])
    settings: SimulationSettings = instantiate(config.simulation, _convert_="all")
    simulate_nsd(settings, root := tmp_path_factory.mktemp("peer"), progress=False)
    return root


def samples(path: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """The samples of a shard as webdataset groups them: neighbours with one text before the first dot."""
    with tarfile.open(path) as tar:
        members = [(*member.name.split(".", 1), tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    for key, group in itertools.groupby(members, key=lambda member: member[0]):
        yield key, {name: np.load(io.BytesIO(content)) for _, name, content in group}


def behaviour(path: Path) -> np.ndarray:
    """The behaviour of a shard after default collation, `(B, 1, 17)`."""
    return np.stack([sample["behav.npy"] for _, sample in samples(path)])


def test_members_of_a_sample(root: Path) -> None:
    shapes = {"behav.npy": (1, 17), "past_behav.npy": (15, 17), "future_behav.npy": (15, 17), "olds_behav.npy": (3, 17)}
    keys = []
    for session in range(2):
        for key, sample in samples(root / "wds" / "subj01" / "train" / f"{session}.tar"):
            assert {name: array.shape for name, array in sample.items()} == shapes
            assert {array.dtype for array in sample.values()} == {np.dtype(np.float64)}
            keys.append(key)
    assert keys == [f"sample{number:09d}" for number in range(len(keys))], "counted over the whole split"


def test_test_set_in_one_batch(root: Path) -> None:
    """Published: 3,000 trials in one batch, 1,000 images, and the rows of each image filled to three."""
    behav = behaviour(root / "wds" / "subj01" / "new_test" / "0.tar")
    assert behav.shape == (TESTED, 1, 17)
    images = behav[:, 0, 0].astype(int)
    unique, counts = np.unique(images, return_counts=True)
    assert len(unique) == 1000
    assert (counts == 3).all()
    assert (behav[:, 0, 16] == 1).all()
    with h5py.File(root / "coco_images_224_float16.hdf5") as file:
        stored = file["images"]
        assert stored.shape[1:] == (3, 224, 224)
        assert stored.dtype == np.float16
        shown = stored[unique[:50]]  # sorted unique ids, as hdf5 asks for
    assert 0 <= shown.min() < shown.max() <= 1
    with h5py.File(root / "betas_all_subj01_fp32_renorm.hdf5") as file:
        betas = file["betas"][:]
    assert betas.shape == (SESSIONS * TRIALS, VOXELS)
    assert betas.dtype == np.float32
    voxels = betas[behav[:, 0, 5].astype(int)]
    assert np.isfinite(voxels).all()


def test_sessions_of_the_training_shards(root: Path) -> None:
    """One tar for each session, index = session - 1; row = (session - 1) * 750 + index; no test image."""
    tested = behaviour(root / "wds" / "subj01" / "new_test" / "0.tar")[:, 0]
    rows, images = [tested[:, 5]], set()
    for session in range(1, SESSIONS + 1):
        behav = behaviour(root / "wds" / "subj01" / "train" / f"{session - 1}.tar")[:, 0]
        assert (behav[:, 1] == 1).all()
        assert (behav[:, 2] == session).all()
        assert ((behav[:, 5] // TRIALS) == session - 1).all()
        assert (behav[:, 16] == 0).all()
        rows.append(behav[:, 5])
        images |= set(behav[:, 0])
    assert not images & set(tested[:, 0])
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(SESSIONS * TRIALS))
    older = behaviour(root / "wds" / "subj01" / "test" / "0.tar")[:, 0]
    assert set(older[:, 2]) == set(range(1, SESSIONS - 2)), "without the last three sessions"


def test_neighbours_and_repetitions(root: Path) -> None:
    every = {}
    for path in (root / "wds" / "subj01").rglob("*.tar"):
        if path.parent.name != "test":
            every |= {int(sample["behav.npy"][0, 5]): sample for _, sample in samples(path)}
    for row in (0, 1, 749, 750, 3001, 5999):
        sample = every[row]
        for step, past in enumerate(sample["past_behav.npy"], start=1):
            wanted = row - step if row // TRIALS == (row - step) // TRIALS else -1
            assert past[5] == wanted
        image = sample["behav.npy"][0, 0]
        olds = {int(old[5]) for old in sample["olds_behav.npy"] if old[5] >= 0}
        assert olds == {other for other, one in every.items() if one["behav.npy"][0, 0] == image} - {row}
