"""The maps of the brain in a run's report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindeye_pl.reports.render.brain_maps import MapFigures, maps_section
from mindeye_pl.reports.render.section import Section
from mindeye_pl.steps.evaluation.brain_maps import ON_SURFACES, SLICES, figure_name, read_maps
from mindeye_pl.store.artifacts import Artifact

_SHOWS = {SLICES: "slices", ON_SURFACES: "surfaces"}


def brain_maps_section(artifact: Artifact) -> Section:
    """Return the section of a finished `brain_maps`."""
    content = read_maps(artifact)
    maps = [MapFigures(one["title"], _caption(one), _figures(artifact.folder, one["name"])) for one in content["maps"]]
    where = (
        "Slices are those of the mask's own space, six in each direction, in mm"
        + ("" if content["surfaces"] else "; no surface was given (brain_maps.surfaces)")
        + "."
    )
    outlines = "Lines are the outlines of regions." if content["regions"] else ""
    files = f"Volumes (NIfTI){' and surfaces (GIFTI)' if content['surfaces'] else ''} are in {artifact.folder}."
    note = f"Subject {content['subject']}, {content['num_test_images']} test images. {where} {outlines} {files}"
    return maps_section(maps, " ".join(note.split()), content["absent"])


def _figures(folder: Path, name: str) -> dict[str, Path]:
    paths = {shows: folder / figure_name(name, end) for end, shows in _SHOWS.items()}
    return {shows: path for shows, path in paths.items() if path.is_file()}


def _caption(one: Mapping[str, Any]) -> str:
    """Return meaning, unit and range."""
    lowest, median, highest, limit = (f"{one[key]:.3g}" for key in ("lowest", "median", "highest", "colour_limit"))
    return (
        f"{one['meaning']} Unit: {one['unit']}. Range {lowest} to {highest}, median {median}, over "
        f"{one['num_voxels']:,} voxels. Colours go from 0 to {limit}, the 99th percentile."
    )
