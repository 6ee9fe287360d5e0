"""Values of voxels on the vertices of cortical surfaces, as GIFTI files and figures; sampled and drawn by nilearn.

A surface must lie in the space of the mask's affine: the subject's own one in its functional space, or fsaverage5 for
data in MNI space. Nothing is registered here.

Legend: V voxels of one subject, P vertices of a surface.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, filterwarnings

import numpy as np

from mindeye_pl.brain_maps.brain_map import BrainMap
from mindeye_pl.brain_maps.figure import COLOUR_MAP, MAPS, new_figure, outlined
from mindeye_pl.data.layout.brain_mask import BrainMask
from mindeye_pl.errors import UserError
from mindeye_pl.store.atomic import replacing
from mindeye_pl.store.regular_files import check_regular

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FSAVERAGE5 = "fsaverage5"
LEFT, RIGHT = "left", "right"
#: Names of a hemisphere in file names, as FreeSurfer's.
SHORT = {LEFT: "lh", RIGHT: "rh"}

#: Vertices whose samples lie in voxels for a smaller fraction have no value.
_MIN_COVERAGE = 0.1
_VIEWS = ("lateral", "medial", "posterior", "ventral")
_ZOOM = 1.5


@dataclass(frozen=True)
class Hemisphere:
    """The surfaces of one hemisphere.

    Attributes:
        side: `left` or `right`.
        mesh: around whose vertices values are sampled: along the normal, 3 mm to each side.
        inner: mesh of the same vertices on the white matter; given, values are sampled between it and `mesh`.
        shown: mesh of the same vertices that is drawn.
        background: depth of the sulci by vertex; None draws one grey.
    """

    side: str
    mesh: Path
    shown: Path
    inner: Path | None = None
    background: Path | None = None


def fsaverage5() -> tuple[Hemisphere, ...]:
    """Return both hemispheres of fsaverage5, which nilearn ships, in MNI space; drawn inflated."""
    from nilearn.datasets import fetch_surf_fsaverage

    files = fetch_surf_fsaverage(FSAVERAGE5)
    return tuple(
        Hemisphere(
            side,
            mesh=Path(files[f"pial_{side}"]),
            shown=Path(files[f"infl_{side}"]),
            inner=Path(files[f"white_{side}"]),
            background=Path(files[f"sulc_{side}"]),
        )
        for side in (LEFT, RIGHT)
    )


def own_surfaces(paths: Sequence[str | Path]) -> tuple[Hemisphere, ...]:
    """Return the surfaces of a subject, the left hemisphere first: GIFTI files of its pial surfaces.

    Raises:
        UserError: if a file is missing or holds no surface.
    """
    from nilearn.surface import load_surf_mesh

    found = []
    for side, path in zip((LEFT, RIGHT), paths, strict=True):
        if not check_regular(path).is_file():
            raise UserError(f"{path} is missing", expected=f"a GIFTI surface of the {side} hemisphere")
        try:
            load_surf_mesh(str(path))
        except Exception as error:  # nilearn, nibabel and the XML parser have an error each
            got, expected = f"{type(error).__name__}: {error}", "a GIFTI surface, as lh.pial.gii"
            raise UserError(f"{path} cannot be read as a surface", got=got, expected=expected) from error
        found.append(Hemisphere(side, Path(path), Path(path)))
    return tuple(found)


def on_surface(mask: BrainMask, values: np.ndarray, hemisphere: Hemisphere) -> np.ndarray:
    """Return values `(V,)` on the vertices, `(P,)` float32: means over the voxels around them, NaN away from voxels.

    Samples are linear interpolations. Voxels without a value and positions outside the mask have weight 0, so that the
    border of the mask is not darker.
    """
    finite = np.isfinite(values)
    weight = _sample(mask, finite.astype(np.float32), hemisphere)
    total = _sample(mask, np.where(finite, values, 0).astype(np.float32), hemisphere)
    covered = weight > _MIN_COVERAGE
    return np.where(covered, total / np.where(covered, weight, 1), np.nan).astype(np.float32)


def _sample(mask: BrainMask, values: np.ndarray, hemisphere: Hemisphere) -> np.ndarray:
    """Return samples `(P,)` of values `(V,)` with zeros between voxels; 0 outside the volume."""
    from nilearn.surface import vol_to_surf

    inner = None if hemisphere.inner is None else str(hemisphere.inner)
    with catch_warnings():
        filterwarnings("ignore", "Mean of empty slice")  # of vertices outside the volume
        sampled = vol_to_surf(mask.image(values, fill=0), str(hemisphere.mesh), inner_mesh=inner)
    return np.nan_to_num(np.asarray(sampled))


def check_same_space(mask: BrainMask, hemispheres: Sequence[Hemisphere]) -> None:
    """Raise a UserError if no vertex of any hemisphere lies near a voxel: the surfaces are of another space."""
    ones = np.ones(mask.num_voxels, np.float32)
    if hemispheres and all(np.isnan(on_surface(mask, ones, hemisphere)).all() for hemisphere in hemispheres):
        low, high = mask.coordinates.min(0).round(1).tolist(), mask.coordinates.max(0).round(1).tolist()
        raise UserError(
            "no vertex of brain_maps.surfaces lies near a voxel",
            got=f"voxels from {low} to {high} mm",
            expected="surfaces in the space of the mask",
            fix="brain_maps.surfaces=null, or surfaces moved into that space (docs/brain_maps.md)",
        )


def write_gifti(path: Path, values: np.ndarray, side: str, name: str) -> None:
    """Write values `(P,)` of one hemisphere as a GIFTI file of one float32 array, atomically."""
    from nibabel.gifti.gifti import GiftiDataArray, GiftiImage, GiftiMetaData

    structure = GiftiMetaData({"AnatomicalStructurePrimary": f"Cortex{side.capitalize()}"})
    array = GiftiDataArray(values.astype(np.float32), datatype="NIFTI_TYPE_FLOAT32", meta=GiftiMetaData({"Name": name}))
    with replacing(path) as temporary:
        temporary.write_bytes(GiftiImage(darrays=[array], meta=structure).to_bytes())


def draw_surfaces(
    mask: BrainMask,
    map_: BrainMap,
    regions: Mapping[str, np.ndarray],
    hemispheres: Sequence[Hemisphere],
    *,
    note: str = "",
) -> "Figure":
    """Return a figure of both hemispheres from four sides.

    Args:
        mask: positions of the voxels.
        map_: values, of which at least one is finite.
        regions: masks `(V,)` bool by name; those of some of the voxels are outlined.
        hemispheres: surfaces in the space of the mask.
        note: after the title, as "simulated".
    """
    from nilearn.plotting import plot_surf

    colours = outlined(regions)
    figure = new_figure(map_, colours, note=note)
    left, bottom, width, height = MAPS
    grid = figure.add_gridspec(
        *(len(hemispheres), len(_VIEWS)), left=left, bottom=bottom, right=left + width, top=bottom + height
    )
    for row, hemisphere in enumerate(hemispheres):
        values = on_surface(mask, map_.values, hemisphere)
        labels = _labels(mask, regions, list(colours), hemisphere) if colours else None
        for column, view in enumerate(_VIEWS):
            axes: Any = figure.add_subplot(grid[row, column], projection="3d")
            plot_surf(
                str(hemisphere.shown),
                values,
                bg_map=None if hemisphere.background is None else str(hemisphere.background),
                hemi=hemisphere.side,
                view=view,
                engine="matplotlib",
                cmap=COLOUR_MAP,
                vmin=0,
                vmax=map_.colour_limit,
                colorbar=False,
                figure=figure,
                axes=axes,
            )
            if labels is not None:
                _outline(axes, hemisphere, labels, list(colours.values()))
            axes.set_box_aspect(None, zoom=_ZOOM)
            axes.set_title(f"{hemisphere.side}, {view}", y=0.9, fontsize=9)
    return figure


def _labels(
    mask: BrainMask, regions: Mapping[str, np.ndarray], names: Sequence[str], hemisphere: Hemisphere
) -> np.ndarray:
    """Return the number of each vertex' region `(P,)` int64, 1 for the first name; 0 outside all of them."""
    parts = np.stack([_sample(mask, regions[name].astype(np.float32), hemisphere) for name in names])
    return np.where(parts.max(0) > _MIN_COVERAGE, parts.argmax(0) + 1, 0)


def _outline(axes: Any, hemisphere: Hemisphere, labels: np.ndarray, colours: Sequence[str]) -> None:
    """Colour the faces at the borders of the regions that have any."""
    from nilearn.plotting import plot_surf_contours
    from nilearn.surface import load_surf_mesh

    in_face = labels[load_surf_mesh(str(hemisphere.shown)).faces]  # (faces, 3)
    levels = [level for level in range(1, len(colours) + 1) if ((in_face == level).sum(1) == 2).any()]
    if levels:
        plot_surf_contours(
            str(hemisphere.shown),
            labels,
            levels=levels,
            colors=[colours[level - 1] for level in levels],
            hemi=hemisphere.side,
            figure=axes.figure,
            axes=axes,
        )
