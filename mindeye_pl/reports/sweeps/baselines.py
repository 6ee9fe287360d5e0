"""The linear baselines of a sweep: cells of their own, one for all jobs that share a regression."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mindeye_pl.reports.sweeps.jobs import Job
from mindeye_pl.reports.sweeps.settings import Cell
from mindeye_pl.schema.nodes.reports import RIDGE_BLUR_UNCLIP, RIDGE_LATENTS, RIDGE_UNCLIP
from mindeye_pl.steps.baselines.ridge import RIDGE_TOKENS
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS
from mindeye_pl.steps.evaluation.retrieval import EVALUATE, RIDGE


@dataclass(frozen=True)
class Baseline:
    """A linear baseline.

    Attributes:
        name: in tables and curves.
        made_by: steps whose artifacts tell one regression from another; the first must be there.
        rows: rows of the evaluations that hold its scores, by step.
    """

    name: str
    made_by: tuple[str, ...]
    rows: Mapping[str, str]


#: Retrieval is that of the regression to tokens, which the unCLIP draws.
BASELINES = (
    Baseline(
        "ridge", (RIDGE_TOKENS.name, RIDGE_UNCLIP), {EVALUATE.name: RIDGE, EVALUATE_RECONSTRUCTIONS.name: RIDGE_UNCLIP}
    ),
    Baseline("ridge, blurry", (RIDGE_LATENTS,), {EVALUATE_RECONSTRUCTIONS.name: RIDGE_LATENTS}),
    Baseline("ridge, drawn from its blur", (RIDGE_BLUR_UNCLIP,), {EVALUATE_RECONSTRUCTIONS.name: RIDGE_BLUR_UNCLIP}),
)


def baseline_cells(cells: Sequence[Cell]) -> list[Cell]:
    """Return a cell for each baseline and each regression, in the order of the cells that share it.

    Its settings are those that these cells have in common: the amount of data for instance, and not the start.
    """
    found = []
    for baseline in BASELINES:
        groups: dict[tuple[str, ...], list[Cell]] = {}
        for cell in cells:
            if made := next(filter(None, (_made(job, baseline) for job in cell.jobs.values())), None):
                groups.setdefault(made, []).append(cell)
        for members in groups.values():
            settings = dict(set.intersection(*(set(cell.settings.items()) for cell in members)))
            ordered = {key: settings[key] for key in members[0].settings if key in settings}
            jobs = {seed: job for cell in reversed(members) for seed, job in cell.jobs.items() if _made(job, baseline)}
            found.append(Cell(ordered, jobs, baseline.name, baseline.rows))
    return found


def _made(job: Job, baseline: Baseline) -> tuple[str, ...] | None:
    """Return the folders of a finished job's regression, None where it has none."""
    if job.status != "finished" or baseline.made_by[0] not in job.artifacts:
        return None
    return tuple(job.artifacts.get(step, "") for step in baseline.made_by)


def of_same_data(cell: Cell, baselines: Sequence[Cell]) -> list[Cell]:
    """Return the baselines whose settings are a cell's own, as far as they have any."""
    return [one for one in baselines if one.settings.items() <= cell.settings.items()]
