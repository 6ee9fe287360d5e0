"""The report of a run: the tables in the terminal and the page, empty rows with the commands that fill them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from mindeye_pl.console import console
from mindeye_pl.engine.step import Run, Step, order
from mindeye_pl.reports.render.curves import training_panels
from mindeye_pl.reports.render.page import ReportData, Training, UsedArtifact, write_report
from mindeye_pl.reports.render.results import Results
from mindeye_pl.reports.render.table import COLUMNS, Row, explain_retrieval, terminal_table
from mindeye_pl.reports.runs.figures import (
    reconstructions_section,
    regions_section,
    repetitions_section,
    report_folder,
    retrieval_section,
    tokens_section,
)
from mindeye_pl.reports.runs.gallery import GALLERY, found_section, gallery_results
from mindeye_pl.reports.runs.rows import (
    RECONSTRUCTIONS,
    TERMINAL,
    caption_results,
    image_results,
    retrieval_results,
)
from mindeye_pl.steps.brain.finetune import FINETUNE
from mindeye_pl.steps.brain.finetune_generator import FINETUNE_GENERATOR
from mindeye_pl.steps.brain.pretrain import PRETRAIN
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS
from mindeye_pl.steps.evaluation.retrieval import EVALUATE
from mindeye_pl.steps.gallery.retrieve import RETRIEVE
from mindeye_pl.steps.inputs.simulate import is_simulated
from mindeye_pl.store.artifacts import Artifact
from mindeye_pl.store.environment import environment
from mindeye_pl.training.fit import HISTORY

TITLES = {PRETRAIN.name: "Pretraining", FINETUNE.name: "Fine-tuning", FINETUNE_GENERATOR.name: "Generator"}


def write_run_report(run: Run, steps: Sequence[Step]) -> Path:
    """Prints the tables, writes the page and prints its path."""
    retrieval = retrieval_results(run) if EVALUATE in steps else None
    tables = [retrieval] if retrieval else []
    images, figures = [], []
    if EVALUATE_RECONSTRUCTIONS in steps:
        scored = image_results(run)
        tables += [*scored, *([captions] if (captions := caption_results(run)) else [])]
        images.append(reconstructions_section(run, scored))
        figures.append(regions_section(run))
    if retrieval:
        images.append(retrieval_section(run))
        figures += [repetitions_section(run), tokens_section(run)]
    if RETRIEVE in steps:
        tables += gallery_results(run)
        images.append(found_section(run))
    _print(run, tables)
    path = report_folder(run) / "index.html"
    artifacts = [(step, run.find(step)) for step in order(run, steps)]
    made = [(step, artifact) for step, artifact in artifacts if artifact is not None]
    data = ReportData(
        title=run.experiment,
        summary=_summary(retrieval.rows if retrieval else [], made),
        simulated=is_simulated(run),
        results=tables,
        images=[section for section in images if section],
        more=[section for section in figures if section],
        trainings=[_training(step, artifact) for step, artifact in made if step.name in TITLES],
        settings=OmegaConf.to_yaml(run.config, resolve=True),
        environment=environment() | {"seed": str(run.config.seed)} | _looked_at(made),
        cost=_cost(made),
        artifacts=[
            UsedArtifact(step.name, artifact.manifest["label"], artifact.fingerprint, artifact.manifest["seconds"])
            for step, artifact in made
        ],
    )
    write_report(path, data, export=run.config.report.export)
    console.print(f"\nreport: {path.resolve()}")
    return path


def _print(run: Run, tables: Sequence[Results]) -> None:
    """The main columns of the main tables; the page has the rest."""
    commands = True
    for table in tables:
        if table.title == "Retrieval":
            names: Sequence[str] = [column.score for column in COLUMNS]
            title = f"Subject {run.config.data.subject}"
        elif table.title == RECONSTRUCTIONS:
            names, title = TERMINAL, table.title
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


def _summary(rows: Sequence[Row], made: Sequence[tuple[Step, Artifact]]) -> str:
    for row in rows:
        if row.this_run and (score := row.score("image_retrieval")) is not None:
            return explain_retrieval(score)
    return "Made: " + ", ".join(step.name for step, _ in made) + "."


def _history(artifact: Artifact) -> list[dict[str, Any]]:
    path = artifact.folder / HISTORY
    return json.loads(path.read_text()) if path.exists() else []


def _training(step: Step, artifact: Artifact) -> Training:
    return Training(TITLES[step.name], training_panels(_history(artifact)))


def _looked_at(made: Sequence[tuple[Step, Artifact]]) -> dict[str, str]:
    """How often the test set had been evaluated when this run's numbers were made."""
    counts = {
        step.name: artifact.manifest.get("facts", {}).get("test_evaluations")
        for step, artifact in made
        if step in (EVALUATE, EVALUATE_RECONSTRUCTIONS, RETRIEVE)
    }
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
