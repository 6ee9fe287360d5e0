"""Execution of an experiment: its ordered steps, or the plan of them."""

from collections.abc import Callable, Sequence

from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from mindeye_pl.commands.artifacts import ARTIFACTS, manage_artifacts
from mindeye_pl.commands.check_data import check_data
from mindeye_pl.commands.check_weights import check_released_weights
from mindeye_pl.commands.dashboard import make_dashboard
from mindeye_pl.commands.export import EXPORT, check_export, export_run
from mindeye_pl.commands.wandb_sweeps import WANDB_SWEEPS, write_wandb_sweeps
from mindeye_pl.console import console
from mindeye_pl.distributed.ranks import on_main_process
from mindeye_pl.engine.refusals import naming_refused_options
from mindeye_pl.engine.run import Run, order
from mindeye_pl.engine.step import Step
from mindeye_pl.errors import UserError
from mindeye_pl.reports.runs.run import write_run_report
from mindeye_pl.reports.sweeps.jobs import Job
from mindeye_pl.reports.wandb.observer import WandbObserver
from mindeye_pl.runner.preflight import check_device, check_inputs, check_reports, missing_files, size_line
from mindeye_pl.steps.brain.reconstruct import RECONSTRUCT
from mindeye_pl.steps.brain.trained_model import Trained
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS
from mindeye_pl.steps.inputs.dataset import data_steps
from mindeye_pl.steps.registry import STEPS

#: Commands that are asked for alone and are no steps.
COMMANDS: dict[str, Callable[[Run], object]] = {
    "check_data": lambda run: check_data(run.config),
    "check_weights": lambda run: check_released_weights(run.config),
    WANDB_SWEEPS: lambda run: write_wandb_sweeps(run.config, run.overrides),
    "dashboard": lambda run: make_dashboard(run.config),
    ARTIFACTS: lambda run: manage_artifacts(run.store, run.config.artifacts, run.overrides, requested_steps),
}


def run_experiment(config: DictConfig, overrides: Sequence[str], job: Job | None = None) -> None:
    """Make what `pipeline.steps` names, in order, from finished artifacts where there are any. Every rank calls it.

    Args:
        config: the composed configuration.
        overrides: the command line that composed it.
        job: of a sweep, whose record receives what was made and found.

    Raises:
        UserError: for an unknown step, missing files or a missing device, before anything long begins.
    """
    run = Run(config, overrides, job=job.number if job else None)
    if (command := _command(config)) is not None:
        on_main_process(command, run)
        return
    names = list(config.pipeline.steps)
    if EXPORT in names:
        check_export(config.export)
    steps = requested_steps(config)
    if config.get("unclip") is None and config.evaluate.reconstructions is None and RECONSTRUCT.name in names:
        console.print("unclip=none: no images are made")
    if config.plan:
        on_main_process(print_plan, run, steps)
        return
    if missing := missing_files(run, steps):
        raise UserError(f"scale={config.scale.name} data={config.data.source} lacks " + "; ".join(missing))
    check_device(config)
    check_inputs(run, steps)
    if "report" in names:
        on_main_process(check_reports, config)
    wandb = config.logger.get("wandb") or OmegaConf.create({"mode": "disabled"})
    run.observer = observer = WandbObserver(wandb, run.experiment)
    with naming_refused_options(config):
        for step in steps:
            done = run.find(step) is not None
            artifact = run.make(step)
            console.print(f"{step.name}: {'cached' if done else 'done'}, {artifact.folder}")
    on_main_process(_finish, run, steps, job, observer)


def _finish(run: Run, steps: list[Step], job: Job | None, observer: WandbObserver) -> None:
    """Record, report and export what was made."""
    config, names, ordered = run.config, run.config.pipeline.steps, order(run.config, steps)
    if job is not None:
        finished = ((step.name, run.find(step)) for step in ordered)
        job.artifacts = {name: str(artifact.folder) for name, artifact in finished if artifact is not None}
        job.made = run.made
        job.ablation = run.resolved.get("ablation") or {}
    if "report" in names and (job is None or config.sweep.pages):
        write_run_report(run, steps)
    if EXPORT in names:
        export_run(run)
    observer.print_sync_command(run.spec(step).fingerprint for step in ordered)


def runs_steps(config: DictConfig) -> bool:
    """Return whether this is neither a plan nor a command, so that steps may be built."""
    return not config.plan and _command(config) is None


def _command(config: DictConfig) -> Callable[[Run], object] | None:
    names = list(config.pipeline.steps)
    return COMMANDS.get(names[0]) if len(names) == 1 else None


def requested_steps(config: DictConfig) -> list[Step]:
    """Return the steps that `pipeline.steps` asks for, without those that the configuration leaves out.

    Raises:
        UserError: for an unknown step, or if images alone are asked for and there is nothing to draw them with.
    """
    names = list(config.pipeline.steps)
    known = STEPS | {step.name: step for step in data_steps(config)}
    if unknown := [name for name in names if name not in (*known, "report", EXPORT)]:
        expected = f"some of {[*known, 'report', EXPORT]}"
        raise UserError("pipeline.steps names an unknown step", got=unknown[0], expected=expected)
    steps = [known[name] for name in names if name in known]
    if EXPORT in names:
        steps += [step for step in Trained().steps(config) if step not in steps]
    if config.evaluate.reconstructions is not None:
        return [step for step in steps if step is EVALUATE_RECONSTRUCTIONS]
    if config.get("unclip") is None and RECONSTRUCT in steps:
        steps = [step for step in steps if step not in (RECONSTRUCT, EVALUATE_RECONSTRUCTIONS)]
        if not steps:
            raise UserError("reconstruct needs an unCLIP", got="unclip=none", fix="unclip=laptop")
    return steps


def print_plan(run: Run, steps: list[Step]) -> None:
    """Print each step with "cached" or "will run", the model's size and the files that are missing."""
    console.print(size_line(run.config))
    if missing := missing_files(run, steps):
        console.print("lacks " + "; ".join(missing))
    table = Table("step", "what", "state", "folder", box=None, pad_edge=False)
    for step in order(run.config, steps):
        if missing:
            table.add_row(step.name, "", "will run when nothing is missing", "")
            continue
        spec = run.spec(step)
        found = run.store.find(spec)
        started = run.store.work_folder(spec).exists()
        state = "cached" if found else "will run, from its last checkpoint" if started else "will run"
        table.add_row(step.name, spec.label, state, str(found.folder if found else run.store.folder(spec)))
    console.print(table)
