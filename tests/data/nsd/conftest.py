import shutil
from pathlib import Path

import pytest

from mindeye_pl.data.layout.paths import DataLayout
from tests.data.small_nsd_release import SmallRelease, write_release

SUBJECTS = (1, 2)


@pytest.fixture(scope="package")
def release(tiny_nsd: Path, tmp_path_factory: pytest.TempPathFactory) -> SmallRelease:
    """Two subjects of the tiny world, not to be changed."""
    pytest.importorskip("nibabel")
    return write_release(DataLayout(tiny_nsd), SUBJECTS, tmp_path_factory.mktemp("release"))


@pytest.fixture
def broken(release: SmallRelease, tmp_path: Path) -> SmallRelease:
    """A copy of subject 1 that a test may break."""
    copy = SmallRelease(tmp_path / "broken")
    other = shutil.ignore_patterns("subj02", "nsd_stimuli.hdf5")
    shutil.copytree(release.root, copy.root, ignore=other)
    copy.stimuli.symlink_to(release.stimuli)
    return copy
