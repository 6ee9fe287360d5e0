"""The one line that uploads the offline runs of an experiment."""

import os
import shlex
from collections.abc import Iterable
from pathlib import Path


def sync_command(folders: Iterable[Path], run_ids: Iterable[str]) -> str | None:
    """The command for the offline records of some runs, None where all are uploaded.

    A run that was killed and went on has two records. `wandb sync` takes them in the order of their start, and joins
    them where it is told to resume; without that the later would overwrite the earlier.

    Args:
        folders: W&B folders, `outputs/wandb` for instance.
        run_ids: of the runs.
    """
    wanted, places, resumed = sorted(set(run_ids)), [], False
    for folder in sorted(set(folders)):
        records = {run_id: sorted(folder.glob(f"offline-run-*-{run_id}")) for run_id in wanted}
        left = [run_id for run_id, found in records.items() if any(not _is_synced(one) for one in found)]
        if left:
            resumed = resumed or any(len(records[run_id]) > 1 for run_id in left)
            ids = left[0] if len(left) == 1 else f"{{{','.join(left)}}}"
            places.append(f"{shlex.quote(_short(folder))}/offline-run-*-{ids}")
    if not places:
        return None
    return ("WANDB_RESUME=allow " if resumed else "") + "wandb sync " + " ".join(places)


def _is_synced(record: Path) -> bool:
    """W&B marks a record that it has uploaded."""
    return any(record.glob("*.wandb.synced"))


def _short(folder: Path) -> str:
    """From where the user stands, if that is above it."""
    relative = os.path.relpath(folder)
    return str(folder.resolve()) if relative.startswith("..") else relative
