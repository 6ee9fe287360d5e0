import pytest

from mindeye_pl.data.nsd.layout import NSDLayout
from mindeye_pl.data.simulated.world import simulate_nsd
from tests.data.simulated.small_world import SMALL


@pytest.fixture(scope="package")
def small(tmp_path_factory: pytest.TempPathFactory) -> NSDLayout:
    root = tmp_path_factory.mktemp("world") / "small"
    simulate_nsd(SMALL, root, workers=0, progress=False)
    return NSDLayout(root)
