"""HTML page of a run or a sweep, a single self-contained file."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mindeye_pl.reports.render.exports import export_figures, export_tables
from mindeye_pl.reports.render.results import results_section
from mindeye_pl.reports.render.section import Section, fill
from mindeye_pl.reports.render.table import Results
from mindeye_pl.store.atomic import write_text


@dataclass(frozen=True)
class ReportData:
    """Content of the page; sections that are None are left out.

    Attributes:
        summary: one sentence in plain words.
        simulated: the data are simulated; shows a banner.
        images: image sections, which lead the page.
        results: tables, in order; those without rows are left out.
        more: further sections, after the tables.
        cost: time, peak memory and, if known, energy by name.
        settings: resolved configuration in YAML.
        environment: versions, machine, commit and seed by name.
        artifacts: manifests of the artifacts; step, label, fingerprint and seconds are shown.
    """

    title: str
    summary: str
    simulated: bool
    images: Sequence[Section | None] = ()
    results: Sequence[Results] = ()
    more: Sequence[Section | None] = ()
    cost: Mapping[str, str] = field(default_factory=dict)
    settings: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    artifacts: Sequence[Mapping[str, Any]] = ()


def write_report(path: Path, data: ReportData, *, export: bool = False) -> None:
    """Write the page atomically; `export` writes `figures/` and `tables/` beside it too, and links to them."""
    sections = _sections(data)
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    if export:
        figures = {name: figure for section in sections for name, figure in section.figures.items()}
        files = export_figures(folder / "figures", figures)
        files += export_tables(folder / "tables", [results for results in data.results if results.rows])
        if files:
            sections.append(_files_section([file.relative_to(folder) for file in files]))
    write_text(path, _page(data, sections))


def render(data: ReportData) -> str:
    """Return the page as HTML."""
    return _page(data, _sections(data))


def _sections(data: ReportData) -> list[Section]:
    """Return the sections in order, without empty ones."""
    sections = [*data.images, *map(results_section, data.results), *data.more]
    details = {name: getattr(data, name) for name in ("cost", "settings", "environment", "artifacts")}
    sections += [
        Section(name, name.capitalize(), fill(f"{name}.html", **{name: content}))
        for name, content in details.items()
        if content
    ]
    return [section for section in sections if section is not None]


def _page(data: ReportData, sections: Sequence[Section]) -> str:
    style, script = _source("style.css"), _source("page.js")
    html = fill(
        "page.html",
        data=data,
        sections=sections,
        opens=any(section.images for section in sections),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )
    images: dict[str, str] = {}
    for section in sections:
        images = {**section.images, **images}  # the first section's thumbnail is used
    return _with_images(html, images)


def _with_images(html: str, images: Mapping[str, str]) -> str:
    """Embed each image at its first occurrence; later occurrences are filled by the script."""
    embedded: set[str] = set()

    def embed(found: re.Match[str]) -> str:
        key = found[1]
        if key in embedded:
            return f'data-same="image-{key}"'
        embedded.add(key)
        return f'id="image-{key}" src="{images[key]}"'

    return re.sub(r'src="image:([0-9a-f]+)"', embed, html)


@cache
def _source(template: str) -> str:
    """Return the text of the style sheet or script as it appears between its tags."""
    return f"\n{(Path(__file__).parent / 'templates' / template).read_text(encoding='utf-8')}"


def _hash(source: str) -> str:
    """Return the hash in the format of a content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


def _files_section(files: Sequence[Path]) -> Section:
    """Return the section with links to the exported figures and tables, relative to the page's folder."""
    by_name: dict[tuple[str, str], list[Path]] = {}
    for file in files:
        by_name.setdefault((file.parent.as_posix(), file.stem), []).append(file)
    return Section("files", "Files", fill("files.html", by_name=by_name))
