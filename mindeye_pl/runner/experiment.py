"""Carrying out an experiment: its ordered steps, or the plan of them."""

from collections.abc import Callable

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.table import Table

from mindeye_pl.commands.artifacts import ARTIFACTS, manage_artifacts
from mindeye_pl.commands.check_weights import check_released_weights
from mindeye_pl.commands.dashboard import make_dashboard
from mindeye_pl.commands.export import EXPORT, check_export, export_run
from mindeye_pl.commands.wandb_sweeps import WANDB_SWEEPS, write_wandb_sweeps
from mindeye_pl.config import command_line
from mindeye_pl.console import console
from mindeye_pl.distributed.ranks import ranks_from_outside
from mindeye_pl.distributed.strategies import check_strategy
from mindeye_pl.engine.step import Run, Step, check_steps, order
from mindeye_pl.errors import UserError
from mindeye_pl.reports.runs.run import write_run_report
from mindeye_pl.reports.sweeps.jobs import Job
from mindeye_pl.runner.preflight import check_device, lacking, size_line
from mindeye_pl.steps.brain.reconstruct import RECONSTRUCT
from mindeye_pl.steps.brain.trained_model import checkpoint_steps
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS
from mindeye_pl.steps.inputs.frozen_models import check_whole
from mindeye_pl.steps.registry import STEPS


def run_experiment(config: DictConfig, job: Job | None = None) -> None:
    """Makes what `pipeline.steps` names, in order, from finished artifacts where there are any.

    Args:
        config: the composed configuration.
        job: of a sweep, whose record gets what was made and found.

    Raises:
        UserError: for an unknown step, missing files or a missing device, before anything long begins.
    """
    overrides = command_line(HydraConfig.get()) if HydraConfig.initialized() else ()
    run = Run(config, overrides, job=job.number if job else None)
    names = list(config.pipeline.steps)
    if len(names) == 1 and names[0] in COMMANDS:
        COMMANDS[names[0]](run)
        return
    if EXPORT in names:
        check_export(run)
    steps = asked_steps(run)
    if config.get("unclip") is None and config.evaluate.reconstructions is None and RECONSTRUCT.name in names:
        console.print("unclip=none: no images are made")
    if config.plan:
        print_plan(run, steps)
        return
    if lacks := lacking(run):
        raise UserError(f"scale={config.scale.name} data={config.data.source} lacks " + "; ".join(lacks))
    check_whole(run)
    check_device(config)
    check_strategy(config, ranks_from_outside())
    check_steps(run, steps)
    for step in steps:
        done = run.find(step) is not None
        artifact = run.make(step)
        console.print(f"{step.name}: {'cached' if done else 'done'}, {artifact.folder}")
    if job is not None:
        finished = ((step.name, run.find(step)) for step in order(run, steps))
        job.artifacts = {name: str(artifact.folder) for name, artifact in finished if artifact is not None}
        job.made = run.made
    if "report" in names and (job is None or config.sweep.pages):
        write_run_report(run, steps)
    if EXPORT in names:
        export_run(run)
    run.tracking.say_how_to_sync(order(run, steps))


def asked_steps(run: Run) -> list[Step]:
    """The steps that `pipeline.steps` asks for, less those that the configuration leaves out.

    Raises:
        UserError: for an unknown step, or if images alone are asked for and there is nothing to make them with.
    """
    config, names = run.config, list(run.config.pipeline.steps)
    steps = [_step(name) for name in names if name not in ("report", EXPORT)]
    if EXPORT in names:
        steps += [step for step in checkpoint_steps(run) if step not in steps]
    if config.evaluate.reconstructions is not None:
        return [step for step in steps if step is EVALUATE_RECONSTRUCTIONS]
    if config.get("unclip") is None and RECONSTRUCT in steps:
        steps = [step for step in steps if step not in (RECONSTRUCT, EVALUATE_RECONSTRUCTIONS)]
        if not steps:
            raise UserError("reconstruct needs an unCLIP", got="unclip=none", fix="unclip=laptop")
    return steps


#: What is no step but a command of its own, asked for alone.
COMMANDS: dict[str, Callable[[Run], object]] = {
    "check_weights": check_released_weights,
    WANDB_SWEEPS: write_wandb_sweeps,
    "dashboard": lambda run: make_dashboard(run.config),
    ARTIFACTS: lambda run: manage_artifacts(run, asked_steps),
}


def _step(name: str) -> Step:
    if name not in STEPS:
        raise UserError("pipeline.steps names no step", got=name, expected=f"some of {[*STEPS, 'report', EXPORT]}")
    return STEPS[name]


def print_plan(run: Run, steps: list[Step]) -> None:
    """Prints each step with "cached" or "will run", the model's size and the files that are missing."""
    console.print(size_line(run))
    lacks = lacking(run)
    if lacks:
        console.print("lacks " + "; ".join(lacks))
    table = Table("step", "what", "state", "folder", box=None, pad_edge=False)
    for step in order(run, steps):
        if lacks:
            table.add_row(step.name, "", "will run when nothing is lacking", "")
            continue
        spec = run.spec(step)
        found = run.store.find(spec)
        started = run.store.work_folder(spec).exists()
        state = "cached" if found else "will run, from its last checkpoint" if started else "will run"
        table.add_row(step.name, spec.label, state, str(found.folder if found else run.store.folder(spec)))
    console.print(table)
