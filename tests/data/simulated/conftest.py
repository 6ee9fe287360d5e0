import pytest

from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.simulated.world import simulate_nsd
from tests.data.simulated.small_world import SMALL


@pytest.fixture(scope="package")
def small(tmp_path_factory: pytest.TempPathFactory) -> DataLayout:
    root = tmp_path_factory.mktemp("world") / "small"
    simulate_nsd(SMALL, root, workers=0, progress=False)
    return DataLayout(root)
