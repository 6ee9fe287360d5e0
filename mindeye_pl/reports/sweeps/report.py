"""The report of a sweep: images, one table, paired differences, curves, costs, and a sentence."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from omegaconf import DictConfig, OmegaConf

from mindeye_pl.config import compose_config
from mindeye_pl.console import console
from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.engine.run import Run
from mindeye_pl.errors import UserError
from mindeye_pl.metrics.statistics.seeds import MIN_SEEDS
from mindeye_pl.reports.render.page import ReportData, write_report
from mindeye_pl.reports.render.section import charts_section
from mindeye_pl.reports.render.table import (
    BY_DIRECTION,
    COLUMNS,
    COST_COLUMNS,
    IMAGE_COLUMNS,
    VALIDATION_COLUMNS,
    Column,
    Kind,
    Results,
    Row,
    terminal_table,
)
from mindeye_pl.reports.sweeps.baselines import baseline_cells
from mindeye_pl.reports.sweeps.choice import choose
from mindeye_pl.reports.sweeps.curves import BARS, curves, title_of
from mindeye_pl.reports.sweeps.findings import compare, compare_with_baselines, compared, sentences
from mindeye_pl.reports.sweeps.images import images_section
from mindeye_pl.reports.sweeps.jobs import Job, read_jobs
from mindeye_pl.reports.sweeps.settings import ABLATION, PREPARING_STEPS, Cell, cells_of, manifest_of
from mindeye_pl.schema.nodes.reports import Baseline
from mindeye_pl.steps.baselines.ridge import RIDGE_NOISE_FREE, RIDGE_TOKENS
from mindeye_pl.steps.inputs.dataset import CAPTIONS, DataFile, Images, is_simulated
from mindeye_pl.store.environment import environment
from mindeye_pl.store.fingerprint import folders_of

#: Number of score columns in the terminal.
TERMINAL_COLUMNS = 3

#: Title of the table of each model minus each linear baseline.
AGAINST_BASELINES = "Against linear baselines"

#: Steps whose cost several cells share.
SHARED_STEPS = (
    *(
        "simulate",
        "convert_mindeye1",
        "prepare_nsd",
        "pretrain",
        *PREPARING_STEPS,
        "fit_encoder",
        "fit_bottleneck",
        RIDGE_TOKENS.name,
        RIDGE_NOISE_FREE.name,
    ),
    *get_args(Baseline),
)


def write_sweep_report(config: DictConfig) -> Path | None:
    """Print the table and the findings of the sweep that has just ended, and write its page.

    Args:
        config: of the sweep, with its `hydra` node, without any job's overrides.

    Returns:
        Path of the page; None if no job has started.

    Raises:
        UserError: if jobs have failed, after everything is written.
    """
    jobs = read_jobs(Path(config.hydra.sweep.dir))
    if not jobs:
        return None
    run = Run(compose_config(jobs[0].overrides), jobs[0].overrides)
    stimuli, captions = run.open(Images()).stimuli, run.open(DataFile(CAPTIONS))
    data, findings = _report_data(config, jobs, run.config, stimuli, captions)
    path = Path(config.paths.reports) / folders_of(data.title) / "index.html"
    write_report(path, data, export=config.report.export)
    _print(data.results, findings)
    console.print(f"\nreport: {path.resolve()}")
    if lost := [job for job in jobs if job.status != "finished"]:
        first = min(lost, key=lambda job: job.status != "failed")  # the failure is why others were skipped
        raise UserError(
            f"{len(lost)} of {len(jobs)} jobs have not finished",
            got=f"job {first.number}: {first.error or 'killed'}",
            fix="the same command runs them again, and no other",
        )
    return path


def _report_data(
    config: DictConfig, jobs: Sequence[Job], shared: DictConfig, stimuli: Stimuli, captions: Path | None
) -> tuple[ReportData, list[str]]:
    """Return the content of the page, and the sentences that answer the sweep's question.

    `config` is that of the sweep, `shared` that of one job, for the settings that they all share.
    """
    cells, simulated, sweep = cells_of(jobs), is_simulated(shared), config.sweep
    columns = _columns(cells, list(sweep.columns))
    scores = [column.score for column in columns]
    baselines = baseline_cells(cells)
    panels = curves([*cells, *baselines], columns, sweep.over)
    key, baseline = compared(jobs, cells, sweep.compare, sweep.baseline)
    differences, findings = [], []
    if key is not None:
        if len(cells[0].settings) == 1:
            cells.sort(key=lambda cell: cell.settings[key] != baseline)  # the baseline comes first
        differences = compare(cells, key, baseline, columns, simulated=simulated)
        scored = [column for column in columns if column.score == sweep.metric]
        findings = [sentence for column in scored for sentence in sentences(cells, key, baseline, column)]
    if sweep.choose is not None:
        findings += [choose(cells, sweep.choose, one, sweep.tolerance) for one in columns if one.score == sweep.metric]
    means = "Means over seeds; " if any(len(cell.jobs) > 1 for cell in cells) else ""
    rows = [_row(cell, scores, simulated) for cell in (*baselines, *cells)]
    beside = compare_with_baselines(cells, baselines, columns, simulated=simulated)
    unlimited = [replace(column, limits=None) for column in columns]
    intervals = f"95 % intervals over test images and seeds, over images alone below {MIN_SEEDS} seeds."
    note = f"First minus second on the same images and seeds; {intervals}"
    by_direction = f" {BY_DIRECTION}" if any(column in COLUMNS for column in columns) else ""
    tables = [Results("Sweep", rows, columns, f"{means}{intervals}{by_direction}")]
    tables += [Results("Paired differences", differences, unlimited, note)] if differences else []
    tables += [Results(AGAINST_BASELINES, beside, unlimited, note)] if beside else []
    about_an_hour = [sentence for sentence in findings if " at 1 h" in sentence]
    charts = charts_section(title_of(sweep.over), panels, " ".join([*findings, BARS]))
    data = ReportData(
        title=config.hydra.runtime.choices.get("experiment") or "adhoc",
        summary=next(iter([*about_an_hour, *findings]), f"{len(jobs)} jobs."),
        simulated=simulated,
        images=[images_section(stimuli, captions, cells, baselines)],
        results=tables,
        more=[charts],
        settings=OmegaConf.to_yaml(shared, resolve=True),
        environment=environment(),
        cost=_cost(jobs, cells),
        artifacts=list(_manifests(jobs).values()),
    )
    return data, findings


def _print(tables: Sequence[Results], findings: Sequence[str]) -> None:
    """Print the first columns of the tables, and the findings; of the notes only those on jobs without a score."""
    for table in tables:
        if table.title == AGAINST_BASELINES:
            continue  # long; the page has it
        rows = [row if not row.scores else replace(row, note="") for row in table.rows]
        console.print()
        console.print(terminal_table(Results(table.title, rows, table.columns[:TERMINAL_COLUMNS])))
    console.print(tables[0].note, style="dim")
    console.print()
    for sentence in findings:
        console.print(sentence, markup=False)


def _columns(cells: Sequence[Cell], wanted: Sequence[str]) -> list[Column]:
    """Return the columns of the scores that any job has, in the configured order."""
    known = {column.score: column for column in (*COLUMNS, *IMAGE_COLUMNS, *VALIDATION_COLUMNS, *COST_COLUMNS)}
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
    control = cell.ablation.get("control") if ABLATION in cell.settings else None
    notes = filter(None, [seeds, f"control: {control}" if control else "", *failures])
    kind: Kind = "baseline" if cell.baseline else "model"
    status = "failed" if any(job.status == "failed" for job in cell.jobs.values()) else "not finished"
    return Row(cell.name, found, status=status, note="; ".join(notes), simulated=simulated, kind=kind)


def _cost(jobs: Sequence[Job], cells: Sequence[Cell]) -> dict[str, str]:
    """Return the minutes of each cell's own steps, and of those that several cells share."""
    cost = {cell.name: f"{cell.seconds() / 60:.1f} min" for cell in cells}
    manifests = _manifests(jobs).values()
    for step in SHARED_STEPS:
        if seconds := [manifest["seconds"] for manifest in manifests if manifest["step"] == step]:
            times = f", {len(seconds)} times" if len(seconds) > 1 else ""
            cost[f"shared: {step}"] = f"{sum(seconds) / 60:.1f} min{times}"
    cost["all steps"] = f"{sum(manifest['seconds'] for manifest in manifests) / 60:.1f} min"
    return cost


def _manifests(jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
    """Return each artifact's manifest once, by folder, in the order of the jobs."""
    return {folder: manifest_of(folder) for job in jobs for folder in job.artifacts.values()}
