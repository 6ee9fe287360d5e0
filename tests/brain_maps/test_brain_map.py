import numpy as np

from mindeye_pl.brain_maps.figure import outlined
from tests.brain_maps.planted import map_of


def test_the_range_is_that_of_finite_values() -> None:
    values = np.append(np.linspace(-1, 9, 1001), [np.nan, np.nan])
    described = map_of(values).describe()
    assert (described["lowest"], described["median"], described["highest"]) == (-1, 4, 9)
    assert described["num_voxels"] == 1001
    assert described["colour_limit"] == np.float64(np.percentile(values[:-2].astype(np.float32), 99))


def test_maps_without_positive_values_have_colours() -> None:
    assert map_of(np.zeros(3)).colour_limit == 1
    assert map_of(-np.ones(3)).colour_limit == 1
    assert map_of(np.full(3, np.nan)).is_empty
    assert not map_of(np.array([np.nan, 0])).is_empty


def test_only_parts_of_the_voxels_are_outlined() -> None:
    some, every, none = np.array([True, False]), np.ones(2, bool), np.zeros(2, bool)
    colours = outlined({"nsd_general": every, "V1": some, "V2": none, "V3": ~some})
    assert list(colours) == ["V1", "V3"]
    assert len(set(colours.values())) == 2
