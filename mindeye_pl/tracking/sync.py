"""Command that uploads the offline runs of an experiment."""

import os
import shlex
from collections.abc import Iterable
from pathlib import Path


def sync_command(folders: Iterable[Path], run_ids: Iterable[str]) -> str | None:
    """Return the command that uploads the offline records of some runs, None if all are uploaded.

    A killed and resumed run has two records. `wandb sync` uploads them in the order of their start, and appends the
    later one only with WANDB_RESUME; otherwise it would overwrite the earlier one.

    Args:
        folders: W&B folders, for example `outputs/wandb`.
        run_ids: ids of the runs.
    """
    ids, patterns, resumed = sorted(set(run_ids)), [], False
    for folder in sorted(set(folders)):
        records = {run_id: sorted(folder.glob(f"offline-run-*-{run_id}")) for run_id in ids}
        left = [run_id for run_id, found in records.items() if any(not _is_synced(record) for record in found)]
        if left:
            resumed = resumed or any(len(records[run_id]) > 1 for run_id in left)
            suffix = left[0] if len(left) == 1 else f"{{{','.join(left)}}}"
            patterns.append(f"{shlex.quote(_short(folder))}/offline-run-*-{suffix}")
    if not patterns:
        return None
    return ("WANDB_RESUME=allow " if resumed else "") + "wandb sync " + " ".join(patterns)


def _is_synced(record: Path) -> bool:
    """Return whether W&B has marked the record as uploaded."""
    return any(record.glob("*.wandb.synced"))


def _short(folder: Path) -> str:
    """Return the path relative to the working directory if it is below, else absolute."""
    relative = os.path.relpath(folder)
    return str(folder.resolve()) if relative.startswith("..") else relative
