"""HTML page of a run or a sweep, a single self-contained file."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from mindeye_pl.reports.render.charts import charts_section
from mindeye_pl.reports.render.curves import Panel
from mindeye_pl.reports.render.exports import export_figures, export_tables
from mindeye_pl.reports.render.results import Results, results_section
from mindeye_pl.reports.render.section import Section, fill
from mindeye_pl.store.atomic import write_text

__all__ = ["ReportData", "Results", "Section", "Training", "UsedArtifact", "render", "write_report"]


@dataclass(frozen=True)
class Training:
    """Curves of one training, for example "Fine-tuning"."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class UsedArtifact:
    """Artifact that the run was built from."""

    step: str
    label: str
    fingerprint: str
    seconds: float | None = None


@dataclass(frozen=True)
class ReportData:
    """Content of the page.

    Attributes:
        title: of the page.
        summary: one sentence in plain words.
        simulated: the data are simulated; shows a banner.
        results: tables, in order; those without rows are left out.
        trainings: trainings with their curves.
        settings: resolved configuration in YAML.
        environment: versions, machine, commit and seed by name.
        artifacts: artifacts with their fingerprints.
        images: image sections, after the tables.
        more: further sections, after the curves.
        cost: time, peak memory and, if known, energy by name.
    """

    title: str
    summary: str
    simulated: bool
    results: Sequence[Results] = ()
    trainings: Sequence[Training] = ()
    settings: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    artifacts: Sequence[UsedArtifact] = ()
    images: Sequence[Section] = ()
    more: Sequence[Section] = ()
    cost: Mapping[str, str] = field(default_factory=dict)


def write_report(path: Path, data: ReportData, *, export: bool = False) -> None:
    """Write the page atomically.

    Args:
        path: of the page.
        data: content of the page.
        export: also write figures and tables to `figures/` and `tables/` beside the page, which links to them.
    """
    sections = build_sections(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    if export:
        figures = {name: figure for section in sections for name, figure in section.figures.items()}
        files += export_figures(path.parent / "figures", figures)
        files += export_tables(path.parent / "tables", [results for results in data.results if results.rows])
    if files:
        sections.append(files_section([file.relative_to(path.parent) for file in files]))
    write_text(path, _page(data, sections))


def render(data: ReportData) -> str:
    """Return the page as HTML."""
    return _page(data, build_sections(data))


def build_sections(data: ReportData) -> list[Section]:
    """Return the sections of the page in order, without empty ones."""
    parts = [
        *map(results_section, data.results),
        *data.images,
        *(charts_section(training.title, training.panels) for training in data.trainings),
        *data.more,
        cost_section(data.cost),
        settings_section(data.settings),
        environment_section(data.environment),
        artifacts_section(data.artifacts),
    ]
    return [part for part in parts if part is not None]


def _page(data: ReportData, sections: Sequence[Section]) -> str:
    style, script = _source("style.css"), _source("page.js")
    html = fill(
        "page.html",
        title=data.title,
        summary=data.summary,
        simulated=data.simulated,
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
    return f"\n{(Path(__file__).parent / 'templates' / template).read_text()}"


def _hash(source: str) -> str:
    """Return the hash in the format of a content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


def cost_section(cost: Mapping[str, str]) -> Section | None:
    """Return the section with the run's cost."""
    return Section("cost", "Cost", fill("cost.html", cost=cost)) if cost else None


def settings_section(settings: str) -> Section | None:
    """Return the section with the resolved configuration, collapsed."""
    return Section("settings", "Settings", fill("settings.html", settings=settings)) if settings else None


def environment_section(environment: Mapping[str, str]) -> Section | None:
    """Return the section with versions, machine, commit and seed."""
    if not environment:
        return None
    return Section("environment", "Environment", fill("environment.html", environment=environment))


def artifacts_section(artifacts: Sequence[UsedArtifact]) -> Section | None:
    """Return the section with the artifacts that the run was built from."""
    return Section("artifacts", "Artifacts", fill("artifacts.html", artifacts=artifacts)) if artifacts else None


def files_section(files: Sequence[Path]) -> Section:
    """Return the section with links to the exported figures and tables.

    Args:
        files: paths relative to the page's folder.
    """
    by_name: dict[tuple[str, str], list[Path]] = {}
    for file in files:
        by_name.setdefault((file.parent.as_posix(), file.stem), []).append(file)
    return Section("files", "Files", fill("files.html", by_name=by_name))
