"""LAION-fMRI's files and the lists of its splits are prepared and read back equal."""

from pathlib import Path

import numpy as np
import pytest

from mindeye_pl.data.laion_fmri.files import LaionFmri
from mindeye_pl.data.layout.listed_splits import LeftOutListed
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.regions import read_ncsnr, read_regions
from mindeye_pl.data.layout.splits import ListedName
from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.data.released.preparation import prepare
from mindeye_pl.errors import UserError
from tests.data.laion_fmri import small_laion as small
from tests.data.released.read_back import assert_prepared

pytest.importorskip("nibabel")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("laion") / "files"
    small.write_laion(folder)
    return folder


@pytest.fixture(scope="module")
def made(folder: Path) -> Path:
    prepare(LaionFmri(folder, small.SUBJECTS, 32), folder.parent / "made")
    return folder.parent / "made"


def test_it_is_read_back(folder: Path, made: Path) -> None:
    assert all(path.is_file() for path in LaionFmri(folder, small.SUBJECTS, 32).files())
    for subject in small.SUBJECTS:
        assert_prepared(made, subject, small.known(subject))
        inside, regions = small.inside(subject), read_regions(DataLayout(made), subject)
        assert sorted(regions) == sorted(small.REGIONS)
        np.testing.assert_array_equal(regions["V1"], small.masks(subject)["V1"][inside])
        ratio = np.sqrt(0.3 / 0.7 / 12)
        np.testing.assert_allclose(read_ncsnr(DataLayout(made), subject), np.full(inside.sum(), ratio), rtol=1e-5)
    assert len(Stimuli(DataLayout(made).stimuli)) == len(small.names()) - 1, "without the image that nobody saw"


def image_of(made: Path, stimulus_ids: np.ndarray) -> set[str]:
    """Return the names of prepared images, by their pixels."""
    known = small.decoded().astype(np.float32) / 255
    pixels = Stimuli(DataLayout(made).stimuli).read(stimulus_ids).transpose(0, 2, 3, 1).astype(np.float32)
    distance = np.abs(pixels[:, None] - known).mean((2, 3, 4))
    assert (distance.min(1) < 1e-3).all()
    return {small.names()[row] for row in distance.argmin(1)}


@pytest.mark.parametrize("split", ["tau", "cluster_k5_0", "ood"])
@pytest.mark.parametrize("pool", ["shared", "sub-01", "sub-03"])
def test_a_list_is_trained_on_and_tested_as_it_says(made: Path, tmp_path: Path, split: str, pool: str) -> None:
    name = split if pool == "shared" else f"{split}_{pool}"
    layout, subject = DataLayout(made), 3 if pool == "sub-03" else 1
    left_out = LeftOutListed.read(ListedName(name), layout.splits, len(Stimuli(layout.stimuli)), "new_test")
    trained, tested = small.lists(pool)[split]
    training = left_out.training_trials(layout, subject, "all", tmp_path)
    test = left_out.test_trials(layout, subject, "new_test", tmp_path)
    assert image_of(made, training.stimulus_ids) == set(trained)
    assert image_of(made, test.stimulus_ids) == set(tested)
    counts = np.array([session.count(one) for session in small.labels(subject) for one in tested])
    assert len(test) == counts.sum(), "all responses in all sessions"
    first = left_out.training_trials(layout, subject, 1, tmp_path)
    assert set(first.sessions) == {1}
    other = left_out.training_trials(layout, 4 - subject, "all", tmp_path)
    assert not image_of(made, other.stimulus_ids) & set(tested), "of no subject"


def test_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no region FFA9"):
        LaionFmri(folder, [1], 32, ["FFA9"]).files()
    with pytest.raises(UserError, match="sub-05 has no sessions"):
        LaionFmri(folder, [5], 32).files()
    chosen = LaionFmri(folder, [1], 32, ["FFA1"])
    prepare(chosen, tmp_path / "made")
    assert list(read_regions(DataLayout(tmp_path / "made"), 1)) == ["FFA1"]
