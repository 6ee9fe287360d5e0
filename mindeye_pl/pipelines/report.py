"""The report of a run: the table in the terminal and the page, its empty rows with the commands that fill them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from mindeye_pl.artifacts import Artifact
from mindeye_pl.config import compose_config, experiment_overrides
from mindeye_pl.console import console
from mindeye_pl.data.stimuli import Stimuli
from mindeye_pl.errors import UserError
from mindeye_pl.metrics.retrieval import published_label
from mindeye_pl.metrics.score import Score
from mindeye_pl.pipelines import evaluate_pictures
from mindeye_pl.pipelines.data import is_simulated, layout
from mindeye_pl.pipelines.evaluate import CEILING, EVALUATE, MODEL, RIDGE, SCORES, SHUFFLED, read_scores
from mindeye_pl.pipelines.evaluate_pictures import EVALUATE_PICTURES
from mindeye_pl.pipelines.finetune import FINETUNE
from mindeye_pl.pipelines.pretrain import PRETRAIN
from mindeye_pl.pipelines.reconstruct import RECONSTRUCT, read_captions, read_reconstructions
from mindeye_pl.pipelines.step import Run, Step, order
from mindeye_pl.pipelines.training import HISTORY
from mindeye_pl.reports.curves import training_panels
from mindeye_pl.reports.environment import environment
from mindeye_pl.reports.grid import GridRow, grid_section
from mindeye_pl.reports.page import ReportData, Results, Section, Training, UsedArtifact, write_report
from mindeye_pl.reports.table import COLUMNS, PICTURE_COLUMNS, Column, Row, in_plain_words, terminal_table

TITLES = {PRETRAIN.name: "Pretraining", FINETUNE.name: "Fine-tuning"}


def write_run_report(run: Run, steps: Sequence[Step]) -> Path:
    """Prints the table, writes the page and prints its path."""
    rows = table_rows(run) if EVALUATE in steps else []
    pictures = picture_rows(run) if EVALUATE_PICTURES in steps else []
    if rows:
        console.print()
        console.print(terminal_table(f"Subject {run.config.data.subject}", rows))
    if pictures:
        console.print()
        console.print(terminal_table("Reconstructions", pictures, PICTURE_COLUMNS, commands=not rows))
        console.print(beside_null(run), style="dim")
    path = Path(run.config.paths.reports) / run.experiment / "index.html"
    artifacts = [(step, run.find(step)) for step in order(run, steps)]
    made = [(step, artifact) for step, artifact in artifacts if artifact is not None]
    write_report(
        path,
        ReportData(
            title=run.experiment,
            summary=_summary(rows, made),
            simulated=is_simulated(run),
            results=[
                Results("Results", rows, [_labelled(column, run.config.metrics.names) for column in COLUMNS]),
                Results("Scores of reconstructions", pictures, PICTURE_COLUMNS, beside_null(run) if pictures else ""),
            ],
            pictures=_pictures(run) if RECONSTRUCT in steps else (),
            trainings=[_training(step, artifact) for step, artifact in made if step.name in TITLES],
            settings=OmegaConf.to_yaml(run.config, resolve=True),
            environment=environment() | _cost(made) | {"seed": str(run.config.seed)},
            artifacts=[
                UsedArtifact(step.name, artifact.manifest["label"], artifact.fingerprint, artifact.manifest["seconds"])
                for step, artifact in made
            ],
        ),
    )
    console.print(f"\nreport: {path.resolve()}")
    return path


def _pictures(run: Run) -> tuple[Section, ...]:
    """The first test pictures, always the same ones, and what was reconstructed of them."""
    artifact = run.find(RECONSTRUCT)
    assert artifact is not None, "report comes after reconstruct"
    made = {name: rows[: run.config.report.pictures] for name, rows in read_reconstructions(artifact).items()}
    ids = made["stimulus_ids"].numpy()
    said = read_captions(artifact)
    described = json.loads(path.read_text()) if (path := layout(run).captions).exists() else None
    columns = {
        "Seen": Stimuli(layout(run).stimuli).read(ids),
        "Reconstructed": made["images"].numpy(),
        **({"Blurry": made["blurry_images"].numpy()} if "blurry_images" in made else {}),
        **({"Refined": made["refined_images"].numpy()} if "refined_images" in made else {}),
        "From true tokens": made["images_from_true_tokens"].numpy(),
    }
    rows = [
        GridRow(
            f"stimulus {id_}",
            {title: pictures[index] for title, pictures in columns.items()},
            described[id_][0] if described else "",
            said[index] if said else "",
        )
        for index, id_ in enumerate(ids.tolist())
    ]
    note = "From true tokens: the unCLIP given the picture's own tokens, the best that any brain could do."
    section = grid_section("Reconstructions", list(columns), rows, note)
    return (section,) if section else ()


def table_rows(run: Run) -> list[Row]:
    """The rows of the table: null rows first, then baselines and experiments, then the ceiling."""
    simulated = is_simulated(run)
    own = run.find(EVALUATE)
    assert own is not None, "report comes after evaluate"
    model = read_scores(own, MODEL)
    hours = hours_in_words(run)
    rows = [
        Row("chance", tuple(_chance(score) for score in model), simulated=simulated),
        Row("shuffled brains", read_scores(own, SHUFFLED), simulated=simulated),
        Row(f"ridge regression, {hours}", read_scores(own, RIDGE), simulated=simulated),
    ]
    names = list(run.config.report.compare)
    if run.experiment not in names:
        rows.append(Row(run.experiment, model, simulated=simulated, this_run=True))
    rows += [_experiment_row(run, name, own) for name in names]
    if ceiling := read_scores(own, CEILING):
        note = "ridge from all sessions without noise"
        rows.append(Row("noise-free ceiling", ceiling, simulated=simulated, note=note))
    return rows


def picture_rows(run: Run) -> list[Row]:
    """The rows of the reconstructions' table: null rows, the blur alone, experiments, and what true tokens give."""
    own = run.find(EVALUATE_PICTURES)
    assert own is not None, "report comes after evaluate_pictures"
    simulated = is_simulated(run)

    def row(name: str, line: str, note: str = "") -> list[Row]:
        scores = read_scores(own, line)
        return [Row(name, scores, simulated=simulated, note=note)] if scores else []

    names = list(run.config.report.compare)
    rows = [
        *row("mean picture", evaluate_pictures.MEAN_PICTURE),
        *row("another test picture", evaluate_pictures.OTHER_PICTURE),
        *row("shuffled brains", evaluate_pictures.SHUFFLED),
        *row("blurry alone", evaluate_pictures.BLURRY),
        *row("refined", evaluate_pictures.REFINED),
    ]
    if run.experiment not in names:
        rows.append(Row(run.experiment, read_scores(own, MODEL), simulated=simulated, this_run=True))
    rows += [_experiment_row(run, name, own, EVALUATE_PICTURES) for name in names]
    return [*rows, *row("true tokens", evaluate_pictures.TRUE_TOKENS, note="no brain could do better")]


def beside_null(run: Run) -> str:
    """One sentence: which scores of the reconstructions are above which null rows, beyond doubt."""
    own = run.find(EVALUATE_PICTURES)
    assert own is not None, "report comes after evaluate_pictures"
    titles = {column.score: column.title for column in PICTURE_COLUMNS}
    content = json.loads((own.folder / SCORES).read_text())["above_null"]
    not_above = [
        f"{titles[metric]} above {null.replace('_', ' ')}"
        for null, scores in content.items()
        for metric, (_, low, _) in scores.items()
        if low <= 0
    ]
    if not not_above:
        return "Every score is above every null row, with 95 % intervals over the same pictures."
    return f"With 95 % intervals over the same pictures, not shown: {'; '.join(not_above)}."


def _labelled(column: Column, names: str) -> Column:
    """The column with the name that the published script (or the paper) gives its direction."""
    source = "the published script prints it" if names == "published" else "the paper means it"
    question = f'{column.question} "{published_label(column.score, names)}", as {source}.'
    return replace(column, question=question)


def hours_in_words(run: Run) -> str:
    """How much of the subject's data is in use."""
    sessions = run.config.data.num_sessions
    return "all sessions" if sessions == "all" else f"{sessions} hour" + ("s" if sessions != 1 else "")


def _experiment_row(run: Run, name: str, own: Artifact, step: Step = EVALUATE) -> Row:
    """The row of an experiment, under this run's other overrides; empty where it was not run."""
    overrides = experiment_overrides(name, run.overrides)
    try:
        other = Run(compose_config(overrides), overrides)
        found = other.find(step)
    except UserError as error:  # of data that this experiment lacks and this run has not asked for
        return Row(name, status="cannot run", note=str(error))
    start = "pretrained" if other.config.finetune.start == "pretrained" else "from scratch"
    label = f"{start}, {hours_in_words(other)}"
    if found is None:
        return Row(label, command=" ".join(["python -m mindeye_pl", *overrides]), simulated=is_simulated(run))
    mine = found.fingerprint == own.fingerprint
    return Row(label, read_scores(found, MODEL), simulated=is_simulated(run), this_run=mine)


def _chance(score: Score) -> Score:
    assert score.chance is not None, score.name
    return Score(score.name, score.chance, score.chance, score.pool_size, score.num_pictures)


def _summary(rows: Sequence[Row], made: Sequence[tuple[Step, Artifact]]) -> str:
    for row in rows:
        if row.this_run and (score := row.score("image_retrieval")) is not None:
            return in_plain_words(score)
    return "Made: " + ", ".join(step.name for step, _ in made) + "."


def _history(artifact: Artifact) -> list[dict[str, Any]]:
    path = artifact.folder / HISTORY
    return json.loads(path.read_text()) if path.exists() else []


def _training(step: Step, artifact: Artifact) -> Training:
    return Training(TITLES[step.name], training_panels(_history(artifact)))


def _cost(made: Sequence[tuple[Step, Artifact]]) -> dict[str, str]:
    """Time and memory of the steps that this run stands on."""
    records = [record for _, artifact in made for record in _history(artifact)]
    seconds = sum(artifact.manifest["seconds"] for _, artifact in made)
    cost = {"time of all steps": f"{seconds:.0f} s"}
    if records:
        cost["peak memory in training"] = f"{max(record['peak_memory_gb'] for record in records):.2f} GB"
    return cost
