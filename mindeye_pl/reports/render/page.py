"""The page of a run or of a sweep: one HTML file that needs nothing else."""

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
    """The curves of one training, "Fine-tuning" for instance."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class UsedArtifact:
    """Finished work that the run was made from."""

    step: str
    label: str
    fingerprint: str
    seconds: float | None = None


@dataclass(frozen=True)
class ReportData:
    """All that the page shows.

    Attributes:
        title: of the page.
        summary: one sentence in plain words.
        simulated: whether the data are; a banner says so.
        results: the tables, in order; those without rows are left out.
        trainings: whose curves are drawn.
        settings: the resolved configuration, as yaml.
        environment: versions, machine, commit, seed: name to value.
        artifacts: with their fingerprints.
        images: sections of images, after the tables.
        more: further sections, after the curves.
        cost: time, peak memory, energy where it is known: name to value.
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
    """Writes the page; an older one stays whole until the new one is.

    Args:
        path: of the page.
        data: what it shows.
        export: whether its figures and tables are written beside it, into `figures/` and `tables/`; the page links to
            them and does without them.
    """
    sections = sections_of(data)
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
    """The page as HTML."""
    return _page(data, sections_of(data))


def sections_of(data: ReportData) -> list[Section]:
    """The parts of the page, in order; empty ones are left out."""
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
        images = {**section.images, **images}  # as the first section that has it shrank it
    return _with_images(html, images)


def _with_images(html: str, images: Mapping[str, str]) -> str:
    """Each image in the place where it comes first; in later places the script shows it again."""
    placed: set[str] = set()

    def place(found: re.Match[str]) -> str:
        key = found[1]
        if key in placed:
            return f'data-same="image-{key}"'
        placed.add(key)
        return f'id="image-{key}" src="{images[key]}"'

    return re.sub(r'src="image:([0-9a-f]+)"', place, html)


@cache
def _source(template: str) -> str:
    """The page's style sheet or script, as it stands between its tags."""
    return f"\n{(Path(__file__).parent / 'templates' / template).read_text()}"


def _hash(source: str) -> str:
    """As a content security policy names what it allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


def cost_section(cost: Mapping[str, str]) -> Section | None:
    """What the run took."""
    return Section("cost", "Cost", fill("cost.html", cost=cost)) if cost else None


def settings_section(settings: str) -> Section | None:
    """The resolved configuration, folded."""
    return Section("settings", "Settings", fill("settings.html", settings=settings)) if settings else None


def environment_section(environment: Mapping[str, str]) -> Section | None:
    """Names and values."""
    if not environment:
        return None
    return Section("environment", "Environment", fill("environment.html", environment=environment))


def artifacts_section(artifacts: Sequence[UsedArtifact]) -> Section | None:
    """What the run was made from, by fingerprint."""
    return Section("artifacts", "Artifacts", fill("artifacts.html", artifacts=artifacts)) if artifacts else None


def files_section(files: Sequence[Path]) -> Section:
    """Links to the figures and tables beside the page, one line for each of them.

    Args:
        files: paths from the page's folder.
    """
    by_name: dict[tuple[str, str], list[Path]] = {}
    for file in files:
        by_name.setdefault((file.parent.as_posix(), file.stem), []).append(file)
    return Section("files", "Files", fill("files.html", by_name=by_name))
