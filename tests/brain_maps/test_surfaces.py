"""Values on surfaces: sampled where the vertices lie, written as GIFTI, drawn with borders of regions."""

import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.gifti import GiftiDataArray, GiftiImage

pytest.importorskip("nilearn", reason="needs pip install -e .[brain]")

from matplotlib.colors import to_rgba

from mindeye_pl.brain_maps.figure import outlined
from mindeye_pl.brain_maps.surfaces import (
    LEFT,
    RIGHT,
    Hemisphere,
    check_same_space,
    draw_surfaces,
    fsaverage5,
    on_surface,
    own_surfaces,
    write_gifti,
)
from mindeye_pl.errors import UserError
from tests.brain_maps.planted import block, halves, map_of


def write_plane(path: Path, z: float, across: np.ndarray) -> np.ndarray:
    """Write a plane of vertices at height z, and return them `(P, 3)`."""
    x, y = np.meshgrid(across, across - 80, indexing="ij")
    vertices = np.stack([x, y, np.full_like(x, z)], -1).reshape(-1, 3).astype(np.float32)
    corner = np.arange(len(vertices)).reshape(x.shape)
    a, b, c, d = (part.ravel() for part in (corner[:-1, :-1], corner[1:, :-1], corner[:-1, 1:], corner[1:, 1:]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)]).astype(np.int32)
    arrays = [GiftiDataArray(vertices, "NIFTI_INTENT_POINTSET"), GiftiDataArray(faces, "NIFTI_INTENT_TRIANGLE")]
    nibabel.save(GiftiImage(darrays=arrays), path)
    return vertices


@pytest.fixture
def surfaces(tmp_path: Path) -> tuple[tuple[Hemisphere, ...], np.ndarray]:
    """Two planes through the block, the right one 300 mm too high, and the vertices of the left one."""
    paths, across = [tmp_path / "lh.pial.gii", tmp_path / "rh.pial.gii"], np.arange(-40.0, 41, 2)
    vertices = write_plane(paths[0], 0, across)
    write_plane(paths[1], 300, across)
    return own_surfaces(paths), vertices


def test_a_planted_map_has_the_vertices_coordinates(surfaces: tuple[tuple[Hemisphere, ...], np.ndarray]) -> None:
    mask, ((left, right), vertices) = block(), surfaces
    low, high = mask.coordinates.min(0), mask.coordinates.max(0)
    well_inside = ((vertices[:, :2] >= low[:2]) & (vertices[:, :2] <= high[:2])).all(1)
    far = ((vertices[:, :2] < low[:2] - 1.8) | (vertices[:, :2] > high[:2] + 1.8)).any(1)
    assert well_inside.sum() > 30
    for axis in range(3):
        found = on_surface(mask, mask.coordinates[:, axis], left)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found[well_inside], vertices[well_inside, axis], atol=1e-3)
        assert np.isnan(found[far]).all()
        assert np.isnan(on_surface(mask, mask.coordinates[:, axis], right)).all()


def test_voxels_without_values_and_the_border_do_not_darken(
    surfaces: tuple[tuple[Hemisphere, ...], np.ndarray],
) -> None:
    mask, ((left, _), _) = block(), surfaces
    values = np.full(mask.num_voxels, 3.0)
    every = on_surface(mask, values, left)
    values[np.random.default_rng(0).random(len(values)) < 0.3] = np.nan
    some = on_surface(mask, values, left)
    for found in (every, some):
        np.testing.assert_allclose(found[np.isfinite(found)], 3, rtol=1e-5)
    assert np.isfinite(some).sum() >= 0.8 * np.isfinite(every).sum()


def test_surfaces_of_another_space_are_refused(surfaces: tuple[tuple[Hemisphere, ...], np.ndarray]) -> None:
    (left, right), _ = surfaces
    check_same_space(block(), ())
    check_same_space(block(), (left, right))  # one hemisphere may have no voxel
    with pytest.raises(UserError, match=r"no vertex .* lies near a voxel \(got: voxels from \[-8\.4, ") as error:
        check_same_space(block(), (right,))
    assert "\n" not in str(error.value)


def test_files_without_a_surface_are_refused(tmp_path: Path) -> None:
    write_plane(good := tmp_path / "good.gii", 0, np.arange(3.0))
    (text := tmp_path / "text.gii").write_text("no surface")
    nibabel.save(GiftiImage(darrays=[GiftiDataArray(np.zeros(3, np.float32))]), values := tmp_path / "values.gii")
    write_plane(broken := tmp_path / "nan.gii", np.nan, np.arange(3.0))
    for bad, says in (
        (text, "cannot be read as a surface"),
        (values, "cannot be read as a surface"),
        (broken, "cannot be read as a surface"),
        (tmp_path / "absent.gii", "is missing"),
        (tmp_path, "is not a file"),
    ):
        with pytest.raises(UserError, match=says) as error:
            own_surfaces([good, bad])
        assert "\n" not in str(error.value)


def test_gifti_files_hold_the_values(tmp_path: Path) -> None:
    values = np.array([0.5, np.nan, -2], np.float32)
    write_gifti(path := tmp_path / "map.lh.shape.gii", values, LEFT, "simulated, a map")
    image = nibabel.load(path)
    np.testing.assert_array_equal(image.agg_data(), values)
    assert image.meta["AnatomicalStructurePrimary"] == "CortexLeft"
    assert image.darrays[0].meta["Name"] == "simulated, a map"


def test_borders_are_drawn(surfaces: tuple[tuple[Hemisphere, ...], np.ndarray]) -> None:
    mask, (both, _) = block(), surfaces
    regions = halves(mask)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw_surfaces(mask, map_of(mask.coordinates[:, 1] + 100), regions, both, note="simulated")
    views = [axes for axes in figure.axes if axes.name == "3d"]
    assert [axes.get_title() for axes in views][::4] == ["left, lateral", "right, lateral"]
    for colour in outlined(regions).values():
        counts = [(np.abs(axes.collections[0]._facecolor3d - to_rgba(colour)).max(1) < 1e-6).sum() for axes in views]
        assert min(counts[:4]) > 10  # faces of this colour on the left
        assert max(counts[4:]) == 0


def test_maps_without_regions_are_drawn(surfaces: tuple[tuple[Hemisphere, ...], np.ndarray]) -> None:
    mask, (both, _) = block(), surfaces
    figure = draw_surfaces(mask, map_of(mask.coordinates[:, 1] + 100), {}, both)
    assert not figure.legends


def test_fsaverage5_needs_no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection"))
    left, right = fsaverage5()
    assert (left.side, right.side) == (LEFT, RIGHT)
    assert all(path is not None and path.is_file() for path in (left.mesh, left.inner, left.shown, left.background))
