"""Data card: what a preparation found in a laboratory's recordings, on a page of its own beside the report.

Legend: V voxels of a subject, X, Y, Z sizes of its volume.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mindeye_pl.data.layout.brain_mask import read_brain_mask
from mindeye_pl.data.layout.hdf5 import names_in
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.regions import read_ncsnr
from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.data.own.preparation import CARD
from mindeye_pl.reports.render.bars import Bars
from mindeye_pl.reports.render.figures import Drawable
from mindeye_pl.reports.render.histogram import Histogram
from mindeye_pl.reports.render.mosaic import Mosaic
from mindeye_pl.reports.render.page import ReportData, write_report
from mindeye_pl.reports.render.section import Section, charts_section, fill
from mindeye_pl.reports.render.thumbnails import Thumbnails
from mindeye_pl.store.own_files import read_json

#: File of the page beside the report.
PAGE = "data_card.html"

_SHOWN_IMAGES, _THUMBNAIL_WIDTH = 18, 128
_COLUMNS = (
    "Subject", "Sessions", "Trials", "Images", "Test images", "Repeated images", "Voxels", "Dropped: not finite",
    "Dropped: constant", "Reliability",
)  # fmt: skip
_RELIABILITY = (
    "Reliability of a voxel: expected correlation of its responses to two presentations of the same images, "
    "ncsnr² / (1 + ncsnr²), of the kept voxels over all sessions. The table has the median."
)
_UNKNOWN = "No image was presented twice, so that the reliability is not known. Repeat the test images at least."


def has_card(folder: Path) -> bool:
    """Return whether the step whose artifact is in a folder left a record for the card."""
    return (folder / CARD).is_file()


def write_data_card(folder: Path, path: Path, *, simulated: bool) -> str:
    """Write the page of the prepared data in a folder; return its summary."""
    layout, record = DataLayout(folder), read_json(folder / CARD)
    reliability = {name: _reliability(layout, name) for name in record["subjects"]}
    summary = _summary(record, reliability)
    sections: list[Section | None] = [_subjects(record, reliability)]
    for name, facts in record["subjects"].items():
        sections.append(charts_section(f"sub-{facts['label']}", _charts(layout, name, facts, reliability[name])))
    data = ReportData(
        title="Data card",
        summary=summary,
        simulated=simulated,
        more=[*sections, _images(layout, record)],
        settings="\n".join(f"{key}: {value}" for key, value in record["settings"].items()),
    )
    write_report(path, data)
    return summary


def link_section(summary: str) -> Section:
    """Return the section of a run's report that leads to the page."""
    return Section("data", "Data", fill("data.html", summary=summary, page=PAGE))


def _summary(record: Mapping[str, Any], reliability: Mapping[str, np.ndarray | None]) -> str:
    subjects = record["subjects"]
    trials = sum(sum(facts["sessions"].values()) for facts in subjects.values())
    known = [np.median(values) for values in reliability.values() if values is not None]
    middle = f"median reliability {np.mean(known):.2f}" if known else "reliability not known"
    people = "1 subject" if len(subjects) == 1 else f"{len(subjects)} subjects"
    return f"{people}, {trials:,} trials of {record['images']:,} images, {record['test_images']:,} tested; {middle}."


def _reliability(layout: DataLayout, name: str) -> np.ndarray | None:
    """Return each voxel's reliability `(V,)` in [0, 1], None without repetitions."""
    if (ncsnr := _ncsnr(layout, name)) is None:
        return None
    return 1 / (1 + 1 / np.maximum(ncsnr, 1e-6) ** 2)


def _ncsnr(layout: DataLayout, name: str) -> np.ndarray | None:
    if not layout.ncsnr.is_file() or name not in names_in(layout.ncsnr, "/"):
        return None
    return read_ncsnr(layout, _number(name))


def _number(name: str) -> int:
    return int(name.removeprefix("subj"))


def _subjects(record: Mapping[str, Any], reliability: Mapping[str, np.ndarray | None]) -> Section:
    rows = []
    for name, facts in record["subjects"].items():
        voxels, values = facts["voxels"], reliability[name]
        numbers = (
            *(len(facts["sessions"]), sum(facts["sessions"].values()), facts["images"], facts["test_images"]),
            *(facts["repeated_images"], voxels["kept"], voxels["not_finite"], voxels["constant"]),
        )
        middle = "not known" if values is None else f"{np.median(values):.2f}"
        rows.append([f"sub-{facts['label']}", *(f"{number:,}" for number in numbers), middle])
    known = any(values is not None for values in reliability.values())
    notes = [f"Tested: {record['split']}.", _RELIABILITY if known else _UNKNOWN]
    if record["other_names_of_an_image"]:
        notes.append(f"{record['other_names_of_an_image']} image files are copies of others and count as these.")
    return Section("subjects", "Subjects", fill("subjects.html", columns=_COLUMNS, rows=rows, notes=notes))


def _charts(layout: DataLayout, name: str, facts: Mapping[str, Any], values: np.ndarray | None) -> list[Drawable]:
    sessions, counts = facts["sessions"], facts["presentations"]
    charts: list[Drawable] = []
    if values is not None:
        charts.append(
            Histogram("Reliability of the voxels", values, "reliability", (0.0, max(0.1, float(values.max()))))
        )
    if len(sessions) > 1:
        charts.append(Bars("Trials of each session", [f"ses-{label}" for label in sessions], list(sessions.values())))
    repeated = {f"{count} times" if count > 1 else "once": number for count, number in enumerate(counts) if number}
    images = {"trained on": facts["images"] - facts["test_images"], "tested": facts["test_images"]}
    images |= {f"shown {words}": number for words, number in repeated.items()}
    charts.append(Bars("Images", list(images), list(images.values())))
    voxels = {"kept": "kept", "not_finite": "not finite", "constant": "constant"}
    charts.append(Bars("Voxels", list(voxels.values()), [facts["voxels"][key] for key in voxels]))
    if values is not None and (path := layout.brain_mask(_number(name))).is_file():
        volume = read_brain_mask(path, len(values)).volume(values)
        charts.append(
            Mosaic(
                "Reliability in the volume", volume, "reliability", (0.0, max(0.05, float(np.quantile(values, 0.98))))
            )
        )
    return charts


def _images(layout: DataLayout, record: Mapping[str, Any]) -> Section:
    shown = np.arange(min(_SHOWN_IMAGES, record["images"]))
    thumbnails = Thumbnails(len(shown), _THUMBNAIL_WIDTH)
    names = record["image_names"][: len(shown)]
    images = [
        (name, thumbnails.add(image)) for name, image in zip(names, Stimuli(layout.stimuli).read(shown), strict=True)
    ]
    note = f"The first {len(shown)} of {record['images']:,} images, as they are stored."
    return Section("images", "Images", fill("thumbnails.html", images=images, note=note), thumbnails.uris)
