"""The answer of a sweep: one table, the curve over hours, paired differences, what each point costs, and a sentence."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mindeye_pl.config import compose_config
from mindeye_pl.console import console
from mindeye_pl.engine.run import Run
from mindeye_pl.errors import UserError
from mindeye_pl.reports.render.charts import charts_section
from mindeye_pl.reports.render.page import ReportData, UsedArtifact, write_report
from mindeye_pl.reports.render.results import Results
from mindeye_pl.reports.render.table import COLUMNS, IMAGE_COLUMNS, Column, Row, terminal_table
from mindeye_pl.reports.sweeps.findings import compare, compared, curves, sentences
from mindeye_pl.reports.sweeps.images import sweep_images
from mindeye_pl.reports.sweeps.jobs import Job, read_jobs
from mindeye_pl.reports.sweeps.settings import Cell, cells_of, manifest_of
from mindeye_pl.steps.inputs.dataset import CAPTIONS, DataFile, is_simulated, open_dataset
from mindeye_pl.store.environment import environment

#: Columns of the terminal, which has room for no more.
TERMINAL_COLUMNS = 3


def write_sweep_report(config: DictConfig) -> Path | None:
    """Prints the table and the sentences of the sweep that has just ended, and writes its page.

    Args:
        config: of the sweep, with its `hydra` node; no job's overrides are in it.

    Returns:
        The page; None where no job has begun.

    Raises:
        UserError: when all is written, if jobs have failed.
    """
    jobs = read_jobs(Path(config.hydra.sweep.dir))
    if not jobs:
        return None
    name = config.hydra.runtime.choices.get("experiment") or "adhoc"
    run = Run(compose_config(jobs[0].overrides), jobs[0].overrides)
    path = Path(config.paths.reports) / name / "index.html"
    data, said = report_data(config, name, jobs, run)
    write_report(path, data, export=config.report.export)
    _print(data, said)
    console.print(f"\nreport: {path.resolve()}")
    if lost := [job for job in jobs if job.status != "finished"]:
        first = min(lost, key=lambda job: job.status != "failed")  # the failure is why others were skipped
        raise UserError(
            f"{len(lost)} of {len(jobs)} jobs have not finished",
            got=f"job {first.number}: {first.error or 'killed'}",
            fix="the same command runs them again, and no other",
        )
    return path


def report_data(config: DictConfig, name: str, jobs: Sequence[Job], run: Run) -> tuple[ReportData, list[str]]:
    """All that the sweep's page shows, and the sentences that answer its question.

    Args:
        config: of the sweep.
        name: of the experiment.
        jobs: by number.
        run: of one of them, for what they all share.
    """
    cells = cells_of(jobs)
    simulated = is_simulated(run.config)
    columns = _columns(cells, list(config.sweep.columns))
    scores = [column.score for column in columns]
    key, baseline = compared(jobs, cells, config.sweep.compare, config.sweep.baseline)
    if key is not None and len(cells[0].settings) == 1:
        cells.sort(key=lambda cell: cell.settings[key] != baseline)  # what the others are compared with comes first
    rows = [_row(cell, scores, simulated) for cell in cells]
    tables = [Results("Sweep", rows, columns, _about_intervals(cells))]
    said: list[str] = []
    if key is not None:
        if differences := compare(cells, key, baseline, columns, simulated=simulated):
            tables.append(_differences(differences, columns))
        said = [
            sentence
            for column in columns
            if column.score == config.sweep.metric
            for sentence in sentences(cells, key, baseline, column)
        ]
    note = " ".join([*said, "Bars: from the lowest to the highest seed."])
    charts = charts_section("Scores against hours", curves(cells, columns), note)
    data = ReportData(
        title=name,
        summary=_headline(said) or f"{len(jobs)} jobs.",
        simulated=simulated,
        results=tables,
        images=[
            section
            for section in (charts, sweep_images(open_dataset(run), DataFile(CAPTIONS).open(run), cells))
            if section
        ],
        settings=OmegaConf.to_yaml(run.config, resolve=True),
        environment=environment(),
        cost=_cost(jobs, cells),
        artifacts=_artifacts(jobs),
    )
    return data, said


def _headline(said: Sequence[str]) -> str:
    """The sentence about one hour where there is one, else the first."""
    about_an_hour = [sentence for sentence in said if " at 1 h" in sentence]
    return next(iter([*about_an_hour, *said]), "")


def _print(data: ReportData, said: Sequence[str]) -> None:
    """The first columns of the tables, and what they say; of the notes only those on jobs that have no score."""
    for table in data.results:
        rows = [row if not row.scores else replace(row, note="") for row in table.rows]
        console.print()
        console.print(terminal_table(table.title, rows, table.columns[:TERMINAL_COLUMNS]))
    console.print(data.results[0].note, style="dim")
    console.print()
    for sentence in said:
        console.print(sentence, markup=False)


def _columns(cells: Sequence[Cell], wanted: Sequence[str]) -> list[Column]:
    """Return the columns of the scores that any job has, in the configured order."""
    known = {column.score: column for column in (*COLUMNS, *IMAGE_COLUMNS)}
    there = {score.name: score for cell in cells for job in cell.by_seed.values() for score in job.scores.values()}
    known |= {
        name: Column(name, name, form="number", higher_is_better=score.higher_is_better, limits=None)
        for name, score in there.items()
        if name not in known
    }
    shown = [name for name in wanted if name in there] or wanted[:1]  # a table of failures has one empty column
    return [known.get(name, Column(name, name, form="number")) for name in shown]


def _row(cell: Cell, scores: Sequence[str], simulated: bool) -> Row:
    found = tuple(score for name in scores if (score := cell.score(name)) is not None)
    failures = cell.failures()
    seeds = f"{len(cell.by_seed)} seeds" if len(cell.jobs) > 1 else ""
    status = "failed" if any(job.status == "failed" for job in cell.jobs.values()) else "not finished"
    return Row(cell.name, found, status=status, note="; ".join(filter(None, [seeds, *failures])), simulated=simulated)


def _about_intervals(cells: Sequence[Cell]) -> str:
    mean = "Means over seeds; " if any(len(cell.jobs) > 1 for cell in cells) else ""
    return f"{mean}95 % intervals over the test images."


def _differences(rows: Sequence[Row], columns: Sequence[Column]) -> Results:
    note = "First minus second on the same images; 95 % intervals over images, and by Student's t over seeds."
    return Results("Paired differences", rows, [replace(column, limits=None) for column in columns], note)


def _cost(jobs: Sequence[Job], cells: Sequence[Cell]) -> dict[str, str]:
    """Minutes of each cell's own steps, and of what several share."""
    cost = {cell.name: f"{cell.seconds() / 60:.1f} min" for cell in cells}
    own = {folder for job in jobs for folder in job.artifacts.values()}
    everything = {folder: manifest_of(folder) for folder in own}
    for step in ("simulate", "convert_mindeye1", "pretrain", "fit_encoder"):
        seconds = [manifest["seconds"] for manifest in everything.values() if manifest["step"] == step]
        if seconds:
            times = f", {len(seconds)} times" if len(seconds) > 1 else ""
            cost[f"shared: {step}"] = f"{sum(seconds) / 60:.1f} min{times}"
    cost["all steps"] = f"{sum(manifest['seconds'] for manifest in everything.values()) / 60:.1f} min"
    return cost


def _artifacts(jobs: Sequence[Job]) -> list[UsedArtifact]:
    """Each once, in the order of the jobs."""
    folders = dict.fromkeys(folder for job in jobs for folder in job.artifacts.values())
    manifests = [manifest_of(folder) for folder in folders]
    return [UsedArtifact(m["step"], m["label"], m["fingerprint"], m["seconds"]) for m in manifests]
