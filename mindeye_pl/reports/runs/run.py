"""The report of a run: the tables in the terminal and the page, empty rows with the commands that fill them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mindeye_pl.console import console
from mindeye_pl.engine.run import Run, order
from mindeye_pl.engine.step import Step
from mindeye_pl.reports.render.curves import training_panels
from mindeye_pl.reports.render.page import ReportData, Training, UsedArtifact, write_report
from mindeye_pl.reports.render.results import Results
from mindeye_pl.reports.render.section import Section
from mindeye_pl.reports.render.table import COLUMNS, explain_retrieval, terminal_table
from mindeye_pl.reports.runs.figures import (
    Embeddings,
    reconstructions_section,
    regions_section,
    repetitions_section,
    report_folder,
    retrieval_section,
    tokens_section,
)
from mindeye_pl.reports.runs.gallery import GALLERY, found_section, gallery_results, read_recall
from mindeye_pl.reports.runs.rows import (
    RECONSTRUCTIONS,
    TERMINAL,
    About,
    caption_results,
    experiment_rows,
    image_results,
    retrieval_results,
)
from mindeye_pl.steps.evaluation.caption_scores import caption_columns
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS, read_image_scores
from mindeye_pl.steps.evaluation.retrieval import EVALUATE, MODEL, read_scores
from mindeye_pl.steps.evaluation.scored_images import read_scored
from mindeye_pl.steps.gallery.retrieve import RETRIEVE
from mindeye_pl.steps.inputs.dataset import CAPTIONS, DataFile
from mindeye_pl.store.artifacts import Artifact
from mindeye_pl.store.environment import environment
from mindeye_pl.training.fit import HISTORY


@dataclass
class Sections:
    """Tables and sections of a page.

    Attributes:
        tables: of scores.
        images: sections that show images.
        figures: sections that show charts.
    """

    tables: list[Results] = field(default_factory=list)
    images: list[Section | None] = field(default_factory=list)
    figures: list[Section | None] = field(default_factory=list)


def write_run_report(run: Run, steps: Sequence[Step]) -> Path:
    """Print the tables, write the page and print its path; return it."""
    config, shown = run.config, Sections()
    about, captions = About.of(config), DataFile(CAPTIONS).open(run)
    summary = None
    if EVALUATE_RECONSTRUCTIONS in steps:
        _add_reconstructions(run, about, captions, shown)
    if EVALUATE in steps:
        summary = _add_retrieval(run, about, captions, shown)
    if RETRIEVE in steps:
        retrieval, inputs = _finished(run, RETRIEVE), run.inputs(RETRIEVE)
        shown.tables += gallery_results(read_recall(retrieval))
        args = (inputs["gallery"].gallery, inputs["images"].stimuli, captions, config.report.gallery)
        shown.images.append(found_section(retrieval, *args))
    _print(config, shown.tables)
    path = report_folder(run) / "index.html"
    artifacts = [(step, run.find(step)) for step in order(config, steps)]
    made = [(step, artifact) for step, artifact in artifacts if artifact is not None]
    data = ReportData(
        title=run.experiment,
        summary=summary or "Made: " + ", ".join(step.name for step, _ in made) + ".",
        simulated=about.simulated,
        results=shown.tables,
        images=[section for section in shown.images if section],
        more=[section for section in shown.figures if section],
        trainings=[
            Training(step.title, training_panels(_history(artifact)))
            for step, artifact in made
            if (artifact.folder / HISTORY).exists()
        ],
        settings=OmegaConf.to_yaml(run.config, resolve=True),
        environment=environment() | {"seed": str(run.config.seed)} | _test_set_uses(made),
        cost=_cost(made),
        artifacts=[
            UsedArtifact(step.name, artifact.manifest["label"], artifact.fingerprint, artifact.manifest["seconds"])
            for step, artifact in made
        ],
    )
    write_report(path, data, export=run.config.report.export)
    console.print(f"\nreport: {path.resolve()}")
    return path


def _finished(run: Run, step: Step) -> Artifact:
    artifact = run.find(step)
    assert artifact is not None, f"the report comes after {step.name}"
    return artifact


def _add_retrieval(run: Run, about: About, captions: Path | None, shown: Sections) -> str | None:
    """Add the table and the sections of retrieval; return its result in one sentence."""
    evaluation, inputs, count = _finished(run, EVALUATE), run.inputs(EVALUATE), run.config.report.gallery
    rows = experiment_rows(run, evaluation, EVALUATE, read_scores(evaluation, MODEL))
    results = retrieval_results(evaluation, about, rows)
    embeddings = Embeddings.read(evaluation, inputs["targets"])
    shown.tables.insert(0, results)
    shown.images.append(retrieval_section(embeddings, inputs["data"].stimuli, captions, count))
    shown.figures += [repetitions_section(evaluation), tokens_section(embeddings, evaluation)]
    own = (row.score("image_retrieval") for row in results.rows if row.this_run)
    return next((explain_retrieval(score) for score in own if score is not None), None)


def _add_reconstructions(run: Run, about: About, captions: Path | None, shown: Sections) -> None:
    """Add the tables and the sections of reconstructions."""
    step, config = EVALUATE_RECONSTRUCTIONS, run.config
    evaluation, inputs = _finished(run, step), run.inputs(step)
    content = read_image_scores(evaluation)
    rows = experiment_rows(run, evaluation, step, read_scores(evaluation, MODEL))
    tables = image_results(content, about, rows)
    of_captions = caption_results(content, about, caption_columns(config.protocol))
    shown.tables += [*tables, *([of_captions] if of_captions else [])]
    scored = read_scored(inputs, config.data.subject, config.data.test_split)
    shown.images.append(
        reconstructions_section(scored, content, tables, inputs["data"], captions, config.report.images)
    )
    shown.figures.append(regions_section(content, config.protocol.encoders))


def _print(config: DictConfig, tables: Sequence[Results]) -> None:
    """Print the main columns of the main tables; the page has the rest."""
    commands = True
    for table in tables:
        if table.title == "Retrieval":
            names: Sequence[str] = [column.score for column in COLUMNS]
            title = f"Subject {config.data.subject}"
        elif table.title == RECONSTRUCTIONS:
            names, title = (*TERMINAL, *config.protocol.metrics), table.title
        elif table.title == GALLERY:
            names, title = [column.score for column in table.columns][:3], table.title
        else:
            continue
        columns = [replace(column, group="") for column in table.columns if column.score in names]
        console.print()
        # On the page notes and kinds explain the rows; here their names do.
        rows = [replace(row, note="", differs={}) for row in table.rows]
        console.print(terminal_table(title, rows, columns, commands=commands, needs=table.needs))
        if table.note:
            console.print(table.note, style="dim")
        commands = False


def _history(artifact: Artifact) -> list[dict[str, Any]]:
    path = artifact.folder / HISTORY
    return json.loads(path.read_text()) if path.exists() else []


def _test_set_uses(made: Sequence[tuple[Step, Artifact]]) -> dict[str, str]:
    """How often the test set had been evaluated when this run's numbers were made."""
    counts = {step.name: artifact.manifest.get("facts", {}).get("test_evaluations") for step, artifact in made}
    return {
        f"evaluations of this test set, {name}": f"{count}, this one included"
        for name, count in counts.items()
        if count
    }


def _cost(made: Sequence[tuple[Step, Artifact]]) -> dict[str, str]:
    """Time of each step and memory of the trainings that this run stands on."""
    cost = {step.name: f"{artifact.manifest['seconds']:.0f} s" for step, artifact in made}
    cost["all steps"] = f"{sum(artifact.manifest['seconds'] for _, artifact in made):.0f} s"
    if records := [record for _, artifact in made for record in _history(artifact)]:
        cost["peak memory in training"] = f"{max(record['peak_memory_gb'] for record in records):.2f} GB"
    return cost
