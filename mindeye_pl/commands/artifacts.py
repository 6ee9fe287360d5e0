"""Maintenance of the store: list, verify or prune its artifacts."""

import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import product

from hydra import compose
from omegaconf import DictConfig
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from mindeye_pl.config import CONFIG_NAME, compose_config, experiment_overrides, sweep_values
from mindeye_pl.console import console
from mindeye_pl.engine.run import Run, order
from mindeye_pl.engine.step import Step
from mindeye_pl.errors import UserError
from mindeye_pl.store.artifacts import ArtifactStore
from mindeye_pl.store.inventory import DAMAGED, MAKING, UNFINISHED, WHOLE, Entry, read_store, remove, users, with_inputs
from mindeye_pl.store.locks import NO_LOCKS

ARTIFACTS = "artifacts"

#: Overrides of `pipeline=artifacts` that are not the experiment's.
_OF_THE_STORE = ("pipeline=", "plan=", "artifacts.")
#: A smaller difference between clocks is ignored.
_CLOCK_S = 300
_YEAR_S = 365.25 * 24 * 3600


def manage_artifacts(
    store: ArtifactStore,
    settings: DictConfig,
    overrides: Sequence[str],
    requested_steps: Callable[[DictConfig], list[Step]],
) -> None:
    """List, verify or prune the store, by the node `artifacts` of the configuration.

    Pruning by need composes other experiments under the command line's overrides; `requested_steps` returns the steps
    that their `pipeline.steps` asks for.

    Raises:
        UserError: at the end, if an artifact is damaged or could not be removed.
    """
    if settings.action == "list":
        _list(store, settings)
    elif settings.action == "verify":
        _verify(store, settings)
    else:
        named = settings.keep_used_by
        _prune(store, settings, None if named is None else _needed_by(named, overrides, requested_steps), overrides)


def _list(store: ArtifactStore, settings: DictConfig) -> None:
    for root in filter(None, (store.root, store.shared)):
        entries = list(read_store(root, settings.step, checksums=settings.checksums))
        used = users(entries)
        table = Table("artifact", box=None, pad_edge=False)
        for heading in ("size", "age", "took"):
            table.add_column(heading, justify="right", no_wrap=True)
        for step in dict.fromkeys(entry.step for entry in entries):
            table.add_row(f"[bold]{escape(step)}[/bold]")
            for entry in (entry for entry in entries if entry.step == step):
                since, seconds = entry.manifest.get("finished_utc"), entry.manifest.get("seconds")
                age = in_age(since, time.time()) if isinstance(since, str) else ""
                took = in_time(seconds) if seconds is not None else ""
                table.add_row(_described(entry, used), decimal(entry.size), age, took)
        if entries:
            console.print(table)
        states = Counter(entry.state for entry in entries if entry.state != WHOLE)
        console.print("; ".join([f"{root}: {_total(entries)}", *(f"{n} {state}" for state, n in states.items())]))


def _described(entry: Entry, used: dict[str, list[Entry]]) -> str:
    name = f"{entry.label}-{entry.digits}" if entry.label else entry.folder.name
    separator = " " if entry.state in (MAKING, UNFINISHED) else ": "
    words = [separator.join(filter(None, (entry.state, entry.why)))]
    if counted := Counter(user.step for user in used.get(entry.fingerprint, ())):
        words.append("used by " + ", ".join(f"{count} {step}" for step, count in counted.items()))
    return f"{escape(name)}\n[dim]  {escape('; '.join(words))}[/dim]"


def _total(entries: Sequence[Entry]) -> str:
    return f"{len(entries)} artifacts, {decimal(sum(entry.size for entry in entries))}"


def _verify(store: ArtifactStore, settings: DictConfig) -> None:
    damaged = []
    for root in filter(None, (store.root, store.shared)):
        for entry in read_store(root, settings.step, checksums=True):
            words = f"{entry.state}, not verified"
            if entry.state == WHOLE:
                words = f"OK, {decimal(entry.size)}"
            elif entry.state == DAMAGED:
                words = f"damaged: {entry.why}. Fix: {entry.fix}"
                damaged.append(entry)
            console.print(f"{entry.name}: {words}", markup=False)
    if damaged:
        raise UserError(f"{len(damaged)} artifacts are damaged", got=damaged[0].folder, fix=damaged[0].fix)


def _prune(store: ArtifactStore, settings: DictConfig, needed: set[str] | None, overrides: Sequence[str]) -> None:
    # The whole store: an artifact is used by those of other steps.
    entries = list(read_store(store.root, checksums=settings.checksums))
    # Without locks, unfinished work cannot be told from work in progress.
    rules = [rule for rule in settings.prune if not (rule == UNFINISHED and store.locks == NO_LOCKS)]
    chosen = {
        entry.name: (entry, reason)
        for entry, reason in _candidates(entries, rules, needed)
        if settings.step in (None, entry.step)
    }
    if not chosen:
        console.print(f"{store.root}: nothing to remove", markup=False)
    elif settings.dry_run:
        table = Table("would be removed", box=None, pad_edge=False)
        table.add_column("size", justify="right", no_wrap=True)
        for name, (entry, reason) in chosen.items():
            table.add_row(f"{escape(name)}\n[dim]  {escape(reason)}[/dim]", decimal(entry.size))
        console.print(table)
        console.print(_total([entry for entry, _ in chosen.values()]))
        command = [word for word in overrides if not word.startswith("artifacts.dry_run=")]
        console.print("Nothing was removed. To remove them:", markup=False)
        console.print(shlex.join(["python", "-m", "mindeye_pl", *command, "artifacts.dry_run=false"]), markup=False)
    else:
        _remove(store, [entry for entry, _ in chosen.values()])


def _candidates(entries: Sequence[Entry], rules: Sequence[str], needed: set[str] | None) -> Iterator[tuple[Entry, str]]:
    """Yield the artifacts that would be removed, with reasons; never one that is being built, or its inputs."""
    building = {entry.fingerprint for entry in entries if entry.state == MAKING and entry.fingerprint}
    being_used = with_inputs(building, entries)
    needed_digits = {fingerprint[:12] for fingerprint in needed or ()}
    for entry in entries:
        if entry.state == MAKING or entry.fingerprint in being_used:
            continue
        if entry.state in rules and not (entry.state == UNFINISHED and entry.digits in needed_digits):
            yield entry, ": ".join(filter(None, (entry.state, entry.why)))
        elif entry.state == WHOLE and needed is not None and entry.fingerprint not in needed:
            yield entry, "used by no named experiment"


def _needed_by(
    experiments: Sequence[str], overrides: Sequence[str], requested_steps: Callable[[DictConfig], list[Step]]
) -> set[str]:
    """Return the fingerprints of the artifacts that some experiments need, and the one that the command line names.

    Of a sweep, all jobs count. The other overrides (scale, data, seed, ...) hold for every experiment.

    Raises:
        UserError: if no experiment is named, or the data that an experiment needs are missing.
    """
    own = [item for item in overrides if not item.startswith(_OF_THE_STORE)]
    named = any(item.lstrip("+").startswith("experiment=") for item in own)
    if not experiments and not named:
        raise UserError("artifacts.keep_used_by names no experiment", fix="artifacts.keep_used_by=[EXPERIMENT,...]")
    jobs = [*([own] if named else []), *(job for name in experiments for job in _jobs(name, overrides))]
    needed = set()
    for run in (Run(compose_config(job), job) for job in jobs):
        for each in (run, *map(run.of_experiment, run.config.report.compare)):
            needed |= {each.spec(step).fingerprint for step in order(each.config, requested_steps(each.config))}
    return needed


def _jobs(experiment: str, overrides: Sequence[str]) -> Iterator[list[str]]:
    """Yield the overrides of an experiment; of a sweep, those of each job, as Hydra's basic sweeper would start it."""
    shared = experiment_overrides(experiment, [item for item in overrides if not item.startswith("artifacts.")])
    sweeper = compose(CONFIG_NAME, overrides=shared, return_hydra_config=True).hydra.sweeper
    values = sweep_values(sweeper.get("params"))
    for job in product(*values.values()):
        yield [*(f"{key}={value}" for key, value in zip(values, job, strict=True)), *shared]


def _remove(store: ArtifactStore, entries: Sequence[Entry]) -> None:
    freed, failed = 0, []
    for entry in entries:
        try:
            removed = remove(entry, locks=store.locks)
        except UserError as error:
            failed.append(error)
            console.print(f"{entry.name}: not removed: {error}", markup=False)
            continue
        freed += entry.size if removed else 0
        words = "removed" if removed else "kept: another process builds it, or has just changed it"
        console.print(f"{entry.name}: {words}", markup=False)
    console.print(f"{decimal(freed)} freed", markup=False)
    if failed:
        raise failed[0]


def in_time(seconds: float) -> str:
    """Format a duration in its largest unit."""
    for unit, length in (("y", _YEAR_S), ("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def in_age(utc: str, now: float) -> str:
    """Format the time since `utc`, 2026-01-31T12:00:00Z in manifests; "clock?" if a clock was wrong, "?" for others.

    `now` is in seconds since 1970.
    """
    try:
        seconds = now - datetime.fromisoformat(utc).timestamp()
    except (ValueError, OverflowError):
        return "?"
    wrong = seconds < -_CLOCK_S or seconds > 40 * _YEAR_S
    return "clock?" if wrong else in_time(max(0, seconds))
