"""Looking after finished work: what lies in the store, whether it is whole, and removing what nobody needs."""

import shlex
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from omegaconf import DictConfig
from rich.markup import escape
from rich.table import Table

from mindeye_pl.commands.needed_artifacts import needed_by
from mindeye_pl.console import console
from mindeye_pl.engine.run import Run
from mindeye_pl.engine.step import Step
from mindeye_pl.errors import UserError
from mindeye_pl.store.artifacts import ArtifactStore
from mindeye_pl.store.inventory import (
    DAMAGED,
    MAKING,
    UNFINISHED,
    WHOLE,
    Entry,
    read_store,
    remove,
    users,
    with_inputs,
)
from mindeye_pl.store.locks import NO_LOCKS

ARTIFACTS = "artifacts"


#: A clock that differs by less is taken for right.
_CLOCK_S = 300
_YEAR_S = 365.25 * 24 * 3600


def manage_artifacts(run: Run, requested_steps: Callable[[DictConfig], list[Step]]) -> None:
    """Lists, verifies or prunes the store, as `artifacts.action` says.

    Args:
        run: its `artifacts` node says what is asked.
        requested_steps: the steps that a run's `pipeline.steps` asks for, which pruning by need has to know.

    Raises:
        UserError: at the end, if an artifact is damaged or could not be removed.
    """
    store, settings = run.store, run.config.artifacts
    if settings.action == "list":
        _list(store, settings)
    elif settings.action == "verify":
        _verify(store, settings)
    else:
        needed = settings.keep_used_by
        if needed is not None:
            needed = needed_by(run, list(needed), requested_steps)
        _prune(store, settings, needed, run.overrides)


def _list(store: ArtifactStore, settings: DictConfig) -> None:
    for root in filter(None, (store.root, store.shared)):
        entries = list(read_store(root, settings.step, checksums=settings.checksums))
        used = users(entries)
        table = Table("artifact", box=None, pad_edge=False)
        for heading in ("size", "age", "took"):
            table.add_column(heading, justify="right", no_wrap=True)
        for before, entry in zip([None, *entries], entries, strict=False):
            if before is None or before.step != entry.step:
                table.add_row(f"[bold]{escape(entry.step)}[/bold]")
            seconds = entry.manifest.get("seconds")
            took = in_time(seconds) if seconds is not None else ""
            table.add_row(_described(entry, used), in_bytes(entry.size), _age(entry), took)
        if entries:
            console.print(table)
        console.print(f"{root}: {_total(entries)}", markup=False)


def _described(entry: Entry, used: dict[str, list[Entry]]) -> str:
    name = f"{entry.label}-{entry.digits}" if entry.label else entry.folder.name
    words = [entry.state + (f" {entry.why}" if entry.state in (MAKING, UNFINISHED) and entry.why else "")]
    if entry.state not in (MAKING, UNFINISHED) and entry.why:
        words = [f"{entry.state}: {entry.why}"]
    counted = Counter(user.step for user in used.get(entry.fingerprint, ()))
    if counted:
        words.append("used by " + ", ".join(f"{count} {step}" for step, count in counted.items()))
    return f"{escape(name)}\n[dim]  {escape('; '.join(words))}[/dim]"


def _age(entry: Entry) -> str:
    since = entry.manifest.get("finished_utc")
    return in_age(since, time.time()) if isinstance(since, str) else ""


def _total(entries: Sequence[Entry]) -> str:
    states = Counter(entry.state for entry in entries)
    return f"{len(entries)} artifacts, {in_bytes(sum(entry.size for entry in entries))}" + "".join(
        f"; {count} {state}" for state, count in states.items() if state != WHOLE
    )


def _verify(store: ArtifactStore, settings: DictConfig) -> None:
    damaged = []
    for root in filter(None, (store.root, store.shared)):
        for entry in read_store(root, settings.step, checksums=True):
            if entry.state == WHOLE:
                console.print(f"{entry.name}: OK, {in_bytes(entry.size)}", markup=False)
            elif entry.state == DAMAGED:
                console.print(f"{entry.name}: damaged: {entry.why}. Fix: {entry.fix}", markup=False)
                damaged.append(entry)
            else:
                console.print(f"{entry.name}: {entry.state}, not looked at", markup=False)
    if damaged:
        raise UserError(f"{len(damaged)} artifacts are damaged", got=damaged[0].folder, fix=damaged[0].fix)


def _prune(
    store: ArtifactStore, settings: DictConfig, needed: dict[str, tuple[str, str]] | None, overrides: Sequence[str]
) -> None:
    root = store.root
    # The whole store: what one step's artifact is used by lies under other steps.
    entries = list(read_store(root, checksums=settings.checksums))
    # Without locks nobody can tell unfinished work from work that is being done.
    rules = [rule for rule in settings.prune if not (rule == UNFINISHED and store.locks == NO_LOCKS)]
    chosen = [(entry, why) for entry, why in _candidates(entries, rules, needed) if settings.step in (None, entry.step)]
    if not chosen:
        console.print(f"{root}: nothing to remove", markup=False)
        return
    if settings.dry_run:
        _print_chosen(chosen)
        command = ["python", "-m", "mindeye_pl", *overrides]
        command = [word for word in command if not word.startswith("artifacts.dry_run=")]
        console.print("Nothing was removed. To remove them:", markup=False)
        console.print(shlex.join([*command, "artifacts.dry_run=false"]), markup=False)
        return
    _remove(store, [entry for entry, _ in chosen])


def _candidates(
    entries: Sequence[Entry], rules: Sequence[str], needed: dict[str, tuple[str, str]] | None
) -> list[tuple[Entry, str]]:
    """Return the artifacts that would be removed, with reasons; never one that is being made, or its inputs."""
    making = {entry.fingerprint for entry in entries if entry.state == MAKING and entry.fingerprint}
    being_used = with_inputs(making, entries)
    needed_digits = {fingerprint[:12] for fingerprint in needed or ()}
    chosen = []
    for entry in entries:
        if entry.state == MAKING or entry.fingerprint in being_used:
            continue
        if entry.state in rules and not (entry.state == UNFINISHED and entry.digits in needed_digits):
            chosen.append((entry, f"{entry.state}{': ' if entry.why else ''}{entry.why}"))
        elif entry.state == WHOLE and needed is not None and entry.fingerprint not in needed:
            chosen.append((entry, "used by no experiment that was named"))
    return chosen


def _print_chosen(chosen: Sequence[tuple[Entry, str]]) -> None:
    table = Table("would be removed", box=None, pad_edge=False)
    table.add_column("size", justify="right", no_wrap=True)
    for entry, why in chosen:
        table.add_row(f"{escape(entry.name)}\n[dim]  {escape(why)}[/dim]", in_bytes(entry.size))
    console.print(table)
    console.print(f"{len(chosen)} artifacts, {in_bytes(sum(entry.size for entry, _ in chosen))}")


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
        words = "removed" if removed else "left alone: somebody makes it, or has just changed it"
        console.print(f"{entry.name}: {words}", markup=False)
    console.print(f"{in_bytes(freed)} freed", markup=False)
    if failed:
        raise failed[0]


def in_bytes(size: int) -> str:
    """A size for people, in powers of 1000."""
    value, units = float(size), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    for larger in units:
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit in ("B", "kB") else f"{value:.1f} {unit}"


def in_time(seconds: float) -> str:
    """A duration for people: its largest unit."""
    for unit, length in (("y", _YEAR_S), ("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def in_age(utc: str, now: float) -> str:
    """How long ago, or "clock?" for a time that a clock set wrong has written; nothing else depends on such times.

    Args:
        utc: as manifests have it, 2026-01-31T12:00:00Z.
        now: in seconds since 1970.
    """
    try:
        seconds = now - datetime.strptime(utc, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return "?"
    wrong = seconds < -_CLOCK_S or seconds > 40 * _YEAR_S
    return "clock?" if wrong else in_time(max(0, seconds))
