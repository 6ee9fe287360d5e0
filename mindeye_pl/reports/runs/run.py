"""The report of a run: the tables in the terminal and the page, empty rows with the commands that fill them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mindeye_pl.console import console
from mindeye_pl.engine.run import Run, order
from mindeye_pl.engine.step import Inputs, Step
from mindeye_pl.errors import UserError
from mindeye_pl.reports.render.curves import training_panels
from mindeye_pl.reports.render.page import ReportData, write_report
from mindeye_pl.reports.render.section import Section, charts_section
from mindeye_pl.reports.render.table import COLUMNS, Results, Row, explain_retrieval, terminal_table
from mindeye_pl.reports.runs import figures
from mindeye_pl.reports.runs.brain_maps import brain_maps_section
from mindeye_pl.reports.runs.data_card import PAGE as DATA_CARD
from mindeye_pl.reports.runs.data_card import has_card, link_section, write_data_card
from mindeye_pl.reports.runs.in_context import IN_CONTEXT, ON_TERMINAL, in_context_results
from mindeye_pl.reports.runs.rows import (
    GALLERY,
    RECONSTRUCTIONS,
    TERMINAL,
    About,
    caption_results,
    experiment_rows,
    gallery_results,
    image_results,
    retrieval_results,
)
from mindeye_pl.steps.baselines.images import read_images
from mindeye_pl.steps.brain.reconstruct import read_reconstructions
from mindeye_pl.steps.evaluation.brain_maps import BRAIN_MAPS
from mindeye_pl.steps.evaluation.caption_scores import caption_columns
from mindeye_pl.steps.evaluation.image_sets import TRUE_TOKENS
from mindeye_pl.steps.evaluation.in_context import EVALUATE_IN_CONTEXT, read_in_context
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS, baseline_folders, read_image_scores
from mindeye_pl.steps.evaluation.retrieval import EVALUATE
from mindeye_pl.steps.gallery.retrieve import RETRIEVE
from mindeye_pl.steps.inputs.dataset import CAPTIONS, DataFile
from mindeye_pl.store.artifacts import Artifact
from mindeye_pl.store.environment import environment
from mindeye_pl.store.fingerprint import folders_of
from mindeye_pl.training.callbacks.history import read_history
from mindeye_pl.training.fit import HISTORY


@dataclass
class Contents:
    """Content of a run's page: sections that show images, tables of scores, and sections that show charts.

    The first section of images leads the page; the others follow the tables.

    `captions` is the file of the data's captions, None where there is none.
    """

    config: DictConfig
    captions: Path | None
    images: list[Section | None] = field(default_factory=list)
    tables: list[Results] = field(default_factory=list)
    charts: list[Section | None] = field(default_factory=list)

    def add_reconstructions(self, about: About, evaluation: Artifact, inputs: Inputs, rows: Sequence[Row]) -> None:
        """Add scores, images and brain correlation of the reconstructions."""
        config, content = self.config, read_image_scores(evaluation)
        tables = image_results(content, about, rows)
        self.tables += [*tables, *caption_results(content, about, caption_columns(config.protocol))]
        scored, stimuli = inputs["scored"], inputs["data"].stimuli
        baselines = {line: read_images(folder) for line, folder in baseline_folders(inputs).items()}
        folder = inputs.get(TRUE_TOKENS)
        true_tokens = None if folder is None else read_reconstructions(folder)["images"]
        args = (scored, content, tables, stimuli, self.captions, config.report.images, baselines, true_tokens)
        self.images.append(figures.reconstructions_section(*args))
        self.charts.append(figures.regions_section(content, config.protocol.encoders))

    def add_retrieval(self, about: About, evaluation: Artifact, inputs: Inputs, rows: Sequence[Row]) -> None:
        """Add scores of retrieval, before other tables, the retrieved images, and the map of tokens."""
        embeddings, stimuli = figures.Embeddings.read(evaluation, inputs["targets"]), inputs["data"].stimuli
        self.tables.insert(0, retrieval_results(evaluation, about, rows))
        self.images.append(figures.retrieval_section(embeddings, stimuli, self.captions, self.config.report.gallery))
        self.charts += [figures.repetitions_section(evaluation), figures.tokens_section(embeddings, evaluation)]

    def add_gallery(self, retrieval: Artifact, inputs: Inputs) -> None:
        """Add recall in the gallery, and the images that were found."""
        self.tables += gallery_results(figures.read_recall(retrieval))
        args = (inputs["gallery"].gallery, inputs["images"].stimuli, self.captions, self.config.report.gallery)
        self.images.append(figures.found_section(retrieval, *args))


def write_run_report(run: Run, steps: Sequence[Step]) -> Path:
    """Print the tables, write the page and print its path; return it."""
    config, about = run.config, About.of(run.config)
    made = {step: artifact for step in order(config, steps) if (artifact := run.find(step)) is not None}
    summary = f"Made: {', '.join(step.name for step in made)}."
    contents = Contents(config, run.open(DataFile(CAPTIONS)))
    if EVALUATE_RECONSTRUCTIONS in steps:
        evaluation, inputs = made[EVALUATE_RECONSTRUCTIONS], run.inputs(EVALUATE_RECONSTRUCTIONS)
        rows = experiment_rows(run, evaluation, EVALUATE_RECONSTRUCTIONS)
        contents.add_reconstructions(about, evaluation, inputs, rows)
    if EVALUATE in steps:
        evaluation, inputs = made[EVALUATE], run.inputs(EVALUATE)
        rows = experiment_rows(run, evaluation, EVALUATE)
        contents.add_retrieval(about, evaluation, inputs, rows)
        own = (row.score("image_retrieval") for row in rows if row.this_run)
        summary = next((explain_retrieval(score) for score in own if score is not None), summary)
    if EVALUATE_IN_CONTEXT in steps:
        contents.tables.append(in_context_results(read_in_context(made[EVALUATE_IN_CONTEXT]), about))
    if RETRIEVE in steps:
        contents.add_gallery(made[RETRIEVE], run.inputs(RETRIEVE))
    if BRAIN_MAPS in steps:
        contents.images.append(brain_maps_section(made[BRAIN_MAPS]))
    _print(config, contents.tables)
    histories = {step.title: _history(artifact) for step, artifact in made.items()}
    curves = [charts_section(title, training_panels(records)) for title, records in histories.items()]
    images = [section for section in contents.images if section is not None]
    path = report_folder(config, run.experiment, run.overrides, run.job) / "index.html"
    card = _write_data_card(path.with_name(DATA_CARD), made, simulated=about.simulated)
    data = ReportData(
        title=run.experiment,
        summary=summary,
        simulated=about.simulated,
        images=images[:1],
        results=contents.tables,
        more=[*images[1:], card, *curves, *contents.charts],
        settings=OmegaConf.to_yaml(config, resolve=True),
        environment=environment() | {"seed": str(config.seed)} | _test_set_uses(made),
        cost=_cost(made, [record for records in histories.values() for record in records]),
        artifacts=[artifact.manifest for artifact in made.values()],
    )
    write_report(path, data, export=config.report.export)
    console.print(f"\nreport: {path.resolve()}")
    return path


def _write_data_card(path: Path, made: Mapping[Step, Artifact], *, simulated: bool) -> Section | None:
    """Write the card of data that a step prepared, and return the section that leads to it; None for other data."""
    for artifact in made.values():
        if has_card(artifact.folder):
            summary = write_data_card(artifact.folder, path, simulated=simulated)
            console.print(f"\ndata card: {path.resolve()}")
            return link_section(summary)
    return None


def report_folder(config: DictConfig, experiment: str, overrides: Sequence[str], job: int | None) -> Path:
    """Return the folder of a run's page, figures and tables.

    A run of its own has one for each subject and amount of data that the command line names; a job of a sweep lies
    below its experiment.
    """
    folder, data = Path(config.paths.reports) / folders_of(experiment), config.data
    if job is not None:
        return folder / "jobs" / str(job)
    hours = "all" if data.num_sessions == "all" else f"{data.num_sessions}h"
    names = {"data.subject": f"subj{data.subject:02d}", "data.num_sessions": hours}
    given = [name for key, name in names.items() if any(item.startswith(f"{key}=") for item in overrides)]
    return folder.with_name("_".join([folder.name, *given]))


def _print(config: DictConfig, tables: Sequence[Results]) -> None:
    """Print the main columns of the main tables; the page has the rest."""
    commands = True
    for table in tables:
        shown = {
            "Retrieval": [column.score for column in COLUMNS],
            RECONSTRUCTIONS: (*TERMINAL, *config.protocol.metrics),
            IN_CONTEXT: [column.score for column in table.columns if column.score in ON_TERMINAL],
            GALLERY: [column.score for column in table.columns][:3],
        }
        if table.title not in shown:
            continue
        title = _subject_title(config) if table.title == "Retrieval" else table.title
        columns = [replace(column, group="") for column in table.columns if column.score in shown[table.title]]
        console.print()
        # On the page notes and kinds explain the rows; here their names do.
        named = [replace(row, note="", differs={}) for row in table.rows]
        rows = [row for row in named if not row.scores or any(row.score(column.score) for column in columns)]
        console.print(terminal_table(Results(title, rows, columns, needs=table.needs), commands=commands))
        if table.note:
            console.print(table.note, style="dim")
        commands = False


def _subject_title(config: DictConfig) -> str:
    label = (config.data.get("labels") or {}).get(config.data.subject)
    return f"Subject {config.data.subject}" + (f" ({label})" if label else "")


def _history(artifact: Artifact) -> list[dict[str, Any]]:
    """Return the records of a training; empty, with one line, where they are damaged: the weights are not."""
    try:
        return read_history(artifact.folder / HISTORY)
    except UserError as error:
        console.print(f"no training curves: {error}", markup=False)
        return []


def _test_set_uses(made: Mapping[Step, Artifact]) -> dict[str, str]:
    """Return how often the test set had been evaluated when this run's numbers were computed."""
    counts = {step.name: artifact.manifest.get("facts", {}).get("test_evaluations") for step, artifact in made.items()}
    return {
        f"evaluations of this test set, {name}": f"{count}, this one included"
        for name, count in counts.items()
        if count
    }


def _cost(made: Mapping[Step, Artifact], history: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the time of each step, and the memory of the trainings."""
    seconds = {step.name: artifact.manifest["seconds"] for step, artifact in made.items()}
    cost = {name: f"{value:.0f} s" for name, value in (seconds | {"all steps": sum(seconds.values())}).items()}
    if history:
        cost["peak memory in training"] = f"{max(record['peak_memory_gb'] for record in history):.2f} GB"
    return cost
